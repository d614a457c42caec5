"""From RGB frames to saliency densities, one per frame, with at most one window in memory.

Two ways to run a film, and the model says which by ``stateful``:

- **Frame by frame**, with what it remembers carried over the whole film, or over ``forgets``
  frames, where it was trained on clips as short and drifts when it remembers longer. A network
  that wants the map of the frame before is given its own.
- **In windows** that start with an empty memory, as the published SST-Sal was trained and run.
  Its code throws away the first frames of each window, so the first frames of the video, and
  its tail, are never predicted. Here the windows overlap in the same way, the first one is
  warmed up on the video played backwards into its start, and the last one may be short: every
  frame gets a map, and every map that the published code gives comes out the same.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import as_number, as_size, as_tensor, finite_number
from sal360.nn.state import filled_state, state_tensors
from sal360.projections import SamplingTable, apply_table, erp_table
from sal360.sphere import erp_directions, pixel_area

if TYPE_CHECKING:
    from sal360.baselines.base import Prior
    from sal360.models.base import Reading
    from sal360.results import PredictionFolder

MAP_SIZE = (240, 480)
"""Height and width of the maps of a video, whatever the size of its frames."""
MAX_PIXELS = 2**25
"""Pixels of the largest map that is written (4096 x 8192)."""
MAX_SIDE = 2**15
"""Rows or columns of it."""
PRIOR_POWER = 0.5
"""How far the film is trusted beside a prior: between what is best for published networks on real
heads, .5, and for networks of drawn worlds there, .25 to 1 (chapter 17)."""
KEEP = 64
"""A stateful model's memory is stored once in so many frames of a video."""


class ClipModel(Protocol):
    """What :func:`predict_stream` needs of a model; all of :mod:`sal360.models` have it.

    With ``stateful = True`` also ``step(frame (B, C, h, w), state) -> (map (B, 1, h, w), state)``;
    (and ``forgets``: after how many frames its memory is emptied, None for never);
    otherwise a call with a clip ``(B, T, C, h, w)`` gives ``(B, T, 1, h, w)``. ``reading`` says
    how its maps become densities (:func:`to_density`), ``"minmax"`` unless it is there.
    """

    rate: float | None
    length: int
    warm_up: int

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """One input ``(C, h, w)`` per RGB frame ``(H, W, 3)`` uint8.

        It may look one frame ahead and one back, at the ends of the film at what is there.
        """
        ...

    def parameters(self) -> Iterator[Tensor]:
        """As ``torch.nn.Module`` has it."""
        ...


@dataclass
class Memory:
    """What a stateful model remembers of a film, kept up to date by :func:`predict_stream`.

    Attributes:
        state: the model's own. frames: of the film, that it has seen.
        stored: the tensors of a state that was stored and is not yet put together again.
    """

    state: Any = None
    frames: int = 0
    stored: list[Tensor] | None = None


