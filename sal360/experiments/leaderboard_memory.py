"""How long should a network of the leaderboard remember? Chosen on the validation worlds.

Every arm is trained on clips of :data:`~sal360.experiments.leaderboard_arms.CLIP` frames, each
begun with an empty memory (or with no map before the first), and validated alike. The test worlds
last longer. A memory that goes on and on meets states that no clip of the training had; one that
is emptied every so many frames never does, and forgets. Which of the two an arm is scored with is
chosen where networks may choose: on the validation worlds. The published SST-Sal empties its
memory too, every 20 frames. Chapter 14 says why memories drift, chapter 17 reads the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360.experiments.leaderboard_arms import CLIP
from sal360.experiments.leaderboard_scores import Scene, predicted, scene, scored
from sal360.models.base import FrameModel
from sal360.nn.state import state_tensors
from sal360.results import sha256
from sal360.training.inputs import clip_inputs

CARRIED, EMPTIED = "carried", f"every {CLIP}"


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
    return ("emptied", CLIP) if memory["kept"] == CARRIED else ("carried", None)


def add_other(
    record: Path, out: Path, device: str = "cpu", report: Callable[[str], None] = print
) -> None:
    """Scores with the memory that was not kept, of runs of which a record has them upright alone,
    or not at all. The record is written after each run.

    Args:
        record: path. out: folder with the weights and the packs of its test worlds.
    Raises:
        FileNotFoundError: no record, or packs that are not there. ValueError: weights or worlds
            that are not the record's.
    """
    from sal360.experiments.leaderboard import load, opened, save
    from sal360.experiments.leaderboard_real import loaded

    whole, held = load(record), opened(out)
    for name in whole["conditions"]:
        if name not in held:
            raise FileNotFoundError(f"{out}: no pack {name!r}, wanted {whole['conditions']}")
        if list(held[name].videos) != whole["videos"]:
            raise ValueError(f"{out}: pack {name!r} is not of the worlds that {record} names")
    scenes: dict[str, Scene] = {}
    for arm, row in whole["arms"].items():
        for run in row["runs"]:
            path = out / "weights" / str(run.get("weights"))
            if "memory" not in run or not path.is_file():
                continue
            way, every = other_way(run["memory"])
            known = run.get(way, {})
            lacking = [name for name in whole["conditions"] if name not in known]
            if not lacking:
                continue
            if sha256(path) != run["sha256"]:
                raise ValueError(f"{path}: not the weights that {record} names")
            model = loaded(arm, path).to(device)
            for name in lacking:
                if name not in scenes:
                    scenes[name] = scene(held[name], name, device)
                known[name] = scored(predicted(model, scenes[name], every=every), scenes[name])
                cc = mean(known[name]["cc"])
                report(f"{arm}, seed {run['seed']}, {way}, {name}: cc {cc:.3f}")
            run[way] = {name: known[name] for name in whole["conditions"]}
            save(whole, record)


def mean(values: Sequence[float | None]) -> float:
    """Of what is known."""
    known = [value for value in values if value is not None]
    return float(Tensor(known).mean())
