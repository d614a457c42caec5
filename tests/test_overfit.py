"""Can each system learn one clip? The record, what stands in it, and that it comes out again.

One recipe is run to its end; of the others the first steps, which must be those of the record.
"""

import hashlib
import json
import math
from itertools import islice, repeat
from pathlib import Path

import pytest
import torch

from sal360.datasets import download
from sal360.metrics import cc
from sal360.training import INPUTS, build_model, fit, load_recipe, recipe_names
from sal360.training import overfit as learning
from sal360.training.inputs import clip_inputs
from sal360.training.objectives import map_loss

PATH = Path(__file__).resolve().parents[1] / "data" / "runs" / "overfit.json"
WHOLE = "cube-unet"
"""The recipe that is run to its end: the one that takes least."""
SUPERVISED = [name for name in recipe_names() if load_recipe(name, "fast").loss != "weak"]


@pytest.fixture(scope="module")
def record():
    return learning.load(PATH)


def small(name="lookup-unet", **changes):
    return load_recipe(name, "fast", {"size": [16, 32], "clip_length": 3, "steps": 4, **changes})


# --- what was recorded ---


def test_the_record_is_of_the_recipes_as_they_are(record):
    assert list(record["runs"]) == list(recipe_names())
    for name, run in record["runs"].items():
        recipe = load_recipe(name, "fast")
        assert run["digest"] == recipe.digest, f"python -m sal360.training.overfit {name}"
        assert run["recipe"] == recipe.settings()
        assert len(run["curve"]) == min(learning.POINTS, recipe.steps)
        assert run["fall"] == pytest.approx(
            run["before"]["loss"] / max(run["after"]["loss"], 1e-12)
        )
        assert len(run["code"]) == 64 and run["machine"]["torch"]
    assert PATH.stat().st_size < 60_000


def test_every_system_learned_its_clip(record):
    """A loss ten times smaller and, with a truth to learn from, a CC above .9, in closed loop."""
    for name in SUPERVISED:
        run = record["runs"][name]
        assert run["learned"] and run["after"]["cc"] > 0.9 > 0.2 > run["before"]["cc"], name
        assert run["fall"] > (6 if name.startswith("sst-sal") else 10), name
    by_system = {run["recipe"]["system"] for run in record["runs"].values() if run["learned"]}
    assert by_system == set(INPUTS)


def test_a_fall_to_the_flat_map_would_be_no_learning(record):
    """Losses end far below that of the best map without any place."""
    for name in SUPERVISED:
        run = record["runs"][name]
        assert run["after"]["loss"] < run["flat"] / 5, name


def test_in_closed_loop_a_map_is_less_right_than_with_the_truth_before_it(record):
    for name in ("spherical-unet", "lookup-unet"):
        after = record["runs"][name]["after"]
        assert after["cc"] < after["cc, given the truth before"] + 0.005


def test_the_published_losses_ask_for_an_empty_map(record):
    """Without gaze the loss falls to nothing, and so does the map, and it was never right."""
    run = record["runs"]["cp360-unanchored"]
    assert run["fall"] > 1e3 and run["after"]["largest"] < 1e-2 * run["before"]["largest"]
    assert run["after"]["cc"] < 0.3
    held = record["runs"]["cp360"]
    assert held["recipe"]["anchor"] > 0 and not held["learned"]
    assert held["after"]["largest"] > 1  # densities cannot be empty


def test_the_registry_knows_the_record():
    remote = download.registry()["runs/overfit.json"]
    assert remote.sha256 == hashlib.sha256(PATH.read_bytes()).hexdigest()
    assert remote.url.endswith("/data/runs/overfit.json")


# --- that it comes out again ---


def test_one_system_from_beginning_to_end(record):
    stored = record["runs"][WHOLE]
    found, model = learning.overfit(load_recipe(WHOLE, "fast"))
    assert found["learned"] and found["after"]["cc"] > 0.9
    assert found["before"] == pytest.approx(stored["before"], rel=1e-3)
    assert found["flat"] == pytest.approx(stored["flat"], rel=1e-4)
    assert found["parameters"] == stored["parameters"]
    # Rounding differs between machines and numbers of threads, and sixty steps make it large: two
    # threads end at a CC of .97 where one ends at .91. The beginning must agree, the end be good.
    early = len(stored["curve"]) // 4
    assert found["curve"][:early] == pytest.approx(stored["curve"][:early], rel=0.05)
    assert found["fall"] > 10
    assert not any(p.isnan().any() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != WHOLE])
