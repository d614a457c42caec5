"""Convolution on the sphere on a GPU: candidates beside cuDNN, and beside what the card can do.

``python -m benchmarks.gpu_layers`` on a machine with a GPU (torch and numpy are enough) writes
``data/benchmarks/gpu_layers.json``. No such run is on record yet, and the benchmarks page says
so. The record's ``results``: ``shape``; ``rates`` (bytes per second of a large copy and
operations per second of a large product in bf16, both measured in the run); ``times``: for each
candidate ``median_s``, ``min_s``, ``max_s``, ``ratio`` to cuDNN's 3 x 3 ``conv2d`` in bf16,
``peak_mb`` and ``of_roofline``, the share of the time that the slower of bytes / bandwidth and
operations / rate would take for an ideal kernel, which moves input, output and weights once.

Candidates: the layer as it is (project first and read first by ``embedding_bag``), reading by
plain gathers for the whole batch at once, the same compiled, and the published scheme, which
lets ``grid_sample`` make an image nine times as large.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import interleaved, save
from sal360 import patterns, upstream
from sal360.nn import sampled_conv2d

B, I, O, H, W = 8, 64, 64, 120, 240


def gathered(x: Tensor, weight: Tensor, pixels: Tensor, parts: Tensor) -> Tensor:
    """All samples by one index, four pixels each, then one product.

    ``pixels`` and ``parts`` are ``(N K, 4)``; differentiable by autograd, nothing of our own.
    """
    K = weight.shape[2] * weight.shape[3]
    flat = x.flatten(2)
    read = (flat[:, :, pixels] * parts.to(x.dtype)).sum(-1)
    samples = read.unflatten(2, (-1, K))
    return torch.einsum("bcnk,ock->bon", samples, weight.flatten(2)).unflatten(2, x.shape[-2:])


def candidates(device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Name to a function of the image and an ``(O, I, 3, 3)`` weight."""
    pattern = patterns.tangent_pattern(H, W)
    pixels, parts = (part.to(device) for part in pattern.table())

    def planar(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight)

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return gathered(x, weight, pixels, parts)

    return {
        "planar conv2d": planar,
        "project first": lambda x, w: sampled_conv2d(x, w, pattern, project_first=True),
        "read first": lambda x, w: sampled_conv2d(x, w, pattern, project_first=False),
        "gathers": plain,
        "gathers, compiled": torch.compile(plain),
        "published, grid_sample": upstream.sphere_conv2d,
    }


def step(
    call: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, device: torch.device
) -> Callable[[], float]:
    """One forward and backward pass; gives its own time, by the device's clock."""
    torch.manual_seed(0)
    x = torch.rand(B, I, H, W, device=device, dtype=dtype, requires_grad=True)
    weight = nn.Parameter(torch.randn(O, I, 3, 3, device=device, dtype=dtype))
    pull = torch.rand_like(call(x, weight))

    def timed() -> float:
        import time

        x.grad = weight.grad = None
        _wait(device)
        start = time.perf_counter()
        call(x, weight).backward(pull)
        _wait(device)
        return time.perf_counter() - start

    return timed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rates(device: torch.device, n: int) -> dict[str, float]:
    """What the device can do: bytes moved and operations done per second."""
    a = torch.rand(n, n, device=device, dtype=torch.bfloat16)
    copy = torch.empty_like(a)

    def once(call: Callable[[], Any]) -> float:
        times = interleaved({"x": _synchronised(call, device)}, 9)
        return float(times["x"]["median_s"])

    return {
        "bytes_per_s": 2 * a.numel() * a.element_size() / once(lambda: copy.copy_(a)),
        "bf16_operations_per_s": 2 * n**3 / once(lambda: a @ a),
    }


def _synchronised(call: Callable[[], Any], device: torch.device) -> Callable[[], None]:
    def waiting() -> None:
        call()
        _wait(device)

    return waiting


def run(device: torch.device, repeats: int = 21, n: int = 8192) -> dict[str, Any]:
    """All candidates in float32 and bfloat16."""
    able = rates(device, n)
    operations = 3 * 2 * B * H * W * O * I * 9
    calls: dict[str, Callable[[], float]] = {}
    peaks: dict[str, float] = {}
    for dtype, short in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        for name, call in candidates(device).items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            timed = step(call, dtype, device)
            timed()
            calls[f"{name}, {short}"] = timed
            if device.type == "cuda":
                peaks[f"{name}, {short}"] = torch.cuda.max_memory_allocated(device) / 1e6
    times = interleaved(calls, repeats)
    for name, row in times.items():
        size = 2 if name.endswith("bf16") else 4
        moved = size * 3 * (B * H * W * (I + O) + 9 * I * O)
        ideal = max(moved / able["bytes_per_s"], operations / able["bf16_operations_per_s"])
        row["of_roofline"] = ideal / row["median_s"]
        if name in peaks:
            row["peak_mb"] = peaks[name]
    return {"shape": f"{B} x {I} x {H} x {W} to {O}", "rates": able, "times": times}


def main() -> None:
    """Measure and write the record; ``--try`` runs everything once, small, on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--try", action="store_true", dest="attempt")
    if parser.parse_args().attempt:
        global B, H, W
        B, H, W = 1, 12, 24
        print(json.dumps(run(torch.device("cpu"), 1, 64), indent=1))
    elif not torch.cuda.is_available():
        raise SystemExit("no GPU here; --try runs the script small, on the CPU")
    else:
        print(save("gpu_layers", run(torch.device("cuda"))))


if __name__ == "__main__":
    main()
