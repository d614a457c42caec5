"""A ConvLSTM cell is its four equations, whatever convolution it is made of."""

import math

import pytest
import torch
from torch import nn

from sal360 import upstream
from sal360.nn import (
    CellState,
    ConvLSTMCell,
    CubePad2d,
    RingConv2d,
    SphereConv2d,
    SpherePad2d,
    detach_state,
)
from sal360.nn.state import filled_state, map_state, state_tensors


def padded(rim):
    """A factory of ordinary convolutions behind some padding."""
    return lambda i, o: nn.Sequential(rim, nn.Conv2d(i, o, 3))


class Published(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.weight = nn.Parameter(0.2 * torch.randn(o, i, 3, 3))

    def forward(self, x):
        return upstream.sphere_conv2d(x, self.weight)


CONVOLUTIONS = {
    "sphere": (SphereConv2d, (2, 3, 9, 14)),
    "ring": (RingConv2d, (2, 3, 9, 14)),
    "padded panorama": (padded(SpherePad2d(1)), (2, 3, 9, 14)),
    "plane": (lambda i, o: nn.Conv2d(i, o, 3, padding=1), (2, 3, 9, 14)),
    "cube": (padded(CubePad2d(1)), (6, 3, 7, 7)),
    "upstream": (Published, (2, 3, 9, 14)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_step_is_the_four_equations(name):
    torch.manual_seed(0)
    conv, shape = CONVOLUTIONS[name]
    cell = ConvLSTMCell(3, 2, conv)
    x, h, c = torch.rand(shape), *torch.randn(2, shape[0], 2, *shape[2:])
    hidden, memory = cell(x, CellState(h, c))
    i, f, o, g = cell.conv(torch.cat((x, h), 1)).chunk(4, 1)
    want = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    assert torch.allclose(memory, want, atol=1e-6)
    assert torch.allclose(hidden, torch.sigmoid(o) * torch.tanh(want), atol=1e-6)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_no_state_is_a_state_of_zeros_and_every_weight_learns(name):
    conv, shape = CONVOLUTIONS[name]
    cell, x = ConvLSTMCell(3, 2, conv), torch.rand(shape)
    zeros = torch.zeros(shape[0], 2, *shape[2:])
    first = cell(x)
    assert torch.equal(first.hidden, cell(x, (zeros, zeros)).hidden)
    cell(x, first).hidden.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in cell.parameters())


def test_gradients_are_exact():
    torch.manual_seed(1)
    cell = ConvLSTMCell(1, 1, SphereConv2d).double()
    names = [name for name, _ in cell.named_parameters()]
    x, h, c = (torch.randn(1, 1, 6, 10, dtype=torch.float64, requires_grad=True) for _ in "xhc")

    def two_steps(x, h, c, *weights):
        given = dict(zip(names, weights, strict=True))
        state = torch.func.functional_call(cell, given, (x, CellState(h, c)))
        return torch.func.functional_call(cell, given, (x, state))

    weights = [p.detach().clone().requires_grad_() for p in cell.parameters()]
    assert torch.autograd.gradcheck(two_steps, (x, h, c, *weights))


def test_the_memory_turns_with_the_picture():
    torch.manual_seed(2)
    cell, x = ConvLSTMCell(3, 2), torch.rand(2, 1, 3, 9, 14)
    plain = cell(x[1], cell(x[0]))
    turned = cell(x[1].roll(5, -1), cell(x[0].roll(5, -1)))
    assert torch.allclose(turned.cell, plain.cell.roll(5, -1), atol=1e-6)


def test_the_forget_gate_can_start_open():
    cell = ConvLSTMCell(3, 4, forget_bias=1.0)
    assert (cell.conv.bias[4:8] == 1).all()
    assert not (cell.conv.bias[:4] == 1).any() and not (cell.conv.bias[8:] == 1).any()
    with pytest.raises(ValueError, match="^forget_bias: "):
        ConvLSTMCell(3, 4, lambda i, o: SphereConv2d(i, o, bias=False), forget_bias=1.0)


def test_how_long_a_memory_lasts_is_the_forget_gate():
    """With no input and no way in, the cell state shrinks by sigmoid(f) each step."""
    cell = ConvLSTMCell(1, 1)
    with torch.no_grad():
        cell.conv.weight.zero_()
        cell.conv.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    state = CellState(torch.zeros(1, 1, 6, 10), torch.ones(1, 1, 6, 10))
    for _ in range(3):
        state = cell(torch.zeros(1, 1, 6, 10), state)
    kept = 1 / (1 + math.exp(-1))
    assert torch.allclose(state.cell, torch.tensor(kept**3), atol=1e-6)


def test_under_autocast_the_memory_keeps_its_precision():
    cell, x = ConvLSTMCell(3, 2, CONVOLUTIONS["plane"][0]), torch.rand(1, 3, 9, 14)
    with torch.autocast("cpu", torch.bfloat16):
        state = cell(x, cell(x))
    exact = cell(x, cell(x))
    assert state.cell.dtype == torch.float32
    assert torch.allclose(state.hidden.float(), exact.hidden, atol=0.02)


@pytest.mark.parametrize(
    ("named", "call"),
    [
        ("in_channels", lambda: ConvLSTMCell(0, 2)),
        ("hidden", lambda: ConvLSTMCell(3, 0)),
        ("x", lambda: ConvLSTMCell(3, 2)(torch.rand(1, 4, 9, 14))),
        ("state", lambda: ConvLSTMCell(3, 2)(
            torch.rand(1, 3, 9, 14), (torch.zeros(1, 2, 9, 13), torch.zeros(1, 2, 9, 13)))),
        ("state", lambda: map_state(torch.clone, {"a": 3})),
        ("tensors", lambda: filled_state(torch.zeros(2), [torch.zeros(3)])),
    ],
)  # fmt: skip
def test_bad_input_is_named(named, call):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()


ZEROS = torch.zeros(1, 2, 9, 14)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ((ZEROS, ZEROS[..., 1:]), r"cell of shape \(1, 2, 9, 13\), wanted \(1, 2, 9, 14\)"),
        ((ZEROS[0], ZEROS), r"hidden of shape \(2, 9, 14\), wanted \(1, 2, 9, 14\)"),
        ((ZEROS,), "Tensor, wanted two tensors"),
        ((ZEROS,) * 3, "Tensor, Tensor, Tensor, wanted two tensors"),
        ((None, None), "NoneType, NoneType, wanted two tensors"),
        ((), "nothing, wanted two tensors"),
        ("hc", "str, wanted two tensors, hidden and cell, or None"),
        ((ZEROS.numpy(), ZEROS.numpy()), "ndarray, ndarray, wanted two tensors"),
    ],
)
def test_a_state_that_is_no_pair_of_memories_is_told_in_one_line(state, words):
    with pytest.raises((ValueError, TypeError), match=f"^state: {words}"):
        ConvLSTMCell(3, 2)(torch.rand(1, 3, 9, 14), state)


