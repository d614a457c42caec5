"""The benchmark of a training step: what is counted, predicted and timed is what it says."""

import dataclasses
import json
import os
import sys
import time

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_layers, page_gpu, page_training, step_time, training
from benchmarks.measure import save
from benchmarks.roofline import (
    PARAMETER_TRIPS,
    Rates,
    Work,
    bytes_of,
    measure_rates,
    operations_of,
    units_of,
    watching_kept,
)
from benchmarks.tries import TRIES, UNREACHED, Before, attempt
from sal360.experiments import published
from sal360.models.cost import _READS, WithoutValues
from sal360.nn import SphereConv2d
from sal360.training.fit import build_model, fit

CPU = torch.device("cpu")
RATES = Rates(1e10, {"fp32": 1e11, "tf32": 8e11, "bf16": 1e12}, 1e-5)


def before(**other):
    """A step of 100 ms: 10 ms of products, 40 ms of moving, 20 ms of starting."""
    facts = {
        "seconds": 0.1,
        "busy_s": 0.08,
        "phases": {"forward": 0.5, "backward": 0.3, "clipping": 0.1, "optimiser": 0.1},
        "launches": 2000,
        "work": Work(10**9, 4 * 10**8, 10**7),
        "rates": RATES,
    }
    return Before(**{**facts, **other})


# --- counted ---


@pytest.mark.parametrize("name", ["lookup-unet", "cube-unet", "cp360", "sst-sal-noflow"])
def test_counted_operations_are_those_that_are_executed(name):
    """Frames times passes, beside what a step really does: own maps, frozen parts and all."""
    recipe = step_time.bench_recipe(name, "fast")
    model, batch = step_time.begin(recipe, CPU)
    steps = fit(model, iter([batch] * 2), recipe)
    next(steps)
    with FlopCounterMode(display=False, custom_mapping=_READS) as counter:
        next(steps)
    assert 0.85 < counter.get_total_flops() / operations_of(recipe) < 1.05


def test_operations_grow_with_clips_and_frames():
    one = operations_of(step_time.bench_recipe("sst-sal-noflow", "fast"))
    assert operations_of(step_time.bench_recipe("sst-sal-noflow", "fast", batch=3)) == 3 * one
    long = step_time.bench_recipe("sst-sal-noflow", "fast", clip_length=12)
    assert operations_of(long) == 2 * one


def test_kept_bytes_by_hand():
    """Of ``(x w).exp()`` the input and the result are kept, each once; ``w`` is a parameter."""
    layer = nn.Linear(1, 1)
    x = torch.ones(100)
    plain = Tensor.backward
    with watching_kept(layer) as kept:
        for _ in range(2):
            ((x * layer.weight[0, 0]).exp()).sum().backward()
    assert kept == [2 * 2 * 400]
    assert Tensor.backward is plain
    recipe = step_time.bench_recipe("sst-sal-noflow", "fast")
    assert bytes_of(recipe, layer, 7, 100) == 7 + 500 + PARAMETER_TRIPS["adam"] * 2 * 4


def test_the_roofline_is_the_slower_of_two():
    assert Work(10**11, 10**9, 0).ideal_s(RATES, "fp32") == 1.0
    assert Work(10**11, 10**9, 0).bound(RATES, "fp32") == "operations"
    assert Work(10**11, 2 * 10**9, 0).ideal_s(RATES, "bf16") == 0.2
    assert Work(10**11, 2 * 10**9, 0).bound(RATES, "bf16") == "bytes"
    slow = dataclasses.replace(RATES, operations_per_s={"fp32": 1e11, "bf16": 1e9})
    assert Work(10**11, 0, 0).ideal_s(slow, "bf16") == 1.0  # emulated: no bound
    share = Work(8 * 10**11, 10**9, 0).share(RATES, "tf32x3", 6.0)  # three products for one
    assert share == {
        "units": "tf32x3",
        "ceiling_per_s": pytest.approx(8e11 / 3),
        "ideal_s": pytest.approx(3.0),
        "of_roofline": pytest.approx(0.5),
        "bound_by": "operations",
    }


GPU = torch.device("cuda")


