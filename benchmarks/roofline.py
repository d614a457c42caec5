"""What a device can do, measured, and what a step of training has to do, counted.

Nothing is faster than the slower of ``bytes / bandwidth`` and ``operations / rate`` (the
*roofline*). Chapter 16 reads a step's time against it.

**Operations** are those of :func:`sal360.models.flops` for every frame, three times: the backward
pass of a product is two products of the same size. What does not learn (CP-360's backbone under
its own losses) counts once, and a network that is fed with its own maps is run once more, without
gradients, to make them.

**Rates** are those of the units that do the products (:func:`units_of`), which the setting of a
recipe does not tell: what is called fp32 is done on a GPU's tensor cores, plain convolutions in
TF32 by cuDNN, sampled ones by three such products for one. A network's bound is that of the
fastest units in use; what it does elsewhere (reads between pixels, layers of few channels) takes
longer than the bound says.

**Bytes** are an estimate, that of a program in which every tensor that is kept for the backward
pass is written and read once going forward, read once going back, and has a gradient that is
written and read: five times what is kept. What is kept is counted while the step runs. Inputs are
read once, and parameters are moved :data:`PARAMETER_TRIPS` times.
A program that fuses well moves less than this, one that makes copies on its way moves more, so a
share above 1 of a bound by bytes is possible and says that the caches were at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import wait
from sal360.models.checks import channels
from sal360.models.cost import WithoutValues, count, on_meta
from sal360.nn import sampled_cuda
from sal360.nn.sphere_conv import PatternConv2d
from sal360.nn.state import detach_state
from sal360.training.fit import build_model
from sal360.training.recipe import INPUTS, Recipe

ACTIVATION_TRIPS = 5
PARAMETER_TRIPS = {"adam": 13, "sgd": 11}
"""How often a parameter's bytes are moved in a step: read forward and backward 2, the gradient
written 1, its norm taken and it clipped 3, the optimiser 3 (gradient, parameter, parameter
written) and 2 for each of its averages, of which Adam has two and SGD with momentum one."""


@dataclass(frozen=True)
class Rates:
    """Bytes and operations per second of a device, and seconds to start one small operation."""

    bytes_per_s: float
    operations_per_s: dict[str, float]
    launch_s: float

    def best(self, units: str) -> float:
        """Operations per second of units (:func:`units_of`): of ``"tf32x3"`` a third of those in
        TF32. A lower precision that is emulated bounds nothing."""
        rates = self.operations_per_s
        rate = rates["tf32"] / 3 if units == "tf32x3" else rates[units]
        return max(rate, rates["fp32"])


@dataclass(frozen=True)
class Work:
    """What one step has to do."""

    operations: int
    bytes: int
    kept: int

    def ideal_s(self, rates: Rates, units: str) -> float:
        """Seconds that the roofline allows it."""
        return max(self.bytes / rates.bytes_per_s, self.operations / rates.best(units))

    def bound(self, rates: Rates, units: str) -> str:
        """``"bytes"`` or ``"operations"``: which of the two takes longer."""
        moving = self.bytes / rates.bytes_per_s
        return "bytes" if moving > self.operations / rates.best(units) else "operations"

    def share(self, rates: Rates, units: str, seconds: float) -> dict[str, Any]:
        """What a record says of a step that took so long, beside the roofline of its units."""
        ideal = self.ideal_s(rates, units)
        return {
            "units": units,
            "ceiling_per_s": rates.best(units),
            "ideal_s": ideal,
            "of_roofline": ideal / seconds,
            "bound_by": self.bound(rates, units),
        }


def units_of(model: nn.Module, precision: str, device: torch.device) -> str:
    """The fastest units that a network's products run on, as torch's switches stand.

    Args:
        precision: a recipe's.
    Returns:
        ``precision`` itself where it is a lower one, or on a CPU. On a GPU, of float32:
        ``"tf32"`` if the network has plain convolutions and cuDNN may do them so (torch's
        default); else ``"tf32x3"`` or ``"tf32"``, as the kernel of the sampled ones is set; else
        ``"fp32"``.
    """
    if device.type != "cuda" or precision != "fp32":
        return precision
    layers = list(model.modules())
    if torch.backends.cudnn.allow_tf32 and any(isinstance(one, nn.Conv2d) for one in layers):
        return "tf32"
    sampled = [one for one in layers if isinstance(one, PatternConv2d)]
    if any(_by_kernel(one, device) for one in sampled):
        return sampled_cuda.precision()
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "fp32"


def _by_kernel(layer: PatternConv2d, device: torch.device) -> bool:
    sides, taps = (layer.in_channels, layer.out_channels), layer.weight[0, 0].numel()
    return sampled_cuda.route(device, torch.float32, *sides, taps, layer.groups) == "product"


def clock_for(device: torch.device) -> Callable[[], float]:
    """The clock to time by: of one thread on a CPU the processor's own, which a busy machine does
    not stretch; else the one on the wall."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def measure_rates(device: torch.device, n: int | None = None, repeats: int = 7) -> Rates:
    """A large copy, square products of ``n`` in each precision, and very small additions.

    Each as often as ``repeats`` says, and the fastest counts.

    float32 products are measured as torch does them unless told otherwise (without TF32), and
    under ``"tf32"`` as cuDNN's convolutions are done on a GPU that has it.
    """
    cuda = device.type == "cuda"
    n = n or (8192 if cuda else 1536)
    length = 2**28 if cuda else 2**25  # 1 GB and 128 MB of float32: no cache holds them
    bandwidth = _bandwidth(length if n >= 256 else n * n, device, repeats)
    operations = {}
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        *((("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)) if cuda else ()),
    ):
        a = torch.randn(n, n, device=device, dtype=dtype)
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            operations[name] = 2 * n**3 / _best(lambda a=a: a @ a, device, repeats)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    if not cuda:  # a product in bfloat16 is emulated where the processor has none
        operations["bf16"] = _bf16_rate(min(n, 512), repeats)
    tiny = torch.zeros(8, device=device)

    def many() -> None:
        for _ in range(1000):
            tiny.add_(1)

    return Rates(bandwidth, operations, _best(many, device, repeats) / 1000)


def _bandwidth(length: int, device: torch.device, repeats: int) -> float:
    source = torch.ones(length, device=device)
    target = torch.empty_like(source)
    return 8 * length / _best(lambda: target.copy_(source), device, repeats)


def _bf16_rate(n: int, repeats: int) -> float:
    a = torch.randn(n, n).bfloat16()
    return 2 * n**3 / _best(lambda: a @ a, torch.device("cpu"), repeats)


def _best(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest: a rate is what a device can do."""
    times, clock = [], clock_for(device)
    for _ in range(repeats + 1):
        wait(device)
        start = clock()
        call()
        wait(device)
        times.append(clock() - start)
    return max(1e-9, min(times[1:]))


def operations_of(recipe: Recipe) -> int:
    """Floating-point operations of a step of the recipe, as this module's docstring says."""
    with WithoutValues():
        model = build_model(recipe)
    shadow = on_meta(model).eval()
    frame = torch.empty(recipe.batch, channels(model), *recipe.size, device="meta")
    with torch.no_grad():
        _, state = shadow.step(frame, None)  # type: ignore[operator]
        total = count(lambda: shadow.step(frame, detach_state(state)))  # type: ignore[operator]
        still = 0
        if recipe.loss == "weak":
            still = count(lambda: shadow.scores(frame))  # type: ignore[operator]
    again = total if INPUTS[recipe.system] == "previous" else 0
    passes = 3 * (total - still) + still + again
    return passes * recipe.clip_length * recipe.accumulate


def bytes_of(recipe: Recipe, model: nn.Module, inputs: int, kept: int) -> int:
    """Bytes that a step moves, as this module's docstring says.

    Args:
        inputs: bytes of a batch. kept: bytes held for the backward passes of a step.
    """
    learning = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    trips = PARAMETER_TRIPS[recipe.optimizer]
    return inputs + ACTIVATION_TRIPS * kept + trips * learning


@contextmanager
def watching_kept(model: nn.Module) -> Iterator[list[int]]:
    """Counts bytes that the graphs made inside hold for their backward passes.

    A storage counts once until the next backward pass; parameters and buffers do not count.
    Yields:
        a list of one number, that grows.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    seen: set[int] = set()
    total = [0]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        where = storage.data_ptr()
        if where not in own and where not in seen:
            seen.add(where)
            total[0] += storage.nbytes()
        return tensor

    plain = Tensor.backward

    def backward(self: Tensor, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        seen.clear()

    Tensor.backward = backward  # type: ignore[method-assign]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield total
    finally:
        Tensor.backward = plain  # type: ignore[method-assign]
