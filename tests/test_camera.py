"""The camera's rotation in the flow: exact for turns, robust to things, blind to travel."""

import math
from dataclasses import replace

import pytest
import torch

from sal360.datasets.synthetic import draw_world, render_world
from sal360.datasets.synthetic.world import Camera
from sal360.losses import camera_rotation, without_rotation
from sal360.losses.warp import flow_speed
from sal360.sphere import erp_directions, erp_pixel, rotation_matrix

TURNS = [(0, 0, 0), (90, 0, 0), (3, -2, 1), (-170, 40, 25), (0, 0.01, 0)]


def flow_of(R, H=24, W=48):
    """By formula: where the rotation takes each pixel, the short way across the seam."""
    row, col = erp_pixel(erp_directions(H, W) @ R.T, H, W)
    right = torch.remainder(col - torch.arange(W) + W / 2, W) - W / 2
    return torch.stack((right, row - torch.arange(H)[:, None]))


def degrees(R):
    chord = torch.linalg.matrix_norm(R - torch.eye(3).to(R)) / math.sqrt(8)
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1.0)))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [(24, 48), (15, 31)])
def test_a_turn_of_any_angle_is_found_and_taken_off(turn, size):
    R = rotation_matrix(*map(math.radians, turn))
    flow = flow_of(R, *size)[None]
    found = camera_rotation(flow)
    assert degrees(found[0] @ R.T) < 1e-5
    assert torch.rad2deg(flow_speed(without_rotation(flow, found))).max() < 1e-4
    assert torch.allclose(found.mT @ found, torch.eye(3).double(), atol=1e-12)
    assert float(torch.det(found[0])) == pytest.approx(1)


def test_things_lose_their_say():
    """A fifth of the sphere that goes its own way spoils least squares, and no more."""
    R = rotation_matrix(*map(math.radians, (2, 1, 0)))
    flow = flow_of(R)
    other = flow_of(rotation_matrix(*map(math.radians, (-6, 3, 0))))
    thing = erp_directions(24, 48)[..., 2] > 0.6
    mixed = torch.where(thing, other, flow)[None]
    plain, robust = camera_rotation(mixed, 1)[0], camera_rotation(mixed, 20)[0]
    assert degrees(plain @ R.T) > 1 and degrees(robust @ R.T) < 0.05
    left = torch.rad2deg(flow_speed(without_rotation(mixed, robust[None])))[0, 0]
    assert left[~thing].max() < 0.06 and left[thing].min() > 0.5


def test_of_a_world_only_things_are_left():
    world = replace(draw_world(9, "train"), camera=Camera("pan", yaw_rate=math.radians(10)))
    seen = render_world(world, 3, 32, 64, 8.0, 1.0)
    R = camera_rotation(seen.flow)
    assert torch.allclose(degrees(R), torch.tensor(1.25).double(), atol=0.01)
    speed = torch.rad2deg(flow_speed(without_rotation(seen.flow, R)))[:, 0]
    assert speed[seen.masks == 0].max() < 0.01 < 0.1125 < speed[seen.masks > 0].max()


def test_no_rotation_explains_travel():
    world = replace(draw_world(9, "train"), camera=Camera("dolly", sine=(0.5, 0, 0.5), period=10))
    seen = render_world(world, 2, 32, 64, 8.0, 1.0)
    left = torch.rad2deg(flow_speed(without_rotation(seen.flow, camera_rotation(seen.flow))))
    assert (left[:, 0][seen.masks == 0] > 0.1125).double().mean() > 0.2


def test_clips_of_a_batch_do_not_touch():
    flows = torch.stack([flow_of(rotation_matrix(0.02 * k, 0.01, 0)) for k in range(3)])
    whole = camera_rotation(flows)
    for k in range(3):
        assert torch.allclose(whole[k], camera_rotation(flows[k : k + 1])[0], atol=1e-12)


def test_bad_input_is_refused():
    flow = torch.zeros(1, 2, 4, 8)
    for call, message in [
        (lambda: camera_rotation(flow[0]), "flow: shape"),
        (lambda: camera_rotation(flow, rounds=0), "rounds: 0"),
        (lambda: camera_rotation(flow * math.nan), "flow: holds NaN"),
        (lambda: without_rotation(flow, torch.eye(3)), "rotation: shape"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
