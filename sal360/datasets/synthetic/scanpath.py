"""Look after look: one step of the loop is one fixation of every observer.

Observers do not share a clock. In step ``k`` each of them ends its k-th fixation at a time of its
own, chooses what to look at next and for how long. Part of
:mod:`sal360.datasets.synthetic.observers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sal360.datasets.synthetic.crowd import Array, Crowd, GazeModel
from sal360.datasets.synthetic.priority import (
    Stage,
    angle,
    cross,
    dot,
    front_strength,
    level,
    prior,
    unit,
)

CANDIDATES = 8
"""Places in the surroundings that are weighed against each other before each look."""

PLACES = 6
"""Places left before that an observer still remembers."""


@dataclass(frozen=True, eq=False)
class Scanpath:
    """``K`` looks of ``n`` observers, the first one at the front.

    Attributes:
        leave, land, end: ``(n, K)`` seconds: the eyes set out, are there, and leave again.
        target: ``(n, K)`` number of the thing looked at, -1 for the surroundings.
        place: ``(n, K, 3)`` the direction, for surroundings; for a thing, what to add to its
            direction before it is normalised.
        far: ``(n, K)`` bool: the eyes could not get there without the head.
    """

    leave: Array
    land: Array
    end: Array
    target: NDArray[np.intp]
    place: Array
    far: NDArray[np.bool_]


def toward(a: Array, b: Array, way: Array) -> Array:
    """Walk ``way`` radians from ``a`` to ``b``, both ``(..., 3)`` unit; from opposite, nowhere."""
    side = unit(b - dot(a, b)[..., None] * a)
    return unit(np.cos(way)[..., None] * a + np.sin(way)[..., None] * side)


def bearings(xyz: Array, up: Array) -> tuple[Array, Array]:
    """Unit vectors to the right and upwards of directions ``(n, 3)``, along the horizon's frame.

    Straight up or down there is no right: a fixed one is taken.
    """
    right = cross(xyz, up)
    lost = (dot(right, right) < 1e-12)[..., None]
    if lost.any():
        right = np.where(lost, cross(xyz, np.roll(up, 1, axis=-1)), right)
    right = unit(right)
    return right, cross(right, xyz)


def explore(
    stage: Stage, crowd: Crowd, seconds: float, seed: tuple[int, ...], model: GazeModel
) -> Scanpath:
    """Draw the looks of a crowd until everybody has reached the end.

    A longer time continues the same path: step ``k`` draws the same numbers whatever follows.
    """
    n, N = len(crowd), stage.directions.shape[1]
    rng = np.random.default_rng([*seed, 7])
    liking = np.exp(model.taste * np.random.default_rng([*seed, 8]).standard_normal((n, N)))
    everyone = np.arange(n)
    up0 = np.broadcast_to(stage.up[0], (n, 3))
    front = np.broadcast_to(level(stage.heading[0], stage.up[0]), (n, 3))
    gaze = _scattered(front, np.radians(3.0), rng.standard_normal((n, 2)), up0)
    head = gaze
    end = crowd.delay.copy()
    zero = np.zeros(n)
    steps: list[tuple[Any, ...]] = [
        (zero, zero, end.copy(), np.full(n, -1), gaze, np.zeros(n, dtype=bool))
    ]
    target, place = np.full(n, -1), gaze
    dwelled = np.zeros((n, N))  # seconds of looking at each thing, fading
    left = np.full((n, N), -np.inf)
    seen = np.full((n, N), -np.inf)
    places = np.zeros((n, PLACES, 3))
    left_places = np.full((n, PLACES), -np.inf)
    turning = np.where(rng.random(n) < 0.5, 1.0, -1.0)

    while float(end.min()) < seconds:
        now = stage.at(end)
        z = rng.standard_normal((n, 4))
        u = rng.random((n, 4))
        zc = rng.standard_normal((n, CANDIDATES, 2))
        uc = rng.random((n, CANDIDATES, 4))
        up = stage.up[now]
        things, radius = stage.directions[now], stage.radius[now]
        gaze = where(stage, now, target, place)
        strength = front_strength(end, crowd.front, model)
        ahead = level(stage.heading[now], up)

        # What is in view, and how much each thing draws.
        marks = np.stack((up, ahead, head, gaze), axis=-1)
        height, to_front, to_head, to_gaze = np.moveaxis(things @ marks, -1, 0)
        in_view = 1 / (1 + np.exp((_angle(to_head) - model.view) / model.edge))
        there = stage.appeal[now]
        seen = np.where((in_view > 0.5) & (there > 0), end[:, None], seen)
        remembered = model.memory * np.exp((seen - end[:, None]) / model.forgets)
        age = end[:, None] - stage.onset[now]
        fresh = np.where(age >= 0, np.exp(-np.maximum(age, 0) / model.novelty_lasts), 0.0)
        back = np.exp((left - end[:, None]) / model.inhibition_lasts)
        weight = (
            crowd.interest[:, None] * liking * there * (1 + model.novelty * fresh)
            * np.maximum(in_view, remembered)
            * np.exp(-_angle(to_gaze) / model.reach - dwelled / model.habituates)
            * (1 - model.inhibition * back) * prior(height, to_front, strength, model)
        )  # fmt: skip

        # Surroundings: glances and turns, weighed by the priors and by what was just left.
        curious = model.curiosity * np.exp(-end / model.curious)
        turns = uc[..., 0] < (1 / (1 + np.exp(-crowd.turning - curious)))[:, None]
        amplitude = np.where(
            turns,
            np.abs(model.turn + model.turn_spread * zc[..., 0]),
            -0.5 * model.glance * np.log(np.maximum(uc[..., 1] * uc[..., 3], 1e-9)),
        )
        onward = np.where(uc[..., 2] < model.persists, 1.0, -1.0) * turning[:, None]
        side = np.where(turns, onward, np.where(uc[..., 2] < 0.5, 1.0, -1.0))
        slant = zc[..., 1] * model.upright
        right, above = bearings(gaze, up)
        leaving = (side * np.cos(slant))[..., None] * right[:, None] + np.sin(slant)[
            ..., None
        ] * above[:, None]
        amplitude = np.minimum(amplitude, 2.0)
        around = (
            np.cos(amplitude)[..., None] * gaze[:, None] + np.sin(amplitude)[..., None] * leaving
        )
        near = np.exp((around @ places.transpose(0, 2, 1) - 1) / model.inhibition_radius**2)
        recent = np.exp((left_places - end[:, None]) / model.inhibition_lasts)[:, None]
        height, to_front = np.moveaxis(around @ marks[..., :2], -1, 0)
        merit = prior(height, to_front, strength, model)
        merit = merit * (1 - model.inhibition * (near * recent).max(-1))

        # One of them.
        attention = weight.sum(-1)
        thing = u[:, 0] * (attention + 1) < attention
        which = _draw(weight, u[:, 1])
        chosen = _draw(merit, u[:, 1])
        turned = turns[everyone, chosen]
        turning = np.where(~thing & turned, side[everyone, chosen], turning)

        # Leave the old, go to the new.
        if N:
            old = target >= 0
            left[everyone[old], target[old]] = end[old]
        places = np.roll(places, 1, axis=1)
        left_places = np.roll(left_places, 1, axis=1)
        places[:, 0], left_places[:, 0] = gaze, end
        target = np.where(thing, which, -1) if N else np.full(n, -1)
        if N:
            size = radius[everyone, which]
            aim = things[everyone, which] + _offset(z[:, :2] * (0.4 * size)[:, None], gaze, up)
            goal = np.where(thing[:, None], unit(aim), around[everyone, chosen])
        else:
            goal = around[everyone, chosen]
        shift = angle(gaze, goal)
        error = z[:, 2:4] * (model.scatter + model.scatter_slope * shift)[:, None]
        goal = _scattered(goal, 1.0, error, up)
        place = np.where(thing[:, None], goal - things[everyone, which], goal) if N else goal
        eccentricity = angle(head, goal)
        far = eccentricity > model.eye_limit
        beyond = np.log(
            np.maximum(eccentricity - crowd.alone, 1e-9) / (model.eye_limit - crowd.alone)
        )
        travel = np.where(far, crowd.turn_time * beyond + model.inertia - model.lead, 0.0)
        jump = model.saccade_base + model.saccade_slope * shift
        land = end + np.maximum(jump, travel)
        # How long.
        held = 1 + model.hold * np.where(thing, there[everyone, which], 0.0) if N else 1.0
        rest = (
            model.fixation
            * crowd.pace
            * held
            * np.exp(model.fixation_spread * rng.standard_normal(n))
        )
        rest = np.clip(rest, model.shortest, model.longest)
        if N:
            rest = _captured(stage, head, land, rest, u[:, 2], crowd, model)
        leave, end = end, land + rest
        later = stage.at(land)
        goal = where(stage, later, target, place)
        head = _follow(head, goal, end - leave, crowd)
        if N:
            dwelled *= np.exp(-(end - leave) / model.recovers)[:, None]
            dwelled[everyone[thing], which[thing]] += rest[thing]
        steps.append((leave, land, end.copy(), target, place, far))
    columns = zip(*steps, strict=True)
    leave, land, end, target, place, far = (np.stack(column, axis=1) for column in columns)
    return Scanpath(leave, land, end, target, place, far)


def where(stage: Stage, now: Any, target: Any, place: Array) -> Array:
    """Directions of what is looked at, at samples ``now``: of a thing where it then is."""
    if not stage.directions.shape[1]:
        return place
    moved = unit(stage.directions[now, np.maximum(target, 0)] + place)
    return np.where((target >= 0)[..., None], moved, place)


def _draw(weight: Array, u: Array) -> NDArray[np.intp]:
    """One column of each row of ``(n, M)`` weights, by their size; 0 where all are 0."""
    if not weight.shape[1]:
        return np.zeros(len(weight), dtype=np.intp)
    total = np.cumsum(weight, axis=1)
    return np.minimum((total <= (u * total[:, -1])[:, None]).sum(1), weight.shape[1] - 1)


def _angle(cosine: Array) -> Array:
    """Radians, good enough to weigh by."""
    return np.arccos(np.clip(cosine, -1, 1))


def _offset(z: Array, xyz: Array, up: Array) -> Array:
    right, above = bearings(xyz, up)
    return z[:, :1] * right + z[:, 1:] * above


def _scattered(xyz: Array, by: float, z: Array, up: Array) -> Array:
    return unit(xyz + _offset(by * z, xyz, up))


def _follow(head: Array, goal: Array, seconds: Array, crowd: Crowd) -> Array:
    """Where the head is after following a goal: what the eyes cover alone is left to them."""
    away = angle(head, goal)
    excess = np.maximum(away - crowd.alone, 0)
    return toward(head, goal, excess * -np.expm1(-seconds / crowd.turn_time))


def _captured(
    stage: Stage, head: Array, land: Array, rest: Array, u: Array, crowd: Crowd,
    model: GazeModel,
) -> Array:  # fmt: skip
    """Durations, cut short where something appears within view."""
    then = stage.at(land + rest)
    onset = stage.onset[then]
    reaction = onset + crowd.latency[:, None]
    cuts = (
        (onset > land[:, None]) & (reaction < (land + rest)[:, None])
        & (angle(head[:, None], stage.directions[then]) < model.view)
        & (stage.appeal[then] > 0) & (u < model.capture)[:, None]
    )  # fmt: skip
    first = np.where(cuts, reaction, np.inf).min(1)
    return np.where(np.isfinite(first), np.maximum(first - land, model.shortest), rest)
