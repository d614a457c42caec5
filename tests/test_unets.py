"""The two U-Nets: published numbers, and what must hold in either convention."""

import math

import numpy as np
import pytest
import torch

from sal360 import models, nn, upstream
from sal360.models import LookupUNet, SphericalUNet
from sal360.models.spherical_unet import UpstreamCrownConv2d
from sal360.nn.sampled import convolve
from sal360.upstream import zhang
from sal360.upstream.zhang_taps import crown_reads

SMALL = (4, 4, 8, 8, 4, 4, 1)
KINDS = [SphericalUNet, LookupUNet]
CONVENTIONS = ["corrected", "upstream"]


def made(kind, convention="corrected", seed=0, **settings):
    torch.manual_seed(seed)
    return kind(**{"widths": SMALL, "convention": convention, **settings})


def inputs(H, W, B=1, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.rand(B, 3, H, W, generator=source), torch.rand(B, 1, H, W, generator=source) * 2


def tensors(stored):
    return {key: torch.from_numpy(value) for key, value in stored.items()}


def with_weights(model, stored):
    weights = {key[3:]: value for key, value in stored.items() if key.startswith("w__")}
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert not unknown and all(key.startswith("bn") for key in missing)
    return model


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("kind", "count"), [(SphericalUNet, 12_359_424), (LookupUNet, 1_701_889)])
def test_the_published_number_of_parameters(kind, count, convention):
    assert sum(p.numel() for p in kind(convention=convention).parameters()) == count


@pytest.mark.parametrize("kind", KINDS)
def test_weights_load_into_the_other_convention(kind):
    ours, theirs = made(kind), made(kind, "upstream", seed=1)
    theirs.load_state_dict(ours.state_dict())
    same = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def blown_rows(H, W, radius):
    """Rows whose kernel a rounding error makes a whole circle wide: which, the machine decides."""
    theirs, repaired = (upstream.crown_grid(H, W, radius, mended) for mended in (False, True))
    return {t for t in range(H) if theirs[t].area > 1.5 * repaired[t].area}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_published_spherical_unet(golden, mode):
    stored = tensors(golden("unet_d16_64x128"))
    model = SphericalUNet((4, 8, 16, 16, 8, 4, 1), "upstream").train(mode == "train")
    with_weights(model, stored)
    with torch.no_grad():
        y = model(stored["image"], stored["last"])
    wanted = stored[f"y_{mode}"]
    assert np.corrcoef(y.flatten(), wanted.flatten())[0, 1] > 0.999
    # A dark row of one machine may be a bright one of the next, and reaches as far as kernels
    # that read it. Its own layer's dark rows reach a row of the answer directly; those of the
    # layers below through values of a thousandth (the untrained norms leave them that small).
    top = 64
    dark = blown_rows(64, 128, math.pi / 32)
    near = {t + k for t in dark for k in (-2, -1, 0, 1, 2)}
    regular = [t for t in range(top) if t not in near]
    assert 0.3 * top < len(regular) < top
    off = (y - wanted).abs().amax((0, 1, 3)) / wanted.abs().max()
    assert off[regular].max() < (1e-4 if mode == "eval" else 1e-3)


def test_every_layer_of_the_published_unet(golden):
    stored = tensors(golden("unet_d16_64x128"))
    model = with_weights(SphericalUNet((4, 8, 16, 16, 8, 4, 1), "upstream"), stored).eval()
    sizes = {}
    for k in range(1, 8):
        layer = getattr(model, f"conv{k}")
        layer.register_forward_hook(
            lambda _m, _i, y, k=k: sizes.update({k: y.abs().mean((0, 1, 3))})
        )
    with torch.no_grad():
        model(stored["image"], stored["last"])
    for k, got in sizes.items():
        wanted = stored[f"rowmeanabs_eval__c{k}"]
        assert ((got - wanted).abs() < 1e-3 * wanted + 1e-12).float().mean() > 0.9


def test_the_published_lookup_convolution_and_its_gradient(golden):
    stored = tensors(golden("vo_conv"))
    x = stored["x"].requires_grad_()
    y = upstream.lookup_conv2d(x, stored["w"], stored["b"], stored["coor"])
    assert (y - stored["y"]).abs().max() < 1e-5
    (gx,) = torch.autograd.grad(y, x, stored["gout"])
    assert (gx - stored["gx"]).abs().max() < 1e-5


