"""How far mass has to travel: the earth mover's distance along great circles. Chapter 12."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from sal360._check import ArrayLike, in_range, positive_int
from sal360.metrics.weighting import Weighting, as_pair, shares, weights
from sal360.sphere import erp_directions, lonlat_to_xyz

_BANDS = 18
_STAGES, _ROUNDS = 12, 200  # temperatures, each half of the one before; iterations at each


def emd(
    pred: ArrayLike,
    truth: ArrayLike,
    weighting: Weighting = "sphere",
    bands: int = _BANDS,
    tolerance: float = 0.01,
) -> Tensor:
    """Earth mover's distance: the mean angle, in radians, that mass travels from one to the other.

    Smaller is better: 0 for equal maps, at most pi. The one metric that knows that near misses
    are better than far ones; it does not ask how sure a map is, and a map in the middle of two
    likely places does well. The middle of the bracket that :func:`emd_bounds` finds, whose
    docstring tells how, and how far off it can be.

    Args:
        pred, truth: ``(..., H, W)`` of one size, leading axes that broadcast, at least 0, any
            scale. ``pred`` may be all zeros, which is taken for uniform.
        weighting: mass is value times solid angle (``"sphere"``), or the value (``"pixels"``);
            the way is measured on the sphere in both.
        bands, tolerance: as for :func:`emd_bounds`.
    Returns:
        ``(...)`` float64 radians.
    Raises:
        ValueError: sizes that differ, negative values, NaN, a truth without mass.
    """
    low, high = emd_bounds(pred, truth, weighting, bands, tolerance)
    return (low + high) / 2


def emd_bounds(
    pred: ArrayLike,
    truth: ArrayLike,
    weighting: Weighting = "sphere",
    bands: int = _BANDS,
    tolerance: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Two numbers with the earth mover's distance of the two binned maps between them.

    Mass is first gathered into about ``4 bands^2 / pi`` cells of equal area (a map with fewer
    pixels stays as it is), and what both maps have in the same cell stays there. The rest is a
    transport problem between cells. Sinkhorn's iteration, on logarithms and with a falling
    temperature, comes near its answer and never reaches it; but its potentials, made feasible,
    prove that no plan is cheaper than the first number, and its plan, repaired to move exactly
    the mass there is, costs the second. It stops when they are within ``tolerance`` of each
    other, or when the temperature has been halved a dozen times. So nothing is owed to the
    temperature; what is left is the binning. A mass is split between the middles of the cells
    around it, so it keeps its place on average and no cell's edge is felt; maps finer than the
    cells are blurred, both alike, which takes off a little: with 18 bands about 1.5 % at most for
    blobs of 6 degrees or more, 14 % for white noise (``benchmarks/metrics.py``, beside 48).

    Source of the iteration: Cuturi, "Sinkhorn distances: lightspeed computation of optimal
    transport", 2013.

    Args:
        bands: of latitude, at least 1; 18 make 412 cells of 10 degrees. Time grows with the
            fourth power. tolerance: relative width of the bracket, above 0 and below 1.
        The others as for :func:`emd`.
    Returns:
        ``(...), (...)`` float64 radians, the first at most the second.
    """
    pred, truth = as_pair(pred, truth)
    bands = positive_int(bands, "bands")
    tolerance = in_range(tolerance, "tolerance", 0, 1)
    weight = weights(pred, weighting)
    P = shares(pred.detach(), weight, "pred", empty=True)
    Q = shares(truth.detach(), weight, "truth")
    H, W = pred.shape[-2:]
    excess, centres = _gathered((P - Q).reshape(-1, H, W), bands)
    low, high = zip(*(_transport(row, centres, tolerance) for row in excess), strict=True)
    return torch.stack(low).reshape(P.shape[:-2]), torch.stack(high).reshape(P.shape[:-2])


