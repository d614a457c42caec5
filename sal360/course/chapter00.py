"""Exercises of chapter 00: predictions, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.baselines import equator_density
from sal360.course.checking import Case, answered, ask, exercise
from sal360.datasets.synthetic import SyntheticClip, render_clip
from sal360.metrics import cc
from sal360.projections import rotate_erp
from sal360.sphere import angle_between, lonlat_to_xyz, rotation_matrix

BESIDE = 9.0
"""How far beside the middle of a disc a place may be, degrees: the radius of the largest one that
moves, and less than any of the three moves from frame 0 to frame 6."""


@lru_cache(maxsize=1)
def practice_clip() -> SyntheticClip:
    """The embedded clip at the size of the exercises: 12 frames of 64 x 128."""
    return render_clip(12, 64, 128)


def equator_score() -> float:
    """Correlation of the equator prior with the truth of the practice clip, mean of its frames."""
    truth = practice_clip().truth
    return float(cc(equator_density(64, 128), truth).mean())


@exercise("00.1")
def by_eye(fixations: Any) -> Iterator[Case]:
    """Three places (lon, lat in degrees) where you would look in frame 0."""
    points = torch.as_tensor(answered(fixations), dtype=torch.float64)
    yield Case(
        "three places, each (lon, lat)", points.shape == (3, 2), f"shape {tuple(points.shape)}"
    )
    inside = bool((points[:, 0].abs() <= 180).all() and (points[:, 1].abs() <= 90).all())
    yield Case("degrees: lon within 180, lat within 90", inside, str(points.tolist()))
    degrees = bool((points.abs() > math.pi).any())
    yield Case("degrees, not radians", degrees, str(points.tolist()))
    xyz = lonlat_to_xyz(torch.deg2rad(points[:, 0]), torch.deg2rad(points[:, 1]))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        apart = math.degrees(angle_between(xyz[a], xyz[b]))
        yield Case(
            "three different things, at least 20 degrees apart",
            apart > 20,
            f"places {a + 1} and {b + 1} are {apart:.0f} degrees apart",
        )
    middles = practice_clip().objects[0]
    for (lon, lat), place in zip(points.tolist(), xyz, strict=True):
        apart = math.degrees(angle_between(place, middles).min())
        yield Case(
            f"each at most {BESIDE:g} degrees beside something that moves",
            apart <= BESIDE,
            f"lon {lon:g}, lat {lat:g}: {apart:.0f} degrees from the nearest thing that moves",
        )


@exercise("00.2")
def beat_the_equator(predict: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Case]:
    """``predict(frame, next_frame) -> (H, W)`` must correlate with truth better than the prior."""
    clip = practice_clip()
    prior = equator_density(64, 128)
    gains = []
    for t in range(len(clip.frames) - 1):
        given = ask(predict, clip.frames[t].clone(), clip.frames[t + 1].clone())
        out = torch.as_tensor(given).detach()
        yield Case(
            "one map per frame, (64, 128)", out.shape == (64, 128), f"frame {t}: {tuple(out.shape)}"
        )
        flat = bool(out.max() == out.min())
        yield Case("not the same everywhere", not flat, f"frame {t}: {float(out.max()):.3g}")
        fine = bool(torch.isfinite(out).all() and (out >= 0).all())
        yield Case("finite and not negative", fine, f"frame {t}: minimum {float(out.min()):.3g}")
        truth = clip.truth[t]
        gains.append(float(cc(out.double(), truth)) - float(cc(prior, truth)))
    mean = sum(gains) / len(gains)
    worst = min(range(len(gains)), key=gains.__getitem__)
    yield Case(
        "on average closer to the truth than the equator prior",
        mean > 0.1,
        f"mean gain in CC {mean:+.3f}, wanted above +0.1; frame {worst}: {gains[worst]:+.2f}",
    )


@exercise("00.3")
def break_the_prior(tilt: Any) -> Iterator[Case]:
    """A rotation (yaw, pitch, roll in degrees) of the world that ruins the equator prior."""
    values = tilt.tolist() if isinstance(tilt, np.ndarray | Tensor) else tilt
    given = list(values) if isinstance(values, list | tuple) else [values]
    yield Case("three angles: yaw, pitch, roll", len(given) == 3, f"{len(given)} of them")
    angles = [math.radians(float(answered(a))) for a in given]
    truth = practice_clip().truth[:, None]
    turned = rotate_erp(truth, rotation_matrix(*angles))[:, 0]
    prior = equator_density(64, 128)
    before, after = float(cc(prior, truth[:, 0]).mean()), float(cc(prior, turned).mean())
    yield Case(
        "the correlation falls below a third of what it is on the level clip",
        after < before / 3,
        f"{given} degrees: {after:.3f}, wanted below {before / 3:.3f}, level {before:.3f}",
    )
