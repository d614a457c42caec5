"""Every plot of the book, in one visual language.

Colours are safe for colour-blind eyes, axes carry units, alt texts are generated from the data,
and everything that moves does so without a kernel. Nothing here computes: it draws what the
rest of the package gives it.
"""

from sal360.figures.area import area_figure, convergence, points_figure
from sal360.figures.arrows import direction_figure
from sal360.figures.clips import player
from sal360.figures.pictures import maps, panorama, views
from sal360.figures.show import Picture, Plot

__all__ = [
    "Picture",
    "Plot",
    "area_figure",
    "convergence",
    "direction_figure",
    "maps",
    "panorama",
    "player",
    "points_figure",
    "views",
]
