"""A reader's gradient on a GPU in a fixed order.

``grid_sample`` is fast forwards, but its gradient adds with atomics: the same input gives other
bytes each time. A read is a sparse matrix, and its gradient the transposed one: a table of sums
over the outputs that read each pixel, taken by ``embedding_bag`` in the table's own order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sal360._tables import eager, untraced
from sal360.resampling import Reader, values_at


class Spread(NamedTuple):
    """For every pixel, who reads it: ``outputs[starts[m]:starts[m + 1]]`` with ``weights``."""

    outputs: Tensor
    starts: Tensor
    weights: Tensor


@eager
def read(image: Tensor, reader: Reader) -> Tensor:
    """``(B, C, H, W)`` to ``(B, C, h, w)`` in the reader's dtype, differentiable."""
    out: Tensor = _Read.apply(image, reader)
    return out


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, reader: Reader) -> Tensor:
        ctx.reader, ctx.size = reader, image.shape[-2:]
        return values_at(image, reader)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(grads[0], ctx.reader, ctx.size), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, reader: Reader, size: tuple[int, int]) -> Tensor:
        ctx.reader = reader
        B, C = grad.shape[:2]
        outputs, starts, weights = spread_of(reader, size)
        rows = grad.reshape(B * C, -1).t().contiguous()
        back = F.embedding_bag(outputs, rows, starts, mode="sum", per_sample_weights=weights)
        return back.t().reshape(B, C, *size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Read.apply(grads[0], ctx.reader), None, None


_KEPT: WeakIdKeyDictionary = WeakIdKeyDictionary()


@untraced
def spread_of(reader: Reader, size: tuple[int, int]) -> Spread:
    """The transposed table of a reader of pictures of a size, made once."""
    if reader not in _KEPT:
        _KEPT[reader] = _make_spread(reader, *size)
    made: Spread = _KEPT[reader]
    return made


def _make_spread(reader: Reader, H: int, W: int) -> Spread:
    grid = reader.grid.double().cpu().view(-1, 2)
    pixels, weights = _grid_table(grid, H, W)
    edge, few = reader.edge.cpu(), reader.table
    alone = torch.ones(len(grid), dtype=torch.bool)
    alone[edge] = False
    inside = alone.nonzero()[:, 0]
    wide = few.pixels.shape[1]
    pixel = torch.cat((pixels[inside].flatten(), few.pixels.cpu().flatten()))
    weight = torch.cat((weights[inside].flatten(), few.weights.double().cpu().flatten()))
    output = torch.cat((inside.repeat_interleave(4), edge.repeat_interleave(wide)))
    used = weight != 0
    pixel, weight, output = pixel[used], weight[used], output[used]
    order = torch.argsort(pixel, stable=True)
    count = torch.bincount(pixel, minlength=H * W)
    device, dtype = reader.grid.device, reader.grid.dtype
    return Spread(
        output[order].to(device),
        (count.cumsum(0) - count).to(device),
        weight[order].to(device, dtype),
    )


def _grid_table(grid: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """What ``grid_sample`` reads with ``padding_mode="border"``: pixels and weights, ``(N, 4)``."""
    col = (((grid[:, 0] + 1) * W - 1) / 2).clamp(0, W - 1)
    row = (((grid[:, 1] + 1) * H - 1) / 2).clamp(0, H - 1)
    left, top = col.floor(), row.floor()
    right, down = col - left, row - top
    pixels, weights = [], []
    for step_down, share in ((0, 1 - down), (1, down)):
        for step_right, part in ((0, 1 - right), (1, right)):
            line, place = (top + step_down).clamp_max(H - 1), (left + step_right).clamp_max(W - 1)
            pixels.append((line * W + place).long())
            weights.append(share * part)
    return torch.stack(pixels, -1), torch.stack(weights, -1)
