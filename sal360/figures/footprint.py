"""Where a kernel looks, on the sphere and on the panorama, from pole to pole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from sal360.figures.globe import drawn, facing, graticule, scene
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider
from sal360.patterns import Pattern
from sal360.sphere import angle_between, bearing, erp_directions, lonlat_to_xyz, xyz_to_lonlat

GAP = float("nan")


def footprint(patterns: Pattern | dict[str, Pattern], steps: int = 13, height: int = 640) -> Plot:
    """Taps of one or more patterns on the sphere and on the panorama; a slider moves the row.

    Args:
        patterns: a pattern, or name to pattern, all on one size of panorama.
        steps: positions of the slider, spread over the output rows from the first to the last.
        height: of the figure, pixels.
    """
    import plotly.graph_objects as go

    named = patterns if isinstance(patterns, dict) else {patterns.name: patterns}
    sizes = {(p.H, p.W, p.stride) for p in named.values()}
    if len(sizes) != 1:
        raise ValueError(f"patterns: (H, W, stride) {sorted(sizes)}, wanted one for all")
    if steps < 2:
        raise ValueError(f"steps: {steps}, wanted at least 2")
    first = next(iter(named.values()))
    rows = np.unique(np.linspace(0, first.lat.shape[0] - 1, steps).round().astype(int))
    middle = (first.W // 2) // first.stride

    def taps(row: int) -> list[Any]:
        traces: list[Any] = []
        for n, (name, pattern) in enumerate(named.items()):
            xyz = pattern.directions(row, middle)
            traces += _tap_traces(xyz.numpy(), name, n, pattern)
        return traces

    def latitude(row: int) -> float:
        return (0.5 - (row * first.stride + 0.5) / first.H) * 180

    def label(row: int) -> str:
        lat = latitude(row)
        return f"kernel at latitude {lat:+.0f} degrees (row {row * first.stride})"

    start = len(rows) // 5  # towards the pole, where kernels differ
    moving = taps(int(rows[start]))
    figure = go.Figure([*moving, *graticule()])
    figure.frames = [
        go.Frame(
            data=taps(int(row)),
            name=str(row),
            traces=list(range(len(moving))),
            layout={"scene": {"camera": {"eye": facing(latitude(int(row)))}}},
        )
        for row in rows
    ]
    axes = degree_axes()
    axes["yaxis"]["domain"] = [0.04, 0.4]
    figure.update_layout(
        scene={
            **scene(facing(latitude(int(rows[start])))),
            "domain": {"x": [0, 1], "y": [0.48, 1]},
        },
        **axes,
        showlegend=len(named) > 1,
        legend={"orientation": "h", "y": 0.46, "x": 0.5, "xanchor": "center"},
    )
    slider(figure, [(label(int(row)), str(row)) for row in rows], start)
    reach = {name: math.degrees(pattern_reach(pattern).max()) for name, pattern in named.items()}
    spans = "; ".join(
        f"{name} reaches {reach[name]:.3g} degrees from its centre and covers "
        f"{_columns(pattern, 0):.0f} columns in the first row, "
        f"{_columns(pattern, pattern.lat.shape[0] // 2):.0f} at the equator"
        for name, pattern in named.items()
    )
    alt = f"Kernel taps on the unit sphere above and on the panorama below, row by row: {spans}"
    return Plot(figure, alt, height)


def pattern_reach(pattern: Pattern) -> torch.Tensor:
    """Largest distance of a tap from the kernel's centre, per output row: ``(H',)`` radians."""
    lat = (0.5 - (torch.arange(0, pattern.H, pattern.stride).double() + 0.5) / pattern.H) * math.pi
    centre = lonlat_to_xyz(0.0, lat)[:, None]
    return angle_between(lonlat_to_xyz(pattern.lon, pattern.lat), centre).amax(1)


def crown_figure(H: int = 36, W: int = 72, radius: float = math.pi / 4, steps: int = 9) -> Plot:
    """The published crown figure, made interactive: sphere, panorama, and the two grids.

    For every pixel inside a crown of ``radius`` its place in the kernel: the distance from the
    centre (theta') and the bearing (phi', from the south through the east). After Zhang et al.,
    ECCV 2018.

    Args:
        H, W: size of the panorama. radius: radians. steps: of the slider, from pole to pole.
    """
    import plotly.graph_objects as go

    lats = np.linspace(90, -90, steps)
    grid = erp_directions(H, W)
    lon, lat = (np.degrees(v[..., :].numpy()) for v in xyz_to_lonlat(grid))
    lon, lat = lon[0], lat[:, 0]

    def panels(at: float) -> list[Any]:
        distance, compass = crown_coordinates(grid, at, radius)
        inside = np.isfinite(distance)
        x, y, z = drawn(grid.numpy()[inside])
        where = {"x": lon, "y": lat, "hoverongaps": False}
        bars = {
            "orientation": "h",
            "len": 0.8,
            "thickness": 8,
            "tickfont": {"size": 10},
            "yanchor": "top",
        }
        return [
            go.Scatter3d(
                x=x.astype(np.float32),
                y=y.astype(np.float32),
                z=z.astype(np.float32),
                mode="markers",
                hoverinfo="skip",
                marker={
                    "size": 5,
                    "color": distance[inside].astype(np.float32),
                    "colorscale": "Viridis",
                    "cmin": 0,
                    "cmax": math.degrees(radius),
                },
                name="pixels inside",
            ),
            go.Heatmap(
                z=distance.astype(np.float32),
                **where,
                colorscale="Viridis",
                zmin=0,
                zmax=math.degrees(radius),
                hovertemplate="distance %{z:.0f}°<extra></extra>",
                colorbar={
                    **bars,
                    "y": 0.375,
                    "tickvals": [math.degrees(radius) * k / 3 for k in range(4)],
                    "ticktext": [f"{math.degrees(radius) * k / 3:.0f}°" for k in range(4)],
                },
            ),
            go.Heatmap(
                z=compass.astype(np.float32),
                **where,
                colorscale=PHASE,
                zmin=0,
                zmax=360,
                xaxis="x2",
                yaxis="y2",
                hovertemplate="bearing %{z:.0f}°<extra></extra>",
                colorbar={
                    **bars,
                    "y": 0.045,
                    "tickvals": [0, 90, 180, 270, 360],
                    "ticktext": ["S (0°)", "E (90°)", "N (180°)", "W (270°)", "S"],
                },
            ),
        ]

    start = len(lats) // 4
    figure = go.Figure([*panels(lats[start]), *graticule()])
    figure.frames = [
        go.Frame(
            data=panels(at),
            name=f"{at:.1f}",
            traces=[0, 1, 2],
            layout={"scene": {"camera": {"eye": facing(at)}}},
        )
        for at in lats
    ]
    upper, lower = degree_axes(), degree_axes("x2", "y2")
    upper["yaxis"]["domain"], lower["yaxis2"]["domain"] = [0.4, 0.6], [0.07, 0.27]
    figure.update_layout(
        scene={**scene(facing(lats[start])), "domain": {"x": [0, 1], "y": [0.64, 1]}},
        **upper,
        **lower,
        showlegend=False,
        annotations=[
            {
                "text": text,
                "x": 0.5,
                "y": y,
                "xref": "paper",
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"color": INK, "size": 13},
            }
            for text, y in (
                ("distance \u03b8\u2032 from the centre", 0.605),
                ("bearing \u03c6\u2032", 0.275),
            )
        ],
    )
    names = [(f"kernel at latitude {at:+.0f} degrees", f"{at:.1f}") for at in lats]
    slider(figure, names, start)
    share = [np.isfinite(crown_coordinates(grid, at, radius)[0]).mean() for at in (90, 0)]
    alt = (
        f"A crown of {math.degrees(radius):.0f} degrees on the unit sphere, and on the panorama "
        f"the distance (theta') and bearing (phi') of each pixel in it; it holds "
        f"{100 * share[0]:.0f} % of the pixels at a pole and {100 * share[1]:.0f} % at the equator"
    )
    return Plot(figure, alt, height=860)


PHASE = [
    [0.0, "#332288"],
    [0.25, "#44aa99"],
    [0.5, "#f0e0a0"],
    [0.75, "#cc6677"],
    [1.0, "#332288"],
]
"""A closed colour scale for bearings: its two ends meet, and its lightness tells apart N and S."""


def crown_coordinates(
    grid: torch.Tensor, lat_deg: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance and bearing (from the south, then east) of pixels in a crown, degrees, else NaN.

    Args:
        grid: ``(H, W, 3)`` directions. lat_deg: latitude of the crown at longitude 0, degrees.
        radius: radians.
    """
    centre = lonlat_to_xyz(0.0, math.radians(lat_deg))
    distance = angle_between(grid, centre)
    compass = torch.remainder(math.pi - bearing(centre, grid), 2 * math.pi)
    outside = distance > radius + 1e-9
    return (
        torch.rad2deg(distance).masked_fill(outside, GAP).numpy(),
        torch.rad2deg(compass).masked_fill(outside, GAP).numpy(),
    )


