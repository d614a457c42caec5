"""Kernels at work: what they read in every row and at what cost, and what a detector finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.footprint import _tap_traces
from sal360.figures.globe import facing, graticule, scene
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider
from sal360.patterns import Pattern


@dataclass(frozen=True)
class Footprint:
    """What one kernel reads.

    Attributes:
        shares: ``(H, W)`` share of the answer that comes from each pixel, 0 where it is not
            read; they sum to 1.
        reads: pixels read, one by one. pixels: different ones. columns: with a pixel that is
            read.
    """

    shares: np.ndarray
    reads: int
    pixels: int
    columns: int


def read_by(pattern: Pattern, row: int, shares: Tensor | None = None) -> Footprint:
    """What the kernel in the middle of an output row reads, if all weights are one.

    Args:
        pattern: where it looks. row: of the output. shares: of the taps, the kernel's shape;
            all alike unless given.
    """
    rows, cols, weights = (part[row] for part in pattern.row_table())  # (K, 4) each
    if shares is None:
        shares = torch.full((pattern.taps,), 1 / pattern.taps, dtype=torch.float64)
    middle = (pattern.W // 2 // pattern.stride) * pattern.stride
    weights = weights * shares.flatten()[:, None]
    used = weights > 1e-9
    place = (rows * pattern.W + torch.remainder(cols + middle, pattern.W))[used]
    image = torch.zeros(pattern.H * pattern.W, dtype=torch.float64)
    image.index_add_(0, place, weights[used])
    seen = image.view(pattern.H, pattern.W)
    return Footprint(
        seen.numpy(), int(used.sum()), len(place.unique()), int((seen > 0).any(0).sum())
    )


def kernel_explorer(
    kernels: Mapping[str, Pattern | tuple[Pattern, Tensor]], steps: int = 13
) -> Plot:
    """A kernel from pole to pole: its taps on the sphere, and every pixel it reads by its share.

    A slider moves the row, buttons choose the kernel. The panorama shows only the part that some
    kernel reads in that row, not to scale: on a phone its pixels would be smaller than the taps.

    Args:
        kernels: name to pattern, or to pattern and shares of its taps; all on one size of
            panorama.
        steps: positions of the slider, spread over the output rows from the first to the last.
    """
    import plotly.graph_objects as go

    named = {
        name: value if isinstance(value, tuple) else (value, None)
        for name, value in kernels.items()
    }
    sizes = {(p.H, p.W, p.stride) for p, _ in named.values()}
    if len(sizes) != 1:
        raise ValueError(f"kernels: (H, W, stride) {sorted(sizes)}, wanted one for all")
    if steps < 2:
        raise ValueError(f"steps: {steps}, wanted at least 2")
    H, _, stride = next(iter(sizes))
    count = len(next(iter(named.values()))[0].lat)
    rows = np.unique(np.linspace(0, count - 1, steps).round().astype(int))
    seen = {
        (name, int(row)): read_by(pattern, int(row), shares)
        for name, (pattern, shares) in named.items()
        for row in rows
    }

    most = {
        name: 100 * max(float(seen[name, int(row)].shares.max()) for row in rows) for name in named
    }

    def latitude(row: int) -> float:
        return (0.5 - (row * stride + 0.5) / H) * 180

    def traces(row: int) -> list[Any]:
        made: list[Any] = []
        for name, (pattern, _) in named.items():
            made += _kernel_traces(pattern, name, row, seen[name, row], most[name])
        return made

    def window(row: int) -> dict[str, Any]:
        read = [seen[name, row].shares > 0 for name in named]
        return _window(np.logical_or.reduce(read))

    start = len(rows) // 6
    shown, still = traces(int(rows[start])), graticule()
    each = len(shown) // len(named)
    for trace in shown[each:]:
        trace.visible = False
    figure = go.Figure([*shown, *still])
    figure.frames = [
        go.Frame(
            data=traces(int(row)),
            name=str(row),
            traces=list(range(len(shown))),
            layout={
                "scene": {"camera": {"eye": facing(latitude(int(row)))}},
                **window(int(row)),
            },
        )
        for row in rows
    ]
    axes, first_window = degree_axes(), window(int(rows[start]))
    for name, axis in axes.items():
        axis.update(first_window[name])
    del axes["yaxis"]["scaleanchor"]
    axes["yaxis"]["domain"] = [0.11, 0.44]
    hidden = {"visible": False, "range": [0, 1], "fixedrange": True}
    figure.update_layout(
        scene={
            **scene(facing(latitude(int(rows[start])))),
            "domain": {"x": [0, 1], "y": [0.52, 0.93]},
        },
        **axes,
        xaxis2={**hidden, "domain": [0, 1], "anchor": "y2"},
        yaxis2={**hidden, "domain": [0, 1], "anchor": "x2"},
        showlegend=False,
        updatemenus=[
            {
                "type": "buttons",
                "direction": "right",
                "x": 0.5,
                "xanchor": "center",
                "y": 1.0,
                "yanchor": "top",
                "pad": {"t": 0, "b": 0},
                "font": {"size": 12, "color": INK},
                "bgcolor": "rgba(128,128,128,0.15)",
                "bordercolor": INK,
                "buttons": [
                    {
                        "label": name,
                        "method": "restyle",
                        "args": [
                            {"visible": [k // each == n for k in range(len(shown))]},
                            list(range(len(shown))),
                        ],
                    }
                    for n, name in enumerate(named)
                ],
            }
        ],
    )
    labels = [(f"kernel at latitude {latitude(int(r)):+.0f} degrees", str(r)) for r in rows]
    slider(figure, labels, start, top=44)
    first, middle = int(rows[0]), int(rows[len(rows) // 2])
    told = "; ".join(
        f"{name}: in the first row {_in_words(seen[name, first])}, "
        f"at the equator {_in_words(seen[name, middle])}"
        for name in named
    )
    alt = f"A kernel's taps on the unit sphere, and below the pixels that it reads: {told}"
    return Plot(figure, alt, height=720)


def _window(read: np.ndarray) -> dict[str, Any]:
    """Ranges and labels of the axes around the pixels that are read: ``(H, W)`` bool."""
    H, W = read.shape
    rows, cols = (np.flatnonzero(read.any(axis=axis)) for axis in (1, 0))
    top, low = max(int(rows[0]) - 1, 0), min(int(rows[-1]) + 2, H)
    # as far to the right as to the left, so that the kernel stays in the middle
    half = min(max(W // 2 - int(cols[0]), int(cols[-1]) - W // 2 + 1) + 1, W // 2) * 360 / W
    span = {
        "xaxis": ([-half, half], 90 if half > 100 else 30 if half > 40 else 10, ("W", "E")),
        "yaxis": (
            [90 - 180 * low / H, 90 - 180 * top / H],
            30 if low - top > H / 2 else 10,
            ("S", "N"),
        ),
    }
    made = {}
    for axis, (ends, step, (minus, plus)) in span.items():
        ticks = [v for v in range(-180, 181, step) if ends[0] <= v <= ends[1] and abs(v) < 180]
        text = [f"{abs(v)}° {plus if v > 0 else minus}" if v else "0°" for v in ticks]
        made[axis] = {"range": ends, "tickvals": ticks, "ticktext": text}
    return made


def _kernel_traces(
    pattern: Pattern, name: str, row: int, seen: Footprint, most: float
) -> list[Any]:
    """Taps on the sphere, pixels on the panorama, taps on the panorama, the cost in words."""
    import plotly.graph_objects as go

    H, W = seen.shares.shape
    lon, lat = ((np.arange(W) + 0.5) / W - 0.5) * 360, (0.5 - (np.arange(H) + 0.5) / H) * 180
    middle = (W // 2) // pattern.stride
    ball, flat = _tap_traces(pattern.directions(row, middle).numpy(), name, 0, pattern)
    flat.update(
        mode="markers",
        marker={
            "size": 5,
            "color": "white",
            "symbol": "circle",
            "line": {"color": "black", "width": 1},
        },
    )
    share = np.where(seen.shares > 0, 100 * seen.shares, np.nan).astype(np.float32)
    bar = {
        "orientation": "h",
        "len": 0.8,
        "thickness": 8,
        "y": 0.06,
        "yanchor": "top",
        "tickfont": {"size": 11},
        "ticksuffix": " %",
        "title": {"text": "share of the answer", "side": "bottom", "font": {"size": 12}},
    }
    pixels = go.Heatmap(
        x=lon,
        y=lat,
        z=share,
        zmin=0,
        zmax=most,
        colorscale="Cividis",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        hovertemplate="%{z:.1f} % of the answer<extra></extra>",
        colorbar=bar,
    )
    words = go.Scatter(
        x=[0.5],
        y=[0.465],
        mode="text",
        text=[_in_words(seen)],
        textfont={"color": INK, "size": 13},
        hoverinfo="skip",
        xaxis="x2",
        yaxis="y2",
    )
    return [ball, pixels, flat, words]


def _in_words(seen: Footprint) -> str:
    return f"{seen.reads} reads of {seen.pixels} pixels in {seen.columns} columns"


def by_latitude(
    curves: Mapping[str, Any],
    ylabel: str,
    reference: float | None = None,
    span: tuple[float, float] = (90.0, -90.0),
) -> Picture:
    """One value per image row against its latitude, north on the left as rows are counted.

    Args:
        curves: name to ``(H,)`` values. ylabel: what they are, with their unit.
        reference: a value to draw a thin line at. span: latitudes to show, degrees, from the left.
    """
    from matplotlib import pyplot

    left, right = span
    if not 90 >= left > right >= -90:
        raise ValueError(f"span: {span}, wanted two latitudes in degrees, the northern one first")
    figure, axis = pyplot.subplots(figsize=(4.8, 3.3), layout="constrained")
    if reference is not None:
        axis.axhline(reference, color=INK, lw=0.8)
    told = []
    for n, (name, values) in enumerate(curves.items()):
        value = np.asarray(values, float)
        lat = (0.5 - (np.arange(len(value)) + 0.5) / len(value)) * 180
        shown = (lat <= left) & (lat >= right)
        lat, value = lat[shown], value[shown]
        axis.plot(
            lat, value, color=CYCLE[n], ls=("-", "--", "-.")[n % 3], lw=2, label=name,
            marker="os^"[n % 3] if len(lat) < 20 else "",
        )  # fmt: skip
        low, high = int(value.argmin()), int(value.argmax())
        told.append(f"{name} from {value[low]:.3g} at latitude {lat[low]:.0f} to "
                    f"{value[high]:.3g} at {lat[high]:.0f}")  # fmt: skip
    margin = (left - right) / 90
    axis.set_xlim(left + margin, right - margin)
    axis.set_ylim(0, None)
    ticks = np.linspace(left, right, 5 if left - right > 90 else 4)
    text = [f"{abs(v):.3g}° {'N' if v > 0 else 'S'}" if v else "0°" for v in ticks]
    axis.set_xticks(ticks, text)
    axis.set_xlabel("latitude", color=INK, fontsize=12)
    axis.set_ylabel(ylabel, color=INK, fontsize=12)
    axis.tick_params(colors=INK, labelsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=12,
                  handlelength=1.6, columnspacing=1.2)  # fmt: skip
    return Picture([(figure, f"{ylabel} against latitude: {'; '.join(told)}")], 420)


def detections(
    picture: Any,
    answers: Mapping[str, Any],
    spots: Sequence[tuple[int, int]],
    threshold: float,
) -> Picture:
    """A picture, and what detectors answered: a ring at every spot, solid if it was found.

    Args:
        picture: ``(H, W)`` in [0, 1]. answers: name to ``(H, W)``.
        spots: row and column of what should be found. threshold: at which it counts as found.
    """
    from matplotlib import pyplot

    panels = []
    H, W = np.asarray(picture).shape
    for name, values in {"": picture, **answers}.items():
        value = np.asarray(values, float)
        figure, axis = pyplot.subplots(figsize=(4.8, 2.75), layout="constrained")
        style = {"cmap": "gray", "vmin": 0, "vmax": 1} if name == "" else {
            "cmap": "cividis", "vmin": 0, "vmax": 1}  # fmt: skip
        axis.imshow(value.clip(0, 1), extent=(-180, 180, -90, 90), **style)  # type: ignore[arg-type]
        told = []
        for row, col in spots if name else ():
            lon, lat = ((col + 0.5) / W - 0.5) * 360, (0.5 - (row + 0.5) / H) * 180
            found = value[row, col] > threshold
            colour, dash = ("white", "-") if found else (CYCLE[4], ":")
            for shift in (-360, 0, 360):
                axis.add_patch(
                    pyplot.Circle((lon + shift, lat), 16, fill=False, ec=colour, lw=2, ls=dash)
                )
            side = -1 if lon > 100 or lat > 60 else 1
            text = f"{value[row, col]:.2f}" + ("" if found else " missed")
            low = lat > 60  # beside the upper edge
            axis.annotate(
                text, (lon + side * 20, lat - (14 if low else 0)), color=colour, fontsize=13,
                ha="left" if side > 0 else "right", va="top" if low else "center",
                annotation_clip=False,
            )  # fmt: skip
            told.append(f"{'found' if found else 'missed'} at longitude {lon:.0f}, latitude "
                        f"{lat:.0f} with {value[row, col]:.2f}")  # fmt: skip
        axis.set_xlim(-180, 180)
        axis.set_ylim(-90, 90)
        axis.set_title(name or "the picture", color=INK, fontsize=12)
        axis.set_xticks([-90, 0, 90], ["90° W", "0°", "90° E"])
        axis.set_yticks([-45, 0, 45], ["45° S", "0°", "45° N"])
        axis.tick_params(colors=INK, labelsize=11)
        for spine in axis.spines.values():
            spine.set_color(INK)
        alt = f"{name}, found above {threshold:g}: {'; '.join(told)}" if name else (
            f"A picture with {len(spots)} things to find")  # fmt: skip
        panels.append((figure, alt))
    return Picture(panels, 300)
