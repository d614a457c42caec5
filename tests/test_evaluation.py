"""Means over videos, paired comparisons, scores of frames: what must hold, and slow references."""

import csv
import io
import itertools
import json
import math

import pytest
import torch

from sal360 import metrics
from sal360.datasets.item import Item
from sal360.evaluation import (
    METRICS,
    USUAL,
    bootstrap,
    compare,
    evaluate,
    evaluate_together,
    paired,
    score_frames,
    sign_flip,
)
from sal360.evaluation.scores import metric_names
from sal360.evaluation.statistics import student
from sal360.models import load_model
from sal360.sphere import pixel_area

H, W = 12, 24
AREA = pixel_area(H, W)[:, None]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def density(*shape, seed=0):
    maps = torch.rand(*shape, H, W, generator=draw(seed), dtype=torch.float64) ** 3 + 0.01
    return maps / (maps * AREA).sum((-2, -1), keepdim=True)


def looks(frames, n=5, seed=0):
    points = torch.rand(frames, n, 2, generator=draw(seed), dtype=torch.float64) - 0.5
    return list(points * torch.tensor([2 * math.pi, math.pi]))


# --- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("videos", [4, 8, 20])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(videos, kind):
    generator, held, rounds = draw(videos), 0, 400
    for k in range(rounds):
        if kind == "normal":
            sample = torch.randn(videos, generator=generator, dtype=torch.float64)
        else:
            sample = torch.empty(videos).exponential_(generator=generator).double() - 1
        found = bootstrap(sample, resamples=1000, seed=k)
        held += found.low <= 0 <= found.high
    low = 0.915 if kind == "normal" else 0.85  # skewed scores and few videos: known to be short
    assert low < held / rounds < 0.985


def test_for_many_videos_it_is_the_formula():
    sample = torch.randn(2000, generator=draw(), dtype=torch.float64)
    found = bootstrap(sample)
    half = 1.96 * float(sample.std()) / math.sqrt(2000)
    assert found.mean == pytest.approx(float(sample.mean()))
    assert found.low == pytest.approx(found.mean - half, abs=0.05 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.05 * half)


def test_the_bootstrap_is_the_count_of_all_resamples():
    """Of 6 values there are 6^6 resamples: their exact quantiles, at the widened tail."""
    values = torch.tensor([0.1, 0.4, 0.5, 0.55, 0.9, 1.6], dtype=torch.float64)
    means = torch.cartesian_prod(*[values] * 6).mean(1)
    reach = torch.tensor(-student(5) * math.sqrt(6 / 5)).double()
    tail = float(torch.special.ndtr(reach))
    found = bootstrap(values, resamples=200_000)
    assert found.low == pytest.approx(float(means.quantile(tail)), abs=0.01)
    assert found.high == pytest.approx(float(means.quantile(1 - tail)), abs=0.01)
    assert found.high - found.mean > found.mean - found.low, "it follows the skew of the scores"


def test_an_interval_moves_and_grows_with_the_scores():
    sample = torch.rand(9, generator=draw(), dtype=torch.float64)
    one, two = bootstrap(sample), bootstrap(3 * sample + 1)
    assert two.low == pytest.approx(3 * one.low + 1) and two.high == pytest.approx(3 * one.high + 1)
    wide = bootstrap(sample, level=0.99)
    assert wide.low < one.low < one.mean < one.high < wide.high


def test_few_videos():
    assert bootstrap([0.4]).method == "none" and math.isnan(bootstrap([0.4]).low)
    assert bootstrap([0.4]).mean == 0.4 and bootstrap([]).videos == 0
    assert math.isnan(bootstrap([]).mean)
    two = bootstrap([1.0, 2.0])
    assert two.method == "student" and two.high - 1.5 == pytest.approx(12.706 * 0.5, abs=1e-2)
    assert bootstrap(torch.arange(6.0)).method == "bootstrap"
    same = bootstrap([0.3] * 7)
    assert same.low == pytest.approx(0.3) and same.high == pytest.approx(0.3)


def test_a_video_without_a_score_does_not_count_and_an_infinite_one_leaves_no_interval():
    known = torch.rand(8, generator=draw(), dtype=torch.float64)
    with_holes = torch.cat((known[:3], torch.tensor([math.nan]), known[3:]))
    assert bootstrap(with_holes) == bootstrap(known)
    found = bootstrap([1.0, math.inf, 2.0])
    assert found.mean == math.inf and found.method == "none" and math.isnan(found.high)


