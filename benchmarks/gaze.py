"""From fixations to a map: exact in how much time, beside the dense sum and a planar blur.

The planar blur (``cv2.GaussianBlur`` of a picture of fixations, sigma in pixels of the equator) is
what most published code does. It is not the same thing; its error is in the table too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import interleaved
from sal360 import gaze, sphere

SIGMA_DEG = 5.0


def points(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` directions spread over the sphere."""
    draw = torch.Generator().manual_seed(seed)
    lon, lat = sphere.xyz_to_lonlat(sphere.sample_sphere(n, draw))
    return lon, lat


def dense(lon: Tensor, lat: Tensor, H: int, W: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Every kernel at every pixel, in blocks of rows: exact, nothing saved."""
    kappa = 1 / math.radians(SIGMA_DEG) ** 2
    fixed = sphere.lonlat_to_xyz(lon, lat).to(dtype).T
    rows = [
        torch.exp(kappa * (block.reshape(-1, 3).to(dtype) @ fixed - 1)).sum(-1).view(-1, W)
        for block in sphere.erp_directions(H, W).split(4)
    ]
    density = torch.cat(rows).double()
    return density / (density.sum(-1) @ sphere.pixel_area(H, W))


def _some_rows(lon: Tensor, lat: Tensor, H: int, W: int) -> float:
    """Seconds that :func:`dense` takes, from 8 rows: minutes would go by otherwise."""
    directions, kappa = sphere.erp_directions(H, W)[:8], 1 / math.radians(SIGMA_DEG) ** 2
    start = time.perf_counter()
    fixed = sphere.lonlat_to_xyz(lon, lat).T
    for block in directions.split(4):
        torch.exp(kappa * (block.reshape(-1, 3) @ fixed - 1)).sum(-1)
    return (time.perf_counter() - start) * H / 8


def planar(lon: Tensor, lat: Tensor, H: int, W: int) -> Tensor:
    """The common practice: count on pixels, blur in the plane, wrap nothing."""
    row, col = sphere.erp_index(sphere.lonlat_to_xyz(lon, lat), H, W)
    picture = np.zeros((H, W), np.float32)
    np.add.at(picture, (row.numpy(), col.numpy()), 1.0)
    blurred = torch.from_numpy(cv2.GaussianBlur(picture, (0, 0), SIGMA_DEG / 360 * W)).double()
    return blurred / (blurred.sum(-1) @ sphere.pixel_area(H, W))


def accuracy() -> dict[str, Any]:
    """Largest difference to the dense sum, as a share of the map's peak."""
    results: dict[str, Any] = {}
    for name, lat in (("spread over the sphere", None), ("one at 70 degrees latitude", 70.0)):
        lon_, lat_ = points(200) if lat is None else torch.deg2rad(torch.tensor([[10.0], [lat]]))
        want = dense(lon_.double(), lat_.double(), 256, 512)
        results[name] = {
            "sal360": _off(gaze.fixations_to_density(lon_, lat_, 256, 512, SIGMA_DEG), want),
            "planar blur": _off(planar(lon_, lat_, 256, 512), want),
        }
    return {"map": "256 x 512", "largest error, share of the peak": results}


def _off(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).abs().max() / want.max())


def _peak_bytes(call: Callable[[], Any]) -> int | None:
    """Peak of what torch allocates during a call, above what was there; None if not to be had."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    held = peak = 0
    events = watched.profiler.kineto_results.events()
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak or None


def speed(threads: int, repeats: int = 5) -> dict[str, Any]:
    """Median times, their spread, and ratios to ours in the same round."""
    lon, lat = points(1000)
    frames = [torch.stack(points(48, seed), -1) for seed in range(300)]
    rounds: dict[str, dict[str, Callable[[], Any]]] = {
        "1000 fixations, 1024 x 2048": {
            "sal360": lambda: gaze.fixations_to_density(lon, lat, 1024, 2048, SIGMA_DEG),
            "planar blur, OpenCV": lambda: planar(lon, lat, 1024, 2048),
            "dense sum, float64 (8 rows, times 128)": lambda: _some_rows(lon, lat, 1024, 2048),
        },
        "1000 fixations, 128 x 256": {
            "sal360": lambda: gaze.fixations_to_density(lon, lat, 128, 256, SIGMA_DEG),
            "planar blur, OpenCV": lambda: planar(lon, lat, 128, 256),
            "dense sum, float64": lambda: dense(lon, lat, 128, 256),
            "dense sum, float32": lambda: dense(lon, lat, 128, 256, torch.float32),
        },
        "300 frames of 48, 128 x 256": {
            "sal360": lambda: gaze.fixation_maps(frames, 128, 256, SIGMA_DEG),
            "planar blur, OpenCV": lambda: [planar(f[:, 0], f[:, 1], 128, 256) for f in frames],
        },
        "1000 fixations, 1024 x 2048, sigma 1 degree": {
            "sal360": lambda: gaze.fixations_to_density(lon, lat, 1024, 2048, 1.0),
        },
    }
    before, before_cv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        times = {name: interleaved(calls, repeats) for name, calls in rounds.items()}
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(before_cv)
    return times


def run() -> dict[str, Any]:
    """Accuracy, times on one and on two threads, peak memory."""
    lon, lat = points(1000)
    return {
        "sigma, degrees": SIGMA_DEG,
        "accuracy": accuracy(),
        "times, 1 thread": speed(1),
        "times, 2 threads": speed(2),
        "peak memory, bytes": {
            "1000 fixations, 1024 x 2048": _peak_bytes(
                lambda: gaze.fixations_to_density(lon, lat, 1024, 2048, SIGMA_DEG)
            ),
        },
    }
