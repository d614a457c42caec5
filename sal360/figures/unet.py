"""What one output pixel of a network depends on: on the panorama, and as seen from its centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sal360.figures.show import CYCLE, INK, Plot, degree_axes, slider
from sal360.projections import sample_erp
from sal360.sphere import erp_directions, rotation_matrix, xyz_to_lonlat

DECADES = 3
"""Powers of ten of the gradient that the colours span."""


def receptive_fields(
    fields: Mapping[str, Any], rows: Sequence[int], start: int = 0, reach: float = 45.0
) -> Plot:
    """How much each input pixel moves one output pixel, whose row a slider changes.

    Left the whole panorama, right the surroundings of the output pixel, where distances from it
    are degrees in every direction. Colours are the gradient over its largest value, by powers of
    ten; a cross marks the output pixel.

    Args:
        fields: network to ``(N, H, W)`` mean squared gradients, the output pixel in column
            ``W // 2`` of each of the rows. rows: ``N`` of them.
        start: position shown first. reach: of the surroundings, degrees.
    """
    import plotly.graph_objects as go

    stacks = {name: torch.as_tensor(v).detach().double() for name, v in fields.items()}
    if any(v.ndim != 3 or len(v) != len(rows) for v in stacks.values()):
        raise ValueError(f"fields: wanted (N, H, W) with one field for each of {len(rows)} rows")
    H, W = next(iter(stacks.values())).shape[1:]
    centre = erp_directions(H, W)[list(rows), W // 2]
    codes = {name: [_coded(v) for v in stack] for name, stack in stacks.items()}
    near = {
        name: [_around(v, at, reach) for v, at in zip(stack, centre, strict=True)]
        for name, stack in stacks.items()
    }
    lat = [(0.5 - (row + 0.5) / H) * 180 for row in rows]
    look = {"zmin": 0, "zmax": 255, "colorscale": "Viridis", "hoverinfo": "skip"}
    side = near[next(iter(near))][0].shape[0]
    bar = {
        "orientation": "h", "len": 0.8, "thickness": 9, "x": 0.5, "y": -0.045, "yanchor": "top",
        "tickvals": [255 * k / DECADES for k in range(DECADES + 1)],
        "ticktext": ["0.001 or less", "0.01", "0.1", "1"], "tickfont": {"size": 12},
        "title": {"text": "gradient (1 = largest)", "side": "top", "font": {"size": 12}},
    }  # fmt: skip

    def traces(k: int) -> list[Any]:
        made: list[Any] = []
        for n, name in enumerate(stacks):
            wide = codes[name][k]
            axes = [{"xaxis": f"x{m}", "yaxis": f"y{m}"} for m in (2 * n + 1, 2 * n + 2)]
            made.append(
                go.Heatmap(z=wide, x0=-180 + 180 / wide.shape[1], dx=360 / wide.shape[1],
                           y0=90 - 90 / wide.shape[0], dy=-180 / wide.shape[0],
                           showscale=n == 0, colorbar=bar, **axes[0], **look)
            )  # fmt: skip
            step = 2 * reach / (side - 1)
            made.append(
                go.Heatmap(z=near[name][k], x0=-reach, dx=step, y0=reach, dy=-step,
                           showscale=False, **axes[1], **look)
            )  # fmt: skip
            made.append(
                go.Scatter(x=[180 / W], y=[lat[k]], mode="markers", hoverinfo="skip", **axes[0],
                           marker={"symbol": "cross-thin", "size": 11,
                                   "line": {"color": CYCLE[1], "width": 2.5}})
            )  # fmt: skip
        return made

    figure = go.Figure(traces(start))
    moving = list(range(3 * len(stacks)))
    figure.frames = [go.Frame(data=traces(k), name=str(k), traces=moving) for k in range(len(rows))]
    share = 1 / len(stacks)
    for n, name in enumerate(stacks):
        wide, close = 2 * n + 1, 2 * n + 2
        top = 1 - n * share
        domain = [top - 0.88 * share, top - 0.1 * share]
        left = str(wide) if wide > 1 else ""
        figure.update_layout(degree_axes("x" + left, "y" + left))
        last = n == len(stacks) - 1
        plain = {"fixedrange": True, "constrain": "domain", "color": INK, "showgrid": False,
                 "zeroline": False, "tickfont": {"size": 11}}  # fmt: skip
        figure.update_layout(
            {
                f"xaxis{left}": {"domain": [0.1, 0.68], **plain, "showticklabels": last,
                                 "constraintoward": "right"},
                f"yaxis{left}": {"domain": domain, **plain, "tickvals": [-90, 0, 90],
                                 "ticktext": ["90° S", "0°", "90° N"]},
                f"xaxis{close}": {"domain": [0.72, 0.99], "anchor": f"y{close}", **plain,
                                  "constraintoward": "left",
                                  "range": [-reach, reach], "showticklabels": last,
                                  "tickvals": [-30, 0, 30], "ticktext": ["30° W", "0", "30° E"]},
                f"yaxis{close}": {"domain": domain, "anchor": f"x{close}", **plain,
                                  "range": [-reach, reach], "scaleanchor": f"x{close}",
                                  "tickvals": [-30, 30], "ticktext": ["30° S", "30° N"],
                                  "showticklabels": False},
            }
        )  # fmt: skip
        figure.add_annotation(text=name, x=0, y=1, xref=f"x{left} domain", yref=f"y{left} domain",
                              xanchor="left", yanchor="bottom", showarrow=False,
                              font={"size": 13, "color": INK})  # fmt: skip
    figure.update_layout(showlegend=False)
    slider(figure, [(f"output pixel at latitude {v:.0f}°", str(k)) for k, v in enumerate(lat)],
           start, top=96)  # fmt: skip
    told = "; ".join(
        f"{name} {_columns(stack[0])} columns at {lat[0]:.0f} and {_columns(stack[-1])} "
        f"at {lat[-1]:.0f} degrees"
        for name, stack in stacks.items()
    )
    alt = (
        f"How much each input pixel moves one output pixel, on the panorama and around the pixel, "
        f"for {len(stacks)} networks and latitudes {lat[0]:.0f} to {lat[-1]:.0f} degrees; more "
        f"than a thousandth of the largest gradient reach: {told}"
    )
    return Plot(figure, alt, height=150 + 148 * len(stacks))


def _levels(energy: Tensor) -> Tensor:
    """Squared gradients to 0..255: decades of the gradient below the largest."""
    share = (energy / energy.max().clamp_min(1e-30)).clamp_min(10.0 ** (-2 * DECADES))
    return 255 * (1 + share.log10() / (2 * DECADES))


def _coded(energy: Tensor) -> np.ndarray:
    """Bytes, of the strongest of two by two pixels: nothing thin is lost."""
    small = F.max_pool2d(energy[None, None], 2, ceil_mode=True)[0, 0]
    return _levels(small).round().to(torch.uint8).numpy()


def _around(energy: Tensor, centre: Tensor, reach: float, side: int = 33) -> np.ndarray:
    """The same on a grid of degrees east and north of a direction (azimuthal equidistant)."""
    place = torch.linspace(-reach, reach, side, dtype=torch.float64)
    east, north = torch.meshgrid(place, -place, indexing="xy")
    far = torch.hypot(east, north)
    along = torch.sin(torch.deg2rad(far)) / far.clamp_min(1e-9)
    there = torch.stack((east * along, -north * along, torch.cos(torch.deg2rad(far))), -1)
    lon, lat = xyz_to_lonlat(centre)
    seen = sample_erp(energy[None, None], there @ rotation_matrix(lon, lat).T)[0, 0]
    scaled = torch.where(seen > 0, seen, torch.zeros_like(seen)) / energy.max().clamp_min(1e-30)
    levels = 255 * (1 + scaled.clamp_min(10.0 ** (-2 * DECADES)).log10() / (2 * DECADES))
    return levels.clamp(0, 255).round().to(torch.uint8).numpy()


def _columns(energy: Tensor) -> int:
    strong = energy > energy.max() * 10.0 ** (-2 * DECADES)
    return int(strong.any(0).sum())
