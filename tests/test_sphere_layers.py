"""Tangent, crown and ring layers, pooling and padding: what must hold on any panorama."""

import copy
import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sal360 import patterns
from sal360.nn import (
    CrownConv2d,
    PatternConv2d,
    RingConv2d,
    SphereAvgPool2d,
    SphereBlockMaxPool2d,
    SphereConv2d,
    SphereMaxPool2d,
    SpherePad2d,
    clear_tables,
    reads,
    shared,
)
from sal360.projections import sample_erp
from sal360.sphere import erp_directions, lonlat_to_xyz, pixel_area

LAYERS = {
    "tangent": lambda **o: SphereConv2d(4, 6, **o),
    "tangent 3 x 5": lambda **o: SphereConv2d(4, 6, (3, 5), **o),
    "tangent 5, dilated": lambda **o: SphereConv2d(4, 6, 5, dilation=2, **o),
    "crown": lambda **o: CrownConv2d(4, 6, (4, 8), math.pi / 8, **o),
    "crown, whole sphere": lambda **o: CrownConv2d(4, 6, (5, 7), math.pi, **o),
    "crown under a row": lambda **o: CrownConv2d(4, 6, (2, 4), 1e-4, **o),
    "crown, centre alone": lambda **o: CrownConv2d(4, 6, (1, 3), 0.2, **o),
    "ring": lambda **o: RingConv2d(4, 6, **o),
    "wide ring": lambda **o: RingConv2d(4, 6, 1.0, **o),
}
SIZES = [(16, 32), (15, 33), (17, 24), (24, 24)]
each_layer = pytest.mark.parametrize("name", LAYERS)


def plain(layer, x):
    """The layer by its own public pattern: all samples at once, one sum."""
    pattern = layer.pattern(*x.shape[-2:])
    seen = pattern.read(x, layer.mode).unflatten(1, (layer.groups, -1))
    kernel = layer.kernel().unflatten(0, (layer.groups, -1))
    out = torch.einsum("bgcknm,gock->bgonm", seen, kernel).flatten(1, 2)
    return out if layer.bias is None else out + layer.bias[:, None, None]


@each_layer
@pytest.mark.parametrize("size", SIZES)
def test_a_layer_is_its_pattern_and_its_weights(name, size):
    for options in ({}, {"stride": 2, "bias": False}, {"groups": 2}, {"mode": "bicubic"}):
        layer = LAYERS[name](**options).double()
        x = torch.rand(2, 4, *size, dtype=torch.float64)
        assert torch.allclose(layer(x), plain(layer, x), atol=1e-12)


