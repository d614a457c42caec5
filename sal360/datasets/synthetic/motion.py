"""Kinematics: camera and things at given times, and how far the background is.

All sines and lines in float64, vectorised over times and things; the formulas are those of
:class:`~sal360.datasets.synthetic.world.Camera` and ``Thing``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sal360.sphere import rotation_matrix

if TYPE_CHECKING:
    from sal360.datasets.synthetic.world import Place, Thing, World

FADE = 0.25
"""Seconds that a thing takes to appear or to disappear."""


@dataclass(frozen=True, eq=False)
class Poses:
    """World frame, float64, for ``T`` times and ``N`` things.

    ``camera`` (T, 3) metres and ``turn`` (T, 3, 3), camera to world; ``centres`` (T, N, 3);
    ``shown`` (T, N) in [0, 1]; ``spin`` (T, N) radians; ``gain`` (T,) of the picture and
    ``bright`` (T, N) of each thing; ``size`` and ``stretch`` (N,); ``onset`` (N,) and
    ``last_onset`` (T, N) seconds.
    """

    camera: Tensor
    turn: Tensor
    centres: Tensor
    shown: Tensor
    spin: Tensor
    gain: Tensor
    bright: Tensor
    size: Tensor
    stretch: Tensor
    onset: Tensor
    last_onset: Tensor


_NUMBERS = (
    "size", "stretch", "distance", "speed", "pause", "swing", "period", "phase", "nearness",
    "loom_period", "loom_phase", "length", "slide_period", "slide_phase", "bob", "follow", "spin",
    "rock", "flicker", "soft", "appears", "disappears", "blink", "solid", "attracts", "contrast",
)  # fmt: skip
_VECTORS = ("start", "axis", "along", "upright", "first", "second")


def columns(things: tuple[Thing, ...]) -> dict[str, Tensor]:
    """Each number of the things as ``(N,)``, each vector as ``(N, 3)``, float64."""
    out = {
        name: torch.tensor([getattr(t, name) for t in things], dtype=torch.float64)
        for name in _NUMBERS
    }
    for name in _VECTORS:
        rows = [getattr(t, name) for t in things]
        out[name] = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    return out


def poses(world: World, times: Tensor) -> Poses:
    """Where everything is at ``(T,)`` float64 seconds."""
    camera, turn = camera_pose(world, times)
    c = world.columns
    t = times[:, None]
    omega = 2 * math.pi / c["period"]
    wave = omega * t
    pause = c["pause"] * (4 / 3 * torch.sin(wave) + torch.sin(2 * wave) / 6) / omega
    swinging = torch.sin(wave + c["phase"])
    angle = c["speed"] * (t + pause) + c["swing"] * swinging
    near = (1 - torch.cos(2 * math.pi * t / c["loom_period"] + c["loom_phase"])) / 2
    distance = c["distance"] * c["nearness"] ** -near
    part = torch.remainder(t / c["slide_period"] + c["slide_phase"], 1.0)
    bob = torch.zeros(*swinging.shape, 3, dtype=torch.float64)
    bob[..., 1] = -c["bob"] * swinging
    centres = (
        distance[..., None] * _turned(c["start"], c["axis"], angle)
        + (c["length"] * (part - 0.5))[..., None] * c["along"]
        + bob
        + c["follow"][:, None] * camera[:, None]
    )
    shown, last_onset = _shown(c, t, part)
    light = world.light
    gain = 1 + light.swing * torch.sin(2 * math.pi * times / light.period + light.phase)
    onset = torch.where(c["appears"] > -1e8, c["appears"], -math.inf)
    return Poses(
        camera=camera,
        turn=turn,
        centres=centres,
        shown=shown,
        spin=c["spin"] * t + c["rock"] * swinging,
        gain=gain,
        bright=1 + c["flicker"] * torch.sin(4 * wave + c["phase"]),
        size=c["size"],
        stretch=c["stretch"],
        onset=onset,
        last_onset=last_onset,
    )


def _shown(c: dict[str, Tensor], t: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """How far each thing is faded in, and when it last began to."""
    since, left = t - c["appears"], c["disappears"] - t
    ends = torch.minimum(part, 1 - part) * c["slide_period"]
    slides, blinks = c["length"] != 0, c["blink"] != 0
    cycle = torch.where(blinks, c["blink"], 1.0)
    beat = torch.remainder(since, cycle)
    lit = torch.minimum(beat, cycle / 2 - beat)  # shown for the first half of each cycle
    shown = torch.minimum(since, left)
    shown = torch.where(slides, torch.minimum(shown, ends), shown)
    shown = torch.where(blinks, torch.minimum(shown, lit), shown)
    last = c["appears"].expand_as(since)
    last = torch.where(slides, torch.maximum(last, t - part * c["slide_period"]), last)
    last = torch.where(blinks, t - beat, last)
    last = torch.where((since >= 0) & (last > -1e8), last, -math.inf)
    return (shown / FADE).clamp(0, 1), last


def camera_pose(world: World, times: Tensor) -> tuple[Tensor, Tensor]:
    """Position ``(T, 3)`` and camera-to-world rotation ``(T, 3, 3)``."""
    cam = world.camera

    def vector(v: tuple[float, float, float]) -> Tensor:
        return torch.tensor(v, dtype=torch.float64)

    wave = (2 * math.pi / cam.period * times)[:, None]
    position = (
        vector(cam.travel) * times[:, None]
        + vector(cam.sine) * torch.sin(wave)
        + vector(cam.cosine) * (torch.cos(wave) - 1)
        + vector(cam.double) * torch.sin(2 * wave)
    )
    nod = 2 * math.pi / cam.nod * times
    yaw = cam.yaw + cam.yaw_rate * times + cam.yaw_swing * torch.sin(nod)
    pitch, roll = cam.pitch_swing * torch.sin(nod * 0.8), cam.roll_swing * torch.sin(nod * 0.6)
    return position, rotation_matrix(yaw, pitch, roll)


def _turned(start: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """Rodrigues' rotation of ``(N, 3)`` about ``(N, 3)`` by ``(T, N)``: ``(T, N, 3)``."""
    cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
    along = (start * axis).sum(-1, keepdim=True) * axis
    return (start - along) * cos + torch.linalg.cross(axis, start) * sin + along


