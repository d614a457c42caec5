"""What a row of pixels is worth: bands on panorama and sphere, weights, points, error curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.globe import drawn, scene
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider
from sal360.sphere import lonlat_to_xyz, pixel_area

Curve = tuple[Sequence[float], Sequence[float]]
"""Sizes and errors of one method."""

_GREY, _LINE = "#c3cad3", "#6d7682"


class Keyed(Picture):
    """Panels side by side, the last one being the key to all, no wider than it has to be.

    Args:
        widest: largest width of the last panel on the page, pixels.
        across: the last panel stands centred below all others; else in the next free place.
    """

    def __init__(
        self,
        panels: list[tuple[Any, str]],
        width: int = 300,
        widest: int = 400,
        across: bool = True,
    ) -> None:
        super().__init__(panels, width)
        place = "grid-column:1/-1;justify-self:center" if across else "place-self:center"
        self._place = f"max-width:{widest}px;{place}"

    def _repr_html_(self) -> str:
        plain = 'style="width:100%;height:auto"'
        before, _, after = super()._repr_html_().rpartition(plain)
        return f'{before}{plain[:-1]};{self._place}"{after}'


def area_figure(H: int = 18, start: int = 1) -> Plot:
    """The rows near the poles, marked on the panorama and on the sphere; a slider moves the edge.

    The sphere is drawn twice, from above and from below, so that both caps show. The label
    compares their share of the pixels with their share of the area.

    Args:
        H: rows of the panorama, even; it has ``2 H`` columns. start: rows marked at each pole
            when the page opens.
    """
    import plotly.graph_objects as go

    share = 2 * np.cumsum(pixel_area(H, 2 * H).numpy() * 2 * H) / (4 * np.pi)
    edge = 90 - 180 / H * np.arange(H // 2 + 1)  # latitude below the k-th row

    def named(k: int) -> str:
        return f"{edge[k]:.0f}\u00b0: {200 * k / H:.1f} % of pixels, " \
               f"{100 * share[k - 1]:.1f} % of area"  # fmt: skip

    def marked(k: int) -> list[Any]:
        north, south = ([side * edge[k], side * 90.0] for side in (1, -1))
        x, y = [], []
        for low, high in (north, south):
            x += [-180, 180, 180, -180, -180, None]
            y += [low, low, high, high, low, None]
        rows = go.Scatter(
            x=x, y=y, fill="toself", mode="lines", line={"width": 0}, fillcolor=CYCLE[4],
            hoverinfo="skip", opacity=0.75,
        )  # fmt: skip
        return [rows, ball(edge[k] / 90, "scene"), ball(edge[k] / 90, "scene2")]

    turn, rise = np.linspace(-np.pi, np.pi, 49), np.linspace(-np.pi / 2, np.pi / 2, 4 * H + 1)
    bx, by, bz = drawn(lonlat_to_xyz(turn, rise[:, None]).numpy() * 0.99)
    height = np.broadcast_to(np.degrees(np.abs(rise))[:, None], bx.shape)

    def ball(cut: float, scene: str) -> Any:
        colours = [[0, _GREY], [cut, _GREY], [cut, CYCLE[4]], [1, CYCLE[4]]]
        return go.Surface(
            x=_short(bx), y=_short(by), z=_short(bz), surfacecolor=_short(height), cmin=0, cmax=90,
            colorscale=colours if cut > 0 else [[0, CYCLE[4]], [1, CYCLE[4]]], showscale=False,
            hoverinfo="skip", contours={axis: {"highlight": False} for axis in "xyz"},
            lighting={"ambient": 0.95, "diffuse": 0.1, "specular": 0.0}, scene=scene,
        )  # fmt: skip

    lons, lats = np.arange(-180, 181, 180 / H), np.linspace(-90, 90, H + 1)
    grid = [np.array([[lon, -90], [lon, 90], [np.nan, np.nan]]) for lon in lons]
    grid += [np.array([[-180, lat], [180, lat], [np.nan, np.nan]]) for lat in lats]
    flat = np.concatenate(grid)
    pixels = go.Scatter(
        x=_short(flat[:, 0]), y=_short(flat[:, 1]), mode="lines", hoverinfo="skip",
        line={"color": _LINE, "width": 0.7},
    )  # fmt: skip
    nets = [
        _net(lons[:-1], lats[1:-1], edge[1]).update(scene=scene) for scene in ("scene", "scene2")
    ]
    figure = go.Figure(data=[*marked(start), pixels, *nets])
    steps = range(1, H // 2 + 1)
    figure.frames = [
        go.Frame(data=[rows, *({"type": "surface", "colorscale": cap.colorscale, "scene": cap.scene}
                               for cap in caps)], name=str(k), traces=[0, 1, 2])
        for k in steps
        for rows, *caps in [marked(k)]
    ]  # fmt: skip
    title = {
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "y": 1.0,
        "xanchor": "center",
        "yanchor": "bottom",
    }
    figure.update_layout(
        showlegend=False,
        scene={**_scene(0.85, (1.05, 0.42, 1.2)), "domain": {"x": [0, 0.5], "y": [0.52, 1]}},
        scene2={**_scene(0.85, (1.05, 0.42, -1.2)), "domain": {"x": [0.5, 1], "y": [0.52, 1]}},
        annotations=[{"text": f"from {where}", "x": x, **title}
                     for where, x in (("above", 0.25), ("below", 0.75))],
        **degree_axes(),
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, fixedrange=True, domain=[0.12, 0.96])
    figure.update_yaxes(showgrid=False, fixedrange=True, domain=[0, 0.46])
    for axes in (figure.update_xaxes, figure.update_yaxes):  # labels clear of the frame
        axes(ticks="outside", ticklen=6, tickcolor="rgba(0,0,0,0)")
    slider(figure, [(f"beyond {named(k)}", str(k)) for k in steps], start - 1)
    alt = (
        f"A panorama of {H} x {2 * H} pixels, and the same pixels on a sphere seen from above and "
        f"from below. A slider marks the "
        f"rows beyond a latitude, north and south, now {named(start)}"
    )
    return Plot(figure, alt, height=500)


def points_figure(sets: Mapping[str, Any]) -> Picture:
    """Sets of directions, each on a sphere of its own, seen without perspective from 50 degrees up.

    Args:
        sets: name to ``(N, 3)`` unit vectors.
    """
    from matplotlib import pyplot

    lons, lats = np.arange(-180, 180, 30), np.arange(-60, 61, 30)
    turn, rise = np.linspace(-np.pi, np.pi, 181), np.linspace(-np.pi / 2, np.pi / 2, 91)
    net = [lonlat_to_xyz(np.radians(lon), rise).numpy() for lon in lons]
    net += [lonlat_to_xyz(turn, np.radians(lat)).numpy() for lat in lats]
    drawn = []
    for name, points in sets.items():
        cloud = np.asarray(points, dtype=float)
        figure, axis = pyplot.subplots(figsize=(3.2, 3.5), layout="constrained")
        axis.add_patch(pyplot.Circle((0, 0), 1, fc="none", ec=INK, lw=1))
        for line in net:
            x, y, depth = _seen(line)
            axis.plot(np.where(depth > 0, x, np.nan), y, color=INK, lw=0.6, alpha=0.5)
        x, y, depth = _seen(cloud)
        axis.plot(x[depth > 0], y[depth > 0], ".", color=CYCLE[1], ms=4.5, mew=0)
        axis.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), aspect="equal")
        axis.set_axis_off()
        axis.set_title(name, color=INK, fontsize=13)
        alt = (
            f"{len(cloud)} points on a sphere, {name}: {_near_poles(cloud):.0%} of them within "
            f"30 degrees of a pole, where 13.4 % of the area is"
        )
        drawn.append((figure, alt))
    return Picture(drawn, width=200)


def weight_maps(weights: Mapping[str, Any], unit: str = "area of a pixel (msr)") -> Picture:
    """Weights of the pixels as maps on one scale; the last panel, below, is their colour bar.

    Args:
        weights: title to ``(H, W)``. unit: what the colours mean.
    """
    from matplotlib import cm, colors, pyplot

    arrays = {name: np.asarray(w, dtype=float) for name, w in weights.items()}
    top = max(float(w.max()) for w in arrays.values())
    drawn = []
    for name, w in arrays.items():
        figure, axis = pyplot.subplots(figsize=(3.2, 2.0), layout="constrained")
        axis.imshow(w, extent=(-180, 180, -90, 90), vmin=0, vmax=top, cmap="viridis")
        axis.set_title(name, color=INK, fontsize=12)
        axis.set_xticks([-90, 0, 90], ["90\u00b0 W", "0\u00b0", "90\u00b0 E"])
        axis.set_yticks([-45, 0, 45], ["45\u00b0 S", "0\u00b0", "45\u00b0 N"])
        axis.tick_params(colors=INK, labelsize=11)
        for spine in axis.spines.values():
            spine.set_color(INK)
        drawn.append((figure, f"Map of {name}: {_where_largest(w)}, up to {w.max():.2f} {unit}"))
    figure, axis = pyplot.subplots(figsize=(4.6, 0.85), layout="constrained")
    scale = cm.ScalarMappable(colors.Normalize(0, top), "viridis")
    bar = figure.colorbar(scale, cax=axis, orientation="horizontal")
    bar.set_label(unit, color=INK, fontsize=11)
    bar.ax.tick_params(colors=INK, labelsize=11)
    bar.outline.set_visible(False)
    drawn.append((figure, f"Colour bar of the maps: 0 to {top:.2f} {unit}"))
    return Keyed(drawn, 220)


def convergence(
    panels: Mapping[str, Mapping[str, Curve]],
    x: str = "rows H",
    y: str = "relative error",
    slopes: Sequence[float] = (),
) -> Picture:
    """Error against size, both logarithmic: a straight line is a power of the size.

    A curve that is rounding only (all below 1e-13) is named and not drawn, and one that lies on
    another says so, at the bottom of its panel. One legend serves all panels.

    Args:
        panels: title to name to (sizes, errors); errors that are not positive are left out.
        x, y: labels of the axes, with units. slopes: thin lines to compare with, such as -2.
    """
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    styles: dict[str, dict[str, Any]] = {
        name: {"color": CYCLE[k % len(CYCLE)], "marker": "osD^v*"[k % 6], "ms": 6, "lw": 2,
               "ls": ("-", "--", ":", "-.")[k % 4]}
        for k, name in enumerate(names)
    }  # fmt: skip
    drawn = []
    for title, curves in panels.items():
        figure, axis = pyplot.subplots(figsize=(4.2, 3.6), layout="constrained")
        told, notes, used = [], [], []
        for name, (sizes, errors) in curves.items():
            size, error = np.asarray(sizes, float), np.asarray(errors, float)
            used += [*size]
            if error.max() < 1e-13:
                below = 10.0 ** np.ceil(np.log10(error.max())) if error.max() > 0 else 0
                limit = f"below {below:.0e}" if below else "0"
                notes.append(f"{name}: {limit}, not drawn")
                told.append(f"{name}, not drawn: {limit}")
                continue
            size, error = size[error > 0], error[error > 0]
            other = _same(name, curves)
            axis.loglog(size, error, **styles[name])
            notes += [f"{name}: the same as {other}"] if other else []
            place = f"{name}, on {other}," if other else name
            told.append(f"{place} from {error[0]:.1e} at {size[0]:g} to {error[-1]:.1e} at "
                        f"{size[-1]:g}")  # fmt: skip
        _references(axis, slopes)
        marks = sorted(set(used))
        every = -(-len(marks) // 5)  # labels that do not touch, the last size among them
        told_of = set(marks[::-1][::every])
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(marks))
        axis.set_xticklabels([f"{mark:g}" if mark in told_of else "" for mark in marks])
        axis.xaxis.set_minor_locator(NullLocator())
        low, high = axis.get_ylim()
        wide = np.log10(high / low) > 1.5
        axis.yaxis.set_major_locator(LogLocator(10, (1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(low * (low / high) ** (0.1 * len(notes)), high)  # room for the notes
        axis.text(0.03, 0.03, "\n".join(notes), color=INK, fontsize=11, transform=axis.transAxes)
        axis.set_title(title, color=INK, fontsize=13)
        axis.set_xlabel(x, color=INK, fontsize=12)
        axis.set_ylabel(y, color=INK, fontsize=12)
        axis.tick_params(colors=INK, which="both", labelsize=11)
        axis.grid(color=INK, alpha=0.18, lw=0.5)
        for spine in axis.spines.values():
            spine.set_color(INK)
        drawn.append((figure, f"Logarithmic plot of {y}, {title}: {'; '.join(told)}"))
    beside = len(panels) % 2 == 1  # two in a row leave a free place
    shown = [name for name in names if any(name in c and max(c[name][1]) >= 1e-13
                                           for c in panels.values())]  # fmt: skip
    columns = 1 if beside else min(len(shown), 3)
    lines = -(-len(shown) // max(columns, 1))
    figure = pyplot.figure(figsize=(3.2 if beside else 4.2, 0.15 + 0.3 * max(lines, 1)))
    figure.legend(
        [pyplot.Line2D([], [], **styles[name]) for name in shown], shown, loc="center",
        ncols=max(columns, 1), frameon=False, labelcolor=INK, fontsize=12, handlelength=2.6,
    )  # fmt: skip
    drawn.append((figure, f"Legend of the plots: {', '.join(shown)}"))
    return Keyed(drawn, widest=280 if beside else 366, across=not beside)


def _references(axis: Any, slopes: Sequence[float]) -> None:
    """Thin lines of given slopes that leave one point at the lower left, named at their ends."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    start, far = (left * (right / left) ** place for place in (0.05, 0.3))
    top = low * (high / low) ** 0.3
    for slope in slopes:
        end = top * (far / start) ** slope
        axis.plot([start, far], [top, end], color=INK, lw=0.9)
        axis.annotate(f"slope {slope:g}".replace("-", "\u2212"), (far, end), xytext=(3, -4),
                      textcoords="offset points", color=INK, fontsize=11)  # fmt: skip
    axis.set(xlim=(left, right), ylim=(low, high))


