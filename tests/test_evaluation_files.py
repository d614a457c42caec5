"""Maps on disk: every kind is read to the same numbers, and paired by what belongs together."""

import json

import cv2
import numpy as np
import pytest
import torch

from sal360.datasets.layouts import open_dataset
from sal360.evaluation import evaluate, open_predictions, open_truth
from sal360.evaluation.streams import Truths
from sal360.images import write_image
from sal360.results import SCHEMA, PredictionFolder
from sal360.sphere import pixel_area
from sal360.video import VideoWriter
from tests import layout_sets

H, W = 16, 32
AREA = pixel_area(H, W).numpy()[:, None]


def maps(frames=4, seed=0, size=(H, W)):
    """``(T, H, W)`` float32 densities of mass 1."""
    found = np.random.default_rng(seed).random((frames, *size)) ** 3 + 0.05
    area = pixel_area(*size).numpy()[:, None]
    return (found / (found * area).sum((1, 2), keepdims=True)).astype(np.float32)


def folder(path, stack, numbers=None, kind="npy"):
    """A map per frame."""
    path.mkdir(parents=True)
    for number, map_ in zip(numbers or range(len(stack)), stack, strict=True):
        file = path / f"{number:04d}.{kind}"
        if kind == "npy":
            np.save(file, map_)
        elif kind == "npz":
            np.savez(file, density=map_)
        else:
            write_image(file, grey(map_))
    return path


def grey(map_, bits=8):
    top = 2**bits - 1
    return np.round(map_ / map_.max() * top).astype(np.uint8 if bits == 8 else np.uint16)


def prediction(path, stack, numbers=None, kind="video", status="complete"):
    """As ``sal360 predict`` leaves it."""
    made = PredictionFolder(path)
    made.create()
    for number, map_ in zip(numbers or range(len(stack)), stack, strict=True):
        made.write_map(number, number / 8, map_)
    made.write_record({"schema": SCHEMA, "status": status, "source": {"kind": kind}})
    return path


def film(path, stack):
    with VideoWriter(path, fps=8) as video:
        for map_ in stack:
            video.write(np.repeat(grey(map_)[..., None], 3, 2))
    return path


def scored(predictions, truth, **settings):
    return evaluate(open_predictions(predictions), open_truth(truth), **settings)


PRED, TRUE = maps(seed=1), maps(seed=2)


def write_kind(kind, path):
    if kind == "npy stack":
        np.save(path.with_suffix(".npy"), PRED)
        return path.with_suffix(".npy")
    if kind == "npy stack with a channel":
        np.save(path.with_suffix(".npy"), PRED[:, None])
        return path.with_suffix(".npy")
    if kind == "npz stack":
        np.savez(path.with_suffix(".npz"), density=PRED)
        return path.with_suffix(".npz")
    if kind == "compressed npz of another name":
        np.savez_compressed(path.with_suffix(".npz"), saliency=PRED * 7)
        return path.with_suffix(".npz")
    if kind == "prediction":
        return prediction(path, PRED)
    if kind == "folder of a prediction":
        return prediction(path / "clip", PRED).parent
    if kind == "Fortran order":
        path.mkdir()
        for t, map_ in enumerate(PRED):
            np.save(path / f"{t:04d}.npy", np.asfortranarray(map_))
        return path
    if kind == "named frames":
        path.mkdir()
        for t, map_ in enumerate(PRED):
            np.save(path / f"clip7_{t:04d}_gt.npy", map_[None].astype(np.float64))
        (path / "README.md").write_text("about")
        (path / ".hidden.png").write_bytes(b"")
        return path
    if kind == "film in a folder":
        path.mkdir()
        film(path / "maps.mp4", PRED)
        return path
    if kind == "film":
        return film(path.with_suffix(".mp4"), PRED)
    if kind == "16 bits":
        path.mkdir()
        for t, map_ in enumerate(PRED):
            assert cv2.imwrite(str(path / f"{t}.png"), grey(map_, 16))
        return path
    return folder(path, PRED, kind=kind)


