"""Exercises that answer back: ``check("01.2", my_function)``.

Each exercise is a list of properties, tried on inputs ordered from the simplest. The answer
names the property that fails and shows the first, so the smallest, input for which it fails.
"""

from sal360.course import (  # noqa: F401  (they register their exercises)
    chapter00,
    chapter01,
    chapter02,
    chapter03,
    chapter04,
    chapter05,
    chapter06,
    chapter07,
    chapter08,
    chapter09,
    chapter10,
    chapter11,
    chapter12,
    chapter13,
    chapter14,
    chapter15,
    chapter16,
    chapter17,
)
from sal360.course.checking import EXERCISES, Answer, check

__all__ = ["EXERCISES", "Answer", "check"]
