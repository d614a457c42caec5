"""What is a network worth beside someone who knows where people look in any film?

No network of the leaderboard surely beats the mean map of the training worlds. That map knows the
horizon and the front, which layers that look the same everywhere cannot know; a network sees the
film, which the map does not. Here both are asked: the prediction, to a power, times the map
(:func:`sal360.baselines.times_prior`). The validation worlds choose the power, 0 included, which
is the map alone. The networks are those that come with the package; motion and contrast are
given the same. With a tilted camera the map knows what is no longer so.

A product may also be better because the map is mended, whatever the film: the control is
*unseen*, the mean of the same network's predictions for all the other films, which did not look
at this one.

On real heads, AVTrack360 as in :mod:`sal360.experiments.leaderboard_real` (one picture of each
video), the prior is the band with a front, which has learnt nothing, or the mean of the other
videos; the power of each video is the one that is best on all the others, of the control, too.
Chapter 17::

    python -m sal360.experiments.prior --packs FOLDER --out data/runs/prior.json

``FOLDER`` keeps the worlds; one of the leaderboard has them already.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sal360._version import __version__
from sal360.baselines import front_density, mean_of_others, times_prior
from sal360.baselines.base import Baseline, normalised
from sal360.datasets.layouts import AVTrack360
from sal360.experiments import baselines as heads
from sal360.experiments import leaderboard
from sal360.experiments.leaderboard_arms import SCALES
from sal360.experiments.leaderboard_real import OFFICIAL
from sal360.experiments.leaderboard_scores import Scene, predicted, scene, scored
from sal360.inference import ClipModel, predict_frames
from sal360.metrics import cc
from sal360.models import load_model, shipped
from sal360.training import run_files as records
from sal360.training.machine import FILES, ROOMS, code_hash

SCHEMA = "sal360/prior/1"
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
FLOOR = 0.2
METRICS = ("cc", "nss")
LOOKING = ("motion", "contrast")
"""Baselines that look at the film."""
Report = Callable[[str], None]
Scores = dict[str, list[float | None]]


def names() -> list[str]:
    """What is asked: all that comes with weights, and the baselines that look."""
    return [*shipped.read_index(), *LOOKING]


# --- drawn worlds ---


def on_worlds(
    packs: Path, scale_name: str = "gpu", only: Sequence[str] | None = None, report: Report = print
) -> dict[str, Any]:
    """Scores on the leaderboard's test worlds, alone and times the mean map.

    Args:
        packs: folder of the worlds. only: of :func:`names`; None: all.
    Returns:
        ``videos, conditions``, ``prior`` (the map alone) and ``arms``: see :func:`run`.
    """
    scale = SCALES[scale_name]
    held = leaderboard.packs(packs, scale, 0, report)
    prior = normalised(leaderboard.mean_truth(held["train"]).float())
    val = scene(held["val"], "val")
    conditions = [leaderboard.condition(tilt) for tilt in (0.0, *scale.tilts)]
    tests = [scene(held[name], name) for name in conditions]
    out: dict[str, Any] = {"videos": list(held["upright"].videos), "conditions": conditions}
    out["prior"] = {t.name: _of(prior.expand(t.shape), t) for t in tests}
    out["arms"] = {}
    for name in names() if only is None else only:
        maps = _asked(name, val)
        power, tried = _best(maps, prior, val)
        control, _ = _best(_unseen(maps), prior, val)
        row: dict[str, Any] = {"power": power, "validation": tried, "alone": {}, "times": {},
                               "unseen": {"power": control}}  # fmt: skip
        for test in tests:
            maps = _asked(name, test)
            row["alone"][test.name] = _of(maps, test)
            row["times"][test.name] = _of(times_prior(maps, prior, power, FLOOR), test)
            unseen = times_prior(_unseen(maps), prior, control, FLOOR)
            row["unseen"][test.name] = _of(unseen, test)
        out["arms"][name] = row
        told = (np.mean(row[how]["upright"]["cc"]) for how in ("alone", "times"))
        report("{:16} CC {:.3f} alone, {:.3f} times the prior, power {:g}".format(
            name, *told, power))  # fmt: skip
    return out


def _best(maps: Tensor, prior: Tensor, val: Scene) -> tuple[float, list[float]]:
    """The power with the best CC on the validation worlds, and what each of :data:`POWERS` has."""
    tried = [_mean_cc(times_prior(maps, prior, power, FLOOR), val) for power in POWERS]
    return POWERS[tried.index(max(tried))], tried


def _unseen(maps: Tensor) -> Tensor:
    """``(V, T, H, W)``: for each video the mean over all frames of the others; 0 without others."""
    mean = maps.mean(1, keepdim=True)
    return ((mean.sum(0) - mean) / max(1, len(maps) - 1)).clamp_min(0).expand_as(maps)


def _asked(name: str, test: Scene) -> Tensor:
    model = load_model(name, "bundled" if name in shipped.read_index() else None)
    if isinstance(model, Baseline):
        return predicted(model, test)
    return predicted(model, test, every=getattr(model, "forgets", None))


def _of(maps: Tensor, test: Scene) -> Scores:
    found = scored(maps, test)
    return {metric: found[metric] for metric in METRICS}


def _mean_cc(maps: Tensor, test: Scene) -> float:
    return round(float(np.mean(scored(maps, test)["cc"])), 4)


# --- real heads ---


def on_heads(root: Path | None = None, report: Report = print) -> dict[str, Any]:
    """CC on AVTrack360 with half of the people, alone and times each prior.

    Args:
        root: of the data set; None: fetched.
    Returns:
        ``videos``; ``priors``: name to the ``cc`` of each video; ``arms``: name to ``alone``, the
        same, and for each prior ``power`` and ``cc`` of each video, and ``unseen``, the two of the
        control; ``not_run``.
    """
    data = AVTrack360(root)
    people = heads.heads(data)
    videos = list(data.videos)
    truth = {
        video: heads.maps_of(heads.halves(people[video], heads.SEED + k)[1])
        for k, video in enumerate(videos)
    }
    others = mean_of_others(
        {video: heads.maps_of([torch.cat(each)]) for video, each in people.items()}
    )
    front = front_density(*heads.SIZE).double()
    priors: dict[str, Mapping[str, Tensor]] = {
        "equator-front": dict.fromkeys(videos, front),
        "mean of others": {video: normalised(others[video]) for video in videos},
    }
    pictures = {v: torch.from_numpy(data.picture(v)).permute(2, 0, 1)[None] for v in videos}

    def scores(maps: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([cc(maps[v].expand_as(truth[v]), truth[v]).mean() for v in videos])

    def times(maps: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> dict[str, Any]:
        tried = torch.stack([
            scores({v: times_prior(maps[v], known[v], power, FLOOR) for v in videos})
            for power in POWERS
        ])  # fmt: skip
        best = (tried.sum(1, keepdim=True) - tried).argmax(0)  # on all the other videos
        powers = [POWERS[k] for k in best.tolist()]
        return {"power": powers, "cc": _rounded(tried.gather(0, best[None])[0])}

    out: dict[str, Any] = {"videos": videos, "arms": {}, "not_run": {}}
    out["priors"] = {name: _rounded(scores(prior)) for name, prior in priors.items()}
    wanted = {name: (name, "bundled") for name in shipped.read_index()}
    wanted |= {name: (system, "official") for name, system in OFFICIAL.items()}
    wanted["contrast"] = ("contrast", "")
    for name, (system, weights) in wanted.items():
        try:
            model = cast(ClipModel, load_model(system, weights or None))
        except (OSError, ValueError) as error:
            out["not_run"][name] = f"its weights are not here ({type(error).__name__})"
            continue
        maps = {v: predict_frames(pictures[v], model, heads.SIZE)[0].double() for v in videos}
        unseen = dict(zip(videos, _unseen(torch.stack(list(maps.values()))[:, None])[:, 0],
                          strict=True))  # fmt: skip
        row: dict[str, Any] = {"alone": _rounded(scores(maps))}
        for prior, known in priors.items():
            row[prior] = times(maps, known) | {"unseen": times(unseen, known)}
        out["arms"][name] = row
        told = (np.mean(x) for x in (row["alone"], *(row[prior]["cc"] for prior in priors)))
        report("{:24} CC {:.3f} alone, {:.3f} and {:.3f} times the priors".format(name, *told))
    return out


def _rounded(values: Tensor) -> list[float]:
    return [round(x, 4) for x in values.tolist()]


# --- the record ---


def run(
    packs: Path | None = None,
    scale_name: str = "gpu",
    only: Sequence[str] | None = None,
    root: Path | None = None,
    real: bool = True,
    report: Report = print,
) -> dict[str, Any]:
    """Everything, on a CPU.

    Args:
        packs: folder of the worlds; None: one that is removed. only: these names.
        root: of AVTrack360; None: fetched. real: whether it is asked at all.
    Returns:
        the record: ``worlds`` with ``videos``, ``conditions``, ``prior`` ``{condition: {metric:
        [of each video]}}`` and ``arms`` ``{name: {power, validation: [CC at each of powers],
        alone, times: as prior, unseen: the same with its power}}``; ``real``, see
        :func:`on_heads`, or None.
    """
    start = time.process_time()
    with tempfile.TemporaryDirectory() as made:
        worlds = on_worlds(Path(packs or made), scale_name, only, report)
    return {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": _code(),
        "scale": scale_name,
        "powers": list(POWERS),
        "floor": FLOOR,
        "device": f"{platform.machine()} CPU",
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
        "weights": {name: entry["sha256"] for name, entry in shipped.read_index().items()},
        "worlds": worlds,
        "real": on_heads(root, report) if real else None,
        "process_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip


def _code() -> str:
    own = ("prior.py", "baselines.py", "leaderboard.py", "leaderboard_scores.py")
    return code_hash((*ROOMS, "baselines"), (*FILES, *(f"experiments/{name}" for name in own)))


def load(path: str | Path | None = None) -> dict[str, Any]:
    """The record of :func:`run`; the published one if no path is given."""
    return records.read(records.published("prior.json") if path is None else path, SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; what cannot be done is one line, and 2."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.prior", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", default="gpu", choices=list(SCALES))
    parser.add_argument("--packs", type=Path, help="folder of the worlds (made if not given)")
    parser.add_argument("--root", type=Path, help="AVTrack360 (fetched if not given)")
    parser.add_argument("--out", type=Path, help="JSON file; printed if not given")
    given = parser.parse_args(arguments)

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def work() -> None:
        if given.root is not None:  # what cannot be, before hours are spent
            AVTrack360(given.root)
        record = run(given.packs, given.scale, None, given.root, True, report)
        text = leaderboard.one_line_lists(json.dumps(record, indent=1)) + "\n"
        if given.out:
            records.write(text, given.out)
        else:
            print(text, end="")

    return records.command(parser.prog, work, given.out, SCHEMA, given.scale)


if __name__ == "__main__":
    sys.exit(main())
