"""What the readers of the layouts share: windows of numbered frames, and what to do without one.

A reader says which numbers a video has, and how one frame and what belongs to it are read; the
rest is here. A file that is missing or broken is named. Only when asked is its frame left out,
and then it is counted, and the numbers in the item show the hole.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import as_size, positive_int
from sal360.datasets.item import Item
from sal360.datasets.layouts.files import picture_tensor

MOST_FRAMES = 10**6
OnError = Literal["raise", "skip"]
Problem = OSError | ValueError
Part = dict[str, Tensor | None]


class LayoutDataset:
    """Videos of one published layout; a :class:`sal360.datasets.item.VideoDataset`.

    Attributes:
        name: of the layout. root: its folder, which is only ever read.
        skipped: path of each file whose frame was left out, and why; empty unless ``on_error`` is
            ``"skip"``. A worker process keeps its own.
        recognised: why :func:`sal360.datasets.layouts.open_dataset` took it for this layout.
    """

    name: ClassVar[str]

    def __init__(self, root: str | Path, on_error: OnError) -> None:
        self.root = Path(root)
        if not self.root.exists():
            raise FileNotFoundError(f"{self.root}: no such folder")
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: not a folder")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: {on_error!r}, wanted 'raise' or 'skip'")
        self.on_error = on_error
        self.skipped: dict[str, str] = {}
        self.recognised = "as requested"
        self._sizes: dict[str, tuple[int, int]] = {}

    # --- said by each layout ---
    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos of this split, sorted."""
        raise NotImplementedError

    def numbers(self, video: str) -> Sequence[int]:
        """Published numbers of the frames of a video, those of missing files among them."""
        raise NotImplementedError

    def rate(self, video: str) -> float:
        """Frames per second of a video."""
        raise NotImplementedError

    def _pictures(
        self, video: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | Problem]]:
        """Each frame ``(H, W, 3)`` RGB, or why there is none."""
        raise NotImplementedError

    def _beside(self, video: str, number: int, size: tuple[int, int]) -> Part:
        """What belongs to a frame, by the name of the item's field; ``size`` of the result."""
        raise NotImplementedError

    # --- the same for all ---
    def length(self, video: str) -> int:
        """Frames of a video, those of missing files among them."""
        return len(self.numbers(self._known(video)))

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip: see :class:`sal360.datasets.item.VideoDataset`. ``indices`` are the published
        numbers; where frames were left out, they say which.
        """
        chosen = self._window(self._known(video), start, length, step)
        size = None if size is None else as_size(size, "size")
        frames: list[Tensor] = []
        kept: list[int] = []
        parts: list[Part] = []
        left_out: list[Problem] = []
        for number, picture in self._pictures(video, chosen):
            try:
                if isinstance(picture, Exception):
                    raise picture
                self._same_size(video, number, picture, size is not None)
                shape = size or (picture.shape[0], picture.shape[1])
                part = self._beside(video, number, shape)
            except (OSError, ValueError) as problem:
                if self.on_error == "raise":
                    raise problem from None
                left_out.append(problem)
                continue
            frames.append(picture_tensor(picture, size))
            kept.append(number)
            parts.append(part)
        self._count(video, left_out, len(chosen))
        if not frames:
            raise ValueError(f"{left_out[0]} (and no frame of {video} is left)")
        return Item(
            dataset=self.name,
            video=video,
            frames=torch.stack(frames),
            indices=torch.tensor(kept, dtype=torch.int64),
            fps=self.rate(video) / step,
            **_stacked(parts),
        )

    def _known(self, video: str) -> str:
        if video not in self.videos:
            raise ValueError(f"video: {video!r}, wanted one of {', '.join(self.videos[:5])}, ...")
        return video

    def _window(self, video: str, start: int, length: int | None, step: int) -> list[int]:
        numbers, step = self.numbers(video), positive_int(step, "step")
        if not 0 <= start < len(numbers):
            raise ValueError(f"start: {start}, but {video} has frames 0 to {len(numbers) - 1}")
        if length is None:
            return list(numbers[start::step])
        last = start + (positive_int(length, "length") - 1) * step
        if last >= len(numbers):
            most = 1 + (len(numbers) - 1 - start) // step
            raise ValueError(f"length: {length}, but {video} has {most} from there on")
        return list(numbers[start : last + 1 : step])

    def _same_size(
        self, video: str, number: int, picture: NDArray[np.uint8], resized: bool
    ) -> None:
        """All frames of a video are as large as most of its first three."""
        found = (picture.shape[0], picture.shape[1])
        if video not in self._sizes:
            first = [p for _, p in self._pictures(video, self.numbers(video)[:3])]
            sizes = [(p.shape[0], p.shape[1]) for p in first if not isinstance(p, Exception)]
            self._sizes[video] = Counter(sizes or [found]).most_common(1)[0][0]
        wanted = self._sizes[video]
        if found != wanted:
            raise ValueError(
                f"{self._frame_path(video, number)}: {found[0]} x {found[1]} pixels, "
                f"wanted {wanted[0]} x {wanted[1]} like the rest of {video}"
            )

    def _frame_path(self, video: str, number: int) -> Path:
        raise NotImplementedError

    def _count(self, video: str, left_out: list[Problem], wanted: int) -> None:
        for problem in left_out:
            path, _, reason = str(problem).partition(": ")
            self.skipped[path] = reason
        if left_out:
            warnings.warn(
                f"{video}: left out {len(left_out)} of {wanted} frames; first: {left_out[0]}",
                UserWarning,
                stacklevel=3,
            )


def _stacked(parts: list[Part]) -> dict[str, Any]:
    """The parts of the frames as fields of an item; what no frame has is None."""
    fields: dict[str, Any] = {}
    for name in parts[0]:
        column = [part[name] for part in parts]
        known = [value for value in column if value is not None]
        if not known:
            fields[name] = None
        elif name == "fixations":
            none = torch.zeros(0, 2, dtype=torch.float64)
            fields[name] = tuple(none if value is None else value for value in column)
        else:
            blank = torch.full_like(known[0], math.nan)
            fields[name] = torch.stack([blank if value is None else value for value in column])
    return fields


def number_range(there: Iterable[int], step: int, where: Path) -> tuple[int, ...]:
    """All numbers from the first to the last: those of missing frames are among them.

    Raises:
        ValueError: numbers too far apart to be those of one video.
    """
    numbers = sorted(there)
    first, last = numbers[0], numbers[-1]
    if (last - first) // step > MOST_FRAMES:
        raise ValueError(f"{where}: frames numbered {first} to {last}, not those of one video")
    return tuple(range(first, last + 1, step))


def unit_square_to_lonlat(xy: NDArray[np.float64]) -> Tensor:
    """``(N, 2)`` x, y in [0, 1] across and down a panorama, as lon, lat in radians.

    x = 0 is the panorama's left edge and x = 1 its right edge, the same meridian; y = 0 is the
    north pole and y = 1 the south pole. A continuous place, not a pixel: (.5, .5) is straight
    ahead, the corner of four pixels.
    """
    points = torch.from_numpy(np.ascontiguousarray(xy, dtype=np.float64)).reshape(-1, 2)
    lon = (points[:, 0] - 0.5) * (2 * math.pi)
    lon = torch.where(lon >= math.pi, lon - 2 * math.pi, lon)
    return torch.stack((lon, (0.5 - points[:, 1]) * math.pi), dim=1)


def lonlat_to_unit_square(lonlat: Tensor) -> NDArray[np.float64]:
    """The way back of :func:`unit_square_to_lonlat`."""
    x = torch.remainder(lonlat[:, 0] / (2 * math.pi) + 0.5, 1.0)
    return torch.stack((x, 0.5 - lonlat[:, 1] / math.pi), dim=1).numpy()


def points_trouble(points: Any) -> str | None:
    """What keeps the fixations of a frame, x and y in [0, 1], from being any."""
    try:
        xy = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        return "not numbers, wanted x, y pairs"
    if xy.size == 0:
        return None
    if xy.ndim != 2 or xy.shape[1] != 2:
        return f"shape {xy.shape}, wanted x, y pairs"
    if not np.isfinite(xy).all():
        return "a fixation that is NaN or infinite"
    if xy.min() < 0 or xy.max() > 1:
        k = int(np.argmax(((xy < 0) | (xy > 1)).any(1)))
        return f"fixation ({xy[k, 0]:g}, {xy[k, 1]:g}), wanted x, y in [0, 1]"
    return None


def truth_of(fixations: Tensor, size: tuple[int, int], sigma_deg: float) -> Tensor | None:
    """``(1, H, W)`` density of the fixations of a frame; None if there are none."""
    from sal360.gaze import fixations_to_density

    if len(fixations) == 0:
        return None
    return fixations_to_density(fixations[:, 0], fixations[:, 1], *size, sigma_deg)[None]
