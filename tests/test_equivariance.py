"""The measure measured: layers whose answers are known, in closed form or by their faults."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sal360 import patterns, sphere, upstream
from sal360.cubemap import cube_directions
from sal360.nn import CubePad2d, SphereConv2d, answers, to_cube_padded
from sal360.nn.equivariance import Equivariance, check_equivariance

LAPLACIAN = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]])[None, None]


class Tangent(nn.Module):
    """The readable layer: what the tangent kernels see, times weights."""

    def __init__(self, weight=None, stride=1, mode="bilinear"):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, 3, 3, 3) if weight is None else weight.clone())
        self.in_channels, self.stride, self.mode = self.weight.shape[1], stride, mode

    def forward(self, x):
        pattern = patterns.tangent_pattern(*x.shape[-2:], stride=self.stride)
        read = pattern.read(x, self.mode)
        return torch.einsum("ock,bckij->boij", self.weight.flatten(2), read)


class Latitude(nn.Module):
    """Adds where it is to what it sees: turns keep it, tilts do not."""

    def forward(self, x):
        return x + torch.linspace(-1, 1, x.shape[-2], dtype=x.dtype)[:, None]


def asked(layer, **options):
    return check_equivariance(layer, **{"H": 32, "W": 64, "axes": 2, **options})


def test_the_identity_has_no_fault():
    found = asked(nn.Identity(), in_channels=3)
    assert found.constant == found.yaw == found.adjoint == 0
    assert max(found.tilt) < max(found.floor) < 2e-3
    assert found.seam < 0.1 and found.pole < 0.2 and found.gradient < 1e-9
    assert (found.size, found.out, found.pixels) == ((32, 64), (32, 64), "same")


@pytest.mark.parametrize(
    ("layer", "bound"), [(nn.Tanh(), 2e-3), (torch.tanh, 2e-3), (nn.ReLU(), 0.02)]
)
def test_what_acts_on_every_pixel_alone_is_equivariant(layer, bound):
    found = check_equivariance(layer, axes=2)
    assert found.yaw == 0 and found.constant == 0
    assert max(found.tilt) < bound and found.seam < 0.2
    assert found.adjoint is None and found.gradient < 1e-4


def test_the_floor_falls_with_the_size():
    """Six points each way: halving the pixels divides the error by about 2 ** 6."""
    small, large = (
        check_equivariance(nn.Identity(), H=H, W=2 * H, tilts=(50,), axes=2) for H in (24, 48)
    )
    assert 30 < small.floor[0] / large.floor[0] < 130


def test_a_zero_padded_convolution_has_every_fault():
    torch.manual_seed(0)
    found = asked(nn.Conv2d(3, 4, 3, padding=1))
    assert found.constant > 0.5 and found.yaw > 0.5 and found.seam > 2
    assert max(found.tilt) > 0.1
    assert found.adjoint < 1e-12 and found.gradient < 1e-9


def test_circular_padding_mends_the_turn_and_not_the_tilt():
    torch.manual_seed(0)
    found = asked(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"))
    assert found.constant < 1e-12 and found.yaw < 1e-12 and found.seam < 0.1
    assert found.pole > 0.5 and found.tilt[1] > 0.1


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_pattern_turns_exactly_whatever_its_weights(mode):
    found = asked(Tangent(mode=mode))
    assert found.constant < 1e-12 and found.yaw < 1e-12 and found.seam < 0.1
    assert found.adjoint < 1e-12 and found.gradient < 1e-9


def test_an_isotropic_kernel_tilts_as_well_as_it_is_read():
    bilinear = check_equivariance(Tangent(LAPLACIAN), axes=2)
    bicubic = check_equivariance(Tangent(LAPLACIAN, mode="bicubic"), axes=2)
    assert min(bilinear.tilt) > 0.02 and max(bilinear.tilt) < 0.06
    assert max(bicubic.tilt) < 0.004


@pytest.mark.parametrize(("mode", "bound"), [("bilinear", 0.05), ("bicubic", 0.002)])
def test_the_layer_of_the_package_stays_within_a_twentieth(mode, bound):
    layer = SphereConv2d(1, 1, mode=mode)
    layer.weight.data = LAPLACIAN.clone()
    found = check_equivariance(layer, H=128, W=256, axes=2)
    assert max(found.tilt) < bound and found.yaw < 1e-12 and found.constant < 1e-10


def test_an_oriented_kernel_cannot_tilt():
    edge = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    found = asked(Tangent(edge, mode="bicubic"))
    assert found.yaw < 1e-12 and found.constant < 1e-10
    assert found.tilt[0] > 0.1 and found.tilt[1] > 0.5


def test_the_published_convolution_shows_its_faults():
    found = check_equivariance(
        lambda x: upstream.sphere_conv2d(x, LAPLACIAN.to(x)), H=128, W=256, axes=1
    )
    assert found.tilt[0] > 1.0 and 1.0 < found.tilt[1] < 1.6
    assert found.constant > 0.5 and found.yaw > 0.5 and found.seam > 10 and found.pole > 5


@pytest.mark.parametrize(
    ("layer", "kind", "bound"),
    [(Tangent(LAPLACIAN, 2, "bicubic"), "strided", 0.02), (nn.AvgPool2d(2), "cells", 0.02)],
)
def test_a_strided_answer_is_read_where_its_pixels_lie(layer, kind, bound):
    found = check_equivariance(layer, axes=2)
    assert (found.out, found.pixels) == ((32, 64), kind)
    assert found.yaw < 1e-12 and max(found.tilt) < bound and found.seam < 0.2
    other = {"strided": "cells", "cells": "strided"}[kind]
    assert f"64 x 128 to 32 x 64, {kind}" in str(found) and other not in str(found)


def test_odd_heights_and_larger_answers():
    assert asked(Tangent(stride=2), H=33).out == (17, 32)
    found = asked(nn.Upsample(scale_factor=2, mode="nearest"))
    assert found.out == (64, 128) and found.yaw == 0 and found.pixels == "cells"


def test_where_a_layer_stands_may_not_enter():
    found = asked(Latitude())
    assert found.yaw < 1e-12 and found.tilt[1] > 0.2 and found.constant > 0.5


def test_no_tilt_is_no_error_even_where_a_turn_is_one():
    def longitude(x):
        lon, _ = sphere.xyz_to_lonlat(sphere.erp_directions(*x.shape[-2:]))
        return x + torch.sin(lon).to(x)

    found = asked(longitude, tilts=(0.0,))
    assert found.tilt[0] < 1e-4 and found.yaw > 0.5


def test_a_gradient_that_never_arrives_is_found():
    def detached(x):
        return F.pad(x.detach(), (1, 1, 1, 1), mode="circular")[..., 1:-1, 1:-1]

    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.linspace(0.9, 1.1, grad.shape[-2]).to(grad)[:, None] ** 3

    assert asked(detached).gradient == 1 and asked(detached).adjoint == 1
    found = asked(Half.apply)
    assert found.adjoint > 1e-3 and found.gradient > 1e-3


class KeepsItsWeights(nn.Module):
    """A convolution whose own gradient is right for the input and lost on the way to a weight."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(weight)
            return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight)

        @staticmethod
        def backward(ctx, grad):
            (weight,) = ctx.saved_tensors
            turned = weight.flip(2, 3).transpose(0, 1)
            return F.conv2d(F.pad(grad, (1, 1, 1, 1), mode="circular"), turned), None

    def __init__(self, also=False):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(1, 1, 3, 3))
        self.gain = nn.Parameter(torch.ones(())) if also else None

    def forward(self, x):
        answer = self.Function.apply(x, self.weight)
        return answer if self.gain is None else self.gain * answer


