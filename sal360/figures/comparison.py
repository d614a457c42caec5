"""Kinds of networks beside each other: what they answer, how well, at what cost, how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sal360.experiments.summary import Interval
from sal360.figures.area import Keyed
from sal360.figures.show import CYCLE, INK, Picture, Plot, slider

STYLE = {
    "planar": (CYCLE[1], "solid", "circle"),
    "wrapped": (CYCLE[4], "dash", "circle-open"),
    "tangent": (CYCLE[0], "solid", "square"),
    "ring": (CYCLE[5], "dash", "square-open"),
    "crown": (CYCLE[3], "dot", "diamond"),
    "cube": (CYCLE[2], "solid", "triangle-up"),
    "cube, zeros": (INK, "dash", "triangle-up-open"),
}
"""Colour, line and mark of each kind, the same in every figure."""
_NEW = ((CYCLE[1], "solid", "star"), (CYCLE[0], "dash", "star-open"))


class Standing(NamedTuple):
    """What a kind costs, how well it does, how far from equivariant it is."""

    cost: float
    quality: Interval
    residual: float


Spot = tuple[float, float, bool]
"""Longitude and latitude in degrees, and whether it is one to be found."""


def answers(
    panels: Mapping[str, tuple[Any, Sequence[Spot]]], scenes: Sequence[str] = ()
) -> Picture:
    """Panoramas with their spots marked: a ring around those to be found, a square around others.

    Args:
        panels: title to an ``(H, W)`` map and its spots.
        scenes: titles of those that are pictures, drawn in grey; the others are answers from 0
            up, drawn in colour on one scale.
    """
    from matplotlib import cm, colors, pyplot

    drawn = []
    arrays = {title: np.asarray(value, float) for title, (value, _) in panels.items()}
    found = [float(array.max()) for title, array in arrays.items() if title not in scenes]
    top = max(math.ceil(10 * max(found, default=1.0)) / 10, 0.1)
    for title, (_, spots) in panels.items():
        array, grey = arrays[title], title in scenes
        span = {"cmap": "gray"} if grey else {"cmap": "viridis", "vmin": 0, "vmax": top}
        figure, axis = pyplot.subplots(figsize=(4.2, 2.5), layout="constrained")
        axis.imshow(array, extent=(-180, 180, -90, 90), **span)
        told = []
        for lon, lat, wanted in spots:
            for colour, wide in (("black", 4.2), ("white", 2.2)):
                mark = "o" if wanted else "s"
                axis.plot(lon, lat, mark, mec=colour, mew=wide, mfc="none", ms=27)
            row = min(int((0.5 - lat / 180) * len(array)), len(array) - 1)
            col = int((lon / 360 + 0.5) * array.shape[1]) % array.shape[1]
            kind = "round" if wanted else "long"
            read = "" if grey else f" is answered {array[row, col]:.2f}"
            told.append(f"the {kind} spot at longitude {lon:.0f}, latitude {lat:.0f}{read}")
        axis.set_title(title, color=INK, fontsize=13)
        axis.set_xticks([-90, 0, 90], ["90\u00b0 W", "0\u00b0", "90\u00b0 E"])
        axis.set_yticks([-60, 0, 60], ["60\u00b0 S", "0\u00b0", "60\u00b0 N"])
        axis.tick_params(colors=INK, labelsize=11)
        for spine in axis.spines.values():
            spine.set_color(INK)
        drawn.append((figure, f"{title}: {'; '.join(told)}"))
    figure, axis = pyplot.subplots(figsize=(4.6, 0.85), layout="constrained")
    scale = cm.ScalarMappable(colors.Normalize(0, top), "viridis")
    bar = figure.colorbar(scale, cax=axis, orientation="horizontal")
    bar.set_label('answer: "a round spot is here"', color=INK, fontsize=11)
    bar.ax.tick_params(colors=INK, labelsize=11)
    bar.outline.set_visible(False)
    drawn.append((figure, f"Colour bar of the answers: 0 to {top:.1f}"))
    return Keyed(drawn, 260)


def score_by_latitude(
    frames: Mapping[str, Mapping[str, Sequence[Interval]]],
    bands: Sequence[tuple[float, float]],
    ylabel: str = "correlation with the truth (CC)",
    trained: float | None = None,
) -> Plot:
    """Score of each kind in bands of latitude, with intervals; a slider changes the condition.

    Args:
        frames: condition to kind to one spread a band. bands: degrees from the equator.
        ylabel: what the score is. trained: latitude up to which the ground is shaded, degrees:
            where the usual training had its spots.
    """
    import plotly.graph_objects as go

    kinds = list(dict.fromkeys(kind for curves in frames.values() for kind in curves))
    middle = np.array([(low + high) / 2 for low, high in bands])
    names = [f"{low:g} to {high:g}\u00b0" for low, high in bands]

    def drawn(curves: Mapping[str, Sequence[Interval]]) -> list[Any]:
        traces = []
        for n, kind in enumerate(kinds):
            colour, dash, symbol = _style(kind, n)
            spread = curves.get(kind, ())  # empty where a condition lacks a kind
            text = [f"{kind}, {name}: {s.mean:.3f} \u00b1 {s.half:.3f}"
                    for name, s in zip(names, spread, strict=False)]  # fmt: skip
            x = middle[: len(spread)] + 1.1 * (n - (len(kinds) - 1) / 2)
            traces.append(go.Scatter(
                x=x, y=[s.mean for s in spread], name=kind, text=text,
                hovertemplate="%{text}<extra></extra>", mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"symbol": symbol, "size": 8, "color": colour},
                error_y={"array": [s.half for s in spread], "color": colour, "thickness": 1.2,
                         "width": 2},
            ))  # fmt: skip
        return traces

    first = next(iter(frames))
    figure = go.Figure(data=drawn(frames[first]))
    figure.frames = [go.Frame(data=drawn(curves), name=name) for name, curves in frames.items()]
    if trained is not None:
        figure.add_vrect(x0=0, x1=trained, fillcolor=INK, opacity=0.13, line_width=0)
        figure.add_annotation(
            text="usual training", x=trained / 2, y=1.0, yref="paper", yanchor="bottom",
            showarrow=False, font={"size": 12},
        )  # fmt: skip
    every = [s.mean for curves in frames.values() for spread in curves.values() for s in spread]
    axis = {"color": INK, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False,
            "fixedrange": True}  # fmt: skip
    figure.update_layout(
        xaxis={"title": "latitude of the spots (degrees)", "range": [0, 90],
               "tickvals": [low for low, _ in bands] + [bands[-1][1]], **axis},
        yaxis={"title": ylabel, "range": [min(0.0, min(every) - 0.05), 1.02], **axis},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.16, "yanchor": "top",
                "font": {"size": 13}},
    )  # fmt: skip
    _on_top(figure, list(frames))
    told = "; ".join(
        f"{kind} {spread[0].mean:.2f} in {names[0]} and {spread[-1].mean:.2f} in {names[-1]}"
        for kind, spread in frames[first].items()
    )
    others = ", ".join(name for name in frames if name != first)
    alt = f"{ylabel} against latitude, {first}: {told}" + (f". Slider: {others}" if others else "")
    plot = Plot(figure, alt, height=560)
    figure.update_layout(margin={"t": 92, "b": 16, "l": 8, "r": 8})
    return plot


def pareto(
    frames: Mapping[str, Mapping[str, Standing]],
    xlabel: str = "time per learning step (planar = 1)",
    ylabel: str = "correlation with the truth (CC)",
) -> Plot:
    """Cost, quality and equivariance of each kind; a slider changes what quality is asked for.

    Cost is across, quality up, the colour is the equivariance error, and a line joins the kinds
    that no other one beats in both cost and quality.

    Args:
        frames: question to kind to where it stands. xlabel, ylabel: with their units.
    """
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    everything = [s for points in frames.values() for s in points.values()]
    low, high = (f(s.residual for s in everything) for f in (min, max))

    def drawn(points: Mapping[str, Standing]) -> list[Any]:
        front = pareto_front({k: (s.cost, s.quality.mean) for k, s in points.items()})
        path = [points[kind] for kind in front]
        line = go.Scatter(
            x=[s.cost for s in path], y=[s.quality.mean for s in path], mode="lines",
            line={"color": INK, "width": 1.5, "dash": "dot"}, hoverinfo="skip", name="not beaten",
        )  # fmt: skip
        scale = go.Scatter(  # draws nothing; the colour bar is its
            x=[None], y=[None], mode="markers", showlegend=False, hoverinfo="skip",
            marker={"color": [low], "coloraxis": "coloraxis"},
        )  # fmt: skip
        return [line, scale, *(mark(kind, n, s) for n, (kind, s) in enumerate(points.items()))]

    def mark(kind: str, n: int, s: Standing) -> Any:
        symbol = _style(kind, n)[2]
        share = (s.residual - low) / (high - low) if high > low else 0.0
        colour = sample_colorscale("Viridis", [share])[0]
        outline = {"width": 4} if symbol.endswith("-open") else {"width": 1.5, "color": INK}
        return go.Scatter(
            x=[s.cost], y=[s.quality.mean], mode="markers", name=kind,
            hovertemplate=f"{kind}: cost {s.cost:.2f}, {s.quality.mean:.3f} \u00b1 "
            f"{s.quality.half:.3f}, equivariance error {s.residual:.2f}<extra></extra>",
            error_y={"array": [s.quality.half], "color": INK, "thickness": 1.2, "width": 3},
            marker={"size": 15, "color": colour, "symbol": symbol, "line": outline},
        )  # fmt: skip

    first = next(iter(frames))
    figure = go.Figure(data=drawn(frames[first]))
    figure.frames = [go.Frame(data=drawn(points), name=name) for name, points in frames.items()]
    ends = [s.cost for s in everything]
    ups = [s.quality.mean + side * s.quality.half for s in everything for side in (-1, 1)]
    room = 0.12 * (max(ends) - min(ends)) + 0.05
    axis = {"color": INK, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False,
            "fixedrange": True}  # fmt: skip
    figure.update_layout(
        coloraxis={
            "colorscale": "Viridis", "cmin": low, "cmax": high,
            "colorbar": {"orientation": "h", "y": -0.13, "yanchor": "top", "len": 0.9,
                         "thickness": 12, "tickfont": {"color": INK},
                         "title": {"text": "colour: equivariance error (0: none)",
                                   "side": "bottom", "font": {"color": INK}}},
        },
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.36, "yanchor": "top",
                "font": {"size": 13}},
        xaxis={"title": xlabel, "range": [min(ends) - room, max(ends) + room], **axis},
        yaxis={"title": ylabel, "range": [max(min(ups), 0) - 0.04, min(max(ups), 1) + 0.04],
               **axis},
    )  # fmt: skip
    _on_top(figure, list(frames))
    told = "; ".join(
        f"{kind} costs {s.cost:.2f}, reaches {s.quality.mean:.2f}, error {s.residual:.2f}"
        for kind, s in frames[first].items()
    )
    others = ", ".join(name for name in frames if name != first)
    alt = f"{ylabel} against {xlabel}, coloured by equivariance error, {first}: {told}"
    plot = Plot(figure, alt + (f". Slider: {others}" if others else ""), height=660)
    figure.update_layout(margin={"t": 76, "b": 16, "l": 8, "r": 8})
    return plot


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names that no other point beats, by cost: none is both cheaper and better."""
    front: list[str] = []
    best = -math.inf
    for name, (_, quality) in sorted(points.items(), key=lambda p: (p[1][0], -p[1][1])):
        if quality > best:
            front.append(name)
            best = quality
    return front


