"""What every metric must do: chance, scale, poles, seam, frames, devices' types, bad input.

Numbers against slow references are in test_metrics_references.py.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import metrics
from sal360.sphere import (
    erp_directions,
    lonlat_to_xyz,
    pixel_area,
    sample_sphere,
    sample_von_mises_fisher,
    von_mises_fisher,
    xyz_to_lonlat,
)


def plain_cc(a, b, weight):
    """Pearson correlation with weights, one pixel after the other."""
    total = sum(weight)
    mean_a = sum(w * x for w, x in zip(weight, a, strict=True)) / total
    mean_b = sum(w * x for w, x in zip(weight, b, strict=True)) / total
    rows = list(zip(weight, a, b, strict=True))
    top = sum(w * (x - mean_a) * (y - mean_b) for w, x, y in rows)
    var_a = sum(w * (x - mean_a) ** 2 for w, x, _ in rows)
    var_b = sum(w * (y - mean_b) ** 2 for w, _, y in rows)
    return top / math.sqrt(var_a * var_b)


@pytest.mark.parametrize("weighting", ["sphere", "pixels"])
def test_cc_equals_the_plain_loop(weighting):
    a, b = torch.rand(2, 5, 8, dtype=torch.float64)
    area = pixel_area(5, 8) if weighting == "sphere" else torch.ones(5)
    weight = area.repeat_interleave(8).tolist()
    wanted = plain_cc(a.flatten().tolist(), b.flatten().tolist(), weight)
    assert abs(float(metrics.cc(a, b, weighting)) - wanted) < 1e-12


@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 99))
@settings(max_examples=30)
def test_cc_is_blind_to_scale_and_offset(scale, offset, seed):
    truth = torch.rand(6, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert abs(float(metrics.cc(scale * truth + offset, truth)) - 1) < 1e-6
    assert abs(float(metrics.cc(-scale * truth, truth)) + 1) < 1e-9


def test_cc_of_frames_at_once_and_of_flat_maps():
    truth = torch.rand(3, 6, 12)
    together = metrics.cc(truth[:1], truth)
    assert together.shape == (3,)
    assert torch.allclose(together[1], metrics.cc(truth[0], truth[1]))
    assert float(metrics.cc(torch.full((6, 12), 0.3), truth[0])) == 0
    assert float(metrics.cc(torch.zeros(6, 12), torch.zeros(6, 12))) == 0


def test_the_poles_count_by_their_area():
    """Equal but for a cap of 18 degrees: 2.4 % of the sphere, but 10 % of the pixels."""
    truth = torch.rand(60, 120, dtype=torch.float64)
    pred = truth.clone()
    pred[:6] = torch.rand(6, 120, dtype=torch.float64)
    assert metrics.cc(pred, truth, "sphere") > 0.96 > 0.92 > metrics.cc(pred, truth, "pixels")


def test_nss_is_the_z_score_at_the_fixations():
    pred = torch.rand(7, 11, dtype=torch.float64)
    weight = (pixel_area(7, 11) / (4 * math.pi))[:, None].expand(7, 11)
    mean = (weight * pred).sum()
    deviation = (weight * (pred - mean) ** 2).sum().sqrt()
    lon = ((3 + 0.5) / 11 - 0.5) * 2 * math.pi
    lat = (0.5 - (2 + 0.5) / 7) * math.pi
    wanted = (pred[2, 3] - mean) / deviation
    assert abs(float(metrics.nss(pred, [[lon, lat]])) - float(wanted)) < 1e-9


def test_nss_of_gaze_that_ignores_the_map_is_zero():
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randn(40_000, 3, generator=generator, dtype=torch.float64)
    lat = torch.asin(-xyz[:, 1] / xyz.norm(dim=1))
    fixations = torch.stack((torch.atan2(xyz[:, 0], xyz[:, 2]), lat), -1)
    rows = torch.arange(64, dtype=torch.float64)[:, None]
    pred = torch.exp(-(((rows - 31.5) / 12) ** 2)).expand(64, 128)
    assert abs(float(metrics.nss(pred, fixations))) < 0.02
    assert abs(float(metrics.nss(pred, fixations, "pixels"))) > 0.1  # latitude alone pays there
    assert lonlat_to_xyz(fixations[:, 0], fixations[:, 1]).shape == (40_000, 3)


# --- all of them ---


def seeded(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lonlat(xyz):
    return torch.stack(xyz_to_lonlat(xyz), -1)


def people(n, seed=0):
    return lonlat(sample_sphere(n, torch.Generator().manual_seed(seed)))


ON_FIXATIONS = {
    "nss": metrics.nss,
    "auc_judd": metrics.auc_judd,
    "auc_judd unfixated": lambda p, f: metrics.auc_judd(p, f, negatives="unfixated"),
    "auc_borji": metrics.auc_borji,
    "sauc": lambda p, f: metrics.sauc(p, f, people(7, 99)),
    "information_gain": metrics.information_gain,
}
ON_MAPS = {"cc": metrics.cc, "sim": metrics.sim, "kld": metrics.kld, "emd": metrics.emd}


@pytest.mark.parametrize("metric", ON_FIXATIONS.values(), ids=ON_FIXATIONS)
def test_frames_at_once_are_frames_one_by_one(metric):
    pred = seeded(3, 8, 16)
    sets = [people(5, 1), people(1, 2), people(9, 3)]
    wanted = [float(metric(p, f)) for p, f in zip(pred, sets, strict=True)]
    assert metric(pred, sets).tolist() == wanted
    assert metric(pred, tuple(f.tolist() for f in sets)).tolist() == wanted
    assert metric(pred[:, None], [f.numpy() for f in sets]).tolist() == [[w] for w in wanted]
    even = torch.stack([f[[0, 0]] for f in sets])
    assert metric(pred, even).tolist() == metric(pred, list(even)).tolist()
    assert metric(pred[0], sets[0]).shape == ()


@pytest.mark.parametrize("metric", ON_MAPS.values(), ids=ON_MAPS)
def test_pairs_at_once_are_pairs_one_by_one(metric):
    pred, truth = seeded(2, 3, 6, 12)
    wanted = [float(metric(p, t)) for p, t in zip(pred, truth, strict=True)]
    assert np.allclose(metric(pred, truth), wanted, rtol=0, atol=1e-14)
    assert np.allclose(metric(pred[:, None], truth[:, None])[:, 0], wanted, rtol=0, atol=1e-14)
    assert metric(pred[:1], truth).shape == (3,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
def test_any_precision_is_computed_in_double(dtype):
    pred, truth = (200 * seeded(2, 6, 12, seed=4)).to(dtype)
    looked = people(6)
    for metric in ON_MAPS.values():
        got = metric(pred, truth)
        assert got.dtype == torch.float64 and got == metric(pred.double(), truth.double())
    for metric in ON_FIXATIONS.values():
        got = metric(pred, looked)
        assert got.dtype == torch.float64 and got == metric(pred.double(), looked)
        if dtype != torch.bfloat16:
            assert got == metric(pred.numpy(), looked.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_they_stay_there_and_agree():
    pred, truth = seeded(2, 2, 512, 1024, seed=5)
    sets = [people(40, 1), people(60, 2)]
    for metric in ON_FIXATIONS.values():
        got = metric(pred.cuda(), sets)
        assert got.is_cuda and torch.allclose(got.cpu(), metric(pred, sets), atol=1e-9)
    for metric in ON_MAPS.values():
        got = metric(pred.cuda(), truth.cuda())
        assert got.is_cuda and torch.allclose(got.cpu(), metric(pred, truth), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1e-300, 1e300])
def test_a_flat_map_knows_nothing(value):
    """Zero is the limit of flat maps, and scored like them."""
    flat, looked = torch.full((6, 12), value, dtype=torch.float64), people(9)
    even, truth = torch.ones(6, 12), seeded(6, 12)
    assert metrics.cc(flat, truth) == 0 and metrics.nss(flat, looked) == 0
    for auc in (metrics.auc_judd, metrics.auc_borji):
        assert abs(float(auc(flat, looked)) - 0.5) < 1e-12
    assert metrics.sauc(flat, looked, people(5, 1)) == 0.5
    assert abs(float(metrics.information_gain(flat, looked))) < 1e-12
    for metric in (metrics.sim, metrics.kld, metrics.emd):
        assert torch.allclose(metric(flat, truth), metric(even, truth), rtol=1e-9)


@given(st.floats(1e-6, 1e6), st.integers(0, 99))
@settings(max_examples=20)
def test_scale_does_not_matter(scale, seed):
    pred, truth, looked = seeded(5, 10, seed=seed), seeded(5, 10, seed=seed + 1), people(6, seed)
    for metric in ON_MAPS.values():
        assert torch.allclose(metric(scale * pred, truth), metric(pred, truth), atol=1e-7)
    for metric in ON_FIXATIONS.values():
        assert torch.allclose(metric(scale * pred, looked), metric(pred, looked), atol=1e-7)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e300])
def test_scales_at_the_ends_of_a_double_do_not_matter(scale):
    pred, truth, looked = seeded(6, 12), seeded(6, 12, seed=1), people(9)
    for metric in (metrics.cc, metrics.sim, metrics.kld):
        assert torch.allclose(metric(scale * pred, truth), metric(pred, truth))
        assert torch.allclose(metric(pred, scale * truth), metric(pred, truth))
    for metric in (metrics.nss, metrics.auc_judd, metrics.information_gain):
        assert torch.allclose(metric(scale * pred, looked), metric(pred, looked))


def test_ranks_see_order_and_nothing_else():
    pred, looked = seeded(6, 12), people(9)
    for auc in (metrics.auc_judd, ON_FIXATIONS["auc_judd unfixated"], ON_FIXATIONS["sauc"]):
        assert auc(torch.exp(20 * pred) - 7, looked) == auc(pred, looked)
        assert abs(float(auc(-pred, looked) + auc(pred, looked)) - 1) < 1e-12


def test_a_turn_of_world_and_gaze_together_changes_nothing():
    """By whole columns, so that the grid turns onto itself: the seam is not a place."""
    pred, truth, looked = seeded(8, 16), seeded(8, 16, seed=1), people(9)
    turned = torch.stack((looked[:, 0] + 5 * (2 * math.pi / 16), looked[:, 1]), -1)
    for name, metric in ON_FIXATIONS.items():
        if name != "sauc":
            got = metric(pred.roll(5, 1), turned)
            assert torch.allclose(got, metric(pred, looked), atol=1e-9), name
    for metric in ON_MAPS.values():
        # The earth mover's distance is the middle of a bracket of 1 %.
        got, wanted = metric(pred.roll(5, 1), truth.roll(5, 1)), metric(pred, truth)
        assert abs(float(got - wanted)) < max(1e-12, 0.01 * float(wanted))


def test_both_names_of_the_seam_and_single_precision_poles():
    pred = seeded(6, 12)
    pole = np.float32(np.pi / 2)  # a little above pi / 2
    for metric in ON_FIXATIONS.values():
        assert metric(pred, [[math.pi, 0.3]]) == pytest.approx(metric(pred, [[-math.pi, 0.3]]))
        assert metric(pred, [[1.0, pole]]) == metric(pred, [[1.0, math.pi / 2]])
    assert metrics.auc_judd(pred, [[1.0, pole]], "pixels") == pytest.approx(
        float((pred < pred[0, 7]).double().mean()) + 0.5 / 72
    )


# --- each of them ---


def test_a_perfect_density():
    d = erp_directions(32, 64)
    truth = von_mises_fisher(d, lonlat_to_xyz(2.9, 0.9), 30.0)
    for weighting in ("sphere", "pixels"):
        assert abs(float(metrics.sim(2 * truth, truth, weighting)) - 1) < 1e-12
        assert 0 <= float(metrics.kld(2 * truth, truth, weighting)) < 1e-12
        assert float(metrics.emd(2 * truth, truth, weighting)) < 1e-9


def test_information_gain_is_the_divergence_it_explains():
    """Over many fixations drawn from the truth, gain over uniform is KL(truth || uniform)."""
    d = erp_directions(64, 128)
    mean = lonlat_to_xyz(-3.0, 0.8)
    truth = von_mises_fisher(d, mean, 20.0)
    looked = lonlat(sample_von_mises_fisher(mean, 20.0, 40_000, torch.Generator().manual_seed(0)))
    gain = float(metrics.information_gain(truth, looked))
    wanted = float(metrics.kld(torch.ones(64, 128), truth)) / math.log(2)
    assert abs(gain - wanted) < 0.02
    for worse in (truth**2, truth.sqrt()):  # the truth itself is the best answer
        assert metrics.information_gain(worse, looked) < gain
    assert abs(float(metrics.information_gain(truth, looked, truth))) < 1e-12


def test_nss_over_many_fixations_is_the_correlation_with_their_density():
    d = erp_directions(64, 128)
    mean = lonlat_to_xyz(-3.0, 0.8)
    truth = von_mises_fisher(d, mean, 20.0)
    looked = lonlat(sample_von_mises_fisher(mean, 20.0, 40_000, torch.Generator().manual_seed(0)))
    area = pixel_area(64, 128)[:, None] / (4 * math.pi)
    average = (area * truth).sum()
    spread = (area * (truth - average) ** 2).sum().sqrt() / average
    for pred in (truth, truth**2, truth.sqrt(), seeded(64, 128)):
        wanted = float(metrics.cc(pred, truth) * spread)
        assert abs(float(metrics.nss(pred, looked)) - wanted) < 0.05
        assert metrics.nss(pred, looked) <= metrics.nss(truth, looked)
    few = looked[:3]
    spikes = torch.zeros(64, 128)
    for lon, lat in few.tolist():
        spikes[int((0.5 - lat / math.pi) * 64), int((lon / (2 * math.pi) + 0.5) * 128) % 128] = 1
    assert metrics.nss(spikes, few) > metrics.nss(truth, few)


def test_zeros_of_a_prediction_cost_without_limit_unless_a_floor_is_asked_for():
    truth = seeded(6, 12) + 0.1
    pred = truth.clone()
    pred[2, 3] = 0
    there = lonlat(erp_directions(6, 12)[2, 3][None])
    assert metrics.kld(pred, truth) == math.inf
    assert metrics.information_gain(pred, there) == -math.inf
    assert float(metrics.kld(pred, truth, eps=1e-3)) < 0.2
    assert float(metrics.information_gain(pred, there, eps=1e-3)) == pytest.approx(math.log2(1e-3))
    truth[2, 3] = 0
    assert float(metrics.kld(pred, truth)) < 1e-12  # where nobody looks nothing is asked
    assert metrics.kld(truth, pred + 1e-3) == math.inf  # the direction matters


def test_latitude_alone_earns_two_over_pi_in_pixels_and_half_by_area():
    """Fixations even on the sphere, a cos(latitude) map: .634 and .495 in one draw elsewhere."""
    lat = xyz_to_lonlat(erp_directions(180, 360))[1]
    looked = people(40_000, 1)
    judd = [float(metrics.auc_judd(torch.cos(lat), looked, w)) for w in ("pixels", "sphere")]
    assert abs(judd[0] - 2 / math.pi) < 0.005 and abs(judd[1] - 0.5) < 0.005
    assert float(metrics.nss(torch.cos(lat), looked, "pixels")) > 0.4
    assert abs(float(metrics.nss(torch.cos(lat), looked))) < 0.02


def test_shuffled_auc_takes_habits_out():
    """Everybody looks ahead: the map that says so earns .9 against area and .5 against others."""
    d = erp_directions(64, 128)
    ahead = lonlat_to_xyz(0.0, 0.0)
    here, elsewhere = (
        lonlat(sample_von_mises_fisher(ahead, 6.0, 4000, torch.Generator().manual_seed(k)))
        for k in (0, 1)
    )
    habit = von_mises_fisher(d, ahead, 6.0)
    assert metrics.auc_judd(habit, here) > 0.9
    assert abs(float(metrics.sauc(habit, here, elsewhere)) - 0.5) < 0.02


def test_the_way_matters_to_the_earth_mover_alone():
    d = erp_directions(32, 64)
    truth = von_mises_fisher(d, lonlat_to_xyz(3.0, 0.0), 200.0)
    near = von_mises_fisher(d, lonlat_to_xyz(-2.6, 0.0), 200.0)  # over the seam
    far = von_mises_fisher(d, lonlat_to_xyz(0.0, 0.0), 200.0)
    assert abs(float(metrics.sim(near, truth) - metrics.sim(far, truth))) < 1e-3
    assert metrics.emd(near, truth) < 0.75 < 2.8 < metrics.emd(far, truth)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.cc(torch.rand(4, 8), torch.rand(4, 9)), "truth"),
        (lambda: metrics.cc(torch.rand(4), torch.rand(4)), "truth"),
        (lambda: metrics.cc(torch.full((2, 4), math.nan), torch.rand(2, 4)), "pred"),
        (lambda: metrics.cc(torch.rand(2, 4), torch.rand(2, 4), "area"), "weighting"),
        (lambda: metrics.nss(torch.rand(2, 4), torch.zeros(0, 2)), "fixations"),
        (lambda: metrics.nss(torch.rand(1, 2, 4), torch.zeros(1, 2)), "pred"),
        (lambda: metrics.auc_judd(torch.rand(3, 2, 4), torch.zeros(1, 2)), "pred"),
        (lambda: metrics.auc_judd(torch.rand(2, 4), [[0.0, math.nan]]), "fixations"),
        (lambda: metrics.auc_judd(torch.rand(2, 4), [[0.0, 45.0]]), "fixations"),
        (lambda: metrics.auc_judd(torch.rand(2, 4), []), "fixations"),
        (lambda: metrics.auc_judd(torch.rand(2, 4), torch.zeros(3, 3)), "fixations"),
        (lambda: metrics.auc_judd(torch.rand(2, 4), torch.zeros(5, 1, 2)), "fixations"),
        (lambda: metrics.auc_judd(torch.rand(2, 2, 4), [[[0.0, 0.0]]]), "fixations"),
        (
            lambda: metrics.auc_judd(torch.rand(2, 2, 4), [[[0.0, 0.0]], torch.zeros(0, 2)]),
            r"fixations\[1\]",
        ),
        (lambda: metrics.auc_judd(torch.rand(2, 4), torch.zeros(1, 2), "area"), "weighting"),
        (
            lambda: metrics.auc_judd(torch.rand(2, 4), torch.zeros(1, 2), negatives="some"),
            "negatives",
        ),
        (
            lambda: metrics.auc_judd(torch.rand(1, 1), torch.zeros(1, 2), negatives="unfixated"),
            "fixations",
        ),
        (lambda: metrics.auc_borji(torch.rand(2, 4), torch.zeros(1, 2), splits=0), "splits"),
        (lambda: metrics.sauc(torch.rand(2, 4), torch.zeros(1, 2), torch.zeros(0, 2)), "others"),
        (lambda: metrics.information_gain(-torch.rand(2, 4), torch.zeros(1, 2)), "pred"),
        (
            lambda: metrics.information_gain(
                torch.rand(2, 4), torch.zeros(1, 2), torch.tensor([[1.0, 0, 0, 0]] * 2)
            ),
            "baseline",
        ),
        (
            lambda: metrics.information_gain(
                torch.rand(2, 4), torch.zeros(1, 2), torch.rand(3, 2, 4)
            ),
            "baseline",
        ),
        (
            lambda: metrics.information_gain(torch.rand(2, 4), torch.zeros(1, 2), torch.rand(3, 4)),
            "baseline",
        ),
        (lambda: metrics.sim(torch.rand(2, 4) - 1, torch.rand(2, 4)), "pred"),
        (lambda: metrics.sim(torch.rand(2, 4), torch.zeros(2, 4)), "truth"),
        (lambda: metrics.sim(torch.rand(3, 2, 4), torch.rand(2, 2, 4)), "truth"),
        (lambda: metrics.sim(torch.rand(0, 4), torch.rand(0, 4)), "pred"),
        (lambda: metrics.kld(torch.rand(2, 4), torch.rand(2, 4), eps=1.5), "eps"),
        (lambda: metrics.kld(torch.rand(2, 4), torch.rand(2, 4), eps=-0.1), "eps"),
        (lambda: metrics.emd(torch.rand(2, 4), torch.rand(2, 5)), "truth"),
        (lambda: metrics.emd(torch.rand(2, 4), torch.zeros(2, 4)), "truth"),
        (lambda: metrics.emd(torch.rand(2, 4), torch.rand(2, 4), bands=0), "bands"),
        (lambda: metrics.emd(torch.rand(2, 4), torch.rand(2, 4), tolerance=0), "tolerance"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        call()