EXACT = ("npy", "npz", "npy stack", "npy stack with a channel", "npz stack", "prediction",
         "compressed npz of another name", "folder of a prediction", "Fortran order",
         "named frames")  # fmt: skip
ROUNDED = {"16 bits": 1e-4, "png": 0.01, "jpg": 0.15, "film": 0.2, "film in a folder": 0.2}


@pytest.mark.parametrize("kind", [*EXACT, *ROUNDED])
def test_every_kind_is_read_to_the_same_scores(tmp_path, kind):
    found = scored(write_kind(kind, tmp_path / "pred"), folder(tmp_path / "gt", TRUE))
    want = evaluate({"pred": torch.tensor(PRED)}, {"pred": torch.tensor(TRUE)})
    for name in ("cc", "sim") if "film" in kind else ("cc", "sim", "kld"):
        got, there = found.per_video(name), want.per_video(name)
        torch.testing.assert_close(got, there, rtol=0, atol=ROUNDED.get(kind, 1e-7))
    told = any("8 bits" in note for note in found.notes)
    assert told == (kind in ("png", "jpg", "film", "film in a folder"))


def test_a_single_picture(tmp_path):
    write_image(tmp_path / "a.png", grey(PRED[0]))
    write_image(tmp_path / "b.png", grey(TRUE[0]))
    found = scored(tmp_path / "a.png", tmp_path / "b.png")
    assert found.frames == 1 and found.mean("cc").method == "none"


def test_a_large_stack_stays_on_the_disk(tmp_path, monkeypatch):
    from sal360.evaluation import clips

    np.save(tmp_path / "pred.npy", PRED)
    monkeypatch.setattr(clips, "STACK", 100)
    opened = open_predictions(tmp_path / "pred.npy")
    assert isinstance(opened._clips["pred"]._opened(tmp_path / "pred.npy").values, np.memmap)
    got = opened.read("pred", [1, 3], None).maps
    torch.testing.assert_close(got, torch.tensor(PRED[[1, 3]]).double())


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(500)), "not an array of NumPy"),
        (lambda path: np.save(path, PRED.astype(complex)), "holds dtype '<c16'; wanted numbers"),
        (lambda path: np.save(path, PRED.view([("a", "<f4")])), "describes no plain array"),
        (lambda path: np.save(path, PRED > 0.1), "dtype bool, wanted numbers"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut short"),
    ],
)
def test_a_large_stack_is_checked_as_a_small_one(tmp_path, monkeypatch, damage, line):
    from sal360.evaluation import clips

    np.save(tmp_path / "pred.npy", PRED)
    damage(tmp_path / "pred.npy")
    monkeypatch.setattr(clips, "STACK", 100)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/pred.npy: .*{line}"):
        open_predictions(tmp_path / "pred.npy")


def test_many_videos_by_name(tmp_path):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        prediction(tmp_path / "pred" / name, maps(3, seed))
        folder(tmp_path / "gt" / name, maps(3, seed + 10), kind="npz")
    found = scored(tmp_path / "pred", tmp_path / "gt")
    assert [v.video for v in found.videos] == ["a", "b", "c"]
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        np.save(stacks / f"{name}.npy", maps(3, seed))
    assert scored(stacks, tmp_path / "gt").per_video("cc").tolist() == pytest.approx(
        found.per_video("cc").tolist(), abs=1e-7
    )
    one = scored(tmp_path / "pred" / "b", tmp_path / "gt")
    assert [v.video for v in one.videos] == ["b"]


def test_fixations_beside_the_truth(tmp_path):
    pred, true = folder(tmp_path / "pred", PRED), tmp_path / "gt"
    true.mkdir()
    looked = [np.array([[0.1 * t, 0.2]] * t).reshape(-1, 2) for t in range(4)]
    for t in range(4):
        np.savez(true / f"{t}.npz", density=TRUE[t], fixations=looked[t])
    found = scored(pred, true)
    assert "nss" in found.metrics and found.left_out("nss") == 1 and found.left_out("cc") == 0
    want = evaluate({"a": torch.tensor(PRED)}, {"a": torch.tensor(TRUE)}, fixations={"a": looked})
    torch.testing.assert_close(found.per_video("nss"), want.per_video("nss"))


