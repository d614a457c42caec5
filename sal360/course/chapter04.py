"""Exercises of chapter 04: texels and rims of a cube, paths across edges, a foreign cube."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.cubemap import FACES, _padded_texels, cube_directions, cube_pixel
from sal360.figures.show import CYCLE
from sal360.projections import cube_to_erp, erp_to_cube
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
            if not hint and 1e-6 <= abs(got / wanted - 1) < 2e-3:
                hint = " (differences of near equals want double precision)"
            yield Case(
                "the solid angle between a texel's four edges",
                abs(got / wanted - 1) < 1e-6,
                f"row {row}, col {col} of {S} x {S}: you gave {got:.8g}, "
                f"wanted {wanted:.8g} steradians{hint}",
            )
        if S <= 8:
            yield Case(
                "six faces are the whole sphere",
                math.isclose(6 * total, 4 * math.pi, rel_tol=1e-6),
                f"S = {S}: {6 * total / math.pi:.6g} pi, wanted 4 pi",
            )


@exercise("04.2")
def rim_of_the_faces(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(6, S, S) -> (6, S + 2, S + 2)``: every face with one texel of its neighbours around."""
    for S in (2, 1, 5, 8):
        generator = torch.Generator().manual_seed(S)
        faces = torch.rand(6, S, S, generator=generator, dtype=torch.float64)
        pixels, weights = _padded_texels(S)
        wanted = (faces.flatten()[pixels] * weights).sum(-1)
        got = torch.as_tensor(ask(answer, faces.clone())).double()
        yield Case(
            "one texel more on each side",
            got.shape == wanted.shape,
            f"{tuple(faces.shape)} became {tuple(got.shape)}, wanted {tuple(wanted.shape)}",
        )
        off = (got - wanted).abs()
        rim = torch.ones(S + 2, S + 2, dtype=torch.long)
        rim[1:-1, 1:-1] = 0
        for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            rim[i, j] = 2
        for part, property in enumerate(
            (
                "the face itself stays as it is",
                "beyond an edge: between two texels of the neighbour, where the direction falls",
                "beyond a corner: the plane over the three texels that meet there",
            )
        ):
            k, i, j = (int(v[0]) for v in torch.where(off == off[:, rim == part].max()))
            yield Case(
                property,
                float(off[:, rim == part].max()) < 1e-5,
                f"S = {S}, face {FACES[k]}, row {i - 1}, column {j - 1}: "
                f"you gave {float(got[k, i, j]):.4f}, wanted {float(wanted[k, i, j]):.4f}",
            )


@exercise("04.3")
def seams_of_a_path(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(a, b) -> number`` of changes of face along the shortest arc."""
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    named = [(0, 0, 30, 10), (0, 0, 80, 0), (-60, 20, 70, 20), (20, 10, 30, 80),
             (-80, 30, 80, 30), (170, 5, -170, 5), (100, 40, -100, 40),
             # these clip a corner of the cube: less than a degree of them is on the third face
             (10, 30.23, 80, 30.23), (-55.2, -17.4, -4.2, -62.3),
             (-119.3, 5.6, -153.5, 53)]  # fmt: skip
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
        elif got == round(got) and abs(got - wanted) <= 1:
            hint = " (a real number is wanted: do not round)"
        yield Case(
            "a pixel in the middle covers as much as one at the equator",
            abs(got - wanted) < 2e-5 * wanted,  # at 512 columns a whole pixel is 1.3e-5 off
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
        theirs.append(_turned(ours[:, FACES.index(name)], turns, mirror))
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
            ways = {_way(n, flip): n for flip in (False, True) for n in range(4)}
            off = {
                way: float((_turned(got[:, k], n, "mirrored" in way) - ours[:, k]).abs().max())
                for way, n in ways.items()
            }
            least = min(off, key=lambda way: off[way])
            yield Case(
                "every face is upright and not mirrored",
                off["as it should"] < 1e-4,
                f"S = {S}: face {name} is off by up to {off['as it should']:.2g}"
                + (f"; it still has to be {least}" if off[least] < 1e-4 else ""),
            )


def _turned(face: Tensor, turns: int, mirror: bool) -> Tensor:
    """Quarter turns to the left, then left and right exchanged."""
    face = face.rot90(turns, (-2, -1))
    return face.flip(-1) if mirror else face


def _way(turns: int, mirror: bool) -> str:
    words = [f"turned by {90 * turns} degrees to the left"] * (turns > 0) + ["mirrored"] * mirror
    return " and then ".join(words) or "as it should"


def labelled_room(H: int = 512) -> Tensor:
    """Panorama of a cubical room: six coloured walls with tiles, a letter on each, and a rope.

    The letters F R B L U D are upright on the faces of a cubemap, each with a white square in
    its upper right corner, so that turned and mirrored faces show. A black rope, a tilted great
    circle, crosses the walls.

    Args:
        H: rows. Returns: ``(1, 3, H, 2 H)`` in [0, 1].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    S = H // 2
    walls = torch.empty(6, 3, S, S)
    for k, name in enumerate(FACES):
        figure = Figure(figsize=(1, 1), dpi=S, facecolor=CYCLE[k])
        canvas = FigureCanvasAgg(figure)
        axis = figure.add_axes((0, 0, 1, 1), facecolor=CYCLE[k], xlim=(0, 6), ylim=(0, 6))
        for line in range(7):
            axis.axhline(line, color="white", lw=0.5, alpha=0.7)
            axis.axvline(line, color="white", lw=0.5, alpha=0.7)
        axis.fill([4.2, 4.8, 4.8, 4.2], [4.2, 4.2, 4.8, 4.8], color="white", lw=0)
        axis.text(3, 2.9, name, color="white", fontsize=34, weight="bold", ha="center", va="center")
        canvas.draw()
        painted = torch.as_tensor(np.array(canvas.buffer_rgba())[..., :3].copy())
        walls[k] = painted.permute(2, 0, 1) / 255
    xyz = cube_directions(S)
    away = xyz @ torch.tensor([-0.5, 0.65, 0.42], dtype=torch.float64) / xyz.norm(dim=-1)
    walls.movedim(1, 0)[:, away.abs() < 0.014] = 0.0
    return cube_to_erp(walls[None], H).clamp(0, 1)
