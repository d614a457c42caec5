"""Exercises of chapter 02: what a pixel weighs, and points that weigh alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import Tensor

from sal360 import sphere
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
                f"wanted {float(exact[row]):.6g} steradians{_which_rule(got[row], row, H, W)}",
            )
        total = W * math.fsum(got)
        yield Case(
            "all pixels together are the sphere, 4 pi",
            math.isclose(total, 4 * math.pi, rel_tol=1e-7),
            f"{H} x {W}: they sum to {total:.6g}, wanted {4 * math.pi:.6g}",
        )


def _which_rule(got: float, row: int, H: int, W: int) -> str:
    """What a wrong area of a pixel looks like, if it is one of the usual ones."""
    step, exact = math.pi / H, float(pixel_area(H, W)[row])
    unit = 2 * math.pi / W * step
    guesses = {
        "the midpoint rule: the height of the row times the cosine of its middle": unit
        * math.sin((row + 0.5) * step),
        "the corner rule: the row is weighed by its upper edge": unit * math.sin(row * step),
        "the trapezoid, which is a little too small in every row": unit
        * (math.sin(row * step) + math.sin((row + 1) * step))
        / 2,
        "the difference of the sines alone: 2 pi / W is missing": exact * W / (2 * math.pi),
        "the whole row: W pixels share it": exact * W,
        "negative: north is up, so the upper edge comes first": -exact,
    }
    near = [name for name, value in guesses.items() if math.isclose(got, value, rel_tol=1e-9,
                                                                    abs_tol=1e-15)]  # fmt: skip
    if not near and abs(got / exact - 1) < 2e-3:
        return ". Differences of near equals want double precision"
    return f". That is {near[0]}" if near else ""


@exercise("02.2")
def latitude_beyond_which(answer: Callable[..., Any]) -> Iterator[Case]:
    """``share -> `` degrees; beyond them, north and south together, lies that share."""
    for share in (1.0, 0.5, 0.0, 0.1, 0.9, 0.01, 0.134, 1 / 3):
        got = float(ask(answer, share))
        wanted = math.degrees(math.asin(1 - share))
        usual = {
            "It counts rows, which are not equal": 90 * (1 - share),
            "It is in radians": math.radians(wanted),
            "It puts the share into the northern cap alone": math.degrees(math.asin(1 - 2 * share)),
            "It puts the share between the two latitudes": math.degrees(math.asin(share)),
        }
        near = [name for name, value in usual.items() if math.isclose(got, value, abs_tol=1e-6)]
        yield Case(
            "beyond the latitude lies the share",
            math.isclose(got, wanted, abs_tol=1e-3),
            f"a share of {share:.3g}: you gave {got:.6g}, wanted {wanted:.6g} degrees"
            + (f". {near[0]}" if near else ""),
        )


@exercise("02.3")
def mean_of_a_map(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W) map -> `` its mean over the sphere."""
    for H, W in _SIZES[:-1]:
        got = float(ask(answer, torch.full((H, W), 2.0, dtype=torch.float64)))
        yield Case(
            "the mean of a constant is the constant",
            math.isclose(got, 2.0, rel_tol=1e-5),
            f"a map of 2 everywhere, {H} x {W}: you gave {got:.6g}, wanted 2",
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
        centre = torch.where(centre.abs() < 1e-15, 0.0, centre)  # the poles themselves
        radius = math.radians(radius_deg)
        generator = torch.Generator().manual_seed(radius_deg + lon)
        points = torch.as_tensor(ask(answer, centre.clone(), radius, n, generator))
        where = f"radius {radius_deg} degrees around lon {lon}, lat {lat}"
        yield Case("n points, each (x, y, z)", points.shape == (n, 3),
                   f"{where}: shape {tuple(points.shape)}, wanted ({n}, 3)")  # fmt: skip
        points = points.to(torch.float64)
        lost = int((~points.isfinite()).any(-1).sum())
        yield Case(
            "every number is finite",
            lost == 0,
            f"{where}: {lost} points have a NaN. A cross product with a helper axis parallel to "
            f"the centre has length 0",
        )
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

    centre, draws = lonlat_to_xyz(0.3, 0.2), []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        draws.append(torch.as_tensor(ask(answer, centre.clone(), 1.0, 5, generator)))
    yield Case(
        "the same seed gives the same points",
        torch.equal(draws[0], draws[1]),
        "seed 1 twice gave two sets: not all of your numbers come from the generator",
    )
    yield Case(
        "another seed gives other points",
        not torch.equal(draws[0], draws[2]),
        "seeds 1 and 2 gave the same points: draw with the generator you are given",
    )


def mystery_area(H: int, W: int) -> Tensor:
    """Steradians of a pixel in each row, from a program that has a mistake: ``(H,)`` float64.

    A block of rows is upside down. The sum over the map is ``4 pi`` for every size.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    return _flipped(H, W, H // 6, H // 6 + (max(3, H // 8) | 1))


def _trapezoid(H: int) -> Tensor:
    edge = torch.sin(torch.arange(H + 1, dtype=torch.float64) * (math.pi / H))
    return edge[:-1] + edge[1:]


def _flipped(H: int, W: int, start: int, stop: int) -> Tensor:
    """A scaled trapezoid with the rows from start to stop in reverse order."""
    weight = _trapezoid(H)
    weight *= 4 * math.pi / W / weight.sum()
    weight[start:stop] = weight[start:stop].flip(0)
    return weight


def _weightings() -> Iterator[tuple[str, Tensor, bool]]:
    """Name, ``(H, W)`` weights, and whether they are wrong for a mean."""
    for H, W in ((64, 128), (45, 90)):
        exact, step = pixel_area(H, W), math.pi / H
        edge = torch.arange(H + 1, dtype=torch.float64) * step
        corner = 2 * math.pi / W * step * torch.sin(edge[:-1])
        bent = torch.cos(edge).abs()
        rows = {
            "exact": (exact, False),
            "corner": (corner, True),
            "abs sin": (math.pi / W * step * (bent[:-1] + bent[1:]), True),
            "trapezoid, scaled to 4 pi": (_flipped(H, W, 0, 0), False),
            "midpoint, as cos(lat)": (exact / exact.max(), False),
            "mystery": (mystery_area(H, W), True),
            "one vote per pixel": (torch.ones_like(exact), True),
        }
        for name, (weight, wrong) in rows.items():
            yield f"{name}, {H} x {W}", weight[:, None].expand(H, W), wrong
            if name == "corner":
                swapped = pixel_area(W, H)[None].expand(H, W)
                yield f"H and W swapped, {H} x {W}", swapped, True
    for seed in range(4):
        generator = torch.Generator().manual_seed(1000 + seed)
        H, W = 48 + 8 * seed, 96 + 16 * seed
        a, b = torch.randint(0, H // 12, (2,), generator=generator).tolist()
        start, tall = H // 10 + a, H // 7 + b
        start = H - start - tall if seed % 2 else start
        block = _flipped(H, W, start, start + tall)[:, None].expand(H, W)
        where = f"rows {start} to {start + tall - 1} upside down, total 4 pi, {H} x {W}"
        yield where, block.clone(), True
        factor = 0.1 + 10 * float(torch.rand((), generator=generator))
        scaled = factor * pixel_area(H, W)[:, None].expand(H, W)
        yield f"exact, times {factor:.2f}, {H} x {W}", scaled, False


def _no_areas(*sizes: int) -> NoReturn:
    raise RuntimeError("pixel_area is out of reach here: find out without the right areas")


@exercise("02.5")
def detector_of_wrong_weights(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W) weights -> `` whether they are wrong for a mean, without the right areas."""
    for name, weights, wrong in _weightings():
        with mock.patch.object(sphere, "pixel_area", _no_areas):
            found = bool(ask(answer, weights.clone()))
        if wrong:
            yield Case("wrong weights are caught", found, f"{name}: you found nothing wrong")
        else:
            yield Case("right weights pass, whatever their common factor", not found,
                       f"{name}: right for a mean, and you call them wrong")  # fmt: skip
