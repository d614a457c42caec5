"""The record of fifty trainings that were killed: whole, and each resumed to the same bits."""

import json
import os
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path

import pytest

from sal360.training import kills

STEPS, RUNS = kills.STEPS, 50


def whole(record):
    """That nothing is missing in a record, whatever came of its runs."""
    assert list(record) == ["schema", "sal360", "code", "date", "device", "versions", "threads",
                            "seed", "steps", "variants", "runs", "seconds"]  # fmt: skip
    assert len(record["code"]) == 64 and datetime.fromisoformat(record["date"]).tzinfo is not None
    assert record["device"]["type"] == "cpu" and record["threads"] == 1
    assert {"python", "torch", "numpy", "system"} <= set(record["versions"])
    names = [variant.recipe for variant in kills.VARIANTS]
    assert list(record["variants"]) == names
    for number, run in enumerate(record["runs"]):
        assert run["variant"] == names[number % len(names)]
        assert run["verdict"] == ("differs" if run["different"] else "same bits")
        assert 1 <= len(run["kills"]) <= 4
        for kill in run["kills"]:
            assert kill["by"] in ("time", "step", "half", "before", "after") and kill["at"] >= 0
            assert kill["held"] is None or 0 < kill["held"] <= STEPS
    return record


def test_fifty_killed_runs_ended_in_the_same_bits():
    record = whole(kills.load())
    assert [run["verdict"] for run in record["runs"]] == ["same bits"] * RUNS
    assert record["variants"] == json.loads(
        json.dumps({variant.recipe: kills.asdict(variant) for variant in kills.VARIANTS})
    )
    assert record["steps"] == STEPS and record["seconds"] > RUNS / 10
    found = [kill for run in record["runs"] for kill in run["kills"]]
    assert {kill["by"] for kill in found} == {"time", "step", "half", "before", "after"}
    # A kill before there was a checkpoint asks for less than one in the middle.
    assert sum(kill["held"] is not None and kill["held"] < STEPS for kill in found) > RUNS / 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_killed_runs_end_in_the_same_bits(tmp_path):
    """A few; ``SAL360_KILLS=50`` kills fifty."""
    runs, out = os.environ.get("SAL360_KILLS", "6"), tmp_path / "kills.json"
    command = [sys.executable, "-W", "error::UserWarning", "-m", "sal360.training.kills"]
    found = subprocess.run([*command, "--runs", runs, "--out", str(out)], capture_output=True,
                           text=True, check=False)  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{runs} resumed to the same bits" in found.stdout
    record = whole(kills.load(out))
    assert len(record["runs"]) == int(runs) and record["seed"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["kills.json"]


def test_a_run_that_was_killed_when_all_was_written_is_no_surprise(tmp_path):
    """It is resumed with nothing to do, and that is not told."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        done = kills.go(kills.VARIANTS[0], tmp_path, steps=1)
        assert kills.go(kills.VARIANTS[0], tmp_path, steps=1)["weights"] == done["weights"]
    assert kills.held(tmp_path) == 1 and kills.held(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--runs", "0"], "--runs: 0, wanted at least 1"),
        (["--out", "nowhere/kills.json"], "--out: nowhere/kills.json, wanted a file in a folder"),
        (["--out", str(Path(__file__).parent)], "wanted a file in a folder that is there"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_killed(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        kills.main(words)
    assert told in capsys.readouterr().err


def test_another_file_is_no_record_of_kills(tmp_path):
    (tmp_path / "kills.json").write_text('{"schema": "sal360/run/1"}')
    with pytest.raises(ValueError, match="not a record of schema sal360/kills/1"):
        kills.load(tmp_path / "kills.json")
