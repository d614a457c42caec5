"""Flow that is sought once: kept in the cache folder, by what it was made from.

A file holds the flow of one pair of frames. Its name is a hash of both frames' bytes, of the
method with its settings and of the versions that matter, so nothing in it can be out of date;
the ones not read for longest make room. Data sets of the user are never written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import ArrayLike, as_tensor, non_negative
from sal360.flow.files import load_flow, round_flow, save_flow
from sal360.flow.planar import FlatMethod, Picture, as_method, planar_flow
from sal360.flow.spherical import sphere_flow
from sal360.flow.views import LAYOUTS, Layout

VERSION = 1
"""Of what views and fusion compute; goes up when their numbers change."""


class FlowStore:
    """Flow of pairs of frames, up to a number of bytes in all.

    Args:
        limit_gb: what all pairs together may take; one of 240 x 480 takes about 65 kB.
        folder: where; None: ``flow`` in the cache folder.
    """

    def __init__(self, limit_gb: float = 2.0, folder: str | Path | None = None) -> None:
        self.limit_gb = non_negative(limit_gb, "limit_gb")
        self.folder = _folder() if folder is None else Path(folder)
        self._total: int | None = None
        self._unkept = False

    def flow(self, key: str, make: Callable[[], NDArray[np.float32]]) -> Tensor:
        """The flow kept under a key, made first if it is not there or damaged.

        It is rounded as files round it whether it was there or not. A folder that cannot be
        written is told once, in a warning.

        Args:
            key: says everything that it depends on. make: computes ``(2, H, W)``.
        Returns:
            ``(2, H, W)`` float32.
        """
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npz"
        try:
            kept = load_flow(path)[0]
        except (OSError, ValueError):
            return self._keep(path, make())
        with contextlib.suppress(OSError):  # a read-only cache, or another process made room
            os.utime(path)  # read now: the last to make room
        return kept

    def _keep(self, path: Path, flow: NDArray[np.float32]) -> Tensor:
        if not self._unkept:
            try:
                save_flow(path, flow)
                kept = load_flow(path)[0]
                self._make_room(path.stat().st_size)
                return kept
            except OSError as problem:
                self._unkept = True
                warnings.warn(f"flow is sought again each time ({problem})", stacklevel=4)
        return round_flow(flow)[0]

    def _make_room(self, size: int) -> None:
        """Delete what was not read for longest until all is within the limit.

        The folder is looked through at the start and when the sum says that it is full.
        """
        limit = self.limit_gb * 1e9
        if self._total is not None:
            self._total += size
            if self._total <= limit:
                return
        found = []
        for path in self.folder.glob("*.npz"):
            try:
                found.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            except FileNotFoundError:  # another process made room
                continue
        total = sum(bytes_ for _, bytes_, _ in found)
        for _, bytes_, path in sorted(found):
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total -= bytes_
        self._total = total


def flow_of(
    frames: ArrayLike,
    method: str | FlatMethod = "dis",
    views: Layout | None = "mercator",
    cache: bool | FlowStore = True,
) -> Tensor:
    """Flow of a clip, from each frame to the next, as :class:`~sal360.datasets.item.Item` has it.

    ``dataclasses.replace(item, flow=flow_of(item.frames))`` gives flow to an item without.

    Args:
        frames: ``(T, 3, H, W)`` floating RGB in [0, 1], or ``(T, H, W, 3)`` uint8.
        method: ``"dis"``, ``"farneback"``, ``"raft"`` or a :class:`~sal360.flow.FlatMethod`.
        views: as for :func:`~sal360.flow.sphere_flow`; None for the flat panorama
            (:func:`~sal360.flow.planar_flow`).
        cache: keep and find flow in the cache folder, or in a :class:`FlowStore`. Kept flow is
            rounded to 1/64 pixel (:func:`~sal360.flow.save_flow`).
    Returns:
        ``(T, 2, H, W)`` float32 pixels, right and down. The last frame has no next one and
        repeats the flow before it; a single frame is taken to be still.
    Raises:
        ValueError: other shapes or dtypes, values outside [0, 1], frames below the least size, an
            unknown method or layout.
    """
    pictures, chosen = _pictures(frames), as_method(method)
    if views is not None and views not in LAYOUTS:
        raise ValueError(f"views: {views!r}, wanted None or one of {', '.join(map(repr, LAYOUTS))}")
    store = cache if isinstance(cache, FlowStore) else _store(_folder()) if cache else None
    hashes = [hashlib.sha256(p.tobytes()).hexdigest() for p in pictures] if store else []
    T, H, W = pictures.shape[:3]
    out = torch.zeros(T, 2, H, W)
    for t in range(T - 1):

        def seek(first: Picture = pictures[t], second: Picture = pictures[t + 1]) -> NDArray:
            if views is None:
                return planar_flow(first, second, chosen)
            return sphere_flow(first, second, chosen, views)

        if store is None:
            out[t] = torch.from_numpy(seek())
        else:
            out[t] = store.flow(_key(hashes[t], hashes[t + 1], H, W, chosen, views), seek)
    if T > 1:
        out[-1] = out[-2]
    return out


@lru_cache(maxsize=4)
def _store(folder: Path) -> FlowStore:
    """One for all clips, so that the folder is looked through once."""
    return FlowStore(folder=folder)


def _folder() -> Path:
    from sal360.datasets.download import cache_folder  # data sets stand on flow, not under it

    return cache_folder() / "flow"


def _key(first: str, second: str, H: int, W: int, method: FlatMethod, views: str | None) -> str:
    import cv2

    return f"{first} {second} {H} {W} {method.name} {views} {VERSION} opencv {cv2.__version__}"


def _pictures(frames: ArrayLike) -> NDArray[np.uint8]:
    """``(T, H, W, 3)`` uint8."""
    tensor = as_tensor(frames, "frames").detach().cpu()
    last = tensor.ndim == 4 and tensor.shape[-1] == 3 and tensor.dtype == torch.uint8
    first = tensor.ndim == 4 and tensor.shape[1] == 3 and tensor.is_floating_point()
    if tensor.ndim != 4 or 0 in tensor.shape or not (last or first):
        raise ValueError(
            f"frames: shape {tuple(tensor.shape)} {tensor.dtype}, wanted (T, 3, H, W) floating "
            "or (T, H, W, 3) uint8"
        )
    if first:
        low, high = float(tensor.min()), float(tensor.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(f"frames: values from {low:g} to {high:g}, wanted [0, 1]")
        tensor = (tensor.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return np.ascontiguousarray(tensor.numpy())
