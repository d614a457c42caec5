"""Reading panoramas: against an analytic picture, against the plain loop, at seam and poles."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import projections, sphere


def analytic(d):
    """A smooth function on the sphere, ``(..., 3)`` to ``(...)``."""
    x, y, z = d.unbind(-1)
    return 0.5 * x + 0.7 * y * z + torch.sin(2 * x + y) + 0.3 * z**3


def picture(H, W, dtype=torch.float32):
    return analytic(sphere.erp_directions(H, W))[None, None].to(dtype)


def awkward_directions():
    """Both poles, the seam from both sides, and what lies within a pixel of them."""
    lon = torch.tensor([180, -180, 179.999, -179.999, 0, 37.0])
    lat = torch.tensor([90, -90, 89.99, -89.99, 0, 45.0])
    lon, lat = torch.meshgrid(torch.deg2rad(lon), torch.deg2rad(lat), indexing="ij")
    return sphere.lonlat_to_xyz(lon, lat)


def plain_bilinear(image, direction):
    """One value, with Python's own arithmetic: the reference."""
    H, W = image.shape
    row, col = (float(v) for v in sphere.erp_pixel(direction, H, W))

    def along(i, c):
        if i < 0:
            i, c = -1 - i, c + W / 2
        if i >= H:
            i, c = 2 * H - 1 - i, c + W / 2
        left = math.floor(c)
        part = c - left
        return (1 - part) * image[i, left % W] + part * image[i, (left + 1) % W]

    top = math.floor(row)
    return (1 - (row - top)) * along(top, col) + (row - top) * along(top + 1, col)


@pytest.mark.parametrize(("H", "W"), [(8, 16), (5, 9), (6, 7), (1, 1), (2, 3)])
def test_bilinear_equals_the_plain_reference(H, W):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(H, W, generator=generator, dtype=torch.float64)
    d = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    d = torch.cat((d, awkward_directions().reshape(-1, 3)))
    got = projections.sample_erp(image[None, None], d)[0, 0]
    wanted = torch.stack([plain_bilinear(image, one) for one in d])
    assert torch.allclose(got, wanted, atol=1e-12)


def test_directions_everywhere_are_read_within_2e_4():
    d = torch.cat(
        (sphere.erp_directions(97, 203).reshape(-1, 3), awkward_directions().reshape(-1, 3))
    )
    error = (projections.sample_erp(picture(512, 1024), d)[0, 0] - analytic(d)).abs()
    assert float(error.max()) < 2e-4


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 8))
@settings(max_examples=40)
def test_a_constant_stays_constant(H, W, seed):
    d = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for mode in ("bilinear", "nearest"):
        out = projections.sample_erp(torch.full((1, 2, H, W), 0.7), d, mode)
        assert torch.allclose(out, torch.tensor(0.7), atol=1e-6)


@given(st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=30)
def test_pixel_centres_are_read_back(H, W):
    image = torch.rand(1, 3, H, W, dtype=torch.float64)
    d = sphere.erp_directions(H, W)
    for mode in ("bilinear", "nearest"):
        assert torch.allclose(projections.sample_erp(image, d, mode), image, atol=1e-9)


def test_reading_is_linear_and_its_gradient_is_its_adjoint():
    image = torch.rand(1, 1, 5, 8, dtype=torch.float64, requires_grad=True)
    d = awkward_directions()
    assert torch.autograd.gradcheck(lambda v: projections.sample_erp(v, d), (image,))
    out = projections.sample_erp(image, d)
    probe = torch.rand_like(out)
    (back,) = torch.autograd.grad((out * probe).sum(), image)
    other = torch.rand_like(image)
    forward = (projections.sample_erp(other, d) * probe).sum()
    assert torch.allclose(forward, (other * back).sum())


