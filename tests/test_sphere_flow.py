"""Flow on the sphere against exact flow: turned textures, rendered worlds, a real film."""

import math
import sys
import types

import numpy as np
import pytest
import torch

from sal360.datasets.augment import rotate_item
from sal360.datasets.item import Item
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.flow import (
    FlatMethod,
    dis_flow,
    endpoint_error,
    farneback_flow,
    flow_directions,
    flow_to_color,
    frame_difference,
    planar_flow,
    reliable_flow,
    sphere_flow,
    tangent_flow,
)
from sal360.flow.angles import pixels_between
from sal360.flow.raft import default_method, raft_method
from sal360.flow.views import LAYOUTS, seats
from sal360.losses import warp_by_flow
from sal360.projections import downsample_erp, rotate_erp
from sal360.sphere import angle_between, bearing, erp_directions, pixel_area, rotation_matrix

H, W = 120, 240
TURN = rotation_matrix(0.03, 0.04, -0.02)


def texture(R=None, H=H, W=W, seed=0):
    """Waves in space, seen on the sphere: as fine at the poles as anywhere, turned exactly."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(3, 40))
    waves *= rng.uniform(8, 45, 40) / np.linalg.norm(waves, axis=0)
    phase = rng.uniform(0, 2 * math.pi, (3, 1, 1, 40))
    rays = erp_directions(H, W).numpy()
    if R is not None:
        rays = rays @ R.numpy()  # R^T applied to each: what is seen there came from there
    seen = np.cos(rays @ waves + phase).mean(-1) * 2.2
    return (np.clip(seen * 0.5 + 0.5, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def turned_flow(R, H=H, W=W):
    rays = erp_directions(H, W).numpy().reshape(-1, 3)
    return pixels_between(rays, rays @ R.numpy().T, H, W).reshape(2, H, W)


def latitude(H):
    return abs(0.5 - (np.arange(H) + 0.5) / H) * 180


def mean_error(flow, truth, rows=None, columns=slice(None)):
    """Degrees, by area."""
    error = endpoint_error(flow, truth).numpy()
    area = np.broadcast_to(pixel_area(*error.shape).numpy()[:, None], error.shape)
    rows = slice(None) if rows is None else rows
    return float(np.average(error[rows][:, columns], weights=area[rows][:, columns]))


def test_error_is_the_angle_between_where_flow_leads():
    still = np.zeros((2, 8, 16))
    along = still.copy()
    along[0] = 3  # three columns of 22.5 degrees
    found = endpoint_error(along, still)
    lat = torch.deg2rad(torch.tensor(latitude(8)))
    # The chord across a parallel: sin(a / 2) = cos(lat) sin(turn / 2).
    wanted = 2 * torch.asin(torch.cos(lat) * math.sin(math.radians(3 * 22.5) / 2))
    assert torch.allclose(found, torch.rad2deg(wanted)[:, None].expand(8, 16))
    down = still.copy()
    down[1] = -1.5
    assert torch.allclose(endpoint_error(down, still), torch.full((8, 16), 1.5 * 22.5).double())


def test_error_knows_the_seam_and_the_poles():
    flow, other = np.zeros((2, 8, 16)), np.zeros((2, 8, 16))
    flow[0], other[0] = 15, -1  # all the way round but one, or one back
    assert endpoint_error(flow, other).max() < 1e-6
    flow, other = np.zeros((2, 8, 16)), np.zeros((2, 8, 16))
    flow[1, 0] = -1  # over the pole: the row above the first is the first, half a turn away
    other[0, 0] = 8
    assert endpoint_error(flow, other).max() < 1e-6
    with pytest.raises(ValueError, match="^truth: "):
        endpoint_error(np.zeros((2, 4, 8)), np.zeros((2, 4, 9)))
    with pytest.raises(ValueError, match="^flow: "):
        endpoint_error(np.zeros((3, 4, 8)), np.zeros((3, 4, 8)))


def test_pixels_and_directions_are_inverse():
    rng = np.random.default_rng(3)
    rays = erp_directions(9, 22).numpy().reshape(-1, 3)
    goals = rays + 0.3 * rng.normal(size=rays.shape)
    flow = pixels_between(rays, goals, 9, 22).reshape(2, 9, 22)
    assert np.abs(flow[0]).max() <= 11
    assert float(angle_between(flow_directions(flow).reshape(-1, 3), goals).max()) < 1e-9
    assert not pixels_between(rays, rays, 9, 22).any()


def test_tangent_flow_has_the_length_of_the_angle_and_the_direction_of_the_way():
    rng = np.random.default_rng(0)
    flow = torch.from_numpy(rng.normal(size=(2, 2, 20, 40)) * 5)
    found = tangent_flow(flow)
    length = torch.linalg.vector_norm(found, dim=1) * (180 / 20)
    assert torch.allclose(length, endpoint_error(flow, torch.zeros_like(flow)))
    way = bearing(erp_directions(20, 40), flow_directions(flow))
    seen = torch.atan2(found[:, 0], -found[:, 1])
    assert torch.remainder(seen - way + math.pi, 2 * math.pi).sub(math.pi).abs().max() < 1e-9
    assert not tangent_flow(np.zeros((2, 4, 8))).any()
    small = torch.zeros(2, 21, 42)
    small[:, 10] = torch.tensor([0.01, -0.02])[:, None]
    assert (tangent_flow(small) - small).abs().max() < 1e-5


def test_beside_a_pole_columns_say_nothing_and_the_tangent_does():
    """A turn about an axis on the horizon moves all of a meridian by the same angle."""
    R = rotation_matrix(0.0, 0.05)  # a nod: forward goes up, over the zenith backward
    flow = turned_flow(R)
    assert np.abs(flow).max() > 100
    fair = tangent_flow(flow).numpy()
    assert np.hypot(*fair).max() < 0.05 * H / math.pi * 1.001
    ahead = fair[:, :, [W // 2 - 1, W // 2]]  # the nearest columns to the meridian of the nod
    assert np.abs(np.abs(ahead[1]) - 0.05 * H / math.pi).max() < 0.05
    # In colours: the fastest pixels by columns leave everything else white.
    assert flow_to_color(flow).mean() > 245 and flow_to_color(fair).mean() < 215


@pytest.mark.parametrize("size", [(48, 96), (33, 81), (64, 100)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_cover_the_sphere_and_know_where_they_look(layout, size):
    H, W = size
    total = np.zeros(H * W)
    for seat in seats(layout, H, W):
        rays = erp_directions(H, W).numpy().reshape(-1, 3)[seat.pixels]
        assert np.abs(seat.start - rays).max() < 1e-5  # float32 pixels, lifted again
        h, w = seat.view.shape
        assert seat.x.min() > 1 and seat.x.max() < w - 2
        assert seat.y.min() > 1 and seat.y.max() < h - 2
        total[seat.pixels] += seat.share[:, 0]
    assert np.abs(total - 1).max() < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_a_turn_about_any_axis(layout, method):
    """A turn of 3 degrees, pixels of 1.5: as good at the poles and at the seam as elsewhere.

    Measured: .05 to .12 degrees in every band, where the flat methods are off by 1.0 above 80.
    """
    flow = sphere_flow(texture(), texture(TURN), method, layout)
    truth, most = turned_flow(TURN), 0.15
    for rows in (latitude(H) < 30, latitude(H) > 60, latitude(H) > 80):
        assert mean_error(flow, truth, rows) < most
    assert mean_error(flow, truth, columns=[*range(-4, 4)]) < most


def test_planar_methods_fail_at_the_poles():
    """What the views are for."""
    truth, poles = turned_flow(TURN), latitude(H) > 75
    for planar, method in ((dis_flow, "dis"), (farneback_flow, "farneback")):
        frames = texture(), texture(TURN)
        flat = mean_error(planar(*frames), truth, poles)
        assert flat > 3 * mean_error(sphere_flow(*frames, method), truth, poles)


def test_turning_both_frames_turns_the_flow():
    """To .05 degrees (flat: .18): each is off its own truth by .06, pixels are 1.5 wide."""
    Q = rotation_matrix(0.7, 1.1, 0.4)
    off = {}
    for search in (sphere_flow, dis_flow):
        flow = torch.from_numpy(search(texture(), texture(TURN)))[None]
        item = Item("none", "none", torch.zeros(1, 3, H, W), torch.zeros(1).long(), 8.0, flow=flow)
        turned = rotate_item(item, Q).flow
        off[search] = mean_error(search(texture(Q), texture(Q @ TURN)), turned[0].numpy())
    assert off[sphere_flow] < 0.075 and off[dis_flow] > 2 * off[sphere_flow]


def worlds(size):
    """One pair of frames of eight worlds: cameras that rest, pan, glance, drift and travel."""
    for split in ("test", "val"):
        data = SyntheticWorlds(split, videos=4, seconds=4, size=size, observers=0)
        for video in data.videos:
            item = data.read(video, 12, 2)
            frames = (item.frames.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
            yield frames, item.flow[0].numpy()


def test_error_on_rendered_worlds():
    """Eight worlds at 120 x 240; :mod:`benchmarks.flow` has more of them and finer ones."""
    errors = {"zero": [], "flat": [], "sphere": []}
    poles = {"flat": [], "sphere": []}
    for (first, second), truth in worlds((120, 240)):
        found = {"flat": dis_flow(first, second), "sphere": sphere_flow(first, second)}
        errors["zero"].append(mean_error(np.zeros_like(truth), truth))
        for name, flow in found.items():
            errors[name].append(mean_error(flow, truth))
            poles[name].append(mean_error(flow, truth, latitude(120) > 75))
    mean = {name: np.mean(e) for name, e in errors.items()}
    # Measured .22 degrees on the sphere, .26 flat, .45 for no flow; beyond 75 degrees .36, .55.
    assert mean["sphere"] < 0.93 * mean["flat"] and mean["sphere"] < 0.6 * mean["zero"]
    assert np.mean(poles["sphere"]) < 0.8 * np.mean(poles["flat"])


@pytest.mark.parametrize("size", [(33, 81), (64, 100), (32, 32)])
def test_any_size(size):
    R = rotation_matrix(0.05, 0.02)
    frames = texture(None, *size), texture(R, *size)
    flow = sphere_flow(*frames)
    assert flow.shape == (2, *size) and flow.dtype == np.float32 and np.isfinite(flow).all()
    assert mean_error(flow, turned_flow(R, *size)) < mean_error(flow * 0, turned_flow(R, *size))


def test_still_frames_do_not_move():
    assert not sphere_flow(texture(), texture()).any()
    second = texture()
    second[50:60, 20:40] = 255 - second[50:60, 20:40]  # not equal, yet nothing moves far away
    far = sphere_flow(texture(), second)[:, :, 120:200]
    assert np.abs(far).max() < 0.05


def test_reliability_leaves_out_what_gets_hidden():
    """A disc 40 degrees wide crosses the pole by 7: sure are .93 of it, .44 of what it hides."""
    turn, rays = rotation_matrix(0.0, 0.12), erp_directions(H, W)
    centre = torch.tensor([0.0, -0.99, 0.14]).double()
    first, second = texture(), texture()
    now, then = (angle_between(rays, c).numpy() < 0.35 for c in (centre, turn @ centre))
    first[now], second[then] = texture(seed=1)[now], texture(turn, seed=1)[then]
    flow, sure = reliable_flow(first, second, tolerance_deg=1)
    assert (flow == sphere_flow(first, second)).all()
    hidden, inside = then & ~now, now & then
    far = ~(angle_between(rays, centre).numpy() < 0.7)
    assert sure[far].mean() > 0.99 and sure[inside].mean() > 0.8 and sure[hidden].mean() < 0.6
    flow, sure = reliable_flow(texture(), texture())
    assert not flow.any() and sure.all()
    with pytest.raises(ValueError, match="^tolerance_deg: "):
        reliable_flow(texture(), texture(), tolerance_deg=-1)


def test_a_method_of_ones_own():
    """Views and fusion alone: a flat method that always says one pixel to the right."""

    def right(first, second):
        assert first.shape == second.shape and first.ndim == 3
        return np.broadcast_to(np.float32([1, 0]), (*first.shape[:2], 2)).copy()

    method = FlatMethod("right", right, colour=True)
    first, second = texture(), texture(TURN)
    assert (planar_flow(first, second, method) == np.float32([1, 0])[:, None, None]).all()
    length = torch.linalg.vector_norm(
        flow_directions(sphere_flow(first, second, method)) - erp_directions(H, W), dim=-1
    )
    # Views disagree on where right is; none says more than one pixel of its own.
    assert float(length.max()) < 2 * math.pi / W * 1.01 and float(length.max()) > 0.01


class FakeRaft(torch.nn.Module):
    """Stands in for torchvision's network: its interface, and one pixel down for an answer."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Parameter(torch.zeros(()))

    def forward(self, first, second):
        assert first.shape == second.shape and first.shape[1] == 3 and not self.training
        assert min(first.shape[-2:]) >= 128 and not any(n % 8 for n in first.shape[-2:])
        assert first.dtype == torch.float32 and -1 <= first.min() < -0.2 and first.max() <= 1
        flow = torch.zeros_like(first[:, :2])
        return [flow, torch.cat((flow[:, :1], flow[:, 1:] + self.down), 1)]


