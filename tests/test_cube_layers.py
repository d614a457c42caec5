"""Glued faces: the right texel in the right place, exact gradients, no seam, any network."""

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sal360 import sphere
from sal360._tables import HELD
from sal360.cubemap import FACES, cube_directions
from sal360.nn import CubePad2d, check_equivariance, to_cube_padded
from sal360.upstream import cube_pad

KEYS = Path(__file__).parent / "golden" / "cubepad_resnet50_keys.txt"
modes = pytest.mark.parametrize("mode", ["copy", "reproject"])


def plane_directions(S, p):
    """Unit directions ``(6, P, P, 3)`` of the faces' lattices, continued by ``p`` texels."""
    own = cube_directions(S)
    right = (cube_directions(2)[:, 0, 1] - cube_directions(2)[:, 0, 0])[:, None, None]
    down = (cube_directions(2)[:, 1, 0] - cube_directions(2)[:, 0, 0])[:, None, None]
    ahead = own.mean((1, 2))[:, None, None]
    step = (2 * torch.arange(-p, S + p, dtype=torch.float64) + 1 - S) / S
    points = ahead + step[:, None, None] * down + step[None, :, None] * right
    assert torch.allclose(points[:, p : p + S, p : p + S], own)
    return points / points.norm(dim=-1, keepdim=True)


def waves(d, frequency=4.0, n=8):
    """``n`` smooth fields on the sphere at directions ``(6, a, b, 3)``: ``(6, n, a, b)``."""
    generator = torch.Generator().manual_seed(3)
    k = torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)
    k = frequency * k / k.norm(dim=-1, keepdim=True)
    phase = 6.28 * torch.rand(n, 3, 1, 1, 1, generator=generator, dtype=torch.float64)
    d = d / d.norm(dim=-1, keepdim=True)
    return torch.sin(torch.einsum("nwc,fijc->nwfij", k, d) + phase).mean(1).movedim(1, 0)


def slow_copy(x, p):
    """Edges of the rim by walking: from the shared edge, texel by texel, around the cube.

    ``(6, C, S, S)`` to ``(6, C, P, P)``; NaN in the corners. Directions are all it uses.
    """
    S = x.shape[-1]
    home = {tuple((d * S).round().int().tolist()): (f, i, j)
            for f, face in enumerate(cube_directions(S))
            for i, line in enumerate(face) for j, d in enumerate(line)}  # fmt: skip
    out = x.new_full((6, x.shape[1], S + 2 * p, S + 2 * p), math.nan)
    out[..., p : p + S, p : p + S] = x
    for f, face in enumerate(cube_directions(S)):
        ahead = face.mean((0, 1)).round()
        for along in range(S):
            for name, edge in (("top", face[0, along]), ("bottom", face[-1, along]),
                               ("left", face[along, 0]), ("right", face[along, -1])):  # fmt: skip
                lines = face[:, along] if name in ("top", "bottom") else face[along]
                inward = (lines[-1] - lines[0]) * (1 if name in ("top", "left") else -1)
                outward = -torch.sign(inward).round() if S > 1 else _outward(f, name)
                for k in range(p):  # over the edge, then k texels down the neighbour
                    over = edge + outward / S
                    d = over - ahead * (2 * k + 1) / S
                    g, i, j = home[tuple((d * S).round().int().tolist())]
                    beyond = p - 1 - k if name in ("top", "left") else p + S + k
                    at = (beyond, p + along) if name in ("top", "bottom") else (p + along, beyond)
                    out[f, :, at[0], at[1]] = x[g, :, i, j]
    return out


def _outward(face, name):
    right, down = (cube_directions(2)[face, i, j] - cube_directions(2)[face, 0, 0]
                   for i, j in ((0, 1), (1, 0)))  # fmt: skip
    return {"top": -down, "bottom": down, "left": -right, "right": right}[name]


