"""Frames come out upright, in true colours, under the right number, and at constant memory."""

import os
import signal
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sal360 import video
from sal360.mp4_spherical import SphericalInfo, read_spherical
from sal360.video import (
    VideoWriter,
    count_selected,
    image_stereo,
    one_eye,
    probe,
    read_frames,
    resolve_stereo,
)

CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))  # red green / blue white


def corners(height=48, width=96):
    """A picture that tells every turn and mirror apart."""
    picture = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = CORNERS[:2]
    picture[top:, :left], picture[top:, left:] = CORNERS[2:]
    return picture


def numbered(i, height=32, width=64):
    """A picture that carries its own number, in 12 black and white blocks."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(12):
        picture[:, bit * 5 : bit * 5 + 5] = 255 * (i >> bit & 1)
    return picture


def number(rgb):
    return sum(int(rgb[16, bit * 5 + 2].mean() > 127) << bit for bit in range(12))


def encode(path, pictures, codec="libx264", pixels="yuv420p", fps=30, times=None, setup=None, **kw):
    """Write pictures with any codec; ``times`` in 1/1000 s for a variable frame rate."""
    options, colorspace = kw.get("options", {}), kw.get("colorspace")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options)
        first = pictures[0]
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if setup:
            setup(stream)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if colorspace:
                frame = frame.reformat(format=pixels, dst_colorspace=colorspace)
            frame.pts = times[i] if times else i
            frame.time_base = Fraction(1, 1000) if times else 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def remux(source, copy):
    """The same packets in another container."""
    with av.open(str(source)) as read, av.open(str(copy), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                write.mux(packet)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """300 numbered frames at 30 a second, a key frame every 2 seconds and B-frames between."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, fps=30) as out:
        for i in range(300):
            out.write(numbered(i))
    return path


# --- probe ---------------------------------------------------------------------------------------


def test_importing_is_light():
    code = "import sys, sal360.video; print({'av', 'cv2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_probe(film):
    info = probe(film)
    assert (info.width, info.height, info.codec, info.rotation) == (64, 32, "h264", 0)
    assert (info.frames, info.frames_exact, info.variable) == (300, True, False)
    assert info.fps == pytest.approx(30)
    assert info.duration == pytest.approx(10)
    assert info.spherical == SphericalInfo("equirectangular", "mono", "v2")
    assert info.stereo == "mono"
    assert not info.has_audio


def broken(folder, what):
    path = folder / f"{what}.mp4"
    if what == "empty":
        path.write_bytes(b"")
    elif what == "bytes":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif what == "text":
        path = path.with_suffix(".txt")
        path.write_text("a file of words\n" * 99)
    elif what == "photo":
        path = path.with_suffix(".png")
        encode(path, [corners()], "png", "rgb24")
    elif what == "folder":
        path.mkdir()
    elif what == "sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=48000)
            block = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), layout="stereo")
            block.sample_rate = 48000
            container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    elif what == "headless":
        encode(path, [corners()] * 3)
        path.write_bytes(path.read_bytes()[:1000])
    elif what == "no frames":
        encode(path, [corners()] * 3)
        data = path.read_bytes()
        start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
        path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    return path


@pytest.mark.parametrize(
    "what", ["empty", "bytes", "text", "photo", "folder", "sound", "headless", "no frames"]
)
def test_not_a_video(tmp_path, what):
    path = broken(tmp_path, what)
    for ask in (probe, read_frames, resolve_stereo):
        with pytest.raises(ValueError, match=what) as refusal:
            ask(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)


