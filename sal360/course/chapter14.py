"""Chapter 14: exercises on flow across the seam, half-lives, cut gradients and broken memories."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sal360.course.chapter12 import blob
from sal360.course.checking import Case, ask, exercise
from sal360.sphere import lonlat_to_xyz

__all__ = ["FAULTS", "KEEP", "blob", "planted_memory"]

FAULTS = ("drifts", "late", "resets", "seam")
KEEP = 0.8
"""Share that the memory of exercise 14.4 keeps from frame to frame."""
RESET = 6
"""Frames after which a memory that resets is emptied."""
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def _direction(lon: float, lat: float) -> Tensor:
    return lonlat_to_xyz(*(torch.tensor([math.radians(v)], dtype=torch.float64)
                           for v in (lon, lat)))  # fmt: skip


def _stacked(got: Any) -> Tensor:
    """A tensor or array, or its two rows."""
    rows = isinstance(got, (tuple, list))
    return torch.stack([torch.as_tensor(v) for v in got]) if rows else torch.as_tensor(got)


@exercise("14.1")
def short_way(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(before, after, H, W) -> (2, n)`` pixels right and down, at most half a panorama right."""
    cases = [
        ("at rest", (10, 20), (10, 20)),
        ("to the right", (10, 0), (30, 0)),
        ("up", (10, 0), (10, 15)),
        ("over the seam to the right", (175, 0), (-175, 0)),
        ("over the seam to the left, and down", (-160, 40), (160, 30)),
        ("past a pole", (30, 85), (-100, 80)),
        ("from the top to the bottom", (10, 80), (10, -70)),
    ]
    starts, ends = (torch.cat([_direction(*case[k]) for case in cases]) for k in (1, 2))
    for H, W in ((90, 180), (60, 80)):
        alone: list[Tensor] = []
        for name, start, end in cases:
            turn = (end[0] - start[0] + 180) % 360 - 180
            wanted = turn / 360 * W, (start[1] - end[1]) / 180 * H
            got = _stacked(ask(answer, _direction(*start), _direction(*end), H, W))
            yield Case("an answer (2, n): right, down", got.shape == (2, 1),
                       f"{name}: you gave shape {tuple(got.shape)}, wanted (2, 1)")  # fmt: skip
            right, down = got.double()[:, 0].tolist()
            slips = {
                "that is the long way": (wanted[0] - math.copysign(W, wanted[0]), wanted[1]),
                "down is positive": (wanted[0], -wanted[1]),
                "right comes first": wanted[::-1],
                "are these degrees?": (turn, start[1] - end[1]),
            }
            hints = [text for text, slip in slips.items()
                     if math.dist(slip, (right, down)) < 1e-4]  # fmt: skip
            told = f" ({hints[0]})" if hints else ""
            yield Case(
                "pixels to the right and down, the short way",
                math.dist(wanted, (right, down)) < 1e-4,  # what float32 can tell
                f"{name}, from {start} to {end} degrees, {H} x {W}: you gave {right:.2f}, "
                f"{down:.2f}, wanted {wanted[0]:.2f}, {wanted[1]:.2f}{told}",
            )
            alone.append(got.double())
        got, n = _stacked(ask(answer, starts.clone(), ends.clone(), H, W)), len(cases)
        yield Case("an answer (2, n): right, down", got.shape == (2, n),
                   f"{n} at once: you gave shape {tuple(got.shape)}, wanted (2, {n})")  # fmt: skip
        yield Case("pixels to the right and down, the short way",
                   torch.allclose(got.double(), torch.cat(alone, 1), atol=1e-4),
                   f"{n} at once, {H} x {W}: not what you gave for each alone")  # fmt: skip


