"""The sphere itself: a panorama wrapped around a ball, with curves and points on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sal360.figures.show import CYCLE, INK, Plot
from sal360.projections import sample_erp
from sal360.sphere import lonlat_to_xyz

NEAR = {"x": -1.5, "y": 0.0, "z": 0.35}
"""Plotly camera behind the viewer at the centre: right is right, and one looks through the ball."""


def drawn(xyz: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Our frame (x right, y down, z forward) in the one plotly draws in, whose z is up."""
    array = np.asarray(xyz, float)
    return array[..., 2], -array[..., 0], -array[..., 1]


def scene(eye: dict[str, float] | None = None, reach: float = 1.14) -> dict[str, Any]:
    """Layout of a plotly scene with a unit sphere alone, up to ``reach`` along each axis."""
    hidden = {"visible": False, "range": [-reach, reach]}
    return {
        "xaxis": hidden,
        "yaxis": hidden,
        "zaxis": hidden,
        "aspectmode": "cube",
        "camera": {"eye": eye or NEAR},
        "dragmode": "orbit",
    }


def facing(lat_deg: float) -> dict[str, float]:
    """Plotly camera behind the viewer, from which the front half's ``lat_deg`` faces one."""
    x, y, z = drawn(lonlat_to_xyz(0.0, np.radians(0.75 * lat_deg)).numpy() * -1.42)
    return {"x": float(x), "y": float(y), "z": float(z)}


def curve3d(xyz: Any, colour: str, name: str, width: float = 5.0) -> Any:
    """A line on the sphere as a plotly trace; NaN rows interrupt it."""
    import plotly.graph_objects as go

    x, y, z = drawn(xyz)
    line = {"color": colour, "width": width}
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", name=name, line=line, hoverinfo="name", connectgaps=False
    )


def graticule(step: int = 30, colour: str = "#9aa1ad") -> list[Any]:
    """Circles every ``step`` degrees, a pale ball inside them, and the letters N and S."""
    import plotly.graph_objects as go

    turn, rise = np.linspace(-np.pi, np.pi, 97), np.linspace(-np.pi / 2, np.pi / 2, 49)
    circles = [lonlat_to_xyz(turn, np.radians(lat)).numpy() for lat in range(-90 + step, 90, step)]
    circles += [lonlat_to_xyz(np.radians(lon), rise).numpy() for lon in range(-180, 180, step)]
    gap = np.full((1, 3), np.nan)
    lines = curve3d(np.concatenate([p for c in circles for p in (c, gap)]), colour, "", 2.0)
    lines.hoverinfo, lines.showlegend = "skip", False
    x, y, z = drawn(lonlat_to_xyz(turn[::2], rise[::2, None]).numpy() * 0.985)
    ball = go.Surface(
        x=x,
        y=y,
        z=z,
        opacity=0.12,
        showscale=False,
        hoverinfo="skip",
        surfacecolor=np.zeros_like(x),
        colorscale=[[0, "#56b4e9"], [1, "#56b4e9"]],
        contours={axis: {"highlight": False} for axis in "xyz"},
    )
    px, py, pz = drawn([[0.0, -1.09, 0.0], [0.0, 1.09, 0.0]])
    poles = go.Scatter3d(
        x=px,
        y=py,
        z=pz,
        mode="text",
        text=["N", "S"],
        textfont={"color": INK, "size": 13},
        hoverinfo="skip",
        showlegend=False,
    )
    return [lines, ball, poles]


