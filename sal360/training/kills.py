"""Kill training runs at random moments, resume them, and see that they end in the same bits.

A run that was never stopped is the reference. Each other is a real process that gets a SIGKILL: at
a random time, after a random step, or in the middle of a random file that it writes; often once
more after it was resumed. In the end weights, their running mean, the optimiser's moments, the
place in the data, the curve and the validations must be those of the reference, bit for bit::

    python -m sal360.training.kills --runs 50 --out data/runs/kills.json

Chapter 16 shows one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from sal360 import _runtime
from sal360._version import __version__
from sal360.datasets.item import Item, VideoDataset
from sal360.datasets.synthetic import render_clip
from sal360.results import sha256
from sal360.training import run_files as records
from sal360.training.checkpoint import read_checkpoint
from sal360.training.fit import Step
from sal360.training.machine import code_hash, device_facts, versions
from sal360.training.recipe import load_recipe
from sal360.training.run import train

SCHEMA = "sal360/kills/1"
SIZE, FRAMES = (16, 32), 9
STEPS = 10
TIMED = ("seconds", "waiting", "training", "joules")
"""What of a run's progress is a time, or follows from one."""


class Embedded:
    """Short films of the embedded clip, held in memory; a data set."""

    name = "embedded"
    size = SIZE

    def __init__(self, videos: int, first: int = 0) -> None:
        self.videos = tuple(f"clip-{first + k}" for k in range(videos))

    def length(self, video: str) -> int:
        """Frames of a video."""
        return FRAMES

    def rate(self, video: str) -> float:
        """Frames per second."""
        return 8.0

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip."""
        film = _film(int(video.rpartition("-")[2]))
        stop = FRAMES if length is None else start + length * step
        now = slice(start, stop, step)
        truth = film.truth[now, None]
        return Item(self.name, video, film.frames[now], torch.arange(start, stop, step),
                    8.0 / step, flow=film.flow[now], truth=truth)  # fmt: skip


@lru_cache
def _film(seed: int) -> Any:
    return render_clip(FRAMES + 1, *SIZE, seed=seed)


@dataclass(frozen=True)
class Variant:
    """A run that is killed: its recipe, and how it reads and writes."""

    recipe: str
    changes: dict[str, Any]
    workers: int = 0
    checkpoint_every: int = 1


VARIANTS = (
    Variant(
        "cube-unet",
        {"model": {"base": 2}, "batch": 2, "accumulate": 2, "ema": 0.9, "validate_every": 4,
         "augment": {"tilt_deg": 20, "colour": 0.2}, "clip_length": 2},
    ),
    Variant(
        "lookup-unet",
        {"model": {"widths": [2, 2, 2, 2, 2, 2, 1]}, "optimizer": "sgd", "momentum": 0.9,
         "teacher_forcing": [0.7, 0.3], "lr": 0.01, "clip_length": 3},
        workers=2,
        checkpoint_every=3,
    ),
    Variant(
        "sst-sal",
        {"model": {"hidden": 2}, "clip_length": 3, "tbptt": 2, "ema": 0.8, "batch": 2,
         "validate_every": 3, "patience": 2, "augment": {"tilt_deg": 10}},
        workers=2,
        checkpoint_every=2,
    ),
    Variant(
        "sst-sal-noflow",
        {"model": {"hidden": 2}, "clip_length": 4, "tbptt": 4, "precision": "fp16",
         "optimizer": "sgd", "momentum": 0.9, "lr": 0.01, "accumulate": 2},
        checkpoint_every=4,
    ),
    Variant(
        "spherical-unet",
        {"model": {"widths": [2, 2, 2, 2, 2, 2, 1]}, "precision": "bf16", "clip_length": 3,
         "ema": 0.99, "augment": {"yaw": True, "mirror": True}, "batch": 3},
        checkpoint_every=2,
    ),
)  # fmt: skip


def go(variant: Variant, out: Path | None, report: Any = None, steps: int = STEPS) -> object:
    """The run, or what is left of it; nothing, where the kill came when all was written."""
    changes = {"size": list(SIZE), "steps": steps, **variant.changes}
    recipe = load_recipe(variant.recipe, "fast", changes)
    watched: VideoDataset | None = Embedded(1, 7) if recipe.validate_every else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*nothing to do", UserWarning)
        return train(
            recipe,
            Embedded(4),
            watched,
            out,
            device="cpu",
            workers=0 if out is None else variant.workers,
            checkpoint_every=variant.checkpoint_every,
            resume=True,
            report=report,
        )


# --- how a run dies ---


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    Attributes:
        by: ``"time"``, ``"step"``, or at a file: ``"half"`` of it written, ``"before"`` or
            ``"after"`` it has its name. at: so many seconds or steps after the process began, or
            the number of the file from 0. held: the step of the checkpoint that was there then;
            None: none was.
    """

    by: str
    at: float
    held: int | None

    def __str__(self) -> str:
        units = {"time": f"after {self.at:.2f} s", "step": f"after {self.at} steps"}
        return units.get(self.by, f"{self.by} file {self.at}")


