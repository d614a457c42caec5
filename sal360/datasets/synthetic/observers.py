"""Observers: who look at a synthetic world, and where. A stochastic model of gaze.

Each observer goes from look to look. A look ends; the next one is chosen among the things in the
world and its surroundings; the eyes jump there, the head follows; something is looked at for a
while, and followed if it moves. Chapter 10 shows it at work. The rules, in order:

1. **Appeal** of a thing: ``size * contrast * visible * (1 + motion + looming)``; motion counts
   relative to the background, looming is growth. Things that do not attract have none, however
   they move. What is too fast to be followed loses it. (:mod:`~.priority`)
2. **Priority** for one observer, at the end of a look: appeal, times this person's liking for
   this thing, times ``1 + novelty`` if it has just appeared, times how much of it is in view of
   the headset (or remembered), times ``exp(-distance / reach)`` from the present gaze, times
   habituation to what has been looked at for long, times inhibition of return to what was just
   left, times the **prior**: near the horizon (of the world: across ``gravity``), near the front
   (``heading``), the front more at first than later.
3. **Choice**: a thing with probability ``A / (A + 1)``, ``A`` the sum of the priorities times the
   observer's interest in things; else the surroundings. Among things in proportion to priority.
   Among surroundings, eight places are drawn, glances (gamma distributed amplitudes) and turns
   (about 55 degrees, most often onward in the direction of the last one, more often while all
   is new), mostly along the horizon, and one of them is taken in proportion to the prior and
   inhibition of return.
4. **Jump**: duration grows with amplitude; the landing point scatters. Where the eyes cannot get
   without the head, it sets out first and the eyes arrive with it; else the head sets out later.
5. **Look**: log-normal duration, longer on what appeals; something that appears within view may
   cut it short, after the observer's latency. Moving things are followed exactly (pursuit has no
   lag here, which real pursuit has).
6. **Head**: turns towards its goal with a speed proportional to the angle beyond what the eyes
   cover alone, through some inertia. The gaze never leaves the eyes' range around the head.

Everybody starts near the front and stays there for a moment. Observers differ in interest, in
how much they turn around, in faith in the front, pace, latency, and in how they share work
between eyes and head (:func:`~.crowd.draw_crowd`); they are the same people in every world.

**What it is not.** Nothing here understands a scene: no faces, no words, no task, no sound, no
boredom. Surroundings are looked at blindly, whatever is drawn on them, and are not followed while
the camera turns. Parameters are choices,
or tuned to statistics of heads; see :class:`~.crowd.GazeModel`, and
:mod:`sal360.experiments.observers` for the comparison with real heads and what remains.

Sources: LaValle, "Virtual Reality", 2016, figure 5.21 (range of the eyes). Of two, what their
abstracts say, which is no number: Anderson et al., Journal of Vision 20(8):21, 2020 (saccades keep
to the horizon, people differ in how much they turn the head); Bischof et al., Journal of Vision
20(7):23, 2020 (gaze follows the horizon of the scene; eyes lead heads to what draws them).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, in_range, positive_int
from sal360.datasets.synthetic.crowd import Crowd, GazeModel, draw_crowd
from sal360.datasets.synthetic.head import trace
from sal360.datasets.synthetic.priority import Scene, stage, unit
from sal360.datasets.synthetic.scanpath import explore
from sal360.sphere import xyz_to_lonlat

RATE = 60.0
"""Samples per second of the traces."""


@dataclass(frozen=True, eq=False)
class Watched:
    """What ``n`` observers did while a world was shown.

    Attributes:
        times: ``(T,)`` seconds at which the frames begin.
        clock: ``(S,)`` seconds of the traces' samples, from 0.
        gaze, head: ``(n, S, 3)`` float64 unit vectors on that clock.
        fixating: ``(n, S)`` bool: not in a saccade, nor waiting for the head.
        observer: ``(F,)`` int64, whose each fixation is; in order of observer, then of time.
        onset, duration: ``(F,)`` seconds, to a sample of the clock.
        direction: ``(F, 3)`` mean direction during each. target: ``(F,)`` int64, number of the
            thing looked at, -1 for the surroundings.
        fixations: for each frame ``(N_t, 2)`` float64 lon, lat in radians: gaze, at the middle of
            the frame's time, of those who are then fixating.
        observers: for each frame ``(N_t,)`` int64, whose they are.
    """

    times: Tensor
    clock: Tensor
    gaze: Tensor
    head: Tensor
    fixating: Tensor
    observer: Tensor
    onset: Tensor
    duration: Tensor
    direction: Tensor
    target: Tensor
    fixations: tuple[Tensor, ...]
    observers: tuple[Tensor, ...]
    crowd: Crowd
    middles: Tensor

    def __len__(self) -> int:
        return len(self.gaze)

    @cached_property
    def heads(self) -> Tensor:
        """``(T, n, 2)`` lon, lat of every head at the middle of every frame's time."""
        lon, lat = xyz_to_lonlat(self.head[:, self.middles])
        return torch.stack((lon, lat), dim=-1).transpose(0, 1)


