"""What a step of training minimises: a network's raw maps against the truth.

Losses are :mod:`sal360.losses`; here they meet a model's way of writing maps down
(``model.reading``) and a recipe's way of writing truth down (``target``). Chapter 11. What is
learned without a truth is CP-360's own (:mod:`sal360.models.cp360_weak`).
"""

from __future__ import annotations

import math

from torch import Tensor

from sal360.losses import cc_loss, sphere_kld, sphere_mse
from sal360.training.recipe import Recipe


def target_maps(truth: Tensor, recipe: Recipe) -> Tensor:
    """The truth as the recipe wants it.

    Args:
        truth: ``(..., H, W)`` densities per steradian.
    Returns:
        the same shape: relative densities, whose mean over the sphere is 1, or each map over
        its own maximum; times ``recipe.target_scale``.
    """
    if recipe.target == "peak":
        return truth / truth.amax((-2, -1), keepdim=True) * recipe.target_scale
    return truth * (4 * math.pi * recipe.target_scale)


def as_read(raw: Tensor, reading: str) -> Tensor:
    """Raw maps as densities of any scale, as :mod:`sal360.inference` will read them.

    Args:
        raw: ``(..., H, W)``. reading: ``"minmax"``, ``"positive"`` or ``"density"``.
    """
    if reading == "minmax":
        return raw - raw.amin((-2, -1), keepdim=True)
    return raw.clamp_min(0) if reading == "positive" else raw


def map_loss(raw: Tensor, truth: Tensor, recipe: Recipe, reading: str = "positive") -> Tensor:
    """One number for raw maps beside the truth: the mean over the frames that have a truth.

    Args:
        raw, truth: ``(B, T, 1, H, W)``; frames without truth are NaN and do not count.
        reading: the model's.
    Raises:
        ValueError: no frame has a truth.
    """
    known = truth.flatten(2).isfinite().all(-1)
    if not bool(known.any()):
        raise ValueError("truth: NaN in every frame, wanted at least one with a truth")
    raw, truth = raw[known], truth[known]
    if recipe.loss == "sphere_mse":
        return sphere_mse(raw, target_maps(truth, recipe))
    if recipe.loss == "sphere_kld":
        return sphere_kld(as_read(raw, reading), truth)
    if recipe.loss == "cc":
        return cc_loss(raw, truth)
    raise ValueError(f"loss: {recipe.loss!r}, wanted one of maps against the truth")
