"""Cheng et al., 2018 (CP-360): from panorama to cube and back as published, and the viewport.

Three conventions meet here that do not fit together. On the way to the cube a texel's place is
that of its **left upper corner**, not of its centre; the panorama's pixels are counted from 1, so
everything is read one pixel to the right and one below; and nothing is read over the seam. On the
way back the panorama's pixels are centres, but the face is stretched so that its outermost
*centres* lie on the cube's edges. Angles come from tables with linear interpolation between their
entries, up to a thousandth of a pixel off. Chapter 04 derives what is right.

Source: hsientzucheng/CP-360-Weakly-Supervised-Saliency at dde55cc (facts only; the code is our
own). Faces B D F L R T. Their axes: x ahead, y up, z right.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import as_image, as_size, finite_number, in_range, positive_int
from sal360._tables import untraced
from sal360.nn.cube import face_size
from sal360.resampling import computing_dtype

_STEPS = 32
"""OpenCV's ``remap`` rounds places to this fraction of a pixel."""


def erp_to_cube(image: Tensor, S: int) -> Tensor:
    """Six faces of a panorama, read where the published code reads them.

    Args:
        image: ``(B, C, H, W)`` panorama, ``W = 2 H``.
        S: texels along an edge.
    Returns:
        ``(6 B, C, S, S)``, faces B D F L R T.
    Raises:
        ValueError: a panorama that is not twice as wide as high.
    """
    image, S = as_image(image), positive_int(S, "S")
    B, C, H, W = image.shape
    if W != 2 * H or H < 3:
        raise ValueError(f"image: {H} x {W}, wanted twice as wide as high, at least 3 x 6")
    # As OpenCV reads: places in float32, rounded to a part of a pixel.
    places = (m.float().double() * _STEPS for m in erp_places(S, H, W))
    col, row = (m.round().to(image.device) / _STEPS for m in places)
    left, top = col.floor().clamp(max=W - 2), row.floor().clamp(max=H - 2)
    right, down = (col - left).to(image), (row - top).to(image)
    flat = image.flatten(2)
    at = (top * W + left).long().flatten()
    nw, ne, sw, se = (flat[:, :, at + step].unflatten(2, (6, S, S)) for step in (0, 1, W, W + 1))
    read = torch.lerp(torch.lerp(nw, ne, right), torch.lerp(sw, se, right), down)
    return read.transpose(1, 2).reshape(6 * B, C, S, S)


@untraced
@lru_cache(maxsize=8)
def erp_places(S: int, H: int, W: int) -> tuple[Tensor, Tensor]:
    """``col, row``, each ``(6, S, S)`` float64: where in a panorama each texel is read."""
    place = -1 + 2 * torch.arange(S, dtype=torch.float64) / S
    v, u = torch.meshgrid(place, place, indexing="ij")
    one = torch.ones_like(u)
    # Ahead, down and right of B D F L R T.
    ahead = torch.stack((-one, -v, one, u, -u, v))
    down = torch.stack((v, one, v, v, v, -one))
    right = torch.stack((-u, u, u, -one, one, u))
    level = torch.hypot(ahead, right)
    pole = level < 1e-9
    level = torch.where(pole, 1.0, level)
    lon = _looked_up(-ahead / level, _cosines(2 * W), math.pi / (2 * W))
    lon = torch.where(right < 0, -lon, lon).masked_fill(pole, 0.0)
    lat = _looked_up(down / level, _tangents(2 * H), math.pi / (2 * H)) - math.pi / 2
    lat = torch.where(pole, down.sign() * (math.pi / 2), lat)
    col = (lon / math.pi + 1) * (W / 2) + 1
    row = (lat / (math.pi / 2) + 1) * (H / 2) + 1
    return _capped(col, W), _capped(row, H)


def _cosines(n: int) -> Tensor:
    return torch.cat((-torch.cos(torch.arange(n).double() * (math.pi / n)), torch.ones(1).double()))


def _tangents(n: int) -> Tensor:
    angle = torch.arange(n + 1).double() * (math.pi / n) - math.pi / 2
    angle[0] += math.pi / (2 * n)  # the ends, where a tangent is infinite, lie half a step inside
    angle[-1] -= math.pi / (2 * n)
    return torch.tan(angle)


