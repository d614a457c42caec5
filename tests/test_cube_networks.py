"""Networks as others write them, glued: bare layers, glued parts, states, masks, subclasses."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sal360.cubemap import cube_directions
from sal360.nn import ConvLSTMCell, CubePad2d, SphereConv2d, SpherePad2d, to_cube_padded


def faces_of(*batch, C=3, S=8):
    draw = torch.Generator().manual_seed(11)
    return torch.randn(*batch, 6, C, S, S, generator=draw)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d(1)],
)
def test_a_layer_by_itself_keeps_the_axis_of_the_cube(layer):
    twin, x = to_cube_padded(layer), faces_of(2)
    assert twin(x).shape[:2] == (2, 6)
    torch.testing.assert_close(twin(x).flatten(0, 1), twin(x.flatten(0, 1)))


def test_a_glued_part_of_a_glued_network():
    inner = to_cube_padded(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)))
    twin, x = to_cube_padded(nn.Sequential(inner, nn.BatchNorm2d(4))).eval(), faces_of(2)
    torch.testing.assert_close(twin(x).flatten(0, 1), twin(x.flatten(0, 1)))


def test_what_is_padded_may_be_written_over():
    for pad in (CubePad2d(1), CubePad2d(1, "reproject"), to_cube_padded(nn.ZeroPad2d(1))):
        for x in (faces_of(1), faces_of(2).flatten(0, 1)):
            x.requires_grad_()
            nn.Sequential(pad, nn.ReLU(inplace=True))(x).sum().backward()
            assert x.grad.shape == x.shape


def test_a_glued_cell_takes_the_state_it_gave():
    cell = ConvLSTMCell(3, 4, conv=lambda i, o: nn.Conv2d(i, o, 3, padding=1))
    twin, x = to_cube_padded(cell), faces_of(2)
    first = twin(x)
    second = twin(x, first)
    assert second[1].shape == (2, 6, 4, 8, 8) and type(second) is type(first)
    flat = x.flatten(0, 1)
    torch.testing.assert_close(second[1].flatten(0, 1), twin(flat, twin(flat))[1])


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, picture, mask, scale=None):
        out = self.c(input=picture) * mask
        found = defaultdict(list, a=out if scale is None else out * scale)
        return found


def test_other_arguments_keywords_and_kinds_of_answers():
    twin, x = to_cube_padded(Masked()), faces_of(2)
    for mask in (x[:, :, :1] > 0, (x[:, :, :1] > 0).int()):
        out = twin(x, mask=mask, scale=torch.ones(1, 1, 8, 8))
        assert isinstance(out, defaultdict) and out["a"].shape == (2, 6, 4, 8, 8)
        flat = twin(x.flatten(0, 1), mask.flatten(0, 1))
        torch.testing.assert_close(out["a"].flatten(0, 1), flat["a"])
    bare = to_cube_padded(nn.Conv2d(3, 4, 3, padding=1))
    torch.testing.assert_close(bare(input=x), bare(x))


def test_nothing_stays_nothing_where_all_is_minus_infinity():
    x = torch.full((6, 1, 4, 4), -math.inf)
    assert (to_cube_padded(nn.MaxPool2d(3, 1, 1))(x) == -math.inf).all()
    assert (CubePad2d(2)(x) == -math.inf).all()


def test_a_layer_that_is_replaced_leaves_its_hooks_and_its_mode():
    seen = []
    pad = nn.ZeroPad2d(1)
    pad.register_forward_hook(lambda *_: seen.append(1))
    net = nn.Sequential(pad, nn.Conv2d(3, 4, 3)).eval()
    twin = to_cube_padded(net)
    assert not any(layer.training for layer in twin.modules())
    twin(faces_of(1))
    assert seen == [1]


class PadsItself(nn.Conv2d):
    def forward(self, x):
        x = F.pad(x, self._reversed_padding_repeated_twice)
        return F.conv2d(x, self.weight, self.bias)


def test_a_convolution_that_pads_by_itself_keeps_its_size():
    x = faces_of(1)
    twin = to_cube_padded(PadsItself(3, 4, 3, padding=1))
    plain = to_cube_padded(nn.Conv2d(3, 4, 3, padding=1))
    plain.load_state_dict(twin.state_dict())
    torch.testing.assert_close(twin(x), plain(x))


@pytest.mark.parametrize("mode", ["copy", "reproject"])
@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [1, 2, 3, 2.0, (2, 2)], ids=str)
def test_enlarging_reads_the_neighbours(how, factor, mode):
    """The middle of what comes of faces with a rim far wider than is read."""
    x, whole = faces_of(2, S=6).double(), factor if isinstance(factor, tuple) else (factor,) * 2
    rows = int(whole[0])
    twin = to_cube_padded(nn.Upsample(scale_factor=factor, mode=how), mode)
    wide = F.interpolate(CubePad2d(4, mode)(x).flatten(0, 1), scale_factor=rows, mode=how)
    wanted = wide[..., 4 * rows : 10 * rows, 4 * rows : 10 * rows].unflatten(0, (2, 6))
    torch.testing.assert_close(twin(x), wanted)
    torch.testing.assert_close(to_cube_padded(twin, mode)(x), wanted)
    net = to_cube_padded(nn.Sequential(nn.Upsample(scale_factor=factor, mode=how)), mode)
    torch.testing.assert_close(net(x.flatten(0, 1)), wanted.flatten(0, 1))


def test_what_is_enlarged_may_be_written_over_and_learns():
    x = faces_of(1).requires_grad_()
    up = to_cube_padded(nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU(True)))
    up(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert not up.state_dict()


@pytest.mark.parametrize(
    ("how", "factor"),
    [("nearest", 1.5), ("nearest-exact", 1.5), ("bilinear", 0.5), ("bilinear", 0.7)],
)
def test_repeating_texels_and_reading_between_two_needs_no_neighbours(how, factor):
    layer, x = nn.Upsample(scale_factor=factor, mode=how), faces_of(2, S=7).flatten(0, 1)
    rows = layer(x).shape[-1]
    if how == "bilinear":  # nothing beyond the face is looked at
        place = (torch.arange(rows) + 0.5) / factor - 0.5
        assert place.min() >= 0 and place.max() <= 6
    torch.testing.assert_close(to_cube_padded(layer)(x), layer(x))


class OwnConv2d(SphereConv2d):
    """A reader's own."""


