"""Exercises of chapter 06: turns repaired, operations judged, boxes opened, a kernel designed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.nn.equivariance import check_equivariance
from sal360.patterns import tangent_pattern
from sal360.projections import rotate_erp
from sal360.sphere import erp_directions, pixel_area, rotation_matrix

Operation = Callable[[Tensor], Tensor]
EDGE = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64) / 8
LAPLACIAN = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]], dtype=torch.float64) / 4


def _tangent(x: Tensor, weight: Tensor, turn: float = 0.0) -> Tensor:
    pattern = tangent_pattern(x.shape[-2], x.shape[-1]).shifted(turn * 2 * math.pi / x.shape[-1])
    read = pattern.read(x, "bicubic")
    return torch.einsum("k,bckij->bcij", weight.flatten().to(x), read)


@exercise("06.1")
def yaw_in_a_line(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(image, weight) -> image``: a planar 3 x 3 convolution that commutes with turns."""
    source = torch.Generator().manual_seed(1)
    for channels, H, W in ((1, 8, 16), (3, 9, 15)):
        x = torch.rand(2, channels, H, W, generator=source, dtype=torch.float64)
        w = torch.randn(2, channels, 3, 3, generator=source, dtype=torch.float64)
        got = torch.as_tensor(ask(answer, x, w))
        where = f"{channels} channel{'s'[: channels > 1]}, {H} x {W}"
        yield Case("an answer of the panorama's own size", got.shape == (2, 2, H, W),
                   f"{where}: shape {tuple(got.shape)}, wanted {(2, 2, H, W)}")  # fmt: skip
        inside = (got[..., 1:-1, 1:-1] - F.conv2d(x, w)).abs().max()
        yield Case("inside the picture, the answer of F.conv2d", bool(inside < 1e-5),
                   f"{where}: off by up to {inside:.2g}")  # fmt: skip
        for shift in (1, 5, W // 2):
            off = (torch.as_tensor(ask(answer, x.roll(shift, -1), w)) - got.roll(shift, -1)).abs()
            j = int(off.amax((0, 1, 2)).argmax())
            yield Case(
                "turning by whole columns commutes",
                bool(off.max() < 1e-5),
                f"{where}, turned by {shift}: off by {off.max():.2g} in column {j}",
            )


def _blocks(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2).repeat_interleave(2, -2).repeat_interleave(2, -1)


def _latitude(x: Tensor) -> Tensor:
    return x + torch.linspace(1, -1, x.shape[-2]).to(x)[:, None]


def _area_mean(x: Tensor) -> Tensor:
    area = pixel_area(x.shape[-2], x.shape[-1]).to(x)[:, None]
    return x - (x * area).sum((-2, -1), keepdim=True) / (4 * math.pi)


OPERATIONS: dict[str, Operation] = {
    "ReLU": torch.relu,
    "add a bias": lambda x: x + 0.3,
    "subtract the mean over the sphere's area": _area_mean,
    "add the latitude": _latitude,
    "edge filter on tangent taps": lambda x: _tangent(x, EDGE),
    "Laplacian on tangent taps": lambda x: _tangent(x, LAPLACIAN),
    "Laplacian with zero padding": lambda x: F.conv2d(x, LAPLACIAN.to(x)[None, None], padding=1),
    "2 x 2 pixels become their maximum": _blocks,
}
"""What exercise 06.2 asks about; each takes and gives ``(B, 1, H, W)``."""


def commutes_with(operation: Operation) -> str:
    """``"all"``, ``"turns"`` or ``"none"``: measured, with a tenth as the limit for tilts."""
    source = torch.Generator().manual_seed(2)
    x = torch.randn(1, 1, 32, 64, generator=source, dtype=torch.float64)
    y = operation(x)
    apart = max(float((operation(x.roll(s, -1)) - y.roll(s, -1)).abs().max()) for s in (1, 6))
    if apart > 1e-9 * float(y.abs().max()):
        return "none"
    found = check_equivariance(operation, 1, 32, 64, tilts=(60.0,), axes=3, degree=4)
    return "all" if found.tilt[0] < 0.1 else "turns"


@exercise("06.2")
def which_commute(answer: Callable[..., Any]) -> Iterator[Case]:
    """``name of an operation -> "all" | "turns" | "none"``."""
    for name, operation in OPERATIONS.items():
        said, found = ask(answer, name), commutes_with(operation)
        yield Case("one of all, turns, none", said in ("all", "turns", "none"), f"{name}: {said!r}")
        yield Case("what a measurement finds", said == found, f"{name}: not {said!r}")


def field(xyz: Tensor) -> Tensor:
    """A smooth scene on the sphere: ``(..., 3)`` unit vectors to ``(...)``."""
    x, y, z = xyz.unbind(-1)
    return torch.sin(4 * x + y) + torch.cos(3 * y - 2 * z) * x


@exercise("06.3")
def error_against_tilt(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(layer, degrees, lon) -> relative error`` on :func:`field`, 48 x 96, tilted up."""
    H, W = 48, 96
    grid, area = erp_directions(H, W), pixel_area(H, W)[:, None]
    layers: dict[str, Operation] = {
        "x + latitude": _latitude,
        "tangent edge filter": lambda x: _tangent(x, EDGE),
        "planar edge filter": lambda x: F.conv2d(
            F.pad(x, (1, 1, 1, 1), mode="circular"), EDGE.to(x)[None, None]
        ),
        "the identity": lambda x: x,
        # Turns do not commute with this one: it finds a tilt that is not turned back.
        "x + a light in front": lambda x: x + grid[..., 2].to(x),
    }
    for name, layer in layers.items():
        still = layer(field(grid)[None, None])
        for degrees, lon in ((30.0, 0.0), (90.0, 0.0), (60.0, 70.0)):
            nod = rotation_matrix(0.0, math.radians(degrees))
            there, back = (rotation_matrix(b * math.radians(lon)) for b in (1, -1))
            R = there @ nod @ back
            first = layer(field(grid @ R)[None, None])

            def size(x: Tensor, weight: Tensor = area) -> Tensor:
                return (x.square() * weight).sum().sqrt()

            second = rotate_erp(still, R, "bicubic")
            wanted = float(size(first - second) / size(second))

            def turned(
                paints: Tensor, turns: Tensor, layer: Any = layer, size: Any = size
            ) -> float:
                one = layer(field(grid @ paints)[None, None])
                other = rotate_erp(layer(field(grid)[None, None]), turns, "bicubic")
                return float(size(one - other) / size(other))

            across = back @ nod @ there
            rough = rotate_erp(still, R, "bilinear")
            even = torch.ones_like(area)
            slips = (
                ("the rotation the other way round", turned(R, R.T)),
                ("both rotations the other way round", turned(R.T, R.T)),
                ("a tilt towards longitude 0, or the first turn left out", turned(nod, nod)),
                ("a tilt towards the opposite longitude", turned(across, across)),
                ("a last turn left out", turned(nod @ back, nod @ back)),
                ("every pixel counted alike",
                 float(size(first - second, even) / size(second, even))),
                ("the square of the error", wanted**2),
                ("the answer read bilinearly", float(size(first - rough) / size(rough))),
                ("divided by the other answer", float(size(first - second) / size(first))),
            )  # fmt: skip
            got = float(ask(answer, layer, degrees, lon))
            limit = 1e-4 + 2e-3 * wanted
            hint = "".join(
                f" (is it {slip}?)"
                for slip, value in slips
                if abs(value - wanted) > limit and math.isclose(got, value, rel_tol=1e-3)
            )
            yield Case(
                "the relative error, weighted by area",
                abs(got - wanted) <= limit,
                f"{name}, {degrees:g} degrees towards longitude {lon:g}: you gave {got:.4f}, "
                f"wanted {wanted:.4f}{hint}",
            )


def boxes() -> dict[str, Operation]:
    """Five closed layers for exercise 06.4: one is sound, four have one fault each."""
    return {letter: _closed(operation) for letter, (_, operation) in _BOXES.items()}


def _closed(operation: Operation) -> Operation:
    def box(x: Tensor) -> Tensor:  # a report is titled by this name, which must not tell the fault
        return operation(x)

    return box


def _no_seam(x: Tensor) -> Tensor:
    y = _tangent(x, LAPLACIAN)
    cut = torch.cat((x[..., :1], x[..., :-1]), -1)  # the left neighbour of column 0 is itself
    return torch.cat((y[..., :1] + cut[..., :1] - x[..., -1:], y[..., 1:]), -1)


_BOXES: dict[str, tuple[str, Operation]] = {
    "A": ("shift", lambda x: _tangent(x, LAPLACIAN, turn=3.0)),
    "B": ("seam", _no_seam),
    "C": ("sound", lambda x: _tangent(x, LAPLACIAN)),
    "D": ("latitude", lambda x: _latitude(_tangent(x, LAPLACIAN))),
    "E": ("oriented", lambda x: _tangent(x, EDGE)),
}


@exercise("06.4")
def open_the_boxes(answer: Callable[..., Any]) -> Iterator[Case]:
    """``letter -> fault``."""
    faults = sorted(fault for fault, _ in _BOXES.values())
    for letter, (fault, _) in _BOXES.items():
        said = ask(answer, letter)
        yield Case("one of the named faults", said in faults,
                   f"box {letter}: {said!r}, wanted one of {', '.join(faults)}")  # fmt: skip
        yield Case("the box's own fault", said == fault,
                   f"box {letter} has another one than {said!r}")  # fmt: skip


@exercise("06.5")
def isotropic_kernel(answer: Callable[..., Any]) -> Iterator[Case]:
    """``() -> kernel``: a 3 x 3 Laplacian that answers alike to waves from every side."""
    kernel = torch.as_tensor(ask(answer), dtype=torch.float64)
    yield Case("three rows of three", kernel.shape == (3, 3), f"shape {tuple(kernel.shape)}")
    total = float(kernel.sum())
    yield Case("nothing on a constant", abs(total) < 1e-5, f"the weights sum to {total:.3g}")
    step = torch.tensor([-1.0, 0, 1], dtype=torch.float64)
    down, right = torch.meshgrid(step, step, indexing="ij")

    def gain(pixels: float, degrees: float) -> float:
        k = 2 * math.pi / pixels
        turn = math.radians(degrees)
        phase = k * (right * math.cos(turn) + down * math.sin(turn))
        # cos - 1, without cancellation: the sum is 0, in single precision to seven digits
        return float((kernel * -2 * torch.sin(phase / 2).square()).sum()) / k**2

    slow = gain(1000.0, 0.0)
    yield Case("a Laplacian: -1 times the squared frequency of a slow wave",
               abs(slow + 1) < 1e-3, f"a wave of 1000 pixels: {slow:.3f}, wanted -1")  # fmt: skip
    odd = float((kernel - kernel.flip(0)).abs().max() + (kernel - kernel.flip(1)).abs().max())
    yield Case("no side preferred", odd < 1e-5, f"mirrored, it differs by {odd:.2g}")
    for pixels in (40.0, 12.0, 8.0):
        straight = gain(pixels, 0.0)
        for degrees in (30.0, 45.0, 60.0, 90.0):
            off = gain(pixels, degrees) / straight - 1
            yield Case(
                "waves from every side are answered alike, within 0.2 %",
                abs(off) < 2e-3,
                f"a wave of {pixels:g} pixels at {degrees:g} degrees: {100 * off:+.2f} % against "
                "one at 0",
            )
