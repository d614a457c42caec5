"""Who predicts best where people look, beside what costs nothing? All systems, trained alike.

Worlds are rendered once and held; every arm of :mod:`sal360.experiments.leaderboard_arms` is
trained by :func:`sal360.training.run.train` in a process of its own, several at once on one
graphics card; the validation worlds choose the weights that are kept; the test worlds, which share
no content with the others, score them, upright and with the camera tilted. Chapter 17 reads the
record::

    python -m sal360.experiments.leaderboard --scale gpu --out runs --processes 14 --minutes 9
    python -m sal360.experiments.leaderboard --out runs --real data/runs/leaderboard.json

Where the time was up, ``--extend data/runs/leaderboard.json`` trains what that record lacks, and
writes it with both (:mod:`sal360.experiments.leaderboard_extend`).

The record, ``leaderboard.json``, schema ``sal360/leaderboard/1``::

    scale       "fast", "cpu" or "gpu"; of the first two the numbers show that the code runs
    settings    size, fps, train/val/test: [worlds, seconds], tilts, seeds, batch, steps,
                clip_length, precision, eps, bands: {name: [from, below]} degrees, bins, reference
    unequal     list of lines: what could not be kept equal between arms
    device, versions, code, command, started, minutes (the limit, or null)
    seconds     from start to end, and of what was done in calls before, by its processes
    videos      names of the V test worlds, in the order of every list below
    conditions  ["upright", "tilt 30", "tilt 60", "tilt 90"]
    looked      {condition: {band: [V numbers of fixations]}}
    arms        {name: {
        system, kind ("network", "planar twin", "published width", "baseline"),
        twin        name of the arm on the sphere that differs in nothing else, or null
        parameters, recipe (settings of the first seed; null for baselines)
        runs        [{seed, status ("done", "interrupted", "stopped early", "no training"),
                      steps, clips, seconds, clips_per_s, best (step, or null), validation (the
                      score there, not in early records), weights, sha256,
                      scores: {condition: {
                          cc, sim, kld, nss   [V], means over the frames of each video
                          latitude            {band: [V mean z-scores, null where nobody looked]}
                          calibration         [bins shares of fixations, darkest part first]
                          off                 half the sum of |share - 1 / bins| }},
                      memory (of what remembers): {"carried": CC on the validation worlds,
                          "every 8": the same, "kept": the name of the better, by which the
                          scores were made}, carried or emptied: scores of the other (in early
                          records upright alone, or not of runs that carry it on; ``--memory``),
                      over_time (by ``--memory``): {"val", "upright": {"carried", "emptied":
                          [CC in each second, mean over videos]}},
                      mass (by ``--memory``, memories emptied): {"upright", "tilt 90": {band:
                          share of the predicted mass}},
                      made (of a run with another code, device or torch than the record's): the
                          three}] }}
    not_run     {arm or "arm, seed k": reason}
    extended    (if it was) of each later call its command, started, seconds, device and runs
    real        null, or {data, videos, note, metrics, people (scores of half of the people),
                  arms: {name: [{seed, metric: [score of each video]}]}}, see leaderboard_real

Every number of an arm is there for each seed; :mod:`sal360.experiments.leaderboard_table` pools
them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sal360 import _runtime
from sal360._files import write_whole
from sal360._version import __version__
from sal360.baselines import MeanMap
from sal360.datasets.held import HeldVideos, hold
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.datasets.tilted import Tilted
from sal360.experiments.leaderboard_arms import (
    ARMS,
    CLIP,
    FPS,
    NOT_RUN,
    REFERENCE,
    SCALES,
    UNEQUAL,
    Arm,
    Scale,
    jobs_of,
    overrides,
    steps_of,
)
from sal360.experiments.leaderboard_extend import check_same, extended, has
from sal360.experiments.leaderboard_memory import EMPTIED, add_other, chosen, other_way, remembers
from sal360.experiments.leaderboard_scores import (
    BANDS,
    BINS,
    Scene,
    lies_in,
    predicted,
    scene,
    scored,
)
from sal360.models import load_model
from sal360.models.cp360 import CP360
from sal360.models.cp360_pretraining import pretrain
from sal360.models.registry import check_device, save_weights
from sal360.models.weights import read_weights
from sal360.nn.planar import to_planar
from sal360.results import sha256
from sal360.training import run_files as records
from sal360.training.fit import build_model
from sal360.training.machine import FILES, ROOMS, code_hash, device_facts
from sal360.training.recipe import Recipe, load_recipe
from sal360.training.validation import EPS

SCHEMA = "sal360/leaderboard/1"
ENTRIES = {"scale": str, "settings": dict, "unequal": list, "device": str, "code": str,
           "versions": dict, "videos": list, "conditions": list, "looked": dict, "arms": dict,
           "not_run": dict}  # fmt: skip
"""Of a record, those that its tables are made of, and what an extension asks for."""
ROW = {"kind": str, "twin": (str, NoneType), "parameters": int, "recipe": (dict, NoneType),
       "runs": list}  # fmt: skip
"""The same of an arm."""
RUN = {"seed": int, "status": str, "steps": int, "scores": dict}
"""And of a run."""
TAIL = 40.0
"""Seconds before the limit at which trainings are stopped, so that they can still be scored."""
LARGEST_PART = 15 << 20
"""Bytes of weights in one archive."""
Report = Callable[[str], None]


# --- the worlds ---


def condition(tilt: float) -> str:
    """Name of a test set."""
    return f"tilt {tilt:g}" if tilt else "upright"


def packs(out: Path, scale: Scale, processes: int, report: Report = print) -> dict[str, HeldVideos]:
    """Training, validation and test worlds, each rendered once: ``train``, ``val`` and the
    conditions."""
    start, made = time.monotonic(), {}

    def worlds(split: str, size: tuple[int, float]) -> SyntheticWorlds:
        return SyntheticWorlds(split, size[0], size[1], FPS, scale.size)

    wanted: dict[str, Any] = {"train": worlds("train", scale.train)}
    wanted["val"] = worlds("val", scale.val)
    wanted["upright"] = test = worlds("test", scale.test)
    wanted |= {condition(tilt): Tilted(test, tilt) for tilt in scale.tilts}
    (out / "packs").mkdir(parents=True, exist_ok=True)
    workers = _runtime.workers(processes) if processes > 2 else None
    with workers or nullcontext():
        for name, data in wanted.items():
            folder = out / "packs" / name.replace(" ", "-")
            made[name] = hold(data, folder, pictures=True, pool=workers)
    report(f"worlds ready after {time.monotonic() - start:.0f} s")
    return made


def opened(out: Path) -> dict[str, HeldVideos]:
    """The packs that are there; what another process makes beside them has no name yet."""
    packed = sorted(path.parent for path in (out / "packs").glob("*/about.json"))
    return {
        path.name.replace("-", " "): HeldVideos(path) for path in packed if path.suffix != ".part"
    }


# --- one arm ---


def recipe_of(arm: Arm, scale_name: str, seed: int) -> Recipe:
    """The arm's recipe at the leaderboard's scale."""
    return load_recipe(arm.recipe, "gpu", overrides(arm, SCALES[scale_name], seed))


def made(arm: Arm, scale_name: str, seed: int, device: str, train: HeldVideos) -> nn.Module:
    """The network before its training, or the baseline."""
    if arm.kind == "baseline":
        if arm.name != "mean-map":
            return load_model(arm.name)
        return MeanMap(mean_truth(train))
    recipe = recipe_of(arm, scale_name, seed)
    model = build_model(recipe)
    if arm.kind == "planar twin" and "padding" not in arm.model:
        model = to_planar(model)
        model.input_size = recipe.size  # type: ignore[assignment]
    model = model.to(device)
    if arm.pretrained:
        assert isinstance(model, CP360)
        worlds, steps = SCALES[scale_name].pretraining
        pretrain(model, worlds, steps, seed=seed)
        model.input_size = recipe.size
    return model


def mean_truth(train: HeldVideos) -> Tensor:
    """``(H, W)`` mean density of the training worlds."""
    total: Tensor | None = None
    for video in train.videos:
        truth = train.read(video).truth
        assert truth is not None
        known = truth[truth.flatten(1).isfinite().all(1)]
        mean = known.double().mean((0, 1))
        total = mean if total is None else total + mean
    assert total is not None
    return total.cpu()


def one(
    name: str,
    seed: int,
    scale_name: str,
    out: Path,
    device: str,
    until: float | None = None,
    held: dict[str, HeldVideos] | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Train an arm with one seed, score it, and write what came of it.

    Args:
        until: time of day (:func:`time.time`) after which training stops. held: the packs.
        processes: in which a baseline that is slow looks at films.
    Returns:
        a run of the record, with ``arm``, ``parameters``, ``recipe``; ``processor`` and
        ``threads``, without which nobody can make it again to the bit.
    """
    arm, scale = ARMS[name], SCALES[scale_name]
    held = opened(out) if held is None else held
    start = time.monotonic()
    result: dict[str, Any] = {"arm": name, "seed": seed, "status": "no training", "steps": 0,
                              "clips": 0, "clips_per_s": None, "best": None, "weights": None,
                              "sha256": None, "recipe": None, "made": _made(device),
                              "processor": device_facts(device)["name"],
                              "threads": torch.get_num_threads()}  # fmt: skip
    model = made(arm, scale_name, seed, device, held["train"])
    place = folder = out / "runs" / f"{name}-{seed}"
    former = _result(out, (name, seed)) if _result_path(out, (name, seed)).is_file() else None
    if former is not None:  # what it came to stays until this one has come as far
        folder = out / "anew" / f"{name}-{seed}"
    remembering = False
    if arm.kind != "baseline":
        val = scene(held["val"], "val", device)
        remembering = remembers(model, val)
        if remembering:  # validated as it is trained: on clips that begin with an empty memory
            model.forgets = CLIP  # type: ignore[assignment]
        folder.mkdir(parents=True, exist_ok=True)
        recipe = recipe_of(arm, scale_name, seed)
        result["recipe"] = recipe.settings()
        kept = folder / "last.safetensors"
        if arm.trained:
            result |= _train(recipe, scale_name, name, model, held, folder, device, until)
            if (folder / "best.safetensors").is_file():
                kept = folder / "best.safetensors"
            cut = result["status"] == "interrupted"
            if former is not None and cut and result["steps"] <= former["steps"]:
                shutil.rmtree(folder)
                return former
            model.load_state_dict(read_weights(kept))
        else:
            save_weights(model, kept, arm=name, seed=seed, recipe=recipe.settings())
        result |= {"weights": f"{name}-{seed}.safetensors", "sha256": sha256(kept)}
    result["parameters"] = sum(p.numel() for p in model.parameters())
    if remembering:
        result["memory"] = chosen(model, val)
    result |= _score(model, held, scale, device, processes, result.get("memory"))
    result["seconds"] = round(time.monotonic() - start, 1)
    if arm.kind != "baseline":
        (out / "weights").mkdir(exist_ok=True)
        write_whole(out / "weights" / result["weights"], kept.read_bytes())
        if folder != place:
            shutil.rmtree(place, ignore_errors=True)
            os.replace(folder, place)
    records.write(json.dumps(result), _result_path(out, (name, seed)))
    return result


