"""Pooling on the sphere: the greatest of what a kernel sees, and means weighted by area."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360._check import as_image, one_for_both, positive_int
from sal360._shares import shares_of_rows
from sal360._tables import constant
from sal360.nn.reads import Reads, out_size, reads_of
from sal360.nn.sampled import read
from sal360.nn.sphere_conv import in_blocks, tangent
from sal360.resampling import computing_dtype


class SphereMaxPool2d(nn.Module):
    """The maximum over the taps of a tangent kernel, read between pixels. Used in chapter 14.

    Chapter 05 derives the taps, chapter 03 how they are read.

    Args:
        kernel_size: odd. stride: kernels stand on rows and columns 0, stride, 2 stride, ...
        dilation: pixels between taps, at the equator. Pairs of numbers have to be equal.
        centred: kernels stand in the middle of blocks of ``stride`` x ``stride`` pixels instead,
            where the pixels of a panorama with ``H / stride`` rows have their centres: north
            and south are alike then, and a block enlarged again lies where it was.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 2,
        dilation: int | tuple[int, int] = 1,
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = one_for_both(kernel_size, "kernel_size")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: {kernel_size}, wanted an odd number")
        self.stride = one_for_both(stride, "stride")
        self.dilation = one_for_both(dilation, "dilation")
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, ceil(H / stride), ceil(W / stride))``."""
        x = as_image(x, "x", least=0)
        (H, W), exact, taps = x.shape[-2:], computing_dtype(x), self.kernel_size**2
        looks = self.kernel_size, self.stride, self.dilation, self.centred
        reads, size = self._tables(H, W, exact, x.device, *looks)
        if x.is_cuda and len(x):  # all images at once: memory is there, and launches are what costs
            from sal360.nn import sampled_cuda

            samples = sampled_cuda.read(x.flatten(2).transpose(1, 2), reads)
            top = samples.unflatten(1, (-1, taps)).amax(2)
            return top.transpose(1, 2).unflatten(2, size)
        pixels = x.to(exact).flatten(2).transpose(1, 2)
        tops = [read(one, reads).unflatten(0, (-1, taps)).amax(1) for one in pixels.unbind()]
        top = torch.stack(tops) if tops else pixels[:, :1].expand(-1, math.prod(size), -1)
        return top.transpose(1, 2).unflatten(2, size).to(x.dtype)

    @constant
    def _tables(
        self, H: int, W: int, dtype: torch.dtype, device: torch.device, *_: Any
    ) -> tuple[Reads, tuple[int, int]]:
        """Where the kernels look, and how many stand in rows and columns; the last arguments as
        for :class:`~sal360.nn.PatternConv2d`."""
        size, made = (self.kernel_size, self.kernel_size), in_blocks if self.centred else tangent
        pattern = made(H, W, size, self.dilation, self.stride)
        return reads_of(pattern, "bilinear", dtype, device), out_size(pattern)

    def extra_repr(self) -> str:
        text = f"{self.kernel_size}, stride={self.stride}, dilation={self.dilation}"
        return text + ", centred=True" * self.centred


class SphereAvgPool2d(nn.Module):
    """Means over blocks of pixels, each pixel weighted by its solid angle.

    A block's answer is ``sum(x * pixel_area) / sum(pixel_area)`` over its pixels, with the areas
    of chapter 02. So it keeps integrals: ``sum(out * area of its block)`` is ``sum(x *
    pixel_area)``. An ordinary average pool is up to twice too fond of the row nearer to a pole.
    Blocks at the lower and right edge are smaller where the size is no multiple of
    ``kernel_size``.

    Args:
        kernel_size: rows and columns of a block, or a pair.
    """

    def __init__(self, kernel_size: int | tuple[int, int] = 2) -> None:
        super().__init__()
        size = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * 2
        if len(size) != 2:
            raise ValueError(f"kernel_size: {kernel_size!r}, wanted a number or two")
        self.kernel_size = tuple(positive_int(k, "kernel_size") for k in size)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, ceil(H / rows), ceil(W / columns))``."""
        x = as_image(x, "x", least=0)
        H, W = x.shape[-2:]
        exact = x.to(computing_dtype(x))
        area = shares_of_rows(H, W, exact.dtype, x.device) * (H * W)
        block = (min(self.kernel_size[0], H), min(self.kernel_size[1], W))
        total = F.avg_pool2d(exact * area, block, ceil_mode=True)
        weight = F.avg_pool2d(area.expand(1, 1, H, W), block, ceil_mode=True)
        return (total / weight).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}"
