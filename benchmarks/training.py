"""A step of training of each system: clips per second, memory, share of the roofline, where the
time goes, and what was tried.

``python -m benchmarks training`` measures the CPU, each system in a process of its own, so that
its peak of memory is its own, and writes ``data/benchmarks/training.json``. On a machine with a
GPU, where torch and numpy are enough::

    python -m benchmarks.training --gpu --out data/benchmarks/training_gpu.json

It keeps to ``--seconds``: what there was no time for says so. With ``--extend RECORD`` what a
record of the same card and torch has is not measured again, and stays with the day of its
``"measured"``. A *column* is a scale with a number
of threads, or with a precision on a GPU; ``results["columns"][column]`` holds the device's
``rates`` as measured there and one row for each system, and ``results["tries"][system]`` what was
predicted of a change and what came of it. :mod:`benchmarks.step_time` says how a step is timed,
:mod:`benchmarks.roofline` what it has to do, :mod:`benchmarks.tries` what was tried.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import earlier, machine, peak_mb, save
from benchmarks.roofline import (
    Rates,
    Work,
    bytes_of,
    measure_rates,
    operations_of,
    units_of,
    watching_kept,
)
from benchmarks.step_time import (
    begin,
    bench_recipe,
    operators,
    phases,
    spread,
    step_times,
    threads,
    told,
)
from benchmarks.tries import TRIES, Before, attempt
from sal360 import _runtime
from sal360.training.fit import fit
from sal360.training.recipe import INPUTS, Recipe

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {
    "fast, 1 thread": ("fast", 1),
    "cpu, 1 thread": ("cpu", 1),
    "fast, 2 threads": ("fast", 2),
}
"""On a CPU: scale and threads. The first one is taken apart, and tries are made there."""
TRIED = ("sst-sal", "lookup-unet", "cube-unet")
"""Systems on which changes are tried: sampled convolutions with and without a memory, and plain
ones on cubes."""
SECONDS = {"fast": 1.5, "cpu": 3.0, "gpu": 1.0}
"""How long the steps of one setting are timed."""
PATIENCE = 100.0
"""Seconds for all that is tried on one system on a CPU."""
NO_TIME = {"not run": "no time was left"}


def figures(
    recipe: Recipe, device: torch.device, rates: Rates, seconds: float, apart: bool = True
) -> dict[str, Any]:
    """All about one system's step.

    Args:
        apart: also take the step apart (phases, operators); False: time and memory alone.
    """
    model, batch = begin(recipe, device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    times = spread(step_times(model, batch, recipe, seconds))
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if cuda else peak_mb()
    H, W = recipe.size
    out = {
        "shape": f"{recipe.batch} x {recipe.clip_length} x {H} x {W}",
        "batch": recipe.batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        **times,
        "clips_per_s": recipe.batch / times["median_s"],
        "frames_per_s": recipe.batch * recipe.clip_length / times["median_s"],
        "peak_mb": peak,
    }
    # What follows may fail, a profiler that is not allowed, say: times stand without it.
    out["work"] = told(lambda: asdict(work_of(recipe, model, batch)), [], "work")
    if "not run" not in out["work"]:
        work = Work(**out["work"])
        out |= work.share(rates, units_of(model, recipe.precision, device), times["median_s"])
        out["operations_per_s"] = work.operations / times["median_s"]
    if apart:
        count = 1 if times["median_s"] > 0.5 else 3
        out["phases"] = told(lambda: phases(model, batch, recipe, count), [], "phases")
        out["operators"] = told(lambda: operators(model, batch, recipe), [], "operators")
    return out


def work_of(recipe: Recipe, model: torch.nn.Module, batch: Any) -> Work:
    """Operations counted, bytes estimated while one step runs."""
    with watching_kept(model) as kept:
        next(fit(model, repeat(batch), recipe))
    inputs = sum(t.nbytes for t in (batch.frames, batch.truth, batch.flow) if t is not None)
    return Work(operations_of(recipe), bytes_of(recipe, model, inputs, kept[0]), kept[0])


def before_of(row: dict[str, Any], rates: Rates) -> Before:
    """What tries predict from; where the profiler said nothing, starting fewer kernels gains
    nothing."""
    found = {"busy_s": row["median_s"], "launches": 0} | row["operators"]
    shares = {"optimiser": 0.0} | row["phases"]
    work = Work(0, 0, 0) if "not run" in row["work"] else Work(**row["work"])
    units = row.get("units", "fp32")
    return Before(row["median_s"], found["busy_s"], shares, found["launches"], work, rates, units)


def tries(
    name: str,
    scale: str,
    row: dict[str, Any],
    rates: Rates,
    device: torch.device,
    clock: Clock,
    report: Callable[[str, str, dict[str, Any]], None] = lambda *_: None,
) -> dict[str, Any]:
    """Every change that this kind of device can have, each alone."""
    out: dict[str, Any] = {}
    for what, one in TRIES.items():
        if device.type not in one.on:
            continue
        if clock.left() < 2:
            out[what] = NO_TIME
            continue
        before = before_of(row, rates)

        def now(what: str = what, one: Any = one, before: Before = before) -> dict[str, Any]:
            with clock.alarm():
                return attempt(name, one, scale, before, device, SECONDS[scale] / 2)

        found = told(now, [], what)
        if "not run" in found:  # the prediction was made, and stays
            found |= {"predicted": one.predicted(before), "because": one.because}
        out[what] = found
        report(name, what, found)
    return out


class Clock:
    """How much time is left, and an alarm that ends what would take longer (a compilation)."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()

    @contextmanager
    def alarm(self) -> Iterator[None]:
        rung = []

        def ring(*_: Any) -> None:
            rung.append(True)
            raise TimeoutError

        before = signal.signal(signal.SIGALRM, ring)
        # Again and again: a compiler may swallow the first.
        signal.setitimer(signal.ITIMER_REAL, max(0.1, self.left()), 1.0)
        try:
            yield
        except Exception as error:  # whoever caught ours, a compiler, gives it another name
            if rung:
                raise TimeoutError("no time was left to finish it") from error
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


