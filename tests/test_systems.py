"""The table of systems: no row missing, each number recomputed or guarded, reasons where not."""

import json
from pathlib import Path

import pytest

from benchmarks import page_systems, systems
from sal360.datasets import download
from sal360.models import MODELS
from sal360.training import INPUTS
from sal360.training import overfit as learning

ROOT = Path(__file__).resolve().parents[1]
RESULTS = json.loads((ROOT / "data/benchmarks/systems.json").read_text("utf-8"))["results"]
ROWS = RESULTS["systems"]


def test_no_row_is_missing_and_sizes_are_those_of_the_cards():
    assert list(ROWS) == list(INPUTS)
    for name, row in ROWS.items():
        assert row["parameters"] == MODELS[name].parameters("published")
        assert row["flops"] == MODELS[name].flops("published")


@pytest.mark.parametrize("name", [n for n in INPUTS if not n.startswith("sst-sal")])
def test_agreement_is_computed_again(name):
    found = systems.parity(name)
    assert found.keys() == ROWS[name]["parity"].keys()
    assert found.get("correlation", 1) > 0.9999
    assert found.get("largest difference", 0) < 1e-5
    assert ROWS[name]["parity"].get("correlation", 1) > 0.9999
    assert ROWS[name]["parity"].get("largest difference", 0) < 1e-5


@pytest.mark.real
@pytest.mark.parametrize(("name", "most"), [("sst-sal", 1e-4), ("sst-sal-noflow", 3e-5)])
def test_agreement_with_official_weights(real, name, most):
    real(MODELS[name].official)
    assert systems.parity(name)["largest difference"] < most
    assert ROWS[name]["parity"]["largest difference"] < most


def test_without_the_weights_the_row_says_so(monkeypatch):
    monkeypatch.setattr(download, "available", lambda path: False)
    assert systems.parity("sst-sal")["not run"].startswith("not run yet: the official weights")


def test_learning_is_what_the_record_of_it_says():
    runs = learning.load(ROOT / "data" / "runs" / "overfit.json")["runs"]
    for name, row in ROWS.items():
        wanted = [key for key, run in runs.items() if run["recipe"]["system"] == name]
        assert list(row["learning"]) == wanted
        for key in wanted:
            assert row["learning"][key]["cc"] == runs[key]["after"]["cc"], "benchmarks systems"


def test_whatever_was_measured_is_plausible_and_whatever_was_not_says_why():
    for name, row in ROWS.items():
        for part in ("speed", "yaw", "export"):
            if "not run" in row[part]:
                assert row[part]["not run"].startswith("not run yet: "), name
                continue
        if "not run" not in row["speed"]:
            assert row["speed"]["frames_per_s"] == pytest.approx(1 / row["speed"]["median_s"])
            assert row["speed"]["peak_mb"] > 4 * row["parameters"] / 1e6
        if "not run" not in row["yaw"] and not name.startswith("c"):  # all but the two cubes
            assert row["yaw"]["a quarter turn"] < 1e-5, name
        if "not run" not in row["export"]:
            assert row["export"]["works"] or row["export"]["why"], name


def test_a_system_that_ends_badly_keeps_its_row(monkeypatch):
    monkeypatch.setattr(systems, "PATIENCE", 1e-3)
    found = systems.apart("cube-unet")
    assert found["speed"]["not run"] == "not run yet: not ready after 0 s"
    row = {**ROWS["cube-unet"], **found, "learning": {"not run": "not run yet: why"}}
    text = page_systems.systems({**RESULTS, "systems": {"cube-unet": row}})
    assert "- cube-unet, speed: not run yet: not ready" in text
    assert "- cube-unet, learning: not run yet: why" in text


def test_the_page_has_a_line_for_each_in_both_tables():
    text = page_systems.systems(RESULTS)
    for name, row in ROWS.items():
        assert text.count(f"| {name} |") == 2
        assert f"{row['parameters']:,}" in text
