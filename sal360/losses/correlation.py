"""One minus Pearson's correlation over the sphere."""

from __future__ import annotations

from torch import Tensor

from sal360._check import ArrayLike
from sal360.losses._maps import MAPS, Reduction, as_pair, reduced, share_of_sphere, standardised


def cc_loss(pred: ArrayLike, truth: ArrayLike, reduction: Reduction = "mean") -> Tensor:
    """``1 - CC``, each pixel weighted by its solid angle. Derived in chapter 11.

    From 0 to 2, smaller is better; 1 is chance. Minimal for ``a * truth + b`` with any ``a > 0``
    and any ``b``: it fixes the shape of a map and neither its scale nor its offset, so trained
    alone it leaves both adrift, and what comes out need not be a density (it may be negative).
    It rewards the large and the bright, misses and false alarms alike.

    Args:
        pred, truth: ``(..., H, W)`` of one shape, such as ``(B, 1, H, W)``; floating, any sign
            and scale. A flat map of either kind gives 1; a flat ``pred`` still gets a finite
            gradient, towards the truth. Logits go through :func:`softmax_density` first.
        reduction: ``"mean"`` or ``"sum"`` over the maps, or ``"none"``.
    Returns:
        A scalar, or ``(...)``; float32, or float64 if an input is.
    Raises:
        ValueError: shapes that differ, NaN. TypeError: not floating.
    """
    p, t = as_pair(pred, truth)
    together = (share_of_sphere(p) * standardised(p) * standardised(t)).sum(MAPS)
    return reduced(1 - together, reduction)
