"""The fields that layers are asked about, and where their answers lie on the sphere.

A field is a sum of spherical harmonics in closed form, so it is known in any direction. An answer
is known at its pixels alone: here is where those lie on a panorama and on the faces of a cube, how
to read between them, and how to carry them on to a seam, a pole, an edge or a corner.
:mod:`sal360.nn.equivariance` asks with it. Derived in chapter 06.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sal360.cubemap import cube_directions, cube_pixel
from sal360.resampling import SamplingTable, apply_table
from sal360.sphere import lonlat_to_xyz, xyz_to_lonlat


class Field:
    """A sum of zonal harmonics ``P_l(a . d)`` about random axes ``a``, of rms about 1."""

    def __init__(self, channels: int, degree: int, source: torch.Generator) -> None:
        self.degrees = torch.arange(1, degree + 1).repeat_interleave(3)
        a = torch.randn(len(self.degrees), 3, generator=source, dtype=torch.float64)
        self.axes = a / torch.linalg.vector_norm(a, dim=1, keepdim=True)
        shape = channels, len(self.degrees)
        mix = torch.randn(shape, generator=source, dtype=torch.float64)
        self.mix = mix * ((2 * self.degrees + 1) / len(self.degrees)).sqrt()

    def __call__(self, xyz: Tensor, laplacian: bool = False) -> Tensor:
        """At unit vectors ``(H, W, 3)`` or ``(6, S, S, 3)``: ``(1 or 6, C, H, W)``."""
        xyz = xyz if xyz.ndim == 4 else xyz[None]
        cosine = xyz @ self.axes.T
        before, now, done = torch.ones_like(cosine), cosine, []
        for n in range(1, int(self.degrees[-1]) + 1):
            done.append(now[..., :3])  # three of each degree; the others go on
            cosine, before, now = (part[..., 3:] for part in (cosine, before, now))
            before, now = now, ((2 * n + 1) * cosine * now - n * before) / (n + 1)
        basis = torch.cat(done, -1)
        eigenvalue = -self.degrees * (self.degrees + 1) if laplacian else 1
        return torch.einsum("bijn,cn->bcij", basis * eigenvalue, self.mix)


class Panorama:
    """The pixels of an answer: where they lie on the sphere, and how to read between them."""

    def __init__(self, kind: str, size: tuple[int, int], out: tuple[int, int]) -> None:
        self.kind, self.out = kind, out
        (first, step), (self.left, self.across) = _places(kind, size, out)
        self.width = size[1]
        self.down = (first + step * count(out[0]) + 0.5) * (math.pi / size[0])
        lon = ((self.left + self.across * count(out[1]) + 0.5) / size[1] - 0.5) * 2 * math.pi
        self.directions = lonlat_to_xyz(lon, (math.pi / 2 - self.down)[:, None])
        between = (self.down[1:] + self.down[:-1]) / 2
        edges = torch.cat((torch.zeros(1), between, torch.full((1,), math.pi)))
        self.area = (edges[:-1].cos() - edges[1:].cos())[:, None].expand(out)

    def turned(self, answer: Tensor, R: Tensor) -> Tensor:
        """``answer o R^-1`` at the pixels, by six-point Lagrange interpolation each way."""
        H, W = self.out
        lon, lat = (part.flatten() for part in xyz_to_lonlat(self.directions @ R))
        # Along a meridian the rows go on over both poles, half a turn away.
        rows = torch.cat((torch.arange(3).flip(0), torch.arange(H), H - 1 - torch.arange(3)))
        beyond = torch.zeros(H + 6)
        beyond[:3] = beyond[-3:] = W / 2
        nodes = self.down[rows]
        nodes[:3] *= -1
        nodes[-3:] = 2 * math.pi - nodes[-3:]
        down = math.pi / 2 - lat
        near = torch.searchsorted(nodes, down, right=True)[:, None] + torch.arange(-3, 3)
        weights = lagrange(nodes[near], down)
        col = ((lon / (2 * math.pi) + 0.5) * self.width - 0.5 - self.left) / self.across
        place = col[:, None] + beyond[near]
        start = torch.floor(place)[..., None] + torch.arange(-2, 4)
        parts = weights[..., None] * lagrange(start, place)
        pixels = rows[near][..., None] * W + torch.remainder(start, W).long()
        table = SamplingTable(pixels.flatten(1), parts.flatten(1))
        return apply_table(answer, table).reshape(answer.shape)

    def step(self, answer: Tensor) -> Tensor:
        """The usual difference between one row and the next, away from seam and poles."""
        return rms(answer[..., 2:-2, 2:-2].diff(dim=-2))

    def jumps(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Across the seam, and between the meridians' ideas of the value at a pole."""
        edge = lagrange(count(4) + 0.5, torch.tensor(0.0))
        seam = rms(answer[..., :4] @ edge - answer[..., -4:].flip(-1) @ edge)
        ends = [(answer[..., :4, :], self.down[:4])]
        ends.append((answer[..., -4:, :].flip(-2), math.pi - self.down[-4:].flip(0)))
        poles = [
            torch.einsum("bcij,i->bcj", rows, lagrange(nodes, torch.tensor(0.0)))
            for rows, nodes in ends
        ]
        return seam, torch.stack([disagreement(values) for values in poles]).max()


