"""Cheng et al., 2018 (CP-360): cube padding, class scores and ConvLSTM as published.

The faces stand in another order than ours but lie the same way, so the published padding is
ours but for two things. On eight of the twenty-four edges the rings come in reversed order:
ring 0 is then the *last* of the neighbour's lines that are wanted, which no one sees while the
width is 1. And the corners of the rim repeat the end of a plate. Chapter 08 finds both. The
ConvLSTM has three convolutions where others have one, and its sequences are normalised with
their own extremes, those of frames still to come among them. Chapters 14 and 15.

Source: Cheng et al., "Cube Padding for Weakly-Supervised Saliency Prediction in 360 Videos",
CVPR 2018, and its repository hsientzucheng/CP-360-Weakly-Supervised-Saliency at commit dde55cc
(facts only; the code is our own).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import positive_int
from sal360._tables import untraced
from sal360.cubemap import FACES
from sal360.nn.cube import face_size, folded_texels
from sal360.nn.rim import Rim, Sides, make_rim, pad_rim, rim_texels
from sal360.resampling import SamplingTable

CP360_FACES = "BDFLRT"
"""Back, down, front, left, right, top: the order of their faces; ours is F R B L U D."""
REVERSED_EDGES = (
    ("B", "top"), ("B", "bottom"), ("D", "bottom"), ("D", "right"),
    ("L", "top"), ("R", "bottom"), ("T", "top"), ("T", "left"),
)  # fmt: skip
"""The edges on which the published code takes the rings in reversed order."""


def cube_pad(x: Tensor, pad: int | Sides) -> Tensor:
    """Pad cube faces as the published code does.

    Args:
        x: ``(6 N, C, S, S)`` floating, faces B D F L R T.
        pad: texels on every side, or ``(left, right, top, bottom)``; each from 0 to ``S``.
    Returns:
        ``(6 N, C, S + top + bottom, S + left + right)``.
    Raises:
        TypeError, ValueError: another shape, faces that are not square, a width beyond ``S``.
    """
    S = face_size(x)
    if x.ndim != 4:
        raise ValueError(f"x: shape {tuple(x.shape)}, wanted (6 N, C, S, S)")
    sides = pad if isinstance(pad, (tuple, list)) else (pad,) * 4
    if len(sides) != 4:
        raise ValueError(f"pad: {pad!r}, wanted one number or (left, right, top, bottom)")
    left, right, top, bottom = (0 if k == 0 else positive_int(k, "pad") for k in sides)
    if max(left, right, top, bottom) > S:
        raise ValueError(f"pad: {pad!r}, wanted at most the {S} texels of a face")
    padding = (left, right, top, bottom)
    return pad_rim(x, padding, lambda: _published_rim(S, padding, x.device))


@untraced
@lru_cache(maxsize=32)
def _published_rim(S: int, padding: Sides, device: torch.device) -> Rim:
    left, right, top, bottom = padding
    face, row, col = rim_texels(S, padding)
    # A corner takes the end of a plate: of the upper or lower one, unless that is wider
    # than the one at the side.
    up, down, before, after = row < 0, row >= S, col < 0, col >= S
    corner = (up | down) & (before | after)
    deep = torch.where(up, top, bottom) > torch.where(before, left, right)
    row = torch.where(corner & deep, row.clamp(0, S - 1), row)
    col = torch.where(corner & ~deep, col.clamp(0, S - 1), col)
    for name, side in REVERSED_EDGES:
        here = face == CP360_FACES.index(name)
        if side in ("top", "bottom"):
            beyond = here & ((row < 0) if side == "top" else (row >= S))
            row = torch.where(beyond, -1 - top - row if side == "top" else
                              2 * S - 1 + bottom - row, row)  # fmt: skip
        else:
            beyond = here & ((col < 0) if side == "left" else (col >= S))
            col = torch.where(beyond, -1 - left - col if side == "left" else
                              2 * S - 1 + right - col, col)  # fmt: skip
    theirs = CP360_FACES.replace("T", "U")
    ours = torch.tensor([FACES.index(letter) for letter in theirs])
    texel = folded_texels(ours[face], row, col, S)
    found = torch.argsort(ours)[torch.div(texel, S * S, rounding_mode="floor")]
    pixels = found * S * S + texel % (S * S)
    table = SamplingTable(pixels[:, None], torch.ones(len(pixels), 1, dtype=torch.float64))
    return make_rim(S, padding, table, device)


def class_scores(features: Tensor, weight: Tensor) -> Tensor:
    """CP-360's class activation: the classifier at every texel, without its bias.

    Its weights are moved up until the smallest is 0, if it is below. The same number for every
    channel and class, so a map of how much the features are active at all is added to all
    classes alike, and covers the differences between them.

    Args:
        features: ``(N, C, S, S)``, of the last layer. weight: ``(K, C)`` of the classifier.
    Returns:
        ``(N, K, S, S)``.
    """
    moved = weight - weight.amin().clamp(max=0)
    return F.conv2d(features, moved[:, :, None, None])


def unit_sequence(clip: Tensor) -> Tensor:
    """CP-360's normalisation: a whole sequence stretched to [0, 1] by its own extremes.

    Looks ahead: the last frame of a window decides about the first.

    Args:
        clip: ``(B, T, ...)`` scores. A flat sequence becomes 0.
    """
    rest = tuple(range(1, clip.ndim))
    low = clip.amin(rest, keepdim=True)
    span = clip.amax(rest, keepdim=True) - low
    return (clip - low) / torch.where(span > 0, span, torch.ones_like(span))


def conv_lstm_step(
    x: Tensor, hidden: Tensor, cell: Tensor, weights: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """One step of CP-360's ConvLSTM: two convolutions with ReLU, a third one for the gates.

    Args:
        x: ``(6 N, C, S, S)``. hidden, cell: ``(6 N, hidden, S, S)``, faces B D F L R T.
        weights: ``Conv1``, ``Conv2`` and ``Gates``, each ``.weight`` and ``.bias``; the gates come
            in the order in, remember, out, cell.
    Returns:
        ``hidden, cell`` of the next frame.
    """
    out = torch.cat((x, hidden), 1)
    for name in ("Conv1", "Conv2", "Gates"):
        padded = cube_pad(out, 1)
        out = F.conv2d(padded, weights[f"{name}.weight"], weights[f"{name}.bias"])
        out = out if name == "Gates" else out.relu()
    into, remember, output, candidate = out.chunk(4, 1)
    cell = remember.sigmoid() * cell + into.sigmoid() * candidate.tanh()
    return output.sigmoid() * cell.tanh(), cell
