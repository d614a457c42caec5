"""sal360: where viewers look in 360-degree video, and the layers that predict it.

The rooms, from the ground up: :mod:`sal360.sphere` (directions, areas, rotations),
:mod:`sal360.projections` (reading a panorama, cubes, views), :mod:`sal360.patterns` (where
kernels look), :mod:`sal360.models`, :mod:`sal360.inference`. Importing this package loads none
of them.
"""

from sal360._version import __version__

__all__ = ["__version__"]
