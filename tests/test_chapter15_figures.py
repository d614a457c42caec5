"""Chapter 15: figures draw what they are given, planted faults are there, slips are told."""

import re

import numpy as np
import pytest
import torch

from sal360 import figures, upstream
from sal360.course import chapter15, check
from sal360.course.chapter15 import FAULTS, followed, package_smooth, planted_smooth, turning
from sal360.losses import temporal_losses, warp_by_flow
from sal360.sphere import erp_directions, rotation_matrix, sample_sphere, von_mises_fisher

LABELS = ["one", "two", "three"]


@pytest.fixture(scope="module")
def plot():
    maps = torch.arange(3.0)[:, None, None] + torch.rand(3, 4, 8)
    film = torch.rand(3, 8, 16)
    return maps, figures.in_step(
        {"the film": film, "maps": maps}, LABELS, "what is told", {"the film": 0.0, "maps": 4.0}
    )


def test_panels_move_in_step_and_need_no_network(plot):
    maps, drawn = plot
    html = drawn.html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 60_000
    assert [frame.name for frame in drawn.figure.frames] == ["0", "1", "2"]
    assert [step.label for step in drawn.figure.layout.sliders[0].steps] == LABELS
    for k, frame in enumerate(drawn.figure.frames):
        wanted = (maps[k] / 4 * 255).round().clamp(0, 255).numpy()
        assert np.array_equal(np.asarray(frame.data[1].z, float), wanted)
    scales = [trace.colorscale for trace in drawn.figure.data]
    assert scales[0] != scales[1] and drawn.alt == "what is told"


def test_panels_stand_side_by_side_without_touching(plot):
    layout = plot[1].figure.layout
    assert layout.xaxis.domain[1] < layout.xaxis2.domain[0]
    assert layout.yaxis.domain == layout.yaxis2.domain
    six = figures.in_step({str(n): torch.rand(2, 4, 8) for n in range(6)}, ["a", "b"], "six")
    ends = [six.figure.layout[f"yaxis{n}"].domain for n in ("", "3", "5")]
    assert ends[0][0] > ends[1][1] > ends[1][0] > ends[2][1] >= 0
    shown = [six.figure.layout[f"xaxis{n}"].showticklabels for n in ("", "2", "5", "6")]
    assert shown == [False, False, True, True]


def test_panels_have_one_map_for_each_label():
    with pytest.raises(ValueError, match=r"^panels: .*wanted \(3, H, W\)"):
        figures.in_step({"a": torch.rand(2, 4, 8)}, LABELS, "")


def test_scores_before_and_after_are_told():
    rows = {"rises": ([0.1, 0.2], [0.3, 0.4]), "falls": ([0.2, 0.2], [0.0, 0.1])}
    picture = figures.before_after(rows, {"equator": 0.25}, "CC")
    assert "rises from 0.15 to 0.35" in picture.alt and "falls from 0.20 to 0.05" in picture.alt
    assert "equator 0.25 without training" in picture.alt


def test_the_flow_of_a_turn_carries_a_map():
    R = rotation_matrix(0.06, -0.03, 0.02)
    at = sample_sphere(1, torch.Generator().manual_seed(3))[0]
    rays = erp_directions(48, 96)
    now, then = (von_mises_fisher(rays, a, 25.0) for a in (at, R @ at))
    back = warp_by_flow(then[None, None], turning(R, 48, 96)[None])[0, 0]
    assert (back - now).abs().max() < 0.03 * now.max() < (then - now).abs().max()


def test_a_map_that_follows_costs_less_than_one_that_goes_back():
    maps, flow = followed(170, 30, 6)
    right = temporal_losses(maps, flow)
    back = temporal_losses(maps.flip(1), flow)
    assert right.smooth < back.smooth and right.temporal == pytest.approx(float(back.temporal))
    assert right.motion < 0.5 * temporal_losses(maps.roll(24, -1), flow).motion


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_changes_the_number(fault):
    draw = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 12, 24, generator=draw)
    flow = torch.randint(-3, 4, (2, 12, 24), generator=draw).double()
    flow[1] = 0
    sound = float(planted_smooth()(maps, flow))
    assert sound == pytest.approx(float(package_smooth(maps, flow)), rel=1e-6)
    assert abs(float(planted_smooth(fault)(maps, flow)) / sound - 1) > 1e-3


def test_the_published_loss_is_the_one_with_all_faults():
    """To a constant factor, but for the half pixel by which it stretches its grid."""
    rows = torch.exp(-((torch.arange(24) - 12.0) ** 2) / 20).double()
    maps = torch.stack([rows[:, None] * rows.repeat(2).roll(k) for k in (0, 3)])
    flow = torch.zeros(2, 24, 48).double()
    flow[0] = 3.0
    theirs = upstream.temporal_losses(maps[None, :, None], flow[None, None]).smooth
    mine = planted_smooth(*FAULTS)(maps, flow) * 24 * 48
    assert float(theirs / mine) == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="^faults: "):
        planted_smooth("late")


def turn(rays, moved, weight):
    across = torch.eye(3).double() - rays[:, :, None] * rays[:, None]
    sides = weight[:, None] * torch.linalg.cross(rays, moved)
    return torch.linalg.solve((weight[:, None, None] * across).sum(0), sides.sum(0))


def read(step_row, step_col):
    def answer(following, flow):
        H, W = following.shape
        row = torch.arange(H)[:, None] + step_row * flow[1]
        return following[row.clamp(0, H - 1), (torch.arange(W) + step_col * flow[0]) % W]

    return answer


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("15.1", read(1, -1), "(that moves it on, with the flow)"),
        ("15.1", lambda following, flow: following.roll(-int(flow[0].max()), 1), "row down"),
        ("15.1", lambda following, flow: following[:1], "shape (1, 8), wanted (4, 8)"),
        (
            "15.1",
            lambda following, flow: following[
                (torch.arange(len(following))[:, None] + flow[1]) % len(following),
                (torch.arange(following.shape[1]) + flow[0]) % following.shape[1],
            ],
            "you read 8 and 24 in column 0, wanted 24 and 0",
        ),
        ("15.2", lambda r, d, lat, W, fps: (r**2 + d**2) ** 0.5 * 360 / W, "(that is per frame)"),
        ("15.3", lambda rays, moved, weight: torch.zeros(3), "wanted (0.00000, 0.00100, 0.00000)"),
        ("15.3", lambda rays, moved, weight: torch.zeros(2), "three numbers"),
        ("15.3", lambda rays, moved, weight: turn(rays, moved, weight**2), "has weight 1/2: you"),
        ("15.4", lambda maps, flow: temporal_losses(maps, flow).total(), "an empty map costs"),
        ("15.4", lambda maps, flow: torch.tensor(float("nan")), "costs nan"),
        ("15.4", lambda maps, flow: -(maps[:, :-1] * flow[:, :, :1].abs()).sum(), "times 100 it"),
        ("15.5", lambda smooth: "seam", "wanted a set of names"),
        ("15.5", lambda smooth: {"seam"}, "you blame ['seam']"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_a_turn_the_other_way_is_recognised():
    reply = check("15.3", lambda *given: -turn(*given))
    assert "(the other way round)" in repr(reply)
    assert chapter15.FAULTS == FAULTS