def _train(
    recipe: Recipe,
    scale_name: str,
    name: str,
    model: nn.Module,
    held: Mapping[str, HeldVideos],
    folder: Path,
    device: str,
    until: float | None,
) -> dict[str, Any]:
    """Train an arm in a folder; what its run of the record says of that."""
    from sal360.training.run import train

    run = train(
        recipe,
        held["train"].to(device),
        held["val"].to(device),
        folder,
        model=model,
        device=device,
        checkpoint_every=1_000_000,
        force=True,
        command=f"python -m sal360.experiments.leaderboard --scale {scale_name} "
        f"--only {name} --out FOLDER",
        exact=SCALES[scale_name].exact,
        stop=None if until is None else lambda: time.time() > until,
    )
    if run["status"] == "interrupted" and (until is None or time.time() <= until):
        raise KeyboardInterrupt  # by a signal, which the training took: not a result
    steps, best = int(run["steps"]), run.get("best") or {}
    return {
        "status": run["status"],
        "steps": steps,
        "clips": steps * steps_of(ARMS[name], SCALES[scale_name])[1],
        "clips_per_s": run["throughput"]["clips_per_s"],
        "best": best.get("step"),
        "validation": best.get("value"),
    }


def _score(
    model: nn.Module,
    held: Mapping[str, HeldVideos],
    scale: Scale,
    device: str,
    processes: int,
    memory: Mapping[str, Any] | None,
) -> dict[str, dict[str, Any]]:
    """Scores on the test worlds, upright and tilted; of a model that remembers as validation
    chose, and beside them the other way."""
    every = CLIP if memory is not None and memory["kept"] == EMPTIED else None
    found: dict[str, dict[str, Any]] = {"scores": {}}
    for tilt in (0.0, *scale.tilts):
        test = scene(held[condition(tilt)], condition(tilt), device)
        found["scores"][test.name] = scored(predicted(model, test, processes, every), test)
        if memory is not None:
            way, other = other_way(memory)
            maps = predicted(model, test, every=other)
            found.setdefault(way, {})[test.name] = scored(maps, test)
    return found