def test_a_seed_repeats_an_interval():
    sample = torch.rand(12, generator=draw())
    assert bootstrap(sample, seed=3) == bootstrap(sample, seed=3) != bootstrap(sample, seed=4)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: bootstrap([[1.0]]), r"values: shape \(1, 1\), wanted \(V,\)"),
        (lambda: bootstrap([1.0, 2.0], level=1.0), "level: 1"),
        (lambda: bootstrap(torch.rand(9), resamples=0), "resamples: 0"),
        (lambda: paired([1.0], [1.0, 2.0]), r"b: shape \(2,\), wanted a's \(1,\)"),
        (lambda: sign_flip([]), r"differences: shape \(0,\)"),
        (lambda: sign_flip([math.nan]), "differences: holds NaN"),
    ],
)
def test_what_statistics_refuse(call, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        call()


# --- permutation test ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_permutation_test_counts_every_flip(seed):
    d = torch.randn(7, generator=draw(seed), dtype=torch.float64) + 0.5
    d[2] = d[3]  # ties between flips
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=7)), dtype=torch.float64)
    want = float(((signs @ d).abs() >= d.sum().abs() - 1e-12).double().mean())
    assert sign_flip(d) == (pytest.approx(want, abs=1e-12), True)


def test_p_is_never_zero_and_never_above_one():
    for n in (1, 2, 5, 12):
        p, exact = sign_flip(torch.ones(n))
        assert exact and p == 2.0 ** (1 - n)
    assert sign_flip(torch.zeros(5)) == (1.0, True)
    p, exact = sign_flip(torch.ones(40), flips=999)
    assert not exact and p == 1 / 1000
    assert sign_flip([1.0, -1.0])[0] == 1.0


def test_drawn_flips_agree_with_counted_ones():
    d = torch.randn(14, generator=draw(2), dtype=torch.float64) + 0.4
    counted, drawn = sign_flip(d)[0], sign_flip(d, flips=50_000, exact=5)[0]
    assert drawn == pytest.approx(counted, abs=4 * math.sqrt(counted / 50_000))
    assert sign_flip(d, exact=5, seed=1) == sign_flip(d, exact=5, seed=1)


def test_equal_predictors_are_told_apart_as_often_as_by_chance():
    generator, found = draw(5), 0
    for _ in range(600):
        found += sign_flip(torch.randn(9, generator=generator, dtype=torch.float64))[0] <= 0.05
    assert 0.03 < found / 600 < 0.07


def test_pairing_tells_apart_what_two_intervals_cannot():
    hard = torch.rand(15, generator=draw(), dtype=torch.float64)
    a, b = hard + 0.02 + 0.01 * torch.rand(15, generator=draw(1), dtype=torch.float64), hard
    alone = bootstrap(a), bootstrap(b)
    assert alone[0].low < alone[1].high
    found = paired(a, b)
    assert found.difference.low > 0 and found.p < 1e-3 and found.exact
    back = paired(b, a)
    assert back.difference.high < 0 and back.p == found.p


def test_a_pair_with_a_hole_or_an_infinity():
    found = paired([1.0, math.nan, 3.0], [0.0, 1.0, 2.0])
    assert found.difference.videos == 2 and found.difference.mean == 1
    found = paired([math.inf, 1.0], [0.0, 1.0])
    assert math.isnan(found.p) and found.difference.method == "none"


# --- frames --------------------------------------------------------------------------------------


def test_frames_are_scored_by_the_metrics():
    pred, truth, looked = density(4), density(4, seed=1), looks(4)
    for weighting in ("sphere", "pixels"):
        got = score_frames(pred, truth, looked, weighting=weighting)
        assert tuple(got) == USUAL
        for name in ("cc", "sim", "kld"):
            want = getattr(metrics, name)(pred, truth, weighting)
            torch.testing.assert_close(got[name], want)
        for name in ("nss", "auc_judd", "information_gain"):
            for t in range(4):
                want = getattr(metrics, name)(pred[t], looked[t], weighting=weighting)
                torch.testing.assert_close(got[name][t], want)


