"""Pictures and films of a prediction folder: overlays, and the pairs that the viewer plays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sal360.images import write_image
from sal360.overlay import blend, levels
from sal360.results import PredictionFolder
from sal360.sources import Source
from sal360.video import VideoWriter

MAX_WIDTH = 1920

Pair = tuple[NDArray[np.uint8], NDArray[np.float32], float]
"""A frame, its map, and its time in seconds."""


def overlay(
    source: Source,
    folder: PredictionFolder,
    out: str | Path,
    *,
    opacity: float = 0.7,
    colormap: str = "inferno",
    progress: bool = False,
) -> None:
    """Lay the maps of a folder over the frames they were made from.

    A video keeps its own frame rate, even one that varies: between two predicted frames the maps
    are interpolated in time. Frames come out 2:1, at most :data:`MAX_WIDTH` wide, whatever the
    shape of one eye.

    Args:
        source: what was predicted. folder: its predictions. out: an mp4, or for a picture a jpg.
        opacity, colormap: see :func:`sal360.overlay.blend`.
    Raises:
        ValueError: another suffix. OSError: the file cannot be written, with its path.
    """
    pairs = _pairs(source, folder, MAX_WIDTH)
    if source.kind == "image":
        rgb, density, _ = next(pairs)
        write_image(out, blend(rgb, density, opacity, colormap))
        return
    if Path(out).suffix.lower() != ".mp4":
        raise ValueError(f"{out}: a film, wanted a name that ends in .mp4")
    # Under another name until it is whole: an interrupted VideoWriter leaves a short film.
    partial = Path(out).with_name(f".{Path(out).stem}.part.mp4")
    try:
        with VideoWriter(partial, fps=_rate(source)) as video:
            for rgb, density, time in _shown(pairs, source, folder, progress):
                video.write(blend(rgb, density, opacity, colormap), time)
        os.replace(partial, out)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(out)
        raise
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def stacked(
    source: Source,
    folder: PredictionFolder,
    out: str | Path,
    seconds: float | None = None,
    width: int = 1280,
) -> None:
    """Frame above, grey map below, in one file: what the viewer plays in step.

    Args:
        source, folder, out: as for :func:`overlay`.
        seconds: how long, from the first predicted frame on; None: all that is predicted.
        width: of the film in pixels; the height is the same, two 2:1 halves.
    """
    import cv2

    def both(rgb: NDArray[np.uint8], density: NDArray[np.float32]) -> NDArray[np.uint8]:
        grey = cv2.resize(levels(density), (rgb.shape[1], rgb.shape[0]))
        return np.concatenate((rgb, np.repeat(grey[..., None], 3, axis=2)))

    pairs = _pairs(source, folder, width, seconds)
    if source.kind == "image":
        write_image(out, both(*next(pairs)[:2]))
        return
    with VideoWriter(out, fps=_rate(source), spherical=False, crf=23) as video:
        for rgb, density, time in pairs:
            video.write(both(rgb, density), time)


def plain(source: Source, out: str | Path, seconds: float | None, width: int = 1280) -> None:
    """One eye of a source, 2:1 and small enough for a page; no overlay."""
    frames = source.frames() if source.kind == "image" else source.frames(seconds=seconds)
    if source.kind == "image":
        write_image(out, _two_to_one(next(frames).rgb, 2 * width))
        return
    with VideoWriter(out, fps=_rate(source), spherical=False, crf=23) as video:
        for frame in frames:
            video.write(_two_to_one(frame.rgb, width), frame.time)


def _rate(source: Source) -> float:
    """Of a clock that a film can have; each frame is shown at its own time all the same."""
    return min(max(source.fps, 1 / 1001), 1000.0)


def _two_to_one(rgb: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The whole sphere, twice as wide as high, both even, at most ``width`` wide."""
    import cv2

    wide = min(width, max(2 * rgb.shape[0], rgb.shape[1]))
    wide = max(wide - wide % 4, 4)
    how = cv2.INTER_AREA if wide < rgb.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(rgb, (wide, wide // 2), interpolation=how)


def _pairs(
    source: Source, folder: PredictionFolder, width: int, seconds: float | None = None
) -> Iterator[Pair]:
    """Frames 2:1, their maps and times, from the first predicted frame to the last."""
    known = folder.frames()
    if not known:
        raise ValueError(f"{folder.path}: holds no maps")
    first, last = known[0], known[-1]
    step = 1 if len(known) == 1 else min(b - a for a, b in pairwise(known))
    wanted: list[float] = []

    def times() -> Iterator[float]:
        while True:
            yield wanted.pop()

    maps, begin = folder.maps_at(times()), None
    for frame in source.frames():
        if frame.index < first:
            continue
        begin = frame.time if begin is None else begin
        late = seconds is not None and frame.time > begin and frame.time - begin >= seconds
        if frame.index >= last + step or late:
            break
        wanted.append(frame.time)
        yield _two_to_one(frame.rgb, width), next(maps), frame.time


def _shown(
    pairs: Iterator[Pair], source: Source, folder: PredictionFolder, progress: bool
) -> Iterator[Pair]:
    from tqdm import tqdm

    known = folder.frames()
    total = known[-1] - known[0] + 1 if source.total is None or source.total > known[-1] else None
    return iter(tqdm(pairs, "overlay", total, unit="frame", disable=not progress or None))
