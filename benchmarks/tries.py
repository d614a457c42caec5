"""What might make a step faster: predicted from what was measured before, then measured.

Each :class:`Try` says what it expects *before* it runs, as a formula of the untouched step's
figures (:class:`Before`); all formulas but one were written before anything was measured.
Predicted and measured are ratios, time of a clip with it over time of a clip without: below 1 is
faster. Steps with and without it take turns, and the ratio is the median over the rounds. A
prediction that fails is the more useful kind, and both numbers stay in the record.

The one was changed by what was seen: that of bf16 took a whole step to shrink as its products
and bytes do, and foretold far too much on a processor that has no such products. Most of a step
is neither, and now stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.roofline import Rates, Work
from benchmarks.step_time import Training, begin, bench_recipe, in_turn, spread
from sal360.datasets.batch import Batch
from sal360.models.base import FrameModel, run
from sal360.nn.state import filled_state, state_tensors
from sal360.training.inputs import clip_inputs

UNREACHED = "autocast reaches no product of this network here: not a bit of its losses changes"


@dataclass(frozen=True)
class Before:
    """A step that nothing was done to: seconds, its shares, kernels or operators started, and the
    units that its products run on (:func:`benchmarks.roofline.units_of`)."""

    seconds: float
    busy_s: float
    phases: dict[str, float]
    launches: int
    work: Work
    rates: Rates
    units: str = "fp32"

    @property
    def starting_s(self) -> float:
        """Seconds that starting its kernels takes alone."""
        return min(self.seconds, self.launches * self.rates.launch_s)

    def at_least(self, seconds: float) -> float:
        """A ratio, not below what starting the kernels takes."""
        return max(seconds, self.starting_s) / self.seconds


def _half_precision(b: Before) -> float:
    rates = b.rates.operations_per_s
    products = b.work.operations * (1 / rates["bf16"] - 1 / b.rates.best(b.units))
    return b.at_least(b.seconds + products - b.work.bytes / b.rates.bytes_per_s / 2)


def _tf32(b: Before) -> float:
    tf32 = b.rates.operations_per_s["tf32"]
    saved = b.work.operations * (1 / b.rates.best(b.units) - 1 / tf32)
    return b.at_least(b.seconds - saved)


def _compiled(b: Before) -> float:
    return max(0.6 * b.seconds, b.starting_s / 3) / b.seconds


def _fused(b: Before) -> float:
    return 1 - 0.7 * b.phases["optimiser"]


def _twice(b: Before) -> float:
    return 1 - b.starting_s / b.seconds / 2


def _graphs(b: Before) -> float:
    return min(1.0, b.busy_s / b.seconds)


@dataclass(frozen=True)
class Try:
    """One change to a step.

    Attributes:
        predicted: ratio of times from the figures before. because: why.
        settings: of the recipe. around: a context in which the steps run, given the network.
        on: ``"cpu"``, ``"cuda"`` or both.
        everywhere: while ``around`` holds, no step of this process is what it was; then the steps
            without it come before, and not in turn.
    """

    predicted: Callable[[Before], float]
    because: str
    settings: dict[str, Any] = field(default_factory=dict)
    around: Callable[[nn.Module, Batch, Any], Any] | None = None
    on: tuple[str, ...] = ("cpu", "cuda")
    everywhere: bool = False


@contextmanager
def _fused_adam(*_: Any) -> Iterator[None]:
    plain = torch.optim.Adam
    torch.optim.Adam = partial(plain, fused=True)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.optim.Adam = plain  # type: ignore[misc]


@contextmanager
def _channels_last(model: nn.Module, *_: Any) -> Iterator[None]:
    model.to(memory_format=torch.channels_last)
    yield


@contextmanager
def _products_in_tf32(*_: Any) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Stretch(nn.Module):
    """``tbptt`` frames of a clip model as one function of tensors, as a graph wants it."""

    def __init__(self, model: nn.Module, like: Any) -> None:
        super().__init__()
        self.model, self.like = model, like

    def forward(self, clip: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        maps, state = run(self.model, clip, filled_state(self.like, memory))
        return (maps, *state_tensors(state))


@contextmanager
def _cuda_graphs(model: nn.Module, batch: Batch, recipe: Any) -> Iterator[None]:
    """The network's forward and backward passes are recorded once and played again."""
    model.train()
    clip = clip_inputs(model, batch.to(next(model.parameters()).device))
    if isinstance(model, FrameModel):
        frames = clip.flatten(0, 1)
        extra = frames[:, 3:] if model.extra == "motion" else torch.ones_like(frames[:, :1])
        torch.cuda.make_graphed_callables(model, (frames[:, :3].clone(), extra.clone()))
        yield
        return
    if recipe.loss == "weak":
        raise ValueError("the losses between frames call the memory alone, not the network")
    with torch.no_grad():
        _, like = model.step(clip[:, 0], None)  # type: ignore[operator]
    empty = tuple(torch.zeros_like(part) for part in state_tensors(like))
    first = clip[:, : recipe.tbptt].clone()
    graphed = torch.cuda.make_graphed_callables(Stretch(model, like), (first, *empty))

    def truncated(_: Any, whole: Tensor, every: int, state: Any = None) -> Iterator[Any]:
        memory = empty
        for start in range(0, whole.shape[1], every):
            part = slice(start, start + every)
            maps, *memory = graphed(whole[:, part], *memory)
            memory = [one.detach().clone() for one in memory]
            yield part, maps

    loop: Any = import_module("sal360.training.fit")  # the package's own fit is the function in it
    plain = loop.truncated
    loop.truncated = truncated
    try:
        yield
    finally:
        loop.truncated = plain