def test_an_empty_or_missing_truth_is_left_out(tmp_path):
    true = TRUE.copy()
    true[1], true[2] = 0, np.nan
    found = scored(folder(tmp_path / "pred", PRED), folder(tmp_path / "gt", true))
    assert found.videos[0].scores["cc"].isnan().tolist() == [False, True, True, False]


# --- which frames --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "scored_frames"),
    [
        ((0, 1, 2, 3), (0, 1, 2, 3), [0, 1, 2, 3]),
        ((0, 4, 8, 12), tuple(range(14)), [0, 4, 8, 12]),
        ((1, 5, 9, 13), tuple(range(14)), [1, 5, 9, 13]),
        (tuple(range(0, 14)), (0, 4, 8, 12), [0, 4, 8, 12]),
        ((7, 8), (7, 8), [7, 8]),
    ],
)
def test_frames_are_paired_by_number(tmp_path, ours, theirs, scored_frames):
    mine = maps(16, 1)[list(ours)]
    pred = prediction(tmp_path / "pred", mine, list(ours))
    true = folder(tmp_path / "gt", maps(16, 2)[list(theirs)], list(theirs))
    found = scored(pred, true, metrics="cc")
    assert list(found.videos[0].numbers) == scored_frames
    want = evaluate({"a": torch.tensor(maps(16, 1)[scored_frames])},
                    {"a": torch.tensor(maps(16, 2)[scored_frames])}, metrics="cc")  # fmt: skip
    torch.testing.assert_close(found.per_video("cc"), want.per_video("cc"))


@pytest.mark.parametrize(
    ("ours", "theirs", "line"),
    [
        ((0, 1, 2), (0, 1, 2, 3), "0003.npy: no prediction of frame 3"),
        ((0, 1, 2, 3), (0, 1, 2), "000003.npz: no truth of frame 3"),
        ((0, 1, 3, 4), (0, 1, 2, 3, 4), "0002.npy: no prediction of frame 2"),
        ((0, 1, 2, 3), (1, 2, 3, 4), "000000.npz: no truth of frame 0"),
        ((0, 1), (5, 6), "maps: frames 0 to 1"),
        ((0, 2, 4), tuple(range(8)), "0001.npy: no prediction of frame 1"),
    ],
)
def test_other_frames_are_refused_unless_a_part_is_meant(tmp_path, ours, theirs, line):
    pred = prediction(tmp_path / "pred", maps(len(ours)), list(ours))
    true = folder(tmp_path / "gt", maps(len(theirs)), list(theirs))
    with pytest.raises(ValueError, match=line):
        scored(pred, true)
    both = sorted(set(ours) & set(theirs))
    if both:
        found = scored(pred, true, part=True)
        assert list(found.videos[0].numbers) == both and any("scored" in n for n in found.notes)
    if len(ours) == len(theirs):
        assert scored(pred, true, by="position").frames == len(ours)


def test_a_prediction_of_a_folder_of_frames_is_paired_by_position(tmp_path):
    """`sal360 predict frames/` counts pictures from 0, whatever numbers are in their names."""
    pred = prediction(tmp_path / "pred", PRED, kind="folder")
    true = folder(tmp_path / "gt", TRUE, [1, 2, 3, 4])
    assert scored(pred, true).videos[0].numbers == (1, 2, 3, 4)


def test_an_unfinished_prediction_is_told(tmp_path):
    pred = prediction(tmp_path / "pred", PRED, status="interrupted")
    found = scored(pred, folder(tmp_path / "gt", TRUE))
    assert any("unfinished" in note for note in found.notes)


