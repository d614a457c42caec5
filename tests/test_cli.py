"""The command line on real files: what it writes, what it says, what it refuses."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sal360.baselines import MeanMap, front_density
from sal360.cli import main
from sal360.datasets.synthetic import render_clip
from sal360.gaze import fixation_maps, leave_one_out
from sal360.images import read_image, write_image
from sal360.inference import predict_frames, predict_video
from sal360.models import load_model
from sal360.models.registry import save_weights
from sal360.results import PredictionFolder
from sal360.sphere import pixel_area
from sal360.video import VideoWriter, probe, read_frames
from tests.test_video import encode


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """24 frames of the embedded world at 24 frames/s, 64 x 128, H.264."""
    path = tmp_path_factory.mktemp("film") / "discs.mp4"
    frames = (render_clip(24, 64, 128).frames.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    with VideoWriter(path, fps=24) as video:
        for frame in frames:
            video.write(frame)
    return path


def predict(*arguments):
    return main(["predict", *map(str, arguments), "--model", "motion"])


def test_a_video_becomes_maps_pictures_overlay_and_record(film, tmp_path):
    assert predict(film, "--out", tmp_path, "--fps", 8, "--size", "60x120") == 0
    folder = PredictionFolder(tmp_path / "discs")
    assert folder.frames() == list(range(0, 24, 3))
    for index in folder.frames():
        density, stamp = folder.read_map(index)
        assert density.shape == (60, 120) and density.dtype == np.float32
        assert abs(stamp - index / 24) < 1e-3
        assert abs(float((density * pixel_area(60, 120).numpy()[:, None]).sum()) - 1) < 1e-4
        grey = read_image(tmp_path / "discs" / "png" / f"{index:06d}.png")
        assert grey.max() == 255
        assert np.abs(grey[..., 0] / 255 - density / density.max()).max() < 0.003
    record = folder.read_record()
    assert record["status"] == "complete" and record["maps"] == 8
    assert record["source"]["stereo"] == "mono" and len(record["source"]["sha256"]) == 64
    overlay = probe(tmp_path / "discs" / "overlay.mp4")
    assert (overlay.codec, overlay.frames, overlay.width, overlay.height) == ("h264", 24, 128, 64)
    assert overlay.spherical is not None


def test_the_overlay_is_bright_where_the_map_is(film, tmp_path):
    predict(film, "--out", tmp_path)
    folder = PredictionFolder(tmp_path / "discs")
    plain = next(iter(read_frames(film))).rgb.astype(int)
    shown = next(iter(read_frames(tmp_path / "discs" / "overlay.mp4"))).rgb.astype(int)
    change = np.abs(shown - plain).sum(-1).astype(float)
    density = folder.read_map(0)[0]
    h, w = density.shape
    peak = np.unravel_index(density.argmax(), density.shape)
    row, col = int((peak[0] + 0.5) / h * 64), int((peak[1] + 0.5) / w * 128)
    assert change[row, col] > 4 * np.median(change)


@pytest.mark.parametrize("fps", ["source", "1000"])
def test_every_frame_on_request(film, tmp_path, fps):
    assert predict(film, "--out", tmp_path, "--fps", fps, "--no-overlay") == 0
    assert PredictionFolder(tmp_path / "discs").frames() == list(range(24))
    assert not (tmp_path / "discs" / "overlay.mp4").exists()


def test_a_part_of_the_film(film, tmp_path):
    assert predict(film, "--out", tmp_path, "--start", 0.25, "--seconds", 0.5, "--fps", 12) == 0
    assert PredictionFolder(tmp_path / "discs").frames() == [6, 8, 10, 12, 14, 16]
    assert probe(tmp_path / "discs" / "overlay.mp4").frames == 12


def test_pictures_folders_and_several_inputs(tmp_path, capsys):
    rgb = (render_clip(1, 40, 80).frames[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    (tmp_path / "shots").mkdir()
    write_image(tmp_path / "still.png", rgb)
    for k in (1, 2, 10):
        write_image(tmp_path / "shots" / f"shot{k}.jpg", np.roll(rgb, k, 1))
    out = tmp_path / "out"
    assert predict(tmp_path / "still.png", tmp_path / "shots", "--out", out) == 0
    assert PredictionFolder(out / "still").frames() == [0]
    assert read_image(out / "still" / "overlay.jpg").shape == (40, 80, 3)
    shots = PredictionFolder(out / "shots")
    assert shots.frames() == [0, 1, 2] and probe(out / "shots" / "overlay.mp4").frames == 3
    assert "3 pictures, taken as 8 frames/s" in capsys.readouterr().err


def test_nothing_is_written_beside_the_input_and_inputs_of_one_name_get_two_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "same.png", np.full((16, 32, 3), 90, np.uint8))
    out = tmp_path / "out"
    assert predict(tmp_path / "a/same.png", tmp_path / "b/same.png", "--out", out) == 0
    assert sorted(p.name for p in out.iterdir()) == ["same", "same-2"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["same.png"]


def test_an_existing_prediction_is_kept_unless_forced(film, tmp_path, capsys):
    assert predict(film, "--out", tmp_path, "--no-overlay") == 0
    before = (tmp_path / "discs/record.json").read_bytes()
    assert predict(film, "--out", tmp_path) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--force writes over it" in message
    assert (tmp_path / "discs/record.json").read_bytes() == before
    assert predict(film, "--out", tmp_path, "--fps", 4, "--force", "--no-overlay") == 0
    assert PredictionFolder(tmp_path / "discs").frames() == [0, 6, 12, 18]


def test_force_leaves_a_folder_alone_that_is_not_ours(film, tmp_path, capsys):
    (tmp_path / "discs").mkdir()
    (tmp_path / "discs/diary.txt").write_text("mine")
    assert predict(film, "--out", tmp_path, "--force") == 2
    assert "left alone" in capsys.readouterr().err
    assert (tmp_path / "discs/diary.txt").read_text() == "mine"


def test_a_prior_by_its_name_or_its_file(film, tmp_path, capsys):
    mean = tmp_path / "mean.safetensors"
    save_weights(MeanMap(front_density(60, 120)), mean)
    for k, (prior, name) in enumerate((("equator-front", "equator-front"), (mean, "mean-map"))):
        out = tmp_path / str(k)
        more = ("--size", "60x120", "--fps", 2, "--no-overlay", "--out", out)
        assert predict(film, "--prior", prior, "--prior-power", 1.5, *more) == 0
        kept = PredictionFolder(out / "discs").read_record()["settings"]["prior"]
        assert kept["name"] == name and kept["power"] == 1.5
        assert (kept["sha256"] is not None) == (name == "mean-map")
    maps = [PredictionFolder(tmp_path / k / "discs").read_map(0)[0] for k in ("0", "1")]
    assert np.allclose(*maps, rtol=1e-4)
    capsys.readouterr()
    for wrong in (("--prior", "horizon"), ("--prior-power", "1"),
                  ("--prior", "equator", "--prior-power", "-1"), ("--prior", film)):  # fmt: skip
        assert predict(film, "--out", tmp_path / "no", *wrong) == 2
        told = capsys.readouterr().err
        assert told.strip().count("\n") == 0 and "Traceback" not in told, told
    assert not (tmp_path / "no").exists()


def test_interrupt_keeps_finished_maps_and_resume_gives_the_same_numbers(film, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["predict", str(film), "--model", "motion", "--fps", "source", "--no-overlay"]
    assert main([*arguments, "--out", str(whole)]) == 0
    # A process that is interrupted after five maps, as Ctrl-C would.
    code = (
        "import os, signal, sys\n"
        "from sal360.results import PredictionFolder as F\n"
        "keep = F.write_map\n"
        "def write(self, index, *rest):\n"
        "    keep(self, index, *rest)\n"
        "    if index == 4: os.kill(os.getpid(), signal.SIGINT)\n"
        "F.write_map = write\n"
        "from sal360.cli import main\n"
        f"sys.exit(main({[*arguments, '--out', str(cut)]!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 130, run.stderr
    assert "--resume goes on from there" in run.stderr and "Traceback" not in run.stderr
    folder = PredictionFolder(cut / "discs")
    assert folder.frames() == [0, 1, 2, 3, 4]
    assert folder.read_record()["status"] == "interrupted"
    assert main([*arguments, "--out", str(cut), "--fps", "4", "--resume"]) == 2  # other settings
    assert main([*arguments, "--out", str(cut), "--resume"]) == 0
    assert folder.read_record()["status"] == "complete" and folder.read_record()["maps"] == 24
    for index in range(24):
        a, b = (PredictionFolder(p / "discs").read_map(index)[0] for p in (whole, cut))
        assert np.array_equal(a, b), index


def test_ctrl_c_from_outside(film, tmp_path):
    """A real signal to a real process, while it predicts."""
    command = [sys.executable, "-m", "sal360", "predict", str(film), "--fps", "source"]
    command += ["--model", "motion", "--size", "1000x2000", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    maps = tmp_path / "discs" / "maps"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(maps.glob("*.npz")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    folder = PredictionFolder(tmp_path / "discs")
    assert all(folder.read_map(k)[0].shape == (1000, 2000) for k in folder.frames())


def test_an_interrupted_overlay_is_not_taken_for_a_whole_one(film, tmp_path):
    arguments = ["predict", str(film), "--model", "motion", "--out", str(tmp_path)]
    code = (
        "import os, signal, sys\n"
        "from sal360.video import VideoWriter as V\n"
        "keep = V.write\n"
        "def write(self, *told):\n"
        "    keep(self, *told)\n"
        "    if self.frames == 5: os.kill(os.getpid(), signal.SIGINT)\n"
        "V.write = write\n"
        "from sal360.cli import main\n"
        f"sys.exit(main({arguments!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 130 and "Traceback" not in run.stderr, run.stderr
    folder = tmp_path / "discs"
    assert not list(folder.glob("*.mp4")) and not list(folder.glob(".*"))
    assert PredictionFolder(folder).read_record()["status"] != "complete"
    assert main([*arguments, "--resume"]) == 0
    assert probe(folder / "overlay.mp4").frames == 24
    assert PredictionFolder(folder).read_record()["status"] == "complete"


@pytest.mark.parametrize("writer", ["sal360.video.VideoWriter.write", "os.replace"])
def test_what_a_kill_left_half_written_goes_when_it_is_resumed(writer, film, tmp_path):
    module, _, name = writer.rpartition(".")
    arguments = ["predict", str(film), "--model", "motion", "--out", str(tmp_path), *SMALL[:2]]
    code = (
        "import os, signal, sys, sal360.cli, sal360.results, sal360.video\n"
        f"keep, calls = {writer}, []\n"
        "def write(*told):\n"
        "    if len(calls) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    calls.append(keep(*told))\n"
        f"{module}.{name} = write\n"
        f"sys.exit(sal360.cli.main({arguments!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [path for path in tmp_path.rglob(".*")]
    assert main([*arguments, "--resume"]) == 0
    assert not [path for path in tmp_path.rglob(".*")]


@pytest.mark.parametrize("fps", [2400, 1e-4])
def test_frames_may_be_taken_at_any_rate(fps, tmp_path):
    """Faster than a film can be written, and one in three hours."""
    for k in range(4):
        (tmp_path / "shots").mkdir(exist_ok=True)
        write_image(tmp_path / "shots" / f"{k}.png", np.full((16, 32, 3), 50 * k, np.uint8))
    told = ["--out", tmp_path / "out", "--size", "8x16", "--fps", fps]
    assert predict(tmp_path / "shots", *told) == 0
    film = tmp_path / "out" / "shots" / "overlay.mp4"
    found = np.array([frame.time for frame in read_frames(film)])
    assert np.allclose(found * fps, range(4), atol=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_whose_rate_varies_keeps_its_times(suffix, film, tmp_path):
    """Three pictures of a second each, then 21 at 24 a second: 4 seconds, not 24 even steps."""
    times = [0.0, 1.0, 2.0, *(3 + k / 24 for k in range(21))]
    pictures = [frame.rgb for frame in read_frames(film)]
    path = encode(tmp_path / f"uneven.{suffix}", pictures, times=[round(1e3 * t) for t in times])
    assert np.allclose([f.time for f in read_frames(path)], times, atol=2e-3)
    assert predict(path, "--out", tmp_path, "--fps", "source", "--size", "8x16") == 0
    made = tmp_path / "uneven"
    assert np.allclose([f.time for f in read_frames(made / "overlay.mp4")], times, atol=0.02)
    for shown in (path, made):
        page = tmp_path / "page.html"
        assert main(["view", str(shown), "--out", str(page), "--force"]) == 0
        held = re.search(r"data:video/mp4;base64,([^\"]+)", page.read_text())
        (tmp_path / "held.mp4").write_bytes(base64.b64decode(held[1]))
        found = [f.time for f in read_frames(tmp_path / "held.mp4")]
        assert np.allclose(found, times, atol=0.02)


def test_a_try_that_fails_does_not_block_the_next(film, tmp_path):
    assert predict(film, "--out", tmp_path, "--start", 0.99, "--seconds", 0.001) == 2
    assert predict(film, "--out", tmp_path, "--start", 99) == 2
    assert list(tmp_path.iterdir()) == []
    assert predict(film, "--out", tmp_path, "--no-overlay") == 0


def test_a_picture_that_is_not_two_to_one_is_remarked_on(tmp_path, capsys):
    write_image(tmp_path / "square.png", np.full((60, 60, 3), 90, np.uint8))
    assert predict(tmp_path / "square.png", "--out", tmp_path / "out") == 0
    assert "60 x 60 is not 2:1" in capsys.readouterr().err


BAD = [
    (["predict"], "INPUTS"),
    (["predict", "none.mp4"], "none.mp4: no such file"),
    (["predict", "{tmp}/text.mp4"], "text.mp4"),
    (["predict", "{tmp}/empty"], "without pictures"),
    (["predict", "{tmp}/text.png"], "text.png: not a picture"),
    (["predict", "{film}", "--model", "gpt"], "wanted one of"),
    (["predict", "{film}", "--fps", "0"], "--fps"),
    (["predict", "{film}", "--fps", "fast"], "--fps"),
    (["predict", "{film}", "--size", "10"], "--size"),
    (["predict", "{film}", "--size", "100000x200000"], "at most"),
    (["predict", "{tmp}/text.png", "--start", "1"], "text.png"),
    (["predict", "{film}", "--start", "99"], "99"),
    (["predict", "{film}", "--seconds", "-1"], "--seconds"),
    (["predict", "{film}", "--stereo", "vr"], "--stereo"),
    (["predict", "{film}", "--device", "toaster"], "--device toaster"),
    (["predict", "{film}", "--device", "meta"], "--device meta"),
    (["predict", "{film}", "--force", "--resume"], "exclude each other"),
    (["predict", "{film}", "--model", "equator", "--weights", "official"], "has none"),
    (["predict", "{film}", "--model", "sst-sal", "--weights", "{film}"], "not a torch zip"),
    (["overlay", "{tmp}"], "record.json: no such file"),
    (["view", "none.jpg"], "none.jpg: no such file"),
    (["view", "{film}", "--out", "{tmp}/none/v.html"], "no such folder"),
    (["data", "download", "samples/none.jpg"], "not in the registry"),
    (["nonsense"], "No such command"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_one_line_and_exit_2(arguments, said, film, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    filled = [a.format(tmp=tmp_path, film=film) for a in arguments]
    if filled[:1] == ["predict"] and len(filled) > 1 and "--model" not in filled:
        filled += ["--model", "motion"]
    if filled[:1] == ["predict"]:
        filled += ["--out", str(tmp_path / "out")]
    assert main(filled) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line]
    assert out == "" and said in lines[-1] and lines[-1].startswith("sal360: ")
    assert len(lines) <= 2  # at most the description of the input before it


def test_a_broken_frame_in_a_folder_is_named(tmp_path, capsys):
    for k in range(3):
        write_image(tmp_path / f"f{k}.png", np.full((16, 32 + 2 * (k == 2), 3), 9, np.uint8))
    assert predict(tmp_path, "--out", tmp_path / "out") == 2
    assert "f2.png: 34 x 16 pixels, wanted 32 x 16" in capsys.readouterr().err


def test_info_lists_models_and_versions(capsys):
    assert main(["info", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"sst-sal", "sst-sal-noflow", "equator", "motion"} <= set(report["models"])
    assert main(["info"]) == 0
    assert "sst-sal-noflow" in capsys.readouterr().out


def test_help_answers_for_every_command(capsys):
    for command in ([], ["predict"], ["overlay"], ["view"], ["data"], ["data", "list"], ["info"]):
        assert main([*command, "--help"]) == 0
        assert "Usage: sal360" in capsys.readouterr().out


def test_view_makes_a_page_that_needs_no_network(film, tmp_path):
    predict(film, "--out", tmp_path)
    for source in (tmp_path / "discs", film):
        page = tmp_path / "v.html"
        assert main(["view", str(source), "--out", str(page), "--force"]) == 0
        text = page.read_text()
        assert "data:video/mp4;base64," in text and 'src="http' not in text
    assert main(["view", str(film), "--out", str(tmp_path / "v.html")]) == 2


def test_overlay_again_with_another_look(film, tmp_path):
    predict(film, "--out", tmp_path)
    before = (tmp_path / "discs/overlay.mp4").read_bytes()
    assert main(["overlay", str(tmp_path / "discs")]) == 2
    look = ["--opacity", "0.2", "--colormap", "cividis", "--force"]
    assert main(["overlay", str(tmp_path / "discs"), *look]) == 0
    assert (tmp_path / "discs/overlay.mp4").read_bytes() != before


@pytest.mark.real
@pytest.mark.parametrize("model", ["sst-sal", "sst-sal-noflow"])
def test_the_hot_spot_sits_on_the_walking_gorilla(real, tmp_path, model):
    """The gorilla's back was read off the frames: longitude -107 at 1.1 s, -130 at 5 s."""
    real("weights/SST_Sal.pth")
    video = real("samples/congo_2048.mp4")
    for start, lon in ((0.0, -107), (4.0, -128)):
        out = tmp_path / f"{start:g}"
        arguments = ["predict", str(video), "--model", model, "--weights", "official"]
        arguments += ["--stereo", "tb", "--start", str(start), "--seconds", "1.2"]
        assert main([*arguments, "--out", str(out), "--no-overlay"]) == 0
        folder = PredictionFolder(out / "congo_2048")
        assert len(folder.frames()) == 9
        density = folder.read_map(folder.frames()[-1])[0]
        i, j = np.unravel_index(density.argmax(), density.shape)
        found = (j + 0.5) / 480 * 360 - 180, 90 - (i + 0.5) / 240 * 180
        assert abs(found[0] - lon) < 14 and abs(found[1]) < 14, found


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads peak memory from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path):
    """Peak memory of a film and of one ten times as long, each in its own process."""
    frame = (render_clip(1, 64, 128).frames[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    peaks = []
    for count in (60, 600):
        path = tmp_path / f"{count}.mp4"
        with VideoWriter(path, fps=30) as video:
            for k in range(count):
                video.write(np.roll(frame, k, axis=1))
        code = (
            "import resource, sys; from sal360.cli import main\n"
            f"main(['predict', {str(path)!r}, '--model', 'motion', '--fps', 'source',"
            f" '--out', {str(tmp_path / 'out')!r}])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peaks.append(int(run.stdout.split()[-1]) / 1024)
    assert peaks[1] < peaks[0] + 60, peaks  # MiB; holding the maps would add 237


def test_a_mean_map_needs_the_file_it_is_in(film, tmp_path, capsys):
    assert main(["predict", str(film), "--out", str(tmp_path), "--model", "mean-map"]) == 2
    assert "mean-map: wanted --weights FILE" in capsys.readouterr().err


def test_weights_and_priors_are_known_by_what_they_hold_not_by_where(film, tmp_path, monkeypatch):
    mean, other = tmp_path / "m.safetensors", tmp_path / "n.safetensors"
    save_weights(MeanMap(front_density(8, 16)), mean)
    save_weights(MeanMap(front_density(8, 16, 30.0)), other)
    more = ("--size", "8x16", "--no-overlay", "--out", tmp_path / "out", "--model", "mean-map")

    def again(weights, prior):
        given = ("--weights", weights, "--prior", prior, "--resume")
        return main([*map(str, ("predict", film, *more, *given))])

    assert again(mean, mean) == 0
    monkeypatch.chdir(tmp_path)
    assert again("m.safetensors", "./m.safetensors") == 0
    assert again(other, mean) == 2
    assert again(mean, other) == 2


# --- what careful students broke ---


SMALL = ("--size", "8x16", "--no-overlay")


def test_one_process_at_a_time_writes_into_a_prediction(film, tmp_path, capsys):
    folder = PredictionFolder(tmp_path / "discs")
    with folder.alone():
        for more in ((), ("--force",), ("--resume",)):
            assert predict(film, "--out", tmp_path, *SMALL, *more) == 2
            assert "another process is writing into it" in capsys.readouterr().err
    assert not folder.path.exists()  # it was new, and nothing was written
    assert predict(film, "--out", tmp_path, *SMALL) == 0


def test_a_prediction_that_is_written_over_is_kept_from_others(film, tmp_path, monkeypatch):
    from sal360._files import alone

    assert predict(film, "--out", tmp_path, *SMALL) == 0
    write, kept = PredictionFolder.write_map, []

    def intruded(self, *what):
        with pytest.raises(BlockingIOError, match="another process"), alone(self.path):
            pass
        kept.append(what[0])
        write(self, *what)

    monkeypatch.setattr(PredictionFolder, "write_map", intruded)
    assert predict(film, "--out", tmp_path, *SMALL, "--force") == 0 and kept


def test_the_source_of_a_picture_is_never_written_over(film, tmp_path, capsys):
    mine = tmp_path / "mine.mp4"
    mine.write_bytes(film.read_bytes())
    assert predict(mine, "--out", tmp_path, *SMALL) == 0
    (tmp_path / "link.mp4").symlink_to(mine)
    record = tmp_path / "mine" / "record.json"
    for command in (
        ["overlay", tmp_path / "mine", "--out", mine],
        ["overlay", tmp_path / "mine", "--out", tmp_path / "link.mp4"],
        ["overlay", tmp_path / "mine", "--out", record],
        ["view", tmp_path / "mine", "--out", mine],
        ["view", mine, "--out", mine],
    ):
        before = mine.read_bytes(), record.read_bytes()
        assert main([*map(str, command), "--force"]) == 2
        assert "is read for this" in capsys.readouterr().err
        assert (mine.read_bytes(), record.read_bytes()) == before
    assert main(["view", str(mine), "--out", str(tmp_path)]) == 2
    assert "a folder, wanted a file" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 100])
def test_a_broken_map_is_told_and_predicted_again(size, film, tmp_path, capsys):
    assert predict(film, "--out", tmp_path, *SMALL) == 0
    maps = sorted((tmp_path / "discs" / "maps").glob("*.npz"))
    whole = maps[1].read_bytes()
    maps[1].write_bytes(whole[:size])
    page = tmp_path / "page.html"
    assert main(["view", str(tmp_path / "discs"), "--out", str(page)]) == 2
    assert f"{maps[1]}: not a map of sal360" in capsys.readouterr().err and not page.exists()
    assert main(["overlay", str(tmp_path / "discs")]) == 2
    assert f"{maps[1]}: not a map of sal360" in capsys.readouterr().err
    assert predict(film, "--out", tmp_path, *SMALL, "--resume") == 0
    again, stamp = PredictionFolder(tmp_path / "discs").read_map(int(maps[1].stem))
    maps[1].write_bytes(whole)
    density, time_there = PredictionFolder(tmp_path / "discs").read_map(int(maps[1].stem))
    assert np.array_equal(again, density) and stamp == time_there


def test_hidden_files_are_no_films(film, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(film.read_bytes())
    (folder / "._a.mp4").write_bytes(b"what a Mac leaves on a stick")
    assert predict(folder, "--out", tmp_path / "out", *SMALL) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_no_work_is_begun_that_cannot_all_be_done(film, tmp_path, capsys):
    other = tmp_path / "other.mp4"
    other.write_bytes(film.read_bytes())
    (tmp_path / "out" / "other").mkdir(parents=True)
    (tmp_path / "out" / "other" / "note.txt").write_text("mine")
    assert predict(film, other, "--out", tmp_path / "out", *SMALL) == 2
    assert "not empty" in capsys.readouterr().err
    assert not (tmp_path / "out" / "discs").exists()


def test_the_page_of_a_prediction_may_be_short(film, tmp_path):
    assert predict(film, "--out", tmp_path, *SMALL) == 0
    sizes = []
    for seconds in (0.1, 20):
        page = tmp_path / f"{seconds}.html"
        told = ["view", tmp_path / "discs", "--out", page, "--seconds", seconds]
        assert main([*map(str, told)]) == 0
        sizes.append(page.stat().st_size)
    assert sizes[1] > sizes[0] + 2000


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "a record without source"),
        ({"source": 5, "model": {}, "settings": {}}, "a record without source"),
        ({"source": {"path": "a"}, "model": {}, "settings": {}}, "(fps, kind, stereo)"),
    ],
)
def test_a_record_that_says_too_little(record, said, film, tmp_path, capsys):
    folder = tmp_path / "discs"
    folder.mkdir()
    text = json.dumps({"schema": "sal360/prediction/1", **record})
    (folder / "record.json").write_text(text)
    again = ["predict", film, "--out", tmp_path, "--model", "motion", "--resume"]
    for command in (["view", folder], ["overlay", folder], again):
        assert main([*map(str, command)]) == 2
        assert said in capsys.readouterr().err
    assert (folder / "record.json").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "nan"], "wanted a number"),
        (["--size", "1x33554432"], "wanted at most 33554432 pixels, 32768 on a side"),
        (["--size", "100000x200000"], "wanted at most 33554432 pixels, 32768 on a side"),
        (["--start", "1e308"], "has no frame from"),
    ],
)
def test_numbers_beyond_all_measure(arguments, said, film, tmp_path, capsys):
    assert predict(film, "--out", tmp_path, *arguments) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") <= 2
    assert predict(film, "--out", tmp_path, *SMALL, "--seconds", 1e308) == 0


