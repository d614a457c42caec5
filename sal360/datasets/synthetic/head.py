"""Eye and head: the head follows, the eyes reach no further than they can turn in it.

Part of :mod:`sal360.datasets.synthetic.observers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sal360.datasets.synthetic.crowd import Array, Crowd, GazeModel
from sal360.datasets.synthetic.priority import Stage, angle, dot, unit
from sal360.datasets.synthetic.scanpath import Scanpath, toward, where


@dataclass(frozen=True, eq=False)
class Traces:
    """Gaze and head of ``n`` observers at the ``S`` samples of a stage.

    Attributes:
        gaze, head: ``(n, S, 3)`` unit vectors. look: ``(n, S)`` which look of the scanpath.
        fixating: ``(n, S)`` bool: the eyes are where the look wants them.
    """

    gaze: Array
    head: Array
    look: NDArray[np.intp]
    fixating: NDArray[np.bool_]


def trace(path: Scanpath, stage: Stage, crowd: Crowd, model: GazeModel) -> Traces:
    """Turn looks into motion: saccades, pursuit, and a head that follows."""
    n, S = len(crowd), len(stage)
    time = np.arange(S) / stage.rate
    observer, sample = np.arange(n)[:, None], np.broadcast_to(np.arange(S), (n, S))

    def wanted(observer: Any, sample: Any, look: Any) -> Array:
        return where(stage, sample, path.target[observer, look], path.place[observer, look])

    look = _current(path.leave, time)
    goal = wanted(observer, sample, look)
    gaze = goal.copy()
    since = time - path.leave[observer, look]
    some = np.nonzero((look > 0) & (since < model.saccade_base + model.saccade_slope * np.pi))
    before = wanted(some[0], some[1], look[some] - 1)
    shift = angle(before, goal[some])
    share = np.minimum(since[some] / (model.saccade_base + model.saccade_slope * shift), 1)
    share = share * share * (3 - 2 * share)  # slow, fast, slow
    gaze[some] = np.where(share[:, None] < 1, toward(before, goal[some], share * shift), goal[some])

    sets_out = path.leave + np.where(path.far, -model.lead, model.lag)
    sets_out[:, 0] = 0.0
    turns_to = _current(np.maximum.accumulate(sets_out, 1), time)
    head = _follow(wanted(observer, sample, turns_to), stage.rate, crowd, model)
    beyond = dot(head, gaze) < np.cos(model.eye_limit)
    gaze[beyond] = toward(head[beyond], gaze[beyond], np.full(int(beyond.sum()), model.eye_limit))
    fixating = (time >= path.land[observer, look]) & (time < path.end[observer, look]) & ~beyond
    fixating[some] &= share >= 1
    return Traces(gaze, head, look, fixating)


def _current(starts: Array, time: Array) -> NDArray[np.intp]:
    """``(n, S)`` number of the last of ``(n, K)`` ascending starts that is not after each time."""
    n, K = starts.shape
    far = float(time[-1]) + 1 if len(time) else 1.0
    shelf = np.arange(n)[:, None] * far  # all observers in one sorted list
    found = np.searchsorted((np.minimum(starts, far) + shelf).ravel(),
                            (time + shelf).ravel(), side="right")  # fmt: skip
    return np.clip(found.reshape(n, -1) - 1 - np.arange(n)[:, None] * K, 0, K - 1)


def _follow(goal: Array, rate: float, crowd: Crowd, model: GazeModel) -> Array:
    """The head turns towards its goal as fast as that is beyond what the eyes cover alone.

    It is stepped at every other sample and half way in between: it is slow, the loop is not fast.
    """
    n, S, _ = goal.shape
    goals = np.ascontiguousarray(goal[:, ::2].transpose(1, 2, 0))
    out = np.empty((len(goals) + 1, 3, n))
    head, velocity = goals[0], np.zeros((3, n))
    step = 2 / rate
    gathers = -np.expm1(-step / model.inertia)
    total = np.add.reduce
    for s, there in enumerate(goals):
        out[s] = head
        ahead = total(head * there)
        side = there - ahead * head
        across = np.sqrt(total(side * side))
        excess = np.maximum(np.arctan2(across, ahead) - crowd.alone, 0)
        pull = side * (excess / (crowd.turn_time * np.maximum(across, 1e-12)))
        velocity = velocity + gathers * (pull - velocity)
        head = head + step * velocity
        head = head / np.sqrt(total(head * head))
    out[-1] = head
    every = np.empty((n, 2 * len(goals), 3))
    every[:, ::2] = out[:-1].transpose(2, 0, 1)
    every[:, 1::2] = unit((out[:-1] + out[1:]).transpose(2, 0, 1))
    return every[:, :S]
