"""A run as it stands after a step, in one file: enough to go on as if it had not stopped.

Safetensors with one entry of metadata in JSON; nothing in it is ever executed. The file appears
whole or not at all (:mod:`sal360._files`): until then the checkpoint before it is the one. What
has to be in it: weights, their running mean, the optimiser's moments, the loss's scale, the place
in the data, and the generators of random numbers. Chapter 16.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    loader: dict[str, Any]
    extra: dict[str, Any]
    dice: dict[str, Tensor] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self.numbers["step"])

    def restore(self, state: TrainingState) -> None:
        """Bring a state, and torch's generators, to where they were."""
        state.load_state_dict(self.tensors, self.numbers)
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
    about = {"format": FORMAT, "numbers": numbers, "loader": loader_state, "extra": extra}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, save(plain, {KEY: json.dumps(about)}))
    return Path(path)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read one.

    Raises:
        FileNotFoundError: no file there. ValueError: another file, or a damaged one.
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
        parts = about["numbers"], about["loader"], about["extra"]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: not a checkpoint, wanted one that train wrote") from None
    if found != FORMAT:
        raise ValueError(f"{path}: format {found!r}, wanted {FORMAT}")
    own = {name: value for name, value in tensors.items() if not name.startswith("dice.")}
    rest = {n.removeprefix("dice."): v for n, v in tensors.items() if n.startswith("dice.")}
    return Checkpoint(own, *parts, rest)
