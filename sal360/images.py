"""Still panoramas: read and write 8-bit pictures, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sal360._files import write_whole

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 RGB, turned as its EXIF data says.

    Raises:
        FileNotFoundError: no such file. ValueError: not a picture, with the path.
    """
    import cv2

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ValueError(f"{path}: cannot be decoded ({error.err})") from None
    if bgr is None:
        raise ValueError(f"{path}: not a picture that can be decoded")
    return np.ascontiguousarray(bgr[..., ::-1])


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write ``(H, W)`` grey or ``(H, W, 3)`` RGB, in one piece; the suffix chooses the format.

    Raises:
        OSError: the file cannot be written, with the path. ValueError: an unknown suffix.
    """
    import cv2

    path = Path(path)
    data = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    try:
        ok, encoded = cv2.imencode(path.suffix, data)
    except cv2.error:
        told = f"no picture format has the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ValueError(f"{path}: {told}, wanted .png or .jpg") from None
    if not ok:
        raise OSError(f"{path}: cannot be encoded")
    write_whole(path, encoded.tobytes(), sync=False)
