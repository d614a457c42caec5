"""Videos cut into clips: which frames each clip has, decided before anything is read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, get_args

from sal360._check import positive_int
from sal360.datasets.item import Item, VideoDataset

Tail = Literal["drop", "back", "short"]


class Window(NamedTuple):
    """``length`` frames of a video, from ``start`` on."""

    video: str
    start: int
    length: int


class Windows:
    """An index of the clips of a data set.

    Args:
        dataset: any :class:`~sal360.datasets.item.VideoDataset`.
        length: frames of a clip.
        stride: from the start of one clip to that of the next, in frames of the video; None:
            ``length * step``, so that clips do not overlap.
        step: one frame in ``step`` is taken.
        tail: the frames at a video's end that do not fill a clip are
            ``"drop"``: left out; every clip has the same length. For training.
            ``"back"``: the end of one more clip that begins before them, so they are seen and
            some frames are seen twice. A video shorter than a clip is left out.
            ``"short"``: a shorter clip, and so is a short video: each frame once. For evaluation;
            a loader puts clips of one length into a batch.
        videos: the ones to take; None: all.

    Attributes:
        left_out: videos that have no clip, being too short.
    Raises:
        ValueError: an unknown video or tail, no clip at all.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        length: int,
        stride: int | None = None,
        step: int = 1,
        tail: Tail = "drop",
        videos: Iterable[str] | None = None,
    ) -> None:
        self.dataset = dataset
        self.length, self.step = positive_int(length, "length"), positive_int(step, "step")
        whole = self.length * self.step
        self.stride = whole if stride is None else positive_int(stride, "stride")
        if tail not in get_args(Tail):
            raise ValueError(f"tail: {tail!r}, wanted 'drop', 'back' or 'short'")
        self.tail = tail
        chosen = tuple(dataset.videos if videos is None else videos)
        if unknown := set(chosen) - set(dataset.videos):
            raise ValueError(f"videos: {sorted(unknown)[0]!r} is not in {dataset.name}")
        self._windows: list[Window] = []
        left_out = []
        for video in chosen:
            found = self._cut(video, dataset.length(video))
            self._windows += found
            if not found:
                left_out.append(video)
        self.left_out = tuple(left_out)
        if not self._windows:
            raise ValueError(
                f"length: {length} frames in steps of {step}, but none of the {len(chosen)} "
                f"videos of {dataset.name} is so long"
            )
        if left_out:
            warnings.warn(
                f"{dataset.name}: {len(left_out)} of {len(chosen)} videos are shorter than "
                f"{length} frames in steps of {step} and left out; first: {left_out[0]}",
                UserWarning,
                stacklevel=2,
            )

    def _cut(self, video: str, total: int) -> list[Window]:
        span = (self.length - 1) * self.step + 1
        starts = list(range(0, total - span + 1, self.stride))
        windows = [Window(video, start, self.length) for start in starts]
        seen = starts[-1] + span if starts else 0
        if self.tail == "back" and starts and seen < total:
            windows.append(Window(video, total - span, self.length))
        if self.tail == "short":
            start = starts[-1] + self.stride if starts else 0
            if start < total and seen < total:
                windows.append(Window(video, start, 1 + (total - 1 - start) // self.step))
        return windows

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Window:
        return self._windows[index]

    def __iter__(self) -> Iterator[Window]:
        return iter(self._windows)

    def read(self, index: int, size: tuple[int, int] | None = None) -> Item:
        """The clip itself, at ``size``, ``(H, W)``; as stored if None."""
        video, start, length = self._windows[index]
        return self.dataset.read(video, start, length, self.step, size)

    def __str__(self) -> str:
        return f"{len(self)} clips of {self.length} frames of {self.dataset.name}"
