"""Exercises of chapter 08: who feels the frame, the face table, a tester, planted faults.

Also two helpers of the chapter: :func:`strips` and :func:`near_edges`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.cubemap import FACES, cube_directions, cube_pixel
from sal360.nn.cube import CubePad2d
from sal360.sphere import angle_between, erp_directions

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
            f"{S} x {S}, layers of {k} x {k}, {layers} of them: you gave {got:.4g}, "
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


def strips(padded: Tensor, pad: int) -> dict[str, Tensor]:
    """The rim beyond each edge, cut from padded faces, without corners.

    Args:
        padded: ``(6, 1, S + 2 pad, S + 2 pad)``. pad: width of the rim in texels.
    Returns:
        ``"top"``, ``"bottom"``, ``"left"``, ``"right"`` to ``(6, pad, S)``: the ring next to the
        face first, each from left to right or downwards.
    """
    return {side: _strip(padded[:, 0], side, pad) for side in SIDES}


def near_edges(S: int, reach: int, rotation: Tensor) -> Tensor:
    """Where in a panorama a cube's edge is near, before it is turned or after.

    Args:
        S: texels along an edge. reach: how many texels from an edge are near.
        rotation: ``(3, 3)``, as :func:`sal360.projections.rotate_erp` takes it.
    Returns:
        ``(2 S, 4 S)`` booleans.
    """

    def near(xyz: Tensor) -> Tensor:
        _, row, col = cube_pixel(xyz, S)
        return torch.stack((row, S - 1 - row, col, S - 1 - col)).amin(0) < reach

    grid = erp_directions(2 * S, 4 * S)
    return near(grid) | near(grid @ rotation.T)


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
    """``() -> {(face, side): (neighbour, its side, backwards)}`` for the 24 edges."""
    wanted = _face_table()
    got = dict(ask(answer))
    missing, unknown = sorted(set(wanted) - set(got)), [key for key in got if key not in wanted]
    yield Case(
        "24 edges, named like ('F', 'top')",
        set(got) == set(wanted),
        f"{len(got)} of them; missing {missing[:3] or 'none'}, unknown {unknown[:3] or 'none'}",
    )
    for part, name in ((0, "the neighbour"), (1, "the neighbour's edge"), (2, "the direction")):
        for key, value in wanted.items():
            mine = tuple(got[key])
            yield Case(
                "three parts: a neighbour, its side, and whether they run in opposite directions",
                len(mine) == 3,
                f"{key[0]} {key[1]}: you gave {mine}",
            )
            yield Case(
                name,
                mine[part] == value[part],
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


_OPPOSITE = [FACES.index(face) for face in "BLFRDU"]


def _texel_planted(right: Pad, *places: tuple[int, int, int]) -> Pad:
    """A padding with texels, ``(face, row, column)`` of the padded one, from the far side."""

    def padded(x: Tensor) -> Tensor:
        out, middle = right(x).clone(), x.shape[-1] // 2
        for face, row, col in places:
            out[face, :, row, col] = x[_OPPOSITE[face], :, middle, middle]
        return out

    return padded


def _emptied(right: Pad, face: str, col: int | None = None) -> Pad:
    """A padding with zeros in the second ring above a face, in one column or in all."""

    def padded(x: Tensor) -> Tensor:
        out = right(x).clone()
        out[FACES.index(face), :, 0, slice(None) if col is None else col] = 0
        return out

    return padded


def _ring_angles(pad: Pad, S: int, p: int) -> list[float]:
    """Largest angle in each ring, nearest first, degrees; 180 where a texel has no direction."""
    told = pad(cube_directions(S).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    lost = told.norm(dim=-1) < 1e-9
    off = torch.rad2deg(angle_between(torch.where(lost[..., None], 1.0, told), _continued(S, p)))
    off[lost] = 180.0
    place = torch.arange(S + 2 * p)
    beyond = torch.maximum(p - place, place - (S + p) + 1)
    ring = torch.maximum(beyond[:, None], beyond)
    return [float(off[:, ring == k].max()) for k in range(1, p + 1)]


def _pads_to_test() -> Iterator[tuple[str, Pad, int, int]]:
    for S, p in ((4, 1), (6, 2), (8, 3)):
        yield "zeros", _zeros(p), S, p
        yield "the face's own edge repeated", _replicate(p), S, p
        yield "copies of the neighbours", CubePad2d(p), S, p
        yield "readings", CubePad2d(p, "reproject"), S, p
    for face in FACES:  # what the largest of all rings together would not show
        for side in SIDES:
            yield f"rings of {face} {side} reversed", planted_pad(3, (face, side, "rings")), 8, 3
            yield f"{face} {side} turned", planted_pad(2, (face, side, "turned")), 6, 2
        yield f"zeros in the second ring above {face}", _emptied(CubePad2d(2), face), 8, 2
        yield f"one texel above {face} without a direction", _emptied(CubePad2d(2), face, 9), 8, 2
    S, p = 4, 2
    right = CubePad2d(p)
    inside = range(p, S + p)
    for f, face in enumerate(FACES):
        for row in range(S + 2 * p):
            for col in range(S + 2 * p):
                if row not in inside or col not in inside:
                    name = f"one texel of {face} from elsewhere, row {row - p}, column {col - p}"
                    yield name, _texel_planted(right, (f, row, col)), S, p


@exercise("08.3")
def tester(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(pad, S, p) -> p`` angles, degrees: how far from its place each ring's worst texel is."""
    for name, pad, S, p in _pads_to_test():
        wanted = _ring_angles(pad, S, p)
        given = ask(answer, pad, S, p)
        yield Case(
            "one angle for each ring",
            isinstance(given, (list, tuple, Tensor, np.ndarray)) and len(given) == p,
            f"{name}, S {S}, {p} rings: you gave {given!r}, wanted a list of {p}",
        )
        for k, (mine, angle) in enumerate(zip(map(float, given), wanted, strict=True), 1):
            radians = math.isclose(math.degrees(mine), angle, rel_tol=1e-4)
            hint = " (did you give radians?)" if radians else ""
            yield Case(
                "180 where a texel has no direction"
                if angle == 180
                else "the ring's largest angle",
                abs(mine - angle) < 1e-3,
                f"{name}, S {S}, ring {k} of {p}: you gave {mine:.3f}, wanted {angle:.3f} "
                f"degrees{hint}",
            )


