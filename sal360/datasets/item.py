"""What every data set delivers: a clip, and whatever is known about where people look in it.

The real layouts and the synthetic worlds are read into the same :class:`Item`, so a network, a
metric or a figure need not know which of them it is given. What a data set does not have is
None, never a made-up array. Chapter 10 builds the truth of an item from gaze.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from sal360._check import positive_int


@dataclass(frozen=True, eq=False)
class Item:
    """``T`` frames of one video.

    Attributes:
        dataset, video: whose and which, as published.
        frames: ``(T, 3, H, W)`` float32 RGB in [0, 1].
        indices: ``(T,)`` int64, numbers of the frames in their source, as published.
        fps: frames per second of this clip: the source's rate over the step.
        flow: ``(T, 2, H, W)`` float32, pixels from each frame to the next one of this clip, right
            and down, across the seam the short way; of the last frame, to the one that would
            follow. None if the data set has none.
        flow_picture: ``(T, 3, H, W)`` float32 RGB in [0, 1], where flow is published as colours.
        truth: ``(T, 1, H, W)`` float32 densities per steradian (``sum(map * pixel_area) = 1``),
            or None. A frame without any truth is all NaN.
        previous: ``(T, 1, H, W)``, the truth some frames before each, in the layouts that give it
            to the network as an input.
        fixations: a ``(N_t, 2)`` float64 tensor of lon, lat in radians for each frame, or None.
        depth: ``(T, 1, H, W)`` float32, distance along each ray, and
        masks: ``(T, H, W)`` int64, number of the object seen, 0 for the background: synthetic
            worlds only.
    """

    dataset: str
    video: str
    frames: Tensor
    indices: Tensor
    fps: float
    flow: Tensor | None = None
    flow_picture: Tensor | None = None
    truth: Tensor | None = None
    previous: Tensor | None = None
    fixations: tuple[Tensor, ...] | None = None
    depth: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of a frame."""
        return self.frames.shape[-2], self.frames.shape[-1]


@runtime_checkable
class VideoDataset(Protocol):
    """Videos by name, each read in pieces."""

    name: str

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos, in a fixed order."""
        ...

    def length(self, video: str) -> int:
        """Frames of a video."""
        ...

    def rate(self, video: str) -> float:
        """Frames per second of a video."""
        ...

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip: frames ``start, start + step, ...``, counted from 0 in the video.

        Args:
            video: one of :attr:`videos`.
            start: first frame. length: how many are wanted; to the end if None.
            step: take one frame in ``step``.
            size: ``(H, W)`` of the result; as stored if None.
        Raises:
            ValueError: an unknown video, a window beyond the end; a file that is missing or
                cannot be read, with its path.
        """
        ...


class Around:
    """A data set around another: of the same videos, as long and as fast; it reads them its way.

    Args:
        dataset: the one inside.
    """

    def __init__(self, dataset: VideoDataset) -> None:
        self.dataset, self.name = dataset, dataset.name

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos: those of the data set inside."""
        return self.dataset.videos

    def length(self, video: str) -> int:
        """Frames of a video."""
        return self.dataset.length(video)

    def rate(self, video: str) -> float:
        """Frames per second of a video."""
        return self.dataset.rate(video)


def checked_window(
    video: str, total: int, start: int, length: int | None, step: int
) -> tuple[int, int]:
    """How many frames a clip has, to the end if ``length`` is None, and its step.

    Args:
        video: for the error. total: its frames. start, length, step: of
            :meth:`VideoDataset.read`.
    Returns:
        ``(count, step)``, whole numbers of at least 1.
    Raises:
        ValueError: a window beyond the video's end. TypeError: not a whole number.
    """
    step = positive_int(step, "step")
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < total:
        raise ValueError(f"start: {start!r}, wanted 0 to {total - 1}")
    most = (total - 1 - start) // step + 1
    count = most if length is None else positive_int(length, "length")
    if count > most:
        raise ValueError(f"length: {count}, wanted at most {most} from frame {start} of {video}")
    return count, step