@each_layer
@pytest.mark.parametrize("size", SIZES)
def test_a_constant_stays_constant_and_yaw_commutes(name, size):
    layer = LAYERS[name]().double()
    out = layer(torch.ones(1, 4, *size, dtype=torch.float64))
    assert (out - out[..., :1, :1]).abs().max() < 1e-10
    x = torch.rand(1, 4, *size, dtype=torch.float64)
    for turn in (1, size[1] // 3):
        assert torch.allclose(layer(x.roll(turn, 3)), layer(x).roll(turn, 3), atol=1e-12)


@each_layer
def test_gradients_are_exact(name):
    for options in ({"stride": 2}, {"groups": 2}):
        layer = LAYERS[name](**options).double()
        x = torch.randn(1, 4, 12, 18, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)
        names = [n for n, _ in layer.named_parameters()]
        values = tuple(p.detach().clone().requires_grad_() for p in layer.parameters())

        def by_weights(*given, layer=layer, names=names, x=x):
            return torch.func.functional_call(
                layer, dict(zip(names, given, strict=True)), x.detach()
            )

        assert torch.autograd.gradcheck(by_weights, values, fast_mode=True)


@each_layer
def test_the_state_dict_holds_weights_only_and_travels(name):
    layer = LAYERS[name]()
    x = torch.rand(1, 4, 16, 32)
    wanted = layer(x)
    assert set(layer.state_dict()) == {"weight", "bias"}
    twin = LAYERS[name]()
    twin.load_state_dict(layer.state_dict())
    stored = io.BytesIO()
    torch.save(layer, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=False)
    for other in (twin, copy.deepcopy(layer), loaded):
        assert torch.equal(other(x), wanted)
    clear_tables()
    assert torch.equal(layer(x), wanted)


EMPTY = {
    **LAYERS,
    "max pool": SphereMaxPool2d,
    "max pool in blocks": SphereBlockMaxPool2d,
    "mean pool": SphereAvgPool2d,
    "pad": lambda: SpherePad2d(1),
}


@pytest.mark.parametrize("name", EMPTY)
def test_no_panoramas_are_answered_with_none(name):
    """As torch's own layers have it: gradients in the weights are 0, not missing."""
    layer, x = EMPTY[name](), torch.rand(0, 4, 11, 21, requires_grad=True)
    out = layer(x)
    assert out.shape == (0, *layer(torch.rand(1, 4, 11, 21)).shape[1:])
    out.sum().backward()
    assert x.grad.shape == x.shape
    for p in layer.parameters():
        assert p.grad.shape == p.shape and not p.grad.any()
    for shape in ((1, 4, 0, 21), (1, 0, 11, 21), (4, 11, 21)):
        with pytest.raises(ValueError, match=r"x: .*wanted"):
            layer(torch.rand(shape))


def test_an_answer_lies_channels_last_in_memory():
    """As the docstring of SphereConv2d says, for those who would flatten by view."""
    for stride in (1, 2):
        out = SphereConv2d(3, 8, stride=stride)(torch.rand(2, 3, 8, 16))
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert out.reshape(2, -1).shape == (2, out[0].numel())


@pytest.fixture
def made(monkeypatch):
    """The patterns of which tables were made; nothing is kept before."""
    seen, make = [], reads._make_reads
    monkeypatch.setattr(reads, "_make_reads", lambda p, *rest: seen.append(p) or make(p, *rest))
    clear_tables()
    return seen


def test_more_sizes_than_a_few_are_kept_while_their_tables_are_small(made):
    layer = SphereConv2d(1, 1)
    for _ in range(2):
        for W in range(8, 44):
            layer(torch.zeros(1, 1, 4, W))
    assert len(made) == 36 == len(shared._KEPT)


def test_large_tables_are_let_go_but_for_those_last_asked_for(made, monkeypatch):
    layer, x = SphereConv2d(1, 1), torch.zeros(1, 1, 4, 8)
    layer(x)
    assert reads.bytes_of(layer.pattern(4, 8)) == reads.reads_of(made[0], products=True).bytes
    monkeypatch.setattr(shared, "BYTES", 3 * reads.bytes_of(layer.pattern(4, 8)))
    monkeypatch.setattr(shared, "ALWAYS", 2)
    for W in (9, 10, 8, 11, 12):  # the first is asked for again
        layer(torch.zeros(1, 1, 4, W))
    assert [key[2] for key in shared._KEPT] == [8, 11, 12] and len(made) == 5
    layer(x)
    assert len(made) == 5
    layer(torch.zeros(1, 1, 4, 9))
    assert len(made) == 6


@each_layer
def test_noise_comes_out_as_loud_as_from_an_ordinary_convolution(name):
    torch.manual_seed(0)
    x = torch.randn(1, 64, 16, 32)
    layer = LAYERS[name]().__class__
    arguments = {
        SphereConv2d: {},
        CrownConv2d: {"kernel_size": (4, 8), "radius": math.pi / 2},
        RingConv2d: {},
    }[layer]
    ours = layer(64, 64, bias=False, mode="nearest", **arguments)(x).var()
    theirs = nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular", bias=False)(x).var()
    assert 0.6 < ours / theirs < 1.6


def test_at_the_equator_it_is_an_ordinary_convolution():
    torch.manual_seed(0)
    planar = nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular").double()
    sphere = SphereConv2d(3, 5).double()
    sphere.load_state_dict(planar.state_dict())
    x = torch.rand(1, 3, 257, 512, dtype=torch.float64)
    off = (planar(x) - sphere(x)).abs()[:, :, 128].max()  # row 128 is the equator itself
    assert off < 1e-4 * planar(x).abs().max()


def test_the_kernel_points_up_and_right():
    """A single weight reads the neighbour above, or to the right, at the equator."""
    for place, step in (((0, 1), (1, 2)), ((1, 2), (-1, 3))):
        layer = SphereConv2d(1, 1, bias=False)
        nn.init.zeros_(layer.weight)
        layer.weight.data[0, 0][place] = 1
        x = torch.rand(1, 1, 65, 130)
        assert torch.allclose(layer(x)[0, 0, 32], x.roll(*step)[0, 0, 32], atol=1e-3)


def test_over_the_pole_lies_the_same_row_half_a_turn_away():
    layer = SphereConv2d(1, 1, bias=False).double()
    nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 0, 1] = 1  # looks one row up
    x = torch.rand(1, 1, 8, 16, dtype=torch.float64)
    assert torch.allclose(layer(x)[0, 0, 0], x[0, 0, 0].roll(8), atol=1e-12)


