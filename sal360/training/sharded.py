"""Evaluation on several processes: each scores some of the videos, all get all the scores.

A video is scored from its first frame to its last in one process, so its numbers do not depend on
how many there are; means are taken afterwards, over all videos in their own order. Means are
therefore the same to the bit. Chapter 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sal360.datasets.item import VideoDataset
from sal360.training.distributed import World

Scored = TypeVar("Scored")


def share_videos(
    data: VideoDataset, world: World, videos: Iterable[str] | None = None, together: int = 1
) -> list[list[str]]:
    """Whose videos are whose: for each rank the names, in the data set's order.

    The longest come first, each to the rank that has the fewest frames so far.

    Args:
        videos: to share out; None: all.
        together: videos of one length that are scored side by side, and stay so: a batch of other
            videos would round otherwise.
    """
    names = list(data.videos if videos is None else videos)
    alike: dict[int, list[str]] = {}
    for name in names:
        alike.setdefault(data.length(name), []).append(name)
    groups = [
        (length * len(part), part)
        for length, found in alike.items()
        for part in (found[k : k + together] for k in range(0, len(found), together))
    ]
    frames = [0] * world.size
    shares: list[set[str]] = [set() for _ in frames]
    for total, part in sorted(groups, key=lambda group: -group[0]):
        rank = frames.index(min(frames))
        frames[rank] += total
        shares[rank].update(part)
    return [[name for name in names if name in share] for share in shares]


def scored_together(
    score: Callable[[Sequence[str]], dict[str, Scored]],
    data: VideoDataset,
    world: World,
    videos: Iterable[str] | None = None,
    together: int = 1,
) -> dict[str, Scored]:
    """Scores of all videos, on every process, in the data set's order.

    Args:
        score: of some videos, by name, such as
            ``lambda mine: validate(model, data, recipe, videos=mine)``; it is not called for none.
        videos, together: see :func:`share_videos`.
    Raises:
        What ``score`` raised on the first process that failed, on all of them.
    """
    names = list(data.videos if videos is None else videos)
    mine = share_videos(data, world, names, together)[world.rank]
    parts = world.each(lambda: score(mine) if mine else {})
    found = {name: scores for part in parts for name, scores in part.items()}
    return {name: found[name] for name in names}