def test_a_rotation_moves_the_content():
    H, W = 64, 128
    R = sphere.rotation_matrix(0.7, -0.4, 0.2)
    turned = projections.rotate_erp(picture(H, W), R)
    wanted = analytic(sphere.erp_directions(H, W) @ R)  # in(R^T d)
    assert float((turned[0, 0] - wanted).abs().max()) < 0.01
    back = projections.rotate_erp(turned, R.T)
    assert float((back - picture(H, W)).abs().max()) < 0.02


def test_a_yaw_by_whole_columns_is_a_roll():
    image = torch.rand(1, 2, 9, 12, dtype=torch.float64)
    turned = projections.rotate_erp(image, sphere.rotation_matrix(2 * math.pi * 5 / 12))
    assert torch.allclose(turned, image.roll(5, -1), atol=1e-9)


def test_a_view_looks_where_it_says_and_is_not_mirrored():
    H, W = 180, 360
    lon, lat = sphere.xyz_to_lonlat(sphere.erp_directions(H, W))
    image = torch.stack((lon, lat))[None]
    view = projections.erp_to_viewport(image, 0.5, 0.3, math.radians(60), (41, 61))
    assert torch.allclose(view[0, :, 20, 30], torch.tensor([0.5, 0.3]).double(), atol=1e-3)
    assert (view[0, 0, 20, 1:] > view[0, 0, 20, :-1]).all()  # longitude grows to the right
    assert (view[0, 1, 1:, 30] < view[0, 1, :-1, 30]).all()  # latitude grows up
    rays = projections.viewport_directions(0, 0, math.radians(60), (41, 61))
    edge = 2 * math.degrees(sphere.angle_between(rays[20, 0], [0, 0, 1]))
    assert 59 < edge < 60  # the outer pixel centres lie just inside


def test_a_view_has_one_camera():
    image, several = torch.rand(1, 1, 4, 8), torch.tensor([0.0, 0.5])
    one = projections.erp_to_viewport(image, 0.5, 0, 1.0, (3, 4), mode="bicubic")
    for yaw in (torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]])):
        view = projections.erp_to_viewport(image, yaw, 0, 1.0, (3, 4), mode="bicubic")
        assert torch.equal(view, one)
        asking = yaw.clone().requires_grad_()
        assert projections.erp_to_viewport(image, asking, 0, 1.0, (3, 4)).shape == (1, 1, 3, 4)
    with pytest.raises(ValueError, match=r"^yaw: shape \(2,\), wanted one number"):
        projections.viewport_directions(several, 0, 1.0, (3, 4))
    with pytest.raises(ValueError, match=r"^roll: shape \(2,\), wanted one number"):
        projections.viewport_directions(0, 0, 1.0, (3, 4), several)
    with pytest.raises(TypeError, match="^pitch: .*, wanted one number"):
        projections.erp_to_viewport(image, 0, several, 1.0, (3, 4))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_without_numbers_there_are_shapes(mode):
    image, R = torch.rand(1, 2, 4, 8, device="meta"), sphere.rotation_matrix(0.3)
    answers = {
        (1, 6, 2, 3, 3): projections.erp_to_cube(image, 3, mode),
        (1, 2, 4, 8): projections.rotate_erp(image, R, mode),
        (1, 2, 3, 5): projections.erp_to_viewport(image, 0, 0, 1.0, (3, 5), mode=mode),
        (1, 2, 7): projections.sample_erp(image, torch.rand(7, 3), mode),
        (1, 1, 7): projections.sample_cube(torch.rand(1, 6, 1, 2, 2).to("meta"), torch.rand(7, 3)),
    }
    assert all(got.is_meta and got.shape == shape for shape, got in answers.items())
    with pytest.raises(ValueError, match="^xyz: on meta, wanted a device with numbers"):
        projections.sample_erp(torch.rand(1, 2, 4, 8), torch.rand(7, 3, device="meta"), mode)


