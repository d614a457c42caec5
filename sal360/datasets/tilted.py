"""A data set seen by a camera that was not held upright.

Nothing in a panorama says which way is up, and nobody's camera hangs straight. Every video is
turned by one rotation that tilts its vertical by the same angle, each about a horizontal axis of
its own; frames, flow, truth and gaze move together (:mod:`sal360.datasets.augment`). Of what a
network learnt about rows, nothing is left to help it. Chapter 17.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from sal360._check import in_range
from sal360.datasets.augment import rotate_item
from sal360.datasets.item import Around, Item, VideoDataset
from sal360.sphere import rotation_matrix


class Tilted(Around):
    """Every video of a data set, its vertical tilted; a :class:`VideoDataset`.

    Args:
        dataset: what is tilted. degrees: by how much, in [0, 180]; 0 leaves all as it is.
        seed: of the axes; video ``k`` has the same for every angle.
    Raises:
        ValueError: an angle or a seed that cannot be used.
    """

    def __init__(self, dataset: VideoDataset, degrees: float, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed: {seed!r}, wanted a whole number of at least 0")
        super().__init__(dataset)
        self.seed = seed
        self.degrees = in_range(degrees, "degrees", -1e-12, 180.0, "degrees", closed=True)
        self.name = f"{dataset.name}, tilted by {self.degrees:g} degrees"
        self.split = getattr(dataset, "split", None)

    def rotation(self, video: str) -> Tensor:
        """``(3, 3)``: what stood at ``d`` stands at ``R d``."""
        if video not in self.videos:
            raise ValueError(f"video: {video!r} is not in {self.dataset.name}")
        number = self.videos.index(video)
        azimuth = 2 * math.pi * float(np.random.default_rng((self.seed, number)).random())
        about = rotation_matrix(azimuth)
        nod = rotation_matrix(0.0, 0.0, math.radians(self.degrees))
        return about @ nod @ about.T

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip, tilted; see :meth:`sal360.datasets.item.VideoDataset.read`."""
        item = self.dataset.read(video, start, length, step, size)
        return rotate_item(item, self.rotation(video)) if self.degrees else item
