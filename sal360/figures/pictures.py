"""Still pictures: panoramas with degrees on their axes, maps, views."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sal360.figures.show import INK, Picture


def panorama(
    image: Any, title: str = "", points: dict[str, tuple[float, float]] | None = None
) -> Picture:
    """An equirectangular image with longitude and latitude in degrees.

    Args:
        image: ``(H, W, 3)`` uint8 or ``(3, H, W)`` floating.
        points: name to (lon, lat) in degrees; marked and named.
    """
    figure, axes = _axes(1, 1)
    axis = axes[0, 0]
    axis.imshow(_rgb(image), extent=(-180, 180, -90, 90), aspect="equal", interpolation="bilinear")
    for name, (lon, lat) in (points or {}).items():
        axis.plot(lon, lat, "o", mfc="none", mec="white", mew=2.2, ms=11)
        axis.plot(lon, lat, "o", mfc="none", mec="black", mew=1, ms=13)
        axis.annotate(
            name, (lon, lat), (8, 8), textcoords="offset points", color="white", fontsize=11,
            bbox={"boxstyle": "round,pad=0.2", "fc": "black", "ec": "none", "alpha": 0.6},
        )  # fmt: skip
    _degrees(axis, title, bottom=True)
    marks = "; ".join(f"{n} at {x:.0f}, {y:.0f} degrees" for n, (x, y) in (points or {}).items())
    return Picture(figure, f"Panorama {title}".strip() + (f" with {marks}" if marks else ""))


def maps(densities: dict[str, Any], columns: int = 2) -> Picture:
    """Densities side by side on one colour scale (per steradian, viridis).

    Args:
        densities: title to ``(H, W)`` density.
    """
    values = {name: np.asarray(_cpu(d), dtype=float) for name, d in densities.items()}
    top = max(float(v.max()) for v in values.values())
    rows = -(-len(values) // columns)
    figure, axes = _axes(rows, min(columns, len(values)))
    drawn = None
    for k, (name, value) in enumerate(values.items()):
        axis = axes[k // columns, k % columns]
        drawn = axis.imshow(value, extent=(-180, 180, -90, 90), vmin=0, vmax=top, cmap="viridis")
        _degrees(axis, name, bottom=k // columns == rows - 1, left=k % columns == 0)
    for axis in axes.ravel()[len(values) :]:
        axis.set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("density (1/sr)", color=INK)
    bar.ax.tick_params(colors=INK)
    bar.outline.set_visible(False)
    peaks = []
    for name, value in values.items():
        i, j = np.unravel_index(int(value.argmax()), value.shape)
        lon, lat = (
            ((j + 0.5) / value.shape[1] - 0.5) * 360,
            (0.5 - (i + 0.5) / value.shape[0]) * 180,
        )
        peaks.append(
            f"{name}: peak {value.max():.2f} per steradian at {lon:.0f}, {lat:.0f} degrees"
        )
    return Picture(figure, "Maps of density. " + "; ".join(peaks))


def views(images: dict[str, Any], columns: int = 2) -> Picture:
    """Perspective views (or any pictures) side by side, with titles and without axes.

    Args:
        images: title to ``(H, W, 3)`` uint8 or ``(3, H, W)`` floating.
    """
    rows = -(-len(images) // columns)
    pictures = {name: _rgb(image) for name, image in images.items()}
    height, width = next(iter(pictures.values())).shape[:2]
    figure, axes = _axes(rows, min(columns, len(images)), aspect=height / width)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, (name, picture) in zip(axes.ravel(), pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(name, color=INK, fontsize=11)
    return Picture(figure, "Pictures side by side: " + "; ".join(images))


def _axes(rows: int, columns: int, aspect: float = 0.5) -> tuple[Any, Any]:
    from matplotlib import pyplot

    width = 8.0
    size = (width, rows * (width / columns * aspect + 0.45))
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return figure, axes


def _degrees(axis: Any, title: str, bottom: bool = True, left: bool = True) -> None:
    axis.set_title(title, color=INK, fontsize=11)
    axis.set_xticks(range(-180, 181, 90))
    axis.set_yticks(range(-90, 91, 45))
    if bottom:
        axis.set_xlabel("longitude (degrees)", color=INK)
    if left:
        axis.set_ylabel("latitude (degrees)", color=INK)
    axis.tick_params(colors=INK, labelbottom=bottom, labelleft=left)
    for spine in axis.spines.values():
        spine.set_color(INK)


def _cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _rgb(image: Any) -> np.ndarray:
    """Anything picture-like to ``(H, W, 3)`` in what ``imshow`` takes."""
    value = torch.as_tensor(_cpu(image))
    value = value[0] if value.ndim == 4 else value
    if value.shape[0] == 3 and value.shape[-1] != 3:
        value = value.permute(1, 2, 0)
    return np.asarray(value.clamp(0, 1) if value.is_floating_point() else value)
