"""Read pickled lists, dicts and numbers: data, and nothing that could be called.

The machine that does it is :mod:`sal360.pickle_machine`'s; here are the few names that plain data
mentions, and what stands for them. NumPy's numbers and arrays are made from their bytes, not by
NumPy's pickle code.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from sal360.pickle_machine import Machine, StandIn, UnsafePickleError, plain_key

MAX_BYTES = 2**28
"""Largest pickle that is read. The published ``vinfo.pkl`` has 75,312 frames with 20 viewers or
more: tens of megabytes."""


def read_plain_pickle(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """The plain data of a pickle, without running anything.

    Args:
        path: a pickle of any protocol, 0 to 5, of Python 2 or 3.
        max_bytes: largest file that is read.
    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict, set or frozenset, nested, and
        NumPy numbers and numeric arrays. An ordered or default dict comes out as a dict.
    Raises:
        FileNotFoundError: no such file.
        UnsafePickleError: the file asks for any other class or function; nothing of it has run.
        ValueError: too large, too deep, damaged, or no pickle at all; with the path.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(f"{size} bytes, wanted at most {max_bytes}")
        return Machine(path.read_bytes(), _NAMES).run()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: refused: {error}; nothing was run") from None
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror or error}") from None
    except (ValueError, TypeError, IndexError, KeyError, struct.error, OverflowError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable pickle ({message})") from None


class _DType(StandIn):
    """Stands for ``numpy.dtype``: what it is given, checked to be a number's."""

    def __init__(self, code: str) -> None:
        self.dtype = _numeric(code)

    def set_state(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)
        elif order not in ("|", "="):
            raise ValueError("unknown byte order of a dtype")


class _Array(StandIn):
    """Stands for an array until its state is known."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # Python 2
            raw = raw.encode("latin1")
        self.array = _from_bytes(dtype, shape, fortran, raw)

    @property
    def value(self) -> np.ndarray:
        if self.array is None:
            raise ValueError("an array without content")
        return self.array


def _numeric(code: Any) -> np.dtype:
    if isinstance(code, bytes):
        code = code.decode("latin1")
    if not isinstance(code, str) or len(code) > 8:
        raise ValueError("unknown dtype")
    dtype = np.dtype(code)
    if dtype.kind not in "biuf":
        raise UnsafePickleError(f"it holds an array of {code!r}, wanted numbers")
    return dtype


def _from_bytes(dtype: Any, shape: Any, fortran: Any, raw: Any) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(raw, (bytes, bytearray)):
        raise UnsafePickleError("it holds an array of objects, wanted numbers")
    if isinstance(shape, int):
        shape = (shape,)
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("unknown shape of an array")
    flat = np.frombuffer(raw, dtype.dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def _make_dtype(code: Any, *_: Any) -> _DType:
    return _DType(code)


def _make_array(*_: Any) -> _Array:
    return _Array()


def _make_scalar(dtype: Any, raw: Any) -> Any:
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    return _from_bytes(dtype, (1,), False, raw)[0]


def _make_frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _from_bytes(dtype, shape, order == "F", raw)


def make_dict(*parts: Any) -> dict[Any, Any]:
    """An ordered or default dict, as a dict."""
    pairs = [p for p in parts if isinstance(p, list)]  # OrderedDict of Python 2; not a factory
    return {plain_key(k): v for pair in pairs for k, v in pair}


def make_set(items: Any = ()) -> set[Any]:
    """A set."""
    return {plain_key(item) for item in items}


def _make_frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(make_set(items))


def _make_bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("unknown text")
    return text.encode("latin1")


_NAMES: dict[str, Any] = {
    "collections.OrderedDict": make_dict,
    "collections.defaultdict": make_dict,
    "builtins.set": make_set,
    "__builtin__.set": make_set,
    "builtins.frozenset": _make_frozenset,
    "__builtin__.frozenset": _make_frozenset,
    "_codecs.encode": _make_bytes,
    "__builtin__.bytes": _make_bytes,
    "builtins.bytes": _make_bytes,
    "numpy.dtype": _make_dtype,
    **{
        f"numpy.{room}.{name}": make
        for room in ("core", "_core")
        for name, make in (
            ("multiarray._reconstruct", _make_array),
            ("multiarray.scalar", _make_scalar),
            ("numeric._frombuffer", _make_frombuffer),
        )
    },
}
# Named as an argument of the above (of a default dict, of an array), and never called.
_NAMES |= {f"{room}.{name}": None for room in ("builtins", "__builtin__")
           for name in ("list", "dict", "int", "float")} | {"numpy.ndarray": None}  # fmt: skip
