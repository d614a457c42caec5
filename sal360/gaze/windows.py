"""Which gaze belongs to which frame.

Frame ``t`` of a video is on the screen from ``t / fps`` to ``(t + 1) / fps``. A tracker keeps its
own clock, so a frame is given the samples of a window around it, or each observer's direction in
the middle of its time, on the arc between the two samples around it. Chapter 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_tensor, broadcast, in_range, positive_int
from sal360.sphere import angle_between, lonlat_to_xyz, slerp, xyz_to_lonlat

BRIDGED = 3.5
"""Gaps of up to three missing beats are bridged: about 0.35 s of a head at 10 Hz, 60 ms of an eye
at 60 Hz (a lost sample, not a blink)."""


def frame_times(frames: int, fps: float) -> Tensor:
    """``(frames,)`` seconds: the middle of each frame's time on the screen."""
    fps = in_range(fps, "fps", 0.0, math.inf)
    return (torch.arange(positive_int(frames, "frames"), dtype=torch.float64) + 0.5) / fps


def in_windows(
    onset: ArrayLike,
    frames: int,
    fps: float,
    width_s: float | None = None,
    end: ArrayLike | None = None,
    causal: bool = False,
) -> tuple[Tensor, ...]:
    """Which samples or fixations fall into the window of each frame.

    Args:
        onset: ``(...)`` seconds: of samples, or when fixations begin. NaN is in no window.
        frames, fps: of the video.
        width_s: of the window, centred on the middle of the frame's time, its start included and
            its end not; None is that time itself, ``1 / fps``.
        end: ``(...)`` when fixations end; None for samples, which take no time. A fixation
            belongs to every window that it touches.
        causal: the window ends when the frame leaves the screen instead: nothing seen later.
    Returns:
        for each frame ``(N_t,)`` int64: numbers of its members in ``onset.flatten()``, ascending.
    Raises:
        ValueError: a fixation that ends before it begins.
    """
    begin = as_tensor(onset, "onset").double()
    until = begin if end is None else as_tensor(end, "end").double()
    begin, until = (each.reshape(-1) for each in broadcast(onset=begin, end=until))
    frames, fps = positive_int(frames, "frames"), in_range(fps, "fps", 0.0, math.inf)
    width = in_range(1 / fps if width_s is None else width_s, "width_s", 0.0, math.inf, "seconds")
    if bool((until < begin).any()):
        raise ValueError("end: before onset, wanted fixations that end after they begin")
    number = (begin.isfinite() & until.isfinite()).nonzero()[:, 0]
    late = 1 / fps if causal else 0.5 / fps + width / 2  # when the window of frame 0 ends
    # A clock that counts in frames lands beside whole numbers by a rounding error.
    first = torch.floor((begin[number] - late) * fps + 1e-7).long() + 1
    last = torch.floor((until[number] - (late - width)) * fps + 1e-7).long()
    first, last = first.clamp(min=0), last.clamp(max=frames - 1)
    count = (last - first + 1).clamp(min=0)
    member = torch.repeat_interleave(number, count)
    step = torch.arange(len(member), device=member.device)
    step = step - torch.repeat_interleave(count.cumsum(0) - count, count)
    frame = torch.repeat_interleave(first, count) + step
    order = torch.argsort(frame, stable=True)
    return member[order].split(torch.bincount(frame, minlength=frames).tolist())


def interpolate(
    time: ArrayLike,
    lon: ArrayLike,
    lat: ArrayLike,
    when: ArrayLike,
    max_gap_s: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Directions of traces at given times, on the great arc between the samples around.

    Longitudes are never averaged, so neither the seam nor a pole is a special case.

    Args:
        time, lon, lat: ``(..., S)`` seconds and radians; samples with NaN in any of them are
            passed over. Of samples with one time stamp, the last counts.
        when: ``(T,)`` seconds.
        max_gap_s: the longest gap that is bridged; None is 3.5 times the trace's own median
            interval. In longer gaps, and before the first and after the last sample, nothing is
            known. Nor is it between opposite directions.
    Returns:
        ``lon, lat``, each ``(..., T)`` float64, NaN where nothing is known.
    """
    time, lon, lat = broadcast(
        time=as_tensor(time, "time").double(),
        lon=as_tensor(lon, "lon").double(),
        lat=as_tensor(lat, "lat").double(),
    )
    when = as_tensor(when, "when").double().to(time.device)
    if when.ndim != 1:
        raise ValueError(f"when: shape {tuple(when.shape)}, wanted (T,)")
    if time.ndim == 0 or time.shape[-1] == 0:
        raise ValueError(f"time: shape {tuple(time.shape)}, wanted (..., S), S at least 1")
    shape, S = time.shape[:-1], time.shape[-1]
    known = time.isfinite() & lon.isfinite() & lat.isfinite()
    stamp, order = time.masked_fill(~known, math.inf).reshape(-1, S).sort(dim=-1, stable=True)
    d = lonlat_to_xyz(lon.masked_fill(~known, 0), lat.masked_fill(~known, 0)).reshape(-1, S, 3)
    d = d.gather(1, order[..., None].expand(-1, -1, 3))
    if max_gap_s is None:
        gap = BRIDGED * median_interval(stamp)[:, None]
    else:
        gap = torch.full_like(stamp[:, :1], in_range(max_gap_s, "max_gap_s", 0.0, math.inf))
    asked = when.expand(len(stamp), -1).contiguous()
    after = torch.searchsorted(stamp, asked, right=True)
    before, after = (after - 1).clamp(min=0), after.clamp(max=S - 1)
    low, high = stamp.gather(1, before), stamp.gather(1, after)
    a, b = (d.gather(1, k[..., None].expand(-1, -1, 3)) for k in (before, after))
    on_sample = low == asked
    between = (low < asked) & high.isfinite() & (high > asked) & (high - low <= gap * (1 + 1e-9))
    between &= angle_between(a, b) < math.pi - 1e-6
    share = torch.where(between, (asked - low) / (high - low), torch.zeros_like(low))
    d = slerp(a, torch.where(between[..., None], b, a), share)
    found_lon, found_lat = xyz_to_lonlat(d)
    lost = ~(on_sample | between)
    found = (
        each.masked_fill(lost, torch.nan).reshape(*shape, -1) for each in (found_lon, found_lat)
    )
    return next(found), next(found)


def median_interval(time: Tensor) -> Tensor:
    """Median time between successive samples ``(..., S)`` to ``(...)``: the beat of a tracker.

    Equal stamps and unknown times (NaN, infinite) do not count; NaN if nothing is left.
    """
    step = time.diff(dim=-1)
    step = step.masked_fill(~(step.isfinite() & (step > 0)), torch.nan)
    if step.shape[-1] == 0:
        return time.new_full(time.shape[:-1], torch.nan)
    return step.nanmedian(-1).values
