"""Read pickled lists, dicts and numbers with a machine that cannot call anything.

A pickle is a program. Python's own machine runs all of it; even with its names taken away it
can be made to reserve 32 GB by one memo number, or to overflow the stack by hashing tuples in
tuples. This one knows the instructions that build plain containers, and no others. Every
length is checked against the bytes that are left, every memo number against what was stored,
and nesting is bounded, so memory stays in proportion to the file.

NumPy's numbers and arrays are made from their bytes here, not by NumPy's pickle code.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class UnsafePickleError(ValueError):
    """A file asked for a name or an instruction that reading data does not need."""


MAX_BYTES = 2**28
"""Largest pickle that is read. What it becomes takes at most some 60 bytes for each of its own.
The published ``vinfo.pkl`` has 75,312 frames with 20 viewers or more: tens of megabytes."""
MAX_DEPTH = 64
"""Deepest nesting of containers."""

# Where the next instruction stands, without running one: those with an argument of fixed size,
# those that carry its length in 1, 4 or 8 bytes, those that take lines of text.
_FIXED = {
    0x2E: 0,  # STOP
    **dict.fromkeys(
        b"(012NQRal}]tbodsue)\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98", 0
    ),
    **dict.fromkeys(b"Khq\x80\x82", 1),
    **dict.fromkeys(b"M\x83", 2),
    **dict.fromkeys(b"Jjr\x84", 4),
    **dict.fromkeys(b"G", 8),
}
_SIZES = [_FIXED.get(code, -1) for code in range(256)]
_COUNTED = {
    **dict.fromkeys(b"U\x8aC\x8c", 1),
    **dict.fromkeys(b"TXB\x8b", 4),
    **dict.fromkeys(b"\x8d\x8e\x96", 8),
}
_LINES = {**dict.fromkeys(b"FILSVPgp", 1), **dict.fromkeys(b"ci", 2)}


def check_pickle(data: bytes) -> None:
    """Refuse a pickle whose lengths or memo numbers would make a reader reserve without bound.

    Raises:
        ValueError: a length beyond the end, a memo number beyond what was stored, an unknown
            instruction, no end.
    """
    at, end, stored, sizes = 0, len(data), 0, _SIZES
    while at < end:
        code = data[at]
        at += 1
        size = sizes[code]
        if size >= 0:  # nearly all of them
            if code == 0x94:  # MEMOIZE
                stored += 1
            elif code == 0x2E:  # STOP
                return
            elif code == 0x71 and at < end:  # BINPUT
                stored = _next_memo(data[at], stored)
            elif code == 0x72:  # LONG_BINPUT
                stored = _next_memo(int.from_bytes(data[at : at + 4], "little"), stored)
        elif code in _COUNTED:
            width = _COUNTED[code]
            size = width + int.from_bytes(data[at : at + width], "little")
        elif code == 0x95:  # FRAME: how many bytes follow, and nothing else
            if int.from_bytes(data[at : at + 8], "little") > end - at - 8:
                raise ValueError("a length beyond the end of the file")
            size = 8
        elif code in _LINES:
            stop = at
            for _ in range(_LINES[code]):
                stop = data.find(b"\n", stop) + 1
                if not stop:
                    raise ValueError("cut short")
            if code == 0x70:  # PUT
                stored = _next_memo(int(data[at : stop - 1]), stored)
            size = stop - at
        else:
            raise ValueError(f"unknown instruction {code:#04x}")
        if size > end - at:
            raise ValueError("a length beyond the end of the file")
        at += size
    raise ValueError("cut short")


def _next_memo(number: int, stored: int) -> int:
    if not 0 <= number <= stored + 1:  # Python 2 counted from 1
        raise ValueError(f"memo number {number} after {stored} entries")
    return max(stored, number) + 1


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


class _Name:
    """A class or function that the file names, and what is called in its place."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class _DType:
    """Stands for ``numpy.dtype``: what it is given, checked to be a number's."""

    def __init__(self, code: str) -> None:
        self.dtype = _numeric(code)

    def set_state(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)
        elif order not in ("|", "="):
            raise ValueError("unknown byte order of a dtype")


