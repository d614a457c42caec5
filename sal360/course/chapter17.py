"""Chapter 17: a network at hand, excerpts of test worlds, a diagnosis, five exercises."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sal360.course.checking import Case, ask, exercise, name_faults
from sal360.datasets.item import Item, VideoDataset
from sal360.evaluation.statistics import student
from sal360.gaze import fixation_maps
from sal360.metrics import cc
from sal360.models import load_model
from sal360.sphere import angle_between, erp_directions, lonlat_to_xyz, pixel_area

LIGHT = ("cube-unet", "lookup-unet", "sst-sal-noflow")
"""Systems that show 10 s of film in a few seconds on one core."""
BAND = 2 / 3
"""Share of people's agreement below which a video is called one that people disagree on."""
APART, WIDER = 30, 1.5
"""Degrees, and times the area, from which on a place and a width are called wrong."""
FAULTS = ("best seed", "more videos", "unpaired", "reversed")
Spread = tuple[float, float, float]
Board = Callable[[Mapping[str, Tensor], str], Mapping[str, Spread]]


# --- what the chapter looks at ---


def told(text: str) -> None:
    """Print a text in lines of at most 46 characters, all but the first indented."""
    print(textwrap.fill(text, 46, subsequent_indent="  ", break_on_hyphens=False))


def tell_origin(record: Mapping[str, Any]) -> None:
    """Print where a leaderboard's numbers come from, as its record says it.

    Device, time and steps; what was not equal for all rows; how many trainings of each network
    finished, and where those were made that came later.
    """
    told(
        f"scale {record['scale']}; {record['device']}, "
        f"{record['seconds'] / 60:.0f} minutes, {record['settings']['steps']} steps"
    )
    for text in record["unequal"]:
        told(f"not equal: {text}")
    done = {a: [run for run in one["runs"] if run["status"] == "done"]
            for a, one in record["arms"].items()}  # fmt: skip
    for n in sorted({len(runs) for runs in done.values()} - {0}, reverse=True):
        told(f"trained {n} x: " + ", ".join(a for a, runs in done.items() if len(runs) == n))
    made = [run["made"]["device"] for runs in done.values() for run in runs if "made" in run]
    if made:
        told(f"{len(made)} of {sum(map(len, done.values()))} trainings were made later, "
             f"on {', '.join(sorted(set(made)))}")  # fmt: skip


def at_hand(record: Mapping[str, Any]) -> tuple[str, int, nn.Module]:
    """The best row of a leaderboard that can be predicted here, in seconds.

    Bundled weights that are one of the record's runs; without any, equator-front, which needs
    none.

    Returns:
        arm, place of the run in the arm's list, and the model in evaluation mode.
    """
    from sal360.models.shipped import read_index

    found = []
    for system, entry in read_index().items():
        for k, run in enumerate(record["arms"].get(system, {"runs": []})["runs"]):
            if system in LIGHT and run["sha256"] == entry["source"]:
                found.append((sum(run["scores"]["upright"]["cc"]), system, k))
    if not found:
        return "equator-front", 0, load_model("equator-front")
    _, system, k = max(found)
    return system, k, load_model(system, "bundled")


