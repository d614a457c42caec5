"""Do synthetic observers look around as people do? Their heads beside real ones.

The real ones are AVTrack360's: 48 people, 20 videos of 30 seconds, heads only, in whole degrees
about ten times a second. The synthetic ones watch worlds of the training split, and their heads
are read the same way. :class:`~sal360.datasets.synthetic.crowd.GazeModel` was tuned on videos
with even numbers, with worlds and a crowd that served for nothing else (:data:`TUNING`); what the
record states is about the others (:data:`REPORT`). Chapter 10 reads it::

    python -m sal360.experiments.observers --out data/runs/observers.json

Intervals are over videos and over worlds: another laboratory would draw other ones. Each side is
one crowd of 48, and that other people would be other people is in no interval. What was tuned to
which statistic: :data:`TUNED`. What still differs by more than its interval is listed in the
record as ``differs``; that the tuning half agrees better (``on the tuning half``) says how much
the two halves of the real videos, and two crowds, differ among themselves. Two differences no
parameter mends. Whoever filmed the real videos chose where their horizon and their front are,
so latitudes vary more from video to video than in our worlds; and real people come back to
places, ours to the front.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360._version import __version__
from sal360.datasets.layouts.avtrack360 import AVTrack360
from sal360.datasets.synthetic.crowd import GazeModel
from sal360.datasets.synthetic.observers import RATE, Watched, watch
from sal360.datasets.synthetic.world import draw_world
from sal360.experiments.summary import interval, unpaired
from sal360.gaze.statistics import (
    angular_speed,
    distance_from_start,
    equator_bias,
    front_bias,
    latitude_profile,
    longitudes_seen,
    on_one_clock,
    pairwise_cosine,
    recurrence,
    revisits,
    split_half,
)
from sal360.sphere import angle_between, lonlat_to_xyz, xyz_to_lonlat
from sal360.training import run_files as records

SCHEMA = "sal360/observers/1"
SECONDS = 30.0
CLOCK = torch.arange(295, dtype=torch.float64) / 10 + 0.5
"""Seconds at which heads are read: every trace of AVTrack360 spans them."""
MOMENTS = (1, 2, 3, 5, 10, 20)
"""Seconds after the beginning of the video at which things are stated."""
OBSERVERS = 48
TUNING: dict[str, Any] = {"videos": range(2, 21, 2), "worlds": range(100, 140), "crowd": 1}
REPORT: dict[str, Any] = {"videos": range(1, 21, 2), "worlds": range(40), "crowd": 0}
TUNED = {
    "latitude sd, within 10 and 30 of equator": ["equator", "equator_floor"],
    "within 30 of front, cosine after 10 s": ["front_later"],
    "split half, 1 s": ["interest"],
    "from start at 1 and 2 s, cosine at 1 and 2 s": ["delay"],
    "from start at 5 and 10 s, cosine at 5 s": ["turning", "curiosity", "curious"],
    "seen 180 by 10 and 20 s": ["turn", "turn_spread", "persists"],
    "speed quantiles": ["turn_time", "alone"],
    "speed sd over people": ["spread of turning in draw_crowd"],
}
"""Statistic of the tuning half to the parameters that were set by it, by hand."""


def real_heads() -> dict[int, Tensor]:
    """Heads of AVTrack360: number of the video to ``(48, 295, 3)`` directions on ``CLOCK``.

    Raises:
        sal360.datasets.download.DownloadError: files that are neither here nor to be had.
    """
    published = AVTrack360()
    heads = {}
    for video in published.videos:
        traces = published.traces(video)
        heads[int(video)] = on_one_clock(traces.time, traces.lon, traces.lat, CLOCK, 2.0)
    return heads


def watched_worlds(
    worlds: Sequence[int], crowd: int, n: int = OBSERVERS, model: GazeModel | None = None
) -> dict[int, Watched]:
    """Worlds of the training split, 30 seconds each, watched: seed of the world to what was seen.

    Args:
        worlds: their seeds. crowd: seed of the observers. n: how many. model: parameters.
    """
    return {
        seed: watch(draw_world(seed, "train", SECONDS), [0.0], n, crowd, model, window=SECONDS)
        for seed in worlds
    }


def read_heads(watched: Watched) -> Tensor:
    """Heads as AVTrack360 has them: ``(n, 295, 3)`` on ``CLOCK``, in whole degrees."""
    head = watched.head[:, (CLOCK * RATE).round().long()]
    lon, lat = (torch.deg2rad(torch.rad2deg(a).round()) for a in xyz_to_lonlat(head))
    return lonlat_to_xyz(lon, lat)


def describe(xyz: Tensor) -> dict[str, float]:
    """Statistics of one video's heads ``(n, 295, 3)``; angles in degrees."""
    at = {second: int((CLOCK - second).abs().argmin()) for second in MOMENTS}
    equator, front = equator_bias(xyz), front_bias(xyz)
    away, seen = distance_from_start(xyz), longitudes_seen(xyz)
    speed, together = angular_speed(CLOCK, xyz).rad2deg(), pairwise_cosine(xyz)
    lags = (1.0, 2.0, 5.0, 10.0)
    again = recurrence(CLOCK, xyz, lags, math.radians(15))
    per_person = speed.mean(1)
    out = {
        "latitude mean": math.degrees(equator.mean),
        "latitude sd": math.degrees(equator.sd),
        **{f"within {d} of equator": equator.within[d] for d in (10, 20, 30)},
        **{f"within {d} of front": front.within[d] for d in (30, 90)},
        "mean longitude arrow": front.length,
        **{f"from start at {s} s": float(away[:, at[s]].mean().rad2deg()) for s in MOMENTS},
        **{
            f"seen {d} by {s} s": float((seen[:, at[s]] > math.radians(d)).double().mean())
            for d, s in ((90, 3), (90, 5), (90, 10), (180, 5), (180, 10), (180, 20))
        },
        **{f"speed quantile {q}": float(speed.quantile(q / 100)) for q in (50, 75, 90, 99)},
        "speed sd over people": float(per_person.std()),
        **{f"cosine at {s} s": float(together[at[s]]) for s in MOMENTS},
        "cosine after 10 s": float(together[at[10] :].mean()),
        "split half, all time": split_half(xyz),
        "split half, 1 s": sum(
            split_half(xyz[:, k : k + 10], splits=10) for k in range(50, 290, 60)
        ) / 4,
        **{f"back after {lag:g} s": float(a) for lag, a in zip(lags, again, strict=True)},
    }  # fmt: skip
    return {name: round(value, 4) for name, value in out.items()}


