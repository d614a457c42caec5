"""Where a kernel looks: a pattern is a list of directions per image row, and nothing else.

Every convolution of the five systems is a pattern plus weights. On an equirectangular grid a
kernel that moves along a row only turns about the vertical, so a pattern is stored once per
row, relative to the kernel's own meridian, and shifted in longitude. Chapter 05 derives the
three kinds; the published variants, with their faults, are in :mod:`sal360.upstream`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sal360._check import (
    ArrayLike,
    as_float64,
    as_image,
    finite_number,
    in_range,
    positive_int,
    whole_number,
)
from sal360._files import write_whole
from sal360.resampling import (
    Mode,
    SamplingTable,
    apply_table,
    computing_dtype,
    erp_table_at,
)
from sal360.sphere import angle_between, lonlat_to_xyz, rotation_matrix, xyz_to_lonlat


@dataclass(frozen=True, eq=False)
class Pattern:
    """The taps of a kernel in every row of a panorama.

    Output pixel ``(i, j)`` has its kernel's centre on image pixel ``(i stride, j stride)``.

    Attributes:
        name: what it is, for titles. H, W: size of the panorama.
        shape: of the kernel, such as ``(3, 3)``; ``K`` is its product.
        lat: ``(H', K)`` latitude of each tap, radians.
        lon: ``(H', K)`` longitude of each tap minus that of the kernel's centre, in [-pi, pi].
        stride: every how many pixels a kernel stands; ``H' = ceil(H / stride)``.
    """

    name: str
    H: int
    W: int
    shape: tuple[int, ...]
    lat: Tensor
    lon: Tensor
    stride: int = 1

    def __post_init__(self) -> None:
        for name, size in (("H", self.H), ("W", self.W), ("stride", self.stride)):
            positive_int(size, name)
        if not isinstance(self.shape, (tuple, list)):
            raise TypeError(f"shape: {self.shape!r}, wanted the kernel's, such as (3, 3)")
        K = math.prod(positive_int(size, "shape") for size in self.shape)
        rows = -(-self.H // self.stride)
        for name, value in (("lat", self.lat), ("lon", self.lon)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: {type(value).__name__}, wanted a tensor")
            if value.shape != (rows, K):
                raise ValueError(f"{name}: shape {tuple(value.shape)}, wanted {(rows, K)}")
            top = math.pi if name == "lon" else math.pi / 2
            if not bool((value.abs() <= top + 1e-9).all()):  # NaN fails too
                raise ValueError(f"{name}: holds values beyond +-{top:.4g}, wanted radians within")

    def __repr__(self) -> str:
        return f"<Pattern {self.name} on {self.H} x {self.W}, stride {self.stride}>"

    @property
    def taps(self) -> int:
        """Number of taps, ``K``."""
        return math.prod(self.shape)

    def directions(self, row: int, col: float = 0.0) -> Tensor:
        """Where the kernel in one output pixel looks: ``(*shape, 3)`` float64 unit vectors.

        Args:
            row: output row; -1 is the last one. col: output column, which may lie between pixels.
        """
        col = finite_number(col, "col")
        centre = ((col * self.stride + 0.5) / self.W - 0.5) * 2 * math.pi
        xyz = lonlat_to_xyz(self.lon[self._row(row)] + centre, self.lat[self._row(row)])
        return xyz.reshape(*self.shape, 3)

    def pixels(self, row: int, col: float = 0.0) -> tuple[Tensor, Tensor]:
        """Rows and columns of the taps in the image, as real numbers, each of the kernel's shape.

        Columns continue beyond the image's edges; take them modulo ``W``.
        """
        i, col = self._row(row), finite_number(col, "col")
        rows = (0.5 - self.lat[i] / math.pi) * self.H - 0.5
        cols = col * self.stride + self.lon[i] * (self.W / (2 * math.pi))
        return rows.reshape(self.shape), cols.reshape(self.shape)

    def shifted(self, lon: ArrayLike) -> Pattern:
        """The same kernel looking ``lon`` radians further to the right (one value or one a row)."""
        turn = as_float64(lon, "lon").to(self.lon.device)
        if turn.ndim > 1 or (turn.ndim == 1 and len(turn) != len(self.lon)):
            wanted = f"one number or {len(self.lon)}, one a row"
            raise ValueError(f"lon: shape {tuple(turn.shape)}, wanted {wanted}")
        turn = turn[:, None] if turn.ndim == 1 else turn
        return replace(self, lon=_wrapped(self.lon + turn))

    def separation(self, other: Pattern) -> Tensor:
        """Angle between the taps of two patterns of one size and shape: ``(H', K)`` radians."""
        if not isinstance(other, Pattern):
            raise TypeError(f"other: {type(other).__name__}, wanted a Pattern")
        mine = (self.H, self.W, self.shape, self.stride)
        theirs = (other.H, other.W, other.shape, other.stride)
        if mine != theirs:
            raise ValueError(f"other: (H, W, shape, stride) {theirs}, wanted {mine}")
        return angle_between(lonlat_to_xyz(self.lon, self.lat), lonlat_to_xyz(other.lon, other.lat))

    def row_table(self, mode: Mode = "bilinear") -> tuple[Tensor, Tensor, Tensor]:
        """Pixels and weights of the kernels in output column 0; the others are shifts of them.

        Returns:
            ``rows, cols, weights``, each ``(H', K, k)`` with ``k`` pixels for each tap (4 when
            bilinear). The kernel in column ``j`` reads columns ``(cols + j stride) % W``.
        """
        row = (0.5 - self.lat / math.pi) * self.H - 0.5
        col = self.lon * (self.W / (2 * math.pi))
        table = erp_table_at(row.flatten(), col.flatten(), self.H, self.W, mode)
        shape = (*self.lat.shape, -1)
        rows = torch.div(table.pixels, self.W, rounding_mode="floor")
        return (
            rows.reshape(shape),
            (table.pixels - rows * self.W).reshape(shape),
            table.weights.reshape(shape),
        )

    def table(self, mode: Mode = "bilinear") -> SamplingTable:
        """Pixels and weights of every kernel, in the order ``(H', W', K)``."""
        rows, cols, weights = self.row_table(mode)
        shift = torch.arange(0, self.W, self.stride, device=cols.device)[:, None, None]
        moved = torch.remainder(cols[:, None] + shift, self.W)
        pixels = (rows[:, None] * self.W + moved).flatten(0, 2)
        return SamplingTable(pixels, weights[:, None].expand_as(moved).flatten(0, 2))

    def read(self, image: ArrayLike, mode: Mode = "bilinear") -> Tensor:
        """What every kernel sees: the readable reference, which holds K images at once.

        Args:
            image: ``(B, C, H, W)`` floating.
        Returns:
            ``(B, C, K, H', W')``. A convolution is ``einsum("ock,bckij->boij", weight, read)``.
        """
        image = as_image(image)
        if tuple(image.shape[-2:]) != (self.H, self.W):
            raise ValueError(f"image: {tuple(image.shape[-2:])} pixels, wanted {(self.H, self.W)}")
        read = apply_table(image.to(computing_dtype(image)), self.table(mode)).to(image.dtype)
        read = read.unflatten(-1, (self.lat.shape[0], -1, self.taps))
        return read.movedim(-1, 2).contiguous()

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, which holds numbers and cannot run code.

        Raises:
            OSError: the folder is missing or may not be written to.
        """
        from safetensors.torch import save

        about = {"name": self.name, "size": [self.H, self.W, self.stride], "shape": self.shape}
        # Clones: two tensors of one file may not share their memory.
        parts = (("lat", self.lat), ("lon", self.lon))
        tensors = {name: part.clone(memory_format=torch.contiguous_format) for name, part in parts}
        write_whole(path, save(tensors, {"sal360.pattern": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | Path) -> Pattern:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError. ValueError: another kind of file, or one that does not fit itself.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                about = json.loads((file.metadata() or {})["sal360.pattern"])
                lat, lon = file.get_tensor("lat"), file.get_tensor("lon")
            H, W, stride = (positive_int(v, "size") for v in about["size"])
            shape = tuple(positive_int(v, "shape") for v in about["shape"])
            return cls(
                str(about["name"]), H, W, shape, as_float64(lat, "lat"), as_float64(lon, "lon"),
                stride,
            )  # fmt: skip
        except FileNotFoundError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a sal360 pattern ({error})") from error

    def _row(self, row: Any) -> int:
        rows, row = self.lat.shape[0], whole_number(row, "row")
        if not -rows <= row < rows:
            raise ValueError(f"row: {row}, wanted one of {rows} output rows")
        return row


def tangent_pattern(
    H: int,
    W: int,
    kernel_size: int | tuple[int, int] = 3,
    dilation: int = 1,
    stride: int = 1,
) -> Pattern:
    """The square neighbourhood of an equator pixel, carried to every latitude without deforming.

    Projecting the neighbourhood on the tangent plane and back at another latitude (the gnomonic
    projection, which gives these kernels their name) is one rotation of the sphere, so that is
    how it is computed. SST-Sal's 3 x 3 kernel is this one, but for faults that are kept in
    :func:`sal360.upstream.tangent_coordinates`. Derived in chapter 05.

    Args:
        H, W: size of the panorama.
        kernel_size: odd, or ``(rows, columns)``, both odd.
        dilation: pixel steps between neighbouring taps, at the equator.
        stride: every how many pixels a kernel stands.
    Returns:
        A pattern whose taps are in reading order: row 0 looks up, column 0 looks left.
    Raises:
        ValueError: an even size, or a kernel that reaches the edge of the tangent plane, 90
            degrees from its centre.
    """
    H, W, stride = positive_int(H, "H"), positive_int(W, "W"), positive_int(stride, "stride")
    dilation = positive_int(dilation, "dilation")
    single = not isinstance(kernel_size, (tuple, list))
    kh, kw = _as_pair((kernel_size, kernel_size) if single else kernel_size)
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"kernel_size: {kernel_size}, wanted an odd number or two of them")
    steps = (kh // 2) * dilation * math.pi / H, (kw // 2) * dilation * 2 * math.pi / W
    if max(steps) >= math.pi / 2:
        raise ValueError(
            f"kernel_size: {kernel_size} with dilation {dilation} reaches "
            f"{math.degrees(max(steps)):.0f} degrees from its centre, wanted less than 90"
        )
    up = (kh // 2 - torch.arange(kh, dtype=torch.float64)) * (dilation * math.pi / H)
    right = (torch.arange(kw, dtype=torch.float64) - kw // 2) * (dilation * 2 * math.pi / W)
    return _carried(
        f"tangent {kh} x {kw}" + (f", dilation {dilation}" if dilation > 1 else ""),
        *(H, W, (kh, kw), stride),
        lonlat_to_xyz(right, up[:, None]).reshape(-1, 3),
    )


def crown_pattern(
    H: int, W: int, kernel_size: tuple[int, int], radius: float, stride: int = 1
) -> Pattern:
    """Taps on circles around the kernel's centre, like the points of a crown seen from above.

    After Zhang et al. 2018. Their columns 0 and ``Kp - 1`` share one bearing and so hold two
    weights for one place; here the ``Kp`` bearings are all different. All taps of circle 0 are
    the centre itself. Derived in chapter 05.

    Args:
        H, W: size of the panorama.
        kernel_size: ``(Kt, Kp)``: circles, the centre counted as one, and taps on each.
        radius: of the outer circle, radians, in (0, pi].
        stride: every how many pixels a kernel stands.
    Returns:
        A pattern of shape ``(Kt, Kp)``: tap ``(v, u)`` lies at distance
        ``radius v / (Kt - 1)``, bearing south for ``u = 0``, then east, north and west. With
        ``Kt = 1`` there is only the centre.
    """
    H, W, stride = positive_int(H, "H"), positive_int(W, "W"), positive_int(stride, "stride")
    Kt, Kp = _as_pair(kernel_size)
    radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
    away = (torch.arange(Kt, dtype=torch.float64) * (radius / max(Kt - 1, 1)))[:, None]
    bearing = torch.arange(Kp, dtype=torch.float64) * (2 * math.pi / Kp)
    name = f"crown {Kt} x {Kp}, radius {math.degrees(radius):.3g} degrees"
    return _carried(name, H, W, (Kt, Kp), stride, _around(away, bearing).reshape(-1, 3))


def ring_pattern(H: int, W: int, radius: float | None = None, stride: int = 1) -> Pattern:
    """Eight taps on one circle around the centre, in the slots of a 3 x 3 kernel.

    After the neighbour table of Vo et al. 2020, whose one published entry shows eight points at
    bearings 45 degrees apart, the diagonal ones as far away as the others. The table itself,
    rounded to whole pixels, is :func:`sal360.upstream.ring_table`. Derived in chapter 05.

    Args:
        H, W: size of the panorama.
        radius: of the circle, radians, in (0, pi]; one row, ``pi / H``, unless given.
        stride: every how many pixels a kernel stands.
    """
    H, W, stride = positive_int(H, "H"), positive_int(W, "W"), positive_int(stride, "stride")
    radius = math.pi / H if radius is None else radius
    radius = in_range(radius, "radius", 0.0, math.pi, "radians", closed=True)
    # South is 0 and east a quarter turn: the slots, in reading order, name their bearings.
    eighths = torch.tensor([5, 4, 3, 6, 0, 2, 7, 0, 1], dtype=torch.float64)
    away = torch.full((9,), radius, dtype=torch.float64)
    away[4] = 0.0
    taps = _around(away, eighths * (math.pi / 4))
    name = f"ring, radius {math.degrees(radius):.3g} degrees"
    return _carried(name, H, W, (3, 3), stride, taps)


def _as_pair(kernel_size: Any) -> tuple[int, int]:
    if not isinstance(kernel_size, (tuple, list)) or len(kernel_size) != 2:
        raise ValueError(f"kernel_size: {kernel_size!r}, wanted two whole numbers")
    first, second = (positive_int(k, "kernel_size") for k in kernel_size)
    return first, second


def _around(away: Tensor, bearing: Tensor) -> Tensor:
    """Points at a distance and bearing (0 south, then east) from straight ahead: ``(..., 3)``."""
    away, bearing = torch.broadcast_tensors(away, bearing)
    x, y = torch.sin(away) * torch.sin(bearing), torch.sin(away) * torch.cos(bearing)
    return torch.stack((x, y, torch.cos(away)), dim=-1)


def _carried(
    name: str, H: int, W: int, shape: tuple[int, ...], stride: int, taps: Tensor
) -> Pattern:
    """Carry taps ``(K, 3)`` of a kernel that looks straight ahead to every row's latitude."""
    centre = (0.5 - (torch.arange(0, H, stride, dtype=torch.float64) + 0.5) / H) * math.pi
    pitch = rotation_matrix(0.0, centre)
    lon, lat = xyz_to_lonlat(taps @ pitch.transpose(-1, -2))
    return Pattern(name, H, W, shape, lat, _wrapped(lon), stride)


def _wrapped(lon: Tensor) -> Tensor:
    """Longitude in [-pi, pi)."""
    return torch.remainder(lon + math.pi, 2 * math.pi) - math.pi
