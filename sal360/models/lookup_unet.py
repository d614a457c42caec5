"""The look-up U-Net (Vo et al., GTSD 2020): 3x3 kernels whose neighbours stand in a table.

The Spherical U-Net is slow because it makes a new kernel for every row. Vo et al. leave the
kernel alone and look its nine pixels up: a table says which eight pixels are the neighbours of
each, on a ring around it, and everything else is an ordinary convolution. Chapter 05 finds the
table, which was never published, chapter 07 the convolution, chapter 13 the network.

Source: repository vhchuong/Saliency-prediction-for-360-degree-video at commit 35d510d (facts
only; the code is our own).
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
from sal360.nn import RingConv2d


class LookupUNet(RecurrentUNet):
    """The look-up U-Net, of any width; 1,701,889 parameters at the published one.

    Either convention has the same parameters by the same names. Corrected:
    :class:`sal360.nn.RingConv2d`, which reads the ring between pixels. Upstream:
    :func:`sal360.upstream.lookup_conv2d` with whole pixels on a lattice that holds the seam
    twice. There a turn of the panorama is none of the answer, by any number of columns; the
    corrected one turns with the panorama exactly by multiples of 8 columns if its width is one.

    A convolution that a batch norm follows has no use for its bias, which the norm takes away
    again: in training mode the gradients of ``conv1.bias`` to ``conv6.bias`` are zero but for
    rounding. They are there because the published network has them.

    Args:
        widths: channels of the seven convolutions, the last of them 1.
        convention: ``"corrected"`` or ``"upstream"``.
        pooling: ``"planar"`` as published, or ``"sphere"``, see
            :class:`~sal360.models.SphericalUNet`.
        input_size: ``(H, W)`` that frames are resized to.
    Attributes:
        tables: upstream only: ``{(H, W): table}`` to use instead of
            :func:`sal360.upstream.ring_table` at a size. Empty; not in the state dict.
    Raises:
        ValueError: arguments that cannot be used.

    >>> model = LookupUNet(widths=(4, 4, 8, 8, 4, 4, 1)).eval()
    >>> model(torch.zeros(1, 3, 33, 66), torch.ones(1, 1, 33, 66)).shape
    torch.Size([1, 1, 33, 66])
    """

    # Its training follows that of the Spherical U-Net: the map of five frames earlier goes in.
    rate: float | None = 6.0

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        convention: Convention = "corrected",
        pooling: Literal["planar", "sphere"] = "planar",
        input_size: tuple[int, int] = (240, 480),
    ) -> None:
        self.tables: dict[tuple[int, int], Tensor] = {}
        super().__init__(widths, convention, pooling, input_size)

    def layer(self, k: int, inputs: int, outputs: int) -> nn.Module:
        """A convolution of nine looked-up pixels, with bias."""
        if self.convention == "corrected":
            return RingConv2d(inputs, outputs, mode="bilinear")
        return UpstreamLookupConv2d(inputs, outputs, self.tables)


class UpstreamLookupConv2d(nn.Module):
    """Weights of the published look-up convolution, drawn as published."""

    def __init__(self, inputs: int, outputs: int, tables: dict[tuple[int, int], Tensor]) -> None:
        super().__init__()
        self.tables = tables
        bound = 1 / math.sqrt(9 * inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        table = self.tables.get((x.shape[-2], x.shape[-1]))
        return upstream.lookup_conv2d(x, self.weight, self.bias, table)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"