def describe_gaze(watched: Watched) -> dict[str, float]:
    """What only the synthetic observers tell: fixations, saccades, eyes in heads; degrees."""
    same = watched.observer[1:] == watched.observer[:-1]
    jump = angle_between(watched.direction[1:], watched.direction[:-1])[same].rad2deg()
    eye = angle_between(watched.gaze, watched.head).rad2deg()
    out = {
        "fixations per second": len(watched.onset) / (len(watched) * SECONDS),
        "share of time fixating": float(watched.fixating.double().mean()),
        "share of fixations on things": float((watched.target >= 0).double().mean()),
        **{
            f"{name} quantile {q}": float(values.quantile(q / 100))
            for name, values in (("duration", watched.duration), ("amplitude", jump))
            for q in (5, 50, 95)
        },
        "eye in head, mean": float(eye.mean()),
        "eye in head, largest": float(eye.max()),
        "back where it just was": revisits(
            watched.direction, watched.observer, math.radians(5), back=2
        ),
    }  # fmt: skip
    return {name: round(value, 4) for name, value in out.items()}


def curves(heads: Sequence[Tensor]) -> dict[str, list[float]]:
    """Means over videos of what depends on time (``CLOCK``, every half second) or latitude."""
    profile = torch.stack([latitude_profile(xyz)[1] for xyz in heads]).mean(0)
    lines = {
        "cosine": [pairwise_cosine(xyz) for xyz in heads],
        "from start": [distance_from_start(xyz).mean(0).rad2deg() for xyz in heads],
        "seen 180": [(longitudes_seen(xyz) > math.pi).double().mean(0) for xyz in heads],
    }
    out = {name: torch.stack(each).mean(0)[::5].tolist() for name, each in lines.items()}
    out["latitude density"] = profile.tolist()
    return {name: [round(v, 4) for v in values] for name, values in out.items()}


def compare(
    real: Sequence[dict[str, float]], ours: Sequence[dict[str, float]]
) -> dict[str, dict[str, list[float]]]:
    """Each statistic over real videos and over worlds: mean and half its 95 % interval.

    ``difference`` is ours less theirs (Welch); ``spread`` the deviations over videos and worlds.
    """
    out = {}
    for name in real[0]:
        a, b = (torch.tensor([row[name] for row in rows]).double() for rows in (real, ours))
        out[name] = {
            key: [round(value, 4) for value in values]
            for key, values in {
                "real": interval(a),
                "synthetic": interval(b),
                "difference": unpaired(b, a),
                "spread": (float(a.std()), float(b.std())),
            }.items()
        }
    return out


