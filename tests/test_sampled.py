"""The one operator against the readable reference: value and gradient, both orders, any pattern."""

import gc
import math
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sal360 import patterns
from sal360._tables import HELD
from sal360.nn import CrownConv2d, SphereConv2d, reads, sampled_conv2d
from sal360.nn.reads import _KEPT, reads_of
from sal360.nn.sampled import read


def plain(x, weight, pattern, groups=1, mode="bilinear"):
    """All samples of all kernels at once, then one sum."""
    seen = pattern.read(x, mode).unflatten(1, (groups, -1))
    kernel = weight.flatten(2).unflatten(0, (groups, -1))
    return torch.einsum("bgcknm,gock->bgonm", seen, kernel).flatten(1, 2)


def made(kind, H, W, stride):
    if kind == "crown":
        return patterns.crown_pattern(H, W, (3, 4), math.pi, stride)
    if kind == "small crown":
        return patterns.crown_pattern(H, W, (2, 3), 0.01, stride)
    if kind == "ring":
        return patterns.ring_pattern(H, W, None, stride)
    return patterns.tangent_pattern(H, W, 3, 1, stride)


@given(
    kind=st.sampled_from(["tangent", "crown", "small crown", "ring"]),
    size=st.sampled_from([(6, 12), (7, 9), (8, 5), (5, 16)]),
    stride=st.integers(1, 3),
    mode=st.sampled_from(["bilinear", "nearest", "bicubic"]),
    order=st.sampled_from([None, True, False]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_it_is_the_plain_sum_and_so_are_its_gradients(kind, size, stride, mode, order, groups):
    pattern = made(kind, *size, stride)
    order = None if groups > 1 else order
    torch.manual_seed(1)
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    w = torch.randn(8, 4 // groups, pattern.taps, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(8, dtype=torch.float64)
    wanted = plain(x, w, pattern, groups, mode) + bias[:, None, None]
    got = sampled_conv2d(x, w, pattern, bias, groups, mode, order)
    assert got.shape == wanted.shape and torch.allclose(got, wanted, atol=1e-12)
    pull = torch.randn_like(wanted)
    for a, b in zip(
        torch.autograd.grad(got, (x, w), pull), torch.autograd.grad(wanted, (x, w), pull),
        strict=True,
    ):  # fmt: skip
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("order", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_once_and_twice(order, stride):
    pattern = patterns.tangent_pattern(5, 8, 3, 1, stride)
    x = torch.randn(2, 2, 5, 8, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def layer(x, w, b):
        return sampled_conv2d(x, w, pattern, b, project_first=order)

    assert torch.autograd.gradcheck(layer, (x, w, b))
    assert torch.autograd.gradgradcheck(layer, (x, w, b))


@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_the_tables_are_transposes_of_each_other(products, stride):
    pattern = patterns.crown_pattern(9, 14, (3, 5), 1.2, stride)
    reads = reads_of(pattern, dtype=torch.float64, products=products)
    inputs = 9 * 14 * (pattern.taps if products else 1)
    outputs = len(reads.forward.starts)
    dense = read(torch.eye(inputs, dtype=torch.float64), reads)
    back = read(torch.eye(outputs, dtype=torch.float64), reads.adjoint)
    assert dense.shape == (outputs, inputs)
    assert torch.allclose(dense, back.t(), atol=1e-15)
    if not products:
        assert torch.allclose(dense.sum(1), torch.ones(outputs, dtype=torch.float64))


def test_a_tap_on_a_pixel_reads_one_pixel():
    """The middle column of a tangent kernel stands on pixels: 27 reads, not 36."""
    reads = reads_of(patterns.tangent_pattern(64, 128))
    assert len(reads.forward.rows) == 27 * 64 * 128
    assert reads.bytes == 2 * (27 * 8 + 4) * 64 * 128 + 4 * (9 - 1) * 64 * 128


def test_tables_live_as_long_as_their_pattern():
    gc.collect()
    before = len(_KEPT)
    pattern = patterns.tangent_pattern(6, 8)
    assert reads_of(pattern) is reads_of(pattern)
    assert reads_of(pattern) is not reads_of(pattern, dtype=torch.float64)
    assert len(_KEPT) == before + 1
    del pattern
    gc.collect()
    assert len(_KEPT) == before


def test_tables_made_without_gradients_serve_training_afterwards():
    pattern = patterns.tangent_pattern(6, 8)
    w = torch.rand(1, 2, 9, requires_grad=True)
    with torch.inference_mode():
        sampled_conv2d(torch.rand(1, 2, 6, 8), w, pattern)
    sampled_conv2d(torch.rand(1, 2, 6, 8), w, pattern).sum().backward()
    assert w.grad.abs().sum() > 0


def test_strides_of_the_input_do_not_matter():
    pattern = patterns.tangent_pattern(6, 8)
    w = torch.rand(5, 3, 9)
    x = torch.rand(2, 3, 6, 8)
    wanted = sampled_conv2d(x, w, pattern)
    odd = torch.rand(2, 8, 6, 6).transpose(1, 3)[:, ::2]
    odd.copy_(x)
    for same in (x.contiguous(memory_format=torch.channels_last), odd):
        assert not same.is_contiguous()
        assert torch.equal(sampled_conv2d(same, w, pattern), wanted)
    assert wanted.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    pattern = patterns.tangent_pattern(6, 8)
    x, w = torch.rand(1, 3, 6, 8), torch.rand(4, 3, 9)
    half = sampled_conv2d(x.to(dtype), w.to(dtype), pattern)
    exact = sampled_conv2d(x.to(dtype).float(), w.to(dtype).float(), pattern)
    assert half.dtype == dtype and torch.equal(half, exact.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sampled_conv2d(x, w, pattern), sampled_conv2d(x, w, pattern).float())
        under = sampled_conv2d(x, w, pattern)
    assert torch.equal(under, sampled_conv2d(x, w, pattern))


X, W = torch.rand(1, 4, 6, 8), torch.rand(2, 4, 9)


@pytest.mark.parametrize(
    ("error", "named", "arguments"),
    [
        (ValueError, "x", {"x": torch.rand(4, 6, 8)}),
        (ValueError, "x: 8 x 8 pixels", {"x": torch.rand(1, 4, 8, 8)}),
        (TypeError, "x", {"x": torch.ones(1, 4, 6, 8, dtype=torch.int32)}),
        (ValueError, "weight", {"weight": torch.rand(2, 3, 9)}),
        (ValueError, "weight", {"weight": torch.rand(2, 4, 5, 5)}),
        (ValueError, "weight", {"weight": torch.rand(9)}),
        (ValueError, "bias", {"bias": torch.rand(3)}),
        (ValueError, "groups: 3", {"groups": 3}),
        (ValueError, "groups: 4", {"groups": 4, "weight": torch.rand(2, 1, 9)}),
        (ValueError, "groups: 2", {"groups": 2, "weight": W[:, :2], "project_first": True}),
        (TypeError, "x: torch.float64", {"x": X.double()}),
        (ValueError, "mode", {"mode": "linear"}),
        (ValueError, "x: on meta", {"x": X.to("meta")}),
        (ValueError, "x: on cpu, bias: on meta", {"bias": torch.rand(2, device="meta")}),
        (ValueError, r"weight: shape \(0, 4, ", {"weight": W[:0]}),
        (TypeError, "weight: dtype torch.complex64", {"weight": W.cfloat() * 1j}),
        (TypeError, "weight: dtype torch.int64", {"weight": W.long()}),
        (TypeError, "weight: NoneType", {"weight": None}),
        (TypeError, "bias: dtype torch.complex64", {"bias": torch.rand(2).cfloat() * 1j}),
        (TypeError, "bias: str, wanted numbers", {"bias": "no"}),
        (TypeError, "pattern: int, wanted a Pattern", {"pattern": 3}),
        (TypeError, "groups: 1.0, wanted a whole number", {"groups": 1.0}),
        (TypeError, "groups: '1', wanted a whole number", {"groups": "1"}),
        (ValueError, r"mode: \['x'\], wanted one of", {"mode": ["x"]}),
    ],
)
def test_bad_input_is_named(error, named, arguments):
    pattern = patterns.tangent_pattern(6, 8)
    with pytest.raises(error, match=f"^{named}"):
        sampled_conv2d(**({"x": X, "weight": W, "pattern": pattern} | arguments))


def test_arrays_serve_as_weights():
    pattern, bias = patterns.tangent_pattern(6, 8), torch.rand(2)
    plain = sampled_conv2d(X.numpy(), W.numpy(), pattern, bias.numpy())
    assert torch.equal(plain, sampled_conv2d(X, W, pattern, bias))


def test_a_layer_with_complex_weights_is_refused():
    layer = SphereConv2d(4, 2)
    layer.weight = torch.nn.Parameter(layer.weight.detach().cfloat() * 1j)
    with pytest.raises(TypeError, match="^weight: dtype torch.complex64, wanted real"):
        layer(X)


def test_more_reads_than_an_index_can_count_are_refused():
    pattern = patterns.crown_pattern(1024, 2048, (17, 16), 0.1)
    with pytest.raises(ValueError, match=r"^pattern: .* 2\^31"):
        sampled_conv2d(torch.rand(1, 1, 1024, 2048), torch.rand(1, 1, 17 * 16), pattern)


@pytest.mark.parametrize(
    "name", ["lookup-unet", "spherical-unet", "sst-sal-noflow", "cube-unet", "cp360"]
)
def test_networks_compile_whole(name):
    """No program is cut in two where a layer asks for its table; gradients are the same."""
    from sal360.models import load_model
    from sal360.nn import cube
    from sal360.projections import clear_tables

    clear_tables()  # as in a new process: tables are made while the compiler looks on
    cube.cube_rim.cache_clear()
    torch.manual_seed(0)
    model = load_model(name, size="small")
    named = "forward" if name.endswith("unet") else "step"
    whole = torch.compile(getattr(model, named), backend="aot_eager", fullgraph=HELD, dynamic=False)

    def gradients(step, x):
        given = (x, None) if named == "step" else (x[:, :3], x[:, 3:])
        out = step(*given)
        maps = out[0] if named == "step" else out
        learned = [p for p in model.parameters() if p.requires_grad]
        return torch.autograd.grad(maps.square().sum(), learned)

    for size in ((16, 32), (12, 24)):
        x = torch.rand(1, 3 + (named == "forward"), *size)
        pairs = zip(gradients(whole, x), gradients(getattr(model, named), x), strict=True)
        for got, wanted in pairs:
            assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_is_the_same_network(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(SphereConv2d(2, 4), nn.ReLU(), CrownConv2d(4, 3, (2, 4), 0.5), nn.ReLU())
    x = torch.rand(1, 2, 8, 16)
    wanted = torch.autograd.grad(model(x).square().sum(), tuple(model.parameters()))
    compiled = torch.compile(model)
    compiled(x)
    monkeypatch.setattr(reads, "_make_reads", None)  # no table may be made again
    got = torch.autograd.grad(compiled(x).square().sum(), tuple(model.parameters()))
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
