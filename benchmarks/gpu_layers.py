"""Layers on the sphere on a GPU: every way to compute them, beside cuDNN and what the card can do.

``python -m benchmarks.gpu_layers`` on a machine with a GPU (torch and numpy are enough) takes about
a minute and writes ``data/benchmarks/gpu_layers.json``. The record's ``results``:

- ``rates``: bytes per second of a large copy and operations per second of large products in
  float32, bf16 and (on a GPU) TF32, measured in the run.
- ``shapes``: for each shape ``times`` of forward and backward together (``median_s``, ``min_s``,
  ``max_s``, ``ratio`` to the first candidate, which is cuDNN's, ``of_roofline``, ``units`` whose
  rate that takes, ``pass_mb``: the most that a pass held beyond what was held before it),
  ``errors`` (of value and gradients, relative to the CPU's in float64) and ``failed`` (why a
  candidate has no time: a candidate that is wrong is not timed).
- ``others``: times of pooling and of padding cubes, beside torch's own; nothing is compared.
- ``blocks``: as ``shapes``, for sizes of blocks of the Triton kernels, each with its error.
- ``gradcheck``: of every layer in double precision on the card.

What has no times in the record that is there comes first, shapes before blocks: what ``--seconds``
left no time for has it in the next run. The record is written after each shape.

``of_roofline`` is the share of the time that the slower of bytes / bandwidth and operations / rate
would take for an ideal kernel, which moves input, output and weights once in each direction. In
float32 its rate is that of TF32, the fastest units in use: cuDNN's convolutions run there, and the
layer makes three such products for one. Rows of records from before ``pass_mb`` and ``units`` have
``peak_mb``, which counts what other candidates held, and shares of a rate without tensor cores in
float32: the page shows neither.
``--try`` runs everything once, small, on the CPU, without what a CPU cannot run.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_smoke import checks
from benchmarks.measure import DATA, earlier, interleaved, machine, reason, save, wait
from benchmarks.roofline import measure_rates
from sal360 import patterns, upstream
from sal360.nn import CubePad2d, SphereMaxPool2d, sampled_conv2d, sampled_cuda
from sal360.nn.reads import out_size, reads_of

Call = Callable[[Tensor, Tensor], Tensor]
LIMIT = {"fp32": 2e-4, "bf16": 2e-2, "autocast": 2e-2}
"""Relative errors above which a candidate is wrong."""


class Shape(NamedTuple):
    """A convolution: ``B x I x H x W`` to O channels over a pattern."""

    B: int
    I: int
    O: int
    pattern: patterns.Pattern

    @property
    def title(self) -> str:
        """As the page has it."""
        p = self.pattern
        return f"{p.name}, {self.B} x {self.I} x {p.H} x {p.W} to {self.O}"

    def tensors(self, device: torch.device, dtype: torch.dtype, few: bool = False) -> list[Tensor]:
        """Image and ``(O, I, K)`` weight, the same everywhere; ``few``: of one image."""
        toss = torch.Generator().manual_seed(0)
        p = self.pattern
        x = torch.randn(1 if few else self.B, self.I, p.H, p.W, generator=toss)
        weight = torch.randn(self.O, self.I, p.taps, generator=toss) / math.sqrt(self.I * p.taps)
        x = x.to(device, dtype).to(memory_format=torch.channels_last)
        return [x.requires_grad_(), weight.to(device, dtype).requires_grad_()]

    def ideal_s(self, rates: dict[str, float], precision: str) -> float:
        """Seconds of an ideal kernel, forward and backward."""
        p, units = self.pattern, units_of(rates, precision)
        N = out_size(p)[0] * out_size(p)[1]
        operations = 3 * 2 * self.B * N * self.I * self.O * p.taps
        numbers = 3 * (self.B * (N * self.O + p.H * p.W * self.I) + p.taps * self.I * self.O)
        rate, size = rates[f"{units}_operations_per_s"], 2 if units == "bf16" else 4
        return max(numbers * size / rates["bytes_per_s"], operations / rate)


def units_of(rates: dict[str, float], precision: str) -> str:
    """The fastest units that candidates of a precision may use."""
    if precision != "fp32":
        return "bf16"
    tf32 = "tf32_operations_per_s" in rates and torch.backends.cudnn.allow_tf32
    return "tf32" if tf32 else "fp32"


def shapes(small: bool) -> list[Shape]:
    """What is measured: a wide layer, a middle one, gates of a memory, a crown."""
    if small:
        crown = patterns.crown_pattern(8, 16, (3, 4), 0.6)
        return [Shape(2, 16, 16, patterns.tangent_pattern(8, 16)), Shape(1, 2, 2, crown)]
    crown = patterns.crown_pattern(128, 256, (4, 8), math.pi / 32)
    return [
        Shape(8, 64, 64, patterns.tangent_pattern(120, 240)),
        Shape(64, 32, 32, patterns.tangent_pattern(64, 128)),
        Shape(4, 36 + 36, 4 * 36, patterns.tangent_pattern(128, 256)),
        Shape(16, 16, 16, crown),
    ]


def gathered(x: Tensor, weight: Tensor, pixels: Tensor, parts: Tensor) -> Tensor:
    """All samples by one index, four pixels each, then one product.

    ``pixels`` and ``parts`` are ``(N K, 4)``; differentiable by autograd, nothing of our own.
    """
    read = (x.flatten(2)[:, :, pixels] * parts.to(x.dtype)).sum(-1)
    samples = read.unflatten(2, (-1, weight.shape[2]))
    return torch.einsum("bcnk,ock->bon", samples, weight).unflatten(2, x.shape[-2:])


def planar(x: Tensor, weight: Tensor) -> Tensor:
    """cuDNN's convolution with as many taps; 3 x 3 in its place where a kernel is no square."""
    square = weight[..., :9].unflatten(2, (3, 3))
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), square)