def to_density(
    raw: Tensor, size: tuple[int, int], shift: bool = True, reading: Reading | None = None
) -> Tensor:
    """Raw maps to densities with respect to solid angle.

    Each map is read as ``reading`` says, resampled on the sphere and scaled to unit mass. A map
    of nothing becomes the uniform density. Resampling reads bilinearly at the new pixels' centres:
    for maps much smaller than the network's own, ask for those and shrink them with
    :func:`sal360.resampling.downsample_erp`, which loses no peak between two pixels.

    Args:
        raw: ``(T, h, w)`` any real values. size: ``(H, W)`` wanted.
        shift: True is the reading ``"minmax"``, False ``"density"``.
        reading: ``"minmax"``: less its minimum, as published for SST-Sal. ``"positive"``: cut off
            at 0. ``"density"``: as it is; a shift would make a place that is merely unlikely
            impossible, and a divergence infinite. Goes before ``shift``.
    Returns:
        ``(T, H, W)`` float32, ``sum(map * pixel_area) = 1`` each.
    Raises:
        ValueError: NaN or infinite values in a map; a density below 0; an unknown reading.
    """
    reading = reading or ("minmax" if shift else "density")
    if reading not in ("minmax", "positive", "density"):
        raise ValueError(f"reading: {reading!r}, wanted 'minmax', 'positive' or 'density'")
    if not bool(torch.isfinite(raw).all()):
        raise ValueError("raw: the model gave NaN or infinite values")
    if reading == "density" and float(raw.min()) < 0:
        raise ValueError(f"raw: a density of {float(raw.min()):g}, wanted none below 0")
    maps = raw.float()
    if reading == "positive":
        maps = maps.clamp_min(0)
    if tuple(raw.shape[-2:]) != tuple(size):
        table = _resampling(raw.shape[-2], raw.shape[-1], size[0], size[1], raw.device)
        maps = apply_table(maps[:, None], table).reshape(-1, *size)
    if reading == "minmax":
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
    memory: Memory | None = None,
) -> Iterator[Tensor]:
    """One density per frame, in order, at constant memory.

    Args:
        frames: RGB panoramas ``(H, W, 3)`` uint8, arrays, any iterable (a video reader, say).
        model: see :class:`ClipModel`. It answers in evaluation mode, whatever mode it is in.
        size: ``(H, W)`` of the maps.
        continued: the first frames were predicted before and only show what moves, or fill the
            memory of a window (see :func:`restart_point`).
        memory: of a stateful model, to begin with; after every map it holds the new one.
    Yields:
        ``(H, W)`` float32 on the CPU; ``sum(map * pixel_area) = 1``.
    Raises:
        ValueError, TypeError: a frame of another shape or dtype, by its number.
    """
    size = as_size(size, "size")
    frames = _pictures(frames)
    with _evaluating(model):
        if _stateful(model):
            yield from _frame_by_frame(frames, model, size, continued, memory or Memory())
            return
        warm = model.warm_up
        lead = list(islice(frames, warm + 1))
        fresh = min(warm, len(lead))  # these frames no window would predict
        if fresh and not continued:
            played = [lead[_reflect(t, len(lead))] for t in range(-warm, len(lead))]
            inputs = list(islice(model.features(played), warm + fresh))
            yield from _window(model, inputs, size)

        features = model.features(chain(lead, frames))
        if continued and not warm:
            next(features, None)
        window = list(islice(features, model.length))
        while len(window) > warm:
            yield from _window(model, window, size)
            window = window[model.length - warm :] + list(islice(features, model.length - warm))


