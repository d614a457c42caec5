"""The published SST-Sal, figure for figure: sampling, convolution, pooling, official weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sal360 import upstream
from sal360.models import SSTSal, load_model


@pytest.mark.parametrize("size", [(4, 8), (6, 8), (24, 32), (48, 64)])
@pytest.mark.parametrize("stride", [1, 2])
def test_coordinates_are_the_published_ones(golden, size, stride):
    wanted = golden("spherenet")[f"coord_{size[0]}x{size[1]}_s{stride}"]
    got = upstream.tangent_coordinates(*size, stride).numpy()
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-12


def test_coordinates_at_full_size(golden):
    got = upstream.tangent_coordinates(240, 320).numpy()
    for col in (0, 160):
        wanted = golden("spherenet")[f"coord_240x320_s1_col{col}"]
        assert np.abs(got[:, :, col] - wanted).max() < 1e-11


def test_convolution_and_pooling(golden):
    z = {k: torch.from_numpy(v) for k, v in golden("spherenet").items()}
    x, w, b = z["conv_x"], z["conv_w"], z["conv_b"]
    assert (upstream.sphere_conv2d(x, w, b) - z["conv_y"]).abs().max() < 3e-6
    assert (upstream.sphere_conv2d(x, w, b, stride=2) - z["conv_y_stride2"]).abs().max() < 3e-6
    for stride in (1, 2):
        got = upstream.sphere_max_pool2d(x, stride)
        assert (got - z[f"pool_y_stride{stride}"]).abs().max() < 3e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_picture_and_not_the_places(dtype):
    x, identity = torch.rand(1, 1, 240, 320).to(dtype), torch.zeros(1, 1, 3, 3, dtype=dtype)
    identity[..., 1, 1] = 1.0
    step = torch.finfo(dtype).eps
    got = upstream.sphere_conv2d(x, identity)
    wanted = upstream.sphere_conv2d(x.float(), identity.float())
    assert got.dtype == dtype and (got.float() - wanted).abs().max() < 2 * step
    pooled = upstream.sphere_max_pool2d(x)
    assert pooled.dtype == dtype
    assert (pooled.float() - upstream.sphere_max_pool2d(x.float())).abs().max() < 2 * step
    with torch.autocast("cpu", torch.bfloat16):
        hidden = torch.nn.functional.conv2d(x.float(), identity.float()[..., 1:2, 1:2])
        cast = upstream.sphere_conv2d(hidden, identity.to(hidden.dtype))
    assert (cast.float() - wanted).abs().max() < 0.02


def test_half_a_pixel_up_and_left_and_zeros_outside(golden):
    """The defect itself: the identity kernel shifts, a constant fades at the top and left."""
    z = {k: torch.from_numpy(v) for k, v in golden("spherenet").items()}
    identity = torch.zeros(1, 1, 3, 3)
    identity[0, 0, 1, 1] = 1
    shifted = upstream.sphere_conv2d(z["ident_in"], identity)
    assert (shifted - z["ident_out"]).abs().max() < 1e-3  # of values up to 767
    ones = upstream.sphere_conv2d(torch.ones(1, 1, 24, 32), identity)
    assert (ones - z["ones_ident_out"]).abs().max() < 1e-5
    assert abs(ones[0, 0, 0, 0] - 0.25) < 1e-5 and abs(ones[0, 0, 0, 5] - 0.5) < 1e-5


def test_gradients_of_convolution_and_pooling():
    x = torch.rand(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    w = torch.rand(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(upstream.sphere_conv2d, (x, w, b))
    assert torch.autograd.gradcheck(upstream.sphere_max_pool2d, (x,))


def test_a_table_cached_without_gradients_serves_training_afterwards():
    with torch.inference_mode():
        upstream.sphere_conv2d(torch.rand(1, 1, 7, 9), torch.rand(1, 1, 3, 3))
    w = torch.rand(1, 1, 3, 3, requires_grad=True)
    upstream.sphere_conv2d(torch.rand(1, 1, 7, 9), w).sum().backward()
    assert w.grad.abs().sum() > 0


def test_arrays_serve_as_images_and_weights():
    x, w, b = torch.rand(1, 2, 7, 9), torch.rand(3, 2, 3, 3), torch.rand(3)
    plain = upstream.sphere_conv2d(x.numpy(), w.numpy(), b.numpy())
    assert torch.equal(plain, upstream.sphere_conv2d(x, w, b))
    assert torch.equal(upstream.sphere_max_pool2d(x.numpy()), upstream.sphere_max_pool2d(x))


def test_the_recorded_time_to_build_the_pattern_is_milliseconds():
    """From the benchmark's record, not timed here; the published loop takes 1.5 s."""
    path = Path(__file__).resolve().parents[1] / "data/benchmarks/sphere_conv.json"
    assert json.loads(path.read_text("utf-8"))["results"]["pattern_build_s"] < 0.01


