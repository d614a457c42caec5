"""Chapter 14: figures draw what they are given, planted faults are there, slips are told."""

import math
import re

import numpy as np
import pytest
import torch

from sal360 import figures, upstream
from sal360.course import chapter14, check
from sal360.course.chapter14 import FAULTS, KEEP, RESET, planted_memory
from sal360.metrics import cc
from sal360.models import SSTSal, load_model
from sal360.nn import SphereMaxPool2d
from sal360.sphere import erp_directions, lonlat_to_xyz, rotation_matrix, xyz_to_lonlat

H, W, T = 16, 32, 5


def places(lon):
    return torch.stack([lonlat_to_xyz(math.radians(lon), 0.0) for _ in range(T)])[:, None]


@pytest.fixture(scope="module")
def ball():
    spot = chapter14.blob(90, 0, 20, H, W)
    states = torch.stack([spot * v for v in (0.5, 1.0, 0.8, 0.64, 0.512)])
    return figures.memory_globe(states, [0.5, 1.0, 0.8, 0.64, 0.512], places(90), stop=1)


def test_the_ball_needs_no_network_and_opens_at_the_stop(ball):
    html = ball.html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 150_000
    assert [frame.name for frame in ball.figure.frames] == [str(k) for k in range(T)]
    bar = ball.figure.layout.sliders[0]
    labels = [step.label for step in bar.steps]
    assert bar.active == 1 and labels[0] == "frame 0: holds 50%"
    assert labels[3] == "frame 3, 2 after the stop: 64%"
    assert (
        "nothing new comes after frame 1, with 100%" in ball.alt and "51% in the last" in ball.alt
    )


def test_the_ball_draws_the_states_it_is_given(ball):
    surface, marks = ball.figure.data[:2]
    xyz = np.stack([np.asarray(v, float) for v in (surface.x, surface.y, surface.z)])
    for k, held in enumerate((0.5, 1.0, 0.8, 0.64, 0.512)):
        codes = np.asarray(ball.figure.frames[k].data[0].surfacecolor, int)
        at = np.unravel_index(codes.argmax(), codes.shape)
        assert abs(codes.max() - min(255, 510 * held)) < 8  # the mesh may miss the peak
        # Our right is minus y of the drawing; the blob looks to longitude 90.
        assert np.allclose(xyz[(slice(None), *at)], (0, -1, 0), atol=0.35)
    assert np.allclose([marks.x[0], marks.y[0], marks.z[0]], (0, -1.03, 0), atol=1e-6)
    faint = figures.memory_globe(
        torch.stack([torch.ones(H, W), torch.full((H, W), 0.25)]), [1, 0.25]
    )
    levels = [np.asarray(f.data[0].surfacecolor, int) for f in faint.figure.frames]
    assert (levels[0] == 255).all() and np.abs(levels[1] - 127.5).max() < 1


def test_the_ball_wants_a_share_for_each_frame():
    with pytest.raises(ValueError, match=r"^states: shape \(5, 16, 32\), wanted \(2, H, W\)"):
        figures.memory_globe(torch.zeros(T, H, W), [1, 1])


def test_arrows_tell_angles_and_go_the_short_way():
    picture = np.zeros((H, W, 3), np.uint8)
    goal = erp_directions(H, W) @ rotation_matrix(math.radians(30), 0).T
    arrows = figures.flow_arrows(picture, goal, "pan", every=4)
    assert "in longitude by up to 30 degrees" in arrows.alt
    moved = [float(v) for v in re.findall(r"by ([\d.]+) to ([\d.]+) degrees on", arrows.alt)[0]]
    assert moved[1] <= 30 and abs(moved[1] - 30) < 0.3 and moved[0] < 4
    with pytest.raises(ValueError, match=r"^goal: shape \(2, 16, 32\), wanted \(H, W, 3\)"):
        figures.flow_arrows(picture, torch.zeros(2, H, W))


