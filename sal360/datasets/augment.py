"""Turning a clip: frames, flow, truth, gaze, depth and masks move together, or nothing does.

A panorama may be turned by any rotation and is still a panorama, so a data set of the sphere has
more variants than one of the plane. But every field turns in its own way: a colour is read
elsewhere, a density too (it is per steradian, and a rotation keeps areas), a gaze direction is
rotated, and an arrow of flow has two ends, both of which move. Chapters 03 and 10.

A turn about the vertical by whole pixels and a mirror copy pixels and lose nothing; any other
rotation interpolates once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, non_negative
from sal360.datasets.flow_picture import flow_to_picture, picture_to_flow
from sal360.datasets.item import Item
from sal360.resampling import Reader, erp_reader, erp_table
from sal360.sphere import (
    erp_directions,
    erp_pixel,
    lonlat_to_xyz,
    pixel_area,
    rotation_matrix,
    xyz_to_lonlat,
)

_FIELDS = ("flow", "flow_picture", "truth", "previous", "depth", "masks")
_EDGE_PX = 0.5  # flows that differ by more within one pixel belong to different things
_EDGE_DEPTH = 0.25  # the same for depth, relative
_POLAR = math.radians(75)  # beyond, pixels are narrow and a little motion is many of them


def roll_item(item: Item, columns: int) -> Item:
    """Turn about the vertical by whole pixels: content moves right, every value stays exact.

    The same as :func:`rotate_item` with ``rotation_matrix(2 pi columns / W)``, without reading
    between pixels. Flow keeps its numbers, and so do the colours of a flow picture.

    Args:
        item: any item. columns: pixels to the right; negative to the left.
    """
    W = item.size[1]
    columns = int(columns) % W
    if columns == 0:
        return item
    turn = 2 * math.pi * columns / W

    def moved(field: Tensor | None) -> Tensor | None:
        return None if field is None else field.roll(columns, -1)

    fields: dict[str, Any] = {name: moved(getattr(item, name)) for name in _FIELDS}
    return replace(
        item,
        frames=item.frames.roll(columns, -1),
        fixations=_each(item.fixations, lambda points: _shifted(points, turn)),
        **fields,
    )


def mirror_item(item: Item) -> Item:
    """Swap left and right: longitudes and the flow's first component change sign.

    A flow picture is read as arrows, which are mirrored and drawn again.
    """

    def flipped(field: Tensor | None) -> Tensor | None:
        return None if field is None else field.flip(-1)

    fields: dict[str, Any] = {name: flipped(getattr(item, name)) for name in _FIELDS}
    sign = torch.tensor([-1.0, 1.0])
    if item.flow is not None:
        fields["flow"] = item.flow.flip(-1) * sign.to(item.flow)[:, None, None]
    if item.flow_picture is not None:
        arrows = picture_to_flow(item.flow_picture.flip(-1))
        fields["flow_picture"] = flow_to_picture(arrows * sign.to(arrows)[:, None, None])
    other_way = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return replace(
        item,
        frames=item.frames.flip(-1),
        fixations=_each(item.fixations, lambda points: points * other_way.to(points)),
        **fields,
    )


def rotate_item(item: Item, R: ArrayLike) -> Item:
    """Turn a whole clip: what stood at ``d`` stands at ``R d``, as in ``rotate_erp``.

    - frames: bilinear.
    - flow: the displacement of each pixel as an arrow in space is read bilinearly (where the
      four around it disagree, at the edge of a moving thing, the nearest one), turned, and
      measured in pixels from its new start: at a pole an arrow is a number like any other.
    - flow picture: read as arrows, turned as very short ones, drawn again relative to the new
      fastest pixel within 75 degrees of the equator.
    - truth, previous: bilinear, per steradian before and after; the mass of a frame is what it
      was, which corrects the interpolation by a factor close to 1.
    - depth: the inverse is read bilinearly, which is exact on a plane and allows infinity; at
      edges the nearest.
    - masks: nearest. Fixations: rotated exactly.

    Args:
        item: any item. R: ``(3, 3)`` rotation.
    Raises:
        ValueError: ``R`` is not a rotation.
    """
    read = _Reading.prepare(item, _rotation(R))
    fields: dict[str, Any] = dict.fromkeys(_FIELDS)
    if item.flow is not None:
        fields["flow"] = read.flow(item.flow)
    if item.flow_picture is not None:
        # A picture does not say how long its arrows are: make them so short that only their
        # directions count.
        arrows = picture_to_flow(item.flow_picture).double() * 1e-3
        fields["flow_picture"] = flow_to_picture(_limited(read.flow(arrows, 1e-3)))
    for name in ("truth", "previous"):
        field = getattr(item, name)
        fields[name] = None if field is None else read.density(field)
    if item.depth is not None:
        fields["depth"] = read.depth(item.depth)
    if item.masks is not None:
        fields["masks"] = read.nearest(item.masks)
    fixations = _each(item.fixations, read.points)
    return replace(item, frames=read(item.frames), fixations=fixations, **fields)


@dataclass(frozen=True)
class Turn:
    """What happens to one clip, in this order: mirrored, turned, tilted, recoloured.

    Attributes:
        mirror: left and right swapped. columns: pixels to the right.
        R: ``(3, 3)`` rotation, or None.
        colour: factors of brightness, contrast and saturation.
    """

    mirror: bool
    columns: int
    R: Tensor | None
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __call__(self, item: Item) -> Item:
        """The item after all of it."""
        if self.mirror:
            item = mirror_item(item)
        item = roll_item(item, self.columns)
        if self.R is not None:
            item = rotate_item(item, self.R)
        if self.colour != (1.0, 1.0, 1.0):
            item = replace(item, frames=_recoloured(item.frames, *self.colour))
        return item


@dataclass(frozen=True)
class Augment:
    """Random turns of clips, the same for the same ``(seed, epoch, index)``.

    One draw serves a whole clip: its frames stay one film.

    Attributes:
        yaw: turn about the vertical by any whole number of pixels.
        mirror: swap left and right for one clip in two.
        tilt_deg: tilt the vertical by up to so many degrees, about any horizontal axis. The only
            choice that interpolates; it also breaks what people know of up and down, so a truth
            with an equator bias is turned into one without.
        colour: brightness, contrast and saturation each times a factor in ``1 -+ colour``.
        seed: of all draws.
    Raises:
        ValueError: an angle beyond 180 degrees, a colour of 1 or more, a negative seed.
    """

    yaw: bool = True
    mirror: bool = True
    tilt_deg: float = 0.0
    colour: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed: {self.seed!r}, wanted a whole number of at least 0")
        if non_negative(self.tilt_deg, "tilt_deg") > 180:
            raise ValueError(f"tilt_deg: {self.tilt_deg:g}, wanted at most 180")
        if non_negative(self.colour, "colour") >= 1:
            raise ValueError(f"colour: {self.colour:g}, wanted below 1")

    def draw(self, epoch: int, index: int, W: int) -> Turn:
        """What happens to clip ``index`` in an epoch, at a width of ``W`` pixels."""
        # All numbers are drawn whatever is used, so that one choice does not change another.
        u = np.random.default_rng((self.seed, epoch, index)).random(7)
        R = None
        if self.tilt_deg:
            about = rotation_matrix(2 * math.pi * u[2])
            nod = rotation_matrix(0.0, 0.0, math.radians(self.tilt_deg) * u[3])
            R = about @ nod @ about.T
        low, span = 1 - self.colour, 2 * self.colour
        return Turn(
            mirror=bool(self.mirror and u[0] < 0.5),
            columns=int(u[1] * W) if self.yaw else 0,
            R=R,
            colour=(low + span * u[4], low + span * u[5], low + span * u[6]),
        )

    def __call__(self, item: Item, epoch: int = 0, index: int = 0) -> Item:
        """The item, turned."""
        return self.draw(epoch, index, item.size[1])(item)


@dataclass(frozen=True)
class _Reading:
    """One rotation at one size, prepared once for all the fields of an item."""

    reader: Reader
    pixels: Tensor  # (H W,), the old pixel nearest to each new one
    here: Tensor  # (H, W, 3) directions of the new pixels
    there: Tensor  # and where they were
    R: Tensor

    @classmethod
    def prepare(cls, item: Item, R: Tensor) -> _Reading:
        H, W = item.size
        R = R.to(item.frames.device)
        here = erp_directions(H, W).to(R.device)
        there = here @ R  # row vectors: R^T d
        reader = erp_reader(there, H, W, torch.float32)
        return cls(reader, erp_table(there, H, W, "nearest").pixels[:, 0], here, there, R)

    def __call__(self, field: Tensor) -> Tensor:
        return self.reader(field)

    def nearest(self, field: Tensor) -> Tensor:
        return field.flatten(-2)[..., self.pixels].reshape(field.shape)

    def density(self, field: Tensor) -> Tensor:
        area = pixel_area(*field.shape[-2:]).to(field.device)[:, None]
        read = self(field)
        before, after = ((f * area).sum((-2, -1), keepdim=True) for f in (field, read))
        factor = torch.where(after == 0, torch.ones_like(after), before / after)
        return (read * factor).to(field.dtype)

    def depth(self, field: Tensor) -> Tensor:
        smooth, near = self(1 / field), self.nearest(1 / field)
        edge = (smooth - near).abs() > _EDGE_DEPTH * near
        return 1 / torch.where(edge, near, smooth)

    def flow(self, flow: Tensor, unit: float = 1.0) -> Tensor:
        """``(T, 2, H, W)`` pixels, both ends turned. ``unit``: pixels that count as one.

        Worked out in the dtype of ``flow``: float32 is good to about 1e-4 pixels.
        """
        H, W = flow.shape[-2:]
        row, col = (place.to(flow.dtype) for place in erp_pixel(self.here, H, W))
        lon = ((col + flow[:, 0] + 0.5) / W - 0.5) * (2 * math.pi)
        lat = (0.5 - (row + flow[:, 1] + 0.5) / H) * math.pi
        ring = torch.cos(lat)  # sal360.sphere would take all of it to float64
        ends = torch.stack((ring * torch.sin(lon), -torch.sin(lat), ring * torch.cos(lon)), 1)
        arrow = ends - self.here.movedim(-1, 0).to(flow.dtype)
        smooth, near = self(arrow), self.nearest(arrow)
        apart = torch.linalg.vector_norm(smooth - near, dim=1, keepdim=True)
        arrow = torch.where(apart > _EDGE_PX * unit * math.pi / H, near, smooth)
        ends = self.there.movedim(-1, 0).to(flow.dtype) + arrow
        x, y, z = torch.einsum("ij,tjhw->ithw", self.R.to(flow.dtype), ends)
        col_to = (torch.atan2(x, z) / (2 * math.pi) + 0.5) * W - 0.5
        row_to = (torch.atan2(y, torch.hypot(x, z)) / math.pi + 0.5) * H - 0.5
        right = torch.remainder(col_to - col + W / 2, W) - W / 2
        return torch.stack((right, row_to - row), 1)

    def points(self, points: Tensor) -> Tensor:
        if not len(points):
            return points
        xyz = lonlat_to_xyz(points[:, 0], points[:, 1]) @ self.R.T
        return torch.stack(xyz_to_lonlat(xyz), -1)


def _each(
    points: tuple[Tensor, ...] | None, move: Callable[[Tensor], Tensor]
) -> tuple[Tensor, ...] | None:
    return None if points is None else tuple(move(p) for p in points)


def _shifted(points: Tensor, turn: float) -> Tensor:
    """Longitudes moved by ``turn``, in [-pi, pi)."""
    lon = torch.remainder(points[:, 0] + turn + math.pi, 2 * math.pi) - math.pi
    return torch.stack((lon, points[:, 1]), -1)


def _recoloured(frames: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Around the clip's own mean; grey as OpenCV weighs it."""
    share = frames.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (frames * share).sum(1, keepdim=True)
    frames = grey + saturation * (frames - grey)
    middle = grey.mean()
    return (brightness * (middle + contrast * (frames - middle))).clamp(0, 1)


def _limited(flow: Tensor) -> Tensor:
    """Arrows near the poles cut to the longest of the others."""
    H = flow.shape[-2]
    length = torch.linalg.vector_norm(flow, dim=1, keepdim=True)
    cap = max(0, math.ceil((0.5 - _POLAR / math.pi) * H))
    longest = length[..., cap : H - cap, :].amax((-2, -1), keepdim=True)
    return flow * (longest / length.clamp_min(1e-12)).clamp(max=1)


def _rotation(R: ArrayLike) -> Tensor:
    R = as_float64(R, "R")
    if R.shape != (3, 3):
        raise ValueError(f"R: shape {tuple(R.shape)}, wanted (3, 3)")
    off = float((R @ R.T - torch.eye(3, dtype=R.dtype, device=R.device)).abs().max())
    if off > 1e-6 or torch.det(R) < 0:
        raise ValueError(
            f"R: determinant {float(torch.det(R)):.3g}, R R^T off by {off:.1g}, wanted a rotation"
        )
    return R
