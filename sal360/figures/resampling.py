"""Reading between pixels: error maps on one scale, the four pixels of a read, responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.area import Keyed
from sal360.figures.pictures import _axes, _cpu, read_rgb
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider
from sal360.resampling import erp_table
from sal360.sphere import lonlat_to_xyz

Curve = tuple[Sequence[float], Sequence[float]]
"""Places on the x axis and values of one method."""


def error_maps(
    errors: Mapping[str, Any],
    unit: str = "absolute error",
    low: float = 1e-4,
    high: float | None = None,
    signed: bool = False,
    lats: tuple[float, float] = (-90, 90),
) -> Picture:
    """Differences of panoramas, a panel each; the last panel, below, is the colour bar of all.

    Each title carries the largest error, and an arrow points at it where colours show sizes; the
    alt text tells its place and the area-weighted mean.

    Args:
        errors: title to ``(H, W)`` differences, of any sign.
        unit: what the colours mean, with its unit.
        low: smaller errors have the darkest colour (ignored when signed).
        high: larger errors have the brightest colour; the largest of all unless given.
        signed: colours show the sign, linear and symmetric; else the size, logarithmic.
        lats: latitudes (degrees) of the lower and upper edge, where only a strip is given.
    Raises:
        ValueError: nothing is off, so there is no scale; or maps that are not finite.
    """
    from matplotlib import cm, pyplot
    from matplotlib.colors import LogNorm, Normalize

    arrays = {name: np.asarray(_cpu(e), dtype=float) for name, e in errors.items()}
    if not arrays or not all(np.isfinite(e).all() for e in arrays.values()):
        raise ValueError("errors: none, or with NaN or infinite values, wanted finite maps")
    worst = max(float(np.abs(e).max()) for e in arrays.values())
    top = high or worst
    if not top > 0:
        raise ValueError("errors: all zero, wanted at least one difference")
    bottom = min(low, top / 10)
    scale = Normalize(-top, top) if signed else LogNorm(bottom, top)
    colours, tall = "RdBu_r" if signed else "cividis", lats[1] - lats[0]
    panels = []
    for name, error in arrays.items():
        H, W = error.shape
        size = np.abs(error)
        figure, axis = pyplot.subplots(
            figsize=(4.4, 2.4 if lats == (-90, 90) else 1.9), layout="constrained"
        )
        axis.imshow(
            error if signed else np.maximum(size, bottom), extent=(-180, 180, *lats), norm=scale,
            cmap=colours, interpolation="nearest", aspect="equal" if tall == 180 else "auto",
        )  # fmt: skip
        axis.set_title(f"{name}: up to {size.max():.2g}", color=INK, fontsize=13)
        axis.set_xticks([-90, 0, 90], ["90\u00b0 W", "0\u00b0", "90\u00b0 E"])
        lines = np.arange(*lats, 45 if tall > 90 else 10)[1:]
        axis.set_yticks(lines, [_north(lat) for lat in lines])
        axis.tick_params(colors=INK, labelsize=11)
        axis.spines[:].set_visible(False)  # errors at the edges stay in sight
        middle = lats[1] - (np.arange(H) + 0.5) * tall / H
        mean = float(np.cos(np.radians(middle)) @ size.mean(1) / np.cos(np.radians(middle)).sum())
        i, j = np.unravel_index(int(size.argmax()), size.shape)
        lon, lat = ((j + 0.5) / W - 0.5) * 360, middle[i]
        if not signed and size.max() > bottom:
            _arrow(axis, (lon, lat), (lon * 0.99, lat * 0.99), 34)
        panels.append((figure, f"Map of {unit}, {name}: largest {size.max():.2g} at {_east(lon)}, "
                               f"{_north(lat)}, area-weighted mean {mean:.2g}"))  # fmt: skip
    over, under = worst > top, min(float(np.abs(e).min()) for e in arrays.values()) < bottom
    beyond = ("neither", "min", "max", "both")[2 * over + (over if signed else under)]
    figure, axis = pyplot.subplots(figsize=(4.8, 0.85), layout="constrained")
    bar = figure.colorbar(
        cm.ScalarMappable(scale, colours), cax=axis, orientation="horizontal", extend=beyond
    )
    bar.set_label(unit if signed else f"{unit}, logarithmic", color=INK, fontsize=11)
    if not signed:
        bar.set_ticks(_round_numbers(bottom, top))
        bar.ax.xaxis.set_major_formatter("{x:.2g}")
        bar.ax.minorticks_off()
    bar.ax.tick_params(colors=INK, which="both", labelsize=11)
    bar.outline.set_visible(False)
    ends = f"{-top if signed else bottom:.2g} to {top:.2g}"
    panels.append((figure, f"Colour bar of the maps: {ends} {unit}"))
    return Keyed(panels, widest=420)


def profiles(
    panels: Mapping[str, Mapping[str, Curve]],
    x: str,
    y: str,
    edge: float | None = None,
) -> Picture:
    """Lines against a place, one panel beside the other; a vertical line marks an edge.

    Args:
        panels: title to name to (places, values). The first curve is drawn wide and pale, as
            the one to compare with; a repeated name looks the same in every panel.
        x, y: labels of the axes, with units.
        edge: where the vertical line stands.
    """
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    drawn = []
    for title, curves in panels.items():
        figure, axis = pyplot.subplots(figsize=(4.2, 3.7), layout="constrained")
        _, first = next(iter(curves.values()))
        far = []
        for name, (place, value) in curves.items():
            k = names.index(name)
            style: dict[str, Any] = {"color": INK, "lw": 7, "alpha": 0.45}
            if k:
                dash = ("-", "--", "-.")[(k - 1) % 3]
                style = {"color": CYCLE[(k - 1) % len(CYCLE)], "lw": 2.2, "ls": dash}
            axis.plot(np.asarray(place, float), np.asarray(value, float), label=name, **style)
            if k:
                off = np.abs(np.asarray(value, float) - np.asarray(first, float)).max()
                far.append(f"{name} up to {off:.2g} away")
        if edge is not None:
            axis.axvline(edge, color=INK, lw=1)
        axis.set_title(title, color=INK, fontsize=13)
        _label(axis, x, y)
        _legend_below(figure)
        drawn.append((figure, f"Plot of {y} against {x}, {title}: {'; '.join(far)}"))
    return Picture(drawn)


def response_curves(
    curves: Mapping[str, Curve],
    x: str = "frequency / Nyquist frequency of the small grid",
    y: str = "amplitude that is left",
    edge: float = 1.0,
) -> Picture:
    """How much of a wave survives, against its frequency; a line marks what the grid can hold.

    Args:
        curves: name to (frequencies, amplitudes).
        x, y: labels of the axes, with units.
        edge: frequency beyond which what is left is false.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.8, 3.6), layout="constrained")
    told = []
    for k, (name, curve) in enumerate(curves.items()):
        place, value = (np.asarray(v, float) for v in curve)
        axis.plot(place, value, color=CYCLE[k % len(CYCLE)], ls=("-", "--", "-.", ":")[k % 4],
                  lw=2.2, label=name)  # fmt: skip
        beyond = value[place > edge]
        told.append(f"{name} keeps up to {beyond.max():.2g} beyond {edge:g}"
                    if len(beyond) else name)  # fmt: skip
    axis.axvline(edge, color=INK, lw=1)
    right = axis.get_xlim()[1]
    axis.axvspan(edge, right, color=INK, alpha=0.13, lw=0)
    axis.set_xlim(right=right)
    box = {"boxstyle": "round,pad=0.25", "fc": _BADGE, "ec": "none"}
    axis.text((edge + right) / 2, 0.93, "aliases", color="white", fontsize=11, ha="center",
              va="center", transform=axis.get_xaxis_transform(), bbox=box)  # fmt: skip
    axis.set_ylim(0, 1.25 * max(1.0, *(float(np.max(v)) for _, v in curves.values())))
    _label(axis, x, y)
    _legend_below(figure)
    return Keyed([(figure, f"Plot of {y} against {x}: {'; '.join(told)}")], widest=460)


