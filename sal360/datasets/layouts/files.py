"""Single files of a data set, each read whole or refused with one line that begins with its path.

A picture that was cut short is refused although decoders accept it: they fill the rest with grey.
Nothing here ever writes.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sal360.resampling import downsample_erp, sample_erp
from sal360.safe_arrays import read_npy
from sal360.sphere import erp_directions, pixel_area

MAX_PIXELS = 2**27
"""Largest picture that is decoded: 8192 x 16384."""


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: a folder, or empty.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError(f"{path}: a link that leads nowhere")
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        if not path.is_file():
            raise ValueError(f"{path}: not a file")
        data = path.read_bytes()
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(f"{path}: {error.strerror}") from None
    if not data:
        raise ValueError(f"{path}: empty")
    return data


def read_picture(path: Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` RGB; complete, and of the format that the suffix says.

    Raises:
        FileNotFoundError, OSError, ValueError: missing, unreadable, cut short, damaged, another
            format, too large; with the path.
    """
    import cv2

    return np.ascontiguousarray(_decoded(path, cv2.IMREAD_COLOR)[..., ::-1])


def read_grey(path: Path) -> NDArray[Any]:
    """``(H, W)`` of a grey picture, 8 or 16 bits as stored; its channels, if several, are alike.

    Raises:
        FileNotFoundError, OSError, ValueError: as :func:`read_picture`; a picture in colour.
    """
    import cv2

    image = _decoded(path, cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else grey_channel(image[..., :3], path)


def grey_channel(image: NDArray[Any], path: Path) -> NDArray[Any]:
    """One channel of a picture ``(H, W, C)`` whose channels are alike.

    Raises:
        ValueError: they are not; with the path.
    """
    if image.shape[2] >= 3:
        low, high = image[..., :3].min(2), image[..., :3].max(2)
        most = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else float(high.max())
        if float((high - low).max()) > most / 16:
            raise ValueError(f"{path}: a picture in colour, wanted a grey map")
    return np.ascontiguousarray(image[..., min(1, image.shape[2] - 1)])


def _decoded(path: Path, mode: int) -> NDArray[Any]:
    import cv2

    data = read_bytes(path)
    trouble = picture_trouble(data, path.suffix.lower())
    if trouble:
        raise ValueError(f"{path}: {trouble}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise ValueError(f"{path}: cannot be decoded ({error.err})") from None
    if image is None:
        raise ValueError(f"{path}: not a picture that can be decoded")
    return image


def picture_trouble(data: bytes, suffix: str) -> str | None:
    """What is wrong with the bytes of a PNG or JPEG picture, without decoding it."""
    png, jpeg = data[:8] == b"\x89PNG\r\n\x1a\n", data[:2] == b"\xff\xd8"
    if suffix == ".png":
        return _png_trouble(data) if png else f"not a PNG file{' but JPEG' if jpeg else ''}"
    if suffix in (".jpg", ".jpeg"):
        return _jpeg_trouble(data) if jpeg else f"not a JPEG file{' but PNG' if png else ''}"
    return None


def _png_trouble(data: bytes) -> str | None:
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, stop = data[at + 4 : at + 8], at + 8 + size
        if stop + 4 > len(data):
            break
        if zlib.crc32(data[at + 4 : stop]) != int.from_bytes(data[stop : stop + 4], "big"):
            return "damaged: a wrong checksum"
        if kind == b"IHDR":
            width, height = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (8, 12))
            if width * height > MAX_PIXELS:
                return f"{width} x {height} pixels, wanted at most {MAX_PIXELS} in all"
        if kind == b"IEND":
            return None
        at = stop + 4
    return "cut short"


def _jpeg_trouble(data: bytes) -> str | None:
    # In a scan 0xff is followed by 0 or a restart marker: an end marker after the last scan's
    # start is the end of the picture, and one that is missing means that the file was cut.
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xda" not in data:
        return "cut short"
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (5, 7))
            if width * height > MAX_PIXELS:
                return f"{width} x {height} pixels, wanted at most {MAX_PIXELS} in all"
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def picture_tensor(rgb: NDArray[np.uint8], size: tuple[int, int] | None) -> Tensor:
    """``(3, H, W)`` float32 in [0, 1]: areas averaged where it shrinks, as published code does."""
    import cv2

    if size is not None and size != rgb.shape[:2]:
        shrinks = size[0] <= rgb.shape[0] and size[1] <= rgb.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        rgb = cv2.resize(np.ascontiguousarray(rgb), size[::-1], interpolation=how)
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float() / 255


