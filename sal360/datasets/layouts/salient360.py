"""Salient360!: pictures and videos, scanpaths of heads (H) and of heads with eyes (HE), maps.

    ROOT/Stimuli/1_PortoRiverside.mp4 | P1.jpg
    ROOT/H/Scanpaths/1_PortoRiverside_fixations.csv | Hscanpath_1.txt
    ROOT/HE/Scanpaths/{L,R}/1_PortoRiverside_fixations.csv | HEscanpath_1.txt
    ROOT/{H,HE}/SalMaps/1_PortoRiverside_2048x1024x500_32b.bin | HEsalmap_1_2048x1024_32b.bin

Tables are described in :mod:`sal360.datasets.layouts.scanpaths`. A ``.bin`` holds float32 maps,
row by row, frame after frame, of the size in its name.

Read from the descriptions that come with the two data sets (Rai et al., MMSys 2017; David et al.,
MMSys 2018; Zenodo record 10650505) and from code that reads them. Uncertain: the numbers in names
differ between editions (``1_`` or ``01_``), so they are compared as numbers; whether a map is a
density per pixel or per solid angle is not said, and it is taken as the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import in_range
from sal360.datasets.layouts.base import LayoutDataset, OnError, Part, Problem, truth_of
from sal360.datasets.layouts.files import density, entries, map_trouble
from sal360.datasets.layouts.films import film_frames, film_length, picture_or_problem
from sal360.datasets.layouts.scanpaths import ObserverFixations, Unit, read_scanpaths
from sal360.video import VideoInfo, probe

SIGMA_DEG = {"H": 3.34, "HE": 2.0}
"""Published widths of the blob around a head's direction and around a fixation."""
PICTURE_SECONDS = 25.0
"""How long each picture was shown; an item of a picture is one frame of that length."""
FILMS = (".mp4", ".mkv", ".webm", ".mov")
PICTURES = (".jpg", ".jpeg", ".png")
TABLE = re.compile(r"(?:(?P<film>.+)_fixations|(?:HE?scanpath)_(?P<picture>\d+))\.(?:csv|txt)")
BINARY = re.compile(
    r"(?:HE?salmap_(?P<picture>\d+)|(?P<film>.+?))_(\d+)x(\d+)(?:x(\d+))?_(16|32|64)b\.bin"
)

SAME_STIMULUS = "of the same stimulus as {}, wanted one of them"
SAME_GAZE = "of the same stimulus and eye as {}, wanted one of them"


