"""A memory for pictures: an LSTM whose four gates are one convolution. Chapter 14 builds it.

The cell does not know where it lives. Whatever makes a layer from two channel counts makes a
cell of it: ``SphereConv2d`` on the sphere, ``Conv2d`` behind padding on the plane, a padded cube
with faces in the batch. After Shi et al., "Convolutional LSTM network", 2015, without peepholes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from sal360._check import ArrayLike, as_floating, positive_int
from sal360.nn.sphere_conv import SphereConv2d


class CellState(NamedTuple):
    """Hidden and cell state of one LSTM, each ``(B, hidden, H, W)``."""

    hidden: Tensor
    cell: Tensor


# So that an exported program that takes or gives one can be saved.
_register_namedtuple(CellState, serialized_type_name="sal360.nn.CellState")


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM over any convolution.

    ``i, f, o, g = conv(x beside h)``, then ``c' = sigmoid(f) c + sigmoid(i) tanh(g)`` and
    ``h' = sigmoid(o) tanh(c')``: what is let in, kept and told. The order of the gates is
    SST-Sal's, and so are the names of the weights, ``conv.weight`` and ``conv.bias``. A loop over
    frames is the caller's; :func:`sal360.nn.detach_state` cuts the history off in between, and
    :func:`sal360.models.truncated` does both for a model.

    Args:
        in_channels: of ``x``. hidden: channels of the memory.
        conv: makes the layer from ``in_channels + hidden`` and ``4 hidden``; it must keep the
            size of the picture.
        forget_bias: where the forget gate's bias starts; as ``conv`` draws it if None. At 1 a
            fresh memory fades over a few frames instead of two (Jozefowicz et al., 2015).

    >>> cell = ConvLSTMCell(3, 8)
    >>> state = cell(torch.zeros(1, 3, 15, 33))
    >>> cell(torch.zeros(1, 3, 15, 33), state).hidden.shape
    torch.Size([1, 8, 15, 33])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        conv: Callable[[int, int], nn.Module] = SphereConv2d,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = positive_int(in_channels, "in_channels")
        self.hidden = positive_int(hidden, "hidden")
        if isinstance(conv, nn.Module):
            example = "lambda i, o: nn.Conv2d(i, o, 3, padding=1)"
            raise TypeError(f"conv: a {type(conv).__name__}, wanted what makes one: {example}")
        self.conv = conv(in_channels + hidden, 4 * hidden)
        if forget_bias is not None:
            bias = getattr(self.conv, "bias", None)
            if not isinstance(bias, Tensor):
                raise ValueError("forget_bias: conv has no bias of its own, wanted None")
            with torch.no_grad():
                bias[hidden : 2 * hidden] = forget_bias

    def forward(self, x: ArrayLike, state: tuple[Tensor, Tensor] | None = None) -> CellState:
        """``x (B, C, H, W)`` and the last state (zeros if None) to the next state.

        Raises:
            ValueError: another number of channels, a state of another size, a ``conv`` that
                changes the size or answers other channels. TypeError: whole numbers, a state that
                is no pair of tensors.
        """
        x = as_floating(x, "x")
        if x.ndim < 4 or x.shape[-3] != self.in_channels:
            wanted = f"wanted (B, {self.in_channels}, H, W)"
            raise ValueError(f"x: shape {tuple(x.shape)}, {wanted}")
        shape = (*x.shape[:-3], self.hidden, *x.shape[-2:])
        hidden, cell = (x.new_zeros(shape),) * 2 if state is None else _as_pair(state)
        for name, part in (("hidden", hidden), ("cell", cell)):
            if part.shape != shape:
                raise ValueError(f"state: {name} of shape {tuple(part.shape)}, wanted {shape}")
        if hidden.ndim == 4 and hidden.stride(1) == 1:  # as sampled convolutions lay it out
            x = x.contiguous(memory_format=torch.channels_last)
        gates = self.conv(torch.cat((x, hidden), dim=-3))
        answer = (*x.shape[:-3], 4 * self.hidden, *x.shape[-2:])
        if gates.shape != answer:
            raise ValueError(f"conv: answers {tuple(gates.shape)}, wanted {answer}")
        i, f, o = torch.sigmoid(gates.narrow(-3, 0, 3 * self.hidden)).chunk(3, dim=-3)
        g = torch.tanh(gates.narrow(-3, 3 * self.hidden, self.hidden))
        cell = f * cell + i * g
        return CellState(o * torch.tanh(cell), cell)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, hidden={self.hidden}"


def _as_pair(state: Any) -> tuple[Tensor, Tensor]:
    parts = state if isinstance(state, (tuple, list)) else (state,)
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        found = ", ".join(type(part).__name__ for part in parts)
        wanted = "wanted two tensors, hidden and cell, or None"
        raise TypeError(f"state: {found or 'nothing'}, {wanted}")
    return parts[0], parts[1]
