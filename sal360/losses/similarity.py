"""One minus the mass that two densities share."""

from __future__ import annotations

import torch
from torch import Tensor

from sal360._check import ArrayLike
from sal360.losses._maps import MAPS, Reduction, as_density, as_pair, reduced, share_of_sphere


def sim_loss(pred: ArrayLike, truth: ArrayLike, reduction: Reduction = "mean") -> Tensor:
    """``1 - SIM``: one minus the integral of the smaller density. Derived in chapter 11.

    From 0 to 1, smaller is better; half the integral of ``|pred - truth|``, with the truth, at
    any scale, as its only minimiser. Every misplaced unit of mass costs the same wherever it
    went, so it cannot tell a near miss from a far one, and its gradient has the same size next
    to the minimum as far from it: lower the learning rate, or mix it with another loss.

    Args:
        pred: ``(..., H, W)``, such as ``(B, 1, H, W)``; densities of any scale, 0 or more. A map
            of zeros counts as uniform. Logits go through :func:`softmax_density` first.
        truth: the same shape, 0 or more, any scale, no map of zeros.
        reduction: ``"mean"`` or ``"sum"`` over the maps, or ``"none"``.
    Returns:
        A scalar, or ``(...)``; float32, or float64 if an input is.
    Raises:
        ValueError: shapes that differ, NaN, negative densities, a truth of zeros.
        TypeError: not floating.
    """
    p, t = as_pair(pred, truth)
    p, q = as_density(p, "pred", empty="uniform"), as_density(t, "truth", empty="error")
    return reduced(1 - (share_of_sphere(p) * torch.minimum(p, q)).sum(MAPS), reduction)
