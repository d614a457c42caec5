"""Predictors that know almost nothing, and are hard to beat.

Each is a module that can be used wherever a network can. Chapter 12 scores them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360._check import in_range
from sal360.sphere import erp_directions, pixel_area


def equator_density(H: int, W: int, sigma_deg: float = 20.0) -> Tensor:
    """A Gaussian band around the horizon, as a density with respect to solid angle.

    Args:
        H, W: map size. sigma_deg: standard deviation in latitude, degrees. 20 is a round
            figure near the spread of head directions; chapter 12 fits it.
    Returns:
        ``(H, W)`` float32; ``sum(map * pixel_area) = 1``.
    """
    sigma = math.radians(in_range(sigma_deg, "sigma_deg", 0.0, math.inf, "degrees"))
    area = pixel_area(H, W)
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    band = torch.exp(-0.5 * (lat / sigma) ** 2)
    return (band / (band @ area * W))[:, None].expand(H, W).float().contiguous()


class _Baseline(nn.Module):
    """What every baseline shares: no window, no warm-up, maps at ``input_size``."""

    input_size = (120, 240)
    rate: float | None = None
    length = 1
    warm_up = 0


class Equator(_Baseline):
    """:func:`equator_density` for every frame."""

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """One empty channel per frame: the picture is not looked at."""
        for _ in frames:
            yield torch.zeros(1, *self.input_size)

    def forward(self, clip: Tensor) -> Tensor:
        """``(B, T, 1, H, W)`` to a density of the same shape."""
        return equator_density(*clip.shape[-2:]).to(clip).expand(*clip.shape[:2], 1, -1, -1)


class Motion(_Baseline):
    """Where the grey value changes between frames, blurred on the sphere, plus the equator.

    The blur is a von Mises-Fisher kernel (the Gaussian of the sphere), so a moving thing makes
    the same blob at the pole as at the equator.
    """

    sigma_deg = 8.0
    equator_share = 0.25

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

    def forward(self, clip: Tensor) -> Tensor:
        """Change ``(B, T, 1, H, W)`` to a density of the same shape."""
        H, W = clip.shape[-2:]
        area = pixel_area(H, W).to(clip)[:, None]
        blurred = _blur(clip.flatten(0, 1), math.radians(self.sigma_deg))
        mass = (blurred * area).sum((-2, -1), keepdim=True)
        prior = equator_density(H, W).to(clip)
        moving = torch.where(mass > 1e-12, blurred / mass.clamp_min(1e-12), prior)
        mixed = (1 - self.equator_share) * moving + self.equator_share * prior
        return mixed.reshape(clip.shape)


@lru_cache(maxsize=4)
def _blur_spectrum(H: int, W: int, sigma: float) -> Tensor:
    """``(H, H, W // 2 + 1)``: how row j spreads over row i, as a function of the frequency.

    The kernel between two pixels depends on their rows and on the difference of their columns
    alone, so the blur is a circular convolution along longitude: a product after an FFT.
    """
    xyz = erp_directions(H, W)
    cosine = torch.einsum("id,jwd->ijw", xyz[:, W // 2], xyz.roll(-(W // 2), 1))
    kernel = torch.exp((cosine - 1) / sigma**2) * pixel_area(H, W)[None, :, None]
    return torch.fft.rfft(kernel).to(torch.complex64)


def _blur(maps: Tensor, sigma: float) -> Tensor:
    """``(N, 1, H, W)`` convolved with a von Mises-Fisher kernel of ``sigma`` radians."""
    H, W = maps.shape[-2:]
    spectrum = _blur_spectrum(H, W, sigma).to(maps.device)
    out = torch.einsum("ijk,njk->nik", spectrum, torch.fft.rfft(maps[:, 0].float()))
    return torch.fft.irfft(out, n=W)[:, None].clamp_min(0).to(maps.dtype)
