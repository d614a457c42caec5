"""Data that fit neither memory nor disk, and shares of it: what is read, kept and let go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sal360.datasets.item import Item
from sal360.datasets.loader import ClipLoader, clip_loader
from sal360.datasets.store import FrameStore
from sal360.models.base import FrameModel
from sal360.training.fit import fit
from sal360.training.recipe import load_recipe

MB = 1 << 20


class Made:
    """Any number of videos, made when they are read: as large as one likes."""

    name = "made"

    def __init__(self, videos: int, frames: int, size: tuple[int, int] = (8, 16)) -> None:
        self.count, self.frames, self.size = videos, frames, size

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(f"v{k}" for k in range(self.count))

    def length(self, video: str) -> int:
        return self.frames

    def rate(self, video: str) -> float:
        return 8.0

    def read(self, video, start=0, length=None, step=1, size=None) -> Item:
        length = self.frames - start if length is None else length
        H, W = size or self.size
        index = torch.arange(start, start + length * step, step)
        level = (index[:, None, None, None] / self.frames).expand(-1, 3, H, W).contiguous()
        truth = torch.full((length, 1, H, W), 1 / (4 * np.pi))
        truth[:, :, : H // 2] *= 1.5
        truth[:, :, H // 2 :] *= 0.5
        return Item(self.name, video, level, index, 8.0, truth=truth)


class Kept(Made):
    """Videos whose frames go through a store, and how many frames were decoded."""

    def __init__(self, store: FrameStore, *sizes: int) -> None:
        super().__init__(*sizes)
        self.store, self.decoded = store, 0

    def read(self, video, start=0, length=None, step=1, size=None) -> Item:
        H, W = size or self.size

        def decode(first: int, last: int) -> list:
            self.decoded += last - first
            return [np.full((H, W, 3), k % 256, np.uint8) for k in range(first, last)]

        kept = self.store.frames(video, (self.frames, H, W, 3), decode)
        frames = decode(start, start + length) if kept is None else kept[start : start + length]
        assert int(frames[0][0, 0, 0]) == start % 256
        return super().read(video, start, length, step, size)


class Endless(Made):
    """The second video takes for ever to read."""

    def read(self, video, *rest, **named) -> Item:
        if video != "v0":
            time.sleep(600)
        return super().read(video, *rest, **named)


def clips_of(loader: ClipLoader) -> list[tuple[int, ...]]:
    return [batch.clips for batch in loader]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_shares_of_a_batch_are_the_batch(workers: int) -> None:
    def loader() -> ClipLoader:
        return clip_loader(Made(5, 12), 3, 4, workers=workers, seed=2)

    whole = clips_of(loader())
    shares = [clips_of(loader().share(rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    assert len(loader().share(1, 2)) == len(whole) == 5


def test_a_place_in_the_data_is_that_of_all_processes() -> None:
    def loader(rank: int, ranks: int) -> ClipLoader:
        return clip_loader(Made(4, 12), 3, 4, seed=2, mix=2).share(rank, ranks)

    first = loader(1, 2)
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    rest = []
    for rank in range(4):
        other = loader(rank, 4)
        other.load_state_dict(state)
        rest.append(clips_of(other))
    whole = clips_of(loader(0, 1))
    assert [sum(parts, ()) for parts in zip(*rest, strict=True)] == whole[1:]
    with pytest.raises(ValueError, match="state: of a loader with other clips"):
        clip_loader(Made(4, 12), 3, 4, seed=2).load_state_dict(state)


def test_what_cannot_be_shared_is_refused() -> None:
    loader = clip_loader(Made(3, 9), 3, 4)
    with pytest.raises(ValueError, match="batch: 1 clips, wanted a multiple of 2, .*drop_last"):
        loader.share(0, 2)
    with pytest.raises(ValueError, match="batch: 4 clips, wanted a multiple of 3, the processes$"):
        loader.share(0, 3)
    with pytest.raises(ValueError, match="rank: 2, wanted a whole number from 0 to 1"):
        loader.share(2, 2)
    skipping = clip_loader(Made(4, 6), 3, 4, on_error="skip")
    with pytest.raises(ValueError, match="agree: None"):
        skipping.share(0, 2)
    with pytest.raises(ValueError, match="mix: 2 without shuffle"):
        clip_loader(Made(4, 6), 3, shuffle=False, mix=2)


def test_a_share_that_cannot_be_read_is_left_out_by_all() -> None:
    class Broken(Made):
        def read(self, video, start=0, *rest, **named) -> Item:
            if video == "v1":
                raise ValueError("v1: broken")
            return super().read(video, start, *rest, **named)

    asked: list[list[bool]] = []
    found = []
    for rank in range(2):
        asked.append([])

        def agree(missing: bool, mine: list[bool] = asked[-1]) -> bool:
            mine.append(missing)
            return len(mine) == 1  # the first batch: one process has nothing of it

        loader = clip_loader(Broken(4, 6), 3, 4, shuffle=False, on_error="skip")
        with warnings.catch_warnings(record=True):  # rank 1 tells what it left out
            found.append(clips_of(loader.share(rank, 2, agree)))
        assert len(loader.skipped) == (2 if rank else 0)
    # Clips 2 and 3 are of the broken video: the share of rank 1 in the first batch.
    assert asked == [[False, False], [True, False]]
    assert found == [[(4, 5)], [(6, 7)]]


def test_nobody_waits_for_a_worker_in_a_long_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # Workers do not hear SIGTERM, by which torch ends them.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    batches = iter(clip_loader(Endless(2, 6), 6, workers=1, shuffle=False))
    next(batches)
    (worker,) = multiprocessing.active_children()
    batches.close()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("mix", [1, 3, 100])
def test_mixed_are_so_many_videos_at_a_time_and_every_clip_is_seen(mix: int) -> None:
    loader = clip_loader(Made(7, 12), 3, 2, seed=5, mix=mix)
    epochs = [list(chain(*loader.batches(epoch))) for epoch in range(2)]
    for order in epochs:
        assert sorted(order) == list(range(28))
        videos = [loader.windows[clip].video for clip in order]
        for first in range(0, 28, 4 * mix):
            assert len(set(videos[first : first + 4 * mix])) == min(mix, 7 - first // 4)
    assert epochs[0] != epochs[1]
    assert epochs[0] == list(chain(*clip_loader(Made(7, 12), 3, 2, seed=5, mix=mix).batches(0)))
    if mix == 3:  # within a group clips of different videos meet
        videos = [loader.windows[clip].video for clip in epochs[0][:12]]
        assert videos != sorted(videos, key=videos.index)


def test_with_mix_each_film_is_decoded_once_by_a_store_of_few(tmp_path: Path) -> None:
    films, frames, size = 8, 40, 8 * 16 * 3
    decoded = {}
    for mix in (None, 2):
        store = FrameStore(limit_gb=2.5 * frames * size / 1e9, folder=tmp_path / str(mix))
        data = Kept(store, films, frames)
        most = 0
        for _ in clip_loader(data, 5, 2, seed=1, mix=mix):
            most = max(most, sum(p.stat().st_size for p in store.folder.iterdir()))
        assert most <= store.limit_gb * 1e9
        decoded[mix] = data.decoded / (films * frames)
    assert decoded[2] == 1.0
    assert decoded[None] > 4


def test_what_a_killed_process_left_in_the_store_is_cleared(tmp_path: Path) -> None:
    store = FrameStore(limit_gb=1e-3, folder=tmp_path)
    old, new = tmp_path / "a.1.tmp", tmp_path / "b.2.tmp"
    for path in (old, new):
        path.write_bytes(bytes(1000))
    os.utime(old, (time.time() - 7200,) * 2)
    frame = np.zeros((4, 8, 3), np.uint8)
    made = store.frames("film", (2, 4, 8, 3), lambda first, last: [frame] * (last - first))
    assert made is not None and not old.exists() and new.exists()


class Level(FrameModel):
    """The smallest network there is: it answers a pixel from that pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 1, 1)

    def forward(self, image: Tensor, extra: Tensor) -> Tensor:
        return self.mix(torch.cat((image, extra), 1))


def resident() -> int:
    """Bytes of this process in memory that it cannot give back: files it has mapped not counted."""
    pages = [int(n) for n in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_an_epoch_of_more_than_memory_and_disk_leaves_memory_flat(tmp_path: Path) -> None:
    frames, clip, videos = 500, 50, 32
    settings = {"clip_length": clip, "steps": videos * frames // clip, "size": [32, 64]}
    recipe = load_recipe("spherical-unet", "fast", settings | {"teacher_forcing": [1.0, 1.0]})
    H, W = recipe.size
    store = FrameStore(limit_gb=1.2 * frames * H * W * 3 / 1e9, folder=tmp_path)
    data = Kept(store, videos, frames, (H, W))
    loader = clip_loader(data, clip, 1, size=recipe.size, mix=1)
    seen, early = 0, 0
    for step in fit(Level(), loader, recipe):
        seen += clip * H * W * 4 * 4
        if step.index == 20:
            early = resident()
    grown = resident() - early
    assert seen > 450 * MB > 15 * grown, f"{grown / MB:.1f} MB"
    assert data.decoded == videos * frames > 25 * store.limit_gb * 1e9 / (H * W * 3)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= store.limit_gb * 1e9
