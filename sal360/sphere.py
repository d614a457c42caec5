"""Directions: the one idea is that a pixel is a name for a direction, and directions add up.

Frame (OpenCV's camera frame): x right, y down, z forward, right-handed. Longitude grows to
the right of the centre, latitude grows up, both in radians. The centre of an equirectangular
(ERP) image is (0, 0); pixel values live at pixel centres. Chapter 01 derives directions and
rotations, chapter 02 areas.

Geometry is float64 whatever comes in; it meets an image's own precision in
:mod:`sal360.projections`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_directions, as_float64, positive_int


def lonlat_to_xyz(lon: ArrayLike, lat: ArrayLike) -> Tensor:
    """Unit vectors of longitudes and latitudes. Derived in chapter 01.

    Args:
        lon, lat: radians, any shapes that broadcast together.
    Returns:
        ``(..., 3)`` float64.
    Raises:
        ValueError: NaN or infinite angles.

    >>> lonlat_to_xyz(0.0, 0.0).tolist()   # the centre of the panorama is straight ahead
    [0.0, -0.0, 1.0]
    """
    lon, lat = torch.broadcast_tensors(as_float64(lon, "lon"), as_float64(lat, "lat"))
    ring = torch.cos(lat)
    return torch.stack((ring * torch.sin(lon), -torch.sin(lat), ring * torch.cos(lon)), dim=-1)


def xyz_to_lonlat(xyz: ArrayLike) -> tuple[Tensor, Tensor]:
    """Longitude in [-pi, pi] and latitude in [-pi/2, pi/2] of directions of any length.

    Latitude is ``atan2(-y, hypot(x, z))``: the textbook ``asin(-y)`` loses half its digits
    near the poles. At a pole every longitude is right; 0 (or pi) is returned.

    Args:
        xyz: ``(..., 3)``, not zero; the length does not matter.
    Returns:
        ``lon, lat`` of shape ``(...)``, float64 radians.
    Raises:
        ValueError: a zero vector, NaN, or a last axis other than 3.
    """
    x, y, z = as_directions(xyz).unbind(-1)
    return torch.atan2(x, z), torch.atan2(-y, torch.hypot(x, z))


def erp_directions(H: int, W: int) -> Tensor:
    """Direction of every pixel centre of an equirectangular image. Derived in chapter 01.

    ``lon_j = ((j + .5) / W - .5) 2 pi`` and ``lat_i = (.5 - (i + .5) / H) pi``.

    Args:
        H, W: image size, each at least 1, odd or even, 2:1 or not.
    Returns:
        ``(H, W, 3)`` float64 unit vectors.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W - 0.5) * (2 * math.pi)
    return lonlat_to_xyz(lon, lat[:, None])


def erp_pixel(xyz: ArrayLike, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Row and column, as real numbers, at which a direction falls in an ERP image.

    The inverse of :func:`erp_directions`: whole numbers are pixel centres, so rows lie in
    [-.5, H - .5] and columns in [-.5, W - .5].

    Args:
        xyz: ``(..., 3)`` directions.
        H, W: image size in pixels.
    Returns:
        ``row, col`` of shape ``(...)``, float64.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    lon, lat = xyz_to_lonlat(xyz)
    return (0.5 - lat / math.pi) * H - 0.5, (lon / (2 * math.pi) + 0.5) * W - 0.5


def pixel_area(H: int, W: int) -> Tensor:
    """Solid angle of one equirectangular pixel in each row, exact. Derived in chapter 02.

    A pixel spans the latitudes between its two edges, so its area is
    ``2 pi / W * (sin(top) - sin(bottom))``, not a midpoint rule.

    Args:
        H, W: image size in pixels, each at least 1.
    Returns:
        ``(H,)`` float64 steradians; ``pixel_area(H, W).sum() * W`` is ``4 pi`` to rounding.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    # sin(a) - sin(b) = 2 cos((a + b) / 2) sin((a - b) / 2): no cancellation near the poles.
    middle = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    return (4 * math.pi / W * math.sin(math.pi / (2 * H))) * torch.cos(middle)


def rotation_matrix(yaw: ArrayLike, pitch: ArrayLike = 0.0, roll: ArrayLike = 0.0) -> Tensor:
    """Camera-to-world rotation: yaw the body, pitch the head, roll the neck. See chapter 01.

    ``R @ (0, 0, 1)`` looks at ``lon = yaw, lat = pitch``; a positive roll tilts the head to
    the right. ``R @ v`` takes camera coordinates to the world, ``R.T @ v`` back.

    Args:
        yaw, pitch, roll: radians, any shapes that broadcast together.
    Returns:
        ``(..., 3, 3)`` float64, orthogonal with determinant 1.
    """
    yaw, pitch, roll = torch.broadcast_tensors(
        as_float64(yaw, "yaw"), as_float64(pitch, "pitch"), as_float64(roll, "roll")
    )
    (cy, sy), (cp, sp), (cr, sr) = ((torch.cos(a), torch.sin(a)) for a in (yaw, pitch, roll))
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))

    turn = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    nod = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    tilt = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return turn @ nod @ tilt


def angle_between(a: ArrayLike, b: ArrayLike) -> Tensor:
    """Angle between directions, in radians, accurate near 0 and near pi.

    ``acos(a . b)`` cannot tell angles below about 1e-8 from 0; the angle whose tangent is
    ``|a x b| / (a . b)`` can.

    Args:
        a, b: ``(..., 3)`` directions of any length, shapes broadcast.
    Returns:
        ``(...)`` float64 in [0, pi].
    """
    a, b = torch.broadcast_tensors(as_directions(a, "a"), as_directions(b, "b"))
    cross = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=-1)
    return torch.atan2(cross, (a * b).sum(-1))
