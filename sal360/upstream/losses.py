"""Three published losses, each with the minimiser, the measure or the direction it really has.

Right ones are in :mod:`sal360.losses`; chapter 11 sets them side by side.

Sources (facts only; the code is our own): Zhang et al., ECCV 2018, repository
xuyanyu-shh/Saliency-detection-in-360-video at 45073a9; Bernal-Berdun et al., "SST-Sal",
Computers & Graphics 2022, edurnebernal/SST-Sal at dc6a4ba; Cheng et al. (CP-360), CVPR 2018,
hsientzucheng/CP-360-Weakly-Supervised-Saliency at dde55cc.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_floating, as_tensor, positive_int
from sal360.resampling import computing_dtype

TEMPORAL_WEIGHTS = (0.7, 1.0, 0.01)
"""CP-360's weights of the smooth, the temporal and the motion loss."""
_EPSILON = 1e-8


def row_weight(H: int, W: int) -> Tensor:
    """``(H,)`` float64: solid angles by the trapezoid rule, as Zhang and SST-Sal weigh rows.

    ``2 pi / W * pi / H`` times the mean of the sines of colatitude at both edges. That is
    :func:`sal360.sphere.pixel_area` times ``(pi / 2H) / tan(pi / 2H)`` in every row: a little
    less than 4 pi in all (12.526 of 12.566 at 16 rows), and no other shape.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    sine = torch.sin(torch.arange(H + 1, dtype=torch.float64) * (math.pi / H))
    return (2 * math.pi / W) * (math.pi / H) * (sine[:-1] + sine[1:]) / 2


def sphere_mse(pred: ArrayLike, truth: ArrayLike) -> Tensor:
    """Zhang's SMSE: the integral of the squared difference over the sphere, over ``B``.

    An integral and not a mean, so it is 4 pi times as large as a weighted mean; channels add.

    Args:
        pred, truth: ``(B, C, H, W)`` floating.
    Returns:
        scalar.
    """
    pred, truth = as_floating(pred, "pred"), as_floating(truth, "truth")
    _same(pred, truth, (4,), "(B, C, H, W)")
    weight = row_weight(*pred.shape[-2:]).to(pred)[:, None]
    return ((pred - truth) ** 2 * weight).sum() / pred.shape[0]


def sphere_kld(pred: ArrayLike, truth: ArrayLike) -> Tensor:
    """SST-Sal's spherical KL divergence, whose minimiser is not the truth.

    Each map is stretched to [0, 1] and divided by its **sum over pixels**; then the terms
    ``q log(q / p)`` are summed with the rows' **solid angles**. Two measures in one formula: the
    loss is least at ``p = sin(theta) q`` (up to scale), it may be negative, and it is as small
    as a pixel's area: twice the resolution, a quarter of the loss and of its gradient.
    Stretching also makes the loss blind to a prediction's offset.

    Args:
        pred, truth: ``(B, T, H, W)`` or ``(B, T, 1, H, W)``, any real numbers; computed in
            float32 as published, unless they are float64.
    Returns:
        ``(B, T)``; training sums it.
    """
    pred, truth = as_tensor(pred, "pred"), as_tensor(truth, "truth")
    _same(pred, truth, (4, 5), "(B, T, H, W) or (B, T, 1, H, W)")
    if pred.ndim == 5 and pred.shape[2] != 1:
        raise ValueError(f"pred: shape {tuple(pred.shape)}, wanted (B, T, 1, H, W)")
    exact = torch.float64 if torch.float64 in (pred.dtype, truth.dtype) else torch.float32
    H, W = pred.shape[-2:]
    p, q = (_stretched(m.to(exact).reshape(*m.shape[:2], H * W)) for m in (pred, truth))
    weight = row_weight(H, W).to(p).repeat_interleave(W)
    return (weight * q * torch.log(q / (p + _EPSILON) + _EPSILON)).sum(-1)


class TemporalLosses(NamedTuple):
    """CP-360's three losses, sums over pixels and pairs of frames."""

    smooth: Tensor
    temporal: Tensor
    motion: Tensor

    def total(self) -> Tensor:
        """With the weights of the published training."""
        smooth, temporal, motion = TEMPORAL_WEIGHTS
        return smooth * self.smooth + temporal * self.temporal + motion * self.motion


