"""The maps of one video on disk, and the files that hold them, each checked as it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.datasets.layouts.files import grey_channel, read_grey
from sal360.datasets.layouts.films import film_frames, film_length
from sal360.safe_arrays import map_npy, read_npy, read_npz
from sal360.sources import VIDEO_SUFFIXES
from sal360.video import probe

Role = Literal["predictions", "truth"]
ARRAYS = frozenset({".npz", ".npy"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
STACK = 1 << 28
"""Bytes of an archive that is opened whole: a stack of maps in one .npz. A .npy has no limit."""
SWAPPED = "are predictions and truth the wrong way round?"


class Stored(NamedTuple):
    """One map as it is stored.

    Attributes:
        values: ``(H, W)``. fixations: ``(N, 2)`` lon, lat in radians, if the file has any.
        claims: whether the file says that it is a density.
    """

    values: NDArray[Any]
    fixations: Tensor | None = None
    claims: bool = False


class Clip:
    """The maps of one video.

    Attributes:
        path: file or folder. numbers: of its frames, ascending.
        positional: whether they only count. notes: what a reader of the scores should know.
    """

    def __init__(self, path: Path, numbers: Sequence[int], positional: bool) -> None:
        self.path, self.numbers, self.positional = path, numbers, positional
        self.notes: list[str] = []

    def file(self, number: int) -> str:
        """What a message about a frame begins with."""
        return f"{self.path}: frame {number}"

    def read(self, numbers: Sequence[int]) -> Iterator[Stored]:
        """The maps of these frames."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go of what is held open; reading opens it again."""


class FolderClip(Clip):
    """A file per frame."""

    def __init__(self, path: Path, files: dict[int, Path], positional: bool, role: Role) -> None:
        super().__init__(path, tuple(sorted(files)), positional)
        self.files, self.role = files, role

    def file(self, number: int) -> str:
        return str(self.files[number])

    def read(self, numbers: Sequence[int]) -> Iterator[Stored]:
        for number in numbers:
            path = self.files[number]
            if path.suffix.lower() == ".npz":
                stored = _archive(path, self.role, number)
            elif path.suffix.lower() == ".npy":
                stored = Stored(_array(path))
            else:
                stored = Stored(read_grey(path))
            yield stored._replace(values=_single(stored.values, path))


class StackClip(Clip):
    """All frames in one array."""

    def __init__(self, path: Path, role: Role) -> None:
        self.role = role
        self._held: Stored | None = None
        stored = self._opened(path)
        if stored.fixations is not None and len(stored.values) != 1:
            raise ValueError(f"{path}: fixations beside {len(stored.values)} maps, wanted one map")
        super().__init__(path, range(len(stored.values)), True)

    def _opened(self, path: Path) -> Stored:
        npz = path.suffix.lower() == ".npz"
        stored = _archive(path, self.role, None) if npz else Stored(_array(path))
        maps = stored.values
        if maps.ndim == 4 and maps.shape[1] == 1:
            maps = maps[:, 0]
        if maps.ndim not in (2, 3) or 0 in maps.shape:
            raise ValueError(
                f"{path}: shape {stored.values.shape}, wanted (H, W), (T, H, W) or (T, 1, H, W)"
            )
        return stored._replace(values=maps[None] if maps.ndim == 2 else maps)

    def file(self, number: int) -> str:
        return str(self.path) if len(self.numbers) == 1 else super().file(number)

    def read(self, numbers: Sequence[int]) -> Iterator[Stored]:
        if self._held is None:
            self._held = self._opened(self.path)
        for number in numbers:
            yield self._held._replace(values=self._held.values[number])

    def release(self) -> None:
        self._held = None


