"""What share of a training step waits for its clips: the loader beside the network, at scale fast.

The step is :func:`sal360.training.fit`'s, the clips come from
:func:`sal360.datasets.loader.clip_loader` over synthetic worlds, which are rendered while one
waits, by the process that trains or by others, or kept in memory from the first epoch on
(:class:`sal360.training.data.Remembered`). A share near 0 means that the network is what takes
time; near 1 that it starves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import chain, islice, repeat
from typing import Any

from benchmarks.step_time import bench_recipe, threads
from sal360.datasets.batch import Batch
from sal360.datasets.loader import clip_loader
from sal360.datasets.synthetic.worlds import SyntheticWorlds
from sal360.training.data import Remembered
from sal360.training.fit import build_model, fit

WORKERS = (0, 1, 2)
SYSTEM, STEPS = "sst-sal", 24
KEPT = "kept in memory"


def waiting(steps: int = STEPS, workers: tuple[int, ...] = WORKERS) -> dict[str, Any]:
    """Seconds of a step, and the share of it that waits, by number of workers and for kept clips.

    One epoch goes before, untimed.
    """
    recipe = bench_recipe(SYSTEM, "fast", steps=1000)
    H, W = recipe.size
    worlds = SyntheticWorlds(videos=3, seconds=3, size=(H, W))
    found: dict[str, Any] = {}
    with threads(1):
        for how in (*workers, KEPT):
            data, count = (Remembered(worlds), 0) if how == KEPT else (worlds, int(how))
            loader = clip_loader(data, recipe.clip_length, recipe.batch, count, size=(H, W))
            epochs = chain.from_iterable(repeat(loader))
            spent, waited = _run(recipe, epochs, len(loader), steps)
            found[KEPT if how == KEPT else f"{count} workers"] = {
                "median_s": statistics.median(spent),
                "waiting": sum(waited) / sum(spent),
                "clips_per_s": recipe.batch * len(spent) / sum(spent),
            }
    shape = f"{recipe.batch} x {recipe.clip_length} x {H} x {W}"
    return {"system": SYSTEM, "shape": shape, "steps": steps, "workers": found}


def _run(
    recipe: Any, batches: Iterator[Batch], warm: int, steps: int
) -> tuple[list[float], list[float]]:
    waited: list[float] = []

    def timed() -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - start)
            yield batch

    spent, start = [], time.perf_counter()
    for _ in islice(fit(build_model(recipe), timed(), recipe), warm + steps):
        now = time.perf_counter()
        spent.append(now - start)
        start = now
    return spent[warm:], waited[warm:]
