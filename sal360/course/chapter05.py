"""Exercises of chapter 05: kernels that are carried, a ring from one entry, rows that go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from sal360.course.checking import Case, ask, exercise
from sal360.patterns import Pattern, crown_pattern, tangent_pattern
from sal360.sphere import angle_between, erp_directions, geodesic_circle, lonlat_to_xyz
from sal360.upstream import crown_grid


@exercise("05.1")
def reach(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(k, d, H, W) -> degrees`` of a tangent kernel's corner."""
    for k, d, H, W in ((3, 1, 64, 128), (1, 1, 8, 16), (5, 1, 64, 128), (5, 3, 64, 128),
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
            f"{where}: tap ({v}, {u}) is {math.degrees(away[v, u]):.2f} degrees away, "
            f"wanted {math.degrees(wanted[v, u]):.2f}",
        )
        H = 2  # any panorama: the kernel that stands at this latitude, by one more rotation
        model = crown_pattern(H, 2 * H, (Kt, Kp), radius)
        from sal360.sphere import rotation_matrix

        back = rotation_matrix(0.0, math.pi / 4).T
        right = model.directions(0, H - 0.5) @ back.T @ rotation_matrix(0.0, lat).T
        off = angle_between(taps, right)
        v, u = divmod(int(off.argmax()), Kp)
        yield Case(
            "u = 0 is south, then east",
            bool(off.max() < 1e-6),
            f"{where}: tap ({v}, {u}) is {math.degrees(off[v, u]):.1f} degrees from its place",
        )


@exercise("05.3")
def ring(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(row, col, H, W) -> 8 (row, col)``: S, SE, E, NE, N, NW, W, SW."""
    names = ("S", "SE", "E", "NE", "N", "NW", "W", "SW")
    for H, W in ((8, 16), (30, 60), (240, 480)):
        grid = erp_directions(H, W)
        for row, col in ((H // 2, W // 2), (H // 2, 0), (3, W - 1), (1, 0), (0, 0), (H - 1, 5)):
            got = [(int(r), int(c)) for r, c in ask(answer, row, col, H, W)]
            where = f"pixel ({row}, {col}) of {H} x {W}"
            yield Case("eight neighbours", len(got) == 8, f"{where}: {len(got)} of them")
            inside = all(0 <= r < H and 0 <= c < W for r, c in got)
            yield Case("inside the image, over seam and pole", inside, f"{where}: {got}")
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
def rows_that_go_wrong(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W, radius) -> rows`` that hold no pole and are a whole panorama wide."""
    for H, W, part in ((128, 256, 32), (128, 256, 16), (64, 128, 16), (32, 64, 4), (16, 32, 1)):
        radius = math.pi / part
        got = sorted(int(t) for t in ask(answer, H, W, radius))
        wanted = []
        for t, row in enumerate(crown_grid(H, W, radius)):
            theta = t * math.pi / H
            if radius + 1e-9 < theta < math.pi - radius - 1e-9 and row.grid.shape[1] == W:
                wanted.append(t)
        missed, extra = sorted({*wanted} - {*got}), sorted({*got} - {*wanted})
        yield Case(
            "exactly the rows that blow up",
            got == wanted,
            f"{H} x {W}, pi/{part}: missed {missed}, and {extra} are innocent",
        )


def mystery_pattern(H: int, W: int) -> Pattern:
    """A pattern whose author lost the code; exercise 05.5 asks what it is."""
    made = tangent_pattern(H, W, 3, 2).shifted(2 * math.pi / W)
    return Pattern("mystery", H, W, made.shape, made.lat, made.lon)


@exercise("05.5")
def which_kernel(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W) -> Pattern`` with the taps of the mystery."""
    for H, W in ((32, 64), (15, 40), (64, 64)):
        got = ask(answer, H, W)
        yield Case("a Pattern", isinstance(got, Pattern), f"it gave {type(got).__name__}")
        mystery = mystery_pattern(H, W)
        yield Case("the same kernel shape", got.shape == mystery.shape,
                   f"{got.shape}, wanted {mystery.shape}")  # fmt: skip
        off = torch.rad2deg(got.separation(mystery))
        row, tap = divmod(int(off.argmax()), mystery.taps)
        yield Case(
            "every tap where the mystery has it",
            bool(off.max() < 1e-4),
            f"{H} x {W}: tap {tap} of row {row} is {off.max():.2f} degrees away",
        )