def test_units_are_those_that_torch_may_use(monkeypatch):
    """What a recipe calls fp32 is TF32 in cuDNN's convolutions, and thrice that in ours."""
    monkeypatch.setattr("sal360.nn.sampled_cuda.triton_works", lambda device: True)
    plain, sampled, narrow = nn.Conv2d(3, 3, 3), SphereConv2d(16, 16), SphereConv2d(3, 8)
    assert units_of(plain, "fp32", CPU) == units_of(sampled, "fp32", CPU) == "fp32"
    assert units_of(plain, "bf16", GPU) == "bf16"
    assert units_of(nn.Sequential(sampled, plain), "fp32", GPU) == "tf32"
    assert units_of(nn.Sequential(narrow, sampled), "fp32", GPU) == "tf32x3"
    assert units_of(narrow, "fp32", GPU) == "fp32"  # products of cuBLAS
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert units_of(plain, "fp32", GPU) == "fp32"
    with TRIES["TF32 products"].around(sampled, None, None):
        assert units_of(sampled, "fp32", GPU) == units_of(narrow, "fp32", GPU) == "tf32"
    monkeypatch.setattr("sal360.nn.sampled_cuda.triton_works", lambda device: False)
    assert units_of(sampled, "fp32", GPU) == "fp32"


@pytest.mark.parametrize("name", ["spherical-unet", "lookup-unet", "cube-unet", "cp360"])
def test_the_record_of_a_gpu_has_the_ceiling_of_what_ran(name, monkeypatch):
    """Each share follows from the row's own times, operations and bytes."""
    monkeypatch.setattr("sal360.nn.sampled_cuda.triton_works", lambda device: True)
    recipe = step_time.bench_recipe(name, "gpu")
    with WithoutValues():
        model = build_model(recipe)
    for precision in ("fp32", "bf16"):
        column = published.benchmark("training_gpu")["results"]["columns"][f"gpu, {precision}"]
        row = column["systems"][name]
        if "not run" not in row:
            share = Work(**row["work"]).share(
                Rates(**column["rates"]), units_of(model, precision, GPU), row["median_s"]
            )
            assert {key: row[key] for key in share} == pytest.approx(share)


def test_rates_are_measured():
    found = measure_rates(CPU, n=64, repeats=1)
    assert found.bytes_per_s > 1e6 and found.launch_s < 1e-2
    assert set(found.operations_per_s) == {"fp32", "bf16"}


# --- predicted ---


def test_predictions_follow_from_the_figures_before():
    predicted = {name: one.predicted(before()) for name, one in TRIES.items()}
    assert predicted == {
        "bf16": pytest.approx((0.1 - 0.009 - 0.02) / 0.1),
        "TF32 products": pytest.approx((0.1 - 0.00875) / 0.1),
        "fused Adam": pytest.approx(0.93),
        "channels last": 1.0,
        "twice the batch": pytest.approx(0.9),
        "CUDA graphs": pytest.approx(0.8),
        "torch.compile": pytest.approx(0.6),
    }
    already = before(units="tf32")  # what a GPU does with float32 in plain convolutions
    assert TRIES["TF32 products"].predicted(already) == 1.0
    assert TRIES["bf16"].predicted(already) == pytest.approx((0.1 - 0.00025 - 0.02) / 0.1)
    starting = before(launches=10**6)  # nothing but starting kernels
    assert TRIES["bf16"].predicted(starting) == 1.0
    assert TRIES["twice the batch"].predicted(starting) == 0.5


def test_a_try_is_timed_by_the_clip(monkeypatch):
    seen = []

    class Timed:
        def __init__(self, model, batch, recipe):
            self.clips = recipe.batch
            assert len(batch) == recipe.batch

    def in_turn(trainings, seconds):
        seen.append([one.clips for one in trainings])
        return [[0.1, 0.4, 0.2], [0.3, 0.4, 0.3]][-len(trainings) :]  # ratios 3, 1, 1.5

    monkeypatch.setattr("benchmarks.tries.Training", Timed)
    monkeypatch.setattr("benchmarks.tries.in_turn", in_turn)
    one = TRIES["twice the batch"]
    found = attempt("sst-sal-noflow", one, "fast", before(), CPU, 0.1)
    assert seen == [[1, 2]] and found["ratio"] == pytest.approx(0.75)
    assert found["predicted"] == pytest.approx(0.9) and found["because"] == one.because
    assert found["median_s"] == 0.3 and found["without_s"] == 0.2
    attempt("sst-sal-noflow", TRIES["TF32 products"], "fast", before(), CPU, 0.1)
    assert seen[1:] == [[1], [1]]  # what changes every step is timed by itself


