"""How good a network is while it trains: whole videos, its own memory, the real metrics.

A loss says how training goes; it is measured on clips, and where there is teacher forcing it is
given the truth. Here nothing is: a network runs over each video from its first frame to its last,
lives on its own last map or its own memory (**closed loop**), and is scored as
:func:`sal360.evaluation.evaluate` scores. A piece of a video is held at a time. Chapter 16;
chapter 13 shows what a score with the truth as an input hides.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360._check import as_size, positive_int
from sal360.baselines.base import Baseline
from sal360.datasets.batch import Batch, collate
from sal360.datasets.item import Item, VideoDataset
from sal360.evaluation.scores import METRICS, metric_names, score_frames
from sal360.inference import ClipModel, predict_stream, to_density
from sal360.models.base import FrameModel, run
from sal360.models.sst_sal import SSTSal
from sal360.training.inputs import clip_inputs, motion
from sal360.training.recipe import Recipe

USUAL = ("cc", "sim", "kld", "nss")
EPS = 1e-3
"""Share of every prediction's mass that is spread evenly before its KL divergence is taken: a map
that is cut off at 0 would make it infinite. The same for networks and for baselines."""
PIECE = 1 << 21
"""Pixels of frames that are held at a time, of all videos that run together."""
TOGETHER = 8
"""Videos that run side by side on a GPU, which one alone leaves idle."""
OTHERS = 10_000
"""Fixations on other videos that shuffled AUC draws its negatives from."""

Scores = dict[str, dict[str, float]]
"""Video to metric to the mean over its frames."""


def validate(
    model: nn.Module,
    data: VideoDataset,
    recipe: Recipe | None = None,
    *,
    videos: Iterable[str] | None = None,
    metrics: Iterable[str] | str = USUAL,
    device: torch.device | str | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    eps: float = EPS,
    together: int | None = None,
) -> Scores:
    """Scores of every video, each the mean over its frames that have a truth.

    A network that goes from frame to frame is given what it was trained on (the data set's flow
    among it, :func:`sal360.training.inputs.clip_inputs`). A baseline, a network that runs in
    windows, one made for another size, and one that needs flow which the data set lacks, see
    the frames as 8-bit pictures, as they would see a film
    (:func:`sal360.inference.predict_stream`).

    Args:
        model: a network or a baseline. It runs in evaluation mode and is then as it was.
        data: frames, and truth or fixations. videos: those wanted, None: all; several processes
            take a share each.
        recipe: of it only the size of frames and maps; ``size``, ``(H, W)``, goes over it.
        metrics: names of :data:`sal360.evaluation.scores.METRICS`; those that the data set
            cannot have are left out.
        device: of the metrics, and of a network, which must be there; None: the network's.
        seed: of the draws for ``sauc``, fixations on all other videos.
        eps: see :data:`EPS`. together: videos run side by side, those of one length; None:
            :data:`TOGETHER` on a GPU, or 1. Their number changes scores by rounding only.
    Returns:
        video to metric to score, in the order of the videos. A video without any truth has no
        scores, NaN; see :func:`mean_scores`.
    Raises:
        ValueError: an unknown video or metric, nothing that can be scored, maps of NaN; one line.
    """
    names = metric_names(metrics)
    if size is None and recipe is None:
        raise ValueError("size: None without a recipe, wanted (H, W)")
    size = as_size(size if recipe is None or size is not None else recipe.size, "size")
    chosen = list(data.videos if videos is None else videos)
    if unknown := set(chosen) - set(data.videos):
        raise ValueError(f"videos: {sorted(unknown)[0]!r} is not in {data.name}")
    own = next((p.device for p in model.parameters()), torch.device("cpu"))
    place = own if device is None else torch.device(device)
    elsewhere = _elsewhere(data, chosen, seed, place) if "sauc" in names else {}
    if together is None:
        together = TOGETHER if place.type == "cuda" else 1
    found: dict[str, dict[str, list[Tensor]]] = {video: {} for video in chosen}
    with torch.no_grad(), _evaluating(model):
        for group in _groups(data, chosen, positive_int(together, "together")):
            direct = _takes_tensors(model, data, group[0], size)
            parts = (_from_tensors if direct else _from_pictures)(model, data, group, size, place)
            for part in parts:
                _score(part, names, elsewhere, eps, found)
    had = {name for scores in found.values() for name in scores}
    if chosen and not had:
        raise ValueError(f"{data.name}: neither truth nor fixations, wanted some to score against")
    return {
        video: {name: _mean(scores.get(name, [])) for name in names if name in had}
        for video, scores in found.items()
    }


def check_metric(data: VideoDataset, metric: str, size: tuple[int, int]) -> None:
    """See that a data set has what a metric asks for, before anything is trained for it.

    Raises:
        ValueError: no video has; one line.
    """
    needs = METRICS[metric].needs
    first = (data.read(video, 0, 1, 1, size) for video in data.videos)
    # All frames are read if none of these has any: nobody need look from the beginning on.
    rest = (items[0] for video in data.videos for _, items in _pieces(data, [video], size))
    if not any(getattr(item, needs) is not None for item in chain(first, rest)):
        raise ValueError(f"monitor: {metric!r} needs {needs}, which {data.name} has not")


def mean_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over videos, each counting alike; those without a score do not count.

    >>> mean_scores({"a": {"cc": 0.25}, "b": {"cc": 0.75}, "c": {"cc": math.nan}})
    {'cc': 0.5}
    """
    names = list(dict.fromkeys(name for each in scores.values() for name in each))
    values = {
        name: [v for each in scores.values() if not math.isnan(v := each.get(name, math.nan))]
        for name in names
    }
    return {name: sum(v) / len(v) if v else math.nan for name, v in values.items()}


