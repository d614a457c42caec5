"""Zhang's ground truth, value by value, and the faults that make it an exercise."""

import numpy as np
import pytest
import torch

from sal360.upstream import fixation_map

CASES = ("centre", "north", "pole", "south", "seam", "dup")


@pytest.fixture(scope="module")
def published(golden):
    return golden("gt_saliency")


@pytest.fixture(scope="module")
def ours(published):
    return {name: fixation_map(published[f"fix_{name}"], 128, 256) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_values_are_the_published_ones(published, ours, name):
    want = torch.from_numpy(published[f"map_{name}"])[0]
    assert ours[name].dtype == torch.float32 and ours[name].shape == (128, 256)
    torch.testing.assert_close(ours[name], want, atol=2e-8, rtol=2e-6)


def test_with_spherical_padding_the_seam_holds(published):
    got = fixation_map(published["fix_seam"], 128, 256, padding_mode="sphere")
    want = torch.from_numpy(published["map_seam_spherepad"])[0]
    torch.testing.assert_close(got, want, atol=2e-8, rtol=2e-6)


def test_the_faults_are_there(published, ours):
    """Lost, shifted, cut, and twice at one place counted once: the point of keeping it."""
    assert float(ours["south"].abs().max()) == 0.0
    mass = ours["centre"].double()
    rows = (mass.sum(1) @ torch.arange(128).double()) / mass.sum()
    assert float(rows) == pytest.approx(64 + 1.5, abs=0.1)
    whole = fixation_map([[0.5, 0.5]], 128, 256)
    cut = fixation_map([[0.0, 0.5]], 128, 256)
    assert 0.4 < float(cut.sum() / whole.sum()) < 0.6
    assert float(ours["north"].max()) < 0.25 * float(ours["centre"].max())
    once = fixation_map(np.unique(published["fix_dup"], axis=0), 128, 256)
    torch.testing.assert_close(ours["dup"] * 3, once * 2)


def test_points_on_the_last_edges_are_kept_inside():
    right = fixation_map([[1.0, 0.5]], 128, 256)
    torch.testing.assert_close(right, fixation_map([[255 / 256, 0.5]], 128, 256))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"points: shape \(0, 2\), wanted \(N, 2\), N at least 1"):
        fixation_map(np.zeros((0, 2)), 16, 32)
    with pytest.raises(ValueError, match=r"points: from 0.5 to 1.5, wanted x, y in \[0, 1\]"):
        fixation_map([[0.5, 1.5]], 16, 32)
