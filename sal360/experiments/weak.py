"""Do the temporal losses teach a network where people look? Maps before and after, beside gaze.

A small network gets a map of what stands out in each frame, as CP-360's second stage does, and
how much the grey value changed since the frame before. It starts either by passing the map through
or from random weights, and learns on clips of synthetic worlds, without gaze, from one of the
losses of chapter 15; one arm learns from gaze, to show what the network can do. Every arm is
scored on other worlds::

    python -m sal360.experiments.weak --out data/runs/weak.json

What stands for CP-360's class activations of ImageNet is :func:`boolean_map_saliency`, since no
such weights can be fetched here: the record is about the losses, not about the published system.
Worlds are of the training split, the only one in which some cameras rest; the scored ones serve
for nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360 import upstream
from sal360._version import __version__
from sal360.baselines import boolean_map_saliency, equator_density
from sal360.baselines.base import smooth
from sal360.datasets.synthetic import World, draw_world, render_world, watch
from sal360.datasets.synthetic.world import Camera
from sal360.evaluation.statistics import student
from sal360.gaze import fixation_maps
from sal360.losses import (
    camera_rotation,
    cc_loss,
    temporal_losses,
    temporal_smoothness,
    without_rotation,
)
from sal360.losses.temporal import STILL
from sal360.losses.warp import flow_speed
from sal360.metrics import cc
from sal360.nn import SpherePad2d
from sal360.sphere import pixel_area
from sal360.training import run_files as records

SCHEMA = "sal360/weak/1"
FPS, START = 8.0, 1.0
"""Frames a second; seconds at which a clip begins, when people have begun to look around."""
SIGMA_DEG = 5.0
"""Width of the truth's blobs."""
CHANGE = 10.0
"""So that a change of a tenth of the range of grey is 1."""
CAMERAS: dict[str, Camera] = {
    "rests": Camera("rest"),
    "turns": Camera("pan", yaw_rate=math.radians(10)),
    "travels": Camera("dolly", sine=(0.5, 0.0, 0.5), period=10.0),
}
"""The same worlds filmed in three ways: at rest, turning 10 degrees a second, swinging to and fro
by half a metre in x and in z."""


@dataclass(frozen=True)
class Arm:
    """One way to train: where it starts, by which loss, with which rate of Adam.

    ``loss``: ``"published"`` (:func:`sal360.upstream.temporal_losses`), ``"ours"`` (corrected),
    ``"ours, mass 1"`` (corrected, on maps of mean 1, which cannot be empty), ``"catch motion"``
    (:func:`catch_motion`, which the uniform map does not please) or ``"gaze"`` (``cc_loss``
    against the truth). ``slow``: with the published rate of Adam.
    """

    start: str
    loss: str
    slow: bool = False

    @property
    def name(self) -> str:
        """Such as ``"stands out: published, slow"``."""
        return f"{self.start}: {self.loss}{', slow' if self.slow else ''}"


ARMS = (
    Arm("stands out", "published", slow=True),
    *(
        Arm("stands out", loss)
        for loss in ("published", "ours", "ours, mass 1", "catch motion", "gaze")
    ),
    *(Arm("random", loss) for loss in ("published", "catch motion", "gaze")),
)


@dataclass(frozen=True)
class Recipe:
    """Sizes of a run. ``slow_rate`` is CP-360's, and so is ``frames``, the length of a sequence."""

    H: int = 24
    W: int = 48
    train: int = 32
    test: int = 12
    frames: int = 5
    test_frames: int = 9
    batch: int = 3
    steps: int = 120
    rate: float = 8e-3
    slow_rate: float = 1e-6
    channels: int = 8
    seeds: int = 4


RECIPES = {
    "fast": Recipe(16, 32, train=2, test=2, test_frames=3, batch=2, steps=10, seeds=2),
    "cpu": Recipe(),
}


class Clips(NamedTuple):
    """``N`` clips of ``T`` frames.

    ``given (N, T, 2, H, W)``: what stands out (mean 1), and how much the grey value has changed
    since the frame before, times :data:`CHANGE`; ``flow (N, T - 1, 2, H, W)``; ``truth
    (N, T, 1, H, W)`` densities of gaze.
    """

    given: Tensor
    flow: Tensor
    truth: Tensor


