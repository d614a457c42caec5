"""How a network's products are made: in which precision, and by whose kernels. Chapter 16.

Only the network runs in lower precision (**autocast**: weights stay float32 and are rounded for
each product). What it answers is made float32 before the loss, and so are gradients: a map's mean
over 131072 pixels is not a number that 8 bits of mantissa can hold. On CPUs the convolutions on
the sphere (:mod:`sal360.nn.sampled`) have no lower precision, and stay as they are.

**fp32 is not everywhere float32.** On a GPU since Ampere torch lets cuDNN make plain convolutions
(cube networks, planar twins) in TF32, whose numbers have 11 bits for the digits, not 24; ours on
the sphere are three such products, which is nearly float32. So a network on the sphere and its
planar twin differ in this, too, and so do a GPU's run and a CPU's. Nothing here changes it:
``torch.backends.cudnn.allow_tf32 = False``, or ``NVIDIA_TF32_OVERRIDE=0`` in the environment, does,
and a run's record says which it was (``tf32``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from sal360.models.base import FrameModel
from sal360.training.recipe import Recipe

T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def lower_precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    """``with`` it, products are made in the recipe's precision; with ``"fp32"`` as ever."""
    dtype = DTYPES[recipe.precision]
    lower = dtype != torch.float32
    return torch.autocast(device.type, dtype if lower else None, enabled=lower)


def each_in(context: torch.autocast, items: Iterator[T]) -> Iterator[T]:
    """The items, each made within the context; between them, outside it."""
    while True:
        with context:
            item = next(items, None)
        if item is None:
            return
        yield item
        del item  # or the last graph would live until the next one is complete


@contextmanager
def compiled(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Within it, what a network does in a step is compiled by torch, if the recipe asks for it.

    Of a frame model its ``forward``, of a clip model its ``step``: what the loop calls. The first
    call of each shape takes minutes; sums are grouped in another way, so results differ by
    rounding from those of a run that is not compiled, and agree with those of one that is.
    """
    if not recipe.compile:
        yield
        return
    name = "forward" if isinstance(model, FrameModel) else "step"
    setattr(model, name, torch.compile(getattr(model, name), dynamic=False))
    try:
        yield
    finally:
        delattr(model, name)  # the class's own is there again
