"""Losses against plain loops, their minimisers, their gradients, and maps that break others."""

import math
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import losses, metrics, upstream
from sal360.sphere import erp_directions, pixel_area

PAIRED = {
    "mse": losses.sphere_mse,
    "integral": partial(losses.sphere_mse, form="integral"),
    "kld": losses.sphere_kld,
    "logits": partial(losses.sphere_kld, from_logits=True),
    "cc": losses.cc_loss,
    "sim": losses.sim_loss,
}
"""All that compare a map with a map."""


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blobs(H, W, seed=0):
    """A density with three soft spots, one of them near a pole, and a faint ground everywhere."""
    xyz = erp_directions(H, W)
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    centres[0] = torch.tensor([0.2, -1.0, 0.1])
    centres = centres / centres.norm(dim=1, keepdim=True)
    out = 0.05 + torch.exp(12 * (xyz @ centres.T - 1)).sum(-1)
    return out / (out * pixel_area(H, W)[:, None]).sum()


def correlation(a, b, weight=None):
    """Pearson's, weighted by area unless told otherwise."""
    weight = pixel_area(*a.shape)[:, None] if weight is None else weight
    weight = (weight / (weight * torch.ones_like(a)).sum()).expand_as(a)
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    return (weight * a * b).sum() / ((weight * a**2).sum() * (weight * b**2).sum()).sqrt()


# --- plain references ------------------------------------------------------------------------


def plain(pred, truth):
    """All five losses of one pair of maps, pixel by pixel."""
    H, W = pred.shape
    area = pixel_area(H, W).tolist()
    cells = [(area[i], pred[i, j].item(), truth[i, j].item()) for i in range(H) for j in range(W)]
    whole = sum(a for a, _, _ in cells)
    out = {"integral": sum(a * (p - t) ** 2 for a, p, t in cells)}
    out["mse"] = out["integral"] / whole
    mass_p, mass_t = (sum(c[0] * c[k] for c in cells) for k in (1, 2))
    out["kld"] = out["sim"] = 0.0
    for a, p, t in cells:
        p, t = p / mass_p * whole, t / mass_t * whole
        out["sim"] += a * min(p, t) / whole
        p, t = (p + 1e-6) / (1 + 1e-6), (t + 1e-6) / (1 + 1e-6)
        out["kld"] += a * t * math.log(t / p) / whole
    out["sim"] = 1 - out["sim"]
    exp_mass = sum(a * math.exp(p) for a, p, _ in cells)
    out["logits"] = sum(
        a * (t / mass_t) * math.log((t / mass_t) / (math.exp(p) / exp_mass))
        for a, p, t in cells
        if t > 0
    )
    mean_p, mean_t = mass_p / whole, mass_t / whole
    var_p = sum(a * (p - mean_p) ** 2 for a, p, _ in cells)
    var_t = sum(a * (t - mean_t) ** 2 for a, _, t in cells)
    together = sum(a * (p - mean_p) * (t - mean_t) for a, p, t in cells)
    out["cc"] = 1 - together / math.sqrt(var_p * var_t)
    return out


@pytest.mark.parametrize("name", PAIRED)
def test_each_loss_equals_the_plain_loop(name):
    for seed in range(3):
        pred, truth = seeded(2, 5, 8, seed=seed)
        truth[1, 2] = 0
        assert abs(PAIRED[name](pred, truth) - plain(pred, truth)[name]) < 1e-12


def test_losses_and_metrics_tell_the_same_story():
    pred, truth = seeded(2, 6, 12)
    assert abs(1 - losses.cc_loss(pred, truth) - metrics.cc(pred, truth)) < 1e-12
    fixations = 2 * seeded(40, 2, seed=1) - 1
    assert abs(-losses.nss_loss(pred, fixations) - metrics.nss(pred, fixations)) < 1e-12
    assert abs(1 - losses.sim_loss(pred, truth) - metrics.sim(pred, truth)) < 1e-12
    density = losses.softmax_density(pred)
    divergence = losses.sphere_kld(pred, truth, from_logits=True)
    assert abs(divergence - metrics.kld(density, truth)) < 1e-12  # which has no floor


def test_a_constant_difference_costs_its_square():
    zero = torch.zeros(2, 1, 7, 12)
    assert abs(losses.sphere_mse(zero + 3, zero) - 9) < 1e-5
    assert abs(losses.sphere_mse(zero + 3, zero, form="integral") - 36 * math.pi) < 1e-4


