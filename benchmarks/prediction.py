"""Frames per second of the whole prediction, from RGB frames to densities, on this machine."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.measure import interleaved
from sal360.datasets.samples import embedded_clip
from sal360.inference import predict_frames
from sal360.models import MODELS, load_model

FRAMES = 16


def run() -> dict[str, Any]:
    """Untrained weights: the time does not depend on them."""
    clip = embedded_clip(FRAMES, 240)
    torch.manual_seed(0)
    models = {name: load_model(name) for name in MODELS}
    calls = {n: (lambda m=m: predict_frames(clip.frames, m)) for n, m in models.items()}
    timed = interleaved(calls, repeats=3)
    warm = {name: FRAMES + 2 * model.warm_up for name, model in models.items()}
    for name, row in timed.items():
        row["frames_per_s"] = FRAMES / row["median_s"]
        row["steps"] = warm[name]
    return {"frames": FRAMES, "size": "240 x 480", "models": timed}
