"""What a loss makes of a free map: the map step by step, and what is left of each latitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.show import CYCLE, INK, Plot, degree_axes, slider


def training_path(
    paths: Mapping[str, Any], truth: Any, steps: Sequence[int], start: int = 0
) -> Plot:
    """Two free maps in training, one row each: the map, and its ratio to the truth by latitude.

    A slider goes through the steps. Ratios are those of the means of rows, 1 at the equator,
    where maps have the brightness of the truth; dots mark 1 and the sine of colatitude.

    Args:
        paths: two losses, name to ``(K, H, W)`` maps at the steps.
        truth: ``(H, W)`` above 0. steps: ``K`` numbers of steps. start: which is shown first.
    """
    import plotly.graph_objects as go

    wanted = torch.as_tensor(truth).double()
    stacks = {name: torch.as_tensor(v).double() for name, v in paths.items()}
    if len(stacks) != 2 or any(len(v) != len(steps) for v in stacks.values()):
        raise ValueError(f"paths: {len(stacks)} losses, wanted 2 with {len(steps)} maps each")
    H, W = wanted.shape
    lat = 90 - (np.arange(H) + 0.5) * 180 / H
    ratios = {name: _by_row(v, wanted) for name, v in stacks.items()}
    top = float(wanted.max())

    def traces(k: int) -> list[Any]:
        found = []
        for n, name in enumerate(stacks):
            value = stacks[name][k]
            share = value / _equator(value) * _equator(wanted) / top
            found.append(
                go.Heatmap(
                    z=(share.clamp(0, 1) * 255).round().to(torch.uint8).numpy(),
                    x0=-180 + 180 / W,
                    dx=360 / W,
                    y0=90 - 90 / H,
                    dy=-180 / H,
                    zmin=0,
                    zmax=255,
                    colorscale="Viridis",
                    showscale=False,
                    hoverinfo="skip",
                    xaxis=f"x{2 * n + 1}",
                    yaxis=f"y{2 * n + 1}",
                )
            )
            found.append(
                go.Scatter(
                    x=ratios[name][k].numpy().round(3),
                    y=lat,
                    mode="lines",
                    line={"color": CYCLE[1 - n], "width": 2.5},
                    hovertemplate="latitude %{y:.0f}°: %{x:.2f}<extra></extra>",
                    xaxis=f"x{2 * n + 2}",
                    yaxis=f"y{2 * n + 2}",
                )
            )
        return found

    figure = go.Figure(traces(start))
    figure.frames = [
        go.Frame(data=traces(k), name=str(k), traces=[0, 1, 2, 3]) for k in range(len(steps))
    ]
    fine = np.linspace(-90, 90, 61)
    for n in range(2):
        for x in (np.cos(np.radians(fine)), np.ones(61)):
            figure.add_scatter(x=x, y=fine, mode="lines", hoverinfo="skip",
                               line={"color": INK, "width": 1, "dash": "dot"},
                               xaxis=f"x{2 * n + 2}", yaxis=f"y{2 * n + 2}")  # fmt: skip
    for n, (name, domain) in enumerate(zip(stacks, ([0.56, 0.94], [0.05, 0.43]), strict=True)):
        left, right = str(2 * n + 1).replace("1", ""), str(2 * n + 2)
        figure.update_layout(degree_axes("x" + left, "y" + left))
        figure.update_layout(
            {
                f"xaxis{left}": {
                    "domain": [0.1, 0.66], "constraintoward": "left", "fixedrange": True,
                    "showgrid": False,
                },
                f"yaxis{left}": {"domain": domain, "fixedrange": True, "showgrid": False},
                f"xaxis{right}": {
                    "domain": [0.72, 0.99], "anchor": f"y{right}", "fixedrange": True,
                    "range": [0, 1.6], "tickvals": [0, 0.5, 1, 1.5], "color": INK,
                    "zeroline": False, "gridcolor": "rgba(128,128,128,0.25)",
                },
                f"yaxis{right}": {
                    "domain": domain, "anchor": f"x{right}", "fixedrange": True,
                    "range": [-90, 90], "tickvals": [-90, -45, 0, 45, 90], "color": INK,
                    "showticklabels": False, "zeroline": False,
                    "gridcolor": "rgba(128,128,128,0.25)",
                },
            }
        )  # fmt: skip
        for text, at in ((name, 0.1), ("map / truth", 0.72)):
            figure.add_annotation(text=text, x=at, y=domain[1] + 0.01, showarrow=False,
                                  xref="paper", yref="paper", xanchor="left", yanchor="bottom",
                                  font={"size": 14, "color": INK})  # fmt: skip
    figure.update_layout(showlegend=False)
    slider(figure, [(f"after {step} steps", str(k)) for k, step in enumerate(steps)], start)
    told = "; ".join(
        f"by {name} the top row ends at {r[-1][0]:.2f} of the truth, and the row a quarter down "
        f"at {r[-1][H // 4]:.2f}"
        for name, r in ratios.items()
    )
    alt = (
        f"Two free maps in training, each on the panorama and as its ratio to the truth by "
        f"latitude, 1 at the equator; a slider goes from step {steps[0]} to {steps[-1]}: {told}"
    )
    return Plot(figure, alt, height=500)


def _by_row(maps: Tensor, truth: Tensor) -> Tensor:
    """``(K, H, W)`` to ``(K, H)``: means of rows over those of the truth, 1 at the equator."""
    ratio = maps.mean(-1) / truth.mean(-1)
    return ratio / _equator(ratio[..., None])[:, None]


def _equator(maps: Tensor) -> Tensor:
    """``(..., H, W)`` to ``(...)``: the mean of the middle row or the middle two."""
    H = maps.shape[-2]
    return maps[..., (H - 1) // 2 : H // 2 + 1, :].mean((-2, -1))
