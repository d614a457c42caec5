"""Records of runs as files: where they lie, how they are read and written, whole or not at all."""

from __future__ import annotations

import json
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
