"""From the folders of runs to weights that come with the package.

``python -m sal360.models.bundle RUN...`` takes, for each system, the weights with the best
validation score of all seeds, sees that they give that score again, and writes
``bundled/<name>.safetensors`` and its entry in the index, of which the cards are made
(:mod:`sal360.models.shipped`). RUN is a folder that ``sal360 train`` wrote, or one of
:mod:`sal360.experiments.leaderboard` with everything that it trained, whose test scores, beside
the baselines', come along; a seed that is better there, and whose weights are not, is told.

Weights are stored in half precision where that moves no score of the checked videos by more than
:data:`COST`; the network that is loaded has float32 weights all the same. Chapter 16.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sal360._files import write_whole
from sal360.datasets.item import VideoDataset
from sal360.datasets.synthetic import SyntheticWorlds
from sal360.models import shipped
from sal360.models.cards import MODELS
from sal360.models.registry import load_model
from sal360.models.weights import read_about, read_weights, write_weights
from sal360.results import sha256

VIDEOS = 3
"""Videos on which the validation score is computed again."""
TOLERANCE = 0.02
"""How far a score of one video may be from the record's: another device rounds differently, and
in a closed loop it adds up. Relative to scores above 1."""
COST = 2e-3
"""How far half precision may move a score of one video, in the same sense."""
METRICS = ("cc", "sim", "kld", "nss")
CUT = ("interrupted", "running")
"""Status of a run that did not end; the latter: it was killed."""

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Candidate:
    """Weights of one run.

    Attributes:
        name: of the run. system: key of MODELS. record: of the run. weights: file. board: the
            leaderboard it stands on, or None.
    """

    name: str
    system: str
    record: dict[str, Any]
    weights: Path
    board: dict[str, Any] | None = None

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def row(self) -> dict[str, Any]:
        """Its run on the leaderboard; empty without one."""
        return _row(self.board, self.system, self.seed)

    @property
    def value(self) -> float:
        """Its validation score, with the memory that it is bundled with."""
        known = _value(self.row)
        return float(self.record["best"]["value"]) if known is None else known


def find_runs(folders: Iterable[str | Path]) -> tuple[list[Candidate], list[str]]:
    """Runs that can be bundled, and a line for each that cannot.

    Raises:
        ValueError: a folder with no run in it.
    """
    found: list[Candidate] = []
    left_out: list[str] = []
    for folder in map(Path, folders):
        board = _board(folder)
        runs = [folder] if (folder / "record.json").is_file() else []
        runs += sorted(path.parent for path in folder.glob("runs/*/record.json"))
        if not runs:
            raise ValueError(f"{folder}: no record.json in it or in its runs/, wanted a run")
        for run in runs:
            one = _candidate(run, folder, board)
            if isinstance(one, str):
                left_out.append(f"{run.name}: {one}")
            else:
                found.append(one)
    return found, left_out


def _board(folder: Path) -> dict[str, Any] | None:
    path = folder / "leaderboard.json"
    if not path.is_file():
        return None
    from sal360.experiments.leaderboard import load

    return load(path)


def _candidate(run: Path, folder: Path, board: dict[str, Any] | None) -> Candidate | str:
    """A run of a network as its card has it, or why it is none."""
    from sal360.training.records import load_record

    record, scored = load_record(run / "record.json"), None
    system = record["recipe"]["system"]
    name = run.name
    if board is not None:
        arm = name.rpartition("-")[0]
        if arm != system:
            kind = board["arms"].get(arm, {}).get("kind", "arm")
            return f"a {kind}, not {system} itself"
        row = _row(board, arm, record["seed"])
        if not row:
            return "not on the leaderboard"
        scored = row["sha256"]
    elif record["recipe"]["name"] != MODELS[system].recipe:
        return f"recipe {record['recipe']['name']}, wanted {MODELS[system].recipe}"
    if record["data"]["name"] != SyntheticWorlds.name:
        return f"trained on {record['data']['name']}, wanted synthetic worlds, which are ours"
    if record["best"] is None:
        return f"{record['status']} after {record['steps']} steps, without a validation"
    places = [run / "best.safetensors", folder / "weights" / f"{name}.safetensors"]
    weights = next((path for path in places if path.is_file()), None)
    if weights is None:
        return "no best.safetensors"
    wanted = record["weights"].get("best", {}).get("sha256")
    if sha256(weights) != wanted:
        return f"{weights.name} is not the file that the record names"
    if scored and scored != wanted:
        return f"{weights.name} is not the file that the leaderboard scored"
    return Candidate(name, system, record, weights, board)


def _rows(board: Mapping[str, Any] | None, arm: str) -> list[dict[str, Any]]:
    return [] if board is None else list(board["arms"].get(arm, {}).get("runs", []))


def _row(board: Mapping[str, Any] | None, arm: str, seed: int) -> dict[str, Any]:
    """The run of a seed; empty where there is none."""
    return next((one for one in _rows(board, arm) if one["seed"] == seed), {})


def _value(row: Mapping[str, Any]) -> float | None:
    """CC on the leaderboard's validation worlds; None where a run says nothing of it."""
    memory = row.get("memory") or {}
    found = memory.get(memory.get("kept"), row.get("validation"))
    return None if found is None else float(found)