class Excerpts:
    """A few frames from the middle of each of some videos, held in memory; only film and gaze.

    Args:
        dataset: whose. videos: which. frames: how many, around the middle.
    """

    def __init__(self, dataset: VideoDataset, videos: Sequence[str], frames: int = 4) -> None:
        self.name, self.videos = dataset.name, tuple(videos)
        self._frames, self._rate = frames, dataset.rate(self.videos[0])
        self._items: dict[str, Item] = {}
        for video in self.videos:
            start = (dataset.length(video) - frames) // 2
            item = dataset.read(video, start, frames)
            self._items[video] = replace(item, flow=None, depth=None, masks=None)

    def length(self, video: str) -> int:
        """Frames of a video."""
        return len(self._items[video])

    def rate(self, video: str) -> float:
        """Frames per second."""
        return self._rate

    def read(
        self,
        video: str,
        start: int = 0,
        length: int | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Item:
        """The whole excerpt, which is all that can be read."""
        item = self._items[video]
        if start or step != 1 or size not in (None, item.size) or length not in (None, len(item)):
            raise ValueError("start, length, step, size: wanted the whole excerpt as it is")
        return item


def halves_agree(looks: Sequence[Tensor], H: int, W: int) -> float:
    """CC of the maps of every second look with those of the others, the mean over frames.

    Args:
        looks: for each frame ``(N, 2)`` lon, lat in radians, one row a person. H, W: size of a map.
    """
    one, other = (fixation_maps([f[k::2] for f in looks], H, W, 5.0) for k in (0, 1))
    return float(cc(one, other).mean())


def symptoms(pred: Tensor, truth: Tensor, agreement: float) -> dict[str, float]:
    """Three numbers that tell failures apart.

    Args:
        pred, truth: ``(T, H, W)`` densities. agreement: CC of half of the people with the rest.
    Returns:
        ``agreement``; ``apart``, degrees between the peaks of the two mean maps; ``wider``, how
        many times the area (the exponential of the entropy) is that the prediction covers.
    """
    H, W = truth.shape[-2:]
    area = pixel_area(H, W)[:, None].expand(H, W).to(truth.double())
    one, other = (m.double().mean(0) for m in (pred, truth))
    rays = erp_directions(H, W).reshape(-1, 3)
    peaks = [rays[int(m.argmax())] for m in (one, other)]
    covered = [float(torch.exp(-torch.special.xlogy(p * area, p).sum()))
               for p in (m / (m * area).sum() for m in (one, other))]  # fmt: skip
    return {
        "agreement": agreement,
        "apart": math.degrees(float(angle_between(*peaks))),
        "wider": covered[0] / covered[1],
    }


def diagnosis(found: Mapping[str, float], usual: float) -> str:
    """One line: what is wrong, by :func:`symptoms`.

    Args:
        usual: the agreement that videos of the set usually have.
    """
    if found["agreement"] < BAND * usual:
        return f"people disagree: CC {found['agreement']:.2f}"
    if found["apart"] > APART:
        return f"its peak is {found['apart']:.0f} degrees away"
    if found["wider"] > WIDER:
        return f"peak near, {found['wider']:.1f} x too wide"
    if found["wider"] < 1 / WIDER:
        return f"peak near, {1 / found['wider']:.1f} x too narrow"
    return "no rule fits: peak near, width right"


# --- exercises ---


def _two(value: Any, name: str) -> tuple[float, float]:
    if hasattr(value, "tolist"):  # a tensor or an array
        value = value.tolist()
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name}: wanted two numbers")
    return float(value[0]), float(value[1])


