"""Statistics of traces whose answers are known."""

import math

import pytest
import torch

from sal360.gaze import statistics as s
from sal360.sphere import lonlat_to_xyz, rotation_matrix, sample_sphere

TIMES = torch.arange(300, dtype=torch.float64) / 10


def uniform(n, T, seed=0):
    return sample_sphere(n * T, torch.Generator().manual_seed(seed)).reshape(n, T, 3)


def turning(speed, n=3, tilt=0.0):
    """Everybody turns to the right around a pole tilted by ``tilt``."""
    xyz = lonlat_to_xyz(speed * TIMES, torch.zeros(300).double()).expand(n, -1, -1)
    return xyz @ rotation_matrix(0.0, tilt, 0.0).T


def test_uniform_directions_have_no_equator_bias_and_no_front():
    xyz = uniform(48, 2000)
    bias = s.equator_bias(xyz)
    assert abs(bias.mean) < 0.01
    assert bias.sd == pytest.approx(math.sqrt(math.pi**2 / 4 - 2), abs=0.01)  # of a cosine
    for d, share in bias.within.items():
        assert share == pytest.approx(math.sin(math.radians(d)), abs=0.01)
    front = s.front_bias(xyz)
    assert front.length < 0.02
    for d, share in front.within.items():
        assert share == pytest.approx(d / 180, abs=0.01)
    edges, density = s.latitude_profile(xyz)
    assert len(edges) == 19 and len(density) == 18
    assert (density[2:-2] - 1).abs().max() < 0.06  # the polar bands hold few samples
    assert float((density * torch.sin(edges).diff()).sum()) == pytest.approx(2)


def test_a_band_counts_time_over_area_and_the_poles_are_in_it():
    north = lonlat_to_xyz(torch.tensor([0.0, 2.0]), math.pi / 2)
    edges, density = s.latitude_profile(north, bands=2)
    assert density.tolist() == pytest.approx([0, 2])  # all the time in half of the sphere
    assert s.latitude_profile(-north, bands=2)[1].tolist() == pytest.approx([2, 0])
    assert edges.tolist() == pytest.approx([-math.pi / 2, 0, math.pi / 2])


def test_the_front_may_be_anywhere_even_at_the_seam():
    behind = lonlat_to_xyz(torch.tensor([math.pi - 0.1, -math.pi + 0.1]), 0.0)
    bias = s.front_bias(behind, front=math.pi)
    assert bias.within == {30: 1.0, 60: 1.0, 90: 1.0}
    assert bias.length == pytest.approx(math.cos(0.1))
    assert bias.direction == pytest.approx(0, abs=1e-9)
    assert s.front_bias(behind).within[90] == 0
    assert s.front_bias(behind, front=math.pi - 0.2).direction == pytest.approx(0.2)


def test_traces_of_many_clocks_come_onto_one():
    """Across the seam the short way; a sample that is missing is bridged, an end is not."""
    nan = math.nan
    time = [[0.0, 1.0, 2.0, 3.0], [0.5, 1.5, 2.5, nan]]
    lon = torch.deg2rad(torch.tensor([[170.0, 180, -170, -160], [10, 20, 30, nan]]))
    lat = torch.zeros(2, 4)
    xyz = s.on_one_clock(time, lon, lat, [0.5, 1.5, 2.5])
    assert xyz.shape == (2, 3, 3)
    expected = torch.deg2rad(torch.tensor([[175.0, -175, -165], [10, 20, 30]]))
    assert torch.allclose(xyz, lonlat_to_xyz(expected, 0.0), atol=1e-7)
    with pytest.raises(ValueError, match="^at: nothing known of 1 observers at times from 2.6 to"):
        s.on_one_clock(time, lon, lat, [0.5, 2.6, 2.9])


def test_exploration_of_a_steady_turn():
    xyz = turning(0.5)
    away = s.distance_from_start(xyz)
    assert away[0, 20] == pytest.approx(1.0)
    assert away.max() == pytest.approx(math.pi, abs=0.05)  # and comes back
    seen = s.longitudes_seen(xyz)
    assert torch.allclose(seen[0], (0.5 * TIMES).clamp(max=2 * math.pi), atol=1e-9)
    assert s.longitudes_seen(xyz, width=1.0)[0, 0] == pytest.approx(1)
    assert s.longitudes_seen(xyz, width=1.0).max() == pytest.approx(2 * math.pi)


def test_looking_to_and_fro_across_the_seam_is_not_a_turn():
    lon = math.pi + 0.3 * torch.sin(TIMES)
    seen = s.longitudes_seen(lonlat_to_xyz(lon, torch.zeros_like(lon))[None])
    assert seen.max() == pytest.approx(0.6, abs=1e-3)
    assert bool((seen.diff() >= 0).all())


@pytest.mark.parametrize("tilt", [0.0, 0.7, math.pi / 2])
def test_speed_is_that_on_the_sphere_at_the_pole_too(tilt):
    speed = s.angular_speed(TIMES, turning(0.5, tilt=tilt))
    assert speed.shape == (3, 299)
    assert torch.allclose(speed, torch.full_like(speed, 0.5))
    halved = s.angular_speed(2 * TIMES, turning(0.5, tilt=tilt))
    assert torch.allclose(halved, torch.full_like(halved, 0.25))


