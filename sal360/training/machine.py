"""What a run was made with and what it took: code, versions, device, memory, energy.

Everything here is read, nothing is set, and what cannot be read is None. Chapter 16.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sal360.nn import rim_native

ROOMS = ("training", "models", "nn", "losses", "metrics", "gaze", "datasets", "flow")
FILES = ("cubemap.py", "patterns.py", "projections.py", "resampling.py", "sphere.py")
"""Of this package: what decides the numbers of a run, besides recipe and data."""


@cache
def code_hash(rooms: tuple[str, ...] = ROOMS, files: tuple[str, ...] = FILES) -> str:
    """SHA-256 of the files of this package that decide something, names and contents."""
    root = Path(__file__).resolve().parents[1]
    paths = [path for room in rooms for path in (root / room).rglob("*.[pc]*")]
    paths = [path for path in paths if path.suffix in (".py", ".c")]
    digest = hashlib.sha256()
    for path in sorted([*paths, *(root / name for name in files)]):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def commit() -> str | None:
    """The commit of the checkout that this package lies in, with a ``+`` if its files differ from
    it; None for an installed package, also in somebody's checkout, and without git."""
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        asked = ["git", "-C", str(root), *words]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        git("ls-files", "--error-unmatch", "_version.py")
        changed = bool(git("status", "--porcelain", "--", ".").strip())
        return git("rev-parse", "HEAD").strip() + "+" * changed
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Of Python, its packages that compute, CUDA where there is one, and the system."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "rims of cubes": "compiled" if rim_native.compiled is not None else "torch",
    }
    with suppress(ImportError):  # a machine that only trains may do without
        import cv2

        found["opencv"] = cv2.__version__
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
    return found


def device_facts(device: torch.device | str, processes: int = 1) -> dict[str, Any]:
    """``type`` (``"cpu"``, ``"cuda"``), ``name`` and how many ``processes`` had one each."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"type": device.type, "name": name, "processes": processes}


def tf32_allowed(device: torch.device | str) -> dict[str, bool | None] | None:
    """Whether a GPU's products of float32 numbers may be made in TF32, with 11 bits of their 24.

    Returns:
        ``convolutions``, of cuDNN (True unless somebody says otherwise), and ``products``, of
        cuBLAS and of our convolutions on the sphere (False, and theirs are nearly float32's); an
        entry that cannot be told is None. None on a CPU, which has no TF32.
    """
    if torch.device(device).type != "cuda":
        return None
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":  # for all of NVIDIA's libraries
        return {"convolutions": False, "products": False}
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "convolutions": _allowed(cudnn, getattr(cudnn, "conv", None)),
        "products": _allowed(cublas, cublas),
    }


def _allowed(switch: Any, later: Any) -> bool | None:
    """What torch's switch says; where somebody used the one of later torch, what that says."""
    try:
        return bool(switch.allow_tf32)
    except RuntimeError:
        return {"tf32": True, "ieee": False}.get(getattr(later, "fp32_precision", ""))


def peak_memory(device: torch.device | str) -> dict[str, float | None]:
    """``host_peak_mb``, of this process and the largest of its ended workers, and
    ``device_peak_mb``, what torch held at most on a CUDA device since the process began or the
    statistics were reset; None where it cannot be read."""
    device = torch.device(device)
    held = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    return {"host_peak_mb": _host_peak(), "device_peak_mb": None if held is None else round(held)}


class Energy:
    """Joules that a GPU has taken since this was made, whoever used it; None elsewhere.

    The driver counts them (NVML's total energy consumption, Volta and later) for the whole card:
    what else runs on it is in the number.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._read = _counter(torch.device(device))
        self._begun = self._read() if self._read else None

    def joules(self) -> float | None:
        """So far, to a tenth."""
        now = self._read() if self._read and self._begun is not None else None
        return None if now is None or self._begun is None else round((now - self._begun) / 1e3, 1)


def _counter(device: torch.device) -> Any:
    """A function that reads the card's millijoules, or None."""
    if device.type != "cuda":
        return None
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        handle = ctypes.c_void_p()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
            return None
    except (OSError, AttributeError, RuntimeError):  # no driver, an old torch, no such device
        return None

    def read() -> int | None:
        value = ctypes.c_ulonglong()
        status = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value))
        return None if status else value.value

    return read if read() is not None else None


def _host_peak() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    peak = sum(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(peak / unit)


def _processor() -> str:
    """The processor's model, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
