"""Flow of flat pictures, and what it makes of a panorama whose sides are joined.

The panorama is padded with its own other side, so what crosses the seam keeps moving. Near the
poles a flat method is wrong: a thing that passes over a pole leaves through the upper edge and
comes back half a picture away. :mod:`sal360.flow.spherical` measures and mends that.

DIS and Farneback need no weights and run on any CPU. Beside RAFT, flat regions get smoothed
guesses where it reasons globally, small fast objects may be lost, and edges are softer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_DIS_LEAST = 16


@dataclass(frozen=True)
class FlatMethod:
    """A way to find the flow between two flat pictures.

    Attributes:
        name: says everything that its answer depends on (a cache is keyed by it).
        estimate: two pictures of one size to ``(h, w, 2)`` float32 pixels, right and down.
        colour: whether pictures are ``(h, w, 3)`` RGB; else ``(h, w)`` grey, as bytes.
    """

    name: str
    estimate: Callable[[Picture, Picture], NDArray[np.float32]]
    colour: bool = False


def as_method(method: str | FlatMethod) -> FlatMethod:
    """A method by name; ``"raft"`` with torchvision's own weights (:mod:`sal360.flow.raft`)."""
    if isinstance(method, FlatMethod):
        return method
    if method == "raft":
        from sal360.flow.raft import default_method

        return default_method()
    known = {"dis": _DIS, "farneback": _FARNEBACK}
    if method not in known:
        names = ", ".join(map(repr, (*known, "raft")))
        raise ValueError(f"method: {method!r}, wanted {names} or a FlatMethod")
    return known[method]


def planar_flow(
    first: Picture, second: Picture, method: str | FlatMethod = "dis"
) -> NDArray[np.float32]:
    """Flow of the panorama as a flat picture, continuous across the seam, wrong at the poles.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB panoramas of one size, at least 16 x 16.
        method: ``"dis"``, ``"farneback"``, ``"raft"`` or a :class:`FlatMethod`.
    Returns:
        ``(2, H, W)`` float32 pixels per frame, right and down. Where both frames are equal,
        exactly zero.
    Raises:
        ValueError: sizes that differ, or below 16 x 16; an unknown method.
    """
    chosen = as_method(method)
    H, W = check_frames(first, second)
    if np.array_equal(first, second):
        return np.zeros((2, H, W), np.float32)
    margin = max(16, W // 8)

    def wrapped(frame: Picture) -> Picture:
        around = [(0, 0), (margin, margin), (0, 0)]
        picture = flat_picture(frame, chosen)
        return np.pad(picture, around[: picture.ndim], mode="wrap")

    flow = chosen.estimate(wrapped(first), wrapped(second))
    return np.ascontiguousarray(flow[:, margin : margin + W].transpose(2, 0, 1))


def dis_flow(first: Picture, second: Picture) -> NDArray[np.float32]:
    """Dense inverse search flow (Kroeger et al., 2016); see :func:`planar_flow`."""
    return planar_flow(first, second, _DIS)


def farneback_flow(first: Picture, second: Picture) -> NDArray[np.float32]:
    """Flow by polynomial expansion (Farneback, 2003); see :func:`planar_flow`."""
    return planar_flow(first, second, _FARNEBACK)


def check_frames(first: Picture, second: Picture, least: int = 16) -> tuple[int, int]:
    """``(H, W)`` of two frames that belong together, or a ValueError."""
    for name, frame in (("first", first), ("second", second)):
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
            found = frame.dtype if isinstance(frame, np.ndarray) else f"a {type(frame).__name__}"
            raise TypeError(f"{name}: {found}, wanted a numpy array (H, W, 3) of uint8 RGB")
    if first.ndim != 3 or first.shape[2] != 3:
        raise ValueError(f"first: shape {first.shape}, wanted (H, W, 3)")
    if first.shape != second.shape:
        raise ValueError(f"second: shape {second.shape}, wanted that of first, {first.shape}")
    H, W = first.shape[:2]
    if min(H, W) < least:
        raise ValueError(f"first: {H} x {W} pixels, wanted at least {least} x {least}")
    return H, W


def flat_picture(frame: Picture, method: FlatMethod) -> Picture:
    """The frame as a method wants it: RGB or grey."""
    import cv2

    return frame if method.colour else np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def _dis(first: Picture, second: Picture) -> NDArray[np.float32]:
    import cv2

    # Below 12 pixels it refuses, below its two patches it reads beyond the picture and may crash.
    h, w = first.shape
    short = ((0, max(0, _DIS_LEAST - h)), (0, max(0, _DIS_LEAST - w)))
    first, second = (np.pad(f, short, mode="edge") for f in (first, second))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(first, second, None)[:h, :w], np.float32)


def _farneback(first: Picture, second: Picture) -> NDArray[np.float32]:
    import cv2

    flow = np.zeros((*first.shape, 2), np.float32)
    cv2.calcOpticalFlowFarneback(
        first, second, flow, pyr_scale=0.5, levels=5, winsize=15, iterations=3, poly_n=5,
        poly_sigma=1.1, flags=0,
    )  # fmt: skip
    return flow


_DIS = FlatMethod("dis-medium", _dis)
_FARNEBACK = FlatMethod("farneback-5-15-3-5", _farneback)
