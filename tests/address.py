"""The public address is one setting, in pyproject.toml; this finds and rewrites its copies.

``python -m tests.address --write`` (``make address``) puts it everywhere.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "README.md", "CITATION.cff", "_config.yml", "CONTRIBUTING.md", "environment.yml",
    "sal360/datasets/registry.tsv",
)  # fmt: skip
# owner/name in: the repository itself, an install line, a Colab link
PLACES = re.compile(
    r"(?P<before>https://github\.com/|https://colab\.research\.google\.com/github/)"
    r"(?P<slug>[\w.-]+/sal360)(?P<after>(?:/blob/main/[\w./-]*)?)(?=[\"'\s)>\]]|\.git|$|/)"
)


def address() -> str:
    """``https://github.com/OWNER/NAME`` as pyproject.toml has it."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"]


def pages() -> list[Path]:
    """Every file that names the address."""
    found = [ROOT / name for name in FILES if (ROOT / name).is_file()]
    return found + sorted((ROOT / "book").rglob("*.ipynb")) + sorted((ROOT / "book").rglob("*.md"))


def wrong() -> list[str]:
    """``file: address`` for each that is not the one setting."""
    slug = address().removeprefix("https://github.com/")
    return [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in pages()
        for match in PLACES.finditer(path.read_text("utf-8"))
        if match["slug"] != slug
    ]


def write() -> None:
    """Put the setting into every file."""
    slug = address().removeprefix("https://github.com/")
    for path in pages():
        text = path.read_text("utf-8")
        path.write_text(PLACES.sub(rf"\g<before>{slug}\g<after>", text), "utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    print("\n".join(wrong()) or f"every address is {address()}")
