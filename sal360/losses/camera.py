"""What of the flow the camera made: the one rotation that explains most of it.

A turning camera moves every pixel, so nothing seems to stand still. On the sphere its share is one
rotation, whatever is seen and however far it is: fit it, take it off, and what is left moves by
itself (or because the camera *travels*, which no rotation explains). Derived in chapter 15.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, positive_int
from sal360.losses.warp import _direction, _landing, as_flow
from sal360.sphere import erp_pixel, pixel_area

SLOW = math.radians(0.05)
"""Radians per frame that count as no disagreement in the fit: below it all pixels weigh alike."""


def camera_rotation(flow: ArrayLike, rounds: int = 5) -> Tensor:
    """The rotation that carries each direction to where the flow leads, as far as one can.

    Least squares over the sphere (Kabsch), then again with each pixel's weight divided by what it
    disagrees, so that things that move by themselves lose their say: the rotation of least
    absolute error. A thing that fills more than half of the view is taken for the world.

    Args:
        flow: ``(B, 2, H, W)`` pixels, right and down.
        rounds: 1 for plain least squares.
    Returns:
        ``(B, 3, 3)`` float64: ``R @ d`` is where direction ``d`` of this frame stands in the next.
        The camera itself turned by the transpose.
    Raises:
        ValueError, TypeError: another shape, NaN.
    """
    moved = as_flow(flow)
    start, end = _rays(torch.zeros_like(moved)), _rays(moved)
    share = pixel_area(*moved.shape[-2:]).to(end)[:, None].expand(end.shape[1:3]).flatten()
    start, end = start.flatten(1, 2), end.flatten(1, 2)
    weight = share.expand(end.shape[:2])
    R = torch.eye(3).to(end).expand(len(end), 3, 3)
    for _ in range(positive_int(rounds, "rounds")):
        R = _best(torch.einsum("bn,bni,bnj->bij", weight, end, start))
        off = torch.linalg.vector_norm(end - start @ R.mT, dim=-1)  # chord: the angle, nearly
        weight = share / off.clamp_min(SLOW)
    return R


def without_rotation(flow: ArrayLike, rotation: ArrayLike) -> Tensor:
    """The flow that is left when the camera's turn is undone in the next frame.

    Args:
        flow: ``(B, 2, H, W)`` pixels. rotation: ``(B, 3, 3)`` of :func:`camera_rotation`.
    Returns:
        ``(B, 2, H, W)`` float64 pixels of the same grid, across the seam the short way.
    """
    moved = as_flow(flow)
    R = as_float64(rotation, "rotation").to(moved.device)
    B, _, H, W = moved.shape
    if R.shape != (B, 3, 3):
        raise ValueError(f"rotation: shape {tuple(R.shape)}, wanted ({B}, 3, 3)")
    row, col = erp_pixel(torch.einsum("bhwi,bij->bhwj", _rays(moved), R), H, W)
    at_row, at_col = _landing(torch.zeros_like(moved))
    right = torch.remainder(col - at_col + W / 2, W) - W / 2
    return torch.stack((right, row - at_row), dim=1)


def _rays(flow: Tensor) -> Tensor:
    """``(B, H, W, 3)``: the directions that pixels are carried to."""
    return _direction(*_landing(flow), *flow.shape[-2:])


def _best(products: Tensor) -> Tensor:
    """The rotation with the largest sum of ``end . R start``, of ``sum end start^T``."""
    U, _, Vt = torch.linalg.svd(products)
    proper = torch.ones_like(products[..., 0])
    proper[..., 2] = torch.det(U @ Vt).sign()
    return (U * proper[..., None, :]) @ Vt
