"""Padding the faces of a cube by a few lines of C, where installing the package compiled them.

torch's operators pass over memory once for the faces and again for each part of the rim; this
copies a channel's six faces and fills their rim while they are in the cache. The benchmarks page
has what both cost. It takes single and double precision on a CPU. Everything else, and every
program that is being recorded or exported, goes through torch's operators in
:mod:`sal360.nn.rim`; so does all of it where there was no compiler. The same numbers but for
rounding, so run records say which of the two it was (``versions``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch  # before the compiled part, which takes its threads from torch's own
from torch import Tensor
from torch._ops import _len_torch_dispatch_stack_pre_dispatch

from sal360._tables import untraced
from sal360.nn.reads import owners

if TYPE_CHECKING:
    from sal360.nn.rim import Rim

try:
    from sal360.nn import _rim  # type: ignore[attr-defined]
except ImportError:  # no compiler, or another system's
    _rim = None

compiled: Any = _rim
"""The compiled part, or None."""

_GRAIN = 1 << 15  # numbers that are worth a thread, as in torch's own loops


def takes(x: Tensor) -> bool:
    """Whether the faces can be padded here: plain numbers in memory that nobody looks on."""
    return (
        compiled is not None
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.layout == torch.strided
        and not x.is_neg()
        and not x._is_zerotensor()  # a gradient that is 0 may have no memory at all
        and not torch.jit.is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0
        and _len_torch_dispatch_stack_pre_dispatch() == 0
    )


def pad(x: Tensor, rim: Rim) -> Tensor:
    """Faces ``(B, 6, C, S, S)`` or ``(6 B, C, S, S)`` with their rim. No gradient."""
    return _run("pad", x, x.new_empty(*x.shape[:-2], *rim.size), rim)


def unpad(y: Tensor, rim: Rim) -> Tensor:
    """The adjoint of :func:`pad`. No gradient."""
    return _run("unpad", y, y.new_empty(*y.shape[:-2], rim.S, rim.S), rim)


def _run(way: str, given: Tensor, out: Tensor, rim: Rim) -> Tensor:
    given, C = given.contiguous(), given.shape[-3]
    cubes, threads = math.prod(given.shape[:-3]) // 6, torch.get_num_threads()
    plan, _ = _plan(rim, C, given.dtype)
    threads = max(1, min(threads, out.numel() // _GRAIN))
    getattr(compiled, way)(given.data_ptr(), out.data_ptr(), threads, cubes, C, plan)
    return out


def of_channel(texels: Tensor, plane: int, C: int) -> Tensor:
    """Texels of a cube, ``plane`` a face, as those of one channel of ``C`` that a face has."""
    return texels + torch.div(texels, plane, rounding_mode="floor") * (C - 1) * plane


@untraced
@lru_cache(maxsize=48)
def _plan(rim: Rim, C: int, dtype: torch.dtype) -> tuple[tuple[int, ...], tuple[Tensor, ...]]:
    """What the compiled part is told of a rim, and the tensors that it points into."""
    with torch.inference_mode(False):
        face, padded = rim.S**2, rim.size[0] * rim.size[1]
        sums = rim.sums.forward
        counts = torch.bincount(owners(sums), minlength=len(rim.mixed))
        parts = (
            of_channel(rim.take, face, C),
            of_channel(rim.put, padded, C),
            of_channel(rim.mixed, padded, C),
            torch.cat((counts.new_zeros(1), counts.cumsum(0))),
            of_channel(rim.parts[sums.rows.long()], face, C),
            sums.weights.to(dtype),
        )
    held = tuple(part.contiguous() for part in parts)
    left, _, top, _ = rim.padding
    inside = top * rim.size[1] + left
    sizes = (rim.S, *rim.size, inside, len(rim.take), len(rim.mixed))
    return (dtype.itemsize, *sizes, *(part.data_ptr() for part in held)), held
