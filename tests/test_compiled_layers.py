"""Layers in programs: exported ones can be saved, compiled ones follow sizes and settings."""

import io

import pytest
import torch
from torch import nn

from sal360 import nn as snn
from sal360._tables import HELD
from sal360.nn import (
    CellState,
    ConvLSTMCell,
    CrownConv2d,
    RingConv2d,
    SphereAvgPool2d,
    SphereConv2d,
    SphereMaxPool2d,
    SpherePad2d,
    to_cube_padded,
)

LAYERS = {
    "tangent": SphereConv2d(2, 3),
    "reads first": SphereConv2d(2, 3, stride=2),
    "crown": CrownConv2d(2, 3, (3, 8), 0.5),
    "ring": RingConv2d(2, 3),
    "maximum": SphereMaxPool2d(),
    "blocks": snn.SphereBlockMaxPool2d(),
    "mean": SphereAvgPool2d(),
    "padding": SpherePad2d(1),
}
every = pytest.mark.parametrize("name", LAYERS)


def image(*size):
    return torch.rand(1, 2, *size)


@pytest.fixture(autouse=True)
def nothing_compiled():
    yield
    torch._dynamo.reset()


def through_a_file(layer, *inputs):
    file = io.BytesIO()
    torch.export.save(torch.export.export(layer, inputs), file)
    file.seek(0)
    with torch.serialization.safe_globals([CellState]):  # torch keeps the example's inputs
        return torch.export.load(file).module()


@every
def test_an_exported_layer_can_be_saved(name):
    layer, x = LAYERS[name], image(8, 16)
    torch.testing.assert_close(through_a_file(layer, x)(x), layer(x))


def test_so_can_a_glued_one_and_a_cell_with_its_state():
    twin, x = to_cube_padded(nn.Conv2d(2, 3, 3, padding=1)), torch.rand(6, 2, 4, 4)
    torch.testing.assert_close(through_a_file(twin, x)(x), twin(x))
    cell, x = ConvLSTMCell(2, 3), image(8, 16)
    state = cell(x)
    torch.testing.assert_close(through_a_file(cell, x, state)(x, state), cell(x, state))


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    ],
    ids=["one layer", "three"],
)
@pytest.mark.parametrize("batch", [(6,), (2, 6)], ids=str)
def test_a_glued_network_is_compiled_whole(net, batch):
    twin, x = to_cube_padded(net), torch.rand(*batch, 2, 4, 4)
    compiled = torch.compile(twin, fullgraph=HELD, backend="eager")
    torch.testing.assert_close(compiled(x), twin(x))
    torch.testing.assert_close(compiled(input=x), twin(input=x))


@every
@pytest.mark.parametrize("dynamic", [None, True])
def test_a_compiled_layer_takes_images_of_other_sizes(name, dynamic):
    layer = LAYERS[name]
    compiled = torch.compile(layer, fullgraph=HELD, dynamic=dynamic, backend="eager")
    for size in ((8, 16), (10, 20), (7, 13)):
        x = image(*size)
        torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("name", "value"), [("dilation", 2), ("mode", "nearest"), ("stride", 2), ("mode", "bicubic")]
)
def test_a_compiled_layer_follows_its_settings(name, value):
    layer, x = SphereConv2d(2, 3), image(8, 16)
    compiled = torch.compile(layer, fullgraph=HELD, backend="eager")
    before = compiled(x)
    setattr(layer, name, value)
    torch.testing.assert_close(compiled(x), layer(x))
    assert compiled(x).shape != before.shape or not torch.allclose(compiled(x), before)


def test_crowns_of_several_radii_are_compiled_whole():
    x = image(8, 16)
    for radius in (0.3, 0.4, 0.5):
        layer = CrownConv2d(2, 3, (3, 8), radius)
        compiled = torch.compile(layer, fullgraph=HELD, backend="eager")
        torch.testing.assert_close(compiled(x), layer(x))


def test_arguments_in_the_places_of_torchs_are_not_taken_for_others():
    with pytest.raises(TypeError, match="^bias: 0, wanted True or False"):
        SphereConv2d(3, 8, 3, 1, 0)  # a Conv2d's padding
    with pytest.raises(TypeError, match=r"^dtype: torch.complex64, wanted floating"):
        SphereConv2d(3, 8, dtype=torch.complex64)
    layer = SphereConv2d(3, 8, bias=False)
    layer.register_parameter("bias", nn.Parameter(torch.zeros(8)))
    assert "bias" in layer.state_dict()
