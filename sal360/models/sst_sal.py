"""SST-Sal (Bernal-Berdun et al., 2022): a ConvLSTM encoder and decoder on the sphere.

Per frame: a convolutional LSTM at full resolution, a pooling step, a second one at half
resolution with a single hidden channel, and that channel, doubled in size, is the map. The
memory between frames is what makes it a video model. Chapter 14 builds it.

This file holds the network with the published sampling (:mod:`sal360.upstream`), which the
official weights need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360 import upstream
from sal360.flow import dis_flow, flow_to_color


class CellState(NamedTuple):
    """Hidden and cell state of one LSTM, each ``(B, hidden, H, W)``."""

    hidden: Tensor
    cell: Tensor


class UpstreamConv(nn.Module):
    """Weights of a 3x3 kernel, sampled as SST-Sal published it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = (9 * in_channels) ** -0.5
        weight = torch.empty(out_channels, in_channels, 3, 3).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return upstream.sphere_conv2d(x, self.weight, self.bias)


class SphericalConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM: gates input, forget, output, candidate, in that order."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv = UpstreamConv(in_channels + hidden, 4 * hidden)

    def forward(self, x: Tensor, state: CellState | None = None) -> CellState:
        """``x (B, C, H, W)`` and the last state (zeros if None) to the next state."""
        if state is None:
            zeros = x.new_zeros(x.shape[0], self.hidden, *x.shape[-2:])
            state = CellState(zeros, zeros)
        gates = self.conv(torch.cat((x, state.hidden), dim=1))
        i, f, o, g = gates.chunk(4, dim=1)
        cell = torch.sigmoid(f) * state.cell + torch.sigmoid(i) * torch.tanh(g)
        return CellState(torch.sigmoid(o) * torch.tanh(cell), cell)


class _Stage(nn.Module):
    """Holds a cell under the name ``lstm``, as the published checkpoints do."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.lstm = SphericalConvLSTMCell(in_channels, hidden)


class SSTSal(nn.Module):
    """SST-Sal, any width. Official: 6 inputs, 36 hidden (with flow) or 3 and 9 (without).

    Channels exactly as trained: blue, green, red in [0, 1], then (with flow) blue, green, red
    of the flow's colour-wheel picture. The raw output lies in (-1, 1) and is not a density;
    :func:`sal360.inference.predict_frames` makes it one.

    Attributes:
        input_size: ``(H, W)`` it was trained at. rate: frames per second it was trained at.
        length: frames per sequence in training. warm_up: leading frames of a window that the
        published code throws away, because the memory is still empty.
    """

    input_size = (240, 320)
    rate: float | None = 8.0
    length = 20
    warm_up = 4

    def __init__(self, in_channels: int = 6, hidden: int = 36) -> None:
        super().__init__()
        if in_channels not in (3, 6):
            raise ValueError(f"in_channels: {in_channels}, wanted 3 (colour) or 6 (with flow)")
        self.in_channels = in_channels
        self.encoder = _Stage(in_channels, hidden)
        self.decoder = _Stage(hidden, 1)

    def step(
        self, frame: Tensor, state: tuple[CellState, CellState] | None = None
    ) -> tuple[Tensor, tuple[CellState, CellState]]:
        """One frame ``(B, C, H, W)`` to ``(B, 1, H, W)`` and the memory for the next."""
        before = state or (None, None)
        encoded = self.encoder.lstm(frame, before[0])
        decoded = self.decoder.lstm(upstream.sphere_max_pool2d(encoded.hidden, 2), before[1])
        grown = decoded.hidden.repeat_interleave(2, -2).repeat_interleave(2, -1)
        return grown[..., : frame.shape[-2], : frame.shape[-1]], (encoded, decoded)

    def forward(self, clip: Tensor) -> Tensor:
        """``(B, T, C, H, W)`` to ``(B, T, 1, H, W)`` in (-1, 1), memory empty at the start.

        Raises:
            ValueError: a clip of another rank or number of channels.
        """
        if clip.ndim != 5 or clip.shape[2] != self.in_channels or 0 in clip.shape:
            raise ValueError(
                f"clip: shape {tuple(clip.shape)}, wanted (B, T, {self.in_channels}, H, W)"
            )
        state, maps = None, []
        for frame in clip.unbind(1):
            out, state = self.step(frame, state)
            maps.append(out)
        return torch.stack(maps, dim=1)

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """RGB panoramas ``(H, W, 3)`` uint8 of any size to inputs ``(C, 240, 320)``.

        Resized with area averaging as in training. The flow of a frame leads to the next one;
        the last frame repeats the flow before it, a single frame has none.
        """
        import cv2

        def resized(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
            return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)

        def tensor(rgb: NDArray[np.uint8]) -> Tensor:
            bgr = np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1))
            return torch.from_numpy(bgr).float().div_(255)

        if self.in_channels == 3:
            for frame in frames:
                yield tensor(resized(frame, self.input_size))
            return
        # Flow is sought on a 2:1 panorama, where a pixel is as wide as it is high.
        flow_size = (2 * self.input_size[0], 4 * self.input_size[0])
        before: NDArray[np.uint8] | None = None
        colour = picture = None
        for frame in frames:
            now = resized(frame, flow_size)
            if before is not None and picture is not None:
                colour = tensor(resized(flow_to_color(dis_flow(before, now)), self.input_size))
                yield torch.cat((picture, colour))
            before, picture = now, tensor(resized(frame, self.input_size))
        if picture is not None:
            yield torch.cat((picture, torch.ones_like(picture) if colour is None else colour))
