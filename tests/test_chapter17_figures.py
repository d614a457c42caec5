"""Chapter 17: figures draw what they are given, excerpts are what they say, slips are told."""

import math
import re

import numpy as np
import pytest
import torch

from sal360 import figures
from sal360.course import chapter17, check
from sal360.course.chapter17 import FAULTS, Excerpts, diagnosis, planted_board, symptoms
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.datasets.tilted import Tilted
from sal360.evaluation.statistics import paired
from sal360.figures.leaderboard import sure
from sal360.models import shipped
from sal360.models.registry import load_model, save_weights
from sal360.sphere import erp_directions, lonlat_to_xyz, von_mises_fisher

KINDS = {"a-net": "network", "flat": "planar twin", "band": "baseline"}
FRAMES = {
    "CC": {"a-net": (0.5, 0.4, 0.6), "flat": (0.4, 0.3, 0.5), "band": (0.2, 0.1, 0.3)},
    "KLD": {"a-net": (1.5, 1.4, 1.6), "flat": (1.2, 1.1, 1.3), "band": (2.0, math.nan, math.nan)},
}


def blob(lon, lat, sigma, H=32):
    at = lonlat_to_xyz(*torch.deg2rad(torch.tensor([lon, lat]).double()))
    return von_mises_fisher(erp_directions(H, 2 * H), at, math.radians(sigma) ** -2)[None]


def test_standings_put_the_best_on_top_and_need_no_network():
    plot = figures.standings(FRAMES, KINDS, "band")
    assert plot.figure.layout.yaxis.ticktext == ("band", "flat", "a-net")
    line, *marks = plot.figure.data
    assert line.x == (0.2, 0.2) and [m.name for m in marks] == [
        "network",
        "planar twin",
        "baseline",
    ]
    assert marks[0].x == (0.5,) and marks[0].y == (2,)
    assert marks[0].error_x.array == pytest.approx([0.1])
    for frame, (name, rows) in zip(plot.figure.frames, FRAMES.items(), strict=True):
        assert frame.name == name and frame.data[1].x == (rows["a-net"][0],)
        low, high = frame.layout.xaxis.range
        ends = [v for s in rows.values() for v in s if math.isfinite(v)]
        assert low < min(ends) and high > max(ends)
        assert frame.layout.xaxis.title.text == name
        ticks = frame.layout.xaxis.tickvals
        assert 3 <= len(ticks) <= 6 and min(ends) - 1e-9 <= ticks[0] < ticks[-1] <= max(ends) + 1e-9
    assert "a-net 0.500 [0.400, 0.600]" in plot.alt and "Slider: KLD" in plot.alt
    assert not re.search(r'(src|href)="https?:', plot.html()) and len(plot.html()) < 60_000
    assert plot.figure.frames[1].data[3].text == ("band: 2.000, no interval",)


def test_differences_that_hold_nothing_are_hollow():
    nan = math.nan
    frames = {"upright": {"one": [(0.2, 0.1, 0.3), (0.1, -0.1, 0.3), (nan, nan, nan)],
                          "two": [(-0.2, -0.3, -0.1), (0.0, -0.1, 0.1), (0.3, nan, nan)]},
              "tilt": {"one": [(0.1, 0.05, 0.2)] * 3, "two": [(0.1, -0.05, 0.2)] * 3}}  # fmt: skip
    plot = figures.gained(frames, ["a", "b", "c"], "NSS")
    symbols = [trace.marker.symbol for trace in plot.figure.data]
    assert symbols[0] == ("circle", "circle-open", "circle-open")
    assert symbols[1] == ("square", "square-open", "square-open")
    assert plot.figure.data[0].y == (0.2, 0.1, None)
    assert [f.name for f in plot.figure.frames] == ["upright", "tilt"]
    assert "c nobody looked there" in plot.alt and "c 0.300, no interval" in plot.alt
    low, high = plot.figure.layout.yaxis.range
    assert low < -0.2 and high > 0.3
    many = [(0.1, 0.05, 0.15)] * 5 + [(0.2, -9.0, 9.0)]  # two videos: a bar as long as the page
    high = figures.gained({"x": {"p": many}}, list("abcdef"), "NSS").figure.layout.yaxis.range[1]
    assert high < 1
    assert [sure(s) for s in frames["upright"]["one"]] == [True, False, False]


