"""A recipe that is printed works as a file unchanged, and the error of half a file names it."""

import pytest

from sal360.cli import main
from sal360.training import SCALES, load_recipe, parse_recipe, recipe_names
from sal360.training.command import _recipe
from sal360.training.recipe_text import recipe_text
from sal360.training.records import load_record


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_comes_back(name, scale):
    recipe = load_recipe(name, scale)
    assert parse_recipe(recipe_text(recipe), name, scale).digest == recipe.digest
    for other in SCALES:  # and is the same at all scales
        again = parse_recipe(recipe_text(recipe), name, other)
        assert {**again.settings(), "scale": scale} == recipe.settings()


ODD = {"a word": 'quote " \\ \x7f \n é \U0001f30d', "deep": {"list": [1, 2.5, True, "x"]},
       "none": {}, "large": 1e30, "small": 1e-9, "whole": -3, "inf": float("inf")}  # fmt: skip


def test_what_a_network_of_ones_own_may_be_told_comes_back():
    changes = {"model": ODD, "augment": {"tilt_deg": 9}, "lr": 3e-7, "compile": True}
    recipe = load_recipe("cube-unet", "fast", changes)
    again = parse_recipe(recipe_text(recipe), "cube-unet", "fast")
    assert again.settings() == recipe.settings() and again.model["deep"] == ODD["deep"]


SMALL = ("--set", "size=[16, 32]", "--set", "model.hidden=2", "--steps", "2", "--seed", "3")
DATA = ("--data", "worlds:train:2:1.5", "--validation", "worlds:val:1:0.75", "--device", "cpu")


def test_what_is_printed_trains_as_what_it_was_printed_of(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "sst-sal-noflow", "--scale", "fast", *SMALL]
    assert main([*words, "--print-recipe"]) == 0
    told = capsys.readouterr()
    assert told.err == "" and list(tmp_path.iterdir()) == []  # nothing is trained or written
    (tmp_path / "mine.toml").write_text(told.out, "utf-8")
    assert main(["train", "--recipe-file", "mine.toml", "--scale", "fast", *DATA]) == 0
    found = load_record(tmp_path / "runs" / "mine-fast-s3" / "record.json")
    asked = _recipe("sst-sal-noflow", None, "fast",
                    {"size": [16, 32], "model": {"hidden": 2}}, 2, 3, None, True)  # fmt: skip
    wanted = {**asked.settings(), "name": "mine"}
    assert {k: v for k, v in found["recipe"].items() if k != "digest"} == wanted
    capsys.readouterr()
    assert main(["train", "--recipe-file", "mine.toml", "--scale", "fast", "--print-recipe"]) == 0
    again = capsys.readouterr().out  # a file of one's own is printed, too
    assert again.splitlines()[1:] == told.out.splitlines()[1:]


def test_half_a_file_is_told_how_to_get_a_whole_one(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('system = "cp360"\n[ours]\nlr = 0.5\n', "utf-8")
    assert main(["train", "--recipe-file", str(tmp_path / "mine.toml"), "--scale", "fast"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(
        "mine: [ours] loss: missing; a whole recipe to begin with: "
        "sal360 train cp360 --print-recipe"
    )
    assert main(["train", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "sal360 train sst-sal --scale cpu --print-recipe > mine.toml" in told
    assert "one to begin with comes from --print-recipe." in told


def test_what_is_no_recipe_is_not_printed(capsys):
    assert main(["train", "nobody", "--print-recipe"]) == 2
    assert "name: 'nobody', wanted one of" in capsys.readouterr().err
    assert main(["train", "sst-sal", "--print-recipe", "--set", "lr=-1"]) == 2
    told = capsys.readouterr()
    assert "overrides lr: -1, wanted a number above 0" in told.err and told.out == ""