@pytest.mark.parametrize(("S", "p"), [(1, 1), (2, 1), (3, 3), (4, 2), (5, 5), (8, 3)])
def test_each_texel_of_the_rim_is_the_one_that_paper_folded_over_the_edge_covers(S, p):
    coded = torch.arange(6 * S * S, dtype=torch.float64).reshape(6, 1, S, S)
    wanted, got = slow_copy(coded, p), CubePad2d(p)(coded)
    edges = ~wanted.isnan()
    assert torch.equal(got[edges], wanted[edges])
    assert int((~edges).sum()) == 6 * 4 * p * p
    assert bool(((got >= 0) & (got < 6 * S * S)).all())


def test_a_neighbour_known_by_heart():
    """Above the front is the lower edge of up; right of up is the top of right, turned."""
    x = torch.arange(6 * 9, dtype=torch.float32).reshape(1, 6, 1, 3, 3)
    f, r, _, _, u, _ = x[0, :, 0]
    padded = CubePad2d(2)(x)[0, :, 0]
    front, up = padded[0], padded[4]
    assert torch.equal(front[1, 2:5], u[2]) and torch.equal(front[0, 2:5], u[1])
    assert torch.equal(front[2:5, 5], r[:, 0]) and torch.equal(front[2:5, 6], r[:, 1])
    assert torch.equal(up[2:5, 5], r[0].flip(0)) and torch.equal(up[5, 2:5], f[0])


def test_a_rim_wider_than_a_face_goes_around_the_cube():
    S = 3
    x = torch.rand(6, 1, S, S)
    wide = CubePad2d((4 * S, 4 * S, 0, 0))(x)
    front, right, back, left = x[:4]
    belt = torch.cat((front, right, back, left, front, right, back, left, front), -1)
    assert torch.equal(wide[0], belt)
    column = CubePad2d((0, 0, 2 * S, 0))(x)[0]
    assert torch.equal(column[:, S : 2 * S], x[4]) and torch.equal(column[:, :S], x[2].flip(1, 2))


@modes
@pytest.mark.parametrize("sides", [(0, 2, 1, 3), (1, 0, 0, 0), (0, 0, 0, 5), (2, 2, 0, 0)])
def test_sides_may_differ(mode, sides):
    """A padding with fewer texels is a cut from one with more."""
    left, right, top, bottom = sides
    x = torch.rand(6, 2, 4, 4, dtype=torch.float64)
    whole = CubePad2d(5, mode)(x)
    cut = whole[..., 5 - top : 9 + bottom, 5 - left : 9 + right]
    assert torch.allclose(CubePad2d(sides, mode)(x), cut, atol=1e-12)