def played(step, frames):
    state, maps = None, []
    for x in frames:
        held, state = step(x, state)
        maps.append(held)
    return torch.stack(maps)


def test_a_right_memory_is_a_geometric_sum():
    frames = torch.rand(12, H, W, generator=torch.Generator().manual_seed(0)).double()
    wanted = torch.zeros(H, W).double()
    for held, x in zip(played(planted_memory(), frames), frames, strict=True):
        wanted = KEEP * wanted + x
        assert torch.allclose(held, wanted)


def test_planted_faults_do_what_they_say():
    flash = torch.zeros(12, H, W).double()
    flash[0, 8, 16] = 1
    right = played(planted_memory(), flash)
    late = played(planted_memory("late"), flash)
    assert torch.equal(late[1:], right[:-1]) and not late[0].any()
    emptied = played(planted_memory("resets"), flash)
    assert torch.equal(emptied[:RESET], right[:RESET]) and not emptied[RESET:].any()
    place = torch.arange(W).double()
    drifting = played(planted_memory("drifts"), flash)
    for k in range(8):
        share = drifting[k] / KEEP**k
        assert abs(share.sum() - 1) < 1e-9
        assert abs((share.sum(0) @ place) - 16 - k / 2) < 1e-9
        assert abs((share.sum(1) @ place[:H]) - 8 - k / 2) < 1e-9
    assert torch.equal(played(planted_memory("seam"), flash), right)
    assert not played(planted_memory("seam"), flash.roll(16, -1)).any()
    with pytest.raises(ValueError, match="^faults: "):
        planted_memory("leaks")


def exact_gradient(step, frames, every):
    free = frames.clone().requires_grad_()
    state = torch.zeros_like(free[0])
    for k, frame in enumerate(free):
        state = step(frame, state.detach() if k % every == 0 else state)
    return torch.autograd.grad(state.sum(), free)[0]


def emptied_gradient(step, frames, every):
    last = (len(frames) - 1) // every * every  # the state starts anew at the last cut
    slope = torch.zeros_like(frames)
    slope[last:] = exact_gradient(step, frames[last:], len(frames))
    return slope


def steps(before, after, H, W):
    (lon, lat), (to_lon, to_lat) = xyz_to_lonlat(before), xyz_to_lonlat(after)
    turn = torch.remainder(to_lon - lon + math.pi, 2 * math.pi) - math.pi
    return torch.stack((turn * W / (2 * math.pi), (lat - to_lat) * H / math.pi))


def rows_wrap_too(before, after, H, W):
    right, down = steps(before, after, H, W)
    return torch.stack((right, torch.remainder(down + H / 2, H) - H / 2))


def the_first_alone(before, after, H, W):
    return steps(before[:1], after[:1], H, W)


def changes_its_input(step, frames, every):
    frames.requires_grad_()
    slope = exact_gradient(step, frames.detach(), every)
    return slope


