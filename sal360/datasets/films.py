"""Any videos as a data set: what is asked for is decoded, when it is asked for.

There is no gaze in a film, so its items hold frames alone: enough for prediction, for weak
supervision (chapter 15) and to see how fast a training could be fed. A folder of pictures, the
frames of one clip, counts as a film.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import as_size, positive_int
from sal360.datasets.item import Item
from sal360.datasets.layouts.files import picture_tensor, read_picture
from sal360.datasets.store import FrameStore, content_hash
from sal360.images import IMAGE_SUFFIXES
from sal360.sources import FOLDER_FPS, VIDEO_SUFFIXES, Source, open_source
from sal360.video import VideoInfo, one_eye, probe, read_frames

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class _Film:
    """One film, and which of its frames are taken."""

    source: Source
    rate: float
    info: VideoInfo | None = None  # None: a folder of pictures
    times: NDArray[np.float64] | None = None  # seconds of every frame of the file, as shown
    chosen: NDArray[np.int64] | None = None  # numbers of the frames taken; None: not looked yet


class Films:
    """Videos, and folders of frames, read in pieces: a :class:`~sal360.datasets.item.VideoDataset`.

    A file is opened when the data set is made, and its index is read (not decoded) when its length
    is first asked for. A clip in the middle is decoded from the key frame before it on.

    Args:
        paths: a folder (its videos, and its sub-folders of pictures, or if it holds pictures, the
            one clip they are), a video, or several of these.
        fps: one frame in ``max(1, round(source_fps / fps))`` is taken, as
            :func:`sal360.video.read_frames` does; None: all. Of a folder of pictures all are
            taken, and this is the rate they are said to have (None: 8).
        stereo: ``"auto"``, ``"mono"``, ``"tb"`` or ``"sbs"``; the left eye is read.
        on_error: ``"raise"``, or ``"skip"``: films that cannot be opened are left out, and
            :attr:`skipped` says which and why.
        store: keeps decoded frames, so that a film is decoded once and not for every clip; used
            where ``size`` is given. A clip then comes from the disk, and the first one of a film
            waits until all of it is decoded.
        name: of the data set, for its items.
    Raises:
        FileNotFoundError: no such file. ValueError: nothing there, or films that cannot be read;
            one line with the first path and how many there are.
    """

    def __init__(
        self,
        paths: Paths,
        fps: float | None = 8.0,
        stereo: str = "auto",
        on_error: Literal["raise", "skip"] = "raise",
        store: FrameStore | None = None,
        name: str = "films",
    ) -> None:
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps: {fps}, wanted a positive number or None")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: {on_error!r}, wanted 'raise' or 'skip'")
        self.name, self.fps, self.store = name, fps, store
        self._hashes: dict[str, str] = {}
        self._unkept: set[str] = set()
        self.skipped: dict[str, str] = {}
        self._films: dict[str, _Film] = {}
        found = _found(paths)
        several = len({path.name for path in found}) < len(found)
        problems: list[OSError | ValueError] = []
        for path in found:
            video = str(path) if several else path.name
            try:
                self._films[video] = self._open(path, stereo)
            except (OSError, ValueError) as problem:
                problems.append(problem)
                self.skipped[video] = str(problem)
        if problems:
            told = f"{problems[0]} ({len(problems)} of {len(found)} films cannot be read)"
            if on_error == "raise" or not self._films:
                raise ValueError(told)
            warnings.warn(f"left out: {told}", UserWarning, stacklevel=2)

    def _open(self, path: Path, stereo: str) -> _Film:
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            raise ValueError(f"{path}: a picture, wanted a video or a folder of frames")
        source = open_source(path, stereo, self.fps if path.is_dir() else None)
        if source.kind == "folder":
            every = np.arange(len(source.pictures))
            return _Film(source, self.fps or FOLDER_FPS, chosen=every)
        step = 1 if self.fps is None else max(1, round(source.fps / self.fps))
        return _Film(source, source.fps / step, probe(path))

    @property
    def videos(self) -> tuple[str, ...]:
        """File names, sorted; whole paths where two are the same."""
        return tuple(self._films)

    def length(self, video: str) -> int:
        """Frames that are taken of a video."""
        return len(self._taken(video))

    def rate(self, video: str) -> float:
        """Of the frames taken: the source's rate over the step."""
        return self._known(video).rate

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip of the frames taken; ``indices`` are numbers of frames in the file.

        Damage that the decoder hides is not seen here; a frame that it cannot give is.

        Raises:
            ValueError: an unknown video, a window beyond its end; a frame that cannot be decoded,
                with the path and its number.
        """
        taken = self._taken(video)
        film = self._films[video]
        step = positive_int(step, "step")
        if not 0 <= start < len(taken):
            raise ValueError(f"start: {start}, but {film.source.path} has {len(taken)} frames")
        most = 1 + (len(taken) - 1 - start) // step
        length = most if length is None else positive_int(length, "length")
        if length > most:
            raise ValueError(
                f"length: {length}, but {film.source.path} has {most} frames from {start} on, "
                f"one in {step}"
            )
        wanted = taken[start : start + (length - 1) * step + 1 : step]
        size = None if size is None else as_size(size, "size")
        kept = self._kept(video, size) if size is not None else None
        if kept is not None:
            frames = _clip(kept[start : start + (length - 1) * step + 1 : step])
        elif film.info is not None:
            frames = _clip(np.stack(_decoded(film, wanted, size)))
        else:
            pictures = _pictures(film, wanted, size)
            frames = torch.stack([picture_tensor(rgb, size) for rgb in pictures])
        return Item(
            dataset=self.name,
            video=video,
            frames=frames,
            indices=torch.from_numpy(wanted.astype(np.int64)),
            fps=film.rate / step,
        )

    def _kept(self, video: str, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        film, taken = self._films[video], self._taken(video)
        if self.store is None or film.info is None or video in self._unkept:
            return None
        if video not in self._hashes:
            self._hashes[video] = content_hash(film.source.path)
        key = f"{self._hashes[video]} {film.source.stereo.layout} {film.rate!r} {size}"
        shape = (len(taken), *size, 3)
        try:
            return self.store.frames(
                key, shape, lambda first, last: _decoded(film, taken[first:last], size)
            )
        except (OSError, ValueError) as problem:  # damage somewhere, or a cache one cannot write
            self._unkept.add(video)
            warnings.warn(f"{video}: decoded for every clip ({problem})", stacklevel=3)
            return None

    def _known(self, video: str) -> _Film:
        if video not in self._films:
            some = ", ".join(map(repr, self.videos[:3]))
            raise ValueError(f"video: {video!r}, wanted one of {some} ({len(self.videos)} in all)")
        return self._films[video]

    def _taken(self, video: str) -> NDArray[np.int64]:
        film = self._known(video)
        if film.chosen is None:
            assert film.info is not None
            times = _times(film.info)
            step = max(1, round(film.info.fps / film.rate))
            film = replace(film, times=times, chosen=_grid(times, film.info, step))
            self._films[video] = film
        assert film.chosen is not None
        return film.chosen


def _found(paths: Paths) -> list[Path]:
    """Films under these paths, in order."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) else list(paths):
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if not path.is_dir() or _holds_pictures(path):
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        films = [p for p in inside if p.suffix.lower() in VIDEO_SUFFIXES and not p.is_dir()]
        films += [p for p in inside if p.is_dir() and _holds_pictures(p)]
        if not films:
            raise ValueError(f"{path}: holds neither videos nor pictures, wanted films")
        found.extend(sorted(films))
    if not found:
        raise ValueError("paths: none, wanted at least one film")
    return list(dict.fromkeys(found))


