"""Records of runs: checked entry by entry, written whole, and told again as a line."""

import hashlib
import json
import math
import os
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from sal360.cli import train as train_command
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.training import build_model, load_recipe, machine, parse_recipe, recipe_names, records
from sal360.training.agreement import curve_steps
from sal360.training.command import _recipe, parse_settings
from sal360.training.machine import Energy, code_hash, peak_memory, tf32_allowed
from sal360.training.recipe import INPUTS, SCALES
from sal360.training.records import (
    FIELDS,
    Curve,
    check_record,
    load_record,
    new_run_record,
    save_record,
    schema_table,
)
from sal360.training.shell_line import command_of

ROOT = Path(__file__).resolve().parents[1]


def worlds(spec="worlds:train:2:1"):
    data = SyntheticWorlds("train", videos=2, seconds=1, size=(16, 32))
    data.spec = spec
    return data


def record(**overrides):
    recipe = load_recipe("sst-sal", "fast", overrides)
    return new_run_record(recipe, worlds(), worlds("worlds:val:2:1"))


def test_a_new_record_is_right_and_comes_back_from_a_file(tmp_path):
    made = record()
    assert check_record(made) is made and set(made) == {*FIELDS, "commit", "tf32", "exact"}
    assert made["code"] == code_hash() and made["status"] == "running"
    made["steps"], made["best"] = 2, {"step": 2, "metric": "cc", "value": 0.25}
    made["validations"] = [{"step": 2, "means": {"cc": 0.25, "nss": None}}]
    made["scores"] = {"train-0000": {"cc": 0.25, "nss": math.nan}}
    made["curve"] = {"step": [0, 1], "loss": [2.0, 1.0], "lr": [1e-3, 1e-5], "gradient": [1, 1]}
    path = save_record(made, tmp_path / "deep" / "record.json")
    read = load_record(path)
    assert read["scores"] == {"train-0000": {"cc": 0.25, "nss": None}}
    assert {**read, "scores": made["scores"]} == made
    assert '"step": [0, 1],' in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "sal360/run/0"}, "schema: 'sal360/run/0', wanted 'sal360/run/1'"),
        ({"status": "fine"}, "status: 'fine', wanted running, done"),
        ({"code": "abc"}, "code: 'abc', wanted 64 hexadecimal digits"),
        ({"steps": True}, "steps: True, wanted a whole number"),
        ({"steps": 201}, "steps: 201, wanted at most 200"),
        ({"energy_j": -1.0}, "energy_j: -1.0, wanted a number of at least 0, or null"),
        ({"seconds": math.nan}, "seconds: nan, wanted a number"),
        ({"started": "2026-01-01T00:00:00"}, "started: .*wanted ISO 8601 with an offset"),
        ({"scores": {"a": {"cc": "high"}}}, "scores: .*wanted video to metric"),
        ({"lost": 1}, "lost: unknown, wanted one of schema"),
        ({"weights": {"best": {"file": "best.safetensors"}}}, "weights: .*wanted name to file"),
        ({"best": {"step": 3, "metric": "cc"}}, "best: .*wanted step, metric, value"),
        (
            {"curve": {"step": [1, 1], "loss": [1, 1], "lr": [1, 1], "gradient": [1, 1]}},
            "curve: .*ascending",
        ),
        ({"curve": {"step": [1], "loss": [], "lr": [], "gradient": []}}, "curve: .*columns"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(change, told):
    with pytest.raises(ValueError, match=f"r.json: {told}") as caught:
        check_record(record() | change, "r.json")
    assert "\n" not in str(caught.value)


def test_every_entry_must_be_there():
    for name in FIELDS:
        less = record()
        del less[name]
        with pytest.raises(ValueError, match=name):
            check_record(less)


def test_settings_and_digest_belong_together():
    made = record()
    made["recipe"]["lr"] = 7.0
    with pytest.raises(ValueError, match="recipe: digest"):
        check_record(made)


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = save_record(record(), tmp_path / "record.json")
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_record(record(lr=0.5), path)
    with pytest.raises(ValueError, match="status"):
        save_record(record() | {"status": "?"}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def options_of(line):
    """What `sal360 train` reads in such a line."""
    words = shlex.split(line)
    return train_command.make_context("train", words[words.index("train") + 1 :]).params


def asked_for(line):
    """The recipe that such a line runs."""
    told = options_of(line)
    every = told["steps"], told["seed"], told["validate_every"], told["validation"] != "none"
    return _recipe(told["recipe"], None, told["scale"], parse_settings(told["settings"]), *every)


def test_the_line_names_what_is_not_the_recipes_own():
    line = command_of(record(model={"hidden": 5}, size=(16, 32), steps=7, seed=3))
    assert line.partition(" ")[2] == (
        "sal360 train sst-sal --scale fast --steps 7 --seed 3 --validate-every 0 "
        "--set model.hidden=5 --set 'size=[16, 32]' --data worlds:train:2:1 "
        "--validation worlds:val:2:1 --device cpu"
    )
    assert line.startswith("OMP_NUM_THREADS=")


@pytest.mark.parametrize("scored", [None, "worlds:val:2:1"])
@pytest.mark.parametrize("every", [0, 1, 25])
def test_when_is_validated_and_on_what_is_always_said(every, scored):
    """Its reader would put in worlds, and an eighth of the steps."""
    recipe = load_recipe("sst-sal", "fast", {"validate_every": every})
    line = command_of(new_run_record(recipe, worlds(), scored and worlds(scored)))
    assert asked_for(line) == recipe
    assert options_of(line)["validation"] == (scored or "none")


def test_the_order_of_clips_and_kernels_that_are_not_exact_are_said():
    recipe = load_recipe("sst-sal", "fast")
    usual = options_of(command_of(new_run_record(recipe, worlds())))
    assert usual["mix"] is None and usual["exact"] is True
    made = check_record(new_run_record(recipe, worlds(), mix=2, exact=False))
    other = options_of(command_of(made))
    assert (made["data"]["mix"], made["exact"]) == (2, False)
    assert {key for key in usual if usual[key] != other[key]} == {"mix", "exact"}
    assert (other["mix"], other["exact"]) == (2, False)
    for entry, wrong in (("exact", None), ("data", made["data"] | {"mix": "2"})):
        with pytest.raises(ValueError, match=f"{entry}: .*wanted"):
            check_record(made | {entry: wrong})


def test_records_from_before_are_read_and_told():
    """They have no entry of exact kernels, and of a recipe only what there was."""
    made = record()
    del made["exact"], made["tf32"], made["recipe"]["validate_every"]
    redigested(made)
    line = command_of(check_record(made))
    assert asked_for(line) == load_recipe("sst-sal", "fast") and options_of(line)["exact"]


@pytest.mark.parametrize(
    ("convolutions", "products", "before"),
    [
        (True, False, ""),
        (False, False, "NVIDIA_TF32_OVERRIDE=0 "),
        (True, True, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 "),
        (None, False, ""),
    ],
)
def test_the_line_of_a_gpu_says_what_products_might_use(convolutions, products, before):
    made = record()
    made["device"] |= {"type": "cuda"}
    made["tf32"] = {"convolutions": convolutions, "products": products}
    assert command_of(check_record(made)).startswith(f"{before}sal360 train sst-sal ")


def test_what_no_line_can_say_is_told():
    recipe = load_recipe("cube-unet", "fast", {"model": {"face": None}})
    made = check_record(new_run_record(recipe, worlds()))
    assert made["command"] is None
    with pytest.raises(ValueError, match=r"^recipe: model.face: None, which no line can say"):
        command_of(made)
    made = record() | {"tf32": {"convolutions": False, "products": True}, "command": None}
    made["device"] |= {"type": "cuda"}
    with pytest.raises(ValueError, match=r"^tf32: .*which no line can say, and no command told"):
        command_of(made)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_is_run_again_by_its_line(name, scale):
    recipe = load_recipe(name, scale, {"seed": 3})
    line = command_of(new_run_record(recipe, worlds()))
    assert asked_for(line) == recipe and "--set" not in line


OURS = """
system = "spherical-unet"
[ours]
loss = "cc"
anchor = 0.0
target = "relative"
target_scale = 1.0
optimizer = "sgd"
lr = 0.1
momentum = 0.9
weight_decay = 0.0
schedule = "constant"
gradient_clip = 0.0
batch = 1
clip_length = 2
tbptt = 1
size = [16, 32]
steps = 3
teacher_forcing = [0.0, 0.0]
seed = 0
"""


@pytest.mark.parametrize("name", ["mine", "spherical-unet", "sst-sal"])
@pytest.mark.parametrize(
    ("system", "model"),
    [
        ("spherical-unet", ""),
        ("spherical-unet", "size = 'published'"),
        ("spherical-unet", "convention = 'upstream', padding = '0'"),
        ("cube-unet", ""),
        ("cube-unet", "padding = 'reproject'"),
        ("sst-sal", ""),
    ],
)
def test_a_recipe_of_ones_own_is_run_again_whatever_it_is_called(name, system, model):
    """A name of the package's does not make it the package's; what its network's table leaves
    out is the network's own, and a word that is a number in TOML stays a word."""
    text = OURS.replace("spherical-unet", system) + f"model = {{ {model} }}\n"
    recipe = parse_recipe(text, name, "fast")
    again = asked_for(command_of(new_run_record(recipe, worlds())))
    for key in set(recipe.settings()) - {"name", "model"}:
        assert again.settings()[key] == recipe.settings()[key], key
    networks = [build_model(each).settings for each in (recipe, again)]
    one, other = (json.loads(json.dumps(settings)) for settings in networks)
    assert one == other


def test_a_run_of_another_program_tells_its_own_line():
    other = new_run_record(
        load_recipe("cp360", "fast"), worlds(None), command="python -m experiments.x --seed 1"
    )
    assert command_of(check_record(other)) == "python -m experiments.x --seed 1"
    untold = new_run_record(load_recipe("cp360", "fast"), worlds(None))
    half = new_run_record(load_recipe("cp360", "fast"), worlds(), worlds(None))
    for each in (untold, half):
        assert check_record(each)["command"] is None
        with pytest.raises(ValueError, match="data: synthetic-worlds was not opened by a spec"):
            command_of(each)
    given = new_run_record(load_recipe("cp360", "fast"), worlds(), command="")
    assert check_record(given)["command"] is None
    with pytest.raises(ValueError, match="model: given, and no command told"):
        command_of(given)


def test_several_processes_say_so():
    recipe = load_recipe("cp360", "fast")
    line = command_of(new_run_record(recipe, worlds(), processes=2))
    assert "torchrun --nproc-per-node 2 -m sal360 train cp360 " in line


def test_a_curve_has_few_points_and_the_same_ones_after_a_break():
    whole, broken = Curve(most=8), Curve(most=8)
    for step in range(100):
        whole.add(step, step**0.5, 1 / (1 + step), 1.0)
        broken.add(step, step**0.5, 1 / (1 + step), 1.0)
        if step == 41:
            state = json.loads(json.dumps(broken.state_dict()))
            broken = Curve(most=8)
            broken.load_state_dict(state)
    columns = whole.columns()
    assert columns == broken.columns()
    assert len(columns["step"]) == 7 and columns["step"][:2] == [7.5, 23.5]
    assert columns["loss"][1] == pytest.approx(sum(k**0.5 for k in range(16, 32)) / 16, rel=1e-5)


def test_a_record_says_what_float32_products_might_use(monkeypatch):
    """Torch's own settings, as they are when the run begins; records from before have none."""
    assert record()["tf32"] is None  # a CPU
    assert "tf32" not in FIELDS
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a card")
    made = new_run_record(load_recipe("cube-unet", "fast"), worlds(), device="cuda")
    assert check_record(made)["tf32"] == {"convolutions": True, "products": False}
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", False)
    monkeypatch.setattr("torch.backends.cuda.matmul", SimpleNamespace(allow_tf32=True))
    assert tf32_allowed("cuda") == {"convolutions": False, "products": True}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert tf32_allowed("cuda:1") == {"convolutions": False, "products": False}
    for wrong in (True, {"convolutions": True}, {"convolutions": "yes", "products": False}):
        with pytest.raises(ValueError, match=r"r\.json: tf32: .*wanted convolutions, products"):
            check_record(made | {"tf32": wrong}, "r.json")


def test_the_commit_is_that_of_the_package_and_of_no_other_checkout(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "sal360"
    (package / "training").mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(package / "training" / "machine.py"))
    found = machine.commit.__wrapped__
    git("init", "-q")
    (package / "_version.py").write_text("1")
    (tmp_path / "mine.txt").write_text("1")
    git("add", "mine.txt")
    git("commit", "-qm", "one")
    assert found() is None  # installed in somebody's checkout
    git("add", ".")
    git("commit", "-qm", "two")
    assert re.fullmatch("[0-9a-f]{40}", found())
    (tmp_path / "mine.txt").write_text("2")  # beside the package
    assert not found().endswith("+")
    (package / "_version.py").write_text("2")
    assert found().endswith("+")
    monkeypatch.setenv("PATH", "")
    assert found() is None  # no git
    assert check_record(record() | {"commit": "0123abc+"})["commit"] == "0123abc+"


@pytest.mark.parametrize(("said", "told"), [("tf32", True), ("ieee", False), ("none", None)])
def test_a_later_switch_of_torch_is_read_where_the_usual_one_refuses(said, told):
    class Mixed:
        fp32_precision = said

        @property
        def allow_tf32(self):
            raise RuntimeError("you have used a mix of the legacy and new APIs")

    assert machine._allowed(Mixed(), Mixed()) is told


def test_the_table_of_the_schema_is_in_the_readme():
    assert schema_table() in (ROOT / "data" / "README.md").read_text("utf-8")


def test_the_command_checks_and_tells_the_line(tmp_path, capsys):
    path = save_record(record(seed=2), tmp_path / "record.json")
    assert records.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "running, 0 steps" in out and "--seed 2" in out
    path.write_text("{}")
    assert records.main([str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    path.write_text("{")
    assert records.main([str(path), str(tmp_path / "none")]) == 2
    assert "not JSON" in capsys.readouterr().err


REAL = ROOT / "data" / "runs" / "train" / "sst-sal.json"
TOLD = json.loads(REAL.read_text("utf-8"))
SLOW = round(0.9 * 900 * 8 / TOLD["seconds"], 3)  # clips a second: not all that it had
BEST = f"cc {TOLD['best']['value']:.6g}"


def halved(made):
    for name, column in made["curve"].items():
        made["curve"][name] = column[: len(column) // 2]


TOGETHER = {
    "half a curve": (halved, "curve: 112 points, wanted 225 of 900 steps"),
    "a curve of other steps": (
        lambda made: made["curve"]["step"].__setitem__(3, 13.0),
        "curve: a point of step 13, wanted 13.5 of 900 steps",
    ),
    "a rate above the recipe's": (
        lambda made: made["curve"]["lr"].__setitem__(5, 0.9), "curve: lr 0.9, wanted at most the",
    ),
    "a gradient below 0": (
        lambda made: made["curve"]["gradient"].__setitem__(0, -1.0), "curve: lr or gradient below",
    ),
    "too fast for its frames": (
        lambda made: made["throughput"].update(clips_per_s=999),
        f"throughput: {TOLD['throughput']['frames_per_s']:g} frames_per_s, "
        "wanted 8 times 999 clips_per_s",
    ),
    "too slow for its time": (
        lambda made: made["throughput"].update(clips_per_s=SLOW, frames_per_s=8 * SLOW),
        f"throughput: {SLOW:g} clips_per_s, too few for 900 steps of 8 in "
        f"{TOLD['seconds']:g} seconds",
    ),
    "one speed of two": (
        lambda made: made["throughput"].update(clips_per_s=None), "throughput: clips_per_s or",
    ),
    "scores of .99": (
        lambda made: [each.update(cc=0.99) for each in made["scores"].values()],
        f"scores: cc 0.99 in the mean, wanted {BEST[3:]} as in the validation of step 900",
    ),
    "scores of nothing": (
        lambda made: made.update(scores={}), f"scores: cc nan in the mean, wanted {BEST[3:]}",
    ),
    "another best value": (
        lambda made: made["best"].update(value=0.5),
        f"best: cc 0.5 of step 900, wanted {BEST} of step 900 as the validations have it",
    ),
    "another best step": (
        lambda made: made["best"].update(step=675), f"best: {BEST} of step 675, wanted cc",
    ),
    "no best": (lambda made: made.update(best=None), f"best: null, wanted {BEST} of step 900"),
    "best by another metric": (
        lambda made: made["best"].update(metric="nss"), "best: by nss, wanted the recipe's monitor",
    ),
    "best before others": (
        lambda made: made["validations"][0]["means"].update(cc=0.9), f"best: {BEST} of step",
    ),
    "validations in another order": (
        lambda made: made["validations"].reverse(), "validations: of steps [900, 675, 450, 225],",
    ),
    "validated after its end": (
        lambda made: made["validations"][-1].update(step=901), "validations: one of step 901,",
    ),
    "validated on nothing": (lambda made: made.update(validation=None), "validation: null, wanted"),
    "done before its end": (
        lambda made: made.update(steps=899), "steps: 899, wanted the recipe's 900 of a run that is",
    ),
    "another seed": (
        lambda made: made.update(seed=7), f"seed: 7, wanted the recipe's {TOLD['seed']}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", TOGETHER)
def test_entries_that_cannot_be_true_at_once_are_found(tmp_path, capsys, damage):
    path, made = tmp_path / "record.json", json.loads(REAL.read_text("utf-8"))
    change, told = TOGETHER[damage]
    change(made)
    path.write_text(json.dumps(made))
    assert records.main([str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}: {told}" in err and err.count("\n") == 1


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 8, 9, 16, 17, 99, 10**3])
def test_the_steps_of_a_curve_follow_from_their_number(steps):
    curve = Curve(most=8)
    for step in range(steps):
        curve.add(step, 1.0, 1.0, 1.0)
    assert curve.columns()["step"] == curve_steps(steps, 8)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 10**400}, "r.json: steps: 1000"),
        ({"steps": 3}, "r.json: curve: 0 points, wanted 3 of 3 steps"),
        ({"scores": {"a": {"cc": 0.5}}}, "r.json: scores: of some videos, wanted none"),
    ],
)
def test_a_record_of_a_beginning_agrees_or_is_one_line(change, told):
    made = record() | change
    made["recipe"]["steps"] = max(made["recipe"]["steps"], made["steps"])
    redigested(made)
    with pytest.raises(ValueError, match=told):
        check_record(made, "r.json")


def test_what_a_recipe_does_not_tell_is_not_asked():
    """Settings that another version of the package did not have."""
    made = json.loads(REAL.read_text("utf-8"))
    for key in ("monitor", "accumulate", "lr", "batch"):
        del made["recipe"][key]
    redigested(made)
    assert check_record(made) is made


def redigested(made):
    settings = {key: value for key, value in made["recipe"].items() if key != "digest"}
    text = json.dumps(settings, sort_keys=True)
    made["recipe"]["digest"] = hashlib.sha256(text.encode()).hexdigest()


DAMAGE = {
    **{
        f"no {key}": (lambda made, key=key: made["recipe"].pop(key), "recipe: {")
        for key in ("name", "scale", "steps", "seed")
    },
    "spec a number": (lambda made: made["data"].update(spec=5), "data: {"),
    "spec a list": (lambda made: made["validation"].update(spec=[1]), "validation: {"),
    "seconds of 400 digits": (lambda made: made.update(seconds=10**400), "seconds: 1000"),
    "a score of 400 digits": (
        lambda made: made.update(scores={"v": {"cc": -(10**400)}}), "scores: {'v'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_record_that_no_run_wrote_is_one_line(tmp_path, capsys, damage):
    path, made = tmp_path / "record.json", record()
    change, told = DAMAGE[damage]
    change(made)
    redigested(made)
    path.write_text(json.dumps(made))
    assert records.main([str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}: {told}" in err and err.count("\n") == 1


@pytest.mark.parametrize("text", ["[" * 10**5, "1" * 5000])
def test_json_that_python_cannot_read_is_one_line(tmp_path, capsys, text):
    (tmp_path / "record.json").write_text(text)
    assert records.main([str(tmp_path / "record.json")]) == 2
    assert "record.json: not JSON (" in capsys.readouterr().err


def test_a_table_for_a_list_is_told_as_it_is():
    made = record()
    made["recipe"]["size"] = {"height": 16}
    assert "--set 'size={\"height\": 16}'" in command_of(made)


def test_the_records_of_the_repository_are_right():
    """Those of this schema; older ones have their own tests."""
    found = [
        load_record(path)
        for path in sorted((ROOT / "data" / "runs").glob("**/*.json"))
        if json.loads(path.read_text("utf-8")).get("schema") == records.SCHEMA
    ]
    assert {record["recipe"]["system"] for record in found} == set(INPUTS)


def test_what_cannot_be_read_is_none():
    assert Energy("cpu").joules() is None
    memory = peak_memory("cpu")
    assert memory["device_peak_mb"] is None and memory["host_peak_mb"] > 50
