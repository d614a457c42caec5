"""A world is a description in plain numbers: where everything is and looks at every time.

Nothing here is a picture. :func:`draw_world` draws a :class:`World` from a seed;
:meth:`World.state` says where its things are, for whoever has to decide where to look;
:mod:`sal360.datasets.synthetic.render` makes the frames.

The world's frame has its origin where the camera stands at time 0 if it does not move, y down
along gravity, z ahead; lengths are metres and times seconds. The **camera frame** is that of
the panorama: its centre is (0, 0, 1). Chapter 10 uses these worlds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64
from sal360.datasets.synthetic.motion import Poses, background_depth, columns, poses

Vector = tuple[float, float, float]
Colour = tuple[float, float, float]

STEP = 1e-3
"""Seconds over which :meth:`World.state` takes its (central) differences."""


@dataclass(frozen=True)
class Texture:
    """A surface. ``kind`` of :data:`~sal360.datasets.synthetic.content.CONTENT`; two colours;
    ``scale`` in metres (of the repeat or of the coarsest grain); ``seed`` of its details."""

    kind: str
    first: Colour
    second: Colour
    scale: float
    seed: int


@dataclass(frozen=True)
class Place:
    """Everything that does not move.

    Attributes:
        kind: its name in the table of content.
        height: of the camera above the floor; infinite where there is no floor.
        half: half the extent in x and in z up to the walls; infinite where there are none.
        roof: of the walls' upper edge (and of the ceiling) above the camera.
        ceiling: whether there is one; else sky above the walls.
        haze: metres over which the floor fades into the horizon's colour.
        sky, zenith, horizon, accent, sky_seed: the sky's kind and colours.
        skyline, skyline_height, skyline_colour: silhouette at infinity, its height in radians.
        floor, wall, top: surfaces.
    """

    kind: str
    height: float
    half: tuple[float, float]
    roof: float
    ceiling: bool
    haze: float
    sky: str
    zenith: Colour
    horizon: Colour
    accent: Colour
    sky_seed: int
    skyline: str
    skyline_height: float
    skyline_colour: Colour
    floor: Texture
    wall: Texture
    top: Texture


@dataclass(frozen=True)
class Camera:
    """Where the camera is and looks: every part of its motion is a sine, a line or a turn.

    Position ``travel t + sine sin(w t) + cosine (cos(w t) - 1) + double sin(2 w t)``, with ``w``
    from ``period``; ``yaw + yaw_rate t + yaw_swing sin(w' t)`` and pitch and roll swings with
    ``w'`` from ``nod``, radians.
    """

    path: str
    travel: Vector = (0.0, 0.0, 0.0)
    sine: Vector = (0.0, 0.0, 0.0)
    cosine: Vector = (0.0, 0.0, 0.0)
    double: Vector = (0.0, 0.0, 0.0)
    period: float = 10.0
    yaw: float = 0.0
    yaw_rate: float = 0.0
    yaw_swing: float = 0.0
    pitch_swing: float = 0.0
    roll_swing: float = 0.0
    nod: float = 6.0


@dataclass(frozen=True)
class Light:
    """Direction towards the light (world frame), its share against the ambient one, and the
    gain of the whole picture, ``1 + swing sin(2 pi t / period + phase)``."""

    towards: Vector
    direct: float
    swing: float
    period: float
    phase: float


@dataclass(frozen=True)
class Thing:
    """One object.

    Its centre at time t is ``D(t) turn(axis, angle(t)) start + slide(t) along + bob + follow
    camera``, where

    - ``angle = speed (t + pause (4/3 sin wt + 1/6 sin 2wt) / w) + swing sin(wt + phase)``; with
      ``pause`` 1 the thing stands still for about a third of each ``period``;
    - ``D = distance nearness ** (-q)``, ``q = (1 - cos(2 pi t / loom_period + loom_phase)) / 2``:
      ``nearness`` 3 comes to a third of the distance and goes away again;
    - ``slide = length (frac(t / slide_period + slide_phase) - 1/2)``, invisible at the ends;
    - ``bob`` is up and down, metres, once per ``period``.

    Attributes:
        shape, pattern: names in the table of content. solid: a body with a surface (it may
            ``spin`` about gravity), else a flat figure that faces the viewer.
        size: half its height in metres; stretch: its width over its height.
        first, second, repeats: colours, and pattern repeats over ``size``.
        soft: share of the size over which its edge fades.
        spin, rock: turning in its own plane, rad/s and radians (once per ``period``).
        flicker: relative swing of its brightness, four times per ``period``.
        upright: world direction that its own "up" follows.
        appears, disappears: seconds; blink: period of showing and hiding, 0 for none.
        attracts: False for distractors, which move and are to be ignored.
        contrast: in [0, 1], distance of its colours from what lies behind it, as drawn.
    """

    shape: str
    pattern: str
    behaviour: str
    solid: bool
    attracts: bool
    size: float
    stretch: float
    first: Colour
    second: Colour
    repeats: float
    contrast: float
    start: Vector
    distance: float
    axis: Vector = (0.0, -1.0, 0.0)
    speed: float = 0.0
    pause: float = 0.0
    swing: float = 0.0
    period: float = 4.0
    phase: float = 0.0
    nearness: float = 1.0
    loom_period: float = 8.0
    loom_phase: float = 0.0
    along: Vector = (0.0, 0.0, 0.0)
    length: float = 0.0
    slide_period: float = 8.0
    slide_phase: float = 0.5
    bob: float = 0.0
    follow: float = 0.0
    spin: float = 0.0
    rock: float = 0.0
    flicker: float = 0.0
    soft: float = 0.0
    upright: Vector = (0.0, -1.0, 0.0)
    appears: float = -1e9
    disappears: float = 1e9
    blink: float = 0.0


@dataclass(frozen=True)
class World:
    """A place, a camera, a light and things; ``noise`` is the sensor's standard deviation and
    ``shadow`` in [0, 1] how dark the blot below a thing is."""

    seed: int
    split: str
    place: Place
    camera: Camera
    light: Light
    things: tuple[Thing, ...]
    noise: float = 0.0
    shadow: float = 0.4

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """Each number of the things as ``(N,)``, each vector and colour as ``(N, 3)``, float64."""
        return columns(self.things)

    def poses(self, times: ArrayLike) -> Poses:
        """Positions in the world's frame; see :class:`~sal360.datasets.synthetic.motion.Poses`."""
        return poses(self, as_float64(times, "times").reshape(-1))

    def state(self, times: ArrayLike) -> WorldState:
        """What there is to look at, without rendering.

        Args:
            times: ``(T,)`` seconds.
        Returns:
            A :class:`WorldState`, float64; no loop over times or things.
        """
        return world_state(self, as_float64(times, "times").reshape(-1))


@dataclass(frozen=True, eq=False)
class WorldState:
    """Things as the camera sees them at ``T`` times: ``N`` things, numbers 1 to N in the masks.

    Attributes:
        times: ``(T,)`` seconds.
        directions: ``(T, N, 3)`` unit vectors to their centres, in the camera's frame.
        radius: ``(T, N)`` angular half-size in radians (of the larger side).
        distance: ``(T, N)`` metres to the centre.
        visible: ``(T, N)`` in [0, 1]: faded in and not hidden. What is hidden is estimated:
            things as discs, overlap as a share of their diameters; a thing whose centre lies
            behind a wall or below the floor counts as hidden.
        velocity: ``(T, N, 3)`` change of ``directions`` per second.
        speed: ``(T, N)`` its length, rad/s.
        relative_speed: ``(T, N)`` rad/s relative to the background point that lies behind the
            centre, so 0 for a far thing at rest under a turning camera.
        contrast: ``(N,)`` in [0, 1], distance of colours from the background, as drawn.
        looming: ``(T, N)`` growth of the radius per second over the radius; positive comes near.
        onset: ``(N,)`` seconds at which it first appears, ``-inf`` if it always was there.
        last_onset: ``(T, N)`` seconds of the latest appearance up to each time (a thing may
            appear several times), ``-inf`` if none.
        attracts: ``(N,)`` bool, False for distractors.
        gravity: ``(T, 3)`` unit vector down, in the camera's frame.
        heading: ``(T, 3)`` unit vector: the camera's front brought level with the horizon, in the
            camera's frame; (0, 0, 1) while the camera is upright.
    """

    times: Tensor
    directions: Tensor
    radius: Tensor
    distance: Tensor
    visible: Tensor
    velocity: Tensor
    speed: Tensor
    relative_speed: Tensor
    contrast: Tensor
    looming: Tensor
    onset: Tensor
    last_onset: Tensor
    attracts: Tensor
    gravity: Tensor
    heading: Tensor


def world_state(world: World, times: Tensor) -> WorldState:
    """See :meth:`World.state`."""
    now, before, after = (poses(world, times + s) for s in (0.0, -STEP / 2, STEP / 2))
    seen = [_seen(p) for p in (now, before, after)]
    (directions, distance), (first, d0), (second, d1) = seen
    half = now.size * torch.clamp(now.stretch, min=1.0)

    def radius_at(d: Tensor) -> Tensor:
        return torch.asin((half / torch.maximum(d, half * 1.0001)).clamp(max=1.0))

    radius = radius_at(distance)
    velocity = (second - first) / STEP
    behind = background_depth(
        world.place, now.camera[:, None].expand_as(now.centres), now.centres - now.camera[:, None]
    )
    # The point of the background on the ray through the centre, seen a moment before and after.
    ray = torch.einsum("tij,tnj->tni", now.turn, directions)
    back = [
        torch.nn.functional.normalize(
            torch.einsum(
                "tji,tnj->tni",
                p.turn,
                ray - (p.camera - now.camera)[:, None] / behind[..., None],
            ),
            dim=-1,
        )
        for p in (before, after)
    ]
    relative = velocity - (back[1] - back[0]) / STEP
    down = now.turn[:, 1]
    ahead = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    level = ahead - down[:, 2:3] * down
    return WorldState(
        times=times,
        directions=directions,
        radius=radius,
        distance=distance,
        visible=now.shown * _unhidden(directions, radius, distance, now.shown, behind),
        velocity=velocity,
        speed=torch.linalg.vector_norm(velocity, dim=-1),
        relative_speed=torch.linalg.vector_norm(relative, dim=-1),
        contrast=world.columns["contrast"],
        looming=(radius_at(d1) - radius_at(d0)) / STEP / radius,
        onset=now.onset,
        last_onset=now.last_onset,
        attracts=world.columns["attracts"] > 0,
        gravity=down,
        heading=torch.nn.functional.normalize(level, dim=-1),
    )


def _seen(p: Poses) -> tuple[Tensor, Tensor]:
    """Directions in the camera's frame, and distances."""
    offset = torch.einsum("tji,tnj->tni", p.turn, p.centres - p.camera[:, None])
    distance = torch.linalg.vector_norm(offset, dim=-1)
    return offset / distance[..., None], distance


def _unhidden(
    directions: Tensor, radius: Tensor, distance: Tensor, shown: Tensor, behind: Tensor
) -> Tensor:
    """``(T, N)`` share that no nearer thing, wall or floor covers, with things as discs."""
    # |a - b| is the chord: angle = 2 asin(chord / 2), accurate for neighbours.
    chord = torch.linalg.vector_norm(directions[:, :, None] - directions[:, None], dim=-1)
    apart = 2 * torch.asin((chord / 2).clamp(max=1.0))
    mine, other = radius[:, :, None], radius[:, None]
    overlap = ((mine + other - apart) / (2 * torch.minimum(mine, other))).clamp(0, 1)
    share = overlap * (other / mine).clamp(max=1.0) ** 2 * shown[:, None]
    nearer = distance[:, None] < distance[:, :, None]
    free = torch.where(nearer, 1 - share, torch.ones_like(share)).prod(-1)
    size = torch.tan(radius.clamp(max=1.5)) * distance
    return free * ((behind - distance) / size + 1).clamp(0, 1)


def draw_world(seed: int, split: str = "train", seconds: float = 10.0) -> World:
    """Draw a world. The same arguments give the same world, on every machine.

    Args:
        seed: at least 0. split: ``"train"``, ``"val"`` or ``"test"``, which share no content
            (:data:`~sal360.datasets.synthetic.content.CONTENT`).
        seconds: the stretch of time over which things appear and disappear; at least 1.
    Returns:
        A :class:`World` of 5 to 12 things, at least one of which attracts and one of which only
        distracts.
    Raises:
        ValueError: an unknown split, a negative seed, a time below 1.
    """
    from sal360.datasets.synthetic.draw import draw

    return draw(seed, split, seconds)


def hex_colour(text: str) -> Colour:
    """``"ff8000"`` as three numbers in [0, 1]."""
    r, g, b = (int(text[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return r, g, b


def unit(x: float, y: float, z: float) -> Vector:
    """A vector of length 1."""
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length
