"""A run from its first step to its record: data, steps, validations, files, and every way to end.

:func:`sal360.training.fit.fit` makes the steps; here is what lies around them. A run may be
stopped at any moment, by a signal, an error, a full disk or ``kill -9``, and goes on from its last
checkpoint to the same bits as if it had not been stopped. Chapter 16.
"""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from sal360._check import positive_int
from sal360.datasets.augment import Augment
from sal360.datasets.batch import Batch
from sal360.datasets.item import VideoDataset
from sal360.datasets.loader import ClipLoader, OnError, clip_loader
from sal360.models.registry import check_device
from sal360.training.checkpoint import Checkpoint, DiskFull
from sal360.training.distributed import ALONE, World
from sal360.training.fit import Step, build_model, check_model, fit
from sal360.training.folder import RunFolder
from sal360.training.known_truth import with_truth
from sal360.training.machine import Energy, peak_memory
from sal360.training.progress import MADE, Progress, check_extra, placed
from sal360.training.recipe import Recipe
from sal360.training.records import Curve, check_record, data_facts, new_run_record, plain
from sal360.training.sharded import scored_together
from sal360.training.shell_line import command_of
from sal360.training.sought_flow import with_flow
from sal360.training.state import TrainingState
from sal360.training.still import Still
from sal360.training.stopping import stopping


class Report(Protocol):
    """Who is told how a run goes."""

    def on_step(self, step: Step, rate: float, waiting: float) -> None:
        """After each step; ``rate`` in clips per second, ``waiting`` the share of the time for
        data."""

    def on_validation(self, scores: dict[str, Any]) -> None:
        """After each validation: ``step``, ``means``, and whether it is the ``best``."""

    def on_end(self, record: dict[str, Any]) -> None:
        """Once, when the record is written."""


