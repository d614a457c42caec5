"""Frames in, frames out: a video file as an iterator of arrays, and arrays as a playable file.

Nothing here holds more than a few frames, so the length of a video costs time and no memory.
The pixels come out as a viewer would see them: upright, RGB, one eye. Chapter 18 uses it all.

Colours follow the file's tags. An untagged file is read as BT.601 with limited range, because
that is what FFmpeg and OpenCV do, and so what the published models saw in training.
"""

from __future__ import annotations

import math
import os
import secrets
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from sal360.mp4_spherical import (
    SphericalInfo,
    Stereo,
    parse_v1_xml,
    read_spherical,
    write_spherical,
)

PathLike = str | os.PathLike[str]

# FFmpeg "demuxers" that would play a text file or a photograph as a film.
_NOT_VIDEO = ("tty", "image2", "_pipe", "lavfi", "rawvideo")
# AVSphericalProjection and AVStereo3DType of FFmpeg's libavutil, by number.
_AV_PROJECTION = (
    "equirectangular",
    "cubemap",
    "cropped-equirectangular",
    "cropped-equirectangular",
    "rectilinear",
    "fisheye",
)
_AV_STEREO: dict[int, Stereo] = {0: "mono", 1: "sbs", 2: "tb"}
_UNTURNED = struct.pack("<5i", 1, 0, 0, 0, 1)  # the start of a display matrix that does nothing
_TICKS = 100  # of a written film's clock, per frame
_ANEW = 0.5  # seconds; a clock that goes back so far began anew: films put end to end do
_EARLY = 0.1  # frames; a time that many before a limit is on it (Matroska rounds to 1 ms)


@dataclass(frozen=True)
class VideoInfo:
    """What the file says about its first video stream.

    Attributes:
        path: the file.
        width, height: pixels, after the rotation.
        fps: average frames per second.
        variable: the distances between frames differ, or the file does not say that they do not.
        frames: number of frames; None if nothing in the file tells.
        frames_exact: False if ``frames`` is ``duration * fps``.
        duration: seconds; None if nothing in the file tells.
        codec: FFmpeg's name, such as ``"h264"``.
        rotation: degrees clockwise (0, 90, 180, 270) from the stored to the upright picture.
        matrix: the same and mirrors too: stored pixel (x, y) is shown at (a x + c y, b x + d y),
            for (a, b, c, d) up to a common scale.
        spherical: the file's 360-degree metadata, if any.
        stereo: how two eyes are stacked, if the file says so.
        has_audio: whether there is an audio stream.
    """

    path: Path
    width: int
    height: int
    fps: float
    variable: bool
    frames: int | None
    frames_exact: bool
    duration: float | None
    codec: str
    rotation: int
    matrix: tuple[int, int, int, int]
    spherical: SphericalInfo | None
    stereo: Stereo | None
    has_audio: bool


@dataclass(frozen=True)
class Frame:
    """One frame: ``index`` and ``time`` (seconds) count from the file's first; ``rgb`` (H,W,3)."""

    index: int
    time: float
    rgb: np.ndarray


# --- opening -------------------------------------------------------------------------------------