def test_divergence_of_a_hemisphere_from_the_whole_is_the_logarithm_of_two():
    H, W = 12, 24
    north = torch.zeros(H, W, dtype=torch.float64)
    north[: H // 2] = 1
    assert abs(losses.sphere_kld(torch.ones_like(north), north) - math.log(2)) < 1e-5
    logits = torch.zeros_like(north)
    assert abs(losses.sphere_kld(logits, north, from_logits=True) - math.log(2)) < 1e-12
    assert abs(losses.sim_loss(torch.ones_like(north), north) - 0.5) < 1e-12
    # The other way round the south is missed, at the price of the floor.
    missed = 0.5 * math.log(1e6) + 0.5 * math.log(0.5)
    assert abs(losses.sphere_kld(north, torch.ones_like(north)) - missed) < 1e-4


@pytest.mark.parametrize("name", ["kld", "sim", "cc"])
def test_the_truth_at_any_scale_costs_nothing(name):
    truth = blobs(16, 32)
    for scale in (1e-20, 1.0, 1e20):
        assert abs(PAIRED[name](truth * scale, truth)) < 1e-12
        assert abs(PAIRED[name](truth, truth * scale)) < 1e-12


def test_softmax_density_integrates_to_one_and_is_what_the_divergence_uses():
    logits = 6 * seeded(2, 3, 9, 14) - 3
    density = losses.softmax_density(logits)
    assert ((density * pixel_area(9, 14)[:, None]).sum((-2, -1)) - 1).abs().max() < 1e-12
    assert torch.allclose(density / density[..., :1, :1], (logits - logits[..., :1, :1]).exp())
    truth = seeded(2, 3, 9, 14, seed=3)
    through = losses.sphere_kld(density, truth, reduction="none")
    direct = losses.sphere_kld(logits, truth, from_logits=True, reduction="none")
    assert (through - direct).abs().max() < 3e-5  # the floor's part


def test_ranges():
    for seed in range(20):
        pred, truth = seeded(2, 5, 9, seed=seed) ** 8
        assert losses.sphere_kld(pred, truth) > 0
        assert 0 < losses.sim_loss(pred, truth) < 1
        assert 0 < losses.cc_loss(pred, truth) < 2
    assert abs(losses.cc_loss(-truth, truth) - 2) < 1e-9
    apart = torch.zeros(2, 5, 9, dtype=torch.float64)
    apart[0, 0, 0] = apart[1, 3, 3] = 1
    assert abs(losses.sim_loss(*apart) - 1) < 1e-12
    bound = math.log(4 * math.pi / (float(pixel_area(5, 9)[3]) * 1e-6))
    assert bound - 1e-3 < losses.sphere_kld(*apart) < bound + 1e-5


# --- minimisers ------------------------------------------------------------------------------

SIZE = (16, 32)
AREA = pixel_area(*SIZE)[:, None]


def minimise(loss, steps=400, lr=0.1, seed=5):
    """A free map, from noise, by Adam with a step that shrinks to nothing."""
    generator = torch.Generator().manual_seed(seed)
    free = torch.randn(SIZE, generator=generator, dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(free).backward()
        optimiser.step()
        schedule.step()
    return free.detach()


def fitted(found, truth):
    """``a * found + b`` nearest to the truth: for losses that are blind to scale and offset."""
    columns = torch.stack((found.flatten(), torch.ones_like(found).flatten()), 1)
    a, b = torch.linalg.lstsq(columns, truth.flatten()).solution
    return a * found + b


def assert_is(found, truth, within=0.01):
    """The same map, near the poles as well: correlation, and the ratio in every row."""
    assert correlation(found, truth) > 0.999
    for rows in (slice(0, 3), slice(-3, None)):
        assert correlation(found[rows], truth[rows], torch.ones(1)) > 0.99
    ratios = found.mean(1) / truth.mean(1)
    assert (ratios - 1).abs().max() < within, ratios


def test_squared_error_finds_the_truth():
    truth = blobs(*SIZE)
    assert_is(minimise(lambda x: losses.sphere_mse(x, truth)), truth)


@pytest.mark.parametrize("name", ["kld", "sim"])
def test_losses_of_densities_find_the_truth(name):
    truth = blobs(*SIZE)
    found = minimise(lambda x: PAIRED[name](x.exp(), truth), lr=0.2).exp()
    assert_is(found / (found * AREA).sum(), truth)


def test_divergence_from_logits_finds_the_logarithm_of_the_truth():
    truth = blobs(*SIZE)
    found = minimise(lambda x: losses.sphere_kld(x, truth, from_logits=True), lr=0.2)
    assert_is(losses.softmax_density(found), truth)


def test_correlation_finds_the_truth_up_to_scale_and_offset():
    truth = blobs(*SIZE)
    found = minimise(lambda x: losses.cc_loss(x, truth), 600)
    assert_is(fitted(found, truth), truth)
    assert correlation(found, truth) < 1 + 1e-9


def test_the_published_divergence_finds_the_sine_of_colatitude_times_the_truth():
    """Its free map has a row ratio of sin(theta); ours of 1 with the same start and steps."""
    truth = blobs(*SIZE)
    truth = truth - truth.min()  # the stretching takes any offset out
    sine = torch.sin((torch.arange(SIZE[0], dtype=torch.float64) + 0.5) * math.pi / SIZE[0])

    def published(x):
        return 100 * upstream.sphere_kld(x.exp()[None, None], truth[None, None]).sum()

    found = minimise(published, 600, lr=0.2).exp()
    found = found - found.min()
    rows = found.mean(1) / truth.mean(1)
    assert (rows / rows.max() - sine / sine.max()).abs().max() < 0.01
    assert rows[0] / rows.max() < 0.11 and rows[-1] / rows.max() < 0.11
    assert correlation(found, truth * sine[:, None]) > 0.999
    right = minimise(lambda x: losses.sphere_kld(x.exp(), truth), lr=0.2).exp()
    rows = right.mean(1) / truth.mean(1)
    assert (rows / rows.mean() - 1).abs().max() < 0.02
    assert losses.sphere_kld(found, truth) > 0.05 > 2e-3 > losses.sphere_kld(right, truth)


def drawn(density, count, seed):
    """Fixations from a density, at pixel centres: directions, and counts per pixel."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.multinomial((density * AREA).flatten(), count, True, generator=generator)
    H, W = SIZE
    lon = (((place % W).double() + 0.5) / W - 0.5) * 2 * math.pi
    lat = (0.5 - ((place // W).double() + 0.5) / H) * math.pi
    counts = torch.bincount(place, minlength=H * W).reshape(H, W).double()
    return torch.stack((lon, lat), -1), counts


def test_nss_prefers_the_fixations_themselves_to_the_density_they_came_from():
    """Its minimiser is their histogram per solid angle, a spike each; new gaze punishes it."""
    truth = blobs(*SIZE)
    fixations, counts = drawn(truth, 30, 0)
    found = minimise(lambda x: losses.nss_loss(x, counts), 600)
    spikes = counts / AREA
    assert correlation(found, spikes) > 0.999 and correlation(found, truth) < 0.7
    share = AREA / (4 * math.pi)
    deviation = ((share * (spikes / 30 * 4 * math.pi) ** 2).sum() - 1).sqrt()
    assert abs(losses.nss_loss(spikes, fixations) + deviation) < 1e-6
    assert losses.nss_loss(found, fixations) < 1.5 * losses.nss_loss(truth, fixations) < 0
    others, _ = drawn(truth, 3000, 1)
    assert losses.nss_loss(found, others) > losses.nss_loss(truth, others) + 0.3


def test_nss_of_a_single_fixation_wants_one_pixel_and_the_finer_the_better():
    least = []
    for H in (16, 32, 64):
        lon, lat = math.pi / (2 * H), math.pi / (2 * H)
        spike = torch.zeros(H, 2 * H, dtype=torch.float64)
        spike[H // 2 - 1, H] = 1
        share = float(pixel_area(H, 2 * H)[H // 2 - 1]) / (4 * math.pi)
        least.append(float(losses.nss_loss(spike, [[lon, lat]])))
        assert abs(least[-1] + math.sqrt((1 - share) / share)) < 1e-6
    assert least[2] < 1.9 * least[1] < 1.9**2 * least[0] < 0


def test_nss_of_endless_fixations_finds_the_density_and_by_pixels_would_not():
    """Area in the mean and the deviation is what makes it so."""
    truth = blobs(*SIZE)
    expected = truth * AREA
    assert_is(fitted(minimise(lambda x: losses.nss_loss(x, expected), 600), truth), truth)

    def by_pixels(x):
        return -((x - x.mean()) / x.std() * expected).sum()

    assert correlation(minimise(by_pixels, 600), expected) > 0.999


# --- what must not matter --------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRED)
def test_turning_both_maps_changes_nothing(name):
    pred, truth = seeded(2, 7, 12)
    for shift in (1, 5, 11):
        turned = PAIRED[name](pred.roll(shift, -1), truth.roll(shift, -1))
        assert abs(turned - PAIRED[name](pred, truth)) < 1e-12


def test_turning_map_and_gaze_changes_nothing():
    pred, fixations = seeded(7, 12), 2 * seeded(20, 2, seed=1) - 1
    turned = fixations + torch.tensor([5 * 2 * math.pi / 12, 0], dtype=torch.float64)
    wanted = losses.nss_loss(pred, fixations)
    assert abs(losses.nss_loss(pred.roll(5, -1), turned) - wanted) < 1e-9


@pytest.mark.parametrize("name", PAIRED)
def test_the_grid_does_not_matter(name):
    """The same smooth functions on grids of 64 x 128 and 128 x 256: within one percent."""
    values = [PAIRED[name](blobs(H, 2 * H, 1), blobs(H, 2 * H)) for H in (64, 128)]
    assert abs(values[0] / values[1] - 1) < 0.01
    fixations = 2 * seeded(50, 2, seed=1) - 1
    scores = [losses.nss_loss(blobs(H, 2 * H), fixations) for H in (64, 128)]
    assert abs(scores[0] / scores[1] - 1) < 0.01


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 8), (2, 1, 5, 8), (2, 3, 1, 5, 8)])
def test_leading_axes_count_maps(name, shape):
    pred, truth = seeded(2, *shape)
    each = PAIRED[name](pred, truth, reduction="none")
    assert each.shape == shape[:-2]
    alone = [
        PAIRED[name](p, t)
        for p, t in zip(pred.reshape(-1, 5, 8), truth.reshape(-1, 5, 8), strict=True)
    ]
    assert torch.allclose(each.flatten(), torch.stack(alone).flatten(), rtol=1e-12)
    assert abs(PAIRED[name](pred, truth) - each.mean()) < 1e-12
    assert abs(PAIRED[name](pred, truth, reduction="sum") - each.sum()) < 1e-9


def test_arrays_are_taken_too():
    pred, truth = seeded(2, 5, 8)
    for loss in PAIRED.values():
        assert abs(loss(pred.numpy(), truth.numpy()) - loss(pred, truth)) < 1e-12


# --- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRED)
def test_gradients_are_those_of_the_formula(name):
    pred, truth = (0.2 + seeded(2, 2, 1, 5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(PAIRED[name], (pred, truth))


def test_the_gradients_of_nss_and_of_the_softmax_are_right():
    pred = seeded(2, 1, 5, 6).requires_grad_()
    sets = [2 * seeded(7, 2, seed=1) - 1, 2 * seeded(3, 2, seed=2) - 1]
    assert torch.autograd.gradcheck(lambda p: losses.nss_loss(p, sets), (pred,))
    counts = (seeded(2, 1, 5, 6, seed=4) * 3).floor()
    assert torch.autograd.gradcheck(lambda p: losses.nss_loss(p, counts), (pred,))
    assert torch.autograd.gradcheck(losses.softmax_density, (pred,))


# --- maps that break losses ------------------------------------------------------------------


def one(row, col, value=1.0):
    out = torch.zeros(1, 1, 32, 64)
    out[..., row, col] = value
    return out


ODD = {
    "zero": torch.zeros(1, 1, 32, 64),
    "flat": torch.full((1, 1, 32, 64), 0.3),
    "nearly flat": 0.3 + 3e-8 * seeded(1, 1, 32, 64, dtype=torch.float32),
    "one pixel at the pole": one(0, 0),
    "one pixel at the horizon": one(16, 31),
    "one bright among dark": one(31, 63) + 1e-6,
    "sparse": (seeded(1, 1, 32, 64, dtype=torch.float32) > 0.99).float(),
    "huge": 1e37 * seeded(1, 1, 32, 64, dtype=torch.float32),
    "huge and one pixel": one(31, 0, 3e38),
    "tiny": 1e-37 * seeded(1, 1, 32, 64, dtype=torch.float32),
    "below the smallest normal number": one(3, 5, 1e-42),
    "many orders": 10 ** (60 * seeded(1, 1, 32, 64, dtype=torch.float32) - 30),
}


def refused(name, pred, truth):
    """What has no finite answer: squares that overflow, and a truth that is no density."""
    large = {"huge", "huge and one pixel", "many orders"}
    if name in ("mse", "integral"):
        return bool({pred, truth} & large)
    no_density = truth in ("zero", "below the smallest normal number")
    return name != "cc" and (no_density or (name == "logits" and pred in large))


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("pred", ODD)
def test_odd_maps_give_finite_losses_and_gradients_or_one_clear_line(name, pred):
    for kind, truth in ODD.items():
        guess = ODD[pred].clone().requires_grad_()
        if refused(name, pred, kind):
            with pytest.raises(ValueError, match=r"^(pred|truth).*: (values up to|a map of zeros)"):
                PAIRED[name](guess, truth)
            continue
        loss = PAIRED[name](guess, truth)
        loss.backward()
        assert loss.isfinite() and guess.grad.isfinite().all(), (pred, kind)


@pytest.mark.parametrize("pred", ODD)
def test_odd_maps_and_gaze(pred):
    guess = ODD[pred].clone().requires_grad_()
    for fixations in ([[0.3, 0.2], [3.1, -1.5]], (ODD["sparse"] > 0).float()):
        loss = losses.nss_loss(guess, fixations)
        loss.backward()
        assert loss.isfinite() and guess.grad.isfinite().all()
    if pred in ("zero", "flat", "nearly flat"):
        assert abs(losses.nss_loss(guess, [[0.3, 0.2]])) < 1e-6


def test_flat_predictions_are_worth_what_the_docstrings_say_and_can_leave():
    truth = blobs(32, 64).float()[None, None]
    for level in (0.0, 0.3):
        flat = torch.full_like(truth, level).requires_grad_()
        assert abs(losses.cc_loss(flat, truth) - 1) < 1e-6
        uniform = losses.sphere_kld(torch.zeros_like(truth), truth, from_logits=True)
        assert abs(losses.sphere_kld(flat, truth) - uniform) < 1e-5
        for loss in (losses.cc_loss, losses.sphere_kld):
            (slope,) = torch.autograd.grad(loss(flat, truth), flat)
            assert correlation(-slope[0, 0] / pixel_area(32, 64)[:, None], truth[0, 0]) > 0.99
    assert abs(losses.cc_loss(truth, torch.ones_like(truth)) - 1) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [*PAIRED, "nss"])
def test_half_precision_is_computed_in_single(name, dtype):
    """Given half-precision maps, and under autocast: the value of the same maps in double."""
    pred, truth = seeded(2, 2, 1, 16, 32).to(dtype)
    gaze = [[[0.3, 0.2]], [[-2.0, 1.0]]]
    loss = PAIRED.get(name, lambda p, _, **k: losses.nss_loss(p, gaze, **k))
    wanted = loss(pred.double(), truth.double())
    leaf = pred.clone().requires_grad_()
    value = loss(leaf, truth)
    value.backward()
    assert value.dtype == torch.float32 and abs(value / wanted - 1) < 1e-5
    assert leaf.grad.dtype == dtype and leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(loss(pred, truth) / wanted - 1) < 1e-5
        assert abs(loss(pred.float(), truth.float()) / wanted - 1) < 1e-5


def test_single_precision_is_close_to_double_on_a_large_map():
    pred, truth = blobs(256, 512, 1), blobs(256, 512)
    for name, loss in PAIRED.items():
        single = loss(pred.float(), truth.float())
        assert single.dtype == torch.float32
        assert abs(single / loss(pred, truth) - 1) < 2e-5, name


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=60)
def test_any_size_and_any_sparse_map(seed, H, W):
    """Down to one pixel: finite, in range, no gradient that is not a number."""
    pred, truth = seeded(2, H, W, seed=seed, dtype=torch.float32)
    pred = (pred * (pred > 0.5)).requires_grad_()
    truth = truth * (truth > 0.5)
    for name, loss in PAIRED.items():
        if not truth.any() and name in ("kld", "logits", "sim"):
            with pytest.raises(ValueError, match="^truth: a map of zeros"):
                loss(pred, truth)
            continue
        value = loss(pred, truth)
        (slope,) = torch.autograd.grad(value, pred)
        assert value > -1e-5 and value.isfinite() and slope.isfinite().all(), name


# --- fixations in their three forms ----------------------------------------------------------


def test_nss_of_counts_of_directions_and_of_lists_agree():
    fixations, counts = drawn(blobs(*SIZE), 25, 0)
    pred = seeded(3, 1, *SIZE)
    by_map = losses.nss_loss(pred, torch.stack([counts] * 3)[:, None], reduction="none")
    by_list = losses.nss_loss(pred, [fixations] * 3, reduction="none")
    alone = [losses.nss_loss(p[0], fixations) for p in pred]
    assert by_map.shape == by_list.shape == (3, 1)
    assert torch.allclose(by_map, by_list, atol=1e-9)
    assert torch.allclose(by_list[:, 0], torch.stack(alone), atol=1e-12)
    by_tensor = losses.nss_loss(pred, fixations.expand(3, 1, -1, -1), reduction="none")
    assert torch.equal(by_tensor, by_list)
    assert losses.nss_loss(pred[0], fixations.tolist()) == losses.nss_loss(pred[:1], fixations)


def test_nss_of_sets_of_other_sizes():
    pred, sets = seeded(2, 3, 9, 14), [2 * seeded(n + 1, 2, seed=n) - 1 for n in range(6)]
    got = losses.nss_loss(pred, sets, reduction="none")
    for k, fixations in enumerate(sets):
        assert abs(got.flatten()[k] - losses.nss_loss(pred.flatten(0, 1)[k], fixations)) < 1e-12


def test_what_was_prepared_without_gradients_serves_training_afterwards():
    truth = seeded(1, 1, 6, 14)
    with torch.inference_mode():
        losses.sphere_kld(truth, truth)
    pred = seeded(1, 1, 6, 14, seed=1).requires_grad_()
    losses.sphere_kld(pred, truth).backward()
    assert pred.grad.abs().max() > 0


# --- several at once -------------------------------------------------------------------------


def test_a_weighted_sum_keeps_its_parts():
    pred, truth = seeded(2, 2, 1, 5, 8)
    pred.requires_grad_()
    gaze = [[[0.3, 0.2]], [[-2.0, 1.0]]]
    whole = losses.WeightedSum(
        mse=(2.0, losses.sphere_mse), nss=(0.1, losses.nss_loss), cc=(0.0, losses.cc_loss)
    )
    total, parts = whole(pred, truth, fixations=gaze)
    wanted = 2 * losses.sphere_mse(pred, truth) + 0.1 * losses.nss_loss(pred, gaze)
    assert abs(total - wanted) < 1e-12
    assert list(parts) == ["mse", "nss", "cc"] and not any(v.requires_grad for v in parts.values())
    assert abs(parts["cc"] - losses.cc_loss(pred, truth)) < 1e-12
    ours, theirs = (torch.autograd.grad(v, pred)[0] for v in (total, wanted))
    assert torch.allclose(ours, theirs)
    assert repr(whole) == "WeightedSum(mse=2, nss=0.1, cc=0)"


def test_a_weighted_sum_hands_out_targets_by_name():
    maps, flow = seeded(1, 3, 1, 6, 12), seeded(1, 2, 2, 6, 12, seed=1)
    whole = losses.WeightedSum(
        kld=(1.0, losses.sphere_kld),
        along=(0.5, losses.temporal_smoothness),
        place=(0.5, lambda maps: losses.temporal_smoothness(maps)),
    )
    truth = seeded(1, 3, 1, 6, 12, seed=2)
    _, parts = whole(maps, truth, flow=flow)
    assert parts["along"] == losses.temporal_smoothness(maps, flow)
    assert parts["place"] == losses.temporal_smoothness(maps)
    planar = losses.WeightedSum(planar=(1.0, torch.nn.MSELoss()))  # any module that has names
    assert planar(maps, target=truth).total == ((maps - truth) ** 2).mean()


# --- between frames --------------------------------------------------------------------------


def plain_warp(image, flow):
    """Bilinear reads at (i + down, j + right), one pixel after the other; (H, W), (2, H, W)."""
    H, W = image.shape
    out = torch.zeros_like(image)

    def pixel(i, j):
        if not 0 <= i < H:  # over a pole
            i, j = (-1 - i if i < 0 else 2 * H - 1 - i), j + W // 2
        return image[i, j % W]

    for i in range(H):
        for j in range(W):
            row, col = i + flow[1, i, j].item(), j + flow[0, i, j].item()
            top, left = math.floor(row), math.floor(col)
            v, u = row - top, col - left
            out[i, j] = (1 - v) * ((1 - u) * pixel(top, left) + u * pixel(top, left + 1)) + v * (
                (1 - u) * pixel(top + 1, left) + u * pixel(top + 1, left + 1)
            )
    return out


def test_warping_equals_the_plain_loop_over_seam_and_poles():
    image, flow = seeded(2, 2, 6, 8), 8 * seeded(2, 2, 6, 8, seed=1) - 4
    got = losses.warp_by_flow(image, flow)
    for b in range(2):
        for c in range(2):
            assert torch.allclose(got[b, c], plain_warp(image[b, c], flow[b]), atol=1e-9)


@pytest.mark.parametrize("columns", [1, 5, -3, 12])
def test_the_next_map_read_where_flow_leads_is_this_map(columns):
    """Direction and length of flow: a turn to the right by whole pixels, seam and all."""
    here = seeded(1, 1, 6, 12)
    following = here.roll(columns, -1)
    flow = torch.zeros(1, 2, 6, 12, dtype=torch.float64)
    flow[:, 0] = columns
    assert torch.allclose(losses.warp_by_flow(following, flow), here, atol=1e-12)
    clip = torch.stack((here, following), 1)
    assert losses.temporal_smoothness(clip, flow[:, None]) < 1e-24
    assert losses.temporal_smoothness(clip, -flow[:, None]) > 0.01 or columns == 12


def test_a_walk_over_the_pole():
    """Down the map by two rows from row -1: what goes over a pole comes down half a turn away."""
    image = seeded(1, 1, 6, 8)
    flow = torch.zeros(1, 2, 6, 8, dtype=torch.float64)
    flow[:, 1] = -3
    got = losses.warp_by_flow(image, flow)
    assert torch.allclose(got[0, 0, 3:], image[0, 0, :3], atol=1e-12)
    over = image[0, 0, :3].flip(0).roll(4, -1)
    assert torch.allclose(got[0, 0, :3], over, atol=1e-12)


def test_the_gradients_of_warping_are_right():
    image = seeded(2, 1, 4, 6).requires_grad_()
    flow = (0.2 + 0.6 * seeded(2, 2, 4, 6, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(losses.warp_by_flow, (image, flow))
    clip = seeded(1, 3, 1, 4, 6).requires_grad_()
    between = 0.2 + 0.6 * seeded(1, 2, 2, 4, 6, seed=1)
    assert torch.autograd.gradcheck(lambda c: losses.temporal_smoothness(c, between), (clip,))
    assert torch.autograd.gradcheck(
        lambda c: losses.temporal_losses(c, between, threshold=0.5).total(), (clip,)
    )


def test_flow_on_another_grid_is_as_long_in_degrees():
    """A turn by 30 degrees, told on a finer and on a coarser grid than the maps'."""
    here = blobs(24, 48)[None, None]
    clip = torch.stack((here, here.roll(4, -1)), 1)
    for H, W in ((24, 48), (96, 192), (60, 90), (12, 24), (12, 96)):
        flow = torch.zeros(1, 1, 2, H, W, dtype=torch.float64)
        flow[:, :, 0] = W * 30 / 360
        assert losses.temporal_smoothness(clip, flow) < 1e-20
    assert losses.temporal_smoothness(clip) > 1e-4


def test_resizing_flow_keeps_a_smooth_field():
    def field(H, W):
        lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H)[:, None] * math.pi
        lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W - 0.5) * 2 * math.pi
        right = W / 100 * torch.cos(lat) * torch.sin(lon)
        return torch.stack((right, H / 100 * torch.sin(lat).expand(H, W) * torch.cos(lon)))[None]

    for size in ((32, 64), (128, 256), (50, 90), (96, 300), (64, 128)):
        got = losses.resize_flow(field(64, 128), *size)
        assert (got - field(*size)).abs().max() < 0.02 * field(*size).abs().max(), size
    flow = field(64, 128).roll(40, -1)
    turned = losses.resize_flow(flow, 32, 64)
    assert torch.allclose(turned, losses.resize_flow(field(64, 128), 32, 64).roll(20, -1))


