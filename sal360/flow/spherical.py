"""Flow on the sphere: sought in flat views that overlap, told as one panorama's flow.

In each view a flat method says where every pixel goes. That place is a direction again, so the
answer of a view is an arrow in space, the same arrow whichever view drew it. Arrows of several
views are averaged, by how far each is from the edge of its view, and only the result is expressed
in pixels of the panorama. Chapter 14.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sal360._check import in_range
from sal360.flow.angles import pixels_between
from sal360.flow.planar import FlatMethod, Picture, as_method, check_frames, flat_picture
from sal360.flow.views import Layout, Seat, panorama_rays, seats

_LINE = 1024  # OpenCV wants places as a picture, not as a list
_LEAST = 32  # a view is less high than the panorama


def sphere_flow(
    first: Picture,
    second: Picture,
    method: str | FlatMethod = "dis",
    views: Layout = "mercator",
) -> NDArray[np.float32]:
    """Flow that neither seam nor pole disturbs. Derived in chapter 14.

    What depends on the size alone is prepared once and kept.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB panoramas of one size, at least 32 x 32.
        method: ``"dis"``, ``"farneback"``, ``"raft"`` or a :class:`FlatMethod`.
        views: ``"mercator"``, ``"rotated"`` or ``"cube"`` (:mod:`sal360.flow.views`).
    Returns:
        ``(2, H, W)`` float32 pixels per frame, right and down, across the seam the short way
        (at most ``W / 2``: over a pole the columns change by about that). Where nothing
        changed, exactly zero.
    Raises:
        ValueError: sizes that differ, or below 32 x 32; an unknown method or layout.
    """
    import cv2

    chosen = as_method(method)
    H, W = check_frames(first, second, _LEAST)
    parts = seats(views, H, W)
    if np.array_equal(first, second):
        return np.zeros((2, H, W), np.float32)
    padded = [_padded(flat_picture(frame, chosen)) for frame in (first, second)]
    arrows = np.zeros((H * W, 3), np.float32)
    for seat in parts:
        here, there = (
            np.asarray(cv2.remap(frame, seat.col, seat.row, cv2.INTER_LINEAR), np.uint8)
            for frame in padded
        )
        right, down = _read(chosen.estimate(here, there), seat)
        ends = seat.view.lift(seat.x + right, seat.y + down)
        arrows[seat.pixels] += seat.share * (ends - seat.start)
    rays = panorama_rays(H, W)
    return pixels_between(rays, rays + arrows, H, W).reshape(2, H, W).astype(np.float32)


def reliable_flow(
    first: Picture,
    second: Picture,
    method: str | FlatMethod = "dis",
    views: Layout = "mercator",
    tolerance_deg: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same, and where it returns to the start when the flow back is followed.

    What is about to be hidden does not, nor does a guess; two equal guesses do. Twice the time.

    Args:
        tolerance_deg: angle that counts as returned; one and a half rows of pixels unless given.
    Returns:
        ``(2, H, W)`` flow and ``(H, W)`` float32, 1 where it can be relied on and else 0.
    """
    from sal360.losses.warp import visible_by_flow

    tolerance = None
    if tolerance_deg is not None:
        tolerance = np.deg2rad(in_range(tolerance_deg, "tolerance_deg", 0, 180, "degrees"))
    forward = sphere_flow(first, second, method, views)
    backward = sphere_flow(second, first, method, views)
    visible = visible_by_flow(forward[None], backward[None], tolerance)
    return forward, visible[0, 0].numpy()


def _padded(picture: Picture) -> Picture:
    """One pixel more on every side: round the seam, and over the poles half a turn away.

    With an odd width the far side lies between two pixels, and their mean stands for it.
    """
    W = picture.shape[1]

    def beyond(row: Picture) -> Picture:
        near, far = (np.roll(row, W // 2 + k, axis=1) for k in (0, W % 2))
        return np.asarray((near.astype(np.uint16) + far) // 2, np.uint8)

    tall = np.concatenate((beyond(picture[:1]), picture, beyond(picture[-1:])))
    return np.concatenate((tall[:, -1:], tall, tall[:, :1]), axis=1)


def _read(flow: NDArray[np.float32], seat: Seat) -> NDArray[np.float32]:
    """A view's flow at the panorama's pixels, ``(2, n)``, bilinear."""
    import cv2

    n = len(seat.pixels)
    x, y = (np.pad(v, (0, -n % _LINE), mode="edge").reshape(-1, _LINE) for v in (seat.x, seat.y))
    read = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float32).reshape(-1, 2)[:n].T
