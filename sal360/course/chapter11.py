"""Chapter 11: maps of few numbers, gaze drawn from a map, exercises on losses, planted losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sal360 import losses
from sal360.course.checking import Case, ask, exercise
from sal360.sphere import erp_directions, erp_index, lonlat_to_xyz, pixel_area

LOSSES = ("one measure", "published", "squares by pixel", "swapped", "from the south", "half",
          "similarity", "a column late", "blind rows", "correlation")  # fmt: skip
"""Names that :func:`planted_loss` knows."""


def harmonics(H: int, W: int, degree: int) -> Tensor:
    """Smooth maps: an orthonormal basis of all polynomials of the direction up to a degree.

    Returns:
        ``((degree + 1)^2, H, W)`` float64; the mean over the sphere of a product of two is 1 or 0.
    """
    x, y, z = erp_directions(H, W).unbind(-1)
    powers = [
        (a, b, c)  # z at most once: z^2 is 1 - x^2 - y^2
        for n in range(degree + 1)
        for a in range(n + 1)
        for b in range(n + 1 - a)
        if (c := n - a - b) < 2
    ]
    plain = torch.stack([x**a * y**b * z**c for a, b, c in powers])
    root = (pixel_area(H, W) / (4 * math.pi)).sqrt()[:, None]
    columns = torch.linalg.qr((plain * root).flatten(1).T).Q
    return columns.T.reshape(-1, H, W) / root


def drawn(density: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gaze from a map: ``(n, 2)`` lon, lat at pixel centres, and ``(H, W)`` counts per pixel."""
    H, W = density.shape
    draw = torch.Generator().manual_seed(seed)
    mass = (density.double() * pixel_area(H, W)[:, None]).flatten()
    place = torch.multinomial(mass, n, True, generator=draw)
    lon = (((place % W).double() + 0.5) / W - 0.5) * 2 * math.pi
    lat = (0.5 - ((place // W).double() + 0.5) / H) * math.pi
    counts = torch.bincount(place, minlength=H * W).reshape(H, W).double()
    return torch.stack((lon, lat), -1), counts


def _random_density(H: int, W: int, seed: int, contrast: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return losses.softmax_density(contrast * torch.randn(H, W, generator=draw, dtype=torch.float64))


@exercise("11.1")
def minimiser(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(q, u, v) -> p``: the minimiser of ``sum(u q log(q / p))`` with ``sum(v p) = 1``."""
    H, W = 4, 8
    ones, area = torch.ones(H, W, dtype=torch.float64), pixel_area(H, W)[:, None].expand(H, W)
    cases = (
        ("both count pixels", ones, ones),
        ("both measure area", area, area),
        ("as published: u is area, v counts pixels", area, ones),
        ("the other way round: u counts pixels, v is area", ones, area),
        ("any two weights", 0.5 + _random_density(H, W, 1), 0.5 + _random_density(H, W, 2)),
    )
    q = _random_density(H, W, 0)
    for name, u, v in cases:
        p = torch.as_tensor(ask(answer, q, u, v)).double()
        yield Case("a map above 0 of the size of q", p.shape == q.shape and bool((p > 0).all()),
                   f"{name}: shape {tuple(p.shape)}")  # fmt: skip
        mass = float((v * p).sum())
        yield Case("sum(v p) is 1", abs(mass - 1) < 1e-6, f"{name}: {mass:.6g} is your sum(v p)")
        value = float((u * q * (q / p).log()).sum())
        best = u * q / v / (u * q).sum()
        least = float((u * q * (q / best).log()).sum())
        told = f"{name}: your map costs {value:.5f}, another {least:.5f}"
        yield Case("no other map costs less", value <= least + 1e-6, told)


@exercise("11.2")
def from_logits(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(logits, truth) -> (B,)`` divergences of the truth from the softmax over the sphere."""
    draw = torch.Generator().manual_seed(2)
    cases = []
    for B, H, W in ((1, 3, 4), (1, 8, 16), (3, 6, 12)):
        logits = torch.randn(B, H, W, generator=draw, dtype=torch.float64)
        truth = torch.rand(B, H, W, generator=draw, dtype=torch.float64)
        cases.append((f"{B} maps of {H} x {W}", logits, truth))
    name, logits, truth = cases[1]
    cases += [
        ("a truth of any scale", logits, 1000 * truth),
        ("a truth with zeros", logits, truth * (truth > 0.7)),
        ("logits about 1000", 1000 + logits, truth),
        ("logits 1000 apart", 500 * logits.sign(), truth),
    ]
    for name, logits, truth in cases:
        given = logits.clone().requires_grad_()
        got = torch.as_tensor(ask(answer, given, truth.clone()))
        yield Case("one number for each map", got.shape == logits.shape[:1],
                   f"{name}: shape {tuple(got.shape)}")  # fmt: skip
        right = losses.sphere_kld(logits, truth, from_logits=True, reduction="none")
        off = float((got.detach() - right).abs().max())
        pixels = _planar_kld(logits, truth)
        hint = " (that counts pixels)" if torch.allclose(got.detach(), pixels, rtol=1e-4) else ""
        yield Case(
            "the divergence over the sphere",
            off < 1e-6 * (1 + float(right.abs().max())),
            f"{name}: you gave {float(got.detach()[0]):.5g}, wanted {float(right[0]):.5g}{hint}",
        )
        (slope,) = torch.autograd.grad(got.sum(), given)
        yield Case("a finite gradient", bool(slope.isfinite().all()), f"{name}: it is not")


def _planar_kld(logits: Tensor, truth: Tensor) -> Tensor:
    q = truth / truth.sum((1, 2), keepdim=True)
    p = logits.flatten(1).log_softmax(1).view_as(logits)
    return (torch.xlogy(q, q) - q * p).sum((1, 2))


@exercise("11.3")
def numerical_gradient(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(loss, x) -> (H, W)``: the gradient of a loss at a map, from values alone."""
    truth, x = _random_density(3, 5, 0), _random_density(3, 5, 1)
    pieces: list[tuple[str, Callable[[Tensor], Tensor], Tensor]] = [
        ("the sum of squares", lambda m: (m**2).sum(), x),
        ("sphere_mse", lambda m: losses.sphere_mse(m, truth), x),
        ("sphere_kld", lambda m: losses.sphere_kld(m, truth), x),
        ("sphere_kld of a map 1e-4 high", lambda m: losses.sphere_kld(m, truth), 1e-4 * x),
        ("cc_loss of a map 1000 high", lambda m: losses.cc_loss(m, truth), 1000 * x),
        ("sphere_kld of a float32 map", lambda m: losses.sphere_kld(m, truth), x.float()),
    ]
    for name, loss, at in pieces:
        kept = at.clone()
        watched = _Watched(loss, kept)
        got = torch.as_tensor(ask(answer, watched, at)).detach().double()
        yield Case("one slope for each pixel", got.shape == at.shape,
                   f"{name}: shape {tuple(got.shape)}")  # fmt: skip
        yield Case("the map is given back as it was", torch.equal(at, kept), name)
        yield Case("values alone, without autograd", not watched.autograd,
                   f"{name}: the loss was given a map that requires a gradient")  # fmt: skip
        exact = kept.double().requires_grad_()
        (right,) = torch.autograd.grad(loss(exact), exact)
        off = float((got - right).abs().max() / right.abs().max())
        yield Case(
            "within 1e-5 of the largest slope",
            off < 1e-5,
            f"{name}: off by {off:.1e}; {watched.told()}",
        )


class _Watched:
    """A loss that gives values without a gradient, and keeps how far it was moved."""

    def __init__(self, loss: Callable[[Tensor], Tensor], start: Tensor) -> None:
        self._loss, self._start = loss, start.double()
        self.autograd, self._step, self._single = False, 0.0, False

    def __call__(self, x: Tensor) -> Tensor:
        if x.requires_grad:  # let it pass, so that the answer ends and can be told
            self.autograd = True
            return self._loss(x)
        move = float((x.double() - self._start).abs().max() / self._start.abs().max())
        self._step, self._single = max(self._step, move), x.dtype != torch.float64
        return self._loss(x.detach())

    def told(self) -> str:
        dtype = ", in float32" if self._single else ""
        return f"your largest step was {self._step:.0e} of the map's height{dtype}"


@exercise("11.4")
def what_nss_wants(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(lon, lat, H, W) -> (H, W)``: a map than which none has a larger NSS at the fixations."""
    sets = {
        "one fixation": [(10, 5)],
        "one at the equator, one at 70 degrees": [(10, 5), (100, 70)],
        "three, two of them in one pixel": [(10, 5), (10.5, 5.5), (-60, -40)],
        "one in the last row, one on the seam": [(20, -89.5), (180, 15)],
    }
    for name, places in sets.items():
        lon, lat = torch.deg2rad(torch.tensor(places, dtype=torch.float64)).T
        for H, W in ((9, 18), (18, 36)):
            got = torch.as_tensor(ask(answer, lon, lat, H, W)).double()
            where = f"{name}, {H} x {W}"
            yield Case("a map of the size asked for", got.shape == (H, W),
                       f"{where}: shape {tuple(got.shape)}")  # fmt: skip
            row, col = erp_index(lonlat_to_xyz(lon, lat), H, W)
            counts = torch.bincount(row * W + col, minlength=H * W).view(H, W).double()
            area = pixel_area(H, W)[:, None]
            score, best = (-float(losses.nss_loss(m, counts)) for m in (got, counts / area))
            plain = abs(float(losses.nss_loss(counts, counts)) + score) < 1e-9
            hint = " (counts; per steradian they are others)" if plain else ""
            yield Case(
                "no map has a larger NSS, area in the mean and the deviation",
                score > best - 1e-6,
                f"{where}: yours has {score:.4f}, another {best:.4f}{hint}",
            )


Loss = Callable[[Tensor, Tensor], Tensor]


def planted_loss(name: str) -> tuple[Loss, bool]:
    """A loss of two densities ``(H, W)``, and whether the truth is its only minimiser.

    Args:
        name: one of :data:`LOSSES`.
    Raises:
        ValueError: another name.
    """

    def published(pred: Tensor, truth: Tensor) -> Tensor:
        p, q = pred / pred.sum(), truth / truth.sum()
        return (pixel_area(*pred.shape)[:, None] * q * (q / p).log()).sum()

    def from_the_south(pred: Tensor, truth: Tensor) -> Tensor:
        weight = torch.linspace(0, 2, pred.shape[0], dtype=pred.dtype)[:, None] + 0.1
        return (weight * (pred - truth) ** 2).sum()

    def half(pred: Tensor, truth: Tensor) -> Tensor:
        return losses.sphere_mse(pred, truth / 2)

    def blind(pred: Tensor, truth: Tensor) -> Tensor:
        rows = slice(pred.shape[0] // 4, None)
        return losses.sphere_kld(pred[rows], truth[rows])

    known: dict[str, tuple[Loss, bool]] = {
        "one measure": (losses.sphere_kld, True),
        "published": (published, False),
        "squares by pixel": (lambda p, q: ((p - q) ** 2).mean(), True),
        "swapped": (lambda p, q: losses.sphere_kld(q, p), True),
        "from the south": (from_the_south, True),
        "half": (half, False),
        "similarity": (lambda p, q: 1 - losses.sim_loss(p, q), False),
        "a column late": (lambda p, q: losses.sphere_kld(p, q.roll(1, -1)), False),
        "blind rows": (blind, False),
        "correlation": (losses.cc_loss, False),
    }
    if name not in known:
        raise ValueError(f"name: {name!r}, wanted one of {', '.join(LOSSES)}")
    return known[name]


@exercise("11.5")
def is_the_truth_the_minimiser(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(loss, H, W) -> bool``: whether no density costs less than, or as little as, the truth."""
    for name in LOSSES:
        loss, right = planted_loss(name)
        for H, W in ((6, 12), (8, 16)):
            got = ask(answer, loss, H, W)
            yield Case("True or False", got in (True, False), f"you gave {got!r}")
            told = f'planted: "{name}", {H} x {W}: you gave {bool(got)}, wanted {right}'
            if not right:
                told += f"; {_WHY[name]}"
            yield Case("True where the truth, and no other density, costs least",
                       bool(got) is right, told)  # fmt: skip


_WHY = {
    "published": "sin(theta) times the truth costs less",
    "half": "half of the truth on an even ground is a density too, and costs less",
    "similarity": "the truth costs most: nobody turned the score into a loss",
    "a column late": "the truth turned by a column costs less",
    "blind rows": "other maps cost as little: a quarter of the rows is not looked at",
    "correlation": "half the truth on an even ground costs as little: CC sees no offset",
}