def test_what_is_hidden_does_not_come_back():
    """A block moves to the right over a still ground: the ground it covers is not visible."""
    forward, backward = torch.zeros(2, 1, 2, 16, 32, dtype=torch.float64)
    forward[:, 0, 6:10, 8:12] = 4
    backward[:, 0, 6:10, 12:16] = -4
    seen = losses.visible_by_flow(forward, backward)[0, 0]
    wanted = torch.ones(16, 32)
    wanted[6:10, 12:16] = 0  # ground that the block will stand on
    assert torch.equal(seen, wanted)
    block = torch.zeros(1, 2, 1, 16, 32, dtype=torch.float64)
    block[:, 0, :, 6:10, 8:12] = block[:, 1, :, 6:10, 12:16] = 1
    assert losses.temporal_smoothness(block, forward[:, None]) > 0.01
    visible = seen[None, None, None]
    assert losses.temporal_smoothness(block, forward[:, None], visible) == 0


def test_visibility_over_the_seam_and_the_pole():
    """Whole turns and walks over a pole and back again are no distance."""
    flow = torch.zeros(1, 2, 8, 16, dtype=torch.float64)
    flow[:, 0] = 5
    assert losses.visible_by_flow(flow, -flow).all()
    assert not losses.visible_by_flow(flow, flow)[0, 0, 2:-2].any()
    up = torch.zeros(1, 2, 8, 16, dtype=torch.float64)
    up[:, 1, :2] = -4  # the two top rows go over the pole, to rows 3 and 2 of the far side
    back = torch.zeros_like(up)
    back[:, 1, 2:4] = -4
    assert losses.visible_by_flow(up, back)[0, 0, :2].all()


