"""Run a function on several processes at once, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch


def run_ranks(call: Callable[..., Any], *given: Any, ranks: int = 2, wait: float = 120) -> list:
    """What ``call(*given)`` returns in each of ``ranks`` new processes; a text if it raised.

    None stands for a process that was killed. ``call`` is a function of a module.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes, processes = [], []
    for rank in range(ranks):
        ours, theirs = context.Pipe(duplex=False)
        started = context.Process(target=_one, args=(theirs, rank, ranks, port, call, given))
        started.start()
        theirs.close()
        pipes.append(ours)
        processes.append(started)
    try:
        found = []
        for pipe in pipes:
            try:
                found.append(pickle.loads(pipe.recv_bytes()) if pipe.poll(wait) else "no answer")
            except EOFError:
                found.append(None)
        return found
    finally:
        for process in processes:
            process.join(10)
            process.kill()


def _one(pipe: Any, rank: int, ranks: int, port: int, call: Callable, given: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        answer = call(*given)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    pipe.send_bytes(pickle.dumps(answer))  # by value: this process ends
    pipe.close()