def convolutions(shape: Shape, device: torch.device) -> dict[str, Call]:
    """Every way to do one convolution; the first is what others are compared with."""
    pattern, size = shape.pattern, out_size(shape.pattern)
    pixels, parts = (part.to(device) for part in pattern.table())

    def way(how: sampled_cuda.Route, products: bool) -> Call:
        def call(x: Tensor, weight: Tensor) -> Tensor:
            reads = reads_of(pattern, "bilinear", torch.float32, device, products)
            return sampled_cuda.convolve(x, weight, reads, size, None, 1, products, how)

        return call

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return gathered(x, weight, pixels, parts)

    found: dict[str, Call] = {
        "planar conv2d": planar,
        "planar conv2d, rows apart": lambda x, w: planar(x.contiguous(), w),
        "the layer": lambda x, w: sampled_conv2d(x, w, pattern),
    }
    if device.type == "cuda":
        found["one kernel"] = way("product", False)
        found["Triton sums, read first"] = way("sums", False)
        found["Triton sums, project first"] = way("sums", True)
    found["embedding_bag, read first"] = way("bags", False)
    found["embedding_bag, project first"] = way("bags", True)
    found["cuSPARSE, read first"] = way("csr", False)
    found["cuSPARSE, project first"] = way("csr", True)
    found["gathers"] = plain
    if shape.I == shape.O == 64:  # compiling takes as long as all else here
        found["gathers, compiled"] = torch.compile(plain)
    if pattern.name == "tangent 3 x 3":
        found["published, grid_sample"] = lambda x, w: upstream.sphere_conv2d(
            x, w.unflatten(2, (3, 3))
        )
    return found


UNCHECKED = ("planar", "published")
"""These compute something else."""


def answers(call: Call, x: Tensor, weight: Tensor, precision: str) -> list[Tensor]:
    """Value and both gradients for a pull that is the same everywhere."""
    low = precision == "autocast"
    with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
        out = call(x, weight)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(out, (x, weight), pull.to(out))
    return [part.detach().double().cpu() for part in (out, *grads)]


