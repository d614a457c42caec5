"""Clips of one length and size side by side, as a network takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from sal360.datasets.item import Item

_OPTIONAL = ("flow", "flow_picture", "truth", "previous", "depth", "masks")


@dataclass(frozen=True, eq=False)
class Batch:
    """``B`` clips of ``T`` frames. What not every clip has is None.

    Attributes:
        dataset, video: of each clip. clips: their numbers in the loader's windows.
        frames: ``(B, T, 3, H, W)``. indices: ``(B, T)``. fps: ``(B,)`` float64.
        flow, flow_picture, truth, previous, depth, masks: as in
            :class:`~sal360.datasets.item.Item`, with ``B`` in front.
        fixations: ``(M, 2)`` lon, lat of all frames of all clips, one after the other, and
        fixation_counts: ``(B, T)`` how many belong to each; see :meth:`fixations_of`.
    """

    dataset: tuple[str, ...]
    video: tuple[str, ...]
    clips: tuple[int, ...]
    frames: Tensor
    indices: Tensor
    fps: Tensor
    flow: Tensor | None = None
    flow_picture: Tensor | None = None
    truth: Tensor | None = None
    previous: Tensor | None = None
    depth: Tensor | None = None
    masks: Tensor | None = None
    fixations: Tensor | None = None
    fixation_counts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def fixations_of(self, clip: int) -> tuple[Tensor, ...]:
        """``(N_t, 2)`` of each frame of the clip in place ``clip`` of this batch.

        Raises:
            ValueError: the batch has no fixations.
        """
        if self.fixations is None or self.fixation_counts is None:
            raise ValueError("fixations: None, wanted a batch whose clips all have them")
        counts = self.fixation_counts.flatten().tolist()
        T = self.fixation_counts.shape[1]
        frames = torch.split(self.fixations, counts)
        return frames[clip * T : (clip + 1) * T]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on a device; ``non_blocking`` overlaps the copy if memory is pinned.

        On Apple's GPUs, which know no float64, rates and fixations become float32.
        """
        coarse = torch.device(device).type == "mps"

        def move(tensor: Tensor) -> Tensor:
            if coarse and tensor.dtype == torch.float64:
                tensor = tensor.float()
            return tensor.to(device, non_blocking=non_blocking)

        return self._each(move)

    def pin_memory(self, device: Any = None) -> Batch:
        """The same in memory from which a GPU can copy by itself; the loader calls it.

        What lies on a device already stays there.
        """
        return self._each(lambda tensor: tensor.pin_memory() if tensor.is_cpu else tensor)

    def _each(self, move: Callable[[Tensor], Tensor]) -> Batch:
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = move(value) if isinstance(value, Tensor) else value
        return Batch(**values)


def collate(items: Sequence[Item], clips: Sequence[int] | None = None) -> Batch:
    """One batch of several items.

    Args:
        items: of one length and one size. clips: their numbers; 0, 1, ... if None.
    Raises:
        ValueError: items that do not fit together, with the name of the first video that differs.
    """
    if not items:
        raise ValueError("items: none, wanted at least one")
    first = items[0]
    for item in items:
        if item.frames.shape != first.frames.shape:
            T, _, H, W = item.frames.shape
            wanted = "{0} frames of {2} x {3}".format(*first.frames.shape)
            raise ValueError(
                f"{item.video}: {T} frames of {H} x {W} pixels, wanted {wanted} as in "
                f"{first.video} (size= makes them alike)"
            )
    stacked: dict[str, Any] = {}
    for name in _OPTIONAL:
        values = [getattr(item, name) for item in items]
        stacked[name] = None if any(v is None for v in values) else torch.stack(values)
    points = [item.fixations for item in items if item.fixations is not None]
    if len(points) == len(items):
        stacked["fixations"] = torch.cat([p for clip in points for p in clip])
        stacked["fixation_counts"] = torch.tensor([[len(p) for p in clip] for clip in points])
    return Batch(
        dataset=tuple(item.dataset for item in items),
        video=tuple(item.video for item in items),
        clips=tuple(range(len(items)) if clips is None else clips),
        frames=torch.stack([item.frames for item in items]),
        indices=torch.stack([item.indices for item in items]),
        fps=torch.tensor([item.fps for item in items], dtype=torch.float64),
        **stacked,
    )
