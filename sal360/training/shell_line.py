"""The shell line that makes a recorded run again, from the entries of its record.

A line may only leave out what its reader, ``sal360 train``, fills in with the very same: a default
that depends on something else (validations, which the reader would place by itself) is said. What
no line can say has none, and the reason is told. Chapter 16.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping
from inspect import signature
from typing import Any

from sal360.training.recipe import INPUTS, SCALES, load_recipe, recipe_names

COMMAND = "sal360 train "
_NOTHING = object()
_ENVIRONMENT: dict[tuple[Any, Any], str] = {
    (True, False): "",
    (False, False): "NVIDIA_TF32_OVERRIDE=0",
    (True, True): "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1",
}
"""Whether convolutions and products may use TF32, and what has to be set for that; the first is
how torch begins."""


def command_of(record: Mapping[str, Any]) -> str:
    """The shell line that does a run again: to the same bytes, with the same code, versions,
    device and threads.

    Settings that are not those of the package's recipe are named in it, so a recipe file is not
    needed; of a recipe that is not the package's, or of another system than the package's of that
    name, the system's own takes the place.

    Raises:
        ValueError: what no line can say (:func:`untold`) or a network that none makes, given by a
            program that is not named.
    """
    if not made_by_train(record):
        if not record["command"]:
            raise ValueError(f"{untold(record) or 'model: given'}, and no command told")
        return str(record["command"])
    recipe, data, validation = record["recipe"], record["data"], record["validation"]
    words = _recipe(recipe)
    words += ["--data", data["spec"]]
    words += ["--validation", "none" if validation is None else validation["spec"]]
    if data.get("mix") is not None:
        words += ["--mix", str(data["mix"])]
    if record.get("skipped"):
        words += ["--on-error", "skip"]
    if record.get("exact") is False:
        words += ["--no-exact"]
    words += ["--device", record["device"]["type"]]
    line = f"{COMMAND}{shlex.join(words)}"
    many = record["device"]["processes"]
    if many > 1:
        line = f"torchrun --nproc-per-node {many} -m {line}"
    return f"{_environment(record)} {line}".lstrip()


def made_by_train(record: Mapping[str, Any]) -> bool:
    """Whether ``sal360 train`` makes the run again: it made it, and a line can say how."""
    return untold(record) is None and COMMAND in (record["command"] or "")


def untold(record: Mapping[str, Any]) -> str | None:
    """The first thing about a run that no line can say: a data set that no spec opens, such as an
    object of a program; a setting that TOML has no word for; None if there is nothing."""
    for one in (record["data"], record["validation"]):
        if one and one.get("spec") is None:
            return f"data: {one['name']} was not opened by a spec"
    model = record["recipe"].get("model")
    for key, value in model.items() if isinstance(model, dict) else ():
        if value is None:
            return f"recipe: model.{key}: None, which no line can say"
    if _environment(record) is None:
        return f"tf32: {record['tf32']}, which no line can say"
    return None


def _recipe(recipe: Mapping[str, Any]) -> list[str]:
    """Name, scale, and the settings that the reader would not find by itself."""
    if recipe["scale"] not in SCALES or recipe["system"] not in INPUTS:
        raise ValueError(f"recipe: {recipe['name']!r}, wanted one of a system of this package")
    name = recipe["name"] if recipe["name"] in recipe_names() else recipe["system"]
    usual = load_recipe(name, recipe["scale"]).settings()
    if usual["system"] != recipe["system"]:
        name, usual = recipe["system"], load_recipe(recipe["system"], recipe["scale"]).settings()
    words = [name, "--scale", recipe["scale"]]
    words += ["--steps", str(recipe["steps"]), "--seed", str(recipe["seed"])]
    every = recipe.get("validate_every", 0)
    words += ["--validate-every", str(every)]  # always: the reader would choose an eighth
    for key, value in recipe.items():
        if key in ("name", "scale", "system", "digest", "steps", "seed", "validate_every"):
            continue
        if usual.get(key, _NOTHING) == value:
            continue
        table = usual.get(key, {})
        if not (isinstance(value, dict) and isinstance(table, dict)):
            words += ["--set", f"{key}={_word(value)}"]
            continue
        said = value if key != "model" else {**_unsaid(recipe["system"], table, value), **value}
        for inner, one in said.items():
            if table.get(inner, _NOTHING) != one:
                words += ["--set", f"{key}.{inner}={_word(one)}"]
    return words


def _unsaid(system: str, usual: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """What a network has by itself where the package's recipe says something else and a model's
    settings say nothing."""
    from sal360.models import MODELS

    card = MODELS[system]
    size = model.get("size", card.default_size)
    own = {one.name: one.default for one in signature(card.kind).parameters.values()}
    own |= {"size": size, **card.sizes.get(str(size), {}), **card.fixed}
    return {key: own[key] for key in usual if key not in model and key in own}


def _environment(record: Mapping[str, Any]) -> str | None:
    """What has to be set before the line: on a CPU the number of threads decides how sums are
    rounded, on a GPU the use of TF32 how products are. None: nothing that is set makes it so."""
    if record["device"]["type"] == "cpu":
        return f"OMP_NUM_THREADS={record['threads']}"
    allowed = record.get("tf32") or {}
    pair = allowed.get("convolutions"), allowed.get("products")
    return "" if None in pair else _ENVIRONMENT.get(pair)


def _word(value: Any) -> str:
    """As ``--set`` reads it: TOML, or a word that is none."""
    if isinstance(value, str):
        try:
            tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            return value
    return json.dumps(value)
