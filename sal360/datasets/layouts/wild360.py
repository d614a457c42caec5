"""Wild-360 of Cheng et al. (CVPR 2018): videos, a map per frame for the test videos, two lists.

    ROOT/train.txt, ROOT/test.txt            names, one a line
    ROOT/data/train/NAME.mp4, data/test/...  videos
    ROOT/Wild360_GT_29/NAME.mp4/00000.npy    (960, 1920), the truth of frame 0, of the test videos

The data set is given on request; this arrangement is the one that the loader of PAVER (ECCV 2022)
describes. The code of CP-360 itself reads ``NAME.mp4`` and ``output25/NAME.mp4/00000.npy`` from
two folders of the user's choice, with lists ``test_25.txt`` and ``train_60.txt``; both namings are
taken. A video may also be a folder NAME of frames ``000000.jpg``, which is how CP-360 leaves them.

Uncertain: whether truth 00000 is that of the first frame (both loaders index it so, but CP-360's
feature extractor once numbered from 1); whether the last frames have one (its flow ends a frame
early). So frames after the last map have no truth, and a hole between maps is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sal360._check import in_range
from sal360.datasets.layouts import published
from sal360.datasets.layouts.base import LayoutDataset, OnError, Part, Problem, number_range
from sal360.datasets.layouts.files import density, entries, is_plain, read_list, read_map
from sal360.datasets.layouts.films import film_frames, film_length, picture_or_problem
from sal360.video import VideoInfo, probe

LISTS = {"train": ("train.txt", "train_60.txt"), "test": ("test.txt", "test_25.txt")}
TRUTH_FOLDERS = ("Wild360_GT_29", "output25")
VIDEO_FOLDERS = ("data/train", "data/test", "train", "test", "data", "videos", ".")
FRAME = re.compile(r"(\d{4,})\.(jpg|png)")
MAP = re.compile(r"(\d{5,})\.npy")
FPS = 30.0
"""Rate taken for videos that are folders of frames; of a film its own is read."""


class Wild360(LayoutDataset):
    """Reader of this layout.

    Args:
        root: its folder; never written to.
        split: ``"train"``, ``"test"`` or ``"all"``, by the lists of the folder; without lists by
            the folders ``data/train`` and ``data/test``; without these by the published lists.
            A name that a list repeats is one video; :attr:`repeated` has it.
        fps: rate of videos that are folders of frames.
        on_error: ``"raise"``, or ``"skip"`` a frame of which something is missing or broken.
    Raises:
        FileNotFoundError, ValueError: no such folder, no videos in it, a list that cannot be read.
    """

    name: ClassVar[str] = "wild360"

    def __init__(
        self,
        root: str | Path,
        split: Literal["all", "train", "test"] = "all",
        fps: float = FPS,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(root, on_error)
        if split not in ("all", "train", "test"):
            raise ValueError(f"split: {split!r}, wanted 'all', 'train' or 'test'")
        self.fps = in_range(fps, "fps", 0, 1000)
        self.paths = find_videos(self.root)
        self.truth_folder = find_truth(self.root)
        listed = split_names(self.root, split, self.paths)
        self.repeated = tuple(sorted(n for n, k in Counter(listed).items() if k > 1))
        self._videos = tuple(sorted(set(listed)))
        if not self._videos:
            raise ValueError(f"{self.root}: holds no videos of split {split!r}")
        self._info: dict[str, VideoInfo] = {}
        self._numbers: dict[str, Sequence[int]] = {}
        self._maps: dict[str, dict[int, Path]] = {}

    @property
    def videos(self) -> tuple[str, ...]:
        return self._videos

    def rate(self, video: str) -> float:
        path = self._path(self._known(video))
        return self.fps if path.is_dir() else self._probed(video).fps

    def numbers(self, video: str) -> Sequence[int]:
        if video not in self._numbers:
            path = self._path(video)
            if path.is_dir():
                there = _numbered(path)
                if not there:
                    raise ValueError(f"{path}: holds no frames 000000.jpg, 000001.jpg, ...")
                self._numbers[video] = number_range(there, 1, path)
            else:
                self._numbers[video] = range(film_length(self._probed(video)))
        return self._numbers[video]

    def maps(self, video: str) -> dict[int, Path]:
        """Files of the truth by the position of their frame; empty if a video has none."""
        if video not in self._maps:
            folder = truth_of_video(self.truth_folder, video)
            found = entries(folder) if folder is not None else []
            self._maps[video] = {int(m[1]): p for p in found if (m := MAP.fullmatch(p.name))}
        return self._maps[video]

    def has_truth(self, video: str) -> bool:
        """Whether there are maps of a video."""
        return bool(self.maps(self._known(video)))

    def _path(self, video: str) -> Path:
        path = self.paths.get(video)
        if path is None:
            wanted = self.root / "data" / f"{video}.mp4"
            raise FileNotFoundError(f"{wanted}: no such file; a list names it")
        return path

    def _probed(self, video: str) -> VideoInfo:
        if video not in self._info:
            self._info[video] = probe(self._path(video))
        return self._info[video]

    def _frame_path(self, video: str, number: int) -> Path:
        path = self._path(video)
        if not path.is_dir():
            return path
        return _numbered(path).get(number, path / f"{number:06d}.jpg")

    def _pictures(
        self, video: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | Problem]]:
        path = self._path(video)
        if not path.is_dir():
            yield from film_frames(self._probed(video), numbers)
            return
        there = _numbered(path)
        for number in numbers:
            yield number, picture_or_problem(there.get(number, path / f"{number:06d}.jpg"))

    def _beside(self, video: str, number: int, size: tuple[int, int]) -> Part:
        maps = self.maps(video)
        place = number - self.numbers(video)[0]
        if not maps or place > max(maps):
            return {"truth": None}
        folder = truth_of_video(self.truth_folder, video)
        path = maps.get(place) or (folder or self.root) / f"{place:05d}.npy"
        return {"truth": density(read_map(path), size)}


def find_videos(root: Path) -> dict[str, Path]:
    """Films and folders of frames by name, in the first of the places where they may lie."""
    found: dict[str, Path] = {}
    for place in VIDEO_FOLDERS:
        folder = root / place
        if not folder.is_dir():
            continue
        for path in entries(folder):
            if path.suffix == ".mp4":
                found.setdefault(path.stem, path)
            elif path.is_dir() and _numbered(path):
                found.setdefault(path.name, path)
    return found


def find_truth(root: Path) -> Path | None:
    """The folder of the maps."""
    named = [root / name for name in TRUTH_FOLDERS]
    others = [p for p in entries(root) if p.is_dir() and p.name.startswith("Wild360_GT")]
    return next((p for p in [*named, *others] if p.is_dir()), None)


def truth_of_video(folder: Path | None, video: str) -> Path | None:
    """The folder of one video's maps: ``NAME.mp4``, or ``NAME``."""
    if folder is None:
        return None
    return next((p for n in (f"{video}.mp4", video) if (p := folder / n).is_dir()), None)


