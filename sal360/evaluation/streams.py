"""Where maps come from, read in pieces: arrays, a data set, a model that looks at its frames.

A stream is asked for some frames of a video and gives their maps; nothing holds a whole video.
Files are streams too: :mod:`sal360.evaluation.sources`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360._check import ArrayLike, as_tensor
from sal360.datasets.item import Item, VideoDataset
from sal360.inference import MAP_SIZE, ClipModel, predict_stream
from sal360.resampling import downsample_erp, sample_erp
from sal360.sphere import erp_directions

PIECE = 1 << 22
"""Pixels of maps that are held at a time; metrics need some ten doubles for each."""


class Piece(NamedTuple):
    """Some frames of a video.

    Attributes:
        maps: ``(n, H, W)``; a frame without truth is all NaN. None: there are no maps.
        fixations: for each frame ``(N, 2)`` lon, lat in radians; None: there are none.
    """

    maps: Tensor | None
    fixations: list[Tensor] | None


class Stream(Protocol):
    """Maps of videos by their names.

    Attributes:
        name: what it is called in a table. notes: what a reader of the scores should know.
    """

    name: str
    notes: list[str]

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos."""
        ...

    def numbers(self, video: str) -> Sequence[int] | None:
        """Numbers of its frames, ascending; None: the same map for all frames."""
        ...

    def positional(self, video: str) -> bool:
        """Whether the numbers only count, and say nothing of numbers in a source."""
        ...

    def size(self, video: str) -> tuple[int, int] | None:
        """``(H, W)`` of its maps; None if they come in any size."""
        ...

    def place(self, video: str, number: int | None = None) -> str:
        """The file or argument that a message about a video, or a frame, begins with."""
        ...

    def read(self, video: str, numbers: Sequence[int], size: tuple[int, int] | None) -> Piece:
        """Frames with these ascending numbers, after those read before; resized if asked for."""
        ...


