"""Synthetic worlds: drawn and rendered the same every time, without a seam, honest in depth."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from sal360.datasets.item import Item, VideoDataset
from sal360.datasets.synthetic import CARD, CONTENT, SPLITS, SyntheticWorlds
from sal360.datasets.synthetic.content import PALETTES
from sal360.datasets.synthetic.motion import background_depth
from sal360.datasets.synthetic.render import render_times, render_world
from sal360.datasets.synthetic.shapes import extent, outline
from sal360.datasets.synthetic.world import Camera, Thing, World, draw_world
from sal360.resampling import downsample_erp
from sal360.sphere import angle_between, erp_directions, pixel_area

SAMPLE = [(split, seed) for split in SPLITS for seed in (0, 1, 2)]


def bare(world: World, *things: Thing) -> World:
    """Only these things, steady light, no noise, no shadow."""
    return replace(
        world, things=things, noise=0.0, shadow=0.0, light=replace(world.light, swing=0.0)
    )


def on_stage(*things: Thing) -> World:
    """Only these things on a meadow, before a camera at rest that looks along z."""
    return replace(bare(draw_world(0, "train"), *things), camera=Camera("rest"))


def ball(**changes) -> Thing:
    plain = Thing(
        shape="ball", pattern="plain", behaviour="still", solid=True, attracts=True, size=0.5,
        stretch=1.0, first=(0.9, 0.1, 0.1), second=(0.9, 0.9, 0.1), repeats=2.0, contrast=0.5,
        start=(0.0, 0.0, 1.0), distance=3.0,
    )  # fmt: skip
    return replace(plain, **changes)


# --- the draw ---


def test_splits_share_no_content():
    for a, b in combinations(SPLITS, 2):
        assert CONTENT[a].keys() == CONTENT[b].keys()
        for aspect in CONTENT[a]:
            assert not set(CONTENT[a][aspect]) & set(CONTENT[b][aspect]), aspect
    colours = {s: {c for p in CONTENT[s]["palettes"] for c in PALETTES[p]} for s in SPLITS}
    assert all(not colours[a] & colours[b] for a, b in combinations(SPLITS, 2))
    every = {name for s in SPLITS for names in CONTENT[s].values() for name in names}
    assert all(name in CARD for name in every)


@pytest.mark.parametrize("split", SPLITS)
def test_a_world_is_made_of_its_splits_content_and_all_of_it_occurs(split):
    names, seen = CONTENT[split], {aspect: set() for aspect in CONTENT[split]}
    for seed in range(60):
        world = draw_world(seed, split)
        place, kinds = world.place, {t.shape: t for t in world.things}
        seen["places"].add(place.kind)
        seen["skies"].add(place.sky)
        seen["floors"].add(place.floor.kind)
        seen["walls"] |= {place.wall.kind, place.top.kind}
        seen["cameras"].add(world.camera.path)
        if place.kind in ("meadow", "plaza", "quay"):
            seen["skylines"].add(place.skyline)
        for t in kinds.values():
            if t.behaviour == "still":
                seen["scenery"].add(t.shape)
            elif t.behaviour == "distracts":
                seen["distractors"].add(t.shape)
            else:
                seen["shapes"].add(t.shape)
                seen["behaviours"].add(t.behaviour)
                seen["patterns"] |= {t.pattern} - {"plain"}
    del seen["palettes"]
    for aspect, found in seen.items():
        assert found == set(names[aspect]), aspect


def test_the_same_seed_is_the_same_world():
    worlds = [draw_world(seed, split) for split, seed in SAMPLE]
    assert worlds == [draw_world(seed, split) for split, seed in SAMPLE]
    assert len({w.things for w in worlds}) == len(worlds)
    for w in worlds:
        assert 5 <= len(w.things) <= 12
        assert {t.attracts for t in w.things} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((-1,), "seed"), ((0, "dev"), "split"), ((0, "val", 0.5), "seconds")],
)
def test_bad_draws(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        draw_world(*arguments)
    with pytest.raises(TypeError, match="^seed: "):
        draw_world(0.5)


# --- the picture ---


@pytest.mark.parametrize(("split", "seed"), SAMPLE[:5])
def test_a_frame_depends_on_its_time_alone_bit_for_bit(split, seed):
    world = draw_world(seed, split)
    whole = render_world(world, 4, 24, 48, 8.0, start=1.0)
    part = render_times(world, whole.times[2:], 24, 48, 1 / 8)
    for name in ("frames", "flow", "masks", "depth"):
        assert torch.equal(getattr(whole, name)[2:], getattr(part, name)), name


@pytest.mark.parametrize(("H", "W"), [(33, 51), (20, 64), (1, 1), (2, 5)])
def test_any_size(H, W):
    seen = render_world(draw_world(1, "test"), 2, H, W, 8.0)
    assert seen.frames.shape == (2, 3, H, W) and seen.frames.dtype == torch.float32
    assert seen.flow.shape == (2, 2, H, W) and seen.depth.shape == (2, 1, H, W)
    assert seen.masks.shape == (2, H, W) and seen.masks.dtype == torch.int64
    assert seen.frames.min() >= 0 and seen.frames.max() <= 1
    assert seen.flow.isfinite().all() and (seen.depth > 0).all()


@pytest.mark.parametrize(("split", "seed"), SAMPLE)
def test_turning_the_camera_by_whole_pixels_rolls_everything(split, seed):
    """So no column is special: what holds at the seam holds in the middle."""
    H, W, k = 48, 96, 37
    world = replace(draw_world(seed, split), noise=0.0)
    camera = replace(world.camera, pitch_swing=0.0, roll_swing=0.0)
    world = replace(world, camera=camera)
    turned = replace(camera, yaw=camera.yaw + k * 2 * math.pi / W)
    a = render_times(world, [1.0], H, W, 1 / 8)
    b = render_times(replace(world, camera=turned), [1.0], H, W, 1 / 8)
    same = b.masks == a.masks.roll(-k, -1)
    assert same.double().mean() > 0.999
    off = (b.frames - a.frames.roll(-k, -1)).abs()
    assert off.mean() < 1e-5 and off.flatten().quantile(0.999) < 1e-3
    flow = (b.flow - a.flow.roll(-k, -1)).abs().amax(1)
    assert flow[same].max() < 1e-4


def test_pole_rows_are_smooth():
    """Row 0 is one small circle: where no thing is, neighbours on it are all but equal."""
    for split, seed in SAMPLE:
        world = bare(draw_world(seed, split))
        frame = render_times(world, [0.5], 96, 192, 1 / 8).frames[0]
        for row in (0, -1):
            ring = frame[:, row]
            assert (ring - ring.roll(1, -1)).abs().max() < 0.03, (split, seed, row)
            assert (ring - frame[:, 1 if row == 0 else -2]).abs().max() < 0.25


@pytest.mark.parametrize(("split", "seed"), SAMPLE)
def test_twice_the_size_averaged_is_the_size(split, seed):
    """Nothing aliases: the mean over four pixels is the pixel to .015 of full scale on average.

    More than .10 off is less than .7 percent of the sphere: sharp edges."""
    world = replace(draw_world(seed, split), noise=0.0)
    small = render_times(world, [2.0], 64, 128, 1 / 8).frames
    large = render_times(world, [2.0], 128, 256, 1 / 8).frames
    off = (downsample_erp(large, 64) - small).abs().amax(1)
    area = pixel_area(64, 128)[:, None].float() / (4 * math.pi)
    assert (off * area).sum() < 0.015
    assert ((off > 0.10).float() * area).sum() < 0.007


def test_a_shape_lies_inside_the_circle_that_its_pixels_are_sought_in():
    line = torch.linspace(-4, 4, 401)
    x, y = torch.meshgrid(line, line, indexing="xy")
    seen = {t.shape: t for s in SPLITS for k in range(40) for t in draw_world(k, s).things}
    for name, thing in seen.items():
        if not thing.solid:
            inside = outline(name, x, y, thing.stretch) < thing.soft / 2
            reach = extent(name, thing.stretch) * (1 + thing.soft / 2)
            assert inside.any() and torch.hypot(x, y)[inside].max() < reach + 0.03, name


def test_noise_is_seeded_frame_by_frame_and_of_the_size_that_it_says():
    world = replace(bare(draw_world(0, "val")), noise=0.02)
    quiet = render_times(replace(world, noise=0.0), [0.0, 1.0], 40, 80, 1 / 8).frames
    a, b = (render_times(world, [0.0, 1.0], 40, 80, 1 / 8).frames - quiet for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a[0], a[1])
    inside = (quiet > 0.1) & (quiet < 0.9)
    assert abs(float(a[inside].std()) - 0.02) < 0.001
    other = render_times(replace(world, seed=7), [0.0], 40, 80, 1 / 8).frames - quiet[:1]
    assert not torch.equal(other, a[:1])


def test_light_changes_the_picture_and_nothing_else():
    world = on_stage()
    lit = replace(world, light=replace(world.light, swing=0.1, period=4.0, phase=0.0))
    a, b = (render_times(w, [1.0], 16, 32, 1 / 8) for w in (world, lit))
    assert torch.allclose((1.1 * a.frames).clamp(max=1), b.frames, atol=1e-6)
    assert torch.equal(a.flow, b.flow) and torch.equal(a.depth, b.depth)


# --- depth and masks ---


@pytest.mark.parametrize(("split", "seed"), SAMPLE)
def test_masks_agree_with_depth(split, seed):
    world = draw_world(seed, split)
    seen = render_times(world, [3.0], 96, 192, 1 / 8)
    empty = render_times(bare(world), [3.0], 96, 192, 1 / 8)
    state = world.state([3.0])
    mask, depth, wall = seen.masks[0], seen.depth[0, 0].double(), empty.depth[0, 0].double()
    assert torch.equal(seen.depth[0, 0][mask == 0], empty.depth[0, 0][mask == 0])
    for n, thing in enumerate(world.things):
        here = mask == n + 1
        if here.any():
            reach = thing.size * math.hypot(1, thing.stretch) * 1.05
            off = (depth[here] - state.distance[0, n]).abs()
            # A flat thing's plane is farther away at its edge, as seen from here.
            assert (off <= reach).all(), (thing.shape, float(off.max()))
            assert (depth[here] <= wall[here] * 1.05).all()


def test_the_depth_of_floor_walls_and_sky_is_where_rays_meet_planes():
    H, W = 45, 90
    for split, seed in SAMPLE:
        world = bare(draw_world(seed, split))
        depth = render_times(world, [0.7], H, W, 1 / 8).depth[0, 0].double()
        poses, place = world.poses([0.7]), world.place
        rays = erp_directions(H, W) @ poses.turn[0].T
        points = poses.camera[0] + depth[..., None] * rays
        sky = depth.isinf()
        assert bool(sky.any()) != place.ceiling
        x, y, z = points[~sky].unbind(-1)
        planes = [(y - place.height).abs(), (y + place.roof).abs()]
        planes += [(x.abs() - place.half[0]).abs(), (z.abs() - place.half[1]).abs()]
        # float32 keeps seven digits of a distance, and near the horizon that is far.
        assert (torch.stack(planes).amin(0) <= 1e-6 * depth[~sky] + 1e-6).all()
        assert (y <= place.height + 1e-4 * depth[~sky]).all()
        again = background_depth(place, poses.camera[0], rays)
        assert torch.allclose(again[~sky], depth[~sky], rtol=1e-6)


def test_a_ball_covers_the_solid_angle_that_it_should():
    """At the front, over the seam and at both poles alike."""
    H, W = 180, 360
    area = pixel_area(H, W)[:, None]
    for way in ((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (0.3, 0.9, 0.3)):
        world = on_stage(ball(start=way, distance=1.3, size=0.25))
        mask = render_times(world, [0.0], H, W, 1 / 8).masks[0]
        radius = math.asin(0.25 / (1.3 * math.sqrt(sum(v * v for v in way))))
        wanted = 2 * math.pi * (1 - math.cos(radius))
        assert abs(float(((mask == 1) * area).sum()) / wanted - 1) < 0.02, way


def test_the_nearer_thing_hides_the_farther_one():
    near, far = ball(distance=2.0, size=0.3), ball(distance=4.0, size=1.0, first=(0, 0, 1))
    for things, number in (((near, far), 1), ((far, near), 2)):
        world = on_stage(*things)
        seen = render_times(world, [0.0], 60, 120, 1 / 8)
        assert seen.masks[0, 30, 60] == number and {1, 2} <= set(seen.masks.unique().tolist())
        assert abs(float(seen.depth[0, 0, 30, 60]) - 1.7) < 0.01
    state = on_stage(near, far).state([0.0])
    assert state.visible[0, 0] == 1 and state.visible[0, 1] < 0.9
    behind = on_stage(replace(near, size=1.5), replace(far, size=0.5))
    assert behind.state([0.0]).visible[0, 1] == 0


# --- what the observers are told ---


def test_the_state_is_what_the_picture_shows():
    """A ball's pixels lie around the direction told, at every place."""
    H, W = 120, 240
    rays, area = erp_directions(H, W), pixel_area(H, W)[:, None, None]
    camera = Camera("pan", yaw_rate=0.3, sine=(0.4, 0.0, 0.3), period=9.0)
    thing = ball(start=(1.0, 0.0, 0.0), axis=(0.0, 0.6, 0.8), speed=0.5, distance=1.5, size=0.2)
    world = replace(on_stage(thing), camera=camera)
    times = torch.arange(12) * 0.7
    seen, state = render_times(world, times, H, W, 1 / 8), world.state(times)
    for t in range(12):
        if state.visible[t, 0] == 1:
            middle = ((seen.masks[t] == 1)[..., None] * rays * area).sum((0, 1))
            assert angle_between(middle, state.directions[t, 0]) < math.radians(0.5)