def _holds_pictures(folder: Path) -> bool:
    inside = [p.suffix.lower() for p in folder.iterdir() if not p.name.startswith(".")]
    return any(s in IMAGE_SUFFIXES for s in inside) and not any(s in VIDEO_SUFFIXES for s in inside)


def _times(info: VideoInfo) -> NDArray[np.float64]:
    """When each frame of a file is shown, from its packets: nothing is decoded."""
    import av

    with av.open(str(info.path.absolute()), options={"protocol_whitelist": "file"}) as container:
        still = av.stream.Disposition.attached_pic
        stream = next(s for s in container.streams.video if not s.disposition & still)
        stamps: list[int | None] = []
        with suppress(av.error.FFmpegError, IndexError):  # a file that ends before its time
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.pts)
        known = sorted(p for p in stamps if p is not None)
        if len(known) < len(stamps) or not known:  # a file without time stamps: count
            total = max(len(stamps), info.frames or 0)
            return np.arange(total, dtype=np.float64) / info.fps
        first = known[0] if stream.start_time is None else stream.start_time
        return (np.array(known, dtype=np.float64) - first) * float(stream.time_base or 1)


def _grid(times: NDArray[np.float64], info: VideoInfo, step: int) -> NDArray[np.int64]:
    """Numbers of the frames that ``read_frames`` keeps, from their times alone."""
    if step == 1 or not info.variable:
        return np.arange(0, len(times), step)
    place = np.floor((times - times[0]) * info.fps + 0.5).astype(np.int64) // step
    return np.unique(place, return_index=True)[1].astype(np.int64)


def _clip(rgb: NDArray[np.uint8]) -> Tensor:
    """``(T, H, W, 3)`` bytes to ``(T, 3, H, W)`` float32 in [0, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)))
    return planes.float().div_(255)


def _pictures(
    film: _Film, wanted: NDArray[np.int64], size: tuple[int, int] | None
) -> list[NDArray[np.uint8]]:
    found: list[NDArray[np.uint8]] = []
    for number in wanted:
        path = film.source.pictures[number]
        rgb = one_eye(read_picture(path), film.source.stereo.layout)
        if size is None and rgb.shape[:2] != film.source.size:
            raise ValueError(
                f"{path}: {rgb.shape[0]} x {rgb.shape[1]} pixels, wanted {film.source.size[0]} x "
                f"{film.source.size[1]} like the first frame"
            )
        found.append(rgb)
    return found


def _decoded(
    film: _Film, wanted: NDArray[np.int64], size: tuple[int, int] | None
) -> list[NDArray[np.uint8]]:
    """Frames by their times: numbers of frames are a guess after a seek, times are not."""
    info, times = film.info, film.times
    assert info is not None
    assert times is not None
    # At a constant rate the reader can leave frames out before it converts their colours.
    stride = 1 if info.variable or len(wanted) < 2 else int(wanted[1] - wanted[0])
    near = 1e-3 if info.variable else 0.5 / info.fps
    found: list[NDArray[np.uint8]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a frame that is lost is an error here
        frames = read_frames(
            info.path,
            fps=None if stride == 1 else info.fps / stride,
            start=max(0.0, float(times[wanted[0]])),
            stereo=film.source.stereo.layout,
            size=size,
        )
        for number in wanted:
            frame = next((f for f in frames if f.time > times[number] - near), None)
            if frame is None or frame.time > times[number] + near:
                raise ValueError(f"{info.path}: frame {number} cannot be decoded")
            found.append(frame.rgb)
    return found
