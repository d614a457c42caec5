"""Padding a panorama with its own neighbours, so that an ordinary convolution crosses no border.

Left and right edges are neighbours; a step over the top edge arrives half a turn away on the
same top row (chapter 03). This mends seam and poles and nothing else: a 3 x 3 kernel still
covers the less of the sphere the nearer it stands to a pole.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360._check import as_image, whole_number
from sal360._tables import constant


class SpherePad2d(nn.Module):
    """Pad a panorama across its seam and over its poles. Used in chapter 14.

    Which pixels lie beyond an edge, chapter 03 derives for reading between them. With an odd
    ``W`` half a turn ends between two columns; their mean is taken.

    Args:
        padding: pixels on every side, or ``(left, right, top, bottom)``, each at least 0; more
            than ``W`` or ``H`` goes around again.
    """

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * 4
        self.padding = tuple(whole_number(p, "padding") for p in sides)
        if len(sides) != 4 or min(self.padding) < 0:
            wanted = "wanted a whole number of at least 0, or (left, right, top, bottom)"
            raise ValueError(f"padding: {padding!r}, {wanted}")

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, top + H + bottom, left + W + right)``."""
        x = as_image(x, "x", least=0)
        left, right, top, bottom = self.padding
        H, W = x.shape[-2:]
        rows = [_rows(x, -top, 0), x, _rows(x, H, H + bottom)]
        tall = torch.cat(rows, dim=2) if top or bottom else x
        if max(left, right) <= W:
            return F.pad(tall, (left, right, 0, 0), mode="circular")
        columns = torch.remainder(torch.arange(-left, W + right, device=x.device), W)
        return tall.index_select(3, columns)

    def extra_repr(self) -> str:
        return f"{self.padding}"


@constant
@lru_cache(maxsize=32)
def _lines(first: int, end: int, H: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which row stands for each of ``first`` to ``end``, and whether half a turn away."""
    around = torch.remainder(torch.arange(first, end), 2 * H)
    beyond = around >= H
    return torch.where(beyond, 2 * H - 1 - around, around).to(device), beyond.to(device)


def _rows(x: Tensor, first: int, end: int) -> Tensor:
    """Rows beyond the image, ``(B, C, end - first, W)``."""
    H, W = x.shape[-2:]
    inside, beyond = _lines(first, end, H, x.device)
    near = x.index_select(2, inside)
    far = near.roll(W // 2, 3)
    if W % 2:
        far = 0.5 * (far + near.roll(W // 2 + 1, 3))
    return torch.where(beyond[:, None], far, near)
