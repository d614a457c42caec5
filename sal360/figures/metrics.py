"""What scores see: fixations over a map, levels and their ROC curve, a table, ranks that change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider

_GREY = "rgba(128,128,128,0.25)"


def looked_at(panels: Mapping[str, tuple[Any, Any]]) -> Picture:
    """Maps with fixations over them.

    Args:
        panels: title to an ``(H, W)`` map and ``(N, 2)`` lon, lat in radians.
    """
    from matplotlib import pyplot

    drawn = []
    for title, (value, points) in panels.items():
        array, at = np.asarray(value, float), np.degrees(np.asarray(points, float))
        figure, axis = pyplot.subplots(figsize=(4.4, 2.6), layout="constrained")
        axis.imshow(array, extent=(-180, 180, -90, 90), cmap="viridis", vmin=0)
        axis.plot(at[:, 0], at[:, 1], "o", mfc="white", mec="black", mew=0.5, ms=3)
        axis.set_title(title, color=INK, fontsize=13)
        axis.set_xticks([-90, 0, 90], ["90° W", "0°", "90° E"])
        axis.set_yticks([-60, 0, 60], ["60° S", "0°", "60° N"])
        axis.tick_params(colors=INK, labelsize=11)
        for spine in axis.spines.values():
            spine.set_color(INK)
        far = float((np.abs(at[:, 1]) > 30).mean())
        row, col = np.unravel_index(int(array.argmax()), array.shape)
        lon = ((col + 0.5) / array.shape[1] - 0.5) * 360
        lat = (0.5 - (row + 0.5) / array.shape[0]) * 180
        drawn.append(
            (figure, f"{title}: {len(at)} fixations over a map that is highest at longitude "
                     f"{lon:.0f}, latitude {lat:.0f} degrees; {far:.0%} of them lie more than 30 "
                     f"degrees from the equator")
        )  # fmt: skip
    return Picture(drawn, 280)


def roc_levels(
    value: Any,
    points: Any,
    levels: Sequence[float],
    looked: Any,
    places: Mapping[str, Any],
    start: int | None = None,
) -> Plot:
    """A level is moved through a map; what lies above it, and where that is on the ROC curve.

    Args:
        value: ``(H, W)``. points: ``(N, 2)`` fixations, radians.
        levels: ``L`` levels, downwards. looked: ``(L,)`` share of fixations at or above each.
        places: two ways to count, name to the ``(L,)`` share of all places at or above.
        start: which level is shown at first; None: the middle one.
    """
    import plotly.graph_objects as go

    array, at = np.asarray(value, float), np.degrees(np.asarray(points, float)).round(1)
    H, W = array.shape
    cuts = [float(level) for level in levels]
    up, ways = np.asarray(looked, float), {n: np.asarray(v, float) for n, v in places.items()}
    if not len(levels) == len(up) == len(next(iter(ways.values()))):
        raise ValueError(f"levels: {len(levels)}, wanted as many as shares, {len(up)}")
    colours = dict(zip(ways, (CYCLE[1], CYCLE[0]), strict=False))

    def region(k: int) -> Any:
        return go.Heatmap(
            z=(array >= cuts[k]).astype(np.uint8), x0=-180 + 180 / W, dx=360 / W,
            y0=90 - 90 / H, dy=-180 / H, zmin=0, zmax=1, showscale=False, hoverinfo="skip",
            colorscale=[[0, "rgba(128,128,128,0.12)"], [1, "rgba(230,159,0,0.55)"]],
        )  # fmt: skip

    def mark(name: str, k: int) -> Any:
        return go.Scatter(x=[ways[name][k]], y=[up[k]], mode="markers", showlegend=False,
                          marker={"size": 12, "color": colours[name],
                                  "line": {"color": "white", "width": 1.5}},
                          hoverinfo="skip", xaxis="x2", yaxis="y2")  # fmt: skip

    start = len(levels) // 2 if start is None else start
    fixed = [
        go.Scatter(x=at[:, 0], y=at[:, 1], mode="markers", hoverinfo="skip", showlegend=False,
                   marker={"size": 4, "color": CYCLE[0]}),
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", hoverinfo="skip", showlegend=False,
                   line={"color": INK, "dash": "dot", "width": 1}, xaxis="x2", yaxis="y2"),
    ]  # fmt: skip
    curves = [
        go.Scatter(x=np.r_[0, x, 1].round(4), y=np.r_[0, up, 1].round(4), mode="lines", name=name,
                   showlegend=False, line={"color": colours[name], "width": 2.5,
                         "dash": ("solid", "dash")[n % 2]},
                   hoverinfo="skip", xaxis="x2", yaxis="y2")
        for n, (name, x) in enumerate(ways.items())
    ]  # fmt: skip
    moving = [0, 2 + len(ways) + 1, 2 + len(ways) + 2]
    figure = go.Figure([region(start), *fixed, *curves, *(mark(n, start) for n in ways)])
    figure.frames = [
        go.Frame(data=[region(k), *(mark(n, k) for n in ways)], name=str(k), traces=moving)
        for k in range(len(levels))
    ]
    figure.update_layout(degree_axes())
    figure.update_layout(
        xaxis={"domain": [0.1, 0.98], "fixedrange": True},
        yaxis={"domain": [0.57, 1], "fixedrange": True},
        xaxis2={"domain": [0.14, 0.98], "range": [-0.03, 1.03], "anchor": "y2", "color": INK,
                "title": "share of places above the level", "gridcolor": _GREY, "zeroline": False,
                "fixedrange": True, "constrain": "domain", "title_standoff": 4},
        yaxis2={"domain": [0.05, 0.49], "range": [-0.03, 1.03], "anchor": "x2", "color": INK,
                "title": "of fixations", "gridcolor": _GREY, "zeroline": False,
                "fixedrange": True, "scaleanchor": "x2", "constrain": "domain"},
    )  # fmt: skip
    # Names stand beside their curves, each on the free side.
    low = int(np.abs(up - 0.65).argmin())
    for n, name in enumerate(sorted(ways, key=lambda n: ways[n][low])):
        side, sign = ("right", "left")[n], (-1, 1)[n]
        figure.add_annotation(
            x=ways[name][low], y=up[low], xref="x2", yref="y2", text=name, showarrow=False,
            xanchor=side, xshift=8 * sign, yshift=-8 * sign,
            font={"size": 14, "color": colours[name]},
        )  # fmt: skip
    first, second = ways
    steps = [
        (f"{first} {ways[first][k]:.0%}, {second} {ways[second][k]:.0%}, looked at {up[k]:.0%}",
         str(k))
        for k in range(len(levels))
    ]  # fmt: skip
    slider(figure, steps, start, 44)
    told = ", ".join(f"{ways[n][start]:.0%} counted {n}" for n in ways)
    alt = (
        f"Above, {len(at)} fixations over a panorama with the part shaded where a map is above a "
        f"level; below, the share of fixations there against the share of places. A slider moves "
        f"the level: at {cuts[start]:.2g}, {up[start]:.0%} of the fixations and of all places "
        f"{told}"
    )
    return Plot(figure, alt, height=740)


def scorecard(
    scores: Mapping[str, Mapping[str, float]], best: str, nothing: str, lower: Sequence[str] = ()
) -> Picture:
    """A table of scores, coloured in each column from what knows nothing to the best there is.

    Args:
        scores: predictor to metric to score. best, nothing: predictors that end the scale.
        lower: metrics of which less is better.
    """
    from matplotlib import pyplot

    rows, columns = list(scores), list(scores[best])
    figure, axis = pyplot.subplots(figsize=(5.4, 1.3 + 0.46 * len(rows)), layout="constrained")
    place = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            value, zero = scores[row][column], scores[nothing][column]
            span = scores[best][column] - zero
            part = np.clip((value - zero) / span if span else 0.0, -1, 1)
            place[i, j] = part
            axis.text(j, i, _short(value), ha="center", va="center", fontsize=12,
                      color="white" if part > 0.5 or part < -0.9 else "black")  # fmt: skip
    axis.imshow(place, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    arrows = {c: "↓" if c in lower else "↑" for c in columns}
    axis.set_xticks(range(len(columns)), [f"{c}\n{arrows[c]}" for c in columns])
    axis.set_yticks(range(len(rows)), rows)
    axis.xaxis.tick_top()
    axis.tick_params(colors=INK, labelsize=12, length=0)
    axis.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axis.grid(which="minor", color="white", lw=1.5)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel(f"purple: like {best}; white: like {nothing};\norange: worse than {nothing}",
                    color=INK, fontsize=12)  # fmt: skip
    lines = [f"{row}: " + ", ".join(f"{c} {_written(scores[row][c])}" for c in columns)
             for row in rows]  # fmt: skip
    return Picture([(figure, f"Table of scores. {'; '.join(lines)}")], 480)


def _written(value: float) -> str:
    if not math.isfinite(value):
        return "\u2212∞" if value < 0 else "∞"
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.2f}"
    return text.replace("-", "\u2212")


def _short(value: float) -> str:
    """Two digits, so that a cell has room around them."""
    if not math.isfinite(value) or abs(value) >= 9.95:
        return _written(value)
    text = f"{value:.1f}" if abs(value) >= 0.995 else f"{value:.2f}".replace("0.", ".", 1)
    return text.replace("-", "\u2212")


def rank_slopes(
    frames: Mapping[str, Mapping[str, tuple[float, float]]],
    sides: tuple[str, str],
    lower: Sequence[str] = (),
    room: float = 1.4,
) -> Plot:
    """Who is ahead, counted in two ways: a line from rank to rank; a slider changes the metric.

    Args:
        frames: metric to predictor to its two scores. sides: how each of them counts.
        lower: metrics of which less is better.
        room: for scores and names at the right, in lengths of a line.
    """
    import plotly.graph_objects as go

    names = list(next(iter(frames.values())))

    def traces(metric: str) -> list[Any]:
        rank = rank_of(frames[metric], metric in lower)
        found = []
        for n, name in enumerate(names):
            ranks, scores = rank[name], frames[metric][name]
            moved = ranks[0] != ranks[1]
            found.append(go.Scatter(
                x=[0, 1], y=[-r for r in ranks], mode="lines+markers+text", showlegend=False,
                text=[f"{scores[0]:.3f} ", f" {scores[1]:.3f}  {name}"], hoverinfo="skip",
                textposition=["middle left", "middle right"], cliponaxis=False,
                textfont={"color": CYCLE[n % 6] if moved else INK, "size": 13},
                line={"color": CYCLE[n % 6] if moved else INK, "width": 3.5 if moved else 1.2,
                      "dash": "dot" if n >= 6 else "solid"},
                marker={"size": 8},
            ))  # fmt: skip
        return found

    first = next(iter(frames))
    figure = go.Figure(traces(first))
    figure.frames = [go.Frame(data=traces(m), name=m) for m in frames]
    bare = {"visible": False, "fixedrange": True}
    figure.update_layout(
        xaxis={"range": [-0.1875 * (1 + room), 1 + room], **bare},
        yaxis={"range": [-len(names) - 0.5, -0.3], **bare},
    )
    for x, side in enumerate(sides):
        figure.add_annotation(x=x, y=-0.4, text=side, showarrow=False, yanchor="bottom",
                              font={"size": 13, "color": INK})  # fmt: skip
    slider(figure, [(metric, metric) for metric in frames], 0, 8)
    told = []
    for metric in frames:
        rank = rank_of(frames[metric], metric in lower)
        told.append(f"{metric}: " + ", ".join(
            f"{name} {r[0]} and {r[1]}" for name, r in rank.items()))  # fmt: skip
    alt = f"Ranks counted {sides[0]} and {sides[1]}, joined by lines. {'; '.join(told)}"
    return Plot(figure, alt, height=430)


def rank_of(
    scores: Mapping[str, tuple[float, float]], lower: bool = False
) -> dict[str, tuple[int, int]]:
    """Place of each name in both columns, 1 for the best; equal scores keep their order."""
    columns = []
    for k in (0, 1):
        order = sorted(scores, key=lambda name: scores[name][k] * (1 if lower else -1))
        columns.append({name: place for place, name in enumerate(order, 1)})
    return {name: (columns[0][name], columns[1][name]) for name in scores}