def test_a_kernel_that_reaches_a_right_angle_is_refused():
    with pytest.raises(ValueError, match=r"^kernel_size: .* reaches 90 degrees"):
        SphereConv2d(1, 1, 5)(torch.rand(1, 1, 4, 64))
    assert SphereConv2d(1, 1, 1)(torch.rand(1, 1, 1, 1)).shape == (1, 1, 1, 1)


def test_the_smallest_crowns_have_the_shares_of_a_plane():
    wanted = CrownConv2d(1, 1, (4, 8), 1e-6).tap_weights()
    for radius in (1e-30, 1e-170, 5e-324):  # squares of the last two are 0
        layer = CrownConv2d(1, 1, (4, 8), radius)
        assert torch.allclose(layer.tap_weights(), wanted, rtol=1e-9)
        assert torch.isfinite(layer(torch.ones(1, 1, 5, 10))).all()


@pytest.mark.parametrize("radius", [1e-6, math.pi / 32, math.pi / 4, math.pi / 2, 3.0, math.pi])
@pytest.mark.parametrize("taps", [(1, 4), (2, 3), (4, 8), (8, 16)])
def test_crown_shares_are_the_areas_that_taps_stand_for(radius, taps):
    layer = CrownConv2d(1, 1, taps, radius)
    shares = layer.tap_weights()
    assert shares.shape == taps and abs(shares.sum() - 1) < 1e-12
    if taps[0] > 1:  # brute force: which tap is nearest, counted on a fine polar grid
        n = 20_000
        away = (torch.arange(n, dtype=torch.float64) + 0.5) / n * radius
        nearest = torch.round(away / radius * (taps[0] - 1)).long()
        area = torch.zeros(taps[0], dtype=torch.float64).index_add(0, nearest, torch.sin(away))
        assert torch.allclose(shares.sum(1), area / area.sum(), atol=2e-4)


def test_ones_on_ones_are_one_in_every_row_of_every_published_setting():
    for H, W, taps, radius in (
        (128, 256, (8, 16), math.pi / 32), (64, 128, (4, 8), math.pi / 16),
        (32, 64, (4, 8), math.pi / 4), (16, 32, (8, 16), math.pi),
    ):  # fmt: skip
        layer = CrownConv2d(1, 1, taps, radius, bias=False)
        nn.init.ones_(layer.weight)
        out = layer(torch.ones(1, 1, H, W))
        assert (out - 1).abs().max() < 1e-5  # 0.02 is asked for; the published rows fall to 1/7


def test_a_crown_integrates_a_smooth_picture_over_its_cap():
    """Against the cap's mean of z by hand: (1 + cos r) / 2 of z at the centre."""
    z = erp_directions(64, 128)[..., 2][None, None]
    for radius, taps in ((0.3, (4, 8)), (1.5, (8, 16)), (math.pi, (8, 16))):
        layer = CrownConv2d(1, 1, taps, radius, bias=False).double()
        nn.init.ones_(layer.weight)
        off = (layer(z) - z * (1 + math.cos(radius)) / 2).abs().max()
        assert off < 0.015


def test_weights_of_one_place_are_added_up():
    layer = CrownConv2d(2, 3, (4, 8), math.pi)
    assert layer.kernel().shape == (3, 2, 1 + 2 * 8 + 1)
    assert layer.pattern(16, 32).taps == 18
    full = layer.weight.flatten(2) * layer.tap_weights().flatten()
    assert torch.allclose(layer.kernel().sum(2), full.sum(2).float(), atol=1e-6)


