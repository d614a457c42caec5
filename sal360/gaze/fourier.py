"""A smooth map on the sphere is doubly periodic: it can be read off a coarse lattice exactly.

A meridian that walks over the pole goes on at longitude + 180 degrees, so a map on pixel-centre
latitudes, followed by itself upside down and turned by half, repeats after ``2 H`` rows as it
repeats after ``W`` columns ("double Fourier sphere": Merilees, "The pseudospectral approximation
applied to the shallow water equations on a sphere", 1973). Whatever has no finer waves than the
lattice can carry is found between its pixels by trigonometric interpolation, poles and seam
included. Chapter 10 uses it to draw wide kernels quickly.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def resample_smooth(maps: Tensor, H: int, W: int) -> Tensor:
    """Values at the pixel centres of ``H x W`` of the smooth maps that pass through ``maps``.

    Args:
        maps: ``(..., h, w)`` floating, on pixel centres, ``w`` even; no waves of half a period
            below ``pi / h`` in latitude or ``2 pi / w`` in longitude.
        H, W: size wanted, finer or coarser.
    Returns:
        ``(..., H, W)`` of the same type. A constant stays constant to rounding.
    Raises:
        ValueError: an odd ``w``: no column lies opposite to a column.
    """
    h, w = maps.shape[-2:]
    if w % 2:
        raise ValueError(f"maps: {w} columns, wanted an even number")
    around = torch.cat((maps, maps.flip(-2).roll(w // 2, -1)), -2)
    rows = _periodic(2 * h, 2 * H)[:H].to(maps)
    return rows @ around @ _periodic(w, W).to(maps).T


@lru_cache(maxsize=16)
def _periodic(n: int, m: int) -> Tensor:
    """``(m, n)``: from ``n`` samples of a period, at centres, to ``m`` samples, at centres."""
    # A cached tensor made in inference mode could never meet a gradient.
    with torch.inference_mode(False):
        new, old = ((torch.arange(k, dtype=torch.float64) + 0.5) * (math.pi / k) for k in (m, n))
        half = new[:, None] - old
        here = torch.sin(half).abs() < 1e-13
        below = torch.sin(half) if n % 2 else torch.tan(half)
        return torch.where(here, 1.0, torch.sin(n * half) / (n * below.masked_fill(here, 1.0)))
