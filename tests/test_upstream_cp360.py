"""CP-360's projections, class scores and ConvLSTM, against figures of the published code."""

import math

import numpy as np
import pytest
import torch

from sal360 import projections, upstream
from sal360.cubemap import FACES
from sal360.upstream.cp360_projections import cube_places, erp_places

TO_OURS = ["BDFLRU".index(letter) for letter in FACES]


@pytest.mark.parametrize("S", [7, 32])
def test_faces_are_read_where_theirs_are(golden, S):
    z = golden("projection")
    for ours, theirs in zip(erp_places(S, 120, 240), ("mapx", "mapy"), strict=True):
        assert np.abs(ours.numpy() - z[f"cube{S}_{theirs}"]).max() < 1e-11
    erp = torch.from_numpy(z["erp"]).permute(2, 0, 1)[None]
    wanted = torch.from_numpy(z[f"cube{S}"]).permute(0, 3, 1, 2)
    got = upstream.erp_to_cube(torch.cat((erp, 2 * erp)), S)
    assert (got[:6] - wanted).abs().max() < 1e-12
    assert (got[6:] - 2 * wanted).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_faces_and_not_the_places(dtype):
    faces = torch.rand(6, 1, 240, 240).to(dtype)
    got, wanted = upstream.cube_to_erp(faces), upstream.cube_to_erp(faces.float())
    assert got.dtype == dtype
    assert (got.float() - wanted).abs().max() < torch.finfo(dtype).eps


@pytest.mark.parametrize("S", [7, 32])
@pytest.mark.parametrize("align", [True, False])
def test_panoramas_are_read_where_theirs_are(golden, S, align):
    z = golden("projection")
    place, face = cube_places(S)
    assert np.abs(place.numpy() - z[f"c2e{S}_coord"]).max() < 1e-12
    assert np.array_equal(face.numpy(), z[f"c2e{S}_face"])
    faces = torch.from_numpy(z[f"cube{S}"]).permute(0, 3, 1, 2).float()
    got = upstream.cube_to_erp(torch.cat((faces, -faces)), align_corners=align)
    wanted = torch.from_numpy(z[f"c2e{S}_align_{str(align).lower()}"])
    assert (got[0] - wanted).abs().max() < 3e-6
    assert (got[1] + wanted).abs().max() < 3e-6


def test_their_faces_are_a_texels_half_and_a_pixel_aside(golden):
    """The published read lies up and left by half a texel, right and down by a pixel."""
    S, H = 30, 120
    erp = torch.from_numpy(golden("projection")["erp"]).permute(2, 0, 1)[None]
    theirs = upstream.erp_to_cube(erp, S)[TO_OURS]
    ours = projections.erp_to_cube(erp, S)[0]
    assert 0.005 < (theirs - ours)[:4].abs().mean() < 0.03
    col, row = erp_places(S, H, 2 * H)
    front = col[2], row[2]
    # The direction of a texel's corner, in our pixels, is theirs less one and less one half.
    u = torch.arange(S).double() * 2 / S - 1
    assert (front[0][0] - (torch.atan(u) / np.pi + 1) * H - 1).abs().max() < 2e-3
    assert (front[1][:, S // 2] - (torch.atan(u) / np.pi + 0.5) * H - 1).abs().max() < 2e-3


@pytest.mark.parametrize("case", range(4))
def test_viewports_show_what_theirs_show(golden, case):
    z = golden("fov")
    fov, yaw, pitch = z[f"c{case}_args_fov_theta_phi_deg"]
    mask, x, y = upstream.nfov_mask(*z["theta"].shape, fov, yaw, pitch)
    assert np.array_equal(mask.numpy(), z[f"c{case}_mask"])
    assert np.allclose(x.numpy(), z[f"c{case}_px"], rtol=1e-10)
    assert np.allclose(y.numpy(), z[f"c{case}_py"], rtol=1e-10)


def test_class_scores_are_theirs(golden):
    s = {key: torch.from_numpy(value) for key, value in golden("resnet_cubepad").items()}
    got = upstream.class_scores(s["cam.feat"], s["cam.fc_weight"])
    assert torch.allclose(got, s["cam.score"], atol=1e-4)
    positive = s["cam.fc_weight"].abs()
    assert torch.equal(
        upstream.class_scores(s["cam.feat"], positive),
        torch.nn.functional.conv2d(s["cam.feat"], positive[:, :, None, None]),
    )


def test_states_are_theirs(golden):
    z = {key: torch.from_numpy(value) for key, value in golden("clstm_losses").items()}
    weights = {key[2:]: value for key, value in z.items() if key.startswith("w.")}
    clip = upstream.unit_sequence(z["seq"][None])[0]
    hidden = cell = clip[0]
    for k, frame in enumerate(clip):
        hidden, cell = upstream.conv_lstm_step(frame, hidden, cell, weights)
        assert (hidden - z["h"][k]).abs().max() < 2e-6
        assert (cell - z["c"][k]).abs().max() < 2e-6
    zeros = torch.zeros_like(cell)
    for first in (clip[0], z["seq"][0]):
        hidden, cell = upstream.conv_lstm_step(first, zeros, zeros, weights)
        if (hidden - z["h_nostate"]).abs().max() < 2e-6:
            assert (cell - z["c_nostate"]).abs().max() < 2e-6
            return
    raise AssertionError("the state after one frame from nothing is not theirs")


def test_a_sequence_is_stretched_by_itself_alone():
    clip = torch.rand(2, 3, 6, 4, 2, 2)
    unit = upstream.unit_sequence(clip)
    assert unit.flatten(1).amin(1).tolist() == [0, 0] and unit.flatten(1).amax(1).tolist() == [1, 1]
    assert torch.allclose(unit[:1], upstream.unit_sequence(clip[:1]))
    assert not upstream.unit_sequence(torch.full_like(clip, 3.0)).any()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: upstream.erp_to_cube(torch.zeros(1, 1, 4, 9), 2), "image: 4 x 9, wanted twice"),
        (lambda: upstream.cube_to_erp(torch.zeros(6, 1, 1, 1)), "faces: .*S at least 2"),
        (lambda: upstream.cube_to_erp(torch.zeros(1, 6, 1, 2, 2)), "faces: .*wanted"),
        (lambda: upstream.nfov_mask(4, 8, 180, 0, 0), "fov: 180, wanted above 0 and below 180"),
        (lambda: upstream.nfov_mask(4, 8, 90, math.nan, 0), "yaw: nan, wanted a finite number"),
        (lambda: upstream.nfov_mask(4, 8, 90, 0, math.inf), "pitch: inf, wanted a finite number"),
        (lambda: upstream.nfov_mask(4, 8, 90, 0, 0, 3), r"size: 3, wanted \(H, W\)"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises((ValueError, TypeError), match=named):
        call()
