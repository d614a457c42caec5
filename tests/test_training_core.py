"""A run from the first step to the record: what a step does, and what is left however it ends."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sal360 import _files
from sal360.datasets.batch import collate
from sal360.models import load_model
from sal360.models.base import FrameModel
from sal360.models.weights import read_weights
from sal360.training import TrainingState, build_model, fit, load_recipe, records, train
from sal360.training.checkpoint import DiskFull, read_checkpoint, write_checkpoint
from sal360.training.fit import rate_at
from sal360.training.folder import RunFolder
from sal360.training.kills import Embedded, differences, outcome
from sal360.training.records import check_record
from sal360.training.state import dice, set_dice, tosses
from sal360.training.stopping import stopping

SIZE = [16, 32]


def recipe(name="cube-unet", **changes):
    usual = {"size": SIZE, "clip_length": 2, "steps": 6, "batch": 2, "lr": 0.01}
    if name == "cube-unet":
        usual["model"] = {"base": 2}
    return load_recipe(name, "fast", usual | changes)


@pytest.fixture(scope="module")
def films():
    return Embedded(4)


@pytest.fixture(scope="module")
def batches(films):
    def one(video, start):
        return collate([films.read(v, start, 2) for v in (video, films.videos[0])])

    return [one(video, start) for video in films.videos for start in (0, 2, 4)]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Told:
    """A report that remembers, and does something after a step."""

    def __init__(self, at=None, do=None):
        self.steps, self.validations, self.records = [], [], []
        self.at, self.do = at, do

    def on_step(self, step, rate, waiting):
        assert rate > 0 and 0 <= waiting <= 1
        self.steps.append(step)
        if step.index + 1 == self.at:
            self.do()

    def on_validation(self, scores):
        self.validations.append(scores)

    def on_end(self, record):
        self.records.append(record)


# --- what a recipe may say ---


def test_what_a_recipe_need_not_say_is_part_of_it_all_the_same():
    usual = recipe().settings()
    assert {"warmup": 0.05, "precision": "fp32", "accumulate": 1, "ema": 0.0, "compile": False,
            "augment": {}, "validate_every": 0, "patience": 0, "monitor": "cc"
            }.items() <= usual.items()  # fmt: skip
    assert recipe(accumulate=1).digest == recipe().digest != recipe(accumulate=2).digest
    turned = recipe(augment={"tilt_deg": 10})
    assert turned.augment == {"yaw": True, "mirror": True, "tilt_deg": 10.0, "colour": 0.0}
    assert turned.digest == recipe(augment={"tilt_deg": 10.0, "yaw": True}).digest


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"compile": 1}, TypeError, "overrides compile: 1, wanted true or false"),
        ({"accumulate": True}, TypeError, "overrides accumulate: True, wanted a whole number"),
        ({"ema": 1}, ValueError, "overrides ema: 1, wanted a number from 0 to below 1"),
        ({"precision": "tf32"}, ValueError, "precision: 'tf32', wanted 'fp32' or 'bf16' or"),
        ({"augment": {"tilt": 1}}, ValueError, "augment tilt: unknown, wanted one of yaw"),
        ({"augment": {"yaw": 1}}, TypeError, "overrides augment.yaw: 1, wanted true or false"),
        ({"augment": {"tilt_deg": 200}}, ValueError, "augment.tilt_deg: 200, wanted degrees"),
        ({"patience": 2}, ValueError, "patience: 2, wanted 0: without validations"),
        ({"monitor": "auc"}, ValueError, "monitor: 'auc', wanted 'cc' or 'kld' or 'nss' or 'sim'"),
    ],
)  # fmt: skip
def test_what_a_recipe_may_not_say(changes, error, message):
    with pytest.raises(error) as caught:
        recipe(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_loss_between_frames_is_taken_whole():
    with pytest.raises(ValueError, match="cp360: precision: 'bf16', wanted 'fp32'"):
        load_recipe("cp360", "fast", {"precision": "bf16"})


# --- a step ---


def test_micro_batches_are_one_batch(batches):
    """Of clips that all have a truth, the mean of means is the mean."""
    one = recipe("sst-sal-noflow", batch=4, steps=1, tbptt=2, model={"hidden": 2})
    many = replace(one, batch=2, accumulate=2)
    whole = build_model(one)  # without batch normalisation, whose statistics are of a micro-batch
    both = [films_of(batches[:2])]
    (a,) = fit(whole, both, one)
    (b,) = fit(halves := build_model(one), batches[:2], many)
    assert b.loss == pytest.approx(a.loss, rel=1e-5)
    assert b.gradient == pytest.approx(a.gradient, rel=1e-4)
    assert torch.allclose(weights(whole), weights(halves), atol=1e-5)


def films_of(batches):
    """Two batches as one."""
    parts = {
        name: torch.cat([getattr(b, name) for b in batches])
        for name in ("frames", "indices", "fps", "flow", "truth")
    }
    names = {k: sum((getattr(b, k) for b in batches), ()) for k in ("dataset", "video", "clips")}
    return replace(batches[0], **parts, **names)


def test_a_step_takes_as_many_batches_as_it_accumulates(batches):
    one = recipe(steps=2, accumulate=3)
    source = iter(batches)
    assert len(list(fit(build_model(one), source, one))) == 2
    assert len(list(source)) == len(batches) - 6
    with pytest.raises(ValueError, match="batches: ended after 1, wanted 2"):
        list(fit(build_model(one), batches[:5], one))


def test_the_mean_of_the_weights_by_hand(batches):
    one = recipe(ema=0.5, steps=4)
    model = build_model(one)
    state, mean = TrainingState(model, one), weights(model).clone()
    for step in fit(model, batches, one, state):
        n = step.index + 1
        decay = min(0.5, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * weights(model)
        assert torch.allclose(weights(state.evaluated), mean, atol=1e-6)
    assert state.evaluated is state.ema and not state.ema.training
    assert not torch.allclose(mean, weights(model), atol=1e-4)
    moved = [m for m in state.ema.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert moved and all(int(m.num_batches_tracked) == 4 for m in moved)


def test_warm_up_is_a_share_of_the_steps():
    rates = [rate_at(k, recipe(steps=100, lr=1.0, warmup=0.2)) for k in range(100)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.15]) and 15 < rates.index(max(rates)) < 20
    assert rate_at(0, recipe(lr=1.0, warmup=0.0)) == 1.0
    for k in range(120):  # as it was before it could be set
        usual = load_recipe("spherical-unet", "fast")
        cosine = 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * k / 120, dtype=torch.float64))
        assert rate_at(k, usual) == pytest.approx(
            usual.lr * min(20 * (k + 1) / 120, float(cosine)), rel=1e-12
        )


def test_a_toss_follows_from_seed_and_step():
    one = recipe(steps=50, seed=3)
    tossed = torch.Generator().manual_seed(3)
    wanted = torch.stack([torch.rand((), generator=tossed) for _ in range(50)])
    assert torch.equal(tosses(one), wanted) and torch.equal(tosses(one), tosses(one))
    assert torch.equal(tosses(replace(one, steps=20)), wanted[:20])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near_and_keeps_weights_whole(batches, precision):
    def losses(of):
        model = build_model(of)
        found = [step.loss for step in fit(model, batches, of)]
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        return found

    one = recipe(steps=3)
    whole, low = losses(one), losses(replace(one, precision=precision))
    assert low == pytest.approx(whole, rel=0.05) and low != whole
    assert low == losses(replace(one, precision=precision))


def test_a_scaled_loss_that_overflows_leaves_a_step_out(batches):
    one = recipe(precision="fp16", steps=2)
    model = build_model(one)
    state = TrainingState(model, one)
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**127})
    before = weights(model).clone()
    step = next(fit(model, batches, one, state))
    assert step.overflowed and step.gradient == 0 and step.loss > 0 and state.step == 1
    assert torch.equal(weights(model), before) and state.scaler.get_scale() == 2.0**126


def test_a_model_of_another_system_is_refused(batches):
    one = recipe("cube-unet")
    other = recipe("sst-sal-noflow", model={"hidden": 2}, tbptt=1)
    with pytest.raises(ValueError, match="model: sst-sal-noflow, wanted cube-unet, the recipe's"):
        next(fit(build_model(other), batches, one))

    class Own(FrameModel):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, image, extra):
            return self.weight * extra + image.mean(1, keepdim=True)

    with pytest.raises(ValueError, match="a Own is given 'previous', wanted 'motion'"):
        next(fit(Own(), batches, one))
    assert next(fit(Own(), batches, recipe("lookup-unet"))).index == 0
    with pytest.raises(ValueError, match="state: of another model"):
        next(fit(build_model(one), batches, one, TrainingState(build_model(one), one)))


def test_an_error_in_a_step_names_the_clips_and_leaves_the_state(batches):
    one = recipe(accumulate=2, ema=0.9)
    bad = replace(batches[1], frames=batches[1].frames * torch.nan)
    model = build_model(one)
    state = TrainingState(model, one)
    steps = fit(model, [batches[0], batches[1], batches[2], bad], one, state)
    next(steps)
    before, _ = state.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    with pytest.raises(FloatingPointError, match="step 1: pred: holds NaN .* clip-0 from frame 2"):
        next(steps)
    after, _ = state.state_dict()
    assert state.whole and state.step == 1
    assert set(after) == set(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name


# --- a state that goes on ---


def test_a_step_that_failed_draws_the_same_when_it_is_made_again(batches):
    """A network with dropout: what it drew for the first batch does not count."""

    class Drops(FrameModel):
        extra = "motion"

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, image, extra):
            dropped = torch.nn.functional.dropout(torch.cat((image, extra), 1), 0.5, self.training)
            return self.layer(dropped)

    def broken():
        yield batches[0]
        raise OSError("a stick that was pulled out")

    found = []
    asked = recipe(accumulate=2, steps=1)
    for attempts in (0, 1):
        torch.manual_seed(5)
        model = Drops()
        state = TrainingState(model, asked)
        for _ in range(attempts):
            with pytest.raises(OSError, match="pulled out"):
                next(fit(model, broken(), asked, state))
        list(fit(model, batches, asked, state))
        found.append(weights(model))
    assert torch.equal(*found)


def test_fit_goes_on_from_a_state(batches):
    one = recipe(ema=0.9, optimizer="sgd", momentum=0.9)
    whole = build_model(one)
    wanted = list(fit(whole, batches, one))
    model = build_model(one)
    state = TrainingState(model, one)
    begun = fit(model, batches, one, state)
    first = [next(begun) for _ in range(3)]
    rest = list(fit(model, batches[3:], one, state))
    assert first + rest == wanted and torch.equal(weights(model), weights(whole))


def test_what_json_and_tensors_hold_is_all(tmp_path, batches):
    """A state read from a file takes the same next step."""
    usual = {"ema": 0.9}, {"precision": "fp16", "optimizer": "sgd", "momentum": 0.5}
    for changes in usual:
        one = recipe(**changes)
        model = build_model(one)
        state = TrainingState(model, one)
        steps = fit(model, batches, one, state)
        next(steps)
        extra = {"pi": 3.141592653589793, "third": 1 / 3, "none": None}
        path = write_checkpoint(tmp_path / "c.safetensors", state, {"batch": 1}, extra)
        found = read_checkpoint(path)
        assert (found.step, found.loader, found.extra) == (1, {"batch": 1}, extra)
        wanted = next(steps)
        again = build_model(replace(one, seed=5))
        other = TrainingState(again, one)
        found.restore(other)
        assert next(fit(again, batches[1:], one, other)) == wanted
        assert torch.equal(weights(again), weights(model))
    wide = recipe(model={"base": 3})
    other = TrainingState(build_model(wide), wide)
    with pytest.raises(ValueError, match="state: of another model"):
        found.restore(other)


def test_a_checkpoint_is_no_pickle_and_other_files_are_refused(tmp_path, batches):
    one = recipe()
    state = TrainingState(build_model(one), one)
    path = write_checkpoint(tmp_path / "c.safetensors", state, {}, {})
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["sal360-checkpoint"])["numbers"]["step"] == 0
    for content in (b"", b"PK\x03\x04 pickled", path.read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a checkpoint"):
            read_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_checkpoint(tmp_path / "none.safetensors")


# --- a run ---


def run(tmp_path, films, name="run", report=None, **more):
    changes = more.pop("changes", {})
    return train(recipe(**changes), films, more.pop("validation", None), tmp_path / name,
                 device="cpu", report=report, **more)  # fmt: skip


def test_a_run_leaves_a_record_and_weights_that_load(tmp_path, films):
    told = Told()
    changes = {"validate_every": 2, "ema": 0.9, "accumulate": 2}
    record = run(tmp_path, films, changes=changes, validation=Embedded(2, 6), report=told)
    assert check_record(record)["status"] == "done" and told.records == [record]
    assert json.loads((tmp_path / "run" / "record.json").read_text("utf-8")) == record
    assert [step.index for step in told.steps] == list(range(6))
    assert record["curve"]["loss"] == [float(f"{step.loss:.6g}") for step in told.steps]
    assert [v["step"] for v in record["validations"]] == [2, 4, 6]
    values = [v["means"]["cc"] for v in record["validations"]]
    assert record["best"] == {"step": 2 * values.index(max(values)) + 2, "metric": "cc",
                              "value": max(values)}  # fmt: skip
    assert [v["best"] for v in told.validations] == [
        value > max(values[:k], default=-2) for k, value in enumerate(values)
    ]
    assert sum(s["cc"] for s in record["scores"].values()) / 2 == pytest.approx(max(values))
    for kind in ("best", "last"):
        model = load_model("cube-unet", tmp_path / "run" / f"{kind}.safetensors")
        assert model.origin["sha256"] == record["weights"][kind]["sha256"]
        assert model.input_size == (16, 32)
    assert not list((tmp_path / "run").glob(".*"))


def test_the_same_seed_gives_the_same_bytes(tmp_path, films):
    torch.manual_seed(1)
    changes = {"augment": {"tilt_deg": 10}}
    first = run(tmp_path, films, "a", changes=changes)["weights"]
    torch.manual_seed(2)
    wanted = torch.get_rng_state()
    again = run(tmp_path, films, "b", changes=changes, workers=2, checkpoint_every=1)["weights"]
    assert torch.equal(torch.get_rng_state(), wanted)  # the surroundings' dice are left alone
    other = run(tmp_path, films, "c", changes=changes | {"seed": 1})["weights"]
    assert first == again != other


def test_a_run_of_a_given_network_or_unnamed_films_has_no_line(films):
    named = Embedded(4)
    named.spec = "films"
    assert "sal360 train" in train(recipe(steps=1), named, device="cpu")["command"]
    assert train(recipe(steps=1), named, Embedded(1, 6), device="cpu")["command"] is None
    given = build_model(recipe(seed=3))
    assert train(recipe(steps=1), named, device="cpu", model=given)["command"] is None


def test_a_network_of_ones_own_leaves_its_weights(tmp_path, films):
    class Own(FrameModel):
        extra = "motion"

        def __init__(self):
            super().__init__()
            self.input_size = tuple(SIZE)
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(4, 2, 3, padding=1), torch.nn.BatchNorm2d(2), torch.nn.Dropout(0.5),
                torch.nn.Conv2d(2, 1, 1)
            )  # fmt: skip

        def forward(self, image, extra):
            return self.layers(torch.cat((image, extra), 1))

    def made():
        torch.manual_seed(4)
        return Own()

    more = {"changes": {"validate_every": 2}, "validation": Embedded(1, 6)}
    whole = run(tmp_path, films, "whole", model=(trained := made()), **more)
    assert set(whole["weights"]) == {"best", "last"}
    held = read_weights(tmp_path / "whole" / "last.safetensors")
    assert all(torch.equal(value, held[name]) for name, value in trained.state_dict().items())
    with pytest.raises(ValueError, match="weights of Own, wanted those of cube-unet"):
        load_model("cube-unet", tmp_path / "whole" / "last.safetensors")
    told = Told()
    run(tmp_path, films, model=made(), report=told, stop=lambda: len(told.steps) == 3, **more)
    assert run(tmp_path, films, model=made(), resume=True, **more)["weights"] == whole["weights"]


def test_without_a_folder_nothing_is_written(tmp_path, films, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = train(recipe(), films, device="cpu")
    assert record["status"] == "done" and not list(tmp_path.iterdir())


def test_no_better_for_so_long_is_the_end(tmp_path, films):
    """A rate of nothing leaves the scores as they are."""
    changes = {"validate_every": 1, "patience": 2, "lr": 1e-30, "steps": 9, "loss": "sphere_mse"}
    still = build_model(recipe(**changes))
    for norm in still.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0
    record = run(tmp_path, films, changes=changes, validation=Embedded(1, 6), model=still)
    assert (record["status"], record["steps"], record["best"]["step"]) == ("stopped early", 3, 1)
    all_steps = run(tmp_path, films, "all", changes=changes | {"steps": 3},
                    validation=Embedded(1, 6), model=still)  # fmt: skip
    assert (all_steps["status"], all_steps["steps"]) == ("done", 3)
    with pytest.warns(UserWarning, match="this run is stopped early .3 steps., nothing to do"):
        again = run(tmp_path, films, changes=changes, validation=Embedded(1, 6), resume=True)
    assert again == json.loads((tmp_path / "run" / "record.json").read_text("utf-8"))
    with pytest.raises(ValueError, match="validation: None, wanted a data set"):
        run(tmp_path, films, "other", changes=changes)


# --- a run that is stopped ---


def test_stop_is_asked_after_each_step(tmp_path, films):
    told = Told()
    record = run(tmp_path, films, report=told, stop=lambda: len(told.steps) == 4)
    assert (record["status"], record["steps"]) == ("interrupted", 4)
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == 4
    whole = run(tmp_path, films, "whole")
    resumed = run(tmp_path, films, resume=True)
    assert resumed["status"] == "done" and resumed["weights"] == whole["weights"]
    assert resumed["curve"] == whole["curve"] and resumed["started"] == record["started"]
    assert differences_of(tmp_path / "run", tmp_path / "whole") == []


def differences_of(one, other):
    return list(differences(outcome(one), outcome(other)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step(tmp_path, films, number):
    before = signal.getsignal(number)
    told = Told(3, lambda: os.kill(os.getpid(), number))
    record = run(tmp_path, films, report=told, checkpoint_every=100)
    assert (record["status"], record["steps"]) == ("interrupted", 3)
    assert record["more"] == {"signal": number}
    assert signal.getsignal(number) == before
    done = run(tmp_path, films, resume=True)
    assert done["status"] == "done" and "more" not in done


def test_a_second_ctrl_c_is_at_once(tmp_path, films):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, films, report=Told(3, twice), checkpoint_every=2)
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == 2
    run(tmp_path, films, resume=True)
    run(tmp_path, films, "whole")
    assert differences_of(tmp_path / "run", tmp_path / "whole") == []


def test_a_whole_group_of_processes_may_be_told_to_end(tmp_path):
    """As schedulers of clusters do: those that read clips are told, too."""
    code = f"""
        from sal360.training import load_recipe, train
        from sal360.training.kills import Embedded

        class Told:
            def on_step(self, step, rate, waiting):
                print("step", flush=True)
            def on_end(self, record):
                print(record["status"], record["more"], flush=True)

        recipe = load_recipe("cube-unet", "fast", {{"size": {SIZE}, "clip_length": 2,
                             "steps": 100000, "model": {{"base": 2}}}})
        train(recipe, Embedded(4), None, {str(tmp_path / "run")!r}, device="cpu", workers=2,
              report=Told())
        """
    started = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], text=True,
                               stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
    assert started.stdout.readline() == "step\n"
    os.killpg(started.pid, signal.SIGTERM)
    told, _ = started.communicate(timeout=120)
    assert started.returncode == 0
    assert told.split("\n")[-2] == "interrupted {'signal': 15}"
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step >= 1


def test_signals_outside_the_main_thread_are_not_ours():
    found = []

    def elsewhere():
        with stopping(lambda: True) as asked:
            found.append((asked(), asked.signal))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(True, None)]


# --- a run in which something breaks ---


class Breaking(Embedded):
    """Films of which one cannot be read, or is not a number, until they are mended."""

    def __init__(self, how):
        super().__init__(4)
        self.how = how

    def read(self, video, start=0, length=None, step=1, size=None):
        item = super().read(video, start, length, step, size)
        if video == "clip-2" and start == 4 and self.how == "unreadable":
            raise OSError("/films/clip-2.mp4: damaged")
        if video == "clip-2" and start == 4 and self.how == "nan":
            return replace(item, frames=item.frames * torch.nan)
        return item


def test_a_broken_clip_stops_with_its_name_and_nothing_is_lost(tmp_path, films):
    data = Breaking("unreadable")
    with pytest.raises(OSError, match=r"/films/clip-2.mp4: damaged \(reading clip-2, frames 4"):
        run(tmp_path, data, changes={"accumulate": 2})
    record = json.loads((tmp_path / "run" / "record.json").read_text("utf-8"))
    assert record["status"] == "interrupted" and "clip-2.mp4: damaged" in record["notes"][0]
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step == record["steps"]
    data.how = ""
    mended = run(tmp_path, data, changes={"accumulate": 2}, resume=True)
    whole = run(tmp_path, films, "whole", changes={"accumulate": 2})
    assert mended["weights"] == whole["weights"]
    assert differences_of(tmp_path / "run", tmp_path / "whole") == []


def test_a_broken_clip_may_be_left_out(tmp_path):
    broken = Breaking("unreadable")
    broken.spec = "films"
    with pytest.warns(UserWarning, match="1 clips of this epoch were left out"):
        record = run(tmp_path, broken, changes={"steps": 12}, on_error="skip")
    assert record["status"] == "done" and check_record(record)
    assert list(record["skipped"]) == ["clip-2, frames 4 to 5"]
    assert "--data films " in record["command"] and "--on-error skip" in record["command"]

    class Nothing(Embedded):
        def read(self, *args, **kwargs):
            raise OSError("gone")

    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="no clip can be read; first: "),
    ):
        run(tmp_path, Nothing(4), "none", on_error="skip")


def test_a_loss_of_nan_keeps_the_last_good_weights(tmp_path):
    told = Told()
    changes = {"batch": 1, "steps": 20}
    with pytest.raises(FloatingPointError, match="NaN .* from clip-2 from frame 4") as caught:
        run(tmp_path, Breaking("nan"), changes=changes, report=told)
    step = len(told.steps)
    assert str(caught.value).startswith(f"step {step}: ")
    record = json.loads((tmp_path / "run" / "record.json").read_text("utf-8"))
    assert (record["status"], record["steps"]) == ("interrupted", step)
    load_model("cube-unet", tmp_path / "run" / "last.safetensors")  # refuses what is not finite
    good = train(recipe(**changes), Embedded(4), device="cpu", out=tmp_path / "good",
                 report=(again := Told()), stop=lambda: len(again.steps) == step)  # fmt: skip
    assert good["weights"]["last"] == record["weights"]["last"]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, films, monkeypatch):
    real, budget = os.fsync, [10]

    def fsync(handle):
        budget[0] -= 1
        if budget[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(_files.os, "fsync", fsync)
    with pytest.raises(DiskFull, match="No space left on device .* bytes wanted") as caught:
        run(tmp_path, films, checkpoint_every=1)
    assert "\n" not in str(caught.value) and caught.value.filename.startswith(str(tmp_path))
    monkeypatch.undo()
    assert 0 < read_checkpoint(tmp_path / "run" / "checkpoint.safetensors").step < 6
    assert json.loads((tmp_path / "run" / "record.json").read_text("utf-8"))["status"] == "running"
    assert not list((tmp_path / "run").glob(".*.part"))
    resumed = run(tmp_path, films, resume=True)
    assert resumed["weights"] == run(tmp_path, films, "whole")["weights"]


def test_a_disk_that_may_only_be_read_is_told_with_the_file(tmp_path, monkeypatch):
    """It refuses to write a file, and to remove one that is not there."""

    def refused(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError, match="Read-only") as caught:
        _files.write_whole(tmp_path / "file", b"a")
    assert caught.value.filename == str(tmp_path / "file")


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path):
    """In a process of its own, with the kernel's limit."""
    code = f"""
        import resource, signal
        from sal360._files import DiskFull, write_whole
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = {str(tmp_path / "file")!r}
        write_whole(path, b"a" * 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            write_whole(path, b"b" * 100_000)
        except DiskFull as error:
            print(error)
        """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True,
                           text=True, check=True)  # fmt: skip
    assert "File too large (100000 bytes wanted)" in found.stdout
    assert (tmp_path / "file").read_bytes() == b"a" * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# --- whose folder it is ---


