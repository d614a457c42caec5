"""Six faces glued: beyond the edge of a face lies its neighbour, not zero.

A padded cube is the faces as they are and a rim around each of them. Every texel of the rim is
a weighted sum of a few texels of the cube, so the rim is a sparse matrix: computed once for a
size from the geometry of :mod:`sal360.cubemap`, and applied by :mod:`sal360.nn.rim`. Chapter 08
derives both ways to fill it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sal360._check import whole_number
from sal360._tables import untraced
from sal360.cubemap import cube_directions, cube_pixel, cube_table
from sal360.nn.rim import Rim, Sides, make_rim, pad_rim, rim_texels, unpad_rim
from sal360.resampling import SamplingTable

CubeMode = Literal["copy", "reproject"]


class CubePad2d(nn.Module):
    """Pad the faces of a cube from their neighbours. Derived in chapter 08.

    - ``"copy"``: paper folded over the edge. Ring k beyond an edge is the k-th line of the
      neighbour, counted from the edge they share; a width beyond ``S`` goes on around the cube.
      A texel copied into ring k stands up to ``(k - 1/2) (S - 1) / (S - 2 k + 1)`` texels
      beside the place where this face's own lattice would have it, most near the corners: at
      ``S = 64`` .5, 1.55, 2.67 in rings 1 to 3 (chapter 08 measures it), at ``S = 7`` 7.5 in
      ring 3.
      In a corner of the rim three faces meet, the two neighbours' plates leave a gap, and
      nothing is there to be copied: those few texels are read as by ``"reproject"``. By
      themselves they are right, off by .0002 on a smooth field at ``S = 64``, where the mean of
      the two plates' ends is off by .008. **Beside displaced plates that does not help**: a
      Laplacian's answer to a smooth field jumps at the worst corner of the cube by 16.8 usual
      steps between texels (:func:`~sal360.nn.check_equivariance`; an exact rim leaves 2.6), with
      the mean by 5.9, with one plate's end repeated, as published, by 13.9, and with
      ``"reproject"`` by 3.0. In the corner texels the answer is off by 1.8, 1.6, 1.6 and .05
      times its rms. Networks were trained with these corners, so they stay; where corners
      matter, choose ``"reproject"``.
    - ``"reproject"``: every texel of the rim is read where this face's own plane goes on,
      bilinearly and across edges as :func:`sal360.cubemap.cube_table` does. No tangential
      error; rings beyond the first few look ever further ahead, never behind the cube.

    Both are linear, keep a constant, and have no parameters.

    Args:
        padding: texels on every side, or ``(left, right, top, bottom)``; any width.
        mode: ``"copy"`` or ``"reproject"``.
    Shape:
        ``(B, 6, C, S, S)``, faces F R B L U D, or ``(6 B, C, S, S)`` with six consecutive
        faces, to the same with ``S + top + bottom`` rows and ``S + left + right`` columns, in
        the input's dtype.
    Raises:
        TypeError, ValueError: a negative width, an unknown mode; an input of another shape or
            not floating.
    """

    def __init__(self, padding: int | Sides, mode: CubeMode = "copy") -> None:
        super().__init__()
        self.padding = _as_sides(padding)
        self.mode = as_mode(mode)

    def forward(self, x: Tensor) -> Tensor:
        face_size(x)
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            return _pad_compiled(x, self.padding, self.mode) if any(self.padding) else x
        return _pad_by_name(x, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}, mode={self.mode!r}"


def face_size(x: Any, name: str = "x") -> int:
    """``S`` of faces ``(B, 6, C, S, S)`` or ``(6 B, C, S, S)``.

    Raises:
        TypeError: not a floating tensor. ValueError: another shape.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {type(x).__name__}, wanted a tensor")
    shape, wanted = tuple(x.shape), "(B, 6, C, S, S) or (6 B, C, S, S)"
    if not x.is_floating_point():
        raise TypeError(f"{name}: dtype {x.dtype}, wanted floating (divide bytes by 255)")
    if x.ndim not in (4, 5) or (x.ndim == 5 and shape[1] != 6):
        raise ValueError(f"{name}: shape {shape}, wanted {wanted}")
    if x.ndim == 4 and shape[0] % 6:
        raise ValueError(f"{name}: {shape[0]} faces, wanted a multiple of 6, {wanted}")
    if shape[-1] != shape[-2]:
        raise ValueError(f"{name}: faces of {shape[-2]} x {shape[-1]}, wanted square ones")
    if shape[-1] == 0:
        raise ValueError(f"{name}: shape {shape}, wanted faces of at least one texel")
    return shape[-1]


def plane_points(face: Tensor, row: Tensor, col: Tensor, S: int, fold: bool = False) -> Tensor:
    """Points ``(n, 3)`` at texels of the faces' lattices, continued beyond their edges.

    Args:
        face, row, col: ``(n,)``; rows and columns may lie beyond the face.
        fold: bend the plane around the cube, as paper, instead of going straight on. Rows and
            columns may not both lie beyond the face then.
    """
    u, v = ((2 * k.double() + 1 - S) / S for k in (col, row))
    w = torch.ones_like(u)
    if fold:
        (u, over_u), (v, over_v) = _around_the_cube(u), _around_the_cube(v)
        w = torch.minimum(over_u, over_v)
    # A face's right, down and forward in the world's frame, read off its own directions.
    ahead = cube_directions(1)[:, 0, 0]
    corner = cube_directions(2)
    right, down = corner[:, 0, 1] - corner[:, 0, 0], corner[:, 1, 0] - corner[:, 0, 0]
    return u[:, None] * right[face] + v[:, None] * down[face] + w[:, None] * ahead[face]


