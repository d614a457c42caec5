"""Synthetic worlds as a data set: frames, flow, masks, depth, and gaze of simulated observers.

Nothing is stored: a video is drawn and rendered from its number each time it is read. The truth is
where simulated observers look (:mod:`sal360.datasets.synthetic.observers`).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from sal360._check import as_size, in_range, positive_int
from sal360.datasets.item import Item, checked_window
from sal360.datasets.synthetic.content import SPLITS
from sal360.datasets.synthetic.observers import Watched, watch
from sal360.datasets.synthetic.render import render_times
from sal360.datasets.synthetic.world import World, draw_world
from sal360.gaze import fixation_maps

SIGMA = 5.0
"""Width of the truth's blobs in degrees (standard deviation)."""


class SyntheticWorlds:
    """Videos of drawn worlds; a :class:`~sal360.datasets.item.VideoDataset`.

    The same split, video and frame give the same numbers, whatever window is read, on one
    machine and number of threads. Splits differ in content
    (:data:`~sal360.datasets.synthetic.card.CARD`).

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        videos: how many; the first ones are the same for any number.
        seconds, fps: length and rate of each. Other rates show the same worlds.
        size: ``(H, W)`` of the frames.
        observers: whose gaze makes the truth; 0 for items without truth.
        sigma: width of the truth's blobs in degrees.
        first: number of the first video, at least 0.
    Raises:
        ValueError: an unknown split, a size or number below 1.
    """

    name = "synthetic-worlds"

    def __init__(
        self,
        split: str = "train",
        videos: int = 64,
        seconds: float = 10.0,
        fps: float = 8.0,
        size: tuple[int, int] = (128, 256),
        observers: int = 48,
        sigma: float = SIGMA,
        first: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split: {split!r}, wanted one of {', '.join(map(repr, SPLITS))}")
        self.split = split
        self.seconds = in_range(seconds, "seconds", 0, math.inf)
        self.fps = in_range(fps, "fps", 0, math.inf)
        self.size = as_size(size, "size")
        self.observers = observers if observers == 0 else positive_int(observers, "observers")
        self.sigma = in_range(sigma, "sigma", 0, 180, "degrees")
        self._frames = max(1, round(self.seconds * self.fps))
        count = positive_int(videos, "videos")
        self._numbers = {f"{split}-{k:04d}": k for k in range(first, first + count)}

    @property
    def videos(self) -> tuple[str, ...]:
        """``"train-0000"``, ``"train-0001"`` and so on."""
        return tuple(self._numbers)

    def length(self, video: str) -> int:
        """Frames of a video."""
        self._number(video)
        return self._frames

    def rate(self, video: str) -> float:
        """Frames per second of a video."""
        self._number(video)
        return self.fps

    def world(self, video: str) -> World:
        """What a video shows."""
        return draw_world(self._number(video), self.split, max(1.0, self.seconds))

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip; see :meth:`sal360.datasets.item.VideoDataset.read`.

        Any ``size`` is rendered, not resampled. The flow leads ``step`` frames on.
        """
        world = self.world(video)
        count, step = checked_window(video, self._frames, start, length, step)
        H, W = self.size if size is None else as_size(size, "size")
        indices = torch.arange(count, dtype=torch.int64) * step + start
        seen = render_times(world, indices.double() / self.fps, H, W, step / self.fps)
        truth, fixations = self._truth(video, indices, H, W)
        return Item(
            dataset=self.name,
            video=video,
            frames=seen.frames,
            indices=indices,
            fps=self.fps / step,
            flow=seen.flow,
            truth=truth,
            fixations=fixations,
            depth=seen.depth,
            masks=seen.masks,
        )

    def gaze(self, video: str) -> Watched:
        """What the observers do during a whole video."""
        return _watched(*self._key(video))

    def _key(self, video: str) -> tuple[str, int, float, int, float, int]:
        number = self._number(video)
        return self.split, number, self.seconds, self._frames, self.fps, self.observers

    def _truth(
        self, video: str, indices: Tensor, H: int, W: int
    ) -> tuple[Tensor | None, tuple[Tensor, ...] | None]:
        if self.observers == 0:
            return None, None
        looks = _fixations(*self._key(video))
        fixations = tuple(looks[i] for i in indices.tolist())
        return fixation_maps(fixations, H, W, self.sigma)[:, None], fixations

    def _number(self, video: str) -> int:
        if video not in self._numbers:
            known = f"{self.videos[0]} to {self.videos[-1]}"
            raise ValueError(f"video: {video!r}, wanted {known}")
        return self._numbers[video]


@lru_cache(maxsize=2)
def _watched(
    split: str, number: int, seconds: float, frames: int, fps: float, observers: int
) -> Watched:
    world = draw_world(number, split, max(1.0, seconds))
    times = torch.arange(frames, dtype=torch.float64) / fps
    return watch(world, times, observers, window=1 / fps)


@lru_cache(maxsize=1024)
def _fixations(
    split: str, number: int, seconds: float, frames: int, fps: float, observers: int
) -> tuple[Tensor, ...]:
    """Kept for many videos (60 kB each), so that a second window of one costs nothing."""
    return _watched(split, number, seconds, frames, fps, observers).fixations
