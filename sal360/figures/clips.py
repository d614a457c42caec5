"""A clip and its saliency in the 360 viewer, frame by frame in step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sal360.overlay import levels
from sal360.video import VideoWriter
from sal360.viewer import Viewer, view


def player(frames: Any, maps: Any, fps: float, width: int = 960, **options: Any) -> Viewer:
    """Look around in a clip with its saliency laid over it.

    Args:
        frames: ``(T, 3, H, W)`` uint8 RGB panoramas, tensor or array.
        maps: ``(T, h, w)`` densities.
        fps: frames per second.
        width: of the film, pixels (a multiple of 4); it is 2:1 whatever the frames are.
        options: passed on to :func:`sal360.viewer.view` (``lon``, ``lat``, ``fov``, ...).
    """
    import cv2

    if len(frames) != len(maps):
        raise ValueError(f"maps: {len(maps)} of them, wanted {len(frames)}, one per frame")
    pictures = np.asarray(frames)
    if pictures.dtype != np.uint8:  # floats in [0, 1] would be black
        raise TypeError(f"frames: {pictures.dtype}, wanted uint8")
    if pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape:
        raise ValueError(f"frames: shape {pictures.shape}, wanted (T, 3, H, W)")
    pictures = pictures.transpose(0, 2, 3, 1)
    size = (width, width // 2)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "clip.mp4"
        with VideoWriter(film, fps=fps, crf=25, spherical=False) as video:
            for frame, density in zip(pictures, maps, strict=True):
                shrinks = frame.shape[1] > width
                rgb = cv2.resize(frame, size, interpolation=3 if shrinks else 1)
                grey = cv2.resize(levels(density), size)
                video.write(np.concatenate((rgb, np.repeat(grey[..., None], 3, 2))))
        return view(film, stacked=True, **options)
