"""Baselines: mass 1, blind to what they should be blind to, right across seam and poles."""

import math

import numpy as np
import pytest
import torch

from sal360 import baselines
from sal360.baselines.base import smooth
from sal360.datasets.synthetic import render_clip
from sal360.inference import predict_frames, to_density
from sal360.models import MODELS, load_model, save_weights
from sal360.sphere import angle_between, erp_directions, lonlat_to_xyz, pixel_area

NAMES = [name for name, card in MODELS.items() if card.summary.startswith("baseline")]


def mass(maps):
    return (maps.double() * pixel_area(*maps.shape[-2:])[:, None]).sum((-2, -1))


def peak(map_):
    return erp_directions(*map_.shape).reshape(-1, 3)[map_.argmax()]


def test_all_are_there():
    assert set(NAMES) >= {"uniform", "equator", "equator-front", "mean-map", "contrast", "motion"}
    assert "centre-of-motion" in NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(60, 120), (45, 77)])
def test_each_stands_where_a_network_stands(name, size):
    frames = render_clip(5, 60, 120).frames
    maps = predict_frames(frames, load_model(name), size)
    assert maps.shape == (5, *size) and maps.min() >= 0
    assert torch.allclose(mass(maps), torch.ones(5).double(), atol=1e-5)
    one = predict_frames(frames[:1], load_model(name), size)
    assert torch.isfinite(one).all()


def test_priors_ignore_the_picture_and_the_others_do_not():
    a, b = render_clip(3, 40, 80).frames, render_clip(3, 40, 80, seed=5).frames
    for name in NAMES:
        same = torch.equal(predict_frames(a, load_model(name)), predict_frames(b, load_model(name)))
        assert same == (name in {"uniform", "equator", "equator-front", "mean-map"}), name


def test_a_baseline_keeps_its_own_floor():
    """Shifted down to 0 as a network's map is, a place merely unlikely would be impossible."""
    frames = render_clip(2, 60, 120).frames
    band = predict_frames(frames, load_model("equator"))[0]
    assert torch.allclose(band, baselines.equator_density(60, 120), rtol=0.02)
    for name in NAMES:
        assert predict_frames(frames, load_model(name)).min() > 0, name
    with pytest.raises(ValueError, match="wanted none below 0"):
        to_density(torch.tensor([[[-0.1, 1.0]]]), (1, 2), shift=False)


