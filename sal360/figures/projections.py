"""What a projection does to round things: discs and shortest paths on panorama, net and view.

A net lays the six faces out as ``. U . .``, ``L F R B``, ``. D . .``; a face is one unit wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sal360.cubemap import FACES, cube_pixel
from sal360.figures.show import CYCLE, INK, Picture, Plot, degree_axes, slider
from sal360.sphere import (
    angle_between,
    geodesic_circle,
    lonlat_to_xyz,
    rotation_matrix,
    slerp,
    xyz_to_lonlat,
)

Points = NDArray[np.float64]
"""``(n, 2)`` on a page; a row of NaN lifts the pen."""

_PLACE = {"F": (1, 1), "R": (2, 1), "B": (3, 1), "L": (0, 1), "U": (1, 0), "D": (1, 2)}
_GAP = np.full((1, 2), np.nan)
_SHADE = "#2f343b"
_BOX = {"boxstyle": "round,pad=0.15", "fc": _SHADE, "ec": "none", "alpha": 0.9}


@dataclass(frozen=True)
class Page:
    """One flat picture of the sphere.

    Attributes:
        name: what it is called. box: left, right, bottom, top of the page.
        kind: ``"panorama"``, ``"net"`` or ``"view"``. equiangular: texels evenly spaced in angle.
        camera: longitude and latitude of a view's axis, and its field of view, degrees.
    """

    name: str
    box: tuple[float, float, float, float]
    kind: str
    equiangular: bool = False
    camera: tuple[float, float, float] = (0.0, 0.0, 90.0)

    def disc(self, centre: torch.Tensor, radius: float) -> list[Points]:
        """Outlines of a disc on the sphere (radius in radians), one for each piece."""
        edge = geodesic_circle(centre, radius, 120)
        if self.kind == "panorama":
            return _on_panorama(edge, centre, radius)
        pieces = []
        for face, axes in self._planes():
            toward = torch.as_tensor(axes[:, 2])
            if float(angle_between(centre, toward)) + radius < math.radians(88):
                piece = _clipped(self._flat(edge.numpy(), axes))
                if len(piece):
                    pieces.append(self._laid(piece, face))
        return pieces

    def line(self, xyz: torch.Tensor) -> Points:
        """A path of dense directions as one curve, with gaps where the page is cut."""
        if self.kind == "panorama":
            lon, lat = (np.degrees(v.numpy()) for v in xyz_to_lonlat(xyz))
            return _with_gaps(np.stack((lon, lat), -1), np.abs(np.diff(lon)) > 180)
        parts = []
        owner = cube_pixel(xyz, 1)[0].numpy()
        for face, axes in self._planes():
            flat = self._flat(xyz.numpy(), axes)
            reach = 1.0 if face else 1.5  # the border of a view cuts what is left
            seen = (np.abs(flat).max(-1) <= reach) & (xyz.numpy() @ axes[:, 2] > 0)
            seen &= (owner == FACES.index(face)) if face else True
            flat = np.where(seen[:, None], self._laid(flat, face), np.nan)
            parts += [flat, _GAP]
        return np.concatenate(parts)

    def stretch(self, centre: torch.Tensor) -> tuple[float, float]:
        """How much larger an area is drawn than at the page's best place, and its shape's ratio."""
        if self.kind == "panorama":
            cosine = math.cos(float(xyz_to_lonlat(centre)[1]))
            return (1 / cosine, 1 / cosine) if cosine > 1e-9 else (math.inf, math.inf)
        axes = [a[:, 2] for _, a in self._planes()]
        cosine = max(float(centre.numpy() @ axis) for axis in axes)
        return cosine**-3, 1 / cosine

    def _planes(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Face and right, down, forward (columns) of each plane of the page."""
        if self.kind == "view":
            lon, lat, _ = self.camera
            yield "", rotation_matrix(math.radians(lon), math.radians(lat)).numpy()
            return
        for face in FACES:
            yield face, _AXES[face]

    def _flat(self, xyz: NDArray[np.float64], axes: NDArray[np.float64]) -> Points:
        seen = xyz @ axes
        reach = math.tan(math.radians(self.camera[2] / 2))
        flat = seen[:, :2] / np.where(np.abs(seen[:, 2:]) > 1e-12, seen[:, 2:], 1e-12) / reach
        return np.arctan(flat) * (4 / np.pi) if self.equiangular else flat

    def _laid(self, flat: Points, face: str) -> Points:
        """From -1..1 on a plane, down, to the page, up."""
        if not face:
            return flat * [1, -1]
        left, top = _PLACE[face]
        return np.stack((left + (flat[:, 0] + 1) / 2, 3 - top - (flat[:, 1] + 1) / 2), -1)


