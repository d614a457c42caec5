"""What do people, other videos and simple rules reach on real head traces?

AVTrack360: 48 people, 20 videos of 30 seconds, where their heads pointed. In each video the people
are split at random, again and again; the truth is one map of everything one half looked at, a
direction a second with blobs of 5 degrees. CC, SIM and KLD compare with that map, NSS, AUC and
information gain ask at the directions. The map of the other half is the ceiling, the equator is
what costs nothing. Chapter 12 reads the record that this module writes::

    python -m sal360.experiments.baselines --out data/runs/baselines.json

The films are not published, one picture of each is. So what looks at the picture is given that
one, and what looks at motion cannot be measured here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sal360._version import __version__
from sal360.baselines import mean_of_others
from sal360.datasets import download
from sal360.datasets.layouts import AVTrack360
from sal360.evaluation import Evaluation, compare, evaluate
from sal360.evaluation.report import estimate, favours, plain
from sal360.gaze import fixation_maps, interpolate
from sal360.inference import ClipModel, predict_frames
from sal360.models import load_model
from sal360.training import run_files as records

SCHEMA = "sal360/baselines/1"
SIZE = (60, 120)
"""Of the maps: 3 degrees a pixel, for blobs of 5."""
SIGMA_DEG = 5.0
EPS = 0.01
"""Share of every prediction that is spread evenly before KLD and information gain: a network's map
is 0 at its minimum, and one sample there would make its score infinite."""
HALVES = 10
"""Random halves of the people in each video; its score is the mean over them."""
RATE, START, END = 1, 1.0, 30.0
"""Directions a second, from the second at which people have begun to look around."""
SEED = 0
REFERENCE = "equator"
SCORES = ("cc", "sim", "kld", "nss", "auc_judd", "information_gain")
MODELS = ("uniform", "equator", "equator-front", "contrast", "sst-sal-noflow")
"""Looked up by :func:`sal360.models.load_model` and given the one picture."""
NOT_MEASURED = {
    name: f"looks at {what}, and AVTrack360 publishes one picture of each video"
    for name, what in (
        ("motion", "motion"),
        ("centre-of-motion", "motion"),
        ("sst-sal", "optical flow"),
    )
}

Heads = dict[str, list[Tensor]]
"""Video to the ``(N, 2)`` lon, lat of each observer."""


def heads(dataset: AVTrack360) -> Heads:
    """Where everybody looked, :data:`RATE` times a second, in radians."""
    when = torch.arange(START, END, 1 / RATE, dtype=torch.float64)
    found: Heads = {}
    for video in dataset.videos:
        traces = dataset.traces(video)
        both = torch.stack(interpolate(traces.time, traces.lon, traces.lat, when), -1)
        found[video] = [own[own.isfinite().all(-1)] for own in both]
    return found


def halves(people: list[Tensor], seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Directions of one half of the observers of a video and of the other, for several splits."""
    draw = torch.Generator().manual_seed(seed)
    order = [torch.randperm(len(people), generator=draw) for _ in range(HALVES)]
    half = len(people) // 2
    return (
        [torch.cat([people[o] for o in row[:half]]) for row in order],
        [torch.cat([people[o] for o in row[half:]]) for row in order],
    )


def maps_of(looked: list[Tensor]) -> Tensor:
    """A map for each set of directions."""
    return fixation_maps(looked, *SIZE, SIGMA_DEG)


