"""One task on the sphere: among round, wide and tall spots of equal area, mark the round ones.

Scenes are formulas, so they can be seen from any directions and turned without interpolation;
the same object looks the same on the sphere at any latitude. Chapter 09.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sal360.experiments.recipe import Recipe
from sal360.sphere import rotation_matrix, sample_sphere, xyz_to_lonlat

BANDS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 90))
"""Degrees from the equator; the networks learn in the first two."""
TILTS = (30, 60, 90)
"""Degrees between the old and the new vertical."""
TRAINED_TO = 30.0
"""Largest latitude, in degrees, of a spot in a training scene."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """Spots on textured spheres, as formulas: they can be seen from any directions.

    Attributes:
        centre: ``(B, n, 3)`` unit vectors. radius: ``(B, n)`` radians, of the disc of equal area.
        aspect: ``(B, n)`` long over short axis. angle: ``(B, n)`` radians from the long axis to
        the east, towards the south.
        brightness: ``(B, n)``. waves, phase: ``(B, M, 3)`` and ``(B, M)``, the background.
    """

    centre: Tensor
    radius: Tensor
    aspect: Tensor
    angle: Tensor
    brightness: Tensor
    waves: Tensor
    phase: Tensor

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, index: Any) -> Scenes:
        return Scenes(**{name: value[index] for name, value in vars(self).items()})

    def float(self) -> Scenes:
        """The same in float32: geometry meets the image."""
        return Scenes(**{name: value.float() for name, value in vars(self).items()})

    @property
    def target(self) -> Tensor:
        """``(B, n)`` bool: the round ones."""
        return self.aspect == 1


def training_scenes(n: int, seed: int, recipe: Recipe, upright: bool = False) -> Scenes:
    """Scenes of eight spots, four of them round, none beyond 30 degrees of latitude."""
    draw = torch.Generator().manual_seed(seed)
    slot = torch.arange(8) + 0.4 * (_uniform(draw, n, 8) - 0.5) + _uniform(draw, n, 1) * 8
    lon = slot * (2 * math.pi / 8)
    top = math.sin(math.radians(TRAINED_TO))
    lat = torch.asin(top * (2 * _uniform(draw, n, 8) - 1))
    order = _uniform(draw, n, 8).argsort(-1)
    return _scenes(lon, lat, order < 4, draw, recipe, upright)


def trial_scenes(
    n: int, seed: int, band: tuple[float, float], recipe: Recipe, upright: bool = False
) -> Scenes:
    """Scenes of two spots, first a round one, then another in the opposite hemisphere.

    The same seed gives the same spots and backgrounds in every band; only latitudes change.

    Args:
        band: degrees from the equator between which the spots' centres are spread by area.
    """
    draw = torch.Generator().manual_seed(seed)
    low, high = (math.sin(math.radians(edge)) for edge in band)
    lat = torch.asin(low + (high - low) * _uniform(draw, n, 2))
    north = torch.where(_uniform(draw, n, 1) < 0.5, 1.0, -1.0)
    lat = lat * torch.cat((north, -north), 1)
    lon = 2 * math.pi * _uniform(draw, n, 1) + torch.cat(
        (torch.zeros(n, 1), math.pi * (0.5 + _uniform(draw, n, 1))), 1
    )
    return _scenes(lon, lat, torch.tensor([True, False]).expand(n, 2), draw, recipe, upright)


def _scenes(
    lon: Tensor, lat: Tensor, target: Tensor, draw: torch.Generator, recipe: Recipe, upright: bool
) -> Scenes:
    n, spots = lon.shape
    centre = rotation_matrix(lon, lat)[..., 2]
    radius = math.radians(recipe.spot) * 1.3 ** (2 * _uniform(draw, n, spots) - 1)
    brightness = 0.6 + 0.6 * _uniform(draw, n, spots)
    # Plane waves in space, cut by the sphere: a texture without seam, pole or preferred place.
    along = sample_sphere(n * 24, draw).reshape(n, 24, 3)
    finest = math.pi / math.radians(recipe.spot)  # half a wave across a spot's radius
    waves = along * finest * (0.2 + 0.8 * _uniform(draw, n, 24))[..., None]
    phase = 2 * math.pi * _uniform(draw, n, 24)
    aspect = torch.where(target, 1.0, recipe.aspect).double()
    angle = math.pi * _uniform(draw, n, spots)
    if upright:
        angle = (math.pi / 2) * (angle > math.pi / 2).double()
    return Scenes(centre, radius, aspect, angle, brightness, waves, phase)


def _uniform(draw: torch.Generator, *size: int) -> Tensor:
    return torch.rand(*size, generator=draw, dtype=torch.float64)


def render(
    scenes: Scenes, directions: Tensor, recipe: Recipe, turn: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What is seen in given directions, and what should be answered there.

    Args:
        directions: ``(..., 3)`` unit vectors, float64.
        turn: ``(3, 3)`` or ``(B, 3, 3)`` rotation of the scenes; it moves the formulas, so
            nothing is interpolated.
    Returns:
        image and truth, ``(B, 1, ...)`` float32; the truth is 1 at the middle of a round spot.
    """
    rays = directions.reshape(1, -1, 3)
    if turn is not None:
        rays = rays @ turn  # R^T d, as a row
    rays = rays.float().expand(len(scenes), -1, -1)
    frames = rotation_matrix(*xyz_to_lonlat(scenes.centre)).float()
    scenes = scenes.float()
    wave = torch.baddbmm(scenes.phase[:, None], rays, scenes.waves.transpose(1, 2))
    image = recipe.clutter * math.sqrt(2 / wave.shape[-1]) * torch.cos(wave).sum(-1)
    soft = math.pi / recipe.H  # edges are one pixel wide
    truth = torch.zeros_like(image)
    for k in range(scenes.centre.shape[1]):
        east, south, ahead = (rays @ frames[:, k]).unbind(-1)
        far = torch.hypot(east, south)
        angle = torch.atan2(far, ahead) / far.clamp_min(1e-12)
        stretch = scenes.aspect[:, k, None].sqrt()
        c, s = torch.cos(scenes.angle[:, k, None]), torch.sin(scenes.angle[:, k, None])
        u, v = (c * east + s * south) * angle / stretch, (c * south - s * east) * angle * stretch
        cover = ((scenes.radius[:, k, None] - torch.hypot(u, v)) / soft + 0.5).clamp(0, 1)
        image = image + cover * (scenes.brightness[:, k, None] - image)
        blob = torch.exp((ahead - 1) / math.radians(recipe.sigma) ** 2)
        truth = torch.maximum(truth, blob * scenes.target[:, k, None])
    shape = (len(scenes), 1, *directions.shape[:-1])
    return image.reshape(shape), truth.reshape(shape)


def tilts(n: int, degrees: float | None, seed: int) -> Tensor:
    """``(n, 3, 3)`` rotations by an angle about random horizontal axes; None: any rotation."""
    draw = torch.Generator().manual_seed(seed)
    about = 2 * math.pi * _uniform(draw, n)
    if degrees is None:
        pole = xyz_to_lonlat(sample_sphere(n, draw))
        return rotation_matrix(*pole, about)
    spin = rotation_matrix(about)
    return spin @ rotation_matrix(0.0, 0.0, math.radians(degrees)) @ spin.transpose(-1, -2)
