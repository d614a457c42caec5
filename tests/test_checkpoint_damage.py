"""A checkpoint that lacks a part, or has another in its place: one line, and nothing changes."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sal360.cli import main
from sal360.training import TrainingState, build_model, load_recipe, train
from sal360.training.checkpoint import KEY, read_checkpoint
from sal360.training.kills import Embedded

SMALL = ("--scale", "fast", "--set", "size=[16, 32]", "--set", "model.hidden=4", "--steps", "2",
         "--data", "worlds:train:2:1.5", "--validation", "none")  # fmt: skip
USUAL = {"size": [16, 32], "clip_length": 2, "steps": 6, "batch": 2, "lr": 0.01, "ema": 0.9,
         "validate_every": 2, "model": {"base": 2}}  # fmt: skip
WAYS = {
    "adam": USUAL,
    "sgd, scaled": USUAL | {"optimizer": "sgd", "momentum": 0.5, "precision": "fp16"},
}


def recipe(way="adam"):
    return load_recipe("cube-unet", "fast", WAYS[way])


def run(out, way="adam", **how):
    return train(recipe(way), Embedded(4), Embedded(1, 6), out, device="cpu", **how)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of each way one that was stopped after three of its steps."""
    kept = {}
    for way in WAYS:
        asked = iter(range(1, 9))
        kept[way] = tmp_path_factory.mktemp("run")
        run(kept[way], way, force=True, stop=lambda asked=asked: next(asked) == 3)
    return kept


def read(path):
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return json.loads(file.metadata()[KEY]), {name: file.get_tensor(name) for name in names}


def write(path, about, tensors):
    save_file(tensors, path, {KEY: json.dumps(about)})


def damaged(folder, place, change):
    """A copy of a run of whose checkpoint an entry is changed: `change(table, key)`."""
    path = folder / "checkpoint.safetensors"
    about, tensors = read(path)
    *tables, key = place.split(".")
    table = about
    for name in tables:
        table = table[name]
    change(table, key)
    write(path, about, tensors)
    return path


def drop(table, key):
    del table[key]


def null(table, key):
    table[key] = None


ENTRIES = [
    "format",
    "numbers", "numbers.step", "numbers.scaler",
    "loader", "loader.epoch", "loader.batch", "loader.plan",
    "extra", "extra.recipe", "extra.data", "extra.validation", "extra.started",
    "extra.progress",
    *(f"extra.progress.{name}" for name in (
        "validations", "best", "scores", "stale", "skipped", "made", "clips", "frames", "seconds",
        "waiting", "training", "joules",
    )),
    "extra.curve", "extra.curve.width", "extra.curve.sums",
    "extra.still",
    *(f"extra.still.{name}" for name in ("zeros", "since", "stretches", "loss", "same")),
    "tensors",
]  # fmt: skip
OLD = ("extra.validation", "extra.progress.made", "extra.still", "tensors")
"""What early checkpoints did not have: without it they are read."""
NONE = ("extra.progress.joules", "extra.still.loss")
"""What may be null."""


def test_every_entry_is_taken_apart(runs):
    about, _ = read(runs["adam"] / "checkpoint.safetensors")
    deeper = ("numbers", "loader", "extra")
    found = {*about, *(f"{top}.{name}" for top in deeper for name in about[top])}
    for table in ("progress", "curve", "still"):
        found |= {f"extra.{table}.{name}" for name in about["extra"][table]}
    assert found == set(ENTRIES) and len(set(ENTRIES)) == len(ENTRIES)


@pytest.mark.parametrize("change", [drop, null])
@pytest.mark.parametrize("place", ENTRIES)
def test_an_entry_that_is_missing_or_another_is_one_line(place, change, runs, tmp_path):
    folder = shutil.copytree(runs["adam"], tmp_path / "run")
    path = damaged(folder, place, change)
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    if place in (OLD if change is drop else NONE):
        assert run(folder, resume=True)["steps"] == 6
        return
    with pytest.raises(ValueError, match="wanted") as caught:
        run(folder, resume=True)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == kept


WRONG = [
    ("numbers.step", -1, "numbers.step: -1, wanted a whole number of at least 0"),
    ("numbers.step", True, "numbers.step: bool, wanted a whole number"),
    ("numbers.step", 7, "steps: 7, wanted at most 6"),
    ("loader.batch", -1, "loader: epoch 0, batch -1"),
    ("loader.batch", 9, "wanted whole numbers, of batch at most 8"),
    ("loader.epoch", "0", "loader: epoch '0'"),
    ("extra.curve.sums", [[1, 0.0, 1.0, 0.1]] * 3, "curve: wanted a width of at least 1, and sums"),
    ("extra.curve.sums", [[1, 0.0, 1.0, 0.01, 0.1]], "curve: 1 points, wanted 3 of 3 steps"),
    ("extra.curve.width", 0, "curve: wanted a width"),
    ("extra.progress.best", {"step": 2, "metric": "cc", "value": 2.0}, "best: cc 2 of step 2"),
    ("extra.progress.made", [{"step": 0}], "progress.made: wanted a list"),
    ("extra.progress.seconds", -1.0, "progress.seconds: wanted a number of at least 0"),
    ("extra.progress.validations", [[None]], "progress.validations: wanted a list of step, means"),
    ("extra.progress.scores", {"a": [None]}, "progress.scores: wanted video to metric"),
    ("extra.progress.skipped", [[None]], "progress.skipped: wanted clip to reason"),
    ("extra.progress.more", 1, "progress.more: unknown"),
    ("extra.started", "yesterday", "started: 'yesterday', wanted ISO 8601"),
    ("extra.still.stretches", [[1]], "still: wanted zeros"),
]