def globe(
    image: Any,
    curves: dict[str, Any] | None = None,
    points: dict[str, tuple[float, float]] | None = None,
    rows: int = 72,
    outside: bool = False,
    height: int = 440,
) -> Plot:
    """A panorama on the sphere it came from, to turn with a finger.

    Args:
        image: ``(H, W, 3)`` or ``(3, H, W)``, uint8 or floating in [0, 1]; or ``(H, W)``, drawn
            in viridis with a colour bar.
        curves: name to ``(N, 3)`` directions, drawn as lines.
        points: name to (lon, lat) in degrees, marked and named.
        rows: of the mesh; twice as many columns.
        outside: look at the ball from outside, where the panorama appears mirrored (it was made
            to be seen from within); else from behind, with the near half cut away.
        height: of the figure, pixels.
    """
    import plotly.graph_objects as go

    lat = np.linspace(np.pi / 2, -np.pi / 2, rows + 1)
    span = np.linspace(-np.pi, np.pi, 2 * rows + 1)
    # From behind one looks into the front half of the ball; the back half would hide it.
    keep = span if outside else span[np.abs(span) <= np.pi / 2 + 1e-9]
    xyz = lonlat_to_xyz(keep, lat[:, None])
    value = torch.as_tensor(np.asarray(image))
    if value.ndim == 2:
        planes = value[None, None].double()
    else:
        planes = value if value.shape[0] == 3 and value.shape[-1] != 3 else value.permute(2, 0, 1)
        planes = planes[None].double() / (1 if planes.is_floating_point() else 255)
    read = sample_erp(planes, xyz)[0].numpy()
    x, y, z = drawn(xyz)
    flat = {"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0, "roughness": 1}
    if value.ndim == 2:
        ball: Any = go.Surface(
            x=x,
            y=y,
            z=z,
            surfacecolor=read[0],
            colorscale="Viridis",
            lighting=flat,
            hoverinfo="skip",
            colorbar={"len": 0.6, "thickness": 12},
            contours={axis: {"highlight": False} for axis in "xyz"},
        )
    else:
        levels = np.clip(np.round(read * 255), 0, 255).astype(int).reshape(3, -1).T
        i, j, k = _triangles(*xyz.shape[:2])
        ball = go.Mesh3d(
            x=x.ravel().astype(np.float32),
            y=y.ravel().astype(np.float32),
            z=z.ravel().astype(np.float32),
            i=i,
            j=j,
            k=k,
            vertexcolor=[f"#{r:02x}{g:02x}{b:02x}" for r, g, b in levels],
            lighting=flat,
            hoverinfo="skip",
        )
    traces = [ball]
    for n, (name, line) in enumerate((curves or {}).items()):
        traces.append(curve3d(np.asarray(line) * 0.99, CYCLE[(n + 1) % len(CYCLE)], name))
    if points:
        at = lonlat_to_xyz(*np.radians(np.array(list(points.values()), float).T)).numpy() * 0.98
        px, py, pz = drawn(at)
        traces.append(
            go.Scatter3d(
                x=px,
                y=py,
                z=pz,
                mode="markers+text",
                text=list(points),
                textposition="top center",
                marker={"size": 6, "color": CYCLE[1], "line": {"color": "white", "width": 2}},
                textfont={"color": INK},
                hoverinfo="text",
                showlegend=False,
            )
        )
    figure = go.Figure(traces)
    figure.update_layout(
        scene=scene({"x": 1.4, "y": 0.0, "z": 0.35} if outside else None),
        showlegend=bool(curves),
        legend={"orientation": "h", "y": 0, "x": 0.5, "xanchor": "center"},
    )
    seen = "from outside, mirrored" if outside else "from behind, into its front half"
    alt = f"A panorama on the unit sphere, seen {seen}"
    if curves:
        alt += "; on it " + ", ".join(curves)
    if points:
        places = (f"{n} at {x:.0f}, {y:.0f} degrees" for n, (x, y) in points.items())
        alt += "; marked " + ", ".join(places)
    return Plot(figure, alt, height=height)


def _triangles(rows: int, cols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two triangles for each cell of a grid of vertices."""
    corner = (np.arange(rows - 1)[:, None] * cols + np.arange(cols - 1)).ravel()
    i = np.concatenate((corner, corner + 1))
    j = np.concatenate((corner + cols, corner + cols))
    k = np.concatenate((corner + 1, corner + cols + 1))
    return i.astype(np.int32), j.astype(np.int32), k.astype(np.int32)
