"""What share of a training step waits for its clips: the loader beside the network, at scale fast.

The step is :func:`sal360.training.fit`'s, the clips come from
:func:`sal360.datasets.loader.clip_loader` over synthetic worlds, which are rendered while one
waits. A share near 0 means that the network is what takes time; near 1 that it starves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

from benchmarks.step_time import bench_recipe, threads
from sal360.datasets.batch import Batch
from sal360.datasets.loader import clip_loader
from sal360.datasets.synthetic.worlds import SyntheticWorlds
from sal360.training.fit import build_model, fit

WORKERS = (0, 1, 2)
SYSTEM, STEPS, WARM = "sst-sal", 24, 4


def waiting(steps: int = STEPS, workers: tuple[int, ...] = WORKERS) -> dict[str, Any]:
    """Seconds of a step, and the share of it that waits, by number of workers."""
    recipe = bench_recipe(SYSTEM, "fast", steps=steps + WARM)
    H, W = recipe.size
    found: dict[str, Any] = {}
    with threads(1):
        for count in workers:
            worlds = SyntheticWorlds(videos=4, seconds=4, size=(H, W))
            loader = clip_loader(worlds, recipe.clip_length, recipe.batch, count, size=(H, W))
            spent, waited = _run(recipe, chain.from_iterable(repeat(loader)))
            found[f"{count} workers"] = {
                "median_s": statistics.median(spent),
                "waiting": sum(waited) / sum(spent),
                "clips_per_s": recipe.batch * len(spent) / sum(spent),
            }
    shape = f"{recipe.batch} x {recipe.clip_length} x {H} x {W}"
    return {"system": SYSTEM, "shape": shape, "steps": steps, "workers": found}


def _run(recipe: Any, batches: Iterator[Batch]) -> tuple[list[float], list[float]]:
    waited: list[float] = []

    def timed() -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - start)
            yield batch

    spent, start = [], time.perf_counter()
    for _ in fit(build_model(recipe), timed(), recipe):
        now = time.perf_counter()
        spent.append(now - start)
        start = now
    return spent[WARM:], waited[WARM:]
