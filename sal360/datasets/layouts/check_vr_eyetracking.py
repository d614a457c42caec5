"""What can be wrong with a folder of the VR-EyeTracking layout; see ``verify``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sal360.datasets.layouts.files import is_plain, read_list
from sal360.datasets.layouts.report import Inspector, case_twins
from sal360.datasets.layouts.vr_eyetracking import FRAME, LISTS, MAP, common_step


def check_vr_eyetracking(look: Inspector) -> None:
    """Frames, flow pictures and maps against each other; every picture decoded."""
    parts = {name: look.root / name for name in ("frames", "optical_flow", "saliency_maps")}
    if not parts["frames"].is_dir():
        look.add(parts["frames"], "missing", "no such folder")
        return
    for name in ("optical_flow", "saliency_maps"):
        if not parts[name].is_dir():
            look.add(parts[name], "note", "no such folder")
    there = {
        name: [p.name for p in look.list(part) if p.is_dir()] if part.is_dir() else []
        for name, part in parts.items()
    }
    for name, part in parts.items():
        if part.is_dir():
            look.surplus([p for p in look.list(part) if not p.is_dir()], "folders of videos")
        for group in case_twins(there[name]).values():
            message = f"{' and '.join(group)} differ in case only"
            look.add(part / group[0], "inconsistent", message)
        for video in sorted(set(there[name]) - set(there["frames"])):
            look.add(part / video, "inconsistent", "of a video whose frames are not there")
    _lists(look, set(there["frames"]))
    for video in there["frames"]:
        look.video()
        _video(look, video, parts)
    lists = set(LISTS.values())
    files = [p for p in look.list(look.root) if not p.is_dir() and p.name not in lists]
    look.surplus(files, "frames, optical_flow, saliency_maps and lists")


def _lists(look: Inspector, videos: set[str]) -> None:
    seen: dict[str, str] = {}
    for file in LISTS.values():
        path = look.root / file
        if not (path.exists() or path.is_symlink()):
            continue
        look.opened(path)
        try:
            names = read_list(path)
        except (OSError, ValueError) as problem:
            look.broken(path, problem)
            continue
        for name, times in Counter(names).items():
            if not is_plain(name):
                look.add(path, "broken", f"{name!r} is no name of a video")
            elif name not in videos:
                look.add(path, "missing", f"names {name}, and there is no frames/{name}")
            if times > 1:
                look.add(path, "note", f"{name} is there {times} times, and counts once")
            if name in seen:
                look.add(path, "inconsistent", f"{name} is in {seen[name]} too")
        seen |= dict.fromkeys(names, file)


def _video(look: Inspector, video: str, parts: dict[str, Path]) -> None:
    frames = _named(look, parts["frames"] / video, f"{video}_0000.png")
    flows = _named(look, parts["optical_flow"] / video, f"{video}_0000.png")
    maps = _named(look, parts["saliency_maps"] / video, "0000.png")
    if not frames:
        look.add(parts["frames"] / video, "missing", f"no frames {video}_0000.png, ...")
        return
    sizes = {p: s for p in frames.values() if (s := look.picture(p))}
    first = frames[min(frames)]
    if len(sizes) > 2 and sizes.get(first) == (1080, 2048):
        if Counter(sizes.values()).most_common(1)[0][0] != sizes[first]:
            look.add(
                first, "note", "scaled to 2048 x 1080, as their extraction does with the first"
            )
        del sizes[first]
    look.same(sizes, "frames of the video")
    look.same({p: s for p in flows.values() if (s := look.picture(p))}, "flow pictures")
    look.same({p: s for p in maps.values() if (s := look.map(p))}, "maps of the video")
    step, first_number = common_step(set(frames)), min(frames)
    expected = set(frames) | {n for n in maps if (n - first_number) % step == 0}
    first_number = min(expected)
    if between := len(set(maps) - expected):
        message = f"{between} maps between the sampled frames, not read"
        look.add(parts["saliency_maps"] / video, "note", message)
    look.gaps(
        frames,
        (first_number, max(expected)),
        step,
        lambda number: parts["frames"] / video / f"{video}_{number:04d}.png",
        lambda number: (
            "no such frame: " + ("its map is there" if number in maps else "a gap in the numbers")
        ),
    )
    for number in sorted(n for n in frames if (n - first_number) % step):
        look.add(frames[number], "inconsistent", f"off the step of {step} of its neighbours")
    for found, part, what in ((flows, "optical_flow", "flow"), (maps, "saliency_maps", "map")):
        folder = parts[part] / video
        if not parts[part].is_dir():
            continue
        if not folder.is_dir():
            look.add(folder, "missing", f"no folder with the {what} of this video")
            continue
        for number in sorted(set(frames) - set(found)):
            name = f"{number:04d}.png" if what == "map" else f"{video}_{number:04d}.png"
            last = what == "flow" and number == max(frames)
            message = "of the last frame, which no sequence needs" if last else f"no {what}"
            look.add(folder / name, "note" if last else "missing", f"{message} of a frame")
        if what == "flow":
            for number in sorted(set(found) - set(frames)):
                look.add(found[number], "inconsistent", "the flow of a frame that is not there")


def _named(look: Inspector, folder: Path, wanted: str) -> dict[int, Path]:
    """Files of a folder by number; those with other names are reported."""
    files = look.list(folder) if folder.is_dir() else []
    pattern, group = (FRAME, 2) if "_" in wanted else (MAP, 1)
    found: dict[int, Path] = {}
    for path in files:
        match = pattern.fullmatch(path.name)
        if match and group == 2 and match[1] != folder.name:
            look.add(path, "inconsistent", f"named for video {match[1]}, in the folder of another")
        elif match:
            found[int(match[group])] = path
    strange = [p for p in files if not pattern.fullmatch(p.name)]
    look.surplus(strange, wanted)
    return found