# --- all of them ---


def run(
    scale_name: str,
    out: str | Path,
    only: Sequence[str] = (),
    processes: int = 0,
    minutes: float | None = None,
    device: str | None = None,
    report: Report = print,
    command: str = "",
    extend: str | Path | None = None,
) -> dict[str, Any]:
    """Train and score everything; what is done already in ``out`` is not done again.

    A training that the time cut off has its place in the record, and is trained anew if the same
    ``out`` is given more time.

    Args:
        scale_name: of :data:`SCALES`. out: folder. only: these arms.
        processes: arms at once, each in its own process; 0: one after the other in this one.
        minutes: after which everything is over; what is not done by then is told.
        extend: a record of the same scale; what it has whole is not done, and the new record
            has all of it.
    Returns:
        the record; it lies in ``out/leaderboard.json``, too.
    Raises:
        ValueError: a record to extend that is of other settings.
    """
    out, scale = Path(out), SCALES[scale_name]
    old = None if extend is None else load(extend)
    if old is not None and old["scale"] != scale_name:
        raise ValueError(f"extend: {extend} is of scale {old['scale']!r}, wanted {scale_name!r}")
    begun, started = time.time(), datetime.now(UTC)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    jobs = jobs_of(scale_name, tuple(only))
    if old is not None:
        jobs = [job for job in jobs if not has(old, job, _settings_of(job, scale_name))]
        report(f"{len(jobs)} runs are missing in {extend}")
    held = packs(out, scale, processes, report)
    if old is not None:  # before hours are spent
        check_same(old, _plain(collect(scale_name, out, [], {}, held, device)))
    until = None if minutes is None else begun + 60 * minutes - TAIL
    known = {job: _result(out, job) for job in jobs if _result_path(out, job).is_file()}
    cut = [job for job, found in known.items() if found["status"] == "interrupted"]
    waiting = [job for job in jobs if job not in known] + cut
    earlier = sum(found["seconds"] for found in known.values())
    failed: dict[str, str] = {}
    if processes:
        failed = _at_once(waiting, scale_name, out, device, processes, until, report)
    for name, seed in () if processes else waiting:
        if until is not None and time.time() > until:
            failed[f"{name}, seed {seed}"] = "time was up before it began"
            continue
        try:
            report(_told(one(name, seed, scale_name, out, device, until, held)))
        except Exception as error:  # one that fails must not stop the others; the record says why
            if os.environ.get("SAL360_DEBUG"):
                raise
            failed[f"{name}, seed {seed}"] = why = f"{type(error).__name__}: {error}"[:200]
            report(f"{name}, seed {seed}: {why}")
    record = collect(scale_name, out, jobs, failed, held, device)
    record |= {
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.time() - begun + earlier / max(1, processes), 1),
        "minutes": minutes,
    }
    if old is not None:
        record = extended(old, _plain(record), jobs)
    save(record, out / "leaderboard.json")
    return load(out / "leaderboard.json")


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """As it would be read."""
    return dict(json.loads(json.dumps(record)))


