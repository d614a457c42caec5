"""A machine that runs pickles and cannot call anything.

A pickle is a program. Python's own machine runs all of it; even with its names taken away it
can be made to reserve tens of gigabytes by one memo number, or to crash by hashing tuples in
tuples. This one knows the instructions that build plain containers, and no others. Names in a
file stand for functions of ours, or for nothing. Every length is checked against the bytes that
are left, every memo number against what was stored; what all objects take is added up before one
is made; nesting is bounded.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_MEMORY = 2**32
"""Bytes that the objects of one pickle may take, by a generous estimate."""
MAX_DEPTH = 64
"""Deepest nesting of containers."""


class UnsafePickleError(ValueError):
    """A file asked for a name or an instruction that reading data does not need."""


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
# Bytes that an instruction may take at most, beside the length of its argument: a set weighs the
# most, then a call (of which an array may come), then an entry of the memo.
_COSTS = [48] * 256
for _codes, _bytes in (
    (b"\x8f\x90\x91", 320),
    (b"Rb\x81", 240),
    (b"pqr\x94", 120),
    (b"}d]lt\x85\x86\x87)", 88),
    (b"sue", 120),
    (b"a", 16),
):
    for _code in _codes:
        _COSTS[_code] = _bytes
_COUNTED = {
    **dict.fromkeys(b"U\x8aC\x8c", 1),
    **dict.fromkeys(b"TXB\x8b", 4),
    **dict.fromkeys(b"\x8d\x8e\x96", 8),
}
_LINES = {**dict.fromkeys(b"FILSVPgp", 1), **dict.fromkeys(b"ci", 2)}


def check_pickle(data: bytes, max_memory: int = MAX_MEMORY) -> None:
    """Refuse a pickle whose lengths, memo numbers or sheer number of objects would make a reader
    reserve without bound. Walks over it without building anything.

    Raises:
        ValueError: a length beyond the end, a memo number beyond what was stored, objects that
            would take more than ``max_memory`` bytes, an unknown instruction, no end.
    """
    at, end, stored, sizes, costs = 0, len(data), 0, _SIZES, _COSTS
    room = max_memory
    while at < end:
        code = data[at]
        at += 1
        size = sizes[code]
        room -= costs[code]
        if room < 0:
            raise ValueError(f"objects that take more than {max_memory} bytes")
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
        room -= size
        at += size
    raise ValueError("cut short")


def _next_memo(number: int, stored: int) -> int:
    if not 0 <= number <= stored + 1:  # Python 2 counted from 1
        raise ValueError(f"memo number {number} after {stored} entries")
    return max(stored, number) + 1


class _Name:
    """A class or function that the file names, and what is called in its place."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class StandIn:
    """Stands for an object until its state is known; its value takes its place in the end."""

    def set_state(self, state: Any) -> None:
        """Take the state that the file gives."""
        raise NotImplementedError

    @property
    def value(self) -> Any:
        """What it has become."""
        raise UnsafePickleError("it holds a class, not data")


def plain_key(key: Any) -> Any:
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
        max_memory: see :func:`check_pickle`.
    """

    def __init__(
        self,
        data: bytes,
        names: dict[str, Any],
        persistent: Callable[[Any], Any] | None = None,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        check_pickle(data, max_memory)
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
            for place, part in parts:  # a value may change on the way, a key does not
                if isinstance(part, _BOX):
                    below[id(part)] = part
                elif isinstance(part, (_Name, _Mark)):
                    raise UnsafePickleError("it holds a class, not data")
                elif isinstance(part, StandIn):
                    value = part.value
                    if not isinstance(box, (dict, list)):
                        raise ValueError("an array in a tuple, wanted it in a list or a dict")
                    box[place] = value
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
    return {plain_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


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
    items = [plain_key(item) for item in m._to_mark()]
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
    if not isinstance(target, (StandIn, Record)):
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
    0x91: _marked(lambda items: frozenset(plain_key(item) for item in items)),
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
