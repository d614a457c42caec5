"""The figures of chapter 08: alt texts from the data, same bits twice, and faults that show."""

import math
import re

import numpy as np
import pytest
import torch

from sal360 import figures, upstream
from sal360.course import check
from sal360.course.chapter08 import (
    SIDES,
    _continued,
    _face_table,
    _ring_angles,
    _strip,
    near_edges,
    planted_pad,
    strips,
)
from sal360.cubemap import cube_directions
from sal360.figures.cube_padding import _around
from sal360.nn import CubePad2d
from sal360.sphere import angle_between, rotation_matrix
from sal360.upstream.cp360 import REVERSED_EDGES


def test_the_rim_needs_no_network_and_comes_out_the_same():
    plot = figures.rim_origin(CubePad2d(2))
    html = plot.html()
    assert html == figures.rim_origin(CubePad2d(2)).html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 200_000
    steps = plot.figure.layout.sliders[0].steps
    assert [s.args[0][0] for s in steps] == list("FRBLUD") == [f.name for f in plot.figure.frames]
    assert "U (top B, right R, bottom F, left L)" in plot.alt
    assert "F (top U, right R, bottom D, left L)" in plot.alt


def texts(plot, face):
    frame = next(f for f in plot.figure.frames if f.name == face)
    return np.array(frame.data[0].text), np.array(frame.data[2].text)


def test_letters_and_rings_are_those_of_the_padding():
    net, rim = texts(figures.rim_origin(CubePad2d(2), S=4), "F")
    assert rim.shape == (8, 8) and net.shape == (12, 16)
    assert (rim[0, 2:6] == "U2").all() and (rim[1, 2:6] == "U1").all()
    assert (rim[2:6, 6] == "R1").all() and (rim[2:6, 7] == "R2").all()
    assert (rim[:2, :2] == "").all() and (rim[2:6, 2:6] == "").all()  # corners and inside
    assert list(net[2:4, 4]) == ["2", "1"]  # the lower lines of up, the lowest nearest
    assert (net != "").sum() == 4 * 4 * 2


def test_a_fault_shows():
    right = figures.rim_origin(CubePad2d(2), S=4)
    reversed_ = figures.rim_origin(planted_pad(2, ("F", "top", "rings")), S=4)
    assert list(texts(reversed_, "F")[0][2:4, 4]) == ["1", "2"]
    assert list(texts(reversed_, "F")[1][:2, 2]) == ["U1", "U2"]  # the second line is nearest
    assert right.alt.endswith("shared edge: none") and reversed_.alt.endswith("edge: F top")
    assert (texts(reversed_, "R")[0] == texts(right, "R")[0]).all()
    swapped = figures.rim_origin(planted_pad(1, ("F", "left", "R"), ("F", "right", "L")), S=4)
    assert "F (top U, right L, bottom D, left R)" in swapped.alt
    assert "no single face" in figures.rim_origin(lambda x: x.new_full((6, 1, 6, 6), 0.5), S=4).alt


def test_reading_is_left_blank_because_it_mixes():
    rim = texts(figures.rim_origin(CubePad2d(1, "reproject"), S=4), "F")[1]
    assert (rim == "").all()
    with pytest.raises(ValueError, match="one width of rim"):
        figures.rim_origin(lambda x: x)


def published(p):
    order = ["FRBLUD".index(face) for face in "BDFLRU"]
    back = [order.index(k) for k in range(6)]
    return lambda faces: upstream.cube_pad(faces[order], p)[back]


def test_the_published_rim_is_labelled_with_its_lines():
    plot = figures.rim_origin(published(2), S=4)
    rim = texts(plot, "U")[1]
    assert list(rim[2, :2]) == ["L1", "L2"] and list(rim[2, 6:]) == ["R1", "R2"]
    ours = {"T": "U"}
    wrong = {f"{ours.get(f, f)} {side}" for f, side in REVERSED_EDGES}
    assert set(plot.alt.split("shared edge: ")[1].split(", ")) == wrong and len(wrong) == 8


