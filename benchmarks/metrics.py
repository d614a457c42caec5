"""What metrics cost and how exact they are: AUC beside a sort of the map, transport beside finer
transport.

The yardstick for AUC is sorting the map alone, without anything that a score needs besides:
``torch.sort``, which carries indices along, and ``numpy.sort``, which does not and is several
times faster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import interleaved
from sal360 import metrics
from sal360.metrics.transport import _cells
from sal360.sphere import (
    erp_directions,
    sample_sphere,
    von_mises_fisher,
    xyz_to_lonlat,
)

H, W, FIXATIONS = 1024, 2048, 1000
COARSE, FINE = (12, 18, 24, 36), 48


def people(n: int, seed: int) -> Tensor:
    """``(n, 2)`` directions even on the sphere."""
    return torch.stack(xyz_to_lonlat(sample_sphere(n, torch.Generator().manual_seed(seed))), -1)


def maps() -> dict[str, Tensor]:
    """What predictions look like, and what is hard: noise, smooth, few levels, peaks, zeros."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 1, 16, 32, generator=generator)
    smooth = F.interpolate(rough, (H, W), mode="bicubic")[0, 0].contiguous()
    return {
        "noise": torch.rand(H, W, generator=generator),
        "smooth": smooth,
        "nine levels": torch.floor(9 * smooth),
        "peaked": torch.exp(20 * (smooth - 1)),
        "half zeros": (smooth - 0.5).clamp(min=0),
    }


def auc_speed(repeats: int = 11) -> dict[str, Any]:
    """AUC-Judd of one large map with 1000 fixations, in one thread."""
    looked = people(FIXATIONS, 0)
    found = {}
    for name, values in maps().items():
        flat = values.flatten()
        calls: dict[str, Callable[[], Any]] = {
            "torch.sort of the map": lambda flat=flat: flat.sort(),
            "numpy.sort of the map": lambda flat=flat: np.sort(flat.numpy()),
            "auc_judd, sphere": lambda values=values: metrics.auc_judd(values, looked),
            "auc_judd, pixels": lambda values=values: metrics.auc_judd(values, looked, "pixels"),
        }
        times = interleaved(calls, repeats)
        base = times["numpy.sort of the map"]["median_s"]
        for row in times.values():
            row["ratio_to_numpy_sort"] = row["median_s"] / base
        found[name] = times
    return {"map": f"{H} x {W} float32", "fixations": FIXATIONS, "times": found}


def frame_speed(repeats: int = 5) -> dict[str, Any]:
    """Every metric over 64 frames of the size at which videos are evaluated."""
    rough = torch.rand(128, 1, 8, 16, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(rough, (128, 256), mode="bicubic")[:, 0].clamp(min=0)
    pred, truth = smooth.unflatten(0, (2, 64))
    sets = [people(30, k) for k in range(64)]
    others = people(1000, 99)
    calls: dict[str, Callable[[], Any]] = {
        "torch.sort of the maps": lambda: pred.flatten(1).sort(),
        "cc": lambda: metrics.cc(pred, truth),
        "sim": lambda: metrics.sim(pred, truth),
        "kld": lambda: metrics.kld(pred, truth),
        "nss": lambda: metrics.nss(pred, sets),
        "auc_judd": lambda: metrics.auc_judd(pred, sets),
        "auc_borji": lambda: metrics.auc_borji(pred, sets),
        "sauc": lambda: metrics.sauc(pred, sets, others),
        "information_gain": lambda: metrics.information_gain(pred, sets),
        "emd": lambda: metrics.emd(pred, truth),
    }
    return {"maps": "64 x 128 x 256", "fixations": 30, "times": interleaved(calls, repeats)}


def pairs() -> dict[str, tuple[Tensor, Tensor]]:
    """Two densities each: far apart, close together, sharp."""
    d = erp_directions(64, 128)

    def blobs(n: int, kappa: float, seed: int) -> Tensor:
        means = sample_sphere(n, torch.Generator().manual_seed(seed))
        return sum(
            (von_mises_fisher(d, mean, kappa) for mean in means), torch.full((64, 128), 0.01)
        )

    return {
        "wide blobs": (blobs(4, 10, 0), blobs(5, 10, 1)),
        "narrow blobs": (blobs(4, 100, 2), blobs(5, 100, 3)),
        "one blob among others moved": (blobs(4, 60, 4), blobs(3, 60, 4)),
        "noise": tuple(torch.rand(2, 64, 128, generator=torch.Generator().manual_seed(5)).double()),
    }  # type: ignore[dict-item]


def transport() -> dict[str, Any]:
    """The earth mover's distance by bands of cells, beside that of the finest, in degrees."""
    found: dict[str, Any] = {}
    for name, (pred, truth) in pairs().items():
        rows = []
        for bands in (*COARSE, FINE):
            tolerance = 0.01 if bands < FINE else 0.003
            start = time.perf_counter()
            low, high = metrics.emd_bounds(pred, truth, bands=bands, tolerance=tolerance)
            spent = time.perf_counter() - start
            rows.append(
                {
                    "bands": bands,
                    "cells": len(_cells(bands)[1]),
                    "low_deg": math.degrees(low),
                    "high_deg": math.degrees(high),
                    "seconds": spent,
                }
            )
        finest = rows[-1]["low_deg"] + rows[-1]["high_deg"]
        for row in rows:
            row["off_finest"] = (row["low_deg"] + row["high_deg"]) / finest - 1
        found[name] = rows
    return found


def run() -> dict[str, Any]:
    """All three, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "threads": 1,
            "auc": auc_speed(),
            "frames": frame_speed(),
            "transport": transport(),
        }
    finally:
        torch.set_num_threads(threads)