@pytest.fixture
def torchvision(monkeypatch):
    zoo = types.ModuleType("torchvision.models.optical_flow")
    zoo.asked = []

    class Weights:
        DEFAULT = "Raft_Large_Weights.FAKE"

    def raft_large(*, weights, progress):
        zoo.asked.append(weights)
        network = FakeRaft()
        network.down.data.fill_(0.0 if weights is None else 1.0)
        return network

    zoo.Raft_Large_Weights, zoo.raft_large = Weights, raft_large
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, zoo.__name__, zoo)
    default_method.cache_clear()
    yield zoo
    default_method.cache_clear()


def test_raft_is_asked_as_torchvision_wants_it(torchvision, tmp_path):
    frames = texture(None, 60, 124), texture(TURN, 60, 124)
    assert (planar_flow(*frames, "raft") == np.float32([0, 1])[:, None, None]).all()
    flow = sphere_flow(*frames, "raft")
    assert flow.shape == (2, 60, 124) and np.isfinite(flow).all() and flow.any()
    assert torchvision.asked == ["Raft_Large_Weights.FAKE"]  # loaded once
    torch.save({"down": torch.tensor(2.0)}, tmp_path / "own.pth")
    own = raft_method(tmp_path / "own.pth")
    assert own.colour and own.name.startswith("raft-large ") and torchvision.asked[-1] is None
    assert (planar_flow(*frames, own)[1] == 2).all()
    with pytest.raises(ValueError, match="^size: "):
        raft_method(size="huge")
    with pytest.raises(FileNotFoundError):
        raft_method(tmp_path / "none.pth")


