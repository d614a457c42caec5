"""What every network must stand: gradients that arrive, and a panorama that may turn.

Two one-line tests that find what no loss curve shows. A prediction that leaves the graph before
the loss trains nothing and fails nowhere (chapter 13); a network that was padded with zeros sees
the seam that no viewer sees (chapter 06).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sal360.models.base import FrameModel
from sal360.sphere import pixel_area


class DeadParametersError(AssertionError):
    """Parameters that no gradient reaches; ``names`` are theirs."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"no gradient reaches {len(names)} parameters: {', '.join(names)}")
        self.names = names


def no_dead_parameters(
    model: nn.Module, *inputs: Any, loss: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Raise unless every parameter gets a gradient that is not zero.

    Gradients that the model holds are left as they are; batch norms in training mode do update
    their statistics, as any call does.

    Args:
        model: as it will be trained; parameters with ``requires_grad=False`` are not asked.
        inputs: what it is called with.
        loss: of its answer, a scalar. By default the square of the answer's difference from a
            fixed pattern, which no symmetry of a network cancels.
    Raises:
        DeadParametersError: with the ``names`` of the parameters that get no gradient, or zeros.
        FloatingPointError: a gradient of NaN or infinity.
        ValueError: nothing to ask. TypeError: an answer that is no tensor, and no ``loss``.
    """
    asked = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not asked:
        raise ValueError("model: no parameter that requires a gradient, wanted at least one")
    with torch.enable_grad():
        answer = model(*inputs)
        if loss is None and not isinstance(answer, Tensor):
            found = type(answer).__name__
            raise TypeError(
                f"model: answers a {found}, wanted a tensor, or a loss to make one of it"
            )
        value = loss(answer) if loss else (answer - _pattern(answer)).square().sum()
    if not value.requires_grad:
        raise DeadParametersError(list(asked))
    grads = torch.autograd.grad(value, list(asked.values()), allow_unused=True)
    dead = [
        name
        for name, grad in zip(asked, grads, strict=True)
        if grad is None or not bool((grad != 0).any())
    ]
    if dead:
        raise DeadParametersError(dead)
    wild = [n for n, g in zip(asked, grads, strict=True) if not bool(g.isfinite().all())]
    if wild:
        raise FloatingPointError(
            f"gradient not finite in {len(wild)} parameters: {', '.join(wild)}"
        )


def _pattern(answer: Tensor) -> Tensor:
    """Numbers in (-1, 1) that repeat nowhere: the sine of a count with an irrational step."""
    count = torch.arange(answer.numel(), dtype=torch.float64)
    return torch.sin(count * math.sqrt(5)).reshape(answer.shape).to(answer)


def raw_maps(model: nn.Module, clip: Tensor) -> Tensor:
    """A clip ``(B, T, C, H, W)`` of ``model.features`` to raw maps ``(B, T, 1, H, W)``.

    A frame model is rolled out in a closed loop, a clip model called.
    """
    maps: Tensor = model.rollout(clip) if isinstance(model, FrameModel) else model(clip)
    return maps


def channels(model: nn.Module) -> int:
    """How many channels a frame of ``model.features`` has."""
    if isinstance(model, FrameModel):
        return 4 if model.extra == "motion" else 3
    found = getattr(model, "in_channels", 3)
    return int(found)


@torch.no_grad()
def yaw_error(
    model: nn.Module,
    size: tuple[int, int] = (64, 128),
    shift: int | None = None,
    frames: int = 2,
    seed: int = 0,
) -> float:
    """How far *turn, then predict* is from *predict, then turn*, about the vertical axis.

    ``|model(roll x) - roll(model x)| / |model x - its mean|``, rms over the sphere's area, of
    noise that is smooth enough for every network to see, in double precision. 0 is perfect; 1
    means that it matters as much where the panorama was cut open as what is in it. The network
    alone is asked, not the flow or the resizing before it: one that wants the map before is
    given noise that turns as well.

    Args:
        model: one of :data:`sal360.models.NETWORKS`; a copy in evaluation mode is asked.
        size: ``(H, W)`` of the panoramas. shift: columns; a quarter of ``W`` unless given.
        frames: of the clip. seed: of the noise.
    """
    W = size[1]
    shift = W // 4 if shift is None else shift
    twin = copy.deepcopy(model).double().cpu().eval()
    source = torch.Generator().manual_seed(seed)
    clip = smooth_noise(source, (1, frames, channels(model), *size))
    before = 2 * smooth_noise(source, (1, frames, 1, *size))

    def maps(turn: int) -> Tensor:
        rolled = clip.roll(turn, -1)
        if isinstance(twin, FrameModel):
            own = before.roll(turn, -1) if twin.extra == "previous" else None
            return twin.rollout(rolled, own)
        return raw_maps(twin, rolled)

    still = maps(0)
    off = maps(shift) - still.roll(shift, -1)
    area = (pixel_area(*size) / (4 * math.pi))[:, None]

    def rms(x: Tensor) -> float:
        return float((x.square() * area).sum((-2, -1)).mean().sqrt())

    centred = still - (still * area).sum((-2, -1), keepdim=True)
    return rms(off) / rms(centred) if rms(off) > 0 else 0.0


@torch.no_grad()
def settle(model: nn.Module, size: tuple[int, int] = (64, 128), seed: int = 0) -> nn.Module:
    """Give a fresh network's batch norms the statistics of smooth noise, and return it.

    Untouched they pass on signals that grow fainter from layer to layer, and a network without
    training then shows little of what its depths do. The mode is left as it was.

    Args:
        model: changed in place; networks without batch norms are not.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not norms:
        return model
    training = model.training
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    clip = smooth_noise(torch.Generator().manual_seed(seed), (1, 2, channels(model), *size))
    raw_maps(model.train(), clip.to(next(model.parameters())))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model.train(training)


def smooth_noise(source: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Noise in [0, 1] without an edge at the seam: each frame a few waves of random phase."""
    *lead, H, W = shape
    down = torch.arange(H) / H
    along = torch.arange(W) / W
    waves = 8
    phase = torch.rand(*lead, waves, 1, 1, generator=source) * 2 * math.pi
    across = torch.randint(-4, 5, (*lead, waves, 1, 1), generator=source)
    fall = torch.rand(*lead, waves, 1, 1, generator=source) * 6
    angle = 2 * math.pi * (across * along + fall * down[:, None]) + phase
    return (0.5 + torch.sin(angle).mean(-3)).clamp(0, 1).double()
