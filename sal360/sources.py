"""What a user can point at: a video, a picture, or a folder of frames. All become frames."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sal360.images import IMAGE_SUFFIXES, read_image
from sal360.video import (
    Frame,
    StereoChoice,
    count_selected,
    frames_within,
    image_stereo,
    one_eye,
    probe,
    read_frames,
    resolve_stereo,
)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".gif"}
)
FOLDER_FPS = 8.0
"""Rate taken for a folder of frames when nobody says otherwise: SST-Sal's sampling rate."""


@dataclass(frozen=True)
class Source:
    """A panorama that may move. Frames come out upright, RGB, one eye.

    Attributes:
        path: the file or folder. kind: what it is.
        fps: frames per second (0 for a picture). total: number of frames, None if unknown.
        stereo: the layout of two eyes, and why it was taken.
        size: ``(H, W)`` of one eye, pixels.
        pictures: the files of a folder, in order.
    """

    path: Path
    kind: Literal["video", "image", "folder"]
    fps: float
    total: int | None
    stereo: StereoChoice
    size: tuple[int, int]
    pictures: tuple[Path, ...] = ()

    def frames(
        self, fps: float | None = None, start: float = 0.0, seconds: float | None = None
    ) -> Iterator[Frame]:
        """Frames of one eye; for a video see :func:`sal360.video.read_frames`.

        Of a folder every picture is taken (its ``fps`` is the rate it was made at), within
        ``start`` and ``seconds``; a picture is one frame at time 0.
        """
        if self.kind == "video":
            yield from read_frames(
                self.path, fps=fps, start=start, seconds=seconds, stereo=self.stereo.layout
            )
            return
        shape = None
        for index in self._chosen(start, seconds):
            rgb = read_image(self.pictures[index])
            if shape is not None and rgb.shape != shape:
                raise ValueError(
                    f"{self.pictures[index]}: {rgb.shape[1]} x {rgb.shape[0]} pixels, wanted "
                    f"{shape[1]} x {shape[0]} like the frames before it"
                )
            shape = rgb.shape
            time = index / self.fps if self.fps else 0.0
            yield Frame(index, time, one_eye(rgb, self.stereo.layout))

    def count(
        self, fps: float | None = None, start: float = 0.0, seconds: float | None = None
    ) -> int | None:
        """How many frames :meth:`frames` will give; None if the file does not tell."""
        if self.kind == "video":
            return count_selected(probe(self.path), fps, start, seconds)
        return len(self._chosen(start, seconds))

    def _chosen(self, start: float, seconds: float | None) -> range:
        if self.kind == "image":
            if start:
                raise ValueError(f"start: {start:g} s, but {self.path} is a picture")
            return range(1)
        chosen = range(len(self.pictures))[slice(*frames_within(self.fps, start, seconds))]
        if not chosen:
            raise ValueError(f"{self.path}: no frames from {start:g} s on ({self.fps:g} per s)")
        return chosen


def open_source(path: str | Path, stereo: str = "auto", fps: float | None = None) -> Source:
    """Find out what a path is.

    Args:
        path: a video, a picture, or a folder of pictures (frames of one clip, by number).
        stereo: ``"auto"``, ``"mono"``, ``"tb"`` or ``"sbs"``.
        fps: rate of a folder of frames; :data:`FOLDER_FPS` if None or ``inf`` (every frame).
    Raises:
        FileNotFoundError: nothing there. ValueError: not something that can be read.
    """
    path = Path(path)
    if stereo not in ("auto", "mono", "tb", "sbs"):
        raise ValueError(f"stereo: {stereo!r}, wanted 'auto', 'mono', 'tb' or 'sbs'")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir():
        pictures = tuple(_pictures(path))
        if not pictures:
            raise ValueError(f"{path}: a folder without pictures, wanted the frames of a clip")
        choice, size = _picture(pictures[0], stereo)
        rate = FOLDER_FPS if fps is None or fps == math.inf else fps
        if not rate > 0:
            raise ValueError(f"fps: found {rate:g}, wanted a positive number")
        return Source(path, "folder", rate, len(pictures), choice, size, pictures)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        choice, size = _picture(path, stereo)
        return Source(path, "image", 0.0, 1, choice, size, (path,))
    info = probe(path)
    choice = resolve_stereo(info, stereo)
    size = _eye_size((info.height, info.width), choice)
    return Source(path, "video", info.fps, info.frames, choice, size)


def expand(paths: list[Path]) -> list[Path]:
    """Replace each folder that holds videos by those videos; keep everything else. Hidden files
    (some systems put one beside each film) are left out.

    Raises:
        ValueError: a folder that holds both videos and pictures.
    """
    found: list[Path] = []
    for path in paths:
        videos = []
        if path.is_dir():
            if (path / "record.json").is_file():
                raise ValueError(f"{path}: is a prediction; name what it was made from")
            files = (p for p in path.iterdir() if not p.name.startswith("."))
            videos = sorted(p for p in files if p.suffix.lower() in VIDEO_SUFFIXES)
            if videos and any(_pictures(path)):
                raise ValueError(f"{path}: holds videos and pictures; name the ones you want")
        found.extend(videos or [path])
    return found


def _picture(path: Path, stereo: str) -> tuple[StereoChoice, tuple[int, int]]:
    """Layout of a picture, and the size of one eye."""
    rgb = read_image(path)
    if stereo == "auto":
        choice = image_stereo(rgb)
    else:
        choice = StereoChoice(stereo, "as requested")  # type: ignore[arg-type]
    return choice, _eye_size((rgb.shape[0], rgb.shape[1]), choice)


def _eye_size(size: tuple[int, int], choice: StereoChoice) -> tuple[int, int]:
    height, width = (
        size[0] // (1 + (choice.layout == "tb")),
        size[1] // (1 + (choice.layout == "sbs")),
    )
    if height == 0 or width == 0:
        found = f"{size[1]} x {size[0]} pixels"
        raise ValueError(f"stereo: {choice.layout}, but {found} cannot hold two eyes")
    return height, width


def _pictures(folder: Path) -> list[Path]:
    """Pictures of a folder, ``frame2`` before ``frame10``; hidden files are left out."""

    def by_number(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", path.name)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    files = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted((p for p in files if p.suffix.lower() in IMAGE_SUFFIXES), key=by_number)