def test_strides_and_dilations_may_come_as_torchs_layers_keep_them():
    x, conv = torch.rand(1, 2, 16, 32), nn.Conv2d(2, 3, 3, stride=2, dilation=2)
    layer = SphereConv2d(2, 3, conv.kernel_size, conv.stride, dilation=conv.dilation)
    other = SphereConv2d(2, 3, 3, 2, dilation=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), other(x)) and repr(layer) == repr(other)
    assert RingConv2d(2, 3, stride=[2, 2]).stride == 2
    assert CrownConv2d(2, 3, (3, 8), 0.5, stride=(2, 2)).stride == 2
    pool = SphereMaxPool2d((3, 3), (2, 2), (1, 1))
    assert torch.equal(pool(x), SphereMaxPool2d(3, 2, 1)(x))
    assert repr(pool) == repr(SphereMaxPool2d(3, 2, 1))
    for wrong in ((1, 2), (1,), (1, 1, 1)):
        with pytest.raises(ValueError, match="^stride: .*, wanted one number, or the same for"):
            SphereConv2d(2, 3, stride=wrong)
        with pytest.raises(ValueError, match="^dilation: .*, wanted one number"):
            SphereConv2d(2, 3, dilation=wrong)
        with pytest.raises(ValueError, match="^kernel_size: .*, wanted one number"):
            SphereMaxPool2d(wrong)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_max_pool_takes_the_greatest_sample(size, stride):
    pool = SphereMaxPool2d(3, stride)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    wanted = patterns.tangent_pattern(*size, 3, 1, stride).read(x).amax(2)
    got = pool(x)
    assert torch.allclose(got, wanted, atol=1e-12)
    pull = torch.randn_like(got)
    a, b = (torch.autograd.grad(out, x, pull)[0] for out in (got, wanted))
    assert torch.allclose(a, b, atol=1e-12)
    assert (pool(torch.full((1, 1, *size), -3.0)) + 3).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(8, 16), (9, 16), (7, 13), (1, 1), (3, 40)])
