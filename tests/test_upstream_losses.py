"""Published losses, figure for figure, and what is wrong with each of them."""

import math

import pytest
import torch
import torch.nn.functional as F

from sal360 import losses, upstream
from sal360.models import SSTSal
from sal360.sphere import pixel_area


def tensors(golden, name, prefix=""):
    stored = golden(name)
    return {
        k[len(prefix) :]: torch.from_numpy(v) for k, v in stored.items() if k.startswith(prefix)
    }


@pytest.mark.parametrize("size", [(16, 32), (64, 128), (128, 256), (240, 480)])
def test_row_weights_are_zhangs(golden, size):
    z = tensors(golden, "smse")
    got, name = upstream.row_weight(*size), f"{size[0]}x{size[1]}"
    assert (got - z[f"weight_col_{name}"]).abs().max() < 6e-9
    assert abs(got.sum() * size[1] - z[f"weight_sum_{name}"]) < 2e-6


def test_row_weights_are_exact_areas_times_one_number():
    for H, W in ((1, 2), (7, 9), (16, 32), (240, 480)):
        factor = (math.pi / (2 * H)) / math.tan(math.pi / (2 * H))
        got, wanted = upstream.row_weight(H, W), factor * pixel_area(H, W)
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-15)


def test_sphere_mse_and_its_gradient_are_zhangs(golden):
    z = tensors(golden, "smse")
    pred = z["o"].requires_grad_()
    loss = upstream.sphere_mse(pred, z["t"])
    loss.backward()
    assert abs(loss.item() - z["loss_2x16x32"]) < 5e-7
    assert (pred.grad - z["grad_o"]).abs().max() < 1e-8


def test_zhangs_integral_is_ours_times_one_number(golden):
    z = tensors(golden, "smse")
    factor = (math.pi / 32) / math.tan(math.pi / 32)
    ours = losses.sphere_mse(z["o"], z["t"], form="integral")
    assert abs(factor * ours - z["loss_2x16x32"]) < 1e-6


def test_sphere_kld_and_its_gradient_are_sst_sals(golden):
    z = tensors(golden, "kldiv", "a.")
    pred = z["pred"].requires_grad_()
    loss = upstream.sphere_kld(pred, z["gt"])
    loss.sum().backward()
    assert loss.shape == (1, 4)
    assert (loss - z["loss"]).abs().max() < 1e-8
    assert (pred.grad - z["grad_pred"]).abs().max() < 2e-8
    assert torch.allclose(upstream.row_weight(48, 64), z["row_weight"], rtol=1e-12)


def test_sphere_kld_of_equal_and_of_constant_maps(golden):
    z = tensors(golden, "kldiv", "a.")
    assert (upstream.sphere_kld(z["gt"], z["gt"]) - z["loss_identical"]).abs().max() < 1e-9
    flat = upstream.sphere_kld(torch.full_like(z["gt"], 0.3), z["gt"])
    assert (flat - z["loss_const_pred"]).abs().max() < 1e-8


def test_sphere_kld_takes_the_models_own_output(golden):
    z = tensors(golden, "kldiv", "a.")
    assert torch.equal(
        upstream.sphere_kld(z["pred"][:, :, None], z["gt"][:, :, None]),
        upstream.sphere_kld(z["pred"], z["gt"]),
    )


def sst_sal_step(golden, dtype=torch.float32):
    """The small network of the stored training, its clip and its truth."""
    z = tensors(golden, "kldiv", "step.")
    model = SSTSal(6, 4, "upstream")
    model.load_state_dict({k[3:]: v for k, v in z.items() if k.startswith("w0.")})
    pictures = torch.cat((z["frames_bgr"], z["flow_bgr"]), dim=-1)
    clip = pictures.permute(0, 3, 1, 2).float()[None] / 255
    return model.to(dtype), clip.to(dtype), z["gt"][:, :, None].to(dtype), z


def test_three_steps_of_sst_sals_training(golden):
    """Losses, first gradients and weights after three steps of gradient descent.

    Gradients (up to .03) agree to 5e-5, which is what rounding does to this loss: see below.
    """
    model, clip, truth, z = sst_sal_step(golden)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.8)
    for step in range(3):
        optimiser.zero_grad()
        out = model(clip)
        loss = upstream.sphere_kld(out, truth)
        loss.sum().backward()
        if step == 0:
            assert (out - z["out0"]).abs().max() < 1e-6
            for name, parameter in model.named_parameters():
                assert (parameter.grad - z[f"grad0.{name}"]).abs().max() < 1e-4, name
        assert (loss - z["loss"][step]).abs().max() < 1e-6
        optimiser.step()
    for name, parameter in model.named_parameters():
        assert (parameter - z[f"w3.{name}"]).abs().max() < 1e-4, name


