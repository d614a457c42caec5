"""Tables of what is read: a pattern's taps between pixels, as weighted sums of rows.

A kernel that moves along a row of the panorama reads the same, further right. So the tables of a
pattern are those of its first column, repeated along every row; and so is the transposed map,
seen from the pixels that are read. :mod:`sal360.nn.sampled` runs them. Derived in chapter 07.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._tables import untraced
from sal360.patterns import Pattern
from sal360.resampling import Mode

SMALLEST = 1e-11
"""Weights below this are rounding noise of taps that stand on a pixel; they are not read."""


class Sums(NamedTuple):
    """Weighted sums of rows: sum ``n`` takes ``rows[starts[n]:starts[n + 1]]``.

    ``rows`` is int32 ``(R,)``, ``starts`` int32 ``(N,)``, ``weights`` floating ``(R,)``.
    """

    rows: Tensor
    starts: Tensor
    weights: Tensor

    def of(self, values: Tensor) -> Tensor:
        """``(rows, C)`` contiguous to ``(N, C)``. No gradient: see :func:`read`."""
        rows, starts, weights = self
        return F.embedding_bag(rows, values, starts, mode="sum", per_sample_weights=weights)


@dataclass(frozen=True, eq=False)
class Reads:
    """A sparse linear map and its transpose, each as a table of weighted sums.

    Attributes:
        forward: N sums of M rows. backward: M sums of N rows, with the same weights.
    """

    forward: Sums
    backward: Sums

    @property
    def adjoint(self) -> Reads:
        """The transposed map."""
        return Reads(self.backward, self.forward)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Reads:
        """The same on a device, with weights of a dtype."""
        moved = (
            Sums(rows.to(device), starts.to(device), weights.to(device, dtype))
            for rows, starts, weights in (self.forward, self.backward)
        )
        return Reads(*moved)

    @property
    def bytes(self) -> int:
        """Memory of both tables."""
        parts = (*self.forward, *self.backward)
        return sum(part.numel() * part.element_size() for part in parts)


def out_size(pattern: Pattern) -> tuple[int, int]:
    """Rows and columns of kernels on a panorama."""
    return len(pattern.lat), -(-pattern.W // pattern.stride)


_KEPT: WeakKeyDictionary[Pattern, dict[Hashable, Reads]] = WeakKeyDictionary()


@untraced
def reads_of(
    pattern: Pattern,
    mode: Mode = "bilinear",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    products: bool = False,
) -> Reads:
    """The tables of a pattern, made once and kept for as long as it lives.

    Args:
        products: read from the products of each pixel with each tap, rows ``(H W, K)`` in that
            order, to the outputs ``(H' W')``; otherwise from the pixels to the samples of all
            kernels, ``(H' W', K)``.
    """
    kept = _KEPT.setdefault(pattern, {})
    key = (mode, dtype, str(device), products)
    if key not in kept:
        make = _shapes_of_reads if torch.device(device).type == "meta" else _make_reads
        kept[key] = make(pattern, mode, products).to(device, dtype)
    return kept[key]


def bytes_of(pattern: Pattern) -> int:
    """Memory of the tables that are kept for a pattern."""
    return sum(reads.bytes for reads in list(_KEPT.get(pattern, {}).values()))


def _shapes_of_reads(pattern: Pattern, mode: Mode, products: bool) -> Reads:
    """How many reads there are, without saying which: enough to count what they cost."""
    lines, wide = out_size(pattern)
    number = int((pattern.row_table(mode)[2].abs() > SMALLEST).sum()) * wide
    taps_in, taps_out = (pattern.taps, 1) if products else (1, pattern.taps)

    def sums(count: int) -> Sums:
        entries = torch.empty(number, dtype=torch.int32, device="meta")
        return Sums(entries, entries.new_empty(count), entries.float())

    return Reads(sums(lines * wide * taps_out), sums(pattern.H * pattern.W * taps_in))


def _make_reads(pattern: Pattern, mode: Mode, products: bool) -> Reads:
    rows, cols, weights = (part.cpu() for part in pattern.row_table(mode))
    H, W, K, stride = pattern.H, pattern.W, pattern.taps, pattern.stride
    lines, wide = out_size(pattern)
    if max(H * W, lines * wide * weights.shape[2]) * K >= 2**31:
        raise ValueError(f"pattern: {pattern} reads more than 2^31 pixels, wanted fewer")
    used = weights.abs() > SMALLEST
    line, tap, _ = used.nonzero().unbind(-1)
    entries = Entries(line, tap, rows[used], cols[used], weights[used])
    return reads_along_rows(entries, (H, W), lines, K, stride, products)


class Entries(NamedTuple):
    """What the kernels of output column 0 read, one entry a pixel: each field is ``(E,)``.

    The kernel of output row ``line`` reads pixel ``(row, col)`` for tap ``tap`` with ``weight``.
    In ascending order of line, then of tap.
    """

    line: Tensor
    tap: Tensor
    row: Tensor
    col: Tensor
    weight: Tensor


def reads_along_rows(
    entries: Entries,
    size: tuple[int, int],
    lines: int,
    taps: int,
    stride: int = 1,
    products: bool = False,
) -> Reads:
    """Both tables from those of one column: a kernel further right reads further right.

    Args:
        entries: of the kernels in output column 0. size: ``(H, W)`` of the panorama.
        lines: output rows. taps: K. stride, products: see :func:`reads_of`.
        Rows of either table must be few enough for an int32 to count.
    """
    (H, W), K, wide = size, taps, -(-size[1] // stride)
    line, tap, row, col, weight = entries
    bag = line if products else line * K + tap
    start = row * (W * K) + tap if products else row * W
    parts, spacing = (lines, 1 if products else K), K if products else 1
    forward = _along_rows(bag, start, col, weight, parts, wide, W, stride, spacing)
    if stride > 1:
        return Reads(forward, _transposed(forward, H * W * (K if products else 1)))
    # Seen from the pixel that is read, the kernel stands as far to the left.
    bag = row * K + tap if products else row
    start = line * W if products else line * (W * K) + tap
    order = torch.argsort(bag, stable=True)
    bag, start, col, weight = bag[order], start[order], -col[order], weight[order]
    parts = (H, K if products else 1)
    backward = _along_rows(bag, start, col, weight, parts, W, W, 1, 1 if products else K)
    return Reads(forward, backward)


def _along_rows(
    bag: Tensor,
    start: Tensor,
    col: Tensor,
    weight: Tensor,
    bags: tuple[int, int],
    wide: int,
    W: int,
    stride: int,
    spacing: int,
) -> Sums:
    """Repeat the reads of one column along every row.

    Args:
        bag: ``(E,)`` ascending: which sum an entry belongs to, ``row * bags[1] + part``.
        start, col: what it reads is ``start + spacing * ((col + stride j) % W)`` in column ``j``.
        bags: (rows, parts of a row). wide: columns.
    """
    rows, parts = bags
    sizes = torch.bincount(bag, minlength=rows * parts).view(rows, parts)
    in_row = sizes.sum(1)
    first = in_row.cumsum(0) - in_row
    ends = (in_row * wide).cumsum(0)
    line = torch.repeat_interleave(torch.arange(rows), in_row * wide)
    place = torch.arange(int(ends[-1])) - (ends - in_row * wide)[line]
    column = torch.div(place, in_row[line], rounding_mode="floor")
    entry = place - column * in_row[line] + first[line]
    read = start[entry] + spacing * torch.remainder(col[entry] + stride * column, W)
    begin = (ends - in_row * wide)[:, None] + in_row[:, None] * torch.arange(wide)
    starts = begin[..., None] + (sizes.cumsum(1) - sizes)[:, None]
    return Sums(read.int(), starts.flatten().int(), weight[entry])


def reads_between(into: Tensor, source: Tensor, weight: Tensor, size: tuple[int, int]) -> Reads:
    """The sparse map with ``weight[e]`` at row ``into[e]``, column ``source[e]``.

    Args:
        into, source, weight: ``(E,)``, in any order. size: (sums N, rows M).
    """
    order = torch.argsort(into, stable=True)
    count = torch.bincount(into, minlength=size[0])
    starts = (count.cumsum(0) - count).int()
    forward = Sums(source[order].int(), starts, weight[order])
    return Reads(forward, _transposed(forward, size[1]))


def _transposed(sums: Sums, N: int) -> Sums:
    """The transposed map, N sums, by sorting."""
    owner = owners(sums)
    order = torch.argsort(sums.rows, stable=True)
    count = torch.bincount(sums.rows, minlength=N)
    return Sums(owner[order].int(), (count.cumsum(0) - count).int(), sums.weights[order])


def owners(sums: Sums) -> Tensor:
    """Which sum every entry belongs to, int64 ``(R,)``."""
    starts, device = sums.starts.long(), sums.rows.device
    end = torch.full((1,), len(sums.rows), dtype=torch.long, device=device)
    sizes = torch.diff(starts, append=end)
    return torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