class Salient360(LayoutDataset):
    """Reader of this layout.

    Args:
        root: the folder that holds ``H`` or ``HE``, and perhaps ``Stimuli``; never written to.
        modality: ``"HE"``, fixations of the eyes, or ``"H"``, of the head; None: HE if it is there.
        eyes: which tables of HE: ``"L"``, ``"R"`` or ``"LR"``, both eyes as published.
        sigma_deg: width of the blob around a fixation; None: as published.
        truth: ``"fixations"`` computes it; ``"published"`` reads the ``.bin``; None: none.
        unit: of the times in the tables; see :mod:`sal360.datasets.layouts.scanpaths`.
        on_error: ``"raise"``, or ``"skip"`` a frame of which something is missing or broken.
    Raises:
        FileNotFoundError, ValueError: no such folder, no tables in it; an argument.

    Without ``Stimuli`` there are no frames: :attr:`videos` is empty, and :meth:`gaze` gives the
    fixations of each of :attr:`tables`.
    """

    name: ClassVar[str] = "salient360"

    def __init__(
        self,
        root: str | Path,
        modality: Literal["H", "HE"] | None = None,
        eyes: Literal["L", "R", "LR"] = "LR",
        sigma_deg: float | None = None,
        truth: Literal["fixations", "published"] | None = "fixations",
        unit: Unit = "auto",
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(root, on_error)
        if modality not in ("H", "HE", None):
            raise ValueError(f"modality: {modality!r}, wanted 'H', 'HE' or None")
        if eyes not in ("L", "R", "LR"):
            raise ValueError(f"eyes: {eyes!r}, wanted 'L', 'R' or 'LR'")
        if truth not in ("fixations", "published", None):
            raise ValueError(f"truth: {truth!r}, wanted 'fixations', 'published' or None")
        self.modality = modality or ("HE" if find_tables(self.root, "HE") else "H")
        self.truth, self.unit = truth, unit
        wide = SIGMA_DEG[self.modality] if sigma_deg is None else sigma_deg
        self.sigma_deg = in_range(wide, "sigma_deg", 0, 180)
        self._tables = {
            key: [(side, path) for side, path in tables if not side or side in eyes]
            for key, tables in find_tables(self.root, self.modality).items()
        }
        if not self._tables:
            folder = self.root / self.modality / "Scanpaths"
            raise FileNotFoundError(f"{folder}: holds no tables NAME_fixations.csv")
        self.stimuli = find_stimuli(self.root)
        self._maps = find_binaries(self.root, self.modality)
        self._info: dict[str, VideoInfo] = {}
        self._gaze: dict[str, list[ObserverFixations]] = {}

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the stimuli of which there is a table; a picture is a video of one frame."""
        return tuple(n for n, p in self.stimuli.items() if key_of(p.stem) in self._tables)

    @property
    def tables(self) -> tuple[str, ...]:
        """Keys of the tables, for :meth:`gaze`, with or without stimuli."""
        return tuple(self._tables)

    def gaze(self, video: str) -> list[ObserverFixations]:
        """Fixations of every observer, the tables of both eyes one after the other.

        Args:
            video: a name of :attr:`videos`, or a key of :attr:`tables`.
        Raises:
            ValueError: an unknown name; a table that is none; two tables of one eye, or one of
                both eyes beside those of each; with the path.
        """
        key = video if video in self._tables else key_of(video)
        if key not in self._tables:
            raise ValueError(f"video: {video!r}, wanted one of {', '.join(self.tables[:5])}, ...")
        if key not in self._gaze:
            for path, earlier in same_gaze(self._tables[key]):
                raise ValueError(f"{path}: {SAME_GAZE.format(earlier)}")
            observers = [read_scanpaths(path, self.unit) for _, path in self._tables[key]]
            self._gaze[key] = [one for table in observers for one in table]
        return self._gaze[key]

    def rate(self, video: str) -> float:
        path = self.stimuli[self._known(video)]
        return self._probed(video).fps if _is_film(path) else 1 / PICTURE_SECONDS

    def numbers(self, video: str) -> Sequence[int]:
        if not _is_film(self.stimuli[video]):
            return range(1)
        return range(film_length(self._probed(video)))

    def fixations(self, video: str, number: int) -> Tensor:
        """``(N, 2)`` lon, lat of whatever was looked at while a frame was shown."""
        rate, points = self.rate(video), []
        for one in self.gaze(video):
            shown = (one.onset < (number + 1) / rate) & (one.until() > number / rate)
            points.append(torch.stack((one.lon[shown], one.lat[shown]), 1))
        return torch.cat(points)

    def _probed(self, video: str) -> VideoInfo:
        if video not in self._info:
            self._info[video] = probe(self.stimuli[video])
        return self._info[video]

    def _frame_path(self, video: str, number: int) -> Path:
        return self.stimuli[video]

    def _pictures(
        self, video: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8] | Problem]]:
        path = self.stimuli[video]
        if _is_film(path):
            yield from film_frames(self._probed(video), numbers)
        else:
            yield 0, picture_or_problem(path)

    def _beside(self, video: str, number: int, size: tuple[int, int]) -> Part:
        fixations = self.fixations(video, number)
        part: Part = {"fixations": fixations, "truth": None}
        if self.truth == "fixations":
            part["truth"] = truth_of(fixations, size, self.sigma_deg)
        elif self.truth == "published":
            paths = self._maps.get(key_of(self.stimuli[video].stem), [])
            if not paths:
                wanted = self.root / self.modality / "SalMaps" / f"{video}_*.bin"
                raise FileNotFoundError(f"{wanted}: no such file")
            if len(paths) > 1:
                raise ValueError(f"{paths[1]}: {SAME_STIMULUS.format(paths[0])}")
            part["truth"] = density(read_binary_map(paths[0], number), size)
        return part


def key_of(stem: str) -> str:
    """What a stimulus, its tables and its maps share: ``1_Diner`` of ``01_Diner``, 7 of ``P7``."""
    found = re.fullmatch(r"(?:P|HE?scanpath_|HE?salmap_)?0*(\d+)((?:_.+)?)", stem)
    if found is None:
        return stem.removesuffix("_fixations")
    return f"{found[1]}{found[2].removesuffix('_fixations')}"


def find_tables(root: Path, modality: str) -> dict[str, list[tuple[str, Path]]]:
    """Tables by key, each with its eye: "L", "R", or "" where they are not split."""
    found: dict[str, list[tuple[str, Path]]] = {}
    top = root / modality / "Scanpaths"
    for side in ("L", "R", ""):
        folder = top / side
        for path in entries(folder) if folder.is_dir() else []:
            if TABLE.fullmatch(path.name):
                found.setdefault(key_of(path.stem), []).append((side, path))
    return dict(sorted(found.items(), key=lambda item: _by_number(item[0])))


def same_gaze(tables: Sequence[tuple[str, Path]]) -> Iterator[tuple[Path, Path]]:
    """Tables of a key that would be counted twice, each with the earlier one of the same eye."""
    for k, (side, path) in enumerate(tables):
        twins = [earlier for eye, earlier in tables[:k] if eye == side or not (eye and side)]
        if twins:
            yield path, twins[0]


def find_stimuli(root: Path) -> dict[str, Path]:
    """Films and pictures by name, in the order of their numbers."""
    folder = root / "Stimuli"
    there = entries(folder) if folder.is_dir() else []
    known = [p for p in there if p.suffix.lower() in FILMS + PICTURES and not p.is_dir()]
    return {p.stem: p for p in sorted(known, key=lambda p: _by_number(key_of(p.stem)))}


def find_binaries(root: Path, modality: str) -> dict[str, list[Path]]:
    """Published maps by key."""
    folder = root / modality / "SalMaps"
    found: dict[str, list[Path]] = {}
    for path in entries(folder) if folder.is_dir() else []:
        if match := BINARY.fullmatch(path.name):
            found.setdefault(key_of(match["picture"] or match["film"]), []).append(path)
    return found


def binary_shape(path: Path) -> tuple[int, int, int, np.dtype]:
    """Frames, height, width and type that the name of a ``.bin`` says.

    Raises:
        ValueError: another name, or a size that does not agree with it; with the path.
    """
    match = BINARY.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path}: wanted a name like 1_Diner_2048x1024x500_32b.bin")
    width, height, frames = (int(match[k] or 1) for k in (3, 4, 5))
    dtype = np.dtype(f"<f{int(match[6]) // 8}")
    there, wanted = path.stat().st_size, frames * height * width * dtype.itemsize
    if there != wanted or not wanted:
        kind = "cut short" if there < wanted else "too long"
        raise ValueError(f"{path}: {kind}: {there} bytes, its name says {wanted}")
    return frames, height, width, dtype


def read_binary_map(path: Path, number: int) -> NDArray[np.float64]:
    """One map of a ``.bin``; of one that holds a single map (a picture's), that one."""
    frames, height, width, dtype = binary_shape(path)
    if number >= frames:
        raise ValueError(f"{path}: holds {frames} maps, wanted that of frame {number}")
    try:
        with path.open("rb") as file:
            file.seek(number * height * width * dtype.itemsize)
            raw = file.read(height * width * dtype.itemsize)
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror}") from None
    values = np.frombuffer(raw, dtype).reshape(height, width)
    trouble = map_trouble(values)
    if trouble:
        raise ValueError(f"{path}: map {number}: {trouble}")
    return values.astype(np.float64)


def recognise(root: Path) -> str | None:
    """Why a folder looks like this layout, or None."""
    there = [f"{m}/Scanpaths" for m in ("H", "HE") if (root / m / "Scanpaths").is_dir()]
    return f"it holds {' and '.join(there)}" if there else None


def _is_film(path: Path) -> bool:
    return path.suffix.lower() in FILMS


def _by_number(key: str) -> tuple[int, str]:
    found = re.match(r"\d+", key)
    return (int(found[0]) if found else 10**9, key)
