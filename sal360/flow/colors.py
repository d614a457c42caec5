"""Flow as colours: direction is hue, speed is saturation.

Official SST-Sal weights expect flow as such a picture, of eight bits, that RAFT drew. The wheel
is that of Baker et al.; :mod:`sal360.datasets.flow_picture` reads it back.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import ArrayLike

# Colours per arc of the wheel of Baker et al., "A database and evaluation methodology for
# optical flow" (IJCV 2011): red, yellow, green, cyan, blue, magenta.
ARCS = (15, 6, 4, 11, 13, 6)


@lru_cache(maxsize=1)
def color_wheel() -> NDArray[np.float64]:
    """``(55, 3)`` RGB in [0, 1]: one turn through the hues, red first."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]], float)
    arcs = []
    for corner, following, steps in zip(corners, np.roll(corners, -1, 0), ARCS, strict=True):
        part = np.floor(255 * np.arange(steps) / steps)[:, None] / 255
        arcs.append(corner + (following - corner) * part)
    return np.concatenate(arcs)


def flow_to_color(flow: ArrayLike) -> NDArray[np.uint8]:
    """Draw flow as hue (direction) and saturation (speed): white where nothing moves.

    Speed is relative to the fastest pixel **of this frame**, as in RAFT's pictures, so a still
    scene shows its own noise in full colour.

    Args:
        flow: ``(2, H, W)`` pixels, right and down; array or tensor.
    Returns:
        ``(H, W, 3)`` uint8 RGB.
    Raises:
        ValueError: another shape, NaN.
    """
    flow = flow.detach().cpu().numpy() if isinstance(flow, Tensor) else np.asarray(flow)
    if flow.ndim != 3 or flow.shape[0] != 2 or not np.isfinite(flow).all():
        raise ValueError(f"flow: shape {flow.shape}, wanted finite (2, H, W)")
    speed = np.hypot(flow[0], flow[1])
    scale = speed.max() + 1e-5
    u, v = flow[0] / scale, flow[1] / scale
    wheel = color_wheel()
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    hue = (1 - part) * wheel[low] + part * wheel[(low + 1) % len(wheel)]
    colour = 1 - (speed / scale)[..., None] * (1 - hue)
    return np.floor(255 * colour).astype(np.uint8)
