"""SST-Sal, 2022: its sampler, so that its official weights reproduce.

Nothing here is how one should do it; everything here is how it was done. SST-Sal's official
weights were trained through a sampler that reads half a pixel up and to the left of where its
own coordinates point, sees zeros beyond the left and top edges, and lets rays that pass a pole
come back on the wrong meridian. A centred sampler changes the output of those weights beyond
recognition, so the shift is kept, in this file alone. Chapter 14 takes it apart.

Source: Bernal-Berdun et al., "SST-Sal", Computers & Graphics 2022, and its repository at
commit dc6a4ba (facts only; the code here is our own). Layouts: row 0 is the top, ``lon = 2 pi
(c + .5) / W - pi``, ``lat = pi / 2 - (r + .5) pi / H``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_floating, as_image, positive_int
from sal360._tables import untraced
from sal360.nn.sampled import as_bias, check_alike
from sal360.resampling import computing_dtype
from sal360.safe_pickle import read_torch_tensors


def tangent_coordinates(H: int, W: int, stride: int = 1) -> Tensor:
    """Where SST-Sal's 3x3 kernel looks, as the published code computes it.

    Taps lie on the tangent plane at the pixel, one pixel step apart. The longitude of a tap is
    a single-argument ``arctan``, so taps beyond a pole land on the near side of it.

    Args:
        H, W: size of the panorama. stride: every how many pixels a kernel stands.
    Returns:
        ``(2, ceil(H / stride), ceil(W / stride), 3, 3)`` float64: row, then column, in pixels.
        The sampler then reads **half a pixel up and left** of these (see :func:`sphere_conv2d`).
    """
    H, W, stride = positive_int(H, "H"), positive_int(W, "W"), positive_int(stride, "stride")
    rows = torch.arange(0, H, stride, dtype=torch.float64)
    cols = torch.arange(0, W, stride, dtype=torch.float64)
    lat = (math.pi / 2 - (rows + 0.5) * math.pi / H)[:, None, None]
    lon = 2 * math.pi * (cols + 0.5) / W - math.pi
    dlat, dlon = math.pi / H, 2 * math.pi / W

    right, up = math.tan(dlon), math.tan(dlat)
    corner = up / math.cos(dlon)
    x = torch.tensor([[-right, 0, right]] * 3, dtype=torch.float64)
    y = torch.tensor(
        [[corner, up, corner], [0, 0, 0], [-corner, -up, -corner]], dtype=torch.float64
    )
    rho = torch.hypot(x, y)
    rho[1, 1] = 1.0  # the centre tap is the pixel itself and is set below
    nu = torch.atan(rho)
    cos_nu, sin_nu = torch.cos(nu), torch.sin(nu)
    new_lat = torch.asin(cos_nu * torch.sin(lat) + y * sin_nu * torch.cos(lat) / rho)
    turn = torch.atan(x * sin_nu / (rho * torch.cos(lat) * cos_nu - y * torch.sin(lat) * sin_nu))

    row = (math.pi / 2 - new_lat) * H / math.pi - 0.5
    row[:, 1, 1] = rows
    col = (lon[None, :, None, None] + turn[:, None] + math.pi) * W / (2 * math.pi) - 0.5 + W
    col = torch.remainder(col, W)
    col[:, :, 1, 1] = cols
    return torch.stack((row[:, None].expand_as(col), col))


@untraced
@lru_cache(maxsize=16)
def _tangent_grid(H: int, W: int, stride: int, device: torch.device) -> Tensor:
    """The coordinates as ``grid_sample`` takes them: ``(1, 3H', 3W', 2)`` float32, x then y.

    Normalised as ``2 c / W - 1``, the convention of ``align_corners=True`` short of a pixel, but
    read with ``align_corners=False``: that is the half-pixel shift.
    """
    row, col = tangent_coordinates(H, W, stride)
    grid = torch.stack((2 * col / W - 1, 2 * row / H - 1), dim=-1).float()
    rows, cols = grid.shape[:2]
    grid = grid.permute(0, 2, 1, 3, 4).reshape(1, 3 * rows, 3 * cols, 2)
    return grid.contiguous().to(device)


def _spread(x: Tensor, stride: int) -> Tensor:
    """``(B, C, H, W)`` to ``(B, C, 3H', 3W')``: under every kernel its own nine samples.

    Places keep their precision where the picture has half of it: rounded to bfloat16 they are
    off by up to a column in 320.
    """
    exact = computing_dtype(x)
    grid = _tangent_grid(x.shape[-2], x.shape[-1], stride, x.device)
    grid = grid.to(exact).expand(x.shape[0], -1, -1, -1)
    read = F.grid_sample(
        x.to(exact), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return read.to(x.dtype)


def sphere_conv2d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: int = 1
) -> Tensor:
    """SST-Sal's spherical convolution with its half-pixel shift and its zero edges.

    A constant image of ones and an averaging kernel give .25 in the top left corner and .5
    along the top and left edges. A pattern without these faults is
    :func:`sal360.patterns.tangent_pattern` (chapter 05).

    Args:
        x: ``(B, I, H, W)`` floating. weight: ``(O, I, 3, 3)``, row 0 looks up. bias: ``(O,)``.
        stride: kernels stand on rows and columns 0, stride, 2 stride, ...
    Returns:
        ``(B, O, ceil(H / stride), ceil(W / stride))``.
    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit.
    """
    x, weight = as_image(x, "x"), as_floating(weight, "weight")
    C = x.shape[1]
    if weight.ndim != 4 or weight.shape[1:] != (C, 3, 3):
        raise ValueError(f"weight: shape {tuple(weight.shape)}, wanted (O, {C}, 3, 3)")
    bias = as_bias(bias, len(weight))
    check_alike(x, weight, bias)
    return F.conv2d(_spread(x, stride), weight, bias, stride=3)


def sphere_max_pool2d(x: ArrayLike, stride: int = 2) -> Tensor:
    """Maximum over the same nine (shifted) samples as :func:`sphere_conv2d`.

    Args:
        x: ``(B, C, H, W)``. stride: 1 or more.
    Returns:
        ``(B, C, ceil(H / stride), ceil(W / stride))``.
    """
    x = as_image(x, "x")
    return F.max_pool2d(_spread(x, stride), 3)


def load_sst_sal(path: str | Path) -> dict[str, Tensor]:
    """State dict of an official SST-Sal checkpoint, read without executing it.

    The ``.pth`` files are pickled whole modules; see :mod:`sal360.safe_pickle`.

    Args:
        path: ``SST_Sal.pth`` (with optical flow) or ``SST_Sal_wo_OF.pth`` (without).
    Returns:
        ``encoder.lstm.conv.weight (4h, c + h, 3, 3)``, its bias, and the decoder's pair.
    Raises:
        FileNotFoundError, sal360.safe_pickle.UnsafePickleError, ValueError.
    """
    tensors = read_torch_tensors(path)
    parts, kinds = ("encoder", "decoder"), ("weight", "bias")
    wanted = {f"{part}.lstm.conv.{kind}" for part in parts for kind in kinds}
    if set(tensors) != wanted:
        raise ValueError(f"{path}: holds {sorted(tensors)}, wanted {sorted(wanted)}")
    return tensors
