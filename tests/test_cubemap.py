"""Six faces: where they look, what lies beyond their edges, and back to a panorama."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import projections, sphere
from tests.test_projections import analytic, picture

CORNERS = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=torch.float64)


def faces_of(S, dtype=torch.float32):
    d = torch.nn.functional.normalize(projections.cube_directions(S), dim=-1)
    return analytic(d)[None, :, None].to(dtype)


def near_edges_and_corners():
    """Directions on and within a texel of every edge and corner of the cube."""
    generator = torch.Generator().manual_seed(0)
    blur = 0.006 * torch.randn(8, 500, 3, generator=generator, dtype=torch.float64)
    corners = (CORNERS[:, None] + blur).reshape(-1, 3)
    edges = torch.rand(6000, 3, generator=generator, dtype=torch.float64) * 2 - 1
    for axis in range(3):
        part = edges[axis * 2000 : (axis + 1) * 2000]
        part[:, axis] = torch.sign(part[:, axis])
        other = (axis + 1) % 3
        part[:, other] = torch.sign(part[:, other]) * (
            1 + 0.01 * (torch.rand(2000, generator=generator) - 0.5)
        )
    return torch.nn.functional.normalize(torch.cat((CORNERS, corners, edges)), dim=-1)


def test_every_face_looks_where_the_design_says_and_is_upright():
    centre = projections.cube_directions(1)[:, 0, 0]
    wanted = [(0, 0), (90, 0), (180, 0), (-90, 0), (0, 90), (0, -90)]  # F R B L U D
    for d, (lon, lat) in zip(centre, wanted, strict=True):
        at = sphere.lonlat_to_xyz(math.radians(lon), math.radians(lat))
        assert sphere.angle_between(d, at) < 1e-12
    d = projections.cube_directions(8)
    for face in d[:4]:  # the four around: rows go down, columns to the right as seen
        assert (face[0, :, 1] < face[-1, :, 1]).all()
        lon, _ = sphere.xyz_to_lonlat(face[4])
        assert (torch.sin(lon[1:] - lon[:-1]) > 0).all()
    up, down = d[4], d[5]
    assert (up[-1, :, 2] > 0.8).all() and (up[0, :, 2] < -0.8).all()  # the front is below
    assert (down[0, :, 2] > 0.8).all() and (down[-1, :, 2] < -0.8).all()  # the front is above
    for face in (up, down):
        assert (face[:, -1, 0] > 0.8).all()  # right is right


@given(st.integers(1, 9))
def test_texels_survive_the_round_trip(S):
    face, row, col = projections.cube_pixel(3.7 * projections.cube_directions(S), S)
    f, i, j = torch.meshgrid(torch.arange(6), torch.arange(S), torch.arange(S), indexing="ij")
    assert torch.equal(face, f)
    assert torch.allclose(row, i.double(), atol=1e-9)
    assert torch.allclose(col, j.double(), atol=1e-9)


def test_erp_to_cube_is_within_1e_4():
    S = 256
    got = projections.erp_to_cube(picture(512, 1024), S)
    assert got.shape == (1, 6, 1, S, S)
    assert (got - faces_of(S)).abs().max() < 1e-4


def test_cube_to_erp_is_within_3e_4_edges_and_corners_included():
    faces = faces_of(256)
    error = (projections.cube_to_erp(faces, 512) - picture(512, 1024)).abs()
    assert error.max() < 3e-4
    d = near_edges_and_corners()
    assert (projections.sample_cube(faces, d)[0, 0] - analytic(d)).abs().max() < 3e-4


def test_clamping_at_the_edges_would_not_be():
    """The test above can fail: each face read on its own is off by a hundred times more."""
    S, d = 256, near_edges_and_corners()
    face, row, col = projections.cube_pixel(d, S)
    row, col = row.clamp(0, S - 1), col.clamp(0, S - 1)
    picked = faces_of(S)[0, :, 0][face, row.round().long(), col.round().long()]
    assert (picked - analytic(d)).abs().max() > 3e-3


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=40)
def test_constants_and_weights(S, H, W):
    ones = torch.full((2, 6, 3, S, S), 0.7)
    assert torch.allclose(projections.cube_to_erp(ones, H, W), torch.tensor(0.7), atol=1e-6)
    table = projections.cube_table(torch.cat((near_edges_and_corners()[:300], CORNERS)), S)
    assert torch.allclose(table.weights.sum(1), torch.ones(308).double())
    assert int(table.pixels.min()) >= 0 and int(table.pixels.max()) < 6 * S * S


@pytest.mark.parametrize("S", [1, 2, 5])
def test_a_read_across_edges_equals_its_table(S):
    faces = torch.rand(2, 6, 3, S, S, dtype=torch.float64)
    d = torch.cat((near_edges_and_corners()[::9], sphere.sample_sphere(200)))
    stacked = faces.transpose(1, 2).reshape(2, 3, 6 * S, S)
    wanted = projections.apply_table(stacked, projections.cube_table(d, S))
    assert torch.allclose(projections.sample_cube(faces, d), wanted, atol=1e-12)


def test_values_are_continuous_across_every_edge():
    S = 16
    faces = torch.rand(1, 6, 1, S, S, dtype=torch.float64)
    t = torch.linspace(-0.93, 0.93, 40, dtype=torch.float64)
    for axis, sign, sign2 in itertools.product(range(3), (1, -1), (1, -1)):
        edge = torch.empty(40, 3, dtype=torch.float64)
        edge[:, axis], edge[:, (axis + 1) % 3], edge[:, (axis + 2) % 3] = t, sign, sign2
        nudge = torch.zeros(3, dtype=torch.float64)
        nudge[(axis + 1) % 3] = sign * 1e-7
        a = projections.sample_cube(faces, edge + nudge)
        b = projections.sample_cube(faces, edge - nudge)
        # Each side interpolates the other's row by its own lattice, so a jump remains that a
        # smooth picture does not see; white noise sees at most this much.
        assert (a - b).abs().max() < 0.55


def test_the_gradient_of_cube_to_erp_is_its_adjoint():
    x = torch.rand(1, 6, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: projections.cube_to_erp(v, 6, 11), (x,))
    out = projections.cube_to_erp(x, 8)
    y, probe = torch.rand_like(out), torch.randn_like(x)
    (back,) = torch.autograd.grad((out * y).sum(), x)
    forward = (projections.cube_to_erp(probe, 8) * y).sum()
    assert torch.allclose(forward, (probe * back).sum())


@pytest.mark.parametrize(("H", "W"), [(64, 128), (63, 101)])
def test_to_the_cube_and_back(H, W):
    image = picture(H, W)
    back = projections.cube_to_erp(projections.erp_to_cube(image, 64), H, W)
    assert (back - image).abs().max() < 0.01
    many = torch.cat((image, 2 * image))
    both = projections.cube_to_erp(projections.erp_to_cube(many, 64), H, W)
    assert torch.allclose(both[1:], 2 * back, atol=1e-5)


def test_tables_are_kept_and_serve_training_after_inference():
    projections.clear_tables()
    image = torch.rand(1, 1, 8, 16)
    with torch.inference_mode():
        first = projections.erp_to_cube(image, 4)
    made = projections._cube_reader.cache_info().misses
    trained = image.clone().requires_grad_()
    projections.erp_to_cube(trained, 4).sum().backward()
    assert trained.grad is not None and torch.equal(first, projections.erp_to_cube(image, 4))
    assert projections._cube_reader.cache_info().misses == made == 1
    projections.clear_tables()
    assert projections._cube_reader.cache_info().currsize == 0


def test_numpy_is_accepted():
    faces = np.random.default_rng(0).random((1, 6, 1, 4, 4))
    assert projections.cube_to_erp(faces, 4).dtype == torch.float64


WORDS = {"F": (0, 0), "R": (90, 0), "B": (180, 0), "L": (-90, 0), "U": (0, 90), "D": (0, -90)}


def test_the_labelled_panorama_has_a_word_upright_in_the_middle_of_each_face(real):
    """Each face is the view of a camera that looks there, level, pixel for pixel."""
    from sal360.images import read_image

    rgb = torch.from_numpy(read_image(real("samples/labelled_faces.jpg"))).permute(2, 0, 1)
    image = rgb[None].float() / 255
    faces = projections.erp_to_cube(image, 128)[0]
    for k, name in enumerate("FRBLUD"):
        yaw, pitch = (math.radians(v) for v in WORDS[name])
        view = projections.erp_to_viewport(image, yaw, pitch, math.pi / 2, (128, 128))[0]
        assert (faces[k] - view).abs().max() < 1e-3, name
        turned = (faces[k] - view.rot90(1, (-2, -1))).abs().mean()
        mirrored = (faces[k] - view.flip(-1)).abs().mean()
        assert min(turned, mirrored) > 0.02, name  # the word would tell


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: projections.erp_to_cube(torch.rand(1, 1, 4, 8), 0), "S"),
        (lambda: projections.erp_to_cube(torch.rand(1, 4, 8), 4), "image"),
        (lambda: projections.erp_to_cube(torch.rand(1, 1, 4, 8), 4, "cubic"), "mode"),
        (lambda: projections.cube_to_erp(torch.rand(1, 5, 1, 4, 4), 4), "faces"),
        (lambda: projections.cube_to_erp(torch.rand(6, 1, 4, 4), 4), "faces"),
        (lambda: projections.cube_to_erp(torch.rand(1, 6, 1, 4, 5), 4), "faces"),
        (lambda: projections.cube_to_erp(torch.zeros(1, 6, 1, 0, 0), 4), "faces"),
        (lambda: projections.cube_to_erp(torch.zeros(1, 6, 1, 2, 2).long(), 4), "faces"),
        (lambda: projections.cube_to_erp(torch.rand(1, 6, 1, 4, 4), 0), "H"),
        (lambda: projections.cube_to_erp(torch.rand(1, 6, 1, 4, 4), 4, -2), "W"),
        (lambda: projections.sample_cube(torch.rand(1, 6, 1, 4, 4), [0, 0, 0]), "xyz"),
        (lambda: projections.cube_pixel([0, float("nan"), 1], 4), "xyz"),
        (lambda: projections.erp_to_viewport(torch.rand(1, 1, 2, 2), 0, 0, 1, (4, 4, 4)), "size"),
        (lambda: projections.erp_to_viewport(torch.rand(1, 1, 2, 2), 0, 0, math.nan), "fov"),
        (lambda: projections.erp_to_viewport(torch.rand(1, 1, 2, 2), math.inf, 0, 1), "yaw"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()
