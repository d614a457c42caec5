"""What a run says while it goes: a bar on a terminal, a line now and then elsewhere, TensorBoard.

A run is told nothing by these and changes nothing for them; see
:class:`sal360.training.run.Report`. What is drawn and tabled of a run that has ended is
:mod:`sal360.training.summary`. Chapter 16.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TextIO

from sal360.evaluation.scores import METRICS
from sal360.training.fit import Step

SMOOTH = 0.95
"""What the loss on the bar keeps of itself from step to step."""
PATIENCE_S = 30.0
"""Seconds from one line to the next where there is no terminal."""


class Bar:
    """Steps done and to come, loss, clips per second, share of the time waiting for data.

    Args:
        steps: of the recipe. stream: where to, None: standard error; a bar if it is a terminal,
            else a line every :data:`PATIENCE_S` seconds. name: what it begins with.
    """

    def __init__(self, steps: int, stream: TextIO | None = None, name: str = "train") -> None:
        self.steps, self.name = steps, name
        self.stream = sys.stderr if stream is None else stream
        self._loss: float | None = None
        self._bar: Any = None
        self._said = time.monotonic()
        self._first: tuple[int, float] | None = None

    def on_step(self, step: Step, rate: float, waiting: float) -> None:
        """See :class:`sal360.training.run.Report`."""
        old = step.loss if self._loss is None else self._loss
        self._loss = SMOOTH * old + (1 - SMOOTH) * step.loss
        told = f"loss {self._loss:.4g}, {rate:.3g} clips/s, {waiting:.0%} waiting for data"
        if self.stream.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=self.steps,
                    initial=step.index,
                    desc=self.name,
                    unit="step",
                    file=self.stream,
                    dynamic_ncols=True,
                )
            self._bar.set_postfix_str(told, refresh=False)
            self._bar.update()
            return
        now = time.monotonic()
        if self._first is None:
            self._first = step.index, now
        if now - self._said >= PATIENCE_S:
            self._said = now
            done = step.index + 1 - self._first[0]
            left = (self.steps - step.index - 1) * (now - self._first[1]) / max(1, done - 1)
            self._write(f"step {step.index + 1} of {self.steps}: {told}, {_clock(left)} left")

    def on_validation(self, scores: dict[str, Any]) -> None:
        """See :class:`sal360.training.run.Report`."""
        means = ", ".join(f"{METRICS[m].name} {value:.4f}" for m, value in scores["means"].items())
        self._write(f"step {scores['step']}: {means}{' (best so far)' if scores['best'] else ''}")

    def on_end(self, record: dict[str, Any]) -> None:
        """See :class:`sal360.training.run.Report`."""
        self.close()
        through = record["throughput"]
        rate = "" if through["clips_per_s"] is None else f", {through['clips_per_s']:.3g} clips/s"
        self._write(f"{record['status']}: {record['steps']} steps in {_clock(record['seconds'])}"
                    f"{rate}")  # fmt: skip

    def close(self) -> None:
        """Leave the terminal as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, line: str) -> None:
        text = f"{self.name}: {line}"
        if self._bar is None:
            print(text, file=self.stream, flush=True)
        else:
            self._bar.write(text, file=self.stream)


class TensorBoard:
    """Loss, rate, gradient and speed of every step, and every validation, for ``tensorboard``.

    Args:
        folder: for its files. Of a run that is resumed, what was written of steps that are made
            again is not shown.
    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "tensorboard: not installed, wanted it for --tensorboard (pip install tensorboard)"
            ) from None
        self.folder, self._make = Path(folder), SummaryWriter
        self._writer: Any = None

    def on_step(self, step: Step, rate: float, waiting: float) -> None:
        """See :class:`sal360.training.run.Report`."""
        values = {"loss": step.loss, "learning rate": step.lr, "gradient norm": step.gradient,
                  "clips per second": rate, "share waiting for data": waiting}  # fmt: skip
        for name, value in values.items():
            self._open(step.index).add_scalar(f"training/{name}", value, step.index)

    def on_validation(self, scores: dict[str, Any]) -> None:
        """See :class:`sal360.training.run.Report`."""
        for metric, value in scores["means"].items():
            self._open(scores["step"]).add_scalar(f"validation/{metric}", value, scores["step"])

    def on_end(self, record: dict[str, Any]) -> None:
        """See :class:`sal360.training.run.Report`."""
        self.close()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, step: int) -> Any:
        if self._writer is None:
            if step == 0:  # a run from its beginning: nothing of another one beside it
                for old in self.folder.glob("events.out.tfevents.*"):
                    old.unlink()
            self._writer = self._make(str(self.folder), purge_step=step or None)
        return self._writer


class All:
    """Several reports, told one after the other."""

    def __init__(self, *reports: Any) -> None:
        self.reports = reports

    def on_step(self, step: Step, rate: float, waiting: float) -> None:
        """See :class:`sal360.training.run.Report`."""
        for report in self.reports:
            report.on_step(step, rate, waiting)

    def on_validation(self, scores: dict[str, Any]) -> None:
        """See :class:`sal360.training.run.Report`."""
        for report in self.reports:
            report.on_validation(scores)

    def on_end(self, record: dict[str, Any]) -> None:
        """See :class:`sal360.training.run.Report`."""
        for report in self.reports:
            report.on_end(record)

    def close(self) -> None:
        """Close those that can be closed, whatever happened."""
        for report in self.reports:
            report.close()


def _clock(seconds: float) -> str:
    """Seconds as ``42 s``, ``3:05 min`` or ``2:10 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d} h"
