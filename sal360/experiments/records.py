"""Where the records of runs lie: beside the package in the repository, else fetched by hash."""

from __future__ import annotations

from pathlib import Path

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