def _settings_of(job: tuple[str, int], scale_name: str) -> dict[str, Any] | None:
    """The recipe as a record has it; None of a baseline."""
    arm = ARMS[job[0]]
    if arm.kind == "baseline":
        return None
    return _plain(recipe_of(arm, scale_name, job[1]).settings())


def _result_path(out: Path, job: tuple[str, int]) -> Path:
    return out / "jobs" / f"{job[0]}-{job[1]}.json"


def _result(out: Path, job: tuple[str, int]) -> dict[str, Any]:
    """What :func:`one` wrote."""
    path = _result_path(out, job)
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a result ({error}); remove it to do it again") from None


def _at_once(
    jobs: list[tuple[str, int]],
    scale_name: str,
    out: Path,
    device: str,
    processes: int,
    until: float | None,
    report: Report,
) -> dict[str, str]:
    """Run jobs in processes of their own; why some have no result."""
    waiting, failed = list(jobs), {}
    working: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        while waiting or working:
            late = until is not None and time.time() > until
            while waiting and late:
                name, seed = waiting.pop(0)
                failed[f"{name}, seed {seed}"] = "time was up before it began"
            while waiting and len(working) < processes:
                name, seed = job = waiting.pop(0)
                line = [sys.executable, "-m", "sal360.experiments.leaderboard", "--job",
                        f"{name}:{seed}", "--scale", scale_name, "--out", str(out),
                        "--device", device, "--parent", str(os.getpid())]  # fmt: skip
                line += [] if until is None else ["--until", repr(until)]
                with (logs / f"{name}-{seed}.txt").open("wb") as log:
                    alone = os.environ | {"OMP_NUM_THREADS": "1"}
                    working[job] = subprocess.Popen(line, stdout=log, stderr=log, env=alone)
            for job, process in list(working.items()):
                name, seed = job
                over = False
                if process.poll() is None:
                    over = until is not None and time.time() > until + TAIL - 8
                    if not over:
                        continue
                    process.kill()
                    process.wait()
                del working[job]
                if over:
                    failed[f"{name}, seed {seed}"] = why = "time was up before it was scored"
                    report(f"{name}, seed {seed}: {why}")
                elif process.returncode == 0:
                    report(_told(_result(out, job)))
                else:
                    lines = (logs / f"{name}-{seed}.txt").read_text("utf-8", "replace").split("\n")
                    last = next((line for line in reversed(lines) if line.strip()), "no word")
                    failed[f"{name}, seed {seed}"] = (
                        f"ended with {process.returncode}: {last[:200]}"
                    )
                    report(f"{name}, seed {seed}: " + failed[f"{name}, seed {seed}"])
            time.sleep(0.05)
    finally:  # who ends this process ends them: nobody else would wait for what comes of them
        for process in working.values():
            process.kill()
            process.wait()
    return failed


