"""A map against a density: correlation, shared mass, divergence. Derived in chapter 12."""

from __future__ import annotations

import torch
from torch import Tensor

from sal360._check import ArrayLike, in_range
from sal360.metrics.weighting import Weighting, as_pair, at_one, shares, weights


def cc(pred: ArrayLike, truth: ArrayLike, weighting: Weighting = "sphere") -> Tensor:
    """Pearson correlation of two maps, from -1 to 1; 1 is a perfect prediction up to scale.

    Larger is better. It rewards maps that rise and fall together and treats false alarms and
    misses alike; it is blind to a common offset and to contrast, and a few high peaks decide
    it. 0 where either map is flat.

    Args:
        pred, truth: ``(..., H, W)`` of one size, leading axes that broadcast, any scale.
        weighting: ``"sphere"`` weighs pixels by solid angle, ``"pixels"`` all alike.
    Returns:
        ``(...)`` float64.
    Raises:
        ValueError: shapes that differ in H or W, NaN, an unknown weighting.
    """
    pred, truth = as_pair(pred, truth)
    weight = weights(pred, weighting)

    def centred(value: Tensor) -> Tensor:
        value = at_one(value)
        return value - (value * weight).sum((-2, -1), keepdim=True)

    a, b = centred(pred), centred(truth)
    spread = ((weight * a**2).sum((-2, -1)) * (weight * b**2).sum((-2, -1))).sqrt()
    together = (weight * a * b).sum((-2, -1))
    flat = spread <= 1e-14
    return torch.where(flat, torch.zeros_like(together), together / spread.masked_fill(flat, 1))


def sim(pred: ArrayLike, truth: ArrayLike, weighting: Weighting = "sphere") -> Tensor:
    """Similarity: the mass that two densities share, from 0 to 1; 1 only if they are equal.

    Larger is better: ``sum(min(P, Q))`` over the pixels' shares of the mass, which is also 1
    minus half of the L1 distance. Mass in a wrong place costs just that mass, near or far; so a
    map that is sharper or wider than the truth pays, and one shifted by its own width loses
    nearly all. Source: the code of the MIT saliency benchmark (Bylinskii et al., 2016), but
    without stretching a map's minimum to 0 first, which would call ``truth + 1`` equal to the
    truth.

    Args:
        pred, truth: ``(..., H, W)`` of one size, leading axes that broadcast, at least 0, any
            scale. ``pred`` may be all zeros, which is taken for uniform, as every flat map.
        weighting: mass is value times solid angle (``"sphere"``), or the value (``"pixels"``).
    Returns:
        ``(...)`` float64.
    Raises:
        ValueError: sizes that differ, negative values, NaN, a truth without mass.
    """
    pred, truth = as_pair(pred, truth)
    weight = weights(pred, weighting)
    P = shares(pred, weight, "pred", empty=True)
    return torch.minimum(P, shares(truth, weight, "truth")).sum((-2, -1)).clamp(max=1)


def kld(
    pred: ArrayLike, truth: ArrayLike, weighting: Weighting = "sphere", eps: float = 0.0
) -> Tensor:
    """Kullback-Leibler divergence KL(truth || prediction) in nats, from 0; 0 only if equal.

    Smaller is better: ``sum(Q log(Q / P))``, Q the truth's shares of mass, P the prediction's.
    It is the price in code length of believing the prediction. Misses cost without limit:
    where the truth has mass and the prediction is exactly 0 the answer is ``inf``, not a large
    number made by a small constant; false alarms cost only what they take from the rest.
    Pixels where the truth is 0 add nothing. Source: the code of the MIT saliency benchmark
    (Bylinskii et al., 2016). It adds 2.2e-16 inside the logarithm, which is what makes scores
    like 12 or 16: they count zeros of the prediction. ``eps`` states such a floor openly.

    Args:
        pred, truth: as for :func:`sim`.
        weighting: mass is value times solid angle (``"sphere"``), or the value (``"pixels"``).
        eps: share of the prediction's mass, below 1, that is spread evenly before comparing. The
            result is then finite, at most ``log(1 / eps)`` plus the truth's divergence from
            uniform; the truth itself scores a little above 0.
    Returns:
        ``(...)`` float64.
    Raises:
        ValueError: sizes that differ, negative values, NaN, a truth without mass.
    """
    pred, truth = as_pair(pred, truth)
    weight = weights(pred, weighting)
    P = floored(shares(pred, weight, "pred", empty=True), weight, eps)
    Q = shares(truth, weight, "truth")
    # A sum of terms that cancel is not quite 0 for equal maps; the definition is not below it.
    return (torch.special.xlogy(Q, Q) - torch.special.xlogy(Q, P)).sum((-2, -1)).clamp(min=0)


def floored(P: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Shares with ``eps`` of their mass spread evenly."""
    if eps != 0:
        eps = in_range(eps, "eps", 0, 1)
        P = (1 - eps) * P + eps * weight
    return P
