"""Exercises of chapter 09: intervals, seeds, an ablation, a null result, an unfair comparison; and
where the spots of its scenes are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from sal360.course.checking import Case, ask, exercise
from sal360.experiments.summary import Interval, interval, paired, student, unpaired
from sal360.experiments.task import Scenes
from sal360.sphere import xyz_to_lonlat

FACTORS = {
    "planar": {"grid": "panorama", "kernel": "3 x 3 pixels", "padding": "zeros"},
    "wrapped": {"grid": "panorama", "kernel": "3 x 3 pixels", "padding": "neighbours"},
    "tangent": {"grid": "panorama", "kernel": "tangent", "padding": "neighbours"},
    "ring": {"grid": "panorama", "kernel": "ring", "padding": "neighbours"},
    "crown": {"grid": "panorama", "kernel": "crown", "padding": "neighbours"},
    "cube": {"grid": "cube", "kernel": "3 x 3 pixels", "padding": "neighbours"},
    "cube, zeros": {"grid": "cube", "kernel": "3 x 3 pixels", "padding": "zeros"},
}
"""What each kind of network is made of."""
TRAININGS, BUDGETS = ("equator", "everywhere"), ("steps", "time")


def spots(scenes: Scenes, scene: int = 0) -> list[tuple[float, float, bool]]:
    """Longitude and latitude in degrees of one scene's spots, and whether each is a round one."""
    lon, lat = (torch.rad2deg(angle).tolist() for angle in xyz_to_lonlat(scenes.centre[scene]))
    return list(zip(lon, lat, scenes.target[scene].tolist(), strict=True))


