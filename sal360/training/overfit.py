"""Can a network learn at all? Each system fits one clip, and a record says how well.

A network that cannot fit six frames has a fault: in its gradient, in its loss, in what it is
given. One that can has shown nothing about other films. The clip is the embedded one
(:func:`sal360.datasets.synthetic.render_clip`), whose truth is a rule: look at what moves. Frame
models are scored in closed loop, fed with their own maps. Chapter 16 reads the record that this
module writes::

    python -m sal360.training.overfit --scale fast --out data/runs/overfit.json
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
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360 import _runtime
from sal360._version import __version__
from sal360.datasets.batch import Batch, collate
from sal360.datasets.item import Item
from sal360.datasets.synthetic import render_clip
from sal360.losses import temporal_losses
from sal360.metrics import cc
from sal360.models.base import FrameModel
from sal360.models.registry import check_device
from sal360.sphere import pixel_area
from sal360.training import run_files as records
from sal360.training.fit import build_model, fit, previous_maps, weak_loss
from sal360.training.inputs import clip_inputs
from sal360.training.objectives import as_read, map_loss, target_maps
from sal360.training.recipe import SCALES, Recipe, load_recipe, recipe_names

SCHEMA = "sal360/overfit/1"
FPS, CLIP_SEED = 8.0, 0
POINTS = 40
"""Of a curve in the record: means of as many parts of the steps."""
FALL, GOOD = 10.0, 0.9
"""Learned is: a loss so many times smaller, or such a CC with the truth."""


def one_clip(recipe: Recipe) -> Batch:
    """A batch of the recipe's shape that holds the embedded clip as often as the recipe asks."""
    T, (H, W) = recipe.clip_length, recipe.size
    made = render_clip(T + 1, H, W, FPS, CLIP_SEED)  # one more, for the flow of the last frame
    item = Item(
        dataset="embedded",
        video="clip",
        frames=made.frames[:T],
        indices=torch.arange(T),
        fps=FPS,
        flow=made.flow,
        truth=made.truth[:T, None],
    )
    return collate([item] * recipe.batch)


def known_of(batch: Batch) -> dict[str, Tensor]:
    """Truth and flow of :func:`one_clip`."""
    assert batch.truth is not None
    assert batch.flow is not None
    return {"truth": batch.truth, "flow": batch.flow}


@torch.no_grad()
def answer(model: nn.Module, clip: Tensor, truth: Tensor | None = None) -> Tensor:
    """Raw maps ``(B, T, 1, H, W)`` of a whole clip in evaluation mode, in closed loop.

    Args:
        clip: inputs. truth: give a model of previous maps those of the truth instead.
    """
    model.eval()
    if not isinstance(model, FrameModel):
        return model(clip)
    if truth is None:
        return model.rollout(clip)
    return model.rollout(clip, previous_maps(model, clip, truth))


@torch.no_grad()
def measure(model: nn.Module, batch: Batch, recipe: Recipe) -> dict[str, float]:
    """Loss and CC with the truth, in closed loop and evaluation mode.

    Also, of models of previous maps, the CC where the truth's are given; of the loss ``"weak"``
    its two parts, that between frames and the anchor, and the largest value of a map.
    """
    clip, known = clip_inputs(model, batch), known_of(batch)
    reading = getattr(model, "reading", "minmax")
    raw = answer(model, clip)
    out = {
        "loss": 0.0,
        "cc": float(cc(as_read(raw, reading), known["truth"]).mean()),
    }
    if recipe.loss == "weak":
        parts = weak_loss(model, clip, known, recipe)
        anchor = recipe.anchor * float(parts.anchor)
        out |= {"loss": float(parts.total), "between": float(parts.total) - anchor}
        out |= {"anchor": anchor, "largest": float(raw.abs().max())}
    else:
        out["loss"] = float(map_loss(raw, known["truth"], recipe, reading))
    if getattr(model, "extra", None) == "previous":
        forced = as_read(answer(model, clip, known["truth"]), reading)
        out["cc, given the truth before"] = float(cc(forced, known["truth"]).mean())
    return out


