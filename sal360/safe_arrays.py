"""Read ``.npy`` and ``.npz`` without running code, and without reserving more than the file holds.

NumPy's own reader refuses pickled objects when asked to, but it believes a header: one that says
``(1000000, 1000000)`` makes it reserve terabytes before it finds that the file is 200 bytes long.
Here the header is matched, never evaluated, and must agree with the size of the file.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2**30
"""Largest array that is read: a map of 960 x 1920 doubles takes 15 MB."""

Order = Literal["C", "F"]
_HEADER = re.compile(
    r"\{'descr': ?'([<>|=]?[a-zA-Z]\d{0,3})', ?'fortran_order': ?(True|False), ?"
    r"'shape': ?\(([0-9L, ]*)\),? ?\} *\n?"
)


def read_npy(path: str | Path, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """The array of a ``.npy`` file.

    Args:
        path: the file. max_bytes: the largest array that is read.
    Returns:
        An array of numbers or booleans, in memory and writable.
    Raises:
        FileNotFoundError: no such file.
        ValueError: no array of numbers (objects are refused, nothing runs), a header that does
            not fit the file's size, too large; one line, with the path.
    """
    return _opened(Path(path), lambda file, size: _array(file, size, max_bytes))


def map_npy(path: str | Path) -> NDArray[Any]:
    """As :func:`read_npy`, an array of any size, which stays on the disk until it is asked for."""
    return _opened(Path(path), _mapped)


def _opened(path: Path, take: Callable[[IO[bytes], int], NDArray[Any]]) -> NDArray[Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    try:
        with path.open("rb") as file:
            return take(file, path.stat().st_size)
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_npz(path: str | Path, max_bytes: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file by name.

    Args:
        path: the file. max_bytes: the most that all its arrays may take together.
    Raises:
        FileNotFoundError, ValueError: as :func:`read_npy`; also for a damaged archive, and one
            that unpacks to more than ``max_bytes``.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > max_bytes:
                raise ValueError(f"unpacks to more than {max_bytes} bytes")
            for member in members:
                name = member.filename.removesuffix(".npy")
                try:
                    with archive.open(member) as file:
                        arrays[name] = _array(file, member.file_size, max_bytes)
                except ValueError as error:
                    raise ValueError(f"member {name!r}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # zipfile and zlib have many ways to fail on a damaged archive
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable .npz file ({message})") from None
    return arrays


def _array(file: IO[bytes], size: int, max_bytes: int) -> NDArray[Any]:
    dtype, shape, order = _header(file, size)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > max_bytes:
        raise ValueError(f"{wanted} bytes, wanted at most {max_bytes}")
    raw = file.read(wanted)
    if len(raw) != wanted:
        raise ValueError(f"cut short: {len(raw)} bytes of data, its header says {wanted}")
    return np.frombuffer(raw, dtype).reshape(shape, order=order).copy()


def _mapped(file: IO[bytes], size: int) -> NDArray[Any]:
    dtype, shape, order = _header(file, size)
    return np.memmap(file, dtype, "r", file.tell(), shape, order)


def _header(file: IO[bytes], size: int) -> tuple[np.dtype[Any], tuple[int, ...], Order]:
    """What a header says, which must be what is there; the array begins behind it."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ValueError("empty, not an array of NumPy" if not size else "not an array of NumPy")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > min(size, 65536):
        raise ValueError("a header that is too long")
    header = file.read(length)
    found = _HEADER.fullmatch(header.decode("latin1"))
    if found is None:
        raise ValueError("a header that describes no plain array of numbers")
    code, fortran, shape_text = found.groups()
    try:
        dtype = np.dtype(code)
    except TypeError:
        raise ValueError(f"dtype {code!r}, wanted numbers") from None
    if dtype.kind not in "biuf":
        what = "objects, refused" if dtype.kind == "O" else f"dtype {code!r}"
        raise ValueError(f"holds {what}; wanted numbers")
    shape = tuple(int(n.strip(" L")) for n in shape_text.split(",") if n.strip())
    wanted = math.prod(shape) * dtype.itemsize
    there = size - 8 - width - length
    if wanted != there:
        kind = "cut short" if wanted > there else "too long"
        raise ValueError(f"{kind}: {there} bytes of data, its header says {wanted}")
    return dtype, shape, "F" if fortran == "True" else "C"