def test_frames_are_arrays_or_tensors_and_nothing_else():
    cell, x = ConvLSTMCell(3, 2), torch.rand(1, 3, 9, 14)
    assert torch.equal(cell(x.numpy()).hidden, cell(x).hidden)
    with pytest.raises(TypeError, match="^x: NoneType, wanted numbers"):
        cell(None)


def test_states_of_any_shape_are_taken_apart_and_put_together():
    a, b = torch.rand(2, requires_grad=True), torch.rand(3, dtype=torch.float64)
    state = (CellState(a, b), [None, {"x": a * 2}])
    parts = state_tensors(state)
    assert [tuple(p.shape) for p in parts] == [(2,), (3,), (2,)]
    again = filled_state(state, [p + 1 for p in parts])
    assert isinstance(again[0], CellState) and again[1][0] is None
    assert torch.equal(again[0].cell, b + 1) and torch.equal(again[1][1]["x"], a * 2 + 1)
    loose = detach_state(state)
    assert not any(p.requires_grad for p in state_tensors(loose))
    assert state_tensors(None) == [] and filled_state(None, []) is None


def test_a_convolution_that_does_not_fit_is_named():
    x = torch.zeros(1, 3, 9, 20)
    with pytest.raises(TypeError, match="conv: a Conv2d, wanted what makes one"):
        ConvLSTMCell(3, 4, conv=nn.Conv2d(7, 16, 3))
    with pytest.raises(ValueError, match=r"conv: answers \(1, 16, 7, 18\), wanted"):
        ConvLSTMCell(3, 4, conv=lambda i, o: nn.Conv2d(i, o, 3))(x)
    with pytest.raises(ValueError, match=r"conv: answers \(1, 4, 9, 20\)"):
        ConvLSTMCell(3, 4, conv=lambda i, o: nn.Conv2d(i, o // 4, 1))(x)
    with pytest.raises(TypeError, match="x: dtype torch.uint8"):
        ConvLSTMCell(3, 4)(x.byte())
