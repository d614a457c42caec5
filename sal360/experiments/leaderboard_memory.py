"""How long should a network of the leaderboard remember? Tried on validation worlds, then scored.

Every arm was trained on clips of :data:`~sal360.experiments.leaderboard_arms.CLIP` frames, each
begun with an empty memory (or with no map before the first). The test worlds last longer. A
memory that goes on and on meets states that no clip of the training had; one that is emptied every
so many frames never does, and forgets. Which of the two an arm is scored with is chosen where
networks may choose: on the validation worlds. The published SST-Sal empties its memory too, every
20 frames. Chapter 14 says why memories drift, chapter 17 reads the outcome::

    python -m sal360.experiments.leaderboard_memory data/runs/leaderboard.json runs/weights

adds to each run of the record that has a memory and weights at hand ``memory``: ``{"carried": CC
on the validation worlds, "every 8": the same, "kept": the name of the better, "device"}``; its
``scores`` are then those of the better, and those of a memory carried on, as the run itself
scored, are kept as ``carried``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360 import _runtime
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.datasets.tilted import Tilted
from sal360.experiments import leaderboard, records
from sal360.experiments.leaderboard_arms import ARMS, CLIP, FPS, SCALES
from sal360.experiments.leaderboard_real import loaded
from sal360.experiments.leaderboard_scores import Scene, predicted, scene, scored
from sal360.models.base import FrameModel
from sal360.nn.state import state_tensors
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
    """CC on the validation worlds with either memory, and the better of the two."""
    found: dict[str, Any] = {
        name: mean(scored(predicted(model, held, every=every), held)["cc"])
        for name, every in ((CARRIED, None), (EMPTIED, CLIP))
    }
    return found | {"kept": max(found, key=found.__getitem__)}


def mean(values: Sequence[float | None]) -> float:
    """Of what is known."""
    known = [value for value in values if value is not None]
    return float(Tensor(known).mean())


def add_memory(
    record: dict[str, Any],
    weights: Path,
    kept: Path,
    device: str = "cpu",
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Choose and score; what is done already in the folder ``kept`` is not done again.

    Args:
        record: a leaderboard. weights: folder of ``ARM-SEED.safetensors``.
    Returns:
        the record, with ``memory`` in its runs.
    """
    scale, scenes = SCALES[record["scale"]], {}

    def worlds(name: str) -> Scene:
        if name not in scenes:
            split = "val" if name == "val" else "test"
            number, seconds = getattr(scale, split)
            data: Any = SyntheticWorlds(split, number, seconds, FPS, scale.size)
            tilt = float(name.removeprefix("tilt ")) if name.startswith("tilt") else 0.0
            scenes[name] = scene(Tilted(data, tilt) if tilt else data, name, device)
        return scenes[name]

    for name, arm in record["arms"].items():
        if name not in ARMS or ARMS[name].kind == "baseline":
            continue
        for run in arm["runs"]:
            path = weights / f"{name}-{run['seed']}.safetensors"
            done = kept / f"{name}-{run['seed']}.json"
            if "memory" in run or not path.is_file():
                continue
            if not done.is_file():
                model = loaded(name, path).to(device).eval()
                if not remembers(model, worlds("val")):
                    continue
                memory = chosen(model, worlds("val")) | {"device": device}
                result: dict[str, Any] = {"memory": memory, "scores": None}
                if memory["kept"] == EMPTIED:
                    result["scores"] = {
                        where: scored(predicted(model, worlds(where), every=CLIP), worlds(where))
                        for where in record["conditions"]
                    }
                records.write(json.dumps(result), done)
            result = json.loads(done.read_text("utf-8"))
            run["memory"] = result["memory"]
            if result["scores"] is not None:
                run["carried"], run["scores"] = run["scores"], result["scores"]
            told = {k: round(v, 3) for k, v in run["memory"].items() if isinstance(v, float)}
            report(f"{name}, seed {run['seed']}: {told}, kept {run['memory']['kept']}")
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("weights", type=Path, help="folder of ARM-SEED.safetensors")
    parser.add_argument("--kept", type=Path, help="folder of what is done already")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    _runtime.tune_allocator()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    kept = given.kept or given.weights.parent / "memory"
    record = add_memory(
        leaderboard.load(given.record),
        given.weights,
        kept,
        given.device,
        lambda line: print(line, flush=True),
    )
    leaderboard.save(record, given.record)


if __name__ == "__main__":
    main()
