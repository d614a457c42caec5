"""How near the published layers are to figures of the published code, and whether the gradients of
ours are their derivatives: no times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_smoke import checks
from sal360 import upstream

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
DARK = {"C_4x8_pi16": [45]}
"""Rows whose published answer hangs on the last digit of a bearing, by case."""


def run() -> dict[str, Any]:
    """Largest differences from the stored figures, and the verdict of ``gradcheck``."""
    published = {
        name: {
            "files": files,
            "numbers": int(sum(want.numel() for _, want in pairs)),
            "largest": float(max(want.abs().max() for _, want in pairs)),
            "difference": float(max((got - want).abs().max() for got, want in pairs)),
            "dtype": str(pairs[0][0].dtype).removeprefix("torch."),
        }
        for name, files, pairs in _published()
    }
    checked = {name: check() for name, check in checks(torch.device("cpu"))}
    return {"published": published, "dark": DARK, "gradcheck": checked}


def _stored(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as found:
        return {k: torch.from_numpy(v) for k, v in found.items() if v.dtype.kind in "fiu"}


def _published() -> Iterator[tuple[str, str, list[tuple[Tensor, Tensor]]]]:
    s = _stored("spherenet")
    given = s["conv_x"], s["conv_w"], s["conv_b"]
    yield (
        "sphere_conv2d", "spherenet.npz",
        [(upstream.sphere_conv2d(*given, stride=k), s[name])
         for k, name in ((1, "conv_y"), (2, "conv_y_stride2"))],
    )  # fmt: skip
    yield (
        "sphere_max_pool2d", "spherenet.npz",
        [(upstream.sphere_max_pool2d(s["conv_x"], k), s[f"pool_y_stride{k}"]) for k in (1, 2)],
    )  # fmt: skip
    yield "crown_conv2d", "sconv.npz", list(_crowns())
    s = _stored("cubepad")
    pads = {"pad1": 1, "pad2": 2, "pad3": 3, "pad_lrtd_1230": (1, 2, 3, 0)}
    yield (
        "cube_pad", "cubepad.npz",
        [(upstream.cube_pad(s["input"], pad), s[name]) for name, pad in pads.items()],
    )  # fmt: skip
    s = _stored("resnet_cubepad")
    norm = [s[f"stem.bn1.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
    stem = F.conv2d(upstream.cube_pad(s["stem.x"], 3), s["stem.conv1.weight"], stride=2)
    stem = F.relu(F.batch_norm(stem, *norm))
    pooled = F.max_pool2d(upstream.cube_pad(stem, 1), 3, 2)
    yield (
        "cube_pad in a ResNet's stem", "resnet_cubepad.npz",
        [(stem, s["stem.after_relu"]), (pooled, s["stem.after_maxpool"])],
    )  # fmt: skip
    s = _stored("vo_conv")
    yield (
        "lookup_conv2d", "vo_conv.npz",
        [(upstream.lookup_conv2d(s["x"], s["w"], s["b"], s["coor"]), s["y"])],
    )  # fmt: skip


def _crowns() -> Iterator[tuple[Tensor, Tensor]]:
    with np.load(GOLDEN / "sconv.npz") as s:
        for name in sorted({key.split("__")[0] for key in s if key.endswith("__y")}):
            x, weight, wanted = (torch.from_numpy(s[f"{name}__{k}"]).double() for k in "xwy")
            got = upstream.crown_conv2d(
                x, weight, float(s[f"{name}__rad"]), str(s[f"{name}__mode"])
            )
            kept = [t for t in range(x.shape[-2]) if t not in DARK.get(name, [])]
            yield got[:, :, kept], wanted[:, :, kept]