@exercise("09.1")
def paired_interval(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(a, b) -> (mean, half)`` of ``a - b``, seed by seed, 95 %."""
    rng = np.random.default_rng(9)
    shared = rng.normal(0.7, 0.1, 8)
    noisy = np.round(rng.normal(0, 0.01, (2, 8)), 3)
    cases = [
        ([2.0, 4.0], [1.0, 1.0]),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]),
        ([0.9, 0.7, 0.8, 0.6], [0.85, 0.7, 0.72, 0.58]),
        ((shared + noisy[0] + 0.02).tolist(), (shared + noisy[1]).tolist()),
        ((shared + noisy[1]).tolist(), (shared + noisy[0] + 0.02).tolist()),
    ]
    for a, b in cases:
        given = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
        mean, half = (float(v) for v in ask(answer, *given))
        wanted, where = paired(a, b), f"a = {_short(a)}, b = {_short(b)}"
        yield Case(
            "the mean of a - b",
            abs(mean - wanted.mean) < 1e-6,
            f"{where}: you gave {mean:.4f}, wanted {wanted.mean:.4f}",
        )
        n = len(a)
        deviation = float(np.std(np.subtract(a, b), ddof=1))
        apart = float(np.hypot(np.std(a, ddof=1), np.std(b, ddof=1)))
        other = "that is the unpaired one: what a seed does to both cancels"
        slips = [
            ("1.96 holds for many seeds", 1.96 * deviation / math.sqrt(n)),
            ("divide the squares by n - 1", wanted.half * math.sqrt((n - 1) / n)),
            ("that is of one seed, not of the mean", wanted.half * math.sqrt(n)),
            (other, unpaired(a, b).half),
            (other, student(n - 1) * apart / math.sqrt(n)),
        ]
        hints = [t for t, slip in slips if slip and math.isclose(half, slip, rel_tol=1e-3)]
        right = math.isclose(half, wanted.half, rel_tol=1e-3, abs_tol=1e-9)
        told = f" ({hints[0]})" if hints else ""
        yield Case(
            "half of Student's interval for the differences",
            right,
            f"{where}: you gave {half:.4f}, wanted {wanted.half:.4f}{told}",
        )


@exercise("09.2")
def seeds_needed(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(deviation, effect) -> n``: least seeds whose half interval is at most the effect."""
    for deviation, effect in ((0.01, 0.1), (0.01, 0.02), (0.02, 0.02), (0.03, 0.02), (0.05, 0.02),
                              (0.05, 0.01)):  # fmt: skip
        given = ask(answer, deviation, effect)
        yield Case("a whole number of seeds", float(given) == int(given), f"you gave {given!r}")
        got = int(given)

        def half(n: int, deviation: float = deviation) -> float:
            return student(n - 1) * deviation / math.sqrt(n)

        wanted = next(n for n in range(2, 10_000) if half(n) <= effect)
        fixed = [max(2, math.ceil((t * deviation / effect) ** 2)) for t in (1.96, student(4))]
        hint = " (Student's factor depends on n)" if got in fixed and got != wanted else ""
        yield Case(
            "half of the interval fits into the effect, and with one seed fewer it does not",
            got == wanted,
            f"deviation {deviation}, effect {effect}: you gave {got}, wanted {wanted}{hint}",
        )


@exercise("09.3")
def ablation(answer: Callable[..., Any]) -> Iterator[Case]:
    """``factor -> two runs`` that differ in this factor and in nothing else."""
    for factor in ("training", "budget", "padding", "kernel", "grid"):
        pair = ask(answer, factor)
        yield Case("two runs", len(pair) == 2, f"{factor}: {len(pair)} of them")
        parts = []
        for run in pair:
            known = (
                isinstance(run, Mapping)
                and run.get("kind") in FACTORS
                and run.get("training") in TRAININGS
                and run.get("budget") in BUDGETS
                and len(run) == 3
            )
            yield Case("a kind, a training and a budget", bool(known), f"{factor}: {run!r}")
            parts.append({**FACTORS[run["kind"]], **{k: run[k] for k in ("training", "budget")}})
        if factor != "budget" and "tangent" in (run["kind"] for run in pair):
            for part in parts:  # the tangent network has as many steps in both races
                part["budget"] = "either"
        yield Case(
            "two runs that are not the same one",
            not (factor == "budget" and pair[0]["kind"] == "tangent"),
            "budget: time is that of the tangent network, so its two runs are one",
        )
        differ = sorted(k for k in parts[0] if parts[0][k] != parts[1][k])
        others = " and ".join(k for k in differ if k != factor)
        told = "nothing differs" if not differ else f"{' and '.join(differ)} differ"
        yield Case(
            "they differ in what is asked about",
            factor in differ,
            f"{factor}: {told} between {pair[0]} and {pair[1]}",
        )
        yield Case(
            "they differ in nothing else",
            not others,
            f"{factor}: {pair[0]['kind']} and {pair[1]['kind']} differ in {others} too",
        )


@exercise("09.4")
def verdict(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(differences, matters) -> "same" | "better" | "worse" | "undecided"``."""
    for differences, matters in (
        ([0.10, 0.12, 0.11, 0.09], 0.02), ([-0.10, -0.12, -0.11, -0.09], 0.02),
        ([0.001, -0.002, 0.000, 0.001, -0.001], 0.02), ([0.08, -0.07, 0.05, -0.02], 0.02),
        ([0.010, 0.011, 0.009, 0.010], 0.02), ([0.03, 0.05], 0.02), ([-0.01, 0.03, 0.02], 0.02),
        ([0.08, -0.07, 0.05, -0.02], 0.5), ([0.020, 0.030, 0.025, 0.027], 0.02),
        ([-0.020, -0.030, -0.025, -0.027], 0.02), *_near_the_edge(),
    ):  # fmt: skip
        got = str(ask(answer, torch.tensor(differences, dtype=torch.float64), matters))
        wanted, found = _verdict(differences, matters)
        where = f"differences {_short(differences)}, {matters:.3g} matters"
        kinds = ("same", "better", "worse", "undecided")
        yield Case("one of the four words", got in kinds, f"{where}: you gave {got!r}")
        hint = ""
        if wanted == "undecided" and got == "same":
            hint = "; too few seeds to tell is not the same as no difference"
        elif wanted == "same":
            hint = "; all of the interval is smaller than what matters"
        yield Case(
            f"{wanted!r} where the interval says so",
            got == wanted,
            f"{where}: from {found.low:+.3f} to {found.high:+.3f} you gave {got!r}, "
            f"wanted {wanted!r}{hint}",
        )


def _near_the_edge() -> Iterator[tuple[list[float], float]]:
    """Differences whose interval just holds 0, or just does not; other ways to make it say other
    words: without the root of n, the normal factor, n degrees of freedom, 90 or 99 %."""
    shape = [-1.2, -0.6, -0.3, 0.0, 0.1, 0.4, 0.6, 1.0]
    for n in (4, 8):
        part = torch.tensor(shape[:n], dtype=torch.float64)
        part = (part - part.mean()) / part.std()
        half = student(n - 1) / math.sqrt(n)
        for ratio in (0.98, 1.02):
            yield (0.01 * (part + ratio * half)).tolist(), 0.001
            yield (0.01 * part).tolist(), 0.01 * half * ratio


def _verdict(differences: list[float], matters: float) -> tuple[str, Interval]:
    found = interval(differences)
    if -matters < found.low and found.high < matters:
        return "same", found
    word = "better" if found.low > 0 else "worse" if found.high < 0 else "undecided"
    return word, found


def submission() -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides of a comparison as an author might describe them; exercise 09.5 referees it."""
    ours = {"parameters": 2845, "rates": [0.06, 0.12, 0.24], "chosen on": "validation",
            "seeds": [0, 1, 2, 3, 4], "reported": "best"}  # fmt: skip
    theirs = {"parameters": 2780, "rates": [0.12], "chosen on": "validation",
              "seeds": [0, 1, 2, 3, 4], "reported": "mean"}  # fmt: skip
    return ours, theirs


@exercise("09.5")
def referee(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(ours, theirs) -> set`` of the entries that make a comparison unfair."""
    fair = {"parameters": 2845, "rates": [0.06, 0.12], "chosen on": "validation",
            "seeds": [0, 1, 2], "reported": "mean"}  # fmt: skip

    def other(**changed: Any) -> dict[str, Any]:
        return {**fair, **{k.replace("_", " "): v for k, v in changed.items()}}

    trials: list[tuple[str, dict[str, Any], dict[str, Any], set[str]]] = [
        ("a fair one passes", fair, fair, set()),
        ("2 % of parameters are allowed", fair, other(parameters=2800), set()),
        ("of the larger, that is", fair, other(parameters=2789), set()),
        ("whichever it is", other(parameters=2789), fair, set()),
        ("a little more is too much", fair, other(parameters=2785), {"parameters"}),
        ("more parameters are not", other(parameters=5690), fair, {"parameters"}),
        ("nor fewer", other(parameters=2700), fair, {"parameters"}),
        ("both sides try as many rates", other(rates=[0.01, 0.1, 1.0]), fair, {"rates"}),
        ("neither more nor fewer", fair, other(rates=[0.01, 0.1, 1.0]), {"rates"}),
        ("other rates will do", other(rates=[0.2, 0.4]), fair, set()),
        ("the same seeds", fair, other(seeds=[0, 1, 3]), {"seeds"}),
        ("all of them", other(seeds=[0, 1]), fair, {"seeds"}),
        ("on both sides", fair, other(seeds=[0, 1]), {"seeds"}),
        ("in any order", fair, other(seeds=[2, 1, 0]), set()),
        ("nothing is chosen on the test", other(chosen_on="test"), fair, {"chosen on"}),
        ("nor by the other side", fair, other(chosen_on="test"), {"chosen on"}),
        ("not even by both sides", other(chosen_on="test"), other(chosen_on="test"), {"chosen on"}),
        ("means, not the best", other(reported="best"), fair, {"reported"}),
        ("on either side", fair, other(reported="best"), {"reported"}),
        ("a median is no mean", fair, other(reported="median"), {"reported"}),
        ("not even on both sides", other(reported="best"), other(reported="best"), {"reported"}),
        ("several faults are all named", *submission(), {"parameters", "rates", "reported"}),
    ]
    for name, ours, theirs, wanted in trials:
        got = set(ask(answer, dict(ours), dict(theirs)))
        missed, invented = sorted(wanted - got), sorted(map(str, got - wanted))
        shown = "; ".join(
            f"{key}: {ours[key]} and {theirs[key]}" for key in (missed + invented) if key in ours
        )
        told = [f"missed {', '.join(missed)}"] if missed else []
        told += [f"found {', '.join(invented)} at fault"] if invented else []
        yield Case(name, got == wanted, f"you {' and '.join(told)} ({shown})")


def _short(values: list[float]) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in values) + "]"
