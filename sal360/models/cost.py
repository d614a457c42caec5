"""What a network costs: its numbers, and the arithmetic of one frame, counted and never typed.

The network runs on torch's *meta* device, where tensors have shapes and no values, and every
operation that comes by is counted: as it is executed, the order in which a sampled convolution
multiplies and reads included, in seconds whatever the size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from sal360._check import as_size, positive_int
from sal360.models.checks import channels
from sal360.nn.state import detach_state


def parameters(model: nn.Module) -> int:
    """Numbers in the model that training may change, shared ones once, frozen ones too."""
    return sum(p.numel() for p in model.parameters())


def flops(model: nn.Module, size: tuple[int, int] | None = None, batch: int = 1) -> int:
    """Floating-point operations of one frame: a multiplication and an addition count as two.

    Counted are the matrix products, convolutions and weighted sums, as executed:

    - a convolution: ``2 x output pixels x output channels x input channels / groups x taps``;
    - a matrix product of n x k by k x m: ``2 n k m``. A sampled convolution that multiplies first
      costs that of every *input* pixel and tap, one that reads first of every *output* pixel and
      tap: at stride 1 the same number;
    - reading between pixels (patterns, the rim of a cube where it is mixed, tables): 2 for every
      pixel that is read, in every channel;
    - bilinear sampling by torch (projections, doubling): 8 for every value, 4 pixels each.

    Not counted: what touches each value once (sums, norms, activations, maxima, copies), and all
    that comes before the network (resizing, optical flow).

    Args:
        model: with ``step(frame, state)``; it is not touched.
        size: ``(H, W)`` of its input, ``model.input_size`` unless given.
        batch: panoramas at once; the count is that of all of them.
    Returns:
        of a frame that is not the first: the state of the frame before is given.
    Raises:
        TypeError: a model that has no ``step``, or no ``input_size`` where no size is given.
    """
    if not hasattr(model, "step"):
        raise TypeError(f"model: {type(model).__name__} has no step, wanted a network")
    if size is None and not hasattr(model, "input_size"):
        raise TypeError(f"size: None, wanted (H, W): {type(model).__name__} has no input_size")
    H, W = as_size(model.input_size if size is None else size, "size")
    batch = positive_int(batch, "batch")
    shadow = on_meta(model).eval()
    frame = torch.empty(batch, channels(model), H, W, device="meta")
    with torch.no_grad():
        _, state = shadow.step(frame, None)  # type: ignore[operator]
        return count(lambda: shadow.step(frame, detach_state(state)))  # type: ignore[operator]


def count(run: Callable[[], Any]) -> int:
    """Operations, counted as :func:`flops` says, of whatever ``run`` does.

    It is called twice: what is made once and kept, such as a pattern's tables, is no part of it.

    >>> count(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    60
    """
    run()
    with FlopCounterMode(display=False, custom_mapping=_READS) as counter:
        run()
    return int(counter.get_total_flops())


def on_meta(model: nn.Module) -> nn.Module:
    """A copy without values: only shapes are left."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):  # so that no value is copied
        empty: Tensor = torch.empty_like(tensor, device="meta")
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if parameter else empty
    return copy.deepcopy(model, memo)


class WithoutValues(TorchFunctionMode):
    """Parameters made inside have a shape and no memory: a network of any size in no time.

    ``torch.device("meta")`` would do so to *every* tensor, those whose values decide how a layer
    draws its weights too.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _bag(values: Any, indices: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * indices[0] * values[1]


def _four_pixels(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 8 * math.prod(out_shape)


_READS: dict[Any, Any] = {
    torch.ops.aten._embedding_bag: _bag,
    torch.ops.aten._embedding_bag_forward_only: _bag,
    torch.ops.aten.grid_sampler_2d: _four_pixels,
    torch.ops.aten.upsample_bilinear2d: _four_pixels,
}
