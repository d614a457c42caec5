"""What is infinitely far: skies and silhouettes, as colours of directions."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from sal360.datasets.synthetic.textures import colour, direction_waves, mixed
from sal360.datasets.synthetic.world import Light, Place
from sal360.sphere import sample_sphere


def paint_sky(place: Place, light: Light, rays: Tensor, pixel: float) -> Tensor:
    """Colour of the sky, silhouettes included.

    Args:
        rays: ``(3, n)`` float32 unit vectors, world frame, at or above the horizon.
        pixel: radians that a pixel covers.
    Returns:
        ``(3, n)`` RGB.
    """
    rgb = _above(place, light, rays, pixel)
    if place.skyline != "open":
        cover = _silhouette(place, rays, pixel)
        rgb = rgb + cover * (colour(place.skyline_colour, rays) - rgb)
    return rgb


def _above(place: Place, light: Light, rays: Tensor, pixel: float) -> Tensor:
    up = (-rays[1]).clamp(0, 1)
    kind, seed = place.sky, place.sky_seed
    rgb = mixed(place.horizon, place.zenith, torch.sqrt(up))
    accent = colour(place.accent, rays)

    def add(share: Tensor) -> Tensor:
        return rgb + share * (accent - rgb)

    if kind in ("clear", "sunset"):
        towards = torch.tensor(light.towards, device=rays.device)
        if kind == "sunset":  # the sun stands low
            towards = towards * torch.tensor([1.0, 0.15, 1.0], device=rays.device)
            towards = towards / towards.norm()
        wide = 0.02 if kind == "clear" else 0.15
        near = towards @ rays
        glow = 0.5 * torch.exp((near - 1) / wide)
        glow += _disc(towards, rays, math.radians(2.2), pixel)
        rgb = add(glow.clamp(max=1.0))
        if kind == "sunset":
            bank = direction_waves(seed, 14, 3, 0.8, (0.5, 3.0, 0.5), rays, pixel)
            rgb = rgb * (1 - 0.16 * torch.sigmoid(3 * bank - 1))
    elif kind == "clouds":
        field = direction_waves(seed, 26, 5, 0.75, (0.5, 1.1, 0.5), rays, pixel)
        cover = torch.sigmoid(4 * (field - 0.2)) * (up / 0.12).clamp(0, 1)
        rgb = add(0.9 * cover) * (1 - 0.10 * torch.sigmoid(6 * (field - 1.1)))
    elif kind == "overcast":
        field = direction_waves(seed, 20, 4, 0.7, (0.5, 1.2, 0.5), rays, pixel)
        rgb = add(0.5 + 0.4 * torch.tanh(field)) * (1 + 0.05 * field)
    elif kind == "streaks":
        field = direction_waves(seed, 22, 4, 0.6, (0.35, 1.4, 1.4), rays, pixel)
        rgb = add(0.85 * torch.sigmoid(3 * (field - 0.6)))
    elif kind == "night":
        towards = torch.tensor(light.towards, device=rays.device)
        rgb = add((_stars(seed, 110, rays, pixel) + _disc(towards, rays, 0.04, pixel)).clamp(max=1))
    elif kind == "aurora":
        fold = direction_waves(seed, 14, 3, 0.6, (1.0, 0.15, 1.0), rays, pixel)
        band = torch.exp(-(((up - 0.42 - 0.10 * fold) / 0.16) ** 2))
        rgb = add((0.75 * band * (0.6 + 0.4 * torch.tanh(2 * fold))).clamp(0, 1))
        rgb = rgb + 0.8 * _stars(seed, 50, rays, pixel)
    return rgb


def _disc(towards: Tensor, rays: Tensor, radius: float, pixel: float) -> Tensor:
    """Share of a round light, by its chord: accurate where it is small."""
    chord = torch.sqrt((2 - 2 * (towards @ rays)).clamp(min=0))
    return ((radius - chord) / pixel + 0.5).clamp(0, 1)


CELLS = 64
"""Cells along each edge of the cube of directions in which stars are looked up."""


@lru_cache(maxsize=16)
def _star_table(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places ``(3, count)``, brightnesses, and the star nearest to each cell of directions."""
    dice = torch.Generator().manual_seed(seed)
    places = sample_sphere(4 * count, dice)
    places[:, 1] = -places[:, 1].abs()
    # Far enough apart for one look-up a pixel: drop whichever comes too close to an earlier one.
    close = torch.cdist(places, places).tril(-1)
    lonely = ((close == 0) | (close > 0.07)).all(-1)
    places = places[lonely][:count].float()
    bright = 0.3 + 0.7 * torch.rand(len(places), generator=dice) ** 2
    middle = (torch.arange(CELLS) + 0.5) * (2 / CELLS) - 1
    cells = torch.cartesian_prod(middle, middle, middle)
    shell = ((cells.norm(dim=1) - 1).abs() < 3 / CELLS).nonzero()[:, 0]
    nearest = torch.zeros(CELLS**3, dtype=torch.int64)
    nearest[shell] = torch.cdist(cells[shell], places).argmin(1)
    return places.T.contiguous(), bright, nearest


