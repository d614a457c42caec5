"""From RGB frames to saliency densities, one per frame, with at most one window in memory.

A clip model was trained on short sequences that start with an empty memory. The published
inference cuts the video into overlapping windows and throws away the first frames of each,
so the first frames of the video, and its tail, are never predicted. Here the windows overlap
in the same way, the first one is warmed up on the video played backwards into its start, and
the last one may be short: every frame gets a map, and every map that the published code gives
comes out the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.projections import SamplingTable, apply_table, erp_table
from sal360.sphere import erp_directions, pixel_area

MAP_SIZE = (240, 480)
"""Height and width of the maps of a video, whatever the size of its frames."""
MAX_PIXELS = 2**25
"""Pixels of the largest map that is written (4096 x 8192)."""


class ClipModel(Protocol):
    """What :func:`predict_stream` needs of a model; :class:`sal360.models.SSTSal` is one."""

    rate: float | None
    length: int
    warm_up: int
    # A model whose maps are densities already says so by ``gives_density = True`` (baselines do);
    # of others each map is shifted so that its minimum is 0.

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """One input ``(C, h, w)`` per RGB frame ``(H, W, 3)`` uint8."""
        ...

    def __call__(self, clip: Tensor) -> Tensor:
        """``(B, T, C, h, w)`` to ``(B, T, 1, h, w)``."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """As ``torch.nn.Module`` has it."""
        ...


def to_density(raw: Tensor, size: tuple[int, int], shift: bool = True) -> Tensor:
    """Raw maps to densities with respect to solid angle.

    Each map is shifted so that its minimum is 0 (the published min-max), resampled on the
    sphere and scaled to unit mass. A flat map becomes the uniform density.

    Args:
        raw: ``(T, h, w)`` any real values. size: ``(H, W)`` wanted.
        shift: False for maps that are densities already: a shift would make a place that is
            merely unlikely impossible, and a divergence infinite.
    Returns:
        ``(T, H, W)`` float32, ``sum(map * pixel_area) = 1`` each.
    Raises:
        ValueError: NaN or infinite values in a map; negative ones that are not to be shifted.
    """
    if not bool(torch.isfinite(raw).all()):
        raise ValueError("raw: the model gave NaN or infinite values")
    if not shift and float(raw.min()) < 0:
        raise ValueError(f"raw: a density of {float(raw.min()):g}, wanted none below 0")
    maps = raw.float()
    if tuple(raw.shape[-2:]) != tuple(size):
        table = _resampling(raw.shape[-2], raw.shape[-1], size[0], size[1], raw.device)
        maps = apply_table(maps[:, None], table).reshape(-1, *size)
    if shift:
        maps = maps - maps.amin((-2, -1), keepdim=True)
    maps = torch.where(maps.amax((-2, -1), keepdim=True) > 1e-9, maps, torch.ones_like(maps))
    area = pixel_area(*size).to(maps)[:, None]
    return maps / (maps * area).sum((-2, -1), keepdim=True)


@lru_cache(maxsize=2)
def _resampling(h: int, w: int, H: int, W: int, device: torch.device) -> SamplingTable:
    return erp_table(erp_directions(H, W).to(device), h, w)


@torch.no_grad()
def predict_stream(
    frames: Iterable[NDArray[np.uint8]],
    model: ClipModel,
    size: tuple[int, int] = MAP_SIZE,
    continued: bool = False,
) -> Iterator[Tensor]:
    """One density per frame, in order, at constant memory.

    Args:
        frames: RGB panoramas ``(H, W, 3)`` uint8, any iterable (a video reader, say).
        model: see :class:`ClipModel`.
        size: ``(H, W)`` of the maps.
        continued: the first ``model.warm_up`` frames were predicted before and only fill the
            memory (see :func:`restart_point`).
    Yields:
        ``(H, W)`` float32 on the CPU; ``sum(map * pixel_area) = 1``.
    """
    warm, shift = model.warm_up, not getattr(model, "gives_density", False)
    frames = iter(frames)
    lead = list(islice(frames, warm + 1))
    fresh = min(warm, len(lead))  # these frames no window would predict
    if fresh and not continued:
        played = [lead[_reflect(t, len(lead))] for t in range(-warm, len(lead))]
        inputs = list(islice(model.features(played), warm + fresh))
        yield from to_density(_run(model, inputs)[warm:], size, shift).cpu()

    features = model.features(chain(lead, frames))
    window = list(islice(features, model.length))
    while len(window) > warm:
        yield from to_density(_run(model, window)[warm:], size, shift).cpu()
        window = window[model.length - warm :] + list(islice(features, model.length - warm))


def restart_point(done: int, model: ClipModel) -> int:
    """Frame at which an interrupted prediction of ``done`` frames goes on, to the same numbers.

    Windows stand at fixed places, so it is the start of the first window that is not complete;
    ``predict_stream(frames[point:], model, continued=point > 0)`` then yields from frame
    ``point + model.warm_up`` on.
    """
    step = model.length - model.warm_up
    return max(0, (done - model.warm_up) // step) * step


def predict_frames(frames: Any, model: ClipModel, size: tuple[int, int] | None = None) -> Tensor:
    """Saliency of a short clip that fits in memory.

    Args:
        frames: ``(T, 3, H, W)`` RGB, floating in [0, 1] or uint8; tensor or array.
        model: from :func:`sal360.models.load_model`.
        size: ``(H, W)`` of the maps; that of the frames if None.
    Returns:
        ``(T, H, W)`` float32 densities on the CPU, one per frame.
    Raises:
        ValueError, TypeError: frames of another shape, dtype or range.
    """
    clip = frames if isinstance(frames, Tensor) else torch.as_tensor(np.asarray(frames))
    if clip.ndim != 4 or clip.shape[1] != 3 or 0 in clip.shape:
        raise ValueError(f"frames: shape {tuple(clip.shape)}, wanted (T, 3, H, W)")
    if clip.is_floating_point():
        low, high = float(clip.min()), float(clip.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(f"frames: values from {low:g} to {high:g}, wanted [0, 1]")
        clip = (clip.clamp(0, 1) * 255).round().to(torch.uint8)
    elif clip.dtype != torch.uint8:
        raise TypeError(f"frames: dtype {clip.dtype}, wanted floating or uint8")
    pictures = np.ascontiguousarray(clip.permute(0, 2, 3, 1).cpu().numpy())
    size = size or (clip.shape[-2], clip.shape[-1])
    return torch.stack(list(predict_stream(pictures, model, size)))


def predict_video(
    path: str | Path,
    model: ClipModel,
    out: str | Path,
    *,
    stereo: str = "auto",
    fps: float | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    size: tuple[int, int] = MAP_SIZE,
    with_overlay: bool = True,
    force: bool = False,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Predict a video, a picture or a folder of frames into a folder, at constant memory.

    Args:
        path: see :func:`sal360.sources.open_source`. It is only read.
        model: from :func:`sal360.models.load_model`.
        out: folder to write, laid out as :mod:`sal360.results` says.
        stereo: ``"auto"``, ``"mono"``, ``"tb"`` or ``"sbs"``; one eye (the left) is predicted.
        fps: predictions per second of a video. None takes the rate that the model was trained
            at (one frame in ``round(source / rate)``), ``inf`` every frame. Of a folder of
            frames, the rate at which they were taken.
        start, seconds: the part to predict, in seconds.
        size: ``(H, W)`` of the maps.
        with_overlay: also write ``overlay.mp4`` (``overlay.jpg`` for a picture).
        force: write over an earlier prediction. resume: go on with an interrupted one.
        progress: show a bar.
    Returns:
        The record that was written to ``record.json``.
    Raises:
        FileExistsError: ``out`` holds a prediction, and neither force nor resume.
        FileNotFoundError, ValueError: a source or setting that cannot be used.
        KeyboardInterrupt: passed on after the record is written; finished maps stay.
    """
    from tqdm import tqdm

    from sal360 import rendering
    from sal360.results import PredictionFolder, new_record
    from sal360.sources import open_source

    source = open_source(path, stereo, fps)
    if fps is None:
        fps = model.rate
    every = None if fps is None or fps == float("inf") else fps
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"size: {size[0]} x {size[1]}, wanted at most {MAX_PIXELS} pixels")
    folder = PredictionFolder(out)
    settings = {"fps": every, "start": start, "seconds": seconds, "size": list(size)}
    record = new_record(source, model, settings)
    total = source.count(every, start, seconds)
    if total == 0:
        raise ValueError(f"{source.path}: has no frame from {start:g} s on, in the length wanted")
    done = _prepare(folder, record, force, resume)
    have = 0
    for frame in islice(source.frames(every, start, seconds), done):
        if not folder.has_map(frame.index):
            break
        have += 1
    point = restart_point(have, model)
    first = point + model.warm_up if point else 0
    chosen = islice(source.frames(every, start, seconds), point, None)
    meta: list[tuple[int, float]] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for frame in chosen:
            meta.append((frame.index, frame.time))
            yield frame.rgb

    begun, count = time.perf_counter(), first
    try:
        maps = predict_stream(pictures(), model, size, continued=point > 0)
        bar = tqdm(
            maps, "predict", total, initial=first, unit="frame", disable=not progress or None
        )
        waiting = first - point  # frames that only fill the memory have a number but no map
        for density in bar:
            index, stamp = meta[waiting]
            del meta[: waiting + 1]
            waiting = 0
            folder.write_map(index, stamp, density.numpy())
            count += 1
        if count == 0:
            raise ValueError(f"{source.path}: has no frame from {start:g} s on")
        if not with_overlay:
            record["status"] = "complete"
    except BaseException as error:
        record["status"] = "interrupted"
        record["reason"] = type(error).__name__
        raise
    finally:
        elapsed = time.perf_counter() - begun
        record["maps"] = count
        record["predicted_now"] = count - first
        record["elapsed_s"] = round(elapsed, 3)
        record["frames_per_s"] = round((count - first) / max(elapsed, 1e-9), 3)
        folder.write_record(record)
        if count == 0 and not done:  # nothing was predicted: do not stand in the way of a next try
            folder.clear()
    if with_overlay:
        name = "overlay.jpg" if source.kind == "image" else "overlay.mp4"
        rendering.overlay(source, folder, folder.path / name, progress=progress)
        record["status"] = "complete"
        folder.write_record(record)
    return record


