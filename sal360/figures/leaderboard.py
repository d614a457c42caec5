"""A leaderboard to look at: where every arm stands with its interval, and what a pair gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sal360.figures.show import CYCLE, INK, Plot, slider

Spread = tuple[float, float, float]
"""A mean and the two ends of its interval; NaN where there is none."""
KINDS = {
    "network": (CYCLE[0], "circle"),
    "planar twin": (CYCLE[1], "square-open"),
    "published width": (CYCLE[2], "triangle-up"),
    "baseline": (INK, "diamond-open"),
}
"""Colour and mark of each kind of arm, the same in every figure."""
NAMES = 0.85
"""Room for the names, in widths of what is drawn beside them."""
_GREY = "rgba(128,128,128,0.25)"


def standings(
    frames: Mapping[str, Mapping[str, Spread]], kinds: Mapping[str, str], reference: str
) -> Plot:
    """Every arm's mean with its interval, one line each; a slider changes what is asked.

    Args:
        frames: question (a metric, a condition) to arm to its spread; the first one orders the
            lines, its best on top. kinds: arm to a key of :data:`KINDS`.
        reference: arm at whose mean a line is drawn.
    """
    import plotly.graph_objects as go

    first = next(iter(frames))
    order = sorted(frames[first], key=lambda arm: frames[first][arm][0])
    place = {arm: k for k, arm in enumerate(order)}

    def traces(name: str) -> list[Any]:
        rows, drawn = frames[name], []
        line = rows[reference][0]
        drawn.append(go.Scatter(x=[line, line], y=[-0.6, len(order) - 0.4], mode="lines",
                                line={"color": INK, "dash": "dot", "width": 1.5},
                                showlegend=False, hoverinfo="skip"))  # fmt: skip
        for kind, (colour, symbol) in KINDS.items():
            mine = [arm for arm in order if kinds[arm] == kind]
            if not mine:
                continue
            of = [rows[arm] for arm in mine]
            drawn.append(go.Scatter(
                x=[s[0] for s in of], y=[place[arm] for arm in mine], mode="markers", name=kind,
                marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2}},
                error_x={"type": "data", "symmetric": False, "color": colour, "thickness": 1.4,
                         "width": 3, "array": [_reach(s[2] - s[0]) for s in of],
                         "arrayminus": [_reach(s[0] - s[1]) for s in of]},
                text=[f"{arm}: {_told(s)}" for arm, s in zip(mine, of, strict=True)],
                hovertemplate="%{text}<extra></extra>",
            ))  # fmt: skip
        return drawn

    def axis(name: str) -> dict[str, Any]:
        ends = [v for s in frames[name].values() for v in s if math.isfinite(v)]
        low, high = min(ends), max(ends)
        wide = max(high - low, 1e-3)
        # Names stand inside, at the left: so the slider is as wide as the page, on a phone, too.
        ticks = _ticks(low, high)
        shown = [low - NAMES * wide, high + 0.05 * wide]
        return {"range": shown, "tickvals": ticks, "title": {"text": name, "standoff": 6}}

    figure = go.Figure(traces(first))
    figure.frames = [
        go.Frame(data=traces(name), name=name, layout={"xaxis": axis(name)}) for name in frames
    ]
    figure.update_layout(
        xaxis={"color": INK, "gridcolor": _GREY, "zeroline": False, "fixedrange": True,
               "side": "top", **axis(first)},
        yaxis={"color": INK, "showgrid": False, "zeroline": False, "fixedrange": True,
               "tickvals": list(range(len(order))), "ticktext": order,
               "tickfont": {"size": 11}, "range": [-0.6, len(order) - 0.4],
               "ticklabelposition": "inside", "ticks": ""},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.02, "yanchor": "top",
                "font": {"size": 12}},
    )  # fmt: skip
    slider(figure, [(name, name) for name in frames], 0, 64)
    told = "; ".join(f"{arm} {_told(frames[first][arm])}" for arm in reversed(order))
    alt = f"{first} of every arm with its interval, the best on top: {told}"
    rest = ", ".join(name for name in frames if name != first)
    plot = Plot(figure, alt + (f". Slider: {rest}" if rest else ""), 220 + 23 * len(order))
    figure.update_layout(margin={"t": 64, "b": 8, "l": 8, "r": 12})
    return plot


def gained(
    frames: Mapping[str, Mapping[str, Sequence[Spread]]], bands: Sequence[str], what: str
) -> Plot:
    """Differences in each band, with intervals; those that hold 0 are hollow. A slider changes
    the condition.

    Args:
        frames: condition to pair to one spread a band. bands: their names. what: differs.
    """
    import plotly.graph_objects as go

    pairs = list(next(iter(frames.values())))
    marks = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star")

    def traces(name: str) -> list[Any]:
        drawn = []
        for n, pair in enumerate(pairs):
            spread, colour, mark = frames[name][pair], CYCLE[n % 6], marks[n % 6]
            x = [k + 0.15 * (n - (len(pairs) - 1) / 2) for k in range(len(bands))]
            drawn.append(go.Scatter(
                x=x, y=[_number(s[0]) for s in spread], mode="markers", name=pair, legendgroup=pair,
                showlegend=False, marker={"color": colour, "size": 10, "line": {"width": 2},
                        "symbol": [mark if sure(s) else mark + "-open" for s in spread]},
                error_y={"type": "data", "symmetric": False, "color": colour, "thickness": 1.4,
                         "width": 3, "array": [_reach(s[2] - s[0]) for s in spread],
                         "arrayminus": [_reach(s[0] - s[1]) for s in spread]},
                text=[f"{pair}, {b}: {_told(s)}" for b, s in zip(bands, spread, strict=True)],
                hovertemplate="%{text}<extra></extra>",
            ))  # fmt: skip
        return drawn

    first = next(iter(frames))
    # The legend's marks are filled whatever the slider shows.
    keys = [
        go.Scatter(
            x=[None], y=[None], mode="markers", name=pair, legendgroup=pair,
            marker={"color": CYCLE[n % 6], "size": 10, "symbol": marks[n % 6],
                    "line": {"width": 2}},
        )
        for n, pair in enumerate(pairs)
    ]  # fmt: skip
    figure = go.Figure([*traces(first), *keys])
    moving = list(range(len(pairs)))
    figure.frames = [go.Frame(data=traces(name), name=name, traces=moving) for name in frames]
    every = [s for rows in frames.values() for spread in rows.values() for s in spread]
    means = [s[0] for s in every if math.isfinite(s[0])] + [0.0]
    reach = sorted((s[2] - s[1]) / 2 for s in every if math.isfinite(s[1])) or [0.0]
    room = 2 * reach[len(reach) // 2] + 1e-3  # bars that are much longer are cut
    figure.add_hline(y=0, line={"color": INK, "width": 1.5})
    figure.update_layout(
        xaxis={"color": INK, "tickvals": list(range(len(bands))), "ticktext": list(bands),
               "range": [-0.5, len(bands) - 0.5], "fixedrange": True, "showgrid": False,
               "zeroline": False, "tickfont": {"size": 11}},
        yaxis={"color": INK, "gridcolor": _GREY, "title": what, "zeroline": False,
               "fixedrange": True, "range": [min(means) - room, max(means) + room]},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.1, "yanchor": "top",
                "font": {"size": 12}},
    )  # fmt: skip
    more = 19 * max(0, len(pairs) - 3)  # a phone has one entry of the legend in a line
    slider(figure, [(name, name) for name in frames], 0, 92 + more)
    told = "; ".join(
        f"{pair}: " + ", ".join(f"{b} {_told(s)}" for b, s in zip(bands, spread, strict=True))
        for pair, spread in frames[first].items()
    )
    rest = ", ".join(name for name in frames if name != first)
    alt = f"{what} by band, {first}: {told}" + (f". Slider: {rest}" if rest else "")
    return Plot(figure, alt, 540 + more)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two."""
    wide = max(high - low, 1e-3)
    step = 10.0 ** math.floor(math.log10(wide))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if wide / s <= 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def sure(spread: Spread) -> bool:
    """Whether 0 lies outside of the interval."""
    return spread[1] > 0 or spread[2] < 0


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _reach(value: float) -> float:
    return round(max(value, 0.0), 4) if math.isfinite(value) else 0.0


def _told(spread: Spread) -> str:
    if not math.isfinite(spread[0]):
        return "nobody looked there"
    if not math.isfinite(spread[1]):
        return f"{spread[0]:.3f}, no interval"
    return f"{spread[0]:.3f} [{spread[1]:.3f}, {spread[2]:.3f}]"
