"""SST-Sal (Bernal-Berdun et al., 2022): a ConvLSTM encoder and decoder on the sphere.

Per frame: a convolutional LSTM at full resolution, a pooling step, a second one at half
resolution with a single hidden channel, and that channel, doubled in size, is the map. The
memory between frames is what makes it a video model. Chapter 14 builds it.

What differs between the two conventions, and why:

- *Sampling*: :class:`sal360.nn.SphereConv2d` instead of the published sampler, which reads half
  a pixel up and left and zeros beyond two of the edges (:mod:`sal360.upstream`).
- *Pooling and doubling*: kernels stand in the middle of 2 x 2 blocks, and the map is doubled by
  linear reading across seam and poles. The published pair moves a map by half a pixel. With
  round kernels at 48 x 96 a head tilted by 30 degrees changes the answer by .04 of its size;
  with pooling as published it would be .10, doubled by copying .19, with both and the
  published sampler .43.
- *What comes out*: a relative density, ``(1 + h) / mean``, instead of the hidden state ``h`` in
  (-1, 1) that is read by its minimum. Its mean over the sphere is 1; ``h = 0`` says uniform.
- *A film*: the memory goes on from frame to frame, instead of starting empty every 16 frames.

Weights of one load into the other: names, shapes and the order of channels are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360 import upstream
from sal360.flow import dis_flow, flow_to_color, sphere_flow, tangent_flow
from sal360.flow.colors import flows_to_color
from sal360.models.base import Reading, as_convention, run, sphere_mean
from sal360.nn import CellState, ConvLSTMCell, SphereConv2d, SphereMaxPool2d, SpherePad2d
from sal360.nn.doubling import doubled_inside

State = tuple[CellState, CellState]


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


class _Stage(nn.Module):
    """Holds a cell under the name ``lstm``, as the published checkpoints do."""

    def __init__(self, cell: ConvLSTMCell) -> None:
        super().__init__()
        self.lstm = cell


class SSTSal(nn.Module):
    """SST-Sal, any width. Official: 6 inputs, 36 hidden (with flow) or 3 and 9 (without).

    Channels, in both conventions: blue, green, red in [0, 1], then (6) blue, green, red of the
    flow's colour-wheel picture. :meth:`features` makes them from RGB frames, :meth:`inputs` from
    pictures and flow that are there.

    Args:
        in_channels: 3 (colour) or 6 (with flow).
        hidden: channels of the encoder's memory.
        convention: ``"corrected"``, or ``"upstream"``, which the official weights need.
        forget_bias: see :class:`sal360.nn.ConvLSTMCell`.

    Attributes:
        input_size: ``(H, W)`` it was trained at. rate: frames per second it was trained at.
        length: frames per sequence in training. warm_up: leading frames of a window that the
        published code throws away, because the memory is still empty. stateful: whether the
        memory goes on over a whole film (corrected). forgets: after how many frames it begins
        anew there, None for never. reading: how its maps become densities.
    """

    rate: float | None = 8.0
    length = 20
    forgets: int | None = None

    def __init__(
        self,
        in_channels: int = 6,
        hidden: int = 36,
        convention: str = "corrected",
        forget_bias: float | None = None,
    ) -> None:
        super().__init__()
        if in_channels not in (3, 6):
            raise ValueError(f"in_channels: {in_channels}, wanted 3 (colour) or 6 (with flow)")
        self.in_channels = in_channels
        self.convention = as_convention(convention)
        corrected = self.convention == "corrected"
        conv = SphereConv2d if corrected else UpstreamConv
        self.encoder = _Stage(ConvLSTMCell(in_channels, hidden, conv, forget_bias))
        self.decoder = _Stage(ConvLSTMCell(hidden, 1, conv, forget_bias))
        self.pool = SphereMaxPool2d(3, stride=2, centred=True)
        self.rim = SpherePad2d(1)
        self.input_size: tuple[int, int] = (240, 320)
        self.warm_up = 0 if corrected else 4
        self.stateful = corrected
        self.reading: Reading = "positive" if corrected else "minmax"

    def step(self, frame: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One frame ``(B, C, H, W)`` to ``(B, 1, H, W)`` and the memory for the next.

        Of odd sizes the half-resolution maps have a row or column too many, which is cut off
        after doubling.
        """
        before = state or (None, None)
        encoded = self.encoder.lstm(frame, before[0])
        if self.convention == "upstream":
            decoded = self.decoder.lstm(upstream.sphere_max_pool2d(encoded.hidden, 2), before[1])
            grown = decoded.hidden.repeat_interleave(2, -2).repeat_interleave(2, -1)
            return grown[..., : frame.shape[-2], : frame.shape[-1]], (encoded, decoded)
        decoded = self.decoder.lstm(self.pool(encoded.hidden), before[1])
        grown = self._doubled(decoded.hidden)[..., : frame.shape[-2], : frame.shape[-1]]
        return _relative(1 + grown), (encoded, decoded)

    def forward(self, clip: Tensor) -> Tensor:
        """``(B, T, C, H, W)`` to ``(B, T, 1, H, W)``, memory empty at the start.

        Returns:
            Corrected: relative densities, of mean 1 over the sphere. Upstream: in (-1, 1).
        Raises:
            ValueError: a clip of another rank or number of channels.
        """
        if clip.ndim != 5 or clip.shape[2] != self.in_channels or 0 in clip.shape:
            raise ValueError(
                f"clip: shape {tuple(clip.shape)}, wanted (B, T, {self.in_channels}, H, W)"
            )
        return run(self, clip)[0]

    def _doubled(self, maps: Tensor) -> Tensor:
        """``(B, 1, h, w)`` to ``(B, 1, 2 h, 2 w)``, linear, across the seam and over the poles."""
        return doubled_inside(self.rim(maps))

    def inputs(self, images: Tensor, flow: Tensor | None = None) -> Tensor:
        """Pictures that are tensors already, as in training.

        Args:
            images: ``(..., 3, H, W)`` RGB in [0, 1].
            flow: ``(..., 2, H, W)`` pixels per frame, right and down, to the next frame; wanted
                if the network has 6 channels.
        Returns:
            ``(..., C, H, W)`` in the network's order.
        Raises:
            ValueError: flow where none is wanted, none where it is, or of another size.
        """
        blue_first = images.flip(-3)
        if self.in_channels == 3:
            if flow is not None:
                raise ValueError("flow: given to a network of 3 channels, wanted None")
            return blue_first
        wanted = (*images.shape[:-3], 2, *images.shape[-2:])
        if flow is None or flow.shape != wanted:
            found = None if flow is None else tuple(flow.shape)
            raise ValueError(f"flow: {found}, wanted {wanted}")
        if flow.is_cuda:
            seen = flow.double() if self.convention == "upstream" else tangent_flow(flow)
            colour = flows_to_color(seen.detach()).flip(-3).to(images) / 255
            return torch.cat((blue_first, colour), -3)
        drawn = [self._drawn(one) for one in flow.flatten(0, -4).cpu().numpy()]
        colour = torch.from_numpy(np.stack(drawn)).to(images).movedim(-1, -3).flip(-3) / 255
        return torch.cat((blue_first, colour.reshape(images.shape)), -3)

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """RGB panoramas ``(H, W, 3)`` uint8 of any size to inputs ``(C, 240, 320)``.

        Resized with area averaging as in training. The flow of a frame leads to the next one;
        the last frame repeats the flow before it, a single frame has none. Upstream: DIS on the
        flat panorama, nearest to what the official weights have seen. Corrected: on the sphere.
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
        # Flow is sought on a 2:1 panorama, where a pixel is as wide as it is high; on the sphere
        # with 32 rows at least.
        corrected = self.convention == "corrected"
        rows = max(32, self.input_size[0]) if corrected else 2 * self.input_size[0]
        flow_size, seek = (rows, 2 * rows), sphere_flow if corrected else dis_flow
        before: NDArray[np.uint8] | None = None
        colour = picture = None
        for frame in frames:
            now = resized(frame, flow_size)
            if before is not None and picture is not None:
                colour = tensor(resized(self._drawn(seek(before, now)), self.input_size))
                yield torch.cat((picture, colour))
            before, picture = now, tensor(resized(frame, self.input_size))
        if picture is not None:
            yield torch.cat((picture, torch.ones_like(picture) if colour is None else colour))

    def _drawn(self, flow: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Flow ``(2, H, W)`` as colours. Corrected: as seen from the centre, or the columns
        beside a pole, many of which are a small step, would be all that shows."""
        seen = flow if self.convention == "upstream" else tangent_flow(flow).numpy()
        return flow_to_color(seen)


def _relative(maps: Tensor) -> Tensor:
    """Maps ``(B, 1, H, W)``, none negative, divided by their mean over the sphere."""
    return maps / sphere_mean(maps).clamp_min(1e-6)
