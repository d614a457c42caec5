"""Chapter 10: heads to study, exercises on speed, maps, agreement, bandwidth, planted faults.

The heads are those of AVTrack360 where the files are at hand, else the book's synthetic observers
in worlds of the test split; each says which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360 import gaze
from sal360.course.checking import Case, ask, exercise
from sal360.datasets import download
from sal360.datasets.layouts.avtrack360 import AVTrack360
from sal360.gaze.windows import interpolate
from sal360.metrics import cc
from sal360.sphere import (
    erp_directions,
    erp_index,
    lonlat_to_xyz,
    pixel_area,
    sample_sphere,
    sample_von_mises_fisher,
    von_mises_fisher,
    xyz_to_lonlat,
)

RATE = 10.0
"""Samples per second: AVTrack360 was recorded at about this rate."""
SECONDS = (0.5, 29.5)
FAULTS = ("lost", "low", "cut", "once")
Maker = Callable[[Tensor, int, int], Tensor]


class Heads(NamedTuple):
    """Where heads pointed while videos were shown.

    Attributes:
        xyz: ``(V, O, T, 3)`` float64 unit vectors: V videos, O observers, the same in each.
        t: ``(T,)`` seconds. real: whether people wore the headset.
        note: what it is, for the page.
        videos: V names.
    """

    xyz: Tensor
    t: Tensor
    real: bool
    note: str
    videos: tuple[str, ...]

    @property
    def lonlat(self) -> Tensor:
        """``(V, O, T, 2)`` longitude and latitude, radians."""
        return torch.stack(xyz_to_lonlat(self.xyz), -1)


@lru_cache(maxsize=1)
def heads() -> Heads:
    """AVTrack360's 48 observers of 20 videos, or 48 synthetic observers of 10 worlds."""
    t = torch.arange(SECONDS[0], SECONDS[1], 1 / RATE, dtype=torch.float64)
    if _avtrack_is_here():
        data = AVTrack360()
        traces = [data.traces(video) for video in data.videos]
        found = [interpolate(*trace[1:4], t, max_gap_s=1.0) for trace in traces]
        xyz = torch.stack([lonlat_to_xyz(lon, lat) for lon, lat in found])
        note = f"AVTrack360: {xyz.shape[1]} people, {len(xyz)} videos of 30 s,\nheads, not eyes."
        return Heads(xyz, t, True, note, data.videos)
    xyz, _, videos = synthetic(10)
    note = (
        "The book's synthetic observers: a program,\nnot people. The real traces (AVTrack360)\n"
        "were neither in the cache nor to be\ndownloaded when this ran."
    )
    return Heads(xyz, t, False, note, videos)


def picture(video: int) -> tuple[NDArray[np.uint8] | None, str]:
    """A panorama ``(h, w, 3)`` of a video of :func:`heads` and its credit; None for a world."""
    found = heads()
    name = found.videos[video]
    if not found.real or not download.available(f"avtrack360/images/{name}.jpg"):
        return None, f"heads in {name}"
    data = AVTrack360()
    return data.picture(name), f"{data.title(name)} (AVTrack360, 2018)"


