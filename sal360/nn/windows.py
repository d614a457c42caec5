"""The greatest value in windows as wide as each row asks for, by doubling.

A block of two rows and two columns is a square at the equator and a splinter near a pole. Windows
that grow with latitude repair that, and no row can share a pooling call with the next. But the
maximum of a window of any width is the greater of two windows of a power of two that overlap,
so a few steps of doubling serve all rows at once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sal360._check import as_image
from sal360._tables import constant, untraced


def max_in_windows(x: Tensor, width: list[int], left: list[int]) -> Tensor:
    """Maxima of windows two rows high, one in every block of two rows and two columns.

    Args:
        x: ``(B, C, H, W)``; an odd last row is a block by itself.
        width: of the windows of each of the ``ceil(H / 2)`` rows of blocks, 1 to ``W``; they
            wrap around the seam. left: by how much they begin before the block.
    Returns:
        ``(B, C, ceil(H / 2), ceil(W / 2))``.
    """
    return _carried_out(x, _plan(tuple(width), tuple(left), x.shape[-1], x.device))


def _carried_out(x: Tensor, plan: Plan) -> Tensor:
    if x.shape[-2] % 2:
        x = torch.cat((x, x[..., -1:, :]), -2)
    run = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    (steps, order), parts = plan, []
    for ready, first, second, open_, span in steps:
        row = run.index_select(-2, ready)
        shape = (*x.shape[:2], *first.shape)
        parts.append(
            torch.maximum(row.gather(-1, first.expand(shape)), row.gather(-1, second.expand(shape)))
        )
        if len(open_):
            run = run.index_select(-2, open_)
            run = torch.maximum(run, run.roll(-span, -1))
    return torch.cat(parts, -2).index_select(-2, order)


class _Step(NamedTuple):
    """One doubling: ``ready`` rows of the run take the greater of two windows of ``span``
    columns, which begin at ``first`` and ``second``; the ``open_`` ones go on."""

    ready: Tensor
    first: Tensor
    second: Tensor
    open_: Tensor
    span: int


Plan = tuple[list[_Step], Tensor]


@untraced
@lru_cache(maxsize=32)
def _plan(width: tuple[int, ...], left: tuple[int, ...], W: int, device: torch.device) -> Plan:
    """The steps for rows of these widths, and the order that puts their rows back in place."""
    wide, steps, order, span = torch.tensor(width), [], [], 1
    start = torch.arange(0, W, 2) - torch.tensor(left)[:, None]
    rows = torch.arange(len(width))
    while len(rows):  # the run holds the maxima of the next `span` columns, of rows still open
        last = wide[rows] < 2 * span
        first = torch.remainder(start[rows[last]], W)
        second = torch.remainder(start[rows[last]] + wide[rows[last], None] - span, W)
        ready, open_ = last.nonzero()[:, 0].to(device), (~last).nonzero()[:, 0].to(device)
        steps.append(_Step(ready, first.to(device), second.to(device), open_, span))
        order.append(rows[last])
        rows, span = rows[~last], 2 * span
    return steps, torch.cat(order).argsort().to(device)


class SphereBlockMaxPool2d(nn.Module):
    """The maximum over blocks of two rows that are as wide on the sphere as on the equator.

    The blocks of ``torch.nn.MaxPool2d(2)``, each widened to both sides by ``1 / cos(latitude)``,
    an even number of columns, at most all of them. Where they overlap, they share pixels; no
    pixel is left out. Rows and columns of the output stand where those of ``MaxPool2d(2)`` do.
    Where ``W`` is even, yaw by an even number of columns commutes exactly. Chapter 13.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, ceil(H / 2), ceil(W / 2))``."""
        x = as_image(x, "x", least=0)
        return _carried_out(x, _block_plan(x.shape[-2], x.shape[-1], x.device))


@constant
@lru_cache(maxsize=32)
def _block_plan(H: int, W: int, device: torch.device) -> Plan:
    width = block_widths(H, W)
    return _plan(tuple(width), tuple((m - 2) // 2 if m > 2 else 0 for m in width), W, device)


def block_widths(H: int, W: int) -> list[int]:
    """Columns of each block of two rows, from north to south."""
    lat = [math.pi / 2 - (2 * i + 1) * math.pi / H for i in range(H // 2)]
    lat += [-math.pi / 2 + math.pi / H / 2] * (H % 2)  # an odd last row is alone
    return [min(2 * max(1, round(1 / max(math.cos(v), 1 / W))), W) for v in lat]
