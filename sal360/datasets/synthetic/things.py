"""Things over the background: outlines, colours, depth and motion of the few pixels they touch.

All things of a kind are computed together, as one list of (pixel, thing) pairs; only their
outlines and patterns are called one by one. Then they are laid over the background, the farthest
first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sal360.datasets.synthetic.motion import Poses
from sal360.datasets.synthetic.shapes import extent, outline, pattern
from sal360.datasets.synthetic.world import World
from sal360.sphere import erp_directions, lonlat_to_xyz


@dataclass(frozen=True, eq=False)
class Grid:
    """Rays of an ``H x W`` panorama in the camera's frame.

    ``exact`` (3, HW) float64, and ``rays`` (HW, 3, 3 shifts) float32: through each pixel's
    centre, half a pixel to the east, half a pixel to the north; ``pixel``: radians of a row.
    """

    H: int
    W: int
    exact: Tensor
    rays: Tensor
    centre: Tensor
    pixel: float


@lru_cache(maxsize=4)
def grid(H: int, W: int, device: torch.device) -> Grid:
    """Prepared once for each size and device."""
    exact = erp_directions(H, W).reshape(-1, 3).T.contiguous()
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W - 0.5) * (2 * math.pi)
    east = lonlat_to_xyz(lon + math.pi / W, lat[:, None]).reshape(-1, 3)
    north = lonlat_to_xyz(lon, lat[:, None] + math.pi / (2 * H)).reshape(-1, 3)
    rays = torch.stack((exact.T, east, north), dim=-1).float()
    centre = exact.float()
    return Grid(H, W, exact.to(device), rays.to(device), centre.to(device), math.pi / H)


def displacement(here: Tensor, goal: Tensor, g: Grid) -> Tensor:
    """``(2, n)`` pixels from the directions ``here`` to the directions ``goal``, ``(3, n)``.

    The angle about the vertical comes from the sine and cosine between the two, which needs no
    wrapping and loses no digits when they are close.
    """
    x, y, z = here
    a, b, c = goal
    right = torch.atan2(a * z - c * x, a * x + c * z)
    level, flat = torch.sqrt(a * a + c * c), torch.sqrt(x * x + z * z)
    down = torch.atan2(b * flat - y * level, level * flat + b * y)
    return torch.stack((right * (g.W / (2 * math.pi)), down * (g.H / math.pi)))


@dataclass(frozen=True, eq=False)
class _Sight:
    """One frame's things from the camera: everything ``(N, ...)`` or ``(2, N, ...)`` (now, next).

    ``offsets`` metres and ``axes`` (rows right, up, forward of a figure that faces the viewer,
    turned by its spin), both in the camera's frame, float64.
    """

    offsets: Tensor
    distance: Tensor
    axes: Tensor
    poses: Poses


def draw_things(
    world: World, poses: Poses, g: Grid, rgb: Tensor, inverse: Tensor, move: Tensor, mask: Tensor
) -> None:
    """Lay the things over a background; everything but the world is changed in place.

    Args:
        poses: of two times, now and one step later.
        rgb, inverse, move, mask: ``(3, HW)``, ``(HW,)`` inverse depth, ``(2, HW)`` flow, ``(HW,)``.
    """
    if not world.things:
        return
    sight = _sight(world, poses)
    device = g.exact.device
    order = torch.argsort(sight.distance[0], descending=True, stable=True).tolist()
    shown = poses.shown[0].tolist()
    seen = _touched(world, sight, g, [n for n in order if shown[n] > 0])
    pieces: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    owners: list[tuple[Tensor, ...]] = []
    rank = torch.empty(len(world.things), dtype=torch.int64)
    rank[order] = torch.arange(1, len(order) + 1)
    for solid in (False, True):
        numbers = [n for n in seen if world.things[n].solid == solid]
        if not numbers:
            continue
        counts = [len(seen[n]) for n in numbers]
        pixels = torch.cat([seen[n] for n in numbers])
        who = torch.repeat_interleave(torch.tensor(numbers), torch.tensor(counts)).to(device)
        draw = _solids if solid else _flats
        cover, colours, depth, goal = draw(world, sight, g, pixels, who, numbers, counts)
        soft = g.pixel / min(world.place.height, 4.0)  # where a thing meets the floor
        front = ((depth - inverse[pixels]) / soft + 0.5).clamp_(0, 1)
        cover = cover * front.float() * poses.shown[0].float().to(device)[who]
        own = (cover >= 0.5).nonzero()[:, 0]
        flow = displacement(g.exact.index_select(1, pixels[own]), goal[own].T, g)
        owners.append((pixels[own], who[own], depth[own], flow))
        splits = zip(pixels.split(counts), cover.split(counts), colours.split(counts), strict=True)
        pieces |= dict(zip(numbers, splits, strict=True))
    for n in order:
        if n in pieces:
            pixels, cover, colours = pieces[n]
            rgb[:, pixels] = torch.lerp(rgb.index_select(1, pixels), colours.T, cover)
    if owners:
        pixels, who, depth = (torch.cat([o[i] for o in owners]) for i in range(3))
        flow = torch.cat([o[3] for o in owners], dim=1)
        place = rank.to(device)[who]
        best = torch.zeros_like(mask).scatter_reduce_(0, pixels, place, "amax")
        front = (best[pixels] == place).nonzero()[:, 0]
        pixels = pixels[front]
        mask[pixels] = who[front] + 1
        inverse[pixels] = depth[front]
        move[:, pixels] = flow[:, front]


def _sight(world: World, poses: Poses) -> _Sight:
    offsets = (poses.centres - poses.camera[:, None]) @ poses.turn  # rows: R.T v
    distance = torch.linalg.vector_norm(offsets, dim=-1)
    ahead = offsets / distance[..., None]
    up = world.columns["upright"] @ poses.turn
    up = torch.nn.functional.normalize(up - (up * ahead).sum(-1, keepdim=True) * ahead, dim=-1)
    right = torch.linalg.cross(ahead, up)
    cos, sin = torch.cos(poses.spin)[..., None], torch.sin(poses.spin)[..., None]
    axes = torch.stack((cos * right + sin * up, cos * up - sin * right, ahead), dim=-2)
    return _Sight(offsets, distance, axes, poses)


def _touched(world: World, sight: _Sight, g: Grid, numbers: list[int]) -> dict[int, Tensor]:
    """The pixels that each thing may touch: those within its angular radius, sought in its rows."""
    c = world.columns
    reach = torch.tensor([extent(t.shape, t.stretch) for t in world.things], dtype=torch.float64)
    part = c["size"] * reach * (1 + c["soft"] / 2) / sight.distance[0]
    angle = torch.where(c["solid"] > 0, torch.asin(part.clamp(max=0.99)), torch.atan(part))
    angle = (angle + 1.5 * g.pixel).clamp(max=1.45)
    down = torch.asin(sight.axes[0, :, 2, 1].clamp(-1, 1))
    first = (((down - angle) / math.pi + 0.5) * g.H).floor().clamp(0, g.H).int().tolist()
    last = (((down + angle) / math.pi + 0.5) * g.H).ceil().clamp(0, g.H).int().tolist()
    near = torch.cos(angle).tolist()
    ahead = sight.axes[0, :, 2].to(g.centre)
    seen = {}
    for n in numbers:
        start = first[n] * g.W
        found = ((ahead[n] @ g.centre[:, start : last[n] * g.W]) > near[n]).nonzero()[:, 0]
        if len(found):
            seen[n] = found + start
    return seen


def _coverage(s: Tensor, soft: Tensor) -> Tensor:
    """``s`` (n, 3): an outline at the centre and half a pixel east and north of it."""
    slope = 2 * torch.hypot(s[:, 1] - s[:, 0], s[:, 2] - s[:, 0])
    return (0.5 - s[:, 0] / (slope + soft + 1e-9)).clamp(0, 1)


def _numbers(world: World, name: str, like: Tensor) -> Tensor:
    return world.columns[name].to(like)


def _patterns(
    world: World, numbers: list[int], counts: list[int], x: Tensor, y: Tensor, pixel: Tensor
) -> Tensor:
    split = zip(numbers, x.split(counts), y.split(counts), pixel.split(counts), strict=True)
    return torch.cat(
        [pattern(world.things[n].pattern, a, b, world.things[n].repeats, f) for n, a, b, f in split]
    )


def _colours(world: World, who: Tensor, share: Tensor, shade: Tensor) -> Tensor:
    """``(n, 3)``."""
    first, second = (_numbers(world, name, share)[who] for name in ("first", "second"))
    return torch.lerp(first, second, share[:, None]).mul_(shade[:, None])


def _flats(
    world: World, sight: _Sight, g: Grid, pixels: Tensor, who: Tensor, numbers: list[int],
    counts: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Figures in the plane through their centre across the line of sight.

    Returns:
        For each of ``n`` pairs: coverage ``(n,)``, colour ``(n, 3)``, inverse depth ``(n,)``
        float64, and the direction ``(n, 3)`` in which the point lies one step later.
    """
    device = g.exact.device
    scale = (sight.distance[0] / world.columns["size"]).to(g.rays)[who, None]
    axes = sight.axes[0].to(g.rays)[who]
    places = torch.bmm(axes, g.rays.index_select(0, pixels))
    front = places[:, 2].clamp(min=0.05)
    x, y = places[:, 0] / front * scale, places[:, 1] / front * scale
    split = zip(numbers, x.split(counts), y.split(counts), strict=True)
    things = world.things
    s = torch.cat([outline(things[n].shape, a, b, things[n].stretch) for n, a, b in split])
    cover = _coverage(s, _numbers(world, "soft", s)[who])
    pixel = g.pixel * scale[:, 0] / front[:, 0]
    share = _patterns(world, numbers, counts, x[:, 0], y[:, 0], pixel)
    bright = sight.poses.bright[0].to(s)[who]
    colours = _colours(world, who, share, (1 + 0.10 * y[:, 0]).clamp(0.8, 1.2) * bright)
    distance = sight.distance[0].to(device)[who]
    local = torch.bmm(sight.axes[0].to(device)[who], g.exact.index_select(1, pixels).T[..., None])[
        ..., 0
    ]
    spot = local[:, :2] * (distance / local[:, 2])[:, None]
    there = sight.axes[1].to(device)[who]
    goal = torch.bmm(spot[:, None], there[:, :2])[:, 0] + sight.offsets[1].to(device)[who]
    return cover, colours, local[:, 2] / distance, goal


