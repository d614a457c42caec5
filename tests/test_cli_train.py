"""`sal360 train`: what it leaves, how it ends, and that its own line makes the same bytes again."""

import errno
import importlib
import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys

import pytest
import torch

from sal360 import _files
from sal360.cli import main
from sal360.models import load_model
from sal360.training import command, report, summary
from sal360.training.command import _recipe, parse_settings, read_recipe
from sal360.training.fit import Step
from sal360.training.records import load_record, save_record
from sal360.training.shell_line import command_of
from sal360.training.validation import mean_scores

SMALL = ("--scale", "fast", "--set", "size=[16, 32]", "--set", "model.hidden=4", "--steps", "4",
         "--data", "worlds:train:2:1.5", "--validation", "worlds:val:2:0.75",
         "--validate-every", "2")  # fmt: skip


def train(*words, out):
    return main(["train", "sst-sal-noflow", *SMALL, "--out", str(out), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "deep" / "run"
    assert train("--tensorboard", out=out) == 0
    return out


def test_a_run_leaves_weights_record_curves_and_table(run):
    assert sorted(p.name for p in run.iterdir()) == [
        "best.safetensors", "checkpoint.safetensors", "curve.png", "last.safetensors",
        "record.json", "table.md", "tensorboard",
    ]  # fmt: skip
    record = load_record(run / "record.json")
    assert record["status"] == "done" and record["steps"] == 4
    assert [v["step"] for v in record["validations"]] == [2, 4]
    assert record["data"]["spec"] == "worlds:train:2:1.5"
    assert list(record["scores"]) == ["val-0000", "val-0001"]
    model = load_model("sst-sal-noflow", run / "best.safetensors")
    assert model.settings["hidden"] == 4 and model.input_size == (16, 32)
    assert (run / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_baselines_stand_in_the_same_table(run):
    record = load_record(run / "record.json")
    text = (run / "table.md").read_text()
    own = mean_scores(record["scores"])
    assert set(record["more"]["baselines"]) == set(summary.BASELINES)
    for means in (own, *record["more"]["baselines"].values()):
        assert all(f"{means[m]:.4f}" in text for m in ("cc", "sim", "kld", "nss"))
    lead = max(record["more"]["baselines"].items(), key=lambda pair: pair[1]["cc"])
    assert lead[1]["cc"] > own["cc"]  # four steps do not beat the equator
    assert f"**{lead[1]['cc']:.4f}**" in text
    assert f"Better than the network: {lead[0]} in cc" in text


def test_names_keep_to_their_line_of_the_table(run):
    record = load_record(run / "record.json")
    record["recipe"]["name"], record["data"]["spec"] = "mine|1", "films\n2"
    record["scores"] = {"a|b": {"cc": 0.1}, "c\nd": {"cc": 0.2}}
    text = summary.table(record)
    assert "Trained on films?2," in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" |")[0] for row in rows if row.startswith(("| mine", "| a", "| c"))] == [
        "| mine\\|1, step 2", "| a\\|b", "| c?d"
    ]  # fmt: skip


def test_tensorboard_has_every_step(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("training/loss")] == [0, 1, 2, 3]
    curve = load_record(run / "record.json")["curve"]["loss"]
    assert [e.value for e in events.Scalars("training/loss")] == pytest.approx(curve, rel=1e-5)
    assert [e.step for e in events.Scalars("validation/cc")] == [2, 4]


@pytest.mark.parametrize(
    "words",
    [
        ("--validate-every", "2"),
        ("--validate-every", "0", "--mix", "1", "--no-exact"),
        ("--validation", "none", "--set", "batch=1", "--mix", "1"),
    ],
)
def test_the_line_of_the_record_makes_the_same_bytes(words, tmp_path):
    run, again = tmp_path / "run", tmp_path / "again"
    assert train(*words, out=run) == 0
    record = load_record(run / "record.json")
    line = shlex.split(command_of(record))
    assert main([*line[line.index("train") :], "--out", str(again)]) == 0
    made = load_record(again / "record.json")
    for entry in ("command", "recipe", "data", "validation", "exact", "weights", "scores"):
        assert made[entry] == record[entry], entry
    assert "best" in made["weights"] or "none" in words


def test_videos_drawn_one_at_a_time_are_another_order(run, tmp_path):
    assert train("--mix", "1", out=tmp_path) == 0
    other, usual = (load_record(path / "record.json") for path in (tmp_path, run))
    assert other["weights"]["last"] != usual["weights"]["last"]
    assert other["data"] == {**usual["data"], "mix": 1} and other["recipe"] == usual["recipe"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_resume_ends_in_the_same_bytes(
    number, status, run, tmp_path, monkeypatch, capsys
):
    def struck(self, step, rate, waiting):
        if step.index == 1:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(report.Bar, "on_step", struck)
        assert train(out=tmp_path) == status
    assert "interrupted after step 2: --resume goes on from there" in capsys.readouterr().err
    assert load_record(tmp_path / "record.json")["status"] == "interrupted"
    assert not (tmp_path / "table.md").exists()
    assert train("--resume", out=tmp_path) == 0
    assert (tmp_path / "last.safetensors").read_bytes() == (run / "last.safetensors").read_bytes()
    assert (
        load_record(tmp_path / "record.json")["scores"]
        == load_record(run / "record.json")["scores"]
    )


def test_a_run_is_not_written_over_unless_that_is_said(run, capsys):
    before = (run / "record.json").read_bytes()
    assert train(out=run) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "holds a run" in line and "resume" in line and "force" in line
    assert train("--resume", "--set", "lr=0.5", out=run) == 2
    assert train("--resume", "--force", out=run) == 2
    assert (run / "record.json").read_bytes() == before
    assert train("--resume", out=run) == 0  # it is done, and says so
    assert "nothing to do" in capsys.readouterr().err


def test_a_run_begun_anew_leaves_no_table_of_the_one_before(run, tmp_path, monkeypatch):
    def struck(self, step, rate, waiting):
        os.kill(os.getpid(), signal.SIGINT)

    out = shutil.copytree(run, tmp_path / "run")
    assert train("--force", "--set", "batch=1000", out=out) == 2  # takes nothing away
    assert (out / "table.md").is_file() and load_record(out / "record.json")["status"] == "done"
    monkeypatch.setattr(report.Bar, "on_step", struck)
    assert train("--force", out=out) == 130
    left = sorted(path.name for path in out.iterdir())
    assert left == ["checkpoint.safetensors", "last.safetensors", "record.json"]


def test_resume_before_the_first_checkpoint_is_of_the_same_run_or_refused(run, tmp_path, capsys):
    out = shutil.copytree(run, tmp_path / "run")
    record = load_record(out / "record.json")
    (out / "checkpoint.safetensors").unlink()  # as if killed before there was any
    save_record(record | {"status": "running"}, out / "record.json")
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert train("--resume", "--set", "lr=0.5", out=out) == 2
    assert "holds a run of another recipe" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    (out / "best.safetensors").write_bytes(b"of the killed run")
    seen = []

    class Looks(report.Bar):
        def on_step(self, step, rate, waiting):
            seen.append(sorted(path.name for path in out.iterdir()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "Bar", Looks)
        assert train("--resume", out=out) == 0
    assert seen[0] == ["record.json"]
    assert (out / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


def test_nothing_is_drawn_into_a_folder_that_another_run_has_taken(run, tmp_path, monkeypatch):
    """Between the last step and the curves somebody says --force."""
    out = tmp_path / "run"

    def taken(*args):
        save_record(load_record(run / "record.json"), out / "record.json")
        (out / "table.md").write_text("theirs")
        return real(*args)

    real = command._left
    monkeypatch.setattr(command, "_left", taken)
    assert train(out=out) == 2
    assert (out / "table.md").read_text() == "theirs"
    assert (out / "record.json").read_bytes() == (run / "record.json").read_bytes()


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
@pytest.mark.parametrize("module", ["numpy._core.getlimits", "torch", "sal360.training.run"])
def test_a_signal_among_imports_is_one_line(module, number, status, line, tmp_path):
    """Torch imports numpy in C, and there an exception that comes in between is forgotten."""
    program = f"""
import os, sys

class Told:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})

sys.meta_path.insert(0, Told())
from sal360.cli import main
sys.exit(main(["train", "sst-sal-noflow", "--scale", "fast", "--steps", "100000", "--data",
               "worlds:train:1:1", "--validation", "none", "--out", {str(tmp_path / "run")!r}]))
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == status, found.stderr
    assert found.stderr.splitlines()[-1] == f"sal360: {line}" or (
        "interrupted after step" in found.stderr.splitlines()[-1]
    )
    assert "Traceback" not in found.stderr


def test_a_signal_is_heard_where_the_command_is_called_by_an_import(tmp_path):
    (tmp_path / "program.py").write_text(
        "import os, signal\n"
        "from sal360 import cli\n"
        "cli._version = lambda name: os.kill(os.getpid(), signal.SIGTERM) or name\n"
        "cli.main(['info'])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", "import program"], capture_output=True, text=True, timeout=120,
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert found.returncode == 143 and found.stderr == "sal360: ended by SIGTERM\n"


def test_an_empty_text_is_no_folder(capsys):
    assert main(["train", "cube-unet", "--out", ""]) == 2
    assert "'--out': an empty text, wanted a path" in capsys.readouterr().err


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    assert train(out=tmp_path / "run") == 2
    assert "No space left" in capsys.readouterr().err.splitlines()[-1]


def test_a_loss_that_is_not_finite_is_one_line_and_keeps_what_was_before(tmp_path, capsys):
    words = ("cube-unet", "--scale", "fast", "--steps", "6", "--set", "size=[16, 32]",
             "--set", "lr=1e37", "--set", "schedule=constant", "--validation", "none",
             "--data", "worlds:train:2:1")  # fmt: skip
    status = main(["train", *words, "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err.splitlines()
    assert status == 1 and "Traceback" not in "".join(told)
    assert "step 1: pred: holds NaN" in told[-1] and str(tmp_path / "run") in told[-1]
    assert load_record(tmp_path / "run" / "record.json")["status"] == "interrupted"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "recipe: None and file None, wanted one of them (spherical-unet"),
        (("vgg",), "name: 'vgg', wanted one of spherical-unet"),
        (("cp360", "--set", "lr"), "--set lr: wanted NAME=VALUE"),
        (("cp360", "--set", "lr=fast"), "overrides lr: 'fast', wanted a number above 0"),
        (("cp360", "--set", "lr=1", "--set", "lr=2"), "--set lr=2: lr is set twice"),
        (("cp360", "--set", "model.depth=3"), "depth: no setting of cp360"),
        (("cp360", "--data", "wrlds"), "data: 'wrlds', wanted [packed=]worlds"),
        (("cp360", "--validation", "worlds:new"), "split 'new', wanted one of train, val, test"),
        (("cp360", "--device", "cuda:77"), "--device cuda:77: not to be had here"),
        (("cp360", "--recipe-file", "x.toml"), "wanted one of them"),
        (("--recipe-file", "none.toml"), "none.toml: No such file"),
        (("cp360", "--steps", "0"), "--steps"),
    ],
)
def test_refusals_are_one_line(words, told, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "--scale", "fast", "--out", str(out), *words]) == 2
    err = capsys.readouterr().err
    assert told in err.splitlines()[-1] and "Traceback" not in err
    assert not out.exists()


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'system = "cube-unet"\n[ours]\nloss = "cc"\nanchor = 0.0\ntarget = "relative"\n'
        'target_scale = 1.0\noptimizer = "sgd"\nlr = 0.1\nmomentum = 0.9\nweight_decay = 0.0\n'
        'schedule = "constant"\ngradient_clip = 0.0\nbatch = 1\nclip_length = 2\ntbptt = 1\n'
        "size = [16, 32]\nsteps = 3\nteacher_forcing = [0.0, 0.0]\nseed = 0\n"
    )
    recipe = read_recipe(None, path, "fast", {"steps": 2})
    assert (recipe.name, recipe.system, recipe.steps) == ("mine", "cube-unet", 2)
    with pytest.raises(ValueError, match="wanted one of them"):
        read_recipe("cp360", path, "fast", {})


def test_settings_are_toml_and_what_is_not_is_a_word():
    assert parse_settings(["a=true", "b=[1, 2]", "c=bf16", 'd="x=y"', "e.f=1e-2", "e.g=-1"]) == {
        "a": True, "b": [1, 2], "c": "bf16", "d": "x=y", "e": {"f": 0.01, "g": -1},
    }  # fmt: skip
    for wrong in ("=1", ".a=1", "a.=1", "a.b.c=1", "a"):
        with pytest.raises(ValueError, match="wanted NAME=VALUE"):
            parse_settings([wrong])
    for twice in (["a=1", "a.b=1"], ["a.b=1", "a=1"], ["a.b=1", "a.b=1"]):
        with pytest.raises(ValueError, match="set twice"):
            parse_settings(twice)


def test_a_run_is_validated_eight_times_unless_told_otherwise():
    def every(settings, **told):
        asked = {"steps": 80, "seed": None, "validate_every": None, "validated": True} | told
        return _recipe("cp360", None, "fast", settings, **asked).validate_every

    assert every({}) == 10 and every({}, steps=3) == 1
    assert every({}, validate_every=0) == 0 and every({"validate_every": 0}) == 0
    assert every({}, validated=False) == 0 and every({"validate_every": 7}) == 7


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal_and_few_lines_elsewhere(monkeypatch):
    record = {"status": "done", "steps": 3, "seconds": 61.0, "throughput": {"clips_per_s": 2.5}}
    found = {}
    for stream in (Terminal(), io.StringIO()):
        bar = report.Bar(3, stream, "x")
        for k in range(3):
            bar.on_step(Step(k, 2.0, 0.1, 1.0), 2.5, 0.25)
        bar.on_validation({"step": 3, "means": {"cc": 0.5}, "best": True})
        bar.on_end(record)
        found[stream.isatty()] = stream.getvalue()
    assert "loss 2, 2.5 clips/s, 25% waiting for data" in found[True]
    assert "3/3" in found[True]
    assert found[False].splitlines() == [
        "x: step 3: cc 0.5000 (best so far)",
        "x: done: 3 steps in 1:01 min, 2.5 clips/s",
    ]
    monkeypatch.setattr(report, "PATIENCE_S", 0.0)
    stream = io.StringIO()
    report.Bar(3, stream, "x").on_step(Step(0, 2.0, 0.1, 1.0), 2.5, 0.25)
    assert stream.getvalue().startswith("x: step 1 of 3: loss 2, 2.5 clips/s, 25% waiting")


def test_tensorboard_that_is_not_installed_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train("--tensorboard", out=tmp_path / "run") == 2
    assert "tensorboard: not installed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_processes_train_by_the_same_line(tmp_path):
    """With the environment that torchrun gives each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "run"
    words = [*SMALL, "--set", "batch=2", "--validate-every", "0", "--steps", "2"]
    line = [sys.executable, "-m", "sal360", "train", "sst-sal-noflow", *words, "--device", "cpu",
            "--out", str(out)]  # fmt: skip
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}  # fmt: skip
    runs = [
        subprocess.Popen(
            line,
            env={**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in "01"
    ]
    try:
        told = [run.communicate(timeout=120)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], told
    record = json.loads((out / "record.json").read_text())
    assert record["device"]["processes"] == 2 and record["status"] == "done"
    assert len(record["scores"]) == 2 and (out / "table.md").is_file()
    assert "torchrun --nproc-per-node 2 -m sal360 train" in command_of(record)
    assert "scored on" in told[0] and told[1] == ""  # one of them speaks


@pytest.mark.parametrize("option", ["--data", "--validation"])
def test_an_empty_word_is_no_data_set(option, tmp_path, capsys):
    """An unset variable of the shell: no other data are taken in its place."""
    assert train(option, "", out=tmp_path / "run") == 2
    assert "data: ''" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "worlds:train:\u00b2:1"), "videos, wanted a whole number of at least 1"),
        (("--data", "worlds:train:4:1e300"), "seconds, wanted a positive number"),
        (("--validation", "worlds:val:99999999999999999999:1"), "wanted a whole number"),
        (("--seed", "18446744073709551616"), "wanted a whole number"),
    ],
)
def test_slips_of_the_finger_get_one_line(words, said, tmp_path, capsys):
    assert train(*words, out=tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["gpu", "cuda", "meta"])
def test_a_device_is_refused_under_torchrun_too(device, tmp_path, monkeypatch, capsys):
    """Of one process: the environment that torchrun gives it."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert train("--device", device, out=tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert f"--device {device}: not to be had here" in told and told.count("\n") == 1


def test_a_network_that_no_machine_holds(tmp_path, capsys):
    told = ["train", "sst-sal", "--scale", "fast", "--set", "model.hidden=100000000"]
    assert main([*told, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "not enough memory" in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_file_as_windows_writes_it(tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xef\xbb\xbf" + b'system = ["a"]\n')
    assert main(["train", "--recipe-file", str(file), "--out", str(tmp_path / "run")]) == 2
    assert "system: ['a'], wanted one of" in capsys.readouterr().err


def test_what_cannot_be_compiled_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    class Refused(RuntimeError):
        __module__ = "torch._inductor.exc"

    def gradients(*_):
        raise Refused("no compiler found\nand a hundred lines of trace")

    loop = importlib.import_module("sal360.training.fit")  # its function has the same name
    monkeypatch.setattr(loop, "gradients", gradients)
    assert train(out=tmp_path / "run") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "compile: torch cannot compile the network here (no compiler found" in last
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    assert train(out=tmp_path / "run") == 0
