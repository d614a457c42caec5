"""Zhang et al., 2018: padding and pooling of a panorama, as published.

The pooling grows with latitude, as it should, by the width of a crown around the upper of two
rows; the padding goes around the seam only. Their U-Net uses neither by itself: it pools like
any other network, and its convolution pads inside.

Source: as :mod:`sal360.upstream.zhang_grid`.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_image, positive_int, whole_number
from sal360.nn.windows import max_in_windows
from sal360.upstream.zhang_grid import half_width


def sphere_pad(x: ArrayLike, pad: tuple[int, int, int, int]) -> Tensor:
    """The published padding of a panorama: around the seam, and nowhere else.

    Args:
        x: ``(B, C, H, W)`` floating. pad: ``(left, right, top, bottom)``. Top and bottom are
            accepted, as there, and have no effect.
    Returns:
        ``(B, C, H, left + W + right)``.
    Raises:
        ValueError: sides below 0 or beyond the size of the image. TypeError: no whole numbers.
    """
    x = as_image(x, "x")
    H, W = x.shape[-2:]
    sides = pad if isinstance(pad, (tuple, list)) else ()
    widths, most = tuple(whole_number(p, "pad") for p in sides), (W, W, H, H)
    if len(widths) != 4 or not all(0 <= p <= top for p, top in zip(widths, most, strict=True)):
        raise ValueError(
            f"pad: {pad!r}, wanted (left, right, top, bottom), at most {W}, {W}, {H}, {H}"
        )
    return F.pad(x, (widths[0], widths[1], 0, 0), mode="circular")


def sphere_pool_widths(H: int, W: int) -> list[int]:
    """Columns of the published spherical pooling window in each pair of rows, north to south.

    The window of rows ``2 i`` and ``2 i + 1`` is as wide as a crown of one row's radius around
    the centre of the *upper* one, so that north and south differ: 128, 16, 9 and on to 12, 28 for
    64 rows. The U-Net does not use it.
    """
    widths = []
    for i in range(0, positive_int(H, "H"), 2):
        theta = (i + 0.5) * math.pi / H
        half = half_width(theta, theta, math.pi / H, repaired=False)
        # Half a column goes to the even number, as in numpy.
        widths.append(min(max(2, round(2 * half * positive_int(W, "W") / (2 * math.pi))), W))
    return widths


def sphere_pool(x: ArrayLike) -> Tensor:
    """The published spherical pooling: maxima of two rows and :func:`sphere_pool_widths` columns.

    An odd window has its extra column on the left. The published code refuses an odd number of
    rows; here the last one is pooled by itself.

    Args:
        x: ``(B, C, H, W)`` floating.
    Returns:
        ``(B, C, ceil(H / 2), ceil(W / 2))``.
    """
    x = as_image(x, "x")
    width = sphere_pool_widths(x.shape[-2], x.shape[-1])
    return max_in_windows(x, width, [(m - 1) // 2 for m in width])