def test_the_darkest_pixel_drowns_the_published_gradient_in_rounding(golden):
    """Stretching makes it exactly 0, where the logarithm of 1e-8 is steep: slopes in the thousands
    must cancel. In double precision a bias learns at a rate that is several percent another."""
    model, clip, truth, z = sst_sal_step(golden, torch.float64)
    out = model(clip)
    out.retain_grad()
    upstream.sphere_kld(out, truth).sum().backward()
    assert out.grad.abs().max() > 1000
    exact, published = model.decoder.lstm.conv.bias.grad, z["grad0.decoder.lstm.conv.bias"]
    assert (exact - published).abs().max() > 0.02 * exact.abs().max()


def test_the_published_divergence_may_be_negative():
    """A truth near the equator and the prediction sin(theta) times it."""
    sine = torch.sin((torch.arange(32.0) + 0.5) * math.pi / 32)[:, None]
    truth = torch.rand(32, 64, generator=torch.Generator().manual_seed(0))
    truth[0, 0] = 0
    assert upstream.sphere_kld((truth * sine)[None, None], truth[None, None]).item() < -1e-5


def test_the_published_divergence_shrinks_with_the_pixel():
    def at(H):
        lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
        maps = [torch.exp(-0.5 * (lat / s) ** 2)[:, None].expand(H, 2 * H) for s in (0.3, 0.6)]
        return upstream.sphere_kld(maps[0][None, None], maps[1][None, None]).item()

    assert abs(at(64) / at(128) - 4) < 0.05


VARIANTS = {
    "upstream_halved_align_true": {},
    "upstream_halved_align_false": {"align_corners": False},
    "fixed_scale_align_true": {"flow_scale": 1.0},
}


def cp360_clip(golden):
    """Their last four maps as (1, 4, 1, 14, 28) and the flow between them, right and down."""
    z = tensors(golden, "clstm_losses")
    return z["loss.equi_maps"][None, :, None], z["flow_in"][1:4].permute(0, 3, 1, 2)[None]


@pytest.mark.parametrize("variant", VARIANTS)
def test_temporal_losses_are_cp360s(golden, variant):
    z = tensors(golden, "clstm_losses", f"loss.{variant}.")
    maps, flow = cp360_clip(golden)
    for k, wanted in enumerate(z["parts_s_t_m_maskfrac"]):
        pair = upstream.temporal_losses(maps[:, k : k + 2], flow[:, k : k + 1], **VARIANTS[variant])
        assert (torch.stack(pair) / wanted[:3] - 1).abs().max() < 1e-6
    whole = upstream.temporal_losses(maps, flow, **VARIANTS[variant])
    got = torch.stack((*whole, whole.total()))
    assert (got / z["S_T_M_total"] - 1).abs().max() < 1e-6


def published_cell(weights, x, hidden, memory):
    """Their ConvLSTM, for the gradients: three cube-padded convolutions, then the gates."""
    out = torch.cat((x, hidden), 1)
    for name in ("Conv1", "Conv2", "Gates"):
        out = upstream.cube_pad(out, 1)
        out = F.conv2d(out, weights[f"{name}.weight"], weights[f"{name}.bias"])
        out = out if name == "Gates" else out.relu()
    into, remember, output, candidate = out.chunk(4, 1)
    memory = remember.sigmoid() * memory + into.sigmoid() * candidate.tanh()
    return output.sigmoid() * memory.tanh(), memory


