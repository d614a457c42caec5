"""What the leaderboard compares, and with how many steps: two tables, and nothing else.

Every arm of a scale that is trained sees as many clips, of as many frames, in as many steps; arms
of a system and its planar twin share their recipe to the letter. What could not be kept equal
stands in :data:`UNEQUAL`. Chapter 17.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLIP = 8
"""Frames of a clip, and through which a gradient goes back."""
FPS = 8.0
BASELINES = (
    "uniform", "equator", "equator-front", "mean-map", "contrast", "motion", "centre-of-motion",
)  # fmt: skip
REFERENCE = "equator"
UNEQUAL = (
    "cp360's backbone is trained beforehand, to name what is where in pictures of the training "
    "worlds; what its arms are given there, no other arm is",
    "arms of published width see fewer clips than the small ones",
    "the loss is that of each recipe file: sphere_mse for the U-Nets that see their last map, none "
    "with gaze for cp360, sphere_kld for all others",
    "sst-sal and its twin are given the true flow of the worlds, no other arm is",
    "clips of a training are turned about the vertical at random, so no network can learn where "
    "the front is; the mean map is made of truths that are not turned",
    "on a graphics card fp32 lets plain convolutions (cube networks, planar twins) use TF32, with "
    "11 bits of float32's 24; those on the sphere are nearly float32, and all are on a CPU",
)


@dataclass(frozen=True)
class Arm:
    """One row.

    Attributes:
        name. system: key of :data:`sal360.models.MODELS`, or a baseline's. kind: ``"network"``,
            ``"planar twin"``, ``"published width"`` or ``"baseline"``. recipe: name of its file.
        model: settings of its constructor. lr: its highest rate. twin: the arm on the sphere that
            differs in nothing else. pretrained: start from a backbone that can name things.
        trained: False for the backbone alone. loss: over the recipe's, with what it needs.
        seeds: how many of the scale's seeds at most. scales: at which it is run.
    """

    name: str
    system: str
    kind: str = "network"
    recipe: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 0.0
    twin: str | None = None
    pretrained: bool = False
    trained: bool = True
    seeds: int = 99
    scales: tuple[str, ...] = ("fast", "cpu", "gpu")


# sst-sal: at 1e-2, the rate of the first record, seed 0 of scale cpu gives all films one map.
_WIDE = {"widths": [16, 32, 64, 64, 32, 16, 1]}
_CP360 = {"face": 32, "strides": [1, 1, 1, 1]}
_CP360_FLAT = {**_CP360, "padding": "zeros"}  # its backbone is trained with zeros beforehand, too
_FEW: dict[str, dict[str, Any]] = {
    "spherical-unet": {"widths": [2, 2, 4, 4, 2, 2, 1]},
    "lookup-unet": {"widths": [4, 4, 8, 8, 4, 4, 1]},
    "cube-unet": {"base": 4},
    "cp360": {"width": 4},
    "sst-sal": {"hidden": 4},
    "sst-sal-noflow": {"hidden": 4},
}
"""Settings at the scale ``"fast"``, over an arm's own, by system."""
_TRAINED = (
    Arm("spherical-unet", "spherical-unet", recipe="spherical-unet", model=_WIDE, lr=5e-3),
    Arm("lookup-unet", "lookup-unet", recipe="lookup-unet", model=_WIDE, lr=5e-3),
    Arm("cube-unet", "cube-unet", recipe="cube-unet", model={"base": 16}, lr=5e-3),
    Arm("cp360", "cp360", recipe="cp360", model=_CP360, lr=1e-3, pretrained=True),
    Arm("cp360-pretrained", "cp360", recipe="cp360", model=_CP360, lr=1e-3, pretrained=True,
        trained=False),
    Arm("cp360-supervised", "cp360", recipe="cp360-supervised", model=_CP360, lr=1e-3,
        pretrained=True),
    Arm("planar-cp360-supervised", "cp360", "planar twin", "cp360-supervised", _CP360_FLAT, 1e-3,
        twin="cp360-supervised", pretrained=True),
    Arm("sst-sal", "sst-sal", recipe="sst-sal", model={"hidden": 36}, lr=3e-3),
    Arm("sst-sal-noflow", "sst-sal-noflow", recipe="sst-sal-noflow", model={"hidden": 9}, lr=1e-2),
    Arm("planar-unet", "lookup-unet", "planar twin", "lookup-unet", _WIDE, 5e-3,
        twin="lookup-unet"),
    Arm("planar-cube-unet", "cube-unet", "planar twin", "cube-unet", {"base": 16}, 5e-3,
        twin="cube-unet"),
    Arm("planar-sst-sal", "sst-sal", "planar twin", "sst-sal", {"hidden": 36}, 3e-3,
        twin="sst-sal"),
    Arm("planar-sst-sal-noflow", "sst-sal-noflow", "planar twin", "sst-sal-noflow", {"hidden": 9},
        1e-2, twin="sst-sal-noflow"),
    Arm("spherical-unet-published", "spherical-unet", "published width", "spherical-unet", {},
        1e-3, seeds=1, scales=("gpu",)),
    Arm("lookup-unet-published", "lookup-unet", "published width", "lookup-unet", {}, 1e-3,
        seeds=1, scales=("gpu",)),
    Arm("cube-unet-published", "cube-unet", "published width", "cube-unet", {"base": 32}, 1e-3,
        seeds=1, scales=("gpu",)),
)  # fmt: skip
ARMS: dict[str, Arm] = {arm.name: arm for arm in _TRAINED} | {
    name: Arm(name, name, "baseline", trained=False, seeds=1) for name in BASELINES
}
NOT_RUN = {
    "cp360-published": "its backbone is ResNet-50 as ImageNet's labels trained it, a file of 98 MB "
    "that is not part of this repository; without it there is nothing to activate",
    "spherical-unet, planar": "a crown's taps lie on circles as wide as the sphere; no kernel on a "
    "flat picture stands for them. planar-unet is the flat U-Net of the same widths",
    "cp360, planar": "its twin whose faces end in zeros was made of the one that is given the "
    "truth (planar-cp360-supervised)",
}


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        size: ``(H, W)``. train, val, test: ``(worlds, seconds)`` of each split. tilts: degrees.
        seeds. batch: clips of a step. steps: of every trained arm, but for ``fewer``, by arm:
            ``(steps, batch)``. pretraining: ``(worlds, steps)`` of CP-360's backbone.
        validations: of each run, evenly spaced. precision: of training, as a recipe has it. exact:
            on CUDA, kernels that give the same bits again, whatever their precision.
    """

    size: tuple[int, int]
    train: tuple[int, float]
    val: tuple[int, float]
    test: tuple[int, float]
    tilts: tuple[float, ...]
    seeds: tuple[int, ...]
    batch: int
    steps: int
    pretraining: tuple[int, int]
    validations: int = 5
    precision: str = "fp32"
    exact: bool = True
    fewer: Mapping[str, tuple[int, int]] = field(default_factory=dict)


SCALES = {
    "fast": Scale((16, 32), (2, 1.0), (1, 0.5), (3, 0.5), (30.0, 60.0, 90.0), (0,), 1, 4, (2, 2),
                  1),
    "cpu": Scale((32, 64), (128, 6.0), (8, 4.0), (24, 4.0), (30.0, 60.0, 90.0), (0, 1, 2), 4,
                 600, (128, 300), 4),
    "gpu": Scale((64, 128), (256, 10.0), (8, 5.0), (24, 8.0), (30.0, 60.0, 90.0), (0, 1, 2), 8,
                 900, (256, 400), 4,
                 fewer={"spherical-unet-published": (250, 8), "lookup-unet-published": (400, 8),
                        "cube-unet-published": (400, 8)}),
}  # fmt: skip


def steps_of(arm: Arm, scale: Scale) -> tuple[int, int]:
    """Steps and clips of a step."""
    return scale.fewer.get(arm.name, (scale.steps, scale.batch))


def jobs_of(name: str, only: tuple[str, ...] = ()) -> list[tuple[str, int]]:
    """Arms with their seeds at a scale, in the order in which they begin: the slow ones first.

    Raises:
        ValueError: an unknown scale or arm, or an arm that is not run at this scale.
    """
    if name not in SCALES:
        raise ValueError(f"scale: {name!r}, wanted one of {', '.join(SCALES)}")
    for wanted in only:
        if wanted not in ARMS:
            raise ValueError(f"only: {wanted!r}, wanted one of {', '.join(ARMS)}")
        if name not in ARMS[wanted].scales:
            raise ValueError(f"only: {wanted!r} is not run at scale {name!r}")
    arms = [arm for arm in ARMS.values() if name in arm.scales and (not only or arm.name in only)]
    jobs = [(arm, seed) for arm in arms for seed in SCALES[name].seeds[: arm.seeds]]
    first = {"published width": -2}
    # One seed of each before the next of any: where time runs out, it is seeds that are missing.
    # What remembers goes frame by frame and takes longest: it begins before the others.
    slow = ("cp360", "sst-sal", "sst-sal-noflow")
    jobs.sort(
        key=lambda job: (
            -1 if job[0].name == "contrast" else first.get(job[0].kind, job[1]),
            job[0].system not in slow,
        )
    )
    return [(arm.name, seed) for arm, seed in jobs]


def overrides(arm: Arm, scale: Scale, seed: int) -> dict[str, Any]:
    """What is changed in the arm's recipe file."""
    steps, batch = steps_of(arm, scale)
    clip = arm.system in ("cp360", "sst-sal", "sst-sal-noflow")
    out: dict[str, Any] = {
        "model": {**arm.model, **(_FEW[arm.system] if scale is SCALES["fast"] else {})},
        "lr": arm.lr,
        "batch": batch,
        "steps": steps,
        "seed": seed,
        "size": scale.size,
        "clip_length": CLIP,
        "tbptt": CLIP if clip else 1,
        "precision": scale.precision,
        "augment": {"yaw": True, "mirror": False},
        "validate_every": max(1, steps // scale.validations),
        "monitor": "cc",
    }
    if arm.system in ("spherical-unet", "lookup-unet"):
        out["teacher_forcing"] = (0.5, 0.0)
    return out
