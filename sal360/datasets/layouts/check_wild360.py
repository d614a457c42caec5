"""What can be wrong with a folder of the Wild-360 layout; see ``verify``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sal360.datasets.layouts.check_films import check_film
from sal360.datasets.layouts.files import is_plain, read_list
from sal360.datasets.layouts.films import film_length
from sal360.datasets.layouts.report import Inspector, case_twins
from sal360.datasets.layouts.wild360 import (
    FRAME,
    LISTS,
    MAP,
    VIDEO_FOLDERS,
    find_truth,
    find_videos,
    list_paths,
    truth_of_video,
)


def check_wild360(look: Inspector) -> None:
    """Lists against videos, maps against frames; every video decoded, every map read."""
    videos = find_videos(look.root)
    truth = find_truth(look.root)
    named = _lists(look, videos)
    for group in case_twins([*videos, *named]).values():
        names = " and ".join(sorted(set(group)))
        look.add(look.root / group[0], "inconsistent", f"{names} differ in case only")
    if not videos:
        look.add(look.root, "missing", "no videos NAME.mp4 in data/train or data/test")
    for name, path in sorted(videos.items()):
        look.video()
        if named and name not in named:
            look.add(path, "note", "in neither of the two lists")
        count = _frames(look, path)
        folder = truth_of_video(truth, name)
        if folder is not None:
            _maps(look, folder, count)
    if truth is None:
        look.add(look.root, "note", "no folder of maps (Wild360_GT_29): no truth")
    else:
        for path in look.list(truth):
            if not path.is_dir():
                look.surplus([path], "folders NAME.mp4 of maps")
            elif path.name.removesuffix(".mp4") not in videos:
                look.add(path, "inconsistent", "maps of a video that is not there")
    _surplus(look, truth, set(videos.values()))


def _lists(look: Inspector, videos: dict[str, Path]) -> set[str]:
    lists, names = list_paths(look.root), {}
    for split in LISTS:
        if split not in lists:
            look.add(look.root / LISTS[split][0], "note", "no such list")
            continue
        path = lists[split]
        look.opened(path)
        try:
            listed = [name.removesuffix(".mp4") for name in read_list(path)]
        except (OSError, ValueError) as problem:
            look.broken(path, problem)
            continue
        for name, times in Counter(listed).items():
            if not is_plain(name):
                look.add(path, "broken", f"{name!r} is no name of a video")
                continue
            if times > 1:
                look.add(path, "note", f"{name} is there {times} times, and counts once")
            if name not in videos:
                look.add(path, "missing", f"names {name}, and there is no such video")
        names[split] = set(listed)
    both = names.get("train", set()) & names.get("test", set())
    for name in sorted(both):
        look.add(lists["test"], "note", f"{name} is in the training list too")
    return {name for listed in names.values() for name in listed if is_plain(name)}


def _frames(look: Inspector, path: Path) -> int | None:
    if not path.is_dir():
        info = check_film(look, path)
        return None if info is None else film_length(info)
    files = look.list(path)
    pictures = {int(m[1]): p for p in files if (m := FRAME.fullmatch(p.name))}
    look.surplus([p for p in files if p not in pictures.values()], "000000.jpg")
    if not pictures:
        look.add(path, "broken", "a folder without frames, wanted a film, or frames 000000.jpg")
        return None
    look.same({p: s for p in pictures.values() if (s := look.picture(p))}, "frames of the video")
    first, last = min(pictures), max(pictures)
    look.gaps(
        pictures,
        (first, last),
        1,
        lambda number: path / f"{number:06d}.jpg",
        lambda _: "no such frame: a gap in the numbers",
    )
    return last - first + 1


def _maps(look: Inspector, folder: Path, count: int | None) -> None:
    files = look.list(folder)
    maps = {int(m[1]): p for p in files if (m := MAP.fullmatch(p.name))}
    look.surplus([p for p in files if p not in maps.values()], "00000.npy")
    look.same({p: s for p in maps.values() if (s := look.map(p))}, "maps of the video")
    if not maps:
        look.add(folder, "missing", "no maps 00000.npy, 00001.npy, ...")
        return
    last = max(maps)
    look.gaps(
        maps,
        (0, last),
        1,
        lambda number: folder / f"{number:05d}.npy",
        lambda _: "no such map: a gap in the numbers",
    )
    if count is None:
        return
    for number in sorted(n for n in maps if n >= count):
        message = f"a truth of frame {number}, and the video has {count}"
        look.add(maps[number], "inconsistent", message)
    if last + 1 < count:
        look.add(folder, "note", f"the last {count - last - 1} of {count} frames have no map")


def _surplus(look: Inspector, truth: Path | None, videos: set[Path]) -> None:
    lists = set(list_paths(look.root).values())
    for place in VIDEO_FOLDERS:
        folder = look.root / place
        if folder.is_dir():
            files = [p for p in look.list(folder) if not p.is_dir() and p not in videos | lists]
            look.surplus(files, "NAME.mp4")
