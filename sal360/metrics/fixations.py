"""A map against the directions people looked in: height, order, bits. Derived in chapter 12.

A fixation is a direction. For ranks and densities the map is what it stores, one value for the
whole of each pixel, and a fixation has the value of the pixel it falls in: ties stay ties, and
a density integrates to 1. Every fixation counts, those that share a pixel too.

One map takes ``(N, 2)`` lon, lat in radians. Frames ``(..., H, W)`` take one set for each: a
list of ``(N_k, 2)``, one after the other, or a tensor ``(..., N, 2)``. A set without fixations
is an error, because it has no score: leave the frame out.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, positive_int
from sal360.metrics import ranks
from sal360.metrics.maps import floored
from sal360.metrics.weighting import Weighting, as_map, as_pair, at_one, shares, weights
from sal360.projections import sample_erp
from sal360.sphere import erp_index, lonlat_to_xyz, sample_sphere

Negatives = Literal["all", "unfixated"]


def nss(pred: ArrayLike, fixations: ArrayLike, weighting: Weighting = "sphere") -> Tensor:
    """Normalised scanpath saliency: the mean z-score of the map where people looked.

    0 is chance, larger is better; unbounded, and a flat map scores 0. It rewards high values
    at fixations relative to the map's own spread, so it counts false alarms too; it is blind
    to scale and offset. Over many fixations it is :func:`cc` with the density they came from,
    times that density's deviation over its mean: the density is its best map, and clips with
    one tight place to look score higher than others whatever the model. Over few, spikes on
    the fixations beat any density. The map is read between pixel centres, over seam and poles.
    Source: Peters et al., 2005, as in the code of the MIT saliency benchmark (Bylinskii et al.,
    2016).

    Args:
        pred: ``(..., H, W)`` any scale. fixations: as the module says; N at least 1.
        weighting: of the mean and deviation that normalise the map.
    Returns:
        ``(...)`` float64.
    Raises:
        ValueError: NaN, no fixation, latitudes beyond a pole, an unknown weighting.
    """
    frames, sets, shape = _frames(pred, fixations)
    frames, weight = at_one(frames), weights(frames, weighting)
    mean = (weight * frames).sum((1, 2))
    deviation = (weight * (frames - mean[:, None, None]) ** 2).sum((1, 2)).sqrt()
    flat = deviation <= 1e-14
    heights = torch.stack(
        [
            sample_erp(frame[None, None], lonlat_to_xyz(looked[:, 0], looked[:, 1])).mean()
            for frame, looked in zip(frames, sets, strict=True)
        ]
    )
    score = (heights - mean) / deviation.masked_fill(flat, 1)
    return score.masked_fill(flat, 0).reshape(shape)


def auc_judd(
    pred: ArrayLike,
    fixations: ArrayLike,
    weighting: Weighting = "sphere",
    negatives: Negatives = "all",
) -> Tensor:
    """Area under the ROC curve: is the map higher where people looked than elsewhere?

    From 0 to 1, larger is better, .5 is chance and every flat map. It is the chance that the
    value at a fixation exceeds the value at a place drawn from the whole map, ties counting
    half: exact, no jitter, no thresholds. It sees only the order of values: it forgives every
    false alarm that stays low, is blind to contrast, and saturates, so good models lie close
    together. A centre or equator habit alone earns much of it (:func:`sauc` takes it out), and
    counting pixels instead of area pays for latitude: fixations even on the sphere give a
    cos(latitude) map ``2 / pi`` in pixels and .5 by area.

    Source: the code of the MIT saliency benchmark (Judd, 2009; Bylinskii et al., 2016). It draws
    the negatives from pixels without a fixation (``"unfixated"``), which makes the score depend
    on resolution; a direction has no area to take out, so ``"all"`` is the default, as
    pysaliency's ``AUC`` has it. That code counts ties as lost, or shakes the map to break them,
    and its trapezoids then add up to ``1 / (2 N)``.

    Args:
        pred: ``(..., H, W)`` any scale. fixations: as the module says; N at least 1.
        weighting: negatives are drawn by solid angle (``"sphere"``) or by pixel.
        negatives: ``"all"`` of the map, or the ``"unfixated"`` pixels.
    Returns:
        ``(...)`` float64 in [0, 1].
    Raises:
        ValueError: NaN, no fixation, no pixel without one, an unknown weighting or choice.
    """
    if negatives not in ("all", "unfixated"):
        raise ValueError(f"negatives: {negatives!r}, wanted 'all' or 'unfixated'")
    frames, sets, shape = _frames(pred, fixations)
    weight = weights(frames, weighting)[:, 0]
    scores = []
    for frame, looked in zip(frames, sets, strict=True):
        row, col = _pixels(looked, frame)
        positives = frame[row, col]
        score = ranks.auc(frame, positives, weight)
        if negatives == "unfixated":
            # Taken out of the mean as they went in, each fixated pixel once.
            row, col = torch.unique(torch.stack((row, col)), dim=1)
            if len(row) == frame.numel():
                raise ValueError("fixations: in every pixel, wanted one without for a negative")
            share = weight[row] / (weight.sum() * frame.shape[1])
            beaten = 1 - ranks.doubled_ranks(frame[row, col], positives.sort().values).double() / (
                2 * len(positives)
            )
            score = (score - (share * beaten).sum()) / (1 - share.sum())
        scores.append(score)
    return torch.stack(scores).clamp(0, 1).reshape(shape)


def auc_borji(
    pred: ArrayLike,
    fixations: ArrayLike,
    weighting: Weighting = "sphere",
    splits: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Area under the ROC curve against as many random places as fixations, averaged over draws.

    Range, direction and blindness are those of :func:`auc_judd`. The definition draws the
    negatives at random, many times over; the average of that is known, and is what is returned
    unless ``splits`` asks for the draws: the area under the curve against the whole map, so
    :func:`auc_judd` with all negatives. What sets the two apart in print is how they are
    coded: published code steps the threshold by .1 or .01 of the map's range and loses the
    order of values within a step. Source: the code of the MIT saliency benchmark, after Borji
    (Bylinskii et al., 2016).

    Args:
        pred: ``(..., H, W)`` any scale. fixations: as the module says; N at least 1.
        weighting: random places are even on the sphere, or ``"pixels"`` at random.
        splits: number of draws of N negatives for each frame; published code takes 100.
        seed: of the draws.
    Returns:
        ``(...)`` float64 in [0, 1].
    Raises:
        ValueError: as :func:`auc_judd`; a number of splits below 1.
    """
    if splits is None:
        return auc_judd(pred, fixations, weighting)
    splits = positive_int(splits, "splits")
    frames, sets, shape = _frames(pred, fixations)
    weights(frames, weighting)
    H, W = frames.shape[1:]
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for frame, looked in zip(frames, sets, strict=True):
        positives, n = frame[_pixels(looked, frame)], splits * len(looked)
        if weighting == "sphere":
            row, col = erp_index(sample_sphere(n, generator), H, W)
        else:
            row = torch.randint(H, (n,), generator=generator)
            col = torch.randint(W, (n,), generator=generator)
        # Every draw has N negatives, so the mean of the draws' areas is the area of all at once.
        scores.append(ranks.auc(frame[row.to(frame.device), col.to(frame.device)][None], positives))
    return torch.stack(scores).reshape(shape)


