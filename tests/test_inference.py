"""Every frame gets a map, windows agree with the published ones, memory stays constant."""

import errno
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from sal360 import inference
from sal360.baselines import Equator, MeanMap, Motion, equator_density, times_prior
from sal360.images import write_image
from sal360.inference import (
    Memory,
    first_map,
    predict_frames,
    predict_stream,
    predict_video,
    restart_point,
    to_density,
)
from sal360.models import SSTSal, load_model
from sal360.models.base import FrameModel, run
from sal360.nn import SphereConv2d
from sal360.nn.state import state_tensors
from sal360.results import PredictionFolder
from sal360.sphere import pixel_area


def small_model(in_channels=3, length=20):
    torch.manual_seed(0)
    model = SSTSal(in_channels, 3, "upstream").eval()
    model.input_size = (24, 32)
    model.length = length
    return model


def corrected(in_channels=3):
    torch.manual_seed(0)
    model = SSTSal(in_channels, 3).eval()
    model.input_size = (24, 32)
    return model


class OneLayer(FrameModel):
    """The smallest network of the kind that answers one frame."""

    input_size = (24, 32)

    def __init__(self, extra):
        super().__init__()
        torch.manual_seed(0)
        self.extra = extra
        self.conv = SphereConv2d(4, 1)

    def forward(self, image, extra):
        return torch.sigmoid(4 * self.conv(torch.cat((image, extra), 1)))


def small_motion():
    model = Motion()
    model.input_size = (24, 48)
    return model


MODELS = {
    "windows": lambda: small_model(length=8),
    "windows with flow": lambda: small_model(6, length=8),
    "corrected": corrected,
    "corrected with flow": lambda: corrected(6),
    "its own last map": lambda: OneLayer("previous"),
    "motion": lambda: OneLayer("motion"),
    "baseline": small_motion,
}


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


@pytest.mark.parametrize("name", MODELS)
def test_every_model_goes_from_rgb_frames_to_densities(name):
    pictures = frames(7).transpose(0, 3, 1, 2)
    for T in (1, 2, 7):
        maps = predict_frames(pictures[:T], MODELS[name](), (20, 40))
        mass = (maps * pixel_area(20, 40)[:, None]).sum((-2, -1))
        assert maps.shape == (T, 20, 40) and maps.min() >= 0
        assert torch.allclose(mass, torch.ones(T).double(), atol=1e-5)


@pytest.mark.parametrize("name", ["corrected", "corrected with flow"])
def test_memory_goes_on_over_the_whole_film(name):
    """22 frames, one after another, are one long clip: nothing starts again at 16 or 20."""
    model, pictures = MODELS[name](), frames(22)
    with torch.no_grad():
        whole = model(torch.stack(list(model.features(pictures)))[None])[0, :, 0]
    ours = torch.stack(list(predict_stream(pictures, model, (24, 32))))
    assert torch.allclose(ours, to_density(whole, (24, 32), reading="positive"), atol=1e-6)


@pytest.mark.parametrize("name", ["corrected", "corrected with flow"])
def test_a_model_that_forgets_begins_anew_and_goes_on_from_an_interruption(name):
    model, pictures = MODELS[name](), frames(11)
    inputs = torch.stack(list(model.features(pictures)))
    with torch.no_grad():
        anew = torch.cat([model(inputs[k : k + 4][None])[0, :, 0] for k in (0, 4, 8)])
    carried = torch.stack(list(predict_stream(pictures, model, (24, 32))))
    model.forgets = 4
    memory, whole = Memory(), []
    for density in predict_stream(pictures, model, (24, 32), memory=memory):
        whole.append(density)
        if memory.frames == 6:
            kept = Memory(memory.state, memory.frames)
    assert torch.allclose(torch.stack(whole), to_density(anew, (24, 32), reading="positive"))
    assert torch.equal(torch.stack(whole[:4]), carried[:4])
    assert not torch.allclose(torch.stack(whole[4:]), carried[4:], atol=1e-4)
    rest = predict_stream(pictures[5:], model, (24, 32), continued=True, memory=kept)
    assert torch.equal(torch.stack(list(rest)), torch.stack(whole[6:]))
    raw, _ = run(model, inputs[None], None, 0)
    assert torch.allclose(raw[0, :, 0], anew)


def test_a_frame_model_is_given_its_own_last_map():
    model, pictures = OneLayer("previous"), frames(9)
    clip = torch.stack(list(model.features(pictures)))[None]
    with torch.no_grad():
        closed = model.rollout(clip)[0, :, 0]
        forced = model.rollout(clip, previous=torch.rand(1, 9, 1, 24, 32))[0, :, 0]
    ours = torch.stack(list(predict_stream(pictures, model, (24, 32))))
    assert torch.allclose(ours, to_density(closed, (24, 32), reading="positive"), atol=1e-6)
    assert not torch.allclose(closed[1:], forced[1:], atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("done", [1, 9, 12])
def test_every_model_goes_on_where_it_was_interrupted(name, done):
    model, pictures = MODELS[name](), frames(13)
    memory, whole = Memory(), []
    for density in predict_stream(pictures, model, (24, 32), memory=memory):
        whole.append(density)
        if len(whole) == done:
            stored = [part.clone() for part in state_tensors(memory.state)]
    point = restart_point(done, model)
    again = Memory(frames=done, stored=stored) if point else Memory()
    rest = list(predict_stream(pictures[point:], model, (24, 32), point > 0, again))
    first = first_map(point, model)
    assert first <= done or point == 0
    assert len(rest) == 13 - first
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:], strict=True))


