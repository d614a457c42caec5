"""The greatest value in windows as wide as each row asks for, by doubling.

A block of two rows and two columns is a square at the equator and a splinter near a pole. Windows
that grow with latitude repair that, and no row can share a pooling call with the next. But the
maximum of a window of any width is the greater of two windows of a power of two that overlap,
so a few steps of doubling serve all rows at once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360._check import as_image


def max_in_windows(x: Tensor, width: list[int], left: list[int]) -> Tensor:
    """Maxima of windows two rows high, one in every block of two rows and two columns.

    Args:
        x: ``(B, C, H, W)``; an odd last row is a block by itself.
        width: of the windows of each of the ``ceil(H / 2)`` rows of blocks, 1 to ``W``; they
            wrap around the seam. left: by how much they begin before the block.
    Returns:
        ``(B, C, ceil(H / 2), ceil(W / 2))``.
    """
    H, W = x.shape[-2:]
    if H % 2:
        x = F.pad(x, (0, 0, 0, 1), mode="replicate")
    run = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    wide = torch.tensor(width, device=x.device)
    start = torch.arange(0, W, 2, device=x.device) - torch.tensor(left, device=x.device)[:, None]
    rows, parts, span = torch.arange(len(width), device=x.device), [], 1
    order = []
    while len(rows):  # run holds the maxima of the next `span` columns, of the rows still open
        last = wide[rows] < 2 * span
        first = torch.remainder(start[rows[last]], W)
        second = torch.remainder(start[rows[last]] + wide[rows[last], None] - span, W)
        ready = run[..., last, :]
        shape = (*x.shape[:2], *first.shape)
        parts.append(
            torch.maximum(
                ready.gather(-1, first.expand(shape)), ready.gather(-1, second.expand(shape))
            )
        )
        order.append(rows[last])
        rows, run = rows[~last], run[..., ~last, :]
        run, span = torch.maximum(run, run.roll(-span, -1)), 2 * span
    return torch.cat(parts, -2)[..., torch.cat(order).argsort(), :]


class SphereBlockMaxPool2d(nn.Module):
    """The maximum over blocks of two rows that are as wide on the sphere as on the equator.

    The blocks of ``torch.nn.MaxPool2d(2)``, each widened to both sides by ``1 / cos(latitude)``,
    an even number of columns, at most all of them. Where they overlap, they share pixels; no
    pixel is left out. Rows and columns of the output stand where those of ``MaxPool2d(2)`` do.
    Yaw by an even number of columns commutes exactly. Chapter 13.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, ceil(H / 2), ceil(W / 2))``."""
        x = as_image(x, "x")
        width = block_widths(*x.shape[-2:])
        return max_in_windows(x, width, [(m - 2) // 2 if m > 2 else 0 for m in width])


def block_widths(H: int, W: int) -> list[int]:
    """Columns of each block of two rows, from north to south."""
    lat = [math.pi / 2 - (2 * i + 1) * math.pi / H for i in range(H // 2)]
    lat += [-math.pi / 2 + math.pi / H / 2] * (H % 2)  # an odd last row is alone
    return [min(2 * max(1, round(1 / max(math.cos(v), 1 / W))), W) for v in lat]