@exercise("17.1")
def lead(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(a, b) -> (mean, error)``: scores ``(S, V)`` of seeds and videos; error over videos."""
    draw = torch.Generator().manual_seed(171)
    hard = torch.randn(8, generator=draw).double()
    noise = 0.1 * torch.randn(2, 3, 8, generator=draw).double()
    cases = {
        "1 seed, 2 videos": (torch.tensor([[1.0, 3.0]]).double(), torch.zeros(1, 2).double()),
        "2 seeds that differ, 2 videos": (
            torch.tensor([[0.0, 2.0], [2.0, 4.0]]).double(), torch.zeros(2, 2).double()),
        "3 seeds, 8 videos, some hard for both": (hard + 0.2 + noise[0], hard + noise[1]),
        "3 seeds against 1": (hard + noise[0], hard + noise[1][:1]),
        "3 seeds against 2": (hard + noise[0], hard + noise[1][:2]),
    }  # fmt: skip
    for name, (a, b) in cases.items():
        d = a.mean(0) - b.mean(0)
        V, S = len(d), len(a)
        wanted = float(d.mean()), float(d.std() / math.sqrt(V))
        got = _two(ask(answer, a.clone(), b.clone()), "answer")
        alone = [x.mean(0).std() / math.sqrt(V) for x in (a, b)]
        slips = {"that is one video's spread": float(d.std()),
                 "that is unpaired": math.hypot(*map(float, alone))}  # fmt: skip
        if len(b) == S:
            slips["seeds are not videos"] = float((a - b).std() / math.sqrt(S * V))
        hint = next((f" ({t})" for t, slip in slips.items()
                     if _near(got[1], slip) and not _near(slip, wanted[1])), "")  # fmt: skip
        yield Case("the mean difference", _near(got[0], wanted[0]),
                   f"{name}: you gave {got[0]:.4f}, wanted {wanted[0]:.4f}")  # fmt: skip
        yield Case("its standard error over videos", _near(got[1], wanted[1]),
                   f"{name}: you gave {got[1]:.4f}, wanted {wanted[1]:.4f}{hint}")  # fmt: skip


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9)


@exercise("17.2")
def reliability(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(mass, looks, bins) -> (bins,)``: share of looks in parts of equal predicted mass."""
    draw = torch.Generator().manual_seed(172)
    many = torch.randperm(64, generator=draw)
    cases = {
        "two pixels, the brighter with more looks": ([0.3, 0.7], [1, 3], 1),
        "four pixels in two parts": ([0.1, 0.4, 0.3, 0.2], [0, 5, 2, 1], 2),
        "the brightest comes first": ([0.75, 0.25], [9, 1], 4),
        "64 pixels in 4 parts": ((many + 1.0) / (many + 1.0).sum(), many % 5, 4),
    }
    for name, (mass, looks, bins) in cases.items():
        m, n = torch.as_tensor(mass).double(), torch.as_tensor(looks).double()
        order = m.argsort()
        middle = m[order].cumsum(0) - m[order] / 2
        part = (middle * bins).long().clamp(max=bins - 1)
        wanted = torch.zeros(bins).double().index_add_(0, part, n[order]) / n.sum()
        got = torch.as_tensor(ask(answer, m.clone(), n.clone(), bins)).double()
        if got.shape != (bins,):
            yield Case("one share a part", False,
                       f"{name}: shape {tuple(got.shape)}, wanted ({bins},)")  # fmt: skip
            return
        hint = ""
        if torch.allclose(got, wanted * n.sum()) and n.sum() != 1:
            hint = " (shares sum to 1)"
        elif torch.allclose(got, wanted.flip(0)):
            hint = " (the darkest part comes first)"
        yield Case(
            "the share of all looks in each part, darkest first",
            torch.allclose(got, wanted, atol=1e-6),
            f"{name}: you gave {_listed(got)}, wanted {_listed(wanted)}{hint}",
        )


def _listed(values: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3f}" for v in values.tolist()) + "]"


@exercise("17.3")
def holm(answer: Callable[..., Any]) -> Iterator[Case]:
    """``p (K,) -> (K,) bool``: what survives Holm's correction at .05."""
    cases: dict[str, list[float]] = {
        "one alone": [0.04],
        "one of two is small": [0.04, 0.02],
        "the second falls only after the first": [0.03, 0.02, 0.9],
        "a small one behind a large one does not count": [0.012, 0.02, 0.024, 0.04],
        "all small": [0.001, 0.0004, 0.002],
        "exactly at the limit": [0.05],
        "exactly at the limit of two": [0.025, 0.6],
        "the small one comes last": [0.3, 0.6, 0.001],
        "none": [0.3, 0.06],
        "equal ones": [0.016, 0.016, 0.016],
    }
    for name, p in cases.items():
        wanted = survives(p)
        got = [
            bool(v)
            for v in torch.as_tensor(ask(answer, torch.tensor(p, dtype=torch.float64))).tolist()
        ]
        K = len(p)
        slips = {"as without a correction": [v <= 0.05 for v in p],
                 "as by Bonferroni's, which asks more": [v <= 0.05 / K for v in p],
                 "as by Benjamini and Hochberg's, which asks less": _false_rate(p),
                 "by size, not in the order of p": sorted(wanted, reverse=True)}  # fmt: skip
        slip = [t for t, s in slips.items() if got == s != wanted]
        hint = f" ({' or '.join(slip)})" if slip else ""
        yield Case("exactly those that survive", got == wanted,
                   f"{name}, {p}: you gave {got}, wanted {wanted}{hint}")  # fmt: skip