class _Array:
    """Stands for an array until its state is known."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # Python 2
            raw = raw.encode("latin1")
        self.value = _from_bytes(dtype, shape, fortran, raw)


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
    return {_key(k): v for pair in pairs for k, v in pair}


def make_set(items: Any = ()) -> set[Any]:
    """A set."""
    return {_key(item) for item in items}


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


def _key(key: Any) -> Any:
    """A key that hashes at once: numbers and text, or a flat tuple of them."""
    if isinstance(key, tuple):
        if any(isinstance(part, (tuple, frozenset)) for part in key):
            raise ValueError("a key nested too deep")
    elif not isinstance(key, (str, bytes, int, float, bool, np.generic, type(None))):
        raise ValueError(f"a key of type {type(key).__name__}")
    return key


class _Mark:
    """The mark on the stack."""


_MARK = _Mark()


class Record:
    """Stands in for an object of a class: the attributes that the file gives it, no behaviour."""

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise ValueError("an object whose state is no table of attributes")
        self.__dict__.update(state)


_BOX = (list, tuple, dict, set, frozenset, Record)


class Machine:
    """Runs a pickle with a stack, a memo, and nothing else.

    Args:
        data: the pickle.
        names: what stands for each class or function that it may name: a function of ours that is
            called in its place, or any other value, which is handed on.
        persistent: makes an object of a persistent id; refused if None.
    """

    def __init__(
        self, data: bytes, names: dict[str, Any], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        check_pickle(data)
        self.data, self.at = data, 0
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            UnsafePickleError: a name that is not known, a call of anything else.
            ValueError, IndexError, KeyError, TypeError, OverflowError: no pickle, or damaged.
        """
        data, stack, memo, steps = self.data, self.stack, self.memo, _STEPS
        at = self.at
        while True:
            code = data[at]
            at += 1
            # The instructions that make up nearly all of a table of points, first.
            if code == 0x47:  # BINFLOAT
                stack.append(_FLOAT(data, at)[0])
                at += 8
            elif code == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif code == 0x86:  # TUPLE2
                second = stack.pop()
                stack[-1] = (stack[-1], second)
            elif code == 0x72:  # LONG_BINPUT
                memo[int.from_bytes(data[at : at + 4], "little")] = stack[-1]
                at += 4
            elif code == 0x71:  # BINPUT
                memo[data[at]] = stack[-1]
                at += 1
            elif code == 0x2E:  # STOP
                return _finished(stack.pop())
            else:
                step = steps.get(code)
                if step is None:
                    raise UnsafePickleError(f"it uses instruction {code:#04x}")
                self.at = at
                step(self)
                at = self.at

    # --- arguments ---
    def _take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def _counted(self, width: int) -> bytes:
        return self._take(int.from_bytes(self._take(width), "little"))

    def _line(self) -> str:
        stop = self.data.index(b"\n", self.at)
        text = self.data[self.at : stop].decode("latin1")
        self.at = stop + 1
        return text

    def _to_mark(self) -> list[Any]:
        stack = self.stack
        for k in range(len(stack) - 1, -1, -1):
            if stack[k] is _MARK:
                items = stack[k + 1 :]
                del stack[k:]
                return items
        raise ValueError("no mark")

    def _name(self, module: Any, name: Any) -> Any:
        full = f"{module}.{name}"
        if full not in self.names:
            raise UnsafePickleError(f"it asks for {full!r}")
        meant = self.names[full]
        return _Name(meant) if callable(meant) else meant

    def _call(self, make: Any, arguments: Any) -> None:
        if not isinstance(make, _Name) or not isinstance(arguments, tuple):
            raise UnsafePickleError("it calls something that is no class of plain data")
        self.stack.append(make.make(*arguments))


_FLOAT = struct.Struct(">d").unpack_from


def _finished(value: Any) -> Any:
    """The result, with arrays in the place of what stood for them, level by level."""
    top = [value]
    level: list[Any] = [top]
    for _ in range(MAX_DEPTH + 1):
        below: dict[int, Any] = {}
        for box in level:
            if isinstance(box, Record):
                box = box.__dict__
            parts = box.items() if isinstance(box, dict) else enumerate(box)
            for place, part in list(parts):
                if isinstance(part, _BOX):
                    below[id(part)] = part
                elif isinstance(part, (_Name, _DType, _Mark)):
                    raise UnsafePickleError("it holds a class, not data")
                elif isinstance(part, _Array):
                    if part.value is None or not isinstance(box, (dict, list)):
                        raise ValueError("an array without content, or in a tuple")
                    box[place] = part.value
        level = list(below.values())
        if not level:
            return top[0]
    raise ValueError(f"nested deeper than {MAX_DEPTH}, or in a circle")


# --- the other instructions ----------------------------------------------------------------------


def _push(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(value)


def _unsigned(size: int) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(int.from_bytes(m._take(size), "little"))


def _text(width: int) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m._counted(width).decode("utf-8", "surrogatepass"))


def _raw(width: int) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m._counted(width))


def _old_text(width: int) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m._counted(width).decode("latin1"))


def _long(width: int) -> Callable[[Machine], None]:
    def step(m: Machine) -> None:
        raw = m._counted(width)
        if len(raw) > 64:
            raise ValueError("an integer of more than 64 bytes")
        m.stack.append(int.from_bytes(raw, "little", signed=True))

    return step


def _skip(size: int) -> Callable[[Machine], None]:
    def step(m: Machine) -> None:
        m.at += size

    return step


def _tuple(size: int) -> Callable[[Machine], None]:
    def step(m: Machine) -> None:
        items = tuple(m.stack[-size:]) if size else ()
        if len(items) != size:
            raise ValueError("an empty stack")
        if size:
            del m.stack[-size:]
        m.stack.append(items)

    return step


