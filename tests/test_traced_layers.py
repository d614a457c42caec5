"""Layers under torch.jit.trace: programs of torch alone, for inputs of the shape they saw."""

import io
import warnings

import pytest
import torch
from torch import nn

from sal360.nn import (
    CrownConv2d,
    CubePad2d,
    SphereAvgPool2d,
    SphereBlockMaxPool2d,
    SphereConv2d,
    SphereMaxPool2d,
    SpherePad2d,
    clear_tables,
    to_cube_padded,
)

TRACED = {
    "projects first": (SphereConv2d(4, 3), (2, 4, 7, 13)),
    "reads first": (SphereConv2d(2, 4, stride=2, groups=2), (1, 2, 8, 14)),
    "crown": (CrownConv2d(2, 2, (3, 4), 0.5), (1, 2, 7, 13)),
    "greatest": (SphereMaxPool2d(), (2, 2, 7, 13)),
    "greatest in blocks": (SphereBlockMaxPool2d(), (2, 2, 7, 13)),
    "mean": (SphereAvgPool2d(), (2, 2, 7, 13)),
    "panorama padded": (SpherePad2d((1, 2, 0, 1)), (2, 2, 7, 13)),
    "cube padded": (CubePad2d((1, 2, 0, 1)), (2, 6, 3, 5, 5)),
    "glued": (to_cube_padded(nn.Conv2d(2, 3, 3, padding=1)), (2, 6, 2, 5, 5)),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", TRACED)
def test_a_traced_layer_is_the_layer(name):
    """Saved and loaded, too: nothing in the program is Python. Tables are constants in it."""
    layer, shape = TRACED[name]
    clear_tables()
    traced, kept = torch.jit.trace(layer, torch.rand(shape)), io.BytesIO()
    torch.jit.save(traced, kept)
    kept.seek(0)
    loaded, x = torch.jit.load(kept), torch.randn(shape, requires_grad=True)
    assert "searchsorted" not in str(loaded.graph) and "arange" not in str(loaded.graph)
    wanted, found = layer(x), loaded(x)
    torch.testing.assert_close(found, wanted)
    pull = torch.randn_like(wanted)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, pull) for out in (found, wanted)))


def test_a_table_first_asked_for_by_a_tracer_serves_outside_of_it():
    clear_tables()
    layer, x = SphereConv2d(1, 1), torch.rand(1, 1, 5, 11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(layer, x)
    assert type(layer.pattern(5, 11).H) is int
    torch.testing.assert_close(layer(x.requires_grad_()), layer(x.detach()))
