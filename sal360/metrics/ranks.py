"""The exact area under a ROC curve, ties and all: it is a mean of ranks.

The area under the curve is the chance that a value drawn from the positives exceeds one drawn
from the negatives, a tie counting half (Mann and Whitney). So no curve is traced, no threshold
is stepped and nothing is shaken to break ties: sort the few positives once, and find for every
negative how many of them lie below it. Sorting the thousand fixations instead of the millions
of pixels, which would have to carry their areas along, is several times faster and just as
exact. Chapter 12 derives it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FINE = 52 - 12  # bits dropped from a double: a table step is 2^-12 of an octave
_STEPS = 64 << 12  # the table spans 64 octaves below the largest positive


def auc(values: Tensor, positives: Tensor, weight: Tensor | None = None) -> Tensor:
    """Chance that a positive exceeds a value drawn from ``values``, a tie counting half.

    Args:
        values: ``(R, C)`` float64 negatives. positives: ``(N,)`` float64, N at least 1, in any
            order; all finite.
        weight: ``(R,)`` chance of each value of a row, any scale; all alike if not given.
    Returns:
        scalar float64 in [0, 1].
    """
    ranks = doubled_ranks(values.flatten(), positives.sort().values)
    # Whole numbers are summed exactly, so the answer does not depend on the order of columns.
    rows = 1 - ranks.reshape(values.shape).sum(1).double() / (2 * len(positives) * values.shape[1])
    return rows.mean() if weight is None else (rows * (weight / weight.sum())).sum()


def doubled_ranks(values: Tensor, positives: Tensor) -> Tensor:
    """How many positives are below each value, plus how many are not above it.

    Twice the middle rank, so that it is a whole number. The leading bits of a positive double,
    read as a whole number, are its step on a logarithmic ladder. A table knows how many
    positives lie below each step, so most values are answered by a look-up; on a step that
    holds positives of one value, a comparison decides; only on a step that holds several is
    the value searched among them.

    Args:
        values: ``(P,)`` float64, finite. positives: ``(N,)`` float64, finite, sorted upwards, N
            at least 1.
    Returns:
        ``(P,)`` int32, from 0 to 2 N.
    """
    if len(values) < _STEPS:  # the table would cost more than the search
        return _searched(values, positives)
    least = values.min()
    foot = ((positives[-1] - least).view(torch.int64) >> _FINE) - _STEPS

    def step(x: Tensor) -> Tensor:
        # Subtraction and shift keep order, so the order of steps is the order of values.
        bits = (x - least).view(torch.int64).bitwise_right_shift_(_FINE)
        return bits.sub_(foot).clamp_(0, _STEPS + 1)

    held = torch.bincount(step(positives), minlength=_STEPS + 2)
    ends = held.cumsum(0)
    first = positives[(ends - held).clamp_(max=len(positives) - 1)]
    several = first < positives[(ends - 1).clamp_(min=0)]

    where = step(values)
    pivot = first.index_select(0, where)
    beside = (values >= pivot).int()
    beside += values > pivot
    beside *= held.int().index_select(0, where)
    ranks = (2 * (ends - held)).int().index_select(0, where).add_(beside)
    unsure = torch.nonzero(several.index_select(0, where))[:, 0]
    ranks[unsure] = _searched(values[unsure], positives)
    return ranks


def _searched(values: Tensor, positives: Tensor) -> Tensor:
    below = torch.searchsorted(positives, values, out_int32=True)
    return below.add_(torch.searchsorted(positives, values, out_int32=True, right=True))
