"""The real files, by name: fetched once, checked by hash, kept in one cache folder.

``registry.tsv`` lists every file with its sha256, its address and its licence. The cache is
``$SAL360_CACHE`` if that is set (a read-only folder will do), else the user's cache folder.
"""

from __future__ import annotations

import csv
import logging
import os
import warnings
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 20


class RemoteFile(NamedTuple):
    """One line of the registry."""

    path: str
    sha256: str
    url: str
    licence: str


class DownloadError(OSError):
    """A file is neither in the cache nor to be had."""


@lru_cache(maxsize=1)
def registry() -> dict[str, RemoteFile]:
    """Every file the package knows, by its path in the cache."""
    text = resources.files("sal360.datasets").joinpath("registry.tsv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {row["path"]: RemoteFile(**row) for row in rows}


def cache_folder() -> Path:
    """Where the files are kept: ``$SAL360_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("SAL360_CACHE"):
        return Path(chosen).expanduser()
    return Path(_pooch().os_cache("sal360"))


def fetch(name: str, progress: bool = False) -> Path:
    """Path of a real file, downloaded into the cache if it is not there yet.

    A file in the cache whose hash is wrong is fetched again; a download whose hash is wrong is
    thrown away. ``SAL360_OFFLINE=1`` forbids the network.

    Args:
        name: path as in the registry, such as ``"samples/petra.jpg"``.
        progress: show a progress bar.
    Raises:
        ValueError: a name that the registry does not hold.
        DownloadError: not in the cache, and no network, no such page or a wrong hash.
    """
    pooch = _pooch()
    try:
        remote = registry()[name]
    except KeyError:
        raise ValueError(f"name: {name!r} is not in the registry (sal360 data list)") from None
    folder = cache_folder()
    kept = folder / name
    if kept.is_file() and pooch.file_hash(str(kept)) == remote.sha256:
        return kept
    if os.environ.get("SAL360_OFFLINE") == "1":
        raise DownloadError(f"{name}: not in {folder}, and SAL360_OFFLINE=1 forbids fetching it")
    pooch.get_logger().setLevel(logging.WARNING)
    fetcher = pooch.HTTPDownloader(timeout=TIMEOUT_S, progressbar=progress)
    try:
        pooch.retrieve(remote.url, remote.sha256, kept.name, kept.parent, downloader=fetcher)
    except (OSError, ValueError) as error:  # a wrong hash is a ValueError
        reason = "wrong hash" if isinstance(error, ValueError) else type(error).__name__
        raise DownloadError(
            f"{name}: cannot be fetched from {remote.url} ({reason}); "
            f"a file put at {kept} by hand will do"
        ) from None
    return kept


def _pooch() -> Any:
    """Import pooch late, and without the advice that its tqdm gives in notebooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pooch
    return pooch


@lru_cache(maxsize=64)
def available(name: str) -> bool:
    """Whether :func:`fetch` can deliver this file (asked once per process)."""
    try:
        fetch(name)
    except DownloadError:
        return False
    return True
