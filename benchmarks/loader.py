"""Frames per second through the loader: real film and synthetic worlds, with 0, 1 and 2 workers.

One epoch is timed from the first line to the last batch, with the start of its workers. Every
process works on one thread, this one too, so that without workers one core is at work.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import interleaved
from sal360.datasets import download
from sal360.datasets.augment import Augment
from sal360.datasets.films import Films
from sal360.datasets.loader import ClipLoader, clip_loader
from sal360.datasets.samples import GORILLAS
from sal360.datasets.store import FrameStore
from sal360.datasets.synthetic.worlds import SyntheticWorlds

SIZE = (128, 256)
LENGTH, BATCH = 8, 2
WORKERS = (0, 1, 2)
ROUNDS = 2


def run() -> dict[str, Any]:
    """Each source with each number of workers, in turn."""
    results: dict[str, Any] = {"size": "{} x {}".format(*SIZE), "length": LENGTH, "batch": BATCH}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, make in _sources(FrameStore(folder=folder)).items():
                calls = {f"{workers} workers": _epoch(make, workers) for workers in WORKERS}
                timed = interleaved(calls, ROUNDS)
                frames = LENGTH * len(make(0).windows)
                for row in timed.values():
                    row["frames_per_s"] = frames / row["median_s"]
                results[name] = {"frames": frames, "workers": timed}
    finally:
        torch.set_num_threads(threads)
    return results


def _sources(store: FrameStore) -> dict[str, Callable[[int], ClipLoader]]:
    def over(dataset: Any, augment: Augment | None = None, **cut: Any) -> Callable[[int], Any]:
        return lambda workers: clip_loader(
            dataset, LENGTH, BATCH, workers, augment=augment, size=SIZE, **cut
        )

    sources: dict[str, Callable[[int], ClipLoader]] = {}
    if download.available(GORILLAS):
        path = download.fetch(GORILLAS)
        sources["film, decoded for every clip"] = over(Films(path), stride=18)
        sources["film, kept frames"] = over(Films(path, store=store), stride=1)
    worlds = SyntheticWorlds(videos=2, seconds=4)
    sources["synthetic worlds, with gaze"] = over(worlds)
    sources["the same, tilted"] = over(worlds, Augment(tilt_deg=20))
    return sources


def _epoch(make: Callable[[int], ClipLoader], workers: int) -> Callable[[], float]:
    def once() -> float:
        loader = make(workers)
        start = time.perf_counter()
        total = sum(float(batch.frames[0, 0, 0, 0, 0]) for batch in loader)
        spent = time.perf_counter() - start
        assert torch.isfinite(torch.tensor(total))
        return spent

    return once