@modes
@pytest.mark.parametrize("sides", [(1, 1, 1, 1), (0, 2, 1, 3)])
def test_a_compiled_program_pads_by_one_call(mode, sides):
    """The call is fit for torch's compiler, and is what the layer does otherwise."""
    x = torch.rand(6, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    pad = CubePad2d(sides, mode)
    y = torch.ops.sal360.cube_pad(x, sides, mode)
    assert torch.equal(y, pad(x))
    back = torch.rand_like(y, requires_grad=True)
    assert torch.equal(*(torch.autograd.grad(out, x, back)[0] for out in (y, pad(x))))
    for call, known in ((torch.ops.sal360.cube_pad, x), (torch.ops.sal360.cube_unpad, back)):
        torch.library.opcheck(call.default, (known, sides, mode))
        assert torch.autograd.gradcheck(lambda t, call=call: call(t, sides, mode), known)
    torch.compiler.reset()
    program = torch.compile(pad, backend="aot_eager", fullgraph=HELD)
    batch = torch.rand(2, 6, 3, 4, 4)
    for faces in (x, batch, batch.bfloat16()):
        assert torch.equal(program(faces), pad(faces))
    for wrong in (torch.rand(5, 1, 4, 4), torch.rand(6, 1, 4, 3)):
        with pytest.raises(Exception, match="x: "):
            program(wrong)
    assert not any("cube_pad" in str(node.target) for node in torch.export.export(
        pad, (batch,)).graph.nodes)  # fmt: skip


@modes
@given(S=st.integers(1, 6), sides=st.tuples(*[st.integers(0, 4)] * 4), B=st.integers(1, 3))
@settings(max_examples=30)
def test_linear_exact_adjoint_constant_and_both_shapes(mode, S, sides, B):
    pad = CubePad2d(sides, mode)
    x = torch.rand(B, 6, 2, S, S, dtype=torch.float64, requires_grad=True)
    y = pad(x)
    assert torch.equal(pad(x.flatten(0, 1)), y.flatten(0, 1))
    left, right, top, bottom = sides
    assert y.shape == (B, 6, 2, S + top + bottom, S + left + right)
    assert torch.equal(y[..., top : top + S, left : left + S], x)
    assert torch.allclose(pad(torch.ones_like(x)), torch.ones_like(y), atol=1e-12)
    z = torch.rand_like(y)
    (gx,) = torch.autograd.grad(y, x, z)  # <Ax, z> = <x, A'z>
    assert torch.allclose((y * z).sum(), (x * gx).sum(), rtol=1e-12)


@modes
@pytest.mark.parametrize(("S", "p"), [(1, 1), (2, 1), (2, (0, 2, 1, 3)), (1, 2)])
def test_gradients_of_first_and_second_order(mode, S, p):
    x = torch.rand(6, 1, S, S, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CubePad2d(p, mode), (x,))
    assert torch.autograd.gradgradcheck(CubePad2d(p, mode), (x,))


@modes
def test_any_floating_dtype_and_any_strides(mode):
    x = torch.rand(2, 6, 3, 5, 5, dtype=torch.float64)
    pad, exact = CubePad2d(2, mode), CubePad2d(2, mode)(x)
    for dtype, off in ((torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        low = x.to(dtype).requires_grad_()
        got = pad(low)
        assert got.dtype == dtype and (got - exact).abs().max() < off
        got.sum().backward()
        assert low.grad.dtype == dtype
    for view in (x.transpose(-1, -2), x[:, :, ::2], x.expand(2, 6, 3, 5, 5).flip(0)):
        assert torch.equal(pad(view), pad(view.contiguous()))
    last = x.flatten(0, 1).to(memory_format=torch.channels_last)
    assert torch.equal(pad(last), exact.flatten(0, 1))


@modes
@pytest.mark.parametrize("channels", [3, 7 * 2, 7 * 5])
def test_cubes_and_channels_are_handled_in_blocks_that_change_nothing(mode, channels, monkeypatch):
    """Three of seven channels at a time, two of five cubes, or all; a slice of a batch as well."""
    from sal360.nn import rim, rim_native

    monkeypatch.setattr(rim_native, "compiled", None)
    monkeypatch.setattr(rim, "_BLOCK", 6 * 100 * channels)
    batch = torch.rand(42, 7, 6, 6, dtype=torch.float64, requires_grad=True)
    x = batch[6:36]
    padded = CubePad2d(2, mode)(x)
    (gradient,) = torch.autograd.grad(padded.square().sum(), batch)
    together = torch.cat([
        torch.cat([CubePad2d(2, mode)(faces[:, [k]]) for k in range(7)], 1)
        for faces in x.split(6)
    ])  # fmt: skip
    assert torch.allclose(padded, together, atol=1e-15)
    (wanted,) = torch.autograd.grad(together.square().sum(), batch)
    assert torch.allclose(gradient, wanted, atol=1e-14)


def test_in_inference_mode_first_and_in_training_after():
    with torch.inference_mode():
        CubePad2d(1)(torch.rand(6, 1, 11, 11))
    x = torch.rand(6, 1, 11, 11, requires_grad=True)
    CubePad2d(1)(x).sum().backward()
    assert x.grad is not None


@modes
def test_turning_the_cube_about_the_vertical_commutes(mode):
    """A quarter turn: F R B L move on by one, U and D turn in place."""

    def turned(x):
        f, r, b, left, u, d = x.unbind(0)
        return torch.stack((r, b, left, f, u.rot90(-1, (-2, -1)), d.rot90(1, (-2, -1))))

    x = torch.rand(6, 2, 6, 6, dtype=torch.float64)
    R = sphere.rotation_matrix(math.pi / 2)
    code = cube_directions(6).permute(0, 3, 1, 2)  # each texel tells its own direction
    assert torch.allclose(turned(code), torch.einsum("ab,fbij->faij", R, code), atol=1e-12)
    pad = CubePad2d(3, mode)
    assert torch.allclose(pad(turned(x)), turned(pad(x)), atol=1e-12)


def ring_errors(mode, S=64, p=3):
    """Largest error of a smooth field in each ring: along the edges, and in the corners."""
    got, exact = CubePad2d(p, mode)(waves(cube_directions(S))), waves(plane_directions(S, p))
    off = (got - exact).abs().amax((0, 1))
    place = torch.arange(-p, S + p)
    beyond = torch.maximum(-place, place - S + 1).clamp(min=0)
    rows, cols = torch.meshgrid(beyond, beyond, indexing="ij")
    edge, ring = (rows == 0) | (cols == 0), torch.maximum(rows, cols)
    return [(float(off[edge & (ring == k)].max()), float(off[~edge & (ring == k)].max()))
            for k in range(1, p + 1)]  # fmt: skip


def test_reading_is_far_nearer_to_a_smooth_field_than_copying():
    copied, read = ring_errors("copy"), ring_errors("reproject")
    for k, ((along, corner), (better, best)) in enumerate(zip(copied, read, strict=True)):
        assert along > 30 * better, k
        assert corner == pytest.approx(best, rel=1e-9)  # corners are read in both
        assert max(better, best) < 0.002 < 0.01 < along
    assert copied[0][0] < copied[1][0] < copied[2][0]


def test_the_tangential_error_of_copying_grows_ring_by_ring():
    """In texels of this face's lattice: .50, 1.55 and 2.67 in the corners of rings 1, 2, 3."""
    S, p = 64, 3
    where = CubePad2d(p)(cube_directions(S).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    front = where[0]
    for k, wanted in ((0, 0.50), (1, 1.55), (2, 2.67)):
        x, _, z = front[p - 1 - k, p : p + S].unbind(-1)
        column = (x / z + 1) * S / 2 - 0.5
        off = (column - torch.arange(S)).abs()
        assert round(float(off.max()), 2) == pytest.approx(wanted, abs=0.011)
        assert off.argmax() in (0, S - 1) and off[S // 2] < 0.1


def with_corners(fill):
    """Padding by one texel with each corner from the two plates' ends beside it."""

    def pad(x):
        y = CubePad2d(1)(x).clone()
        for i, row in ((0, 1), (-1, -2)):
            for j, col in ((0, 1), (-1, -2)):
                y[..., i, j] = fill(y[..., i, col], y[..., row, j])
        return y

    return pad


def published_pad(x):
    """The published padding, for faces F R B L U D."""
    order = [FACES.index(face) for face in "BDFLRU"]
    return cube_pad(x.flatten(0, -4)[order], 1)[[order.index(face) for face in range(6)]]


CORNERS = {
    "copy": CubePad2d(1),
    "mean": with_corners(lambda a, b: (a + b) / 2),
    "published": published_pad,
    "reproject": CubePad2d(1, "reproject"),
}
LAPLACIAN = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]], dtype=torch.float64)[None, None]


def test_the_corner_texels_themselves_are_better_read_than_averaged():
    """The texels of the rim alone; the next test has what a convolution makes of them."""
    x, exact = waves(cube_directions(64)), waves(plane_directions(64, 1))
    ends = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    off = {
        name: float((CORNERS[name](x) - exact)[ends].abs().max())
        for name in ("copy", "mean", "reproject")
    }
    assert off["copy"] == off["reproject"] < 0.0003 < 0.007 < off["mean"] < 0.009


def test_what_a_convolution_makes_of_a_corner_beside_displaced_plates():
    """The numbers in the docstring of CubePad2d: only reading the whole rim mends a corner.

    A corner that is right, beside plates that are not, is worse for a Laplacian than one that
    is as wrong as they are.
    """
    x = waves(cube_directions(64))

    def answer(padded):
        return F.conv2d(padded.reshape(-1, 1, 66, 66), LAPLACIAN).reshape(-1, *x.shape[1:])

    right, ends = answer(waves(plane_directions(64, 1))), (..., [0, 0, -1, -1], [0, -1, 0, -1])
    jumps, off = {}, {}
    for name, pad in CORNERS.items():
        found = check_equivariance(
            lambda faces, pad=pad: F.conv2d(pad(faces), LAPLACIAN).reshape(faces.shape),
            1, 256, 256, tilts=(), grid="cube",
        )  # fmt: skip
        jumps[name], (_, exact) = found.pole, found.rim
        off[name] = float((answer(pad(x)) - right)[ends].square().mean() / right.square().mean())
    assert exact == pytest.approx(2.6, abs=0.05)
    wanted = {"copy": (16.8, 1.85), "mean": (5.9, 1.56), "published": (13.9, 1.62)}
    for name, (jump, error) in {**wanted, "reproject": (3.0, 0.05)}.items():
        assert jumps[name] == pytest.approx(jump, rel=0.03), name
        assert math.sqrt(off[name]) == pytest.approx(error, rel=0.05), name


def test_no_seam_in_what_a_convolution_makes_of_a_smooth_field():
    """The Laplacian of a smooth field, at the edges and in the corners of every face."""
    S = 48
    kernel = torch.tensor([[1.0, 4, 1], [4, -20, 4], [1, 4, 1]], dtype=torch.float64)[None, None]
    x = waves(cube_directions(S))

    def answer(padded):
        return F.conv2d(padded.flatten(0, 1)[:, None], kernel).reshape(x.shape)

    right = answer(waves(plane_directions(S, 1)))
    edge = torch.ones(S, S, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    corner = torch.zeros_like(edge)
    corner[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    off = {
        name: (answer(padded) - right).abs()
        for name, padded in {
            "zero": F.pad(x, (1,) * 4),
            "copy": CubePad2d(1)(x),
            "reproject": CubePad2d(1, "reproject")(x),
        }.items()
    }
    for where in (edge, corner):
        worst = {name: float(v[..., where].max()) for name, v in off.items()}
        assert worst["zero"] > 8 * worst["copy"] > 8 * 8 * worst["reproject"]
    assert all(float(v[..., ~edge].max()) < 1e-12 for v in off.values())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 1, 4, 4), r"x: 5 faces, wanted a multiple of 6"),
        (torch.zeros(6, 1, 4, 5), r"x: faces of 4 x 5, wanted square"),
        (torch.zeros(2, 5, 1, 4, 4), r"x: shape \(2, 5, 1, 4, 4\), wanted \(B, 6, C, S, S\)"),
        (torch.zeros(6, 4, 4), r"x: shape \(6, 4, 4\)"),
        (torch.zeros(6, 1, 0, 0), r"at least one texel"),
    ],
)
def test_other_shapes_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        CubePad2d(1)(x)


