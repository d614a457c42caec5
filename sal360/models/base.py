"""What the systems share: how a frame becomes a map, and what is remembered for the next one.

Two kinds of network, one way to run them. A **frame model** answers a picture and one more
channel: the map of the frame before (Zhang, Vo) or how the picture changed (the cube U-Net). A
**clip model** answers a clip and remembers inside. Both have ``step(frame, state)``, so
:mod:`sal360.inference` predicts a film of any length with either: what is remembered goes from
frame to frame, and a frame model is given *its own* last map, never the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360._check import positive_int
from sal360._shares import shares_of_rows
from sal360.nn.state import detach_state

Convention = Literal["corrected", "upstream"]
CONVENTIONS: tuple[Convention, ...] = ("corrected", "upstream")
Reading = Literal["minmax", "positive", "density"]
"""How raw maps become densities: less their minimum, cut off at 0, or as they are."""


def as_convention(convention: str) -> Convention:
    """``"corrected"`` or ``"upstream"``, or a ValueError that names both."""
    for known in CONVENTIONS:
        if convention == known:
            return known
    raise ValueError(f"convention: {convention!r}, wanted 'corrected' or 'upstream'")


def sphere_mean(maps: Tensor) -> Tensor:
    """Means over the sphere, each pixel by its area: ``(..., H, W)`` to ``(..., 1, 1)``."""
    share = shares_of_rows(maps.shape[-2], maps.shape[-1], maps.dtype, maps.device)
    return (maps * share).sum((-2, -1), keepdim=True)


class FrameModel(nn.Module):
    """A network that answers one frame; the base of the U-Nets.

    Subclasses say ``forward(image (B, 3, H, W), extra (B, 1, H, W)) -> (B, 1, H, W)``.

    Attributes:
        input_size: ``(H, W)`` that frames are resized to. rate: frames per second it was trained
            at, None for any. length, warm_up: of a window; a frame needs neither.
        stateful: its state goes on from frame to frame (:mod:`sal360.inference`).
        forgets: after how many frames it begins anew there, None for never.
        reading: how its raw maps become densities.
        extra: ``"previous"``, its own last map, or ``"motion"``, how the grey value changed.
    """

    input_size: tuple[int, int] = (120, 240)
    rate: float | None = None
    length = 1
    warm_up = 0
    stateful = True
    forgets: int | None = None
    reading: Reading = "positive"
    extra: Literal["previous", "motion"] = "previous"

    def forward(self, image: Tensor, extra: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in [0, 1] and ``(B, 1, H, W)`` to raw maps ``(B, 1, H, W)``."""
        raise NotImplementedError

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """RGB panoramas ``(H, W, 3)`` uint8 to ``(3, h, w)``, or ``(4, h, w)`` with motion.

        Resized with area averaging. Motion is ``|grey - grey of the frame before|``; of the
        first frame, 0.
        """
        import cv2

        before: Tensor | None = None
        for frame in frames:
            small = cv2.resize(frame, self.input_size[::-1], interpolation=cv2.INTER_AREA)
            image = torch.from_numpy(small).permute(2, 0, 1).float() / 255
            if self.extra == "previous":
                yield image
                continue
            weights = torch.tensor([0.299, 0.587, 0.114])
            grey = torch.einsum("c,chw->hw", weights, image)[None]
            motion = torch.zeros_like(grey) if before is None else (grey - before).abs()
            before = grey
            yield torch.cat((image, motion))

    def first(self, image: Tensor) -> Tensor:
        """What stands for the map before the first frame, ``(B, 1, H, W)``: the uniform one."""
        return torch.ones_like(image[:, :1])

    def feedback(self, raw: Tensor) -> Tensor:
        """Its own answer as the next frame's extra channel: cut off at 0, of mean 1."""
        maps = raw.clamp_min(0)
        mean = sphere_mean(maps)
        return torch.where(mean > 1e-12, maps / mean.clamp_min(1e-12), torch.ones_like(maps))

    def step(self, frame: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One frame of :meth:`features`, ``(B, C, H, W)``, to a raw map and the next state.

        Raises:
            ValueError: another number of channels than 3 (4 with motion).
        """
        channels = 4 if self.extra == "motion" else 3
        if frame.ndim != 4 or frame.shape[1] != channels:
            raise ValueError(f"frame: shape {tuple(frame.shape)}, wanted (B, {channels}, H, W)")
        image, rest = frame[:, :3], frame[:, 3:]
        if self.extra == "motion":
            return self(image, rest), None
        raw = self(image, self.first(image) if state is None else state)
        return raw, self.feedback(raw)

    def rollout(self, clip: Tensor, previous: Tensor | None = None) -> Tensor:
        """A clip ``(B, T, C, H, W)`` of :meth:`features` to raw maps ``(B, T, 1, H, W)``.

        Args:
            clip: as :meth:`features` gives it.
            previous: ``(B, T, 1, H, W)`` maps of the frames before (**teacher forcing**, as the
                published evaluation has it); None: its own answers (closed loop).
        """
        state, maps = None, []
        for t, frame in enumerate(clip.unbind(1)):
            if previous is not None:
                state = previous[:, t]
            raw, state = self.step(frame, state)
            maps.append(raw)
        return torch.stack(maps, 1)


def truncated(
    model: Any, clip: Tensor, every: int, state: Any = None
) -> Iterator[tuple[slice, Tensor]]:
    """Run a clip in stretches, for back-propagation through time that is cut off between them.

    The memory goes on from stretch to stretch, its history does not: once the caller has called
    ``backward`` on a stretch, nothing of its graph is kept. With ``every`` at least the length
    of the clip the gradient is the whole one. Chapter 14.

    Args:
        model: with ``step(frame (B, C, H, W), state)``.
        clip: ``(B, T, C, H, W)``. every: frames of a stretch. state: to begin with.
    Yields:
        the frames of the stretch, and its raw maps ``(B, t, 1, H, W)``.

    >>> model = torch.nn.Identity()
    >>> model.step = lambda frame, state: (frame, frame)
    >>> [part for part, _ in truncated(model, torch.zeros(1, 5, 1, 2, 2), every=3)]
    [slice(0, 3, None), slice(3, 5, None)]
    """
    for start in range(0, clip.shape[1], positive_int(every, "every")):
        part = slice(start, min(start + every, clip.shape[1]))
        maps, state = run(model, clip[:, part], state)
        state = detach_state(state)
        yield part, maps
        del maps  # or the last graph would live until the next one is complete


def run(
    model: Any, clip: Tensor, state: Any = None, start: int | None = None
) -> tuple[Tensor, Any]:
    """A clip ``(B, T, C, H, W)`` to raw maps ``(B, T, 1, H, W)`` and what is remembered of it.

    Args:
        start: number of the clip's first frame in its film: a model that ``forgets`` does so
            where :mod:`sal360.inference` would. None: it remembers the whole clip.
    """
    forgets = None if start is None else getattr(model, "forgets", None)
    maps = []
    for number, frame in enumerate(clip.unbind(1), start or 0):
        if forgets and number % forgets == 0:
            state = None
        raw, state = model.step(frame, state)
        maps.append(raw)
    return torch.stack(maps, 1), state