def _empty(make: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(make())


def _marked(make: Callable[[list[Any]], Any]) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(make(m._to_mark()))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a dict with a key without a value")
    return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


def _add(m: Machine, items: list[Any]) -> None:
    target = m.stack[-1]
    if not isinstance(target, list):
        raise ValueError("append to something that is no list")
    target.extend(items)


def _set_items(m: Machine, items: list[Any]) -> None:
    target = m.stack[-1]
    if not isinstance(target, dict):
        raise ValueError("an item for something that is no dict")
    target.update(_pairs(items))


def _set_item(m: Machine) -> None:
    items = m.stack[-2:]
    del m.stack[-2:]
    _set_items(m, items)


def _add_items(m: Machine) -> None:
    items = [_key(item) for item in m._to_mark()]
    if not isinstance(m.stack[-1], set):
        raise ValueError("an item for something that is no set")
    m.stack[-1].update(items)


def _integer(m: Machine) -> None:
    text = m._line()
    m.stack.append(text == "01" if text in ("00", "01") else int(text))


def _string(m: Machine) -> None:
    text = m._line()
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        raise ValueError("a string without quotes")
    raw = codecs.escape_decode(text[1:-1].encode("latin1"))[0]
    m.stack.append(raw.decode("latin1"))


def _build(m: Machine) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if isinstance(target, dict):  # attributes of an ordered dict, such as a state dict's metadata
        return
    if not isinstance(target, (_Array, _DType, Record)):
        raise UnsafePickleError("it sets the state of something that is no data")
    target.set_state(state)


def _global(m: Machine) -> None:
    module = m._line()
    m.stack.append(m._name(module, m._line()))


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m._name(module, name))


def _persistent(m: Machine) -> None:
    if m.persistent is None:
        raise UnsafePickleError("it asks for an object outside it")
    m.stack.append(m.persistent(m.stack.pop()))


def _call_top(m: Machine) -> None:
    arguments, make = m.stack.pop(), m.stack.pop()
    m._call(make, arguments)


def _drop(_: Any) -> None:
    """Forget a value."""


_STEPS: dict[int, Callable[[Machine], None]] = {
    ord("("): _push(_MARK),
    ord("0"): lambda m: _drop(m.stack.pop()),
    ord("1"): lambda m: _drop(m._to_mark()),
    ord("N"): _push(None),
    0x88: _push(True),
    0x89: _push(False),
    ord("I"): _integer,
    ord("L"): lambda m: m.stack.append(int(m._line().rstrip("L"))),
    ord("F"): lambda m: m.stack.append(float(m._line())),
    ord("J"): lambda m: m.stack.append(int.from_bytes(m._take(4), "little", signed=True)),
    ord("K"): _unsigned(1),
    ord("M"): _unsigned(2),
    0x8A: _long(1),
    0x8B: _long(4),
    ord("S"): _string,
    ord("T"): _old_text(4),
    ord("U"): _old_text(1),
    ord("B"): _raw(4),
    ord("C"): _raw(1),
    0x8E: _raw(8),
    0x96: lambda m: m.stack.append(bytes(m._counted(8))),
    ord("V"): lambda m: m.stack.append(m._line().encode("latin1").decode("raw-unicode-escape")),
    0x8C: _text(1),
    ord("X"): _text(4),
    0x8D: _text(8),
    ord(")"): _tuple(0),
    0x85: _tuple(1),
    0x87: _tuple(3),
    ord("t"): _marked(tuple),
    ord("]"): _empty(list),
    ord("l"): _marked(list),
    ord("a"): lambda m: _add(m, [m.stack.pop()]),
    ord("e"): lambda m: _add(m, m._to_mark()),
    ord("}"): _empty(dict),
    ord("d"): _marked(_pairs),
    ord("s"): _set_item,
    ord("u"): lambda m: _set_items(m, m._to_mark()),
    0x8F: _empty(set),
    0x90: _add_items,
    0x91: _marked(lambda items: frozenset(_key(item) for item in items)),
    ord("2"): lambda m: m.stack.append(m.stack[-1]),
    ord("g"): lambda m: m.stack.append(m.memo[int(m._line())]),
    ord("h"): lambda m: m.stack.append(m.memo[m._take(1)[0]]),
    ord("j"): lambda m: m.stack.append(m.memo[int.from_bytes(m._take(4), "little")]),
    ord("p"): lambda m: m.memo.__setitem__(int(m._line()), m.stack[-1]),
    0x80: _skip(1),  # PROTO
    0x95: _skip(8),  # FRAME
    ord("c"): _global,
    0x93: _stack_global,
    ord("Q"): _persistent,
    ord("R"): _call_top,
    0x81: _call_top,  # NEWOBJ
    ord("b"): _build,
}
