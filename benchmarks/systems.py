"""The systems side by side: size, work, agreement with what was published, learning, speed.

Each system is measured in a process of its own, so that its peak of memory is its own. Nothing is
typed: what cannot be measured here says why. Published widths at the published size of input, the
corrected convention, fresh weights.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import peak_mb
from sal360 import _runtime
from sal360.datasets import download
from sal360.models import MODELS, CubeUNet, LookupUNet, SphericalUNet, load_model, yaw_error
from sal360.models.base import FrameModel
from sal360.models.checks import channels, settle
from sal360.models.cp360 import CP360
from sal360.models.resnet import load_by_name
from sal360.models.sst_sal import SSTSal
from sal360.training import INPUTS
from sal360.training import overfit as learning

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
THREADS, SECONDS, STEPS = 2, 10.0, 5
"""Threads, and how long one system is timed: so many steps, or fewer if they last longer."""
PATIENCE = 240.0
"""Seconds after which a system counts as not measured."""
SMALL_SIZE = (32, 64)
"""Rows and columns for what does not depend on them: turning, exporting."""
TINY: dict[type[nn.Module], dict[str, Any]] = {
    SphericalUNet: {"widths": (4, 4, 8, 8, 4, 4, 1)},
    LookupUNet: {"widths": (4, 4, 8, 8, 4, 4, 1)},
    CubeUNet: {"base": 4},
    CP360: {"width": 4, "classes": 4, "face": 16},
    SSTSal: {"hidden": 4},
}
NOT_RUN = "not run yet"


def run() -> dict[str, Any]:
    """A row for every system."""
    rows = {}
    for name in INPUTS:
        if name not in MODELS:
            rows[name] = {"not run": f"{NOT_RUN}: the registry does not know it"}
            continue
        card = MODELS[name]
        rows[name] = {
            "parameters": card.parameters("published"),
            "flops": card.flops("published"),
            "parity": parity(name),
            "learning": learned(name),
            **apart(name),
        }
    return {"threads": THREADS, "turned at": "{} x {}".format(*SMALL_SIZE), "systems": rows}


# --- agreement with the published code ---


def parity(name: str) -> dict[str, Any]:
    """How far the upstream convention is from figures of the published code (tests/golden).

    Returns:
        ``what`` is compared, and ``largest difference`` or ``correlation``, or ``not run``.
    """
    return _PARITY[name](name)


@torch.no_grad()
def _spherical_unet(_: str) -> dict[str, Any]:
    z = _figures("unet_d16_64x128")
    model = SphericalUNet((4, 8, 16, 16, 8, 4, 1), "upstream")
    y = _weighed(model, z)(z["image"], z["last"])
    return {
        "what": "the network at a sixteenth of its widths, 64 x 128",
        "correlation": float(np.corrcoef(y.flatten(), z["y_eval"].flatten())[0, 1]),
    }


@torch.no_grad()
def _lookup_unet(_: str) -> dict[str, Any]:
    z = _figures("vo_unet_d8_32x64")
    model = _weighed(LookupUNet((8, 16, 32, 32, 16, 8, 1), "upstream"), z)
    for k in range(1, 5):
        table = z[f"coor{k}"]
        model.tables[table.shape[0], table.shape[1]] = table
    off = model(z["image"], z["last"]) - z["y_eval"]
    return {
        "what": "the network at an eighth of its widths with the published table, 32 x 64",
        "largest difference": float(off.abs().max()),
    }


def _cube_unet(_: str) -> dict[str, Any]:
    return {"not run": "nothing to compare with: no output of the program was kept"}


@torch.no_grad()
def _cp360(_: str) -> dict[str, Any]:
    z = _figures("clstm_losses")
    model = CP360(4, classes=8, face=32, convention="upstream").eval()
    assert model.memory is not None
    load_by_name(model.memory, {key[2:]: v for key, v in z.items() if key[:2] == "w."})
    frames = [model.panorama(part.flatten(0, 1), (14, 28)) for part in
              model.remembered(z["seq"][None])]  # fmt: skip
    off = torch.stack(frames, 1)[0, 1:, 0] - z["loss.equi_maps"]
    return {
        "what": "class scores to maps, memory included",
        "largest difference": float(off.abs().max()),
    }


@torch.no_grad()
def _sst_sal(name: str) -> dict[str, Any]:
    if not download.available(str(MODELS[name].official)):
        return {"not run": f"{NOT_RUN}: the official weights are neither here nor to be had"}
    z = _figures("sst_official_3frames")
    model = load_model(name, weights="official")
    pictures = [z["frames_bgr"], z["flow_bgr"]][: model.in_channels // 3]
    clip = torch.cat(pictures, -1).permute(0, 3, 1, 2).float()[None] / 255
    key = "of.out" if model.in_channels == 6 else "wo_of.out"
    off = model(clip)[0, :, 0] - z[key]
    return {
        "what": "official weights, 3 frames of 240 x 320",
        "largest difference": float(off.abs().max()),
    }


_PARITY: dict[str, Callable[[str], dict[str, Any]]] = {
    "spherical-unet": _spherical_unet,
    "lookup-unet": _lookup_unet,
    "cube-unet": _cube_unet,
    "cp360": _cp360,
    "sst-sal": _sst_sal,
    "sst-sal-noflow": _sst_sal,
}


def _figures(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return {key: torch.from_numpy(np.asarray(stored[key])) for key in stored.files}


def _weighed(model: Any, z: dict[str, Tensor]) -> Any:
    model.load_state_dict({k[3:]: v for k, v in z.items() if k.startswith("w__")}, strict=False)
    return model.eval()


# --- learning ---


def learned(name: str) -> dict[str, Any]:
    """What ``data/runs/overfit.json`` says: of cp360 all its recipes, of others their one."""
    try:
        runs = learning.load()["runs"]
    except (OSError, ValueError, download.DownloadError):
        return {"not run": f"{NOT_RUN}: python -m sal360.training.overfit"}
    found = {}
    for recipe, one in runs.items():
        if one["recipe"]["system"] == name:
            found[recipe] = {
                "fall": one["fall"],
                "cc before": one["before"]["cc"],
                "cc": one["after"]["cc"],
                "learned": one["learned"],
            }
    return found or {"not run": f"{NOT_RUN}: not in data/runs/overfit.json"}


# --- speed, memory, turning, exporting: in a process of its own ---


def apart(name: str) -> dict[str, Any]:
    """:func:`measure` in another process; why not, if it ends badly."""
    command = [sys.executable, "-m", "benchmarks.systems", name]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=GOLDEN.parents[1],
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        reason = f"{NOT_RUN}: not ready after {PATIENCE:.0f} s"
    else:
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        reason = f"{NOT_RUN}: ended with {done.returncode} ({last[:120]})"
    return {part: {"not run": reason} for part in ("speed", "yaw", "export")}


def measure(name: str) -> dict[str, Any]:
    """Of one system in this process."""
    card = MODELS[name]
    model = card.build("published", convention="corrected").eval()
    speed = _speed(model)  # first, for its peak of memory must be its own
    small = settle(card.build("small", convention="corrected"), SMALL_SIZE).eval()
    return {"speed": speed, "yaw": _yaw(small), "export": _export(card.kind, card.fixed)}


@torch.no_grad()
def _speed(model: nn.Module) -> dict[str, Any]:
    """Frames per second of ``step`` with a memory that is not empty, and the peak of memory."""
    H, W = model.input_size  # type: ignore[misc]
    frame = torch.rand(1, channels(model), H, W, generator=torch.Generator().manual_seed(0))
    _, state = model.step(frame, None)  # type: ignore[operator]
    times: list[float] = []
    while len(times) < STEPS and (len(times) < 3 or sum(times) < SECONDS):
        start = time.perf_counter()
        _, state = model.step(frame, state)  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    middle = statistics.median(times)
    return {
        "input": f"{H} x {W}",
        "steps": len(times),
        "median_s": middle,
        "min_s": min(times),
        "max_s": max(times),
        "frames_per_s": 1 / middle,
        "peak_mb": peak_mb(),
    }


def _yaw(model: nn.Module) -> dict[str, float]:
    """Error of a turn by a quarter, which pooling's grid survives, and by three columns."""
    W = SMALL_SIZE[1]
    return {
        "a quarter turn": yaw_error(model, SMALL_SIZE, W // 4),
        "3 columns": yaw_error(model, SMALL_SIZE, 3),
    }


def _export(kind: type[nn.Module], fixed: Any) -> dict[str, Any]:
    """Whether ``torch.export`` takes a small one, and how far its program is from it."""
    torch.manual_seed(0)
    model = settle(kind(**{**TINY[kind], **fixed}), SMALL_SIZE).eval()
    clip = torch.rand(1, 2, channels(model), *SMALL_SIZE)
    inputs: tuple[Tensor, ...] = (clip,)
    if isinstance(model, FrameModel):
        rest = clip[:, 0, 3:] if model.extra == "motion" else clip[:, 1, :1]
        inputs = (clip[:, 0, :3], rest)
    try:
        with torch.no_grad():
            program = torch.export.export(model, inputs).module()
            off = float((program(*inputs) - model(*inputs)).abs().max())
    except Exception as error:  # whatever torch says is the result
        return {
            "works": False,
            "why": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}",
        }
    return {"works": True, "largest difference": off}


def main(name: str) -> int:
    """A process that measures one system and prints a line of JSON."""
    _runtime.tune_allocator()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    print(json.dumps(measure(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
