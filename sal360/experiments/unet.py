"""What skips carry, and what teacher forcing hides: small U-Nets fit one clip, again and again.

Two questions, each with several seeds and the same number of steps for all. **Skips**: a small
U-Net with them, one without, and one without that was made wider until it has as many parameters.
**The map before**: a network that is trained with the true map of the frame before, one without
any, and two remedies in between; all are tried with the true one and with their own, on frames
and a background that none was trained on. Chapter 13 reads the record that this module writes::

    python -m sal360.experiments.unet --scale cpu --out data/runs/unet.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360._version import __version__
from sal360.datasets.synthetic import render_clip
from sal360.losses import sphere_kld, sphere_mse
from sal360.metrics import cc
from sal360.models import LookupUNet
from sal360.models.cost import parameters
from sal360.nn import SphereConv2d
from sal360.sphere import angle_between, erp_directions, pixel_area
from sal360.training import run_files as records
from sal360.training.fit import previous_maps
from sal360.training.inputs import motion

SCHEMA = "sal360/unet/1"
SKIPS = ("with skips", "without", "without, wider")
TRAININGS = ("truth", "truth with noise", "half and half", "no map")
"""What stands in the fourth channel in training: how the look-up U-Nets differ."""
SIGMA_DEG = 5.0
"""Width of the blobs that networks of the first question are asked for."""
CAP_DEG = 15.0
"""Around each thing, where a map's highest pixel is its place in that map."""
TRIED_FROM = 24
"""The first frame of the test: the training frames come before it."""


@dataclass(frozen=True)
class Recipe:
    """Sizes, steps and rates; ``RECIPES`` has one for each scale."""

    H: int = 32
    frames: int = 8
    width: int = 8
    steps: int = 120
    lr: float = 6e-3
    memory_H: int = 32
    memory_frames: int = 10
    memory_steps: int = 120
    memory_lr: float = 2e-2
    widths: tuple[int, ...] = (8, 8, 16, 16, 8, 8, 1)
    noise: float = 1.0
    seeds: tuple[int, ...] = field(default=(0, 1, 2))


RECIPES = {
    "fast": Recipe(H=32, frames=3, width=4, steps=8, memory_H=16, memory_frames=3, memory_steps=4,
                   widths=(4, 4, 4, 4, 4, 4, 1), seeds=(0,)),
    "cpu": Recipe(),
}  # fmt: skip


