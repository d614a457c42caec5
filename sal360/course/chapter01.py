"""Exercises of chapter 01: pixels, directions, frames of other libraries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.course.checking import Case, answered, ask, exercise
from sal360.sphere import angle_between, erp_directions, lonlat_to_xyz, rotation_matrix

# From the plain to the awkward: ahead, sideways, the seam, the poles, then in between.
_LONS = (0, 90, -90, 180, -180, 45, -135, 179, -179, 10)
_LATS = (0, 45, -45, 89, -89, 10, -30)


def _degrees(lon: float, lat: float) -> str:
    return f"lon {lon:g}, lat {lat:g} degrees"


def _rounded(values: Tensor) -> list[float]:
    return [float(v) for v in np.round(values.numpy(), 3) + 0.0]


@exercise("01.1")
def pixel_to_lonlat(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(row, col, H, W) -> (lon, lat)`` in degrees."""
    for H, W in ((2, 4), (1, 1), (3, 5), (180, 360), (7, 10)):
        places = [(0, 0), (H - 1, W - 1), (H // 2, W // 2), (0, W - 1)]
        for row, col in places:
            lon, lat = (float(v) for v in ask(answer, row, col, H, W))
            wanted = ((col + 0.5) / W - 0.5) * 360, (0.5 - (row + 0.5) / H) * 180
            radians = math.isclose(math.degrees(lon), wanted[0], abs_tol=1e-4) and lon != 0
            hint = " (did you give radians?)" if radians else ""
            close = abs(lon - wanted[0]) < 1e-4 and abs(lat - wanted[1]) < 1e-4
            yield Case(
                "a pixel is named by its centre",
                close,
                f"row {row}, col {col} of {H} x {W}: you gave {_degrees(lon, lat)}, "
                f"wanted {_degrees(*wanted)}{hint}",
            )


@exercise("01.2")
def direction_to_pixel(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(x, y, z, H, W) -> (row, col)``: the pixel whose area holds the direction."""
    for H, W in ((2, 4), (3, 5), (16, 32), (5, 7)):
        xyz = erp_directions(H, W)
        for i, j in product(range(H), range(W)):
            row, col = ask(answer, *xyz[i, j].tolist(), H, W)
            yield Case(
                "row and column are whole numbers",
                float(row).is_integer() and float(col).is_integer(),
                f"pixel ({i}, {j}) of {H} x {W}: you gave ({row}, {col})",
            )
            yield Case(
                "round trip: the direction of a pixel leads back to it",
                (int(row), int(col)) == (i, j),
                f"pixel ({i}, {j}) of {H} x {W}: you gave ({row}, {col})",
            )
        for lon, lat in product((*_LONS, -170), (90, -90, *_LATS, 80, -80)):
            d = lonlat_to_xyz(math.radians(lon), math.radians(lat))
            for length in (1.0, 5.0):
                row, col = (int(v) for v in ask(answer, *(d * length).tolist(), H, W))
                yield Case(
                    "inside the image, poles and seam included",
                    0 <= row < H and 0 <= col < W,
                    f"{_degrees(lon, lat)}, length {length:g}: you gave ({row}, {col}), "
                    f"wanted rows 0 to {H - 1} and columns 0 to {W - 1}",
                )
                down, right = (90 - lat) / 180 * H - row, (lon / 360 + 0.5) * W - col
                right = (right - 0.5 + W / 2) % W + 0.5 - W / 2  # the seam is one place
                inside = abs(down - 0.5) < 0.501 and (abs(right - 0.5) < 0.501 or abs(lat) == 90)
                yield Case(
                    "the pixel's area holds the direction, whatever its length",
                    inside,
                    f"{_degrees(lon, lat)}, length {length:g}, {H} x {W}: from the corner of "
                    f"({row}, {col}) it is {down:.2f} pixels down and {right:.2f} to the right",
                )


_MYSTERY = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)


def mystery_directions(lon: Any, lat: Any) -> Tensor:
    """Directions of another program, in a frame that nobody wrote down: ``(..., 3)``.

    Exercise 01.3 asks which frame it is. Angles in radians, as for ``lonlat_to_xyz``.
    """
    return lonlat_to_xyz(lon, lat) @ _MYSTERY.T


@exercise("01.3")
def find_the_frame(answer: Any) -> Iterator[Case]:
    """A 3x3 matrix that takes mystery directions to ours."""
    matrix = torch.as_tensor(answered(answer), dtype=torch.float64)
    yield Case("a 3 x 3 matrix", matrix.shape == (3, 3), f"shape {tuple(matrix.shape)}")
    for lon, lat in product(_LONS, _LATS):
        angles = math.radians(lon), math.radians(lat)
        got, wanted = matrix @ mystery_directions(*angles), lonlat_to_xyz(*angles)
        yield Case(
            "every direction lands where ours is",
            bool(torch.allclose(got, wanted, atol=1e-6)),
            f"{_degrees(lon, lat)}: you gave {_rounded(got)}, wanted {_rounded(wanted)}",
        )


@exercise("01.4")
def colatitude_to_ours(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(theta, phi) -> (x, y, z)``: colatitude, and a longitude that starts at the left edge."""
    for phi_deg, theta_deg in product((180, 0, 90, 270, 359, 1), (90, 45, 135, 0, 180, 10)):
        got = torch.as_tensor(
            np.asarray(ask(answer, math.radians(theta_deg), math.radians(phi_deg)), float)
        )
        wanted = lonlat_to_xyz(math.radians(phi_deg - 180), math.radians(90 - theta_deg))
        yield Case(
            "phi = 180, theta = 90 is straight ahead, and all else follows",
            got.shape == (3,) and bool(torch.allclose(got, wanted, atol=1e-6)),
            f"theta {theta_deg}, phi {phi_deg} degrees: you gave {_rounded(got)}, "
            f"wanted {_rounded(wanted)}",
        )


@exercise("01.5")
def camera_rotation(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(yaw, pitch) -> R`` that takes camera axes to the world and keeps the horizon level."""
    for yaw, pitch in product(_LONS, _LATS):
        angles = math.radians(yaw), math.radians(pitch)
        R = torch.as_tensor(np.asarray(ask(answer, *angles), float))
        where = f"yaw {yaw:g}, pitch {pitch:g} degrees"
        orthogonal = R.shape == (3, 3) and torch.allclose(R @ R.T, torch.eye(3).double(), atol=1e-6)
        yield Case("a rotation: R R^T = 1, determinant 1",
                   bool(orthogonal and torch.det(R) > 0), where)  # fmt: skip
        ahead = R @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        yield Case(
            "forward looks at lon = yaw, lat = pitch",
            bool(angle_between(ahead, lonlat_to_xyz(*angles)) < 1e-6),
            f"{where}: looks at {_rounded(ahead)}, wanted {_rounded(lonlat_to_xyz(*angles))}",
        )
        yield Case(
            "the camera's right stays level",
            bool(abs(R[1, 0]) < 1e-6),
            f"{where}: right is {_rounded(R[:, 0])}, its y should be 0",
        )
        yield Case(
            "it is the package's rotation",
            bool(torch.allclose(R, rotation_matrix(*angles), atol=1e-6)),
            where,
        )
