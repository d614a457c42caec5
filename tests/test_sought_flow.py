"""Flow that a training needs and a data set does not bring: right, the same bits, and nobody's
folder but the cache's is written to."""

import json
import shutil
from dataclasses import replace

import cv2
import pytest
import torch

from sal360.cli import main
from sal360.datasets.held import HeldVideos, hold
from sal360.datasets.item import Around
from sal360.datasets.layouts import open_dataset
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.flow import endpoint_error, flow_of
from sal360.models import NETWORKS
from sal360.training import build_model, load_recipe, train
from sal360.training.data import Paced, Remembered
from sal360.training.sought_flow import SoughtFlow, with_flow

from .layout_sets import NAMES, copied, fingerprint, made

SIZE = (32, 64)
TINY = {"steps": 2, "batch": 2, "clip_length": 3, "validate_every": 2}
SST = TINY | {"tbptt": 3, "model": {"hidden": 2}, "size": (16, 32)}
CP = TINY | {"tbptt": 3, "size": (16, 32)}
SETTINGS = {"sst-sal": SST, "sst-sal-noflow": SST, "cp360": CP}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flow"


class Stripped(Around):
    """Worlds that do not know their flow."""

    def read(self, *window):
        return replace(self.dataset.read(*window), flow=None)


def recipe_of(name, **changes):
    return load_recipe(name, "fast", SETTINGS.get(name, TINY) | changes)


def data_of(layout, root=None):
    return open_dataset(root or made(layout))


def test_the_flow_of_a_frame_leads_to_the_next_one_whatever_clip_it_is_read_in():
    worlds = SyntheticWorlds("train", 1, 1.0, size=SIZE)
    data, video = SoughtFlow(Stripped(worlds)), worlds.videos[0]
    whole = data.read(video)
    assert len(whole) == 8 and whole.flow.shape == (8, 2, *SIZE)
    assert torch.equal(whole.flow, flow_of(worlds.read(video).frames))
    assert torch.equal(whole.flow[7], whole.flow[6])  # nothing follows
    part = data.read(video, 2, 3)
    for name in ("frames", "flow", "indices"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[2:5]), name
    torch.testing.assert_close(part.truth, whole.truth[2:5])
    assert len(part.fixations) == 3 and torch.equal(part.fixations[2], whole.fixations[4])
    slow = data.read(video, 1, 2, 2)
    assert torch.equal(slow.flow, flow_of(whole.frames[1::2])[:2])
    assert torch.equal(slow.indices, torch.tensor([1, 3]))


@pytest.mark.parametrize("size", [(32, 64), (48, 96), (48, 64), (24, 48)])
def test_it_is_near_the_exact_flow_in_pixels_of_the_size_that_was_asked_for(size):
    worlds = SyntheticWorlds("train", 2, 0.5, size=size)
    video = worlds.videos[1]  # the first hardly moves
    exact, found = worlds.read(video).flow, SoughtFlow(Stripped(worlds)).read(video).flow
    assert found.shape == exact.shape and found.dtype == torch.float32
    assert float(found[:, 0].abs().max()) <= size[1] / 2 + 1 / 64
    still = torch.zeros_like(exact)
    off, nothing = (endpoint_error(one, exact)[:-1].mean() for one in (found, still))
    backwards = endpoint_error(-found, exact)[:-1].mean()
    assert off < 0.7 * nothing and off < 0.5 * backwards, (off, nothing, backwards)


def test_threads_do_not_change_it():
    worlds = SyntheticWorlds("train", 1, 0.25, size=(128, 256))
    frames, before = worlds.read(worlds.videos[0]).frames, cv2.getNumThreads()
    try:
        found = []
        for many in (0, 1, 3):
            cv2.setNumThreads(many)
            found.append(flow_of(frames, cache=False))
    finally:
        cv2.setNumThreads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_it_is_sought_only_where_it_is_needed_and_missing(tmp_path):
    worlds, pictures = SyntheticWorlds("train", 1, 0.5, size=SIZE), data_of("vr-eyetracking")
    none = data_of("sphere360")
    networks = {name: build_model(recipe_of(name)) for name in ("sst-sal", "cp360", "cube-unet")}

    def sought(data, name, **how):
        found = with_flow(data, networks[name], recipe_of(name, size=SIZE), **how)
        assert (found is data) != isinstance(found, SoughtFlow)
        return found is not data

    assert not any(sought(worlds, name) for name in networks)
    assert [sought(none, name) for name in networks] == [True, True, False]
    assert [sought(pictures, name) for name in networks] == [False, True, False]
    assert [sought(none, name, learning=False) for name in networks] == [True, False, False]
    assert sought(Remembered(none), "sst-sal")
    assert not sought(Remembered(SoughtFlow(none)), "sst-sal")
    # A pack has flow to the next frame, and so none at half its rate.
    pack = hold(worlds, tmp_path / "pack")
    assert not sought(pack, "sst-sal") and sought(Paced(pack, 4.0), "sst-sal")
    assert SoughtFlow(Paced(HeldVideos(tmp_path / "pack"), 4.0)).read("train-0000").flow is not None


