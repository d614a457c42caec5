"""One step of the optimiser, taken apart: how long, how much memory, where the time goes.

Everything runs through :func:`sal360.training.fit`, the loop that trains; nothing here is a
second loop that might be faster or slower than it. Times are by the clock that
:func:`benchmarks.roofline.clock_for` names, with the device waited for at the end of a step; the
parts of a step (:func:`phases`) wait at each border, so that their sum can be a little longer than
a step that is left alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from benchmarks.measure import reason, wait
from benchmarks.roofline import clock_for
from sal360.datasets.batch import Batch
from sal360.training.fit import build_model, fit
from sal360.training.overfit import one_clip
from sal360.training.recipe import Recipe, load_recipe

WARM = 2
"""Steps that are not timed: caches, tables of patterns, the optimiser's averages."""
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def bench_recipe(name: str, scale: str, steps: int = 64, **overrides: Any) -> Recipe:
    """A system's recipe at a scale, as it is at the end of training: fed with its own maps.

    The rate of learning is made very small, so that no number of steps ends in NaN; it costs
    nothing.
    """
    settings = {"steps": steps, "lr": 1e-6, "teacher_forcing": [0.0, 0.0], **overrides}
    return load_recipe(name, scale, settings)


def begin(recipe: Recipe, device: torch.device) -> tuple[nn.Module, Batch]:
    """A fresh network on the device, and a batch where a loader would leave it: in memory, pinned
    if there is a GPU to fetch it."""
    batch = one_clip(recipe)
    return build_model(recipe).to(device), batch.pin_memory() if device.type == "cuda" else batch


class Training:
    """A training whose steps are timed one at a time, after the first :data:`WARM`.

    ``losses`` are those of the first ones.
    """

    def __init__(self, model: nn.Module, batch: Batch, recipe: Recipe) -> None:
        self.device = next(model.parameters()).device
        self.clock = clock_for(self.device)
        self.steps = fit(model, repeat(batch), recipe)
        self.losses = [next(self.steps).loss for _ in range(WARM)]

    def step(self) -> float:
        """Seconds of the next step."""
        wait(self.device)
        start = self.clock()
        next(self.steps)
        wait(self.device)
        return self.clock() - start


def in_turn(trainings: list[Training], seconds: float, at_most: int = 20) -> list[list[float]]:
    """A list of times for each training; a step of each in every round, so that what else the
    machine does meets all of them. At least 3 rounds, as many as ``seconds`` of each hold."""
    times: list[list[float]] = [[] for _ in trainings]
    while len(times[0]) < at_most and (
        len(times[0]) < 3 or sum(map(sum, times)) < seconds * len(trainings)
    ):
        for training, spent in zip(trainings, times, strict=True):
            spent.append(training.step())
    for training in trainings:
        training.steps.close()
    return times


def step_times(model: nn.Module, batch: Batch, recipe: Recipe, seconds: float) -> list[float]:
    """Seconds of the steps of one training."""
    (times,) = in_turn([Training(model, batch, recipe)], seconds)
    return times


def spread(times: list[float]) -> dict[str, Any]:
    """Median, smallest and largest."""
    return {
        "steps": len(times),
        "median_s": statistics.median(times),
        "min_s": min(times),
        "max_s": max(times),
    }


def phases(model: nn.Module, batch: Batch, recipe: Recipe, count: int = 3) -> dict[str, float]:
    """Shares of a step: forward (with inputs and loss), backward, clipping, optimiser.

    Clipping is what lies between the last backward pass and the optimiser: the gradient's norm,
    and the check that it is finite.
    """
    device = next(model.parameters()).device
    spent = dict.fromkeys(("forward", "backward", "clipping", "optimiser"), 0.0)
    mark, clock = [0.0], clock_for(device)

    def now(part: str | None) -> None:
        wait(device)
        moment = clock()
        if part is not None:
            spent[part] += moment - mark[0]
        mark[0] = moment

    plain = Tensor.backward

    def backward(self: Tensor, *args: Any, **kwargs: Any) -> None:
        now("forward")
        plain(self, *args, **kwargs)
        now("backward")

    before = register_optimizer_step_pre_hook(lambda *_: now("clipping"))
    after = register_optimizer_step_post_hook(lambda *_: now("optimiser"))
    Tensor.backward = backward  # type: ignore[method-assign]
    try:
        steps = fit(model, repeat(batch), recipe)
        for _ in range(WARM):
            next(steps)
        spent.update(dict.fromkeys(spent, 0.0))
        for _ in range(count):
            now(None)
            next(steps)
        steps.close()
    finally:
        Tensor.backward = plain  # type: ignore[method-assign]
        before.remove()
        after.remove()
    whole = sum(spent.values())
    return {part: seconds / whole for part, seconds in spent.items()}


def operators(model: nn.Module, batch: Batch, recipe: Recipe, top: int = 6) -> dict[str, Any]:
    """One step under torch's profiler.

    Returns:
        ``top``: operators with their share of the time that operators take themselves (on a GPU:
        of the time of kernels) and how often they were called; ``calls`` of all operators;
        ``launches`` of kernels; ``busy_s``, the time in kernels, or in operators on a CPU.
    """
    from torch.profiler import ProfilerActivity, profile

    device = next(model.parameters()).device
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    steps = fit(model, repeat(batch), recipe)
    for _ in range(WARM):
        next(steps)
    wait(device)
    with profile(activities=activities) as found:
        next(steps)
        wait(device)
    steps.close()
    averages = found.key_averages()
    started = sum(event.count for event in averages if event.key in LAUNCHES)
    calls = sum(event.count for event in averages if event.key.startswith("aten::"))
    rows = []
    for event in averages:
        if event.device_type != DeviceType.CPU:
            continue  # a kernel: its time counts under the operator that started it
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        if spent > 0:
            rows.append((spent, event.key, event.count))
    rows.sort(reverse=True)
    whole = sum(spent for spent, *_ in rows)
    return {
        "top": [
            {"name": name, "share": spent / whole, "calls": count}
            for spent, name, count in rows[:top]
        ],
        "calls": calls,
        "launches": started if cuda else calls,
        "busy_s": whole / 1e6,
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """With so many threads, and then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def told(call: Callable[[], Any], notes: list[str], what: str) -> Any:
    """What a call gives, or why it gave nothing: a measurement that fails must not end the rest."""
    try:
        return call()
    except Exception as error:
        why = reason(error)
        notes.append(f"{what}: {why}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {"not run": why}
