"""How well do people predict people? No model need do better than that.

The map of some observers is scored against the gaze of others, in the same video: half against
half, or all but one against the one. Chapter 10 measures it on real heads; so that a score means
something, it also scores what knows nothing of the video (other videos, the equator).

How wide should the kernel be? As wide as makes the left-out observers' gaze most likely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, as_tensor, in_range, positive_int
from sal360.gaze.density import fixation_maps
from sal360.metrics import cc, nss
from sal360.sphere import lonlat_to_xyz

Groups = Sequence[ArrayLike]
"""For each observer ``(N_o, 2)`` lon, lat in radians; an observer may have none."""


class Agreement(NamedTuple):
    """Scores of one video; higher is more alike.

    Attributes:
        cc: ``(K,)`` float64 correlation of two maps, and
        nss: ``(K,)`` the first map at the fixations of the second; NaN where one side is empty.
    """

    cc: Tensor
    nss: Tensor


def split_half(
    observers: Groups,
    H: int,
    W: int,
    sigma_deg: float = 5.0,
    halves: int = 10,
    seed: int = 0,
) -> Agreement:
    """Half of the observers against the other half, for several random halves.

    Args:
        observers: at least 2, each ``(N_o, 2)``: their gaze in one video, or in one frame.
        H, W, sigma_deg: of the maps; 60 x 120 does for a sigma of 5 degrees.
        halves: how many random halves. seed: of the draw.
    Returns:
        ``K = halves`` scores of one half's map against the other half. With half of the people a
        map is noisier, so this lies below what all of them would reach together.
    Raises:
        ValueError: fewer than two observers.
    """
    points = _groups(observers)
    member = _random_halves(len(points), halves, seed)
    return _against(_weighed(points, H, W, sigma_deg), points, member, ~member)


def leave_one_out(observers: Groups, H: int, W: int, sigma_deg: float = 5.0) -> Agreement:
    """Each observer against the map of all others: the inter-observer ceiling.

    Args:
        observers, H, W, sigma_deg: as in :func:`split_half`.
    Returns:
        a score for each of the ``O`` observers; NaN for one without gaze. ``nss`` is the one to
        compare models with: they too are asked about single people. ``cc`` compares with a map of
        one person and is low.
    """
    points = _groups(observers)
    one = torch.eye(len(points), dtype=torch.bool)
    return _against(_weighed(points, H, W, sigma_deg), points, ~one, one)


def by_frame(directions: ArrayLike, H: int, W: int, sigma_deg: float = 5.0) -> Agreement:
    """:func:`leave_one_out` in each frame of a video: the mean over the observers seen there.

    Args:
        directions: ``(O, T, 2)`` lon, lat of each observer at each frame's time, NaN where it is
            not known, as :func:`sal360.gaze.interpolate` gives them.
        H, W, sigma_deg: of the maps.
    Returns:
        a score for each of the ``T`` frames; NaN for a frame with fewer than two observers.
        One frame after another, a tenth of a second and more each: take every n-th of a long video.
    """
    points = as_tensor(directions, "directions").double()
    if points.ndim != 3 or points.shape[-1] != 2 or len(points) < 2:
        shape = tuple(points.shape)
        raise ValueError(f"directions: shape {shape}, wanted (O, T, 2), O at least 2")
    scores = torch.full((2, points.shape[1]), torch.nan, dtype=torch.float64)
    for t, frame in enumerate(points.unbind(1)):
        seen = frame[frame.isfinite().all(-1)][:, None]
        if len(seen) > 1:
            each = leave_one_out(list(seen), H, W, sigma_deg)
            scores[:, t] = torch.stack([part.mean() for part in each])
    return Agreement(*scores)


def ceiling(
    videos: Sequence[Groups],
    H: int = 60,
    W: int = 120,
    sigma_deg: float = 5.0,
    halves: int = 10,
    seed: int = 0,
    equator_deg: float = 20.0,
) -> dict[str, Agreement]:
    """What people, other videos and the equator reach on each of several videos.

    In each video the observers are split at random, again and again. All three predict the gaze
    of one half, so that they are compared on one truth: ``"half"`` is the map of the other half,
    ``"others"`` the mean of the other videos' maps (of everybody there), ``"equator"`` is
    :func:`sal360.baselines.equator_density`.

    Args:
        videos: at least 2; for each the observers' gaze over the whole video.
        H, W, sigma_deg, halves, seed: as in :func:`split_half`, other halves in every video.
        equator_deg: width of the band.
    Returns:
        name to :class:`Agreement` with one score per video, the mean over its halves; the mean
        over videos is the figure to quote.
    Raises:
        ValueError: fewer than two videos, or one in which nobody looked anywhere.
    """
    from sal360.baselines import equator_density  # late: baselines may draw densities themselves

    if len(videos) < 2:
        raise ValueError(f"videos: {len(videos)}, wanted at least 2: others are needed")
    groups = [_groups(video) for video in videos]
    if not all(any(len(p) for p in points) for points in groups):
        raise ValueError("videos: one without any gaze, wanted some in each")
    alone = [_weighed(points, H, W, sigma_deg) for points in groups]
    maps = torch.stack(
        [each.sum(0) / sum(map(len, p)) for each, p in zip(alone, groups, strict=True)]
    )
    others = (maps.sum(0) - maps) / (len(maps) - 1)
    band = equator_density(H, W, equator_deg).double()
    scores: dict[str, list[Tensor]] = {"half": [], "others": [], "equator": []}
    for v, points in enumerate(groups):
        member = _random_halves(len(points), halves, seed + v)
        each = {"half": None, "others": others[v], "equator": band}
        for name, prediction in each.items():
            score = _against(alone[v], points, member, ~member, prediction)
            scores[name].append(torch.stack([part.nanmean() for part in score]))
    return {name: Agreement(*torch.stack(rows, 1)) for name, rows in scores.items()}


class Bandwidth(NamedTuple):
    """Which width explains people best.

    Attributes:
        sigma_deg: the best of the candidates, degrees.
        candidates: ``(K,)`` as given. scores: ``(K,)`` float64: mean log-likelihood of a left-out
            gaze point, natural logarithm per point of a density per steradian.
    """

    sigma_deg: float
    candidates: Tensor
    scores: Tensor


def best_bandwidth(
    observers: Groups, candidates: ArrayLike, uniform_share: float = 0.01
) -> Bandwidth:
    """Width of the kernel by leave-one-observer-out likelihood.

    An observer's points are explained by the kernels on all other observers' points, each other
    observer counting alike, plus a small uniform share: without it one point far from everybody
    would have no likelihood at all, and a single such point would choose the width. Points are
    left out by observer, not one by one: a person's samples lie so close together that a point
    would be explained by its own neighbours, and the narrowest kernel would win.

    Args:
        observers: at least 2 with gaze, each ``(N_o, 2)``. Cost grows with the square of all
            points: a few thousand are plenty, so give every tenth sample of a trace.
        candidates: ``(K,)`` sigmas in degrees, such as ``[2, 3, 5, 7, 10]``.
        uniform_share: in (0, 1): mass of the uniform part.
    Returns:
        :class:`Bandwidth`; the mean is over observers first, so that none counts for more.
    Raises:
        ValueError: fewer than two observers with gaze, candidates not above 0.
    """
    sigmas = as_float64(candidates, "candidates").reshape(-1)
    if len(sigmas) == 0 or not bool((sigmas > 0).all()):
        raise ValueError(f"candidates: {sigmas.tolist()}, wanted degrees above 0, at least one")
    share = in_range(uniform_share, "uniform_share", 0.0, 1.0)
    points = [p for p in _groups(observers) if len(p)]
    if len(points) < 2:
        raise ValueError(f"observers: {len(points)} with gaze, wanted at least 2")
    whose = torch.repeat_interleave(torch.tensor([len(p) for p in points]))
    d = lonlat_to_xyz(*torch.cat(points).unbind(-1))
    size = torch.bincount(whose).double()
    weight = 1 / (size[whose] * (len(points) - 1))
    kappa = torch.deg2rad(sigmas) ** -2
    scale = kappa / (-2 * math.pi * torch.expm1(-2 * kappa))
    total = torch.zeros(len(kappa), len(d), dtype=torch.float64)
    for some in torch.arange(len(d)).split(max(1, (1 << 21) // len(d))):
        # -|a - b|^2 / 2 is cos - 1 with the digits that a narrow kernel needs.
        drop = torch.cdist(d[some], d, compute_mode="donot_use_mm_for_euclid_dist") ** 2 / -2
        others = (whose[some, None] != whose) * weight
        for k in range(len(kappa)):
            total[k, some] = scale[k] * (torch.exp(kappa[k] * drop) * others).sum(1)
    likelihood = torch.log((1 - share) * total + share / (4 * math.pi))
    scores = (likelihood / size[whose]).sum(1) / len(points)
    return Bandwidth(float(sigmas[scores.argmax()]), sigmas, scores)


def _groups(observers: Groups) -> list[Tensor]:
    if not isinstance(observers, Iterable):
        raise TypeError(f"observers: {type(observers).__name__}, wanted the gaze of each")
    points = [as_float64(o, f"observers[{n}]") for n, o in enumerate(observers)]
    for n, each in enumerate(points):
        if each.numel() and (each.ndim != 2 or each.shape[1] != 2):
            raise ValueError(f"observers[{n}]: shape {tuple(each.shape)}, wanted (N, 2)")
    if len(points) < 2:
        raise ValueError(f"observers: {len(points)}, wanted at least 2")
    return [each.reshape(-1, 2) for each in points]


def _random_halves(count: int, halves: int, seed: int) -> Tensor:
    """``(halves, count)`` bool, half of each row true (one less than the rest if odd)."""
    draw = torch.Generator().manual_seed(seed)
    rank = torch.rand(positive_int(halves, "halves"), count, generator=draw).argsort(1).argsort(1)
    return rank < count // 2


def _weighed(points: list[Tensor], H: int, W: int, sigma_deg: float) -> Tensor:
    """``(O, H, W)`` float64: observers' maps, of mass ``N_o``; those of groups are their sums."""
    count = torch.tensor([len(p) for p in points], dtype=torch.float64)
    return fixation_maps(points, H, W, sigma_deg).nan_to_num(0).double() * count[:, None, None]


def _against(
    alone: Tensor,
    points: list[Tensor],
    first: Tensor,
    second: Tensor,
    prediction: Tensor | None = None,
) -> Agreement:
    """Maps of the groups ``first (K, O)``, or one map, against gaze of the groups ``second``."""
    has = torch.tensor([len(p) > 0 for p in points])
    both = (first & has).any(1) & (second & has).any(1)
    scores = torch.full((2, len(first)), torch.nan, dtype=torch.float64)
    if bool(both.any()):
        a, b = (torch.tensordot(group[both].double(), alone, 1) for group in (first, second))
        a = a if prediction is None else prediction.expand_as(b)
        held = [torch.cat([points[o] for o in row.nonzero()[:, 0]]) for row in second[both]]
        scores[:, both] = torch.stack((cc(a, b), _nss(a, held)))
    return Agreement(*scores)


def _nss(maps: Tensor, fixations: list[Tensor]) -> Tensor:
    return torch.stack([nss(m, f) for m, f in zip(maps, fixations, strict=True)])