def collect(
    scale_name: str,
    out: Path,
    jobs: list[tuple[str, int]],
    failed: dict[str, str],
    held: dict[str, HeldVideos],
    device: str,
) -> dict[str, Any]:
    """The record of what is done."""
    scale = SCALES[scale_name]
    conditions = [condition(tilt) for tilt in (0.0, *scale.tilts)]
    arms: dict[str, Any] = {}
    order, here = list(ARMS), _made(device)
    for name, seed in sorted(jobs, key=lambda job: (order.index(job[0]), job[1])):
        if not _result_path(out, (name, seed)).is_file():
            failed.setdefault(f"{name}, seed {seed}", "not begun")
            continue
        failed.pop(f"{name}, seed {seed}", None)  # it was to be trained anew, and is as it was
        found = _result(out, (name, seed))
        arm = ARMS[name]
        row = arms.setdefault(name, {
            "system": arm.system, "kind": arm.kind, "twin": arm.twin,
            "parameters": found["parameters"], "recipe": found["recipe"], "runs": [],
        })  # fmt: skip
        apart = {"arm", "parameters", "recipe"}
        if found.get("made") == here:
            apart.add("made")
        row["runs"].append({k: v for k, v in found.items() if k not in apart})
    looked = {name: _looked(scene(held[name], name)) for name in conditions}
    return {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": here["code"],
        "scale": scale_name,
        "settings": {
            **{k: v for k, v in asdict(scale).items() if k not in ("fewer", "validations")},
            "fewer": {name: list(v) for name, v in scale.fewer.items()},
            "validations": scale.validations, "fps": FPS, "clip_length": CLIP, "eps": EPS,
            "bands": {name: list(band) for name, band in BANDS.items()}, "bins": BINS,
            "reference": REFERENCE,
        },
        "unequal": list(UNEQUAL),
        "device": here["device"],
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
        "videos": list(held["upright"].videos),
        "conditions": conditions,
        "looked": looked,
        "arms": arms,
        "not_run": {**failed, **NOT_RUN},
        "real": None,
    }  # fmt: skip


