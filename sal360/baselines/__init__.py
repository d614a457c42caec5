"""Predictors that know almost nothing, and are hard to beat.

Each is a module that can be used wherever a network can, with no window, no warm-up and a few
lines of code; a network that does not beat them has learnt nothing. What people agree on among
themselves, the ceiling above every predictor, is in :mod:`sal360.gaze.agreement`. Chapter 12
scores them.
"""

from sal360.baselines.contrast import BooleanMaps, boolean_map_saliency
from sal360.baselines.motion import CentreOfMotion, Motion
from sal360.baselines.priors import (
    Equator,
    EquatorFront,
    MeanMap,
    Uniform,
    equator_density,
    front_density,
    mean_of_others,
    times_prior,
)

__all__ = [
    "BooleanMaps",
    "CentreOfMotion",
    "Equator",
    "EquatorFront",
    "MeanMap",
    "Motion",
    "Uniform",
    "boolean_map_saliency",
    "equator_density",
    "front_density",
    "mean_of_others",
    "times_prior",
]
