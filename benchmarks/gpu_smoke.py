"""Whether every system trains on a GPU: one line each, all faults in one call.

``python -m benchmarks.gpu_smoke`` on a machine with a GPU needs torch and numpy alone. For every
system, small and as published, at 64 x 128 and 128 x 256, in float32 and under autocast in
bfloat16: one step (forward, loss, backward) of 8 clips of 8 frames is run twice from the same
weights, in torch's deterministic mode, and must give the same bytes (operations that have no
such way are named); its gradients are compared with the CPU's in float32
(small sizes only); then it is timed. Then the layers' gradients are checked in double precision,
and one system's launches are counted. ``--try`` runs it small on the CPU; ``--seconds`` is how
long it may start new things.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measure import reason, wait
from sal360 import nn as layers
from sal360.losses import sphere_kld
from sal360.models import MODELS
from sal360.models.base import FrameModel, run
from sal360.nn import sampled_cuda
from sal360.training import INPUTS
from sal360.training.objectives import as_read


class Case(NamedTuple):
    """One system at one size in one precision."""

    name: str
    size: str
    rows: int
    precision: str

    @property
    def title(self) -> str:
        """For its line."""
        picture = f"{self.rows} x {2 * self.rows}"
        return f"{self.name:15s} {self.size:9s} {picture:9s} {self.precision}"


def inputs(model: nn.Module, case: Case, batch: int, frames: int) -> tuple[Tensor, Tensor]:
    """A clip ``(B, T, C, H, W)`` and truth ``(B, T, 1, H, W)``; the same on every machine."""
    toss = torch.Generator().manual_seed(0)
    channels = 4 if isinstance(model, FrameModel) else getattr(model, "in_channels", 3)
    clip = torch.rand(batch, frames, channels, case.rows, 2 * case.rows, generator=toss)
    truth = torch.rand(batch, frames, 1, case.rows, 2 * case.rows, generator=toss) + 0.1
    return clip, truth


def step(model: nn.Module, clip: Tensor, truth: Tensor, precision: str) -> float:
    """Gradients of one loss; returns it."""
    kind = clip.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        if isinstance(model, FrameModel):
            flat = clip.flatten(0, 1)
            raw = model(flat[:, :3], flat[:, 3:]).unflatten(0, clip.shape[:2])
        else:
            raw, _ = run(model, clip)
    read = as_read(raw.float(), getattr(model, "reading", "minmax")) + 1e-3
    loss = sphere_kld(read, truth)
    loss.backward()
    return float(loss.detach())


def gradients(model: nn.Module) -> Tensor:
    """All of them in one row, float64 on the CPU."""
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.cat([g.detach().double().cpu().flatten() for g in found])


def built(case: Case) -> nn.Module:
    """The same weights for every call, without dropout, batch norms learning."""
    torch.manual_seed(0)
    model = MODELS[case.name].build(case.size)
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return model.train()


def measure(case: Case, device: torch.device, batch: int, frames: int) -> str:
    """What one case gives, as the rest of its line."""
    model = built(case).to(device)
    clip, truth = (t.to(device) for t in inputs(model, case, batch, frames))
    start = time.perf_counter()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    twice = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for _ in range(2):
            model.load_state_dict(state)
            model.zero_grad(set_to_none=True)
            loss = step(model, clip, truth, case.precision)
            twice.append(gradients(model))
    loose = {str(w.message).split()[0] for w in heard if "deterministic" in str(w.message)}
    warm = time.perf_counter() - start
    same = torch.equal(*twice)

    def timed() -> float:
        wait(device)
        start, number = time.perf_counter(), 0
        while number < 2 or (number < 10 and time.perf_counter() - start < 0.3):
            model.zero_grad(set_to_none=True)
            step(model, clip, truth, case.precision)
            number += 1
        wait(device)
        return (time.perf_counter() - start) / number

    spent = timed()
    _in_fixed_order(False)
    free = timed()
    _in_fixed_order(True)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0
    finite = bool(twice[0].isfinite().all())
    told = [
        f"loss {loss:8.4f}",
        "same bytes" if same else f"DIFFERS {float((twice[0] - twice[1]).norm()):.1e}",
        *([] if finite else ["GRADIENT NOT FINITE"]),
        *([f"in no fixed order: {', '.join(sorted(loose))}"] if loose else []),
        f"{1e3 * spent:8.2f} ms/step ({1e3 * free:.2f} in any order)",
        f"{batch / spent:7.1f} clips/s",
        f"{peak:7.0f} MB",
        f"first two {warm:.1f} s",
    ]
    return "  ".join(told)


def against_cpu(case: Case, device: torch.device, batch: int, frames: int) -> str:
    """Relative difference of a step's gradient from the CPU's in float32."""
    found = []
    for place in (torch.device("cpu"), device):
        model = built(case).to(place)
        clip, truth = (t.to(place) for t in inputs(model, case, batch, frames))
        loss = step(model, clip, truth, case.precision if place == device else "fp32")
        found.append((loss, gradients(model)))
    (exact, theirs), (loss, ours) = found
    off = float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
    # In bf16 a fresh network with batch norms has half its gradient in rounding, on a CPU too.
    limit = 0.7 if case.precision == "bf16" else 2e-3
    word = "agrees" if off < limit else "WRONG"
    return f"{word}: gradient {off:.1e} from the CPU's, loss {loss:.5f} and {exact:.5f}"


def checks(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    """Layers whose gradients are compared with differences, in double precision."""

    def checked(layer: nn.Module, *shape: int) -> Callable[[], str]:
        def call() -> str:
            torch.manual_seed(0)
            there = layer.to(device, torch.float64)
            x = torch.rand(*shape, dtype=torch.float64, device=device, requires_grad=True)
            parts = list(there.parameters())

            def of(x: Tensor, *values: Tensor) -> Tensor:
                names = [n for n, _ in there.named_parameters()]
                given = dict(zip(names, values, strict=True))
                out: Tensor = torch.func.functional_call(there, given, (x,))
                return out

            torch.autograd.gradcheck(of, (x, *parts), fast_mode=True)
            return "gradcheck passed"

        return call

    yield "SphereConv2d", checked(layers.SphereConv2d(3, 2), 2, 3, 8, 16)
    yield "SphereConv2d, stride", checked(layers.SphereConv2d(2, 4, stride=2), 2, 2, 8, 16)
    yield "CrownConv2d", checked(layers.CrownConv2d(2, 2, (3, 4), 0.5), 2, 2, 8, 16)
    yield "RingConv2d", checked(layers.RingConv2d(2, 2), 2, 2, 7, 15)
    yield "SphereMaxPool2d", checked(layers.SphereMaxPool2d(), 2, 2, 8, 16)
    yield "SphereBlockMaxPool2d", checked(layers.SphereBlockMaxPool2d(), 2, 2, 8, 16)
    yield "SphereAvgPool2d", checked(layers.SphereAvgPool2d(), 2, 2, 8, 16)
    yield "SpherePad2d", checked(layers.SpherePad2d(2), 2, 2, 8, 16)
    yield "CubePad2d", checked(layers.CubePad2d(2), 6, 2, 4, 4)
    yield "CubePad2d, reproject", checked(layers.CubePad2d(1, "reproject"), 1, 6, 2, 4, 4)


def profile(case: Case, device: torch.device, batch: int, frames: int) -> str:
    """Launches of one step, and where its time on the device goes."""
    model = built(case).to(device)
    clip, truth = (t.to(device) for t in inputs(model, case, batch, frames))
    step(model, clip, truth, case.precision)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    wait(device)
    with torch.profiler.profile(activities=kinds) as seen:
        start = time.perf_counter()
        step(model, clip, truth, case.precision)
        wait(device)
        wall = time.perf_counter() - start
    on_device = [e for e in seen.key_averages() if e.device_type != torch.autograd.DeviceType.CPU]
    kernels = sorted(on_device, key=lambda e: -e.self_device_time_total)
    busy = sum(e.self_device_time_total for e in kernels) / 1e3
    copies = sum(e.count for e in kernels if "HtoD" in e.key)
    lines = [
        f"{sum(e.count for e in kernels)} launches, {copies} copies to the device, "
        f"{busy:.2f} ms busy of {1e3 * wall:.2f} ms under the profiler"
    ]
    for e in kernels[:8]:
        lines.append(f"    {e.self_device_time_total / 1e3:8.3f} ms {e.count:5d} x {e.key[:90]}")
    return "\n".join(lines)


def _in_fixed_order(asked: bool) -> None:
    """Have torch and cuDNN add in a fixed order, where they can; products in full float32."""
    torch.use_deterministic_algorithms(asked, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it only finds faults, and costs
    torch.backends.cudnn.deterministic = asked
    torch.backends.cudnn.allow_tf32 = False


def _say(title: str, call: Callable[[], str]) -> bool:
    """One line; a fault is one too. Returns whether it went well."""
    try:
        print(f"{title}: {call()}", flush=True)
        return True
    except Exception as error:  # all faults in one call: they are what this script is for
        print(f"{title}: FAULT {reason(error)}", flush=True)
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        for frame in frames:
            print(f"    {frame.filename.rsplit('/', 3)[-2:]}:{frame.lineno} {frame.line}"[:160])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return False


def main() -> None:
    """Print everything; exit 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--try", action="store_true", dest="attempt")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS in a fixed order
    start = time.perf_counter()
    device = torch.device("cpu" if asked.attempt else "cuda")
    batch, frames = (1, 2) if asked.attempt else (8, 8)
    precisions = ("fp32",) if asked.attempt else ("fp32", "bf16")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --try runs the script small, on the CPU")
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}")
        print(f"Triton works: {sampled_cuda.triton_works(torch.device('cuda', 0))}")
    _in_fixed_order(True)
    good = [_say(name, call) for name, call in checks(device)]

    def left() -> bool:
        return time.perf_counter() - start < asked.seconds

    sizes: Any = (("small", 64),) if asked.attempt else (("small", 64), ("published", 128))
    for size, rows in sizes:
        for name in INPUTS:
            for precision in precisions:
                case = Case(name, size, rows, precision)
                if size == "small":
                    few = Case(name, size, 32 if name != "spherical-unet" else 64, precision)
                    good.append(_say(few.title, lambda c=few: against_cpu(c, device, 1, 2)))
                if left():
                    good.append(_say(case.title, lambda c=case: measure(c, device, batch, frames)))
                else:
                    print(f"{case.title}: not run, {asked.seconds:.0f} s are over")
    named = ("sst-sal", "spherical-unet") if device.type == "cuda" else ("cube-unet",)
    for name in named:
        case = Case(name, "small", 64, precisions[-1])
        good.append(_say(f"{case.title} profile", lambda c=case: profile(c, device, batch, frames)))
    spent = time.perf_counter() - start
    print(f"{sum(good)} of {len(good)} went well, {spent:.0f} s")
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
