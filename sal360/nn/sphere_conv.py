"""Convolutions that look the same everywhere on the sphere: tangent, crown and ring kernels.

Each layer is a pattern (:mod:`sal360.patterns`, chapter 05) plus weights, run by
:func:`sal360.nn.sampled.sampled_conv2d`. A layer does not know the size of its panorama before
it sees one; patterns and tables are made at the first call for a size and shared by all layers
that ask for the same. None of it is in the state dict. Chapter 07 builds all three by hand.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from sal360._check import as_image, in_range, one_for_both, positive_int
from sal360._tables import constant, untraced
from sal360.nn.reads import Reads, out_size, reads_of
from sal360.nn.sampled import check_alike, convolve, products_first
from sal360.nn.shared import shared
from sal360.patterns import Pattern, crown_pattern, ring_pattern, tangent_pattern
from sal360.resampling import MODES, Mode, computing_dtype
from sal360.sphere import lonlat_to_xyz, rotation_matrix, xyz_to_lonlat


@shared
def tangent(H: int, W: int, kernel_size: tuple[int, int], dilation: int, stride: int) -> Pattern:
    """A tangent pattern."""
    return tangent_pattern(H, W, kernel_size, dilation, stride)


@shared
def in_blocks(H: int, W: int, kernel_size: tuple[int, int], dilation: int, stride: int) -> Pattern:
    """The tangent pattern with every kernel moved to the middle of its block of pixels."""
    pattern = tangent(H, W, kernel_size, dilation, stride)
    (kh, kw), step = kernel_size, dilation * math.pi / H
    up = (kh // 2 - torch.arange(kh, dtype=torch.float64)) * step
    right = (torch.arange(kw, dtype=torch.float64) - kw // 2) * (dilation * 2 * math.pi / W)
    taps = lonlat_to_xyz(right, up[:, None]).reshape(-1, 3)
    middle = (torch.arange(0, H, stride, dtype=torch.float64) + stride / 2).clamp_max(H)
    lon, lat = xyz_to_lonlat(taps @ rotation_matrix(0.0, (0.5 - middle / H) * math.pi).mT)
    moved = replace(pattern, name=f"{pattern.name}, in blocks", lat=lat, lon=lon)
    return moved.shifted((stride - 1) * math.pi / W)


@shared
def ring(H: int, W: int, radius: float | None, stride: int) -> Pattern:
    """A ring pattern."""
    return ring_pattern(H, W, radius, stride)


@shared
def crown_places(
    H: int, W: int, kernel_size: tuple[int, int], radius: float, stride: int
) -> Pattern:
    """The crown's different places: its centre, its circles, and the far pole if it has one."""
    full = crown_pattern(H, W, kernel_size, radius, stride)
    Kt, Kp = kernel_size
    places = torch.arange(Kt * Kp).view(Kt, Kp)
    last = Kt - 1 if Kt > 1 and radius == math.pi else Kt
    keep = torch.cat((places[:1, 0], places[1:last].flatten(), places[last:, 0]))
    lat, lon = full.lat[:, keep], full.lon[:, keep]
    return Pattern(full.name, H, W, (len(keep),), lat, lon, stride)


def _cap_shares(Kt: int, Kp: int, radius: float) -> Tensor:
    """``(Kt, Kp)`` shares of a cap's area, float64."""
    if Kt == 1:
        return torch.full((1, Kp), 1 / Kp, dtype=torch.float64)
    radius = max(radius, 1e-100)  # shares are a plane's long before, and squares would be 0
    step = radius / (Kt - 1)
    edges = (torch.arange(Kt + 1, dtype=torch.float64) - 0.5) * step
    edges = edges.clamp(0, radius)
    # cos a - cos b without cancellation, for caps of a thousandth of a degree
    half, middle = edges.diff() / 2, (edges[1:] + edges[:-1]) / 2
    area = torch.sin(half) * torch.sin(middle)
    return (area / area.sum() / Kp)[:, None].expand(Kt, Kp).contiguous()


