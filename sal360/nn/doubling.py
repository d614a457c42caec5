"""Twice the size, bilinear, of pictures that bring a rim: no edge is ever repeated.

``torch.nn.functional.interpolate`` does it fast on a CPU. On a GPU its gradient adds with atomics,
in another order each time, and ``torch.compile`` makes four scattered additions of it on a CPU too;
there the same sums are written out: a new row lies a quarter of a step from the old one, and three
quarters of a step from that one's neighbour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def doubled_inside(x: Tensor) -> Tensor:
    """``(..., h + 2, w + 2)`` with a rim of one pixel to ``(..., 2 h, 2 w)`` without."""
    if x.is_cuda or torch.compiler.is_dynamo_compiling():
        return doubled_by_sums(x)
    wide = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return wide[..., 2:-2, 2:-2]


def doubled_by_sums(x: Tensor) -> Tensor:
    """The same by slices and sums."""
    near = 0.75 * x[..., 1:-1, :]
    pair = near + 0.25 * x[..., :-2, :], near + 0.25 * x[..., 2:, :]
    tall = torch.stack(pair, -2).flatten(-3, -2)
    near = 0.75 * tall[..., 1:-1]
    pair = near + 0.25 * tall[..., :-2], near + 0.25 * tall[..., 2:]
    return torch.stack(pair, -1).flatten(-2)
