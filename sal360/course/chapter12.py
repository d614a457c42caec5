"""Chapter 12: exercises on AUC, intervals by video, a paired test, a prior, a broken divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.evaluation.statistics import sign_flip
from sal360.sphere import erp_directions, lonlat_to_xyz, pixel_area, von_mises_fisher

FAULTS = ("pixels", "swapped", "floor", "stretched")
TINY = 2.2e-16
"""What published code adds to shares so that no logarithm is infinite."""
Score = Callable[[Tensor, Tensor], float]


def _pairs(values: Tensor, area: Tensor, fixated: Tensor, tie: float = 0.5) -> float:
    wins = (fixated[:, None] > values).double() + tie * (fixated[:, None] == values).double()
    return float(wins.mean(0) @ (area / area.sum()))


@exercise("12.1")
def area_under_the_curve(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(values, area, fixated) -> AUC``, ties half, places drawn by area."""
    draw = torch.Generator().manual_seed(121)
    noise = torch.rand(60, generator=draw, dtype=torch.float64)
    sizes = torch.rand(60, generator=draw, dtype=torch.float64) + 0.1
    some = noise[torch.randint(60, (9,), generator=draw)]
    steps, tied = torch.floor(4 * noise), torch.floor(4 * some)
    cases = [
        ("two places, the higher looked at", [1.0, 2.0], [1.0, 1.0], [2.0]),
        ("two places, the lower looked at", [1.0, 2.0], [1.0, 1.0], [1.0]),
        ("a flat map", [3.0, 3.0, 3.0], [1.0, 1.0, 1.0], [3.0, 3.0]),
        ("a large low place and a small high one", [0.0, 5.0], [4.0, 1.0], [5.0]),
        ("values below 0", [-3.0, -1.0, -2.0], [1.0, 1.0, 1.0], [-1.0, -2.0]),
        ("60 places, all different", noise, sizes, some),
        ("60 places in 4 steps", steps, sizes, tied),
    ]
    for name, *given in cases:
        values, area, fixated = (torch.as_tensor(v, dtype=torch.float64) for v in given)
        wanted = _pairs(values, area, fixated)
        got = float(ask(answer, values.clone(), area.clone(), fixated.clone()))
        slips = {
            "ties are lost": _pairs(values, area, fixated, 0),
            "ties are won": _pairs(values, area, fixated, 1),
            "places count alike, whatever their area": _pairs(
                values, torch.ones_like(area), fixated
            ),
        }
        hints = [text for text, slip in slips.items() if math.isclose(got, slip, abs_tol=1e-6)]
        told = f" ({hints[0]})" if hints else ""
        yield Case(
            "the chance that a fixation beats a place, a tie counting half",
            abs(got - wanted) < 1e-6,
            f"{name}: you gave {got:.4f}, wanted {wanted:.4f}{told}",
        )


@exercise("12.2")
def standard_error(answer: Callable[..., Any]) -> Iterator[Case]:
    """``scores -> (mean, error)``: each video counts once, however many frames it has."""
    draw = torch.Generator().manual_seed(122)
    many = []
    for n in torch.randint(2, 90, (12,), generator=draw).tolist():
        common, own = torch.randn(1, generator=draw), torch.randn(n, generator=draw)
        many.append((common + 0.1 * own).tolist())
    cases = [
        ("two videos of one frame", [[0.0], [2.0]]),
        ("every frame three times", [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]),
        ("one video is long", [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [4.0, 4.0], [4.0]]),
        ("frames that differ", [[0.0, 1.0], [3.0, 5.0, 4.0], [2.0]]),
        ("12 videos", many),
    ]
    for name, videos in cases:
        scores = [torch.as_tensor(v, dtype=torch.float64) for v in videos]
        means = torch.stack([v.mean() for v in scores])
        every = torch.cat(scores)
        wanted = float(means.mean()), float(means.std()) / math.sqrt(len(means))
        reply = ask(answer, [v.clone() for v in scores])
        try:
            mean, error = reply
        except (TypeError, ValueError):
            yield Case("an answer of two numbers", False,
                       f"{name}: you gave {reply}, return two numbers, mean and error")  # fmt: skip
            return
        got = float(mean), float(error)
        hint = " (that is the mean of all frames)" if _near(got[0], float(every.mean())) else ""
        yield Case("the mean of the videos' means", _near(got[0], wanted[0]),
                   f"{name}: you gave {got[0]:.4f}, wanted {wanted[0]:.4f}{hint}")  # fmt: skip
        slips = {
            "frames are no independent trials": float(every.std()) / math.sqrt(len(every)),
            "that is the deviation of one video": float(means.std()),
            "divide the squares by V - 1": wanted[1] * math.sqrt(1 - 1 / len(means)),
        }
        hints = [text for text, slip in slips.items() if _near(got[1], slip)]
        told = f" ({hints[0]})" if hints else ""
        yield Case(
            "its standard error, over videos",
            _near(got[1], wanted[1]),
            f"{name}: you gave {got[1]:.4f}, wanted {wanted[1]:.4f}{told}",
        )


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


