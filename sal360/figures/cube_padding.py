"""Glued faces: where each texel of a rim comes from, and how far beside its place it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.cubemap import FACES, cube_directions
from sal360.figures.footprint import PHASE
from sal360.figures.projections import _PLACE
from sal360.figures.show import CYCLE, INK, Picture, Plot, slider

_SIDES = ("top", "right", "bottom", "left")


def rim_origin(pad: Callable[[Tensor], Tensor], S: int = 8, start: str = "U") -> Plot:
    """The rim of each face and, in the same colours, the texels it is taken from on the net.

    A texel of the rim reads L2 if it is from L, there in the second line from the shared edge.

    Args:
        pad: ``(6, 1, S, S)`` to ``(6, 1, P, P)``, faces F R B L U D, with the same width on all
            sides; right or wrong. Texels that it mixes from several are left blank.
        S: texels along an edge. start: the face that is shown first.
    """
    import plotly.graph_objects as go

    code = torch.arange(6.0 * S * S, dtype=torch.float64).reshape(6, 1, S, S)
    padded = pad(code)[:, 0].numpy()
    p = (padded.shape[-1] - S) // 2
    if padded.shape != (6, S + 2 * p, S + 2 * p) or p < 1:
        raise ValueError(f"pad: gives {padded.shape}, wanted (6, P, P) with one width of rim")
    place, ring = _around(S, p)
    edge = ~np.isnan(place)

    def traces(face: int) -> list[Any]:
        own = np.nan_to_num(padded[face], nan=-0.5)
        whole = edge & (np.abs(own - own.round()) < 1e-6)
        source = own.round().astype(int)
        net, told = np.full((3 * S, 4 * S), np.nan), np.full((3 * S, 4 * S), "", object)
        rim = np.full(own.shape, np.nan)
        letters = np.full(own.shape, "", object)
        for i, j in zip(*np.nonzero(whole), strict=True):
            f, r, c = np.unravel_index(source[i, j], (6, S, S))
            left, top = _PLACE[FACES[f]]
            net[top * S + r, left * S + c] = rim[i, j] = place[i, j]
            told[top * S + r, left * S + c] = str(ring[i, j])
            letters[i, j] = FACES[f] + _line_number(face, source[i, j], S)
        look = {"colorscale": PHASE, "zmin": 0, "zmax": 1, "showscale": False, "xgap": 1, "ygap": 1,
                "hoverinfo": "skip"}  # fmt: skip
        box = _PLACE[FACES[face]]
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * S + np.array(box) * S - 0.5
        return [
            go.Heatmap(z=net.astype(np.float32), text=told, texttemplate="%{text}",
                       textfont={"size": 9}, **look),
            go.Scatter(x=corners[:, 0], y=corners[:, 1], mode="lines", hoverinfo="skip",
                       line={"color": CYCLE[1], "width": 4}),
            go.Heatmap(z=rim.astype(np.float32), text=letters, texttemplate="%{text}",
                       textfont={"size": 11}, xaxis="x2", yaxis="y2", **look),
            go.Scatter(x=[p + (S - 1) / 2], y=[p + (S - 1) / 2], xaxis="x2", yaxis="y2",
                       mode="text", text=[FACES[face]], textfont={"size": 26, "color": INK},
                       hoverinfo="skip"),
        ]  # fmt: skip

    first = FACES.index(start)
    figure = go.Figure(traces(first))
    figure.frames = [
        go.Frame(data=traces(f), name=letter, traces=[0, 1, 2, 3]) for f, letter in enumerate(FACES)
    ]
    shapes: list[dict[str, Any]] = []
    for letter, (left, top) in _PLACE.items():
        x, y = left * S - 0.5, top * S - 0.5
        shapes.append({"type": "rect", "x0": x, "y0": y, "x1": x + S, "y1": y + S,
                       "line": {"color": INK, "width": 1}})  # fmt: skip
        figure.add_annotation(x=x + S / 2, y=y + S / 2, text=letter, showarrow=False,
                              font={"size": 18, "color": INK})  # fmt: skip
    inner = {"x0": p - 0.5, "y0": p - 0.5, "x1": p + S - 0.5, "y1": p + S - 0.5}
    shapes.append({"type": "rect", "xref": "x2", "yref": "y2", **inner,
                   "line": {"color": CYCLE[1], "width": 4}})  # fmt: skip
    plain = {"visible": False, "fixedrange": True, "constrain": "domain"}
    P = S + 2 * p
    figure.update_layout(
        shapes=shapes,
        showlegend=False,
        xaxis={**plain, "range": [-0.7, 4 * S - 0.3], "anchor": "y"},
        yaxis={**plain, "range": [3 * S - 0.3, -0.7], "domain": [0.53, 1], "scaleanchor": "x",
               "anchor": "x"},
        xaxis2={**plain, "range": [-0.7, P - 0.3], "anchor": "y2"},
        yaxis2={**plain, "range": [P - 0.3, -0.7], "domain": [0.0, 0.46], "scaleanchor": "x2",
                "anchor": "x2"},
    )  # fmt: skip
    slider(figure, [(f"the rim of {letter}, {_NAMES[letter]}", letter) for letter in FACES], first)
    figure.layout.sliders[0].update(y=0, yanchor="top")
    told, strange = [], []
    for f, letter in enumerate(FACES):
        strips = {side: padded[f][(place // 0.25 == k) & (ring == 1)]
                  for k, side in enumerate(_SIDES)}  # fmt: skip
        names = [f"{side} {_face_of(v, S)}" for side, v in strips.items()]
        told.append(f"{letter} ({', '.join(names)})")
        strange += [f"{letter} {side}" for side, codes in strips.items()
                    if not _from_first_line(codes, f, S)]  # fmt: skip
    alt = (
        f"Above a cube's net with {S} x {S} texels a face, below one face with {p} "
        f"ring{'s' * (p > 1)} around it; equal colours are the same texel. "
        f"Ring 1 of each face comes from {'; '.join(told)}; "
        f"not from the line at the shared edge: {', '.join(strange) or 'none'}"
    )
    return Plot(figure, alt, height=700)


_NAMES = {"F": "front", "R": "right", "B": "back", "L": "left", "U": "up", "D": "down"}


def _around(S: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Place along the rim, a quarter for each side and clockwise from the upper left, and ring.

    NaN in the corners and inside.
    """
    P = S + 2 * p
    i, j = np.meshgrid(np.arange(P), np.arange(P), indexing="ij")
    along = (np.arange(P) - p + 0.5) / S
    place = np.full((P, P), np.nan)
    inside = (along > 0) & (along < 1)
    up, down = i < p, i >= P - p
    before, after = j < p, j >= P - p
    across, within = inside[None, :], inside[:, None]
    for k, (where, run) in enumerate((
        (up & across, along[None, :]), (after & within, along[:, None]),
        (down & across, 1 - along[None, :]), (before & within, 1 - along[:, None]),
    )):  # fmt: skip
        place = np.where(where, (k + run) / 4, place)
    ring = np.max([p - i, i - (P - p) + 1, p - j, j - (P - p) + 1], axis=0)
    return place, ring


