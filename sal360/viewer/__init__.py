"""Looking around: a panorama, its saliency and the viewer's window, in one self-contained page.

A 360-degree picture on paper is a stretched rectangle; what a viewer sees is a window into it.
``viewer.js`` draws that window: for every screen pixel it builds a ray and looks it up in the
panorama, as chapter 04 does in NumPy. This module puts pictures into a page with that script.
Nothing is fetched from a network, neither here nor when the page is opened.

The two figures:

- :func:`view`: a picture or a video, with an optional saliency overlay (chapter 00);
- :func:`linked`: one direction as a pixel, a point of the unit sphere and a viewport (chapter 01).
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from sal360._files import write_whole
from sal360.mp4_spherical import begins_as_mp4

__all__ = ["COLORMAPS", "Viewer", "linked", "page", "view"]

COLORMAPS = ("viridis", "inferno", "cividis", "grey")
FOV_RANGE = (30.0, 120.0)  # degrees; the same limits as in viewer.js
_MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".mp4": "video/mp4",
}


@dataclass(frozen=True)
class Viewer:
    """A figure of ``viewer.js``: shows itself in a notebook, saves itself as a page.

    In a notebook (Jupyter, Colab, VS Code, Jupyter Book) it is an ``<iframe>`` that holds the
    whole page, so that the styles of page and figure do not meet.

    Attributes:
        options: what the script gets, pictures included as data URLs.
        figure: ``"mount"`` (the viewer) or ``"linked"`` (the linked figure).
        height: of the iframe, in CSS pixels. The linked figure then fits it to its content.
        title: read by screen readers, and the title of a saved page.
    """

    options: Mapping[str, Any] = field(repr=False)
    figure: str = "mount"
    height: int = 420
    title: str = "360-degree viewer"

    @property
    def html(self) -> str:
        """The self-contained page."""
        return page(self.options, self.title, figure=self.figure)

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" '
            f'loading="lazy" width="100%" height="{self.height}" '
            'style="display: block; width: 100%; border: 0"></iframe>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the page, pictures inside, and return its path; in one piece or not at all.

        Raises:
            FileNotFoundError: the folder does not exist. OSError: it cannot be written.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"path: no folder {path.parent} to write {path.name} into")
        write_whole(path, self.html.encode())
        return path


def view(
    source: Any,
    saliency: Any = None,
    *,
    stacked: bool = False,
    opacity: float = 0.6,
    colormap: str = "viridis",
    lon: float = 0.0,
    lat: float = 0.0,
    fov: float = 90.0,
    mode: str = "look",
    height: int = 420,
    caption: str = "",
    max_width: int = 2048,
    quality: int = 88,
) -> Viewer:
    """Look around in a panorama or a 360-degree video, with its saliency on top.

    >>> picture = np.zeros((3, 64, 128), dtype=np.float32)
    >>> view(picture, saliency=np.ones((8, 16)), lon=90)
    Viewer(figure='mount', height=420, title='360-degree viewer')

    Args:
        source: path of a jpg, png or mp4 (H.264 plays everywhere), or an RGB array or tensor
            ``(3, H, W)`` or ``(H, W, 3)``: uint8, or float in [0, 1]. Axes of length 1 in front
            are dropped.
        saliency: path of a grey jpg or png, or a map ``(H, W)`` on any non-negative scale, of any
            size: stored in 8 bits relative to its maximum, so only its shape is shown.
        stacked: the top half of ``source`` is the picture, the bottom half its grey saliency.
            One file, so a video and its saliency cannot drift apart.
        opacity: of the overlay where the saliency is high, in [0, 1]; it fades to 0 with it.
        colormap: one of :data:`COLORMAPS`.
        lon, lat: direction looked at first, in degrees (longitude to the right, latitude up).
        fov: horizontal field of view in degrees, 30 to 120.
        mode: ``"look"`` (perspective viewport) or ``"flat"`` (panorama and the viewport's outline).
        height: of the figure in a notebook, in CSS pixels, controls included.
        caption: plain text under the picture, also its description for screen readers.
        max_width: wider pictures are shrunk to this (area mean); videos are kept as they are.
        quality: of the JPEG an array or a shrunk picture is stored as, 1 to 100.
    Raises:
        FileNotFoundError: a path that does not exist.
        TypeError, ValueError: an argument of the wrong kind, shape or range.
    """
    _one_of("colormap", colormap, COLORMAPS)
    _one_of("mode", mode, ("look", "flat"))
    _between("opacity", opacity, 0, 1)
    options = _direction(lon, lat, fov) | {
        "mode": mode,
        "opacity": float(opacity),
        "colormap": colormap,
        "caption": _text("caption", caption),
        "height": "100%",
    }
    if stacked and saliency is not None:
        raise ValueError("saliency: found both a map and stacked=True, wanted one of them")
    options["source"], _ = _encode_picture("source", source, max_width, quality, video=True)
    options["kind"] = "video" if options["source"].startswith("data:video") else "image"
    if stacked:
        options["stacked"] = True
    if saliency is not None:
        options["saliency"] = _encode_saliency(saliency, max_width)
    return Viewer(options, "mount", _size("height", height), caption or "360-degree viewer")


def linked(
    image: Any,
    *,
    height_px: int | None = None,
    width_px: int | None = None,
    lon: float = 0.0,
    lat: float = 0.0,
    fov: float = 90.0,
    height: int = 420,
    caption: str = "",
    max_width: int = 2048,
    quality: int = 88,
) -> Viewer:
    """One direction in three linked pictures: panorama, unit sphere and viewport.

    The crosshair sits on pixel centres of a ``height_px`` by ``width_px`` panorama, the convention
    of :mod:`sal360.sphere`. A small size, such as 8 by 16, shows the pixels themselves.

    Args:
        image: as ``source`` of :func:`view`, without videos.
        height_px, width_px: size in pixels of the panorama that is counted; the image's own size
            when left out.
        lon, lat, fov, height, caption, max_width, quality: as in :func:`view`.
    Raises:
        FileNotFoundError, TypeError, ValueError: as in :func:`view`.
    """
    options = _direction(lon, lat, fov) | {"caption": _text("caption", caption)}
    options["source"], (own_height, own_width) = _encode_picture("image", image, max_width, quality)
    options["height_px"] = _size("height_px", own_height if height_px is None else height_px)
    options["width_px"] = _size("width_px", own_width if width_px is None else width_px)
    return Viewer(options, "linked", _size("height", height), caption or "Linked 360-degree figure")


def page(
    body_options: Mapping[str, Any], title: str = "360-degree viewer", *, figure: str = "mount"
) -> str:
    """A complete HTML page with ``viewer.js`` inside and one figure that fills it.

    Args:
        body_options: options of the script's ``mount`` or ``linked``, listed in ``viewer.js``;
            anything JSON can hold.
        title: plain text.
        figure: ``"mount"`` or ``"linked"``.
    Raises:
        TypeError: options that JSON cannot hold, or a title that is not text.
        ValueError: another figure, or a number that is not finite.
    """
    _one_of("figure", figure, ("mount", "linked"))
    try:
        text = json.dumps(dict(body_options), allow_nan=False)
    except TypeError as error:
        raise TypeError(f"body_options: found {error}, wanted what JSON can hold") from None
    except ValueError as error:
        raise ValueError(f"body_options: found {error}, wanted finite numbers") from None
    # Inside <script> only "<" can end or nest the element; JSON may write it as an escape.
    return _TEMPLATE.format(
        title=html.escape(_text("title", title)),
        script=_script(),
        figure=figure,
        fit=_FIT if figure == "linked" else "",
        options=text.replace("<", "\\u003c"),
    )


_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html, body, #figure {{ height: 100%; margin: 0 }}
body:has([data-theme=dark]) {{ background: #14181e }}
</style>
</head>
<body>
<div id="figure"></div>
<script>
{script}</script>
<script>
Sal360Viewer.{figure}(document.getElementById("figure"), {options});
{fit}</script>
</body>
</html>
"""
# The linked figure grows as its panels stack: the iframe follows, where it may be reached.
_FIT = """\
if (window.frameElement) new ResizeObserver(([entry]) => {
  window.frameElement.style.height = Math.ceil(entry.target.offsetHeight) + "px";
}).observe(document.querySelector(".sal360"));
"""


@cache
def _script() -> str:
    return (files(__name__) / "viewer.js").read_text(encoding="utf-8")


# ---- pictures -----------------------------------------------------------------------------


def _encode_picture(
    name: str, source: Any, max_width: int, quality: int, *, video: bool = False
) -> tuple[str, tuple[int, int]]:
    """Data URL of a picture or video, and the picture's own (height, width); (0, 0) for a video."""
    _size("max_width", max_width)
    _between("quality", quality, 1, 100)
    if not isinstance(source, str | Path):
        pixels = _rgb(name, source)
        return _jpeg(_shrunk(pixels, max_width), quality), (pixels.shape[0], pixels.shape[1])
    wanted = tuple(_MEDIA_TYPES) if video else tuple(_MEDIA_TYPES)[:-1]
    path = _existing(name, source, wanted)
    if path.suffix.lower() == ".mp4":
        raw = path.read_bytes()
        if not begins_as_mp4(BytesIO(raw)):
            raise ValueError(f"{name}: {path} is not a mp4 file, whatever its name says")
        return _data_url(_MEDIA_TYPES[".mp4"], raw), (0, 0)
    raw, pixels = _read_image(name, path)
    size = (pixels.shape[0], pixels.shape[1])
    if size[1] > max_width:
        return _jpeg(_shrunk(pixels, max_width), quality), size
    return _data_url(_MEDIA_TYPES[path.suffix.lower()], raw), size


def _encode_saliency(saliency: Any, max_width: int) -> str:
    """Data URL of a saliency map, in 8 bits relative to its maximum when it is an array."""
    import cv2

    if isinstance(saliency, str | Path):
        path = _existing("saliency", saliency, tuple(_MEDIA_TYPES)[:-1])
        raw, _ = _read_image("saliency", path)
        return _data_url(_MEDIA_TYPES[path.suffix.lower()], raw)
    values = _array("saliency", saliency, axes=2).astype(np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"saliency: found shape {values.shape}, wanted (H, W)")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(
            f"saliency: found values from {values.min():g} to {values.max():g}, "
            "wanted finite and not negative"
        )
    grey = np.rint(255 * values / (values.max() or 1)).astype(np.uint8)
    _, png = cv2.imencode(".png", _shrunk(grey, max_width))
    return _data_url("image/png", png.tobytes())


def _rgb(name: str, source: Any) -> np.ndarray:
    """(H, W, 3) uint8 from what :func:`view` accepts as a picture."""
    pixels = _array(name, source, axes=3)
    if pixels.ndim != 3 or 0 in pixels.shape or 3 not in (pixels.shape[0], pixels.shape[2]):
        raise ValueError(f"{name}: found shape {pixels.shape}, wanted (3, H, W) or (H, W, 3)")
    if pixels.shape[2] != 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"{name}: found dtype {pixels.dtype}, wanted uint8 or a float in [0, 1]")
    low, high = float(pixels.min()), float(pixels.max())
    # A resized picture may overshoot by rounding, never by half an 8-bit level.
    if not (low >= -0.002 and high <= 1.002):
        raise ValueError(f"{name}: found values from {low:g} to {high:g}, wanted floats in [0, 1]")
    return np.ascontiguousarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))


