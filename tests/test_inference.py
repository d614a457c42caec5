"""Every frame gets a map, windows agree with the published ones, memory stays constant."""

import numpy as np
import pytest
import torch

from sal360.baselines import Equator, Motion, equator_density
from sal360.inference import predict_frames, predict_stream, restart_point, to_density
from sal360.models import SSTSal
from sal360.sphere import pixel_area


def small_model(in_channels=3, length=20):
    torch.manual_seed(0)
    model = SSTSal(in_channels, 3, "upstream").eval()
    model.input_size = (24, 32)
    model.length = length
    return model


def frames(T, H=32, W=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


def published(model, pictures):
    """Raw maps as the published inference has them: windows of 20 every 16, the first 4 dropped."""
    inputs = torch.stack(list(model.features(pictures)))
    maps = {}
    with torch.no_grad():
        for start in range(0, len(inputs), 16):
            out = model(inputs[None, start : start + 20])[0, :, 0]
            maps.update({start + k: out[k] for k in range(4, len(out))})
    return maps


@pytest.mark.parametrize("T", [1, 2, 4, 5, 6, 19, 20, 21, 36, 37, 41])
@pytest.mark.parametrize("channels", [3, 6])
def test_every_frame_gets_a_density(T, channels):
    maps = predict_frames(frames(T).transpose(0, 3, 1, 2), small_model(channels))
    assert maps.shape == (T, 32, 64) and maps.dtype == torch.float32
    mass = (maps * pixel_area(32, 64)[:, None]).sum((-2, -1))
    assert torch.allclose(mass, torch.ones(T).double(), atol=1e-5)
    assert maps.min() >= 0


@pytest.mark.parametrize("channels", [3, 6])
def test_frames_that_the_published_code_predicts_come_out_the_same(channels):
    model, pictures = small_model(channels), frames(41)
    ours = list(predict_stream(pictures, model, (24, 32)))
    theirs = published(model, pictures)
    assert sorted(theirs) == list(range(4, 41))
    for t, raw in theirs.items():
        assert torch.allclose(ours[t], to_density(raw[None], (24, 32))[0], atol=1e-6), t


def test_first_frames_are_warmed_up_on_the_film_played_backwards():
    model, pictures = small_model(), frames(9)
    played = [pictures[t] for t in (4, 3, 2, 1, 0, 1, 2, 3)]
    with torch.no_grad():
        raw = model(torch.stack(list(model.features(played)))[None])[0, 4:, 0]
    ours = torch.stack(list(predict_stream(pictures, model, (24, 32)))[:4])
    assert torch.allclose(ours, to_density(raw, (24, 32)), atol=1e-6)


@pytest.mark.parametrize("done", [0, 3, 4, 19, 20, 21, 36, 40])
def test_an_interrupted_prediction_goes_on_to_the_same_numbers(done):
    model, pictures = small_model(), frames(41)
    whole = list(predict_stream(pictures, model, (24, 32)))
    point = restart_point(done, model)
    assert point <= done
    rest = list(predict_stream(pictures[point:], model, (24, 32), continued=point > 0))
    first = point + 4 if point else 0
    assert first <= max(done, 0) or point == 0
    assert len(rest) == 41 - first
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:], strict=True))


def test_frames_are_taken_as_they_are_needed():
    """A stream is not read ahead by more than a window: memory cannot grow with its length."""
    taken = 0

    def endless():
        nonlocal taken
        for picture in frames(60):
            taken += 1
            yield picture

    stream = predict_stream(endless(), small_model(), (24, 32))
    for _ in range(5):
        next(stream)
    assert taken <= 21


def test_floats_and_bytes_agree_and_the_order_of_colours_is_rgb():
    model, pictures = small_model(), frames(3)
    as_bytes = predict_frames(pictures.transpose(0, 3, 1, 2), model)
    as_floats = predict_frames(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, model)
    assert torch.equal(as_bytes, as_floats)
    first = next(model.features(pictures))
    red_everywhere = np.zeros((32, 64, 3), np.uint8)
    red_everywhere[..., 0] = 255
    assert next(model.features([red_everywhere]))[:, 0, 0].tolist() == [0, 0, 1]  # B, G, R
    assert first.shape == (3, 24, 32)


def test_a_single_frame_has_no_flow_and_the_last_repeats_the_one_before():
    model = small_model(6)
    (alone,) = model.features(frames(1))
    assert (alone[3:] == 1).all()
    three = list(model.features(frames(3)))
    assert len(three) == 3 and torch.equal(three[1][3:], three[2][3:])


def test_flat_and_broken_outputs():
    flat = to_density(torch.full((1, 4, 8), 0.3), (6, 12))
    assert torch.allclose(flat, torch.tensor(1 / (4 * torch.pi)), atol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        to_density(torch.tensor([[[0.0, float("nan")]]]), (1, 2))


def test_resampling_a_map_keeps_the_seam_closed():
    raw = torch.zeros(1, 12, 24)
    raw[0, 5, 23] = 1.0
    out = to_density(raw, (48, 96))[0]
    assert out[22, 0] > 0.05 and out[22, 95] > 0.05


@pytest.mark.parametrize("model", [Equator(), Motion()])
def test_baselines_are_models(model):
    maps = predict_frames(frames(5).transpose(0, 3, 1, 2), model, size=(60, 120))
    assert maps.shape == (5, 60, 120)
    mass = (maps * pixel_area(60, 120)[:, None]).sum((-2, -1))
    assert torch.allclose(mass, torch.ones(5).double(), atol=1e-5)


def test_motion_blurs_the_same_at_the_pole_as_at_the_equator():
    """The blob of one changed pixel has the same width wherever it is: a kernel on the sphere."""
    spread = []
    for row in (2, 30, 60, 117):
        change = torch.zeros(1, 1, 1, 120, 240)
        change[..., row, 7] = 1
        blob = Motion()(change)[0, 0, 0].double()
        blob = (blob - 0.25 * equator_density(120, 240)).clamp_min(0)
        area = pixel_area(120, 240)[:, None]
        spread.append(float((blob**2 * area).sum() / (blob * area).sum() ** 2))
    assert max(spread) / min(spread) < 1.05


def test_equator_density_is_one_and_symmetric():
    density = equator_density(33, 50)
    assert torch.allclose(density, density.flip(0))
    assert abs(float((density * pixel_area(33, 50)[:, None]).sum()) - 1) < 1e-6
    with pytest.raises(ValueError, match="^sigma_deg: "):
        equator_density(4, 8, 0)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((3, 4, 4)), np.zeros((2, 4, 8, 3)), np.full((1, 3, 4, 8), 200.0),
     np.zeros((0, 3, 4, 8)), np.full((1, 3, 4, 8), np.nan), np.zeros((1, 3, 4, 8), np.int64)],
)  # fmt: skip
def test_bad_frames_are_named(bad):
    with pytest.raises((ValueError, TypeError), match="^frames: "):
        predict_frames(bad, Equator())
