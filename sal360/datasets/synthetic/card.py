"""The card of the synthetic worlds: what they are, what they are not, and for whom."""

from __future__ import annotations

from sal360.datasets.synthetic.content import CONTENT, SPLITS

_TEXT = """# Synthetic worlds: a data card

**What it is.** Small 360-degree videos drawn from a seed and rendered by ray casting on the sphere:
a place (open ground under a sky, a court, or a room), 5 to 12 things at rest or moving, a camera at
rest, turning or travelling, light and sensor noise. With every frame: exact optical flow, object
masks, depth along each ray, and where simulated observers look. Nothing is downloaded and nothing
is stored.

**What it is not.** Footage, or a model of what people find interesting. There are no faces, no
words, no sound, no story and no task, which is what people look at most. The truth is the output of
a documented stochastic model of gaze (`sal360.datasets.synthetic.observers`), not of people. A
score on it says that a network learned that model; it says nothing about a published benchmark.

**For whom.** For tests (everything is exact), for teaching (everything can be opened), for
pre-training and for the choice between architectures where real data cannot be had. Not for
claims about human attention.

**Licence.** Made by the package; as the package. No person is shown and nobody's gaze is in it.

## How the splits differ

By content, not only by seed: no name in one column occurs in another. Things without a pattern,
shading, shadows, changes of light and noise are common to all.

{table}

Behaviours and camera paths of one split have counterparts in the others: each has things that cross
the seam, pass near a pole, loom, appear and stop, but the motion is another one.

## Known limits

- Flat things face the viewer; seen from a moving camera they turn with it. Only balls, pebbles and
  eggs have a body.
- Flow is that of the surface that makes up at least half of a pixel. Shadows, brightness that
  changes, flicker, fading in and out, and soft edges change colours without any flow; water and
  clouds of the sky stand still.
- Flow and depth belong to the ray through the pixel's centre. Depth of the sky is infinite.
- Colours of surfaces are averaged over a round pixel of a row's height, so at high latitudes a
  surface is a little smoother along the parallel than the narrow pixels there could show.
- Edges between things and the floor are soft over about a pixel; two things that cross each other
  are drawn in order of their centres' distances.
- Colours are as displayed (no exposure, no lens, no compression, no stitching).
- A frame is the same bit for bit on one machine and number of threads; between machines and
  devices to float32 rounding (a pixel on the edge of a cell may differ more).
"""


def _table() -> str:
    head = f"| | {' | '.join(SPLITS)} |\n|---|{'---|' * len(SPLITS)}\n"
    rows = (
        f"| {aspect} | {' | '.join(', '.join(CONTENT[s][aspect]) for s in SPLITS)} |"
        for aspect in CONTENT["train"]
    )
    return head + "\n".join(rows)


CARD = _TEXT.format(table=_table())
"""Markdown."""
