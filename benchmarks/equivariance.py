"""What every layer keeps of the sphere, ours beside the planar and the published ones.

All 3 x 3 kernels carry one isotropic Laplacian, all crowns one centre-minus-surround that sums
to zero over their cap, so that a perfect layer would commute with every rotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360 import upstream
from sal360.nn import (
    CrownConv2d,
    RingConv2d,
    SphereAvgPool2d,
    SphereBlockMaxPool2d,
    SphereConv2d,
    SphereMaxPool2d,
    SpherePad2d,
    to_cube_padded,
)
from sal360.nn.equivariance import Grid, check_equivariance

LAPLACIAN = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]])[None, None]
CROWN, RADIUS = (4, 8), math.pi / 16
SIZES: dict[Grid, tuple[int, int]] = {"erp": (128, 256), "cube": (128, 256)}
TO_PUBLISHED = [2, 5, 0, 3, 1, 4]  # B D F L R T out of F R B L U D
FROM_PUBLISHED = [2, 4, 0, 3, 5, 1]


def weighted(layer: nn.Module, weight: Tensor) -> nn.Module:
    """The layer with these weights and without a bias."""
    parameters = dict(layer.named_parameters())
    with torch.no_grad():
        parameters["weight"].copy_(weight)
    return layer


def planar(**options: Any) -> nn.Module:
    """An ordinary Laplacian."""
    return weighted(nn.Conv2d(1, 1, 3, bias=False, **options), LAPLACIAN)


def centre_minus_surround() -> Tensor:
    """``(1, 1, Kt, Kp)``: falls from the centre to the rim, with mean zero over the cap."""
    Kt, Kp = CROWN
    shares = CrownConv2d(1, 1, CROWN, RADIUS).tap_weights()
    falling = torch.cos(torch.arange(Kt, dtype=torch.float64) * math.pi / (Kt - 1))
    falling = falling[:, None].expand(Kt, Kp)
    return (falling - (falling * shares).sum())[None, None].float()


def published_cube(x: Tensor) -> Tensor:
    """The published padding, then a convolution: ``(6, 1, S, S)``, faces F R B L U D."""
    padded = upstream.cube_pad(x[TO_PUBLISHED], 1)
    return F.conv2d(padded, LAPLACIAN.to(x))[FROM_PUBLISHED]


def layers() -> dict[str, tuple[Grid, Callable[[Tensor], Tensor]]]:
    """Everything that is asked, by name."""
    crown = centre_minus_surround()
    ring = LAPLACIAN.clone()
    ring[ring > 0] = 1.0
    ring[0, 0, 1, 1] = -8.0
    return {
        "planar, zero padding": ("erp", planar(padding=1)),
        "planar, circular padding": ("erp", planar(padding=1, padding_mode="circular")),
        "planar, SpherePad2d": ("erp", nn.Sequential(SpherePad2d(1), planar())),
        "SphereConv2d": ("erp", weighted(SphereConv2d(1, 1, bias=False), LAPLACIAN)),
        "SphereConv2d, bicubic": (
            "erp", weighted(SphereConv2d(1, 1, bias=False, mode="bicubic"), LAPLACIAN)),
        "SphereConv2d, bicubic, stride 2": (
            "erp", weighted(SphereConv2d(1, 1, stride=2, bias=False, mode="bicubic"), LAPLACIAN)),
        "RingConv2d": ("erp", weighted(RingConv2d(1, 1, bias=False), ring)),
        "RingConv2d, bilinear": (
            "erp", weighted(RingConv2d(1, 1, bias=False, mode="bilinear"), ring)),
        "CrownConv2d": ("erp", weighted(CrownConv2d(1, 1, CROWN, RADIUS, bias=False), crown)),
        "CrownConv2d, bicubic": (
            "erp", weighted(CrownConv2d(1, 1, CROWN, RADIUS, bias=False, mode="bicubic"), crown)),
        "SphereMaxPool2d": ("erp", SphereMaxPool2d()),
        "SphereBlockMaxPool2d": ("erp", SphereBlockMaxPool2d()),
        "SphereAvgPool2d": ("erp", SphereAvgPool2d()),
        "planar max pool": ("erp", nn.MaxPool2d(2)),
        "published tangent": ("erp", lambda x: upstream.sphere_conv2d(x, LAPLACIAN.to(x))),
        "published crown": ("erp", lambda x: upstream.crown_conv2d(x, crown.to(x), RADIUS)),
        "published max pool": ("erp", upstream.sphere_max_pool2d),
        "cube, zero padding": ("cube", planar(padding=1)),
        "cube, CubePad2d copy": ("cube", to_cube_padded(planar(padding=1), mode="copy")),
        "cube, CubePad2d reproject": ("cube", to_cube_padded(planar(padding=1), mode="reproject")),
        "cube, published padding": ("cube", published_cube),
    }  # fmt: skip


def run() -> dict[str, Any]:
    """The properties of every layer."""
    found = {}
    for name, (grid, layer) in layers().items():
        H, W = SIZES[grid]
        answer = asdict(check_equivariance(layer, 1, H, W, grid=grid))
        answer["dtype"] = str(answer["dtype"]).removeprefix("torch.")
        found[name] = answer
    return {"sizes": {g: f"{H} x {W}" for g, (H, W) in SIZES.items()}, "layers": found}
