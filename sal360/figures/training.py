"""A training as its record tells it: curves of any run, and a step beside what a machine can do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.area import Keyed
from sal360.figures.show import CYCLE, INK, Plot

POINTS = 100
"""Of a loss curve, at most: neighbours are joined to their mean."""
_MARKS = "osD^vP*X"


def run_curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    lines: Mapping[str, float] | None = None,
    metric: str = "cc",
    start: int = 0,
) -> Plot:
    """Loss and validation of runs, against steps; a menu says of which.

    Args:
        runs: entry of the menu to records (:mod:`sal360.training.records`), one for each seed.
        lines: entry of the menu to the validation score of what was not trained, drawn level.
        metric: of the validations. start: the entry shown first.
    Raises:
        ValueError: no run at all.
    """
    import plotly.graph_objects as go

    if not runs:
        raise ValueError("runs: none, wanted at least one")
    traces, owners, told = [], [], []
    for number, (name, records) in enumerate(runs.items()):
        ends = []
        for k, record in enumerate(records):
            colour, dash = CYCLE[k % len(CYCLE)], ("solid", "dash", "dot")[k % 3]
            look = {"line": {"color": colour, "width": 2, "dash": dash}, "legendgroup": f"{k}",
                    "visible": number == start, "name": f"seed {record['seed']}"}  # fmt: skip
            step, loss = _thinned(record["curve"]["step"], record["curve"]["loss"])
            traces.append(
                go.Scatter(x=step, y=loss, hovertemplate="step %{x:.0f}: %{y:.3f}", **look)
            )
            seen = [(v["step"], v["means"][metric]) for v in record["validations"]
                    if v["means"].get(metric) is not None]  # fmt: skip
            at, score = (list(column) for column in zip(*seen, strict=True)) if seen else ([], [])
            traces.append(
                go.Scatter(x=at, y=np.round(score, 4).tolist(), mode="lines+markers",
                           xaxis="x2", yaxis="y2", showlegend=False,
                           hovertemplate="step %{x}: %{y:.3f}", **look)
            )  # fmt: skip
            owners += [number, number]
            ends += [max(score)] if score else []
        text = f"{name}: {len(records)} run{'s' * (len(records) > 1)}"
        if ends:
            text += f", best {metric.upper()} {', '.join(f'{v:.2f}' for v in ends)}"
        if lines and name in lines:
            last = max(max(trace.x, default=0) for trace in traces[-2 * len(records) :])
            traces.append(
                go.Scatter(x=[0, last], y=[lines[name]] * 2, mode="lines", name="equator",
                           xaxis="x2", yaxis="y2", visible=number == start,
                           hovertemplate="equator: %{y:.3f}",
                           line={"color": INK, "width": 2, "dash": "longdash"})
            )  # fmt: skip
            owners.append(number)
            text += f", the equator {lines[name]:.2f}"
        told.append(text)
    figure = go.Figure(traces)
    buttons = [
        {"label": name, "method": "update",
         "args": [{"visible": [owner == number for owner in owners]}]}
        for number, name in enumerate(runs)
    ]  # fmt: skip
    axis = {"color": INK, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False,
            "fixedrange": True, "tickfont": {"size": 12}, "rangemode": "tozero"}  # fmt: skip
    figure.update_layout(
        updatemenus=[{"buttons": buttons, "active": start, "x": 0, "xanchor": "left", "y": 1.17,
                      "yanchor": "top", "bgcolor": "white",
                      "font": {"color": INK}, "pad": {"t": 0, "b": 0}}],
        xaxis={**axis, "anchor": "y", "matches": "x2", "showticklabels": False},
        yaxis={**axis, "domain": [0.56, 1], "title": {"text": "loss in training"},
               "rangemode": "normal"},
        xaxis2={**axis, "anchor": "y2", "title": {"text": "step"}},
        yaxis2={**axis, "domain": [0, 0.48], "title": {"text": f"{metric.upper()}, validation"}},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.16, "yanchor": "top"},
        hovermode="closest",
    )  # fmt: skip
    alt = f"Loss and validation {metric.upper()} against steps; a menu chooses of {'; '.join(told)}"
    return Plot(figure, alt, height=520)


def _thinned(step: Sequence[float], loss: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means of neighbours, so that a page holds many curves."""
    parts = min(POINTS, len(step))
    means = [
        [float(part.mean()) for part in np.array_split(np.asarray(v, float), parts)]
        for v in (step, loss)
    ]
    return [round(v, 1) for v in means[0]], [float(f"{v:.4g}") for v in means[1]]


