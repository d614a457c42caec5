"""The leaderboard as a reader sees it: means over videos, and differences that chance can explain.

The unit is the video (:mod:`sal360.evaluation.statistics`). The seeds of an arm are one predictor's
runs, not more videos: a video's score is the mean over those that finished, and how far they lie
apart is told beside it. Who is ahead is asked of differences, video by video. Chapter 17 and the
page of the leaderboard are made by these lines from the record::

    python -m sal360.experiments.leaderboard_table data/runs/leaderboard.json
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.evaluation.report import favours
from sal360.evaluation.statistics import Comparison, bootstrap, paired
from sal360.training import run_files as records
from sal360.training.validation import better

METRICS = ("cc", "sim", "kld", "nss")
HEADS = {"cc": "CC", "sim": "SIM", "kld": "KLD", "nss": "NSS", "auc_judd": "AUC",
         "information_gain": "IG, bits"}  # fmt: skip
WARNINGS = {
    "fast": "**Scale fast: these numbers show that the code runs, and nothing else.** ",
    "cpu": "**Scale cpu: small pictures and short trainings. It says how far seeds lie apart, and "
    "little of what the systems can learn.** ",
}
Record = dict[str, Any]
TITLE = "# The leaderboard, all tables\n"
"""First line of a page, by which one may be written again."""


# --- numbers ---


def per_video(record: Record, arm: str, metric: str, condition: str = "upright") -> NDArray[Any]:
    """``(V,)`` scores, the mean over the arm's finished runs (:func:`finished`)."""
    runs = finished(record, arm)
    return np.mean([run["scores"][condition][metric] for run in runs], 0)


def in_band(record: Record, arm: str, band: str, condition: str = "upright") -> NDArray[Any]:
    """``(V,)`` mean z-scores in a band of latitude, over finished runs; NaN where nobody looked."""
    runs = finished(record, arm)
    rows = [run["scores"][condition]["latitude"][band] for run in runs]
    return np.mean([[math.nan if v is None else v for v in row] for row in rows], 0)


def of_seeds(record: Record, arm: str, metric: str, condition: str = "upright") -> NDArray[Any]:
    """``(S,)`` mean over videos of each run of the record, also of those that were cut off."""
    runs = _runs(record, arm)
    return np.array([np.mean(run["scores"][condition][metric]) for run in runs])


def minus(
    record: Record,
    arm: str,
    other: str,
    metric: str = "nss",
    condition: str = "upright",
    band: str | None = None,
) -> Comparison:
    """Difference of two arms, video by video; of z-scores in a band of latitude if one is given."""
    return paired(*_pair(record, arm, other, metric, condition, band))


def _pair(
    record: Record, arm: str, other: str, metric: str, condition: str, band: str | None
) -> tuple[Tensor, Tensor]:
    if band is not None:
        pair = [in_band(record, name, band, condition) for name in (arm, other)]
    else:
        pair = [per_video(record, name, metric, condition) for name in (arm, other)]
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])


def _apart(
    record: Record,
    arm: str,
    other: str,
    metric: str = "nss",
    condition: str = "upright",
    band: str | None = None,
) -> Comparison:
    """:func:`minus` with the interval alone: tables show no p, and it takes half of the time."""
    a, b = _pair(record, arm, other, metric, condition, band)
    return Comparison(bootstrap(a - b), math.nan, True)


def twins(record: Record) -> list[tuple[str, str]]:
    """Arms on the sphere and their planar twins."""
    return [
        (one["twin"], name) for name, one in record["arms"].items() if one["twin"] in record["arms"]
    ]


def ranked(record: Record) -> list[str]:
    """Arms by mean CC, the best first."""
    arms = record["arms"]
    return sorted(arms, key=lambda arm: -float(per_video(record, arm, "cc").mean()))


def finished(record: Record, arm: str) -> list[dict[str, Any]]:
    """The runs of an arm that were not cut off; all of them if every one was.

    A seed that had a third of its steps says how far it came, not how good the arm is.
    """
    runs = _runs(record, arm)
    return [run for run in runs if run["status"] != "interrupted"] or runs


def _runs(record: Record, arm: str) -> list[dict[str, Any]]:
    if arm not in record["arms"]:
        raise ValueError(f"arm: {arm!r}, wanted one of {', '.join(record['arms'])}")
    return list(record["arms"][arm]["runs"])


# --- tables ---