def test_an_excerpt_is_the_middle_of_its_video():
    worlds = SyntheticWorlds("test", 3, 1.0, 8.0, (16, 32))
    clips = Excerpts(worlds, worlds.videos[::2], 4)
    assert clips.videos == ("test-0000", "test-0002") and clips.length("test-0000") == 4
    whole = worlds.read("test-0002", 2, 4)
    item = clips.read("test-0002")
    assert torch.equal(item.frames, whole.frames) and torch.equal(item.truth, whole.truth)
    assert item.flow is None and item.masks is None
    inner = Excerpts(clips, clips.videos[1:], 4)
    assert torch.equal(inner.read("test-0002").frames, item.frames)
    turned = Tilted(clips, 90.0).read("test-0002")
    assert turned.frames.shape == item.frames.shape
    assert not torch.allclose(turned.frames, item.frames)
    with pytest.raises(ValueError, match="wanted the whole excerpt"):
        clips.read("test-0000", 1)


def runs(value, sha):
    return {"runs": [{"seed": 3, "sha256": sha, "scores": {"upright": {"cc": [value, value]}}}]}


def test_what_is_at_hand_is_the_best_run_whose_weights_are_bundled(monkeypatch, tmp_path):
    record = {"arms": {"lookup-unet": runs(0.3, "aa"), "sst-sal-noflow": runs(0.2, "bb"),
                       "spherical-unet": runs(0.9, "cc")}}  # fmt: skip
    index = {"lookup-unet": {"source": "aa"}, "sst-sal-noflow": {"source": "bb"},
             "spherical-unet": {"source": "cc"}}  # fmt: skip
    monkeypatch.setattr(shipped, "read_index", lambda: {})
    assert chapter17.at_hand(record)[:2] == ("equator-front", 0)
    widths = (2, 2, 2, 2, 2, 2, 1)
    save_weights(load_model("lookup-unet", widths=widths), tmp_path / "lookup-unet.safetensors")
    monkeypatch.setattr(shipped, "read_index", lambda: index)
    monkeypatch.setattr(shipped, "BUNDLED", tmp_path)
    name, k, model = chapter17.at_hand(record)
    assert (name, k) == ("lookup-unet", 0) and not model.training
    index["lookup-unet"]["source"] = "other weights"
    with pytest.raises(ValueError, match="sst-sal-noflow"):  # whose file is not there
        chapter17.at_hand(record)


def test_halves_agree_as_far_as_people_do():
    here, there = torch.tensor([[0.0, 0.1]]).double(), torch.tensor([[2.0, -0.4]]).double()
    together = [here.expand(4, 2), there.expand(6, 2)]
    assert chapter17.halves_agree(together, 32, 64) == pytest.approx(1, abs=1e-4)
    assert chapter17.halves_agree([torch.cat((here, there))] * 2, 32, 64) < 0.1


def test_a_text_is_told_in_lines_that_fit(capsys):
    chapter17.told("a long-winded word " * 9)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 46
    assert all(line.startswith("  ") for line in lines[1:])


def test_an_origin_names_every_training_that_finished(capsys):
    done = {"status": "done"}
    later = done | {"made": {"device": "a slow one"}}
    arms = {"a-net": [done, later], "flat": [done, {"status": "interrupted"}],
            "other": [done], "band": [{"status": "no training"}]}  # fmt: skip
    record = {"scale": "cpu", "device": "a fast one", "seconds": 120, "settings": {"steps": 9},
              "unequal": ["the weather"],
              "arms": {a: {"runs": runs} for a, runs in arms.items()}}  # fmt: skip
    chapter17.tell_origin(record)
    assert capsys.readouterr().out == (
        "scale cpu; a fast one, 2 minutes, 9 steps\nnot equal: the weather\n"
        "trained 2 x: a-net\ntrained 1 x: flat, other\n"
        "1 of 4 trainings were made later, on a slow\n  one\n"
    )
    chapter17.tell_origin(record | {"arms": {"other": {"runs": [done]}}})
    assert "later" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pred", "agreement", "words"),
    [
        (blob(0, 0, 12), 0.2, "people disagree: CC 0.20"),
        (blob(90, 0, 12), 0.8, "its peak is 90 degrees away"),
        (blob(0, 0, 30), 0.8, "x too wide"),
        (blob(0, 0, 6), 0.8, "x too narrow"),
        (blob(0, 0, 12), 0.8, "no rule fits"),
    ],
)
def test_a_diagnosis_names_what_was_planted(pred, agreement, words):
    found = symptoms(pred, blob(0, 0, 12), agreement)
    assert words in diagnosis(found, usual=0.8)


