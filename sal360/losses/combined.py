"""Several losses as one number, each of them kept by its name for the log."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sal360._check import non_negative


class SummedLoss(NamedTuple):
    """``total``, to be differentiated, and ``parts``: each loss by name, unweighted, detached."""

    total: Tensor
    parts: dict[str, Tensor]


class WeightedSum:
    """A weighted sum of losses. Derived in chapter 11.

    Each part is a function whose first argument is the prediction and whose other arguments name
    what it needs: ``truth``, ``fixations``, ``flow``, or any name of your own. A call hands every
    part the ones that it names. A part of weight 0 is measured and not trained on.

    >>> import torch
    >>> from functools import partial
    >>> from sal360.losses import nss_loss, softmax_density, sphere_kld
    >>> loss = WeightedSum(
    ...     kld=(1.0, partial(sphere_kld, from_logits=True)),
    ...     nss=(0.1, lambda logits, fixations: nss_loss(softmax_density(logits), fixations)),
    ... )
    >>> logits, truth = torch.zeros(1, 1, 8, 16), torch.ones(1, 1, 8, 16)
    >>> total, parts = loss(logits, truth, fixations=torch.zeros(1, 2))
    >>> sorted(parts)
    ['kld', 'nss']

    Args:
        parts: name to ``(weight, function)``, at least one; weights of 0 or more.
    Raises:
        TypeError, ValueError: no part, a part that is no such pair, a negative weight.
    """

    def __init__(self, **parts: tuple[float, Callable[..., Tensor]]) -> None:
        if not parts:
            raise ValueError("parts: none, wanted name=(weight, function)")
        self.weights: dict[str, float] = {}
        self.functions: dict[str, Callable[..., Tensor]] = {}
        self._needs: dict[str, dict[str, bool]] = {}
        for name, part in parts.items():
            if not (isinstance(part, (tuple, list)) and len(part) == 2 and callable(part[1])):
                raise TypeError(f"{name}: {part!r}, wanted (weight, function)")
            self.weights[name] = non_negative(part[0], name)
            self.functions[name] = part[1]
            self._needs[name] = _needs(part[1])

    def __call__(self, pred: Any, truth: Any = None, **targets: Any) -> SummedLoss:
        """The weighted sum and its parts.

        Args:
            pred: given to every part. truth, targets: by name; None counts as not given.
        Raises:
            ValueError: a part lacks what it needs, a target no part asks for, no scalar.
        """
        given = {k: v for k, v in {"truth": truth, **targets}.items() if v is not None}
        for name in given:
            if not any(name in needs for needs in self._needs.values()):
                raise ValueError(f"{name}: given, wanted by none of {', '.join(self.weights)}")
        values: dict[str, Tensor] = {}
        for name, function in self.functions.items():
            needs = self._needs[name]
            lacking = [k for k, required in needs.items() if required and k not in given]
            if lacking:
                raise ValueError(f"{lacking[0]}: not given, wanted by {name}")
            arguments = {k: v for k, v in given.items() if k in needs}
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                value = function(pred, **arguments)
            if value.ndim:
                raise ValueError(f"{name}: shape {tuple(value.shape)}, wanted one number")
            values[name] = value
        total = torch.stack([self.weights[n] * v for n, v in values.items()]).sum()
        return SummedLoss(total, {n: v.detach() for n, v in values.items()})

    def __repr__(self) -> str:
        return f"WeightedSum({', '.join(f'{n}={w:g}' for n, w in self.weights.items())})"


def _needs(function: Callable[..., Tensor]) -> dict[str, bool]:
    """The names of all but the first argument; True where one is required."""
    called = function.forward if isinstance(function, torch.nn.Module) else function
    every = list(inspect.signature(called).parameters.values())
    named = [p for p in every if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p.default is p.empty for p in named if p is not every[0]}