def scores_table(record: Record, condition: str = "upright") -> str:
    """Every arm with the interval of each mean, bold where it beats the reference for sure."""
    reference = record["settings"]["reference"]
    head = ["arm", "kind", "parameters", "seeds", *(HEADS[m] for m in METRICS)]
    rows = []
    for arm in ranked(record):
        one = record["arms"][arm]
        cells = [arm, one["kind"], f"{one['parameters']:,}", str(len(finished(record, arm)))]
        for metric in METRICS:
            text = str(bootstrap(per_video(record, arm, metric, condition)))
            ahead = arm != reference and reference in record["arms"] and _ahead(
                metric, _apart(record, arm, reference, metric, condition), arm, reference
            )  # fmt: skip
            cells.append(f"**{text}**" if ahead else text)
        rows.append(cells)
    return _table(head, rows)


def seeds_table(record: Record, condition: str = "upright") -> str:
    """Means of each seed of the arms that have several; with the steps of those cut off."""
    rows = []
    for arm in ranked(record):
        runs = _runs(record, arm)
        if len(runs) < 2:
            continue
        cells = [arm]
        for metric in ("cc", "nss"):
            values = of_seeds(record, arm, metric, condition)
            texts = [
                f"{value:.3f}" + f" ({run['steps']} steps)" * (run["status"] == "interrupted")
                for value, run in zip(values, runs, strict=True)
            ]
            whole = [
                v for v, run in zip(values, runs, strict=True) if run["status"] != "interrupted"
            ]
            spread = f"{np.ptp(whole):.3f}" if len(whole) > 1 else ""
            cells += [", ".join(texts), spread]
        rows.append(cells)
    head = ["arm", "CC of each seed", "range of the finished", "NSS of each seed",
            "range of the finished"]  # fmt: skip
    return _table(head, rows)


def runs_table(record: Record) -> str:
    """Each training: what it did, how long it took, and where; and the commands that began them."""
    rows = []
    for arm, one in record["arms"].items():
        for run in one["runs"]:
            if run["status"] == "no training":
                continue
            made = run.get("made", record)
            rate = "" if run["clips_per_s"] is None else f"{run['clips_per_s']:.1f}"
            rows.append([arm, str(run["seed"]), run["status"], str(run["steps"]),
                         str(run["best"] or ""), f"{run['seconds'] / 60:.1f}", rate,
                         made["device"], made["code"][:8]])  # fmt: skip
    head = ["arm", "seed", "status", "steps", "kept", "minutes", "clips/s", "device", "code"]
    lines = [f"- {record['seconds'] / 60:.1f} minutes: `{record['command']}`"]
    for one in record.get("extended", []):
        count = f"{len(one['runs'])} trainings"
        lines.append(
            f"- {one['seconds'] / 60:.1f} minutes, {count}, {one['device']}: `{one['command']}`"
        )
    shared = ("Minutes are those of a training and of scoring it. What began together ran at "
              "once and shared its device: clips/s are no measure of a network (the benchmarks "
              "are). `code` is the beginning of a hash of the package's files.\n\n")  # fmt: skip
    return shared + "\n".join(lines) + "\n\n" + _table(head, rows)


def memory_table(record: Record, metric: str = "cc") -> str:
    """Memories carried over a whole film beside memories that are emptied as often as in
    training: chosen on validation worlds, scored on the upright test worlds."""
    rows = []
    for arm in ranked(record):
        for run in finished(record, arm):
            memory = run.get("memory")
            if memory is None:
                continue
            other = next(k for k in memory if k.startswith("every"))
            cells = [
                f"{arm}, seed {run['seed']}",
                *(f"{memory[k]:.3f}" for k in ("carried", other)),
            ]
            kept = np.array(run["scores"]["upright"][metric])
            told = "carried" if memory["kept"] == "carried" else "emptied"
            both = {told: kept} | {
                way: np.array(run[way]["upright"][metric])
                for way in ("carried", "emptied")
                if way in run
            }
            cells.append(memory["kept"])
            cells += [f"{both[k].mean():.3f}" if k in both else "" for k in ("carried", "emptied")]
            if len(both) == 2:
                tested = paired(both["emptied"], both["carried"], seed=0)
                cells.append(_difference(metric, tested, "emptied", "carried"))
            else:
                cells.append("")
            rows.append(cells)
    if not rows:
        return "Not tried.\n"
    name = HEADS[metric]
    head = ["arm", f"validation {name}, carried", "emptied", "kept", f"test {name}, carried",
            "emptied", "emptied minus carried"]  # fmt: skip
    return _table(head, rows)


def reference_table(record: Record, condition: str = "upright") -> str:
    """Every arm minus the reference, bold where chance does not explain it."""
    reference = record["settings"]["reference"]
    rows = []
    for arm in ranked(record):
        if arm == reference or reference not in record["arms"]:
            continue
        found = {m: _apart(record, arm, reference, m, condition) for m in METRICS}
        rows.append([arm, *(_difference(m, one, arm, reference) for m, one in found.items())])
    return _table([f"minus {reference}", *(HEADS[m] for m in METRICS)], rows)


