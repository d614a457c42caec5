"""Chapter 15: exercises on warping, speed, the camera's turn, a loss that holds, faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360.course.checking import Case, ask, exercise, name_faults
from sal360.losses import temporal_smoothness
from sal360.sphere import erp_directions, erp_pixel, lonlat_to_xyz, pixel_area, von_mises_fisher

FAULTS = ("backwards", "halved", "seam", "pixels")
Smooth = Callable[[Tensor, Tensor], Tensor]


@exercise("15.1")
def warp_direction(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(following, flow) -> (H, W)``: the next map laid as this one, flow in whole pixels."""
    draw = torch.Generator().manual_seed(151)
    spot = torch.zeros(4, 8)
    spot[1, 2] = 1
    cases = [
        ("a spot that goes 1 column right", spot, (1, 0)),
        ("a spot that goes 1 row down", spot, (0, 1)),
        ("a spot that goes 3 columns left, over the seam", spot, (-3, 0)),
        ("a noisy map that goes 2 right", torch.rand(6, 12, generator=draw), (2, 0)),
    ]
    for name, now, (right, down) in cases:
        flow = torch.tensor([right, down])[:, None, None].expand(2, *now.shape).clone()
        following = now.roll((down, right), (0, 1))
        inside = slice(0, now.shape[0] - abs(down))  # what leaves below is asked of nobody
        got = torch.as_tensor(ask(answer, following.clone(), flow))
        if got.shape != now.shape:
            yield Case("a map of the size of the map", False,
                       f"{name}: shape {tuple(got.shape)}, wanted {tuple(now.shape)}")  # fmt: skip
            return
        holds = torch.allclose(got[inside].to(now), now[inside])
        against = following.roll((down, right), (0, 1))
        hint = " (that moves it on, with the flow)" if torch.allclose(got.to(now), against) else ""
        yield Case(
            "the next map, read where flow leads, is this map",
            holds,
            f"{name}: the largest value is at {_peak(got)}, wanted {_peak(now)}{hint}",
        )
    flow = torch.zeros(2, 4, 8, dtype=torch.int64)
    flow[0, 1, 2] = 3
    after = torch.arange(32.0).view(4, 8)
    got = torch.as_tensor(ask(answer, after.clone(), flow.clone()))
    yield Case("each pixel follows its own flow", float(got[1, 2]) == 13 and float(got[0, 0]) == 0,
               f"only pixel (1, 2) moves, 3 to the right: you read {float(got[1, 2]):g} there, "
               "wanted 13, what stands at (1, 5)")  # fmt: skip
    flow = torch.zeros(2, 4, 8, dtype=torch.int64)
    flow[1, 3], flow[1, 0] = 2, -1
    got = torch.as_tensor(ask(answer, after.clone(), flow))
    yield Case("rows stop at the edges", torch.equal(got.to(after), after),
               "the last row goes 2 down, the first 1 up: you read "
               f"{float(got[3, 0]):g} and {float(got[0, 0]):g} in column 0, wanted 24 and 0, "
               "the rows themselves")  # fmt: skip


def _peak(values: Tensor) -> tuple[int, int]:
    row, col = divmod(int(values.argmax()), values.shape[-1])
    return row, col


