"""Films that the store of frames cannot all hold: what an epoch costs in each order of clips.

Seconds of the processor, not of the clock, of one process that reads every clip of six films once:
decoded for every clip, through stores of two films and of all, in a free order and with ``mix``
(:mod:`sal360.datasets.loader`).
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sal360.datasets.films import Films
from sal360.datasets.loader import clip_loader
from sal360.datasets.store import FrameStore
from sal360.video import VideoWriter

FILMS, FRAMES, FILM_SIZE, FPS = 6, 240, (320, 640), 24
SIZE, LENGTH, BATCH, ROUNDS = (64, 128), 8, 2, 2
WAYS: dict[str, tuple[float, int | None]] = {
    "no store": (0, None),
    "store of all films": (FILMS + 1, None),
    "store of two films": (2.2, None),
    "store of two films, mix=2": (2.2, 2),
    "store of two films, mix=1": (2.2, 1),
}
"""Films that the store may hold, and ``mix``."""


def run() -> dict[str, Any]:
    """Each way in turn, with an empty store."""
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    frames = 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            films = _write(Path(folder))
            for round_ in range(ROUNDS):
                for name, (held, mix) in WAYS.items():
                    store = Path(folder) / f"store {round_} {name}"
                    frames, spent = _epoch(films, store, held, mix)
                    times[name].append(spent)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    return {
        "films": f"{FILMS} of {FRAMES} frames, {FILM_SIZE[0]} x {FILM_SIZE[1]}, read at "
        f"{SIZE[0]} x {SIZE[1]}",
        "frames": frames,
        "seconds": {name: statistics.median(values) for name, values in times.items()},
    }


def _epoch(films: list[Path], folder: Path, held: float, mix: int | None) -> tuple[int, float]:
    """Frames that one epoch gives, and seconds of the processor."""
    one = FRAMES // 3 * SIZE[0] * SIZE[1] * 3
    store = FrameStore(held * one / 1e9, folder) if held else None
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = Films(films, fps=FPS / 3, store=store)
        loader = clip_loader(data, LENGTH, BATCH, size=SIZE, mix=mix)
        frames = sum(len(batch) * LENGTH for batch in loader)
    return frames, time.process_time() - start


def _write(folder: Path) -> list[Path]:
    """Films whose pictures move: nothing that a decoder could skip."""
    import cv2

    paths = [folder / f"{k}.mp4" for k in range(FILMS)]
    for seed, path in enumerate(paths):
        coarse = np.random.default_rng(seed).integers(0, 256, (20, 40, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, FILM_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        with VideoWriter(path, fps=FPS) as video:
            for k in range(FRAMES):
                video.write(np.ascontiguousarray(np.roll(picture, 3 * k, 1)))
    return paths
