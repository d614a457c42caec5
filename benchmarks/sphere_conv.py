"""SST-Sal's convolution in the size of its encoder, against a planar one."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.measure import interleaved
from sal360 import upstream

H, W, INPUTS, OUTPUTS = 240, 320, 42, 144


def run() -> dict[str, Any]:
    """Forward times and the time to build the pattern."""
    torch.manual_seed(0)
    x, weight = torch.rand(1, INPUTS, H, W), torch.rand(OUTPUTS, INPUTS, 3, 3)
    with torch.no_grad():
        forward = interleaved(
            {
                "planar 3x3 conv2d, circular padding": lambda: F.conv2d(
                    F.pad(x, (1, 1, 1, 1), mode="circular"), weight
                ),
                "sal360.upstream.sphere_conv2d": lambda: upstream.sphere_conv2d(x, weight),
            }
        )
    spent = []
    for _ in range(7):
        start = time.perf_counter()
        upstream.tangent_coordinates(H, W)
        spent.append(time.perf_counter() - start)
    return {
        "shape": f"1 x {INPUTS} x {H} x {W} to {OUTPUTS}",
        "forward": forward,
        "pattern_build_s": sorted(spent)[3],
    }