@pytest.mark.parametrize(
    ("x", "w", "named"),
    [
        (torch.rand(3, 4, 4), torch.rand(1, 3, 3, 3), "x"),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 2, 3, 3), "weight"),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 5, 5), "weight"),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 3, 3).cfloat(), "weight"),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 3, 3, device="meta"), "x: on cpu, weight"),
        (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 3, 3).double(), "x: torch.float32, weight"),
    ],
)
def test_bad_input_is_named(x, w, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        upstream.sphere_conv2d(x, w)


def inputs(z, with_flow):
    parts = [z["frames_bgr"], z["flow_bgr"]][: 1 + with_flow]
    clip = torch.from_numpy(np.concatenate(parts, axis=-1)).permute(0, 3, 1, 2).float() / 255
    return clip[None]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "file", "key", "tolerance"),
    [
        ("sst-sal", "SST_Sal.pth", "of", 1e-4),
        ("sst-sal-noflow", "SST_Sal_wo_OF.pth", "wo_of", 3e-5),
    ],
)
@pytest.mark.parametrize("figures", ["sst_small", "sst_official_3frames"])
def test_official_weights_give_the_published_output(
    golden, real, name, file, key, tolerance, figures
):
    real(f"weights/{file}")
    z = golden(figures)
    model = load_model(name, weights="official")
    with torch.no_grad():
        out = model(inputs(z, model.in_channels == 6))[0, :, 0].numpy()
    assert np.abs(out - z[f"{key}.out"]).max() < tolerance


@pytest.mark.real
def test_last_states_and_pooling_agree_too(golden, real):
    real("weights/SST_Sal.pth")
    z = golden("sst_small")
    model, state = load_model("sst-sal", weights="official"), None
    with torch.no_grad():
        for frame in inputs(z, True)[0]:
            _, state = model.step(frame[None], state)
        pooled = upstream.sphere_max_pool2d(state[0].hidden)
    pairs = {
        "of.enc_h_last": state[0].hidden,
        "of.enc_c_last": state[0].cell,
        "of.enc_pool_last": pooled,
        "of.dec_c_last": state[1].cell,
    }
    for key, value in pairs.items():
        assert np.abs(value[0].numpy().squeeze() - z[key].squeeze()).max() < 1e-4, key


@pytest.mark.parametrize(("channels", "hidden", "count"), [(6, 36, 55_912), (3, 9, 4_288)])
def test_parameter_counts_are_the_published_ones(channels, hidden, count):
    assert sum(p.numel() for p in SSTSal(channels, hidden).parameters()) == count


@pytest.mark.parametrize("size", [(7, 9), (6, 8), (5, 12)])
def test_odd_sizes_and_single_frames(size):
    out = SSTSal(3, 2, "upstream")(torch.rand(2, 1, 3, *size))
    assert out.shape == (2, 1, 1, *size)
    assert out.isfinite().all()


def test_every_parameter_gets_a_gradient():
    model = SSTSal(6, 3, "upstream")
    model(torch.rand(1, 3, 6, 8, 10)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_wrong_clips_are_refused():
    with pytest.raises(ValueError, match="^clip: "):
        SSTSal(3, 2)(torch.rand(1, 2, 6, 8, 8))
    with pytest.raises(ValueError, match="^in_channels: "):
        SSTSal(4, 2)
