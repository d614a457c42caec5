"""The flow of synthetic worlds is exact: closed forms, a slow reference, and warped frames."""

import math
from dataclasses import replace

import pytest
import torch

from sal360.datasets.synthetic.render import render_times
from sal360.datasets.synthetic.world import Camera, draw_world
from sal360.resampling import sample_erp
from sal360.sphere import erp_directions, erp_pixel, lonlat_to_xyz, rotation_matrix
from tests.test_worlds import ball, bare, on_stage

STEP = 1 / 8


def wrapped(columns, W):
    return torch.remainder(columns + W / 2, W) - W / 2


def moved_pixels(rays, goal, H, W):
    """Right and down from where rays meet the panorama to where their goals do."""
    row, col = erp_pixel(rays, H, W)
    new_row, new_col = erp_pixel(goal, H, W)
    return torch.stack((wrapped(new_col - col, W), new_row - row))


def test_a_turning_camera_in_closed_form():
    H, W, rate = 40, 90, 0.7
    world = on_stage()
    flow = render_times(replace(world, camera=Camera("pan", yaw_rate=rate)), [0.5], H, W, STEP).flow
    assert torch.allclose(flow[0, 0], torch.tensor(-rate * STEP * W / (2 * math.pi)), atol=1e-5)
    assert flow[0, 1].abs().max() < 1e-5


def test_a_nodding_and_rolling_camera_in_closed_form():
    H, W = 40, 90
    camera = Camera("eight", yaw_rate=0.2, pitch_swing=0.3, roll_swing=0.2, nod=3.0)
    world = replace(on_stage(), camera=camera)
    flow = render_times(world, [0.4], H, W, STEP).flow[0].double()
    angles = [
        (0.2 * t, 0.3 * math.sin(0.8 * w), 0.2 * math.sin(0.6 * w))
        for t in (0.4, 0.4 + STEP)
        for w in (2 * math.pi / 3.0 * t,)
    ]
    before, after = (rotation_matrix(*a) for a in angles)
    rays = erp_directions(H, W)
    wanted = moved_pixels(rays, rays @ before.T @ after, H, W)
    off = torch.stack((wrapped(flow[0] - wanted[0], W), flow[1] - wanted[1]))
    assert off.abs().max() < 1e-5


def test_a_camera_at_rest_sees_nothing_move_but_what_moves():
    mover = ball(shape="hexagon", solid=False, speed=0.5, distance=4.0)
    seen = render_times(on_stage(ball(start=(1.0, 0.0, 0.0)), mover), [1.0],
                        60, 120, STEP)  # fmt: skip
    moving = seen.masks[0] == 2
    assert moving.any() and seen.flow[0][:, ~moving].abs().max() < 1e-9
    # What faces the viewer turns with its own circle: all of a row moves by the same angle.
    level = seen.flow[0, 0, 30][moving[30]]
    assert torch.allclose(level, torch.tensor(-0.5 * STEP * 120 / (2 * math.pi)), atol=1e-5)


def reference(world, time, H, W, number):
    """The flow of one thing (or 0, the floor), ray by ray, from formulas written down again."""
    p = world.poses([time, time + STEP])
    rays = erp_directions(H, W).reshape(-1, 3)
    out = []
    for ray in rays:
        d = p.turn[0] @ ray
        if number == 0:
            point = p.camera[0] + d * (world.place.height - p.camera[0, 1]) / d[1]
            target = point
        else:
            thing = world.things[number - 1]
            centre, new = p.centres[0, number - 1], p.centres[1, number - 1]
            if thing.solid:
                o = p.camera[0] - centre
                half_b = o @ d
                root = half_b**2 - (o @ o - thing.size**2)
                local = o + d * (-half_b - root.clamp(min=0).sqrt())
                by = float(p.spin[1, number - 1] - p.spin[0, number - 1])
                target = new + rotation_matrix(by) @ local
            else:
                bases = []
                for k, c in ((0, centre), (1, new)):
                    ahead = c - p.camera[k]
                    ahead = ahead / ahead.norm()
                    up = torch.tensor(thing.upright).double()
                    up = up - (up @ ahead) * ahead
                    up = up / up.norm()
                    right = torch.linalg.cross(ahead, up)
                    a = p.spin[k, number - 1]
                    bases.append((a.cos() * right + a.sin() * up, a.cos() * up - a.sin() * right))
                ahead = centre - p.camera[0]
                hit = d * (ahead @ ahead) / (d @ ahead) - ahead
                (u, v), (u1, v1) = bases
                target = new + (hit @ u) * u1 + (hit @ v) * v1
        out.append(p.turn[1].T @ (target - p.camera[1]))
    return moved_pixels(rays, torch.stack(out), H, W).reshape(2, H, W)


