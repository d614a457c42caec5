"""What ``sal360 train`` does with its words: a recipe, data, a run, and what is left to look at."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sal360._files import write_whole
from sal360._runtime import no_memory
from sal360.datasets.download import cache_folder
from sal360.datasets.item import VideoDataset
from sal360.training import report as reports
from sal360.training import summary
from sal360.training.data import USUAL, Remembered, is_packed, open_data
from sal360.training.distributed import ProcessLost, World, setup
from sal360.training.fit import build_model
from sal360.training.folder import RunFolder
from sal360.training.known_truth import with_truth
from sal360.training.recipe import Recipe, default_scale, load_recipe, parse_recipe, recipe_names
from sal360.training.recipe_text import recipe_text
from sal360.training.records import save_record
from sal360.training.run import train
from sal360.training.sought_flow import with_flow

VALIDATIONS = 8
"""In a run whose recipe and command line do not say when."""
Say = Callable[[str], None]


def read_recipe(
    name: str | None, file: Path | None, scale: str | None, overrides: Mapping[str, Any]
) -> Recipe:
    """The package's recipe of a name, or one of a file, which is then called like the file.

    Raises:
        ValueError, TypeError, OSError: neither or both; what :func:`load_recipe` refuses.
    """
    if (name is None) == (file is None):
        known = ", ".join(recipe_names())
        raise ValueError(f"recipe: {name!r} and file {file}, wanted one of them ({known})")
    if file is None:
        assert name is not None
        return load_recipe(name, scale, overrides)
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not text, wanted TOML") from None
    return parse_recipe(text, file.stem, scale, overrides)


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """``["lr=0.01", "model.hidden=12", "loss=cc"]`` to settings, as a recipe's overrides.

    Values are TOML; what is not is a word.

    Raises:
        ValueError: no ``=``, the same twice, a table that is also a value.

    >>> parse_settings(["lr=1e-3", "loss=cc", "size=[32, 64]", "model.hidden=12"])
    {'lr': 0.001, 'loss': 'cc', 'size': [32, 64], 'model': {'hidden': 12}}
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        table, _, inner = key.strip().rpartition(".")
        if not equals or not inner or "." in table or key.strip().startswith("."):
            raise ValueError(f"--set {word}: wanted NAME=VALUE, such as lr=0.01 or model.hidden=12")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        where = found.setdefault(table, {}) if table else found
        if not isinstance(where, dict) or inner in where:
            raise ValueError(f"--set {word}: {key.strip()} is set twice, wanted it once")
        where[inner] = value
    return found


def run_training(
    name: str | None,
    out: Path | None = None,
    *,
    recipe_file: Path | None = None,
    data: str | None = None,
    validation: str | None = None,
    scale: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    validate_every: int | None = None,
    settings: Sequence[str] = (),
    checkpoint_every: int = 100,
    workers: int | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    resume: bool = False,
    force: bool = False,
    on_error: Any = "raise",
    mix: int | None = None,
    exact: bool = True,
    print_recipe: bool = False,
    say: Say = print,
    show: Say = print,
) -> int:
    """Train, and leave weights, record, curves and table in a folder.

    Args:
        name, recipe_file: one of them. out: the folder; None: ``runs/NAME-SCALE-sSEED``.
        data, validation: specs of :mod:`sal360.training.data`; None: :data:`USUAL`; ``"none"``
            for no validation.
        settings: as :func:`parse_settings`; steps, seed, validate_every over them.
        workers: None: none for data that is small enough to stay in memory, else one for each
            core but one.
        print_recipe: show the recipe as the text of a file, and train nothing.
        say: is told what happens. show: is given the table, or that text.
        the others: of :func:`sal360.training.run.train`.
    Returns:
        an exit status: 0, or 1 for a run that cannot go on (the line says why), 130 after
        Ctrl-C, 143 after SIGTERM.
    Raises:
        ValueError, TypeError, OSError: what cannot be used, a full disk among it; one line.
    """
    if print_recipe:  # without the usual validate_every: a file's reader adds it again
        asked = _recipe(name, recipe_file, scale, parse_settings(settings), steps, seed,
                        validate_every, False)  # fmt: skip
        show(recipe_text(asked).rstrip("\n"))
        return 0
    recipe = _recipe(name, recipe_file, scale, parse_settings(settings), steps, seed,
                     validate_every, validation != "none")  # fmt: skip
    network = build_model(recipe)  # before anything is opened or written: it may be refused
    out = Path("runs", f"{recipe.name}-{recipe.scale}-s{recipe.seed}") if out is None else out
    world = setup(device)
    told: list[Any] = [reports.Bar(recipe.steps, name=recipe.name)]
    if tensorboard:
        told.append(reports.TensorBoard(out / "tensorboard"))
    report = reports.All(*told)
    try:
        films, checked = _both(data, validation, recipe, network, world, say)
        workers = _workers(films, recipe) if workers is None else workers
        if world.main:
            _say_begin(films, checked, recipe, out, say)
        record = train(
            recipe,
            films if workers else Remembered(films),
            checked,
            out,
            model=network,
            command="sal360 train",
            device=world.device,
            workers=workers,
            checkpoint_every=checkpoint_every,
            resume=resume,
            force=force,
            on_error=on_error,
            mix=mix,
            report=report,
            world=world,
            exact=exact,
        )
    except (FloatingPointError, RuntimeError, MemoryError) as error:
        line = _known(error)
        if line is None or os.environ.get("SAL360_DEBUG"):
            raise
        report.close()
        kept = f" (what was done until then is in {out})" if (out / "record.json").is_file() else ""
        say(line + kept)
        return 1
    finally:
        report.close()
        world.close()
    if not world.main:
        return 0
    if record["status"] == "interrupted":
        say(f"interrupted after step {record['steps']}: --resume goes on from there")
        return 128 + (record.get("more") or {}).get("signal", 2)
    return _left(record, checked, recipe, out, say, show)


