"""The figures and the planted faults of chapter 07."""

import re

import numpy as np
import pytest
import torch

from sal360 import figures, nn, patterns, sphere
from sal360.course import check
from sal360.course.chapter07 import _layers, _tangent_layer, answered, clocked, faces, kept, moved


def test_the_explorer_needs_no_network_and_comes_out_the_same():
    kernels = {
        "tangent": patterns.tangent_pattern(12, 24),
        "crown": (
            patterns.crown_pattern(12, 24, (3, 8), 0.4),
            nn.CrownConv2d(1, 1, (3, 8), 0.4).tap_weights(),
        ),
    }
    plot = figures.kernel_explorer(kernels, steps=5)
    html = plot.html()
    assert html == figures.kernel_explorer(kernels, steps=5).html()
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    assert len(html) < 500_000
    figure = plot.figure
    assert len(figure.frames) == len(figure.layout.sliders[0].steps) == 5
    buttons = figure.layout.updatemenus[0].buttons
    assert [b.label for b in buttons] == ["tangent", "crown"]
    for n, button in enumerate(buttons):  # each shows its own four traces and no others
        shown, traces = button.args
        assert shown["visible"] == [k // 4 == n for k in range(8)]
        assert list(traces) == list(range(8))
    assert all(list(frame.traces) == list(range(8)) for frame in figure.frames)
    assert "tangent: in the first row" in plot.alt and "crown: in the first row" in plot.alt
    words = [figure.data[k].text[0] for k in (3, 7)]
    assert len(words) == 2 and all(re.fullmatch(r"\d+ reads of \d+ pixels in \d+ columns", w)
                                   for w in words)  # fmt: skip
    assert all(len(w) <= 36 for w in words)  # what a phone has room for


def test_the_explorer_shows_all_that_is_read_and_not_much_more():
    kernels = {"tangent": patterns.tangent_pattern(24, 48), "ring": patterns.ring_pattern(24, 48)}
    figure = figures.kernel_explorer(kernels, steps=13).figure
    for frame in figure.frames:
        row = int(frame.name)
        read = sum(figures.read_by(p, row).shares for p in kernels.values()) > 0
        lat, lon = (
            (0.5 - (np.arange(24) + 0.5) / 24) * 180,
            ((np.arange(48) + 0.5) / 48 - 0.5) * 360,
        )
        (south, north), (west, east) = frame.layout.yaxis.range, frame.layout.xaxis.range
        rows, cols = read.any(1), read.any(0)
        assert south <= lat[rows].min() - 3.75 + 1e-9 and north >= lat[rows].max() + 3.75 - 1e-9
        assert west <= lon[cols].min() - 3.75 + 1e-9 and east >= lon[cols].max() + 3.75 - 1e-9
        assert (north - south) / 7.5 <= rows.sum() + 2
        assert len(frame.layout.xaxis.ticktext) >= 2
        assert len(frame.layout.xaxis.ticktext) == len(frame.layout.xaxis.tickvals) <= 9
    shown = figure.layout.xaxis.range
    assert list(shown) == list(figure.frames[2].layout.xaxis.range)  # where the slider stands


def test_the_explorer_refuses_kernels_of_two_sizes():
    with pytest.raises(ValueError, match="kernels: .*wanted one for all"):
        figures.kernel_explorer(
            {"a": patterns.tangent_pattern(12, 24), "b": patterns.tangent_pattern(8, 16)}
        )
    with pytest.raises(ValueError, match="steps: 1"):
        figures.kernel_explorer({"a": patterns.tangent_pattern(12, 24)}, steps=1)


def test_a_finder_answers_one_where_its_kernel_was_cut():
    assert answered(64, 32, "planar") == pytest.approx(1)
    assert answered(64, 32, "bilinear") > 0.99 > answered(64, 2, "bilinear") > 0.7
    assert answered(64, 2, "planar") < 0.3


def test_what_is_kept_is_counted_in_images():
    image = torch.rand(1, 4, 16, 32)
    assert kept(lambda x: x.exp(), image) == (1.0, 0.0)
    images, tables = kept(lambda x: (3 * x).sin() * torch.arange(32.0), image)
    assert images == 1 and tables == 32 / image.numel()
    assert not image.requires_grad and min(clocked(lambda x: x.exp(), image)) >= 0


def test_a_blob_moves_with_its_layer():
    assert moved(lambda x: x, 32, 64) == [0.0, 0.0]
    assert moved(lambda x: x.roll((2, -3), (-2, -1)), 32, 64) == [2.0, -3.0]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_footprint_is_what_the_gradient_says(stride):
    """The shares are the derivative of one output by the pixels."""
    pattern = patterns.crown_pattern(12, 24, (3, 8), 0.5, stride)
    shares = nn.CrownConv2d(1, 1, (3, 8), 0.5).tap_weights()
    for row in (0, 3, len(pattern.lat) - 1):
        seen = figures.read_by(pattern, row, shares)
        image = torch.zeros(1, 1, 12, 24, dtype=torch.float64, requires_grad=True)
        column = 12 // stride
        answer = pattern.read(image)[0, 0, :, row, column] @ shares.flatten()
        (pull,) = torch.autograd.grad(answer, image)
        assert np.allclose(seen.shares, pull[0, 0].numpy(), atol=1e-12)
        assert seen.shares.sum() == pytest.approx(1)
        assert seen.pixels == (seen.shares > 0).sum() <= seen.reads
        assert seen.columns == (seen.shares > 0).any(0).sum()


def test_detections_say_what_was_found():
    answer = torch.zeros(8, 16)
    answer[2, 3], answer[5, 15] = 0.9, 0.2
    spots = [(2, 3), (5, 15)]
    picture = figures.detections(torch.zeros(8, 16), {"test": answer}, spots, 0.5)
    alts = [alt for alt, _ in picture.panels]
    assert "2 things to find" in alts[0]
    assert "found at longitude -101, latitude 34 with 0.90" in alts[1]
    assert "missed at longitude 169, latitude -34 with 0.20" in alts[1]
    again = figures.detections(torch.zeros(8, 16), {"test": answer}, spots, 0.5)
    assert picture.panels == again.panels


def test_curves_by_latitude_name_their_ends():
    alt = figures.by_latitude({"a": [1.0, 3.0, 2.0, 0.5]}, "height (m)").panels[0][0]
    assert "a from 0.5 at latitude -68 to 3 at 22" in alt and alt.startswith("height (m)")


def test_curves_by_latitude_can_show_a_part():
    curve = {"a": [1.0, 3.0, 2.0, 0.5]}
    alt = figures.by_latitude(curve, "height (m)", span=(90, 0)).panels[0][0]
    assert "a from 1 at latitude 68 to 3 at 22" in alt
    with pytest.raises(ValueError, match="span: .*the northern one first"):
        figures.by_latitude(curve, "height (m)", span=(0, 90))


def test_faces_are_equal_wherever_they_stand():
    """The middle of each, and the grey around it, are seen the same by a carried kernel."""
    H, W = 64, 128
    pattern = patterns.tangent_pattern(H, W, 3, 2)
    spots = [(32, 20), (30, 127), (12, 80), (2, 51)]
    world = faces(H, W, spots)
    assert world.shape == (1, 1, H, W) and world.min() >= 0 and world.max() <= 1
    seen = pattern.read(world)[0, 0]
    first = seen[:, 32, 20]
    for i, j in spots[1:]:
        assert (seen[:, i, j] - first).abs().max() < 0.35  # edges are half a pixel wide
        assert (seen[:, i, j] - first).abs().median() < 0.15
    assert (
        torch.equal(faces(H, W, [(20, 5)]), faces(H, W, [(20, 45)]).roll(-40, -1))
        or (faces(H, W, [(20, 5)]) - faces(H, W, [(20, 45)]).roll(-40, -1)).abs().max() < 1e-9
    )


def test_the_right_layer_is_the_package_and_each_fault_is_where_it_should_be():
    H, W = 16, 32
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, H, W, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    right = nn.sampled_conv2d(image, weight, patterns.tangent_pattern(H, W))
    off = {
        fault: (_tangent_layer(image, weight, fault) - right).abs().amax((0, 1)) > 1e-9
        for fault in ("none", "seam", "pole", "mirror")
    }
    assert not off["none"].any()
    assert off["pole"][[0, -1]].all() and not off["pole"][1:-1].any()
    assert off["seam"][:, -1].all() and not off["seam"][4:-4, 3:-2].any()
    assert off["mirror"].float().mean() > 0.99


def test_constants_and_yaw_are_blind_to_two_of_the_three_faults():
    image = torch.rand(1, 1, 16, 32, generator=torch.Generator().manual_seed(0)).double()
    mean = torch.ones(1, 1, 3, 3).double() / 9
    for fault in ("pole", "mirror", "seam"):
        layer = dict(_layers("answer"))[fault]
        assert (layer(image**0, mean) - 1).abs().max() < 1e-12
        yaw = layer(image.roll(5, -1), mean) - layer(image, mean).roll(5, -1)
        assert bool(yaw.abs().max() > 1e-3) == (fault == "seam")


@pytest.mark.parametrize("size", [(16, 32), (24, 50)])
def test_wrong_gradients_are_wrong_and_one_of_them_only_in_the_south(size):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 1, 3, 3, generator=generator, dtype=torch.float64)
    g = torch.randn(1, 1, *size, generator=generator, dtype=torch.float64)
    right, *others = (
        torch.autograd.grad(layer(image, weight), image, g)[0] for _, layer in _layers("gradient")
    )
    off = [(grad - right).abs()[0, 0] for grad in others]
    *eight, of_another = (part.amax(1) for part in off)
    flipped, by_hand, shifted, moved, north, _, exchanged, mirrored = eight
    assert of_another.max() == 0 and mirrored.min() > 0  # for a layer that is mirrored itself
    first, seam = size[0] // 8, off[5]
    assert north[:first].min() > 0 == north[first:].max() and exchanged.min() > 0
    across = size[0] // 4
    assert seam[across:-across, -1].min() > 0 == seam[:, :-1].max() == seam[:across].max()
    assert by_hand.max() == 0 and flipped.max() > 0.1 and moved.min() > 0.01
    last = size[0] - size[0] // 8
    assert shifted[:last].max() == 0 and shifted[last:].min() > 0


