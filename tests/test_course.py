"""Every exercise: waits, refuses what is wrong with its smallest case, accepts its solution."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sal360 import patterns
from sal360.course import EXERCISES, check
from sal360.course.chapter00 import practice_clip
from sal360.gaze import best_bandwidth, fixations_to_density
from sal360.metrics import cc
from sal360.projections import rotate_erp
from sal360.sphere import (
    erp_index,
    geodesic_circle,
    lonlat_to_xyz,
    pixel_area,
    rotation_matrix,
    xyz_to_lonlat,
)

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))


def cells(path, kind):
    notebook = json.loads(path.read_text("utf-8"))
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


def solutions(path):
    """Number and code of each solution behind a <details>."""
    for text in cells(path, "markdown"):
        for block in re.findall(r"```python\n(# solution [\d.]+\n.*?)```", text, re.S):
            yield re.match(r"# solution ([\d.]+)", block)[1], block


ALL = [(path, number, code) for path in CHAPTERS for number, code in solutions(path)]


def test_every_exercise_has_one_solution_and_one_place():
    assert sorted(number for _, number, _ in ALL) == sorted(EXERCISES)
    for path in CHAPTERS:
        asked = re.findall(r'check\("([\d.]+)"', "\n".join(cells(path, "code")))
        assert sorted(asked) == sorted(number for number, _ in solutions(path))
        assert all(number.startswith(path.name[:2]) for number in asked)


@pytest.mark.parametrize(("path", "number", "code"), ALL, ids=[n for _, n, _ in ALL])
def test_the_solution_solves_it(path, number, code):
    """Run in a module that has what the chapter defined: its imports and plain functions."""
    scope = {}
    for cell in cells(path, "code"):
        if re.search(r"^(import|from) ", cell, re.M) and "find_spec" not in cell:
            exec(cell, scope)
        for function in re.findall(r"^def .*?(?=^\S|\Z)", cell, re.M | re.S):
            exec(function, scope)
    stub = next(c for c in cells(path, "code") if f'check("{number}"' in c)
    name = re.search(rf'check\("{number}", (\w+)\)', stub)[1]
    exec(code, scope)
    answer = check(number, scope[name])
    assert answer.passed, answer


@pytest.mark.parametrize("number", sorted(EXERCISES))
def test_it_waits_for_an_answer(number):
    answer = check(number)
    assert answer.waiting and not answer and "waiting" in repr(answer)
    if number not in ("00.1", "00.3", "01.3"):
        assert check(number, lambda *arguments: ...).waiting


def even_in_angle(centre, radius, n, generator):
    """Points of a cap whose distance from the centre is uniform: they crowd around it."""
    u = torch.rand(2, n, generator=generator, dtype=torch.float64)
    bearing, far = 2 * math.pi * u[0], radius * u[1]
    cloud = torch.stack((far.sin() * bearing.cos(), far.sin() * bearing.sin(), far.cos()), dim=-1)
    return cloud @ rotation_matrix(*xyz_to_lonlat(centre)).T


def chain(turns):
    """The product of the matrices, the last one of the list acting first."""
    whole = torch.eye(3, dtype=torch.float64)
    for R in turns:
        whole = R @ whole
    return whole


WRONG = {
    "13.1": (
        lambda inputs, taps, w, bias: (
            sum(i * k * o for i, k, o in zip((inputs, *w[:-1]), taps, w, strict=True))
            + bias * sum(w)
            + 2 * sum(w[:-1])
        ),
        "1 channels in, taps (1, 1, 1, 1, 1, 1, 1), widths (1, 1, 1, 1, 1, 1, 1), bias False: "
        "you gave 19, wanted 22 (the skips bring channels, too)",
    ),
    "13.2": (
        lambda x, seen: torch.cat((x.repeat_interleave(2, -2).repeat_interleave(2, -1), seen), 1),
        "Sizes of tensors must match except in dimension 1",
    ),
    "13.3": (
        lambda network, x: {
            name
            for name, g in zip(
                dict(network.named_parameters()),
                torch.autograd.grad(
                    network(x).square().sum(), list(network.parameters()), allow_unused=True
                ),
                strict=True,
            )
            if g is None
        },
        "planted: times zero; you missed ['times_zero.bias', 'times_zero.weight'] "
        "(a gradient of zeros moves nothing either)",
    ),
    "13.4": (
        lambda network, H, W: (
            1
            if torch.allclose(
                network(torch.ones(1, 1, H, W))[..., 0], network(torch.ones(1, 1, H, W))[..., 1]
            )
            else W
        ),
        "planted '2', 4 x 48: you gave 1, wanted 2",
    ),
    "15.1": (
        lambda following, flow: following.roll((int(flow[1, 0, 0]), int(flow[0, 0, 0])), (0, 1)),
        "the largest value is at (1, 4), wanted (1, 2) (that moves it on, with the flow)",
    ),
    "15.2": (
        lambda right, down, lat, W, fps: math.hypot(right, down) * 360 / W * fps,
        "you gave 1, wanted 0.5 degrees/s (a column is narrower there)",
    ),
    "15.3": (
        lambda rays, moved, weight: (
            1.5 * (weight[:, None] * torch.linalg.cross(rays, moved)).sum(0) / weight.sum()
        ),
        "(3/2 of the mean is for a whole sphere of even weight)",
    ),
    "15.4": (lambda maps, flow: maps.square().mean(), "an empty map costs"),
    "15.5": (lambda smooth: {"backwards"}, "no fault at all; you blame ['backwards']"),
    "17.1": (
        lambda a, b: ((a - b).mean(), (a.mean(0) - b.mean(0)).std()),
        "1 seed, 2 videos: you gave 1.4142, wanted 1.0000 (that is one video's spread)",
    ),
    "17.2": (
        lambda mass, looks, bins: torch.full((bins,), 1 / bins),
        "four pixels in two parts: you gave [0.500, 0.500], wanted [0.375, 0.625]",
    ),
    "17.3": (lambda p: p <= 0.05 / len(p), "(as by Bonferroni's, which asks more)"),
    "17.4": (lambda density, looks, powers: powers[0], "to the power 1: you gave 0.25"),
    "17.5": (lambda board: set(), "planted: ['best seed']; you missed ['best seed']"),
    "16.1": (
        lambda step, steps, lr, warmup: lr * (0.5 + 0.5 * math.cos(math.pi * step / steps)),
        "step 0 of 100, lr 1, warmup 0.1: you gave 1, wanted 0.1",
    ),
    "16.2": (lambda gradients, counts: gradients.mean(0), "frames [3, 1]: you gave"),
    "16.3": (lambda path, data: path.write_bytes(data), "the old bytes were written over"),
    "16.4": (lambda step, clips, batch, seed: list(range(batch)), "epoch 0: the clips"),
    "16.5": (lambda make: set(), "left out: ['moments']; you missed ['moments']"),
    "14.1": (
        lambda before, after, H, W: torch.stack(
            (
                (xyz_to_lonlat(after)[0] - xyz_to_lonlat(before)[0]) * W / (2 * math.pi),
                (xyz_to_lonlat(before)[1] - xyz_to_lonlat(after)[1]) * H / math.pi,
            )
        ),
        "over the seam to the right, from (175, 0) to (-175, 0) degrees, 90 x 180: you gave "
        "-175.00, 0.00, wanted 5.00, 0.00 (that is the long way)",
    ),
    "14.2": (
        lambda seconds, fps: 0.5 ** (1 / (seconds * fps)),
        "you gave 0.5, wanted 0 (that is what the gate says, not its bias)",
    ),
    "14.3": (
        lambda step, frames, every: torch.func.grad(
            lambda x: torch.stack(
                [s := torch.zeros_like(x[0]), *(s := step(frame, s) for frame in x)]
            )[-1].sum()
        )(frames),
        "3 frames cut every 1: your gradient reaches 3 frames, wanted 1 (nothing was cut)",
    ),
    "14.4": (lambda step: set(), "planted: drifts; you missed ['drifts']"),
    "11.1": (lambda q, u, v: q / (v * q).sum(), "as published: u is area, v counts pixels"),
    "11.2": (
        lambda logits, truth: (
            truth
            / truth.sum((1, 2), keepdim=True)
            * (
                (truth / truth.sum((1, 2), keepdim=True)).log()
                - logits.flatten(1).log_softmax(1).view_as(truth)
            )
        ).sum((1, 2)),
        "(that counts pixels)",
    ),
    "11.3": (
        lambda loss, x: torch.autograd.grad(loss(y := x.double().requires_grad_()), y)[0],
        "the loss was given a map that requires a gradient",
    ),
    "11.4": (
        lambda lon, lat, H, W: torch.bincount(
            erp_index(lonlat_to_xyz(lon, lat), H, W)[0] * W
            + erp_index(lonlat_to_xyz(lon, lat), H, W)[1],
            minlength=H * W,
        ).view(H, W),
        "(counts; per steradian they are others)",
    ),
    "11.5": (lambda loss, H, W: True, "sin(theta) times the truth costs less"),
    "12.1": (
        lambda values, area, fixated: (
            (fixated[:, None] > values).double().mean(0) @ area / area.sum()
        ),
        "the higher looked at: you gave 0.5000, wanted 0.7500 (ties are lost)",
    ),
    "12.2": (
        lambda scores: (torch.cat(scores).mean(), torch.cat(scores).std()),
        "you gave 1.4142, wanted 1.0000 (that is the deviation of one video)",
    ),
    "12.3": (lambda a, b: 0.5 ** len(a), "one video: you gave 0.5000, wanted 1.0000"),
    "12.4": (lambda lat, widths: widths[-1], "is the mass of every band 1?"),
    "12.5": (lambda score: set(), "you missed ['pixels']"),
    "10.1": (
        lambda lon, lat, t: torch.rad2deg(torch.hypot(lon.diff(), lat.diff())) / t.diff(),
        "across the seam, [(179, 0), (-179, 0)] at [0, 0.1] s: you gave 3580",
    ),
    "10.2": (
        lambda lon, lat, weights, H, W, sigma: (
            fixations_to_density(lon, lat, H, W, sigma, weights) * pixel_area(H, W)[:, None].float()
        ),
        "Over pixels it does sum to 1",
    ),
    "10.3": (lambda maps: cc(maps, maps.mean(0).expand_as(maps)), "is among the others"),
    "10.4": (
        lambda lon, lat, observer, sigmas: sigmas[0],
        "does a person help to predict the same person?",
    ),
    "10.5": (lambda make, H, W: {"cut"}, "planted: no fault at all; you blame ['cut']"),
    "09.1": (
        lambda a, b: (float((a - b).mean()), float(1.96 * (a - b).std() / len(a) ** 0.5)),
        "1.96 holds",
    ),
    "09.2": (lambda d, e: max(2, math.ceil((1.96 * d / e) ** 2)), "you gave 2, wanted 4"),
    "09.3": (
        lambda f: [
            {"kind": k, "training": "equator", "budget": "steps"} for k in ("planar", "tangent")
        ],
        "kernel and padding differ",
    ),
    "09.4": (lambda d, m: "better" if d.mean() > 0 else "worse", "wanted 'same'"),
    "09.5": (lambda ours, theirs: set(), "missed parameters"),
    "08.1": (lambda S, n, k: 1 - (S - 2 * n * (k // 2)) ** 2 / S**2, "3 x 3, 9 of them"),
    "08.2": (lambda: {}, "0 of them"),
    "08.3": (lambda pad, S, p: [math.pi] * p, "did you give radians?"),
    "08.4": (lambda S, k, i: (i, k - 1), "where copying takes it"),
    "08.5": (lambda pad, S, p: set(), "missed [('F', 'left')]"),
    "06.1": (lambda x, w: torch.nn.functional.conv2d(x, w, padding=1), "turned by 1"),
    "06.2": (lambda name: "all", "add the latitude: not 'all'"),
    "06.3": (lambda layer, degrees, bearing: 0.0, "towards longitude 0: you gave 0.0000"),
    "06.4": (lambda letter: "sound", "box A has another one"),
    "06.5": (lambda: [[0, 1, 0], [1, -4, 1], [0, 1, 0]], "within 0.2 %"),
    "07.1": (lambda I, O, K: (K * I * O, K * I * O), "four reads of every tap"),
    "07.2": (
        lambda H, W, kh, kw: patterns.tangent_pattern(H, W, (kh | 1, kw | 1)),
        "2 x 2 on 16 x 32: it is (3, 3)",
    ),
    "07.3": (
        lambda w: torch.cat(
            (
                w[..., 1:2, 1:2].expand(-1, -1, 1, 8),
                w.flatten(2)[..., None, [7, 8, 5, 2, 1, 0, 3, 6]],
            ),
            2,
        ),
        "all eight taps of the inner circle",
    ),
    "07.4": (lambda layer: "none", 'layer 2: you gave "none", and it has a fault'),
    "07.5": (lambda Kt, Kp, radius: np.full((Kt, Kp), 1 / Kt / Kp), "all taps count alike"),
    "07.6": (lambda layer: True, "layer 2: you gave True"),
    "00.1": ([(0, 60), (60, -50), (-150, -30)], "47 degrees from the nearest thing"),
    "00.2": (lambda a, b: a.sum(0), "closer to the truth"),
    "00.3": ((90, 0, 0), "below a third"),
    "01.1": (lambda r, c, H, W: (c / W * 360 - 180, 90 - r / H * 180), "row 0, col 0 of 2 x 4"),
    "01.2": (lambda x, y, z, H, W: (0, 0), "pixel (0, 1) of 2 x 4"),
    "01.3": ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "lon 0, lat 0"),
    "01.4": (lambda t, p: (math.sin(t), 0, math.cos(t)), "theta 90, phi 180"),
    "01.5": (lambda y, p: [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "yaw 0, pitch 45"),
    "02.1": (
        lambda i, H, W: 2 * math.pi**2 / H / W * math.sin((i + 0.5) * math.pi / H),
        "row 0 of 1",
    ),
    "02.2": (lambda share: 90 * (1 - share), "wanted 30 degrees. It counts rows"),
    "02.3": (lambda values: values.mean(), "around latitude 0 degrees, 64 x 128"),
    "02.4": (lambda *given: even_in_angle(*given), "as large a share of the points"),
    "02.5": (lambda weights: abs(weights.sum() / 4 / math.pi - 1) > 0.01, "corner, 64 x 128"),
    "04.1": (lambda i, j, S: 4 * math.pi / 6 / S**2, "row 0, col 0 of 3 x 3"),
    "04.2": (
        lambda faces: torch.nn.functional.pad(faces[None], (1, 1, 1, 1), mode="replicate")[0],
        "between two texels of the neighbour",
    ),
    "04.3": (lambda a, b: 1, "you gave 1, wanted 0 (faces F)"),
    "04.4": (lambda fov, W: W * fov / (2 * math.pi), "even in angle"),
    "04.5": (lambda faces: faces, "in the place of F stands B"),
    "05.1": (
        lambda k, d, H, W: (k // 2) * d * 180 / H * math.sqrt(2),
        "k 3, dilation 4",
    ),
    "05.2": (lambda lat, r, Kt, Kp: np.zeros((Kt, Kp, 3)), "lengths from 0.000"),
    "05.3": (lambda r, c, H, W: [(r, c)] * 8, "S: (4, 8) is 22.50 degrees"),
    "05.4": (lambda c, t, r: math.pi if c > 2 or c < 0.5 else 0.0, "wanted 0.3"),
    "05.5": (lambda H, W: patterns.tangent_pattern(H, W, 3, 2), "turned in longitude"),
    "03.1": (
        lambda i, j, steps, H, W: ((i - steps) % H, j),
        "from (0, 3), steps = 1, 6 x 12: you gave (5, 3), wanted (0, 9)",
    ),
    "03.2": (
        lambda image, xyz: torch.nn.functional.grid_sample(
            image[None, None],
            torch.stack(
                (xyz_to_lonlat(xyz)[0] / math.pi, -xyz_to_lonlat(xyz)[1] * 2 / math.pi), -1
            )[None, None],
            padding_mode="border",
            align_corners=False,
        )[0, 0, 0],
        "4 x 8, row 1.50, column 7.50",
    ),
    "03.3": (lambda sampler: (0.0, 0.0, False), "planted: down 0, right 0, wraps True"),
    "03.4": (lambda image, turns: rotate_erp(image, chain(reversed(turns))), "then a pitch"),
    "03.5": (
        lambda image, h, w: torch.nn.functional.adaptive_avg_pool2d(image[None], (h, w))[0],
        "4 x 8 to 2 x 4: it was",
    ),
}


@pytest.mark.parametrize("number", sorted(EXERCISES))
def test_a_wrong_answer_is_refused_with_its_smallest_case(number):
    answer = check(number, WRONG[number][0])
    assert not answer.passed and not answer.waiting
    assert WRONG[number][1] in repr(answer)
    assert "not yet" in answer._repr_html_()


def test_flips_count_whose_sums_differ_by_a_rounding():
    def flips(a, b, slack):
        d = a - b
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * len(d)).view(-1, len(d))
        far = (signs * d).mean(1).abs()
        return (far >= d.mean().abs() - slack).double().mean()

    assert check("12.3", lambda a, b: flips(a, b, 1e-12)).passed
    assert check("12.3", lambda a, b: flips(a.float(), b.float(), 1e-6)).passed
    told = repr(check("12.3", lambda a, b: flips(a, b, 0)))
    assert "scores in tenths: you gave 0.5000, wanted 0.7500 (equal sums may differ by" in told


def test_a_parameter_lives_if_some_of_its_gradient_is_not_zero():
    def blame(network, x, faint):
        names, numbers = zip(*network.named_parameters(), strict=True)
        grads = torch.autograd.grad(network(x).square().sum(), numbers, allow_unused=True)
        return {name for name, g in zip(names, grads, strict=True) if g is None or faint(g)}

    assert check("13.3", lambda network, x: blame(network, x, lambda g: not g.any())).passed
    for faint in (lambda g: (g == 0).any(), lambda g: g.sum() == 0):
        told = repr(check("13.3", lambda network, x, faint=faint: blame(network, x, faint)))
        assert "you blame ['sound.weight'] (some of its gradient is not zero)" in told


def test_a_rounding_is_not_told_as_other_numbers():
    def beside(x, seen, mode):
        grown = torch.nn.functional.interpolate(x, size=seen.shape[-2:], mode=mode)
        return torch.cat((grown, seen), 1)

    assert check("13.2", lambda x, seen: beside(x, seen, "nearest").double()).passed
    told = repr(check("13.2", lambda x, seen: beside(x, seen, "bilinear")))
    assert "2 x 3 beside 4 x 6: other numbers" in told


def test_a_minimiser_in_single_precision_or_in_a_list_is_right():
    def single(q, u, v):
        q, u, v = q.float(), u.float(), v.float()
        return u * q / v / (u * q).sum()

    assert check("11.1", single).passed
    assert check("11.1", lambda q, u, v: (u * q / v / (u * q).sum()).tolist()).passed
    assert not check("11.1", lambda q, u, v: 1.00001 * single(q, u, v)).passed


def test_one_thing_named_three_times_is_not_three():
    assert "20 degrees apart" in repr(check("00.1", [(-70, 40), (-69, 40), (-71, 41)]))
    assert "not radians" in repr(check("00.1", [(0.3, -0.1), (2.6, 0.1), (-1.2, 0.7)]))
    assert "1 of them" in repr(check("00.3", 90))


def test_a_place_beside_a_disc_or_on_one_of_another_frame_is_wrong():
    seen = practice_clip().objects
    later = [[math.degrees(v) for v in xyz_to_lonlat(middle)] for middle in seen[6]]
    for places in (
        [(8, -6), (32, -6), (150, 4)],  # one disc twice
        later,
        [(20, -6), (150, 4), (-70, 50)],
        [(20, -6), (150, 4), (-100, -12)],  # at rest
    ):
        assert "from the nearest thing that moves" in repr(check("00.1", places))
    for one in range(3):
        places = [(20, -6), (150, 4), (-70, 40)]
        places[one] = later[one]
        assert not check("00.1", places)
    assert check("00.1", [(-64, 46), (144, 4), (26, -6)]).passed  # read off a small page
    assert check("00.1", np.array([(20, -6), (150, 4), (-70, 40)])).passed


def test_a_mask_of_what_changes_beats_the_equator():
    def changes(frame, next_frame):
        return (next_frame - frame).abs().sum(0) > 0.1

    assert check("00.2", changes).passed
    assert check("00.2", lambda a, b: changes(a, b).numpy()).passed
    assert check("00.2", lambda a, b: changes(a, b).double().requires_grad_()).passed


def test_a_tilt_may_be_an_array_and_waits_until_it_is_whole():
    for tilt in (np.array([0, 90, 0]), torch.tensor([0.0, 90.0, 0.0]), [0, 45, 0]):
        assert check("00.3", tilt).passed
    assert "2 of them" in repr(check("00.3", np.array([0, 90])))
    assert not check("00.3", torch.tensor([90, 0, 0]))
    assert check("00.3", (0, ..., 0)).waiting


def test_what_the_learner_raises_is_told_with_its_arguments():
    answer = check("01.2", lambda x, y, z, H, W: 1 / 0)
    assert "ZeroDivisionError" in repr(answer) and "2, 4)" in repr(answer)
    assert "returned None" in repr(check("01.1", lambda *a: None))
    assert "cannot be used" in repr(check("01.1", lambda *a: "north"))
    with pytest.raises(ValueError, match="^name: "):
        check("99.9")


def test_a_pixel_has_a_whole_row_and_its_area_holds_the_direction():
    def place(x, y, z):
        return 0.5 - math.atan2(-y, math.hypot(x, z)) / math.pi, math.atan2(x, z) / math.tau + 0.5

    def real(x, y, z, H, W):
        down, right = place(x, y, z)
        return min(down * H, H - 1), right * W % W

    def corners_aligned(x, y, z, H, W):  # right at every centre
        down, right = place(x, y, z)
        return round(down * (H - 1)), round(right * (W - 1))

    def last_column(x, y, z, H, W):  # the seam's other name
        down, right = place(x, y, z)
        return float(min(int(down * H), H - 1)), float(min(int(right * W), W - 1))

    assert "whole numbers" in repr(check("01.2", real))
    assert "area holds the direction" in repr(check("01.2", corners_aligned))
    assert check("01.2", last_column).passed


def test_a_texel_in_single_precision_is_told_so():
    def corner(x, y):
        x, y = torch.tensor([x, y])
        return torch.atan(x * y / (1 + x * x + y * y).sqrt())

    def texel(row, col, S):
        x, y, X, Y = (2 * k / S - 1 for k in (col, row, col + 1, row + 1))
        return corner(X, Y) - corner(x, Y) - corner(X, y) + corner(x, y)

    told = repr(check("04.1", texel))
    assert "of 8 x 8" in told and "near equals want double precision" in told


def test_a_pixel_in_single_precision_is_told_so():
    def area(row, H, W):
        upper, lower = (torch.tensor(0.5 - k / H) * math.pi for k in (row, row + 1))
        return 2 * math.pi / W * (upper.sin() - lower.sin())

    told = repr(check("02.1", area))
    assert "of 64 x 128" in told and "near equals want double precision" in told


def test_a_view_may_be_as_fine_as_the_equator_over_a_whole_pixel():
    def over_a_pixel(fov, W):
        return math.tan(fov / 2) / math.tan(math.pi / W)

    assert check("04.4", over_a_pixel).passed
    told = repr(check("04.4", lambda fov, W: round(over_a_pixel(fov, W))))
    assert "do not round" in told


def test_maps_upside_down_and_samples_taken_in_their_order_are_refused():
    def by_order(lon, lat, observer, sigmas):
        people = torch.stack((lon, lat), -1).view(len(observer.unique()), -1, 2)
        return best_bandwidth(list(people), sigmas).sigma_deg

    upside_down = check(
        "10.2", lambda lon, lat, w, H, W, s: fixations_to_density(lon, -lat, H, W, s, w)
    )
    assert "(it lies upside down: y points down)" in repr(upside_down)
    assert "6 observers, 20 samples each: you gave" in repr(check("10.4", by_order))


def test_a_speed_may_be_the_arc_from_start_to_end_but_not_of_one_column_less():
    def arc(right, down, lat, W, fps):
        start, end = math.radians(lat), math.radians(lat - down * 360 / W)
        ends = torch.tensor([[0, start], [math.radians(right * 360 / W), end]]).double()
        a, b = lonlat_to_xyz(*ends.T)
        return math.degrees(math.atan2(torch.linalg.cross(a, b).norm(), a @ b)) * fps

    def column_less(right, down, lat, W, fps):
        return math.hypot(right * math.cos(math.radians(lat)), down) * 360 / (W - 1) * fps

    assert check("15.2", arc).passed
    assert not check("15.2", column_less).passed


def test_single_precision_finds_the_rim_and_a_ring_counts_its_steps_in_rows():
    def single(centre, theta, radius):
        c, t, r = (torch.tensor(angle) for angle in (centre, theta, radius))
        if abs(t - c) >= r:
            return 0.0
        if min(t + c, 2 * math.pi - t - c) <= r:
            return math.pi
        fraction = (torch.cos(r) - torch.cos(c) * torch.cos(t)) / (torch.sin(c) * torch.sin(t))
        return torch.acos(fraction.clamp(-1, 1))

    def ring(row, col, H, W, radius):
        centre = lonlat_to_xyz(
            ((col + 0.5) / W - 0.5) * 2 * math.pi, (0.5 - (row + 0.5) / H) * math.pi
        )
        points = geodesic_circle(centre, radius, 8)[[4, 3, 2, 1, 0, 7, 6, 5]]
        return torch.stack(erp_index(points, H, W), -1).tolist()

    assert check("05.4", single).passed
    assert check("05.3", lambda row, col, H, W: ring(row, col, H, W, math.pi / H)).passed
    assert not check("05.3", lambda row, col, H, W: ring(row, col, H, W, 2 * math.pi / W)).passed


def test_a_kernel_of_any_size_has_its_columns_and_its_rows_apart():
    def kernel(H, W, kh, kw, down, right):
        lat = ((kh - 1) / 2 - torch.arange(kh).double()) * down
        lon = (torch.arange(kw).double() - (kw - 1) / 2) * right
        taps = lonlat_to_xyz(lon, lat[:, None]).reshape(-1, 3)
        pitch = (0.5 - (torch.arange(H).double() + 0.5) / H) * math.pi
        lon, lat = xyz_to_lonlat(taps @ rotation_matrix(0.0, pitch).transpose(-1, -2))
        return patterns.Pattern("any", H, W, (kh, kw), lat, lon)

    def answer(down, right):
        return check("07.2", lambda H, W, kh, kw: kernel(H, W, kh, kw, down(H, W), right(H, W)))

    by_rows, by_columns = lambda H, W: math.pi / H, lambda H, W: 2 * math.pi / W
    assert answer(by_rows, by_columns).passed
    for wrong in ((by_rows, by_rows), (by_columns, by_columns), (by_columns, by_rows)):
        assert "on 15 x 40, row 7: tap" in repr(answer(*wrong))


@pytest.mark.parametrize("size", [(4, 8), (6, 12)])
def test_a_gradient_may_be_tried_entry_by_entry_on_a_small_picture(size):
    def entries(layer):
        generator = torch.Generator().manual_seed(1)
        image = torch.randn(1, 1, *size, generator=generator).double().requires_grad_()
        weight = torch.randn(1, 1, 3, 3, generator=generator).double()
        return torch.autograd.gradcheck(lambda x: layer(x, weight), image, raise_exception=False)

    assert check("07.6", entries).passed


def test_a_layer_in_single_precision_is_told_so():
    def strict(layer):
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, 1, 16, 32, generator=generator, dtype=torch.float64)
        weight = torch.randn(1, 1, 3, 3, generator=generator, dtype=torch.float64)
        seen = patterns.tangent_pattern(16, 32).read(image)[0, 0]
        off = (layer(image, weight)[0, 0] - torch.tensordot(weight.flatten(), seen, 1)).abs()
        if not (off > 1e-12).any():
            return "none"
        if (off[4:12, 8:24] > 1e-12).any():
            return "mirror"
        return "seam" if (off[4:12] > 1e-12).any() else "pole"

    told = repr(check("07.4", strict))
    assert "layer 6" in told and "no fault: it computes in single precision" in told