@exercise("12.3")
def paired_test(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(a, b) -> p``: share of all sign flips with a sum at least as far from 0."""
    draw = torch.Generator().manual_seed(123)
    base = torch.rand(9, generator=draw).double()
    gain = 0.02 + 0.02 * torch.randn(9, generator=draw).double()
    cases = [
        ("one video", [1.0], [0.5]),
        ("two videos, both better", [0.75, 0.5], [0.5, 0.25]),
        ("two videos, one better, one worse", [0.75, 0.25], [0.5, 0.5]),
        ("three videos, all worse", [0.25, 0.5, 0.0], [0.5, 0.625, 0.75]),
        ("no difference at all", [0.5, 0.25, 0.75], [0.5, 0.25, 0.75]),
        ("three videos, scores in tenths", [0.8, 0.4, 0.8], [0.9, 0.3, 0.6]),
        ("9 videos, a small gain in each", base + gain, base),
    ]
    for name, *given in cases:
        a, b = (torch.as_tensor(v, dtype=torch.float64) for v in given)
        wanted = sign_flip(a - b)[0]
        got = float(ask(answer, a.clone(), b.clone()))
        sums, ways = _flips(a - b), 2 ** len(a)
        beyond = float(
            (sums.abs() > (a - b).sum().abs() + 1e-12 * (a - b).abs().sum()).double().mean()
        )
        slips = {
            "that is one side only": float(sums.ge(_floor(a - b)).double().mean()),
            "the observed flip counts": (wanted * ways - 1) / ways,
            "the observed flip counts: at least as far, not farther": beyond,
        }
        hints = [text for text, slip in slips.items() if _near(got, slip)]
        if not hints and _near(got * ways, round(got * ways)) and beyond < got < wanted:
            hints = ["equal sums may differ by a rounding"]
        elif not hints and not _near(got * ways, round(got * ways)) and abs(got - wanted) < 0.1:
            hints = ["count all, do not draw"]
        told = f" ({hints[0]})" if hints else ""
        yield Case(
            "the share of flips that are at least as far from 0 as the observed one",
            abs(got - wanted) < 1e-6,
            f"{name}: you gave {got:.4f}, wanted {wanted:.4f}{told}",
        )


def _flips(d: Tensor) -> Tensor:
    """Sums of ``d`` under all ``2^V`` signs."""
    sums = torch.zeros(1, dtype=torch.float64)
    for value in d:
        sums = torch.cat((sums + value, sums - value))
    return sums


def _floor(d: Tensor) -> float:
    return float(d.sum() - 1e-12 * d.abs().sum())


def band_likelihoods(lat: Tensor, widths: list[float]) -> Tensor:
    """Mean log density per steradian of latitudes under Gaussian bands (widths in degrees)."""
    fine = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * math.pi - math.pi / 2
    area = 2 * math.pi * torch.cos(fine) * (math.pi / 20_000)
    found = []
    for width in widths:
        sigma = math.radians(width)
        mass = (torch.exp(-0.5 * (fine / sigma) ** 2) * area).sum()
        found.append((-0.5 * (lat / sigma) ** 2).mean() - torch.log(mass))
    return torch.stack(found)


@exercise("12.4")
def width_of_the_band(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(lat, widths) -> `` the width of the equator band under which latitudes are likeliest."""
    widths = [5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 70.0, 120.0]
    for name, sine, seed in (
        ("all at 10 degrees", None, 0),
        ("500 latitudes near the equator", 0.25, 1),
        ("500 latitudes, wide", 0.6, 2),
        ("5000 even on the sphere", 1.0, 3),
    ):
        draw = torch.Generator().manual_seed(seed)
        if sine is None:
            lat = torch.full((4,), math.radians(10), dtype=torch.float64)
        else:
            n = 5000 if sine == 1 else 500
            lat = torch.asin(sine * (2 * torch.rand(n, generator=draw, dtype=torch.float64) - 1))
        found = band_likelihoods(lat, widths)
        wanted, got = widths[int(found.argmax())], float(ask(answer, lat.clone(), list(widths)))
        hint = ""
        if got != wanted:
            flat = torch.stack([(-0.5 * (lat / math.radians(w)) ** 2).mean() - math.log(w)
                                for w in widths])  # fmt: skip
            if got == widths[-1]:
                hint = " (is the mass of every band 1?)"
            elif got == widths[int(flat.argmax())]:
                hint = " (a band's mass is an integral over area, not over latitude)"
        yield Case(
            "the width under which these latitudes are likeliest",
            got == wanted,
            f"{name}: you gave {got:g}, wanted {wanted:g}{hint}",
        )


def planted_kld(*faults: str) -> Score:
    """A program ``(pred, truth) -> float`` that should compute KL(truth || pred) by area.

    Args:
        faults: of ``"pixels"`` (pixels count alike), ``"swapped"`` (KL(pred || truth)),
            ``"floor"`` (2.2e-16 is added to shares, so nothing is infinite), ``"stretched"``
            (the minimum of each map is taken off first). None: the program is right.
    """
    if unknown := set(faults) - set(FAULTS):
        raise ValueError(f"faults: {sorted(unknown)}, wanted some of {FAULTS}")

    def shares(value: Tensor) -> Tensor:
        value = torch.as_tensor(value).double()
        low = value.min()
        if "stretched" in faults and bool(value.max() > low):
            value = value - low
        if "pixels" not in faults:
            value = value * pixel_area(*value.shape)[:, None]
        return value / value.sum()

    def score(pred: Tensor, truth: Tensor) -> float:
        P, Q = shares(pred), shares(truth)
        if "swapped" in faults:
            P, Q = Q, P
        if "floor" in faults:
            return float((Q * torch.log(TINY + Q / (P + TINY))).sum())
        return float((torch.special.xlogy(Q, Q) - torch.special.xlogy(Q, P)).sum())

    return score


@exercise("12.5")
def which_faults(answer: Callable[..., Any]) -> Iterator[Case]:
    """``score -> set`` of the faults that a program for KL(truth || pred) has."""
    planted: list[tuple[str, ...]] = [(), *((fault,) for fault in FAULTS)]
    for count in range(2, len(FAULTS) + 1):
        planted += combinations(FAULTS, count)
    for faults in planted:
        got = set(ask(answer, planted_kld(*faults)))
        yield Case("names of faults", got <= set(FAULTS), f"{got}, wanted some of {FAULTS}")
        name = ", ".join(faults) or "no fault at all"
        yield Case("a right program is not blamed", not got - set(faults),
                   f"planted: {name}; you blame {sorted(got - set(faults))}")  # fmt: skip
        yield Case("every planted fault is found", not set(faults) - got,
                   f"planted: {name}; you missed {sorted(set(faults) - got)}")  # fmt: skip


def blob(lon: float, lat: float, sigma: float, H: int, W: int) -> Tensor:
    """Von Mises-Fisher density ``(H, W)`` around a place; all angles in degrees."""
    at = lonlat_to_xyz(*(torch.tensor(math.radians(v), dtype=torch.float64) for v in (lon, lat)))
    return von_mises_fisher(erp_directions(H, W), at, math.radians(sigma) ** -2)


def drawn_fixations(density: Tensor, n: int, seed: int) -> Tensor:
    """Fixations ``(n, 2)`` lon, lat drawn from a density ``(H, W)``, even within each pixel."""
    H, W = density.shape
    draw = torch.Generator().manual_seed(seed)
    mass = (density.double() * pixel_area(H, W)[:, None]).flatten()
    pixel = torch.multinomial(mass, n, replacement=True, generator=draw)
    u = torch.rand(2, n, generator=draw, dtype=torch.float64)
    lon = ((pixel % W + u[0]) / W - 0.5) * (2 * math.pi)
    row = pixel // W
    top, bottom = torch.sin((0.5 - torch.stack((row, row + 1)) / H) * math.pi)
    return torch.stack((lon, torch.asin(bottom + u[1] * (top - bottom))), -1)
