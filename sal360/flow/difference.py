"""The cheapest motion there is: how much the grey value changed."""

from __future__ import annotations

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_tensor

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey value (ITU-R BT.601), as OpenCV has them."""


def frame_difference(first: ArrayLike, second: ArrayLike) -> Tensor:
    """``|grey(second) - grey(first)|`` of RGB pictures. Chapter 14.

    It knows neither where nor how fast, and a light that is switched on counts as motion.

    Args:
        first, second: ``(..., 3, H, W)`` floating RGB in [0, 1], of one shape.
    Returns:
        ``(..., 1, H, W)`` in [0, 1], in the dtype of ``second``.
    Raises:
        ValueError: shapes that differ or lack three channels. TypeError: bytes.
    """
    before, after = as_tensor(first, "first"), as_tensor(second, "second")
    if after.ndim < 3 or after.shape[-3] != 3:
        raise ValueError(f"second: shape {tuple(after.shape)}, wanted (..., 3, H, W)")
    if before.shape != after.shape:
        raise ValueError(f"first: shape {tuple(before.shape)}, wanted {tuple(after.shape)}")
    for name, frame in (("first", before), ("second", after)):
        if not frame.is_floating_point():
            raise TypeError(f"{name}: dtype {frame.dtype}, wanted floating (divide bytes by 255)")
    shares = after.new_tensor(GREY)
    change = torch.einsum("c,...chw->...hw", shares, after - before.to(after))
    return change.abs()[..., None, :, :]
