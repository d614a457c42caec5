"""When did they look at something, and when were they on their way?

Two classic answers, both on the sphere: a fixation is a stretch in which the direction moves
slowly (by velocity, I-VT), or one in which it stays within a small circle (by dispersion, I-DT).
Angles between directions replace differences of angles, so that the seam and the poles are places
like any other; means are means of directions. Chapter 10.

Source: Salvucci and Goldberg, "Identifying fixations and saccades in eye-tracking protocols",
ETRA 2000. Theirs are planar; the span, the gaps and the rule for intervals are ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_tensor, in_range, non_negative
from sal360.gaze.windows import BRIDGED, median_interval
from sal360.sphere import angle_between, lonlat_to_xyz, xyz_to_lonlat

SPAN_S = 0.016
"""Speeds are taken over at least this: one beat at 60 Hz. Between two samples of a faster tracker
there is mostly its noise."""

EYE_VELOCITY = {"threshold_deg_s": 60.0, "min_duration_s": 0.1}
"""Eye trackers from 60 Hz: half a degree of noise makes 42 degrees/s between two samples at 60 Hz,
a saccade of 2 degrees peaks near 100. No fixation is much shorter than a tenth of a second."""
HEAD_VELOCITY = {"threshold_deg_s": 20.0, "min_duration_s": 0.2}
"""Heads at 10 Hz in whole degrees: one step of rounding is already 10 degrees/s, along a diagonal
14; heads on the way do 30 and more. Three samples at least."""
EYE_DISPERSION = {"threshold_deg": 2.0, "min_duration_s": 0.1}
"""The largest angle between two samples: noise of half a degree, and what the eye drifts."""
HEAD_DISPERSION = {"threshold_deg": 5.0, "min_duration_s": 0.3}
"""A resting head sways by a few degrees; a step of rounding is one."""


class Fixations(NamedTuple):
    """``F`` fixations of one trace, in order of time.

    Attributes:
        onset, duration: ``(F,)`` float64 seconds: of the first sample, and from it to the last.
        lon, lat: ``(F,)`` float64 radians: the mean direction of the samples.
        samples: ``(F,)`` int64, how many there are.
    """

    onset: Tensor
    duration: Tensor
    lon: Tensor
    lat: Tensor
    samples: Tensor

    @property
    def end(self) -> Tensor:
        """``(F,)`` seconds of the last samples."""
        return self.onset + self.duration

    @property
    def points(self) -> Tensor:
        """``(F, 2)`` lon, lat."""
        return torch.stack((self.lon, self.lat), -1)


def by_velocity(
    time: ArrayLike,
    lon: ArrayLike,
    lat: ArrayLike,
    threshold_deg_s: float = EYE_VELOCITY["threshold_deg_s"],
    min_duration_s: float = EYE_VELOCITY["min_duration_s"],
    max_gap_s: float | None = None,
) -> Fixations:
    """Fixations as stretches without a fast move (I-VT).

    What is fast or slow is the way between two samples, so a fixation is never cut by its
    neighbour's speed, and a sample in the middle of a saccade belongs to no fixation.

    Args:
        time: ``(S,)`` seconds, not falling, at any rate, even or not.
        lon, lat: ``(S,)`` radians; lost samples and blinks are NaN. Of samples with one time
            stamp, the last counts.
        threshold_deg_s: what is slower belongs to a fixation. :data:`HEAD_VELOCITY` for heads.
        min_duration_s: what is shorter is dropped.
        max_gap_s: a longer time without samples ends a fixation; None is 3.5 times the median
            interval of the trace.
    Returns:
        :class:`Fixations`, perhaps none.
    Raises:
        ValueError: unlike shapes, falling times, a threshold of 0.
    """
    threshold = math.radians(in_range(threshold_deg_s, "threshold_deg_s", 0.0, math.inf))
    t, d, segment = _segments(time, lon, lat, max_gap_s)
    if len(t) < 2:
        return _collect(t, d, t.new_zeros(0, dtype=torch.long), t.new_zeros(0, dtype=torch.long))
    middle = (t[1:] + t[:-1]) / 2
    k = torch.arange(len(t) - 1, device=t.device)
    low = torch.searchsorted(t, middle - SPAN_S / 2 + 1e-9, right=True) - 1
    high = torch.searchsorted(t, middle + SPAN_S / 2 - 1e-9)
    first = torch.searchsorted(segment, segment)  # of each sample's segment
    last = torch.searchsorted(segment, segment, right=True) - 1
    low, high = torch.maximum(low, first[k]), torch.minimum(high, last[k + 1])
    low, high = torch.minimum(low, k), torch.maximum(high, k + 1)
    slow = angle_between(d[low], d[high]) <= threshold * (t[high] - t[low])
    slow &= segment[1:] == segment[:-1]
    edge = torch.diff(slow.int(), prepend=slow.new_zeros(1).int(), append=slow.new_zeros(1).int())
    first, last = (edge == 1).nonzero()[:, 0], (edge == -1).nonzero()[:, 0]
    long_enough = t[last] - t[first] >= non_negative(min_duration_s, "min_duration_s") - 1e-9
    return _collect(t, d, first[long_enough], last[long_enough])


def by_dispersion(
    time: ArrayLike,
    lon: ArrayLike,
    lat: ArrayLike,
    threshold_deg: float = EYE_DISPERSION["threshold_deg"],
    min_duration_s: float = EYE_DISPERSION["min_duration_s"],
    max_gap_s: float | None = None,
) -> Fixations:
    """Fixations as stretches whose samples lie close together (I-DT).

    From the first sample on, the longest stretch in which no two samples lie further apart than
    the threshold; if it lasts long enough it is a fixation, and the search goes on behind it,
    else it goes on one sample later. So a fixation begins with the last bit of the saccade that
    led to it, and may be cut in two where that bit leaves no room for noise: from some two hundred
    samples a second on, velocity is the better rule.

    Args:
        threshold_deg: the largest angle between two samples. :data:`HEAD_DISPERSION` for heads.
        time, lon, lat, min_duration_s, max_gap_s: as in :func:`by_velocity`.
    Returns:
        :class:`Fixations`, perhaps none.
    Raises:
        ValueError: as there.
    """
    threshold = math.radians(in_range(threshold_deg, "threshold_deg", 0.0, 180.0, "degrees"))
    least = non_negative(min_duration_s, "min_duration_s") - 1e-9
    t, d, segment = _segments(time, lon, lat, max_gap_s)
    # A stretch may hold sample j only if it begins after the last sample too far from j; that it
    # must be so for every sample of the stretch is a running maximum.
    far = torch.cummax(_last_far(d, segment, threshold), 0).values if len(t) else t.long()
    ends = torch.searchsorted(far, torch.arange(len(t), device=t.device)) - 1
    starts = torch.arange(len(t), device=t.device)
    lasts = (t[ends] - t[starts] >= least) & (ends > starts)
    end, enough = ends.tolist(), lasts.tolist()
    found, start = [], 0
    while start < len(end):
        if enough[start]:
            found.append(start)
        start = end[start] + 1 if enough[start] else start + 1
    first = torch.tensor(found, dtype=torch.long, device=t.device)
    return _collect(t, d, first, ends[first])


def _last_far(d: Tensor, segment: Tensor, threshold: float) -> Tensor:
    """``(S,)``: the last sample before each that no stretch may share with it, or -1."""
    last = torch.full((len(d),), -1, dtype=torch.long, device=d.device)
    open_ = torch.arange(1, len(d), device=d.device)
    # Chord and angle grow together; chords need no arctangent.
    reach = 2 * math.sin(threshold / 2)
    for lag in range(1, len(d)):
        before = open_ - lag
        apart = torch.linalg.vector_norm(d[open_] - d[before], dim=-1) > reach
        apart |= segment[open_] != segment[before]
        last[open_[apart]] = before[apart]
        open_ = open_[~apart & (before > 0)]
        if len(open_) == 0:
            break
    return last


def _segments(
    time: ArrayLike, lon: ArrayLike, lat: ArrayLike, max_gap_s: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Times and directions of the samples that are there, and the number of their segment."""
    t, x, y = (as_tensor(v, n).double() for v, n in ((time, "time"), (lon, "lon"), (lat, "lat")))
    if t.ndim != 1 or x.shape != t.shape or y.shape != t.shape:
        shapes = ", ".join(str(tuple(v.shape)) for v in (t, x, y))
        raise ValueError(f"time, lon, lat: shapes {shapes}, wanted (S,) thrice")
    known = t.isfinite() & x.isfinite() & y.isfinite()
    t, x, y = t[known], x[known], y[known]
    if bool((t.diff() < 0).any()):
        raise ValueError("time: falls, wanted samples in the order of time")
    kept = torch.ones_like(t, dtype=torch.bool)
    kept[:-1] = t.diff() > 0
    t, x, y = t[kept], x[kept], y[kept]
    if max_gap_s is None:
        gap = BRIDGED * float(median_interval(t)) if len(t) > 1 else math.inf
    else:
        gap = in_range(max_gap_s, "max_gap_s", 0.0, math.inf, "seconds")
    segment = torch.zeros_like(t, dtype=torch.long)
    segment[1:] = (t.diff() > gap * (1 + 1e-9)).long().cumsum(0)
    return t, lonlat_to_xyz(x, y), segment


def _collect(t: Tensor, d: Tensor, first: Tensor, last: Tensor) -> Fixations:
    """Fixations that span the samples ``first`` to ``last``, both included."""
    total = torch.cat((d.new_zeros(1, 3), d.cumsum(0)))
    lon, lat = xyz_to_lonlat(total[last + 1] - total[first])
    return Fixations(t[first], t[last] - t[first], lon, lat, last - first + 1)
