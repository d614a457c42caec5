"""Rays into a world: frames, and what is known about every pixel of them.

Each pixel is a ray through its centre, so a panorama has no seam and no pole here. An edge is
as wide as the pixel that it crosses: the slope of an outline is measured from the pixel's centre
half a pixel to the east and half a pixel to the north, so the narrow pixels near a pole have
narrow edges. Colours of surfaces are averaged over a round pixel of the height of a row
(:mod:`sal360.datasets.synthetic.textures`).

The flow is not estimated. The point that a pixel's ray hits is moved with its thing and with the
camera, in float64, and projected again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, in_range, positive_int
from sal360.datasets.synthetic.backdrop import Backdrop, backdrop, shadows
from sal360.datasets.synthetic.motion import Poses
from sal360.datasets.synthetic.things import Grid, displacement, draw_things, grid
from sal360.datasets.synthetic.world import World


@dataclass(frozen=True, eq=False)
class Rendered:
    """What :func:`render_world` returns.

    Attributes:
        frames: ``(T, 3, H, W)`` float32 RGB in [0, 1].
        flow: ``(T, 2, H, W)`` float32 pixels to the next frame, right and down, across the seam
            the short way; of the last frame, to the one that would follow.
        masks: ``(T, H, W)`` int64: 0 the background, k the k-th of ``world.things``, where it
            is in front and makes up at least half of the pixel.
        depth: ``(T, 1, H, W)`` float32 metres along the ray of the pixel's centre to what the
            mask says; infinite for the sky.
        times: ``(T,)`` float64 seconds. fps: frames per second.
    """

    frames: Tensor
    flow: Tensor
    masks: Tensor
    depth: Tensor
    times: Tensor
    fps: float


def render_world(
    world: World,
    T: int,
    H: int,
    W: int,
    fps: float,
    start: float = 0.0,
    device: str | torch.device = "cpu",
) -> Rendered:
    """Render ``T`` frames. Same arguments, same bits (on one machine, one number of threads).

    Args:
        world: from :func:`~sal360.datasets.synthetic.world.draw_world`.
        T, H, W: frames and size in pixels, odd or even, 2:1 or not.
        fps: frames per second. start: seconds of the first frame.
        device: where to compute and to leave the result. Noise is drawn on the CPU, so it is
            the same everywhere; other numbers agree to float32 rounding.
    Raises:
        ValueError: a size below 1, a rate that is not positive.
    """
    T = positive_int(T, "T")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps: {fps}, wanted a positive number")
    times = start + torch.arange(T, dtype=torch.float64) / fps
    return render_times(world, times, H, W, 1 / fps, device)


@torch.no_grad()
def render_times(
    world: World,
    times: ArrayLike,
    H: int,
    W: int,
    step: float,
    device: str | torch.device = "cpu",
) -> Rendered:
    """The same at any times; ``step`` seconds to the frame that the flow leads to.

    A frame depends on its own time alone, bit for bit, whatever else is rendered with it.
    """
    H, W = positive_int(H, "H"), positive_int(W, "W")
    times = as_float64(times, "times").reshape(-1)
    step = in_range(step, "step", 0, math.inf)
    device = torch.device(device)
    T = len(times)
    frames = torch.empty(T, 3, H, W, device=device)
    flow = torch.empty(T, 2, H, W, device=device)
    masks = torch.zeros(T, H, W, dtype=torch.int64, device=device)
    depth = torch.empty(T, 1, H, W, device=device)
    rays = grid(H, W, device)
    kept: _Background | None = None
    for t, time in enumerate(times.tolist()):
        poses = world.poses((time, time + step))
        kept = _background(world, poses, rays, kept)
        rgb, inverse, move = (a.clone() for a in (kept.seen.rgb, kept.seen.inverse, kept.move))
        _darken(world, poses, kept.seen, rgb)
        mask = masks[t].view(-1)
        draw_things(world, poses, rays, rgb, inverse, move, mask)
        rgb *= float(poses.gain[0])
        if world.noise > 0:
            dice = torch.Generator().manual_seed(_noise_seed(world, time))
            rgb += world.noise * torch.randn(3, H * W, generator=dice).to(device)
        frames[t] = rgb.clamp_(0, 1).view(3, H, W)
        flow[t] = move.view(2, H, W)
        depth[t, 0] = (1 / inverse).view(H, W)
    return Rendered(frames, flow, masks, depth, times, 1 / step)


def _noise_seed(world: World, time: float) -> int:
    """One seed for each frame: microseconds tell frames apart, and windows agree on them."""
    return (world.seed * 1_000_003 + round(time * 1e6) * 7919 + 12345) % 2**63


@dataclass(frozen=True, eq=False)
class _Background:
    """The picture without things; kept for the next frame if the camera stays where it is."""

    key: tuple[float, ...]
    seen: Backdrop
    move: Tensor


def _background(world: World, poses: Poses, g: Grid, last: _Background | None) -> _Background:
    key = (*poses.camera.flatten().tolist(), *poses.turn.flatten().tolist())
    if last is not None and last.key == key:
        return last
    device = g.exact.device
    seen = backdrop(world, poses.camera[0].to(device), poses.turn[0].to(device) @ g.exact, g.pixel)
    if bool((poses.turn[0] == poses.turn[1]).all() and (poses.camera[0] == poses.camera[1]).all()):
        return _Background(key, seen, torch.zeros_like(g.exact[:2]))
    after = poses.turn[1].T
    shift = (after @ (poses.camera[1] - poses.camera[0])).to(device)
    goal = (after @ poses.turn[0]).to(device) @ g.exact
    goal.addcmul_(shift[:, None], seen.inverse, value=-1)
    return _Background(key, seen, displacement(g.exact, goal, g))


def _darken(world: World, poses: Poses, seen: Backdrop, rgb: Tensor) -> None:
    if world.shadow > 0 and world.things and len(seen.u):
        dark = shadows(world, poses, seen.u, seen.v).mul_(seen.strength)
        rgb[:, seen.pixels] *= dark.mul_(-world.shadow).add_(1)
