"""One JSON for one run: what was asked for, on what, with what, how it went, what came out.

A page's numbers are worth what can be said of where they came from. So a run writes down
everything that decided it and everything that it measured, in one flat file that a person can
read. :data:`FIELDS` is the schema: the check and the table in ``data/README.md`` are made of it.
Chapter 16 reads records, chapter 17 makes its tables of them.

``python -m sal360.training.records data/runs/NAME.json`` checks one and prints the line that runs
it again; with ``--again`` it does so, and compares (:mod:`sal360.training.again`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sal360._files import write_whole
from sal360._version import __version__
from sal360.datasets.item import VideoDataset
from sal360.training.agreement import disagreements
from sal360.training.machine import code_hash, commit, device_facts, tf32_allowed, versions
from sal360.training.recipe import Recipe
from sal360.training.shell_line import COMMAND, command_of, untold

SCHEMA = "sal360/run/1"
STATUS = ("running", "done", "interrupted", "stopped early")
MOST_POINTS = 400
"""Points of a curve in a record."""


def new_run_record(
    recipe: Recipe,
    data: VideoDataset,
    validation: VideoDataset | None = None,
    device: torch.device | str = "cpu",
    *,
    command: str | None = None,
    processes: int = 1,
    validation_videos: Sequence[str] | None = None,
    mix: int | None = None,
    exact: bool = True,
) -> dict[str, Any]:
    """The record of a run that begins now; what it will measure is empty or None.

    Args:
        recipe: what is run. data, validation: what on; what :func:`sal360.training.data.open_data`
            opened says its spec, any other data set says only its name.
        device: of the network. processes: that share the run.
        command: the shell line, if a program other than ``sal360 train`` made the run; None or
            ``"sal360 train"``: its line; ``""``: no line makes it again.
        validation_videos: those that are scored; None: all.
        mix, exact: of :func:`sal360.training.run.train`.
    """
    own = command in (None, COMMAND.strip())
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": code_hash(),
        "commit": commit(),
        "command": None if own else command or None,
        "recipe": {**recipe.settings(), "digest": recipe.digest},
        "data": data_facts(data) | ({} if mix is None else {"mix": mix}),
        "validation": None if validation is None else data_facts(validation, validation_videos),
        "device": device_facts(device, processes),
        "tf32": tf32_allowed(device),
        "exact": exact,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "seed": recipe.seed,
        "status": "running",
        "steps": 0,
        "curve": {"step": [], "loss": [], "lr": [], "gradient": []},
        "validations": [],
        "best": None,
        "throughput": {"clips_per_s": None, "frames_per_s": None, "waiting": None},
        "memory": {"host_peak_mb": None, "device_peak_mb": None},
        "energy_j": None,
        "scores": {},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "weights": {},
    }
    if own and untold(record) is None:
        record["command"] = command_of(record | {"command": COMMAND})
    return record


def data_facts(data: VideoDataset, videos: Sequence[str] | None = None) -> dict[str, Any]:
    """What a record says of a data set: how it is opened again, which of its videos
    counted, how many were left out, and how its flow was made if it brought none."""
    names = list(data.videos if videos is None else videos)
    told = {"flow": "flow_from", "left_out": "left_out"}
    return {
        "spec": getattr(data, "spec", None),
        "name": data.name,
        "split": getattr(data, "split", None),
        "size": getattr(data, "size", None) and list(data.size),  # type: ignore[attr-defined]
        "fps": getattr(data, "fps", None),
        "videos": len(names),
        "first": names[0] if names else None,
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        **{key: getattr(data, name) for key, name in told.items() if hasattr(data, name)},
    }


class Curve:
    """Losses of a run of any length in at most :data:`MOST_POINTS` points.

    A point is the mean of as many steps as all others but the last; once there would be too many
    points, pairs of them are joined. So a run that was broken off and one that was not have the
    same curve.

    >>> curve = Curve(most=4)
    >>> for step in range(6):
    ...     curve.add(step, loss=6.0 - step, lr=0.5, gradient=1.0)
    >>> curve.columns()["step"], curve.columns()["loss"]
    ([0.5, 2.5, 4.5], [5.5, 3.5, 1.5])
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        if most < 2 or most % 2:
            raise ValueError(f"most: {most}, wanted an even number of at least 2")
        self.most, self._width = most, 1
        self._sums: list[list[float]] = []  # steps in it, then sums of step, loss, lr, gradient

    def add(self, step: int, loss: float, lr: float, gradient: float) -> None:
        """A step's numbers."""
        if not self._sums or self._sums[-1][0] == self._width:
            if len(self._sums) == self.most:
                pairs = zip(self._sums[::2], self._sums[1::2], strict=True)
                self._sums = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
                self._width *= 2
            self._sums.append([0, 0.0, 0.0, 0.0, 0.0])
        self._sums[-1] = [
            total + one for total, one in zip(self._sums[-1], (1, step, loss, lr, gradient),
                                              strict=True)
        ]  # fmt: skip

    def columns(self) -> dict[str, list[float]]:
        """``step``, ``loss``, ``lr``, ``gradient``: the means of the points, six digits each."""
        names = ("step", "loss", "lr", "gradient")
        rows = [[float(f"{total / n:.6g}") for total in sums] for n, *sums in self._sums]
        return {name: [row[k] for row in rows] for k, name in enumerate(names)}

    def state_dict(self) -> dict[str, Any]:
        """Numbers for a checkpoint, exact in JSON."""
        return {"width": self._width, "sums": [list(sums) for sums in self._sums]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: what :meth:`state_dict` never says.
        """
        width: Any = state.get("width")
        sums: Any = state.get("sums")
        points = _each(lambda row: _each(_number)(row) and len(row) == 5 and row[0] >= 1)
        if not (_count(width) and width and points(sums)):
            raise ValueError("curve: wanted a width of at least 1, and sums of five numbers each")
        self._width, self._sums = width, [list(row) for row in sums]


# --- the schema ---


class Field(NamedTuple):
    """An entry of a record.

    Attributes:
        right: whether a value can be it. wanted: what it must be, in errors and in the table.
        words: what it tells.
    """

    right: Callable[[Any], bool]
    wanted: str
    words: str


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # not NaN, not infinite, no digits by the hundred


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _some(value: Any) -> bool:
    return _number(value) and value >= 0


def _recipe(value: Any) -> bool:
    if not (isinstance(value, dict) and _hash(value.get("digest"))):
        return False
    texts = all(_text(value.get(key)) for key in ("name", "scale", "system"))
    return texts and all(_count(value.get(key)) for key in ("steps", "seed"))


def _data(value: Any) -> bool:
    named = isinstance(value, dict) and _text(value.get("name")) and _count(value.get("videos"))
    return named and _or_none(_text)(value.get("spec")) and _or_none(_count)(value.get("mix"))


def _or_none(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or right(value)


def _each(right: Callable[[Any], bool], kind: type = list) -> Callable[[Any], bool]:
    def all_right(value: Any) -> bool:
        inside = value.values() if isinstance(value, dict) else value
        return isinstance(value, kind) and all(map(right, inside))

    return all_right


_means = _each(_or_none(_number), dict)


def _curve(value: Any) -> bool:
    names = {"step", "loss", "lr", "gradient"}
    if not isinstance(value, dict) or set(value) != names:
        return False
    columns = list(value.values())
    short = all(_each(_number)(c) and len(c) == len(columns[0]) <= MOST_POINTS for c in columns)
    return short and all(a < b for a, b in zip(value["step"], value["step"][1:], strict=False))


def _validation(value: Any) -> bool:
    named = isinstance(value, dict) and {"step", "means"} <= set(value)
    return named and _count(value["step"]) and _means(value["means"])


def _best(value: Any) -> bool:
    named = isinstance(value, dict) and set(value) == {"step", "metric", "value"}
    return named and _count(value["step"]) and _text(value["metric"]) and _number(value["value"])


def _tf32(value: Any) -> bool:
    named = isinstance(value, dict) and set(value) == {"convolutions", "products"}
    return named and all(one is None or isinstance(one, bool) for one in value.values())


def _weights(value: Any) -> bool:
    named = isinstance(value, dict) and {"file", "sha256"} <= set(value)
    return named and _text(value["file"]) and _hash(value["sha256"])


def _moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


_HASH = "64 hexadecimal digits"
_MAYBE = "a number of at least 0, or null"

FIELDS: dict[str, Field] = {
    "schema": Field(lambda v: v == SCHEMA, f'"{SCHEMA}"', "which table this is"),
    "sal360": Field(_text, "a version", "of this package"),
    "code": Field(_hash, _HASH, "SHA-256 of the files that decide the numbers"),
    "command": Field(_or_none(_text), "a shell line, or null", "what made the run"),
    "recipe": Field(
        _recipe,
        "settings, with their digest",
        "all that decides a run but data and device",
    ),
    "data": Field(
        _data,
        "spec, name, split, size, fps, videos; flow, if it was computed; left_out, if videos were; "
        "mix, if clips of so many were drawn at a time",
        "what it was trained on, and how that is opened",
    ),
    "validation": Field(
        _or_none(_data),
        "the same, or null",
        "what it was scored on",
    ),
    "device": Field(
        lambda v: isinstance(v, dict) and _text(v.get("type")) and _count(v.get("processes")),
        "type, name, processes",
        "what it ran on",
    ),
    "versions": Field(_each(_text, dict), "name to version", "of Python, torch, numpy, CUDA"),
    "threads": Field(_count, "a whole number", "of torch on the CPU"),
    "seed": Field(_count, "a whole number", "of weights, order of clips and tosses"),
    "status": Field(lambda v: v in STATUS, ", ".join(STATUS), "how it ended"),
    "steps": Field(_count, "a whole number", "steps done"),
    "curve": Field(
        _curve,
        f"columns step, loss, lr, gradient, ascending, at most {MOST_POINTS}",
        "means of as many steps for each point",
    ),
    "validations": Field(_each(_validation), "a list of step, means", "means over videos"),
    "best": Field(_or_none(_best), "step, metric, value, or null", "which weights were kept"),
    "throughput": Field(
        lambda v: (
            isinstance(v, dict)
            and set(v) == {"clips_per_s", "frames_per_s", "waiting"}
            and all(_or_none(_some)(x) for x in v.values())
        ),
        "clips_per_s, frames_per_s, waiting (share of the time, for data); or null each",
        "of the training, validations left out",
    ),
    "memory": Field(
        lambda v: (
            isinstance(v, dict)
            and set(v) == {"host_peak_mb", "device_peak_mb"}
            and all(_or_none(_some)(x) for x in v.values())
        ),
        "host_peak_mb, device_peak_mb; or null each",
        "megabytes at most",
    ),
    "energy_j": Field(_or_none(_some), _MAYBE, "joules of the whole card, whoever used it"),
    "scores": Field(
        _each(_means, dict), "video to metric to number, or null", "of the weights that were kept"
    ),
    "started": Field(_moment, "ISO 8601 with an offset", "when"),
    "seconds": Field(_some, "a number of at least 0", "from start to end, validations and all"),
    "weights": Field(_each(_weights, dict), "name to file, sha256", "what it wrote"),
}
"""Every entry of a record, in order; all of them must be there."""
OPTIONAL: dict[str, Field] = {
    "commit": Field(
        _or_none(_text),
        "a text, or null",
        "of the checkout, with a + if its files differ; null of an installed package",
    ),
    "tf32": Field(
        _or_none(_tf32),
        "convolutions, products: true, false, or null; or null (a CPU)",
        "whether float32 products might be made in TF32 on a GPU",
    ),
    "exact": Field(
        lambda v: isinstance(v, bool),
        "true or false",
        "whether a GPU was asked for kernels that give the same bits each time; a CPU's do",
    ),
    "notes": Field(_each(_text), "a list of texts", "what a reader of the numbers should know"),
    "skipped": Field(_each(_text, dict), "clip to reason", "clips that could not be read"),
    "more": Field(lambda v: isinstance(v, dict), "a table", "what one experiment adds"),
}
"""Entries that may be there; early records have no ``commit``, ``tf32`` and ``exact``."""


def check_record(record: Any, where: str = "record") -> dict[str, Any]:
    """The record itself, if it is one.

    Args:
        record: anything. where: what the error begins with.
    Raises:
        ValueError: the first entry that is missing, unknown or wrong, a digest that is not that
            of the settings, entries that cannot be true at once
            (:mod:`sal360.training.agreement`); one line.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {type(record).__name__}, wanted a table")
    if record.get("schema") != SCHEMA:
        raise ValueError(f"{where}: schema: {record.get('schema')!r}, wanted {SCHEMA!r}")
    for name, field in FIELDS.items():
        if name not in record:
            raise ValueError(f"{where}: {name}: missing, wanted {field.wanted}")
    for name, value in record.items():
        known = FIELDS.get(name) or OPTIONAL.get(name)
        if known is None:
            raise ValueError(f"{where}: {name}: unknown, wanted one of {', '.join(FIELDS)}")
        if not known.right(value):
            raise ValueError(f"{where}: {name}: {_short(value)}, wanted {known.wanted}")
    settings = {key: value for key, value in record["recipe"].items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    if digest != record["recipe"]["digest"]:
        found = record["recipe"]["digest"]
        raise ValueError(f"{where}: recipe: digest {found[:12]}, wanted {digest[:12]} as it is set")
    wrong = next(disagreements(record, MOST_POINTS), None)
    if wrong is not None:
        raise ValueError(f"{where}: {wrong}")
    return record


def save_record(record: Mapping[str, Any], path: str | Path) -> Path:
    """Write a record, whole or not at all; NaN becomes null.

    Returns:
        the path.
    Raises:
        ValueError: what :func:`check_record` refuses. OSError: it cannot be written, and what was
            there before is still there.
    """
    path = Path(path)
    checked = check_record(plain(dict(record)), str(path))
    text = json.dumps(checked, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _rows(text).encode())
    return path


def load_record(path: str | Path) -> dict[str, Any]:
    """A record, checked.

    Raises:
        FileNotFoundError. ValueError: not JSON, or what :func:`check_record` refuses.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return check_record(record, str(path))


def schema_table() -> str:
    """The schema in Markdown, as ``data/README.md`` holds it."""
    rows = ["| entry | what it is | what it tells |", "|---|---|---|"]
    for name, field in FIELDS.items():
        rows.append(f"| `{name}` | {field.wanted} | {field.words} |")
    for name, field in OPTIONAL.items():
        rows.append(f"| `{name}` (if any) | {field.wanted} | {field.words} |")
    return "\n".join(rows) + "\n"


def plain(value: Any) -> Any:
    """As JSON has it: NaN and infinities are null, tuples are lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def _rows(text: str) -> str:
    """Lists of numbers on one line each: a curve is four rows, not sixteen hundred."""
    number = r"(?:-?\d[\d.e+-]*|null)"
    return re.sub(
        rf"\[\n\s*({number}(?:,\n\s*{number})*)\n\s*\]",
        lambda match: "[" + re.sub(r",\n\s*", ", ", match[1]) + "]",
        text,
    )


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:57]}..."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.training.records",
        description="Check records of runs, and print the line that runs each again.",
    )
    parser.add_argument("paths", nargs="*", metavar="RECORD.json")
    parser.add_argument("--schema", action="store_true", help="print the schema as a table")
    parser.add_argument(
        "--again",
        action="store_true",
        help="train one again, here, and compare; exit status 0: the same, 1: it differs, "
        "2: it cannot be made again here",
    )
    parser.add_argument("--out", metavar="FOLDER", help="keep the run that --again makes there")
    chosen = parser.parse_args(arguments)
    if chosen.again and len(chosen.paths) != 1:
        parser.error(f"--again: {len(chosen.paths)} records, wanted one")
    if chosen.out and not chosen.again:
        parser.error("--out: wanted with --again, which makes the run that is kept there")
    if not chosen.paths and not chosen.schema:
        parser.error("wanted a RECORD.json, or --schema")
    if chosen.schema:
        print(schema_table(), end="")
    for path in chosen.paths:
        try:
            record = load_record(path)
            print(f"# {path}: {record['status']}, {record['steps']} steps")
            print(command_of(record))
            if chosen.again:
                return _again(record, chosen.out)
        except (ValueError, TypeError, OSError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 2
    return 0


def _again(record: Mapping[str, Any], out: str | None) -> int:
    """Make it once more, and say whether it is the same."""
    from sal360 import _runtime
    from sal360.training.again import once_more

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    _runtime.tune_allocator()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: note(f"warning: {message}")
        verdict = once_more(record, out, note)
    print(verdict)
    return 0 if verdict.startswith("same") else 1


if __name__ == "__main__":
    sys.exit(main())
