"""The benchmarks page of the book, written from the records in data/ and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "benchmarks.md"
RECORDS = ROOT / "data" / "benchmarks"

INTRO = """# Benchmarks

`make bench` measures everything on this page and writes it, with its records in `data/benchmarks`.
Candidates run in turn in one process; a time is the median of the rounds, a ratio the median of
the ratios within each round. Ratios travel between machines, times do not.
"""


def text() -> str:
    """The whole page as markdown."""
    parts = [INTRO]
    for name, write in SECTIONS.items():
        path = RECORDS / f"{name}.json"
        if path.is_file():
            record = json.loads(path.read_text("utf-8"))
            parts.append(write(record["results"]) + "\n" + _measured_on(record))
        else:
            parts.append(f"## {name}\n\nNot run yet.\n")
    parts.append(_chapters(json.loads((ROOT / "data/chapter_times.json").read_text("utf-8"))))
    return "\n".join(parts)


def write() -> Path:
    """Write ``book/benchmarks.md``."""
    PAGE.write_text(text(), "utf-8")
    return PAGE


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _measured_on(record: dict[str, Any]) -> str:
    m = record["machine"]
    processor = m["processor"] if m["device"] == "cpu" else m["device"]
    return (
        f"Measured {record['date'][:10]} on {processor}, {m['cores']} cores, Python {m['python']}, "
        f"torch {m['torch'].split('+')[0]}"
        + (", memory kept between operations.\n" if m["tuned_allocator"] else ".\n")
    )


def _times(times: dict[str, Any], base: str) -> str:
    rows = [[name, f"{1000 * t['median_s']:.1f}", f"{t['ratio']:.2f}"] for name, t in times.items()]
    return _table(["", "ms", f"ratio to {base}"], rows)


def _projections(results: dict[str, Any]) -> str:
    accuracy, speed = results["accuracy"], results["speed"]
    errors = accuracy["largest error"]
    versions = ", ".join(f"{name} {v}" for name, v in results["libraries"].items())
    columns = ["ERP to cube", "cube to ERP, inside the faces", "cube to ERP, edges and corners"]
    compared = [[name, *(f"{row[c]:.1e}" for c in columns)] for name, row in errors.items()]
    shared = (*columns, "its lattices", "its lattices, back")
    ours = [[k, f"{v:.1e}"] for k, v in errors["sal360"].items() if k not in shared]
    parts = [
        "## Projections: how exact",
        "",
        f"Largest error of a bilinear read against an analytic function on the sphere (values "
        f"between -1.6 and 1.9), panorama {accuracy['panorama']}, cube faces "
        f"{accuracy['faces']}, float32. Conventions do not count: each library is matched to its "
        "best order and orientation of faces and its best choice of where pixels lie. OpenCV "
        "reads from pictures that sal360 has padded with their true neighbours. "
        f"Libraries: {versions}.",
        "",
        _table(["", *columns], compared),
        "What the other libraries do not offer, or not across seam and poles:",
        "",
        _table(["sal360", "largest error"], ours),
        "## Projections: how fast",
        "",
        f"{speed['image']}, {speed['threads']} thread. OpenCV is given maps (and padded faces) "
        "that were made before; sal360 keeps what depends on sizes alone. Where pyequilib "
        "offers two halves, its torch half is timed, the faster one.",
        "",
    ]
    for name, times in speed["times"].items():
        parts += [f"**{name[0].upper()}{name[1:]}**", "", _times(times, "OpenCV")]
    return "\n".join(parts)


def _sphere_conv(results: dict[str, Any]) -> str:
    return "\n".join(
        [
            "## SST-Sal's published convolution",
            "",
            f"{results['shape']}, forward. The sampling pattern itself is built in "
            f"{1000 * results['pattern_build_s']:.1f} ms.",
            "",
            _times(results["forward"], "planar"),
        ]
    )


def _prediction(results: dict[str, Any]) -> str:
    rows = [[name, f"{row['frames_per_s']:.1f}"] for name, row in results["models"].items()]
    return "\n".join(
        [
            "## Prediction",
            "",
            f"{results['frames']} frames of {results['size']}, from RGB to densities.",
            "",
            _table(["model", "frames per second"], rows),
        ]
    )


def _allocator(results: dict[str, Any]) -> str:
    return "\n".join(
        [
            "## Memory kept between operations",
            "",
            f"SST-Sal on {results['frames']} frames of {results['size']}, the network alone, with "
            "and without the settings of the Makefile.",
            "",
            _times(results["times"], "the first"),
        ]
    )


def _chapters(times: dict[str, Any]) -> str:
    devices = list(times)
    numbers = sorted({n for d in devices for n in times[d]["chapters"]})
    rows = [
        [str(int(n)), *(f"{times[d]['chapters'].get(n, float('nan')):.0f} s" for d in devices)]
        for n in numbers
    ]
    head = ["chapter", *(f"{d} ({times[d]['machine']['cores']} cores)" for d in devices)]
    note = "" if "T4" in times else "\nColab's T4: not run yet.\n"
    return "## Execution times of the chapters\n\n" + _table(head, rows) + note


SECTIONS = {
    "projections": _projections,
    "sphere_conv": _sphere_conv,
    "prediction": _prediction,
    "allocator": _allocator,
}
