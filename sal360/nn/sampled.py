"""The one operator: a convolution over any sampling pattern, forward and backward.

Reading between pixels is a sparse linear map: a value is a weighted sum of a few rows of a
matrix, and ``embedding_bag`` is torch's fast way to take such sums. Its gradient is the same map
transposed, which is again a table of sums (:class:`Reads`), so nothing but the input and the
weights is kept for the backward pass.

Reading and multiplying by the weights commute, and the order decides the cost:

- **project first**: every pixel is multiplied by all K taps' weights, and each output gathers the
  finished products. What is read are rows of ``out_channels`` numbers.
- **read first**: each output gathers its K samples, then one matrix product. What is read are
  rows of ``in_channels``, and only where an output stands.

Both work through the batch image by image, so that memory does not grow with it. Chapter 07
builds both by hand; the readable reference is :meth:`sal360.patterns.Pattern.read`. On a GPU
other things cost, and :mod:`sal360.nn.sampled_cuda` takes over.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import _are_functorch_transforms_active as are_functorch_transforms_active

from sal360._check import ArrayLike, as_floating, as_image, positive_int
from sal360._tables import eager, untraced
from sal360.patterns import Pattern
from sal360.resampling import Mode, check_mode, computing_dtype

SMALLEST = 1e-11
"""Weights below this are rounding noise of taps that stand on a pixel; they are not read."""


class Sums(NamedTuple):
    """Weighted sums of rows: sum ``n`` takes ``rows[starts[n]:starts[n + 1]]``.

    ``rows`` is int32 ``(R,)``, ``starts`` int32 ``(N,)``, ``weights`` floating ``(R,)``.
    """

    rows: Tensor
    starts: Tensor
    weights: Tensor

    def of(self, values: Tensor) -> Tensor:
        """``(rows, C)`` contiguous to ``(N, C)``. No gradient: see :func:`read`."""
        rows, starts, weights = self
        return F.embedding_bag(rows, values, starts, mode="sum", per_sample_weights=weights)


@dataclass(frozen=True, eq=False)
class Reads:
    """A sparse linear map and its transpose, each as a table of weighted sums.

    Attributes:
        forward: N sums of M rows. backward: M sums of N rows, with the same weights.
    """

    forward: Sums
    backward: Sums

    @property
    def adjoint(self) -> Reads:
        """The transposed map."""
        return Reads(self.backward, self.forward)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Reads:
        """The same on a device, with weights of a dtype."""
        moved = (
            Sums(rows.to(device), starts.to(device), weights.to(device, dtype))
            for rows, starts, weights in (self.forward, self.backward)
        )
        return Reads(*moved)

    @property
    def bytes(self) -> int:
        """Memory of both tables."""
        parts = (*self.forward, *self.backward)
        return sum(part.numel() * part.element_size() for part in parts)


class _Read(torch.autograd.Function):
    """Sums, and the sums that are their gradient; in two pieces, as compilers can follow them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sums: Sums, transposed: Sums) -> Tensor:
        ctx.sums, ctx.transposed = sums, transposed
        return sums.of(values.contiguous())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _read(grad, ctx.transposed, ctx.sums), None, None


class _ReadTransformed(_Read):
    """The form that torch.func wants. Where it finds one, torch looks at the signature in each
    call, which nearly doubles what a small layer takes; so it is not the usual one."""

    @staticmethod
    def forward(values: Tensor, sums: Sums, transposed: Sums) -> Tensor:  # type: ignore[override]
        return sums.of(values.contiguous())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Sums, Sums], output: Tensor) -> None:
        _, ctx.sums, ctx.transposed = inputs

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int, Any, Any], values: Tensor, sums: Sums, transposed: Sums
    ) -> tuple[Tensor, int]:
        """Many maps side by side, as more channels."""
        side = values.movedim(dims[0], 1)
        return _read(side.flatten(1), sums, transposed).unflatten(1, side.shape[1:]), 1


def _read(values: Tensor, sums: Sums, transposed: Sums) -> Tensor:
    if torch.jit.is_tracing():  # which does not look into functions with a gradient of their own
        return sums.of(values.contiguous())
    function = _ReadTransformed if are_functorch_transforms_active() else _Read
    out: Tensor = function.apply(values, sums, transposed)
    return out