def test_agreement_of_one_point_of_two_camps_and_of_strangers():
    one = turning(0.5, n=5)
    assert torch.allclose(s.resultant_length(one), torch.ones(300).double())
    assert torch.allclose(s.pairwise_cosine(one), torch.ones(300).double())
    two = torch.cat((turning(0.0), -turning(0.0)))  # 3 and 3, opposite
    assert torch.allclose(s.pairwise_cosine(two), torch.full((300,), -0.2).double())
    strangers = uniform(48, 3000)
    assert abs(float(s.pairwise_cosine(strangers).mean())) < 0.003
    expected = math.sqrt(8 / (3 * math.pi)) / math.sqrt(48)  # mean of a Maxwell variable
    assert float(s.resultant_length(strangers).mean()) == pytest.approx(expected, abs=0.003)


def test_mean_pairwise_cosine_is_the_mean_over_pairs():
    xyz = uniform(7, 5)
    cosines = torch.einsum("ntk,mtk->tnm", xyz, xyz)
    pairs = (cosines.sum((1, 2)) - 7) / 42
    assert torch.allclose(s.pairwise_cosine(xyz), pairs)


def test_halves_of_a_crowd_agree_when_they_look_alike():
    same = turning(0.1, n=4)
    assert s.split_half(same) == pytest.approx(1, abs=1e-6)
    # Four people at the corners of a tetrahedron: the halves have nothing in common.
    corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]]).double()
    apart = corners[:, None].expand(-1, 10, -1)
    assert s.split_half(apart) < 0
    assert s.split_half(uniform(20, 50)) == s.split_half(uniform(20, 50))
    assert abs(s.split_half(uniform(20, 20), sigma_deg=3.0)) < 0.15


def test_recurrence_of_a_turn_and_of_chance():
    turn = 2 * math.pi / 10  # once in ten seconds
    back = s.recurrence(TIMES, turning(turn), [0.0, 0.2, 1.0, 5.0, 10.0], 0.2)
    assert back.tolist() == [1, 1, 0, 0, 1]
    chance = s.recurrence(TIMES, uniform(200, 300), [3.0], math.radians(30))
    assert float(chance) == pytest.approx((1 - math.cos(math.radians(30))) / 2, rel=0.05)


def test_revisits_counts_the_way_back_only():
    a, b, c = torch.eye(3).double()
    assert s.revisits(torch.stack((a, b, a, b)), torch.zeros(4), 0.1) == 1
    assert s.revisits(torch.stack((a, b, c, a)), torch.zeros(4), 0.1) == 0
    assert s.revisits(torch.stack((a, b, c, a)), torch.zeros(4), 0.1, back=3) == 1
    # Staying is no return: a, a, a has no fixation whose previous one lies elsewhere.
    assert math.isnan(s.revisits(torch.stack((a, a, a)), torch.zeros(3), 0.1))
    # Nor does one observer return to what another one saw.
    assert s.revisits(torch.stack((a, b, a, b, a, b)), [0, 0, 1, 1, 1, 1], 0.1) == 1
    assert math.isnan(s.revisits(torch.stack((a, b, a)), [0, 0, 1], 0.1))


def test_statistics_do_not_depend_on_the_length_of_the_vectors():
    xyz = uniform(4, 300)
    assert torch.allclose(s.pairwise_cosine(xyz), s.pairwise_cosine(5 * xyz))
    assert s.split_half(3 * xyz) == pytest.approx(s.split_half(xyz))


@pytest.mark.parametrize("turn", [0.0, 2.0, math.pi])
def test_a_yaw_changes_nothing_but_the_front(turn):
    xyz = turning(0.13, n=2, tilt=0.6)
    R = rotation_matrix(turn, 0.0, 0.0)
    turned = xyz @ R.T
    assert s.equator_bias(turned).sd == pytest.approx(s.equator_bias(xyz).sd)
    assert torch.allclose(s.longitudes_seen(turned), s.longitudes_seen(xyz))
    assert s.front_bias(turned, turn).length == pytest.approx(s.front_bias(xyz).length)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: s.equator_bias(torch.zeros(0, 3)), "xyz: shape"),
        (lambda: s.equator_bias(torch.zeros(2, 3)), "xyz: holds the zero vector"),
        (lambda: s.front_bias(torch.ones(2, 3), 90.0), "front: 90"),
        (lambda: s.latitude_profile(torch.ones(2, 3), 0), "bands: 0"),
        (lambda: s.resultant_length(torch.ones(4, 3)), "xyz: shape"),
        (lambda: s.pairwise_cosine(torch.ones(1, 4, 3)), "xyz: 1 observer"),
        (lambda: s.split_half(torch.ones(1, 4, 3)), "xyz: 1 observer"),
        (lambda: s.longitudes_seen(torch.ones(1, 4, 3), -1.0), "width: -1"),
        (lambda: s.angular_speed([0.0, 1.0, 1.0], torch.ones(1, 3, 3)), "times: shape"),
        (lambda: s.angular_speed([0.0, 1.0], torch.ones(1, 3, 3)), "times: shape"),
        (lambda: s.recurrence([0.0, 1.0, 5.0], torch.ones(1, 3, 3), [1.0], 0.1), "times: uneven"),
        (lambda: s.recurrence([0.0, 1.0], torch.ones(1, 2, 3), [9.0], 0.1), "lags: 9"),
        (lambda: s.recurrence([0.0, 1.0], torch.ones(1, 2, 3), [1.0], 9.0), "radius: 9"),
        (lambda: s.revisits(torch.ones(3, 3), [0.0], 0.1), "observer: shape"),
        (lambda: s.equator_bias(torch.full((2, 3), torch.nan)), "xyz: holds NaN"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
