"""Vo et al., 2020: the neighbour table of their look-up convolution, for any size.

The code reads eight neighbours of every pixel from a table that was never published; its
README prints one entry, pixel (0, 0) of 240 x 480. All eight columns of that entry follow from
a ring of one row's radius on a lattice, but more than one lattice and rounding rule does, so
both that are known are here. Chapter 05 finds them.

Source: repository vhchuong/Saliency-prediction-for-360-degree-video at commit 35d510d (facts
only; the code here is our own).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sal360._check import positive_int

RING_SLOTS = ((2, 1), (2, 2), (1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0))
"""Place of each neighbour in the 3 x 3 kernel: S, SE, E, NE, N, NW, W, SW."""

Lattice = Literal["ends", "corners"]


def ring_table(H: int, W: int, lattice: Lattice = "ends") -> Tensor:
    """Eight neighbours of every pixel: the points of a ring around it, as whole pixels.

    - ``"ends"``: row ``i`` is at colatitude ``i pi / (H - 1)`` and column ``j`` at longitude
      ``2 pi j / (W - 1)``, so that both poles and both copies of the seam are on the lattice;
      places are cut down to whole pixels.
    - ``"corners"``: ``i pi / H`` and ``2 pi j / W``; rows are rounded, columns are rounded up
      and moved back by one.

    A neighbour that falls on a pole has every longitude; column ``j`` is returned for it.

    Args:
        H, W: size of the panorama, each at least 2.
        lattice: which of the two.
    Returns:
        ``(H, W, 2, 8)`` int64: ``[..., 0, :]`` columns, ``[..., 1, :]`` rows, the neighbours in
        the order of :data:`RING_SLOTS`.
    Raises:
        ValueError: a size below 2, an unknown lattice.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    for name, size in (("H", H), ("W", W)):
        if size < 2:
            raise ValueError(f"{name}: {size}, wanted at least 2")
    if lattice not in ("ends", "corners"):
        raise ValueError(f"lattice: {lattice!r}, wanted 'ends' or 'corners'")
    height, width = (H - 1, W - 1) if lattice == "ends" else (H, W)
    theta = torch.arange(H, dtype=torch.float64)[:, None] * (math.pi / height)
    bearing = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    step = math.pi / height
    # A ring around the north pole, tilted down by theta: y stays, x and z turn.
    x, y, z = (
        math.sin(step) * torch.cos(bearing),
        math.sin(step) * torch.sin(bearing),
        math.cos(step),
    )
    south = torch.cos(theta) * x + torch.sin(theta) * z
    up = torch.cos(theta) * z - torch.sin(theta) * x
    # Ties are the rule here, not the exception: half of the neighbours lie on lattice lines.
    # Nine decimals of a pixel hold them still whatever the machine's last digit is.
    row = torch.round(torch.atan2(torch.hypot(south, y), up) * (height / math.pi), decimals=9)
    turn = torch.atan2(y.expand_as(south), south)
    at_pole = torch.hypot(south, y) < 1e-9
    turn = torch.where(at_pole, torch.zeros_like(turn), turn) * (width / (2 * math.pi))
    col = torch.arange(W, dtype=torch.float64)[:, None, None] + turn
    col = torch.round(torch.remainder(col, width), decimals=9)
    if lattice == "ends":
        row, col = torch.floor(row), torch.floor(torch.where(col == 0, width + 0.0, col))
    else:
        row, col = torch.round(row).clamp(max=H - 1), torch.remainder(torch.ceil(col) - 1, W)
    return torch.stack((col.permute(1, 0, 2), row[:, None].expand(H, W, 8)), dim=2).long()
