"""Patterns that layers share: one object for all that ask for the same, and its tables with it.

Tables are large and hang on their pattern (:func:`sal360.nn.reads.reads_of`), so to keep a
pattern is to keep its tables, and to let it go is to let them go. Chapter 07.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, TypeVar

from sal360._tables import untraced
from sal360.nn.reads import bytes_of
from sal360.patterns import Pattern

Maker = TypeVar("Maker", bound=Callable[..., Pattern])

ALWAYS = 32
"""Patterns that are kept however large their tables are: those last asked for."""

BYTES = 1 << 30
"""What all tables together may take while more patterns than that are kept."""

_KEPT: OrderedDict[tuple[Any, ...], Pattern] = OrderedDict()
_LOCK = Lock()


def shared(make: Maker) -> Maker:
    """Have a maker of patterns called once for the same arguments, which can be hashed."""

    @untraced
    @wraps(make)
    def pattern(*asked: Any) -> Pattern:
        key = (make, *asked)
        with _LOCK:
            if key in _KEPT:
                _KEPT.move_to_end(key)
                return _KEPT[key]
        made = make(*asked)
        with _LOCK:
            made = _KEPT.setdefault(key, made)
            _KEPT.move_to_end(key)
            while len(_KEPT) > ALWAYS and sum(map(bytes_of, _KEPT.values())) > BYTES:
                _KEPT.popitem(last=False)
        return made

    return pattern  # type: ignore[return-value]


def clear_tables() -> None:
    """Forget all patterns of layers, and the tables that hang on them.

    Kept are the 32 patterns last asked for, whatever their tables take, and more of them while
    all tables together take less than 1 GiB (on a GPU, whose own tables hang on these, about
    twice that).
    """
    with _LOCK:
        _KEPT.clear()
