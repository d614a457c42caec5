"""A data set made once and held: frames as bytes, truth and flow in half precision.

Rendering or decoding a frame costs a hundred times what reading it costs. A pack is a folder of
arrays that are mapped into memory, not read, so a dozen trainings on one machine share one copy of
it; :meth:`HeldVideos.to` puts all of it on a graphics card. Chapter 16.

What that costs: frames are rounded to 8 bits, as in any film (at most 1/510); truth and flow keep
11 significant bits, so a value is off by at most 1/2048 of itself, or by 3e-8 where it is below
6e-5. Fixations are kept as they are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360 import _runtime
from sal360._files import clear_parts
from sal360.datasets.item import Item, VideoDataset, checked_window
from sal360.flow import flow_to_color, tangent_flow

SCHEMA = "sal360/held/1"
_FIELDS = {"frames": (3, "uint8"), "truth": (1, "float16"), "flow": (2, "float16"),
           "flow_picture": (3, "uint8")}  # fmt: skip


class HeldVideos:
    """The videos of a pack; a :class:`~sal360.datasets.item.VideoDataset`.

    Items are float32 as everywhere. With ``step`` above 1 they have no flow, since what is held
    leads one frame on. Depth and masks are not kept.

    Args:
        folder: what :func:`hold` wrote.
    Attributes:
        size: ``(H, W)``. split: of the data set, if it had any. fps: None where rates differ.
    Raises:
        FileNotFoundError: no pack there. ValueError: a file of another kind.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "about.json").is_file():
            raise FileNotFoundError(f"{folder}: no pack there, wanted a folder made by hold()")
        try:
            about = json.loads((self.folder / "about.json").read_text("utf-8"))
        except ValueError:
            about = None
        if not isinstance(about, dict) or about.get("schema") != SCHEMA:
            raise ValueError(f"{folder}: not a pack of schema {SCHEMA}")
        self.name: str = about["name"]
        self._videos: dict[str, tuple[int, int, float]] = {
            name: (start, length, rate) for name, start, length, rate in about["videos"]
        }
        self.size: tuple[int, int] = tuple(about["size"])
        self.split: str | None = about["split"]
        rates = {rate for _, _, rate in self._videos.values()}
        self.fps: float | None = rates.pop() if len(rates) == 1 else None
        self._arrays: dict[str, Tensor] = {}
        for field in about["fields"]:
            # Copy on write: torch wants memory it could write to, and nobody's file changes.
            self._arrays[field] = self._load(field, "c")
        self._looked: Tensor | None = None
        if about["fixations"]:
            self._looked, counts = self._load("fixations"), self._load("counts")
            self._ends = [0, *counts.cumsum(0).tolist()]

    def _load(self, name: str, mode: Any = None) -> Tensor:
        path = self.folder / f"{name}.npy"
        try:
            return torch.from_numpy(np.load(path, mmap_mode=mode))
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: damaged ({error}), make the pack again") from None

    def to(self, device: str | torch.device) -> HeldVideos:
        """The same with its pictures on a device; items are on it then, but for fixations."""
        other = object.__new__(HeldVideos)
        other.__dict__ |= self.__dict__
        other._arrays = {field: array.to(device) for field, array in self._arrays.items()}
        return other

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos, in the order of the data set."""
        return tuple(self._videos)

    def length(self, video: str) -> int:
        """Frames of a video."""
        return self._video(video)[1]

    def rate(self, video: str) -> float:
        """Frames per second of a video."""
        return self._video(video)[2]

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """A clip; see :meth:`sal360.datasets.item.VideoDataset.read`.

        Raises:
            ValueError: also any ``size`` but the one that is held.
        """
        first, total, rate = self._video(video)
        if size is not None and tuple(size) != self.size:
            raise ValueError(f"size: {tuple(size)}, wanted {self.size}, what is held")
        count, step = checked_window(video, total, start, length, step)
        here = slice(first + start, first + start + (count - 1) * step + 1, step)

        def taken(field: str) -> Tensor | None:
            if field not in self._arrays or (step > 1 and field.startswith("flow")):
                return None
            part = self._arrays[field][here]
            return part.float() / 255 if part.dtype == torch.uint8 else part.float()

        frames = taken("frames")
        assert frames is not None
        fixations = None
        if self._looked is not None:
            ends = self._ends
            fixations = tuple(
                self._looked[ends[k] : ends[k + 1]] for k in range(here.start, here.stop, step)
            )
        return Item(
            dataset=self.name,
            video=video,
            frames=frames,
            indices=torch.arange(count, dtype=torch.int64) * step + start,
            fps=rate / step,
            flow=taken("flow"),
            flow_picture=taken("flow_picture"),
            truth=taken("truth"),
            fixations=fixations,
        )

    def _video(self, video: str) -> tuple[int, int, float]:
        if video not in self._videos:
            raise ValueError(f"video: {video!r} is not in {self.name}")
        return self._videos[video]


def hold(
    dataset: VideoDataset,
    folder: str | Path,
    videos: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    pictures: bool = False,
    processes: int = 1,
    pool: Executor | None = None,
) -> HeldVideos:
    """Make a pack of a data set; the one that is there is opened if it holds the same videos.

    Args:
        dataset: every video of one size. folder: appears whole or not at all.
        videos: which; all if None. size: ``(H, W)``; as stored if None.
        pictures: keep the colour picture of the flow as SST-Sal sees it, too
            (:func:`sal360.flow.tangent_flow`), which takes longer to draw than to look at.
        processes: that read at once; of more than 1 each starts afresh, so that a script needs
            its ``if __name__ == "__main__"``. pool: that are there already, for several packs.
    Raises:
        ValueError: no video, videos that differ in size or fields, another pack in the folder.
            OSError: no room on the disk, a process that died.
    """
    folder = Path(folder)
    names = list(dataset.videos if videos is None else videos)
    if not names:
        raise ValueError("videos: none, wanted at least one")
    if folder.exists():
        found = HeldVideos(folder)
        if found.name != dataset.name or list(found.videos) != names:
            raise ValueError(f"folder: {folder} holds {found.name}, {len(found.videos)} videos")
        for name in names:
            have, want = ((d.length(name), d.rate(name)) for d in (found, dataset))
            if have != want:
                raise ValueError(
                    f"folder: {folder} holds {name} of {have[0]} frames at {have[1]:g} a second, "
                    f"wanted {want[0]} at {want[1]:g}"
                )
        size = getattr(dataset, "size", None) if size is None else size
        if size is not None and tuple(size) != found.size:
            raise ValueError(f"folder: {folder} holds frames of {found.size}, wanted {tuple(size)}")
        return found
    first = dataset.read(names[0], 0, 1, 1, size)
    lengths = [dataset.length(name) for name in names]
    starts = np.cumsum([0, *lengths]).tolist()
    if pictures and first.flow is None:
        raise ValueError("pictures: True, but the data set has no flow")
    fields = [
        f for f in _FIELDS if getattr(first, f) is not None or (pictures and f == "flow_picture")
    ]
    clear_parts(folder)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        for field in fields:
            channels, dtype = _FIELDS[field]
            shape = (starts[-1], channels, *first.size)
            np.lib.format.open_memmap(part / f"{field}.npy", "w+", dtype, shape).flush()
        jobs = [(dataset, name, start, size, fields, str(part))
                for name, start in zip(names, starts[:-1], strict=True)]  # fmt: skip
        if pool is not None:
            looked = list(pool.map(_written, jobs, chunksize=1))
        elif processes > 1:
            with _runtime.workers(min(processes, len(jobs))) as own:
                looked = list(own.map(_written, jobs, chunksize=1))
        else:
            looked = [_written(job, alone=False) for job in jobs]
        known = [one for one in looked if one is not None]
        if len(known) == len(looked):
            np.save(part / "fixations.npy", np.concatenate([points for points, _ in known]))
            np.save(part / "counts.npy", np.concatenate([counts for _, counts in known]))
        about = {
            "schema": SCHEMA,
            "name": dataset.name,
            "size": list(first.size),
            "split": getattr(dataset, "split", None),
            "fields": fields,
            "fixations": len(known) == len(looked),
            "videos": [
                [name, start, length, dataset.rate(name)]
                for name, start, length in zip(names, starts[:-1], lengths, strict=True)
            ],
        }
        (part / "about.json").write_text(json.dumps(about), "utf-8")
        os.replace(part, folder)
    except BrokenExecutor as error:
        raise OSError(f"{folder}: a process that made it died, for want of memory, say") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return HeldVideos(folder)


def _written(job: tuple[Any, ...], alone: bool = True) -> tuple[Any, Any] | None:
    """Read a video and write it to its place; its fixations and how many belong to each frame."""
    dataset, name, start, size, fields, folder = job
    if alone:
        torch.set_num_threads(1)
    item = dataset.read(name, 0, None, 1, size)
    for field in fields:
        value = getattr(item, field)
        if field == "flow_picture" and value is None:
            value = _drawn(item.flow)
        if value is None:
            raise ValueError(f"{name}: no {field}, wanted it as in the first video")
        array = np.load(Path(folder) / f"{field}.npy", mmap_mode="r+")
        if array.shape[1:] != value.shape[1:]:
            wanted = "x".join(map(str, array.shape[-2:]))
            raise ValueError(f"{name}: shape {tuple(value.shape)}, wanted {wanted} for all")
        if array.dtype == np.uint8:
            value = (value * 255).round()
        array[start : start + len(value)] = value.numpy()
        array.flush()
    if item.fixations is None:
        return None
    return torch.cat(item.fixations).numpy(), np.array([len(one) for one in item.fixations])


def _drawn(flow: Tensor) -> Tensor:
    seen = tangent_flow(flow).numpy()
    drawn = np.stack([flow_to_color(one) for one in seen])
    return torch.from_numpy(drawn).movedim(-1, 1).float() / 255
