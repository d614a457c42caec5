"""Run every chapter and write how long it took under its title, and into data/chapter_times.json.

A column for Colab's T4 is filled in from a record of that machine; until one exists it says so.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from benchmarks.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "data" / "chapter_times.json"
NEEDS = {
    "00": "no other chapter",
    "01": "chapter 0",
    "02": "chapter 1",
    "03": "chapters 1 and 2",
    "04": "chapters 1 to 3",
    "05": "chapters 1 to 4",
    "06": "chapters 1 to 5",
    "07": "chapters 1 to 6",
    "08": "chapters 4 to 7",
    "09": "chapters 5 to 8",
    "10": "chapters 1 to 4",
    "11": "chapters 2 and 10",
    "12": "chapters 2, 9 and 10",
    "13": "chapters 5, 7, 8, 11 and 12",
    "14": "chapters 3, 7 and 10",
    "15": "chapters 11, 12 and 14",
    "16": "chapters 11 to 15",
    "17": "chapters 10, 12 and 16",
}


def line(number: str, times: dict) -> str:
    """``CPU 12 s | T4 not run yet | needs chapter 0``."""

    def column(device: str) -> str:
        seconds = times.get(device, {}).get("chapters", {}).get(number)
        if seconds is None:
            return f"{device} not run yet"
        cores = f" ({times[device]['machine']['cores']} cores)" if device == "CPU" else ""
        return f"{device}{cores} {seconds:.0f} s"

    return f"{column('CPU')} | {column('T4')} | needs {NEEDS[number]}"


def stamped(source: str, number: str, times: dict) -> str:
    """The text of a title cell with its line of times replaced."""
    return re.sub(r"(?m)^<!-- time -->.*$", "<!-- time -->" + line(number, times), source)


def main() -> None:
    """Execute, record, stamp."""
    times = json.loads(RECORD.read_text("utf-8")) if RECORD.is_file() else {}
    os.environ["SAL360_BOOK"] = "1"
    here = machine()
    device = "T4" if "T4" in here["device"] else "CPU"
    measured = {}
    for path in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": "book"}})
        start = time.perf_counter()
        client.execute()
        measured[path.name[:2]] = round(time.perf_counter() - start, 1)
    times[device] = {"machine": here, "chapters": measured}
    RECORD.write_text(json.dumps(times, indent=1) + "\n", "utf-8")
    for path in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))
        title = "".join(cells["cells"][0]["source"])
        lines = stamped(title, path.name[:2], times).splitlines(keepends=True)
        cells["cells"][0]["source"] = lines
        path.write_text(json.dumps(cells, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(times[device]["chapters"]))


if __name__ == "__main__":
    main()