def _false_rate(p: Sequence[float], level: float = 0.05) -> list[bool]:
    most = max((v for k, v in enumerate(sorted(p), 1) if v <= level * k / len(p)), default=-1.0)
    return [v <= most for v in p]


def survives(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Holm (1979): from the smallest on, each against the level over how many are left."""
    order = sorted(range(len(p)), key=lambda k: p[k])
    out = [False] * len(p)
    for place, k in enumerate(order):
        if p[k] > level / (len(p) - place):
            break
        out[k] = True
    return out


@exercise("17.4")
def temperature(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(density (H, W), looks (N, 2), powers) -> power`` under which the looks are likeliest."""
    H, W = 24, 48
    powers = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]
    area = pixel_area(H, W)[:, None].expand(H, W)
    draw = torch.Generator().manual_seed(174)
    rays = erp_directions(H, W)
    for lon, lat, planted in ((0, 0, 1.0), (90, 20, 0.5), (-60, -50, 2.0), (170, 70, 0.75)):
        at = lonlat_to_xyz(*torch.deg2rad(torch.tensor([lon, lat]).double()))
        density = torch.exp(3.0 * (rays @ at)) + 0.02
        density = density / (density * area).sum()
        true = density**planted * area
        hit = torch.multinomial(true.flatten(), 6000, replacement=True, generator=draw)
        looks = torch.stack((hit // W, hit % W), -1)
        got = float(ask(answer, density.clone(), looks.clone(), list(powers)))

        def alone(power: float, p: Tensor = density, at: Tensor = looks) -> float:
            return power * float(p[at[:, 0], at[:, 1]].log().mean())

        def flat(power: float, p: Tensor = density, at: Tensor = looks) -> float:
            return alone(power, p, at) - float((p**power).sum().log())

        hint = ""
        if got == max(powers, key=alone) != planted:
            hint = " (a power changes the mass: divide by it)"
        elif got == max(powers, key=flat) != planted:
            hint = " (the mass of a pixel is its density times its area)"
        yield Case("the power that was planted", got == planted,
                   f"a blob at {lon}, {lat} degrees to the power {planted:g}: you gave {got:g}"
                   f"{hint}")  # fmt: skip


@exercise("17.5")
def faults_of_a_board(answer: Callable[..., Any]) -> Iterator[Case]:
    """``board -> set`` of the faults that were planted in it."""
    yield from name_faults(answer, FAULTS, planted_board)


def planted_board(*faults: str) -> Board:
    """``(scores, reference) -> {arm: (mean, low, high)}``: leads over the reference, with faults.

    ``scores`` is arm to ``(S, V)``. ``"best seed"``: each arm is its best seed. ``"more videos"``:
    every seed of a video counts as a video of its own. ``"unpaired"``: as if the two had seen
    different videos. ``"reversed"``: the reference minus the arm.

    Raises:
        ValueError: an unknown fault.
    """
    unknown = set(faults) - set(FAULTS)
    if unknown:
        raise ValueError(f"faults: {sorted(unknown)}, wanted some of {', '.join(FAULTS)}")

    def board(scores: Mapping[str, Tensor], reference: str) -> dict[str, Spread]:
        def chosen(arm: str) -> Tensor:
            runs = torch.as_tensor(scores[arm]).double()
            best = runs[runs.mean(1).argmax()].expand_as(runs)
            return best if "best seed" in faults else runs

        out = {}
        for arm in scores:
            a, b = chosen(arm), chosen(reference)
            if "more videos" in faults:
                a, b = (x.expand(max(len(a), len(b)), -1).flatten() for x in (a, b))
            else:
                a, b = a.mean(0), b.mean(0)
            if arm == reference:
                continue
            d = b - a if "reversed" in faults else a - b
            spread = d.std() if "unpaired" not in faults else (a.var() + b.var()).sqrt()
            half = student(len(d) - 1) * float(spread) / math.sqrt(len(d))
            mean = float(d.mean())
            out[arm] = (mean, mean - half, mean + half)
        return out

    return board