def row_curves(
    curves: dict[str, Any],
    ylabel: str,
    title: str = "",
    marks: Any = (),
    reference: float | None = None,
) -> Picture:
    """One value per image row, against the row: lines that may be compared.

    Args:
        curves: name to ``(H,)`` values, from 0 up.
        ylabel: what the values are, with their unit.
        marks: rows to be marked and numbered on the first curve.
        reference: a value to draw a thin line at.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.8, 3.0), layout="constrained")
    arrays = {name: np.asarray(values, float) for name, values in curves.items()}
    if reference is not None:
        axis.axhline(reference, color=INK, lw=0.8)
    for n, (name, v) in enumerate(arrays.items()):  # the later ones lie below, wide and pale
        axis.plot(np.arange(len(v)), v, color=CYCLE[n], label=name, zorder=3 - n,
                  lw=1.5 + 3 * n, alpha=1 - 0.5 * (n > 0))  # fmt: skip
    first = next(iter(arrays.values()))
    rows = np.asarray(marks, int)
    axis.plot(rows, first[rows], "o", ms=4.5, color=CYCLE[0])
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 2) + 1) if len(rows) else []
    for group in groups:  # neighbours share a label
        middle, low = group.mean(), first[group].min()
        axis.annotate(", ".join(map(str, group)), (middle, low), (0, -8), rotation=90, va="top",
                      textcoords="offset points", ha="center", color=INK)  # fmt: skip
    axis.set_ylim(-0.32 if len(rows) else 0, None)
    axis.set_xlabel("image row (0 at the north pole)", color=INK)
    axis.set_ylabel(ylabel, color=INK)
    axis.set_title(title, color=INK, fontsize=11)
    axis.tick_params(colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    if len(arrays) > 1:
        axis.legend(frameon=False, labelcolor=INK, loc="lower right", bbox_to_anchor=(1, 0.12))
    told = "; ".join(f"{name} from {v.min():.3g} to {v.max():.3g}" for name, v in arrays.items())
    named = f"; marked rows {', '.join(map(str, rows))}" if len(rows) else ""
    return Picture([(figure, f"{title or ylabel} by image row: {told}{named}")], 420)


def _tap_traces(xyz: np.ndarray, name: str, n: int, pattern: Pattern) -> list[Any]:
    """A kernel's taps: on the sphere, then on the panorama, joined along the kernel's rows.

    The second pattern is drawn as open rings around the dots of the first.
    """
    import plotly.graph_objects as go

    colour, grow = CYCLE[n % len(CYCLE)], 1 + 0.7 * n
    symbol = "circle" if n == 0 else "circle-open"
    lines = xyz.reshape(-1, pattern.shape[-1], 3)
    if pattern.name.startswith("crown"):
        lines = np.concatenate((lines, lines[:, :1]), 1)  # circles close
    gap = np.full((len(lines), 1, 3), GAP)
    path = np.concatenate((lines, gap), 1).reshape(-1, 3)
    lon, lat = (np.degrees(v.numpy()) for v in xyz_to_lonlat(np.nan_to_num(path, nan=1.0)))
    lon[np.isnan(path[:, 0])] = lat[np.isnan(path[:, 0])] = GAP
    lon, lat, broken = _broken_at_seam(lon, lat)
    x, y, z = drawn(path * 1.005)
    marks = {"color": colour, "symbol": symbol, "line": {"color": colour, "width": 1.5}}
    both = {"name": name, "legendgroup": name, "line": {"color": colour, "width": 1.5}}
    text = [""] * len(broken)
    return [
        go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="lines+markers",
            marker={"size": 4 * grow, **marks},
            hoverinfo="name",
            showlegend=False,
            **both,
        ),
        go.Scatter(
            x=lon,
            y=lat,
            mode="lines+markers",
            marker={"size": 6 * grow, **marks},
            text=text,
            hovertemplate="lon %{x:.1f}, lat %{y:.1f} degrees<extra>" + name + "</extra>",
            **both,
        ),
    ]


def _broken_at_seam(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Insert a gap wherever a line would run across the whole panorama."""
    jump = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
    lon, lat = np.insert(lon, jump, GAP), np.insert(lat, jump, GAP)
    return lon, lat, np.isnan(lon)


def _columns(pattern: Pattern, row: int) -> float:
    """How many columns a kernel spans in a row: the circle less its widest empty arc."""
    lon = torch.sort(torch.remainder(pattern.lon[row], 2 * math.pi)).values
    empty = torch.diff(lon, append=lon[:1] + 2 * math.pi).max()
    return float((2 * math.pi - empty) * pattern.W / (2 * math.pi)) + 1
