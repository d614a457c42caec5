"""Padding the faces of a cube from their neighbours, against padding them with zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import interleaved
from sal360 import upstream
from sal360.nn import CubePad2d, rim_native

SHAPES = {  # cubes, channels, S, padding: what a ResNet-50 asks for; a batch; a small U-Net's
    "6 x 64 x 56 x 56, 1": (1, 64, 56, 1),
    "6 x 3 x 224 x 224, 3": (1, 3, 224, 3),
    "6 x 256 x 14 x 14, 1": (1, 256, 14, 1),
    "24 x 64 x 56 x 56, 1": (4, 64, 56, 1),
    "72 x 8 x 16 x 16, 1": (12, 8, 16, 1),
}


def run() -> dict[str, Any]:
    """Forward and backward times of the padding alone, and of a convolution with it."""
    kept, results = torch.get_num_threads(), {"compiled": rim_native.compiled is not None}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results[f"{threads} thread" + "s" * (threads > 1)] = {
                name: _forward_backward(*shape) for name, shape in SHAPES.items()
            }
        torch.set_num_threads(1)
        results["with a 3 x 3 convolution, 1 thread"] = _convolution()
    finally:
        torch.set_num_threads(kept)
    return results


def _forward_backward(B: int, C: int, S: int, pad: int) -> dict[str, dict]:
    torch.manual_seed(0)
    x = torch.rand(6 * B, C, S, S, requires_grad=True)
    grad = torch.rand(6 * B, C, S + 2 * pad, S + 2 * pad)

    def timed(padding: Callable[[Tensor], Tensor], as_built: bool = True) -> Callable[[], None]:
        built = rim_native.compiled

        def call() -> None:
            rim_native.compiled = built if as_built else None
            try:
                x.grad = None
                padding(x).backward(grad)
            finally:
                rim_native.compiled = built

        return call

    return interleaved(
        {
            "zeros (F.pad)": timed(lambda x: F.pad(x, (pad,) * 4)),
            "CubePad2d, copy": timed(CubePad2d(pad)),
            "CubePad2d, reproject": timed(CubePad2d(pad, "reproject")),
            "copy, not compiled": timed(CubePad2d(pad), False),
            "reproject, not compiled": timed(CubePad2d(pad, "reproject"), False),
            "sal360.upstream.cube_pad": timed(lambda x: upstream.cube_pad(x, pad)),
        },
        repeats=31,
    )


def _convolution(C: int = 64, S: int = 56) -> dict[str, dict]:
    """A whole layer: the convolution's own zeros against padding before it."""
    torch.manual_seed(0)
    x = torch.rand(6, C, S, S, requires_grad=True)
    plain, bare = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3)

    def timed(layer: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def call() -> None:
            x.grad = None
            layer(x).sum().backward()

        return call

    copied, read = CubePad2d(1), CubePad2d(1, "reproject")
    return interleaved(
        {
            "zeros": timed(plain),
            "copy": timed(lambda x: bare(copied(x))),
            "reproject": timed(lambda x: bare(read(x))),
        },
        repeats=9,
    )
