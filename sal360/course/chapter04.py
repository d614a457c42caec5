"""Exercises of chapter 04: texels of a cube, paths across its edges, views, a foreign cube."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.cubemap import FACES, cube_directions, cube_pixel
from sal360.projections import erp_to_cube
from sal360.sphere import erp_directions, lonlat_to_xyz, sample_sphere, slerp, xyz_to_lonlat


def _named(xyz: Tensor) -> str:
    lon, lat = (math.degrees(float(v)) for v in xyz_to_lonlat(xyz))
    return f"lon {lon:.4g}, lat {lat:.4g} degrees"


@exercise("04.1")
def texel_solid_angle(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(row, col, S) -> steradians``, exact."""

    def corner(x: float, y: float) -> float:
        return math.atan(x * y / math.sqrt(1 + x * x + y * y))

    for S in (1, 2, 3, 8, 100):
        total = 0.0
        for row, col in ((i, j) for i in range(min(S, 8)) for j in range(min(S, 8))):
            x, y, step = 2 * col / S - 1, 2 * row / S - 1, 2 / S
            wanted = corner(x + step, y + step) - corner(x, y + step)
            wanted += corner(x, y) - corner(x + step, y)
            got = float(ask(answer, row, col, S))
            total += got
            middle = (2 / S) ** 2 / (1 + (x + 1 / S) ** 2 + (y + 1 / S) ** 2) ** 1.5
            hint = " (that is the rule of the midpoint)" if math.isclose(got, middle) else ""
            yield Case(
                "the solid angle between a texel's four edges",
                abs(got / wanted - 1) < 1e-6,
                f"row {row}, col {col} of {S} x {S}: you gave {got:.6g}, "
                f"wanted {wanted:.6g} steradians{hint}",
            )
        if S <= 8:
            yield Case(
                "six faces are the whole sphere",
                math.isclose(6 * total, 4 * math.pi, rel_tol=1e-6),
                f"S = {S}: {6 * total / math.pi:.6g} pi, wanted 4 pi",
            )


