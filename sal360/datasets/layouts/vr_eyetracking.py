"""VR-EyeTracking as SST-Sal prepares it: sampled frames, flow pictures, maps.

    ROOT/frames/VVV/VVV_FFFF.png           a frame; VVV the video, FFFF the frame's number in it
    ROOT/optical_flow/VVV/VVV_FFFF.png     RAFT's colour picture of the flow from it, if any
    ROOT/saliency_maps/VVV/FFFF.png        grey, the truth, if any
    ROOT/train_split_VRET.txt, test_...    names in one line, separated by commas

Frames are every ``round(fps / 8)``-th of the video (:func:`sampling_step`), and keep their number
in it. Read from ``DataLoader360Video.py``, ``utils.py``, ``config.py`` and the README of
edurnebernal/SST-Sal at 0d1df52. Its loader hands pictures to the network as OpenCV reads them,
blue first; an :class:`~sal360.datasets.item.Item` is RGB as everywhere, and
:func:`published_channels` makes the network's input of it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import in_range, positive_int
from sal360.datasets.item import Item
from sal360.datasets.layouts import published
from sal360.datasets.layouts.base import LayoutDataset, OnError, Part, Problem, number_range
from sal360.datasets.layouts.files import (
    density,
    entries,
    is_plain,
    picture_tensor,
    read_list,
    read_map,
    read_picture,
)
from sal360.datasets.layouts.films import picture_or_problem

SAMPLES_PER_SECOND = 8
SEQUENCE = 20
"""Frames of a published sequence."""
SKIP = 20
"""Frames at the start of a video that no sequence holds: viewers were told where to look first."""
SIZE = (240, 320)
"""``(H, W)`` at which the published network is trained."""
FRAME = re.compile(r"(\w+)_(\d{4,})\.png")
MAP = re.compile(r"(\d{4,})\.png")
LISTS = {"train": "train_split_VRET.txt", "test": "test_split_VRET.txt"}
Split = Literal["all", "train", "validation", "test"]


class VREyeTracking(LayoutDataset):
    """Reader of this layout.

    Args:
        root: the folder that holds ``frames``; never written to.
        split: ``"all"``, or by the lists of the folder, else by the published ones: ``"test"``,
            ``"validation"`` (the first fifth of the training list, rounded up) and ``"train"``
            (the rest).
        source_fps: frames per second of the videos, to say at what rate frames were sampled. No
            published file tells it; None takes 8 frames a second for the sampled frames.
        flow: read the pictures of the flow where the folder has any.
        on_error: ``"raise"``, or ``"skip"`` a frame of which something is missing or broken.
    Raises:
        FileNotFoundError, ValueError: no ``frames``, no videos in it, a list that cannot be read.
    """

    name: ClassVar[str] = "vr-eyetracking"

    def __init__(
        self,
        root: str | Path,
        split: Split = "all",
        source_fps: float | None = None,
        flow: bool = True,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(root, on_error)
        if split not in ("all", "train", "validation", "test"):
            raise ValueError(f"split: {split!r}, wanted 'all', 'train', 'validation' or 'test'")
        self.source_fps = None if source_fps is None else in_range(source_fps, "source_fps", 0, 1e3)
        frames = self.root / "frames"
        if not frames.is_dir():
            raise FileNotFoundError(f"{frames}: no such folder")
        there = [p.name for p in entries(frames) if p.is_dir()]
        self._videos = tuple(split_names(self.root, split, there))
        if not self._videos:
            raise ValueError(f"{frames}: holds no videos of split {split!r}")
        self._has_flow = flow and (self.root / "optical_flow").is_dir()
        self._has_maps = (self.root / "saliency_maps").is_dir()
        self.eight_bit = False  # whether maps of 8 bits were read
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._steps: dict[str, int] = {}

    @property
    def videos(self) -> tuple[str, ...]:
        return self._videos

    def numbers(self, video: str) -> Sequence[int]:
        if video not in self._numbers:
            folder = self.root / "frames" / video
            there = frame_numbers(folder)
            if not there:
                raise ValueError(f"{folder}: holds no frames {video}_0000.png, ...")
            step = self._steps[video] = common_step(there)
            maps = map_numbers(self.root / "saliency_maps" / video)  # of lost frames too
            there |= {n for n in maps if (n - min(there)) % step == 0}
            self._numbers[video] = number_range(there, step, folder)
        return self._numbers[video]

    def rate(self, video: str) -> float:
        self.numbers(self._known(video))
        if self.source_fps is None:
            return float(SAMPLES_PER_SECOND)
        return self.source_fps / self._steps[video]

    def has_flow_picture(self, video: str) -> bool:
        """Whether there are pictures of the flow of a video."""
        return self._has_flow and (self.root / "optical_flow" / self._known(video)).is_dir()

    def has_truth(self, video: str) -> bool:
        """Whether there are maps of a video."""
        return (self.root / "saliency_maps" / self._known(video)).is_dir()

    def sequences(
        self, video: str, length: int = SEQUENCE, skip: int = SKIP, overlap: int = 0
    ) -> list[tuple[int, int]]:
        """Start and length of the published sequences, for :meth:`read`.

        The first ``skip`` frames are left out, then sequences follow one another, or overlap
        (by 4 where the published code predicts). Two of its rules that one might not expect: a
        sequence that ends with the video's last frame is dropped, and so is one of which any
        frame lacks its flow (its map, where there is no flow); the next one starts where it would
        have.
        """
        step = positive_int(length, "length") - overlap
        if not 0 <= overlap < length:
            raise ValueError(f"overlap: {overlap}, wanted 0 to {length - 1}")
        numbers = self.numbers(self._known(video))
        kept = []
        for start in range(skip, len(numbers) - length, step):
            if all(self._complete(video, n) for n in numbers[start : start + length]):
                kept.append((start, length))
        return kept

    def _complete(self, video: str, number: int) -> bool:
        name = f"{video}_{number:04d}.png"
        if not (self.root / "frames" / video / name).exists():
            return False
        if self._has_flow:
            return (self.root / "optical_flow" / video / name).exists()
        if self._has_maps:
            return (self.root / "saliency_maps" / video / f"{number:04d}.png").exists()
        return True

    def _same_size(
        self, video: str, number: int, picture: NDArray[np.uint8], resized: bool
    ) -> None:
        # Their extraction scales the first frame of a video, and no other, to 2048 x 1080.
        if not (resized and number == self.numbers(video)[0]):
            super()._same_size(video, number, picture, resized)

    def _frame_path(self, video: str, number: int) -> Path:
        return self.root / "frames" / video / f"{video}_{number:04d}.png"

    def _pictures(
        self, video: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | Problem]]:
        for number in numbers:
            yield number, picture_or_problem(self._frame_path(video, number))

    def _beside(self, video: str, number: int, size: tuple[int, int]) -> Part:
        part: Part = {"truth": None, "flow_picture": None}
        if self.has_truth(video):
            path = self.root / "saliency_maps" / video / f"{number:04d}.png"
            values = read_map(path)
            self.eight_bit |= bool(values.max() <= 255)
            part["truth"] = density(values, size)
        if self.has_flow_picture(video):
            path = self.root / "optical_flow" / video / f"{video}_{number:04d}.png"
            part["flow_picture"] = picture_tensor(read_picture(path), size)
        return part


def sampling_step(fps: float) -> int:
    """Which frames of a video the published code keeps: one in so many."""
    return max(1, round(in_range(fps, "fps", 0, 1000) / SAMPLES_PER_SECOND))


def published_channels(item: Item, flow: bool | None = None) -> Tensor:
    """The input of the published network: blue, green, red of the frame, then of the flow picture.

    Args:
        item: a clip; read it at ``size=SIZE`` for the published network.
        flow: with the flow picture (6 channels) or without (3); None: with it if there is one.
    Returns:
        ``(T, 6, H, W)`` or ``(T, 3, H, W)`` float32 in [0, 1].
    Raises:
        ValueError: a flow picture is wanted, and the item has none.
    """
    frames = item.frames.flip(1)
    if flow is None:
        flow = item.flow_picture is not None
    if not flow:
        return frames
    if item.flow_picture is None:
        raise ValueError(f"item: {item.video} has no flow picture, wanted one")
    return torch.cat((frames, item.flow_picture.flip(1)), dim=1)


def split_names(root: Path, split: str, there: list[str]) -> list[str]:
    """Names of the videos of a split, as its list orders them; those of ``there`` for "all"."""
    if split == "all":
        return sorted(there)
    path = root / LISTS["test" if split == "test" else "train"]
    if path.is_symlink() or path.exists():
        names = list(dict.fromkeys(read_list(path)))
        for name in names:
            if not is_plain(name):
                raise ValueError(f"{path}: {name!r} is no name of a video")
    else:
        known = published.VRET_TEST if split == "test" else published.VRET_TRAIN
        names = [name for name in known if name in there]
    held_out = math.ceil(0.2 * len(names))
    return {"test": names, "validation": names[:held_out], "train": names[held_out:]}[split]


def frame_numbers(folder: Path) -> set[int]:
    """Numbers of the frames, or flow pictures, of a folder named like its video."""
    found = entries(folder) if folder.is_dir() else []
    matches = (FRAME.fullmatch(p.name) for p in found)
    return {int(m[2]) for m in matches if m and m[1] == folder.name}


def map_numbers(folder: Path) -> set[int]:
    """Numbers of the maps of a folder."""
    found = entries(folder) if folder.is_dir() else []
    return {int(m[1]) for p in found if (m := MAP.fullmatch(p.name))}


def common_step(numbers: set[int]) -> int:
    """By how much the numbers of sampled frames grow: the commonest difference."""
    ordered = sorted(numbers)
    steps = Counter(b - a for a, b in pairwise(ordered))
    return steps.most_common(1)[0][0] if steps else 1


def recognise(root: Path) -> str | None:
    """Why a folder looks like this layout, or None."""
    frames = root / "frames"
    if frames.is_dir() and any(p.is_dir() for p in entries(frames)):
        with_it = [n for n in ("saliency_maps", "optical_flow") if (root / n).is_dir()]
        return " and ".join(f"{n}/" for n in ["frames", *with_it]) + " are in it"
    return None