def test_all_metrics_have_a_card_and_can_be_asked_for():
    pred, truth, looked = density(2), density(2, seed=1), looks(2)
    others = torch.cat(looks(3, seed=4))
    got = score_frames(pred, truth, looked, list(METRICS), others=others)
    assert set(got) == set(METRICS) and all(v.isfinite().all() for v in got.values())
    torch.testing.assert_close(got["sauc"][0], metrics.sauc(pred[0], looked[0], others))
    torch.testing.assert_close(got["auc_borji"], got["auc_judd"])
    better = score_frames(truth, truth, looked, list(METRICS), others=others)
    for name, card in METRICS.items():
        if card.needs == "truth":
            sign = 1 if card.better == "higher" else -1
            assert bool((sign * better[name] >= sign * got[name]).all()), name


def test_a_frame_without_truth_or_fixations_has_no_score_and_harms_none():
    pred, truth, looked = density(5), density(5, seed=1), looks(5)
    whole = score_frames(pred, truth, looked)
    truth[1], truth[3] = math.nan, 0
    looked[2] = torch.zeros(0, 2)
    got = score_frames(pred, truth, looked)
    for name, card in METRICS.items():
        if name in got:
            gone = [1, 3] if card.needs == "truth" else [2]
            assert got[name].isnan().nonzero()[:, 0].tolist() == gone
            kept = [t for t in range(5) if t not in gone]
            torch.testing.assert_close(got[name][kept], whole[name][kept])


def test_only_what_can_be_computed_is():
    pred = density(2)
    assert tuple(score_frames(pred, density(2, seed=1))) == ("cc", "sim", "kld")
    assert tuple(score_frames(pred, None, looks(2))) == ("nss", "auc_judd", "information_gain")
    empty = score_frames(pred, torch.full_like(pred, math.nan), [torch.zeros(0, 2)] * 2)
    assert all(v.isnan().all() for v in empty.values())


def test_a_baseline_and_a_floor():
    pred, looked, base = density(2), looks(2), density(seed=3)
    got = score_frames(pred, None, looked, "ig", baseline=base)["information_gain"]
    torch.testing.assert_close(
        got[1], metrics.information_gain(pred[1], looked[1], base), rtol=1e-9, atol=1e-9
    )
    each = score_frames(pred, None, looked, "ig", baseline=base.expand(2, -1, -1))
    torch.testing.assert_close(each["information_gain"], got)
    pred[0, 5] = 0
    assert score_frames(pred, density(2, seed=1), metrics="kld")["kld"][0] == math.inf
    assert score_frames(pred, density(2, seed=1), metrics="kld", eps=0.01)["kld"].isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"pred": density()}, r"pred: shape \(12, 24\), wanted \(T, H, W\)"),
        ({"truth": density(3)}, r"truth: shape \(3, 12, 24\), wanted pred's \(2, 12, 24\)"),
        ({"fixations": looks(3)}, "fixations: 3 sets, wanted 2"),
        ({"truth": None, "fixations": None}, "truth: neither maps nor fixations"),
        ({"metrics": "cc,best"}, "metrics: 'best', wanted one of cc, sim"),
        ({"metrics": []}, "metrics: none"),
        ({"metrics": "cc", "truth": None}, "metrics: cc needs truth"),
        ({"metrics": "sauc"}, "metrics: sauc needs others"),
        ({"pred": density(2) - 1}, "pred: values down to"),
        ({"pred": density(2) * math.nan}, "pred: holds NaN"),
        ({"eps": -1}, "eps: -1"),
        ({"weighting": "area"}, "weighting: 'area'"),
        ({"truth": density(2).index_fill(2, torch.tensor([3]), math.nan)}, "truth: some NaN"),
    ],
)
def test_what_frames_refuse(arguments, line):
    given = {"pred": density(2), "truth": density(2, seed=1), "fixations": looks(2), **arguments}
    with pytest.raises(ValueError, match=f"^{line}"):
        score_frames(**given)


def test_names_of_metrics():
    assert metric_names("AUC, ig cc,cc") == ("auc_judd", "information_gain", "cc")
    assert metric_names(["auc-borji"]) == ("auc_borji",)


# --- videos --------------------------------------------------------------------------------------


def sets(videos=4, frames=3):
    truth = {f"v{k}": density(frames, seed=10 + k) for k in range(videos)}
    looked = {f"v{k}": looks(frames, seed=20 + k) for k in range(videos)}
    pred = {f"v{k}": density(frames, seed=30 + k) for k in range(videos)}
    return pred, truth, looked