@exercise("04.2")
def direction_to_texel(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(x, y, z, S) -> (face, row, col)``, a letter and two whole numbers."""

    def asked(xyz: Tensor, S: int) -> tuple[str, int, int]:
        face, row, col = ask(answer, *xyz.tolist(), S)
        return str(face), int(row), int(col)

    for S in (1, 2, 3, 6):
        texels = cube_directions(S)
        for k, i, j in ((k, i, j) for k in range(6) for i in range(S) for j in range(S)):
            got = asked(texels[k, i, j], S)
            yield Case(
                "round trip: the direction of a texel leads back to it",
                got == (FACES[k], i, j),
                f"{_named(texels[k, i, j])}, S = {S}: you gave {got}, wanted {(FACES[k], i, j)}",
            )
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    awkward = grid[grid.abs().sum(-1) > 0]
    generator = torch.Generator().manual_seed(0)
    for S in (1, 2, 5):
        texels, axes = cube_directions(S), cube_directions(1)[:, 0, 0]
        for xyz in (*awkward, *(0.2 * sample_sphere(40, generator))):
            face, row, col = asked(xyz, S)
            inside = face in FACES and 0 <= row < S and 0 <= col < S
            yield Case(
                "a letter of FRBLUD, and inside the face",
                inside,
                f"{_named(xyz)}, S = {S}: you gave {(face, row, col)}",
            )
            axis = axes[FACES.index(face)]
            depth = float(xyz @ axis)
            away = xyz / depth - texels[FACES.index(face), row, col] if depth > 0 else axis * 9
            yield Case(
                "the texel contains the direction, whatever its length",
                float(away.abs().max()) < 1 / S + 1e-6,
                f"{_named(xyz)}, length {float(xyz.norm()):.2g}, S = {S}: not in {face}, "
                f"row {row}, column {col}",
            )


@exercise("04.3")
def seams_of_a_path(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(a, b) -> number`` of changes of face along the shortest arc."""
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    named = [(0, 0, 30, 10), (0, 0, 80, 0), (-60, 20, 70, 20), (20, 10, 30, 80),
             (-80, 30, 80, 30), (170, 5, -170, 5), (100, 40, -100, 40)]  # fmt: skip
    pairs = [
        (lonlat_to_xyz(*map(math.radians, p[:2])), lonlat_to_xyz(*map(math.radians, p[2:])))
        for p in named
    ]
    cloud = sample_sphere(50, torch.Generator().manual_seed(4))
    pairs += list(zip(cloud[:25], cloud[25:], strict=True))
    for a, b in pairs:
        faces = cube_pixel(slerp(a, b, t), 1)[0].unique_consecutive()
        got = int(ask(answer, a, b))
        crossed = "".join(FACES[k] for k in faces.tolist())
        yield Case(
            "one for each edge that the shortest path crosses",
            got == len(faces) - 1,
            f"from {_named(a)} to {_named(b)}: you gave {got}, wanted {len(faces) - 1} "
            f"(faces {crossed})",
        )


@exercise("04.4")
def width_of_a_view(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(fov, W) -> width`` at which the middle of a view is as fine as the equator."""
    for fov_deg, W in ((90, 4096), (60, 1024), (120, 1024), (1, 7200), (150, 512)):
        fov = math.radians(fov_deg)
        got = float(ask(answer, fov, W))
        wanted = 2 * math.tan(fov / 2) * W / (2 * math.pi)
        hint = ""
        if math.isclose(got, W * fov / (2 * math.pi), rel_tol=1e-6):
            hint = " (that share of the columns would do if the view were even in angle)"
        yield Case(
            "a pixel in the middle covers as much as one at the equator",
            abs(got - wanted) < 1e-3 * wanted,
            f"{fov_deg} degrees, {W} columns: you gave {got:.2f}, wanted {wanted:.2f}{hint}",
        )


# Face of ours, quarter turns to the left, mirrored: in the order in which they are stored.
_MYSTERY = (("B", 0, False), ("D", 1, False), ("F", 0, True), ("L", 0, False), ("R", 2, True),
            ("U", 2, False))  # fmt: skip


def mystery_cube(image: Any, S: int) -> Tensor:
    """Six faces as some other program stores them: ``(B, 6, C, S, S)``. Exercise 04.5.

    Args:
        image: ``(B, C, H, W)`` panorama, floating. S: texels along an edge.
    """
    ours = erp_to_cube(image, S)
    theirs = []
    for name, turns, mirror in _MYSTERY:
        face = ours[:, FACES.index(name)].rot90(turns, (-2, -1))
        theirs.append(face.flip(-1) if mirror else face)
    return torch.stack(theirs, 1)


@exercise("04.5")
def repair_the_cube(answer: Callable[..., Any]) -> Iterator[Case]:
    """``faces -> faces``: a mystery cube to ours."""
    directions = erp_directions(64, 128).movedim(-1, 0)[None]
    noise = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    for image, S in ((directions, 1), (directions, 16), (noise, 8), (noise, 5)):
        ours = erp_to_cube(image, S)
        given = mystery_cube(image, S)
        got = torch.as_tensor(ask(answer, given))
        yield Case(
            "faces (B, 6, C, S, S), as many as were given",
            got.shape == ours.shape,
            f"{tuple(given.shape)} became {tuple(got.shape)}, wanted {tuple(ours.shape)}",
        )
        for k, name in enumerate(FACES):
            flat = ours.flatten(3).sort(-1).values
            looks = (flat - got[:, [k]].flatten(3).sort(-1).values).abs().amax((0, 2, 3))
            shown = FACES[int(looks.argmin())]
            yield Case(
                "every face stands in its place",
                shown == name,
                f"S = {S}: in the place of {name} stands {shown}",
            )
            off = float((got[:, k] - ours[:, k]).abs().max())
            yield Case(
                "every face is upright and not mirrored",
                off < 1e-4,
                f"S = {S}: face {name} is off by up to {off:.2g}",
            )