def tilt_table(record: Record, metric: str = "nss") -> str:
    """Every arm's mean in every condition."""
    rows = [
        [arm, *(f"{per_video(record, arm, metric, c).mean():.3f}" for c in record["conditions"])]
        for arm in ranked(record)
    ]
    return _table([HEADS[metric], *record["conditions"]], rows)


def twin_table(record: Record, metric: str = "nss") -> str:
    """What knowing the sphere buys, by tilt: the arm minus its planar twin."""
    rows = []
    for arm, twin in twins(record):
        found = [_apart(record, arm, twin, metric, c) for c in record["conditions"]]
        rows.append([f"{arm} minus {twin}", *(_difference(metric, f, arm, twin) for f in found)])
    return _table([HEADS[metric], *record["conditions"]], rows)


def latitude_table(record: Record, condition: str = "upright") -> str:
    """The same by the latitude of what was looked at: NSS of the directions in each band."""
    bands = list(record["settings"]["bands"])
    rows = []
    for arm, twin in twins(record):
        found = [_apart(record, arm, twin, "nss", condition, band) for band in bands]
        rows.append([f"{arm} minus {twin}", *(_difference("nss", f, arm, twin) for f in found)])
    looked = record["looked"][condition]
    share = sum(sum(looked[band]) for band in bands)
    shares = [f"{100 * sum(looked[band]) / share:.1f} %" for band in bands]
    rows.append(["share of the fixations", *shares])
    return _table([f"NSS, {condition}", *(f"{band} degrees" for band in bands)], rows)


def calibration_table(record: Record, condition: str = "upright") -> str:
    """Share of the fixations in each part of equal predicted mass, the mean over the seeds."""
    bins = record["settings"]["bins"]
    rows = []
    for arm in ranked(record):
        runs = [run["scores"][condition] for run in finished(record, arm)]
        shares = np.mean([run["calibration"] for run in runs], 0)
        off = np.mean([run["off"] for run in runs])
        rows.append([arm, *(f"{share:.2f}" for share in shares), f"{off:.2f}"])
    return _table(["arm", *(str(k + 1) for k in range(bins)), "off"], rows)


def real_table(record: Record) -> str:
    """AVTrack360: every arm, the mean over its finished seeds (:func:`finished`); bold where it
    beats the equator for sure."""
    real = record["real"]
    if real is None:
        return "Not measured.\n"

    def whole(arm: str) -> list[dict[str, Any]]:
        runs = list(real["arms"][arm])
        known = finished(record, arm) if arm in record["arms"] else runs
        seeds = {run["seed"] for run in known}
        return [run for run in runs if run["seed"] in seeds] or runs

    def values(arm: str, metric: str) -> NDArray[Any]:
        return np.mean([run[metric] for run in whole(arm)], 0)

    arms = sorted(real["arms"], key=lambda arm: -float(values(arm, "cc").mean()))
    people = [str(bootstrap(real["people"][m])) for m in real["metrics"]]
    rows = [["half of the people", "", *people]]
    for arm in arms:
        cells = [arm, str(len(whole(arm)))]
        for metric in real["metrics"]:
            text = str(bootstrap(values(arm, metric)))
            tested = paired(values(arm, metric), values("equator", metric))
            ahead = arm != "equator" and _ahead(metric, tested, arm, "equator")
            cells.append(f"**{text}**" if ahead else text)
        rows.append(cells)
    return _table(["AVTrack360, stills", "seeds", *(HEADS[m] for m in real["metrics"])], rows)


def where_baselines_win(record: Record, condition: str = "upright") -> list[str]:
    """A line for each baseline that is ahead of a trained network, and in which metrics."""
    arms = record["arms"]
    baselines = [arm for arm, one in arms.items() if one["kind"] == "baseline"]
    lines = []
    for baseline in baselines:
        beaten: dict[str, list[str]] = {}
        for arm, one in arms.items():
            if one["kind"] == "baseline":
                continue
            for metric in METRICS:
                a, b = _pair(record, baseline, arm, metric, condition, None)
                if not better(metric, float(a.mean()), float(b.mean())):
                    continue  # behind, so not ahead for sure
                tested = _apart(record, baseline, arm, metric, condition)
                if _ahead(metric, tested, baseline, arm):
                    beaten.setdefault(arm, []).append(HEADS[metric])
        if beaten:
            told = "; ".join(f"{arm} ({', '.join(names)})" for arm, names in beaten.items())
            lines.append(f"{baseline} is ahead of {told}")
    return lines


