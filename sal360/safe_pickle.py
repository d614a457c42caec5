"""Read tensors out of a pickled torch module without running a line of it.

A ``.pth`` file may hold a whole pickled module, and unpickling calls whatever the file names:
``os.system`` as readily as a layer. This reader knows only a few names, and puts inert records of
its own in their place, so that a file can describe objects but never make or call one. Anything
else is refused before it is looked up. The machine that runs the pickle is the one of
:mod:`sal360.pickle_machine`; what a file may make it reserve is bounded by the file's size.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.pickle_machine import Machine, Record, UnsafePickleError
from sal360.plain_pickle import make_dict, make_set, read_plain_pickle

__all__ = ["UnsafePickleError", "read_plain_pickle", "read_torch_tensors"]


# The classes of the five published checkpoints that appear in whole-module pickles.
MODULE_CLASSES = frozenset(
    {
        "models.SST_Sal",
        "Modules.SpherConvLSTM_EncoderCell",
        "Modules.SpherConvLSTM_DecoderCell",
        "Modules.SpherConvLSTMCell",
        "spherenet.sphere_cnn.SphereConv2D",
        "spherenet.sphere_cnn.SphereMaxPool2D",
        "torch.nn.modules.upsampling.Upsample",
        "torch.nn.modules.pooling.MaxPool2d",
    }
)
_STORAGES = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
}
_MAX_NODES = 10**5
_MAX_OBJECTS = 2**28  # bytes of what the pickle builds beside tensors
_MAX_PICKLE_BYTES = 16 * 2**20  # the tensors lie outside the pickle; the official ones take 2.4 kB


def read_torch_tensors(
    path: str | Path, classes: frozenset[str] = MODULE_CLASSES
) -> dict[str, Tensor]:
    """Parameters and buffers of a ``.pth`` file, named as a state dict names them.

    Args:
        path: a zip-format ``torch.save`` file: a pickled module or a (nested) dict of tensors.
        classes: full names of the module classes that the file may mention.
    Returns:
        ``{"encoder.lstm.conv.weight": tensor, ...}`` on the CPU.
    Raises:
        FileNotFoundError: no such file.
        UnsafePickleError: the file asks for any other name; nothing of it has run.
        ValueError: not a torch zip file, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            root = _load(archive, path, classes)
            tensors = dict(_named_tensors(root, "", [_MAX_NODES]))
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: refused: {error}; nothing was run") from None
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"{path}: not a torch zip file, or damaged ({error})") from None
    except Exception as error:  # a hostile or damaged pickle can break its machine in any way
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read ({message})") from None
    if not tensors:
        raise ValueError(f"{path}: holds no tensors")
    return tensors


def _load(archive: zipfile.ZipFile, path: Path, classes: frozenset[str]) -> Any:
    names_in = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names_in) != 1:
        raise ValueError("no data.pkl in it")
    prefix = names_in[0].removesuffix("data.pkl")
    if archive.getinfo(names_in[0]).file_size > _MAX_PICKLE_BYTES:
        raise ValueError("its data.pkl is too large to hold only names")
    whole = path.stat().st_size
    storages: dict[str, Tensor] = {}
    budget = [8 * whole + 2**20]  # bytes of tensors: they may share storages, within reason

    def rebuild(
        storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        if not isinstance(storage, Tensor) or math.prod(size) > storage.numel():
            raise ValueError("a tensor larger than its storage")
        budget[0] -= math.prod(size) * storage.element_size()
        if budget[0] < 0:
            raise ValueError("its tensors are larger than the file by far")
        return torch.as_strided(storage, size, stride, offset).clone()  # torch checks the bounds

    def storage(pid: Any) -> Tensor:
        kind, dtype, key, _location, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or "/" in str(key):
            raise ValueError("unknown storage")
        if (found := storages.get(f"{key} {dtype}")) is not None:
            return found
        info = archive.getinfo(f"{prefix}data/{key}")
        if info.file_size != int(count) * dtype.itemsize:
            raise ValueError(f"storage {key} is cut short")
        if info.file_size > whole:  # torch stores without compression
            raise ValueError(f"storage {key} is larger than the file")
        raw = np.frombuffer(archive.read(info), dtype=dtype).copy()
        return storages.setdefault(f"{key} {dtype}", torch.from_numpy(raw))

    names: dict[str, Any] = {
        "collections.OrderedDict": make_dict,
        "__builtin__.set": make_set,
        "builtins.set": make_set,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
        **_STORAGES,
        **dict.fromkeys(classes, _record),
    }
    return Machine(archive.read(names_in[0]), names, storage, _MAX_OBJECTS).run()


def _record(*_: Any) -> Record:
    return Record()


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _named_tensors(node: Any, prefix: str, left: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Walk records and dicts as ``Module.state_dict`` would, over at most ``left`` of them."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("it names the same objects over and over")
    if isinstance(node, Record):
        for group in ("_parameters", "_buffers", "_modules"):
            yield from _named_tensors(node.__dict__.get(group) or {}, prefix, left)
    elif isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, (dict, Record)):
                yield from _named_tensors(value, f"{prefix}{key}.", left)
