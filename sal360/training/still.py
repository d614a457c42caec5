"""A network that no longer learns: its gradient is exactly 0, or its loss is always the same.

One step at too high a rate can put every unit where its slope is 0. Such a network has a loss, a
speed and a record like any other, and ends well; only its gradient says that nothing was learned.
A scaled loss that overflowed (precision ``"fp16"``) has no gradient either, but is another matter:
the next step has a smaller scale. Chapter 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sal360.training.fit import Step

MANY = 10
"""Steps on end; one batch may have a gradient of 0 by chance."""


class Still:
    """Watches the steps of a run.

    >>> watch = Still(many=2)
    >>> for step in range(5):
    ...     _ = watch.add(Step(step, loss=1.0 / (1 + step), lr=0.1, gradient=float(step < 2)))
    >>> watch.notes()
    ['steps 2 to 4: the gradient was exactly 0: nothing was learned; the network may have died']
    """

    def __init__(self, many: int = MANY) -> None:
        self.many = many
        self._zeros = 0  # on end, until now
        self._since = 0
        self._stretches: list[list[int]] = []  # first and last step
        self._loss: float | None = None  # of all steps so far, if it is one
        self._same = 0

    def add(self, step: Step) -> list[str]:
        """A step; lines that should be said at once: of each kind one, when it has been so for as
        long as that."""
        if step.overflowed:
            return []
        told = []
        if self._same == 0 or step.loss == self._loss:
            self._loss, self._same = step.loss, self._same + 1
            if self._same == self.many:
                told.append(self._told_loss())
        else:
            self._loss = None
        if step.gradient != 0:
            self._zeros = 0
            return told
        self._since = self._since if self._zeros else step.index
        self._zeros += 1
        if self._zeros == self.many:
            self._stretches.append([self._since, step.index])
            told.append(self._told(self._since, step.index))
        if self._zeros > self.many:
            self._stretches[-1][1] = step.index
        return told

    def _told(self, first: int, last: int) -> str:
        return (
            f"steps {first} to {last}: the gradient was exactly 0: nothing was learned; the "
            "network may have died"
        )

    def _told_loss(self) -> str:
        return f"the loss was {self._loss:g} in all {self._same} steps: it never changed"

    def notes(self) -> list[str]:
        """For the record, as of now."""
        notes = [self._told(*stretch) for stretch in self._stretches]
        if self._loss is not None and self._same >= self.many:
            notes.append(self._told_loss())
        return notes

    def state_dict(self) -> dict[str, Any]:
        """Numbers for a checkpoint, exact in JSON."""
        return {
            "zeros": self._zeros,
            "since": self._since,
            "stretches": [list(stretch) for stretch in self._stretches],
            "loss": self._loss,
            "same": self._same,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: what :meth:`state_dict` never says.
        """
        counts: list[Any] = [state.get(name) for name in ("zeros", "since", "same")]
        stretches: Any = state.get("stretches")
        loss = state.get("loss", "")
        pairs = isinstance(stretches, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(map(_count, pair))
            for pair in stretches
        )
        if not (all(map(_count, counts)) and pairs and (loss is None or type(loss) is float)):
            raise ValueError("still: wanted zeros, since, stretches, loss and same of its steps")
        self._zeros, self._since, self._same = counts
        self._stretches, self._loss = [list(pair) for pair in stretches], loss


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0
