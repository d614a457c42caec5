"""How well a map predicts: each pixel counts by the solid angle it covers.

On an equirectangular map a third of the pixels lie within 30 degrees of a pole and hold 13.4 %
of the sphere, so a mean over pixels is a mean over mostly poles. ``weighting="pixels"`` gives
the unweighted number, for comparison with papers that report it. Chapter 12 derives them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64
from sal360.projections import sample_erp
from sal360.sphere import lonlat_to_xyz, pixel_area

Weighting = Literal["sphere", "pixels"]


def cc(pred: ArrayLike, truth: ArrayLike, weighting: Weighting = "sphere") -> Tensor:
    """Pearson correlation of two maps, from -1 to 1; 1 is a perfect prediction up to scale.

    Blind to a common offset and to contrast. 0 where either map is flat.

    Args:
        pred, truth: ``(..., H, W)`` of one shape (or shapes that broadcast), any scale.
        weighting: ``"sphere"`` weighs pixels by solid angle, ``"pixels"`` all alike.
    Returns:
        ``(...)`` float64.
    Raises:
        ValueError: shapes that differ in H or W, NaN, an unknown weighting.
    """
    pred, truth = as_float64(pred, "pred"), as_float64(truth, "truth")
    if pred.ndim < 2 or truth.ndim < 2 or pred.shape[-2:] != truth.shape[-2:]:
        raise ValueError(
            f"truth: shape {tuple(truth.shape)}, wanted (..., H, W) as pred, {tuple(pred.shape)}"
        )
    weight = _weights(pred, weighting)

    def centred(value: Tensor) -> Tensor:
        return value - (value * weight).sum((-2, -1), keepdim=True)

    a, b = centred(pred), centred(truth)
    spread = ((weight * a**2).sum((-2, -1)) * (weight * b**2).sum((-2, -1))).sqrt()
    together = (weight * a * b).sum((-2, -1))
    scale = (pred.abs().amax((-2, -1)) * truth.abs().amax((-2, -1))).clamp_min(1e-300)
    flat = spread <= 1e-14 * scale
    return torch.where(flat, torch.zeros_like(together), together / spread.masked_fill(flat, 1))


def nss(pred: ArrayLike, fixations: ArrayLike, weighting: Weighting = "sphere") -> Tensor:
    """Normalised scanpath saliency: the mean z-score of the map where people looked.

    0 is chance, larger is better; unbounded above, and peaked maps score high (Peters et al.,
    2005). 0 for a flat map.

    Args:
        pred: ``(H, W)`` any scale. fixations: ``(N, 2)`` lon, lat in radians, N at least 1.
        weighting: of the mean and deviation that normalise the map.
    Returns:
        scalar float64.
    """
    pred, fixations = as_float64(pred, "pred"), as_float64(fixations, "fixations", last=2)
    if pred.ndim != 2:
        raise ValueError(f"pred: shape {tuple(pred.shape)}, wanted (H, W)")
    if fixations.ndim != 2 or len(fixations) == 0:
        raise ValueError(f"fixations: shape {tuple(fixations.shape)}, wanted (N, 2), N at least 1")
    weight = _weights(pred, weighting)
    mean = (weight * pred).sum()
    deviation = (weight * (pred - mean) ** 2).sum().sqrt()
    if deviation <= 1e-14 * pred.abs().max():
        return torch.zeros((), dtype=torch.float64, device=pred.device)
    looked_at = sample_erp(pred[None, None], lonlat_to_xyz(fixations[:, 0], fixations[:, 1]))
    return ((looked_at - mean) / deviation).mean()


def _weights(like: Tensor, weighting: Weighting) -> Tensor:
    """``(H, 1)`` or ``(1, 1)``: weights that sum to 1 over the map."""
    H, W = like.shape[-2:]
    if weighting == "sphere":
        area = pixel_area(H, W).to(like.device)[:, None]
        return area / (area.sum() * W)
    if weighting == "pixels":
        return torch.full((1, 1), 1 / (H * W), dtype=torch.float64, device=like.device)
    raise ValueError(f"weighting: {weighting!r}, wanted 'sphere' or 'pixels'")
