"""Exercises of chapter 03: reading between pixels, turning once, shrinking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.resampling import apply_table, erp_table_at, sample_erp
from sal360.sphere import (
    erp_directions,
    erp_pixel,
    lonlat_to_xyz,
    pixel_area,
    rotation_matrix,
    sample_sphere,
)

Sampler = Callable[[Tensor, Tensor], Tensor]
"""``(image (H, W), xyz (..., 3)) -> (...)``."""

_EDGES = ((180, 0), (-180, 0), (179.9, 30), (0, 90), (0, -90), (40, 89.9), (-130, 89.9), (77, -89))


def _random(H: int, W: int) -> Tensor:
    return torch.rand(H, W, generator=torch.Generator().manual_seed(H), dtype=torch.float64)


@exercise("03.1")
def name_inside(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(row, col, H, W) -> (row, col)`` of the pixel that a name outside the image means."""
    H, W = 6, 12
    inside = (0, 0), (3, 7), (5, 11)
    seam = (2, 12), (2, -1), (5, 14), (0, -12)
    north = (-1, 0), (-1, 4), (-1, 11), (-2, 3), (-6, 0)
    south = (6, 0), (6, 9), (7, 2), (11, 5)
    both = (-1, 12), (-1, -7), (6, -1), (8, 17)
    for title, places in (
        ("a name inside the image stays", inside),
        ("columns go round at the seam", seam),
        ("over the north pole: the mirrored row, half a turn away", north),
        ("over the south pole: the mirrored row, half a turn away", south),
        ("over a pole and over the seam at once", both),
    ):
        for (row, col), (h, w) in product(places, ((H, W), (H, 2 * W))):
            got = tuple(int(v) for v in ask(answer, row, col, h, w))
            beyond = not 0 <= row < h
            line = -1 - row if row < 0 else 2 * h - 1 - row if row >= h else row
            wanted = line, (col + (w // 2 if beyond else 0)) % w
            yield Case(
                title,
                got == wanted,
                f"({row}, {col}) of {h} x {w}: you gave {got}, wanted {wanted}",
            )


@exercise("03.2")
def bilinear_reader(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(image (H, W), xyz (N, 3)) -> (N,)``, bilinear, right at the seam and both poles."""
    sizes = ((4, 8), (8, 16), (5, 9), (32, 64), (1, 1))
    edges = lonlat_to_xyz(*torch.deg2rad(torch.tensor(_EDGES, dtype=torch.float64)).T)
    for H, W in sizes:
        image, centres = _random(H, W), erp_directions(H, W).reshape(-1, 3)
        got = torch.as_tensor(ask(answer, image.clone(), centres.clone()))
        size = f"{H} x {W}"
        yield Case("one value for each direction", got.shape == (H * W,),
                   f"{size}: shape {tuple(got.shape)}, wanted ({H * W},)")  # fmt: skip
        yield _closest("pixel centres are read back", got, image.flatten(), centres, size)
        scattered = sample_sphere(60, torch.Generator().manual_seed(W))
        row, col = erp_pixel(scattered, H, W)
        within = (row > 0) & (row < H - 1) & (col > 0) & (col < W - 1)
        for title, xyz in (
            ("four pixels, weighted, away from the edges", scattered[within]),
            ("across the seam and over both poles, odd widths too", torch.cat((edges, scattered))),
        ):
            if len(xyz):
                got = torch.as_tensor(ask(answer, image.clone(), xyz.clone()))
                wanted = sample_erp(image[None, None], xyz)[0, 0]
                yield _closest(title, got, wanted, xyz, size)


def _closest(title: str, got: Tensor, wanted: Tensor, xyz: Tensor, size: str) -> Case:
    """All values agree, or the first that does not."""
    off = (got.to(torch.float64) - wanted).abs() > 1e-5
    k = int(off.to(torch.int8).argmax())
    row, col = erp_pixel(xyz[k], *(int(v) for v in size.split(" x ")))
    return Case(
        title,
        not bool(off.any()),
        f"{size}, row {float(row):.2f}, column {float(col):.2f}: you read {float(got[k]):.4f}, "
        f"wanted {float(wanted[k]):.4f}",
    )


def faulty_sampler(down: float = 0.0, right: float = 0.0, wraps: bool = True) -> Sampler:
    """A bilinear sampler ``(image (H, W), xyz (..., 3)) -> (...)`` with planted faults.

    Args:
        down, right: it reads that many pixels too low, and too far to the right; less than 1.
        wraps: whether it goes on at the seam; else the last column is repeated there.
    """

    def read(image: Tensor, xyz: Tensor) -> Tensor:
        H, W = image.shape
        row, col = erp_pixel(xyz, H, W)
        col = col + right if wraps else (col + right).clamp(0, W - 1)
        table = erp_table_at((row + down).flatten(), col.flatten(), H, W)
        return apply_table(image[None, None], table).reshape(row.shape)

    return read


broken_sampler = faulty_sampler(down=0.5, wraps=False)
"""The sampler of exercise 03.3: try yours on it before you look here."""


@exercise("03.3")
def diagnosis(answer: Callable[..., Any]) -> Iterator[Case]:
    """``sampler -> (down, right, wraps)``: what is wrong with it."""
    for right, down, wraps in product((0, 0.5, -0.5, 0.25), (0, 0.5, -0.5, -0.3), (True, False)):
        got = ask(answer, faulty_sampler(down, right, wraps))
        found_down, found_right, found_wraps = (float(v) for v in got)
        planted = f"planted: down {down:g}, right {right:g}, wraps {wraps}"
        for title, found, true in (("down", found_down, down), ("right", found_right, right)):
            yield Case(
                f"how many pixels too far {title} it reads",
                abs(found - true) < 0.01,
                f"{planted}: you found {title} {found:.3g}",
            )
        yield Case(
            "whether it goes on at the seam",
            bool(found_wraps) == wraps,
            f"{planted}: you found wraps {bool(found_wraps)}",
        )


@exercise("03.4")
def turn_once(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(image (B, C, H, W), rotations) -> `` the picture after all turns, read once."""
    H, W = 32, 64
    d = erp_directions(H, W)

    def scene(xyz: Tensor) -> Tensor:
        x, y, z = xyz.unbind(-1)
        return (torch.sin(2 * x + y) + x * z)[None, None]

    image = scene(d)
    yaw, pitch, roll = (rotation_matrix(*(0.5 * (k == axis) for k in range(3)))
                        for axis in range(3))  # fmt: skip
    single = torch.eye(3, dtype=torch.float64)
    for name, turns in (
        ("no turn", [single]),
        ("one yaw of 0.5", [yaw]),
        ("a yaw of 0.5, then a pitch of 0.5", [yaw, pitch]),
        ("a pitch, a roll, a yaw of 0.5 each", [pitch, roll, yaw]),
        ("a yaw of 0.5 and back", [yaw, yaw.T]),
    ):
        got = torch.as_tensor(ask(answer, image.clone(), list(turns)))
        yield Case("a picture of the same shape", got.shape == image.shape,
                   f"{name}: shape {tuple(got.shape)}, wanted {tuple(image.shape)}")  # fmt: skip
        whole = single
        for R in turns:
            whole = R @ whole
        worst = float((got - scene(d @ whole)).abs().max())
        yield Case(
            "the content moves by all turns, the first one first",
            worst < 0.02,
            f"{name}: a value is off by {worst:.2g}",
        )
    noise = _random(H, W)[None, None]
    kept = torch.as_tensor(ask(answer, noise.clone(), [pitch, pitch.T] * 5))
    worst = float((kept - noise).abs().max())
    yield Case(
        "read once: five turns there and back leave every pixel as it was",
        worst < 1e-6,
        f"noise, five pitches of 0.5 and back: a pixel is off by {worst:.2g}",
    )


@exercise("03.5")
def shrink(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(image (H, W), k) -> (H / k, W / k)``, means by area."""
    for H, W, k in ((2, 4, 1), (4, 8, 2), (6, 12, 3), (32, 64, 4), (4, 4, 4)):
        small = H // k, W // k
        what = f"{H} x {W}, k = {k}"
        flat = torch.as_tensor(ask(answer, torch.full((H, W), 2.0, dtype=torch.float64), k))
        yield Case("a map of H / k rows and W / k columns",
                   flat.shape == small,
                   f"{what}: shape {tuple(flat.shape)}, wanted {small}")  # fmt: skip
        worst = float((flat - 2).abs().max())
        yield Case("a constant stays", worst < 1e-6, f"{what}, a map of 2: off by {worst:.2g}")
        image = _random(H, W)
        got = torch.as_tensor(ask(answer, image.clone(), k)).to(torch.float64)
        before = float((image * pixel_area(H, W)[:, None]).sum())
        after = float((got * pixel_area(*small)[:, None]).sum())
        yield Case(
            "the integral over the sphere is kept",
            math.isclose(before, after, rel_tol=1e-6),
            f"{what}: it was {before:.6g} and is {after:.6g}",
        )
        area = pixel_area(H, W)[:, None].expand(H, W)

        def blocks(v: Tensor, k: int = k, small: tuple[int, int] = small) -> Tensor:
            return v.reshape(small[0], k, small[1], k).sum((1, 3))

        worst = float((got - blocks(image * area) / blocks(area)).abs().max())
        yield Case(
            "each new pixel is the mean over its own block, by area",
            worst < 1e-6,
            f"{what}: off by {worst:.2g}",
        )