def test_densities_of_priors():
    for H, W in ((64, 128), (45, 77)):
        band, front = baselines.equator_density(H, W), baselines.front_density(H, W)
        assert torch.allclose(mass(torch.stack([band, front])), torch.ones(2).double(), atol=1e-6)
        assert torch.allclose(band, band.flip(0)) and torch.equal(band, band.roll(7, 1))
        # Row by row the front prior holds the band's mass, only elsewhere along the row.
        assert torch.allclose(front.mean(1), band.mean(1), rtol=1e-5)
        assert front[H // 2, W // 2] > 1.5 * band[H // 2, W // 2] > 3 * front[H // 2, 0] / 2
    assert torch.allclose(
        baselines.front_density(64, 128, share=0.0), baselines.equator_density(64, 128)
    )
    with pytest.raises(ValueError, match="share: 1.5"):
        baselines.front_density(8, 16, share=1.5)


def test_mean_of_others_has_not_seen_its_own():
    draw = torch.Generator().manual_seed(0)
    truths = {k: torch.rand(4, 16, 32, generator=draw) for k in "abc"}
    truths["a"][1] = math.nan
    others = baselines.mean_of_others(truths)
    changed = baselines.mean_of_others({**truths, "b": torch.rand(9, 1, 16, 32, generator=draw)})
    assert torch.allclose(others["b"], changed["b"], rtol=1e-12)
    assert not torch.allclose(others["a"], changed["a"], rtol=1e-3)
    assert torch.allclose(mass(torch.stack(list(others.values()))), torch.ones(3).double())
    model = baselines.MeanMap(others["a"])
    assert torch.allclose(mass(model.density(64, 128)), torch.tensor(1.0).double(), atol=1e-3)
    assert torch.allclose(mass(model.density(8, 10)), torch.tensor(1.0).double(), atol=1e-5)
    for wrong, text in (
        ({"a": truths["a"]}, "1 video, wanted at least two"),
        ({"a": truths["a"], "b": torch.rand(2, 8, 16)}, "wanted one"),
        ({"a": truths["a"], "b": torch.full((2, 16, 32), math.nan)}, "no frame with a truth"),
    ):
        with pytest.raises(ValueError, match=text):
            baselines.mean_of_others(wrong)


def test_a_mean_map_is_loaded_from_a_file(tmp_path):
    from safetensors.torch import save_file

    mean = baselines.front_density(120, 240)
    save_file({"mean": mean}, tmp_path / "mean.safetensors")
    model = load_model("mean-map", tmp_path / "mean.safetensors")
    assert torch.equal(model.density(120, 240), mean)
    with pytest.raises(ValueError, match="is a baseline and has none"):
        load_model("equator", tmp_path / "mean.safetensors")


def test_a_mean_map_of_any_size_comes_back_from_its_file(tmp_path):
    path = tmp_path / "mean.safetensors"
    for size in ((240, 480), (64, 128), (31, 50)):
        made = baselines.MeanMap(baselines.front_density(*size))
        save_weights(made, path)
        assert torch.equal(load_model("mean-map", path).mean, made.mean)
        frames = torch.rand(2, 3, 16, 32)
        first, second = (predict_frames(frames, m) for m in (made, load_model("mean-map", path)))
        assert torch.equal(first, second)


def test_a_mean_below_nothing_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"mean": -baselines.front_density(8, 16)}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"m.safetensors: mean: .*.8, 16., wanted .*none below"):
        load_model("mean-map", tmp_path / "m.safetensors")
    save_file({"mean": torch.ones(0, 16)}, tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match=r"n.safetensors"):
        load_model("mean-map", tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match="mean: "):
        baselines.MeanMap(torch.ones(0, 16))
    save_file({"mean": torch.zeros(8, 16)}, tmp_path / "z.safetensors")
    with pytest.raises(ValueError, match=r"z.safetensors: mean: 0 everywhere"):
        load_model("mean-map", tmp_path / "z.safetensors")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.float64])
def test_a_mean_of_any_kind_of_number_is_a_density(tmp_path, dtype):
    """A sum of truths, or grey values: MeanMap normalises them, and so does its file."""
    from safetensors.torch import save_file

    grey = (baselines.front_density(8, 16) * 200).to(dtype)
    save_file({"mean": grey}, tmp_path / "m.safetensors")
    model = load_model("mean-map", tmp_path / "m.safetensors")
    for size in ((8, 16), (4, 8), (20, 40)):
        made = model.density(*size)
        assert made.dtype == torch.float32
        assert float((made * pixel_area(*size)[:, None]).sum()) == pytest.approx(1, abs=1e-5)


def spot(lon, lat, radius=12.0, H=120, W=240, ground=90, figure=210):
    """A disc on an even ground, uint8 RGB."""
    far = angle_between(erp_directions(H, W), lonlat_to_xyz(math.radians(lon), math.radians(lat)))
    grey = torch.where(far < math.radians(radius), figure, ground)
    return grey[..., None].expand(H, W, 3).to(torch.uint8).numpy().copy()


@pytest.mark.parametrize(("lon", "lat"), [(0, 0), (179, 10), (40, 89), (-120, -80), (10, 60)])
def test_a_disc_stands_out_wherever_it_lies(lon, lat):
    picture = spot(lon, lat)
    seen = torch.from_numpy(baselines.boolean_map_saliency(picture))
    on = torch.from_numpy(picture[..., 0] == 210)
    assert (seen[on] > 0).float().mean() > 0.9
    assert (seen[~on] > 0).float().mean() < 0.02
    # The same disc has the same value everywhere: the seam and the pole cut nothing in two.
    middle = baselines.boolean_map_saliency(spot(0, 0)).max()
    assert abs(seen.max() / middle - 1) < 0.05