@pytest.fixture
def film(tmp_path):
    """A folder of 13 frames."""
    folder = tmp_path / "film"
    folder.mkdir()
    for t, picture in enumerate(frames(13)):
        write_image(folder / f"{t:04d}.png", picture)
    return folder


def predicted(folder):
    folder = PredictionFolder(folder)
    return np.stack([folder.read_map(index)[0] for index in folder.frames()])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", ["just after a map is written", "before a map is written"])
def test_an_interrupted_video_goes_on_to_the_same_numbers(name, how, film, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "KEEP", 4)
    model = MODELS[name]()
    settings = {"size": (24, 48), "with_overlay": False, "fps": 8}
    predict_video(film, model, tmp_path / "whole", **settings)

    write, before = PredictionFolder.write_map, how == "before a map is written"

    def until_frame_9(folder, index, time, density):
        if index == 9 and before:
            raise KeyboardInterrupt
        write(folder, index, time, density)
        if index == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(PredictionFolder, "write_map", until_frame_9)
    with pytest.raises(KeyboardInterrupt):
        predict_video(film, model, tmp_path / "cut", **settings)
    monkeypatch.setattr(PredictionFolder, "write_map", write)
    cut = PredictionFolder(tmp_path / "cut")
    assert cut.state_path.is_file() == model_is_stateful(model)
    record = predict_video(film, model, cut.path, resume=True, **settings)
    assert record["status"] == "complete" and record["maps"] == 13
    if model_is_stateful(model):
        assert record["predicted_now"] == 13 - 8  # stored after 4 and 8
    assert not list(cut.path.glob("state*"))
    assert np.array_equal(predicted(cut.path), predicted(tmp_path / "whole"))


def model_is_stateful(model):
    return getattr(model, "stateful", False)


def test_an_interrupt_between_frames_loses_nothing(film, tmp_path, monkeypatch):
    """Ctrl-C while the next frame is read: the memory of the last one is stored then and there."""
    model = corrected()
    settings = {"size": (24, 48), "with_overlay": False, "fps": 8}
    step = model.step
    monkeypatch.setattr(model, "step", interrupted_after(step, 9))
    with pytest.raises(KeyboardInterrupt):
        predict_video(film, model, tmp_path / "cut", **settings)
    monkeypatch.setattr(model, "step", step)
    assert PredictionFolder(tmp_path / "cut").read_state()[0] == 9
    record = predict_video(film, model, tmp_path / "cut", resume=True, **settings)
    assert record["predicted_now"] == 13 - 9
    predict_video(film, model, tmp_path / "whole", **settings)
    assert np.array_equal(predicted(tmp_path / "cut"), predicted(tmp_path / "whole"))


def interrupted_after(step, frames):
    left = iter(range(frames))

    def limited(frame, state):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(frame, state)

    return limited


def test_a_prior_multiplies_every_map_and_stays_out_of_the_memory(film, tmp_path):
    model, prior = corrected(), load_model("equator-front")
    settings = {"size": (24, 48), "with_overlay": False, "fps": 8}
    alone = predict_video(film, model, tmp_path / "alone", **settings)
    record = predict_video(film, model, tmp_path / "both", prior=prior, prior_power=0.7, **settings)
    assert alone["settings"]["prior"] is None
    assert record["settings"]["prior"]["name"] == "equator-front"
    assert record["settings"]["prior"]["power"] == 0.7
    maps = torch.from_numpy(predicted(tmp_path / "alone"))
    wanted = times_prior(maps, prior.density(24, 48), 0.7)
    found = torch.from_numpy(predicted(tmp_path / "both"))
    assert torch.allclose(found, wanted, rtol=1e-5) and (found - maps).abs().max() > 0.01
    for other in ({}, {"prior": prior}, {"prior": load_model("equator"), "prior_power": 0.7}):
        with pytest.raises(ValueError, match=r"made with another settings \(prior\)"):
            predict_video(film, model, tmp_path / "both", resume=True, **other, **settings)
    with pytest.raises(ValueError, match="prior_power: -1"):
        predict_video(film, model, tmp_path / "no", prior=prior, prior_power=-1, **settings)
    for wrong in ("equator", prior.density(24, 48)):
        with pytest.raises(TypeError, match="prior: .*, wanted one such as load_model"):
            predict_video(film, model, tmp_path / "no", prior=wrong, **settings)
    assert not (tmp_path / "no").exists()


