"""Tables and short numbers for the benchmarks page."""

from __future__ import annotations


def table(head: list[str], rows: list[list[str]]) -> str:
    """A markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def bold(title: str) -> str:
    """A small heading, its first letter a capital."""
    return f"**{title[0].upper()}{title[1:]}**"


def small(value: float) -> str:
    """Two digits, however small."""
    return "0" if value == 0 else f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}"