def test_a_precision_that_reaches_nothing_is_not_timed_against_itself():
    found = attempt("sst-sal-noflow", TRIES["bf16"], "fast", before(), CPU, 0.1)
    assert found["not run"] == UNREACHED and "ratio" not in found
    assert attempt("cube-unet", TRIES["bf16"], "fast", before(), CPU, 0.1)["ratio"] > 0


def test_steps_take_turns():
    order = []

    class Steps:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds
            self.steps = (one for one in ())

        def step(self):
            order.append(self.name)
            return self.seconds

    assert step_time.in_turn([Steps("a", 1.0), Steps("b", 3.0)], 8) == [[1.0] * 4, [3.0] * 4]
    assert order == ["a", "b"] * 4
    assert step_time.in_turn([Steps("a", 1.0)], 0.1) == [[1.0] * 3]
    assert step_time.in_turn([Steps("a", 1.0)], 99, at_most=5) == [[1.0] * 5]


def test_a_change_of_the_optimiser_is_undone():
    plain, seen = torch.optim.Adam, []
    recipe = step_time.bench_recipe("sst-sal-noflow", "fast")
    model, batch = step_time.begin(recipe, CPU)
    with TRIES["fused Adam"].around(model, batch, recipe):
        seen.append(torch.optim.Adam([nn.Parameter(torch.zeros(1))]).param_groups[0]["fused"])
    assert seen == [True] and torch.optim.Adam is plain


@pytest.mark.parametrize("name", ["sst-sal-noflow", "cube-unet"])
def test_what_is_recorded_as_a_graph_is_the_same_step(name, monkeypatch):
    """Stretches as functions of tensors, memory and all; the recording itself needs a GPU."""
    recorded = []

    def as_it_is(call, samples):
        recorded.append([tuple(one.shape) for one in samples])
        return call

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", as_it_is)
    short = {} if name == "cube-unet" else {"tbptt": 3}
    recipe = step_time.bench_recipe(name, "fast", **short)
    model, batch = step_time.begin(recipe, CPU)
    again, _ = step_time.begin(recipe, CPU)
    plain = next(fit(model, iter([batch]), recipe))
    with TRIES["CUDA graphs"].around(again, batch, recipe):
        other = next(fit(again, iter([batch]), recipe))
    assert other.loss == pytest.approx(plain.loss, rel=1e-5)
    assert other.gradient == pytest.approx(plain.gradient, rel=1e-4)
    assert len(recorded) == 1
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6)


# --- timed ---


@pytest.fixture(scope="module")
def row():
    recipe = step_time.bench_recipe("sst-sal-noflow", "fast")
    return training.figures(recipe, CPU, RATES, 0.01)


def test_figures_of_a_step(row):
    assert row["steps"] >= 3 and row["min_s"] <= row["median_s"] <= row["max_s"]
    assert row["frames_per_s"] == pytest.approx(6 * row["clips_per_s"])
    assert row["of_roofline"] == pytest.approx(row["ideal_s"] / row["median_s"])
    assert sum(row["phases"].values()) == pytest.approx(1)
    assert min(row["phases"].values()) > 0 and row["phases"]["backward"] > 0.1
    top = [one["share"] for one in row["operators"]["top"]]
    assert top == sorted(top, reverse=True) and 0 < sum(top) <= 1
    assert row["operators"]["launches"] > 500 and row["peak_mb"] > 50
    assert json.loads(json.dumps(row)) == row


def test_phases_leave_torch_as_it_was():
    recipe = step_time.bench_recipe("sst-sal-noflow", "fast")
    model, batch = step_time.begin(recipe, CPU)
    plain = Tensor.backward
    with pytest.raises(ValueError, match="no truth"):
        step_time.phases(model, dataclasses.replace(batch, truth=None), recipe)
    assert Tensor.backward is plain
    hooks = sys.modules["torch.optim.optimizer"]
    assert not hooks._global_optimizer_pre_hooks and not hooks._global_optimizer_post_hooks


