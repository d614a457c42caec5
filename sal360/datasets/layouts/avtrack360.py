"""AVTrack360: the heads of 48 people in 20 videos of 30 seconds, and one picture of each video.

    Head_rotation/N.json   observer N: a list of videos, each a list of sec, yaw, pitch, roll
    SRC_info/N.json        video N: what ffprobe said of it (size, frame rate, duration)
    images/N.jpg           one frame of video N, 3840 x 2160

The films themselves are not part of it, and most links to them are dead, so every frame of a
clip read here **is the one published picture**: the gaze moves, the picture does not. It is head
data: the point is where the nose pointed, the eye roams some 15 degrees around it. Chapter 10.

Source: Fremerey et al., "AVTrack360: an open dataset and software recording people's head
rotations watching 360 degree videos on an HMD", MMSys 2018, and the page of its data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import as_size, positive_int
from sal360.datasets import download
from sal360.datasets.item import Item
from sal360.datasets.layouts.files import entries
from sal360.gaze.density import fixation_maps
from sal360.gaze.traces import Traces, side_by_side
from sal360.gaze.windows import interpolate
from sal360.images import read_image

TITLES = (
    *("Icebreaker", "Fireworks", "Helicopter", "Hawaii", "Penguins", "Diving", "Colonie"),
    *("Childs", "Wasala", "Carrara", "Edge of Space", "Arcachon", "La Grotte Chauvet"),
    *("Aliens", "Elisir", "Spotlight HELP", "Angel Falls", "Holifest", "Nerf battle", "Football"),
)
"""Of the videos 1 to 20, as the authors list them."""
SIGMA_DEG = 5.0
"""Width of the truth's kernel, degrees."""
LARGEST = 1 << 30
"""Values of truth that one clip may hold (4 GB)."""


class AVTrack360:
    """Reads the layout above; a :class:`~sal360.datasets.item.VideoDataset`.

    Args:
        root: folder that holds ``Head_rotation``, ``SRC_info`` and ``images``; None for the files
            of the registry, fetched when needed.
        sigma_deg: width of the truth's kernel.
    Raises:
        FileNotFoundError: a root without the first two folders.
    """

    name = "avtrack360"

    def __init__(self, root: str | Path | None = None, sigma_deg: float = SIGMA_DEG) -> None:
        self.root = None if root is None else Path(root)
        self.sigma_deg = sigma_deg
        for part in ("Head_rotation", "SRC_info"):
            if self.root is not None and not (self.root / part).is_dir():
                raise FileNotFoundError(f"{self.root / part}: no such folder; is this AVTrack360?")

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """Numbers of the videos, ``"1"`` to ``"20"``."""
        return tuple(self._names("SRC_info"))

    @cached_property
    def observers(self) -> tuple[str, ...]:
        """Numbers of the observers, ``"2"`` to ``"49"`` (the first was not published)."""
        return tuple(self._names("Head_rotation"))

    def title(self, video: str) -> str:
        """What the authors call a video."""
        number = self._known(video)
        place = int(number) if number.isdigit() else 0
        return TITLES[place - 1] if 1 <= place <= len(TITLES) else number

    def length(self, video: str) -> int:
        """Frames of a video."""
        return self._info(video)[3]

    def rate(self, video: str) -> float:
        """Frames per second of a video, 30 or 29.97."""
        return float(self._info(video)[2])

    def duration(self, video: str) -> float:
        """Seconds that a video lasts."""
        return self.length(video) / self.rate(video)

    def traces(self, video: str) -> Traces:
        """Head directions of everyone who saw a video, about ten a second.

        Published: whole degrees, head up is negative pitch. Here: up is positive latitude, right
        is positive longitude, tilted right is positive roll. Several samples may be stamped 0:
        they were taken before the film began to move.

        Returns:
            :class:`~sal360.gaze.traces.Traces` of ``O`` observers.
        """
        number = self._known(video)
        seen = [o for o in self.observers if number in self._heads[o]]
        if not seen:
            raise ValueError(f"video: {video!r} has no head traces")
        samples = side_by_side([torch.from_numpy(self._heads[o][number]) for o in seen])
        time, yaw, pitch, roll = samples.unbind(-1)
        yaw, pitch, roll = (torch.deg2rad(angle) for angle in (yaw, pitch, roll))
        return Traces(tuple(seen), time, yaw, -pitch, roll)

    def picture(self, video: str) -> NDArray[np.uint8]:
        """The published frame without black bars: the whole sphere.

        The films are panoramas of the whole sphere, 3840 pixels wide and 1920, 2048 or 2160 high;
        the pictures show them in the middle of 2160 rows. So rows ``(2160 - height) / 2`` and on
        are the panorama, whatever its own dark rows at the poles look like, and one that is not
        2:1 has pixels that are not square. When in the film it was taken is not said.

        Returns:
            ``(H, W, 3)`` uint8 RGB, pixel centres as in :mod:`sal360.sphere`.
        """
        number = self._known(video)
        path = self._path(f"images/{number}.jpg")
        picture = read_image(path)
        width, height = self._info(video)[:2]
        bar, odd = divmod(picture.shape[0] - height, 2)
        if picture.shape[1] != width or bar < 0 or odd:
            raise ValueError(
                f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels, wanted {width} columns "
                f"and {height} rows, or more by an even number"
            )
        return picture[bar : bar + height]

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip of the one published picture with the head directions of each frame's time.

        See :class:`~sal360.datasets.item.VideoDataset`. ``frames`` is one picture, held once and
        shown ``T`` times (a view: clone it before writing into it). ``fixations`` holds where each
        observer's head pointed in the middle of a frame's time, on the arc between the samples
        around; ``truth`` is their density.

        Raises:
            ValueError: also a clip whose truth would fill more than 4 GB: give a ``size``.
        """
        total, rate = self.length(video), self.rate(video)
        step = positive_int(step, "step")
        if isinstance(start, bool) or not isinstance(start, int):
            raise TypeError(f"start: {start!r}, wanted a whole number")
        if not 0 <= start < total:
            raise ValueError(f"start: {start}, wanted 0 to {total - 1} in video {video!r}")
        count = -(-(total - start) // step) if length is None else positive_int(length, "length")
        indices = start + step * torch.arange(count)
        if int(indices[-1]) >= total:
            raise ValueError(
                f"length: {count} frames from {start} by {step}, but video {video!r} has {total}"
            )
        H, W = self._info(video)[1::-1] if size is None else as_size(size, "size")
        if count * H * W > LARGEST:
            raise ValueError(f"size: {count} frames of {H} x {W}, wanted a smaller size or length")
        traces = self.traces(video)
        when = (indices.double() + 0.5) / rate
        heads = torch.stack(interpolate(traces.time, traces.lon, traces.lat, when), -1)
        known = heads.isfinite().all(-1)
        fixations = tuple(heads[known[:, t], t] for t in range(count))
        return Item(
            dataset=self.name,
            video=video,
            frames=self._still(video, H, W).expand(count, -1, -1, -1),
            indices=indices,
            fps=rate / step,
            truth=fixation_maps(fixations, H, W, self.sigma_deg)[:, None],
            fixations=fixations,
        )

    def _still(self, video: str, H: int, W: int) -> Tensor:
        picture = self.picture(video)
        if picture.shape[:2] != (H, W):
            import cv2

            how = cv2.INTER_AREA if picture.shape[0] > H else cv2.INTER_LINEAR
            picture = np.asarray(cv2.resize(picture, (W, H), interpolation=how))
        return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255

    def _known(self, video: str) -> str:
        if video not in self.videos:
            raise ValueError(f"video: {video!r}, wanted one of {', '.join(self.videos)}")
        return video

    def _info(self, video: str) -> tuple[int, int, Fraction, int]:
        """Width, height, frames per second and number of frames of a film."""
        return _source(self._path(f"SRC_info/{self._known(video)}.json"))

    @cached_property
    def _heads(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Observer to video to ``(S, 4)`` seconds, and yaw, pitch, roll as published."""
        return {o: _heads(self._path(f"Head_rotation/{o}.json")) for o in self.observers}

    def _path(self, inside: str) -> Path:
        if self.root is None:
            return download.fetch(f"{self.name}/{inside}")
        return self.root / inside

    def _names(self, folder: str) -> list[str]:
        if self.root is None:
            paths = [Path(p) for p in download.registry() if p.startswith(f"{self.name}/{folder}/")]
        else:
            paths = entries(self.root / folder)
        found = numbered(paths, ".json")
        if not found:
            raise ValueError(f"{self.root or self.name}/{folder}: empty, wanted N.json")
        return sorted(found, key=lambda name: name.zfill(9))


