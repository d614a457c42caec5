"""What a recurrent network remembers, whatever its shape: tensors in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn


def map_state(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """A state of the same shape with the function applied to every tensor.

    Args:
        state: a tensor, None, or tuples (named ones too), lists and dicts of states.
    Raises:
        TypeError: anything else in it.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {key: map_state(function, part) for key, part in state.items()}
    if isinstance(state, list):
        return [map_state(function, part) for part in state]
    if isinstance(state, tuple):
        parts = [map_state(function, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    raise TypeError(f"state: holds {type(state).__name__}, wanted tensors, tuples, lists, dicts")


def detach_state(state: Any) -> Any:
    """The same numbers without their history: no gradient goes back beyond this point.

    Between two stretches of a clip this is what makes back-propagation through time truncated
    (:func:`sal360.models.base.truncated`): the memory goes on, its graph is let go. Chapter 14.
    """
    return map_state(lambda part: part.detach(), state)


def state_tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, in a fixed order; :func:`filled_state` is the way back."""
    found: list[Tensor] = []

    def keep(part: Tensor) -> Tensor:
        found.append(part)
        return part

    map_state(keep, state)
    return found


def filled_state(like: Any, tensors: Iterable[Tensor]) -> Any:
    """A state shaped like another one, with the given tensors, on its devices, in its dtypes.

    Raises:
        ValueError: another number of tensors, or a tensor of another shape.
    """
    given, wanted = list(tensors), state_tensors(like)
    mine, theirs = ([tuple(part.shape) for part in parts] for parts in (given, wanted))
    if mine != theirs:
        raise ValueError(f"tensors: shapes {mine}, wanted {theirs}")
    parts = iter(given)
    return map_state(lambda part: next(parts).to(part), like)


def why_not_copied(module: nn.Module, error: Exception) -> str:
    """What ``copy.deepcopy`` stumbled over: a feature that is still kept, or else its own words."""
    for name, layer in module.named_modules():
        kept = {**vars(layer), **layer._buffers}
        for key, value in kept.items():
            if key != "_buffers" and _holds_graph(value):
                text = f"{name}.{key}".lstrip(".") + " is kept from a forward, with its graph"
                if {f"{key}_g", f"{key}_orig"} & set(layer._parameters):
                    return f"{text}, by weight_norm or spectral_norm: use torch's parametrizations"
                return f"{text}: detach it, or set it to None"
    return str(error)


def _holds_graph(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_leaf
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (tuple, list)) and any(_holds_graph(part) for part in value)