def list_paths(root: Path) -> dict[str, Path]:
    """The lists of a folder, by split."""
    found: dict[str, Path] = {}
    for split, names in LISTS.items():
        for path in (p / name for name in names for p in (root, root / "utils", root / "data")):
            if path.is_symlink() or path.exists():
                found.setdefault(split, path)
    return found


def split_names(root: Path, split: str, paths: dict[str, Path]) -> list[str]:
    """Names of the videos of a split, repeated where a list repeats them."""
    lists = list_paths(root)
    wanted = ("train", "test") if split == "all" else (split,)
    if lists:
        if split == "all":
            unlisted = sorted(paths)
            return sorted({n for one in lists.values() for n in _names(one)} | set(unlisted))
        if split not in lists:
            there = ", ".join(p.name for p in lists.values())
            raise FileNotFoundError(f"{root / LISTS[split][0]}: no such file, only {there}")
        return _names(lists[split])
    if split == "all":
        return sorted(paths)
    by_folder = {name for name, path in paths.items() if path.parent.name in wanted}
    if by_folder:
        return sorted(by_folder)
    known = published.WILD360_TRAIN if split == "train" else published.WILD360_TEST
    return [name for name in known if name in paths]


def _names(path: Path) -> list[str]:
    names = [name.removesuffix(".mp4") for name in read_list(path)]
    for name in names:
        if not is_plain(name):
            raise ValueError(f"{path}: {name!r} is no name of a video")
    return names


def recognise(root: Path) -> str | None:
    """Why a folder looks like this layout, or None."""
    truth = find_truth(root)
    if truth is not None:
        return f"it holds a folder {truth.name}"
    lists = list_paths(root)
    if lists and find_videos(root):
        return f"it holds {next(iter(lists.values())).name} and videos"
    return None


def _numbered(folder: Path) -> dict[int, Path]:
    return {int(m[1]): p for p in entries(folder) if (m := FRAME.fullmatch(p.name))}
