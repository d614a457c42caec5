"""A density laid over the picture it belongs to."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLORMAPS = ("inferno", "viridis", "cividis")


def levels(density: Any) -> NDArray[np.uint8]:
    """A density as grey levels, 255 at its maximum: the 8-bit PNG of a prediction.

    Args:
        density: ``(H, W)``, finite and none below 0; one of nothing stays black.
    Returns:
        ``(H, W)`` uint8.
    Raises:
        ValueError: another shape; NaN, infinite or negative values.
    """
    values = np.asarray(density, dtype=np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"density: shape {values.shape}, wanted (H, W)")
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high < math.inf:
        raise ValueError(f"density: values from {low:g} to {high:g}, wanted finite, none below 0")
    return np.round(values * (255 / max(high, 1e-30))).astype(np.uint8)


def blend(
    rgb: NDArray[np.uint8], density: Any, opacity: float = 0.7, colormap: str = "inferno"
) -> NDArray[np.uint8]:
    """Colour a picture by a density: clear where it is zero, ``opacity`` where it peaks.

    Args:
        rgb: ``(H, W, 3)`` uint8 panorama.
        density: ``(h, w)`` of any size; resampled bilinearly, across the seam too.
        opacity: in [0, 1]. colormap: one of :data:`COLORMAPS`, all safe for colour-blind eyes.
    Returns:
        ``(H, W, 3)`` uint8.
    Raises:
        TypeError, ValueError: an argument of another kind, shape or range.
    """
    import cv2

    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        found = getattr(rgb, "dtype", type(rgb).__name__)
        raise TypeError(f"rgb: {found}, wanted an array (H, W, 3) of uint8")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb: shape {rgb.shape}, wanted (H, W, 3)")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: {opacity}, wanted between 0 and 1")
    if colormap not in COLORMAPS:
        raise ValueError(f"colormap: {colormap!r}, wanted one of {', '.join(COLORMAPS)}")
    heat = _enlarged(levels(density), (rgb.shape[0], rgb.shape[1]))
    table = getattr(cv2, f"COLORMAP_{colormap.upper()}")
    colour = cv2.cvtColor(cv2.applyColorMap(heat, table), cv2.COLOR_BGR2RGB)
    share = (opacity * (np.arange(256) / 255) ** 0.7).astype(np.float32)[heat][..., None]
    return np.round(rgb + (colour - rgb.astype(np.float32)) * share).astype(np.uint8)


def _enlarged(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    rows, cols = _places(*grey.shape, *size)
    return cv2.remap(grey, cols, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


@lru_cache(maxsize=4)
def _places(h: int, w: int, H: int, W: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows = np.clip((np.arange(H) + 0.5) * h / H - 0.5, 0, h - 1)
    cols = (np.arange(W) + 0.5) * w / W - 0.5  # the left and right half pixels wrap
    return (
        np.repeat(rows[:, None], W, 1).astype(np.float32),
        np.repeat(cols[None], H, 0).astype(np.float32),
    )
