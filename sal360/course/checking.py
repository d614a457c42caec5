"""What it means to check an answer: properties in order, inputs from simple to awkward."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple


class Case(NamedTuple):
    """One property on one input: whether it holds, and how to tell that it does not."""

    property: str
    holds: bool
    counterexample: str


@dataclass(frozen=True)
class Answer:
    """What :func:`check` found; true if every property held."""

    exercise: str
    passed: bool
    message: str
    waiting: bool = False

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{self.exercise}: {self.message}"

    def _repr_html_(self) -> str:
        colour = "#757b85" if self.waiting else ("#009e73" if self.passed else "#d55e00")
        text = html.escape(repr(self)).replace("\n", "<br>")
        return f'<div style="border-left:4px solid {colour};padding:.3em .8em">{text}</div>'


Exercise = Callable[[Any], Iterator[Case]]
EXERCISES: dict[str, Exercise] = {}


def exercise(name: str) -> Callable[[Exercise], Exercise]:
    """Register the cases of an exercise under its number, such as ``"01.2"``."""

    def register(cases: Exercise) -> Exercise:
        EXERCISES[name] = cases
        return cases

    return register


def check(name: str, answer: Any = ...) -> Answer:
    """Try an answer to an exercise.

    Args:
        name: number of the exercise, such as ``"01.2"``.
        answer: what the exercise asks for, usually a function. ``...`` (or a function that
            returns ``...``) means "not yet".
    Returns:
        An :class:`Answer` that prints itself; ``bool(answer)`` is whether it passed.
    Raises:
        ValueError: no exercise of that name.
    """
    if name not in EXERCISES:
        raise ValueError(f"name: {name!r}, wanted one of {', '.join(sorted(EXERCISES))}")
    if answer is ...:
        return Answer(name, False, "waiting for your answer.", waiting=True)
    held: set[str] = set()
    try:
        for case in EXERCISES[name](answer):
            if not case.holds:
                message = f"not yet. What fails: {case.property}.\nSmallest case: "
                return Answer(name, False, message + case.counterexample)
            held.add(case.property)
    except NotAnsweredError:
        return Answer(name, False, "waiting for your answer.", waiting=True)
    except AnswerRaisedError as error:
        return Answer(name, False, f"not yet. Your answer gave {error}")
    except (TypeError, ValueError, RuntimeError) as error:  # what came back cannot be used
        return Answer(name, False, f"not yet. What your answer gave cannot be used: {error}")
    count = "the property holds" if len(held) == 1 else f"all {len(held)} properties hold"
    return Answer(name, True, f"solved: {count} in every case that was tried.")


class NotAnsweredError(Exception):
    """The answer is still ``...``, or a function that returns it."""


class AnswerRaisedError(Exception):
    """The learner's function raised; the message says what, and for which arguments."""


def answered(value: Any) -> Any:
    """Pass a value on, unless it is the ``...`` of something not written yet."""
    if value is ...:
        raise NotAnsweredError
    return value


def ask(function: Any, *arguments: Any) -> Any:
    """Call the learner's function; what goes wrong is told with its arguments."""
    try:
        value = function(*arguments)
    except Exception as error:
        given = ", ".join(_short(argument) for argument in arguments)
        raise AnswerRaisedError(
            f"{type(error).__name__}: {error}, called with ({given})"
        ) from error
    if value is None:
        given = ", ".join(_short(argument) for argument in arguments)
        raise AnswerRaisedError(f"nothing: it returned None, called with ({given})")
    return answered(value)


def name_faults(
    answer: Any,
    faults: Sequence[str],
    make: Callable[..., Any],
    planted: str = "planted",
    hints: Mapping[str, str] | None = None,
) -> Iterator[Case]:
    """Cases where faults are to be named: none of them, each, each two, all.

    Args:
        answer: the learner's, what was made -> set of names. faults: all names.
        make: names of some faults -> what has them.
        planted: how the message says that they are there.
        hints: fault to what is told if it alone is blamed wrongly.
    """
    for count in sorted({0, 1, 2, len(faults)}):
        for there in combinations(faults, count):
            said = ask(answer, make(*there))
            if not isinstance(said, (set, frozenset, list, tuple)):
                yield Case("a set of names", False, f"you gave {said!r}, wanted a set of names")
                return
            told = f"{planted}: {sorted(there) or 'no fault at all'}"
            missed, blamed = sorted({*there} - {*said}), sorted({*said} - {*there})
            if missed:
                told += f"; you missed {missed}"
            if blamed:
                told += f"; you blame {blamed}"
            if len(blamed) == 1:
                told += (hints or {}).get(blamed[0], "")
            yield Case(f"exactly what is {planted}", not missed and not blamed, told)


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None and tuple(shape) != ():
        return f"a tensor of shape {tuple(shape)}"
    if isinstance(value, (list, tuple)) and len(repr(value)) > 60:
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)[:200]
