"""From points to a map: every fixation becomes the same round blob, wherever it lies.

The blob is a von Mises-Fisher density ``exp(kappa cos d)`` in the angle ``d`` from the fixation,
the Gaussian of the sphere, with ``kappa = 1 / sigma^2``. A Gaussian blur of the panorama is not
that: at 70 degrees latitude its blob is three times too narrow, at the seam it is cut, and at
the pole it is no blob at all. Chapter 10 shows them side by side.

Drawing a kernel of sigma 5 degrees into the two million pixels of a large map, a thousand times,
is a waste: the sum has no detail finer than sigma. It is drawn on a lattice just fine enough and
read from there (:mod:`sal360.gaze.fourier`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, broadcast, in_range, positive_int
from sal360.gaze.fourier import resample_smooth
from sal360.sphere import pixel_area

LATTICE_PER_SIGMA = 2.0
"""Lattice rows per sigma. The kernel's waves die as ``exp(-(k sigma)^2 / 2)``: what the lattice
cannot carry is below ``exp(-(2 pi)^2 / 2)``, 3e-9 of the peak, under float32's rounding."""
TAIL = 20.0
"""A kernel is drawn down to ``exp(-20)``, 2e-9 of its peak (6.3 sigma)."""
CHUNK = 1 << 21
"""Kernel values held at a time, float64."""


def fixations_to_density(
    lon: ArrayLike,
    lat: ArrayLike,
    H: int,
    W: int,
    sigma_deg: float,
    weights: ArrayLike | None = None,
) -> Tensor:
    """Density of fixations: a von Mises-Fisher kernel on each, mass 1 in all. Chapter 10.

    A pixel's value is the density at its centre, within 1e-8 of the map's peak. Of a sigma below
    one pixel (the larger side at the equator) centres say little, so there each fixation's values
    are scaled to its own share of the mass: as sigma falls, the map becomes a histogram.

    Args:
        lon, lat: ``(N,)`` radians, N at least 1; any longitude, latitude within pi/2.
        H, W: map size, each at least 1.
        sigma_deg: width of the kernel in degrees, ``kappa = 1 / sigma^2``; above 0. About the
            standard deviation along each axis while it is small; wide kernels tend to uniform.
        weights: ``(N,)`` not negative, such as durations; all alike if None. Duplicates add up.
    Returns:
        ``(H, W)`` float32 per steradian, on the device of ``lon``; never negative,
        ``sum(map * pixel_area) = 1``.
    Raises:
        ValueError: no fixation at all, NaN, a latitude beyond the pole, weights that are
            negative or all 0.
    """
    lon, lat = broadcast(lon=as_float64(lon, "lon"), lat=as_float64(lat, "lat"))
    points = torch.stack((lon.reshape(-1), lat.reshape(-1)), -1)
    if len(points) == 0:
        raise ValueError("lon: no fixations, wanted at least one: a map of none has no mass")
    points = _on_the_sphere(points, "lat")
    share = torch.ones_like(points[:, 0])
    if weights is not None:
        share = as_float64(weights, "weights").to(points.device)
        if share.shape != lon.shape:
            raise ValueError(f"weights: shape {tuple(share.shape)}, wanted {tuple(lon.shape)}")
        share = share.reshape(-1)
        if not (float(share.min()) >= 0 and float(share.max()) > 0):
            raise ValueError(
                f"weights: from {float(share.min()):g} to {float(share.max()):g}, "
                "wanted none below 0 and one above"
            )
        share = share / share.max()
    frame = torch.zeros(len(points), dtype=torch.long, device=points.device)
    return _maps(points, share, frame, 1, H, W, sigma_deg)[0]


