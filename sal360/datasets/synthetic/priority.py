"""What draws the next look: things by how conspicuous they are, surroundings by where they lie.

A thing that does not attract has priority 0, whatever it does; it is looked at only as often as
the surroundings it happens to cover. Part of :mod:`sal360.datasets.synthetic.observers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sal360.datasets.synthetic.crowd import Array, GazeModel


class Scene(Protocol):
    """What an observer needs of a world: its number, and its state at any time."""

    @property
    def seed(self) -> int:
        """Its number: what is drawn while it is watched depends on it."""
        ...

    def state(self, times: Any) -> Any:
        """Where everything is at ``(T,)`` times; see :func:`stage`."""
        ...


@dataclass(frozen=True, eq=False)
class Stage:
    """A world at the ``S`` times ``j / rate``, for ``N`` things: arrays of float64.

    Attributes:
        rate: samples per second.
        directions: ``(S, N, 3)`` unit vectors. radius: ``(S, N)`` radians.
        appeal: ``(S, N)`` how conspicuous each is, apart from novelty; 0 for what does not attract.
        onset: ``(S, N)`` seconds at which each last appeared; ``-inf`` for what was always there.
        up, heading: ``(S, 3)`` unit vectors: away from the ground, and the front.
    """

    rate: float
    directions: Array
    radius: Array
    appeal: Array
    onset: Array
    up: Array
    heading: Array

    def __len__(self) -> int:
        return len(self.up)

    def at(self, time: Array) -> Any:
        """Index of the sample nearest to each time."""
        return np.clip(np.rint(time * self.rate), 0, len(self) - 1).astype(np.intp)

    def until(self, seconds: float) -> Stage:
        """The same, up to a time."""
        S = round(seconds * self.rate) + 1
        parts = {k: v[:S] for k, v in vars(self).items() if k != "rate"}
        return Stage(self.rate, **parts)


def dot(a: Array, b: Array) -> Array:
    """``(..., 3)`` times ``(..., 3)``, summed; written out, as that is faster than a sum."""
    out: Array = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return out


def cross(a: Array, b: Array) -> Array:
    """Vector product of ``(..., 3)``."""
    (ax, ay, az), (bx, by, bz) = (np.moveaxis(v, -1, 0) for v in (a, b))
    return np.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), axis=-1)


def unit(xyz: Array) -> Array:
    """Directions of length 1; a zero vector stays zero."""
    return xyz / np.maximum(np.sqrt(dot(xyz, xyz)), 1e-12)[..., None]


def angle(a: Array, b: Array) -> Array:
    """Radians between unit vectors, accurate near 0 and near pi."""
    apart, together = a - b, a + b
    return 2 * np.arctan2(np.sqrt(dot(apart, apart)), np.sqrt(dot(together, together)))


def stage(world: Scene, seconds: float, rate: float, model: GazeModel) -> Stage:
    """Read a world on the observers' clock.

    Appeal is ``size * contrast * visible * (1 + motion + looming)`` while a thing is slow enough
    to be followed; each factor saturates, see :class:`GazeModel`.

    Raises:
        ValueError: a state with NaN, or with shapes that do not fit together.
    """
    import torch

    times = torch.arange(round(seconds * rate) + 1, dtype=torch.float64) / rate
    state = world.state(times)

    def read(name: str) -> Array:
        value = np.asarray(getattr(state, name), dtype=np.float64)
        if not np.isfinite(value).all() and (name != "last_onset" or np.isnan(value).any()):
            raise ValueError(f"world.state: {name} holds NaN or infinite values, wanted numbers")
        return value

    directions = read("directions")
    if directions.ndim != 3 or directions.shape[::2] != (len(times), 3):
        raise ValueError(
            f"world.state: directions of shape {directions.shape}, wanted ({len(times)}, N, 3)"
        )
    shape = directions.shape[:2]

    def each(name: str) -> Array:
        value = read(name)
        if value.shape not in (shape, shape[1:]):
            raise ValueError(f"world.state: {name} of shape {value.shape}, wanted {shape}")
        return np.broadcast_to(value, shape)

    radius, speed, relative = each("radius"), each("speed"), each("relative_speed")
    growth = np.maximum(each("looming"), 0)
    moves = model.motion * relative / (relative + model.motion_half)
    looms = model.looming * growth / (growth + model.looming_half)
    appeal = (
        radius / (radius + model.size) * each("contrast") * each("visible") * each("attracts")
        * (1 + moves + looms) * np.exp(-((speed / model.too_fast) ** 2))
    )  # fmt: skip
    return Stage(
        rate, unit(directions), radius, appeal, each("last_onset"), unit(-read("gravity")),
        unit(read("heading")),
    )  # fmt: skip


def prior(height: Array, ahead: Array, strength: Array, model: GazeModel) -> Array:
    """Where people look before they know what is there: near the horizon, near the front.

    Args:
        height, ahead: ``(n, M)`` sine of the angle above the horizon, cosine of that to the front.
        strength: ``(n,)``, how many times likelier the middle of the front is.
    Returns:
        ``(n, M)`` weights.
    """
    level = np.exp(-0.5 * (np.arcsin(np.clip(height, -1, 1)) / model.equator) ** 2)
    near = np.exp((ahead - 1) / model.front_width**2)
    floor = model.equator_floor
    return (floor + (1 - floor) * level) * (1 + strength[:, None] * near)


def front_strength(time: Array, front: Array, model: GazeModel) -> Array:
    """How strongly each observer keeps to the front at a time: first more, later less."""
    fades = np.exp(-time / model.front_lasts)
    return front * (model.front_later + (model.front_first - model.front_later) * fades)


def level(xyz: Array, up: Array) -> Array:
    """The direction's own bearing along the horizon; any, for what points straight up."""
    flat = xyz - dot(xyz, up)[..., None] * up
    flat = np.where(np.abs(flat).max(-1, keepdims=True) > 1e-6, flat, np.roll(up, 1, axis=-1))
    return unit(flat - dot(flat, up)[..., None] * up)
