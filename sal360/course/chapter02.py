"""Exercises of chapter 02: what a pixel weighs, and points that weigh alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from sal360._check import positive_int
from sal360.course.checking import Case, ask, exercise
from sal360.sphere import (
    angle_between,
    erp_directions,
    lonlat_to_xyz,
    pixel_area,
    rotation_matrix,
    von_mises_fisher,
)

_SIZES = ((1, 1), (2, 4), (3, 5), (64, 128), (512, 1024))


@exercise("02.1")
def area_of_a_pixel(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(row, H, W) -> `` steradians of one pixel of that row."""
    for H, W in _SIZES:
        exact = pixel_area(H, W)
        got = [float(ask(answer, row, H, W)) for row in range(H)]
        for row in sorted({0, H // 2, H - 1}):
            yield Case(
                "the area between the two edges of the row, divided by W",
                math.isclose(got[row], float(exact[row]), rel_tol=1e-7),
                f"row {row} of {H} x {W}: you gave {got[row]:.6g}, "
                f"wanted {float(exact[row]):.6g} steradians",
            )
        total = W * math.fsum(got)
        yield Case(
            "all pixels together are the sphere, 4 pi",
            math.isclose(total, 4 * math.pi, rel_tol=1e-7),
            f"{H} x {W}: they sum to {total:.6g}, wanted {4 * math.pi:.6g}",
        )


@exercise("02.2")
def share_of_a_band(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(south, north) -> `` share of the sphere between two latitudes in degrees."""
    bands = ((-90, 90), (0, 90), (30, 90), (-30, 30), (-90, -60), (60, 61), (-10, 50), (7, 7))
    for south, north in bands:
        got = float(ask(answer, south, north))
        up, down = math.sin(math.radians(north)), math.sin(math.radians(south))
        wanted = (up - down) / 2
        yield Case(
            "area grows with the height of the band, not with its angle",
            math.isclose(got, wanted, abs_tol=1e-9),
            f"from {south} to {north} degrees: you gave {got:.6g}, wanted {wanted:.6g}",
        )


@exercise("02.3")
def mean_of_a_map(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W) map -> `` its mean over the sphere."""
    for H, W in _SIZES[:-1]:
        got = float(ask(answer, torch.full((H, W), 2.0, dtype=torch.float64)))
        yield Case(
            "the mean of a constant is the constant",
            math.isclose(got, 2.0, rel_tol=1e-9),
            f"a map of 2 everywhere, {H} x {W}: you gave {got:.6g}",
        )
    wanted = 1 / (4 * math.pi)
    for (H, W), lat in product(((64, 128), (90, 120), (45, 67)), (0, 45, 80, -45, -90)):
        centre = lonlat_to_xyz(math.radians(30), math.radians(lat))
        blob = von_mises_fisher(erp_directions(H, W), centre, 10.0)
        got = float(ask(answer, blob))
        yield Case(
            "the same blob has the same mean wherever it lies and whatever the map's size",
            math.isclose(got, wanted, rel_tol=5e-3),
            f"a density around latitude {lat} degrees, {H} x {W}: you gave {got:.5g}, "
            f"wanted 1 / (4 pi) = {wanted:.5g}",
        )


@exercise("02.4")
def points_in_a_cap(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(centre, radius, n, generator) -> (n, 3)``, uniform over the area of a cap."""
    n = 4000
    places = ((0, 0), (90, 0), (0, 90), (0, -90), (37, -52), (-180, 10))
    for radius_deg, (lon, lat) in product((30, 5, 120, 180), places):
        centre = lonlat_to_xyz(math.radians(lon), math.radians(lat))
        radius = math.radians(radius_deg)
        generator = torch.Generator().manual_seed(radius_deg + lon)
        points = torch.as_tensor(ask(answer, centre.clone(), radius, n, generator))
        where = f"radius {radius_deg} degrees around lon {lon}, lat {lat}"
        yield Case("n points, each (x, y, z)", points.shape == (n, 3),
                   f"{where}: shape {tuple(points.shape)}, wanted ({n}, 3)")  # fmt: skip
        points = points.to(torch.float64)
        length = torch.linalg.vector_norm(points, dim=-1)
        worst = float((length - 1).abs().max())
        yield Case("every point has length 1", worst < 1e-5, f"{where}: off by {worst:.2g}")
        distance = angle_between(points, centre)
        far = math.degrees(float(distance.max()))
        yield Case(
            "no point outside the cap",
            far < radius_deg + 1e-3,
            f"{where}: one is {far:.1f} degrees from the centre",
        )
        for share in (0.5, 0.25, 0.75):
            inner = math.acos(1 - share * (1 - math.cos(radius)))
            got = float((distance < inner).double().mean())
            yield Case(
                "a smaller cap holds as large a share of the points as of the area",
                abs(got - share) < 0.04,
                f"{where}: the inner {math.degrees(inner):.1f} degrees are {share:.0%} of the "
                f"area and hold {got:.0%} of your points",
            )
        local = points @ rotation_matrix(math.radians(lon), math.radians(lat))
        bearing = torch.atan2(local[:, 0], -local[:, 1])
        uneven = max(
            float(wave(k * bearing).mean().abs()) for k in (1, 2) for wave in (torch.cos, torch.sin)
        )
        yield Case(
            "no side of the centre is preferred",
            uneven < 0.08,
            f"{where}: the bearings of your points pile up ({uneven:.2f}, wanted below 0.08)",
        )


def mystery_area(H: int, W: int) -> Tensor:
    """Steradians of a pixel in each row, from a program that has a mistake: ``(H,)`` float64.

    Exercise 02.5 asks in which rows. The sum over the map is ``4 pi`` for every size.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    edge = torch.sin(torch.arange(H + 1, dtype=torch.float64) * (math.pi / H))
    weight = edge[:-1] + edge[1:]
    weight *= 4 * math.pi / W / weight.sum()
    start, stop = _tile(H)
    weight[start:stop] = weight[start:stop].flip(0)
    return weight


def _tile(H: int) -> tuple[int, int]:
    """An odd number of rows, north of the equator, that was written upside down."""
    return H // 6, H // 6 + (max(3, H // 8) | 1)


@exercise("02.5")
def rows_that_are_wrong(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W) -> `` the rows that :func:`mystery_area` weighs wrongly."""
    for H, W in ((12, 24), (45, 90), (240, 480)):
        start, stop = _tile(H)
        wrong = {row for row in range(start, stop) if row != (start + stop - 1) // 2}
        given = ask(answer, H, W)
        rows = {int(row) for row in (given.flatten() if isinstance(given, Tensor) else given)}
        extra, missing = sorted(rows - wrong), sorted(wrong - rows)
        yield Case(
            "only rows whose weight is wrong",
            not extra,
            f"{H} x {W}: row {extra[0] if extra else ''} is right to 12 digits",
        )
        yield Case(
            "all the rows whose weight is wrong",
            not missing,
            f"{H} x {W}: one that you have not named is row {missing[0] if missing else ''}",
        )