@pytest.mark.parametrize("also", [False, True])
def test_a_gradient_that_never_arrives_at_the_weights_is_found(also):
    found = asked(KeepsItsWeights(also))
    assert found.adjoint < 1e-12 and found.gradient < 1e-9
    assert found.weights == pytest.approx(1) if not also else 0.1 < found.weights < 10
    assert "weights" in dict(found.table())


def test_the_weights_of_sound_layers_are_sound_and_without_any_nothing_is_asked():
    torch.manual_seed(0)
    net = nn.Sequential(SphereConv2d(2, 3), nn.BatchNorm2d(3), nn.Tanh(), SphereConv2d(3, 1))
    assert asked(net).weights < 1e-8
    assert asked(nn.Conv2d(2, 3, 3, padding=1).bfloat16()).weights < 1e-8
    assert asked(nn.Tanh()).weights is None and asked(torch.tanh).weights is None
    frozen = nn.Conv2d(1, 1, 1).requires_grad_(False)
    assert asked(frozen).weights is None and "weights" not in str(asked(frozen))

    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(17, dtype=torch.complex64))

        def forward(self, x):
            return torch.fft.irfft(torch.fft.rfft(x.float(), dim=-2).mT * self.weight, n=32).mT

    assert asked(Complex()).weights < 1e-3


