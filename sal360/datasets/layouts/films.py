"""Frames of a film by their numbers, each a picture or the reason why there is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sal360.datasets.layouts.base import Problem
from sal360.datasets.layouts.files import read_picture
from sal360.video import VideoInfo, read_frames


def film_length(info: VideoInfo) -> int:
    """Frames of a film: told by the file, else counted."""
    if info.frames is not None and info.frames_exact:
        return info.frames
    return sum(1 for _ in _quietly(info, 0))


def film_frames(
    info: VideoInfo, numbers: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8] | Problem]]:
    """The frames with these ascending numbers, counted from 0.

    A packet that cannot be decoded costs its own frames; they are reported one by one.
    """
    wanted = list(numbers)
    start = 0 if info.variable else wanted[0]
    k = 0
    try:
        for index, rgb in _quietly(info, start):
            while k < len(wanted) and wanted[k] < index:
                yield wanted[k], _lost(info, wanted[k])
                k += 1
            if k == len(wanted):
                return
            if wanted[k] == index:
                yield index, rgb
                k += 1
            if k == len(wanted):
                return
    except (OSError, ValueError) as problem:
        for number in wanted[k:]:
            yield number, problem
        return
    for number in wanted[k:]:
        yield number, _lost(info, number)


def picture_or_problem(path: Path) -> NDArray[np.uint8] | Problem:
    """A picture file, or why it cannot be read."""
    try:
        return read_picture(path)
    except (OSError, ValueError) as problem:
        return problem


def _lost(info: VideoInfo, number: int) -> ValueError:
    return ValueError(f"{info.path}: frame {number} cannot be decoded")


def _quietly(info: VideoInfo, start: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames from a number on; what the reader would warn of at the end is reported by number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = read_frames(info.path, start=start / info.fps)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = next(frames, None)
        if frame is None:
            return
        yield frame.index, frame.rgb
