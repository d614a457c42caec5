"""How the picture moves from one frame to the next, in pixels, and as colours.

Flow is ``(2, H, W)`` pixels per frame: right, then down. The panorama is padded with its own
other side before the flow is sought, so what crosses the seam keeps moving. The poles are
treated as a flat picture here; chapter 14 measures what that costs.

Official SST-Sal weights expect the flow as an 8-bit colour-wheel picture that RAFT drew. We
compute it with OpenCV's DIS instead, which needs no weights and runs on any CPU. It differs
from RAFT in three ways that matter to the model: flat regions get smoothed guesses, where RAFT
reasons globally; small fast objects may be lost; edges are softer. On the embedded synthetic
clip its mean end-point error is measured in ``tests/test_flow.py``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Colours per arc of the wheel of Baker et al., "A database and evaluation methodology for
# optical flow" (IJCV 2011): red, yellow, green, cyan, blue, magenta.
_ARCS = (15, 6, 4, 11, 13, 6)


def dis_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dense inverse search flow (Kroeger et al., 2016), continuous across the seam.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB panoramas of one size.
    Returns:
        ``(2, H, W)`` float32 pixels per frame, right and down. Where both frames are equal,
        exactly zero.
    Raises:
        ValueError: sizes that differ, or below 16 x 16.
    """
    import cv2

    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"second: shape {second.shape}, wanted that of first, {first.shape}")
    H, W = first.shape[:2]
    if H < 16 or W < 16:
        raise ValueError(f"first: {H} x {W} pixels, wanted at least 16 x 16")
    if np.array_equal(first, second):
        return np.zeros((2, H, W), np.float32)
    margin = max(16, W // 8)

    def wrapped(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        return np.pad(grey, ((0, 0), (margin, margin)), mode="wrap")

    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(wrapped(first), wrapped(second), None)
    return np.ascontiguousarray(flow[:, margin : margin + W].transpose(2, 0, 1))


@lru_cache(maxsize=1)
def color_wheel() -> NDArray[np.float64]:
    """``(55, 3)`` RGB in [0, 1]: one turn through the hues, red first."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]], float)
    arcs = []
    for corner, following, steps in zip(corners, np.roll(corners, -1, 0), _ARCS, strict=True):
        part = np.floor(255 * np.arange(steps) / steps)[:, None] / 255
        arcs.append(corner + (following - corner) * part)
    return np.concatenate(arcs)


def flow_to_color(flow: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw flow as hue (direction) and saturation (speed): white where nothing moves.

    Speed is relative to the fastest pixel **of this frame**, as in RAFT's pictures, so a still
    scene shows its own noise in full colour.

    Args:
        flow: ``(2, H, W)`` pixels, right and down.
    Returns:
        ``(H, W, 3)`` uint8 RGB.
    Raises:
        ValueError: another shape, NaN.
    """
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