@lru_cache(maxsize=2)
def synthetic(worlds: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Heads and gaze of 48 synthetic observers at the times of :func:`heads`.

    Returns:
        heads, gaze ``(worlds, 48, T, 3)``, and names of the worlds.
    """
    from sal360.datasets.synthetic.observers import watch
    from sal360.datasets.synthetic.world import draw_world

    begin, end = SECONDS
    found = []
    for seed in range(worlds):
        frames = torch.arange(0, 30, 1 / RATE, dtype=torch.float64)
        seen = watch(draw_world(seed, "test", 30.0), frames, n=48, seed=0)
        step = round(1 / (RATE * float(seen.clock[1] - seen.clock[0])))
        some = (seen.clock[::step] > begin - 1e-6) & (seen.clock[::step] < end - 1e-6)
        found.append(torch.stack((seen.head[:, ::step][:, some], seen.gaze[:, ::step][:, some])))
    both = torch.stack(found, 1)
    return both[0], both[1], tuple(f"test world {seed}" for seed in range(worlds))


def _avtrack_is_here() -> bool:
    names = [n for n in download.registry() if n.startswith("avtrack360/") and n.endswith("json")]
    return bool(names) and all(map(download.available, names))


def _trace(
    places: Sequence[tuple[float, float]], t: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    lon, lat = torch.deg2rad(torch.tensor(places, dtype=torch.float64)).unbind(-1)
    return lon, lat, torch.tensor(t, dtype=torch.float64)


@exercise("10.1")
def speed_of_a_trace(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(lon, lat, t) -> (N - 1,)`` degrees per second."""
    tiny = math.degrees(1e-7)
    cases = (
        ("a turn along the equator", [(0, 0), (3, 0), (6, 0)], [0, 0.1, 0.2], [30, 30]),
        ("samples that come unevenly", [(0, 0), (3, 0), (6, 0)], [0, 0.1, 0.4], [30, 10]),
        ("up a meridian", [(20, 10), (20, 12)], [0, 0.5], [4]),
        ("across the seam", [(179, 0), (-179, 0)], [0, 0.1], [20]),
        ("a turn at 60 degrees latitude", [(0, 60), (0.02, 60)], [0, 0.1], [0.1]),
        ("over the pole", [(30, 89), (-150, 89)], [0, 0.1], [20]),
        ("on the pole, where longitude means nothing", [(0, 90), (77, 90)], [0, 0.1], [0]),
        ("a movement of 1e-7 radians, at which the arc cosine of a product is inexact",
         [(10, 20), (10, 20 + tiny)], [0, 0.1], [10 * tiny]),
        ("half a turn, to the opposite point", [(50, -15), (230, 15)], [0, 0.5], [360]),
    )  # fmt: skip
    for name, places, t, wanted in cases:
        got = torch.as_tensor(ask(answer, *_trace(places, t))).double()
        right = torch.tensor(wanted, dtype=torch.float64)
        yield Case("one speed from each sample to the next", got.shape == right.shape,
                   f"{name}: shape {tuple(got.shape)}, wanted {tuple(right.shape)}")  # fmt: skip
        off = ~((got - right).abs() <= 1e-4 * right + 1e-9)  # NaN is wrong too
        shown = [f"{v:.4g}" for v in got.tolist()]
        yield Case(
            "degrees of arc per second, anywhere",
            not bool(off.any()),
            f"{name}, {places} at {t} s: you gave {', '.join(shown)}, wanted {wanted}"
            + _usual_speed(got, right),
        )


def _usual_speed(got: Tensor, wanted: Tensor) -> str:
    if torch.allclose(torch.rad2deg(got), wanted, rtol=1e-3):
        return " (yours are radians per second)"
    return ""


def _blobs(points: Tensor, weights: Tensor, H: int, W: int, sigma_deg: float) -> Tensor:
    kappa, rays = 1 / math.radians(sigma_deg) ** 2, erp_directions(H, W)
    total = torch.zeros(H, W, dtype=torch.float64)
    for at, weight in zip(lonlat_to_xyz(*points.T), weights, strict=True):
        total += weight * von_mises_fisher(rays, at, kappa)
    return total / (total * pixel_area(H, W)[:, None]).sum()


@exercise("10.2")
def weighted_map(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(lon, lat, weights, H, W, sigma_deg) -> (H, W)`` density of mass 1."""
    sets = {
        "one fixation at the front": ([(0, 0)], [1.0]),
        "one fixation at 70 degrees": ([(40, 70)], [1.0]),
        "one fixation on the seam": ([(179, -20)], [1.0]),
        "one fixation beside the pole": ([(10, 88)], [1.0]),
        "two, one of them 3 times as long": ([(0, 0), (90, 30)], [0.2, 0.6]),
        "the same place twice, and another": ([(0, 0), (0, 0), (-90, 10)], [1.0, 1.0, 1.0]),
        "one of no duration": ([(0, 0), (120, -60)], [1.0, 0.0]),
    }
    for name, (places, durations) in sets.items():
        points = torch.deg2rad(torch.tensor(places, dtype=torch.float64))
        weights = torch.tensor(durations, dtype=torch.float64)
        for H, W, sigma in ((45, 90, 10.0), (60, 120, 20.0)):
            got = torch.as_tensor(
                ask(answer, points[:, 0], points[:, 1], weights, H, W, sigma)
            ).double()
            where = f"{name}, {H} x {W}, sigma {sigma:g}"
            yield Case("a map of the size asked for", got.shape == (H, W),
                       f"{where}: shape {tuple(got.shape)}")  # fmt: skip
            area = pixel_area(H, W)[:, None]
            mass = float((got * area).sum())
            pixels = ". Over pixels it does sum to 1" if abs(float(got.sum()) - 1) < 1e-3 else ""
            yield Case("mass 1 over the sphere", abs(mass - 1) < 1e-3,
                       f"{where}: {mass:.4g}{pixels}")  # fmt: skip
            right = _blobs(points, weights, H, W, sigma)
            off, turned = (
                float(((got - wanted).abs() * area).sum()) / 2 for wanted in (right, right.flip(0))
            )
            upside_down = " (it lies upside down: y points down)" if turned < 5e-3 < off else ""
            yield Case(
                "round blobs, in proportion to the weights",
                off < 5e-3,
                f"{where}: {off:.1%} of the mass is elsewhere{upside_down}",
            )


def _crowd(seed: int, O: int, n: int, spread: float) -> tuple[Tensor, Tensor]:
    """Directions ``(O n, 3)`` and whose they are: observers dwell on places they choose."""
    draw = torch.Generator().manual_seed(seed)
    places = sample_sphere(4, draw)
    found = []
    for _ in range(O):
        for _ in range(n // 5):
            place = places[int(torch.randint(0, 4, (1,), generator=draw))]
            glance = sample_von_mises_fisher(place, 1 / math.radians(spread) ** 2, 1, draw)[0]
            found.append(sample_von_mises_fisher(glance, 1 / math.radians(1) ** 2, 5, draw))
    return torch.cat(found), torch.arange(O).repeat_interleave(n)


@exercise("10.3")
def leave_one_out(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(O, H, W) maps -> (O,)`` CC of each observer with the mean of the others."""
    H, W = 30, 60
    alike = _blobs(torch.tensor([[0.5, 0.2]]), torch.ones(1), H, W, 20.0).expand(3, H, W)
    got = torch.as_tensor(ask(answer, alike.clone()))
    yield Case("one number for each observer", got.shape == (3,), f"shape {tuple(got.shape)}")
    yield Case("observers who look alike agree: 1", bool((got - 1).abs().max() < 1e-6),
               f"three equal maps: you gave {got.tolist()}")  # fmt: skip
    for seed, people in ((1, 2), (2, 3), (3, 8)):
        xyz, who = _crowd(seed, people, 10, 15)
        maps = gaze.fixation_maps(
            [torch.stack(xyz_to_lonlat(xyz[who == o]), -1) for o in range(people)], H, W, 10.0
        ).double()
        rest = (maps.sum(0) - maps) / (people - 1)
        wanted, got = cc(maps, rest), torch.as_tensor(ask(answer, maps.clone())).double()
        hints = {
            " (the observer is among the others)": cc(maps, maps.mean(0).expand_as(maps)),
            " (all pixels count alike there, whatever their area)": cc(maps, rest, "pixels"),
        }
        hint = "".join(h for h, v in hints.items() if torch.allclose(got, v, atol=1e-4))
        yield Case(
            "each against the mean of the others, by area",
            torch.allclose(got, wanted, atol=1e-3),
            f"{people} observers: you gave {', '.join(f'{v:.3f}' for v in got)}; "
            f"wanted {', '.join(f'{v:.3f}' for v in wanted)}{hint}",
        )


def _likelihoods(
    xyz: Tensor, who: Tensor, sigmas: list[float], by: str = "observer", mass: bool = True
) -> Tensor:
    """Mean log density of each direction under the blobs of the others, for each width.

    Args:
        by: what is left out, ``"observer"`` or ``"sample"``. mass: each blob has mass 1; else its
            peak is 1, whatever its width.
    """
    drop = (xyz @ xyz.T).clamp(max=1) - 1
    same = who[:, None] == who if by == "observer" else torch.eye(len(who), dtype=torch.bool)
    out = []
    for sigma in sigmas:
        kappa = 1 / math.radians(sigma) ** 2
        top = math.log(kappa / (2 * math.pi * -math.expm1(-2 * kappa))) if mass else 0.0
        log_p = torch.logsumexp((kappa * drop).masked_fill(same, -math.inf), 1)
        out.append((log_p + top - torch.log((~same).sum(1))).mean())
    return torch.stack(out)


@exercise("10.4")
def bandwidth(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(lon, lat, observer, sigmas) -> `` the width that predicts observers left out best."""
    sigmas = [1.0, 2.0, 4.0, 8.0, 12.0, 20.0, 40.0, 60.0]
    for seed, people, n, spread in ((11, 6, 20, 12), (12, 10, 40, 6), (13, 3, 20, 40)):
        xyz, who = _crowd(seed, people, n, spread)
        mixed = torch.randperm(len(who), generator=torch.Generator().manual_seed(seed))
        xyz, who = xyz[mixed], who[mixed]  # `observer` tells whose they are, not the order
        lon, lat = xyz_to_lonlat(xyz)
        wanted = sigmas[int(_likelihoods(xyz, who, sigmas).argmax())]
        sample = sigmas[int(_likelihoods(xyz, who, sigmas, "sample").argmax())]
        got = float(ask(answer, lon, lat, who.clone(), list(sigmas)))
        flat = sigmas[int(_likelihoods(xyz, who, sigmas, mass=False).argmax())]
        hints = {
            sample: " (does a person help to predict the same person?)",
            flat: " (does each blob have mass 1?)",
        }
        number = got not in sigmas and got == sigmas.index(wanted)
        hint = " (that is its number in the list)" if number else hints.get(got, "")
        yield Case(
            "the width under which observers that were left out are most likely",
            got == wanted,
            f"{people} observers, {n} samples each: you gave {got:g}, wanted {wanted:g}{hint}",
        )


def planted_maker(*faults: str, sigma_deg: float = 9.0, top: bool = False) -> Maker:
    """A program ``(points, H, W) -> (H, W)`` that makes maps of fixations, with planted faults.

    Args:
        faults: of ``"lost"`` (fixations in the last two rows leave nothing), ``"low"`` (blobs sit
            one and a half rows too low), ``"cut"`` (a blob ends at the seam), ``"once"``
            (fixations in one pixel count as one). None: the map is right.
        sigma_deg: width of the blobs. top: ``"lost"`` takes the first two rows instead.
    """
    if unknown := set(faults) - set(FAULTS):
        raise ValueError(f"faults: {sorted(unknown)}, wanted some of {FAULTS}")

    def make(points: Tensor, H: int, W: int) -> Tensor:
        points = torch.as_tensor(points, dtype=torch.float64)
        row, col = erp_index(lonlat_to_xyz(*points.T), H, W)
        keep = torch.ones(len(points), dtype=torch.bool)
        if "lost" in faults:
            keep &= row > 1 if top else row < H - 2
        if "once" in faults:
            first = {(int(r), int(c)): k for k, (r, c) in reversed(list(enumerate(
                zip(row, col, strict=True))))}  # fmt: skip
            keep &= torch.isin(torch.arange(len(points)), torch.tensor(list(first.values())))
        if not bool(keep.any()):
            return torch.zeros(H, W, dtype=torch.float64)
        lon, lat = points[keep].unbind(-1)
        if "low" in faults:
            lat = (lat - 1.5 * math.pi / H).clamp(min=-math.pi / 2)
        kappa, rays = 1 / math.radians(sigma_deg) ** 2, erp_directions(H, W)
        across = xyz_to_lonlat(rays)[0]
        total = torch.zeros(H, W, dtype=torch.float64)
        for x, at in zip(lon, lonlat_to_xyz(lon, lat), strict=True):
            blob = von_mises_fisher(rays, at, kappa)
            if "cut" in faults:
                blob = blob * ((across - x).abs() <= math.pi)
            total += blob
        return total / len(points)

    return make


@exercise("10.5")
def which_faults(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(make, H, W) -> set`` of the faults that show in the maps a program makes."""
    H, W = 60, 120
    makers: list[tuple[tuple[str, ...], Maker]] = [((), planted_maker())]
    makers += [((fault,), planted_maker(fault)) for fault in FAULTS]
    makers += [(("lost",), planted_maker("lost", top=True))]
    makers += [(two, planted_maker(*two)) for two in combinations(FAULTS, 2)]
    makers += [((), planted_maker(sigma_deg=15.0)), (FAULTS, planted_maker(*FAULTS))]
    for faults, make in makers:
        got = set(ask(answer, make, H, W))
        yield Case("names of faults", got <= set(FAULTS), f"{got}, wanted some of {FAULTS}")
        name = ", ".join(faults) or "no fault at all"
        yield Case("a right map is not blamed", not got - set(faults),
                   f"planted: {name}; you blame {sorted(got - set(faults))}")  # fmt: skip
        yield Case("every planted fault is found", not set(faults) - got,
                   f"planted: {name}; you missed {sorted(set(faults) - got)}")  # fmt: skip
