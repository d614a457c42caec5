"""Zhang et al., 2018: where each pixel of a neighbourhood falls in the crown kernel, row by row.

Their convolution turns the question around: it does not ask which pixels the kernel's taps
fall on, but where in the kernel each pixel of the neighbourhood falls, and interpolates the
kernel there. Rows are named by their upper edge (row 0 is the pole itself), both ends of every
interval are sampled, and at the rim a rounding error can turn a sliver into a whole circle of
latitude: chapter 05 shows the rows in which it does, chapter 07 what they do to a picture.

Source: Zhang et al., "Saliency detection in 360 videos", ECCV 2018, and its repository
xuyanyu-shh/Saliency-detection-in-360-video at commit 45073a9 (facts only; the code is our own).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import in_range, positive_int


class CrownRow(NamedTuple):
    """How the published convolution computes one row of its output.

    Attributes:
        start: first of the image rows it reads.
        grid: ``(n, m, 2)`` float64, for ``n`` rows and ``m`` columns of the image around the
            kernel's centre: x (bearing, -1 to 1 for 0 to 2 pi from the south) and y (distance,
            -1 at the centre, 1 at the rim) in the kernel, as ``grid_sample`` takes them with
            ``align_corners=True``. Entries beyond 1 lie outside the crown; rows of the image
            in which the code finds no longitude inside it hold -3, which is outside too.
        area: what the row is divided by: the pixels of the panorama inside the crown, a real
            number and no area, for want of the sine of latitude.
    """

    start: int
    grid: Tensor
    area: float


def crown_grid(H: int, W: int, radius: float, repaired: bool = False) -> list[CrownRow]:
    """The published sampling grids of a crown of ``radius`` on an ``H x W`` panorama.

    Args:
        H, W: size of the panorama.
        radius: of the crown, radians, in (0, pi].
        repaired: take a cosine over 1 for no longitude at all, as it should be, not for all of
            them: no row blows up. Nothing else is changed.
    Returns:
        One :class:`CrownRow` for each of the ``H`` rows.
    Raises:
        ValueError: a radius under which some row's kernel is empty (about two rows).
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
    return [_crown_row(t, H, W, radius, repaired) for t in range(H)]


def _crown_row(t: int, H: int, W: int, radius: float, repaired: bool) -> CrownRow:
    # Which rows blow up hangs on the last digit, so the order of operations is theirs.
    centre = t / (H / math.pi)
    low, high = max(centre - radius, 0.0), min(centre + radius, math.pi)
    n = int((high - low) * (H / math.pi))
    if n < 1:
        raise ValueError(f"radius: {radius:g}, wanted at least one row, {math.pi / H:.3g}")
    thetas = torch.linspace(low, high, n, dtype=torch.float64).tolist()
    halves = [half_width(centre, theta, radius, repaired) for theta in thetas]
    widest = 2 * max(halves)
    m = int(widest * W / (2 * math.pi))
    if m < 1:
        raise ValueError(f"radius: {radius:g} leaves row {t} of {H} x {W} without a pixel")
    first, last = math.pi - widest / 2, math.pi + widest / 2
    phi = first + torch.arange(m, dtype=torch.float64) * ((last - first) / max(m - 1, 1))
    start = 0 if centre - radius < 0 else t - math.ceil(radius * H / math.pi)
    grid = _in_kernel(centre, torch.tensor(thetas, dtype=torch.float64)[:, None], phi, radius)
    grid[torch.tensor(halves) == 0] = -3.0
    return CrownRow(start, grid, sum(2 * half for half in halves) * W / (2 * math.pi))


def half_width(centre: float, theta: float, radius: float, repaired: bool) -> float:
    """Half of the longitudes that the crown covers at one colatitude, as the code has it."""
    if abs(theta - centre) >= radius:
        return 0.0
    if centre in (0.0, math.pi):
        return math.pi
    if theta in (0.0, math.pi):
        return 0.0  # a pole inside the crown is dropped
    cosine = (math.cos(radius) - math.cos(centre) * math.cos(theta)) / (
        math.sin(centre) * math.sin(theta)
    )
    if repaired and cosine > 1:
        return 0.0
    # Just inside the rim rounding may leave a cosine just over 1: no longitude at all, taken
    # for all of them.
    return math.pi if abs(cosine) > 1 else math.acos(cosine)


def _in_kernel(centre: float, theta: Tensor, phi: Tensor, radius: float) -> Tensor:
    """Turn the kernel's centre to the north pole and read colatitude and longitude there.

    A pixel straight south has the bearing 0 or 2 pi, and the centre any at all, by the last
    digit; the first and the last column of weights differ. The order of operations is theirs.
    """
    x, y = torch.sin(theta) * torch.cos(phi), torch.sin(theta) * torch.sin(phi)
    z = torch.cos(theta).expand_as(x)
    turn, flip = math.sin(math.pi), math.cos(math.pi)  # the centre's meridian, to phi = 0
    x, y = flip * x + turn * y, -turn * x + flip * y
    south = math.cos(centre) * x - math.sin(centre) * z + 0.0  # + 0.0: no negative zero
    up = math.sin(centre) * x + math.cos(centre) * z
    distance = torch.acos(up.clamp(-1, 1))
    bearing = torch.remainder(torch.atan2(y, south), 2 * math.pi)
    return torch.stack((bearing / math.pi - 1, 2 * distance / radius - 1), dim=-1)
