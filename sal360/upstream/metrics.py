"""Scores as the published code of two systems computes them, so that its numbers reproduce.

Both come from one lineage: a ROC curve traced by thresholds, fixations as bright pixels of an
image, ties left to the order of a sweep or to random noise. CP-360 weighs all pixels alike;
AVS360 multiplies the maps by cos(latitude) and then weighs all pixels alike, which changes
their values and their order, not what a pixel counts. Use :mod:`sal360.metrics` for anything
but comparison; chapter 12 shows the difference.

Sources: repositories hsientzucheng/CP-360-Weakly-Supervised-Saliency at dde55cc and
FannyChao/AVS360_audiovisual_saliency_360 at dfbfe45 (facts only; the code here is our own).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360._check import ArrayLike, as_tensor, positive_int

Array = NDArray[np.floating]

CP360_SIZE = (120, 240)
"""Rows and columns to which CP-360 resizes every map before it scores it."""

_AVS360_EPSILON = float(np.finfo("float").eps)


def cp360_auc_judd(saliency: ArrayLike, truth: ArrayLike, seed: int | None = 0) -> Tensor:
    """CP-360's AUC-Judd: fixations are where the truth exceeds its mean by two deviations.

    The hit rate of the i-th threshold is ``i / N`` although ``i + 1`` fixations reach it, so
    the curve starts one step low.

    Args:
        saliency, truth: maps of any size, resized to :data:`CP360_SIZE`.
        seed: of the noise (1e-7 of a normal deviate) that breaks ties, as ``numpy.random.seed``
            sets it; None for no noise.
    Returns:
        scalar float64. Raises: ValueError for anything but two maps.
    """
    values, looked = _cp360_resized(saliency, "saliency"), _cp360_resized(truth, "truth")
    if seed is not None:
        values = values + _legacy(seed).randn(*values.shape) / 1e7
    values = _stretched(values)
    at_fixations = np.sort(values[_cp360_bright(looked)])[::-1]
    n = len(at_fixations)
    step = np.arange(n)
    above = values.size - np.searchsorted(np.sort(values, None), at_fixations, "left")
    return _area((above - step) / (values.size - n), step / n)


def cp360_auc_borji(
    saliency: ArrayLike, truth: ArrayLike, seed: int = 0, splits: int = 100, step: float = 0.01
) -> Tensor:
    """CP-360's AUC-Borji: thresholds in equal steps, the highest values set to 1 first.

    Every value above the mean by two deviations becomes 1, before the map is stretched to
    [0, 1]: if the map reached beyond 1, its top is folded down.

    Args:
        saliency, truth: maps of any size, resized to :data:`CP360_SIZE`.
        seed: of the random pixels. splits: draws of as many pixels as there are fixations.
        step: between thresholds.
    Returns:
        scalar float64.
    """
    values, looked = _cp360_resized(saliency, "saliency"), _cp360_resized(truth, "truth")
    values = np.where(values > np.mean(values) + 2 * np.std(values), values.dtype.type(1), values)
    values = _stretched(values)
    return _borji(values.ravel(), _cp360_bright(looked).ravel(), seed, splits, step)


def cp360_cc(a: ArrayLike, b: ArrayLike) -> Tensor:
    """CP-360's correlation over pixels. ``a, b``: maps of any size; returns scalar float64."""
    x, y = (_cp360_resized(m, name).astype(np.float64) for m, name in ((a, "a"), (b, "b")))
    x, y = x - x.mean(), y - y.mean()
    return torch.tensor((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()), dtype=torch.float64)


def cp360_sim(a: ArrayLike, b: ArrayLike) -> Tensor:
    """CP-360's similarity over pixels: both minima are stretched to 0 before mass is compared.

    ``a, b``: maps of any size; returns scalar float64.
    """
    x, y = (_stretched(_cp360_resized(m, name)) for m, name in ((a, "a"), (b, "b")))
    return torch.tensor(np.minimum(x / x.sum(), y / y.sum()).sum(), dtype=torch.float64)


def avs360_weights(H: int) -> Tensor:
    """``(H,)`` cos(latitude) of rows, scaled to a maximum of 1, by which AVS360 multiplies maps."""
    row = torch.arange(positive_int(H, "H"), dtype=torch.float64)
    weight = torch.cos((row - H / 2 + 0.5) * (torch.pi / H))
    return weight / weight.max()


