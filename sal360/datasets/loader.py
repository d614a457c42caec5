"""Batches of clips, read by worker processes, in an order that a seed decides and nothing else.

Which clips make which batch, and how each is turned, follows from ``(seed, epoch)``; how many
workers read them, and how fast, changes nothing. So a training that stopped after ``k`` batches
goes on with batch ``k + 1`` of the same epoch, as if it had not stopped. How many processes train
changes nothing either: all have the same plan, and each reads its own share of every batch
(:meth:`ClipLoader.share`).

**Data larger than memory and disk.** Nothing of a data set is held but the index of its clips: a
batch is read when it is due, and at most ``workers * prefetch`` wait. What may grow is the store of
decoded frames (:class:`~sal360.datasets.store.FrameStore`), up to its limit. If it cannot hold all
films, an order that jumps between them decodes each film again and again; ``mix`` says how many
videos are open to the draw at a time, so that with a store of that many films each is decoded
once an epoch. The price is that a batch holds few different videos. In a free order, a store that
is too small is worse than none (``python -m benchmarks streaming``).
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import resource_tracker
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from sal360._check import positive_int
from sal360.datasets.augment import Augment
from sal360.datasets.batch import Batch, collate
from sal360.datasets.item import Item, VideoDataset
from sal360.datasets.windows import Tail, Window, Windows

__all__ = ["Batch", "ClipLoader", "Window", "Windows", "clip_loader", "collate"]

OnError = Literal["raise", "skip"]
Turning = Augment | Callable[[Item, int, int], Item]


class ClipLoader:
    """Iterate over the batches of an epoch; see :func:`clip_loader` for the arguments.

    ``for batch in loader`` is one epoch, and :attr:`epoch` counts those that were gone through to
    the end. After a ``break`` the same epoch begins again. One iterator at a time.

    Attributes:
        windows: the clips. epoch: the one that the next iteration gives; set it as you like.
        rank, ranks: whose share of each batch this loader reads, see :meth:`share`.
        skipped: ``video, frames a to b`` of each clip that was left out, and why.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int = 1,
        workers: int = 0,
        seed: int = 0,
        augment: Turning | None = None,
        size: tuple[int, int] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        on_error: OnError = "raise",
        prefetch: int = 2,
        pin_memory: bool | None = None,
        start_method: str | None = None,
        mix: int | None = None,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise ValueError(f"workers: {workers!r}, wanted a whole number of at least 0")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: {on_error!r}, wanted 'raise' or 'skip'")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed: {seed!r}, wanted a whole number of at least 0")
        if size is not None:
            size = (positive_int(size[0], "size[0]"), positive_int(size[1], "size[1]"))
        self.windows, self.seed, self.shuffle, self.drop_last = windows, seed, shuffle, drop_last
        self.batch_size = positive_int(batch_size, "batch_size")
        self.workers, self.prefetch = workers, positive_int(prefetch, "prefetch")
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.start_method = start_method
        self.mix = None if mix is None else positive_int(mix, "mix")
        if mix is not None and not shuffle:
            raise ValueError(f"mix: {mix} without shuffle, wanted None: clips come video by video")
        self.epoch = 0
        self.rank, self.ranks = 0, 1
        self._agree: Callable[[bool], bool] | None = None
        self.skipped: dict[str, str] = {}
        self._clips = _Clips(windows, size, augment, on_error)
        self._first = self._next = 0  # where the next iteration begins; the next batch of this one

    def batches(self, epoch: int) -> list[list[int]]:
        """Numbers of the clips of every batch of an epoch. Only clips of one length share one."""
        order = self._order(epoch)
        full: list[list[int]] = []
        waiting: dict[int, list[int]] = {}
        for clip in order.tolist():
            group = waiting.setdefault(self.windows[clip].length, [])
            group.append(clip)
            if len(group) == self.batch_size:
                full.append(waiting.pop(self.windows[clip].length))
        return full if self.drop_last else full + list(waiting.values())

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Numbers of all clips as they follow each other in an epoch."""
        order = np.arange(len(self.windows))
        if not self.shuffle:
            return order
        rng = np.random.default_rng((self.seed, epoch))
        if self.mix is None:
            return rng.permutation(order)
        videos: dict[str, list[int]] = {}
        for clip, window in enumerate(self.windows):
            videos.setdefault(window.video, []).append(clip)
        names = list(videos)
        drawn = [names[k] for k in rng.permutation(len(names))]
        groups = [drawn[k : k + self.mix] for k in range(0, len(drawn), self.mix)]
        return np.concatenate(
            [rng.permutation([clip for video in g for clip in videos[video]]) for g in groups]
        )

    def share(
        self, rank: int, ranks: int, agree: Callable[[bool], bool] | None = None
    ) -> ClipLoader:
        """Read from now on a process's share of every batch, and no other clip; returns itself.

        Batches, their order and :meth:`state_dict` are those of the whole, so a checkpoint goes on
        with another number of processes. The shares of a batch, one after the other, are the batch.

        Args:
            rank: from 0. ranks: how many processes.
            agree: whether any process says yes, for ``on_error="skip"``: a batch of which one
                process can read nothing is left out by all, so that they stay in step.
        Raises:
            ValueError: batches that cannot be shared out evenly; skipping without ``agree``.
        """
        positive_int(ranks, "ranks")
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank < ranks:
            raise ValueError(f"rank: {rank!r}, wanted a whole number from 0 to {ranks - 1}")
        for clips in self.batches(0):
            if len(clips) % ranks:
                last = "" if len(clips) == self.batch_size else "; drop_last=True leaves it out"
                raise ValueError(
                    f"batch: {len(clips)} clips, wanted a multiple of {ranks}, the processes{last}"
                )
        if self._clips.on_error == "skip" and ranks > 1 and agree is None:
            raise ValueError("agree: None, wanted a way to leave out the same batches everywhere")
        self.rank, self.ranks = rank, ranks
        self._agree = agree if self._clips.on_error == "skip" else None
        return self

    def __len__(self) -> int:
        """Batches of an epoch, the same for each."""
        groups = Counter(window.length for window in self.windows).values()
        part = 0 if self.drop_last else self.batch_size - 1
        return sum((clips + part) // self.batch_size for clips in groups)

    def __iter__(self) -> Iterator[Batch]:
        # Torch raises the death of a worker from a signal handler: wherever we are just then,
        # the clean-up of an earlier error included. So one place tells it, outside all others.
        try:
            yield from self._epoch()
        except (RuntimeError, ConnectionError, EOFError) as error:
            # Torch notices a dead worker, or we do when we fetch what it had still announced.
            if not self.workers or (
                "DataLoader worker" not in str(error) and type(error) is RuntimeError
            ):
                raise
            ahead = self.batches(self.epoch)[self._next :][: 1 + self.workers * self.prefetch]
            ours = [_part(clips, self.rank, self.ranks) for clips in ahead]
            names = dict.fromkeys(self.windows[clip].video for clips in ours for clip in clips)
            _, trace, rest = str(error).rpartition("Traceback")
            lines = rest.strip().splitlines()[1:] if trace else [str(error)]  # a worker's own error
            told = " ".join(" ".join(line for line in lines if line[:1] != " ").split())
            raise RuntimeError(
                f"{self.windows.dataset.name}: a worker died; it was reading one of "
                f"{', '.join(names)} ({told})"
            ) from error

    def _epoch(self) -> Iterator[Batch]:
        first, self._first = self._first, 0
        epoch, self._next = self.epoch, first
        plan = [_part(clips, self.rank, self.ranks) for clips in self.batches(epoch)[first:]]
        left_out: list[str] = []
        loader = DataLoader(
            self._clips,
            batch_size=None,
            sampler=[(epoch, clips) for clips in plan],
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self.pin_memory,
            worker_init_fn=_quiet_worker,
            multiprocessing_context=self.start_method if self.workers else None,
            prefetch_factor=self.prefetch if self.workers else None,
            generator=torch.Generator().manual_seed(self.seed),  # else torch's own is advanced
        )
        with _left_alone(), _unheard(self.start_method):
            results = iter(loader)
        try:
            for _ in plan:
                result: _Result = next(results)
                if result.error is not None:
                    raise result.error[0](result.error[1])
                self._next += 1
                for where, reason in result.failures:
                    self.skipped[where] = reason
                    left_out.append(reason)
                nothing = result.batch is None
                if self._agree is not None:
                    nothing = self._agree(nothing)
                if result.batch is not None and not nothing:
                    yield result.batch
        finally:  # now, and not when an exception that holds this frame is forgotten
            getattr(results, "_shutdown_workers", lambda: None)()
            for worker in getattr(results, "_workers", ()):
                worker.kill()  # one in a long read did not hear; else the program would wait for it
        if left_out:
            warnings.warn(
                f"{self.windows.dataset.name}: {len(left_out)} clips of this epoch were left out; "
                f"first: {left_out[0]}",
                UserWarning,
                stacklevel=3,
            )
        self.epoch, self._next = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where we are: numbers and a string, for a checkpoint.

        A batch counts once it has been handed out. Within ``for batch in loader`` the state says
        that this batch is done; after the last one the next iteration is empty and ends the epoch.
        """
        return {"epoch": self.epoch, "batch": self._next, "plan": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: the next iteration gives the rest of that epoch.

        Raises:
            ValueError: the state of a loader with other clips, batches or another seed.
        """
        if state.get("plan") != self._fingerprint:
            raise ValueError(
                "state: of a loader with other clips, batch size, order or seed, wanted this one's"
            )
        self.epoch = int(state["epoch"])
        self._first = self._next = int(state["batch"])

    @cached_property
    def _fingerprint(self) -> str:
        w = self.windows
        plan = [w.dataset.name, w.step, self.seed, self.batch_size, self.shuffle, self.drop_last]
        plan += [] if self.mix is None else [self.mix]
        return hashlib.sha256(repr([*plan, *w]).encode()).hexdigest()[:16]


def clip_loader(
    dataset: VideoDataset,
    length: int,
    batch_size: int = 1,
    workers: int = 0,
    seed: int = 0,
    augment: Turning | None = None,
    size: tuple[int, int] | None = None,
    shuffle: bool = True,
    *,
    stride: int | None = None,
    step: int = 1,
    tail: Tail = "drop",
    videos: Iterable[str] | None = None,
    drop_last: bool = False,
    on_error: OnError = "raise",
    prefetch: int = 2,
    pin_memory: bool | None = None,
    start_method: str | None = None,
    mix: int | None = None,
) -> ClipLoader:
    """Batches of clips of a data set, for a training or an evaluation.

    Args:
        dataset: any :class:`~sal360.datasets.item.VideoDataset`.
        length, stride, step, tail, videos: how it is cut, as for :class:`Windows`.
        batch_size: clips in a batch; only clips of one length share one, so with
            ``tail="short"`` some batches are smaller.
        workers: processes that read; 0 reads in this one. Each works on one thread.
        seed: of the order and nothing else; ``augment`` has its own.
        augment: called with ``(item, epoch, number of the clip)``, in the worker.
        size: ``(H, W)`` of the frames; needed when videos differ in size.
        shuffle: another order in each epoch; else that of the data set, every time.
        drop_last: leave out batches that are not full.
        on_error: ``"raise"`` stops at a clip that cannot be read, in one line with the file's
            name; ``"skip"`` leaves the clip out of its batch, counts it in ``skipped`` and warns
            at the end of the epoch.
        prefetch: batches that each worker reads ahead; so at most ``workers * prefetch`` wait, in
            shared memory (a container's ``/dev/shm`` must hold them).
        pin_memory: copy each batch to where a GPU can fetch it; None: if there is one.
        start_method: ``"fork"``, ``"spawn"`` or ``"forkserver"``; None: what Python does here.
            A script that spawns needs its ``if __name__ == "__main__"``.
        mix: videos whose clips are drawn at a time, for films that do not all fit into the store
            of frames; None: all of them. 1: video by video.
    """
    return ClipLoader(
        Windows(dataset, length, stride, step, tail, videos),
        batch_size,
        workers,
        seed,
        augment,
        size,
        shuffle,
        drop_last,
        on_error,
        prefetch,
        pin_memory,
        start_method,
        mix,
    )


@dataclass(frozen=True)
class _Result:
    """What comes from a worker: a batch, what it lacks, or why there is none."""

    batch: Batch | None = None
    failures: tuple[tuple[str, str], ...] = ()
    error: tuple[type[Exception], str] | None = None

    def pin_memory(self, device: Any = None) -> _Result:
        if self.batch is None:
            return self
        return _Result(self.batch.pin_memory(device), self.failures)


class _Clips(Dataset[_Result]):
    """Reads one batch; lives in the workers."""

    def __init__(
        self,
        windows: Windows,
        size: tuple[int, int] | None,
        augment: Turning | None,
        on_error: OnError,
    ) -> None:
        self.windows, self.size, self.augment, self.on_error = windows, size, augment, on_error

    def __getitem__(self, key: tuple[int, list[int]]) -> _Result:
        epoch, clips = key
        items: list[Item] = []
        read: list[int] = []
        failures: list[tuple[str, str]] = []
        for clip in clips:
            video, start, length = self.windows[clip]
            where = f"{video}, frames {start} to {start + (length - 1) * self.windows.step}"
            try:
                item = self.windows.read(clip, self.size)
                if len(item) != length:
                    raise ValueError(f"{video}: {len(item)} frames, wanted {length}")
            except (OSError, ValueError) as error:
                reason = f"{error} (reading {where})"
                if self.on_error == "raise":
                    kind = OSError if isinstance(error, OSError) else ValueError
                    return _Result(error=(kind, reason))
                failures.append((where, reason))
                continue
            except Exception as error:
                error.add_note(f"reading {where}")
                raise
            items.append(item if self.augment is None else self.augment(item, epoch, clip))
            read.append(clip)
        try:
            batch = collate(items, read) if items else None
        except ValueError as error:
            return _Result(error=(ValueError, str(error)))
        return _Result(batch, tuple(failures))


def _part(clips: list[int], rank: int, ranks: int) -> list[int]:
    """A process's part of a batch."""
    many = len(clips) // ranks
    return clips[rank * many : (rank + 1) * many]


def _as_it_is(result: Any) -> Any:
    return result


@contextmanager
def _left_alone() -> Iterator[None]:
    """Processes forked in here never collect what this one no longer uses: the decoder of a film
    that was read would wait for its threads, which a fork leaves behind."""
    ours = gc.get_freeze_count() == 0  # else somebody else has frozen, and may thaw
    gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _unheard(method: str | None) -> Iterator[None]:
    """Processes started in here hear neither Ctrl-C nor SIGTERM before :func:`_quiet_worker` has
    told them not to mind; here both arrive when it is over."""
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows, which knows no groups to signal
        yield
        return
    if (method or multiprocessing.get_start_method()) != "fork":
        resource_tracker.ensure_running()  # started only in here, it would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _quiet_worker(number: int) -> None:
    """One thread each. Ctrl-C and SIGTERM, which a whole group of processes may be sent, are for
    the parent, who ends its workers when it has finished what it is doing.

    A pool of threads does not survive a fork: OpenCV would wait for threads that are not there.
    Torch sets itself to one thread.
    """
    import cv2

    cv2.setNumThreads(0)
    for number in _FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # what waited is ignored now; what we start may hear
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_PARENT)