@contextmanager
def _opened(path: PathLike) -> Iterator[tuple[Any, Any]]:
    """An open container and its first moving video stream; every refusal names the path."""
    import av

    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not Path(path).is_file():
        raise ValueError(f"{path}: not a file, wanted a video file")
    try:
        # Absolute: "take:2.mp4" is a file, not a protocol. And a playlist may open files only.
        container = av.open(
            str(Path(path).absolute()),
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        if isinstance(error, PermissionError):
            raise
        raise ValueError(f"{path}: not a readable video ({error.strerror})") from None
    with container:
        if any(part in container.format.name for part in _NOT_VIDEO):
            raise ValueError(f"{path}: not a video (looks like {container.format.name})")
        still = av.stream.Disposition.attached_pic  # an album cover
        stream = next((s for s in container.streams.video if not s.disposition & still), None)
        if stream is None or stream.codec_context is None:
            raise ValueError(f"{path}: no video stream that can be decoded")
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(container: Any, stream: Any, damage: list[int]) -> Iterator[Any]:
    """The frames from here on; a packet that cannot be decoded adds one to ``damage[0]``."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the container itself is broken from here on
            damage[0] += 1
            return
        except IndexError:  # PyAV met a stream that began after the file was opened; read past it
            packets = container.demux(stream)
            continue
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damage[0] += 1
            continue
        damage[0] += bool(packet.is_corrupt)
        yield from frames


def _upright(rgb: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    a, b, c, d = matrix
    if abs(b) > abs(a):  # a quarter turn: swap the axes, then mirror as for a half turn
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _rgb(frame: Any, reformatter: Any, info: VideoInfo) -> np.ndarray:
    """One reformatter serves a whole file: making one per frame starts its threads every time."""
    converted = reformatter.reformat(frame, format="rgb24")
    rgb = converted.to_ndarray()  # a view where it can be
    if converted is frame:  # already RGB: the decoder may still need these pixels
        rgb = rgb.copy()
    return _upright(rgb, info.matrix)


def probe(path: PathLike) -> VideoInfo:
    """Say what a video file is, after decoding one frame to be sure that it can be.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, no video stream, or no frame can be decoded; one line, with path.
    """
    with _opened(path) as (container, stream):
        frame = next(_decoded(container, stream, [0]), None)
        if frame is None:
            raise ValueError(f"{path}: no frame can be decoded")
        # Ask for side data once: in PyAV it ties frame and data into a cycle, and cycles wait for
        # Python's garbage collector. Asked of every frame, hundreds of frames would wait with them.
        side = {item.type.name: bytes(item) for item in frame.side_data}
        a, b, _, c, d = struct.unpack("<5i", side.get("DISPLAYMATRIX", _UNTURNED)[:20])
        rotation = round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90
        if a * d < 0 and not b:  # a mirror is no rotation
            rotation = 0
        size = (frame.width, frame.height)
        width, height = size[::-1] if rotation in (90, 270) else size

        rates = [float(r) for r in (stream.average_rate, stream.guessed_rate) if r]
        fps = rates[0] if rates else 25.0  # FFmpeg's own answer for a stream without a clock
        base = float(stream.base_rate or 0)
        exact = stream.frames > 0
        duration = _duration(container, stream)
        frames = stream.frames if exact else duration and max(1, round(duration * fps))

        eyes = _AV_STEREO.get(side["STEREO3D"][0]) if "STEREO3D" in side else None
        spherical = read_spherical(path) or _spherical(stream, side, eyes)
        return VideoInfo(
            path=Path(path),
            width=width,
            height=height,
            fps=fps,
            variable=abs(base / fps - 1) > 0.01,
            frames=frames or None,
            frames_exact=exact,
            duration=duration,
            codec=stream.codec_context.name,
            rotation=rotation,
            matrix=(a, b, c, d),
            spherical=spherical,
            stereo=(spherical and spherical.stereo) or eyes,
            has_audio=bool(container.streams.audio),
        )


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    try:  # Matroska keeps a stream's own length in a tag, "00:01:02.500000000"
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return container.duration / 1e6 if (container.duration or 0) > 0 else None


def _spherical(stream: Any, side: dict[str, bytes], eyes: Stereo | None) -> SphericalInfo | None:
    """Matroska's metadata: FFmpeg hands V2 over as side data, and V1 as a tag."""
    number = side["SPHERICAL"][0] if "SPHERICAL" in side else len(_AV_PROJECTION)
    if number < len(_AV_PROJECTION):
        return SphericalInfo(_AV_PROJECTION[number], eyes, "v2")
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return parse_v1_xml(tags.get("spherical-video", "").encode())


# --- reading -------------------------------------------------------------------------------------


def _step(info: VideoInfo, fps: float | None) -> int:
    """One source frame is kept in every so many: SST-Sal's published rule."""
    return 1 if fps is None else max(1, round(info.fps / fps))


def _check_window(fps: float | None, start: float, seconds: float | None) -> None:
    for name, value in (("fps", fps), ("start", start), ("seconds", seconds)):
        if not (isinstance(value, (int, float, Fraction, np.number)) or (
                value is None and name != "start")):  # fmt: skip
            raise TypeError(f"{name}: found {value!r}, wanted a number")
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps: found {fps}, wanted a positive number or None")
    if not 0 <= start < math.inf:
        raise ValueError(f"start: found {start}, wanted seconds, at least 0")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds: found {seconds}, wanted a positive number or None")


def _as_frames(frames: float) -> int:
    """A time in frames, rounded up; however long somebody says."""
    return math.ceil(min(frames, 1e15) - _EARLY)


def frames_within(
    fps: float, start: float = 0.0, seconds: float | None = None
) -> tuple[int, int | None]:
    """The first frame shown at or after ``start``, and the first one after the part; None: the end.

    A part that starts on a frame has it, however short the part is.
    """
    _check_window(None, start, seconds)
    first = max(0, _as_frames(start * fps))
    if seconds is None or seconds == math.inf:
        return first, None
    return first, _as_frames(start * fps + max(seconds * fps, 2 * _EARLY))


def count_selected(
    info: VideoInfo, fps: float | None = None, start: float = 0.0, seconds: float | None = None
) -> int | None:
    """How many frames `read_frames` will yield with these arguments, for a progress bar.

    Returns:
        The number: exact for a whole file with constant frame rate and ``info.frames_exact``,
        an estimate otherwise; None if neither the file nor ``seconds`` bounds it.
    """
    _check_window(fps, start, seconds)
    first, end = frames_within(info.fps, start, seconds)
    ends = [n for n in (info.frames, end) if n is not None]
    return max(0, math.ceil((min(ends) - first) / _step(info, fps))) if ends else None


def read_frames(
    path: PathLike,
    *,
    fps: float | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    stereo: Stereo = "mono",
    eye: Literal["left", "right"] = "left",
    size: tuple[int, int] | None = None,
) -> Iterator[Frame]:
    """Iterate over the frames of a video, at constant memory.

    Arguments are checked and the file is probed at the call, before the first frame is asked for.
    A packet that cannot be decoded is skipped; one `UserWarning` at the end says how many were, or
    that the file ended before its time.

    Args:
        path: a video file; anything FFmpeg decodes.
        fps: None keeps every frame. A number keeps one in ``max(1, round(source_fps / fps))``,
            counted in source frames: the rule of the published SST-Sal code. With 30 frames a
            second and ``fps=8`` that is every 4th frame, so 7.5 a second. Where the frame rate
            varies (`VideoInfo.variable`) and frames are left out, the same grid is laid out in
            time, ``step / info.fps`` seconds apart, and the first frame from half a frame before
            each point is kept; a hole in the film is a hole here too, and no frame comes twice.
        start: seconds from the first frame. The first frame shown at or after it is kept.
        seconds: length to read, None for the rest of the file.
        stereo: ``"tb"`` keeps one half of each frame, of the two on top of each other; ``"sbs"``
            one of the two side by side. ``"mono"`` keeps all.
        eye: which half; the left eye is on top or on the left, as the metadata standard has it.
        size: ``(H, W)`` to resize to, after taking one eye: areas are averaged along an axis that
            shrinks, and pixels interpolated along one that grows.
    Yields:
        `Frame` with ``rgb`` uint8 ``(H,W,3)``, upright, yours to write into.
    Raises:
        FileNotFoundError, ValueError: as `probe`; or an argument, named with what was found.
    """
    _check_window(fps, start, seconds)
    if stereo not in ("mono", "tb", "sbs"):
        raise ValueError(f"stereo: found {stereo!r}, wanted 'mono', 'tb' or 'sbs'")
    if eye not in ("left", "right"):
        raise ValueError(f"eye: found {eye!r}, wanted 'left' or 'right'")
    if size is not None and not isinstance(size, (tuple, list)):
        raise TypeError(f"size: found {size!r}, wanted (height, width)")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size: found {size}, wanted (height, width) of at least 1")
    info = probe(path)
    if info.duration and start >= info.duration:
        raise ValueError(
            f"start: found {start} s, wanted less than {info.duration:.2f} s of {path}"
        )

    def frames() -> Iterator[Frame]:
        for index, time, rgb in _selected(info, _step(info, fps), start, seconds):
            yield Frame(index, time, _resized(one_eye(rgb, stereo, eye), size))

    return frames()


def _selected(
    info: VideoInfo, step: int, start: float, seconds: float | None, jump: bool = True
) -> Iterator[tuple[int, float, np.ndarray]]:
    from av.video.reformatter import VideoReformatter

    early = _EARLY / info.fps
    end = math.inf if seconds is None else start + max(seconds, 2 * early) - early
    in_time = info.variable and step > 1  # else every so many frames, as published
    damage, reformatter, time = [0], VideoReformatter(), start
    troubles: list[str] = []
    with _opened(info.path) as (container, stream):
        tick = float(stream.time_base)
        origin = stream.start_time
        index, resume = -1, -math.inf
        if jump and start > 1 and origin is not None:  # below a second, decoding is as quick
            landed = _seek(container, stream, info, origin, origin + (start - early) / tick)
            if landed is None:
                yield from _selected(info, step, start, seconds, jump=False)
                return
            index, resume = landed[0] - 1, landed[1]
        anchor: tuple[int, float] | None = None  # the first frame kept
        due, seen = 0, False
        for frame in _decoded(container, stream, damage):
            if resume > -math.inf and frame.pts is not None:
                if frame.pts < resume:
                    continue  # belongs to the group of pictures before the one jumped to
                if frame.pts > resume:  # landed elsewhere: the number would be wrong
                    yield from _selected(info, step, start, seconds, jump=False)
                    return
                resume = -math.inf
            index += 1
            if frame.pts is None:
                time = index / info.fps
            else:
                origin = frame.pts if origin is None else origin
                if seen and time - (frame.pts - origin) * tick > _ANEW:
                    origin = frame.pts - round((time + 1 / info.fps) / tick)
                time = (frame.pts - origin) * tick
                seen = True
            if damage[0] and not info.variable:  # frames were lost: read the count off the clock
                index = max(index, round(time * info.fps))
            if time < start - early:
                continue
            if time >= end:
                break
            anchor = anchor or (index, time)
            position = index - anchor[0]
            if in_time:
                position = math.floor((time - anchor[1]) * info.fps + 0.5)
            if position >= due:
                due = (position // step + 1) * step
                yield index, time, _rgb(frame, reformatter, info)
        else:
            if info.frames_exact and index + 1 < (info.frames or 0):
                troubles.append(f"ends after {index + 1} of {info.frames} frames")
            length = info.duration or 0  # of the sound, in some files: so be slow to complain
            if not info.frames_exact and length - time > 0.02 * length + 3 / info.fps:
                troubles.append(f"ends at {time:.1f} of {length:.1f} s")
    if damage[0]:
        troubles.append(f"{damage[0]} damaged packets, kept what could be decoded")
    if troubles:
        _warn(f"{info.path}: {'; '.join(troubles)}")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)


def _seek(
    container: Any, stream: Any, info: VideoInfo, first: int, target: float
) -> tuple[int, float] | None:
    """Go to a key frame shown at or before ``target`` (ticks).

    Returns:
        How many frames are shown before it, and its own time in ticks; None if a seek does not
        work here or that number cannot be known, and the container is then anywhere.
    """
    import av

    back = 0.0
    try:
        while target - back > first:
            container.seek(int(target - back), stream=stream, backward=True)
            packets = list(islice(container.demux(stream), 32))
            times = [p.pts for p in packets if p.pts is not None]
            if not packets:
                return None
            key = packets[0]
            if key.is_keyframe and key.pts is not None and key.pts <= target:
                container.seek(int(target - back), stream=stream, backward=True)
                entries = getattr(stream, "index_entries", ())
                if 0 < stream.frames == len(entries) and key.dts is not None:
                    # A complete index (mp4): count. Frames decoded after the key frame and shown
                    # before it are there too, in a film with open groups of pictures.
                    before = sum(entry.timestamp < key.dts for entry in entries)
                    return before + sum(pts < key.pts for pts in times), key.pts
                if info.variable:
                    return None
                return round((key.pts - first) * float(stream.time_base) * info.fps), key.pts
            back = 2 * back or 1 / float(stream.time_base)
    except (av.error.FFmpegError, IndexError):  # IndexError: as in `_decoded`
        pass
    return None


def one_eye(rgb: np.ndarray, stereo: Stereo, eye: Literal["left", "right"] = "left") -> np.ndarray:
    """One eye's part of a picture ``(H,W,3)``; of an odd number of rows the middle one is dropped.

    >>> one_eye(np.zeros((5, 8, 3)), "tb").shape
    (2, 8, 3)
    """
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    if stereo == "tb":
        return rgb[:height] if eye == "left" else rgb[-height:]
    if stereo == "sbs":
        return rgb[:, :width] if eye == "left" else rgb[:, -width:]
    return rgb


def _resized(rgb: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    height, width = rgb.shape[:2] if size is None else size
    if (height, width) == rgb.shape[:2]:
        return np.ascontiguousarray(rgb)
    import cv2

    rgb = np.ascontiguousarray(rgb)
    smaller = (min(width, rgb.shape[1]), min(height, rgb.shape[0]))
    if smaller != (rgb.shape[1], rgb.shape[0]):
        rgb = cv2.resize(rgb, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    return rgb


# --- one eye or two? -----------------------------------------------------------------------------


@dataclass(frozen=True)
class StereoChoice:
    """A layout, and why, in words for a person."""

    layout: Stereo
    reason: str


# Two eyes see nearly the same; two halves of one panorama do not. What these do share is a sky
# above a ground, so each row's mean is removed before correlating. Measured with `_likeness`:
#                                           top/bottom      left/right
#   24 photographs, one panorama each       -.15 ... .09    -.53 ... .28
#   a film with its eyes on top of each
#   other, ten frames                       .927 ... .929   .22 ... .29
#   the photographs stacked with a copy     .79 and more    .79 and more    1 % of the width (a
#   of themselves that is moved sideways    .65             .65             metre away), 2 %,
#   most at the bottom, by at most          .54             .54             3 % (a third of one)
# .5 leaves .22 below it and the film .43 above. A frame in the shape of one panorama (2:1) could
# hold two eyes only if they were squeezed, which is rarer: it must look more like it, .7.
_SAME = 0.5
_SAME_IF_SQUEEZED = 0.7
_TEXTURE = 2.0  # grey levels (of 255) of a half's deviation; below, there is nothing to compare
_GLANCES = 5  # frames looked at in a film


def image_stereo(rgb: np.ndarray) -> StereoChoice:
    """Guess from one picture whether it holds two eyes, on top of each other or side by side.

    Args:
        rgb: ``(H,W,3)`` uint8.
    Returns:
        A `StereoChoice`; ``"mono"`` where there is too little to see.
    """
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        raise TypeError(f"rgb: found {getattr(rgb, 'dtype', type(rgb))}, wanted a uint8 array")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < 2:
        raise ValueError(f"rgb: found shape {rgb.shape}, wanted (H, W, 3)")
    return _judge([rgb])


def _judge(pictures: list[np.ndarray]) -> StereoChoice:
    height, width = pictures[0].shape[:2]
    squeezed = abs(math.log(width / height / 2)) < 0.1
    threshold = _SAME_IF_SQUEEZED if squeezed else _SAME
    found: dict[Stereo, float] = {}
    for layout in ("tb", "sbs"):
        alike = [c for c in (_likeness(p, layout) for p in pictures) if c is not None]
        if alike:
            found[layout] = float(np.median(alike))
    if not found:
        return StereoChoice("mono", "too little texture to compare two halves; taken as one eye")
    best = max(found, key=lambda layout: found[layout])
    halves = {"tb": "top and bottom halves", "sbs": "left and right halves"}[best]
    measured = f"the {halves} correlate {found[best]:.2f}"
    if found[best] >= threshold:
        return StereoChoice(best, f"guessed: {measured}, so they are two eyes")
    return StereoChoice("mono", f"guessed: no two halves look alike, {measured} at most")


def _likeness(rgb: np.ndarray, layout: Stereo) -> float | None:
    """Correlation of two halves after removing each row's mean; None without texture."""
    if rgb.shape[0 if layout == "tb" else 1] < 2:
        return None
    left, right = (
        # At 2.8 degrees per pixel, what is a metre away moves by about one between the eyes.
        _resized(one_eye(rgb, layout, eye), (64, 128)).mean(axis=2)
        for eye in ("left", "right")
    )
    left, right = (half - half.mean(axis=1, keepdims=True) for half in (left, right))
    if min(left.std(), right.std()) < _TEXTURE:
        return None
    return float((left * right).mean() / (left.std() * right.std()))


def resolve_stereo(source: PathLike | VideoInfo, requested: str = "auto") -> StereoChoice:
    """Decide how the eyes of a video are stacked.

    Args:
        source: a file, or what `probe` said of it.
        requested: ``"mono"``, ``"tb"``, ``"sbs"``, or ``"auto"``: believe the file's metadata, and
            without any compare the halves of a few frames spread over the film.
    Returns:
        A `StereoChoice`.
    Raises:
        FileNotFoundError, ValueError: as `probe`; or an unknown ``requested``.
    """
    if requested in ("mono", "tb", "sbs"):
        return StereoChoice(requested, "as requested")  # type: ignore[arg-type]
    if requested != "auto":
        raise ValueError(f"requested: found {requested!r}, wanted 'auto', 'mono', 'tb' or 'sbs'")
    info = source if isinstance(source, VideoInfo) else probe(source)
    if info.stereo is not None:
        return StereoChoice(info.stereo, "the file's metadata says so")
    return _judge(list(_glances(info)))


def _glances(info: VideoInfo) -> Iterator[np.ndarray]:
    """Key frames spread over the file; where a seek fails, the frames seen before it."""
    import av
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with _opened(info.path) as (container, stream):
        for i in range(_GLANCES if info.duration else 1):
            try:
                if i:
                    container.seek(int(i / _GLANCES * (info.duration or 0) * 1e6))
                frame = next(_decoded(container, stream, [0]), None)
            except av.error.FFmpegError:
                return
            if frame is not None:
                yield _rgb(frame, reformatter, info)


# --- writing -------------------------------------------------------------------------------------


class VideoWriter:
    """Write frames to a mp4 that browsers and headsets play: H.264, 4:2:0, BT.709, faststart.

    The file appears under its name when it is complete. If the body raises an exception, nothing
    appears and what stood there stays; after Ctrl-C the frames written so far make a playable
    file, and the interrupt goes on.

    H.264 at 4:2:0 needs even sizes: an odd last row or column is written twice, which moves no
    other pixel.

        with VideoWriter("out.mp4", fps=30) as video:
            video.write(rgb)

    Args:
        path: where to write; a folder that exists.
        size: ``(H, W)`` of the frames, None to take it from the first.
        fps: frames per second, as the nearest fraction with a denominator up to 1001 (29.97 in
            its exact form, 30000/1001, is one).
        crf: libx264's constant quality, 0 (lossless) to 51; 20 is hard to tell from the source.
        spherical: mark the file as a 360-degree video (`write_spherical`).
        stereo: the layout of the frames, for that mark.
    Raises:
        ValueError: a bad argument or frame; no frame at all was written.
        OSError: the file cannot be written, with its path.
    """

    def __init__(
        self,
        path: PathLike,
        size: tuple[int, int] | None = None,
        fps: float | Fraction = 30,
        *,
        crf: int = 20,
        spherical: bool = True,
        stereo: Stereo = "mono",
    ) -> None:
        if isinstance(fps, bool) or not isinstance(fps, (int, float, Fraction, np.number)):
            raise TypeError(f"fps: found {fps!r}, wanted a number")
        if not 0 < fps <= 1000:
            raise ValueError(f"fps: found {fps}, wanted above 0 and at most 1000")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf: found {crf}, wanted 0 to 51")
        if stereo not in ("mono", "tb", "sbs"):
            raise ValueError(f"stereo: found {stereo!r}, wanted 'mono', 'tb' or 'sbs'")
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size: found {size}, wanted (height, width) of at least 1")
        self.path = Path(path)
        self.size = size
        self.fps = Fraction(fps).limit_denominator(1001)
        if not self.fps:
            raise ValueError(f"fps: found {fps}, wanted at least 1/1001")
        self.frames = 0
        self._least = math.ceil(_TICKS * self.fps / 5000)  # ticks, what mp4 can tell apart
        self._begin = 0.0  # time of the first frame
        self._next = 0  # when the next one is shown, in ticks after it
        self._shown: dict[int, int] = {}  # the same of frames that the encoder still holds
        self._crf, self._spherical, self._stereo = crf, spherical, stereo
        self._scratch = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        import av

        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path}: a folder, wanted a file name")
        try:  # now, so that a folder that is not there is told before hours of work
            self._scratch.open("xb").close()
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self.path)) from None
        # write_spherical moves the index to the front; without it FFmpeg does.
        options = {} if self._spherical else {"movflags": "+faststart"}
        self._container = av.open(
            str(self._scratch.absolute()), "w", format="mp4", container_options=options
        )
        return self

    def _start(self, height: int, width: int) -> None:
        stream = self._container.add_stream(
            "libx264", rate=self.fps, options={"crf": str(self._crf)}
        )
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.gop_size = max(1, round(2 * self.fps))  # a viewer can jump to within two seconds
        codec.colorspace = codec.color_primaries = codec.color_trc = 1  # BT.709
        codec.color_range = 1  # limited, as players expect
        self._stream, self.size = stream, (height, width)

    def write(self, rgb: np.ndarray, time: float | None = None) -> None:
        """Append one frame: uint8 ``(H,W,3)``, every one of the same size.

        Args:
            time: seconds, as `read_frames` tells them, where the frame rate may vary; the first
                frame's may be any. None: ``1 / fps`` after the frame before.
        """
        import av

        if self._container is None:
            raise ValueError(f"{self.path}: not open, wanted 'with VideoWriter(...) as video'")
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
            raise TypeError(f"rgb: found {getattr(rgb, 'dtype', type(rgb))}, wanted a uint8 array")
        if rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise ValueError(f"rgb: found shape {rgb.shape}, wanted (H, W, 3)")
        number = isinstance(time, (int, float, Fraction, np.number))
        if time is not None and not (number and math.isfinite(time)):
            raise ValueError(f"time: found {time!r}, wanted seconds or None")
        if self.size is not None and rgb.shape[:2] != tuple(self.size):
            raise ValueError(f"rgb: found size {rgb.shape[:2]}, wanted {tuple(self.size)}")
        if self._stream is None:
            self._start(*rgb.shape[:2])
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        if time is not None:
            self._begin = time if self.frames == 0 else self._begin
            late = (time - self._begin) * float(self.fps)
            near = min(_EARLY, 6e-4 * float(self.fps))  # as clocks of milliseconds round
            grid = round(late) if abs(late - round(late)) < near else late
            self._next = max(self._next - _TICKS + self._least, round(grid * _TICKS))
        # The encoder counts frames, so that the stream itself tells their rate.
        frame.pts, frame.time_base = self.frames, 1 / self.fps
        self._shown[self.frames] = self._next
        self._mux(frame)
        self.frames += 1
        self._next += _TICKS

    def _mux(self, frame: Any) -> None:
        with self._path_in_errors():
            self._container.mux(self._timed(self._stream.encode(frame)))

    def _timed(self, packets: list[Any]) -> list[Any]:
        """Packets at the times of their frames; decoded before the first one is minus so many."""
        for packet in packets:
            shown, decoded = packet.pts, packet.dts
            packet.time_base = 1 / (self.fps * _TICKS)
            packet.pts = self._shown[shown]
            packet.dts = self._shown[decoded] if decoded >= 0 else decoded * _TICKS
            packet.duration = _TICKS
            for old in [n for n in self._shown if n < decoded]:
                del self._shown[old]
        return packets

    @contextmanager
    def _path_in_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # FFmpeg's are among them; a full disk is one
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed = kind is not None and issubclass(kind, Exception)
        container, self._container = self._container, None
        try:
            with self._path_in_errors():
                try:
                    if self.frames and not failed:
                        container.mux(self._timed(self._stream.encode(None)))
                finally:
                    container.close()
                if self.frames and not failed:
                    if self._spherical:
                        write_spherical(self._scratch, self._stereo)
                    os.replace(self._scratch, self.path)
        except Exception:
            if not failed:  # else the body's own error is the one to tell
                raise
        finally:
            self._scratch.unlink(missing_ok=True)
        if kind is None and not self.frames:
            raise ValueError(f"{self.path}: no frame was written, so no file was made")
