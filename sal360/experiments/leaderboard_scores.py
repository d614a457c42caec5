"""Maps of a test set in closed loop, and what they are worth: by video, latitude and calibration.

All videos of a test set are as long and go through a network side by side, frame after frame, each
with its own memory; every arm is scored by the same lines on the same directions of gaze. The
scores are those of :mod:`sal360.metrics`, taken for all frames at once. Chapter 17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360 import _runtime
from sal360.baselines.base import Baseline, normalised
from sal360.datasets.batch import Batch, collate
from sal360.datasets.item import VideoDataset
from sal360.inference import ClipModel, predict_frames
from sal360.metrics import cc, kld, sim
from sal360.resampling import erp_table
from sal360.sphere import lonlat_to_xyz, pixel_area
from sal360.training.inputs import clip_inputs
from sal360.training.objectives import as_read
from sal360.training.validation import EPS

METRICS = ("cc", "sim", "kld", "nss")
BANDS = {"below 30": (0.0, 30.0), "30 to 60": (30.0, 60.0), "above 60": (60.0, 90.1)}
"""Degrees of latitude, north and south alike, of the direction that was looked in."""
BINS = 10
"""Parts of equal predicted mass, from the darkest of a map to its peak."""
TOGETHER = {"cpu": 8, "cuda": 32}
"""Videos that go through a network side by side, by device."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A test set on a device: ``V`` videos of ``T`` frames, looked at in ``M`` directions.

    Attributes:
        name: of the condition. videos: their names. batch: all of them as one batch.
        frame: ``(M,)`` number ``v T + t`` of the frame in which each direction was looked.
        lat: ``(M,)`` degrees. nearest: ``(M,)`` its pixel. pixels, weights: ``(M, 4)`` around it.
    """

    name: str
    videos: tuple[str, ...]
    batch: Batch
    frame: Tensor
    lat: Tensor
    nearest: Tensor
    pixels: Tensor
    weights: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(V, T, H, W)``."""
        V, T, _, H, W = self.batch.frames.shape
        return V, T, H, W


def scene(data: VideoDataset, name: str, device: str | torch.device = "cpu") -> Scene:
    """Read a whole test set.

    Raises:
        ValueError: videos of different lengths, or without truth and fixations.
    """
    lengths = {data.length(video) for video in data.videos}
    if len(lengths) > 1:
        raise ValueError(f"data: videos of {min(lengths)} to {max(lengths)} frames, wanted one")
    batch = collate([data.read(video) for video in data.videos])
    if batch.fixations is None or batch.truth is None or batch.fixation_counts is None:
        raise ValueError(f"data: {data.name} without truth or fixations, wanted both")
    H, W = batch.frames.shape[-2:]
    looked, counts = batch.fixations, batch.fixation_counts.flatten()
    xyz = lonlat_to_xyz(looked[:, 0], looked[:, 1])
    near, four = erp_table(xyz, H, W, "nearest"), erp_table(xyz, H, W, "bilinear")
    return Scene(
        name,
        tuple(data.videos),
        batch.to(device),
        torch.arange(len(counts)).repeat_interleave(counts).to(device),
        torch.rad2deg(looked[:, 1]).float().to(device),
        near.pixels[:, 0].to(device),
        four.pixels.to(device),
        four.weights.float().to(device),
    )


@torch.no_grad()
def predicted(
    model: nn.Module, test: Scene, processes: int = 1, every: int | None = None
) -> Tensor:
    """Densities ``(V, T, H, W)`` of mass 1, float32, in closed loop from the first frame on.

    Networks are given what they were trained on (:func:`sal360.training.inputs.clip_inputs`);
    baselines look at the frames as films have them, in bytes, in so many processes.

    Args:
        every: empty a network's memory every so many frames; None: carry it on.
    """
    model.eval()
    V, _, H, W = test.shape
    if isinstance(model, Baseline):
        model.input_size = (H, W)
        films = (test.batch.frames * 255).round().to(torch.uint8).cpu()
        jobs = [(model, film.numpy()) for film in films]
        if processes > 1:
            with _runtime.workers(min(processes, V)) as pool:
                maps = list(pool.map(_looked_at, jobs, chunksize=1))
        else:
            maps = [_looked_at(job) for job in jobs]
        return normalised(torch.from_numpy(np.stack(maps)).to(test.batch.frames.device))
    reading = getattr(model, "reading", "minmax")
    done, many = [], TOGETHER.get(test.batch.frames.device.type, 8)
    for first in range(0, V, many):
        state, maps_of = None, []
        clip = clip_inputs(model, _part(test.batch, slice(first, first + many)))
        for number, frame in enumerate(clip.unbind(1)):
            state = None if every and number % every == 0 else state
            raw, state = model.step(frame, state)  # type: ignore[operator]
            maps_of.append(as_read(raw.float(), reading)[:, 0])
        done.append(torch.stack(maps_of, 1))
    return normalised(torch.cat(done).clamp_min(0))