CAMERA = Camera("eight", sine=(0.5, 0.1, 0.4), double=(0.1, 0.0, 0.2), period=5.0, yaw_rate=0.3,
                pitch_swing=0.1, roll_swing=0.1, nod=4.0)  # fmt: skip


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_against_a_slow_reference(number):
    """Floor, a spinning ball, a flat star that looms and turns, one that crosses the zenith."""
    H, W = 36, 72
    star = ball(shape="star", solid=False, start=(0.6, 0.0, 0.8), speed=0.4, nearness=2.0, spin=0.8,
                loom_phase=1.0, size=1.0)  # fmt: skip
    over = replace(star, start=(0.2, -0.97, 0.1), axis=(1.0, 0.0, 0.0), upright=(1.0, 0.0, 0.0))
    turner = ball(start=(0.0, 0.3, -0.95), spin=1.0, speed=-0.3, size=0.8)
    world = replace(on_stage(turner, star, over), camera=CAMERA)
    seen = render_times(world, [0.9], H, W, STEP)
    here = seen.masks[0] == number
    if number == 0:
        here &= seen.depth[0, 0].isfinite()
    assert here.sum() > 20
    off = seen.flow[0].double() - reference(world, 0.9, H, W, number)
    off[0] = wrapped(off[0], W)
    assert off[:, here].abs().max() < 2e-5


def warped(seen, H, W):
    """The second frame, read where the flow leads: the first again."""
    row, col = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    flow = seen.flow[0].double()
    lat = (0.5 - (row + flow[1] + 0.5) / H) * math.pi
    lon = ((col + flow[0] + 0.5) / W - 0.5) * 2 * math.pi
    return sample_erp(seen.frames[1:2], lonlat_to_xyz(lon, lat), "bicubic")[0]


def inner(masks, depth):
    """Pixels whose neighbours show the same thing, in steps of two pixels."""
    same = torch.ones_like(masks, dtype=torch.bool)
    rho = 1 / depth
    for shift in (1, 2):
        for axis in (0, 1):
            for sign in (-1, 1):
                same &= masks.roll(sign * shift, axis) == masks
                same &= (rho.roll(sign * shift, axis) - rho).abs() < 0.05
    return same


CASES = [
    ("train", 1, 2.0), ("train", 2, 2.0), ("train", 4, 2.0), ("val", 0, 2.0), ("val", 3, 4.0),
    ("test", 2, 2.0), ("test", 8, 2.0),
]  # fmt: skip


@pytest.mark.parametrize(("split", "seed", "time"), CASES)
def test_warping_by_the_flow_gives_the_frame(split, seed, time):
    """Turning and travelling cameras, all kinds of places, at 240 x 480, poles and seam included.

    What is left is interpolation: median error below 0.004 of full scale, 95 percent below 0.03,
    and a small part of what doing nothing leaves.
    """
    H, W = 240, 480
    world = draw_world(seed, split)
    still = tuple(replace(t, flicker=0.0) for t in world.things)
    world = bare(world, *still)
    seen = render_times(world, [time, time + STEP], H, W, STEP)
    # What is hidden or uncovered in the next frame is left out by comparing its mask.
    goal = warped(replace_frames(seen, seen.masks[:, None].float()), H, W)[0]
    kept = inner(seen.masks[0], seen.depth[0, 0]) & ((goal - seen.masks[0]).abs() < 0.01)
    error = (warped(seen, H, W) - seen.frames[0]).abs().amax(0)
    nothing = (seen.frames[1] - seen.frames[0]).abs().amax(0)
    assert kept.double().mean() > 0.8
    assert error[kept].median() < 0.004 and error[kept].quantile(0.95) < 0.03
    assert error[kept].mean() < 0.35 * nothing[kept].mean()
    seam, poles = torch.zeros_like(kept), torch.zeros_like(kept)
    seam[:, :4] = seam[:, -4:] = True
    poles[:4] = poles[-4:] = True
    for part in (seam & kept, poles & kept):
        # Few pixels: a sharp line through them is a large part of them.
        assert part.any() and error[part].median() < 0.01 and error[part].quantile(0.95) < 0.08


def replace_frames(seen, frames):
    return replace(seen, frames=frames)


def test_flow_agrees_with_the_state():
    """The pixel in the middle of a thing goes where the observers are told that it goes."""
    H, W = 180, 360
    world = on_stage(ball(start=(0.3, -0.2, -0.9), speed=0.6, distance=4.0,
                                             shape="star", solid=False))  # fmt: skip
    seen, state = render_times(world, [1.0], H, W, STEP), world.state([1.0, 1.0 + STEP])
    now, later = state.directions[:, 0]
    wanted = moved_pixels(now[None], later[None], H, W)[:, 0]
    row, col = (round(float(v)) for v in erp_pixel(now, H, W))
    assert torch.allclose(seen.flow[0, :, row, col % W].double(), wanted, atol=0.15)
