"""What can be wrong with a folder of the Salient360! layout; see ``verify``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sal360.datasets.layouts.check_films import check_film
from sal360.datasets.layouts.files import map_trouble
from sal360.datasets.layouts.films import film_length
from sal360.datasets.layouts.report import Inspector, case_twins
from sal360.datasets.layouts.salient360 import (
    BINARY,
    FILMS,
    PICTURES,
    SAME_GAZE,
    SAME_STIMULUS,
    TABLE,
    binary_shape,
    find_binaries,
    find_stimuli,
    find_tables,
    key_of,
    same_gaze,
)
from sal360.datasets.layouts.scanpaths import ObserverFixations, parse_scanpaths


def check_salient360(look: Inspector) -> None:
    """Stimuli, tables and maps against each other; every one of them read."""
    stimuli = {key_of(p.stem): p for p in find_stimuli(look.root).values()}
    lengths, rates = _stimuli(look, stimuli)
    tables = {m: find_tables(look.root, m) for m in ("H", "HE")}
    if not any(tables.values()):
        look.add(look.root, "missing", "no tables NAME_fixations.csv in H or HE/Scanpaths")
    for modality, by_key in tables.items():
        _strays(look, look.root / modality / "Scanpaths")
        for key, found in by_key.items():
            for _, path in found:
                _table(look, path, lengths.get(key), rates.get(key))
                if stimuli and key not in stimuli:
                    look.add(path, "inconsistent", "a table of a stimulus that is not there")
            for path, earlier in same_gaze(found):
                message = SAME_GAZE.format(earlier.relative_to(look.root))
                look.add(path, "inconsistent", message)
            sides = {side for side, _ in found}
            if modality == "HE" and sides in ({"L"}, {"R"}):
                side = "R" if "L" in sides else "L"
                wanted = look.root / "HE" / "Scanpaths" / side / found[0][1].name
                look.add(wanted, "missing", "no table of this eye, and there is one of the other")
        _binaries(look, modality, lengths, bool(stimuli))
    with_table = {key for by_key in tables.values() for key in by_key}
    for key, path in stimuli.items():
        if key not in with_table:
            look.add(path, "note", "no table of fixations of this stimulus")


def _stimuli(look: Inspector, stimuli: dict[str, Path]) -> tuple[dict[str, int], dict[str, float]]:
    """Frames of each stimulus, and frames per second of each film."""
    folder = look.root / "Stimuli"
    if not folder.is_dir():
        look.add(folder, "note", "no such folder: fixations alone")
        return {}, {}
    files = look.list(folder)
    known = [p for p in files if p.suffix.lower() in FILMS + PICTURES and not p.is_dir()]
    look.surplus([p for p in files if p not in known], "1_Name.mp4 or P1.jpg")
    for path in known:
        if (kept := stimuli[key_of(path.stem)]) != path:
            look.add(path, "inconsistent", SAME_STIMULUS.format(kept.name))
    for group in case_twins([p.name for p in files]).values():
        message = f"{' and '.join(group)} differ in case only"
        look.add(folder / group[0], "inconsistent", message)
    lengths, rates = {}, {}
    for key, path in stimuli.items():
        look.video()
        if path.suffix.lower() in FILMS:
            info = check_film(look, path)
            if info is not None:
                lengths[key], rates[key] = film_length(info), info.fps
        elif path.suffix.lower() in PICTURES and look.picture(path):
            lengths[key] = 1
    return lengths, rates


def _strays(look: Inspector, top: Path) -> None:
    for folder in (top, top / "L", top / "R"):
        if folder.is_dir():
            files = [p for p in look.list(folder) if not p.is_dir()]
            look.surplus([p for p in files if not TABLE.fullmatch(p.name)], "1_Name_fixations.csv")


def _table(look: Inspector, path: Path, length: int | None, rate: float | None) -> None:
    look.opened(path)
    try:
        observers, troubles = parse_scanpaths(path)
    except (OSError, ValueError) as problem:
        look.broken(path, problem)
        return
    for trouble in troubles:
        look.add(path, "broken", trouble)
    if not observers and not troubles:
        look.add(path, "broken", "holds no fixations")
    if length is not None and rate is not None:
        late = sum(_after(one, length, rate) for one in observers)
        if late:
            message = f"{late} fixations after the last of {length} frames"
            look.add(path, "inconsistent", message)


def _after(one: ObserverFixations, length: int, rate: float) -> int:
    # A fixation that begins after the end; one that reaches beyond it is usual.
    late = one.onset >= length / rate
    if one.frames is not None:
        late |= one.frames[:, 0] >= length
    return int(late.sum())


def _binaries(look: Inspector, modality: str, lengths: dict[str, int], stimuli: bool) -> None:
    folder = look.root / modality / "SalMaps"
    if not folder.is_dir():
        return
    files = [p for p in look.list(folder) if p.suffix not in (".png", ".mp4")]  # previews
    known = [p for p in files if BINARY.fullmatch(p.name)]
    look.surplus([p for p in files if p not in known], "1_Name_2048x1024x500_32b.bin")
    for paths in find_binaries(look.root, modality).values():
        for path in paths[1:]:
            look.add(path, "inconsistent", SAME_STIMULUS.format(paths[0].name))
    for path in known:
        look.opened(path)
        match = BINARY.fullmatch(path.name)
        key = key_of(match["picture"] or match["film"]) if match else ""
        try:
            frames, height, width, dtype = binary_shape(path)
            size = height * width
            with path.open("rb") as file:
                for number in range(frames):
                    raw = np.frombuffer(file.read(size * dtype.itemsize), dtype)
                    if trouble := map_trouble(raw.reshape(height, width)):
                        look.add(path, "broken", f"map {number}: {trouble}")
        except (OSError, ValueError) as problem:
            look.broken(path, problem)
            continue
        if key in lengths and frames != lengths[key]:
            message = f"{frames} maps, and the stimulus has {lengths[key]} frames"
            look.add(path, "inconsistent" if frames > lengths[key] else "note", message)
        elif stimuli and key not in lengths:
            look.add(path, "inconsistent", "maps of a stimulus that is not there")
