"""A folder of predictions: one map per frame, and a record of how they came about.

    maps/000012.npz    density (H, W) float32, per steradian; index and time of its frame
    png/000012.png     the same as 8-bit grey, 255 at the maximum of the frame
    overlay.mp4        the video with its maps laid over it (overlay.jpg for a picture)
    record.json        what was run, on what, with which settings, and how far it came
    state.safetensors  what the model remembered when it was interrupted; gone when complete

Frames are named by their number in the source. Files appear under their final name only when
they are complete, so a folder that was interrupted at any moment can be used and continued. One
process at a time writes into it.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import json
import platform
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sal360._files import alone, write_whole
from sal360._version import __version__
from sal360.images import write_image
from sal360.overlay import levels
from sal360.sources import Source

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "sal360/prediction/1"


class PredictionFolder:
    """Reads and writes the layout above."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.path / "record.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder, and keep other processes from writing into it.

        Raises:
            FileExistsError: a file is there. BlockingIOError: another process is writing into it.
        """
        with alone(self.path):
            yield

    def create(self) -> None:
        """Make the folders."""
        for name in ("maps", "png"):
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what an earlier prediction wrote, and nothing else; the folder itself stays.

        Raises:
            FileExistsError: the folder holds something, but no record of ours: it is left alone.
        """
        if not self.record_path.is_file():
            raise FileExistsError(f"{self.path}: not a prediction of sal360, left alone")
        self.remove_parts()
        ours = (("maps", "*.npz"), ("png", "*.png"), (".", "overlay.*"), (".", "state.*"))
        for name, pattern in ours:
            for path in (self.path / name).glob(pattern):
                path.unlink()
        self.record_path.unlink()
        for folder in (self.path / "maps", self.path / "png"):  # not itself: it may be held
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def remove_parts(self) -> None:
        """Remove what a killed process had half written."""
        parts = (("maps", ".*.part"), ("png", ".*.part"), (".", ".*.part"))
        for name, pattern in (*parts, (".", ".overlay.*"), (".", "..overlay.*")):
            for path in (self.path / name).glob(pattern):
                path.unlink()

    def write_map(self, index: int, time: float, density: NDArray[np.float32]) -> None:
        """Store the map of one frame, the npz last: its presence means "done"."""
        png = self.path / "png" / f"{index:06d}.png"
        write_image(png, levels(density))
        stored = io.BytesIO()
        np.savez(stored, density=density, index=index, time=time)
        write_whole(self.path / "maps" / f"{index:06d}.npz", stored.getvalue(), sync=False)

    def has_map(self, index: int) -> bool:
        """Whether the map of a frame is there, and whole."""
        if not (self.path / "maps" / f"{index:06d}.npz").is_file():
            return False
        try:
            self.read_map(index)
        except ValueError:  # a power cut, or somebody's hand
            return False
        return True

    def frames(self) -> list[int]:
        """Numbers of the frames that have a map, ascending."""
        names = (p.name for p in (self.path / "maps").glob("*.npz"))
        return sorted(int(name[:-4]) for name in names if name[:-4].isdigit())

    def read_map(self, index: int) -> tuple[NDArray[np.float32], float]:
        """Density ``(H, W)`` and time in seconds of one frame.

        Raises:
            ValueError: no such map, or a broken one.
        """
        path = self.path / "maps" / f"{index:06d}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                density, time = stored["density"], float(stored["time"])
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile,
                zlib.error, NotImplementedError) as error:  # fmt: skip
            raise ValueError(f"{path}: not a map of sal360 ({error})") from None
        if density.ndim != 2 or density.dtype.kind != "f" or 0 in density.shape:
            raise ValueError(f"{path}: not a map of sal360 ({density.dtype}, {density.shape})")
        return density, time

    @property
    def state_path(self) -> Path:
        """Where the memory of a model that was interrupted lies."""
        return self.path / "state.safetensors"

    def write_state(self, frames: int, tensors: Iterable[Tensor]) -> None:
        """Store what a model remembers after so many frames, whole or not at all."""
        from safetensors.torch import save

        parts = {f"{k:04d}": part.detach().cpu().clone() for k, part in enumerate(tensors)}
        parts = {name: part.contiguous() for name, part in parts.items()}
        write_whole(self.state_path, save(parts, metadata={"sal360.frames": str(frames)}))

    def read_state(self) -> tuple[int, list[Tensor]] | None:
        """Frames seen and tensors of :meth:`write_state`; None if nothing is stored.

        Raises:
            ValueError: another kind of file.
        """
        from safetensors import SafetensorError, safe_open

        if not self.state_path.is_file():
            return None
        try:
            with safe_open(str(self.state_path), "pt") as file:
                frames = int((file.metadata() or {})["sal360.frames"])
                return frames, [file.get_tensor(name) for name in sorted(file.keys())]
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{self.state_path}: not a state of sal360 ({error})") from None

    def remove_state(self) -> None:
        """Forget it."""
        for path in self.path.glob("state.*"):
            path.unlink()

    def maps_at(self, times: Iterable[float]) -> Iterator[NDArray[np.float32]]:
        """Densities at ascending times, linear between two predictions, held at the ends."""
        known = self.frames()
        if not known:
            raise ValueError(f"{self.path}: holds no maps")
        stamps = [self.read_map(index)[1] for index in known]
        cache: dict[int, NDArray[np.float32]] = {}

        def density(k: int) -> NDArray[np.float32]:
            for old in [o for o in cache if o < k - 1]:
                del cache[old]
            if k not in cache:
                cache[k] = self.read_map(known[k])[0]
            return cache[k]

        for time in times:
            after = bisect.bisect_right(stamps, time)
            if after == 0 or after == len(stamps):
                yield density(min(after, len(stamps) - 1))
                continue
            low, high = stamps[after - 1], stamps[after]
            share = np.float32((time - low) / (high - low))
            yield (1 - share) * density(after - 1) + share * density(after)

    def write_record(self, record: dict[str, Any]) -> None:
        """Store the record, whole or not at all."""
        write_whole(self.record_path, (json.dumps(record, indent=1) + "\n").encode())

    def read_record(self, whole: bool = False) -> dict[str, Any]:
        """The record of this folder.

        Args:
            whole: it must say what was predicted, with what; those who only score maps need not
                know.
        Raises:
            FileNotFoundError: there is none. ValueError: not a record, or of another schema.
        """
        if not self.record_path.is_file():
            raise FileNotFoundError(f"{self.record_path}: no such file; is this a prediction?")
        try:
            record = json.loads(self.record_path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.record_path}: not JSON ({error})") from None
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ValueError(f"{self.record_path}: not a record of schema {SCHEMA}")
        for name, wanted in _KEYS.items() if whole else ():
            part = record.get(name)
            missing = wanted - set(part) if isinstance(part, dict) else wanted
            if not isinstance(part, dict) or missing:
                lack = f" ({', '.join(sorted(missing))})" * bool(missing)
                raise ValueError(f"{self.record_path}: a record without {name}{lack}")
        return record


_KEYS = {"source": {"path", "kind", "fps", "stereo"}, "model": set(), "settings": set()}
"""What a record says of each, at least."""


def new_record(source: Source, model: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What is known about a run before it starts, in the schema of ``record.json``."""
    import torch

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return {
        "schema": SCHEMA,
        "sal360": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {
            "path": str(source.path.resolve()),
            "kind": source.kind,
            "sha256": None if source.kind == "folder" else sha256(source.path),
            "fps": source.fps,
            "frames": source.total,
            "stereo": source.stereo.layout,
            "stereo_reason": source.stereo.reason,
        },
        "model": getattr(model, "origin", None) or {"name": type(model).__name__},
        "settings": settings,
        "device": str(device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "status": "running",
    }


def sha256(path: str | Path) -> str:
    """Hash of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