def test_the_labelled_panorama_is_where_it_says(real):
    """Opposite words differ, and the front one is at the centre: a mirror would swap them."""
    from sal360.images import read_image

    rgb = torch.from_numpy(read_image(real("samples/labelled_faces.jpg"))).permute(2, 0, 1)
    image = rgb[None].float() / 255
    front = projections.erp_to_viewport(image, 0, 0, math.pi / 2, (64, 64))
    for yaw in (90, 180, -90):
        other = projections.erp_to_viewport(image, math.radians(yaw), 0, math.pi / 2, (64, 64))
        assert float((other - front).abs().mean()) > 0.02


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: projections.sample_erp(torch.rand(3, 4, 4), [0, 0, 1]), "image"),
        (lambda: projections.sample_erp(torch.rand(1, 3, 0, 4), [0, 0, 1]), "image"),
        (lambda: projections.sample_erp(torch.zeros(1, 1, 2, 2).byte(), [0, 0, 1]), "image"),
        (lambda: projections.sample_erp(torch.rand(1, 1, 2, 2), [0, 0, math.nan]), "xyz"),
        (lambda: projections.sample_erp(torch.rand(1, 1, 2, 2), [0.0, 0, 0]), "xyz"),
        (lambda: projections.sample_erp(torch.rand(1, 1, 2, 2), [0, 0, 1], "cubic"), "mode"),
        (lambda: projections.erp_to_viewport(torch.rand(1, 1, 2, 2), 0, 0, math.pi), "fov"),
        (
            lambda: projections.erp_to_viewport(torch.rand(1, 1, 2, 2), 0, 0, 1, (0, 4)),
            r"size\[0\]",
        ),
        (lambda: projections.rotate_erp(torch.rand(1, 1, 2, 2), torch.ones(3, 3)), "R"),
        (lambda: projections.rotate_erp(torch.rand(1, 1, 2, 2), -torch.eye(3)), "R"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_directions_get_a_gradient_where_they_ask_for_one(mode):
    image = torch.rand(1, 2, 9, 16, dtype=torch.float64)
    d = torch.nn.functional.normalize(torch.randn(6, 3, dtype=torch.float64), dim=-1)
    assert torch.autograd.gradcheck(
        lambda v: projections.sample_erp(image, v, mode), (d.requires_grad_(),), eps=1e-7
    )
    plain = projections.sample_erp(image, d.detach(), mode)
    assert torch.allclose(plain, projections.sample_erp(image, d, mode), atol=1e-12)


def test_a_camera_can_be_learned():
    image = picture(64, 128, torch.float64)
    wanted = projections.erp_to_viewport(image, 0.5, 0.2, 1.2, (9, 12))
    gaze = torch.tensor([0.4, 0.1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([gaze], lr=0.02)
    for _ in range(80):
        view = projections.erp_to_viewport(image, gaze[0], gaze[1], 1.2, (9, 12))
        loss = (view - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (gaze - torch.tensor([0.5, 0.2])).abs().max() < 0.01


def test_the_kept_view_does_not_let_bad_input_pass():
    image = torch.rand(1, 1, 4, 8)
    projections.erp_to_viewport(image, 0, 0, 1.0, (4, 4))
    with pytest.raises(TypeError, match=r"^size\[0\]: "):
        projections.erp_to_viewport(image, 0, 0, 1.0, (4.0, 4.0))
    with pytest.raises(TypeError, match="^fov: True"):
        projections.erp_to_viewport(image, 0, 0, True, (4, 4))
    with pytest.raises(ValueError, match=r"is it in degrees\?"):
        projections.erp_to_viewport(image, 0, 0, 90, (4, 4))
    with pytest.raises(ValueError, match=r"^R: shape \(4, 4\)"):
        projections.rotate_erp(image, torch.eye(4))


def test_a_mirrored_numpy_image_is_read():
    array = torch.rand(1, 3, 6, 12).numpy()
    got = projections.erp_to_cube(array[:, ::-1], 4)
    assert torch.equal(got, projections.erp_to_cube(array[:, ::-1].copy(), 4))


def test_a_table_of_another_size_is_refused():
    table = projections.erp_table(torch.randn(20, 3), 32, 64)
    with pytest.raises(ValueError, match="^table: "):
        projections.apply_table(torch.rand(1, 1, 4, 8), table)
