"""What a row of pixels is worth: bands on the panorama and the sphere, points, error curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.show import CYCLE, INK, Picture, Plot, slider
from sal360.sphere import lonlat_to_xyz, pixel_area

Curve = tuple[Sequence[float], Sequence[float]]
"""Sizes and errors of one method."""

_GREY, _LINE = "#c3cad3", "#6d7682"


def area_figure(H: int = 18, start: int = 3) -> Plot:
    """The rows near the poles, marked on the panorama and on the sphere; a slider moves the edge.

    The label compares their share of the pixels with their share of the area.

    Args:
        H: rows of the panorama, even; it has ``2 H`` columns. start: rows marked at each pole
            when the page opens.
    """
    import plotly.graph_objects as go

    share = 2 * np.cumsum(pixel_area(H, 2 * H).numpy() * 2 * H) / (4 * np.pi)
    edge = 90 - 180 / H * np.arange(H // 2 + 1)  # latitude below the k-th row

    def named(k: int) -> str:
        return f"{edge[k]:.0f}\u00b0: {200 * k / H:.1f} % of pixels, " \
               f"{100 * share[k - 1]:.1f} % of area"  # fmt: skip

    def marked(k: int) -> list[Any]:
        north, south = ([side * edge[k], side * 90.0] for side in (1, -1))
        x, y = [], []
        for low, high in (north, south):
            x += [-180, 180, 180, -180, -180, None]
            y += [low, low, high, high, low, None]
        rows = go.Scatter(
            x=x, y=y, fill="toself", mode="lines", line={"width": 0}, fillcolor=CYCLE[4],
            hoverinfo="skip", opacity=0.75,
        )  # fmt: skip
        return [rows, ball(edge[k] / 90)]

    turn, rise = np.linspace(-np.pi, np.pi, 73), np.linspace(-np.pi / 2, np.pi / 2, 4 * H + 1)
    bx, by, bz = _drawn(lonlat_to_xyz(turn, rise[:, None]).numpy() * 0.99)
    height = np.broadcast_to(np.degrees(np.abs(rise))[:, None], bx.shape)

    def ball(cut: float) -> Any:
        colours = [[0, _GREY], [cut, _GREY], [cut, CYCLE[4]], [1, CYCLE[4]]]
        return go.Surface(
            x=_short(bx), y=_short(by), z=_short(bz), surfacecolor=_short(height), cmin=0, cmax=90,
            colorscale=colours if cut > 0 else [[0, CYCLE[4]], [1, CYCLE[4]]], showscale=False,
            hoverinfo="skip", contours={axis: {"highlight": False} for axis in "xyz"},
            lighting={"ambient": 0.85, "diffuse": 0.3, "specular": 0.0},
        )  # fmt: skip

    lons, lats = np.arange(-180, 181, 180 / H), np.linspace(-90, 90, H + 1)
    grid = [np.array([[lon, -90], [lon, 90], [np.nan, np.nan]]) for lon in lons]
    grid += [np.array([[-180, lat], [180, lat], [np.nan, np.nan]]) for lat in lats]
    flat = np.concatenate(grid)
    pixels = go.Scatter(
        x=_short(flat[:, 0]), y=_short(flat[:, 1]), mode="lines", hoverinfo="skip",
        line={"color": _LINE, "width": 0.7},
    )  # fmt: skip
    figure = go.Figure(data=[*marked(start), pixels, _net(lons[:-1], lats[1:-1])])
    steps = range(1, H // 2 + 1)
    figure.frames = [
        go.Frame(data=[rows, {"type": "surface", "colorscale": surface.colorscale}],
                 name=str(k), traces=[0, 1])
        for k in steps
        for rows, surface in [marked(k)]
    ]  # fmt: skip
    ticks = {"showgrid": False, "zeroline": False, "fixedrange": True}
    figure.update_layout(
        showlegend=False,
        scene={**_scene(0.88, (1.45, 0.63, 0.55)), "domain": {"x": [0, 1], "y": [0.41, 1]}},
        xaxis={"range": [-180, 180], "tickvals": list(range(-180, 181, 90)), "domain": [0.1, 0.97],
               "constrain": "domain", "title": {"text": "longitude (degrees)", "standoff": 4},
               **ticks},
        yaxis={"range": [-90, 90], "tickvals": list(range(-90, 91, 45)), "domain": [0, 0.38],
               "scaleanchor": "x", "constrain": "domain",
               "title": {"text": "latitude (degrees)", "standoff": 2}, **ticks},
    )  # fmt: skip
    slider(figure, [(f"beyond {named(k)}", str(k)) for k in steps], start - 1, 52)
    alt = (
        f"A panorama of {H} x {2 * H} pixels and the same pixels on a sphere. A slider marks the "
        f"rows beyond a latitude, now {named(start)}"
    )
    return Plot(figure, alt, height=600)


def points_figure(sets: Mapping[str, Any], start: int = 0) -> Plot:
    """Sets of directions on a sphere seen from above; a slider goes from one set to the next.

    Args:
        sets: name to ``(N, 3)`` unit vectors. start: the set shown when the page opens.
    """
    import plotly.graph_objects as go

    names = list(sets)
    clouds = [np.asarray(sets[name], dtype=float) for name in names]

    def cloud(k: int) -> Any:
        x, y, z = (_short(v) for v in _drawn(clouds[k]))
        return go.Scatter3d(
            x=x, y=y, z=z, mode="markers", hoverinfo="skip",
            marker={"size": 2.4, "color": CYCLE[0], "line": {"width": 0}},
        )  # fmt: skip

    turn, rise = np.linspace(-np.pi, np.pi, 49), np.linspace(-np.pi / 2, np.pi / 2, 25)
    bx, by, bz = _drawn(lonlat_to_xyz(turn, rise[:, None]).numpy() * 0.985)
    ball = go.Surface(
        x=_short(bx), y=_short(by), z=_short(bz), surfacecolor=_short(0 * bx), showscale=False,
        colorscale=[[0, "#dfe3e8"], [1, "#dfe3e8"]], hoverinfo="skip",
        contours={axis: {"highlight": False} for axis in "xyz"},
        lighting={"ambient": 0.9, "diffuse": 0.2, "specular": 0.0},
    )  # fmt: skip
    lons, lats = np.arange(-180, 180, 30), np.arange(-60, 61, 30)
    figure = go.Figure(data=[cloud(start), ball, _net(lons, lats)])
    figure.frames = [go.Frame(data=[cloud(k)], name=str(k), traces=[0]) for k in range(len(names))]
    figure.update_layout(
        showlegend=False,
        scene=_scene(1.05, (0.7, 0.5, 1.25)),
    )
    slider(figure, [(name, str(k)) for k, name in enumerate(names)], start, 8)
    crowds = (f"{name}: {_near_poles(c):.0%}" for name, c in zip(names, clouds, strict=True))
    alt = (
        f"{len(clouds[0])} points on a sphere, drawn in {len(names)} ways. Share within 30 degrees "
        f"of a pole, where 13.4 % of the area is: {'; '.join(crowds)}"
    )
    return Plot(figure, alt, height=460)


def convergence(
    panels: Mapping[str, Mapping[str, Curve]], x: str = "rows H", y: str = "relative error"
) -> Picture:
    """Error against size, both logarithmic: a straight line is a power of the size.

    Args:
        panels: title to name to (sizes, errors); errors that are not positive are left out.
        x, y: labels of the axes, with units.
    """
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    drawn = []
    for title, curves in panels.items():
        figure, axis = pyplot.subplots(figsize=(4.4, 3.7), layout="constrained")
        told = []
        for name, (sizes, errors) in curves.items():
            k = names.index(name)  # one look per name, in every panel
            size, error = np.asarray(sizes, float), np.asarray(errors, float)
            size, error = size[error > 0], error[error > 0]
            style = {"marker": "osD^v*"[k % 6], "ls": ("-", "--", ":", "-.")[k % 4], "ms": 5}
            axis.loglog(size, error, color=CYCLE[k % len(CYCLE)], label=name, lw=2, **style)
            told.append(f"{name} from {error[0]:.1e} at {size[0]:g} to {error[-1]:.1e} at "
                        f"{size[-1]:g}")  # fmt: skip
        axis.set_title(title, color=INK, fontsize=12)
        axis.set_xlabel(x, color=INK, fontsize=11)
        axis.set_ylabel(y, color=INK, fontsize=11)
        axis.tick_params(colors=INK, which="both")
        axis.grid(color=INK, alpha=0.25, lw=0.6)
        for spine in axis.spines.values():
            spine.set_color(INK)
        axis.legend(frameon=False, labelcolor=INK, fontsize=10)
        drawn.append((figure, f"Logarithmic plot of {y}, {title}: {'; '.join(told)}"))
    return Picture(drawn)


def _drawn(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return xyz[..., 2], -xyz[..., 0], -xyz[..., 1]  # plotly's z is up; ours is forward


def _short(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)  # half the bytes on the page


def _net(lons: np.ndarray, lats: np.ndarray) -> Any:
    """Meridians and parallels (degrees) as one trace of lines on the unit sphere."""
    import plotly.graph_objects as go

    turn, rise = np.linspace(-np.pi, np.pi, 73), np.linspace(-np.pi / 2, np.pi / 2, 37)
    lines = [lonlat_to_xyz(np.radians(lon), rise).numpy() for lon in lons]
    lines += [lonlat_to_xyz(turn, np.radians(lat)).numpy() for lat in lats]
    gap = np.full((1, 3), np.nan)
    x, y, z = _drawn(np.concatenate([part for line in lines for part in (line, gap)]))
    return go.Scatter3d(
        x=_short(x), y=_short(y), z=_short(z), mode="lines", connectgaps=False, hoverinfo="skip",
        line={"color": _LINE, "width": 1.5},
    )  # fmt: skip


def _scene(far: float, eye: tuple[float, float, float] = (1.35, 0.6, 0.75)) -> dict[str, Any]:
    hidden = {"visible": False, "range": [-1.02, 1.02]}
    return {
        "xaxis": hidden,
        "yaxis": hidden,
        "zaxis": hidden,
        "aspectmode": "cube",
        "camera": {"eye": dict(zip("xyz", (v * far for v in eye), strict=True))},
    }


def _near_poles(xyz: np.ndarray) -> float:
    return float((np.abs(xyz[:, 1]) > np.sin(np.radians(60))).mean())
