"""Pictures of a panorama: every projection is a set of directions, looked up in the ERP image.

A cube face, a viewport and a rotated panorama differ only in the directions of their pixels;
:mod:`sal360.resampling` reads them. For bilinear reads, what depends on sizes alone is prepared
once per size, dtype and device and kept (:func:`clear_tables` lets it go); nearest and bicubic
are worked out each time. Derived in chapter 04.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sal360._check import (
    ArrayLike,
    as_directions,
    as_float64,
    as_image,
    as_number,
    as_tensor,
    in_range,
    positive_int,
)
from sal360._tables import constant, untraced
from sal360.cubemap import FACES, cube_directions, cube_pixel, cube_table
from sal360.resampling import (
    Mode,
    Reader,
    SamplingTable,
    apply_table,
    computing_dtype,
    downsample_erp,
    erp_reader,
    erp_table,
    read_prepared,
    sample_erp,
)
from sal360.sphere import erp_directions, rotation_matrix

Camera = tuple[float, float, float, tuple[int, int], float]

__all__ = [
    "FACES",
    "Mode",
    "SamplingTable",
    "apply_table",
    "clear_tables",
    "cube_directions",
    "cube_pixel",
    "cube_table",
    "cube_to_erp",
    "downsample_erp",
    "erp_table",
    "erp_to_cube",
    "erp_to_viewport",
    "rotate_erp",
    "sample_cube",
    "sample_erp",
    "viewport_directions",
]


def erp_to_cube(image: ArrayLike, S: int, mode: Mode = "bilinear") -> Tensor:
    """Six faces of a panorama, each a view of 90 degrees. Chapter 04.

    Args:
        image: ``(B, C, H, W)`` panorama, floating.
        S: texels along an edge of a face. Choose about ``W / 4``: with fewer, shrink the
            panorama first (:func:`downsample_erp`), or fine detail aliases.
        mode: as for :func:`sample_erp`.
    Returns:
        ``(B, 6, C, S, S)``, faces F R B L U D as seen from the centre.
    """
    image, S = as_image(image), positive_int(S, "S")
    B, C, H, W = image.shape
    if mode == "bilinear":
        reader = _cube_reader(H, W, S, computing_dtype(image), image.device)
        read = read_prepared(image, reader)
    else:
        read = sample_erp(image, cube_directions(S), mode)
    return read.reshape(B, C, 6, S, S).transpose(1, 2).contiguous()


def sample_cube(faces: ArrayLike, xyz: ArrayLike) -> Tensor:
    """Values of a cubemap in given directions, bilinear, right across edges and corners.

    Args:
        faces: ``(B, 6, C, S, S)`` floating, in the order F R B L U D.
        xyz: ``(..., 3)`` directions.
    Returns:
        ``(B, C, *xyz.shape[:-1])``.
    """
    faces = _as_faces(faces)
    directions = as_directions(xyz).to(faces.device)
    shape = directions.shape[:-1]
    if directions.numel() == 0 or faces.is_meta:
        return faces.new_zeros(faces.shape[0], faces.shape[2], *shape)
    reader = _face_reader(directions.reshape(1, -1, 3), faces.shape[-1], computing_dtype(faces))
    return read_prepared(_stacked(faces), reader).reshape(faces.shape[0], faces.shape[2], *shape)


def cube_to_erp(faces: ArrayLike, H: int, W: int | None = None) -> Tensor:
    """A panorama from six faces, bilinear, without seams along the cube's edges. Chapter 04.

    Args:
        faces: ``(B, 6, C, S, S)`` floating, in the order F R B L U D.
        H, W: size of the panorama; ``W`` is ``2 H`` unless given.
    Returns:
        ``(B, C, H, W)``.
    """
    faces, H = _as_faces(faces), positive_int(H, "H")
    W = 2 * H if W is None else positive_int(W, "W")
    reader = _erp_from_cube_reader(faces.shape[-1], H, W, computing_dtype(faces), faces.device)
    return read_prepared(_stacked(faces), reader)


def viewport_directions(
    yaw: ArrayLike, pitch: ArrayLike, fov: float, size: tuple[int, int], roll: ArrayLike = 0.0
) -> Tensor:
    """World direction of each pixel centre of a pinhole camera inside the sphere. Chapter 04.

    Args:
        yaw, pitch, roll: where the camera looks, radians, one number each
            (:func:`sal360.sphere.rotation_matrix`).
        fov: horizontal field of view, radians, strictly between 0 and pi.
        size: ``(h, w)`` in square pixels; the vertical field of view follows.
    Returns:
        ``(h, w, 3)`` float64 directions, not normalised (their depth is 1).
    Raises:
        ValueError: a field of view of 180 degrees or more, an empty size, several cameras.
    """
    fov = in_range(fov, "fov", 0.0, math.pi, "radians")
    h, w = _as_size(size)
    step = 2 * math.tan(fov / 2) / w
    y = (torch.arange(h, dtype=torch.float64) - (h - 1) / 2) * step
    x = (torch.arange(w, dtype=torch.float64) - (w - 1) / 2) * step
    gaze = (("yaw", yaw), ("pitch", pitch), ("roll", roll))
    turned = rotation_matrix(*(_one_number(value, name) for name, value in gaze))
    right, down, forward = turned.T[:, :, None, None]
    return (x * right + (y[:, None] * down + forward)).movedim(0, -1)


def erp_to_viewport(
    image: ArrayLike,
    yaw: ArrayLike,
    pitch: ArrayLike,
    fov: float,
    size: tuple[int, int] = (240, 320),
    roll: ArrayLike = 0.0,
    mode: Mode = "bilinear",
) -> Tensor:
    """The picture a viewer sees: a gnomonic (perspective) view of a panorama. Chapter 04.

    Args:
        image: ``(B, C, H, W)`` panorama.
        yaw, pitch, roll: direction of the gaze and tilt of the head, radians, one number each. A
            tensor that asks for a gradient gets one.
        fov: horizontal field of view, radians, strictly between 0 and pi.
        size: ``(h, w)`` of the view.
        mode: as for :func:`sample_erp`.
    Returns:
        ``(B, C, h, w)``.
    """
    image = as_image(image)
    H, W = image.shape[-2:]
    size = _as_size(size)
    gaze = [isinstance(v, Tensor) and v.requires_grad for v in (yaw, pitch, roll)]
    if mode != "bilinear" or any(gaze):
        return sample_erp(image, viewport_directions(yaw, pitch, fov, size, roll), mode)
    turned = {"yaw": yaw, "pitch": pitch, "fov": fov, "roll": roll}
    turn, nod, width, tilt = (as_number(value, name) for name, value in turned.items())
    camera = (turn, nod, width, size, tilt)
    return _viewport_reader(camera, H, W, computing_dtype(image), image.device)(image)


def rotate_erp(image: ArrayLike, R: ArrayLike, mode: Mode = "bilinear") -> Tensor:
    """Turn the content of a panorama: what stood at ``d`` stands at ``R d``. Chapter 03.

    Args:
        image: ``(B, C, H, W)`` panorama.
        R: ``(3, 3)`` rotation.
        mode: as for :func:`sample_erp`.
    Returns:
        ``(B, C, H, W)`` with ``out(R d) = in(d)``.
    Raises:
        ValueError: ``R`` is not a rotation.
    """
    image = as_image(image)
    R = as_float64(R, "R")
    R = R if image.is_meta else R.to(image.device)
    identity = torch.eye(3, dtype=R.dtype, device=R.device)
    if R.shape != (3, 3) or not torch.allclose(R @ R.T, identity, atol=1e-6) or torch.det(R) < 0:
        found = f"shape {tuple(R.shape)}"
        if R.shape == (3, 3):
            off = float((R @ R.T - identity).abs().max())
            found = f"determinant {float(torch.det(R)):.3g}, R R^T off by {off:.1g}"
        raise ValueError(f"R: {found}, wanted a rotation: (3, 3), orthogonal, determinant 1")
    directions = erp_directions(image.shape[-2], image.shape[-1]).to(R.device)
    return sample_erp(image, directions @ R, mode)  # row vectors: d @ R is R.T d


def clear_tables() -> None:
    """Forget the prepared reads (one that makes a panorama of 1024 x 2048 holds 17 MB)."""
    _cube_reader.cache_clear()
    _viewport_reader.cache_clear()
    _erp_from_cube_reader.cache_clear()


@constant
@lru_cache(maxsize=8)
def _cube_reader(H: int, W: int, S: int, dtype: torch.dtype, device: torch.device) -> Reader:
    return _on(erp_reader(cube_directions(S).reshape(6 * S, S, 3), H, W, dtype), device)


@untraced
@lru_cache(maxsize=8)
def _viewport_reader(
    camera: Camera, H: int, W: int, dtype: torch.dtype, device: torch.device
) -> Reader:
    return _on(erp_reader(viewport_directions(*camera), H, W, dtype), device)


@constant
@lru_cache(maxsize=8)
def _erp_from_cube_reader(
    S: int, H: int, W: int, dtype: torch.dtype, device: torch.device
) -> Reader:
    return _on(_face_reader(erp_directions(H, W), S, dtype), device)


def _face_reader(xyz: Tensor, S: int, dtype: torch.dtype) -> Reader:
    """Read six faces stacked into one ``6S x S`` picture in directions ``(h, w, 3)``."""
    face, row, col = cube_pixel(xyz, S)
    touches = (row < 0) | (row > S - 1) | (col < 0) | (col > S - 1)
    edge = touches.flatten().nonzero()[:, 0]
    table = cube_table(xyz.reshape(-1, 3)[edge], S)
    table = SamplingTable(table.pixels, table.weights.to(dtype))
    down = (2 * (row + S * face) + 1) / (6 * S) - 1
    grid = torch.stack(((2 * col + 1) / S - 1, down), dim=-1).to(dtype)
    return Reader(grid[None], edge, table)


def _on(reader: Reader, device: torch.device) -> Reader:
    table = SamplingTable(*(part.to(device) for part in reader.table))
    return Reader(reader.grid.to(device), reader.edge.to(device), table)


def _as_faces(faces: ArrayLike) -> Tensor:
    tensor = as_tensor(faces, "faces")
    square = tensor.ndim == 5 and tensor.shape[1] == 6 and tensor.shape[-1] == tensor.shape[-2]
    if not square or 0 in tensor.shape:
        raise ValueError(f"faces: shape {tuple(tensor.shape)}, wanted (B, 6, C, S, S), none 0")
    return as_image(tensor.flatten(0, 1), "faces").unflatten(0, tensor.shape[:2])


def _one_number(value: ArrayLike, name: str) -> Tensor:
    """``()`` float64 with its graph: a picture has one camera."""
    number = as_float64(value, name)
    if number.numel() != 1:
        raise ValueError(f"{name}: shape {tuple(number.shape)}, wanted one number")
    return number.reshape(())


def _as_size(size: Any) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size: {size!r}, wanted (h, w)")
    return positive_int(size[0], "size[0]"), positive_int(size[1], "size[1]")


def _stacked(faces: Tensor) -> Tensor:
    """``(B, 6, C, S, S)`` to ``(B, C, 6S, S)``."""
    B, _, C, S, _ = faces.shape
    return faces.transpose(1, 2).reshape(B, C, 6 * S, S)
