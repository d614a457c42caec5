"""Bad input ends here: one line that names the argument, what was found and what was wanted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

ArrayLike = Any
"""A torch tensor, a numpy array, a number or a nested sequence of numbers."""


def as_float64(value: ArrayLike, name: str, last: int | None = None) -> Tensor:
    """``value`` as a finite float64 tensor; a tensor keeps its device and its graph.

    Args:
        value: tensor, array, number or nested sequence.
        name: the argument's name, for the message.
        last: the wanted size of the last axis, if any.
    Raises:
        TypeError: not numbers. ValueError: NaN or infinite, or a wrong last axis.
    """
    tensor = _as_tensor(value, name).to(torch.float64)
    if last is not None and (tensor.ndim == 0 or tensor.shape[-1] != last):
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, wanted (..., {last})")
    if tensor.numel() and not all(bool(v.isfinite()) for v in tensor.detach().aminmax()):
        raise ValueError(f"{name}: holds NaN or infinite values, wanted finite numbers")
    return tensor


def as_directions(xyz: ArrayLike, name: str = "xyz") -> Tensor:
    """``(..., 3)`` float64, finite and nowhere the zero vector, which points nowhere."""
    tensor = as_float64(xyz, name, last=3)
    if tensor.numel() and not bool(tensor.detach().abs().amax(dim=-1).min() > 0):
        raise ValueError(f"{name}: holds the zero vector, wanted directions")
    return tensor


def as_image(image: ArrayLike, name: str = "image") -> Tensor:
    """``(B, C, H, W)`` floating tensor with no empty axis."""
    tensor = _as_tensor(image, name)
    if tensor.ndim != 4 or 0 in tensor.shape:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, wanted (B, C, H, W), none 0")
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: dtype {tensor.dtype}, wanted floating (divide bytes by 255)")
    return tensor


def positive_int(value: Any, name: str) -> int:
    """``value`` as an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: {value!r}, wanted a whole number")
    if value < 1:
        raise ValueError(f"{name}: {value}, wanted at least 1")
    return int(value)


def in_range(value: Any, name: str, low: float, high: float, unit: str = "") -> float:
    """``value`` as a float strictly between ``low`` and ``high``."""
    number = float(value)
    if not (math.isfinite(number) and low < number < high):
        unit = f" {unit}" if unit else ""
        raise ValueError(f"{name}: {number:g}, wanted between {low:g} and {high:g}{unit}")
    return number


def non_negative(value: Any, name: str) -> float:
    """``value`` as a finite float of at least 0."""
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}: {number:g}, wanted a finite number of at least 0")
    return number


def _as_tensor(value: ArrayLike, name: str) -> Tensor:
    if isinstance(value, Tensor):
        tensor = value
    else:
        try:
            tensor = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name}: {type(value).__name__}, wanted numbers") from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: dtype {tensor.dtype}, wanted real numbers")
    return tensor
