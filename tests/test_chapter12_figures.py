"""Chapter 12: figures draw the scores they are given, exercises tell one slip from another."""

import math
import re
from itertools import combinations

import numpy as np
import pytest
import torch

from sal360 import figures, metrics
from sal360.course import chapter12, check
from sal360.course.chapter12 import FAULTS, planted_kld
from sal360.figures.metrics import _short
from sal360.sphere import pixel_area, sample_sphere, xyz_to_lonlat

LEVELS = [0.9, 0.5, 0.1]
SCORES = {
    "AUC": {"a": (0.9, 0.7), "b": (0.8, 0.8), "c": (0.5, 0.5)},
    "KLD": {"a": (0.1, 0.2), "b": (0.3, 0.1), "c": (2.0, 2.0)},
}


@pytest.fixture(scope="module")
def levels():
    value = torch.linspace(0, 1, 18)[:, None].expand(18, 36)
    points = torch.stack(xyz_to_lonlat(sample_sphere(40, torch.Generator().manual_seed(0))), dim=-1)
    ways = {"pixels": [0.1, 0.5, 0.9], "area": [0.02, 0.5, 0.98]}
    return figures.roc_levels(value, points, torch.tensor(LEVELS), [0.05, 0.6, 1.0], ways)


def test_levels_need_no_network_and_come_out_the_same(levels):
    html = levels.html()
    assert html == levels.html() and not re.search(r'(src|href)="https?:', html)
    assert len(html) < 200_000
    assert [s.label for s in levels.figure.layout.sliders[0].steps] == [
        "pixels 10%, area 2%, looked at 5%",
        "pixels 50%, area 50%, looked at 60%",
        "pixels 90%, area 98%, looked at 100%",
    ]


def test_a_level_shades_what_is_above_it_and_marks_the_curve(levels):
    for frame, level, up in zip(levels.figure.frames, LEVELS, (0.05, 0.6, 1.0), strict=True):
        shaded, first, second = frame.data
        rows = np.asarray(shaded.z).mean(1)
        assert np.array_equal(rows, (np.linspace(0, 1, 18) >= level).astype(float))
        assert first.y == second.y == (up,)
        # What moves is what was drawn there: a region and two marks on their own curves.
        whole = [levels.figure.data[k] for k in frame.traces]
        assert [t.type for t in whole] == ["heatmap", "scatter", "scatter"]
        assert [t.marker.color for t in whole[1:]] == [first.marker.color, second.marker.color]
    curves = [t for t in levels.figure.data if t.name]
    assert [(t.x[0], t.x[-1], t.y[-1]) for t in curves] == [(0, 1, 1)] * 2
    assert "60% of the fixations and of all places 50% counted pixels" in levels.alt


def test_the_first_level_can_be_chosen():
    ways = {"pixels": [0.1, 0.5, 0.9], "area": [0.02, 0.5, 0.98]}
    given = torch.ones(2, 4), torch.zeros(1, 2), LEVELS, [0.05, 0.6, 1.0], ways
    plot = figures.roc_levels(*given, 2)
    assert plot.figure.layout.sliders[0].active == 2
    assert plot.figure.data[-1].y == (1.0,)
    named = [a.text for a in plot.figure.layout.annotations]
    assert sorted(named) == ["area", "pixels"]


def test_levels_and_shares_must_match():
    with pytest.raises(ValueError, match="^levels: 2, wanted as many as shares, 3"):
        figures.roc_levels(torch.ones(2, 4), torch.zeros(1, 2), [1, 0], [0, 1, 1], {"a": [0, 0, 1]})


def test_ranks_follow_the_direction_of_better():
    assert figures.rank_of(SCORES["AUC"]) == {"a": (1, 2), "b": (2, 1), "c": (3, 3)}
    assert figures.rank_of(SCORES["KLD"], lower=True) == {"a": (1, 2), "b": (2, 1), "c": (3, 3)}
    assert figures.rank_of({"x": (1, 1), "y": (1, 1)}) == {"x": (1, 1), "y": (2, 2)}


def test_slopes_join_the_ranks_and_stress_what_moves():
    plot = figures.rank_slopes(SCORES, ("by pixel", "by area"), ["KLD"])
    assert [frame.name for frame in plot.figure.frames] == ["AUC", "KLD"]
    for frame in plot.figure.frames:
        assert [tuple(t.y) for t in frame.data] == [(-1, -2), (-2, -1), (-3, -3)]
        assert frame.data[0].line.width > frame.data[2].line.width
    assert plot.figure.data[0].text[1].split() == ["0.700", "a"]
    assert "AUC: a 1 and 2, b 2 and 1, c 3 and 3" in plot.alt


def test_a_scorecard_tells_every_score_and_draws_it_once():
    card = {
        "best": {"AUC": 0.9, "KLD": 0.0},
        "bad": {"AUC": 0.41, "KLD": math.inf},
        "none": {"AUC": 0.5, "KLD": 12.3},
    }
    picture = figures.scorecard(card, "best", "none", ["KLD"])
    assert picture.alt == (
        "Table of scores. best: AUC 0.90, KLD 0.00; bad: AUC 0.41, KLD ∞; none: AUC 0.50, KLD 12"
    )
    assert picture.panels == figures.scorecard(card, "best", "none", ["KLD"]).panels


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.814, ".81"), (-0.25, "\u2212.25"), (0.996, "1.0"), (-1.08, "\u22121.1"), (0.0, ".00"),
     (36.1, "36"), (-math.inf, "\u2212∞")],
)  # fmt: skip
def test_a_cell_has_two_digits(value, written):
    assert _short(value) == written