def _looked_at(job: tuple[Any, NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Maps of a film by a baseline: arrays, which go from process to process as they are."""
    model, film = job
    maps: NDArray[np.float32] = predict_frames(film, cast(ClipModel, model)).numpy()
    return maps


def _part(batch: Batch, some: slice) -> Batch:
    def cut(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[some]

    return Batch(
        batch.dataset[some],
        batch.video[some],
        batch.clips[some],
        batch.frames[some],
        batch.indices[some],
        batch.fps[some],
        flow=cut(batch.flow),
        flow_picture=cut(batch.flow_picture),
        truth=cut(batch.truth),
    )


@torch.no_grad()
def scored(maps: Tensor, test: Scene) -> dict[str, Any]:
    """What maps are worth on a test set.

    Args:
        maps: ``(V, T, H, W)`` densities.
    Returns:
        ``cc``, ``sim``, ``kld`` (with :data:`~sal360.training.validation.EPS`) and ``nss``: a
        number for each video, the mean over its frames; ``latitude``: by band the mean z-score of
        the directions in it, by video, None where nobody looked there; ``calibration``: the
        shares of fixations in each of :data:`BINS` parts of equal predicted mass; ``off``: half
        the sum of their distances from ``1 / BINS``: 0 is calibrated, .9 the worst.
    """
    V, T, _, _ = test.shape
    if maps.shape != test.shape:
        raise ValueError(f"maps: shape {tuple(maps.shape)}, wanted {test.shape}")
    truth = test.batch.truth
    assert truth is not None
    out: dict[str, Any] = {metric: [] for metric in METRICS}
    for video, known in zip(maps, truth[:, :, 0], strict=True):
        told = known.flatten(1).isfinite().all(1)
        pair = video[told], known[told]
        for metric, values in (
            ("cc", cc(*pair)),
            ("sim", sim(*pair)),
            ("kld", kld(*pair, eps=EPS)),
        ):
            out[metric].append(_rounded(values.mean()))
    frames = maps.flatten(0, 1)
    z = heights(frames, test)
    per_frame, seen = _means(z, test.frame, V * T)
    of = torch.arange(V, device=z.device).repeat_interleave(T)
    out["nss"] = _listed(*_means(per_frame[seen > 0], of[seen > 0], V))
    out["latitude"] = {}
    for band in BANDS:
        there = lies_in(test, band)
        out["latitude"][band] = _listed(*_means(z[there], test.frame[there] // T, V))
    shares = calibration(frames, test)
    out["calibration"] = [_rounded(share) for share in shares]
    out["off"] = _rounded((shares - 1 / BINS).abs().sum() / 2)
    return out


def lies_in(test: Scene, band: str) -> Tensor:
    """``(M,)`` whether each direction lies in a band of :data:`BANDS`."""
    low, high = BANDS[band]
    return (test.lat.abs() >= low) & (test.lat.abs() < high)


def heights(frames: Tensor, test: Scene) -> Tensor:
    """``(M,)`` z-score of each direction in its frame's map ``(N, H, W)``: NSS before its mean."""
    H, W = frames.shape[-2:]
    weight = (pixel_area(H, W) / (4 * math.pi)).to(frames)[:, None]
    mean = (frames * weight).sum((-2, -1))
    deviation = ((frames - mean[:, None, None]) ** 2 * weight).sum((-2, -1)).sqrt()
    # A map that is flat but for rounding is flat.
    flat = deviation <= 1e-6 * frames.abs().amax((-2, -1))
    flattened, number = frames.flatten(1), test.frame[:, None]
    value = (flattened[number, test.pixels] * test.weights).sum(1)
    z = (value - mean[test.frame]) / deviation.masked_fill(flat, 1)[test.frame]
    return z.masked_fill(flat[test.frame], 0)


def calibration(frames: Tensor, test: Scene) -> Tensor:
    """Where do people look in a map, from its darkest tenth to its brightest?

    Order the pixels of a map by density and cut them into parts of equal predicted mass. If the
    map is right, every part gets its share of the fixations. A pixel that lies in two parts, and
    pixels of one density, are shared between parts by their mass: the uniform map, which claims
    nothing, is calibrated.

    Args:
        frames: ``(V T, H, W)`` densities of mass 1.
    Returns:
        ``(BINS,)`` float64 shares, each video counting once; they sum to 1.
    """
    V, T, H, W = test.shape
    area = pixel_area(H, W).to(frames)[:, None].expand(H, W).flatten()
    edges = torch.linspace(0, 1, BINS + 1, device=frames.device, dtype=torch.float64)
    of_video = torch.zeros(V, BINS, dtype=torch.float64, device=frames.device)
    for v in range(V):
        maps = frames[v * T : (v + 1) * T].flatten(1)
        here = (test.frame // T == v).nonzero()[:, 0]
        if not len(here):
            continue
        t = test.frame[here] - v * T
        ordered, order = maps.sort(1)
        mass = (ordered * area[order]).double().cumsum(1)
        mass = torch.cat((torch.zeros_like(mass[:, :1]), mass / mass[:, -1:]), 1)
        value = maps[t, test.nearest[here]]
        low, high = (_mass_at(ordered, mass, t, value, right) for right in (False, True))
        width = (high - low).clamp_min(1e-12)
        inside = (
            torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
        ).clamp_min(0) / width[:, None]
        nothing = high - low < 1e-12  # a density of 0: the darkest part
        inside[nothing] = 0
        inside[nothing, 0] = 1
        of_video[v] = inside.mean(0)
    told = of_video.sum(1) > 0
    return of_video[told].mean(0)


def _mass_at(ordered: Tensor, mass: Tensor, t: Tensor, value: Tensor, right: bool) -> Tensor:
    """Mass of the pixels of frame ``t`` below ``value``, or up to it."""
    place = torch.searchsorted(ordered[t], value[:, None].contiguous(), right=right)
    return mass[t, place[:, 0]]


def _means(values: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean of the values of each group, and how many there are; 0 where there are none."""
    total = torch.zeros(groups, dtype=torch.float64, device=values.device)
    count = torch.zeros_like(total)
    total.index_add_(0, group, values.double())
    count.index_add_(0, group, torch.ones_like(values, dtype=torch.float64))
    return total / count.clamp_min(1), count


def _listed(means: Tensor, counts: Tensor) -> list[float | None]:
    return [
        _rounded(mean) if count else None
        for mean, count in zip(means.tolist(), counts.tolist(), strict=True)
    ]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
