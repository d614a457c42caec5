"""Reading between pixels: a value of a panorama is a weighted sum of a few of its pixels.

An equirectangular image has no border. Its left and right edges are neighbours, and a step
over the top edge arrives half a turn away on the same top row. :func:`erp_table` writes that
down once, as indices and weights, and the adjoint of a read is its gradient. Chapter 03 derives
every rule here.

Most directions do not meet an edge. A :class:`Reader` gives those to torch's ``grid_sample``,
which streams, and only the few at the seam and the poles to a table.

NaN and infinite pixels are not looked for: they spread to whatever reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sal360._check import ArrayLike, as_directions, as_image, positive_int
from sal360._tables import untraced
from sal360.sphere import erp_pixel

Mode = Literal["bilinear", "nearest", "bicubic"]
MODES = ("bilinear", "nearest", "bicubic")


def check_mode(mode: Any) -> None:
    """Refuse a word that is no way of reading."""
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r}, wanted one of {', '.join(map(repr, MODES))}")


class SamplingTable(NamedTuple):
    """Which pixels to read, and with which weights: one row per direction.

    ``pixels`` is ``(N, K)`` int64 into the flattened ``H * W`` image, ``weights`` ``(N, K)``
    float64; for a panorama the weights of a row sum to 1.
    """

    pixels: Tensor
    weights: Tensor


def erp_table(xyz: ArrayLike, H: int, W: int, mode: Mode = "bilinear") -> SamplingTable:
    """The pixels of an ``H x W`` panorama that lie around each direction, and their weights.

    Args:
        xyz: ``(..., 3)`` directions of any length.
        H, W: size of the panorama in pixels, odd or even.
        mode: ``"bilinear"`` (K = 4), ``"nearest"`` (K = 1) or ``"bicubic"`` (K = 16; Keys'
            kernel with a = -1/2, which reproduces parabolas; some weights are negative).
    Returns:
        A table of ``N = prod(xyz.shape[:-1])`` rows on the device of ``xyz``.
    """
    directions = as_directions(xyz).reshape(-1, 3)
    row, col = erp_pixel(directions, H, W)
    return erp_table_at(row, col, H, W, mode)


def erp_table_at(
    row: Tensor, col: Tensor, H: int, W: int, mode: Mode = "bilinear"
) -> SamplingTable:
    """The same for rows and columns given as real numbers, whole at pixel centres.

    Args:
        row, col: ``(N,)`` float64; a row beyond the image lies over a pole.
    """
    check_mode(mode)
    if mode == "nearest":
        line, place = _over_the_pole(torch.round(row), col, H, W)
        nearest = line * W + torch.remainder(torch.round(place), W)
        return SamplingTable(nearest.long()[:, None], torch.ones_like(row)[:, None])
    split = _linear if mode == "bilinear" else _cubic
    pixels: list[Tensor] = []
    weights: list[Tensor] = []
    for line, share in split(row):
        # The column is split after the step over a pole: half a turn is no whole number of
        # columns when W is odd.
        inside, place = _over_the_pole(line, col, H, W)
        for column, part in split(place):
            pixels.append((inside * W + torch.remainder(column, W)).long())
            weights.append(share * part)
    return SamplingTable(torch.stack(pixels, -1), torch.stack(weights, -1))


def _over_the_pole(line: Tensor, col: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Row ``-1`` is row 0 half a turn away, row ``-2`` is row 1, and so on at both poles."""
    around = torch.remainder(line, 2 * H)
    beyond = around >= H
    return torch.where(beyond, 2 * H - 1 - around, around), torch.where(beyond, col + W / 2, col)


def _linear(place: Tensor) -> list[tuple[Tensor, Tensor]]:
    left = torch.floor(place)
    part = place - left
    return [(left, 1 - part), (left + 1, part)]