def folded_texels(face: Tensor, row: Tensor, col: Tensor, S: int) -> Tensor:
    """The texel of the cube, ``face S^2 + row S + col``, that paper folded over an edge covers."""
    place = cube_pixel(plane_points(face, row, col, S, fold=True), S)
    found, r, c = (v.round().long() for v in place)
    return (found * S + r) * S + c


def _around_the_cube(place: Tensor) -> tuple[Tensor, Tensor]:
    """Walk from a face's middle around a belt of four faces: sideways and ahead, both in [-1, 1].

    A side is 2 long, so the way round is 8, and both coordinates are cut-off triangle waves.
    """

    def wave(p: Tensor) -> Tensor:
        return (2 - (torch.remainder(p + 2, 8) - 4).abs()).clamp(-1, 1)

    return wave(place), wave(place + 2)


@untraced
@lru_cache(maxsize=64)
def cube_rim(S: int, padding: Sides, mode: CubeMode, device: torch.device) -> Rim:
    """The rim of :class:`CubePad2d`."""
    face, row, col = rim_texels(S, padding)
    straight = torch.ones_like(face, dtype=torch.bool)
    if mode == "copy":  # but for the corners of the rim
        straight = ((row < 0) | (row >= S)) & ((col < 0) | (col >= S))
    pixels = torch.zeros(len(face), 24, dtype=torch.long)
    weights = torch.zeros(len(face), 24, dtype=torch.float64)
    weights[~straight, 0] = 1.0
    pixels[~straight, 0] = folded_texels(face[~straight], row[~straight], col[~straight], S)
    if bool(straight.any()):
        # Diagonals of a corner run along the edge of two neighbours, which read it a little
        # differently: just beside it on both sides, half from each, prefers neither.
        tie = (2 * row + 1 - S).abs() == (2 * col + 1 - S).abs()
        for half, aside in ((slice(12), -1e-9), (slice(12, None), 1e-9)):
            at = torch.where(tie, col.double() + aside, col.double())
            ahead = plane_points(face[straight], row[straight], at[straight], S)
            table = cube_table(ahead, S)
            pixels[straight, half], weights[straight, half] = table.pixels, table.weights / 2
    return make_rim(S, padding, SamplingTable(pixels, weights), device)


def _pad_by_name(x: Tensor, padding: Sides, mode: CubeMode) -> Tensor:
    return pad_rim(x, padding, lambda: cube_rim(x.shape[-1], padding, mode, x.device))


# What torch.compile writes into a program, as one call, where it would not see through the above;
# an exported program has the above itself, and can be read where there is no sal360.
_SCHEMA = "(Tensor x, int[] padding, str mode) -> Tensor"


@torch.library.custom_op("sal360::cube_pad", mutates_args=(), schema=_SCHEMA)
def _pad_compiled(x: Tensor, padding: Sequence[int], mode: CubeMode) -> Tensor:
    return _pad_by_name(x, _as_sides(tuple(padding)), mode)


@torch.library.custom_op("sal360::cube_unpad", mutates_args=(), schema=_SCHEMA)
def _unpad_compiled(x: Tensor, padding: Sequence[int], mode: CubeMode) -> Tensor:
    left, right, _, _ = sides = _as_sides(tuple(padding))
    rim = cube_rim(x.shape[-1] - left - right, sides, mode, x.device)
    return unpad_rim(x, rim)


@_pad_compiled.register_fake
def _(x: Tensor, padding: Sequence[int], mode: CubeMode) -> Tensor:
    left, right, top, bottom = padding
    return x.new_empty(*x.shape[:-2], x.shape[-2] + top + bottom, x.shape[-1] + left + right)


@_unpad_compiled.register_fake
def _(x: Tensor, padding: Sequence[int], mode: CubeMode) -> Tensor:
    left, right, top, bottom = padding
    return x.new_empty(*x.shape[:-2], x.shape[-2] - top - bottom, x.shape[-1] - left - right)


def _keep(ctx: Any, inputs: tuple[Tensor, Sequence[int], CubeMode], output: Tensor) -> None:
    _, ctx.padding, ctx.mode = inputs


def _pad_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _unpad_compiled(grad, ctx.padding, ctx.mode), None, None


def _unpad_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _pad_compiled(grad, ctx.padding, ctx.mode), None, None


_pad_compiled.register_autograd(_pad_gradient, setup_context=_keep)
_unpad_compiled.register_autograd(_unpad_gradient, setup_context=_keep)


def _as_sides(padding: Any) -> Sides:
    sides = padding if isinstance(padding, (tuple, list)) else (padding,) * 4
    if len(sides) != 4:
        raise ValueError(f"padding: {padding!r}, wanted one number or (left, right, top, bottom)")
    left, right, top, bottom = (whole_number(k, "padding", 0) for k in sides)
    return left, right, top, bottom


def as_mode(mode: Any) -> CubeMode:
    """``"copy"`` or ``"reproject"``, or a line that says so."""
    if mode not in ("copy", "reproject"):
        raise ValueError(f"mode: {mode!r}, wanted 'copy' or 'reproject'")
    return mode