# --- on a CPU ---


def run(systems: Sequence[str] = tuple(INPUTS)) -> dict[str, Any]:
    """Every column on this CPU, a process for each row; then what was tried, and the loader."""
    from benchmarks.training_waiting import waiting

    columns: dict[str, Any] = {}
    tried: dict[str, Any] = {}
    first = next(iter(COLUMNS))
    for column, (scale, count) in COLUMNS.items():
        with threads(count):
            rates = measure_rates(torch.device("cpu"))
        rows = {name: apart(name, scale, count, rates, column == first) for name in systems}
        columns[column] = {"rates": asdict(rates), "systems": rows}
        for name in TRIED if column == first else ():
            if "not run" not in rows.get(name, NO_TIME):
                tried[name] = apart(name, scale, count, rates, row=rows[name])
    load = [round(part, 2) for part in os.getloadavg()]
    return {"columns": columns, "tries": tried, "waiting": waiting(), "load": load}


def apart(
    name: str,
    scale: str,
    count: int,
    rates: Rates,
    whole: bool = True,
    row: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """:func:`figures` in another process, or :func:`tries` where ``row`` is given."""
    ask = {"name": name, "scale": scale, "threads": count, "rates": asdict(rates), "row": row}
    ask["whole"] = whole
    command = [sys.executable, "-m", "benchmarks.training", "--one", "-"]
    done = subprocess.run(
        command, input=json.dumps(ask), capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"not run": f"ended with {done.returncode} ({last[:160]})"}
    return json.loads(done.stdout.splitlines()[-1])


def one(ask: dict[str, Any]) -> dict[str, Any]:
    """What :func:`apart` asks for, in this process."""
    _runtime.tune_allocator()
    torch.set_num_threads(ask["threads"])
    device, rates = torch.device("cpu"), Rates(**ask["rates"])
    if ask["row"] is not None:
        return tries(ask["name"], ask["scale"], ask["row"], rates, device, Clock(PATIENCE))
    recipe = bench_recipe(ask["name"], ask["scale"])
    return figures(recipe, device, rates, SECONDS[ask["scale"]], ask["whole"])


# --- on a GPU ---


def run_gpu(
    seconds: float,
    scale: str,
    systems: Sequence[str],
    device: torch.device,
    keep: Callable[[dict[str, Any]], Any] = lambda results: None,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Both precisions of every system, then the tries, then compiled ones, until time is up.

    Args:
        keep: is given what there is after every measurement, for whoever is ended from outside.
        before: results of another run (:func:`rows_of`); what is there is not measured again.
    """
    there = before or {"columns": {}, "tries": {}}
    clock, notes = Clock(seconds), []  # type: ignore[var-annotated]
    rates = measure_rates(device)
    columns: dict[str, Any] = {
        f"{scale}, {precision}{how}": {"rates": asdict(rates), "systems": {}}
        for how in ("", ", compiled")
        for precision in ("fp32", "bf16")
    }
    results: dict[str, Any] = {"columns": columns, "tries": {}, "notes": notes}

    def measure(name: str, precision: str, compiled: bool, apart: bool) -> None:
        column = f"{scale}, {precision}{', compiled' if compiled else ''}"
        if name in there["columns"].get(column, {}).get("systems", {}):
            return
        if clock.left() < (8 if compiled else 2):
            columns[column]["systems"][name] = NO_TIME
            return

        def now() -> dict[str, Any]:
            recipe = bench_recipe(name, scale, precision=precision, compile=compiled)
            with clock.alarm():
                return figures(recipe, device, rates, SECONDS[scale], apart)

        row = columns[column]["systems"][name] = told(now, notes, f"{name}, {column}")
        print(f"{clock.left():5.0f} s left  {name:16} {column:22} {_line(row)}", flush=True)
        keep(joined(there, results))
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def report(name: str, what: str, found: dict[str, Any]) -> None:
        print(f"{clock.left():5.0f} s left  {name:16} {what:22} {_line(found)}", flush=True)

    for name in systems:
        measure(name, "fp32", False, True)
        measure(name, "bf16", False, True)
    for name in [n for n in TRIED if n in systems]:
        row = joined(there, results)["columns"][f"{scale}, fp32"]["systems"][name]
        if "not run" not in row and name not in there["tries"]:
            results["tries"][name] = tries(name, scale, row, rates, device, clock, report)
            keep(joined(there, results))
    for precision in ("bf16", "fp32"):
        for name in reversed(systems):  # the smallest first
            measure(name, precision, True, False)
    return joined(there, results)


def rows_of(path: Path, here: dict[str, Any]) -> dict[str, Any]:
    """Columns and tries of a record, each row with the day it was measured.

    Raises:
        ValueError: a record of another card or torch, or another file.
    """
    results, day = earlier(path, here)
    try:
        columns = {
            title: {
                "rates": column["rates"],
                "systems": {
                    name: {"measured": day, **row}
                    for name, row in column["systems"].items()
                    if "median_s" in row
                },
            }
            for title, column in results["columns"].items()
        }
        whole = {
            name: {what: {"measured": day, **row} for what, row in rows.items()}
            for name, rows in results["tries"].items()
            if NO_TIME not in rows.values()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a record of a GPU's training ({error!r})") from None
    return {"columns": columns, "tries": whole, "notes": results.get("notes", [])}


def joined(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Two results in one; where both have a row, that of ``new``, unless it was not run there.

    A column has the rates of ``new`` where a row of it is of that run.
    """
    columns = {}
    for title, column in new["columns"].items():
        old = before["columns"].get(title, {"systems": {}})
        ran = {n: row for n, row in column["systems"].items() if "median_s" in row}
        columns[title] = {
            "rates": column["rates"] if ran or not old["systems"] else old["rates"],
            "systems": column["systems"] | old["systems"] | ran,
        }
    notes = list(dict.fromkeys([*before.get("notes", []), *new["notes"]]))
    return {"columns": columns, "tries": {**before["tries"], **new["tries"]}, "notes": notes}


def _line(row: dict[str, Any]) -> str:
    if "ratio" in row:
        return f"predicted x {row['predicted']:.2f}, measured x {row['ratio']:.2f}"
    if "not run" in row:
        return row["not run"]
    return (
        f"{1000 * row['median_s']:8.1f} ms  {row['clips_per_s']:7.1f} clips/s  "
        f"{row.get('of_roofline', math.nan):4.0%} of the roofline  {row['peak_mb']:6.0f} MB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module; ``--try`` runs the GPU's part once, at scale fast, on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--gpu", action="store_true", help="measure this machine's GPU")
    parser.add_argument("--try", action="store_true", dest="attempt", help="the same on the CPU")
    parser.add_argument("--seconds", type=float, default=70.0, help="keep to so many")
    parser.add_argument("--systems", default=",".join(INPUTS), help="names, separated by commas")
    parser.add_argument("--extend", type=Path, metavar="RECORD", help="measure what it lacks; the "
                        "new record has both")  # fmt: skip
    parser.add_argument("--out", type=Path, help="default: data/benchmarks/training_gpu.json; "
                        "what is tried is written only where this says")  # fmt: skip
    args = parser.parse_args(arguments)
    systems = args.systems.split(",")
    if unknown := [name for name in systems if name not in INPUTS]:
        parser.error(f"--systems: {unknown[0]!r}, wanted some of {', '.join(INPUTS)}")
    if not 0 < args.seconds < math.inf:
        parser.error(f"--seconds: {args.seconds}, wanted a number above 0")
    if args.one:
        print(json.dumps(one(json.loads(sys.stdin.read()))))
        return 0
    if not args.attempt and not (args.gpu and torch.cuda.is_available()):
        raise SystemExit("no GPU here, or --gpu not said; --try runs the script on the CPU")
    torch._logging.set_logs(dynamo=logging.ERROR, inductor=logging.ERROR)
    warnings.simplefilter("ignore")
    device = torch.device("cpu" if args.attempt else "cuda")
    scale = "fast" if args.attempt else "gpu"

    def keep(results: dict[str, Any]) -> Path | None:
        if args.attempt and args.out is None:
            return None  # the record there is of a GPU
        return save("training_gpu", results, args.out)

    before = None
    try:
        if args.extend is not None:
            before = rows_of(args.extend, machine())
        if args.out is not None:  # if it cannot be there, better now
            args.out.parent.mkdir(parents=True, exist_ok=True)
        found = run_gpu(args.seconds, scale, systems, device, keep, before)
        print(keep(found) or "not written")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
