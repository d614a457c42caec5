"""Exercises of chapter 03: reading between pixels, turning once, shrinking."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sal360 import resampling
from sal360.course.checking import Case, ask, exercise
from sal360.resampling import apply_table, downsample_erp, erp_table_at, sample_erp
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

_ENGINES = ("erp_reader", "_linear", "_cubic", "_over_the_pole", "_mix")
"""Each call of a reader runs one of these, under whatever name it was imported.

None of them is called by a table's maker alone: those remember, and a second call skips them.
"""

_CALLS = 1000
"""Torch calls that a reader of whole arrays may make; the solution makes about sixty."""


def _random(H: int, W: int) -> Tensor:
    return torch.rand(H, W, generator=torch.Generator().manual_seed(H), dtype=torch.float64)


def _refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the package's readers are locked during this check: write your own")


@contextmanager
def _package_readers_locked() -> Iterator[None]:
    """Within, every read and every shrinking by the package raises."""
    kept = {name: getattr(resampling, name) for name in _ENGINES}
    try:
        for name in _ENGINES:
            setattr(resampling, name, _refuse)
        yield
    finally:
        for name, engine in kept.items():
            setattr(resampling, name, engine)


def _alone(answer: Callable[..., Any], *arguments: Any) -> Tensor:
    """What the learner's function gives without the package's readers."""
    with _package_readers_locked():
        return torch.as_tensor(ask(answer, *arguments))


class _Counted(TorchFunctionMode):
    """Within, torch may be called only so many times."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("too many calls of torch: read all directions at once, not in turn")
        return func(*args, **(kwargs or {}))


@exercise("03.1")
def walk_along_a_meridian(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(i, j, steps, H, W) -> (row, col)`` after so many steps up (down where negative)."""
    for title, walks in (
        ("steps between the poles change the row alone", ((3, 7, 2), (0, 0, -5), (2, 5, 0))),
        ("one step over a pole: the same row, half a turn away", ((0, 3, 1), (5, 9, -1))),
        ("several steps over a pole go on, down the other side", ((0, 3, 4), (4, 10, -4))),
        ("over both poles", ((0, 3, 7), (2, 1, 9), (3, 8, -10), (1, 1, 11))),
        ("once around, or many times", ((4, 2, 12), (0, 0, -12), (5, 11, 125), (1, 6, -1000))),
    ):
        for (i, j, steps), (H, W) in product(walks, ((6, 12), (6, 18), (7, 12))):
            row, col = ask(answer, i, j, steps, H, W)
            asked = f"from ({i}, {j}), steps = {steps}, {H} x {W}"
            whole = all(_is_whole(v) for v in (row, col))
            yield Case("whole numbers, fit for an index", whole,
                       f"{asked}: you gave ({row}, {col})")  # fmt: skip
            got = int(row), int(col)
            around = (i - steps) % (2 * H)
            wanted = (around, j) if around < H else (2 * H - 1 - around, (j + W // 2) % W)
            yield Case(title, got == wanted, f"{asked}: you gave {got}, wanted {wanted}")


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


@exercise("03.2")
def bilinear_reader(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(image (H, W), xyz (N, 3)) -> (N,)``, bilinear, right at the seam and both poles."""
    sizes = ((4, 8), (8, 16), (5, 9), (32, 64), (1, 1))
    edges = lonlat_to_xyz(*torch.deg2rad(torch.tensor(_EDGES, dtype=torch.float64)).T)
    for H, W in sizes:
        image, centres = _random(H, W), erp_directions(H, W).reshape(-1, 3)
        got = _alone(answer, image.clone(), centres.clone())
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
                got = _alone(answer, image.clone(), xyz.clone())
                wanted = sample_erp(image[None, None], xyz)[0, 0]
                yield _closest(title, got, wanted, xyz, size)
    image, many = _random(5, 9), sample_sphere(20_000, torch.Generator().manual_seed(0))

    def counted(image: Tensor, xyz: Tensor) -> Any:
        with _Counted(_CALLS):
            return answer(image, xyz)

    got = _alone(counted, image.clone(), many.clone())
    yield _closest("20,000 directions at once", got, sample_erp(image[None, None], many)[0, 0],
                   many, "5 x 9")  # fmt: skip


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


def broken_sampler(image: Tensor, xyz: Tensor) -> Tensor:
    """A bilinear sampler with two faults, for exercise 03.3: find them before you look here.

    Args:
        image: ``(H, W)`` floating.
        xyz: ``(..., 3)`` float64 directions.
    Returns:
        ``(...)`` values read.
    """
    return faulty_sampler(down=0.5, wraps=False)(image, xyz)


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
    """``(image (H, W), h, w) -> (h, w)``, means by area, at any ratio."""
    for H, W, h, w in (
        (2, 4, 2, 4), (4, 8, 2, 4), (6, 12, 3, 3), (3, 6, 2, 4), (32, 64, 7, 15), (5, 9, 1, 1),
    ):  # fmt: skip
        what = f"{H} x {W} to {h} x {w}"
        flat = _alone(answer, torch.full((H, W), 2.0, dtype=torch.float64), h, w)
        yield Case("a map of h rows and w columns", flat.shape == (h, w),
                   f"{what}: shape {tuple(flat.shape)}")  # fmt: skip
        far = float(flat.flatten()[(flat - 2).abs().argmax()])
        yield Case("a constant stays", abs(far - 2) < 1e-6, f"{what}: a map of 2 became {far:.3g}")
        image = _random(H, W)
        got = _alone(answer, image.clone(), h, w).to(torch.float64)
        before = float((image * pixel_area(H, W)[:, None]).sum())
        after = float((got * pixel_area(h, w)[:, None]).sum())
        yield Case(
            "the integral over the sphere is kept",
            abs(after - before) < 1e-6 * before,
            f"{what}: it was {before:.6g} and is {after:.6g}",
        )
        wanted = downsample_erp(image[None, None], h, w)[0, 0]
        i, j = divmod(int((got - wanted).abs().argmax()), w)
        yield Case(
            "each new pixel is the mean over its own cell, by area",
            abs(float(got[i, j] - wanted[i, j])) < 1e-6,
            f"{what}, pixel ({i}, {j}): you gave {float(got[i, j]):.6g}, "
            f"wanted {float(wanted[i, j]):.6g}",
        )