def beside(system: str, board: Mapping[str, Any] | None) -> dict[int, float]:
    """Validation scores of the finished seeds of a leaderboard, as far as it says them."""
    rows = _rows(board, system)
    known = {row["seed"]: _value(row) for row in rows if row["status"] not in CUT}
    return {seed: value for seed, value in known.items() if value is not None}


def best_of(candidates: Iterable[Candidate]) -> dict[str, tuple[Candidate, int]]:
    """By system the run with the best validation score, and how many seeds it was chosen from:
    those given, and those of its leaderboard that it is not behind."""
    from sal360.training.validation import better

    found: dict[str, list[Candidate]] = {}
    for one in candidates:
        found.setdefault(one.system, []).append(one)
    out = {}
    for system in (name for name in MODELS if name in found):
        done = [one for one in found[system] if one.record["status"] not in CUT]
        runs = done or found[system]  # a run that was cut off stands for nothing but itself
        best = runs[0]
        for one in runs[1:]:
            if better(best.record["best"]["metric"], one.value, best.value):
                best = one
        others = beside(system, best.board).items()
        behind = {seed for seed, value in others if value <= best.value}
        out[system] = best, len(behind | {one.seed for one in runs})
    return out


# --- is it what the record says? ---


def validation_data(
    candidate: Candidate, scratch: Path, videos: int, spec: str | None = None
) -> VideoDataset:
    """The videos of the record's validation, or the first few of them, made again.

    Args:
        scratch: where a pack may lie. spec: of the data set, over what the record says.
    Raises:
        ValueError: a record that does not say how to open it.
    """
    from sal360.training.data import open_data

    told, size = candidate.record["validation"], tuple(candidate.record["recipe"]["size"])
    spec = spec or told["spec"]
    if spec is not None:
        return open_data(spec, size=size)
    if candidate.board is None:
        raise ValueError(f"{candidate.name}: its record does not say how its validation data is "
                         "opened, wanted --validation SPEC")  # fmt: skip
    # The leaderboard's worlds, rounded as it holds them.
    from sal360.datasets.held import hold

    settings = candidate.board["settings"]
    count, seconds = settings["val"]
    worlds = SyntheticWorlds("val", count, seconds, settings["fps"], size)
    return hold(worlds, scratch / "val", worlds.videos[:videos], pictures=True)


def scores_again(model: nn.Module, data: VideoDataset, candidate: Candidate, videos: int) -> Scores:
    """Scores of the first videos of the record."""
    from sal360.training.validation import validate

    names = [name for name in candidate.record["scores"] if name in data.videos][:videos]
    if not names:
        raise ValueError(f"{candidate.name}: no video of its record is in {data.name}")
    size = tuple(candidate.record["recipe"]["size"])
    return validate(model, data, size=size, videos=names, metrics=METRICS)


def difference(one: Scores, other: Scores) -> float:
    """The largest difference of a score of a video in both, relative to scores above 1."""
    largest = 0.0
    for video, scores in one.items():
        for metric, value in scores.items():
            beside = other[video].get(metric)
            if beside is not None and math.isfinite(value) and math.isfinite(beside):
                largest = max(largest, abs(value - beside) / max(1.0, abs(beside)))
    return largest


