"""Flat views that together cover the sphere, and how each joins in where they overlap.

A view is a camera and a flat picture of a part of the sphere. For every pixel of the panorama it
says where that pixel lies in the picture and how much the view is to be trusted there: fully in
its middle, not at all before its edge, where a thing can leave.

Three kinds, measured in ``data/benchmarks/flow.json``. **Mercator**: three bands around the three
axes, each a Mercator map, so that a small patch is turned and scaled as it moves but never
sheared. **Rotated**: the same bands as equirectangular pictures. **Cube**: six wide perspective
views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sal360.cubemap import FACES
from sal360.sphere import erp_directions, erp_pixel, rotation_matrix

Layout = Literal["mercator", "rotated", "cube"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

Float = NDArray[np.floating]

# Latitudes of a band in degrees: fully trusted to the first, not at all beyond the second, drawn
# to the third. Every direction lies within 35.3 degrees of one of the three equators.
_BAND = (30.0, 50.0, 60.0)
# Half-widths of a face as tangents, in the same order: a cube's own faces end at 1.
_FACE = (0.75, 1.2, math.tan(math.radians(55)))


class View(Protocol):
    """One flat picture of a part of the sphere."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` of the picture."""
        ...

    def lift(self, x: Float, y: Float) -> Float:
        """Unit vectors ``(..., 3)`` float32 of places in the picture, world frame."""
        ...

    def place(self, xyz: Float) -> tuple[Float, Float, Float]:
        """x, y and trust in [0, 1] of directions ``(n, 3)``; no trust where it does not look."""
        ...


@dataclass(frozen=True, eq=False)
class Face:
    """A perspective view with square pixels as large in its middle as the panorama's rows."""

    turn: Float
    H: int

    @property
    def shape(self) -> tuple[int, int]:
        size = round(2 * _FACE[2] * self.H / math.pi)
        return size, size

    @property
    def _pixel(self) -> float:
        return 2 * _FACE[2] / self.shape[0]

    def lift(self, x: Float, y: Float) -> Float:
        a, b = ((v + 0.5) * self._pixel - _FACE[2] for v in (x, y))
        length = np.sqrt(a * a + b * b + 1)
        rays = np.stack((a / length, b / length, 1 / length), -1)
        return (rays @ self.turn.T).astype(np.float32)

    def place(self, xyz: Float) -> tuple[Float, Float, Float]:
        x, y, z = (xyz @ self.turn).T
        ahead = z > 1e-3
        a, b = (v / np.where(ahead, z, 1) for v in (x, y))
        trust = np.where(ahead, _trust(np.maximum(abs(a), abs(b)), *_FACE[:2]), 0)
        return (a + _FACE[2]) / self._pixel - 0.5, (b + _FACE[2]) / self._pixel - 0.5, trust


@dataclass(frozen=True, eq=False)
class Band:
    """The surroundings of an equator, all the way round and a margin more on both sides."""

    turn: Float
    H: int
    W: int
    conformal: bool

    @property
    def shape(self) -> tuple[int, int]:
        return 2 * round(self._height(math.radians(_BAND[2])) / self._row), self.W + 2 * self.margin

    @property
    def margin(self) -> int:
        return max(16, self.W // 8)

    @property
    def _row(self) -> float:
        return 2 * math.pi / self.W if self.conformal else math.pi / self.H

    def _height(self, lat: float) -> float:
        return math.asinh(math.tan(lat)) if self.conformal else lat

    def lift(self, x: Float, y: Float) -> Float:
        lon = (x - self.margin + 0.5) * (2 * math.pi / self.W) - math.pi
        up = (self.shape[0] / 2 - y - 0.5) * self._row
        if self.conformal:
            ring = 1 / np.cosh(up)
            down = -np.tanh(up)
        else:
            ring, down = np.cos(up), -np.sin(up)
        rays = np.stack((ring * np.sin(lon), down, ring * np.cos(lon)), -1)
        return (rays @ self.turn.T).astype(np.float32)

    def place(self, xyz: Float) -> tuple[Float, Float, Float]:
        x, y, z = (xyz @ self.turn).T
        lat = np.arctan2(-y, np.hypot(x, z))
        trust = _trust(abs(np.degrees(lat)), *_BAND[:2])
        lat = np.clip(lat, *np.radians((-_BAND[2], _BAND[2])))
        up = np.arcsinh(np.tan(lat)) if self.conformal else lat
        col = (np.arctan2(x, z) + math.pi) * (self.W / (2 * math.pi)) - 0.5 + self.margin
        return col, self.shape[0] / 2 - up / self._row - 0.5, trust


def _trust(distance: Float, full: float, none: float) -> Float:
    """1 up to ``full``, 0 from ``none`` on, smooth between."""
    t = np.clip((none - distance) / (none - full), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, eq=False)
class Seat:
    """What one view needs for one size of panorama.

    Attributes:
        view: the view. col, row: ``(h, w)`` float32, where its pixels lie in the panorama padded
            by one pixel on every side.
        pixels: ``(n,)`` flat indices of the panorama's pixels that it has a say in.
        x, y: ``(n,)`` float32, where they lie in the view. share: ``(n, 1)`` float32; the shares
            of all views are 1 together.
        start: ``(n, 3)`` float32 directions of these places, as :meth:`View.lift` has them.
    """

    view: View
    col: Float
    row: Float
    pixels: NDArray[np.int64]
    x: Float
    y: Float
    share: Float
    start: Float


@lru_cache(maxsize=4)
def panorama_rays(H: int, W: int) -> Float:
    """``(H * W, 3)`` float32 directions of a panorama's pixels."""
    return erp_directions(H, W).numpy().reshape(-1, 3).astype(np.float32)


@lru_cache(maxsize=4)
def seats(layout: Layout, H: int, W: int) -> tuple[Seat, ...]:
    """The views of a layout, ready for panoramas of one size; kept for the next frame.

    About 100 bytes a pixel of the panorama; ``seats.cache_clear()`` lets go of them.
    """
    rays = erp_directions(H, W).numpy().reshape(-1, 3)
    views = _views(layout, H, W)
    placed = [view.place(rays) for view in views]
    total = np.sum([trust for _, _, trust in placed], axis=0)
    out = []
    for view, (x, y, trust) in zip(views, placed, strict=True):
        h, w = view.shape
        yy, xx = np.mgrid[:h, :w].astype(np.float32)
        row, col = (p.numpy().astype(np.float32) + 1 for p in erp_pixel(view.lift(xx, yy), H, W))
        pixels = np.flatnonzero(trust > 0)
        x, y = (v[pixels].astype(np.float32) for v in (x, y))
        share = (trust[pixels] / total[pixels]).astype(np.float32)[:, None]
        out.append(Seat(view, col, row, pixels, x, y, share, view.lift(x, y)))
    return tuple(out)


def _views(layout: Layout, H: int, W: int) -> list[View]:
    if layout not in LAYOUTS:
        raise ValueError(f"views: {layout!r}, wanted one of {', '.join(map(repr, LAYOUTS))}")
    quarter = math.pi / 2
    if layout == "cube":
        axes = ((0, 0), (1, 0), (2, 0), (-1, 0), (0, 1), (0, -1))
        assert len(axes) == len(FACES)
        return [Face(_turn(yaw * quarter, pitch * quarter), H) for yaw, pitch in axes]
    turns = [_turn(), _turn(0.0, quarter), _turn(0.0, 0.0, quarter)]
    return [Band(turn, H, W, layout == "mercator") for turn in turns]


def _turn(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Float:
    return rotation_matrix(yaw, pitch, roll).numpy().astype(np.float32)
