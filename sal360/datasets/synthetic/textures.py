"""Surfaces that do not alias: every pattern is averaged over what a pixel covers of it.

A pixel covers ``f`` of a surface's coordinate. A square wave is integrated over that stretch; a
sum of plane waves loses each wave by the Gaussian that stands in for the same average. So a
checkered floor turns grey towards the horizon and not into rings.

Pixels are planes: coordinates ``(n,)``, colours ``(3, n)``, float32.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sal360.datasets.synthetic.world import Colour, Texture

BLUR = 1 / 12
"""A box of width f keeps exp(-k^2 f^2 / 24) of a wave k; twice that exponent leaves less to
alias."""


def paint(surface: Texture, u: Tensor, v: Tensor, fu: Tensor, fv: Tensor) -> Tensor:
    """Colour of a flat surface.

    Args:
        surface: what it is. u, v: ``(n,)`` metres, v downwards on walls.
        fu, fv: ``(n,)`` metres that a pixel covers along each.
    Returns:
        ``(3, n)`` RGB.
    """
    s = surface.scale
    u, v, fu, fv = u / s, v / s, fu / s, fv / s
    kind, seed = surface.kind, surface.seed
    shade: Tensor | float = 1.0
    if kind == "checker":
        mix = checker(u / 2, v / 2, fu / 2, fv / 2)
        shade = 1 + 0.05 * waves(seed, 8, 2, 1.0, u, v, fu, fv)
    elif kind == "tiles":
        mix = _joints(u, v, fu, fv, 0.05)
        shade = 1 + 0.16 * _per_cell(u, v, fu, fv, seed)
    elif kind == "bricks":
        row = torch.floor(v * 3)
        shift = u * 1.2 + 0.5 * torch.remainder(row, 2)
        mix = _joints(shift, v * 3, fu * 1.2, fv * 3, 0.08, 0.14)
        shade = 1 + 0.22 * _per_cell(shift, v * 3, fu * 1.2, fv * 3, seed)
    elif kind == "planks":
        lane = torch.floor(u * 4)
        along = v * 0.5 + 0.37 * lane
        mix = _joints(u * 4, along, fu * 4, fv * 0.5, 0.05, 0.01)
        grain = waves(seed, 12, 2, 0.6, u * 8, v * 0.6, fu * 8, fv * 0.6)
        shade = 1 + 0.18 * _per_cell(u * 4, along, fu * 4, fv * 0.5, seed) + 0.08 * grain
    elif kind == "panels":
        mix = 0.8 * _joints(u, v * 0.6, fu, fv * 0.6, 0.06, 0.04)
        grain = waves(seed, 10, 2, 0.6, u * 1.2, v * 8, fu * 1.2, fv * 8)
        shade = 1 + 0.10 * grain
    elif kind == "wallpaper":
        mix = 0.6 * bars(u, fu, 0.5) + 0.4 * dots(u * 2, v * 2, torch.maximum(fu, fv) * 2, 0.25)
    elif kind == "lattice":
        a, b, f = u + v, u - v, torch.maximum(fu, fv)
        mix = _joints(a, b, f, f, 0.12)
    elif kind == "mural":
        u, v, fu, fv = (0.4 * x for x in (u, v, fu, fv))
        low = waves(seed, 10, 3, 0.9, u, v, fu, fv)
        high = waves(seed + 1, 8, 2, 0.9, u, v, fu, fv)
        mix = torch.sigmoid(5 * low)
        shade = 1 + 0.35 * torch.tanh(2 * high)
    elif kind == "water":
        mix = 0.5 + 0.5 * torch.tanh(waves(seed, 16, 3, 0.8, u * 0.5, v * 1.6, fu * 0.5, fv * 1.6))
    elif kind == "grass":
        mix = 0.5 + 0.40 * waves(seed, 28, 4, 0.4, u, v, fu, fv)
    elif kind == "gravel":
        mix = 0.5 + 0.5 * torch.tanh(1.5 * waves(seed, 28, 3, 0.1, u * 2, v * 2, fu * 2, fv * 2))
    elif kind == "sand":
        ripple = waves(seed, 16, 3, 0.7, u * 0.6, v * 2, fu * 0.6, fv * 2)
        mix = 0.5 + 0.35 * ripple
    elif kind == "plaster":
        mix = 0.5 + 0.30 * waves(seed, 16, 4, 0.6, u, v, fu, fv)
    else:
        raise ValueError(f"surface: {kind!r}, wanted a kind of floor or wall in CONTENT")
    return mixed(surface.first, surface.second, mix.clamp(0, 1)) * shade


def mixed(first: Colour, second: Colour, share: Tensor) -> Tensor:
    """``(3, n)``: ``first`` where ``share (n,)`` is 0, ``second`` where it is 1."""
    a, b = colour(first, share), colour(second, share)
    return torch.addcmul(a, b - a, share)


def colour(c: Colour, like: Tensor) -> Tensor:
    """``(3, 1)`` on the device and in the precision of another tensor."""
    return torch.tensor(c, dtype=like.dtype, device=like.device)[:, None]


def bars(x: Tensor, f: Tensor, duty: float) -> Tensor:
    """Share of ``[x - f/2, x + f/2]`` that lies in the first ``duty`` of a unit: in [0, 1]."""
    f = f.clamp(min=1e-3)
    return (_area(x + f / 2, duty) - _area(x - f / 2, duty)) / f


def _area(x: Tensor, duty: float) -> Tensor:
    whole = torch.floor(x)
    return whole * duty + (x - whole).clamp(max=duty)


def checker(x: Tensor, y: Tensor, fx: Tensor, fy: Tensor) -> Tensor:
    """Two squares to a unit in each direction."""
    a, b = bars(x, fx, 0.5), bars(y, fy, 0.5)
    return a + b - 2 * a * b


def dots(x: Tensor, y: Tensor, f: Tensor, radius: float) -> Tensor:
    """One disc in the middle of each unit square."""
    r = torch.hypot(torch.remainder(x, 1) - 0.5, torch.remainder(y, 1) - 0.5)
    sharp = ((radius - r) / f.clamp(min=1e-3) + 0.5).clamp(0, 1)
    return torch.lerp(sharp, torch.full_like(r, math.pi * radius**2), fine(f))


def fine(f: Tensor) -> Tensor:
    """How far a repeat is too fine for the pixels: 0 while a pixel covers half, 1 from one on."""
    return (2 * f - 1).clamp(0, 1)


def _joints(
    u: Tensor, v: Tensor, fu: Tensor, fv: Tensor, width: float, across: float | None = None
) -> Tensor:
    """Lines between unit cells."""
    a, b = bars(u, fu, width), bars(v, fv, width if across is None else across)
    return a + b - a * b


def _per_cell(u: Tensor, v: Tensor, fu: Tensor, fv: Tensor, seed: int) -> Tensor:
    """A number in [-1, 1] of each unit cell; 0 where cells are too small to be seen.

    A pixel that lies across an edge gets its share of both sides.
    """
    i, j = torch.floor(u), torch.floor(v)
    value = _hashed(i, j, seed)
    (part_u, step_u), (part_v, step_v) = _beyond(u - i, fu), _beyond(v - j, fv)
    (few,) = torch.nonzero((part_u > 0) | (part_v > 0), as_tuple=True)
    if len(few):
        i, j, a, b = i[few], j[few], part_u[few], part_v[few]
        i1, j1 = i + step_u[few], j + step_v[few]
        near = torch.lerp(value[few], _hashed(i1, j, seed), a)
        far = torch.lerp(_hashed(i, j1, seed), _hashed(i1, j1, seed), a)
        value[few] = torch.lerp(near, far, b)
    return value.mul_(1 - fine(torch.maximum(fu, fv)))


def _beyond(part: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
    """How much of a pixel lies in the nearest other cell, at most half, and on which side."""
    over = (0.5 - torch.minimum(part, 1 - part) / f.clamp(min=1e-6)).clamp(0, 0.5)
    return over, torch.where(part < 0.5, -1.0, 1.0)


def _hashed(i: Tensor, j: Tensor, seed: int) -> Tensor:
    h = (i.to(torch.int64) * 73856093) ^ (j.to(torch.int64) * 19349663) ^ seed
    h = (h ^ (h >> 13)) * 1274126177
    return ((h >> 8) & 1023).to(i.dtype) / 511.5 - 1


@lru_cache(maxsize=256)
def _wave_table(seed: int, count: int, octaves: int, rough: float, axes: int) -> list[Tensor]:
    """Wave vectors (axes + 1, K), the last row the phase; their squares; amplitudes (K,)."""
    dice = np.random.Generator(np.random.PCG64(seed))
    octave = np.arange(count) % octaves + dice.uniform(0, 1, count)
    k = 2 * math.pi * 2.0**octave
    way = dice.normal(size=(axes, count))
    vectors = k * way / np.linalg.norm(way, axis=0)
    amplitude = 2.0 ** (-octave * rough)
    amplitude *= 1 / math.sqrt(0.5 * (amplitude**2).sum())  # variance 1
    rows = np.vstack([vectors, dice.uniform(0, 2 * math.pi, count)])
    return [torch.from_numpy(a.astype(np.float32)) for a in (rows, vectors**2, amplitude)]


def waves(
    seed: int, count: int, octaves: int, rough: float,
    u: Tensor, v: Tensor, fu: Tensor, fv: Tensor,
) -> Tensor:  # fmt: skip
    """A random field of variance 1 on a plane: ``count`` waves, the coarsest about 1 long.

    Args:
        rough: how fast amplitudes fall, as a power of the frequency.

    The plane is bent a little first: so few straight waves would show themselves as a lattice.
    """
    u, v = u + 0.3 * torch.sin(2.1 * v + seed % 7), v + 0.3 * torch.sin(1.7 * u + seed % 5)
    rows, squares, amplitude = (t.to(u.device) for t in _wave_table(seed, count, octaves, rough, 2))
    phase = torch.addmm(rows[2][:, None], rows[:2].T, torch.stack((u, v)))
    keep = (squares.T * -BLUR) @ torch.stack((fu * fu, fv * fv))
    return amplitude @ phase.cos_().mul_(keep.exp_())


def direction_waves(
    seed: int, count: int, octaves: int, rough: float, scale: tuple[float, float, float],
    rays: Tensor, pixel: float,
) -> Tensor:  # fmt: skip
    """A random field on the sphere of directions: waves in space, read at ``rays (3, n)``.

    Args:
        scale: cycles of the coarsest waves per unit along x, y and z.
        pixel: radians that a pixel covers.
    """
    rows, _, amplitude = (t.to(rays.device) for t in _wave_table(seed, count, octaves, rough, 3))
    k = rows[:3] * torch.tensor(scale, device=rays.device)[:, None]
    keep = torch.exp((k * k).sum(0) * (-BLUR * pixel * pixel))
    phase = torch.addmm(rows[3][:, None], k.T, rays)
    return (amplitude * keep) @ phase.cos_()
