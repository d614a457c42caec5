"""Kullback-Leibler divergence of densities with respect to solid angle: its minimiser is the truth.

The published loss of this name normalises by pixels and sums by solid angle, and its minimiser
is ``sin(theta)`` times the truth (:func:`sal360.upstream.sphere_kld`). Here one measure does both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360._check import ArrayLike, in_range
from sal360.losses._maps import (
    MAPS,
    Reduction,
    as_density,
    as_maps,
    as_pair,
    reduced,
    share_of_sphere,
)


def sphere_kld(
    pred: ArrayLike,
    truth: ArrayLike,
    from_logits: bool = False,
    floor: float = 1e-6,
    reduction: Reduction = "mean",
) -> Tensor:
    """What it costs to believe ``pred`` where ``truth`` holds, in nats. Derived in chapter 11.

    The integral over the sphere of ``truth * log(truth / pred)``, both first made densities
    with integral 1. 0 (to rounding) or more, smaller is better; the truth, at any scale, is the
    only minimiser. It punishes misses: density given to places where nobody looked costs only
    what it takes away elsewhere, a place left empty where somebody looked costs up to
    ``log(4 pi / (area * floor))``. It hides the scale of both maps.

    Args:
        pred: ``(..., H, W)``, such as ``(B, 1, H, W)``. Densities of any scale, 0 or more; a map
            of zeros counts as uniform. With ``from_logits`` any real numbers: their softmax with
            respect to solid angle (:func:`softmax_density`) is the density, no floor is needed,
            and gradients stay bounded. Prefer it for training.
        truth: the same shape, 0 or more, any scale, no map of zeros.
        from_logits: whether ``pred`` holds the logarithms of a density, up to a constant.
        floor: the uniform part, relative to 1, that is mixed into **both** maps, so that an
            empty pixel has a finite cost and the truth remains the minimiser.
        reduction: ``"mean"`` or ``"sum"`` over the maps, or ``"none"``.
    Returns:
        A scalar, or ``(...)``; float32, or float64 if an input is.
    Raises:
        ValueError: shapes that differ, NaN, negative densities, a truth of zeros.
        TypeError: not floating.
    """
    floor = in_range(floor, "floor", 0.0, 1.0)
    p, t = as_pair(pred, truth, squares=(from_logits, False))
    share = share_of_sphere(p)
    q = as_density(t, "truth", empty="error")
    if from_logits:
        terms = torch.xlogy(q, q) - q * _log_density(p)
    else:
        p = (as_density(p, "pred", empty="uniform") + floor) / (1 + floor)
        q = (q + floor) / (1 + floor)
        terms = q * (q / p).log()
    return reduced((share * terms).sum(MAPS), reduction)


def softmax_density(logits: ArrayLike) -> Tensor:
    """Any real numbers to a density with respect to solid angle. Derived in chapter 11.

    ``exp(logits) / sum(exp(logits) * area)``: an ordinary softmax would sum to 1 over pixels and
    give a pole, where pixels are small, too much per steradian. What losses other than
    :func:`sphere_kld` should be given when a network ends in logits.

    Args:
        logits: ``(..., H, W)`` floating.
    Returns:
        ``(..., H, W)`` per steradian; ``sum(out * pixel_area)`` is 1 for each map.
    """
    return _log_density(as_maps(logits, "logits", squares=True)).exp() / (4 * math.pi)


def _log_density(logits: Tensor) -> Tensor:
    """Log of the density per share of the sphere; 0 is uniform."""
    log_share = share_of_sphere(logits).log()
    return logits - (logits + log_share).flatten(-2).logsumexp(-1)[..., None, None]
