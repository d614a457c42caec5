"""Padding the faces of a cube on a GPU: all cubes and channels in a handful of launches.

The CPU's way (:mod:`sal360.nn.rim`) goes through the batch in blocks that fit a cache, and its
gradient adds texel after texel, which a GPU would do in no fixed order. Here the whole rim is one
table of sums over the texels it needs, each of them once, and its gradient is the transposed
table: the same bytes for the same input. Derived in chapter 08.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sal360._tables import eager, untraced
from sal360.nn.reads import Reads, owners, reads_between
from sal360.nn.rim import Rim
from sal360.nn.sampled_cuda import Route, adjoint, read
from sal360.resampling import computing_dtype


class Glue(NamedTuple):
    """A rim as one map. Texels are ``(face, place)``, int64, flat within the face.

    Attributes:
        source: the U texels of the cube that the rim needs. target: the n texels of the rim.
        sums: from U rows to n.
    """

    source: tuple[Tensor, Tensor]
    target: tuple[Tensor, Tensor]
    sums: Reads


_KEPT: WeakKeyDictionary[Rim, dict[torch.dtype, Glue]] = WeakKeyDictionary()


@untraced
def glue_of(rim: Rim, dtype: torch.dtype) -> Glue:
    """The glue of a rim, made once."""
    kept = _KEPT.setdefault(rim, {})
    if dtype not in kept:
        device = rim.take.device
        sums = rim.sums.to("cpu", torch.float64).forward
        parts, take = rim.parts.cpu(), rim.take.cpu()
        mixed = parts[sums.rows.long()]
        copied = torch.arange(len(take))
        into = torch.cat((copied, owners(sums) + len(take)))
        weight = torch.cat((torch.ones(len(take), dtype=torch.float64), sums.weights))
        texels, source = torch.cat((take, mixed)).unique(return_inverse=True)
        target = torch.cat((rim.put, rim.mixed)).cpu()
        reads = reads_between(into, source, weight, (len(target), len(texels)))
        kept[dtype] = Glue(
            _face_and_place(texels, rim.S**2, device),
            _face_and_place(target, rim.size[0] * rim.size[1], device),
            reads.to(device, dtype),
        )
    return kept[dtype]


def _face_and_place(texels: Tensor, plane: int, device: torch.device) -> tuple[Tensor, Tensor]:
    face = torch.div(texels, plane, rounding_mode="floor")
    return face.to(device), (texels - face * plane).to(device)


@eager
def pad(x: Tensor, rim: Rim, how: Route | None = None) -> Tensor:
    """Faces ``(B, 6, C, S, S)`` or ``(6 B, C, S, S)`` with their rim, differentiable."""
    out: Tensor = _Pad.apply(x, rim, how)
    return out


@eager
def unpad(y: Tensor, rim: Rim, how: Route | None = None) -> Tensor:
    """The adjoint of :func:`pad`, differentiable."""
    out: Tensor = _Unpad.apply(y, rim, how)
    return out


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rim: Rim, how: Route | None) -> Tensor:
        ctx.rim, ctx.how = rim, how
        glue = glue_of(rim, computing_dtype(x))
        faces = x.reshape(-1, 6, *x.shape[-3:])
        B, _, C = faces.shape[:3]
        given = faces.flatten(-2)[:, glue.source[0], :, glue.source[1]]  # (U, B, C)
        around = read(given.reshape(1, -1, B * C), glue.sums, how)
        whole = x.new_empty(*x.shape[:-2], *rim.size)  # not a view: it may be written over
        out = whole.view(B, 6, C, *rim.size)
        rim.inside(out).copy_(faces)
        out.flatten(-2)[:, glue.target[0], :, glue.target[1]] = around.view(-1, B, C)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Unpad.apply(grads[0], ctx.rim, ctx.how), None, None


class _Unpad(torch.autograd.Function):
    """The adjoint: every texel collects what was taken from it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, rim: Rim, how: Route | None) -> Tensor:
        ctx.rim, ctx.how = rim, how
        glue = glue_of(rim, computing_dtype(y))
        padded = y.reshape(-1, 6, *y.shape[-3:])
        B, _, C = padded.shape[:3]
        given = padded.flatten(-2)[:, glue.target[0], :, glue.target[1]]
        back = read(given.reshape(1, -1, B * C), adjoint(glue.sums), how).view(-1, B, C)
        whole = y.new_empty(*y.shape[:-2], rim.S, rim.S)
        out = whole.view(B, 6, C, rim.S, rim.S)
        out.copy_(rim.inside(padded))
        flat, (face, place) = out.flatten(-2), glue.source
        flat[:, face, :, place] = flat[:, face, :, place] + back  # every texel once
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Pad.apply(grads[0], ctx.rim, ctx.how), None, None
