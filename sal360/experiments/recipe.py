"""What the kernels' experiment compares, and every number that decides a run of it. Chapter 09."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = {
    "planar": "3 x 3, zeros beyond the edges",
    "wrapped": "3 x 3, padded across seam and poles",
    "tangent": "3 x 3 on the tangent plane",
    "ring": "centre and 8 taps on one circle",
    "crown": "3 circles of 4 taps",
    "cube": "3 x 3 on six faces, padded from neighbours",
    "cube, zeros": "3 x 3 on six faces, zeros beyond the edges",
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run but its kind and seed."""

    scale: str
    H: int
    steps: int
    width: int
    seeds: int
    tuning_steps: int = 700
    kinds: tuple[str, ...] = tuple(KINDS)
    controls: tuple[str, ...] = ("planar", "wrapped", "tangent", "cube")
    ablated: tuple[str, ...] = ("planar", "tangent")
    rates: tuple[float, ...] = (0.06, 0.12, 0.24, 0.48)
    batch: int = 1
    pool: int = 512
    trials: int = 48
    spot: float = 9.0  # degrees: radius of a round spot of middling size
    aspect: float = 2.2  # long to short axis of the others
    clutter: float = 0.35  # standard deviation of the background; spots are .6 to 1.2 bright
    sigma: float = 6.0  # degrees: width of the blobs in the truth

    @property
    def W(self) -> int:
        """Columns of the panorama."""
        return 2 * self.H

    @property
    def S(self) -> int:
        """Texels along a cube's edge, so that six faces hold about as many pixels."""
        return round(math.sqrt(self.H * self.W / 6))


RECIPES = {
    "fast": Recipe("fast", H=32, steps=400, width=8, seeds=1, kinds=("planar", "tangent"),
                   controls=(), ablated=(), rates=(0.12,), pool=128, trials=32, spot=13.5,
                   sigma=9.0),
    "cpu": Recipe("cpu", H=48, steps=900, width=12, seeds=5),
    "gpu": Recipe("gpu", H=96, steps=2000, width=32, seeds=10, batch=16, pool=8192, trials=256,
                  spot=4.5, sigma=3.0),
}  # fmt: skip
