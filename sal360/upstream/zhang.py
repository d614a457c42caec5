"""Zhang et al., 2018: the crown convolution of the published code, and its ground truth.

What is computed is in :mod:`sal360.upstream.zhang_grid`, dark rows included; this file computes
it, in one of two ways that give the same numbers.

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

from sal360._check import ArrayLike, as_float64, as_floating, as_image, in_range, positive_int
from sal360._tables import untraced
from sal360.nn.sampled import check_alike, convolve
from sal360.resampling import computing_dtype
from sal360.upstream.zhang_grid import crown_grid
from sal360.upstream.zhang_taps import crown_reads

FEW = 64
"""Products of channels up to which kernels are resampled: below, a table takes longer to make
than it saves."""


def crown_conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    radius: float,
    padding_mode: Literal["sphere", "0"] = "sphere",
) -> Tensor:
    """The published crown convolution: per row, resample the weights, correlate, divide.

    What it computes is theirs, dark rows included (see :func:`crown_grid`). How differs. Of few
    channels, rows whose kernels are about equally wide share one convolution, where the code
    runs one per row. Of many, the kernels of all rows, each with its channels times channels,
    would fill the memory (9.6 GB for the U-Net): there every pixel is spread over the taps around
    it instead (:mod:`sal360.upstream.zhang_taps`), which adds up the same products in another
    order. The gradient, by autograd, is the adjoint of what is computed. The published backward
    pass finds the first of its image rows by another test than its forward pass, so near the
    south pole its gradient in the image is often another one, and no gradient of this function.

    Args:
        x: ``(B, I, H, W)`` floating; half precisions are computed in float32.
        weight: ``(O, I, Kt, Kp)``: row 0 is the centre, row ``Kt - 1`` the rim; column 0 looks
            south, then east, north and west; the last column looks south again.
        radius: of the crown, radians, in (0, pi].
        padding_mode: ``"sphere"`` goes on over the seam, ``"0"`` sees zeros beyond it. Neither
            goes over a pole.
    Returns:
        ``(B, O, H, W)``.
    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit, another mode, or a
            radius under about two rows, which leaves some row's kernel empty.
    """
    x, weight = as_image(x, "x"), as_floating(weight, "weight")
    C, H, W = x.shape[1:]
    if weight.ndim != 4 or weight.shape[1] != C or 0 in weight.shape:
        raise ValueError(f"weight: shape {tuple(weight.shape)}, wanted (O, {C}, Kt, Kp)")
    check_alike(x, weight)
    if padding_mode not in ("sphere", "0"):
        raise ValueError(f"padding_mode: {padding_mode!r}, wanted 'sphere' or '0'")
    radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
    exact = computing_dtype(x)
    if padding_mode == "sphere" and len(weight) * C > FEW:
        products, (Kt, Kp) = len(weight) <= C, weight.shape[2:]
        reads = crown_reads((H, W), radius, (Kt, Kp), products, exact, x.device)
        return convolve(x, weight.flatten(2), reads, (H, W), project_first=products)
    with torch.autocast(x.device.type, enabled=False):
        return crown_in_bands(x.to(exact), weight.to(exact), radius, padding_mode).to(x.dtype)


def crown_in_bands(
    x: Tensor, weight: Tensor, radius: float, padding_mode: Literal["sphere", "0"] = "sphere"
) -> Tensor:
    """:func:`crown_conv2d` nearest to the way the code goes: resample the weights row by row.

    What the benchmarks call the published crown; arguments are not checked.
    """
    B, C, H, W = x.shape
    bands = _bands(H, W, radius)
    out_channels = len(weight)
    mode = "circular" if padding_mode == "sphere" else "constant"
    taps = weight.flatten(0, 1)[None]  # (1, O I, Kt, Kp)
    out = []
    for band in bands:
        R, n, m = band.grid.shape[:3]
        kernel = F.grid_sample(taps, band.grid.flatten(0, 1)[None].to(x), align_corners=True)
        kernel = kernel.reshape(out_channels, C, R, n, m) / band.area.to(x)
        kernel = kernel.permute(2, 0, 1, 3, 4).reshape(-1, C, n, m)
        lines = x[:, :, band.lines.to(x.device)].transpose(1, 2).reshape(B, R * C, n, W)
        lines = F.pad(lines, (m // 2, m - 1 - m // 2, 0, 0), mode=mode)
        out.append(F.conv2d(lines, kernel, groups=R).reshape(B, R, -1, W))
    order = torch.cat([band.rows for band in bands]).argsort().to(x.device)
    return torch.cat(out, 1)[:, order].transpose(1, 2).contiguous()


class _Band(NamedTuple):
    """Output rows whose kernels are about equally wide, made equally wide by weights of zero.

    ``rows (R,)``; ``lines (R, n)`` the image rows each reads; ``grid (R, n, m, 2)`` with the
    kernel's centre in column ``m // 2``; ``area (R, n, m)``, infinite where a row has no entry of
    its own: no place is outside of a kernel of one circle or one bearing.
    """

    rows: Tensor
    lines: Tensor
    grid: Tensor
    area: Tensor


@untraced
@lru_cache(maxsize=16)
def _bands(H: int, W: int, radius: float) -> list[_Band]:
    grids = crown_grid(H, W, radius)
    by_width: dict[int, list[int]] = {}
    for t, row in enumerate(grids):
        by_width.setdefault(row.grid.shape[1].bit_length(), []).append(t)
    bands = []
    for rows in by_width.values():
        n, m = (max(grids[t].grid.shape[axis] for t in rows) for axis in (0, 1))
        grid = torch.zeros(len(rows), n, m, 2, dtype=torch.float64)
        area = torch.full((len(rows), n, m), math.inf, dtype=torch.float64)
        for k, t in enumerate(rows):
            high, wide = grids[t].grid.shape[:2]
            left = m // 2 - wide // 2
            grid[k, :high, left : left + wide] = grids[t].grid
            area[k, :high, left : left + wide] = grids[t].area
        start = torch.tensor([grids[t].start for t in rows])
        lines = (start[:, None] + torch.arange(n)).clamp(max=H - 1)
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