def fixation_maps(fixations: Sequence[ArrayLike], H: int, W: int, sigma_deg: float) -> Tensor:
    """:func:`fixations_to_density` for many frames at once.

    Args:
        fixations: for each of ``T`` frames ``(N_t, 2)`` lon, lat in radians; none is allowed.
        H, W: map size. sigma_deg: as there.
    Returns:
        ``(T, H, W)`` float32, each of mass 1; a frame without fixations is all NaN.
    Raises:
        ValueError: as there.
    """
    if not isinstance(fixations, Iterable):
        raise TypeError(f"fixations: {type(fixations).__name__}, wanted those of each frame")
    parts = [_points(f, f"fixations[{t}]") for t, f in enumerate(fixations)]
    if not parts:
        raise ValueError("fixations: no frames, wanted at least one")
    counts = torch.tensor([len(p) for p in parts], device=parts[0].device)
    points = _on_the_sphere(torch.cat(parts), "fixations")
    frame = torch.repeat_interleave(counts)
    return _maps(points, torch.ones_like(points[:, 0]), frame, len(parts), H, W, sigma_deg)


def _points(fixations: ArrayLike, name: str) -> Tensor:
    """``(N, 2)`` float64; anything empty is no fixations."""
    points = as_float64(fixations, name)
    if points.numel() == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name}: shape {tuple(points.shape)}, wanted (N, 2)")
    return points


def _on_the_sphere(points: Tensor, name: str) -> Tensor:
    """The same points; a latitude that float32 has rounded over the pole is put back on it."""
    lat = points[:, 1]
    if lat.numel() and float(lat.abs().max()) > math.pi / 2 + 1e-6:
        worst = float(lat[lat.abs().argmax()])
        raise ValueError(
            f"{name}: latitude {worst:g}, wanted at most pi/2 radians (is it in degrees?)"
        )
    return torch.stack((points[:, 0], lat.clamp(-math.pi / 2, math.pi / 2)), -1)


