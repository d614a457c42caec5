"""Gaze: from samples to fixations, from fixations to maps, and how far people agree.

Derived in chapter 10.
"""

from sal360.gaze.density import fixation_maps, fixations_to_density
from sal360.gaze.traces import Traces, gaze_in_world, side_by_side
from sal360.gaze.windows import frame_times, in_windows, interpolate, median_interval

__all__ = [
    "Traces",
    "fixation_maps",
    "fixations_to_density",
    "frame_times",
    "gaze_in_world",
    "in_windows",
    "interpolate",
    "median_interval",
    "side_by_side",
]
