"""The videos that a loss can learn from: those that somebody was watched at.

Wild-360 has maps of its test videos only, and a batch with one clip of the others would have no
truth at all. So they are left out, and if none is left the run is refused before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from sal360.datasets.item import Item, VideoDataset
from sal360.training.data import Told
from sal360.training.recipe import Recipe


def with_truth(data: VideoDataset, recipe: Recipe) -> VideoDataset:
    """The data set itself, or its videos that have a truth, if the recipe's loss wants one and the
    data set says that some have none.

    Raises:
        ValueError: none has; one line that says what works.
    """
    known = getattr(data, "has_truth", None)
    if known is None or recipe.loss == "weak":
        return data
    videos = [video for video in data.videos if known(video)]
    if not videos:
        raise ValueError(
            f"{getattr(data, 'spec', data.name)}: no truth of any video, wanted by the loss "
            f"{recipe.loss}: train on another split, or by the recipe cp360, which needs none"
        )
    return data if len(videos) == len(data.videos) else OfVideos(data, videos)


class OfVideos(Told):
    """Some videos of a data set; a :class:`VideoDataset`.

    Args:
        dataset: whose. videos: their names, in its order.
    Attributes:
        left_out: how many others there are, for a record.
    """

    def __init__(self, dataset: VideoDataset, videos: Sequence[str]) -> None:
        super().__init__(dataset)
        self._videos, every = tuple(videos), len(dataset.videos)
        self.left_out = f"{every - len(self._videos)} of {every} videos: no truth"

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos that are left."""
        return self._videos

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip; see :meth:`sal360.datasets.item.VideoDataset.read`."""
        return self.dataset.read(video, start, length, step, size)
