"""The one operator on a GPU: the whole batch at once, in few launches, in the matrix units' dtype.

What costs on a GPU is other than on a CPU. A loop over images is launches that the card waits
for; samples that are written and read again cost more than their arithmetic; and products want
half precision. There are three routes, all of the same tables, and :func:`route` chooses:

- ``"product"``: one Triton kernel that takes the samples and multiplies them where they are
  (:mod:`sal360.nn.triton_sampled`); nothing K times as large as an image is ever written.
- ``"sums"``: samples, or products, are written by a Triton kernel; cuBLAS does the rest.
- ``"bags"`` and ``"csr"``: the same by ``embedding_bag``, or by torch's sparse matrices, in
  float32; torch alone.

All but ``"csr"``, of which cuSPARSE does not say it, give the same bytes for the same input. All
are differentiable twice, and run on CPU tensors too (those of Triton by its interpreter), where
the tests hold them against the CPU's operator.

Under ``torch.autocast`` images and weights are multiplied in its dtype and the answer is in it,
as ``torch.nn.functional.conv2d`` has it; sums run in float32 and tables keep float32 weights.
Derived in chapter 07; measured by ``benchmarks/gpu_layers.py``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sal360._tables import eager, untraced
from sal360.nn.reads import Reads, Sums, owners
from sal360.nn.sampled import multiplied, nothing_of
from sal360.resampling import computing_dtype

Route = Literal["product", "sums", "bags", "csr"]


class Table(NamedTuple):
    """Weighted sums as Triton takes them: ``starts`` has one more entry, the end."""

    rows: Tensor
    weights: Tensor
    starts: Tensor


@dataclass(frozen=True, eq=False)
class Taps:
    """The samples of all kernels, and who reads each pixel with which tap.

    Attributes:
        forward: ``N K`` sums of M pixels. backward: ``M K`` sums of N outputs. taps: K.
    """

    forward: Table
    backward: Table
    taps: int

    @property
    def adjoint(self) -> Taps:
        """Of the convolution that is this one's gradient in the image."""
        return Taps(self.backward, self.forward, self.taps)


_KEPT: WeakKeyDictionary[Reads, dict[Hashable, Any]] = WeakKeyDictionary()


@untraced
def table_of(reads: Reads) -> Table:
    """A map's sums with their end, made once."""
    kept = _KEPT.setdefault(reads, {})
    if "table" not in kept:
        kept["table"] = _ended(reads.forward)
    made: Table = kept["table"]
    return made


