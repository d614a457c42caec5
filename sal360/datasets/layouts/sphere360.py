"""The data set of Zhang et al. (ECCV 2018): 104 videos as frames, and fixations in one pickle.

    ROOT/VIDEO/0001.jpg ...      frames, numbered from 1
    ROOT/VIDEO/0001_gt.npy       (1, H, W), a truth that their loader computed and left there
    ROOT/vinfo.pkl               vinfo[VIDEO]["0001"] = [(x, y), ...], in [0, 1]

Read as their loader does (``data.py`` of xuyanyu-shh/Saliency-detection-in-360-video at 119d7eb),
without its faults: it writes its truth into the data set, and the copy of it by Vo et al. also
writes zeros there where it finds none. Chapter 10 makes the truth of this data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import in_range, positive_int
from sal360.datasets.layouts.base import (
    LayoutDataset,
    OnError,
    Part,
    Problem,
    number_range,
    points_trouble,
    truth_of,
    unit_square_to_lonlat,
)
from sal360.datasets.layouts.files import density, entries, is_plain, read_map, read_picture
from sal360.safe_pickle import read_plain_pickle

VIDEOS = 104
"""Videos of the published data set: the split below is theirs for this many only."""
SPLIT_SEED = 367643
FPS = 30.0
"""Frames per second taken for the frames; no published file says at what rate they were made."""
FRAME = re.compile(r"(\d{4,})\.jpg")
TRUTH = re.compile(r"(\d{4,})_gt\.npy")


class Sphere360(LayoutDataset):
    """Reader of this layout.

    Args:
        root: the folder with ``vinfo.pkl``; never written to.
        split: ``"train"``, ``"test"`` or ``"all"``.
        subset: ``"80"``, the published training videos, or ``"40"``, the first 40 of them that
            the published draw gives: drawing 40 instead of 80 with the same seed yields these.
            The 24 test videos are the same for both. Of a folder with another number of videos
            the same share is drawn in the same way.
        interval: ``previous`` is the truth this many frames earlier. Of the first ``interval``
            frames it is one fixation straight ahead, as published.
        sigma_deg: width of the blob around a fixation; theirs is pi / 20, 9 degrees.
        truth: ``"fixations"`` computes it from ``vinfo.pkl`` (:mod:`sal360.gaze`);
            ``"published"`` reads ``_gt.npy`` and makes it a density: faults and all, it then is
            what their network learned from. None: neither truth nor previous.
        fps: see :data:`FPS`.
        on_error: what to do with a frame of which a file is missing or broken: ``"raise"``, or
            ``"skip"`` it.
    Raises:
        FileNotFoundError, ValueError: no folder, no ``vinfo.pkl``, or one that holds anything but
            the table above (nothing in it is run); an argument.
    """

    name: ClassVar[str] = "sphere360"

    def __init__(
        self,
        root: str | Path,
        split: Literal["all", "train", "test"] = "all",
        subset: Literal["80", "40"] = "80",
        interval: int = 5,
        sigma_deg: float = 9.0,
        truth: Literal["fixations", "published"] | None = "fixations",
        fps: float = FPS,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(root, on_error)
        if truth not in ("fixations", "published", None):
            raise ValueError(f"truth: {truth!r}, wanted 'fixations', 'published' or None")
        self.interval = positive_int(interval, "interval")
        self.sigma_deg = in_range(sigma_deg, "sigma_deg", 0, 180)
        self.truth = truth
        self.fps = in_range(fps, "fps", 0, 1000)
        self.vinfo = read_vinfo(self.root / "vinfo.pkl")
        folders = {p.name for p in entries(self.root) if p.is_dir()}
        everything = sorted(folders | set(self.vinfo))
        if not everything:
            raise ValueError(f"{self.root}: holds no videos")
        self._videos = tuple(everything[k] for k in split_positions(len(everything), split, subset))
        if not self._videos:
            raise ValueError(f"{self.root}: holds no videos of split {split!r}")
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._recent: dict[tuple[str, int, tuple[int, int]], Tensor | None] = {}

    @property
    def videos(self) -> tuple[str, ...]:
        return self._videos

    def rate(self, video: str) -> float:
        self._known(video)
        return self.fps

    def numbers(self, video: str) -> Sequence[int]:
        if video not in self._numbers:
            folder = self.root / video
            there = {int(m[1]) for p in _listed(folder) if (m := FRAME.fullmatch(p.name))}
            there |= {int(fid) for fid in self.vinfo.get(video, {}) if is_frame_id(fid)}
            if not there:
                raise ValueError(f"{folder}: holds no frames 0001.jpg, 0002.jpg, ...")
            self._numbers[video] = number_range(there, 1, folder)
        return self._numbers[video]

    def fixations(self, video: str, number: int) -> Tensor:
        """``(N, 2)`` float64 lon, lat of one frame.

        Raises:
            ValueError: none known of this frame, or not as published; with the path.
        """
        where = f"{self.root / 'vinfo.pkl'}: {video!r}, frame '{number:04d}'"
        points = self.vinfo.get(video, {}).get(f"{number:04d}")
        if points is None:
            raise ValueError(f"{where}: not in it")
        trouble = points_trouble(points)
        if trouble:
            raise ValueError(f"{where}: {trouble}")
        return unit_square_to_lonlat(np.asarray(points, np.float64))

    def _frame_path(self, video: str, number: int) -> Path:
        return self.root / video / f"{number:04d}.jpg"

    def _pictures(
        self, video: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | Problem]]:
        for number in numbers:
            try:
                yield number, read_picture(self._frame_path(video, number))
            except (OSError, ValueError) as problem:
                yield number, problem

    def _beside(self, video: str, number: int, size: tuple[int, int]) -> Part:
        fixations = self.fixations(video, number)
        part: Part = {"fixations": fixations, "truth": None, "previous": None}
        if self.truth is not None:
            part["truth"] = self._map(video, number, fixations, size)
            earlier = number - self.interval
            if earlier <= 0:  # their rule for the first frames
                part["previous"] = truth_of(torch.zeros(1, 2), size, self.sigma_deg)
            else:
                points = self.fixations(video, earlier)
                part["previous"] = self._map(video, earlier, points, size)
        return part

    def _map(
        self, video: str, number: int, fixations: Tensor, size: tuple[int, int]
    ) -> Tensor | None:
        key = (video, number, size)
        if key not in self._recent:  # the truth of a frame is the previous map of a later one
            if self.truth == "published":
                path = self.root / video / f"{number:04d}_gt.npy"
                made: Tensor | None = density(read_map(path), size)
            else:
                made = truth_of(fixations, size, self.sigma_deg)
            while len(self._recent) > 2 * self.interval:
                del self._recent[next(iter(self._recent))]
            self._recent[key] = made
        return self._recent[key]


def split_positions(count: int, split: str = "all", subset: str = "80") -> list[int]:
    """Which of ``count`` sorted videos belong to a split, ascending.

    Their code draws ``Random(367643).sample(videos, 80)`` from the 104 sorted names; the rest is
    the test set.
    """
    if split not in ("all", "train", "test"):
        raise ValueError(f"split: {split!r}, wanted 'all', 'train' or 'test'")
    if subset not in ("80", "40"):
        raise ValueError(f"subset: {subset!r}, wanted '80' or '40'")
    if split == "all":
        return list(range(count))
    wanted = max(1, 80 * count // VIDEOS) if count > 1 else count
    drawn = Random(SPLIT_SEED).sample(range(count), wanted)
    if split == "test":
        return sorted(set(range(count)) - set(drawn))
    return sorted(drawn if subset == "80" else drawn[: max(1, wanted // 2)])


def is_frame_id(fid: str) -> bool:
    """Whether a key of the table is a number like ``0001``."""
    return fid.isascii() and fid.isdigit() and 4 <= len(fid) <= 9


def read_vinfo(path: Path) -> dict[str, dict[str, Any]]:
    """The table of fixations: by video, then by frame. Points are checked when they are used.

    Raises:
        FileNotFoundError, ValueError: as :func:`sal360.safe_pickle.read_plain_pickle`; or a
            pickle of something else.
    """
    table = read_plain_pickle(path)
    if not isinstance(table, dict):
        raise ValueError(f"{path}: a {type(table).__name__}, wanted {{video: {{frame: points}}}}")
    for video, frames in table.items():
        if not (isinstance(video, str) and is_plain(video) and isinstance(frames, dict)):
            raise ValueError(f"{path}: entry {video!r}, wanted {{video: {{frame: points}}}}")
        if any(not isinstance(fid, str) for fid in frames):
            raise ValueError(f"{path}: {video!r}: a frame that is not named by text like '0001'")
    return table


def recognise(root: Path) -> str | None:
    """Why a folder looks like this layout, or None."""
    return (
        "it holds vinfo.pkl"
        if (root / "vinfo.pkl").is_symlink() or (root / "vinfo.pkl").exists()
        else None
    )


def _listed(folder: Path) -> list[Path]:
    return entries(folder) if folder.is_dir() else []