def roofline(columns: Mapping[str, Mapping[str, Any]], precision: str = "fp32") -> Keyed:
    """What a machine can do for a step, and what the step does, by its operations per byte.

    Below the roof a step cannot be faster than its bytes (the slope) or its operations (the level)
    allow; how far a mark is below it, is what is lost.

    Args:
        columns: title to ``rates`` (``bytes_per_s``, ``operations_per_s`` by precision) and
            ``systems``: name to ``work`` (``operations``, ``bytes``) and ``median_s``; those that
            were not run are left out. As ``python -m benchmarks training`` writes them. Where
            ``units`` and ``ceiling_per_s`` of a system tell what does its products, its level is
            that, and bears the name of the units.
        precision: of the level of all others.
    """
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    panels, names = [], []
    for title, column in columns.items():
        rates = column["rates"]
        slope = rates["bytes_per_s"]
        usual = max(rates["operations_per_s"][precision], rates["operations_per_s"]["fp32"])
        ran = {n: row for n, row in column["systems"].items() if "not run" not in row}
        levels = {row.get("ceiling_per_s", usual): row.get("units", "") for row in ran.values()}
        levels = dict(sorted((levels or {usual: ""}).items()))
        level, ridge = max(levels), max(levels) / slope
        places = {
            name: (row["work"]["operations"] / row["work"]["bytes"],
                   row["work"]["operations"] / row["median_s"])
            for name, row in ran.items()
        }  # fmt: skip
        low = min([ridge / 20, *(x / 2 for x, _ in places.values())])
        high = max([ridge * 5, *(2 * x for x, _ in places.values())])
        one, called = (1e12, "trillion") if level >= 1e13 else (1e9, "billion")
        figure, axis = pyplot.subplots(figsize=(4.4, 3.4), layout="constrained")
        axis.loglog([low, ridge, high], [low * slope / one, level / one, level / one],
                    color=INK, lw=2)  # fmt: skip
        for lower, units in levels.items():
            axis.loglog([lower / slope, high], [lower / one] * 2, color=INK, lw=2)
            axis.text(high, 0.8 * lower / one, units, color=INK, fontsize=11, ha="right", va="top")
        told = []
        for name, (x, y) in places.items():
            names += [name] * (name not in names)
            k = names.index(name)
            axis.plot(x, y / one, _MARKS[k % 8], color=CYCLE[k % 6], ms=8)
            own = ran[name].get("ceiling_per_s", usual)
            share = y / min(own, x * slope)
            told.append(f"{name} {share:.1%}" if share >= 0.001 else f"{name} under 0.1%")
        axis.set_title(title, color=INK, fontsize=12)
        axis.set_xlabel("operations per byte", color=INK, fontsize=12)
        axis.set_ylabel(f"{called} operations / s", color=INK, fontsize=12)
        for ticks in (axis.xaxis, axis.yaxis):
            ticks.set_major_locator(LogLocator(subs=(1.0,)))
            ticks.set_major_formatter("{x:g}")
            ticks.set_minor_formatter("")
        bottom = min([low * slope / one, *(y / (2 * one) for _, y in places.values())])
        axis.set_ylim(10 ** math.floor(math.log10(bottom)), 2 * level / one)
        axis.tick_params(which="both", colors=INK, labelsize=11)
        axis.grid(color=INK, alpha=0.15, lw=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(INK)
        alt = (
            f"{title}: a roof of {slope / 1e9:.3g} GB/s and {level / 1e12:.3g} trillion "
            f"operations/s, which meet at {ridge:.0f} operations per byte"
            + "".join(f"; {units}: {v / 1e12:.3g} trillion" for v, units in levels.items() if units)
            + f"; share of the roof that a step reaches: {', '.join(told)}"
        )
        panels.append((figure, alt))
    figure, axis = pyplot.subplots(figsize=(4.4, 0.3 * math.ceil(len(names) / 2) + 0.2))
    for k, name in enumerate(names):
        axis.plot([], [], _MARKS[k % 8], color=CYCLE[k % 6], ms=8, label=name)
    axis.set_axis_off()
    axis.legend(loc="center", ncols=2, frameon=False, labelcolor=INK, fontsize=11)
    panels.append((figure, "Key: " + ", ".join(names)))
    return Keyed(panels, 300, widest=420)
