"""The one operator: a convolution over any sampling pattern, forward and backward.

Reading between pixels is a sparse linear map: a value is a weighted sum of a few rows of a
matrix, and ``embedding_bag`` is torch's fast way to take such sums. Its gradient is the same map
transposed, which is again a table of sums (:mod:`sal360.nn.reads`), so nothing but the input and
the weights is kept for the backward pass.

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
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as are_functorch_transforms_active

from sal360._check import ArrayLike, as_floating, as_image, positive_int
from sal360._tables import eager
from sal360.nn.reads import Reads, Sums, out_size, reads_of
from sal360.patterns import Pattern
from sal360.resampling import Mode, check_mode, computing_dtype


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
