"""Maps from files and folders, told apart, checked, and read one at a time.

    clip.npz                density (H, W), as `sal360 predict` writes it; or (T, H, W)
    clip.npy                (H, W) or (T, H, W)
    0012.png, 0012.jpg      grey, 8 or 16 bits
    clip.mp4                grey, a map per frame
    clip/                   one video: a map per frame, or a folder written by `sal360 predict`
    results/                many videos: such folders, or films and stacks of maps
    a data set              in any of the published layouts, as truth

Nothing is written, no code in a file is run, and every refusal begins with the path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sal360.datasets.layouts import LAYOUTS, open_dataset
from sal360.datasets.layouts.files import entries
from sal360.evaluation.clips import (
    ARRAYS,
    PICTURES,
    SWAPPED,
    Clip,
    FilmClip,
    FolderClip,
    Role,
    StackClip,
    Stored,
    file_clip,
    is_stack,
)
from sal360.evaluation.streams import Piece, Stream, Truths, resized
from sal360.results import PredictionFolder
from sal360.sources import VIDEO_SUFFIXES
from sal360.sphere import pixel_area

Values = Literal["auto", "density", "shares"]
MASS_TOLERANCE = 0.02
"""By how much the mass of what calls itself a density may miss 1: half precision, and rounding."""


class Files:
    """Maps on disk; a :class:`~sal360.evaluation.streams.Stream`.

    Args:
        path: a file or a folder, as the module says.
        role: what it is used as.
        values: what a value means. ``"density"``: per solid angle, any scale. ``"shares"``: a
            pixel's share of the mass, as of maps divided by their sum; it is divided by the
            pixel's area. ``"auto"``: a density, and maps that look like shares are refused.
    Raises:
        FileNotFoundError, OSError, ValueError: nothing there, no maps, several kinds of them; a
            prediction given as truth.
    """

    def __init__(self, path: str | Path, role: Role, values: Values = "auto") -> None:
        if values not in ("auto", "density", "shares"):
            raise ValueError(f"values: {values!r}, wanted 'auto', 'density' or 'shares'")
        self.path, self.role, self.values = Path(path), role, values
        self.name = self.path.resolve().name
        self.notes: list[str] = []
        self._clips = _clips(self.path, role)
        self._sizes: dict[str, tuple[int, int]] = {}
        self.eight_bit = False
        self._reading: Clip | None = None
        for clip in self._clips.values():
            self.notes.extend(clip.notes)

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(self._clips)

    def numbers(self, video: str) -> Sequence[int]:
        return self._clips[video].numbers

    def positional(self, video: str) -> bool:
        return self._clips[video].positional

    def place(self, video: str, number: int | None = None) -> str:
        clip = self._clips[video]
        return str(clip.path) if number is None else clip.file(number)

    def size(self, video: str) -> tuple[int, int]:
        if video not in self._sizes:
            clip = self._clips[video]
            first = next(iter(clip.read(clip.numbers[:1]))).values
            self._sizes[video] = (first.shape[-2], first.shape[-1])
        return self._sizes[video]

    def read(self, video: str, numbers: Sequence[int], size: tuple[int, int] | None) -> Piece:
        clip, maps, looked = self._clips[video], [], []
        if self._reading is not clip:
            if self._reading is not None:
                self._reading.release()
            self._reading = clip
        wanted = self.size(video)
        once = list(dict.fromkeys(numbers))  # a map that is held comes many times
        for number, stored in zip(once, clip.read(once), strict=True):
            file, shape = clip.file(number), stored.values.shape
            if shape != wanted:
                raise ValueError(
                    f"{file}: {shape[0]} x {shape[1]}, wanted {wanted[0]} x {wanted[1]} like the "
                    "first map of the video"
                )
            maps.append(self._map(stored, file))
            looked.append(stored.fixations)
        stacked = resized(torch.stack(maps), size)
        if len(once) < len(numbers):
            at = {number: k for k, number in enumerate(once)}
            stacked = stacked[[at[number] for number in numbers]]
            looked = [looked[at[number]] for number in numbers]
        if all(each is None for each in looked):
            return Piece(stacked, None)
        none = torch.zeros(0, 2, dtype=torch.float64)
        return Piece(stacked, [none if each is None else each for each in looked])

    def _map(self, stored: Stored, file: str) -> Tensor:
        values = stored.values
        self.eight_bit |= values.dtype == np.uint8
        map_ = torch.from_numpy(np.asarray(values, np.float64).copy())
        if not bool(map_.isfinite().all()):
            if self.role == "truth" and bool(map_.isnan().all()):
                return map_
            raise ValueError(f"{file}: holds NaN or infinite values")
        if float(map_.min()) < 0:
            raise ValueError(f"{file}: holds negative values, down to {float(map_.min()):.3g}")
        area = pixel_area(*map_.shape)[:, None]
        if self.values == "shares":
            return map_ / area
        if self.values == "auto" and values.dtype.kind == "f" and float(map_.max()) > 0:
            mass, total = float((map_ * area).sum()), float(map_.sum())
            off = abs(mass - 1) > MASS_TOLERANCE
            if off and abs(total - 1) < 1e-3:
                raise ValueError(
                    f"{file}: sums to 1 over its pixels (mass {mass:.3g} over the sphere): shares "
                    "of pixels, or a density scaled by pixels? say which by --values"
                )
            if off and stored.claims:
                raise ValueError(
                    f"{file}: says density, but its mass over the sphere is {mass:.4g}, wanted 1 "
                    "(or say --values density: any scale)"
                )
        return map_


def open_predictions(path: str | Path, values: Values = "auto") -> Files:
    """Predictions on disk.

    Raises:
        FileNotFoundError, OSError, ValueError: as :class:`Files`; a data set.
    """
    path = _there(path)
    for name, reason in _layouts(path):
        raise ValueError(f"{path}: a data set ({name}: {reason}), wanted predictions; {SWAPPED}")
    return Files(path, "predictions", values)


def open_truth(
    path: str | Path,
    layout: str | None = None,
    split: str | None = None,
    values: Values = "auto",
) -> Stream:
    """Truth on disk: a data set if it looks like one, else maps.

    Args:
        layout: a name of :data:`sal360.datasets.layouts.LAYOUTS`; None: the one it looks like.
        split: of a data set that has some.
    Raises:
        FileNotFoundError, OSError, ValueError: as :class:`Files`; a prediction; a folder that
            looks like several data sets.
    """
    path = _there(path)
    if layout is None and not _layouts(path):
        if split is not None:
            raise ValueError(f"{path}: not a data set, so it has no split {split!r}")
        return Files(path, "truth", values)
    settings = {} if split is None else {"split": split}
    try:
        dataset = open_dataset(path, layout, **settings)
    except TypeError:
        raise ValueError(f"{path}: this layout has no splits, found split {split!r}") from None
    except ValueError as error:
        raise _named(error, path) from None
    if not dataset.videos:
        raise ValueError(f"{path}: holds no videos that can be read")
    truths = Truths(dataset, name=path.resolve().name)
    truths.notes.append(f"truth is a data set, {dataset.recognised}")
    return truths


EIGHT_BIT = (
    "{what} in 8 bits: below 1/255 of a frame's maximum all is 0, and a value is known to 1/510 of "
    "it, which kld and information_gain feel most (a 0 where people looked makes them infinite; "
    "see eps)"
)


# --- which clips a path holds --------------------------------------------------------------------


def _clips(path: Path, role: Role) -> dict[str, Clip]:
    path = _there(path)
    if path.is_file():
        return {_stem(path): file_clip(path, role)}
    found, folders = _held(path)
    if _is_prediction(path):
        return {_stem(path): _prediction(path, role)}
    inside = {p: clip for p in folders if (clip := _video(p, role)) is not None}
    if found and inside:
        raise ValueError(
            f"{path}: holds maps and folders of maps ({found[0].name} and {next(iter(inside)).name}"
            "), wanted one video, or a folder for each"
        )
    if inside:
        return {p.name: clip for p, clip in inside.items()}
    if not found:
        raise ValueError(
            f"{path}: holds no maps, wanted .npz, .npy, .png, .jpg or .mp4, or folders of them"
        )
    films = [p for p in found if p.suffix.lower() in VIDEO_SUFFIXES]
    if films or is_stack(found[0]):
        if films and len(films) != len(found):
            other = next(p for p in found if p not in films)
            raise ValueError(f"{other}: beside films such as {films[0].name}, wanted one kind")
        return {_stem(p): file_clip(p, role) for p in found}
    return {_stem(path): _frames(path, found, role)}


def _video(folder: Path, role: Role) -> Clip | None:
    """A folder as one video, or None if no maps lie in it."""
    if _is_prediction(folder):
        return _prediction(folder, role)
    found, _ = _held(folder)
    return _frames(folder, found, role) if found else None


def _prediction(folder: Path, role: Role) -> Clip:
    try:
        record = PredictionFolder(folder).read_record()
    except RecursionError:
        raise ValueError(f"{folder / 'record.json'}: not JSON (nested too deeply)") from None
    if role == "truth":
        raise ValueError(f"{folder}: a prediction of sal360 (record.json), wanted truth; {SWAPPED}")
    maps = folder / "maps"
    found, _ = _held(maps) if maps.is_dir() else ([], [])
    if not found:
        raise ValueError(f"{maps}: holds no maps, wanted those of a prediction")
    source = record.get("source")
    kind = source.get("kind") if isinstance(source, dict) else None
    clip = _frames(maps, found, role, positional=kind == "folder")
    if record.get("status") != "complete":
        clip.notes.append(f"{folder}: an unfinished prediction (status {record.get('status')!r})")
    return clip


def _frames(folder: Path, found: list[Path], role: Role, positional: bool = False) -> Clip:
    """Maps of one video by the numbers in their names."""
    kinds = sorted({p.suffix.lower() for p in found})
    if len(kinds) > 1:
        raise ValueError(f"{folder}: holds {' and '.join(kinds)} files, wanted maps of one kind")
    if kinds[0] in VIDEO_SUFFIXES:
        if len(found) > 1:
            raise ValueError(f"{folder}: holds {len(found)} films, wanted one video in it")
        return FilmClip(found[0])
    if len(found) == 1 and is_stack(found[0]):
        return StackClip(found[0], role)
    files: dict[int, Path] = {}
    for path in found:
        digits = re.findall(r"\d+", path.stem)
        if not digits and len(found) > 1:
            raise ValueError(f"{path}: no number of a frame in its name")
        number = int(digits[-1][-18:]) if digits else 0
        if number in files:
            raise ValueError(f"{path}: frame {number} again, after {files[number].name}")
        files[number] = path
    return FolderClip(folder, files, positional or len(found) == 1, role)


def _held(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of maps, and folders, in a folder."""
    known = ARRAYS | PICTURES | VIDEO_SUFFIXES
    inside = entries(folder)
    files = [p for p in inside if p.suffix.lower() in known and not p.is_dir()]
    return files, [p for p in inside if p.is_dir()]


def _is_prediction(folder: Path) -> bool:
    # Also one whose record was lost: reading it says so.
    parts = all((folder / name).is_dir() for name in ("maps", "png"))
    return parts or (folder / "record.json").is_file()


def _layouts(path: Path) -> list[tuple[str, str]]:
    if not path.is_dir():
        return []
    found = ((name, one.recognise(path)) for name, one in LAYOUTS.items())
    return [(name, reason) for name, reason in found if reason]


def _there(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return path


def _stem(path: Path) -> str:
    path = path.resolve()
    return path.stem if path.is_file() else path.name


def _named(error: ValueError, path: Path) -> ValueError:
    text = str(error)
    return error if text.startswith(str(path)) else ValueError(f"{path}: {text}")
