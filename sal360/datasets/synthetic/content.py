"""What a world may be made of, split by split: no name in one split occurs in another.

A network that is trained on ``train`` meets in ``val`` and ``test`` shapes, surfaces, skies,
colours, motions and camera paths that it never saw, not only other dice. Every split also has
things without a pattern, and what belongs to one shape alone, such as the windows of a house, is
not listed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

CONTENT: MappingProxyType[str, MappingProxyType[str, tuple[str, ...]]] = MappingProxyType(
    {
        "train": MappingProxyType(
            {
                "shapes": ("ball", "box", "star", "ring", "rod"),
                "patterns": ("stripes", "spots"),
                "behaviours": ("orbit", "overhead", "approach", "appear", "stop-and-go"),
                "distractors": ("bush", "cloudlet"),
                "scenery": ("tree", "house"),
                "cameras": ("rest", "pan", "dolly"),
                "places": ("meadow", "court", "parlour"),
                "skies": ("clear", "clouds", "night"),
                "skylines": ("hills", "open"),
                "floors": ("grass", "checker", "sand"),
                "walls": ("bricks", "plaster"),
                "palettes": ("citrus", "harbour", "market"),
            }
        ),
        "val": MappingProxyType(
            {
                "shapes": ("pebble", "ellipse", "cross", "hexagon"),
                "patterns": ("rings", "halves"),
                "behaviours": ("pendulum", "underfoot", "pass", "blink", "hesitate"),
                "distractors": ("lamp", "reed"),
                "scenery": ("column",),
                "cameras": ("glance", "stroll"),
                "places": ("plaza", "hall"),
                "skies": ("overcast", "sunset"),
                "skylines": ("forest",),
                "floors": ("tiles", "gravel"),
                "walls": ("wallpaper", "panels"),
                "palettes": ("orchard", "glacier"),
            }
        ),
        "test": MappingProxyType(
            {
                "shapes": ("egg", "triangle", "crescent", "flower"),
                "patterns": ("checks", "rays"),
                "behaviours": ("spiral", "meridian", "charge", "pop", "zigzag"),
                "distractors": ("flag", "mist"),
                "scenery": ("cone", "arch"),
                "cameras": ("drift", "travel", "eight"),
                "places": ("quay", "gallery"),
                "skies": ("aurora", "streaks"),
                "skylines": ("towers",),
                "floors": ("planks", "water"),
                "walls": ("lattice", "mural"),
                "palettes": ("reef", "desert"),
            }
        ),
    }
)
"""Split to what its worlds are drawn from. ``tests/test_worlds.py`` asserts disjointness."""

PALETTES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "citrus": ("f2a51a", "e8562a", "f4e04d", "7fb83d", "fff3c9"),
        "harbour": ("d7263d", "1b6ca8", "f5f0e1", "0b3954", "ffb238"),
        "market": ("a4243b", "d8973c", "5b8c5a", "273e47", "f0e2c8"),
        "orchard": ("8e3b6d", "c4d64c", "e98a9b", "3f5e2e", "f9ead0"),
        "glacier": ("38b6c9", "e3f6f5", "2a4d8f", "b48ad6", "101f38"),
        "reef": ("ff6f59", "16a596", "ffd97d", "553d8a", "e7fff6"),
        "desert": ("c1502e", "6a8d92", "f6d5a7", "3b2c35", "e9b000"),
    }
)
"""Colours of things, sRGB hexadecimal, by palette."""