def make_clip(world: World, T: int, H: int, W: int) -> Clips:
    """One clip of a world; its truth is the gaze of 48 simulated observers."""
    seen = render_world(world, T, H, W, FPS, START)
    watched = watch(world, seen.times, window=1 / FPS)
    truth = fixation_maps(watched.fixations, H, W, SIGMA_DEG)[:, None].float()
    bytes_ = (seen.frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    figures = np.stack([boolean_map_saliency(np.ascontiguousarray(frame)) for frame in bytes_])
    blurred = smooth(torch.from_numpy(figures)[:, None], math.radians(SIGMA_DEG)) + 1e-6
    grey = torch.einsum("c,tchw->thw", torch.tensor([0.299, 0.587, 0.114]), seen.frames)
    change = torch.cat((torch.zeros_like(grey[:1]), grey.diff(dim=0).abs()))
    given = torch.cat((mean_one(blurred), CHANGE * change[:, None]), 1)
    return Clips(given[None], seen.flow[None, :-1], truth[None])


def make_clips(numbers: Sequence[int], T: int, H: int, W: int, camera: str = "rests") -> Clips:
    """Clips of worlds of the training split, all filmed by one of :data:`CAMERAS`."""
    worlds = [replace(draw_world(n, "train"), camera=CAMERAS[camera]) for n in numbers]
    found = [make_clip(world, T, H, W) for world in worlds]
    return Clips(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def mean_one(maps: Tensor) -> Tensor:
    """Maps of 0 and more as densities relative to the uniform one: their mean is 1."""
    share = pixel_area(*maps.shape[-2:]).to(maps)[:, None] / (4 * math.pi)
    return maps / (maps * share).sum((-2, -1), keepdim=True)


class Refiner(nn.Module):
    """Three 3 x 3 layers, beside a weighted path for what stands out.

    Args:
        channels: of the hidden layers. keep: weight of what stands out at the start: 1 passes it
            through (the layers add little at first), 0 leaves random layers alone.
    """

    def __init__(self, channels: int = 8, keep: float = 1.0) -> None:
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(float(keep)))
        self.layers = nn.Sequential(
            SpherePad2d(1), nn.Conv2d(2, channels, 3), nn.ReLU(),
            SpherePad2d(1), nn.Conv2d(channels, channels, 3), nn.ReLU(), SpherePad2d(1),
        )  # fmt: skip
        self.head = nn.Conv2d(channels, 1, 3)

    def forward(self, given: Tensor) -> Tensor:
        """``(B, T, 2, H, W)`` as in :class:`Clips` to maps above 0, ``(B, T, 1, H, W)``."""
        added = self.head(self.layers(given.flatten(0, 1))).unflatten(0, given.shape[:2])
        raw = self.keep * given[:, :, :1] + added
        return F.softplus(4 * raw) / 4


def loss_of(kind: str, maps: Tensor, clips: Clips) -> Tensor:
    """The total that an arm minimises. ``kind``: see :class:`Arm`."""
    if kind == "published":
        return upstream.temporal_losses(maps, clips.flow).total()
    if kind == "gaze":
        return cc_loss(maps, clips.truth)
    if kind == "catch motion":
        return catch_motion(maps, clips.flow)
    if kind in ("ours", "ours, mass 1"):
        return temporal_losses(maps if kind == "ours" else mean_one(maps), clips.flow).total()
    raise ValueError(f"kind: {kind!r}, wanted one of {', '.join({arm.loss: 0 for arm in ARMS})}")


def catch_motion(maps: Tensor, flow: Tensor, steady: float = 1e-3) -> Tensor:
    """Minus the share of a map that lies on what moves, plus a little smoothness along the flow.

    A loss without gaze that neither the empty nor the uniform map pleases: only shares count.
    What it rewards is motion, and motion alone.

    Args:
        maps: ``(B, T, 1, H, W)`` of 0 and more. flow: ``(B, T - 1, 2, H, W)``.
        steady: weight of the smoothness of maps of mean 1.
    """
    whole = mean_one(maps)
    share = pixel_area(*maps.shape[-2:]).to(maps)[:, None] / (4 * math.pi)
    moves = flow_speed(flow.flatten(0, 1).double()).unflatten(0, flow.shape[:2]) >= STILL
    caught = (whole[:, :-1] * share * moves).sum((-2, -1)).mean()
    return steady * temporal_smoothness(whole, flow) - caught


def spread(maps: Tensor) -> float:
    """Standard deviation over the sphere of the middle one of the maps: 0 if it says nothing."""
    maps = maps.detach()
    share = pixel_area(*maps.shape[-2:]).to(maps)[:, None] / (4 * math.pi)
    mean = (maps * share).sum((-2, -1), keepdim=True)
    return float(((maps - mean) ** 2 * share).sum((-2, -1)).sqrt().median())


def score(maps: Tensor, clips: Clips) -> list[float]:
    """CC with gaze, a mean for each clip; the first frame, which nothing precedes, is left out."""
    found = cc(maps[:, 1:].double(), clips.truth[:, 1:].double())
    return [round(v, 5) for v in found.flatten(1).mean(1).tolist()]


def train(
    arm: Arm, seed: int, clips: Clips, tests: dict[str, Clips], recipe: Recipe
) -> dict[str, Any]:
    """One run: losses on the training clips, scores and spreads on the others, before and after."""
    torch.manual_seed(seed)
    model = Refiner(recipe.channels, keep=float(arm.start == "stands out"))
    if arm.start == "stands out":
        with torch.no_grad():
            model.head.weight.mul_(0.1)
            nn.init.zeros_(cast(Tensor, model.head.bias))
    draw = torch.Generator().manual_seed(seed)
    rate = recipe.slow_rate if arm.slow else recipe.rate
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    starts = [p.detach().clone() for p in model.parameters()]
    before = _state(model, arm.loss, clips, tests)
    for _ in range(recipe.steps):
        pick = torch.randperm(len(clips.given), generator=draw)[: recipe.batch]
        batch = Clips(*(part[pick] for part in clips))
        loss = loss_of(arm.loss, model(batch.given), batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
    moved = max(
        float((p - s).abs().max().detach()) for p, s in zip(model.parameters(), starts, strict=True)
    )
    after = _state(model, arm.loss, clips, tests)
    return {"seed": seed, "before": before, "after": after, "largest step of a weight": moved}


@torch.no_grad()
def _state(model: Refiner, kind: str, clips: Clips, tests: dict[str, Clips]) -> dict[str, Any]:
    maps = {name: model(each.given) for name, each in tests.items()}
    return {
        "loss": float(f"{float(loss_of(kind, model(clips.given), clips)):.6g}"),
        "spread": float(f"{spread(maps['rests']):.4g}"),
        "cc": {name: score(maps[name], tests[name]) for name in tests},
    }


def references(tests: dict[str, Clips]) -> dict[str, dict[str, list[float]]]:
    """What needs no training, scored alike: the equator, what stands out, what moves."""
    found: dict[str, dict[str, list[float]]] = {}
    for camera, clips in tests.items():
        H, W = clips.truth.shape[-2:]
        moves, moves_itself = moving(clips.flow)
        every = {
            "equator": equator_density(H, W).expand_as(clips.truth),
            "stands out": clips.given[:, :, :1],
            "moves": torch.cat((moves[:, :1], moves), 1),
            "moves, camera removed": torch.cat((moves_itself[:, :1], moves_itself), 1),
        }
        for name, maps in every.items():
            found.setdefault(name, {})[camera] = score(maps, clips)
    return found


def moving(flow: Tensor, sigma_deg: float = SIGMA_DEG) -> tuple[Tensor, Tensor]:
    """What the motion mask keeps, as maps with blobs; and the same less the camera's rotation.

    Args:
        flow: ``(N, T, 2, H, W)``.
    Returns:
        twice ``(N, T, 1, H, W)``.
    """
    flat = flow.flatten(0, 1).double()
    both = (flat, without_rotation(flat, camera_rotation(flat)))
    kept = [smooth((flow_speed(f) >= STILL).float(), math.radians(sigma_deg)) for f in both]
    first, second = (k.unflatten(0, flow.shape[:2]) for k in kept)
    return first, second


def run(
    scale: str = "cpu",
    out: str | Path | None = None,
    arms: Sequence[Arm] = ARMS,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train every arm with every seed, and write the record.

    Args:
        scale: a key of :data:`RECIPES`. out: JSON file. report: called with a line for each arm.
    """
    if scale not in RECIPES:
        raise ValueError(f"scale: {scale!r}, wanted one of {', '.join(RECIPES)}")
    clock, recipe = time.process_time(), RECIPES[scale]
    H, W = recipe.H, recipe.W
    clips = make_clips(range(recipe.train), recipe.frames, H, W)
    numbers = range(100, 100 + recipe.test)
    tests = {name: make_clips(numbers, recipe.test_frames, H, W, name) for name in CAMERAS}
    found: dict[str, Any] = {}
    for arm in arms:
        runs = [train(arm, seed, clips, tests, recipe) for seed in range(recipe.seeds)]
        found[arm.name] = {**asdict(arm), "runs": runs}
        if report is not None:
            report(f"{arm.name:30s} {told(runs)}")
    record = {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": _code(),
        "device": platform.machine() + " CPU",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        "scale": scale,
        "recipe": asdict(recipe),
        "worlds": {"train": list(range(recipe.train)), "test": list(numbers), "split": "train"},
        "cameras": {name: asdict(camera) for name, camera in CAMERAS.items()},
        "references": references(tests),
        "arms": found,
        "process_seconds": round(time.process_time() - clock, 1),
    }  # fmt: skip
    if out is not None:
        save(record, out)
    return record


def told(runs: list[dict[str, Any]]) -> str:
    """One line: CC, loss and spread before and after, means over seeds."""

    def mean(when: str, of: Callable[[dict[str, Any]], float]) -> float:
        return float(np.mean([of(one[when]) for one in runs]))

    parts = []
    for name, of in (
        ("CC", lambda s: float(np.mean(s["cc"]["rests"]))),
        ("loss", lambda s: s["loss"]),
        ("spread", lambda s: s["spread"]),
    ):
        parts.append(f"{name} {mean('before', of):.3g} -> {mean('after', of):.3g}")
    return ", ".join(parts)


def gains(record: dict[str, Any], arm: str, camera: str = "rests") -> dict[str, float]:
    """CC before and after, and the change with half the width of its interval over seeds.

    Seeds draw the weights and the order of clips; the worlds are the same for all of them.
    """
    runs = record["arms"][arm]["runs"]
    ends = np.array([[np.mean(r[w]["cc"][camera]) for w in ("before", "after")] for r in runs])
    change = ends[:, 1] - ends[:, 0]
    half = student(len(runs) - 1) * float(change.std(ddof=1)) / math.sqrt(len(runs))
    before, after = ends.mean(0).tolist()
    return {"before": before, "after": after, "change": after - before, "half": half}


def save(record: dict[str, Any], path: str | Path) -> None:
    """Write a record."""
    records.write(json.dumps(record, indent=1) + "\n", path)


def load(path: str | Path) -> dict[str, Any]:
    """Read a record; FileNotFoundError or ValueError if there is none."""
    return records.read(path, SCHEMA)


def _code() -> str:
    """Hash of the files that decide the numbers."""
    room = Path(__file__).resolve().parents[1]
    parts = [Path(__file__), room / "upstream" / "losses.py", room / "baselines" / "contrast.py"]
    parts += [room / "losses" / f"{name}.py" for name in ("camera", "temporal", "warp")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: run, print a line for each arm, write the record."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.weak", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, help="JSON record (data/runs/weak.json)")
    parser.add_argument("--scale", default="cpu", choices=sorted(RECIPES))
    given = parser.parse_args(arguments)

    def work() -> None:
        record = run(given.scale, given.out, report=lambda line: print(line, flush=True))
        for name, one in record["references"].items():
            by = ", ".join(f"{camera} {np.mean(v):.3f}" for camera, v in one.items())
            print(f"{name}: {by}")

    return records.command(parser.prog, work, given.out, SCHEMA, given.scale)


if __name__ == "__main__":
    sys.exit(main())
