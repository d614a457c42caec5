"""Models by name, their cards, what they cost, and files of weights that know what they hold."""

import json
import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sal360.cli import main
from sal360.models import (
    MODELS,
    NETWORKS,
    CubeUNet,
    SSTSal,
    load_model,
    name_of,
    save_weights,
    shipped,
)
from sal360.models.cost import WithoutValues, count, flops, on_meta, parameters
from sal360.models.weights import read_about, remembers_settings, write_weights
from sal360.nn import CrownConv2d, CubePad2d, SphereConv2d
from sal360.nn.reads import out_size, reads_of

PUBLISHED = {
    "spherical-unet": 12_359_424,
    "lookup-unet": 1_701_889,
    "cube-unet": 1_948_577,
    "cp360": 385_569_032,
    "sst-sal": 55_912,
    "sst-sal-noflow": 4_288,
}
TINY = {"base": 2, "hidden": 2, "widths": (2, 2, 4, 4, 2, 2, 1), "width": 2}


def tiny(name, **settings):
    """A network of a few hundred parameters."""
    import inspect

    known = inspect.signature(MODELS[name].kind).parameters
    chosen = {k: v for k, v in TINY.items() if k in known}
    return load_model(name, **{**chosen, **settings})


# --- cards ---


@pytest.mark.parametrize("name", NETWORKS)
def test_cards_say_what_one_should_know(name):
    card = MODELS[name]
    for fact in ("summary", "inputs", "conventions", "source", "data", "licence", "limits"):
        assert getattr(card, fact), fact
    assert not card.is_baseline and card.default_size in card.sizes


@pytest.mark.parametrize("name", NETWORKS)
def test_recipes_exist(name):
    recipes = pytest.importorskip("sal360.training.recipe")
    assert MODELS[name].recipe in recipes.recipe_names()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_counted_not_typed(name):
    """Published sizes; made without memory, and equal to those of a real network."""
    card = MODELS[name]
    assert card.parameters("published") == PUBLISHED[name]
    real = card.build("small")
    assert card.parameters("small") == parameters(real) == sum(p.numel() for p in real.parameters())
    assert name_of(real) == name


def test_a_network_without_values_takes_no_memory_and_leaves_no_trace():
    with WithoutValues():
        shadow = CubeUNet()
    assert all(p.is_meta for p in shadow.parameters())
    assert not torch.empty(1).is_meta


def test_every_model_says_how_it_was_made():
    for name in NETWORKS:
        model = tiny(name)
        assert model.settings["convention"] == "corrected" == model.convention
        assert set(model.origin) == {"name", "weights", "sha256", "settings"}
        assert json.loads(json.dumps(model.origin)) == model.origin
        assert tiny(name, convention="upstream").convention == "upstream"


def test_settings_are_remembered_with_their_defaults():
    @remembers_settings
    class Scaled(nn.Module):
        """Doc."""

        def __init__(self, by, shift=0.0, *, flat=False):
            super().__init__()

    assert Scaled(2, flat=True).settings == {"by": 2, "shift": 0.0, "flat": True}
    assert Scaled.__doc__ == "Doc."
    with pytest.raises(TypeError):
        Scaled()


# --- cost ---


@torch.no_grad()
def counted(layer, *shape):
    """With values and without; they must agree."""
    with_values = count(lambda: layer(torch.zeros(shape)))
    shadow = on_meta(layer)
    assert count(lambda: shadow(torch.zeros(shape, device="meta"))) == with_values
    return with_values


def test_cost_of_a_plain_convolution():
    assert counted(nn.Conv2d(3, 5, 3, padding=1), 2, 3, 8, 16) == 2 * (2 * 8 * 16) * 5 * 3 * 9
    grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2, stride=2)
    assert counted(grouped, 1, 4, 8, 16) == 2 * (4 * 8) * 6 * 2 * 9


def reads(layer, H, W, products):
    return len(reads_of(layer.pattern(H, W), "bilinear", products=products).forward.rows)


