"""The record of weak supervision: whole, consistent, and what the code still computes."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from sal360.datasets import download
from sal360.experiments import weak

PATH = Path(__file__).resolve().parents[1] / "data" / "runs" / "weak.json"


@pytest.fixture(scope="module")
def record():
    return weak.load(PATH)


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    lines, path = [], tmp_path_factory.mktemp("weak") / "runs" / "weak.json"
    made = weak.run("fast", path, weak.ARMS[1:3], report=lines.append)
    assert weak.load(path) == json.loads(json.dumps(made)) and len(lines) == 2
    return made


def test_the_record_is_whole(record):
    assert set(record["arms"]) == {arm.name for arm in weak.ARMS}
    assert record["recipe"] == asdict(weak.RECIPES["cpu"]) and record["scale"] == "cpu"
    assert len(record["code"]) == 64 and record["process_seconds"] < 600
    assert not set(record["worlds"]["train"]) & set(record["worlds"]["test"])
    for one in record["arms"].values():
        assert [run["seed"] for run in one["runs"]] == list(range(record["recipe"]["seeds"]))
        for run in one["runs"]:
            for scores in run["after"]["cc"].values():
                assert len(scores) == len(record["worlds"]["test"])
    assert PATH.stat().st_size < 120_000


def test_a_small_step_moves_no_weight_far(record):
    """Adam's step is about the rate, so many steps of 1e-6 move a weight by less than 1e-3."""
    slow = record["arms"]["stands out: published, slow"]["runs"]
    most = 1.5 * record["recipe"]["slow_rate"] * record["recipe"]["steps"]
    assert max(run["largest step of a weight"] for run in slow) < most


def test_gains_follow_from_the_scores(record):
    found = weak.gains(record, "random: gaze")
    runs = record["arms"]["random: gaze"]["runs"]
    after = [np.mean(run["after"]["cc"]["rests"]) for run in runs]
    assert found["after"] == pytest.approx(np.mean(after))
    assert found["change"] == pytest.approx(found["after"] - found["before"])
    same = json.loads(json.dumps(record))
    for run in same["arms"]["random: gaze"]["runs"]:
        run["after"] = run["before"]
    assert weak.gains(same, "random: gaze")["half"] == 0


def test_two_small_runs_are_alike(again):
    """Seeds fix everything, on one machine."""
    first = weak.ARMS[1]
    recipe = weak.RECIPES["fast"]
    clips = weak.make_clips(range(recipe.train), recipe.frames, recipe.H, recipe.W)
    tests = {"rests": weak.make_clips(range(100, 102), recipe.test_frames, recipe.H, recipe.W)}
    run = weak.train(first, 1, clips, tests, recipe)
    stored = again["arms"][first.name]["runs"][1]
    assert run["after"]["cc"]["rests"] == pytest.approx(stored["after"]["cc"]["rests"], abs=1e-3)
    assert run["after"]["loss"] < 0.5 * run["before"]["loss"]


def test_references_are_measured_again(record):
    """Two of the record's worlds, without training."""
    recipe = weak.RECIPES["cpu"]
    clips = weak.make_clips(record["worlds"]["test"][:2], recipe.test_frames, recipe.H, recipe.W)
    found = weak.references({"rests": clips})
    for name, scores in found.items():
        stored = record["references"][name]["rests"][:2]
        assert scores["rests"] == pytest.approx(stored, abs=2e-3), name


def test_clips_are_what_they_say():
    clips = weak.make_clips([0, 9], 3, 16, 32, "turns")
    assert clips.given.shape == (2, 3, 2, 16, 32) and clips.flow.shape == (2, 2, 2, 16, 32)
    assert clips.truth.shape == (2, 3, 1, 16, 32)
    share = torch.ones(1)
    assert torch.allclose(weak.mean_one(clips.truth), weak.mean_one(3 * share * clips.truth))
    moves, by_itself = weak.moving(clips.flow)
    assert moves.mean() > 2 * by_itself.mean()
    with pytest.raises(ValueError, match="^kind: 'best'"):
        weak.loss_of("best", clips.truth, clips)
    with pytest.raises(ValueError, match="^scale: 'large'"):
        weak.run("large")


def test_a_start_passes_what_stands_out_through():
    given = torch.rand(1, 3, 2, 16, 32, generator=torch.Generator().manual_seed(0)) + 1
    model = weak.Refiner(keep=1.0)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        assert (model(given) - given[:, :, :1]).abs().max() < 0.01
    assert weak.spread(torch.ones(2, 1, 8, 16)) == 0


def test_an_installed_copy_gets_the_same_file_by_its_hash():
    remote = download.registry()["runs/weak.json"]
    assert remote.sha256 == hashlib.sha256(PATH.read_bytes()).hexdigest()
    assert remote.url.endswith("/data/runs/weak.json")


def test_a_broken_record_is_refused(tmp_path):
    bad = tmp_path / "bad.json"
    for text, message in (("{", "not JSON"), ("{}", "not a record")):
        bad.write_text(text)
        with pytest.raises(ValueError, match=message):
            weak.load(bad)


def test_the_command_line_prints_the_arms(monkeypatch, capsys, record):
    monkeypatch.setattr(weak, "run", lambda *a, **k: record)
    weak.main(["--scale", "fast"])
    assert "equator: rests 0." in capsys.readouterr().out