def better(metric: str, new: float, old: float | None) -> bool:
    """Whether a mean is better than the best so far; anything is better than nothing or NaN."""
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if METRICS[metric].better == "higher" else new < old


class _Part(NamedTuple):
    """A piece of some videos.

    Attributes:
        videos: ``B`` names. start: number of the first frame. maps: ``(B, t, H, W)`` densities.
        truth: the same shape, or None. fixations: for each video a set per frame, or None.
    """

    videos: Sequence[str]
    start: int
    maps: Tensor
    truth: Tensor | None
    fixations: Sequence[Sequence[Tensor]] | None


def _from_tensors(
    model: Any, data: VideoDataset, group: list[str], size: tuple[int, int], device: torch.device
) -> Iterator[_Part]:
    """Frames as tensors, side by side; the memory goes on from piece to piece."""
    state: Any = None
    last: Tensor | None = None
    for start, items in _pieces(data, group, size):
        batch = collate(items).to(device)
        clip = clip_inputs(model, batch)
        if isinstance(model, FrameModel) and model.extra == "motion" and last is not None:
            clip[:, :1, 3:] = motion(torch.cat((last, batch.frames[:, :1]), 1))[:, 1:]
        last = batch.frames[:, -1:]
        raw, state = run(model, clip, state, start)
        try:
            maps = to_density(raw.flatten(0, 2), size, reading=getattr(model, "reading", "minmax"))
        except ValueError as error:
            raise ValueError(f"{_where(data, group, start)}: {error}") from None
        maps = maps.unflatten(0, raw.shape[:2])
        yield _Part(group, start, maps, *_known(batch))


def _from_pictures(
    model: Any, data: VideoDataset, group: list[str], size: tuple[int, int], device: torch.device
) -> Iterator[_Part]:
    """Frames as a film would bring them, one video after the other."""
    if isinstance(model, Baseline):  # made for no size: it answers at that of the maps
        model = copy(model)
        model.input_size = size
    for video in group:
        waiting: deque[tuple[int, Batch]] = deque()  # a network may look a frame ahead

        def pictures(
            video: str = video, waiting: deque[tuple[int, Batch]] = waiting
        ) -> Iterator[NDArray[np.uint8]]:
            for start, items in _pieces(data, [video], size):
                waiting.append((start, collate(items).to(device)))
                for frame in items[0].frames:
                    bytes_ = (frame.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)
                    yield bytes_.cpu().numpy()

        maps: list[Tensor] = []
        for density in predict_stream(pictures(), cast(ClipModel, model), size):
            maps.append(density)
            if len(maps) == waiting[0][1].frames.shape[1]:
                start, batch = waiting.popleft()
                yield _Part([video], start, torch.stack(maps)[None].to(device), *_known(batch))
                maps = []


