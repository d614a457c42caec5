"""Flow as colours: direction is hue, speed is saturation.

Official SST-Sal weights expect flow as such a picture, of eight bits, that RAFT drew. The wheel
is that of Baker et al.; :mod:`sal360.datasets.flow_picture` reads it back.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import ArrayLike
from sal360._tables import untraced

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


def flows_to_color(flow: Tensor) -> Tensor:
    """:func:`flow_to_color` of a stack of frames, where they are: on a GPU none leaves it.

    Args:
        flow: ``(..., 2, H, W)`` floating pixels, right and down; not looked at for NaN.
    Returns:
        ``(..., 3, H, W)`` RGB in the dtype of ``flow``, whole numbers from 0 to 255; a pixel in
        ten thousand may differ by 1 from the other way, by rounding.
    """
    u, v = flow.unbind(-3)
    speed = torch.hypot(u, v)
    scale = speed.amax((-2, -1), keepdim=True) + 1e-5
    wheel = _wheel_at(flow.dtype, flow.device)
    place = (torch.atan2(-v / scale, -u / scale) / math.pi + 1) / 2 * (len(wheel) - 1)
    low = place.floor()
    part = (place - low)[..., None]
    first = low.long()
    hue = (1 - part) * wheel[first] + part * wheel[(first + 1) % len(wheel)]
    colour = 1 - (speed / scale)[..., None] * (1 - hue)
    return (255 * colour).floor().movedim(-1, -3)


@untraced
@lru_cache(maxsize=4)
def _wheel_at(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(color_wheel()).to(device, dtype)
