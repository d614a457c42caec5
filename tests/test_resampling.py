"""Tables, orders of accuracy, shrinking without aliasing, and the adjoint of every read."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sal360 import projections, resampling, sphere
from tests.test_projections import analytic, awkward_directions, picture

READS = {
    "bilinear": lambda v: projections.sample_erp(v, awkward_directions()),
    "nearest": lambda v: projections.sample_erp(v, awkward_directions(), "nearest"),
    "bicubic": lambda v: projections.sample_erp(v, awkward_directions(), "bicubic"),
    "cube": lambda v: projections.erp_to_cube(v, 3),
    "viewport": lambda v: projections.erp_to_viewport(v, 3.1, 1.4, 1.9, (4, 5), 0.3),
    "rotation": lambda v: projections.rotate_erp(v, sphere.rotation_matrix(0.4, 1.2, 2.0)),
    "area": lambda v: projections.downsample_erp(v, 3, 4),
    "lanczos": lambda v: projections.downsample_erp(v, 3, 4, "lanczos"),
}


@pytest.mark.parametrize("size", [(6, 8), (5, 9)])
@pytest.mark.parametrize("name", READS)
def test_a_gradient_is_the_adjoint_of_its_read(name, size):
    read = READS[name]
    x = torch.rand(2, 2, *size, dtype=torch.float64, requires_grad=True)
    y = torch.rand_like(read(x))
    (back,) = torch.autograd.grad((read(x) * y).sum(), x)
    probe = torch.randn_like(x)
    with torch.no_grad():
        assert torch.allclose((read(probe) * y).sum(), (probe * back).sum(), rtol=1e-9)
    assert torch.autograd.gradcheck(read, (x[:1, :1].detach().requires_grad_(),))


@pytest.mark.parametrize("size", [(6, 8), (5, 9), (1, 1), (2, 3)])
@pytest.mark.parametrize("name", [n for n in READS if n not in ("area", "lanczos")])
def test_a_read_in_single_precision_is_the_table_in_double(name, size):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    exact, single = READS[name](image), READS[name](image.float())
    assert single.dtype == torch.float32 and (exact - single).abs().max() < 1e-5


@pytest.mark.parametrize("mode", resampling.MODES)
def test_a_reader_equals_its_table(mode):
    H, W = 7, 11
    image = torch.rand(2, 3, H, W, dtype=torch.float64)
    d = torch.cat((awkward_directions().reshape(-1, 3), sphere.sample_sphere(300)))
    table = projections.erp_table(d, H, W, mode)
    assert torch.allclose(table.weights.sum(1), torch.ones(len(d)).double(), atol=1e-12)
    assert int(table.pixels.min()) >= 0 and int(table.pixels.max()) < H * W
    wanted = projections.apply_table(image, table)
    assert torch.allclose(projections.sample_erp(image, d, mode), wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_stay_and_shapes_follow(dtype):
    image = torch.rand(2, 3, 6, 10).to(dtype)
    for mode in resampling.MODES:
        for shape in ((), (4,), (2, 5), (2, 3, 4)):
            d = torch.nn.functional.normalize(torch.randn(*shape, 3), dim=-1)
            out = projections.sample_erp(image, d, mode)
            assert out.shape == (2, 3, *shape) and out.dtype == dtype
    assert projections.sample_erp(image, torch.zeros(0, 3)).shape == (2, 3, 0)
    assert projections.downsample_erp(image, 3).dtype == dtype


@pytest.mark.parametrize(("mode", "order"), [("nearest", 1), ("bilinear", 2), ("bicubic", 3)])
def test_orders_of_accuracy(mode, order):
    d = sphere.fibonacci_sphere(4000)
    errors = []
    for H in (32, 64, 128):
        got = projections.sample_erp(picture(H, 2 * H, torch.float64), d, mode)[0, 0]
        errors.append(float((got - analytic(d)).abs().mean()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(rate - order) < 0.25 for rate in rates), rates


def test_bicubic_reads_within_1e_6_at_seam_and_poles():
    d = torch.cat((awkward_directions().reshape(-1, 3), sphere.sample_sphere(2000)))
    got = projections.sample_erp(picture(512, 1024, torch.float64), d, "bicubic")[0, 0]
    assert (got - analytic(d)).abs().max() < 1e-6


# --- shrinking ---


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=60)
def test_area_keeps_integrals_and_bounds(H, W, more_rows, more_cols):
    image = torch.rand(1, 2, H + more_rows, W + more_cols, dtype=torch.float64)
    small = projections.downsample_erp(image, H, W)
    before = (image * sphere.pixel_area(*image.shape[-2:])[:, None]).sum((-2, -1))
    after = (small * sphere.pixel_area(H, W)[:, None]).sum((-2, -1))
    assert torch.allclose(before, after, rtol=1e-12)
    assert small.min() >= image.min() - 1e-12 and small.max() <= image.max() + 1e-12


def test_area_is_the_plain_mean_of_the_cell():
    image = torch.rand(1, 1, 12, 24, dtype=torch.float64)
    small = projections.downsample_erp(image, 4, 6)
    weight = sphere.pixel_area(12, 24)[:, None]
    for i in range(4):
        for j in range(6):
            cell = image[0, 0, 3 * i : 3 * i + 3, 4 * j : 4 * j + 4]
            share = weight[3 * i : 3 * i + 3].expand_as(cell)
            assert abs(small[0, 0, i, j] - (cell * share).sum() / share.sum()) < 1e-12


@pytest.mark.parametrize("filter", ["area", "lanczos"])
@pytest.mark.parametrize("size", [(9, 16), (8, 15), (8, 16), (5, 3)])
def test_constants_and_whole_turns(filter, size):
    ones = torch.ones(1, 1, 24, 45, dtype=torch.float64)
    assert (projections.downsample_erp(ones, *size, filter) - 1).abs().max() < 1e-12
    image = torch.rand(1, 1, 24, 48, dtype=torch.float64)
    small = projections.downsample_erp(image, 8, 16, filter)
    turned = projections.downsample_erp(image.roll(9, -1), 8, 16, filter)
    assert torch.allclose(turned, small.roll(3, -1), atol=1e-12)
    upside = projections.downsample_erp(image.flip(-2), 8, 16, filter)
    assert torch.allclose(upside, small.flip(-2), atol=1e-12)


def test_places_in_single_precision_are_off_by_what_the_docstring_says():
    """On ramps along columns and rows a wrong value is a wrong place."""
    H, W = 1024, 2048
    d = sphere.sample_sphere(100_000, torch.Generator().manual_seed(0))
    row, col = sphere.erp_pixel(d, H, W)
    inner = (row > 0) & (row < H - 1) & (col > 0) & (col < W - 1)
    ramps = torch.stack(
        (torch.arange(H).float()[:, None].expand(H, W), torch.arange(W).float().expand(H, W))
    )
    got = projections.sample_erp(ramps[None], d[inner])[0].double()
    rounding = 2 * W / 2**24  # of the places; the value itself is rounded by half a step more
    assert (got[1] - col[inner]).abs().max() < rounding + W / 2**23
    assert (got[0] - row[inner]).abs().max() < rounding + W / 2**23


def amplitude(frequency, H0, H, filter):
    """What is left of a wave around the equator, by its root mean square."""
    lon = sphere.xyz_to_lonlat(sphere.erp_directions(H0, 2 * H0))[0]
    wave = torch.cos(frequency * lon)[None, None]
    if filter is None:
        small = projections.sample_erp(wave, sphere.erp_directions(H, 2 * H))
    else:
        small = projections.downsample_erp(wave, H, filter=filter)
    return float((2 * small[0, 0, H // 2].square().mean()).sqrt())


def test_what_the_small_grid_cannot_hold_is_gone_and_the_rest_stays():
    H0, H = 256, 32  # the small grid holds up to 32 waves around
    assert amplitude(58, H0, H, None) > 0.9  # a point read turns them into waves of 6
    assert amplitude(58, H0, H, "area") < 0.15
    assert amplitude(58, H0, H, "lanczos") < 0.02
    # One and a half times what the grid holds: the figures of the docstring.
    assert round(amplitude(48, H0, H, "area"), 1) == 0.3 and amplitude(48, H0, H, "lanczos") < 0.02
    assert amplitude(12, H0, H, "lanczos") > 0.98 and amplitude(12, H0, H, "area") > 0.9


def test_detail_near_a_pole_is_kept_that_the_small_grid_can_hold():
    """Twelve waves around, at 80 degrees: fine on the sphere, coarse on the grid."""
    lon, _ = sphere.xyz_to_lonlat(sphere.erp_directions(256, 512))
    wave = torch.cos(12 * lon)[None, None]
    for filter in ("area", "lanczos"):
        small = projections.downsample_erp(wave, 32, filter=filter)
        assert small[0, 0, 1].abs().max() > 0.9


def test_lanczos_reproduces_what_is_smooth():
    small = projections.downsample_erp(picture(256, 512, torch.float64), 64, filter="lanczos")
    assert (small - picture(64, 128, torch.float64)).abs().max() < 1e-4
    odd = projections.downsample_erp(picture(255, 509, torch.float64), 50, 99, "lanczos")
    assert (odd - picture(50, 99, torch.float64)).abs().max() < 1e-3


def test_the_same_size_is_the_same_picture():
    image = torch.rand(1, 2, 9, 14, dtype=torch.float64)
    assert torch.allclose(projections.downsample_erp(image, 9, 14), image, atol=1e-12)
    assert torch.allclose(projections.downsample_erp(image, 9, 14, "lanczos"), image, atol=1e-9)


def test_the_width_keeps_the_proportions():
    assert projections.downsample_erp(torch.rand(1, 1, 64, 100), 32).shape[-2:] == (32, 50)
    assert projections.downsample_erp(torch.rand(1, 1, 64, 3), 8).shape[-2:] == (8, 1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda v: projections.downsample_erp(v, 5), "H"),
        (lambda v: projections.downsample_erp(v, 3, 9), "W"),
        (lambda v: projections.downsample_erp(v, 0), "H"),
        (lambda v: projections.downsample_erp(v, 2, filter="box"), "filter"),
        (lambda v: projections.downsample_erp(v[0], 2), "image"),
        (lambda v: projections.downsample_erp(v.long(), 2), "image"),
        (lambda v: projections.sample_erp(v, [[0, 0]]), "xyz"),
        (lambda v: projections.erp_table([0, 0, 1], 4, 8, "linear"), "mode"),
    ],
)
def test_bad_input_names_the_argument(call, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}: "):
        call(torch.rand(1, 1, 4, 8))
