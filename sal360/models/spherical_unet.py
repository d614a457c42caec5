"""Spherical U-Net (Zhang et al., ECCV 2018): crown kernels, and the map of the frame before.

The first network trained end to end for saliency in 360-degree video. Its kernels are crowns:
circles of taps around a point of the sphere, from 5.6 degrees at full resolution to the whole
sphere at the bottom. Chapter 07 builds the convolution, chapter 13 the network.

Source: Zhang, Xu, Yu and Gao, "Saliency detection in 360 videos", ECCV 2018, and its repository
xuyanyu-shh/Saliency-detection-in-360-video at commit 45073a9 (facts only; the code is our own).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sal360 import upstream
from sal360.models._unet import WIDTHS, RecurrentUNet
from sal360.models.base import Convention
from sal360.nn import CrownConv2d

CROWNS = (
    (math.pi / 32, (8, 16)),
    (math.pi / 16, (4, 8)),
    (math.pi / 4, (4, 8)),
    (math.pi, (8, 16)),
    (math.pi / 4, (4, 8)),
    (math.pi / 16, (4, 8)),
    (math.pi / 32, (4, 8)),
)
"""Radius in radians, and taps (circles, bearings), of ``conv1`` to ``conv7``."""


class SphericalUNet(RecurrentUNet):
    """The Spherical U-Net, of any width; 12,359,424 parameters at the published one.

    Either convention has the same parameters by the same names, so that weights load from one
    into the other. Corrected: :class:`sal360.nn.CrownConv2d`. Upstream:
    :func:`sal360.upstream.crown_conv2d`, with rows that come out several times too dark. A crown
    must hold two rows there, so the panorama needs 64 at least; the corrected one takes any size.

    Turned by a multiple of 8 columns, a panorama whose width is one too has its answer turned by
    as many, exactly, in either convention; by any other number only nearly, for pooling keeps
    every second column.

    Args:
        widths: channels of the seven convolutions, the last of them 1.
        convention: ``"corrected"`` or ``"upstream"``.
        pooling: ``"planar"``, as the published network has it, or ``"sphere"``: blocks that grow
            in width towards the poles (:class:`sal360.nn.SphereBlockMaxPool2d`; upstream:
            :func:`sal360.upstream.sphere_pool`, published but not used).
        padding: ``"sphere"``, or, upstream only, ``"0"``: zeros beyond the seam.
        input_size: ``(H, W)`` that frames are resized to.
    Raises:
        ValueError: arguments that cannot be used.

    >>> model = SphericalUNet(widths=(4, 4, 8, 8, 4, 4, 1)).eval()
    >>> model(torch.zeros(1, 3, 33, 66), torch.ones(1, 1, 33, 66)).shape
    torch.Size([1, 1, 33, 66])
    """

    # The map that goes in is the one five frames earlier: at 30 frames a second, 6 a second.
    rate: float | None = 6.0

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        convention: Convention = "corrected",
        pooling: Literal["planar", "sphere"] = "planar",
        padding: Literal["sphere", "0"] = "sphere",
        input_size: tuple[int, int] = (128, 256),
    ) -> None:
        if padding not in ("sphere", "0"):
            raise ValueError(f"padding: {padding!r}, wanted 'sphere' or '0'")
        if padding == "0" and convention == "corrected":
            raise ValueError("padding: '0', wanted 'sphere' (zeros are for convention='upstream')")
        self.padding: Literal["sphere", "0"] = padding
        super().__init__(widths, convention, pooling, input_size)

    def layer(self, k: int, inputs: int, outputs: int) -> nn.Module:
        """A crown convolution without bias."""
        radius, taps = CROWNS[k - 1]
        if self.convention == "corrected":
            return CrownConv2d(inputs, outputs, taps, radius, bias=False)
        return UpstreamCrownConv2d(inputs, outputs, taps, radius, self.padding)


class UpstreamCrownConv2d(nn.Module):
    """Weights of the published crown convolution, drawn as published."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: tuple[int, int],
        radius: float,
        padding: Literal["sphere", "0"],
    ) -> None:
        super().__init__()
        self.radius, self.padding = radius, padding
        bound = 1 / math.sqrt(inputs * math.prod(kernel_size))
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return upstream.crown_conv2d(x, self.weight, self.radius, self.padding)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, radius={self.radius:.4g}, padding={self.padding!r}"
