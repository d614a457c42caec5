"""Where kernels look: rigid, even, shifted with the column, and the same after a round trip."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import patterns, projections, sphere, upstream

KINDS = {
    "tangent 3x3": lambda H, W, s: patterns.tangent_pattern(H, W, stride=s),
    "tangent 5x3, dilation 2": lambda H, W, s: patterns.tangent_pattern(H, W, (5, 3), 2, s),
    "crown 3x8": lambda H, W, s: patterns.crown_pattern(H, W, (3, 8), 0.7, s),
    "crown 2x5, whole sphere": lambda H, W, s: patterns.crown_pattern(H, W, (2, 5), math.pi, s),
    "ring": lambda H, W, s: patterns.ring_pattern(H, W, stride=s),
}
sizes = pytest.mark.parametrize(("H", "W"), [(16, 32), (15, 29), (12, 40)])
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@sizes
def test_a_kernel_is_carried_without_deforming(kind, H, W):
    """All distances between taps are the same in every row: a kernel on the sphere is rigid."""
    pattern = KINDS[kind](H, W, 1)
    first = pattern.directions(0).reshape(-1, 3)
    wanted = sphere.angle_between(first[:, None], first)
    for row in range(H):
        taps = pattern.directions(row, 3).reshape(-1, 3)
        assert torch.allclose(sphere.angle_between(taps[:, None], taps), wanted, atol=1e-7)


@kinds
@sizes
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_table_reads_what_the_directions_say(kind, H, W, stride):
    pattern = KINDS[kind](H, W, stride)
    image = torch.rand(2, 1, H, W, dtype=torch.float64)
    read = pattern.read(image)
    rows, cols = -(-H // stride), -(-W // stride)
    assert read.shape == (2, 1, pattern.taps, rows, cols)
    for i, j in ((0, 0), (rows - 1, cols - 1), (rows // 2, cols // 3)):
        wanted = projections.sample_erp(image, pattern.directions(i, j)).flatten(2)
        assert torch.allclose(read[:, :, :, i, j], wanted, atol=1e-9)


@kinds
def test_yaw_by_whole_columns_commutes_with_reading(kind):
    pattern = KINDS[kind](10, 21, 1)
    image = torch.rand(1, 2, 10, 21, dtype=torch.float64)
    assert torch.allclose(pattern.read(image.roll(4, -1)), pattern.read(image).roll(4, -1))


@kinds
def test_the_gradient_of_reading_is_its_adjoint(kind):
    pattern = KINDS[kind](10, 12, 3)
    x = torch.rand(1, 1, 10, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pattern.read, (x,))


@kinds
def test_saved_and_loaded_is_the_same(kind, tmp_path):
    pattern = KINDS[kind](9, 18, 2)
    pattern.save(tmp_path / "a.safetensors")
    again = patterns.Pattern.load(tmp_path / "a.safetensors")
    assert torch.equal(again.lat, pattern.lat) and torch.equal(again.lon, pattern.lon)
    assert (again.name, again.H, again.W, again.shape, again.stride) == (
        pattern.name, 9, 18, pattern.shape, 2)  # fmt: skip


def test_files_of_another_kind_are_refused_with_their_path(tmp_path):
    from safetensors.torch import save_file

    broken, other = tmp_path / "broken", tmp_path / "other.safetensors"
    broken.write_bytes(b"not this")
    save_file({"lat": torch.zeros(2)}, str(other))
    for path in (broken, other):
        with pytest.raises(ValueError, match=f"{path.name}: not a sal360 pattern"):
            patterns.Pattern.load(path)
    with pytest.raises(ValueError, match="not a sal360 pattern"):
        patterns.Pattern.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        patterns.Pattern.load(tmp_path / "none")


def test_a_pattern_whose_parts_share_memory_is_saved_and_a_missing_folder_named(tmp_path):
    both = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    patterns.Pattern("diagonal", 4, 8, (1,), both, both).save(tmp_path / "a")
    again = patterns.Pattern.load(tmp_path / "a")
    assert torch.equal(again.lat, both) and torch.equal(again.lon, both)
    with pytest.raises(FileNotFoundError, match=r"none.a"):
        patterns.ring_pattern(8, 16).save(tmp_path / "none" / "a")


@given(st.floats(-7, 7))
@settings(max_examples=25)
def test_a_shift_turns_every_tap_about_the_vertical(lon):
    pattern = patterns.crown_pattern(8, 16, (3, 6), 0.5)
    moved = pattern.shifted(lon)
    R = sphere.rotation_matrix(lon)
    for row in (0, 3, 7):
        wanted = pattern.directions(row, 2) @ R.T
        assert sphere.angle_between(moved.directions(row, 2), wanted).max() < 1e-7
    assert moved.lon.abs().max() <= math.pi
    assert moved.shifted(-lon).separation(pattern).max() < 1e-7


def test_a_shift_may_differ_from_row_to_row():
    pattern = patterns.ring_pattern(6, 12)
    moved = pattern.shifted(torch.linspace(0, 1, 6))
    assert moved.separation(pattern)[0].max() < 1e-7 < moved.separation(pattern)[5].max()


def test_separation_measures_in_radians():
    a, b = patterns.ring_pattern(16, 32, 0.1), patterns.ring_pattern(16, 32, 0.3)
    apart = a.separation(b)
    assert torch.allclose(apart[:, [0, 1, 2, 3, 5, 6, 7, 8]], torch.tensor(0.2).double())
    assert apart[:, 4].max() < 1e-7


@sizes
@pytest.mark.parametrize(
    ("size", "dilation"), [(1, 1), (3, 1), (5, 1), (3, 2), (7, 1), ((1, 5), 1)]
)
def test_a_tangent_kernel_at_the_equator_is_the_square_neighbourhood(H, W, size, dilation):
    """Between two rows: a kernel that stands on the equator reads whole pixels there."""
    pattern = patterns.tangent_pattern(H, W, size, dilation)
    kh, kw = pattern.shape
    centre = pattern.directions(0).reshape(-1, 3)[pattern.taps // 2]
    flat = sphere.rotation_matrix(*sphere.xyz_to_lonlat(centre)).T
    ahead = pattern.directions(0) @ flat.T
    lon, lat = sphere.xyz_to_lonlat(ahead)
    right = (torch.arange(kw) - kw // 2) * dilation * 2 * math.pi / W
    up = (kh // 2 - torch.arange(kh)) * dilation * math.pi / H
    assert torch.allclose(lon, right.double().expand(kh, kw), atol=1e-6)
    assert torch.allclose(lat, up.double()[:, None].expand(kh, kw), atol=1e-6)


@pytest.mark.parametrize("size", [(24, 32), (64, 128)])
def test_the_tangent_kernel_is_the_published_one_but_for_its_faults(size):
    """SST-Sal's own coordinates, away from the rows whose taps pass over a pole."""
    H, W = size
    row, col = upstream.tangent_coordinates(H, W)
    pattern = patterns.tangent_pattern(H, W)
    for i in range(1, H - 1):
        rows, cols = pattern.pixels(i, 5)
        assert torch.allclose(rows, row[i, 5], atol=1e-9)
        off = torch.remainder(cols - col[i, 5] + W / 2, W) - W / 2
        assert off.abs().max() < 1e-9
    first = torch.remainder(pattern.pixels(0, 5)[1] - col[0, 5] + W / 2, W) - W / 2
    assert first.abs().max() > 1  # single-argument arctan: the wrong side of the pole