def test_curves_over_whole_numbers_have_whole_ticks(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawn, subplots = [], pyplot.subplots
    monkeypatch.setattr(pyplot, "subplots", lambda **k: drawn.append(subplots(**k)) or drawn[-1])
    frames = {"thrown away": (range(4), range(4)), "used": (range(4, 20), range(16))}
    figures.gaze_curves(frames, "frame", "CC")
    figures.gaze_curves({"angle": ([0, 0.5, 3], [0, 1, 2])}, "angle", "CC")
    whole, other = (axis.get_xticks() % 1 == 0 for _, axis in drawn)
    assert whole.all() and not other.all()


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("14.1", lambda before, after, H, W: torch.zeros(1, 2), "wanted (2, 1)"),
        ("14.1", lambda before, after, H, W: steps(before, after, 180, 360), "are these degrees?"),
        ("14.1", lambda before, after, H, W: steps(before, after, H, W).flip(0), "right comes"),
        ("14.1", lambda *a: steps(*a) * torch.tensor([[1.0], [-1.0]]), "down is positive"),
        ("14.1", rows_wrap_too, "from the top to the bottom, from (10, 80)"),
        ("14.1", the_first_alone, "7 at once: you gave shape (2, 1), wanted (2, 7)"),
        ("14.1", lambda b, a, H, W: steps(b[:1], a[:1], H, W).expand(2, len(b)), "for each alone"),
        ("14.2", lambda s, f: -math.log(math.expm1(math.log(2) / s)), "in as many frames"),
        ("14.2", lambda s, f: -math.log(math.expm1(1 / (s * f))), "leaves 1/e, not a half"),
        ("14.3", lambda step, frames, every: frames.sum(), "one gradient for each frame"),
        ("14.3", lambda step, frames, every: exact_gradient(step, frames, 99), "nothing was cut"),
        ("14.3", emptied_gradient, "you emptied the state; only its history is cut"),
        ("14.3", changes_its_input, "the frames that were given have changed"),
        ("14.4", lambda step: {"leaks"}, "wanted some of"),
        ("14.4", lambda step: set(FAULTS), "planted: no fault at all; you blame"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_right_answers_may_be_rows_or_single_precision():
    assert check("14.1", lambda *a: tuple(steps(*a)))
    assert check("14.1", lambda *a: [row.numpy() for row in steps(*a)])
    assert check("14.1", lambda *a: steps(*a).float())
    assert check("14.1", lambda *a: steps(*a).tolist())
    assert check("14.2", lambda s, f: torch.logit(torch.tensor(0.5) ** (1 / (s * f))))


def small_inputs(z, flow):
    parts = [z["frames_bgr"]] + ([z["flow_bgr"]] if flow else [])
    clip = np.concatenate(parts, -1).astype(np.float32) / 255
    return torch.from_numpy(clip).permute(0, 3, 1, 2)


def only_the_sampler(model, frames):
    """Official weights with centred convolutions and pooling, all else as published."""
    twin = SSTSal(model.in_channels, model.encoder.lstm.hidden)
    twin.load_state_dict(model.state_dict())
    pool, encoded, decoded, maps = SphereMaxPool2d(3, 2), None, None, []
    for x in frames[:, None]:
        encoded = twin.encoder.lstm(x, encoded)
        decoded = twin.decoder.lstm(pool(encoded.hidden), decoded)
        maps.append(decoded.hidden.repeat_interleave(2, -2).repeat_interleave(2, -1)[0, 0])
    return torch.stack(maps)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "file", "key", "last", "all_frames"),
    [
        ("sst-sal", "SST_Sal.pth", "of", 0.58, 0.78),
        ("sst-sal-noflow", "SST_Sal_wo_OF.pth", "wo_of", -0.05, 0.33),
    ],
)
def test_centring_the_sampler_breaks_the_official_weights(
    golden, real, name, file, key, last, all_frames
):
    """48 x 64, 5 frames: correlation by pixel with the published output, which decays."""
    real(f"weights/{file}")
    z, model = golden("sst_small"), load_model(name, weights="official")
    with torch.no_grad():
        mended = only_the_sampler(model, small_inputs(z, model.in_channels == 6))
    published = torch.from_numpy(z[f"{key}.out"])
    by_frame = cc(mended, published, "pixels")
    assert abs(by_frame[-1] - last) < 0.02 and by_frame[-1] < by_frame[0] - 0.1
    together = torch.corrcoef(torch.stack((mended.flatten(), published.flatten())))[0, 1]
    assert abs(together - all_frames) < 0.02


def test_the_published_sampler_moves_by_half_a_pixel_at_each_pass():
    middle = torch.zeros(1, 1, 3, 3)
    middle[..., 1, 1] = 1
    spot = chapter14.blob(0, 0, 15, 32, 64).float()[None, None]
    moved = spot
    for _ in range(8):
        moved = upstream.sphere_conv2d(moved, middle)
    assert cc(moved[0, 0], spot[0, 0].roll((4, 4), (0, 1))) > 0.99