def error(got: list[Tensor], exact: list[Tensor]) -> float:
    """The largest relative error of value and gradients."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(got, exact, strict=True))


def step(call: Call, x: Tensor, weight: Tensor, precision: str) -> Callable[[], float]:
    """Forward and backward pass; gives its own time, and keeps no gradient."""
    low, pull = precision == "autocast", None

    def timed() -> float:
        nonlocal pull
        wait(x.device)
        start = time.perf_counter()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            out = call(x, weight)
        pull = torch.rand_like(out) if pull is None else pull
        out.backward(pull)
        wait(x.device)
        spent = time.perf_counter() - start
        x.grad = weight.grad = None
        return spent

    return timed


def pass_mb(timed: Callable[[], float], device: torch.device) -> float:
    """Megabytes that a pass holds at most, beyond what was allocated before it.

    That are the candidates that wait, with tensors and tables, to be timed in turn, and this one's
    own image, weight, pull and tables: of a pass that ran before, nothing else is left.
    """
    wait(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    timed()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def measured(
    shape: Shape,
    calls: dict[str, tuple[Call, str]],
    device: torch.device,
    rates: dict[str, float],
    repeats: int,
) -> dict[str, Any]:
    """Times and errors of candidates ``name: (call, precision)``, and why others have none."""
    x, weight = shape.tensors(torch.device("cpu"), torch.float64, few=True)
    exact = answers(lambda x, w: sampled_conv2d(x, w, shape.pattern), x, weight, "fp64")
    ready: dict[str, Callable[[], float]] = {}
    out: dict[str, Any] = {"errors": {}, "failed": {}, "first_s": {}}
    peaks = {}
    for name, (call, precision) in calls.items():
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        begin = time.perf_counter()
        try:
            if not name.startswith(UNCHECKED):
                got = answers(call, *shape.tensors(device, dtype, few=True), precision)
                out["errors"][name] = off = error(got, exact)
                if not off < LIMIT[precision]:
                    out["failed"][name] = f"wrong: relative error {off:.1e}"
                    continue
            timed = step(call, *shape.tensors(device, dtype), precision)
            timed()
            if device.type == "cuda":
                peaks[name] = pass_mb(timed, device)
            ready[name] = timed
        except Exception as fault:  # one that fails must not stop the others; the record says why
            out["failed"][name] = reason(fault)
        out["first_s"][name] = time.perf_counter() - begin
    out["times"] = interleaved(ready, repeats) if ready else {}
    for name, row in out["times"].items():
        row["of_roofline"] = shape.ideal_s(rates, calls[name][1]) / row["median_s"]
        row["units"] = units_of(rates, calls[name][1])
        if name in peaks:
            row["pass_mb"] = peaks[name]
    return out


@contextmanager
def blocks_of(product: Any, weight: Any) -> Iterator[None]:
    """Within it, Triton's kernels have these blocks (None: their own)."""
    from sal360.nn import triton_sampled

    own = triton_sampled.product_blocks, triton_sampled.weight_blocks
    if product is not None:
        triton_sampled.product_blocks = lambda dtype, C, O: product
    if weight is not None:
        triton_sampled.weight_blocks = lambda dtype, C, O: weight
    try:
        yield
    finally:
        triton_sampled.product_blocks, triton_sampled.weight_blocks = own


PRODUCTS = (
    (64, 64, 64, 4), (128, 64, 64, 4), (128, 64, 64, 8), (32, 64, 64, 4), (64, 32, 64, 4),
    (64, 32, 64, 8), (128, 32, 64, 4), (64, 64, 128, 4), (64, 64, 128, 8), (128, 64, 128, 8),
)  # fmt: skip
WEIGHTS = ((64, 64, 64, 4), (128, 64, 64, 4), (32, 64, 64, 4), (64, 32, 64, 4), (64, 64, 64, 8))