@pytest.mark.parametrize(
    ("net", "error", "words"),
    [
        (nn.Sequential(SphereConv2d(3, 4)), TypeError, "0: SphereConv2d, wanted"),
        (nn.Sequential(OwnConv2d(3, 4)), TypeError, "0: OwnConv2d, wanted"),
        (nn.Sequential(nn.Identity(), SpherePad2d(1)), TypeError, "1: SpherePad2d, wanted"),
        (torch.ao.nn.quantized.Conv2d(3, 4, 3, padding=1), TypeError, "cannot be glued"),
        (nn.Upsample(scale_factor=2, mode="trilinear"), TypeError, "module: trilinear Upsample"),
        (nn.UpsamplingBilinear2d(scale_factor=2), ValueError, "with align_corners, wanted"),
        (
            nn.Sequential(nn.Upsample(16, mode="bilinear")),
            ValueError,
            "0: Upsample with size=16, wanted a whole scale_factor: it cannot be glued",
        ),
        (
            nn.Upsample(scale_factor=1.5, mode="bicubic"),
            ValueError,
            r"scale_factor=\(1.5, 1.5\), wanted a whole",
        ),
    ],
)
def test_layers_that_do_not_work_on_faces_are_refused(net, error, words):
    with pytest.raises(error, match=words):
        to_cube_padded(net)


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (to_cube_padded(nn.Conv2d(3, 4, 7, padding=3)), "module: Conv2d, glued"),
        (to_cube_padded(nn.MaxPool2d(3, 2, 1)), "module: MaxPool2d, glued"),
        (to_cube_padded(nn.Upsample(scale_factor=2, mode="bilinear")), "module: Upsample, glued"),
        (nn.Sequential(CubePad2d(1, "copy"), nn.Conv2d(3, 4, 3)), "0: CubePad2d, glued"),
        (nn.Sequential(to_cube_padded(nn.ZeroPad2d(1))), "0: CubePad2d, glued"),
    ],
)
def test_what_is_glued_in_another_mode_is_named(net, name):
    with pytest.raises(ValueError, match=f"^{name} with mode 'copy' already, wanted 'reproject'"):
        to_cube_padded(net, "reproject")
    x = faces_of(1)
    assert torch.equal(to_cube_padded(net)(x), to_cube_padded(net, "copy")(x))


