"""Flow on the sphere: where a pixel is carried to, as a direction, and how far that is off.

A distance in pixels means little here: a pixel at the pole is a hundred times narrower than one
at the equator. The angle between where flow leads and where it should lead means the same
everywhere.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import ArrayLike, as_float64
from sal360.sphere import angle_between, lonlat_to_xyz


def flow_directions(flow: ArrayLike) -> Tensor:
    """Direction that each pixel is carried to; rows beyond the picture go on over the pole.

    Args:
        flow: ``(..., 2, H, W)`` pixels, right and down.
    Returns:
        ``(..., H, W, 3)`` float64 unit vectors.
    Raises:
        ValueError: another shape, NaN.
    """
    tensor = as_float64(flow, "flow")
    if tensor.ndim < 3 or tensor.shape[-3] != 2 or 0 in tensor.shape:
        raise ValueError(f"flow: shape {tuple(tensor.shape)}, wanted (..., 2, H, W)")
    H, W = tensor.shape[-2:]
    right, down = tensor.unbind(-3)
    col = torch.arange(W, dtype=torch.float64, device=tensor.device) + right
    row = torch.arange(H, dtype=torch.float64, device=tensor.device)[:, None] + down
    return lonlat_to_xyz(((col + 0.5) / W - 0.5) * (2 * math.pi), (0.5 - (row + 0.5) / H) * math.pi)


def endpoint_error(flow: ArrayLike, truth: ArrayLike) -> Tensor:
    """Angle between where flow leads and where the truth leads, in **degrees**. Chapter 14.

    Weight it with :func:`sal360.sphere.pixel_area` for a mean over the sphere.

    Args:
        flow, truth: ``(..., 2, H, W)`` pixels, of one shape.
    Returns:
        ``(..., H, W)`` float64 degrees in [0, 180].
    Raises:
        ValueError: shapes that differ, NaN.
    """
    ends, wanted = flow_directions(flow), flow_directions(truth)
    if ends.shape != wanted.shape:
        found, other = (tuple(torch.as_tensor(a).shape) for a in (flow, truth))
        raise ValueError(f"truth: shape {other}, wanted that of flow, {found}")
    return torch.rad2deg(angle_between(ends, wanted.to(ends.device)))


def tangent_flow(flow: ArrayLike) -> Tensor:
    """Flow as it looks from the centre: how far, and which way at the start. Chapter 14.

    Beside a pole a small step is many columns, up to half the width. A picture of colours that
    are relative to the fastest pixel would show nothing else, and a network that reads flow as
    numbers would see the grid and not the motion. Here lengths are angles, in heights of a row,
    and the two components are east and south at the start of the shortest way.

    Args:
        flow: ``(..., 2, H, W)`` pixels, right and down.
    Returns:
        ``(..., 2, H, W)`` float64, at most ``H`` long. At the equator of a 2:1 panorama, for
        small steps, the same numbers.
    Raises:
        ValueError: another shape, NaN.
    """
    ends = flow_directions(flow)
    H, W = ends.shape[-3:-1]
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W - 0.5) * (2 * math.pi)
    lat, lon = (a.to(ends.device) for a in torch.meshgrid(lat, lon, indexing="ij"))
    east = torch.stack((torch.cos(lon), torch.zeros_like(lon), -torch.sin(lon)), -1)
    south = lonlat_to_xyz(lon, lat - math.pi / 2)  # a quarter turn down along the meridian
    start = flow_directions(torch.zeros(2, H, W, dtype=torch.float64, device=ends.device))
    away = ends - start  # nothing along the start itself, and exactly 0 where nothing moves
    side = torch.stack(((away * east).sum(-1), (away * south).sum(-1)), -3)
    sine = torch.linalg.vector_norm(side, dim=-3, keepdim=True)
    angle = torch.atan2(sine, (ends * start).sum(-1)[..., None, :, :])
    # Straight ahead the ratio is 1; opposite, every way is the shortest, and none is taken.
    ratio = torch.where(sine > 1e-12, angle / sine.clamp_min(1e-12), torch.ones_like(angle))
    return side * ratio * (H / math.pi)


def pixels_between(
    rays: NDArray[np.floating], moved: NDArray[np.floating], H: int, W: int
) -> NDArray[np.floating]:
    """Right and down from one direction to another, across the seam the short way.

    The angle about the vertical comes from the sine and cosine between the two: it needs no
    wrapping, loses no digits when they are close, and is exactly 0 where they are equal.

    Args:
        rays, moved: ``(n, 3)`` directions; the length of ``moved`` does not matter.
    Returns:
        ``(2, n)`` pixels.
    """
    x, y, z = rays.T
    a, b, c = moved.T
    right = np.arctan2(a * z - c * x, a * x + c * z)
    level, flat = np.sqrt(a * a + c * c), np.sqrt(x * x + z * z)
    down = np.arctan2(b * flat - y * level, level * flat + b * y)
    return np.stack((right * (W / (2 * math.pi)), down * (H / math.pi)))