def test_smoothness_by_hand():
    clip = torch.zeros(2, 3, 1, 5, 8, dtype=torch.float64)
    clip[1, 1] = 2
    each = losses.temporal_smoothness(clip, reduction="none")
    assert torch.allclose(each, torch.tensor([[0.0, 0.0], [4.0, 4.0]], dtype=torch.float64))
    north = torch.zeros(2, 2, 1, 6, 8, dtype=torch.float64)
    north[:, 1, :, :3] = 1
    assert abs(losses.temporal_smoothness(north) - 0.5) < 1e-12
    visible = torch.zeros_like(north[:, 1:])
    assert losses.temporal_smoothness(north, visible=visible) == 0
    visible[..., :2, :] = 1
    assert abs(losses.temporal_smoothness(north, visible=visible) - 1) < 1e-12


def test_only_the_later_map_learns_if_asked():
    clip = seeded(1, 2, 1, 6, 12).requires_grad_()
    flow = 2 * seeded(1, 1, 2, 6, 12, seed=1)
    for detach in (True, False):
        (slope,) = torch.autograd.grad(losses.temporal_smoothness(clip, flow, detach=detach), clip)
        assert bool(slope[:, 0].any()) is not detach and slope[:, 1].any()


def test_the_motion_mask_measures_speed_on_the_sphere():
    """One column of flow everywhere: fast at the horizon, next to nothing at the poles."""
    H, W = 18, 36
    clip = torch.ones(1, 2, 1, H, W, dtype=torch.float64)
    flow = torch.zeros(1, 1, 2, H, W, dtype=torch.float64)
    flow[:, :, 0] = 1  # 10 degrees of longitude
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    still = (10 * torch.cos(lat) < 5).double()
    wanted = (still * pixel_area(H, W)).sum() * W / (4 * math.pi)
    got = losses.motion_mask_loss(clip, flow, threshold=math.radians(5))
    assert abs(got - wanted) < 1e-12 and 0.1 < wanted < 0.2
    assert losses.motion_mask_loss(clip, flow * 0, math.radians(5)) == pytest.approx(1)
    down = flow.flip(2)  # 10 degrees down, in every row
    assert losses.motion_mask_loss(clip, down, math.radians(5)) == 0


