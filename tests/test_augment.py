"""A turned clip is the clip of a turned world: every field is compared with that world's own."""

import math

import pytest
import torch

from sal360.datasets.augment import Augment, mirror_item, roll_item, rotate_item
from sal360.datasets.flow_picture import flow_to_picture, picture_to_flow
from sal360.datasets.item import Item
from sal360.datasets.synthetic import render_clip
from sal360.datasets.synthetic.worlds import SyntheticWorlds
from sal360.projections import sample_erp
from sal360.sphere import (
    angle_between,
    erp_directions,
    erp_pixel,
    lonlat_to_xyz,
    pixel_area,
    rotation_matrix,
    xyz_to_lonlat,
)

H, W, T = 96, 192, 3
TILT = rotation_matrix(0.4, 0.9, -0.3)
SPIN = rotation_matrix(0.02, 0.03, 0.01)  # of the whole background, from frame to frame
# Start (lon, lat), axis it turns about (lon, lat), degrees per frame: over the seam, over the
# zenith, and one at rest.
THINGS = (((178, 3), (0, 90), 2.5), ((90, 84), (0, 0), 4.0), ((-60, -30), (0, 90), 0.0))
RADIUS = math.radians(14)


def about(axis, angle):
    to_axis = rotation_matrix(*(math.radians(a) for a in axis))
    return to_axis @ rotation_matrix(0.0, 0.0, angle) @ to_axis.T


def world(R=None, mirror=False):
    """A clip of a world of formulas, turned by ``R`` before it is seen: nothing interpolated."""
    R = torch.eye(3, dtype=torch.float64) if R is None else R
    M = torch.diag(torch.tensor([-1.0 if mirror else 1.0, 1, 1], dtype=torch.float64))
    A = M @ R  # from the world to what is seen
    rays = erp_directions(H, W) @ A
    draw = torch.Generator().manual_seed(1)
    waves = torch.randn(12, 3, generator=draw, dtype=torch.float64) * 6
    row, col = erp_pixel(erp_directions(H, W), H, W)
    fields = {name: [] for name in ("frames", "flow", "truth", "depth", "masks", "fixations")}
    still = torch.eye(3, dtype=torch.float64)
    for t in range(T):
        spun = torch.matrix_power(SPIN, t)
        base = torch.cos((rays @ spun) @ waves.T).mean(-1)
        frame = 0.5 + 0.4 * torch.stack((base, -base, base**2))
        ends = rays @ SPIN.T
        mask = torch.zeros(H, W, dtype=torch.int64)
        # A ground plane at 2 below the eye, a ceiling at 3 above it.
        depth = torch.where(rays[..., 1] > 0, 2.0, 3.0) / rays[..., 1].abs()
        centres = []
        for k, (start, axis, speed) in enumerate(THINGS, 1):
            step = about(axis, math.radians(speed)) if speed else still
            centre = torch.matrix_power(step, t) @ lonlat_to_xyz(
                *(torch.deg2rad(torch.tensor(float(a))) for a in start)
            )
            angle = angle_between(rays, centre)
            cover = ((RADIUS - angle) / (math.pi / H) + 0.5).clamp(0, 1)
            paint = torch.stack([0.5 + 0.5 * torch.cos(angle * 12 + c + k) for c in range(3)])
            frame = frame + cover * (paint - frame)
            inside = angle < RADIUS
            ends = torch.where(inside[..., None], rays @ step.T, ends)
            mask = torch.where(inside, k, mask)
            depth = torch.where(inside, 1.5, depth)
            centres.append(centre)
        centres = torch.stack(centres)
        to_row, to_col = erp_pixel(ends @ A.T, H, W)
        right = torch.remainder(to_col - col + W / 2, W) - W / 2
        blob = torch.exp((rays @ centres.T - 1) / math.radians(9) ** 2).sum(-1)
        fields["frames"].append(frame)
        fields["flow"].append(torch.stack((right, to_row - row)))
        fields["truth"].append((blob / (blob * pixel_area(H, W)[:, None]).sum())[None])
        fields["depth"].append(depth[None])
        fields["masks"].append(mask)
        fields["fixations"].append(torch.stack(xyz_to_lonlat(centres @ A.T), -1))
    stacked = {k: torch.stack(v) for k, v in fields.items() if k != "fixations"}
    return Item(
        dataset="formulas",
        video="one",
        indices=torch.arange(T),
        fps=8.0,
        fixations=tuple(fields["fixations"]),
        previous=stacked["truth"].flip(0).float(),
        masks=stacked.pop("masks"),
        flow_picture=drawn(stacked["flow"]),
        **{k: v.float() for k, v in stacked.items()},
    )


