"""Outlines and patterns of things, in their own coordinates.

``x`` right, ``y`` up, in units of the thing's ``size`` (half its height): most shapes fill
``|y| <= 1``. An outline is a function that is negative inside and crosses zero with a finite
slope; it need not be a distance, because the renderer measures its slope.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360.datasets.synthetic.textures import bars, checker, dots

ROUND = (
    "ball", "pebble", "egg", "ellipse", "lamp", "mist", "rod", "ring", "star", "flower", "hexagon",
    "crescent",
)  # fmt: skip
"""Shapes that a circle around their longer half encloses."""


def extent(shape: str, stretch: float) -> float:
    """Radius of a circle that encloses a shape, in units of its size."""
    if shape in ROUND:
        return max(1.0, stretch)
    return math.hypot(1.0, max(stretch * 1.15, 0.5))


def outline(shape: str, x: Tensor, y: Tensor, stretch: float) -> Tensor:
    """Negative inside.

    Args:
        shape: a flat shape of the table of content.
        x, y: any shape. stretch: width over height.
    """
    if shape in ("ellipse", "lamp", "mist"):
        return torch.hypot(x / stretch, y) - 1
    if shape in ("box", "flag"):
        return torch.maximum(x.abs() / stretch, y.abs() * (1.0 if shape == "box" else 1.4)) - 1
    if shape == "rod":
        return torch.hypot(x, y - y.clamp(stretch - 1, 1 - stretch)) - stretch
    if shape == "ring":
        return (torch.hypot(x, y) - 0.74).abs() - 0.26
    if shape == "star":
        return _star(x, y, 5, 0.45)
    if shape == "flower":
        r, angle = torch.hypot(x, y), torch.atan2(x, y)
        return r - (0.76 + 0.24 * torch.cos(6 * angle))
    if shape == "hexagon":
        return torch.maximum((x.abs() * 0.5 + y.abs() * 0.8660254), x.abs()) - 0.8660254
    if shape in ("triangle", "cone"):
        return torch.maximum((2 * x.abs() / stretch + y - 1) / 2, -y - 1)
    if shape == "cross":
        a, b = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
        return torch.maximum(a - 1, b - 0.34)
    if shape == "crescent":
        return torch.maximum(torch.hypot(x, y) - 1, 0.82 - torch.hypot(x - 0.5, y - 0.12))
    if shape == "tree":
        cx, cy = x / stretch, (y - 0.32) / 0.68
        angle = torch.atan2(cx, cy)
        crown = torch.hypot(cx, cy) - (0.90 + 0.07 * torch.cos(7 * angle) + 0.04 * torch.cos(
            12 * angle + 1))  # fmt: skip
        return torch.minimum(crown, _block(x, y, 0.09, -1.0, 0.0))
    if shape == "bush":
        cx, cy = x / stretch, (y + 1) / 2
        angle = torch.atan2(cx, cy)
        round_ = torch.hypot(cx, cy) - (0.86 + 0.08 * torch.cos(9 * angle) + 0.05 * torch.cos(
            16 * angle + 2))  # fmt: skip
        return torch.maximum(round_, -1 - y)
    if shape == "cloudlet":
        middles = ((0.0, 0.0, 0.7, 0.75), (-0.5, -0.2, 0.45, 0.5), (0.5, -0.15, 0.5, 0.55))
        lumps = [torch.hypot((x / stretch - cx) / a, (y - cy) / b) - 1 for cx, cy, a, b in middles]
        return torch.stack(lumps).amin(0)
    if shape == "reed":
        blades = [
            torch.hypot(x - lean * (y + 1), (y - y.clamp(-1, top)) * 0.5) - 0.05
            for lean, top in ((0.0, 1.0), (0.22, 0.7), (-0.18, 0.8), (0.36, 0.3), (-0.33, 0.45))
        ]
        return torch.stack(blades).amin(0)
    if shape == "column":
        shaft = _block(x, y, stretch * 0.8, -1.0, 0.9)
        capital = _block(x, y, stretch * 1.15, 0.86, 1.0)
        return torch.stack((shaft, capital, _block(x, y, stretch * 1.15, -1.0, -0.88))).amin(0)
    if shape == "house":
        roof = torch.maximum(x.abs() / stretch * 0.5 + y - 1, 0.45 - y)
        return torch.minimum(_block(x, y, stretch * 0.92, -1.0, 0.5), roof)
    if shape == "arch":
        gate = torch.minimum(
            _block(x, y, stretch * 0.55, -2.0, 0.2), torch.hypot(x, y - 0.2) - stretch * 0.55
        )
        return torch.maximum(_block(x, y, stretch, -1.0, 1.0), -gate)
    raise ValueError(f"shape: {shape!r}, wanted a flat shape of CONTENT")


def _block(x: Tensor, y: Tensor, half: float, low: float, high: float) -> Tensor:
    return torch.stack((x.abs() - half, low - y, y - high)).amax(0)


def _star(x: Tensor, y: Tensor, points: int, inner: float) -> Tensor:
    """Straight edges from a tip at distance 1 to a notch at ``inner``."""
    r, angle = torch.hypot(x, y), torch.atan2(x, y)
    sector = math.pi / points
    part = (torch.remainder(angle + sector, 2 * sector) - sector).abs()
    px, py = r * torch.cos(part), r * torch.sin(part)
    nx, ny = inner * math.sin(sector), 1 - inner * math.cos(sector)
    scale = math.hypot(nx, ny)
    return (px * nx + py * ny - nx) / scale


def pattern(kind: str, x: Tensor, y: Tensor, repeats: float, f: Tensor) -> Tensor:
    """Share of the second colour, averaged over what a pixel covers.

    Args:
        x, y: ``(n,)`` own coordinates. repeats: of the pattern over the size.
        f: ``(n,)`` how much of a coordinate a pixel covers.
    """
    if kind == "plain":
        return torch.zeros_like(x)
    if kind == "stripes":
        return bars((x * 0.5 + y * 0.87) * repeats * 0.7, f * repeats * 0.7, 0.45)
    if kind == "spots":
        return dots(x * repeats * 0.8 + 0.5, y * repeats * 0.8 + 0.5, f * repeats * 0.8, 0.30)
    if kind == "rings":
        return bars(torch.hypot(x, y) * repeats * 0.7, f * repeats * 0.7, 0.5)
    if kind == "halves":
        return ((x + 0.3 * y) / f.clamp(min=1e-3) + 0.5).clamp(0, 1)
    if kind == "checks":
        a = repeats * 0.5
        return checker(x * a + 0.25, y * a + 0.25, f * a, f * a)
    if kind == "rays":
        n = max(3, round(2 * repeats))
        turn = torch.atan2(x, y) * (n / (2 * math.pi))
        r = torch.hypot(x, y).clamp(min=0.02)
        return bars(turn, (f * n / (2 * math.pi) / r).clamp(max=4.0), 0.5)
    if kind == "windows":
        wall = bars(x * 2 + 0.25, f * 2, 0.5) * bars(y * 2 + 0.2, f * 2, 0.45)
        roof = ((y - 0.5) / f.clamp(min=1e-3) + 0.5).clamp(0, 1)
        return torch.maximum(wall * (1 - roof), roof)
    if kind == "flutes":
        return bars(x * 14, f * 14, 0.4)
    if kind == "leaves":
        keep = torch.exp(-(f**2) * (81 / 12))
        wave = torch.cos(9 * x + 2) * torch.cos(8 * y) + torch.cos(6 * x - 5 * y)
        return (0.5 + 0.3 * keep * wave).clamp(0, 1)
    raise ValueError(f"pattern: {kind!r}, wanted a pattern of CONTENT")