class Cube:
    """The same for six faces; each is read from its own texels alone, four each way."""

    def __init__(self, kind: str, size: tuple[int, int], out: tuple[int, int]) -> None:
        self.kind, self.out, self.S = kind, out, size[0]
        (self.first, self.across), _ = _places(kind, size, out)
        one, two = cube_directions(1)[:, 0, 0], cube_directions(2)
        self.frames = torch.stack((two[:, 0, 1] - two[:, 0, 0], two[:, 1, 0] - two[:, 0, 0], one))
        place = (2 * (self.first + self.across * count(out[0])) + 1 - self.S) / self.S
        v, u = torch.meshgrid(place, place, indexing="ij")
        xyz = self.on_faces(u, v)
        self.place, self.area = place, (1 + u * u + v * v) ** -1.5
        self.directions = xyz / torch.linalg.vector_norm(xyz, dim=-1, keepdim=True)

    def on_faces(self, u: Tensor, v: Tensor) -> Tensor:
        """Points ``(6, *u.shape, 3)`` of the cube at ``u`` right and ``v`` down in each face."""
        on_face = torch.stack((u, v, torch.ones_like(u)), dim=-1)
        return torch.einsum("kfw,...k->f...w", self.frames, on_face)

    def read(self, answer: Tensor, face: Tensor, xyz: Tensor) -> Tensor:
        """``(6, C', S', S')`` in directions ``(N, 3)`` by the texels of the faces ``(N,)``."""
        S = self.out[0]
        right, down, depth = (self.frames[:, face] * xyz).sum(-1)
        index, weights = [], []
        for part in (down, right):
            where = ((part / depth * self.S + self.S - 1) / 2 - self.first) / self.across
            start = torch.floor(where - 1).clamp(0, S - 4)[:, None] + count(4)
            index.append(start.long())
            weights.append(lagrange(start, where))
        rows = face[:, None] * S + index[0]
        pixels = rows[:, :, None] * S + index[1][:, None]
        table = SamplingTable(
            pixels.flatten(1), (weights[0][:, :, None] * weights[1][:, None]).flatten(1)
        )
        return apply_table(answer.transpose(0, 1).reshape(1, -1, 6 * S, S), table)[0]

    def turned(self, answer: Tensor, R: Tensor) -> Tensor:
        """``answer o R^-1`` at the texels."""
        xyz = (self.directions @ R).reshape(-1, 3)
        read = self.read(answer, cube_pixel(xyz, self.S)[0], xyz)
        return read.reshape(-1, 6, *self.out).transpose(0, 1)

    def step(self, answer: Tensor) -> Tensor:
        """The usual difference between one texel and the next, away from the edges."""
        inner = answer[..., 2:-2, 2:-2]
        return rms(torch.cat((inner.diff(dim=-1).flatten(), inner.diff(dim=-2).flatten())))

    def jumps(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Across the worst edge, and between the three faces at the worst corner."""
        along, end = self.place, torch.ones_like(self.place)
        sides = ((along, end), (along, -end), (end, along), (-end, along))
        edges = torch.stack([self.on_faces(*uv) for uv in sides], dim=1)  # (6, 4, S', 3)
        own = count(6).long()[:, None, None].expand(edges.shape[:-1])
        depth = edges @ self.frames[2].T
        other = depth.scatter(-1, own[..., None], -9.0).argmax(-1)
        points = edges.reshape(-1, 3)
        jump = self.read(answer, own.flatten(), points) - self.read(answer, other.flatten(), points)
        each = jump.reshape(-1, 24, len(along)).square().mean((0, 2)).sqrt()

        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        corners = torch.cartesian_prod(signs, signs, signs)
        meeting = (corners @ self.frames[2].T).topk(3).indices  # (8, 3)
        at = corners[:, None].expand(8, 3, 3).reshape(-1, 3)
        values = self.read(answer, meeting.flatten(), at).reshape(-1, 8, 3)
        return each.max(), torch.stack([disagreement(v) for v in values.unbind(1)]).max()


def _places(kind: str, size: tuple[int, int], out: tuple[int, int]) -> list[tuple[float, float]]:
    """First position and step of the answer's rows and columns, in pixels of the input."""
    if kind == "strided":
        return [(0.0, math.ceil(n / m)) for n, m in zip(size, out, strict=True)]
    return [((n / m - 1) / 2, n / m) for n, m in zip(size, out, strict=True)]


def kinds(size: tuple[int, int], out: tuple[int, int]) -> list[str]:
    """Where the pixels of an answer may lie: a layer does not say it, so all are tried."""
    if size == out:
        return ["same"]
    (H, W), (h, w) = size, out
    kinds = []
    whole_columns = w <= W and W % w == 0
    if h <= H and whole_columns and math.ceil(H / math.ceil(H / h)) == h:
        kinds.append("strided")
    if (H % h == 0 or h % H == 0) and (whole_columns or w % W == 0):
        kinds.append("cells")
    if not kinds:
        raise ValueError(
            f"layer: makes {h} x {w} pixels of {H} x {W}, wanted the same, or fewer or more by "
            "whole factors (padding for the kernel's width, W a multiple of the stride)"
        )
    return kinds


def lagrange(nodes: Tensor, at: Tensor) -> Tensor:
    """Weights ``(..., n)`` of the polynomial through ``nodes (..., n)``, read at ``(...)``."""
    n = nodes.shape[-1]
    same = torch.eye(n, dtype=torch.bool)
    over = (at[..., None] - nodes)[..., None, :].masked_fill(same, 1.0)
    under = (nodes[..., :, None] - nodes[..., None, :]).masked_fill(same, 1.0)
    return (over / under).prod(-1)


def disagreement(values: Tensor) -> Tensor:
    """Rms difference between two of the values ``(..., n)``, taken at random."""
    return math.sqrt(2) * rms(values - values.mean(-1, keepdim=True))


def rms(x: Tensor) -> Tensor:
    """Root of the mean square."""
    return x.square().mean().sqrt()


def ratio(part: Tensor, whole: Tensor, nothing: float = 0.0) -> float:
    """``part / whole``; nothing of nothing is 0, something of nothing infinite."""
    if float(part) <= nothing:
        return 0.0
    return float(part) / float(whole) if float(whole) > nothing else math.inf


def count(n: int) -> Tensor:
    """0 to n - 1, float64."""
    return torch.arange(n, dtype=torch.float64)