def read_map(path: Path) -> NDArray[np.float64]:
    """``(H, W)`` float64 of a map stored as ``.npy`` or as a grey picture; finite, not negative.

    Raises:
        FileNotFoundError, OSError, ValueError: missing, unreadable, no such map; with the path.
    """
    if path.suffix.lower() == ".npy":
        read_bytes_check(path)
        stored = read_npy(path)
    else:
        stored = read_grey(path)
    trouble = map_trouble(stored)
    if trouble:
        raise ValueError(f"{path}: {trouble}")
    return np.asarray(stored.reshape(stored.shape[-2:]), np.float64)


def read_bytes_check(path: Path) -> None:
    """The errors of :func:`read_bytes`, for a file that another reader is about to open."""
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path}: a link that leads nowhere")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path}: empty")


def map_trouble(stored: NDArray) -> str | None:
    """What keeps an array from being a map of saliency."""
    if stored.ndim not in (2, 3) or stored.shape[: stored.ndim - 2] not in ((), (1,)):
        return f"shape {stored.shape}, wanted (H, W) or (1, H, W)"
    if 0 in stored.shape:
        return f"shape {stored.shape}: holds nothing"
    if not np.isfinite(stored).all():
        return "holds NaN or infinite values"
    if stored.min() < 0:
        return f"holds negative values, down to {stored.min():g}"
    if not stored.max() > 0:
        return "all zero: no truth"
    return None


def density(values: NDArray[np.float64], size: tuple[int, int] | None) -> Tensor:
    """A stored map as a density ``(1, H, W)`` float32 of mass 1.

    Published maps are blobs drawn on the panorama with a height that does not depend on latitude,
    so their values are taken as a density per solid angle, known up to a factor.
    """
    image = torch.from_numpy(values)[None, None]
    if size is not None and size != tuple(image.shape[-2:]):
        if size[0] <= image.shape[-2] and size[1] <= image.shape[-1]:
            image = downsample_erp(image, *size)
        else:
            image = sample_erp(image, erp_directions(*size))
    image = image.clamp(min=0)
    area = pixel_area(*image.shape[-2:])[:, None]
    return (image / (image * area).sum()).float()[0]


def read_list(path: Path) -> list[str]:
    """Names in a text file, separated by commas or line ends, as often as they stand there.

    Raises:
        ValueError: not text. OSError: it cannot be read; with the path.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file") from None
    if "\0" in text:
        raise ValueError(f"{path}: not a text file")
    names = (name.strip() for name in re.split(r"[,\r\n]", text))
    return [name for name in names if name]


def read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of a table separated by commas, semicolons or tabs; no empty lines.

    Raises:
        ValueError: not text, with the path. OSError: it cannot be read.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file") from None
    if "\0" in text:
        raise ValueError(f"{path}: not a text file")
    first = text.lstrip().split("\n", 1)[0]
    comma = max(",;\t", key=first.count)
    try:
        for number, cells in enumerate(csv.reader(text.splitlines(), delimiter=comma), 1):
            cells = [cell.strip() for cell in cells]
            while cells and not cells[-1]:  # a comma at the end of the line
                cells.pop()
            if cells:
                yield number, cells
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from None


def is_plain(name: str) -> bool:
    """Whether a name from a file is that of something in a folder, and leads nowhere else."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; hidden files are left out.

    Raises:
        OSError: it cannot be listed, with the path.
    """
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise type(error)(f"{folder}: {error.strerror}") from None
