"""Flow in two bytes a number: fixed point, and packed.

Neighbours are alike, so what is packed are differences along a row, low and high bytes apart.
Coarser steps where pixels are narrow would save a seventh, and be wrong for what leaves a pole:
the error of an arrow counts where it ends.
"""

from __future__ import annotations

import math
import os
import secrets
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import ArrayLike, as_float64, in_range
from sal360.safe_arrays import read_npz

STEP = 1 / 64
"""Pixels: 0.012 degrees at the equator of a panorama of 240 rows."""

_MOST = 2**15 - 1


def save_flow(path: str | Path, flow: ArrayLike, step: float = STEP) -> Path:
    """Write the flow of a clip as ``.npz``; in one piece or not at all.

    Args:
        path: the file; replaced if it is there.
        flow: ``(T, 2, H, W)`` or ``(2, H, W)`` pixels, right and down.
        step: pixels; numbers are rounded to it, so they are off by half of it at most. Doubled
            until the largest number fits (512 pixels for 1/64).
    Returns:
        The path.
    Raises:
        ValueError: another shape, NaN, a step that is not positive. OSError: it cannot be
            written.
    """
    path = Path(path)
    units, step = _units(flow, step)
    change = np.diff(units, axis=-1, prepend=np.int16(0)).view(np.uint16)  # wraps, and back
    low, high = (change & 255).astype(np.uint8), (change >> 8).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.tmp")
    try:
        with scratch.open("wb") as file:
            np.savez_compressed(file, low=low, high=high, step=np.float64(step))
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def load_flow(path: str | Path, max_bytes: int = 2**31) -> Tensor:
    """``(T, 2, H, W)`` float32 pixels from :func:`save_flow`. Nothing in the file is executed.

    Args:
        path: the file. max_bytes: the most that it may unpack to.
    Raises:
        FileNotFoundError: no such file. ValueError: not such a file, or damaged; with the path.
    """
    stored = read_npz(path, max_bytes)
    if set(stored) != {"low", "high", "step"}:
        raise ValueError(f"{path}: holds {sorted(stored)}, wanted low, high and step")
    low, high, step = (stored[name] for name in ("low", "high", "step"))
    if low.ndim != 4 or low.shape[1] != 2 or high.shape != low.shape or 0 in low.shape:
        raise ValueError(f"{path}: shapes {low.shape} and {high.shape}, wanted twice (T, 2, H, W)")
    if low.dtype != np.uint8 or high.dtype != np.uint8 or step.shape != ():
        raise ValueError(f"{path}: {low.dtype}, {high.dtype} and {step.shape}, wanted bytes")
    if not 0 < float(step) < math.inf:
        raise ValueError(f"{path}: step {float(step)}, wanted a positive number")
    change = low.astype(np.uint16) | (high.astype(np.uint16) << 8)
    units = np.cumsum(change, axis=-1, dtype=np.uint16).view(np.int16)
    return _pixels(units, float(step))


def round_flow(flow: ArrayLike, step: float = STEP) -> Tensor:
    """What :func:`load_flow` would give after :func:`save_flow`."""
    return _pixels(*_units(flow, step))


def _units(flow: ArrayLike, step: float) -> tuple[NDArray[np.int16], float]:
    """Whole numbers ``(T, 2, H, W)``, and how many pixels one of them means."""
    tensor = as_float64(flow, "flow").detach().cpu()
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    if tensor.ndim != 4 or tensor.shape[1] != 2 or 0 in tensor.shape:
        raise ValueError(f"flow: shape {tuple(tensor.shape)}, wanted (T, 2, H, W)")
    step, most = in_range(step, "step", 0, math.inf), float(tensor.abs().max())
    while most > _MOST * step:
        step *= 2
    return np.rint(tensor.numpy() / step).astype(np.int16), step


def _pixels(units: NDArray[np.int16], step: float) -> Tensor:
    return torch.from_numpy((units * step).astype(np.float32))
