"""The figures of chapter 06: drawn from the data, light, the same twice, without a network."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sal360 import figures
from sal360.course import chapter06, check
from sal360.course.chapter06 import OPERATIONS, boxes, commutes_with, field
from sal360.nn.equivariance import check_equivariance
from sal360.projections import rotate_erp
from sal360.sphere import erp_directions, pixel_area, rotation_matrix

ANGLES = (0, 45, 90)


def diagram(names=("planar", "tangent")):
    grid = erp_directions(16, 32)
    turned = torch.stack([field(grid @ rotation_matrix(0.0, a / 57.2958)) for a in ANGLES])
    answers = {
        n: (turned, turned * (1 - 0.1 * k), (0.0, 0.1 * k, 0.2)) for k, n in enumerate(names)
    }
    return figures.commuting(ANGLES, turned, answers)


def test_the_diagram_needs_no_network_and_comes_out_the_same():
    plot = diagram()
    html = plot.html()
    assert html == diagram().html() and len(html) < 200_000
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    steps = plot.figure.layout.sliders[0].steps
    assert [s.label for s in steps] == [
        "tilt 0°, off by: planar 0.00, tangent 0.00",
        "tilt 45°, off by: planar 0.00, tangent 0.10",
        "tilt 90°, off by: planar 0.20, tangent 0.20",
    ]
    assert len(plot.figure.frames) == 3 and len(plot.figure.data) == 7
    assert "tangent off by 0 at 0 degrees and 0.2 at 90, most 0.2" in plot.alt


def test_the_last_row_is_the_difference_of_the_two_above_on_their_scale():
    plot = diagram()
    for frame in plot.figure.frames:
        for first in (1, 4):
            a, b, off = (np.asarray(frame.data[first + m].z, int) for m in range(3))
            assert np.abs(a - b - off).max() <= 1  # bytes
        assert np.abs(frame.data[3].z).max() == 0  # planar: both orders are equal here
    assert max(np.abs(np.asarray(t.z, int)).max() for t in plot.figure.data[1:]) == 127


def test_one_filter_stands_alone_and_three_are_refused():
    assert len(diagram(("only",)).figure.data) == 4
    with pytest.raises(ValueError, match="^answers: 3 filters"):
        diagram(("a", "b", "c"))
    zero = torch.zeros(3, 4, 8)
    with pytest.raises(ValueError, match="^answers: all zero"):
        figures.commuting(ANGLES, zero, {"a": (zero, zero, (0, 0, 0))})
    with pytest.raises(ValueError, match="^answers: a has shape"):
        figures.commuting(ANGLES, zero, {"a": (zero[:2], zero[:2], (0, 0))})


def test_the_maps_may_leave_out_what_lies_below():
    grid = torch.rand(3, 16, 32)
    plot = figures.commuting(ANGLES, grid, {"a": (grid, grid, (0, 0, 0))}, lowest=-45)
    assert np.asarray(plot.figure.data[0].z).shape == (12, 32)
    assert tuple(plot.figure.layout.yaxis.range) == (-45, 90)
    layout = diagram().figure.layout  # latitudes stand on the left, longitudes at the bottom
    shown = {n: (layout[f"xaxis{n}"].showticklabels, layout[f"yaxis{n}"].showticklabels)
             for n in ("", 2, 4, 5, 7)}  # fmt: skip
    assert shown == {"": (False, True), 2: (False, True), 4: (True, True), 5: (False, False),
                     7: (True, False)}  # fmt: skip
    with pytest.raises(ValueError, match="^lowest: 90"):
        figures.commuting(ANGLES, grid, {"a": (grid, grid, (0, 0, 0))}, lowest=90)


def test_turns_share_one_key_and_are_told():
    turns = {"tilt 10": torch.full((4, 8), -10.0), "tilt 30": torch.full((4, 8), 30.0)}
    picture = figures.turn_maps(turns)
    assert len(picture.panels) == 3 and "median 10, largest 10" in picture.alt
    assert picture.panels == figures.turn_maps(turns).panels
    with pytest.raises(ValueError, match="^turns: far, wanted"):
        figures.turn_maps({"far": torch.full((4, 8), 200.0)})


def test_curves_tell_their_range():
    picture = figures.error_curves({"a": ((0, 45, 90), (0.1, 0.4, 0.2))}, "tilt (degrees)")
    assert "relative error against tilt (degrees): a from 0.1 to 0.4 (at 45)" in picture.alt
    again = figures.error_curves({"a": ((0, 45, 90), (0.1, 0.4, 0.2))}, "tilt (degrees)")
    assert picture.panels == again.panels
    with pytest.raises(ValueError, match="^curves: a holds errors of 0"):
        figures.error_curves({"a": ((0, 1), (0.0, 1.0))}, "x")


def test_the_verdicts_are_clear_cut():
    """No operation of exercise 06.2 lies near the limit of a tenth."""
    assert {commutes_with(operation) for operation in OPERATIONS.values()} == {
        "all", "turns", "none",
    }  # fmt: skip
    for operation in OPERATIONS.values():
        if commutes_with(operation) != "none":
            tilt = check_equivariance(operation, 1, 32, 64, tilts=(60.0,), axes=3, degree=4).tilt[0]
            assert tilt < 0.03 or tilt > 0.3


def test_a_report_on_a_box_does_not_tell_its_fault():
    names = {check_equivariance(box, 1, 8, 16, axes=1).name for box in boxes().values()}
    assert names == {"box"}


def test_every_box_has_the_fault_it_is_said_to_have():
    found = {k: check_equivariance(box, 1, 32, 64, axes=2, degree=4) for k, box in boxes().items()}
    assert {k for k, f in found.items() if f.yaw > 1e-9} == {"B"}
    assert {k for k, f in found.items() if f.constant > 1e-9} == {"D"}
    assert {k for k, f in found.items() if max(f.tilt) < 0.01} == {"C"}
    assert found["E"].pole > 1 > 0.2 > found["A"].pole
    spike = torch.zeros(1, 1, 33, 64, dtype=torch.float64)
    spike[0, 0, 16, 20] = 1
    assert boxes()["A"](spike)[0, 0, 16].abs().argmax() == 17


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("06.1", lambda x, w: torch.nn.functional.conv2d(x, w, padding=1), "turning by whole"),
        ("06.1", lambda x, w: torch.nn.functional.conv2d(x, w), "own size"),
        ("06.1", lambda x, w: (x + 0 * w.sum()).repeat(1, 3, 1, 1)[:, :2], "answer of F.conv2d"),
        ("06.2", lambda name: "all", "add the latitude: not 'all'"),
        ("06.2", lambda name: "both", "ReLU: 'both'"),
        ("06.3", lambda layer, degrees, lon: 0.0, "x + latitude, 30 degrees towards"),
        ("06.4", lambda letter: "sound", "box A has another one"),
        ("06.4", lambda letter: "bad", "wanted one of latitude"),
        ("06.5", lambda: [[0, 1, 0], [1, -4, 1], [0, 1, 0]], "within 0.2 %"),
        ("06.5", lambda: [[1, 2, 1], [2, -12, 2], [1, 2, 1]], "wanted -1"),
        ("06.5", lambda: 3.0, "three rows of three"),
    ],
)
def test_wrong_answers_are_told_why(number, answer, words):
    said = check(number, answer)
    assert not said and words in said.message


def tilted(
    layer,
    degrees,
    lon,
    mode="bicubic",
    H=48,
    back=False,
    toward=True,
    by_first=False,
    last=True,
    front=True,
):
    """Exercise 06.3 solved, and with one slip for each argument."""
    grid, area = erp_directions(H, 2 * H), pixel_area(H, 2 * H)[:, None]
    b = math.radians(lon) if toward else 0.0
    R = rotation_matrix(0.0, math.radians(degrees))
    R = R @ rotation_matrix(-b) if front else R
    R = rotation_matrix(b) @ R if last else R
    first = layer(field(grid @ R)[None, None])
    second = rotate_erp(layer(field(grid)[None, None]), R.T if back else R, mode)
    off = ((first - second) ** 2 * area).sum()
    return (off / ((first if by_first else second) ** 2 * area).sum()).sqrt().item()


def test_a_slip_in_the_tilt_error_is_refused_and_recognised():
    assert check("06.3", tilted)
    assert chapter06.EDGE.sum() == 0
    for slip, words in (
        ({"back": True}, "other way round"),
        ({"toward": False}, "towards longitude 0"),
        ({"last": False}, "a last turn left out"),
        ({"front": False}, "or the first turn left out"),
        ({"mode": "bilinear"}, "read bilinearly"),
        ({"by_first": True}, "by the other answer"),
        ({"H": 64}, "x + latitude"),
    ):
        said = check("06.3", lambda *given, slip=slip: tilted(*given, **slip))
        assert not said and words in said.message, (slip, said.message)


def test_a_kernel_in_single_precision_is_taken():
    kernel = torch.tensor([[1, 4, 1], [4, -20, 4], [1, 4, 1]]) / 6
    assert kernel.dtype == torch.float32 and kernel.sum() != 0
    assert check("06.5", lambda: kernel)


def test_single_precision_will_do_for_a_convolution():
    def answer(image, weight):
        image, weight = image.float(), weight.float()
        return F.conv2d(F.pad(image, (1, 1, 0, 0), mode="circular"), weight, padding=(1, 0))

    assert check("06.1", answer).passed
    assert not check("06.1", lambda image, weight: F.conv2d(image, weight, padding=1)).passed
