"""Which kernel? Small networks of equal size learn one task near the equator.

The task is drawn on the sphere, so that it is the same task everywhere: among round, wide and
tall spots of equal area, mark the round ones. The networks see spots near the equator only, and
are tried at every latitude and on tilted scenes. They differ in nothing but where their kernels
look. Chapter 09 reads the record that this module writes::

    python -m sal360.experiments.kernels --scale cpu --out data/runs/kernels.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360._version import __version__
from sal360.datasets.download import fetch
from sal360.metrics import cc
from sal360.nn import CrownConv2d, RingConv2d, SphereConv2d, SpherePad2d, to_cube_padded
from sal360.projections import cube_directions, cube_to_erp, erp_to_cube, sample_erp
from sal360.sphere import (
    erp_directions,
    erp_index,
    pixel_area,
    rotation_matrix,
    sample_sphere,
    xyz_to_lonlat,
)

SCHEMA = "sal360/kernels/1"
BANDS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 90))
"""Degrees from the equator; the networks learn in the first two."""
TILTS = (30, 60, 90)
"""Degrees between the old and the new vertical."""
TRAINED_TO = 30.0
"""Largest latitude, in degrees, of a spot in a training scene."""
TUNING_SEED = 1000
"""The learning rate is chosen on this seed, which no result uses."""

TIMED_BY = "tangent"
"""Whose time the others are given when times are equal."""

KINDS = {
    "planar": "3 x 3, zeros beyond the edges",
    "wrapped": "3 x 3, padded across seam and poles",
    "tangent": "3 x 3 on the tangent plane",
    "ring": "centre and 8 taps on one circle",
    "crown": "3 circles of 4 taps",
    "cube": "3 x 3 on six faces, padded from neighbours",
    "cube, zeros": "3 x 3 on six faces, zeros beyond the edges",
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run but its kind and seed."""

    scale: str
    H: int
    steps: int
    width: int
    seeds: int
    tuning_steps: int = 700
    kinds: tuple[str, ...] = tuple(KINDS)
    controls: tuple[str, ...] = ("planar", "wrapped", "tangent", "cube")
    ablated: tuple[str, ...] = ("planar", "tangent")
    rates: tuple[float, ...] = (0.06, 0.12, 0.24, 0.48)
    batch: int = 1
    pool: int = 512
    trials: int = 48
    spot: float = 9.0  # degrees: radius of a round spot of middling size
    aspect: float = 2.2  # long to short axis of the others
    clutter: float = 0.35  # standard deviation of the background; spots are .6 to 1.2 bright
    sigma: float = 6.0  # degrees: width of the blobs in the truth

    @property
    def W(self) -> int:
        """Columns of the panorama."""
        return 2 * self.H

    @property
    def S(self) -> int:
        """Texels along a cube's edge, so that six faces hold about as many pixels."""
        return round(math.sqrt(self.H * self.W / 6))


RECIPES = {
    "fast": Recipe("fast", H=32, steps=400, width=8, seeds=1, kinds=("planar", "tangent"),
                   controls=(), ablated=(), rates=(0.12,), pool=128, trials=32, spot=13.5,
                   sigma=9.0),
    "cpu": Recipe("cpu", H=48, steps=900, width=12, seeds=5),
    "gpu": Recipe("gpu", H=96, steps=2000, width=32, seeds=10, batch=16, pool=8192, trials=256,
                  spot=4.5, sigma=3.0),
}  # fmt: skip


