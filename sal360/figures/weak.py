"""Learning from the film alone: maps in step under one slider, scores before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sal360.figures.gaze import _Fitted
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider

_GAP, _ROOM = 0.04, 0.05  # between panels, and for titles, as shares of the drawing


def in_step(
    panels: Mapping[str, Any],
    labels: Sequence[str],
    told: str,
    tops: Mapping[str, float] | None = None,
    columns: int = 2,
    start: int = 0,
) -> Plot:
    """Panoramas side by side, all moved by one slider; in a corner of each its darkest and
    brightest value.

    Args:
        panels: title to ``(K, H, W)``, one map for each position of the slider; the same for all.
        labels: ``K`` texts above the slider.
        told: alt text.
        tops: title to the value that is brightest; the panel's own largest if not given. Panels
            named here are viridis from 0, a top of 0 means a grey picture from 0 to 1.
        columns: side by side. start: which position is shown first.
    """
    import plotly.graph_objects as go

    stacks = {name: torch.as_tensor(v).detach().double() for name, v in panels.items()}
    if any(v.ndim != 3 or len(v) != len(labels) for v in stacks.values()):
        found = {name: tuple(v.shape) for name, v in stacks.items()}
        raise ValueError(f"panels: {found}, wanted ({len(labels)}, H, W) each")
    rows = -(-len(stacks) // columns)
    full = {name: (tops or {}).get(name, float(v.max())) for name, v in stacks.items()}

    def traces(k: int) -> list[Any]:
        drawn = []
        for n, (name, stack) in enumerate(stacks.items()):
            H, W = stack.shape[-2:]
            top = full[name] or 1.0
            drawn.append(
                go.Heatmap(
                    z=(stack[k] / max(top, 1e-12) * 255).round().clamp(0, 255).byte().numpy(),
                    x0=-180 + 180 / W, dx=360 / W, y0=90 - 90 / H, dy=-180 / H,
                    zmin=0, zmax=255, showscale=False, hoverinfo="skip",
                    colorscale="Viridis" if full[name] else "Greys_r",
                    xaxis=_axis("x", n), yaxis=_axis("y", n),
                )
            )  # fmt: skip
        return drawn

    figure = go.Figure(traces(start))
    figure.frames = [
        go.Frame(data=traces(k), name=str(k), traces=list(range(len(stacks))))
        for k in range(len(labels))
    ]
    left, wide = 0.09, (0.91 - _GAP * (columns - 1)) / columns
    high = (1 - _ROOM * rows) / rows
    for n, name in enumerate(stacks):
        row, column = divmod(n, columns)
        x, y = _axis("x", n), _axis("y", n)
        figure.update_layout(degree_axes(x, y))
        at = left + column * (wide + _GAP)
        base = 1 - (row + 1) * (high + _ROOM)
        lowest = n + columns >= len(stacks)
        figure.update_layout({
            x[0] + "axis" + x[1:]: {"domain": [at, at + wide], "fixedrange": True,
                                    "showgrid": False, "showticklabels": lowest},
            y[0] + "axis" + y[1:]: {"domain": [max(0.0, base), base + high], "fixedrange": True,
                                    "constraintoward": "top", "showgrid": False,
                                    "showticklabels": column == 0,
                                    "ticktext": ["90° S", "45° S", "0°", "45° N", "90° N"]},
        })  # fmt: skip
        figure.add_annotation(text=name, x=at, y=base + high, showarrow=False, xref="paper",
                              yref="paper", xanchor="left", yanchor="bottom",
                              font={"size": 13, "color": INK})  # fmt: skip
        top = full[name] or 1.0
        figure.add_annotation(text=f"0 to {top:.0f}" if top >= 10 else f"0 to {top:.2g}",
                              x=180, y=-90, xref=x, yref=y, xanchor="right", yanchor="bottom",
                              showarrow=False, bgcolor="rgba(255,255,255,.8)", borderpad=1,
                              font={"size": 10, "color": INK})  # fmt: skip
    slider(figure, [(label, str(k)) for k, label in enumerate(labels)], start)
    per_width = rows * (wide / 2 + 0.06)
    return _Fitted(figure, told, round(130 + 700 * per_width), per_width)


def before_after(
    rows: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    lines: Mapping[str, float],
    xlabel: str,
) -> Picture:
    """Scores before and after training, an arrow for each seed, beside what needs no training.

    Args:
        rows: name to the scores before and after, one for each seed. lines: name to a score.
        xlabel: what is scored.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.4, 1.3 + 0.5 * len(rows)), layout="constrained")
    told = []
    for k, (name, (before, after)) in enumerate(rows.items()):
        for n, (a, b) in enumerate(zip(before, after, strict=True)):
            y = -k + 0.28 * (0.5 - (n + 0.5) / len(before))
            colour = CYCLE[0] if b > a else CYCLE[1]
            axis.plot([a, b], [y, y], color=colour, lw=1.6)
            axis.plot(a, y, "o", mfc="none", mec=INK, ms=5)
            axis.plot(b, y, "o", color=colour, ms=5)
        told.append(f"{name} from {np.mean(before):.2f} to {np.mean(after):.2f}")
    for n, (name, value) in enumerate(lines.items()):
        axis.axvline(value, color=INK, lw=1.2, ls=("--", ":", "-.")[n % 3], label=name)
        told.append(f"{name} {value:.2f} without training")
    axis.set_yticks([-k for k in range(len(rows))], list(rows))
    axis.set_ylim(0.6 - len(rows), 0.6)
    axis.set_xlabel(xlabel, color=INK, fontsize=12)
    axis.tick_params(colors=INK, labelsize=12)
    axis.grid(axis="x", color=INK, alpha=0.18, lw=0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(INK)
    axis.legend(frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return Picture([(figure, f"{xlabel}, before (ring) and after (dot): {'; '.join(told)}")], 400)


def _axis(letter: str, n: int) -> str:
    """Plotly's name of the n-th axis: x, x2, x3."""
    return letter + (str(n + 1) if n else "")
