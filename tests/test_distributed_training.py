"""The real networks on two processes: the weights of one, to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest
import torch
from torch import Tensor

from sal360.datasets.batch import Batch
from sal360.datasets.item import Item
from sal360.datasets.loader import clip_loader
from sal360.models import load_model
from sal360.sphere import pixel_area
from sal360.training.command import _opened
from sal360.training.distributed import ALONE, World, setup
from sal360.training.fit import build_model, fit
from sal360.training.recipe import INPUTS, Recipe, load_recipe, recipe_names
from sal360.training.run import train
from sal360.training.sharded import scored_together, share_videos
from sal360.training.shared_norm import SharedBatchNorm
from sal360.training.validation import mean_scores, validate
from tests.ranks import run_ranks

SHARED: dict[str, Any] = {
    "batch": 4, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": "constant", "steps": 4,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "frame": ("spherical-unet", {
        "clip_length": 2, "steps": 3, "size": [16, 32], "teacher_forcing": [0.5, 0.5],
        "model": {"widths": [3, 4, 4, 4, 4, 3, 1]}}),
    "frame, accumulated": ("cube-unet", {
        "clip_length": 4, "size": [16, 32], "batch": 2, "accumulate": 2, "steps": 2,
        "model": {"base": 2}}),
    "clip": ("sst-sal-noflow", {
        "clip_length": 4, "tbptt": 2, "size": [16, 32], "lr": 5.0, "model": {"hidden": 3}}),
    "clip, accumulated": ("sst-sal", {
        "clip_length": 3, "tbptt": 1, "size": [16, 32], "batch": 2, "accumulate": 3, "steps": 2,
        "gradient_clip": 0.5, "lr": 5.0, "model": {"hidden": 3}}),
    "without truth": ("cp360", {"clip_length": 2, "tbptt": 2, "steps": 2}),
    "clip, batch statistics": ("cp360-supervised", {
        "clip_length": 2, "tbptt": 1, "steps": 2, "batch": 2}),
}  # fmt: skip


class Gazed:
    """Small videos with a truth that is missing in places, and flow."""

    name = "gazed"
    lengths = (8, 12, 8, 12, 8, 4)

    def __init__(self, size: tuple[int, int] = (16, 32), missing: bool = True) -> None:
        self.size, self.missing = size, missing

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(f"v{k}" for k in range(len(self.lengths)))

    def length(self, video: str) -> int:
        return self.lengths[int(video[1:])]

    def rate(self, video: str) -> float:
        return 8.0

    def read(self, video, start=0, length=None, step=1, size=None) -> Item:
        k, (H, W) = int(video[1:]), size or self.size
        length = self.lengths[k] - start if length is None else length
        draw = torch.Generator().manual_seed(k)
        whole = torch.rand(self.lengths[k], 6, H, W, generator=draw)[start : start + length]
        truth = whole[:, 3:4] ** 4
        truth = truth / (truth * pixel_area(H, W)[:, None]).sum((-2, -1), True)
        numbers = torch.arange(start, start + length)
        if self.missing:
            truth[((numbers + k) % 3 == 0) | (k == 1) & (numbers > 7)] = torch.nan
        flow = whole[:, 4:] * 2 - 1
        return Item(self.name, video, whole[:, :3], numbers, 8.0, flow=flow, truth=truth.float())


def doubled(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        yield batch._each(lambda t: t.double() if t.is_floating_point() else t)


def trained(case: str, world: World, double: bool) -> dict[str, Tensor]:
    """Weights after all steps of a case, and the first loss and gradient norm."""
    name, settings = CASES[case]
    recipe = load_recipe(name, "fast", SHARED | settings)
    model = build_model(recipe).to(torch.float64 if double else torch.float32)
    model = world.prepare(model)
    loader = clip_loader(
        Gazed(missing=recipe.loss != "weak"), recipe.clip_length, recipe.batch, seed=3,
        size=recipe.size, drop_last=True,
    ).share(world.rank, world.size)  # fmt: skip
    batches = chain.from_iterable(repeat(loader))
    steps = list(fit(model, doubled(batches) if double else batches, recipe, world=world))
    out = {name: value.clone() for name, value in model.state_dict().items()}
    curve = [(step.loss, step.gradient) for step in steps]
    norms = sum(isinstance(layer, SharedBatchNorm) for layer in model.modules())
    return out | {"curve": torch.tensor(curve, dtype=torch.float64), "norms": torch.tensor(norms)}


def first_gradients(name: str, world: World, **settings: int) -> Tensor:
    """``(parameters,)`` float32: the gradient of the first step of a recipe, and its loss last."""
    frames = 2 if INPUTS[load_recipe(name, "fast").system] == "clip" else 1
    small = {"steps": 1, "batch": 2, "clip_length": 2, "tbptt": frames, "gradient_clip": 0.0}
    recipe = load_recipe(name, "fast", small | settings)
    model = world.prepare(build_model(recipe))
    data = Gazed(recipe.size, missing=recipe.loss != "weak")
    loader = clip_loader(data, 2, recipe.batch, seed=3, size=recipe.size, drop_last=True)
    step = next(fit(model, iter(loader.share(world.rank, world.size)), recipe, world=world))
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat([*parts, torch.tensor([step.loss])])


def small_recipe(**settings: Any) -> Recipe:
    shared = {"batch": 4, "steps": 6, "size": [16, 32], "clip_length": 4, "tbptt": 4}
    return load_recipe("sst-sal-noflow", "fast", {**shared, "model": {"hidden": 3}} | settings)


def scores(world: World) -> dict[str, dict[str, float]]:
    recipe = small_recipe()
    model, data = build_model(recipe), Gazed()
    return scored_together(lambda mine: validate(model, data, recipe, videos=mine), data, world)


def failing(world: World) -> str:
    def score(mine: Any) -> dict[str, int]:
        if world.rank:
            raise ValueError("v3: frame 2 cannot be decoded")
        return dict.fromkeys(mine, 1)

    try:
        scored_together(score, Gazed(), world)
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def opening(world: World) -> str:
    try:
        _opened("wrlds", small_recipe(), world, print)
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def run_in(folder: str, world: World, steps: int, stop: int | None = None) -> dict[str, Any]:
    recipe = small_recipe(validate_every=3)
    done = iter(range(steps))
    stopping = None if stop is None else (lambda: next(done) + 1 == stop and world.main)
    return train(
        recipe, Gazed(), Gazed(), folder, checkpoint_every=2, resume=True, world=world,
        stop=stopping,
    )  # fmt: skip


def together(folder: str) -> dict[str, Any]:
    """All that two processes are asked for, in one go."""
    world = setup("cpu")
    found = {
        "exact": {case: trained(case, world, True) for case in CASES},
        "single": {case: trained(case, world, False) for case in ("frame", "clip")},
        "gradients": {name: first_gradients(name, world) for name in recipe_names()},
        "scores": scores(world),
        "failing": failing(world),
        "opening": opening(world),
        "begun": run_in(folder + "/run", world, 6, stop=3)["status"],
        "record": run_in(folder + "/whole", world, 6),
    }
    world.close()
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("two")
    found = run_ranks(together, str(folder), wait=300)
    assert all(isinstance(each, dict) for each in found), found
    return found, folder


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor], close: float) -> None:
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        if name != "norms":
            torch.testing.assert_close(theirs[name], value, rtol=close, atol=close, msg=name)


def test_truth_is_missing_where_it_hurts() -> None:
    # In some batch of a clip model one process has all the truth and the other none.
    halves = set()
    for batch in clip_loader(Gazed(), 3, 2, seed=3, drop_last=True):
        assert batch.truth is not None
        told = batch.truth.flatten(2).isfinite().all(-1).sum(1)
        halves.add(tuple((told > 0).tolist()))
    assert (True, True) in halves and (True, False) in halves | {h[::-1] for h in halves}


@pytest.mark.parametrize("case", list(CASES))
def test_two_processes_end_with_the_weights_of_one(two: Any, case: str) -> None:
    one = trained(case, ALONE, True)
    normed = case.startswith("frame") or "cp360" in CASES[case][0]
    for rank in two[0]:
        # CP-360 finds its activations in float32, whatever it is given.
        compare(one, rank["exact"][case], 1e-6 if case == "without truth" else 1e-12)
        assert (rank["exact"][case]["norms"] > 0) == normed
    start = build_model(load_recipe(CASES[case][0], "fast", SHARED | CASES[case][1])).state_dict()
    moved = [(one[n] - v).abs().max() for n, v in start.items() if v.is_floating_point()]
    assert max(moved) > 1e-4


@pytest.mark.parametrize("case", ["frame", "clip"])
def test_in_single_precision_to_a_millionth(two: Any, case: str) -> None:
    compare(trained(case, ALONE, False), two[0][0]["single"][case], 1e-6)


@pytest.mark.parametrize("name", recipe_names())
def test_the_first_gradient_of_every_recipe_is_that_of_one_process(two: Any, name: str) -> None:
    """In float32: the loss to rounding, and the gradient to what rectifiers and batch statistics
    make of it (1e-3 of the Spherical U-Net's, 1e-6 of most)."""
    one = first_gradients(name, ALONE)
    for rank in two[0]:
        found = rank["gradients"][name]
        assert one[:-1].norm() > 0
        assert (found - one)[:-1].norm() < 1e-2 * one[:-1].norm()
        assert float(found[-1]) == pytest.approx(float(one[-1]), rel=1e-5)


def test_a_loss_that_is_a_sum_is_no_smaller_in_parts() -> None:
    """The published losses of CP-360 grow with the clips: two batches of one are one of two."""
    whole = first_gradients("cp360-unanchored", ALONE)
    parts = first_gradients("cp360-unanchored", ALONE, batch=1, accumulate=2)
    assert (parts - whole).norm() < 1e-4 * whole.norm()


def test_scores_of_two_processes_are_those_of_one_to_the_bit(two: Any) -> None:
    one = scores(ALONE)
    for rank in two[0]:
        assert rank["scores"] == one and list(rank["scores"]) == list(Gazed().videos)
        assert mean_scores(rank["scores"]) == mean_scores(one)


def test_what_fails_on_one_process_is_told_by_all(two: Any) -> None:
    assert [rank["failing"] for rank in two[0]] == ["v3: frame 2 cannot be decoded"] * 2
    assert all(rank["opening"].startswith("data: 'wrlds', wanted") for rank in two[0])


def test_videos_are_shared_out_by_length() -> None:
    data = Gazed()
    shares = share_videos(data, World(0, 2))
    assert sorted(chain(*shares)) == sorted(data.videos)
    frames = [sum(data.length(video) for video in share) for share in shares]
    assert max(frames) - min(frames) <= 4
    assert all(share == sorted(share) for share in shares)
    # Videos that are scored side by side stay so.
    assert share_videos(data, World(0, 3), together=3) == [["v0", "v2", "v4"], ["v1", "v3"], ["v5"]]
    assert share_videos(data, ALONE, ["v3", "v1"]) == [["v3", "v1"]]
    assert share_videos(data, World(0, 2), ["v3"]) == [["v3"], []]


def test_a_run_of_two_processes_is_that_of_one_and_goes_on_with_another_number(two: Any) -> None:
    found, folder = two
    assert [rank["begun"] for rank in found] == ["interrupted"] * 2
    whole = found[0]["record"]
    assert whole["status"] == "done" and whole["steps"] == 6 and len(whole["scores"]) == 6
    resumed = run_in(str(folder / "run"), ALONE, 6)
    alone = run_in(str(folder / "alone"), ALONE, 6)
    for record in (resumed, alone):
        assert record["status"] == "done"
        assert record["curve"]["loss"] == pytest.approx(whole["curve"]["loss"], rel=1e-5)
        for video, values in whole["scores"].items():
            close = pytest.approx(values, rel=1e-4, abs=1e-5, nan_ok=True)  # a CC may be near 0
            assert record["scores"][video] == close
    weights = [
        load_model("sst-sal-noflow", folder / name / "last.safetensors").state_dict()
        for name in ("whole", "run", "alone")
    ]
    for name, value in weights[2].items():
        for other in weights[:2]:
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
