"""CC and NSS against plain loops, and the properties that chapter 00 leans on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import metrics
from sal360.sphere import lonlat_to_xyz, pixel_area


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


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.cc(torch.rand(4, 8), torch.rand(4, 9)), "truth"),
        (lambda: metrics.cc(torch.rand(4), torch.rand(4)), "truth"),
        (lambda: metrics.cc(torch.full((2, 4), math.nan), torch.rand(2, 4)), "pred"),
        (lambda: metrics.cc(torch.rand(2, 4), torch.rand(2, 4), "area"), "weighting"),
        (lambda: metrics.nss(torch.rand(2, 4), torch.zeros(0, 2)), "fixations"),
        (lambda: metrics.nss(torch.rand(1, 2, 4), torch.zeros(1, 2)), "pred"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        call()
