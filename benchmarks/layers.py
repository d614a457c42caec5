"""Convolutions on the sphere: time and memory beside an ordinary one, and how both grow.

Every time is a forward and a backward pass, with gradients for the input and the weights. The
planar candidate is a 3 x 3 ``conv2d`` behind circular padding, the least that a panorama needs.
Memory is measured apart, in fresh processes with the allocator's default settings, as the rise
of the resident peak during one pass, tables not counted (they are listed).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved
from sal360 import upstream
from sal360.nn import CrownConv2d, RingConv2d, SphereConv2d
from sal360.nn.sampled import reads_of

Step = Callable[[], None]
PLANAR = "planar conv2d, circular padding"
CASES: dict[str, dict[str, Any]] = {
    "tangent 3 x 3, 8 x 64 x 120 x 240 to 64": {
        "shape": (8, 64, 64, 120, 240), "repeats": 7,
        "layers": ["SphereConv2d", "SphereConv2d, bicubic", "RingConv2d", "published tangent"],
    },
    "crown 4 x 8, radius pi/32, 1 x 16 x 128 x 256 to 16": {
        "shape": (1, 16, 16, 128, 256), "crown": ((4, 8), math.pi / 32), "repeats": 11,
        "layers": ["CrownConv2d", "published crown"],
    },
    "crown 4 x 8, radius pi/16, 1 x 64 x 64 x 128 to 128": {
        "shape": (1, 64, 128, 64, 128), "crown": ((4, 8), math.pi / 16), "repeats": 7,
        "layers": ["CrownConv2d", "published crown"],
    },
    "crown 4 x 8, radius pi/4, 1 x 64 x 32 x 64 to 64": {
        "shape": (1, 64, 64, 32, 64), "crown": ((4, 8), math.pi / 4), "repeats": 7,
        "layers": ["CrownConv2d", "published crown"],
    },
    "crown 8 x 16, whole sphere, 1 x 64 x 16 x 32 to 64": {
        "shape": (1, 64, 64, 16, 32), "crown": ((8, 16), math.pi), "repeats": 11,
        "layers": ["CrownConv2d", "published crown"],
    },
}  # fmt: skip


def made(kind: str, I: int, O: int, crown: Any = None) -> Callable[[Tensor], Tensor]:
    """A candidate by name, with weights of its own."""
    torch.manual_seed(0)
    if kind == PLANAR:
        return nn.Conv2d(I, O, 3, padding=1, padding_mode="circular", bias=False)
    if kind.startswith("SphereConv2d"):
        mode = "bicubic" if "bicubic" in kind else "bilinear"
        return SphereConv2d(I, O, bias=False, mode=mode)  # type: ignore[arg-type]
    if kind == "RingConv2d":
        return RingConv2d(I, O, bias=False)
    if kind == "CrownConv2d":
        return CrownConv2d(I, O, *crown, bias=False)
    if kind == "published tangent":
        weight = torch.randn(O, I, 3, 3, requires_grad=True)
        return lambda x: upstream.sphere_conv2d(x, weight)
    weight = torch.randn(O, I, *crown[0], requires_grad=True)
    return lambda x: upstream.crown_conv2d(x, weight, crown[1])


def step(layer: Callable[[Tensor], Tensor], B: int, I: int, H: int, W: int) -> Step:
    """One forward and backward pass."""
    x = torch.rand(B, I, H, W, requires_grad=True)
    pull = torch.rand_like(layer(x))

    def call() -> None:
        x.grad = None
        layer(x).backward(pull)

    return call


def speed() -> dict[str, Any]:
    """Every case on one thread and on two."""
    results: dict[str, Any] = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for name, case in CASES.items():
                B, I, O, H, W = case["shape"]
                kinds = [PLANAR, *case["layers"]]
                calls = {k: step(made(k, I, O, case.get("crown")), B, I, H, W) for k in kinds}
                times = interleaved(calls, case["repeats"])
                results.setdefault(name, {})[f"{threads} thread" + "s" * (threads > 1)] = times
    finally:
        torch.set_num_threads(before)
    return results


def peak(call: Step) -> int:
    """Rise of the resident peak during a call, bytes (Linux)."""
    call()  # tables, workspaces
    Path("/proc/self/clear_refs").write_text("5")
    base = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - base)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(field)


def in_a_fresh_process(what: str, *arguments: str) -> Any:
    """``python -m benchmarks.layers WHAT ...`` with the default allocator: what it prints."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, "-m", "benchmarks.layers", what, *arguments]
    run = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def memory_of(name: str, kind: str) -> dict[str, float]:
    """Peak and tables of one candidate, in this process."""
    torch.set_num_threads(1)
    case = CASES[name]
    B, I, O, H, W = case["shape"]
    layer = made(kind, I, O, case.get("crown"))
    found = {"peak_mb": peak(step(layer, B, I, H, W)) / 1e6, "tables_mb": 0.0}
    if kind in ("CrownConv2d", "RingConv2d") or kind.startswith("SphereConv2d"):
        assert isinstance(layer, (SphereConv2d, CrownConv2d, RingConv2d))
        reads = reads_of(layer.pattern(H, W), layer.mode, products=O <= I)
        found["tables_mb"] = reads.bytes / 1e6
    return found


