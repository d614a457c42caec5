"""Readers of data sets as they were published, and one door to all of them.

    dataset = open_dataset("360_Saliency_dataset_2018ECCV")
    clip = dataset.read(dataset.videos[0], length=16, size=(128, 256))

Every reader is a :class:`sal360.datasets.item.VideoDataset`, reads only, and names the file that
is missing or broken. :mod:`sal360.datasets.layouts.verify` looks at a whole folder before a
training starts; :mod:`sal360.datasets.layouts.make` writes small synthetic ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sal360.datasets.layouts import salient360, sphere360, vr_eyetracking, wild360
from sal360.datasets.layouts.avtrack360 import AVTrack360
from sal360.datasets.layouts.base import LayoutDataset
from sal360.datasets.layouts.salient360 import Salient360
from sal360.datasets.layouts.scanpaths import ObserverFixations, read_scanpaths
from sal360.datasets.layouts.sphere360 import Sphere360
from sal360.datasets.layouts.vr_eyetracking import VREyeTracking, published_channels
from sal360.datasets.layouts.wild360 import Wild360

__all__ = [
    "LAYOUTS",
    "AVTrack360",
    "Layout",
    "LayoutDataset",
    "ObserverFixations",
    "Salient360",
    "Sphere360",
    "VREyeTracking",
    "Wild360",
    "find_layout",
    "open_dataset",
    "published_channels",
    "read_scanpaths",
]


@dataclass(frozen=True)
class Layout:
    """One published layout.

    Attributes:
        name: as the command line takes it. reader: the class that reads it.
        recognise: says why a folder looks like it, or None. summary: one line.
    """

    name: str
    reader: Callable[..., Any]
    recognise: Callable[[Path], str | None]
    summary: str


def _recognise_avtrack360(root: Path) -> str | None:
    return "it holds Head_rotation" if (root / "Head_rotation").is_dir() else None


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "sphere360",
            Sphere360,
            sphere360.recognise,
            "Zhang et al. 2018: folders of .jpg frames, vinfo.pkl",
        ),
        Layout(
            "wild360",
            Wild360,
            wild360.recognise,
            "Wild-360, Cheng et al. 2018: videos, a .npy map per frame, two lists",
        ),
        Layout(
            "vr-eyetracking",
            VREyeTracking,
            vr_eyetracking.recognise,
            "VR-EyeTracking as SST-Sal reads it: frames, optical_flow, saliency_maps",
        ),
        Layout(
            "salient360",
            Salient360,
            salient360.recognise,
            "Salient360!: Stimuli, scanpath tables of heads and eyes",
        ),
        Layout(
            "avtrack360",
            AVTrack360,
            _recognise_avtrack360,
            "AVTrack360, Fremerey et al. 2018: head traces, a picture per video",
        ),
    )
}
"""The layouts by name."""


def find_layout(path: str | Path, layout: str | None = None) -> tuple[Layout, str]:
    """The layout of a folder, and why it was taken.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a folder that looks like none or like several, or an unknown name; one line.
    """
    root = Path(path)
    if layout is not None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout: {layout!r}, wanted one of {', '.join(LAYOUTS)}")
        return LAYOUTS[layout], "as requested"
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder")
    if not root.is_dir():
        raise ValueError(f"{root}: not a folder, wanted a data set")
    reasons = {name: one.recognise(root) for name, one in LAYOUTS.items()}
    found = {name: reason for name, reason in reasons.items() if reason}
    if not found:
        raise ValueError(f"{root}: looks like none of the layouts {', '.join(LAYOUTS)}; name one")
    if len(found) > 1:
        several = "; ".join(f"{name} ({reason})" for name, reason in found.items())
        raise ValueError(f"{root}: looks like {several}; name one")
    name, reason = next(iter(found.items()))
    return LAYOUTS[name], reason


def open_dataset(path: str | Path, layout: str | None = None, **settings: Any) -> Any:
    """A reader of a data set on disk.

    Args:
        path: its folder.
        layout: a name of :data:`LAYOUTS`; None: the one the folder looks like, and the reader's
            ``recognised`` says why.
        settings: passed to the reader.
    Returns:
        A :class:`sal360.datasets.item.VideoDataset`.
    Raises:
        FileNotFoundError, ValueError: as :func:`find_layout`, or from the reader.
    """
    found, reason = find_layout(path, layout)
    dataset = found.reader(path, **settings)
    dataset.recognised = f"{found.name}: {reason}"
    return dataset