def measure(
    dataset: AVTrack360,
    videos: Sequence[str] | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Scores of everything that can be measured, and why the rest cannot.

    Args:
        videos: those that are scored; the means of other videos are over all the others.
    Returns:
        predictor to its scores; predictor to the reason why it is not among them.
    """
    people = heads(dataset)
    videos = list(dataset.videos if videos is None else videos)
    split = {v: halves(people[v], SEED + k) for k, v in enumerate(people) if v in videos}
    looked = {video: split[video][1] for video in videos}
    truth = {video: maps_of(looked[video]) for video in videos}
    found: dict[str, Evaluation] = {}
    missing = dict(NOT_MEASURED)

    def add(name: str, predictions: Mapping[str, Tensor]) -> None:
        found[name] = evaluate(
            predictions, truth, fixations=looked, name=name, metrics=SCORES, eps=EPS, seed=SEED
        )
        if report is not None:
            told = (f"{metric} {found[name].mean(metric)}" for metric in SCORES)
            report(f"{name:20s}" + ", ".join(told))

    pictures: dict[str, Tensor] = {}
    for name in MODELS:
        try:
            model = load_model(name, "official" if name.startswith("sst-sal") else None)
        except (OSError, ValueError) as error:
            missing[name] = f"its weights are not here ({type(error).__name__})"
            continue
        for video in videos if not pictures else ():
            pictures[video] = torch.from_numpy(dataset.picture(video)).permute(2, 0, 1)[None]
        clip_model = cast(ClipModel, model)
        add(name, {v: predict_frames(pictures[v], clip_model, SIZE)[0] for v in videos})
    others = mean_of_others({video: maps_of([torch.cat(p)]) for video, p in people.items()})
    add("mean of others", {video: others[video] for video in videos})
    add("half of the people", {video: maps_of(split[video][0]) for video in videos})
    return found, missing


def run(
    out: str | Path | None = None,
    root: str | Path | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure, and write the record.

    Args:
        out: JSON file. root: of AVTrack360; None: the files of the registry.
        report: called with a line for each predictor.
    Returns:
        The record, as :func:`load` reads it.
    """
    start = time.process_time()
    found, missing = measure(AVTrack360(root), report=report)
    reference = found[REFERENCE]
    predictors = {}
    for name, one in found.items():
        differences = {
            metric: {
                **estimate(tested.difference),
                "p": plain(tested.p),
                "exact": tested.exact,
                "in favour of": favours(metric, tested, name, REFERENCE),
            }
            for metric, tested in (compare(one, reference).items() if one is not reference else ())
        }
        predictors[name] = {
            "scores": {metric: estimate(one.mean(metric)) for metric in SCORES},
            "minus the equator": differences,
            "by video": {m: [round(x, 6) for x in one.per_video(m).tolist()] for m in SCORES},
        }
    record = {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": _code(),
        "data": _data(),
        "settings": {
            "size": list(SIZE), "sigma_deg": SIGMA_DEG, "eps": EPS, "halves": HALVES,
            "seed": SEED, "weighting": "sphere", "reference": REFERENCE,
            "directions": {"per second": RATE, "from": START, "to": END},
            "truth": "one map of a whole video, of half of the people; mean over the halves",
            "interval": "95 % over videos, bootstrap",
        },
        "device": platform.machine() + " CPU",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "videos": [v.video for v in reference.videos],
        "predictors": predictors,
        "not measured": missing,
        "process_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip
    if out is not None:
        save(record, out)
    return record


def table(record: dict[str, Any]) -> str:
    """The record as Markdown: each score with its interval, in bold where it beats the equator."""
    names = record["predictors"]
    lines = ["| predictor | " + " | ".join(SCORES) + " |", "|---" * (1 + len(SCORES)) + "|"]
    for name in sorted(names, key=lambda n: names[n]["scores"]["cc"]["mean"]):
        cells = []
        for metric in SCORES:
            score = names[name]["scores"][metric]
            text = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            better = names[name]["minus the equator"].get(metric, {}).get("in favour of") == name
            cells.append(f"**{text}**" if better else text)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _code() -> str:
    """Hash of the files that decide the numbers."""
    room = Path(__file__).resolve().parents[1]
    parts = [Path(__file__), room / "gaze" / "density.py", room / "inference.py"]
    for name in ("baselines", "evaluation", "metrics"):
        parts += sorted((room / name).glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def _data() -> dict[str, Any]:
    """Names in the registry, and one hash of all their hashes."""
    names = {"avtrack360": "avtrack360/", "weights of sst-sal-noflow": "weights/SST_Sal_wo_OF.pth"}
    known = download.registry()
    found = {}
    for what, start in names.items():
        paths = sorted(path for path in known if path.startswith(start))
        text = "".join(f"{path} {known[path].sha256}\n" for path in paths)
        found[what] = {"files": len(paths), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return found


def save(record: dict[str, Any], path: str | Path) -> None:
    """Write a record, whole or not at all; a score a line."""
    head = json.dumps({k: v for k, v in record.items() if k != "predictors"}, indent=1)
    blocks = []
    for name, one in record["predictors"].items():
        parts = []
        for part, rows in one.items():
            lines = ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items())
            parts.append(f"  {json.dumps(part)}: {{\n{lines}\n  }}" if rows
                         else f"  {json.dumps(part)}: {{}}")  # fmt: skip
        blocks.append(f" {json.dumps(name)}: {{\n" + ",\n".join(parts) + "\n }")
    text = f'{head[:-2]},\n "predictors": {{\n' + ",\n".join(blocks) + "\n }\n}\n"
    records.write(text, path)


def load(path: str | Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        FileNotFoundError. ValueError: not JSON, or of another schema.
    """
    return records.read(path, SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: measure, print the table, write the record."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.baselines", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, help="JSON record (data/runs/baselines.json)")
    parser.add_argument("--root", type=Path, help="AVTrack360 (fetched if not given)")
    given = parser.parse_args(arguments)

    def work() -> None:
        record = run(given.out, given.root, report=lambda line: print(line, flush=True))
        print("\n" + table(record))
        for name, reason in record["not measured"].items():
            print(f"not measured: {name}: {reason}")

    return records.command(parser.prog, work, given.out, SCHEMA)


if __name__ == "__main__":
    sys.exit(main())