def missing(record: Record) -> list[str]:
    """What did not run, or not to its end, and why."""
    lines = [f"{name}: {reason}" for name, reason in record["not_run"].items()]
    for arm, one in record["arms"].items():
        for run in one["runs"]:
            if run["status"] == "interrupted":
                asked = one["recipe"]["steps"]
                lines.append(f"{arm}, seed {run['seed']}: {run['steps']} of {asked} steps")
    if record["real"] is not None:
        lines += [f"{name} on AVTrack360: {why}" for name, why in record["real"]["not_run"].items()]
    return lines


def told(record: Record) -> str:
    """Where the numbers come from, in a line or two."""
    s = record["settings"]
    warning = WARNINGS.get(record["scale"], "")
    H, W = s["size"]
    others = sum("made" in run for one in record["arms"].values() for run in one["runs"])
    minutes = round(record["seconds"] / 60)
    later = sum(one["seconds"] for one in record.get("extended", [])) / 60
    added = f", extended by {later:.0f} minutes of training" if later else ""
    elsewhere = f"; runs by other code, torch or device: {others}" if others else ""
    return (
        f"{warning}{s['test'][0]} test worlds of {s['test'][1]:g} s at {H} x {W}; trained on "
        f"{s['train'][0]} others, {s['steps']} steps of {s['batch']} clips of {s['clip_length']} "
        f"frames ({record['device']}, {minutes} minutes in all{added}{elsewhere}). "
        "Intervals: 95 %, bootstrap over videos, of the mean over the seeds that finished. "
        f"Bold: ahead of {s['reference']} beyond chance.\n"
    )


def page(record: Record) -> str:
    """All tables, one after the other."""
    parts: list[tuple[str, str]] = [
        ("Upright", told(record) + "\n" + scores_table(record)),
        (f"Minus {record['settings']['reference']}", reference_table(record)),
        ("Where a baseline wins", _list(where_baselines_win(record))),
        ("How long to remember", memory_table(record)),
        ("Seeds", seeds_table(record)),
        ("Tilted", tilt_table(record)),
        ("What knowing the sphere buys, by tilt", twin_table(record)),
    ]
    for condition in record["conditions"]:
        parts.append((f"By latitude, {condition}", latitude_table(record, condition)))
    parts.append(("Calibration", calibration_table(record)))
    parts.append(("Real heads", real_table(record)))
    parts.append(("Trainings", runs_table(record)))
    parts.append(("What did not run", _list(missing(record))))
    return "\n".join(f"## {title}\n\n{text}" for title, text in parts)


def document(record: Record, name: str = "leaderboard") -> str:
    """:func:`page` as a file that says how it was made, from ``data/runs/<name>.json``."""
    return (
        f"{TITLE}\nMade from `{name}.json` by `python -m "
        f"sal360.experiments.leaderboard_table data/runs/{name}.json --write data/runs/{name}.md`; "
        f"chapter 17 explains it.\n\n{page(record)}"
    )


def _ahead(metric: str, tested: Comparison, arm: str, other: str) -> bool:
    return favours(metric, tested, arm, other) == arm


def _difference(metric: str, tested: Comparison, arm: str, other: str) -> str:
    one = tested.difference
    text = f"{one.mean:+.3f}"
    if one.method != "none":
        text += f" [{one.low:+.3f}, {one.high:+.3f}]"
    return f"**{text}**" if favours(metric, tested, arm, other) in (arm, other) else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _list(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines) or "Nothing.\n"


def main(arguments: Sequence[str] | None = None, show: Callable[[str], Any] = print) -> int:
    """Command line: the tables of a record."""
    from sal360.experiments.leaderboard import load

    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.leaderboard_table",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("record", nargs="?", type=Path, help="the published one if not given")
    parser.add_argument("--write", type=Path, metavar="PAGE.md", help="instead of showing them")
    given = parser.parse_args(arguments)
    try:
        record = load(given.record)
        for entry in ("seconds", "real"):
            if entry not in record:
                raise ValueError(f"{given.record}: {entry}: missing")
        if given.write is None:
            show(page(record))
        else:
            name = given.record.stem if given.record else "leaderboard"
            _write(document(record, name), given.write)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def _write(text: str, path: Path) -> None:
    if os.path.lexists(path) and not is_page(path):
        raise FileExistsError(f"{path}: exists, and is no such page; left alone")
    records.write(text, path)


def is_page(path: Path) -> bool:
    """Whether a file is a page that :func:`document` made."""
    return path.is_file() and path.read_bytes().startswith(TITLE.encode())


if __name__ == "__main__":
    sys.exit(main())
