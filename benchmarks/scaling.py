"""The same step of training on 1, 2, ... processes: clips per second, and what agreeing costs.

``python -m benchmarks scaling`` starts ``torchrun`` for each number of processes, in turn, and
writes ``data/benchmarks/scaling.json``; on CPUs one thread each, on a machine with several GPUs
one process for each GPU. The batch is shared out, so all numbers of processes do the same work
(strong scaling); *apart* are two processes side by side that share nothing but the machine, each
with its half of the batch: what two of them could reach if agreeing took no time.

Beside it, in the same processes: gradients summed after the backward pass
(:meth:`sal360.training.distributed.World.sum_gradients`) against DistributedDataParallel, which
sends them while it runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.measure import wait
from benchmarks.step_time import begin, bench_recipe
from sal360.datasets.batch import Batch
from sal360.training.distributed import World, setup
from sal360.training.fit import build_model, fit
from sal360.training.overfit import one_clip

SYSTEMS = ("spherical-unet", "sst-sal-noflow")
ROUNDS, STEPS, SUMS = 3, 3, 8
BATCH = {"fast": 8, "gpu": 32}
APART = "apart"
OURS, TORCHS = "summed after it", "DistributedDataParallel"


def run() -> dict[str, Any]:
    """Each number of processes in turn, :data:`ROUNDS` times; medians."""
    cards = torch.cuda.device_count()
    counts = [n for n in (1, 2, 4, 8) if n <= (cards or os.cpu_count() or 1)]
    kinds = [(n, False) for n in counts] + ([(2, True)] if 2 in counts else [])
    found: dict[str, list[dict[str, Any]]] = {}
    load = os.getloadavg()[0]  # of others: we have not begun
    for _ in range(ROUNDS):
        for count, apart in kinds:
            found.setdefault(APART if apart else str(count), []).append(_launch(count, apart))
    return {
        "scale": _scale(),
        "backend": "nccl" if cards else "gloo",
        "threads": 1,
        "rounds": ROUNDS,
        "load": round(load, 1),
        "cores": os.cpu_count(),
        "systems": {name: _row(name, found) for name in SYSTEMS},
        "sums": _sums(found),
    }


def _row(name: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """One system: rates by number of processes, and efficiencies within a round."""
    rates = {kind: [each["systems"][name]["clips_per_s"] for each in found[kind]] for kind in found}
    base = rates["1"]

    def efficiency(kind: str, count: int) -> float:
        pairs = zip(rates[kind], base, strict=True)
        return statistics.median(rate / (count * one) for rate, one in pairs)

    numbers = [kind for kind in rates if kind not in ("1", APART)]
    return {
        **{key: found["1"][0]["systems"][name][key] for key in ("shape", "gradients_mb")},
        "clips_per_s": {kind: statistics.median(values) for kind, values in rates.items()},
        "spread": {kind: max(values) / min(values) for kind, values in rates.items()},
        "efficiency": {kind: efficiency(kind, int(kind)) for kind in numbers},
        "apart": efficiency(APART, 2) if APART in rates else None,
    }


def _sums(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Milliseconds of the sum, and the two ways beside each other, by number of processes."""
    return {
        kind: {
            key: statistics.median(each["sums"][key] for each in several)
            for key in several[0]["sums"]
        }
        for kind, several in found.items()
        if "sums" in several[0]
    }


def _launch(count: int, apart: bool) -> dict[str, Any]:
    """One start of ``torchrun``; what its rank 0 measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        line = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        line += ["--nproc-per-node", str(count), "-m", "benchmarks.scaling", str(out)]
        line += ["apart"] if apart else []
        try:
            subprocess.run(line, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{count} processes: no answer in 300 s") from None
        return json.loads(out.read_text("utf-8"))


def measured(world: World, apart: bool) -> dict[str, Any]:
    """What one process sees; rates are those of all."""
    out: dict[str, Any] = {"systems": {}}
    for name in SYSTEMS:
        batch = BATCH[_scale()]
        whole = bench_recipe(name, _scale(), batch=batch)
        mine = bench_recipe(name, _scale(), batch=batch // (2 if apart else world.size))
        model, clips = begin(mine, world.device)
        model = model if apart else world.prepare(model)
        alone = World(device=world.device)
        seconds = _steps(model, clips, mine, alone if apart else world, world)
        H, W = whole.size
        learning = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        out["systems"][name] = {
            "shape": f"{batch} x {whole.clip_length} x {H} x {W}",
            "gradients_mb": learning / 1e6,
            "clips_per_s": batch / seconds,
        }
    if world.size > 1 and not apart:
        out["sums"] = _ways(world)
    return out


def _steps(model: nn.Module, batch: Batch, recipe: Any, world: World, meet: World) -> float:
    """Median seconds of a step; all processes begin each at the same time."""
    steps = fit(model, repeat(batch), recipe, world=world)
    times = []
    for _ in range(1 + STEPS):
        meet.barrier()
        start = time.perf_counter()
        next(steps)
        wait(world.device)
        meet.barrier()
        times.append(time.perf_counter() - start)
    steps.close()
    return statistics.median(times[1:])


def _ways(world: World) -> dict[str, float]:
    """A forward and backward pass of the largest frame model at this scale, synchronised by us
    and by torch, in turn; milliseconds."""
    from torch.nn.parallel import DistributedDataParallel

    recipe = bench_recipe("spherical-unet", "gpu", batch=1, size=[32, 64])  # the widest network
    ours = world.prepare(build_model(recipe).to(world.device))
    theirs = world.prepare(build_model(recipe).to(world.device))
    ids = [world.device.index] if world.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch renames it, after 2.11
        wrapped = DistributedDataParallel(theirs, device_ids=ids, broadcast_buffers=False)
    image = one_clip(recipe).frames[0, :1].to(world.device)

    def by_us() -> None:
        ours.zero_grad()
        ours(image, image[:, :1]).square().mean().backward()
        world.sum_gradients(ours)

    def by_torch() -> None:
        theirs.zero_grad()
        wrapped(image, image[:, :1]).square().mean().backward()

    def alone() -> None:
        world.sum_gradients(ours)

    def once(call: Callable[[], None]) -> float:
        world.barrier()
        start = time.perf_counter()
        call()
        wait(world.device)
        return 1000 * (time.perf_counter() - start)

    times: dict[str, list[float]] = {"the sum alone": [], OURS: [], TORCHS: []}
    for _ in range(1 + SUMS):
        for name, call in zip(times, (alone, by_us, by_torch), strict=True):
            times[name].append(once(call))
    gradients = sum(p.grad.nbytes for p in ours.parameters() if p.grad is not None)
    return {"gradients_mb": gradients / 1e6} | {
        name: statistics.median(each[1:]) for name, each in times.items()
    }


def _scale() -> str:
    return "gpu" if torch.cuda.is_available() else "fast"


def main(arguments: list[str]) -> int:
    """A process that ``torchrun`` started."""
    torch.set_num_threads(1)
    world = setup()
    found = measured(world, "apart" in arguments[1:])
    if world.main:
        Path(arguments[0]).write_text(json.dumps(found), "utf-8")
    world.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