def test_a_layer_that_draws_or_remembers_is_told_in_one_line():
    dropout = nn.Dropout(0.5)
    assert asked(dropout).repeat == 0 and "repeat" not in str(asked(dropout))
    drawn = asked(lambda x: F.dropout(x, 0.5))
    assert drawn.repeat > 1
    assert "off when asked again: it draws or remembers" in str(drawn).splitlines()[-1]


class TestCube:
    def test_the_identity_has_no_fault(self):
        found = asked(nn.Identity(), in_channels=2, grid="cube", W=128)
        assert found.constant == found.yaw == 0 and max(found.tilt) < 1e-3
        assert found.seam < 0.05 and found.pole < 0.05
        assert (found.size, found.grid) == ((32, 32), "cube")

    def test_zero_padding_shows_at_every_edge_and_corner(self):
        torch.manual_seed(0)
        found = asked(nn.Conv2d(2, 3, 3, padding=1), grid="cube")
        assert found.constant > 0.5 and found.seam > 2 and found.pole > 2 and found.tilt[1] > 0.2
        assert found.yaw == 0  # the four side faces look alike, faults and all

    def test_a_single_bad_edge_is_found(self):
        def bad(x):  # (B, 6, C, S, S) alone: one row of the upper face
            assert x.ndim == 5
            y = x.clone()
            y[:, 4, :, -1] = 0
            return y

        found = asked(bad, grid="cube")
        assert found.seam > 1 and found.yaw == 0
        side = asked(lambda x: torch.cat((-x[:, :1], x[:, 1:]), 1), grid="cube")
        assert side.yaw > 1

    @pytest.mark.parametrize("size", [32, 30])
    def test_what_jumps_at_an_edge_by_right_is_told(self, size):
        """``rim`` is what the kernel makes of the field itself beyond the edges."""
        layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        layer.weight.data = LAPLACIAN.clone()
        plain, copied, read = (
            asked(made, H=2 * size, W=4 * size, grid="cube")
            for made in (layer, to_cube_padded(layer), to_cube_padded(layer, "reproject"))
        )
        source = torch.Generator().manual_seed(0)
        torch.randn(6, 1, size, size, generator=source, dtype=torch.float64)
        torch.randn(1, generator=source, dtype=torch.float64)
        field = answers.Field(1, 8, source)
        flat = cube_directions(1)
        wide = flat + (cube_directions(size + 2) - flat) * (size + 2) / size
        exact = F.conv2d(field(wide / wide.norm(dim=-1, keepdim=True)), LAPLACIAN.double())
        cube = answers.Cube("same", (size, size), (size, size))
        wanted = tuple(float(jump / cube.step(exact)) for jump in cube.jumps(exact))
        for found in (plain, copied, read):
            assert found.rim == pytest.approx(wanted, rel=1e-9)
        assert plain.seam > 10 * plain.rim[0] > 0 and copied.pole > 2 * copied.rim[1]
        assert read.seam < 1.05 * read.rim[0] and read.rim[0] > 1
        assert f"({read.rim[0]:.2g} with an exact rim)" in dict(read.table())["edges"]

    @pytest.mark.parametrize("layer", [nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Tanh()])
    def test_what_reads_no_rim_is_as_with_an_exact_one(self, layer):
        found = asked(layer, grid="cube")
        assert found.rim == pytest.approx((found.seam, found.pole), rel=1e-9)

    def test_layers_of_one_size_have_no_rim_to_compare(self):
        def one_size(x):
            assert x.shape[-1] == 16
            return 2 * x

        assert asked(one_size, grid="cube").rim is None
        assert asked(nn.Identity()).rim is None and asked(nn.Identity()).belt is None

    def test_a_turn_that_leaks_from_above_and_below_is_told_apart(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.AvgPool2d(3, 1, 1))
        glued, plain = (asked(made, grid="cube") for made in (to_cube_padded(net), net))
        assert plain.yaw == plain.belt == 0
        assert glued.yaw > 1 and glued.belt < 1e-12
        assert "where U and D do not reach" in dict(glued.table())["yaw"]
        assert asked(CubePad2d(0), grid="cube").belt == 0
        assert asked(lambda x: x + x.mean(1, keepdim=True), grid="cube").belt is None
        side = asked(lambda x: torch.cat((-x[:, :1], x[:, 1:]), 1), grid="cube")
        assert side.belt > 1

    def test_pooling_in_faces(self):
        found = asked(nn.AvgPool2d(2), grid="cube", W=128)
        assert (found.size, found.out, found.pixels) == ((32, 32), (16, 16), "cells")
        assert max(found.tilt) < 0.02
        assert "6 x 32 x 32 to 6 x 16 x 16" in str(found) and "corners" in str(found)