# --- the task ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scenes:
    """Spots on textured spheres, as formulas: they can be seen from any directions.

    Attributes:
        centre: ``(B, n, 3)`` unit vectors. radius: ``(B, n)`` radians, of the disc of equal area.
        aspect: ``(B, n)`` long over short axis. angle: ``(B, n)`` radians from the long axis to
        the east, towards the south.
        brightness: ``(B, n)``. waves, phase: ``(B, M, 3)`` and ``(B, M)``, the background.
    """

    centre: Tensor
    radius: Tensor
    aspect: Tensor
    angle: Tensor
    brightness: Tensor
    waves: Tensor
    phase: Tensor

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, index: Any) -> Scenes:
        return Scenes(**{name: value[index] for name, value in vars(self).items()})

    def float(self) -> Scenes:
        """The same in float32: geometry meets the image."""
        return Scenes(**{name: value.float() for name, value in vars(self).items()})

    @property
    def target(self) -> Tensor:
        """``(B, n)`` bool: the round ones."""
        return self.aspect == 1


def training_scenes(n: int, seed: int, recipe: Recipe, upright: bool = False) -> Scenes:
    """Scenes of eight spots, four of them round, none beyond 30 degrees of latitude."""
    draw = torch.Generator().manual_seed(seed)
    slot = torch.arange(8) + 0.4 * (_uniform(draw, n, 8) - 0.5) + _uniform(draw, n, 1) * 8
    lon = slot * (2 * math.pi / 8)
    top = math.sin(math.radians(TRAINED_TO))
    lat = torch.asin(top * (2 * _uniform(draw, n, 8) - 1))
    order = _uniform(draw, n, 8).argsort(-1)
    return _scenes(lon, lat, order < 4, draw, recipe, upright)


def trial_scenes(
    n: int, seed: int, band: tuple[float, float], recipe: Recipe, upright: bool = False
) -> Scenes:
    """Scenes of two spots, first a round one, then another in the opposite hemisphere.

    The same seed gives the same spots and backgrounds in every band; only latitudes change.

    Args:
        band: degrees from the equator between which the spots' centres are spread by area.
    """
    draw = torch.Generator().manual_seed(seed)
    low, high = (math.sin(math.radians(edge)) for edge in band)
    lat = torch.asin(low + (high - low) * _uniform(draw, n, 2))
    north = torch.where(_uniform(draw, n, 1) < 0.5, 1.0, -1.0)
    lat = lat * torch.cat((north, -north), 1)
    lon = 2 * math.pi * _uniform(draw, n, 1) + torch.cat(
        (torch.zeros(n, 1), math.pi * (0.5 + _uniform(draw, n, 1))), 1
    )
    return _scenes(lon, lat, torch.tensor([True, False]).expand(n, 2), draw, recipe, upright)


def _scenes(
    lon: Tensor, lat: Tensor, target: Tensor, draw: torch.Generator, recipe: Recipe, upright: bool
) -> Scenes:
    n, spots = lon.shape
    centre = rotation_matrix(lon, lat)[..., 2]
    radius = math.radians(recipe.spot) * 1.3 ** (2 * _uniform(draw, n, spots) - 1)
    brightness = 0.6 + 0.6 * _uniform(draw, n, spots)
    # Plane waves in space, cut by the sphere: a texture without seam, pole or preferred place.
    along = sample_sphere(n * 24, draw).reshape(n, 24, 3)
    finest = math.pi / math.radians(recipe.spot)  # half a wave across a spot's radius
    waves = along * finest * (0.2 + 0.8 * _uniform(draw, n, 24))[..., None]
    phase = 2 * math.pi * _uniform(draw, n, 24)
    aspect = torch.where(target, 1.0, recipe.aspect).double()
    angle = math.pi * _uniform(draw, n, spots)
    if upright:
        angle = (math.pi / 2) * (angle > math.pi / 2).double()
    return Scenes(centre, radius, aspect, angle, brightness, waves, phase)


def _uniform(draw: torch.Generator, *size: int) -> Tensor:
    return torch.rand(*size, generator=draw, dtype=torch.float64)


