"""Decoded frames kept in the cache folder: a film is decoded once, however often it is read.

Frames are bytes, as the decoder gives them, in one ``.npy`` file a film, rate and size. A file is
named by what it was made from, so nothing in it can be out of date, and the ones not read for
longest make room. Frames are mapped, not loaded: the kernel drops them from memory as it needs.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sal360._check import non_negative
from sal360.datasets.download import cache_folder

_PIECE = 256  # frames decoded at once
_ABANDONED = 3600.0  # seconds after which nobody writes an unfinished file any more


class FrameStore:
    """Frames of films, up to a number of bytes in all.

    Args:
        limit_gb: what all films together may take.
        folder: where; None: ``frames`` in the cache folder.
    """

    def __init__(self, limit_gb: float = 20.0, folder: str | Path | None = None) -> None:
        self.limit_gb = non_negative(limit_gb, "limit_gb")
        self.folder = cache_folder() / "frames" if folder is None else Path(folder)

    def frames(
        self,
        key: str,
        shape: tuple[int, int, int, int],
        decode: Callable[[int, int], list[NDArray[np.uint8]]],
    ) -> NDArray[np.uint8] | None:
        """All the frames of one film, mapped from the disk; decoded first if they are not there.

        Args:
            key: says everything that the frames depend on.
            shape: ``(N, H, W, 3)``. decode: frames from one number up to another.
        Returns:
            uint8 of that shape, read-only; None if the film alone is over the limit.
        Raises:
            OSError: the folder cannot be written; with its path.
        """
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if (kept := self._open(path, shape)) is not None:
            return kept
        size = int(np.prod(shape))
        if size > self.limit_gb * 1e9:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        scratch = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.tmp")
        try:
            made = np.lib.format.open_memmap(scratch, "w+", np.uint8, shape)
            for first in range(0, shape[0], _PIECE):
                last = min(first + _PIECE, shape[0])
                made[first:last] = decode(first, last)
            made.flush()
            del made
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        return self._open(path, shape)

    def _open(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
        try:
            kept = np.load(path, mmap_mode="r", allow_pickle=False)
            os.utime(path)  # read now: the last to make room
        except (OSError, ValueError):
            return None
        return kept if kept.shape == shape and kept.dtype == np.uint8 else None

    def _make_room(self, size: int) -> None:
        """Delete what was not read for longest until ``size`` bytes more are within the limit."""
        found = []
        for path in self.folder.glob("*.npy"):
            try:
                found.append((path.stat().st_mtime, path.stat().st_size, path))
            except FileNotFoundError:  # another process made room
                continue
        total = size + sum(bytes_ for _, bytes_, _ in found) + self._unfinished()
        for _, bytes_, path in sorted(found):
            if total <= self.limit_gb * 1e9:
                return
            path.unlink(missing_ok=True)
            total -= bytes_

    def _unfinished(self) -> int:
        """Bytes of what others are decoding now; what a killed process left is deleted."""
        total = 0
        for path in self.folder.glob("*.tmp"):
            try:
                about = path.stat()
            except FileNotFoundError:  # finished
                continue
            if time.time() - about.st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)
            else:
                total += about.st_size
        return total


def content_hash(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