_AXES = {
    face: np.stack((right, down, np.cross(right, down)), -1).astype(float)
    for face, right, down in (
        ("F", (1, 0, 0), (0, 1, 0)),
        ("R", (0, 0, -1), (0, 1, 0)),
        ("B", (-1, 0, 0), (0, 1, 0)),
        ("L", (0, 0, 1), (0, 1, 0)),
        ("U", (1, 0, 0), (0, 0, 1)),
        ("D", (1, 0, 0), (0, 0, -1)),
    )
}


def panorama_page() -> Page:
    """Longitude to the right, latitude up, degrees."""
    return Page("panorama (ERP)", (-180, 180, -90, 90), "panorama")


def net_page(equiangular: bool = False) -> Page:
    """Six faces, texels evenly spaced on the cube, or in angle."""
    return Page("equi-angular cube" if equiangular else "cube", (0, 4, 0, 3), "net", equiangular)


def view_page(lon: float = 0.0, lat: float = 0.0, fov: float = 120.0) -> Page:
    """A square view; its direction and field of view in degrees."""
    name = f"viewport, {fov:.0f}\u00b0, looking at ({lon:.0f}, {lat:.0f})"
    return Page(name, (-1, 1, -1, 1), "view", camera=(lon, lat, fov))


def cube_net(faces: Any, title: str = "", names: str = FACES) -> Picture:
    """Six faces as one net, each upright as stored, with their letters.

    Args:
        faces: ``(6, C, S, S)`` or ``(1, 6, C, S, S)``, C = 3 in [0, 1] or uint8, or C = 1
            (viridis from its smallest to its largest value).
        title: of the picture. names: letters written into the faces.
    """
    from matplotlib import colormaps, pyplot

    value = torch.as_tensor(faces).detach().cpu()
    value = value[0] if value.ndim == 5 and len(value) == 1 else value
    if value.ndim != 4 or len(value) != 6 or value.shape[1] not in (1, 3):
        raise ValueError(f"faces: shape {tuple(value.shape)}, wanted (6, 1 or 3, S, S)")
    value = value.double() / (1 if value.is_floating_point() else 255)
    if value.shape[1] == 3 and not float(value.max()) < 2:
        raise ValueError(f"faces: values up to {float(value.max()):g}, wanted [0, 1], or uint8")
    S = value.shape[-1]
    net = np.zeros((3 * S, 4 * S, 4))
    low, high = float(value.min()), float(value.max())
    for face, texels in zip(FACES, value, strict=True):
        left, top = _PLACE[face]
        part = net[top * S : (top + 1) * S, left * S : (left + 1) * S]
        if value.shape[1] == 1:
            part[:] = colormaps["viridis"]((texels[0].numpy() - low) / max(high - low, 1e-12))
        else:
            part[..., :3], part[..., 3] = texels.permute(1, 2, 0).clamp(0, 1).numpy(), 1.0
    figure, axis = pyplot.subplots(figsize=(6.4, 4.8 + 0.3 * bool(title)), layout="constrained")
    axis.imshow(net, extent=(0, 4, 0, 3), interpolation="nearest")
    axis.set(xlim=(-0.02, 4.02), ylim=(-0.02, 3.02))  # whole lines around the outer faces
    axis.set_axis_off()
    axis.set_title(title, color=INK, fontsize=13)
    for face, name in zip(FACES, names, strict=True):
        left, top = _PLACE[face]
        axis.text(left + 0.06, 2.94 - top, name, color="white", fontsize=20, bbox=_BOX, va="top")
        frame = pyplot.Rectangle((left, 2 - top), 1, 1, fill=False, ec=INK, lw=0.8)
        axis.add_patch(frame)
    middle = value[:, :, S // 2, S // 2]
    told = ", ".join(
        f"{name} {'/'.join(f'{v:.2f}' for v in texel)}"
        for name, texel in zip(names, middle.tolist(), strict=True)
    )
    alt = (
        f"Net of a cube of 6 x {S} x {S} texels {title}".strip() + f"; middle of each face: {told}"
    )
    return Picture([(figure, alt)], width=420)


def close_ups(
    views: Mapping[str, Any],
    camera: tuple[float, float, float] | None = None,
    low: float | None = None,
    width: int = 190,
) -> Picture:
    """Maps seen through viewports, on one colour scale, without axes.

    Args:
        views: title to ``(h, w)`` values.
        camera: longitude, latitude and field of view of square views, degrees; white marks at
            the border then point along the cube's edges, and each face has its letter.
        low: if given, the values are errors: their sizes in cividis, logarithmic from here up.
        width: smallest width of one on the page, pixels.
    """
    from matplotlib import pyplot
    from matplotlib.colors import LogNorm, Normalize

    arrays = {name: torch.as_tensor(v).detach().cpu().numpy() for name, v in views.items()}
    top = max(float(np.abs(v).max()) for v in arrays.values())
    scale = Normalize(0, top) if low is None else LogNorm(low, top)
    panels = []
    for name, value in arrays.items():
        shown = value if low is None else np.maximum(np.abs(value), low)
        tall = 4.4 if low is None else 5.1  # room for a colour bar
        figure, axis = pyplot.subplots(figsize=(4, tall), layout="constrained")
        drawn = axis.imshow(
            shown, norm=scale, cmap="viridis" if low is None else "cividis", extent=(-1, 1, -1, 1)
        )
        axis.set_axis_off()
        if camera:
            _mark_edges(axis, view_page(*camera))
        if low is None:
            step = max(float(np.abs(np.diff(value, axis=k)).max()) for k in (0, 1))
            told = f"peak {value.max():.3g}, largest step {step / value.max():.1%} of it"
            alt, title = f"View of {name}: {told}", name
        else:
            bar = figure.colorbar(drawn, ax=axis, orientation="horizontal", pad=0.05, shrink=0.9)
            bar.set_label("absolute error", color=INK, fontsize=12)
            bar.ax.tick_params(colors=INK, which="both", labelsize=12)
            bar.outline.set_visible(False)
            title = f"{name}: up to {shown.max():.1e}"
            alt = f"View of the errors, {title}, on average {np.abs(value).mean():.1e}"
        axis.set_title(title, color=INK, fontsize=14)
        panels.append((figure, alt))
    return Picture(panels, width)


def _mark_edges(axis: Any, page: Page) -> None:
    """Where the cube's edges leave a view, and the letter of each face that is seen."""
    edges = _cube_edges(page)
    outer = np.where(np.abs(edges).max(-1, keepdims=True) > 0.84, edges, np.nan)
    axis.plot(*outer.T, color="white", lw=2.5)
    axis.set_xlim(-1, 1)
    axis.set_ylim(-1, 1)
    for face, x, y in _faces_seen(page):
        axis.text(x, y, face, color="white", fontsize=15, ha="center", va="center", bbox=_BOX)


def _faces_seen(page: Page, aside: float = 0.0) -> Iterator[tuple[str, float, float]]:
    """Letter of each face in a view, and a place for it: far out, in the middle of that side.

    Args:
        aside: this far along the border from the middle, where the face is wide enough.
    """
    _, axes = next(page._planes())
    reach = math.tan(math.radians(page.camera[2] / 2))

    def owners(across: Any, up: Any) -> NDArray[np.int64]:
        seen = np.stack((across * reach, -up * reach, np.ones_like(up)), -1)
        return np.asarray(cube_pixel(torch.as_tensor(seen @ axes.T), 1)[0])

    across, up = np.meshgrid(np.linspace(-0.88, 0.88, 45), np.linspace(-0.88, 0.88, 45))
    owner = owners(across, up)
    for face in np.unique(owner):
        own = owner == face
        x, y = across[own].mean(), up[own].mean()
        if max(abs(x), abs(y)) < 0.15:  # the face straight ahead: its upper left corner
            best = np.argmin((across - up)[own])
            yield FACES[face], across[own][best] + 0.02, up[own][best] - 0.02
            continue
        x, y = np.array([x, y]) * (0.82 / max(abs(x), abs(y)))
        moved = (x + aside, y) if abs(y) > abs(x) else (x, y + aside)
        fits = max(map(abs, moved)) < 0.9 and owners(*np.array(moved)) == face
        yield FACES[face], *(moved if fits else (x, y))


def tissot(
    radius_deg: float = 9.0,
    step_deg: float = 30.0,
    camera: tuple[float, float, float] = (0.0, 0.0, 120.0),
) -> Picture:
    """Equal discs of the sphere on four pages: panorama, cube, equi-angular cube, viewport.

    Args:
        radius_deg: of every disc. step_deg: between their centres, in latitude and longitude.
        camera: longitude, latitude and field of view of the viewport, degrees.
    """
    pages = (panorama_page(), net_page(), net_page(equiangular=True), view_page(*camera))
    centres = _lattice(step_deg)
    panels = []
    for page in pages:
        figure, axis = _paper(page)
        areas = []
        for centre in centres:
            pieces = page.disc(centre, math.radians(radius_deg))
            areas.append(sum(_area(piece) for piece in pieces))
            for piece in pieces:
                axis.fill(*piece.T, fc=CYCLE[4], ec="none", alpha=0.9, lw=0)
        if page.kind == "view":
            told = f", {sum(area > 0 for area in areas)} of them at least partly inside"
        else:
            told = f", the largest drawn {max(areas) / min(areas):.1f} times the smallest"
        alt = f"{len(centres)} discs of {radius_deg:g} degrees on the {page.name}{told}"
        panels.append((figure, alt))
    return Picture(panels, width=280)


def paths(
    named: Mapping[str, Any], camera: tuple[float, float, float] = (0.0, 0.0, 120.0)
) -> Picture:
    """Paths on the sphere, drawn on the panorama, on the net and in a viewport.

    Where the net is cut, both ends carry the same number outside their faces, in the order of
    the path.

    Args:
        named: name to ``(n, 3)`` directions, dense enough for a curve.
        camera: longitude, latitude and field of view of the viewport, degrees.
    """
    panels = []
    for page in (panorama_page(), net_page(), view_page(*camera)):
        figure, axis = _paper(page)
        for k, (name, xyz) in enumerate(named.items()):
            way = torch.as_tensor(xyz, dtype=torch.float64)
            colour, dashes = _WAYS[k % len(_WAYS)]
            axis.plot(*page.line(way).T, label=name, color=colour, lw=3, ls=dashes)
            if page.kind == "net":
                _number_cuts(axis, page, way, colour)
        if page.kind == "net":
            axis.set_title("cube (equal numbers: the same point)", color=INK, fontsize=13)
        figure.legend(frameon=False, labelcolor=INK, fontsize=12, loc="outside lower center",
                      ncols=2, handlelength=2.8)  # fmt: skip
        told = "; ".join(f"{name}, {_told(xyz)}" for name, xyz in named.items())
        panels.append((figure, f"Paths on the {page.name}: {told}"))
    return Picture(panels, width=280)


_WAYS = ((CYCLE[1], "-"), (CYCLE[2], "--"), (CYCLE[3], "-."), (CYCLE[4], ":"))


def _number_cuts(axis: Any, page: Page, way: torch.Tensor, colour: str) -> None:
    owner = cube_pixel(way, 1)[0].numpy()
    planes = dict(page._planes())
    apart = 0
    for k in np.flatnonzero(owner[1:] != owner[:-1]):
        ends, outside = [], []
        for face, point in ((owner[k], way[k]), (owner[k + 1], way[k + 1])):
            name = FACES[face]
            flat = page._flat(point.numpy()[None], planes[name])
            side = np.abs(flat) == np.abs(flat).max()
            ends.append(page._laid(flat, name)[0])
            outside.append(page._laid(flat + 0.18 * side * np.sign(flat), name)[0])
        if float(np.abs(ends[0] - ends[1]).max()) < 0.1:
            continue  # neighbours on the net as well
        apart += 1
        for place in outside:
            box = {"boxstyle": "circle,pad=0.12", "fc": colour, "ec": "none"}
            axis.text(*place, str(apart), color="white", fontsize=8, bbox=box, zorder=5,
                      ha="center", va="center")  # fmt: skip


def projection_comparator(
    radius_deg: float = 12.0, camera: tuple[float, float, float] = (45.0, 35.0, 120.0)
) -> Plot:
    """One disc that travels over panorama, cube and viewport at once; a slider moves it.

    It goes from the zenith down the meridian of a cube's corner to the equator, then along the
    equator to the seam. Each page tells how large and how long it draws a small disc there.

    Args:
        radius_deg: of the disc. camera: of the viewport: longitude, latitude, field of view.
    """
    import plotly.graph_objects as go

    pages = (panorama_page(), net_page(), view_page(*camera))
    stops = [(45.0, float(lat)) for lat in range(90, -1, -5)]
    stops += [(lon, 0.0) for lon in np.arange(52.5, 181, 7.5)]
    start = 0
    axes = [("x", "y"), ("x2", "y2"), ("x3", "y3")]
    tall = 541  # pixels, without the margins; where the maps begin and end, from above
    rows = ((104, 279), (343, 538), (343, 538))
    columns = ((0.11, 0.97), (0.0, 0.57), (0.63, 1.0))

    def drawn(k: int) -> list[Any]:
        lon, lat = stops[k]
        centre = lonlat_to_xyz(math.radians(lon), math.radians(lat))
        traces = []
        for page, (x, y) in zip(pages, axes, strict=True):
            points = _chain(page.disc(centre, math.radians(radius_deg)))
            traces.append(
                go.Scatter(
                    x=_short(points[:, 0]), y=_short(points[:, 1]), xaxis=x, yaxis=y, mode="lines",
                    fill="toself", fillcolor=CYCLE[1], line={"width": 0}, hoverinfo="skip",
                )
            )  # fmt: skip
        traces.append(
            go.Scatter(
                x=[sum(c) / 2 for c in columns], y=[1 - (r[0] - 2) / tall for r in rows],
                xaxis="x4", yaxis="y4", mode="text", textposition="top center",
                text=[_label(page, centre, radius_deg, short=True) for page in pages],
                textfont={"color": INK, "size": 12}, hoverinfo="skip", cliponaxis=False,
            )
        )  # fmt: skip
        return traces

    still = []
    for page, (x, y) in zip(pages, axes, strict=True):
        pieces = [p for c in _lattice(30.0) for p in page.disc(c, math.radians(radius_deg * 0.7))]
        discs, net, cube = _chain(pieces), _graticule(page), _cube_edges(page)
        still.append(
            go.Scatter(x=_short(discs[:, 0]), y=_short(discs[:, 1]), xaxis=x, yaxis=y, mode="lines",
                       fill="toself", fillcolor=CYCLE[5], opacity=0.4, line={"width": 0},
                       hoverinfo="skip")
        )  # fmt: skip
        for curve, colour, width in ((net, INK, 0.6), (cube, CYCLE[0], 2)):
            still.append(
                go.Scatter(x=_short(curve[:, 0]), y=_short(curve[:, 1]), xaxis=x, yaxis=y,
                           mode="lines", hoverinfo="skip", connectgaps=False,
                           line={"color": colour, "width": width})
            )  # fmt: skip
    figure = go.Figure(data=[*still, *drawn(start)])
    moving = list(range(len(still), len(still) + 4))
    figure.frames = [go.Frame(data=drawn(k), name=str(k), traces=moving) for k in range(len(stops))]
    for face, (right, down) in _PLACE.items():
        figure.add_annotation(
            x=right, y=2 - down, xref="x2", yref="y2", xanchor="left", yanchor="bottom",
            text=face, showarrow=False, bgcolor=_SHADE, borderpad=0,
            font={"color": "white", "size": 11},
        )  # fmt: skip
    steps = [
        (f"disc at longitude {lon:g}\u00b0, latitude {lat:g}\u00b0", str(k))
        for k, (lon, lat) in enumerate(stops)
    ]
    layout: dict[str, Any] = {"showlegend": False, **degree_axes()}
    for n, (page, row, column) in enumerate(zip(pages, rows, columns, strict=True)):
        x, y = (letter + "axis" + (str(n + 1) if n else "") for letter in "xy")
        across, along = ("x" + str(n + 1), "y" + str(n + 1)) if n else ("x", "y")
        plain = {"showgrid": False, "zeroline": False, "fixedrange": True, "constrain": "domain",
                 "showticklabels": n == 0, "mirror": True, "showline": n != 1,
                 "linecolor": INK}  # fmt: skip
        rim = 0.02 if n == 1 else 0.0  # whole lines around the net
        low, high, bottom, top = page.box
        layout[x] = {**layout.get(x, {}), **plain, "range": [low - rim, high + rim],
                     "anchor": along, "domain": column}  # fmt: skip
        layout[y] = {**layout.get(y, {}), **plain, "range": [bottom - rim, top + rim],
                     "anchor": across, "domain": [1 - row[1] / tall, 1 - row[0] / tall],
                     "scaleanchor": across, "constraintoward": "top"}  # fmt: skip
    for axis, other in ("xy", "yx"):
        layout[axis + "axis4"] = {"range": [0, 1], "domain": [0, 1], "visible": False,
                                  "fixedrange": True, "anchor": other + "4"}  # fmt: skip
    figure.update_layout(**layout)
    slider(figure, steps, start, 0)
    value = {"font": {"color": INK, "size": 13}}
    figure.layout.sliders[0].update(y=1, yanchor="top", currentvalue=value, font={"size": 1})
    lon, lat = stops[start]
    here = lonlat_to_xyz(math.radians(lon), math.radians(lat))
    told = "; ".join(_label(page, here, radius_deg) for page in pages)
    alt = (
        f"A disc of {radius_deg:g} degrees on a panorama, a cube's net and a viewport. A slider "
        f"moves it from the zenith to the equator and to the seam; at longitude {lon:g}, latitude "
        f"{lat:g} degrees: {told}"
    )
    plot = Plot(figure, alt, height=tall + 16)
    figure.update_layout(margin={"t": 8})
    return plot


def _label(page: Page, centre: torch.Tensor, radius_deg: float, short: bool = False) -> str:
    """What a page does to a small disc; short: lines for a narrow column,
    four of them for the view's, which is the narrowest."""
    name, end = page.name, "" if short else " : 1"
    if page.kind == "view" and short:
        name = "viewport {2:.0f}\u00b0<br>at ({0:.0f}, {1:.0f})".format(*page.camera)
    told = "outside"
    if page.kind != "view" or page.disc(centre, math.radians(radius_deg)):
        area, ratio = (f"{v:.2f}" if v < 100 else "\u221e" for v in page.stretch(centre))
        parts = "<br>" if page.kind == "view" and short else ", "
        told = f"area \u00d7 {area}{parts}shape {ratio}{end}"
    return f"{name}<br>{told}" if short else f"{name}: {told}"


def _told(xyz: Any) -> str:
    way = torch.as_tensor(xyz, dtype=torch.float64)
    length = math.degrees(float(angle_between(way[1:], way[:-1]).sum()))
    order = cube_pixel(way, 1)[0].tolist()
    faces = "".join(FACES[f] for k, f in enumerate(order) if k == 0 or f != order[k - 1])
    return f"{length:.0f} degrees long over the faces {faces}"


def _lattice(step_deg: float) -> list[torch.Tensor]:
    """Both poles and a grid, on which every second column is left out near the poles."""
    places = [(0.0, 90.0), (0.0, -90.0)]
    for lat in np.arange(-90 + step_deg, 90 - step_deg / 2, step_deg):
        wide = step_deg if abs(lat) < 50 else 2 * step_deg
        places += [(lon, lat) for lon in np.arange(-180, 180 - wide / 2, wide)]
    return [lonlat_to_xyz(math.radians(lon), math.radians(lat)) for lon, lat in places]


def _on_panorama(edge: torch.Tensor, centre: torch.Tensor, radius: float) -> list[Points]:
    """A disc in degrees: cut at the seam by drawing it again a turn away, closed over a pole."""
    lon, lat = (np.degrees(v.numpy()) for v in xyz_to_lonlat(edge))
    lon = np.degrees(np.unwrap(np.radians(lon)))
    outline = np.stack((lon, lat), -1)
    for pole in (90.0, -90.0):
        top = lonlat_to_xyz(0.0, math.radians(pole))
        if float(angle_between(centre, top)) < radius:
            order = np.argsort(np.mod(lon + 180, 360))
            around = np.mod(lon[order] + 180, 360) - 180
            level = np.interp(180, [around[-1], around[0] + 360], [lat[order][-1], lat[order][0]])
            whole = np.stack((around, lat[order]), -1)
            corners = [[180, level], [180, pole], [-180, pole], [-180, level]]
            return [np.concatenate((whole, corners))]
    copies = (outline + np.array([turn, 0.0]) for turn in (-360.0, 0.0, 360.0))
    cut = (_clipped(copy / [180, 90]) * [180, 90] for copy in copies)
    return [piece for piece in cut if len(piece)]


def _clipped(outline: Points) -> Points:
    """The part of a convex outline inside the square -1..1 (Sutherland and Hodgman)."""
    points = outline
    for axis in (0, 1):
        for side in (-1.0, 1.0):
            if not len(points):
                return points
            before = np.roll(points, 1, axis=0)
            inside, was = side * points[:, axis] <= 1, side * before[:, axis] <= 1
            kept = []
            for p, q, now, then in zip(points, before, inside, was, strict=True):
                if now != then:
                    kept.append(q + (side - q[axis]) / (p[axis] - q[axis]) * (p - q))
                if now:
                    kept.append(p)
            points = np.array(kept).reshape(-1, 2)
    return points


def _area(outline: Points) -> float:
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _chain(pieces: list[Points]) -> Points:
    closed = [part for p in pieces for part in (p, p[:1], _GAP)]
    return np.concatenate(closed) if closed else _GAP


def _with_gaps(points: Points, cuts: NDArray[np.bool_]) -> Points:
    return np.insert(points, np.flatnonzero(cuts) + 1, np.nan, axis=0)


def _graticule(page: Page) -> Points:
    """Meridians and parallels every 30 degrees."""
    turn, rise = np.linspace(-np.pi, np.pi, 145), np.linspace(-np.pi / 2, np.pi / 2, 73)
    lines = [lonlat_to_xyz(math.radians(lon), rise) for lon in range(-180, 180, 30)]
    lines += [lonlat_to_xyz(turn, math.radians(lat)) for lat in (-60, -30, 0, 30, 60)]
    return np.concatenate([part for line in lines for part in (page.line(line), _GAP)])


def _cube_edges(page: Page) -> Points:
    if page.kind == "net":
        box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], float)
        return np.concatenate([p for f in FACES for p in (page._laid(box, f), _GAP)])
    way, parts = torch.linspace(0, 1, 60, dtype=torch.float64), []
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    for i, a in enumerate(corners):
        for b in corners[i + 1 :]:
            if int((a != b).sum()) == 1:
                parts += [page.line(slerp(a, b, way)), _GAP]
    return np.concatenate(parts)


