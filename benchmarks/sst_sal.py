"""SST-Sal at its published size: time per frame beside the same network on the plane.

The planar twin has the same weights, gates and sizes, with an ordinary 3 x 3 convolution behind
circular padding, ordinary pooling and doubling. ``published`` is the same network with the
published sampler. A frame is one step with a memory that is not empty; ``learning`` is a forward
and a backward pass over two frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import interleaved
from sal360.models import SSTSal
from sal360.models.sst_sal import State
from sal360.nn import ConvLSTMCell

SIZE = (240, 320)
PLANAR, OURS, PUBLISHED = "planar twin", "corrected", "published sampler"


class Planar(SSTSal):
    """SST-Sal on a cylinder, seam closed, poles ignored."""

    def __init__(self, in_channels: int = 6, hidden: int = 36) -> None:
        super().__init__(in_channels, hidden)

        def conv(i: int, o: int) -> nn.Module:
            return nn.Conv2d(i, o, 3, padding=1, padding_mode="circular")

        self.encoder.lstm = ConvLSTMCell(in_channels, hidden, conv)
        self.decoder.lstm = ConvLSTMCell(hidden, 1, conv)

    def step(self, frame: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        before = state or (None, None)
        encoded = self.encoder.lstm(frame, before[0])
        decoded = self.decoder.lstm(F.max_pool2d(encoded.hidden, 2), before[1])
        grown = F.interpolate(decoded.hidden, scale_factor=2, mode="bilinear")
        return (1 + grown) / (1 + grown.mean((-2, -1), keepdim=True)), (encoded, decoded)


def models(in_channels: int, hidden: int) -> dict[str, SSTSal]:
    """The three candidates, the twin first."""
    torch.manual_seed(0)
    return {
        PLANAR: Planar(in_channels, hidden),
        OURS: SSTSal(in_channels, hidden),
        PUBLISHED: SSTSal(in_channels, hidden, "upstream"),
    }


def one_frame(model: SSTSal) -> Callable[[], None]:
    """A step of prediction."""
    frame = torch.rand(1, model.in_channels, *SIZE)
    with torch.no_grad():
        _, state = model.step(frame)

    def call() -> None:
        with torch.no_grad():
            model.step(frame, state)

    return call


def learning(model: SSTSal) -> Callable[[], None]:
    """Forward and backward over two frames."""
    clip = torch.rand(1, 2, model.in_channels, *SIZE)

    def call() -> None:
        model.zero_grad()
        model(clip).square().mean().backward()

    return call


def run() -> dict[str, Any]:
    """Both official widths, on one thread and on two."""
    results: dict[str, Any] = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            label = f"{threads} thread" + "s" * (threads > 1)
            for name, widths in (("with flow", (6, 36)), ("without flow", (3, 9))):
                rows = results.setdefault(name, {}).setdefault(label, {})
                made = models(*widths)
                calls = {k: one_frame(model) for k, model in made.items()}
                rows["a frame"] = interleaved(calls, repeats=9)
                calls = {k: learning(model) for k, model in made.items()}
                rows["learning, two frames"] = interleaved(calls, repeats=3)
    finally:
        torch.set_num_threads(before)
    return results
