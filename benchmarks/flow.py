"""Optical flow: how far off on the sphere, how long it takes, how small it is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import interleaved
from sal360.datasets.synthetic import draw_world, render_world
from sal360.flow import endpoint_error, load_flow, planar_flow, save_flow, sphere_flow
from sal360.flow.files import STEP
from sal360.flow.views import seats
from sal360.sphere import pixel_area

Search = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]

SIZES = ((120, 240), (240, 480))
SPEED = ((240, 480), (480, 960))
SPLITS, SEEDS = ("train", "val", "test"), range(8)
BANDS = {"0 to 30": (0, 30), "30 to 60": (30, 60), "60 to 75": (60, 75), "75 to 90": (75, 91)}
SEAM = 4  # columns on both sides


class Pair(NamedTuple):
    """Two frames of a world 1/8 s apart, the exact flow between them, what the camera does."""

    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    truth: NDArray[np.float32]
    camera: str


def candidates() -> dict[str, Search]:
    """Name to method, the flat DIS first."""

    def on_views(method: str, views: Any) -> Search:
        return lambda a, b: sphere_flow(a, b, method, views)

    found: dict[str, Search] = {
        "DIS, flat": lambda a, b: planar_flow(a, b, "dis"),
        "Farneback, flat": lambda a, b: planar_flow(a, b, "farneback"),
    }
    for views in ("mercator", "rotated", "cube"):
        found[f"DIS, {views}"] = on_views("dis", views)
    for views in ("mercator", "rotated", "cube"):
        found[f"Farneback, {views}"] = on_views("farneback", views)
    return found


def pairs(size: tuple[int, int]) -> Iterator[Pair]:
    """One pair of each world: rendered with noise, changing light and shadows."""
    for split in SPLITS:
        for seed in SEEDS:
            world = draw_world(seed, split)
            seen = render_world(world, 2, *size, fps=8, start=1 + 0.5 * seed)
            frames = (seen.frames.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
            yield Pair(frames[0], frames[1], seen.flow[0].numpy(), world.camera.path)


def errors(flow: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, float]:
    """Mean end-point error in degrees by area: all, by degrees of latitude, at the seam."""
    off = endpoint_error(flow, truth).numpy()
    H, W = off.shape
    area = np.broadcast_to(pixel_area(H, W).numpy()[:, None], off.shape)
    lat = abs(0.5 - (np.arange(H) + 0.5) / H) * 180
    seam = np.r_[:SEAM, W - SEAM : W]
    out = {"all": float(np.average(off, weights=area))}
    for name, (low, high) in BANDS.items():
        rows = (lat >= low) & (lat < high)
        out[name] = float(np.average(off[rows], weights=area[rows]))
    return out | {"seam": float(np.average(off[:, seam], weights=area[:, seam]))}


def accuracy(size: tuple[int, int]) -> dict[str, Any]:
    """Errors averaged over worlds, and by what the camera does."""
    searches: dict[str, Search] = {"no flow": lambda a, b: np.zeros((2, *a.shape[:2]), np.float32)}
    searches |= candidates()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in searches}
    cameras: list[str] = []
    for pair in pairs(size):
        cameras.append(pair.camera)
        for name, search in searches.items():
            found[name].append(errors(search(pair.first, pair.second), pair.truth))
    kinds = sorted({*cameras})
    return {
        "worlds": len(cameras),
        "degrees": {n: {k: mean(r[k] for r in rows) for k in rows[0]} for n, rows in found.items()},
        "by camera": {
            name: {
                kind: mean(r["all"] for r, c in zip(rows, cameras, strict=True) if c == kind)
                for kind in kinds
            }
            for name, rows in found.items()
        },
        "cameras": {kind: cameras.count(kind) for kind in kinds},
    }


def speed(size: tuple[int, int]) -> dict[str, Any]:
    """Milliseconds for a pair of frames; tables are made before."""
    world = render_world(draw_world(1, "test"), 2, *size, fps=8)
    first, second = (world.frames.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    calls = {n: (lambda s=s: s(first, second)) for n, s in candidates().items()}
    seats.cache_clear()
    start = time.perf_counter()
    seats("mercator", *size)
    made = time.perf_counter() - start
    return {"times": interleaved(calls, repeats=5), "tables_s, mercator": made}


def storage(size: tuple[int, int]) -> dict[str, Any]:
    """Bytes a frame, and what rounding costs, of DIS flow and of exact flow."""
    out: dict[str, Any] = {"raw_bytes": 2 * 4 * size[0] * size[1], "step, pixels": STEP}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.npz"
        rows: dict[str, list[tuple[float, ...]]] = {"DIS, mercator": [], "exact": []}
        for pair in pairs(size):
            for name, flow in (
                ("DIS, mercator", sphere_flow(pair.first, pair.second)),
                ("exact", pair.truth),
            ):
                start = time.perf_counter()
                save_flow(path, flow)
                middle = time.perf_counter()
                back = load_flow(path)[0]
                end = time.perf_counter()
                off = float(endpoint_error(back, flow).max())
                rows[name].append((path.stat().st_size, middle - start, end - middle, off))
        for name, found in rows.items():
            size_, write, read, off = np.array(found).T
            out[name] = {
                "bytes": float(size_.mean()),
                "write_s": float(np.median(write)),
                "read_s": float(np.median(read)),
                "largest error, degrees": float(off.max()),
            }
    return out


def run() -> dict[str, Any]:
    """On one thread each, so that ratios do not depend on cores."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        return {
            "accuracy": {f"{H} x {W}": accuracy((H, W)) for H, W in SIZES},
            "speed": {f"{H} x {W}": speed((H, W)) for H, W in SPEED},
            "storage, 240 x 480": storage((240, 480)),
        }
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
