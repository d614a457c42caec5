"""Score predictions against truth, video by video, a few frames in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sal360._check import ArrayLike, as_size, as_tensor
from sal360.baselines import equator_density, front_density
from sal360.datasets.item import VideoDataset
from sal360.evaluation.evaluation import Evaluation, VideoScores
from sal360.evaluation.pairing import By, Pairs, pair_frames, pair_videos
from sal360.evaluation.scores import METRICS, USUAL, metric_names, score_frames
from sal360.evaluation.sources import EIGHT_BIT, Files
from sal360.evaluation.statistics import RESAMPLES
from sal360.evaluation.streams import PIECE, Arrays, Piece, Predicted, Stream, Truths
from sal360.inference import MAP_SIZE
from sal360.metrics import Weighting

OTHERS = 10_000
"""Fixations on other videos that shuffled AUC draws its negatives from, for each video."""
Progress = Callable[[str, int, int], None]
"""Called with a video, how many of its frames are done, and how many it has."""
Plan = dict[str, tuple[list[str], list[list[int]], list[int]]]
"""A truth's video to its names in the predictors, their numbers of its frames, the truth's."""


def evaluate(
    predictions: Any,
    truth: Any,
    *,
    metrics: Iterable[str] | str | None = None,
    weighting: Weighting = "sphere",
    fixations: Mapping[str, Sequence[ArrayLike]] | None = None,
    baseline: Any = None,
    size: tuple[int, int] | None = None,
    by: By = "auto",
    part: bool = False,
    hold: bool = False,
    eps: float = 0.0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """How well do predictions agree with the truth?

    Each frame is scored, frames are averaged within a video, and videos count alike. The
    interval is over videos. A frame without truth or fixations is left out and counted.

    Args:
        predictions: video to maps ``(T, H, W)``, or to one ``(H, W)`` for all frames; a stream of
            :mod:`sal360.evaluation.sources`; or a model of :func:`sal360.models.load_model`, which
            is then run on the frames of ``truth`` and sees nothing else.
        truth: video to maps ``(T, H, W)`` (a frame of NaN has no truth) or to an
            :class:`~sal360.datasets.item.Item`; a :class:`~sal360.datasets.item.VideoDataset`; or
            a stream.
        metrics: names in :data:`~sal360.evaluation.scores.METRICS`; None: those of
            :data:`~sal360.evaluation.scores.USUAL` that the truth allows.
        weighting: ``"sphere"`` or ``"pixels"``, as in :mod:`sal360.metrics`.
        fixations: for a ``truth`` of arrays, video to one ``(N, 2)`` lon, lat for each frame.
        baseline: what information gain is over: None (uniform), ``"equator"``,
            ``"equator-front"``, one ``(H, W)`` density, or video to density.
        size: ``(H, W)`` that both are brought to. None: sizes must agree; truth that is drawn
            from fixations is drawn at the size of the predictions.
        by, part, hold: which frames belong together; see :mod:`sal360.evaluation.pairing`.
        eps: see :func:`~sal360.evaluation.scores.score_frames`.
        level, resamples, seed: see :func:`~sal360.evaluation.statistics.bootstrap`.
        name: of the predictor, in tables. progress: called after every few frames.
    Raises:
        ValueError: videos, frames or sizes that do not belong together; maps that no metric can
            take; one line that begins with the file, or the argument.
    """
    return evaluate_together(
        [predictions], truth, names=[name], metrics=metrics, weighting=weighting,
        fixations=fixations, baseline=baseline, size=size, by=by, part=part, hold=hold, eps=eps,
        level=level, resamples=resamples, seed=seed, progress=progress,
    )[0]  # fmt: skip


def evaluate_together(
    predictors: Sequence[Any],
    truth: Any,
    *,
    names: Sequence[str | None] | None = None,
    metrics: Iterable[str] | str | None = None,
    fixations: Mapping[str, Sequence[ArrayLike]] | None = None,
    baseline: Any = None,
    by: By = "auto",
    part: bool = False,
    hold: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> list[Evaluation]:
    """:func:`evaluate` for several predictors, on the frames that all of them have.

    Truth is read once, and :func:`~sal360.evaluation.evaluation.compare` can compare the results.

    Args:
        predictors: as ``predictions`` there, at least one. names: in tables.
        the others: as there.
    """
    if not predictors:
        raise ValueError("predictors: none, wanted at least one")
    used: dict[str, Any] = {
        "weighting": "sphere", "size": None, "eps": 0.0, "level": 0.95, "resamples": RESAMPLES,
        "seed": 0,
    }  # fmt: skip
    unknown = [key for key in settings if key not in used]
    if unknown:
        raise TypeError(f"{unknown[0]}: no such setting, wanted one of {', '.join(used)}")
    used |= {"baseline": _baseline_name(baseline), **settings}
    true = _truth(truth, fixations)
    preds = [
        _predictions(one, truth, name)
        for one, name in zip(predictors, names or [None] * len(predictors), strict=True)
    ]
    plan, notes = _plan(preds, true, by, part, hold)
    return _run(preds, true, plan, notes, metrics, baseline, used, progress)


def _run(
    preds: list[Stream],
    truth: Stream,
    plan: Plan,
    notes: list[list[str]],
    metrics: Iterable[str] | str | None,
    baseline: Any,
    settings: dict[str, Any],
    progress: Progress | None,
) -> list[Evaluation]:
    wanted = USUAL if metrics is None else metric_names(metrics)
    if settings["weighting"] not in ("sphere", "pixels"):
        raise ValueError(f"weighting: {settings['weighting']!r}, wanted 'sphere' or 'pixels'")
    sizes = {
        theirs: _common_size(preds, names, truth, theirs, settings["size"])
        for theirs, (names, _, _) in plan.items()
    }
    elsewhere = _others(plan, truth, settings) if "sauc" in wanted else {}
    had = {"truth": False, "fixations": False}
    found: list[list[VideoScores]] = [[] for _ in preds]
    for theirs, (names, frames, numbers) in plan.items():
        size = sizes[theirs]
        base = _baseline(baseline, theirs, size)
        parts: list[list[dict[str, Tensor]]] = [[] for _ in preds]
        marks: list[Tensor] = []
        done = 0
        for piece in _pieces(len(numbers), size):
            true = truth.read(theirs, numbers[piece], size)
            had["truth"] |= true.maps is not None
            had["fixations"] |= true.fixations is not None
            marks.append(_marks(true, len(numbers[piece])))
            if metrics is not None and not had["fixations"]:  # before hours of work, not after
                _need(wanted, "fixations", truth.place(theirs))
            for k, pred in enumerate(preds):
                chosen = frames[k][piece]
                maps = pred.read(names[k], chosen, size).maps
                where = pred.place(names[k], chosen[0])
                parts[k].append(
                    _scored(maps, true, wanted, settings, base, elsewhere.get(theirs), where)
                )
            done += len(numbers[piece])
            if progress is not None:
                progress(theirs, done, len(numbers))
        for k in range(len(preds)):
            scores = {m: torch.cat([each[m] for each in parts[k]]) for m in wanted}
            video = VideoScores(theirs, tuple(numbers), scores, size, torch.cat(marks))
            found[k].append(video)
    if metrics is None:
        wanted = tuple(m for m in wanted if had[METRICS[m].needs])
    if not had["truth"]:
        _need(wanted, "truth", truth.place(next(iter(plan))))
    if not wanted:
        raise ValueError(f"{truth.place(next(iter(plan)))}: neither maps nor fixations")
    return [
        Evaluation(pred.name, truth.name, wanted, tuple(videos), settings,
                   tuple(_notes(pred, truth, videos, wanted, notes[k])))
        for k, (pred, videos) in enumerate(zip(preds, found, strict=True))
    ]  # fmt: skip


def _marks(true: Piece, frames: int) -> Tensor:
    """``(frames, 2)``: a random mean of each map, and of each frame's fixations. Two truths that
    agree in both are the same, but for a rounding."""
    marks = torch.full((frames, 2), torch.nan, dtype=torch.float64)
    if true.maps is not None:
        maps = true.maps.detach().cpu().double().flatten(1)
        generator = torch.Generator().manual_seed(0)
        random = torch.rand(maps.shape[1], dtype=torch.float64, generator=generator)
        marks[:, 0] = maps @ random / maps.sum(1)
    if true.fixations is not None:
        for t, looked in enumerate(true.fixations):
            marks[t, 1] = looked.sum() + len(looked)
    return marks


def _need(metrics: tuple[str, ...], what: str, place: str) -> None:
    """Refuse metrics that need what the truth does not have."""
    for m in metrics:
        if METRICS[m].needs == what:
            raise ValueError(f"{place}: no {'maps' if what == 'truth' else what}, which {m} needs")


def _plan(
    preds: list[Stream], truth: Stream, by: By, part: bool, hold: bool
) -> tuple[Plan, list[list[str]]]:
    """What is scored, before any map is read: so that what does not fit is refused at once."""
    videos = [{t: p for p, t in pair_videos(pred, truth, part)} for pred in preds]
    common = [t for t in videos[0] if all(t in each for each in videos)]
    for pred, each in zip(preds, videos, strict=True):
        odd = [t for t in each if t not in common]
        if odd and not part:
            raise ValueError(
                f"{pred.place(each[odd[0]])}: a video that the other predictions lack "
                "(--part scores those that both have)"
            )
    if not common:
        raise ValueError(f"{preds[1].place(preds[1].videos[0])}: no video in common with the other")
    plan: Plan = {}
    notes: list[list[str]] = [[] for _ in preds]
    for t in common:
        names = [each[t] for each in videos]
        pairs = [
            pair_frames(pred, name, truth, t, by, part, hold)
            for pred, name in zip(preds, names, strict=True)
        ]
        for k, pair in enumerate(pairs):
            notes[k] += [pair.note] if pair.note else []
        numbers, frames = _in_all(pairs)
        if not numbers:
            raise ValueError(f"{preds[1].place(names[1])}: no frame in common with the other")
        if any(len(numbers) < len(pair.truth) for pair in pairs):
            for k in range(len(preds)):
                notes[k].append(f"{t}: the {len(numbers)} frames that all predictions have")
        plan[t] = (names, frames, numbers)
    return plan, [_short(each) for each in notes]


def _short(notes: list[str]) -> list[str]:
    """A hundred videos that are all sampled alike need no hundred lines."""
    return notes if len(notes) <= 3 else [*notes[:1], f"{len(notes) - 1} more such notes"]


def _in_all(pairs: list[Pairs]) -> tuple[list[int], list[list[int]]]:
    maps = [dict(zip(pair.truth, pair.pred, strict=True)) for pair in pairs]
    numbers = [n for n in pairs[0].truth if all(n in each for each in maps)]
    return numbers, [[each[n] for n in numbers] for each in maps]


def _scored(
    maps: Tensor | None,
    true: Piece,
    metrics: tuple[str, ...],
    settings: dict[str, Any],
    baseline: Tensor | None,
    others: Tensor | None,
    where: str,
) -> dict[str, Tensor]:
    if maps is None:
        raise ValueError(f"{where}: no map, wanted a prediction")
    none = [torch.zeros(0, 2, dtype=torch.float64)] * len(maps)
    truth = (
        torch.full_like(maps, torch.nan, dtype=torch.float64) if true.maps is None else true.maps
    )
    looked = none if true.fixations is None else true.fixations
    if others is None or not len(others):
        others = torch.zeros(1, 2, dtype=torch.float64)  # never used: no frame has fixations
    try:
        return score_frames(
            maps, truth, looked, metrics, settings["weighting"], baseline, others, settings["eps"]
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _common_size(
    preds: list[Stream],
    names: list[str],
    truth: Stream,
    theirs: str,
    asked: Sequence[int] | None,
) -> tuple[int, int]:
    """The size at which all maps of a video are read, or a refusal."""
    if asked is not None:
        return as_size(asked, "size")
    sizes = [(pred.place(name), pred.size(name)) for pred, name in zip(preds, names, strict=True)]
    sizes.insert(0, (truth.place(theirs), truth.size(theirs)))
    known = [(place, size) for place, size in sizes if size is not None]
    if not known:
        dataset = getattr(truth, "dataset", None)
        frame = MAP_SIZE if dataset is None else dataset.read(theirs, length=1, size=None).size
        return frame if frame[0] <= MAP_SIZE[0] and frame[1] <= MAP_SIZE[1] else MAP_SIZE
    (first, wanted), *rest = known
    for place, size in rest:
        if size != wanted:
            raise ValueError(
                f"{place}: maps of {size[0]} x {size[1]}, but {first} has {wanted[0]} x {wanted[1]}"
                " (--resize HxW brings both to one size)"
            )
    return wanted


def _pieces(count: int, size: tuple[int, int]) -> list[slice]:
    step = max(1, PIECE // (size[0] * size[1]))
    return [slice(k, k + step) for k in range(0, count, step)]


def _others(plan: Plan, truth: Stream, settings: dict[str, Any]) -> dict[str, Tensor]:
    """For each video fixations on the others, as many from each: a pass over the truth first."""
    if len(plan) < 2:
        place = truth.place(next(iter(plan)))
        raise ValueError(f"{place}: one video, but sauc needs fixations on others")
    generator = torch.Generator().manual_seed(settings["seed"])
    some: dict[str, Tensor] = {}
    for video, (_, _, numbers) in plan.items():
        size = truth.size(video) or (32, 64)  # small: only the fixations are wanted
        looked = []
        for piece in _pieces(len(numbers), size):
            fixations = truth.read(video, numbers[piece], size).fixations
            if fixations is None and not some:
                _need(("sauc",), "fixations", truth.place(video))
            looked += fixations or []
        points = torch.cat(looked) if looked else torch.zeros(0, 2, dtype=torch.float64)
        some[video] = points[torch.randperm(len(points), generator=generator)]
    share = -(-OTHERS // (len(plan) - 1))
    return {
        video: torch.cat([points[:share] for name, points in some.items() if name != video])
        for video in plan
    }


def _truth(truth: Any, fixations: Mapping[str, Sequence[ArrayLike]] | None) -> Stream:
    if isinstance(truth, Mapping):
        return Arrays(truth, "truth", fixations)
    if fixations is not None:
        raise ValueError(f"fixations: given beside {type(truth).__name__}, wanted truth of arrays")
    if isinstance(truth, (Files, Truths, Arrays)):
        return truth
    if isinstance(truth, VideoDataset):
        return Truths(truth)
    raise TypeError(f"truth: {type(truth).__name__}, wanted videos to maps, or a data set")


def _predictions(predictions: Any, truth: Any, name: str | None) -> Stream:
    if isinstance(predictions, (Files, Predicted, Arrays)):
        if name is not None:
            predictions.name = name
        return predictions
    if isinstance(predictions, nn.Module):
        dataset = truth.dataset if isinstance(truth, Truths) else truth
        if not isinstance(dataset, VideoDataset):
            raise TypeError("truth: no frames to predict, wanted a data set for a model")
        return Predicted(predictions, dataset, name=name)
    if isinstance(predictions, Mapping):
        return Arrays(predictions, "predictions", name=name)
    if isinstance(predictions, VideoDataset):
        raise TypeError("predictions: a data set, wanted videos to maps, or a model (swapped?)")
    raise TypeError(f"predictions: {type(predictions).__name__}, wanted videos to maps, or a model")


def _baseline_name(baseline: Any) -> str:
    if baseline is None:
        return "uniform"
    return baseline if isinstance(baseline, str) else "given"


def _baseline(baseline: Any, video: str, size: tuple[int, int]) -> Tensor | None:
    if isinstance(baseline, Mapping):
        if video not in baseline:
            raise ValueError(f"baseline: none of video {video!r}, wanted one for each")
        baseline = baseline[video]
    if baseline is None or (isinstance(baseline, str) and baseline == "uniform"):
        return None
    if isinstance(baseline, str):
        made = {"equator": equator_density, "equator-front": front_density}
        if baseline not in made:
            raise ValueError(
                f"baseline: {baseline!r}, wanted 'uniform', 'equator', 'equator-front' or a density"
            )
        return made[baseline](*size)
    return as_tensor(cast(ArrayLike, baseline), "baseline")


def _notes(
    pred: Stream,
    truth: Stream,
    videos: list[VideoScores],
    metrics: tuple[str, ...],
    notes: list[str],
) -> list[str]:
    found = [*truth.notes, *pred.notes, *notes]
    for what, stream in (("predictions", pred), ("truth", truth)):
        if getattr(stream, "eight_bit", False):
            found.append(EIGHT_BIT.format(what=what))
    for needs in ("truth", "fixations"):
        first = next((m for m in metrics if METRICS[m].needs == needs), None)
        if first is not None and (left := sum(v.left_out(first) for v in videos)):
            total = sum(len(v.numbers) for v in videos)
            found.append(f"{left} of {total} frames have no {needs}: left out of their metrics")
    for m in metrics:
        lost = sum(int(v.scores[m].isinf().sum()) for v in videos)
        if lost:
            found.append(
                f"{m} is infinite on {lost} frames: the prediction is exactly 0 where it should "
                "not be (eps spreads a share of its mass evenly)"
            )
    return list(dict.fromkeys(found))
