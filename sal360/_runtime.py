"""Process-wide settings that belong to a program, not to a library."""

from __future__ import annotations

import ctypes
import sys


def tune_allocator() -> bool:
    """Keep large blocks of memory instead of returning them to the kernel after each tensor.

    glibc maps and unmaps every large tensor afresh, and the page faults cost a CPU network
    half of its time or more. The same as starting Python with ``MALLOC_MMAP_MAX_=0
    MALLOC_TRIM_THRESHOLD_=-1 MALLOC_TOP_PAD_=268435456``. The process keeps its peak memory
    until it ends. Appendix "benchmarks" measures it; the command line calls it for itself.

    Returns:
        Whether anything was set: only glibc (Linux) knows these settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # <malloc.h>
    settings = ((mmap_max, 0), (trim_threshold, -1), (top_pad, 256 * 2**20))
    return all(mallopt(name, value) == 1 for name, value in settings)