def read(values: Tensor, reads: Reads) -> Tensor:
    """Apply a sparse map to rows: ``(M, C)`` to ``(N, C)``, differentiable any number of times.

    Args:
        values: floating, in the dtype of the table's weights.
    """
    return _read(values, reads.forward, reads.backward)


class _ReadFirst(torch.autograd.Function):
    """Samples of all kernels times their weights; the samples are read again when gradients need
    them, because they are K times as large as the image."""

    @staticmethod
    def forward(
        ctx: Any, pixels: Tensor, kernel: Tensor, sums: Sums, transposed: Sums, groups: int
    ) -> Tensor:
        ctx.save_for_backward(pixels, kernel)
        ctx.sums, ctx.transposed, ctx.groups = sums, transposed, groups
        return multiplied(sums.of(pixels.contiguous()), kernel, groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        pixels, kernel = ctx.saved_tensors
        (O, per, K), g = kernel.shape, ctx.groups
        wants_pixels, wants_kernel = ctx.needs_input_grad[:2]
        d_pixels = d_kernel = None
        out = grad.reshape(-1, g, O // g)
        weight = kernel.view(g, O // g, per, K)
        if wants_kernel:
            samples = _read(pixels, ctx.sums, ctx.transposed).view(-1, K, g, per)
            d_kernel = torch.einsum("nkgi,ngo->goik", samples, out).reshape(O, per, K)
        if wants_pixels:
            spread = torch.einsum("ngo,goik->nkgi", out, weight)
            d_pixels = _read(spread.reshape(-1, g * per), ctx.transposed, ctx.sums)
        return d_pixels, d_kernel, None, None, None


class _ReadFirstTransformed(_ReadFirst):
    """See :class:`_ReadTransformed`."""

    @staticmethod
    def forward(  # type: ignore[override]
        pixels: Tensor, kernel: Tensor, sums: Sums, transposed: Sums, groups: int
    ) -> Tensor:
        return multiplied(sums.of(pixels.contiguous()), kernel, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pixels, kernel, ctx.sums, ctx.transposed, ctx.groups = inputs
        ctx.save_for_backward(pixels, kernel)

    @staticmethod
    def vmap(
        info: Any, dims: tuple[Any, ...], pixels: Tensor, kernel: Tensor, *rest: Any
    ) -> tuple[Tensor, int]:
        """One after the other: nothing is shared but the tables."""
        each = (
            [part] * info.batch_size if dim is None else part.unbind(dim)
            for part, dim in zip((pixels, kernel), dims[:2], strict=True)
        )
        return torch.stack([_read_first(p, k, *rest) for p, k in zip(*each, strict=True)]), 0


def _read_first(
    pixels: Tensor, kernel: Tensor, sums: Sums, transposed: Sums, groups: int
) -> Tensor:
    if torch.jit.is_tracing():
        return multiplied(sums.of(pixels.contiguous()), kernel, groups)
    function = _ReadFirstTransformed if are_functorch_transforms_active() else _ReadFirst
    out: Tensor = function.apply(pixels, kernel, sums, transposed, groups)
    return out


def multiplied(samples: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """``(N K, I)`` samples and an ``(O, I / groups, K)`` kernel to ``(N, O)``."""
    O, per, K = kernel.shape
    if groups == 1:
        return samples.view(-1, K * per) @ kernel.transpose(1, 2).reshape(O, K * per).t()
    grouped = samples.view(-1, K, groups, per)
    weight = kernel.view(groups, O // groups, per, K)
    return torch.einsum("nkgi,goik->ngo", grouped, weight).reshape(-1, O)


@eager
def sampled_conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    pattern: Pattern,
    bias: ArrayLike | None = None,
    groups: int = 1,
    mode: Mode = "bilinear",
    project_first: bool | None = None,
) -> Tensor:
    """Convolve a panorama over a sampling pattern. Derived in chapter 07.

    ``out[b, o, i, j] = bias[o] + sum_ck weight[o, c, k] x[b, c, direction (i, j, k)]``.

    Args:
        x: ``(B, I, H, W)`` floating, of the pattern's size, any strides; B may be 0. Half
            precisions are computed in float32 and returned as they came; on a GPU they are
            multiplied as they are and added in float32, and ``torch.autocast`` decides the
            answer's dtype (:mod:`sal360.nn.sampled_cuda`).
        weight: ``(O, I / groups, *kernel)``; ``kernel`` is the pattern's shape, or flat.
        pattern: where the kernels stand and look. Its tables are made at the first call and
            kept for as long as the pattern lives.
        bias: ``(O,)``. groups: as in ``torch.nn.functional.conv2d``.
        mode: of reading, as for :func:`sal360.projections.sample_erp`.
        project_first: force one of the two orders; chosen by cost unless given.
    Returns:
        ``(B, O, H', W')``, differentiable (twice) in ``x``, ``weight`` and ``bias``. Its memory
        is laid out channels last, as the next layer wants it.
    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit.
    """
    if not isinstance(pattern, Pattern):
        raise TypeError(f"pattern: {type(pattern).__name__}, wanted a Pattern")
    check_mode(mode)
    x, weight = as_image(x, "x", least=0), as_floating(weight, "weight")
    K, groups = pattern.taps, positive_int(groups, "groups")
    I = x.shape[1]
    if tuple(x.shape[-2:]) != (pattern.H, pattern.W):
        wanted = f"wanted the pattern's {pattern.H} x {pattern.W}"
        raise ValueError(f"x: {x.shape[-2]} x {x.shape[-1]} pixels, {wanted}")
    if I % groups:
        raise ValueError(f"groups: {groups}, wanted a divisor of x's {I} channels")
    fits = weight.ndim > 1 and weight.shape[1] == I // groups and math.prod(weight.shape[2:]) == K
    if not fits or len(weight) == 0:
        wanted = f"(O, {I // groups}, {', '.join(map(str, pattern.shape))})"
        raise ValueError(f"weight: shape {tuple(weight.shape)}, wanted {wanted}")
    O = len(weight)
    if O % groups:
        raise ValueError(f"groups: {groups}, wanted a divisor of weight's {O} outputs")
    bias = as_bias(bias, O)
    check_alike(x, weight, bias)
    exact = computing_dtype(x)
    if project_first is None:
        project_first = products_first(pattern, I, O, groups)
    elif project_first and groups > 1:
        raise ValueError(f"groups: {groups}, wanted 1 when projecting first")
    reads = reads_of(pattern, mode, exact, x.device, project_first)
    kernel = weight.reshape(O, I // groups, K)
    return convolve(x, kernel, reads, out_size(pattern), bias, groups, project_first)


def as_bias(bias: ArrayLike | None, O: int) -> Tensor | None:
    """``(O,)`` floating, or None."""
    if bias is None:
        return None
    bias = as_floating(bias, "bias")
    if bias.shape != (O,):
        raise ValueError(f"bias: shape {tuple(bias.shape)}, wanted ({O},)")
    return bias


def check_alike(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """Whether an image, a kernel and a bias can be multiplied and added."""
    as_floating(weight, "weight")
    if (x.dtype == torch.float64) != (weight.dtype == torch.float64):
        raise TypeError(f"x: {x.dtype}, weight: {weight.dtype}, wanted both float64 or neither")
    for name, part in (("weight", weight), ("bias", bias)):
        if part is not None and x.device != part.device:
            raise ValueError(f"x: on {x.device}, {name}: on {part.device}, wanted one device")


def products_first(pattern: Pattern, I: int, O: int, groups: int) -> bool:
    """Which order costs less.

    With one kernel a pixel both do the same arithmetic; what is gathered differs.
    """
    return pattern.stride == 1 and groups == 1 and O <= I


def convolve(
    x: Tensor,
    kernel: Tensor,
    reads: Reads,
    size: tuple[int, int],
    bias: Tensor | None = None,
    groups: int = 1,
    project_first: bool = False,
) -> Tensor:
    """The operator itself, for a table from wherever; its arguments are not checked.

    Args:
        x: ``(B, I, H, W)``. kernel: ``(O, I / groups, K)``.
        reads: to the outputs from the products of each pixel with each tap, ``(H W, K)`` in that
            order, if ``project_first``; otherwise to the samples, ``(N, K)``, from the pixels.
            Its weights are of :func:`~sal360.resampling.computing_dtype` of x.
        size: rows and columns of the output, ``N`` together.
    """
    if x.is_cuda:
        from sal360.nn import sampled_cuda

        return sampled_cuda.convolve(x, kernel, reads, size, bias, groups, project_first)
    exact, (O, per, K) = computing_dtype(x), kernel.shape
    device = "cpu" if x.is_meta else x.device.type  # torch knows no autocast without values
    with torch.autocast(device, enabled=False):
        pixels = x.to(exact).flatten(2).transpose(1, 2)  # (B, HW, I)
        kernel = kernel.to(exact)
        if project_first:
            matrix = kernel.permute(1, 2, 0).reshape(per, K * O)
            parts = [read((one @ matrix).view(-1, O), reads) for one in pixels.unbind()]
        else:
            tables = reads.forward, reads.backward
            parts = [_read_first(one, kernel, *tables, groups) for one in pixels.unbind()]
        if not parts:
            out = nothing_of(pixels, kernel, math.prod(size))
        else:
            out = torch.stack(parts) if len(parts) > 1 else parts[0][None]
        if bias is not None:
            out = out + bias.to(exact)
        out = out.transpose(1, 2).unflatten(2, size)
    return out.to(x.dtype)


def nothing_of(pixels: Tensor, kernel: Tensor, N: int) -> Tensor:
    """``(0, HW, I)`` to ``(0, N, O)``; gradients are 0 then, as torch's layers have it."""
    _, per, _ = kernel.shape
    return (pixels[:, :1, :per] @ kernel.sum(2).t()).expand(-1, N, -1)


def out_size(pattern: Pattern) -> tuple[int, int]:
    """Rows and columns of kernels on a panorama."""
    return len(pattern.lat), -(-pattern.W // pattern.stride)


_KEPT: WeakKeyDictionary[Pattern, dict[Hashable, Reads]] = WeakKeyDictionary()


@untraced
def reads_of(
    pattern: Pattern,
    mode: Mode = "bilinear",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    products: bool = False,
) -> Reads:
    """The tables of a pattern, made once and kept for as long as it lives.

    Args:
        products: read from the products of each pixel with each tap, rows ``(H W, K)`` in that
            order, to the outputs ``(H' W')``; otherwise from the pixels to the samples of all
            kernels, ``(H' W', K)``.
    """
    kept = _KEPT.setdefault(pattern, {})
    key = (mode, dtype, str(device), products)
    if key not in kept:
        make = _shapes_of_reads if torch.device(device).type == "meta" else _make_reads
        kept[key] = make(pattern, mode, products).to(device, dtype)
    return kept[key]


def bytes_of(pattern: Pattern) -> int:
    """Memory of the tables that are kept for a pattern."""
    return sum(reads.bytes for reads in list(_KEPT.get(pattern, {}).values()))


def _shapes_of_reads(pattern: Pattern, mode: Mode, products: bool) -> Reads:
    """How many reads there are, without saying which: enough to count what they cost."""
    lines, wide = out_size(pattern)
    number = int((pattern.row_table(mode)[2].abs() > SMALLEST).sum()) * wide
    taps_in, taps_out = (pattern.taps, 1) if products else (1, pattern.taps)

    def sums(count: int) -> Sums:
        entries = torch.empty(number, dtype=torch.int32, device="meta")
        return Sums(entries, entries.new_empty(count), entries.float())

    return Reads(sums(lines * wide * taps_out), sums(pattern.H * pattern.W * taps_in))


def _make_reads(pattern: Pattern, mode: Mode, products: bool) -> Reads:
    rows, cols, weights = (part.cpu() for part in pattern.row_table(mode))
    H, W, K, stride = pattern.H, pattern.W, pattern.taps, pattern.stride
    lines, wide = out_size(pattern)
    if max(H * W, lines * wide * weights.shape[2]) * K >= 2**31:
        raise ValueError(f"pattern: {pattern} reads more than 2^31 pixels, wanted fewer")
    used = weights.abs() > SMALLEST
    line, tap, _ = used.nonzero().unbind(-1)
    entries = Entries(line, tap, rows[used], cols[used], weights[used])
    return reads_along_rows(entries, (H, W), lines, K, stride, products)


class Entries(NamedTuple):
    """What the kernels of output column 0 read, one entry a pixel: each field is ``(E,)``.

    The kernel of output row ``line`` reads pixel ``(row, col)`` for tap ``tap`` with ``weight``.
    In ascending order of line, then of tap.
    """

    line: Tensor
    tap: Tensor
    row: Tensor
    col: Tensor
    weight: Tensor


def reads_along_rows(
    entries: Entries,
    size: tuple[int, int],
    lines: int,
    taps: int,
    stride: int = 1,
    products: bool = False,
) -> Reads:
    """Both tables from those of one column: a kernel further right reads further right.

    Args:
        entries: of the kernels in output column 0. size: ``(H, W)`` of the panorama.
        lines: output rows. taps: K. stride, products: see :func:`reads_of`.
        Rows of either table must be few enough for an int32 to count.
    """
    (H, W), K, wide = size, taps, -(-size[1] // stride)
    line, tap, row, col, weight = entries
    bag = line if products else line * K + tap
    start = row * (W * K) + tap if products else row * W
    parts, spacing = (lines, 1 if products else K), K if products else 1
    forward = _along_rows(bag, start, col, weight, parts, wide, W, stride, spacing)
    if stride > 1:
        return Reads(forward, _transposed(forward, H * W * (K if products else 1)))
    # Seen from the pixel that is read, the kernel stands as far to the left.
    bag = row * K + tap if products else row
    start = line * W if products else line * (W * K) + tap
    order = torch.argsort(bag, stable=True)
    bag, start, col, weight = bag[order], start[order], -col[order], weight[order]
    parts = (H, K if products else 1)
    backward = _along_rows(bag, start, col, weight, parts, W, W, 1, 1 if products else K)
    return Reads(forward, backward)


def _along_rows(
    bag: Tensor,
    start: Tensor,
    col: Tensor,
    weight: Tensor,
    bags: tuple[int, int],
    wide: int,
    W: int,
    stride: int,
    spacing: int,
) -> Sums:
    """Repeat the reads of one column along every row.

    Args:
        bag: ``(E,)`` ascending: which sum an entry belongs to, ``row * bags[1] + part``.
        start, col: what it reads is ``start + spacing * ((col + stride j) % W)`` in column ``j``.
        bags: (rows, parts of a row). wide: columns.
    """
    rows, parts = bags
    sizes = torch.bincount(bag, minlength=rows * parts).view(rows, parts)
    in_row = sizes.sum(1)
    first = in_row.cumsum(0) - in_row
    ends = (in_row * wide).cumsum(0)
    line = torch.repeat_interleave(torch.arange(rows), in_row * wide)
    place = torch.arange(int(ends[-1])) - (ends - in_row * wide)[line]
    column = torch.div(place, in_row[line], rounding_mode="floor")
    entry = place - column * in_row[line] + first[line]
    read = start[entry] + spacing * torch.remainder(col[entry] + stride * column, W)
    begin = (ends - in_row * wide)[:, None] + in_row[:, None] * torch.arange(wide)
    starts = begin[..., None] + (sizes.cumsum(1) - sizes)[:, None]
    return Sums(read.int(), starts.flatten().int(), weight[entry])


def reads_between(into: Tensor, source: Tensor, weight: Tensor, size: tuple[int, int]) -> Reads:
    """The sparse map with ``weight[e]`` at row ``into[e]``, column ``source[e]``.

    Args:
        into, source, weight: ``(E,)``, in any order. size: (sums N, rows M).
    """
    order = torch.argsort(into, stable=True)
    count = torch.bincount(into, minlength=size[0])
    starts = (count.cumsum(0) - count).int()
    forward = Sums(source[order].int(), starts, weight[order])
    return Reads(forward, _transposed(forward, size[1]))


def _transposed(sums: Sums, N: int) -> Sums:
    """The transposed map, N sums, by sorting."""
    owner = owners(sums)
    order = torch.argsort(sums.rows, stable=True)
    count = torch.bincount(sums.rows, minlength=N)
    return Sums(owner[order].int(), (count.cumsum(0) - count).int(), sums.weights[order])


def owners(sums: Sums) -> Tensor:
    """Which sum every entry belongs to, int64 ``(R,)``."""
    starts, device = sums.starts.long(), sums.rows.device
    end = torch.full((1,), len(sums.rows), dtype=torch.long, device=device)
    sizes = torch.diff(starts, append=end)
    return torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
