"""Chapter 16: curves and roofs are drawn as recorded, processes can be killed, slips are told."""

import hashlib
import json
import math
import os
import random
import re
import signal
import tempfile
from functools import partial

import numpy as np
import pytest
import torch

from sal360 import figures
from sal360.course import chapter16, check, processes
from sal360.course.chapter16 import FAULTS, Trainer
from sal360.datasets import download
from sal360.datasets.held import hold
from sal360.experiments import floor, published
from sal360.models import load_model
from sal360.training.kills import Embedded
from sal360.training.recipe import load_recipe


def run(seed, scores, steps=300):
    return {
        "seed": seed,
        "curve": {"step": list(range(steps)), "loss": [3 - k / steps for k in range(steps)]},
        "validations": [{"step": s, "means": {"cc": v, "kld": 1.0}} for s, v in scores.items()],
    }


@pytest.fixture(scope="module")
def curves():
    runs = {"one": [run(0, {100: 0.1, 300: 0.3}), run(1, {300: 0.2})], "two": [run(0, {})]}
    return figures.run_curves(runs, {"one": 0.25})


def test_a_menu_shows_the_curves_of_one_system(curves):
    html = curves.html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 60_000
    traces = curves.figure.data
    assert [t.visible for t in traces] == [True] * 5 + [False] * 2
    menu = curves.figure.layout.updatemenus[0]
    assert [b.label for b in menu.buttons] == ["one", "two"]
    assert menu.buttons[1].args[0]["visible"] == [False] * 5 + [True] * 2
    assert "one: 2 runs, best CC 0.30, 0.20, the equator 0.25" in curves.alt


def test_a_curve_is_thinned_to_means(curves):
    loss = curves.figure.data[0]
    assert len(loss.x) == 100 and loss.x[0] == 1 and loss.x[-1] == 298
    assert float(loss.y[0]) == pytest.approx(3 - 1 / 300, rel=1e-3)
    assert list(curves.figure.data[1].y) == [0.1, 0.3]
    with pytest.raises(ValueError, match=r"^runs: none"):
        figures.run_curves({})


def test_a_roof_tells_what_share_of_it_a_step_reaches():
    rates = {"bytes_per_s": 1e10, "operations_per_s": {"fp32": 1e11, "bf16": 1e9}}
    systems = {
        "moves": {"work": {"operations": 1e9, "bytes": 1e9}, "median_s": 0.2},
        "computes": {"work": {"operations": 1e11, "bytes": 1e8}, "median_s": 4.0},
        "is late": {"not run": "no time was left"},
    }
    drawn = figures.roofline({"a machine": {"rates": rates, "systems": systems}}, "bf16")
    assert "moves 50.0%, computes 25.0%" in drawn.alt and "is late" not in drawn.alt
    assert "meet at 10 operations per byte" in drawn.alt
    assert len(drawn.panels) == 2
    # A system that says what does its products is held against that.
    systems["computes"] |= {"units": "tf32x3", "ceiling_per_s": 2e11}
    drawn = figures.roofline({"a machine": {"rates": rates, "systems": systems}}, "bf16")
    assert "moves 50.0%, computes 12.5%" in drawn.alt and "tf32x3: 0.2 trillion" in drawn.alt


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films") / "films"
    hold(Embedded(2), folder)
    return str(folder)


def recipe_of(steps, **changes):
    settings = {"size": [16, 32], "model": {"hidden": 2}, "clip_length": 4, "tbptt": 4, "batch": 2}
    return load_recipe("sst-sal-noflow", "fast", settings | {"steps": steps} | changes)


def weights(path):
    return torch.cat([p.flatten() for p in load_model("sst-sal-noflow", path).parameters()])


def test_tries_are_told_side_by_side(capsys):
    tried = {what: {"predicted": 0.5, "ratio": 0.25} for what in chapter16.TRIED}
    same = {"predicted": 0.9, "not run": "not a bit of its losses changes"}
    cpu, gpu = ({"results": {"tries": {"unet": tried | more}}} for more in ({"bf16": same}, {}))
    found = chapter16.tell_tries(cpu, gpu)
    assert found == {"bf16": {"unet": [None, 0.25]}, "twice the batch": {"unet": [0.25, 0.25]},
                     "torch.compile": {"unet": [0.25, 0.25]}}  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert "unet        bf16            0.90 same 0.50 0.25" in lines and len(lines) == 5
    assert max(map(len, lines)) <= 47  # a phone's
    gpu["results"]["tries"]["unet"]["bf16"] = {"predicted": 0.5, "not run": "no time was left"}
    with pytest.raises(ValueError, match="unet, bf16: no time was left"):
        chapter16.tell_tries(cpu, gpu)