def test_the_published_lookup_unet(golden):
    stored = tensors(golden("vo_unet_d8_32x64"))
    model = with_weights(LookupUNet((8, 16, 32, 32, 16, 8, 1), "upstream"), stored).eval()
    wanted = stored["y_eval"]
    with torch.no_grad():
        ours = model(stored["image"], stored["last"])
        for k in range(1, 5):
            table = stored[f"coor{k}"]
            model.tables[table.shape[0], table.shape[1]] = table
        theirs = model(stored["image"], stored["last"])
    assert (theirs - wanted).abs().max() < 1e-5
    # Our table names another longitude of the pole, where theirs is the noise of a rounding.
    off = (ours - wanted).abs().amax((0, 1, 3))
    assert off.max() > 1e-3
    assert np.corrcoef(ours.flatten(), wanted.flatten())[0, 1] > 0.95


def test_a_lookup_convolution_is_the_picture_three_times_as_large():
    """The published way, spelled out: nine pixels in a 3 x 3 block, a convolution of stride 3."""
    source = torch.Generator().manual_seed(0)
    x, bias = torch.rand(2, 5, 9, 14, generator=source), torch.rand(3, generator=source)
    weight = torch.rand(3, 5, 3, 3, generator=source)
    table = upstream.ring_table(9, 14)
    large = torch.zeros(2, 5, 27, 42)
    large[..., 1::3, 1::3] = x
    for k, (row, col) in enumerate(upstream.RING_SLOTS):
        large[..., row::3, col::3] = x[..., table[:, :, 1, k], table[:, :, 0, k]]
    plain = torch.nn.functional.conv2d(large, weight, bias, stride=3)
    assert torch.allclose(upstream.lookup_conv2d(x, weight, bias), plain, atol=1e-5)
    few = torch.rand(7, 5, 3, 3, generator=source)  # more outputs than inputs: samples first
    plain = torch.nn.functional.conv2d(large, few, stride=3)
    assert torch.allclose(upstream.lookup_conv2d(x, few), plain, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(4, 8)}, r"x: shape \(4, 8\)"),
        ({"weight": torch.zeros(1, 3, 3, 3)}, r"weight: shape .*wanted \(O, 2, 3, 3\)"),
        ({"weight": torch.zeros(0, 2, 3, 3)}, r"weight: shape .*wanted \(O, 2, 3, 3\)"),
        ({"weight": torch.zeros(1, 2, 3, 3).double()}, "weight: torch.float64, wanted both"),
        ({"weight": torch.zeros(1, 2, 3, 3, device="meta")}, "weight: on meta, wanted one device"),
        ({"bias": torch.zeros(1).cfloat()}, "bias: dtype torch.complex64, wanted"),
        ({"bias": torch.zeros(2)}, r"bias: shape \(2,\), wanted \(1,\)"),
        ({"table": torch.zeros(4, 8, 2, 8)}, "table: torch.float32 of shape .*, wanted whole"),
        ({"table": torch.zeros(4, 8, 2, 8).bool()}, "table: dtype torch.bool, wanted"),
        ({"table": torch.zeros(4, 8, 2, 8).cfloat()}, "table: dtype torch.complex64, wanted"),
        ({"table": torch.full((4, 8, 2, 8), 4)}, "table: names pixels outside of the 4 x 8"),
    ],
)
def test_bad_input_of_a_lookup_is_named(change, words):
    given = {"x": torch.zeros(1, 2, 4, 8), "weight": torch.zeros(1, 2, 3, 3)}
    with pytest.raises((ValueError, TypeError), match=words):
        upstream.lookup_conv2d(**given | change)


def test_a_table_that_served_one_size_does_not_serve_another():
    table, weight = upstream.ring_table(4, 8), torch.rand(1, 2, 3, 3)
    upstream.lookup_conv2d(torch.rand(1, 2, 4, 8), weight, table=table)
    with pytest.raises(ValueError, match=r"^table: .* wanted whole numbers \(8, 8, 2, 8\)"):
        upstream.lookup_conv2d(torch.rand(1, 2, 8, 8), weight, table=table)


@pytest.mark.parametrize("project_first", [False, True])
@pytest.mark.parametrize(
    ("size", "radius", "taps"),
    [((16, 32), math.pi, (8, 16)), ((15, 41), 0.7, (3, 5)), ((33, 20), 2.0, (1, 4))],
)
def test_a_crown_from_its_taps_is_the_resampled_kernel(size, radius, taps, project_first):
    source = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(*shape, generator=source, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, *size), (4, 3, *taps))
    )
    plain = zhang.crown_in_bands(x, weight, radius, "sphere")
    reads = crown_reads(size, radius, taps, project_first, torch.float64, x.device)
    ours = convolve(x, weight.flatten(2), reads, size, project_first=project_first)
    assert torch.allclose(ours, plain, atol=1e-12)
    g = torch.randn(ours.shape, generator=source, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(ours, (x, weight), g),
        torch.autograd.grad(plain, (x, weight), g), strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, other, atol=1e-11)


