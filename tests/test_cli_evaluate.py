"""``sal360 evaluate`` on files: its tables, its exit status, and one line for everything broken."""

import csv
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sal360.cli import main
from sal360.evaluation import evaluate
from sal360.evaluation.command import evaluate_paths
from sal360.images import write_image
from tests import layout_sets
from tests.test_evaluation_files import AREA, H, W, film, folder, grey, maps, prediction

PRED, TRUE = maps(3, 1), maps(3, 2)


@pytest.fixture
def pair(tmp_path):
    """A prediction and its truth: three frames of one video."""
    return prediction(tmp_path / "clip", PRED), folder(tmp_path / "gt", TRUE)


def run(*arguments):
    return main(["evaluate", *map(str, arguments)])


def test_a_table_to_read(pair, capsys):
    assert run(*pair) == 0
    out, err = capsys.readouterr()
    want = evaluate({"a": torch.tensor(PRED)}, {"a": torch.tensor(TRUE)})
    for name in ("cc", "sim", "kld"):
        assert f"| {name} | " in out and f"| {want.mean(name).mean:.3f} | none: one video" in out
    assert "1 video, 3 frames; pixels weighed by solid angle" in out and "nss" not in out
    assert err == ""


def test_tables_for_programs_and_a_second_predictor(tmp_path, capsys):
    for k in range(7):
        prediction(tmp_path / "good" / f"v{k}", 0.5 * maps(3, k) + 0.5 * maps(3, k + 50))
        prediction(tmp_path / "poor" / f"v{k}", maps(3, k + 100))
        folder(tmp_path / "gt" / f"v{k}", maps(3, k))
    both = (tmp_path / "good", tmp_path / "gt", "--against", tmp_path / "poor")
    assert run(*both) == 0
    page = capsys.readouterr().out
    assert "### good minus poor" in page and "| 0.0156 | good |" in page
    assert "| v6 | " in page and "7 videos, 21 frames" in page
    assert run(*both, "--format", "json", "--metrics", "CC,sim") == 0
    stored = json.loads(capsys.readouterr().out)
    assert stored["schema"] == "sal360/evaluation/1" and stored["settings"]["seed"] == 0
    assert stored["comparison"]["cc"]["p"] == 2.0**-6 and stored["comparison"]["cc"]["exact"]
    assert list(stored["evaluations"][0]["metrics"]) == ["cc", "sim"]
    assert run(*both, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    means = {r["predictor"]: float(r["cc"]) for r in rows if r["level"] == "mean"}
    difference = next(float(r["cc"]) for r in rows if r["level"] == "difference")
    assert difference == pytest.approx(means["good"] - means["poor"], abs=1e-6)


def test_against_is_scored_on_the_frames_that_both_have(tmp_path, capsys):
    prediction(tmp_path / "a", maps(8, 1))
    prediction(tmp_path / "b", maps(8, 2)[::2], list(range(0, 8, 2)))
    folder(tmp_path / "gt", maps(8, 3))
    assert run(tmp_path / "a", tmp_path / "gt", "--against", tmp_path / "b") == 0
    assert "1 video, 4 frames" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_table(pair, capsys):
    for _ in range(2):
        assert run(*pair, "--format", "json", "--seed", 3) == 0
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]


@pytest.mark.parametrize(
    ("name", "start"),
    [("t.md", "### clip"), ("t.json", "{"), ("t.csv", "predictor,"), ("t", "### clip")],
)
def test_out_is_written_whole_and_never_over_a_file(pair, tmp_path, capsys, name, start):
    out = tmp_path / name
    assert run(*pair, "--out", out) == 0
    assert out.read_text().startswith(start) and "written" in capsys.readouterr().err
    before = out.read_bytes()
    assert run(*pair, "--out", out, "--metrics", "cc") == 2
    assert out.read_bytes() == before and "exists; --force" in capsys.readouterr().err
    assert run(*pair, "--out", out, "--metrics", "cc", "--force") == 0
    assert out.read_bytes() != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip", "gt", name]


