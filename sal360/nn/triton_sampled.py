"""Triton kernels of the sampled convolution: samples live in registers and are never written.

All three walk the same tables as the CPU's operator, so a forward pass and a gradient differ in
nothing but the table they are given:

- :func:`sums`: weighted sums of rows, for a whole batch.
- :func:`product`: an implicit matrix product. A block of outputs takes its samples tap by tap and
  multiplies them by that tap's weights at once. With the transposed table it is the gradient in
  the image.
- :func:`weight_gradient`: the same samples times the output's gradient, in a fixed number of
  parts that are added in a fixed order.

No kernel adds atomically: the same input gives the same bytes. Imported only where a GPU is at
work (:mod:`sal360.nn.sampled_cuda` decides), because Triton comes with torch's CUDA builds alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

SIZES = ["B", "S", "N", "M", "K", "C_units", "O_units", "steps"]
"""Arguments for whose values no kernel is compiled anew: it would take longer than it gives."""


class Blocks(NamedTuple):
    """Sizes of a program's block: rows of the output, channels read, channels written; warps."""

    rows: int
    taken: int
    made: int
    warps: int
    stages: int = 2


@triton.jit
def _sample(
    values, rows, weights, first, last, count, channel, C, acc,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """Add ``sum_e weights[e] values[rows[e], channel]`` over each line's entries to ``acc``."""
    inside = (channel < C)[None, :]
    for start in range(0, count, UNROLL):
        for u in tl.static_range(UNROLL):
            at = first + start + u
            on = at < last
            row = tl.load(rows + at, mask=on, other=0)
            weight = tl.load(weights + at, mask=on, other=0.0)
            place = row.to(tl.int64)[:, None] * C + channel[None, :]
            value = tl.load(values + place, mask=on[:, None] & inside, other=0.0)
            acc += weight[:, None] * value.to(acc.dtype)
    return acc


@triton.jit(do_not_specialize=SIZES)
def _sums_kernel(
    values, rows, weights, starts, out, S, M, C_units,
    BS: tl.constexpr, BC: tl.constexpr, UNROLL: tl.constexpr, UNIT_C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    C = C_units * UNIT_C
    line = tl.program_id(0) * BS + tl.arange(0, BS)
    channel = tl.program_id(1) * BC + tl.arange(0, BC)
    image = tl.program_id(2).to(tl.int64)
    live = line < S
    first = tl.load(starts + line, mask=live, other=0)
    last = tl.load(starts + line + 1, mask=live, other=0)
    acc = tl.zeros((BS, BC), dtype=ACC)
    source = values + image * M * C
    acc = _sample(
        source, rows, weights, first, last, tl.max(last - first), channel, C, acc, UNROLL
    )  # fmt: skip
    place = (image * S + line)[:, None] * C + channel[None, :]
    tl.store(
        out + place, acc.to(out.dtype.element_ty), mask=live[:, None] & (channel < C)[None, :]
    )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def _product_kernel(
    values, kernel, bias, rows, weights, starts, out, N, M, C_units, O_units, K,
    BN: tl.constexpr, BC: tl.constexpr, BO: tl.constexpr, UNROLL: tl.constexpr,
    UNIT_C: tl.constexpr, UNIT_O: tl.constexpr, BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    C, O = C_units * UNIT_C, O_units * UNIT_O
    parts = tl.cdiv(O, BO)
    line = (tl.program_id(0) // parts) * BN + tl.arange(0, BN)
    made = (tl.program_id(0) % parts) * BO + tl.arange(0, BO)
    image = tl.program_id(1).to(tl.int64)
    live, wanted = line < N, made < O
    source = values + image * M * C
    acc = tl.zeros((BN, BO), dtype=tl.float32)
    for k in range(K):
        first = tl.load(starts + line * K + k, mask=live, other=0)
        last = tl.load(starts + line * K + k + 1, mask=live, other=0)
        count = tl.max(last - first)
        for c in range(0, C, BC):
            channel = c + tl.arange(0, BC)
            sample = tl.zeros((BN, BC), dtype=tl.float32)
            sample = _sample(
                source, rows, weights, first, last, count, channel, C, sample, UNROLL
            )  # fmt: skip
            part = tl.load(
                kernel + (k * C + channel)[:, None] * O + made[None, :],
                mask=(channel < C)[:, None] & wanted[None, :],
                other=0.0,
            )
            acc = tl.dot(sample.to(part.dtype), part, acc, input_precision=PRECISION)
    if BIAS:
        acc += tl.load(bias + made, mask=wanted, other=0.0).to(tl.float32)[None, :]
    place = (image * N + line)[:, None] * O + made[None, :]
    tl.store(
        out + place, acc.to(out.dtype.element_ty), mask=live[:, None] & wanted[None, :]
    )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def _weight_kernel(
    values, grad, rows, weights, starts, out, B, N, M, C_units, O_units, K, steps,
    BN: tl.constexpr, BC: tl.constexpr, BO: tl.constexpr, UNROLL: tl.constexpr,
    UNIT_C: tl.constexpr, UNIT_O: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    C, O = C_units * UNIT_C, O_units * UNIT_O
    across, parts = tl.cdiv(C, BC), tl.cdiv(O, BO)
    k = tl.program_id(0) // (across * parts)
    rest = tl.program_id(0) % (across * parts)
    channel = (rest // parts) * BC + tl.arange(0, BC)
    made = (rest % parts) * BO + tl.arange(0, BO)
    in_image = tl.cdiv(N, BN)
    begin = tl.program_id(1) * steps
    end = tl.minimum(begin + steps, B * in_image)
    acc = tl.zeros((BC, BO), dtype=tl.float32)
    for block in range(begin, end):
        image = (block // in_image).to(tl.int64)
        line = (block % in_image) * BN + tl.arange(0, BN)
        live = line < N
        first = tl.load(starts + line * K + k, mask=live, other=0)
        last = tl.load(starts + line * K + k + 1, mask=live, other=0)
        sample = tl.zeros((BN, BC), dtype=tl.float32)
        sample = _sample(
            values + image * M * C, rows, weights, first, last, tl.max(last - first), channel, C,
            sample, UNROLL,
        )  # fmt: skip
        pulled = tl.load(
            grad + (image * N + line)[:, None] * O + made[None, :],
            mask=live[:, None] & (made < O)[None, :],
            other=0.0,
        )
        acc = tl.dot(tl.trans(sample.to(pulled.dtype)), pulled, acc, input_precision=PRECISION)
    place = (tl.program_id(1).to(tl.int64) * K + k) * C
    place = (place + channel)[:, None] * O + made[None, :]
    tl.store(out + place, acc, mask=(channel < C)[:, None] & (made < O)[None, :])


def sums(values: Tensor, rows: Tensor, weights: Tensor, starts: Tensor, unroll: int = 4) -> Tensor:
    """``(B, M, C)`` to ``(B, S, C)``: sum ``s`` takes ``rows[starts[s]:starts[s + 1]]``.

    Args:
        values: added in float32, or float64 if that is what they are.
        rows, weights: ``(E,)``. starts: ``(S + 1,)`` int32.
    """
    (B, M, C), S = values.shape, len(starts) - 1
    values, rows, weights, starts = map(_plain, (values, rows, weights, starts))
    out = values.new_empty(B, S, C)
    BC = min(64, max(8, triton.next_power_of_2(C)))
    BS = 1024 // BC
    grid = (triton.cdiv(S, BS), triton.cdiv(C, BC), B)
    exact = tl.float64 if values.dtype == torch.float64 else tl.float32
    unit = _unit(C)
    with _on(values):
        _sums_kernel[grid](
            values, rows, weights, starts, out, S, M, C // unit,
            BS=BS, BC=BC, UNROLL=unroll, UNIT_C=unit, ACC=exact, num_warps=4,
        )  # fmt: skip
    return out


def product(
    values: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    weights: Tensor,
    starts: Tensor,
    blocks: Blocks | None = None,
    precision: str = "tf32x3",
    unroll: int = 4,
) -> Tensor:
    """``(B, M, C)`` and ``(K, C, O)`` to ``(B, N, O)``: samples of each tap times its weights.

    Args:
        values, kernel: of one dtype: float32, bfloat16 or float16. bias: ``(O,)``.
        rows, weights: ``(E,)``. starts: ``(N K + 1,)`` int32, taps of an output in a row.
        precision: of float32 products: ``"ieee"``, ``"tf32x3"`` (three products of tensor cores,
            as exact but for a bit or two) or ``"tf32"``.
    """
    (B, M, C), (K, _, O) = values.shape, kernel.shape
    N = (len(starts) - 1) // K
    values, kernel, rows, weights, starts = map(_plain, (values, kernel, rows, weights, starts))
    out = values.new_empty(B, N, O)
    size = blocks or product_blocks(values.dtype, C, O)
    grid = (triton.cdiv(N, size.rows) * triton.cdiv(O, size.made), B)
    units = _unit(C), _unit(O)
    with _on(values):
        _product_kernel[grid](
            values, kernel, kernel if bias is None else _plain(bias), rows, weights, starts, out,
            N, M, C // units[0], O // units[1], K,
            BN=size.rows, BC=size.taken, BO=size.made, UNROLL=unroll, UNIT_C=units[0],
            UNIT_O=units[1], BIAS=bias is not None, PRECISION=precision,
            num_warps=size.warps, num_stages=size.stages,
        )  # fmt: skip
    return out


def weight_gradient(
    values: Tensor,
    grad: Tensor,
    taps: int,
    rows: Tensor,
    weights: Tensor,
    starts: Tensor,
    blocks: Blocks | None = None,
    precision: str = "tf32x3",
    unroll: int = 4,
    programs: int = 1024,
) -> Tensor:
    """``(B, M, C)`` and ``(B, N, O)`` to ``(K, C, O)`` float32.

    Args:
        values, grad: of one dtype. taps: K. rows, weights, starts: see :func:`product`.
        programs: about how many run; says into how many parts the sum over outputs is cut. It
            changes the rounding, so it does not look at the card.
    """
    (B, M, C), (_, N, O) = values.shape, grad.shape
    values, grad, rows, weights, starts = map(_plain, (values, grad, rows, weights, starts))
    size = blocks or weight_blocks(values.dtype, C, O)
    alike = taps * triton.cdiv(C, size.taken) * triton.cdiv(O, size.made)
    work = B * triton.cdiv(N, size.rows)
    steps = triton.cdiv(work, max(1, min(work, triton.cdiv(programs, alike))))
    parts = triton.cdiv(work, steps)
    out = values.new_empty(parts, taps, C, O, dtype=torch.float32)
    units = _unit(C), _unit(O)
    with _on(values):
        _weight_kernel[(alike, parts)](
            values, grad, rows, weights, starts, out, B, N, M,
            C // units[0], O // units[1], taps, steps,
            BN=size.rows, BC=size.taken, BO=size.made, UNROLL=unroll, UNIT_C=units[0],
            UNIT_O=units[1], PRECISION=precision, num_warps=size.warps, num_stages=size.stages,
        )  # fmt: skip
    return out.sum(0)


def product_blocks(dtype: torch.dtype, C: int, O: int) -> Blocks:
    """Blocks of :func:`product`: as many channels at once as registers hold."""
    wide = 32 if dtype == torch.float32 else 64
    return Blocks(64, _between(C, 16, wide), _between(O, 16, 128), 4)


def weight_blocks(dtype: torch.dtype, C: int, O: int) -> Blocks:
    """Blocks of :func:`weight_gradient`."""
    rows = 32 if dtype == torch.float32 else 64
    return Blocks(rows, _between(C, 16, 64), _between(O, 16, 64), 4)


def _plain(x: Tensor) -> Tensor:
    """The same numbers one after the other in memory, which is all that a kernel is told.

    A tensor may be contiguous and hold the negative of what lies there, or zeros that lie
    nowhere: torch hands those on for the derivative of a step.
    """
    x = x.contiguous()
    return x.clone() if x.is_neg() or x._is_zerotensor() else x


def _unit(channels: int) -> int:
    """The power of two that divides a row of channels, at most 16.

    A kernel that is told the number of units knows that rows begin at multiples of it, and reads
    so many numbers by one instruction.
    """
    return min(16, channels & -channels)


def _between(n: int, low: int, high: int) -> int:
    return int(min(high, max(low, triton.next_power_of_2(n))))


def _on(values: Tensor) -> Any:
    """Triton launches on the current device; make it the one where the values are."""
    return torch.cuda.device(values.device if values.is_cuda else -1)
