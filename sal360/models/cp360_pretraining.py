"""A backbone for CP-360 that was never told where anyone looks: it learns to name things.

Published, it is ResNet-50 with a thousand classes and a million photographs. Here it is a small
network that is shown one face of a cube at a time and told **which kinds of things** are on it,
never where and never whether people look at them: the bush that viewers ignore is a class like
the ball that they follow. That is what ImageNet gives, on the scale of a laptop: to say *star*,
the network has to be active where the star is. Chapter 15.

**What is lost without ImageNet.** Nine kinds instead of a thousand, drawn ones instead of
photographed ones: it knows what stands out from a drawn ground. Faces, people, animals and words,
which photographs teach and which draw most looks in real films, mean nothing to it. Scores on
synthetic worlds say whether the idea works; they are no estimate of those on real films.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import positive_int
from sal360.datasets.synthetic import CONTENT, draw_world, render_times
from sal360.models.cp360 import CP360
from sal360.projections import erp_to_cube

KINDS: tuple[str, ...] = tuple(
    kind for part in ("shapes", "distractors", "scenery") for kind in CONTENT["train"][part]
)
"""What the things of the training worlds are called: the classes."""


@dataclass(frozen=True, eq=False)
class NamedPictures:
    """Panoramas ``frames (N, 3, H, W)`` and what is at each pixel, ``kinds (N, H, W)`` int64:
    0 the background, k the k-th of :data:`KINDS`."""

    frames: Tensor
    kinds: Tensor

    def __len__(self) -> int:
        return len(self.frames)


def named_pictures(
    worlds: int, size: tuple[int, int], seed: int = 0, seconds: float = 10.0
) -> NamedPictures:
    """One picture of each of the first training worlds, at a time drawn from the seed."""
    dice = torch.Generator().manual_seed(seed)
    times = torch.rand(positive_int(worlds, "worlds"), generator=dice) * seconds
    frames, kinds = [], []
    for number, time in enumerate(times):
        world = draw_world(number, "train", seconds)
        seen = render_times(world, time[None], *size, step=0.125)
        names = [0, *(KINDS.index(thing.shape) + 1 for thing in world.things)]
        frames.append(seen.frames)
        kinds.append(torch.tensor(names)[seen.masks])
    return NamedPictures(torch.cat(frames), torch.cat(kinds))


def present(kinds: Tensor, S: int, places: int) -> Tensor:
    """Which kinds are where on the cube: ``(N, H, W)`` to ``(6 N, len(KINDS), places, places)``.

    The share of each place that a kind fills, from 0 to 1.
    """
    faces = erp_to_cube(kinds[:, None].float(), S, mode="nearest")[:, :, 0].flatten(0, 1).long()
    shares = F.one_hot(faces, len(KINDS) + 1).float().movedim(-1, 1)[:, 1:]
    return F.adaptive_avg_pool2d(shares, places)


def pretrain(
    model: CP360,
    worlds: int = 400,
    steps: int = 600,
    batch: int = 4,
    lr: float = 2e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Teach a model's backbone to name what is on each face; its memory is left alone.

    Adam with a rate that rises and falls once, binary cross-entropy for each kind, panoramas
    turned, mirrored and recoloured at random. About 3 minutes at the default numbers on one core.

    Args:
        model: with ``len(KINDS)`` classes; in place, on its own device, left in evaluation mode.
        worlds: pictures to learn from. steps: of gradient descent. batch: panoramas in each.
        lr: the highest rate. seed: of everything that is drawn (not of the model's weights).
        on_step: called with the number of the step and its loss.
    Returns:
        The loss of every step.
    Raises:
        ValueError: another number of classes.
    """
    if model.classes != len(KINDS):
        raise ValueError(f"model: {model.classes} classes, wanted {len(KINDS)}, one for each kind")
    S = model.face
    pictures = named_pictures(worlds, (2 * S, 4 * S), seed)
    dice = torch.Generator().manual_seed(seed + 1)
    backbone = model.backbone
    learns = [p.requires_grad for p in backbone.parameters()]
    backbone.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(backbone.parameters(), lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    like = backbone.fc.weight
    losses = []
    for step in range(steps):
        chosen = torch.randint(len(pictures), (batch,), generator=dice)
        frames, kinds = _varied(pictures.frames[chosen], pictures.kinds[chosen], dice)
        scores = model.scores(frames.to(like))
        there = present(kinds, S, scores.shape[-1]).to(like)
        loss = F.binary_cross_entropy_with_logits(scores, there)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step, losses[-1])
    for parameter, learnt in zip(backbone.parameters(), learns, strict=True):
        parameter.requires_grad_(learnt)
    model.eval()
    return losses


def _varied(frames: Tensor, kinds: Tensor, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turned about the vertical axis, perhaps mirrored, channels brighter or darker."""
    turn = int(torch.randint(frames.shape[-1], (1,), generator=dice))
    frames, kinds = frames.roll(turn, -1), kinds.roll(turn, -1)
    if float(torch.rand(1, generator=dice)) < 0.5:
        frames, kinds = frames.flip(-1), kinds.flip(-1)
    order = torch.randperm(3, generator=dice)
    gain = torch.exp(0.3 * torch.randn(len(frames), 3, 1, 1, generator=dice))
    return (frames[:, order] * gain).clamp(0, 1), kinds
