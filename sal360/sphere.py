"""Directions: the one idea is that a pixel is a name for a direction, and directions add up.

Frame (OpenCV's camera frame): x right, y down, z forward, right-handed. Longitude grows to
the right of the centre, latitude grows up, both in radians. The centre of an equirectangular
(ERP) image is (0, 0); pixel values live at pixel centres. Chapter 01 derives directions and
rotations, chapter 02 areas and even spreads, chapter 04 arcs and circles.

Geometry is float64 whatever comes in; it meets an image's own precision in
:mod:`sal360.projections`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360._check import (
    ROUNDING,
    ArrayLike,
    as_directions,
    as_float64,
    broadcast,
    non_negative,
    positive_int,
)


def lonlat_to_xyz(lon: ArrayLike, lat: ArrayLike) -> Tensor:
    """Unit vectors of longitudes and latitudes. Derived in chapter 01.

    Args:
        lon, lat: radians, any shapes that broadcast together. A latitude beyond pi/2 goes on
            over the pole.
    Returns:
        ``(..., 3)`` float64.
    Raises:
        ValueError: NaN or infinite angles.

    >>> lonlat_to_xyz(0.0, 0.0).tolist()   # the centre of the panorama is straight ahead
    [0.0, -0.0, 1.0]
    """
    lon, lat = broadcast(lon=as_float64(lon, "lon"), lat=as_float64(lat, "lat"))
    ring = torch.cos(lat)
    return torch.stack((ring * torch.sin(lon), -torch.sin(lat), ring * torch.cos(lon)), dim=-1)


def xyz_to_lonlat(xyz: ArrayLike) -> tuple[Tensor, Tensor]:
    """Longitude in [-pi, pi] and latitude in [-pi/2, pi/2] of directions of any length.

    Latitude is ``atan2(-y, hypot(x, z))``: the textbook ``asin(-y)`` loses half its digits
    near the poles. At a pole every longitude is right; 0 (or pi) is returned, and there is no
    gradient (it is NaN).

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


def erp_index(xyz: ArrayLike, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Row and column of the pixel that a direction falls in: whole numbers inside the image.

    Args:
        xyz: ``(..., 3)`` directions, the poles and both names of the seam included.
        H, W: image size in pixels.
    Returns:
        ``row, col`` of shape ``(...)``, int64, in [0, H) and [0, W).
    """
    row, col = erp_pixel(xyz, H, W)
    col = torch.remainder(torch.floor(col + 0.5), W)
    return torch.floor(row + 0.5).clamp(0, H - 1).long(), col.long()


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
    yaw, pitch, roll = broadcast(
        yaw=as_float64(yaw, "yaw"), pitch=as_float64(pitch, "pitch"), roll=as_float64(roll, "roll")
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
    Raises:
        ValueError: a direction that is zero or not finite.
    """
    a, b = broadcast(a=as_directions(a, "a"), b=as_directions(b, "b"))
    cross = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=-1)
    return torch.atan2(cross, (a * b).sum(-1))


def bearing(a: ArrayLike, b: ArrayLike) -> Tensor:
    """In which direction to leave ``a`` for ``b``: 0 is north, pi/2 east, as on a compass.

    Together with :func:`angle_between` it gives polar coordinates around ``a``, which is how
    kernels on circles are described (chapter 05).

    Args:
        a, b: ``(..., 3)`` directions of any length, shapes broadcast. At a pole of ``a`` the
            north is that of longitude 0, as in :func:`rotation_matrix`.
    Returns:
        ``(...)`` float64 in [-pi, pi]; 0 where ``b`` is ``a`` or lies opposite.
    """
    a, b = broadcast(a=as_directions(a, "a"), b=as_directions(b, "b"))
    seen = (rotation_matrix(*xyz_to_lonlat(a)).transpose(-1, -2) @ b[..., None])[..., 0]
    x, y, z = seen.unbind(-1)
    here = torch.hypot(x, y) < 1e-15 * z.abs()
    return torch.where(here, torch.zeros_like(x), torch.atan2(x, -y))


