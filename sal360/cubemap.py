"""The cube around the sphere: six square pictures, each a view of 90 degrees.

Faces stand in the order F R B L U D (front, right, back, left, up, down), each as seen from
the centre: front is upright, up has the front at its lower edge, down has it at its upper edge.
A face is a pinhole view, so texels are evenly spaced on a plane, not on the sphere. Chapter 04
derives the faces; what lies beyond an edge is on the neighbour, and :func:`cube_table` reads
it there.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_directions, positive_int
from sal360._tables import untraced
from sal360.resampling import SamplingTable

FACES = "FRBLUD"
# Columns: a face's right, down and forward in the world's x (right), y (down), z (forward).
_FRAMES = torch.tensor(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],  # F
        [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],  # R: its right is the world's back
        [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],  # B
        [[0, 0, -1], [0, 1, 0], [1, 0, 0]],  # L
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],  # U: its down is the world's forward
        [[1, 0, 0], [0, 0, 1], [0, -1, 0]],  # D
    ],
    dtype=torch.float64,
)


def cube_directions(S: int) -> Tensor:
    """Direction of every texel centre of a cubemap. Derived in chapter 04.

    Args:
        S: texels along an edge, at least 1.
    Returns:
        ``(6, S, S, 3)`` float64, faces F R B L U D, rows down, columns right as seen from the
        centre; points on the cube (their largest coordinate is 1), not normalised.
    """
    S = positive_int(S, "S")
    step = (2 * torch.arange(S, dtype=torch.float64) + 1 - S) / S
    v, u = torch.meshgrid(step, step, indexing="ij")
    on_face = torch.stack((u, v, torch.ones_like(u)), dim=-1)
    return torch.einsum("fwc,ijc->fijw", _FRAMES, on_face)


def cube_pixel(xyz: ArrayLike, S: int) -> tuple[Tensor, Tensor, Tensor]:
    """Face, row and column at which a direction falls in a cubemap of ``S x S`` faces.

    Args:
        xyz: ``(..., 3)`` directions of any length. S: texels along an edge.
    Returns:
        ``face (...)`` int64 and ``row, col (...)`` float64 in [-.5, S - .5]; whole numbers are
        texel centres. On an edge either face would do; the one that comes first is returned.
    """
    xyz, S = as_directions(xyz), positive_int(S, "S")
    frames = _FRAMES.to(xyz.device)
    depth, face = (xyz @ frames[:, :, 2].T).max(dim=-1)
    on_face = torch.einsum("...w,...wc->...c", xyz, frames[face])
    place = on_face[..., :2] / depth[..., None] * (0.5 * S) + (S - 1) / 2
    return face, place[..., 1], place[..., 0]


def cube_table(xyz: ArrayLike, S: int) -> SamplingTable:
    """Bilinear reading of a cubemap that knows the neighbours of every face. See chapter 04.

    A face's lattice is continued by one texel on each side. The texel beyond an edge is
    interpolated between two of the neighbour's texels, because the two lattices do not meet;
    the texel beyond a corner is the plane through the three texels that meet there. What is
    neglected lies ``1 / 2S`` texel beyond the neighbour's last row.

    Args:
        xyz: ``(..., 3)`` directions. S: texels along an edge.
    Returns:
        A table of K = 12 into the ``6 * S * S`` texels; most weights are 0. It reads faces laid
        one below another, ``faces.transpose(1, 2).reshape(B, C, 6 * S, S)``.
    """
    xyz = as_directions(xyz).reshape(-1, 3)
    face, row, col = cube_pixel(xyz, S)
    pixels, weights = (part.to(xyz.device) for part in _padded_texels(S))
    top, left = torch.floor(row), torch.floor(col)
    down, right = row - top, col - left
    sources: list[Tensor] = []
    shares: list[Tensor] = []
    for step_down, share in ((0, 1 - down), (1, down)):
        for step_right, part in ((0, 1 - right), (1, right)):
            texel = (face, (top + step_down + 1).long(), (left + step_right + 1).long())
            sources.append(pixels[texel])
            shares.append(weights[texel] * (share * part)[:, None])
    return SamplingTable(torch.cat(sources, 1), torch.cat(shares, 1))


@untraced
@lru_cache(maxsize=8)
def _padded_texels(S: int) -> tuple[Tensor, Tensor]:
    """What each texel of the padded faces is made of: both ``(6, S + 2, S + 2, 3)``.

    Three sources and weights for each texel; inside a face one is the texel itself.
    """
    with torch.inference_mode(False):
        own = torch.arange(6 * S * S).reshape(6, S, S)
        pixels = torch.zeros(6, S + 2, S + 2, 3, dtype=torch.long)
        weights = torch.zeros(6, S + 2, S + 2, 3, dtype=torch.float64)
        pixels[:, 1:-1, 1:-1, 0], weights[:, 1:-1, 1:-1, 0] = own, 1.0
        place = (2 * torch.arange(-1, S + 1, dtype=torch.float64) + 1 - S) / S

        def beyond(v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            """Two sources and weights of texels at ``v, u`` on the plane of every face."""
            on_face = torch.stack((u, v, torch.ones_like(u)), dim=-1)
            face, row, col = cube_pixel(torch.einsum("fwc,nc->fnw", _FRAMES, on_face), S)
            row, col = row.clamp(0, S - 1), col.clamp(0, S - 1)
            top, left = torch.floor(row + 1e-9), torch.floor(col + 1e-9)
            part = ((row - top) + (col - left)).clamp(0, 1)  # one of the two is zero
            first = own[face, top.long(), left.long()]
            second = own[face, torch.ceil(row - 1e-9).long(), torch.ceil(col - 1e-9).long()]
            return torch.stack((first, second), -1), torch.stack((1 - part, part), -1)

        inner = place[1:-1]
        for side, line in ((0, place[0]), (S + 1, place[-1])):
            outside = line.expand(S)
            pixels[:, side, 1:-1, :2], weights[:, side, 1:-1, :2] = beyond(outside, inner)
            pixels[:, 1:-1, side, :2], weights[:, 1:-1, side, :2] = beyond(inner, outside)
        for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            edge = torch.tensor([-1.0, 1.0], dtype=torch.float64)
            by_row = beyond(place[[i]], edge[[j]])[0][:, 0, 0]
            by_col = beyond(edge[[i]], place[[j]])[0][:, 0, 0]
            # Lay a plane over the corner: (own + by_row + by_col) / 3 is its value at the corner
            # itself, and the padded texel lies as far beyond it as the own one lies before it.
            pixels[:, i, j] = torch.stack((own[:, i, j], by_row, by_col), -1)
            weights[:, i, j] = torch.tensor([-1 / 3, 2 / 3, 2 / 3], dtype=torch.float64)
    return pixels, weights
