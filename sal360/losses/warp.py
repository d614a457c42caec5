"""Maps carried along by optical flow, on the sphere.

Flow is ``(B, 2, H, W)``, pixels per frame, right and down: what stands at row ``i`` and column
``j`` of one frame stands at ``(i + down, j + right)`` of the next. Columns go on over the seam,
rows over a pole. So the *next* map is read where flow leads, and compared with this one at its
own place; reading *this* map there, as CP-360 does, moves it the other way. Chapter 15.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_float64, as_image, in_range, positive_int
from sal360.resampling import computing_dtype, downsample_erp, erp_table_at
from sal360.sphere import angle_between, erp_pixel, lonlat_to_xyz


def warp_by_flow(maps: ArrayLike, flow: ArrayLike) -> Tensor:
    """Read each map where flow leads: ``out(i, j) = maps(i + down, j + right)``.

    With ``maps`` of frame ``t + 1`` and the flow from ``t`` to ``t + 1``, what comes out lies as
    frame ``t`` does. Bilinear, over the seam and the poles. Derived in chapter 15.

    Args:
        maps: ``(B, C, H, W)`` floating. flow: ``(B, 2, H, W)`` pixels of this grid (see
            :func:`resize_flow`); may ask for a gradient.
    Returns:
        ``(B, C, H, W)`` in the dtype of ``maps``, differentiable in both.
    Raises:
        ValueError, TypeError: other shapes, NaN.
    """
    image = as_image(maps, "maps")
    B, C, H, W = image.shape
    row, col = _landing(as_flow(flow, (B, 2, H, W)).to(image.device))
    table = erp_table_at(row.flatten(), col.flatten(), H, W)
    first = torch.arange(B, device=image.device).repeat_interleave(H * W) * (H * W)
    exact = image.to(computing_dtype(image))
    values = exact.permute(0, 2, 3, 1).reshape(-1, C)
    weights = table.weights.to(exact)
    read = F.embedding_bag(
        table.pixels + first[:, None], values, mode="sum", per_sample_weights=weights
    )
    return read.reshape(B, H, W, C).permute(0, 3, 1, 2).to(image.dtype)


def resize_flow(flow: ArrayLike, H: int, W: int) -> Tensor:
    """Flow on another grid, in pixels of that grid: both its places and its lengths change.

    Smaller by the mean over each new pixel's cell, larger by bilinear reads that wrap at the
    seam and stop at the poles, where "right" and "down" point elsewhere on the far side.

    Args:
        flow: ``(B, 2, H0, W0)`` floating. H, W: the new size.
    Returns:
        ``(B, 2, H, W)`` in the dtype of ``flow``.
    """
    image = as_image(flow, "flow")
    H, W = positive_int(H, "H"), positive_int(W, "W")
    if image.shape[1] != 2:
        raise ValueError(f"flow: shape {tuple(image.shape)}, wanted (B, 2, H, W)")
    B, _, H0, W0 = image.shape
    out = image.to(computing_dtype(image))
    if H < H0 or W < W0:
        out = downsample_erp(out, min(H, H0), min(W, W0))
    if out.shape[-2:] != (H, W):
        h, w = out.shape[-2:]
        row = (torch.arange(H, dtype=torch.float64) + 0.5) * (h / H) - 0.5
        col = (torch.arange(W, dtype=torch.float64) + 0.5) * (w / W) - 0.5
        rows = row.clamp(0, h - 1)[:, None].expand(H, W).flatten()
        table = erp_table_at(rows, col.expand(H, W).flatten(), h, w)
        taps = out.flatten(2)[:, :, table.pixels.to(out.device)]
        out = (taps * table.weights.to(out)).sum(-1).reshape(B, 2, H, W)
    scale = torch.tensor([W / W0, H / H0], dtype=out.dtype, device=out.device)
    return (out * scale[:, None, None]).to(image.dtype)


def visible_by_flow(
    forward: ArrayLike, backward: ArrayLike, tolerance: float | None = None
) -> Tensor:
    """Where following the flow and then the flow back returns to the start.

    What is about to be hidden does not return, and there no warp can be right. The distance is
    an angle on the sphere: near a pole many pixels are no distance at all. Derived in chapter 15.

    Args:
        forward: ``(B, 2, H, W)`` from frame ``t`` to ``t + 1``. backward: from ``t + 1`` to ``t``.
        tolerance: radians; one and a half rows of pixels unless given.
    Returns:
        ``(B, 1, H, W)`` float32, 1 where visible in both frames and 0 elsewhere.
    """
    there = as_flow(forward, name="forward")
    back = as_flow(backward, tuple(there.shape), name="backward").to(there.device)
    H, W = there.shape[-2:]
    tolerance = 1.5 * math.pi / H if tolerance is None else tolerance
    tolerance = in_range(tolerance, "tolerance", 0.0, math.pi, "radians")
    row, col = erp_pixel(_direction(*_landing(there), H, W), H, W)
    near = row.round().clamp(0, H - 1).long() * W + torch.remainder(col.round(), W).long()
    du, dv = (back[:, k].flatten(1).gather(1, near.flatten(1)).view_as(row) for k in (0, 1))
    end = _direction(row + dv, col + du, H, W)
    start = _direction(*_landing(torch.zeros_like(there)), H, W)
    return (angle_between(end, start) <= tolerance).float()[:, None]


def flow_speed(flow: Tensor) -> Tensor:
    """``(B, 2, H, W)`` pixels to ``(B, 1, H, W)`` radians per frame, by the local scale."""
    H, W = flow.shape[-2:]
    lat = (0.5 - (torch.arange(H, dtype=flow.dtype, device=flow.device) + 0.5) / H) * math.pi
    right = flow[:, :1] * (2 * math.pi / W) * torch.cos(lat)[:, None]
    return torch.hypot(right, flow[:, 1:] * (math.pi / H))


def as_flow(flow: ArrayLike, shape: tuple[int, ...] | None = None, name: str = "flow") -> Tensor:
    """Finite float64 flow of a shape ``(..., 2, H, W)``, any if none is given with ``(B, ...)``."""
    tensor = as_float64(flow, name)
    wanted = shape or ("B", 2, "H", "W")
    found = tuple(tensor.shape)
    fits = len(found) == len(wanted) and 0 not in found
    if not fits or any(w != f for w, f in zip(wanted, found, strict=True) if isinstance(w, int)):
        raise ValueError(f"{name}: shape {found}, wanted ({', '.join(map(str, wanted))})")
    return tensor


def _landing(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column, ``(B, H, W)`` float64, that each pixel is carried to."""
    H, W = flow.shape[-2:]
    row = torch.arange(H, dtype=torch.float64, device=flow.device)[:, None]
    col = torch.arange(W, dtype=torch.float64, device=flow.device)
    return row + flow[:, 1], col + flow[:, 0]


def _direction(row: Tensor, col: Tensor, H: int, W: int) -> Tensor:
    """Directions of rows and columns as real numbers; a row beyond the image lies over a pole."""
    lat = (0.5 - (row + 0.5) / H) * math.pi
    return lonlat_to_xyz(((col + 0.5) / W - 0.5) * (2 * math.pi), lat)
