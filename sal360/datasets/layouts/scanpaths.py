"""Fixations of many observers in one table, as the Salient360! data sets publish them.

A table has one fixation a line, observer after observer: the index starts again at 0 where the
next observer begins. Longitude and latitude are x and y in [0, 1] across and down the panorama.

    Idx, longitude, latitude, start timestamp                                   pictures; heads
    Idx, longitude, latitude, start timestamp, duration, start frame, end frame   eyes, videos

Columns are found by name in any order and spelling (the toolbox of the same authors writes
``# Fix_index, long_Gaze, lat_Gaze, Fix_time_start``), and by place where there is no header.
The descriptions beside the files say that times are in seconds; code that reads them takes them
for milliseconds. A viewing lasts 20 or 25 seconds, so a time beyond :data:`LONGEST` says which.

Sources: the descriptions of the data sets of images (Rai et al., MMSys 2017) and of videos (David
et al., MMSys 2018), and the toolbox David-Ef/salient360Toolbox.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sal360.datasets.layouts.base import unit_square_to_lonlat
from sal360.datasets.layouts.files import read_table

LONGEST = 200.0
"""Seconds. Times beyond it are milliseconds."""
Unit = Literal["auto", "s", "ms"]

# By words of a name: the first that a column's name matches. Gaze before eye-in-head and head.
_COLUMNS = {
    "index": r"(fix|fixation)?(idx|index|number|no)",
    "x": r"(long|lon|longitude)(gaze)?|x",
    "y": r"(lat|latitude)(gaze)?|y",
    "onset": r"(fix)?(start)?(time|timestamp|timestart)|start|starttime(stamp)?|onset|t",
    "end": r"(fix)?(end)(time|timestamp)?|fixtimeend|endtimestamp",
    "duration": r"(fix)?(duration|dur)",
    "first_frame": r"(start|begin|first)(ing)?frame",
    "last_frame": r"(end|last)(ing)?frame",
}
_PLACES = ("index", "x", "y", "onset", "duration", "first_frame", "last_frame")


@dataclass(frozen=True, eq=False)
class ObserverFixations:
    """What one observer looked at.

    Attributes:
        observer: number in the table, from 0.
        lon, lat: ``(N,)`` float64 radians.
        onset, duration: ``(N,)`` float64 seconds; a duration that the table does not give is NaN.
        frames: ``(N, 2)`` int64, first and last frame, where the table has them.
    """

    observer: int
    lon: Tensor
    lat: Tensor
    onset: Tensor
    duration: Tensor
    frames: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lon)

    def until(self) -> Tensor:
        """``(N,)`` seconds at which each fixation ends: where no duration is given, when the next
        one begins; the last one is then as long as the one before it."""
        gaps = torch.diff(self.onset)
        last = gaps[-1:] if len(gaps) else torch.zeros(1, dtype=torch.float64)
        lasts = torch.where(self.duration.isnan(), torch.cat((gaps, last)), self.duration)
        return self.onset + lasts


def read_scanpaths(path: str | Path, unit: Unit = "auto") -> list[ObserverFixations]:
    """The fixations of each observer in a table.

    Args:
        path: text separated by commas, semicolons or tabs. unit: of its times.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a table: a column that is missing, a cell that is no number, a place
            outside [0, 1], a time that is negative or runs backwards; with path and line.
    """
    path = Path(path)
    observers, troubles = parse_scanpaths(path, unit)
    if troubles:
        raise ValueError(f"{path}: {troubles[0]}")
    return observers


def parse_scanpaths(path: Path, unit: Unit = "auto") -> tuple[list[ObserverFixations], list[str]]:
    """Observers, and everything that is wrong with the table; lines in trouble are left out.

    Raises:
        OSError, ValueError: no file, or no text, with the path.
    """
    if unit not in ("auto", "s", "ms"):
        raise ValueError(f"unit: {unit!r}, wanted 'auto', 's' or 'ms'")
    lines = list(read_table(path))
    if not lines:
        return [], ["holds no lines"]
    places, lines = _header(lines)
    missing = [n for n in ("index", "x", "y", "onset") if n not in places]
    if missing:
        wanted = {"index": "Idx", "x": "longitude", "y": "latitude", "onset": "start timestamp"}
        return [], [f"no column {' nor '.join(wanted[n] for n in missing)}"]
    if not lines:
        return [], ["holds no fixations"]
    troubles: list[str] = []
    rows: list[list[float]] = []
    for number, cells in lines:
        row, trouble = _row(cells, places)
        if trouble:
            troubles.append(f"line {number}: {trouble}")
        else:
            rows.append(row)
    table = np.asarray(rows, np.float64).reshape(-1, len(_COLUMNS))
    observers, more = _observers(table, list(_COLUMNS), unit)
    return observers, troubles + more


def _header(
    lines: list[tuple[int, list[str]]],
) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Which column is where, and the lines below the header."""
    first = [cell.lstrip("# ") for cell in lines[0][1]]
    if all(_number(cell) is not None for cell in first):
        return {name: k for k, name in enumerate(_PLACES[: len(first)])}, lines
    words = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in first]
    places: dict[str, int] = {}
    for name, pattern in _COLUMNS.items():
        for k, word in enumerate(words):
            if re.fullmatch(pattern, word):
                places.setdefault(name, k)
    return places, lines[1:]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _row(cells: list[str], places: dict[str, int]) -> tuple[list[float], str | None]:
    row = []
    for name in _COLUMNS:
        k = places.get(name)
        if k is None:
            row.append(np.nan)
            continue
        if k >= len(cells):
            return row, f"{len(cells)} columns, wanted {max(places.values()) + 1}"
        value = _number(cells[k])
        if value is None:
            return row, f"{cells[k][:20]!r}, wanted a number"
        if not abs(value) < 1e12:
            return row, f"{name} is {value:g}"
        if name in ("x", "y") and not 0 <= value <= 1:
            axis = "longitude" if name == "x" else "latitude"
            return row, f"{axis} {value:g}, wanted within [0, 1]"
        if name in ("onset", "duration") and value < 0:
            return row, f"{name} {value:g}, wanted at least 0"
        row.append(value)
    return row, None


