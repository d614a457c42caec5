"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file beside its place, wait until the disk has it, and put it there by its name.

    Until the last moment the file that was there before is untouched: a full disk, a crash or a
    kill leaves that one, and at most a hidden ``.part`` beside it (:func:`remove_parts`).

    Args:
        path: its folder must be there. data: all of it.
    Raises:
        OSError: the disk is full, the folder is missing or may not be written to; names the file.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name and no content
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{reason}, {len(data)} bytes wanted", str(path)) from None
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def remove_parts(folder: str | Path) -> None:
    """Remove what killed writers left in a folder."""
    for part in Path(folder).glob(".*.part"):
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name must reach the disk too; Windows has no such thing."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
