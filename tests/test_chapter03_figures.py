"""Chapter 03. Its figures: alt texts from the data, same bits twice, nothing from a network.

Its exercises: what the package or the page already does is no answer.
"""

import re

import numpy as np
import pytest
import torch

from sal360 import figures, projections
from sal360.course import check
from sal360.course.checking import EXERCISES
from sal360.projections import downsample_erp, sample_erp
from sal360.resampling import apply_table, erp_table


def test_error_maps_tell_the_worst_place_and_the_mean_by_area():
    error = np.zeros((4, 8))
    error[0] = -0.5  # the top row is a seventh of the sphere
    picture = figures.error_maps({"a": error, "b": error / 10}, unit="metres", low=1e-3)
    (first, png), (second, _), (bar, _) = picture.panels
    assert "Map of metres, a: largest 0.5 at 158\u00b0 W, 68\u00b0 N, area-weighted" in first
    assert "area-weighted mean 0.073" in first and "b: largest 0.05 " in second
    assert bar == "Colour bar of the maps: 0.001 to 0.5 metres"
    assert png == figures.error_maps({"a": error, "b": error / 10}, "metres", 1e-3).panels[0][1]
    assert (
        picture.panels[-1][1]
        != figures.error_maps({"a": error}, "metres", 1e-3, high=0.1).panels[-1][1]
    )
    assert png != figures.error_maps({"a": error}, "metres", signed=True).panels[0][1]
    polar = figures.error_maps({"a": error}, lats=(60, 90)).panels[0][0]
    assert "86\u00b0 N" in polar
    with pytest.raises(ValueError, match="^errors: "):
        figures.error_maps({"a": 0 * error})


def test_the_colour_bar_stands_below_all_maps_and_has_arrows_where_errors_are_beyond():
    error = np.linspace(0, 1, 32).reshape(4, 8)
    inside, beyond = (
        figures.error_maps({"a": np.maximum(error, low)}, low=0.05, high=high)
        for low, high in ((0.05, 1.0), (0.0, 0.5))
    )
    assert inside.panels[-1][1] != beyond.panels[-1][1]
    html = beyond._repr_html_()
    assert html.count("<img") == 2 and html.count("grid-column:1/-1") == 1
    assert html.index("grid-column:1/-1") > html.rindex("<img")


def test_a_response_reads_out_what_aliases():
    curves = {"sharp": ([0.5, 1.5], [1.0, 0.02]), "none": ([0.5, 0.9], [1.0, 1.0])}
    ((alt, png),) = figures.response_curves(curves).panels
    assert "sharp keeps up to 0.02 beyond 1; none" in alt
    assert png == figures.response_curves(curves).panels[0][1]


def test_the_walk_over_seam_and_pole():
    plot = figures.taps_figure()
    html = plot.html()
    assert html == figures.taps_figure().html()
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    assert "aria-label" in html and "6 x 12" in plot.alt
    assert "170\u00b0 W, 80\u00b0 N takes row 0, column 5: 0.03" in plot.alt
    labels = [step.label for step in plot.figure.layout.sliders[0].steps]
    assert len(labels) == len(set(labels)) == len(plot.figure.frames)
    assert "145\u00b0 E" in labels[0]
    assert "10\u00b0 E, 50\u00b0 N" in labels[-1]
    for frame in plot.figure.frames:  # whole weights, wherever the place is
        told = frame.data[4].text[0]
        weights = [float(w) for w in re.findall(r": ([\d.]+)", told)]
        assert len(weights) <= 4 and abs(sum(weights) - 1) < 0.021
    up = next(
        f for f, name in zip(plot.figure.frames, labels, strict=True) if ", 90\u00b0 N" in name
    )
    assert np.ptp(up.data[0].y) == 0 and len(up.data[0].x) == 4  # all in the top row
    assert "8 x 10" in figures.taps_figure(8, 10).alt


def test_profiles_read_out_how_far_each_line_is_from_the_first():
    panels = {"here": {"truth": ([0, 1], [0.0, 1.0]), "got": ([0, 1], [0.0, 0.75])}}
    ((alt, png),) = figures.profiles(panels, "degrees", "value", edge=0.5).panels
    assert alt == "Plot of value against degrees, here: got up to 0.25 away"
    assert png == figures.profiles(panels, "degrees", "value", edge=0.5).panels[0][1]


def test_an_order_plot_names_both_ends():
    curves = {"second": ([16, 32], [0.04, 0.01])}
    ((alt, png),) = figures.order_plot(curves, "rows", "error").panels
    assert "second from 4.0e-02 at 16 to 1.0e-02 at 32" in alt
    assert png == figures.order_plot(curves, "rows", "error").panels[0][1]


def test_a_drift_tells_where_the_content_went():
    image = np.zeros((8, 16, 3))
    before, after = figures.drift({"a": image, "b": image}, (0, 0), {"b": (29, -27)}).panels
    assert "is at it" in before[0] and "29 degrees right and 27 down of it" in after[0]
    assert after[1] == figures.drift({"b": image}, (0, 0), {"b": (29, -27)}).panels[0][1]


def test_views_say_what_they_show():
    image = np.zeros((4, 4, 3))
    shown = figures.views({"a": image, "b": image}, alts={"a": "a black square"}).panels
    assert [alt for alt, _ in shown] == ["View: a, a black square", "View: b"]


def test_a_reader_of_the_package_is_no_reader_of_yours():
    image, d = torch.rand(5, 9).double(), torch.randn(7, 3).double()
    before = sample_erp(image[None, None], d)
    for borrowed in (
        lambda image, xyz: sample_erp(image[None, None], xyz)[0, 0],
        lambda image, xyz: projections.sample_erp(image[None, None], xyz, "bilinear")[0, 0],
        lambda image, xyz: apply_table(image[None, None], erp_table(xyz, *image.shape))[0, 0],
    ):
        assert "locked" in repr(check("03.2", borrowed))
    # All sizes are shrunk once by the check itself, so the package remembers every table of them.
    assert list(EXERCISES["03.5"](lambda image, h, w: torch.full((h, w), 2.0)))
    shrunk = check("03.5", lambda image, h, w: downsample_erp(image[None, None], h, w)[0, 0])
    assert "locked" in repr(shrunk)
    assert torch.equal(before, sample_erp(image[None, None], d))  # unlocked again


def test_a_loop_over_directions_is_refused():
    def one(image, d):
        H, W = image.shape
        lon, lat = torch.atan2(d[0], d[2]), torch.atan2(-d[1], torch.hypot(d[0], d[2]))
        row, col = (0.5 - lat / torch.pi) * H - 0.5, (lon / (2 * torch.pi) + 0.5) * W - 0.5
        total = 0.0
        for i in (row.floor(), row.floor() + 1):
            v, over = 1 - (row - i).abs(), not 0 <= i < H
            line = -1 - i if i < 0 else 2 * H - 1 - i if i >= H else i
            place = col + W / 2 if over else col
            for j in (place.floor(), place.floor() + 1):
                total = total + v * (1 - (place - j).abs()) * image[int(line), int(j % W)]
        return total

    answer = check("03.2", lambda image, xyz: torch.stack([one(image, d) for d in xyz]))
    assert "not in turn" in repr(answer) and "(20000, 3)" in repr(answer)


def test_a_step_is_a_whole_number_and_a_constant_says_what_it_became():
    floats = check("03.1", lambda i, j, steps, H, W: (i - steps, j / 1))
    assert "whole numbers" in repr(floats) and "7.0" in repr(floats)
    added = check("03.5", lambda image, h, w: torch.full((h, w), 3.1))
    assert "a map of 2 became 3.1" in repr(added)