@untraced
def taps_of(reads: Reads, taps: int, project_first: bool) -> Taps:
    """Tables of single taps from those that :func:`sal360.nn.reads.reads_of` makes, once.

    Args:
        reads: to the outputs from ``(M, K)`` products if ``project_first``, otherwise to
            ``(N, K)`` samples from the pixels.
    """
    kept = _KEPT.setdefault(reads, {})
    if taps not in kept:
        owner = owners(reads.forward)
        rows, weights = reads.forward.rows.long(), reads.forward.weights
        if project_first:
            N, M = len(reads.forward.starts), len(reads.backward.starts) // taps
            forward = _sorted(owner * taps + rows % taps, rows // taps, weights, N * taps)
            backward = _ended(reads.backward)
        else:
            M = len(reads.backward.starts)
            forward = _ended(reads.forward)
            backward = _sorted(rows * taps + owner % taps, owner // taps, weights, M * taps)
        kept[taps] = Taps(forward, backward, taps)
    made: Taps = kept[taps]
    return made


def _ended(sums: Sums) -> Table:
    """The same sums with their end."""
    end = torch.full((1,), len(sums.rows), dtype=torch.int32, device=sums.rows.device)
    return Table(sums.rows, sums.weights, torch.cat((sums.starts, end)))


def _sorted(into: Tensor, source: Tensor, weights: Tensor, count: int) -> Table:
    order = torch.argsort(into, stable=True)
    sums = torch.arange(count + 1, device=into.device)
    starts = torch.searchsorted(into[order], sums)  # counting would add atomically
    return Table(source[order].int(), weights[order].contiguous(), starts.int())


class _Sampled(torch.autograd.Function):
    """``(B, M, C)`` and a float32 ``(O, C, K)`` kernel to ``(B, N, O)`` in the image's dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor | None, taps: Taps) -> Tensor:
        from sal360.nn import triton_sampled

        ctx.save_for_backward(x, kernel)
        ctx.taps = taps
        matrix = kernel.permute(2, 1, 0).to(x.dtype).contiguous()
        table, exactly = taps.forward, precision()
        return triton_sampled.product(x, matrix, bias, *table, precision=exactly)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, kernel), taps = ctx.saved_tensors, ctx.taps
        grad = grads[0].to(x.dtype).contiguous()
        d_x = d_kernel = d_bias = None
        if ctx.needs_input_grad[0]:
            d_x = _Sampled.apply(grad, kernel.transpose(0, 1), None, taps.adjoint)
        if ctx.needs_input_grad[1]:
            d_kernel = _Weight.apply(x, grad, taps)
        if ctx.needs_input_grad[2]:
            d_bias = grad.sum((0, 1), dtype=torch.float32)
        return d_x, d_kernel, d_bias, None


class _Weight(torch.autograd.Function):
    """The gradient of :class:`_Sampled` in its kernel, ``(O, C, K)`` float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, taps: Taps) -> Tensor:
        from sal360.nn import triton_sampled

        ctx.save_for_backward(x, grad)
        ctx.taps = taps
        made = triton_sampled.weight_gradient(
            x, grad, taps.taps, *taps.forward, precision=precision()
        )
        return made.permute(2, 1, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, pulled), taps, kernel = ctx.saved_tensors, ctx.taps, grads[0]
        d_x = d_pulled = None
        if ctx.needs_input_grad[0]:
            d_x = _Sampled.apply(pulled, kernel.transpose(0, 1), None, taps.adjoint)
        if ctx.needs_input_grad[1]:
            d_pulled = _Sampled.apply(x, kernel, None, taps)
        return d_x, d_pulled, None


class _Read(torch.autograd.Function):
    """A sparse map of a whole batch, ``(B, M, C)`` to ``(B, N, C)``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, reads: Reads, how: Route) -> Tensor:
        ctx.reads, ctx.how = reads, how
        return _sums(values.contiguous(), reads, how)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Read.apply(grads[0], adjoint(ctx.reads), ctx.how), None, None


@eager
def read(values: Tensor, reads: Reads, how: Route | None = None) -> Tensor:
    """Apply a sparse map to a batch of rows: ``(B, M, C)`` to ``(B, N, C)``, differentiable.

    Args:
        values: floating; sums run in float32 (float64 for that) whatever it is.
        how: ``"sums"``, ``"bags"`` or ``"csr"``; chosen unless given.
    """
    chosen = how or ("sums" if triton_works(values.device) else "bags")
    out: Tensor = _Read.apply(values, reads, chosen)
    return out


@untraced
def adjoint(reads: Reads) -> Reads:
    """The transposed map, one object for ever, because tables hang on it."""
    kept = _KEPT.setdefault(reads, {})
    if "adjoint" not in kept:
        kept["adjoint"] = reads.adjoint
    made: Reads = kept["adjoint"]
    return made


def _sums(values: Tensor, reads: Reads, how: Route) -> Tensor:
    B, M, C = values.shape
    if how == "sums":
        from sal360.nn import triton_sampled

        return triton_sampled.sums(values, *table_of(reads))
    exact = values.to(computing_dtype(values))
    if how == "csr":
        columns = exact.transpose(0, 1).reshape(M, B * C)
        out = (_matrix(reads, M) @ columns).unflatten(1, (B, C)).transpose(0, 1)
        return out.to(values.dtype).contiguous()
    rows, starts, weights = reads.forward
    N, E = len(starts), len(rows)
    if max(B * M, B * E) >= 2**31:
        rows, starts = rows.long(), starts.long()
    image = torch.arange(B, dtype=rows.dtype, device=rows.device)[:, None]
    whole = Sums((rows + image * M).view(-1), (starts + image * E).view(-1), weights.repeat(B))
    return whole.of(exact.view(B * M, C)).view(B, N, C).to(values.dtype)


@untraced
def _matrix(reads: Reads, M: int) -> Tensor:
    kept = _KEPT.setdefault(reads, {})
    if "csr" not in kept:
        rows, weights, starts = table_of(reads)
        with warnings.catch_warnings():  # torch says that its sparse matrices are in beta
            warnings.simplefilter("ignore", UserWarning)
            kept["csr"] = torch.sparse_csr_tensor(
                starts, rows, weights, (len(starts) - 1, M), check_invariants=False
            )
    made: Tensor = kept["csr"]
    return made


class _ReadFirst(torch.autograd.Function):
    """Samples, then one product; the samples are taken again when gradients need them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, reads: Reads, groups: int, how: Route
    ) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.rest = reads, groups, how
        samples = _sums(x.contiguous(), reads, how)
        return multiplied(samples.view(-1, x.shape[2]), kernel, groups).unflatten(0, (len(x), -1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, kernel), (reads, g, how) = ctx.saved_tensors, ctx.rest
        O, per, K = kernel.shape
        out = grads[0].reshape(-1, g, O // g)
        d_x = d_kernel = None
        if ctx.needs_input_grad[1]:
            samples = _Read.apply(x, reads, how).view(-1, K, g, per)
            d_kernel = torch.einsum("nkgi,ngo->goik", samples, out).reshape(O, per, K)
        if ctx.needs_input_grad[0]:
            weight = kernel.view(g, O // g, per, K)
            spread = torch.einsum("ngo,goik->nkgi", out, weight)
            spread = spread.reshape(len(x), -1, g * per)
            d_x = _Read.apply(spread, adjoint(reads), how)
        return d_x, d_kernel, None, None, None


@eager
def convolve(
    x: Tensor,
    kernel: Tensor,
    reads: Reads,
    size: tuple[int, int],
    bias: Tensor | None = None,
    groups: int = 1,
    project_first: bool = False,
    how: Route | None = None,
) -> Tensor:
    """:func:`sal360.nn.sampled.convolve` for a GPU; the route is chosen unless given."""
    dtype, (O, per, K), I = working_dtype(x), kernel.shape, x.shape[1]
    chosen = how or route(x.device, dtype, I, O, K, groups)
    with torch.autocast(x.device.type, enabled=False):
        pixels = x.to(dtype).flatten(2).transpose(1, 2).contiguous()  # (B, HW, I)
        if not len(x):
            out = nothing_of(pixels, kernel.to(dtype), math.prod(size))
        elif chosen == "product":
            # The kernel's own float32 is handed over, so that its gradient is not rounded.
            weight = kernel.to(computing_dtype(kernel))
            taps = taps_of(reads, K, project_first)
            out, bias = _Sampled.apply(pixels, weight, bias, taps), None
        else:
            weight = kernel.to(dtype)
            if project_first:
                products = pixels @ weight.permute(1, 2, 0).reshape(per, K * O)
                out = _Read.apply(products.view(len(x), -1, O), reads, chosen)
            else:
                out = _ReadFirst.apply(pixels, weight, reads, groups, chosen)
        if bias is not None:
            out = out + bias.to(dtype)
        out = out.transpose(1, 2).unflatten(2, size)
    return out


def working_dtype(x: Tensor) -> torch.dtype:
    """What images are multiplied in: autocast's dtype, or their own."""
    kind = x.device.type
    if x.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def precision() -> str:
    """Of float32 products in Triton, as ``torch.set_float32_matmul_precision`` says."""
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


SMALLEST_SIDE = 16
"""Channels below which a tensor core's tile is mostly padding, and samples are written out."""


def route(
    device: torch.device, dtype: torch.dtype, I: int, O: int, K: int, groups: int = 1
) -> Route:
    """Which of the routes a convolution takes.

    On an H100 (``data/benchmarks/gpu_layers.json``) products that are written and then summed are
    1.1 times as fast as the kernel that writes none with as many channels out as in (3 x 3), 1.5
    or 1.6 times for a crown's 32 taps, and with 144 of 72 channels 1.8 times in bf16, 2.3 times in
    float32. But a pass then holds 4 to 17 times as much; memory was preferred.
    """
    if not triton_works(device):
        return "bags"
    if dtype == torch.float64 or groups > 1 or min(I, O) < SMALLEST_SIDE:
        return "sums"
    return "product"


@lru_cache(maxsize=16)
def triton_works(device: torch.device) -> bool:
    """Whether Triton's kernels can be compiled and run there: an Ampere card or later.

    Where they should and cannot (no C compiler, another Triton), one warning says why.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        from sal360.nn import triton_sampled

        starts = torch.tensor([0, 1], dtype=torch.int32, device=device)
        one = torch.ones(1, 1, 1, device=device)
        return bool(triton_sampled.sums(one, starts[:1], one.view(1), starts) == 1)
    except Exception as error:  # whatever a compiler throws: torch alone serves as well
        first = (str(error).splitlines() or [""])[0][:200]
        reason = f"{type(error).__name__}: {first}"
        warnings.warn(f"Triton does not work here ({reason}): torch alone is used", stacklevel=2)
        return False


ROUTES: tuple[Route, ...] = ("product", "sums", "bags", "csr")
__all__ = ["ROUTES", "Route", "convolve", "read", "route", "triton_works", "working_dtype"]
