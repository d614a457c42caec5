"""How sure is a mean over videos, and is one predictor better than another?

Frames of one video are nearly the same frame, so they are not independent trials: three hundred
of them say little more than one. The unit is the video. Every interval here is one over videos,
and it answers: had other videos like these been filmed, where would the mean have come out?
Chapter 12.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, as_tensor, in_range, positive_int

RESAMPLES = 10_000
"""Data sets that the bootstrap draws."""
FEWEST = 6
"""Videos from which on the bootstrap is used. All its means lie between the smallest and the
largest value, and that range holds the truth with probability ``1 - 2^(1 - V)`` at most: 94 % for
5 videos. Of fewer, Student's interval is given."""
EXACT = 20
"""Videos up to which all ``2^V`` sign flips are counted."""


class Estimate(NamedTuple):
    """A mean over videos.

    Attributes:
        mean: NaN if there is no video. low, high: ends of its interval; NaN for one video, and
            where a score is infinite.
        videos: how many. method: ``"bootstrap"``, ``"student"`` or ``"none"``.
    """

    mean: float
    low: float
    high: float
    videos: int
    method: str

    def __str__(self) -> str:
        if self.method == "none":
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Comparison(NamedTuple):
    """Two predictors on the same videos.

    Attributes:
        difference: of their scores, first minus second, video by video.
        p: chance of a mean difference at least as large, either way, if it were a matter of luck
            for each video which predictor is ahead; at least ``2^(1 - V)``, never 0.
        exact: whether all flips were counted, or a sample of them drawn.
    """

    difference: Estimate
    p: float
    exact: bool


def bootstrap(
    values: ArrayLike, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean of one score per video, and its interval.

    Videos are drawn with replacement, as many as there are, many times over; the interval cuts
    off equal tails of the means. Plain percentiles are too narrow for few videos, because the
    spread of a sample is less than that of what it was drawn from; the tails are therefore taken
    smaller, by as much as makes the interval Student's where means are normal (Hesterberg, "What
    teachers should know about the bootstrap", 2015).

    Args:
        values: ``(V,)`` one score per video; NaN is no score and is left out.
        level: of the interval. resamples: how many data sets are drawn. seed: of the draw.
    Raises:
        ValueError: another shape, a level outside (0, 1).
    """
    values = as_tensor(values, "values").double().detach().cpu()
    if values.ndim != 1:
        raise ValueError(f"values: shape {tuple(values.shape)}, wanted (V,), one score per video")
    level = in_range(level, "level", 0.0, 1.0)
    resamples = positive_int(resamples, "resamples")
    values = values[~values.isnan()]
    V = len(values)
    mean = float(values.mean()) if V else math.nan
    if V < 2 or not bool(values.isfinite().all()):
        return Estimate(mean, math.nan, math.nan, V, "none")
    reach = student(V - 1, level)
    if V < FEWEST:
        half = reach * float(values.std()) / math.sqrt(V)
        return Estimate(mean, mean - half, mean + half, V, "student")
    tail = float(torch.special.ndtr(torch.tensor(-reach * math.sqrt(V / (V - 1))).double()))
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.quantile(_resampled_means(values, resamples, seed), ends).tolist()
    # A constant score has no spread; its mean of many copies may miss it by a rounding.
    return Estimate(mean, min(low, mean), max(high, mean), V, "bootstrap")


def paired(
    a: ArrayLike,
    b: ArrayLike,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Is ``a`` better than ``b``, on the same videos?

    Video by video, what makes a video hard for both cancels, so far smaller differences show
    than two intervals side by side could tell apart.

    Args:
        a, b: ``(V,)`` scores of the same videos in the same order; a video in which either has
            none (NaN) is left out.
        level, resamples, seed: as in :func:`bootstrap`; also of the sampled flips.
    Returns:
        :class:`Comparison`; its ``p`` is NaN if no video is left, or a score is infinite.
    Raises:
        ValueError: shapes that differ.
    """
    a, b = (as_tensor(value, name).double() for value, name in ((a, "a"), (b, "b")))
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"b: shape {tuple(b.shape)}, wanted a's {tuple(a.shape)}, one axis")
    known = ~(a.isnan() | b.isnan())
    difference = (a - b)[known]
    if len(difference) == 0 or not bool(difference.isfinite().all()):
        mean = float(difference.mean()) if len(difference) else math.nan
        return Comparison(
            Estimate(mean, math.nan, math.nan, len(difference), "none"), math.nan, True
        )
    estimate = bootstrap(difference, level, resamples, seed)
    return Comparison(estimate, *sign_flip(difference, resamples, seed))


def sign_flip(
    differences: ArrayLike, flips: int = RESAMPLES, seed: int = 0, exact: int = EXACT
) -> tuple[float, bool]:
    """Permutation test of paired differences: were the two names swapped at random?

    If the predictors are equally good, every difference could as well have had the other sign.
    ``p`` is the share of all ways to flip signs whose sum is as far from 0 as the one found. The
    way that flips nothing is one of them, so ``p`` is never 0.

    Args:
        differences: ``(V,)`` finite, V at least 1.
        flips: drawn for more than ``exact`` videos; ``p`` is then at least ``1 / (flips + 1)``.
        seed: of the draw.
    Returns:
        ``p`` and whether it is exact.
    """
    d = as_float64(differences, "differences").detach().cpu()
    if d.ndim != 1 or len(d) == 0:
        raise ValueError(f"differences: shape {tuple(d.shape)}, wanted (V,), V at least 1")
    # Sums that are equal but for rounding count as equal.
    found = float(d.sum().abs() - 1e-12 * d.abs().sum())
    if len(d) <= exact:
        sums = d[:1].clone()  # its sign may stay: flipping all of them changes no size
        for value in d[1:]:
            sums = torch.cat((sums + value, sums - value))
        return float((sums.abs() >= found).double().mean()), True
    flips = positive_int(flips, "flips")
    generator = torch.Generator().manual_seed(seed)
    beyond = 0
    for part in _parts(flips, len(d)):
        signs = torch.randint(0, 2, (part, len(d)), generator=generator, dtype=torch.int8)
        beyond += int(((2.0 * signs.double() - 1) @ d).abs().ge(found).sum())
    return (beyond + 1) / (flips + 1), False


@lru_cache(maxsize=64)
def student(freedom: float, level: float = 0.95) -> float:
    """How many standard errors reach to each side: 1.96 for many degrees of freedom, 12.7 for 1.

    With ``t = sqrt(freedom) tan(angle)``, Student's density is ``cos(angle)^(freedom - 1)``; it is
    summed on a fine grid of angles.
    """
    level = in_range(level, "level", 0.0, 1.0)
    angle = torch.linspace(0, math.pi / 2, 100_001, dtype=torch.float64)
    density = torch.cos(angle).clamp_min(0) ** (freedom - 1)
    mass = torch.cumulative_trapezoid(density, angle)
    k = int(torch.searchsorted(mass, level * mass[-1]))
    return math.sqrt(freedom) * math.tan(float(angle[k + 1]))


def _resampled_means(values: Tensor, resamples: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    V = len(values)
    return torch.cat(
        [
            values[torch.randint(V, (part, V), generator=generator)].mean(1)
            for part in _parts(resamples, V)
        ]
    )


def _parts(count: int, width: int) -> list[int]:
    """``count`` rows in parts of at most some 32 MB of doubles."""
    size = max(1, (1 << 22) // width)
    return [min(size, count - start) for start in range(0, count, size)]
