"""What all losses share: maps at the border, each pixel's share of the sphere, reductions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_tensor
from sal360._shares import shares_of_rows
from sal360.resampling import computing_dtype

Reduction = Literal["mean", "sum", "none"]

MAPS = (-2, -1)
"""The axes of one map; all axes before them count maps."""


class NotFinite(ValueError):
    """Maps of NaN or infinite values."""


def as_maps(value: ArrayLike, name: str, squares: bool = False) -> Tensor:
    """``(..., H, W)`` finite maps in float32, or in float64 if they come so.

    The check for NaN reads two numbers back, which waits for a GPU once for each argument.

    Args:
        value: maps. name: the argument's name. squares: whether their squares must be finite too.
    Raises:
        TypeError: not floating. ValueError: no map, an empty axis. NotFinite: NaN, infinite or too
            large.
    """
    maps = as_tensor(value, name)
    if maps.ndim < 2 or 0 in maps.shape:
        shape = tuple(maps.shape)
        raise ValueError(f"{name}: shape {shape}, wanted (..., H, W), each at least 1")
    if not maps.is_floating_point():
        raise TypeError(f"{name}: dtype {maps.dtype}, wanted floating (divide bytes by 255)")
    maps = maps.to(computing_dtype(maps))
    low, high = torch.stack(maps.detach().aminmax()).tolist()
    most = torch.finfo(maps.dtype).max
    if not (-most <= low and high <= most):
        raise NotFinite(f"{name}: holds NaN or infinite values, wanted finite numbers")
    largest = max(-low, high)
    if squares and largest > (limit := most**0.5 / 100):
        raise ValueError(f"{name}: values up to {largest:.1e}, wanted at most {limit:.0e}")
    return maps


def as_pair(
    pred: ArrayLike, truth: ArrayLike, squares: tuple[bool, bool] = (False, False)
) -> tuple[Tensor, Tensor]:
    """Two stacks of maps of one shape, one dtype and the device of ``pred``.

    Shapes must be equal: ``(B, 1, H, W)`` against ``(B, H, W)`` would broadcast to all pairs.
    """
    p, t = as_maps(pred, "pred", squares[0]), as_maps(truth, "truth", squares[1])
    if p.shape != t.shape:
        raise ValueError(f"truth: shape {tuple(t.shape)}, wanted that of pred, {tuple(p.shape)}")
    dtype = torch.promote_types(p.dtype, t.dtype)
    return p.to(dtype), t.to(p.device, dtype)


def share_of_sphere(like: Tensor) -> Tensor:
    """``(H, 1)``: the part of the sphere that a pixel of each row covers; over a map they sum to 1.

    A map of densities per steradian times ``4 pi`` is a map of densities per share: 1 is uniform.
    """
    return shares_of_rows(like.shape[-2], like.shape[-1], like.dtype, like.device)


def rescaled(maps: Tensor) -> Tensor:
    """Each map over its largest magnitude, so that what is blind to scale cannot overflow."""
    size = maps.detach().abs().amax(MAPS, keepdim=True)
    return maps / torch.where(size > _tiny(maps), size, 1)


def standardised(maps: Tensor) -> Tensor:
    """Each map less its mean over the sphere, over its deviation; of a flat map, zeros.

    Where a map is flat the division is by 1, so its gradient is finite and still says where to
    rise. Flat is a deviation below 1e-6 of the largest magnitude (1e-14 in float64), which is
    rounding; one bright pixel at the pole of a 4096 x 8192 map is above it.
    """
    scaled, share = rescaled(maps), share_of_sphere(maps)
    centred = scaled - (share * scaled).sum(MAPS, keepdim=True)
    variance = (share * centred**2).sum(MAPS, keepdim=True)
    flat = 1e-14 if maps.dtype == torch.float64 else 1e-6
    return centred / torch.where(variance > flat**2, variance, 1).sqrt()


def as_density(maps: Tensor, name: str, empty: Literal["uniform", "error"]) -> Tensor:
    """Non-negative maps as densities per share of the sphere: ``sum(share * density)`` is 1.

    Args:
        maps: ``(..., H, W)``. name: the argument's name.
        empty: what a map of zeros is: ``"uniform"`` (with a gradient as if it were) or an error.
    """
    if empty == "error":
        check_not_empty(maps, name, "densities")
    elif (low := float(maps.detach().amin())) < 0:
        hint = " (from raw outputs: from_logits=True, or softmax_density)"
        raise ValueError(f"{name}: smallest value {low:.3g}, wanted densities of at least 0{hint}")
    scaled, share = rescaled(maps), share_of_sphere(maps)
    if empty == "uniform":
        scaled = scaled + (maps.detach().amax(MAPS, keepdim=True) <= _tiny(maps))
    return scaled / (share * scaled).sum(MAPS, keepdim=True)


def check_not_empty(maps: Tensor, name: str, what: str) -> None:
    """Refuse negative values, and a map that holds nothing, by its place in the stack."""
    fixed = maps.detach()
    empty = fixed.amax(MAPS) <= _tiny(maps)
    low, empties = torch.stack((fixed.amin(), empty.any().to(maps))).tolist()
    if low < 0:
        raise ValueError(f"{name}: smallest value {low:.3g}, wanted {what} of at least 0")
    if empties:
        place = [int(i) for i in empty.nonzero()[0]]
        raise ValueError(f"{name}{place or ''}: a map of zeros, wanted {what}")


def _tiny(maps: Tensor) -> float:
    """Below it a number's reciprocal overflows."""
    return torch.finfo(maps.dtype).tiny


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """One value for each map to one number, or as they are."""
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise ValueError(f"reduction: {reduction!r}, wanted 'mean', 'sum' or 'none'")