def _gathered(mass: Tensor, bands: int) -> tuple[Tensor, Tensor]:
    """Mass ``(F, H, W)`` in cells ``(F, K)``, and their middles ``(K, 3)``.

    A pixel's mass is split between the middles around it, in latitude and along each band, so
    that it keeps its place on average: moved by a tenth of a cell, it moves by a tenth.
    """
    H, W = mass.shape[1:]
    around, middles = _cells(bands)
    if len(middles) >= H * W:
        return mass.flatten(1), erp_directions(H, W).reshape(-1, 3).to(mass.device)
    band, share = _split((torch.arange(H, dtype=torch.float64) + 0.5) * (bands / H) - 0.5)
    rows = torch.zeros(bands, H, dtype=torch.float64)
    rows.index_put_((band.clamp(0, bands - 1), torch.arange(H).expand(2, H)), share, True)
    turn = (torch.arange(W, dtype=torch.float64) + 0.5) / W
    col, part = _split(turn * around[:, None] - 0.5)
    cell = (around.cumsum(0) - around)[:, None] + torch.remainder(col, around[:, None])
    in_bands = rows.to(mass.device) @ mass
    gathered = mass.new_zeros(len(mass), len(middles))
    for index, weight in zip(cell.to(mass.device), part.to(mass.device), strict=True):
        gathered.index_add_(1, index.flatten(), (in_bands * weight).flatten(1))
    return gathered, middles.to(mass.device)


def _split(place: Tensor) -> tuple[Tensor, Tensor]:
    """The two whole numbers around each place, ``(2, ...)``, and what each of them gets."""
    low = torch.floor(place)
    return torch.stack((low, low + 1)).long(), torch.stack((low + 1 - place, place - low))


@lru_cache(maxsize=8)
def _cells(bands: int) -> tuple[Tensor, Tensor]:
    """How many cells each band of latitude has ``(bands,)``, and their middles ``(K, 3)``."""
    lat = (0.5 - (torch.arange(bands, dtype=torch.float64) + 0.5) / bands) * math.pi
    around = (2 * bands * torch.cos(lat)).round().clamp_min(1).long()
    turns = torch.cat([(torch.arange(int(n), dtype=torch.float64) + 0.5) / n for n in around])
    lon = (turns - 0.5) * (2 * math.pi)
    return around, lonlat_to_xyz(lon, lat.repeat_interleave(around))


def _transport(excess: Tensor, centres: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Bounds of the least cost of moving the positive part ``(K,)`` onto the negative one."""
    moved = excess.abs().sum() / 2
    dust = 1e-12 * moved  # rounding; without it a cell of 1e-18 costs as much work as any other
    here, there = excess > dust, excess < -dust
    if float(moved) < 1e-12:  # equal up to rounding
        return torch.zeros_like(moved), torch.zeros_like(moved)
    a, b = excess[here] / excess[here].sum(), excess[there] / excess[there].sum()
    chord = torch.cdist(centres[here], centres[there], compute_mode="donot_use_mm_for_euclid_dist")
    cost = 2 * torch.asin((chord / 2).clamp(max=1))
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    low, high = torch.zeros_like(moved), cost.max()
    for halving in range(_STAGES):
        warmth = float(cost.max()) * 2.0 ** -(halving + 3)
        # One step on logarithms, which nothing can overflow, then many on what is left to do,
        # which is near 1 and costs two products of a matrix and a vector.
        f = -warmth * torch.logsumexp((g - cost) / warmth + b.log(), 1)
        g = -warmth * torch.logsumexp((f[:, None] - cost) / warmth + a.log()[:, None], 0)
        plan = torch.exp((f[:, None] + g - cost) / warmth) * a[:, None] * b
        u, v = torch.ones_like(a), torch.ones_like(b)
        for _ in range(_ROUNDS):
            u = a / (plan @ v)
            v = b / (u @ plan)
        f, g = f + warmth * u.log(), g + warmth * v.log()
        low = torch.maximum(low, _proof(f, cost, a, b))
        high = torch.minimum(high, (_repaired(plan * u[:, None] * v, a, b) * cost).sum())
        if float(high - low) <= tolerance * float(high):
            break
    return torch.minimum(low, high) * moved, high * moved


def _proof(f: Tensor, cost: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Kantorovich's dual at potentials made feasible: no plan costs less."""
    g = (cost - f[:, None]).amin(0)
    f = (cost - g).amin(1)
    return a @ f + b @ g


def _repaired(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Sinkhorn's plan, changed as little as it takes to move ``a`` onto ``b`` exactly."""
    plan = plan * (a / plan.sum(1)).clamp(max=1)[:, None]
    plan = plan * (b / plan.sum(0)).clamp(max=1)
    left, wanted = (a - plan.sum(1)).clamp(min=0), (b - plan.sum(0)).clamp(min=0)
    return plan + left[:, None] * wanted / wanted.sum().clamp_min(1e-300)
