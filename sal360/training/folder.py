"""The folder of a run: what lies in it, and whether a new run may have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import nn

from sal360._files import alone, remove_parts
from sal360.datasets.item import VideoDataset
from sal360.models.weights import write_weights
from sal360.results import sha256
from sal360.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from sal360.training.records import load_record, save_record
from sal360.training.state import TrainingState


class RunFolder:
    """``record.json``, ``best.safetensors``, ``last.safetensors``, ``checkpoint.safetensors``, and
    what ``sal360 train`` draws of them: ``table.md``, ``curve.png``, ``tensorboard``.

    Every file is replaced whole (:mod:`sal360._files`). Nothing else in the folder is touched.

    Nothing happens until it is claimed (:meth:`claim`), which one process of a run does; until it
    is released (:meth:`release`), or that process is no more, no other run may have it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record_path = self.path / "record.json"
        self.checkpoint_path = self.path / "checkpoint.safetensors"
        self._held = ExitStack()

    def claim(
        self, resume: bool = False, force: bool = False, data: tuple[VideoDataset, ...] = ()
    ) -> None:
        """Make the folder, or take what is there.

        Args:
            resume: go on with the run that lies there, if one does. force: begin anew, over a run
                (which stays until :meth:`forget`) or beside other files. data: whose own folder
                must be another one.
        Raises:
            ValueError: a file; a folder that holds a run, without ``resume`` or ``force``; one
                that holds something else, without ``force``; a place within a data set.
            BlockingIOError: another process is writing into it.
        """
        self._check(resume, force, data)
        self._held.enter_context(alone(self.path))
        remove_parts(self.path)

    @contextmanager
    def held(self, resume: bool = False) -> Iterator[RunFolder]:
        """Claimed within, and then released."""
        self.claim(resume)
        try:
            yield self
        finally:
            self.release()

    def release(self) -> None:
        """Let others write here; a folder in which nothing was written is taken away again."""
        self._held.close()

    def forget(self) -> None:
        """Leave the folder as if no run had begun."""
        drawn = (self.path / name for name in ("table.md", "curve.png"))
        for file in (self.checkpoint_path, self.record_path, *self._weights().values(), *drawn):
            file.unlink(missing_ok=True)
        events = self.path / "tensorboard"
        for file in events.glob("events.out.tfevents.*"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or it holds what is not ours
            events.rmdir()

    def _check(self, resume: bool, force: bool, data: tuple[VideoDataset, ...]) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out: {self.path} is a file, wanted a folder")
        for one in data:
            root = getattr(one, "root", None)
            if root is not None and self.path.resolve().is_relative_to(Path(root).resolve()):
                raise ValueError(f"out: {self.path} lies within {one.name}, which is only read")
        if force or not self.path.is_dir():
            return
        held = [p for p in self.path.iterdir() if not p.name.endswith(".part")]
        a_run = self.record_path.is_file() or self.checkpoint_path.is_file()
        if a_run and not resume:
            raise ValueError(f"out: {self.path} holds a run, wanted resume or force, or a new one")
        if held and not a_run:
            raise ValueError(
                f"out: {self.path} is not empty and holds no run, wanted a new folder, or force"
            )

    def _weights(self) -> dict[str, Path]:
        return {kind: self.path / f"{kind}.safetensors" for kind in ("best", "last")}

    def checkpoint(self) -> Checkpoint | None:
        """The last one, or None if there is none yet.

        Raises:
            ValueError: a damaged one.
        """
        return read_checkpoint(self.checkpoint_path) if self.checkpoint_path.is_file() else None

    def record(self) -> dict[str, Any] | None:
        """The record of the run that lies here, if one does."""
        return load_record(self.record_path) if self.record_path.is_file() else None

    def write_checkpoint(
        self, state: TrainingState, loader: dict[str, Any], extra: dict[str, Any]
    ) -> None:
        """See :func:`sal360.training.checkpoint.write_checkpoint`."""
        write_checkpoint(self.checkpoint_path, state, loader, extra)

    def write_record(self, record: dict[str, Any]) -> None:
        """With the hashes of the weights that lie here."""
        record["weights"] = {
            kind: {"file": path.name, "sha256": sha256(path)}
            for kind, path in self._weights().items()
            if path.is_file()
        }
        save_record(record, self.record_path)

    def write_weights(self, kind: str, model: nn.Module, **facts: Any) -> None:
        """``"best"`` or ``"last"``, as :func:`sal360.models.load_model` reads them; of a network
        of one's own, which it cannot build, under the name of its class."""
        from sal360.models.registry import name_of, save_weights

        path = self._weights()[kind]
        try:
            name = name_of(model)
        except ValueError:
            own = {"model": type(model).__name__, "settings": {}, "record": facts}
            write_weights(path, model.state_dict(), own)
        else:
            save_weights(model, path, name, **facts)