def test_many_notes_are_few_lines(tmp_path):
    for k in range(6):
        prediction(tmp_path / "pred" / f"v{k}", maps(3, k), [0, 2, 4])
        folder(tmp_path / "gt" / f"v{k}", maps(6, k + 10))
    found = scored(tmp_path / "pred", tmp_path / "gt", metrics="cc")
    assert found.notes == ("v0: 3 frames scored, of 3 maps and 6 of truth", "5 more such notes")


def test_sizes_are_compared_before_any_video_is_scored(tmp_path, monkeypatch):
    from sal360.evaluation import scoring

    monkeypatch.setattr(scoring, "_scored", None)  # would fail if it were called
    for k, size in enumerate(((H, W), (8, 16))):
        folder(tmp_path / "pred" / f"v{k}", maps(2, k, size))
        folder(tmp_path / "gt" / f"v{k}", maps(2, k + 10))
    with pytest.raises(ValueError, match="v1: maps of 8 x 16"):
        scored(tmp_path / "pred", tmp_path / "gt")


def test_a_truth_may_lie_in_a_folder_named_maps(tmp_path):
    pred = folder(tmp_path / "pred" / "clip", PRED)
    true = folder(tmp_path / "gt" / "maps", TRUE)
    assert scored(pred, true.parent).frames == 4


# --- conventions ---------------------------------------------------------------------------------


def test_shares_of_pixels_are_recognised_and_can_be_named(tmp_path):
    shares = (PRED * AREA).astype(np.float32)
    pred, true = folder(tmp_path / "pred", shares), folder(tmp_path / "gt", TRUE)
    with pytest.raises(ValueError, match=r"0000.npy: sums to 1 over its pixels .* --values"):
        scored(pred, true)
    want = evaluate({"a": torch.tensor(PRED)}, {"a": torch.tensor(TRUE)})
    found = evaluate(open_predictions(pred, "shares"), open_truth(true))
    torch.testing.assert_close(found.per_video("cc"), want.per_video("cc"), atol=1e-6, rtol=0)
    scaled = evaluate(open_predictions(pred, "density"), open_truth(true))
    assert abs(float(scaled.per_video("cc") - want.per_video("cc"))) > 1e-3


def test_what_says_density_must_be_one(tmp_path):
    pred, true = folder(tmp_path / "p", 2 * PRED, kind="npz"), folder(tmp_path / "gt", TRUE)
    with pytest.raises(ValueError, match=r"0000.npz: says density, but its mass .* is 2, wanted 1"):
        scored(pred, true)
    evaluate(open_predictions(pred, "density"), open_truth(true))
    scored(folder(tmp_path / "any", 2 * PRED), true)  # a plain array claims nothing
    scored(folder(tmp_path / "half", PRED.astype(np.float16), kind="npz"), true)


def test_sizes_must_agree_unless_one_is_asked_for(tmp_path):
    pred = folder(tmp_path / "pred", maps(4, 1, (8, 16)))
    true = folder(tmp_path / "gt", TRUE)
    with pytest.raises(ValueError, match="pred: maps of 8 x 16, but .*gt has 16 x 32"):
        scored(pred, true)
    assert scored(pred, true, size=(8, 16)).frames == 4
    assert scored(pred, true, size=(20, 40)).frames == 4


# --- data sets -----------------------------------------------------------------------------------

SOME = {"sphere360": "001", "vr-eyetracking": "001", "salient360": "1_Synthetic",
        "avtrack360": "1", "wild360": "synthetic001_1"}  # fmt: skip