def test_the_convention_of_official_weights_sees_the_flat_panorama():
    recipe = recipe_of("sst-sal", model={"hidden": 2, "convention": "upstream"})
    found = with_flow(data_of("sphere360"), build_model(recipe), recipe)
    assert found.views is None and found.flow_from.endswith("the flat panorama")


@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.parametrize("name", ["sst-sal", "cp360"])
def test_networks_that_need_flow_train_on_every_layout(name, layout, cache, tmp_path):
    root = made(layout)
    before, data = fingerprint(root), data_of(layout)
    record = train(recipe_of(name), data, data, tmp_path / "run", device="cpu")
    assert record["status"] == "done" and len(record["validations"]) == 1
    drawn = (name, layout) == ("sst-sal", "vr-eyetracking")
    how = None if drawn else "computed from the frames: dis, mercator views of the sphere"
    assert record["data"].get("flow") == how
    assert record["validation"].get("flow") == (None if name == "cp360" else how)
    assert json.loads((tmp_path / "run" / "record.json").read_text())["data"] == record["data"]
    assert any(cache.glob("*.npz")) != drawn and not list(cache.glob("*.tmp"))
    assert fingerprint(root) == before


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("sst-sal", "cp360")])
def test_the_other_networks_train_without(name, cache, tmp_path):
    data = data_of("salient360")
    record = train(recipe_of(name), data, data, device="cpu")
    assert record["status"] == "done" and "flow" not in record["data"] and not cache.exists()


def test_the_same_bits_with_workers_after_a_break_and_without_what_was_kept(cache, tmp_path):
    recipe, data = recipe_of("sst-sal", steps=3, augment={"tilt_deg": 20.0}), data_of("sphere360")

    def last(name, **how):
        record = train(recipe, data, data, tmp_path / name, device="cpu", **how)
        return record, (tmp_path / name / "last.safetensors").read_bytes()

    _, whole = last("whole")
    assert last("kept", workers=2)[1] == whole
    shutil.rmtree(cache)
    assert last("workers", workers=2)[1] == whole
    halt = iter([False, True])
    assert last("broken", stop=lambda: next(halt))[0]["status"] == "interrupted"
    shutil.rmtree(cache)
    assert last("broken", resume=True, workers=2)[1] == whole
    with pytest.warns(UserWarning, match="nothing to do"):
        assert last("broken", resume=True)[0]["status"] == "done"


def test_where_some_videos_have_pictures_of_flow_all_are_computed(tmp_path):
    root = copied("vr-eyetracking", tmp_path)
    video = open_dataset(root).videos[-1]
    shutil.rmtree(root / "optical_flow" / video)
    data = data_of("vr-eyetracking", root)
    record = train(recipe_of("sst-sal", steps=3), data, data, device="cpu")
    assert record["status"] == "done" and record["data"]["flow"] == record["validation"]["flow"]


def test_the_command_says_it_once(cache, tmp_path, capsys):
    words = [f"--set={name}={json.dumps(value)}" for name, value in CP.items() if name != "steps"]
    spec = f"sphere360={made('sphere360')}"
    words += ["--steps=2", f"--data={spec}", f"--validation={spec}", f"--out={tmp_path / 'run'}"]
    assert main(["train", "cp360", "--scale=fast", "--device=cpu", *words]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "optical flow" in line]
    assert len(said) == 1 and spec in said[0] and str(cache) in said[0]
    assert "computed from the frames: dis, mercator views of the sphere" in said[0]