def test_the_layer_is_left_untouched():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    layer[1].eval()
    layer(torch.rand(1, 3, 8, 16)).sum().backward()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    grads = [p.grad.clone() for p in layer.parameters()]
    state = torch.get_rng_state()
    asked(layer)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in layer] == [True, False, True] and layer.training
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(layer.parameters(), grads, strict=True))
    assert layer[0].weight.dtype == torch.float32


def test_the_generators_are_restored_for_layers_that_draw():
    def noisy(x):
        return x + 1e-3 * torch.rand_like(x)

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    asked(noisy)
    assert torch.equal(torch.rand(3), wanted)


def test_layers_that_refuse_double_are_asked_in_their_own_precision():
    class Single(nn.Conv2d):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError(f"{x.dtype}, wanted float32")
            return super().forward(x)

    torch.manual_seed(0)
    found = asked(Single(2, 2, 3, padding=1, padding_mode="circular"))
    assert found.dtype == torch.float32 and "float32" in str(found)
    assert found.yaw < 1e-5 and found.adjoint < 1e-5 and found.gradient < 1e-3
    weight = torch.rand(1, 1, 3, 3)
    assert asked(lambda x: F.conv2d(x, weight, padding=1)).dtype == torch.float32
    half = nn.Conv2d(1, 1, 1).bfloat16()
    assert asked(half).dtype == torch.float64 and half.weight.dtype == torch.bfloat16


def test_layers_that_overwrite_their_input_are_asked_like_others():
    found, other = asked(nn.ReLU(inplace=True)), asked(nn.ReLU())
    assert found == other and found.yaw == 0
    assert asked(lambda x: x.mul_(2)).adjoint < 1e-12


def test_a_layer_that_answers_coarsely_is_judged_by_its_answer():
    found = asked(lambda x: 3 * x.float())
    assert found.dtype == torch.float32 and found.adjoint < 1e-5 and found.gradient < 1e-3


@pytest.mark.parametrize("grid", ["erp", "cube"])
def test_a_constant_answer_has_no_fault(grid):
    found = asked(lambda x: x * 0 + 3, grid=grid)
    assert found.tilt == (0.0, 0.0)
    assert found.constant == found.yaw == found.seam == found.pole == found.gradient == 0


def test_numbers_of_numpy_serve_as_seed_and_tilts():
    found = asked(nn.Identity(), seed=np.int64(1), tilts=np.array([30.0]))
    assert found == asked(nn.Identity(), seed=1, tilts=(30.0,))


def test_it_works_where_gradients_are_off():
    with torch.inference_mode():
        found = asked(nn.Identity())
    assert found.gradient < 1e-9
    with torch.no_grad():
        assert asked(nn.Identity()).adjoint == 0


def test_seeds_repeat_and_channels_are_found():
    layer = nn.Sequential(nn.ReLU(), nn.Conv2d(5, 2, 3, padding=1))
    assert asked(layer) == asked(layer) != asked(layer, seed=1)
    with pytest.raises(ValueError, match="^layer: refuses an input of shape"):
        asked(layer, in_channels=4)