@exercise("15.2")
def speed(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(right, down, lat, W, fps) -> degrees per second``; ``lat`` in degrees, ``H = W / 2``.

    Steps are small, so that the arc from start to end is as good as the local scale.
    """
    cases = [
        (1.0, 0.0, 0.0, 360, 1.0), (1.0, 0.0, 0.0, 360, 8.0), (0.0, 1.0, 0.0, 360, 1.0),
        (1.0, 0.0, 60.0, 360, 1.0), (1.0, 0.0, -60.0, 360, 1.0), (0.0, -2.0, 60.0, 360, 1.0),
        (0.3, 0.4, 60.0, 960, 30.0),
    ]  # fmt: skip
    for right, down, lat, W, fps in cases:
        east = right * 360 / W * math.cos(math.radians(lat))
        wanted = math.hypot(east, down * 360 / W) * fps
        got = float(ask(answer, right, down, lat, W, fps))
        slips = {
            "a column is narrower there": math.hypot(right, down) * 360 / W * fps,
            "that is per frame": wanted / fps,
            "that is in radians": math.radians(wanted),
            "a speed has no sign": -wanted,
        }
        told = [t for t, slip in slips.items() if fps * lat or wanted != slip if _near(got, slip)]
        hint = f" ({told[0]})" if told and not _near(got, wanted) else ""
        yield Case(
            "how fast it moves on the sphere",
            _near(got, wanted),
            f"right {right:g}, down {down:g} at latitude {lat:g}, W = {W}, {fps:g} frames/s: "
            f"you gave {got:.4g}, wanted {wanted:.4g} degrees/s{hint}",
        )


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-9)


@exercise("15.3")
def camera_from_a_part(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(rays, moved, weight) -> (3,)``: the small turn that explains the weighted directions."""
    H, W = 16, 32
    rays = erp_directions(H, W).reshape(-1, 3)
    area = pixel_area(H, W).repeat_interleave(W)
    ahead, up = (rays[:, 2] > 0.2).double(), (rays[:, 1] < 0).double()
    draw = torch.Generator().manual_seed(153)
    thing = torch.linalg.vector_norm(rays - rays[200], dim=-1) < 0.8
    less = torch.where(thing, 0.5, 1.0)
    for name, axis, weight, spoils in (
        ("a turn about the vertical, the whole sphere", (0, 1, 0), torch.ones(H * W), False),
        ("a nod, the whole sphere", (1, 0, 0), torch.ones(H * W), False),
        ("a turn about the vertical, the front alone", (0, 1, 0), ahead, False),
        ("a turn about any axis, the upper half", (0.3, -0.5, 0.8), up, False),
        ("a thing that moves has weight 0", (0.1, 0.9, -0.2), (~thing).double(), True),
        ("a thing that turns twice as far has weight 1/2", (0, 1, 0), less, False),
    ):
        omega = 1e-3 * torch.tensor(axis, dtype=torch.float64)
        step = torch.linalg.cross(omega.expand_as(rays), rays)
        moved = torch.nn.functional.normalize(rays + step, dim=-1)
        wanted = omega
        if name.startswith("a thing that turns"):
            moved[thing] = torch.nn.functional.normalize(rays[thing] + 2 * step[thing], dim=-1)
            wanted = _least_squares(rays, moved, weight.double() * area)
        if spoils:
            noise = torch.randn(int(thing.sum()), 3, generator=draw, dtype=torch.float64)
            moved[thing] = torch.nn.functional.normalize(rays[thing] + noise, dim=-1)
        share = weight.double() * area
        got = torch.as_tensor(ask(answer, rays.clone(), moved.clone(), share.clone()))
        if got.shape != (3,):
            yield Case("three numbers", False, f"{name}: shape {tuple(got.shape)}, wanted (3,)")
            return
        got = got.double()
        even = 1.5 * (share[:, None] * torch.linalg.cross(rays, moved)).sum(0) / share.sum()
        wrong = float((got - wanted).norm() / wanted.norm())
        hint = ""
        if torch.allclose(got, -wanted, atol=2e-5):
            hint = " (the other way round)"
        elif torch.allclose(got, even, atol=1e-6):
            hint = " (3/2 of the mean is for a whole sphere of even weight)"
        yield Case(
            "the turn that was made, to 1 %",
            wrong < 0.01,
            f"{name}: you gave {_three(got)}, wanted {_three(wanted)}{hint}",
        )


def _least_squares(rays: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """Of ``omega x ray = moved - ray``, row by row, not through the normal equations."""
    across = -torch.linalg.cross(rays[:, :, None], torch.eye(3, dtype=rays.dtype)[None], dim=1)
    root = weight.sqrt()[:, None]
    rows, steps = (root[..., None] * across).reshape(-1, 3), (root * (moved - rays)).reshape(-1, 1)
    return torch.linalg.lstsq(rows, steps).solution[:, 0]


def _three(vector: Tensor) -> str:
    return "(" + ", ".join(f"{v:.5f}" for v in vector.tolist()) + ")"


def followed(
    lon: float, lat: float, degrees: float, H: int = 24, W: int = 48, radius: float = 14.0
) -> tuple[Tensor, Tensor]:
    """A disc that goes around the vertical axis, and a map of blobs of 8 degrees that follows it.

    Args:
        lon, lat: where it starts, degrees. degrees: of longitude that it goes on, each frame.
        radius: of the disc, degrees.
    Returns:
        maps ``(1, 4, 1, H, W)`` of mean 1, flow ``(1, 3, 2, H, W)``.
    """
    rays = erp_directions(H, W)
    lons = [math.radians(lon + degrees * t) for t in range(4)]
    at = [lonlat_to_xyz(torch.tensor(a).double(), torch.tensor(math.radians(lat)).double())
          for a in lons]  # fmt: skip
    kappa = math.radians(8) ** -2
    maps = torch.stack([4 * math.pi * von_mises_fisher(rays, place, kappa) for place in at])
    near = torch.stack([rays @ place > math.cos(math.radians(radius)) for place in at[:-1]])
    flow = torch.zeros(3, 2, H, W, dtype=torch.float64)
    flow[:, 0] = near * (degrees * W / 360)
    return maps[None, :, None], flow[None]


@exercise("15.4")
def a_loss_that_stands(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(maps, flow) -> number``: least for the map that follows what moves, at any height."""
    for lon, lat, degrees in ((0, 0, 6.0), (100, 30, -5.0), (170, -40, 7.0)):
        maps, flow = followed(lon, lat, degrees)
        where = f"a thing at longitude {lon}, latitude {lat}"
        other = maps.roll(maps.shape[-1] // 2, -1)
        rivals = {
            "an empty map": torch.full_like(maps, 1e-9),
            "a uniform map": torch.ones_like(maps),
            "the first map, frozen": maps[:, :1].expand_as(maps).clone(),
            "a still map elsewhere": other[:, :1].expand_as(maps).clone(),
            "a map that goes the other way": maps.flip(1),
        }
        best = float(ask(answer, maps.clone(), flow.clone()))
        if not math.isfinite(best):
            yield Case("a finite number", False, f"{where}: the map that follows it costs {best}")
            return
        for name, rival in rivals.items():
            cost = float(ask(answer, rival, flow.clone()))
            yield Case(
                "the map that follows what moves costs least",
                cost > best or (math.isnan(cost) and name == "an empty map"),
                f"{where}: {name} costs {cost:.4g}, the map that follows it {best:.4g}",
            )
        for times in (0.01, 100):
            scaled = float(ask(answer, times * maps, flow.clone()))
            yield Case(
                "the same map, fainter or brighter, is no better",
                scaled > best - 1e-3 * abs(best),
                f"{where}: times {times:g} it costs {scaled:.4g} instead of {best:.4g}",
            )
        learns = other.clone().requires_grad_()
        loss = ask(answer, learns, flow.clone())
        slope = torch.autograd.grad(loss, learns)[0] if getattr(loss, "grad_fn", None) else None
        yield Case(
            "a gradient that is finite and not zero",
            slope is not None and bool(slope.isfinite().all()) and float(slope.abs().max()) > 0,
            f"{where}: a map elsewhere gets no gradient that one could follow",
        )


def planted_smooth(*faults: str) -> Smooth:
    """``(maps (2, H, W), flow (2, H, W)) -> number``: smoothness along the flow, with faults.

    ``"backwards"``: this map is read where flow leads, and compared with the next.
    ``"halved"``: half of the flow. ``"seam"``: reads stop at the left and right edges, zeros
    beyond. ``"pixels"``: all pixels count alike.
    """
    unknown = set(faults) - set(FAULTS)
    if unknown:
        raise ValueError(f"faults: {sorted(unknown)}, wanted some of {', '.join(FAULTS)}")

    def smooth(maps: Tensor, flow: Tensor) -> Tensor:
        pair, moves = maps.double(), flow.double() * (0.5 if "halved" in faults else 1.0)
        now, following = pair.flip(0) if "backwards" in faults else pair
        H, W = pair.shape[-2:]
        share = pixel_area(H, W)[:, None].expand(H, W)
        share = torch.ones_like(share) if "pixels" in faults else share
        return (
            share / share.sum() * (_read(following, moves, "seam" not in faults) - now) ** 2
        ).sum()

    return smooth


def _read(image: Tensor, flow: Tensor, wraps: bool) -> Tensor:
    """Bilinear, rows held at the poles."""
    H, W = image.shape
    row = (torch.arange(H)[:, None] + flow[1]).clamp(0, H - 1)
    col = torch.arange(W) + flow[0]
    col = torch.remainder(col, W) if wraps else col
    wide = F.pad(image[None, None], (1, 1, 0, 0), mode="circular" if wraps else "constant")
    x, y = (col + 1) / (W + 1) * 2 - 1, row / (H - 1) * 2 - 1
    grid = torch.stack((x, y), -1)[None]
    return F.grid_sample(wide, grid, padding_mode="zeros", align_corners=True)[0, 0]


@exercise("15.5")
def faults_of_a_loss(answer: Callable[..., Any]) -> Iterator[Case]:
    """``smooth -> set`` of the faults that were planted in it."""
    yield from name_faults(answer, FAULTS, planted_smooth)


def package_smooth(maps: Tensor, flow: Tensor) -> Tensor:
    """:func:`sal360.losses.temporal_smoothness` in the form of exercise 15.5."""
    return temporal_smoothness(maps[None, :, None].double(), flow[None, None].double())


def turning(turn: Tensor, H: int, W: int) -> Tensor:
    """``(2, H, W)`` exact flow of a world that turns by a rotation matrix, pixels."""
    row, col = erp_pixel(erp_directions(H, W) @ turn.T, H, W)
    down = row - torch.arange(H)[:, None]
    right = torch.remainder(col - torch.arange(W) + W / 2, W) - W / 2
    return torch.stack((right, down))