@pytest.mark.parametrize("kind", ["pipe", "loop", "dangling"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_out_is_a_regular_file_or_none(pair, tmp_path, capfd, kind, force):
    out = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(out)
    else:
        out.symlink_to({"loop": "loop", "dangling": "nowhere"}[kind])

    def state():  # but for the time of the last access: following a link is one
        found = os.lstat(out)
        return (*found[:7], found.st_mtime_ns)

    before = state()
    assert run(*pair, "--out", out, *force) == 2
    assert f"{out}: no regular file" in capfd.readouterr().err
    assert state() == before and not (tmp_path / "nowhere").exists()


def test_out_may_have_a_long_name(pair, tmp_path):
    out = tmp_path / ("x" * 250 + ".md")
    assert run(*pair, "--out", out) == 0 and out.read_text().startswith("### clip")


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_a_name_that_is_no_text_is_written_escaped(pair, tmp_path, capfd, form):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/cl\xffip")
    os.rename(pair[0], odd)
    assert run(odd, pair[1], "--out", tmp_path / f"t.{form}") == 0
    told = "cl?ip" if form == "md" else "cl\\udcffip"
    assert told in (tmp_path / f"t.{form}").read_text("utf-8")
    text, _ = evaluate_paths(Path(odd), pair[1], format=form)
    assert text.encode("utf-8") == (tmp_path / f"t.{form}").read_bytes()


def test_nothing_is_written_into_the_inputs(pair, capsys):
    before = [layout_sets.fingerprint(path) for path in pair]
    assert run(*pair) == 0
    for path in pair:
        assert run(*pair, "--out", path / "scores.md") == 2
        assert "lies in the input" in capsys.readouterr().err
    assert [layout_sets.fingerprint(path) for path in pair] == before


def test_eight_bits_are_told(tmp_path, capsys):
    pred = folder(tmp_path / "clip", PRED, kind="png")
    true = folder(tmp_path / "gt", TRUE, kind="png")
    assert run(pred, true) == 0
    out = capsys.readouterr().out
    assert "predictions in 8 bits" in out and "truth in 8 bits" in out and "kld" in out
    assert run(pred, true, "--format", "csv") == 0
    assert "note: truth in 8 bits" in capsys.readouterr().err


def test_other_settings(pair, capsys):
    from sal360 import metrics

    assert run(*pair, "--weighting", "pixels", "--metrics", "cc", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)["evaluations"][0]["metrics"]["cc"]["mean"]
    want = metrics.cc(torch.tensor(PRED), torch.tensor(TRUE), "pixels").mean()
    assert found == pytest.approx(float(want), abs=1e-6)
    assert run(*pair, "--resize", "8x16", "--eps", "0.01", "--level", "0.9") == 0
    assert "90 % interval" in capsys.readouterr().out


def test_help_reads_like_documentation(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    from sal360.evaluation import METRICS

    for name, card in METRICS.items():
        line = next(text for text in out.splitlines() if name in text)
        assert card.better in line or name == "auc_borji"
    assert "Exit status" in out and max(map(len, out.splitlines())) <= 100
    commands = [line for line in out.splitlines() if line.startswith("  sal360 evaluate ")]
    assert len(commands) >= 3


def test_a_data_set_as_truth(tmp_path, capsys):
    root = layout_sets.made("avtrack360")
    pred = prediction(tmp_path / "1", maps(layout_sets.FRAMES, 3))
    assert run(pred, root, "--baseline", "equator") == 0
    out = capsys.readouterr().out
    assert "| nss | higher |" in out and "avtrack360" in out


# --- everything that can be wrong ----------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/sal360-evaluate-ran-code",)


def first(path):
    return path / "maps" / "000000.npz"


def rewrite(path, **arrays):
    np.savez(path, **arrays)
    return path


def _lying_header(pred, true):
    path = true / "0001.npy"
    path.write_bytes(path.read_bytes().replace(b"(16, 32)", b"(91, 32)"))
    return path


def _truncated(pred, true):
    path = true / "0002.npy"
    path.write_bytes(path.read_bytes()[:-50])
    return path


def _pickled(pred, true):
    path = true / "0001.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    return path


def _pickle_as_npz(pred, true):
    first(pred).write_bytes(pickle.dumps(Bomb()))
    return first(pred)


def _nothing(pred, true):
    first(pred).write_bytes(b"")
    return first(pred)


def _npy(name, make):
    def damage(pred, true):
        np.save(true / "0001.npy", make(TRUE[1]))
        return true / "0001.npy"

    damage.__name__ = name
    return damage


def _npz(name, **arrays):
    def damage(pred, true):
        return rewrite(first(pred), **{"index": 0, "time": 0.0, **arrays})

    damage.__name__ = name
    return damage


def _negative(pred, true):
    return rewrite(first(pred), density=PRED[0] - 0.2, index=0, time=0.0)


def _nan(pred, true):
    wrong = PRED[0].copy()
    wrong[3, 4] = np.nan
    return rewrite(first(pred), density=wrong, index=0, time=0.0)


def _other_size(pred, true):
    return rewrite(pred / "maps" / "000001.npz", density=maps(1, size=(8, 16))[0], index=1, time=0)


def _all_other_size(pred, true):
    for k, map_ in enumerate(maps(3, size=(8, 16))):
        rewrite(pred / "maps" / f"{k:06d}.npz", density=map_, index=k, time=0.0)
    return pred / "maps"


def _missing_frame(pred, true):
    (pred / "maps" / "000001.npz").unlink()
    return true / "0001.npy"


def _extra_frame(pred, true):
    np.savez(pred / "maps" / "000003.npz", density=PRED[0], index=3, time=0.4)
    return pred / "maps" / "000003.npz"


def _no_record(pred, true):
    (pred / "record.json").unlink()
    return pred / "record.json"


def _record_broken(pred, true):
    (pred / "record.json").write_text("{")
    return pred / "record.json"


def _record_of_another_kind(pred, true):
    (pred / "record.json").write_text('{"schema": "theirs"}')
    return pred / "record.json"


def _record_nested_deeply(pred, true):
    (pred / "record.json").write_text("[" * 100_000)
    return pred / "record.json"


def _folder_for_a_map(pred, true):
    (true / "0001.npy").unlink()
    (true / "0001.npy").mkdir()
    return pred / "maps" / "000001.npz"


def _no_maps(pred, true):
    shutil.rmtree(pred / "maps")
    return pred / "maps"


def _empty_truth(pred, true):
    shutil.rmtree(true)
    true.mkdir()
    return true


def _no_truth(pred, true):
    shutil.rmtree(true)
    return true


def _text(pred, true):
    shutil.rmtree(true)
    true.write_text("the truth")
    return true


def _picture_cut(pred, true):
    shutil.rmtree(true)
    folder(true, TRUE, kind="png")
    path = true / "0002.png"
    path.write_bytes(path.read_bytes()[:-20])
    return path


def _picture_is_text(pred, true):
    shutil.rmtree(true)
    folder(true, TRUE, kind="jpg")
    (true / "0000.jpg").write_text("no picture")
    return true / "0000.jpg"


def _colour(pred, true):
    shutil.rmtree(true)
    folder(true, TRUE, kind="png")
    rgb = np.stack([grey(TRUE[1]), 255 - grey(TRUE[1]), grey(TRUE[0])], 2)
    write_image(true / "0001.png", rgb)
    return true / "0001.png"


def _two_kinds(pred, true):
    write_image(true / "0000.png", grey(TRUE[0]))
    return true


def _same_number(pred, true):
    np.save(true / "other_0001.npy", TRUE[1])
    return true / "other_0001.npy"


def _no_number(pred, true):
    np.save(true / "map.npy", TRUE[1])
    return true / "map.npy"


def _film_cut(pred, true):
    shutil.rmtree(true)
    true.mkdir()
    path = film(true / "clip.mp4", TRUE)
    path.write_bytes(path.read_bytes()[:300])
    return path


def _film_longer(pred, true):
    shutil.rmtree(true)
    true.mkdir()
    film(true / "clip.mp4", maps(5))
    return pred / "maps"


def _film_of_text(pred, true):
    shutil.rmtree(true)
    true.mkdir()
    (true / "clip.mp4").write_text("no film")
    return true / "clip.mp4"


def _all_zero(pred, true):
    for k in range(3):
        np.save(true / f"{k:04d}.npy", -TRUE[k])
    return true / "0000.npy"


def _link_to_nothing(pred, true):
    (true / "0001.npy").unlink()
    (true / "0001.npy").symlink_to(true / "gone.npy")
    return true / "0001.npy"


def _maps_and_folders(pred, true):
    folder(true / "more", TRUE)
    return true


def _fixations_in_degrees(pred, true):
    for k in range(3):
        (true / f"{k:04d}.npy").unlink()
        np.savez(true / f"{k:04d}.npz", density=TRUE[k], fixations=np.array([[10.0, 45.0]]))
    return true / "0000.npz"


DAMAGE = (
    _lying_header, _truncated, _pickled, _pickle_as_npz, _nothing, _negative, _nan, _other_size,
    _all_other_size, _missing_frame, _extra_frame, _no_record, _record_broken,
    _record_of_another_kind, _record_nested_deeply, _folder_for_a_map, _no_maps,
    _empty_truth, _no_truth, _text, _picture_cut, _picture_is_text, _colour, _two_kinds,
    _same_number, _no_number, _film_cut, _film_longer,
    _film_of_text, _all_zero, _link_to_nothing, _maps_and_folders, _fixations_in_degrees,
    _npy("_text_array", lambda m: np.array(["a", "b"])),
    _npy("_complex", lambda m: m.astype(complex)),
    _npy("_three_maps_in_a_frame", lambda m: np.stack([m] * 3)),
    _npy("_one_row", lambda m: m[0]),
    _npy("_no_pixels", lambda m: m[:, :0]),
    _npy("_infinite", lambda m: np.where(m > 0.2, np.inf, m)),
    _npy("_shares_of_pixels", lambda m: m * AREA),
    _npz("_other_number", density=PRED[0], index=7),
    _npz("_number_nan", density=PRED[0], index=np.nan),
    _npz("_number_infinite", density=PRED[0], index=np.inf),
    _npz("_mass_of_two", density=2 * PRED[0]),
    _npz("_pixel_shares", density=(PRED[0] * AREA).astype(np.float32)),
    _npz("_no_map_in_it"),
    _npz("_two_maps_in_it", first=PRED[0], second=PRED[1]),
    _npz("_a_vector", density=PRED[0][0]),
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__.strip("_"))
def test_broken_and_mismatched_input_gets_one_line_with_its_path(pair, capfd, damage):
    culprit = damage(*pair)
    assert run(*pair) == 2
    out, err = capfd.readouterr()
    lines = err.strip().splitlines()
    assert out == "" and len(lines) == 1, err
    assert lines[0].startswith("sal360: ") and str(culprit) in lines[0] and "Traceback" not in err
    assert len(lines[0]) < 500
    assert not os.path.exists("/tmp/sal360-evaluate-ran-code")


def _hostile_vinfo(root):
    (root / "vinfo.pkl").write_bytes(pickle.dumps({"001": Bomb()}))
    return root / "vinfo.pkl"


def _map_cut(root):
    path = root / "Wild360_GT_29" / "synthetic001_1.mp4" / "00003.npy"
    path.write_bytes(path.read_bytes()[:99])
    return path


def _map_missing(root):
    path = root / "saliency_maps" / "001" / "0008.png"
    path.unlink()
    return path


def _table_of_words(root):
    path = next((root / "HE" / "Scanpaths" / "L").glob("1_*.csv"))
    path.write_text("Idx, longitude, latitude, start timestamp\n0, left, up, 3\n")
    return path


def _traces_cut(root):
    path = root / "Head_rotation" / "3.json"
    path.write_text(path.read_text()[:200])
    return path


@pytest.mark.parametrize(
    ("layout", "video", "damage"),
    [
        ("sphere360", "001", _hostile_vinfo),
        ("wild360", "synthetic001_1", _map_cut),
        ("vr-eyetracking", "001", _map_missing),
        ("salient360", "1_Synthetic", _table_of_words),
        ("avtrack360", "1", _traces_cut),
    ],
)
def test_a_damaged_data_set_gets_one_line_with_its_path(tmp_path, capfd, layout, video, damage):
    root = layout_sets.copied(layout, tmp_path)
    size = layout_sets.SIZE
    frames = [4 * k if layout == "vr-eyetracking" else k for k in range(layout_sets.FRAMES)]
    frames = [k + 1 for k in frames] if layout == "sphere360" else frames
    pred = prediction(tmp_path / video, maps(len(frames), size=size), frames)
    assert run(pred, root, "--metrics", "cc") == 0
    capfd.readouterr()
    culprit = damage(root)
    assert run(pred, root, "--metrics", "cc") == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and str(culprit) in err, err
    assert not os.path.exists("/tmp/sal360-evaluate-ran-code")


def swapped(pred, true, more):
    return [true, pred]


def twice(pred, true, more):
    return [pred, pred]


def same_by_another_name(pred, true, more):
    link = more / "link"
    link.symlink_to(pred)
    return [pred, link]


def a_data_set_first(pred, true, more):
    return [layout_sets.made("wild360"), pred]


def a_data_set_twice(pred, true, more):
    return [layout_sets.made("wild360"), true]


def nothing_there(pred, true, more):
    return [more / "gone", true]


def against_itself(pred, true, more):
    return [pred, true, "--against", pred]


def against_the_truth(pred, true, more):
    return [pred, true, "--against", true]


def against_nothing(pred, true, more):
    return [pred, true, "--against", more / "gone"]


def against_another_size(pred, true, more):
    other = prediction(more / "other", maps(3, size=(8, 16)))
    return [pred, true, "--against", other]


def not_in_the_data_set(pred, true, more):
    return [pred, layout_sets.made("avtrack360")]


def videos_missing(pred, true, more):
    for name in ("a", "b", "c"):
        folder(more / "gt" / name, TRUE)
    for name in ("a", "b"):
        prediction(more / "preds" / name, PRED)
    return [more / "preds", more / "gt"]


def videos_too_many(pred, true, more):
    for name in ("a", "b", "c"):
        prediction(more / "preds" / name, PRED)
    for name in ("a", "b"):
        folder(more / "gt" / name, TRUE)
    return [more / "preds", more / "gt"]


def fixations_missing(pred, true, more):
    return [pred, true, "--metrics", "cc,nss"]


def one_video_for_sauc(pred, true, more):
    return [pred, true, "--metrics", "sauc"]


def a_split_of_no_data_set(pred, true, more):
    return [pred, true, "--split", "test"]


def a_layout_of_no_data_set(pred, true, more):
    return [pred, true, "--layout", "wild360"]


def out_is_a_folder(pred, true, more):
    return [pred, true, "--out", more]


def out_lies_nowhere(pred, true, more):
    return [pred, true, "--out", more / "gone" / "t.md"]


def a_python_file(pred, true, more):
    path = more / "maps.py"
    path.write_text("import os")
    return [path, true]


WRONG = (
    swapped, twice, same_by_another_name, a_data_set_first, a_data_set_twice, nothing_there,
    against_itself, against_the_truth, against_nothing, against_another_size, not_in_the_data_set,
    videos_missing, videos_too_many, fixations_missing, one_video_for_sauc, a_split_of_no_data_set,
    a_layout_of_no_data_set, out_is_a_folder, out_lies_nowhere, a_python_file,
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: w.__name__)
def test_arguments_that_do_not_belong_together_get_one_line(pair, tmp_path, capfd, wrong):
    more = tmp_path / "more"
    more.mkdir()
    arguments = wrong(*pair, more)
    assert run(*arguments) == 2
    out, err = capfd.readouterr()
    lines = err.strip().splitlines()
    assert out == "" and len(lines) == 1, err
    assert lines[0].startswith("sal360: ")
    assert str(tmp_path) in lines[0] or "sal360-layouts" in lines[0]
    if "swapped" in wrong.__name__ or wrong is a_data_set_first:
        assert "wrong way round" in err


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (("--metrics", "cc,best"), "metrics: 'best', wanted one of cc"),
        (("--metrics", ","), "metrics: none"),
        (("--eps", "1"), "--eps"),
        (("--resize", "10"), "wanted height x width"),
        (("--weighting", "area"), "--weighting"),
        (("--layout", "mine"), "layout: 'mine'"),
        (("--level", "0"), "--level"),
        (("--seed", "99999999999999999999"), "--seed"),
        (("--format", "html"), "--format"),
    ],
)
def test_options_that_cannot_be_get_one_line(pair, capfd, option, line):
    assert run(*pair, *option) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and line in err


def _target(kind, pred, true):
    """A file of this kind among the inputs."""
    if kind == "npz":
        return first(pred)
    if kind == "json":
        return pred / "record.json"
    if kind == "npy":
        return true / "0001.npy"
    shutil.rmtree(true)
    if kind == "mp4":
        true.mkdir()
        return film(true / "clip.mp4", TRUE)
    return folder(true, TRUE, kind=kind) / f"0001.{kind}"


@pytest.mark.parametrize("kind", ["npz", "json", "npy", "png", "jpg", "mp4"])
def test_random_bytes_never_end_in_a_traceback(pair, capfd, kind):
    """Bytes changed at random, the end cut off: scored, or one line and status 2."""
    pred, true = pair
    generator = np.random.default_rng(0)
    path = _target(kind, pred, true)
    whole = path.read_bytes()
    for k in range(30 if kind == "npz" else 12):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 1 + generator.integers(30)):
            data[place] = generator.integers(256)
        end = generator.integers(1, len(data) + 1) if k % 2 else len(data)
        path.write_bytes(bytes(data[:end]))
        status = run(pred, true, "--metrics", "cc")
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if line.startswith("sal360: ")]
        assert status in (0, 2) and "Traceback" not in err, err
        assert status == 0 or (len(lines) == 1 and str(pred.parent) in lines[0]), err
        if kind in ("npz", "json", "npy"):  # decoders of pictures and films grumble by themselves
            assert len(err.splitlines()) == len(lines), err


def test_interrupted(pair, monkeypatch, capfd):
    from sal360.evaluation import scoring

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "_scored", stop)
    assert run(*pair, "--out", pair[0].parent / "t.md") == 130
    assert capfd.readouterr().err.strip() == "sal360: interrupted"
    assert not (pair[0].parent / "t.md").exists()


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path):
    np.save(tmp_path / "pred.npy", np.ones((400, 128, 256), np.float32))
    np.save(tmp_path / "gt.npy", np.ones((400, 128, 256), np.float32))
    command = [sys.executable, "-c", (
        "import sys, sal360.cli as c; from sal360.evaluation import scoring as s\n"
        "real = s._scored\n"
        "def slow(*a):\n print('started', flush=True); import time; time.sleep(60)\n"
        "s._scored = slow; sys.exit(c.main(sys.argv[1:]))"
    ), "evaluate", "pred.npy", "gt.npy", "--out", "t.md"]  # fmt: skip
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.strip().splitlines()[-1] == "sal360: interrupted"
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gt.npy", "pred.npy"]


assert (H, W) == (16, 32)