def block_sizes(
    shape: Shape, device: torch.device, rates: dict[str, float], repeats: int
) -> dict[str, Any]:
    """The one kernel with other blocks, in bf16: products, then weights' gradients."""
    from sal360.nn.triton_sampled import Blocks

    base = convolutions(shape, device)["one kernel"]
    calls: dict[str, tuple[Call, str]] = {"own": (base, "bf16")}

    def other(product: Blocks | None, weight: Blocks | None) -> Call:
        class Within(torch.autograd.Function):
            """The backward pass must find the same blocks as the forward one."""

            @staticmethod
            def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
                with torch.enable_grad(), blocks_of(product, weight):
                    ctx.inputs = x.detach().requires_grad_(), w.detach().requires_grad_()
                    ctx.out = base(*ctx.inputs)
                return ctx.out.detach()

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
                with blocks_of(product, weight):
                    return torch.autograd.grad(ctx.out, ctx.inputs, grads[0])

        return Within.apply

    for sizes in PRODUCTS:
        calls[f"product {sizes}"] = other(Blocks(*sizes), None), "bf16"
    for sizes in WEIGHTS:
        calls[f"weight {sizes}"] = other(None, Blocks(*sizes)), "bf16"
    return measured(shape, calls, device, rates, repeats)


def others(device: torch.device, small: bool, repeats: int) -> dict[str, Any]:
    """Pooling and padding cubes, forward and backward in bf16 and float32, beside torch's own."""
    B, C, H, S = (2, 4, 16, 8) if small else (8, 64, 120, 64)
    pool, glue = SphereMaxPool2d(), CubePad2d(1)
    one = torch.ones((), device=device, requires_grad=True)
    calls: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
        "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), (B, C, H, 2 * H)),
        "SphereMaxPool2d": (pool, (B, C, H, 2 * H)),
        "F.pad": (lambda x: F.pad(x, (1, 1, 1, 1)), (6 * B, C, S, S)),
        "CubePad2d": (glue, (6 * B, C, S, S)),
        "F.pad, conv2d": (lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1)), conv(x)), (6 * B, C, S, S)),
        "CubePad2d, conv2d": (lambda x: F.conv2d(glue(x), conv(x)), (6 * B, C, S, S)),
    }
    kept: dict[torch.dtype, Tensor] = {}

    def conv(x: Tensor) -> Tensor:
        if x.dtype not in kept:
            kept[x.dtype] = torch.randn(C, C, 3, 3, device=device, dtype=x.dtype) / (3 * C)
        return kept[x.dtype]

    out: dict[str, Any] = {"shape": f"{B} x {C} x {H} x {2 * H}; {B} cubes of {C} x {S} x {S}"}
    ready, out["failed"] = {}, {}
    for dtype, short in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        for name, (call, size) in calls.items():
            try:
                x = torch.rand(size, device=device, dtype=dtype, requires_grad=True)
                weight = one.detach().requires_grad_()
                timed = step(lambda x, w, call=call: call(x) + 0 * w.to(x), x, weight, short)
                timed()
                ready[f"{name}, {short}"] = timed
            except Exception as fault:  # as above
                out["failed"][f"{name}, {short}"] = reason(fault)
    out["times"] = interleaved(ready, repeats) if ready else {}
    return out


def rates_of(device: torch.device, n: int) -> dict[str, float]:
    """Bytes moved and operations done per second."""
    rates = measure_rates(device, n)
    found = {f"{k}_operations_per_s": rate for k, rate in rates.operations_per_s.items()}
    return {"bytes_per_s": rates.bytes_per_s, **found}


NO_TIME = {"failed": {"all": "not run, time was over"}, "times": {}}


