"""Flow on the disk: how exact, how small, and a cache that never tells something else."""

import os
import warnings

import numpy as np
import pytest
import torch

from sal360.datasets.synthetic import SyntheticWorlds
from sal360.flow import (
    FlatMethod,
    FlowStore,
    dis_flow,
    endpoint_error,
    flow_of,
    load_flow,
    save_flow,
    sphere_flow,
)


@pytest.fixture(scope="module")
def item():
    return SyntheticWorlds("val", videos=2, size=(120, 240), observers=0).read("val-0001", 4, 3)


def pictures(item):
    return (item.frames.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)


@pytest.fixture
def store(tmp_path):
    return FlowStore(folder=tmp_path / "flow")


class Counting:
    """A method that says how often it was asked."""

    def __init__(self, name="count"):
        self.asked = 0
        self.method = FlatMethod(name, self.estimate)

    def estimate(self, first, second):
        self.asked += 1
        return np.full((*first.shape, 2), 0.3, np.float32)


def test_round_trip_is_exact_to_half_a_step(item, tmp_path):
    flow = item.flow
    path = save_flow(tmp_path / "clip.npz", flow)
    back = load_flow(path)
    assert back.shape == flow.shape and back.dtype == torch.float32
    assert (back - flow).abs().max() <= 1 / 128 + 1e-6
    assert endpoint_error(back, flow).max() < 1.5 / 128 * 2**0.5 + 1e-6  # pixels of 1.5 degrees
    assert torch.equal(load_flow(save_flow(path, back)), back)
    # 230 kB a frame as float32; this world's takes 14.
    assert path.stat().st_size < 0.15 * flow.numel() * 4
    assert list(tmp_path.iterdir()) == [path]


def test_large_flow_takes_coarser_steps(tmp_path):
    flow = torch.zeros(2, 8, 16)
    flow[0, 3], flow[1, 4] = 3000.0, -700.0
    back = load_flow(save_flow(tmp_path / "far.npz", flow))[0]
    assert (back - flow).abs().max() <= 1 / 20 and back[0, 3, 5] == 3000


def test_files_that_are_not_flow(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz"):
        load_flow(tmp_path / "none.npz")
    path = save_flow(tmp_path / "a.npz", torch.rand(1, 2, 8, 16))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="a.npz"):
        load_flow(path)
    np.savez(path, low=np.zeros((1, 2, 4, 4)))
    with pytest.raises(ValueError, match="a.npz: holds"):
        load_flow(path)
    byte = np.zeros((1, 2, 4, 4), np.uint8)
    np.savez(path, low=byte, high=byte[:, :1], step=1.0)
    with pytest.raises(ValueError, match="a.npz: shapes"):
        load_flow(path)
    np.savez(path, low=byte, high=byte, step=np.nan)
    with pytest.raises(ValueError, match="a.npz: step nan"):
        load_flow(path)
    with pytest.raises(ValueError, match="a.npz"):
        load_flow(save_flow(path, torch.rand(1, 2, 64, 64)), max_bytes=1000)
    for bad in (torch.zeros(3, 8, 16), torch.full((2, 8, 16), torch.nan)):
        with pytest.raises(ValueError, match="^flow: "):
            save_flow(path, bad)


def test_flow_of_a_clip(item, store):
    frames = pictures(item)
    flow = flow_of(item.frames, cache=False)
    assert flow.shape == item.flow.shape and flow.dtype == torch.float32
    assert np.array_equal(flow[1], sphere_flow(frames[1], frames[2]))
    assert torch.equal(flow[2], flow[1])  # nothing is known of the frame that would follow
    assert torch.equal(flow_of(torch.from_numpy(frames), cache=False), flow)
    flat = flow_of(frames, views=None, cache=False)
    assert np.array_equal(flat[0], dis_flow(frames[0], frames[1]))
    assert not flow_of(frames[:1], cache=False).any()
    kept = flow_of(frames, cache=store)
    assert endpoint_error(kept, flow).max() < 0.02
    assert torch.equal(flow_of(frames, cache=store), kept)


def test_cache_asks_once_for_what_is_the_same(item, store):
    frames, count = pictures(item), Counting()
    first = flow_of(frames, count.method, None, store)
    assert count.asked == 2
    assert torch.equal(flow_of(frames, count.method, None, store), first) and count.asked == 2
    flow_of(frames[1:], count.method, None, FlowStore(folder=store.folder))
    assert count.asked == 2  # the same pair, in another clip, another process
    flow_of(frames, count.method, "cube", store)
    assert count.asked == 2 + 2 * 6
    other = Counting("other")
    flow_of(frames, other.method, None, store)
    assert other.asked == 2
    frames[1, 0, 0, 0] ^= 1  # one bit of one pixel: both pairs are others
    flow_of(frames, count.method, None, store)
    assert count.asked == 2 + 2 * 6 + 2


def test_damage_is_made_good(item, store):
    frames, count = pictures(item)[:2], Counting()
    flow = flow_of(frames, count.method, None, store)
    (path,) = store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    assert torch.equal(flow_of(frames, count.method, None, store), flow) and count.asked == 2
    assert torch.equal(flow_of(frames, count.method, None, store), flow) and count.asked == 2


def test_oldest_make_room(item, tmp_path):
    frames, count = pictures(item), Counting()
    pairs = [frames[[a, b]] for a, b in ((0, 1), (1, 2), (0, 2), (2, 1))]
    store = FlowStore(folder=tmp_path)
    flow_of(pairs[0], count.method, None, store)
    size = next(tmp_path.iterdir()).stat().st_size
    store.limit_gb = 3.5 * size / 1e9
    for k, pair in enumerate(pairs[1:3]):
        flow_of(pair, count.method, None, store)
        for path in tmp_path.iterdir():  # clocks of disks are coarse
            os.utime(path, ns=(k * 10**9, k * 10**9)) if k == 0 else None
    flow_of(pairs[0], count.method, None, store)  # read: now the one of pairs[1] is the oldest
    flow_of(pairs[3], count.method, None, store)
    assert len(list(tmp_path.iterdir())) == 3 and count.asked == 4
    flow_of(pairs[0], count.method, None, store)
    assert count.asked == 4
    flow_of(pairs[1], count.method, None, store)
    assert count.asked == 5


def test_a_folder_that_cannot_be_written(item, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store, frames = FlowStore(folder=tmp_path / "file" / "flow"), pictures(item)[:2]
    kept = flow_of(frames, cache=FlowStore(folder=tmp_path / "good"))
    with pytest.warns(UserWarning, match="sought again"):
        found = flow_of(frames, cache=store)
    assert torch.equal(found, kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        flow_of(frames, cache=store)


def test_cache_lies_in_the_cache_folder(item, tmp_path, monkeypatch):
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path))
    count = Counting()
    flow_of(pictures(item)[:2], count.method)
    flow_of(pictures(item)[:2], count.method)
    assert count.asked == 3 and len(list((tmp_path / "flow").glob("*.npz"))) == 1


def test_bad_clips():
    with pytest.raises(ValueError, match="^frames: "):
        flow_of(np.zeros((2, 3, 32, 64), np.uint8), cache=False)
    with pytest.raises(ValueError, match="^frames: "):
        flow_of(np.zeros((3, 32, 64), np.float32), cache=False)
    with pytest.raises(ValueError, match="^views: "):
        flow_of(np.zeros((2, 3, 32, 64), np.float32), views="ring", cache=False)
