"""The figures of chapter 02: alt texts from the data, same bits twice, nothing from a network."""

import re

import numpy as np
import torch

from sal360 import figures
from sal360.sphere import fibonacci_sphere, sample_sphere


def clouds():
    return {
        "even": fibonacci_sphere(300),
        "random": sample_sphere(300, torch.Generator().manual_seed(0)),
    }


def test_the_plots_need_no_network_and_come_out_the_same():
    for draw in (figures.area_figure, lambda: figures.points_figure(clouds())):
        html = draw().html()
        assert html == draw().html()
        assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
        assert "aria-label" in html


def test_the_area_figure_tells_both_shares():
    plot = figures.area_figure(start=3)
    assert "60°: 33.3 % of pixels, 13.4 % of area" in plot.alt
    labels = [step.label for step in plot.figure.layout.sliders[0].steps]
    assert len(labels) == len(plot.figure.frames) == 9
    assert labels[5] == "beyond 30°: 66.7 % of pixels, 50.0 % of area"
    assert labels[-1] == "beyond 0°: 100.0 % of pixels, 100.0 % of area"
    assert "4 x 8" in figures.area_figure(4, start=1).alt


def test_the_points_figure_counts_what_crowds_at_the_poles():
    plot = figures.points_figure({**clouds(), "all up": np.tile([0.0, -1.0, 0.0], (300, 1))})
    assert "300 points" in plot.alt
    assert "even: 13%" in plot.alt and "all up: 100%" in plot.alt


def test_a_convergence_plot_reads_out_its_ends_and_skips_zeros():
    curves = {"second": ([8, 16, 32], [1e-2, 2.5e-3, 6e-4]), "exact": ([8, 16, 32], [1e-3, 0, 0])}
    picture = figures.convergence({"one": curves, "two": {"exact": curves["exact"]}})
    (first, png), (second, _) = picture.panels
    assert "second from 1.0e-02 at 8 to 6.0e-04 at 32" in first
    assert "exact from 1.0e-03 at 8 to 1.0e-03 at 8" in second
    again = figures.convergence({"one": curves, "two": {"exact": curves["exact"]}})
    assert png == again.panels[0][1]
