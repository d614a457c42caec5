"""Many small pictures with their names: a contact sheet, light enough for a page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


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
            rgb = _bytes(name, value)
            ok, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
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


def _bytes(name: str, value: Any) -> np.ndarray:
    """``(H, W, 3)`` uint8."""
    array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, -1)
    elif array.ndim == 3 and array.shape[0] == 3 != array.shape[2]:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"pictures[{name!r}]: shape {array.shape}, wanted (H, W, 3) or (3, H, W)")
    if array.dtype != np.uint8:
        array = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(array)