def test_the_mask_belongs_to_the_map_whose_flow_it_is():
    """A spot that moves stands on its own motion; CP-360 masks where it went next."""
    spot = torch.zeros(1, 2, 1, 18, 36, dtype=torch.float64)
    spot[:, 0, :, 9, 10] = spot[:, 1, :, 9, 13] = 1
    flow = torch.zeros(1, 1, 2, 18, 36, dtype=torch.float64)
    flow[..., 0, 9, 10] = 3
    assert losses.motion_mask_loss(spot, flow) == 0
    assert upstream.temporal_losses(spot, flow, flow_scale=1.0).motion > 0.9


def test_the_corrected_losses_prefer_a_map_that_follows_the_motion():
    """Three predictors of a moving spot: following, standing still, running the other way."""
    H, W = 24, 48
    here = blobs(H, W)[None, None]
    turn = torch.zeros(1, 3, 2, H, W, dtype=torch.float64)
    turn[:, :, 0] = 2
    clips = {k: torch.stack([here.roll(k * t, -1) for t in range(4)], 1) for k in (2, 0, -2)}
    smooth = {k: losses.temporal_losses(c, turn).smooth for k, c in clips.items()}
    assert smooth[2] < 1e-12 < 0.01 * smooth[-2] and smooth[0] < smooth[-2]
    wrong = {k: upstream.temporal_losses(c, turn, flow_scale=1.0).smooth for k, c in clips.items()}
    assert wrong[-2] < wrong[0] < wrong[2]  # the published one likes it best to run away
    parts = losses.temporal_losses(clips[2], turn)
    assert parts.temporal == losses.temporal_smoothness(clips[2])
    total = 0.7 * parts.smooth + parts.temporal + 0.01 * parts.motion
    assert abs(parts.total() - total) < 1e-15
    assert parts.total(smooth=0, temporal=0, motion=2) == 2 * parts.motion