def test_fixations_over_a_map_are_counted():
    at = torch.deg2rad(torch.tensor([[0.0, 0.0], [90.0, 80.0]]))
    value = torch.zeros(18, 36)
    value[4, 27] = 1
    alt = figures.looked_at({"a spot": (value, at)}).alt
    assert alt.startswith("a spot: 2 fixations over a map that is highest at longitude 95, lati")
    assert alt.endswith("50% of them lie more than 30 degrees from the equator")


def test_drawn_fixations_follow_the_density():
    H, W = 12, 24
    density = chapter12.blob(40, 60, 40, H, W)
    points = chapter12.drawn_fixations(density, 40_000, seed=1)
    assert torch.equal(points, chapter12.drawn_fixations(density, 40_000, seed=1))
    row = ((0.5 - points[:, 1] / math.pi) * H).long()
    col = ((points[:, 0] / (2 * math.pi) + 0.5) * W).long()
    found = torch.bincount(row * W + col, minlength=H * W).view(H, W) / len(points)
    mass = density * pixel_area(H, W)[:, None]
    assert (found - mass / mass.sum()).abs().sum() < 0.06
    # Within a pixel they are even by area: in the northernmost row most lie at its lower edge.
    top = points[row == 0, 1]
    assert (top < math.pi / 2 - math.pi / H / 2).double().mean() > 0.7


def test_planted_divergences_have_their_faults_and_no_other():
    H, W = 16, 32
    a, b = chapter12.blob(0, 50, 30, H, W), chapter12.blob(20, 60, 40, H, W)
    hole = b * (torch.arange(W) < W // 2)
    assert planted_kld()(b, a) == pytest.approx(float(metrics.kld(b, a)))
    assert planted_kld("pixels")(b, a) == pytest.approx(float(metrics.kld(b, a, "pixels")))
    assert planted_kld("swapped")(b, a) == pytest.approx(float(metrics.kld(a, b)))
    assert planted_kld()(hole, a) == math.inf
    assert 1 < planted_kld("floor")(hole, a) < 40
    assert planted_kld("floor")(b, a) == pytest.approx(planted_kld()(b, a), abs=1e-9)
    assert planted_kld("stretched")(a + 1, a) == pytest.approx(0, abs=1e-9)
    assert planted_kld()(a + 1, a) > 0.1
    assert planted_kld("stretched")(torch.ones(H, W), torch.ones(H, W)) == pytest.approx(0)
    with pytest.raises(ValueError, match="^faults: "):
        planted_kld("late")


def test_the_package_has_none_of_the_faults():
    """Each fault is a property that fails; the package's divergence has all of them."""
    H, W = 32, 64
    at = [
        float(metrics.kld(chapter12.blob(0, lat, 30, H, W), chapter12.blob(0, lat, 20, H, W)))
        for lat in (0, 90)
    ]
    assert at[0] == pytest.approx(at[1], abs=0.01)
    hole = torch.ones(H, W)
    hole[:, :9] = 0
    assert metrics.kld(hole, torch.ones(H, W)) == math.inf
    assert metrics.kld(torch.ones(H, W), hole) < 0.2
    assert set(FAULTS) == {"pixels", "swapped", "floor", "stretched"}


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        (
            "12.1",
            lambda v, a, f: (f[:, None] > v).double().mean(0) @ a / a.sum(),
            "the higher looked at: you gave 0.5000, wanted 0.7500 (ties are lost)",
        ),
        (
            "12.1",
            lambda v, a, f: (
                (f[:, None] > v).double() + (f[:, None] == v).double() / 2
            ).mean(),
            "places count alike, whatever their area",
        ),
        (
            "12.2",
            lambda s: (torch.cat(s).mean(), torch.cat(s).std() / len(torch.cat(s)) ** 0.5),
            "every frame three times: you gave 0.4472, wanted 1.0000 (frames are no independent",
        ),
        (
            "12.2",
            lambda s: (
                torch.cat(s).mean(),
                torch.stack([v.mean() for v in s]).std() / len(s) ** 0.5,
            ),
            "that is the mean of all frames",
        ),
        ("12.3", lambda a, b: 0.5, "one video: you gave 0.5000, wanted 1.0000 (that is one side"),
        (
            "12.3",
            lambda a, b: torch.where(torch.tensor(len(a) > 1), 0.5003, 1.0),
            "two videos, both better: you gave 0.5003, wanted 0.5000 (count all, do not draw)",
        ),
        (
            "12.3",
            lambda a, b: max(0.0, 1.0 - 2.0 ** (1 - len(a))),
            "(the observed flip counts",
        ),
        ("12.2", lambda s: torch.cat(s).mean(), "return two numbers"),
        ("12.2", lambda s: (1.0, 2.0, 3.0), "return two numbers"),
        ("12.4", lambda lat, widths: widths[-1], "is the mass of every band 1?"),
        (
            "12.4",
            lambda lat, widths: max(
                widths,
                key=lambda w: float((-0.5 * (lat / math.radians(w)) ** 2).mean() - math.log(w)),
            ),
            "an integral over area, not over latitude",
        ),
        ("12.5", lambda score: set(), "you missed ['pixels']"),
        ("12.5", lambda score: {"late"}, "names of faults"),
    ],
)  # fmt: skip
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply), reply


def test_three_faults_at_once_are_planted_too():
    """A test for swapped arguments that two other faults together switch off is not enough."""
    asked = []

    def answer(score):
        asked.append(score)
        return set(planted[len(asked) - 1])

    planted = [c for k in range(len(FAULTS) + 1) for c in combinations(FAULTS, k)]
    assert check("12.5", answer).passed and len(asked) == 16
    asked.clear()
    blind = {"pixels", "swapped", "stretched"}
    planted = [set(c) - ({"swapped"} if set(c) >= blind else set()) for c in planted]
    assert "planted: pixels, swapped, stretched; you missed ['swapped']" in repr(
        check("12.5", answer)
    )
