"""The figures of chapter 09: alt texts from the data, the front by its definition, no network."""

import math
import re

import numpy as np
import pytest

from sal360 import figures
from sal360.course import check
from sal360.evaluation.statistics import student
from sal360.experiments.recipe import KINDS
from sal360.experiments.summary import Interval
from sal360.experiments.task import BANDS
from sal360.figures.comparison import STYLE, Standing, pareto_front


def curves(kinds, start=0.9, fall=0.1):
    return {
        kind: [Interval(start - fall * n * k / len(BANDS), 0.02) for n in range(len(BANDS))]
        for k, kind in enumerate(kinds)
    }


def points(kinds):
    return {
        kind: Standing(1 + 0.3 * k, Interval(0.5 + 0.05 * (k % 3), 0.02), 0.4 + 0.02 * k)
        for k, kind in enumerate(kinds)
    }


def test_every_kind_has_a_style_of_its_own():
    assert set(STYLE) == set(KINDS)
    assert len(set(STYLE.values())) == len(STYLE)
    assert len({colour for colour, _, _ in STYLE.values()}) == len(STYLE)


@pytest.mark.parametrize("draw", ["latitude", "pareto"])
def test_they_need_no_network_and_come_out_the_same(draw):
    def make():
        if draw == "latitude":
            frames = {"equal steps": curves(KINDS), "everywhere": curves(["planar", "cube"])}
            return figures.score_by_latitude(frames, BANDS, trained=30)
        return figures.pareto({"equator": points(KINDS), "tilted": points(KINDS)})

    plot = make()
    html = plot.html()
    assert html == make().html() and len(html) < 200_000
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    assert len(plot.figure.frames) == len(plot.figure.layout.sliders[0].steps) == 2


def test_scores_by_latitude_show_what_a_condition_has_and_nothing_else():
    frames = {"equal steps": curves(KINDS), "everywhere": curves(["planar", "cube"], 0.7)}
    plot = figures.score_by_latitude(frames, BANDS, trained=30)
    assert "planar 0.90 in 0 to 15° and 0.90 in 75 to 90°" in plot.alt
    assert "Slider: everywhere" in plot.alt
    first, second = plot.figure.frames
    assert [len(t.y) for t in first.data] == [6] * 7
    assert {t.name: len(t.y) for t in second.data} == {
        kind: 6 if kind in ("planar", "cube") else 0 for kind in KINDS
    }
    assert list(first.data[0].error_y.array) == [0.02] * 6
    middles = np.mean([t.x for t in first.data], axis=0)
    assert middles == pytest.approx([(low + high) / 2 for low, high in BANDS])
    shaded = plot.figure.layout.shapes[0]
    assert (shaded.x0, shaded.x1) == (0, 30)
    alone = figures.score_by_latitude({"steps": curves(["planar", "mine"])}, BANDS)
    assert not alone.figure.layout.sliders and "Slider" not in alone.alt
    assert len(alone.figure.layout.shapes) == 0


def test_the_front_holds_what_is_not_beaten():
    at = {"a": (1.0, 0.5), "b": (2.0, 0.4), "c": (2.0, 0.7), "d": (3.0, 0.7), "e": (4.0, 0.9)}
    assert pareto_front(at) == ["a", "c", "e"]
    assert pareto_front({"only": (1.0, 0.1)}) == ["only"]
    for name, (cost, quality) in at.items():
        beaten = any(
            c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in at.values()
        )
        assert beaten == (name not in pareto_front(at))


def test_the_pareto_figure_tells_cost_quality_and_error():
    plot = figures.pareto({"equator": points(KINDS), "tilted": points(KINDS)})
    assert "planar costs 1.00, reaches 0.50, error 0.40" in plot.alt
    marks = plot.figure.data[2:]
    assert [mark.name for mark in marks] == list(KINDS)
    assert [mark.x[0] for mark in marks] == pytest.approx([1 + 0.3 * k for k in range(7)])
    assert len({mark.marker.symbol for mark in marks}) == 7  # the key tells them apart
    scale = plot.figure.layout.coloraxis
    assert scale.cmin == 0.4 and scale.cmax == pytest.approx(0.52)
    assert len({mark.marker.color for mark in marks}) == 7  # errors differ, so do colours


def test_differences_say_which_hold_zero():
    rows = {"tangent": Interval(0.3, 0.1), "ring": Interval(0.02, 0.1), "cube": Interval(-0.3, 0.2)}
    picture = figures.differences({"60 to 75": rows}, "CC more than planar")
    alt = picture.panels[0][0]
    assert "tangent +0.300 ± 0.100;" in alt and "ring +0.020 ± 0.100, holds 0" in alt
    assert alt.count("holds 0") == 1 and "cube -0.300" in alt
    assert picture.panels == figures.differences({"60 to 75": rows}, "CC more than planar").panels


