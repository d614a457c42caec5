"""Synthetic worlds: frames per second and processor time, with flow, masks and depth, and truth.

Two processes of one thread each, as two workers of a loader would be, and one alone. A process
reads whole videos from all three splits, after one of each to warm up.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from typing import Any

import torch

from sal360.datasets.synthetic import SPLITS, SyntheticWorlds

SIZE, FRAMES, VIDEOS = (128, 256), 16, 6
"""Frames of ``SIZE``, so many of each video, and videos of each split."""


def _rate(observers: int, first: int = 0) -> dict[str, float]:
    """Frames per second of this process, by split and over all, and its own milliseconds each.

    Its own time (of its processor) tells what a busy machine did to the rest.
    """
    torch.set_num_threads(1)
    spent: dict[str, float] = {}
    own = 0.0
    for split in SPLITS:
        data = SyntheticWorlds(split, 2 * VIDEOS, size=SIZE, observers=observers)
        data.read(data.videos[first], 0, 1)
        start, busy = time.perf_counter(), time.process_time()
        for video in data.videos[first : first + VIDEOS]:
            data.read(video, 8, FRAMES)
        spent[split] = time.perf_counter() - start
        own += time.process_time() - busy
    count = len(SPLITS) * VIDEOS * FRAMES
    rates = {split: VIDEOS * FRAMES / s for split, s in spent.items()}
    return rates | {"all": count / sum(spent.values()), "own milliseconds": 1000 * own / count}


def _job(work: tuple[int, int]) -> dict[str, float]:
    return _rate(*work)


def _both(observers: int) -> dict[str, float]:
    """Two processes at once: their rates added."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(_job, [(observers, 0), (observers, VIDEOS)], chunksize=1)
    added = {split: one[split] + two[split] for split in one}
    return added | {"own milliseconds": added["own milliseconds"] / 2}


def _large() -> dict[str, float]:
    """Milliseconds for a frame at other sizes, one process."""
    out = {}
    for size in ((64, 128), (240, 480), (512, 1024)):
        data = SyntheticWorlds("train", VIDEOS, size=size, observers=0)
        times = []
        for video in data.videos:
            data.read(video, 0, 1)
            start = time.perf_counter()
            data.read(video, 8, 3)
            times.append((time.perf_counter() - start) / 3)
        out[f"{size[0]} x {size[1]}"] = 1000 * statistics.median(times)
    return out


def run() -> dict[str, Any]:
    """Frames per second at 128 x 256."""
    threads = torch.get_num_threads()
    try:
        alone = {"without truth": _rate(0), "with truth of 48 observers": _rate(48)}
        sizes = _large()
    finally:
        torch.set_num_threads(threads)
    return {
        "frames": f"{SIZE[0]} x {SIZE[1]}, with flow, masks and depth",
        "frames per second, 1 process": alone,
        "frames per second, 2 processes": {
            "without truth": _both(0),
            "with truth of 48 observers": _both(48),
        },
        "milliseconds a frame without truth, 1 process": sizes,
    }
