"""More seeds for a leaderboard that was begun elsewhere.

A graphics card was at hand for a while, and the time was up: a later call trains what is missing
and puts it into the record that there is. Nothing that the record has whole is trained again. Each
run says with which code, torch and device it was made, where those are not the record's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Job = tuple[str, int]
"""An arm and a seed."""
WHOLE = ("done", "stopped early", "no training")
"""How a run ends that is not cut off."""
SAME = ("settings", "videos", "conditions", "looked")
"""Of two records, what must agree for their scores to stand in one table."""


def check_same(record: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """See that new runs may stand beside those of a record.

    Raises:
        ValueError: another scale, other settings or other test worlds; which.
    """
    if record["scale"] != new["scale"]:
        raise ValueError(f"extend: a record of scale {record['scale']!r}, wanted {new['scale']!r}")
    for what in SAME:
        if record[what] != new[what]:
            raise ValueError(f"extend: the record's {what} are not those of this version")


def has(record: Mapping[str, Any], job: Job, recipe: Mapping[str, Any] | None) -> bool:
    """Whether a record holds a whole run of an arm, by the recipe that it would be run by now."""
    row = record["arms"].get(job[0])
    if row is None or not same_recipe(row["recipe"], recipe):
        return False
    return any(run["seed"] == job[1] and run["status"] in WHOLE for run in row["runs"])


def same_recipe(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two recipes differ in nothing but their seed."""
    if one is None or other is None:
        return one is None and other is None
    return {**one, "seed": 0} == {**other, "seed": 0}


def extended(
    record: Mapping[str, Any], new: Mapping[str, Any], jobs: Sequence[Job]
) -> dict[str, Any]:
    """A record with the runs of another in it.

    Args:
        record: as it was; it stays as it is. new: of this call, of the same scale. jobs: that this
            call was to do; of these ``new`` has runs, or a reason why not.
    Returns:
        ``record``, with a run of ``new`` in the place of one of the same arm and seed, unless it
        was cut off earlier. Where an arm's recipe is another by now, all its old runs go, unless
        every new one was cut off and an old one was not. Scores on real heads stay for the runs
        that do. ``extended`` lists the calls that gave a run; what ``new`` tells of all arms
        (``unequal``, and why some never run) joins what is told.
    Raises:
        ValueError: see :func:`check_same`.
    """
    check_same(record, new)
    arms = {name: {**row, "runs": list(row["runs"])} for name, row in record["arms"].items()}
    not_run, taken = dict(record["not_run"]), []
    head = {key: new[key] for key in ("code", "device")} | {"torch": new["versions"]["torch"]}
    theirs = {key: record[key] for key in ("code", "device")}
    theirs |= {"torch": record["versions"]["torch"]}
    for name, seed in jobs:
        told, row = f"{name}, seed {seed}", new["arms"].get(name)
        found = [run for run in row["runs"] if run["seed"] == seed] if row else []
        if not found:
            continue
        run, made = dict(found[0]), found[0].get("made", head)
        mine = arms.setdefault(name, {**row, "runs": []})
        if not same_recipe(mine["recipe"], row["recipe"]):
            if _whole(mine) and not _whole(row):
                continue
            mine |= {"recipe": row["recipe"], "parameters": row["parameters"], "runs": []}
        before = next((r for r in mine["runs"] if r["seed"] == seed), None)
        if before is not None and before["steps"] > run["steps"] and run["status"] not in WHOLE:
            continue
        run.pop("made", None)
        run |= {} if made == theirs else {"made": made}
        mine["runs"] = sorted(
            [*(r for r in mine["runs"] if r["seed"] != seed), run], key=lambda r: int(r["seed"])
        )
        taken.append(told)
    for name, seed in jobs:  # only now: with another recipe old runs may have gone
        told = f"{name}, seed {seed}"
        if any(run["seed"] == seed for run in arms.get(name, {"runs": []})["runs"]):
            not_run.pop(told, None)
        else:
            not_run[told] = new["not_run"].get(told, "not begun")
    not_run |= {told: why for told, why in new["not_run"].items() if ", seed " not in told}
    call = {key: new[key] for key in ("command", "started", "seconds", "device")} | {"runs": taken}
    order = [*record["arms"], *(name for name in arms if name not in record["arms"])]
    out = {
        **record,
        "arms": {name: arms[name] for name in order},
        "not_run": not_run,
        "unequal": list(dict.fromkeys([*record["unequal"], *new["unequal"]])),
    }
    if taken:
        out["extended"] = [*record.get("extended", []), call]
    if record.get("real"):
        out["real"] = {**record["real"], "arms": _real(record, out)}
    return out


def _whole(row: Mapping[str, Any]) -> bool:
    """Whether an arm has a run that was not cut off."""
    return any(run["status"] in WHOLE for run in row["runs"])


def _real(record: Mapping[str, Any], out: Mapping[str, Any]) -> dict[str, Any]:
    """Scores on real heads, of runs that are still there."""

    def weights(whole: Mapping[str, Any], arm: str) -> dict[int, Any]:
        return {run["seed"]: run["sha256"] for run in whole["arms"][arm]["runs"]}

    kept = {}
    for arm, rows in record["real"]["arms"].items():
        if arm in record["arms"]:
            was, now = weights(record, arm), weights(out, arm)
            rows = [row for row in rows if was.get(row["seed"]) == now.get(row["seed"], "gone")]
        if rows:
            kept[arm] = rows
    return kept
