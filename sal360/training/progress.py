"""How far a run has come, in what JSON can say; a checkpoint holds it, and is looked at first.

What is missing or of another kind is named: a run that went on without its best validation would
keep worse weights, and nobody would see it. Chapter 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sal360.training.records import FIELDS, OPTIONAL, Field, plain

MADE = ("code", "versions", "device", "threads", "tf32", "exact")
"""Entries of a record that decide a run's numbers, besides recipe and data."""


@dataclass
class Progress:
    """The numbers of a run that go on from part to part of it.

    Attributes:
        validations: step and means of each. best: step, metric and value; scores: of each video,
            then. stale: validations since. skipped: clips that could not be read.
        made: the first step of each part of the run, and :data:`MADE` of it: a run that is
            resumed may go on elsewhere, and is then not what one line makes again.
        clips, frames: seen. seconds: of the run; waiting, training: for data; in steps, that
            waiting included. joules: of the device.
    """

    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    stale: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    clips: int = 0
    frames: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    training: float = 0.0
    joules: float | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Progress:
        """What a checkpoint says.

        Raises:
            ValueError: an entry that is missing, unknown or wrong.
        """
        for name in dict.fromkeys((*_ENTRIES, *told)):
            if name not in _ENTRIES:
                raise ValueError(f"progress.{name}: unknown, wanted none of that name")
            if name not in told:
                if name == "made":  # those of older versions have none
                    continue
                raise ValueError(f"progress.{name}: missing, wanted {_ENTRIES[name].wanted}")
            if not _ENTRIES[name].right(plain(told[name])):
                raise ValueError(f"progress.{name}: wanted {_ENTRIES[name].wanted}")
        return cls(**told)


def check_extra(extra: Mapping[str, Any]) -> None:
    """See that all is there that a run writes beside its state.

    Raises:
        ValueError: an entry that is missing or no table; early checkpoints have no ``validation``
            and no ``still``.
    """
    for name in ("recipe", "data", "progress", "curve", "started", "validation", "still"):
        if name not in extra and name not in ("validation", "still"):
            raise ValueError(f"extra.{name}: missing, wanted it")
        value = extra.get(name, {})
        if name != "started" and not isinstance(value, dict):  # the record's check reads that one
            found = "null" if value is None else type(value).__name__
            raise ValueError(f"extra.{name}: {found}, wanted a table")


def placed(told: Mapping[str, Any], batches: int) -> dict[str, Any]:
    """A place in the data, if it is one.

    Args:
        told: of :meth:`sal360.datasets.loader.ClipLoader.state_dict`. batches: of an epoch.
    Raises:
        ValueError: one that no loader of so many batches says.
    """
    count, epoch, batch = FIELDS["steps"].right, told.get("epoch"), told.get("batch", -1)
    if not (count(epoch) and count(batch)) or batch > batches:
        raise ValueError(
            f"loader: epoch {epoch!r}, batch {batch!r}, wanted whole numbers, of batch at most "
            f"{batches}"
        )
    return dict(told)


def _parts(value: Any) -> bool:
    needed = ("step", "code", "versions", "device", "threads")
    return isinstance(value, list) and all(
        isinstance(one, dict) and all(key in one for key in needed) for one in value
    )


_ENTRIES: dict[str, Field] = {
    **{name: FIELDS[name] for name in ("validations", "best", "scores")},
    **dict.fromkeys(("stale", "clips", "frames"), FIELDS["steps"]),
    **dict.fromkeys(("seconds", "waiting", "training"), FIELDS["seconds"]),
    "joules": FIELDS["energy_j"],
    "skipped": OPTIONAL["skipped"],
    "made": Field(_parts, "a list of step and what made it", "parts of the run"),
}
"""What each may be: what a record holds of it."""
assert set(_ENTRIES) == {one.name for one in fields(Progress)}
