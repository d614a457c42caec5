"""What keeping memory instead of returning it to the kernel is worth to SST-Sal on CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from benchmarks.measure import interleaved

FRAMES = 6
CODE = f"""
import time, torch
from sal360.models import load_model
torch.manual_seed(0)
model, clip = load_model("sst-sal"), torch.rand(1, {FRAMES}, 6, 240, 320)
with torch.no_grad():
    model(clip[:, :1])
    start = time.perf_counter()
    model(clip)
print(time.perf_counter() - start)
"""
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


def seconds(settings: dict[str, str]) -> float:
    """Time of the network alone, in a process with these settings."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, "-c", CODE]
    run = subprocess.run(command, env=bare | settings, capture_output=True, text=True, check=True)
    return float(run.stdout)


def run(rounds: int = 5) -> dict[str, Any]:
    """Both settings in turn."""
    return {
        "frames": FRAMES,
        "size": "240 x 320",
        "times": interleaved(
            {"keep memory": lambda: seconds(KEEP), "glibc's default": lambda: seconds({})}, rounds
        ),
    }
