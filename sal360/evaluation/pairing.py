"""Which prediction belongs to which truth: videos by their names, frames by their numbers.

Scores of maps that do not belong together look like scores, so everything that does not fit is
refused, unless it is said that part of it is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from sal360.evaluation.streams import Stream

By = Literal["auto", "number", "position"]


class Pairs(NamedTuple):
    """Frames that are scored: numbers in the predictions and in the truth, side by side.

    Attributes:
        note: what was left aside, or None.
    """

    pred: list[int]
    truth: list[int]
    note: str | None = None


def pair_videos(pred: Stream, truth: Stream, part: bool = False) -> list[tuple[str, str]]:
    """Names of videos in the predictions and in the truth that belong together.

    One video each belong together whatever their names are. One video of predictions may be
    scored against a truth that has others too.

    Args:
        part: score the videos that both have.
    Raises:
        ValueError: a video that only one of them has; with its path.
    """
    ours, theirs = list(pred.videos), list(truth.videos)
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    both = [name for name in ours if name in set(theirs)]
    lonely = [name for name in ours if name not in set(theirs)]
    if not both or (lonely and not part):
        name = lonely[0]
        raise ValueError(
            f"{pred.place(name)}: no truth of a video {name!r}; there is that of {_few(theirs)}"
        )
    missing = [name for name in theirs if name not in set(ours)]
    if missing and len(ours) > 1 and not part:
        raise ValueError(
            f"{truth.place(missing[0])}: no prediction of this video (of {len(missing)} of "
            f"{len(theirs)}); --part scores those that both have"
        )
    return [(name, name) for name in both]


def pair_frames(
    pred: Stream,
    ours: str,
    truth: Stream,
    theirs: str,
    by: By = "auto",
    part: bool = False,
    hold: bool = False,
) -> Pairs:
    """Frames of one video that belong together.

    Predictions may be made for one frame in so many, from the first to the last, and so may
    truth; any other difference is refused.

    Args:
        ours, theirs: the video's name in the predictions and in the truth.
        by: ``"number"``, ``"position"`` (the first with the first), or ``"auto"``: by number,
            unless the numbers of either only count.
        part: score the frames that both have.
        hold: a video of which there is one map: it holds for every frame.
    Raises:
        ValueError: frames that do not fit, an unknown ``by``; with the path.
    """
    if by not in ("auto", "number", "position"):
        raise ValueError(f"by: {by!r}, wanted 'auto', 'number' or 'position'")
    p, t = pred.numbers(ours), truth.numbers(theirs)
    if t is None:
        raise ValueError(f"{truth.place(theirs)}: one map for a whole video, wanted one per frame")
    t = list(t)
    if p is None:  # the same map for every frame
        return Pairs([0] * len(t), t)
    p = list(p)
    if hold and len(p) == 1:
        return Pairs(p * len(t), t, f"{ours}: one map, held for {len(t)} frames")
    if by == "auto":
        only_count = pred.positional(ours) or truth.positional(theirs)
        by = "position" if only_count else "number"
    if by == "position":
        n = min(len(p), len(t))
        if len(p) != len(t) and not part:
            way = "--hold keeps it for all" if len(p) == 1 else "--part scores those that both have"
            raise ValueError(
                f"{pred.place(ours)}: {_maps(len(p))}, wanted {len(t)} as "
                f"{truth.place(theirs)} has ({way})"
            )
        note = None if len(p) == len(t) else f"{ours}: the first {n} frames, which both have"
        return Pairs(p[:n], t[:n], note)
    if p == t:
        return Pairs(p, t)
    both = sorted(set(p) & set(t))
    hint = "; --by position pairs the first with the first" if len(p) == len(t) else ""
    if not both:
        raise ValueError(
            f"{pred.place(ours)}: frames {_span(p)}, but {truth.place(theirs)} has {_span(t)}{hint}"
        )
    if not part and not (_thinned(p, t) or _thinned(t, p)):
        here, there = set(p) - set(t), set(t) - set(p)
        if here:
            where, what = pred.place(ours, min(here)), f"no truth of frame {min(here)}"
        else:
            where, what = truth.place(theirs, min(there)), f"no prediction of frame {min(there)}"
        raise ValueError(f"{where}: {what} (predictions {_span(p)}, truth {_span(t)}){hint}")
    return Pairs(both, both, f"{ours}: {len(both)} frames scored, of {len(p)} maps and {len(t)} "
                             "of truth")  # fmt: skip


def _thinned(few: Sequence[int], many: Sequence[int]) -> bool:
    """Whether the few are one in so many of the many, from the first ones to the last ones.

    Two of three could as well be three of which one was lost; it takes three to tell a step.
    """
    at = {number: k for k, number in enumerate(many)}
    if len(few) < 3 or any(number not in at for number in few):
        return False
    places = [at[number] for number in few]
    step = places[1] - places[0]
    even = all(b - a == step for a, b in pairwise(places))
    return even and places[0] < step and places[-1] + step >= len(many)


def _span(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]}"
    return f"{numbers[0]} to {numbers[-1]} ({len(numbers)} of them)"


def _maps(count: int) -> str:
    return f"{count} maps" if count != 1 else "1 map"


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
