"""A recorded run, made once more and compared: are they the same bits?

What a record tells as a line (:func:`sal360.training.shell_line.command_of`) is done here, with
the record's number of threads, and what came out is held against the record: weights by their hash,
the curve point by point, validations and scores number by number. Chapter 16::

    python -m sal360.training.records runs/mine/record.json --again
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from sal360.datasets.item import VideoDataset
from sal360.training.data import Remembered, open_data
from sal360.training.machine import code_hash, device_facts, tf32_allowed, versions
from sal360.training.recipe import INPUTS, SCALES, Recipe, parse_recipe
from sal360.training.records import data_facts, load_record
from sal360.training.report import Bar
from sal360.training.run import train
from sal360.training.shell_line import made_by_train

Say = Callable[[str], None]


def once_more(record: Mapping[str, Any], out: str | Path | None = None, say: Say = print) -> str:
    """Train as a record says, and compare.

    Args:
        record: of :func:`sal360.training.records.load_record`. One of a run that was interrupted
            is compared up to its last step. out: a new folder for the run; None: one that is
            taken away again. say: is told what is another than the record's, and may matter.
    Returns:
        the verdict of :func:`compare`; it begins with ``"same"`` or ``"differs"``.
    Raises:
        ValueError, OSError: what cannot be made again here; one line.
    """
    if record["steps"] == 0:
        raise ValueError("steps: 0, wanted a run that made some, to compare")
    if not made_by_train(record):
        told = record["command"] or "none"
        raise ValueError(f"command: {told}; wanted one of sal360 train, which opened its data")
    recipe, device, tf32 = recipe_of(record), record["device"], record.get("tf32")
    if device["processes"] > 1:
        raise ValueError(f"device: {device['processes']} processes, wanted 1 (its line shares it)")
    if device["type"] == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {device['name']} (cuda), and there is none here")
    for what, theirs, mine in (
        ("code", record["code"][:12], code_hash()[:12]),
        ("versions", record["versions"], versions()),
        ("device", device["name"], device_facts(device["type"])["name"]),
        ("tf32", tf32, tf32 and tf32_allowed(device["type"])),  # early records do not say it
    ):
        if theirs != mine:
            say(f"note: {what}: {mine} here, {theirs} then: the bits may be others")
    films = _opened(record["data"], recipe, "data")
    checked = record["validation"] and _opened(record["validation"], recipe, "validation")
    until = _Until(record["steps"], recipe)
    with tempfile.TemporaryDirectory() as temporary, _threads(record):
        folder = Path(temporary, "run") if out is None else Path(out)
        train(
            recipe,
            Remembered(films),
            checked and Remembered(checked),
            folder,
            command="sal360 train",
            device=device["type"],
            mix=record["data"].get("mix"),
            on_error="skip" if record.get("skipped") else "raise",
            report=until,
            stop=until.reached,
            exact=record.get("exact", True),
        )
        return compare(record, load_record(folder / "record.json"))


def recipe_of(record: Mapping[str, Any]) -> Recipe:
    """The recipe that a record holds.

    Raises:
        ValueError, TypeError: one that this version does not read, or reads as another.
    """
    settings = dict(record["recipe"])
    digest, name, scale, system = (settings.pop(k) for k in ("digest", "name", "scale", "system"))
    if scale not in SCALES or system not in INPUTS:
        raise ValueError(f"recipe: {name!r}, wanted one of a system of this package")
    recipe = parse_recipe(f'system = "{system}"', name, scale, settings)
    if recipe.digest != digest:
        raise ValueError(f"recipe: digest {digest[:12]}, which this version cannot make again")
    return recipe


def compare(record: Mapping[str, Any], again: Mapping[str, Any]) -> str:
    """The verdict on two records of one run, in a line.

    Returns:
        ``"same bits: ..."`` where hashes of weights were kept and are the same, as all else;
        ``"same curve to six digits ..."`` where there are none; ``"differs: first at step ..."``,
        with both numbers, or what else is not the same.
    """
    found = sorted(_differences(record, again), key=lambda one: one[0])
    if found:
        step, told = found[0]
        return f"differs: first at step {step:g}: {told}"
    points = len(record["curve"]["step"])
    all_of_it = f"curve to six digits ({points} points)"
    if record["scores"] != again["scores"]:
        return f"differs: scores of the weights that were kept, with the same {all_of_it}"
    hashes = {kind: one["sha256"] for kind, one in record["weights"].items()}
    others = [
        kind
        for kind, wanted in hashes.items()
        if again["weights"].get(kind, {}).get("sha256") != wanted
    ]
    if others:
        return f"differs: weights {', '.join(others)}, with the same {all_of_it}"
    if hashes:
        return f"same bits: weights {', '.join(hashes)}, {all_of_it}, scores"
    return f"same {all_of_it}, same scores; the record has no hashes of weights"


def _differences(
    record: Mapping[str, Any], again: Mapping[str, Any]
) -> Iterator[tuple[float, str]]:
    """Steps at which curves or validations are not the same, with what was found and wanted."""
    columns = ("step", "loss", "lr", "gradient")
    curves = [
        list(zip(*(one["curve"][c] for c in columns), strict=True)) for one in (record, again)
    ]
    for theirs, mine in zip_longest(*curves):
        if theirs is None or mine is None:
            yield (theirs or mine)[0], "a point of the curve that only one of them has"
            return
        for column, wanted, value in zip(columns, theirs, mine, strict=True):
            if wanted != value:
                yield theirs[0], f"{column} {value:g}, wanted {wanted:g}"
                break
    for then, now in zip_longest(record["validations"], again["validations"]):
        if then is None or now is None:
            yield (then or now)["step"], "a validation that only one of them has"
        elif then["step"] != now["step"]:
            yield min(then["step"], now["step"]), "a validation that only one of them has"
        elif then["means"] != now["means"]:
            metric = next(m for m in then["means"] if then["means"][m] != now["means"].get(m))
            value, wanted = now["means"].get(metric), then["means"][metric]
            yield then["step"], f"validation's {metric} {value}, wanted {wanted}"


def _opened(told: Mapping[str, Any], recipe: Recipe, what: str) -> VideoDataset:
    """A data set of a record, if it is still the same."""
    data = open_data(told["spec"], size=recipe.size)
    for key, value in data_facts(data).items():
        if key in told and told[key] != value:
            raise ValueError(f"{what}: {told['spec']}: {key} {value!r}, wanted {told[key]!r}")
    return data


@contextmanager
def _threads(record: Mapping[str, Any]) -> Iterator[None]:
    """On a CPU their number decides how sums are rounded."""
    before = torch.get_num_threads()
    if record["device"]["type"] == "cpu":
        torch.set_num_threads(max(1, record["threads"]))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Until(Bar):
    """Shows how the run goes, and ends it where the record's ended."""

    def __init__(self, last: int, recipe: Recipe) -> None:
        super().__init__(last, name=recipe.name)
        self.last, self.done = last, 0

    def on_step(self, step: Any, rate: float, waiting: float) -> None:
        """One more."""
        self.done = step.index + 1
        super().on_step(step, rate, waiting)

    def reached(self) -> bool:
        """Whether the record's last step is done."""
        return self.done >= self.last