@untraced
@lru_cache(maxsize=64)
def _cap_shares_at(
    Kt: int, Kp: int, radius: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return _cap_shares(Kt, Kp, radius).flatten().to(device, dtype)


class PatternConv2d(nn.Module):
    """A convolution whose kernel looks where a pattern says; the base of those below.

    Subclasses say :meth:`pattern`. What every one of them gives: kernels that cross the seam and
    the poles, yaw that commutes but for rounding (by whole columns; with a stride that divides
    ``W``, by multiples of it), gradients that are the exact adjoint, any ``H`` and ``W``.
    ``weight`` is drawn so that the output of independent unit noise has the variance that
    ``torch.nn.Conv2d`` would give it.

    Args:
        in_channels, out_channels, stride, bias, groups: as in ``torch.nn.Conv2d``; kernels stand
            on rows and columns 0, stride, 2 stride, ..., and a pair of strides has to be equal.
        kernel_size: shape of the kernel, ``(rows, columns)`` or ``(circles, bearings)``.
        mode: of reading between pixels. ``"bilinear"`` reads 4 pixels a tap and adds up to an
            eighth of a second difference to what it reads: a Laplacian's answers before and
            after a tilt then differ by 4 %, by up to 6 % on the smoothest fields.
            ``"bicubic"`` reads 16, and they differ by a thousandth (chapter 06). ``"nearest"``
            reads 1.
    """

    dilation = 1
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: int | tuple[int, int] = 1,
        bias: bool = True,
        groups: int = 1,
        mode: Mode = "bilinear",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = positive_int(in_channels, "in_channels")
        self.out_channels = positive_int(out_channels, "out_channels")
        self.groups = positive_int(groups, "groups")
        for name, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if count % groups:
                raise ValueError(f"groups: {groups}, wanted a divisor of {name}, {count}")
        if mode not in MODES:
            raise ValueError(f"mode: {mode!r}, wanted one of {', '.join(map(repr, MODES))}")
        self.kernel_size = kernel_size
        self.stride = one_for_both(stride, "stride")
        self.mode: Mode = mode
        shape = (out_channels, in_channels // groups, *kernel_size)
        if not isinstance(bias, bool):
            raise TypeError(f"bias: {bias!r}, wanted True or False (no padding is asked for)")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype: {dtype}, wanted floating")
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        own = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", own)
        self.reset_parameters()

    def pattern(self, H: int, W: int) -> Pattern:
        """Where the kernels look on an ``H x W`` panorama."""
        raise NotImplementedError

    def tap_weights(self) -> Tensor | None:
        """``kernel_size`` float64 factors of the taps that are not learned; None if all are 1."""
        return None

    def reset_parameters(self) -> None:
        """Draw weight and bias again."""
        shares = self.tap_weights()
        energy = math.prod(self.kernel_size) if shares is None else float(shares.square().sum())
        bound = 1 / math.sqrt(self.in_channels // self.groups * energy)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            fan_in = self.in_channels // self.groups * math.prod(self.kernel_size)
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def kernel(self) -> Tensor:
        """The weights as they are applied, ``(O, I / groups, K)`` for the pattern's K taps."""
        weight = self.weight.flatten(2)
        shares = self._shares()
        return weight if shares is None else weight * shares

    def _shares(self) -> Tensor | None:
        """:meth:`tap_weights` in a row, where the weights are."""
        shares = self.tap_weights()
        return None if shares is None else shares.flatten().to(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, I, H, W)`` to ``(B, O, ceil(H / stride), ceil(W / stride))``."""
        x = as_image(x, "x", least=0)
        if x.shape[1] != self.in_channels:
            raise ValueError(f"x: {x.shape[1]} channels, wanted {self.in_channels}")
        check_alike(x, self.weight, self.bias)
        H, W = x.shape[-2:]
        looks = self.mode, self.stride, self.dilation, self.kernel_size
        reads, size, first = self._tables(H, W, computing_dtype(x), x.device, *looks)
        return convolve(x, self.kernel(), reads, size, self.bias, self.groups, first)

    @constant
    def _tables(
        self, H: int, W: int, dtype: torch.dtype, device: torch.device, *_: Any
    ) -> tuple[Reads, tuple[int, int], bool]:
        """What :func:`~sal360.nn.sampled.convolve` wants to know of the pattern; the last
        arguments are there so that a compiled program notices when they change."""
        pattern = self.pattern(H, W)
        first = products_first(pattern, self.in_channels, self.out_channels, self.groups)
        return reads_of(pattern, self.mode, dtype, device, first), out_size(pattern), first

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        parts += [f"stride={self.stride}"] * (self.stride > 1)
        parts += [f"groups={self.groups}"] * (self.groups > 1)
        parts += ["bias=False"] * (self.bias is None)
        parts += [f"mode={self.mode!r}"] * (self.mode != "bilinear")
        return ", ".join(parts)


class SphereConv2d(PatternConv2d):
    """The k x k convolution with tangent kernels: the drop-in twin of ``torch.nn.Conv2d``.

    At the equator of a panorama with ``W = 2 H`` it is an ordinary convolution; at any other
    latitude it is the same kernel, turned there without deforming. Weights of a ``Conv2d`` of
    the same size load into it. Its answer lies channels last in memory, as the next layer wants
    it: ``y.reshape(B, -1)`` where an ordinary one's takes ``y.view(B, -1)``. After SphereNet
    (Coors et al., ECCV 2018), as in SST-Sal; :func:`sal360.upstream.sphere_conv2d` keeps the
    published faults. Chapter 07.

    Args:
        in_channels, out_channels, stride, bias, groups, mode: see :class:`PatternConv2d`.
        kernel_size: odd, or ``(rows, columns)``; ``weight`` is ``(O, I / groups, rows,
            columns)`` and row 0 looks up. dilation: pixels between taps, at the equator, alike
            for rows and columns.
    Raises:
        ValueError: in ``forward``, if the kernel reaches 90 degrees from its centre.

    >>> SphereConv2d(3, 8)(torch.zeros(1, 3, 15, 33)).shape
    torch.Size([1, 8, 15, 33])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        mode: Mode = "bilinear",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        size = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        if len(size) != 2 or any(positive_int(k, "kernel_size") % 2 == 0 for k in size):
            raise ValueError(f"kernel_size: {kernel_size}, wanted an odd number or two of them")
        self.dilation = one_for_both(dilation, "dilation")
        shape = (int(size[0]), int(size[1]))
        super().__init__(
            in_channels, out_channels, shape, stride, bias, groups, mode, device, dtype
        )

    def pattern(self, H: int, W: int) -> Pattern:
        """Tangent kernels."""
        return tangent(H, W, self.kernel_size, self.dilation, self.stride)


class CrownConv2d(PatternConv2d):
    """Taps on circles around the centre, weighted by the area they stand for.

    After the spherical crown convolution of Zhang et al. (ECCV 2018), with its faults repaired:
    bearings are half open (all ``Kp`` differ), poles are part of the crowns that hold them, the
    area carries its ``sin(theta)``. A kernel is a function on a cap of ``radius``: ``weight[...,
    v, u]`` is its value at distance ``radius v / (Kt - 1)`` and bearing ``2 pi u / Kp`` from
    south over east. The output is the mean over the cap of kernel times image, by quadrature:
    tap ``(v, u)`` counts with the share :meth:`tap_weights` of the cap's area; ones on ones
    give 1 in every row. It reads points: texture finer than the distance between taps is not
    seen (choose ``Kt`` and ``Kp`` so that they lie a pixel or two apart, or pool before).
    :func:`sal360.upstream.crown_conv2d` is the published one. Chapter 07.

    Args:
        in_channels, out_channels, stride, bias, groups, mode: see :class:`PatternConv2d`.
        kernel_size: ``(Kt, Kp)``: circles, the centre counted as one, and taps on each.
        radius: of the cap, radians, in (0, pi]; pi is the whole sphere. It may be smaller than
            a row: then the layer reads between neighbouring pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        radius: float,
        stride: int | tuple[int, int] = 1,
        bias: bool = True,
        groups: int = 1,
        mode: Mode = "bilinear",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(kernel_size, (tuple, list)) or len(kernel_size) != 2:
            raise ValueError(f"kernel_size: {kernel_size!r}, wanted (Kt, Kp)")
        Kt, Kp = (positive_int(k, "kernel_size") for k in kernel_size)
        self.radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
        super().__init__(
            in_channels, out_channels, (Kt, Kp), stride, bias, groups, mode, device, dtype
        )

    def pattern(self, H: int, W: int) -> Pattern:
        """Crown kernels, each place once (:meth:`kernel` adds up weights that share one)."""
        return crown_places(H, W, self.kernel_size, self.radius, self.stride)

    def tap_weights(self) -> Tensor:
        """``(Kt, Kp)`` shares of the cap's area; they sum to 1.

        Circle ``v`` stands for the distances nearer to it than to another circle: the ring
        between two angles ``a`` and ``b``, whose area is ``2 pi (cos a - cos b)``.
        """
        return _cap_shares(*self.kernel_size, self.radius)

    def _shares(self) -> Tensor:
        """On the weights' device, kept there: it would be copied at every call."""
        return self._shares_at(self.weight.dtype, self.weight.device)

    @constant
    def _shares_at(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _cap_shares_at(*self.kernel_size, self.radius, dtype, device)

    def kernel(self) -> Tensor:
        """Weights by place: the centre and, if ``radius`` is pi, the far pole stand once."""
        weight = super().kernel().unflatten(2, self.kernel_size)
        Kt = self.kernel_size[0]
        last = Kt - 1 if Kt > 1 and self.radius == math.pi else Kt
        parts = [weight[:, :, :1].sum(3), weight[:, :, 1:last].flatten(2)]
        parts += [weight[:, :, last:].sum(3)]
        return torch.cat(parts, dim=2)

    def extra_repr(self) -> str:
        return super().extra_repr() + f", radius={self.radius:.4g}"


class RingConv2d(PatternConv2d):
    """Eight neighbours on one circle, in the slots of a 3 x 3 kernel.

    What the neighbour table of Vo et al. (2020) rounds to whole pixels
    (:func:`sal360.upstream.ring_table`), read between pixels instead. Chapter 07.

    The circle leaves the lattice at every diagonal, so what bilinear reads blur depends on the
    latitude more than with :class:`SphereConv2d`: an isotropic Laplacian at 128 x 256 is off by
    .06 under a tilt of 90 degrees. It is read bicubically unless told otherwise, and off by
    .0008 (the benchmarks page).

    Args:
        in_channels, out_channels, stride, bias, groups, mode: see :class:`PatternConv2d`.
        radius: of the circle, radians, in (0, pi]; one row, ``pi / H``, unless given.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        radius: float | None = None,
        stride: int | tuple[int, int] = 1,
        bias: bool = True,
        groups: int = 1,
        mode: Mode = "bicubic",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if radius is not None:
            radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
        self.radius = radius
        super().__init__(
            in_channels, out_channels, (3, 3), stride, bias, groups, mode, device, dtype
        )

    def pattern(self, H: int, W: int) -> Pattern:
        """Ring kernels."""
        return ring(H, W, self.radius, self.stride)
