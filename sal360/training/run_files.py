"""Records of runs as files: where they lie, how they are read and written, whole or not at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sal360._files import write_whole
from sal360.datasets.download import fetch


def published(name: str = "kernels.json") -> Path:
    """Path of a file in the repository's ``data/runs``, fetched by its hash where they are missing.

    Args:
        name: such as ``"kernels.json"``.
    Raises:
        sal360.datasets.download.DownloadError: neither there nor to be had.
    """
    here = Path(__file__).resolve().parents[2] / "data" / "runs" / name
    return here if here.is_file() else fetch(f"runs/{name}")


def read(path: str | Path, schema: str) -> dict[str, Any]:
    """A record.

    Args:
        path: JSON file. schema: which it must name as its own.
    Raises:
        FileNotFoundError. ValueError: not JSON, or of another schema.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(record, dict) or record.get("schema") != schema:
        raise ValueError(f"{path}: not a record of schema {schema}")
    return record


def write(text: str, path: str | Path) -> None:
    """Write a file under its name only when it is complete; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def command(
    name: str,
    work: Callable[[], None],
    out: Path | None = None,
    schema: str = "",
    scale: str | None = None,
) -> int:
    """Do the work of a command that ends in a record, and say in one line why it cannot be done.

    Args:
        name: of the command, which the line begins with. work: what to do.
        out: where its record is going to lie, looked at before hours are spent: a folder, a place
            that cannot be written and a file that is no such record are refused.
        schema: of the record. scale: at which it is made; a record of another one is kept.
    Returns:
        The exit status: 0, or 2 for bad input, or 130 where it was interrupted. With the
        environment's ``SAL360_DEBUG``, errors are raised.
    """
    try:
        if out is not None:
            _look_at(out, schema, scale)
        work()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("SAL360_DEBUG"):
            raise
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _look_at(out: Path, schema: str, scale: str | None) -> None:
    if out.is_dir():
        raise IsADirectoryError(f"{out}: a folder, wanted a file")
    if os.path.lexists(out):
        if not out.is_file():
            raise ValueError(f"{out}: no ordinary file")
        try:
            there = read(out, schema).get("scale")
        except (ValueError, OSError) as error:
            raise ValueError(f"{error}; left alone") from None
        if scale is not None and there is not None and there != scale:
            raise ValueError(f"{out}: a record of scale {there}, wanted {scale}; left alone")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out.parent}: cannot be written")
