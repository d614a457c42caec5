"""What costs nothing, on the worlds that chose the weights of the real runs.

A validation curve is read against a line: the equator's score on the same videos, scored by the
same :func:`sal360.training.validation.validate`. Chapter 16 draws it. A minute::

    python -m sal360.experiments.floor --out data/runs/floor.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sal360._version import __version__
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.experiments.leaderboard_arms import FPS, REFERENCE, SCALES
from sal360.models import load_model
from sal360.training import run_files as records
from sal360.training.records import data_facts
from sal360.training.validation import mean_scores, validate

SCHEMA = "sal360/floor/1"


def run(scale_name: str = "gpu") -> dict[str, Any]:
    """The record: the videos, and the baseline's mean scores."""
    scale = SCALES[scale_name]
    worlds = SyntheticWorlds("val", *scale.val, FPS, scale.size)
    scores = validate(load_model(REFERENCE), worlds, size=scale.size)
    return {
        "schema": SCHEMA,
        "sal360": __version__,
        "baseline": REFERENCE,
        "validation": data_facts(worlds),
        "seconds": scale.val[1],
        "means": mean_scores(scores),
    }


def load(path: str | Path | None = None) -> dict[str, Any]:
    """The record of :func:`run`; the published one if no path is given."""
    return records.read(records.published("floor.json") if path is None else path, SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.floor", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", default="gpu", choices=list(SCALES))
    parser.add_argument("--out", type=Path, help="JSON file; printed if not given")
    given = parser.parse_args(arguments)

    def work() -> None:
        text = json.dumps(run(given.scale), indent=1) + "\n"
        if given.out:
            records.write(text, given.out)
        else:
            print(text, end="")

    return records.command(parser.prog, work, given.out, SCHEMA)


if __name__ == "__main__":
    sys.exit(main())
