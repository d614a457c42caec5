"""The networks of the leaderboard on real heads: AVTrack360, 20 videos, 48 people.

The data set publishes where people's heads pointed and one picture of each video, not the films.
So a network sees a still: one that lives on its own last map or on a memory is asked once, with
the memory empty; one that looks at motion or flow sees that nothing moves. That is no measure of
what they could do with the films. It does ask whether what was learnt in drawn worlds says
anything about photographs of real places. The truth, the halves of the people and the scores are
those of :mod:`sal360.experiments.baselines`; every arm and every baseline is given the same.
Chapter 17.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sal360.datasets.layouts import AVTrack360
from sal360.evaluation import evaluate
from sal360.experiments import baselines
from sal360.experiments.leaderboard_arms import ARMS
from sal360.inference import ClipModel, predict_frames
from sal360.models import load_model
from sal360.nn.planar import to_planar
from sal360.results import sha256

METRICS = ("cc", "sim", "kld", "nss", "auc_judd", "information_gain")
NOTE = (
    "one picture of each video, for the films are not published: memories are empty, motion and "
    "flow are zero, which no network saw in training"
)
OFFICIAL = {"sst-sal-noflow-official": "sst-sal-noflow", "sst-sal-official": "sst-sal"}
"""Rows of published weights, where their files are at hand."""


def loaded(arm: str, path: Path) -> nn.Module:
    """The network of an arm from its weights; a planar twin is one again."""
    model = load_model(ARMS[arm].system, path)
    if ARMS[arm].kind != "planar twin" or "padding" in ARMS[arm].model:
        return model
    twin = to_planar(model)
    twin.input_size = model.input_size
    return twin.eval()


def real(
    weights: Path, root: Path | None = None, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Score every file of weights in a folder, and the baselines.

    Args:
        weights: folder of ``ARM-SEED.safetensors``. root: of AVTrack360; None: fetched.
    Returns:
        ``real`` of the record: ``data``, ``videos``, ``note``, ``metrics``, ``people``,
        ``arms``; ``not_run``: rows whose weights are not at hand.
    """
    data = AVTrack360(root)
    people = baselines.heads(data)
    videos = list(data.videos)
    split = {v: baselines.halves(people[v], baselines.SEED + k) for k, v in enumerate(people)}
    looked = {video: split[video][1] for video in videos}
    truth = {video: baselines.maps_of(looked[video]) for video in videos}
    pictures = {v: torch.from_numpy(data.picture(v)).permute(2, 0, 1)[None] for v in videos}
    arms: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}

    def scores(name: str, maps: dict[str, Tensor]) -> dict[str, list[float]]:
        found = evaluate(
            maps,
            truth,
            fixations=looked,
            name=name,
            metrics=METRICS,
            eps=baselines.EPS,
            seed=baselines.SEED,
        )
        told = ", ".join(f"{m} {found.mean(m).mean:.3f}" for m in ("cc", "kld", "nss"))
        report(f"{name:32s}{told}")
        return {m: [round(x, 4) for x in found.per_video(m).tolist()] for m in METRICS}

    def predict(name: str, model: nn.Module) -> dict[str, list[float]]:
        looking = cast(ClipModel, model)
        return scores(
            name, {v: predict_frames(pictures[v], looking, baselines.SIZE)[0] for v in videos}
        )

    for path in sorted(weights.glob("*.safetensors")):
        arm, _, seed = path.stem.rpartition("-")
        if arm in ARMS and seed.isdecimal():
            row = predict(path.stem, loaded(arm, path))
            arms.setdefault(arm, []).append({"seed": int(seed), **row})
    for name in ("uniform", "equator", "equator-front", "contrast"):
        arms[name] = [{"seed": 0, **predict(name, load_model(name))}]
    for name, system in OFFICIAL.items():
        try:
            arms[name] = [{"seed": 0, **predict(name, load_model(system, "official"))}]
        except (OSError, ValueError) as error:
            missing[name] = f"its weights are not here ({type(error).__name__})"
    others = baselines.mean_of_others(
        {video: baselines.maps_of([torch.cat(p)]) for video, p in people.items()}
    )
    arms["mean of others"] = [{"seed": 0, **scores("mean of others", others)}]
    half = scores("half of the people", {v: baselines.maps_of(split[v][0]) for v in videos})
    return {
        "data": "avtrack360",
        "videos": videos,
        "note": NOTE,
        "metrics": list(METRICS),
        "people": half,
        "arms": arms,
        "not_run": missing,
    }


def add_real(
    record: Path, weights: Path, root: Path | None, report: Callable[[str], None] = print
) -> None:
    """Put :func:`real` into a record of the leaderboard; rows of other weights stay.

    Raises:
        FileNotFoundError: no record, or no weights there. ValueError: others than the record's.
    """
    from sal360.experiments.leaderboard import load, save

    whole = load(record)
    if not any(weights.glob("*.safetensors")):
        raise FileNotFoundError(f"{weights}: no weights there, wanted ARM-SEED.safetensors")
    for arm, one in whole["arms"].items():
        for run in one["runs"]:
            path = weights / f"{arm}-{run['seed']}.safetensors"
            if path.is_file() and sha256(path) != run["sha256"]:
                raise ValueError(f"{path}: not the weights that {record} names")
    found = real(weights, root, report)
    real_before = whole.get("real") or {}
    for what in ("videos", "metrics"):
        if real_before.get(what, found[what]) != found[what]:
            raise ValueError(f"{record}: real: of other {what} than those found, wanted the same")
    before = real_before.get("arms", {})
    for arm, one in whole["arms"].items():  # weights that are elsewhere, whose scores are known
        mine = found["arms"].get(arm, [])
        gone = {run["seed"] for run in one["runs"]} - {row["seed"] for row in mine}
        if lost := [row for row in before.get(arm, []) if row["seed"] in gone]:
            found["arms"][arm] = sorted([*lost, *mine], key=lambda row: int(row["seed"]))
    for name in OFFICIAL:
        if name in before and name not in found["arms"]:
            found["arms"][name] = before[name]
            found["not_run"].pop(name, None)
    for arm, one in whole["arms"].items():
        if one["kind"] != "baseline" and arm not in found["arms"]:
            found["not_run"][arm] = "its weights did not come back from the machine that trained it"
    whole["real"] = found
    save(whole, record)