def _looked_up(value: Tensor, table: Tensor, step: float) -> Tensor:
    """The place of a value in an ascending table, linear between entries, times a step."""
    after = torch.searchsorted(table, value.contiguous()).clamp(1, len(table) - 1)
    low, high = table[after - 1], table[after]
    return (after - 1 + (value - low) / (high - low)) * step


def _capped(place: Tensor, size: int) -> Tensor:
    return place.clamp(min=1, max=size - 1)


def cube_to_erp(faces: Tensor, align_corners: bool = True) -> Tensor:
    """A panorama of ``2 S x 4 S`` from six faces, each read by itself up to its edges.

    Args:
        faces: ``(6 B, C, S, S)``, faces B D F L R T, S at least 2.
        align_corners: True as in the torch of that time; False as the same lines run today,
            which reads beyond a face's outermost texels and finds zeros there.
    Returns:
        ``(B, C, 2 S, 4 S)``.
    """
    S = face_size(faces, "faces")
    if faces.ndim != 4 or S < 2:
        found = tuple(faces.shape)
        raise ValueError(f"faces: shape {found}, wanted (6 B, C, S, S), S at least 2")
    place, face = (part.to(faces.device) for part in cube_places(S))
    middle = place.max() / 2  # as published: not (S - 1) / 2, but nearly
    exact = computing_dtype(faces)
    grid = ((place - middle) / middle).to(exact).expand(len(faces), *place.shape)
    read = F.grid_sample(faces.to(exact), grid, mode="bilinear", align_corners=align_corners)
    read = read.to(faces.dtype)
    every = read.unflatten(0, (-1, 6))
    which = face[None, None, None].expand(len(every), 1, *every.shape[2:])
    return every.gather(1, which)[:, 0]


@untraced
@lru_cache(maxsize=8)
def cube_places(S: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of a ``2 S x 4 S`` panorama is read: ``(2 S, 4 S, 2)`` float64 column and
    row in [0, S - 1] of a face, and ``(2 S, 4 S)`` int64, which one of B D F L R T."""
    H, W = 2 * S, 4 * S
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W * 2 - 1) * math.pi
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H)[:, None] * math.pi
    x, y, z = lat.cos() * lon.cos(), lat.sin().expand(H, W), lat.cos() * lon.sin()
    # Along, right and down of each face. A tie goes to the face at the left or the right.
    axes = [(-x, -z, -y), (-y, z, -x), (x, z, -y), (-z, x, -y), (z, -x, -y), (y, z, x)]
    longest = torch.stack([along for along, _, _ in axes])
    longest[3:5] += 1e-9
    face = longest.argmax(0)
    across = torch.stack([torch.stack((u, v), -1) / a[..., None] for a, u, v in axes])
    place = across.gather(0, face[None, ..., None].expand(1, H, W, 2))[0]
    return (place + 1) / 2 * (S - 1), face


def nfov_mask(
    H: int, W: int, fov: float, yaw: float, pitch: float, size: tuple[int, int] = (48, 96)
) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels of a panorama a viewport shows, and where in it they are.

    Args:
        H, W: size of the panorama. fov: across, degrees, below 180. yaw, pitch: of its middle,
            degrees to the right and up. size: ``(h, w)`` of the viewport.
    Returns:
        ``mask (H, W)`` bool, ``x, y (H, W)`` float64 pixels of the viewport, counted from its
        left upper corner; of what lies behind the viewer, ``x`` of its opposite and ``y`` turned
        over.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    half = math.radians(in_range(fov, "fov", 0, 180, "degrees")) / 2
    turn, up = (math.radians(finite_number(v, n)) for v, n in ((yaw, "yaw"), (pitch, "pitch")))
    h, w = as_size(size, "size")
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W * 2 - 1) * math.pi - turn
    lat = ((0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi)[:, None]
    depth = math.sin(up) * lat.sin() + math.cos(up) * lat.cos() * lon.cos()
    right = lat.cos() * lon.sin() / depth
    above = (math.cos(up) * lat.sin() - math.sin(up) * lat.cos() * lon.cos()) / depth.abs()
    focal = w / 2 / math.tan(half)
    x, y = w / 2 + focal * right, h / 2 - focal * above
    # Counted from 1 up to the size, as in MATLAB: the first pixel of each row and column is lost.
    return (depth > 0) & (x >= 1) & (x <= w) & (y >= 1) & (y <= h), x, y
