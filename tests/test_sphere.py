"""Directions, areas, rotations: the properties of chapter 01, on random and on awkward input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sal360 import sphere

angles = st.floats(-10, 10)
longitudes = st.floats(-math.pi, math.pi)
latitudes = st.floats(-math.pi / 2, math.pi / 2)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def same_direction(a, b, tolerance=1e-12):
    return bool((sphere.angle_between(a, b) < tolerance).all())


def test_the_frame_is_x_right_y_down_z_forward():
    ahead, right, up = (
        sphere.lonlat_to_xyz(*map(math.radians, ll)) for ll in ((0, 0), (90, 0), (0, 90))
    )
    assert torch.allclose(ahead, torch.tensor([0.0, 0, 1]).double(), atol=1e-15)
    assert torch.allclose(right, torch.tensor([1.0, 0, 0]).double(), atol=1e-15)
    assert torch.allclose(up, torch.tensor([0.0, -1, 0]).double(), atol=1e-15)


@given(longitudes, latitudes)
def test_angles_survive_the_round_trip(lon, lat):
    xyz = sphere.lonlat_to_xyz(lon, lat)
    assert abs(xyz.norm() - 1) < 1e-15
    again = sphere.lonlat_to_xyz(*sphere.xyz_to_lonlat(xyz * 3.7))
    assert same_direction(xyz, again, 1e-14)


@given(sizes)
def test_pixels_survive_the_round_trip(size):
    H, W = size
    row, col = sphere.erp_pixel(sphere.erp_directions(H, W), H, W)
    assert torch.allclose(row, torch.arange(H).double()[:, None].expand(H, W), atol=1e-9)
    assert torch.allclose(col, torch.arange(W).double().expand(H, W), atol=1e-9)


def test_pixel_centres_are_those_of_the_convention():
    H, W = 5, 7
    lon, lat = sphere.xyz_to_lonlat(sphere.erp_directions(H, W))
    for i in range(H):
        for j in range(W):
            assert abs(lon[i, j] - ((j + 0.5) / W - 0.5) * 2 * math.pi) < 1e-12
            assert abs(lat[i, j] - (0.5 - (i + 0.5) / H) * math.pi) < 1e-12


def test_latitude_keeps_its_digits_at_the_poles():
    for exponent in (-3, -8, -14):
        lat = math.pi / 2 - 10.0**exponent
        got = sphere.xyz_to_lonlat(sphere.lonlat_to_xyz(1.0, lat))[1]
        assert abs(float(got) - lat) < 1e-15


@given(sizes)
def test_areas_sum_to_the_sphere(size):
    H, W = size
    assert math.isclose(float(sphere.pixel_area(H, W).sum() * W), 4 * math.pi, rel_tol=1e-14)


def test_areas_are_differences_of_sines():
    edges = torch.sin((0.5 - torch.arange(10).double() / 9) * math.pi)
    wanted = 2 * math.pi / 16 * (edges[:-1] - edges[1:])
    assert torch.allclose(sphere.pixel_area(9, 16), wanted, atol=1e-15)


@given(angles, st.floats(-1.5, 1.5), angles)
def test_a_rotation_is_one_and_looks_where_it_says(yaw, pitch, roll):
    R = sphere.rotation_matrix(yaw, pitch, roll)
    assert torch.allclose(R @ R.T, torch.eye(3).double(), atol=1e-14)
    assert abs(torch.det(R) - 1) < 1e-14
    assert same_direction(R[:, 2], sphere.lonlat_to_xyz(yaw, pitch))


def test_a_positive_roll_tilts_the_head_to_the_right():
    up = sphere.rotation_matrix(0, 0, 0.3) @ torch.tensor([0.0, -1, 0]).double()
    assert up[0] > 0 and up[1] < 0


def test_yaw_keeps_the_horizon_level_whatever_the_pitch():
    R = sphere.rotation_matrix(torch.linspace(-3, 3, 7), torch.linspace(-1, 1, 7))
    assert R.shape == (7, 3, 3)
    assert float(R[:, 1, 0].abs().max()) < 1e-15


@given(st.floats(1e-12, 1e-3))
def test_angles_are_accurate_near_0_and_near_pi(small):
    a = sphere.lonlat_to_xyz(0.4, 0.2)
    across = sphere.lonlat_to_xyz(0.4, 0.2 + math.pi / 2)
    b = math.cos(small) * a + math.sin(small) * across
    assert math.isclose(float(sphere.angle_between(a, b)), small, rel_tol=1e-3, abs_tol=2e-16)
    opposite = math.pi - float(sphere.angle_between(a, -b))
    assert math.isclose(opposite, small, rel_tol=1e-3, abs_tol=1e-15)


def test_numpy_and_numbers_are_accepted_and_gradients_flow():
    xyz = sphere.lonlat_to_xyz(np.array([0.1, 0.2], np.float32), 0)
    assert xyz.dtype == torch.float64
    lon = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    lat = torch.tensor(-0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sphere.lonlat_to_xyz, (lon, lat))
    xyz = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sphere.xyz_to_lonlat, (xyz,))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sphere.lonlat_to_xyz(float("nan"), 0), "lon"),
        (lambda: sphere.lonlat_to_xyz("east", 0), "lon"),
        (lambda: sphere.xyz_to_lonlat([0, 0, 0]), "xyz"),
        (lambda: sphere.xyz_to_lonlat([1, 2]), "xyz"),
        (lambda: sphere.erp_directions(0, 4), "H"),
        (lambda: sphere.erp_directions(4, 2.5), "W"),
        (lambda: sphere.pixel_area(4, True), "W"),
        (lambda: sphere.rotation_matrix(0, float("inf")), "pitch"),
        (lambda: sphere.angle_between([1, 0, 0], [0, 0, 0]), "b"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()


def unit(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*shape, 3, generator=generator, dtype=torch.float64), dim=-1
    )


@given(angles, angles, angles, angles, st.floats(-1.5, 1.5), angles)
def test_rotations_compose(yaw, pitch, roll, yaw2, pitch2, roll2):
    A, B = sphere.rotation_matrix(yaw, pitch, roll), sphere.rotation_matrix(yaw2, pitch2, roll2)
    d = unit(0, 5)
    assert torch.allclose((d @ B.T) @ A.T, d @ (A @ B).T, atol=1e-13)
    assert torch.allclose((A @ B).T, B.T @ A.T, atol=1e-14)


@given(st.integers(0, 1000), st.floats(0, 1))
def test_slerp_walks_the_arc_at_constant_speed(seed, t):
    a, b = unit(seed, 2)
    whole = sphere.angle_between(a, b)
    there = sphere.slerp(a * 3, b * 0.1, t)
    assert abs(there.norm() - 1) < 1e-14
    assert abs(sphere.angle_between(a, there) - t * whole) < 1e-12
    assert abs(sphere.angle_between(there, b) - (1 - t) * whole) < 1e-12
    assert same_direction(there, sphere.slerp(b, a, 1 - t))


def test_slerp_at_its_ends():
    a, b = unit(1, 2)
    assert same_direction(sphere.slerp(a, b, torch.tensor([0.0, 1.0])), torch.stack((a, b)))
    assert same_direction(sphere.slerp(a, a, 0.3), a)
    many = sphere.slerp(unit(2, 4), unit(3, 4), 0.5)
    assert many.shape == (4, 3)


@given(st.integers(0, 1000), st.floats(0, math.pi), st.integers(1, 30))
def test_a_geodesic_circle_has_one_distance_and_even_bearings(seed, radius, n):
    centre = unit(seed)
    ring = sphere.geodesic_circle(centre, radius, n)
    assert torch.allclose(
        sphere.angle_between(ring, centre), torch.tensor(radius).double(), atol=1e-12
    )
    if 1e-3 < radius < math.pi - 1e-3:
        turn = torch.arange(n).double() * (2 * math.pi / n)
        off = sphere.bearing(centre, ring) - turn
        assert torch.cos(off).min() > 1 - 1e-12


@pytest.mark.parametrize("pi", [np.float32(math.pi), torch.tensor(math.pi)])
def test_half_a_turn_in_single_precision_is_half_a_turn(pi):
    assert float(pi) > math.pi
    ring, exact = (sphere.geodesic_circle([1, 0, 0], r, 5) for r in (pi, math.pi))
    assert torch.equal(ring, exact)
    with pytest.raises(ValueError, match="^radius: "):
        sphere.geodesic_circle([1, 0, 0], math.pi + 1e-5)


def test_bearings_are_those_of_a_compass():
    here = sphere.lonlat_to_xyz(0.3, 0.2)
    for lon, lat, wanted in ((0.3, 0.5, 0), (0.3, -0.5, math.pi)):
        assert abs(abs(sphere.bearing(here, sphere.lonlat_to_xyz(lon, lat))) - wanted) < 1e-12
    on_equator = sphere.lonlat_to_xyz(0.3, 0.0)
    east = sphere.bearing(on_equator, sphere.lonlat_to_xyz(0.5, 0.0))
    west = sphere.bearing(on_equator, sphere.lonlat_to_xyz(0.1, 0.0))
    assert abs(east - math.pi / 2) < 1e-12 and abs(west + math.pi / 2) < 1e-12
    assert sphere.bearing(here, here) == 0 and abs(sphere.bearing(here, -here)) < 1e-9


def test_a_great_circle_is_one():
    a, b = unit(5, 2)
    circle = sphere.great_circle(a, b, 12)
    assert same_direction(circle[0], a)
    assert circle.matmul(torch.linalg.cross(a, b)).abs().max() < 1e-14
    steps = sphere.angle_between(circle, circle.roll(-1, 0))
    assert torch.allclose(steps, torch.tensor(2 * math.pi / 12).double())
    towards_b = sphere.angle_between(circle[1], b) < sphere.angle_between(circle[-1], b)
    assert bool(towards_b)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_fibonacci_is_even(n):
    d = sphere.fibonacci_sphere(n)
    assert d.shape == (n, 3) and (d.norm(dim=-1) - 1).abs().max() < 1e-14
    assert torch.equal(d, sphere.fibonacci_sphere(n))
    # Bands of equal area hold equally many: their z's are evenly spaced by construction.
    assert torch.allclose(d[:, 1], -(1 - (2 * torch.arange(n).double() + 1) / n))
    if n == 1000:
        assert d.mean(0).norm() < 1e-3
        nearest = (d @ d.T - 2 * torch.eye(n).double()).max(1).values.acos()
        assert nearest.min() > 0.8 * math.sqrt(4 * math.pi / n)  # nobody is crowded


def test_uniform_samples_have_the_moments_of_the_sphere():
    d = sphere.sample_sphere(200_000, torch.Generator().manual_seed(0))
    assert (d.norm(dim=-1) - 1).abs().max() < 1e-14
    assert d.mean(0).abs().max() < 0.01
    assert (d.T @ d / len(d) - torch.eye(3).double() / 3).abs().max() < 0.01
    again = sphere.sample_sphere(200_000, torch.Generator().manual_seed(0))
    assert torch.equal(d, again)


@pytest.mark.parametrize("kappa", [0, 0.5, 5, 500, 1e7])
def test_von_mises_fisher_samples_follow_its_density(kappa):
    mean = sphere.lonlat_to_xyz(2.9, -1.2)
    d = sphere.sample_von_mises_fisher(mean, kappa, 100_000, torch.Generator().manual_seed(1))
    assert (d.norm(dim=-1) - 1).abs().max() < 1e-12
    length = 1 / math.tanh(kappa) - 1 / kappa if kappa else 0.0  # of the mean vector
    assert abs((d @ mean).mean() - length) < 0.01 * (1 - length) + 1e-12 + 0.003 * (kappa < 1)
    # All bearings are alike, and the density integrates to 1.
    turn = sphere.bearing(mean, d)
    assert abs(torch.cos(turn).mean()) < 0.01 and abs(torch.sin(turn).mean()) < 0.01
    if kappa <= 500:
        grid = sphere.erp_directions(400, 800)
        density = sphere.von_mises_fisher(grid, mean, kappa)
        assert abs((density * sphere.pixel_area(400, 800)[:, None]).sum() - 1) < 1e-4


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sphere.slerp([1, 0, 0], [-1, 0, 0], 0.5), "b"),
        (lambda: sphere.great_circle([1, 0, 0], [2, 0, 0]), "b"),
        (lambda: sphere.geodesic_circle([1, 0, 0], float("nan")), "radius"),
        (lambda: sphere.geodesic_circle([0, 0, 0], 1.0), "centre"),
        (lambda: sphere.fibonacci_sphere(0), "n"),
        (lambda: sphere.sample_sphere(-1), "n"),
        (lambda: sphere.sample_von_mises_fisher([0, 0, 1], -1, 5), "kappa"),
        (lambda: sphere.sample_von_mises_fisher([[0, 0, 1]], 1, 5), "mean"),
        (lambda: sphere.von_mises_fisher([0, 0, 1], [0, 0, 0], 1), "mean"),
        (lambda: sphere.bearing([0, 0, 0], [0, 0, 1]), "a"),
    ],
)
def test_bad_input_to_arcs_and_samples_names_the_argument(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()


@given(sizes, st.integers(0, 100))
def test_every_direction_has_a_pixel(size, seed):
    H, W = size
    poles_and_seam = torch.tensor([[0.0, 1, 0], [0, -1, 0], [0.0, 0, -1], [-0.0, 0, -1]]).double()
    d = torch.cat((unit(seed, 20), poles_and_seam))
    row, col = sphere.erp_index(d, H, W)
    assert row.dtype == col.dtype == torch.int64
    assert row.min() >= 0 and row.max() < H and col.min() >= 0 and col.max() < W
    real_row, real_col = sphere.erp_pixel(d, H, W)
    assert (row - real_row).abs().max() <= 0.5 + 1e-9
    off = torch.remainder(col - real_col + W / 2, W) - W / 2
    assert off.abs().max() <= 0.5 + 1e-9


def test_numpy_comes_in_any_layout():
    wanted = sphere.lonlat_to_xyz([0.3, 0.2, 0.1], 0.0)
    for array in (
        np.array([0.1, 0.2, 0.3])[::-1],
        np.array([0.3, 0.2, 0.1], ">f8"),
        np.array([0.3, 0.2, 0.1], np.longdouble),
        np.broadcast_to(np.array([0.3, 0.2, 0.1]), (2, 3))[0],
    ):
        assert torch.allclose(sphere.lonlat_to_xyz(array, 0.0), wanted, atol=1e-15)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sphere.angle_between(torch.rand(7, 3), torch.rand(5, 3)), "a, b"),
        (lambda: sphere.slerp(torch.rand(2, 3), [0, 1, 0], torch.rand(3)), "t, b"),
        (lambda: sphere.lonlat_to_xyz(torch.rand(2), torch.rand(3)), "lon, lat"),
        (lambda: sphere.rotation_matrix(torch.rand(2), torch.rand(3)), "yaw, pitch, roll"),
        (lambda: sphere.geodesic_circle([1, 0, 0], -0.1), "radius"),
        (lambda: sphere.geodesic_circle([1, 0, 0], 4.0), "radius"),
        (lambda: sphere.great_circle(torch.rand(2, 3), [1, 0, 0]), "a"),
        (lambda: sphere.sample_sphere(3, np.random.default_rng(0)), "generator"),
        (lambda: sphere.von_mises_fisher([0, 0, 1], [0, 0, 1], "5"), "kappa"),
        (lambda: sphere.von_mises_fisher([0, 0, 1], [[0, 0, 1]], 5), "mean"),
    ],
)
def test_shapes_and_kinds_that_do_not_fit_are_named(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()
