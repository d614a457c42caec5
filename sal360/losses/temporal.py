"""Losses between the maps of consecutive frames: attention moves with what it follows.

CP-360 trains without gaze on three of them (:func:`sal360.upstream.temporal_losses`). These are
the same ideas with flow followed forwards, at its right length, and pixels counted by their solid
angle. Derived in chapter 15.

**None of them has the truth as its minimiser.** A map that never changes satisfies the first two
and an empty one all three, so they need something beside them that wants the map to be right.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, in_range, non_negative
from sal360.losses._maps import MAPS, Reduction, as_maps, reduced, share_of_sphere
from sal360.losses.warp import flow_speed, resize_flow, warp_by_flow

STILL = 0.3 * 2 * math.pi / 960
"""Radians per frame below which a pixel stands still: 0.11 degrees.

CP-360's threshold is .15 pixels of a panorama of 960 columns, of a flow that it had halved.
"""


class TemporalLosses(NamedTuple):
    """Three scalars: change along the flow, change in place, what stands where nothing moves."""

    smooth: Tensor
    temporal: Tensor
    motion: Tensor

    def total(self, smooth: float = 0.7, temporal: float = 1.0, motion: float = 0.01) -> Tensor:
        """Their weighted sum; CP-360's weights unless given."""
        given = {"smooth": smooth, "temporal": temporal, "motion": motion}
        weights = [non_negative(weight, name) for name, weight in given.items()]
        return weights[0] * self.smooth + weights[1] * self.temporal + weights[2] * self.motion


def temporal_smoothness(
    maps: ArrayLike,
    flow: ArrayLike | None = None,
    visible: ArrayLike | None = None,
    detach: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """How much a map changes from frame to frame, in place or along the flow.

    The mean over the sphere of ``(maps[t + 1] read where flow leads - maps[t])^2``. 0 or more,
    smaller is better. It rewards maps without flicker and hides whether they are right: a still
    map scores 0 without ``flow``. Derived in chapter 15.

    Args:
        maps: ``(B, T, 1, H, W)`` floating, T at least 2, any scale; use densities, or its weight
            depends on the scale.
        flow: ``(B, T - 1, 2, H', W')`` from each frame to the next, pixels of its own grid, right
            and down; brought to the maps' grid with :func:`resize_flow`. None: no motion.
        visible: ``(B, T - 1, 1, H, W)`` weights of 0 or more, 0 where a pixel is hidden in the
            next frame (:func:`visible_by_flow`). A pair in which nothing is visible counts 0.
        detach: take ``maps[t]`` as fixed, so that only later maps learn, as CP-360 does.
        reduction: ``"mean"`` or ``"sum"`` over clips and pairs, or ``"none"``.
    Returns:
        A scalar, or ``(B, T - 1)``; float32, or float64 if ``maps`` are.
    Raises:
        ValueError, TypeError: other shapes, NaN.
    """
    clip = _as_clip(maps)
    following = clip[:, 1:]
    if flow is not None:
        B, pairs, _, H, W = following.shape
        moved = warp_by_flow(following.flatten(0, 1), _flow_on_the_grid(flow, clip).flatten(0, 1))
        following = moved.reshape(B, pairs, 1, H, W)
    before = clip[:, :-1].detach() if detach else clip[:, :-1]
    return reduced(_mean_square(following - before, visible), reduction)


def motion_mask_loss(
    maps: ArrayLike,
    flow: ArrayLike,
    threshold: float = STILL,
    reduction: Reduction = "mean",
) -> Tensor:
    """What a map holds where the picture stands still: the mean over the sphere of its square.

    0 or more, smaller is better. It rewards looking at what moves, which viewers often do not:
    a speaker who stands still is punished like the sky. Derived in chapter 15.

    Args:
        maps: ``(B, T, 1, H, W)`` floating, T at least 2; the last one has no flow and is not used.
        flow: as for :func:`temporal_smoothness`.
        threshold: radians per frame on the sphere below which a pixel stands still.
        reduction: ``"mean"`` or ``"sum"`` over clips and pairs, or ``"none"``.
    Returns:
        A scalar, or ``(B, T - 1)``; float32, or float64 if ``maps`` are.
    """
    threshold = in_range(threshold, "threshold", 0.0, math.pi, "radians")
    clip = _as_clip(maps)
    speed = flow_speed(_flow_on_the_grid(flow, clip).flatten(0, 1)).unflatten(
        0, clip[:, 1:].shape[:2]
    )
    held = torch.where(speed < threshold, clip[:, :-1], 0)
    return reduced(_mean_square(held, None), reduction)


def temporal_losses(
    maps: ArrayLike,
    flow: ArrayLike,
    visible: ArrayLike | None = None,
    threshold: float = STILL,
    detach: bool = False,
) -> TemporalLosses:
    """CP-360's three losses, corrected: the mean over clips and pairs of each.

    - ``smooth``: :func:`temporal_smoothness` along the flow;
    - ``temporal``: the same in place;
    - ``motion``: :func:`motion_mask_loss`.

    What is corrected: the published code moves a map against the flow, halves the flow, sums
    over pixels (so that the size of the map and the poles set the weights), measures speed in
    pixels, and masks a map with the flow of the frame before it. Derived in chapter 15.

    Args:
        maps, flow, visible, threshold, detach: as for the parts; ``visible`` is for ``smooth``.
    Returns:
        Three scalars; ``.total()`` weighs them.
    """
    return TemporalLosses(
        temporal_smoothness(maps, flow, visible, detach),
        temporal_smoothness(maps, detach=detach),
        motion_mask_loss(maps, flow, threshold),
    )


def _as_clip(maps: ArrayLike) -> Tensor:
    clip = as_maps(maps, "maps", squares=True)
    if clip.ndim != 5 or clip.shape[1] < 2 or clip.shape[2] != 1:
        raise ValueError(f"maps: shape {tuple(clip.shape)}, wanted (B, T, 1, H, W), T at least 2")
    return clip


def _flow_on_the_grid(flow: ArrayLike, clip: Tensor) -> Tensor:
    """``(B, T - 1, 2, H, W)`` float64, in pixels of the maps."""
    B, T, _, H, W = clip.shape
    given = as_float64(flow, "flow").to(clip.device)
    if given.ndim != 5 or given.shape[:3] != (B, T - 1, 2) or 0 in given.shape:
        wanted = f"({B}, {T - 1}, 2, H, W)"
        raise ValueError(f"flow: shape {tuple(given.shape)}, wanted {wanted}")
    if given.shape[-2:] == (H, W):
        return given
    return resize_flow(given.flatten(0, 1), H, W).unflatten(0, (B, T - 1))


def _mean_square(difference: Tensor, visible: ArrayLike | None) -> Tensor:
    """``(B, T - 1, 1, H, W)`` to ``(B, T - 1)``: the mean over what is visible of the sphere."""
    share = share_of_sphere(difference)
    if visible is None:
        return (share * difference**2).sum(MAPS)[..., 0]
    seen = as_maps(visible, "visible").to(difference)
    if seen.shape != difference.shape:
        wanted = tuple(difference.shape)
        raise ValueError(f"visible: shape {tuple(seen.shape)}, wanted {wanted}")
    if float(seen.detach().amin()) < 0:
        raise ValueError(f"visible: smallest value {float(seen.amin()):.3g}, wanted at least 0")
    weight = share * seen
    total = weight.sum(MAPS)
    return ((weight * difference**2).sum(MAPS) / torch.where(total > 0, total, 1))[..., 0]