def test_the_others_begin_as_recorded(record, name):
    recipe, stored = load_recipe(name, "fast"), record["runs"][name]
    model, batch = build_model(recipe), learning.one_clip(recipe)
    assert learning.measure(model, batch, recipe) == pytest.approx(
        stored["before"], rel=1e-2, abs=1e-3
    )
    parts = torch.arange(recipe.steps).tensor_split(len(stored["curve"]))
    steps = islice(fit(model, repeat(batch), recipe), len(parts[0]))
    mean = sum(step.loss for step in steps) / len(parts[0])
    assert mean == pytest.approx(stored["curve"][0], rel=2e-2)


# --- how it is measured ---


def test_the_clip_has_truth_and_the_flow_of_every_frame():
    batch = learning.one_clip(small(batch=2))
    assert batch.frames.shape == (2, 3, 3, 16, 32) and batch.flow.shape == (2, 3, 2, 16, 32)
    assert torch.equal(batch.truth[0], batch.truth[1]) and bool(batch.flow[:, -1].any())


def test_it_is_scored_in_closed_loop():
    recipe = small()
    model, batch = build_model(recipe).eval(), learning.one_clip(small())
    found = learning.measure(model, batch, recipe)
    with torch.no_grad():
        raw = model.rollout(batch.frames)
        forced = model.rollout(batch.frames, torch.cat((torch.ones_like(raw[:, :1]),
                               batch.truth[:, :-1] * 4 * math.pi), 1))  # fmt: skip
    assert found["loss"] == pytest.approx(float(map_loss(raw, batch.truth, recipe)))
    assert found["cc"] == pytest.approx(float(cc(raw.clamp_min(0), batch.truth).mean()))
    wanted = float(cc(forced.clamp_min(0), batch.truth).mean())
    assert found["cc, given the truth before"] == pytest.approx(wanted, abs=1e-5)
    assert found["cc"] != found["cc, given the truth before"]


def test_a_clip_model_is_called_with_the_whole_clip():
    recipe = small("sst-sal-noflow", tbptt=3)
    model, batch = build_model(recipe).eval(), learning.one_clip(recipe)
    with torch.no_grad():
        raw = model(clip_inputs(model, batch))
    assert torch.equal(learning.answer(model, clip_inputs(model, batch)), raw)


@pytest.mark.parametrize("loss", ["sphere_mse", "sphere_kld", "cc"])
@pytest.mark.parametrize("target", ["relative", "peak"])
def test_no_flat_map_is_better_than_the_flat_loss(loss, target):
    recipe = small(loss=loss, target=target)
    batch = learning.one_clip(recipe)
    best = learning.flat_loss(batch, recipe)
    for level in torch.linspace(0.01, 3, 40):
        flat = torch.full_like(batch.truth, float(level))
        assert best <= float(map_loss(flat, batch.truth, recipe)) + 1e-6


def test_a_record_is_written_and_added_to(tmp_path, monkeypatch):
    real = learning.load_recipe

    def quick(name, scale):
        return real(name, scale, {"size": [16, 32], "clip_length": 2, "steps": 2,
                                  "tbptt": 2 if name.startswith("sst") else 1})  # fmt: skip

    monkeypatch.setattr(learning, "load_recipe", quick)
    out, told = tmp_path / "overfit.json", []
    learning.run(["sst-sal"], out=out, report=told.append)
    first = json.loads(out.read_text("utf-8"))["runs"]["sst-sal"]
    assert "CC" in told[0] and "NOT LEARNED" in told[0]
    record = learning.run(["cube-unet"], out=out)
    assert list(record["runs"]) == ["cube-unet", "sst-sal"]
    assert learning.load(out) == record and record["runs"]["sst-sal"] == first
    whole, done = learning.overfit, []

    def stopped(recipe, device):
        if done:
            raise KeyboardInterrupt
        done.append(recipe.name)
        return whole(recipe, device)

    monkeypatch.setattr(learning, "overfit", stopped)
    with pytest.raises(KeyboardInterrupt):  # what was done by then is there
        learning.run(["cube-unet", "lookup-unet"], out=tmp_path / "some.json")
    assert list(learning.load(tmp_path / "some.json")["runs"]) == done == ["cube-unet"]


def test_the_command_line(capsys):
    with pytest.raises(SystemExit) as ended:
        learning.main(["nobody"])
    assert ended.value.code == 2
    assert "name: 'nobody', wanted one of spherical-unet" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        learning.main(["cube-unet", "--device", "tpu"])
    assert "device: 'tpu', not to be had here" in capsys.readouterr().err
