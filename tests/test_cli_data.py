"""``sal360 data make`` and ``sal360 data verify``: what they print, and how they end."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from sal360.cli import main
from sal360.datasets.layouts import open_dataset
from tests.layout_sets import NAMES, copied, fingerprint, made


def run(capsys, *arguments):
    """Status, lines on standard output, lines on standard error."""
    status = main(["data", *map(str, arguments)])
    told = capsys.readouterr()
    return status, told.out.splitlines(), told.err.splitlines()


@pytest.mark.parametrize("layout", NAMES)
def test_make_writes_a_data_set_that_verifies_and_opens(layout, tmp_path, capsys):
    out = tmp_path / "toy"
    status, _, err = run(
        capsys, "make", "--layout", layout, out, "--videos", 2, "--seconds", "0.5",
        "--size", "16x32", "--seed", 3,
    )  # fmt: skip
    assert status == 0 and err[-1] == f"sal360: {out}: written" and len(err) == 3
    status, lines, err = run(capsys, "verify", out)
    assert status == 0 and err == []
    assert lines[0].startswith(f"layout {layout}: ") and lines[-1].endswith("usable")
    data = open_dataset(out)
    assert len(data.videos) == 2 and data.read(data.videos[0]).frames.shape == (4, 3, 16, 32)


def test_make_leaves_what_is_there_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("x")
    status, out, err = run(capsys, "make", "--layout", "sphere360", tmp_path)
    assert (status, out) == (2, []) and len(err) == 1
    assert "is not an empty folder; left alone" in err[0]
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["make", "OUT"], "--layout"),
        (["make", "--layout", "imagenet", "OUT"], "layout: 'imagenet', wanted one of sphere360"),
        (["make", "--layout", "sphere360", "OUT/deep"], "no such folder"),
        (["make", "--layout", "sphere360", "OUT", "--size", "15x30"], "size: 15x30, wanted even"),
        (["make", "--layout", "sphere360", "OUT", "--size", "big"], "wanted height x width"),
        (["make", "--layout", "sphere360", "OUT", "--videos", "0"], "--videos"),
        (["make", "--layout", "sphere360", "OUT", "--seconds", "0"], "--seconds"),
        (["make", "--layout", "sphere360", "OUT", "--seconds", "99999"], "seconds: 99999"),
        (["verify", "OUT"], "no such folder"),
        (["verify", "HERE"], "looks like none of the layouts"),
        (["verify", "HERE", "--layout", "kitti"], "layout: 'kitti', wanted one of"),
        (["verify"], "PATH"),
        (["verify", "HERE/file.txt"], "not a folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, says, tmp_path, capsys):
    here = tmp_path / "here"
    here.mkdir()
    (here / "file.txt").write_text("x")
    filled = [a.replace("OUT", str(tmp_path / "out")).replace("HERE", str(here)) for a in arguments]
    status, out, err = run(capsys, *filled)
    assert status == 2 and out == [] and len(err) == 1 and err[0].startswith("sal360: ")
    assert says in err[0]
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


def test_verify_names_every_file_in_its_own_line_and_ends_with_1(tmp_path, capsys):
    root = copied("vr-eyetracking", tmp_path)
    (root / "frames/001/001_0008.png").write_bytes(b"")
    (root / "optical_flow/002/002_0004.png").unlink()
    (root / "frames/001/odd\nname.png").write_bytes(b"x")
    before = fingerprint(root)
    status, lines, err = run(capsys, "verify", root)
    assert status == 1 and err == [] and fingerprint(root) == before
    found = [line.split(None, 2)[:2] for line in lines[1:-1]]
    assert found == [
        ["surplus", "frames/001/odd?name.png:"],
        ["broken", "frames/001/001_0008.png:"],
        ["missing", "optical_flow/002/002_0004.png:"],
    ]
    assert "1 missing, 1 broken, 1 surplus; not usable as it is" in lines[-1]
    status, lines, _ = run(capsys, "verify", root, "--json")
    told = json.loads("\n".join(lines))
    assert status == 1 and told["usable"] is False and told["schema"] == "sal360/verify/1"
    assert told["counts"] == {"missing": 1, "broken": 1, "inconsistent": 0, "surplus": 1, "note": 0}
    assert {f["path"] for f in told["findings"]} >= {"frames/001/001_0008.png"}


def test_surplus_and_notes_alone_end_with_0(tmp_path, capsys):
    root = copied("sphere360", tmp_path)
    (root / "001" / "thumbs.db").write_text("x")
    status, lines, _ = run(capsys, "verify", root)
    assert status == 0 and any(line.startswith("surplus") for line in lines)
    assert any(line.startswith("note") for line in lines)


def test_another_layout_may_be_named(capsys):
    status, lines, _ = run(capsys, "verify", made("sphere360"), "--layout", "vr-eyetracking")
    assert status == 1 and lines[0] == "layout vr-eyetracking: as requested"
    assert lines[1].startswith("missing       frames: ")


def test_ctrl_c_leaves_nothing_half_made(tmp_path):
    command = [sys.executable, "-m", "sal360", "data", "make", "--layout", "sphere360"]
    command += [str(tmp_path / "toy"), "--videos", "500", "--size", "32x64"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "sal360: video 001\n"
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130 and rest.endswith("sal360: interrupted\n")
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def test_help_reads_like_documentation(capsys):
    for arguments in (["--help"], ["make", "--help"], ["verify", "--help"]):
        status, lines, _ = run(capsys, *arguments)
        assert status == 0 and max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    for words in ("Exit status: 0", "missing, broken and inconsistent", "Nothing is written"):
        assert words in text


def test_making_again_after_removing(tmp_path, capsys):
    for _ in range(2):
        status, _, _ = run(
            capsys, "make", "--layout", "wild360", tmp_path / "t", "--videos", 1, "--seconds",
            0.3, "--size", "16x32",
        )  # fmt: skip
        assert status == 0
        shutil.rmtree(tmp_path / "t")