TRIES: dict[str, Try] = {
    "bf16": Try(
        _half_precision,
        "half the bytes, and products at the measured rate of bf16; starting kernels stays",
        {"precision": "bf16"},
    ),
    "TF32 products": Try(
        _tf32,
        "products at the measured rate of TF32, all else as it is",
        around=_products_in_tf32,
        on=("cuda",),
        everywhere=True,
    ),
    "fused Adam": Try(
        _fused,
        "one pass over the parameters in place of about ten: 0.7 of the optimiser's share goes",
        around=_fused_adam,
    ),
    "channels last": Try(
        lambda b: 1.0,
        "our layers put channels last for their products themselves; only plain convolutions "
        "could gain",
        around=_channels_last,
    ),
    "twice the batch": Try(
        _twice,
        "as many kernels for twice the clips: half of what starting them takes goes",
        {"batch": 2},
    ),
    "CUDA graphs": Try(
        _graphs,
        "kernels start one another: the step shrinks to the time in kernels",
        around=_cuda_graphs,
        on=("cuda",),
        everywhere=True,
    ),
    "torch.compile": Try(
        _compiled,
        "chains of pointwise operations become one: three trips of five to memory are left, and "
        "a third of the kernels",
        {"compile": True},
    ),
}


def attempt(
    name: str, one: Try, scale: str, before: Before, device: torch.device, seconds: float
) -> dict[str, Any]:
    """Predict, then measure; a clip's time over that of the untouched step's.

    Args:
        seconds: for the steps with the change, and as long for those without.
    Returns:
        what was predicted and measured; ``not run`` in place of the latter for a precision that
        changes nothing, since a program would be timed against itself.
    """
    out: dict[str, Any] = {"predicted": one.predicted(before), "because": one.because}
    settings = dict(one.settings)
    plain = bench_recipe(name, scale)
    if "batch" in settings:
        settings["batch"] *= plain.batch
    recipe = bench_recipe(name, scale, **settings)
    untouched = Training(*begin(plain, device), plain)
    if one.everywhere:
        (without,) = in_turn([untouched], seconds)
    model, batch = begin(recipe, device)
    with one.around(model, batch, recipe) if one.around else nullcontext():
        changed = Training(model, batch, recipe)
        if "precision" in settings and changed.losses == untouched.losses:
            untouched.steps.close()
            changed.steps.close()
            return out | {"not run": UNREACHED}
        if one.everywhere:
            (times,) = in_turn([changed], seconds)
            ratio = median(times) / median(without)
        else:
            without, times = in_turn([untouched, changed], seconds)
            ratio = median(a / b for a, b in zip(times, without, strict=True))
    out |= spread(times)
    out["without_s"] = median(without)
    out["ratio"] = ratio * plain.batch / recipe.batch
    return out