def _paper(page: Page) -> tuple[Any, Any]:
    from matplotlib import pyplot

    left, right, bottom, top = page.box
    aspect = (top - bottom) / (right - left)
    figure, axis = pyplot.subplots(figsize=(4.8, 4.8 * aspect + 0.4), layout="constrained")
    axis.plot(*_graticule(page).T, color=INK, lw=0.4, alpha=0.6)
    whole = page.kind != "net"  # a net's outer edges are not cut in half by its border
    axis.plot(*_cube_edges(page).T, color=CYCLE[0], lw=1.2, alpha=0.9, clip_on=whole)
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
    axis.set_aspect("equal")
    axis.set_title(page.name, color=INK, fontsize=13)
    if page.kind == "panorama":
        axis.set_xticks(range(-180, 181, 90))
        axis.set_yticks(range(-90, 91, 45))
        axis.set_xlabel("longitude (degrees)", color=INK)
        axis.set_ylabel("latitude (degrees)", color=INK)
        axis.tick_params(colors=INK)
    else:
        axis.set_xticks([])
        axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(INK)
        spine.set_visible(page.kind != "net")
    box = {**_BOX, "boxstyle": "round,pad=0.1"}
    written: dict[str, Any] = {"color": "white", "fontsize": 10, "bbox": box, "zorder": 6}
    if page.kind == "net":
        for face, (x, down) in _PLACE.items():
            axis.text(x + 0.035, 2.035 - down, face, ha="left", va="bottom", **written)
    if page.kind == "view":
        for face, across, up in _faces_seen(page, aside=0.32):
            axis.text(across, up, face, ha="center", va="center", **written)
    return figure, axis


def _short(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)  # half the bytes on the page
