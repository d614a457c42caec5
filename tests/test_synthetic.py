"""The embedded clip: same bits, exact truth, exact flow, no seam."""

import math

import pytest
import torch

from sal360.datasets import samples
from sal360.datasets.synthetic import render_clip
from sal360.projections import apply_table, erp_table
from sal360.sphere import angle_between, erp_directions, pixel_area


def test_same_arguments_same_bits_other_seed_other_ground():
    a, b, c = render_clip(3, 32, 64), render_clip(3, 32, 64), render_clip(3, 32, 64, seed=1)
    assert torch.equal(a.frames, b.frames) and torch.equal(a.flow, b.flow)
    assert not torch.equal(a.frames, c.frames) and torch.equal(a.truth, c.truth)


@pytest.mark.parametrize(("H", "W"), [(32, 64), (33, 51), (1, 1)])
def test_shapes_and_masses(H, W):
    clip = render_clip(4, H, W)
    assert clip.frames.shape == (4, 3, H, W) and clip.flow.shape == (3, 2, H, W)
    assert clip.frames.min() >= 0 and clip.frames.max() <= 1
    mass = (clip.truth * pixel_area(H, W)[:, None]).sum((-2, -1))
    assert torch.allclose(mass, torch.ones(4).double(), atol=1e-5)


def test_truth_peaks_on_the_moving_objects():
    clip = render_clip(6, 90, 180)
    rays = erp_directions(90, 180)
    for t in range(6):
        top = rays.reshape(-1, 3)[clip.truth[t].argmax()]
        nearest = angle_between(clip.objects[t], top).min()
        assert math.degrees(nearest) < 2.5


def test_warping_by_the_flow_gives_the_next_frame():
    """Frame t read where the flow came from is frame t + 1, away from what becomes uncovered."""
    H, W = 240, 480
    clip = render_clip(3, H, W)
    flow = clip.flow[0].double()
    row, col = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    lat = (0.5 - (row + flow[1] + 0.5) / H) * math.pi
    lon = ((col + flow[0] + 0.5) / W - 0.5) * 2 * math.pi
    goal = torch.stack((lat.cos() * lon.sin(), -lat.sin(), lat.cos() * lon.cos()), -1)
    arrived = apply_table(clip.frames[1:2], erp_table(goal, H, W))[0].reshape(3, H, W)
    moving = flow.abs().amax(0) > 0
    error = (arrived - clip.frames[0]).abs().amax(0)
    assert float(error[moving].median()) < 0.01
    assert float(error.median()) < 1e-6
    still = (clip.frames[1] - clip.frames[0]).abs().amax(0)
    assert float(still[moving].median()) > 3 * float(error[moving].median())


def test_an_object_crosses_the_seam():
    lon = torch.atan2(*render_clip(24, 8, 16).objects[:, 1, [0, 2]].unbind(-1))
    assert (lon[1:] - lon[:-1]).abs().max() > math.pi


def test_the_books_clip_says_what_it_is(monkeypatch):
    monkeypatch.setattr(samples.download, "available", lambda name: False)
    samples.clip.cache_clear()
    clip = samples.clip(3, 64)
    assert not clip.real and "embedded synthetic clip" in clip.note
    assert clip.frames.shape == (3, 3, 64, 128)
    assert samples.model_name() == ("motion", None)
    samples.clip.cache_clear()


@pytest.mark.real
def test_the_real_clip_is_shown_where_it_can_be(real):
    real("samples/congo_2048.mp4")
    samples.clip.cache_clear()
    clip = samples.clip(3, 64)
    assert clip.real and clip.frames.shape == (3, 3, 64, 128) and 7 < clip.fps < 8


def test_bad_input():
    with pytest.raises(ValueError, match="^T: "):
        render_clip(0)
    with pytest.raises(ValueError, match="^fps: "):
        render_clip(2, fps=0)