def test_rates_are_derivatives():
    world, h = draw_world(1, "test"), 1e-4
    times = torch.tensor([1.0, 4.3], dtype=torch.float64)
    now, later, earlier = (world.state(times + d) for d in (0.0, h, -h))
    moved = angle_between(later.directions, earlier.directions) / (2 * h)
    assert torch.allclose(now.speed, moved, atol=1e-4)
    grown = (later.radius - earlier.radius) / (2 * h) / now.radius
    assert torch.allclose(now.looming, grown, atol=1e-4)


def test_motion_is_told_apart_from_the_cameras():
    """Under a turning camera things at rest move as their background does; a mover does not."""
    still = ball(start=(0.0, 0.0, 1.0), distance=5.0)
    mover = ball(start=(1.0, 0.0, 0.0), speed=0.2, distance=5.0)
    world = on_stage(still, mover)
    turning = replace(world, camera=replace(world.camera, yaw_rate=0.3)).state([1.0])
    assert torch.allclose(turning.relative_speed, torch.tensor([[0.0, 0.2]]).double(), atol=1e-6)
    # Gravity's axis turns from z to x (0, 1, 0 is down): a positive speed about (0, -1, 0) goes
    # to the left, with the turning camera it adds up.
    assert torch.allclose(turning.speed, torch.tensor([[0.3, 0.5]]).double(), atol=1e-6)
    walking = replace(world, camera=replace(world.camera, travel=(0.5, 0.0, 0.0))).state([0.0])
    assert abs(float(walking.relative_speed[0, 0]) - 0.1) < 1e-6  # parallax before the sky