def _same(name: str, curves: Mapping[str, Curve]) -> str:
    """The earlier curve that this one lies on, within a per cent, if there is one."""
    mine = np.asarray(curves[name][1], float)
    for other, (_, errors) in curves.items():
        if other == name:
            return ""
        theirs = np.asarray(errors, float)
        if len(theirs) == len(mine) and bool((np.abs(theirs - mine) <= 0.01 * mine).all()):
            return other
    return ""


def _where_largest(weight: np.ndarray) -> str:
    rows, cols = weight.mean(1), weight.mean(0)
    if np.ptp(cols) > np.ptp(rows):
        lon = ((cols.argmax() + 0.5) / len(cols) - 0.5) * 360
        return (
            "largest in the middle columns" if abs(lon) < 10 else f"largest at longitude {lon:.0f}"
        )
    lat = abs((0.5 - (rows.argmax() + 0.5) / len(rows)) * 180)
    at = "the equator" if lat < 10 else "the poles" if lat > 80 else f"latitude {lat:.0f}"
    return f"largest at {at}"


def _seen(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, up and towards the eye, for an eye far away, 50 degrees above the horizon."""
    x, y, z = drawn(xyz)
    tilt = np.radians(50)
    return -y, z * np.cos(tilt) - x * np.sin(tilt), x * np.cos(tilt) + z * np.sin(tilt)


def _short(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)  # half the bytes on the page


def _net(lons: np.ndarray, lats: np.ndarray, reach: float) -> Any:
    """Meridians (up to latitudes +-reach) and parallels, degrees: one trace on the unit sphere."""
    import plotly.graph_objects as go

    turn, rise = np.linspace(-np.pi, np.pi, 73), np.radians(reach) * np.linspace(-1, 1, 37)
    lines = [lonlat_to_xyz(np.radians(lon), rise).numpy() for lon in lons]
    lines += [lonlat_to_xyz(turn, np.radians(lat)).numpy() for lat in lats]
    gap = np.full((1, 3), np.nan)
    x, y, z = drawn(np.concatenate([part for line in lines for part in (line, gap)]))
    return go.Scatter3d(
        x=_short(x), y=_short(y), z=_short(z), mode="lines", connectgaps=False, hoverinfo="skip",
        line={"color": _LINE, "width": 1.5},
    )  # fmt: skip


def _scene(far: float, eye: tuple[float, float, float] = (1.35, 0.6, 0.75)) -> dict[str, Any]:
    return scene(dict(zip("xyz", (v * far for v in eye), strict=True)), reach=1.02)


def _near_poles(xyz: np.ndarray) -> float:
    return float((np.abs(xyz[:, 1]) > np.sin(np.radians(60))).mean())