def resized(maps: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Maps ``(n, h, w)`` at another size: areas averaged where they shrink."""
    if size is None or tuple(maps.shape[-2:]) == tuple(size):
        return maps
    maps = maps.float() if maps.dtype != torch.float64 else maps
    if size[0] <= maps.shape[-2] and size[1] <= maps.shape[-1]:
        return downsample_erp(maps[:, None], *size)[:, 0]
    return sample_erp(maps[:, None], erp_directions(*size))[:, 0]


class Arrays:
    """Maps in memory: for each video ``(T, H, W)``, ``(T, 1, H, W)``, an :class:`Item` with a
    truth, or one ``(H, W)`` that holds for all frames.

    Args:
        maps: video to maps. role: ``"predictions"`` or ``"truth"``, for messages.
        fixations: video to one ``(N, 2)`` for each frame; those of items need not be given again.
    """

    def __init__(
        self,
        maps: Mapping[str, Any],
        role: str,
        fixations: Mapping[str, Sequence[ArrayLike]] | None = None,
        name: str | None = None,
    ) -> None:
        if not maps:
            raise ValueError(f"{role}: empty, wanted maps of at least one video")
        for video in fixations or ():
            if video not in maps:
                raise ValueError(f"fixations: {video!r}, wanted a video of {role}: {_few(maps)}")
        self.role, self.name = role, name or role
        self.notes: list[str] = []
        self._maps: dict[str, Tensor | None] = {}
        self._looked: dict[str, list[Tensor]] = {}
        for video, value in maps.items():
            looked: Any = None
            if isinstance(value, Item):
                looked, value = value.fixations, value.truth
            if fixations is not None:
                looked = fixations.get(video, looked)
            if looked is not None:
                self._looked[video] = [
                    as_tensor(f, f"fixations[{video!r}]").double().reshape(-1, 2) for f in looked
                ]
            self._maps[video] = None if value is None else self._checked(video, value)
            maps_of = self._maps[video]
            if maps_of is None and looked is None:
                raise ValueError(f"{self.place(video)}: neither maps nor fixations")
            frames = len(maps_of) if maps_of is not None and maps_of.ndim == 3 else None
            if looked is not None and frames not in (None, len(looked)):
                raise ValueError(
                    f"fixations[{video!r}]: {len(looked)} sets, wanted {frames}, one for each frame"
                )

    def _checked(self, video: str, value: ArrayLike) -> Tensor:
        maps = as_tensor(value, self.place(video))
        if maps.ndim == 4 and maps.shape[1] == 1:
            maps = maps[:, 0]
        if maps.ndim not in (2, 3) or 0 in maps.shape:
            raise ValueError(f"{self.place(video)}: shape {tuple(maps.shape)}, wanted (T, H, W)")
        return maps

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(self._maps)

    def numbers(self, video: str) -> Sequence[int] | None:
        maps = self._maps[video]
        if maps is None:
            return range(len(self._looked[video]))
        return None if maps.ndim == 2 else range(len(maps))

    def positional(self, video: str) -> bool:
        return True

    def size(self, video: str) -> tuple[int, int] | None:
        maps = self._maps[video]
        return None if maps is None else (maps.shape[-2], maps.shape[-1])

    def place(self, video: str, number: int | None = None) -> str:
        return f"{self.role}[{video!r}]" + ("" if number is None else f"[{number}]")

    def read(self, video: str, numbers: Sequence[int], size: tuple[int, int] | None) -> Piece:
        maps, looked = self._maps[video], self._looked.get(video)
        chosen = list(numbers)
        if maps is not None:
            maps = resized(maps[None] if maps.ndim == 2 else maps[chosen], size)
            maps = maps.expand(len(chosen), -1, -1)
        if looked is None:
            return Piece(maps, None)
        held = len(looked) == 1 and self.numbers(video) is None
        return Piece(maps, [looked[0 if held else k] for k in chosen])


class Truths:
    """The truth of a data set.

    Args:
        dataset: its densities and fixations are read, piece by piece.
        videos: those wanted; all of them if None.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        videos: Sequence[str] | None = None,
        name: str | None = None,
        drawn: bool | None = None,
    ) -> None:
        self.dataset = dataset
        self.notes: list[str] = []
        self.name = name or dataset.name
        self._videos = tuple(dataset.videos if videos is None else videos)
        # Truth drawn from fixations comes in any size; stored maps have their own.
        stored = getattr(dataset, "truth", None) == "published"
        self.drawn = dataset.name in DRAWN and not stored if drawn is None else drawn
        self._frames: dict[str, tuple[int, int]] = {}

    @property
    def eight_bit(self) -> bool:
        """Whether maps of 8 bits were among those read."""
        return getattr(self.dataset, "eight_bit", False)

    @property
    def videos(self) -> tuple[str, ...]:
        return self._videos

    def numbers(self, video: str) -> Sequence[int]:
        known = getattr(self.dataset, "numbers", None)
        return range(self.dataset.length(video)) if known is None else known(video)

    def positional(self, video: str) -> bool:
        return False

    def size(self, video: str) -> tuple[int, int] | None:
        if self.drawn:
            return None
        if video not in self._frames:
            self._frames[video] = self.dataset.read(video, length=1).size
        return self._frames[video]

    def place(self, video: str, number: int | None = None) -> str:
        root = getattr(self.dataset, "root", None) or self.name
        return f"{root}: video {video}" + ("" if number is None else f", frame {number}")

    def read(self, video: str, numbers: Sequence[int], size: tuple[int, int] | None) -> Piece:
        maps: list[Tensor | None] = []
        looked: list[Tensor | None] = []
        known = self.numbers(video)
        at = {number: k for k, number in enumerate(known)}
        for start, length, step in _runs([at[number] for number in numbers]):
            item = self.dataset.read(video, start, length, step, size)
            there = {int(n): k for k, n in enumerate(item.indices)}
            for k in range(start, start + length * step, step):
                row = there.get(int(known[k]), -1)  # -1: left out, neither map nor fixations
                maps.append(None if row < 0 or item.truth is None else item.truth[row, 0])
                looked.append(None if row < 0 or item.fixations is None else item.fixations[row])
        return Piece(_filled(maps), _listed(looked))


