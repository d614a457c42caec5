"""Every plot of the book, in one visual language.

Colours are safe for colour-blind eyes, axes carry units, alt texts are generated from the data,
and everything that moves does so without a kernel. Nothing here computes: it draws what the
rest of the package gives it.
"""

from sal360.figures.area import area_figure, convergence, points_figure, weight_maps
from sal360.figures.arrows import direction_figure
from sal360.figures.clips import player
from sal360.figures.comparison import (
    Standing,
    answers,
    differences,
    pareto,
    score_by_latitude,
)
from sal360.figures.cube_padding import edge_curves, rim_origin, signed_maps
from sal360.figures.equivariance import commuting, error_curves, turn_maps
from sal360.figures.footprint import crown_figure, footprint, row_curves
from sal360.figures.gaze import blob_views, blobs_by_latitude, gaze_curves, observers
from sal360.figures.globe import globe
from sal360.figures.kernels import by_latitude, detections, kernel_explorer, read_by
from sal360.figures.leaderboard import gained, standings
from sal360.figures.losses import fit_errors, peaked_maps, training_path
from sal360.figures.metrics import looked_at, rank_of, rank_slopes, roc_levels, scorecard
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
from sal360.figures.sheet import Sheet
from sal360.figures.show import Picture, Plot
from sal360.figures.time import flow_arrows, memory_globe
from sal360.figures.training import roofline, run_curves
from sal360.figures.unet import receptive_fields
from sal360.figures.weak import before_after, in_step

__all__ = [
    "Picture",
    "Plot",
    "Sheet",
    "Standing",
    "answers",
    "area_figure",
    "before_after",
    "blob_views",
    "blobs_by_latitude",
    "by_latitude",
    "close_ups",
    "commuting",
    "convergence",
    "crown_figure",
    "cube_net",
    "detections",
    "differences",
    "direction_figure",
    "drift",
    "edge_curves",
    "error_curves",
    "error_maps",
    "fit_errors",
    "flow_arrows",
    "footprint",
    "gained",
    "gaze_curves",
    "globe",
    "in_step",
    "kernel_explorer",
    "looked_at",
    "maps",
    "memory_globe",
    "observers",
    "order_plot",
    "panorama",
    "pareto",
    "paths",
    "peaked_maps",
    "player",
    "points_figure",
    "profiles",
    "projection_comparator",
    "rank_of",
    "rank_slopes",
    "read_by",
    "receptive_fields",
    "response_curves",
    "rim_origin",
    "roc_levels",
    "roofline",
    "row_curves",
    "run_curves",
    "score_by_latitude",
    "scorecard",
    "signed_maps",
    "standings",
    "taps_figure",
    "tissot",
    "training_path",
    "turn_maps",
    "views",
    "weight_maps",
]
