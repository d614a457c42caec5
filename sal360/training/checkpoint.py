"""A run as it stands after a step, in one file: enough to go on as if it had not stopped.

Safetensors with one entry of metadata in JSON; nothing in it is ever executed. The file appears
whole or not at all (:mod:`sal360._files`): until then the checkpoint before it is the one. What
has to be in it: weights, their running mean, the optimiser's moments, the loss's scale, the place
in the data, and the generators of random numbers. A file that lacks a part is refused, before
anything is changed. Chapter 16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sal360._files import DiskFull, write_whole
from sal360.training.state import TrainingState, dice, set_dice

__all__ = ["Checkpoint", "DiskFull", "dice", "read_checkpoint", "set_dice", "write_checkpoint"]

KEY = "sal360-checkpoint"
FORMAT = 1


@dataclass
class Checkpoint:
    """What :func:`read_checkpoint` found.

    Attributes:
        tensors, numbers: of :meth:`TrainingState.load_state_dict`. loader: the place in the data.
        extra: what the run wrote beside it. dice: states of torch's generators, by device.
        path: of the file, which errors begin with.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    loader: dict[str, Any]
    extra: dict[str, Any]
    dice: dict[str, Tensor] = field(default_factory=dict)
    path: Path = Path("checkpoint")

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self.numbers["step"])

    def restore(self, state: TrainingState) -> None:
        """Bring a state, and torch's generators, to where they were.

        Raises:
            ValueError: tensors or numbers of another state; nothing is changed.
        """
        try:
            state.load_state_dict(self.tensors, self.numbers)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        set_dice(self.dice, state.device)


def write_checkpoint(
    path: str | Path,
    state: TrainingState,
    loader_state: dict[str, Any],
    extra: dict[str, Any],
) -> Path:
    """Write one, whole or not at all.

    Args:
        path: a file that is there is replaced. state: of the training. loader_state: see
            :meth:`sal360.datasets.loader.ClipLoader.state_dict`. extra: anything that JSON can
            say; numbers come back exactly.
    Raises:
        DiskFull: no room, or a limit on files; what was there is untouched. OSError: the folder.
    """
    from safetensors.torch import save

    tensors, numbers = state.state_dict()
    tensors |= {f"dice.{device}": value for device, value in dice(state.device).items()}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    about = {"format": FORMAT, "numbers": numbers, "loader": loader_state, "extra": extra,
             "tensors": sorted(plain)}  # fmt: skip
    write_whole(path, save(plain, {KEY: json.dumps(about)}))
    return Path(path)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read one, if it is whole.

    Raises:
        FileNotFoundError: no file there. ValueError: another file, a damaged one, or one that lacks
            a part or has another in its place, which is named.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a checkpoint ({error})") from None
    try:
        about = json.loads(text or "null")
        found = about["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{path}: not a checkpoint, wanted one that train wrote") from None
    if found != FORMAT:
        raise ValueError(f"{path}: format {found!r}, wanted {FORMAT}")
    try:
        _check(about, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    own = {name: value for name, value in tensors.items() if not name.startswith("dice.")}
    rest = {n.removeprefix("dice."): v for n, v in tensors.items() if n.startswith("dice.")}
    return Checkpoint(own, about["numbers"], about["loader"], about["extra"], rest, path)


def _check(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Whether all is there; tensors that a state has are compared with it when it is restored."""
    for part in ("numbers", "loader", "extra"):
        _wanted(about, part, dict, "a table")
    numbers = about["numbers"]
    _wanted(numbers, "step", int, "a whole number of at least 0", "numbers.")
    if numbers["step"] < 0:
        raise ValueError(f"numbers.step: {numbers['step']}, wanted a whole number of at least 0")
    _wanted(numbers, "scaler", dict, "a table", "numbers.")
    names = tensors.keys()
    if "tensors" in about:  # those of older versions do not name them
        _wanted(about, "tensors", list, "the names of all tensors")
        names = dict.fromkeys(map(str, about["tensors"])).keys()
    for name in sorted(names ^ tensors.keys()):
        there = "missing, wanted it" if name in names else "unknown, wanted none of that name"
        raise ValueError(f"{name}: {there}, by the names of all tensors")
    if "dice.cpu" not in tensors:
        raise ValueError("dice.cpu: missing, wanted the state of torch's generator")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        state = tensors.get(f"dice.{device}")
        try:
            if state is not None:
                torch.Generator(device).set_state(state)
        except (RuntimeError, TypeError) as error:
            told = str(error).splitlines()[0]
            raise ValueError(f"dice.{device}: no state of torch's generator ({told})") from None


def _wanted(table: Mapping[str, Any], key: str, kind: type, wanted: str, where: str = "") -> None:
    if key not in table:
        raise ValueError(f"{where}{key}: missing, wanted {wanted}")
    value = table[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{where}{key}: {'null' if value is None else type(value).__name__}, "
                         f"wanted {wanted}")  # fmt: skip