def test_things_appear_and_disappear():
    thing = ball(appears=1.0, disappears=3.0)
    world = on_stage(thing)
    times = torch.tensor([0.5, 0.99, 1.3, 2.0, 2.7, 3.1]).double()
    masks = render_times(world, times, 30, 60, 1 / 8).masks
    assert [bool((m == 1).any()) for m in masks] == [False, False, True, True, True, False]
    state = world.state(times)
    assert ((state.visible[:, 0] > 0.5) == (masks == 1).flatten(1).any(1)).all()
    assert float(state.onset) == 1 and state.last_onset[:, 0].tolist() == [-math.inf] * 2 + [1] * 4
    blinking = on_stage(ball(appears=0.5, blink=2.0))
    state = blinking.state([0.2, 1.0, 2.0, 3.0])
    assert state.visible[:, 0].tolist() == [0, 1, 0, 1]
    assert state.last_onset[:, 0].tolist() == [-math.inf, 0.5, 0.5, 2.5]


def test_down_and_front_follow_the_camera():
    world = draw_world(0, "val")  # its camera glances: yaw and pitch
    state = world.state(torch.arange(20) / 2)
    turn = world.poses(state.times).turn
    down = torch.tensor([0.0, 1.0, 0.0]).double()
    assert torch.allclose(torch.einsum("tij,tj->ti", turn, state.gravity), down.expand(20, 3))
    assert (state.heading * state.gravity).sum(-1).abs().max() < 1e-12
    front = torch.tensor([0.0, 0.0, 1.0]).double()
    assert angle_between(state.heading, front.expand(20, 3)).max() < math.radians(8)


