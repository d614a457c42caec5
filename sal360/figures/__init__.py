"""Every plot of the book, in one visual language.

Colours are safe for colour-blind eyes, axes carry units, alt texts are generated from the data,
and everything that moves does so without a kernel. Nothing here computes: it draws what the
rest of the package gives it.
"""

from sal360.figures.area import area_figure, convergence, points_figure, weight_maps
from sal360.figures.arrows import direction_figure
from sal360.figures.clips import player
from sal360.figures.footprint import crown_figure, footprint, row_curves
from sal360.figures.globe import globe
from sal360.figures.kernels import by_latitude, detections, kernel_explorer, read_by
from sal360.figures.pictures import maps, panorama, views
from sal360.figures.projections import (
    close_ups,
    cube_net,
    paths,
    projection_comparator,
    tissot,
)
from sal360.figures.resampling import (
    drift,
    error_maps,
    order_plot,
    profiles,
    response_curves,
    taps_figure,
)
from sal360.figures.show import Picture, Plot

__all__ = [
    "Picture",
    "Plot",
    "area_figure",
    "by_latitude",
    "close_ups",
    "convergence",
    "crown_figure",
    "cube_net",
    "detections",
    "direction_figure",
    "drift",
    "error_maps",
    "footprint",
    "globe",
    "kernel_explorer",
    "maps",
    "order_plot",
    "panorama",
    "paths",
    "player",
    "points_figure",
    "profiles",
    "projection_comparator",
    "read_by",
    "response_curves",
    "row_curves",
    "taps_figure",
    "tissot",
    "views",
    "weight_maps",
]
