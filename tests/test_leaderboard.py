"""The leaderboard: planar twins, packs, tilts, scores all at once, the record and its tables."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sal360 import metrics
from sal360.datasets.batch import collate
from sal360.datasets.held import HeldVideos, hold
from sal360.datasets.item import VideoDataset
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.datasets.tilted import Tilted
from sal360.experiments import (
    leaderboard,
    leaderboard_arms,
    leaderboard_memory,
    leaderboard_table,
)
from sal360.experiments.leaderboard_arms import ARMS, SCALES, Scale
from sal360.experiments.leaderboard_extend import check_same, same_recipe
from sal360.experiments.leaderboard_real import add_real, loaded
from sal360.experiments.leaderboard_scores import (
    Scene,
    calibration,
    heights,
    predicted,
    scene,
    scored,
)
from sal360.inference import predict_frames
from sal360.models import MODELS, NETWORKS, load_model, shipped
from sal360.models.registry import save_weights
from sal360.nn import CrownConv2d, RingConv2d, SphereConv2d, SphereMaxPool2d
from sal360.nn.planar import to_planar
from sal360.sphere import angle_between, lonlat_to_xyz, pixel_area
from sal360.training.records import load_record
from sal360.training.validation import EPS


@pytest.fixture(scope="module")
def worlds() -> SyntheticWorlds:
    return SyntheticWorlds("test", 3, 1.0, 6.0, (24, 48))


@pytest.fixture(scope="module")
def held(worlds: SyntheticWorlds, tmp_path_factory: pytest.TempPathFactory) -> HeldVideos:
    return hold(worlds, tmp_path_factory.mktemp("held") / "pack", pictures=True)


@pytest.fixture(scope="module")
def test_set(held: HeldVideos) -> Scene:
    return scene(held, "upright")


# --- planar twins ---


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lookup-unet", {"widths": (4, 4, 8, 8, 4, 4, 1)}),
        ("cube-unet", {"base": 4}),
        ("sst-sal", {"hidden": 4}),
        ("sst-sal-noflow", {"hidden": 3}),
    ],
)
def test_a_twin_has_the_same_weights_and_nothing_of_the_sphere(name, settings):
    model = MODELS[name].build(**settings).eval()
    twin = to_planar(model)
    assert twin.planar
    assert not hasattr(model, "planar")
    mine, theirs = model.state_dict(), twin.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    twin.load_state_dict(mine)
    left = [type(m).__name__ for m in twin.modules()
            if type(m).__name__.startswith(("Sphere", "Ring", "CubePad"))]  # fmt: skip
    assert not left
    assert all(p.requires_grad for p in twin.parameters())


def test_a_twin_sees_the_seam_and_the_original_does_not():
    torch.manual_seed(0)
    net = nn.Sequential(RingConv2d(1, 4), nn.ReLU(), SphereConv2d(4, 1)).eval()
    x = torch.rand(1, 1, 16, 32)
    for model, sees in ((net, False), (to_planar(net), True)):
        with torch.no_grad():
            off = (model(x.roll(8, -1)) - model(x).roll(8, -1)).abs().max()
        assert bool(off > 1e-3) == sees


def test_a_twin_convolves_as_an_ordinary_layer_does():
    torch.manual_seed(0)
    layer = SphereConv2d(3, 5, 3)
    x = torch.rand(2, 3, 10, 20)
    plain = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    assert torch.equal(to_planar(layer)(x), plain)
    pooled = to_planar(SphereMaxPool2d(3, 2, centred=True))(x)
    assert torch.equal(pooled, nn.functional.max_pool2d(x, 2))
    model = MODELS["sst-sal-noflow"].build(hidden=3)
    maps = torch.rand(1, 1, 6, 12)
    doubled = nn.functional.interpolate(maps, scale_factor=2, mode="bilinear")
    assert torch.allclose(to_planar(model)._doubled(maps), doubled, atol=1e-6)


def test_near_the_equator_a_twin_is_nearly_the_original():
    torch.manual_seed(0)
    layer = SphereConv2d(1, 1, 3, bias=False)
    lon = torch.linspace(-math.pi, math.pi, 257)[:-1]
    x = (torch.sin(3 * lon) + torch.linspace(-1, 1, 128)[:, None])[None, None]
    a, b = layer(x)[..., 60:68, 10:-10], to_planar(layer)(x)[..., 60:68, 10:-10]
    assert (a - b).abs().max() < 0.01 * (x.abs().max() * layer.weight.abs().sum())


def test_layers_without_a_twin_are_named():
    with pytest.raises(TypeError, match=r"^0: CrownConv2d, wanted"):
        to_planar(nn.Sequential(CrownConv2d(1, 1, (2, 4), 0.3)))
    with pytest.raises(TypeError, match="padded by a hook"):
        to_planar(MODELS["cp360"].build(width=4, face=32))
    with pytest.raises(ValueError, match="nothing in it knows of a sphere"):
        to_planar(nn.Sequential(nn.Conv2d(1, 1, 3)))
    with pytest.raises(TypeError, match="wanted a torch"):
        to_planar(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^0: weight is computed, wanted a parameter"):
        to_planar(nn.Sequential(nn.utils.parametrizations.weight_norm(SphereConv2d(1, 1))))


# --- packs ---


def test_a_pack_is_the_data_set_within_what_its_types_can_hold(worlds, held):
    assert isinstance(held, VideoDataset)
    assert held.videos == worlds.videos
    assert (held.size, held.split, held.fps) == ((24, 48), "test", 6.0)
    for video in worlds.videos:
        want, have = worlds.read(video, 1, 4), held.read(video, 1, 4)
        assert (have.frames - want.frames).abs().max() <= 0.5 / 255 + 1e-6
        for field in ("truth", "flow"):
            mine, theirs = getattr(have, field), getattr(want, field)
            off = (mine - theirs).abs()
            assert bool((off <= theirs.abs() / 2048 + 3e-8).all()), field
        area = pixel_area(24, 48)[:, None]
        assert torch.allclose((have.truth.double() * area).sum((-2, -1)), torch.ones(4, 1).double(),
                              atol=5e-4)  # fmt: skip
        assert all(torch.equal(a, b) for a, b in zip(have.fixations, want.fixations, strict=True))
        assert torch.equal(have.indices, want.indices)
        assert have.fps == want.fps


def test_the_pack_keeps_the_picture_that_sst_sal_draws(worlds, held):
    model = MODELS["sst-sal"].build(hidden=2)
    want = worlds.read(worlds.videos[0])
    inputs = model.inputs(want.frames, want.flow)
    have = held.read(worlds.videos[0]).flow_picture
    assert torch.equal((have * 255).round(), (inputs[:, 3:].flip(1) * 255).round())


def test_steps_windows_and_errors_of_a_pack(worlds, held, tmp_path):
    whole, some = held.read("test-0001"), held.read("test-0001", 1, 2, 3)
    assert torch.equal(some.frames, whole.frames[1::3][:2])
    assert some.flow is None
    assert some.flow_picture is None
    assert some.indices.tolist() == [1, 4]
    for wrong, found in (
        (("nobody",), "nobody"),
        (("test-0001", 6), "start: 6, wanted 0 to 5"),
        (("test-0001", 4, 3), "length: 3, wanted at most 2"),
        (("test-0001", 0, 1, 1, (8, 16)), r"size: \(8, 16\), wanted \(24, 48\)"),
    ):
        with pytest.raises(ValueError, match=found):
            held.read(*wrong)
    assert hold(worlds, held.folder, pictures=True).videos == held.videos
    with pytest.raises(ValueError, match="holds synthetic-worlds, 3 videos"):
        hold(worlds, held.folder, videos=["test-0000"])
    with pytest.raises(FileNotFoundError, match="no pack there"):
        HeldVideos(tmp_path)
    with pytest.raises(ValueError, match="wanted at least one"):
        hold(worlds, tmp_path / "none", videos=[])
    assert not (tmp_path / "none").exists()


def test_a_pack_of_another_size_holds_what_is_read_at_that_size(worlds, tmp_path):
    small = hold(worlds, tmp_path / "small", ["test-0001"], size=(12, 24))
    assert (small.size, small.videos) == ((12, 24), ("test-0001",))
    want, have = worlds.read("test-0001", size=(12, 24)), small.read("test-0001")
    assert (have.frames - want.frames).abs().max() <= 0.5 / 255 + 1e-6
    assert have.flow_picture is None
    with pytest.raises(ValueError, match=r"holds frames of \(12, 24\), wanted \(24, 48\)"):
        hold(worlds, tmp_path / "small", ["test-0001"], size=(24, 48))


@pytest.mark.parametrize(
    ("settings", "told"),
    [((2.0, 6.0, (24, 48)), "of 6 frames at 6 a second, wanted 12 at 6"),
     ((0.5, 12.0, (24, 48)), "of 6 frames at 6 a second, wanted 6 at 12"),
     ((1.0, 6.0, (32, 64)), r"holds frames of \(24, 48\), wanted \(32, 64\)")],
)  # fmt: skip
def test_worlds_of_other_settings_are_not_those_of_the_pack(settings, told, held):
    with pytest.raises(ValueError, match=told):
        hold(SyntheticWorlds("test", 3, *settings), held.folder)


def test_a_pack_that_was_damaged_says_so(held, tmp_path):
    folder = shutil.copytree(held.folder, tmp_path / "pack")
    for name, bytes_left in (("counts.npy", 20), ("frames.npy", 1000), ("truth.npy", 0)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:bytes_left])
        with pytest.raises(ValueError, match=f"{name}: damaged"):
            HeldVideos(folder)
        (folder / name).write_bytes(whole)
    (folder / "about.json").write_text("{")
    with pytest.raises(ValueError, match="pack: not a pack of schema"):
        HeldVideos(folder)


class Deadly(SyntheticWorlds):
    """Worlds the second of which ends the process that reads it."""

    def read(self, video, *where):
        if video == "test-0001":
            os._exit(9)
        return super().read(video, *where)


def test_a_process_that_dies_is_not_waited_for(tmp_path):
    with pytest.raises(OSError, match="pack: a process that made it died"):
        hold(Deadly("test", 3, 1.0, 6.0, (24, 48)), tmp_path / "pack", processes=2)
    assert not list(tmp_path.iterdir())


def test_processes_make_the_same_pack(worlds, held, tmp_path):
    two = hold(worlds, tmp_path / "two", pictures=True, processes=2)
    for name in ("frames", "truth", "flow", "flow_picture", "fixations", "counts"):
        mine, theirs = (np.load(d.folder / f"{name}.npy") for d in (two, held))
        assert np.array_equal(mine, theirs), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="nothing is pinned without a GPU")
def test_pinning_leaves_what_is_on_a_device(held):
    batch = collate([held.to("meta").read("test-0000", 0, 2)])
    assert batch.pin_memory().frames.is_meta


# --- tilts ---


def test_a_tilt_tilts_the_vertical_by_its_angle_and_moves_gaze_with_it(worlds):
    up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    for degrees in (30.0, 90.0):
        tilted = Tilted(worlds, degrees)
        assert isinstance(tilted, VideoDataset)
        axes = []
        for video in worlds.videos:
            R = tilted.rotation(video)
            assert math.degrees(float(angle_between(R @ up, up))) == pytest.approx(degrees)
            axes.append((R @ up)[:2])
        assert not torch.allclose(axes[0], axes[1])
        before, after = worlds.read("test-0000", 0, 2), tilted.read("test-0000", 0, 2)
        R = tilted.rotation("test-0000")
        for a, b in zip(before.fixations, after.fixations, strict=True):
            moved = lonlat_to_xyz(a[:, 0], a[:, 1]) @ R.T
            assert torch.allclose(moved, lonlat_to_xyz(b[:, 0], b[:, 1]), atol=1e-9)
    assert torch.equal(Tilted(worlds, 0).read("test-0000").frames, worlds.read("test-0000").frames)
    with pytest.raises(ValueError, match="degrees"):
        Tilted(worlds, 181.0)
    with pytest.raises(ValueError, match="seed"):
        Tilted(worlds, 10.0, -1)


# --- scores ---


def test_scores_of_all_frames_at_once_are_the_package_s(test_set):
    torch.manual_seed(0)
    V, T, H, W = test_set.shape
    maps = torch.rand(V, T, H, W) + 0.1
    found = scored(maps, test_set)
    truth = test_set.batch.truth[:, :, 0]
    for v in range(V):
        looked = test_set.batch.fixations_of(v)
        want = {
            "cc": metrics.cc(maps[v], truth[v]).mean(),
            "sim": metrics.sim(maps[v], truth[v]).mean(),
            "kld": metrics.kld(maps[v], truth[v], eps=EPS).mean(),
            "nss": metrics.nss(maps[v], list(looked)).mean(),
        }
        for metric, value in want.items():
            assert found[metric][v] == pytest.approx(float(value), abs=1.5e-4), metric
    z = heights(maps.flatten(0, 1), test_set)
    low = test_set.lat.abs() < 30
    of = test_set.frame // T == 1
    assert found["latitude"]["below 30"][1] == pytest.approx(float(z[low & of].mean()), abs=1e-4)


def test_a_map_that_is_the_truth_is_calibrated_and_a_sharper_one_is_not(test_set):
    V, T, H, W = test_set.shape
    flat = torch.ones(V, T, H, W)
    assert scored(flat, test_set)["calibration"] == [0.1] * 10
    assert scored(flat, test_set)["off"] == 0
    assert scored(flat, test_set)["nss"] == [0.0] * V
    # Directions drawn from a map itself, in pixels' middles.
    band = torch.exp(-(torch.linspace(-3, 3, H) ** 2))[:, None].expand(H, W)
    share = (band * pixel_area(H, W).float()[:, None]).flatten()
    drawn = torch.multinomial(share, V * T * 400, replacement=True,
                              generator=torch.Generator().manual_seed(0))  # fmt: skip
    frame = torch.arange(V * T).repeat_interleave(400)
    own = Scene("own", test_set.videos, test_set.batch, frame, test_set.lat, drawn,
                test_set.pixels, test_set.weights)  # fmt: skip
    right = calibration(band.expand(V * T, H, W), own)
    sharp = calibration((band**4).expand(V * T, H, W), own)
    assert (right - 0.1).abs().max() < 0.02
    assert sharp[0] > 0.3  # too sure: people look where it promised nothing
    assert float(right.sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["lookup-unet", "cube-unet", "sst-sal-noflow"])
def test_closed_loop_side_by_side_is_the_closed_loop_of_prediction(name, test_set):
    torch.manual_seed(0)
    settings = {"lookup-unet": {"widths": (4, 4, 8, 8, 4, 4, 1)}, "cube-unet": {"base": 4},
                "sst-sal-noflow": {"hidden": 3}}[name]  # fmt: skip
    model = MODELS[name].build(**settings).eval()
    model.input_size = (24, 48)
    maps = predicted(model, test_set)
    for v in range(2):
        alone = predict_frames(test_set.batch.frames[v], model)
        assert torch.allclose(maps[v], alone, atol=2e-5, rtol=1e-3)
    area = pixel_area(24, 48).float()[:, None]
    assert torch.allclose((maps * area).sum((-2, -1)), torch.ones(maps.shape[:2]), atol=1e-4)


# --- the experiment ---

TINY = Scale((16, 32), (2, 1.0), (1, 1.5), (3, 1.5), (60.0,), (0, 1), 1, 4, (2, 2), 2)
FEW = ("lookup-unet", "planar-unet", "equator", "mean-map")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("board")
    before = dict(SCALES)
    SCALES["fast"] = TINY
    try:
        lines: list[str] = []
        record = leaderboard.run("fast", out, FEW, device="cpu", report=lines.append)
        again = leaderboard.run("fast", out, FEW, device="cpu", report=lines.append)
    finally:
        SCALES.clear()
        SCALES.update(before)
    return out, record, again, lines


def test_a_tiny_run_from_end_to_end(tiny):
    out, record, again, lines = tiny
    assert list(record["arms"]) == [name for name in ARMS if name in FEW]
    for name, one in record["arms"].items():
        assert [run["seed"] for run in one["runs"]] == (
            [0, 1] if one["kind"] != "baseline" else [0]
        )
        for run in one["runs"]:
            assert run["status"] == ("done" if ARMS[name].trained else "no training")
            assert set(run["scores"]) == {"upright", "tilt 60"}
    arms = record["arms"]
    assert arms["lookup-unet"]["parameters"] == arms["planar-unet"]["parameters"]
    assert arms["lookup-unet"]["recipe"] == arms["planar-unet"]["recipe"]
    a, b = (arms[n]["runs"][0]["scores"]["upright"]["cc"] for n in ("lookup-unet", "planar-unet"))
    assert a != b
    assert again["arms"] == record["arms"]  # nothing is done twice
    assert sum("lookup-unet, seed 0" in line for line in lines) == 1
    assert leaderboard.load(out / "leaderboard.json") == again
    path = out / "weights" / "planar-unet-0.safetensors"
    twin = loaded("planar-unet", path)
    assert twin.planar
    maps = predicted(twin, scene(HeldVideos(out / "packs" / "upright"), "upright"))
    found = scored(maps, scene(HeldVideos(out / "packs" / "upright"), "upright"))
    assert found["cc"] == arms["planar-unet"]["runs"][0]["scores"]["upright"]["cc"]
    written = leaderboard.archive(out, out / "back")
    assert [p.name for p in written] == ["records.tar.gz", "weights-0.tar"]


def test_a_memory_that_is_emptied_is_a_film_in_pieces(test_set):
    torch.manual_seed(0)
    model = MODELS["sst-sal-noflow"].build(hidden=3).eval()
    whole, pieces = predicted(model, test_set), predicted(model, test_set, every=4)
    assert torch.equal(whole[:, :4], pieces[:, :4])
    assert not torch.allclose(whole[:, 4:], pieces[:, 4:], rtol=1e-3)
    model.forgets, model.input_size = 4, (24, 48)
    films = [(film * 255).round().to(torch.uint8) for film in test_set.batch.frames]
    again = torch.stack([predict_frames(film.numpy(), model, (24, 48)) for film in films])
    assert torch.allclose(again, pieces, rtol=1e-3)  # frames as bytes
    assert not torch.allclose(again, whole, rtol=1e-3)


def test_how_long_to_remember_is_chosen_on_validation_worlds(tiny):
    out, record, _, _ = tiny
    val, test = (scene(HeldVideos(out / "packs" / name), name) for name in ("val", "upright"))
    told = 0
    for name, arm in record["arms"].items():
        for run in arm["runs"]:
            if ARMS[name].kind == "baseline":
                assert "memory" not in run and "carried" not in run
                continue
            told += 1
            memory = run["memory"]
            two = {key: memory[key] for key in (leaderboard_memory.CARRIED, "every 8")}
            assert memory["kept"] == max(two, key=two.__getitem__)
            model = loaded(name, out / "weights" / run["weights"])
            assert model.forgets == 8  # so it was validated
            assert leaderboard_memory.chosen(model, val) == pytest.approx(memory)
            best = json.loads((out / "runs" / f"{name}-{run['seed']}" / "record.json").read_text())
            assert best["best"]["value"] == pytest.approx(memory["every 8"], abs=1e-3)
            by = {every: scored(predicted(model, test, every=every), test) for every in (None, 8)}
            ways = [("carried", None), ("emptied", 8)]
            (_, kept), (way, other) = ways if memory["kept"] == "carried" else ways[::-1]
            assert leaderboard_memory.other_way(memory) == (way, other)
            assert run["scores"]["upright"] == by[kept] and run[way]["upright"] == by[other]
            assert list(run[way]) == record["conditions"]
            assert not {"carried", "emptied"} - {way} & set(run)
    assert len(leaderboard_table.memory_table(record).splitlines()) == told + 2
    none = {**record, "arms": {k: v for k, v in record["arms"].items() if k in ("equator",)}}
    assert leaderboard_table.memory_table(none) == "Not tried.\n"


def test_the_memory_that_was_not_kept_is_scored_later(tiny, tmp_path, capsys):
    """As it would have been scored at once; what is known stays."""
    out, record, _, _ = tiny
    folder, path = tmp_path / "out", tmp_path / "leaderboard.json"
    shutil.copytree(out, folder)
    early = copy.deepcopy(record)
    runs = {name: early["arms"][name]["runs"][0] for name in ("lookup-unet", "planar-unet")}
    ways = {name: leaderboard_memory.other_way(run["memory"])[0] for name, run in runs.items()}
    known = {**runs["lookup-unet"].pop(ways["lookup-unet"])}
    upright = runs["planar-unet"][ways["planar-unet"]]
    late = {c: upright.pop(c) for c in record["conditions"][1:]}
    upright["upright"]["cc"][0] = 0.125
    leaderboard.save(early, path)
    words = ["--out", str(folder), "--memory", str(path), "--device", "cpu"]
    assert leaderboard.main(words) == 0
    told = capsys.readouterr().out
    assert told.count(": cc 0") + told.count(": cc -") == 2 * len(record["conditions"]) - 1
    found = leaderboard.load(path)["arms"]
    for name in ("lookup-unet", "planar-unet"):
        for run in found[name]["runs"]:
            by_second = run["over_time"]
            assert {key: len(both["carried"]) for key, both in by_second.items()} == {
                "val": 1, "upright": 1}  # fmt: skip
            # A second is one clip: nothing to carry on; and it is a mean over frames as scored.
            assert by_second["upright"]["carried"] == by_second["upright"]["emptied"]
            assert list(run["mass"]) == ["upright", "tilt 60"]
    model = loaded("planar-unet", out / "weights" / run["weights"])
    test = scene(HeldVideos(out / "packs" / "upright"), "upright")
    first = metrics.cc(predicted(model, test)[:, :8], test.batch.truth[:, :8, 0]).mean().item()
    assert by_second["upright"]["carried"] == [pytest.approx(first, abs=6e-5)]
    area = pixel_area(16, 32).double()[:, None]
    maps = predicted(model, test, every=8).double() * area  # rows of 11.25 degrees
    share = maps[..., 5:11, :].sum((-2, -1)).mean()
    bands = run["mass"]["upright"]
    assert bands["below 30"] == pytest.approx(share.item(), abs=6e-5)
    assert sum(bands.values()) == pytest.approx(1, abs=2e-4)
    assert found["lookup-unet"]["runs"][0][ways["lookup-unet"]] == known
    again = found["planar-unet"]["runs"][0][ways["planar-unet"]]
    assert again["upright"]["cc"][0] == 0.125
    assert {c: again[c] for c in late} == late and list(again) == record["conditions"]
    written = path.read_bytes()
    assert leaderboard.main(words) == 0 and path.read_bytes() == written
    # Other weights, or packs that are not there.
    leaderboard.save(early, path)
    weights = folder / "weights" / runs["lookup-unet"]["weights"]
    weights.write_bytes(weights.read_bytes() + b" ")
    assert leaderboard.main(words) == 2
    assert "not the weights that" in capsys.readouterr().err
    shutil.rmtree(folder / "packs" / "tilt-60")
    assert leaderboard.main(words) == 2 and "no pack 'tilt 60'" in capsys.readouterr().err
    for wrong in (["--only", "cube-unet"], ["--root", "x"], ["--real", str(path)]):
        with pytest.raises(SystemExit, match="2"):
            leaderboard.main([*words, *wrong])


def test_the_tables_of_a_record(tiny):
    _, record, _, _ = tiny
    text = leaderboard_table.page(record)
    assert "Scale fast: these numbers show that the code runs" in text
    assert "lookup-unet minus planar-unet" in text
    rows = leaderboard_table.scores_table(record).splitlines()[2:]
    assert len(rows) == len(FEW)
    values = [float(row.split("|")[5].replace("*", "").split("[")[0]) for row in rows]
    assert values == sorted(values, reverse=True)
    cc = leaderboard_table.per_video(record, "lookup-unet", "cc")
    runs = record["arms"]["lookup-unet"]["runs"]
    want = [np.mean([run["scores"]["upright"]["cc"][v] for run in runs]) for v in range(3)]
    assert cc.tolist() == pytest.approx(want)
    better = {m: [-9.0 if m == "kld" else 9.0] * 3 for m in leaderboard_table.METRICS}
    changed = json.loads(json.dumps(record))
    changed["arms"]["equator"]["runs"][0]["scores"]["upright"] |= better
    lines = leaderboard_table.where_baselines_win(changed)
    assert any(line.startswith("equator is ahead of lookup-unet (CC, SIM") for line in lines)
    interrupted = json.loads(json.dumps(record))
    interrupted["arms"]["lookup-unet"]["runs"][1] |= {"status": "interrupted", "steps": 2}
    assert "lookup-unet, seed 1: 2 of 4 steps" in leaderboard_table.missing(interrupted)
    whole = interrupted["arms"]["lookup-unet"]["runs"][0]["scores"]["upright"]["cc"]
    assert leaderboard_table.per_video(interrupted, "lookup-unet", "cc").tolist() == whole
    assert len(leaderboard_table.of_seeds(interrupted, "lookup-unet", "cc")) == 2
    assert "(2 steps)" in leaderboard_table.seeds_table(interrupted)
    trained = [run for one in record["arms"].values() for run in one["runs"] if run["clips"]]
    text = leaderboard_table.runs_table(record | {"extended": [
        {"command": "later", "started": "", "seconds": 120, "device": "elsewhere", "runs": ["a"]},
    ]})  # fmt: skip
    assert len([row for row in text.splitlines() if row.startswith("|")]) == len(trained) + 2
    assert "- 2.0 minutes, 1 trainings, elsewhere: `later`" in text


def test_a_limit_is_kept_and_told(tiny, tmp_path, monkeypatch):
    out, record, _, _ = tiny
    there = shutil.copytree(out, tmp_path / "board")
    monkeypatch.setitem(SCALES, "fast", TINY)
    late = leaderboard.run(
        "fast", there, ("equator", "uniform"), minutes=0.001, device="cpu", report=lambda line: None
    )
    assert late["arms"] == {"equator": record["arms"]["equator"]}  # what was there already
    assert late["not_run"]["uniform, seed 0"] == "time was up before it began"


def flat(arm):
    """What a twin says of itself that is not made by :func:`to_planar`."""
    return {"padding": "zeros"} if arm.system == "cp360" else {}


def test_every_arm_has_a_recipe_and_its_twin_the_same():
    for scale in SCALES:
        for arm in ARMS.values():
            if arm.kind == "baseline" or scale not in arm.scales:
                continue
            recipe = leaderboard.recipe_of(arm, scale, 1)
            assert recipe.system == arm.system
            assert recipe.seed == 1
            if arm.twin is not None:
                twin = leaderboard.recipe_of(ARMS[arm.twin], scale, 1)
                ours, theirs = recipe.settings(), twin.settings()
                assert ours.pop("model") == {**theirs.pop("model"), **flat(arm)}
                assert ours == theirs
    jobs = leaderboard_arms.jobs_of("gpu")
    assert len(jobs) == len(set(jobs))
    assert [seed for _, seed in jobs] == sorted(seed for _, seed in jobs)
    with pytest.raises(ValueError, match="only: 'nobody'"):
        leaderboard_arms.jobs_of("fast", ("nobody",))


def test_weights_of_a_twin_are_those_of_the_original(tmp_path):
    model = MODELS["lookup-unet"].build(widths=(4, 4, 8, 8, 4, 4, 1))
    twin = to_planar(model)
    path = save_weights(twin, tmp_path / "planar-unet-0.safetensors")
    again = loaded("planar-unet", Path(path))
    assert again.planar
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), twin.state_dict().values(), strict=True)
    )
    assert not hasattr(load_model("lookup-unet", path), "planar")


# --- the published record ---

RUNS = Path(__file__).resolve().parents[1] / "data" / "runs"


BOARDS = sorted(path.stem for path in RUNS.glob("leaderboard*.json"))


def test_networks_trained_again_elsewhere_are_those_of_the_leaderboard():
    """Same worlds, recipes and seeds; the leaderboard took two of its runs from there."""
    board, again = (leaderboard.load(RUNS / f"{n}.json") for n in ("leaderboard", "sst_again"))
    check_same(board, again)
    assert "H100" in again["device"] and len(again["arms"]) == 3
    same = []
    for name, row in again["arms"].items():
        assert same_recipe(row["recipe"], board["arms"][name]["recipe"])
        assert [run["seed"] for run in row["runs"]] == list(SCALES["gpu"].seeds)
        for ours, theirs in zip(row["runs"], board["arms"][name]["runs"], strict=True):
            elsewhere = theirs.get("made", {})
            if "CPU" in elsewhere.get("device", ""):  # another torch, too, says chapter 17
                assert elsewhere["torch"] != again["versions"]["torch"]
            assert ours["status"] == "done" and "made" not in ours
            if ours["sha256"] == theirs["sha256"]:
                same.append((name, ours["seed"]))
                assert ours["scores"] == theirs["scores"]
    assert same == [("sst-sal", 2), ("planar-sst-sal", 2)]
    # The run whose curve chapter 16 lays beside that of the first.
    run, first = (load_record(RUNS / name) for name in ("sst_noflow_again.json",
                                                        "train/sst-sal-noflow.json"))  # fmt: skip
    (scored_run,) = (r for r in again["arms"]["sst-sal-noflow"]["runs"] if r["seed"] == 0)
    assert run["weights"]["best"]["sha256"] == scored_run["sha256"]
    assert run["recipe"] == first["recipe"] and run["data"] == first["data"]
    assert run["device"] == first["device"] and run["code"] != first["code"]


@pytest.mark.parametrize("name", BOARDS)
def test_the_published_page_is_what_the_published_record_says(name):
    record = leaderboard.load(RUNS / f"{name}.json")
    made = leaderboard_table.document(record, name)
    where = f"data/runs/{name}"
    assert (RUNS / f"{name}.md").read_text("utf-8") == made, (
        f"run python -m sal360.experiments.leaderboard_table {where}.json --write {where}.md"
    )


def test_a_page_is_written_over_and_nothing_else(tmp_path, capsys):
    record, page = RUNS / "leaderboard_cpu.json", tmp_path / "page.md"
    for _ in range(2):
        assert leaderboard_table.main([str(record), "--write", str(page)]) == 0
    assert page.read_bytes() == (RUNS / "leaderboard_cpu.md").read_bytes()
    page.write_text("my own notes")
    assert leaderboard_table.main([str(record), "--write", str(page)]) == 2
    assert "page.md: exists, and is no such page; left alone" in capsys.readouterr().err
    assert page.read_text() == "my own notes"
    leaderboard.save(leaderboard.load(record), tmp_path / "page.json")
    assert page.read_text() == "my own notes"
    (tmp_path / "other.md").write_text(leaderboard_table.TITLE)
    changed = leaderboard.load(record) | {"not_run": {"one": "for a reason"}}
    leaderboard.save(changed, tmp_path / "other.json")
    assert "- one: for a reason" in (tmp_path / "other.md").read_text()


@pytest.mark.parametrize("entry", ["arms", "seconds", "real"])
def test_a_record_without_an_entry_of_its_tables_is_refused(entry, tmp_path, capsys):
    record = json.loads((RUNS / "leaderboard_cpu.json").read_text("utf-8"))
    del record[entry]
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert leaderboard_table.main([str(tmp_path / "record.json")]) == 2
    assert f"record.json: {entry}: missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.pop("code"), "code: missing, wanted a str"),
        (lambda r: r["arms"].update(equator=[]), "arms: equator: list, wanted a dict"),
        (lambda r: r["arms"]["equator"].pop("recipe"), "arms: equator: recipe: missing"),
        (lambda r: r["arms"]["equator"].pop("runs"), "arms: equator: runs: missing"),
        (
            lambda r: r["arms"]["equator"]["runs"].append("x"),
            "equator: runs: 1: str, wanted a dict",
        ),
        (lambda r: r["arms"]["equator"]["runs"][0].pop("scores"), "runs: 0: scores: missing"),
    ],
)
def test_a_damaged_record_is_told_before_anything_is_trained_for_it(change, told, tmp_path, capsys):
    record = json.loads((RUNS / "leaderboard_cpu.json").read_text("utf-8")) | {"scale": "fast"}
    change(record)
    (tmp_path / "r.json").write_text(json.dumps(record))
    words = ["--out", str(tmp_path / "out"), "--extend", str(tmp_path / "r.json")]
    words += ["--scale", "fast", "--only", "uniform"]
    for status in (leaderboard.main(words), leaderboard_table.main([str(tmp_path / "r.json")])):
        assert status == 2
    told_so = capsys.readouterr().err.splitlines()
    assert len(told_so) == 2 and all(told in line for line in told_so)
    assert not (tmp_path / "out").exists()


def test_a_record_s_command_has_no_places_of_one_machine(tmp_path):
    out, old = tmp_path / "board", tmp_path / "old=1.json"
    words = ["--scale", "fast", "--only", "uniform"]
    assert leaderboard.main([*words, f"--out={out}/"]) == 0
    shutil.copy(out / "leaderboard.json", old)
    assert leaderboard.load(old)["command"].endswith("--only uniform --out=FOLDER")
    words[-1] = "equator"
    assert leaderboard.main([*words, "--out", f"{out}//", f"--extend={old}"]) == 0
    (call,) = leaderboard.load(out / "leaderboard.json")["extended"]
    assert call["command"].endswith("--only equator --out FOLDER --extend=RECORD")


def test_real_heads_are_of_the_seeds_that_finished_and_of_the_record_s_weights(tiny, tmp_path):
    out, record, _, _ = tiny
    scores = {"cc": [0.5, 0.7]}
    rows = [{"seed": 0, **scores}, {"seed": 1, "cc": [0.1, 0.1]}]
    real = {"metrics": ["cc"], "people": scores, "not_run": {},
            "arms": {"lookup-unet": rows, "equator": [{"seed": 0, "cc": [0.2, 0.3]}]}}  # fmt: skip
    cut = json.loads(json.dumps(record)) | {"real": real}
    assert "| lookup-unet | 2 | 0.350" in leaderboard_table.real_table(cut).replace("**", "")
    cut["arms"]["lookup-unet"]["runs"][1]["status"] = "interrupted"
    assert "| lookup-unet | 1 | 0.600" in leaderboard_table.real_table(cut).replace("**", "")

    weights = shutil.copytree(out / "weights", tmp_path / "weights")
    shutil.copy(weights / "lookup-unet-0.safetensors", weights / "planar-unet-1.safetensors")
    with pytest.raises(ValueError, match="planar-unet-1.safetensors: not the weights that"):
        add_real(out / "leaderboard.json", weights, None)


@pytest.mark.parametrize("board", BOARDS)
def test_the_published_record_has_every_arm_or_says_why_not(board):
    record = leaderboard.load(RUNS / f"{board}.json")
    V = len(record["videos"])
    for name, seed in leaderboard_arms.jobs_of(record["scale"]):
        seeds = [run["seed"] for run in record["arms"].get(name, {"runs": []})["runs"]]
        assert seed in seeds or f"{name}, seed {seed}" in record["not_run"]
    for arm, one in record["arms"].items():
        assert leaderboard_table.finished(record, arm)
        for run in one["runs"]:
            assert list(run["scores"]) == record["conditions"]
            for condition, scores in run["scores"].items():
                assert all(len(scores[m]) == V for m in leaderboard_table.METRICS)
                assert sum(scores["calibration"]) == pytest.approx(1, abs=1e-3)
                for band, values in scores["latitude"].items():
                    looked = record["looked"][condition][band]
                    assert [value is None for value in values] == [n == 0 for n in looked]
    assert len((RUNS / f"{board}.json").read_bytes()) < 600_000


def test_the_published_runs_are_those_of_the_published_record():
    record = leaderboard.load(RUNS / "leaderboard.json")
    paths = sorted((RUNS / "train").glob("*.json"))
    assert {path.stem for path in paths} == set(NETWORKS)
    for path in paths:
        run = load_record(path)
        assert run["recipe"]["system"] == path.stem
        arm = record["arms"][path.stem]
        assert run["weights"]["best"]["sha256"] in {one["sha256"] for one in arm["runs"]}
        differs = {k for k, v in arm["recipe"].items() if run["recipe"][k] != v}
        assert differs <= {"seed"}
        assert run["weights"]["best"]["sha256"] == shipped.read_index()[path.stem]["source"]
        (row,) = (one for one in arm["runs"] if one["seed"] == run["seed"])
        assert row.get("validation", run["best"]["value"]) == run["best"]["value"]
        if run["device"]["type"] == "cpu":  # as the README tells
            assert run["threads"] == 1 and 30 * 60 < run["seconds"] < 75 * 60


def test_a_training_that_was_stopped_by_hand_is_no_result(tmp_path, monkeypatch, capsys):
    """And one that the time cut off is trained anew when there is more time."""
    from sal360.training import run as training_run

    monkeypatch.setitem(SCALES, "fast", TINY)
    train, asked = training_run.train, []

    def stopped(*given, **more):
        asked.append(more["stop"])
        return train(*given, **{**more, "stop": lambda: True})

    words = ["--scale", "fast", "--out", str(tmp_path), "--only", "lookup-unet"]
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "train", stopped)
        assert leaderboard.main(words) == 130
    assert "interrupted: the same command goes on" in capsys.readouterr().err
    assert not list((tmp_path / "jobs").glob("*.json")) and len(asked) == 1
    record = leaderboard.run("fast", tmp_path, ("lookup-unet",), report=lambda line: None)
    assert [run["status"] for run in record["arms"]["lookup-unet"]["runs"]] == ["done", "done"]

    job = tmp_path / "jobs" / "lookup-unet-1.json"
    cut = json.loads(job.read_text()) | {"status": "interrupted", "steps": 1}
    job.write_text(json.dumps(cut))
    late = leaderboard.run(
        "fast", tmp_path, ("lookup-unet",), minutes=0.001, report=lambda line: None
    )
    assert [run["steps"] for run in late["arms"]["lookup-unet"]["runs"]] == [4, 1]
    assert "lookup-unet, seed 1" not in late["not_run"]
    again = leaderboard.run("fast", tmp_path, ("lookup-unet",), report=lambda line: None)
    for one, other in zip(
        *(r["arms"]["lookup-unet"]["runs"] for r in (again, record)), strict=True
    ):
        assert (one["sha256"], one["scores"]) == (other["sha256"], other["scores"])


def test_a_shorter_training_anew_takes_nothing_away(tmp_path, monkeypatch):
    """What the time cut off is trained anew beside what it came to, and replaced by more alone."""
    from sal360.training import run as training_run

    monkeypatch.setitem(SCALES, "fast", TINY)
    train = training_run.train

    def cut_after(steps):
        def cut(*given, **more):
            asked = iter(range(99))
            return train(*given, **{**more, "stop": lambda: next(asked) >= steps})

        return cut

    def told(steps):
        with monkeypatch.context() as patch:
            patch.setattr(training_run, "train", cut_after(steps))
            patch.setattr(leaderboard.time, "time", lambda: 0.0 if steps is None else 1e12)
            return leaderboard.one("cube-unet", 0, "fast", tmp_path, "cpu", until=1.0)

    leaderboard.run("fast", tmp_path, ("uniform",), report=lambda line: None)
    first = told(2)
    assert (first["status"], first["steps"]) == ("interrupted", 3)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*-0*") if path.is_file()}
    files |= {path: path.read_bytes() for path in (tmp_path / "runs").glob("*/*")}
    assert told(0) == first
    assert files == {path: path.read_bytes() for path in files}
    assert not list((tmp_path / "anew").iterdir())
    leaderboard.run("fast", tmp_path, ("cube-unet",), report=lambda line: None)
    done = json.loads((tmp_path / "jobs" / "cube-unet-0.json").read_text())
    assert (done["status"], done["steps"]) == ("done", 4)
    told = load_record(tmp_path / "runs" / "cube-unet-0" / "record.json")
    assert told["status"] == "done"
    assert (done["processor"], done["threads"]) == (told["device"]["name"], told["threads"])
    weights = tmp_path / "weights" / "cube-unet-0.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == done["sha256"]


def test_a_run_of_other_code_or_another_device_says_so(tmp_path, monkeypatch):
    only = ("uniform", "equator")
    first = leaderboard.run("fast", tmp_path, only[:1], report=lambda line: None)
    assert "made" not in first["arms"]["uniform"]["runs"][0]
    assert "other code" not in leaderboard_table.told(first)
    before = leaderboard.code()
    monkeypatch.setattr(leaderboard, "code", lambda: "0" * 64)
    second = leaderboard.run("fast", tmp_path, only, report=lambda line: None)
    assert second["arms"]["uniform"]["runs"][0]["made"]["code"] == before
    assert "made" not in second["arms"]["equator"]["runs"][0]
    assert "runs by other code, torch or device: 1)" in leaderboard_table.told(second)


def test_a_record_is_extended_by_what_it_lacks(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(SCALES, "fast", TINY)
    _, whole, _, _ = tiny
    old = json.loads(json.dumps(whole))
    runs = old["arms"]["lookup-unet"]["runs"]
    runs[0]["scores"]["upright"]["cc"] = [9.0, 9.0, 9.0]  # so that one sees that it stays
    runs[1] |= {"status": "interrupted", "steps": 1}
    del old["arms"]["planar-unet"]["runs"][1], old["arms"]["mean-map"]
    old["not_run"] = {"planar-unet, seed 1": "time was up", "cp360-published": "no file"}
    old["unequal"] = ["what was told then"]
    rows = [{"seed": 0, "cc": [1]}, {"seed": 1, "cc": [2]}]
    old["real"] = {"arms": {"lookup-unet": rows, "equator": rows[:1], "others": rows[:1]}}
    old |= {"device": "a card", "code": "0" * 64}
    (tmp_path / "old.json").write_text(json.dumps(old))
    lines: list[str] = []
    new = leaderboard.run("fast", tmp_path / "more", FEW, device="cpu", report=lines.append,
                          extend=tmp_path / "old.json", command="extend")  # fmt: skip
    assert "3 runs are missing in" in lines[0]
    assert not any(line.startswith("lookup-unet, seed 0") for line in lines)
    told = ["lookup-unet, seed 1", "planar-unet, seed 1", "mean-map, seed 0"]
    (call,) = new["extended"]
    assert sorted(call["runs"]) == sorted(told) and call["command"] == "extend"
    assert new["not_run"] == whole["not_run"] and new["device"] == "a card"
    assert "planar-unet, seed 1" not in new["not_run"] and set(whole["unequal"]) < set(
        new["unequal"]
    )
    assert "extended by " in leaderboard_table.told(new)
    first, second = new["arms"]["lookup-unet"]["runs"]
    assert first["scores"]["upright"]["cc"] == [9.0] * 3 and "made" not in first
    assert second["status"] == "done" and second["made"]["device"].endswith("CPU")
    again = whole["arms"]["lookup-unet"]["runs"][1]
    assert second["scores"] == again["scores"] and second["sha256"] == again["sha256"]
    # Of runs that are as they were, scores on real heads stay.
    (tmp_path / "old.json").write_text(json.dumps(old))
    runs[1]["sha256"] = "1" * 64
    from sal360.experiments.leaderboard_extend import extended

    kept = extended(old, new, [("lookup-unet", 1)])["real"]["arms"]
    assert kept["lookup-unet"] == kept["equator"] == kept["others"] == rows[:1]
    # And nothing is left to do.
    (tmp_path / "new.json").write_text(json.dumps(new))
    lines.clear()
    same = leaderboard.run("fast", tmp_path / "more", FEW, device="cpu", report=lines.append,
                           extend=tmp_path / "new.json")  # fmt: skip
    assert lines[0].startswith("0 runs are missing") and same["arms"] == new["arms"]
    assert same["extended"] == new["extended"]  # a call that gave nothing is not listed
    assert leaderboard_table.document(same | {"real": None}, "leaderboard")


def test_an_arm_of_another_recipe_is_begun_anew(tiny):
    from sal360.experiments.leaderboard_extend import check_same, extended, has

    _, whole, _, _ = tiny
    recipe = whole["arms"]["lookup-unet"]["recipe"]
    assert has(whole, ("lookup-unet", 1), recipe | {"seed": 1})
    assert not has(whole, ("lookup-unet", 1), recipe | {"lr": 3.0})
    assert not has(whole, ("lookup-unet", 7), recipe) and has(whole, ("equator", 0), None)
    new = json.loads(json.dumps(whole))
    new["arms"]["lookup-unet"]["recipe"]["lr"] = 3.0
    found = extended(whole, new, [("lookup-unet", 1)])["arms"]["lookup-unet"]
    assert found["recipe"]["lr"] == 3.0 and [run["seed"] for run in found["runs"]] == [1]
    # Unless all that is new was cut off: then what is whole stays, and the other is still missing.
    for run in new["arms"]["lookup-unet"]["runs"]:
        run["status"] = "interrupted"
    found = extended(whole, new, [("lookup-unet", 0), ("lookup-unet", 1)])
    assert found["arms"] == whole["arms"] and "extended" not in found
    new["arms"]["lookup-unet"]["runs"][1]["status"] = "done"
    found = extended(whole, new, [("lookup-unet", 0), ("lookup-unet", 1)])["arms"]["lookup-unet"]
    assert [run["status"] for run in found["runs"]] == ["interrupted", "done"]
    # What was cut off sooner than what is there is no gain.
    new = json.loads(json.dumps(whole))
    new["arms"]["lookup-unet"]["runs"][1] |= {"status": "interrupted", "steps": 1}
    assert extended(whole, new, [("lookup-unet", 1)])["arms"] == whole["arms"]
    # And what failed is told, where there is nothing else.
    del new["arms"]["lookup-unet"]
    new["not_run"]["lookup-unet, seed 2"] = "time was up"
    assert extended(whole, new, [("lookup-unet", 2)])["not_run"]["lookup-unet, seed 2"]
    assert "lookup-unet, seed 1" not in extended(whole, new, [("lookup-unet", 1)])["not_run"]
    # Of the seeds whose old runs have gone, too, whichever comes first.
    new = json.loads(json.dumps(whole))
    new["arms"]["lookup-unet"]["recipe"]["lr"] = 3.0
    del new["arms"]["lookup-unet"]["runs"][0]
    new["not_run"]["lookup-unet, seed 0"] = "time was up"
    for jobs in (
        [("lookup-unet", 0), ("lookup-unet", 1)],
        [("lookup-unet", 1), ("lookup-unet", 0)],
    ):
        found = extended(whole, new, jobs)
        assert [run["seed"] for run in found["arms"]["lookup-unet"]["runs"]] == [1]
        assert found["not_run"]["lookup-unet, seed 0"] == "time was up"
    for part, wrong in (("scale", "gpu"), ("videos", ["a"]), ("settings", {})):
        with pytest.raises(ValueError, match="extend: "):
            check_same(whole, new | {part: wrong})


def test_real_heads_of_other_weights_stay(tiny, tmp_path, monkeypatch):
    from sal360.experiments import leaderboard_real

    out, record, _, _ = tiny
    rows = [{"seed": seed, "cc": [float(seed)]} for seed in (0, 1)]
    before = record | {"real": {"arms": {"lookup-unet": rows, "gone": rows}}}
    (tmp_path / "r.json").write_text(json.dumps(before))
    weights = tmp_path / "weights"
    weights.mkdir()
    shutil.copy(out / "weights" / "lookup-unet-1.safetensors", weights)
    new = {"metrics": ["cc"], "people": {"cc": [0.5]}, "not_run": {}, "videos": ["a"], "note": "",
           "data": "d", "arms": {"lookup-unet": [{"seed": 1, "cc": [7.0]}]}}  # fmt: skip
    monkeypatch.setattr(leaderboard_real, "real", lambda *given: json.loads(json.dumps(new)))
    add_real(tmp_path / "r.json", weights, None, lambda line: None)
    found = json.loads((tmp_path / "r.json").read_text())["real"]
    assert found["arms"] == {"lookup-unet": [rows[0], {"seed": 1, "cc": [7.0]}]}
    assert "planar-unet" in found["not_run"] and "lookup-unet" not in found["not_run"]
    # So do those of published weights that are not at hand now.
    (official,) = [
        name for name, system in leaderboard_real.OFFICIAL.items() if system == "sst-sal"
    ]
    before["real"]["arms"][official] = rows[:1]
    (tmp_path / "r.json").write_text(json.dumps(before))
    new["not_run"] = {official: "its weights are not here (DownloadError)"}
    add_real(tmp_path / "r.json", weights, None, lambda line: None)
    found = json.loads((tmp_path / "r.json").read_text())["real"]
    assert found["arms"][official] == rows[:1] and official not in found["not_run"]
    # And rows of other videos are never put beside each other.
    before["real"]["videos"] = ["a", "b"]
    (tmp_path / "r.json").write_text(json.dumps(before))
    with pytest.raises(ValueError, match=r"r.json: real: of other videos"):
        add_real(tmp_path / "r.json", weights, None, lambda line: None)
    assert json.loads((tmp_path / "r.json").read_text()) == before


def test_what_lies_beside_the_packs_is_no_pack(tiny):
    out, _, _, _ = tiny
    for name in ("train.123.part", "notes"):
        (out / "packs" / name).mkdir()
    try:
        shutil.copy(out / "packs" / "val" / "about.json", out / "packs" / "train.123.part")
        assert set(leaderboard.opened(out)) == {"train", "val", "upright", "tilt 60"}
    finally:
        for name in ("train.123.part", "notes"):
            shutil.rmtree(out / "packs" / name)


def test_one_that_fails_stops_no_other_and_is_told(tmp_path, monkeypatch):
    whole = leaderboard.made

    def made(arm, *given):
        if arm.name == "equator":
            raise RuntimeError("no card left")
        return whole(arm, *given)

    monkeypatch.setattr(leaderboard, "made", made)
    lines: list[str] = []
    record = leaderboard.run("fast", tmp_path, ("equator", "uniform"), report=lines.append)
    assert list(record["arms"]) == ["uniform"]
    assert record["not_run"]["equator, seed 0"] == "RuntimeError: no card left"
    assert "equator, seed 0: RuntimeError: no card left" in lines
    (tmp_path / "jobs" / "uniform-0.json").write_text("{")
    with pytest.raises(ValueError, match="uniform-0.json: not a result"):
        leaderboard.run("fast", tmp_path, ("uniform",), report=lines.append)


def _jobs_of_process(pid):
    found = []
    for about in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((about / "stat").read_text().rpartition(")")[2].split()[1])
            words = (about / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if parent == pid and b"--job" in words:
            found.append(int(about.name))
    return found


def _are_gone(processes):
    end = time.monotonic() + 60
    while any(Path(f"/proc/{one}").exists() for one in processes) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(Path(f"/proc/{one}").exists() for one in processes)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_who_ends_the_command_ends_its_jobs(tmp_path):
    line = [sys.executable, "-m", "sal360.experiments.leaderboard", "--out", str(tmp_path)]
    line += ["--only", "cube-unet", "--only", "lookup-unet", "--processes", "2"]
    board = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    jobs: list[int] = []
    while len(jobs) < 2:
        assert board.poll() is None
        jobs = _jobs_of_process(board.pid)
    board.terminate()
    assert "the same command goes on" in board.communicate()[1] and board.returncode == 130
    assert _are_gone(jobs) and not any((tmp_path / "jobs").glob("*.json"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_a_job_ends_when_the_command_is_killed():
    job = (
        "import os, sys, time\nfrom sal360.experiments import leaderboard\n"
        "leaderboard.one = lambda *given: (print(os.getpid(), flush=True), time.sleep(99))\n"
        "leaderboard.main(['--job', 'equator:0', '--out', '.', '--parent', sys.argv[1]])"
    )
    line = [
        sys.executable,
        "-c",
        "import os, subprocess, sys\nsubprocess.run([*sys.argv[1:], str(os.getpid())])",
    ]
    board = subprocess.Popen(
        [*line, sys.executable, "-c", job], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert board.stdout is not None
    number = int(board.stdout.readline())
    board.kill()
    board.wait()
    assert _are_gone([number])
    board.stdout.close()


@pytest.mark.parametrize(
    "words",
    [
        ["--only", "nobody"],
        ["--only", "cube-unet-published"],  # not at this scale
        ["--device", "tpu"],
        ["--out", __file__],
        ["--processes", "-3"],
        ["--minutes", "nan"],
        ["--minutes", "-1"],
        ["--minutes", "inf"],
        ["--archive", __file__],
        ["--root", "."],
        ["--real", "record.json", "--minutes", "3"],
        ["--real", "record.json", "--extend", "record.json"],
        ["--extend", "nowhere.json"],
        ["--extend", __file__],
        ["--extend", str(RUNS / "leaderboard_cpu.json")],  # of another scale
    ],
)
def test_the_command_refuses_in_one_line(words, tmp_path, capsys):
    try:
        status = leaderboard.main(["--scale", "fast", "--out", str(tmp_path / "board"), *words])
    except SystemExit as error:  # argparse's
        status = error.code
    told = capsys.readouterr().err
    assert status == 2 and "Traceback" not in told and told.strip()
    assert not (tmp_path / "board" / "packs").exists()  # before anything is made


def test_packs_that_were_never_finished_are_swept_away(tmp_path, worlds):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"pack.{dead.pid}.part", f"pack.{os.getppid()}.part", f"other.{dead.pid}.part"):
        (tmp_path / name).mkdir()
    hold(worlds, tmp_path / "pack")
    assert {path.name for path in tmp_path.iterdir()} == {
        "pack", f"pack.{os.getppid()}.part", f"other.{dead.pid}.part",
    }  # fmt: skip
