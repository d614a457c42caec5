"""Rotate and convolve, in both orders: chapter 06's diagram, its errors, how the north turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.area import Keyed
from sal360.figures.pictures import _cpu
from sal360.figures.show import CYCLE, INK, Picture, Plot, slider

Both = tuple[Any, Any, Sequence[float]]
"""Rotate then convolve ``(N, H, W)``, convolve then rotate ``(N, H, W)``, relative errors (N)."""
TOP, GAP, ROWS = 0.96, 0.06, ("rotated picture", "rotate, then convolve", "convolve, then rotate")


def commuting(
    angles: Sequence[float],
    pictures: Any,
    answers: Mapping[str, Both],
    start: int | None = None,
    lowest: float = -90.0,
) -> Plot:
    """A picture tilted, filtered in both orders, and what is left between them; with a slider.

    Args:
        angles: degrees, the slider's positions.
        pictures: ``(N, H, W)`` the rotated pictures, values in [0, 1].
        answers: name of a filter to its answers in both orders and their relative difference.
            All share one colour scale, the differences too. One or two filters.
        start: index of the angle shown first; the last but three unless given.
        lowest: latitude (degrees) of the maps' lower edge: leave out where nothing happens.
    """
    import plotly.graph_objects as go

    if not 1 <= len(answers) <= 2:
        raise ValueError(f"answers: {len(answers)} filters, wanted one or two")
    shown = np.asarray(_cpu(pictures), float)
    pairs = {
        name: (np.asarray(_cpu(a), float), np.asarray(_cpu(b), float))
        for name, (a, b, _) in answers.items()
    }
    for name, (a, b) in pairs.items():
        if not (a.shape == b.shape == shown.shape and len(a) == len(angles)):
            raise ValueError(f"answers: {name} has shape {a.shape}, wanted {shown.shape}")
    top = max(float(np.abs(v).max()) for pair in pairs.values() for v in pair)
    if not top > 0:
        raise ValueError("answers: all zero, wanted something to see")

    def coded(values: np.ndarray) -> np.ndarray:  # a byte a pixel keeps the page light
        return np.round(values / top * 127).clip(-127, 127).astype(np.int8)

    H, W = shown.shape[1:]
    if not -90 <= lowest < 90:
        raise ValueError(f"lowest: {lowest}, wanted a latitude from -90 to below 90 degrees")
    kept = int(np.ceil((90 - lowest) / 180 * H))
    shown = shown[:, :kept]
    pairs = {name: (a[:, :kept], b[:, :kept]) for name, (a, b) in pairs.items()}
    lon, lat = ((np.arange(W) + 0.5) / W - 0.5) * 360, (0.5 - (np.arange(H) + 0.5) / H) * 180
    where = {"x0": lon[0], "dx": 360 / W, "y0": lat[0], "dy": -180 / H, "hoverinfo": "skip"}
    bar = {
        "orientation": "h", "len": 0.7, "thickness": 9, "x": 0.5, "y": -0.045, "yanchor": "top",
        "tickvals": [-127, 0, 127], "ticktext": [f"{-top:.2g}", "0", f"{top:.2g}"],
        "tickfont": {"size": 12}, "title": {"text": "answer and difference", "side": "top"},
    }  # fmt: skip

    def traces(k: int) -> list[Any]:
        made = [
            go.Heatmap(z=(shown[k].clip(0, 1) * 255).astype(np.uint8), zmin=0, zmax=255,
                       colorscale="Greys_r", showscale=False, **where)
        ]  # fmt: skip
        for n, (a, b) in enumerate(pairs.values()):
            for m, values in enumerate((a[k], b[k], a[k] - b[k])):
                axis = str(2 + 3 * n + m)
                made.append(
                    go.Heatmap(
                        z=coded(values), zmin=-127, zmax=127, colorscale="RdBu_r",
                        showscale=n == m == 0, colorbar=bar, xaxis="x" + axis, yaxis="y" + axis,
                        **where,
                    )
                )  # fmt: skip
        return made

    def label(k: int) -> str:
        off = ", ".join(f"{name} {errors[k]:.2f}" for name, (_, _, errors) in answers.items())
        return f"tilt {angles[k]:.0f}°, off by: {off}"

    start = max(0, len(angles) - 4) if start is None else start
    figure = go.Figure(traces(start))
    figure.frames = [
        go.Frame(data=traces(k), name=str(k), traces=list(range(1 + 3 * len(pairs))))
        for k in range(len(angles))
    ]
    height = TOP / 4
    spots = [((0.25, 0.75), 0)]
    for n in range(len(pairs)):
        left = (0.0, 0.51)[n] if len(pairs) == 2 else 0.25
        spots += [((left, left + (0.49 if len(pairs) == 2 else 0.5)), m) for m in (1, 2, 3)]
    layout: dict[str, Any] = {}
    for k, (across, row) in enumerate(spots):
        number = "" if k == 0 else str(k + 1)
        high = TOP - row * height
        west = across[0] == min(low for (low, _), at in spots if at == row)
        layout |= _axes(number, across, (high - height + GAP, high), (row == 3, west), lowest)
    titles = [*ROWS, "difference of the two"]
    notes = [
        {"text": title, "x": 0.5, "y": TOP - row * height, "yanchor": "bottom"}
        for row, title in enumerate(titles)
    ]
    if len(pairs) == 2:
        notes += [
            {"text": f"<b>{name}</b>", "x": (0.0, 1.0)[n], "y": TOP - row * height,
             "yanchor": "bottom", "xanchor": ("left", "right")[n]}
            for n, name in enumerate(pairs)
            for row in (1, 2, 3)
        ]  # fmt: skip
    common = {"xref": "paper", "yref": "paper", "showarrow": False,
              "font": {"color": INK, "size": 13}}  # fmt: skip
    figure.update_layout(**layout, annotations=[{**common, **note} for note in notes])
    slider(figure, [(label(k), str(k)) for k in range(len(angles))], start, top=96)
    told = "; ".join(
        f"{name} off by {errors[0]:.2g} at {angles[0]:.0f} degrees and "
        f"{errors[-1]:.2g} at {angles[-1]:.0f}, most {max(errors):.2g}"
        for name, (_, _, errors) in answers.items()
    )
    alt = (
        "A panorama tilted by a slider, filtered after and before the rotation, and the "
        f"difference of both answers. Relative differences: {told}"
    )
    return Plot(figure, alt, height=720)


def _axes(
    number: str,
    across: tuple[float, float],
    along: tuple[float, float],
    labels: tuple[bool, bool],
    lowest: float,
) -> dict[str, Any]:
    # The maps fill their panels on any width: to scale, they would be small on a phone.
    common = {"zeroline": False, "showgrid": False, "color": INK, "tickfont": {"size": 12}}
    return {
        "xaxis" + number: {**common, "domain": across, "range": [-180, 180],
                           "anchor": "y" + number, "tickvals": [-90, 0, 90],
                           "ticktext": ["90° W", "0°", "90° E"], "showticklabels": labels[0]},
        "yaxis" + number: {**common, "domain": along, "range": [lowest, 90], "anchor": "x" + number,
                           "tickvals": [-90, -45, 0, 45, 90], "showticklabels": labels[1],
                           "ticktext": ["90° S", "45° S", "0°", "45° N", "90° N"]},
    }  # fmt: skip


def error_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str = "relative error",
    ticks: Sequence[float] | None = None,
    doubling: bool = False,
) -> Picture:
    """Errors on a logarithmic axis, against an angle or a latitude.

    Args:
        curves: name to (places, errors above 0).
        x, y: labels of the axes, with units.
        ticks: places to mark on the x axis. doubling: that axis is logarithmic too.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.8, 3.9), layout="constrained")
    told = []
    for k, (name, (places, errors)) in enumerate(curves.items()):
        place, error = np.asarray(places, float), np.asarray(errors, float)
        if not (error > 0).all():
            raise ValueError(f"curves: {name} holds errors of 0 or below, wanted above 0")
        style = {"ls": ("-", "--", "-.", ":")[k % 4], "marker": "osD^v"[k % 5] if doubling else ""}
        axis.semilogy(
            place, error, color=CYCLE[k % len(CYCLE)], lw=2.2, ms=5, label=name, **style
        )  # fmt: skip
        worst = int(error.argmax())
        told.append(f"{name} from {error.min():.2g} to {error[worst]:.2g} (at {place[worst]:.0f})")
    if doubling:
        axis.set_xscale("log")
    if ticks is not None:
        axis.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axis.set_xlabel(x, color=INK, fontsize=12)
    axis.set_ylabel(y, color=INK, fontsize=12)
    axis.tick_params(colors=INK, labelsize=11, which="both")
    axis.grid(alpha=0.25, color=INK)
    for spine in axis.spines.values():
        spine.set_color(INK)
    columns = 2 if len(curves) > 2 else len(curves)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK,
                  fontsize=11)  # fmt: skip
    alt = f"Logarithmic plot of {y} against {x}: {'; '.join(told)}"
    return Keyed([(figure, alt)], widest=460)


