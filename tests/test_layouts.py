"""The readers of published layouts, against files on disk and against the published rules."""

import math
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360.datasets.item import Item, VideoDataset
from sal360.datasets.layouts import (
    LAYOUTS,
    Salient360,
    Sphere360,
    VREyeTracking,
    Wild360,
    open_dataset,
    published,
    published_channels,
)
from sal360.datasets.layouts import make as making
from sal360.datasets.layouts.base import lonlat_to_unit_square, unit_square_to_lonlat
from sal360.datasets.layouts.make import make
from sal360.datasets.layouts.report import Inspector
from sal360.datasets.layouts.scanpaths import read_scanpaths
from sal360.datasets.layouts.sphere360 import split_positions
from sal360.datasets.layouts.verify import verify
from sal360.datasets.layouts.vr_eyetracking import SIZE as PUBLISHED_SIZE
from sal360.datasets.layouts.vr_eyetracking import sampling_step
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.gaze import fixations_to_density
from sal360.images import read_image
from sal360.sphere import erp_directions, pixel_area
from tests.layout_sets import FRAMES, NAMES, SIZE, VIDEOS, copied, fingerprint, made, render


def mass(maps):
    return (maps.double() * pixel_area(*maps.shape[-2:])[:, None]).sum((-1, -2))


# --- what holds for all --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", NAMES)
def test_every_layout_is_made_recognised_verified_and_read_as_one_item(layout):
    root = made(layout)
    report = verify(root)
    assert report.usable and report.layout == layout and report.videos == VIDEOS
    assert {f.kind for f in report.findings} <= {"note"}
    data = open_dataset(root)
    assert isinstance(data, VideoDataset) and data.name == layout
    assert data.recognised.startswith(f"{layout}: ")
    assert len(data.videos) == VIDEOS
    for video in data.videos:
        assert data.length(video) == FRAMES
        item = data.read(video)
        assert isinstance(item, Item) and (item.dataset, item.video) == (layout, video)
        assert item.frames.shape == (FRAMES, 3, *SIZE) and item.frames.dtype == torch.float32
        assert item.frames.min() >= 0 and item.frames.max() <= 1
        assert item.indices.dtype == torch.int64 and len(item.indices) == FRAMES
        assert item.fps == data.rate(video)
        for maps in (item.truth, item.previous):
            if maps is not None:
                assert maps.shape == (FRAMES, 1, *SIZE) and maps.dtype == torch.float32
                known = maps.isfinite().flatten(1).all(1)
                assert known[0] and torch.equal(known, ~maps.isnan().flatten(1).all(1))
                assert torch.allclose(mass(maps[known]), torch.ones(1).double(), atol=1e-5)
        if item.fixations is not None:
            points = torch.cat(item.fixations)
            assert points.dtype == torch.float64 and points.shape[1] == 2 and len(points)
            assert points[:, 0].abs().max() <= math.pi
            assert points[:, 1].abs().max() <= math.pi / 2
        if item.flow_picture is not None:
            assert item.flow_picture.shape == item.frames.shape


@pytest.mark.parametrize("layout", NAMES)
def test_a_window_is_a_slice_of_the_whole(layout):
    data = open_dataset(made(layout))
    video = data.videos[0]
    whole, part = data.read(video), data.read(video, start=1, length=3, step=2)
    assert torch.equal(part.frames, whole.frames[1:6:2])
    assert torch.equal(part.indices, whole.indices[1:6:2])
    assert part.fps == whole.fps / 2
    if whole.truth is not None:
        assert torch.allclose(part.truth, whole.truth[1:6:2], rtol=1e-5, atol=1e-7)
    for start, length in ((-1, 1), (FRAMES, 1), (0, FRAMES + 1), (FRAMES - 1, 2)):
        with pytest.raises(ValueError, match="^(start|length): "):
            data.read(video, start, length)
    with pytest.raises(ValueError, match="^video: 'nobody', wanted one of"):
        data.read("nobody")


@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.parametrize("size", [(16, 32), (24, 40), (64, 128)])
def test_any_size_keeps_the_mass_and_the_place_of_the_truth(layout, size):
    data = open_dataset(made(layout))
    video = data.videos[0]
    item, stored = data.read(video, length=2, size=size), data.read(video, length=2)
    assert item.size == size
    assert item.truth.shape[-2:] == size
    assert torch.allclose(mass(item.truth), torch.ones(1, dtype=torch.float64), atol=1e-5)
    middles = []
    for maps in (item.truth, stored.truth):
        rays = erp_directions(*maps.shape[-2:])
        weight = maps[0, 0].double() * pixel_area(*maps.shape[-2:])[:, None]
        middles.append((weight[..., None] * rays).sum((0, 1)))
    assert (middles[0] - middles[1]).abs().max() < 0.05


