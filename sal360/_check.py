"""Bad input ends here: one line that names the argument, what was found and what was wanted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

ArrayLike = Any
"""A torch tensor, a numpy array, a number or a nested sequence of numbers."""

ROUNDING = 1e-6
"""By how much a number may lie over a bound: pi in float32 is 9e-8 above pi."""


def as_float64(value: ArrayLike, name: str, last: int | None = None) -> Tensor:
    """``value`` as a finite float64 tensor; a tensor keeps its device and its graph.

    Args:
        value: tensor, array, number or nested sequence.
        name: the argument's name, for the message.
        last: the wanted size of the last axis, if any.
    Raises:
        TypeError: not numbers. ValueError: NaN or infinite, a wrong last axis, or a device without
            numbers.
    """
    tensor = as_tensor(value, name).to(torch.float64)
    if last is not None and (tensor.ndim == 0 or tensor.shape[-1] != last):
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, wanted (..., {last})")
    if tensor.is_meta:
        raise ValueError(f"{name}: on meta, wanted a device with numbers")
    if tensor.numel() and not all(bool(v.isfinite()) for v in tensor.detach().aminmax()):
        raise ValueError(f"{name}: holds NaN or infinite values, wanted finite numbers")
    return tensor


def as_directions(xyz: ArrayLike, name: str = "xyz") -> Tensor:
    """``(..., 3)`` float64, finite and nowhere the zero vector, which points nowhere."""
    tensor = as_float64(xyz, name, last=3)
    if tensor.numel() and not bool(tensor.detach().abs().amax(dim=-1).min() > 0):
        raise ValueError(f"{name}: holds the zero vector, wanted directions")
    return tensor


def as_image(image: ArrayLike, name: str = "image", least: int = 1) -> Tensor:
    """``(B, C, H, W)`` floating tensor with no empty axis, but for B if ``least`` is 0."""
    tensor = as_tensor(image, name)
    if tensor.ndim != 4 or 0 in tensor.shape[least == 0 :]:
        hint = f"; try {name}[None]" if tensor.ndim == 3 else ""
        shape = tuple(tensor.shape)
        raise ValueError(f"{name}: shape {shape}, wanted (B, C, H, W), each at least 1{hint}")
    return as_floating(tensor, name)


def as_floating(value: ArrayLike, name: str) -> Tensor:
    """``value`` as a floating tensor of any shape."""
    tensor = as_tensor(value, name)
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: dtype {tensor.dtype}, wanted floating (divide bytes by 255)")
    return tensor


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """``value`` as an int, of either sign or of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: {value!r}, wanted a whole number")
    if least is not None and value < least:
        raise ValueError(f"{name}: {value}, wanted at least {least}")
    return int(value)


def positive_int(value: Any, name: str) -> int:
    """``value`` as an int of at least 1."""
    return whole_number(value, name, 1)


def one_for_both(value: Any, name: str) -> int:
    """A whole number of at least 1 for rows and columns alike, given once or twice."""
    if not isinstance(value, (tuple, list)):
        return positive_int(value, name)
    both = [positive_int(v, name) for v in value]
    if len(both) != 2 or both[0] != both[1]:
        raise ValueError(f"{name}: {value!r}, wanted one number, or the same for rows and columns")
    return both[0]


def as_size(value: Any, name: str) -> tuple[int, int]:
    """``(H, W)``, whole numbers of at least 1."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}: {value!r}, wanted (H, W)")
    return positive_int(value[0], name), positive_int(value[1], name)


def in_range(
    value: Any, name: str, low: float, high: float, unit: str = "", closed: bool = False
) -> float:
    """``value`` as a float above ``low`` and below ``high`` (or equal to it, if ``closed``)."""
    number = as_number(value, name)
    if closed and number <= high + ROUNDING:
        number = min(number, high)
    inside = low < number < high or (closed and number == high)
    if not (math.isfinite(number) and inside):
        top = f"at most {high:g}" if closed else f"below {high:g}"
        unit = f" {unit}" if unit else ""
        hint = " (is it in degrees?)" if unit == " radians" and number > high else ""
        raise ValueError(f"{name}: {number:g}, wanted above {low:g} and {top}{unit}{hint}")
    return number


def as_number(value: Any, name: str) -> float:
    """``value`` as a float."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: {value!r}, wanted one number") from error


def finite_number(value: Any, name: str) -> float:
    """``value`` as a finite float."""
    number = as_number(value, name)
    if not math.isfinite(number):
        raise ValueError(f"{name}: {number:g}, wanted a finite number")
    return number


def non_negative(value: Any, name: str) -> float:
    """``value`` as a finite float of at least 0."""
    number = as_number(value, name)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}: {number:g}, wanted a finite number of at least 0")
    return number


def broadcast(**named: Tensor) -> tuple[Tensor, ...]:
    """Tensors at their common shape, or a line that names them."""
    try:
        return tuple(torch.broadcast_tensors(*named.values()))
    except RuntimeError as error:
        shapes = " and ".join(str(tuple(t.shape)) for t in named.values())
        names = ", ".join(named)
        raise ValueError(f"{names}: shapes {shapes}, wanted shapes that broadcast") from error


def _plain(array: np.ndarray) -> np.ndarray:
    """An array as torch takes it: strides forward, this machine's byte order, writable."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy()
    return array


def as_tensor(value: ArrayLike, name: str) -> Tensor:
    """``value`` as a tensor of real numbers; numpy arrays of any kind of stride are accepted."""
    if isinstance(value, Tensor):
        tensor = value
    else:
        try:
            tensor = torch.as_tensor(_plain(np.asarray(value)))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name}: {type(value).__name__}, wanted numbers") from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: dtype {tensor.dtype}, wanted real numbers")
    return tensor


def usable_device(name: str, argument: str = "device") -> str:
    """A device that can hold numbers here.

    Raises:
        ValueError: there is none of that name, or it cannot be had.
    """
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(".")[0][:80]
        raise ValueError(f"{argument} {name}: not to be had here ({reason})") from None
    return name