def _array(name: str, value: Any, axes: int) -> np.ndarray:
    """A NumPy array from an array or a tensor, leading axes of length 1 dropped."""
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray):
        found = type(value).__name__
        raise TypeError(f"{name}: found {found}, wanted a path, an array or a tensor")
    if value.dtype.kind not in "uif":
        raise TypeError(f"{name}: found dtype {value.dtype}, wanted integers or floats")
    while value.ndim > axes and value.shape[0] == 1:
        value = value[0]
    return value


def _shrunk(pixels: np.ndarray, max_width: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if width <= max_width:
        return pixels
    import cv2

    # An even height keeps the two halves of a stacked picture equal.
    rows = max(2, 2 * round(height * max_width / width / 2))
    return cv2.resize(pixels, (max_width, rows), interpolation=cv2.INTER_AREA)


def _read_image(name: str, path: Path) -> tuple[bytes, np.ndarray]:
    """The file's bytes, and its pixels (H, W, 3) RGB."""
    import cv2

    raw = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
    if pixels is None:
        raise ValueError(f"{name}: found a file that is not a picture, {path}, wanted jpg or png")
    return raw, pixels[:, :, ::-1]


def _jpeg(pixels: np.ndarray, quality: int) -> str:
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    _, jpeg = cv2.imencode(".jpg", pixels[:, :, ::-1], options)
    return _data_url("image/jpeg", jpeg.tobytes())


def _data_url(media_type: str, raw: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(raw).decode('ascii')}"


# ---- arguments ----------------------------------------------------------------------------


def _existing(name: str, value: str | Path, suffixes: tuple[str, ...]) -> Path:
    path = Path(value)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{name}: found {path}, wanted a file ending in {', '.join(suffixes)}")
    if not path.is_file():
        raise FileNotFoundError(f"{name}: no file {path}")
    return path


def _direction(lon: float, lat: float, fov: float) -> dict[str, Any]:
    _between("lon", lon, -360, 360)
    _between("lat", lat, -90, 90)
    _between("fov", fov, *FOV_RANGE)
    return {"lon": float(lon), "lat": float(lat), "fov": float(fov)}


def _between(name: str, value: Any, low: float, high: float) -> None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: found {value!r}, wanted a number") from None
    if not (isfinite(number) and low <= number <= high):
        raise ValueError(f"{name}: found {value!r}, wanted {low:g} to {high:g}")


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: found {value!r}, wanted a whole number of pixels")
    if value < 1:
        raise ValueError(f"{name}: found {value}, wanted at least 1 pixel")
    return int(value)


def _one_of(name: str, value: Any, wanted: tuple[str, ...]) -> None:
    if value not in wanted:
        raise ValueError(f"{name}: found {value!r}, wanted one of {', '.join(wanted)}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: found {type(value).__name__}, wanted text")
    return value
