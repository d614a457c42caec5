"""What a loss makes of a map: step by step, by latitude, and against another that was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.pictures import _axes, _degrees
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider

_AS_HIGH_AS_ITS_MAP = (0.56 / 360) / (0.27 / 1.6)
"""One degree of a curve over one unit of its ratio, so that on any width it ends with its map."""


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
                f"yaxis{left}": {
                    "domain": domain, "constraintoward": "top", "fixedrange": True,
                    "showgrid": False,
                    "ticktext": ["90° S", "45° S", "0°", "45° N", "90° N"],
                },
                f"xaxis{right}": {
                    "domain": [0.72, 0.99], "anchor": f"y{right}", "fixedrange": True,
                    "constrain": "domain", "constraintoward": "left",
                    "range": [0, 1.6], "tickvals": [0, 0.5, 1, 1.5], "color": INK,
                    "zeroline": False, "gridcolor": "rgba(128,128,128,0.25)",
                },
                f"yaxis{right}": {
                    "domain": domain, "anchor": f"x{right}", "fixedrange": True,
                    "constrain": "domain", "constraintoward": "top",
                    "scaleanchor": f"x{right}", "scaleratio": _AS_HIGH_AS_ITS_MAP,
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


def peaked_maps(values: Mapping[str, Any], unit: str = "/sr") -> Picture:
    """Maps in a row, each on its own colour scale and with its peak in the title.

    Three stand side by side on a page and below each other on a phone.

    Args:
        values: title to ``(H, W)`` map, 0 or more. unit: of the peak.
    """
    panels = []
    for name, value in values.items():
        array = torch.as_tensor(value).detach().double().cpu().numpy()
        peak = float(array.max())
        i, j = np.unravel_index(int(array.argmax()), array.shape)
        lon, lat = ((j + 0.5) / array.shape[1] - 0.5) * 360, (0.5 - (i + 0.5) / len(array)) * 180
        figure, axis = _axes(3.6)
        axis.imshow(array, extent=(-180, 180, -90, 90), vmin=0, vmax=peak, cmap="viridis")
        _degrees(axis, f"{name}: peak {peak:.3g} {unit}")
        axis.set(xlabel="", ylabel="")
        alt = f"Map of {name}: peak {peak:.3g} {unit} at longitude {lon:.0f}, latitude {lat:.0f}"
        panels.append((figure, f"{alt} degrees"))
    return Picture(panels, width=190)


def fit_errors(fits: Mapping[str, Any], truth: Any) -> Picture:
    """Two fits of one map: their errors by latitude, and which of them is nearer in each pixel.

    Args:
        fits: two names to ``(H, W)`` maps. truth: ``(H, W)``, what both were fitted to.
    """
    from matplotlib.colors import ListedColormap

    if len(fits) != 2:
        raise ValueError(f"fits: {len(fits)}, wanted 2")
    wanted = torch.as_tensor(truth).double()
    errors = [(torch.as_tensor(fit).double() - wanted).abs() for fit in fits.values()]
    H = len(wanted)
    lat = 90 - (np.arange(H) + 0.5) * 180 / H
    curves, axis = _axes(4.6)
    told = []
    for k, (name, error) in enumerate(zip(fits, errors, strict=True)):
        root = (error**2).mean(1).sqrt().numpy()
        axis.plot(root, lat, color=CYCLE[k], ls="-" if k else "--", lw=2, label=name)
        told.append(f"{name} {root[0]:.2g} in the top row, {root[H // 2]:.2g} at the equator")
    axis.set_box_aspect(0.5)
    axis.set_ylim(-90, 90)
    axis.set_yticks(range(-90, 91, 45))
    axis.set_xlim(0)
    axis.set_title("root mean square error (1/sr)", color=INK, fontsize=11)
    axis.set_ylabel("latitude (degrees)", color=INK)
    axis.tick_params(colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    axis.legend(frameon=False, labelcolor=INK)
    nearer = (errors[1] < errors[0]).numpy()
    shown, plane = _axes(4.6)
    plane.imshow(nearer, extent=(-180, 180, -90, 90), vmin=0, vmax=1, interpolation="nearest",
                 cmap=ListedColormap(CYCLE[:2]))  # fmt: skip
    first, second = fits
    _degrees(plane, f"nearer: {first} (blue), {second} (orange)")
    plane.set_xlabel("")
    won = " and ".join(
        f"within 30 degrees of {place} {nearer[rows].mean():.0%}"
        for place, rows in (("the equator", abs(lat) < 30), ("a pole", abs(lat) > 60))
    )
    return Picture(
        [
            (curves, f"Root mean square error by latitude: {'; '.join(told)}"),
            (shown, f"Map of the pixels where {second} is nearer to the truth: {won} of them"),
        ]
    )


def _by_row(maps: Tensor, truth: Tensor) -> Tensor:
    """``(K, H, W)`` to ``(K, H)``: means of rows over those of the truth, 1 at the equator."""
    ratio = maps.mean(-1) / truth.mean(-1)
    return ratio / _equator(ratio[..., None])[:, None]


def _equator(maps: Tensor) -> Tensor:
    """``(..., H, W)`` to ``(...)``: the mean of the middle row or the middle two."""
    H = maps.shape[-2]
    return maps[..., (H - 1) // 2 : H // 2 + 1, :].mean((-2, -1))
