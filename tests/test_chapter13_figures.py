"""Chapter 13: the figure draws the gradients it is given, planted faults are there, the record is
what its code makes."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sal360 import figures
from sal360.course import chapter13, check
from sal360.datasets import download
from sal360.experiments import unet
from sal360.metrics import cc
from sal360.models import checks
from sal360.models.cost import parameters
from sal360.sphere import erp_directions

H, W = 16, 32
PATH = Path(__file__).resolve().parents[1] / "data" / "runs" / "unet.json"


@pytest.fixture(scope="module")
def record():
    return unet.load(PATH)


@pytest.fixture(scope="module")
def plot():
    level, polar = torch.zeros(2, H, W)
    level[8, 16], level[8, 18] = 1, 0.01  # its gradient is a tenth
    polar[0] = 1
    return figures.receptive_fields(
        {"a": torch.stack((level, polar)), "b": torch.stack((polar, level))}, (8, 0)
    )


def test_the_fields_need_no_network_and_say_where_they_are(plot):
    html = plot.html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 60_000
    labels = [step.label for step in plot.figure.layout.sliders[0].steps]
    assert labels == ["output pixel at latitude -6°", "output pixel at latitude 84°"]
    assert "a 2 columns at -6 and 32 at 84 degrees; b 32 columns" in plot.alt


def test_the_fields_are_decades_of_the_gradient(plot):
    wide, close, cross = plot.figure.data[:3]
    codes = np.asarray(wide.z, int)
    assert codes.shape == (8, 16) and codes[4, 8] == 255 and codes[4, 9] == 170
    assert codes.sum() == 255 + 170
    assert cross.x[0] == pytest.approx(5.625) and cross.y[0] == pytest.approx(-5.625)
    near = np.asarray(close.z, int)
    middle = near.shape[0] // 2
    assert near[middle, middle] == 255
    # Two columns to the east: 22.5 degrees of 45 on either side.
    row = near[middle, middle + 5 :]
    assert abs(int(row.argmax()) + 5 - 8) <= 1 and row.max() > 140
    assert near[:, : middle - 6].max() == 0


def test_around_a_pole_a_row_is_a_round_spot(plot):
    polar = np.asarray(plot.figure.frames[1].data[1].z, int)
    middle = polar.shape[0] // 2
    bright = np.argwhere(polar > 200)
    place = (bright - middle) * 90 / (len(polar) - 1)
    # The pole lies half a row, 5.6 degrees, north (up) of the pixel; the row is a disc about it.
    assert np.allclose(place.mean(0), (-5.6, 0), atol=1.5)
    assert np.hypot(*(place - (-5.6, 0)).T).max() < 17


def test_fields_and_rows_go_together():
    with pytest.raises(ValueError, match="^fields: wanted"):
        figures.receptive_fields({"a": torch.zeros(2, H, W)}, (0, 1, 2))


def test_the_planted_way_back_cuts_the_graph_and_nothing_else():
    faces = torch.rand(1, 6, 1, 8, 8, requires_grad=True)
    cut = chapter13.back_to_panorama(faces, 16)
    from sal360.projections import cube_to_erp

    assert torch.equal(cut, cube_to_erp(faces, 16)) and cut.requires_grad
    cut.sum().backward()
    assert faces.grad is None


@pytest.mark.parametrize("faults", [(), ("cut",), ("times zero", "unused"), chapter13.FAULTS])
def test_planted_networks_have_the_faults_they_say(faults):
    network, x = chapter13.planted_network(*faults), torch.rand(1, 1, 4, 8)
    dead = set()
    try:
        checks.no_dead_parameters(network, x)
    except checks.DeadParametersError as error:
        dead = {name.split(".")[0] for name in error.names}
    assert dead == {fault.replace(" ", "_") for fault in faults}
    with pytest.raises(ValueError, match="^faults: "):
        chapter13.planted_network("rust")


def turn_by_a_power_of_two(network, H, W):
    x = torch.rand(1, 1, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    still = network(x)
    for k in (1, 2, 4, 8, 16, 32):
        if torch.allclose(network(x.roll(k, -1)), still.roll(k, -1), atol=1e-6):
            return k
    return W


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("13.1", lambda i, t, w, b: i * sum(w), "you gave"),
        (
            "13.1",
            lambda i, t, w, b: chapter13._numbers(i, t, w, bias=b) + 2 * sum(w[:-1]),
            "running means and variances are not trained",
        ),
        ("13.2", lambda x, seen: torch.cat((seen, chapter13._doubled(x)), 1), "stands behind"),
        (
            "13.2",
            lambda x, seen: torch.cat(
                (chapter13._doubled(x)[..., : seen.shape[-2], : seen.shape[-1]].detach(), seen), 1
            ),
            "has left the graph",
        ),
        ("13.3", lambda network, x: {"sound.weight"}, "you blame ['sound.weight']"),
        ("13.4", lambda network, H, W: 1, "wanted 2 (with your input, what else would pass?)"),
        ("13.4", turn_by_a_power_of_two, "planted '6', 4 x 48: you gave 48, wanted 6"),
        ("13.4", lambda network, H, W: 8, "planted 'any', 4 x 48: you gave 8, wanted 1"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_a_wider_network_without_skips_has_as_many_numbers():
    wanted = parameters(unet.SmallUNet(4, 8))
    made = parameters(unet.SmallUNet(4, unet.wider(8), skips=False))
    assert abs(made / wanted - 1) < 0.05


def test_skips_carry_what_was_seen():
    """Without them a change inside a block that keeps its maximum cannot come through."""
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1
    x = torch.zeros(1, 1, 16, 32)
    x[..., 3, 5] = 1
    moved = x.roll(1, -2).roll(-1, -1)  # (4, 4): of another block of four rows
    inside = x.roll(-1, -2)  # (2, 5): of the same block of two and of four
    for skips, told in ((True, False), (False, True)):
        net = unet.SmallUNet(1, 2, skips)
        with torch.no_grad():
            for conv in net.convs:
                conv.bias.zero_()
                conv.weight.copy_(middle.expand_as(conv.weight))
            same = torch.equal(net(x), net(inside))
            assert not torch.equal(net(x), net(moved))
        assert same == told


def test_a_place_is_the_highest_pixel_near_a_thing():
    rays = erp_directions(16, 32)
    maps = torch.zeros(1, 1, 16, 32)
    maps[0, 0, 5, 20], maps[0, 0, 12, 3] = 1, 5  # the other is far away and higher
    assert unet.place_error(maps, rays[5, 20][None, None]) < 1e-6
    between = rays[5, 20] + rays[4, 20]
    error = unet.place_error(maps, (between / between.norm())[None, None])
    assert error == pytest.approx(180 / 16 / 2, abs=0.05)


def test_the_test_clip_is_of_other_frames_of_the_same_things():
    recipe = unet.RECIPES["fast"]
    clips = unet.memory_clips(recipe)
    frames = {name: x for name, (x, _) in clips.items()}
    assert frames["train"].shape[1] == recipe.memory_frames
    assert frames["test"].shape[1] == 2 * recipe.memory_frames
    truth = clips["test"][1]
    kept = unet.copied(recipe)["the true map before"]
    assert kept[0] == pytest.approx(float(cc(truth[0, 0, 0], truth[0, 1, 0])), abs=1e-4)
    assert len(kept) == 2 * recipe.memory_frames - 1


def test_the_small_run_is_complete_and_comes_out_the_same_again(tmp_path):
    recipe = unet.RECIPES["fast"]
    told = []
    made = unet.run("fast", tmp_path / "new" / "unet.json", told.append)
    assert unet.load(tmp_path / "new" / "unet.json") == json.loads(json.dumps(made))
    assert len(told) == len(unet.SKIPS) + len(unet.TRAININGS)
    assert set(made["memory"]) == set(unet.TRAININGS) and set(made["skips"]) == set(unet.SKIPS)
    again = unet.fit_skips("without", 0, recipe)
    assert again == pytest.approx(made["skips"]["without"][0], abs=1e-4)
    blind = made["memory"]["no map"][0]
    assert blind["forced"] == blind["closed"] == blind["misled"]
    with pytest.raises(ValueError, match="^scale: 'huge', wanted one of fast, cpu"):
        unet.run("huge")


def test_forcing_and_closed_loop_begin_alike_and_part():
    recipe = replace(unet.RECIPES["fast"], memory_steps=2)
    model, losses = unet.fit_memory("truth", 0, recipe)
    clip, truth = unet.memory_clips(recipe)["test"]
    from sal360.training.fit import previous_maps

    with torch.no_grad():
        closed = model.rollout(clip)
        forced = model.rollout(clip, previous_maps(model, clip, truth))
    assert torch.allclose(closed[:, 0], forced[:, 0])
    assert not torch.allclose(closed[:, 1], forced[:, 1]) and len(losses) == 2


def test_the_record_is_published_by_its_hash_and_complete(record):
    remote = download.registry()["runs/unet.json"]
    assert remote.sha256 == hashlib.sha256(PATH.read_bytes()).hexdigest()
    assert remote.url.endswith("/data/runs/unet.json")
    assert record["scale"] == "cpu" and record["process_seconds"] < 480
    for rows in (*record["skips"].values(), *record["memory"].values()):
        assert len(rows) == len(record["recipe"]["seeds"]) >= 3
    numbers = {kind: rows[0]["parameters"] for kind, rows in record["skips"].items()}
    assert numbers["with skips"] == parameters(unet.SmallUNet(4, record["recipe"]["width"]))
    assert record["without a network"] == unet.copied(unet.RECIPES["cpu"])