def test_cost_of_sampled_convolutions_by_hand():
    """Products of pixels, taps and channels, and 2 for each pixel read in each channel read."""
    H, W = 16, 32
    narrowing = SphereConv2d(8, 4)  # multiplies first: reads 4 channels
    by_hand = 2 * H * W * 8 * 4 * 9 + 2 * 4 * reads(narrowing, H, W, True)
    assert counted(narrowing, 1, 8, H, W) == by_hand
    widening = SphereConv2d(4, 8)  # reads first: 4 channels too
    by_hand = 2 * H * W * 8 * 4 * 9 + 2 * 4 * reads(widening, H, W, False)
    assert counted(widening, 1, 4, H, W) == by_hand
    strided = SphereConv2d(4, 8, stride=2)  # where an output stands, and nowhere else
    by_hand = 2 * (H * W // 4) * 8 * 4 * 9 + 2 * 4 * reads(strided, H, W, False)
    assert counted(strided, 1, 4, H, W) == by_hand
    assert out_size(strided.pattern(H, W)) == (8, 16)
    crown = CrownConv2d(4, 4, (3, 4), 0.3)  # twelve weights, nine places
    by_hand = 2 * H * W * 4 * 4 * 9 + 2 * 4 * reads(crown, H, W, True)
    assert counted(crown, 1, 4, H, W) == by_hand


def test_cost_of_the_cubes_rim():
    """Lines are copied and cost nothing; each corner mixes a few texels."""
    pad = CubePad2d(1)
    S, C = 8, 4
    cost = counted(pad, 6, C, S, S)
    corners = 6 * 4
    assert cost % (2 * C) == 0 and corners < cost / (2 * C) <= 24 * corners
    assert counted(pad, 6, 2 * C, S, S) == 2 * cost
    assert counted(pad, 6, C, 2 * S, 2 * S) == cost


def test_cost_of_a_network_by_hand():
    """SST-Sal: two convolutions of a cell, pooling and doubling, a state from before."""
    H, W, h = 16, 32, 4
    model = SSTSal(in_channels=3, hidden=h)
    conv1, conv2 = model.encoder.lstm.conv, model.decoder.lstm.conv
    first = 2 * H * W * (3 + h) * 4 * h * 9 + 2 * (3 + h) * reads(conv1, H, W, False)
    second = 2 * (H * W // 4) * (h + 1) * 4 * 9 + 2 * 4 * reads(conv2, H // 2, W // 2, True)
    doubling = 8 * (H + 4) * (W + 4)
    pool = count(lambda: model.pool(torch.zeros(1, h, H, W)))
    assert flops(model, (H, W)) == first + second + doubling + pool
    assert flops(model, (H, W), batch=3) == 3 * flops(model, (H, W))
    assert all(not p.is_meta for p in model.parameters())


def test_cost_at_the_published_size_is_counted_in_seconds():
    """The Spherical U-Net alone: from the seven layers, 2 x pixels x channels x places."""
    card = MODELS["spherical-unet"]
    widths = [(4, 64), (64, 128), (128, 256), (256, 256), (512, 128), (256, 64), (128, 1)]
    taps = [(8, 16), (4, 8), (4, 8), (8, 16), (4, 8), (4, 8), (4, 8)]
    halvings = [0, 1, 2, 3, 2, 1, 0]
    products = 0
    for k, ((i, o), (circles, bearings), s) in enumerate(zip(widths, taps, halvings, strict=True)):
        places = 1 + (circles - 1) * bearings - (bearings - 1 if k == 3 else 0)  # a pole once
        products += 2 * (128 >> s) * (256 >> s) * i * o * places
    total = card.flops("published")
    assert 1.0 < total / products < 1.2  # the rest are reads
    assert card.flops("small") < total / 20


def test_cost_needs_a_network():
    with pytest.raises(TypeError, match="Uniform has no step"):
        flops(MODELS["uniform"].build())


# --- files ---


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("convention", ["corrected", "upstream"])
def test_a_file_is_enough(name, convention, tmp_path):
    torch.manual_seed(1)
    model = tiny(name, convention=convention)
    model.input_size, model.forgets = (18, 36), 5
    path = save_weights(model, tmp_path / "w.safetensors", steps=3, recipe={"lr": 0.1})
    again = load_model(name, path)
    assert type(again) is type(model) and again.convention == convention
    assert again.settings == model.settings and again.input_size == (18, 36)
    assert again.rate == model.rate and again.forgets == 5
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    about = read_about(path)
    assert about["model"] == name and about["record"] == {"steps": 3, "recipe": {"lr": 0.1}}
    assert again.origin["weights"] == str(path) and len(again.origin["sha256"]) == 64
    other = {"corrected": "upstream", "upstream": "corrected"}[convention]
    assert load_model(name, path, convention=other).convention == other
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_official_weights_build_the_published_network(real):
    real("weights/SST_Sal_wo_OF.pth")
    model = load_model("sst-sal-noflow", "official")
    assert model.convention == "upstream" and model.origin["settings"]["hidden"] == 9
    assert load_model("sst-sal-noflow", "official", convention="corrected").warm_up == 0


def test_a_file_without_metadata_needs_the_right_settings(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file(tiny("cube-unet").state_dict(), path)
    assert read_about(path) is None
    assert load_model("cube-unet", path, base=2).settings["base"] == 2
    with pytest.raises(ValueError, match=r"plain.safetensors: does not fit cube-unet: "):
        load_model("cube-unet", path)


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "w.safetensors"
    model = tiny("sst-sal-noflow")
    save_weights(model, path, note="first")
    with pytest.raises(TypeError):
        save_weights(model, path, note=object())
    assert read_about(path)["record"] == {"note": "first"}
    assert os.listdir(tmp_path) == ["w.safetensors"]
    with pytest.raises(ValueError, match=r"w.pth, wanted a name that ends in .safetensors"):
        save_weights(model, tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        save_weights(model, tmp_path / "none" / "w.safetensors")
    with pytest.raises(ValueError, match="model: a Linear, wanted one of"):
        save_weights(nn.Linear(1, 1), path)


def test_shared_tensors_and_strided_ones_are_written(tmp_path):
    path = write_weights(
        tmp_path / "s.safetensors",
        {"a": torch.arange(6.0).view(2, 3).t()},
        {"model": "x", "settings": {}, "record": {}},
    )
    assert torch.equal(load_file(path)["a"], torch.arange(6.0).view(2, 3).t())


BAD_METADATA = {
    "not JSON": "{",
    "not a table": "[1]",
    "no model": '{"settings": {}, "record": {}}',
    "settings that are none": '{"model": "cube-unet", "settings": 3, "record": {}}',
    "deep": "[" * 100_000,
    "long": '{"model": "cube-unet", "settings": {}, "record": {"x": "' + "y" * (1 << 20) + '"}}',
}


@pytest.mark.parametrize("text", BAD_METADATA.values(), ids=BAD_METADATA)
def test_metadata_that_makes_no_sense_is_refused(text, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(tiny("cube-unet").state_dict(), path, {"sal360": text})
    with pytest.raises(ValueError, match=r"w.safetensors: metadata 'sal360' is not"):
        load_model("cube-unet", path)


def test_errors_name_what_was_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "BUNDLED", tmp_path)
    with pytest.raises(ValueError, match="name: 'unet', wanted one of spherical-unet"):
        load_model("unet")
    with pytest.raises(ValueError, match="size: 'huge', wanted one of published, small"):
        load_model("cube-unet", size="huge")
    with pytest.raises(ValueError, match="hidden: no setting of cube-unet, wanted one of base"):
        load_model("cube-unet", hidden=3)
    with pytest.raises(ValueError, match="base: no setting of equator, it takes none"):
        load_model("equator", base=3)
    with pytest.raises(ValueError, match="cube-unet has no official weights"):
        load_model("cube-unet", "official")
    with pytest.raises(
        ValueError, match="none of sst-sal come with this version, wanted a file or"
    ):
        load_model("sst-sal", "bundled")
    with pytest.raises(FileNotFoundError, match=r"none.safetensors: no such file"):
        load_model("cube-unet", tmp_path / "none.safetensors")
    path = save_weights(tiny("sst-sal-noflow"), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="weights of sst-sal-noflow, wanted those of sst-sal"):
        load_model("sst-sal", path)
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ValueError, match=r"bad.safetensors: not a safetensors file"):
        load_model("cube-unet", tmp_path / "bad.safetensors")


# --- the command line ---


def test_info_models_is_a_table(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "BUNDLED", tmp_path)
    assert main(["info", "models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in MODELS:
        assert any(line.split()[:1] == [name] for line in lines), name
    row = next(line for line in lines if line.startswith("cube-unet"))
    assert "1,948,577" in row and "none yet" in row
    assert max(map(len, lines)) <= 100


def test_info_of_one_model_is_its_card(capsys):
    assert main(["info", "sst-sal-noflow"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    card = MODELS["sst-sal-noflow"]
    for fact in (card.summary, card.inputs, card.limits, card.source, card.licence, card.data):
        assert fact in out
    assert "4,288" in out and f"{card.flops() / 1e9:.2f} GFLOP" in out
    assert main(["info", "sst-sal-noflow", "--json"]) == 0
    card_in_json = json.loads(capsys.readouterr().out)
    assert card_in_json["parameters"] == 4288 and math.isclose(card_in_json["flops"], card.flops())
    assert main(["info", "equator"]) == 0
    assert "Never looks at the video" in capsys.readouterr().out
    assert main(["info", "unet"]) == 2
    assert "wanted models or one of spherical-unet" in capsys.readouterr().err


def test_nobody_is_given_noise_by_mistake(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shipped, "BUNDLED", tmp_path / "none")
    from sal360.images import write_image

    write_image(tmp_path / "p.png", np.full((16, 32, 3), 99, np.uint8))
    ask = ["predict", str(tmp_path / "p.png"), "--out", str(tmp_path / "out"), "--no-overlay"]
    assert main([*ask, "--model", "cube-unet"]) == 2
    assert "cube-unet: has no weights yet, wanted --weights FILE" in capsys.readouterr().err
    path = save_weights(tiny("cube-unet", input_size=(16, 32)), tmp_path / "w.safetensors")
    assert main([*ask, "--model", "cube-unet", "--weights", str(path)]) == 0
    record = json.loads((tmp_path / "out" / "p" / "record.json").read_text())
    assert record["model"]["settings"]["base"] == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_of_torch_save_is_read_back(name, tmp_path):
    model = tiny(name)
    torch.save(model.state_dict(), tmp_path / "state.pth")
    again = tiny(name, weights=tmp_path / "state.pth")
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    with pytest.raises(ValueError, match="state.pth: does not fit .* does not say its settings"):
        load_model(name, tmp_path / "state.pth", size="small")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = tiny("cube-unet")
    model.head.bias.data.fill_(math.nan)
    path = save_weights(model, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="head.bias holds NaN"):
        load_model("cube-unet", path)


def test_what_is_not_so_is_not_written_down(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="name: 'cp360', but .* a SSTSal, wanted a CP360"):
        save_weights(tiny("sst-sal"), path, name="cp360")
    with pytest.raises(ValueError, match="name: 'sst-sal', but .* with in_channels=6"):
        save_weights(tiny("sst-sal-noflow"), path, name="sst-sal")
    with pytest.raises(TypeError, match="loss: Object of type Tensor"):
        save_weights(tiny("sst-sal"), path, loss=torch.zeros(2))
    assert not path.exists()


@pytest.mark.parametrize(
    ("error", "told", "name", "settings"),
    [
        (ValueError, "device: 'gpu', not to be had", "cube-unet", {"device": "gpu"}),
        (TypeError, r"input_size: 3, wanted \(H, W\)", "cube-unet", {"input_size": 3}),
        (TypeError, "input_size: '64x128'", "lookup-unet", {"input_size": "64x128"}),
        (TypeError, "widths: 4, wanted seven", "spherical-unet", {"widths": 4}),
    ],
)
def test_settings_of_a_wrong_kind_are_named(error, told, name, settings):
    with pytest.raises(error, match=told):
        tiny(name, **settings)


def test_operations_of_an_own_model_need_a_size():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 3, padding=1)

        def step(self, frame, state=None):
            return self.conv(frame), None

    assert flops(Own(), (8, 16)) == 2 * 8 * 16 * 27
    with pytest.raises(TypeError, match="Own has no input_size"):
        flops(Own())
    with pytest.raises(ValueError, match="batch: 0"):
        flops(Own(), (8, 16), batch=0)
