"""A recipe as the text of a file, to be changed by hand: :func:`.parse_recipe` the other way round.

Python reads TOML and does not write it; of the little that settings are made of, it is a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sal360.training.recipe import Recipe


def recipe_text(recipe: Recipe) -> str:
    """TOML with every setting that is run; what was published stays with the package's recipe.

    Read at any scale it is the same recipe, but for its name, which is that of the file.

    >>> from sal360.training.recipe import load_recipe, parse_recipe
    >>> recipe = load_recipe("sst-sal", "fast", {"lr": 0.5})
    >>> parse_recipe(recipe_text(recipe), "sst-sal", "fast").digest == recipe.digest
    True
    """
    settings = recipe.settings()
    name, scale, system = (settings.pop(key) for key in ("name", "scale", "system"))
    lines = [
        f"# {name} at scale {scale}; sal360 train --recipe-file reads it. What is left out after",
        "# teacher_forcing and seed has a default; [scale.fast], [scale.cpu] or [scale.gpu] may",
        "# change any of it where that scale is asked for.",
        f"system = {_value(system)}",
        "",
        "[ours]",
        *(f"{key} = {_value(value)}" for key, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """As TOML has it: strings as in JSON, numbers as Python writes them."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)