@exercise("14.2")
def forget_bias(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(seconds, fps) -> bias`` of a forget gate that halves its content in that time."""
    for seconds, fps in ((1, 1), (1, 8), (0.39, 8), (0.125, 8), (2, 24), (30, 60)):
        frames = seconds * fps
        keep = 0.5 ** (1 / frames)
        gone = -math.expm1(math.log(0.5) / frames)
        wanted, got = math.log(keep / gone), float(ask(answer, seconds, fps))
        lasting = -math.expm1(-1 / frames)
        slips = {
            "that is what the gate says, not its bias": keep,
            "that halves it in as many frames": (
                math.log(0.5 ** (1 / seconds) / -math.expm1(math.log(0.5) / seconds))
            ),
            "that leaves 1/e, not a half": -1 / frames - math.log(lasting),
            "the sign": -wanted,
        }
        hints = [text for text, slip in slips.items() if math.isclose(got, slip, rel_tol=1e-4)]
        told = f" ({hints[0]})" if hints else ""
        yield Case(
            "a bias b with sigmoid(b) to the number of frames = 1/2",
            math.isclose(got, wanted, rel_tol=1e-4, abs_tol=1e-6),  # what float32 can tell
            f"half-life {seconds:g} s at {fps:g} frames/s: you gave {got:.5g}, wanted "
            f"{wanted:.5g}{told}",
        )


class _Recurrence(NamedTuple):
    name: str
    step: Callable[[Tensor, Tensor], Tensor]


def _cut_gradient(
    step: Callable[..., Tensor], frames: Tensor, every: int, late: int = 0, empty: bool = False
) -> Tensor:
    free = frames.detach().clone().requires_grad_()
    state = torch.zeros_like(free[0])
    for k, frame in enumerate(free):
        if every and (k - late) % every == 0:
            state = torch.zeros_like(state) if empty else state.detach()
        state = step(frame, state)
    (slope,) = torch.autograd.grad(state.sum(), free)
    return slope


@exercise("14.3")
def truncated_gradient(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(step, frames, every) -> `` gradient of the last state's sum, with the history cut."""
    kinds = (
        _Recurrence("state = frame + .5 state", lambda x, s: x + 0.5 * s),
        _Recurrence("state = tanh(frame + 2 state)", lambda x, s: torch.tanh(x + 2 * s)),
    )
    draw = torch.Generator().manual_seed(143)
    for kind in kinds:
        for T, every in ((3, 3), (3, 1), (4, 2), (5, 2), (7, 3), (4, 9)):
            frames = 0.3 * torch.randn(T, 2, generator=draw, dtype=torch.float64)
            wanted = _cut_gradient(kind.step, frames, every)
            given = frames.clone()
            got = torch.as_tensor(ask(answer, kind.step, given, every)).double()
            yield Case("one gradient for each frame", got.shape == wanted.shape,
                       f"{T} frames: you gave shape {tuple(got.shape)}, wanted "
                       f"{tuple(wanted.shape)}")  # fmt: skip
            slips = {
                "nothing was cut": _cut_gradient(kind.step, frames, 0),
                "as if cut after frame 0, every, ... instead of before": _cut_gradient(
                    kind.step, frames, every, late=1
                ),
                "you emptied the state; only its history is cut": _cut_gradient(
                    kind.step, frames, every, empty=True
                ),
            }
            hints = [text for text, slip in slips.items() if torch.allclose(got, slip)]
            reach = int((wanted.abs().sum(1) > 0).sum())
            told = f" ({hints[0]})" if hints else ""
            yield Case(
                "the gradient, zero beyond the last cut",
                torch.allclose(got, wanted),
                f"{kind.name}, {T} frames cut every {every}: your gradient reaches "
                f"{int((got.abs().sum(1) > 0).sum())} frames, wanted {reach}{told}",
            )
            yield Case("the caller's frames are left alone",
                       not given.requires_grad and torch.equal(given, frames),
                       f"{kind.name}: the frames that were given have changed")  # fmt: skip


def planted_memory(*faults: str) -> Step:
    """``step(x (H, W), state or None) -> (what it holds (H, W), state)``; keeps .8 a frame.

    Args:
        faults: of ``"drifts"`` (content moves half a pixel right and down at each frame),
            ``"late"`` (a frame is only seen at the next one), ``"resets"`` (emptied every 6
            frames), ``"seam"`` (what lies in the first column is lost). None: it is right.
    """
    if unknown := set(faults) - set(FAULTS):
        raise ValueError(f"faults: {sorted(unknown)}, wanted some of {FAULTS}")

    def step(x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        count, held, before = state or (0, torch.zeros_like(x), torch.zeros_like(x))
        if "resets" in faults and count and count % RESET == 0:
            held = torch.zeros_like(held)
        if "drifts" in faults:
            wide = (held + held.roll(1, -1)) / 2
            above = torch.cat((wide[:1], wide[:-1]))
            held = (wide + above) / 2
        held = KEEP * held + (before if "late" in faults else x)
        if "seam" in faults:
            held = torch.cat((torch.zeros_like(held[:, :1]), held[:, 1:]), 1)
        return held, (count + 1, held, x)

    return step


@exercise("14.4")
def which_faults(answer: Callable[..., Any]) -> Iterator[Case]:
    """``step -> set`` of the faults of a memory."""
    planted: list[tuple[str, ...]] = [(), *((fault,) for fault in FAULTS)]
    for count in range(2, len(FAULTS) + 1):
        planted += combinations(FAULTS, count)
    for faults in planted:
        got = set(ask(answer, planted_memory(*faults)))
        yield Case("names of faults", got <= set(FAULTS), f"{got}, wanted some of {FAULTS}")
        name = ", ".join(faults) or "no fault at all"
        yield Case("a right memory is not blamed", not got - set(faults),
                   f"planted: {name}; you blame {sorted(got - set(faults))}")  # fmt: skip
        yield Case("every planted fault is found", not set(faults) - got,
                   f"planted: {name}; you missed {sorted(set(faults) - got)}")  # fmt: skip