def _observers(
    table: np.ndarray, names: list[str], unit: Unit
) -> tuple[list[ObserverFixations], list[str]]:
    column = {name: table[:, k] for k, name in enumerate(names)}
    index, onset = column["index"], column["onset"]
    scale = 1.0
    if unit == "ms" or (unit == "auto" and len(onset) and onset.max() > LONGEST):
        scale = 1e-3
    duration = column["duration"]
    duration = np.where(np.isnan(duration), column["end"] - onset, duration)
    places = unit_square_to_lonlat(table[:, [names.index("x"), names.index("y")]])
    starts = [0, *(np.flatnonzero(np.diff(index) <= 0) + 1).tolist(), len(index)]
    observers, troubles = [], []
    for k, (a, b) in enumerate(pairwise(starts)):
        if a == b:
            continue
        if (np.diff(onset[a:b]) < 0).any():
            troubles.append(f"observer {k}: times that run backwards")
        frames = np.stack((column["first_frame"][a:b], column["last_frame"][a:b]), 1)
        known = bool(np.isfinite(frames).all())
        ends_first = known and (frames[:, 0] > frames[:, 1]).any()
        if ends_first or (duration[a:b] < 0).any():
            troubles.append(f"observer {k}: a fixation that ends before it begins")
        observers.append(
            ObserverFixations(
                observer=k,
                lon=places[a:b, 0],
                lat=places[a:b, 1],
                onset=torch.from_numpy(onset[a:b] * scale),
                duration=torch.from_numpy(duration[a:b] * scale),
                frames=torch.from_numpy(frames.astype(np.int64)) if known else None,
            )
        )
    return observers, troubles
