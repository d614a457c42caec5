"""What a record's runs say, and how sure one can be: means over seeds with their intervals.

A seed draws the weights, the training scenes and the trials, so the spread over seeds is the
spread that another laboratory would see. With few seeds the interval is Student's. Two kinds
that ran on the same seeds are compared seed by seed: what a seed does to both cancels.
Chapter 09.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64
from sal360.evaluation.statistics import student
from sal360.experiments.kernels import TIMED_BY
from sal360.experiments.task import BANDS

BAND_NAMES = tuple(f"{low}-{high}" for low, high in BANDS)
"""Names of the trials by latitude, from the equator to the poles."""
BAND_AREAS = tuple(
    math.sin(math.radians(high)) - math.sin(math.radians(low)) for low, high in BANDS
)
"""Share of the sphere in each band, north and south together."""


class Interval(NamedTuple):
    """A mean and half the width of its interval."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:.3f} +- {self.half:.3f}"


def scores(
    record: dict[str, Any], budget: str = "steps", trial: str = "any tilt", quantity: str = "cc"
) -> dict[str, Tensor]:
    """Scores of every kind that has them, ``(seeds,)`` float64 each, in the order of the seeds.

    Args:
        record: of :mod:`sal360.experiments.kernels`. budget: ``"steps"``, ``"time"``,
            ``"everywhere"`` or ``"upright"``.
        trial: a name of trials, such as ``"60-75"`` or ``"any tilt"``; ``"bands"`` for the mean
            of the bands by their areas.
        quantity: ``"cc"``, ``"apart"``, or one that a run has once: ``"equivariance"``,
            ``"seconds"``, ``"steps"``, ``"faces"``.
    Raises:
        ValueError: the record holds no such runs.
    """
    found: dict[str, dict[int, float]] = {kind: {} for kind in record["recipe"]["kinds"]}
    for run in record["runs"]:
        reused = budget == "time" and run["budget"] == "steps" and run["kind"] == TIMED_BY
        if run["budget"] != budget and not reused:
            continue
        value = run.get(quantity)
        if isinstance(value, dict):
            bands = zip(BAND_NAMES, BAND_AREAS, strict=True)
            value = (
                sum(value[name] * area for name, area in bands)
                if trial == "bands"
                else value[trial]
            )
        if value is not None:
            found[run["kind"]][run["seed"]] = value
    out = {
        kind: torch.tensor([by_seed[seed] for seed in sorted(by_seed)], dtype=torch.float64)
        for kind, by_seed in found.items()
        if by_seed
    }
    if not out:
        raise ValueError(f"record: holds no runs of budget {budget!r} with {quantity!r}")
    return out


def interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of independent values and Student's interval for it; infinitely wide for one value."""
    values = as_float64(values, "values")
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values: shape {tuple(values.shape)}, wanted (n,), n at least 1")
    n = len(values)
    if n == 1:
        return Interval(float(values), math.inf)
    return Interval(
        float(values.mean()), student(n - 1, level) * float(values.std()) / math.sqrt(n)
    )


def paired(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of ``a - b``, seed by seed, and its interval."""
    return interval(_differences(a, b), level)


def unpaired(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """The same as if the seeds of ``a`` and ``b`` had nothing to do with each other (Welch)."""
    a, b = as_float64(a, "a"), as_float64(b, "b")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a, b: {len(a)} and {len(b)} values, wanted at least 2 each")
    parts = [float(v.var()) / len(v) for v in (a, b)]
    total = sum(parts)
    if total == 0:
        return Interval(float(a.mean() - b.mean()), 0.0)
    freedom = total**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (a, b), strict=True))
    half = student(freedom, level) * math.sqrt(total)
    return Interval(float(a.mean() - b.mean()), half)


def _differences(a: ArrayLike, b: ArrayLike) -> Tensor:
    a, b = as_float64(a, "a"), as_float64(b, "b")
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"b: shape {tuple(b.shape)}, wanted a's {tuple(a.shape)}, one axis")
    return a - b