def _both(
    data: str | None,
    validation: str | None,
    recipe: Recipe,
    network: nn.Module,
    world: World,
    say: Say,
) -> tuple[VideoDataset, VideoDataset | None]:
    """What a run trains on and what it is scored on, with what the network needs."""
    usual = USUAL[recipe.scale]
    films = _opened(usual[0] if data is None else data, recipe, world, say)
    films = with_flow(with_truth(films, recipe), network, recipe)
    if validation == "none":
        return films, None
    checked = _opened(usual[1] if validation is None else validation, recipe, world, say)
    return films, Remembered(with_flow(checked, network, recipe, learning=False))


def _say_begin(
    films: VideoDataset, checked: VideoDataset | None, recipe: Recipe, out: Path, say: Say
) -> None:
    scored = "nothing" if checked is None else getattr(checked, "spec", checked.name)
    spec = getattr(films, "spec", films.name)
    say(f"{recipe.name} at scale {recipe.scale}: {recipe.steps} steps on {spec}, "
        f"scored on {scored}, into {out}")  # fmt: skip
    if hasattr(films, "left_out"):
        say(f"left out of {spec}: {films.left_out}, wanted by the loss {recipe.loss}")
    _say_flow((films, checked), say)


def _known(error: Exception) -> str | None:
    """The line for an error that a run may end with through no fault of the program, or None."""
    line = " ".join(str(error).split())
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return f"compile: torch cannot compile the network here ({line[:160]})"
    known = isinstance(error, (FloatingPointError, ProcessLost)) or no_memory(error)
    return line if known or "a worker died" in line else None


def _left(
    record: dict[str, Any],
    validation: VideoDataset | None,
    recipe: Recipe,
    out: Path,
    say: Say,
    show: Say,
) -> int:
    """Baselines beside it, curves and table.

    Raises:
        BlockingIOError, ValueError: another run has taken the folder; nothing of it is touched.
    """
    with RunFolder(out).held(resume=True) as folder:
        there = folder.record() or {}
        if any(there.get(key) != record[key] for key in ("started", "seconds", "seed", "status")):
            raise ValueError(f"{out}: another run has taken this folder, nothing is drawn of ours")
        if validation is not None and "baselines" not in (record.get("more") or {}):
            rivals = summary.baseline_means(validation, recipe)
            record["more"] = {**(record.get("more") or {}), "baselines": rivals}
            save_record(record, out / "record.json")
        write_whole(out / "table.md", summary.table(record).encode())
        show(summary.table(record, each_video=False))
        try:
            summary.plot(record, out / "curve.png")
        except ValueError as error:
            say(f"no curve.png: {error}")
        names = ("best.safetensors", "last.safetensors", "record.json", "table.md", "curve.png")
        say(f"{out}: {', '.join(name for name in names if (out / name).is_file())}")
    return 0


def _recipe(
    name: str | None,
    file: Path | None,
    scale: str | None,
    settings: dict[str, Any],
    steps: int | None,
    seed: int | None,
    validate_every: int | None,
    validated: bool,
) -> Recipe:
    told = {"steps": steps, "seed": seed, "validate_every": validate_every}
    settings |= {key: value for key, value in told.items() if value is not None}
    scale = default_scale() if scale is None else scale
    recipe = read_recipe(name, file, scale, settings)
    if validated and not recipe.validate_every and "validate_every" not in settings:
        settings["validate_every"] = max(1, recipe.steps // VALIDATIONS)
        recipe = read_recipe(name, file, scale, settings)
    return recipe


def _opened(spec: str, recipe: Recipe, world: World, say: Say) -> VideoDataset:
    """A data set; the main process opens it first, in case it is drawn into the cache. If it
    cannot, all say why."""
    first: list[VideoDataset] = []

    def draw() -> None:
        if not is_packed(spec, recipe.size):
            say(f"{spec}: drawn once into {cache_folder() / 'packs'}; that may take minutes")
        first.append(open_data(spec, size=recipe.size))

    world.on_main(draw)
    return first[0] if world.main else open_data(spec, size=recipe.size)


def _say_flow(sets: Sequence[VideoDataset | None], say: Say) -> None:
    """Whose flow is computed, and how; nothing if nobody's is."""
    sought = {str(getattr(one, "spec", one.name)): how for one in sets
              if one is not None and (how := getattr(one, "flow_from", None))}  # fmt: skip
    if sought:
        how = " and ".join(dict.fromkeys(sought.values()))
        kept = cache_folder() / "flow"
        say(f"no optical flow in {' and '.join(sought)}: {how}; kept in {kept}")


def _workers(data: VideoDataset, recipe: Recipe) -> int:
    """None where all that is read stays in memory, some 40 bytes a pixel of worlds."""
    frames = sum(data.length(video) for video in data.videos)
    if frames * recipe.size[0] * recipe.size[1] * 48 < 512e6:
        return 0
    return max(1, (os.cpu_count() or 1) - 1)
