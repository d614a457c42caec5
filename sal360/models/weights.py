"""A file of weights says itself what it holds: which model, made how, from what.

Safetensors with one entry of metadata, ``sal360``, in JSON::

    {"model": "cube-unet", "settings": {"base": 8, ...}, "record": {...}, "sal360": "0.1.0"}

``settings`` are the constructor's arguments, the convention among them, so that a file is enough
to build the network it belongs to. Nothing in such a file is ever executed; ``.pth`` files, the
published ones and state dicts, go through :mod:`sal360.safe_pickle`.
"""

from __future__ import annotations

import functools
import inspect
import json
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from sal360._files import write_whole
from sal360._version import __version__
from sal360.safe_pickle import read_torch_tensors

KEY = "sal360"
_LONGEST = 1 << 20  # characters of metadata; a record of a long run has some thousands

Module = TypeVar("Module", bound=type[nn.Module])


def remembers_settings(module: Module) -> Module:
    """Class decorator: an instance keeps its constructor's arguments as ``settings``.

    >>> @remembers_settings
    ... class Scaled(nn.Module):
    ...     def __init__(self, by: float, shift: float = 0.0) -> None:
    ...         super().__init__()
    >>> Scaled(2.0).settings
    {'by': 2.0, 'shift': 0.0}
    """
    plain = module.__init__
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        self.settings = dict(list(bound.arguments.items())[1:])

    module.__init__ = remembering  # type: ignore[method-assign]
    return module


def write_weights(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> Path:
    """Write a file of weights, whole or not at all.

    Args:
        path: ends in ``.safetensors``; a file that is there is replaced.
        tensors: a state dict, on any device.
        about: what the metadata says, JSON's types and tuples.
    Returns:
        the path.
    Raises:
        ValueError: another suffix. TypeError: something in ``about`` that JSON cannot say.
        FileNotFoundError: no such folder. OSError: no room; the file that was there still is.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: {path}, wanted a name that ends in .safetensors")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    text = json.dumps({**about, "sal360": __version__}, sort_keys=True)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_whole(path, save(plain, {KEY: text}))
    return path


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` or ``.pth`` file; no code in it is run.

    Raises:
        FileNotFoundError: no file there. ValueError: a file of another kind, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from None
    return read_torch_tensors(path)


def read_about(path: str | Path) -> dict[str, Any] | None:
    """What a file of weights says about itself; None if it does not.

    Returns:
        ``model`` (a name), ``settings``, ``record``, and whatever else was written.
    Raises:
        FileNotFoundError: no file there. ValueError: metadata that makes no sense.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    if text is None:
        return None
    try:
        about = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        about = None
    parts = about if isinstance(about, dict) else {}
    named = isinstance(parts.get("model"), str)
    if not named or not all(isinstance(parts.get(k), dict) for k in ("settings", "record")):
        raise ValueError(f"{path}: metadata {KEY!r} is not a model's name, settings and record")
    return parts
