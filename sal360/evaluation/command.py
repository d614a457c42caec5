"""What ``sal360 evaluate`` does with its paths: open, compare, write; nothing beside the input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sal360._files import write_whole
from sal360.evaluation import report
from sal360.evaluation.evaluation import compare
from sal360.evaluation.scoring import Progress, evaluate_together
from sal360.evaluation.sources import Values, open_predictions, open_truth

FORMATS = {"md": report.markdown, "csv": report.csv_table, "json": report.json_text}
SUFFIXES = {".md": "md", ".csv": "csv", ".json": "json"}


def evaluate_paths(
    predictions: Path,
    truth: Path,
    against: Path | None = None,
    *,
    layout: str | None = None,
    split: str | None = None,
    values: Values = "auto",
    truth_values: Values = "auto",
    format: str = "md",
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[str, list[str]]:
    """The table of one or two predictions on disk.

    Args:
        predictions, truth, against: see :mod:`sal360.evaluation.sources`.
        layout, split: of a data set as truth. values, truth_values: what a map's values mean.
        format: ``"md"``, ``"csv"`` or ``"json"``.
        progress, settings: as for :func:`sal360.evaluation.evaluate`.
    Returns:
        the text, and the notes that a reader of it should see.
    Raises:
        FileNotFoundError, OSError, ValueError: one line that begins with a path.
    """
    paths = [predictions] if against is None else [predictions, against]
    _distinct(paths, truth)
    preds = [open_predictions(path, values) for path in paths]
    true = open_truth(truth, layout, split, truth_values)
    names = [pred.name for pred in preds]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    found = evaluate_together(preds, true, names=names, progress=progress, **settings)
    difference = compare(*found) if len(found) == 2 else None
    notes = list(dict.fromkeys(note for one in found for note in one.notes))
    text = FORMATS[format](found, difference)
    return text.encode("utf-8", "backslashreplace").decode(), notes  # a name may be no text


def check_out(out: Path, inputs: list[Path], force: bool) -> None:
    """Refuse, before any work, an output that would harm something, or could not be written.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: with the path.
    """
    if out.is_dir():
        raise ValueError(f"{out}: a folder, wanted a file to write")
    if os.path.lexists(out) and not out.is_file():
        raise ValueError(f"{out}: no regular file, wanted a file to write")
    if out.exists() and not force:
        raise FileExistsError(f"{out}: exists; --force writes over it")
    place = Path(os.path.realpath(out))
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{out}: no such folder to write into")
    for path in inputs:
        whole = Path(os.path.realpath(path))
        if whole == place or (whole.is_dir() and place.parent.is_relative_to(whole)):
            raise ValueError(f"{out}: lies in the input {path}, which is left alone")


def write(text: str, out: Path) -> None:
    """Write a file whole or not at all."""
    write_whole(out, text.encode())


def _distinct(paths: list[Path], truth: Path) -> None:
    for path in [*paths, truth]:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    for path in paths:
        if os.path.samefile(path, truth):
            raise ValueError(f"{path}: given as predictions and as truth, wanted two")
    if len(paths) == 2 and os.path.samefile(*paths):
        raise ValueError(f"{paths[1]}: given as predictions and as --against, wanted two")
