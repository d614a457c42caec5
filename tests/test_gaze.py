"""From points to maps: mass 1, one blob for every place, nothing at the seam, fast as the slow."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import sphere
from sal360.gaze import fixation_maps, fixations_to_density
from sal360.gaze.fourier import resample_smooth


def dense(lon, lat, H, W, sigma_deg, weights=None):
    """Every kernel at every pixel centre."""
    kappa = 1 / math.radians(sigma_deg) ** 2
    d, f = sphere.erp_directions(H, W), sphere.lonlat_to_xyz(lon, lat)
    weights = torch.ones(len(f)) if weights is None else weights
    out = torch.zeros(H, W, dtype=torch.float64)
    for point, weight in zip(f, weights, strict=True):
        out += weight * torch.exp(-kappa / 2 * ((d - point) ** 2).sum(-1))
    return out / (out.sum(1) @ sphere.pixel_area(H, W))


def mass(density):
    return float(density.double().sum(-1) @ sphere.pixel_area(*density.shape))


def scattered(n, seed=0):
    """Points everywhere, among them both poles and both names of the seam."""
    gen = torch.Generator().manual_seed(seed)
    lon, lat = sphere.xyz_to_lonlat(sphere.sample_sphere(n, gen))
    lat[0], lat[1] = math.pi / 2, -math.pi / 2
    lon[2], lon[3] = math.pi, -math.pi
    return lon, lat


SIZES = [
    (64, 128, 5), (128, 256, 5), (127, 255, 5), (200, 90, 5), (90, 301, 12), (256, 512, 2),
    (64, 128, 40), (64, 128, 90), (64, 128, 180), (64, 128, 900), (33, 77, 40), (200, 400, 1),
    (128, 256, 1.5), (64, 1000, 6), (40, 80, 4.6),
]  # fmt: skip


@pytest.mark.parametrize(("H", "W", "sigma"), SIZES)
def test_the_fast_map_is_the_slow_one(H, W, sigma):
    lon, lat = scattered(40)
    weights = torch.rand(40, generator=torch.Generator().manual_seed(1)).double()
    got = fixations_to_density(lon, lat, H, W, sigma, weights)
    want = dense(lon, lat, H, W, sigma, weights)
    assert got.dtype == torch.float32 and got.shape == (H, W)
    assert float((got - want).abs().max() / want.max()) < 1.2e-7  # float32's rounding
    assert float(got.min()) >= 0 and mass(got) == pytest.approx(1, abs=1e-7)


def test_one_blob_alone_is_exact_too():
    """No average over many hides an error: the kernel itself, in double, before its rounding."""
    for lat in (0.0, 0.6, 1.2, 1.5, math.pi / 2):
        got = fixations_to_density([0.1], [lat], 180, 360, 5.0)
        want = dense([0.1], [lat], 180, 360, 5.0)
        assert float((got - want).abs().max() / want.max()) < 1.2e-7


def test_its_value_is_the_density_per_steradian():
    """Of von Mises and Fisher, normalised by its own formula, not by the pixels."""
    got = fixations_to_density([0.4], [0.9], 200, 400, 6.0).double()
    mean = sphere.lonlat_to_xyz(0.4, 0.9)
    want = sphere.von_mises_fisher(
        sphere.erp_directions(200, 400), mean, 1 / math.radians(6.0) ** 2
    )
    assert float((got - want).abs().max() / want.max()) < 1e-4


@settings(max_examples=12)
@given(st.floats(-4, 4), st.floats(-math.pi / 2, math.pi / 2), st.floats(4.0, 60))
def test_the_same_blob_anywhere(lon, lat, sigma):
    """Read along circles around its centre it looks the same at the equator, pole and seam."""
    from sal360.projections import sample_erp

    centre = sphere.lonlat_to_xyz(lon, lat)
    kappa = 1 / math.radians(sigma) ** 2
    blob = fixations_to_density([lon], [lat], 128, 256, sigma)
    assert mass(blob) == pytest.approx(1, abs=1e-6)
    peak = float(sphere.von_mises_fisher(centre, centre, kappa))
    for away in (0.0, 1.0, 2.0):
        around = sphere.geodesic_circle(centre, min(away * math.radians(sigma), math.pi), 12)
        ring = sample_erp(blob[None, None], around, "bicubic")[0, 0].double()
        want = sphere.von_mises_fisher(around, centre, kappa)
        assert float((ring - want).abs().max()) < 0.012 * peak  # what bicubic reading costs


def test_a_turn_by_whole_pixels_turns_the_map():
    lon, lat = scattered(30)
    for H, W in ((128, 256), (61, 123)):
        here = fixations_to_density(lon, lat, H, W, 5)
        for columns in (1, W // 3, W - 1):
            there = fixations_to_density(lon + columns * 2 * math.pi / W, lat, H, W, 5)
            assert float((there - here.roll(columns, 1)).abs().max()) < 2e-7 * float(here.max())
        flipped = fixations_to_density(lon, -lat, H, W, 5)
        assert float((flipped - here.flip(0)).abs().max()) < 2e-7 * float(here.max())


def test_any_name_of_a_direction_will_do():
    a = fixations_to_density([math.pi - 0.01, 1.0], [0.2, math.pi / 2], 60, 120, 5)
    b = fixations_to_density([-math.pi - 0.01, -2.0], [0.2, math.pi / 2], 60, 120, 5)
    torch.testing.assert_close(a, b)
    float32 = fixations_to_density(torch.tensor([0.0]), torch.tensor([math.pi / 2]), 60, 120, 5)
    assert float32[0].std() < 1e-6 * float32.max()  # rounded over the pole, and put back on it
    assert a[:, 0].max() > 0.5 * a.max() < 3 * a[:, -1].max()


def test_duplicates_and_weights_accumulate():
    twice = fixations_to_density([0.3, 0.3, 2.0], [0.1, 0.1, -0.5], 64, 128, 6)
    weighted = fixations_to_density([0.3, 2.0], [0.1, -0.5], 64, 128, 6, weights=[2, 1])
    scaled = fixations_to_density([0.3, 2.0], [0.1, -0.5], 64, 128, 6, weights=[2e200, 1e200])
    torch.testing.assert_close(twice, weighted)
    torch.testing.assert_close(twice, scaled)
    alone = [fixations_to_density([x], [y], 64, 128, 6) for x, y in ((0.3, 0.1), (2.0, -0.5))]
    torch.testing.assert_close(twice, (2 * alone[0] + alone[1]) / 3, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sigma", [1e-9, 1e-4, 0.1, 0.5, 1.0, 1.4])
def test_a_sigma_below_a_pixel_gives_every_fixation_its_share(sigma):
    """At 128 x 256 a pixel is 1.4 degrees; between its centres a plain sum would see nothing."""
    lon, lat = scattered(50)
    parts = [
        fixations_to_density(lon[k : k + 1], lat[k : k + 1], 128, 256, sigma) for k in range(9)
    ]
    together = fixations_to_density(lon[:9], lat[:9], 128, 256, sigma)
    torch.testing.assert_close(together, torch.stack(parts).mean(0), atol=1e-4, rtol=1e-5)
    assert mass(together) == pytest.approx(1, abs=1e-6)
    centre = fixations_to_density(lon, lat, 128, 256, sigma)
    assert bool(centre.isfinite().all()) and mass(centre) == pytest.approx(1, abs=1e-6)


def test_as_sigma_falls_the_map_becomes_a_histogram():
    gen = torch.Generator().manual_seed(3)
    xyz = sphere.sample_sphere(400, gen)
    lon, lat = sphere.xyz_to_lonlat(xyz)
    got = fixations_to_density(lon, lat, 30, 60, 1e-6).double()
    counts = got * sphere.pixel_area(30, 60)[:, None] * 400
    torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)
    d = sphere.erp_directions(30, 60).reshape(-1, 3)
    nearest = torch.bincount((xyz @ d.T).argmax(1), minlength=1800).view(30, 60)
    torch.testing.assert_close(counts.round(), nearest.double())


@pytest.mark.parametrize(("H", "W"), [(1, 1), (1, 9), (2, 3), (7, 1), (3, 200)])
@pytest.mark.parametrize("sigma", [0.01, 5, 80, 400])
def test_small_and_odd_sizes(H, W, sigma):
    lon, lat = scattered(12)
    got = fixations_to_density(lon, lat, H, W, sigma)
    assert got.shape == (H, W) and float(got.min()) >= 0
    assert mass(got) == pytest.approx(1, abs=1e-6)
    if W == 9:
        assert int(fixations_to_density([2.0], [0.4], H, W, 10).argmax()) == 7


def test_wide_kernels_tend_to_uniform():
    wide = fixations_to_density([0.3], [0.9], 40, 80, 1e5)
    torch.testing.assert_close(wide, torch.full((40, 80), 1 / (4 * math.pi)))


# --- many frames ---


def test_many_frames_are_many_maps():
    gen = torch.Generator().manual_seed(0)
    frames = [
        torch.stack(sphere.xyz_to_lonlat(sphere.sample_sphere(n, gen)), -1)
        for n in (5, 1, 48, 3, 7)
    ]
    frames.insert(2, torch.zeros(0, 2))
    for H, W, sigma in ((48, 96, 5), (128, 256, 5), (31, 64, 1), (200, 400, 9)):
        maps = fixation_maps(frames, H, W, sigma)
        assert maps.shape == (6, H, W) and bool(maps[2].isnan().all())
        for t in (0, 1, 3, 4, 5):
            alone = fixations_to_density(*frames[t].unbind(-1), H, W, sigma)
            torch.testing.assert_close(maps[t], alone, atol=2e-7 * float(alone.max()), rtol=0)
    assert fixation_maps([[], [[0.0, 0.0]]], 8, 16, 9).isnan().flatten(1).all(1).tolist() == [
        True,
        False,
    ]


def test_more_frames_than_are_drawn_at_once(monkeypatch):
    from sal360.gaze import density

    gen = torch.Generator().manual_seed(1)
    frames = [torch.rand(4, 2, generator=gen) for _ in range(23)]
    want = fixation_maps(frames, 20, 40, 7)
    monkeypatch.setattr(density, "CHUNK", 1700)
    torch.testing.assert_close(fixation_maps(frames, 20, 40, 7), want)


# --- reading a smooth map off a lattice ---


def test_waves_that_a_lattice_carries_are_read_exactly():
    """Polynomials in x, y, z are smooth everywhere, poles included."""

    def wave(d):
        x, y, z = d.unbind(-1)
        return 0.3 + x * y**3 - 2 * z**5 * x**2 + y

    coarse = wave(sphere.erp_directions(9, 18))
    for H, W in ((40, 80), (7, 31), (9, 18), (1, 1)):
        want = wave(sphere.erp_directions(H, W))
        torch.testing.assert_close(resample_smooth(coarse, H, W), want, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="maps: 7 columns, wanted an even number"):
        resample_smooth(torch.zeros(4, 7), 8, 14)


# --- what is refused ---


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="lon: no fixations, wanted at least one"):
        fixations_to_density([], [], 8, 16, 5)
    with pytest.raises(ValueError, match=r"lat: latitude 45, .*is it in degrees\?"):
        fixations_to_density([10.0], [45.0], 8, 16, 5)
    with pytest.raises(ValueError, match="lon: holds NaN"):
        fixations_to_density([math.nan], [0.0], 8, 16, 5)
    with pytest.raises(ValueError, match="sigma_deg: 0, wanted above 0"):
        fixations_to_density([0.0], [0.0], 8, 16, 0)
    with pytest.raises(ValueError, match="H: 0, wanted at least 1"):
        fixations_to_density([0.0], [0.0], 0, 16, 5)
    with pytest.raises(ValueError, match=r"weights: from -1 to 2, wanted none below 0"):
        fixations_to_density([0.0, 1.0], [0.0, 0.0], 8, 16, 5, weights=[-1, 2])
    with pytest.raises(ValueError, match="wanted none below 0 and one above"):
        fixations_to_density([0.0], [0.0], 8, 16, 5, weights=[0.0])
    with pytest.raises(ValueError, match=r"weights: shape \(3,\), wanted \(1,\)"):
        fixations_to_density([0.0], [0.0], 8, 16, 5, weights=[1, 2, 3])
    with pytest.raises(ValueError, match=r"fixations\[1\]: shape \(3,\), wanted \(N, 2\)"):
        fixation_maps([torch.zeros(1, 2), torch.zeros(3)], 8, 16, 5)
    with pytest.raises(ValueError, match="fixations: no frames"):
        fixation_maps([], 8, 16, 5)
