"""Decode a film to its end, and say what was lost on the way."""

from __future__ import annotations

import warnings
from pathlib import Path

from sal360.datasets.layouts.report import Inspector
from sal360.video import VideoInfo, probe, read_frames


def check_film(look: Inspector, path: Path) -> VideoInfo | None:
    """What the file says of itself, if a frame can be decoded; its end and its damage reported."""
    look.opened(path)
    if path.is_symlink() and not path.exists():
        look.add(path, "broken", "a link that leads nowhere")
        return None
    if path.is_file() and not path.stat().st_size:
        look.add(path, "broken", "empty")
        return None
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            info = probe(path)
            last = -1
            for frame in read_frames(path):
                if frame.index != last + 1:
                    lost = f"frames {last + 1} to {frame.index - 1} cannot be decoded"
                    look.add(path, "broken", lost)
                last = frame.index
    except PermissionError as problem:
        look.add(path, "broken", problem.strerror or "permission denied")
        return None
    except (OSError, ValueError) as problem:
        look.broken(path, problem)
        return None
    for warning in told:
        if issubclass(warning.category, UserWarning):
            look.add(path, "broken", str(warning.message).removeprefix(f"{path}: "))
    return info