def test_hints_are_given_for_likely_mistakes():
    assert "four reads of every tap" in repr(check("07.1", lambda I, O, K: (K * I * O,) * 2))
    assert "exchanged" in repr(
        check("07.1", lambda I, O, K: (K * I * O + 4 * K * O, K * I * O + 4 * K * I))
    )
    assert "all taps count alike" in repr(
        check("07.5", lambda Kt, Kp, radius: np.full((Kt, Kp), 1 / Kt / Kp))
    )


def sines(Kt, Kp, radius, rim=1.0):
    share = np.sin(np.arange(Kt) * radius / (Kt - 1))[:, None] * np.ones(Kp)
    share[-1] *= rim
    return share / share.sum()


@pytest.mark.parametrize("rim", [1.0, 0.5])
def test_a_centre_without_a_share_is_refused(rim):
    """The sine of the distance forgets the disc at the centre, with or without half a rim."""
    answer = check("07.5", lambda Kt, Kp, radius: sines(Kt, Kp, radius, rim))
    assert not answer and "centre stands for a small disc" in repr(answer)


def test_a_whole_ring_at_the_rim_is_refused():
    def shares(Kt, Kp, radius):
        edges = (np.arange(Kt + 1) - 0.5) * radius / (Kt - 1)
        edges[0] = 0
        ring = np.cos(edges[:-1]) - np.cos(edges[1:])
        return (ring / ring.sum() / Kp)[:, None] * np.ones(Kp)

    answer = check("07.5", shares)
    assert not answer and "half of its ring lies outside" in repr(answer)