def sauc(pred: ArrayLike, fixations: ArrayLike, others: ArrayLike) -> Tensor:
    """Shuffled AUC: is the map higher where people looked here than where they look elsewhere?

    From 0 to 1, larger is better, .5 is chance, a flat map, and a map that knows only the
    habits of gaze: negatives are fixations on other videos, so looking ahead or at the equator
    earns nothing. It also takes away what truly lies there, and favours maps that avoid the
    common places. It needs no weighting: other people's fixations stand in for area. Ties count
    half, exactly. Source: the code of the MIT saliency benchmark, after Borji (Bylinskii et al.,
    2016); all the given fixations are used, where that code draws as many as there are here.

    Args:
        pred: ``(..., H, W)`` any scale. fixations: as the module says; N at least 1.
        others: fixations on other videos or frames, at least 1: ``(M, 2)`` for all frames, or
            one set for each frame.
    Returns:
        ``(...)`` float64 in [0, 1].
    Raises:
        ValueError: NaN, no fixation here or elsewhere, latitudes beyond a pole.
    """
    frames, sets, shape = _frames(pred, fixations)
    elsewhere = _sets(others, "others", frames, shape, shared=True)
    scores = [
        ranks.auc(frame[_pixels(b, frame)][None], frame[_pixels(a, frame)])
        for frame, a, b in zip(frames, sets, elsewhere, strict=True)
    ]
    return torch.stack(scores).reshape(shape)


