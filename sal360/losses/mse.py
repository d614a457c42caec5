"""The mean squared error over the sphere, not over the pixels."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from sal360._check import ArrayLike
from sal360.losses._maps import MAPS, Reduction, as_pair, reduced, share_of_sphere


def sphere_mse(
    pred: ArrayLike,
    truth: ArrayLike,
    form: Literal["mean", "integral"] = "mean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Squared difference, each pixel weighted by its solid angle. Derived in chapter 11.

    0 or more, smaller is better; the truth, at its own scale, is the only minimiser. It rewards
    the height of peaks: most of a saliency map is dark, and being right there is worth little,
    so a loss that is small need not mean that the peaks are in place. It grows with the square
    of the maps' scale (a density of 5 degrees' blur peaks near 20 per steradian, and a map over
    its maximum at 1), so choose the scale before the learning rate.

    Source: Zhang et al., ECCV 2018, whose loss is the integral, with weights that are these
    times ``(pi / 2H) / tan(pi / 2H)`` (:func:`sal360.upstream.sphere_mse`).

    Args:
        pred, truth: ``(..., H, W)`` of one shape, such as ``(B, 1, H, W)``; floating, any sign.
        form: ``"mean"`` over the sphere, or ``"integral"``, which is ``4 pi`` times that.
        reduction: ``"mean"`` or ``"sum"`` over the maps, or ``"none"``.
    Returns:
        A scalar, or ``(...)``; float32, or float64 if an input is.
    Raises:
        ValueError: shapes that differ, NaN, squares that would overflow, unknown words.
        TypeError: not floating.
    """
    if form not in ("mean", "integral"):
        raise ValueError(f"form: {form!r}, wanted 'mean' or 'integral'")
    p, t = as_pair(pred, truth, squares=(True, True))
    error = (share_of_sphere(p) * (p - t) ** 2).sum(MAPS)
    return reduced(error * (4 * math.pi) if form == "integral" else error, reduction)
