"""The rim of a padded cube: copies and sums of the cube's own texels, and their gradient.

Which texels, and with what weights, is said by who asks (:mod:`sal360.nn.cube`, or a published
way in ``sal360.upstream``); here the map is kept, applied and transposed. There are three ways to
apply it, which give the same numbers but for rounding: torch's operators, below; compiled, where
installing the package found a C compiler (:mod:`sal360.nn.rim_native`); and on a GPU
(:mod:`sal360.nn.rim_cuda`). Derived in chapter 08.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as are_functorch_transforms_active

from sal360._tables import untraced
from sal360.nn import rim_native
from sal360.nn.reads import Reads, reads_between
from sal360.resampling import SamplingTable, computing_dtype

Sides = tuple[int, int, int, int]


def rim_texels(S: int, padding: Sides) -> tuple[Tensor, Tensor, Tensor]:
    """The texels that padding adds: ``face, row, col``, each ``(n,)``, rows and columns of the
    unpadded face continued, so that -1 is the line above or to the left of it."""
    left, right, top, bottom = padding
    rows, cols = torch.arange(-top, S + bottom), torch.arange(-left, S + right)
    face, row, col = torch.meshgrid(torch.arange(6), rows, cols, indexing="ij")
    outside = (row < 0) | (row >= S) | (col < 0) | (col >= S)
    return face[outside], row[outside], col[outside]


@dataclass(frozen=True, eq=False)
class Rim:
    """What the rim of a padded cube is made of. A texel is ``face rows cols + row cols + col``.

    Attributes:
        S, padding: of the faces, and ``(left, right, top, bottom)``.
        take, put: ``(n,)`` texels of the cube, and of the padded cube to which they are copied.
        parts: ``(m,)`` texels of the cube of which the other texels of the rim are sums.
        mixed: ``(n',)`` those others. sums: the map from ``m`` rows to ``n'``.
    """

    S: int
    padding: Sides
    take: Tensor
    put: Tensor
    parts: Tensor
    mixed: Tensor
    sums: Reads

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a padded face."""
        left, right, top, bottom = self.padding
        return self.S + top + bottom, self.S + left + right

    def inside(self, padded: Tensor) -> Tensor:
        """The faces without their rim."""
        left, _, top, _ = self.padding
        return padded[..., top : top + self.S, left : left + self.S]


class Places(NamedTuple):
    """The texels of a rim in memory, for some cubes and channels, counted from the first of them:
    a flat tensor of numbers for each."""

    take: Tensor
    put: Tensor
    parts: Tensor
    mixed: Tensor


_BLOCK = 1 << 20  # texels handled at once: what the interior brought is still in the cache


class Block(NamedTuple):
    """Some cubes with all their channels, or some channels of one cube; and their rim."""

    cubes: slice
    channels: slice
    at: Places

    def of(self, faces: Tensor) -> Tensor:
        """``(cubes, 6, channels, rows, cols)`` of them."""
        return faces[self.cubes, :, self.channels]

    def flat(self, faces: Tensor) -> Tensor:
        """Memory from the first of them on."""
        _, six, C, rows, cols = faces.shape
        return faces.view(-1)[(self.cubes.start * six * C + self.channels.start) * rows * cols :]


def _blocks(rim: Rim, B: int, C: int) -> Iterator[Block]:
    """Some cubes at a time, or some channels of one."""
    rows, cols = rim.size
    channels = max(1, min(C, _BLOCK // (6 * rows * cols)))
    cubes = max(1, min(B, _BLOCK // (6 * rows * cols * channels))) if channels >= C else 1
    for cube in range(0, B, cubes):
        for first in range(0, C, channels):
            many, some = min(cubes, B - cube), min(channels, C - first)
            at = _places(rim, C, many, some)
            yield Block(slice(cube, cube + many), slice(first, first + some), at)


@untraced
@lru_cache(maxsize=48)
def _places(rim: Rim, C: int, cubes: int, channels: int) -> Places:
    def flat(texels: Tensor, plane: int, along: bool) -> Tensor:
        place = rim_native.of_channel(texels, plane, C)
        cube, channel = (torch.arange(k, device=texels.device) for k in (cubes, channels))
        step = ((6 * C * cube[:, None] + channel) * plane).flatten()
        # Copies go along lines, as they lie in memory; sums are taken of rows of channels.
        return (place + step[:, None] if along else place[:, None] + step).flatten()

    face, padded = rim.S**2, rim.size[0] * rim.size[1]
    return Places(
        flat(rim.take, face, True),
        flat(rim.put, padded, True),
        flat(rim.parts, face, False),
        flat(rim.mixed, padded, False),
    )


@untraced
@lru_cache(maxsize=48)
def _sums_in(rim: Rim, dtype: torch.dtype) -> Reads:
    return rim.sums.to(rim.take.device, dtype)


def make_rim(S: int, padding: Sides, table: SamplingTable, device: torch.device) -> Rim:
    """A rim from a table that has a row for each of :func:`rim_texels`."""
    face, row, col = rim_texels(S, padding)
    left, right, top, bottom = padding
    place = (face * (S + top + bottom) + row + top) * (S + left + right) + col + left
    used = table.weights.abs() > 1e-12
    alone = (used.sum(1) == 1) & ((table.weights.sum(1) - 1).abs() < 1e-9)
    take = table.pixels[alone][used[alone]]
    which, _ = used[~alone].nonzero().unbind(1)
    parts, source = table.pixels[~alone][used[~alone]].unique(return_inverse=True)
    values, others = table.weights[~alone][used[~alone]], int((~alone).sum())
    # A texel that a sum has several times counts once: of shares that cancel, infinities do not.
    pairs, entry = (which * len(parts) + source).unique(return_inverse=True)
    values = values.new_zeros(len(pairs)).index_add_(0, entry, values)
    kept = values.abs() > 1e-12
    which, source = pairs[kept] // len(parts), pairs[kept] % len(parts)
    sums = reads_between(which, source, values[kept], (others, len(parts)))
    return Rim(
        S,
        padding,
        take.to(device),
        place[alone].to(device),
        parts.to(device),
        place[~alone].to(device),
        sums.to(device, torch.float64),
    )


def pad_rim(x: Tensor, padding: Sides, rim: Callable[[], Rim]) -> Tensor:
    """Faces with a rim; ``x`` has been checked, and ``rim`` is asked for only if there is one."""
    if not any(padding):
        return x
    if x.is_cuda and x.numel():
        from sal360.nn import rim_cuda

        return rim_cuda.pad(x, rim())
    return _applied(_Pad, x, rim())


def unpad_rim(y: Tensor, rim: Rim) -> Tensor:
    """The adjoint of :func:`pad_rim`: what was copied or summed into the rim goes back."""
    if y.is_cuda and y.numel():
        from sal360.nn import rim_cuda

        return rim_cuda.unpad(y, rim)
    return _applied(_Unpad, y, rim)


class _Pad(torch.autograd.Function):
    """Faces to padded faces; linear, and its gradient is :class:`_Unpad`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rim: Rim) -> Tensor:
        ctx.rim = rim
        return _padded(x, rim)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        return _applied(_Unpad, grad[0], ctx.rim), None


def _padded(x: Tensor, rim: Rim) -> Tensor:
    if rim_native.takes(x):
        return rim_native.pad(x, rim)
    C, S, (rows, cols) = x.shape[-3], rim.S, rim.size
    faces = x.reshape(math.prod(x.shape[:-3]) // 6, 6, C, S, S).contiguous()
    whole = x.new_empty(*x.shape[:-2], rows, cols)  # not a view: it may be written over
    out = whole.view(len(faces), 6, C, rows, cols)
    inside, exact = rim.inside(out), computing_dtype(x)
    sums = _sums_in(rim, exact)
    for block in _blocks(rim, len(faces), C):
        block.of(inside).copy_(block.of(faces))
        source, target, at = block.flat(faces), block.flat(out), block.at
        target.scatter_(0, at.put, source.index_select(0, at.take))
        if len(at.mixed):
            given = source.index_select(0, at.parts).to(exact).view(len(rim.parts), -1)
            target.scatter_(0, at.mixed, sums.forward.of(given).flatten().to(x.dtype))
    return whole


class _Unpad(torch.autograd.Function):
    """The adjoint: every texel collects what was taken from it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, rim: Rim) -> Tensor:
        ctx.rim = rim
        return _unpadded(y, rim)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        return _applied(_Pad, grad[0], ctx.rim), None


def _unpadded(y: Tensor, rim: Rim) -> Tensor:
    if rim_native.takes(y):
        return rim_native.unpad(y, rim)
    C, S, (rows, cols) = y.shape[-3], rim.S, rim.size
    padded = y.reshape(math.prod(y.shape[:-3]) // 6, 6, C, rows, cols).contiguous()
    exact = computing_dtype(y)
    sums = _sums_in(rim, exact)
    whole = y.new_empty(*y.shape[:-2], S, S, dtype=exact)
    out = whole.view(len(padded), 6, C, S, S)
    inside = rim.inside(padded)
    for block in _blocks(rim, len(padded), C):
        block.of(out).copy_(block.of(inside))
        source, target, at = block.flat(padded), block.flat(out), block.at
        target.scatter_add_(0, at.take, source.index_select(0, at.put).to(exact))
        if len(at.mixed):
            given = source.index_select(0, at.mixed).to(exact).view(len(rim.mixed), -1)
            target.scatter_add_(0, at.parts, sums.backward.of(given).flatten())
    return whole.to(y.dtype)


class _Transformed(torch.autograd.Function):
    """The form that torch.func wants, of either; :class:`sal360.nn.sampled._ReadTransformed`
    says why there are two."""

    @staticmethod
    def forward(function: Any, x: Tensor, rim: Rim) -> Tensor:
        return _padded(x, rim) if function is _Pad else _unpadded(x, rim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, Tensor, Rim], output: Tensor) -> None:
        ctx.adjoint, ctx.rim = _Unpad if inputs[0] is _Pad else _Pad, inputs[2]

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[None, Tensor, None]:
        return None, _applied(ctx.adjoint, grad[0], ctx.rim), None

    @staticmethod
    def vmap(
        info: Any, dims: tuple[None, int, None], function: Any, x: Tensor, rim: Rim
    ) -> tuple[Tensor, int]:
        """Many cubes, as more of them."""
        side = x.movedim(dims[1], 0)
        return _applied(function, side.flatten(0, 1), rim).unflatten(0, side.shape[:2]), 0


def _applied(function: Any, x: Tensor, rim: Rim) -> Tensor:
    if torch.jit.is_tracing():  # which does not look into functions with a gradient of their own
        return _padded(x, rim) if function is _Pad else _unpadded(x, rim)
    if are_functorch_transforms_active():
        out: Tensor = _Transformed.apply(function, x, rim)
    else:
        out = function.apply(x, rim)
    return out