def train(
    recipe: Recipe,
    data: VideoDataset,
    validation: VideoDataset | None = None,
    out: str | Path | None = None,
    *,
    model: nn.Module | None = None,
    device: torch.device | str | None = None,
    workers: int = 0,
    checkpoint_every: int = 500,
    resume: bool = False,
    force: bool = False,
    on_error: OnError = "raise",
    mix: int | None = None,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
    world: World = ALONE,
    command: str | None = None,
    exact: bool = True,
) -> dict[str, Any]:
    """Train a network, and write down how it went.

    The same recipe, data, device, versions and number of threads give the same bytes, whether the
    run was interrupted or not, and whatever ``workers`` and ``checkpoint_every`` are. Another
    number of processes rounds otherwise, and may resume it all the same.

    Args:
        recipe: what is run. data: what on. validation: what it is scored on, every
            ``validate_every`` steps and after the last. Flow that is needed and not in them is
            sought in their frames (:mod:`sal360.training.sought_flow`), and videos without the
            truth that a loss needs are left out (:mod:`sal360.training.known_truth`).
        out: a folder for ``record.json``, ``best.safetensors`` and ``last.safetensors``
            (:func:`sal360.models.load_model` reads both; of a recipe with ``ema`` they are the
            running means) and ``checkpoint.safetensors``. None: nothing is written. Rank 0
            writes; all processes must see it.
        model: to begin with; None: :func:`~sal360.training.fit.build_model`. Trained in place. The
            weights of one that is not the package's are for
            :func:`sal360.models.weights.read_weights`.
        device: None: the world's, or a GPU if there is one.
        workers: processes that read clips. checkpoint_every: steps.
        resume: go on with the run in ``out``, if there is one. force: begin anew over it.
        on_error: ``"skip"`` leaves out clips that cannot be read.
        mix: videos whose clips are drawn at a time, for films that the store of frames cannot all
            hold (:mod:`sal360.datasets.loader`); None: all of them.
        report: is told. stop: is asked after each step whether to stop.
        world: the processes that share the run, see :func:`sal360.training.distributed.setup`.
        command: of the record, see :func:`~sal360.training.records.new_run_record`.
        exact: on CUDA, have torch take deterministic kernels where it has a choice; they are
            slower. CPUs are exact without.
    Returns:
        the record (:mod:`sal360.training.records`). Its ``status`` is ``"interrupted"`` after
        SIGINT, SIGTERM (``record["more"]["signal"]``) or ``stop``.
    Raises:
        ValueError: a device or a folder that is not to be had, a checkpoint of another recipe, data
            set or validation set (what differs is said), data that the recipe cannot use, a model
            without anything to train.
        FloatingPointError: a loss that is not finite, with step and clips. OSError, ValueError:
            a clip that cannot be read. The state before that step is in the checkpoint, and its
            weights are the last ones; of a run whose first step was refused nothing is left.
        sal360.training.checkpoint.DiskFull: the checkpoint before is untouched.
    """
    positive_int(checkpoint_every, "checkpoint_every")
    if device is not None:
        check_device(device)
    place = _device(world) if device is None or world.size > 1 else torch.device(device)
    if model is not None and command is None:
        command = ""  # none makes what was given
    model = build_model(recipe) if model is None else model
    data = with_flow(with_truth(data, recipe), model, recipe)
    if validation is not None:
        validation = with_flow(validation, model, recipe, learning=False)
    folder = None if out is None else RunFolder(out)
    sets = (data,) if validation is None else (data, validation)
    try:
        if folder is not None:
            world.on_main(lambda: folder.claim(resume, force, sets))
        if folder is not None and resume:
            before = _over(folder, recipe, data, validation, mix)
            if before is not None:
                told = f"this run is {before['status']} ({before['steps']} steps), nothing to do"
                warnings.warn(f"{out}: {told}", UserWarning, stacklevel=2)
                return before
        if recipe.patience and validation is None:
            raise ValueError("validation: None, wanted a data set: the recipe stops by its scores")
        if validation is not None:
            from sal360.training.validation import check_metric

            check_metric(validation, recipe.monitor, recipe.size)
        model = world.prepare(model.to(place))
        loader = _loader(recipe, data, workers, on_error, mix, place, world)
        state = TrainingState(model, recipe)
        check_model(model, recipe, state)
        record = new_run_record(recipe, data, validation, place, command=command,
                                processes=world.size, mix=mix, exact=exact)  # fmt: skip
        run = _Run(recipe, loader, validation, state, folder, report, world, record)
        with _own_dice(recipe, place), _deterministic(place, exact):
            found = folder.checkpoint() if folder is not None and resume else None
            if found is not None:
                run.go_on(found)
            world.same("recipe", recipe.digest)
            world.same("clips", loader.state_dict())
            world.same("step", state.step)
            if run.folder is not None and found is None:
                run.folder.forget()  # not before: what is refused takes nothing away
            return run.go(checkpoint_every, stop)
    finally:
        if folder is not None:
            folder.release()