def test_what_fails_is_told_and_the_rest_goes_on():
    notes = []
    found = step_time.told(lambda: 1 / 0, notes, "this")
    assert found == {"not run": "ZeroDivisionError: division by zero"}
    assert notes == ["this: ZeroDivisionError: division by zero"]


def test_a_step_is_timed_where_no_profiler_is(monkeypatch, row):
    """And the page shows what there is."""

    def forbidden(*_):
        raise RuntimeError("CUPTI is not allowed here")

    monkeypatch.setattr(training, "operators", forbidden)
    monkeypatch.setattr(training, "work_of", forbidden)
    recipe = step_time.bench_recipe("sst-sal-noflow", "fast")
    found = training.figures(recipe, CPU, RATES, 0.01)
    assert found["clips_per_s"] > 0 and "of_roofline" not in found
    assert found["operators"] == {"not run": "RuntimeError: CUPTI is not allowed here"}
    guess = training.before_of(found, RATES)
    assert TRIES["CUDA graphs"].predicted(guess) == 1.0 == TRIES["twice the batch"].predicted(guess)
    column = {"rates": dataclasses.asdict(RATES), "systems": {"sst-sal-noflow": found}}
    text = page_training.training_gpu({"columns": {"gpu, fp32": column}, "tries": {}})
    assert f"{found['clips_per_s']:.3g}" in text and "Where the time goes" not in text


def test_time_that_is_up_ends_what_is_running():
    clock = training.Clock(0.05)
    start = time.monotonic()

    def compile_for_long():
        try:
            time.sleep(30)
        except TimeoutError:
            raise RuntimeError("a compiler says something else") from None

    with pytest.raises(TimeoutError, match="no time was left"), clock.alarm():
        compile_for_long()
    assert time.monotonic() - start < 10
    with pytest.raises(KeyError), clock.alarm():
        raise KeyError  # not ours


def test_without_time_the_gpus_part_says_so_everywhere(monkeypatch):
    monkeypatch.setattr(training, "measure_rates", lambda device: RATES)
    found = training.run_gpu(0.0, "fast", ["cube-unet"], CPU)
    assert set(found["columns"]) == {
        f"fast, {p}{c}" for p in ("fp32", "bf16") for c in ("", ", compiled")
    }
    for column in found["columns"].values():
        assert column["systems"] == {"cube-unet": training.NO_TIME}
    text = page_training.training_gpu(found)
    assert (
        text.count("Not run: cube-unet (no time was left).") == 4 and "What was tried" not in text
    )


def test_what_a_record_has_is_not_measured_again(monkeypatch, row, tmp_path, capsys):
    """And what a later run measures takes the place of what was not run."""
    asked = []

    def figures(recipe, device, rates, seconds, apart):
        asked.append((recipe.name, recipe.precision, recipe.compile))
        if recipe.compile:
            raise RuntimeError("no compiler")
        return dict(row)

    monkeypatch.setattr(training, "measure_rates", lambda device: RATES)
    monkeypatch.setattr(training, "figures", figures)
    monkeypatch.setattr(training, "tries", lambda name, *_: {"bf16": {"ratio": 1.0}})
    first = training.run_gpu(60.0, "fast", ["lookup-unet"], CPU)
    assert len(asked) == 4 and list(first["tries"]) == ["lookup-unet"]
    path = save("training_gpu", first, tmp_path / "one.json")
    record = json.loads(path.read_text())
    before = training.rows_of(path, record["machine"])
    day, asked[:] = record["date"][:10], []
    both = training.run_gpu(60.0, "fast", ["lookup-unet", "cube-unet"], CPU, before=before)
    assert [one for one in asked if one[0] == "lookup-unet"] == [
        ("lookup-unet", "bf16", True), ("lookup-unet", "fp32", True)]  # fmt: skip
    assert len(asked) == 6
    plain = both["columns"]["fast, fp32"]["systems"]
    assert plain["lookup-unet"] == {"measured": day, **row} and plain["cube-unet"] == row
    failed = both["columns"]["fast, fp32, compiled"]["systems"]
    assert {one["not run"] for one in failed.values()} == {"RuntimeError: no compiler"}
    assert both["tries"] == {"lookup-unet": {"bf16": {"measured": day, "ratio": 1.0}},
                             "cube-unet": {"bf16": {"ratio": 1.0}}}  # fmt: skip
    for one in both["tries"].values():
        one["bf16"] |= {"predicted": 1.0, "because": "so"}
    assert page_training.training_gpu(both).count(
        f"Measured in another run on such a card ({day}): lookup-unet (fast, fp32), "
        "lookup-unet (fast, bf16), what was tried on lookup-unet.\n"
    ) == 1  # fmt: skip
    # The other way round: a run without time keeps all, and the rates that were measured with it.
    late = training.joined(before, training.run_gpu(0.0, "fast", ["lookup-unet"], CPU))
    assert late["columns"]["fast, fp32"]["systems"]["lookup-unet"] == {"measured": day, **row}
    with pytest.raises(ValueError, match="measured with another torch than this machine's"):
        training.rows_of(path, record["machine"] | {"torch": "1.0"})
    for text, told in (
        ('{"results": []}', "not a record of a benchmark"),
        ("no JSON", "not a record of a benchmark"),
        (json.dumps(record | {"results": {"shapes": {}}}), "not a record of a GPU's training"),
    ):
        path.write_text(text)
        with pytest.raises(SystemExit, match="2"):
            training.main(["--try", "--seconds", "1", "--extend", str(path)])
        assert f"{path}: {told}" in capsys.readouterr().err