def test_the_losses_between_frames_do_not_depend_on_the_grid_or_the_heading():
    def at(H, columns=0):
        turn = torch.zeros(1, 1, 2, H, 2 * H, dtype=torch.float64)
        turn[:, :, 0] = 2 * H / 60
        clip = torch.stack([blobs(H, 2 * H, k) for k in (1, 2)])[None, :, None]
        clip, turn = clip.roll(columns, -1), turn.roll(columns, -1)
        return torch.stack(losses.temporal_losses(clip, turn, threshold=0.05))

    assert (at(64) / at(128) - 1).abs().max() < 0.02
    assert torch.allclose(at(32), at(32, 17), rtol=1e-9)


def test_an_empty_map_satisfies_all_three():
    """Why they cannot train alone."""
    parts = losses.temporal_losses(torch.zeros(1, 3, 1, 6, 12), torch.rand(1, 2, 2, 6, 12))
    assert parts == (0, 0, 0)


def test_half_precision_between_frames():
    clip = seeded(1, 3, 1, 6, 12, dtype=torch.float32).half().requires_grad_()
    flow = torch.rand(1, 2, 2, 6, 12).half()
    with torch.autocast("cpu", torch.bfloat16):
        total = losses.temporal_losses(clip, flow).total()
    wanted = losses.temporal_losses(clip.double(), flow.double()).total()
    total.backward()
    assert total.dtype == torch.float32 and abs(total / wanted - 1) < 1e-5
    assert clip.grad.isfinite().all()