def _prepare(folder: Any, record: dict[str, Any], force: bool, resume: bool) -> int:
    """Make the folder ready; how many maps an interrupted run left in it."""
    if folder.path.exists() and not folder.path.is_dir():
        raise FileExistsError(f"{folder.path}: a file, wanted a folder to write into")
    taken = folder.path.is_dir() and any(folder.path.iterdir())
    if taken and resume:
        before = folder.read_record()
        for part in ("source", "model", "settings"):
            old = before.get(part) or {}
            other = [name for name, value in record[part].items() if old.get(name) != value]
            if other:
                raise ValueError(
                    f"{folder.path}: cannot resume, it was made with another {part} "
                    f"({', '.join(other)})"
                )
        return len(folder.frames())
    if taken and not force:
        raise FileExistsError(f"{folder.path}: not empty; --force writes over it")
    if taken:
        folder.clear()
    folder.create()
    folder.write_record(record)
    return 0


def _run(model: ClipModel, inputs: list[Tensor]) -> Tensor:
    """A window of ``(C, h, w)`` inputs to raw maps ``(T, h, w)``."""
    parameter = next(iter(model.parameters()), None)
    clip = torch.stack(inputs)[None]
    return model(clip if parameter is None else clip.to(parameter))[0, :, 0]


def _reflect(t: int, length: int) -> int:
    """Index of a sequence that is played back and forth: -1 is 1, -2 is 2, ..."""
    if length == 1:
        return 0
    t = t % (2 * length - 2)
    return min(t, 2 * length - 2 - t)
