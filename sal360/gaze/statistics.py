"""How people look around, in numbers: statistics of gaze or head traces, from any source.

A trace is a direction at each time; those of ``n`` observers of one video share a clock, so
everything here takes ``xyz (n, T, 3)`` and, where time matters, ``times (T,)``. What is measured
is measured between directions: no seam, no poles, and shares of time come with the share of the
sphere that they would be by chance. :func:`on_one_clock` brings traces of many clocks there.
Chapter 10.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_directions, as_float64, in_range, non_negative, positive_int
from sal360.gaze.density import fixation_maps
from sal360.gaze.windows import interpolate
from sal360.metrics import cc
from sal360.sphere import angle_between, lonlat_to_xyz, xyz_to_lonlat

BANDS = (10, 20, 30)
"""Degrees either side of the equator for which shares of time are given."""


def on_one_clock(
    time: ArrayLike, lon: ArrayLike, lat: ArrayLike, at: ArrayLike, max_gap_s: float | None = None
) -> Tensor:
    """Traces of several observers, each with its own clock, as the statistics here take them.

    Args:
        time, lon, lat: ``(n, S)`` seconds and radians, NaN where there is no sample, as in
            :class:`sal360.gaze.Traces`.
        at: ``(T,)`` seconds. max_gap_s: the longest gap that is bridged, see
            :func:`sal360.gaze.interpolate`.
    Returns:
        ``(n, T, 3)`` float64 unit vectors.
    Raises:
        ValueError: an observer of whom nothing is known at one of the times.
    """
    lon, lat = interpolate(time, lon, lat, at, max_gap_s)
    lost = ~(lon.isfinite() & lat.isfinite())
    if bool(lost.any()):
        n, when = int(lost.any(-1).sum()), as_float64(at, "at")[lost.flatten(0, -2).any(0)]
        raise ValueError(
            f"at: nothing known of {n} observers at times from {float(when[0]):g} to "
            f"{float(when[-1]):g} s, wanted times that every trace covers, or a larger max_gap_s"
        )
    return lonlat_to_xyz(lon, lat)


class EquatorBias(NamedTuple):
    """Latitudes: ``mean`` and ``sd`` in radians, and ``within``, degrees to the share of time."""

    mean: float
    sd: float
    within: dict[int, float]


def equator_bias(xyz: ArrayLike) -> EquatorBias:
    """How much people keep to the equator.

    By chance (directions uniform over the sphere) the share within d degrees is ``sin d``, .17,
    .34 and .5 for :data:`BANDS`, and the deviation .68 radians (39 degrees).

    Args:
        xyz: ``(..., 3)`` directions, all alike.
    """
    lat = xyz_to_lonlat(_some(xyz))[1].flatten()
    return EquatorBias(
        float(lat.mean()),
        float(lat.std(correction=0)),
        {d: float((lat.abs() <= math.radians(d)).double().mean()) for d in BANDS},
    )


def latitude_profile(xyz: ArrayLike, bands: int = 18) -> tuple[Tensor, Tensor]:
    """Density of latitudes, 1 where it is that of directions uniform over the sphere.

    Args:
        xyz: ``(..., 3)`` directions. bands: of equal height in latitude, not of equal area.
    Returns:
        ``edges (bands + 1,)`` radians from south to north; ``density (bands,)``: share of time
        over share of the sphere's area.
    """
    edges = torch.linspace(-math.pi / 2, math.pi / 2, positive_int(bands, "bands") + 1).double()
    lat = xyz_to_lonlat(_some(xyz))[1].flatten()
    k = (torch.bucketize(lat, edges.to(lat.device)) - 1).clamp(0, bands - 1)
    share = torch.bincount(k, minlength=bands).double() / len(lat)
    return edges, share / (torch.sin(edges).diff() / 2)


class FrontBias(NamedTuple):
    """Longitudes: ``within``, degrees either side of the front to the share of time; ``length``
    of the mean arrow, 0 for evenly spread; ``direction``, its longitude from the front."""

    within: dict[int, float]
    length: float
    direction: float


def front_bias(xyz: ArrayLike, front: float = 0.0) -> FrontBias:
    """How much people keep to the front. By chance the share within d degrees is d / 180.

    Args:
        xyz: ``(..., 3)`` directions. front: its longitude in radians.
    """
    lon = xyz_to_lonlat(_some(xyz))[0].flatten() - in_range(front, "front", -7.0, 7.0, "radians")
    away = torch.atan2(torch.sin(lon), torch.cos(lon)).abs()
    x, y = float(torch.cos(lon).mean()), float(torch.sin(lon).mean())
    return FrontBias(
        {d: float((away <= math.radians(d)).double().mean()) for d in (30, 60, 90)},
        math.hypot(x, y),
        math.atan2(y, x),
    )


def distance_from_start(xyz: ArrayLike) -> Tensor:
    """``(n, T)`` radians between where each observer looks and where it began."""
    xyz = _traces(xyz)
    return angle_between(xyz, xyz[:, :1])


def longitudes_seen(xyz: ArrayLike, width: float = 0.0) -> Tensor:
    """How much of the way around each observer has looked at so far.

    The trace's longitude is followed across the seam; what it has swept is one arc, from its
    westernmost to its easternmost point so far. Someone who looks over a pole turns around
    without turning: that counts as half a turn, either way.

    Args:
        xyz: ``(n, T, 3)`` traces. width: radians of longitude seen at once, 0 for the centre of
            view only.
    Returns:
        ``(n, T)`` radians, from ``width`` up to 2 pi, never falling.
    """
    lon = xyz_to_lonlat(_traces(xyz))[0]
    step = lon.diff(dim=1)
    lon = torch.cat((lon[:, :1], torch.atan2(torch.sin(step), torch.cos(step))), 1).cumsum(1)
    swept = torch.cummax(lon, 1).values - torch.cummin(lon, 1).values
    return (swept + non_negative(width, "width")).clamp(max=2 * math.pi)


def angular_speed(times: ArrayLike, xyz: ArrayLike) -> Tensor:
    """``(n, T - 1)`` radians per second between samples: of a coarse clock, a lower bound."""
    xyz = _traces(xyz)
    times = _clock(times, xyz)
    return angle_between(xyz[:, 1:], xyz[:, :-1]) / times.diff()


def resultant_length(xyz: ArrayLike) -> Tensor:
    """``(T,)`` length of the mean arrow over observers: 1 if all look at one point.

    ``n`` observers who know nothing of each other and look anywhere have about ``.92 /
    sqrt(n)``, .13 for 48.
    """
    return torch.linalg.vector_norm(_traces(xyz).mean(0), dim=-1)


def pairwise_cosine(xyz: ArrayLike) -> Tensor:
    """``(T,)`` mean cosine of the angle between two different observers, 0 by chance.

    Of ``n`` arrows of mean length ``R`` it is ``(n R^2 - 1) / (n - 1)``: no pairs are formed.
    """
    n = len(_traces(xyz))
    if n < 2:
        raise ValueError(f"xyz: {n} observer, wanted at least 2")
    return (n * resultant_length(xyz) ** 2 - 1) / (n - 1)


def split_half(
    xyz: ArrayLike, splits: int = 20, sigma_deg: float = 5.0, seed: int = 0, H: int = 48
) -> float:
    """How well one half of the observers predicts the other: area-weighted correlation of maps.

    Args:
        xyz: ``(n, T, 3)`` traces, n at least 2; each observer's map has mass 1, all its samples
            alike. For agreement against time, give it a part of the time.
        splits: random halves, over which the mean is taken (of odd n, one observer sits out).
        sigma_deg: width of the blobs. seed: of the halves. H: rows of the maps.
    """
    xyz = _traces(xyz)
    n = len(xyz)
    if n < 2:
        raise ValueError(f"xyz: {n} observer, wanted at least 2")
    lonlat = torch.stack(xyz_to_lonlat(xyz), dim=-1)
    maps = fixation_maps(list(lonlat), H, 2 * H, sigma_deg).double()
    generator = torch.Generator().manual_seed(seed)
    half = n // 2
    order = torch.stack([
        torch.randperm(n, generator=generator) for _ in range(positive_int(splits, "splits"))
    ])  # fmt: skip
    first, second = (maps[order[:, k : k + half]].mean(1) for k in (0, half))
    return float(cc(first, second).mean())


def recurrence(times: ArrayLike, xyz: ArrayLike, lags: ArrayLike, radius: float) -> Tensor:
    """Share of time that people look within ``radius`` of where they looked ``lag`` earlier.

    Args:
        times: ``(T,)`` evenly spaced seconds. xyz: ``(n, T, 3)`` traces.
        lags: ``(L,)`` seconds, at least 0 and below the length of the traces.
        radius: radians.
    Returns:
        ``(L,)``, 1 at lag 0; by chance the area of the cap, ``(1 - cos radius) / 2``.
    """
    xyz = _traces(xyz)
    times = _clock(times, xyz)
    radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
    step = float(times[-1] - times[0]) / (len(times) - 1)
    if not torch.allclose(times.diff(), torch.full_like(times[1:], step), rtol=1e-3):
        raise ValueError("times: unevenly spaced, wanted a regular clock (see interpolate)")
    out = []
    for lag in as_float64(lags, "lags").flatten().tolist():
        k = round(lag / step)
        if not 0 <= k < len(times):
            raise ValueError(f"lags: {lag:g}, wanted at least 0 and below {step * len(times):g}")
        apart = angle_between(xyz[:, k:], xyz[:, : len(times) - k])
        out.append(float((apart <= radius + 1e-12).double().mean()))
    return torch.tensor(out, dtype=torch.float64)


def revisits(xyz: ArrayLike, observer: ArrayLike, radius: float, back: int = 2) -> float:
    """Share of fixations that return to the place of the one ``back`` before.

    Args:
        xyz: ``(F, 3)`` directions of fixations, in order of observer, then of time.
        observer: ``(F,)`` whose they are. radius: radians that count as the same place.
        back: 2 for the place just left. Those in between must lie elsewhere.
    Returns:
        Share among the fixations that have all those before them and whose previous one lies
        elsewhere than the one ``back`` before; NaN if there is none.
    """
    xyz = as_directions(xyz)
    observer = as_float64(observer, "observer")
    back = positive_int(back, "back")
    radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
    if xyz.ndim != 2 or observer.shape != (len(xyz),):
        raise ValueError(
            f"observer: shape {tuple(observer.shape)}, wanted (F,) for xyz {tuple(xyz.shape)}"
        )
    if len(xyz) <= back:
        return math.nan
    same = observer[back:] == observer[:-back]
    for k in range(1, back):
        same &= angle_between(xyz[back - k : len(xyz) - k], xyz[:-back]) > radius
    again = angle_between(xyz[back:], xyz[:-back]) <= radius
    return float(again[same].double().mean())


def _some(xyz: ArrayLike) -> Tensor:
    xyz = as_directions(xyz)
    if xyz.numel() == 0:
        raise ValueError(f"xyz: shape {tuple(xyz.shape)}, wanted at least one direction")
    return xyz


def _traces(xyz: ArrayLike) -> Tensor:
    xyz = _some(xyz)
    if xyz.ndim != 3:
        raise ValueError(f"xyz: shape {tuple(xyz.shape)}, wanted (n, T, 3)")
    return xyz / torch.linalg.vector_norm(xyz, dim=-1, keepdim=True)


def _clock(times: ArrayLike, xyz: Tensor) -> Tensor:
    times = as_float64(times, "times")
    if times.shape != xyz.shape[1:2] or len(times) < 2 or bool((times.diff() <= 0).any()):
        raise ValueError(
            f"times: shape {tuple(times.shape)}, wanted ({xyz.shape[1]},) ascending, at least 2"
        )
    return times