def forgets(candidate: Candidate) -> int | None:
    """After how many frames it begins anew: as the leaderboard chose on its validation worlds."""
    kept = candidate.row.get("memory", {}).get("kept", "carried")
    return None if kept == "carried" else int(kept.removeprefix("every "))


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors in half precision, others as they are.

    A value beyond 65504 becomes infinite, which :func:`load_model` refuses.
    """
    return {k: t.half() if t.dtype == torch.float32 else t for k, t in tensors.items()}


# --- writing it ---


def bundle(
    candidate: Candidate,
    seeds: int,
    data: VideoDataset,
    folder: Path,
    videos: int = VIDEOS,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Check a run's weights, write them, and return their entry (it is not in the index yet).

    Raises:
        ValueError: weights that do not give the record's scores again.
    """
    model = load_model(candidate.system, candidate.weights)
    again = scores_again(model, data, candidate, videos)
    off = difference(again, candidate.record["scores"])
    if off > tolerance:
        raise ValueError(
            f"{candidate.name}: scores of {', '.join(again)} differ by {off:.3g} from those of "
            f"its record, wanted at most {tolerance:g}"
        )
    tensors = read_weights(candidate.weights)
    about = (read_about(candidate.weights) or {}) | {"forgets": forgets(candidate)}
    rate = candidate.record["data"]["fps"]
    if isinstance(rate, (int, float)):
        about["rate"] = float(rate)  # of its data; the class only knows the published one's
    path = folder / f"{candidate.system}.safetensors"
    storage, moved = "float16", math.inf
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / path.name
        small = halved(tensors)
        if all(bool(t.isfinite().all()) for t in small.values()):
            write_weights(trial, small, about)
            rounded = load_model(candidate.system, trial)
            exact = again
            if about["forgets"] != getattr(model, "forgets", None):  # the run had the other
                model.forgets = about["forgets"]
                exact = scores_again(model, data, candidate, videos)
            moved = difference(scores_again(rounded, data, candidate, videos), exact)
    if not moved <= COST:
        storage, small = "float32", dict(tensors)
    about["record"] = {**about["record"], "storage": storage, "source": sha256(candidate.weights)}
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(path, small, about)
    return {
        "file": path.name,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "storage": storage,
        "parameters": sum(p.numel() for p in model.parameters()),
        "source": sha256(candidate.weights),
        "run": _run(candidate, seeds),
        "validation": _validation(candidate, len(again), off),
        "rounding": {"difference": moved if math.isfinite(moved) else None},
        "forgets": about["forgets"],
        **board_scores(candidate.system, candidate.seed, candidate.board),
    }


def _run(candidate: Candidate, seeds: int) -> dict[str, Any]:
    record = candidate.record
    recipe, data = record["recipe"], record["data"]
    pretrained = ""
    if candidate.board is not None:
        told = [line for line in candidate.board["unequal"] if candidate.system + "'s" in line]
        pretrained = told[0] if told else ""
    return {
        "name": candidate.name,
        "seed": candidate.seed,
        "seeds": seeds,
        "status": record["status"],
        "steps": record["steps"],
        "asked": recipe["steps"],
        "step": record["best"]["step"],
        "clips_per_step": recipe["batch"] * recipe.get("accumulate", 1),
        "scale": candidate.board["scale"] if candidate.board else recipe["scale"],
        "size": recipe["size"],
        "digest": recipe["digest"],
        "code": record["code"],
        "command": record["command"],
        "device": record["device"].get("name") or record["device"]["type"],
        "started": record["started"],
        "data": {key: data[key] for key in ("spec", "name", "split", "fps", "videos")},
        "pretrained": pretrained,
    }


def _validation(candidate: Candidate, videos: int, off: float) -> dict[str, Any]:
    record = candidate.record
    return {
        "metric": record["best"]["metric"],
        "value": record["best"]["value"],
        "videos": record["validation"]["videos"],
        "split": record["validation"]["split"],
        "checked": {"videos": videos, "difference": off},
    }


def board_scores(
    system: str, seed: int, board: Mapping[str, Any] | None
) -> dict[str, dict[str, Any] | None]:
    """``test``: means on the leaderboard's upright test worlds, of a run and of the baselines;
    ``real``: the same on real films, if any were scored, with what half of the people give;
    ``memory``: CC on the validation worlds with a memory that goes on and with one that is
    emptied, and which was kept, where that was tried."""
    if board is None:
        return {"memory": None, "test": None, "real": None}
    mine = _row(board, system, seed)
    memory = {k: v for k, v in mine.get("memory", {}).items() if k != "device"} or None

    def means(scores: Mapping[str, Any], metrics: Sequence[str] = METRICS) -> dict[str, float]:
        return {metric: _mean(scores[metric]) for metric in metrics}

    flat = {n: a for n, a in board["arms"].items() if a["kind"] == "baseline" and a["runs"]}
    test = {
        "videos": len(board["videos"]),
        "scores": means(mine["scores"]["upright"]),
        "baselines": {n: means(a["runs"][0]["scores"]["upright"]) for n, a in flat.items()},
    }
    found = board.get("real")
    rows = [] if found is None else found["arms"].get(system, [])
    own = next((row for row in rows if row["seed"] == seed), None)
    if found is None or own is None:
        return {"memory": memory, "test": test, "real": None}
    metrics = [metric for metric in found["metrics"] if metric in own]
    real = {
        "data": found["data"],
        "videos": len(found["videos"]),
        "scores": means(own, metrics),
        "baselines": {n: means(found["arms"][n][0], metrics) for n in flat if n in found["arms"]},
    }
    return {"memory": memory, "test": test, "real": real}