def test_the_page_shows_what_the_record_holds(row):
    tried = {
        "bf16": {"predicted": 0.5, "because": "why", "ratio": 0.75},
        "torch.compile": {"predicted": 0.6, "because": "why", "not run": "no | here"},
    }
    results = {
        "columns": {
            "fast, 1 thread": {
                "rates": dataclasses.asdict(RATES),
                "systems": {"sst-sal-noflow": row, "cp360": {"not run": "ended with 1"}},
            }
        },
        "tries": {"sst-sal-noflow": tried},
        "load": [0.5, 1.0, 2.0],
        "waiting": {
            "system": "sst-sal",
            "shape": "1 x 6",
            "workers": {"0 workers": {"median_s": 0.1, "waiting": 0.25, "clips_per_s": 9.0}},
        },
    }
    text = page_training.training(results)
    for told in (
        f"{row['clips_per_s']:.3g}",
        f"{row['phases']['backward']:.0%}",
        "\nNot run: cp360 (ended with 1).\n",
        "|  | sst-sal-noflow |",
        "| bf16 | 0.5, 0.75 |",
        "| torch.compile | 0.6, not run |",
        "\n- bf16: why\n",
        "\nNot run: torch.compile of sst-sal-noflow (no | here).\n",
        "25%",
        "0.5, 1, 2",
    ):
        assert told in text, told
    assert "busy machine**" not in text
    assert "busy machine**" in page_training.training(results | {"load": [9.0, 1.0, 0.5]})
    assert "busy machine**" not in page_training.training(results | {"load": [2.0, 1.0, 0.5]})
    for line in text.splitlines():
        assert not line.startswith("|") or line.count("|") in (3, 5, 7, 8), line
    column = results["columns"]["fast, 1 thread"]
    column["systems"]["cp360"] = row | {"units": "tf32", "of_roofline": 0.0004}
    assert f"under 0.1% ({row['bound_by']}, tf32)" in page_training.training_gpu(results)


def test_waiting_is_measured_in_the_real_loop():
    """Clips that are kept are not waited for."""
    from benchmarks.training_waiting import KEPT, waiting

    found = waiting(2, (0,))["workers"]
    assert 0 < found[KEPT]["waiting"] < found["0 workers"]["waiting"] < 1
    assert found["0 workers"]["clips_per_s"] > 0


# --- the command lines ---


@pytest.mark.parametrize(
    "words",
    [
        ["--systems", "sst-sal,nobody"],
        ["--seconds", "nan"],
        ["--seconds", "0"],
        ["--out", f"{__file__}/record.json"],
    ],
)
def test_the_command_refuses_before_it_measures(words, monkeypatch, capsys):
    monkeypatch.setattr(training, "run_gpu", lambda *given: pytest.fail("measured"))
    with pytest.raises(SystemExit, match="2"):
        training.main(["--try", *words])
    assert "Traceback" not in capsys.readouterr().err