def _solids(
    world: World, sight: _Sight, g: Grid, pixels: Tensor, who: Tensor, numbers: list[int],
    counts: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Balls, also squeezed along gravity, that spin about gravity; see :func:`_flats`."""
    device = g.exact.device
    turn = sight.poses.turn.to(device)
    c = world.columns
    half = torch.stack((c["size"] * c["stretch"], c["size"], c["size"] * c["stretch"]), -1)
    half = half.to(device)
    # The camera as seen from the centre, in units of the half axes.
    eye = (-(sight.offsets[0].to(device) @ turn[0].T) / half)[who]
    half = half[who]
    wide = (turn[0].float() @ g.rays.index_select(0, pixels)) / half.float()[..., None]
    o = eye.float()[..., None]
    along = (o * wide).sum(1) / (wide * wide).sum(1)
    gap = o - along[:, None] * wide
    s = torch.sqrt((gap * gap).sum(1)) - 1
    cover = _coverage(s, _numbers(world, "soft", s)[who])
    rays = g.exact.index_select(1, pixels).T @ turn[0].T
    d = rays / half
    a, b = (d * d).sum(-1), (eye * d).sum(-1)
    nearest = eye - (b / a)[:, None] * d
    miss = (nearest * nearest).sum(-1)
    length = (-b - torch.sqrt(a * (1 - miss).clamp(min=0))) / a
    spot = torch.nn.functional.normalize(eye + length[:, None] * d, dim=-1)
    normal = torch.nn.functional.normalize(spot / half, dim=-1).float()
    light = world.light
    towards = torch.tensor(light.towards, device=device)
    lit = (normal @ towards).clamp(min=0)
    shade = 1 - 0.75 * light.direct + 0.95 * light.direct * lit - 0.12 * normal[:, 1]
    point = spot.float()
    spin = sight.poses.spin.to(device)[:, who]
    longitude = torch.atan2(point[:, 0], point[:, 2]) - spin[0].float()
    longitude = torch.remainder(longitude + math.pi, 2 * math.pi) - math.pi
    facing = -(normal * rays.float()).sum(-1)
    ring = torch.sqrt((1 - point[:, 1] ** 2).clamp(min=1e-4))
    size = _numbers(world, "size", s)[who]
    pixel = g.pixel * length.float() / size / facing.clamp(min=0.1) / ring
    share = _patterns(world, numbers, counts, longitude * (2 / math.pi), -point[:, 1], pixel)
    colours = _colours(world, who, share, shade * sight.poses.bright[0].to(s)[who])
    cos, sin = torch.cos(spin[1] - spin[0]), torch.sin(spin[1] - spin[0])
    x, y, z = spot.unbind(-1)
    moved = torch.stack((cos * x + sin * z, y, cos * z - sin * x), -1) * half
    goal = moved @ turn[1] + sight.offsets[1].to(device)[who]
    return cover, colours, 1 / length, goal