def _pictures(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The frames, each looked at: OpenCV takes floats in [0, 1] too, and they would be black."""
    for number, frame in enumerate(frames):
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
            found = getattr(frame, "dtype", type(frame).__name__)
            raise TypeError(f"frames[{number}]: {found}, wanted an array (H, W, 3) of uint8 RGB")
        if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"frames[{number}]: shape {frame.shape}, wanted (H, W, 3)")
        yield frame


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Batch norms as after training, and left alone; then every part has the mode it had."""
    parts = (
        [part for part in model.modules() if part.training]
        if isinstance(model, torch.nn.Module)
        else []
    )
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part in parts:
            part.training = True


def restart_point(done: int, model: ClipModel) -> int:
    """Frame at which an interrupted prediction goes on, to the same numbers.

    Of a stateful model it is the last frame that its memory has seen; its look at the next one
    tells what moves. Windows stand at fixed places, so there it is the start of the first one
    that is not complete (a frame earlier if windows do not overlap).
    ``predict_stream(frames[point:], model, continued=point > 0, memory=memory)`` then yields
    from frame :func:`first_map` on.

    Args:
        done: frames that have a map; of a stateful model those that its memory has seen.
    """
    if _stateful(model):
        return max(0, done - 1)
    step = model.length - model.warm_up
    point = max(0, (done - model.warm_up) // step) * step
    return point if model.warm_up else max(0, point - 1)


def first_map(point: int, model: ClipModel) -> int:
    """Frame of the first map after :func:`restart_point`."""
    lead = 1 if _stateful(model) else max(1, model.warm_up)
    return point + lead if point else 0


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
    _check_model(model)
    clip = as_tensor(frames, "frames")
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
    prior: Prior | None = None,
    prior_power: float = PRIOR_POWER,
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
        prior: such as ``load_model("equator-front")``: every map, to ``prior_power``, is taken
            times its density (:func:`sal360.baselines.times_prior`).
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
    from sal360.baselines import times_prior
    from sal360.results import PredictionFolder, new_record
    from sal360.sources import open_source

    _check_model(model)
    height, width = as_size(size, "size")
    start = as_number(start, "start")  # plain numbers, as the record is JSON
    fps = None if fps is None else as_number(fps, "fps")
    seconds = None if seconds is None or seconds == math.inf else as_number(seconds, "seconds")
    source = open_source(path, stereo, fps)
    if fps is None:
        fps = model.rate
    every = None if fps is None or fps == float("inf") else fps
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        wanted = f"at most {MAX_PIXELS} pixels, {MAX_SIDE} on a side"
        raise ValueError(f"size: {height} x {width}, wanted {wanted}")
    folder = PredictionFolder(out)
    power = finite_number(prior_power, "prior_power")
    if power < 0:
        raise ValueError(f"prior_power: {power:g}, wanted at least 0")
    known = None if prior is None else _density_of(prior, height, width)
    beside = None if known is None else {**_origin(prior, known), "power": power}
    settings = {"fps": every, "start": start, "seconds": seconds, "size": [height, width],
                "prior": beside}  # fmt: skip
    record = new_record(source, model, settings)
    total = source.count(every, start, seconds)
    if total == 0:
        raise ValueError(f"{source.path}: has no frame from {start:g} s on, in the length wanted")
    with folder.alone():
        done = _prepare(folder, record, force, resume)
        have = 0
        for frame in islice(source.frames(every, start, seconds), done):
            if not folder.has_map(frame.index):
                break
            have += 1
        memory = Memory()
        if _stateful(model):
            memory.frames, memory.stored = folder.read_state() or (0, None)
            if not 1 < memory.frames <= have:  # of maps that are gone, or not worth it
                memory = Memory()
            have = memory.frames
        kept = memory.frames
        point = restart_point(have, model)
        first = first_map(point, model)
        chosen = islice(source.frames(every, start, seconds), point, None)
        meta: list[tuple[int, float]] = []

        def pictures() -> Iterator[NDArray[np.uint8]]:
            for frame in chosen:
                meta.append((frame.index, frame.time))
                yield frame.rgb

        begun, count = time.perf_counter(), first
        try:
            maps = predict_stream(pictures(), model, (height, width), point > 0, memory)
            bar = tqdm(
                maps, "predict", total, initial=first, unit="frame", disable=not progress or None
            )
            waiting = first - point  # frames that only fill the memory have a number but no map
            for density in bar:
                index, stamp = meta[waiting]
                del meta[: waiting + 1]
                waiting = 0
                if known is not None:
                    density = times_prior(density, known, power)
                folder.write_map(index, stamp, density.numpy())
                count += 1
                if _stateful(model) and count - kept >= KEEP:
                    folder.write_state(count, state_tensors(memory.state))
                    kept = count
            if count == 0:
                raise ValueError(f"{source.path}: has no frame from {start:g} s on")
            if not with_overlay:
                record["status"] = "complete"
                folder.remove_state()
        except BaseException as error:
            record["status"] = "interrupted"
            record["reason"] = type(error).__name__
            if memory.frames == count > kept:  # else the map of its last frame was not written
                with suppress(OSError):
                    folder.write_state(count, state_tensors(memory.state))
            raise
        finally:
            elapsed = time.perf_counter() - begun
            record["maps"] = count
            record["predicted_now"] = count - first
            record["elapsed_s"] = round(elapsed, 3)
            record["frames_per_s"] = round((count - first) / max(elapsed, 1e-9), 3)
            folder.write_record(record)
            if count == 0 and not done:  # nothing was predicted: out of the next try's way
                folder.clear()
        if with_overlay:
            name = "overlay.jpg" if source.kind == "image" else "overlay.mp4"
            rendering.overlay(source, folder, folder.path / name, progress=progress)
            folder.remove_state()
            record["status"] = "complete"
            folder.write_record(record)
        return record


def refuse_taken(folder: PredictionFolder, force: bool, resume: bool) -> bool:
    """Whether a folder holds something; an error if it may not be written into.

    Raises:
        FileExistsError: it holds something, and neither force nor resume; or it is a file.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise FileExistsError(f"{folder.path}: a file, wanted a folder to write into")
    taken = folder.path.is_dir() and any(folder.path.iterdir())
    if taken and not (force or resume):
        raise FileExistsError(f"{folder.path}: not empty; --force writes over it")
    return taken


def _prepare(folder: Any, record: dict[str, Any], force: bool, resume: bool) -> int:
    """Make the folder ready; how many maps an interrupted run left in it."""
    taken = refuse_taken(folder, force, resume)
    if taken and resume:
        before = folder.read_record(whole=True)
        for part in ("source", "model", "settings"):
            old, new = _by_hash(before.get(part) or {}), _by_hash(record[part])
            other = [
                name for name, value in new.items() if _by_hash(old.get(name)) != _by_hash(value)
            ]
            if other:
                raise ValueError(
                    f"{folder.path}: cannot resume, it was made with another {part} "
                    f"({', '.join(other)})"
                )
        folder.remove_parts()
        return len(folder.frames())
    if taken:
        folder.clear()
    folder.write_record(record)  # first: a folder without one would not be ours
    folder.create()
    return 0


def _by_hash(origin: Any) -> Any:
    """Without the place of its file of weights, where a hash says which it is."""
    hashed = isinstance(origin, dict) and origin.get("sha256")
    return {k: v for k, v in origin.items() if k != "weights"} if hashed else origin


def _density_of(prior: Any, height: int, width: int) -> Tensor:
    if not callable(getattr(prior, "density", None)):
        found = repr(prior) if isinstance(prior, str) else type(prior).__name__
        raise TypeError(f"prior: {found}, wanted one such as load_model('equator-front')")
    density: Tensor = prior.density(height, width).detach().cpu()
    return density


def _origin(prior: Any, density: Tensor) -> dict[str, Any]:
    """Where it came from; of one that was made by hand, what it says."""
    if origin := getattr(prior, "origin", None):
        return dict(origin)
    digest = hashlib.sha256(density.float().contiguous().numpy().tobytes()).hexdigest()
    return {"name": type(prior).__name__, "density": digest}


def _check_model(model: Any) -> None:
    if not callable(getattr(model, "features", None)):
        found = repr(model) if isinstance(model, str) else type(model).__name__
        raise TypeError(f"model: {found}, wanted one that sal360.models.load_model made")


def _stateful(model: Any) -> bool:
    return bool(getattr(model, "stateful", False))


def _window(model: Any, inputs: list[Tensor], size: tuple[int, int]) -> Tensor:
    """A window of ``(C, h, w)`` inputs to densities of all but its first frames."""
    raw = model(_as_parameters(torch.stack(inputs)[None], model))[0, model.warm_up :, 0]
    return to_density(raw, size, reading=getattr(model, "reading", "minmax")).cpu()


def _frame_by_frame(
    frames: Iterable[NDArray[np.uint8]],
    model: Any,
    size: tuple[int, int],
    continued: bool,
    memory: Memory,
) -> Iterator[Tensor]:
    """The densities of a stateful model."""
    forgets = getattr(model, "forgets", None)
    for number, inputs in enumerate(model.features(frames)):
        frame = _as_parameters(inputs[None], model)
        if continued and number == 0:
            if memory.stored is not None:
                _, like = model.step(frame, None)
                memory.state, memory.stored = filled_state(like, memory.stored), None
            continue
        if forgets and memory.frames % forgets == 0:
            memory.state = None
        raw, memory.state = model.step(frame, memory.state)
        memory.frames += 1
        yield to_density(raw[:, 0], size, reading=getattr(model, "reading", "minmax"))[0].cpu()


def _as_parameters(inputs: Tensor, model: ClipModel) -> Tensor:
    """On the device and in the dtype of the model's parameters, if it has any."""
    parameter = next(iter(model.parameters()), None)
    return inputs if parameter is None else inputs.to(parameter)


def _reflect(t: int, length: int) -> int:
    """Index of a sequence that is played back and forth: -1 is 1, -2 is 2, ..."""
    if length == 1:
        return 0
    t = t % (2 * length - 2)
    return min(t, 2 * length - 2 - t)
