"""The training loop on small networks: its gradients, its two loops of feedback, its errors."""

import math
from dataclasses import replace
from itertools import islice, repeat

import numpy as np
import pytest
import torch

from sal360.datasets.batch import collate
from sal360.datasets.item import Item
from sal360.datasets.synthetic import render_clip
from sal360.losses import sphere_kld, sphere_mse
from sal360.models import SSTSal
from sal360.models.base import FrameModel
from sal360.sphere import pixel_area
from sal360.training import build_model, fit, load_recipe
from sal360.training.fit import backward, forcing_at, previous_maps, rate_at
from sal360.training.inputs import clip_inputs
from sal360.training.objectives import as_read, map_loss, target_maps
from sal360.training.state import make_optimizer

H, W, T = 16, 32, 4


@pytest.fixture(scope="module")
def batch():
    clip = render_clip(T + 1, H, W, seed=1)
    frames = (clip.frames[:T] * 255).round() / 255  # bytes, as films have them
    item = Item("embedded", "clip", frames, torch.arange(T), 8.0,
                flow=clip.flow, truth=clip.truth[:T, None])  # fmt: skip
    return collate([item])


def recipe(name="sst-sal-noflow", **changes):
    tbptt = T if name.startswith("sst") else 1
    sizes = {"size": (H, W), "clip_length": T, "tbptt": tbptt, "steps": 4, "batch": 1}
    return load_recipe(name, "fast", sizes | changes)


def small_clip_recipe(**changes):
    return recipe(model={"hidden": 3}, **changes)


