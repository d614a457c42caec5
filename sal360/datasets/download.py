"""The real files, by name: fetched once, checked by hash, kept in one cache folder.

``registry.tsv`` lists every file with its sha256, its address and its licence, ``citations.tsv``
what to cite. The cache is ``$SAL360_CACHE`` if that is set (a read-only folder will do), else the
user's cache folder.
"""

from __future__ import annotations

import csv
import errno
import logging
import os
import warnings
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from sal360.datasets.resume import ResumingDownloader


class RemoteFile(NamedTuple):
    """One line of the registry."""

    path: str
    sha256: str
    url: str
    licence: str


class Credit(NamedTuple):
    """One line of the citations: what the files are, and what to cite when they are used."""

    path: str
    title: str
    citation: str


class DownloadError(OSError):
    """A file is neither in the cache nor to be had."""


@lru_cache(maxsize=1)
def registry() -> dict[str, RemoteFile]:
    """Every file the package knows, by its path in the cache."""
    return {row["path"]: RemoteFile(**row) for row in _table("registry.tsv")}


@lru_cache(maxsize=1)
def credits() -> dict[str, Credit]:
    """What to cite, by the path or the start of the path of the files it is for."""
    return {row["path"]: Credit(**row) for row in _table("citations.tsv")}


def credit(name: str) -> Credit:
    """What to cite for a file of the registry: the longest path that it begins with."""
    while name and name not in credits():
        name = name.rpartition("/")[0]
    return credits().get(name, Credit(name, name, "nothing known"))


def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("sal360.datasets").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def cache_folder() -> Path:
    """Where the files are kept: ``$SAL360_CACHE``, else the user's cache folder.

    Raises:
        ValueError: a ``~user`` that is not there.
    """
    if chosen := os.environ.get("SAL360_CACHE"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise ValueError(f"SAL360_CACHE: {chosen!r}, wanted a folder; no such user") from None
    return Path(_pooch().os_cache("sal360"))


def fetch(name: str, progress: bool = False) -> Path:
    """Path of a file of the registry, downloaded into the cache if it is not there yet.

    Args:
        name: path as in the registry, such as ``"samples/petra.jpg"``.
        progress: show a progress bar.
    Raises:
        ValueError: a name that the registry does not hold.
        DownloadError: as :func:`fetch_remote` says.
    """
    try:
        remote = registry()[name]
    except KeyError:
        raise ValueError(f"name: {name!r} is not in the registry (sal360 data list)") from None
    return fetch_remote(remote, progress)


def fetch_remote(remote: RemoteFile, progress: bool = False) -> Path:
    """Path of a real file, downloaded into the cache if it is not there yet.

    A file in the cache whose hash is wrong is fetched again; a download whose hash is wrong is
    thrown away. One that was broken off waits as ``NAME.part`` and goes on from there.
    ``SAL360_OFFLINE=1`` forbids the network.

    Args:
        remote: what it is called in the cache, its hash and its address. progress: show a bar.
    Raises:
        DownloadError: not in the cache, and no network, no such page, a wrong hash, a full disk or
            a folder that cannot be written.
    """
    pooch, name = _pooch(), remote.path
    folder = cache_folder()
    kept = folder / name
    if kept.is_file() and pooch.file_hash(str(kept)) == remote.sha256:
        return kept
    if os.environ.get("SAL360_OFFLINE") == "1":
        raise DownloadError(f"{name}: not in {folder}, and SAL360_OFFLINE=1 forbids fetching it")
    pooch.get_logger().setLevel(logging.WARNING)
    fetcher = ResumingDownloader(kept.with_name(f"{kept.name}.part"), progress)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            pooch.retrieve(remote.url, remote.sha256, kept.name, kept.parent, downloader=fetcher)
        except ValueError:
            if not fetcher.resumed:
                raise
            # What waited from an earlier try was of another file: all of it again, once.
            pooch.retrieve(remote.url, remote.sha256, kept.name, kept.parent, downloader=fetcher)
    except (OSError, ValueError) as error:  # a wrong hash is a ValueError
        raise DownloadError(_refusal(name, remote, kept, error)) from None
    return kept


def _refusal(name: str, remote: RemoteFile, kept: Path, error: OSError | ValueError) -> str:
    """What went wrong, and what to do about it, in one line."""
    from requests import exceptions

    if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException):
        if error.errno == errno.ENOSPC:
            return (
                f"{name}: no space left in {kept.parent} ({error.strerror}); "
                "free some and try again, it goes on where it stopped"
            )
        return (
            f"{name}: cannot be kept in {kept.parent} ({error.strerror or error}); "
            "SAL360_CACHE names another folder"
        )
    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        reason = f"{error.response.status_code} {error.response.reason}".strip()
    elif isinstance(error, ValueError) and not isinstance(error, exceptions.RequestException):
        reason = "wrong hash"
    else:
        reason = type(error).__name__
        waiting = kept.with_name(f"{kept.name}.part")
        if waiting.is_file() and (have := waiting.stat().st_size):
            reason += f"; the next try goes on after {have / 1e6:.1f} MB"
    return (
        f"{name}: cannot be fetched from {remote.url} ({reason}); "
        f"a file put at {kept} by hand will do"
    )


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