def test_videos_count_alike_however_long_they_are():
    pred, truth, looked = sets()
    pred["v0"], truth["v0"], looked["v0"] = density(40), density(40, seed=1), looks(40)
    found = evaluate(pred, truth, fixations=looked)
    assert [v.video for v in found.videos] == list(truth) and found.frames == 49
    for name in ("cc", "kld"):
        each = torch.stack([getattr(metrics, name)(pred[v], truth[v]).mean() for v in truth])
        torch.testing.assert_close(found.per_video(name), each)
        assert found.mean(name).mean == pytest.approx(float(each.mean()))
        assert found.mean(name) == bootstrap(each)


def test_no_video_is_held_whole():
    """A stream is asked for a few frames at a time, in order, each once."""
    from sal360.evaluation import streams

    asked = []

    class Watched(streams.Arrays):
        def read(self, video, numbers, size):
            asked.append((self.role, list(numbers)))
            return super().read(video, numbers, size)

    big = torch.ones(9, 1024, 2048)
    evaluate(Watched({"a": big}, "predictions"), Watched({"a": big}, "truth"), metrics="sim")
    for role in ("predictions", "truth"):
        pieces = [numbers for r, numbers in asked if r == role]
        assert [n for numbers in pieces for n in numbers] == list(range(9))
        assert max(map(len, pieces)) * 1024 * 2048 <= streams.PIECE


def test_left_out_frames_are_counted_and_said():
    pred, truth, looked = sets()
    truth["v1"][0] = math.nan
    looked["v2"] = [torch.zeros(0, 2)] * 3
    found = evaluate(pred, truth, fixations=looked)
    assert found.left_out("cc") == 1 and found.left_out("nss") == 3
    assert math.isnan(found.per_video("nss")[2]) and found.mean("nss").videos == 3
    assert any("1 of 12 frames have no truth" in note for note in found.notes)
    assert any("3 of 12 frames have no fixations" in note for note in found.notes)


def test_one_map_may_hold_for_all_frames():
    _, truth, looked = sets(2)
    still = {v: density(seed=50) for v in truth}
    repeated = {v: density(seed=50).expand(3, -1, -1) for v in truth}
    one = evaluate(still, truth, fixations=looked)
    two = evaluate(repeated, truth, fixations=looked)
    for name in one.metrics:
        torch.testing.assert_close(one.per_video(name), two.per_video(name))


def test_items_bring_their_truth_and_fixations():
    pred, truth, looked = sets(2)
    items = {
        v: Item("d", v, torch.zeros(3, 3, H, W), torch.arange(3), 8.0, truth=truth[v][:, None],
                fixations=tuple(looked[v]))
        for v in truth
    }  # fmt: skip
    one, two = evaluate(pred, items), evaluate(pred, truth, fixations=looked)
    assert one.to_csv() == two.to_csv()


def test_shuffled_auc_takes_its_negatives_from_other_videos():
    pred, truth, looked = sets(3)
    found = evaluate(pred, truth, fixations=looked, metrics="sauc")
    others = torch.cat([p for v in ("v1", "v2") for p in looked[v]])
    want = torch.stack([metrics.sauc(m, f, others) for m, f in zip(pred["v0"], looked["v0"],
                                                                   strict=True)])  # fmt: skip
    torch.testing.assert_close(found.videos[0].scores["sauc"], want)
    with pytest.raises(ValueError, match="one video, but sauc needs"):
        evaluate({"a": pred["v0"]}, {"a": truth["v0"]}, fixations={"a": looked["v0"]},
                 metrics="sauc")  # fmt: skip


