"""The published scores of CP-360 and AVS360, figure for figure, and what is wrong with them."""

import numpy as np
import pytest
import torch

from sal360 import metrics, upstream
from sal360.sphere import erp_directions, xyz_to_lonlat

CASES = [(case, squared) for case in ("cp0", "cp1") for squared in (False, True)]


def maps(golden, case, squared=False):
    stored = golden("metrics")
    saliency, prefix = stored[f"{case}.sal"], f"{case}."
    if squared:
        saliency, prefix = saliency**2, f"{case}.squared_"
    return saliency, stored[f"{case}.gt"], lambda name: float(stored[prefix + name])


@pytest.mark.parametrize(("case", "squared"), CASES)
def test_cp360(golden, case, squared):
    saliency, truth, wanted = maps(golden, case, squared)
    judd = upstream.cp360_auc_judd(saliency, truth, seed=0)
    assert abs(float(judd) - wanted("auc_judd_seed0")) < 1e-12
    borji = upstream.cp360_auc_borji(saliency, truth, seed=0)
    assert abs(float(borji) - wanted("auc_borji_seed0")) < 1e-12
    assert abs(float(upstream.cp360_cc(saliency, truth)) - wanted("cc")) < 1e-7
    assert abs(float(upstream.cp360_sim(saliency, truth)) - wanted("sim")) < 1e-7


@pytest.mark.parametrize("case", ["cp0", "cp1"])
def test_cp360_without_noise(golden, case):
    saliency, truth, wanted = maps(golden, case)
    judd = upstream.cp360_auc_judd(saliency, truth, seed=None)
    assert abs(float(judd) - wanted("auc_judd_nojitter")) < 1e-12


@pytest.mark.parametrize("case", ["av0", "av1"])
def test_avs360(golden, case):
    stored = {key.removeprefix(f"{case}."): value for key, value in golden("metrics").items()}
    maps = [stored[name] for name in ("pred_u8", "fix_u8", "gtsal_u8")]
    got = upstream.avs360_scores(*maps, seed=0)
    names = {"auc_borji": "auc_borji_seed0", "kld_pred_truth": "kld_pred_gt"}
    names["kld_truth_pred"] = "kld_gt_pred"
    for name, value in got.items():
        assert abs(float(value) - float(stored[names.get(name, name)])) < 1e-11, name
    plain = upstream.avs360_scores(*maps, weighted=False)
    order = ("auc_judd", "nss", "cc", "kld_pred_truth")
    assert np.abs(np.array([float(plain[k]) for k in order]) - stored["unweighted"]).max() < 1e-11


def test_avs360_weights(golden):
    weights = upstream.avs360_weights(480).numpy()
    assert np.abs(weights - golden("metrics")["av.latweight_col"]).max() < 1e-15


def test_torch_and_numpy_and_the_shared_generator_stays_still(golden):
    saliency, truth, _ = maps(golden, "cp1")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a = upstream.cp360_auc_borji(saliency, truth)
    b = upstream.cp360_auc_borji(torch.from_numpy(saliency), torch.from_numpy(truth))
    assert a == b
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def fixation_map(shape, count, seed):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(shape[0] * shape[1], generator=generator)[:count]
    picture = torch.zeros(shape[0] * shape[1], dtype=torch.uint8)
    picture[chosen] = 255
    return picture.reshape(shape)


def test_ties_lose_without_noise_and_half_a_step_is_won_with_it():
    """A map of nine levels. The exact score lies where neither published way finds it."""
    lat = xyz_to_lonlat(erp_directions(60, 120))[1]
    levels = torch.floor(9 * torch.cos(lat) ** 2)
    looked = fixation_map((60, 120), 150, 0)
    looked[:12] = looked[-12:] = 0  # nobody looks near the poles
    direction = torch.stack(xyz_to_lonlat(erp_directions(60, 120)[looked > 0]), -1)
    exact = float(metrics.auc_judd(levels, direction, "pixels", negatives="unfixated"))

    def published(values):
        return float(upstream.avs360_scores(values, looked, values + 1, weighted=False)["auc_judd"])

    assert exact - published(levels) > 0.03
    generator = torch.Generator().manual_seed(0)
    shaken = [
        published(levels + 1e-7 * torch.rand(60, 120, generator=generator, dtype=torch.float64))
        for _ in range(40)
    ]
    # Its trapezoids cut the corners of a curve that is a staircase: half a step of 1 / N at most.
    error = 4 * np.std(shaken) / np.sqrt(40)
    assert 0.5 / (2 * len(direction)) < np.mean(shaken) - exact < 1 / (2 * len(direction)) + error


def test_weighing_values_is_not_weighing_pixels():
    """A flat map, which knows nothing, earns AVS360's weighted AUC by the weights alone."""
    looked = fixation_map((60, 120), 200, 1)
    looked[:10] = looked[-10:] = 0
    flat = torch.full((60, 120), 100.0)
    scores = upstream.avs360_scores(flat, looked, flat)
    direction = torch.stack(xyz_to_lonlat(erp_directions(60, 120)[looked > 0]), -1)
    assert scores["auc_judd"] > 0.6 and scores["nss"] > 0.2
    assert metrics.auc_judd(flat, direction) == 0.5 and metrics.nss(flat, direction) == 0


def test_the_printed_divergence_is_blind_to_misses():
    """KL(prediction || truth): a map that finds one of two places beats one that finds both."""
    truth = torch.zeros(20, 40)
    truth[10, 10] = truth[10, 30] = 100
    both = truth + 1
    one = torch.zeros(20, 40)
    one[10, 10] = 100
    looked = (truth > 0).to(torch.uint8)
    swapped = [
        upstream.avs360_scores(p, looked, truth + 1e-3)["kld_pred_truth"] for p in (one, both)
    ]
    assert swapped[0] < swapped[1]
    assert metrics.kld(one, truth) > metrics.kld(both, truth)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: upstream.cp360_cc(torch.rand(3), torch.rand(3)), r"^a: shape \(3,\), wanted"),
        (lambda: upstream.cp360_sim(torch.ones(4, 8), torch.rand(4, 8)), "flat"),
        (lambda: upstream.cp360_auc_judd(torch.rand(4, 8), torch.ones(4, 8)), "^truth: nowhere"),
        (
            lambda: upstream.avs360_scores(*torch.rand(2, 4, 8), torch.rand(4, 9)),
            "^truth: .* wanted the size of pred",
        ),
        (
            lambda: upstream.avs360_scores(torch.rand(4, 8), torch.zeros(4, 8), torch.rand(4, 8)),
            "^fixation_map: no pixel",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