def test_a_band_around_the_sphere_or_half_of_it_is_ground():
    picture = np.full((60, 120, 3), 60, np.uint8)
    picture[:30] = 200
    assert baselines.boolean_map_saliency(picture).max() == 0
    assert baselines.boolean_map_saliency(np.full((60, 120, 3), 60, np.uint8)).max() == 0


def noisy(H=24, W=48):
    """A picture with many small things, of which some lie on the seam and the poles."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (H, W, 3)).astype(np.uint8)


@pytest.mark.parametrize("wrong", [np.float32, np.float64, np.int64, bool, None])
def test_contrast_is_of_bytes(wrong):
    """Floats in [0, 1], the package's own pictures, would have another map without a word."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    given = torch.from_numpy(picture) if wrong is None else (picture / 255).astype(wrong)
    with pytest.raises(TypeError, match=r"rgb: .*, wanted an array \(H, W, 3\) of uint8"):
        baselines.boolean_map_saliency(given)


@pytest.mark.parametrize("size", [(24, 48), (7, 11), (2, 2)])
def test_turned_pictures_have_their_maps_turned(size):
    picture = noisy(*size)
    if size == (24, 48):
        picture = np.repeat(np.repeat(picture[::3, ::3], 3, 0), 3, 1)
    seen = baselines.boolean_map_saliency(picture)
    for turn in (1, size[1] // 2, size[1] - 1):
        turned = baselines.boolean_map_saliency(np.roll(picture, turn, 1))
        assert np.allclose(turned, np.roll(seen, turn, 1), rtol=1e-6), turn
    if size == (24, 48):
        assert seen.max() > 0


def test_labels_join_over_seam_and_poles():
    from sal360.baselines.contrast import _labels

    region = np.zeros((8, 16), bool)
    region[3, 0] = region[3, 15] = True  # one thing across the seam
    region[0, 2] = region[0, 10] = True  # one across the pole
    region[7, 5] = True  # alone
    labels = _labels(region)
    assert labels[3, 0] == labels[3, 15] > 0 and labels[0, 2] == labels[0, 10] > 0
    assert len(np.unique(labels[region])) == 3


def test_motion_finds_what_moves_and_its_centre():
    still, moved = spot(60, 20, 6), spot(66, 20, 6)
    frames = np.stack([still, moved, still, moved]).transpose(0, 3, 1, 2)
    target = lonlat_to_xyz(math.radians(63), math.radians(20))
    for name, far in (("motion", 12.0), ("centre-of-motion", 4.0)):
        map_ = predict_frames(frames, load_model(name))[0]
        assert math.degrees(angle_between(peak(map_), target)) < far, name
    # Two equal movements on opposite sides have no centre: only the equator is left.
    other = np.roll(frames, 120, -1)[:, :, ::-1]
    both = np.maximum(frames, other)
    flat = predict_frames(both, load_model("centre-of-motion"))[0]
    alone = predict_frames(frames, load_model("centre-of-motion"))[0]
    assert flat.max() < 0.4 * alone.max()


def test_the_blur_makes_the_same_blob_anywhere():
    """Against the kernel itself, at the equator, the seam and the pole."""
    H, W, sigma = 48, 96, math.radians(12)
    rays, area = erp_directions(H, W), pixel_area(H, W)
    points = torch.zeros(3, 1, H, W)
    for k, (row, col) in enumerate([(24, 40), (30, 0), (0, 17)]):
        points[k, 0, row, col] = 1.0
        kernel = torch.exp((rays @ rays[row, col] - 1) / sigma**2) * area[row]
        assert torch.allclose(
            smooth(points, sigma)[k, 0].double(), kernel, atol=2e-6 * kernel.max()
        )