def drawn(flow):
    """A colour wheel's picture, arrows of 6 pixels and more in full colour."""
    length = flow.norm(dim=1, keepdim=True)
    return flow_to_picture((flow * (6 / length).clamp(max=1)).float())


@pytest.fixture(scope="module")
def item():
    return world()


def end_points(flow):
    """Where each pixel's arrow ends, ``(T, H, W, 3)``."""
    row, col = erp_pixel(erp_directions(H, W), H, W)
    u, v = flow.double().unbind(1)
    lon = ((col + u + 0.5) / W - 0.5) * 2 * math.pi
    return lonlat_to_xyz(lon, (0.5 - (row + v + 0.5) / H) * math.pi)


def off(a, b):
    """Degrees between the ends of two flows, ``(T, H, W)``."""
    return torch.rad2deg(angle_between(end_points(a), end_points(b)))


def away_from_edges(item, reach=2):
    """Pixels with one object within ``reach`` pixels, poles included by the way round them."""
    same = torch.ones(T, H, W, dtype=torch.bool)
    circle = rotation_matrix(*xyz_to_lonlat(erp_directions(H, W)))
    for k in range(8):
        step = torch.tensor([math.sin(k * math.pi / 4), math.cos(k * math.pi / 4), 0.0]).double()
        ray = circle @ (step * (reach * math.pi / H) + torch.tensor([0.0, 0, 1]).double())
        near = sample_erp(item.masks[:, None].float(), ray, "nearest")[:, 0]
        same &= near == item.masks
    return same


def check_flow(turned, truth):
    error, inside = off(turned.flow, truth.flow), away_from_edges(truth)
    assert inside.float().mean() > 0.75
    assert error[inside].max() < 0.002  # of 1.9 degrees per pixel
    assert error.mean() < 0.03


def mean_off(a, b):
    return float((a - b).abs().mean())


@pytest.mark.parametrize("R", [TILT, rotation_matrix(1.0), rotation_matrix(0.0, math.pi / 2)])
def test_turned_clip_is_the_clip_of_a_turned_world(item, R):
    turned, truth = rotate_item(item, R), world(R)
    check_flow(turned, truth)
    inside = away_from_edges(truth)
    assert mean_off(turned.frames, truth.frames) < 0.002
    assert mean_off(turned.truth, truth.truth) < 0.002 * float(truth.truth.max())
    assert mean_off(turned.previous, truth.previous) < 0.002 * float(truth.truth.max())
    assert (turned.masks == truth.masks).float().mean() > 0.99
    assert (turned.masks == truth.masks)[inside].all()
    near = inside & (truth.depth[:, 0] < 20)
    assert (turned.depth / truth.depth - 1)[:, 0][near].abs().max() < 0.002
    for ours, theirs in zip(turned.fixations, truth.fixations, strict=True):
        assert angle_between(lonlat_to_xyz(*ours.T), lonlat_to_xyz(*theirs.T)).max() < 1e-12


def test_mirrored_clip_is_the_clip_of_a_mirrored_world(item):
    turned, truth = mirror_item(item), world(mirror=True)
    assert mean_off(turned.frames, truth.frames) < 1e-6
    assert off(turned.flow, truth.flow).max() < 1e-4
    assert mean_off(turned.truth, truth.truth) < 1e-6
    assert (turned.masks == truth.masks).all()
    assert mean_off(turned.flow_picture, truth.flow_picture) < 0.004
    for ours, theirs in zip(turned.fixations, truth.fixations, strict=True):
        assert angle_between(lonlat_to_xyz(*ours.T), lonlat_to_xyz(*theirs.T)).max() < 1e-12


def test_rolled_clip_is_exactly_the_clip_of_a_turned_world(item):
    turned, truth = roll_item(item, 37), world(rotation_matrix(2 * math.pi * 37 / W))
    assert mean_off(turned.frames, truth.frames) < 1e-6
    assert off(turned.flow, truth.flow).max() < 1e-4
    assert (turned.masks == truth.masks).all()
    assert torch.equal(turned.flow_picture, item.flow_picture.roll(37, -1))
    for ours, theirs in zip(turned.fixations, truth.fixations, strict=True):
        assert ours[:, 0].abs().max() <= math.pi
        assert angle_between(lonlat_to_xyz(*ours.T), lonlat_to_xyz(*theirs.T)).max() < 1e-12