def adjoint_test(x_of, g_of, relative=None):
    def answer(layer):
        torch.manual_seed(5)
        x = x_of(torch.randn(1, 2, 16, 32).double()).requires_grad_()
        y = layer(x, torch.randn(3, 2, 3, 3).double())
        g = g_of(torch.randn_like(y))
        (back,) = torch.autograd.grad(y, x, g)
        there, here = (y * g).sum(), (x * back).sum()
        scale = y.norm() * g.norm() if relative is None else there.abs()
        return bool((there - here).abs() < (relative or 1e-9) * scale)

    return answer


def same(v):
    return v


def test_right_tests_of_a_gradient_are_accepted():
    assert check("07.6", adjoint_test(same, same))
    assert check("07.6", adjoint_test(same, same, 1e-6))

    def entry_by_entry(layer):
        torch.manual_seed(0)
        x = torch.randn(1, 1, 8, 16).double().requires_grad_()
        weight = torch.randn(1, 1, 3, 3).double()
        return torch.autograd.gradcheck(
            lambda v: layer(v, weight), (x,), raise_exception=False, fast_mode=False
        )

    assert check("07.6", entry_by_entry)


def part_of(rows=slice(None), columns=slice(None)):
    """Nothing but in some rows and columns."""

    def kept(v):
        out = torch.zeros_like(v)
        out[..., rows, columns] = v[..., rows, columns]
        return out

    return kept