def differences(
    panels: Mapping[str, Mapping[str, Interval]], xlabel: str, nothing: str = "no difference"
) -> Picture:
    """Differences with their intervals, one line each; those that hold 0 are hollow and grey.

    Args:
        panels: title to name to a difference. xlabel: what differs, with its unit.
        nothing: what a difference of 0 means.
    """
    from matplotlib import pyplot

    ends = [v for rows in panels.values() for s in rows.values()
            for v in (s.mean - s.half, s.mean + s.half, 0.0)]  # fmt: skip
    pad = 0.06 * (max(ends) - min(ends)) + 1e-9
    drawn = []
    for title, rows in panels.items():
        size = (4.2, 1.15 + 0.36 * len(rows))
        figure, axis = pyplot.subplots(figsize=size, layout="constrained")
        axis.axvline(0, color=INK, lw=1)
        told = []
        for k, (name, s) in enumerate(rows.items()):
            sure = abs(s.mean) > s.half
            colour = (CYCLE[0] if s.mean > 0 else CYCLE[1]) if sure else INK
            axis.errorbar(s.mean, -k, xerr=s.half, fmt="o", color=colour, capsize=4, lw=2, ms=7,
                          mfc=colour if sure else "none")  # fmt: skip
            verdict = "" if sure else ", holds 0"
            told.append(f"{name} {s.mean:+.3f} \u00b1 {s.half:.3f}{verdict}")
        axis.set_yticks([-k for k in range(len(rows))], list(rows))
        axis.set(xlim=(min(ends) - pad, max(ends) + pad), ylim=(0.6 - len(rows), 0.6))
        axis.set_xlabel(xlabel, color=INK, fontsize=12)
        axis.set_title(title, color=INK, fontsize=13)
        axis.tick_params(colors=INK, labelsize=12)
        axis.grid(axis="x", color=INK, alpha=0.18, lw=0.5)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color(INK)
        drawn.append((figure, f"{xlabel}, {title} (0: {nothing}): {'; '.join(told)}"))
    return Picture(drawn, 300)


def _style(kind: str, n: int) -> tuple[str, str, str]:
    return STYLE.get(kind, _NEW[n % len(_NEW)])


def _on_top(figure: Any, names: Sequence[str]) -> None:
    """The slider above the plot, its value in readable type, no labels along it."""
    if len(names) < 2:
        return
    slider(figure, [(name, name) for name in names], 0, 0)
    value = {"font": {"color": INK, "size": 14}, "prefix": ""}
    figure.layout.sliders[0].update(y=1.02, yanchor="bottom", currentvalue=value, font={"size": 1})