def _stars(seed: int, count: int, rays: Tensor, pixel: float) -> Tensor:
    """Gaussian points; where pixels are coarser than the points, the same light on more of them."""
    places, bright, nearest = (t.to(rays.device) for t in _star_table(seed, count))
    own = math.radians(0.45)
    width = math.hypot(own, 0.5 * pixel)
    i, j, k = ((rays + 1) * (CELLS / 2)).long().clamp_(0, CELLS - 1)
    star = nearest[(i * CELLS + j) * CELLS + k]
    away = ((places[:, star] - rays) ** 2).sum(0)
    glow = torch.exp((away * (-0.5 / width**2)).clamp(min=-30))
    return bright[star] * glow * ((own / width) ** 2 * 1.6)


def _silhouette(place: Place, rays: Tensor, pixel: float) -> Tensor:
    """``(n,)`` share of each pixel that hills, trees or towers cover."""
    top = 1.6 * place.skyline_height + pixel
    cover = torch.zeros_like(rays[1])
    low = (-rays[1] < math.sin(min(top, 1.5))).nonzero()[:, 0]
    x, y, z = rays[:, low]
    height, azimuth = torch.asin((-y).clamp(-1, 1)), torch.atan2(x, z)
    line = _towers if place.skyline == "towers" else _ridge
    cover[low] = line(place, height, azimuth, pixel)
    return cover


def _ridge(place: Place, height: Tensor, azimuth: Tensor, pixel: float) -> Tensor:
    dice = torch.Generator().manual_seed(place.sky_seed)
    counts = [1, 2, 3, 5, 8, 13] + ([34, 55, 89, 144] if place.skyline == "forest" else [])
    phase = 2 * math.pi * torch.rand(len(counts), generator=dice)
    k = torch.tensor(counts, dtype=torch.float32)
    share = torch.where(k < 30, 0.35 * k**-0.6, torch.tensor(0.09)) * torch.exp(
        -((k * pixel) ** 2) / 12
    )
    k, phase, share = k.to(height.device), phase.to(height.device), share.to(height.device)
    line = share @ torch.cos(k[:, None] * azimuth + phase[:, None])
    slope = (share * k) @ torch.sin(k[:, None] * azimuth + phase[:, None]) * place.skyline_height
    edge = place.skyline_height * (0.55 + line)
    return ((edge - height) / (pixel * torch.sqrt(1 + slope**2)) + 0.5).clamp(0, 1)


def _towers(place: Place, height: Tensor, azimuth: Tensor, pixel: float) -> Tensor:
    cells = 44
    dice = torch.Generator().manual_seed(place.sky_seed)
    heights = torch.rand(cells, generator=dice) ** 1.5
    heights = (place.skyline_height * (0.15 + 1.35 * heights)).to(height.device)
    x = (azimuth / (2 * math.pi) + 0.5) * cells
    wide = pixel / torch.cos(height).clamp(min=0.05) * cells / (2 * math.pi)
    here = torch.floor(x)
    part = x - here
    side = torch.where(part < 0.5, -1.0, 1.0)
    share = (0.5 - torch.minimum(part, 1 - part) / wide).clamp(0, 0.5)

    def cover(cell: Tensor) -> Tensor:
        edge = heights[torch.remainder(cell, cells).long()]
        return ((edge - height) / pixel + 0.5).clamp(0, 1)

    return torch.lerp(cover(here), cover(here + side), share)