def order_plot(curves: Mapping[str, Curve], x: str, y: str) -> Picture:
    """Error against size, both logarithmic, a tick at every size: slopes are orders.

    Args:
        curves: name to (sizes, errors), the same sizes for all.
        x, y: labels of the axes, with units.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.8, 3.6), layout="constrained")
    told = []
    for k, (name, (sizes, errors)) in enumerate(curves.items()):
        axis.loglog(sizes, errors, color=CYCLE[k % len(CYCLE)], ls=("-", "--", "-.")[k % 3],
                    marker="osD"[k % 3], ms=5, lw=2.2, label=name)  # fmt: skip
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
        told.append(f"{name} from {errors[0]:.1e} at {sizes[0]:g} to {errors[-1]:.1e} at "
                    f"{sizes[-1]:g}")  # fmt: skip
    axis.minorticks_off()
    _label(axis, x, y)
    axis.legend(frameon=False, labelcolor=INK, fontsize=12)
    return Keyed([(figure, f"Logarithmic plot of {y} against {x}: {'; '.join(told)}")], widest=460)


def drift(
    images: Mapping[str, Any], place: tuple[float, float], moves: Mapping[str, tuple[float, float]]
) -> Picture:
    """Panoramas with a ring at one place, and an arrow where its content has left it.

    Args:
        images: title to ``(B, 3, H, W)``, ``(3, H, W)`` or ``(H, W, 3)`` picture.
        place: longitude and latitude of the ring, degrees.
        moves: title to how far the content moved (longitude, latitude), degrees.
    """
    panels = []
    for name, image in images.items():
        figure, axis = _axes(4.0)
        axis.imshow(read_rgb(image), extent=(-180, 180, -90, 90))
        axis.set_axis_off()
        axis.set_title(name, color=INK, fontsize=13)
        for colour, wide in ((_EDGE, 5.5), (CYCLE[4], 3.0)):
            axis.plot(*place, "o", mfc="none", mec=colour, mew=wide, ms=17)
        if name in moves:
            end = place[0] + moves[name][0], place[1] + moves[name][1]
            _arrow(axis, end, place)
        right, up = moves.get(name, (0.0, 0.0))
        went = f"{right:.0f} degrees right and {-up:.0f} down of" if name in moves else "at"
        black = float((np.asarray(read_rgb(image), float).max(-1) < 0.05).mean())
        told = f"Panorama {name}: what stood in the ring at {_east(place[0])}, {_north(place[1])} "
        told += f"is {went} it" + (f"; {black:.0%} of the picture is black" * (black > 0.005))
        panels.append((figure, told))
    return Picture(panels)


def taps_figure(H: int = 6, W: int = 12, step_deg: float = 5.0) -> Plot:
    """The pixels that a bilinear read takes, and their weights, on a walk over seam and pole.

    A slider moves the reading place across the seam, up a meridian, over the zenith and down
    on the other side. Above, the pixels on the panorama's upper half; below, the same ones as
    someone sees them who stands at the centre and looks straight up. The area of a disc is its
    weight, the cross is the place read, the dotted line the walk.

    Args:
        H, W: size of the panorama, pixels; both even. step_deg: of the walk.
    """
    import plotly.graph_objects as go

    turn = 360 / W
    low, left, right = (
        step_deg * round(v / step_deg)
        for v in (90 - 180 / H * 1.35, 180 - 1.2 * turn, 180 + turn / 3)
    )
    walk = [(lon, low) for lon in np.arange(left, right + step_deg / 2, step_deg)]
    walk += [(right, lat) for lat in np.arange(low + step_deg, 180 - low + 1e-6, step_deg)]
    lon_deg, lat_deg = np.array(walk).T
    xyz = lonlat_to_xyz(np.radians(lon_deg), np.radians(lat_deg))
    x, y, z = xyz.numpy().T
    lon, lat = np.degrees(np.arctan2(x, z)), np.degrees(np.arcsin(np.clip(-y, -1, 1)))
    table = erp_table(xyz, H, W)
    taps = [
        [(p // W, p % W, w) for p, w in zip(pixels, weights, strict=True) if w > 0.005]
        for pixels, weights in zip(table.pixels.tolist(), table.weights.tolist(), strict=True)
    ]

    def drawn(k: int) -> list[Any]:
        row, col, weight = np.array(taps[k]).T
        across, up = ((col + 0.5) / W - 0.5) * 360, (0.5 - (row + 0.5) / H) * 180
        discs: dict[str, Any] = {
            "mode": "markers", "hoverinfo": "skip", "zorder": 3,
            "marker": {"size": 30 * np.sqrt(weight), "color": CYCLE[4], "opacity": 1,
                       "line": {"width": 1.5, "color": "black"}},
        }  # fmt: skip
        here: dict[str, Any] = {
            "mode": "markers", "hoverinfo": "skip", "zorder": 4,
            "marker": {"symbol": "x", "size": 9, "color": "white",
                       "line": {"color": "black", "width": 1.5}},
        }  # fmt: skip
        px, py = _looking_up(across, up)
        qx, qy = _looking_up(lon[k : k + 1], lat[k : k + 1])
        told = [f"row {i}, column {j}: {w:.2f}" for i, j, w in taps[k]]
        lines = "<br>".join("   ".join(told[n : n + 2]) for n in range(0, len(told), 2))
        return [
            go.Scatter(x=across, y=up, **discs),
            go.Scatter(x=lon[k : k + 1], y=lat[k : k + 1], **here),
            go.Scatter(x=px, y=py, xaxis="x2", yaxis="y2", **discs),
            go.Scatter(x=qx, y=qy, xaxis="x2", yaxis="y2", **here),
            go.Scatter(x=[0], y=[0], xaxis="x3", yaxis="y3", mode="text", text=[lines],
                       textfont={"color": INK, "size": 12}, hoverinfo="skip", cliponaxis=False),
        ]  # fmt: skip

    def named(k: int) -> str:
        return f"reading at {_east(lon[k])}, {_north(lat[k])}"

    # The path is cut where its longitude jumps, at the seam and at the pole.
    jump = np.flatnonzero(np.abs(np.diff(lon)) > 90) + 1
    cut_lon, cut_lat = (np.insert(v, jump, np.nan) for v in (lon, lat))
    trail: dict[str, Any] = {
        "mode": "lines", "line": {"color": "white", "width": 2, "dash": "dot"},
        "hoverinfo": "skip", "zorder": 2,
    }  # fmt: skip
    checks = (np.add.outer(np.arange(H), np.arange(W)) % 2).astype(float)
    grid = go.Heatmap(
        z=checks, x0=-180 + turn / 2, dx=turn, y0=90 - 90 / H, dy=-180 / H, showscale=False,
        colorscale=[[0, _DARK], [1, _LIGHT]], hoverinfo="skip",
    )  # fmt: skip
    start = int(np.argmin(np.abs(lat_deg - 80)))
    seen = 360 / H  # two rows around the zenith, degrees
    path = dict(zip("xy", _looking_up(lon, lat), strict=True))
    figure = go.Figure(
        data=[
            *drawn(start), grid, go.Scatter(x=cut_lon, y=cut_lat, **trail),
            *_cap(checks[:2], 180 / H), go.Scatter(xaxis="x2", yaxis="y2", **path, **trail),
        ]
    )  # fmt: skip
    figure.frames = [
        go.Frame(data=drawn(k), name=str(k), traces=list(range(5))) for k in range(len(walk))
    ]
    bare = {"visible": False, "fixedrange": True}
    labels = (("180\u00b0", 0, 1.1), ("90\u00b0 E", 1.2, 0), ("0\u00b0", 0, -1.1),
              ("90\u00b0 W", -1.22, 0))  # fmt: skip
    axes = degree_axes()
    axes["xaxis"].update(showgrid=False, fixedrange=True, domain=[0.12, 0.99], constrain="range")
    clear = {"ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}
    axes["xaxis"].update(clear)
    axes["yaxis"].update(clear)
    axes["yaxis"].update(showgrid=False, fixedrange=True, domain=[0.74, 1], range=[0, 90],
                         scaleanchor=None, constrain="range")  # fmt: skip
    figure.update_layout(
        **axes,
        showlegend=False,
        xaxis2={"range": [-1.3 * seen, 1.3 * seen], "domain": [0, 1], "constrain": "domain",
                "anchor": "y2", **bare},
        yaxis2={"range": [-1.2 * seen, 1.2 * seen], "domain": [0, 0.55], "scaleanchor": "x2",
                "constrain": "domain", "anchor": "x2", **bare},
        xaxis3={"range": [-1, 1], "domain": [0, 1], "anchor": "y3", **bare},
        yaxis3={"range": [-1, 1], "domain": [0.57, 0.65], "anchor": "x3", **bare},
        annotations=[
            {"text": text, "x": x * seen, "y": y * seen, "xref": "x2", "yref": "y2",
             "showarrow": False, "font": {"color": INK, "size": 12}}
            for text, x, y in labels
        ],
    )  # fmt: skip
    slider(figure, [(named(k), str(k)) for k in range(len(walk))], start, 4)
    now = "; ".join(f"row {i}, column {j}: {w:.2f}" for i, j, w in taps[start])
    alt = (
        f"The pixels of a {H} x {W} panorama that one read takes, on its upper half and looking "
        "up at the zenith; the area of a disc is its weight. A slider moves the place over the "
        f"seam and the pole; now {named(start)} takes {now}"
    )
    return Plot(figure, alt, height=640)


_DARK, _LIGHT = "#2f4b7c", "#5f7fb3"
_EDGE, _BADGE = "#1b1b1b", "#50555e"


def _east(lon: float) -> str:
    return f"{abs(lon):.0f}\u00b0" + (" E" if round(lon) > 0 else " W" if round(lon) < 0 else "")


def _north(lat: float) -> str:
    return f"{abs(lat):.0f}\u00b0" + (" N" if round(lat) > 0 else " S" if round(lat) < 0 else "")


def _arrow(
    axis: Any, end: tuple[float, float], start: tuple[float, float], tail: float = 0
) -> None:
    """A thick orange arrow with a dark outline, in data units.

    Args:
        tail: its length in points, from the side of ``start``; all the way from there if zero.
    """
    where: dict[str, Any] = {"xytext": start, "textcoords": "data"}
    if tail:
        back = np.array(start) - end
        x, y = back / max(float(np.hypot(*back)), 1e-9) * tail
        where = {"xytext": (x, y), "textcoords": "offset points"}
    style = "simple,head_length=0.8,head_width=0.8,tail_width=0.3"
    look = {"arrowstyle": style, "mutation_scale": 17, "fc": CYCLE[4], "ec": _EDGE, "lw": 1.2,
            "shrinkA": 0 if tail else 10, "shrinkB": 5 if tail else 0}  # fmt: skip
    axis.annotate("", end, **where, arrowprops=look, annotation_clip=False)


def _legend_below(figure: Any) -> None:
    figure.legend(
        loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=12,
        columnspacing=1.2, handlelength=2.0,
    )  # fmt: skip


def _label(axis: Any, x: str, y: str) -> None:
    axis.set_xlabel(x, color=INK, fontsize=12)
    axis.set_ylabel(y, color=INK, fontsize=12)
    axis.tick_params(colors=INK, which="both", labelsize=11)
    axis.grid(color=INK, alpha=0.25, lw=0.6)
    for spine in axis.spines.values():
        spine.set_color(INK)


def _round_numbers(low: float, high: float) -> list[float]:
    """Both ends, and between them 1, 2, 5 times powers of ten, or only the powers if many."""
    powers = [10.0**k for k in range(int(np.floor(np.log10(low))), int(np.log10(high)) + 2)]
    inner = [k * p for p in powers for k in (1, 2, 5) if low * 1.5 < k * p < high / 1.5]
    return [low, *(inner if len(inner) <= 4 else [p for p in powers if p in inner]), high]


def _looking_up(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees to a plane around the zenith: right stays right, what is behind is at the top."""
    far, angle = 90 - lat, np.radians(lon)
    return (far * np.sin(angle)).round(2), (-far * np.cos(angle)).round(2)


def _cap(checks: np.ndarray, tall: float) -> list[Any]:
    """Rows of pixels, ``tall`` degrees each, as sectors around the zenith in two colours."""
    import plotly.graph_objects as go

    W, parts = checks.shape[1], []
    for shade, colour in ((0, _DARK), (1, _LIGHT)):
        outline = []
        for i, j in np.argwhere(checks == shade):
            lon = np.linspace(j / W - 0.5, (j + 1) / W - 0.5, 5) * 360
            lat = np.repeat([90 - tall * i, 90 - tall * (i + 1)], 5)
            ring = np.array(_looking_up(np.concatenate((lon, lon[::-1])), lat))
            outline += [ring, np.full((2, 1), np.nan)]
        x, y = np.concatenate(outline, axis=1)
        parts.append(
            go.Scatter(x=x, y=y, xaxis="x2", yaxis="y2", fill="toself", mode="lines",
                       line={"width": 0}, fillcolor=colour, hoverinfo="skip")
        )  # fmt: skip
    return parts