@pytest.mark.parametrize("layout", NAMES)
def test_a_size_is_a_height_and_a_width(layout):
    data = open_dataset(made(layout))
    for wrong in ((4,), (4, 8, 3), 4, (0, 4), (4, 8.0)):
        with pytest.raises((TypeError, ValueError), match="^size: "):
            data.read(data.videos[0], length=1, size=wrong)


@pytest.mark.parametrize("layout", NAMES)
def test_reading_and_verifying_leave_every_byte_alone(layout, tmp_path):
    root = copied(layout, tmp_path)
    before = fingerprint(root)
    for path in [root, *root.rglob("*")]:
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    try:
        verify(root)
        data = open_dataset(root)
        for video in data.videos:
            data.read(video)
        if layout in ("sphere360", "salient360"):
            data = open_dataset(root, truth="published")
            data.read(data.videos[0])
        assert fingerprint(root) == before
    finally:
        for path in [root, *root.rglob("*")]:
            os.chmod(path, 0o755)


@pytest.mark.parametrize("layout", NAMES)
def test_a_reader_can_be_sent_to_a_worker(layout):
    data = open_dataset(made(layout))
    data.read(data.videos[0], length=1)
    again = pickle.loads(pickle.dumps(data))
    ours, theirs = (d.read(d.videos[1], 2, 2) for d in (data, again))
    assert torch.equal(ours.frames, theirs.frames) and torch.equal(ours.indices, theirs.indices)
    assert ours.truth is None or torch.equal(ours.truth, theirs.truth)


def test_a_folder_of_no_layout_or_of_two_is_told_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"looks like none of the layouts sphere360, wild360"):
        open_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^layout: 'salicon', wanted one of"):
        open_dataset(tmp_path, "salicon")
    root = copied("sphere360", tmp_path)
    (root / "frames" / "001").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"looks like sphere360 \(.*\); vr-eyetracking \(.*\)"):
        open_dataset(root)
    assert open_dataset(root, "sphere360").recognised == "sphere360: as requested"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"file: not a folder"):
        open_dataset(tmp_path / "file")


def test_places_in_the_unit_square():
    """Edges, poles and middle: continuous places, x to the right and y down."""
    xy = np.array([(0.5, 0.5), (0, 0.5), (1, 0.5), (0.75, 0), (0.25, 1), (0.5, 0.25)])
    lonlat = unit_square_to_lonlat(xy)
    h = math.pi / 2
    wanted = [(0, 0), (-2 * h, 0), (-2 * h, 0), (h, h), (-h, -h), (0, h / 2)]
    assert torch.allclose(lonlat, torch.tensor(wanted, dtype=torch.float64), atol=1e-12)
    rng = np.random.default_rng(0)
    xy = rng.random((50, 2))
    assert np.allclose(lonlat_to_unit_square(unit_square_to_lonlat(xy)), xy, atol=1e-12)


# --- sphere360 -----------------------------------------------------------------------------------


def test_the_split_is_the_published_one(golden):
    stored = golden("split")
    assert split_positions(104, "train") == stored["train_pos_80"].tolist()
    assert split_positions(104, "train", "40") == stored["train_pos_40"].tolist()
    test = split_positions(104, "test")
    assert len(test) == 24 and not set(test) & set(stored["train_pos_80"].tolist())
    assert split_positions(104, "test", "40") == test
    assert split_positions(104) == list(range(104))


@pytest.mark.parametrize("count", [1, 2, 3, 13, 50, 104, 200])
def test_smaller_sets_are_split_in_proportion(count):
    train, test = split_positions(count, "train"), split_positions(count, "test")
    assert sorted(train + test) == list(range(count))
    assert set(split_positions(count, "train", "40")) <= set(train)
    assert count == 1 or abs(len(train) - 80 / 104 * count) <= 1


def test_the_split_counts_videos_that_are_not_there(tmp_path):
    """A folder that was lost must not move other videos from one half to the other."""
    root = copied("sphere360", tmp_path)
    whole = Sphere360(root, "train").videos
    shutil.rmtree(root / "001")
    assert Sphere360(root, "train").videos == whole


def test_fixations_and_truth_are_those_of_the_table():
    root = made("sphere360")
    with open(root / "vinfo.pkl", "rb") as file:
        vinfo = pickle.load(file)  # our own file
    item = Sphere360(root, sigma_deg=7).read("002", start=2, length=3)
    for k, number in enumerate(item.indices.tolist()):
        points = vinfo["002"][f"{number:04d}"]
        lonlat = item.fixations[k]
        assert np.allclose(lonlat[:, 0], [(x - 0.5) * 2 * math.pi for x, _ in points])
        assert np.allclose(lonlat[:, 1], [(0.5 - y) * math.pi for _, y in points])
        wanted = fixations_to_density(lonlat[:, 0], lonlat[:, 1], *SIZE, 7)
        assert torch.equal(item.truth[k, 0], wanted)


