"""Worlds that the package makes itself, with everything known about them."""

from sal360.datasets.synthetic.embedded import SyntheticClip, render_clip

__all__ = ["SyntheticClip", "render_clip"]