def _score(
    part: _Part,
    names: Sequence[str],
    elsewhere: Mapping[str, Tensor],
    eps: float,
    found: dict[str, dict[str, list[Tensor]]],
) -> None:
    """Add the scores of the frames of a piece."""
    there = {"truth": part.truth is not None, "fixations": part.fixations is not None}
    for k, video in enumerate(part.videos):
        asked = [name for name in names if there[METRICS[name].needs]]
        if not asked:
            continue
        others = elsewhere.get(video)
        scores = score_frames(
            part.maps[k],
            None if part.truth is None else part.truth[k],
            None if part.fixations is None else part.fixations[k],
            asked,
            others=others,
            eps=eps,
        )
        for name, values in scores.items():
            found[video].setdefault(name, []).append(values)


def _known(batch: Batch) -> tuple[Tensor | None, list[Sequence[Tensor]] | None]:
    truth = None if batch.truth is None else batch.truth[:, :, 0]
    if batch.fixations is None:
        return truth, None
    return truth, [batch.fixations_of(k) for k in range(len(batch))]


def _mean(parts: list[Tensor]) -> float:
    values = torch.cat(parts) if parts else torch.zeros(0)
    values = values[~values.isnan()]
    return float(values.mean()) if len(values) else math.nan


def _groups(data: VideoDataset, videos: list[str], together: int) -> Iterator[list[str]]:
    """Videos of one length, at most so many at a time."""
    same: dict[int, list[str]] = {}
    for video in videos:
        same.setdefault(data.length(video), []).append(video)
    for alike in same.values():
        for k in range(0, len(alike), together):
            yield alike[k : k + together]


def _pieces(
    data: VideoDataset, group: list[str], size: tuple[int, int]
) -> Iterator[tuple[int, list[Item]]]:
    """The videos of a group from beginning to end, a few frames of each at a time."""
    total, many = data.length(group[0]), max(1, PIECE // (math.prod(size) * len(group)))
    for start in range(0, total, many):
        count = min(many, total - start)
        items = [data.read(video, start, count, 1, size) for video in group]
        for item in items:
            if len(item) != count:
                place = _where(data, [item.video], start)
                raise ValueError(f"{place}: {len(item)} frames of {count}, wanted all of them")
        yield start, items


def _where(data: VideoDataset, group: list[str], start: int) -> str:
    return f"{data.name}: video {', '.join(group)}, from frame {start} on"


def _takes_tensors(model: Any, data: VideoDataset, video: str, size: tuple[int, int]) -> bool:
    """Whether a model can be given the data set's frames as they are."""
    if not (getattr(model, "stateful", False) and hasattr(model, "step")):
        return False
    if tuple(model.input_size) != size:
        return False
    if not isinstance(model, SSTSal) or model.in_channels == 3:
        return True
    first = data.read(video, 0, 1, 1, size)
    return first.flow is not None or first.flow_picture is not None


def _elsewhere(
    data: VideoDataset, videos: list[str], seed: int, device: torch.device
) -> dict[str, Tensor]:
    """For each video fixations on all the others of the data set, as many from each."""
    if len(data.videos) < 2:
        raise ValueError(f"{data.name}: one video, but sauc needs fixations on others")
    toss = torch.Generator().manual_seed(seed)
    points: dict[str, Tensor] = {}
    for video in data.videos:
        looked: list[Tensor] = []
        for _, items in _pieces(data, [video], (8, 16)):  # small: only the fixations are wanted
            looked += items[0].fixations or ()
        here = torch.cat(looked) if looked else torch.zeros(0, 2, dtype=torch.float64)
        points[video] = here[torch.randperm(len(here), generator=toss)]
    share = -(-OTHERS // (len(points) - 1))
    return {
        video: torch.cat([p[:share] for name, p in points.items() if name != video]).to(device)
        for video in videos
    }


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Batch norms as after training, and left alone; then every part has the mode it had."""
    parts = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in parts:
            part.training = True