def _maps(
    points: Tensor, share: Tensor, frame: Tensor, T: int, H: int, W: int, sigma_deg: float
) -> Tensor:
    H, W = positive_int(H, "H"), positive_int(W, "W")
    sigma = math.radians(in_range(sigma_deg, "sigma_deg", 0.0, math.inf, "degrees"))
    # The few rows more matter to wide kernels, whose waves die a little more slowly.
    rows = math.ceil(math.pi * LATTICE_PER_SIGMA / sigma) + 6
    coarse = rows < H and 2 * rows < W
    h, w = (rows, 2 * rows) if coarse else (H, W)
    single = sigma < max(math.pi / H, 2 * math.pi / W)
    area = pixel_area(H, W).to(points.device)
    out = torch.empty(T, H, W, dtype=torch.float32, device=points.device)
    step = max(1, CHUNK // (H * W))
    bounds = torch.searchsorted(frame, torch.arange(T + 1, device=frame.device)).tolist()
    for first in range(0, T, step):
        last = min(first + step, T)
        some = slice(bounds[first], bounds[last])
        lattice = _Lattice(h, w, 1 / sigma**2, single)
        maps = lattice.draw(points[some], share[some], frame[some] - first, last - first)
        if coarse:
            maps = resample_smooth(maps, H, W).clamp_min_(0)
        # A frame without fixations has mass 0, and 0 / 0 is the NaN it should be.
        out[first:last] = maps / (maps.sum(-1) @ area)[:, None, None]
    return out


class _Window(NamedTuple):
    """Fixations whose kernels need about as many columns; ``columns`` of the lattice each."""

    members: Tensor
    columns: int


class _Lattice(NamedTuple):
    """``h x w`` pixel centres, onto which kernels of ``kappa`` are summed.

    With ``single`` each kernel is scaled to mass 1 on these pixels; otherwise to peak 1.
    """

    h: int
    w: int
    kappa: float
    single: bool

    def draw(self, points: Tensor, share: Tensor, frame: Tensor, T: int) -> Tensor:
        """``(T, h, w)`` float64 sums of the kernels of each frame."""
        maps = torch.zeros(T * self.h * self.w, dtype=torch.float64, device=points.device)
        reach = self._reach()
        rows = min(self.h, 2 * math.ceil(reach * self.h / math.pi) + 2)
        for window in self._windows(points[:, 1], reach):
            per = max(1, CHUNK // (rows * window.columns))
            for some in window.members.split(per):
                self._add(maps, points[some], share[some], frame[some], rows, window.columns)
        return maps.view(T, self.h, self.w)

    def _reach(self) -> float:
        """Angle within which a kernel is drawn."""
        drop = TAIL / self.kappa  # of the cosine
        reach = math.pi if drop >= 2 else 2 * math.asin(math.sqrt(drop / 2))
        if self.single:  # at least the nearest pixel centre
            reach += math.hypot(math.pi / self.h, 2 * math.pi / self.w)
        return min(reach, math.pi)

    def _windows(self, lat: Tensor, reach: float) -> list[_Window]:
        """A cap spans ``2 asin(sin reach / cos lat)`` of longitude, or all, with a pole inside."""
        sine = torch.sin(torch.tensor(reach, dtype=torch.float64)) / torch.cos(lat)
        whole = (lat.abs() + reach >= math.pi / 2) | (sine >= 1)
        half = torch.asin(sine.masked_fill(whole, 0)) * (self.w / (2 * math.pi))
        needed = (2 * half.ceil().long() + 2).masked_fill(whole, self.w).clamp(max=self.w)
        size = torch.log2(needed.double()).mul(2).ceil().long()  # steps of a factor 1.4
        windows = []
        for k in size.unique().tolist():
            members = (size == k).nonzero()[:, 0]
            windows.append(_Window(members, int(needed[members].max())))
        return windows

    def _add(
        self, maps: Tensor, points: Tensor, share: Tensor, frame: Tensor, rows: int, columns: int
    ) -> None:
        h, w, device = self.h, self.w, points.device
        lon, lat = points[:, :1], points[:, 1:]
        top = torch.round((0.5 - lat / math.pi) * h - rows / 2).long().clamp(0, h - rows)
        left = torch.round((lon / (2 * math.pi) + 0.5) * w - columns / 2).long()
        row = top + torch.arange(rows, device=device)
        col = left + torch.arange(columns, device=device)
        row_lat = (0.5 - (row.double() + 0.5) / h) * math.pi
        col_lon = ((col.double() + 0.5) / w - 0.5) * (2 * math.pi)
        # 1 - cos d = 2 sin^2(dlat / 2) + 2 cos cos sin^2(dlon / 2) keeps its digits near 0, and
        # is a product of rows and columns.
        down = torch.sin((row_lat - lat) / 2) ** 2
        ring = torch.cos(row_lat) * torch.cos(lat)
        side = torch.sin((col_lon - lon) / 2) ** 2
        left_side = torch.stack((down, ring), -1) * (-2 * self.kappa)
        right_side = torch.stack((torch.ones_like(side), side), -2)
        drop = left_side @ right_side  # (n, rows, columns)
        if self.single:
            drop -= drop.amax((1, 2), keepdim=True)
        value = drop.exp_()
        if self.single:
            area = torch.cos(row_lat)[:, None]  # of its pixels, up to a common factor
            share = share / (area @ value).sum((1, 2))
        value *= share[:, None, None]
        start = (frame[:, None] * h + row) * w
        if columns == w:
            # Whole rows, in the lattice's own order of columns.
            value = value.gather(2, _unrolled(left, w)[:, None].expand_as(value))
            maps.view(-1, w).index_add_(0, (start // w).reshape(-1), value.reshape(-1, w))
        else:
            index = start[:, :, None] + col.remainder(w)[:, None]
            maps.index_add_(0, index.reshape(-1), value.reshape(-1))


def _unrolled(left: Tensor, w: int) -> Tensor:
    """``(n, w)``: where column j of the lattice stands in a window that starts at ``left``."""
    return (torch.arange(w, device=left.device) - left).remainder(w)