class _Run:
    """A run while it goes."""

    def __init__(
        self,
        recipe: Recipe,
        loader: ClipLoader,
        validation: VideoDataset | None,
        state: TrainingState,
        folder: RunFolder | None,
        report: Report | None,
        world: World,
        record: dict[str, Any],
    ) -> None:
        self.recipe, self.loader, self.validation, self.state = recipe, loader, validation, state
        self.folder = folder if world.main else None
        self.report = report if world.main else None
        self.world, self.record = world, record
        self.device = next(state.model.parameters()).device
        self.progress, self.curve = Progress(made=[{"step": 0, **self.here()}]), Curve()
        self.still, self.notes = Still(), list[str]()
        self.place = loader.state_dict()
        self.data = record["data"] | {"clips": len(loader.windows)}
        self.energy, self.begun = Energy(self.device), time.perf_counter()
        self.before = 0.0, 0.0  # seconds and joules until then
        self.read = 0, 0  # clips and frames of this step

    def here(self) -> dict[str, Any]:
        """What makes this part of the run."""
        return {key: self.record[key] for key in MADE}

    def go_on(self, found: Checkpoint) -> None:
        """Be where a checkpoint was; all of it is looked at before anything is changed.

        Raises:
            ValueError: it is of another recipe, data set or validation set; what differs. One
                that another version or program wrote, and does not say what this one reads.
        """
        extra, where = found.extra, found.path
        with _of_this_version(where):
            check_extra(extra)
        for what, mine in (
            ("recipe", self.recipe.settings()),
            ("data", self.data),
            ("validation", self.record["validation"] or {"spec": None}),
        ):
            theirs = extra.get(what, mine)  # those of older versions do not say all
            for key in dict.fromkeys((*mine, *theirs)):
                if mine.get(key) != theirs.get(key):
                    raise ValueError(
                        f"{where}: resume: the checkpoint's {what} has {key} = "
                        f"{theirs.get(key)!r}, wanted {mine.get(key)!r} as now"
                    )
        with _of_this_version(where):
            self.progress = Progress.of(extra["progress"])
            self.curve.load_state_dict(extra["curve"])
            if "still" in extra:  # those of older versions have none
                self.still.load_state_dict(extra["still"])
            self.record["started"] = extra["started"]
            self.before = self.progress.seconds, self.progress.joules or 0.0
            self.loader.skipped.update(self.progress.skipped)
            check_record(plain(self.told("running") | {"steps": found.step}))
            self.loader.load_state_dict(placed(found.loader, len(self.loader)))
        found.restore(self.state)
        self.place = found.loader
        made = self.progress.made
        if not made or any(made[-1].get(k, value) != value for k, value in self.here().items()):
            made.append({"step": found.step, **self.here()})
        for before, after in itertools.pairwise(made):  # early ones do not say all
            other = [key for key in MADE if key in before and before[key] != after.get(key)]
            self.note(f"step {after['step']}: went on with other {', '.join(other)}")

    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state.step >= self.recipe.steps or self.stopped_early()

    def stopped_early(self) -> bool:
        """Whether it was given up, being no better for so long."""
        return 0 < self.recipe.patience <= self.progress.stale

    def go(self, checkpoint_every: int, stop: Callable[[], bool] | None) -> dict[str, Any]:
        """All steps that are left; the record."""
        if self.folder is not None:
            self.folder.write_record(self.told("running"))
        batches = self.batches()
        steps = fit(self.state.model, batches, self.recipe, self.state, self.world)
        halt = False
        try:
            with stopping(stop) as asked:
                if self.owes():
                    self.validate()
                while not (halt or self.over()):
                    self.step(steps)
                    if self.due():
                        self.validate()
                    halt = self.world.any(asked())
                    if not (halt or self.over()) and self.state.step % checkpoint_every == 0:
                        self.save("running")
                if halt and not self.over():
                    self.end("interrupted", asked.signal)
                else:
                    self.end("stopped early" if self.state.step < self.recipe.steps else "done")
        except DiskFull as error:
            self.note(f"step {self.state.step}: {error}")
            if self.folder is not None:
                with suppress(OSError):  # it is small, and may find room
                    self.folder.write_record(self.told("interrupted"))
            raise
        except Exception as error:
            refused = self.state.step == 0 and not isinstance(error, (OSError, FloatingPointError))
            if refused and self.folder is not None:
                self.folder.forget()  # nothing was done, and it may not stand in the way
            elif self.state.whole:
                self.note(f"step {self.state.step}: {error}")
                with suppress(Exception):  # the first error is the one to be told
                    self.end("interrupted")
            raise
        finally:
            steps.close()
            batches.close()
        return self.record

    def step(self, steps: Iterator[Step]) -> None:
        """One step, and what is counted of it."""
        begun, self.read = time.perf_counter(), (0, 0)
        step = next(steps)
        p, many = self.progress, self.world.size
        p.training += time.perf_counter() - begun
        p.clips, p.frames = p.clips + many * self.read[0], p.frames + many * self.read[1]
        self.curve.add(step.index, step.loss, step.lr, step.gradient)
        for told in self.still.add(step):
            if self.world.main:
                warnings.warn(told, UserWarning, stacklevel=2)
        self.place = self.loader.state_dict()
        if self.report is not None:
            self.report.on_step(step, p.clips / p.training, p.waiting / p.training)

    def batches(self) -> Generator[Batch]:
        """Epoch after epoch; the time until each batch is there is counted as waiting."""
        empty = 0  # one epoch may be: it was at its end when it was left
        while empty < 2:
            source, any_read = iter(self.loader), False
            while True:
                begun = time.perf_counter()
                batch = next(source, None)
                self.progress.waiting += time.perf_counter() - begun
                if batch is None:
                    break
                any_read = True
                self.read = self.read[0] + len(batch), self.read[1] + batch.indices.numel()
                yield batch
            empty = 0 if any_read else empty + 1
        reason = next(iter(self.loader.skipped.values()), "none is there")
        raise ValueError(f"{self.data['name']}: no clip can be read; first: {reason}")

    def due(self) -> bool:
        """Whether it is time for a validation."""
        if self.validation is None:
            return False
        every = self.recipe.validate_every
        step = self.state.step
        return step == self.recipe.steps or (every > 0 and step % every == 0)

    def owes(self) -> bool:
        """Whether the validation of the last step is missing: it failed, and the run ended."""
        done = self.progress.validations
        late = not done or done[-1]["step"] < self.state.step
        return self.state.step > 0 and self.due() and late

    def validate(self) -> None:
        """Score what is to be kept; keep it if it is the best."""
        from sal360.training.validation import TOGETHER, better, mean_scores, validate

        data = self.validation
        assert data is not None
        model, recipe = self.state.evaluated, self.recipe
        scores = scored_together(
            lambda mine: validate(model, data, recipe, videos=mine),
            data,
            self.world,
            together=TOGETHER if self.device.type == "cuda" else 1,
        )
        means, p, metric = mean_scores(scores), self.progress, self.recipe.monitor
        if metric not in means:
            raise ValueError(
                f"monitor: {metric!r}, wanted one of {', '.join(means)}, which can be scored here"
            )
        told = {"step": self.state.step, "means": means}
        best = better(metric, means[metric], None if p.best is None else p.best["value"])
        if best:  # before it counts: if it cannot be written, the validation is made up for
            self.keep("best", [told])
            p.best = {"step": self.state.step, "metric": metric, "value": means[metric]}
            p.scores = scores
        p.stale = 0 if best else p.stale + 1
        p.validations.append(told)
        if self.report is not None:
            self.report.on_validation(told | {"best": best})

    def keep(self, kind: str, validation: list[dict[str, Any]]) -> None:
        """Write the weights of now, with how they scored, if that is known."""
        if self.folder is None:
            return
        self.folder.write_weights(
            kind,
            self.state.evaluated,
            recipe=self.recipe.settings(),
            digest=self.recipe.digest,
            step=self.state.step,
            data=self.data,
            validation=validation,
        )

    def save(self, status: str) -> None:
        """Checkpoint and record."""
        if self.folder is None:
            return
        self.measure()
        extra = {
            "recipe": self.recipe.settings(),
            "data": self.data,
            "validation": self.record["validation"] or {"spec": None},
            "progress": asdict(self.progress),
            "curve": self.curve.state_dict(),
            "still": self.still.state_dict(),
            "started": self.record["started"],
        }
        self.folder.write_checkpoint(self.state, self.place, extra)
        self.folder.write_record(self.told(status))

    def end(self, status: str, signal: int | None = None) -> None:
        """Checkpoint, weights, record; in this order, so that a run that is killed in between has
        its weights from the checkpoint when it is resumed."""
        if signal is not None:
            self.record["more"] = {"signal": signal}
        self.save("running")
        self.keep("last", self.progress.validations[-1:])
        self.told(status)
        if self.folder is not None:
            self.folder.write_record(self.record)
        if self.report is not None:
            self.report.on_end(self.record)

    def note(self, text: str) -> None:
        """Something that a reader of the numbers should know."""
        self.notes.append(" ".join(text.split()))

    def measure(self) -> None:
        """What has been taken, this part of the run and those before."""
        p, joules = self.progress, self.energy.joules()
        p.seconds = self.before[0] + time.perf_counter() - self.begun
        p.joules = None if joules is None else self.before[1] + joules
        p.skipped = dict(self.loader.skipped)

    def told(self, status: str) -> dict[str, Any]:
        """The record as of now."""
        self.measure()
        p, seconds = self.progress, self.progress.training
        self.record |= {
            "status": status,
            "steps": self.state.step,
            "curve": self.curve.columns(),
            "validations": p.validations,
            "best": p.best,
            "scores": p.scores,
            "throughput": {
                "clips_per_s": float(f"{p.clips / seconds:.4g}") if seconds else None,
                "frames_per_s": float(f"{p.frames / seconds:.4g}") if seconds else None,
                "waiting": round(p.waiting / seconds, 4) if seconds else None,
            },
            "memory": peak_memory(self.device),
            "energy_j": p.joules,
            "seconds": round(p.seconds, 3),
        }
        notes = self.notes + self.still.notes()
        if notes:
            self.record["notes"] = notes
        if p.skipped:
            self.record["skipped"] = p.skipped
            if self.record["command"]:  # clips that cannot be read would stop it
                self.record["command"] = command_of(self.record)
        return self.record


