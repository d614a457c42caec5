"""A recorded run is made again and compared; what is another is found, and where."""

import copy
import json

import pytest
import torch

from sal360.cli import main
from sal360.training import records
from sal360.training.again import compare, once_more, recipe_of
from sal360.training.data import open_data
from sal360.training.recipe import load_recipe
from sal360.training.records import load_record
from sal360.training.run import train

SMALL = ("--scale", "fast", "--set", "size=[16, 32]", "--set", "model.hidden=2", "--steps", "4",
         "--data", "worlds:train:2:1.5", "--validation", "worlds:val:1:0.75",
         "--validate-every", "2")  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "sst-sal-noflow", *SMALL, "--device", "cpu", "--out", str(out)]) == 0
    return out / "record.json"


@pytest.fixture
def record(path):
    return load_record(path)


def test_a_run_is_made_again_to_the_same_bits(path, tmp_path, capsys):
    before, threads = sorted(path.parent.iterdir()), torch.get_num_threads()
    out = tmp_path / "again"
    assert records.main([str(path), "--again", "--out", str(out)]) == 0
    told = capsys.readouterr()
    verdict = told.out.splitlines()[-1]
    assert verdict.startswith("same bits: weights best, last, curve to six digits (4 points)")
    assert "note:" not in told.err
    assert sorted(path.parent.iterdir()) == before and torch.get_num_threads() == threads
    for kind in ("best", "last"):
        name = f"{kind}.safetensors"
        assert (out / name).read_bytes() == (path.parent / name).read_bytes()
    assert records.main([str(path), "--again", "--out", str(out)]) == 2
    assert "holds a run" in capsys.readouterr().err


def test_a_record_that_was_changed_by_hand_is_found(record, tmp_path, capsys):
    """Made by other code, too: that is noted, and no reason not to look."""
    right = record["curve"]["loss"][2]
    record["curve"]["loss"][2] = right * 2
    record["code"] = "0" * 64
    changed = records.save_record(record, tmp_path / "changed.json")
    assert records.main([str(changed), "--again"]) == 1
    told = capsys.readouterr()
    found = told.out.splitlines()[-1]
    assert found == f"differs: first at step 2: loss {right:g}, wanted {right * 2:g}"
    assert "note: code: " in told.err and "000000000000 then" in told.err


def test_an_interrupted_run_is_made_again_as_far_as_it_came(tmp_path):
    changes = {"size": [16, 32], "steps": 50, "model": {"base": 2}, "clip_length": 2}
    data, done = open_data("worlds:train:2:1.5", size=(16, 32)), iter([False, False, True])
    recipe = load_recipe("cube-unet", "fast", changes)
    train(recipe, data, None, tmp_path / "run", device="cpu", command="sal360 train",
          stop=lambda: next(done))  # fmt: skip
    record = load_record(tmp_path / "run" / "record.json")
    assert (record["status"], record["steps"]) == ("interrupted", 3)
    assert once_more(record).startswith("same bits: weights last, curve to six digits (3 points)")


def changed(record, **entries):
    return {**copy.deepcopy(record), **entries}


def test_what_differs_is_named_with_its_step(record):
    assert compare(record, record).startswith("same bits: weights best, last")
    bare = changed(record, weights={})
    assert compare(bare, record) == (
        "same curve to six digits (4 points), same scores; the record has no hashes of weights"
    )
    other = changed(record)
    other["weights"]["last"]["sha256"] = "0" * 64
    assert compare(other, record).startswith("differs: weights last, with the same curve")
    assert compare(record, changed(record, weights={})).startswith("differs: weights best, last")
    scores = changed(record, scores={})
    assert compare(scores, record).startswith("differs: scores of the weights that were kept")
    late = changed(record)
    late["curve"]["gradient"][3] += 1
    late["validations"][0]["means"]["cc"] = 0.5
    assert compare(late, record).startswith("differs: first at step 2: validation's cc ")
    short = changed(record)
    for column in short["curve"].values():
        del column[2:]
    assert compare(short, record) == (
        "differs: first at step 2: a point of the curve that only one of them has"
    )
    fewer = changed(record, validations=record["validations"][:1])
    assert compare(record, fewer) == (
        "differs: first at step 4: a validation that only one of them has"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(steps=0), "steps: 0, wanted a run that made some"),
        (lambda r: r["data"].update(spec=None), "command: .*wanted one of sal360 train"),
        (lambda r: r.update(command=None), "command: none; wanted one of sal360 train"),
        (lambda r: r.update(command="rm -rf x"), "command: rm -rf x; wanted one of sal360 train"),
        (lambda r: r["device"].update(processes=2), "device: 2 processes, wanted 1"),
        (lambda r: r["device"].update(type="cuda", name="H100"), "device: H100 .cuda., and there"),
        (lambda r: r["data"].update(spec="no/such/folder"), "no/such/folder"),
        (lambda r: r["data"].update(names="f" * 16), "data: worlds:train:2:1.5: names '"),
        (lambda r: r["recipe"].update(lr=2.0), "recipe: digest .* cannot make again"),
        (lambda r: r["recipe"].update(system="mine"), "recipe: .*system of this package"),
    ],
)
def test_what_cannot_be_made_again_here_is_one_line(record, monkeypatch, change, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    change(record)
    with pytest.raises((ValueError, OSError), match=told) as caught:
        once_more(record)
    assert "\n" not in str(caught.value)


def test_a_record_holds_its_recipe(record):
    settings = {key: value for key, value in record["recipe"].items() if key != "digest"}
    assert recipe_of(record).settings() == settings
    recipe = load_recipe("cube-unet", "fast", {"augment": {"tilt_deg": 9}})
    told = json.loads(json.dumps({**recipe.settings(), "digest": recipe.digest}))
    assert recipe_of({"recipe": told}).digest == recipe.digest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--again"], "--again: 0 records, wanted one"),
        (["a.json", "b.json", "--again"], "--again: 2 records, wanted one"),
        (["a.json", "--out", "x"], "--out: wanted with --again"),
    ],
)
def test_options_that_do_not_belong_together(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        records.main(words)
    assert told in capsys.readouterr().err