@pytest.mark.parametrize(("place", "value", "told"), WRONG)
def test_an_entry_that_cannot_be_is_named(place, value, told, runs, tmp_path):
    folder = shutil.copytree(runs["adam"], tmp_path / "run")
    path = damaged(folder, place, lambda table, key: table.update({key: value}))
    with pytest.raises(ValueError, match="wanted") as caught:
        run(folder, resume=True)
    assert str(caught.value).startswith(f"{path}: ") and told in str(caught.value)


@pytest.mark.parametrize("listed", [True, False], ids=["names", "no names"])
@pytest.mark.parametrize("way", WAYS)
def test_a_tensor_that_is_missing_or_of_another_kind_changes_nothing(way, listed, runs, tmp_path):
    """Also in a file of an older version, which does not name its tensors."""
    path, changes = tmp_path / "c.safetensors", {
        "missing": lambda value: None,
        "longer": lambda value: torch.cat((value.flatten(), value.flatten()[:1])),
        "of whole numbers": lambda value: value.to(torch.int16),
    }  # fmt: skip
    about, tensors = read(runs[way] / "checkpoint.safetensors")
    assert sum(name.startswith("optimizer.") for name in tensors) > 5
    if not listed:
        del about["tensors"]
    state = TrainingState(build_model(recipe(way)), recipe(way))
    before = {name: value.clone() for name, value in state.state_dict()[0].items()}
    dice = torch.get_rng_state()
    for name in {*sorted(tensors)[::3], "dice.cpu"}:
        value = tensors[name]
        for kind, change in changes.items():
            other = {**tensors, name: change(value)}
            if kind == "missing":
                del other[name]
                if not listed and way != "adam" and name.startswith("optimizer."):
                    continue  # SGD has one moment: it may never have had a gradient
            write(path, about, other)
            with pytest.raises(ValueError, match="wanted|no state of") as caught:
                read_checkpoint(path).restore(state)
            told = str(caught.value)
            assert told.startswith(f"{path}: ") and "\n" not in told, (name, kind)
            assert name.rpartition(".")[2] in told and state.step == 0
    now, _ = state.state_dict()
    assert now.keys() == before.keys() and torch.equal(torch.get_rng_state(), dice)
    assert all(torch.equal(now[key], value) for key, value in before.items())
    write(path, about, tensors)
    read_checkpoint(path).restore(state)
    assert state.step == 3


@pytest.mark.parametrize("name", ["optimizer.99.step", "optimizer.x.step", "optimizer", "more.a"])
def test_a_tensor_of_nothing_is_refused(name, runs, tmp_path):
    about, tensors = read(runs["adam"] / "checkpoint.safetensors")
    path = tmp_path / "c.safetensors"
    state = TrainingState(build_model(recipe()), recipe())
    write(path, about, tensors | {name: torch.zeros(1)})
    with pytest.raises(ValueError, match=f"{name}: unknown, wanted none of that name"):
        read_checkpoint(path)
    del about["tensors"]
    write(path, about, tensors | {name: torch.zeros(1)})
    with pytest.raises(ValueError, match=r"state: .*wanted"):
        read_checkpoint(path).restore(state)


def test_moments_are_those_of_the_recipes_optimiser(runs):
    found = {
        way: read_checkpoint(folder / "checkpoint.safetensors") for way, folder in runs.items()
    }
    for way, other in (("adam", "sgd, scaled"), ("sgd, scaled", "adam")):
        state = TrainingState(build_model(recipe(way)), recipe(way))
        with pytest.raises(ValueError, match=r"state: optimizer.0 \((step|momentum_buffer): "):
            found[other].restore(state)


@pytest.mark.parametrize("name", ["scale", "growth_factor", "_growth_tracker"])
@pytest.mark.parametrize("value", [None, -1.0, True, "2", float("nan"), drop])
def test_the_scale_of_the_loss_is_looked_at(name, value, runs, tmp_path):
    way = "sgd, scaled"
    about, tensors = read(runs[way] / "checkpoint.safetensors")
    if value is drop:
        del about["numbers"]["scaler"][name]
    else:
        about["numbers"]["scaler"][name] = value
    path = tmp_path / "c.safetensors"
    write(path, about, tensors)
    state = TrainingState(build_model(recipe(way)), recipe(way))
    with pytest.raises(ValueError, match=f"state: scaler.{name}: .*wanted as "):
        read_checkpoint(path).restore(state)
    assert state.step == 0


@pytest.fixture(scope="module")
def told_run(tmp_path_factory):
    """Of the command, and without its record, as if it had been killed."""
    out = tmp_path_factory.mktemp("told") / "run"
    assert main(["train", "sst-sal-noflow", *SMALL, "--out", str(out)]) == 0
    (out / "record.json").unlink()
    return out


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("numbers.step", "numbers.step: missing, wanted a whole number"),
        ("extra", "extra: null, wanted a table"),
        ("dice.cpu", "dice.cpu: missing"),
        ("optimizer.0.exp_avg", "optimizer.0.exp_avg: missing"),
        ("", ""),
    ],
)
def test_the_command_says_it_in_one_line(lost, told, told_run, tmp_path, capsys):
    folder = shutil.copytree(told_run, tmp_path / "run")
    path = folder / "checkpoint.safetensors"
    about, tensors = read(path)
    if lost == "extra":
        about["extra"] = None
    elif lost in tensors:
        del tensors[lost]
    elif lost:
        del about["numbers"]["step"]
    write(path, about, tensors)
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    status = main(["train", "sst-sal-noflow", *SMALL, "--out", str(folder), "--resume"])
    assert status == (2 if lost else 0)
    if lost:
        said = capsys.readouterr().err
        assert f"{path}: {told}" in said.splitlines()[-1] and "Traceback" not in said
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == kept
