"""What a pixel counts: by its solid angle, or one like another; and maps turned into shares."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64
from sal360._shares import shares_of_rows

Weighting = Literal["sphere", "pixels"]


def weights(like: Tensor, weighting: Weighting) -> Tensor:
    """``(H, 1)``: weights of the rows of a map ``(..., H, W)`` that sum to 1 over its pixels.

    Raises:
        ValueError: an unknown weighting.
    """
    H, W = like.shape[-2:]
    if weighting == "sphere":
        return shares_of_rows(H, W, torch.float64, like.device)
    if weighting == "pixels":
        return torch.full((H, 1), 1 / (H * W), dtype=torch.float64, device=like.device)
    raise ValueError(f"weighting: {weighting!r}, wanted 'sphere' or 'pixels'")


def as_map(value: ArrayLike, name: str) -> Tensor:
    """``(..., H, W)`` float64, finite, no empty axis.

    Raises:
        ValueError: fewer than two axes, an empty one, NaN or infinite values.
    """
    value = as_float64(value, name)
    if value.ndim < 2 or 0 in value.shape:
        raise ValueError(f"{name}: shape {tuple(value.shape)}, wanted (..., H, W), each at least 1")
    return value


def as_pair(pred: ArrayLike, truth: ArrayLike, name: str = "truth") -> tuple[Tensor, Tensor]:
    """Two maps of one size, their leading axes broadcast, on the first one's device."""
    pred = as_float64(pred, "pred")
    truth = as_float64(truth, name).to(pred.device)
    if pred.ndim < 2 or truth.ndim < 2 or pred.shape[-2:] != truth.shape[-2:]:
        raise ValueError(
            f"{name}: shape {tuple(truth.shape)}, wanted (..., H, W) as pred, {tuple(pred.shape)}"
        )
    try:
        a, b = torch.broadcast_tensors(as_map(pred, "pred"), as_map(truth, name))
    except RuntimeError as error:
        raise ValueError(
            f"{name}: shape {tuple(truth.shape)}, wanted frames as pred, {tuple(pred.shape)}"
        ) from error
    return a, b


def at_one(value: Tensor) -> Tensor:
    """``(..., H, W)`` at a peak of 1, so that squares neither vanish nor overflow; zeros stay."""
    peak = value.abs().amax((-2, -1), keepdim=True)
    return value / torch.where(peak > 0, peak, torch.ones_like(peak))


def shares(value: Tensor, weight: Tensor, name: str, empty: bool = False) -> Tensor:
    """``(..., H, W)``: the share of a map's mass that each pixel holds; they sum to 1.

    A map is a density up to scale, so a pixel's mass is its value times its weight.

    Args:
        value: ``(..., H, W)`` at least 0. weight: ``(H, 1)`` of :func:`weights`.
        empty: whether a map of zeros may pass: it is taken for the limit of flat maps, uniform.
    Raises:
        ValueError: negative values; a map of zeros where none may pass.
    """
    if bool((value < 0).any()):
        low = float(value.min())
        raise ValueError(f"{name}: values down to {low:.3g}, wanted a density, 0 or more")
    peak = value.amax((-2, -1), keepdim=True)
    if not empty and bool((peak == 0).any()):
        raise ValueError(f"{name}: a map of zeros, wanted a density with some mass")
    value = torch.where(peak > 0, value, torch.ones_like(value))
    # Twice, so that neither tiny nor huge values leave the range of a double on the way.
    mass = value / torch.where(peak > 0, peak, torch.ones_like(peak)) * weight
    return mass / mass.sum((-2, -1), keepdim=True)