def test_a_folder_of_something_else_is_left_alone(tmp_path, films):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ValueError, match="is not empty and holds no run, wanted a new folder"):
            run(tmp_path, films, resume=resume)
    run(tmp_path, films, force=True)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "mine"
    with pytest.raises(ValueError, match="is a file, wanted a folder"):
        train(recipe(), films, out=tmp_path / "run" / "thesis.tex")


def test_a_run_is_not_written_over_unless_asked(tmp_path, films):
    first = run(tmp_path, films)
    with pytest.raises(ValueError, match="holds a run, wanted resume or force"):
        run(tmp_path, films)
    with pytest.warns(UserWarning, match="this run is done .6 steps., nothing to do"):
        assert run(tmp_path, films, resume=True) == first
    with pytest.raises(ValueError, match="the checkpoint's recipe has seed = 0, wanted 1 as now"):
        run(tmp_path, films, changes={"seed": 1}, resume=True)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    with pytest.raises(ValueError, match="holds a run of another recipe, data or validation set"):
        run(tmp_path, Embedded(3), resume=True)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for changes in ({"batch": 50}, {"clip_length": 50}):  # what is refused takes nothing away
        with pytest.raises(ValueError, match="50"):
            run(tmp_path, films, changes=changes, force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == kept
    other = run(tmp_path, films, changes={"seed": 1}, force=True)
    assert other["weights"] != first["weights"]


def test_what_a_killed_run_left_is_removed_and_nothing_of_one_that_writes(tmp_path, films):
    run(tmp_path, films)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {pid: f".checkpoint.safetensors.{pid}.part" for pid in (ended.pid, os.getppid())}
    for name in names.values():
        (tmp_path / "run" / name).write_bytes(b"half")
    with pytest.warns(UserWarning, match="nothing to do"):
        run(tmp_path, films, resume=True)
    assert [p.name for p in (tmp_path / "run").glob(".*")] == [names[os.getppid()]]


def test_nothing_is_written_into_a_data_set(tmp_path):
    films = Embedded(4)
    films.root = tmp_path
    with pytest.raises(ValueError, match="lies within embedded, which is only read"):
        run(tmp_path, films)
    assert not list(tmp_path.iterdir())


def test_a_run_that_ended_is_not_one_of_another_order(tmp_path, films):
    run(tmp_path, films)
    with pytest.raises(ValueError, match="the checkpoint's data has mix = None, wanted 2 as now"):
        run(tmp_path, films, resume=True, mix=2)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, films):
    told = Told()
    run(tmp_path, films, report=told, stop=lambda: len(told.steps) == 2)
    with pytest.raises(ValueError, match=r"the checkpoint's recipe has lr = 0.01, wanted 0.02 as"):
        run(tmp_path, films, resume=True, changes={"lr": 0.02})
    with pytest.raises(ValueError, match="the checkpoint's data has videos = 4, wanted 3 as now"):
        run(tmp_path, Embedded(3), resume=True)
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = read_checkpoint(path)
    state = TrainingState(build_model(recipe()), recipe())
    for extra in ({}, whole.extra | {"progress": {"epochs": 3}}):
        write_checkpoint(path, state, whole.loader, extra)
        with pytest.raises(ValueError, match="the checkpoint is of another version or program"):
            run(tmp_path, films, resume=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a checkpoint"):
        run(tmp_path, films, resume=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_here(films, device):
    with pytest.raises(ValueError, match=f"device: '{device}', not to be had here"):
        train(recipe(), films, device=device)


def test_a_network_without_anything_to_train(films):
    class Still(FrameModel):
        extra = "motion"

        def forward(self, image, extra):
            return extra

    for model in (Still(), build_model(recipe()).requires_grad_(False)):
        with pytest.raises(ValueError, match="model: no weight that is not frozen, wanted some"):
            train(recipe(), films, model=model)


def test_a_run_that_went_on_elsewhere_says_so(tmp_path, films, monkeypatch):
    """Its line would not make it again."""

    def until(steps, code, resume=True):
        monkeypatch.setattr(records, "code_hash", lambda: code * 64)
        left = iter(range(steps))
        return run(tmp_path, films, resume=resume, stop=lambda: next(left) + 1 == steps)

    assert "notes" not in until(2, "a", resume=False)
    for steps, status in ((1, "interrupted"), (9, "done")):
        record = until(steps, "b")
        assert check_record(record)["status"] == status
        assert record["notes"] == ["step 2: went on with other code"]


def test_too_few_clips_for_a_batch(tmp_path, films):
    with pytest.raises(ValueError, match="batch: 50, wanted at most 16, the clips"):
        run(tmp_path, films, changes={"batch": 50})


# --- kill -9 ---


def test_what_a_checkpoint_lacked_would_be_seen(tmp_path, films, monkeypatch):
    """The comparison after the kills (``test_kills.py``) sees each part that is not restored."""
    changes = {"ema": 0.9, "batch": 4, "steps": 3}
    run(tmp_path, films, "whole", changes=changes)
    told = Told()
    run(tmp_path, films, changes=changes, report=told, stop=lambda: len(told.steps) == 2)
    folder = tmp_path / "run"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    for part in ("model.", "ema.", "optimizer.", "loader", "curve", ""):
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        found = read_checkpoint(folder / "checkpoint.safetensors")
        for name, value in found.tensors.items():
            if part and name.startswith(part) and value.is_floating_point():
                found.tensors[name] = value * 1.001 + 1e-5
        if part == "loader":
            found.loader["batch"] += 1
        if part == "curve":
            found.extra["curve"]["sums"][0][2] += 1e-9
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "checkpoint", lambda self, found=found: found)
            run(tmp_path, films, changes=changes, resume=True)
        assert bool(differences_of(folder, tmp_path / "whole")) == bool(part), part


class OnceBroken(Embedded):
    """Films one of which cannot be read when it is asked for the first time."""

    broken = True

    def read(self, *where, **how):
        if self.broken:
            self.broken = False
            raise OSError("a stick that was pulled out")
        return super().read(*where, **how)


@pytest.mark.parametrize(("every", "at"), [(2, [2, 4, 6]), (0, [6])])
def test_a_validation_that_failed_is_made_up(every, at, tmp_path, films):
    changes = {"validate_every": every}
    whole = run(tmp_path, films, "whole", validation=Embedded(2, 6), changes=changes)
    with pytest.raises(OSError, match="pulled out"):
        run(tmp_path, films, validation=OnceBroken(2, 6), changes=changes)
    again = run(tmp_path, films, validation=Embedded(2, 6), changes=changes, resume=True)
    assert [v["step"] for v in again["validations"]] == at
    assert not list(differences(outcome(tmp_path / "whole"), outcome(tmp_path / "run")))
    for part in ("validations", "best", "scores"):
        assert again[part] == whole[part]


def test_best_weights_that_could_not_be_written_are_made_up(tmp_path, films, monkeypatch):
    """Else the run that goes on thinks that it has them."""
    changes = {"validate_every": 2, "lr": 10.0}
    more = {"validation": Embedded(2, 6), "changes": changes}
    whole = run(tmp_path, films, "whole", **more)
    assert whole["best"]["step"] == 2  # no later one would take its place

    def pulled_out(self, kind, *rest, **facts):
        raise OSError(errno.EIO, os.strerror(errno.EIO), f"{kind}.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_weights", pulled_out)
        with pytest.raises(OSError, match=r"best.safetensors"):
            run(tmp_path, films, **more)
    assert json.loads((tmp_path / "run" / "record.json").read_text("utf-8"))["best"] is None
    again = run(tmp_path, films, resume=True, **more)
    assert not list(differences(outcome(tmp_path / "whole"), outcome(tmp_path / "run")))
    assert again["best"] == whole["best"] and again["weights"] == whole["weights"]


def test_a_run_is_scored_on_one_set_of_films(tmp_path, films):
    told = Told()
    two = Embedded(2, 6)
    run(tmp_path, films, validation=two, report=told, stop=lambda: len(told.steps) == 2)
    for other, found in ((Embedded(3, 6), "videos = 2, wanted 3"), (None, "wanted None")):
        with pytest.raises(ValueError, match=f"the checkpoint's validation has .*{found} as now"):
            run(tmp_path, films, validation=other, resume=True)
    assert run(tmp_path, films, validation=two, resume=True)["status"] == "done"
    with pytest.raises(ValueError, match="the checkpoint's validation has"):
        run(tmp_path, films, validation=Embedded(3, 6), resume=True)


def test_a_first_step_that_is_refused_leaves_nothing_in_the_way(tmp_path, films):
    class Flat(Embedded):
        def read(self, *where, **how):
            return replace(super().read(*where, **how), truth=None)

    with pytest.raises(ValueError, match="truth"):
        run(tmp_path, Flat(4))
    assert not (tmp_path / "run").exists()
    assert run(tmp_path, films)["status"] == "done"


class Unlooked(Embedded):
    """Truth, and no fixations."""

    def read(self, *where, **how):
        return replace(super().read(*where, **how), fixations=None)


def test_a_metric_that_cannot_be_scored_is_told_before_the_first_step(tmp_path, films):
    told = Told()
    changes = {"validate_every": 2, "monitor": "nss"}
    with pytest.raises(ValueError, match="monitor: 'nss' needs fixations, which .* has not"):
        run(tmp_path, films, changes=changes, validation=Unlooked(2), report=told)
    assert not told.steps and not (tmp_path / "run").exists()
    assert run(tmp_path, films, changes={"validate_every": 2}, validation=Unlooked(2))["best"]


class Late(Embedded):
    """Nobody looks before the third frame; what no frame of a clip has is None."""

    def read(self, video, start=0, length=None, *more):
        item = super().read(video, start, length, *more)
        return item if start + len(item) > 2 else replace(item, truth=None, fixations=None)


def test_a_metric_may_find_its_truth_late(tmp_path, films):
    assert run(tmp_path, films, changes={"validate_every": 2}, validation=Late(2, 6))["best"]


def test_two_runs_never_write_into_one_folder(tmp_path, films):
    refused = []

    def intrude():
        before = sorted(p.name for p in (tmp_path / "run").iterdir())
        for how in ({"resume": True}, {"force": True}):
            with pytest.raises(BlockingIOError, match="run: another process is writing into it"):
                run(tmp_path, films, **how)
            refused.append(how)
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before

    record = run(tmp_path, films, report=Told(3, intrude))
    assert len(refused) == 2 and record["status"] == "done"
    with pytest.warns(UserWarning, match="this run is done"):
        run(tmp_path, films, resume=True)  # and now it may


def test_a_worker_that_outlives_its_run_does_not_keep_the_folder(tmp_path):
    from sal360._files import alone

    code = (
        "import os, sys, time\n"
        "from sal360._files import alone\n"
        "held = alone(sys.argv[1])\n"
        "held.__enter__()\n"
        "if not os.fork():\n"
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    child = int(run.stdout.readline())
    try:
        with pytest.raises(BlockingIOError), alone(tmp_path):
            pass
        run.kill()
        run.wait()
        os.kill(child, 0)  # it is still there
        with alone(tmp_path), pytest.raises(BlockingIOError), alone(tmp_path):
            pass
    finally:
        run.kill()
        run.wait()
        os.kill(child, signal.SIGKILL)
        run.stdout.close()


def test_who_comes_second_does_not_take_the_folder_away(tmp_path, monkeypatch):
    """Both found that it was not there yet; or it is gone by the time it is held."""
    from pathlib import Path

    from sal360 import _files

    folder, there = tmp_path / "run", Path.exists
    with _files.alone(folder):
        monkeypatch.setattr(Path, "exists", lambda self: self != folder and there(self))
        with pytest.raises(BlockingIOError), _files.alone(folder):
            pass
        assert folder.is_dir()
    assert not folder.is_dir()

    def late(handle, how, lock=_files.fcntl.flock):
        if folder.is_dir() and how & _files.fcntl.LOCK_NB:
            folder.rmdir()  # by who had it until now
        lock(handle, how)

    monkeypatch.setattr(_files.fcntl, "flock", late)
    with pytest.raises(BlockingIOError, match="run: another process"), _files.alone(folder):
        pass


def test_a_folder_is_free_at_once_whatever_was_forked(tmp_path):
    from sal360._files import alone

    for _ in range(20):
        with alone(tmp_path):
            child = os.fork()
            if not child:
                os._exit(0)
        with alone(tmp_path):
            pass
        os.waitpid(child, 0)


def test_dice_are_those_of_the_device_that_trains(monkeypatch):
    """Without a GPU: torch is asked for the one that is meant, not for the first."""
    kept, second = {}, torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([device.index]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda v, device: kept.update({device: v}))
    drawn = dice(second)
    assert int(drawn["cuda"]) == 1 and set(dice(torch.device("cpu"))) == {"cpu"}
    set_dice(drawn, torch.device("cpu"))
    assert not kept
    set_dice(drawn, second)
    assert kept == {second: drawn["cuda"]}