@pytest.mark.parametrize("truth", ["fixations", "published"])
@pytest.mark.parametrize("interval", [1, 5])
def test_previous_is_the_truth_some_frames_before(truth, interval):
    data = Sphere360(made("sphere360"), interval=interval, truth=truth)
    item = data.read("001")
    assert torch.equal(item.previous[interval:], item.truth[:-interval])
    first = fixations_to_density([0.0], [0.0], *SIZE, 9)
    for k in range(interval):
        assert torch.equal(item.previous[k, 0], first)


def test_published_maps_are_read_and_none_is_replaced_by_zeros(tmp_path):
    root = copied("sphere360", tmp_path)
    stored = np.load(root / "001" / "0003_gt.npy")[0]
    np.save(root / "001" / "0003_gt.npy", 10 * stored[None])  # any scale
    got = Sphere360(root, truth="published").read("001", 2, 1).truth[0, 0]
    assert np.allclose(got, stored, rtol=1e-4, atol=1e-6)
    path = root / "001" / "0003_gt.npy"
    path.unlink()
    data = Sphere360(root, truth="published")
    with pytest.raises(FileNotFoundError, match=r"001/0003_gt\.npy: no such file"):
        data.read("001", 2, 1)
    assert not path.exists()
    assert Sphere360(root).read("001", 2, 1).truth is not None  # computed, from the table
    assert not path.exists()


def test_a_frame_without_fixations_has_no_truth(tmp_path):
    root = copied("sphere360", tmp_path)
    vinfo = pickle.loads((root / "vinfo.pkl").read_bytes())
    vinfo["001"]["0002"] = []
    (root / "vinfo.pkl").write_bytes(pickle.dumps(vinfo))
    item = Sphere360(root).read("001", length=3)
    assert item.truth[1].isnan().all() and item.truth[[0, 2]].isfinite().all()
    assert len(item.fixations[1]) == 0
    assert verify(root).usable