class Moving:
    """A data set of two short videos, whose truth a model must never see."""

    name = "moving"

    def __init__(self, truth_seed=0):
        self.truth_seed = truth_seed

    videos = ("a", "b")

    def length(self, video):
        return 7

    def rate(self, video):
        return 8.0

    def read(self, video, start=0, length=None, step=1, size=None):
        count = length or -(-(7 - start) // step)
        numbers = torch.arange(count) * step + start
        generator = draw(ord(video))
        frames = torch.rand(7, 3, H, W, generator=generator)[numbers]
        truth = density(7, seed=self.truth_seed + ord(video))[numbers]
        looked = looks(7, seed=self.truth_seed + ord(video))
        return Item(self.name, video, frames, numbers, 8.0, truth=truth[:, None],
                    fixations=tuple(looked[n] for n in numbers.tolist()))  # fmt: skip


@pytest.mark.parametrize("name", ["equator", "motion", "contrast"])
def test_a_model_is_run_on_the_frames(name):
    from sal360.inference import predict_frames

    model = load_model(name)
    found = evaluate(model, Moving())
    assert found.predictor == name and found.metrics == USUAL
    for k, video in enumerate("ab"):
        item = Moving().read(video)
        maps = predict_frames(item.frames, model)
        torch.testing.assert_close(
            found.videos[k].scores["cc"], metrics.cc(maps, item.truth[:, 0]), rtol=1e-5, atol=1e-6
        )


def test_a_model_predicts_from_frames_alone():
    """Another truth, the same predictions: what is scored is closed loop."""
    from sal360.evaluation.streams import Predicted

    model = load_model("motion")
    maps = [Predicted(model, Moving(seed)).read("a", range(7), (H, W)).maps for seed in (0, 1000)]
    assert torch.equal(*maps)


def test_a_size_can_be_asked_for():
    pred, truth, _ = sets(1)
    found = evaluate(pred, truth, size=(6, 12), metrics="cc")
    assert found.settings["size"] == (6, 12)
    with pytest.raises(ValueError, match=r"^predictions\['v0'\]: maps of 6 x 12, but truth"):
        evaluate({"v0": torch.ones(3, 6, 12)}, truth)


# --- comparisons and tables ----------------------------------------------------------------------


def test_two_predictors_are_compared_on_the_same_frames():
    pred, truth, looked = sets(8)
    good = {v: 0.5 * truth[v] + 0.5 * pred[v] for v in truth}
    a, b = evaluate_together([good, pred], truth, fixations=looked, names=["good", "plain"])
    found = compare(a, b)
    assert set(found) == set(USUAL)
    assert found["cc"].difference.low > 0 and found["kld"].difference.high < 0
    assert found["cc"].p == 2.0**-7 and found["cc"].exact
    assert found["cc"] == paired(a.per_video("cc"), b.per_video("cc"))
    alone = evaluate(pred, truth, fixations=looked)
    assert torch.equal(alone.per_video("nss"), b.per_video("nss"))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p, t, f: evaluate({"v0": p["v0"]}, {"v0": t["v0"]}), "b: other videos than a"),
        (lambda p, t, f: evaluate({v: m[:2] for v, m in p.items()}, t, part=True),
         "b: other frames of 'v0'"),
        (lambda p, t, f: evaluate(p, t, weighting="pixels"), "b: weighting 'pixels'"),
        (lambda p, t, f: evaluate(p, t, size=(3, 6)),
         r"b: 'v0' at \(3, 6\), wanted a's \(12, 24\)"),
        (lambda p, t, f: evaluate(p, {**t, "v1": p["v0"]}), "b: another truth of 'v1' than a"),
        (lambda p, t, f: evaluate(p, t, fixations=f, metrics="nss"), "b: none of a's metrics"),
    ],
)  # fmt: skip
def test_scores_that_have_no_difference(change, line):
    pred, truth, looked = sets()
    a = evaluate(pred, truth, metrics="cc")
    with pytest.raises(ValueError, match=f"^{line}"):
        compare(a, change(pred, truth, looked))


def test_other_fixations_are_another_truth_and_another_scale_is_not():
    pred, truth, looked = sets()
    a = evaluate(pred, truth, fixations=looked)
    scaled = evaluate(pred, {v: 3 * m for v, m in truth.items()}, fixations=looked)
    assert set(compare(a, scaled)) == set(USUAL)
    assert set(compare(a, evaluate(pred, truth))) == {"cc", "sim", "kld"}
    moved = {v: [f + 0.01 for f in each] for v, each in looked.items()}
    with pytest.raises(ValueError, match="^b: another truth of 'v0' than a"):
        compare(a, evaluate(pred, truth, fixations=moved))


def test_the_level_is_not_rounded_and_names_keep_to_their_line():
    pred, truth, _ = sets(2)
    pred, truth = ({f"{v}\n|x": m for v, m in each.items()} for each in (pred, truth))
    page = evaluate(pred, truth, level=0.999, name="mine\n2").to_markdown()
    assert "| 99.9 % interval |" in page and "\n| v1?\\|x | " in page
    assert "### mine?2\n" in page and "### mine?2, by video\n" in page