def render(
    scenes: Scenes, directions: Tensor, recipe: Recipe, turn: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What is seen in given directions, and what should be answered there.

    Args:
        directions: ``(..., 3)`` unit vectors, float64.
        turn: ``(3, 3)`` or ``(B, 3, 3)`` rotation of the scenes; it moves the formulas, so
            nothing is interpolated.
    Returns:
        image and truth, ``(B, 1, ...)`` float32; the truth is 1 at the middle of a round spot.
    """
    rays = directions.reshape(1, -1, 3)
    if turn is not None:
        rays = rays @ turn  # R^T d, as a row
    rays = rays.float().expand(len(scenes), -1, -1)
    frames = rotation_matrix(*xyz_to_lonlat(scenes.centre)).float()
    scenes = scenes.float()
    wave = torch.baddbmm(scenes.phase[:, None], rays, scenes.waves.transpose(1, 2))
    image = recipe.clutter * math.sqrt(2 / wave.shape[-1]) * torch.cos(wave).sum(-1)
    soft = math.pi / recipe.H  # edges are one pixel wide
    truth = torch.zeros_like(image)
    for k in range(scenes.centre.shape[1]):
        east, south, ahead = (rays @ frames[:, k]).unbind(-1)
        far = torch.hypot(east, south)
        angle = torch.atan2(far, ahead) / far.clamp_min(1e-12)
        stretch = scenes.aspect[:, k, None].sqrt()
        c, s = torch.cos(scenes.angle[:, k, None]), torch.sin(scenes.angle[:, k, None])
        u, v = (c * east + s * south) * angle / stretch, (c * south - s * east) * angle * stretch
        cover = ((scenes.radius[:, k, None] - torch.hypot(u, v)) / soft + 0.5).clamp(0, 1)
        image = image + cover * (scenes.brightness[:, k, None] - image)
        blob = torch.exp((ahead - 1) / math.radians(recipe.sigma) ** 2)
        truth = torch.maximum(truth, blob * scenes.target[:, k, None])
    shape = (len(scenes), 1, *directions.shape[:-1])
    return image.reshape(shape), truth.reshape(shape)


def tilts(n: int, degrees: float | None, seed: int) -> Tensor:
    """``(n, 3, 3)`` rotations by an angle about random horizontal axes; None: any rotation."""
    draw = torch.Generator().manual_seed(seed)
    about = 2 * math.pi * _uniform(draw, n)
    if degrees is None:
        pole = xyz_to_lonlat(sample_sphere(n, draw))
        return rotation_matrix(*pole, about)
    spin = rotation_matrix(about)
    return spin @ rotation_matrix(0.0, 0.0, math.radians(degrees)) @ spin.transpose(-1, -2)


# --- the networks -----------------------------------------------------------------------------


class Finder(nn.Module):
    """Four layers of one kind with ReLUs between: ``(B, 1, H, W)`` to logits of that shape.

    Args:
        kind: a key of :data:`KINDS`. recipe: sizes. widths: channels of the three hidden layers;
            :func:`equal_widths` unless given.
    """

    def __init__(self, kind: str, recipe: Recipe, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.kind, self.recipe = kind, recipe
        sizes = (1, *(widths or equal_widths(kind, recipe)), 1)
        self.layers = nn.ModuleList(_layer(kind, i, o, recipe) for i, o in pairwise(sizes))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of "a round spot is here", on the panorama."""
        if not self.kind.startswith("cube"):
            return self._stack(image)
        return self.from_faces(erp_to_cube(image, self.recipe.S))

    def from_faces(self, faces: Tensor) -> Tensor:
        """The same from ``(B, 6, 1, S, S)`` faces, for the cube's kinds."""
        answer = self._stack(faces.flatten(0, 1)).unflatten(0, (-1, 6))
        return cube_to_erp(answer, self.recipe.H, self.recipe.W)

    def _stack(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)

    def start(self, images: Tensor, seed: int) -> None:
        """Draw the weights, then scale each layer so that its answers spread by 1.

        Scaling by what a layer really answers treats all kinds alike, whatever their taps weigh.
        """
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            x = images
            if self.kind.startswith("cube"):
                x = erp_to_cube(images, self.recipe.S).flatten(0, 1)
            for layer in self.layers:
                for weight in layer.parameters():
                    noise = torch.randn(weight.shape, generator=draw)
                    weight.copy_(noise if weight.ndim > 1 else torch.zeros_like(noise))
                scale = 1 / layer(x).std()
                for weight in layer.parameters():
                    weight.mul_(scale)
                x = torch.relu(layer(x))


def _layer(kind: str, i: int, o: int, recipe: Recipe) -> nn.Module:
    if kind == "wrapped":
        return nn.Sequential(SpherePad2d(1), nn.Conv2d(i, o, 3))
    if kind == "tangent":
        return SphereConv2d(i, o, 3)
    if kind == "ring":
        return RingConv2d(i, o)
    if kind == "crown":
        return CrownConv2d(i, o, (3, 4), 1.5 * math.pi / recipe.H)
    if kind == "cube":
        return to_cube_padded(nn.Conv2d(i, o, 3, padding=1))
    if kind in ("planar", "cube, zeros"):
        return nn.Conv2d(i, o, 3, padding=1)
    raise ValueError(f"kind: {kind!r}, wanted one of {', '.join(KINDS)}")


def count(network: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in network.parameters())


def equal_widths(kind: str, recipe: Recipe) -> tuple[int, int, int]:
    """Channels of the hidden layers, so that every kind has about as many parameters.

    Nine taps get three times ``recipe.width``; the crown's twelve get whatever comes closest.
    """

    def total(widths: Sequence[int], taps: int) -> int:
        sizes = (1, *widths, 1)
        return sum(i * o * taps + o for i, o in pairwise(sizes))

    plain = (recipe.width,) * 3
    if kind != "crown":
        return plain
    near = range(recipe.width // 2, recipe.width + 1)
    wanted = total(plain, 9)
    return min(
        ((a, b, c) for a in near for b in near for c in near),
        key=lambda w: (abs(total(w, 12) - wanted), max(w) - min(w)),
    )


# --- learning and scoring ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures and truths for one seed: the same for every kind."""

    train: dict[str, tuple[Tensor, Tensor]]
    trials: dict[str, tuple[Scenes, Tensor | None, Tensor, Tensor]]


def make_data(seed: int, recipe: Recipe, upright: bool = False) -> Data:
    """Training pictures near the equator and everywhere, and trials by latitude and by tilt.

    "Everywhere" are the same scenes, each turned by a rotation of its own.

    Args:
        upright: the spots that are not round stand upright or lie flat, in place of any angle.
    """
    grid = erp_directions(recipe.H, recipe.W)
    scenes = training_scenes(recipe.pool, 10 * seed + 1, recipe, upright)
    anywhere = tilts(recipe.pool, None, 10 * seed + 2)
    train = {
        "equator": _pictures(scenes, None, grid, recipe),
        "everywhere": _pictures(scenes, anywhere, grid, recipe),
    }
    trials: dict[str, tuple[Scenes, Tensor | None, Tensor, Tensor]] = {}
    base = 10 * seed + 3
    for band in BANDS:
        scenes = trial_scenes(recipe.trials, base, band, recipe, upright)
        trials[f"{band[0]}-{band[1]}"] = (scenes, None, *_pictures(scenes, None, grid, recipe))
    level = trial_scenes(recipe.trials, base, (0, TRAINED_TO), recipe, upright)
    trials["level"] = (level, None, *_pictures(level, None, grid, recipe))
    for tilt in (*TILTS, None):
        turn = tilts(recipe.trials, tilt, 10 * seed + 4)
        name = "any tilt" if tilt is None else f"tilt {tilt}"
        trials[name] = (level, turn, *_pictures(level, turn, grid, recipe))
    return Data(train, trials)


def _pictures(
    scenes: Scenes, turn: Tensor | None, grid: Tensor, recipe: Recipe, chunk: int = 32
) -> tuple[Tensor, Tensor]:
    parts = [
        render(scenes[k : k + chunk], grid, recipe, None if turn is None else turn[k : k + chunk])
        for k in range(0, len(scenes), chunk)
    ]
    image, truth = (torch.cat(part) for part in zip(*parts, strict=True))
    return image, truth


def train(
    kind: str,
    recipe: Recipe,
    data: Data,
    seed: int,
    rate: float,
    steps: int | None = None,
    training: str = "equator",
    device: str = "cpu",
) -> tuple[Finder, list[float]]:
    """Train one network: Adam, a rate that rises and falls to zero, area-weighted loss.

    Args:
        kind: a key of :data:`KINDS`. seed: of the weights and of the order of the pictures.
        rate: step size, in units of each weight's spread at the start.
        steps: ``recipe.steps`` unless given. training: ``"equator"`` or ``"everywhere"``.
    Returns:
        the network and its mean loss over each twentieth of the steps.
    """
    steps = steps or recipe.steps
    images, truths = (part.to(device) for part in data.train[training])
    network = Finder(kind, recipe).to(device)
    network.start(images[:16], seed)
    groups = [
        {"params": [p], "lr": rate * (float(p.detach().square().mean().sqrt()) or 0.1)}
        for p in network.parameters()
    ]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step / steps))
    draw = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(images), generator=draw)
                       for _ in range(-(-steps * recipe.batch // len(images)))])  # fmt: skip
    losses = torch.zeros(steps)
    for step in range(steps):
        batch = order[step * recipe.batch : (step + 1) * recipe.batch]
        loss = learn(network, optimiser, images[batch], truths[batch])
        schedule.step()
        losses[step] = loss.detach()
    parts = losses.tensor_split(min(20, steps))
    return network, [round(float(part.mean()), 5) for part in parts]


def _share(done: float) -> float:
    """Of the full rate: up over the first twentieth of the steps, then down along a cosine."""
    return min(20 * done + 0.02, 0.5 + 0.5 * math.cos(math.pi * done))


def learn(
    network: Finder, optimiser: torch.optim.Optimizer, image: Tensor, truth: Tensor
) -> Tensor:
    """One step; returns the loss, cross-entropy in nats per pixel, weighted by area."""
    weight = _row_weights(*image.shape[-2:], image.device)
    loss = nn.functional.binary_cross_entropy_with_logits(network(image), truth, weight=weight)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss


@lru_cache(maxsize=8)
def _row_weights(H: int, W: int, device: torch.device) -> Tensor:
    area = pixel_area(H, W).float().to(device)[:, None]
    return area / area.mean()


def answer(network: Finder, image: Tensor, chunk: int = 16) -> Tensor:
    """Predicted maps ``(B, 1, H, W)`` in [0, 1], in pieces that fit in memory."""
    device = next(network.parameters()).device
    with torch.no_grad():
        return torch.cat([network(part.to(device)).sigmoid().cpu() for part in image.split(chunk)])


def score(network: Finder, data: Data) -> dict[str, Any]:
    """Quality in each set of trials, and how far the network is from commuting with a tilt.

    Returns:
        ``cc``: name of the set to mean area-weighted correlation with the truth. ``apart``: to
        the share of pairs of a round and another spot in which the round one gets the higher
        answer, .5 by chance. ``equivariance``: see :func:`residual`; ``floor``: that of the
        truth itself, which is due to interpolation alone. ``faces`` (cubes only): the
        correlation on level scenes whose faces are drawn, not read from the panorama.
    """
    out: dict[str, Any] = {"cc": {}, "apart": {}}
    kept = {}
    for name, (scenes, turn, image, truth) in data.trials.items():
        kept[name] = answer(network, image)
        out["cc"][name] = round(float(cc(kept[name], truth).mean()), 5)
        out["apart"][name] = round(told_apart(kept[name], scenes, turn), 5)
    _, turn, _, truth = data.trials["any tilt"]
    assert turn is not None
    out["equivariance"] = round(residual(kept["level"], kept["any tilt"], turn), 5)
    out["floor"] = round(residual(data.trials["level"][3], truth, turn), 5)
    if network.kind.startswith("cube"):
        scenes, _, _, truth = data.trials["level"]
        rays = cube_directions(network.recipe.S)
        faces, _ = render(scenes, rays / torch.linalg.vector_norm(rays, dim=-1, keepdim=True),
                          network.recipe)  # fmt: skip
        device = next(network.parameters()).device
        with torch.no_grad():
            maps = network.from_faces(faces.transpose(1, 2).to(device)).sigmoid().cpu()
        out["faces"] = round(float(cc(maps, truth).mean()), 5)
    return out


def told_apart(maps: Tensor, scenes: Scenes, turn: Tensor | None) -> float:
    """Share of all (round, other) pairs of spots in which the round one is answered higher."""
    centre = scenes.centre if turn is None else scenes.centre @ turn.transpose(-1, -2)
    row, col = erp_index(centre, *maps.shape[-2:])
    read = maps[:, 0][torch.arange(len(maps))[:, None], row, col]
    ours, others = read[scenes.target], read[~scenes.target]
    higher = (ours[:, None] > others).double() + 0.5 * (ours[:, None] == others).double()
    return float(higher.mean())


def residual(level: Tensor, tilted: Tensor, turn: Tensor) -> float:
    """How far answers to turned scenes are from the turned answers: 0 if they commute.

    Root mean square over the sphere of ``tilted(R d) - level(d)``, as a share of the spread
    of ``level``. Chapter 06.
    """
    H, W = level.shape[-2:]
    grid = erp_directions(H, W)
    area = pixel_area(H, W)[:, None] / (4 * math.pi)
    wrong = spread = 0.0
    for before, after, R in zip(level.double(), tilted.double(), turn, strict=True):
        moved = sample_erp(before[None], grid @ R)[0]
        wrong += float(((after - moved) ** 2 * area).sum())
        mean = (before * area).sum()
        spread += float(((before - mean) ** 2 * area).sum())
    return math.sqrt(wrong / spread)


# --- the record -------------------------------------------------------------------------------


def measure(recipe: Recipe, device: str = "cpu", rounds: int = 15) -> dict[str, Any]:
    """Time of one learning step of each kind, taken in turns so that all see the same machine.

    On a CPU it is the processor time of the process, which other programs disturb least.

    Returns:
        ``seconds``: kind to its median; ``ratio``: kind to the median over rounds of its time
        to the planar one's in the same round; ``clock``, ``rounds``.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    scenes = training_scenes(max(16, recipe.batch), 0, recipe)
    grid = erp_directions(recipe.H, recipe.W)
    image, truth = (part.to(device) for part in render(scenes, grid, recipe))
    learners = {}
    for kind in recipe.kinds:
        network = Finder(kind, recipe).to(device)
        network.start(image, 0)
        learners[kind] = network, torch.optim.Adam(network.parameters())
    spent: dict[str, list[float]] = {kind: [] for kind in recipe.kinds}
    for _ in range(rounds + 2):  # the first two fill tables and caches
        for kind, (network, optimiser) in learners.items():
            start = clock()
            for _ in range(3):
                learn(network, optimiser, image[: recipe.batch], truth[: recipe.batch])
            if device != "cpu":
                torch.cuda.synchronize()
            spent[kind].append((clock() - start) / 3)
    table = {kind: torch.tensor(times[2:]) for kind, times in spent.items()}
    first = table[recipe.kinds[0]]
    return {
        "seconds": {kind: round(float(t.median()), 6) for kind, t in table.items()},
        "ratio": {kind: round(float((t / first).median()), 4) for kind, t in table.items()},
        "clock": clock.__name__,
        "rounds": rounds,
    }


def plan(recipe: Recipe, seeds: Sequence[int], ratio: dict[str, float]) -> list[dict[str, Any]]:
    """The runs of the experiment, in the order in which they are done.

    - ``tuning``: every kind at every rate, fewer steps, on a seed of its own;
    - ``steps``: every kind, the same number of steps;
    - ``time``: every kind, as many steps as fit in the time of the tangent network's;
    - ``everywhere``: the kinds of ``recipe.controls``, trained on turned scenes;
    - ``upright``: planar and tangent, trained and tried on spots that are upright or lie flat.
    """
    kinds, steps = recipe.kinds, recipe.steps
    runs: list[dict[str, Any]] = []

    def add(budget: str, kind: str, seed: int, steps: int = steps, rate: float = 0.0) -> None:
        rates = {"rate": rate} if rate else {}
        runs.append({"budget": budget, "kind": kind, "seed": seed, "steps": steps, **rates})

    if len(recipe.rates) > 1:
        for kind in kinds:
            for rate in recipe.rates:
                add("tuning", kind, TUNING_SEED, recipe.tuning_steps, rate)
    for seed in seeds:
        for kind in kinds:
            add("steps", kind, seed)
        for kind in recipe.controls:
            add("everywhere", kind, seed)
        for kind in kinds:  # TIMED_BY's own run is that of "steps"
            if kind != TIMED_BY:
                add("time", kind, seed, round(steps * ratio[TIMED_BY] / ratio[kind]))
        for kind in recipe.ablated:
            add("upright", kind, seed)
    return runs


def chosen_rate(record: dict[str, Any]) -> float:
    """The one rate for all kinds: the best near the equator, on average over the kinds.

    Rates are relative to each weight's spread at the start, so one rate means the same to all;
    a rate for each kind, chosen on one seed, would be chosen by that seed's luck. It is judged
    on level scenes of the tuning seed: spots near the equator, as in training.
    """
    rates = record["recipe"]["rates"]
    if len(rates) == 1:
        return float(rates[0])
    reached: dict[float, float] = dict.fromkeys(rates, 0.0)
    for run in record["runs"]:
        if run["budget"] == "tuning":
            reached[run["rate"]] += run["cc"]["level"]
    return max(reached, key=reached.__getitem__)


def run(
    scale: str = "fast",
    seeds: int | Sequence[int] | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    report: Callable[[str], None] | None = None,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Do the experiment, or what is left of it. Chapter 09.

    Args:
        scale: a key of :data:`RECIPES`. seeds: how many, or which ones; the recipe's unless given.
        out: a JSON file, written after every run; one that holds a part is continued. Beside
            it, in safetensors, the networks of the first seed at equal steps.
        device: ``"cuda"`` where there is one and the scale is ``"gpu"``, else ``"cpu"``.
        report: called with a line after each run. recipe: instead of the scale's.
    Returns:
        The record: recipe, versions, parameters, timing, runs.
    Raises:
        ValueError: an unknown scale; a file that holds another recipe.
    """
    if scale not in RECIPES:
        raise ValueError(f"scale: {scale!r}, wanted one of {', '.join(RECIPES)}")
    recipe = recipe or RECIPES[scale]
    device = device or ("cuda" if scale == "gpu" and torch.cuda.is_available() else "cpu")
    seeds = recipe.seeds if seeds is None else seeds
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    path = None if out is None else Path(out)
    record = new_record(recipe, device)
    if path is not None and path.is_file():
        old = load(path)
        if old["recipe"] != record["recipe"]:
            raise ValueError(f"{path}: holds runs of another recipe, wanted a new file")
        record = {**old, "seeds": sorted({*old["seeds"], *seeds})}
    else:
        record["seeds"] = sorted(seeds)
    if not record["timing"]:
        record["timing"] = measure(recipe, device)
    done = {_key(r) for r in record["runs"]}
    kept: dict[tuple[int, bool], Data] = {}
    for spec in plan(recipe, seeds, record["timing"]["ratio"]):
        if _key(spec) in done:
            continue
        rate = spec.get("rate") or chosen_rate(record)
        place = (spec["seed"], spec["budget"] == "upright")
        if place not in kept:
            kept = {place: make_data(*place[:1], recipe, upright=place[1])}
        network, result = _one(spec, rate, recipe, kept[place], device)
        record["runs"].append(result)
        if path is not None:
            if spec["budget"] == "steps" and spec["seed"] == seeds[0]:
                keep_weights(network, path.with_suffix(".safetensors"))
            save(record, path)
        if report is not None:
            report(f"{_key(spec)}: cc {result['cc']['level']:.3f}, {result['seconds']:.1f} s")
    record["status"] = "complete"
    if path is not None:
        save(record, path)
    return record


def _one(
    spec: dict[str, Any], rate: float, recipe: Recipe, data: Data, device: str
) -> tuple[Finder, dict[str, Any]]:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    training = "everywhere" if spec["budget"] == "everywhere" else "equator"
    network, losses = train(
        spec["kind"], recipe, data, spec["seed"], rate, spec["steps"], training, device
    )
    seconds = round(clock() - start, 3)
    result = {**spec, "rate": rate, "seconds": seconds, "losses": losses}
    return network, {**result, **score(network, data)}


def _key(run: dict[str, Any]) -> tuple[Any, ...]:
    rate = run["rate"] if run["budget"] == "tuning" else None
    return run["budget"], run["kind"], run["seed"], rate


def new_record(recipe: Recipe, device: str) -> dict[str, Any]:
    """A record without runs: what is about to be run, by which code, on what."""
    named = torch.cuda.get_device_name() if device == "cuda" else platform.machine() + " CPU"
    return {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "device": named,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "parameters": {kind: count(Finder(kind, recipe)) for kind in recipe.kinds},
        "widths": {kind: list(equal_widths(kind, recipe)) for kind in recipe.kinds},
        "timing": {},
        "seeds": [],
        "runs": [],
        "status": "running",
    }


def save(record: dict[str, Any], path: str | Path) -> None:
    """Write a record, whole or not at all; one run a line."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({k: v for k, v in record.items() if k != "runs"}, indent=1)
    runs = ",\n".join(json.dumps(run) for run in record["runs"])
    part = path.with_suffix(".part")
    part.write_text(f'{head[:-2]},\n "runs": [\n{runs}\n ]\n}}\n', "utf-8")
    os.replace(part, path)


def load(path: str | Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        FileNotFoundError. ValueError: not JSON, or of another schema.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ValueError(f"{path}: not a record of schema {SCHEMA}")
    return record


def keep_weights(network: Finder, path: Path) -> None:
    """Add a network's weights to a safetensors file, under ``kind/parameter``."""
    from safetensors.torch import load_file, save_file

    old = load_file(path) if path.is_file() else {}
    mine = {f"{network.kind}/{name}": w.cpu() for name, w in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**old, **mine}, path)


def trained(kind: str, recipe: Recipe, path: str | Path) -> Finder:
    """A network whose weights :func:`run` kept."""
    from safetensors.torch import load_file

    weights = load_file(path)
    network = Finder(kind, recipe)
    start = f"{kind}/"
    network.load_state_dict(
        {name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)}
    )
    return network


def published(name: str = "kernels.json") -> Path:
    """Path of a file in the repository's ``data/runs``, fetched by its hash where they are missing.

    Raises:
        sal360.datasets.download.DownloadError: neither there nor to be had.
    """
    here = Path(__file__).resolve().parents[2] / "data" / "runs" / name
    return here if here.is_file() else fetch(f"runs/{name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: run, and write the record after every run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--scale", choices=RECIPES, default="fast", help="how large (fast)")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="how many seeds (the scale's own number), or several: which ones",
    )
    parser.add_argument("--out", type=Path, help="JSON record, continued if it holds a part")
    parser.add_argument("--device", help="cpu or cuda")
    given = parser.parse_args(arguments)
    run(
        given.scale,
        given.seeds,
        given.out,
        given.device,
        report=lambda line: print(line, flush=True),
    )


if __name__ == "__main__":
    main()