def turn_maps(
    turns: Mapping[str, Any], unit: str = "turn of the local north, either way (degrees)"
) -> Picture:
    """How far something is turned at every pixel, regardless of the side; one key below all.

    Args:
        turns: title to ``(H, W)`` degrees, -180 to 180.
        unit: what the colours mean.
    """
    from matplotlib import pyplot
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    norm = Normalize(0, 180)
    scale = ScalarMappable(norm, "viridis")
    panels = []
    for name, values in turns.items():
        turn = np.abs(np.asarray(_cpu(values), float))
        if turn.ndim != 2 or not (turn <= 180).all():
            raise ValueError(f"turns: {name}, wanted (H, W) degrees from -180 to 180")
        figure, axis = pyplot.subplots(figsize=(3.9, 2.4), layout="constrained")
        axis.imshow(turn, extent=(-180, 180, -90, 90), norm=norm, cmap="viridis")
        axis.set_title(name, color=INK, fontsize=13)
        axis.set_xticks(range(-180, 181, 90))
        axis.set_yticks(range(-90, 91, 45))
        axis.set_xlabel("longitude (degrees)", color=INK, fontsize=11)
        axis.set_ylabel("latitude (degrees)", color=INK, fontsize=11)
        axis.tick_params(colors=INK, labelsize=11)
        for spine in axis.spines.values():
            spine.set_color(INK)
        told = f"median {np.median(turn):.0f}, largest {turn.max():.0f}"
        panels.append((figure, f"Map of {name}: {unit}, {told}"))
    figure, axis = pyplot.subplots(figsize=(4.2, 0.75), layout="constrained")
    bar = figure.colorbar(scale, cax=axis, orientation="horizontal", ticks=range(0, 181, 45))
    bar.set_label(unit, color=INK, fontsize=12)
    bar.ax.tick_params(colors=INK, labelsize=11)
    bar.outline.set_visible(False)
    panels.append((figure, f"Colours: {unit}, from 0 to 180"))
    return Keyed(panels)
