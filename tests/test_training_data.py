"""Data sets by a word: what is opened, what it says of itself, and what is refused."""

from dataclasses import fields

import pytest
import torch

from sal360.datasets.item import VideoDataset
from sal360.datasets.layouts.make import make
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.training.data import FPS, USUAL, Paced, Remembered, is_packed, open_data
from sal360.training.recipe import SCALES


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return make("wild360", tmp_path_factory.mktemp("data") / "wild", videos=3, seconds=1.0,
                size=(16, 32))  # fmt: skip


def same(a, b):
    for field in fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one.nan_to_num(), other.nan_to_num()), field.name
        elif field.name == "fixations" and one is not None:
            assert all(map(torch.equal, one, other))
        else:
            assert one == other, field.name


@pytest.mark.parametrize(
    ("spec", "whole", "videos", "frames"),
    [
        ("worlds", "worlds:train:64:10", 64, 80),
        ("worlds:val", "worlds:val:64:10", 64, 80),
        ("worlds:train:5", "worlds:train:5:10", 5, 80),
        ("worlds:validation:3:1.5", "worlds:val:3:1.5", 3, 12),
        ("worlds:test:2:2@4", "worlds:test:2:2@4", 2, 8),
        ("worlds::2:2@8", "worlds:train:2:2", 2, 16),
    ],
)
def test_worlds(spec, whole, videos, frames):
    data = open_data(spec, size=(16, 32))
    assert data.spec == whole and len(data.videos) == videos
    assert data.length(data.videos[0]) == frames and data.size == (16, 32)
    again = open_data(whole, size=(16, 32))
    assert again.spec == whole and again.videos == data.videos
    assert isinstance(data, VideoDataset)


def test_the_split_and_the_rate_of_the_argument_count_more():
    data = open_data("worlds:train:2:2@4", split="test", fps=2)
    assert data.spec == "worlds:test:2:2@2" and data.videos[0] == "test-0000"


def test_a_folder_is_recognised_and_says_its_split(stored):
    whole, test = open_data(str(stored)), open_data(f"{stored}:test")
    assert whole.spec == str(stored) and test.spec == f"{stored}:test"
    assert set(test.videos) < set(whole.videos) and test.split == "test"
    named = open_data(f"wild360={stored}", split="test")
    assert named.spec == f"wild360={stored}:test" and named.videos == test.videos
    assert open_data(named.spec).videos == test.videos


def test_another_rate_takes_one_frame_in_so_many(stored):
    data = open_data(f"{stored}@4")
    inside = data.dataset
    assert isinstance(data, Paced) and isinstance(data, VideoDataset)
    assert data.spec == f"{stored}@4" and inside.rate(data.videos[0]) == 8
    video = data.videos[0]
    assert data.rate(video) == 4 and data.length(video) == 4
    same(data.read(video, 1, 2), inside.read(video, 2, 2, 2))
    same(data.read(video, 1), inside.read(video, 2, 3, 2))
    assert list(data.numbers(video)) == list(inside.numbers(video))[::2]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("wrlds", "data: 'wrlds', wanted .packed=.worlds"),
        ("", "data: '', wanted .packed=.worlds"),
        ("worlds:train:2:2:2", "data: .* wanted .packed=.worlds"),
        ("worlds:valid", "split 'valid', wanted one of train, val, test"),
        ("worlds:train:0", "'0' videos, wanted a whole number of at least 1"),
        ("worlds:train:x", "'x' videos"),
        ("worlds:train:2:-1", "'-1' seconds, wanted a positive number"),
        ("worlds@0", "0 frames per second, wanted a positive number"),
        ("avtrack360:test", "split 'test', but avtrack360 has none"),
        ("nowhere/at/all", "nowhere/at/all: no such folder"),
    ],
)
def test_refusals_are_one_line(spec, told):
    with pytest.raises((ValueError, OSError), match=told) as caught:
        open_data(spec)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="looks like none of the layouts"):
        open_data(str(tmp_path))


def test_what_is_remembered_is_what_was_read_and_no_more_than_the_limit():
    data = open_data("worlds:train:2:1", size=(16, 32))
    kept = Remembered(data, limit_mb=0.2)
    assert (kept.spec, kept.videos, kept.length("train-0000")) == (data.spec, data.videos, 8)
    first = kept.read("train-0000", 0, 4, 1, (16, 32))
    same(first, data.read("train-0000", 0, 4, 1, (16, 32)))
    assert kept.read("train-0000", 0, 4, 1, (16, 32)) is first
    for _ in range(2):
        for start in range(5):
            kept.read("train-0001", start, 4, 1, (16, 32))
    assert 0 < kept._bytes <= 0.2e6
    assert kept._bytes == sum(held for _, held in kept._items.values())
    assert kept.read("train-0000", 0, 4, 1, (16, 32)) is not first  # it made room


def test_packed_worlds_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SAL360_CACHE", str(tmp_path))
    spec = "packed=worlds:val:2:1"
    assert not is_packed(spec, (16, 32)) and is_packed("worlds:val:2:1", (16, 32))
    data = open_data(spec, size=(16, 32))
    assert data.spec == spec and data.split == "val" and is_packed(spec, (16, 32))
    drawn = open_data("worlds:val:2:1", size=(16, 32)).read("val-0001", 2, 3)
    item = data.read("val-0001", 2, 3)
    assert float((item.frames - drawn.frames).abs().max()) <= 0.5 / 255 + 1e-6
    assert item.flow_picture is not None
    monkeypatch.setattr(SyntheticWorlds, "read", None)  # nothing is drawn again
    assert torch.equal(open_data(spec, size=(16, 32)).read("val-0001", 2, 3).frames, item.frames)
    with pytest.raises(ValueError, match="only worlds can be packed"):
        open_data("packed=avtrack360")


def test_every_scale_has_its_data():
    assert set(USUAL) == set(SCALES)
    for train, validation in USUAL.values():
        train, validation = train.removeprefix("packed="), validation.removeprefix("packed=")
        data, other = open_data(train), open_data(validation)
        assert data.spec == train and other.spec == validation
        assert data.split == "train" and other.split == "val" and data.fps == FPS
