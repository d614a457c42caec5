"""The boxes that say "this mp4 is a sphere".

A mp4 file is a tree of boxes: four bytes of size, four of type, then a payload that may be more
boxes. Nothing in the pixels says that a picture is a panorama; players look for two boxes which
Google specified (github.com/google/spatial-media, ``docs/``):

* V1: a ``uuid`` box in ``moov/trak`` holding a little XML;
* V2: ``st3d`` (how two eyes are stacked) and ``sv3d`` (which projection), in the video's entry
  of ``moov/trak/mdia/minf/stbl/stsd``. Where both stand in a file, V2 wins.

This file reads and writes those boxes and knows nothing about frames. It reads headers only, so
neither a long video nor a lying size field can fill the memory.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

Stereo = Literal["mono", "tb", "sbs"]

_V1_UUID = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_V1_STEREO: dict[bytes, Stereo] = {b"mono": "mono", b"top-bottom": "tb", b"left-right": "sbs"}
# st3d's number. 4 is "right eye on the left": side by side all the same. 3 (a mesh per eye) has
# no layout of halves, and reads as None.
_V2_STEREO: dict[int, Stereo] = {0: "mono", 1: "tb", 2: "sbs", 4: "sbs"}
_V2_PROJECTION = {b"equi": "equirectangular", b"cbmp": "cubemap", b"mshp": "mesh"}

_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # what a mp4 or mov starts with
_SAMPLE_ENTRY_HEAD = 78  # bytes of a visual sample entry before its own boxes (ISO 14496-12)
_MAX_BOXES = 10_000  # in one container; real files have dozens, a hostile one may have millions
_MAX_XML = 1 << 16  # bytes of V1 metadata read; real ones have about 600
_MAX_MOOV = 1 << 28  # bytes of index rewritten in memory: ~20 per frame, so days of video
_COPY = 1 << 20  # bytes copied at a time
_STCO_LIMIT = 1 << 32  # a file longer than this needs 64-bit chunk offsets


@dataclass(frozen=True)
class SphericalInfo:
    """What the metadata claims.

    Attributes:
        projection: ``"equirectangular"``, ``"cropped-equirectangular"`` (part of the sphere, as in
            VR180), ``"cubemap"``, ``"mesh"``, or another name the file uses, lower case.
        stereo: ``"mono"``, ``"tb"`` (left eye on top), ``"sbs"`` (side by side); None if unsaid.
        source: which of the two specifications said so.
    """

    projection: str
    stereo: Stereo | None
    source: Literal["v1", "v2"]


@dataclass(frozen=True)
class _Box:
    kind: bytes
    head: int  # where the size field stands
    start: int  # where the payload starts
    end: int  # one past the payload


def _boxes(file: BinaryIO, start: int, end: int, *, strict: bool = False) -> Iterator[_Box]:
    """The boxes between two offsets; a box that runs past ``end`` is cut there, or refused."""
    at = start
    for _ in range(_MAX_BOXES):
        if end - at < 8:
            return
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        body = at + 8
        if size == 1 and end - at >= 16:
            size, body = int.from_bytes(file.read(8), "big"), at + 16
        elif size == 0:  # "to the end of the file"
            size = end - at
        if size < body - at or (strict and at + size > end):
            if strict:
                raise ValueError(
                    f"box {kind!r} at {at} claims {size} bytes of {end - at} (cut off?)"
                )
            return
        yield _Box(kind, at, body, min(at + size, end))
        at += size
    if strict:
        raise ValueError(f"more than {_MAX_BOXES} boxes in one container")


def _descend(file: BinaryIO, box: _Box, *path: bytes) -> _Box | None:
    """The first box reached by following a path of types down from ``box``."""
    for kind in path:
        found = next((b for b in _boxes(file, box.start, box.end) if b.kind == kind), None)
        if found is None:
            return None
        box = found
    return box


def _read(file: BinaryIO, box: _Box, most: int = _MAX_XML) -> bytes:
    file.seek(box.start)
    return file.read(min(box.end - box.start, most))


def _is_video(file: BinaryIO, trak: _Box) -> bool:
    handler = _descend(file, trak, b"mdia", b"hdlr")
    return handler is not None and _read(file, handler, 12)[8:12] == b"vide"


def read_spherical(path: str | os.PathLike[str]) -> SphericalInfo | None:
    """Read the spherical metadata of a mp4 or mov file.

    Args:
        path: any file. One that is cut, broken or no mp4 at all is not an error here.
    Returns:
        What the first video track with such metadata claims, or None if none claims anything.
    Raises:
        OSError: the file cannot be opened or read.
    """
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        for moov in _boxes(file, 0, end):
            if moov.kind != b"moov":
                continue
            for trak in _boxes(file, moov.start, moov.end):
                if trak.kind == b"trak" and _is_video(file, trak):
                    info = _read_v2(file, trak) or _read_v1(file, trak)
                    if info is not None:
                        return info
    return None


def _read_v2(file: BinaryIO, trak: _Box) -> SphericalInfo | None:
    stsd = _descend(file, trak, b"mdia", b"minf", b"stbl", b"stsd")
    if stsd is None:
        return None
    for entry in _boxes(file, stsd.start + 8, stsd.end):
        inside = _Box(entry.kind, entry.head, entry.start + _SAMPLE_ENTRY_HEAD, entry.end)
        proj = _descend(file, inside, b"sv3d", b"proj")
        if proj is None:
            continue
        projection = None
        for box in _boxes(file, proj.start, proj.end):
            if box.kind in _V2_PROJECTION:
                projection = _V2_PROJECTION[box.kind]
                # version and flags, then how much of the sphere is cut off at each of four sides
                if box.kind == b"equi" and any(_read(file, box, 20)[4:]):
                    projection = "cropped-equirectangular"
                break
        if projection is None:
            continue
        st3d = _descend(file, inside, b"st3d")
        mode = _read(file, st3d, 5)[4:] if st3d else b""
        return SphericalInfo(projection, _V2_STEREO.get(mode[0]) if mode else None, "v2")
    return None


def _read_v1(file: BinaryIO, trak: _Box) -> SphericalInfo | None:
    for box in _boxes(file, trak.start, trak.end):
        if box.kind == b"uuid":
            payload = _read(file, box, 16 + _MAX_XML)
            if payload[:16] == _V1_UUID:
                return parse_v1_xml(payload[16:])
    return None


def parse_v1_xml(xml: bytes) -> SphericalInfo | None:
    """Read the XML of a V1 box (Matroska files carry the same text in a tag).

    A pattern per element and no XML parser: nothing to expand, nothing to recurse into.

    >>> parse_v1_xml(b"<GSpherical:Spherical>true</GSpherical:Spherical>"
    ...              b"<GSpherical:StereoMode>top-bottom</GSpherical:StereoMode>")
    SphericalInfo(projection='equirectangular', stereo='tb', source='v1')
    """

    def value(element: bytes) -> bytes:
        pattern = rb"<GSpherical:" + element + rb">\s{0,99}([\w.-]{1,40})\s{0,99}</"
        found = re.search(pattern, xml[:_MAX_XML])
        return found[1].lower() if found else b""

    if value(b"Spherical") not in (b"true", b"1"):
        return None
    projection = (value(b"ProjectionType") or b"equirectangular").decode("ascii", "replace")
    crop = [value(b"CroppedArea%sPixels" % side) for side in (b"ImageWidth", b"ImageHeight")]
    full = [value(b"FullPano%sPixels" % side) for side in (b"Width", b"Height")]
    if projection == "equirectangular" and all(crop + full) and crop != full:
        projection = "cropped-equirectangular"
    # The specification's default: no StereoMode means one eye.
    return SphericalInfo(projection, _V1_STEREO.get(value(b"StereoMode") or b"mono"), "v1")


# --- writing -------------------------------------------------------------------------------------


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _v1_box(stereo: Stereo) -> bytes:
    names = {layout: name.decode() for name, layout in _V1_STEREO.items()}
    xml = (
        '<?xml version="1.0"?><rdf:SphericalVideo\n'
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"\n'
        'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
        "<GSpherical:Spherical>true</GSpherical:Spherical>"
        "<GSpherical:Stitched>true</GSpherical:Stitched>"
        "<GSpherical:StitchingSoftware>sal360</GSpherical:StitchingSoftware>"
        "<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
        f"<GSpherical:StereoMode>{names[stereo]}</GSpherical:StereoMode>"
        "</rdf:SphericalVideo>"
    )
    return _box(b"uuid", _V1_UUID, xml.encode())


def _v2_boxes(stereo: Stereo) -> bytes:
    version = bytes(4)
    mode = {layout: number for number, layout in reversed(_V2_STEREO.items())}[stereo]
    header = _box(b"svhd", version, b"sal360\0")
    pose = _box(b"prhd", version, bytes(12))  # yaw, pitch, roll: none
    bounds = _box(b"equi", version, bytes(16))  # nothing cut off
    st3d = _box(b"st3d", version, bytes([mode]))
    return st3d + _box(b"sv3d", header, _box(b"proj", pose, bounds))


def write_spherical(path: str | os.PathLike[str], stereo: Stereo = "mono") -> None:
    """Mark a finished mp4 as a full equirectangular panorama, and let it start at once.

    Writes the V1 and the V2 boxes into the first video track, in place of any that stand there,
    and moves the index (``moov``) before the pictures, so that a browser can play while it loads.
    Pictures are copied, not decoded; the file changes in one step or not at all. Doing it twice
    leaves the same bytes as doing it once.

    Args:
        path: a mp4 or mov file that is no longer being written.
        stereo: ``"mono"``, ``"tb"`` (left eye on top) or ``"sbs"`` (left eye on the left).
    Raises:
        ValueError: an unknown ``stereo``; or a file this cannot rewrite, named in the message: not
            a mp4, cut off, fragmented, encrypted, without a video track.
        OSError: the file cannot be read or replaced.
    """
    if stereo not in _V1_STEREO.values():
        raise ValueError(f"stereo: found {stereo!r}, wanted 'mono', 'tb' or 'sbs'")
    target = Path(path).resolve()  # through a link, so that the link stays one
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with open(target, "rb") as file:
        try:
            lead, index, rest = _plan(file, stereo)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        file.seek(lead)
        if file.read(len(index)) == index:  # an index in its place: nothing after it moves
            return
        try:
            with open(scratch, "xb") as out:
                _copy(file, out, 0, lead)
                out.write(index)
                for box in rest:
                    _copy(file, out, box.head, box.end)
            shutil.copymode(target, scratch)
            os.replace(scratch, target)
        except BaseException as error:
            scratch.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


def _copy(file: BinaryIO, out: BinaryIO, start: int, end: int) -> None:
    file.seek(start)
    while start < end:
        piece = file.read(min(_COPY, end - start))
        if not piece:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        out.write(piece)
        start += len(piece)


def begins_as_mp4(file: BinaryIO) -> bool:
    """Whether the first box is one that a mp4 or mov begins with. It says nothing of the rest."""
    first = next(_boxes(file, 0, file.seek(0, os.SEEK_END)), None)
    return first is not None and first.kind in _FIRST


def _plan(file: BinaryIO, stereo: Stereo) -> tuple[int, bytes, list[_Box]]:
    """The new layout: bytes ``[0, lead)`` as they are, the new index, then the other boxes."""
    length = file.seek(0, os.SEEK_END)
    if not begins_as_mp4(file):
        raise ValueError("not a mp4 file")
    boxes = list(_boxes(file, 0, length, strict=True))
    kinds = {box.kind for box in boxes}
    if kinds & {b"moof", b"sidx", b"mfra"}:
        raise ValueError("a fragmented mp4, wanted one with a single index")
    if b"meta" in kinds:
        raise ValueError("a mp4 with a file-level 'meta' box, whose offsets are not corrected here")
    moovs = [box for box in boxes if box.kind == b"moov"]
    if len(moovs) != 1:
        raise ValueError(f"found {len(moovs)} 'moov' boxes, wanted one (an unfinished mp4?)")
    if moovs[0].end - moovs[0].start > _MAX_MOOV:
        raise ValueError(
            f"an index of {moovs[0].end - moovs[0].start} bytes, wanted <= {_MAX_MOOV}"
        )
    moov = _read(file, moovs[0], _MAX_MOOV)

    lead = boxes[0].end if boxes[0].kind == b"ftyp" else 0
    rest = [box for box in boxes if box.kind != b"moov" and box.head >= lead]
    old = np.array([box.head for box in rest], dtype=np.int64)
    ends = np.array([box.end for box in rest], dtype=np.int64)
    sizes = ends - old
    wide = length + len(moov) + _MAX_XML > _STCO_LIMIT

    def moved(offsets: np.ndarray, index_size: int) -> np.ndarray:
        new = lead + index_size + np.cumsum(sizes) - sizes
        box = np.searchsorted(old, offsets, side="right") - 1
        if offsets.size and (not old.size or box.min() < 0 or (offsets >= ends[box]).any()):
            raise ValueError("its index points outside its data (cut off?)")
        return offsets - old[box] + new[box] if offsets.size else offsets

    # The offsets depend on the size of the index, and that size not on the offsets: two passes.
    size = len(_index(moov, stereo, wide, lambda offsets: offsets))
    index = _index(moov, stereo, wide, lambda offsets: moved(offsets, size))
    return lead, index, rest


def _index(
    moov: bytes, stereo: Stereo, wide: bool, moved: Callable[[np.ndarray], np.ndarray]
) -> bytes:
    """The ``moov`` box again: first video track marked, every chunk offset passed by ``moved``."""
    file = BytesIO(moov)
    boxes = list(_boxes(file, 0, len(moov), strict=True))
    if any(box.kind == b"mvex" for box in boxes):
        raise ValueError("a fragmented mp4, wanted one with a single index")
    video = next((b for b in boxes if b.kind == b"trak" and _is_video(file, b)), None)
    if video is None:
        raise ValueError("no video track")
    parts = []
    for box in boxes:
        if box.kind == b"trak":
            mark = stereo if box == video else None
            parts.append(_track(1, moov[box.start : box.end], mark, wide, moved))
        else:
            parts.append(moov[box.head : box.end])
    return _box(b"moov", *parts)


_LEVELS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # the way down; so deep and no deeper


def _track(
    level: int,
    payload: bytes,
    mark: Stereo | None,
    wide: bool,
    moved: Callable[[np.ndarray], np.ndarray],
) -> bytes:
    parts, end = [], 0
    for box in _boxes(BytesIO(payload), 0, len(payload), strict=True):
        body, end = payload[box.start : box.end], box.end
        if box.kind in _LEVELS[level + 1 : level + 2]:
            parts.append(_track(level + 1, body, mark, wide, moved))
        elif box.kind in (b"stco", b"co64"):
            parts.append(_chunks(box.kind, body, wide, moved))
        elif box.kind == b"saio":
            raise ValueError("an encrypted mp4, wanted a plain one")
        elif box.kind == b"stsd" and mark:
            parts.append(_box(b"stsd", body[:8], *_marked_entries(body[8:], mark)))
        elif not (box.kind == b"uuid" and body[:16] == _V1_UUID and mark):
            parts.append(payload[box.head : box.end])
    if level == 1 and mark:
        parts.append(_v1_box(mark))
    return _box(_LEVELS[level], *parts, payload[end:])


def _chunks(
    kind: bytes, body: bytes, wide: bool, moved: Callable[[np.ndarray], np.ndarray]
) -> bytes:
    """A table of chunk offsets, moved; ``stco`` (32 bit) becomes ``co64`` in a long file."""
    item = ">u4" if kind == b"stco" else ">u8"
    count = int.from_bytes(body[4:8], "big")
    if len(body) < 8 or len(body) - 8 < count * int(item[2]):
        raise ValueError(f"a {kind!r} table shorter than its {count} entries")
    offsets = moved(np.frombuffer(body, item, count, 8).astype(np.int64))
    if wide:
        kind, item = b"co64", ">u8"
    return _box(kind, body[:8], offsets.astype(item).tobytes())


def _marked_entries(entries: bytes, stereo: Stereo) -> Iterator[bytes]:
    """Each sample entry with its V2 boxes, placed where the specification wants them."""
    for entry in _boxes(BytesIO(entries), 0, len(entries), strict=True):
        payload = entries[entry.start : entry.end]
        if len(payload) < _SAMPLE_ENTRY_HEAD:
            raise ValueError(f"a {entry.kind!r} sample entry of {len(payload)} bytes")
        parts, end = [payload[:_SAMPLE_ENTRY_HEAD]], _SAMPLE_ENTRY_HEAD
        for box in _boxes(BytesIO(payload), end, len(payload), strict=True):
            end = box.end
            if box.kind not in (b"st3d", b"sv3d"):
                parts.append(payload[box.head : box.end])
        parts.insert(2, _v2_boxes(stereo))  # after the decoder's configuration, before the optional
        yield _box(entry.kind, *parts, payload[end:])
