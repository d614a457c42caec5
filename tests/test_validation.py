"""Validation: closed loop over whole videos, scored as sal360.evaluation does, in any pieces."""

import math
from dataclasses import replace

import pytest
import torch

from sal360.baselines import Equator, Motion, Uniform
from sal360.datasets.batch import collate
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.evaluation import evaluate
from sal360.inference import to_density
from sal360.training import build_model, load_recipe, validation
from sal360.training.inputs import clip_inputs
from sal360.training.validation import better, mean_scores, validate

SIZE = (16, 32)
ALL = ("cc", "sim", "kld", "nss", "auc_judd")


@pytest.fixture(scope="module")
def worlds():
    return SyntheticWorlds("test", videos=2, seconds=1.5, fps=4.0, size=SIZE)


def small(name):
    return replace(load_recipe(name, "fast"), size=SIZE)


def untrained(name):
    """In training mode, with weights that are no longer those of a fresh network."""
    model = build_model(small(name))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return model.train()


@pytest.mark.parametrize("name", ["spherical-unet", "cube-unet", "cp360", "sst-sal"])
def test_scores_are_those_of_the_evaluation_of_the_same_maps(name, worlds, monkeypatch):
    model = untrained(name)
    monkeypatch.setattr(validation, "PIECE", 4 * SIZE[0] * SIZE[1])  # 6 frames: 4 and 2
    found = validate(model, worlds, small(name), metrics=ALL)
    assert model.training and list(found) == list(worlds.videos)

    model.eval()
    maps = {}
    for video in worlds.videos:
        clip = clip_inputs(model, collate([worlds.read(video)]))
        with torch.no_grad():
            raw = model.rollout(clip) if hasattr(model, "rollout") else model(clip)
        maps[video] = to_density(raw[0, :, 0], SIZE, reading=model.reading)
    truth = {video: worlds.read(video) for video in worlds.videos}
    wanted = evaluate(maps, truth, metrics=ALL, eps=validation.EPS)
    for scores in wanted.videos:
        for metric in ALL:
            # The memory crosses the piece's border: only rounding differs.
            assert found[scores.video][metric] == pytest.approx(scores.mean(metric), abs=2e-5)


@pytest.mark.parametrize("kind", [Equator, Motion])
def test_baselines_stand_in_the_same_table(kind, worlds):
    model = kind()
    found = validate(model, worlds, small("sst-sal"), metrics=ALL)
    assert model.input_size == (120, 240)
    model.input_size = SIZE  # it answers at the size of the maps, which need not be resampled
    wanted = evaluate(model, worlds, metrics=ALL, size=SIZE, eps=validation.EPS)
    for scores in wanted.videos:
        for metric in ALL:
            assert found[scores.video][metric] == pytest.approx(scores.mean(metric), abs=1e-9)


def test_a_flat_map_scores_what_a_flat_map_scores(worlds):
    for scores in validate(Uniform(), worlds, small("sst-sal"), metrics=ALL).values():
        assert (scores["cc"], scores["nss"], scores["auc_judd"]) == (0, 0, 0.5)


def test_pieces_companions_and_shares_change_nothing_but_rounding(worlds, monkeypatch):
    model, recipe = untrained("sst-sal"), small("sst-sal")
    whole = validate(model, worlds, recipe)
    assert validate(model, worlds, recipe) == whole
    monkeypatch.setattr(validation, "PIECE", SIZE[0] * SIZE[1])
    a, b = worlds.videos
    for other in (
        validate(model, worlds, recipe, together=2),
        validate(model, worlds, recipe, videos=[b]) | validate(model, worlds, recipe, videos=[a]),
    ):
        assert set(other) == set(whole)
        for video, scores in whole.items():
            assert other[video] == pytest.approx(scores, abs=2e-5)


def test_a_network_lives_on_its_own_maps(worlds, monkeypatch):
    """Its first answer is fed back; the truth changes its scores, not its maps."""
    model, recipe = untrained("spherical-unet"), small("spherical-unet")
    seen = []
    inside = type(model).forward

    def watched(self, image, extra):
        seen.append(extra.clone())
        raw = inside(self, image, extra)
        seen.append(self.feedback(raw))
        return raw

    monkeypatch.setattr(type(model), "forward", watched)
    validate(model, worlds, recipe, videos=worlds.videos[:1])
    assert len(seen) == 12
    assert torch.equal(seen[0], torch.ones(1, 1, *SIZE))
    for fed, answered in zip(seen[2::2], seen[1:-1:2], strict=True):
        assert torch.equal(fed, answered)


