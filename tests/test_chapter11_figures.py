"""Chapter 11: the figure draws what it is given, maps are what they say, slips are told."""

import math
import re

import numpy as np
import pytest
import torch

from sal360 import figures, losses, metrics, upstream
from sal360.course import chapter11, check
from sal360.course.chapter11 import LOSSES, drawn, harmonics, planted_loss
from sal360.sphere import erp_index, lonlat_to_xyz, pixel_area

H, W = 16, 32
STEPS = [0, 10, 200]


def truth():
    return losses.softmax_density(0.3 * harmonics(H, W, 2).sum(0))


def sine():
    return torch.sin((torch.arange(H, dtype=torch.float64) + 0.5) * math.pi / H)


@pytest.fixture(scope="module")
def path():
    q = truth()
    wrong = torch.stack([torch.ones_like(q), q, q * sine()[:, None]])
    right = torch.stack([torch.ones_like(q), q, q])
    return figures.training_path({"published": wrong, "ours": right}, q, STEPS, start=2)


def test_the_path_needs_no_network_and_comes_out_the_same(path):
    html = path.html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 200_000
    assert [frame.name for frame in path.figure.frames] == ["0", "1", "2"]
    bar = path.figure.layout.sliders[0]
    assert bar.active == 2 and [s.label for s in bar.steps][1] == "after 10 steps"