def numbered(paths: Iterable[Path], suffix: str) -> dict[str, Path]:
    """Those of the files that are named by a number, by it."""
    return {p.stem: p for p in paths if p.suffix == suffix and p.stem.isdecimal()}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


@lru_cache(maxsize=64)
def _source(path: Path) -> tuple[int, int, Fraction, int]:
    info = _json(path)
    try:
        stream = next(s for s in info["streams"] if s["codec_type"] == "video")
        width, height, frames = (_count(stream[key]) for key in ("width", "height", "nb_frames"))
        over, _, under = str(stream["avg_frame_rate"]).partition("/")
        values = width, height, Fraction(_count(over), _count(under or 1)), frames
    except (KeyError, TypeError, ValueError, StopIteration, ZeroDivisionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: not what ffprobe says of a film ({what})") from None
    if not all(value > 0 for value in values):
        raise ValueError(f"{path}: size, rate or length of 0, wanted a film")
    return values


def _count(value: Any) -> int:
    # Fraction would take 1e999999999, and work on it.
    if not re.fullmatch(r"\d{1,9}", str(value)):
        raise ValueError(f"{str(value)[:20]!r}, wanted a whole number")
    return int(value)


def _heads(path: Path) -> dict[str, NDArray[np.float64]]:
    content = _json(path)
    found: dict[str, NDArray[np.float64]] = {}
    try:
        for entry in _entries(content):
            video, samples = _samples(path, entry)
            if video in found:
                raise ValueError(f"{path}: video {video}: there twice, wanted one entry")
            found[video] = samples
        return found
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: not head rotations of AVTrack360 ({what})") from None


def _entries(content: Any) -> Iterator[Any]:
    if not isinstance(content["data"], list):
        raise TypeError("data is not a list")
    yield from content["data"]


def _samples(path: Path, entry: Any) -> tuple[str, NDArray[np.float64]]:
    video = Path(entry["filename"]).stem
    keys = ("sec", "yaw", "pitch", "roll")
    rows = [[sample[key] for key in keys] for sample in entry["pitch_yaw_roll_data_hmd"]]
    try:
        samples = np.array(rows, np.float64).reshape(-1, 4)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{path}: video {video}: samples that are not numbers") from None
    if len(samples) == 0:
        raise ValueError(f"{path}: video {video}: no samples")
    if not (np.isfinite(samples).all() and np.abs(samples[:, 2]).max() <= 90):
        raise ValueError(f"{path}: video {video}: NaN, or a pitch beyond 90 degrees")
    return video, samples
