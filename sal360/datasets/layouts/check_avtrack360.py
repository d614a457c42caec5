"""What can be wrong with a folder of the AVTrack360 layout; see ``verify``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sal360.datasets.layouts.avtrack360 import _heads, _source, numbered
from sal360.datasets.layouts.files import read_bytes
from sal360.datasets.layouts.report import Inspector

PARTS = {"Head_rotation": ".json", "SRC_info": ".json", "images": ".jpg"}


def check_avtrack360(look: Inspector) -> None:
    """Head traces, descriptions and pictures against each other; every one of them read."""
    files: dict[str, dict[str, Path]] = {}
    for part, suffix in PARTS.items():
        folder = look.root / part
        if not folder.is_dir():
            look.add(folder, "missing", "no such folder")
        there = look.list(folder) if folder.is_dir() else []
        files[part] = numbered(there, suffix)
        look.surplus([p for p in there if p not in files[part].values()], f"1{suffix}")
        if folder.is_dir() and not files[part]:
            look.add(folder, "missing", f"no files 1{suffix}, 2{suffix}, ...")
    look.surplus([p for p in look.list(look.root) if p.name not in PARTS], " and ".join(PARTS))
    videos = files["SRC_info"]
    sizes = {}
    for number, path in videos.items():
        look.video()
        described = _read(look, path, _source.__wrapped__)
        if described is not None:
            sizes[number] = described[:2]
        if number not in files["images"]:
            look.add(look.root / "images" / f"{number}.jpg", "missing", "no picture of this video")
    for number, path in files["images"].items():
        found = look.picture(path)
        if number not in videos:
            look.add(path, "inconsistent", "a picture of a video that SRC_info does not describe")
        elif found and number in sizes:
            width, height = sizes[number]
            if found[1] != width or found[0] < height or (found[0] - height) % 2:
                message = f"{found[0]} x {found[1]} pixels, its video is {height} x {width}"
                look.add(path, "inconsistent", message)
    seen = set()
    for path in files["Head_rotation"].values():
        heads = _read(look, path, _heads)
        for number in heads or {}:
            seen.add(number)
            if number not in videos:
                look.add(path, "inconsistent", f"saw video {number}, which is not there")
        for number in sorted(set(videos) - set(heads or videos)):
            look.add(path, "note", f"did not see video {number}")
    for number in sorted(set(videos) - seen):
        if files["Head_rotation"]:
            look.add(videos[number], "note", "nobody saw this video")


def _read(look: Inspector, path: Path, reader: Callable[[Path], Any]) -> Any:
    look.opened(path)
    try:
        read_bytes(path)
        return reader(path)
    except (OSError, ValueError) as problem:
        look.broken(path, problem)
        return None
