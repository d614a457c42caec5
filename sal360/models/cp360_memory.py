"""The ConvLSTM of CP-360: a memory of class scores on the faces of a cube.

Three convolutions over the scores of a frame and the hidden state, then gates. The published one
has 1000 channels and 360,012,000 parameters; any width will do. Chapter 14.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from sal360 import upstream
from sal360._check import positive_int
from sal360.models.base import Convention, as_convention
from sal360.nn import CubePad2d

REMEMBERED = 0.7
"""Share of the last state that an untrained memory keeps: 1 / e after 2.8 frames."""


class CubeState(NamedTuple):
    """Hidden and cell state, each ``(6 B, hidden, S, S)``."""

    hidden: Tensor
    cell: Tensor


class CubeConvLSTM(nn.Module):
    """CP-360's ConvLSTM; the same parameters in both conventions.

    - ``"upstream"``: padding as published, weights drawn as torch draws them. All gates of an
      untrained one stand half open, so a map has nothing to do with its frame before training
      but what is left of the state it started from.
    - ``"corrected"``: :class:`~sal360.nn.CubePad2d`, and where hidden channels and inputs are as
      many it starts as what it is to become: a running mean of the scores. It keeps .7 of its
      state, takes .3 of the frame, and training moves it from there.

    Args:
        in_channels: of the scores. hidden: of the state. convention: see above.
    Shape:
        ``x (6 B, in_channels, S, S)``, faces in the order of the convention, in [0, 1].
    """

    def __init__(self, in_channels: int, hidden: int, convention: Convention = "corrected") -> None:
        super().__init__()
        self.in_channels = positive_int(in_channels, "in_channels")
        self.hidden = positive_int(hidden, "hidden")
        self.convention = as_convention(convention)
        wide = 4 * self.hidden
        self.Conv1 = nn.Conv2d(self.in_channels + self.hidden, wide, 3)
        self.Conv2 = nn.Conv2d(wide, wide, 3)
        self.Gates = nn.Conv2d(wide, wide, 3)
        self.pad: nn.Module = CubePad2d(1)
        if self.convention == "corrected" and self.in_channels == self.hidden:
            self._start_as_running_mean()

    @torch.no_grad()
    def _start_as_running_mean(self) -> None:
        n = self.hidden
        own = torch.arange(n)
        # The first channels carry the frame's scores unchanged, which ReLU lets pass.
        for conv in (self.Conv1, self.Conv2):
            conv.weight[:n] = 0
            nn.init.zeros_(cast(Tensor, conv.bias)[:n])
            conv.weight[own, own, 1, 1] = 1
        self.Gates.weight *= 0.1
        self.Gates.weight[3 * n + own, own, 1, 1] = 1
        keep = math.log(REMEMBERED / (1 - REMEMBERED))
        for part, bias in enumerate((-keep, keep, 2.0, 0.0)):
            nn.init.constant_(cast(Tensor, self.Gates.bias)[part * n : (part + 1) * n], bias)

    def first(self, x: Tensor) -> CubeState:
        """The state before the first frame: that frame, as published, where it fits; else 0."""
        if self.in_channels == self.hidden:
            return CubeState(x, x)
        zeros = x.new_zeros(len(x), self.hidden, *x.shape[2:])
        return CubeState(zeros, zeros)

    def forward(self, x: Tensor, state: CubeState | None = None) -> CubeState:
        """The scores of a frame and the last state to the next state."""
        hidden, cell = self.first(x) if state is None else state
        if self.convention == "upstream":
            weights = dict(self.named_parameters())
            return CubeState(*upstream.conv_lstm_step(x, hidden, cell, weights))
        out = self.Conv1(self.pad(torch.cat((x, hidden), 1))).relu()
        out = self.Conv2(self.pad(out)).relu()
        into, remember, output, candidate = self.Gates(self.pad(out)).chunk(4, 1)
        cell = remember.sigmoid() * cell + into.sigmoid() * candidate.tanh()
        return CubeState(output.sigmoid() * cell.tanh(), cell)