def test_a_training_is_killed_and_goes_on_to_the_same_bits(films, tmp_path):
    recipe = recipe_of(12)
    victim = processes.Training(recipe, films, tmp_path / "killed", checkpoint_every=2)
    assert victim.wait_for(5) >= 5
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.end() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "last.safetensors").exists()
    for folder in ("killed", "whole"):
        other = processes.Training(recipe, films, tmp_path / folder)
        assert other.wait_for(99) == 12 and other.end() == 0
    ends = [weights(tmp_path / folder / "last.safetensors") for folder in ("killed", "whole")]
    assert torch.equal(*ends)


def test_two_processes_make_the_steps_of_one(films, tmp_path):
    recipe = recipe_of(3, optimizer="sgd", lr=0.1)
    assert processes.together(2, recipe, films, tmp_path / "two") == [0, 0]
    alone = processes.Training(recipe, films, tmp_path / "one")
    assert alone.end() == 0
    ends = [weights(tmp_path / folder / "last.safetensors") for folder in ("one", "two")]
    assert (ends[0] - ends[1]).abs().max() < 1e-6


def test_the_floor_is_scored_on_worlds_that_are_made_again():
    found = floor.load()
    wanted = floor.SCALES["gpu"]
    assert found["validation"]["videos"] == wanted.val[0] and found["seconds"] == wanted.val[1]
    assert found["validation"]["size"] == list(wanted.size)
    made = floor.run("fast")
    assert made["validation"]["videos"] == 1 and 0 < made["means"]["cc"] < 1
    assert made["baseline"] == found["baseline"] == "equator"
    real = published.trainings()
    assert len(real) >= 6
    for record in (record for records in real.values() for record in records):
        assert record["validation"]["names"] == found["validation"]["names"]


@pytest.mark.parametrize(
    "name",
    ["runs/floor.json", *(f"benchmarks/{name}.json" for name in ("training", "training_gpu",
                                                                 "scaling", "gpu_layers"))],
)  # fmt: skip
def test_colab_gets_the_records_by_their_hash(name):
    file = published.DATA / name
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found == download.registry()[name].sha256, "a record was made again: tell the registry"


def test_what_a_notebook_reads_of_benchmarks_can_be_fetched():
    """Where there is no checkout, a record that nobody registered is None."""
    asked = set()
    for path in (published.DATA.parent / "book").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        for words in re.findall(r"published\.benchmark[,(]([^)]*)\)", code):
            asked |= {f"benchmarks/{name}.json" for name in re.findall(r'"(\w+)"', words)}
        asked |= {f"runs/{name}" for name in re.findall(r'\.published\("([\w.]+)"\)', code)}
    assert {"benchmarks/gpu_layers.json", "benchmarks/training.json"} < asked
    assert asked <= set(download.registry())


def test_an_error_output_is_quiet_for_a_while(capfd):
    with processes.quiet():
        os.write(2, b"hidden")
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


def test_real_runs_come_by_arm_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "DATA", tmp_path)
    monkeypatch.setattr(published, "load_record", lambda path: path.stem)
    folder = tmp_path / published.TRAININGS
    folder.mkdir(parents=True)
    for name in ("z-unet", "a-10", "a-2", "sst-sal", "cube-unet-0"):
        (folder / f"{name}.json").write_text("{}")
    found = published.trainings()
    assert list(found) == ["cube-unet", "sst-sal", "a", "z-unet"]
    assert found["a"] == ["a-2", "a-10"] and found["z-unet"] == ["z-unet"]
    assert published.benchmark("none") is None
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "one.json").write_text(json.dumps({"a": 1}))
    assert published.benchmark("one") == {"a": 1}


@pytest.mark.parametrize("faults", [(), *((f,) for f in FAULTS), FAULTS])
def test_a_trainer_forgets_what_is_said(faults):
    trainer, other = Trainer(*faults), Trainer()
    for _ in range(17):
        trainer.step()
    other.load(trainer.save())
    steps = [(trainer.step(), other.step()) for _ in range(30)]
    differs = {key: any(a[key] != b[key] for a, b in steps) for key in ("clip", "kept", "rate")}
    assert differs == {
        "clip": "order" in faults,
        "kept": "dice" in faults,
        "rate": "step" in faults,
    }
    assert any(a["update"] != b["update"] for a, b in steps) == bool(faults)
    with pytest.raises(ValueError, match=r"^faults: "):
        Trainer("late")


