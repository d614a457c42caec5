"""Optical flow: the seam, the colour wheel, and the error against exact flow."""

import numpy as np
import pytest
import torch

from sal360.datasets.synthetic import render_clip
from sal360.flow import color_wheel, dis_flow, flow_of, flow_to_color, sphere_flow


def textured(H=96, W=192, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((H // 4, W // 4, 3))
    return (np.kron(coarse, np.ones((4, 4, 1))) * 255).astype(np.uint8)


@pytest.mark.parametrize("shift", [3, -5])
def test_a_turn_of_the_panorama_flows_everywhere_the_same_seam_included(shift):
    frame = textured()
    flow = dis_flow(frame, np.roll(frame, shift, axis=1))
    for columns in (slice(0, 8), slice(-8, None), slice(80, 110)):
        assert abs(np.median(flow[0][:, columns]) - shift) < 0.2
        assert abs(np.median(flow[1][:, columns])) < 0.2


def test_without_the_wrap_the_seam_would_be_wrong():
    """The same search on the bare picture fails where ours holds: the padding does something."""
    import cv2

    frame = textured()
    moved = np.roll(frame, 6, axis=1)
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (frame, moved)]
    bare = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    error = {"bare": bare[:, -6:, 0] - 6, "ours": dis_flow(frame, moved)[0][:, -6:] - 6}
    assert np.abs(error["ours"]).mean() < 0.5 * np.abs(error["bare"]).mean()


def test_still_frames_do_not_move():
    assert not dis_flow(textured(), textured()).any()


def test_error_on_exact_flow():
    """Measured on the embedded clip at 240 x 480, where moving pixels move 2.6 px on average.

    Mean end-point error .03 px over all pixels and .29 px over moving ones (11 % of their
    motion); the bounds leave half as much again.
    """
    clip = render_clip(6, 240, 480)
    frames = (clip.frames.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    everywhere, moving = [], []
    for t, exact in enumerate(clip.flow.numpy()):
        error = np.hypot(*(dis_flow(frames[t], frames[t + 1]) - exact))
        everywhere.append(error.mean())
        moving.append(error[np.hypot(*exact) > 0].mean())
    assert np.mean(everywhere) < 0.045
    assert np.mean(moving) < 0.43


def test_the_wheel_has_its_six_corners_and_no_jumps():
    wheel = color_wheel()
    assert wheel.shape == (55, 3)
    for corner, place in (((1, 0, 0), 0), ((1, 1, 0), 15), ((0, 1, 0), 21), ((0, 0, 1), 36)):
        assert tuple(wheel[place]) == corner
    steps = np.abs(np.diff(np.vstack((wheel, wheel[:1])), axis=0)).max(1)
    assert steps.max() < 0.26


def test_colours_tell_direction_and_speed():
    flow = np.zeros((2, 3, 3), np.float32)
    flow[0, 0, 0], flow[0, 0, 2], flow[1, 2, 0] = 2.0, -2.0, 1.0
    colour = flow_to_color(flow).astype(int)
    assert (colour[1, 1] == 255).all()  # white: at rest
    right, left, down = colour[0, 0], colour[0, 2], colour[2, 0]
    assert right[0] > 250 and right[1:].max() < 60  # red to the right, as in the published wheel
    assert left[0] < 30 and left[1:].min() > 100  # the opposite hue to the left
    assert down.min() > 100  # half the speed: half as saturated
    assert (
        np.abs(flow_to_color(flow * 7).astype(int) - colour).max() <= 1
    )  # relative to the fastest


def test_colours_match_the_wheel_at_every_angle():
    angle = np.linspace(-np.pi, np.pi, 721)
    flow = np.stack((np.cos(angle), np.sin(angle)))[:, None]
    colour = flow_to_color(flow)[0] / 255
    place = (np.arctan2(-flow[1, 0], -flow[0, 0]) / np.pi + 1) / 2 * 54
    wheel = np.vstack((color_wheel(), color_wheel()[:1]))
    wanted = np.stack([np.interp(place, np.arange(56), wheel[:, k]) for k in range(3)], axis=-1)
    assert np.abs(colour - wanted).max() < 0.01


def test_bad_input():
    with pytest.raises(ValueError, match="^second: "):
        dis_flow(textured(), textured(48, 96))
    with pytest.raises(ValueError, match="^first: "):
        dis_flow(textured(8, 16), textured(8, 16))
    with pytest.raises(ValueError, match="^flow: "):
        flow_to_color(np.full((2, 4, 4), np.nan))


def test_tensors_and_ranges_that_are_not_meant_are_named():
    frame = torch.zeros(32, 64, 3, dtype=torch.uint8)
    with pytest.raises(TypeError, match="first: a Tensor, wanted a numpy array"):
        sphere_flow(frame, frame)
    for bad in (255.0, float("nan")):
        with pytest.raises(ValueError, match=r"frames: values from .*, wanted \[0, 1\]"):
            flow_of(torch.full((2, 3, 32, 64), bad), cache=False)
    flow = torch.rand(2, 8, 16)
    assert (flow_to_color(flow) == flow_to_color(flow.numpy())).all()