@pytest.mark.parametrize("R", [TILT, rotation_matrix(0.5, math.pi / 2)])
def test_pictures_of_flow_turn_as_flow_does(item, R):
    """The picture of the turned flow, and the turned picture: the same directions."""
    truth = world(R)
    ours = picture_to_flow(rotate_item(item, R).flow_picture)
    wanted = picture_to_flow(truth.flow_picture)
    inside = away_from_edges(truth, 3) & (wanted.norm(dim=1) > 0.1)
    inside[:, : H // 12] = inside[:, -H // 12 :] = False  # where 6 pixels are little
    cosine = torch.cosine_similarity(ours, wanted, dim=1)[inside]
    assert inside.float().mean() > 0.5
    assert cosine.median() > 0.999 and cosine.quantile(0.02) > 0.99
    still = wanted.norm(dim=1) < 0.01
    assert ours.norm(dim=1)[still & away_from_edges(truth)].amax() < 0.05


def test_colours_of_flow_can_be_read_back():
    angle = torch.linspace(-math.pi, math.pi, 120)[None].expand(50, -1)
    speed = torch.linspace(0, 1, 50)[:, None].expand(-1, 120)
    flow = torch.stack((speed * torch.cos(angle), speed * torch.sin(angle)))[None]
    back = picture_to_flow(flow_to_picture(7 * flow))
    assert (back - flow).norm(dim=1).max() < 0.015


def unlike_next(item):
    """How far frame t is from frame t + 1 read where the flow says, away from occlusions."""
    errors = []
    for t in range(T - 1):
        ends = end_points(item.flow)[t]
        read = sample_erp(item.frames[t + 1][None], ends)[0]
        there = sample_erp(item.masks[t + 1][None, None].float(), ends, "nearest")[0, 0]
        inside = away_from_edges(item)[t] & (there == item.masks[t])
        errors.append((read - item.frames[t]).abs().mean(0)[inside])
    return torch.cat(errors)


@pytest.mark.parametrize("turn", [TILT, rotation_matrix(0.0, math.pi / 2), None])
def test_warping_by_the_turned_flow_works_as_before(item, turn):
    before = unlike_next(item)
    after = unlike_next(mirror_item(item) if turn is None else rotate_item(item, turn))
    still = (item.frames[0] - item.frames[1]).abs().mean()
    assert before.mean() < 0.1 * still
    assert after.mean() < 1.5 * before.mean()
    assert after.quantile(0.999) < 2 * before.quantile(0.999)


def test_warping_works_on_the_embedded_clip_turned():
    clip = render_clip(3, H, W)
    flow = torch.cat((clip.flow, clip.flow[-1:]))
    item = Item("embedded", "clip", clip.frames, torch.arange(3), clip.fps, flow=flow)
    errors = []
    for one in (item, rotate_item(item, TILT)):
        read = sample_erp(one.frames[1][None], end_points(one.flow)[0])[0]
        errors.append((read - one.frames[0]).abs().mean(0))
    area = pixel_area(H, W)[:, None]
    before, after = ((e * area).sum() for e in errors)  # mostly at edges that hide something
    assert after < 1.25 * before and errors[1].median() < 1e-6


def test_there_and_back():
    item = world()
    twice = mirror_item(mirror_item(item))
    for name in ("frames", "flow", "truth", "previous", "depth", "masks"):
        assert torch.equal(getattr(twice, name), getattr(item, name)), name
    back = rotate_item(rotate_item(item, TILT), TILT.T)
    assert mean_off(back.frames, item.frames) < 0.01
    assert (back.masks == item.masks).float().mean() > 0.97
    assert off(back.flow, item.flow).median() < 0.01
    for a, b in zip(back.fixations, item.fixations, strict=True):
        assert angle_between(lonlat_to_xyz(*a.T), lonlat_to_xyz(*b.T)).max() < 1e-12
    assert roll_item(roll_item(item, 50), -50).frames.equal(item.frames)


def test_mass_is_kept_and_gaze_stays_on_its_object(item):
    area = pixel_area(H, W)[:, None]
    for seed in range(4):
        turned = Augment(tilt_deg=180, seed=seed)(item, 0, 0)
        assert torch.allclose((turned.truth * area).sum((-2, -1)), torch.ones(T, 1).double())
        for points, mask in zip(turned.fixations, turned.masks, strict=True):
            row, col = erp_pixel(lonlat_to_xyz(*points.T), H, W)
            seen = mask[row.round().long().clamp(0, H - 1), col.round().long() % W]
            assert seen.tolist() == [1, 2, 3]


def test_a_frame_without_truth_stays_without():
    clip = render_clip(2, 32, 64)
    truth = clip.truth[:, None].clone()
    truth[1] = float("nan")
    item = Item("x", "y", clip.frames, torch.arange(2), 8.0, truth=truth)
    for turned in (rotate_item(item, TILT), roll_item(item, 5), mirror_item(item)):
        assert turned.truth[0].isfinite().all() and turned.truth[1].isnan().all()
        assert turned.flow is turned.fixations is turned.masks is turned.depth is None


def test_infinite_depth_and_empty_gaze():
    depth = torch.full((1, 1, 32, 64), float("inf"))
    depth[..., 16:, :] = 2.0
    item = Item(
        "x", "y", torch.rand(1, 3, 32, 64), torch.arange(1), 8.0,
        depth=depth, fixations=(torch.zeros(0, 2).double(),),
    )  # fmt: skip
    turned = rotate_item(item, TILT)
    assert turned.fixations[0].shape == (0, 2)
    assert not turned.depth.isnan().any()
    finite = turned.depth.isfinite()
    assert 0.4 < finite.float().mean() < 0.6
    assert turned.depth[finite].min() >= 1.999 and turned.depth[finite].max() < 2.7


def test_draws_depend_on_seed_epoch_and_index_only(item):
    augment = Augment(tilt_deg=30, colour=0.2, seed=3)
    again = Augment(tilt_deg=30, colour=0.2, seed=3)
    assert again(item, 2, 7).frames.equal(augment(item, 2, 7).frames)
    draws = {
        (turn.mirror, turn.columns, *turn.colour)
        for turn in (augment.draw(e, i, W) for e in range(3) for i in range(20))
    }
    assert len(draws) == 60
    plain = Augment(tilt_deg=0, colour=0, seed=3)
    for index in range(20):  # what one choice draws does not change another
        a, b = augment.draw(0, index, W), plain.draw(0, index, W)
        assert (a.mirror, a.columns) == (b.mirror, b.columns)
        assert b.R is None and b.colour == (1, 1, 1)
        up = torch.tensor([0.0, -1, 0]).double()
        assert angle_between(a.R @ up, up) <= math.radians(30) + 1e-12
    mirrored = sum(augment.draw(0, i, W).mirror for i in range(400))
    assert 160 < mirrored < 240
    assert Augment(yaw=False, mirror=False)(item, 1, 1).frames.equal(item.frames)


def test_recoloured_frames_stay_pictures(item):
    turned = Augment(yaw=False, mirror=False, colour=0.5, seed=1)(item, 0, 3)
    assert turned.frames.min() >= 0 and turned.frames.max() <= 1
    assert not turned.frames.equal(item.frames) and turned.flow is item.flow


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda i: rotate_item(i, torch.eye(3) * 2), "R: determinant 8"),
        (lambda i: rotate_item(i, torch.eye(2)), r"R: shape \(2, 2\)"),
        (lambda i: rotate_item(i, torch.diag(torch.tensor([-1.0, 1, 1]))), "R: determinant -1"),
        (lambda i: Augment(tilt_deg=200), "tilt_deg: 200"),
        (lambda i: Augment(colour=1), "colour: 1"),
        (lambda i: Augment(seed=-1), "seed: -1"),
    ],
)
def test_refusals(item, call, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        call(item)


@pytest.mark.parametrize("video", [0, 1])
def test_synthetic_worlds_turned_are_as_exact_as_before(video):
    """Rendered worlds with camera motion: the flow still leads to the same colours."""
    worlds = SyntheticWorlds(videos=2, seconds=1, size=(H, W), observers=6)
    item = worlds.read(worlds.videos[video], 0, T)
    turned = rotate_item(item, TILT)
    area = pixel_area(H, W)[:, None]
    off_by = []
    for one in (item, turned, mirror_item(item), roll_item(item, 11)):
        errors = []
        for t in range(T - 1):
            ends = end_points(one.flow)[t]
            read = sample_erp(one.frames[t + 1][None], ends)[0]
            there = sample_erp(one.masks[t + 1][None, None].float(), ends, "nearest")[0, 0]
            weight = area * away_from_edges(one)[t] * (there == one.masks[t])
            errors.append(((read - one.frames[t]).abs().mean(0) * weight).sum() / weight.sum())
        off_by.append(float(sum(errors)) / len(errors))
    assert off_by[1] < 1.5 * off_by[0] and off_by[2:] == pytest.approx([off_by[0]] * 2, rel=0.01)
    mass = (turned.truth * area).sum((-2, -1))
    assert torch.allclose(mass, torch.ones_like(mass))
