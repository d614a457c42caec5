"""What was measured elsewhere and is committed here: runs of training, and benchmarks.

Chapters 16 and 17 read them, so that a page shows a run that really happened, on the device that
its record names. Where the repository is not at hand (Colab), files come by their hash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sal360.datasets.download import fetch, registry
from sal360.training.recipe import INPUTS
from sal360.training.records import load_record

DATA = Path(__file__).resolve().parents[2] / "data"
TRAININGS = "runs/train"


def trainings() -> dict[str, list[dict[str, Any]]]:
    """The real runs: arm to the records of its seeds; the systems first, in their order.

    Files are ``data/runs/train/ARM.json``, or ``ARM-SEED.json`` where there are several.

    Raises:
        ValueError: a file that is no record of a run.
    """
    if (DATA / TRAININGS).is_dir():
        paths = list((DATA / TRAININGS).glob("*.json"))
    else:
        names = [name for name in registry() if name.startswith(f"{TRAININGS}/")]
        paths = [fetch(name) for name in names if name.endswith(".json")]
    found: dict[str, list[dict[str, Any]]] = {}
    for arm, _, path in sorted((*_arm(path), path) for path in paths):
        found.setdefault(arm, []).append(load_record(path))
    order = list(INPUTS)
    known = [arm for arm in order if arm in found]
    return {arm: found[arm] for arm in (*known, *(a for a in found if a not in order))}


def _arm(path: Path) -> tuple[str, int]:
    """Arm and seed that a file's name says."""
    arm, _, seed = path.stem.rpartition("-")
    return (arm, int(seed)) if seed.isdigit() else (path.stem, 0)


def benchmark(name: str) -> dict[str, Any] | None:
    """``data/benchmarks/NAME.json``, or None if that has not been measured yet."""
    wanted = f"benchmarks/{name}.json"
    path = DATA / wanted
    if not path.is_file():
        if (DATA / "runs").is_dir() or wanted not in registry():
            return None
        path = fetch(wanted)
    record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return record