@pytest.mark.parametrize(("S", "p"), [(64, 3), (16, 2)])
def test_the_largest_of_all_rings_does_not_show_reversed_ones(S, p):
    ours, theirs = (_ring_angles(pad, S, p) for pad in (CubePad2d(p), published(p)))
    assert max(ours) == pytest.approx(max(theirs)) and theirs[0] > 2 * ours[0]
    assert S != 64 or round(max(ours), 2) == 2.1


def rings(pad, S, p):
    return _ring_angles(pad, S, p)


def looks_at(faces):
    """A tester that sees the rim of some faces only."""

    def answer(pad, S, p):
        good = CubePad2d(p)

        def patched(x):
            out = good(x).clone()
            out[faces] = pad(x)[faces]
            return out

        wrong = pad(torch.ones(6, 1, S, S)).min() < 0.5
        return [180.0] * p if wrong else rings(patched, S, p)

    return answer


def blames(part):
    """Edges whose numbers differ in a part of the strip, ``(rings, texels)``."""

    def answer(pad, S, p):
        numbers = torch.arange(6.0 * S * S).reshape(6, 1, S, S)
        found, right = pad(numbers)[:, 0], CubePad2d(p)(numbers)[:, 0]
        return {
            (f, side)
            for k, f in enumerate("FRBLUD")
            for side in SIDES
            if not torch.equal(_strip(found[k], side, p)[part], _strip(right[k], side, p)[part])
        }

    return answer


def test_testers_that_look_at_a_part_are_refused():
    assert check("08.3", rings).passed
    for faces in ([0], [4], [2], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]):
        assert not check("08.3", looks_at(faces)).passed
    assert "one angle for each ring" in repr(check("08.3", lambda *a: max(rings(*a))))
    assert not check("08.3", lambda pad, S, p: [max(rings(pad, S, p))] * p).passed
    assert check("08.5", blames(slice(None))).passed
    assert len(blames(slice(None))(CubePad2d(2, "reproject"), 6, 2)) == 24
    for part in (slice(1), slice(-1, None), (slice(None), slice(1)), (slice(None), slice(-1)),
                 (slice(None), slice(1, 2)), (slice(None), slice(None, None, 2)),
                 (slice(2), slice(5)), ([0, -1],), (slice(None), slice(4))):  # fmt: skip
        assert not check("08.5", blames(part)).passed
    assert not check("08.5", blames_by_size).passed


def test_corners_do_not_count_and_no_edge_is_blamed_for_them():
    def with_corners(pad, S, p):
        numbers = torch.arange(6.0 * S * S).reshape(6, 1, S, S)
        wrong = (pad(numbers) != CubePad2d(p)(numbers))[:, 0]
        ends = {"top": wrong[:, :p], "bottom": wrong[:, -p:],
                "left": wrong[..., :p], "right": wrong[..., -p:]}  # fmt: skip
        return {(f, s) for k, f in enumerate("FRBLUD") for s in ends if ends[s][k].any()}

    told = repr(check("08.5", with_corners))
    assert "only corners differ" in told and "missed none" in told


def test_what_a_table_or_a_place_lacks_is_named():
    def copied_column(S, k, i):
        return (((2 * i + 1) / S - 1) / (1 + (2 * k - 1) / S) + 1) * S / 2 - 0.5, k - 1

    table = _face_table()
    assert "unknown [('U', 'front')]" in repr(
        check("08.2", lambda: {**table, ("U", "front"): ("F", "top", False)})
    )
    assert "three parts" in repr(check("08.2", lambda: {k: v[:2] for k, v in table.items()}))
    assert check("08.2", lambda: table).passed
    told = repr(check("08.4", copied_column))
    assert "you gave row 3.056, col 0.000" in told and "copying" not in told


def test_lines_that_run_backwards_are_another_matter_than_reversed_rings():
    backwards = {edge for edge, (_, _, turned) in _face_table().items() if turned}
    reversed_ = {(face.replace("T", "U"), side) for face, side in REVERSED_EDGES}
    assert len(backwards) == len(reversed_) == 8 and len(backwards & reversed_) == 4