def slerp(a: ArrayLike, b: ArrayLike, t: ArrayLike) -> Tensor:
    """Walk the shortest arc from ``a`` to ``b`` at constant speed. Derived in chapter 04.

    Args:
        a, b: ``(..., 3)`` directions of any length, shapes broadcast.
        t: share of the way, shape that broadcasts with ``a.shape[:-1]``; 0 is ``a``, 1 is ``b``,
            values outside continue along the great circle.
    Returns:
        ``(..., 3)`` float64 unit vectors.
    Raises:
        ValueError: ``b`` lies opposite to ``a``: every great circle through ``a`` leads there.
    """
    a, b = broadcast(a=_unit(as_directions(a, "a")), b=_unit(as_directions(b, "b")))
    t, angle = broadcast(t=as_float64(t, "t").to(a.device), b=angle_between(a, b))
    if bool((angle > math.pi - 1e-9).any()):
        raise ValueError("b: opposite to a, wanted directions with one shortest arc between them")
    side = b - (a * b).sum(-1, keepdim=True) * a  # the part of b across a
    length = torch.linalg.vector_norm(side, dim=-1, keepdim=True)
    side = side / torch.where(length > 0, length, torch.ones_like(length))
    way = (t * angle)[..., None]
    return _unit(torch.cos(way) * a + torch.sin(way) * side)


def geodesic_circle(centre: ArrayLike, radius: ArrayLike, n: int = 96) -> Tensor:
    """Points at one angular distance from a centre: what a round spot is on the sphere.

    Args:
        centre: ``(..., 3)`` direction.
        radius: radians in [0, pi], shape that broadcasts with ``centre.shape[:-1]``; pi/2 is a
            great circle.
        n: points, evenly spaced, the first due north of the centre (of a pole: at longitude 0
            seen from the north one, pi seen from the south one), then on to the east.
    Returns:
        ``(..., n, 3)`` float64 unit vectors; the circle is not closed (append the first).
    """
    centre = _unit(as_directions(centre, "centre"))
    radius = as_float64(radius, "radius").to(centre.device)
    if radius.numel() and not 0 <= radius.min() <= radius.max() <= math.pi + ROUNDING:
        low, high = radius.min(), radius.max()
        raise ValueError(f"radius: from {low:g} to {high:g}, wanted 0 to pi radians")
    radius, _ = broadcast(radius=radius.clamp(max=math.pi), centre=centre[..., 0])
    n = positive_int(n, "n")
    frame = rotation_matrix(*xyz_to_lonlat(centre))
    bearing = torch.arange(n, dtype=torch.float64, device=centre.device) * (2 * math.pi / n)
    radius = radius[..., None]
    around = torch.stack(
        (
            torch.sin(radius) * torch.sin(bearing),
            -torch.sin(radius) * torch.cos(bearing),
            torch.cos(radius) * torch.ones_like(bearing),
        ),
        dim=-1,
    )
    return around @ frame.transpose(-1, -2)


def great_circle(a: ArrayLike, b: ArrayLike, n: int = 96) -> Tensor:
    """The whole great circle through two directions, from ``a`` towards ``b`` and around.

    Args:
        a, b: ``(3,)`` directions, neither equal nor opposite.
        n: points, evenly spaced, the first at ``a``.
    Returns:
        ``(n, 3)`` float64 unit vectors; the circle is not closed.
    Raises:
        ValueError: ``a`` and ``b`` on one line, through which many great circles pass.
    """
    a, b = as_directions(a, "a"), as_directions(b, "b")
    for name, end in (("a", a), ("b", b)):
        if end.shape != (3,):
            raise ValueError(f"{name}: shape {tuple(end.shape)}, wanted (3,)")
    a, b = _unit(a), _unit(b)
    side = b - (a * b).sum() * a
    if float(torch.linalg.vector_norm(side)) < 1e-12:
        raise ValueError("b: on one line with a, wanted two directions that span a plane")
    way = torch.arange(positive_int(n, "n"), dtype=torch.float64, device=a.device)
    way = (way * (2 * math.pi / n))[:, None]
    return torch.cos(way) * a + torch.sin(way) * _unit(side)


def fibonacci_sphere(n: int) -> Tensor:
    """``n`` directions spread evenly: a golden-angle spiral from pole to pole. See chapter 02.

    Each stands for ``4 pi / n`` steradians. The k-th lies in the middle of the k-th of ``n``
    bands of equal area, turned by the golden angle from the one before.

    Args:
        n: number of directions, at least 1.
    Returns:
        ``(n, 3)`` float64 unit vectors, from north to south; the same every time.
    """
    k = torch.arange(positive_int(n, "n"), dtype=torch.float64)
    up = 1 - (2 * k + 1) / n
    lon = torch.remainder(k * (math.pi * (3 - math.sqrt(5))), 2 * math.pi)
    ring = torch.sqrt((1 - up) * (1 + up))
    return torch.stack((ring * torch.sin(lon), -up, ring * torch.cos(lon)), dim=-1)