@pytest.mark.parametrize(
    "g_of", [part_of(slice(15, 16)), part_of(slice(8, 16)), part_of(columns=slice(4, 28))]
)
def test_a_gradient_is_not_tested_by_a_part_of_the_picture(g_of):
    assert not check("07.6", adjoint_test(same, g_of)).passed


def in_single(Kt, Kp, radius):
    edges = ((torch.arange(Kt + 1) - 0.5) * radius / (Kt - 1)).clamp(0, radius)
    ring = edges[:-1].cos() - edges[1:].cos()
    return (ring / ring.sum() / Kp)[:, None].expand(Kt, Kp)


def crown_in_single(weight):
    out = torch.zeros(*weight.shape[:2], 2, 8)
    slots = [(2, 1), (2, 2), (1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0)]
    for k, (row, col) in enumerate(slots):
        out[:, :, 1, k] = weight[:, :, row, col]
        out[:, :, 0, k] = weight[:, :, 1, 1] / 8
    return out


@pytest.mark.parametrize(("number", "answer"), [("07.3", crown_in_single), ("07.5", in_single)])
def test_single_precision_will_do(number, answer):
    assert check(number, answer).passed


@pytest.mark.parametrize(("x_of", "g_of"), [(torch.ones_like, same), (same, torch.ones_like)])
def test_a_constant_on_one_side_does_not_test_a_gradient(x_of, g_of):
    answer = check("07.6", adjoint_test(x_of, g_of))
    assert not answer and "a wrong gradient is caught" in repr(answer)


def test_carrying_a_grid_of_tangents_is_told_apart_from_equal_angles():
    def answer(H, W, kh, kw):
        up = np.arctan(((kh - 1) / 2 - np.arange(kh)) * np.tan(np.pi / H))
        right = np.arctan((np.arange(kw) - (kw - 1) / 2) * np.tan(2 * np.pi / W))
        ahead = sphere.lonlat_to_xyz(torch.tensor(right), torch.tensor(up)[:, None])
        lat = (0.5 - (torch.arange(H).double() + 0.5) / H) * np.pi
        turned = ahead.reshape(-1, 3) @ sphere.rotation_matrix(0.0, lat).transpose(-1, -2)
        lon, lat = sphere.xyz_to_lonlat(turned)
        return patterns.Pattern("any", H, W, (kh, kw), lat, lon)

    wrong = check("07.2", answer)
    assert not wrong and "degrees from its place" in repr(wrong)


def test_weights_of_a_crown_with_its_shares_divided_out_are_refused():
    """The exercise convolves without shares."""
    share = nn.CrownConv2d(1, 1, (2, 8), 0.1).tap_weights()

    def answer(weight):
        slots = [(2, 1), (2, 2), (1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0)]
        circle = torch.stack([weight[..., r, c] for r, c in slots], -1)
        centre = weight[..., 1, 1, None].expand_as(circle) / 8
        return torch.stack((centre, circle), -2)

    assert check("07.3", answer)
    assert not check("07.3", lambda weight: answer(weight) / share)


def test_naming_a_fault_wrongly_is_told_without_giving_it_away():
    answer = repr(check("07.4", lambda layer: "none"))
    assert "layer 2" in answer and "it has a fault" in answer and "mirror" not in answer
    assert "has no fault" in repr(check("07.4", lambda layer: "seam"))