def information_gain(
    pred: ArrayLike,
    fixations: ArrayLike,
    baseline: ArrayLike | None = None,
    weighting: Weighting = "sphere",
    eps: float = 0.0,
) -> Tensor:
    """Bits per fixation that a prediction knows and a baseline density does not.

    ``mean(log2 p - log2 b)`` at the fixations, both densities per steradian. Larger is better;
    0 is the baseline itself, below 0 is worse than it; unbounded. It judges the map as a
    density, scale of peaks and all, and its best answer is the density of gaze itself; what it
    cannot forgive is certainty: one fixation where the prediction is exactly 0 makes it
    ``-inf``. A map that was never meant as a density scores badly for its contrast alone.
    Source: Kümmerer et al., "Information-theoretic model comparison unifies saliency metrics",
    2015, in the form of the MIT saliency benchmark, whose code stretches the map's minimum to 0
    and then adds 2.2e-16 to shares; ``eps`` states a floor openly.

    Args:
        pred: ``(..., H, W)`` at least 0, any scale; zeros only are taken for uniform.
        fixations: as the module says; N at least 1.
        baseline: ``(..., H, W)`` like ``pred``: the mean density of other videos, say. Uniform
            if not given.
        weighting: mass is value times solid angle (``"sphere"``), or the value (``"pixels"``),
            and uniform means on the sphere, or over pixels.
        eps: share of both densities, below 1, that is spread evenly first; 0 leaves them alone.
    Returns:
        ``(...)`` float64 bits.
    Raises:
        ValueError: sizes that differ, negative values, NaN, no fixation, a fixation where the
            baseline is 0.
    """
    frames, sets, shape = _frames(pred, fixations)
    weight = weights(frames, weighting)
    P = floored(shares(frames, weight, "pred", empty=True), weight, eps)
    if baseline is None:
        B = weight.expand_as(P)
    else:
        whole = frames.reshape(*shape, *frames.shape[1:])
        wanted, base = as_pair(whole, baseline, "baseline")
        if wanted.shape != whole.shape:
            raise ValueError(
                f"baseline: shape {tuple(base.shape)}, wanted one, or as pred {tuple(whole.shape)}"
            )
        base = shares(base.reshape(frames.shape), weight, "baseline", empty=True)
        B = floored(base, weight, eps)
    scores = []
    for p, b, looked in zip(P, B, sets, strict=True):
        row, col = _pixels(looked, p)
        known = b[row, col]
        if not bool((known > 0).all()):
            raise ValueError("baseline: 0 at a fixation, wanted a density above 0 (or an eps)")
        scores.append((torch.log2(p[row, col]) - torch.log2(known)).mean())
    return torch.stack(scores).reshape(shape)


def _pixels(looked: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of the pixel that each fixation ``(N, 2)`` falls in."""
    H, W = frame.shape
    return erp_index(lonlat_to_xyz(looked[:, 0], looked[:, 1]), H, W)


def _frames(pred: ArrayLike, fixations: ArrayLike) -> tuple[Tensor, list[Tensor], torch.Size]:
    """Frames ``(F, H, W)``, as many sets of fixations, and the leading shape they came in."""
    pred = as_map(pred, "pred").detach()
    shape = pred.shape[:-2]
    frames = pred.reshape(-1, *pred.shape[-2:])
    return frames, _sets(fixations, "fixations", frames, shape), shape


def _sets(
    fixations: ArrayLike, name: str, frames: Tensor, shape: torch.Size, shared: bool = False
) -> list[Tensor]:
    """One ``(N, 2)`` for each frame, checked."""
    if isinstance(fixations, (list, tuple)) and any(_depth(entry) > 1 for entry in fixations):
        if len(fixations) != len(frames):
            raise ValueError(f"{name}: {len(fixations)} sets, wanted {len(frames)}, one a frame")
        named = [(f"{name}[{k}]", entry) for k, entry in enumerate(fixations)]
    else:
        tensor = as_float64(fixations, name)
        if tensor.ndim > 2 and tensor.shape[:-2] == shape:
            sets = tensor.reshape(len(frames), *tensor.shape[-2:])
            named = [(f"{name}[{k}]", entry) for k, entry in enumerate(sets)]
        elif tensor.ndim > 2:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}, wanted {(*shape, 'N', 2)}")
        elif shape and not shared:
            raise ValueError(
                f"pred: shape {(*shape, *frames.shape[1:])}, wanted (H, W) for one set of "
                f"fixations; for frames, give a list of {len(frames)} sets"
            )
        else:
            return [_one_set(tensor, name, frames.device)] * len(frames)
    return [_one_set(entry, label, frames.device) for label, entry in named]


def _depth(entry: ArrayLike) -> int:
    """Axes of a nested sequence, array or tensor, looking at its first entries only."""
    if hasattr(entry, "ndim"):
        return int(entry.ndim)
    if isinstance(entry, (list, tuple)):
        return 1 + (_depth(entry[0]) if entry else 0)
    return 0


def _one_set(entry: ArrayLike, name: str, device: torch.device) -> Tensor:
    looked = as_float64(entry, name).detach().to(device)
    if looked.ndim != 2 or looked.shape[1] != 2 or len(looked) == 0:
        raise ValueError(f"{name}: shape {tuple(looked.shape)}, wanted (N, 2), N at least 1")
    steepest = float(looked[:, 1].abs().max())
    if steepest > math.pi / 2 + 1e-6:
        raise ValueError(
            f"{name}: a latitude of {steepest:.4g}, wanted lon, lat in radians (is it in degrees?)"
        )
    # pi / 2 in single precision lies beyond the pole, and beyond it is the opposite longitude.
    lat = looked[:, 1].clamp(-math.pi / 2, math.pi / 2)
    return torch.stack((looked[:, 0], lat), 1)
