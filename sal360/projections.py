"""Reading a panorama: every projection is a set of directions, looked up in the ERP image.

An equirectangular image has no border. Its left and right edges are neighbours, and a step
over the top edge arrives half a turn away on the same top row. :func:`erp_table` writes that
down once, as indices and weights; a viewport, a rotation and (in :mod:`sal360.nn`) a
convolution are the same read with other directions. Derived in chapters 03 and 04.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_directions, as_float64, as_image, in_range, positive_int
from sal360.sphere import erp_directions, erp_pixel, rotation_matrix

Mode = Literal["bilinear", "nearest"]


class SamplingTable(NamedTuple):
    """Which pixels to read, and with which weights: one row per direction.

    ``pixels`` is ``(N, K)`` int64 into the flattened ``H * W`` image, ``weights`` ``(N, K)``
    float64; for a panorama the weights of a row sum to 1.
    """

    pixels: Tensor
    weights: Tensor


def erp_table(xyz: ArrayLike, H: int, W: int, mode: Mode = "bilinear") -> SamplingTable:
    """The pixels of an ``H x W`` panorama that lie around each direction, and their weights.

    Args:
        xyz: ``(..., 3)`` directions of any length.
        H, W: size of the panorama in pixels, odd or even.
        mode: ``"bilinear"`` (K = 4) or ``"nearest"`` (K = 1).
    Returns:
        A table of ``N = prod(xyz.shape[:-1])`` rows on the device of ``xyz``.
    """
    directions = as_directions(xyz).reshape(-1, 3)
    row, col = erp_pixel(directions, H, W)
    if mode == "nearest":
        nearest = row.round().clamp(0, H - 1) * W + torch.remainder(col.round(), W)
        return SamplingTable(nearest.long()[:, None], torch.ones_like(row)[:, None])
    if mode != "bilinear":
        raise ValueError(f"mode: {mode!r}, wanted 'bilinear' or 'nearest'")
    top = torch.floor(row)
    down = row - top
    pixels: list[Tensor] = []
    weights: list[Tensor] = []
    for line, share in ((top, 1 - down), (top + 1, down)):
        # Over a pole: the same line again, half a turn away (half a pixel off when W is odd,
        # so the column is split only after the step).
        beyond = (line < 0) | (line > H - 1)
        line = torch.where(line < 0, -1 - line, torch.where(line > H - 1, 2 * H - 1 - line, line))
        place = torch.where(beyond, col + W / 2, col)
        left = torch.floor(place)
        right = place - left
        for column, part in ((left, 1 - right), (left + 1, right)):
            pixels.append((line * W + torch.remainder(column, W)).long())
            weights.append(share * part)
    return SamplingTable(torch.stack(pixels, -1), torch.stack(weights, -1))


def apply_table(image: Tensor, table: SamplingTable) -> Tensor:
    """Read ``(B, C, H, W)`` by a table of N rows: ``(B, C, N)``, differentiable in the image."""
    B, C, H, W = image.shape
    values = image.reshape(B * C, H * W).t().contiguous()
    pixels, weights = table.pixels.to(image.device), table.weights.to(image)
    read = F.embedding_bag(pixels, values, mode="sum", per_sample_weights=weights)
    return read.t().reshape(B, C, -1)


def sample_erp(image: ArrayLike, xyz: ArrayLike, mode: Mode = "bilinear") -> Tensor:
    """Values of a panorama in given directions, right at the seam and at both poles.

    Args:
        image: ``(B, C, H, W)`` floating; any size.
        xyz: ``(..., 3)`` directions, shared by the batch.
        mode: ``"bilinear"`` or ``"nearest"``.
    Returns:
        ``(B, C, *xyz.shape[:-1])`` in the image's dtype, on its device.
    Raises:
        ValueError, TypeError: a wrong rank or dtype, NaN or zero directions, unknown mode.
    """
    image = as_image(image)
    directions = as_float64(xyz, "xyz", last=3).to(image.device)
    table = erp_table(directions, image.shape[-2], image.shape[-1], mode)
    return apply_table(image, table).reshape(*image.shape[:2], *directions.shape[:-1])


def viewport_directions(
    yaw: float, pitch: float, fov: float, size: tuple[int, int], roll: float = 0.0
) -> Tensor:
    """World direction of each pixel centre of a pinhole camera inside the sphere. Chapter 04.

    Args:
        yaw, pitch, roll: where the camera looks, radians (:func:`sal360.sphere.rotation_matrix`).
        fov: horizontal field of view, radians, strictly between 0 and pi.
        size: ``(h, w)`` in square pixels; the vertical field of view follows.
    Returns:
        ``(h, w, 3)`` float64 directions, not normalised (their depth is 1).
    Raises:
        ValueError: a field of view of 180 degrees or more, an empty size.
    """
    fov = in_range(fov, "fov", 0.0, math.pi, "radians")
    h, w = positive_int(size[0], "size[0]"), positive_int(size[1], "size[1]")
    step = 2 * math.tan(fov / 2) / w
    y = (torch.arange(h, dtype=torch.float64) - (h - 1) / 2) * step
    x = (torch.arange(w, dtype=torch.float64) - (w - 1) / 2) * step
    y, x = torch.meshgrid(y, x, indexing="ij")
    rays = torch.stack((x, y, torch.ones_like(x)), dim=-1)
    return rays @ rotation_matrix(yaw, pitch, roll).T


def erp_to_viewport(
    image: ArrayLike,
    yaw: float,
    pitch: float,
    fov: float,
    size: tuple[int, int] = (240, 320),
    roll: float = 0.0,
) -> Tensor:
    """The picture a viewer sees: a gnomonic (perspective) view of a panorama. Chapter 04.

    Args:
        image: ``(B, C, H, W)`` panorama.
        yaw, pitch, roll: direction of the gaze and tilt of the head, radians.
        fov: horizontal field of view, radians.
        size: ``(h, w)`` of the view.
    Returns:
        ``(B, C, h, w)``.
    """
    return sample_erp(image, viewport_directions(yaw, pitch, fov, size, roll))


def rotate_erp(image: ArrayLike, R: ArrayLike) -> Tensor:
    """Turn the content of a panorama: what stood at ``d`` stands at ``R d``. Chapter 03.

    Args:
        image: ``(B, C, H, W)`` panorama.
        R: ``(3, 3)`` rotation.
    Returns:
        ``(B, C, H, W)`` with ``out(R d) = in(d)``.
    Raises:
        ValueError: ``R`` is not a rotation.
    """
    image = as_image(image)
    R = as_float64(R, "R")
    identity = torch.eye(3, dtype=R.dtype, device=R.device)
    if R.shape != (3, 3) or not torch.allclose(R @ R.T, identity, atol=1e-6) or torch.det(R) < 0:
        raise ValueError("R: not a rotation, wanted (3, 3), orthogonal, determinant 1")
    directions = erp_directions(image.shape[-2], image.shape[-1]).to(R.device)
    return sample_erp(image, directions @ R)  # row vectors: d @ R is R.T d
