"""Small networks that differ in nothing but where their kernels look. Chapter 09."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sal360.experiments.recipe import KINDS, Recipe
from sal360.nn import CrownConv2d, RingConv2d, SphereConv2d, SpherePad2d, to_cube_padded
from sal360.projections import cube_to_erp, erp_to_cube


class Finder(nn.Module):
    """Four layers of one kind with ReLUs between: ``(B, 1, H, W)`` to logits of that shape.

    Args:
        kind: a key of :data:`KINDS`. recipe: sizes. widths: channels of the three hidden layers;
            :func:`equal_widths` unless given.
    """

    def __init__(self, kind: str, recipe: Recipe, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.kind, self.recipe = kind, recipe
        sizes = (1, *(widths or equal_widths(kind, recipe)), 1)
        self.layers = nn.ModuleList(_layer(kind, i, o, recipe) for i, o in pairwise(sizes))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of "a round spot is here", on the panorama."""
        if not self.kind.startswith("cube"):
            return self._stack(image)
        return self.from_faces(erp_to_cube(image, self.recipe.S))

    def from_faces(self, faces: Tensor) -> Tensor:
        """The same from ``(B, 6, 1, S, S)`` faces, for the cube's kinds."""
        answer = self._stack(faces.flatten(0, 1)).unflatten(0, (-1, 6))
        return cube_to_erp(answer, self.recipe.H, self.recipe.W)

    def _stack(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)

    def start(self, images: Tensor, seed: int) -> None:
        """Draw the weights, then scale each layer so that its answers spread by 1.

        Scaling by what a layer really answers treats all kinds alike, whatever their taps weigh.
        """
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            x = images
            if self.kind.startswith("cube"):
                x = erp_to_cube(images, self.recipe.S).flatten(0, 1)
            for layer in self.layers:
                for weight in layer.parameters():
                    noise = torch.randn(weight.shape, generator=draw)
                    weight.copy_(noise if weight.ndim > 1 else torch.zeros_like(noise))
                scale = 1 / layer(x).std()
                for weight in layer.parameters():
                    weight.mul_(scale)
                x = torch.relu(layer(x))


def _layer(kind: str, i: int, o: int, recipe: Recipe) -> nn.Module:
    if kind == "wrapped":
        return nn.Sequential(SpherePad2d(1), nn.Conv2d(i, o, 3))
    if kind == "tangent":
        return SphereConv2d(i, o, 3)
    if kind == "ring":
        return RingConv2d(i, o, mode="bilinear")
    if kind == "crown":
        return CrownConv2d(i, o, (3, 4), 1.5 * math.pi / recipe.H)
    if kind == "cube":
        return to_cube_padded(nn.Conv2d(i, o, 3, padding=1))
    if kind in ("planar", "cube, zeros"):
        return nn.Conv2d(i, o, 3, padding=1)
    raise ValueError(f"kind: {kind!r}, wanted one of {', '.join(KINDS)}")


def count(network: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in network.parameters())


def equal_widths(kind: str, recipe: Recipe) -> tuple[int, int, int]:
    """Channels of the hidden layers, so that every kind has about as many parameters.

    Nine taps get three times ``recipe.width``; the crown's twelve get whatever comes closest.
    """

    def total(widths: Sequence[int], taps: int) -> int:
        sizes = (1, *widths, 1)
        return sum(i * o * taps + o for i, o in pairwise(sizes))

    plain = (recipe.width,) * 3
    if kind != "crown":
        return plain
    near = range(recipe.width // 2, recipe.width + 1)
    wanted = total(plain, 9)
    return min(
        ((a, b, c) for a in near for b in near for c in near),
        key=lambda w: (abs(total(w, 12) - wanted), max(w) - min(w)),
    )
