"""Everything that a training changes: weights, their running mean, the optimiser, the step.

What is here, and the place in the data, is what a checkpoint must hold; everything else follows
from the recipe and the step's number: the learning rate, and the tosses between truth and own
map. Chapter 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from sal360.training.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or Adam, over what is not frozen.

    Raises:
        ValueError: all of it is, or there is nothing.
    """
    free = [p for p in model.parameters() if p.requires_grad]
    if not free:
        raise ValueError("model: no weight that is not frozen, wanted some to train")
    if recipe.optimizer == "adam":
        return torch.optim.Adam(free, recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(free, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)


def tosses(recipe: Recipe) -> Tensor:
    """``(steps,)`` numbers in [0, 1), one for each step: the same whenever they are asked for."""
    return torch.rand(recipe.steps, generator=torch.Generator().manual_seed(recipe.seed))


class TrainingState:
    """A model in training.

    Attributes:
        model: trained in place. optimizer: over its weights that are not frozen.
        scaler: of the loss; it does something in precision ``"fp16"`` alone.
        ema: a copy of the model whose weights are the running mean of those of ``model``; None
            if the recipe has none.
        device: where the model is. step: how many are done. whole: whether all of this is as it
            was after that step; not so within a step, from which an error may throw one.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model, self.recipe, self.step, self.whole = model, recipe, 0, True
        self.optimizer = make_optimizer(model, recipe)
        self.device = device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.scaler.scale(torch.zeros((), device=device))  # it is only then made, and can be asked
        self.ema = deepcopy(model).eval().requires_grad_(False) if recipe.ema else None
        norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        self._running = [buffer for norm in norms for buffer in norm.buffers()]
        self._before = [buffer.clone() for buffer in self._running]

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and kept: the mean of the weights if there is one, else the model."""
        return self.model if self.ema is None else self.ema

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """An error in here leaves everything as it was before: forward and backward passes move
        nothing but batch normalisation's running values and torch's generators, and those are put
        back."""
        _copy(self._before, self._running)
        drawn = dice(self.device)
        self.whole = False
        try:
            yield
        except Exception:
            _copy(self._running, self._before)
            set_dice(drawn, self.device)
            self.whole = True
            raise

    def update(self) -> None:
        """Make the step that the gradients ask for."""
        self.whole = False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._average()
        self.whole = True

    @torch.no_grad()
    def _average(self) -> None:
        """Take the weights of now into their running mean.

        A mean of few is dominated by where it began, so its decay grows to the recipe's:
        ``min(ema, (1 + step) / (10 + step))``. Statistics of batches are taken as they are.
        """
        if self.ema is None:
            return
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        mean: list[Tensor] = list(self.ema.parameters())
        now: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(mean, now, 1 - decay)
        _copy(list(self.ema.buffers()), list(self.model.buffers()))

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and plain numbers; see :meth:`load_state_dict`.

        The optimiser's are numbered in the order of the weights; its settings are the recipe's.
        """
        tensors = self._own()
        numbers: dict[str, Any] = {"step": self.step, "scaler": self.scaler.state_dict()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                if value is not None:  # SGD's moment before its first step
                    tensors[f"optimizer.{index}.{name}"] = value
        return tensors, numbers

    def load_state_dict(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: the state of another model, moments of another optimiser, another scale of
                the loss; nothing is changed.
        """
        free = self.optimizer.param_groups[0]["params"]
        moments: dict[int, dict[str, Tensor]] = {}
        others: dict[str, Tensor] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            index, _, what = rest.partition(".")
            if kind != "optimizer":
                others[name] = value
            elif index.isdecimal() and int(index) < len(free):
                moments.setdefault(int(index), {})[what] = value
            else:
                raise ValueError(f"state: {name}: of no weight, wanted one of {len(free)}")
        _check_alike(others, self._own(), "state: of another model")
        for at, found in moments.items():  # a weight that never had a gradient has none
            _check_alike(found, _moments_of(free[at], self.recipe), f"state: optimizer.{at}")
        if self.scaler.is_enabled():
            _check_scale(numbers["scaler"], self.scaler.state_dict())
        _fill(self.model, tensors, "model.")
        if self.ema is not None:
            _fill(self.ema, tensors, "ema.")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(numbers["scaler"])
        self.step = int(numbers["step"])

    def _own(self) -> dict[str, Tensor]:
        """Weights and their running mean, by name."""
        own = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.ema is not None:
            own |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        return own


def dice(device: torch.device) -> dict[str, Tensor]:
    """States of torch's own generators, for networks that draw while they train on a device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_dice(states: dict[str, Tensor], device: torch.device) -> None:
    """Put them back; those of another kind of device are left out."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    """Values of many small tensors, those of one kind in one launch."""
    for dtype in {tensor.dtype for tensor in source}:
        pairs = [(a, b) for a, b in zip(to, source, strict=True) if b.dtype == dtype]
        torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])


def _fill(model: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    own = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    model.load_state_dict(own)


def _moments_of(weight: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """What the optimiser keeps of a weight once it had a gradient; shapes and kinds of number."""
    if recipe.optimizer == "adam":
        count = torch.zeros((), device="meta")
        return {"step": count, "exp_avg": weight, "exp_avg_sq": weight}
    return {"momentum_buffer": weight} if recipe.momentum else {}


def _check_alike(found: dict[str, Tensor], wanted: dict[str, Tensor], where: str) -> None:
    """Whether tensors have the names, shapes and kinds of number of others."""

    def told(tensor: Tensor | None) -> str:
        if tensor is None:
            return "none"
        return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

    for name in dict.fromkeys((*wanted, *found)):
        theirs, mine = told(found.get(name)), told(wanted.get(name))
        if theirs != mine:
            raise ValueError(f"{where} ({name}: {theirs}, wanted {mine})")


def _check_scale(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Whether these are the numbers of a scale of the loss."""
    for name in dict.fromkeys((*wanted, *found)):
        value: Any = found.get(name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name not in wanted or not number or not 0 <= value < math.inf:
            raise ValueError(f"state: scaler.{name}: {value!r}, wanted as {wanted.get(name)!r}")