def test_arguments_are_named():
    root = made("sphere360")
    for wrong, name in (
        ({"split": "dev"}, "split"),
        ({"subset": "20"}, "subset"),
        ({"interval": 0}, "interval"),
        ({"sigma_deg": -1}, "sigma_deg"),
        ({"truth": "zeros"}, "truth"),
        ({"on_error": "zeros"}, "on_error"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            Sphere360(root, **wrong)


# --- wild360 -------------------------------------------------------------------------------------


def test_the_lists_say_which_videos(tmp_path):
    root = copied("wild360", tmp_path)
    assert Wild360(root, "test").videos == ("synthetic001_1",)
    assert Wild360(root, "train").videos == ("synthetic002_1", "synthetic003_1")
    assert Wild360(root, "train").read("synthetic002_1").truth is None
    test_list = root / "test.txt"
    test_list.write_text("synthetic001_1\nsynthetic003_1\nsynthetic001_1\n")
    data = Wild360(root, "test")
    assert data.videos == ("synthetic001_1", "synthetic003_1")
    assert data.repeated == ("synthetic001_1",)
    notes = [f.message for f in verify(root).findings if f.path == "test.txt"]
    assert any("2 times" in n for n in notes) and any("training list too" in n for n in notes)
    test_list.unlink()
    (root / "train.txt").unlink()
    assert Wild360(root, "test").videos == ("synthetic001_1",)  # by the folders


def test_the_published_lists():
    assert len(published.WILD360_TEST) == 25 and len(set(published.WILD360_TEST)) == 23
    assert len(set(published.WILD360_TRAIN)) == 60
    assert len(set(published.VRET_TRAIN)) == 107 and len(set(published.VRET_TEST)) == 25
    assert not set(published.VRET_TRAIN) & set(published.VRET_TEST)


def test_the_arrangement_of_cp360_itself(tmp_path):
    """Videos beside each other, maps in output25, lists in utils; no lists: the published ones."""
    source, root = made("wild360"), tmp_path / "cp360"
    (root / "utils").mkdir(parents=True)
    names = {"synthetic001_1": "va1AmV24VSs_2", "synthetic002_1": "KC5YDoqVkBE_6"}
    for old, new in names.items():
        split = "test" if old == "synthetic001_1" else "train"
        shutil.copy(source / "data" / split / f"{old}.mp4", root / f"{new}.mp4")
    shutil.copytree(
        source / "Wild360_GT_29" / "synthetic001_1.mp4", root / "output25" / "va1AmV24VSs_2.mp4"
    )
    assert Wild360(root, "test").videos == ("va1AmV24VSs_2",)
    assert Wild360(root, "train").videos == ("KC5YDoqVkBE_6",)
    (root / "utils" / "test_25.txt").write_text("KC5YDoqVkBE_6\n")
    assert Wild360(root, "test").videos == ("KC5YDoqVkBE_6",)
    with pytest.raises(FileNotFoundError, match=r"train\.txt: no such file, only test_25\.txt"):
        Wild360(root, "train")
    ours = Wild360(source).read("synthetic001_1")
    again = open_dataset(root).read("va1AmV24VSs_2")
    assert torch.equal(ours.frames, again.frames) and torch.equal(ours.truth, again.truth)


def test_a_video_may_be_a_folder_of_frames(tmp_path):
    root = copied("wild360", tmp_path)
    whole = Wild360(root).read("synthetic001_1")
    film = root / "data" / "test" / "synthetic001_1.mp4"
    folder = film.with_suffix("")
    folder.mkdir()
    for k, frame in enumerate(whole.frames):
        rgb = (frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        cv2.imwrite(str(folder / f"{k + 1:06d}.png"), rgb[..., ::-1])
    film.unlink()
    assert verify(root).usable
    data = Wild360(root, fps=24)
    item = data.read("synthetic001_1")
    assert data.rate("synthetic001_1") == 24 and item.indices.tolist() == list(range(1, FRAMES + 1))
    assert torch.equal(item.frames, whole.frames) and torch.equal(item.truth, whole.truth)


def test_frames_after_the_last_map_have_no_truth_and_a_hole_is_an_error(tmp_path):
    root = copied("wild360", tmp_path)
    maps = root / "Wild360_GT_29" / "synthetic001_1.mp4"
    (maps / f"{FRAMES - 1:05d}.npy").unlink()
    item = Wild360(root).read("synthetic001_1")
    assert item.truth[-1].isnan().all() and item.truth[:-1].isfinite().all()
    report = verify(root)
    assert report.usable
    assert [f.message for f in report.findings] == [f"the last 1 of {FRAMES} frames have no map"]
    (maps / "00002.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"00002\.npy: no such file"):
        Wild360(root).read("synthetic001_1")
    assert not verify(root).usable


def test_a_long_film_is_entered_anywhere(tmp_path):
    """Beyond the first second the reader jumps; the numbers stay right."""
    root = make("wild360", tmp_path / "long", videos=1, seconds=6, size=(16, 32))
    data = Wild360(root)
    (video,) = data.videos
    whole = data.read(video)
    assert len(whole) == 48
    for start, step in ((9, 1), (20, 3), (33, 5), (47, 1)):
        part = data.read(video, start, step=step)
        assert torch.equal(part.frames, whole.frames[start::step])
        assert torch.equal(part.truth, whole.truth[start::step])


def test_frames_of_a_film_are_numbered_as_published():
    data = Wild360(made("wild360"))
    whole = data.read("synthetic002_1")
    for start in range(FRAMES):
        assert torch.equal(data.read("synthetic002_1", start, 1).frames[0], whole.frames[start])


# --- vr-eyetracking ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "step"), [(24, 3), (25, 3), (29.97, 4), (30, 4), (50, 6), (60, 8), (8, 1), (3, 1)]
)
def test_sampling_keeps_one_frame_in_so_many(fps, step):
    assert sampling_step(fps) == step


def test_frames_keep_their_numbers_and_rate():
    root = made("vr-eyetracking")
    item = VREyeTracking(root, source_fps=32).read("001")
    assert item.indices.tolist() == list(range(0, 4 * FRAMES, 4)) and item.fps == 8
    assert VREyeTracking(root, source_fps=30).rate("001") == 7.5
    assert VREyeTracking(root).rate("001") == 8


def test_the_networks_input_is_what_the_published_code_reads():
    """OpenCV's pictures, blue first, scaled as bytes by INTER_AREA, frame then flow picture."""
    root = made("vr-eyetracking")
    size = (20, 30)
    item = VREyeTracking(root).read("002", 1, 2, size=size)
    got = published_channels(item)
    assert got.shape == (2, 6, *size)
    for k, number in enumerate(item.indices.tolist()):
        for channels, part in ((slice(0, 3), "frames"), (slice(3, 6), "optical_flow")):
            bgr = cv2.imread(str(root / part / "002" / f"002_{number:04d}.png"))
            bgr = cv2.resize(bgr, size[::-1], interpolation=cv2.INTER_AREA)
            wanted = torch.from_numpy(bgr.astype(np.float32) / 255).permute(2, 0, 1)
            assert torch.allclose(got[k, channels], wanted, atol=1e-7)
    assert torch.equal(published_channels(item, flow=False), got[:, :3])
    alone = VREyeTracking(root, flow=False).read("002", 1, 2, size=size)
    assert alone.flow_picture is None and torch.equal(published_channels(alone), got[:, :3])
    with pytest.raises(ValueError, match="^item: 002 has no flow picture"):
        published_channels(alone, flow=True)
    assert PUBLISHED_SIZE == (240, 320)


def test_the_truth_is_the_grey_map_made_a_density():
    root = made("vr-eyetracking")
    item = VREyeTracking(root).read("001", 2, 1)
    grey = cv2.imread(str(root / "saliency_maps/001/0008.png"), cv2.IMREAD_GRAYSCALE)
    ratio = item.truth[0, 0].double().numpy() / np.maximum(grey, 1)
    assert np.allclose(ratio[grey > 0], ratio[grey == 255].mean(), rtol=1e-5)


def test_a_truth_of_16_bits_keeps_them_and_one_in_colour_is_refused(tmp_path):
    root = copied("vr-eyetracking", tmp_path)
    path = root / "saliency_maps/001/0000.png"
    values = np.full(SIZE, 200, np.uint16)
    values[:16] = 2000
    cv2.imwrite(str(path), values)
    truth = VREyeTracking(root).read("001", 0, 1).truth[0, 0]
    assert torch.allclose(truth[16:], 0.1 * truth[:16]) and truth.min() > 0
    assert verify(root).usable
    heat = cv2.applyColorMap((values // 8).astype(np.uint8), cv2.COLORMAP_JET)
    cv2.imwrite(str(path), heat)
    with pytest.raises(ValueError, match=r"0000\.png: a picture in colour, wanted a grey map"):
        VREyeTracking(root).read("001", 0, 1)
    assert [f.kind for f in verify(root).findings if f.path.endswith("001/0000.png")] == ["broken"]
    cv2.imwrite(str(path), np.repeat(values[..., None], 3, 2))  # grey in three channels
    assert torch.equal(VREyeTracking(root).read("001", 0, 1).truth[0, 0], truth)


def published_sequences(frames, complete, length=20, skip=20, inference=False):
    """The loop of the published loader, in our words: where sequences start."""
    starts, begin = [], skip
    ends = range(length + skip, frames, length - 4 if inference else length)
    for end in ends:
        if all(complete(k) for k in range(begin, end)):
            starts.append((begin, end - begin))
        begin = end - 4 if inference else end
    return starts


@pytest.mark.parametrize("frames", [40, 41, 61, 80, 81, 100])
def test_sequences_are_the_published_ones(frames, tmp_path):
    folder = tmp_path / "frames" / "007"
    folder.mkdir(parents=True)
    maps = tmp_path / "saliency_maps" / "007"
    maps.mkdir(parents=True)
    for k in range(frames):
        (folder / f"007_{4 * k:04d}.png").touch()
        if k != 45:
            (maps / f"{4 * k:04d}.png").touch()
    data = VREyeTracking(tmp_path)
    for inference in (False, True):
        wanted = published_sequences(frames, lambda k: k != 45, inference=inference)
        assert data.sequences("007", overlap=4 if inference else 0) == wanted
    assert (frames > 40) == bool(data.sequences("007"))  # the last one is dropped at exactly 40


def test_splits_follow_the_list_and_hold_out_a_fifth(tmp_path):
    root = copied("vr-eyetracking", tmp_path)
    (root / "train_split_VRET.txt").write_text("003,001\n")
    (root / "test_split_VRET.txt").write_text("002")
    assert VREyeTracking(root, "test").videos == ("002",)
    assert VREyeTracking(root, "validation").videos == ("003",)
    assert VREyeTracking(root, "train").videos == ("001",)
    for path in root.glob("*.txt"):
        path.unlink()
    assert VREyeTracking(root, "train").videos + VREyeTracking(root, "validation").videos
    with pytest.raises(ValueError, match="holds no videos of split 'test'"):
        VREyeTracking(root, "test")


def test_a_name_in_a_list_may_hold_spaces(tmp_path):
    root = copied("vr-eyetracking", tmp_path)
    (root / "frames/001").rename(root / "frames/-x y")
    (root / "test_split_VRET.txt").write_text(" 002 ,\r\n-x y\n\n")
    assert VREyeTracking(root, "test").videos == ("002", "-x y")


def test_maps_between_the_sampled_frames_are_no_harm(tmp_path):
    root = copied("vr-eyetracking", tmp_path)
    for number in (1, 2, 3, 5):
        shutil.copy(
            root / "saliency_maps/001/0000.png", root / f"saliency_maps/001/{number:04d}.png"
        )
    assert verify(root).usable
    assert VREyeTracking(root).numbers("001") == tuple(range(0, 4 * FRAMES, 4))


def test_a_first_frame_of_another_size_is_as_published(tmp_path):
    """Their extraction scales the first frame only; with a size asked for, that is no harm."""
    root = copied("vr-eyetracking", tmp_path)
    path = root / "frames/001/001_0000.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (2048, 1080)))
    assert verify(root).usable
    assert len(VREyeTracking(root).read("001", size=(16, 32))) == FRAMES
    with pytest.raises(ValueError, match=r"001_0000\.png: 1080 x 2048 pixels, wanted 32 x 64"):
        VREyeTracking(root).read("001")


# --- salient360 ----------------------------------------------------------------------------------

HEADERS = {
    "images": "Idx, longitude, latitude, start timestamp",
    "commented": "# Idx, longitude, latitude, start timestamp, duration, start frame, end frame",
    "toolbox": "# Fix_index, long_Gaze, lat_Gaze, Fix_time_start, Fix_time_end",
    "none": None,
    "shuffled": "Latitude;Longitude;Duration;Start timestamp;Idx",
    "short": "idx,lon,lat,time",
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_tables_of_any_spelling_read_alike(tmp_path, kind, unit):
    factor = 1 if unit == "s" else 1000
    rows = [(0, 0.5, 0.5, 0, 0.2), (1, 0.75, 0.25, 0.3, 0.5), (0, 0.1, 0.9, 0.1, 0.4)]
    lines = []
    for index, x, y, t, d in rows:
        t, d, end = factor * t, factor * d, factor * (t + d)
        lines.append(
            {
                "images": f"{index}, {x}, {y}, {t}, ",
                "commented": f"{index}, {x}, {y}, {t}, {d}, {int(8 * t)}, {int(8 * end)}",
                "toolbox": f"{index},{x:.8e},{y:.8e},{t},{end}",
                "none": f"{index},{x},{y},{t},{d}",
                "shuffled": f"{y};{x};{d};{t};{index}",
                "short": f"{index},{x},{y},{t}",
            }[kind]
        )
    header = HEADERS[kind]
    text = "\r\n".join([*([header] if header else []), *lines, ""])
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    observers = read_scanpaths(path, unit)
    assert [len(one) for one in observers] == [2, 1]
    assert torch.allclose(observers[0].lon, torch.tensor([0, math.pi / 2], dtype=torch.float64))
    assert torch.allclose(observers[0].lat, torch.tensor([0, math.pi / 4], dtype=torch.float64))
    assert torch.allclose(observers[1].onset, torch.tensor([0.1], dtype=torch.float64))
    timed = kind not in ("images", "short")
    assert observers[0].duration.isfinite().all() == timed
    if timed:
        assert torch.allclose(observers[0].duration, torch.tensor([0.2, 0.5]).double())
    assert (observers[0].frames is not None) == (kind == "commented")


def test_the_unit_of_time_is_told_by_how_long_a_viewing_lasts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Idx, longitude, latitude, start timestamp\n0,.5,.5,0\n1,.5,.5,19000\n")
    assert read_scanpaths(path)[0].onset.tolist() == [0, 19]
    path.write_text("Idx, longitude, latitude, start timestamp\n0,.5,.5,0\n1,.5,.5,19\n")
    assert read_scanpaths(path)[0].onset.tolist() == [0, 19]


def test_a_fixation_that_ends_before_it_begins_is_told(tmp_path):
    path = tmp_path / "t.csv"
    rows = "0,.5,.5,1,1.2\n1,.5,.5,2,1.9\n"
    path.write_text(f"Idx, long_Gaze, lat_Gaze, Fix_time_start, Fix_time_end\n{rows}")
    with pytest.raises(ValueError, match="observer 0: a fixation that ends before it begins"):
        read_scanpaths(path)


@given(text=st.text(max_size=200) | st.lists(st.sampled_from(
    ["Idx", "longitude", "latitude", "start timestamp", "0", ".5", "1e400", "-1", "nan", ",", ";",
     "\n", "\t", '"', "#", "7"]), max_size=60).map("".join))  # fmt: skip
@settings(max_examples=200)
def test_any_text_is_a_table_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("t", numbered=True) / "table.csv"
    path.write_text(text, "utf-8", newline="")
    try:
        observers = read_scanpaths(path)
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{path}: ") and len(message.splitlines()) == 1
    else:
        assert all(one.lon.isfinite().all() and one.onset.min() >= 0 for one in observers)


def test_a_cell_that_is_too_long_is_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('Idx, longitude, latitude, start timestamp\n0, "' + "5" * 200_000 + '", 1, 1')
    with pytest.raises(ValueError, match=r"table\.csv: .*limit"):
        read_scanpaths(path)


def test_heads_and_eyes_and_what_is_seen_when():
    root = made("salient360")
    eyes, heads = Salient360(root), Salient360(root, modality="H")
    assert eyes.modality == "HE" and (eyes.sigma_deg, heads.sigma_deg) == (2.0, 3.34)
    assert eyes.videos == ("1_Synthetic", "2_Synthetic", "3_Synthetic")
    assert len(eyes.gaze("1_Synthetic")) == 2 * len(heads.gaze("1_Synthetic"))
    assert len(Salient360(root, eyes="L").gaze("1_Synthetic")) == len(heads.gaze("1_Synthetic"))
    item = heads.read("1_Synthetic")
    assert {len(points) for points in item.fixations} == {len(heads.gaze("1_Synthetic"))}
    for one in eyes.gaze("1_Synthetic"):  # frames agree with times
        assert (one.frames[:, 0] / 8 <= one.onset + 1e-3).all()
        assert (one.until() > one.onset).all() and (torch.diff(one.onset) > 0).all()
    rate, watched = 8.0, eyes.read("1_Synthetic")
    for t in range(FRAMES):
        seen = sum(
            int(((one.onset < (t + 1) / rate) & (one.onset + one.duration > t / rate)).sum())
            for one in eyes.gaze("1_Synthetic")
        )
        assert len(watched.fixations[t]) == seen


def test_gaze_alone_pictures_and_published_maps(tmp_path):
    root = copied("salient360", tmp_path)
    film = Salient360(root, truth="published").read("1_Synthetic", 2, 1)
    raw = np.fromfile(next((root / "HE/SalMaps").glob("1_*.bin")), "<f4").reshape(-1, *SIZE)[2]
    assert np.allclose(film.truth[0, 0], raw, rtol=1e-4, atol=1e-6)
    picture = (film.frames[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    cv2.imwrite(str(root / "Stimuli/P7.jpg"), picture[..., ::-1])
    shutil.copy(
        root / "HE/Scanpaths/L/1_Synthetic_fixations.csv", root / "HE/Scanpaths/L/HEscanpath_7.txt"
    )
    data = Salient360(root)
    assert data.length("P7") == 1 and data.rate("P7") == 1 / 25
    item = data.read("P7")
    assert len(item.fixations[0]) == sum(len(one) for one in data.gaze("P7"))
    assert np.array_equal((item.frames[0].permute(1, 2, 0) * 255).round().byte().numpy(),
                          read_image(root / "Stimuli/P7.jpg"))  # fmt: skip
    shutil.rmtree(root / "Stimuli")
    alone = open_dataset(root)
    assert alone.videos == () and "1_Synthetic" in alone.tables
    assert len(alone.gaze("1_Synthetic"))


def test_names_may_hold_hyphens_and_spaces(tmp_path):
    root = copied("salient360", tmp_path)
    for path in [p for p in root.rglob("1_Synthetic*") if p.is_file()]:
        path.rename(path.with_name(path.name.replace("Synthetic", "My-Clip no. 2")))
    assert verify(root).usable
    for truth in ("fixations", "published"):
        item = Salient360(root, truth=truth).read("1_My-Clip no. 2")
        assert torch.equal(item.truth, Salient360(made("salient360"), truth=truth)
                           .read("1_Synthetic").truth)  # fmt: skip


def test_only_the_case_of_a_suffix_is_called_a_case(tmp_path):
    root = copied("salient360", tmp_path)
    for name in ("Readings.csv", "1_Synthetic_fixations.CSV"):
        (root / "H/Scanpaths" / name).write_text("x")
    told = {f.path: f.message for f in verify(root).findings if f.kind == "surplus"}
    assert told == {
        "H/Scanpaths/Readings.csv": "not read: wanted 1_Name_fixations.csv",
        "H/Scanpaths/1_Synthetic_fixations.CSV": (
            "not read: its name differs in case from 1_Name_fixations.csv"
        ),
    }


# --- making --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", NAMES)
def test_made_twice_is_made_alike(layout, tmp_path):
    again = make(layout, tmp_path / "again", videos=VIDEOS, seconds=1.0, size=SIZE)
    ours = {p.replace(str(made(layout)), ""): h for p, h in fingerprint(made(layout)).items()}
    theirs = {p.replace(str(again), ""): h for p, h in fingerprint(again).items()}
    assert ours.keys() == theirs.keys()
    assert [p for p in ours if ours[p] != theirs[p] and not p.endswith(".mp4")] == []
    assert "Not recorded, not measured" in (again / "README.md").read_text("utf-8")


@pytest.mark.parametrize("seconds", [0.2, 2])
@pytest.mark.parametrize("longest", [0.1, 200])  # a clip beyond it is written in milliseconds
def test_times_are_read_as_they_were_made(tmp_path, monkeypatch, seconds, longest):
    monkeypatch.setattr(making, "LONGEST", longest)
    root = make("salient360", tmp_path / "s", videos=1, seconds=seconds, size=(16, 32))
    unit = "auto" if longest == 200 else "ms"
    for one in Salient360(root, modality="H", unit=unit).gaze("1_Synthetic"):
        assert torch.allclose(one.onset, torch.arange(len(one)).double() / 8, atol=1e-3)
    for one in Salient360(root, unit=unit).gaze("1_Synthetic"):
        assert (one.onset <= seconds).all() and (one.frames[:, 0] / 8 <= one.onset + 1e-3).all()


def test_scenes_are_drawn_by_their_seed():
    first, again, other = (render(1, 3, 16, 32, seed).item for seed in (0, 0, 1))
    for name in ("frames", "flow", "truth"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert all(map(torch.equal, first.fixations, again.fixations))
    assert not torch.equal(first.frames, other.frames)


def test_nothing_is_written_over_and_nothing_half_made_is_left(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"mine: exists and is not an empty folder"):
        make("sphere360", tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"no: no such folder"):
        make("sphere360", tmp_path / "no" / "where")
    with pytest.raises(FileExistsError):
        make("sphere360", tmp_path / "mine" / "thesis.txt")

    def stop(_):
        raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        with pytest.raises(KeyboardInterrupt):
            make("wild360", tmp_path / name, videos=2, seconds=0.2, size=(16, 32), progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "mine"]
    assert not any((tmp_path / "empty").iterdir())
    make("wild360", tmp_path / "empty", videos=1, seconds=0.2, size=(16, 32))
    assert verify(tmp_path / "empty").usable


def test_an_empty_folder_may_be_where_one_stands_or_behind_a_link(tmp_path, monkeypatch):
    few = dict(videos=1, seconds=0.2, size=(16, 32))
    here, behind = tmp_path / "here", tmp_path / "behind"
    here.mkdir()
    behind.mkdir()
    (tmp_path / "link").symlink_to(behind)
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(here)
    make("avtrack360", ".", **few)
    assert verify(".").usable  # still the folder one stands in
    make("avtrack360", tmp_path / "link", **few)
    assert verify(behind).usable
    with pytest.raises(FileExistsError, match="loop: exists and is not an empty folder"):
        make("avtrack360", tmp_path / "loop", **few)
    assert {p.name for p in tmp_path.iterdir()} == {"here", "behind", "link", "loop"}


def test_what_a_killed_make_left_is_removed_by_the_next(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    parts = {pid: tmp_path / f".toy.{pid}.part" for pid in (ended.pid, os.getppid())}
    for part in parts.values():
        part.mkdir()
    make("avtrack360", tmp_path / "toy", videos=1, seconds=0.2, size=(16, 32))
    assert not parts[ended.pid].exists() and parts[os.getppid()].exists()


def test_a_large_seed_takes_no_longer(tmp_path):
    first = render(0, 2, 16, 32, 10**15)
    assert first.item.video == f"train-{10**18}"
    again = SyntheticWorlds("train", 7, 0.25, 8, (16, 32), 12, 5.0)
    alone = SyntheticWorlds("train", 1, 0.25, 8, (16, 32), 12, 5.0, first=6)
    assert alone.videos == again.videos[-1:] == ("train-0006",)
    ours, theirs = (data.read("train-0006") for data in (alone, again))
    assert torch.equal(ours.frames, theirs.frames) and torch.equal(ours.truth, theirs.truth)
    with pytest.raises(ValueError, match="^video: 'train-0000', wanted train-0006 to train-0006"):
        alone.read("train-0000")


def test_what_to_make_is_checked(tmp_path):
    for wrong, name in (
        ({"layout": "imagenet"}, "layout"),
        ({"videos": 0}, "videos"),
        ({"seconds": 0}, "seconds"),
        ({"size": (15, 32)}, "size"),
        ({"size": (8, 16)}, "size"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            make(**{"layout": "sphere360", "out": tmp_path / "x", **wrong})
    assert not any(tmp_path.iterdir())


def test_every_layout_can_be_made_and_checked():
    from sal360.datasets.layouts.make import WRITERS
    from sal360.datasets.layouts.verify import CHECKS

    assert set(LAYOUTS) == set(WRITERS) == set(CHECKS)


@pytest.mark.real
def test_the_real_head_traces_have_nothing_wrong(real, monkeypatch):
    root = real("avtrack360/SRC_info/1.json").parents[1]
    monkeypatch.setattr(Inspector, "picture", lambda *_: None)  # 20 pictures of 8 megapixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = verify(root)
    assert report.usable and report.videos == 20 and report.files == 68
