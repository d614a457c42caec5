"""Worlds that the package makes itself, with everything known about them."""

from sal360.datasets.synthetic.card import CARD
from sal360.datasets.synthetic.content import CONTENT, SPLITS
from sal360.datasets.synthetic.crowd import Crowd, GazeModel, draw_crowd
from sal360.datasets.synthetic.embedded import SyntheticClip, render_clip
from sal360.datasets.synthetic.observers import Watched, watch
from sal360.datasets.synthetic.render import Rendered, render_times, render_world
from sal360.datasets.synthetic.world import World, WorldState, draw_world
from sal360.datasets.synthetic.worlds import SyntheticWorlds

__all__ = [
    "CARD",
    "CONTENT",
    "SPLITS",
    "Crowd",
    "GazeModel",
    "Rendered",
    "SyntheticClip",
    "SyntheticWorlds",
    "Watched",
    "World",
    "WorldState",
    "draw_crowd",
    "draw_world",
    "render_clip",
    "render_times",
    "render_world",
    "watch",
]
