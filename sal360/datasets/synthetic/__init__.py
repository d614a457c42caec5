"""Worlds that the package makes itself, with everything known about them."""

from sal360.datasets.synthetic.crowd import Crowd, GazeModel, draw_crowd
from sal360.datasets.synthetic.embedded import SyntheticClip, render_clip
from sal360.datasets.synthetic.observers import Watched, watch

__all__ = [
    "Crowd",
    "GazeModel",
    "SyntheticClip",
    "Watched",
    "draw_crowd",
    "render_clip",
    "watch",
]