@exercise("08.4")
def where_to_read(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(S, k, i) -> row, col`` in R of texel ``i`` of ring ``k``, from 1, right of F."""
    for S, k, i in ((8, 1, 3), (8, 1, 0), (8, 3, 7), (64, 1, 0), (64, 3, 0), (7, 10, 3), (1, 1, 0)):
        d = torch.tensor([[1 + (2 * k - 1) / S, (2 * i + 1) / S - 1, 1.0]], dtype=torch.float64)
        _, row, col = (float(v) for v in cube_pixel(d, S))
        mine = [float(v) for v in ask(answer, S, k, i)]
        yield Case("a row and a column", len(mine) == 2, f"{len(mine)} numbers")
        copied = abs(mine[0] - i) < 1e-9 and abs(mine[1] - (k - 1)) < 1e-9
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
    a letter takes the first rows of that face (of its first columns, beyond left and right)
    instead of the neighbour. Exercise 08.5 looks for them.
    """
    right, number = CubePad2d(pad), {name: k for k, name in enumerate(FACES)}

    def padded(x: Tensor) -> Tensor:
        out = right(x).clone()
        for face, side, kind in faults:
            target = _strip(out[number[face]], side, pad)
            if kind == "rings":
                strip = target.flip(-2)
            elif kind == "turned":
                strip = target.flip(-1)
            else:
                other = x[number[kind]]
                strip = other[..., :pad, :] if side in ("top", "bottom") else other[..., :pad].mT
            _put(out[number[face]], side, pad, strip)
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


def _without_corners(right: Pad) -> Pad:
    """A padding that has nothing in the corners of its rim."""

    def padded(x: Tensor) -> Tensor:
        out, S = right(x).clone(), x.shape[-1]
        place = torch.arange(out.shape[-1]) - (out.shape[-1] - S) // 2
        beyond = (place < 0) | (place >= S)
        out[..., beyond[:, None] & beyond] = 0
        return out

    return padded


def _texel_moved(right: Pad, ring: int, i: int, by: int) -> Callable[[list[tuple[str, str]]], Pad]:
    """Of some edges, texel ``i`` of a ring is the one ``by`` texels along its line."""

    def make(edges: list[tuple[str, str]]) -> Pad:
        def padded(x: Tensor) -> Tensor:
            out = right(x).clone()
            p = (out.shape[-1] - x.shape[-1]) // 2
            for face, side in edges:
                strip = _strip(out[FACES.index(face)], side, p).clone()
                strip[..., ring - 1, i] = strip[..., ring - 1, i + by]
                _put(out[FACES.index(face)], side, p, strip)
            return out

        return padded

    return make


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
    pads = [(name, p, S, planted_pad(p, *faults), {(face, side) for face, side, _ in faults})
            for name, p, faults in cases for S in (6, 9)]  # fmt: skip
    corners = "no edge is wrong, only corners differ"
    pads += [(corners, p, 6, _without_corners(CubePad2d(p)), set()) for p in (1, 2)]
    for name, p, S, pad, wanted in (*pads, *_single_texels(4, 2), *_single_texels(9, 3, 1)):
        got = {tuple(edge) for edge in ask(answer, pad, S, p)}
        missed, invented = sorted(wanted - got), sorted(got - wanted)
        yield Case(
            name,
            got == wanted,
            f"S {S}, {p} rings: missed {missed[:3] or 'none'}, "
            f"blamed without reason {invented[:3] or 'none'}",
        )


def _single_texels(
    S: int, p: int, beside: int = 0
) -> Iterator[tuple[str, int, int, Pad, set[tuple[str, str]]]]:
    """Every texel beyond every edge is wrong once: the same one of twelve edges at a time.

    It comes from the far side, or is its neighbour in the same line, ``beside`` texels along.
    """
    edges = [(face, side) for face in FACES for side in SIDES]
    for ring in range(1, p + 1):
        for i in range(S):
            row, col, before, after = i + p, i + p, p - ring, S + p + ring - 1
            at = {"top": (before, col), "bottom": (after, col),
                  "left": (row, before), "right": (row, after)}  # fmt: skip
            for half in (edges[::2], edges[1::2]):
                places = [(FACES.index(face), *at[side]) for face, side in half]
                name = f"one texel of an edge, the one at {i} in ring {ring}"
                if beside:
                    moved = _texel_moved(CubePad2d(p), ring, i, beside if i < S - 1 else -beside)
                    yield name, p, S, moved(half), set(half)
                    continue
                yield name, p, S, _texel_planted(CubePad2d(p), *places), set(half)