def test_a_part_of_a_folder_is_that_of_a_film(film, tmp_path):
    """24 pictures taken at 24 a second, and the film of them."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for frame in read_frames(film):
        write_image(folder / f"{frame.index}.png", frame.rgb)
    parts = [(0, 0.25), (0.1, 0.25), (0.25, 1e-3), (0.9, 9), (0, float("inf"))]
    for start, seconds in parts:
        told = ["--start", start, "--seconds", seconds, "--no-overlay", "--force"]
        assert predict(film, "--out", tmp_path, "--fps", "source", *told) == 0
        assert predict(folder, "--out", tmp_path / "f", "--fps", 24, *told) == 0
        wanted = PredictionFolder(tmp_path / "discs").frames()
        assert PredictionFolder(tmp_path / "f" / "shots").frames() == wanted, (start, seconds)
    assert predict(folder, "--out", tmp_path / "g", "--fps", "source", "--no-overlay") == 0
    made = PredictionFolder(tmp_path / "g" / "shots")
    assert len(made.frames()) == 24 and made.read_record()["source"]["fps"] == 8
    model = load_model("equator")
    for wrong in ({"fps": -8}, {"fps": 0}, {"start": -1}, {"start": float("inf")}, {"seconds": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: found"):
            predict_video(folder, model, tmp_path / "h", **wrong)
    assert not (tmp_path / "h").exists()


def test_films_of_a_pixel(tmp_path, capsys):
    path = tmp_path / "dot.png"
    write_image(path, np.full((1, 2, 3), 90, np.uint8))
    assert predict(path, "--out", tmp_path / "out", "--stereo", "tb") == 2
    assert "cannot hold two eyes" in capsys.readouterr().err
    assert predict(path, "--out", tmp_path / "out", "--stereo", "mono", *SMALL) == 0


def test_an_overlay_in_no_format(tmp_path, capsys):
    path = tmp_path / "still.png"
    write_image(path, np.full((16, 32, 3), 90, np.uint8))
    assert predict(path, "--out", tmp_path / "out", *SMALL) == 0
    for name in ("foo", "foo.xyz"):
        out = ["overlay", str(tmp_path / "out" / "still"), "--out", str(tmp_path / name)]
        assert main(out) == 2
        assert "wanted .png or .jpg" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_an_overlay_is_told_by_its_own_name(film, tmp_path, capsys):
    assert predict(film, "--out", tmp_path, *SMALL) == 0
    said = {"a.avi": "a film, wanted a name that ends in .mp4", "none/a.mp4": "No such file"}
    for name, wanted in said.items():
        path = tmp_path / name
        assert main(["overlay", str(tmp_path / "discs"), "--out", str(path)]) == 2
        assert f"sal360: {path}: {wanted}" in capsys.readouterr().err
        assert not path.exists()


def test_the_page_of_a_prediction_has_its_eyes(film, tmp_path, capsys):
    assert predict(film, "--out", tmp_path, *SMALL) == 0
    view = ["view", str(tmp_path / "discs"), "--out", str(tmp_path / "a.html")]
    assert main([*view, "--stereo", "tb"]) == 2
    assert "--stereo tb" in capsys.readouterr().err and not (tmp_path / "a.html").exists()
    assert main([*view, "--stereo", "mono"]) == 0


def _started(arguments, **settings):
    command = [sys.executable, "-m", "sal360", *map(str, arguments)]
    return subprocess.Popen(command, cwd=os.getcwd(), **settings)


def test_whoever_reads_us_may_leave(film, tmp_path):
    """`sal360 info | head -1` is no failure, and a closed stderr stops no work."""
    told = _started(["info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told.stdout.close()
    assert told.wait(60) == 0 and b"Traceback" not in told.stderr.read()
    reading, writing = os.pipe()
    os.close(reading)
    deaf = _started(["predict", film, "--model", "motion", "--out", tmp_path, *SMALL],
                    stderr=writing, stdout=subprocess.DEVNULL)  # fmt: skip
    os.close(writing)
    assert deaf.wait(120) == 0
    assert PredictionFolder(tmp_path / "discs").read_record()["status"] == "complete"


def test_sigterm_leaves_nothing_half_written(film, tmp_path):
    assert predict(film, "--out", tmp_path, "--size", "8x16") == 0
    folder = tmp_path / "discs"
    before = {path.name for path in folder.iterdir()}
    film_bytes = (folder / "overlay.mp4").read_bytes()
    script = (
        "import sys, time, sal360.rendering as r\n"
        "from sal360.cli import main\n"
        "blend = r.blend\n"
        "def slow(*a):\n"
        "    print('on', flush=True); time.sleep(0.2); return blend(*a)\n"
        "r.blend = slow\n"
        "sys.exit(main(['overlay', sys.argv[1], '--force']))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    assert running.stdout.readline() == b"on\n"
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 143
    assert {path.name for path in folder.iterdir()} == before
    assert (folder / "overlay.mp4").read_bytes() == film_bytes


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda film, out: predict_frames(np.zeros((2, 3, 8, 16), np.uint8), None),
         TypeError, "model: NoneType"),
        (lambda film, out: predict_frames(np.zeros((2, 3, 8, 16), np.uint8), "equator"),
         TypeError, "model: 'equator'"),
        (lambda film, out: predict_frames(None, load_model("equator")), TypeError, "frames: "),
        (lambda film, out: predict_video(film, None, out), TypeError, "model: NoneType"),
        (lambda film, out: predict_video(film, load_model("equator"), out, size="8x16"),
         TypeError, "size: '8x16'"),
        (lambda film, out: predict_video(film, load_model("equator"), out, fps="x"),
         TypeError, "fps: 'x'"),
        (lambda film, out: predict_video(film, load_model("equator"), out, start=None),
         TypeError, "start: None"),
        (lambda film, out: predict_video(film, load_model("equator"), out, stereo="q"),
         ValueError, "stereo: 'q'"),
        (lambda film, out: load_model("equator", 5), TypeError, "weights: 5"),
        (lambda film, out: next(read_frames(film, size=5)), TypeError, "size: found 5"),
        (lambda film, out: next(read_frames(film, fps="8")), TypeError, "fps: found '8'"),
        (lambda film, out: VideoWriter(out, fps="30"), TypeError, "fps: found '30'"),
        (lambda film, out: leave_one_out(None, 8, 16), TypeError, "observers: NoneType"),
        (lambda film, out: fixation_maps(None, 8, 16, 5.0), TypeError, "fixations: NoneType"),
    ],
)  # fmt: skip
def test_what_is_no_argument_is_named(call, kind, said, film, tmp_path):
    with pytest.raises(kind, match=f"^{said}"):
        call(film, tmp_path / "out")
    assert not list(tmp_path.iterdir())
