"""Still pictures: panoramas with degrees on their axes, maps, views."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.show import INK, Picture

_BOX = {"boxstyle": "round,pad=0.2", "fc": "black", "ec": "none", "alpha": 0.6}


def panorama(
    image: Any, title: str = "", points: dict[str, tuple[float, float]] | None = None
) -> Picture:
    """An equirectangular image with longitude and latitude in degrees.

    Args:
        image: ``(H, W, 3)`` or ``(3, H, W)``, uint8 or floating in [0, 1].
        points: name to (lon, lat) in degrees; marked and named.
    """
    figure, axis = _axes(5.6)
    axis.imshow(
        read_rgb(image), extent=(-180, 180, -90, 90), aspect="equal", interpolation="bilinear"
    )
    for name, (lon, lat) in (points or {}).items():
        axis.plot(lon, lat, "o", mfc="none", mec="white", mew=2.2, ms=11)
        axis.plot(lon, lat, "o", mfc="none", mec="black", mew=1, ms=13)
        place = {"xytext": (8, 8), "textcoords": "offset points"}
        axis.annotate(name, (lon, lat), **place, color="white", fontsize=11, bbox=_BOX)
    _degrees(axis, title)
    marks = "; ".join(f"{n} at {x:.0f}, {y:.0f} degrees" for n, (x, y) in (points or {}).items())
    alt = f"Panorama {title}".strip() + (f" with {marks}" if marks else "")
    return Picture([(figure, alt)])


def maps(values: dict[str, Any], unit: str = "density (1/sr)", shared: bool = True) -> Picture:
    """Maps side by side (viridis), with degrees on their axes.

    Args:
        values: title to ``(H, W)`` map.
        unit: what the colours mean.
        shared: one colour scale for all; else each its own.
    """
    arrays = {name: np.asarray(_cpu(d), dtype=float) for name, d in values.items()}
    top = max(float(v.max()) for v in arrays.values())
    panels = []
    for name, value in arrays.items():
        top = top if shared else float(value.max())
        figure, axis = _axes(4.6)
        shown = axis.imshow(value, extent=(-180, 180, -90, 90), vmin=0, vmax=top, cmap="viridis")
        _degrees(axis, name)
        bar = figure.colorbar(shown, ax=axis, shrink=0.62, pad=0.02)
        bar.set_label(unit, color=INK)
        bar.ax.tick_params(colors=INK)
        bar.outline.set_visible(False)
        i, j = np.unravel_index(int(value.argmax()), value.shape)
        lon = ((j + 0.5) / value.shape[1] - 0.5) * 360
        lat = (0.5 - (i + 0.5) / value.shape[0]) * 180
        peak = f"peak {value.max():.3g} {unit} at longitude {lon:.0f}, latitude {lat:.0f} degrees"
        panels.append((figure, f"Map of {name}: {peak}"))
    return Picture(panels)


def views(
    images: dict[str, Any],
    width: int = 180,
    alts: dict[str, str] | None = None,
    points: dict[str, dict[str, tuple[float, float]]] | None = None,
) -> Picture:
    """Perspective views (or any pictures) side by side, with titles and without axes.

    Args:
        images: title to ``(H, W, 3)`` or ``(3, H, W)`` picture, uint8 or floating in [0, 1].
        width: smallest width of one on the page, pixels.
        alts: title to what a picture shows, for those who do not see it.
        points: title to places to mark: name to (right, down) of the middle, in halves of the
            picture's width.
    """
    panels = []
    for name, image in images.items():
        picture = read_rgb(image)
        figure, axis = _axes(4.0, picture.shape[0] / picture.shape[1])
        axis.set_axis_off()
        axis.imshow(picture)
        axis.set_title(name, color=INK, fontsize=13)
        alt = (alts or {}).get(name)
        high, wide = picture.shape[:2]
        marked = (points or {}).get(name, {})
        for mark, (right, down) in marked.items():
            at = (wide * (1 + right) - 1) / 2, (high + wide * down - 1) / 2
            axis.plot(*at, "o", mfc="none", mec="white", mew=2.2, ms=9)
            axis.plot(*at, "o", mfc="none", mec="black", mew=1, ms=11)
            axis.annotate(mark, at, (9, 5), textcoords="offset points", color="white",
                          fontsize=13, bbox=_BOX)  # fmt: skip
        told = f", marked: {', '.join(marked)}" if marked else ""
        panels.append((figure, f"View: {name}" + (f", {alt}" if alt else "") + told))
    return Picture(panels, width)


def _axes(width: float, aspect: float = 0.5) -> tuple[Any, Any]:
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, width * aspect + 0.4), layout="constrained")


def _degrees(axis: Any, title: str) -> None:
    axis.set_title(title, color=INK, fontsize=11)
    axis.set_xticks(range(-180, 181, 90))
    axis.set_yticks(range(-90, 91, 45))
    axis.set_xlabel("longitude (degrees)", color=INK)
    axis.set_ylabel("latitude (degrees)", color=INK)
    axis.tick_params(colors=INK)
    for spine in axis.spines.values():
        spine.set_color(INK)


def _cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def read_rgb(image: Any) -> np.ndarray:
    """Anything picture-like to ``(H, W, 3)`` in what ``imshow`` takes."""
    value = torch.as_tensor(_cpu(image))
    value = value[0] if value.ndim == 4 and len(value) == 1 else value
    if value.ndim == 3 and value.shape[0] == 3 and value.shape[-1] != 3:
        value = value.permute(1, 2, 0)
    if value.ndim != 3 or value.shape[-1] not in (3, 4):
        raise ValueError(f"image: shape {tuple(value.shape)}, wanted (H, W, 3) or (3, H, W)")
    if not value.is_floating_point():
        return np.asarray(value)
    low, high = (float(v) for v in value.aminmax())
    if not (np.isfinite(low) and np.isfinite(high) and high < 2):  # 2: an overshoot is clipped
        raise ValueError(f"image: values {low:g} to {high:g}, wanted [0, 1], or uint8")
    return np.asarray(value.clamp(0, 1))