def _made(device: str) -> dict[str, str]:
    """With what a run is made."""
    cuda = device.startswith("cuda")
    return {
        "code": code(),
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU",
        "torch": torch.__version__,
    }


def _looked(test: Scene) -> dict[str, list[int]]:
    V, T, _, _ = test.shape
    return {
        band: torch.bincount(test.frame[lies_in(test, band)] // T, minlength=V).tolist()
        for band in BANDS
    }


def _told(found: dict[str, Any]) -> str:
    upright = found["scores"]["upright"]
    told = ", ".join(f"{m} {np.mean(upright[m]):.3f}" for m in ("cc", "kld", "nss"))
    rate = found["clips_per_s"]
    speed = "" if rate is None else f", {rate:.0f} clips/s"
    return (
        f"{found['arm']}, seed {found['seed']}: {told}; {found['status']} after {found['steps']} "
        f"steps, {found['seconds']:.0f} s{speed}"
    )


# --- files ---


def code() -> str:
    """SHA-256 of what decides the numbers."""
    own = sorted(path.name for path in Path(__file__).parent.glob("leaderboard*.py"))
    # These only look at what came out.
    told = ("leaderboard_table.py", "leaderboard_real.py", "leaderboard_extend.py")
    return code_hash(
        (*ROOMS, "baselines"), (*FILES, *(f"experiments/{n}" for n in own if n not in told))
    )


def save(record: dict[str, Any], path: str | Path) -> None:
    """Write a record, whole or not at all; a list of numbers a line.

    A page of its tables that lies beside it, ``.md``, is written again, so that both agree;
    another file of that name is left alone.
    """
    text = json.dumps(record, indent=1)
    records.write(one_line_lists(text) + "\n", path)
    from sal360.experiments.leaderboard_table import document, is_page

    if is_page(beside := Path(path).with_suffix(".md")):
        records.write(document(record, beside.stem), beside)


def one_line_lists(text: str) -> str:
    """JSON whose innermost lists stand in one line each."""
    import re

    return re.sub(
        r"\[\s+([^\[\]{}]*?)\s+\]",
        lambda found: "[" + re.sub(r",\s+", ", ", found.group(1)) + "]",
        text,
    )


def load(path: str | Path | None = None) -> dict[str, Any]:
    """The record; the published one if no path is given.

    Raises:
        FileNotFoundError. ValueError: another file, or an entry that is not there; one line.
    """
    path = records.published("leaderboard.json") if path is None else path
    record = records.read(path, SCHEMA)
    _entries(record, ENTRIES, f"{path}")
    for arm, row in record["arms"].items():
        _entries(row, ROW, f"{path}: arms: {arm}")
        for number, one in enumerate(row["runs"]):
            _entries(one, RUN, f"{path}: arms: {arm}: runs: {number}")
    return record


def _entries(found: Any, wanted: Mapping[str, Any], where: str) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{where}: {type(found).__name__}, wanted a dict")
    for name, kinds in wanted.items():
        if not isinstance(found.get(name, ...), kinds):
            what = type(found[name]).__name__ if name in found else "missing"
            kind = kinds[0] if isinstance(kinds, tuple) else kinds
            raise ValueError(f"{where}: {name}: {what}, wanted a {kind.__name__}")


def archive(out: Path, target: Path) -> list[Path]:
    """Pack the records, and in parts the weights but those of published width, for a machine that
    hands back few files."""
    target.mkdir(parents=True, exist_ok=True)
    small = target / "records.tar.gz"
    with tarfile.open(small, "w:gz") as tar:
        for kind in ("leaderboard.json", "jobs/*.json", "logs/*.txt", "runs/*/record.json"):
            for path in sorted(out.glob(kind)):
                tar.add(path, path.relative_to(out).as_posix())
    parts: list[list[Path]] = [[]]
    size = 0
    for path in sorted((out / "weights").glob("*.safetensors")):
        name = path.stem.rpartition("-")[0]
        if ARMS[name].kind == "published width":
            continue
        if parts[-1] and size + path.stat().st_size > LARGEST_PART:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += path.stat().st_size
    written = [small]
    for number, part in enumerate(part for part in parts if part):
        written.append(target / f"weights-{number}.tar")
        with tarfile.open(written[-1], "w") as tar:
            for path in part:
                tar.add(path, f"weights/{path.name}")
    return written


# --- the command line ---


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.leaderboard", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", default="fast", choices=sorted(SCALES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--only", action="append", default=[], metavar="ARM", help="repeatable")
    parser.add_argument("--processes", type=int, default=0, choices=range(256), metavar="N",
                        help="arms at once; 0: none beside")  # fmt: skip
    parser.add_argument("--minutes", type=float, help="after which everything is over")
    parser.add_argument("--device")
    parser.add_argument("--archive", type=Path, metavar="FOLDER", help="pack the results there")
    parser.add_argument("--extend", type=Path, metavar="RECORD", help="do what it lacks; the new "
                        "record has both")  # fmt: skip
    parser.add_argument("--real", type=Path, metavar="RECORD", help="score the weights of --out on "
                        "AVTrack360, into this record")  # fmt: skip
    parser.add_argument("--root", type=Path, help="AVTrack360 (fetched if not given)")
    parser.add_argument("--memory", type=Path, metavar="RECORD", help="score weights of --out with "
                        "the memory that was not kept, into this record")  # fmt: skip
    for inner in ("--job", "--until", "--parent"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    runs = ("only", "processes", "minutes", "archive", "extend")
    for mode, unused in (("real", (*runs, "memory")), ("memory", (*runs, "root"))):
        if getattr(given, mode) and (told := [name for name in unused if getattr(given, name)]):
            parser.error(f"--{told[0]}: not used with --{mode}")
    if given.root and not given.real:
        parser.error("--root: not used without --real")
    if given.minutes is not None and not 0 < given.minutes < math.inf:
        parser.error(f"--minutes: {given.minutes}, wanted a number above 0")
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    _runtime.tune_allocator()
    if given.job:
        torch.set_num_threads(1)
        if given.parent:
            _runtime.end_with_parent(int(given.parent))
        name, _, seed = given.job.rpartition(":")
        until = None if given.until is None else float(given.until)
        at_once = 8 if name == "contrast" and device != "cpu" else 1
        print(_told(one(name, int(seed), given.scale, given.out, device, until, None, at_once)))
        return 0

    before = None
    if threading.current_thread() is threading.main_thread():  # so that the others are ended, too
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run_all(given, device, sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from there", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("SAL360_DEBUG"):
            raise
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _run_all(given: argparse.Namespace, device: str, words: list[str]) -> int:
    def report(line: str) -> None:
        print(line, flush=True)

    check_device(device)
    if given.real:
        from sal360.experiments.leaderboard_real import add_real

        add_real(given.real, given.out / "weights", given.root, report)
        return 0
    if given.memory:
        add_other(given.memory, given.out, device, report)
        return 0
    if given.archive:
        given.archive.mkdir(parents=True, exist_ok=True)  # if it cannot be there, better now
    places = {given.out: "FOLDER", given.archive: "ARCHIVE", given.extend: "RECORD"}

    def plain(word: str) -> str:  # nobody else's are these, however they are written
        given_so = word.startswith("--") and "=" in word
        option, sign, value = word.partition("=") if given_so else ("", "", word)
        return option + sign + places.get(Path(value), value)

    command = " ".join(["python -m sal360.experiments.leaderboard", *map(plain, map(str, words))])
    run(given.scale, given.out, given.only, given.processes, given.minutes, device, report,
        command, given.extend)  # fmt: skip
    if given.archive:
        for path in archive(given.out, given.archive):
            report(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
