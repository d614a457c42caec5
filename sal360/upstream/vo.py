"""Vo et al., 2020: the look-up convolution, and its neighbour table for any size.

The code reads eight neighbours of every pixel from a table that was never published; its
README prints one entry, pixel (0, 0) of 240 x 480. All eight columns of that entry follow from
a ring of one row's radius on a lattice, but more than one lattice and rounding rule does, so
both that are known are here. Chapter 05 finds them.

Source: repository vhchuong/Saliency-prediction-for-360-degree-video at commit 35d510d (facts
only; the code here is our own).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from sal360._check import ArrayLike, as_floating, as_image, as_tensor, positive_int
from sal360._tables import eager, untraced
from sal360.nn.reads import Reads, reads_between
from sal360.nn.sampled import as_bias, check_alike, convolve
from sal360.resampling import computing_dtype

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


@eager
def lookup_conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    table: ArrayLike | None = None,
    lattice: Lattice = "ends",
) -> Tensor:
    """The published convolution: nine looked-up pixels, one product.

    There, the nine pixels of every kernel are laid out in an image three times as high and wide,
    which an ordinary convolution of stride 3 then reads. Here they are read where they lie: the
    same sums, a ninth of the memory.

    Args:
        x: ``(B, I, H, W)`` floating; half precisions are computed in float32.
        weight: ``(O, I, 3, 3)``. bias: ``(O,)``.
        table: ``(H, W, 2, 8)`` whole numbers, as :func:`ring_table` makes them, to be used
            instead of its. Do not change one in place: what follows from it is kept.
        lattice: of the table that is made if none is given.
    Returns:
        ``(B, O, H, W)``.
    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit, places outside of the
            image.
    """
    x, weight = as_image(x, "x"), as_floating(weight, "weight")
    I, H, W = x.shape[1:]
    if weight.ndim != 4 or weight.shape[1:] != (I, 3, 3) or len(weight) == 0:
        raise ValueError(f"weight: shape {tuple(weight.shape)}, wanted (O, {I}, 3, 3)")
    O = len(weight)
    bias = as_bias(bias, O)
    check_alike(x, weight, bias)
    table = _table(H, W, lattice) if table is None else as_tensor(table, "table")
    reads = _reads_of(table, (H, W), O <= I, computing_dtype(x), x.device)
    return convolve(x, weight.flatten(2), reads, (H, W), bias, project_first=O <= I)


_KEPT = WeakTensorKeyDictionary()


@untraced
@lru_cache(maxsize=16)
def _table(H: int, W: int, lattice: Lattice) -> Tensor:
    return ring_table(H, W, lattice)


@untraced
def _reads_of(
    table: Tensor, size: tuple[int, int], products: bool, dtype: torch.dtype, device: torch.device
) -> Reads:
    """Samples of a table, or products of pixels and taps; kept for as long as the table lives."""
    kept = _KEPT.setdefault(table, {})
    key = (size, products, dtype, str(device))
    if key not in kept:
        kept[key] = _reads(_checked(table, *size), products).to(device, dtype)
    reads: Reads = kept[key]
    return reads


def _checked(table: Tensor, H: int, W: int) -> Tensor:
    if table.shape != (H, W, 2, 8) or table.is_floating_point():
        found = f"{table.dtype} of shape {tuple(table.shape)}"
        raise ValueError(f"table: {found}, wanted whole numbers ({H}, {W}, 2, 8)")
    table = table.long().cpu()
    if not bool(((table >= 0) & (table < torch.tensor([[W], [H]]))).all()):
        raise ValueError(f"table: names pixels outside of the {H} x {W} image")
    return table


def _reads(table: Tensor, products: bool) -> Reads:
    H, W = table.shape[:2]
    pixel = torch.empty(H * W, 9, dtype=torch.long)
    pixel[:, 4] = torch.arange(H * W)
    slots = [3 * row + col for row, col in RING_SLOTS]
    pixel[:, slots] = (table[:, :, 1] * W + table[:, :, 0]).flatten(0, 1)
    into, source = torch.arange(H * W * 9), pixel.flatten()
    if products:  # each pixel's products with the nine taps stand together
        into, source, size = into // 9, source * 9 + into % 9, (H * W, H * W * 9)
    else:
        size = (H * W * 9, H * W)
    return reads_between(into, source, torch.ones(len(into)), size)
