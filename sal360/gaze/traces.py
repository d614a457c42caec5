"""A trace is where one person looked, sample after sample; here are many, side by side.

Trackers differ in rate, lose samples and stamp some twice. Nothing is repaired here: what is not
known is NaN, and every function of this room knows what to do with it. Chapter 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_tensor, broadcast
from sal360.sphere import lonlat_to_xyz, rotation_matrix, xyz_to_lonlat


class Traces(NamedTuple):
    """Traces of several observers in one video.

    Attributes:
        observers: ``O`` names, as published.
        time: ``(O, S)`` float64 seconds from the first frame; NaN after a trace's last sample.
        lon, lat: ``(O, S)`` float64 radians in the frame of :mod:`sal360.sphere`, NaN where lost.
        roll: ``(O, S)`` radians, positive with the head tilted to the right, or None.
    """

    observers: tuple[str, ...]
    time: Tensor
    lon: Tensor
    lat: Tensor
    roll: Tensor | None = None


def side_by_side(traces: Sequence[ArrayLike]) -> Tensor:
    """Traces of unlike lengths as one array, NaN after the end of each.

    Args:
        traces: ``(S_n, k)`` each, with one ``k``: time and angles, say.
    Returns:
        ``(N, max S_n, k)`` float64.
    Raises:
        ValueError: no traces, or unlike ``k``.
    """
    rows = [as_tensor(trace, f"traces[{n}]").double() for n, trace in enumerate(traces)]
    if not rows:
        raise ValueError("traces: none, wanted at least one")
    for n, row in enumerate(rows):
        if row.ndim != 2 or row.shape[1] != rows[0].shape[-1]:
            raise ValueError(f"traces[{n}]: shape {tuple(row.shape)}, wanted (S, k), one k for all")
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.nan)


def gaze_in_world(
    yaw: ArrayLike, pitch: ArrayLike, roll: ArrayLike, eye_lon: ArrayLike, eye_lat: ArrayLike
) -> tuple[Tensor, Tensor]:
    """Where the eye looks in the panorama: the head's rotation of the eye-in-head direction.

    Angles do not add: at a pitch of 60 degrees an eye 20 degrees to the right turns the gaze by
    36 degrees of longitude, and lowers it.

    Args:
        yaw, pitch, roll: of the head, radians, as :func:`sal360.sphere.rotation_matrix` has them.
        eye_lon, eye_lat: of the eye in its head, radians, right and up. Shapes broadcast; NaN in
            any of the five gives NaN.
    Returns:
        ``lon, lat`` float64 radians.
    """
    named = {"yaw": yaw, "pitch": pitch, "roll": roll, "eye_lon": eye_lon, "eye_lat": eye_lat}
    angles = broadcast(**{name: as_tensor(value, name).double() for name, value in named.items()})
    lost = torch.stack(angles).isfinite().all(0).logical_not()
    head_and_eye = [angle.masked_fill(lost, 0) for angle in angles]
    eye = lonlat_to_xyz(*head_and_eye[3:])
    lon, lat = xyz_to_lonlat((rotation_matrix(*head_and_eye[:3]) @ eye[..., None])[..., 0])
    return lon.masked_fill(lost, torch.nan), lat.masked_fill(lost, torch.nan)
