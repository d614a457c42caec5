"""Process-wide settings that belong to a program, not to a library."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor


def tune_allocator() -> bool:
    """Keep large blocks of memory instead of returning them to the kernel after each tensor.

    glibc maps and unmaps every large tensor afresh, and the page faults cost a CPU network
    over a third of its time. The same as starting Python with ``MALLOC_MMAP_MAX_=0
    MALLOC_TRIM_THRESHOLD_=-1``. The process keeps its peak memory until it ends. The command
    line calls this for itself.

    ``MALLOC_TOP_PAD_``, often added to these two, is left alone: with it the memory of a process
    that decodes video was seen to grow with every frame (``tests/test_video.py`` watches that).

    Returns:
        Whether anything was set: only glibc (Linux) knows these settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    trim_threshold, mmap_max = -1, -4  # <malloc.h>
    settings = ((mmap_max, 0), (trim_threshold, -1))
    return all(mallopt(name, value) == 1 for name, value in settings)


def end_with_parent(parent: int) -> None:
    """End this process when the one that began it is no more, killed, say: what it would still do
    is in the way of whoever begins again.

    Args:
        parent: number of that process, from itself: here it may be known too late.
    """

    def watch() -> None:
        while os.name != "posix" or os.getppid() == parent:  # elsewhere it keeps its number
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def workers(processes: int) -> ProcessPoolExecutor:
    """Processes that start afresh and end with this one. If one of them dies, whoever waits for it
    is told (``BrokenExecutor``); a pool of :mod:`multiprocessing` would wait for ever."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, spawn, end_with_parent, (os.getpid(),))


def no_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory; torch has several ways to say it."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in told for words in ("out of memory", "not enough memory", "allocate memory")
    )
