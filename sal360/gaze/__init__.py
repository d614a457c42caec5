"""Gaze: from samples to fixations, from fixations to maps, and how far people agree.

Derived in chapter 10.
"""

from sal360.gaze.density import fixation_maps, fixations_to_density

__all__ = ["fixation_maps", "fixations_to_density"]