class Partly:
    """Worlds of which some frames have no truth, and nobody's gaze is known."""

    name = "partly"

    def __init__(self, inside, blank):
        self.inside, self.blank = inside, blank
        self.videos, self.length, self.rate = inside.videos, inside.length, inside.rate

    def read(self, video, start=0, length=None, step=1, size=None):
        item = self.inside.read(video, start, length, step, size)
        truth = item.truth.clone()
        truth[[int(n) in self.blank for n in item.indices]] = math.nan
        return replace(item, truth=truth, fixations=None, flow=None)


def test_frames_without_truth_do_not_count(worlds):
    model, recipe = untrained("sst-sal-noflow"), small("sst-sal-noflow")
    whole = validate(model, worlds, recipe, metrics="cc")
    partly = validate(model, Partly(worlds, {0, 1, 5}), recipe)
    for video in worlds.videos:
        assert list(partly[video]) == ["cc", "sim", "kld"]  # no fixations, no NSS
        assert partly[video]["cc"] != whole[video]["cc"]
    nothing = validate(model, Partly(worlds, set(range(6))), recipe, metrics="cc")
    assert all(math.isnan(scores["cc"]) for scores in nothing.values())
    assert math.isnan(mean_scores(nothing)["cc"])
    lone = validate(model, Partly(worlds, {0, 1, 2, 4, 5}), recipe, metrics="cc")
    item = worlds.read(worlds.videos[0])
    with torch.no_grad():
        raw = model.eval()(clip_inputs(model, collate([item])))[0, :, 0]
    maps = to_density(raw, SIZE, reading=model.reading)
    alone = evaluate({"v": maps[3:4]}, {"v": item.truth[3:4]}, metrics="cc").mean("cc").mean
    assert lone[worlds.videos[0]]["cc"] == pytest.approx(alone, abs=1e-5)


def test_flow_that_the_data_lacks_is_sought_in_the_frames(worlds, monkeypatch):
    model, recipe = untrained("sst-sal"), small("sst-sal")
    found = validate(model, Partly(worlds, set()), recipe, metrics="cc")
    assert found != validate(model, worlds, recipe, metrics="cc")
    monkeypatch.setattr(validation, "_takes_tensors", lambda *_: False)
    assert found == validate(model, worlds, recipe, metrics="cc")


def test_shuffled_auc_has_the_other_videos(worlds):
    model, recipe = Equator(), small("sst-sal")
    both = validate(model, worlds, recipe, metrics="sauc", seed=3)
    assert all(0 < scores["sauc"] < 1 for scores in both.values())
    alone = validate(model, worlds, recipe, metrics="sauc", seed=3, videos=worlds.videos[1:])
    assert alone == {worlds.videos[1]: both[worlds.videos[1]]}


def test_refusals_are_one_line(worlds):
    model, recipe = untrained("sst-sal"), small("sst-sal")
    with pytest.raises(ValueError, match=r"videos: 'x' is not in synthetic-worlds"):
        validate(model, worlds, recipe, videos=["x"])
    with pytest.raises(ValueError, match="metrics: 'loss', wanted one of cc"):
        validate(model, worlds, recipe, metrics=["loss"])
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match=r"video test-0000, from frame 0 on: raw: .*NaN"):
        validate(model, worlds, recipe)
    blind = SyntheticWorlds("test", videos=1, seconds=0.5, size=SIZE, observers=0)
    with pytest.raises(ValueError, match="neither truth nor fixations"):
        validate(Equator(), blind, recipe)


def test_what_better_means():
    assert better("cc", 0.2, 0.1) and not better("cc", 0.1, 0.2)
    assert better("kld", 0.1, 0.2) and not better("kld", 0.2, 0.1)
    assert better("cc", -1.0, None) and better("cc", 0.0, math.nan)
    assert not better("cc", math.nan, 0.1) and not better("cc", 0.1, 0.1)