def test_the_published_padding_and_pooling(golden):
    stored = golden("pad_pool")
    x = torch.from_numpy(stored["x"])
    for key in (k for k in stored if k.startswith("pad_")):
        sides = tuple(int(v) for v in key.split("_")[1:])
        assert np.array_equal(upstream.sphere_pad(x, sides).numpy(), stored[key])
    for key, image in (("pool16", x), ("pool32", torch.from_numpy(stored["x2"]))):
        assert np.array_equal(upstream.sphere_pool(image).numpy(), stored[key])
    for key in (k for k in stored if k.startswith("width_")):
        H = int(key.split("_")[1])
        assert upstream.sphere_pool_widths(H, 2 * H) == stored[key].tolist()
    with pytest.raises(ValueError, match=r"pad: \(-1, 0, 0, 0\), wanted"):
        upstream.sphere_pad(x, (-1, 0, 0, 0))
    with pytest.raises(ValueError, match=r"pad: 1, wanted \(left"):
        upstream.sphere_pad(x, 1)
    with pytest.raises(TypeError, match=r"pad: 1.0, wanted a whole number"):
        upstream.sphere_pad(x, (1.0, 1, 0, 0))


@pytest.mark.parametrize("size", [(16, 32), (15, 31), (2, 1), (1, 6)])
def test_windows_that_grow_with_latitude(size):
    H, W = size
    x = torch.rand(2, 3, H, W, generator=torch.Generator().manual_seed(0))
    for pool, widths in (
        (nn.SphereBlockMaxPool2d(), nn.windows.block_widths(H, W)),
        (upstream.sphere_pool, upstream.sphere_pool_widths(H, W)),
    ):
        got = pool(x)
        for i, m in enumerate(widths):
            for j in range(got.shape[-1]):
                shift = (m - 1) // 2
                cols = torch.remainder(torch.arange(2 * j - shift, 2 * j - shift + m), W)
                plain = x[:, :, 2 * i : 2 * i + 2][..., cols].amax((-2, -1))
                assert torch.equal(got[:, :, i, j], plain)
        assert torch.equal(got, pool(x.roll(2, -1)).roll(-1, -1)) or W % 2
    mirrored = nn.SphereBlockMaxPool2d()(x.flip(-2)).flip(-2)
    assert torch.equal(nn.SphereBlockMaxPool2d()(x), mirrored) or H % 2
    assert nn.windows.block_widths(128, 256)[31:33] == [2, 2]


