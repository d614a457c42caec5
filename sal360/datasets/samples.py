"""The clip that the book shows: the real one where it can be had, else the embedded one.

Both come as the same kind of thing, and each says which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.datasets import download
from sal360.datasets.synthetic import render_clip
from sal360.images import read_image

GORILLAS = "samples/congo_2048.mp4"
FPS = 8.0
"""Frames per second that SST-Sal was trained at."""


@dataclass(frozen=True)
class Clip:
    """A short panorama film in memory.

    Attributes:
        frames: ``(T, 3, H, W)`` uint8 RGB. fps: frames per second.
        real: whether a camera took it. note: what it is and whose, for the page.
        truth: ``(T, H, W)`` densities where they are known, else None.
    """

    frames: Tensor
    fps: float
    real: bool
    note: str
    truth: Tensor | None = None

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The frames as pictures are stored: ``(T, H, W, 3)`` uint8."""
        return np.ascontiguousarray(self.frames.permute(0, 2, 3, 1).numpy())


@lru_cache(maxsize=4)
def clip(frames: int = 24, height: int = 480) -> Clip:
    """Gorillas in a forest, left eye, at 8 frames/s; or the embedded clip.

    Args:
        frames: how many, at most 75 of the real film.
        height: of a frame, pixels; the width is twice that.
    """
    if not download.available(GORILLAS):
        return embedded_clip(frames, min(height, 320))
    from sal360.video import probe, read_frames

    path = download.fetch(GORILLAS)
    film = read_frames(path, fps=FPS, stereo="tb", size=(height, 2 * height))
    rate = probe(path).fps
    return Clip(
        torch.stack([torch.from_numpy(f.rgb).permute(2, 0, 1) for f in islice(film, frames)]),
        rate / round(rate / FPS),
        True,
        "Real footage: gorillas in a forest, the left eye of a stereo film at 1920 x 540 "
        "(vrview examples, Apache-2.0).",
    )


def embedded_clip(frames: int = 24, height: int = 256) -> Clip:
    """The synthetic clip of :mod:`sal360.datasets.synthetic`, with its exact truth."""
    made = render_clip(frames, height, 2 * height)
    return Clip(
        (made.frames * 255).round().to(torch.uint8),
        made.fps,
        False,
        "The embedded synthetic clip: discs over a made-up landscape. The real footage was "
        "neither in the cache nor to be downloaded when this ran.",
        made.truth,
    )


def model_name() -> tuple[str, str | None]:
    """Name and weights of the model that the book shows; a baseline where weights are missing."""
    if download.available("weights/SST_Sal_wo_OF.pth"):
        return "sst-sal-noflow", "official"
    return "motion", None


def photo(name: str = "petra", height: int = 512) -> tuple[NDArray[np.uint8], str]:
    """A real still panorama ``(height, 2 height, 3)`` and its credit, or an embedded frame."""
    path = f"samples/{name}.jpg"
    if path not in download.registry():
        raise ValueError(f"name: {name!r}, wanted petra, taj-mahal, examplepano, labelled_faces")
    if not download.available(path):
        return embedded_clip(1, height).pictures[0], "a frame of the embedded synthetic clip"
    import cv2

    picture = cv2.resize(
        read_image(download.fetch(path)), (2 * height, height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(picture, np.uint8), f"{name}, {download.registry()[path].licence}"
