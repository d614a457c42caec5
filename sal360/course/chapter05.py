"""Exercises of chapter 05: kernels that are carried, a ring from one entry, rows that go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sal360.course.checking import Case, ask, exercise
from sal360.patterns import Pattern, tangent_pattern
from sal360.sphere import (
    angle_between,
    bearing,
    erp_directions,
    geodesic_circle,
    lonlat_to_xyz,
    rotation_matrix,
)


@exercise("05.1")
def reach(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(k, d, H, W) -> degrees`` of a tangent kernel's corner."""
    for k, d, H, W in ((1, 1, 8, 16), (3, 4, 64, 128), (3, 1, 64, 128), (5, 3, 64, 128),
                       (3, 1, 240, 320), (7, 2, 64, 64)):  # fmt: skip
        got = float(ask(answer, k, d, H, W))
        pattern = tangent_pattern(H, W, k, d)
        taps = pattern.directions(0).reshape(-1, 3)
        wanted = math.degrees(angle_between(taps[0], taps[pattern.taps // 2]))
        radians = k > 1 and math.isclose(math.degrees(got), wanted, rel_tol=1e-3)
        hint = " (did you give radians?)" if radians else ""
        yield Case(
            "the angle from the centre to the corner tap",
            abs(got - wanted) < 1e-4,
            f"k {k}, dilation {d}, {H} x {W}: you gave {got:.4f}, wanted {wanted:.4f}{hint}",
        )


def _compass(lat: float, tap: torch.Tensor) -> str:
    if not float(tap.norm()) > 0:
        return "nowhere"
    turn = math.degrees(bearing(lonlat_to_xyz(0.0, lat), tap)) % 360
    names = ("north", "north-east", "east", "south-east", "south", "south-west", "west")
    return (*names, "north-west")[round(turn / 45) % 8]


@exercise("05.2")
def crown(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(lat, radius, Kt, Kp) -> (Kt, Kp, 3)`` taps of a crown."""
    for lat_deg, radius_deg, Kt, Kp in (
        (0, 45, 2, 4), (0, 30, 4, 8), (60, 30, 4, 8), (-45, 90, 3, 5), (90, 20, 3, 6),
        (-90, 20, 3, 6), (10, 180, 3, 8),
    ):  # fmt: skip
        lat, radius = math.radians(lat_deg), math.radians(radius_deg)
        taps = torch.as_tensor(np.asarray(ask(answer, lat, radius, Kt, Kp), float))
        where = f"latitude {lat_deg}, radius {radius_deg} degrees, {Kt} x {Kp}"
        yield Case("a tap for every circle and bearing", taps.shape == (Kt, Kp, 3),
                   f"{where}: shape {tuple(taps.shape)}, wanted {(Kt, Kp, 3)}")  # fmt: skip
        lengths = taps.norm(dim=-1)
        yield Case(
            "taps are unit vectors",
            bool(((lengths - 1).abs() < 1e-6).all()),
            f"{where}: lengths from {lengths.min():.3f} to {lengths.max():.3f}",
        )
        away = angle_between(taps, lonlat_to_xyz(0.0, lat))
        wanted = (torch.arange(Kt).double() * radius / (Kt - 1))[:, None].expand(Kt, Kp)
        v, u = divmod(int((away - wanted).abs().argmax()), Kp)
        yield Case(
            "circle v lies radius v / (Kt - 1) from the centre",
            bool(torch.allclose(away, wanted, atol=1e-6)),
            f"{where}: tap ({v}, {u}) is {math.degrees(away[v, u]):.2f} degrees from longitude 0, "
            f"latitude {lat_deg}, wanted {math.degrees(wanted[v, u]):.2f}",
        )
        east, north = lonlat_to_xyz(math.pi / 2, 0.0), lonlat_to_xyz(0.0, lat + math.pi / 2)
        wanted_south = -torch.sign((taps[1] @ north)[0]) > 0
        quarter = taps[1, round(Kp / 4)]
        yield Case(
            "u = 0 is south",
            bool(wanted_south and abs(float(taps[1, 0] @ east)) < 1e-6),
            f"{where}: tap (1, 0) is {_compass(lat, taps[1, 0])} of the centre (y points down)",
        )
        yield Case(
            "then east",
            bool(quarter @ east > 0),
            f"{where}: tap (1, {round(Kp / 4)}) is in the west: mirrored?",
        )
        tilt = rotation_matrix(0.0, lat)
        turn = torch.arange(Kp).double() * 2 * math.pi / Kp
        flat = torch.stack((torch.sin(turn), torch.cos(turn), torch.zeros(Kp).double()), -1)
        ring = torch.sin(wanted)[..., None] * flat
        right = (ring + torch.cos(wanted)[..., None] * torch.tensor([0.0, 0, 1])) @ tilt.T
        off = angle_between(taps, right)
        v, u = divmod(int(off.argmax()), Kp)
        yield Case(
            "the bearings are even",
            bool(off.max() < 1e-6),
            f"{where}: tap ({v}, {u}) is {math.degrees(off[v, u]):.1f} degrees from its place",
        )


@exercise("05.3")
def ring(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(row, col, H, W) -> 8 (row, col)``: S, SE, E, NE, N, NW, W, SW."""
    names = ("S", "SE", "E", "NE", "N", "NW", "W", "SW")
    for H, W in ((8, 16), (24, 24), (30, 60), (240, 480)):
        grid = erp_directions(H, W)
        for row, col in ((H // 2, W // 2), (H // 2, 0), (3, W - 1), (1, 0), (0, 0), (H - 1, 5)):
            got = [(int(r), int(c)) for r, c in ask(answer, row, col, H, W)]
            where = f"pixel ({row}, {col}) of {H} x {W}"
            yield Case("eight neighbours", len(got) == 8, f"{where}: {len(got)} of them")
            inside = all(0 <= r < H and 0 <= c < W for r, c in got)
            swapped = all(0 <= c < H and 0 <= r < W for r, c in got)
            hint = " (did you give (col, row)?)" if swapped else ""
            yield Case("inside the image, over seam and pole", inside, f"{where}: {got}{hint}")
            circle = geodesic_circle(grid[row, col], math.pi / H, 8)
            for name, (r, c), k in zip(names, got, (4, 3, 2, 1, 0, 7, 6, 5), strict=True):
                away = angle_between(grid[r, c], circle[k])
                best = angle_between(grid, circle[k]).min()
                yield Case(
                    "the pixel nearest to the point of the ring",
                    bool(away <= best + 0.3 * math.pi / H),
                    f"{where}, {name}: ({r}, {c}) is {math.degrees(away):.2f} degrees from the "
                    f"ring's point, the nearest pixel {math.degrees(best):.2f}",
                )


@exercise("05.4")
def half_width(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(centre, theta, radius) -> radians`` of longitude inside the crown."""

    def where(centre: float, theta: float, radius: float) -> str:
        c, t, r = (math.degrees(v) for v in (centre, theta, radius))
        return f"centre {c:.2f}, line {t:.2f}, radius {r:.2f} degrees"

    half = math.pi / 2
    for centre, theta, radius in (
        (half, half, 0.3), (half, half + 0.2, 0.3), (half, half + 0.4, 0.3), (1.0, 0.9, 0.25),
        (0.2, 0.1, 0.5), (0.2, 0.5, 0.5), (math.pi - 0.2, math.pi - 0.1, 0.5), (0.0, 0.3, 0.5),
        (0.0, 0.6, 0.5), (0.2, 0.0, 0.5), (math.pi, math.pi - 0.2, 0.5), (half, 1.2, math.pi),
    ):  # fmt: skip
        got = float(ask(answer, centre, theta, radius))
        if abs(theta - centre) >= radius:
            kind, wanted = "nothing outside the crown", 0.0
        elif min(theta + centre, 2 * math.pi - theta - centre) <= radius:
            kind, wanted = "the whole circle where it lies inside", math.pi
        else:
            kind = "the longitude at which the line leaves the crown"
            far = math.cos(radius) - math.cos(centre) * math.cos(theta)
            wanted = math.acos(far / (math.sin(centre) * math.sin(theta)))
        yield Case(
            kind,
            abs(got - wanted) < 1e-6,
            f"{where(centre, theta, radius)}: you gave {got:.4f}, wanted {wanted:.4f}",
        )
    for H, part in ((128, 32), (128, 16), (240, 60), (256, 64)):
        radius = math.pi / part
        for t in range(H // part + 1, H - H // part):
            for centre in (t / (H / math.pi), t * math.pi / H):
                for theta in (centre - radius, centre + radius):
                    got = float(ask(answer, centre, theta, radius))
                    yield Case(
                        "a line that touches the rim gets a sliver at most",
                        0 <= got < 0.02,  # in single precision up to 0.013
                        f"row {t} of {H}, {where(centre, theta, radius)}: you gave {got:.4f}",
                    )


def mystery_pattern(H: int, W: int) -> Pattern:
    """A pattern whose author lost the code; exercise 05.5 asks what it is."""
    made = tangent_pattern(H, W, 3, 2).shifted(2 * math.pi / W)
    return replace(made, name="mystery")


@exercise("05.5")
def which_kernel(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W) -> Pattern`` with the taps of the mystery."""
    for H, W in ((32, 64), (15, 40), (64, 64)):
        got = ask(answer, H, W)
        yield Case("a Pattern", isinstance(got, Pattern), f"it gave {type(got).__name__}")
        own = not got.name.startswith("mystery")
        yield Case("made by you", own, f"{H} x {W}: you handed the mystery back")
        mystery = mystery_pattern(H, W)
        yield Case("the same kernel shape", got.shape == mystery.shape,
                   f"{got.shape}, wanted {mystery.shape}")  # fmt: skip
        off = torch.rad2deg(got.separation(mystery))
        row, tap = divmod(int(off.argmax()), mystery.taps)
        turn = torch.remainder(got.lon - mystery.lon + math.pi, 2 * math.pi) - math.pi
        turned = bool((turn - turn[0, 0]).abs().max() < 1e-6 and off.max() > 1e-4)
        hint = ": the right kernel, turned in longitude" if turned else ""
        yield Case(
            "every tap where the mystery has it",
            bool(off.max() < 1e-4),
            f"{H} x {W}: tap {tap} of row {row} is {off.max():.2f} degrees away{hint}",
        )
