"""Trainings in processes of their own, so that one can be killed, or several share a batch.

A notebook's own process has threads, and perhaps a graphics card, that a copy of it could not use.
So the copies are made of another process, which has imported everything and computed nothing. The
shell's way to the same is ``sal360 train`` and ``torchrun``. Chapter 16 uses it.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from sal360.training.data import open_data
from sal360.training.distributed import ALONE, setup
from sal360.training.recipe import Recipe
from sal360.training.run import train

_PRELOADED = (__name__, "torch._dynamo")


def _context() -> Any:
    """Processes that begin as copies of one that has imported everything and computed nothing;
    where there is no such thing (Windows), each imports for itself."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def warm() -> None:
    """Have that process begin to import, while one reads on."""
    if _context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()


class Training:
    """A training that runs in a process of its own, on the CPU; it goes on with what is in ``out``.

    Args:
        recipe: what is run. data: the spec of what on, see :func:`sal360.training.data.open_data`.
        out: its folder. rank, port: of a process of several, see :func:`together`.
        ranks: how many those are.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: str,
        out: str | Path,
        checkpoint_every: int = 4,
        rank: int = 0,
        ranks: int = 1,
        port: int = 0,
    ) -> None:
        context = _context()
        self._heard, speaks = context.Pipe(duplex=False)
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        given = recipe, data, str(out), checkpoint_every, torch.get_num_threads(), world, speaks
        self._process = context.Process(target=_train, args=given, daemon=True)
        self._process.start()
        speaks.close()
        self._steps = 0

    @property
    def pid(self) -> int:
        """Number of the process."""
        return int(self._process.pid or 0)

    def wait_for(self, steps: int) -> int:
        """Wait until so many steps are done, or the process is over; how many are."""
        while self._steps < steps:
            try:
                self._steps = self._heard.recv()
            except EOFError:
                break
        return self._steps

    def end(self) -> int:
        """Wait until it is over; its exit code: 0, or minus the signal that killed it."""
        self._process.join()
        return int(self._process.exitcode or 0)


def together(count: int, recipe: Recipe, data: str, out: str | Path) -> list[int]:
    """Train by several processes that share every batch, as ``torchrun`` would start them.

    Returns:
        their exit codes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = [Training(recipe, data, out, 1000, rank, count, port) for rank in range(count)]
    return [run.end() for run in runs]


class _Told:
    """A report to another process: how many steps are done."""

    def __init__(self, told: connection.Connection) -> None:
        self.told = told

    def on_step(self, step: Any, *_: float) -> None:
        self.told.send(step.index + 1)

    def on_validation(self, scores: Any) -> None:
        pass

    def on_end(self, record: Any) -> None:
        pass


def _train(
    recipe: Recipe,
    data: str,
    out: str,
    checkpoint_every: int,
    threads: int,
    world: dict[str, int],
    told: connection.Connection,
) -> None:
    torch.set_num_threads(threads)
    several = world["WORLD_SIZE"] > 1
    if several:
        os.environ |= {name: str(value) for name, value in world.items()}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    shared = setup("cpu") if several else ALONE
    try:
        train(recipe, open_data(data), out=out, device="cpu", resume=True, report=_Told(told),
              checkpoint_every=checkpoint_every, world=shared)  # fmt: skip
    finally:
        shared.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, what compiled code says of itself on the error output is not shown."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