def test_width_is_the_area_that_a_map_covers():
    found = symptoms(blob(0, 60, 10, 64), blob(120, 60, 5, 64), 1.0)
    assert found["wider"] == pytest.approx(4, rel=0.06)
    there = lonlat_to_xyz(torch.tensor([0.0, 2 * math.pi / 3]).double(),
                          torch.tensor([math.pi / 3] * 2).double())  # fmt: skip
    away = math.degrees(math.acos(float(there[0] @ there[1])))
    assert found["apart"] == pytest.approx(away, abs=4)


def test_holm_agrees_with_its_definition_by_adjusted_values():
    draw = np.random.default_rng(0)
    for _ in range(50):
        p = (draw.random(6) ** 3).tolist()
        order = np.argsort(p)
        adjusted = np.maximum.accumulate([(6 - j) * p[k] for j, k in enumerate(order)])
        wanted = {int(k) for k, a in zip(order, adjusted, strict=True) if a <= 0.05}
        assert {k for k, s in enumerate(chapter17.survives(p)) if s} == wanted


def test_a_sound_board_is_the_packages_difference():
    draw = torch.Generator().manual_seed(0)
    scores = {"arm": torch.rand(3, 5, generator=draw), "ref": torch.rand(1, 5, generator=draw)}
    mean, low, high = planted_board()(scores, "ref")["arm"]
    wanted = paired(scores["arm"].double().mean(0), scores["ref"].double()[0]).difference
    assert wanted.method == "student"
    assert (mean, low, high) == pytest.approx((wanted.mean, wanted.low, wanted.high))
    with pytest.raises(ValueError, match="^faults: "):
        planted_board("late")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_changes_the_board(fault):
    draw = torch.Generator().manual_seed(1)
    scores = {name: torch.rand(3, 6, generator=draw) for name in ("arm", "ref")}
    sound, faulty = (
        board(scores, "ref")["arm"] for board in (planted_board(), planted_board(fault))
    )
    assert max(abs(a - b) for a, b in zip(sound, faulty, strict=True)) > 1e-3


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("17.1", lambda a, b: ((a - b).mean(), (a.mean(0) - b.mean(0)).std()), "one video's"),
        ("17.1", lambda a, b: ((a - b).mean(), (a - b).std() / (a - b).numel() ** 0.5),
         "(seeds are not videos)"),
        ("17.1", lambda a, b: a.mean(), "wanted two numbers"),
        ("17.1", lambda a, b: ((a - b).mean(), (a - b).mean(0).std() / a.shape[1] ** 0.5),
         "must match"),
        ("17.2", lambda m, n, bins: n, "shape (2,), wanted (1,)"),
        ("17.2", lambda m, n, bins: n.sum()[None], "(shares sum to 1)"),
        ("17.3", lambda p: p <= 0.05, "(as without a correction"),
        ("17.3", lambda p: p <= 0.05 / len(p), "(as by Bonferroni's, which asks more)"),
        ("17.3", lambda p: sorted(chapter17.survives(p.tolist()), reverse=True),
         "(by size, not in the order of p)"),
        ("17.3", lambda p: torch.tensor(
            sorted(chapter17.survives(p.tolist()), reverse=True))[p.argsort()],
         "the small one comes last"),
        ("17.4", lambda q, looks, powers: powers[-1], "you gave 3"),
        ("17.4", lambda q, looks, powers: max(powers, key=lambda g: g * float(
            q[looks[:, 0], looks[:, 1]].log().mean())), "divide by it"),
        ("17.4", lambda q, looks, powers: max(powers, key=lambda g: float(
            (q**g / (q**g).sum())[looks[:, 0], looks[:, 1]].log().mean())), "times its area"),
        ("17.5", lambda board: "unpaired", "wanted a set of names"),
        ("17.5", lambda board: {"unpaired"}, "you blame ['unpaired']"),
    ],
)  # fmt: skip
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_two_numbers_may_be_one_tensor_or_array():
    def lead(a, b):
        d = a.mean(0) - b.mean(0)
        return d.mean(), d.std() / len(d) ** 0.5

    assert check("17.1", lambda a, b: torch.stack(lead(a, b)))
    assert check("17.1", lambda a, b: np.array(lead(a, b)))
    assert check("17.1", lambda a, b: lead(a.float(), b.float()))


def test_holms_correction_may_be_written_in_other_ways():
    def one_by_one(p):
        out = torch.zeros(len(p), dtype=torch.bool)
        for i, k in enumerate(p.argsort()):
            if p[k] > 0.05 / (len(p) - i):
                break
            out[k] = True
        return out

    def adjusted(p):
        order = p.argsort()
        raised = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values
        return (raised <= 0.05)[order.argsort()].numpy()

    assert check("17.3", one_by_one) and check("17.3", adjusted)
    assert check("17.3", lambda p: one_by_one(p.numpy()).tolist())