def faces_to_panorama(faces):
    """Their projection of (6, C, S, S), B D F L R T, to (C, 2 S, 4 S): x ahead, y up, z right."""
    S = faces.shape[-1]
    H, W = 2 * S, 4 * S
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W * 2 - 1) * math.pi
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H)[:, None] * math.pi
    x, y, z = lat.cos() * lon.cos(), lat.sin().expand(H, W), lat.cos() * lon.sin()
    # A face is where its axis is the longest (a tie goes to the left or right face); across it,
    # right and down.
    axes = [(-x, -z, -y), (-y, z, -x), (x, z, -y), (-z, x, -y), (z, -x, -y), (y, z, x)]
    longest = torch.stack([axis for axis, _, _ in axes])
    longest[3:5] += 1e-9
    face = longest.argmax(0)
    across = torch.stack([torch.stack((u, v), -1) / a[..., None] for a, u, v in axes])
    grid = across.gather(0, face[None, ..., None].expand(1, H, W, 2))[0]
    # Theirs is divided by the largest coordinate that occurs, which is a little short of S - 1.
    grid = (grid + 1) / 2 * (S - 1)
    grid = (grid - grid.max() / 2) / (grid.max() / 2)
    every = F.grid_sample(faces, grid.to(faces).expand(6, H, W, 2), align_corners=True)
    return every.gather(0, face[None, None].expand(1, faces.shape[1], H, W))[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_through_cp360s_cell(golden, variant):
    """From faces to maps to losses to weights: states, maps, and norms of all six gradients."""
    z = tensors(golden, "clstm_losses")
    weights = {k[2:]: v.requires_grad_() for k, v in z.items() if k.startswith("w.")}
    sequence = z["seq"] - z["seq"].min()
    sequence = sequence / sequence.max()
    hidden = memory = sequence[0]
    maps = []
    for k, frame in enumerate(sequence):
        hidden, memory = published_cell(weights, frame, hidden, memory)
        assert (hidden - z["h"][k]).abs().max() < 2e-6
        assert (memory - z["c"][k]).abs().max() < 2e-6
        maps.append(faces_to_panorama(hidden).amax(0))
    clip = torch.stack(maps[1:])[None, :, None]
    assert (clip[0, :, 0] - z["loss.equi_maps"]).abs().max() < 1e-5
    _, flow = cp360_clip(golden)
    upstream.temporal_losses(clip, flow, **VARIANTS[variant]).total().backward()
    norms = torch.stack([w.grad.norm() for w in weights.values()])
    wanted = z[f"loss.{variant}.grad_norms"]
    assert (norms / wanted - 1).abs().max() < 1e-5


def moving_spot(columns=3.0, T=2, H=16, W=32):
    """A spot that moves to the right along the equator, and the flow that says so."""
    lon = torch.arange(W, dtype=torch.float64)
    rows = torch.exp(-0.5 * ((torch.arange(H, dtype=torch.float64) - (H - 1) / 2) / 2) ** 2)
    frames = [
        rows[:, None] * torch.exp(-0.5 * ((lon - 10 - columns * t) / 2) ** 2) for t in range(T)
    ]
    flow = torch.zeros(1, T - 1, 2, H, W, dtype=torch.float64)
    flow[:, :, 0] = columns
    return torch.stack(frames)[None, :, None], flow


def test_the_published_warp_moves_a_spot_the_wrong_way():
    """Following the flow makes it worse than not moving at all; read backwards, all is well."""
    maps, flow = moving_spot()
    there = upstream.temporal_losses(maps, flow, flow_scale=1.0)
    assert there.smooth > 1.5 * there.temporal
    back = upstream.temporal_losses(maps, -flow, flow_scale=1.0)
    assert back.smooth < 0.02 * back.temporal


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_temporal_losses_of_half_precision_are_those_of_the_rounded_maps(dtype):
    maps = torch.rand(1, 3, 1, 20, 40).to(dtype)
    flow = 3 * torch.randn(1, 2, 2, 240, 480)
    got = upstream.temporal_losses(maps, flow)
    for one, other in zip(got, upstream.temporal_losses(maps.float(), flow), strict=True):
        assert torch.allclose(one, other)


def test_only_the_later_map_learns():
    maps, flow = moving_spot()
    maps.requires_grad_()
    upstream.temporal_losses(maps, flow).total().backward()
    assert maps.grad[:, 0].abs().max() == 0 and maps.grad[:, 1].abs().max() > 0


def test_published_gradients_are_those_of_their_formulas():
    generator = torch.Generator().manual_seed(1)
    pred, truth = torch.rand(2, 2, 3, 5, 6, generator=generator, dtype=torch.float64)
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: upstream.sphere_kld(p, truth), (pred,))
    assert torch.autograd.gradcheck(lambda p: upstream.sphere_mse(p, truth), (pred,))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: upstream.sphere_mse(torch.rand(1, 4, 8), torch.rand(1, 4, 8)), "pred"),
        (lambda: upstream.sphere_mse(torch.rand(1, 1, 4, 8), torch.rand(1, 4, 8)), "truth"),
        (lambda: upstream.sphere_kld(torch.rand(4, 8), torch.rand(4, 8)), "pred"),
        (lambda: upstream.sphere_kld(*torch.rand(2, 1, 2, 3, 4, 8)), "pred"),
        (lambda: upstream.temporal_losses(torch.rand(1, 1, 1, 4, 8), torch.rand(1)), "maps"),
        (lambda: upstream.temporal_losses(torch.rand(1, 2, 1, 4, 8), torch.rand(1, 2)), "flow"),
        (lambda: upstream.row_weight(0, 4), "H"),
    ],
)
def test_bad_shapes_are_named(call, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        call()


WHOLE, MAPS = torch.full((1, 2, 1, 8, 16), 5), torch.rand(1, 2, 1, 8, 16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: upstream.sphere_mse(WHOLE[0], MAPS[0]), "pred: dtype torch.int64, wanted float"),
        (lambda: upstream.sphere_mse(MAPS[0], WHOLE[0]), "truth: dtype torch.int64, wanted float"),
        (lambda: upstream.sphere_kld(MAPS.cfloat(), MAPS), "pred: dtype torch.complex64, wanted"),
        (lambda: upstream.sphere_kld(MAPS, None), "truth: NoneType, wanted numbers"),
        (lambda: upstream.temporal_losses(WHOLE, MAPS), "maps: dtype torch.int64, wanted float"),
        (lambda: upstream.temporal_losses(MAPS, "up"), "flow: str, wanted numbers"),
    ],
)
def test_what_is_no_map_is_named(call, words):
    """Whole numbers were weighed by whole numbers: every difference was 0."""
    with pytest.raises(TypeError, match=f"^{words}"):
        call()