def test_the_path_draws_ratios_to_the_truth(path):
    shown = path.figure.frames[2].data
    wrong, right = (np.asarray(shown[k].x, float) for k in (1, 3))
    wanted = (sine() / sine()[H // 2]).numpy()
    assert np.abs(wrong - wanted).max() < 1e-3 and np.abs(right - 1).max() < 1e-3
    assert np.allclose(np.asarray(shown[1].y, float), 90 - (np.arange(H) + 0.5) * 180 / H)
    maps = [np.asarray(shown[k].z, int) for k in (0, 2)]
    assert maps[1].max() == 255 and maps[0][0].max() < maps[1][0].max() / 4
    assert re.search(r"by published the top row ends at 0\.10 .*; by ours .* 1\.00 ", path.alt)


def test_the_path_wants_two_losses_of_as_many_maps():
    with pytest.raises(ValueError, match="^paths: 1 losses, wanted 2 with 3 maps"):
        figures.training_path({"one": torch.ones(3, 4, 8)}, torch.ones(4, 8), STEPS)


def test_peaks_are_in_the_titles_and_frames_alike():
    q = truth()
    picture = figures.peaked_maps({"all": q, "tenth": q / 10})
    peaks = [float(re.search(r"peak ([\d.]+) /sr", alt)[1]) for alt, _ in picture.panels]
    assert peaks == [float(f"{q.max():.3g}"), float(f"{q.max() / 10:.3g}")]
    sizes = {png[16:24] for _, png in picture.panels}  # width and height in a PNG's header
    assert len(picture.panels) == 2 and len(sizes) == 1


def test_the_nearer_fit_is_told_by_latitude():
    q = truth()
    polar = (sine() < 0.5)[:, None]
    a, b = torch.where(polar, q, q + 0.1), torch.where(polar, q + 0.2, q)
    alt = figures.fit_errors({"a": a, "b": b}, q).alt
    assert "a 0 in the top row, 0.1 at the equator" in alt and "b 0.2 in the top row, 0 at" in alt
    assert "of the equator 100% and within 30 degrees of a pole 0% of them" in alt
    with pytest.raises(ValueError, match="^fits: 1, wanted 2"):
        figures.fit_errors({"a": a}, q)


def test_a_curve_is_as_high_as_its_map(path):
    layout = path.figure.layout
    for left, right in (("", "2"), ("3", "4")):
        x, y, u, v = (layout[n] for n in (f"xaxis{left}", f"yaxis{left}", f"xaxis{right}",
                                          f"yaxis{right}"))  # fmt: skip
        assert y.scaleanchor == "x" + left and v.scaleanchor == "x" + right
        map_height = (x.domain[1] - x.domain[0]) / 360 * 180
        curve_height = (u.domain[1] - u.domain[0]) / 1.6 * v.scaleratio * 180
        assert abs(map_height / curve_height - 1) < 1e-9
        assert "90° S" in y.ticktext


@pytest.mark.parametrize("degree", [0, 1, 4])
def test_harmonics_are_orthonormal_and_turn_into_each_other(degree):
    basis = harmonics(H, W, degree)
    assert basis.shape == ((degree + 1) ** 2, H, W)
    share = pixel_area(H, W)[:, None] / (4 * math.pi)
    gram = torch.einsum("khw,lhw->kl", basis * share, basis)
    assert (gram - torch.eye(len(basis), dtype=torch.float64)).abs().max() < 1e-12
    turned = basis.roll(5, -1)  # a rotation keeps the degree
    inside = torch.einsum("khw,lhw->kl", turned * share, basis)
    assert (torch.tensordot(inside, basis, 1) - turned).abs().max() < 1e-10


def test_gaze_comes_from_the_map():
    gaze, counts = drawn(truth(), 4000, 0)
    row, col = erp_index(lonlat_to_xyz(*gaze.T), H, W)
    again = torch.bincount(row * W + col, minlength=H * W).view(H, W)
    assert torch.equal(again.double(), counts) and counts.sum() == 4000
    expected = truth() * pixel_area(H, W)[:, None]
    expected = expected / expected.sum() * 4000
    chi = ((counts - expected) ** 2 / expected).sum() / (H * W)
    assert 0.8 < chi < 1.2
    assert torch.equal(drawn(truth(), 5, 1)[0], drawn(truth(), 5, 1)[0])
    assert abs(losses.nss_loss(truth(), gaze) - losses.nss_loss(truth(), counts)) < 1e-9


def test_planted_losses_are_what_they_say():
    """Sound ones have no slope at the truth among densities; the published one is the package's."""
    for name in LOSSES:
        loss, sound = planted_loss(name)
        free = truth().log().requires_grad_()
        (slope,) = torch.autograd.grad(loss(losses.softmax_density(free), truth()), free)
        even = float(loss(torch.ones_like(free) / (4 * math.pi), truth()))
        if name == "similarity":  # has a kink there, and all others cost less
            assert even < float(loss(truth(), truth())) and not sound
            continue
        scale = abs(even)
        flat = bool(slope.abs().max() < 1e-9 * scale)
        assert flat == (sound or name in ("blind rows", "correlation")), name
    unit = truth() - truth().min() + 1e-12
    guess = unit.sqrt()
    mine = planted_loss("published")[0](guess, unit)
    theirs = upstream.sphere_kld(guess[None, None], unit[None, None])[0, 0]
    assert abs(theirs / mine - 1) < 0.01
    with pytest.raises(ValueError, match="^name: "):
        planted_loss("huber")


def test_the_free_and_the_few_agree_on_what_is_best():
    """A squared error over all of degree 2 leaves nothing of a map of degree 2."""
    basis = harmonics(H, W, 2)
    wanted = torch.tensordot(torch.arange(9).double(), basis, 1)
    share = pixel_area(H, W)[:, None] / (4 * math.pi)
    found = torch.einsum("khw,hw->k", basis * share, wanted)
    assert metrics.cc(torch.tensordot(found, basis, 1), wanted) > 1 - 1e-12


def central_differences(step):
    def gradient(loss, x):
        x = x.double()
        moves = step * x.abs().max() * torch.eye(x.numel()).double().view(-1, *x.shape)
        slopes = [(loss(x + m) - loss(x - m)) / (2 * m.max()) for m in moves]
        return torch.stack(slopes).view_as(x)

    return gradient


def pixel_by_pixel(loss, H, W):
    """Finds all but the loss that cannot see an offset."""
    free = torch.randn(H, W, generator=torch.Generator().manual_seed(0)).double()
    q = losses.softmax_density(free)
    for k in range(H * W):
        for factor in (0.9, 1.1):
            other = q.clone()
            other.view(-1)[k] *= factor
            other = other / (other * pixel_area(H, W)[:, None]).sum()
            if loss(other, q) < loss(q, q) + 1e-12:
                return False
    return True


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("11.1", lambda q, u, v: u * q, "sum(v p) is 1"),
        ("11.2", lambda logits, truth: logits.mean(), "one number for each map"),
        (
            "11.2",
            lambda logits, truth: losses.sphere_kld(
                logits.exp().clamp(max=1e300), truth, floor=1e-12, reduction="none"
            ),
            "logits about 1000",
        ),
        (
            "11.3",
            lambda loss, x: torch.stack(
                [
                    (loss(x + e) - loss(x - e)) / 2e-6
                    for e in 1e-6 * torch.eye(15, dtype=x.dtype).view(15, 3, 5)
                ]
            ).view(3, 5),
            "sphere_kld of a map 1e-4 high: off by",
        ),
        ("11.3", central_differences(1e-3), "your largest step was 1e-03 of the map's height"),
        ("11.3", lambda loss, x: torch.func.grad(loss)(x.double()), "requires a gradient"),
        ("11.4", lambda lon, lat, H, W: torch.ones(W, H), "a map of the size"),
        ("11.5", lambda loss, H, W: "yes", "True or False"),
        ("11.5", lambda loss, H, W: False, 'planted: "one measure"'),
        ("11.5", pixel_by_pixel, "half the truth on an even ground costs as little"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_every_fault_is_explained():
    assert {n for n in LOSSES if not planted_loss(n)[1]} == set(chapter11._WHY)