def test_what_is_tried_on_a_cpu_is_no_record_of_a_gpu(monkeypatch, tmp_path, capsys):
    def measured(*given):
        given[-2]({"columns": {}})  # what there is after the first measurement
        return {}

    monkeypatch.setattr(training, "run_gpu", measured)
    monkeypatch.setattr("benchmarks.measure.DATA", tmp_path / "data")
    assert training.main(["--try"]) == 0
    assert "not written" in capsys.readouterr().out and not (tmp_path / "data").exists()
    assert training.main(["--try", "--out", str(tmp_path / "new" / "one.json")]) == 0
    assert json.loads((tmp_path / "new" / "one.json").read_text())["results"] == {}


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    save("one", {"old": 1}, tmp_path / "one.json")

    def killed(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save("one", {"new": 2}, tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text())["results"] == {"old": 1}


class Allocator:
    """Of a card, as torch counts it: bytes that are held, and the most since the last reset."""

    def __init__(self, monkeypatch):
        self.held = self.peak = 0
        for name, answer in {
            "memory_allocated": lambda device: self.held,
            "max_memory_allocated": lambda device: self.peak,
            "reset_peak_memory_stats": lambda device: setattr(self, "peak", self.held),
            "synchronize": lambda device: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    def take(self, size):
        self.held += size
        self.peak = max(self.peak, self.held)


def test_memory_of_a_layer_is_its_own_whoever_was_measured_before(monkeypatch):
    """Candidates wait, with all that they keep, while the next one is measured."""
    card = Allocator(monkeypatch)

    def made(call, *tensors):
        needs, keeps = call
        card.take(keeps)

        def timed():
            card.take(needs)
            card.take(-needs)
            return 1.0

        return timed

    monkeypatch.setattr(gpu_layers, "step", made)
    timed = {"median_s": 1.0}
    monkeypatch.setattr(gpu_layers, "interleaved", lambda all_, _: {n: dict(timed) for n in all_})
    monkeypatch.setattr(gpu_layers.Shape, "tensors", small_tensors)
    calls = {
        "planar, fp32": ((5_000_000, 10_000_000), "fp32"),
        "planar again, fp32": ((3_000_000, 70_000_000), "fp32"),
        "planar, bf16": ((2_000_000, 0), "bf16"),
    }
    rates = {"bytes_per_s": 1e9, "fp32_operations_per_s": 1e9, "bf16_operations_per_s": 4e9}
    shape = gpu_layers.shapes(True)[0]
    times = gpu_layers.measured(shape, calls, GPU, rates | {"tf32_operations_per_s": 2e9}, 1)[
        "times"
    ]
    assert {name: row["pass_mb"] for name, row in times.items()} == {
        "planar, fp32": 5.0, "planar again, fp32": 3.0, "planar, bf16": 2.0,
    }  # fmt: skip
    assert [row["units"] for row in times.values()] == ["tf32", "tf32", "bf16"]
    shares = [row["of_roofline"] for row in times.values()]
    assert shares[0] == pytest.approx(2 * shares[2])
    assert gpu_layers.units_of(rates, "fp32") == "fp32"  # a CPU


def small_tensors(shape, device, dtype, few=False):
    p = shape.pattern
    x = torch.randn(1, shape.I, p.H, p.W, dtype=torch.float64)
    return [x.requires_grad_(), torch.randn(shape.O, shape.I, p.taps).double().requires_grad_()]


def test_a_pass_keeps_no_gradient():
    x, weight = small_tensors(gpu_layers.shapes(True)[0], CPU, None)
    timed = gpu_layers.step(lambda x, w: x * w.sum(), x, weight, "fp32")
    assert timed() > 0 and x.grad is None and weight.grad is None


def test_the_page_leaves_out_what_was_measured_wrongly():
    """Memory that counts other candidates, and float32 beside a rate without tensor cores."""
    old = {"median_s": 1.0, "ratio": 1.0, "of_roofline": 0.456, "peak_mb": 1234.0}
    new = {"median_s": 1.0, "ratio": 1.0, "of_roofline": 0.12, "pass_mb": 77.0, "units": "tf32"}
    rates = {f"{k}_operations_per_s": 1e12 for k in ("fp32", "bf16")} | {"bytes_per_s": 1e9}

    def page(**times):
        rows = {f"{name}, {kind}": row for name, row in times.items() for kind in ("fp32", "bf16")}
        shapes = {"a shape": {"times": rows, "failed": {}}}
        others = {"shape": "1 x 1", "times": {}, "failed": {}}
        told = {"rates": rates, "gradcheck": {}, "shapes": shapes, "others": others}
        return page_gpu.section(told)

    before = page(a=old)
    assert "1234" not in before and before.count("46%") == 1 and "measured wrongly" in before
    both = page(a=old, b=new)
    assert both.count("| 77 |") == 2 and both.count("12%") == 2 and "1234" not in both
    assert "measured wrongly" not in page(b=new)
    written = published.benchmark("gpu_layers")["results"]
    assert ("measured wrongly" in page_gpu.section(written)) == ("peak_mb" in str(written))


def test_what_is_said_of_the_routes_is_what_the_record_says():
    """In the docstring of ``sampled_cuda.route``: how much faster, and at which memory."""
    gains, memory = {}, []
    for title, row in published.benchmark("gpu_layers")["results"]["shapes"].items():
        for kind in ("bf16", "fp32"):
            kernel, sums = (row["times"][f"{name}, {kind}"]
                            for name in ("one kernel", "Triton sums, project first"))  # fmt: skip
            gains[title.split(",")[0], title[-3:], kind] = kernel["median_s"] / sums["median_s"]
            memory.append(sums["pass_mb"] / kernel["pass_mb"])
    tangent = {key[1:]: gain for key, gain in gains.items() if key[0] == "tangent 3 x 3"}
    assert all(1.1 <= gain < 1.2 for (to, _), gain in tangent.items() if to != "144")
    assert round(tangent["144", "bf16"], 1) == 1.8 and round(tangent["144", "fp32"], 1) == 2.3
    assert {round(gain, 1) for key, gain in gains.items() if "crown" in key[0]} == {1.5, 1.6}
    assert 4 < min(memory) < max(memory) < 17


def test_layers_without_a_time_come_first_and_nothing_measured_is_lost(monkeypatch, tmp_path):
    first, second = (shape.title for shape in gpu_layers.shapes(True))
    begun = []

    def measured(shape, *given):
        begun.append(shape.title)
        if len(begun) == 3:
            raise RuntimeError("out of memory")
        return {"failed": {}, "times": {"a": {"median_s": 1.0, "ratio": 1.0}}}

    monkeypatch.setattr(gpu_layers, "measured", measured)
    monkeypatch.setattr(gpu_layers, "checks", lambda device: [])
    kept = []
    whole = gpu_layers.run(CPU, True, 1, 60.0, None, lambda results: kept.append(str(results)))
    assert begun == [first, second] and len(kept) == 2
    whole["shapes"][second] = gpu_layers.NO_TIME
    again = gpu_layers.run(CPU, True, 1, 60.0, whole)
    assert begun[2:] == [second, first] and list(again["shapes"]) == [first, second]
    assert again["shapes"][second]["failed"] == {"all": "RuntimeError: out of memory"}
    over = gpu_layers.run(CPU, True, 1, 1e-9)
    assert over["shapes"] == {first: gpu_layers.NO_TIME, second: gpu_layers.NO_TIME}
    # What a later run has no time for stays, and says when it was measured; on the same card.
    path = save("gpu_layers", whole | {"blocks": {}}, tmp_path / "one.json")
    record = json.loads(path.read_text())
    rows = gpu_layers.rows_of(path, record["machine"])
    later = gpu_layers.run(CPU, True, 1, 1e-9, rows)["shapes"]
    day = record["date"][:10]
    assert later == {first: whole["shapes"][first] | {"measured": day}, second: gpu_layers.NO_TIME}
    shown = page_gpu.section(whole | {"shapes": rows["shapes"]})
    assert shown.count(f"(measured on {day}, in another run)") == 1
    assert gpu_layers.rows_of(path, record["machine"] | {"torch": "1.0"}) == {}
    monkeypatch.setattr(sys, "argv", ["gpu_layers", "--seconds", "nan"])
    with pytest.raises(SystemExit, match="2"):
        gpu_layers.main()