def temporal_losses(
    maps: ArrayLike,
    flow: ArrayLike,
    threshold: float = 0.15,
    flow_scale: float = 0.5,
    align_corners: bool = True,
) -> TemporalLosses:
    """CP-360's smooth, temporal and motion-mask losses.

    For each pair of frames, with ``O`` the maps grown to the size of the flow: ``smooth`` is
    ``|O[t+1] - warp(O[t])|^2``, ``temporal`` is ``|O[t+1] - O[t]|^2``, ``motion`` is
    ``|O[t+1]|^2`` over pixels slower than the threshold; only ``O[t+1]`` learns. Kept as they
    were: the warp reads ``O[t]`` where the **forward** flow leads, which moves it the wrong
    way, with zeros beyond the edges and a seam; flow is halved; sums grow with the size of the
    map and count the poles' pixels like all others.

    Args:
        maps: ``(B, T, 1, h, w)`` floating.
        flow: ``(B, T - 1, 2, H, W)``, right and down, pixels of its grid.
        threshold: pixels per frame, of the flow after scaling; published at 480 x 960.
        flow_scale: .5 as published, where a height is divided by a width; 1 to repair that alone.
        align_corners: how the warp reads: True as in the torch of that time, False as the same
            lines run today.
    Returns:
        Three scalars, of half precision in float32; ``.total()`` is what is trained on.
    Raises:
        ValueError: other shapes. TypeError: maps of whole numbers.
    """
    maps, flow = as_floating(maps, "maps"), as_tensor(flow, "flow")
    if maps.ndim != 5 or maps.shape[2] != 1 or maps.shape[1] < 2:
        raise ValueError(f"maps: shape {tuple(maps.shape)}, wanted (B, T, 1, h, w), T at least 2")
    wanted = (maps.shape[0], maps.shape[1] - 1, 2)
    if flow.ndim != 5 or flow.shape[:3] != wanted:
        raise ValueError(f"flow: shape {tuple(flow.shape)}, wanted {(*wanted, 'H', 'W')}")
    H, W = flow.shape[-2:]
    maps = maps.to(computing_dtype(maps))  # neither places nor sums fit into half precision
    grown = F.interpolate(maps.flatten(0, 1), (H, W), mode="bilinear", align_corners=False)
    grown = grown.unflatten(0, maps.shape[:2])
    following, before = grown[:, 1:].flatten(0, 1), grown[:, :-1].flatten(0, 1).detach()
    scaled = flow.flatten(0, 1).to(maps) * flow_scale
    warped = F.grid_sample(before, _published_grid(scaled), align_corners=align_corners)
    still = scaled.norm(dim=1, keepdim=True) < threshold
    return TemporalLosses(
        ((following - warped) ** 2).sum(),
        ((following - before) ** 2).sum(),
        (following**2)[still].sum(),
    )


def _published_grid(flow: Tensor) -> Tensor:
    """``(N, 2, H, W)`` pixels to ``(N, H, W, 2)``: a grid from corner to corner, plus the flow."""
    H, W = flow.shape[-2:]
    x = torch.arange(W, dtype=flow.dtype, device=flow.device) / (W - 1) * 2 - 1
    y = torch.arange(H, dtype=flow.dtype, device=flow.device) / (H - 1) * 2 - 1
    return torch.stack((x + flow[:, 0] / W * 2, y[:, None] + flow[:, 1] / H * 2), dim=-1)


def _stretched(maps: Tensor) -> Tensor:
    # As published: the gradient of a tie goes to one pixel of it.
    low, high = maps.min(-1, keepdim=True).values, maps.max(-1, keepdim=True).values
    unit = (maps - low) / (high - low + _EPSILON)
    return unit / (unit.sum(-1, keepdim=True) + _EPSILON)


def _same(pred: Tensor, truth: Tensor, ranks: tuple[int, ...], wanted: str) -> None:
    if pred.ndim not in ranks:
        raise ValueError(f"pred: shape {tuple(pred.shape)}, wanted {wanted}")
    if truth.shape != pred.shape:
        found = tuple(truth.shape)
        raise ValueError(f"truth: shape {found}, wanted that of pred, {tuple(pred.shape)}")
