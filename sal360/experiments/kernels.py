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
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360._check import positive_int, usable_device, whole_number
from sal360._version import __version__
from sal360.experiments.networks import Finder, count, equal_widths
from sal360.experiments.recipe import RECIPES, Recipe
from sal360.experiments.task import (
    BANDS,
    TILTS,
    TRAINED_TO,
    Scenes,
    render,
    tilts,
    training_scenes,
    trial_scenes,
)  # fmt: skip
from sal360.metrics import cc
from sal360.projections import cube_directions, sample_erp
from sal360.sphere import erp_directions, erp_index, pixel_area
from sal360.training import run_files as records

SCHEMA = "sal360/kernels/1"
TUNING_SEED = 1000
"""The learning rate is chosen on this seed, which no result uses."""

TIMED_BY = "tangent"
"""Whose time the others are given when times are equal."""


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
        kind: one of the recipe's. seed: of the weights and of the order of the pictures.
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
        scale: ``"fast"``, ``"cpu"`` or ``"gpu"``. seeds: how many, or which ones; the recipe's
            unless given.
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
    default = "cuda" if scale == "gpu" and torch.cuda.is_available() else "cpu"
    device = default if device is None else usable_device(device)
    seeds = recipe.seeds if seeds is None else seeds
    if isinstance(seeds, int):
        seeds = range(positive_int(seeds, "seeds"))
    seeds = [whole_number(seed, "seeds", 0) for seed in seeds]
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


def again(
    path: str | Path, device: str = "cpu", report: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Train the networks of a record's first seed at equal steps once more, and keep their scores
    beside the others: what another machine, torch or order of sums makes of the same seed.

    Args:
        path: a complete record; its entry ``again`` is written anew. device: where.
        report: called with a line after each network.
    Returns:
        The record, with ``again``: code, device, versions, seed, and by kind ``cc``.
    Raises:
        FileNotFoundError. ValueError: no such record, or one that is not complete.
    """
    record = load(path)
    if record["status"] != "complete":
        raise ValueError(f"{path}: {record['status']}, wanted a complete record")
    recipe, seed = Recipe(**_tuples(record["recipe"])), record["seeds"][0]
    data, rate, scores = make_data(seed, recipe), chosen_rate(record), {}
    for spec in plan(recipe, [seed], record["timing"]["ratio"]):
        if spec["budget"] == "steps":
            _, result = _one(spec, rate, recipe, data, device)
            scores[spec["kind"]] = result["cc"]
            if report is not None:
                report(f"{spec['kind']}: cc {result['cc']['level']:.3f}")
    now = new_record(recipe, device)
    about = {name: now[name] for name in ("sal360", "code", "device", "versions")}
    record["again"] = {**about, "seed": seed, "cc": scores}
    save(record, path)
    return record


def _tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were before they went through JSON."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


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
        "code": _code(),
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


_RIM = Path(__file__).parents[1] / "nn" / "_rim.c"


def _code() -> str:
    """Hash of the files that decide a run, the layers' among them."""
    digest = hashlib.sha256()
    here = Path(__file__)
    own = [here.with_name(f"{name}.py") for name in ("recipe", "task", "networks", "kernels")]
    for path in own + sorted((here.parents[1] / "nn").glob("*.py")) + [_RIM]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def save(record: dict[str, Any], path: str | Path) -> None:
    """Write a record, whole or not at all; one run a line."""
    head = json.dumps({k: v for k, v in record.items() if k != "runs"}, indent=1)
    runs = ",\n".join(json.dumps(run) for run in record["runs"])
    records.write(f'{head[:-2]},\n "runs": [\n{runs}\n ]\n}}\n', path)


def load(path: str | Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        FileNotFoundError. ValueError: not JSON, or of another schema.
    """
    record = records.read(path, SCHEMA)
    for entry in ("recipe", "seeds", "runs", "timing", "status"):
        if entry not in record:
            raise ValueError(f"{path}: {entry}: missing")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: run, and write the record after every run."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.kernels", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", choices=RECIPES, default="fast", help="how large (fast)")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="how many seeds (the scale's own number), or several: which ones",
    )
    parser.add_argument("--out", type=Path, help="JSON record, continued if it holds a part")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument(
        "--again",
        type=Path,
        metavar="RECORD",
        help="train its first seed's networks at equal steps once more, and keep the scores in it",
    )
    given = parser.parse_args(arguments)

    def report(line: str) -> None:
        print(line, flush=True)

    def work() -> None:
        if given.again is not None:
            if given.out is not None:
                raise ValueError("--out: --again writes into the record that it is given")
            again(given.again, usable_device(given.device or "cpu"), report)
            return
        which = given.seeds and (given.seeds if len(given.seeds) > 1 else given.seeds[0])
        run(given.scale, which, given.out, given.device, report=report)

    out = given.out if given.again is None else given.again
    return records.command(parser.prog, work, out, SCHEMA)


if __name__ == "__main__":
    sys.exit(main())