@pytest.mark.parametrize(("Kt", "Kp"), [(1, 4), (2, 1), (3, 8), (4, 16)])
@pytest.mark.parametrize("radius", [0.05, math.pi / 4, math.pi])
def test_crown_taps_lie_on_circles_at_even_bearings(Kt, Kp, radius):
    H, W = 10, 20
    pattern = patterns.crown_pattern(H, W, (Kt, Kp), radius)
    centres = sphere.erp_directions(H, W)[:, 7]
    for row in range(H):
        taps = pattern.directions(row, 7)
        away = sphere.angle_between(taps, centres[row])
        wanted = torch.arange(Kt).double() * radius / max(Kt - 1, 1)
        assert torch.allclose(away, wanted[:, None].expand(Kt, Kp), atol=1e-7)
        if Kt > 1 and radius < 3:
            compass = sphere.bearing(centres[row], taps[1:])
            turn = math.pi - torch.arange(Kp).double() * 2 * math.pi / Kp  # south, then east
            assert torch.cos(compass - turn).min() > 1 - 1e-9


def test_a_ring_has_eight_equal_distances_in_the_slots_of_a_kernel():
    pattern = patterns.ring_pattern(30, 60)
    centres = sphere.erp_directions(30, 60)[:, 0]
    for row in range(30):
        taps = pattern.directions(row)
        away = sphere.angle_between(taps, centres[row]).flatten()
        assert abs(away[4]) < 1e-7
        rim = away[[0, 1, 2, 3, 5, 6, 7, 8]]
        assert torch.allclose(rim, torch.tensor(math.pi / 30).double(), atol=1e-7)
        compass = torch.rad2deg(sphere.bearing(centres[row], taps))
        wanted = torch.tensor([[-45, 0, 45], [-90, 0, 90], [-135, 180, 135]]).double()
        off = torch.remainder(compass - wanted + 180, 360) - 180
        off[1, 1] = 0
        assert off.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: patterns.tangent_pattern(0, 8), "H"),
        (lambda: patterns.tangent_pattern(8, 16, 2), "kernel_size"),
        (lambda: patterns.tangent_pattern(8, 16, 0), "kernel_size"),
        (lambda: patterns.tangent_pattern(8, 16, 9), "kernel_size"),
        (lambda: patterns.tangent_pattern(8, 16, 3, 0), "dilation"),
        (lambda: patterns.tangent_pattern(8, 16, 3, 1, 0), "stride"),
        (lambda: patterns.crown_pattern(8, 16, (3, 0), 0.1), "kernel_size"),
        (lambda: patterns.crown_pattern(8, 16, (3, 4), 0.0), "radius"),
        (lambda: patterns.crown_pattern(8, 16, (3, 4), 3.2), "radius"),
        (lambda: patterns.crown_pattern(8, 16, (3, 4), math.nan), "radius"),
        (lambda: patterns.ring_pattern(8, 16, -1), "radius"),
        (lambda: patterns.ring_pattern(8, 16).directions(8), "row"),
        (lambda: patterns.ring_pattern(8, 16).read(torch.rand(1, 1, 8, 15)), "image"),
        (lambda: patterns.ring_pattern(8, 16).shifted(math.nan), "lon"),
        (lambda: patterns.ring_pattern(8, 16).separation(patterns.ring_pattern(8, 8)), "other"),
        (lambda: patterns.Pattern("x", 2, 2, (1, 2), torch.zeros(2, 2), torch.zeros(2, 3)), "lon"),
        (
            lambda: patterns.Pattern(
                "x", 1, 2, (1,), torch.full((1, 1), math.nan), torch.zeros(1, 1)
            ),
            "lat",
        ),
        (
            lambda: patterns.Pattern("x", 1, 2, (1,), torch.zeros(1, 1), torch.full((1, 1), 9.0)),
            "lon",
        ),
        (lambda: replace(patterns.ring_pattern(8, 16), stride=0), "stride"),
        (lambda: replace(patterns.ring_pattern(8, 16), H=8.0), "H"),
        (lambda: replace(patterns.ring_pattern(8, 16), shape=9), "shape"),
        (lambda: replace(patterns.ring_pattern(8, 16), lat=None), "lat"),
        (lambda: patterns.ring_pattern(8, 16).directions(1.5), "row"),
        (lambda: patterns.ring_pattern(8, 16).pixels("0"), "row"),
        (lambda: patterns.ring_pattern(8, 16).pixels(0, "a"), "col"),
        (lambda: patterns.ring_pattern(8, 16).directions(0, math.inf), "col"),
        (lambda: patterns.tangent_pattern(8, 16, 3.0), "kernel_size"),
        (lambda: patterns.crown_pattern(8, 16, 3, 0.1), "kernel_size"),
        (lambda: patterns.ring_pattern(8, 16, "big"), "radius"),
        (lambda: patterns.ring_pattern(8, 16).separation(None), "other"),
        (lambda: patterns.ring_pattern(8, 16).shifted(torch.zeros(7)), "lon"),
        (lambda: upstream.ring_table(1, 4), "H"),
        (lambda: upstream.ring_table(4, 4, "H1"), "lattice"),
        (lambda: upstream.crown_grid(16, 32, 0.0), "radius"),
        (lambda: upstream.crown_grid(16, 32, 0.05), "radius"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()