# --- the data set ---


def test_a_data_set_like_any_other():
    data = SyntheticWorlds("val", videos=3, seconds=2.0, size=(16, 32), observers=6)
    assert isinstance(data, VideoDataset) and data.videos[1] == "val-0001"
    video = data.videos[1]
    assert data.length(video) == 16 and data.rate(video) == 8
    item = data.read(video, 4, 5)
    assert isinstance(item, Item) and len(item) == 5 and item.size == (16, 32)
    assert item.indices.tolist() == [4, 5, 6, 7, 8] and item.fps == 8
    assert item.truth.shape == (5, 1, 16, 32) and len(item.fixations) == 5
    mass = (item.truth[:, 0] * pixel_area(16, 32)[:, None]).sum((1, 2))
    assert torch.allclose(mass[mass.isfinite()], torch.tensor(1.0).double(), atol=1e-5)
    whole = data.read(video)
    for name in ("frames", "flow", "masks", "depth", "truth"):
        assert torch.equal(getattr(whole, name)[4:9], getattr(item, name)), name
    assert all(torch.equal(a, b) for a, b in zip(whole.fixations[4:9], item.fixations, strict=True))


def test_steps_and_sizes():
    data = SyntheticWorlds("train", videos=2, seconds=2.0, size=(16, 32), observers=0)
    whole, some = data.read("train-0001"), data.read("train-0001", 1, step=3)
    assert some.indices.tolist() == [1, 4, 7, 10, 13] and some.fps == pytest.approx(8 / 3)
    assert torch.equal(some.frames, whole.frames[some.indices])
    assert some.truth is None and some.fixations is None
    pan = data.read("train-0001", 0, 1).flow, data.read("train-0001", 0, 1, 3).flow
    sky = data.read("train-0001", 0, 1).depth[0, 0].isinf()
    assert torch.allclose(3 * pan[0][0][:, sky], pan[1][0][:, sky], atol=1e-4)
    assert data.read("train-0001", 0, 1, size=(9, 20)).size == (9, 20)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda d: SyntheticWorlds("dev"), "split"),
        (lambda d: SyntheticWorlds(videos=0), "videos"),
        (lambda d: SyntheticWorlds(fps=0.0), "fps"),
        (lambda d: d.read("val-0000"), "video"),
        (lambda d: d.read("train-0009"), "video"),
        (lambda d: d.read("train-0000", 80), "start"),
        (lambda d: d.read("train-0000", 79, 2), "length"),
        (lambda d: d.read("train-0000", 0, 1, 0), "step"),
        (lambda d: d.read("train-0000", 0, 1, 1, (4, 8, 3)), "size"),
        (lambda d: render_world(draw_world(0), 1, 0, 4, 8.0), "H"),
        (lambda d: render_world(draw_world(0), 1, 4, 4, math.inf), "fps"),
    ],
)
def test_bad_input(call, name):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: "):
        call(SyntheticWorlds(videos=1))
