"""Chapter 16: exercises on rates, shares of a gradient, files, order, and what is left out; and
what its benchmarks say of a step."""

from __future__ import annotations

import builtins
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sal360.course.checking import (
    AnswerRaisedError,
    Case,
    NotAnsweredError,
    answered,
    ask,
    exercise,
    name_faults,
)


def cosine(step: int, steps: int) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 + 0.5 * math.cos(math.pi * step / steps)


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """What a call says when it refuses.

    Raises:
        AssertionError: it did not.
    """
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError("nothing was refused")


class Reached(NamedTuple):
    """What a training step reaches on a machine: the units its products run on, its share of the
    roof, the share of its time in which the device computes (0 where that was not measured), and
    its launches."""

    units: str
    roof: float
    busy: float
    launches: int


def first_column(record: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Title and numbers of the first column of a record by ``benchmarks training``."""
    name, column = next(iter(record["results"]["columns"].items()))
    scale, how = name.split(", ", 1)
    device = record["machine"]["device"]
    return f"{'CPU' if device == 'cpu' else device}, {how} (scale {scale})", column


def reached(column: dict[str, Any]) -> dict[str, Reached]:
    """System to what its step reaches, for the systems of a column whose roof is known."""
    found = {}
    for system, row in column["systems"].items():
        if "of_roofline" in row:
            done = row.get("operators", {})
            busy = done.get("busy_s", 0.0) / row["median_s"]
            found[system] = Reached(
                row.get("units", ""), row["of_roofline"], busy, done.get("launches", 0)
            )
    return found


TRIED = ("bf16", "twice the batch", "torch.compile")


def tell_tries(
    cpu: dict[str, Any], gpu: dict[str, Any]
) -> dict[str, dict[str, list[float | None]]]:
    """Print the times of a clip that were predicted and measured, of a CPU's record and a GPU's.

    Returns:
        what was tried to system to the two measured ratios; None where not a bit changes.
    """
    print(f"time of a clip: predicted, measured\n{'':28}CPU       H100")
    found: dict[str, dict[str, list[float | None]]] = {what: {} for what in TRIED}
    for system, each in cpu["results"]["tries"].items():
        for what in TRIED:
            both = each[what], gpu["results"]["tries"][system][what]
            found[what][system] = [one.get("ratio") for one in both]
            text = ""
            for one in both:
                if "ratio" not in one and "not a bit" not in one["not run"]:
                    raise ValueError(f"{system}, {what}: {one['not run']}")
                now = f"{one['ratio']:.2f}" if "ratio" in one else "same"
                text += f"{one['predicted']:5.2f} {now:>4}"
            print(f"{system:11} {what:15}{text}")
    return found


def _late_cosine(step: int, steps: int, warmup: float) -> float:
    """A cosine that begins when the warm-up ends: another schedule than the one that is asked."""
    up = round(warmup * steps)
    return (step + 1) / up if step < up else cosine(step - up, steps - up)


@exercise("16.1")
def rate_of_a_step(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(step, steps, lr, warmup) -> rate``: up in a line, down along a cosine."""
    for step, steps, warmup, name in (
        (0, 100, 0.0, "no warm-up, the first step has the whole rate"),
        (50, 100, 0.0, "no warm-up, half of the rate in the middle"),
        (0, 100, 0.1, "a warm-up of 10 steps, the first step has a tenth"),
        (4, 100, 0.1, "a warm-up of 10 steps, its fifth step has half"),
        (50, 100, 0.1, "after the warm-up only the cosine counts"),
        (99, 100, 0.1, "nearly nothing at the end, but not nothing"),
        (7, 1000, 0.25, "a warm-up of 250 steps, its eighth step"),
        (200, 1000, 0.25, "where line and cosine meet, the smaller one"),
        (0, 24, 0.05, "a warm-up of a step and a fifth is not rounded"),
        (45, 100, 0.5, "a long warm-up, the cosine is below the line before it ends"),
    ):
        for lr in (1.0, 3e-3):
            line = (step + 1) / (warmup * steps) if warmup else math.inf
            whole = (step + 1) / (round(warmup * steps) or 1)
            down = cosine(step, steps)
            wanted = lr * min(line, down)
            got = float(ask(answer, step, steps, lr, warmup))
            right = math.isclose(got, wanted, rel_tol=1e-5, abs_tol=1e-6 * lr)  # float32 will do
            hint = ""
            if not right:
                if math.isclose(got, lr * down * min(1, line), rel_tol=1e-6):
                    hint = " (that is the product of line and cosine, not the smaller)"
                elif warmup and math.isclose(
                    got, lr * min(step / (warmup * steps), down), rel_tol=1e-6, abs_tol=1e-12
                ):
                    hint = " (steps count from 0: a first step with rate 0 is lost)"
                elif math.isclose(got, lr * min(whole, down), rel_tol=1e-6):
                    hint = " (a warm-up may end within a step: nothing is rounded)"
                elif math.isclose(got, lr * _late_cosine(step, steps, warmup), rel_tol=1e-6):
                    hint = " (the cosine runs over all steps, not over those after the warm-up)"
                elif math.isclose(got, lr * min(line, cosine(step, steps - 1)), rel_tol=1e-6):
                    hint = " (the cosine would be 0 one step after the last)"
            yield Case(
                name,
                right,
                f"step {step} of {steps}, lr {lr:g}, warmup {warmup:g}: you gave {got:.6g}, "
                f"wanted {wanted:.6g}{hint}",
            )


@exercise("16.2")
def gradient_of_all(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(gradients (P, N), counts (P,)) -> (N,)``: of the mean over all frames of P processes."""
    draw = torch.Generator().manual_seed(162)
    for name, counts in (
        ("two processes with as many frames", [4, 4]),
        ("two processes, 3 frames and 1", [3, 1]),
        ("a process that has no frame with a truth", [5, 0]),
        ("four processes, no two alike", [7, 1, 2, 6]),
    ):
        frames = [torch.rand(n, 3, generator=draw) for n in counts]
        means = torch.stack([f.mean(0) if len(f) else torch.zeros(3) for f in frames])
        wanted = torch.cat(frames).mean(0)
        got = torch.as_tensor(ask(answer, means.clone(), torch.tensor(counts))).float()
        if got.shape != wanted.shape:
            told = f"{name}: shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
            yield Case("a gradient like each", False, told)
            return
        hint = " (the mean of the means)" if torch.allclose(got, means.mean(0)) else ""
        yield Case(
            "the gradient of the mean over all frames",
            torch.allclose(got, wanted, atol=1e-6),
            f"{name}, frames {counts}: you gave {got[0]:.4f} first, wanted {wanted[0]:.4f}{hint}",
        )


class _Died(BaseException):
    """The process ends here."""


@exercise("16.3")
def whole_or_not_at_all(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(path, data)``: bytes in a file, where a reader finds the old ones or the new, whole."""

    old, new = b"old" * 100, b"new" * 200  # less than a file keeps back until it is flushed

    def watched(die_at: int | None) -> _Written:
        """Ask for the new bytes, and die at a call of ``os``.

        The time of the file's last change is set to 0 before the answer, and when it has got its
        name: another one tells that somebody wrote into it.
        """
        calls: list[str] = []
        kept = {name: getattr(os, name) for name in ("fsync", "replace", "rename")}
        over = False

        def touched() -> bool:
            return path.is_file() and path.stat().st_mtime_ns != 0

        def fsync(fd: Any) -> None:
            if die_at == len(calls):
                raise _Died
            calls.append("fsync" if os.fstat(_number(fd)).st_size == len(new) else "part")
            kept["fsync"](fd)

        def naming(name: str) -> Callable[..., None]:
            def call(src: Any, dst: Any, **keywords: Any) -> None:
                nonlocal over
                if die_at == len(calls):
                    raise _Died
                beside = path.parent.resolve() in Path(src).resolve().parents
                calls.append(name if beside else "from elsewhere")
                over |= touched()
                kept[name](src, dst, **keywords)
                if path.is_file():
                    os.utime(path, ns=(0, 0))

            return call

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            path.write_bytes(old)
            os.utime(path, ns=(0, 0))
            try:
                vars(os).update(fsync=fsync, replace=naming("replace"), rename=naming("rename"))
                answered(answer(path, new))
            except (_Died, NotAnsweredError):
                if die_at is None:
                    raise
            except Exception as error:
                raise AnswerRaisedError(f"{type(error).__name__}: {error}") from error
            finally:
                vars(os).update(kept)
            over |= touched()
            found = path.read_bytes() if path.is_file() else None
            rest = sorted(p.name for p in Path(folder).iterdir() if p != path)
            again = "" if die_at is None else _once_more(answer, path, b"yet" * 100)
        return _Written(calls, found, rest, over, again)

    calls, found, rest, over, _ = watched(None)
    yield Case("the new bytes are there", found == new,
               f"the file holds {_told(found)}, wanted the {len(new)} new bytes")  # fmt: skip
    yield Case("nothing else is left", not rest, f"beside it lies {rest}")
    named = [k for k, name in enumerate(calls) if name in ("replace", "rename", "from elsewhere")]
    yield Case("it gets its name by os.replace", bool(named),
               "neither os.replace nor os.rename was called: the old bytes were written "
               "over")  # fmt: skip
    synced = calls[: named[0]] if named else []
    yield Case("the bytes are on the disk before it gets its name", "fsync" in synced,
               ("os.fsync was called when not all of the bytes had left Python (flush) or were "
                "written" if "part" in synced else "os.fsync was not called before os.replace")
               + ": after a power cut there may be a name without its bytes")  # fmt: skip
    yield Case("the new bytes are written beside the old ones", "from elsewhere" not in calls,
               "os.replace was given a file of another folder, which may be on another disk: there "
               "it fails")  # fmt: skip
    for k in range(len(calls)):
        died = watched(k)
        yield Case("killed anywhere, the old bytes or the new are there", died.found in (old, new),
                   f"killed before {calls[k]}: the file holds {_told(died.found)}")  # fmt: skip
        yield Case("after a kill it can be asked again", not died.again,
                   f"killed before {calls[k]}, then asked again: {died.again}")  # fmt: skip
    yield Case("nothing is written into the file of that name", not over,
               "os.replace was called, but bytes were also written into the file itself: killed "
               "then, it holds a part of them")  # fmt: skip


class _Written(NamedTuple):
    """What came of one call: the calls of ``os`` in order, what the file holds, what else lies
    there, whether its bytes were written over, and what went wrong when it was asked again.

    An ``fsync`` of a file that does not have all of the bytes yet is told as ``part``, a
    ``replace`` from another folder as ``from elsewhere``.
    """

    calls: list[str]
    found: bytes | None
    rest: list[str]
    over: bool
    again: str


def _once_more(answer: Callable[..., Any], path: Path, data: bytes) -> str:
    """What goes wrong when fewer bytes are written where a call before was killed."""
    try:
        answer(path, data)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace(f"{path.parent}{os.sep}", "")
    found = path.read_bytes() if path.is_file() else None
    return "" if found == data else f"the file holds {_told(found)}, wanted {len(data)} new bytes"


def _number(file: Any) -> int:
    return int(file.fileno()) if hasattr(file, "fileno") else int(file)


def _told(found: bytes | None) -> str:
    return "nothing, it is gone" if found is None else f"{len(found)} bytes, {found[:3]!r} first"


_FAR = (50, 64, 99, 100, 101, 127, 128, 200, 255, 256, 500, 512, 999, 1000, 1001, 1024, 10_000)
"""Epochs in which ``100 * seed + epoch`` and its like meet the next seed."""


@exercise("16.4")
def batch_of_a_step(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(step, clips, batch, seed) -> list``: numbers of the clips of a step, from nothing else."""
    clips, batch = 12, 4
    per_epoch = clips // batch

    def asked(step: int, seed: int = 0) -> list[int]:
        return [int(k) for k in ask(answer, step, clips, batch, seed)]

    first = [asked(step) for step in range(4 * per_epoch)]
    for step, found in enumerate(first):
        yield Case("as many clips as a batch has", len(found) == batch,
                   f"step {step}: {len(found)} clips, wanted {batch}")  # fmt: skip
    for epoch in range(4):
        seen = sorted(k for b in first[epoch * per_epoch : (epoch + 1) * per_epoch] for k in b)
        yield Case("every clip once in an epoch", seen == list(range(clips)),
                   f"epoch {epoch}: the clips {seen}, wanted each of 0 to {clips - 1}")  # fmt: skip
    flat = [[k for b in first[e * per_epoch : (e + 1) * per_epoch] for k in b] for e in range(4)]
    yield Case("another order in every epoch", len({tuple(order) for order in flat}) == 4,
               f"epochs 0 and 1 begin with {flat[0][:4]} and {flat[1][:4]}")  # fmt: skip
    for epoch in range(4):
        turn = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        order = [k for step in turn for k in asked(step, 1)]
        same = flat.index(order) if order in flat else None
        yield Case("another order with another seed", same is None,
                   f"epoch {epoch} of seed 1 has the order of epoch {same} of seed 0")  # fmt: skip
    turned = any(flat[0][k:] + flat[0][:k] == flat[1] for k in range(1, clips))
    yield Case("an order of its own in every epoch", not turned,
               f"epoch 1 has the order of epoch 0, begun at another clip: {flat[0]}")  # fmt: skip
    other = [asked(step, 1) for step in range(per_epoch)]
    known = {tuple(order): epoch for epoch, order in enumerate(flat)}
    for epoch in (*range(4, 40), *_FAR):
        ours = [asked(epoch * per_epoch + k) for k in range(per_epoch)]
        yield Case("another order with another seed", ours != other,
                   f"epoch 0 of seed 1 has the order of epoch {epoch} of seed 0")  # fmt: skip
        same = known.setdefault(tuple(k for b in ours for k in b), epoch)
        yield Case("another order in every epoch", same == epoch,
                   f"epoch {epoch} of seed 0 has the order of its epoch {same}")  # fmt: skip
    yield from _other_sizes(answer)
    for step in (7, 2, 11):
        np.random.seed(step)  # noqa: NPY002 (the dice that an answer might use)
        torch.manual_seed(step)
        random.seed(step)
        again = asked(step)
        yield Case("a step's clips, whatever was asked before", again == first[step],
                   f"step {step} alone: {again}, in its turn it had {first[step]}")  # fmt: skip
    with _in_another_process(answer):
        there = asked(7)
    yield Case("the same clips in another process", there == first[7],
               f"step 7: {first[7]} here, {there} in another process, where hash of a text is "
               "another")  # fmt: skip
    before = _dice_of_others()
    asked(3)
    yield Case("it leaves the dice of others alone", before == _dice_of_others(),
               "what torch, numpy or random would have drawn next is another number")  # fmt: skip


def _other_sizes(answer: Callable[..., Any]) -> Iterator[Case]:
    """24 clips in batches of 8: 480 orders, of which no two may be one."""
    clips, batch = 24, 8
    owners: dict[tuple[int, ...], tuple[int, int]] = {}
    for seed in range(12):
        for epoch in range(40):
            steps = range(3 * epoch, 3 * epoch + 3)
            order = tuple(int(k) for s in steps for k in ask(answer, s, clips, batch, seed))
            yield Case("every clip once in an epoch", sorted(order) == list(range(clips)),
                       f"24 clips in batches of 8, seed {seed}, epoch {epoch}: the clips "
                       f"{sorted(order)}")  # fmt: skip
            owner = owners.setdefault(order, (seed, epoch))
            yield Case("another order with another seed", owner == (seed, epoch),
                       f"epoch {epoch} of seed {seed} has the order of epoch {owner[1]} of seed "
                       f"{owner[0]}")  # fmt: skip


@contextmanager
def _in_another_process(answer: Callable[..., Any]) -> Iterator[None]:
    """Within it, ``hash`` of a text gives the answer's code another number, as each process does.

    Nobody else is told another one: tables that others keep by it go on.
    """
    plain, own = builtins.hash, getattr(answer, "__globals__", None)

    def salted(value: Any) -> int:
        theirs = sys._getframe(1).f_globals is own and _has_text(value)
        return plain(("salt", plain(value))) if theirs else plain(value)

    vars(builtins).update(hash=salted)
    try:
        yield
    finally:
        vars(builtins).update(hash=plain)


def _has_text(value: Any) -> bool:
    return isinstance(value, (str, bytes)) or (
        isinstance(value, tuple) and any(map(_has_text, value))
    )


def _dice_of_others() -> tuple[Any, ...]:
    _, words, *place = np.random.get_state(legacy=True)  # noqa: NPY002 (an answer might use it)
    return torch.get_rng_state().tolist(), random.getstate(), np.asarray(words).tolist(), place


FAULTS = ("moments", "order", "dice", "step")


class Saved:
    """The state of a :class:`Trainer`; what is in it is to be found by what it does."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values


class Trainer:
    """A training in small: one weight, 12 clips, momentum, a toss, a falling rate.

    ``step()`` makes a step, and tells ``clip``, ``kept`` (whether the clip counted, by a toss),
    ``rate``, ``gradient`` and ``update`` (what was added to the weight). ``save()`` gives its
    state, ``load(state)`` goes on from there. What is in ``faults`` is not in the state. ``seed``
    is that of its order and its tosses.
    """

    def __init__(self, *faults: str, seed: int = 0) -> None:
        unknown = set(faults) - set(FAULTS)
        if unknown:
            raise ValueError(f"faults: {sorted(unknown)}, wanted some of {', '.join(FAULTS)}")
        self._faults, self._weight, self._seed = faults, 5.0, seed
        self._fresh()

    def _fresh(self) -> None:
        self._moment, self._step = 0.0, 0
        self._waiting: list[int] = []
        self._order, self._dice = (random.Random(f"{self._seed} {k}") for k in range(2))

    def step(self) -> dict[str, float]:
        """Make one step."""
        if not self._waiting:
            self._waiting = self._order.sample(range(12), 12)
        clip, kept = self._waiting.pop(), self._dice.random() < 0.7
        gradient = (self._weight - clip / 4) * kept + 0.1
        rate = 0.1 / (1 + self._step / 10)
        self._moment = 0.9 * self._moment + gradient
        update = -rate * self._moment
        self._weight += update
        self._step += 1
        return {"clip": clip, "kept": kept, "rate": rate, "gradient": gradient, "update": update}

    def save(self) -> Saved:
        """All of it, but for the faults."""
        values = {
            "moments": self._moment,
            "order": (self._order.getstate(), tuple(self._waiting)),
            "dice": self._dice.getstate(),
            "step": self._step,
        }
        kept = {name: value for name, value in values.items() if name not in self._faults}
        return Saved({"weight": self._weight, **kept})

    def load(self, state: Saved) -> None:
        """Be as it was then, so far as the state tells."""
        self._fresh()
        values = state._values
        self._weight = values["weight"]
        self._moment = values.get("moments", self._moment)
        self._step = values.get("step", self._step)
        if "dice" in values:
            self._dice.setstate(values["dice"])
        if "order" in values:
            self._order.setstate(values["order"][0])
            self._waiting = list(values["order"][1])


@exercise("16.5")
def what_a_checkpoint_lacks(answer: Callable[..., Any]) -> Iterator[Case]:
    """``make -> set`` of what a trainer's checkpoint lacks; ``make()`` gives a fresh trainer."""
    wary = " (an update differs with its gradient, too: test the formula)"
    for seed in range(6):  # an order or a toss that is lost may fall as before, once

        def make(*faults: str, seed: int = seed) -> Callable[[], Trainer]:
            return lambda: Trainer(*faults, seed=seed)

        yield from name_faults(answer, FAULTS, make, "left out", {"moments": wary})
