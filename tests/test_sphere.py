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