def run(
    out: str | Path | None = None, report: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Compare, and write the record.

    Args:
        out: a JSON file. report: called with a line for each statistic.
    Raises:
        sal360.datasets.download.DownloadError: the real traces are neither here nor to be had.
    """
    start = time.process_time()
    heads = real_heads()
    halves = {}
    for name, half in (("tuning", TUNING), ("report", REPORT)):
        watched = watched_worlds(half["worlds"], half["crowd"])
        halves[name] = (
            {video: heads[video] for video in half["videos"]},
            {seed: read_heads(seen) for seed, seen in watched.items()},
        )
    tables = {
        name: [{key: describe(xyz) for key, xyz in side.items()} for side in sides]
        for name, sides in halves.items()
    }
    statistics = {
        name: compare(list(real.values()), list(ours.values()))
        for name, (real, ours) in tables.items()
    }
    gaze = [describe_gaze(seen) for seen in watched.values()]
    apart = {name: row["difference"] for name, row in statistics["report"].items()}
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": _code(),
        "device": platform.machine() + " CPU",
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
        "data": "AVTrack360 (Fremerey et al., 2018), heads of 48 people, by the hashes of "
        "sal360/datasets/registry.tsv",
        "observers": OBSERVERS,
        "seconds": SECONDS,
        "halves": {
            name: {key: value if isinstance(value, int) else list(value)
                   for key, value in half.items()}
            for name, half in (("tuning", TUNING), ("report", REPORT))
        },
        "model": asdict(GazeModel()),
        "tuned": TUNED,
        "statistics": statistics["report"],
        "differs": [name for name, (mean, half) in apart.items() if abs(mean) > half],
        "on the tuning half": {
            name: [row["real"][0], row["synthetic"][0]]
            for name, row in statistics["tuning"].items()
        },
        "gaze": {name: round(sum(row[name] for row in gaze) / len(gaze), 4) for name in gaze[0]},
        "clock": [round(t, 1) for t in CLOCK[::5].tolist()],
        "curves": {
            side: curves(list(traces.values()))
            for side, traces in zip(("real", "synthetic"), halves["report"], strict=True)
        },
        "process_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip
    if report is not None:
        for name, row in record["statistics"].items():
            (a, da), (b, db), (c, dc) = (row[k] for k in ("real", "synthetic", "difference"))
            report(f"{name:24s} {a:8.2f} +-{da:6.2f} {b:8.2f} +-{db:6.2f} {c:8.2f} +-{dc:6.2f}")
    if out is not None:
        save(record, out)
    return record


def _code() -> dict[str, str]:
    """Hashes of the files that decide the comparison: the observers', the worlds', the rest."""
    from sal360.datasets import synthetic

    room = Path(synthetic.__file__).parent
    parts = {
        "observers": [room / f"{n}.py" for n in (
            "crowd", "priority", "scanpath", "head", "observers")],
        "worlds": [room / f"{n}.py" for n in ("content", "draw", "motion", "world")],
        "statistics": [Path(__file__), Path(__file__).parents[1] / "gaze" / "statistics.py"],
    }  # fmt: skip
    return {
        name: hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
        for name, paths in parts.items()
    }


def save(record: dict[str, Any], path: str | Path) -> None:
    """Write a record, whole or not at all; one statistic a line."""
    blocks = ("statistics", "on the tuning half", "curves")
    head = json.dumps({k: v for k, v in record.items() if k not in blocks}, indent=1)
    tail = []
    for block in blocks:
        lines = (f"{json.dumps(str(k))}: {json.dumps(v)}" for k, v in record[block].items())
        tail.append(f"{json.dumps(block)}: {{\n" + ",\n".join(lines) + "\n}")
    records.write(head[:-2] + ",\n " + ",\n ".join(tail) + "\n}\n", path)


def load(path: str | Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        FileNotFoundError. ValueError: not JSON, or of another schema.
    """
    return records.read(path, SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: compare, print the table, write the record."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.observers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, help="JSON record")
    given = parser.parse_args(arguments)

    def work() -> None:
        run(given.out, report=lambda line: print(line, flush=True))

    return records.command(parser.prog, work, given.out, SCHEMA)


if __name__ == "__main__":
    sys.exit(main())
