"""What can be wrong with a folder of the Sphere360 layout; see ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sal360.datasets.layouts.base import points_trouble
from sal360.datasets.layouts.report import Inspector, case_twins
from sal360.datasets.layouts.sphere360 import FRAME, TRUTH, VIDEOS, is_frame_id, read_vinfo

FEW = 20
"""Missing ``_gt.npy`` of one video that are told one by one."""


def check_sphere360(look: Inspector) -> None:
    """Frames against ``vinfo.pkl``, both ways; every frame decoded, every ``_gt.npy`` read."""
    table_path = look.root / "vinfo.pkl"
    vinfo = _table(look, table_path)
    there = look.list(look.root)
    folders = [p for p in there if p.is_dir()]
    look.surplus([p for p in there if not p.is_dir() and p != table_path], "folders and vinfo.pkl")
    names = sorted({p.name for p in folders} | set(vinfo or {}))
    for group in case_twins(names).values():
        message = f"{' and '.join(group)} differ in case only"
        look.add(look.root / group[0], "inconsistent", message)
    if len(names) != VIDEOS:
        look.add(
            look.root,
            "note",
            f"{len(names)} videos; the published split is that of {VIDEOS} and is drawn in "
            "proportion here",
        )
    for name in names:
        look.video()
        folder = look.root / name
        if not folder.is_dir():
            look.add(folder, "missing", "vinfo.pkl has fixations of this video, but no folder")
        else:
            _video(look, folder, None if vinfo is None else vinfo.get(name))


def _table(look: Inspector, path: Path) -> dict[str, dict[str, Any]] | None:
    look.opened(path)
    try:
        return read_vinfo(path)
    except (OSError, ValueError) as problem:
        look.broken(path, problem)
        return None


def _video(look: Inspector, folder: Path, frames: dict[str, Any] | None) -> None:
    files = look.list(folder)
    pictures = {m[1]: p for p in files if (m := FRAME.fullmatch(p.name))}
    truths = {m[1]: p for p in files if (m := TRUTH.fullmatch(p.name))}
    known = {*pictures.values(), *truths.values()}
    look.surplus([p for p in files if p not in known], "0001.jpg or 0001_gt.npy")
    look.same({p: s for p in pictures.values() if (s := look.picture(p))}, "frames of the video")
    look.same({p: s for p in truths.values() if (s := look.map(p))}, "maps of the video")
    table = look.root / "vinfo.pkl"
    if frames is None:
        if table.exists():
            look.add(folder, "missing", "vinfo.pkl has no fixations of this video")
        expected = set(pictures)
    else:
        expected = set(pictures) | {fid for fid in frames if is_frame_id(fid)}
        for fid in sorted(set(pictures) - set(frames)):
            look.add(pictures[fid], "missing", "vinfo.pkl has no fixations of this frame")
        _fixations(look, table, folder.name, frames)
    numbers = sorted(int(fid) for fid in expected)
    if not numbers:
        look.add(folder, "missing", "no frames 0001.jpg, 0002.jpg, ...")
        return
    known_of = frames or {}
    look.gaps(
        (int(fid) for fid in pictures),
        (numbers[0], numbers[-1]),
        1,
        lambda number: folder / f"{number:04d}.jpg",
        lambda number: (
            "no such frame: "
            + ("vinfo.pkl has it" if f"{number:04d}" in known_of else "a gap in the numbers")
        ),
    )
    if numbers[0] != 1:
        look.add(folder, "note", f"frames are numbered from {numbers[0]}, not from 1")
    for fid in sorted(set(truths) - set(pictures)):
        look.add(truths[fid], "inconsistent", "a truth of a frame that is not there")
    without = sorted(set(pictures) - set(truths)) if truths else []
    if len(without) > FEW:  # their loader fills them in as it goes
        look.add(folder, "note", f"{len(without)} of {len(pictures)} frames have no _gt.npy")
    for fid in without if len(without) <= FEW else ():
        look.add(folder / f"{fid}_gt.npy", "note", "no published truth of this frame")


def _fixations(look: Inspector, table: Path, video: str, frames: dict[str, Any]) -> None:
    empty = 0
    for fid, points in frames.items():
        if not is_frame_id(fid):
            look.add(
                table, "inconsistent", f"{video!r}: frame {fid[:20]!r}, wanted one like '0001'"
            )
            continue
        trouble = points_trouble(points)
        if trouble:
            look.add(table, "broken", f"{video!r}, frame {fid!r}: {trouble}")
        empty += not trouble and len(points) == 0
    if empty:
        look.add(table, "note", f"{video!r}: {empty} frames without any fixation")
