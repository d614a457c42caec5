"""What was found in a data set: a list of findings, each about one file, and how it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sal360.datasets.layouts.files import (
    entries,
    map_trouble,
    read_bytes_check,
    read_grey,
    read_picture,
)
from sal360.safe_arrays import read_npy

Kind = Literal["missing", "broken", "inconsistent", "surplus", "note"]
FATAL = ("missing", "broken", "inconsistent")
"""Kinds of findings that make a frame unusable, or would mislead who uses it. Surplus files and
notes do not."""

LONG_RUN = 100
"""Numbers in a row that are missing and still told one by one."""


@dataclass(frozen=True)
class Finding:
    """One thing about one file: ``path`` relative to the data set."""

    path: str
    kind: Kind
    message: str


@dataclass
class Report:
    """The result of :func:`sal360.datasets.layouts.verify.verify`.

    Attributes:
        root, layout, reason: which folder, taken for which layout, and why.
        findings: in the order in which they were made.
        files: how many files were opened. videos: how many videos were looked at.
    """

    root: Path
    layout: str
    reason: str
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    videos: int = 0

    @property
    def usable(self) -> bool:
        """Whether nothing is missing, broken or inconsistent."""
        return not any(f.kind in FATAL for f in self.findings)

    def counts(self) -> dict[str, int]:
        """Findings by kind."""
        found: Counter[str] = Counter(f.kind for f in self.findings)
        return {kind: found[kind] for kind in (*FATAL, "surplus", "note")}

    def paths(self, *kinds: str) -> set[str]:
        """Paths that findings of some kinds, or of any, are about."""
        return {f.path for f in self.findings if not kinds or f.kind in kinds}

    def summary(self) -> str:
        """One line."""
        told = ", ".join(f"{n} {kind}" for kind, n in self.counts().items() if n)
        state = "usable" if self.usable else "not usable as it is"
        return (
            f"{self.root}: {self.layout}, {self.videos} videos, {self.files} files opened: "
            f"{told or 'nothing to report'}; {state}"
        )

    def json(self) -> str:
        """For programs."""
        return json.dumps(
            {
                "schema": "sal360/verify/1",
                "root": str(self.root),
                "layout": self.layout,
                "reason": self.reason,
                "usable": self.usable,
                "videos": self.videos,
                "files": self.files,
                "counts": self.counts(),
                "findings": [asdict(f) for f in self.findings],
            },
            indent=1,
        )


class Inspector:
    """Opens files for a check, and writes what is wrong with them into a report."""

    def __init__(self, report: Report, progress: Callable[[str], None] | None = None) -> None:
        self.report, self.root = report, report.root
        self._progress = progress

    def add(self, path: Path, kind: Kind, message: str) -> None:
        """A finding."""
        name = str(path.relative_to(self.root)) if path != self.root else "."
        self.report.findings.append(Finding(name, kind, message))

    def broken(self, path: Path, problem: Exception) -> None:
        """A finding from an error that begins with a path."""
        message = str(problem).removeprefix(f"{path}: ")
        missing = isinstance(problem, FileNotFoundError)
        self.add(path, "missing" if missing else "broken", message)

    def opened(self, path: Path) -> None:
        """Count a file, and tell who watches."""
        self.report.files += 1
        if self._progress:
            self._progress(str(path))

    def video(self) -> None:
        """Count a video."""
        self.report.videos += 1

    def list(self, folder: Path) -> list[Path]:
        """The entries of a folder, in order, but for hidden files."""
        try:
            return entries(folder)
        except OSError as problem:
            self.broken(folder, problem)
            return []

    def picture(self, path: Path) -> tuple[int, int] | None:
        """Size of a picture that decodes."""
        self.opened(path)
        try:
            picture = read_picture(path)
            return picture.shape[0], picture.shape[1]
        except (OSError, ValueError) as problem:
            self.broken(path, problem)
            return None

    def map(self, path: Path) -> tuple[int, int] | None:
        """Size of a map that is one: ``.npy`` or a grey picture."""
        self.opened(path)
        try:
            if path.suffix == ".npy":
                read_bytes_check(path)
                values: NDArray = read_npy(path)
            else:
                values = read_grey(path)
        except (OSError, ValueError) as problem:
            self.broken(path, problem)
            return None
        trouble = map_trouble(np.asarray(values))
        if trouble:
            self.add(path, "broken", trouble)
            return None
        return values.shape[-2], values.shape[-1]

    def same(self, sizes: dict[Path, tuple[int, int]], what: str) -> None:
        """Report those whose size is not that of most."""
        if not sizes:
            return
        common = Counter(sizes.values()).most_common(1)[0][0]
        for path, size in sizes.items():
            if size != common:
                self.add(
                    path,
                    "inconsistent",
                    f"{size[0]} x {size[1]} pixels, {what} mostly {common[0]} x {common[1]}",
                )

    def gaps(
        self,
        present: Iterable[int],
        ends: tuple[int, int],
        step: int,
        name: Callable[[int], Path],
        why: Callable[[int], str],
    ) -> None:
        """Report the numbers from the first to the last end that are not present; a long run of
        them once."""
        place = ends[0]
        for number in [*sorted(n for n in present if (n - ends[0]) % step == 0), ends[1] + step]:
            run = range(place, number, step)
            count = (number - place) // step  # which len() cannot say of a range that is too long
            for missing in run if count <= LONG_RUN else run[:1]:
                also = "" if count <= LONG_RUN else f", nor the {count - 1} after it"
                self.add(name(missing), "missing", why(missing) + also)
            place = number + step

    def surplus(self, paths: Iterable[Path], wanted: str) -> None:
        """Report files that a reader will not look at, with a word on why."""
        for path in paths:
            if _is_documentation(path):
                continue
            suffix = path.suffix.lower()
            if path.is_symlink() and not path.exists():
                self.add(path, "broken", "a link that leads nowhere")
            elif suffix != path.suffix and wanted.lower().endswith(suffix):
                self.add(path, "surplus", f"not read: its name differs in case from {wanted}")
            else:
                self.add(path, "surplus", f"not read: wanted {wanted}")


def case_twins(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that differ in case only, by their lower-case form."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(name.lower(), []).append(name)
    return {low: sorted(group) for low, group in groups.items() if len(group) > 1}


def _is_documentation(path: Path) -> bool:
    stem = path.name.lower()
    return stem.startswith(("readme", "license", "licence", "card")) or stem.endswith(".md")
