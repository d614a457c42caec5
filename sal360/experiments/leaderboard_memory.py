"""How long should a network of the leaderboard remember? Chosen on the validation worlds.

Every arm is trained on clips of :data:`~sal360.experiments.leaderboard_arms.CLIP` frames, each
begun with an empty memory (or with no map before the first), and validated alike. The test worlds
last longer. A memory that goes on and on meets states that no clip of the training had; one that
is emptied every so many frames never does, and forgets. Which of the two an arm is scored with is
chosen where networks may choose: on the validation worlds. (They are few, and shorter than the
test worlds, which misled the choice: :func:`over_time`, chapter 17.) The published SST-Sal empties
its memory too, every 20 frames. Chapter 14 says why memories drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360.experiments.leaderboard_arms import CLIP, FPS
from sal360.experiments.leaderboard_scores import BANDS, Scene, predicted, scene, scored
from sal360.metrics import cc
from sal360.models.base import FrameModel
from sal360.nn.state import state_tensors
from sal360.results import sha256
from sal360.sphere import erp_directions, pixel_area, xyz_to_lonlat
from sal360.training.inputs import clip_inputs

CARRIED, EMPTIED = "carried", f"every {CLIP}"
WAYS = {"carried": None, "emptied": CLIP}
"""After how many frames a memory is emptied, by what a record calls its scores."""


def remembers(model: nn.Module, test: Scene) -> bool:
    """Whether anything goes from frame to frame."""
    if isinstance(model, FrameModel) and model.extra == "motion":
        return False
    with torch.no_grad():
        _, state = model.step(clip_inputs(model, test.batch)[:1, 0])  # type: ignore[operator]
    return any(True for _ in state_tensors(state))


def chosen(model: nn.Module, held: Scene) -> dict[str, Any]:
    """CC on the validation worlds with either memory, and ``kept``, the name of the better."""
    found: dict[str, Any] = {
        name: mean(scored(predicted(model, held, every=every), held)["cc"])
        for name, every in ((CARRIED, None), (EMPTIED, CLIP))
    }
    return found | {"kept": max(found, key=found.__getitem__)}


def other_way(memory: Mapping[str, Any]) -> tuple[str, int | None]:
    """What a record calls the memory that was not kept, and after how many frames it is emptied."""
    name = "emptied" if memory["kept"] == CARRIED else "carried"
    return name, WAYS[name]


def add_other(
    record: Path, out: Path, device: str = "cpu", report: Callable[[str], None] = print
) -> None:
    """Scores with the memory that was not kept, of runs of which a record has them upright alone,
    or not at all, :func:`over_time`, and :func:`mass` upright and at the largest tilt with
    memories emptied. The record is written after each run.

    Args:
        record: path. out: folder with the weights and the packs of its worlds.
    Raises:
        FileNotFoundError: no record, or packs that are not there. ValueError: weights or worlds
            that are not the record's.
    """
    from sal360.experiments.leaderboard import load, opened, save
    from sal360.experiments.leaderboard_real import loaded

    whole, held = load(record), opened(out)
    for name in ("val", *whole["conditions"]):
        if name not in held:
            raise FileNotFoundError(f"{out}: no pack {name!r}, wanted val, {whole['conditions']}")
        if name != "val" and list(held[name].videos) != whole["videos"]:
            raise ValueError(f"{out}: pack {name!r} is not of the worlds that {record} names")
    scenes: dict[str, Scene] = {}

    def worlds(name: str) -> Scene:
        if name not in scenes:
            scenes[name] = scene(held[name], name, device)
        return scenes[name]

    for arm, row in whole["arms"].items():
        for run in row["runs"]:
            path = out / "weights" / str(run.get("weights"))
            if "memory" not in run or not path.is_file():
                continue
            way, every = other_way(run["memory"])
            known = run.get(way, {})
            lacking = [name for name in whole["conditions"] if name not in known]
            if not lacking and "over_time" in run and "mass" in run:
                continue
            if sha256(path) != run["sha256"]:
                raise ValueError(f"{path}: not the weights that {record} names")
            model = loaded(arm, path).to(device)
            told = f"{arm}, seed {run['seed']}"
            for name in lacking:
                known[name] = scored(predicted(model, worlds(name), every=every), worlds(name))
                report(f"{told}, {way}, {name}: cc {mean(known[name]['cc']):.3f}")
            run[way] = {name: known[name] for name in whole["conditions"]}
            if "over_time" not in run:
                run["over_time"] = {name: over_time(model, worlds(name))
                                    for name in ("val", "upright")}  # fmt: skip
                report(f"{told}, upright, by seconds: {run['over_time']['upright']}")
            if "mass" not in run:
                ends = whole["conditions"][0], whole["conditions"][-1]
                run["mass"] = {name: mass(predicted(model, worlds(name), every=CLIP))
                               for name in ends}  # fmt: skip
                report(f"{told}, mass: {run['mass']}")
            save(whole, record)


def mass(maps: Tensor) -> dict[str, float]:
    """Share of the mass of maps ``(V, T, H, W)`` that lies in each band of latitude."""
    H, W = maps.shape[-2:]
    area = pixel_area(H, W).to(maps.device)
    rows = (maps.double() * area[:, None]).sum(-1).mean((0, 1))
    lat = xyz_to_lonlat(erp_directions(H, W)[:, 0])[1].rad2deg().abs().to(maps.device)
    return {
        band: round(rows[(lat >= low) & (lat < high)].sum().item(), 4)
        for band, (low, high) in BANDS.items()
    }


def over_time(model: nn.Module, test: Scene) -> dict[str, list[float]]:
    """CC in each whole second, the mean over videos, ``carried`` and ``emptied``."""
    assert test.batch.truth is not None
    truth, second = test.batch.truth[:, :, 0], round(FPS)
    seen = truth.flatten(2).isfinite().all(2)
    found = {}
    for name, every in WAYS.items():
        values = cc(predicted(model, test, every=every), truth).where(seen, torch.nan)
        parts = values.split(second, 1)
        means = [part.double().nanmean().item() for part in parts if part.shape[1] == second]
        found[name] = [round(value, 4) for value in means]
    return found


def mean(values: Sequence[float | None]) -> float:
    """Of what is known."""
    known = [value for value in values if value is not None]
    return float(Tensor(known).mean())
