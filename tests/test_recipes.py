"""Recipes: what was published is quoted with its source, what is wrong is said in one line."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from sal360.models import MODELS, NETWORKS
from sal360.training import (
    INPUTS,
    SCALES,
    Published,
    build_model,
    load_recipe,
    parse_recipe,
    recipe_names,
)
from sal360.training.recipe import _RULES

ROOT = Path(__file__).resolve().parents[1]
MINIMAL = """
system = "sst-sal"
[sources]
code = "them/theirs at 0123456"
[published]
lr = { value = 0.8, source = "code" }
[ours]
loss = "sphere_kld"
anchor = 0
target = "relative"
target_scale = 1
optimizer = "sgd"
lr = 0.1
momentum = 0.9
weight_decay = 0
schedule = "constant"
gradient_clip = 0
batch = 1
clip_length = 4
tbptt = 2
size = [16, 32]
steps = 3
teacher_forcing = [0, 0]
seed = 1
model = { hidden = 4 }
[scale.fast]
lr = 0.2
model = { forget_bias = 1.0 }
[scale.gpu]
steps = 7
"""


def test_every_system_has_a_recipe_at_every_scale():
    assert set(INPUTS) <= set(recipe_names())
    for name in recipe_names():
        for scale in SCALES:
            recipe = load_recipe(name, scale)
            assert (recipe.name, recipe.scale) == (name, scale)
            assert recipe.system in INPUTS
            assert recipe.published


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipes_network_can_be_built_at_every_scale(name):
    for scale in SCALES:
        recipe = load_recipe(name, scale)
        model = build_model(recipe)
        assert model.input_size == recipe.size
        assert isinstance(model, MODELS[recipe.system].kind)


def test_a_card_names_the_recipe_of_its_system():
    for name in NETWORKS:
        assert load_recipe(MODELS[name].recipe, "fast").system == name


def test_scales_and_overrides_lie_over_ours_in_that_order():
    ours, fast = parse_recipe(MINIMAL, scale="cpu"), parse_recipe(MINIMAL, scale="fast")
    assert (ours.lr, ours.steps, ours.model) == (0.1, 3, {"hidden": 4})
    assert (fast.lr, fast.model) == (0.2, {"hidden": 4, "forget_bias": 1.0})
    mine = parse_recipe(MINIMAL, scale="fast", overrides={"lr": 0.5, "model": {"hidden": 6}})
    assert (mine.lr, mine.model) == (0.5, {"hidden": 6, "forget_bias": 1.0})
    assert isinstance(mine.lr, float) and mine.size == (16, 32)


def test_turns_are_merged_and_none_are_none():
    text = MINIMAL.replace("[ours]", "[ours]\naugment = { yaw = false, colour = 0.1 }", 1)

    def turns(**changes):
        return parse_recipe(text, "r", "fast", changes).augment

    assert turns() == {"yaw": False, "mirror": True, "tilt_deg": 0.0, "colour": 0.1}
    assert turns(augment={"colour": 0.3}) == turns() | {"colour": 0.3}
    assert turns(augment={}) == {}


def test_the_scale_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("SAL360_SCALE", "gpu")
    assert parse_recipe(MINIMAL).steps == 7
    monkeypatch.setenv("SAL360_SCALE", "huge")
    with pytest.raises(ValueError, match="scale: 'huge', wanted one of fast, cpu, gpu"):
        parse_recipe(MINIMAL)
    monkeypatch.delenv("SAL360_SCALE")
    wanted = "gpu" if torch.cuda.is_available() else "cpu"
    assert parse_recipe(MINIMAL).scale == wanted


def test_the_digest_changes_with_what_is_run_and_with_nothing_else():
    recipe = parse_recipe(MINIMAL, scale="fast")
    assert recipe.digest == parse_recipe(MINIMAL, scale="fast").digest
    other = re.sub("value = 0.8", "value = 0.9", MINIMAL)
    assert parse_recipe(other, scale="fast").digest == recipe.digest
    for change in ({"lr": 0.3}, {"seed": 2}, {"model": {"hidden": 5}}, {"size": [16, 34]}):
        assert parse_recipe(MINIMAL, scale="fast", overrides=change).digest != recipe.digest


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("lr = 0.1", "lr = -1", ValueError, "r: [ours] lr: -1, wanted a number above 0"),
        ("lr = 0.1", 'lr = "1"', TypeError, "r: [ours] lr: '1', wanted a number above 0"),
        ("lr = 0.1", "lr = nan", ValueError, "r: [ours] lr: nan, wanted"),
        ("lr = 0.1", "lr = inf", ValueError, "wanted a number above 0, at most 1e+37"),
        ("lr = 0.1", "lr = 2e37", ValueError, "wanted a number above 0, at most 1e+37"),
        ("lr = 0.1", f"lr = 1{'0' * 400}", ValueError, "wanted a number above 0, at most 1e+37"),
        ("lr = 0.1", f"lr = {'[' * 9999}", ValueError, "r: not TOML"),
        ("batch = 1", "", ValueError, "r: [ours] batch: missing"),
        ("lr = 0.1", "rate = 1", ValueError, "r: [ours] rate: unknown, wanted one of"),
        ("steps = 3", "steps = 2.5", TypeError, "r: [ours] steps: 2.5, wanted a whole number"),
        ("steps = 3", "steps = true", TypeError, "r: [ours] steps: True, wanted a whole number"),
        ("momentum = 0.9", "momentum = 1.0", ValueError, "wanted a number from 0 to below 1"),
        ('"sgd"', '"adam"', ValueError, "r: momentum: 0.9, wanted 0"),
        ('"sgd"', '"lion"', ValueError, "r: [ours] optimizer: 'lion', wanted 'sgd' or 'adam'"),
        ("[16, 32]", "[16]", ValueError, "r: [ours] size: [16], wanted [H, W]"),
        ("[16, 32]", "[16, 0.5]", ValueError, "r: [ours] size: [16, 0.5], wanted [H, W]"),
        ("tbptt = 2", "tbptt = 5", ValueError, "r: tbptt: 5, wanted at most clip_length, 4"),
        ("[0, 0]", "[1, 0]", ValueError, "r: teacher_forcing: (1.0, 0.0), wanted [0, 0]"),
        ("[0, 0]", "[1, 2]", ValueError, "wanted [first, last], shares from 0 to 1"),
        ("steps = 7", "stops = 7", ValueError, "r: [scale.gpu] stops: unknown"),
        ("[scale.gpu]", "[scale.tpu]", ValueError, "r: [scale] tpu: unknown, wanted one of fast"),
        ('"sst-sal"', '"sst"', ValueError, "r: system: 'sst', wanted one of spherical-unet"),
        ('"sst-sal"', '"cube-unet"', ValueError, "r: tbptt: 2, wanted 1: cube-unet answers one"),
        ('"sphere_kld"', '"weak"', ValueError, "r: loss: 'weak', wanted one of maps against"),
        ("anchor = 0", "anchor = 1", ValueError, "r: anchor: 1.0, wanted 0: the loss sphere_kld"),
        ('source = "code"', 'source = "?"', ValueError, "r: [published] lr: source '?', wanted"),
        ("{ value = 0.8", "{ worth = 0.8", ValueError, "r: [published] lr: {'worth': 0.8"),
        ("[ours]", "[our]", ValueError, "r: our: unknown, wanted one of system"),
        ("[ours]", "[ours", ValueError, "r: not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(old, new, error, message):
    assert old in MINIMAL
    with pytest.raises(error) as caught:
        parse_recipe(MINIMAL.replace(old, new, 1), "r", "fast")
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loss_between_frames_needs_all_of_them():
    with pytest.raises(ValueError, match="cp360: tbptt: 3, wanted clip_length, 5"):
        load_recipe("cp360", "fast", {"tbptt": 3})


def test_overrides_are_checked_as_files_are():
    with pytest.raises(ValueError, match=r"sst-sal: overrides lr: 0, wanted a number above 0"):
        load_recipe("sst-sal", "fast", {"lr": 0})
    with pytest.raises(ValueError, match="name: 'sstsal', wanted one of spherical-unet"):
        load_recipe("sstsal", "fast")


def test_every_setting_has_a_rule_and_a_place_in_the_docstring():
    from sal360.training import Recipe

    for key in _RULES:
        assert re.search(rf"\b{key}\b", Recipe.__doc__), key


def test_a_published_number_says_where_it_was_read():
    """Zhang's, Vo's, CP-360's and SST-Sal's rates, each by another author."""
    found = {name: load_recipe(name, "fast").published["lr"] for name in INPUTS}
    assert all(isinstance(one, Published) and len(one.source) > 20 for one in found.values())
    values = {name: one.value for name, one in found.items()}
    assert values == {
        "spherical-unet": 0.3,
        "lookup-unet": 1e-4,
        "cube-unet": 1e-3,
        "cp360": 1e-6,
        "sst-sal": 0.8,
        "sst-sal-noflow": 1e-3,
    }
    assert "issue" in found["sst-sal-noflow"].source and "45073a9" in found["spherical-unet"].source


def test_recipes_are_part_of_what_is_installed():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert pyproject["tool"]["setuptools"]["package-data"]["sal360.training"] == ["recipes/*.toml"]
