"""A download that goes on where it stopped: the bytes already here are not asked for again.

What has arrived waits in a file beside the target, and the next try asks the server for the rest
(HTTP ``Range``). A server that does not know how sends everything, and the file begins anew. Who
checks the hash at the end is the caller: pooch, which takes a downloader like this one.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: two processes must not fetch the same file at once
    fcntl = None  # type: ignore[assignment]

TIMEOUT_S = 20
RETRIES = 4
"""Tries in a row that bring nothing new before a connection is given up."""
PAUSE_S = 1.0
"""Wait before the first of them; each one more doubles it."""
_CHUNK = 1 << 16
_LATER = (408, 425, 429, 500, 502, 503, 504)  # answers that may be better in a moment


class ResumingDownloader:
    """For ``pooch.retrieve(..., downloader=...)``: HTTP with resume, retries and a progress bar.

    Args:
        part: where the bytes wait until they are all here; kept when the download is broken off.
        progress: show a bar on standard error, if that is a terminal.

    Attributes:
        resumed: whether the last download began with bytes of an earlier one.
    """

    def __init__(self, part: Path, progress: bool = False) -> None:
        self.part = part
        self.progress = progress
        self.resumed = False
        self._answered = False

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Fetch ``url`` into ``output_file``, which appears when it is complete.

        Raises:
            requests.RequestException: the server's answer, or its silence after all retries.
            OSError: the disk is full, or cannot be written.
        """
        with self._opened() as file:
            self.resumed = file.tell() > 0
            self._fill(url, file)
            if fcntl is not None:  # while it is locked, nobody else adds to it
                os.replace(file.name, output_file)
        if fcntl is None:  # Windows moves no open file
            os.replace(file.name, output_file)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The waiting file, or one of our own if another process is filling that."""
        file = self.part.open("ab")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_ino != os.stat(self.part).st_ino:
                    raise FileNotFoundError  # finished and moved away between the two lines above
            except OSError:
                file.close()
                own = self.part.with_name(f"{self.part.name}.{os.getpid()}")
                try:
                    with own.open("wb") as file:
                        yield file
                finally:
                    own.unlink(missing_ok=True)
                return
        with file:
            yield file

    def _fill(self, url: str, file: BinaryIO) -> None:
        from requests import exceptions

        vain, best = 0, file.tell()
        while True:
            try:
                return self._receive(url, file)
            except (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError,
                    exceptions.HTTPError) as error:  # fmt: skip
                answer = error.response
                if answer is not None and answer.status_code not in _LATER:
                    raise
                if not self._answered:  # no network: say so at once
                    raise
                file.flush()
                reached = os.fstat(file.fileno()).st_size
                vain, best = (0, reached) if reached > best else (vain + 1, best)
                if vain > RETRIES:
                    raise
                time.sleep(PAUSE_S * 2 ** max(0, vain - 1))

    def _receive(self, url: str, file: BinaryIO) -> None:
        """Ask for what is missing and add it to the file."""
        import requests
        from tqdm import tqdm

        have = file.seek(0, os.SEEK_END)
        # identity: a server that compresses on the fly counts other bytes than the file has
        ask = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with requests.get(url, headers=ask, stream=True, timeout=TIMEOUT_S) as answer:
            self._answered = True
            first, total = _span(answer)
            if answer.status_code == 416 and have:
                if total == have:
                    return  # everything was here already
                file.truncate(0)
                return self._receive(url, file)
            answer.raise_for_status()
            if first != have:  # the whole file comes, whatever was asked for
                file.truncate(0)
                if first:
                    return self._receive(url, file)
                have = 0
            free = shutil.disk_usage(self.part.parent).free
            if total is not None and total - have > free:
                raise OSError(
                    errno.ENOSPC,
                    f"{(total - have) / 1e6:.1f} MB to come, {free / 1e6:.1f} MB free",
                )
            with tqdm(
                desc=self.part.name.removesuffix(".part"),
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=not self.progress or None,
            ) as bar:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            file.flush()
            got = os.fstat(file.fileno()).st_size
            if total is not None and got < total and "Content-Encoding" not in answer.headers:
                raise requests.exceptions.ConnectionError(f"closed after {got} of {total} bytes")


def _span(answer: Any) -> tuple[int, int | None]:
    """First byte that an answer brings and length of the whole file, if it says so."""
    if answer.status_code in (206, 416):  # "bytes 100-199/200" or "bytes */200"
        span = answer.headers.get("Content-Range", "").removeprefix("bytes ")
        place, _, total = span.partition("/")
        first = place.partition("-")[0]
        return (int(first) if first.isdigit() else 0), (int(total) if total.isdigit() else None)
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None