def watch(
    world: Scene,
    times: ArrayLike,
    n: int = 48,
    seed: int = 0,
    model: GazeModel | None = None,
    window: float | None = None,
) -> Watched:
    """Let ``n`` observers watch a world from its beginning, time 0, to the last frame's end.

    The same for the same world, ``n`` and ``seed``, and the part before any moment does not
    depend on what is asked for after it. Chapter 10.

    Args:
        world: has a ``seed`` and ``state(times)``, as
            :class:`sal360.datasets.synthetic.world.World`; ``state`` gives directions
            ``(T, N, 3)`` in the camera's frame, radius, visible, speed, relative_speed, looming,
            contrast, last_onset and attracts ``(T, N)`` or ``(N,)``, gravity and heading
            ``(T, 3)``. Radians and seconds.
        times: ``(T,)`` seconds at which frames begin, ascending, from 0 on.
        n: observers. seed: which crowd, at least 0. model: parameters other than the standard.
        window: seconds for which each frame is shown; the median step between frames unless
            given (needed for one frame).
    Raises:
        ValueError: times that descend or begin before 0; a state of wrong shapes, or with NaN.
    """
    times = as_float64(times, "times")
    if times.ndim != 1 or not len(times):
        raise ValueError(f"times: shape {tuple(times.shape)}, wanted (T,), T at least 1")
    if float(times[0]) < 0 or bool((times.diff() <= 0).any()):
        raise ValueError("times: negative or not ascending, wanted ascending from 0 on")
    if window is None:
        if len(times) < 2:
            raise ValueError("window: None, wanted the seconds for which one frame is shown")
        window = float(times.diff().median())
    window = in_range(window, "window", 0.0, 3600.0, "seconds")
    n = positive_int(n, "n")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed: {seed!r}, wanted a whole number of at least 0")
    model = model or GazeModel()
    seconds = float(times[-1]) + window
    # What heads and eyes are about to do at the end depends on what comes soon after it.
    scene = stage(world, seconds + model.longest + 1.0, RATE, model)
    crowd = draw_crowd(n, int(seed), model)
    path = explore(scene, crowd, seconds + model.lead, (int(world.seed), int(seed)), model)
    scene = scene.until(seconds)
    traces = trace(path, scene, crowd, model)

    middles = torch.from_numpy(scene.at((times + window / 2).numpy()))
    gaze, fixating = torch.from_numpy(traces.gaze), torch.from_numpy(traces.fixating)
    lon, lat = xyz_to_lonlat(gaze[:, middles])
    lonlat = torch.stack((lon, lat), dim=-1).transpose(0, 1)
    who = fixating[:, middles].T
    per_frame = who.sum(1).tolist()
    K = path.leave.shape[1]
    fixation = (traces.look + np.arange(n)[:, None] * K)[traces.fixating]
    count = np.bincount(fixation, minlength=n * K)
    some = np.flatnonzero(count)
    sample = np.broadcast_to(np.arange(len(scene)), traces.look.shape)[traces.fixating]
    first = np.full(n * K, len(scene))
    np.minimum.at(first, fixation, sample)
    xyz = traces.gaze[traces.fixating]
    total = [np.bincount(fixation, xyz[:, k], n * K)[some].astype(np.float64) for k in range(3)]
    return Watched(
        times=times,
        clock=torch.arange(len(scene), dtype=torch.float64) / RATE,
        gaze=gaze,
        head=torch.from_numpy(np.ascontiguousarray(traces.head)),
        fixating=fixating,
        observer=torch.from_numpy(some // K),
        onset=torch.from_numpy(first[some] / RATE),
        duration=torch.from_numpy(count[some] / RATE),
        direction=torch.from_numpy(unit(np.stack(total, axis=-1))),
        target=torch.from_numpy(path.target.ravel()[some].astype(np.int64)),
        fixations=tuple(lonlat[who].split(per_frame)),
        observers=tuple(who.nonzero()[:, 1].split(per_frame)),
        crowd=crowd,
        middles=middles,
    )
