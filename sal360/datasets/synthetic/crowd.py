"""Who watches: what all observers of the gaze model have in common, and how they differ.

Every parameter has a meaning and a unit, and a note on where its value comes from. *Choice*:
set by hand, to be plausible. *Tuned*: set so that one named statistic of the heads comes near
that of the real traces of AVTrack360; :mod:`sal360.experiments.observers` measures how near.
The model itself is told in :mod:`sal360.datasets.synthetic.observers`. Chapter 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sal360._check import positive_int

Array = NDArray[np.float64]


def _degrees(value: float) -> float:
    return float(np.radians(value))


@dataclass(frozen=True)
class GazeModel:
    """Parameters that all observers share; angles in radians, times in seconds.

    Attention to things:
        size: radius at which a thing is half as conspicuous as a huge one (choice).
        motion, motion_half: gain of motion relative to the background, and the speed in rad/s
            that brings half of it (choices).
        looming, looming_half: the same for growth, in 1/s (choices).
        novelty, novelty_lasts: gain of a thing that has just appeared, and how fast it fades
            (choices).
        too_fast: rad/s at which a thing is too fast to be followed, and attention to it has
            fallen to 1/e (choice).
        interest: weight of all priorities against surroundings, whose weight is 1. Tuned:
            agreement within a second.
        taste: spread (of the logarithm) of how much a person likes a thing (choice).
    Where it is looked for:
        reach: distance from the present gaze over which attention falls by 1/e (choice).
        view: half-width of what a headset shows around the head, with a soft edge of ``edge``
            (choices; about 100 degrees across).
        memory, forgets: weight of a thing seen before and now out of view, and the time in
            which it is forgotten (choices).
    Having looked:
        habituates, recovers: looking at a thing makes it less interesting by 1/e in
            ``habituates``, and it is new again after ``recovers`` (choices).
        inhibition, inhibition_lasts, inhibition_radius: share by which the way back to what was
            just left is blocked, the time this lasts, and its width on the background (choices).
    Priors:
        equator, equator_floor: standard deviation of the latitudes about the horizon that are
            looked for, and the weight of zenith and nadir. Tuned: latitudes.
        front_width: half-width of the front (choice). front_first, front_later: how many times
            likelier than the back it is to be looked at, at first and in the long run;
            ``front_lasts``: time between the two. ``front_later`` tuned: the share of time near
            the front; the others are choices.
    Surroundings:
        glance: mean amplitude of a glance at the background (choice). turn, turn_spread: mean
            and deviation of a turn towards what has not been seen. Tuned: longitudes seen.
        turning: log odds of a turn in place of a glance; ``curiosity``: how much higher they are
            at first; ``curious``: time in which that fades. Tuned: distance from the start.
        persists: probability that a turn goes on in the direction of the last. Tuned:
            longitudes seen.
        upright: deviation of the bearing of glances and turns from the horizontal, which
            saccades keep to (choice; that they do: Anderson et al., 2020).
    Timing:
        fixation, fixation_spread: median duration of a fixation and deviation of its logarithm;
            ``shortest`` and ``longest`` (choices). hold: how many times longer, beyond once, a
            thing of appeal 1 is looked at than background (choice).
        delay: median time before the first saccade. Tuned: the first two seconds.
        capture: probability that something that appears within view cuts a fixation short
            (choice).
        saccade_base, saccade_slope: duration of a saccade, and seconds more for each radian
            (choices). scatter, scatter_slope: landing error, and its share of the amplitude
            (choices).
    Eye and head:
        eye_limit: largest angle between gaze and head, 30 degrees: a little inside the 35 to
            either side that LaValle ("Virtual Reality", 2016, figure 5.21) gives; he gives
            less, 20 and 25, for up and down, which is ignored here.
        alone: what the eyes cover without the head. turn_time: time constant with which the head
            follows. Tuned: speed of the head. inertia: with which it gathers speed (choice).
        lag: how long after the eyes the head sets out to a thing near by; ``lead``: how long
            before them where the eyes could not get there without it (choices; that the eyes
            lead to what draws them is what Bischof et al., 2020, report).
    """

    size: float = _degrees(3)
    motion: float = 2.0
    motion_half: float = _degrees(10)
    looming: float = 3.0
    looming_half: float = 0.3
    novelty: float = 4.0
    novelty_lasts: float = 1.5
    too_fast: float = _degrees(120)
    interest: float = 2.0
    taste: float = 0.6
    reach: float = _degrees(35)
    view: float = _degrees(50)
    edge: float = _degrees(4)
    memory: float = 0.2
    forgets: float = 8.0
    habituates: float = 1.5
    recovers: float = 10.0
    inhibition: float = 0.8
    inhibition_lasts: float = 1.5
    inhibition_radius: float = _degrees(5)
    equator: float = _degrees(28)
    equator_floor: float = 0.2
    front_width: float = _degrees(35)
    front_first: float = 6.0
    front_later: float = 2.5
    front_lasts: float = 1.0
    glance: float = _degrees(12)
    turn: float = _degrees(55)
    turn_spread: float = _degrees(15)
    turning: float = -0.8
    curiosity: float = 2.0
    curious: float = 10.0
    persists: float = 0.8
    upright: float = _degrees(35)
    fixation: float = 0.3
    fixation_spread: float = 0.45
    shortest: float = 0.1
    longest: float = 3.0
    hold: float = 1.0
    delay: float = 0.75
    capture: float = 0.7
    saccade_base: float = 0.025
    saccade_slope: float = 0.125
    scatter: float = _degrees(0.5)
    scatter_slope: float = 0.04
    eye_limit: float = _degrees(30)
    alone: float = _degrees(10)
    turn_time: float = 0.45
    inertia: float = 0.08
    lag: float = 0.04
    lead: float = 0.1


@dataclass(frozen=True, eq=False)
class Crowd:
    """``n`` observers; each field ``(n,)`` float64.

    Attributes:
        interest: weight of things against surroundings.
        turning: log odds that a look at the surroundings is a turn, not a glance.
        front: factor on the front prior.
        pace: factor on the durations of fixations.
        latency: seconds until something that appears is looked at.
        delay: seconds before the first saccade.
        alone: radians that the eyes cover without the head: large for people who move their
            eyes, small for people who move their heads.
        turn_time: time constant of the head in seconds.
    """

    interest: Array
    turning: Array
    front: Array
    pace: Array
    latency: Array
    delay: Array
    alone: Array
    turn_time: Array

    def __len__(self) -> int:
        return len(self.interest)


def draw_crowd(n: int = 48, seed: int = 0, model: GazeModel | None = None) -> Crowd:
    """The same ``n`` people for the same seed, whatever they watch; fewer are the first of more.

    Args:
        n: observers, at least 1. seed: at least 0. model: what they have in common.
    """
    n, model = positive_int(n, "n"), model or GazeModel()
    z = np.random.default_rng([seed, 101]).standard_normal((n, 8)).T

    def around(median: float, spread: float, which: int) -> Array:
        return median * np.exp(spread * z[which])

    return Crowd(
        interest=around(model.interest, 0.5, 0),
        turning=model.turning + 1.0 * z[1],
        front=around(1.0, 0.5, 2),
        pace=around(1.0, 0.2, 3),
        latency=around(0.2, 0.2, 4),
        delay=around(model.delay, 0.3, 5),
        alone=around(model.alone, 0.4, 6).clip(max=0.8 * model.eye_limit),
        turn_time=around(model.turn_time, 0.3, 7),
    )