def test_answers_are_read_where_the_spots_are():
    value = np.zeros((18, 36))
    value[2, 27] = 0.75  # latitude 65, longitude 95
    spots = [(95.0, 65.0, True), (-90.0, -30.0, False)]
    picture = figures.answers({"scene": (value, spots), "found": (value, spots)}, ["scene"])
    scene, found, bar = (alt for alt, _ in picture.panels)
    assert "round spot at longitude 95, latitude 65 is answered 0.75" in found
    assert "long spot at longitude -90, latitude -30 is answered 0.00" in found
    assert "answered" not in scene and "Colour bar" in bar
    edge = figures.answers({"f": (value, [(180.0, -90.0, True)])}).panels[0][0]
    assert "answered 0.00" in edge
    assert all(png[:4] == b"\x89PNG" for _, png in picture.panels)


def verdict_by(half_of):
    def answer(differences, matters):
        mean, half = float(differences.mean()), half_of(differences)
        if -matters < mean - half and mean + half < matters:
            return "same"
        return "better" if mean > half else "worse" if mean < -half else "undecided"

    return answer


def right_half(d, level=0.95, slack=0, ddof=1, root=True):
    factor = student(len(d) - 1 + slack, level)
    return float(factor * d.std(correction=ddof) / (math.sqrt(len(d)) if root else 1))


def test_a_verdict_needs_the_right_interval():
    assert check("09.4", verdict_by(right_half)).passed
    for wrong in (
        lambda d: right_half(d, root=False),
        lambda d: right_half(d, ddof=0),
        lambda d: right_half(d, slack=1),
        lambda d: right_half(d, level=0.9),
        lambda d: right_half(d, level=0.99),
        lambda d: 1.96 / student(len(d) - 1) * right_half(d),
    ):
        assert not check("09.4", verdict_by(wrong)).passed


def faults_by(of, seeds=lambda a, b: a != b):
    def answer(ours, theirs):
        a, b = ours["parameters"], theirs["parameters"]
        faults = {
            "parameters": abs(a - b) > of(a, b),
            "rates": len(ours["rates"]) != len(theirs["rates"]),
            "seeds": seeds(set(ours["seeds"]), set(theirs["seeds"])),
            "chosen on": "test" in (ours["chosen on"], theirs["chosen on"]),
            "reported": (ours["reported"], theirs["reported"]) != ("mean", "mean"),
        }
        return {name for name, wrong in faults.items() if wrong}

    return answer


def test_a_referee_takes_two_percent_of_the_larger_and_all_seeds():
    assert check("09.5", faults_by(lambda a, b: 0.02 * max(a, b))).passed
    for of in (
        lambda a, b: 0.02 * min(a, b),
        lambda a, b: 0.02 * a,
        lambda a, b: 0.02 * b,
        lambda a, b: 0.016 * max(a, b),
        lambda a, b: 0.022 * max(a, b),
    ):
        assert not check("09.5", faults_by(of)).passed
    larger = faults_by(lambda a, b: 0.02 * max(a, b), lambda a, b: not a <= b)
    assert not check("09.5", larger).passed


def test_the_time_of_tangent_answers_nothing_about_time():
    def answer(factor, kind="tangent"):
        def made(kind, training="equator", budget="steps"):
            return {"kind": kind, "training": training, "budget": budget}

        return {
            "grid": (made("wrapped"), made("cube")),
            "kernel": (made("wrapped"), made("tangent")),
            "padding": (made("planar"), made("wrapped")),
            "training": (made("planar"), made("planar", "everywhere")),
            "budget": (made(kind), made(kind, budget="time")),
        }[factor]

    assert check("09.3", lambda factor: answer(factor, "planar")).passed
    assert "its two runs are one" in repr(check("09.3", answer))
    assert "a whole number of seeds" in repr(check("09.2", lambda *_: 2.4))


def test_the_tangent_network_runs_in_both_races():
    def answer(factor, kernel):
        def made(kind, training="equator", budget="steps"):
            return {"kind": kind, "training": training, "budget": budget}

        return {
            "grid": (made("wrapped"), made("cube")),
            "kernel": (made(kernel[0], budget="time"), made(kernel[1])),
            "padding": (made("planar"), made("wrapped")),
            "training": (made("tangent", "everywhere"), made("tangent", budget="time")),
            "budget": (made("planar"), made("planar", budget="time")),
        }[factor]

    for kernel in (("wrapped", "tangent"), ("tangent", "ring")):
        assert check("09.3", lambda factor, kernel=kernel: answer(factor, kernel)).passed
    told = repr(check("09.3", lambda factor: answer(factor, ("wrapped", "ring"))))
    assert "wrapped and ring differ in budget too" in told


def test_what_is_wrong_is_called_by_its_name():
    def unpaired(a, b):
        half = student(len(a) - 1) * math.sqrt((a.var() + b.var()) / len(a))
        return (a - b).mean(), half

    assert "a seed does to both cancels" in repr(check("09.1", unpaired))
    for factor in (1.96, 2.776):

        def fixed(deviation, effect, factor=factor):
            return max(2, math.ceil((factor * deviation / effect) ** 2))

        assert "Student's factor depends on n" in repr(check("09.2", fixed))
