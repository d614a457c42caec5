"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""No room on the disk, a limit on the size of files, a quota."""


class DiskFull(OSError):
    """There is no room for a file; the one before it is untouched."""


def write_whole(path: str | Path, data: bytes, sync: bool = True) -> None:
    """Write a file beside its place, wait until the disk has it, and put it there by its name.

    Until the last moment the file that was there before is untouched: a full disk, a crash or a
    kill leaves that one, and at most a hidden ``.part`` beside it (:func:`remove_parts`).

    Args:
        path: its folder must be there. data: all of it. sync: False does not wait for the disk:
            for many small files, whose reader finds out which of them a power cut has taken.
    Raises:
        DiskFull: no room for it. OSError: the folder is missing or may not be written to. Both
            name the file.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:40]}.{os.getpid()}.part")  # a name may be 255 bytes
    try:
        with open(part, "wb") as file:
            file.write(data)
            if sync:  # else a power cut may leave the new name and no content
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        kind = DiskFull if error.errno in FULL else OSError
        raise kind(error.errno, f"{error.strerror} ({len(data)} bytes wanted)", str(path)) from None
    finally:
        with suppress(OSError):  # a disk that may only be read says so again, of the part
            part.unlink(missing_ok=True)
    if sync:
        _sync_folder(path.parent)


def remove_parts(folder: str | Path) -> None:
    """Remove what killed writers left in a folder; who still writes is let finish."""
    for part in Path(folder).glob(".*.part"):
        if _left(part):
            part.unlink(missing_ok=True)


def clear_parts(path: str | Path) -> None:
    """Remove the folders ``NAME.PROCESS.part`` that processes left beside a path, and that are no
    more."""
    path = Path(path)
    for part in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        if _left(part):
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Make a folder, and keep other processes from writing into it, as far as they ask, too.

    A process that ends, however it ends, no longer holds it. One that was new and is still empty
    at the end is taken away again.

    Raises:
        FileExistsError: a file is there. BlockingIOError: another process is writing into it.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path}: a file, wanted a folder to write into")
    new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    handle, busy = None, f"{path}: another process is writing into it"
    if fcntl is not None:
        handle = os.open(path, os.O_RDONLY)
        _held.add(handle)
    mine = False
    try:
        if handle is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(busy) from None
            except OSError:  # a file system without locks
                pass
            if not _is_at(handle, path):  # who held it took it away just before
                raise BlockingIOError(busy)
        mine = True
        yield
    finally:
        mine = mine and (handle is None or handle in _held)  # not in a child that was forked
        if mine and new and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        if handle is not None and handle in _held:
            with suppress(OSError):  # a child forked just now may not have let go yet
                fcntl.flock(handle, fcntl.LOCK_UN)
            _held.discard(handle)
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open folder is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


_held: set[int] = set()


def _let_go() -> None:
    """A forked child, a data loader's worker say, may outlive its parent, and holds nothing."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _left(part: Path) -> bool:
    """Whether the process that made it is no more."""
    process = part.name.split(".")[-2]
    return process.isdecimal() and not _runs(int(process))


def _runs(process: int) -> bool:
    """Whether there is such a process here; where it cannot be told, there is."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return process != os.getpid()


def _sync_folder(folder: Path) -> None:
    """The new name must reach the disk too; Windows has no such thing."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