def sample_sphere(n: int, generator: torch.Generator | None = None) -> Tensor:
    """``n`` random directions, uniform over the sphere's area. Derived in chapter 02.

    Latitude is ``asin`` of a uniform number: bands of equal height hold equal area (Archimedes).

    Args:
        n: number of directions. generator: source of randomness, for repeatable draws.
    Returns:
        ``(n, 3)`` float64 unit vectors, on the generator's device.
    """
    n = positive_int(n, "n")
    device = _device(generator, torch.device("cpu"))
    u = torch.rand(2, n, dtype=torch.float64, generator=generator, device=device)
    up, lon = 2 * u[0] - 1, (2 * u[1] - 1) * math.pi
    ring = torch.sqrt((1 - up) * (1 + up))
    return torch.stack((ring * torch.sin(lon), -up, ring * torch.cos(lon)), dim=-1)


def sample_von_mises_fisher(
    mean: ArrayLike, kappa: float, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """``n`` random directions scattered around a mean: the Gaussian of the sphere.

    The cosine of the distance to the mean is drawn by inverting its distribution, which is
    exact in three dimensions (no rejection), and written so that a large ``kappa`` keeps its
    digits. Source: Wood, "Simulation of the von Mises Fisher distribution", 1994.

    Args:
        mean: ``(3,)`` direction of any length.
        kappa: concentration, at least 0; 0 is uniform, and for large values the scatter is
            about ``1 / sqrt(kappa)`` radians along each axis.
        n: number of directions. generator: source of randomness, for repeatable draws.
    Returns:
        ``(n, 3)`` float64 unit vectors, on the generator's device.
    """
    kappa = non_negative(kappa, "kappa")
    mean = as_directions(mean, "mean")
    if mean.shape != (3,):
        raise ValueError(f"mean: shape {tuple(mean.shape)}, wanted (3,)")
    n = positive_int(n, "n")
    device = _device(generator, mean.device)
    u = torch.rand(2, n, dtype=torch.float64, generator=generator, device=device)
    # 1 - cos(distance): its distribution is a truncated exponential on [0, 2].
    drop = 2 * u[0] if kappa == 0 else -torch.log1p(u[0] * math.expm1(-2 * kappa)) / kappa
    drop = drop.clamp(0, 2)
    bearing = (2 * u[1] - 1) * math.pi
    away = torch.sqrt(drop * (2 - drop))
    cloud = torch.stack((away * torch.sin(bearing), -away * torch.cos(bearing), 1 - drop), dim=-1)
    return cloud @ rotation_matrix(*xyz_to_lonlat(mean)).to(device).T


def von_mises_fisher(xyz: ArrayLike, mean: ArrayLike, kappa: float) -> Tensor:
    """Density of the von Mises-Fisher distribution, per steradian.

    ``kappa / (4 pi sinh kappa) exp(kappa cos d)``, computed so that no ``kappa`` overflows.

    Args:
        xyz: ``(..., 3)`` directions. mean: ``(3,)`` direction. kappa: concentration, at least 0.
    Returns:
        ``(...)`` float64; its integral over the sphere is 1. Read at pixel centres it is only
        as good as the pixels are small: the scatter ``1 / sqrt(kappa)`` should span a few.
    """
    kappa = non_negative(kappa, "kappa")
    xyz, mean = _unit(as_directions(xyz)), _unit(as_directions(mean, "mean"))
    if mean.shape != (3,):
        raise ValueError(f"mean: shape {tuple(mean.shape)}, wanted (3,)")
    if kappa == 0:
        return torch.full(xyz.shape[:-1], 1 / (4 * math.pi), dtype=xyz.dtype, device=xyz.device)
    scale = kappa / (-2 * math.pi * math.expm1(-2 * kappa))
    # cos d - 1 = -|x - m|^2 / 2 keeps its digits where the density is concentrated.
    return scale * torch.exp(-kappa * 0.5 * ((xyz - mean.to(xyz.device)) ** 2).sum(-1))


def _device(generator: torch.Generator | None, fallback: torch.device) -> torch.device:
    if generator is None:
        return fallback
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: {type(generator).__name__}, wanted a torch.Generator")
    return generator.device


def _unit(xyz: Tensor) -> Tensor:
    """Directions of length 1; the largest entry is divided out first, so that none overflows."""
    xyz = xyz / xyz.abs().amax(dim=-1, keepdim=True)
    return xyz / torch.linalg.vector_norm(xyz, dim=-1, keepdim=True)
