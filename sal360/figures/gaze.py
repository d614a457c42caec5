"""Where people look: blobs by latitude, observers over a panorama, curves of what they tell."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.area import Keyed
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider
from sal360.projections import sample_erp, viewport_directions
from sal360.sphere import erp_directions, pixel_area, rotation_matrix, xyz_to_lonlat

_AROUND = 130  # pixels that slider, titles and margins take of a plot's height
_FOV = 70
_BAR = 10  # degrees: the bar that is the scale of a view
_TAIL = 10  # samples that a head leaves behind it


class _Fitted(Plot):
    """A plot whose height follows the width of the page, so that panoramas fill the column.

    Args:
        height: on a wide page. per_width: height of the drawing over the width of the page,
            where the page is narrow.
    """

    def __init__(self, figure: Any, alt: str, height: int, per_width: float) -> None:
        super().__init__(figure, alt, height)
        self._style = f"height:min({height}px,calc({_AROUND}px + {100 * per_width:.0f}vw))"

    def html(self) -> str:
        layout = self.figure.layout
        layout.height = None  # then the style decides
        try:
            page = super().html()
        finally:
            layout.height = self._height
        return page.replace(f"height:{self._height}px", self._style, 1)


def blob_views(density: Any, places: Mapping[str, tuple[float, float]]) -> Picture:
    """A map seen from the centre of the sphere, around each of some places.

    Colours go up to the largest value of each view; a bar of 10 degrees is the scale.

    Args:
        density: ``(H, W)``. places: title to (lon, lat) in degrees.
    """
    from matplotlib import pyplot

    value, panels = torch.as_tensor(density), []
    for name, at in places.items():
        view = _view(value, *at, 160)
        figure, axis = pyplot.subplots(figsize=(3, 3.3), layout="constrained")
        axis.imshow(view.numpy(), cmap="viridis", vmin=0, extent=(-1, 1, -1, 1))
        axis.plot((-_half_bar(), _half_bar()), (-0.85, -0.85), "w", lw=2)
        axis.text(0, -0.82, f"{_BAR}°", color="w", fontsize=12, ha="center", va="bottom")
        axis.set_axis_off()
        axis.set_title(name, color=INK, fontsize=14)
        wide, high = _spread(value, *at)
        told = f"{wide:.1f} degrees from west to east, {high:.1f} from south to north"
        panels.append((figure, f"View of the blob {name}, its width {told}"))
    return Picture(panels, 150)


def _spread(density: Tensor, lon: float, lat: float) -> tuple[float, float]:
    """Root mean square distance from a place along both axes, within its view, in degrees."""
    local = erp_directions(*density.shape) @ rotation_matrix(math.radians(lon), math.radians(lat))
    near = local[..., 2] > math.cos(math.radians(_FOV / 2))
    share = density.double() * pixel_area(*density.shape)[:, None] * near
    rms = ((share[..., None] * local**2).sum((0, 1)) / share.sum()).sqrt()
    wide, high, _ = torch.rad2deg(rms).tolist()
    return wide, high


def _half_bar() -> float:
    """Half of the bar in the middle of a view, whose half is 1."""
    return math.tan(math.radians(_BAR / 2)) / math.tan(math.radians(_FOV / 2))


def _half_width(profile: Tensor) -> float:
    return float((profile > profile.max() / 2).double().mean())


def _view(density: Tensor, lon: float, lat: float, size: int) -> Tensor:
    rays = viewport_directions(
        math.radians(lon), math.radians(lat), math.radians(_FOV), (size,) * 2
    )
    return sample_erp(density[None, None].double(), rays)[0, 0]


def blobs_by_latitude(
    maps: Mapping[str, Any], lats: Sequence[float], lon: float, start: int = 0
) -> Plot:
    """One fixation made a map in different ways; a slider moves it towards a pole.

    A row for each way: on the left the panorama, on the right the view of somebody who looks at
    the fixation, with a bar of 10 degrees. Colours go up to the largest value of each panel.

    Args:
        maps: two ways, name to ``(L, H, W)`` maps, one for each latitude.
        lats: ``L`` latitudes of the fixation, degrees. lon: its longitude, degrees.
        start: which latitude is shown first.
    """
    import plotly.graph_objects as go

    stacks = {name: torch.as_tensor(v).double() for name, v in maps.items()}
    if len(stacks) != 2 or any(len(v) != len(lats) for v in stacks.values()):
        raise ValueError(f"maps: {len(stacks)} ways, wanted 2 with {len(lats)} maps each")

    def traces(k: int) -> list[Any]:
        panels = []
        for n, stack in enumerate(stacks.values()):
            for m, value in enumerate((stack[k], _view(stack[k], lon, lats[k], 61))):
                axis = 2 * n + m + 1
                H, W = value.shape
                x0, y0, dx, dy = (-180 + 180 / W, 90 - 90 / H, 360 / W, -180 / H)
                if m:
                    x0, y0, dx, dy = -1 + 1 / W, 1 - 1 / H, 2 / W, -2 / H
                panels.append(
                    go.Heatmap(
                        z=_levels(value),
                        x0=x0,
                        dx=dx,
                        y0=y0,
                        dy=dy,
                        zmin=0,
                        zmax=255,
                        colorscale="Viridis",
                        showscale=False,
                        hoverinfo="skip",
                        xaxis=f"x{axis}",
                        yaxis=f"y{axis}",
                    )
                )
        return panels

    figure = go.Figure(traces(start))
    figure.frames = [
        go.Frame(data=traces(k), name=str(k), traces=[0, 1, 2, 3]) for k in range(len(lats))
    ]
    bare = {"visible": False, "fixedrange": True, "constrain": "domain", "range": [-1, 1]}
    halves = ([0.59, 0.94], [0.03, 0.38])
    for n, (name, domain) in enumerate(zip(stacks, halves, strict=True)):
        left, right = str(2 * n + 1).replace("1", ""), str(2 * n + 2)
        figure.update_layout(degree_axes("x" + left, "y" + left))
        figure.update_layout(
            {
                f"xaxis{left}": {"domain": [0.1, 0.68], "fixedrange": True, "showgrid": False},
                f"yaxis{left}": {"domain": domain, "fixedrange": True, "showgrid": False},
                f"xaxis{right}": {**bare, "domain": [0.73, 1], "anchor": f"y{right}"},
                f"yaxis{right}": {**bare, "domain": domain, "anchor": f"x{right}",
                                  "scaleanchor": f"x{right}"},
            }
        )  # fmt: skip
        figure.add_shape(type="line", xref=f"x{right}", yref=f"y{right}", x0=-_half_bar(),
                         x1=_half_bar(), y0=-0.85, y1=-0.85,
                         line={"color": "white", "width": 2})  # fmt: skip
        figure.add_annotation(text=f"{_BAR}°", xref=f"x{right}", yref=f"y{right}", x=0, y=-0.85,
                              yanchor="bottom", showarrow=False,
                              font={"size": 12, "color": "white"})  # fmt: skip
        figure.add_annotation(text=name, x=0.1, y=domain[1] + 0.03, showarrow=False, xref="paper",
                              yref="paper", xanchor="left", yanchor="bottom",
                              font={"size": 14, "color": INK})  # fmt: skip
    steps = [(f"a fixation at latitude {lat:.0f}°", str(k)) for k, lat in enumerate(lats)]
    slider(figure, steps, start)
    told = "; ".join(
        f"by {name} the blob covers {_wide(v[0]):.0f} degrees of longitude at latitude "
        f"{lats[0]:.0f} and {_wide(v[-1]):.0f} at {lats[-1]:.0f}"
        for name, v in stacks.items()
    )
    alt = (
        f"One fixation made a map in two ways, on the panorama and as seen by somebody who looks "
        f"at it; a slider moves it from latitude {lats[0]:.0f} to {lats[-1]:.0f} degrees: {told}"
    )
    return _Fitted(figure, alt, 700, per_width=0.74)


def _levels(value: Tensor) -> np.ndarray:
    """0 to 255, the largest value of the panel being 255: a twentieth of the size of numbers."""
    top = float(value.max())
    return (value / (top if top > 0 else 1) * 255).round().to(torch.uint8).numpy()


def _wide(density: Tensor) -> float:
    """Degrees of longitude in which a blob reaches half of its peak."""
    return _half_width(density.amax(0)) * 360


def observers(
    xyz: Any, t: Any, densities: Any, every: int, picture: Any = None, title: str = ""
) -> Plot:
    """Heads over the panorama as time goes on, and below the map of all that was seen so far.

    Args:
        xyz: ``(O, T, 3)`` directions of O heads. t: ``(T,)`` seconds.
        densities: ``(K, H, W)``, the map after ``every``, ``2 every``, ... samples.
        every: samples from one position of the slider to the next.
        picture: ``(h, w, 3)`` uint8 panorama behind the heads, or None.
        title: what is shown.
    """
    import plotly.graph_objects as go

    lon, lat = (np.degrees(v.numpy()) for v in xyz_to_lonlat(torch.as_tensor(xyz)))
    times, stack = np.asarray(t, float), torch.as_tensor(densities).double()
    H, W = stack.shape[-2:]
    ends = [(k + 1) * every - 1 for k in range(len(stack))]
    if ends[-1] >= len(times):
        raise ValueError(f"densities: {len(stack)} maps, wanted at most {len(times) // every}")

    def traces(k: int) -> list[Any]:
        now = ends[k]
        x, y = [], []
        for one in range(len(lon)):
            part = slice(max(0, now - _TAIL), now + 1)
            path = lon[one, part].copy(), lat[one, part].copy()
            torn = np.abs(np.diff(path[0], prepend=path[0][0])) > 180
            path[1][torn] = np.nan  # over the seam: no line across the picture
            x += [*path[0], np.nan]
            y += [*path[1], np.nan]
        return [
            go.Scatter(x=_short(x), y=_short(y), mode="lines", hoverinfo="skip",
                       line={"color": CYCLE[4], "width": 1.5}),
            go.Scatter(x=_short(lon[:, now]), y=_short(lat[:, now]), mode="markers",
                       hoverinfo="skip",
                       marker={"size": 6, "color": CYCLE[1],
                               "line": {"color": "white", "width": 1}}),
            go.Heatmap(z=_levels(stack[k]), x0=-180 + 180 / W, dx=360 / W, y0=90 - 90 / H,
                       dy=-180 / H, zmin=0, zmax=255, colorscale="Viridis", showscale=False,
                       hoverinfo="skip", xaxis="x2", yaxis="y2"),
        ]  # fmt: skip

    figure = go.Figure(traces(0))
    figure.frames = [
        go.Frame(data=traces(k), name=str(k), traces=[0, 1, 2]) for k in range(len(ends))
    ]
    figure.update_layout(showlegend=False, **degree_axes(), **degree_axes("x2", "y2"))
    figure.update_xaxes(fixedrange=True, domain=[0.1, 0.98])
    figure.update_yaxes(fixedrange=True)
    figure.update_layout(
        yaxis={"domain": [0.54, 1]},
        yaxis2={"domain": [0.0, 0.46], "showgrid": False},
        xaxis2={"showgrid": False},
    )
    if picture is not None:
        figure.update_layout(
            images=[{"source": _jpeg(picture), "xref": "x", "yref": "y", "x": -180, "y": 90,
                     "sizex": 360, "sizey": 180, "sizing": "stretch", "layer": "below"}]
        )  # fmt: skip
    slider(figure, [(f"after {times[e]:.1f} seconds", str(k)) for k, e in enumerate(ends)], 0)
    ahead = [float(np.mean(np.abs(lon[:, e]) < 45)) for e in (ends[0], ends[-1])]
    alt = (
        f"{title}: {len(lon)} heads over a panorama, and below it the density of where they "
        f"pointed so far; a slider runs from {times[ends[0]]:.1f} to {times[ends[-1]]:.1f} "
        f"seconds. Within 45 degrees of the front are {ahead[0]:.0%} of them at first, "
        f"{ahead[1]:.0%} at the end"
    )
    return _Fitted(figure, alt, 800, per_width=0.86)


def _jpeg(picture: Any) -> str:
    """A picture as a thumbnail, 480 wide, for the page."""
    import cv2

    small = cv2.resize(np.asarray(picture), (480, 240), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    if not done:
        raise ValueError("picture: cannot be written as JPEG")
    stream = io.BytesIO(data.tobytes()).getvalue()
    return "data:image/jpeg;base64," + base64.b64encode(stream).decode()


def _short(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32).round(1)


def gaze_curves(
    curves: Mapping[str, tuple[Any, Any]],
    x: str,
    y: str,
    lines: Mapping[str, float] | None = None,
    mark: str = "",
    log: str = "",
    use: float | None = None,
) -> Picture:
    """Curves with a key below, level lines to compare them with, the highest point marked.

    Args:
        curves: name to (x, y) values. x, y: labels of the axes, with units.
        lines: name to height of a level line.
        mark: name of the curve whose maximum is marked.
        log: axes that are logarithmic, such as ``"x"`` or ``"xy"``.
        use: a place of the marked curve to mark as well, such as the width in use.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.2, 3.7), layout="constrained")
    told = []
    for k, (name, curve) in enumerate(curves.items()):
        place, value = (np.asarray(v, float) for v in curve)
        dots = "o" if len(place) < 20 else ""
        axis.plot(place, value, color=CYCLE[k % 6], ls=("-", "--", "-.", ":")[k % 4], marker=dots,
                  ms=5, lw=2, label=name)  # fmt: skip
        told.append(f"{name} from {_number(value[0])} to {_number(value[-1])}")
        best = int(np.nanargmax(value))
        if name == mark:
            marked = {best: ("o", 14)}
            if use is not None:
                marked[int(np.argmin(np.abs(place - use)))] = ("s", 11)
            for at, (shape, size) in marked.items():
                axis.plot(place[at], value[at], shape, mfc="none", mec=CYCLE[k % 6], mew=2.5,
                          ms=size)  # fmt: skip
                axis.annotate(f"{place[at]:.3g}", (place[at], value[at]), color=CYCLE[k % 6],
                              xytext=(0, -26), textcoords="offset points", fontsize=13,
                              ha="center")  # fmt: skip
                word = "highest at" if at == best else "at"
                told[-1] += f", {word} {place[at]:.3g} with {value[at]:.3g}"
        elif value[best] > 1.02 * max(value[0], value[-1]):
            told[-1] += f", highest at {_number(place[best])} with {_number(value[best])}"
    for k, (name, height) in enumerate((lines or {}).items(), len(curves)):
        axis.axhline(height, color=CYCLE[k % 6], lw=1.8, ls=(0, (1, 1 + k % 3)), label=name)
        told.append(f"{name} at {_number(height)}")
    for letter in log:
        getattr(axis, f"set_{letter}scale")("log")
    if "x" in log:
        ticks = np.unique(np.concatenate([np.asarray(c[0], float) for c in curves.values()]))
        shown = ticks if len(ticks) < 9 else ticks[:: math.ceil(len(ticks) / 8)]
        axis.set_xticks(shown, [f"{v:g}" for v in shown])
        axis.minorticks_off()
    elif all((np.asarray(c[0], float) % 1 == 0).all() for c in curves.values()):
        axis.locator_params(axis="x", integer=True)  # no frame 2.5
    axis.set_xlabel(x, color=INK, fontsize=12)
    axis.set_ylabel(y, color=INK, fontsize=12)
    axis.tick_params(colors=INK, labelsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=11)
    return Keyed([(figure, f"Plot of {y} against {x}: {'; '.join(told)}")], widest=480)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
