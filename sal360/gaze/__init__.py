"""Gaze: from samples to fixations, from fixations to maps, and how far people agree.

Derived in chapter 10.
"""

from sal360.gaze.agreement import (
    Agreement,
    Bandwidth,
    best_bandwidth,
    by_frame,
    ceiling,
    leave_one_out,
    split_half,
)
from sal360.gaze.density import fixation_maps, fixations_to_density
from sal360.gaze.fixations import (
    EYE_DISPERSION,
    EYE_VELOCITY,
    HEAD_DISPERSION,
    HEAD_VELOCITY,
    Fixations,
    by_dispersion,
    by_velocity,
)
from sal360.gaze.traces import Traces, gaze_in_world, side_by_side
from sal360.gaze.windows import frame_times, in_windows, interpolate, median_interval

__all__ = [
    "EYE_DISPERSION",
    "EYE_VELOCITY",
    "HEAD_DISPERSION",
    "HEAD_VELOCITY",
    "Agreement",
    "Bandwidth",
    "Fixations",
    "Traces",
    "best_bandwidth",
    "by_dispersion",
    "by_frame",
    "by_velocity",
    "ceiling",
    "fixation_maps",
    "fixations_to_density",
    "frame_times",
    "gaze_in_world",
    "in_windows",
    "interpolate",
    "leave_one_out",
    "median_interval",
    "side_by_side",
    "split_half",
]
