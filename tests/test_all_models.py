"""What every network must stand, in both conventions, at widths that take no time."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from sal360.inference import predict_frames
from sal360.models import (
    MODELS,
    NETWORKS,
    DeadParametersError,
    load_model,
    no_dead_parameters,
    save_weights,
    yaw_error,
    yaw_errors,
)
from sal360.models.base import CONVENTIONS, FrameModel
from sal360.models.checks import channels, raw_maps, settle, smooth_noise
from sal360.nn import ConvLSTMCell
from sal360.sphere import pixel_area

UNET = {"widths": (4, 4, 4, 4, 4, 4, 1)}
TINY = {
    "spherical-unet": UNET,
    "lookup-unet": UNET,
    "cube-unet": {"base": 4},
    "cp360": {"width": 4, "classes": 4, "face": 16},
    "sst-sal": {"hidden": 4},
    "sst-sal-noflow": {"hidden": 4},
}
EVERY = pytest.mark.parametrize(
    ("name", "convention"), [(name, convention) for name in NETWORKS for convention in CONVENTIONS]
)
ROWS = {("spherical-unet", "upstream"): 64}
"""The published crown must hold two rows; every other network takes any number."""
TURNS = {
    "spherical-unet": CONVENTIONS,
    "lookup-unet": ("corrected",),
    "sst-sal": ("corrected",),
    "sst-sal-noflow": ("corrected",),
}
"""Who turns with the panorama exactly, by a multiple of eight columns. A cube's kernels do not
turn with its upper and lower face; the others upstream see a seam."""
NO_EXPORT: dict[str, str] = {}
"""Networks that torch.export does not take, and what it says."""


def size_of(name, convention):
    rows = ROWS.get((name, convention), 32)
    return rows, 2 * rows


def tiny(name, convention):
    torch.manual_seed(0)
    return load_model(name, convention=convention, **TINY[name])


@cache
def settled(name, convention):
    """One for all tests; none of them changes it."""
    return settle(tiny(name, convention), size_of(name, convention))


def clip_of(model, size, B=1, T=2, seed=0):
    return smooth_noise(torch.Generator().manual_seed(seed), (B, T, channels(model), *size)).float()


def inputs_of(model, clip):
    """What the module itself is called with."""
    if not isinstance(model, FrameModel):
        return (clip,)
    image, rest = clip[:, 0, :3], clip[:, 0, 3:]
    return image, rest if model.extra == "motion" else model.first(image)


@EVERY
def test_frames_become_densities(name, convention):
    """Any size in, any number of frames, densities of mass 1 out."""
    model = tiny(name, convention)
    model.input_size = size_of(name, convention)
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, 31, 62), dtype=np.uint8)
    for clip in (frames, frames[:1]):
        maps = predict_frames(clip, model)
        assert maps.shape == (len(clip), 31, 62) and maps.dtype == torch.float32
        assert float(maps.min()) >= 0
        mass = (maps.double() * pixel_area(31, 62)[:, None]).sum((-2, -1))
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-5)


@EVERY
def test_no_parameter_is_dead(name, convention):
    model = settled(name, convention)
    clip = clip_of(model, size_of(name, convention), T=3)
    no_dead_parameters(model, *inputs_of(model, clip))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_detached_answer_is_found(name):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = settled(name, "corrected")

        def forward(self, *inputs):
            return self.model(*inputs).detach()

    model = Detached()
    clip = clip_of(model.model, size_of(name, "corrected"))
    with pytest.raises(DeadParametersError, match="no gradient reaches") as found:
        no_dead_parameters(model, *inputs_of(model.model, clip))
    assert found.value.names == [n for n, p in model.named_parameters() if p.requires_grad]


@EVERY
def test_turning_the_panorama(name, convention):
    error = yaw_error(settled(name, convention), size_of(name, convention), frames=1)
    assert error < 1e-9 if convention in TURNS.get(name, ()) else error > 1e-3


@EVERY
@torch.no_grad()
def test_odd_sizes(name, convention):
    rows, columns = size_of(name, convention)
    model = settled(name, convention)
    size = (rows + 1, columns + 6) if rows > 32 else (31, 61)
    maps = raw_maps(model, clip_of(model, size))
    assert maps.shape == (1, 2, 1, *size) and bool(maps.isfinite().all())


@EVERY
@torch.no_grad()
def test_batches_half_precision_and_files(name, convention, tmp_path):
    """A batch is its clips; bfloat16 has 8 bits; a file gives the same network back."""
    model = settled(name, convention)
    clips = clip_of(model, size_of(name, convention), B=2)
    both = raw_maps(model, clips)
    alone = raw_maps(model, clips[1:])
    scale = max(1.0, float(both.abs().max()))
    assert float((both[1:] - alone).abs().max()) < 1e-4 * scale
    assert float((both[0] - both[1]).abs().max()) > 1e-6 * scale
    with torch.autocast("cpu", torch.bfloat16):
        half = raw_maps(model, clips[1:]).float()
    assert float((half - alone).square().mean().sqrt()) < 0.1 * float(alone.std())
    again = load_model(name, save_weights(model, tmp_path / "w.safetensors"))
    assert torch.equal(raw_maps(again, clips[1:]), alone)


@pytest.mark.parametrize(("convention", "size"), [("corrected", (40, 80)), ("upstream", (72, 144))])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_exported_it_says_the_same(name, convention, size):
    """At a size that no other test asks for: tables are made while the export looks on, and the
    network must work after it."""
    model = settled(name, convention)
    inputs, others = (inputs_of(model, clip_of(model, size, seed=seed)) for seed in (0, 1))
    if name in NO_EXPORT:
        with pytest.raises(Exception, match=NO_EXPORT[name]):
            torch.export.export(model, inputs)
        return
    program = torch.export.export(model, inputs).module()
    torch.testing.assert_close(program(*others), model(*others), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_fit_either_convention(name):
    ours, theirs = (MODELS[name].build(convention=c, **TINY[name]) for c in CONVENTIONS)
    theirs.load_state_dict(ours.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_the_table_of_turns():
    """Measured, not typed; and nobody's random numbers are touched."""
    state, names = torch.random.get_rng_state(), ("sst-sal-noflow", "lookup-unet")
    rows = yaw_errors(names, size=(16, 32), settings=TINY)
    assert torch.equal(state, torch.random.get_rng_state())
    assert [(row.name, row.convention) for row in rows] == [
        (name, convention) for name in names for convention in CONVENTIONS
    ]
    for row in rows:
        assert (row.quarter < 1e-9) == (row.convention == "corrected")
        assert row.odd > (row.quarter if row.convention == "corrected" else 1e-3)


def test_what_cannot_be_asked_for_gradients_is_told():
    cell, x = ConvLSTMCell(3, 2), torch.rand(1, 3, 8, 16)
    no_dead_parameters(cell, x, loss=lambda state: sum(part.sum() for part in state))
    with pytest.raises(TypeError, match="answers a CellState"):
        no_dead_parameters(cell, x)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        no_dead_parameters(torch.nn.ReLU(), x)
    with pytest.raises(FloatingPointError, match="not finite in 2 parameters: weight, bias"):
        no_dead_parameters(torch.nn.Conv2d(3, 1, 1), x * math.nan)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frame_of_other_channels_is_named(name):
    with pytest.raises(ValueError, match=r"shape \(1, 5, 16, 32\), wanted \(B, [346], H, W\)"):
        load_model(name, size="small").step(torch.zeros(1, 5, 16, 32))
