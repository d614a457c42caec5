"""Convolutions on the sphere: time and memory beside an ordinary one, and how both grow.

Every time is a forward and a backward pass, with gradients for the input and the weights. The
planar candidate is a 3 x 3 ``conv2d`` behind circular padding, the least that a panorama needs.
Memory is what torch's allocator hands out during one pass, at its highest; tables, which are
made once for a size, are listed apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved
from sal360 import upstream
from sal360.nn import CrownConv2d, PatternConv2d, RingConv2d, SphereConv2d
from sal360.nn.reads import reads_of
from sal360.upstream.zhang import crown_in_bands

Step = Callable[[], None]
PLANAR = "planar conv2d, circular padding"
CASES: dict[str, dict[str, Any]] = {
    "tangent 3 x 3, 8 x 64 x 120 x 240 to 64": {
        "shape": (8, 64, 64, 120, 240), "repeats": 7,
        "layers": ["SphereConv2d", "SphereConv2d, bicubic", "RingConv2d",
                   "RingConv2d, bilinear", "published tangent"],
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
    if kind.startswith("RingConv2d"):
        mode = "bilinear" if "bilinear" in kind else "bicubic"
        return RingConv2d(I, O, bias=False, mode=mode)  # type: ignore[arg-type]
    if kind == "CrownConv2d":
        return CrownConv2d(I, O, *crown, bias=False)
    if kind == "published tangent":
        weight = torch.randn(O, I, 3, 3, requires_grad=True)
        return lambda x: upstream.sphere_conv2d(x, weight)
    weight = torch.randn(O, I, *crown[0], requires_grad=True)
    return lambda x: crown_in_bands(x, weight, crown[1])  # crown_conv2d is faster now


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


def peak(call: Step) -> float:
    """Most memory that tensors made during a call hold at one time, MB, by torch's own count."""
    from torch.profiler import ProfilerActivity, profile

    call()  # tables
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    assert watched.profiler is not None
    assert watched.profiler.kineto_results is not None
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(held) / 1e6


def tables_mb(layer: Any, H: int, W: int) -> float:
    """Size of a layer's tables, zero for others."""
    if not isinstance(layer, PatternConv2d):
        return 0.0
    first = layer.out_channels <= layer.in_channels and layer.stride == 1
    return reads_of(layer.pattern(H, W), layer.mode, products=first).bytes / 1e6


def memory() -> dict[str, Any]:
    """Peak and tables of every candidate of every case."""
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        B, I, O, H, W = case["shape"]
        for kind in [PLANAR, *case["layers"]]:
            layer = made(kind, I, O, case.get("crown"))
            row = {"peak_mb": peak(step(layer, B, I, H, W)), "tables_mb": tables_mb(layer, H, W)}
            found.setdefault(name, {})[kind] = row
    return found


UNET = [  # in, out, rows, radius, taps of the Spherical U-Net's seven layers at 128 x 256
    (4, 64, 128, math.pi / 32, (8, 16)),
    (64, 128, 64, math.pi / 16, (4, 8)),
    (128, 256, 32, math.pi / 4, (4, 8)),
    (256, 256, 16, math.pi, (8, 16)),
    (512, 128, 32, math.pi / 4, (4, 8)),
    (256, 64, 64, math.pi / 16, (4, 8)),
    (128, 1, 128, math.pi / 32, (4, 8)),
]


def whole_unet() -> dict[str, Any]:
    """Memory of all crown convolutions of the Spherical U-Net for one image.

    For the published code: the columns of image patches that its autograd keeps, one block for
    each row, counted from the sizes of its grids (its rows come one after another, so they are
    all there when the backward pass begins). For ours: the peak of a forward and a backward
    pass through the seven layers, one after another, and what the layers keep between the two.
    """
    published, kept, peaks, tables = 0.0, 0.0, [], 0.0
    for I, O, H, radius, taps in UNET:
        grids = upstream.crown_grid(H, 2 * H, radius)
        patches = sum(row.grid.shape[0] * row.grid.shape[1] for row in grids)
        published += 4e-6 * patches * I * 2 * H
        layer = CrownConv2d(I, O, taps, radius, bias=False)
        kept += 4e-6 * (I + O) * 2 * H * H
        peaks.append(peak(step(layer, 1, I, H, 2 * H)))
        tables += tables_mb(layer, H, 2 * H)
    return {
        "published_kept_mb": published,
        "kept_mb": kept,
        "largest_layer_mb": max(peaks),
        "tables_mb": tables,
    }


AXES: dict[str, list[int]] = {
    "pixels": [32, 48, 64, 96, 128, 192, 256],  # rows; twice as many columns
    "channels": [8, 16, 32, 64, 128],
    "taps": [1, 3, 5, 7, 9],  # along a side of a tangent kernel; circles and bearings of a crown
}


def grown(axis: str, size: int) -> tuple[int, dict[str, Step]]:
    """What grows, and the passes of an ordinary, a tangent and a crown convolution at that size."""
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
    crown = CrownConv2d(C, C, (k, k), math.pi / 8, bias=False)
    value = {"pixels": 2 * H * H, "channels": C, "taps": k * k}[axis]
    layers = {"planar": planar, "sphere": sphere, "crown": crown}
    return value, {kind: step(layer, 1, C, H, 2 * H) for kind, layer in layers.items()}


def scaling() -> dict[str, Any]:
    """Times (one thread) and memory along each axis, with the exponents fitted to them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    try:
        for axis, sizes in AXES.items():
            rows = []
            for size in sizes:
                at, calls = grown(axis, size)
                row = {"at": at} | {f"{name}_mb": peak(call) for name, call in calls.items()}
                times = interleaved(calls, 7)
                rows.append(row | {f"{name}_ms": 1000 * t["median_s"] for name, t in times.items()})
            keys = [f"{name}_{unit}" for unit in ("ms", "mb") for name in calls]
            results[axis] = {"rows": rows, "exponents": {k: exponent(rows, k) for k in keys}}
    finally:
        torch.set_num_threads(before)
    return results


def exponent(rows: list[dict[str, Any]], key: str) -> float:
    """Slope of the line through the logarithms: ``key`` grows as ``at`` to this power."""
    usable = [(math.log(r["at"]), math.log(r[key])) for r in rows if r[key] > 0]
    mx = sum(x for x, _ in usable) / len(usable)
    my = sum(y for _, y in usable) / len(usable)
    return sum((x - mx) * (y - my) for x, y in usable) / sum((x - mx) ** 2 for x, _ in usable)


def run() -> dict[str, Any]:
    """Everything."""
    return {
        "speed": speed(),
        "memory": memory(),
        "unet": whole_unet(),
        "scaling": scaling(),
    }