@pytest.mark.parametrize("pooling", ["planar", "sphere"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_panorama_has_its_answer_turned(kind, pooling):
    model = made(kind, pooling=pooling).eval()
    image, last = inputs(32, 64)
    with torch.no_grad():
        still = model(image, last)
        for shift in (8, 24, -16):
            turned = model(image.roll(shift, -1), last.roll(shift, -1))
            assert (turned - still.roll(shift, -1)).abs().max() < 2e-5 * still.abs().max()
        turned = model(image.roll(3, -1), last.roll(3, -1))  # pooling keeps every second column
        assert (turned - still.roll(3, -1)).abs().max() > 1e-3 * still.std()


@pytest.mark.parametrize(("kind", "turns"), [(SphericalUNet, True), (LookupUNet, False)])
def test_the_published_networks_turn_or_not(kind, turns):
    """Columns 0 and W - 1 of Vo's lattice are one meridian: it has a seam."""
    model = made(kind, "upstream").eval()
    image, last = inputs(64, 128)
    with torch.no_grad():
        still = model(image, last)
        off = model(image.roll(16, -1), last.roll(16, -1)) - still.roll(16, -1)
    assert (off.abs().max() < 1e-4 * still.std()) == turns


@pytest.mark.parametrize("size", [(33, 66), (20, 45), (7, 9), (1, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size(kind, size):
    for pooling in ("planar", "sphere"):
        model = made(kind, pooling=pooling).eval()
        with torch.no_grad():
            y = model(*inputs(*size, B=2))
        assert y.shape == (2, 1, *size) and bool(y.isfinite().all())


def test_any_size_that_a_published_crown_fits_on():
    for pooling in ("planar", "sphere"):
        for padding in ("sphere", "0"):
            model = made(SphericalUNet, "upstream", pooling=pooling, padding=padding).eval()
            with torch.no_grad():
                assert model(*inputs(71, 131)).shape == (1, 1, 71, 131)
    with torch.no_grad():
        assert made(LookupUNet, "upstream").eval()(*inputs(31, 45)).shape == (1, 1, 31, 45)
        with pytest.raises(ValueError, match="radius"):
            made(SphericalUNet, "upstream").eval()(*inputs(32, 64))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter(kind, convention):
    # In evaluation mode: a batch norm in training takes away the bias before it.
    size = (64, 128) if (kind, convention) == (SphericalUNet, "upstream") else (16, 32)
    models.no_dead_parameters(made(kind, convention).eval(), *inputs(*size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_network_answers_the_uniform_map(kind):
    model = made(kind, widths=(8, 16, 16, 16, 16, 8, 1)).train()
    with torch.no_grad():
        y = model(*inputs(32, 64, B=2))
    assert 0.7 < float(y.mean()) < 1.3 and 0 < float(y.std()) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_feeds_back_its_own_maps(kind):
    model = made(kind).eval()
    clip = torch.rand(1, 3, 3, 16, 32, generator=torch.Generator().manual_seed(2))
    truth = torch.rand(1, 3, 1, 16, 32, generator=torch.Generator().manual_seed(3)) * 4
    with torch.no_grad():
        closed, forced = model.rollout(clip), model.rollout(clip, previous=truth)
        own = model(clip[:, 1], model.feedback(closed[:, 0]))
        assert torch.equal(closed[:, 1], own)
        assert torch.equal(forced[:, 1], model(clip[:, 1], truth[:, 1]))
        assert (closed - forced).abs().max() > 1e-4
        assert torch.equal(model.rollout(clip[:, :1]), closed[:, :1])
        assert torch.equal(closed[:, 0], model(clip[:, 0], torch.ones(1, 1, 16, 32)))


def test_the_published_first_frame_and_raw_feedback():
    model = made(LookupUNet, "upstream").eval()
    image = torch.zeros(2, 3, 64, 128)
    first = model.first(image)
    assert first.shape == (2, 1, 64, 128)
    assert torch.equal(first[1, 0], 10 * upstream.fixation_map([[0.5, 0.5]], 64, 128))
    # The published map is centred a row and a half too low.
    top = first[0, 0].flatten().argmax()
    assert abs(int(top) % 128 - 64) <= 1 and 32 <= int(top) // 128 <= 34
    raw = torch.tensor([[-1.0, 2.0]])[None, None]
    assert torch.equal(model.feedback(raw), raw)
    assert torch.equal(made(LookupUNet).feedback(raw).flatten(), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind):
    model = made(kind).eval()
    image, last = inputs(16, 32)
    with torch.no_grad():
        exact = model(image, last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(image, last)
    assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("kind", "convention"),
    [(SphericalUNet, "corrected"), (LookupUNet, "corrected"), (LookupUNet, "upstream")],
)
def test_an_exported_program_is_the_network(kind, convention):
    # A size that nothing else has: the tables are made while the network is written down.
    model, given = made(kind, convention).eval(), inputs(10, 18)
    program = torch.export.export(model, given)
    with torch.no_grad():
        assert torch.allclose(program.module()(*given), model(*given), atol=1e-6)


@pytest.mark.parametrize("outputs", [2, 40])  # resampled kernels, and a table of taps
def test_an_exported_published_crown(outputs):
    layer = UpstreamCrownConv2d(2, outputs, (3, 5), 0.9, "sphere")
    given = (torch.rand(1, 2, 13, 22),)
    program = torch.export.export(layer, given)
    with torch.no_grad():
        assert torch.allclose(program.module()(*given), layer(*given), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widths": (4, 4, 1)}, r"widths: \(4, 4, 1\), wanted seven"),
        ({"widths": (4, 4, 4, 4, 4, 4, 2)}, "widths: .*, wanted seven, the last of them 1"),
        ({"convention": "published"}, "convention: 'published', wanted 'corrected' or 'upstream'"),
        ({"pooling": "max"}, "pooling: 'max', wanted 'planar' or 'sphere'"),
        ({"padding": "zeros"}, "padding: 'zeros', wanted 'sphere' or '0'"),
        ({"padding": "0"}, "padding: '0', wanted 'sphere'"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        SphericalUNet(**{"widths": SMALL, **settings})


def test_bad_frames_are_named():
    with pytest.raises(ValueError, match=r"image, extra: shapes \(1, 4, 8, 8\) and"):
        made(LookupUNet)(torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 8, 8))
