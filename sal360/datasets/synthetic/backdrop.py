"""Floor, walls, ceiling and sky as a camera sees them: colours and inverse depths of rays.

Every surface is a plane, so one over the distance along a ray is linear in the ray. The nearest
surface is the largest inverse depth, and near an edge the two largest tell by how much of a pixel
they differ: that is the antialiasing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sal360.datasets.synthetic.motion import Poses, inverse_depths
from sal360.datasets.synthetic.sky import paint_sky
from sal360.datasets.synthetic.textures import colour, paint
from sal360.datasets.synthetic.world import Texture, World

Pixels = Tensor | slice
"""Which of ``n`` pixels: their numbers, or one run of them (which is then a view)."""


@dataclass(frozen=True, eq=False)
class Backdrop:
    """Everything that does not move, as seen by ``n`` rays.

    ``rgb`` (3, n) float32 before shadows and gain; ``inverse`` (n,) float64 inverse depth, 0
    for the sky; of the floor, where it is seen: ``pixels``, the places ``u, v`` in metres and
    ``strength``, how much of a pixel's light it gives.
    """

    rgb: Tensor
    inverse: Tensor
    pixels: Pixels
    u: Tensor
    v: Tensor
    strength: Tensor


def which(mask: Tensor) -> Pixels:
    """The pixels at which a mask is true."""
    found = mask.nonzero()[:, 0]
    if len(found):
        first, last = int(found[0]), int(found[-1])
        if last - first + 1 == len(found):
            return slice(first, last + 1)
    return found


def taken(planes: Tensor, pixels: Pixels) -> Tensor:
    """``(k, n)`` to ``(k, m)``: some of the pixels (torch's own indexing is four times slower)."""
    return planes[:, pixels] if isinstance(pixels, slice) else planes.index_select(1, pixels)


def backdrop(world: World, position: Tensor, rays: Tensor, pixel: float) -> Backdrop:
    """Paint everything that does not move.

    Args:
        position: ``(3,)`` float64 of the camera. rays: ``(3, n)`` float64 unit vectors, world
            frame.
        pixel: radians that a pixel covers.
    """
    place = world.place
    inverse = inverse_depths(place, position, rays.T)
    near = position.float()
    w = rays.float()
    rgb = torch.zeros_like(w)
    floor: tuple[Pixels, Tensor, Tensor, Tensor] = (slice(0, 0), w[0, :0], w[0, :0], w[0, :0])
    for name, share in _shares(world, near, w, pixel).items():
        seen = which(share > 0)
        few, part = taken(w, seen), share[seen]
        if not few.shape[1]:
            continue
        if name == "sky":
            flat = torch.stack((few[0], few[1].clamp(max=0.0), few[2]))
            paints = paint_sky(place, world.light, flat, pixel)
        elif name == "floor":
            paints, u, v, keep = _level(world, near, few, False, pixel)
            floor = (seen, u, v, keep * part)
        elif name == "ceiling":
            paints = _level(world, near, few, True, pixel)[0]
        else:
            paints = _wall(world, near, few, name == "side", pixel)
        paints.mul_(part)
        if isinstance(seen, slice):
            rgb[:, seen] += paints
        else:
            rgb.index_add_(1, seen, paints)
    return Backdrop(rgb, torch.maximum(torch.maximum(*inverse[:2]), inverse[2]), *floor)


def _shares(world: World, position: Tensor, w: Tensor, pixel: float) -> dict[str, Tensor]:
    """How much of each pixel each surface covers."""
    place = world.place
    x, y, z = w
    px, py, pz = position.tolist()
    if not math.isfinite(place.half[0]):
        floor = (y / pixel + 0.5).clamp(0, 1)
        return {"sky": 1 - floor, "floor": floor}
    bounds = [
        torch.where(d > 0, 1 / (half - p), 1 / (half + p))
        for d, p, half in ((x, px, place.half[0]), (z, pz, place.half[1]))
    ]
    above = 1 / (place.roof + py) if place.ceiling else 0.0
    flat = torch.where(y > 0, 1 / (place.height - py), above)
    side, front, level = x.abs() * bounds[0], z.abs() * bounds[1], y.abs() * flat
    stack = torch.stack((side, level, front))
    larger, smaller = torch.maximum(side, level), torch.minimum(side, level)
    first = torch.maximum(larger, front)
    second = torch.maximum(smaller, torch.minimum(larger, front))
    # Slopes of the two are bounded by that of all three, which differs at corners alone.
    slope = torch.sqrt(bounds[0] ** 2 + bounds[1] ** 2 + flat**2)
    shares = (stack == first).to(w.dtype)
    edge = which(first - second < 0.5 * pixel * slope)
    few = taken(stack, edge)
    order = few.argsort(dim=0, descending=True, stable=True)
    slopes = taken(torch.stack((bounds[0], flat, bounds[1])), edge)
    apart = torch.hypot(slopes.gather(0, order[:1])[0], slopes.gather(0, order[1:2])[0])
    minor = (0.5 - (first - second)[edge] / (pixel * apart)).clamp(0, 0.5)
    mixed = torch.zeros_like(few).scatter_(0, order[:1], (1 - minor)[None])
    shares[:, edge] = mixed.scatter_(0, order[1:2], minor[None])
    down = y > 0
    if place.ceiling:
        floor, ceiling = shares[1] * down, shares[1] * ~down
        return {"side": shares[0], "floor": floor, "ceiling": ceiling, "front": shares[2]}
    rim = place.roof + py
    wall, steep = torch.maximum(side, front), torch.maximum(bounds[0], bounds[1])
    over = ((-y - wall * rim) / (pixel * torch.sqrt(1 + (steep * rim) ** 2)) + 0.5).clamp(0, 1)
    kept = 1 - over
    return {
        "sky": over, "side": shares[0] * kept, "floor": shares[1] * kept * down,
        "front": shares[2] * kept,
    }  # fmt: skip


def _lit(world: World, normal: tuple[float, float, float]) -> float:
    light = world.light
    facing = max(0.0, sum(a * b for a, b in zip(normal, light.towards, strict=True)))
    return 1 - light.direct + 1.25 * light.direct * facing


def _level(
    world: World, position: Tensor, rays: Tensor, ceiling: bool, pixel: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Floor or ceiling: colours, places in metres, and the share that haze leaves of them."""
    place = world.place
    slant = (-rays[1] if ceiling else rays[1]).clamp(min=1e-6)
    depth = ((place.roof + position[1]) if ceiling else (place.height - position[1])) / slant
    # Beyond, all is haze; large numbers would only lose their digits.
    u, v = ((position[i] + depth * rays[i]).clamp(-2000, 2000) for i in (0, 2))
    wide = depth * pixel
    fu, fv = (wide * torch.sqrt(1 + (rays[i] / slant) ** 2) for i in (0, 2))
    lit = _lit(world, (0.0, 1.0, 0.0) if ceiling else (0.0, -1.0, 0.0))
    shade = 0.55 + 0.45 * lit if place.ceiling else 0.35 + 0.65 * lit
    rgb = paint(place.top if ceiling else place.floor, u, v, fu, fv) * shade
    if math.isfinite(place.half[0]):
        return rgb * _corner(world, u, v), u, v, torch.ones_like(u)
    keep = torch.exp((depth * (-1 / place.haze)).clamp(min=-30))
    return torch.lerp(colour(place.horizon, rgb), rgb, keep), u, v, keep


def _corner(world: World, u: Tensor, v: Tensor) -> Tensor:
    """Less light near the walls."""
    a, b = world.place.half
    gap = torch.minimum(a - u.abs(), b - v.abs()).clamp(min=0)
    return 1 - 0.22 * torch.exp(-gap / 0.7)


def shadows(world: World, poses: Poses, u: Tensor, v: Tensor) -> Tensor:
    """``(n,)`` darkness, in [0, 1], of soft blots on the floor where things' shadows fall."""
    c = poses.centres[0]
    light = world.light.towards
    high = (world.place.height - c[:, 1]).clamp(min=0)
    shift = (high / max(-light[1], 0.35)).clamp(max=6.0)
    size = poses.size * (1 + poses.stretch) / 2
    soft = size * 0.9 + 0.12 * high
    strong = poses.shown[0] / (1 + (high / (4 * size)) ** 2)
    if world.place.ceiling:
        shift = shift * 0.2
    solid = torch.tensor([t.soft < 0.5 for t in world.things], dtype=torch.float64)
    x, z, sharp = c[:, 0] - light[0] * shift, c[:, 2] - light[2] * shift, -1 / soft**2
    # -|p - foot|^2 / soft^2 as a product, so that things times pixels are passed over twice only.
    table = torch.stack((sharp, -2 * x * sharp, -2 * z * sharp, (x * x + z * z) * sharp), -1)
    a, b = u.clamp(-80, 80), v.clamp(-80, 80)
    points = torch.stack((a * a + b * b, a, b, torch.ones_like(a)))
    blots = (table.to(u) @ points).clamp_(min=-30).exp_()
    return ((strong * solid).to(u) @ blots).clamp_(max=1.0)


def _wall(world: World, position: Tensor, w: Tensor, side: bool, pixel: float) -> Tensor:
    place = world.place
    through, along = (0, 2) if side else (2, 0)
    half = place.half[0] if side else place.half[1]
    d = w[through]
    ahead = d > 0
    reach = torch.where(ahead, half - position[through], half + position[through])
    slant = d.abs().clamp(min=1e-6)
    depth = reach / slant
    u, v = position[along] + depth * w[along], position[1] + depth * w[1]
    wide = depth * pixel
    fu, fv = (wide * torch.sqrt(1 + (w[i] / slant) ** 2) for i in (along, 1))
    surface: Texture = place.wall
    rgb = paint(surface, u + 17.0 * ahead, v, fu, fv)
    out = [0.0, 0.0, 0.0]
    lit = []
    for sign in (-1.0, 1.0):
        out[through] = -sign
        lit.append(_lit(world, (out[0], out[1], out[2])))
    shade = torch.where(ahead, 0.4 + 0.6 * lit[1], 0.4 + 0.6 * lit[0])
    other = place.half[1] if side else place.half[0]
    gap = torch.minimum((other - u.abs()).clamp(min=0), (place.height - v).clamp(min=0))
    return rgb * shade * (1 - 0.22 * torch.exp(-gap / 0.7))