def flat_loss(batch: Batch, recipe: Recipe) -> float:
    """The loss of the best map that is the same everywhere: what a network that learned nothing
    but the mean would reach. A loss that fell tenfold to this one fell for nothing. Of the loss
    ``"weak"``: its part between frames, for uniform maps, which is nearly nothing."""
    known = known_of(batch)
    flat = torch.ones_like(known["truth"])
    if recipe.loss == "weak":
        return float(temporal_losses(flat, known["flow"][:, :-1]).total())
    if recipe.loss == "sphere_mse":
        target = target_maps(known["truth"], recipe)
        share = pixel_area(*recipe.size).to(target)[:, None] / (4 * math.pi)
        flat = flat * (target * share).sum((-2, -1)).mean()
    return float(map_loss(flat, known["truth"], recipe))


def overfit(recipe: Recipe, device: str = "cpu") -> tuple[dict[str, Any], nn.Module]:
    """Fit the clip; what came of it, and the network.

    Returns:
        ``recipe`` and its ``digest``; ``parameters``; ``flat``, see :func:`flat_loss`; ``before``
        and ``after``, see :func:`measure`; ``fall``, how many times the loss is smaller;
        ``learned``, whether it is :data:`FALL` times smaller or the CC above :data:`GOOD`;
        ``curve``, the training losses; ``seconds`` of the steps alone.
    """
    batch = one_clip(recipe).to(device)
    model = build_model(recipe).to(device)
    before = measure(model, batch, recipe)
    start = time.perf_counter()
    losses = torch.tensor([step.loss for step in fit(model, repeat(batch), recipe)])
    seconds = time.perf_counter() - start
    after = measure(model, batch, recipe)
    fall = before["loss"] / max(after["loss"], 1e-12)
    parts = losses.tensor_split(min(POINTS, len(losses)))
    return {
        "recipe": recipe.settings(),
        "digest": recipe.digest,
        "parameters": sum(p.numel() for p in model.parameters()),
        "flat": flat_loss(batch, recipe),
        "before": before,
        "after": after,
        "fall": fall,
        "learned": fall >= FALL or after["cc"] > GOOD,
        "curve": [float(f"{float(part.mean()):.4g}") for part in parts],
        "seconds": round(seconds, 1),
    }, model


def run(
    names: Sequence[str] = (),
    scale: str = "fast",
    out: str | Path | None = None,
    device: str = "cpu",
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Overfit by several recipes, and write the record.

    Args:
        names: of recipes; all if empty. Where ``out`` holds a record already, those that are
            not named stay in it.
        out: JSON file, written after each. report: is told a line for each.
    Raises:
        ValueError: an unknown recipe, a device that is not here, another file in ``out``.
    """
    check_device(device)
    recipes = {name: load_recipe(name, scale) for name in names or recipe_names()}
    runs: dict[str, Any] = {}
    if names and out is not None and Path(out).is_file():
        runs = load(out)["runs"]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "sal360": __version__,
        "data": {"clip": "sal360.datasets.synthetic.render_clip", "fps": FPS, "seed": CLIP_SEED},
        "learned is": {"a loss smaller by": FALL, "or a CC above": GOOD},
    }
    for name, recipe in recipes.items():
        runs[name], _ = overfit(recipe, device)
        runs[name] |= {"code": code(), "machine": _machine(device)}
        if report is not None:
            report(f"{name:18s}{told(runs[name])}")
        record["runs"] = {known: runs[known] for known in recipe_names() if known in runs}
        if out is not None:  # after each, for whoever stops here
            records.write(json.dumps(record, indent=1) + "\n", out)
    return record


def load(path: str | Path | None = None) -> dict[str, Any]:
    """The record of :func:`run`; the published one if no path is given."""
    return records.read(records.published("overfit.json") if path is None else path, SCHEMA)


def told(found: dict[str, Any]) -> str:
    """A run in a line."""
    before, after = found["before"], found["after"]
    return (
        f"loss {before['loss']:.3g} -> {after['loss']:.3g} ({found['fall']:.1f} times less; "
        f"flat {found['flat']:.3g}), CC {before['cc']:.2f} -> {after['cc']:.3f}, "
        f"{found['recipe']['steps']} steps in {found['seconds']:.0f} s"
        f"{'' if found['learned'] else ', NOT LEARNED'}"
    )


def code() -> str:
    """SHA-256 of what decides a run: this package's training, models, layers and losses."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for room in ("training", "models", "nn", "losses"):
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _machine(device: str) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sal360.training.overfit", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(recipe_names())}")
    parser.add_argument("--scale", default="fast", choices=SCALES)
    parser.add_argument("--out", help="JSON file; not written unless given")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    _runtime.tune_allocator()
    try:
        run(chosen.names, chosen.scale, chosen.out, chosen.device, print)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