def test_missing_files_and_odd_names(tmp_path, monkeypatch):
    for ask in (probe, read_frames, resolve_stereo):
        with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
            ask(tmp_path / "none.mp4")
    monkeypatch.chdir(tmp_path)
    for name in ("take:2.mp4", "a %03d.mp4", "père.mp4"):
        with VideoWriter(name) as out:
            out.write(corners())
        assert probe(name).frames == 1
        assert resolve_stereo(name).layout == "mono"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0}, "fps: found 0"),
        ({"fps": float("nan")}, "fps: found nan"),
        ({"start": -1}, "start: found -1"),
        ({"start": 99}, "start: found 99"),
        ({"seconds": 0}, "seconds: found 0"),
        ({"stereo": "3d"}, "stereo: found '3d'"),
        ({"eye": "both"}, "eye: found 'both'"),
        ({"size": (0, 4)}, "size: found"),
        ({"size": (4,)}, "size: found"),
    ],
)
def test_bad_arguments_are_named_at_the_call(film, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_frames(film, **arguments)


# --- which frames --------------------------------------------------------------------------------


def test_every_frame_once_in_order(film):
    frames = list(read_frames(film))
    assert [f.index for f in frames] == [number(f.rgb) for f in frames] == list(range(300))
    assert np.allclose([f.time for f in frames], np.arange(300) / 30)
    assert frames[0].rgb.dtype == np.uint8
    assert frames[0].rgb.shape == (32, 64, 3)
    frames[0].rgb[0, 0] = 7  # its own memory


@pytest.mark.parametrize(("fps", "step"), [(8, 4), (30, 1), (60, 1), (1, 30), (0.5, 60), (12, 2)])
def test_every_so_many_as_published(film, fps, step):
    assert step == max(1, round(30 / fps))
    kept = [f.index for f in read_frames(film, fps=fps)]
    assert kept == list(range(300))[::step]
    assert count_selected(probe(film), fps) == len(kept)


@pytest.mark.parametrize("start", [0, 0.1, 0.5, 1.99, 2.0, 2.01, 5.43, 9.9])
@pytest.mark.parametrize(("fps", "seconds"), [(None, None), (8, 1), (None, 0.001), (7, 99)])
def test_a_window_is_a_slice_of_the_whole(film, start, fps, seconds):
    every = [i for i in range(300) if i / 30 >= start - 1e-9]
    every = [i for i in every if i / 30 < start + (seconds or 99) - 1e-9]
    kept = list(read_frames(film, fps=fps, start=start, seconds=seconds))
    wanted = every[:: round(30 / fps) if fps else 1]
    assert [f.index for f in kept] == [number(f.rgb) for f in kept] == wanted
    assert count_selected(probe(film), fps, start, seconds) == len(wanted)


CONTAINERS = [
    ("a.mkv", "libx264", {"bf": "3", "g": "40"}),
    ("a.mp4", "libx264", {"bf": "3", "g": "40", "x264-params": "open-gop=1"}),
    ("a.mp4", "libx265", {"x265-params": "keyint=40:open-gop=1:log-level=none"}),
    ("a.mkv", "libx265", {"x265-params": "keyint=40:open-gop=1:log-level=none"}),
    ("a.webm", "libvpx-vp9", {"g": "40", "deadline": "realtime", "cpu-used": "8"}),
    ("a.avi", "mpeg4", {"g": "12"}),
    ("a.ts", "libx264", {"g": "40"}),
    ("a.mov", "mjpeg", {}),
    ("a.gif", "gif", {}),
    ("a.h264", "libx264", {"g": "40"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS)
def test_numbers_hold_after_a_jump_in_every_container(tmp_path, name, codec, options):
    fps = 25
    pixels = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    pictures = [numbered(i) for i in range(130)]
    path = encode(tmp_path / name, pictures, codec, pixels, fps, options=options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = [(f.index, number(f.rgb)) for f in read_frames(path)]
        assert whole == [(i, i) for i in range(130)]
        for start in (1.6, 3.16, 3.2, 3.24, 5):
            part = list(read_frames(path, start=start, fps=5, seconds=1))
            first = round(start * fps)
            assert [f.index for f in part] == list(range(first, min(130, first + 25), 5))
            assert [number(f.rgb) for f in part] == [f.index for f in part]


def test_variable_frame_rate_keeps_the_grid_in_time(tmp_path):
    """Half the film at 50 a second and half at 10: the same number per second from both."""
    times = [*range(0, 4000, 20), *range(4000, 8000, 100)]
    pictures = [numbered(i) for i in range(len(times))]
    # Before 18.1 av copies the fastest rate into Matroska, as if all frames came at it.
    told = tuple(int(part) for part in av.__version__.split(".")[:2]) >= (18, 1)
    for name in ("a.mp4", "a.mkv") if told else ("a.mp4",):
        path = tmp_path / name
        if name == "a.mp4":
            encode(path, pictures, times=times, options={"g": "30"})
        else:
            remux(tmp_path / "a.mp4", path)
        info = probe(path)
        assert info.variable
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frames = list(read_frames(path))
        assert np.allclose([f.time for f in frames], np.array(times) / 1000, atol=2e-3)
        kept = [f.time for f in read_frames(path, fps=5)]
        spacing = round(info.fps / 5) / info.fps
        assert np.allclose(np.diff(kept), spacing, atol=0.5 / info.fps + 0.1)
        assert len(kept) == pytest.approx(8 / spacing, abs=1.01)
        part = list(read_frames(path, start=5, seconds=1))
        assert [f.index for f in part] == [number(f.rgb) for f in part] == list(range(210, 220))


@pytest.mark.filterwarnings("ignore:.*damaged packets")
def test_films_put_end_to_end_go_on(tmp_path):
    """The second half's clock begins anew, the film's does not."""
    part = encode(tmp_path / "a.ts", [numbered(i) for i in range(45)], options={"g": "15"})
    (tmp_path / "both.ts").write_bytes(2 * part.read_bytes())
    times = np.array([f.time for f in read_frames(tmp_path / "both.ts")])
    assert np.allclose(times, np.arange(90) / 30, atol=2e-3)
    kept = [f.index for f in read_frames(tmp_path / "both.ts", fps=3)]
    assert kept == list(range(0, 90, 10))


def test_time_and_index_rules_agree_where_both_apply(film, monkeypatch):
    """A constant film taken for a variable one gives the same frames."""
    wanted = [f.index for f in read_frames(film, fps=7, start=1.7)]
    known = probe(film)
    monkeypatch.setattr(video, "probe", lambda path: replace(known, variable=True))
    assert [f.index for f in read_frames(film, fps=7, start=1.7)] == wanted


# --- which pixels --------------------------------------------------------------------------------

BT709 = {"colorspace": "ITU709"}


def tag_bt709(stream):
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = codec.color_range = 1


CODECS = [
    ("a.mp4", "libx264", "yuv420p", {}),
    ("a.mp4", "libx264", "yuv420p", {"setup": tag_bt709, **BT709}),
    ("a.mp4", "libx264", "yuvj420p", {}),
    ("a.mp4", "libx264", "yuv444p", {}),
    ("a.mp4", "libx264", "yuv420p10le", {}),
    ("a.mp4", "libx265", "yuv420p10le", {"options": {"x265-params": "log-level=none"}}),
    ("a.webm", "libvpx-vp9", "yuv420p", {}),
    ("a.webm", "libvpx-vp9", "yuva420p", {}),
    ("a.mp4", "mpeg4", "yuv420p", {"options": {"qscale": "1"}}),
    ("a.mov", "prores_ks", "yuv422p10le", {}),
    ("a.mov", "qtrle", "argb", {}),
    ("a.mkv", "ffv1", "bgr0", {}),
    ("a.avi", "mjpeg", "yuvj422p", {}),
    ("a.gif", "gif", "bgr8", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixels", "more"), CODECS)
def test_colours_and_corners_survive_any_codec(tmp_path, name, codec, pixels, more):
    picture = corners()
    path = encode(tmp_path / name, [picture] * 3, codec, pixels, fps=25, **more)
    frames = list(read_frames(path))
    assert len(frames) == 3
    away = np.abs(frames[1].rgb.astype(int) - picture)
    away[20:28], away[:, 44:52] = 0, 0  # chroma bleeds where the colours meet
    assert (np.quantile(away, 0.9) if codec == "gif" else away.max()) <= 16


def test_grey(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    path = encode(tmp_path / "a.mkv", [ramp] * 2, "ffv1", "gray")
    assert np.abs(next(read_frames(path)).rgb.astype(int) - ramp).max() <= 2


@pytest.mark.parametrize("size", [(47, 95), (33, 64), (32, 63), (1, 1)])
def test_odd_sizes_read(tmp_path, size):
    picture = corners(*size)
    path = encode(tmp_path / "a.mkv", [picture] * 2, "ffv1", "bgr0")
    assert (next(read_frames(path)).rgb == picture).all()


def with_matrix(path, matrix):
    """Write a display matrix (a, b, c, d) into the track header, as a phone does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of fields
    a, b, c, d = (np.array(matrix) * 65536).astype(">i4")
    rows = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[at : at + 36] = np.array(rows).astype(">i4").tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "turned", "shown"),
    [
        ((1, 0, 0, 1), 0, lambda p: p),
        ((0, 1, -1, 0), 90, lambda p: np.rot90(p, -1)),  # the phone held upright
        ((-1, 0, 0, -1), 180, lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), 270, lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, 1), 0, lambda p: p[:, ::-1]),  # a mirrored selfie
        ((1, 0, 0, -1), 0, lambda p: p[::-1]),
    ],
)
def test_turned_upright(tmp_path, matrix, turned, shown):
    picture = corners()
    path = encode(tmp_path / "a.mp4", [picture] * 3, pixels="yuv444p", options={"crf": "1"})
    with_matrix(path, matrix)
    with av.open(str(path)) as container:  # FFmpeg's own reading: counter-clockwise degrees
        seen = next(container.decode(video=0)).rotation
    if matrix[0] * matrix[3] >= 0:
        assert -seen % 360 == turned
    wanted = shown(picture)
    info = probe(path)
    assert (info.rotation, info.height, info.width) == (turned, *wanted.shape[:2])
    rgb = next(read_frames(path)).rgb
    assert rgb.shape == wanted.shape
    assert np.abs(rgb.astype(int) - wanted).max() <= 16
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("eye", ["left", "right"])
def test_one_eye(tmp_path, eye):
    picture = corners()
    path = encode(tmp_path / "a.mkv", [picture], "ffv1", "bgr0")
    top = next(read_frames(path, stereo="tb", eye=eye)).rgb
    assert (top == (picture[:24] if eye == "left" else picture[24:])).all()
    side = next(read_frames(path, stereo="sbs", eye=eye)).rgb
    assert (side == (picture[:, :48] if eye == "left" else picture[:, 48:])).all()
    odd = corners(5, 7)
    assert one_eye(odd, "tb", eye).shape == (2, 7, 3)
    assert one_eye(odd, "sbs", eye).shape == (5, 3, 3)


@pytest.mark.parametrize("size", [(12, 24), (96, 192), (12, 192), (96, 24), (48, 24), (48, 96)])
def test_resize_each_axis_its_own_way(tmp_path, size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (48, 96, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mkv", [picture], "ffv1", "bgr0")
    rgb = next(read_frames(path, size=size)).rgb
    assert rgb.shape == (*size, 3)
    # shrinking by a whole factor is the mean of whole blocks; nothing is skipped
    down = [max(1, 48 // size[0]), max(1, 96 // size[1])]
    blocks = picture.reshape(48 // down[0], down[0], 96 // down[1], down[1], 3).mean((1, 3))
    up = [max(1, size[0] // 48), max(1, size[1] // 96)]
    if up == [1, 1]:
        assert np.abs(rgb - blocks).max() <= 1
    else:  # growing keeps the mean and adds no extreme
        assert rgb.mean() == pytest.approx(blocks.mean(), abs=2)
        assert rgb.max() <= blocks.max() + 1


def test_frames_are_yours_to_write_into(tmp_path):
    """The qtrle decoder keeps its last picture and paints changes into it: not the one we got."""
    pictures = [numbered(i) for i in range(12)]
    path = encode(tmp_path / "a.mov", pictures, "qtrle", "rgb24")
    for frame, picture in zip(read_frames(path), pictures, strict=True):
        assert (frame.rgb == picture).all()
        frame.rgb[:] = 77


# --- damage --------------------------------------------------------------------------------------


def test_a_hole_in_the_middle(tmp_path):
    """Every frame a key frame, one of them overwritten: one is lost and the count goes on."""
    path = encode(tmp_path / "a.mov", [numbered(i) for i in range(40)], "png", "rgb24")
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(18):
        at = data.index(b"\x89PNG", at + 1)
    data[at : at + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"a\.mov: 1 damaged packets") as seen:
        frames = list(read_frames(path))
    assert len(seen) == 1
    assert [f.index for f in frames] == [i for i in range(40) if i != 17]
    assert [number(f.rgb) for f in frames] == [f.index for f in frames]
    with pytest.warns(UserWarning, match="damaged"):  # the lost frame was due: the next one comes
        assert [f.index for f in read_frames(path, fps=30 / 17)] == [0, 18, 34]


def test_h264_with_noise_in_it_still_ends(tmp_path, film):
    data = bytearray(film.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 2
    data[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = list(read_frames(path))
    assert len(frames) > 250
    assert sorted({f.index for f in frames}) == [f.index for f in frames]
    assert frames[-1].index == number(frames[-1].rgb) == 299


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_file_cut_off(tmp_path, name):
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    options = {"g": "10", "deadline": "realtime"} if codec == "libvpx-vp9" else {"g": "10"}
    rng = np.random.default_rng(0)
    pictures = [numbered(i) // 2 + rng.integers(0, 9, (32, 64, 3), np.uint8) for i in range(90)]
    path = encode(tmp_path / name, pictures, codec, options=options)
    if name == "a.mp4":
        video.write_spherical(path)  # the index first, so that a cut file opens at all
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.warns(UserWarning, match=rf"a\.{name[2:]}: ends a"):
        frames = list(read_frames(path))
    assert 15 < len(frames) < 85
    assert [f.index for f in frames] == list(range(len(frames)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is read is whole: nothing to warn of
        assert len(list(read_frames(path, seconds=0.5))) == 15


# --- one eye or two? -----------------------------------------------------------------------------


def panorama(seed=0, height=128, width=256):
    """A seamless sky, ground and clutter."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((height, width, 3))
    low = np.fft.rfft2(noise, axes=(0, 1))
    low[12:-12], low[:, 24:] = 0, 0
    clutter = np.fft.irfft2(low, (height, width), axes=(0, 1))
    sky = np.linspace(200, 60, height)[:, None, None]
    return np.clip(sky + 25 * clutter / clutter.std(), 0, 255).astype(np.uint8)


def test_stacks_are_told_from_panoramas():
    for seed in range(5):
        mono = panorama(seed)
        other = np.roll(mono, 2, axis=1)
        assert image_stereo(mono).layout == "mono"
        assert image_stereo(np.concatenate([mono, other])).layout == "tb"
        assert image_stereo(np.concatenate([mono, other], axis=1)).layout == "sbs"
        squeezed = np.concatenate([mono[::2], other[::2]])  # 2:1 again
        choice = image_stereo(squeezed)
        assert choice.layout == "tb"
        assert "top and bottom halves correlate" in choice.reason


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("shape", [(64, 128, 3), (128, 128, 3), (32, 128, 3)])
def test_nothing_to_see_is_one_eye(value, shape):
    picture = np.full(shape, value, np.uint8)
    assert image_stereo(picture).layout == "mono"
    sky = np.repeat(np.linspace(255, 0, shape[0])[:, None], shape[1], 1).astype(np.uint8)
    assert image_stereo(np.stack([sky] * 3, axis=2)).layout == "mono"


def test_image_stereo_refuses():
    with pytest.raises(TypeError, match="rgb: found float64"):
        image_stereo(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"rgb: found shape \(4, 4\)"):
        image_stereo(np.zeros((4, 4), np.uint8))


def test_resolve_believes_the_request_then_the_file_then_its_eyes(tmp_path):
    mono = panorama()
    stack = np.concatenate([mono, np.roll(mono, 2, axis=1)])
    black = np.zeros_like(stack)
    for spherical, wanted in ((True, "sbs"), (False, "tb")):
        path = tmp_path / f"{wanted}.mp4"
        with VideoWriter(path, spherical=spherical, stereo="sbs") as out:
            for i in range(130):  # black at first, as films are
                out.write(black if i < 20 else stack)
        choice = resolve_stereo(path)
        assert choice.layout == wanted
        assert ("metadata" if spherical else "correlate") in choice.reason
        assert resolve_stereo(probe(path)) == choice
        assert resolve_stereo(path, "mono").layout == "mono"
    with pytest.raises(ValueError, match="requested: found 'both'"):
        resolve_stereo(path, "both")


def test_matroska_metadata(tmp_path):
    """Remuxed by FFmpeg, V2 metadata becomes Matroska's own; it comes back as side data."""
    source, copy = tmp_path / "a.mp4", tmp_path / "a.mkv"
    with VideoWriter(source, stereo="tb") as out:
        out.write(corners())
    remux(source, copy)
    info = probe(copy)
    assert info.stereo == "tb"
    assert info.spherical == SphericalInfo("equirectangular", "tb", "v2")


def test_matroska_metadata_of_the_first_kind(tmp_path):
    xml = (
        "<rdf:SphericalVideo><GSpherical:Spherical>true</GSpherical:Spherical>"
        "<GSpherical:StereoMode>left-right</GSpherical:StereoMode></rdf:SphericalVideo>"
    )

    def tag(stream):
        stream.metadata["SPHERICAL-VIDEO"] = xml

    info = probe(encode(tmp_path / "a.mkv", [corners()], setup=tag))
    assert info.spherical == SphericalInfo("equirectangular", "sbs", "v1")
    assert info.stereo == "sbs"


def test_a_playlist_fetches_nothing(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match=r"a\.mp4: "):
        probe(path)


# --- writing -------------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    path = tmp_path / "a.mp4"
    picture = panorama()
    with VideoWriter(path, (128, 256), 30000 / 1001, crf=10) as out:
        for i in range(20):
            out.write(np.roll(picture, i, axis=1))
    info = probe(path)
    assert info.fps == pytest.approx(30000 / 1001, rel=1e-9)
    assert info.frames == out.frames == 20
    for frame in read_frames(path):
        away = frame.rgb.astype(float) - np.roll(picture, frame.index, axis=1)
        assert np.sqrt((away**2).mean()) < 8
        assert abs(away.mean()) < 2  # swscale rounds down
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.colorspace, codec.color_range) == (1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("fps", [30, Fraction(30000, 1001), 0.5, 1000])
def test_frames_are_shown_when_they_should_be(tmp_path, fps):
    """Times on any clock, close to the even grid or not; the same twice comes one after another."""
    even = [5 + k / fps for k in range(4)]
    times = [*even, even[-1] + 2.5 / fps, even[-1] + 7.25 / fps, even[-1] + 7.25 / fps]
    with VideoWriter(tmp_path / "a.mp4", fps=fps) as out:
        for i, time in enumerate(times):
            out.write(numbered(i), time)
    frames = list(read_frames(tmp_path / "a.mp4"))
    assert [number(f.rgb) for f in frames] == list(range(7))
    found = [f.time * float(fps) for f in frames]
    assert np.allclose(found[:6], [0, 1, 2, 3, 5.5, 10.25], atol=0.05)
    assert 10.25 < found[6] < 10.6


def test_colours_are_written_as_bt709(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", crf=1) as out:
        out.write(corners())
    away = np.abs(next(read_frames(tmp_path / "a.mp4")).rgb.astype(int) - corners())
    away[20:28], away[:, 44:52] = 0, 0
    assert away.max() <= 4


@pytest.mark.parametrize("spherical", [True, False])
def test_plain_or_spherical(tmp_path, spherical):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, spherical=spherical) as out:
        out.write(corners())
    assert (read_spherical(path) is not None) == spherical
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("size", [(33, 64), (32, 63), (33, 63), (1, 1)])
def test_odd_sizes_repeat_their_last_row_or_column(tmp_path, size):
    picture = corners(*size)
    with VideoWriter(tmp_path / "a.mp4", crf=1) as out:
        out.write(picture)
    rgb = next(read_frames(tmp_path / "a.mp4")).rgb
    assert rgb.shape[:2] == tuple(n + n % 2 for n in size)
    assert np.abs(rgb[: size[0], : size[1]].astype(int) - picture).mean() < 12


def test_an_exception_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older film")

    def body():
        with VideoWriter(path) as out:
            out.write(corners())
            raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        body()
    assert path.read_bytes() == b"an older film"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_ctrl_c_keeps_what_was_written(tmp_path):
    path = tmp_path / "a.mp4"

    def body():
        with VideoWriter(path) as out:
            for i in range(50):
                out.write(numbered(i))
                if i == 34:
                    signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        body()
    assert [number(f.rgb) for f in read_frames(path)] == list(range(35))
    assert read_spherical(path)
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "b.mp4"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_no_frames_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mp4: no frame"), VideoWriter(tmp_path / "a.mp4"):
        pass
    assert os.listdir(tmp_path) == []


def test_the_writer_refuses_by_name(tmp_path):
    path = tmp_path / "a.mp4"
    for bad, message in [
        ({"fps": 0}, "fps: found 0"),
        ({"fps": 1e-9}, "fps: found 1e-09"),
        ({"crf": 52}, "crf: found 52"),
        ({"stereo": "x"}, "stereo: found 'x'"),
        ({"size": (0, 3)}, "size: found"),
    ]:
        with pytest.raises(ValueError, match=message):
            VideoWriter(path, **bad)
    with pytest.raises(ValueError, match="not open"):
        VideoWriter(path).write(corners())
    with VideoWriter(path) as out:
        out.write(corners())
        for bad, kind, message in [
            (corners(16, 16), ValueError, r"found size \(16, 16\), wanted \(48, 96\)"),
            (corners()[..., 0], ValueError, "found shape"),
            (corners() / 255, TypeError, "found float64"),
            ([1], TypeError, "found <class 'list'>"),
        ]:
            with pytest.raises(kind, match=message):
                out.write(bad)
        for bad in ("1", float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"time: found {bad!r}"):
                out.write(corners(), bad)
    assert probe(path).frames == 1


def test_places_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"none.a\.mp4"),
        VideoWriter(tmp_path / "none/a.mp4"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match=str(tmp_path)), VideoWriter(tmp_path):
        pass


def test_a_full_disk(tmp_path):
    """A limit on file sizes stands in for it: the same error path through FFmpeg."""
    code = """
        import resource, signal, sys
        import numpy as np
        from sal360.video import VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        rng = np.random.default_rng(0)
        try:
            with VideoWriter(sys.argv[1], crf=1) as out:
                for _ in range(int(sys.argv[2])):
                    out.write(rng.integers(0, 255, (64, 128, 3), dtype=np.uint8))
        except OSError as error:
            print(type(error).__name__, error)
    """
    for frames in (12, 200):  # the first fails on closing only
        path = tmp_path / "a.mp4"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(path), str(frames)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(f"OSError [Errno 27] File too large: '{path}'"), done
        assert os.listdir(tmp_path) == []


# --- memory --------------------------------------------------------------------------------------


def test_ten_thousand_frames_take_no_more_memory_than_a_thousand(tmp_path):
    path = tmp_path / "long.mp4"
    with VideoWriter(path, fps=30) as out:
        for i in range(10_000):
            out.write(numbered(i % 4096))
    code = """
        import sys, tracemalloc
        from sal360.video import read_frames

        def resident():
            fields = open("/proc/self/status").read().split("VmRSS:")[1].split()
            return int(fields[0]) * 1024

        hoard = []
        tracemalloc.start()
        for n, frame in enumerate(read_frames(sys.argv[1]), 1):
            if sys.argv[2] == "hoard":
                hoard.append(frame.rgb)
            if n in (1000, 10_000):
                print(n, tracemalloc.get_traced_memory()[1], resident())
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("needs /proc")
    grown = {}
    for how in ("stream", "hoard"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(path), how],
            capture_output=True,
            text=True,
            check=True,
        )
        (n0, traced0, rss0), (n1, traced1, rss1) = (
            map(int, line.split()) for line in done.stdout.splitlines()
        )
        assert (n0, n1) == (1000, 10_000)
        grown[how] = (traced1 - traced0, rss1 - rss0)
    frame = 32 * 64 * 3
    assert grown["stream"][0] < 10 * frame
    assert grown["stream"][1] < 1000 * frame  # 9,000 frames came by; they would be 55 MB
    assert grown["hoard"][1] > 8000 * frame  # and the measurement sees it when they stay


# --- real files ----------------------------------------------------------------------------------


def real(*names):
    cache = os.environ.get("SAL360_CACHE")
    if not cache:
        pytest.skip("SAL360_CACHE is not set")
    path = Path(cache).joinpath(*names)
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.mark.real
def test_a_real_stereo_film():
    path = real("samples", "congo_2048.mp4")
    info = probe(path)
    assert (info.width, info.height, info.frames, info.has_audio) == (1920, 1080, 300, True)
    assert resolve_stereo(info).layout == "tb"
    blind = resolve_stereo(replace(info, spherical=None, stereo=None))
    assert blind.layout == "tb"
    assert "correlate 0.9" in blind.reason
    kept = list(read_frames(path, fps=8, stereo="tb", size=(120, 240)))
    assert len(kept) == count_selected(info, 8) == 75
    assert [f.index for f in kept] == list(range(0, 300, 4))
    late = next(read_frames(path, start=kept[40].time, stereo="tb", size=(120, 240)))
    assert late.index == kept[40].index
    assert (late.rgb == kept[40].rgb).all()


@pytest.mark.real
def test_real_photographs_are_one_eye():
    import cv2

    names = ("petra", "taj-mahal", "examplepano", "labelled_faces")
    paths = [real("samples", f"{name}.jpg") for name in names]
    paths += sorted(real("avtrack360", "images").glob("*.jpg"))
    margin = []
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4)
        assert image_stereo(picture).layout == "mono", path
        margin += [video._likeness(picture, layout) for layout in ("tb", "sbs")]
    assert max(margin) < 0.3