def refresh(board: Mapping[str, Any], folder: str | Path | None = None) -> list[str]:
    """Bring the scores of the index, and how many seeds these weights are the best of, to a
    leaderboard, for weights that stand on it.

    Returns:
        names of the systems whose scores were written.
    """
    target = Path(folder or shipped.BUNDLED)
    entries, done = shipped.read_index(target), []
    for name, entry in entries.items():
        if any(one["sha256"] == entry["source"] for one in _rows(board, name)):
            seed, known = entry["run"]["seed"], beside(name, board)
            if seed in known:
                entry["run"]["seeds"] = sum(value <= known[seed] for value in known.values())
            entries[name] = entry | board_scores(name, seed, board)
            done.append(name)
    write_index(entries, target)
    return done


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known)


def write_index(entries: Mapping[str, Any], folder: Path) -> Path:
    """The index of a folder, with these entries, in the order of the registry."""
    path = folder / "index.json"
    models = {name: entries[name] for name in MODELS if name in entries}
    text = json.dumps({"schema": shipped.SCHEMA, "models": models}, indent=1)
    write_whole(path, (text + "\n").encode())
    return path


def install(
    folders: Iterable[str | Path],
    folder: str | Path | None = None,
    only: Sequence[str] = (),
    videos: int = VIDEOS,
    spec: str | None = None,
    tolerance: float = TOLERANCE,
    report: Any = print,
) -> dict[str, Any]:
    """All of it: find, choose, check, write. A system that fails is reported and left as it was.

    Returns:
        the index's entries.
    Raises:
        ValueError: nothing could be bundled, or all weights together are too large.
    """
    target = Path(folder or shipped.BUNDLED)
    found, left_out = find_runs(folders)
    for line in left_out:
        report(f"left out: {line}")
    chosen = {name: one for name, one in best_of(found).items() if not only or name in only}
    entries, done = shipped.read_index(target), 0
    with tempfile.TemporaryDirectory() as scratch:
        opened: dict[Any, VideoDataset] = {}
        for name, (candidate, seeds) in chosen.items():
            told = candidate.record["validation"]
            key = (told["spec"], id(candidate.board), tuple(candidate.record["recipe"]["size"]))
            try:
                if key not in opened:
                    place = Path(scratch) / str(len(opened))
                    place.mkdir(exist_ok=True)
                    opened[key] = validation_data(candidate, place, videos, spec)
                entries[name] = bundle(candidate, seeds, opened[key], target, videos, tolerance)
            except ValueError as error:
                report(f"{name}: not bundled: {error}")
                continue
            done += 1
            write_index(entries, target)  # now: who stops here has weights and index that agree
            one = entries[name]
            report(f"{name}: {candidate.name}, {one['bytes']:,} bytes, {one['storage']}, "
                   f"reproduced to {one['validation']['checked']['difference']:.2g}")  # fmt: skip
            for seed, value in beside(name, candidate.board).items():
                if value > candidate.value:  # its weights are not here, or it would be the best
                    report(f"{name}: seed {seed} is better, {value:.3f} to {candidate.value:.3f}, "
                           "and its weights were not given")  # fmt: skip
    if not done:
        raise ValueError("runs: nothing that can be bundled")
    total = sum(one["bytes"] for one in entries.values())
    report(f"{len(entries)} systems, {total:,} bytes")
    if total > shipped.LARGEST:
        raise ValueError(f"{target}: {total:,} bytes, wanted at most {shipped.LARGEST:,}")
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.models.bundle",
        description="Bundle the best weights of runs with the package.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folder of a run, or of many")
    parser.add_argument(
        "--scores", type=Path, metavar="LEADERBOARD.json", help="only bring the cards' scores to it"
    )
    parser.add_argument("--to", type=Path, help="default: the package's own folder")
    parser.add_argument("--only", action="append", default=[], metavar="SYSTEM", help="repeatable")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="on which scores are checked")
    parser.add_argument("--validation", metavar="SPEC", help="data of the check, see sal360 train")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of that check")
    given = parser.parse_args(arguments)
    if bool(given.runs) == bool(given.scores):
        parser.error("wanted RUN, or --scores LEADERBOARD.json")
    if unknown := [name for name in given.only if name not in MODELS]:
        parser.error(f"--only: {unknown[0]!r}, wanted one of {', '.join(MODELS)}")
    if given.videos < 1:
        parser.error(f"--videos: {given.videos}, wanted at least 1")
    if not 0 <= given.tolerance < math.inf:
        parser.error(f"--tolerance: {given.tolerance}, wanted a number of at least 0")
    try:
        if given.scores:
            from sal360.experiments.leaderboard import load

            print(f"scores of: {', '.join(refresh(load(given.scores), given.to)) or 'none'}")
            return 0
        install(given.runs, given.to, given.only, given.videos, given.validation, given.tolerance)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