def test_tables_say_the_same():
    pred, truth, looked = sets(7)
    truth["v1"][0] = math.nan
    found = evaluate(pred, truth, fixations=looked, name="mine")
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    stored = json.loads(found.to_json())["evaluations"][0]
    page = found.to_markdown()
    levels = [r["level"] for r in rows]
    assert levels.count("frame") == 21 and levels.count("video") == 7
    for name in USUAL:
        mean = found.mean(name)
        assert float(rows[levels.index("mean")][name]) == pytest.approx(mean.mean, abs=1e-8)
        assert stored["metrics"][name]["low"] == pytest.approx(mean.low, abs=1e-8)
        assert f"| {name} | {METRICS[name].better} | {mean.mean:.3f} | {mean.low:.3f} to " in page
    first = next(r for r in rows if r["video"] == "v1" and r["frame"] == "0")
    assert first["cc"] == "" and first["nss"] != ""
    assert stored["videos"]["v1"]["scores"]["cc"][0] is None
    assert "1 of 21 frames have no truth" in page and "### mine" in page


def test_infinities_are_told_in_every_table():
    pred, truth, _ = sets(3)
    pred["v1"][0, 3] = 0
    found = evaluate(pred, truth, metrics="kld")
    assert json.loads(found.to_json())["evaluations"][0]["metrics"]["kld"]["mean"] == "inf"
    assert "| kld | lower | inf | - |" in found.to_markdown()
    assert "kld is infinite on 1 frames" in found.to_markdown()
    assert "mean,,,inf" in found.to_csv()


@pytest.mark.parametrize(
    ("predictions", "truth", "error", "line"),
    [
        ({}, {"a": density(2)}, ValueError, "predictions: empty"),
        ({"a": density(2)}, {}, ValueError, "truth: empty"),
        (3, {"a": density(2)}, TypeError, "predictions: int"),
        ({"a": density(2)}, 3, TypeError, "truth: int"),
        (load_model("equator"), {"a": density(2)}, TypeError, "truth: no frames to predict"),
        (Moving(), {"a": density(2)}, TypeError, "predictions: a data set"),
        ({"a": density(2)[0, 0]}, {"a": density(2)}, ValueError, r"predictions\['a'\]: shape"),
        ({"a": density(2)}, {"a": density(3)}, ValueError, r"predictions\['a'\]: 2 maps, wanted 3"),
        ({"a": density(2), "c": density(2)}, {"a": density(2), "b": density(2)}, ValueError,
         r"predictions\['c'\]: no truth of a video 'c'; there is that of 'a', 'b'"),
        ({"a": density(2), "b": density(2)},
         {"a": density(2), "b": density(2), "c": density(2)}, ValueError,
         r"truth\['c'\]: no prediction of this video"),
        ({"a": density(2)}, {"a": density()}, ValueError, r"truth\['a'\]: one map for a whole"),
        ({"a": density(2) - 1}, {"a": density(2)}, ValueError, r"predictions\['a'\]\[0\]: pred: "),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(predictions, truth, error, line):
    with pytest.raises(error, match=f"^{line}"):
        evaluate(predictions, truth)


def test_a_size_is_a_height_and_a_width():
    pred, truth, _ = sets(1)
    for wrong in ((4, 8, 3), (4,)):
        with pytest.raises(TypeError, match=r"^size: .*, wanted \(H, W\)"):
            evaluate(pred, truth, size=wrong)


def test_fixations_of_no_video_are_refused():
    pred, truth, looked = sets(2)
    with pytest.raises(ValueError, match="^fixations: 'zz', wanted a video of truth: 'v0', 'v1'$"):
        evaluate(pred, truth, fixations={**looked, "zz": looked["v0"]})
    with pytest.raises(ValueError, match="^fixations: given beside Moving, wanted truth of arrays"):
        evaluate(pred, Moving(), fixations=looked)


def test_metrics_that_the_truth_does_not_allow():
    pred, truth, _ = sets(2)
    with pytest.raises(ValueError, match=r"^truth\['v0'\]: no fixations, which nss needs"):
        evaluate(pred, truth, metrics="cc,nss")
    with pytest.raises(ValueError, match="^baseline: 'centre'"):
        evaluate(pred, truth, baseline="centre")
    with pytest.raises(TypeError, match="^weight: no such setting"):
        evaluate_together([pred], truth, weight="sphere")
