"""The published crown convolution: its answers, its gradients and its faults, from stored figures.

Three kinds of row hang on a machine's last digit, and are named by :func:`fragile_rows`:
a rim that is taken for a whole circle (the row blows up); a pixel on the kernel's centre, which
has any bearing; a pixel straight south of it, whose bearing is 0 or 2 pi (two columns of
weights).
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sal360 import upstream

CASES = ["A_3x3_pi4", "A_4x8_pi4", "A_4x8_pi4_zero", "A_8x16_pi", "B_4x8_pi8", "B_4x8_pi4"]


def fragile_rows(H, W, radius):
    """Rows that blow up, and rows with a pixel whose bearing is a rounding error."""
    blown, unsure = [], []
    rows = upstream.crown_grid(H, W, radius)
    for t, row in enumerate(rows[1:], 1):  # row 0 stands on the pole: its bearings are columns
        bearing, distance = row.grid.unbind(-1)
        inside = (distance >= -1) & (distance <= 1)
        if bool((inside & ((bearing.abs() > 1 - 1e-9) | (distance < -1 + 1e-6))).any()):
            unsure.append(t)
        low, high = t * math.pi / H - radius, t * math.pi / H + radius
        if low > 1e-9 and high < math.pi - 1e-9 and row.grid.shape[1] == W:
            blown.append(t)
    return blown, unsure


def case(golden, name):
    stored = golden("sconv")
    tensors = {
        key.split("__")[1]: torch.from_numpy(value).double()
        for key, value in stored.items()
        if key.startswith(f"{name}__") and value.dtype.kind == "f"
    }
    mode = str(stored[f"{name}__mode"])
    return tensors, float(stored[f"{name}__rad"]), mode


@pytest.mark.parametrize("name", [*CASES, "C_4x8_pi16"])
def test_answers_are_the_published_ones(golden, name):
    stored, radius, mode = case(golden, name)
    x, weight, wanted = stored["x"], stored["w"], stored["y"]
    H, W = x.shape[-2:]
    off = (upstream.crown_conv2d(x, weight, radius, mode) - wanted).abs().amax((0, 1, 3))
    blown, unsure = fragile_rows(H, W, radius)
    regular = [t for t in range(H) if t not in blown + unsure]
    # A whole sphere seen from a row of pixels always has one straight to the south.
    assert len(regular) >= (2 if radius == math.pi else 0.3 * H)
    assert off[regular].max() < 1e-5
    # Of the others hardly one does hang on it: here row 45 of C, no other in all cases.
    assert len([t for t in range(H) if off[t] >= 1e-5]) <= max(1, H // 16)
    # An unsure row may differ by what its few noisy pixels can add, and by nothing else.
    swing = (weight.amax((2, 3)) - weight.amin((2, 3))).abs().sum(1).max() * x.abs().max()
    rows = upstream.crown_grid(H, W, radius)
    for t in (t for t in unsure if t not in blown):
        assert off[t] <= rows[t].grid.shape[0] * swing / rows[t].area


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_adjoint_and_the_published_one_is_not(golden, name):
    stored, radius, mode = case(golden, name)
    H, W = stored["x"].shape[-2:]
    blown, unsure = fragile_rows(H, W, radius)
    x, weight, gout = stored["x"], stored["w"], stored["gout"]
    x.requires_grad_(), weight.requires_grad_()
    y = upstream.crown_conv2d(x, weight, radius, mode)
    exact = bool((y - stored["y"]).abs().max() < 1e-6)  # no last digit fell the other way
    gx, gw = torch.autograd.grad(y, (x, weight), gout)
    if exact:
        assert (gw - stored["gw"]).abs().max() < 1e-5
        assert (gx - stored["gx_true"]).abs().max() < 1e-5
    # Where no fragile row reads, whatever the machine:
    near = math.ceil(radius * H / math.pi) + 1
    safe = [t for t in range(H) if all(abs(t - u) > near for u in blown + unsure)]
    assert (gx - stored["gx_true"])[:, :, safe].abs().amax((0, 1, 3)).tolist() == pytest.approx(
        [0.0] * len(safe), abs=1e-5
    )
    # Theirs differs, where it does, in rows near the south pole only.
    wrong = (stored["gx_upstream"] - stored["gx_true"]).abs().amax((0, 1, 3)) > 1e-5
    assert wrong.any() == (name == "B_4x8_pi8")
    if wrong.any():
        assert wrong.nonzero()[:, 0].min() > 0.75 * H
        assert (gx - stored["gx_upstream"]).abs().max() > 1e-2


def row_by_row(x, weight, radius):
    """As published: one convolution for each row of the output."""
    n_out, n_in, Kt, Kp = weight.shape
    out = []
    for row in upstream.crown_grid(*x.shape[-2:], radius):
        n, m = row.grid.shape[:2]
        taps = weight.reshape(1, n_out * n_in, Kt, Kp)
        kernel = F.grid_sample(taps, row.grid[None].to(x), align_corners=True)
        band = F.pad(x[:, :, row.start : row.start + n], (m // 2, m - 1 - m // 2, 0, 0), "circular")
        out.append(F.conv2d(band, kernel.reshape(n_out, n_in, n, m)) / row.area)
    return torch.cat(out, 2)


@pytest.mark.parametrize(
    ("size", "radius"), [((16, 32), math.pi), ((15, 41), 0.7), ((33, 20), 2.0)]
)
def test_bands_of_rows_are_the_loop_over_rows_in_value_and_gradient(size, radius):
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, *size), (4, 3, 3, 5))
    )
    ours, plain = upstream.crown_conv2d(x, weight, radius), row_by_row(x, weight, radius)
    assert torch.allclose(ours, plain, atol=1e-12)
    g = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(ours, (x, weight), g),
        torch.autograd.grad(plain, (x, weight), g), strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, other, atol=1e-11)


@pytest.mark.parametrize("taps", [(1, 1), (1, 5), (3, 1)])
@pytest.mark.parametrize("channels", [(2, 3), (9, 9)], ids=["few", "many"])
def test_a_kernel_of_one_circle_or_one_bearing_is_the_loop_over_rows(taps, channels):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels[1], 12, 24, generator=generator, dtype=torch.float64)
    weight = torch.randn(*channels, *taps, generator=generator, dtype=torch.float64)
    ours, plain = upstream.crown_conv2d(x, weight, 1.3), row_by_row(x, weight, 1.3)
    assert torch.allclose(ours, plain, atol=1e-12)


def test_ones_answer_ones_but_for_the_dark_rows(golden):
    wanted = golden("sconv_constant_response")["const_128_pi32"]
    ones, kernel = torch.ones(1, 1, 128, 256), torch.ones(1, 1, 8, 16)
    got = upstream.crown_conv2d(ones, kernel, math.pi / 32)[0, 0]
    assert (got - got[:, :1]).abs().max() < 1e-5
    blown, _ = fragile_rows(128, 256, math.pi / 32)
    assert len(blown) >= 5
    rest = [t for t in range(128) if t not in blown]
    close = np.abs(got[rest, 0].numpy() - wanted[rest]) < 1e-4
    assert close.mean() > 0.95  # a pixel on the very rim may fall on either side
    assert float(got[blown].median()) < 0.3 < 0.85 < float(got[rest].min())


def test_a_yaw_is_a_yaw_and_the_seam_is_wrapped_unless_told():
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.rand(1, 2, 32, 64, generator=generator), torch.rand(3, 2, 4, 8)
    y = upstream.crown_conv2d(x, weight, math.pi / 8)
    assert y.dtype == torch.float32 and y.shape == (1, 3, 32, 64)
    turned = upstream.crown_conv2d(x.roll(9, -1), weight, math.pi / 8)
    assert torch.allclose(turned, y.roll(9, -1), atol=1e-5)
    zeros = upstream.crown_conv2d(x, weight, math.pi / 8, "0")
    assert torch.allclose(zeros[:, :, 10:22, 24:40], y[:, :, 10:22, 24:40], atol=1e-5)
    assert (zeros - y)[..., 0].abs().max() > 0.01
    with torch.inference_mode():  # what it remembers serves training as well
        upstream.crown_conv2d(x[:, :, :30], weight, math.pi / 8)
    x.requires_grad_()
    upstream.crown_conv2d(x[:, :, :30], weight, math.pi / 8).sum().backward()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.zeros(2, 8, 16)}, r"x: shape \(2, 8, 16\), wanted \(B, C, H, W\)"),
        ({"weight": torch.zeros(1, 3, 2, 4)}, r"weight: shape \(1, 3, 2, 4\), wanted \(O, 2"),
        ({"weight": torch.zeros(2, 4)}, r"weight: shape \(2, 4\)"),
        ({"weight": torch.zeros(1, 2, 2, 4).double()}, "weight: torch.float64, wanted both"),
        ({"weight": torch.zeros(1, 2, 2, 4).long()}, "weight: dtype torch.int64, wanted"),
        ({"weight": torch.zeros(1, 2, 2, 4, device="meta")}, "weight: on meta, wanted one device"),
        ({"padding_mode": "zeros"}, "padding_mode: 'zeros', wanted 'sphere' or '0'"),
        ({"radius": 45.0}, "radius: 45, wanted .*degrees"),
        ({"radius": 0.1}, "radius: 0.1"),
        ({"radius": "a"}, "radius: 'a', wanted one number"),
        ({"radius": None}, "radius: None, wanted one number"),
        ({"radius": True}, "radius: True, wanted one number"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"x": torch.zeros(1, 2, 8, 16), "weight": torch.zeros(1, 2, 3, 4), "radius": 1.0}
    with pytest.raises((ValueError, TypeError), match=words):
        upstream.crown_conv2d(**{**given, **change})


def test_a_radius_that_fails_there_is_refused_here(golden):
    stored = golden("sconv")
    assert "kernel_width: 0" in str(stored["bad_r1px__error"])
    radius = float(stored["bad_r1px__rad"])
    with pytest.raises(ValueError, match="without a pixel"):
        upstream.crown_conv2d(torch.ones(1, 1, 32, 64), torch.ones(1, 1, 4, 8), radius)
