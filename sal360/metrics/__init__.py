"""How well a map predicts where people look, each pixel counted by the solid angle it covers.

On an equirectangular map a third of the pixels lie within 30 degrees of a pole and hold 13.4 %
of the sphere, so a mean over pixels is a mean over mostly poles. ``weighting="pixels"`` gives
the unweighted number, for comparison with papers that report it. Chapter 12 derives them all.

| metric | compares with | best | a flat map | sees |
|---|---|---|---|---|
| :func:`cc` | a density | 1 | 0 | linear agreement, false alarms and misses alike |
| :func:`sim` | a density | 1 | the overlap with uniform | shared mass, wherever the rest lies |
| :func:`kld` | a density | 0 | divergence from uniform | misses, without limit |
| :func:`emd` | a density | 0 | the way from uniform | how far wrong mass has to travel |
| :func:`nss` | fixations | unbounded | 0 | height of the map where people looked |
| :func:`auc_judd`, :func:`auc_borji` | fixations | 1 | .5 | order of values, never their size |
| :func:`sauc` | fixations | 1 | .5 | order, with habits of gaze taken out |
| :func:`information_gain` | fixations | unbounded | 0 over uniform | the whole density, in bits |

What the field measures with them, and how they disagree: Bylinskii et al., "What do different
evaluation metrics tell us about saliency models?", 2016. Maps are ``(..., H, W)``, fixations
``(N, 2)`` lon, lat in radians, or one such set for each frame.
"""

from sal360.metrics.fixations import (
    auc_borji,
    auc_judd,
    information_gain,
    nss,
    sauc,
)
from sal360.metrics.maps import cc, kld, sim
from sal360.metrics.transport import emd, emd_bounds
from sal360.metrics.weighting import Weighting

__all__ = [
    "Weighting",
    "auc_borji",
    "auc_judd",
    "cc",
    "emd",
    "emd_bounds",
    "information_gain",
    "kld",
    "nss",
    "sauc",
    "sim",
]
