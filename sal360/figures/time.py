"""What happens between frames: arrows of motion, and a memory on the sphere as time goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.globe import drawn, graticule, scene
from sal360.figures.pictures import _axes, _degrees, read_rgb
from sal360.figures.show import CYCLE, INK, Picture, Plot, slider
from sal360.projections import sample_erp
from sal360.sphere import angle_between, erp_directions, lonlat_to_xyz, xyz_to_lonlat


def flow_arrows(image: Any, goal: Any, title: str = "", every: int = 10) -> Picture:
    """Where the pixels of a panorama go: an arrow from each of some, the short way round.

    Args:
        image: ``(H, W, 3)`` or ``(3, H, W)``, uint8 or floating in [0, 1]; drawn pale.
        goal: ``(H, W, 3)`` directions that the pixels move to.
        title: of the picture. every: pixels from one arrow to the next.
    """
    end = torch.as_tensor(goal).double()
    if end.ndim != 3 or end.shape[-1] != 3:
        raise ValueError(f"goal: shape {tuple(end.shape)}, wanted (H, W, 3)")
    start = erp_directions(*end.shape[:2])
    moved = torch.rad2deg(angle_between(start, end))
    lon, lat = _degrees_of(start)
    to_lon, to_lat = _degrees_of(end)
    right = torch.remainder(to_lon - lon + 180, 360) - 180
    some = slice(every // 2, None, every)
    places, steps = (
        [v[some, some].numpy() for v in pair] for pair in ((lon, lat), (right, to_lat - lat))
    )
    figure, axis = _axes(5.6)
    axis.imshow(read_rgb(image), extent=(-180, 180, -90, 90), alpha=0.45)
    axis.quiver(*places, *steps, angles="xy", scale_units="xy", scale=1, color=CYCLE[1],
                width=0.003, headwidth=4)  # fmt: skip
    axis.set_xlim(-180, 180)
    axis.set_ylim(-90, 90)
    _degrees(axis, title)
    alt = (
        f"Panorama {title} with arrows: pixels move by {moved.min():.1f} to {moved.max():.1f} "
        f"degrees on the sphere, in longitude by up to {right.abs().max():.0f} degrees"
    )
    return Picture([(figure, alt)], 420)


def memory_globe(
    states: Any, share: Sequence[float], things: Any = None, stop: int | None = None
) -> Plot:
    """A memory on the sphere, seen from outside, frame by frame; below it, how much is left.

    Args:
        states: ``(T, H, W)``, drawn from 0 to half their largest value.
        share: ``T`` numbers, what the memory holds in each frame over the most it ever holds.
        things: ``(T, N, 3)`` directions to mark, or None.
        stop: the last frame in which anything new came in; shown first if given.
    """
    import plotly.graph_objects as go

    stack = torch.as_tensor(states).detach().double()
    if stack.ndim != 3 or len(share) != len(stack):
        raise ValueError(f"states: shape {tuple(stack.shape)}, wanted ({len(share)}, H, W)")
    rows = 36
    lat = np.linspace(math.pi / 2, -math.pi / 2, rows + 1)
    lon = np.linspace(-math.pi, math.pi, 2 * rows + 1)
    ball = lonlat_to_xyz(lon, lat[:, None])
    read = sample_erp(stack[None], ball)[0]
    codes = (read / stack.max().clamp_min(1e-12) * 510).clamp(0, 255).round().to(torch.uint8)
    x, y, z = (v.astype(np.float32) for v in drawn(ball))
    look = {"colorscale": "Viridis", "cmin": 0, "cmax": 255, "showscale": False,
            "hoverinfo": "skip",
            "lighting": {"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},
            "contours": {axis: {"highlight": False} for axis in "xyz"}}  # fmt: skip
    spots = torch.zeros(len(stack), 0, 3) if things is None else torch.as_tensor(things)

    def moving(k: int) -> list[Any]:
        px, py, pz = (v.astype(np.float32) for v in drawn(spots[k].double().numpy() * 1.03))
        return [
            go.Surface(surfacecolor=codes[k].numpy()),
            go.Scatter3d(x=px, y=py, z=pz),
            go.Scatter(x=[k], y=[share[k]]),
        ]

    first = 0 if stop is None else stop
    surface, marks, now = moving(first)
    surface.update(x=x, y=y, z=z, **look)
    dot = {"size": 6, "color": CYCLE[1], "line": {"color": "white", "width": 2}}
    marks.update(mode="markers", hoverinfo="skip", showlegend=False, marker=dot)
    now.update(mode="markers", hoverinfo="skip", marker={"size": 12, "color": CYCLE[1]})
    line = go.Scatter(x=list(range(len(stack))), y=[round(float(v), 4) for v in share],
                      mode="lines", line={"color": CYCLE[0], "width": 2.5},
                      hovertemplate="frame %{x}: %{y:.2f}<extra></extra>")  # fmt: skip
    net, _, poles = graticule(colour="rgba(255,255,255,0.35)")
    for axis in "xyz":  # just above the ball
        net[axis] = (np.asarray(net[axis], float) * 1.008).astype(np.float32).round(3)
    figure = go.Figure([surface, marks, now, line, net, poles])
    figure.frames = [
        go.Frame(data=moving(k), name=str(k), traces=[0, 1, 2]) for k in range(len(stack))
    ]
    if stop is not None:
        figure.add_vline(x=stop, line={"color": INK, "dash": "dot", "width": 1.5})
    plain = {"color": INK, "zeroline": False, "fixedrange": True, "tickfont": {"size": 12},
             "gridcolor": "rgba(128,128,128,0.25)"}  # fmt: skip
    figure.update_layout(
        showlegend=False,
        scene={**scene({"x": 1.28, "y": -0.58, "z": 0.52}, 1.2),
               "domain": {"x": [0, 1], "y": [0.3, 1]}},
        xaxis={**plain, "domain": [0.1, 0.98], "title": {"text": "frame"}},
        yaxis={**plain, "domain": [0.02, 0.25], "range": [0, 1.08],
               "title": {"text": "held (1 = most)"}},
    )  # fmt: skip

    def label(k: int) -> str:
        if stop is None or k <= stop:
            return f"frame {k}: holds {share[k]:.0%}"
        return f"frame {k}, {k - stop} after the stop: {share[k]:.0%}"

    slider(figure, [(label(k), str(k)) for k in range(len(stack))], first, top=44)
    ends = f"{share[0]:.0%} of the most in the first frame, {share[-1]:.0%} in the last"
    told = "" if stop is None else f"; nothing new comes after frame {stop}, with {share[stop]:.0%}"
    alt = (
        f"A sphere seen from outside, coloured by what a memory holds, over {len(stack)} frames "
        f"with a slider; below it the total: {ends}{told}"
    )
    return Plot(figure, alt, height=620)


def _degrees_of(xyz: Tensor) -> tuple[Tensor, Tensor]:
    lon, lat = xyz_to_lonlat(xyz)
    return torch.rad2deg(lon), torch.rad2deg(lat)
