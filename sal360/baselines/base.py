"""What every baseline shares, so that it can stand where a network stands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360.sphere import erp_directions, pixel_area

if TYPE_CHECKING:
    from sal360.models.base import Reading


class Baseline(nn.Module):
    """No window, no warm-up, maps at ``input_size``; see :class:`sal360.inference.ClipModel`."""

    input_size = (120, 240)
    rate: float | None = None
    length = 1
    warm_up = 0
    reading: Reading = "density"


class Prior(Baseline):
    """The same map for every frame; the picture is not looked at."""

    def density(self, H: int, W: int) -> Tensor:
        """``(H, W)`` float32 of mass 1."""
        raise NotImplementedError

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """One empty channel per frame."""
        for _ in frames:
            yield torch.zeros(1, *self.input_size)

    def forward(self, clip: Tensor) -> Tensor:
        """``(B, T, C, H, W)`` to a density ``(B, T, 1, H, W)``."""
        return self.density(*clip.shape[-2:]).to(clip).expand(*clip.shape[:2], 1, -1, -1)


def normalised(maps: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """Maps of mass 1 over the sphere.

    Args:
        maps: ``(..., H, W)``, none negative.
        otherwise: ``(H, W)`` density that stands in for a map of nothing; uniform if None.
    """
    H, W = maps.shape[-2:]
    area = pixel_area(H, W).to(maps)[:, None]
    mass = (maps * area).sum((-2, -1), keepdim=True)
    if otherwise is None:
        otherwise = torch.full((H, W), 1 / (4 * math.pi))
    return torch.where(mass > 1e-12, maps / mass.clamp_min(1e-12), otherwise.to(maps))


def beside(maps: Tensor, prior: Tensor, share: float) -> Tensor:
    """Densities made of maps and a share of a prior: nothing seen is no reason to rule it out.

    Args:
        maps: ``(..., H, W)``, none negative; one of nothing becomes the prior.
        prior: ``(H, W)`` density. share: of the prior, in [0, 1].
    """
    prior = prior.to(maps)
    return (1 - share) * normalised(maps, prior) + share * prior


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Blur on the sphere: every point becomes the same round blob, wherever it lies.

    Args:
        maps: ``(N, 1, H, W)``, none negative. sigma: radians, ``kappa = 1 / sigma^2`` of a von
            Mises-Fisher kernel (chapter 10).
    Returns:
        ``(N, 1, H, W)`` in the dtype of ``maps``, up to a common factor.
    """
    H, W = maps.shape[-2:]
    spectrum = _spectrum(H, W, sigma).to(maps.device)
    out = torch.einsum("ijk,njk->nik", spectrum, torch.fft.rfft(maps[:, 0].float()))
    return torch.fft.irfft(out, n=W)[:, None].clamp_min(0).to(maps.dtype)


@lru_cache(maxsize=4)
def _spectrum(H: int, W: int, sigma: float) -> Tensor:
    """``(H, H, W // 2 + 1)``: how row j spreads over row i, as a function of the frequency.

    The kernel between two pixels depends on their rows and on the difference of their columns
    alone, so the blur is a circular convolution along longitude: a product after an FFT.
    """
    xyz = erp_directions(H, W)
    cosine = torch.einsum("id,jwd->ijw", xyz[:, W // 2], xyz.roll(-(W // 2), 1))
    kernel = torch.exp((cosine - 1) / sigma**2) * pixel_area(H, W)[None, :, None]
    return torch.fft.rfft(kernel).to(torch.complex64)