DRAWN = frozenset({"sphere360", "salient360", "avtrack360", "synthetic-worlds"})
"""Data sets whose truth is drawn from fixations, at any size."""


class Predicted:
    """What a model says of the frames of a data set, and of nothing else: it never sees a truth.

    So a network that was trained with the truth of an earlier frame as an input has to live on
    its own predictions here, as it would on a film of which no truth is known.

    Args:
        model: from :func:`sal360.models.load_model`. dataset: its frames are given to the model.
        frame_size: ``(H, W)`` at which frames are read; as stored if None.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: VideoDataset,
        frame_size: tuple[int, int] | None = None,
        name: str | None = None,
    ) -> None:
        origin = getattr(model, "origin", None) or {}
        self.name = name or origin.get("name") or type(model).__name__
        self.model, self.dataset, self.frame_size = model, dataset, frame_size
        self.notes: list[str] = []
        self._truths = Truths(dataset)
        self._open: tuple[str, int, Iterator[Tensor]] | None = None

    @property
    def videos(self) -> tuple[str, ...]:
        return self._truths.videos

    def numbers(self, video: str) -> Sequence[int]:
        return self._truths.numbers(video)

    def positional(self, video: str) -> bool:
        return False

    def size(self, video: str) -> tuple[int, int] | None:
        return None

    def place(self, video: str, number: int | None = None) -> str:
        return f"{self.name}: {self._truths.place(video, number)}"

    def read(self, video: str, numbers: Sequence[int], size: tuple[int, int] | None) -> Piece:
        known = self.numbers(video)
        at = {number: k for k, number in enumerate(known)}
        maps = []
        for wanted in (at[number] for number in numbers):
            if self._open is None or self._open[0] != video or self._open[1] > wanted:
                stream = predict_stream(
                    self._pictures(video), cast(ClipModel, self.model), size or MAP_SIZE
                )
                self._open = (video, 0, stream)
            _, done, stream = self._open
            for _ in range(wanted - done):
                next(stream)
            maps.append(next(stream))
            self._open = (video, wanted + 1, stream)
        return Piece(torch.stack(maps), None)

    def _pictures(self, video: str) -> Iterator[NDArray[np.uint8]]:
        total = self.dataset.length(video)
        start, many = 0, 1  # the first tells how large frames are
        while start < total:
            item = self.dataset.read(video, start, min(many, total - start), 1, self.frame_size)
            if len(item) != min(many, total - start):
                raise ValueError(f"{self.place(video)}: a frame is missing, wanted all of them")
            for frame in item.frames:
                yield (frame.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
            start += len(item)
            many = max(1, PIECE // math.prod(item.size))


def _few(videos: Iterable[str]) -> str:
    names = [repr(video) for video in videos]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Ascending positions as runs of equal steps: start, length, step."""
    k = 0
    while k < len(positions):
        step = positions[k + 1] - positions[k] if k + 1 < len(positions) else 1
        last = k
        while last + 1 < len(positions) and positions[last + 1] - positions[last] == step:
            last += 1
        yield positions[k], last - k + 1, step
        k = last + 1


def _filled(maps: list[Tensor | None]) -> Tensor | None:
    known = next((one for one in maps if one is not None), None)
    if known is None:
        return None
    blank = torch.full_like(known, math.nan)
    return torch.stack([blank if one is None else one for one in maps])


def _listed(looked: list[Tensor | None]) -> list[Tensor] | None:
    if all(one is None for one in looked):
        return None
    none = torch.zeros(0, 2, dtype=torch.float64)
    return [none if one is None else one for one in looked]