# --- bad input -------------------------------------------------------------------------------

A, B = seeded(2, 2, 1, 4, 8)
CLIP, FLOW = seeded(1, 2, 1, 4, 8), seeded(1, 1, 2, 4, 8)
NAN = torch.full((2, 1, 4, 8), math.nan)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: losses.sphere_mse(A, B[:, 0]), "truth: shape (2, 4, 8), wanted that of pred"),
        (lambda: losses.sphere_mse(NAN, B), "pred: holds NaN"),
        (lambda: losses.sphere_mse(A, B * math.inf), "truth: holds NaN or infinite"),
        (lambda: losses.sphere_mse(A.float() * 1e30, B), "pred: values up to 1.0e+30, wanted at"),
        (lambda: losses.sphere_mse(A[0, 0, 0], B), "pred: shape (8,), wanted (..., H, W)"),
        (lambda: losses.sphere_mse(A[:0], B[:0]), "pred: shape (0, 1, 4, 8), wanted"),
        (lambda: losses.sphere_mse(A, B, form="total"), "form: 'total', wanted"),
        (lambda: losses.sphere_mse(A, B, reduction="max"), "reduction: 'max', wanted"),
        (lambda: losses.sphere_kld(A - 0.5, B), "pred: smallest value -0.4"),
        (lambda: losses.sphere_kld(A, B - 0.5), "truth: smallest value -0.4"),
        (lambda: losses.sphere_kld(A, B * 0), "truth[0, 0]: a map of zeros, wanted"),
        (lambda: losses.sphere_kld(A, B, floor=0), "floor: 0, wanted above 0"),
        (lambda: losses.sim_loss(A, B * torch.tensor([1, 0])[:, None, None, None]), "truth[1, 0]:"),
        (lambda: losses.nss_loss(A, [[0.1, 0.2]]), "fixations: for 1 maps, wanted for 2"),
        (lambda: losses.nss_loss(A[0], torch.zeros(0, 2)), "fixations: shape (0, 2), wanted (N"),
        (lambda: losses.nss_loss(A, [[[0.1, 0.2]], torch.zeros(0, 2)]), "fixations[1]: shape"),
        (lambda: losses.nss_loss(A, B * 0), "fixations[0, 0]: a map of zeros, wanted counts"),
        (lambda: losses.nss_loss(A, B - 0.5), "fixations: smallest value"),
        (lambda: losses.nss_loss(A, B[..., :7]), "fixations: shape (2, 1, 4, 7), wanted"),
        (lambda: losses.nss_loss(A[0], [[0.1, math.nan]]), "fixations: holds NaN"),
        (lambda: losses.softmax_density(A[0, 0, 0]), "logits: shape (8,), wanted"),
        (lambda: losses.temporal_smoothness(A), "maps: shape (2, 1, 4, 8), wanted (B, T, 1"),
        (lambda: losses.temporal_smoothness(CLIP[:, :1]), "maps: shape (1, 1, 1, 4, 8), wanted"),
        (lambda: losses.temporal_smoothness(CLIP, CLIP), "flow: shape (1, 2, 1, 4, 8), wanted (1,"),
        (lambda: losses.temporal_smoothness(CLIP, visible=CLIP), "visible: shape (1, 2, 1, 4, 8)"),
        (lambda: losses.temporal_smoothness(CLIP, visible=CLIP[:, 1:] - 9), "visible: smallest"),
        (lambda: losses.motion_mask_loss(CLIP, FLOW, -1), "threshold: -1, wanted above 0"),
        (lambda: losses.temporal_losses(CLIP, FLOW * math.nan), "flow: holds NaN"),
        (lambda: losses.temporal_losses(CLIP, FLOW).total(smooth=-1), "smooth: -1, wanted"),
        (lambda: losses.warp_by_flow(A, FLOW), "flow: shape (1, 1, 2, 4, 8), wanted (2, 2, 4, 8)"),
        (lambda: losses.resize_flow(A, 4, 8), "flow: shape (2, 1, 4, 8), wanted (B, 2, H, W)"),
        (lambda: losses.visible_by_flow(FLOW[0], FLOW), "backward: shape (1, 1, 2, 4, 8), wanted"),
        (lambda: losses.visible_by_flow(A, A), "forward: shape (2, 1, 4, 8), wanted (B, 2, H, W)"),
        (lambda: losses.WeightedSum(), "parts: none"),
        (lambda: losses.WeightedSum(a=(-1, losses.cc_loss)), "a: -1, wanted a finite number"),
        (lambda: losses.WeightedSum(a=(1, losses.cc_loss))(A), "truth: not given, wanted by a"),
        (
            lambda: losses.WeightedSum(a=(1, losses.cc_loss))(A, B, gaze=1),
            "gaze: given, wanted by none of a",
        ),
        (
            lambda: losses.WeightedSum(a=(1, partial(losses.cc_loss, reduction="none")))(A, B),
            "a: shape (2, 1), wanted one number",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, line):
    with pytest.raises(ValueError, match="^" + re.escape(line)) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.sphere_mse((A * 255).byte(), B),
        lambda: losses.sphere_mse(A > 0.5, B),
        lambda: losses.cc_loss("map", B),
        lambda: losses.WeightedSum(a=losses.cc_loss),
    ],
)
def test_what_is_no_map_of_floats_is_a_type_error(call):
    with pytest.raises(TypeError, match=r"^\w+: "):
        call()