def inverse_depths(place: Place, position: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One over the distance, in lengths of the ray, to the walls in x, the level planes (floor or
    ceiling), and the walls in z.

    Written so, nothing ever divides by zero, infinity is 0, and each is linear in the ray: the
    nearest surface is the largest of the three. A wall seen above its upper edge is not there.

    Args:
        position, rays: ``(..., 3)``, world frame.
    """
    x, y, z = rays.unbind(-1)
    px, py, pz = position.unbind(-1)
    floor = y / (place.height - py)
    level = floor.clamp(min=0.0)
    if place.ceiling:
        level = torch.maximum(level, -y / (place.roof + py))
    if not math.isfinite(place.half[0]):
        return torch.zeros_like(x), level, torch.zeros_like(x)
    side, front = (
        torch.maximum(d / (half - p), -d / (half + p))
        for d, p, half in ((x, px, place.half[0]), (z, pz, place.half[1]))
    )
    if not place.ceiling:
        over = -y - torch.maximum(side, front) * (place.roof + py)
        side, front = (torch.where(over > 0, 0.0, w) for w in (side, front))
    return side, level, front


def background_depth(place: Place, position: Tensor, rays: Tensor) -> Tensor:
    """Metres to the background along rays of any length; infinite for the sky."""
    length = torch.linalg.vector_norm(rays, dim=-1)
    return length / torch.stack(inverse_depths(place, position, rays)).amax(0)


def moved(c: dict[str, Tensor]) -> tuple[float, float]:
    """How far below and above the camera's height the first thing ever goes, metres, without bob.

    Looked up along one minute of its motion; the slide is level.
    """
    t = torch.linspace(0, 60, 1201, dtype=torch.float64)[:, None]
    omega = 2 * math.pi / c["period"]
    pause = c["pause"] * (4 / 3 * torch.sin(omega * t) + torch.sin(2 * omega * t) / 6) / omega
    angle = c["speed"] * (t + pause) + c["swing"] * torch.sin(omega * t + c["phase"])
    near = (1 - torch.cos(2 * math.pi * t / c["loom_period"] + c["loom_phase"])) / 2
    y = (c["distance"] * c["nearness"] ** -near) * _turned(c["start"], c["axis"], angle)[..., 1]
    return float(y.max()), float(-y.min())
