"""How we time: candidates in turn, medians, ratios within one run, and a record of the machine."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sal360 import __version__
from sal360._files import write_whole

DATA = Path(__file__).resolve().parents[1] / "data" / "benchmarks"


def interleaved(candidates: dict[str, Callable[[], Any]], repeats: int = 11) -> dict[str, dict]:
    """Time each candidate in turn, ``repeats`` rounds after one to warm up.

    A candidate that returns a float has timed itself, and that number counts.

    Returns:
        name to ``median_s``, ``min_s``, ``max_s`` and ``ratio`` (the median over rounds of its
        time divided by that of the **first** candidate in the same round).
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats + 1):
        for name, call in candidates.items():
            start = time.perf_counter()
            own = call()
            spent = time.perf_counter() - start
            times[name].append(own if isinstance(own, float) else spent)
    base = next(iter(times.values()))[1:]
    return {
        name: {
            "median_s": statistics.median(spent[1:]),
            "min_s": min(spent[1:]),
            "max_s": max(spent[1:]),
            "ratio": statistics.median(a / b for a, b in zip(spent[1:], base, strict=True)),
        }
        for name, spent in times.items()
    }


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name(0) if cuda else "cpu",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tuned_allocator": os.environ.get("MALLOC_MMAP_MAX_") == "0",
    }


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reason(error: Exception) -> str:
    """Why something was not measured, in one line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}"


def peak_mb() -> float:
    """The most memory this process held, Python and torch included.

    Linux keeps it in ``/proc``; ``getrusage`` would say that of the parent where it was larger.
    """
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def save(name: str, results: dict[str, Any], path: Path | None = None) -> Path:
    """Write ``data/benchmarks/NAME.json``, or the file at ``path``, whole or not at all."""
    path = path or DATA / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"sal360": __version__, "date": when, "machine": machine(), "results": results}
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
    return path


def earlier(path: Path, here: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Results that :func:`save` wrote on this card with this torch, and their day.

    Args:
        here: :func:`machine`.
    Raises:
        ValueError: a record of another card or torch, or another file.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        there, results, day = record["machine"], record["results"], record["date"][:10]
        if wrong := [key for key in ("device", "torch") if there[key] != here[key]]:
            raise ValueError(f"{path}: measured with another {wrong[0]} than this machine's")
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a record of a benchmark ({error!r})") from None
    return results, day


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
