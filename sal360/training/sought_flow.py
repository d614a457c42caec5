"""Optical flow where a training needs it and a data set brings none: sought in its frames.

It is what :class:`~sal360.datasets.item.Item` means by flow: pixels from each frame of the clip to
the next one, right and down, across the seam the short way; of the clip's last frame, to the frame
that follows in the video. So the flow of a frame is the same in whatever clip it is read. It is
sought before clips are turned, and turns with them. A pair of frames is sought once: the cache
folder keeps it (:mod:`sal360.flow.store`), the data set's own folder is never written to.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sal360.datasets.item import Item, VideoDataset, checked_window
from sal360.flow import flow_of
from sal360.losses import resize_flow
from sal360.models.sst_sal import SSTSal
from sal360.training.data import Told
from sal360.training.recipe import Recipe

METHOD = "dis"
_LEAST = 32  # rows; a view of the sphere is less high than the panorama


def with_flow(
    data: VideoDataset, model: nn.Module, recipe: Recipe, learning: bool = True
) -> VideoDataset:
    """The data set itself, or, if the training needs flow that it does not bring, with flow.

    Args:
        data: what is trained or validated on. model, recipe: of them, what must be there: a
            network of six channels takes flow or the picture of it, the loss ``"weak"`` takes flow.
        learning: whether the loss is asked, too; a validation only runs the network.
    """
    seen = isinstance(model, SSTSal) and model.in_channels == 6
    followed = learning and recipe.loss == "weak"
    if hasattr(data, "flow_from"):  # it is sought already
        return data
    if not (seen or followed) or _brings(data, recipe.size, pictures=not followed):
        return data
    flat = isinstance(model, SSTSal) and model.convention == "upstream"
    return SoughtFlow(data, flat)


class SoughtFlow(Told):
    """A data set with the flow of its frames; a :class:`VideoDataset`.

    Flow is sought on a 2:1 picture of the frames, of at least 32 rows, where a pixel is as wide as
    it is high, and brought to their size. Clips that have flow keep it. Pictures of flow are left
    out: some videos have none, and clips of one batch must have the same.

    Args:
        dataset: whose clips. flat: seek it in the panorama as a flat picture, as official SST-Sal
            saw it; else on the sphere.
    Attributes:
        flow_from: how the flow was made, for a record.
    """

    def __init__(self, dataset: VideoDataset, flat: bool = False) -> None:
        super().__init__(dataset)
        self.views: Any = None if flat else "mercator"
        where = "the flat panorama" if flat else f"{self.views} views of the sphere"
        self.flow_from = f"computed from the frames: {METHOD}, {where}"

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip; see :meth:`sal360.datasets.item.VideoDataset.read`. One frame more is read, where
        there is one: the flow of the last frame leads to it."""
        total = self.length(video)
        count, step = checked_window(video, total, start, length, step)
        more = start + count * step < total
        item = self.dataset.read(video, start, count + more, step, size)
        if more and len(item) <= count:  # the reader leaves frames out: not known which
            more, item = False, self.dataset.read(video, start, count, step, size)
        flow = self._flow(item.frames) if item.flow is None else item.flow
        item = replace(item, flow=flow, flow_picture=None)
        return _first(item, count) if more else item

    def _flow(self, frames: Tensor) -> Tensor:
        """``(T, 3, H, W)`` in [0, 1] to ``(T, 2, H, W)`` float32 pixels."""
        import cv2

        H, W = frames.shape[-2:]
        rows = max(_LEAST, H)
        bytes_ = (frames.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        pictures = np.ascontiguousarray(bytes_.cpu().numpy())
        if rows != H or 2 * rows != W:
            pictures = np.stack([cv2.resize(picture, (2 * rows, rows)) for picture in pictures])
        flow = flow_of(pictures, METHOD, self.views)
        return resize_flow(flow, H, W).to(frames.device)


def _brings(data: VideoDataset, size: tuple[int, int], pictures: bool) -> bool:
    """Whether a data set has flow, or pictures of it, in all videos; asked of the first one that
    can be read. Of one that cannot be read at all the loader will say why."""
    for video in data.videos:
        try:
            first = data.read(video, 0, 1, 1, size)
        except (OSError, ValueError):
            continue
        if first.flow is not None:
            return True
        there = getattr(data, "has_flow_picture", lambda video: True)
        return pictures and first.flow_picture is not None and all(map(there, data.videos))
    return True


def _first(item: Item, count: int) -> Item:
    """The first frames of a clip."""
    cut: dict[str, Any] = {}
    for field in fields(item):
        part = getattr(item, field.name)
        if isinstance(part, (Tensor, tuple)):
            cut[field.name] = part[:count]
    return replace(item, **cut)
