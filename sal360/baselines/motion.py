"""Look where it moves: the oldest guess about attention in film."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.baselines.base import Baseline, beside, smooth
from sal360.baselines.priors import equator_density
from sal360.sphere import erp_directions, pixel_area


class _Change(Baseline):
    """What motion is told by: the absolute change of grey to the next frame."""

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """``(1, H, W)`` absolute change to the next frame; the last frame repeats."""
        import cv2

        before = change = None
        for frame in frames:
            small = cv2.resize(frame, self.input_size[::-1], interpolation=cv2.INTER_AREA)
            now = torch.from_numpy(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)).float()[None] / 255
            if before is not None:
                change = (now - before).abs()
                yield change
            before = now
        if before is not None:
            yield torch.zeros_like(before) if change is None else change


class Motion(_Change):
    """Where the grey value changes between frames, blurred on the sphere, plus the equator.

    The blur is a von Mises-Fisher kernel (the Gaussian of the sphere), so a moving thing makes
    the same blob at the pole as at the equator.
    """

    sigma_deg = 8.0
    equator_share = 0.25

    def forward(self, clip: Tensor) -> Tensor:
        """Change ``(B, T, 1, H, W)`` to a density of the same shape."""
        blurred = smooth(clip.flatten(0, 1), math.radians(self.sigma_deg)).reshape(clip.shape)
        return beside(blurred, equator_density(*clip.shape[-2:]), self.equator_share)


class CentreOfMotion(_Change):
    """One blob where the change has its centre: as if there were one thing to follow.

    The centre is the mean direction of all changes, each weighted by its pixel's area; change
    on all sides has none, and the blob widens to the whole sphere as the mean arrow gets short:
    its ``kappa`` is that of a von Mises-Fisher density with this mean length (Banerjee et al.,
    2005), at most that of :attr:`sigma_deg`.
    """

    sigma_deg = 15.0
    equator_share = 0.25

    def forward(self, clip: Tensor) -> Tensor:
        """Change ``(B, T, 1, H, W)`` to a density of the same shape."""
        H, W = clip.shape[-2:]
        rays = erp_directions(H, W).to(clip)
        weight = clip[:, :, 0] * pixel_area(H, W).to(clip)[:, None]
        arrow = torch.einsum("bthw,hwd->btd", weight, rays)
        arrow = arrow / weight.sum((-2, -1)).clamp_min(1e-12)[..., None]
        length = torch.linalg.vector_norm(arrow, dim=-1).clamp_max(1 - 1e-6)
        kappa = length * (3 - length**2) / (1 - length**2)
        kappa = kappa.clamp_max(math.radians(self.sigma_deg) ** -2)[..., None, None]
        centre = arrow / length.clamp_min(1e-6)[..., None]
        cosine = torch.einsum("btd,hwd->bthw", centre, rays)
        blob = torch.exp(kappa * (cosine - 1))[:, :, None]
        return beside(blob, equator_density(H, W), self.equator_share)
