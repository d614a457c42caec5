"""The figures of chapter 03: alt texts from the data, same bits twice, nothing from a network."""

import re

import numpy as np
import pytest

from sal360 import figures


def test_error_maps_tell_the_worst_place_and_the_mean_by_area():
    error = np.zeros((4, 8))
    error[0] = -0.5  # the top row is a seventh of the sphere
    picture = figures.error_maps({"a": error, "b": error / 10}, unit="metres", low=1e-3)
    (first, png), (second, _) = picture.panels
    assert "Map of metres, a: largest 0.5 at longitude -158, latitude 68 degrees" in first
    assert "area-weighted mean 0.073" in first and "largest 0.05 " in second
    assert png == figures.error_maps({"a": error, "b": error / 10}, "metres", 1e-3).panels[0][1]
    assert png != figures.error_maps({"a": error}, "metres", 1e-3, high=0.1).panels[0][1]
    assert png != figures.error_maps({"a": error}, "metres", signed=True).panels[0][1]
    with pytest.raises(ValueError, match="^errors: "):
        figures.error_maps({"a": 0 * error})


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
    assert "longitude -170\u00b0, latitude 80\u00b0 takes row 0, column 5: 0.03" in plot.alt
    labels = [step.label for step in plot.figure.layout.sliders[0].steps]
    assert len(labels) == len(set(labels)) == len(plot.figure.frames)
    assert "longitude 145\u00b0" in labels[0]
    assert "longitude 10\u00b0, latitude 50\u00b0" in labels[-1]
    for frame in plot.figure.frames:  # whole weights, wherever the place is
        told = frame.data[4].text[0]
        weights = [float(w) for w in re.findall(r": ([\d.]+)", told)]
        assert len(weights) <= 4 and abs(sum(weights) - 1) < 0.021
    up = next(f for f, name in zip(plot.figure.frames, labels, strict=True) if "90\u00b0" in name)
    assert np.ptp(up.data[0].y) == 0 and len(up.data[0].x) == 4  # all in the top row
    assert "8 x 10" in figures.taps_figure(8, 10).alt
