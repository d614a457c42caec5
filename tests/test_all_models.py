"""What every network must stand, in both conventions, at widths that take no time."""

import inspect

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
from sal360.sphere import pixel_area

TINY = {
    "base": 4,
    "hidden": 4,
    "widths": (4, 4, 8, 8, 4, 4, 1),
    "width": 4,
    "classes": 4,
    "face": 16,
}
EVERY = pytest.mark.parametrize(
    ("name", "convention"), [(name, convention) for name in NETWORKS for convention in CONVENTIONS]
)
ROWS = {("spherical-unet", "upstream"): 64}
"""The published crown must hold two rows; every other network takes any number."""
TURNS = {"spherical-unet": CONVENTIONS, "lookup-unet": ("corrected",), "sst-sal": ("corrected",),
         "sst-sal-noflow": ("corrected",)}  # fmt: skip
"""Who turns with the panorama exactly, by a multiple of eight columns. A cube's kernels do not
turn with its upper and lower face; the others upstream see a seam."""
NO_EXPORT: dict[tuple[str, str], str] = {}
"""Networks that torch.export does not take, and why."""


def tiny(name, convention, **settings):
    known = inspect.signature(MODELS[name].kind).parameters
    chosen = {key: value for key, value in TINY.items() if key in known and name != "cube-unet"}
    if name == "cube-unet":
        chosen = {"base": 4}
    torch.manual_seed(0)
    return load_model(name, convention=convention, **{**chosen, **settings})


def size_of(name, convention, odd=False):
    rows = ROWS.get((name, convention), 32)
    return (rows + 1, 2 * rows + 6) if odd else (rows, 2 * rows)


def clip_of(model, size, B=1, T=2, seed=0):
    return smooth_noise(torch.Generator().manual_seed(seed), (B, T, channels(model), *size)).float()


def inputs_of(model, clip):
    """What the module itself is called with."""
    if not isinstance(model, FrameModel):
        return (clip,)
    image, rest = clip[:, 0, :3], clip[:, 0, 3:]
    return image, rest if model.extra == "motion" else model.first(image)


@EVERY
@pytest.mark.parametrize("T", [1, 3])
def test_frames_become_densities(name, convention, T):
    model = tiny(name, convention)
    model.input_size = size_of(name, convention)
    frames = np.random.default_rng(0).integers(0, 256, (T, 3, 31, 62), dtype=np.uint8)
    maps = predict_frames(frames, model)
    assert maps.shape == (T, 31, 62) and maps.dtype == torch.float32 and float(maps.min()) >= 0
    mass = (maps.double() * pixel_area(31, 62)[:, None]).sum((-2, -1))
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-5)


@EVERY
def test_no_parameter_is_dead(name, convention):
    model = settle(tiny(name, convention), size_of(name, convention))
    clip = clip_of(model, size_of(name, convention), T=3)
    no_dead_parameters(model, *inputs_of(model, clip))
    assert all(p.grad is None for p in model.parameters())


@EVERY
def test_a_detached_answer_is_found(name, convention):
    class Detached(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return self.model(*inputs).detach()

    model = Detached(tiny(name, convention))
    clip = clip_of(model.model, size_of(name, convention))
    with pytest.raises(DeadParametersError, match="no gradient reaches") as found:
        no_dead_parameters(model, *inputs_of(model.model, clip))
    assert set(found.value.names) == {n for n, p in model.named_parameters() if p.requires_grad}


@EVERY
def test_turning_the_panorama(name, convention):
    size = size_of(name, convention)
    model = settle(tiny(name, convention), size)
    error = yaw_error(model, size)
    assert error < 1e-9 if convention in TURNS.get(name, ()) else error > 1e-3


@EVERY
def test_odd_sizes(name, convention):
    model = tiny(name, convention).eval()
    for size in (
        size_of(name, convention, odd=True),
        *([] if ROWS.get((name, convention)) else [(31, 62)]),
    ):
        with torch.no_grad():
            maps = raw_maps(model, clip_of(model, size))
        assert maps.shape == (1, 2, 1, *size) and bool(maps.isfinite().all())


@EVERY
@torch.no_grad()
def test_a_batch_is_its_clips(name, convention):
    size = size_of(name, convention)
    model = settle(tiny(name, convention), size)
    clips = clip_of(model, size, B=2)
    both = raw_maps(model, clips)
    alone = torch.cat([raw_maps(model, clip[None]) for clip in clips])
    assert float((both - alone).abs().max()) < 1e-4 * max(1.0, float(both.abs().max()))
    assert float((both[0] - both[1]).abs().max()) > 1e-6


@EVERY
@torch.no_grad()
def test_half_precision_is_close(name, convention):
    """Autocast to bfloat16, 8 bits of mantissa: off by less than a tenth of the map's spread."""
    size = size_of(name, convention)
    model = settle(tiny(name, convention), size)
    clip = clip_of(model, size)
    exact = raw_maps(model, clip)
    with torch.autocast("cpu", torch.bfloat16):
        half = raw_maps(model, clip)
    assert bool(half.isfinite().all())
    assert float((half.float() - exact).square().mean().sqrt()) < 0.1 * float(exact.std())


@EVERY
@torch.no_grad()
def test_exported_it_says_the_same(name, convention):
    size = size_of(name, convention)
    model = settle(tiny(name, convention), size)
    inputs = inputs_of(model, clip_of(model, size))
    if (name, convention) in NO_EXPORT:
        with pytest.raises(Exception, match=NO_EXPORT[name, convention]):
            torch.export.export(model, inputs)
        return
    program = torch.export.export(model, inputs).module()
    others = inputs_of(model, clip_of(model, size, seed=1))
    torch.testing.assert_close(program(*others), model(*others), rtol=1e-5, atol=1e-6)


@EVERY
def test_saved_and_loaded_it_says_the_same(name, convention, tmp_path):
    size = size_of(name, convention)
    model = settle(tiny(name, convention), size)
    again = load_model(name, save_weights(model, tmp_path / "w.safetensors"))
    clip = clip_of(model, size)
    with torch.no_grad():
        assert torch.equal(raw_maps(model, clip), raw_maps(again, clip))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_fit_either_convention(name):
    ours, theirs = (tiny(name, convention) for convention in CONVENTIONS)
    theirs.load_state_dict(ours.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_the_table_of_turns():
    """Measured, not typed; and nobody's random numbers are touched."""
    state = torch.random.get_rng_state()
    rows = yaw_errors(("sst-sal-noflow", "lookup-unet"), size=(16, 32))
    assert torch.equal(state, torch.random.get_rng_state())
    assert [(row.name, row.convention) for row in rows] == [
        (name, convention)
        for name in ("sst-sal-noflow", "lookup-unet")
        for convention in CONVENTIONS
    ]
    for row in rows:
        assert (row.quarter < 1e-9) == (row.convention == "corrected")
        assert row.odd > row.quarter if row.convention == "corrected" else row.odd > 1e-3