def blames_by_size(pad, S, p):
    """Blind to a texel that is the next one of its line."""
    numbers = torch.arange(6.0 * S * S).reshape(6, 1, S, S)
    found, right = pad(numbers)[:, 0], CubePad2d(p)(numbers)[:, 0]
    off = {
        (f, side): (_strip(found[k], side, p) - _strip(right[k], side, p)).abs().max()
        for k, f in enumerate("FRBLUD")
        for side in SIDES
    }
    return {edge for edge, most in off.items() if most > 3.5}


def test_a_ring_without_all_of_its_directions():
    def only_where_all_are_lost(pad, S, p):
        told = pad(cube_directions(S).permute(0, 3, 1, 2))
        lost = told.norm(dim=1) < 1e-9
        place = torch.arange(S + 2 * p)
        beyond = torch.maximum(p - place, place - (S + p) + 1)
        ring = torch.maximum(beyond[:, None], beyond)
        off = angle_between(
            torch.where(lost[..., None], _continued(S, p), told.permute(0, 2, 3, 1)),
            _continued(S, p),
        )
        return [
            180.0 if lost[:, ring == k].all() else math.degrees(off[:, ring == k].max())
            for k in range(1, p + 1)
        ]

    assert not check("08.3", only_where_all_are_lost).passed
    assert check("08.3", lambda *a: np.array(rings(*a))).passed


def test_the_way_around_the_rim():
    place, ring = _around(3, 2)
    inside = ~np.isnan(place)
    assert inside.sum() == 4 * 3 * 2 and len(np.unique(place[inside])) == 12
    assert place[1, 2] < place[1, 4] < place[2, 5] < place[5, 4] < place[5, 2] < place[2, 1]
    assert ring[1, 2] == 1 and ring[0, 2] == 2 and ring[2, 6] == 2


def test_curves_and_signed_maps_tell_their_figures():
    picture = figures.edge_curves({"a": [0.5, 0.1], "b": [2, 3]}, "texels", log=True)
    assert picture.alt == "texels along an edge: a from 0.1 to 0.5; b from 2 to 3"
    again = figures.edge_curves({"a": [0.5, 0.1], "b": [2, 3]}, "texels", log=True)
    assert picture.panels[0][1] == again.panels[0][1]
    two = figures.signed_maps({"x": torch.tensor([[-1.0, 2], [0, 0]]), "y": np.zeros((2, 2))}, "m")
    assert len(two.panels) == 2 and "Map of x: -1 to 2 m" in two.alt


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        (
            "08.1",
            lambda S, n, k: 1 - (S - 2 * n * (k // 2)) ** 2 / S**2,
            "5 x 5, layers of 3 x 3, 9 of them",
        ),
        ("08.1", lambda S, n, k: 100 * (1 - max(0, S - 2 * n * (k // 2)) ** 2 / S**2), "at most 1"),
        ("08.2", lambda: {}, "0 of them"),
        ("08.3", lambda pad, S, p: [math.pi] * p, "did you give radians?"),
        ("08.4", lambda S, k, i: (i, k - 1), "where copying takes it"),
        ("08.5", lambda pad, S, p: set(), "missed [('F', 'left')]"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_edges_are_near_where_they_are_before_and_after_a_turn():
    still = near_edges(16, 2, rotation_matrix(0.0, 0.0))
    turned = near_edges(16, 2, rotation_matrix(math.pi / 4, 0.0))
    assert still.shape == (32, 64) and 0.2 < still.double().mean() < 0.6
    assert still[16, 40] and not still[16, 32]  # the edge of F and R, and the middle of F
    assert turned[16, 40] and turned[16, 32]


def test_a_rim_is_cut_into_its_four_sides():
    numbers = torch.arange(6.0 * 16).reshape(6, 1, 4, 4)
    sides = strips(CubePad2d(2)(numbers), 2)
    assert tuple(sides) == SIDES and all(s.shape == (6, 2, 4) for s in sides.values())
    up = numbers[4, 0]  # above F: the lowest line of U is ring 1
    assert torch.equal(sides["top"][0], torch.stack([up[-1], up[-2]]))
