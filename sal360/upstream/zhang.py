"""Zhang et al., 2018: the crown kernel as the published code resamples it, row by row.

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
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_float64, as_image, as_tensor, in_range, positive_int
from sal360.nn.windows import max_in_windows


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
    halves = [_half_width(centre, theta, radius, repaired) for theta in thetas]
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


def _half_width(centre: float, theta: float, radius: float, repaired: bool) -> float:
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


def crown_conv2d(
    x: Tensor,
    weight: Tensor,
    radius: float,
    padding_mode: Literal["sphere", "0"] = "sphere",
) -> Tensor:
    """The published crown convolution: per row, resample the weights, correlate, divide.

    What it computes is theirs, dark rows included (see :func:`crown_grid`). How differs: rows
    whose kernels are about equally wide share one convolution, where the code runs one per row.
    The gradient, by autograd, is the adjoint of what is computed. The published backward pass
    finds the first of its image rows by another test than its forward pass, so near the south
    pole its gradient in the image is often another one, and no gradient of this function.

    Args:
        x: ``(B, I, H, W)`` floating.
        weight: ``(O, I, Kt, Kp)``: row 0 is the centre, row ``Kt - 1`` the rim; column 0 looks
            south, then east, north and west; the last column looks south again.
        radius: of the crown, radians, in (0, pi].
        padding_mode: ``"sphere"`` goes on over the seam, ``"0"`` sees zeros beyond it. Neither
            goes over a pole.
    Returns:
        ``(B, O, H, W)``.
    Raises:
        ValueError: shapes that do not fit, another mode, or a radius under about two rows, which
            leaves some row's kernel empty.
    """
    x, weight = as_image(x, "x"), as_tensor(weight, "weight")
    B, C, H, W = x.shape
    if weight.ndim != 4 or weight.shape[1] != C or 0 in weight.shape:
        raise ValueError(f"weight: shape {tuple(weight.shape)}, wanted (O, {C}, Kt, Kp)")
    if weight.dtype != x.dtype:
        raise TypeError(f"weight: dtype {weight.dtype}, wanted that of x, {x.dtype}")
    if padding_mode not in ("sphere", "0"):
        raise ValueError(f"padding_mode: {padding_mode!r}, wanted 'sphere' or '0'")
    with torch.inference_mode(False):
        bands = _bands(H, W, float(radius))
    out_channels = len(weight)
    mode = "circular" if padding_mode == "sphere" else "constant"
    taps = weight.flatten(0, 1)[None]  # (1, O I, Kt, Kp)
    out = []
    for band in bands:
        R, n, m = band.grid.shape[:3]
        kernel = F.grid_sample(taps, band.grid.flatten(0, 1)[None].to(x), align_corners=True)
        kernel = kernel.reshape(out_channels, C, R, n, m) / band.area.to(x)[:, None, None]
        kernel = kernel.permute(2, 0, 1, 3, 4).reshape(-1, C, n, m)
        lines = x[:, :, band.lines.to(x.device)].transpose(1, 2).reshape(B, R * C, n, W)
        lines = F.pad(lines, (m // 2, m - 1 - m // 2, 0, 0), mode=mode)
        out.append(F.conv2d(lines, kernel, groups=R).reshape(B, R, -1, W))
    order = torch.cat([band.rows for band in bands]).argsort().to(x.device)
    return torch.cat(out, 1)[:, order].transpose(1, 2).contiguous()


class _Band(NamedTuple):
    """Output rows whose kernels are about equally wide, made equally wide by weights of zero.

    ``rows (R,)``; ``lines (R, n)`` the image rows each reads; ``grid (R, n, m, 2)`` with the
    kernel's centre in column ``m // 2``; ``area (R,)``.
    """

    rows: Tensor
    lines: Tensor
    grid: Tensor
    area: Tensor


@lru_cache(maxsize=16)
def _bands(H: int, W: int, radius: float) -> list[_Band]:
    grids = crown_grid(H, W, radius)
    by_width: dict[int, list[int]] = {}
    for t, row in enumerate(grids):
        by_width.setdefault(row.grid.shape[1].bit_length(), []).append(t)
    bands = []
    for rows in by_width.values():
        n, m = (max(grids[t].grid.shape[axis] for t in rows) for axis in (0, 1))
        grid = torch.full((len(rows), n, m, 2), -3.0, dtype=torch.float64)  # -3 is outside
        for k, t in enumerate(rows):
            high, wide = grids[t].grid.shape[:2]
            left = m // 2 - wide // 2
            grid[k, :high, left : left + wide] = grids[t].grid
        start = torch.tensor([grids[t].start for t in rows])
        lines = (start[:, None] + torch.arange(n)).clamp(max=H - 1)
        area = torch.tensor([grids[t].area for t in rows], dtype=torch.float64)
        bands.append(_Band(torch.tensor(rows), lines, grid, area))
    return bands


def fixation_map(
    points: ArrayLike, H: int, W: int, padding_mode: Literal["sphere", "0"] = "0"
) -> Tensor:
    """The published ground truth: pixels of 10 blurred by the crown convolution, per fixation.

    The kernel is a Gaussian of 9 degrees on a crown of pi/7, 30 rows by 60 columns. Chapter 10
    looks at what comes of it: a point on the last two rows leaves an empty map, blobs sit about a
    row and a half too low and are cut at the seam, two points on one pixel count as one (but are
    divided by as two), and a peak sinks from .0098 at the equator to .0024 near the pole, for the
    blur divides by pixels of the panorama, not by area. It is no density.

    Args:
        points: ``(N, 2)`` x, y in [0, 1], N at least 1; x from the left edge, y from the top.
        H, W: map size; 128 x 256 is theirs.
        padding_mode: of :func:`crown_conv2d`; theirs is ``"0"``.
    Returns:
        ``(H, W)`` float32, before the factor 10 that their training puts on it.
    Raises:
        ValueError: no points, or points outside [0, 1].
    """
    points = as_float64(points, "points", last=2)
    H, W = positive_int(H, "H"), positive_int(W, "W")
    if points.ndim != 2 or len(points) == 0:
        raise ValueError(f"points: shape {tuple(points.shape)}, wanted (N, 2), N at least 1")
    low, high = points.aminmax()
    if not 0 <= low <= high <= 1:
        raise ValueError(f"points: from {low:g} to {high:g}, wanted x, y in [0, 1]")
    # A point on the right or lower edge is named by the number past the last pixel.
    col = torch.round(points[:, 0] * W).long().clamp(max=W - 1)
    row = torch.round(points[:, 1] * H).long().clamp(max=H - 1)
    image = torch.zeros(1, 1, H, W, device=points.device)
    image[0, 0, row, col] = 10.0
    radius, sigma = math.pi / 7, math.pi / 20
    away = (torch.arange(30, dtype=torch.float64) + 0.5) / 29 * radius
    weight = torch.exp(-((away / sigma) ** 2) / 2)[:, None].expand(30, 60)
    kernel = weight.to(image)[None, None]
    return crown_conv2d(image, kernel, radius, padding_mode)[0, 0] / len(points)


def sphere_pad(x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    """The published padding of a panorama: around the seam, and nowhere else.

    Args:
        x: ``(B, C, H, W)`` floating. pad: ``(left, right, top, bottom)``. Top and bottom are
            accepted, as there, and have no effect.
    Returns:
        ``(B, C, H, left + W + right)``.
    Raises:
        ValueError: sides below 0 or beyond the size of the image.
    """
    x = as_image(x, "x")
    H, W = x.shape[-2:]
    if len(pad) != 4 or not all(0 <= p <= size for p, size in zip(pad, (W, W, H, H), strict=True)):
        raise ValueError(
            f"pad: {pad}, wanted (left, right, top, bottom), at most {W}, {W}, {H}, {H}"
        )
    return F.pad(x, (pad[0], pad[1], 0, 0), mode="circular")


def sphere_pool_widths(H: int, W: int) -> list[int]:
    """Columns of the published spherical pooling window in each pair of rows, north to south.

    The window of rows ``2 i`` and ``2 i + 1`` is as wide as a crown of one row's radius around
    the centre of the *upper* one, so that north and south differ: 128, 16, 9 and on to 12, 28 for
    64 rows. The U-Net does not use it.
    """
    widths = []
    for i in range(0, positive_int(H, "H"), 2):
        theta = (i + 0.5) * math.pi / H
        half = _half_width(theta, theta, math.pi / H, repaired=False)
        # Half a column goes to the even number, as in numpy.
        widths.append(min(max(2, round(2 * half * positive_int(W, "W") / (2 * math.pi))), W))
    return widths


def sphere_pool(x: Tensor) -> Tensor:
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
