"""Training CP-360's memory without gaze: three losses between the maps of consecutive frames.

Only the memory learns; the class activation it remembers is given. The published sum has an empty
map as its minimiser (:mod:`sal360.losses.temporal`), and only a learning rate of one in a
million keeps a network from finding it. Here the maps are densities, which cannot be empty, and
a fourth term holds each of them to the class activation of its own frame. Chapter 15.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sal360 import upstream
from sal360._check import non_negative
from sal360.losses import sphere_kld, temporal_losses
from sal360.models.cp360 import CP360

PUBLISHED_MAPS = 4
"""The published losses are of the last maps of a sequence of five."""
LEARNING_RATES = {"corrected": 1e-3, "upstream": 1e-6}


class WeakLosses(NamedTuple):
    """Scalars: the three between frames, what holds maps to their frames, and their sum."""

    smooth: Tensor
    temporal: Tensor
    motion: Tensor
    anchor: Tensor
    total: Tensor


def weak_losses(
    model: CP360,
    clip: Tensor,
    flow: Tensor,
    visible: Tensor | None = None,
    anchor: float = 1.0,
) -> WeakLosses:
    """What CP-360 is trained on, at the size of its own maps.

    - ``"corrected"``: :func:`sal360.losses.temporal_losses` of relative densities, plus
      ``anchor`` times the divergence (:func:`sal360.losses.sphere_kld`) of each frame's map from
      its class activation.
    - ``"upstream"``: :func:`sal360.upstream.temporal_losses` of the last four maps, and no more.

    Args:
        model: with a memory.
        clip: ``(B, T, 3, H, W)`` as the model's ``features`` gives it, T at least 2.
        flow: ``(B, T - 1, 2, H', W')`` from each frame to the next, pixels, right and down.
        visible: ``(B, T - 1, 1, h, w)`` of the maps' size, see
            :func:`sal360.losses.temporal_smoothness`; corrected only.
        anchor: weight of the class activation; corrected only.
    Raises:
        ValueError: a model without a memory, shapes that do not fit.
    """
    if model.memory is None:
        raise ValueError("model: has no memory, wanted temporal=True")
    anchor = non_negative(anchor, "anchor")
    if clip.ndim != 5 or clip.shape[1] < 2:
        raise ValueError(f"clip: shape {tuple(clip.shape)}, wanted (B, T, 3, H, W), T at least 2")
    with torch.no_grad():
        scores = model.scores(clip.flatten(0, 1))
        size = 2 * scores.shape[-1], 4 * scores.shape[-1]
        goal = model.activation(scores, size).unflatten(0, clip.shape[:2])
        scores = scores.unflatten(0, (*clip.shape[:2], 6))
    frames = [model.panorama(part.flatten(0, 1), size) for part in model.remembered(scores)]
    maps = torch.stack(frames, 1)
    if model.convention == "upstream":
        maps, flow = maps[:, -PUBLISHED_MAPS:], flow[:, 1 - PUBLISHED_MAPS :]
        theirs = upstream.temporal_losses(maps, flow.to(maps))
        nothing = theirs.smooth.new_zeros(())
        return WeakLosses(*theirs, nothing, theirs.total())
    between = temporal_losses(maps, flow, visible)
    held = sphere_kld(maps, goal)
    return WeakLosses(*between, held, between.total() + anchor * held)


def weak_optimiser(model: CP360, lr: float | None = None) -> torch.optim.Adam:
    """Adam on the memory: at 1e-6 for ``"upstream"``, as published, at 1e-3 for ``"corrected"``."""
    if model.memory is None:
        raise ValueError("model: has no memory, wanted temporal=True")
    rate = LEARNING_RATES[model.convention] if lr is None else lr
    return torch.optim.Adam(model.memory.parameters(), rate)


def weak_step(
    model: CP360, optimiser: torch.optim.Optimizer, clip: Tensor, flow: Tensor, **settings: Any
) -> WeakLosses:
    """One step of gradient descent on :func:`weak_losses`; returns them, detached.

    The backbone's running statistics do not move.
    """
    model.train()
    model.backbone.eval()
    losses = weak_losses(model, clip, flow, **settings)
    optimiser.zero_grad()
    losses.total.backward()
    optimiser.step()
    return WeakLosses(*(value.detach() for value in losses))