class SmallUNet(nn.Module):
    """Two steps down and two up with five convolutions of one kind; chapter 13 builds it.

    Args:
        inputs: channels. width: of the first; the next have twice and four times as many.
        skips: put what was seen on the way down beside what comes up.
        conv: ``(inputs, outputs) -> layer`` that keeps the size.
    """

    def __init__(
        self,
        inputs: int = 3,
        width: int = 8,
        skips: bool = True,
        conv: Callable[[int, int], nn.Module] = SphereConv2d,
    ) -> None:
        super().__init__()
        self.skips = skips
        n, s = width, int(skips)
        sizes = (
            (inputs, n),
            (n, 2 * n),
            (2 * n, 4 * n),
            ((4 + 2 * s) * n, 2 * n),
            ((2 + s) * n, n),
        )
        self.convs = nn.ModuleList(conv(i, o) for i, o in sizes)
        self.head = nn.Conv2d(n, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)``, sizes that 4 divides, to logits ``(B, 1, H, W)``."""
        down1, down2, bottom, up2, up1 = self.convs
        fine = F.relu(down1(x))
        middle = F.relu(down2(F.max_pool2d(fine, 2)))
        x = F.relu(bottom(F.max_pool2d(middle, 2)))
        x = F.relu(up2(self.beside(x, middle)))
        x = F.relu(up1(self.beside(x, fine)))
        out: Tensor = self.head(x)
        return out

    def beside(self, x: Tensor, seen: Tensor) -> Tensor:
        """Twice the size, and what was seen at that size beside it."""
        grown = x.repeat_interleave(2, -2).repeat_interleave(2, -1)
        return torch.cat((grown, seen), 1) if self.skips else grown


def wider(width: int, inputs: int = 4) -> int:
    """The width without skips whose number of parameters is nearest to that with them."""
    wanted = parameters(SmallUNet(inputs, width))
    return min(range(width, 2 * width + 1),
               key=lambda n: abs(parameters(SmallUNet(inputs, n, False)) - wanted))  # fmt: skip


def things_clips(recipe: Recipe) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """``train`` and ``test``: colour and motion ``(T, 4, H, 2H)``, sharp truths ``(T, 1, H, 2H)``
    and directions of things ``(T, N, 3)``; the test as in :func:`memory_clips`."""
    H, T, out = recipe.H, recipe.frames, {}
    for name, first, seed in (("train", 0, 0), ("test", TRIED_FROM, 1)):
        clip = render_clip(first + T + 1, H, 2 * H, seed=seed)
        x = torch.cat((clip.frames, motion(clip.frames[None])[0]), 1)[first + 1 :]
        rays, things = erp_directions(H, 2 * H), clip.objects[first + 1 :]
        cosine = torch.einsum("hwc,tnc->tnhw", rays, things)
        blobs = torch.exp((cosine - 1) / math.radians(SIGMA_DEG) ** 2).sum(1, keepdim=True)
        total = (blobs * pixel_area(H, 2 * H)[:, None]).sum((-2, -1), keepdim=True)
        out[name] = x, (blobs / total).float(), things
    return out


def place_error(maps: Tensor, things: Tensor) -> float:
    """Degrees between things and where a map has them: its highest pixel near them; the mean.

    Args:
        maps: ``(T, 1, H, W)``. things: ``(T, N, 3)``.
    """
    rays = erp_directions(*maps.shape[-2:])
    near = torch.einsum("hwc,tnc->tnhw", rays, things) > math.cos(math.radians(CAP_DEG))
    inside = maps.detach().double().masked_fill(~near, -math.inf).flatten(2)
    at = rays.flatten(0, 1)[inside.argmax(-1)]
    return float(torch.rad2deg(angle_between(at, things)).mean())


def fit_skips(kind: str, seed: int, recipe: Recipe) -> dict[str, float]:
    """One network of the first question: its parameters, and how well it does on either clip.

    Args:
        kind: of :data:`SKIPS`.
    """
    clips = things_clips(recipe)
    x, truth, _ = clips["train"]
    width = wider(recipe.width) if kind == "without, wider" else recipe.width
    torch.manual_seed(seed)
    net = SmallUNet(4, width, skips=kind == "with skips")
    best = torch.optim.Adam(net.parameters(), recipe.lr)
    for k in range(recipe.steps):
        _set_rate(best, recipe.lr, k, recipe.steps)
        best.zero_grad()
        sphere_kld(F.softplus(net(x)), truth).backward()
        best.step()
    found: dict[str, float] = {"parameters": parameters(net)}
    for name, (x, truth, things) in clips.items():
        with torch.no_grad():
            maps = F.softplus(net(x))
        found[f"{name} kld"] = float(sphere_kld(maps, truth))
        found[f"{name} cc"] = float(cc(maps, truth).mean())
        found[f"{name} degrees"] = place_error(maps, things)
    return found


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Up over a twentieth of the steps, then down as a cosine."""
    now = rate * min(20 * (step + 1) / steps, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = now


def memory_clips(recipe: Recipe) -> dict[str, tuple[Tensor, Tensor]]:
    """``train`` and ``test``: frames ``(1, T, 3, H, W)`` and true densities ``(1, T, 1, H, W)``.

    The test has other frames of the same things, before another background.
    """
    H, T = recipe.memory_H, recipe.memory_frames
    out = {}
    for name, first, length, seed in (("train", 0, T, 0), ("test", TRIED_FROM, 2 * T, 1)):
        clip = render_clip(first + length, H, 2 * H, fps=6, seed=seed)
        out[name] = clip.frames[None, first:], clip.truth[None, first:, None]
    return out


def fit_memory(training: str, seed: int, recipe: Recipe) -> tuple[LookupUNet, list[float]]:
    """A look-up U-Net and its losses.

    Args:
        training: of :data:`TRAININGS`. ``"truth"``: the map before is the true one;
            ``"truth with noise"``: times noise whose logarithm has the deviation ``recipe.noise``
            and which is constant over patches of 8 pixels; ``"half and half"``: true or its own,
            by a coin at each step; ``"no map"``: the uniform map, always.
    """
    clip, truth = memory_clips(recipe)["train"]
    torch.manual_seed(seed)
    model = LookupUNet(recipe.widths)
    best = torch.optim.Adam(model.parameters(), recipe.memory_lr)
    draw = torch.Generator().manual_seed(seed)
    target, losses = truth * (4 * math.pi), []
    for k in range(recipe.memory_steps):
        _set_rate(best, recipe.memory_lr, k, recipe.memory_steps)
        own = training == "half and half" and float(torch.rand((), generator=draw)) < 0.5
        before = previous_maps(model, clip, None if own else truth)
        if training == "truth with noise":
            before = model.feedback(before * _patches(before, recipe.noise, draw))
        if training == "no map":
            before = torch.ones_like(before)
        model.train()
        best.zero_grad()
        raw = model(clip[0], before[0])
        loss = sphere_mse(raw, target[0])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        best.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


def _patches(like: Tensor, noise: float, draw: torch.Generator) -> Tensor:
    shape = [*like.shape[:-2], -(-like.shape[-2] // 8), -(-like.shape[-1] // 8)]
    steps = noise * torch.randn(shape, generator=draw)
    big = steps.exp().repeat_interleave(8, -2).repeat_interleave(8, -1)
    return big[..., : like.shape[-2], : like.shape[-1]]


@torch.no_grad()
def try_memory(model: LookupUNet, training: str, recipe: Recipe) -> dict[str, Any]:
    """CC with the truth of the test by frame, in three situations.

    ``forced``: the map before is the true one. ``closed``: its own. ``misled``: the true one of
    half the test away, so that the picture and the map before contradict each other; there also
    ``follows map``, the CC with the map that it was given.
    """
    clip, truth = memory_clips(recipe)["test"]
    fed = previous_maps(model, clip, truth)
    wrong = torch.cat((fed[:, :1], fed[:, 1:].roll(fed.shape[1] // 2, 1)), 1)
    even = torch.ones_like(fed)
    given = {name: even if training == "no map" else value
             for name, value in (("forced", fed), ("misled", wrong))}  # fmt: skip
    maps = {name: model(clip[0], value[0])[None].clamp_min(0) for name, value in given.items()}
    maps["closed"] = maps["forced"] if training == "no map" else model.rollout(clip).clamp_min(0)
    out: dict[str, Any] = {
        name: [round(float(v), 4) for v in cc(maps[name], truth)[0, 1:, 0]]
        for name in ("forced", "closed", "misled")
    }
    out["follows map"] = [round(float(v), 4) for v in cc(maps["misled"], wrong)[0, 1:, 0]]
    return out


def copied(recipe: Recipe) -> dict[str, list[float]]:
    """CC with the truth of the test of what needs no network: the true map before, the mean of
    the training's."""
    clips = memory_clips(recipe)
    truth, seen = clips["test"][1], clips["train"][1]
    mean = seen.mean(1, keepdim=True).expand_as(truth)
    before = {"the true map before": truth[:, :-1], "mean of the training": mean[:, 1:]}
    return {
        name: [round(float(v), 4) for v in cc(maps, truth[:, 1:])[0, :, 0]]
        for name, maps in before.items()
    }


def run(
    scale: str = "cpu",
    out: str | Path | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Fit them all, and write the record.

    Args:
        scale: ``"fast"`` or ``"cpu"``. out: a JSON file. report: called with a line for each.
    Raises:
        ValueError: an unknown scale.
    """
    if scale not in RECIPES:
        raise ValueError(f"scale: {scale!r}, wanted one of {', '.join(RECIPES)}")
    recipe, start = RECIPES[scale], time.process_time()
    tell = report or (lambda line: None)
    skips: dict[str, list[Any]] = {kind: [] for kind in SKIPS}
    memory: dict[str, list[Any]] = {training: [] for training in TRAININGS}
    for seed in recipe.seeds:
        for kind in SKIPS:
            found = fit_skips(kind, seed, recipe)
            skips[kind].append({k: round(v, 4) for k, v in found.items()})
            tell(f"{kind:16s} seed {seed}: {skips[kind][-1]}")
        for training in TRAININGS:
            model, losses = fit_memory(training, seed, recipe)
            one = try_memory(model, training, recipe)
            one["loss"] = round(sum(losses[-10:]) / len(losses[-10:]), 4)
            memory[training].append(one)
            told = {k: round(sum(v) / len(v), 3) for k, v in one.items() if isinstance(v, list)}
            tell(f"{training:16s} seed {seed}: {told} loss {one['loss']}")
    record = {
        "schema": SCHEMA,
        "sal360": __version__,
        "code": code(),
        "scale": scale,
        "recipe": asdict(recipe),
        "device": platform.machine() + " CPU",
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "skips": skips,
        "memory": memory,
        "truth's own degrees": round(place_error(*things_clips(recipe)["test"][1:]), 4),
        "without a network": copied(recipe),
        "process_seconds": round(time.process_time() - start, 1),
    }
    if out is not None:
        records.write(json.dumps(record, indent=1) + "\n", out)
    return record


def code() -> str:
    """SHA-256 of the files that decide the numbers."""
    room = Path(__file__).resolve().parents[1]
    parts = [Path(__file__)]
    parts += [room / "models" / f"{name}.py" for name in ("base", "_unet", "lookup_unet")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def load(path: str | Path | None = None) -> dict[str, Any]:
    """Read a record; the published one if no path is given.

    Raises:
        FileNotFoundError. ValueError: not JSON, or of another schema.
    """
    return records.read(records.published("unet.json") if path is None else path, SCHEMA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: fit, tell, write the record."""
    parser = argparse.ArgumentParser(
        prog="python -m sal360.experiments.unet", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", choices=sorted(RECIPES), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record (data/runs/unet.json)")
    given = parser.parse_args(arguments)

    def work() -> None:
        run(given.scale, given.out, report=lambda line: print(line, flush=True))

    return records.command(parser.prog, work, given.out, SCHEMA, given.scale)


if __name__ == "__main__":
    sys.exit(main())
