"""Reading between pixels: error maps on one scale, the four pixels of a read, responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sal360.figures.pictures import _cpu, _degrees
from sal360.figures.show import CYCLE, INK, Picture, Plot, slider
from sal360.resampling import erp_table
from sal360.sphere import lonlat_to_xyz, pixel_area

Curve = tuple[Sequence[float], Sequence[float]]
"""Places on the x axis and values of one method."""


def error_maps(
    errors: Mapping[str, Any],
    unit: str = "absolute error",
    low: float = 1e-4,
    high: float | None = None,
    signed: bool = False,
    width: int = 300,
) -> Picture:
    """Differences of panoramas, one colour scale for all, degrees on the axes.

    Each title carries the largest error, each alt text also the area-weighted mean and the
    place of the largest.

    Args:
        errors: title to ``(H, W)`` differences, of any sign.
        unit: what the colours mean, with its unit.
        low: smaller errors have the darkest colour (ignored when signed).
        high: larger errors have the brightest colour; the largest of all unless given.
        signed: colours show the sign, linear and symmetric; else the size, logarithmic.
        width: smallest width of one map on the page, pixels.
    Raises:
        ValueError: nothing is off, so there is no scale.
    """
    from matplotlib import pyplot
    from matplotlib.colors import LogNorm, Normalize

    arrays = {name: np.asarray(_cpu(e), dtype=float) for name, e in errors.items()}
    top = high or max(float(np.abs(e).max()) for e in arrays.values())
    if not top > 0:
        raise ValueError("errors: all zero, wanted at least one difference")
    bottom = min(low, top / 10)
    scale = Normalize(-top, top) if signed else LogNorm(bottom, top)
    panels = []
    for name, error in arrays.items():
        H, W = error.shape
        size = np.abs(error)
        shown = error if signed else np.maximum(size, bottom)
        beyond: dict[str, Any] = {}
        if size.max() > top:
            beyond["extend"] = "both" if signed else "max"
        figure, axis = pyplot.subplots(figsize=(4.6, 2.3), layout="constrained")
        drawn = axis.imshow(
            shown, extent=(-180, 180, -90, 90), norm=scale, cmap="RdBu_r" if signed else "cividis",
            interpolation="nearest",
        )  # fmt: skip
        _degrees(axis, f"{name}: up to {size.max():.2g}")
        bar = figure.colorbar(drawn, ax=axis, shrink=0.78, pad=0.02, **beyond)
        bar.set_label(unit, color=INK)
        if not signed:
            bar.set_ticks(_round_numbers(bottom, top))
            bar.ax.yaxis.set_major_formatter("{x:g}")
            bar.ax.minorticks_off()
        bar.ax.tick_params(colors=INK, which="both")
        bar.outline.set_visible(False)
        area = pixel_area(H, W).numpy()
        mean = float(area @ size.mean(1) / area.sum())
        i, j = np.unravel_index(int(size.argmax()), size.shape)
        lon, lat = ((j + 0.5) / W - 0.5) * 360, (0.5 - (i + 0.5) / H) * 180
        panels.append(
            (figure, f"Map of {unit}, {name}: largest {size.max():.2g} at longitude {lon:.0f}, "
                     f"latitude {lat:.0f} degrees, area-weighted mean {mean:.2g}")
        )  # fmt: skip
    return Picture(panels, width)


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

    figure, axis = pyplot.subplots(figsize=(5.6, 3.6), layout="constrained")
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
    axis.text(edge + 0.02, 0.03, "aliases", color=INK, fontsize=11)
    axis.set_ylim(0, 1.08 * max(1.0, *(float(np.max(v)) for _, v in curves.values())))
    axis.set_xlabel(x, color=INK, fontsize=11)
    axis.set_ylabel(y, color=INK, fontsize=11)
    axis.tick_params(colors=INK)
    axis.grid(color=INK, alpha=0.25, lw=0.6)
    for spine in axis.spines.values():
        spine.set_color(INK)
    axis.legend(frameon=False, labelcolor=INK, fontsize=10, loc="upper right",
                bbox_to_anchor=(1, 0.84))  # fmt: skip
    return Picture([(figure, f"Plot of {y} against {x}: {'; '.join(told)}")], width=400)


def taps_figure(H: int = 6, W: int = 12, step_deg: float = 5.0) -> Plot:
    """The pixels that a bilinear read takes, and their weights, on a walk over seam and pole.

    A slider moves the reading place across the seam, up a meridian, over the zenith and down
    on the other side. Above, the pixels on the panorama; below, the same ones as someone sees
    them who stands at the centre and looks straight up. Discs are as large as the weights.

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
        return f"reading at longitude {lon[k]:.0f}\u00b0, latitude {lat[k]:.0f}\u00b0"

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
    ticks = {"showgrid": False, "zeroline": False, "fixedrange": True}
    bare = {"visible": False, "fixedrange": True}
    labels = (("180\u00b0", 0, 1.1), ("90\u00b0", 1.15, 0), ("0\u00b0", 0, -1.1),
              ("-90\u00b0", -1.2, 0))  # fmt: skip
    figure.update_layout(
        showlegend=False,
        xaxis={"range": [-180, 180], "tickvals": list(range(-180, 181, 90)), "domain": [0.1, 0.97],
               "constrain": "domain", "title": {"text": "longitude (degrees)", "standoff": 4},
               **ticks},
        yaxis={"range": [-90, 90], "tickvals": list(range(-90, 91, 45)), "domain": [0.64, 1],
               "scaleanchor": "x", "constrain": "domain",
               "title": {"text": "latitude (degrees)", "standoff": 2}, **ticks},
        xaxis2={"range": [-1.3 * seen, 1.3 * seen], "domain": [0, 1], "constrain": "domain",
                "anchor": "y2", **bare},
        yaxis2={"range": [-1.17 * seen, 1.17 * seen], "domain": [0, 0.45], "scaleanchor": "x2",
                "constrain": "domain", "anchor": "x2", **bare},
        xaxis3={"range": [-1, 1], "domain": [0, 1], "anchor": "y3", **bare},
        yaxis3={"range": [-1, 1], "domain": [0.46, 0.54], "anchor": "x3", **bare},
        annotations=[
            {"text": text, "x": x * seen, "y": y * seen, "xref": "x2", "yref": "y2",
             "showarrow": False, "font": {"color": INK, "size": 12}}
            for text, x, y in labels
        ],
    )  # fmt: skip
    slider(figure, [(named(k), str(k)) for k in range(len(walk))], start, 4)
    now = "; ".join(f"row {i}, column {j}: {w:.2f}" for i, j, w in taps[start])
    alt = (
        f"The pixels of a {H} x {W} panorama that one read takes, on the panorama and looking up "
        f"at the zenith. A slider moves the place over the seam and the pole; now {named(start)} "
        f"takes {now}"
    )
    return Plot(figure, alt, height=660)


_DARK, _LIGHT = "#2f4b7c", "#5f7fb3"


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten between two numbers, or only the powers if they are many."""
    powers = [10.0**k for k in range(int(np.floor(np.log10(low))), int(np.log10(high)) + 2)]
    inner = [k * p for p in powers for k in (1, 2, 5) if low * 0.999 <= k * p <= high * 1.001]
    return inner if len(inner) <= 6 else [p for p in powers if p in inner]


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