class AfterStep:
    """Dies once so many steps of this process are done, before anything is written of the last."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, step: Step, rate: float, waiting: float) -> None:
        """A step less."""
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_validation(self, scores: dict[str, Any]) -> None:
        """Nothing."""

    def on_end(self, record: dict[str, Any]) -> None:
        """Nothing."""


def die_while_writing(count: int, where: str) -> None:
    """Have this process die at its file of that number.

    Args:
        where: ``"half"``, a part of it written; ``"before"`` or ``"after"`` it has its name.
    """
    synced, replace, left = os.fsync, os.replace, [count]

    def fsync(handle: int) -> None:
        about = os.fstat(handle)
        if where == "half" and left[0] == 0 and stat.S_ISREG(about.st_mode):
            os.ftruncate(handle, about.st_size // 2)
            synced(handle)
            os.kill(os.getpid(), signal.SIGKILL)
        synced(handle)

    def named(source: Any, target: Any) -> None:
        if where == "before" and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if where == "after" and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    vars(os).update(fsync=fsync, replace=named)


def writing(variant: Variant, out: Path, count: int, where: str) -> None:
    """The run, which dies at a file."""
    die_while_writing(count, where)
    go(variant, out)


def in_a_process(work: Callable[[], object], kill_after: float | None = None) -> str:
    """Do something in a process forked from this one; how it ended.

    Args:
        kill_after: seconds until it is killed, if it still runs.
    Returns:
        ``"done"`` or ``"killed"``.
    Raises:
        RuntimeError: it failed.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)  # so that its workers, too, can be ended
            try:
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
        os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)  # a process that has ended is there until it is waited for
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if os.WIFSIGNALED(status):
        return "killed"
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"a run failed with status {os.waitstatus_to_exitcode(status)}")
    return "done"


# --- what must be the same ---


def outcome(out: Path) -> dict[str, Any]:
    """All that a run leaves, but the times it took: hashes of files, every number of its state."""
    found = read_checkpoint(out / "checkpoint.safetensors")
    extra = dict(found.extra)
    progress = {key: value for key, value in extra.pop("progress").items() if key not in TIMED}
    del extra["started"]
    files = [path for path in sorted(out.glob("*.safetensors")) if path.stem != "checkpoint"]
    tensors = {**found.tensors, **{f"dice.{name}": v for name, v in found.dice.items()}}
    return {
        "files": {path.name: sha256(path) for path in files},
        "tensors": {name: _bytes(value) for name, value in tensors.items()},
        "numbers": found.numbers,
        "loader": found.loader,
        "progress": progress,
        "extra": extra,
    }


