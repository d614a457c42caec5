"""Ctrl-C and SIGTERM ask a run to stop after the step it is in; a second Ctrl-C does not ask."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Whether somebody asked to stop.

    Attributes:
        signal: the number of the signal that did, or None; a program that it ends leaves with
            128 plus that number.
    """

    def __init__(self, stop: Callable[[], bool] | None = None) -> None:
        self.signal: int | None = None
        self._stop = stop

    def __call__(self) -> bool:
        """Ask it after each step."""
        return self.signal is not None or (self._stop is not None and bool(self._stop()))


@contextmanager
def stopping(stop: Callable[[], bool] | None = None) -> Iterator[Asked]:
    """Within it the first SIGINT or SIGTERM is noted, and a second SIGINT ends the program at once.

    Python hands signals to the main thread alone; in any other only ``stop`` is asked.

    Args:
        stop: another way of asking.
    """
    asked = Asked(stop)

    def note(number: int, frame: FrameType | None) -> None:
        if asked.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.signal = asked.signal or number

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
