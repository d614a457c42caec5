"""The record of baselines on AVTrack360: whole, in order, and what the code still computes."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch

from sal360.datasets import download
from sal360.datasets.layouts import AVTrack360
from sal360.evaluation import METRICS, bootstrap, paired
from sal360.experiments import baselines
from tests import layout_sets

PATH = Path(__file__).resolve().parents[1] / "data" / "runs" / "baselines.json"


@pytest.fixture(scope="module")
def record():
    return baselines.load(PATH)


def test_the_record_is_whole(record):
    names = {*baselines.MODELS, "mean of others", "half of the people"}
    assert set(record["predictors"]) | set(record["not measured"]) >= names
    assert set(record["predictors"]) >= {"equator", "mean of others", "half of the people"}
    assert record["videos"] == [str(k) for k in range(1, 21)]
    assert len(record["code"]) == 64 and record["process_seconds"] > 0
    assert record["settings"]["size"] == list(baselines.SIZE)
    assert record["settings"]["seed"] == baselines.SEED
    assert {"python", "torch", "numpy"} <= set(record["versions"])
    assert {"motion", "centre-of-motion"} <= set(record["not measured"])
    assert PATH.stat().st_size < 40_000


def test_the_data_are_those_of_the_registry(record):
    assert record["data"] == baselines._data()


def test_intervals_and_differences_follow_from_the_scores_by_video(record):
    by_video = {
        name: {m: torch.tensor(v, dtype=torch.float64) for m, v in one["by video"].items()}
        for name, one in record["predictors"].items()
    }
    for name, one in record["predictors"].items():
        assert list(one["scores"]) == list(baselines.SCORES)
        for metric, stored in one["scores"].items():
            found = bootstrap(by_video[name][metric], seed=baselines.SEED)
            assert stored["videos"] == 20 and stored["interval"] == "bootstrap"
            got = [stored[key] for key in ("mean", "low", "high")]
            assert got == pytest.approx(found[:3], abs=2e-6)
        for metric, stored in one["minus the equator"].items():
            if name == "uniform" and metric in ("cc", "nss", "auc_judd"):
                continue  # rounding of constant scores decides nothing
            found = paired(by_video[name][metric], by_video["equator"][metric])
            assert stored["p"] == pytest.approx(found.p, rel=0.02) and stored["exact"]
            ends = (found.difference.low, found.difference.high)
            assert (stored["low"], stored["high"]) == pytest.approx(ends, abs=2e-6)


def test_the_order_of_predictors(record):
    """People, then other videos, then the front, then the equator, in every metric."""
    order = ("half of the people", "mean of others", "equator-front", "equator", "uniform")
    for metric in baselines.SCORES:
        means = [record["predictors"][n]["scores"][metric]["mean"] for n in order]
        assert means == sorted(means, reverse=METRICS[metric].better == "higher"), metric
    for name in order[:3]:
        for metric in ("cc", "nss", "information_gain", "kld"):
            assert record["predictors"][name]["minus the equator"][metric]["in favour of"] == name


def test_what_was_measured_before_comes_out_again(record):
    """By other code, with other halves: CC, NSS and AUC of halves, other videos, the equator."""
    known = {
        "half of the people": (0.896, 1.889, 0.854),
        "mean of others": (0.666, 1.325, 0.802),
        "equator": (0.529, 1.008, 0.780),
        "sst-sal-noflow": (0.516, 1.000, 0.753),
    }
    for name, (cc, nss, auc) in known.items():
        if name in record["predictors"]:
            scores = record["predictors"][name]["scores"]
            assert scores["cc"]["mean"] == pytest.approx(cc, abs=0.02), name
            assert scores["nss"]["mean"] == pytest.approx(nss, rel=0.04), name
            assert scores["auc_judd"]["mean"] == pytest.approx(auc, abs=0.012), name


def test_two_videos_are_measured_again(record, real):
    root = real("avtrack360/SRC_info/1.json").parents[1]
    videos = ["3", "17"]
    found, missing = baselines.measure(AVTrack360(root), videos)
    assert set(missing) >= set(record["not measured"])
    for name, one in found.items():
        stored = record["predictors"][name]["by video"]
        for metric in baselines.SCORES:
            want = [stored[metric][record["videos"].index(v)] for v in videos]
            assert one.per_video(metric).tolist() == pytest.approx(want, abs=2e-4), (name, metric)


def test_any_data_set_of_this_layout_can_be_measured(tmp_path, monkeypatch):
    """A synthetic one, without the real files and without weights."""
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(baselines, "START", 0.2)
    monkeypatch.setattr(baselines, "RATE", 4)
    monkeypatch.setattr(baselines, "HALVES", 2)
    lines = []
    out = tmp_path / "runs" / "b.json"
    record = baselines.run(out, layout_sets.made("avtrack360"), report=lines.append)
    assert record == baselines.load(out)
    assert "sst-sal-noflow" in record["not measured"] and "equator" in record["predictors"]
    assert len(lines) == len(record["predictors"]) and len(record["videos"]) == 3
    for one in record["predictors"].values():
        assert all(math.isfinite(s["mean"]) for s in one["scores"].values())
    page = baselines.table(record)
    assert page.count("\n") == 2 + len(record["predictors"])
    for wrong, line in (("{", "not JSON"), ("{}", "not a record")):
        out.write_text(wrong)
        with pytest.raises(ValueError, match=line):
            baselines.load(out)


def test_an_installed_copy_gets_the_same_file_by_its_hash():
    remote = download.registry()["runs/baselines.json"]
    assert remote.sha256 == hashlib.sha256(PATH.read_bytes()).hexdigest()
    assert remote.url.endswith("/data/runs/baselines.json")


def test_the_command_line_prints_the_table(monkeypatch, capsys, record):
    monkeypatch.setattr(baselines, "run", lambda *a, **k: json.loads(json.dumps(record)))
    baselines.main([])
    out = capsys.readouterr().out
    assert "| half of the people | **" in out and "not measured: motion: " in out