@pytest.mark.parametrize("kernel", [1, 2, 3, (1, 4), (5, 64)])
def test_average_pool_keeps_integrals(size, kernel):
    pool = SphereAvgPool2d(kernel)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    area = pixel_area(*size)[:, None].expand(size)
    rows, cols = (kernel, kernel) if isinstance(kernel, int) else kernel
    out = pool(x)
    assert out.shape[-2:] == (-(-size[0] // rows), -(-size[1] // cols))
    blocks = torch.zeros(out.shape[-2:], dtype=torch.float64)
    i = (torch.arange(size[0]) // rows)[:, None].expand(size)
    j = (torch.arange(size[1]) // cols).expand(size)
    blocks.index_put_((i, j), area, accumulate=True)
    assert torch.allclose((out * blocks).sum((2, 3)), (x * area).sum((2, 3)), atol=1e-12)
    assert torch.allclose(pool(torch.ones_like(x)), torch.ones_like(out))


@pytest.mark.parametrize("size", [(4, 8), (5, 7), (1, 4), (3, 1)])
@pytest.mark.parametrize("padding", [0, 1, 2, (3, 0, 1, 2), (9, 8, 0, 0), (0, 0, 9, 12)])
def test_padding_is_what_lies_over_seam_and_pole(size, padding):
    H, W = size
    x = torch.rand(2, 3, H, W, dtype=torch.float64)
    left, right, top, bottom = (padding,) * 4 if isinstance(padding, int) else padding
    lat = (0.5 - (torch.arange(-top, H + bottom).double() + 0.5) / H) * math.pi
    lon = ((torch.arange(-left, W + right).double() + 0.5) / W - 0.5) * 2 * math.pi
    wanted = sample_erp(x, lonlat_to_xyz(lon, lat[:, None]))
    assert torch.allclose(SpherePad2d(padding)(x), wanted, atol=1e-9)
    assert SpherePad2d(tuple(np.array((left, right, top, bottom)))).padding == (
        left, right, top, bottom)  # fmt: skip


def test_an_ordinary_convolution_on_a_padded_panorama_turns_with_it():
    conv = nn.Sequential(SpherePad2d(1), nn.Conv2d(2, 3, 3)).double()
    x = torch.rand(1, 2, 8, 16, dtype=torch.float64)
    assert torch.allclose(conv(x.roll(5, 3)), conv(x).roll(5, 3))
    half_turn = x.flip(2).flip(3)  # the panorama upside down
    flipped = F.conv2d(SpherePad2d(1)(half_turn), conv[1].weight.flip(2, 3), conv[1].bias)
    assert torch.allclose(flipped, conv(x).flip(2).flip(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_everywhere(dtype):
    x = torch.rand(1, 4, 16, 32)
    for layer in (*(make() for make in LAYERS.values()), SphereMaxPool2d(), SphereAvgPool2d()):
        exact, half = layer(x), copy.deepcopy(layer).to(dtype)(x.to(dtype))
        assert half.dtype == dtype
        assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_training_moves_every_weight():
    torch.manual_seed(0)
    model = nn.Sequential(
        SphereConv2d(3, 8), nn.ReLU(), SphereMaxPool2d(), CrownConv2d(8, 8, (3, 6), 0.5),
        SphereAvgPool2d(), RingConv2d(8, 4),
    )  # fmt: skip
    model(torch.rand(2, 3, 16, 32)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() >= 0, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("error", "named", "make"),
    [
        (ValueError, "kernel_size", lambda: SphereConv2d(1, 1, 2)),
        (ValueError, "kernel_size", lambda: SphereConv2d(1, 1, (3, 4))),
        (TypeError, "kernel_size", lambda: SphereConv2d(1, 1, 3.0)),
        (ValueError, "in_channels", lambda: SphereConv2d(0, 1)),
        (ValueError, "groups", lambda: SphereConv2d(4, 6, groups=4)),
        (ValueError, "stride", lambda: SphereConv2d(1, 1, stride=0)),
        (ValueError, "dilation", lambda: SphereConv2d(1, 1, dilation=0)),
        (ValueError, "mode", lambda: SphereConv2d(1, 1, mode="cubic")),
        (ValueError, "kernel_size", lambda: CrownConv2d(1, 1, 4, 0.1)),
        (ValueError, "radius", lambda: CrownConv2d(1, 1, (4, 8), 0.0)),
        (ValueError, "radius: 11.25.*degrees", lambda: CrownConv2d(1, 1, (4, 8), 11.25)),
        (ValueError, "radius", lambda: RingConv2d(1, 1, -1.0)),
        (ValueError, "kernel_size", lambda: SphereMaxPool2d(2)),
        (ValueError, "kernel_size", lambda: SphereAvgPool2d(0)),
        (ValueError, "padding", lambda: SpherePad2d(-1)),
        (ValueError, "padding", lambda: SpherePad2d((1, 2))),
        (TypeError, "padding: 1.5, wanted a whole", lambda: SpherePad2d(1.5)),
        (TypeError, "padding: True, wanted a whole", lambda: SpherePad2d((1, 1, 1, True))),
        (ValueError, "x: 2 channels", lambda: SphereConv2d(1, 1)(torch.rand(1, 2, 4, 8))),
        (ValueError, "x: shape", lambda: SphereConv2d(1, 1)(torch.rand(1, 4, 8))),
        (ValueError, "x: shape", lambda: SpherePad2d(1)(torch.rand(1, 1, 0, 8))),
        (TypeError, "x", lambda: SphereMaxPool2d()(torch.ones(1, 1, 4, 8, dtype=torch.uint8))),
    ],
)
def test_bad_input_is_named(error, named, make):
    with pytest.raises(error, match=f"^{named}"):
        make()


@pytest.mark.parametrize("pi", [np.float32(math.pi), torch.tensor(math.pi)])
def test_the_whole_sphere_in_single_precision_is_the_whole_sphere(pi):
    assert CrownConv2d(1, 1, (4, 8), pi).radius == RingConv2d(1, 1, pi).radius == math.pi
    with pytest.raises(ValueError, match=r"^radius: .*degrees"):
        CrownConv2d(1, 1, (4, 8), math.pi + 1e-5)


@pytest.mark.parametrize("layer", [SphereAvgPool2d(), SphereMaxPool2d(), SpherePad2d(1)])
def test_the_default_device_is_not_asked_where_an_image_is(layer):
    x = torch.rand(1, 2, 5, 11)
    wanted = layer(x)
    with torch.device("meta"):
        assert torch.equal(layer(x), wanted)
        assert layer(x.to("meta")).shape == wanted.shape


def test_the_base_needs_a_pattern():
    with pytest.raises(NotImplementedError):
        PatternConv2d(1, 1, (3, 3))(torch.rand(1, 1, 4, 8))


def test_printing_names_what_matters():
    text = repr(CrownConv2d(3, 4, (4, 8), math.pi / 4, stride=2, bias=False, mode="bicubic"))
    for part in (
        "3, 4",
        "kernel_size=(4, 8)",
        "stride=2",
        "bias=False",
        "bicubic",
        "radius=0.7854",
    ):
        assert part in text