def test_without_torchvision_raft_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(ImportError, match="^method 'raft' needs torchvision .*use 'dis'"):
        sphere_flow(texture(), texture(TURN), "raft")


def test_bad_input():
    frame = texture()
    for flow in (sphere_flow, planar_flow):
        with pytest.raises(ValueError, match="^second: shape"):
            flow(frame, texture(None, 60, 120))
        with pytest.raises(ValueError, match="^first: 8 x 40 pixels, wanted at least"):
            flow(texture(None, 8, 40), texture(None, 8, 40))
        with pytest.raises(TypeError, match="^first: float64"):
            flow(frame / 255, frame)
        with pytest.raises(ValueError, match="^method: 'lk'"):
            flow(frame, frame, "lk")
    with pytest.raises(ValueError, match="^views: 'ring'"):
        sphere_flow(frame, frame, views="ring")


def test_frame_difference():
    first, second = torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 4, 8)
    second[0, 1, 2, 5] = 1
    found = frame_difference(first, second)
    assert found.shape == (2, 1, 4, 8) and found[0, 0, 2, 5] == torch.tensor(0.587)
    assert found.sum() == found.max()
    assert (frame_difference(second, first) == found).all()
    with pytest.raises(TypeError, match="^first: "):
        frame_difference(first.byte(), second)
    with pytest.raises(ValueError, match="^first: "):
        frame_difference(first[:1], second)
    with pytest.raises(ValueError, match="^second: "):
        frame_difference(first[:, :2], second[:, :2])


