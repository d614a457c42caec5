"""Scores of a predictor: by frame, by video, and their mean over videos with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sal360.evaluation import report
from sal360.evaluation.statistics import Comparison, Estimate, bootstrap, paired


@dataclass(frozen=True, eq=False)
class VideoScores:
    """Scores of one video.

    Attributes:
        video: its name. numbers: of its frames, as the truth numbers them.
        scores: metric to ``(T,)`` float64; NaN where the frame could not be scored.
        size: ``(H, W)`` at which it was scored. marks: ``(T, 2)`` of the maps and the fixations of
            the truth, by which one truth is told from another; NaN where there are none.
    """

    video: str
    numbers: tuple[int, ...]
    scores: dict[str, Tensor]
    size: tuple[int, int] | None = None
    marks: Tensor | None = None

    def mean(self, metric: str) -> float:
        """Mean over the frames that could be scored; NaN if none could."""
        known = self.scores[metric][~self.scores[metric].isnan()]
        return float(known.mean()) if len(known) else math.nan

    def left_out(self, metric: str) -> int:
        """Frames without truth or fixations, which have no score."""
        return int(self.scores[metric].isnan().sum())


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a predictor scores on some videos.

    Attributes:
        predictor, truth: what they are called. metrics: names, in the order of the tables.
        videos: scores by video. settings: weighting, eps, level, seed and so on.
        notes: what a reader of the numbers should know.
    """

    predictor: str
    truth: str
    metrics: tuple[str, ...]
    videos: tuple[VideoScores, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def per_video(self, metric: str) -> Tensor:
        """``(V,)`` float64 means over the frames of each video; NaN where none has a score."""
        if metric not in self.metrics:
            raise ValueError(f"metric: {metric!r}, wanted one of {', '.join(self.metrics)}")
        return torch.tensor([v.mean(metric) for v in self.videos], dtype=torch.float64)

    def mean(self, metric: str) -> Estimate:
        """Mean over videos, each counting alike, with its interval over videos."""
        return bootstrap(self.per_video(metric), **self._sampling())

    def left_out(self, metric: str) -> int:
        """Frames of all videos that have no score."""
        return sum(v.left_out(metric) for v in self.videos)

    @property
    def frames(self) -> int:
        """Frames of all videos, those without a score among them."""
        return sum(len(v.numbers) for v in self.videos)

    def to_csv(self) -> str:
        """A row for each frame, each video, and the mean with its interval."""
        return report.csv_table([self])

    def to_json(self) -> str:
        """Everything, for programs; NaN is null, infinities are text."""
        return report.json_text([self])

    def to_markdown(self) -> str:
        """The means, each video, and the notes."""
        return report.markdown([self])

    def _sampling(self) -> dict[str, Any]:
        return {k: self.settings[k] for k in ("level", "resamples", "seed") if k in self.settings}


def compare(a: Evaluation, b: Evaluation) -> dict[str, Comparison]:
    """Is ``a`` better than ``b``? Paired by video, for each metric that both have.

    Differences are ``a`` minus ``b``: for metrics of which less is better (``kld``, ``emd``), a
    negative one is in favour of ``a``.

    Raises:
        ValueError: other videos, other frames, another size, truth or weighting: such scores have
            no difference.
    """
    return {
        name: paired(a.per_video(name), b.per_video(name), **a._sampling())
        for name in _shared(a, b)
    }


def _shared(a: Evaluation, b: Evaluation) -> Sequence[str]:
    names = [[v.video for v in each.videos] for each in (a, b)]
    if names[0] != names[1]:
        odd = sorted(set(names[0]) ^ set(names[1])) or names[1]
        raise ValueError(f"b: other videos than a (such as {odd[0]!r}), wanted the same")
    for mine, other in zip(a.videos, b.videos, strict=True):
        if mine.numbers != other.numbers:
            raise ValueError(f"b: other frames of {mine.video!r} than a, wanted the same")
        if None not in (mine.size, other.size) and mine.size != other.size:
            raise ValueError(f"b: {mine.video!r} at {other.size}, wanted a's {mine.size}")
        if _another(mine.marks, other.marks):
            raise ValueError(f"b: another truth of {mine.video!r} than a, wanted the same")
    for key in ("weighting", "eps", "baseline"):
        if a.settings.get(key) != b.settings.get(key):
            found, wanted = b.settings.get(key), a.settings.get(key)
            raise ValueError(f"b: {key} {found!r}, wanted a's {wanted!r}")
    both = [m for m in a.metrics if m in b.metrics]
    if not both:
        raise ValueError("b: none of a's metrics, wanted one")
    return both


def _another(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two truths that both have maps differ in them, or in the fixations that both have."""
    if a is None or b is None:
        return False
    both = ~(a.isnan().all(0) | b.isnan().all(0))
    return not torch.allclose(a[:, both], b[:, both], rtol=1e-5, equal_nan=True)
