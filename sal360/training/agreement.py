"""What must agree within one record, whoever wrote it and wherever it ran.

Each entry of a record may be right alone (:data:`sal360.training.records.FIELDS`) and beside the
others impossible: a curve that is too short for its steps, a best value that no validation found,
a speed at which the run would have taken longer than it did. What cannot be told from the record
itself, such as a loss, can only be found by running it again (:mod:`sal360.training.again`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

MOST_STEPS = 2**62
DIGITS = 2e-3
"""How far apart may be what was rounded to four digits."""


def disagreements(record: Mapping[str, Any], most_points: int) -> Iterator[str]:
    """What cannot be true at once, each in a line that begins with the entry.

    Args:
        record: one whose entries are right alone. most_points: of its curve.
    """
    recipe, steps = record["recipe"], record["steps"]
    if steps > recipe["steps"] or steps >= MOST_STEPS:
        yield f"steps: {steps}, wanted at most {min(recipe['steps'], MOST_STEPS)}"
        return
    if record["status"] == "done" and steps < recipe["steps"]:
        yield f"steps: {steps}, wanted the recipe's {recipe['steps']} of a run that is done"
    if record["seed"] != recipe["seed"]:
        yield f"seed: {record['seed']}, wanted the recipe's {recipe['seed']}"
    yield from _curve(record, most_points)
    yield from _validations(record)
    yield from _throughput(record)


def curve_steps(steps: int, most_points: int) -> list[float]:
    """The column ``step`` of the curve of so many steps (:class:`~.records.Curve`): means of as
    many as are needed to have at most so many points, a power of two; the last of what is left.

    >>> curve_steps(6, most_points=4)
    [0.5, 2.5, 4.5]
    """
    width = 1
    while steps > most_points * width:
        width *= 2
    edges = [*range(0, steps, width), steps]
    middles = [(start + end - 1) / 2 for start, end in pairwise(edges)]
    return [float(f"{middle:.6g}") for middle in middles]


def _curve(record: Mapping[str, Any], most_points: int) -> Iterator[str]:
    curve, steps = record["curve"], record["steps"]
    wanted = curve_steps(steps, most_points)
    if len(curve["step"]) != len(wanted):
        yield f"curve: {len(curve['step'])} points, wanted {len(wanted)} of {steps} steps"
        return
    for value, right in zip(curve["step"], wanted, strict=True):
        if value != right:
            yield f"curve: a point of step {value:g}, wanted {right:g} of {steps} steps"
            return
    highest = record["recipe"].get("lr")
    if isinstance(highest, float) and any(lr > highest * (1 + 1e-5) for lr in curve["lr"]):
        yield f"curve: lr {max(curve['lr']):g}, wanted at most the recipe's {highest:g}"
    if any(value < 0 for column in ("lr", "gradient") for value in curve[column]):
        yield "curve: lr or gradient below 0, wanted lengths"


def _validations(record: Mapping[str, Any]) -> Iterator[str]:
    from sal360.evaluation.scores import METRICS
    from sal360.training.validation import better, mean_scores

    validations, best, scores = record["validations"], record["best"], record["scores"]
    if record["validation"] is None and (validations or best or scores):
        yield "validation: null, wanted a data set where there are validations, best or scores"
        return
    steps = [one["step"] for one in validations]
    if any(before >= after for before, after in pairwise(steps)):
        yield f"validations: of steps {steps}, wanted them ascending"
        return
    if steps and steps[-1] > record["steps"]:
        yield f"validations: one of step {steps[-1]}, wanted at most {record['steps']}, the steps"
    metric = record["recipe"].get("monitor")
    if metric not in METRICS:  # of a recipe that says none
        metric = best["metric"] if best and best["metric"] in METRICS else None
    if metric is None or (best and best["metric"] != metric):
        if best:
            yield f"best: by {best['metric']}, wanted the recipe's monitor {metric}"
        return
    kept: dict[str, Any] | None = None
    for one in validations:
        value = _nan(one["means"].get(metric))
        if better(metric, value, None if kept is None else kept["value"]):
            kept = {"step": one["step"], "metric": metric, "value": value}
    if best != kept:
        yield f"best: {_told(best)}, wanted {_told(kept)} as the validations have it"
        return
    if kept is None:
        if scores:
            yield "scores: of some videos, wanted none where no validation was the best"
        return
    means = mean_scores({v: {m: _nan(s) for m, s in each.items()} for v, each in scores.items()})
    found = next(one["means"] for one in validations if one["step"] == kept["step"])
    for name, wanted in found.items():
        value = means.get(name, math.nan)
        if wanted is not None and not math.isclose(value, wanted, rel_tol=1e-6, abs_tol=1e-9):
            yield (
                f"scores: {name} {value:.6g} in the mean, wanted {wanted:.6g} as in the "
                f"validation of step {kept['step']}"
            )
            return


def _throughput(record: Mapping[str, Any]) -> Iterator[str]:
    recipe, speed = record["recipe"], record["throughput"]
    clips, frames = speed["clips_per_s"], speed["frames_per_s"]
    if (clips is None) != (frames is None):
        yield "throughput: clips_per_s or frames_per_s alone, wanted both or none"
        return
    counts = [recipe.get(key) for key in ("batch", "accumulate", "clip_length")]
    if clips is None or not all(type(n) is int and 0 < n < MOST_STEPS for n in counts):
        return
    batch, accumulate, length = counts
    if not math.isclose(frames, clips * length, rel_tol=DIGITS):
        yield f"throughput: {frames:g} frames_per_s, wanted {length} times {clips:g} clips_per_s"
    if record["device"]["processes"] > 1 or record.get("skipped"):
        return  # batches may not have been full
    many = record["steps"] * batch * accumulate
    if many > clips * (record["seconds"] * (1 + DIGITS) + 0.01):
        yield (
            f"throughput: {clips:g} clips_per_s, too few for {record['steps']} steps of "
            f"{batch * accumulate} in {record['seconds']:g} seconds"
        )


def _nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _told(best: Mapping[str, Any] | None) -> str:
    if best is None:
        return "null"
    return f"{best['metric']} {best['value']:.6g} of step {best['step']}"