class Averaging(FrameModel):
    """A frame model that can be followed by hand: a * mean colour + b * the map before + c."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([1.0, 0.5, 0.1]))
        self.seen = []

    def forward(self, image, extra):
        self.seen.append((image.shape[0], self.training, torch.is_grad_enabled(), extra))
        a, b, c = self.weights
        return a * image.mean(1, keepdim=True) + b * extra + c


# --- what goes in, what is wanted ---


def test_inputs_are_those_of_features(batch):
    pictures = (batch.frames[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for model in (build_model(recipe("cube-unet")), build_model(small_clip_recipe())):
        assert model.input_size == (H, W)
        wanted = torch.stack(list(model.features(np.ascontiguousarray(pictures))))
        assert torch.allclose(clip_inputs(model, batch)[0], wanted, atol=2e-6)


def test_inputs_with_flow(batch):
    model = SSTSal(6, 2)
    given = clip_inputs(model, batch)
    assert given.shape == (1, T, 6, H, W)
    assert torch.equal(given[:, :, :3], batch.frames.flip(2))
    drawn = given[:, :, 3:].flip(2)
    again = replace(batch, flow=None, flow_picture=drawn)
    assert torch.equal(clip_inputs(model, again), given)
    with pytest.raises(ValueError, match="batch: no flow"):
        clip_inputs(model, replace(batch, flow=None))


def test_targets(batch):
    relative = target_maps(batch.truth, recipe(target="relative"))
    share = pixel_area(H, W)[:, None] / (4 * math.pi)
    assert torch.allclose((relative * share).sum((-2, -1)), torch.ones(1, T, 1).double(), atol=1e-5)
    peak = target_maps(batch.truth, recipe(target="peak", target_scale=10.0))
    assert torch.allclose(peak.amax((-2, -1)), torch.tensor(10.0))


def test_raw_maps_are_read_as_prediction_reads_them(batch):
    from sal360.inference import to_density

    raw = torch.randn(T, H, W, generator=torch.Generator().manual_seed(0))
    area = pixel_area(H, W)[:, None].float()
    for reading in ("minmax", "positive"):
        read = as_read(raw, reading)
        read = read / (read * area).sum((-2, -1), keepdim=True)
        wanted = to_density(raw if reading == "minmax" else raw.clamp_min(0), (H, W),
                            shift=reading == "minmax")  # fmt: skip
        assert torch.allclose(read, wanted, atol=1e-6)
    assert torch.equal(as_read(raw, "density"), raw)


def test_each_loss_is_the_packages(batch):
    raw = torch.rand(1, T, 1, H, W, generator=torch.Generator().manual_seed(0))
    relative = batch.truth * 4 * math.pi
    mse = recipe(loss="sphere_mse", target="relative")
    assert torch.equal(map_loss(raw, batch.truth, mse), sphere_mse(raw, relative))
    kld = recipe(loss="sphere_kld")
    assert torch.equal(map_loss(raw, batch.truth, kld), sphere_kld(raw, batch.truth))
    # The truth is the minimiser of each, at its own scale or any.
    for one in (mse, kld, recipe(loss="cc")):
        assert float(map_loss(relative, batch.truth, one)) == pytest.approx(0, abs=1e-6)


def test_frames_without_truth_do_not_count(batch):
    raw = torch.rand(1, T, 1, H, W, generator=torch.Generator().manual_seed(0))
    holes = batch.truth.clone()
    holes[:, 1] = math.nan
    kept = [0, 2, 3]
    one = recipe(loss="sphere_mse", target="relative")
    assert torch.equal(map_loss(raw, holes, one), map_loss(raw[:, kept], holes[:, kept], one))
    with pytest.raises(ValueError, match="truth: NaN in every frame"):
        map_loss(raw, holes * math.nan, one)


# --- what goes back ---


def gradients(model, batch, one, forced=False):
    model.zero_grad()
    clip = clip_inputs(model, batch)
    loss = backward(model, clip, {"truth": batch.truth, "flow": batch.flow}, one, forced)
    return loss, torch.cat([p.grad.flatten() for p in model.parameters()])


def test_truncation_changes_the_gradient_and_not_the_loss(batch):
    model = build_model(small_clip_recipe())
    whole = map_loss(model(clip_inputs(model, batch)), batch.truth, small_clip_recipe())
    found = {n: gradients(model, batch, small_clip_recipe(tbptt=n)) for n in (1, 2, 3, T)}
    for loss, _ in found.values():
        assert loss == pytest.approx(float(whole.detach()), rel=1e-5)
    full = torch.autograd.grad(whole, list(model.parameters()))
    assert torch.allclose(found[T][1], torch.cat([g.flatten() for g in full]), atol=1e-6)
    off = {n: float((found[n][1] - found[T][1]).norm()) for n in found}
    assert off[1] > off[3] > 10 * off[T] and off[1] > 1e-3 * float(found[T][1].norm())


def test_a_stretch_without_truth_is_passed_over(batch):
    """The loss is still the mean over the frames that have one."""
    holes = batch.truth.clone()
    holes[:, :3] = math.nan
    model = build_model(small_clip_recipe())
    whole = map_loss(model(clip_inputs(model, batch)), holes, small_clip_recipe())
    for n in (1, 2, 3):
        loss, gradient = gradients(model, replace(batch, truth=holes), small_clip_recipe(tbptt=n))
        assert loss == pytest.approx(float(whole.detach()), rel=1e-5)
        assert bool(gradient.any())
    with pytest.raises(ValueError, match="truth: NaN in every frame"):
        gradients(model, replace(batch, truth=holes * math.nan), small_clip_recipe(tbptt=1))


def test_it_may_be_evaluated_between_steps(batch):
    def run(interrupted):
        one = recipe("lookup-unet", model={"widths": [2, 2, 2, 2, 2, 2, 1]})
        model, losses = build_model(one), []
        for step in fit(model, repeat(batch), one):
            losses.append(step.loss)
            assert model.training
            if interrupted:
                model.eval()
        return losses

    assert run(True) == run(False)


def test_a_frame_model_is_given_the_truth_of_the_frame_before(batch):
    model = Averaging()
    fed = previous_maps(model, clip_inputs(model, batch), batch.truth)
    assert torch.equal(fed[:, 0], torch.ones(1, 1, H, W))
    relative = batch.truth[:, :-1] * 4 * math.pi
    assert torch.allclose(fed[:, 1:], relative, rtol=1e-5, atol=1e-5)


def test_a_frame_without_truth_is_fed_as_uniform(batch):
    holes = batch.truth.clone()
    holes[:, 1] = math.nan
    model = Averaging()
    fed = previous_maps(model, clip_inputs(model, batch), holes)
    assert torch.equal(fed[:, 2], torch.ones(1, 1, H, W)) and bool(fed.isfinite().all())


def test_in_closed_loop_it_is_given_what_prediction_gives_it(batch):
    model = Averaging().train()
    clip = clip_inputs(model, batch)
    fed = previous_maps(model, clip, None)
    assert model.training and all(not grad for _, _, grad, _ in model.seen)
    assert not any(training for _, training, _, _ in model.seen)  # as in prediction
    model.seen.clear()
    with torch.no_grad():
        model.rollout(clip)
    assert torch.equal(fed[0], torch.cat([extra for *_, extra in model.seen]))


def test_a_frame_model_answers_all_frames_at_once(batch):
    model = Averaging().train()
    one = recipe("lookup-unet", loss="sphere_mse", target="relative")
    for forced in (True, False):
        model.seen.clear()
        loss, gradient = gradients(model, batch, one, forced)
        count, training, grad, extra = model.seen[-1]
        assert (count, training, grad) == (T, True, True)
        raw = model(batch.frames[0], extra)[None]
        whole = map_loss(raw, batch.truth, one)
        assert loss == pytest.approx(float(whole.detach()), rel=1e-6)
        assert torch.allclose(gradient, torch.autograd.grad(whole, model.weights)[0], rtol=1e-5)


def test_what_a_loss_needs_must_be_there(batch):
    one = small_clip_recipe()
    with pytest.raises(ValueError, match="batch: no truth, wanted by the loss sphere_kld"):
        next(fit(build_model(one), repeat(replace(batch, truth=None)), one))


# --- the loop ---


def test_the_same_recipe_gives_the_same_numbers(batch):
    def run(seed):
        one = recipe("lookup-unet", steps=6, seed=seed, teacher_forcing=[0.5, 0.5],
                     model={"widths": [2, 2, 2, 2, 2, 2, 1]})  # fmt: skip
        model = build_model(one)
        steps = list(fit(model, repeat(batch), one))
        return steps, torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)  # the surroundings' dice do not matter
    again, other = run(0), run(1)
    assert first[0] == again[0] and torch.equal(first[1], again[1])
    assert first[0] != other[0]
    assert [step.index for step in first[0]] == list(range(6))


def test_building_leaves_the_surroundings_dice_alone():
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    build_model(small_clip_recipe())
    assert torch.equal(torch.rand(1), wanted)


def test_a_step_is_the_optimisers(batch):
    """SGD with momentum and decay by hand."""
    one = small_clip_recipe(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.01,
                            schedule="constant", gradient_clip=0.0, steps=2)  # fmt: skip
    model, mine = build_model(one), build_model(one)
    steps = list(fit(model, repeat(batch), one))
    speed = [torch.zeros_like(p) for p in mine.parameters()]
    for step in steps:
        loss, gradient = gradients(mine, batch, one)
        assert (step.loss, step.lr) == (pytest.approx(loss), 0.1)
        assert step.gradient == pytest.approx(float(gradient.norm()), rel=1e-5)
        with torch.no_grad():
            for p, v in zip(mine.parameters(), speed, strict=True):
                v.mul_(0.5).add_(p.grad + 0.01 * p)
                p.sub_(0.1 * v)
    for a, b in zip(model.parameters(), mine.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_long_gradient_is_cut(batch):
    """The report holds its length before; the step is of the length allowed."""
    one = small_clip_recipe(optimizer="sgd", lr=1.0, gradient_clip=1e-3, weight_decay=0.0,
                            schedule="constant", steps=1)  # fmt: skip
    model, start = build_model(one), build_model(one)
    (step,) = fit(model, repeat(batch), one)
    pairs = zip(model.parameters(), start.parameters(), strict=True)
    moved = torch.cat([(a - b).detach().flatten() for a, b in pairs]).norm()
    assert step.gradient > 1e-2 and float(moved) == pytest.approx(1e-3, rel=1e-3)


def test_rates_and_shares_follow_the_recipe():
    one = recipe("lookup-unet", steps=100, lr=2.0, schedule="cosine", teacher_forcing=[1, 0.5])
    rates = [rate_at(k, one) for k in range(100)]
    assert rates[0] == pytest.approx(0.4) and max(rates) < 2.0 and rates[-1] < 0.01
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and peak == 4
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert (forcing_at(0, one), forcing_at(99, one)) == (1.0, 0.5)
    constant = recipe(schedule="constant", lr=0.3)
    assert {rate_at(k, constant) for k in range(4)} == {0.3}


def test_frozen_weights_stay(batch):
    one = small_clip_recipe(weight_decay=0.1)
    model = build_model(one)
    model.encoder.requires_grad_(False)
    before = model.encoder.lstm.conv.weight.clone()
    list(fit(model, repeat(batch), one))
    assert torch.equal(model.encoder.lstm.conv.weight, before)
    assert sum(len(g["params"]) for g in make_optimizer(model, one).param_groups) == 2


def test_batches_that_end_too_early(batch):
    with pytest.raises(ValueError, match="batches: ended after 2, wanted 4"):
        list(fit(build_model(small_clip_recipe()), repeat(batch, 2), small_clip_recipe()))


def test_nothing_happens_until_it_is_asked_for(batch):
    model = build_model(small_clip_recipe())
    before = model.encoder.lstm.conv.weight.clone()
    steps = fit(model, repeat(batch), small_clip_recipe())
    assert torch.equal(model.encoder.lstm.conv.weight, before)
    assert len(list(islice(steps, 2))) == 2


def test_a_gradient_that_is_not_finite_stops_before_the_step(batch):
    one = recipe("lookup-unet", loss="sphere_mse", target="relative")
    model = Averaging()
    model.weights.register_hook(lambda gradient: gradient * math.inf)
    before = model.weights.detach().clone()
    with pytest.raises(FloatingPointError, match="step 0: a loss of"):
        list(fit(model, repeat(batch), one))
    assert torch.equal(model.weights.detach(), before)


def test_settings_that_a_network_does_not_take():
    with pytest.raises(ValueError, match="sst-sal-noflow: model: wide"):
        build_model(recipe(model={"wide": 3}))
    with pytest.raises(ValueError, match=r"model: input_size: \[8, 16\], wanted size, the recipe"):
        build_model(load_recipe("cube-unet", "fast", {"model": {"input_size": [8, 16]}}))


def test_batches_that_are_something_else_are_named():
    recipe = load_recipe("cube-unet", "fast")
    with pytest.raises(TypeError, match="batches: a Tensor, wanted Batch"):
        next(fit(build_model(recipe), [torch.zeros(1, 6, 3, 32, 64)], recipe))