@pytest.mark.parametrize("layout", SOME)
def test_a_data_set_is_the_truth(tmp_path, layout):
    root = layout_sets.made(layout)
    before = layout_sets.fingerprint(root)
    dataset = open_dataset(root)
    video = SOME[layout]
    numbers = [int(n) for n in Truths(dataset).numbers(video)]
    item = dataset.read(video)
    pred = prediction(tmp_path / video, maps(len(numbers), 3, item.size), numbers)
    found = scored(pred, root)
    known = layout not in ("wild360", "vr-eyetracking")
    assert ("nss" in found.metrics) == known and "cc" in found.metrics
    want = evaluate({video: torch.tensor(maps(len(numbers), 3, item.size))}, {video: item})
    for name in found.metrics:
        torch.testing.assert_close(
            found.per_video(name), want.per_video(name), rtol=1e-5, atol=1e-6, equal_nan=True
        )
    assert any("8 bits" in note for note in found.notes) == (layout == "vr-eyetracking")
    assert layout_sets.fingerprint(root) == before


def test_a_data_set_of_16_bits_is_not_told_to_have_8(tmp_path):
    root = layout_sets.copied("vr-eyetracking", tmp_path)
    for k, path in enumerate(sorted((root / "saliency_maps/001").iterdir())):
        assert cv2.imwrite(str(path), grey(maps(8, 4, layout_sets.SIZE)[k], 16))
    frames = maps(layout_sets.FRAMES, 3, layout_sets.SIZE)
    pred = folder(tmp_path / "001", frames, range(0, 4 * layout_sets.FRAMES, 4))
    assert not any("8 bits" in note for note in scored(pred, root).notes)


def test_truth_from_fixations_is_drawn_at_the_size_of_the_predictions(tmp_path):
    root = layout_sets.made("avtrack360")
    pred = prediction(tmp_path / "2", maps(layout_sets.FRAMES, 3, (10, 20)))
    assert scored(pred, root).frames == layout_sets.FRAMES
    root = layout_sets.made("vr-eyetracking")
    pred = folder(tmp_path / "002", maps(layout_sets.FRAMES, 3, (10, 20)))
    with pytest.raises(ValueError, match="maps of 10 x 20, but .* has 32 x 64"):
        scored(pred, root, by="position")
    assert scored(pred, root, by="position", size=(10, 20)).frames == layout_sets.FRAMES


def test_a_split_and_a_layout_can_be_named(tmp_path):
    root = layout_sets.made("wild360")
    truth = open_truth(root, split="test")
    assert truth.videos == ("synthetic001_1",)
    with pytest.raises(ValueError, match="^.*wild360: split: 'best'"):
        open_truth(root, split="best")
    with pytest.raises(ValueError, match="has no splits|no split"):
        open_truth(layout_sets.made("avtrack360"), split="test")
    with pytest.raises(ValueError, match="layout: 'mine'"):
        open_truth(root, layout="mine")


def test_a_prediction_is_told_from_a_truth(tmp_path):
    pred, root = prediction(tmp_path / "pred", PRED), layout_sets.made("sphere360")
    for wrong in (pred, pred.parent, pred / "maps", pred / "maps" / "000000.npz"):
        with pytest.raises(ValueError, match="wrong way round"):
            evaluate({"pred": PRED}, open_truth(wrong))
    with pytest.raises(ValueError, match="a data set .*wrong way round"):
        open_predictions(root)


def test_a_record_may_name_anything_and_nothing_is_run(tmp_path):
    pred = prediction(tmp_path / "pred", PRED)
    record = json.loads((pred / "record.json").read_text())
    record["source"] = ["not", "a", "dict"]
    (pred / "record.json").write_text(json.dumps(record))
    assert scored(pred, folder(tmp_path / "gt", TRUE)).frames == 4


def test_one_map_can_be_held_for_a_whole_video(tmp_path):
    pred = prediction(tmp_path / "pred", PRED[:1], kind="image")
    true = folder(tmp_path / "gt", TRUE)
    with pytest.raises(ValueError, match=r"maps: 1 map, wanted 4 .*--hold keeps it for all"):
        scored(pred, true)
    found = scored(pred, true, hold=True)
    want = evaluate({"a": torch.tensor(PRED[0])}, {"a": torch.tensor(TRUE)})
    torch.testing.assert_close(found.per_video("cc"), want.per_video("cc"))
