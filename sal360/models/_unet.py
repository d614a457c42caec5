"""The U-Net of Zhang et al. and of Vo et al.: seven convolutions, and what was fed back.

Both networks are one: three steps down, one at the bottom, three up, each with the features of
its size from the way down beside it, and the picture goes in together with the map of the frame
before. They differ in where a kernel looks, which is all a subclass says. Chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360 import upstream
from sal360._check import as_image, as_size, positive_int
from sal360._tables import untraced
from sal360.models.base import Convention, FrameModel, Reading, as_convention
from sal360.nn.windows import SphereBlockMaxPool2d

WIDTHS = (64, 128, 256, 256, 128, 64, 1)
"""Channels of the seven answers, as published by both."""
PUBLISHED_SCALE = 10.0
"""Both trainings multiply maps by this, those that go in and those that are wanted."""


class RecurrentUNet(FrameModel):
    """Seven convolutions ``conv1`` to ``conv7``, the first six with batch norm and ReLU.

    A subclass makes the convolutions in :meth:`layer`. Sizes need not be even: pooling rounds
    up (an odd last row or column is pooled by itself), and what doubling made too large is
    cropped to the features it is put beside.

    **What goes in and out.** Corrected: relative densities, whose mean over the sphere is 1; the
    map of the frame before is the network's own, cut off at 0 and scaled to that mean, and
    before the first frame the uniform one. A fresh network answers about 1 everywhere, so that
    training starts at the score of the uniform map. Upstream: ten times the map that
    :func:`sal360.upstream.fixation_map` makes; before the first frame, that of one viewer who
    looks straight ahead; its own answer goes back as it is. The published evaluation gave the
    true map before, here too (``rollout(clip, previous=truth)`` does).
    """

    reading: Reading = "positive"
    extra: Literal["previous", "motion"] = "previous"
    conv7: nn.Module

    def __init__(
        self,
        widths: Sequence[int],
        convention: Convention,
        pooling: Literal["planar", "sphere"],
        input_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.convention = as_convention(convention)
        if not isinstance(widths, Sequence):
            raise TypeError(f"widths: {widths!r}, wanted seven, the last of them 1")
        self.widths = tuple(positive_int(width, "widths") for width in widths)
        if len(self.widths) != 7 or self.widths[6] != 1:
            raise ValueError(f"widths: {widths}, wanted seven, the last of them 1")
        if pooling not in ("planar", "sphere"):
            raise ValueError(f"pooling: {pooling!r}, wanted 'planar' or 'sphere'")
        self.pooling = pooling
        self.input_size = as_size(input_size, "input_size")
        w = self.widths
        inputs = (4, w[0], w[1], w[2], w[3] + w[2], w[4] + w[1], w[5] + w[0])
        for k in range(1, 8):
            setattr(self, f"conv{k}", self.layer(k, inputs[k - 1], w[k - 1]))
            if k < 7:
                setattr(self, f"bn{k}", nn.BatchNorm2d(w[k - 1]))
        if self.convention == "corrected":
            self._answer_one()

    def layer(self, k: int, inputs: int, outputs: int) -> nn.Module:
        """The convolution ``conv<k>``."""
        raise NotImplementedError

    def forward(self, image: Tensor, extra: Tensor) -> Tensor:
        """RGB ``(B, 3, H, W)`` in [0, 1] and the map before ``(B, 1, H, W)`` to the next one."""
        image, extra = as_image(image, "image"), as_image(extra, "extra")
        if image.shape[1] != 3 or extra.shape[1] != 1 or image.shape[-2:] != extra.shape[-2:]:
            found = f"shapes {tuple(image.shape)} and {tuple(extra.shape)}"
            raise ValueError(f"image, extra: {found}, wanted (B, 3, H, W) and (B, 1, H, W)")
        seen1 = self._block(1, torch.cat((image, extra), 1))
        seen2 = self._block(2, self._pooled(seen1))
        seen3 = self._block(3, self._pooled(seen2))
        x = self._block(4, self._pooled(seen3))
        x = self._block(5, _beside(x, seen3))
        x = self._block(6, _beside(x, seen2))
        out: Tensor = self.conv7(_beside(x, seen1))
        return out

    def _block(self, k: int, x: Tensor) -> Tensor:
        out: Tensor = getattr(self, f"bn{k}")(getattr(self, f"conv{k}")(x))
        return F.relu(out)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pooling == "planar":
            return F.max_pool2d(x, 2, ceil_mode=True)
        if self.convention == "upstream":
            return upstream.sphere_pool(x)
        return SphereBlockMaxPool2d()(x)

    def first(self, image: Tensor) -> Tensor:
        """What stands for the map before the first frame, ``(B, 1, H, W)``."""
        if self.convention == "corrected":
            return super().first(image)
        ahead = _one_viewer_ahead(*image.shape[-2:]).to(image)
        return ahead.expand_as(image[:, :1])

    def feedback(self, raw: Tensor) -> Tensor:
        """Its own answer as the next frame's extra channel; upstream: as it is."""
        return super().feedback(raw) if self.convention == "corrected" else raw

    @torch.no_grad()
    def _answer_one(self) -> None:
        """Have a fresh network answer about 1, with a tenth of the usual scatter.

        What ``conv7`` reads are positive parts of unit noise, whose mean is ``1 / sqrt(2 pi)``.
        """
        last = dict(self.conv7.named_parameters())
        last["weight"].mul_(0.1)
        if "bias" in last:
            last["bias"].fill_(1)
        else:
            last["weight"].add_(math.sqrt(2 * math.pi) / last["weight"].shape[1])


def _beside(x: Tensor, seen: Tensor) -> Tensor:
    """Double ``x`` by repetition, crop it to the size of ``seen`` and put the two together."""
    grown = x.repeat_interleave(2, -2).repeat_interleave(2, -1)
    return torch.cat((grown[..., : seen.shape[-2], : seen.shape[-1]], seen), 1)


@untraced
@lru_cache(maxsize=4)
def _one_viewer_ahead(H: int, W: int) -> Tensor:
    return PUBLISHED_SCALE * upstream.fixation_map([[0.5, 0.5]], H, W)
