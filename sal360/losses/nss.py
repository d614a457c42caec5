"""How far above its own mean a map stands where people looked, as a loss.

Source: Peters et al., "Components of bottom-up gaze allocation in natural images", 2005.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, as_tensor
from sal360.losses._maps import (
    MAPS,
    Reduction,
    as_maps,
    check_not_empty,
    reduced,
    rescaled,
    standardised,
)
from sal360.resampling import erp_table
from sal360.sphere import lonlat_to_xyz


def nss_loss(
    pred: ArrayLike, fixations: ArrayLike | Sequence[ArrayLike], reduction: Reduction = "mean"
) -> Tensor:
    """Minus the mean z-score of ``pred`` at the fixations. Derived in chapter 11.

    Smaller is better, 0 is chance. It is a correlation with the fixations **unblurred**: minus
    CC times the deviation of their histogram per solid angle. So its minimiser, up to scale and
    offset, is that histogram, a spike for each fixation and as narrow as the grid allows, and
    not the blurred map that is called the truth; the least it can reach, ``-sqrt((1 - s) / s)``
    for one pixel with the share ``s`` of the sphere, falls with every finer grid. Only averaged
    over ever more fixations does the histogram, and with it the minimiser, become the density
    that they came from. It rewards hits and fits whoever happened to look; it hides the scale
    and the offset of the map. Give it a small weight beside a loss with a smooth truth.

    Args:
        pred: ``(..., H, W)``, such as ``(B, 1, H, W)``; floating, any sign and scale. A flat map
            gives 0 and gets a finite gradient.
        fixations: one of

            - ``(N, 2)`` longitudes and latitudes in radians, if ``pred`` holds one map;
            - a list of such, one for each map, the last leading axis fastest, or a tensor
              ``(..., N, 2)``;
            - the shape of ``pred``: how many fixations each pixel holds (or any weights), 0 or
              more.

            Directions are read between pixels, as :func:`sal360.metrics.nss` does.
        reduction: ``"mean"`` or ``"sum"`` over the maps, or ``"none"``.
    Returns:
        A scalar, or ``(...)``; float32, or float64 if ``pred`` is.
    Raises:
        ValueError: another shape, a map without fixations, NaN, negative counts.
        TypeError: not floating.
    """
    p = as_maps(pred, "pred")
    z = standardised(p)
    directions = _per_map(fixations, p.shape)
    if directions is None:
        counts = as_maps(as_tensor(fixations, "fixations").to(p), "fixations")
        if counts.shape != p.shape:
            wanted = f"(N, 2), one such for each map, or that of pred, {tuple(p.shape)}"
            raise ValueError(f"fixations: shape {tuple(counts.shape)}, wanted {wanted}")
        check_not_empty(counts, "fixations", "counts")
        weight = rescaled(counts)
        score = (z * weight).sum(MAPS) / weight.sum(MAPS)
    else:
        score = _score_at(z.flatten(0, -3) if z.ndim > 2 else z[None], directions)
        score = score.reshape(z.shape[:-2])
    return reduced(-score, reduction)


def _per_map(fixations: ArrayLike | Sequence[ArrayLike], shape: torch.Size) -> list[Tensor] | None:
    """The directions at each map, float64 ``(N, 2)``; None if it must be a map of counts."""
    each: Sequence[ArrayLike]
    listed = isinstance(fixations, (list, tuple)) and len(fixations) > 0
    if listed and as_tensor(fixations[0], "fixations[0]").ndim == 2:
        each, names = fixations, [f"fixations[{k}]" for k in range(len(fixations))]
    else:
        whole = as_tensor(fixations, "fixations")
        if whole.ndim < 2 or whole.shape[-1] != 2 or whole.shape == shape:
            return None
        each = list(whole.flatten(0, -3)) if whole.ndim > 2 else [whole]
        names = ["fixations"] * len(each)
    maps = shape[:-2].numel()
    if len(each) != maps:
        raise ValueError(f"fixations: for {len(each)} maps, wanted for {maps}")
    pairs = [as_float64(one, name, last=2) for one, name in zip(each, names, strict=True)]
    for one, name in zip(pairs, names, strict=True):
        if one.ndim != 2 or len(one) == 0:
            raise ValueError(f"{name}: shape {tuple(one.shape)}, wanted (N, 2), N at least 1")
    return pairs


def _score_at(z: Tensor, directions: list[Tensor]) -> Tensor:
    """``(M, H, W)`` read at the directions of each map: ``(M,)`` means, all maps in one read."""
    M, H, W = z.shape
    lon, lat = torch.cat([d.to(z.device) for d in directions]).unbind(-1)
    table = erp_table(lonlat_to_xyz(lon, lat), H, W)
    count = torch.tensor([len(d) for d in directions], device=z.device)
    owner = torch.repeat_interleave(torch.arange(M, device=z.device), count)
    taps = z.flatten()[table.pixels + (owner * (H * W))[:, None]]
    read = (taps * table.weights.to(z)).sum(-1)
    return z.new_zeros(M).index_add(0, owner, read) / count
