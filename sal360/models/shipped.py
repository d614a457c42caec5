"""The trained weights that come with the package, and what one should know of each.

``bundled/<name>.safetensors`` for :func:`sal360.models.load_model`, and ``bundled/index.json``,
written by :mod:`sal360.models.bundle` from the record of the run they came from. Cards are made of
the index: nothing in them is typed. Chapter 16 trains such weights, chapter 17 says what they are
worth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).parent / "bundled"
SCHEMA = "sal360/bundled/1"
LARGEST = 5_000_000
"""Bytes of all bundled weights together, at most."""
LICENCE = "MIT, as the package: trained by it, on worlds that it draws"
LIMITS = (
    "It has seen drawn worlds and simulated observers, and no real film: what moves and stands "
    "out there are balls, boxes and stars. For real films the official weights, where "
    "there are any, have seen more."
)


def weights_path(name: str, folder: str | Path | None = None) -> Path | None:
    """The bundled file of a network, or None if there is none."""
    path = Path(folder or BUNDLED) / f"{name}.safetensors"
    return path if path.is_file() else None


def read_index(folder: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Name to entry, of all bundled weights.

    An entry holds ``file, sha256, bytes, storage, parameters``; ``run``, what made the weights;
    ``source``, the hash of the weights of that run; ``validation``, the score by which they were
    chosen and how well it was reproduced; ``rounding``, what half precision changes; ``forgets``,
    after how many frames its memory is emptied, and ``memory``, what either way scored on the
    validation worlds, or None; ``test`` and ``real``, scores on worlds and real films that no run
    has seen, with the baselines', or None.

    Raises:
        ValueError: a file of another schema.
    """
    path = Path(folder or BUNDLED) / "index.json"
    if not path.is_file():
        return {}
    index = json.loads(path.read_text("utf-8"))
    if index.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema: {index.get('schema')!r}, wanted {SCHEMA!r}")
    return dict(index["models"])


def entry_of(name: str, folder: str | Path | None = None) -> dict[str, Any] | None:
    """The entry of a network, or None if no weights of it are bundled."""
    return read_index(folder).get(name) if weights_path(name, folder) else None


def card_lines(entry: Mapping[str, Any]) -> dict[str, str]:
    """What one should know, by heading: trained on, run, chosen by, scores, licence, limits."""
    run, validation = entry["run"], entry["validation"]
    data = run["data"]
    size = " x ".join(map(str, run["size"]))
    seeds = f"the best of {run['seeds']} seeds" if run["seeds"] > 1 else "one seed"
    out = {
        "trained on": f"{data['videos']} synthetic worlds, split {data['split']}, {size}, "
        f"{data['fps']:g} frames a second; {run['step']:,} steps of {run['clips_per_step']} clips",
        "run": f"{run['name']}, seed {run['seed']}, {seeds}; {run['status']} after "
        f"{run['steps']:,} of {run['asked']:,} steps at scale {run['scale']} on {run['device']}, "
        f"{run['started'][:10]}",
        "chosen by": f"{validation['metric'].upper()} {validation['value']:.3f} on "
        f"{validation['videos']} other worlds (split {validation['split']}); reproduced on "
        f"{validation['checked']['videos']} of them to {validation['checked']['difference']:.1g}",
        "file": f"{entry['bytes'] / 1000:,.0f} kB, {entry['parameters']:,} parameters in "
        f"{entry['storage']} ({_rounding(entry)}), SHA-256 {entry['sha256'][:16]}",
    }
    if entry.get("forgets"):
        every, memory = entry["forgets"], entry.get("memory")
        scored = f" (CC {memory[f'every {every}']:.3f}, {memory['carried']:.3f})" if memory else ""
        out["memory"] = (
            f"emptied every {every} frames, the length of the clips it was trained on: "
            f"so it did better on validation worlds than carried on{scored}"
        )
    if run["pretrained"]:
        out["pretrained"] = run["pretrained"]
    where = "test worlds that share nothing with these"
    out["scores"] = scores_line(entry["test"], where) or "not scored on test worlds yet"
    if entry["real"]:
        films = f"films of {entry['real']['data']}, of each one picture"  # no more is published
        out["real films"] = scores_line(entry["real"], films)
    return out | {"licence": LICENCE, "limits": LIMITS}


def _rounding(entry: Mapping[str, Any]) -> str:
    moved = entry["rounding"]["difference"]
    if moved is None:
        return "half precision cannot hold them"
    if entry["storage"] == "float16":
        return f"rounding moved no score by more than {moved:.1g}"
    return f"half precision would move a score by {moved:.1g}"


def scores_line(scored: Mapping[str, Any] | None, where: str) -> str:
    """Scores on unseen films beside the best baseline of each metric, and who wins; empty if
    there are none."""
    from sal360.training.validation import better  # which imports all the models

    if scored is None:
        return ""
    told = []
    beaten: list[str] = []
    for metric, own in scored["scores"].items():
        name, other = best_baseline(scored, metric)
        told.append(f"{metric.upper()} {own:.3f} ({name} {other:.3f})")
        if not better(metric, own, other):
            beaten.append(f"{name} by {metric.upper()}")
    line = f"on {scored['videos']} {where}, in brackets the best baseline: {', '.join(told)}."
    if not beaten:
        return f"{line} It beats every baseline."
    everything = len(beaten) == len(scored["scores"])
    return f"{line} {'No metric is won: b' if everything else 'B'}etter are {_and(beaten)}."


def best_baseline(test: Mapping[str, Any], metric: str) -> tuple[str, float]:
    """Name and mean of the baseline that is best by a metric."""
    from sal360.training.validation import better  # which imports all the models

    name, best = "", math.nan
    for one, scores in test["baselines"].items():
        if better(metric, scores[metric], best):
            name, best = one, scores[metric]
    return name, best


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