def test_a_prior_made_by_hand_is_known_by_what_it_says(film, tmp_path):
    model, settings = load_model("uniform"), {"size": (8, 16), "with_overlay": False, "fps": 8}
    mean = torch.rand(8, 16)
    predict_video(film, model, tmp_path / "a", prior=MeanMap(mean), **settings)
    predict_video(film, model, tmp_path / "a", prior=MeanMap(mean), resume=True, **settings)
    other = MeanMap(mean.flip(0))
    with pytest.raises(ValueError, match=r"made with another settings \(prior\)"):
        predict_video(film, model, tmp_path / "a", prior=other, resume=True, **settings)


def test_a_memory_of_maps_that_are_gone_is_not_used(film, tmp_path, monkeypatch):
    model = corrected()
    settings = {"size": (24, 48), "with_overlay": False, "fps": 8}
    step = model.step
    monkeypatch.setattr(model, "step", interrupted_after(step, 9))
    with pytest.raises(KeyboardInterrupt):
        predict_video(film, model, tmp_path / "cut", **settings)
    monkeypatch.setattr(model, "step", step)
    (tmp_path / "cut/maps/000003.npz").unlink()
    assert predict_video(film, model, tmp_path / "cut", resume=True, **settings)["maps"] == 13
    PredictionFolder(tmp_path / "cut").state_path.write_bytes(b"no")
    with pytest.raises(ValueError, match="not a state of sal360"):
        predict_video(film, model, tmp_path / "cut", resume=True, **settings)
    predict_video(film, model, tmp_path / "cut", force=True, **settings)
    assert not list((tmp_path / "cut").glob("state*"))


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


def test_three_readings_of_raw_maps():
    raw = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]])
    area = pixel_area(2, 2)[:, None]
    for reading, want in (("minmax", raw + 1), ("positive", raw.clamp_min(0))):
        density = to_density(raw, (2, 2), reading=reading)
        assert torch.allclose(density, (want / (want * area).sum()).float(), atol=1e-7), reading
    with pytest.raises(ValueError, match="^raw: a density of -1"):
        to_density(raw, (2, 2), reading="density")
    with pytest.raises(ValueError, match="^reading: 'maximum', wanted 'minmax'"):
        to_density(raw, (2, 2), reading="maximum")
    assert torch.equal(to_density(raw, (2, 2), shift=True), to_density(raw, (2, 2)))
    assert torch.equal(to_density(-raw, (2, 2), reading="positive")[0, 1], torch.zeros(2))
    nothing = to_density(-torch.ones(1, 2, 2), (2, 2), reading="positive")
    assert torch.allclose(nothing, torch.tensor(1 / (4 * torch.pi)))


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


def test_a_model_in_training_mode_answers_as_after_it_and_is_left_as_it_was():
    model = load_model("cube-unet", base=2, input_size=(16, 32))
    frames = torch.rand(3, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    wanted = predict_frames(frames, model)
    model.train()
    model.head.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert torch.equal(predict_frames(frames, model), wanted)
    assert model.training and model.down[0].training and not model.head.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("size", [40, "40x80", (40,)])
def test_a_size_that_is_none_is_named(size):
    with pytest.raises(TypeError, match=r"size: .*, wanted \(H, W\)"):
        predict_frames(torch.rand(1, 3, 16, 32), load_model("uniform"), size=size)


@pytest.mark.parametrize("name", ["equator", "motion", "cube-unet", "sst-sal-noflow"])
def test_frames_that_are_no_pictures_are_named(name):
    """Floats in [0, 1] would be a black film, and nobody would be told."""
    good, model = frames(3), load_model(name)
    alpha = np.concatenate((good, good[..., :1]), -1)
    wrong = {TypeError: (good / 255, torch.from_numpy(good)), ValueError: (good[..., 0], alpha)}
    for kind, films in wrong.items():
        for film in films:
            with pytest.raises(kind, match=r"^frames\[1\]: .*, wanted"):
                list(predict_stream([good[0], film[1]], model, (8, 16)))


def test_numbers_of_any_kind_are_written_as_numbers(film, tmp_path):
    plain = {"start": 0.5, "seconds": 1.0, "fps": 8.0, "size": (8, 16)}
    other = {
        "start": np.float32(0.5),
        "seconds": Fraction(1),
        "fps": np.int64(8),
        "size": (np.int64(8), np.int32(16)),
    }
    model, records = load_model("equator"), []
    for name, settings in (("a", plain), ("b", other), ("c", {"seconds": float("inf")})):
        predict_video(film, model, tmp_path / name, with_overlay=False, **settings)
        told = (tmp_path / name / "record.json").read_text()
        records.append(json.loads(told, parse_constant=pytest.fail)["settings"])
    assert records[0] == records[1] and records[2]["seconds"] is None


def test_a_folder_in_which_nothing_could_be_written_is_free(film, tmp_path, monkeypatch):
    """A full disk, say, where already the record finds no room."""
    model, settings = load_model("equator"), {"size": (8, 16), "with_overlay": False}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "record.json")

    with monkeypatch.context() as patch:
        patch.setattr(PredictionFolder, "write_record", full)
        with pytest.raises(OSError, match="No space"):
            predict_video(film, model, tmp_path / "out", **settings)
    assert predict_video(film, model, tmp_path / "out", **settings)["status"] == "complete"