def _bytes(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    flat = tensor.contiguous().flatten().view(torch.uint8)
    return str(tensor.dtype), tuple(tensor.shape), flat.numpy().tobytes()


def differences(one: dict[str, Any], other: dict[str, Any], where: str = "") -> Iterator[str]:
    """Names of what is not the same in two outcomes."""
    for key in dict.fromkeys((*one, *other)):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{where}{key}.")
        elif a != b:
            yield f"{where}{key}"


@dataclass(frozen=True)
class Killed:
    """A run that was killed and resumed.

    Attributes:
        variant: the recipe of its :class:`Variant`. kills: in order. different: names of what is
            not as in the reference; empty: all bits are the same.
    """

    variant: str
    kills: tuple[Kill, ...]
    different: tuple[str, ...]

    def __str__(self) -> str:
        some = ", ".join(self.different[:5])
        verdict = f"differs: {some}" if some else "same bits"
        return f"{self.variant:15s}{verdict:10s} killed {', '.join(map(str, self.kills))}"


def one_run(
    number: int, dice: random.Random, root: Path, references: dict[int, tuple[float, Any]]
) -> Killed:
    """A run that is killed at least once, and what then differs from its reference.

    Args:
        number: decides the variant. references: seconds and outcome by variant; added to.
    """
    which = number % len(VARIANTS)
    variant = VARIANTS[which]
    if which not in references:
        out, begun = root / f"reference-{which}", time.perf_counter()
        in_a_process(lambda: go(variant, out))
        references[which] = time.perf_counter() - begun, outcome(out)
    seconds, wanted = references[which]
    out, deaths = root / f"run-{number}", list[Kill]()
    work: Callable[[], object]
    while not deaths or (len(deaths) < 4 and dice.random() < 0.4):
        way = ("time", "step", "half", "before", "after")[dice.randrange(5)]
        moment: float | None = None
        at: float
        if way == "time":
            at = moment = dice.uniform(0, seconds)
            work = partial(go, variant, out)
        elif way == "step":
            at = count = dice.randint(1, STEPS)
            work = partial(go, variant, out, AfterStep(count))
        else:
            at = count = dice.randrange(2 * STEPS // variant.checkpoint_every + 3)
            work = partial(writing, variant, out, count, way)
        if in_a_process(work, moment) == "killed":
            deaths.append(Kill(way, at, held(out)))
        elif deaths:
            break
        else:  # it was faster: begin again
            out = out.with_name(f"{out.name}-again")
    in_a_process(lambda: go(variant, out))
    return Killed(variant.recipe, tuple(deaths), tuple(differences(wanted, outcome(out))))


def held(out: Path) -> int | None:
    """The step of the checkpoint in a folder, if one is there."""
    path = out / "checkpoint.safetensors"
    return read_checkpoint(path).step if path.is_file() else None


def kills(
    runs: int, seed: int = 0, report: Callable[[str], None] | None = None
) -> tuple[Killed, ...]:
    """Kill so many runs.

    This process must not have computed in parallel: forked ones would wait for its threads.

    Args:
        seed: of the moments. report: is told a line for each run.
    """
    dice, found = random.Random(seed), list[Killed]()
    references: dict[int, tuple[float, Any]] = {}
    for variant in VARIANTS[:runs]:  # films, tables of pixels and modules: once for all
        go(variant, None, steps=1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            found.append(one_run(number, dice, Path(folder), references))
            if report is not None:
                report(f"{number:3d} {found[-1]}")
    return tuple(found)


def record_of(found: Sequence[Killed], seed: int, seconds: float) -> dict[str, Any]:
    """What was done, on what, and what came of each run; as JSON has it."""
    runs = [
        {**asdict(run), "verdict": "differs" if run.different else "same bits"} for run in found
    ]
    return {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": code_hash(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_facts("cpu"),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "seed": seed,
        "steps": STEPS,
        "variants": {variant.recipe: asdict(variant) for variant in VARIANTS},
        "runs": json.loads(json.dumps(runs)),
        "seconds": round(seconds, 1),
    }


def load(path: str | Path | None = None) -> dict[str, Any]:
    """The record of :func:`record_of`; the published one if no path is given."""
    return records.read(records.published("kills.json") if path is None else path, SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.training.kills",
        description="Kill training runs at random moments and compare how they end.",
    )
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file; not written unless given")
    chosen = parser.parse_args(arguments)
    if chosen.runs < 1:
        parser.error(f"--runs: {chosen.runs}, wanted at least 1")
    if not hasattr(os, "fork"):
        parser.error("wanted a system with fork, which Windows has not")
    if chosen.out is not None and (chosen.out.is_dir() or not chosen.out.parent.is_dir()):
        parser.error(f"--out: {chosen.out}, wanted a file in a folder that is there")
    _runtime.tune_allocator()
    torch.set_num_threads(1)
    code_hash()  # remembered: of the files that run, not of what they are by the end
    begun = time.perf_counter()
    found = kills(chosen.runs, chosen.seed, print)
    seconds = time.perf_counter() - begun
    bad = sum(bool(run.different) for run in found)
    many = sum(len(run.kills) for run in found)
    print(
        f"{len(found)} runs, {many} kills, {len(found) - bad} resumed to the same bits, "
        f"{seconds:.0f} s"
    )
    if chosen.out is not None:
        try:
            text = json.dumps(record_of(found, chosen.seed, seconds), indent=1) + "\n"
            records.write(text, chosen.out)
        except OSError as error:
            parser.error(str(error))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
