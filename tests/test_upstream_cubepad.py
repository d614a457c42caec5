"""The published cube padding, texel for texel, and the published network around it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sal360 import upstream
from sal360.cubemap import FACES
from sal360.nn import CubePad2d

TO_THEIRS = [FACES.index(letter) for letter in "BDFLRU"]  # they call U top
TO_OURS = [TO_THEIRS.index(k) for k in range(6)]


@pytest.mark.parametrize(
    ("name", "pad"),
    [("pad1", 1), ("pad2", 2), ("pad3", 3), ("pad_lrtd_1230", (1, 2, 3, 0))],
)
def test_texel_for_texel(golden, name, pad):
    stored = golden("cubepad")
    got = upstream.cube_pad(torch.from_numpy(stored["input"]), pad)
    assert np.array_equal(got.numpy(), stored[name])


def test_cubes_of_a_batch_do_not_mix(golden):
    x = torch.from_numpy(golden("cubepad")["input"])
    pair = upstream.cube_pad(torch.cat((x, 2 * x)), 2)
    assert torch.equal(pair[6:], 2 * upstream.cube_pad(x, 2))


@pytest.mark.parametrize("S", [1, 2, 7])
def test_one_ring_is_ours_but_for_the_corners(S):
    x = torch.rand(6, 2, S, S)
    theirs = upstream.cube_pad(x[TO_THEIRS], 1)[TO_OURS]
    ours = CubePad2d(1)(x)
    corner = torch.zeros(S + 2, S + 2, dtype=torch.bool)
    corner[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    assert torch.equal(theirs[..., ~corner], ours[..., ~corner])
    if S > 1:
        assert not torch.equal(theirs[..., corner], ours[..., corner])


@pytest.mark.parametrize("pad", [2, 3])
def test_wider_rims_are_reversed_on_eight_edges_and_no_others(pad):
    S = 8
    x = torch.rand(6, 1, S, S)
    theirs = upstream.cube_pad(x[TO_THEIRS], pad)
    ours = CubePad2d(pad)(x)[TO_THEIRS]
    edges = {
        "top": lambda y: y[:, :pad, pad:-pad],
        "bottom": lambda y: y[:, -pad:, pad:-pad],
        "left": lambda y: y[:, pad:-pad, :pad].mT,
        "right": lambda y: y[:, pad:-pad, -pad:].mT,
    }
    found = set()
    for letter, a, b in zip(upstream.CP360_FACES, theirs, ours, strict=True):
        for side, strip in edges.items():
            if torch.equal(strip(a), strip(b).flip(1)):
                found.add((letter, side))
            else:
                assert torch.equal(strip(a), strip(b)), (letter, side)
    assert found == set(upstream.REVERSED_EDGES) and len(found) == 8


def test_the_gradient_is_the_adjoint():
    x = torch.rand(6, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: upstream.cube_pad(x, (2, 0, 1, 3)), (x,))


def _norm(x, stored, name):
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(stored[f"{name}.{part}"] for part in names))


def test_the_published_bottleneck(golden):
    s = {key: torch.from_numpy(value) for key, value in golden("resnet_cubepad").items()}
    w = {key.removeprefix("bneck.w."): value for key, value in s.items() if "bneck.w." in key}
    x = s["bneck.x"]
    y = F.relu(_norm(F.conv2d(x, w["conv1.weight"]), w, "bn1"))
    y = F.conv2d(upstream.cube_pad(y, 1), w["conv2.weight"], stride=2)
    y = F.conv2d(F.relu(_norm(y, w, "bn2")), w["conv3.weight"])
    y = _norm(y, w, "bn3")
    side = _norm(F.conv2d(x, w["downsample.0.weight"], stride=2), w, "downsample.1")
    assert torch.allclose(F.relu(y + side), s["bneck.y"], atol=1e-5)


def test_the_published_stem(golden):
    s = {key: torch.from_numpy(value) for key, value in golden("resnet_cubepad").items()}
    x = F.conv2d(upstream.cube_pad(s["stem.x"], 3), s["stem.conv1.weight"], stride=2)
    x = F.relu(_norm(x, s, "stem.bn1"))
    assert torch.allclose(x, s["stem.after_relu"], atol=1e-5)
    x = F.max_pool2d(upstream.cube_pad(x, 1), 3, 2)
    assert torch.allclose(x, s["stem.after_maxpool"], atol=1e-5)


def test_the_published_class_scores(golden):
    """The classifier at every texel, its weights moved up until the smallest is zero."""
    s = {key: torch.from_numpy(value) for key, value in golden("resnet_cubepad").items()}
    weight = s["cam.fc_weight"] - s["cam.fc_weight"].min()
    scores = F.conv2d(s["cam.feat"], weight[:, :, None, None])
    assert torch.allclose(scores, s["cam.score"], atol=1e-4)


@pytest.mark.parametrize(
    ("x", "pad", "message"),
    [
        (torch.zeros(5, 1, 4, 4), 1, "x: 5 faces, wanted a multiple of 6"),
        (torch.zeros(6, 1, 4, 5), 1, "x: faces of 4 x 5, wanted square"),
        (torch.zeros(1, 6, 1, 4, 4), 1, r"wanted \(6 N, C, S, S\)"),
        (torch.zeros(6, 1, 4, 4), 5, "pad: 5, wanted at most the 4"),
        (torch.zeros(6, 1, 4, 4), -1, "pad: -1, wanted at least"),
        (torch.zeros(6, 1, 4, 4), (1, 2), "pad: .*wanted one number or"),
    ],
)
def test_what_cannot_be_padded_is_refused(x, pad, message):
    with pytest.raises(ValueError, match=message):
        upstream.cube_pad(x, pad)