def read_film(real, size, start=0.0, seconds=0.1):
    from sal360.video import read_frames

    path = real("samples/congo_2048.mp4")
    cut = dict(fps=8, stereo="tb", size=size, start=start, seconds=seconds)
    return [frame.rgb for frame in read_frames(path, **cut)]


def test_a_real_frame_that_is_turned(real):
    """A forest at 240 x 480, drawn from twice its size: .04 degrees, and .13 beyond 75.

    The flat panorama has .12, and 1.06 beyond 75 degrees.
    """

    def shrunk(image):
        small = downsample_erp(image, 240, 480)[0].permute(1, 2, 0)
        return (small.clamp(0, 1).numpy() * 255).round().astype(np.uint8)

    large = torch.from_numpy(read_film(real, (480, 960))[0]).permute(2, 0, 1)[None].float() / 255
    frames = shrunk(large), shrunk(rotate_erp(large, TURN))
    truth, poles = turned_flow(TURN, 240, 480), latitude(240) > 75
    flow, flat = sphere_flow(*frames), dis_flow(*frames)
    assert mean_error(flow, truth) < min(0.07, 0.5 * mean_error(flat, truth))
    assert mean_error(flow, truth, poles) < min(0.2, 0.2 * mean_error(flat, truth, poles))
    assert mean_error(flow, truth, columns=[*range(-4, 4)]) < 0.06


def test_on_a_real_film(real):
    """Gorillas at 240 x 480, the camera at rest: what moves is found where the flow says.

    Grey values that change by more than .04 of full scale change by .097 on average; read where
    the flow leads, .055 is left. Across the seam neighbours differ as they do elsewhere.
    """
    first, second = read_film(real, (240, 480), 28 / 7.5, 0.2)[:2]
    flow = sphere_flow(first, second)
    now, then = (frame.mean(-1) / 255 for frame in (first, second))
    read = warp_by_flow(torch.from_numpy(then)[None, None], torch.from_numpy(flow)[None])[0, 0]
    changed = np.abs(then - now) > 0.04
    assert changed.sum() > 400
    left = np.abs(read.numpy() - now)[changed].mean()
    assert left < 0.65 * np.abs(then - now)[changed].mean()
    jump = np.abs(np.diff(flow, axis=-1, append=flow[:, :, :1]))[:, 60:180]
    assert jump[..., -1].mean() < 2 * jump[..., :-1].mean()