def avs360_scores(
    pred: ArrayLike, fixation_map: ArrayLike, truth: ArrayLike, seed: int = 0, weighted: bool = True
) -> dict[str, Tensor]:
    """AVS360's set of scores: AUC-Judd and -Borji, NSS, CC, and the divergence both ways round.

    Its tables print ``kld_pred_truth``, which is KL(prediction || truth): prediction and truth
    in exchanged places. Fixations are pixels above half a grey level, each counted once.

    Args:
        pred, truth: ``(H, W)`` grey levels. fixation_map: ``(H, W)``.
        seed: of AUC-Borji's random pixels, 100 draws with thresholds .1 apart.
        weighted: multiply prediction and truth by :func:`avs360_weights` first, as they do.
    Returns:
        ``auc_judd, auc_borji, nss, cc, kld_pred_truth, kld_truth_pred``, scalars float64.
    Raises:
        ValueError: sizes that differ, no fixation.
    """
    p, q = _plane(pred, "pred").astype(np.float64), _plane(truth, "truth").astype(np.float64)
    looked = _plane(fixation_map, "fixation_map") > 0.5
    for name, other in (("fixation_map", looked), ("truth", q)):
        if other.shape != p.shape:
            raise ValueError(f"{name}: {other.shape}, wanted the size of pred, {p.shape}")
    if not looked.any():
        raise ValueError("fixation_map: no pixel above .5, wanted at least one")
    if weighted:
        weight = avs360_weights(len(p)).numpy()[:, None]
        p, q = p * weight, q * weight
    values = _stretched(p).ravel()
    at_fixations = np.sort(values[looked.ravel()])[::-1]
    n = len(at_fixations)
    step = np.arange(1, n + 1)
    above = values.size - np.searchsorted(np.sort(values), at_fixations, "left")
    numbers = {
        "nss": ((p - p.mean()) / p.std())[looked].mean(),
        "cc": np.corrcoef(p.ravel(), q.ravel())[0, 1],
        "kld_pred_truth": _avs360_kld(p, q),
        "kld_truth_pred": _avs360_kld(q, p),
    }
    return {
        "auc_judd": _area((above - step) / (values.size - n), step / n),
        "auc_borji": _borji(values, looked.ravel(), seed, 100, 0.1),
        **{name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()},
    }


def _avs360_kld(p: Array, q: Array) -> float:
    p, q = p / p.sum(), q / q.sum()
    log = np.log((p + _AVS360_EPSILON) / (q + _AVS360_EPSILON))
    return float(np.where(p != 0, p * log, 0).sum())


def _borji(values: Array, looked: NDArray[np.bool_], seed: int, splits: int, step: float) -> Tensor:
    """The mean area over draws of random pixels, by thresholds ``step`` apart."""
    at_fixations = np.sort(values[looked])
    n = len(at_fixations)
    drawn = values[_legacy(seed).randint(0, high=values.size, size=(n, splits))]
    areas = []
    for column in np.sort(drawn, axis=0).T:
        thresholds = np.arange(0.0, max(at_fixations[-1], column[-1]), step)[::-1]
        hits = n - np.searchsorted(at_fixations, thresholds, "left")
        alarms = n - np.searchsorted(column, thresholds, "left")
        areas.append(_area(alarms / n, hits / n))
    return torch.stack(areas).mean()


def _area(alarms: Array, hits: Array) -> Tensor:
    """The trapezoids under a curve from (0, 0) to (1, 1)."""
    x, y = (torch.from_numpy(np.concatenate(([0.0], rate, [1.0]))) for rate in (alarms, hits))
    return torch.trapezoid(y, x)


def _cp360_resized(value: ArrayLike, name: str) -> Array:
    """At :data:`CP360_SIZE`. Lanczos is named in the place of another argument: it is bilinear."""
    import cv2

    plane = _plane(value, name)
    if plane.dtype != np.float64:
        plane = plane.astype(np.float32)
    return np.asarray(cv2.resize(plane, CP360_SIZE[::-1], interpolation=cv2.INTER_LINEAR))


def _cp360_bright(looked: Array) -> NDArray[np.bool_]:
    bright = np.asarray(looked > np.mean(looked) + 2 * np.std(looked))
    if not bright.any():
        raise ValueError("truth: nowhere two deviations above its mean, wanted a peak")
    return bright


def _stretched(values: Array) -> Array:
    span = values.max() - values.min()
    if not span > 0:
        raise ValueError("map: flat, and the published code divides by its range")
    return np.asarray((values - values.min()) / span)


def _plane(value: ArrayLike, name: str) -> Array:
    plane = as_tensor(value, name).detach().cpu()
    if plane.ndim != 2 or 0 in plane.shape:
        raise ValueError(f"{name}: shape {tuple(plane.shape)}, wanted (H, W)")
    return plane.numpy()


def _legacy(seed: int) -> np.random.RandomState:
    """The generator behind ``numpy.random.seed``, without touching the shared one."""
    return np.random.RandomState(seed)