def _over(
    folder: RunFolder,
    recipe: Recipe,
    data: VideoDataset,
    validation: VideoDataset | None,
    mix: int | None,
) -> dict[str, Any] | None:
    """The record of the run in a folder, if it is this one and has nothing left to do.

    Raises:
        ValueError: it is another one, and there is no checkpoint, which would say what differs.
    """
    before = folder.record()
    if before is None:
        return None
    mine = {"digest": recipe.digest, "mix": mix, **data_facts(data)}
    theirs = {**before["data"], "digest": before["recipe"]["digest"]}
    scored = None if validation is None else data_facts(validation)
    same = before["validation"] == scored and all(
        theirs.get(key) == value for key, value in mine.items()
    )
    if not same and not folder.checkpoint_path.is_file():
        raise ValueError(
            f"resume: {folder.path} holds a run of another recipe, data or validation set"
        )
    return before if same and before["status"] in ("done", "stopped early") else None


def _loader(
    recipe: Recipe,
    data: VideoDataset,
    workers: int,
    on_error: OnError,
    mix: int | None,
    device: torch.device,
    world: World,
) -> ClipLoader:
    """Clips as the recipe wants them. Batches that are not full are left out, unless none is."""
    loader = clip_loader(
        data,
        recipe.clip_length,
        recipe.batch,
        workers,
        recipe.seed,
        Augment(**recipe.augment, seed=recipe.seed) if recipe.augment else None,
        recipe.size,
        drop_last=True,
        on_error=on_error,
        mix=mix,
        pin_memory=device.type == "cuda",
    )
    if not len(loader):
        raise ValueError(f"batch: {recipe.batch}, wanted at most {len(loader.windows)}, the clips")
    return loader.share(world.rank, world.size, world.any) if world.size > 1 else loader


def _device(world: World) -> torch.device:
    if world is not ALONE:
        return world.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _of_this_version(path: Path) -> Iterator[None]:
    """What cannot be read of a checkpoint is told as such, with its path."""
    try:
        yield
    except (ValueError, ArithmeticError) as error:
        raise ValueError(
            f"{path}: the checkpoint is of another version or program ({error}), wanted one that "
            "this version's train wrote"
        ) from None


@contextmanager
def _own_dice(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Torch's generators begin with the recipe's seed, and the surroundings' go on as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        yield


@contextmanager
def _deterministic(device: torch.device, exact: bool) -> Iterator[None]:
    """On CUDA: sums in a fixed order. Kernels that have none warn."""
    if device.type != "cuda" or not exact:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    from torch.utils import deterministic

    filling: Any = deterministic  # of fresh memory, which no result depends on
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        filling.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        filling.fill_uninitialized_memory = before[2]