def _cubic(place: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, a = -1/2."""
    left = torch.floor(place)
    t = place - left
    return [
        (left - 1, ((-0.5 * t + 1) * t - 0.5) * t),
        (left, (1.5 * t - 2.5) * t * t + 1),
        (left + 1, ((-1.5 * t + 2) * t + 0.5) * t),
        (left + 2, (0.5 * t - 0.5) * t * t),
    ]


def apply_table(image: Tensor, table: SamplingTable) -> Tensor:
    """Read a picture by a table.

    Args:
        image: ``(B, C, H, W)`` floating, of the size that the table was made for.
        table: of N rows.
    Returns:
        ``(B, C, N)``, differentiable in the image and in the weights.
    Raises:
        ValueError: the table names pixels that the image does not have.
    """
    image = as_image(image)
    B, C, H, W = image.shape
    if table.pixels.numel() and int(table.pixels.max()) >= H * W:
        raise ValueError(f"table: names pixel {int(table.pixels.max())}, image has {H} x {W}")
    values = image.reshape(B * C, -1).t().contiguous()
    pixels, weights = table.pixels.to(image.device), table.weights.to(image)
    read = F.embedding_bag(pixels, values, mode="sum", per_sample_weights=weights)
    return read.t().reshape(B, C, -1)


@dataclass(frozen=True)
class Reader:
    """A bilinear read, prepared for one image size, dtype and device.

    Attributes:
        grid: ``(1, h, w, 2)``, x then y as ``grid_sample`` takes them.
        edge: ``(M,)`` positions in the output that touch the seam, a pole or another cube face.
        table: how to read those, ``M`` rows.
    """

    grid: Tensor
    edge: Tensor
    table: SamplingTable

    def __call__(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, h, w)``, differentiable in the image."""
        return read_prepared(image, self)


def read_prepared(image: Tensor, reader: Reader) -> Tensor:
    """What calling the reader does; ``torch.compile`` follows functions, and no methods of
    tables that it holds for constant."""
    exact = image.to(reader.grid.dtype)
    if exact.is_cuda and exact.requires_grad and torch.is_grad_enabled():
        from sal360 import resampling_cuda

        return resampling_cuda.read(exact, reader).to(image.dtype)
    return values_at(exact, reader).to(image.dtype)


def values_at(exact: Tensor, reader: Reader) -> Tensor:
    """The same for an image of the grid's dtype, by torch's own operations."""
    grid = reader.grid.expand(exact.shape[0], -1, -1, -1)
    out = F.grid_sample(exact, grid, padding_mode="border", align_corners=False)
    if len(reader.edge):
        few = exact.flatten(2)[:, :, reader.table.pixels] * reader.table.weights
        out.view(*out.shape[:2], -1).index_copy_(2, reader.edge, few.sum(-1))
    return out


def erp_reader(xyz: Tensor, H: int, W: int, dtype: torch.dtype) -> Reader:
    """Prepare the bilinear read of an ``H x W`` panorama in directions ``(h, w, 3)``.

    The directions are not checked. ``grid_sample`` counts from -1 to 1 between the image's
    edges, so an angle becomes a place by one division, whatever the size.
    """
    x, y, z = xyz.detach().movedim(-1, 0).contiguous()  # whole planes: twice as fast
    lon = torch.atan2(x, z)
    down = torch.atan2(y, torch.hypot(x, z))
    grid = torch.empty(*lon.shape, 2, dtype=dtype, device=lon.device)
    torch.mul(lon, 1 / math.pi, out=grid[..., 0])
    torch.mul(down, 2 / math.pi, out=grid[..., 1])
    touches = (grid[..., 0].abs() > 1 - 1 / W) | (grid[..., 1].abs() > 1 - 1 / H)
    edge = touches.flatten().nonzero()[:, 0]
    row = (down.flatten()[edge] / math.pi + 0.5) * H - 0.5
    col = (lon.flatten()[edge] / (2 * math.pi) + 0.5) * W - 0.5
    table = erp_table_at(row, col, H, W)
    return Reader(grid[None], edge, SamplingTable(table.pixels, table.weights.to(dtype)))


def sample_erp(image: ArrayLike, xyz: ArrayLike, mode: Mode = "bilinear") -> Tensor:
    """Values of a panorama in given directions, right at the seam and at both poles.

    Args:
        image: ``(B, C, H, W)`` floating; any size.
        xyz: ``(..., 3)`` directions, shared by the batch. Where they ask for a gradient, bilinear
            and bicubic reads give it (it jumps at every pixel's centre line).
        mode: ``"bilinear"``, ``"nearest"`` or ``"bicubic"``. Bilinear places are rounded to the
            image's dtype: in float32 by at most about ``2 W / 2**24`` pixels.
    Returns:
        ``(B, C, *xyz.shape[:-1])`` in the image's dtype, on its device.
    Raises:
        ValueError, TypeError: a wrong rank or dtype, NaN or zero directions, unknown mode.
    """
    image = as_image(image)
    check_mode(mode)
    directions = as_directions(xyz).to(image.device)
    shape, (H, W) = directions.shape[:-1], image.shape[-2:]
    if directions.numel() == 0 or image.is_meta:  # no numbers, no more than a shape
        return image.new_zeros(*image.shape[:2], *shape)
    wanted = torch.is_grad_enabled() and directions.requires_grad
    if mode == "bilinear" and not wanted:
        plane = directions if directions.ndim == 3 else directions.reshape(1, -1, 3)
        reader = erp_reader(plane, H, W, computing_dtype(image))
        return reader(image).reshape(*image.shape[:2], *shape)
    table = erp_table(directions, H, W, mode)
    if mode == "nearest":
        read = image.flatten(2).index_select(2, table.pixels[:, 0])
    else:
        exact = computing_dtype(image)
        read = apply_table(image.to(exact), table).to(image.dtype)
    return read.reshape(*image.shape[:2], *shape)


def computing_dtype(image: Tensor) -> torch.dtype:
    """float64 stays, everything else is computed in float32 (half precision is too coarse)."""
    return torch.float64 if image.dtype == torch.float64 else torch.float32


Filter = Literal["area", "lanczos"]


def downsample_erp(
    image: ArrayLike, H: int, W: int | None = None, filter: Filter = "area"
) -> Tensor:
    """Make a panorama smaller, with little aliasing or with its integral kept. See chapter 03.

    The filter is as wide as the new pixel in latitude and in longitude: what it spans on the
    sphere shrinks towards the poles as the pixel itself does, so nothing that the small grid
    could hold there is blurred away by it.

    - ``"area"``: the mean over the new pixel's own cell by solid angle, with fractions of
      pixels at its edge. Integrals are kept: ``sum(map * pixel_area)`` is the same before and
      after. Never overshoots. Detail finer than the new grid is damped, not removed: at one
      and a half times what the grid holds 0.30 of a wave is left, at the wrong frequency.
    - ``"lanczos"``: a windowed sinc over six new pixels, along the meridian (which goes on over
      the poles) and along the parallel (which goes on over the seam). Leaves 0.01 of that
      wave; overshoots at hard edges and keeps no integral.

    Args:
        image: ``(B, C, H0, W0)`` floating.
        H, W: new size, at most the old one; ``W`` keeps the image's proportions unless given.
            Ratios need not be whole.
        filter: ``"area"`` or ``"lanczos"``.
    Returns:
        ``(B, C, H, W)``.
    Raises:
        ValueError: a larger size (read with :func:`sample_erp` instead), an unknown filter.
    """
    image = as_image(image)
    H = positive_int(H, "H")
    H0, W0 = image.shape[-2:]
    W = max(1, round(W0 * H / H0)) if W is None else positive_int(W, "W")
    for name, new, old in (("H", H, H0), ("W", W, W0)):
        if new > old:
            raise ValueError(f"{name}: {new}, wanted at most the image's {old}")
    if filter not in ("area", "lanczos"):
        raise ValueError(f"filter: {filter!r}, wanted 'area' or 'lanczos'")
    exact = computing_dtype(image)
    B, C = image.shape[:2]

    lines = image.to(exact).reshape(B * C, H0, W0)
    inside, beyond, across = _filters((H0, W0), (H, W), filter, image.device)
    out = _mix(lines, inside)
    if beyond is not None:  # over a pole: the same rows, half a turn away
        far = _mix(lines, beyond)
        out = out + 0.5 * (far.roll(W0 // 2, -1) + far.roll(W0 - W0 // 2, -1))
    columns = _mix(out.transpose(1, 2), across)
    return columns.transpose(1, 2).reshape(B, C, H, W).to(image.dtype).contiguous()


def _mix(lines: Tensor, table: SamplingTable) -> Tensor:
    """Weighted sums of whole lines: ``(N, n, L)`` to ``(N, len(table), L)``."""
    N, n, L = lines.shape
    step = n * torch.arange(N, device=lines.device)[:, None, None]
    pixels = (table.pixels.to(lines.device) + step).flatten(0, 1)
    weights = table.weights.to(lines).repeat(N, 1)
    flat = lines.reshape(N * n, L)
    read = F.embedding_bag(pixels, flat, mode="sum", per_sample_weights=weights)
    return read.reshape(N, -1, L)


def _spans(old: int, new: int, filter: Filter) -> tuple[Tensor, Tensor]:
    """Old pixels under each new one, unwrapped, and the filter's weight: both ``(new, K)``."""
    ratio = old / new
    reach = 0.5 * ratio if filter == "area" else 3 * ratio
    middle = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * ratio
    first = torch.floor(middle - reach + 1e-9)
    index = first + torch.arange(math.ceil(2 * reach) + 1, dtype=torch.float64)
    if filter == "area":  # the part of each old pixel that lies in the new one
        low = torch.maximum(index, middle - reach)
        weight = (torch.minimum(index + 1, middle + reach) - low).clamp(min=0)
        return index, torch.where(weight > 1e-9, weight, torch.zeros_like(weight))
    x = (index + 0.5 - middle) / ratio
    return index, torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


@untraced
@lru_cache(maxsize=16)
def _filters(
    old: tuple[int, int], new: tuple[int, int], filter: Filter, device: torch.device
) -> tuple[SamplingTable, SamplingTable | None, SamplingTable]:
    """Tables of rows, of rows over a pole, and of columns, where the image is."""

    def there(table: SamplingTable) -> SamplingTable:
        return SamplingTable(table.pixels.to(device), table.weights.to(device))

    inside, beyond = _row_weights(old[0], new[0], filter)
    across = _column_weights(old[1], new[1], filter)
    return there(inside), None if beyond is None else there(beyond), there(across)


@untraced
@lru_cache(maxsize=16)
def _column_weights(old: int, new: int, filter: Filter) -> SamplingTable:
    index, weight = _spans(old, new, filter)
    weight = weight / weight.sum(1, keepdim=True)
    return SamplingTable(torch.remainder(index, old).long(), weight)


@untraced
@lru_cache(maxsize=16)
def _row_weights(old: int, new: int, filter: Filter) -> tuple[SamplingTable, SamplingTable | None]:
    """Rows and weights; those over a pole apart, because they are half a turn away."""
    index, weight = _spans(old, new, filter)
    around = torch.remainder(index, 2 * old)
    beyond = around >= old
    line = torch.where(beyond, 2 * old - 1 - around, around).long()
    if filter == "area":  # by the part of the row's own area that lies in the cell
        ratio = old / new
        cell = torch.arange(new, dtype=torch.float64)[:, None] * ratio
        top = torch.maximum(index, cell)
        bottom = torch.minimum(index + 1, cell + ratio)
        half = (bottom - top).clamp(min=0) * (math.pi / (2 * old))
        middle = (top + bottom) * (math.pi / (2 * old))
        weight = torch.where(weight > 0, torch.sin(half) * torch.sin(middle), weight)
    weight = weight / weight.sum(1, keepdim=True)
    if not bool((beyond & (weight != 0)).any()):
        return SamplingTable(line, weight * ~beyond), None
    return SamplingTable(line, weight * ~beyond), SamplingTable(line, weight * beyond)