def memory() -> dict[str, Any]:
    """Every case, each candidate in a process of its own."""
    return {
        name: {kind: in_a_fresh_process("memory", name, kind) for kind in [PLANAR, *case["layers"]]}
        for name, case in CASES.items()
    }


AXES: dict[str, list[int]] = {
    "pixels": [32, 48, 64, 96, 128, 192, 256],  # rows; twice as many columns
    "channels": [8, 16, 32, 64, 128],
    "taps": [1, 3, 5, 7, 9],  # along a side of a tangent kernel
}


def grown(axis: str, size: int) -> tuple[int, Step, Step]:
    """What grows, and the passes of an ordinary and of a tangent convolution at that size."""
    H, C, k = 64, 32, 3
    if axis == "pixels":
        H, C = size, 16
    elif axis == "channels":
        C = size
    else:
        k, C = size, 16
    torch.manual_seed(0)
    planar = nn.Conv2d(C, C, k, padding=k // 2, padding_mode="circular", bias=False)
    sphere = SphereConv2d(C, C, k, bias=False)
    value = {"pixels": 2 * H * H, "channels": C, "taps": k * k}[axis]
    return value, step(planar, 1, C, H, 2 * H), step(sphere, 1, C, H, 2 * H)


def scaling_memory(axis: str) -> list[dict[str, float]]:
    """Peaks along one axis, in this process."""
    torch.set_num_threads(1)
    rows = []
    for size in AXES[axis]:
        value, planar, sphere = grown(axis, size)
        rows.append({"at": value, "planar_mb": peak(planar) / 1e6, "sphere_mb": peak(sphere) / 1e6})
    return rows


def scaling() -> dict[str, Any]:
    """Times (one thread) and memory along each axis, with the exponents fitted to them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    try:
        for axis, sizes in AXES.items():
            memory = in_a_fresh_process("scaling", axis)
            rows = []
            for size, peaks in zip(sizes, memory, strict=True):
                _, planar, sphere = grown(axis, size)
                times = interleaved({"planar": planar, "sphere": sphere}, 7)
                rows.append(
                    peaks | {f"{name}_ms": 1000 * t["median_s"] for name, t in times.items()}
                )
            keys = ("planar_ms", "sphere_ms", "planar_mb", "sphere_mb")
            results[axis] = {"rows": rows, "exponents": {k: exponent(rows, k) for k in keys}}
    finally:
        torch.set_num_threads(before)
    return results


def exponent(rows: list[dict[str, float]], key: str) -> float:
    """Slope of the line through the logarithms: ``key`` grows as ``at`` to this power."""
    usable = [(math.log(r["at"]), math.log(r[key])) for r in rows if r[key] > 0]
    mx = sum(x for x, _ in usable) / len(usable)
    my = sum(y for _, y in usable) / len(usable)
    return sum((x - mx) * (y - my) for x, y in usable) / sum((x - mx) ** 2 for x, _ in usable)


def run() -> dict[str, Any]:
    """Everything."""
    return {"speed": speed(), "memory": memory(), "scaling": scaling()}


if __name__ == "__main__":
    wanted = {"memory": memory_of, "scaling": scaling_memory}[sys.argv[1]]
    print(json.dumps(wanted(*sys.argv[2:])))  # type: ignore[operator]
