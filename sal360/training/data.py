"""Data sets by a word that fits on a command line and in a record.

======================================  =========================================================
``worlds``                              synthetic worlds of the training split, 64 of 10 seconds
``worlds:SPLIT:VIDEOS:SECONDS``         others, such as ``worlds:test:8:5``; the ends may be left
                                        off. Splits: train, val, test
``packed=worlds:...``                   the same, drawn once into the cache folder and read from
                                        there: 0.4 MB a frame of 128 x 256, rounded as
                                        :mod:`sal360.datasets.held` says
``avtrack360``                          real heads, fetched when needed
``FOLDER``, ``FOLDER:SPLIT``            a data set on disk in any layout of
                                        :mod:`sal360.datasets.layouts`, or a pack
                                        (:mod:`sal360.datasets.held`)
``LAYOUT=FOLDER``                       the same, of a folder that looks like none or several
``...@FPS``                             one frame in so many, nearest to that rate
======================================  =========================================================

What is opened says its whole ``spec``, defaults and all, so that a record can open it again.
Chapter 16.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from sal360.datasets.item import Around, Item, VideoDataset
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.datasets.synthetic.content import SPLITS
from sal360.training.machine import code_hash

WANTED = (
    "wanted [packed=]worlds[:SPLIT[:VIDEOS[:SECONDS]]], avtrack360, a FOLDER in a known layout, "
    "or LAYOUT=FOLDER"
)
USUAL: dict[str, tuple[str, str]] = {
    "fast": ("worlds:train:24:3", "worlds:val:4:3"),
    "cpu": ("worlds:train:48:10", "worlds:val:4:10"),
    "gpu": ("packed=worlds:train:256:10", "packed=worlds:val:16:10"),
}
"""By scale: what is trained on and what is validated on unless something else is asked for."""
VIDEOS, SECONDS, FPS = 64, 10.0, 8.0
"""Of synthetic worlds, unless the spec says others."""
MOST_VIDEOS, MOST_SECONDS = 1_000_000, 86_400
"""Of synthetic worlds: more is a slip of the finger."""
_TOLD = ("spec", "split", "size", "fps", "root", "truth", "flow_from", "has_flow_picture",
         "has_truth", "left_out")  # fmt: skip
_SPLIT_NAMES = ("train", "val", "validation", "test", "all")


def open_data(
    spec: str,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    split: str | None = None,
) -> VideoDataset:
    """A data set by its spec, as the module says.

    Args:
        spec: what. size: ``(H, W)`` of the frames of synthetic worlds; stored data sets are
            brought to a size when they are read. fps: frames per second; those of the data set,
            or 8 of synthetic worlds, if None. split: over that of the spec.
    Returns:
        a data set with ``spec``, which opens it again.
    Raises:
        ValueError, FileNotFoundError: what cannot be opened, in one line that begins with
            ``data:`` or with the path.
    """
    if not isinstance(spec, str) or not spec:
        raise ValueError(f"data: {spec!r}, {WANTED}")
    plain, told_fps = _rate(spec)
    fps = told_fps if fps is None else fps
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"data: {spec!r}: {fps:g} frames per second, wanted a positive number")
    inner = plain.removeprefix("packed=")
    kind, _, rest = inner.partition(":")
    if kind == "worlds":
        worlds = _worlds(spec, rest, size, fps, split)
        return worlds if inner == plain else _packed(worlds)
    if inner != plain:
        raise ValueError(f"data: {spec!r}: only worlds can be packed, {WANTED}")
    return _stored(spec, plain, fps, split)


def _worlds(
    spec: str, rest: str, size: tuple[int, int] | None, fps: float | None, split: str | None
) -> SyntheticWorlds:
    parts = rest.split(":") if rest else []
    if len(parts) > 3:
        raise ValueError(f"data: {spec!r}, {WANTED}")
    found = split or (parts[0] if parts and parts[0] else "train")
    found = "val" if found == "validation" else found
    if found not in SPLITS:
        raise ValueError(f"data: {spec!r}: split {found!r}, wanted one of {', '.join(SPLITS)}")
    videos = _count(spec, parts[1]) if len(parts) > 1 else VIDEOS
    seconds = _positive(spec, parts[2], "seconds") if len(parts) > 2 else SECONDS
    fps = FPS if fps is None else fps
    worlds = SyntheticWorlds(found, videos, seconds, fps, size or (128, 256))
    rate = "" if fps == FPS else f"@{fps:g}"
    worlds.spec = f"worlds:{found}:{videos}:{seconds:g}{rate}"  # type: ignore[attr-defined]
    return worlds


def _packed(worlds: Any) -> VideoDataset:
    """Worlds that are drawn once, for as long as the code that draws them stays as it is."""
    from sal360.datasets.held import hold

    folder = _folder_of(worlds)
    processes = min(len(worlds.videos), os.cpu_count() or 1) if len(worlds.videos) >= 8 else 1
    pack: Any = hold(worlds, folder, pictures=True, processes=processes)
    pack.spec, pack.split, pack.fps = f"packed={worlds.spec}", worlds.split, worlds.fps
    return pack


def _folder_of(worlds: Any) -> Path:
    from sal360.datasets.download import cache_folder

    key = f"{worlds.spec} {worlds.size} {code_hash(('datasets', 'gaze'))}"
    return cache_folder() / "packs" / hashlib.sha256(key.encode()).hexdigest()[:24]


def is_packed(spec: str, size: tuple[int, int]) -> bool:
    """Whether opening it takes no time: it is no pack, or one that was drawn before."""
    if not spec.startswith("packed="):
        return True
    worlds: Any = open_data(spec.removeprefix("packed="), size=size)
    return _folder_of(worlds).exists()


def _stored(spec: str, plain: str, fps: float | None, split: str | None) -> VideoDataset:
    from sal360.datasets.layouts import LAYOUTS, AVTrack360, find_layout

    dataset: Any
    layout, _, folder = plain.partition("=")
    name = layout if folder and layout in LAYOUTS else None
    path = folder if name else plain
    start, _, last = path.rpartition(":")
    if start and last in _SPLIT_NAMES:
        path, split = start, split or last
    if name is None and path == "avtrack360" and not Path(path).exists():
        _no_split(spec, "avtrack360", split)
        dataset = AVTrack360()
    else:
        root = Path(path)
        if name is None and not root.exists() and root.name == path:
            raise ValueError(f"data: {spec!r}, {WANTED}")
        if name is None and (root / "about.json").is_file():
            from sal360.datasets.held import HeldVideos

            _no_split(spec, "a pack", split)
            dataset = HeldVideos(root)
        else:
            found, _ = find_layout(root, name)
            takes = "split" in inspect.signature(found.reader).parameters
            if not takes:
                _no_split(spec, found.name, split)
            dataset = found.reader(root, **({"split": split} if takes and split else {}))
    told = (f"{name}=" if name else "") + path + (f":{split}" if split else "")
    if fps is not None:
        dataset = Paced(dataset, fps)
        told += f"@{fps:g}"
    dataset.spec, dataset.split = told, split
    return dataset


class Told(Around):
    """A data set around another, which it says everything of."""

    def __init__(self, dataset: VideoDataset) -> None:
        super().__init__(dataset)
        for told in _TOLD:
            if hasattr(dataset, told):
                setattr(self, told, getattr(dataset, told))


class Paced(Told):
    """A data set at another rate: one frame in ``round(rate / fps)`` of each video."""

    def __init__(self, dataset: VideoDataset, fps: float) -> None:
        super().__init__(dataset)
        self.fps = fps

    def every(self, video: str) -> int:
        """One frame in how many."""
        return max(1, round(self.dataset.rate(video) / self.fps))

    def length(self, video: str) -> int:
        """Frames of a video that are left."""
        return -(-self.dataset.length(video) // self.every(video))

    def rate(self, video: str) -> float:
        """Frames per second that are left."""
        return self.dataset.rate(video) / self.every(video)

    def numbers(self, video: str) -> Any:
        """Published numbers of the frames that are left."""
        known = getattr(self.dataset, "numbers", None)
        all_of_them = range(self.dataset.length(video)) if known is None else known(video)
        return all_of_them[:: self.every(video)]

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip; see :meth:`sal360.datasets.item.VideoDataset.read`."""
        every = self.every(video)
        if length is None:
            length = -(-(self.length(video) - start) // step)
        return self.dataset.read(video, start * every, length, step * every, size)


class Remembered(Told):
    """A data set whose clips stay in memory, up to a limit: what was read last stays.

    For small data sets that are costly to read, such as worlds that are drawn each time, in the
    process that reads them; a loader's workers forget at the end of each epoch.
    """

    def __init__(self, dataset: VideoDataset, limit_mb: float = 512.0) -> None:
        super().__init__(dataset)
        self.limit_mb = limit_mb
        self._items: OrderedDict[Any, tuple[Item, int]] = OrderedDict()
        self._bytes = 0
        if hasattr(dataset, "numbers"):
            self.numbers = dataset.numbers

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip; see :meth:`sal360.datasets.item.VideoDataset.read`. It is only to be read."""
        key = (video, start, length, step, size)
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key][0]
        item = self.dataset.read(video, start, length, step, size)
        held = _bytes(item)
        self._items[key] = item, held
        self._bytes += held
        while self._bytes > self.limit_mb * 1e6:
            _, (_, freed) = self._items.popitem(last=False)
            self._bytes -= freed
        return item


def _bytes(item: Item) -> int:
    tensors = [value for value in vars(item).values() if hasattr(value, "element_size")]
    tensors += list(item.fixations or ())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _rate(spec: str) -> tuple[str, float | None]:
    """The spec without its rate, and the rate."""
    plain, at, rate = spec.rpartition("@")
    if not at:
        return spec, None
    try:
        return plain, float(rate)
    except ValueError:  # a folder with such a name
        return spec, None


def _count(spec: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_VIDEOS:
        wanted = f"a whole number of at least 1, at most {MOST_VIDEOS}"
        raise ValueError(f"data: {spec!r}: {text!r} videos, wanted {wanted}")
    return int(text)


def _positive(spec: str, text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_SECONDS:
        raise ValueError(
            f"data: {spec!r}: {text!r} {what}, wanted a positive number, at most {MOST_SECONDS}"
        )
    return value


def _no_split(spec: str, name: str, split: str | None) -> None:
    if split is not None:
        raise ValueError(f"data: {spec!r}: split {split!r}, but {name} has none")
