"""Read tensors out of a pickled torch module without running a line of it.

A ``.pth`` file may hold a whole pickled module, and unpickling calls whatever the file names:
``os.system`` as readily as a layer. This reader resolves only the names it knows, and resolves
them to inert records of its own, so that a file can describe objects but never make or call
one. Anything else is refused before it is looked up. What a file may make it reserve is bounded
by the file's own size. Plain data, without tensors, is read by :mod:`sal360.plain_pickle`.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.plain_pickle import UnsafePickleError, check_pickle, read_plain_pickle

__all__ = ["UnsafePickleError", "read_plain_pickle", "read_torch_tensors"]


class Record:
    """Stands in for an object of the file: its class's name and its attributes, no behaviour."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)


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
    except UnsafePickleError:
        raise
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"{path}: not a torch zip file, or damaged ({error})") from None
    except Exception as error:  # a hostile or damaged pickle can break its machine in any way
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read ({message})") from None
    tensors = dict(_named_tensors(root, ""))
    if not tensors:
        raise ValueError(f"{path}: holds no tensors")
    return tensors


def _load(archive: zipfile.ZipFile, path: Path, classes: frozenset[str]) -> Any:
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("no data.pkl in it")
    prefix = names[0].removesuffix("data.pkl")
    if archive.getinfo(names[0]).file_size > _MAX_PICKLE_BYTES:
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

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f"{module}.{name}"
            if full in classes:
                return type(name, (Record,), {"__module__": "sal360.safe_pickle"})
            known = {
                "collections.OrderedDict": OrderedDict,
                "__builtin__.set": set,
                "builtins.set": set,
                "torch._utils._rebuild_tensor_v2": rebuild,
                "torch._utils._rebuild_parameter": _rebuild_parameter,
            }
            if full in known:
                return known[full]
            if full in _STORAGES:
                return _STORAGES[full]
            raise UnsafePickleError(f"{path}: refused: it asks for {full!r}; nothing was run")

        def persistent_load(self, pid: Any) -> Tensor:
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

    data = archive.read(names[0])
    check_pickle(data)
    return Reader(io.BytesIO(data)).load()


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _named_tensors(node: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Walk records and dicts as ``Module.state_dict`` would."""
    if isinstance(node, Record):
        for group in ("_parameters", "_buffers", "_modules"):
            yield from _named_tensors(node.__dict__.get(group) or {}, prefix)
    elif isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, (dict, Record)):
                yield from _named_tensors(value, f"{prefix}{key}.")
