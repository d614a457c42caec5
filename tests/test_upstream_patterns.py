"""The published neighbour table and the published crown grids, entry for entry."""

import math

import numpy as np
import pytest
import torch

from sal360 import patterns, sphere, upstream


@pytest.mark.parametrize("lattice", ["ends", "corners"])
def test_the_one_published_entry(golden, lattice):
    wanted = golden("vo_tables")["readme_example_240x480_0_0"]
    assert np.array_equal(upstream.ring_table(240, 480, lattice)[0, 0].numpy(), wanted)


@pytest.mark.parametrize(("lattice", "name"), [("ends", "H1"), ("corners", "H2")])
@pytest.mark.parametrize("size", ["8x16", "30x60", "240x480_rows"])
def test_whole_tables_but_for_neighbours_on_a_pole(golden, lattice, name, size):
    stored = golden("vo_tables")
    H, W = (int(v) for v in size.removesuffix("_rows").split("x"))
    got = upstream.ring_table(H, W, lattice).numpy()
    rows = stored["rows_240x480"] if "rows" in size else np.arange(H)
    wanted = stored[f"{name}_{size}"]
    # A pole has every longitude: there the stored column is the noise of a rounding error.
    last = H - 2 if lattice == "ends" else H - 1
    regular = np.ones(wanted.shape, bool)
    regular[rows == 1, :, :, 4] = regular[rows == last, :, :, 0] = False
    assert np.array_equal(got[rows][regular], wanted[regular])
    assert regular.mean() > 0.95


@pytest.mark.parametrize("size", [(2, 2), (7, 9), (120, 240)])
@pytest.mark.parametrize("lattice", ["ends", "corners"])
def test_a_table_of_any_size_stays_inside_and_turns_with_the_column(size, lattice):
    H, W = size
    table = upstream.ring_table(H, W, lattice)
    assert table.shape == (H, W, 2, 8) and table.min() >= 0
    assert table[:, :, 0].max() < W and table[:, :, 1].max() < H
    if lattice == "corners":
        shift = torch.remainder(table[:, :, 0] - torch.arange(W)[:, None], W)
        assert torch.equal(shift, shift[:, :1].expand_as(shift))


def test_the_ring_pattern_is_the_table_before_rounding():
    """Away from the poles the table's pixel is within one and a half of the pattern's place."""
    H, W = 60, 120
    table, ring = upstream.ring_table(H, W, "corners"), patterns.ring_pattern(H, W)
    slots = [3 * row + col for row, col in upstream.RING_SLOTS]
    for i in range(6, H - 6):
        rows, cols = (v.flatten()[slots] for v in ring.pixels(i, 40))
        assert (rows - table[i, 40, 1]).abs().max() <= 1.0
        assert (cols - table[i, 40, 0]).abs().max() <= 2.0


CROWNS = ["s16_pi4", "s16_pi", "s32_pi8", "u2_64_pi16", "u3_32_pi4", "gt_128_pi7"]


@pytest.mark.parametrize("name", CROWNS)
def test_crown_grids_are_the_published_ones(golden, name):
    stored = golden("crown_grids")
    H, W = (int(v) for v in stored[f"{name}__HW"])
    rows = upstream.crown_grid(H, W, float(stored[f"{name}__rad"]))
    assert [r.grid.shape[0] for r in rows] == stored[f"{name}__n_rows"].tolist()
    assert [r.grid.shape[1] for r in rows] == stored[f"{name}__n_phi"].tolist()
    assert [r.start for r in rows] == stored[f"{name}__start_fwd"].tolist()
    assert np.abs([r.area for r in rows] - stored[f"{name}__area"]).max() < 1e-9
    tried = 0
    for key in (k for k in stored if k.startswith(f"{name}__row")):
        got, wanted = rows[int(key[-3:])].grid.numpy(), stored[key]
        assert np.abs(got[..., 1] - wanted[..., 1]).max() < 1e-9
        around = np.abs(got[..., 0] - wanted[..., 0])
        around = np.minimum(around, 2 - around)  # x = -1 and x = 1 are one bearing
        assert around[wanted[..., 1] > -1 + 1e-9].max() < 1e-9  # the centre has none
        tried += 1
    assert tried >= 3


def test_scattered_rows_blow_up_seven_times(golden):
    """Rows in which rounding takes the rim for a whole circle: named in the published answer."""
    H, W, radius = 128, 256, math.pi / 32
    rows = upstream.crown_grid(H, W, radius)
    inside = range(5, H - 4)  # the crown holds no pole
    blown = [t for t in inside if rows[t].grid.shape[1] == W]
    assert blown == [7, 18, 41, 50, 56, 61, 73, 78, 79]
    answer = golden("sconv_constant_response")["const_128_pi32"]
    dark = [t for t in inside if answer[t] < 0.3]
    assert set(dark) <= set(blown) and len(dark) == 8
    usual = rows[64].area
    assert 6.5 < rows[56].area / usual < 7.5 and abs(usual - 42) < 1
    mended = upstream.crown_grid(H, W, radius, repaired=True)
    assert [t for t in inside if mended[t].grid.shape[1] == W] == []
    untouched = [t for t in range(H) if t not in blown]
    assert all(mended[t].area == rows[t].area for t in untouched)


def test_the_coordinates_in_the_kernel_are_distance_and_bearing():
    H, W, radius, t = 32, 64, math.pi / 8, 13
    row = upstream.crown_grid(H, W, radius)[t]
    n, m = row.grid.shape[:2]
    theta = torch.linspace(t * math.pi / H - radius, t * math.pi / H + radius, n).double()
    half = row.grid.new_tensor(0.0)
    middle = row.grid[n // 2]
    at = sphere.lonlat_to_xyz(0, math.pi / 2 - t * math.pi / H)
    distance = (middle[:, 1] + 1) / 2 * radius
    bearing = (middle[:, 0] + 1) * math.pi  # from the south to the east
    place = [sphere.rotation_matrix(0, math.pi / 2 - t * math.pi / H) @ v for v in torch.stack(
        (torch.sin(distance) * torch.sin(bearing), torch.sin(distance) * torch.cos(bearing),
         torch.cos(distance)), -1)]  # fmt: skip
    lat = sphere.xyz_to_lonlat(torch.stack(place))[1]
    assert torch.allclose(lat, math.pi / 2 - theta[n // 2] + half, atol=1e-6)
    assert torch.allclose(sphere.angle_between(torch.stack(place), at), distance, atol=1e-9)
    assert m > 3
