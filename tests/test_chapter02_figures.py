"""Chapter 02: figures with alt texts from the data, and exercises that name a mistake."""

import re

import numpy as np
import pytest
import torch

from sal360 import figures
from sal360.course import check
from sal360.sphere import (
    fibonacci_sphere,
    pixel_area,
    rotation_matrix,
    sample_sphere,
    xyz_to_lonlat,
)


def clouds():
    return {
        "even": fibonacci_sphere(300),
        "random": sample_sphere(300, torch.Generator().manual_seed(0)),
    }


def test_the_plot_needs_no_network_and_comes_out_the_same():
    html = figures.area_figure().html()
    assert html == figures.area_figure().html()
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    assert "aria-label" in html


def test_the_area_figure_tells_both_shares():
    plot = figures.area_figure(start=3)
    assert "60°: 33.3 % of pixels, 13.4 % of area" in plot.alt
    assert "now 80°" in figures.area_figure().alt, "it opens away from the answer"
    labels = [step.label for step in plot.figure.layout.sliders[0].steps]
    assert len(labels) == len(plot.figure.frames) == 9
    assert labels[5] == "beyond 30°: 66.7 % of pixels, 50.0 % of area"
    assert labels[-1] == "beyond 0°: 100.0 % of pixels, 100.0 % of area"
    assert "4 x 8" in figures.area_figure(4, start=1).alt


def test_the_points_figure_counts_what_crowds_at_the_poles():
    sets = {**clouds(), "all up": np.tile([0.0, -1.0, 0.0], (300, 1))}
    picture = figures.points_figure(sets)
    even, _, up = (alt for alt, _ in picture.panels)
    assert "300 points" in even and "even: 13%" in even and "all up: 100%" in up
    assert picture.panels[0][1] == figures.points_figure(sets).panels[0][1]


def test_maps_of_weights_say_where_they_are_largest_and_share_one_bar():
    rows, cols = pixel_area(32, 64)[:, None], pixel_area(64, 32)[None]
    weights = {"right": rows, "upside": rows.max() - rows, "swapped": cols, "moved": cols.roll(16)}
    alts = [
        alt
        for alt, _ in figures.weight_maps({n: w.expand(32, 64) for n, w in weights.items()}).panels
    ]
    ends = ("at the equator", "at the poles", "in the middle columns", "at longitude")
    assert all(f"largest {end}" in alt for end, alt in zip(ends, alts, strict=False))
    assert len(alts) == 5 and alts[-1].startswith("Colour bar")


def test_a_convergence_plot_reads_out_its_ends_and_what_it_does_not_draw():
    sizes, errors = [8, 16, 32], [1e-2, 2.5e-3, 6e-4]
    curves = {
        "second": (sizes, errors),
        "twin": (sizes, errors),
        "some": (sizes, [1e-3, 0, 0]),
        "rounding": (sizes, [3e-16, 0, 4e-15]),
        "none": (sizes, [0, 0, 0]),
    }
    panels = {"one": curves, "two": {"some": curves["some"]}}
    picture = figures.convergence(panels, slopes=(-1, -2))
    (first, png), (second, _), (legend, _) = picture.panels
    assert legend == "Legend of the plots: second, twin, some"
    assert "second from 1.0e-02 at 8 to 6.0e-04 at 32" in first
    assert "twin, on second," in first
    assert "rounding, not drawn: below 1e-14" in first and "none, not drawn: 0" in first
    assert "some from 1.0e-03 at 8 to 1.0e-03 at 8" in second
    assert png == figures.convergence(panels, slopes=(-1, -2)).panels[0][1]
    assert "grid-column:1/-1" in picture._repr_html_()
    odd = figures.convergence({**panels, "three": panels["two"]})
    assert len(odd.panels) == 4 and "grid-column" not in odd._repr_html_(), "in the free place"


def test_the_exercises_name_the_usual_mistakes():
    def middle(row, H, W):
        return 2 * np.pi**2 / H / W * np.sin((row + 0.5) * np.pi / H)

    assert "the midpoint rule" in repr(check("02.1", middle))
    assert "2 pi / W is missing" in repr(
        check("02.1", lambda i, H, W: np.cos(i * np.pi / H) - np.cos((i + 1) * np.pi / H))
    )
    assert "radians" in repr(check("02.2", lambda share: np.arcsin(1 - share)))
    fixed = torch.Generator().manual_seed(0)
    for generator in (None, fixed):
        answer = check("02.4", lambda c, r, n, g, ours=generator: cap(c, r, n, ours))
        assert "the same seed gives the same points" in repr(answer)
    assert check("02.4", cap)


def cap(centre, radius, n, generator):
    u = torch.rand(2, n, generator=generator, dtype=torch.float64)
    depth, bearing = 1 - u[0] * (1 - np.cos(radius)), 2 * np.pi * u[1]
    ring = (1 - depth**2).clamp(min=0).sqrt()
    points = torch.stack((ring * bearing.cos(), ring * bearing.sin(), depth), -1)
    return points @ rotation_matrix(*xyz_to_lonlat(centre)).T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_right_means_pass_in_single_precision_too(dtype):
    def midpoint(H, W):
        return torch.sin((torch.arange(H, dtype=dtype) + 0.5) * np.pi / H)

    def trapezoid(H, W):
        edge = torch.sin(torch.arange(H + 1, dtype=dtype) * np.pi / H)
        return edge[:-1] + edge[1:]

    for rule in (midpoint, trapezoid, lambda H, W: pixel_area(H, W).to(dtype)):

        def mean(values, rule=rule):
            weight = rule(*values.shape)
            return (values.to(dtype).mean(1) * weight).sum() / weight.sum()

        assert check("02.3", mean), rule
    assert "wanted 2" in repr(check("02.3", lambda values: 0 * values.sum()))


def test_the_detector_of_wrong_weights_has_no_areas_to_compare_with():
    from sal360 import sphere

    def looks_up(weights):
        return sphere.pixel_area(*weights.shape) is None

    assert "out of reach" in repr(check("02.5", looks_up))
    assert sphere.pixel_area(2, 4).shape == (2,)
    assert "you call them wrong" in repr(check("02.5", lambda weights: True))
