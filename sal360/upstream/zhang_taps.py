"""Zhang et al., 2018: the published crown kernel seen from its taps.

To interpolate a kernel at every pixel of a neighbourhood and sum its products with the pixels is
to spread every pixel over the four taps around it and sum those: the same numbers, added up in
another order. The first keeps a kernel of its own for every row, each with all channels times all
channels; the second keeps one table for all channels, of the kind that every other layer has
(:mod:`sal360.nn.sampled`). Which is smaller hangs on the channels, and so do the times.

Source: as :mod:`sal360.upstream.zhang_grid`.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sal360._tables import untraced
from sal360.nn.reads import Entries, Reads, reads_along_rows
from sal360.upstream.zhang_grid import CrownRow, crown_grid


@untraced
def crown_reads(
    size: tuple[int, int],
    radius: float,
    taps: tuple[int, int],
    products: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Reads:
    """The table of a published crown on a panorama ``size``, its seam closed; kept.

    Args:
        taps: ``(Kt, Kp)``. products: see :func:`sal360.nn.reads.reads_of`.
    """
    return _kept(size, radius, taps, products, dtype, str(device))


@lru_cache(maxsize=16)
def _kept(
    size: tuple[int, int],
    radius: float,
    taps: tuple[int, int],
    products: bool,
    dtype: torch.dtype,
    device: str,
) -> Reads:
    rows = crown_grid(*size, radius)
    parts = [_entries(t, row, size[0], taps) for t, row in enumerate(rows)]
    entries = Entries(*(torch.cat(field) for field in zip(*parts, strict=True)))
    count = taps[0] * taps[1]
    return reads_along_rows(entries, size, size[0], count, products=products).to(device, dtype)


def _entries(line: int, crown: CrownRow, H: int, taps: tuple[int, int]) -> Entries:
    """Each pixel of one row's neighbourhood, spread over the taps around it."""
    Kt, Kp = taps
    n, m = crown.grid.shape[:2]
    u = (crown.grid[..., 0] + 1) / 2 * (Kp - 1)
    v = (crown.grid[..., 1] + 1) / 2 * (Kt - 1)
    row = (crown.start + torch.arange(n)).clamp(max=H - 1)[:, None].expand(n, m)
    col = (torch.arange(m) - m // 2).expand(n, m)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for tap_v in (v.floor(), v.floor() + 1):
        for tap_u in (u.floor(), u.floor() + 1):
            weight = (1 - (v - tap_v).abs()) * (1 - (u - tap_u).abs()) / crown.area
            used = (tap_v >= 0) & (tap_v < Kt) & (tap_u >= 0) & (tap_u < Kp) & (weight > 0)
            tap = (tap_v * Kp + tap_u).long()
            found.append((tap[used], row[used], col[used], weight[used]))
    tap, row, col, weight = (torch.cat(part) for part in zip(*found, strict=True))
    order = torch.argsort(tap, stable=True)
    there = torch.full_like(tap, line)
    return Entries(there, tap[order], row[order], col[order], weight[order])