class PictureClip(Clip):
    """One picture by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, range(1), True)

    def file(self, number: int) -> str:
        return str(self.path)

    def read(self, numbers: Sequence[int]) -> Iterator[Stored]:
        for _ in numbers:
            yield Stored(read_grey(self.path))


class FilmClip(Clip):
    """A map per frame of a film, decoded once, from the first to the last."""

    def __init__(self, path: Path) -> None:
        self.info = probe(path)
        super().__init__(path, range(film_length(self.info)), True)
        self._open: tuple[int, Iterator[Any]] | None = None

    def read(self, numbers: Sequence[int]) -> Iterator[Stored]:
        for number in numbers:
            if self._open is None or self._open[0] > number:
                self._open = (0, film_frames(self.info, range(len(self.numbers))))
            frames = self._open[1]
            self._open = (number + 1, frames)
            rgb = next((rgb for at, rgb in frames if at == number), None)
            if rgb is None:
                raise ValueError(f"{self.path}: frame {number} cannot be decoded")
            if isinstance(rgb, Exception):
                raise rgb
            yield Stored(grey_channel(rgb, self.path))

    def release(self) -> None:
        self._open = None


def file_clip(path: Path, role: Role) -> Clip:
    """A single file as one video."""
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return StackClip(path, role)
    if suffix in PICTURES:
        return PictureClip(path)
    if suffix in VIDEO_SUFFIXES:
        return FilmClip(path)
    raise ValueError(f"{path}: no kind of map, wanted .npz, .npy, .png, .jpg, .mp4 or a folder")


def is_stack(path: Path) -> bool:
    """Whether an array file holds several maps."""
    if path.suffix.lower() == ".npy":
        shape = _array(path).shape
    elif path.suffix.lower() == ".npz":
        shape = _values(read_npz(path, STACK), path).shape
    else:
        return False
    return len(shape) > 2 and shape[0] > 1


def _array(path: Path) -> NDArray[Any]:
    """A ``.npy``; a large one stays on disk until its maps are asked for."""
    large = path.is_file() and path.stat().st_size > STACK
    return _numbers(map_npy(path) if large else read_npy(path), path)


def _archive(path: Path, role: Role, number: int | None) -> Stored:
    """Map and fixations of a ``.npz``."""
    stored = read_npz(path, STACK)
    if role == "truth" and {"density", "index", "time"} <= set(stored):
        raise ValueError(f"{path}: a map that sal360 predicted, wanted truth; {SWAPPED}")
    values = _values(stored, path)
    index = stored.get("index")
    if number is not None and index is not None and index.flatten().tolist() != [number]:
        raise ValueError(f"{path}: says frame {index.tolist()}, its name says {number}")
    if "fixations" not in stored:
        return Stored(values, None, "density" in stored)
    points = stored["fixations"]
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise ValueError(f"{path}: fixations of shape {points.shape}, wanted (N, 2) lon, lat")
    looked = torch.from_numpy(np.asarray(points, np.float64)).reshape(-1, 2)
    if not bool(looked.isfinite().all()) or bool((looked[:, 1].abs() > np.pi / 2 + 1e-6).any()):
        raise ValueError(f"{path}: fixations beyond a pole, or NaN; wanted lon, lat in radians")
    return Stored(values, looked, "density" in stored)


def _values(stored: dict[str, NDArray[Any]], path: Path) -> NDArray[Any]:
    if "density" in stored:
        return _numbers(stored["density"], path)
    maps = [name for name, array in stored.items() if array.ndim >= 2 and name != "fixations"]
    if len(maps) != 1:
        names = ", ".join(map(repr, sorted(stored))) or "nothing"
        raise ValueError(f"{path}: holds {names}, wanted 'density', or one array of maps")
    return _numbers(stored[maps[0]], path)


def _numbers(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path}: dtype {array.dtype}, wanted numbers")
    return array


def _single(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """One map, whatever axes of one it came with."""
    if array.ndim < 2 or any(n != 1 for n in array.shape[:-2]) or 0 in array.shape:
        raise ValueError(f"{path}: shape {array.shape}, wanted one map (H, W)")
    return array.reshape(array.shape[-2:])