def test_other_arguments_are_refused():
    for padding, message in ((-1, "padding: -1"), ((1, 2), "wanted one number or")):
        with pytest.raises(ValueError, match=message):
            CubePad2d(padding)
    with pytest.raises(TypeError, match="padding: 1.5"):
        CubePad2d(1.5)
    with pytest.raises(ValueError, match="mode: 'zeros', wanted 'copy' or 'reproject'"):
        CubePad2d(1, "zeros")
    with pytest.raises(TypeError, match=r"x: dtype torch.uint8, wanted floating"):
        CubePad2d(1)(torch.zeros(6, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(TypeError, match="x: list, wanted a tensor"):
        CubePad2d(1)([1])


def test_no_cubes_and_no_padding():
    assert CubePad2d(1)(torch.zeros(0, 6, 2, 4, 4)).shape == (0, 6, 2, 6, 6)
    x = torch.rand(6, 1, 3, 3)
    assert torch.equal(CubePad2d(0)(x), x)
    assert repr(CubePad2d(1)) == "CubePad2d((1, 1, 1, 1), mode='copy')"
    assert not list(CubePad2d(1).state_dict())


# ---------------------------------------------------------------- whole networks


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if stride != 1 or inputs != 4 * planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for n, (planes, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            layers = []
            for k in range(blocks):
                layers.append(Bottleneck(inputs, planes, 2 if n > 1 and k == 0 else 1))
                inputs = 4 * planes
            setattr(self, f"layer{n}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def test_a_resnet_keeps_its_keys_and_takes_both_shapes():
    torch.manual_seed(0)
    plain = ResNet50().eval()
    glued = to_cube_padded(plain)
    listed = [f"{key} {tuple(v.shape)}" for key, v in glued.state_dict().items()]
    assert sorted(listed) == sorted(KEYS.read_text().splitlines()) and len(listed) == 320
    for key, value in plain.state_dict().items():
        assert torch.equal(glued.state_dict()[key], value)
    glued.load_state_dict(plain.state_dict())
    x = torch.rand(1, 6, 3, 32, 32)
    with torch.no_grad():
        y = glued(x)
        assert y.shape == (1, 6, 1000)
        assert torch.allclose(glued(x[0]), y[0], atol=1e-5)
        assert not torch.allclose(plain(x[0]), y[0], atol=1e-3)
    glued.fc.weight.data.zero_()
    assert plain.fc.weight.abs().max() > 0


CASES = {
    "3 x 3": (nn.Conv2d(2, 4, 3, padding=1), (1, 1, 1, 1)),
    "5 x 3, dilation 2, groups": (
        nn.Conv2d(2, 4, (5, 3), padding=(4, 2), dilation=2, groups=2), (2, 2, 4, 4)),
    "same, odd texel to the right": (nn.Conv2d(2, 3, (4, 2), padding="same"), (0, 1, 1, 2)),
    "same, dilation": (nn.Conv2d(2, 3, 3, padding="same", dilation=3), (3, 3, 3, 3)),
    "stride 2, circular": (
        nn.Conv2d(2, 3, 7, stride=2, padding=3, padding_mode="circular"), (3, 3, 3, 3)),
    "reflect": (nn.Conv2d(2, 3, 3, padding=(1, 0), padding_mode="reflect"), (0, 0, 1, 1)),
    "valid": (nn.Conv2d(2, 3, 3, padding="valid"), (0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:module. Conv2d, nothing glued")  # the valid one
@modes
@pytest.mark.parametrize("case", CASES)
def test_a_convolution_is_itself_after_padding(case, mode):
    layer, sides = CASES[case]
    x = torch.rand(6, 2, 9, 9)
    bare = copy.deepcopy(layer)
    bare.padding, bare.padding_mode = (0, 0), "zeros"
    got = to_cube_padded(layer, mode)(x)
    assert torch.allclose(got, bare(CubePad2d(sides, mode)(x)), atol=1e-6)
    assert got.shape == layer(x).shape
    inside = (slice(None), slice(None), slice(4, 5), slice(4, 5))
    if layer.stride == (1, 1) and layer.padding != "valid":
        assert torch.allclose(got[inside], layer(x)[inside], atol=1e-6)


@pytest.mark.parametrize("S", range(4, 12))
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("k", "s", "p"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (4, 3, 2), (2, 3, 1)])
def test_pooling_keeps_its_size_and_sees_the_neighbours(S, ceil, k, s, p):
    x = -1 - torch.rand(6, 2, S, S)
    for plain in (nn.MaxPool2d(k, s, p, ceil_mode=ceil),
                  nn.AvgPool2d(k, s, p, ceil_mode=ceil, count_include_pad=False)):  # fmt: skip
        got = to_cube_padded(plain)(x)
        assert got.shape == plain(x).shape
        rows = got.shape[-1]
        full = F.pad(x, (0, 0, 0, 0))
        full = CubePad2d((p, (rows - 1) * s + k, p, (rows - 1) * s + k))(full)
        reach = (rows - 1) * s + k
        wanted = type(plain)(k, s)(full[..., :reach, :reach])
        assert torch.allclose(got, wanted, atol=1e-6)


def test_max_pooling_pads_with_neighbours_not_with_nothing():
    x = torch.zeros(6, 1, 4, 4)
    x[FACES.index("U"), 0, -1] = 5.0  # the lower edge of up touches the top of the front
    assert nn.MaxPool2d(3, 1, 1)(x)[0].max() == 0
    assert bool((to_cube_padded(nn.MaxPool2d(3, 1, 1))(x)[0, 0, 0] == 5).all())
    ones = torch.ones(6, 1, 4, 4)
    assert torch.equal(to_cube_padded(nn.AvgPool2d(3, 1, 1))(ones), ones)


def test_padding_layers_become_cube_padding():
    net = nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), nn.ReflectionPad2d(1), nn.Conv2d(1, 1, 3))
    glued = to_cube_padded(net, "reproject")
    assert [type(m) for m in glued] == [CubePad2d, CubePad2d, nn.Conv2d]
    assert glued[0].padding == (1, 2, 0, 1) and glued[0].mode == "reproject"
    assert list(glued.state_dict()) == list(net.state_dict())
    assert type(net[0]) is nn.ZeroPad2d
    x = torch.rand(2, 6, 1, 4, 4)
    assert torch.equal(to_cube_padded(nn.ZeroPad2d(1))(x), CubePad2d(1)(x))


class Odd(nn.Module):
    """Two inputs by name, a dictionary out, one layer used in two places."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.again = self.conv

    def forward(self, x, other=None):
        y = self.again(self.conv(x if other is None else x + other))
        return {"map": y, "pair": (y.mean((2, 3)), y.sum()), "none": None}


def test_outputs_of_any_structure_get_their_axes_back():
    glued = to_cube_padded(Odd())
    x = torch.rand(2, 6, 2, 5, 5)
    out = glued(x, other=x)
    assert out["map"].shape == (2, 6, 2, 5, 5) and out["none"] is None
    assert out["pair"][0].shape == (2, 6, 2) and out["pair"][1].shape == ()
    flat = glued(x.flatten(0, 1), other=x.flatten(0, 1))
    assert torch.equal(flat["map"].unflatten(0, (2, 6)), out["map"])
    pad = CubePad2d(1)
    conv = Odd().conv
    conv.load_state_dict(glued.conv.state_dict())
    conv.padding = (0, 0)
    wanted = conv(pad(conv(pad(2 * x.flatten(0, 1)))))
    assert torch.allclose(flat["map"], wanted, atol=1e-6)


def test_a_twin_can_be_copied_pickled_glued_again_and_trained():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 1, 1))
    glued = to_cube_padded(net)
    x = torch.rand(1, 6, 1, 8, 8)
    for twin in (copy.deepcopy(glued), pickle.loads(pickle.dumps(glued)), to_cube_padded(glued)):
        assert torch.equal(twin(x), glued(x))
    glued(x).square().sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in glued.parameters())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (nn.Conv1d(1, 1, 3), TypeError, "0: Conv1d, wanted Conv2d"),
        (nn.Conv3d(1, 1, 3), TypeError, "0: Conv3d"),
        (nn.ConvTranspose2d(1, 1, 3), TypeError, "0: ConvTranspose2d"),
        (nn.LPPool2d(2, 3), TypeError, "0: LPPool2d"),
        (nn.FractionalMaxPool2d(3, 5), TypeError, "0: FractionalMaxPool2d"),
        (nn.Unfold(3), TypeError, "0: Unfold"),
        (nn.MaxPool2d(2, return_indices=True), ValueError, "0: return_indices"),
        (nn.ZeroPad2d(-1), ValueError, "0: padding"),
    ],
)
def test_layers_that_cannot_be_glued_are_named(layer, error, message):
    with pytest.raises(error, match=message):
        to_cube_padded(nn.Sequential(layer))


def test_what_is_not_six_square_faces_is_refused_before_it_runs():
    glued = to_cube_padded(nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(ValueError, match="x: 7 faces, wanted a multiple of 6"):
        glued(torch.zeros(7, 1, 4, 4))
    with pytest.raises(ValueError, match="wanted square"):
        glued(torch.zeros(1, 6, 1, 4, 5))
    with pytest.raises(TypeError, match="module: function, wanted"):
        to_cube_padded(F.relu)
    with pytest.raises(ValueError, match="mode: 'wrap'"):
        to_cube_padded(nn.Conv2d(1, 1, 3), "wrap")
