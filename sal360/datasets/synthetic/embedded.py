"""The embedded clip: a small 360-degree world with exact truth.

Discs drift over the sphere along their own great or small circles, in front of a fixed,
textured background; one crosses the seam, one comes close to the zenith. Because every pixel
is a ray, there is no seam and no pole artefact in the picture. Known for each frame: where
attention is due, and how every pixel moves.

It is a test pattern, not footage: it stands in where the real clip cannot be had, and its truth
is a rule (look at what moves), not the gaze of a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sal360._check import positive_int
from sal360.sphere import angle_between, erp_directions, erp_pixel, lonlat_to_xyz, pixel_area

TRUTH_SIGMA = math.radians(6.0)
"""Width of the blob of attention around a moving object (standard deviation)."""


@dataclass(frozen=True)
class SyntheticClip:
    """What :func:`render_clip` returns.

    ``frames`` (T, 3, H, W) float32 RGB in [0, 1]; ``truth`` (T, H, W) densities;
    ``flow`` (T - 1, 2, H, W) exact pixels per frame to the next frame, right and down;
    ``objects`` (T, N, 3) unit vectors to the centres of the moving objects; ``fps``.
    """

    frames: Tensor
    truth: Tensor
    flow: Tensor
    objects: Tensor
    fps: float


@dataclass(frozen=True)
class _Disc:
    start: tuple[float, float]  # lon, lat in degrees at time 0
    axis: tuple[float, float]  # lon, lat in degrees of the axis it turns about
    speed: float  # degrees per second; 0 for a thing at rest
    radius: float  # degrees
    colour: tuple[float, float, float]


_DISCS = (
    _Disc((20, -6), (0, 90), 14, 9, (0.93, 0.45, 0.13)),
    _Disc((150, 4), (0, 80), -18, 7, (0.90, 0.86, 0.30)),  # crosses the seam
    _Disc((-70, 40), (15, 5), 16, 8, (0.85, 0.25, 0.45)),  # passes near the zenith
    _Disc((-100, -12), (0, 90), 0, 10, (0.20, 0.55, 0.60)),  # at rest: no reason to look
    _Disc((95, 18), (0, 90), 0, 6, (0.55, 0.55, 0.62)),
)


def render_clip(
    T: int = 24, H: int = 128, W: int = 256, fps: float = 8.0, seed: int = 0
) -> SyntheticClip:
    """Render the embedded world. Same arguments, same bits.

    Args:
        T, H, W: frames and size in pixels. fps: frames per second.
        seed: draws the texture of the background.
    Returns:
        A :class:`SyntheticClip`.
    Raises:
        ValueError: a size below 1 or a rate that is not positive.
    """
    T, H, W = positive_int(T, "T"), positive_int(H, "H"), positive_int(W, "W")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps: {fps}, wanted a positive number")
    rays = erp_directions(H, W).reshape(-1, 3)
    soft = math.pi / H  # edges are one pixel wide
    background = _background(rays, seed)
    area = pixel_area(H, W).repeat_interleave(W)
    moving = [disc for disc in _DISCS if disc.speed]
    frames, truths, flows, places = [], [], [], []
    for t in range(T):
        frame, flow = background.clone(), torch.zeros(2, H * W, dtype=torch.float64)
        for disc in _DISCS:
            centre, turn = _pose(disc, t / fps, 1 / fps)
            radius = math.radians(disc.radius)
            (seen,) = torch.nonzero(rays @ centre > math.cos(radius + soft), as_tuple=True)
            angle = angle_between(rays[seen], centre)
            cover = ((radius - angle) / soft + 0.5).clamp(0, 1)
            frame[:, seen] += cover * (_paint(disc, angle) - frame[:, seen])
            inside = seen[cover > 0.5]
            flow[:, inside] = _displacement(rays[inside], turn, H, W)
        centres = torch.stack([_pose(disc, t / fps, 0)[0] for disc in moving])
        blobs = torch.exp((rays @ centres.T - 1) / TRUTH_SIGMA**2).sum(-1)
        frames.append(frame.float().clamp(0, 1).reshape(3, H, W))
        truths.append((blobs / (blobs @ area)).float().reshape(H, W))
        flows.append(flow.float().reshape(2, H, W))
        places.append(centres)
    return SyntheticClip(
        torch.stack(frames),
        torch.stack(truths),
        torch.stack(flows[:-1]) if T > 1 else torch.zeros(0, 2, H, W),
        torch.stack(places),
        fps,
    )


def _background(rays: Tensor, seed: int) -> Tensor:
    """Sky above, ground below, and waves of many directions for texture: ``(3, N)``."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    waves = waves * torch.linspace(4, 28, 40, dtype=torch.float64)[:, None]
    phase = torch.rand(40, generator=generator, dtype=torch.float64) * 2 * math.pi
    texture = torch.cos(rays @ waves.T + phase).mean(-1)
    up = -rays[..., 1]
    sky = torch.tensor([0.55, 0.70, 0.88], dtype=torch.float64)
    ground = torch.tensor([0.30, 0.36, 0.24], dtype=torch.float64)
    share = torch.sigmoid(up / 0.06)[..., None]
    shade = (1 + 1.2 * texture * (1.25 - share[..., 0]))[..., None]
    return ((share * sky + (1 - share) * ground) * shade).T.contiguous()


def _pose(disc: _Disc, time: float, step: float) -> tuple[Tensor, Tensor]:
    """Centre of a disc at a time, and the rotation that takes it ``step`` seconds on."""
    axis = lonlat_to_xyz(math.radians(disc.axis[0]), math.radians(disc.axis[1]))
    start = lonlat_to_xyz(math.radians(disc.start[0]), math.radians(disc.start[1]))
    speed = math.radians(disc.speed)
    return _turn(axis, speed * time) @ start, _turn(axis, speed * step)


def _turn(axis: Tensor, angle: float) -> Tensor:
    """Rodrigues' rotation about a unit axis."""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    return eye + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


def _paint(disc: _Disc, angle: Tensor) -> Tensor:
    """Rings around the centre, so that the motion of the inside can be seen."""
    rings = 0.78 + 0.22 * torch.cos(angle / math.radians(disc.radius) * 9)
    return torch.tensor(disc.colour, dtype=torch.float64)[:, None] * rings


def _displacement(rays: Tensor, turn: Tensor, H: int, W: int) -> Tensor:
    """``(2, N)`` pixels from where each ray is to where the rotation takes it."""
    row, col = erp_pixel(rays, H, W)
    new_row, new_col = erp_pixel(rays @ turn.T, H, W)
    right = torch.remainder(new_col - col + W / 2, W) - W / 2
    return torch.stack((right, new_row - row))