class PadsInForward(nn.Conv2d):
    """As networks have it whose padding hangs on the size of the picture."""

    def forward(self, x):
        return super().forward(F.pad(x, (1, 1, 1, 1)))


def test_a_network_in_which_nothing_is_glued_is_warned_of():
    said = "^module: Sequential, nothing glued: no layer of it pads"
    with pytest.warns(UserWarning, match=said):
        to_cube_padded(nn.Sequential(PadsInForward(3, 4, 3), nn.ReLU()))
    with pytest.warns(UserWarning, match=said):
        to_cube_padded(nn.Sequential(nn.MaxPool2d(3, 2)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(PadsInForward(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(CubePad2d(1), nn.Conv2d(3, 4, 3)),
        to_cube_padded(nn.Conv2d(3, 4, 3, padding=1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 2, 2), nn.MaxPool2d(2), nn.ReLU()),
    ],
)
def test_a_network_with_something_glued_or_nothing_to_glue_is_not(net):
    to_cube_padded(net)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_cannot_be_copied_is_refused_in_a_line():
    layer = nn.utils.weight_norm(nn.Conv2d(3, 4, 3, padding=1))
    layer(faces_of(1)[0])
    said = r"^module: cannot be copied \(weight is kept .* by weight_norm or spectral_norm"
    with pytest.raises(ValueError, match=said):
        to_cube_padded(layer)


class KeepsFeatures(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.c, self.keep, self.seen = nn.Conv2d(3, 4, 3, padding=1), keep, None

    def forward(self, x):
        y = self.c(x)
        self.seen = self.keep(y)
        return y


@pytest.mark.parametrize("keep", [lambda y: y, lambda y: [y], lambda y: {"y": (1, y)}])
def test_a_network_that_keeps_a_feature_is_told_which(keep):
    net, x = nn.Sequential(nn.Identity(), KeepsFeatures(keep)), faces_of(1).flatten(0, 1)
    to_cube_padded(net)
    net(x)
    with pytest.raises(
        ValueError, match=r"\(1.seen is kept from a forward.*detach it, or set"
    ) as e:
        to_cube_padded(net)
    assert "weight_norm" not in str(e.value)
    net[1].seen = None
    to_cube_padded(net)


def test_no_channels_and_widths_that_are_no_numbers():
    assert CubePad2d(1)(torch.zeros(6, 0, 4, 4)).shape == (6, 0, 6, 6)
    assert CubePad2d(np.int64(1)).padding == (1, 1, 1, 1)
    for width, error in ((False, TypeError), (0.0, TypeError), (np.ones(4), TypeError)):
        with pytest.raises(error, match="^padding: "):
            CubePad2d(width)
    with pytest.raises(ValueError, match="padding: -1, wanted at least 0"):
        CubePad2d(-1)


@pytest.mark.parametrize(("S", "ring"), [(64, 1), (64, 2), (64, 3), (7, 3), (16, 2)])
def test_how_far_a_copy_stands_beside_its_place(S, ring):
    """The largest distance along the edge, as the docstring of CubePad2d has it."""
    told = CubePad2d(ring)(cube_directions(S).permute(0, 3, 1, 2))
    x, _, z = told[0, :, 0, ring : ring + S]
    off = ((x / z + 1) * S / 2 - 0.5 - torch.arange(S)).abs().max()
    assert float(off) == pytest.approx((ring - 0.5) * (S - 1) / (S - 2 * ring + 1))