def test_a_refusal_is_told():
    assert "invalid literal" in chapter16.refusal(int, "one")
    with pytest.raises(AssertionError, match="nothing was refused"):
        chapter16.refusal(int, "1")


def straight(path, data):
    path.write_bytes(data)


def unsynced(path, data):
    part = path.with_name("part")
    part.write_bytes(data)
    os.replace(part, path)


def gone_for_a_while(path, data):
    part = path.with_name("part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    os.replace(part, path)


def from_the_dice(step, clips, batch, seed):
    return random.sample(range(clips), batch)


def next_seed(step, clips, batch, seed):
    epoch, place = divmod(step, clips // batch)
    order = random.Random(seed + epoch).sample(range(clips), clips)
    return order[place * batch : (place + 1) * batch]


def only_the_updates(make):
    trainer, other = make(), make()
    for _ in range(17):
        trainer.step()
    other.load(trainer.save())
    steps = [(trainer.step(), other.step()) for _ in range(40)]
    keys = {"clip": "order", "kept": "dice", "rate": "step", "update": "moments"}
    return {name for key, name in keys.items() if any(a[key] != b[key] for a, b in steps)}


def rounded_warm_up(k, n, lr, w):
    return lr * min((k + 1) / int(w * n) if int(w * n) else 1, chapter16.cosine(k, n))


def line_then_cosine(k, n, lr, w):
    return lr * ((k + 1) / (w * n) if k + 1 < w * n else chapter16.cosine(k, n))


def synced_before_flushed(path, data):
    part = path.with_name("part")
    with part.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    os.replace(part, path)


def synced_too_early(path, data):
    part = path.with_name("part")
    with part.open("wb") as file:
        file.write(data[:10])
        file.flush()
        os.fsync(file)
        file.write(data[10:])
    os.replace(part, path)


def from_another_folder(path, data):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def whole_write(path, data, mode="wb"):
    part = path.with_name("part")
    with part.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def over_what_is_left(path, data):
    path.with_name("part").touch()
    whole_write(path, data, "r+b")


def written_over_first(path, data):
    path.write_bytes(data)
    whole_write(path, data)


def written_over_after(path, data):
    whole_write(path, data)
    path.write_bytes(data)


def by_keywords(path, data):
    part = path.with_name("part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd=file.fileno())
    os.replace(src=part, dst=path)


def in_a_folder_below(path, data):
    below = path.parent / "below"
    below.mkdir(exist_ok=True)
    part = below / path.name
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    below.rmdir()


def ordered(seeding):
    def batch_of(step, clips, batch, seed):
        epoch, place = divmod(step, clips // batch)
        order = random.Random(seeding(seed, epoch)).sample(range(clips), clips)
        return order[place * batch : (place + 1) * batch]

    return batch_of


def of_twelve(step, clips, batch, seed):
    return ordered(lambda seed, epoch: f"{seed} {epoch}")(step, 12, 4, seed)


def one_step_short(k, n, lr, w):
    return lr * min((k + 1) / (w * n) if w else 1, chapter16.cosine(k, n - 1))


def hundreds(step, clips, batch, seed):
    epoch, place = divmod(step, clips // batch)
    order = random.Random(100 * seed + epoch).sample(range(clips), clips)
    return order[place * batch : (place + 1) * batch]


def turned(step, clips, batch, seed):
    epoch, place = divmod(step, clips // batch)
    order = random.Random(f"all {seed}").sample(range(clips), clips)
    begin = epoch % clips
    return (order[begin:] + order[:begin])[place * batch : (place + 1) * batch]


def sets_numpy(step, clips, batch, seed):
    epoch, place = divmod(step, clips // batch)
    np.random.seed(1000 * seed + epoch + 1_000_000 * seed)  # noqa: NPY002
    order = np.random.permutation(clips).tolist()  # noqa: NPY002
    return order[place * batch : (place + 1) * batch]


def one_step(make):
    trainer, other = make(), make()
    for _ in range(17):
        trainer.step()
    other.load(trainer.save())
    a, b = trainer.step(), other.step()
    keys = {"clip": "order", "kept": "dice", "rate": "step"}
    found = {name for key, name in keys.items() if a[key] != b[key]}
    bare = abs(b["update"] + b["rate"] * b["gradient"]) < 1e-12
    return found | ({"moments"} if bare else set())


def averaged(gradients, counts):
    return np.average(np.asarray(gradients), axis=0, weights=np.asarray(counts))


def in_single(k, n, lr, w):
    down = 0.5 + 0.5 * torch.cos(torch.tensor(math.pi * k / n, dtype=torch.float32))
    return lr * min(torch.tensor((k + 1) / (w * n) if w else 1.0), down)


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("16.1", in_single),
        ("16.2", averaged),
        ("16.3", by_keywords),
        ("16.3", in_a_folder_below),
        ("16.4", ordered(lambda seed, epoch: seed * 10**9 + epoch)),
        ("16.4", ordered(lambda seed, epoch: hash((seed, epoch)))),
    ],
)
def test_right_answers_of_another_style_pass(number, answer):
    assert check(number, answer).passed


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        (
            "16.1",
            lambda k, n, lr, w: lr * min(k / (w * n) if w else 1, chapter16.cosine(k, n)),
            "(steps count from 0: a first step with rate 0 is lost)",
        ),
        (
            "16.1",
            lambda k, n, lr, w: (
                lr * (min(1, (k + 1) / (w * n)) if w else 1) * chapter16.cosine(k, n)
            ),
            "(that is the product of line and cosine, not the smaller)",
        ),
        (
            "16.1",
            lambda k, n, lr, w: (
                lr * ((k + 1) / (w * n) if k < w * n else chapter16.cosine(k - w * n, n - w * n))
            ),
            "(the cosine runs over all steps, not over those after the warm-up)",
        ),
        ("16.2", lambda g, n: g.mean(0), "(the mean of the means)"),
        ("16.2", lambda g, n: g, "a gradient like each"),
        ("16.3", straight, "the old bytes were written over"),
        ("16.3", unsynced, "a name without its bytes"),
        ("16.3", gone_for_a_while, "the file holds nothing, it is gone"),
        ("16.3", lambda path, data: path.nothing, "AttributeError"),
        ("16.4", from_the_dice, "epoch 0: the clips"),
        ("16.4", lambda step, clips, batch, seed: [0], "1 clips, wanted 4"),
        ("16.4", next_seed, "epoch 0 of seed 1 has the order of epoch 1 of seed 0"),
        ("16.1", rounded_warm_up, "0.833333 (a warm-up may end within a step: nothing is rounded)"),
        ("16.1", line_then_cosine, "step 45 of 100, lr 1, warmup 0.5"),
        ("16.3", synced_before_flushed, "not all of the bytes had left Python (flush)"),
        ("16.3", synced_too_early, "not all of the bytes had left Python (flush)"),
        ("16.3", from_another_folder, "a file of another folder"),
        ("16.3", written_over_first, "bytes were also written into the file itself"),
        ("16.3", written_over_after, "bytes were also written into the file itself"),
        ("16.3", partial(whole_write, mode="ab"), "asked again: the file holds 900 bytes"),
        ("16.3", over_what_is_left, "asked again: the file holds 600 bytes"),
        ("16.3", partial(whole_write, mode="xb"), "asked again: FileExistsError"),
        ("16.4", ordered("{}{}".format), "epoch 0 of seed 11 has the order of epoch 10 of seed 1"),
        (
            "16.4",
            ordered(lambda seed, epoch: 2 * seed + 3 * epoch),
            "epoch 0 of seed 3 has the order of epoch 2 of seed 0",
        ),
        (
            "16.4",
            ordered(lambda seed, epoch: f"{seed} {epoch % 8}"),
            "epoch 8 of seed 0 has the order of its epoch 0",
        ),
        ("16.4", of_twelve, "24 clips in batches of 8"),
        ("16.4", ordered(lambda seed, epoch: hash(f"{seed} {epoch}")), "in another process"),
        ("16.4", ordered(lambda seed, epoch: hash((str(seed), epoch))), "in another process"),
        ("16.1", one_step_short, "(the cosine would be 0 one step after the last)"),
        ("16.4", hundreds, "epoch 0 of seed 1 has the order of epoch 100 of seed 0"),
        ("16.4", turned, "begun at another clip"),
        ("16.4", sets_numpy, "what torch, numpy or random would have drawn"),
        ("16.5", one_step, "left out: "),
        ("16.5", lambda make: set(), "left out: ['moments']; you missed ['moments']"),
        ("16.5", lambda make: "dice", "a set of names"),
        ("16.5", only_the_updates, "(an update differs with its gradient, too: test the formula)"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)