def _line_number(face: int, source: int, S: int) -> str:
    """Which line of a neighbour a texel stands in, from the shared edge; empty for other faces."""
    at = cube_directions(S).reshape(-1, 3)[source]
    line = round(float((1 - at @ cube_directions(1)[face, 0, 0]) * S / 2 + 0.5))
    return str(line) if 1 <= line <= S else ""


def _from_first_line(codes: np.ndarray, face: int, S: int) -> bool:
    whole = codes[np.abs(codes - codes.round()) < 1e-6].round().astype(int)
    return all(_line_number(face, source, S) == "1" for source in whole)


def _face_of(codes: np.ndarray, S: int) -> str:
    whole = codes[np.abs(codes - codes.round()) < 1e-6].round().astype(int)
    return "".join(sorted({FACES[c // S**2] for c in whole})) or "no single face"


def edge_curves(curves: dict[str, Any], ylabel: str, title: str = "", log: bool = False) -> Picture:
    """One value per texel along an edge: a line for each ring or way to pad.

    Args:
        curves: name to ``(S,)`` values. ylabel: what they are, with their unit.
        log: a logarithmic scale.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.8, 3.1), layout="constrained")
    told = []
    for n, (name, values) in enumerate(curves.items()):
        v = np.asarray(values, float)
        at = (2 * np.arange(len(v)) + 1) / len(v) - 1
        axis.plot(at, v, color=CYCLE[n], ls=("-", "--", "-.", ":")[n % 4], lw=2, label=name)
        told.append(f"{name} from {v.min():.2g} to {v.max():.2g}")
    if log:
        axis.set_yscale("log")
    axis.set_xlabel("place along the edge (corners at -1 and 1)", color=INK)
    axis.set_ylabel(ylabel, color=INK)
    axis.set_title(title, color=INK, fontsize=11)
    axis.tick_params(colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(INK)
    axis.legend(frameon=False, labelcolor=INK)
    return Picture([(figure, f"{title or ylabel} along an edge: {'; '.join(told)}")], 420)


def signed_maps(values: dict[str, Any], unit: str, width: int = 300) -> Picture:
    """Maps with a sign, panoramas with degrees: blue below zero, orange above, one scale.

    Args:
        values: title to ``(H, W)`` map. unit: what the colours mean.
    """
    from matplotlib import pyplot
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("apart", [CYCLE[0], "#f4f4f4", CYCLE[1]])
    arrays = {k: torch.as_tensor(v).detach().double().numpy() for k, v in values.items()}
    top = max(float(np.abs(v).max()) for v in arrays.values())
    panels = []
    for name, value in arrays.items():
        figure, axis = pyplot.subplots(figsize=(4.6, 2.9), layout="constrained")
        shown = axis.imshow(value, extent=(-180, 180, -90, 90), vmin=-top, vmax=top, cmap=colours)
        axis.set_xticks(range(-180, 181, 90))
        axis.set_yticks(range(-90, 91, 45))
        axis.set_xlabel("longitude (degrees)", color=INK)
        axis.set_ylabel("latitude (degrees)", color=INK)
        axis.tick_params(colors=INK)
        axis.set_title(name, color=INK, fontsize=12)
        bar = figure.colorbar(shown, ax=axis, shrink=0.62, pad=0.02)
        bar.set_label(unit, color=INK)
        bar.ax.tick_params(colors=INK)
        bar.outline.set_visible(False)
        panels.append((figure, f"Map of {name}: {value.min():.2g} to {value.max():.2g} {unit}, "
                               f"typically {np.sqrt((value**2).mean()):.2g}"))  # fmt: skip
    return Picture(panels, width)
