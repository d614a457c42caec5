"""Exercises of chapter 08: who feels the frame, the face table, a tester, planted faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.cubemap import FACES, cube_directions, cube_pixel
from sal360.nn.cube import CubePad2d
from sal360.sphere import angle_between

SIDES = ("top", "bottom", "left", "right")
Pad = Callable[[Tensor], Tensor]


@exercise("08.1")
def who_feels_the_frame(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(S, layers, k) -> share`` of a face's outputs that zeros beyond its edges reach."""
    for S, layers, k in ((8, 1, 1), (8, 1, 3), (64, 4, 3), (224, 1, 7), (7, 3, 3), (6, 3, 3),
                         (5, 9, 3), (100, 2, 5)):  # fmt: skip
        x = torch.zeros(1, 1, S, S)
        for _ in range(layers):  # ones grow inwards from beyond the edge
            x = F.max_pool2d(F.pad(x, (k // 2,) * 4, value=1.0), k, 1)
        wanted, got = float(x.mean()), float(ask(answer, S, layers, k))
        percent = wanted > 0 and math.isclose(got, 100 * wanted, rel_tol=1e-6)
        hint = " (a share is at most 1)" if percent else ""
        yield Case(
            "the share of outputs that depend on what lies beyond the edges",
            math.isclose(got, wanted, abs_tol=1e-6),
            f"{S} x {S}, {layers} layers of {k} x {k}: you gave {got:.4g}, "
            f"wanted {wanted:.4g}{hint}",
        )


def _strip(padded: Tensor, side: str, pad: int) -> Tensor:
    """``(..., P, P)`` to the rim beyond one edge, without corners, nearest ring first."""
    strips = {
        "top": padded[..., :pad, pad:-pad].flip(-2),
        "bottom": padded[..., -pad:, pad:-pad],
        "left": padded[..., pad:-pad, :pad].mT.flip(-2),
        "right": padded[..., pad:-pad, -pad:].mT,
    }
    return strips[side]


def _line(face: Tensor, side: str) -> Tensor:
    lines = {"top": face[0], "bottom": face[-1], "left": face[:, 0], "right": face[:, -1]}
    return lines[side]


def _face_table() -> dict[tuple[str, str], tuple[str, str, bool]]:
    """Of every edge: the neighbour, its edge, and whether the two run in opposite directions."""
    S = 5
    code = torch.arange(6.0 * S * S).reshape(6, S, S)
    rim = CubePad2d(1)(code[:, None])[:, 0]
    table = {}
    for face, name in enumerate(FACES):
        for side in SIDES:
            beyond = _strip(rim[face], side, 1)[0]
            for other, letter in enumerate(FACES):
                for edge in SIDES:
                    line = _line(code[other], edge)
                    for turned, run in ((False, line), (True, line.flip(0))):
                        if torch.equal(run, beyond):
                            table[name, side] = (letter, edge, turned)
    return table


@exercise("08.2")
def face_table(answer: Callable[..., Any]) -> Iterator[Case]:
    """``() -> {(face, side): (neighbour, its side, reversed)}`` for the 24 edges."""
    wanted = _face_table()
    got = dict(ask(answer))
    yield Case(
        "24 edges, named like ('F', 'top')",
        set(got) == set(wanted),
        f"{len(got)} of them; missing {sorted(set(wanted) - set(got))[:3]}",
    )
    for part, name in ((0, "the neighbour"), (1, "the neighbour's edge"), (2, "the direction")):
        for key, value in wanted.items():
            mine = tuple(got[key])
            yield Case(
                name,
                len(mine) == 3 and mine[part] == value[part],
                f"{key[0]} {key[1]}: you gave {mine}, wanted {value[part]!r} there",
            )


def _continued(S: int, pad: int) -> Tensor:
    """Where every face's own lattice goes on: ``(6, P, P, 3)``."""
    ahead = cube_directions(1)
    return ahead + (cube_directions(S + 2 * pad) - ahead) * ((S + 2 * pad) / S)


def _zeros(pad: int) -> Pad:
    return lambda x: F.pad(x, (pad,) * 4)


def _replicate(pad: int) -> Pad:
    return lambda x: F.pad(x, (pad,) * 4, mode="replicate")


@exercise("08.3")
def tester(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(pad, S, p) -> degrees``: how far from its place the worst texel of the rim comes."""
    for S, p in ((4, 1), (6, 2), (8, 3)):
        for name, pad in (
            ("zeros", _zeros(p)), ("the face's own edge repeated", _replicate(p)),
            ("copies of the neighbours", CubePad2d(p)), ("readings", CubePad2d(p, "reproject")),
        ):  # fmt: skip
            padded = pad(cube_directions(S).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            lost = padded.norm(dim=-1) < 1e-9
            safe = torch.where(lost[..., None], torch.ones_like(padded), padded)
            off = torch.rad2deg(angle_between(safe, _continued(S, p)))
            wanted = 180.0 if bool(lost.any()) else float(off.max())
            got = float(ask(answer, pad, S, p))
            radians = math.isclose(math.degrees(got), wanted, rel_tol=1e-4)
            hint = " (did you give radians?)" if radians else ""
            yield Case(
                "180 where a texel has no direction" if wanted == 180 else "the largest angle",
                abs(got - wanted) < 1e-3,
                f"{name}, S {S}, {p} rings: you gave {got:.3f}, wanted {wanted:.3f} degrees{hint}",
            )


@exercise("08.4")
def where_to_read(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(S, k, i) -> row, col`` in R of texel ``i`` of ring ``k`` beyond the right edge of F."""
    for S, k, i in ((1, 0, 0), (8, 0, 3), (8, 0, 0), (8, 2, 7), (64, 0, 0), (64, 2, 0), (7, 9, 3)):
        d = torch.tensor([[1 + (2 * k + 1) / S, (2 * i + 1) / S - 1, 1.0]], dtype=torch.float64)
        _, row, col = (float(v) for v in cube_pixel(d, S))
        mine = [float(v) for v in ask(answer, S, k, i)]
        yield Case("a row and a column", len(mine) == 2, f"{len(mine)} numbers")
        copied = abs(mine[0] - i) < 1e-9 and abs(mine[1] - k) < 1e-9
        swapped = abs(mine[1] - row) < 1e-9 and abs(mine[0] - col) < 1e-9
        hint = " (that is where copying takes it)" if copied else ""
        hint = " (did you give column, row?)" if swapped else hint
        yield Case(
            "where the plane of F, continued, meets R",
            abs(mine[0] - row) < 1e-6 and abs(mine[1] - col) < 1e-6,
            f"S {S}, ring {k}, texel {i}: you gave row {mine[0]:.3f}, col {mine[1]:.3f}, "
            f"wanted {row:.3f}, {col:.3f}{hint}",
        )


def planted_pad(pad: int, *faults: tuple[str, str, str]) -> Pad:
    """A padding with faults: ``(face, side, kind)``, kind ``"rings"``, ``"turned"`` or a letter.

    ``"rings"`` takes the rings in reversed order, ``"turned"`` runs along the edge the wrong way,
    a letter takes the same line of that face instead of the neighbour. Exercise 08.5 looks for
    them.
    """
    right, opposite = CubePad2d(pad), {name: k for k, name in enumerate(FACES)}

    def padded(x: Tensor) -> Tensor:
        out = right(x).clone()
        for face, side, kind in faults:
            target = _strip(out[opposite[face]], side, pad)
            if kind == "rings":
                strip = target.flip(-2)
            elif kind == "turned":
                strip = target.flip(-1)
            else:
                other = x[opposite[kind]]
                strip = other[..., :pad, :] if side in ("top", "bottom") else other[..., :pad].mT
            _put(out[opposite[face]], side, pad, strip)
        return out

    return padded


def _put(padded: Tensor, side: str, pad: int, strip: Tensor) -> None:
    strip = strip.clone()
    if side == "top":
        padded[..., :pad, pad:-pad] = strip.flip(-2)
    elif side == "bottom":
        padded[..., -pad:, pad:-pad] = strip
    elif side == "left":
        padded[..., pad:-pad, :pad] = strip.flip(-2).mT
    else:
        padded[..., pad:-pad, -pad:] = strip.mT


@exercise("08.5")
def find_the_faults(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(pad, S, p) -> {(face, side), ...}``: the edges that a padding gets wrong."""
    cases: tuple[tuple[str, int, tuple[tuple[str, str, str], ...]], ...] = (
        ("nothing is wrong, and nothing is found", 1, ()),
        ("a wrong neighbour", 1, (("F", "left", "B"),)),
        ("a line that runs the wrong way", 1, (("U", "right", "turned"),)),
        ("rings in the wrong order", 2, (("D", "bottom", "rings"),)),
        ("nothing is wrong, and nothing is found", 3, ()),
        ("several faults at once", 3,
         (("B", "top", "rings"), ("L", "right", "turned"), ("R", "bottom", "U"))),
        ("two faces exchanged", 2,
         (("F", "left", "R"), ("F", "right", "L"), ("B", "left", "L"), ("B", "right", "R"))),
    )  # fmt: skip
    for name, p, faults in cases:
        wanted = {(face, side) for face, side, _ in faults}
        for S in (6, 9):
            got = {tuple(edge) for edge in ask(answer, planted_pad(p, *faults), S, p)}
            missed, invented = sorted(wanted - got), sorted(got - wanted)
            yield Case(
                name,
                got == wanted,
                f"S {S}, {p} rings: missed {missed or 'none'}, "
                f"blamed without reason {invented[:3] or 'none'}",
            )