def run(
    device: torch.device,
    small: bool,
    repeats: int,
    seconds: float,
    before: dict[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], Any] = lambda results: None,
) -> dict[str, Any]:
    """All of it; what would begin after ``seconds`` is left out, and the record says so.

    Args:
        before: results of the last run; what has no times there comes first, shapes before blocks,
            and what this run has no time for stays, with the day of its ``"measured"``.
        keep: is given what there is after each shape, for whoever is ended from outside.
    """
    start = time.perf_counter()
    out: dict[str, Any] = {"rates": rates_of(device, 64 if small else 8192)}

    def then(part: str, shape: Shape) -> dict[str, Any]:
        return dict((before or {}).get(part, {}).get(shape.title, NO_TIME))

    out["shapes"] = {shape.title: then("shapes", shape) for shape in shapes(small)}
    checked: dict[str, str] = {}
    for name, call in checks(device):
        try:
            checked[name] = call()
        except Exception as fault:  # the record says it
            checked[name] = reason(fault)
    out["gradcheck"] = checked
    _say("gradcheck", checked)
    out["others"] = others(device, small, repeats)
    _report("others", out["others"])
    blocked = shapes(small)[:3] if device.type == "cuda" else []
    out["blocks"] = {shape.title: then("blocks", shape) for shape in blocked}

    def fill(part: str, shape: Shape, measure: Callable[[], dict[str, Any]]) -> None:
        if time.perf_counter() - start > seconds:
            return
        try:
            row = measure()
        except Exception as fault:  # one that fails must not stop the others; the record says why
            row = {"failed": {"all": reason(fault)}, "times": {}}
        out[part][shape.title] = row
        out["seconds"] = time.perf_counter() - start
        _report(f"{part}, {shape.title}", row)
        keep(out)

    def ways(shape: Shape) -> dict[str, Any]:
        found = convolutions(shape, device)
        calls = {f"{n}, bf16": (c, "bf16") for n, c in found.items()}
        calls.update({f"{n}, fp32": (c, "fp32") for n, c in found.items()})
        calls["the layer, autocast"] = found["the layer"], "autocast"
        return measured(shape, calls, device, out["rates"], repeats)

    some = max(5, repeats // 2)
    for shape in sorted(shapes(small), key=lambda shape: bool(then("shapes", shape)["times"])):
        fill("shapes", shape, lambda shape=shape: ways(shape))
    for shape in sorted(blocked, key=lambda shape: bool(then("blocks", shape)["times"])):
        fill("blocks", shape, lambda s=shape: block_sizes(s, device, out["rates"], some))
    out["seconds"] = time.perf_counter() - start
    return out


def _report(title: str, row: dict[str, Any]) -> None:
    print(f"{title} ({sum(row.get('first_s', {}).values()):.1f} s to make ready)")
    for name, t in row["times"].items():
        told = f"{row['errors'][name]:.1e}" if name in row.get("errors", {}) else ""
        share, peak = t.get("of_roofline", 0), t.get("pass_mb", 0)
        print(
            f"  {name:38s} {1e3 * t['median_s']:8.3f} ms {t['ratio']:7.2f} x "
            f"{share:5.0%} {peak:7.0f} MB  {told}"
        )
    for name, why in row["failed"].items():
        print(f"  {name:38s} {why}")


def _say(title: str, rows: dict[str, str]) -> None:
    for name, value in rows.items():
        print(f"{title} {name}: {value}")


def main() -> None:
    """Measure and write the record; ``--try`` runs everything once, small, on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--try", action="store_true", dest="attempt")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    if not 0 < asked.seconds < math.inf:
        parser.error(f"--seconds: {asked.seconds}, wanted a number above 0")
    if asked.attempt:
        print(json.dumps(run(torch.device("cpu"), True, 1, asked.seconds)["shapes"], indent=1))
    elif not torch.cuda.is_available():
        raise SystemExit("no GPU here; --try runs the script small, on the CPU")
    else:
        torch.backends.cudnn.benchmark = True
        before = rows_of(DATA / "gpu_layers.json", machine())

        def keep(results: dict[str, Any]) -> Path:
            return save("gpu_layers", results)

        print(keep(run(torch.device("cuda", 0), False, 15, asked.seconds, before, keep)))


def rows_of(path: Path, here: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Shapes and blocks of a record, each with the day it was measured; none of a record that
    cannot be read, or of another card or torch."""
    try:
        results, day = earlier(path, here)
        return {
            part: {
                title: {"measured": day, **row} if row["times"] else row
                for title, row in results[part].items()
            }
            for part in ("shapes", "blocks")
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


if __name__ == "__main__":
    main()
