"""Scores of single frames; one that cannot be scored is NaN, never 0.

A frame without truth, or at which nobody looked, says nothing about a prediction. Counting it as
0 would reward whoever is scored on fewer of them. Chapter 12.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sal360 import metrics as m
from sal360._check import ArrayLike, as_tensor, non_negative
from sal360.metrics import Weighting


@dataclass(frozen=True)
class Metric:
    """What one should know of a metric to read its column.

    Attributes:
        name: as in :mod:`sal360.metrics`. needs: what a frame must have. better: which way.
        best: the value of a perfect prediction, as text. summary: one line.
    """

    name: str
    needs: Literal["truth", "fixations"]
    better: Literal["higher", "lower"]
    best: str
    summary: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("cc", "truth", "higher", "1", "correlation of the two maps"),
        Metric("sim", "truth", "higher", "1", "mass that the two maps share"),
        Metric("kld", "truth", "lower", "0", "divergence from the truth, nats; misses cost most"),
        Metric("emd", "truth", "lower", "0", "how far mass is from its place, radians; slow"),
        Metric("nss", "fixations", "higher", "unbounded", "z-score of the map where people looked"),
        Metric("auc_judd", "fixations", "higher", "1", "order only: looked at, or anywhere; exact"),
        Metric("auc_borji", "fixations", "higher", "1", "the mean of its draws: the same number"),
        Metric("sauc", "fixations", "higher", "1", "order: looked at here, or in other videos"),
        Metric("information_gain", "fixations", "higher", "unbounded", "bits more than a baseline"),
    )
}
"""The metrics by name; their definitions are in :mod:`sal360.metrics`."""
ALIASES = {"auc": "auc_judd", "ig": "information_gain", "kl": "kld"}
USUAL = ("cc", "sim", "kld", "nss", "auc_judd", "information_gain")
"""Computed unless others are asked for, where the truth allows them."""


def metric_names(names: Iterable[str] | str) -> tuple[str, ...]:
    """Names as :data:`METRICS` has them, each once; hyphens, capitals and short forms are taken.

    Raises:
        ValueError: an unknown name, or none at all.
    """
    given = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    found = []
    for name in given:
        plain = str(name).lower().replace("-", "_")
        plain = ALIASES.get(plain, plain)
        if plain not in METRICS:
            raise ValueError(f"metrics: {name!r}, wanted one of {', '.join(METRICS)}")
        found.append(plain)
    if not found:
        raise ValueError(f"metrics: none, wanted some of {', '.join(METRICS)}")
    return tuple(dict.fromkeys(found))


def score_frames(
    pred: ArrayLike,
    truth: ArrayLike | None = None,
    fixations: Sequence[ArrayLike] | None = None,
    metrics: Iterable[str] | str | None = None,
    weighting: Weighting = "sphere",
    baseline: ArrayLike | None = None,
    others: ArrayLike | None = None,
    eps: float = 0.0,
) -> dict[str, Tensor]:
    """Every metric on every frame.

    Args:
        pred: ``(T, H, W)`` densities or scores, per solid angle, any scale.
        truth: ``(T, H, W)`` densities; a frame of NaN or of zeros has no truth. None: no frame has.
        fixations: for each frame ``(N_t, 2)`` lon, lat in radians, N_t may be 0. None: no frame
            has any.
        metrics: names in :data:`METRICS`; None: those of :data:`USUAL` that can be computed.
        weighting: ``"sphere"`` weighs by solid angle; ``"pixels"`` as papers that count pixels.
        baseline: ``(H, W)`` or ``(T, H, W)`` density that information gain is over; uniform if
            None.
        others: ``(M, 2)`` fixations on other videos, for ``sauc``.
        eps: share of a prediction's mass (and the baseline's) that is spread evenly before
            ``kld`` and ``information_gain``, which are infinite where it is 0 and people looked.
    Returns:
        name to ``(T,)`` float64, NaN where a frame has no truth, or no fixations.
    Raises:
        ValueError: shapes that do not agree, NaN in a prediction, negative values where a metric
            needs a density, unknown names; metrics asked for without what they need.
    """
    maps = as_tensor(pred, "pred")
    if maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(f"pred: shape {tuple(maps.shape)}, wanted (T, H, W), each at least 1")
    maps = maps.double()
    T = len(maps)
    true = None if truth is None else as_tensor(truth, "truth").double().to(maps.device)
    if true is not None and true.shape != maps.shape:
        raise ValueError(f"truth: shape {tuple(true.shape)}, wanted pred's {tuple(maps.shape)}")
    if fixations is not None and len(fixations) != T:
        raise ValueError(f"fixations: {len(fixations)} sets, wanted {T}, one for each frame")
    non_negative(eps, "eps")
    wanted = _wanted(metrics, true is not None, fixations is not None, others is not None)

    known = torch.zeros(T, dtype=torch.bool)
    if true is not None:
        values = true.flatten(1)
        finite, blank = values.isfinite().all(1), values.isnan().all(1)
        if not bool((finite | blank).all()):
            raise ValueError("truth: some NaN or infinite values in a frame, wanted all or none")
        known = (finite & (values != 0).any(1)).cpu()
    sets = [as_tensor(f, f"fixations[{t}]").double() for t, f in enumerate(fixations or ())]
    seen = torch.tensor([len(each) > 0 for each in sets], dtype=torch.bool)

    scores = {}
    for name in wanted:
        needs_truth = METRICS[name].needs == "truth"
        use = known if needs_truth else seen
        out = torch.full((T,), math.nan, dtype=torch.float64)
        if bool(use.any()):
            against = true[use] if needs_truth and true is not None else None
            looked = [each for each, one in zip(sets, use.tolist(), strict=True) if one] \
                if not needs_truth else []  # fmt: skip
            base = _of_frames(baseline, use, maps)
            out[use] = _score(name, maps[use], against, looked, weighting, base, others, eps).cpu()
        scores[name] = out
    return scores


def _score(
    name: str,
    pred: Tensor,
    truth: Tensor | None,
    fixations: list[Tensor],
    weighting: Weighting,
    baseline: Tensor | None,
    others: ArrayLike | None,
    eps: float,
) -> Tensor:
    if name == "kld":
        return m.kld(pred, truth, weighting, eps)
    if name == "information_gain":
        return m.information_gain(pred, fixations, baseline, weighting, eps)
    if name == "sauc":
        return m.sauc(pred, fixations, others)
    if truth is not None:
        return {"cc": m.cc, "sim": m.sim, "emd": m.emd}[name](pred, truth, weighting)
    return {"nss": m.nss, "auc_judd": m.auc_judd, "auc_borji": m.auc_borji}[name](
        pred, fixations, weighting
    )


def _wanted(
    metrics: Iterable[str] | str | None, truth: bool, fixations: bool, others: bool
) -> tuple[str, ...]:
    there = {"truth": truth, "fixations": fixations}
    if metrics is None:
        found = tuple(name for name in USUAL if there[METRICS[name].needs])
        if not found:
            raise ValueError("truth: neither maps nor fixations, wanted one of them")
        return found
    found = metric_names(metrics)
    for name in found:
        needs = METRICS[name].needs
        if not there[needs]:
            raise ValueError(f"metrics: {name} needs {needs}, and there are none")
        if name == "sauc" and not others:
            raise ValueError("metrics: sauc needs others, fixations on other videos")
    return found


def _of_frames(baseline: ArrayLike | None, use: Tensor, like: Tensor) -> Tensor | None:
    if baseline is None:
        return None
    base = as_tensor(baseline, "baseline").double().to(like.device)
    return base[use.to(base.device)] if base.ndim == 3 and len(base) == len(use) else base
