"""Look at what stands out: boolean maps, on a sphere.

Cut every channel at many levels. In each of these black-and-white pictures, what is enclosed by
something else is a figure, and figures draw the eye (Zhang and Sclaroff, "Saliency detection: a
boolean map approach", ICCV 2013). On a flat picture "enclosed" means not touching the border.
A sphere has no border: two regions that share an edge each enclose the other. Here the figure
is the smaller one, and a region counts the more the smaller it is; a still picture is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.baselines.base import Baseline, beside, smooth
from sal360.baselines.priors import equator_density
from sal360.sphere import pixel_area

LEVELS = 12
"""Cuts per channel and direction."""
LARGEST = 0.15
"""Share of the sphere up to which a region is a figure, not ground."""
SMALLEST = 3e-4
"""Share of the sphere below which a region is noise: a disc of 2 degrees."""


def boolean_map_saliency(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How often each pixel belongs to a figure, over all cuts of all channels.

    Channels are those of CIE Lab, each stretched over its range in this picture. Regions, and
    the median of 3 x 3 pixels before the cuts, go across the seam and over the poles: a picture
    turned by whole pixels has its map turned by as many. A cut's figures share one unit between
    them, so that a cut with little in it speaks as loud as one full of specks.

    Args:
        rgb: ``(H, W, 3)`` uint8 panorama, at least 2 x 2.
    Returns:
        ``(H, W)`` float32, none negative; 0 everywhere if nothing stands out.
    Raises:
        ValueError: another shape. TypeError: another kind of number, such as floats in [0, 1].
    """
    import cv2

    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        found = getattr(rgb, "dtype", type(rgb).__name__)
        raise TypeError(f"rgb: {found}, wanted an array (H, W, 3) of uint8")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < 2:
        raise ValueError(f"rgb: shape {rgb.shape}, wanted (H, W, 3), at least 2 x 2")
    H, W = rgb.shape[:2]
    area = np.repeat(pixel_area(H, W).numpy()[:, None] / (4 * math.pi), W, 1)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    calm = cv2.medianBlur(_with_rim(lab), 3)[1:-1, 1:-1]
    total = np.zeros((H, W))
    for channel in cv2.split(calm):
        low, high = int(channel.min()), int(channel.max())
        if high - low < 8:  # nothing but noise to cut
            continue
        for level in np.linspace(low, high, LEVELS + 2)[1:-1]:
            above = channel > level
            for region in (above, ~above):
                total += _figures(region, area)
    return total.astype(np.float32)


def _with_rim(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(H, W, C)`` to ``(H + 2, W + 2, C)``: what lies over the poles and across the seam."""
    half = picture.shape[1] // 2
    top, bottom = (np.roll(picture[row], half, axis=1) for row in (slice(1), slice(-1, None)))
    tall = np.concatenate([top, picture, bottom])
    return np.ascontiguousarray(np.concatenate([tall[:, -1:], tall, tall[:, :1]], axis=1))


def _figures(region: NDArray[np.bool_], area: NDArray[np.float64]) -> NDArray[np.float64]:
    """The figures of one cut, with a common value so that they sum to 1 over the sphere."""
    labels = _labels(region)
    share = np.bincount(labels.ravel(), area.ravel())
    kept = (share > SMALLEST) & (share < LARGEST)
    kept[0] = False
    mass = share[kept].sum()
    # Its root, not its inverse: a single speck must not outshine all the rest.
    return kept[labels] / math.sqrt(mass) if mass > 0 else np.zeros_like(area)


def _labels(region: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Connected regions ``(H, W)``, 0 outside, joined across the seam and over both poles."""
    import cv2

    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=4)
    W = region.shape[1]
    half = W // 2
    over = np.arange(W)
    meets = [(labels[:, 0], labels[:, -1])]
    meets += [(row, row[(over + half) % W]) for row in (labels[0], labels[-1])]
    name = np.arange(count)
    pairs = np.concatenate([np.stack(pair, 1) for pair in meets])
    pairs = np.unique(np.sort(pairs[(pairs > 0).all(1)], 1), axis=0)
    for a, b in pairs[pairs[:, 0] != pairs[:, 1]]:
        name[name == name[b]] = name[a]
    return name[labels].astype(np.int32)


class BooleanMaps(Baseline):
    """:func:`boolean_map_saliency`, blurred on the sphere, plus the equator."""

    sigma_deg = 6.0
    equator_share = 0.25

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """``(1, H, W)`` per frame: the map before the blur."""
        import cv2

        for frame in frames:
            small = cv2.resize(frame, self.input_size[::-1], interpolation=cv2.INTER_AREA)
            yield torch.from_numpy(boolean_map_saliency(small))[None]

    def forward(self, clip: Tensor) -> Tensor:
        """Maps ``(B, T, 1, H, W)`` to densities of the same shape."""
        blurred = smooth(clip.flatten(0, 1), math.radians(self.sigma_deg)).reshape(clip.shape)
        return beside(blurred, equator_density(*clip.shape[-2:]), self.equator_share)
