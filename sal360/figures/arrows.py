"""The frame of the book, to turn with a finger: axes, a sphere, and one direction that moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sal360.figures.globe import drawn, graticule
from sal360.figures.show import CYCLE, INK, Plot, slider
from sal360.sphere import lonlat_to_xyz


def direction_figure(lat_deg: float = 35.0, step_deg: float = 15.0) -> Plot:
    """A unit vector at one latitude; the slider turns its longitude once around.

    The scene is drawn as a viewer at the centre has it: x right, y down, z forward.

    Args:
        lat_deg: latitude of the vector, degrees. step_deg: of the slider.
    """
    import plotly.graph_objects as go

    lons = np.arange(-180.0, 180.0 + step_deg / 2, step_deg)
    places = lonlat_to_xyz(np.radians(lons), np.radians(lat_deg)).numpy()

    def line(xyz: np.ndarray, colour: str, width: float, name: str) -> go.Scatter3d:
        x, y, z = drawn(xyz)
        return go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="lines",
            name=name,
            hoverinfo="name",
            line={"color": colour, "width": width},
        )

    def arrow(k: int) -> list[go.Scatter3d]:
        d, lon = places[k], math.radians(lons[k])
        foot = np.array([d[0], 0.0, d[2]])
        along = np.linspace(0, lon, 40)
        swept = 0.5 * np.stack((np.sin(along), 0 * along, np.cos(along)), -1)
        up = np.linspace(0, math.radians(lat_deg), 20)
        risen = lonlat_to_xyz(lon, up).numpy() * 0.5
        tip = drawn(d)
        return [
            line(np.stack((np.zeros(3), d)), CYCLE[1], 7, "direction"),
            line(np.stack((np.zeros(3), foot, d)), INK, 2, "its shadow on the floor"),
            line(swept, CYCLE[0], 5, "longitude"),
            line(risen, CYCLE[2], 5, "latitude"),
            go.Scatter3d(
                x=[tip[0]],
                y=[tip[1]],
                z=[tip[2]],
                mode="markers",
                text=[named(k)],
                marker={"size": 5, "color": CYCLE[1]},
                hoverinfo="text",
                name="tip",
            ),
        ]

    def named(k: int) -> str:
        x, y, z = places[k]
        return f"{lons[k]:+.0f} degrees: x {x:+.2f}, y {y:+.2f}, z {z:+.2f}"

    start = int(np.argmin(np.abs(lons - 60)))
    figure = go.Figure(data=[*arrow(start), *graticule(), *_axes_of_frame()])
    figure.frames = [
        go.Frame(data=arrow(k), name=f"{lon:.0f}", traces=list(range(5)))
        for k, lon in enumerate(lons)
    ]
    hidden = {"visible": False, "range": [-1.5, 1.5]}
    figure.update_layout(
        showlegend=False,
        scene={
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "aspectmode": "cube",
            "camera": {"eye": {"x": -1.0, "y": -0.5, "z": 0.7}},
        },
    )
    slider(figure, [(f"lon {named(k)}", f"{lon:.0f}") for k, lon in enumerate(lons)], start, 8)
    alt = (
        f"Unit sphere with axes x right, y down, z forward, and a direction at latitude "
        f"{lat_deg:.0f} degrees whose longitude a slider turns from -180 to 180 degrees"
    )
    return Plot(figure, alt, height=460)


def _axes_of_frame() -> list[Any]:
    import plotly.graph_objects as go

    parts = []
    places = {"x": "top center", "y": "bottom center", "z": "top center"}
    for k, (name, place) in enumerate(places.items()):
        end = np.zeros(3)
        end[k] = 1.25
        x, y, z = drawn(np.stack((np.zeros(3), end)))
        parts.append(
            go.Scatter3d(
                x=x,
                y=y,
                z=z,
                mode="lines+text",
                text=["", name],
                textposition=place,
                line={"color": INK, "width": 4},
                hoverinfo="name",
                name=name,
            )
        )
    return parts
