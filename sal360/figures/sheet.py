"""Many small pictures with their names: a contact sheet, light enough for a page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sal360.figures.pictures import read_rgb


class Sheet:
    """Pictures as JPEG in a grid that folds on a phone, each with a name and an alt text.

    Args:
        pictures: name to ``(H, W, 3)`` or ``(3, H, W)`` picture, or ``(H, W)`` grey; uint8, or
            floating in [0, 1].
        alts: name to alt text; the name where there is none.
        width: smallest width of one, pixels.
    """

    def __init__(
        self, pictures: Mapping[str, Any], alts: Mapping[str, str] | None = None, width: int = 220
    ) -> None:
        import cv2

        self.pictures: dict[str, tuple[str, bytes]] = {}
        self._width = width
        for name, value in pictures.items():
            rgb = _bytes(value)
            ok, jpeg = cv2.imencode(
                ".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88]
            )
            if not ok:
                raise ValueError(f"pictures[{name!r}]: cannot be encoded")
            self.pictures[name] = ((alts or {}).get(name, name), jpeg.tobytes())

    @property
    def alt(self) -> str:
        """What the pictures show, in words."""
        return "; ".join(alt for alt, _ in self.pictures.values())

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<figure style="margin:0"><img alt="{html.escape(alt, quote=True)}" '
            'style="width:100%;height:auto;display:block" '
            f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
            f'<figcaption style="font-size:.9em">{html.escape(name)}</figcaption></figure>'
            for name, (alt, jpeg) in self.pictures.items()
        )
        columns = f"repeat(auto-fit,minmax(min(100%,{self._width}px),1fr))"
        return (
            f'<div class="sal360" style="display:grid;gap:8px;grid-template-columns:{columns}">'
            f"{figures}</div>"
        )

    def __repr__(self) -> str:
        return f"<Sheet: {self.alt}>"


def _bytes(value: Any) -> np.ndarray:
    """``(H, W, 3)`` uint8."""
    grey = torch.as_tensor(value)
    rgb = read_rgb(grey[..., None].expand(-1, -1, 3) if grey.ndim == 2 else value)
    return rgb if rgb.dtype == np.uint8 else (rgb * 255).round().astype(np.uint8)
