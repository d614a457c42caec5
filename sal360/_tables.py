"""Tables are made of real numbers, once, whoever is looking on.

A sampling table depends on sizes alone. It is made at the first call that needs it and kept, and
that call may be one that ``torch.compile`` or ``torch.export`` watches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache, wraps
from operator import index
from typing import Any, TypeVar

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._python_dispatch import _disable_current_modes

Function = TypeVar("Function", bound=Callable[..., Any])

HELD = torch.__version__ >= "2.13"
"""Whether torch.compile can hold what is :func:`constant` in a program."""


def eager(function: Function) -> Function:
    """Have ``torch.compile`` call a function as it is, with all that it calls.

    Traced, a table would be made again at every call. It is what ``torch.compiler.disable`` does,
    asked for when the compiler is there: that loads it, which light imports forbid.
    """

    @wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*arguments, **named)
        return _disabled(function)(*arguments, **named)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


@cache
def _disabled(function: Function) -> Function:
    return torch.compiler.disable(function)


def untraced(function: Function) -> Function:
    """Have a maker of tables work with real numbers, whoever is looking on.

    ``torch.export`` runs a network on tensors without values and writes down what it does; a
    table made then would be none, and would be kept. Gradients and inference mode are left
    outside as well. To ``torch.jit.trace`` sizes are tensors: here they are numbers, and what is
    made of them is a constant of the program.
    """
    return eager(_real(function))


def constant(function: Function) -> Function:
    """The same, for a function whose answer depends on its arguments alone.

    A compiled program has the answer in it, and is not cut in two where it is needed. Arguments
    are whole numbers, strings, sizes, dtypes, devices and layers. It is the mark that
    ``torch.compiler.assume_constant_result`` sets. Before torch 2.13 layers are refused there, and
    the program is cut.
    """
    made = _real(function)
    if not HELD:
        return eager(made)

    def held(*arguments: Any, **named: Any) -> tuple[Any]:
        found = made(*arguments, **named)
        for tensor in _tensors_in(found):  # what torch._dynamo.mark_static does outside of tracing:
            # its sizes are numbers, also where those of images vary
            tensor._dynamo_static_indices = set(range(tensor.ndim))  # type: ignore[attr-defined]
        return (found,)  # of bare tensors, torch keeps but one in a program

    held._dynamo_marked_constant = True  # type: ignore[attr-defined]

    @wraps(made)
    def answer(*arguments: Any, **named: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            plain = [index(v) if type(v) is int else v for v in arguments]  # what varied is asked
            return held(*plain, **named)[0]
        return made(*arguments, **named)

    return answer  # type: ignore[return-value]


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors_in(part)
    elif is_dataclass(value):
        yield from _tensors_in(list(vars(value).values()))


def _real(function: Function) -> Function:
    @wraps(function)
    def made(*arguments: Any, **named: Any) -> Any:
        tracing = torch._C._get_tracing_state()
        if tracing is not None:
            sizes = [index(v) if isinstance(v, torch.Tensor) else v for v in arguments]
            torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
            try:
                return made(*sizes, **named)
            finally:
                torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]
        watched = (
            torch._C._len_torch_dispatch_stack()
            or torch._C._len_torch_function_stack()
            or torch._C._functorch.peek_interpreter_stack() is not None  # of torch.func
        )
        if not watched:  # leaving modes costs more than finding a kept table
            with torch.inference_mode(False), torch.no_grad():
                return function(*arguments, **named)
        # Left first, or an exported program would have the switching of gradients in it.
        with (
            temporarily_clear_interpreter_stack(),
            torch._C.DisableTorchFunction(),
            _disable_current_modes(),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            return function(*arguments, **named)

    for name in ("cache_clear", "cache_info"):  # of a cache below, which is the usual place
        if hasattr(function, name):
            setattr(made, name, getattr(function, name))
    return made  # type: ignore[return-value]