def test_it_prints_as_a_small_table():
    found = asked(nn.MaxPool2d(2), tilts=(45,))
    assert isinstance(found, Equivariance)
    rows = dict(found.table())
    assert list(rows) == [
        "constant", "yaw", "tilt 45 degrees", "seam", "poles", "adjoint", "gradient",
    ]  # fmt: skip
    assert rows["yaw"] == "exact" and rows["adjoint"] == "not linear"
    lines = str(found).splitlines()
    assert lines[0] == "MaxPool2d, 32 x 64 to 16 x 32, cells, float64" and len(lines) == 8
    assert all(math.isfinite(v) for v in (found.constant, found.seam, found.pole))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: check_equivariance(3), "layer: int, wanted a module"),
        (lambda: asked(nn.Conv2d(1, 1, 3)), "layer: makes 30 x 62 pixels of 32 x 64"),
        (lambda: asked(nn.Conv2d(1, 1, 3, padding=2)), "layer: makes 34 x 66 pixels"),
        (lambda: asked(nn.Flatten()), "layer: answers with shape"),
        (lambda: asked(lambda x: x[0]), "layer: answers with shape"),
        (lambda: asked(lambda x: (x, x)), "layer: answers with tuple, wanted a tensor"),
        (lambda: asked(lambda x: x / 0), "layer: answers NaN or infinite"),
        (lambda: asked(nn.Conv2d(3, 1, 1), in_channels=2), "layer: refuses an input of shape"),
        (lambda: asked(nn.AvgPool2d(8)), "layer: answers with 4 x 8 pixels, wanted at least"),
        (lambda: asked(Tangent(stride=3)), "layer: makes 11 x 22 pixels of 32 x 64"),
        (lambda: asked(nn.Identity(), tilts=(200,)), "tilts: "),
        (lambda: asked(nn.Identity(), tilts=("a",)), "tilts: "),
        (lambda: asked(nn.Identity(), tilts=30), r"tilts: 30, wanted a sequence of degrees"),
        (lambda: asked(nn.Identity(), seed="a"), "seed: 'a', wanted a whole number"),
        (lambda: asked(nn.Identity(), seed=1.5), "seed: 1.5, wanted a whole number"),
        (lambda: asked(lambda x: (x > 0).int()), "layer: answers with torch.int32, wanted float"),
        (lambda: asked(lambda x: x > 0), "layer: answers with torch.bool, wanted float"),
        (lambda: asked(lambda x: x + 1j), "layer: answers with torch.complex128, wanted float"),
        (lambda: asked(nn.Conv2d(1, 1, 1, device="meta")), "layer: on meta, wanted a device"),
        (lambda: asked(nn.Identity(), grid="hex"), "grid: 'hex'"),
        (lambda: asked(nn.Identity(), H=4), "H: 4, wanted at least 8"),
        (lambda: asked(nn.Identity(), axes=0), "axes: 0"),
        (lambda: asked(nn.Identity(), in_channels=0), "in_channels: 0"),
        (lambda: asked(nn.Identity(), grid="cube", W=66), "W: 66, wanted a multiple of 4"),
        (lambda: asked(lambda x: x[:, :3], grid="cube"), "layer: answers with shape"),
    ],
)
def test_bad_input_names_the_argument(call, said):
    with pytest.raises((ValueError, TypeError), match=f"^{said}"):
        call()


def test_a_module_that_cannot_be_copied_says_so():
    layer = nn.Identity()
    layer.kept = torch.rand(2, requires_grad=True) * 2
    said = r"^layer: cannot be copied \(kept is kept from a forward, with its graph: detach"
    with pytest.raises(TypeError, match=said):
        asked(layer)
    assert asked(lambda x: layer(x)).yaw == 0


def test_the_smoothest_fields_are_the_hardest_for_bilinear_reads():
    """The docstring of ``PatternConv2d``: up to 6 % there, a thousandth by cubic reads."""
    found = {}
    for mode in ("bilinear", "bicubic"):
        layer = SphereConv2d(1, 1, bias=False, mode=mode)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]]))
        found[mode] = check_equivariance(layer, 1, 128, 256, degree=1).tilt
    assert 0.055 < max(found["bilinear"]) < 0.065
    assert all(tilt < 0.001 for tilt in found["bicubic"])
