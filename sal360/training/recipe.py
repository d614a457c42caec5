"""Every number that decides a training run, read from one file per system and checked.

A recipe file says twice how a system is trained: ``[published]``, each number with the source it
was read from, and ``[ours]``, what this project runs; ``[scale.fast]``, ``[scale.cpu]`` and
``[scale.gpu]`` change what a machine of that size has to. What was published is there to be read
beside ours; only ours is run. Derived in chapter 16.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

SCALES = ("fast", "cpu", "gpu")
"""A test's minute, a laptop's evening, one graphics card's night."""

INPUTS = {
    "spherical-unet": "previous",
    "lookup-unet": "previous",
    "cube-unet": "motion",
    "cp360": "clip",
    "sst-sal": "clip",
    "sst-sal-noflow": "clip",
}
"""Systems, and what they have beside the picture: the last map, motion, or a memory of clips."""


MONITORS = ("cc", "kld", "nss", "sim")
"""Metrics by which the best weights of a run may be chosen; of ``"kld"`` the smallest is best."""


class Published(NamedTuple):
    """A published number (or word) and where it was read."""

    value: Any
    source: str


@dataclass(frozen=True)
class Recipe:
    """A training run of one system at one scale; everything but the data and the device.

    Attributes:
        name: of the file. scale: ``"fast"``, ``"cpu"`` or ``"gpu"``. system: which network.
        model: settings of its constructor.
        loss: ``"sphere_mse"``, ``"sphere_kld"`` or ``"cc"``, of maps against the truth, or
            ``"weak"``, of maps against each other (:mod:`sal360.models.cp360_weak`).
        anchor: weight of what holds the maps of ``"weak"`` to their frames; 0 for other losses.
        target: the truth as ``"relative"`` density (mean 1 over the sphere) or over its own
            ``"peak"``; target_scale: what it is multiplied by.
        optimizer: ``"sgd"`` or ``"adam"``; lr, momentum (SGD's), weight_decay: its settings.
        schedule: ``"constant"``, or ``"cosine"``: up over the first steps (warmup: their share of
            all), then down to 0 along a cosine.
        gradient_clip: largest norm of a step's gradient; 0: none.
        batch, clip_length: clips of a step, frames of a clip. tbptt: frames through which a
            gradient goes back before the memory is detached; 1 for frame models, whose only
            memory is a map.
        size: ``(H, W)`` of frames and maps. steps: of the optimiser.
        teacher_forcing: ``(first, last)`` share of steps in which a frame model is given the truth
            of the frame before in place of its own map; it changes evenly from the first step to
            the last.
        seed: of the weights, of the order of clips, of their turns and of the tosses between
            truth and own map.
        published: setting to its published value and source.

        precision: ``"fp32"``, or what the network's products are made in: ``"bf16"``, or
            ``"fp16"`` with a scaled loss. Weights, losses and the optimiser stay in float32; on a
            CPU, convolutions on the sphere too. On a GPU ``"fp32"`` lets plain convolutions use
            TF32, as torch does (:mod:`sal360.training.precision`).
        accumulate: batches whose gradients make one step, which so sees ``batch * accumulate``
            clips (batch normalisation sees those of one batch). ema: decay of the running mean of
            the weights, which is then what is validated and kept; 0: none. compile: let
            ``torch.compile`` write the network's kernels.
        augment: ``yaw``, ``mirror``, ``tilt_deg``, ``colour`` of
            :class:`~sal360.datasets.augment.Augment`; empty: clips as they are.
        validate_every: steps from one validation to the next; 0: none. monitor: the metric by
            which a validation is better than another. patience: validations without a better one
            after which the run stops; 0: it runs to its end.
    """

    name: str
    scale: str
    system: str
    model: Mapping[str, Any]
    loss: str
    anchor: float
    target: str
    target_scale: float
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    gradient_clip: float
    batch: int
    clip_length: int
    tbptt: int
    size: tuple[int, int]
    steps: int
    teacher_forcing: tuple[float, float]
    seed: int
    published: Mapping[str, Published]
    # What a recipe file need not say.
    warmup: float = 0.05
    precision: str = "fp32"
    accumulate: int = 1
    ema: float = 0.0
    compile: bool = False
    augment: Mapping[str, Any] = field(default_factory=dict)
    validate_every: int = 0
    patience: int = 0
    monitor: str = "cc"

    def settings(self) -> dict[str, Any]:
        """What is run, as JSON has it: all but what was published."""
        out = asdict(self)
        del out["published"]
        return json.loads(json.dumps(out))

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`settings`: two runs of one digest were asked for the same."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the package, systems in the order of :data:`INPUTS` first."""
    found = [p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml")]
    order = list(INPUTS)
    return tuple(sorted(found, key=lambda n: (n not in order, order.index(n) if n in order else n)))


def load_recipe(
    name: str, scale: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe at a scale.

    Args:
        name: one of :func:`recipe_names`, such as ``"sst-sal"``.
        scale: one of :data:`SCALES`; None: ``$SAL360_SCALE``, or gpu where there is one, or cpu.
        overrides: settings by name, over those of the file; ``model`` and ``augment`` are merged,
            not replaced, but for an empty ``augment``, which is none.
    Raises:
        ValueError: an unknown recipe, scale or setting, or a value it cannot have; one line that
            names the recipe, the table and the setting. TypeError: a value of another type.
    """
    if name not in recipe_names():
        raise ValueError(f"name: {name!r}, wanted one of {', '.join(recipe_names())}")
    return parse_recipe(_text(name), name, scale, overrides)


def parse_recipe(
    text: str,
    name: str = "recipe",
    scale: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """The same from a file's text; ``name`` stands in errors and in records."""
    scale = default_scale() if scale is None else scale
    if scale not in SCALES:
        raise ValueError(f"scale: {scale!r}, wanted one of {', '.join(SCALES)}")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: not TOML ({error})") from None
    _known(document, ("system", "sources", "published", "ours", "scale"), f"{name}:")
    if not isinstance(document.get("system"), str) or document["system"] not in INPUTS:
        raise ValueError(
            f"{name}: system: {document.get('system')!r}, wanted one of {', '.join(INPUTS)}"
        )
    scales = _table(document, "scale", name)
    _known(scales, SCALES, f"{name}: [scale]")
    settings: dict[str, Any] = {"model": {}}
    for where, table in (
        ("[ours]", _table(document, "ours", name)),
        *((f"[scale.{s}]", _table(scales, s, name)) for s in SCALES),
        ("overrides", dict(overrides or {})),
    ):
        checked = _checked(table, f"{name}: {where}")  # a scale that is not asked for too
        if where in ("[ours]", f"[scale.{scale}]", "overrides"):
            model = settings["model"] | checked.pop("model", {})
            turns = checked.get("augment")
            if turns:  # an empty table is none at all
                checked["augment"] = settings.get("augment", {}) | turns
            settings |= checked | {"model": model}
    if settings.get("augment"):
        settings["augment"] = _whole_turns(settings["augment"])
    missing = [key for key in _NEEDED if key not in settings]
    if missing:
        raise ValueError(
            f"{name}: [ours] {missing[0]}: missing; a whole recipe to begin with: "
            f"sal360 train {document['system']} --print-recipe"
        )
    recipe = Recipe(
        name=name,
        scale=scale,
        system=document["system"],
        published=_published(document, name),
        **settings,
    )
    _check_together(recipe)
    return recipe


def default_scale() -> str:
    """``$SAL360_SCALE``, or gpu where there is a CUDA device, or cpu."""
    wanted = os.environ.get("SAL360_SCALE")
    if wanted:
        return wanted
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


# --- what a setting may be ---

Rule = tuple[type | tuple[type, ...], Callable[[Any], bool], str]


MOST = 1e37
"""Of any setting: a step of Adam takes ten times its rate, and float32 ends at 3.4e38."""


def _number(low: float, closed: bool = False) -> Rule:
    def right(value: Any) -> bool:
        return (value >= low if closed else value > low) and value <= MOST

    wanted = f"a number {'of at least' if closed else 'above'} {low:g}, at most {MOST:g}"
    return (int, float), right, wanted


def _whole(low: int) -> Rule:
    right = f"a whole number of at least {low}, below 2^62"
    return int, lambda value: low <= value < 2**62, right


def _word(*words: str) -> Rule:
    return str, lambda value: value in words, " or ".join(map(repr, words))


def _pair(wanted: str, kind: tuple[type, ...], low: float, high: float) -> Rule:
    def right(value: Any) -> bool:
        plain = all(isinstance(v, kind) and not isinstance(v, bool) for v in value)
        return len(value) == 2 and plain and all(low <= v <= high for v in value)

    return (list, tuple), right, wanted


_SHARE: Rule = ((int, float), lambda value: 0 <= value < 1, "a number from 0 to below 1")
_RULES: dict[str, Rule] = {
    "model": (dict, lambda value: True, "a table of the constructor's settings"),
    "loss": _word("sphere_mse", "sphere_kld", "cc", "weak"),
    "anchor": _number(0, closed=True),
    "target": _word("relative", "peak"),
    "target_scale": _number(0),
    "optimizer": _word("sgd", "adam"),
    "lr": _number(0),
    "momentum": _SHARE,
    "weight_decay": _number(0, closed=True),
    "schedule": _word("constant", "cosine"),
    "gradient_clip": _number(0, closed=True),
    "batch": _whole(1),
    "clip_length": _whole(1),
    "tbptt": _whole(1),
    "size": _pair("[H, W], whole numbers of at least 1", (int,), 1, math.inf),
    "steps": _whole(1),
    "teacher_forcing": _pair("[first, last], shares from 0 to 1", (int, float), 0, 1),
    "seed": _whole(0),
    "warmup": _SHARE,
    "precision": _word("fp32", "bf16", "fp16"),
    "accumulate": _whole(1),
    "ema": _SHARE,
    "compile": (bool, lambda value: True, "true or false"),
    "augment": (dict, lambda value: True, "a table of Augment's settings"),
    "validate_every": _whole(0),
    "patience": _whole(0),
    "monitor": _word(*MONITORS),
}
_TURNS: dict[str, Rule] = {
    "yaw": _RULES["compile"],
    "mirror": _RULES["compile"],
    "tilt_deg": ((int, float), lambda v: 0 <= v <= 180, "degrees from 0 to 180"),
    "colour": _SHARE,
}
_NOT_SET = {"name", "scale", "system", "published"}
assert set(_RULES) == {f.name for f in fields(Recipe)} - _NOT_SET
_NEEDED = [
    f.name
    for f in fields(Recipe)
    if f.name in _RULES and f.default is MISSING and f.default_factory is MISSING
]


def _checked(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of a table in their own types, or the first that is wrong."""
    _known(table, tuple(_RULES), where)
    out: dict[str, Any] = {}
    for key, value in table.items():
        value = _value(value, _RULES[key], f"{where} {key}")
        if isinstance(value, (list, tuple)):
            value = tuple(float(v) for v in value) if key == "teacher_forcing" else tuple(value)
        if key == "augment":
            value = _turns(value, f"{where} augment")
        out[key] = value
    return out


def _value(value: Any, rule: Rule, where: str) -> Any:
    """The value in its own type, if it may be one."""
    kind, right, wanted = rule
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise TypeError(f"{where}: {value!r}, wanted {wanted}")
    if not right(value):
        raise ValueError(f"{where}: {value!r}, wanted {wanted}")
    number: Any = value  # the check above makes it an object to the type checker
    return float(number) if kind == (int, float) else number


def _turns(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a table says of an :class:`Augment`."""
    _known(table, tuple(_TURNS), where)
    return {key: _value(value, _TURNS[key], f"{where}.{key}") for key, value in table.items()}


def _whole_turns(given: Mapping[str, Any]) -> dict[str, Any]:
    """The whole table, what it does not say included."""
    from sal360.datasets.augment import Augment

    return {key: given.get(key, getattr(Augment, key)) for key in _TURNS}


def _check_together(recipe: Recipe) -> None:
    """Settings that are right alone and not beside each other."""

    def refuse(key: str, wanted: str) -> None:
        raise ValueError(f"{recipe.name}: {key}: {getattr(recipe, key)!r}, wanted {wanted}")

    kind = INPUTS[recipe.system]
    if recipe.tbptt > recipe.clip_length:
        refuse("tbptt", f"at most clip_length, {recipe.clip_length}")
    if kind != "clip" and recipe.tbptt != 1:
        refuse("tbptt", f"1: {recipe.system} answers one frame at a time")
    if kind != "previous" and recipe.teacher_forcing != (0.0, 0.0):
        refuse("teacher_forcing", f"[0, 0]: {recipe.system} is given no map of the frame before")
    if recipe.loss == "weak":
        if recipe.system != "cp360":
            refuse("loss", f"one of maps against the truth: {recipe.system} has no weak training")
        if not 2 <= recipe.clip_length == recipe.tbptt:
            wanted = max(2, recipe.clip_length)
            refuse("tbptt", f"clip_length, {wanted}: a loss between frames needs them all")
        if recipe.precision != "fp32":
            refuse("precision", "'fp32': the loss weak sums squares of small differences")
    elif recipe.anchor:
        refuse("anchor", f"0: the loss {recipe.loss} has none")
    if recipe.optimizer == "adam" and recipe.momentum:
        refuse("momentum", "0: it belongs to SGD, and Adam has its own")
    if recipe.patience and not recipe.validate_every:
        refuse("patience", "0: without validations (validate_every) it has nothing to wait for")


def _published(document: Mapping[str, Any], name: str) -> dict[str, Published]:
    """Checked: each entry is a value with a source that the file knows."""
    sources = _table(document, "sources", name)
    out = {}
    for key, entry in _table(document, "published", name).items():
        where = f"{name}: [published] {key}"
        if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
            raise ValueError(f"{where}: {entry!r}, wanted {{ value = ..., source = ... }}")
        if not isinstance(entry["source"], str) or entry["source"] not in sources:
            raise ValueError(
                f"{where}: source {entry['source']!r}, wanted one of {', '.join(sources)}"
            )
        out[key] = Published(entry["value"], sources[entry["source"]])
    return out


def _table(document: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise TypeError(f"{name}: {key}: {table!r}, wanted a table")
    return table


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise ValueError(f"{where} {key}: unknown, wanted one of {', '.join(keys)}")


def _folder() -> Any:
    return files("sal360.training") / "recipes"


@lru_cache
def _text(name: str) -> str:
    return (_folder() / f"{name}.toml").read_text("utf-8")
