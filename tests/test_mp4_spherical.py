"""The boxes: what is written is read back, the pictures stay, and no file can hurt the reader."""

import os
import random
import struct
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sal360 import mp4_spherical
from sal360.mp4_spherical import SphericalInfo, parse_v1_xml, read_spherical, write_spherical

UUID = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")


def encode(path, count=12, codec="libx264", audio=False, **options):
    """A small mp4 whose frames all differ."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", container_options=options) as container:
        video = container.add_stream(codec, rate=Fraction(30))
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        sound = container.add_stream("aac", rate=48000) if audio else None
        for i in range(count):
            picture = rng.integers(0, 255, (32, 64, 3), dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if sound:
                noise = rng.integers(-9999, 9999, (1, 3200), dtype=np.int16)
                block = av.AudioFrame.from_ndarray(noise, format="s16", layout="stereo")
                block.sample_rate, block.pts = 48000, i * 1600
                container.mux(sound.encode(block))
        for stream in container.streams:
            container.mux(stream.encode(None))
    return Path(path)


def decoded(path):
    """Every picture and every sound block of a file, with its time."""
    with av.open(str(path)) as container:
        return [
            (type(frame).__name__, frame.pts, frame.to_ndarray().tobytes())
            for frame in container.decode()
        ]


def side_data(path):
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return {item.type.name: bytes(item) for item in frame.side_data}


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


@pytest.mark.parametrize("stereo", ["mono", "tb", "sbs"])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mp4", "libx265"), ("a.mov", "mpeg4")]
)
def test_written_is_read_back_and_every_frame_is_the_same(tmp_path, stereo, name, codec):
    path = encode(tmp_path / name, codec=codec, audio=codec == "libx264")
    before = decoded(path)
    assert read_spherical(path) is None
    write_spherical(path, stereo)
    assert read_spherical(path) == SphericalInfo("equirectangular", stereo, "v2")
    assert decoded(path) == before
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    # the older box says the same
    hidden = tmp_path / "v1.mp4"
    hidden.write_bytes(data.replace(b"sv3d", b"free").replace(b"st3d", b"free"))
    assert read_spherical(hidden) == SphericalInfo("equirectangular", stereo, "v1")


@pytest.mark.parametrize(("stereo", "number"), [("mono", 0), ("sbs", 1), ("tb", 2)])
def test_ffmpeg_reads_the_same(tmp_path, stereo, number):
    path = encode(tmp_path / "a.mp4")
    assert "SPHERICAL" not in side_data(path)
    write_spherical(path, stereo)
    seen = side_data(path)
    assert seen["SPHERICAL"][0] == 0  # AV_SPHERICAL_EQUIRECTANGULAR
    assert seen["STEREO3D"][0] == number


def test_twice_is_once_and_a_change_of_mind_leaves_no_trace(tmp_path):
    path = encode(tmp_path / "a.mp4")
    before = decoded(path)
    write_spherical(path, "tb")
    once, stamp = path.read_bytes(), os.stat(path).st_ino
    write_spherical(path, "tb")
    assert path.read_bytes() == once
    assert os.stat(path).st_ino == stamp  # not even copied
    write_spherical(path, "mono")
    write_spherical(path, "tb")
    assert path.read_bytes() == once
    assert once.count(UUID) == once.count(b"sv3d") == once.count(b"st3d") == 1
    assert decoded(path) == before
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_long_files_get_64_bit_offsets(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", audio=True)
    before = decoded(path)
    assert b"stco" in path.read_bytes()
    monkeypatch.setattr(mp4_spherical, "_STCO_LIMIT", 1000)
    write_spherical(path)
    assert b"co64" in path.read_bytes()
    assert b"stco" not in path.read_bytes()
    assert decoded(path) == before


def test_a_mdat_with_a_64_bit_or_an_open_size(tmp_path):
    path = encode(tmp_path / "a.mp4", movflags="+faststart")
    before = decoded(path)
    data = path.read_bytes()
    at = data.index(b"mdat") - 4
    path.write_bytes(data[:at] + bytes(4) + data[at + 4 :])  # "until the end"
    write_spherical(path)
    assert decoded(path) == before


def test_wrong_offsets_would_be_seen(tmp_path):
    """The comparison above can fail: one chunk offset, moved by one byte, changes a picture."""
    path = encode(tmp_path / "a.mp4", movflags="+faststart")
    before = decoded(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"stco") + 12
    data[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + 1)
    path.write_bytes(data)
    try:
        after = decoded(path)
    except av.error.FFmpegError:
        after = None
    assert after != before


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path):
    path = encode(tmp_path / "a.mp4")
    path.chmod(0o640)
    link = tmp_path / "b.mp4"
    link.symlink_to(path)
    write_spherical(link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert read_spherical(path)


def make_refused(folder, what):
    path = folder / "a.mp4"
    if what == "fragmented":
        return encode(path, movflags="frag_keyframe+empty_moov")
    if what == "empty":
        path.write_bytes(b"")
    elif what == "text":
        path.write_text("not a film " * 99)
    elif what == "no moov":
        path.write_bytes(box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", bytes(99)))
    elif what == "matroska":
        encode(folder / "a.mkv").rename(path)
    elif what == "audio only":
        data = encode(path, audio=True).read_bytes()
        path.write_bytes(data.replace(b"vide", b"text"))
    else:
        data = encode(path, movflags="+faststart").read_bytes()
        path.write_bytes(data[:-200])  # cut
    return path


@pytest.mark.parametrize(
    "what", ["fragmented", "empty", "text", "no moov", "matroska", "audio only", "cut"]
)
def test_what_it_cannot_do_it_refuses_by_name(tmp_path, what):
    path = make_refused(tmp_path, what)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.mp4: ") as refusal:
        write_spherical(path)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert read_spherical(path) is None


def test_arguments_and_missing_files(tmp_path):
    path = encode(tmp_path / "a.mp4", count=1)
    with pytest.raises(ValueError, match="stereo: found 'both'"):
        write_spherical(path, "both")
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        read_spherical(tmp_path / "none.mp4")
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        write_spherical(tmp_path / "none.mp4")


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device", "/somewhere/else")

    monkeypatch.setattr(mp4_spherical, "_copy", full)
    with pytest.raises(OSError, match=r"No space left.*a\.mp4"):
        write_spherical(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(
    ("elements", "wanted"),
    [
        ("<GSpherical:Spherical>true</GSpherical:Spherical>", ("equirectangular", "mono")),
        (
            "<GSpherical:Spherical>\n true </GSpherical:Spherical>"
            "<GSpherical:ProjectionType> Cubemap </GSpherical:ProjectionType>"
            "<GSpherical:StereoMode>left-right</GSpherical:StereoMode>",
            ("cubemap", "sbs"),
        ),
        ("<GSpherical:Spherical>false</GSpherical:Spherical>", None),
        ("", None),
        (
            "<GSpherical:Spherical>true</GSpherical:Spherical>"
            "<GSpherical:StereoMode>&eye;</GSpherical:StereoMode>",  # no entity is looked up
            ("equirectangular", "mono"),
        ),
        (
            "<GSpherical:Spherical>true</GSpherical:Spherical>"
            "<GSpherical:CroppedAreaImageWidthPixels>960</GSpherical:CroppedAreaImageWidthPixels>"
            "<GSpherical:CroppedAreaImageHeightPixels>960</GSpherical:CroppedAreaImageHeightPixels>"
            "<GSpherical:FullPanoWidthPixels>1920</GSpherical:FullPanoWidthPixels>"
            "<GSpherical:FullPanoHeightPixels>960</GSpherical:FullPanoHeightPixels>",
            ("cropped-equirectangular", "mono"),
        ),
    ],
)
def test_v1_xml(elements, wanted):
    found = parse_v1_xml(f"<rdf:SphericalVideo>{elements}</rdf:SphericalVideo>".encode())
    assert (found and (found.projection, found.stereo)) == wanted


@pytest.mark.parametrize("bounds", [0, 1 << 30])
@pytest.mark.parametrize(("mode", "stereo"), [(None, None), (1, "tb"), (3, None), (4, "sbs")])
def test_v2_boxes_of_others(tmp_path, bounds, mode, stereo):
    path = encode(tmp_path / "a.mp4")
    write_spherical(path, "sbs")
    data = path.read_bytes()
    at = data.index(b"equi") + 8
    data = data[:at] + struct.pack(">I", bounds) + data[at + 4 :]
    at = data.index(b"st3d")
    if mode is None:
        data = data[:at] + b"free" + data[at + 4 :]
    else:
        data = data[: at + 8] + bytes([mode]) + data[at + 9 :]
    path.write_bytes(data)
    projection = "cropped-equirectangular" if bounds else "equirectangular"
    assert read_spherical(path) == SphericalInfo(projection, stereo, "v2")


def test_hostile_files_cost_little(tmp_path):
    """Cut anywhere, bytes changed, nested deep, a million boxes, huge sizes: quick and small."""
    path = encode(tmp_path / "a.mp4", count=2)
    write_spherical(path, "tb")
    data = path.read_bytes()
    bad = tmp_path / "bad.mp4"
    chance = random.Random(0)
    cases = [data[:n] for n in range(0, 1500, 7)]
    for _ in range(500):
        noisy = bytearray(data)
        for _ in range(chance.choice((1, 3, 30))):
            noisy[chance.randrange(1500)] = chance.choice((0, 1, 8, 255, chance.randrange(256)))
        cases.append(bytes(noisy))
    nested = b""
    for kind in [b"trak", b"mdia", b"minf", b"moov"] * 500:
        nested = box(kind, nested)
    cases += [
        nested,
        box(b"free") * 1_000_000,
        box(b"moov", box(b"trak") * 300_000),
        struct.pack(">I4sQ", 1, b"moov", 2**63),
        struct.pack(">I4s", 2**32 - 1, b"moov") + bytes(100),
        struct.pack(">I4s", 1, b"mdat"),
    ]
    tracemalloc.start()
    began = time.perf_counter()
    unnamed = 0
    held = tracemalloc.get_traced_memory()[0]
    for case in cases:
        bad.write_bytes(case)
        found = read_spherical(bad)
        assert found is None or isinstance(found, SphericalInfo)
        try:
            write_spherical(bad)
        except ValueError as error:
            unnamed += "bad.mp4: " not in str(error)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert unnamed == 0
    assert seconds < 60
    assert peak < 40e6  # the largest case is an index of 8 MB, which writing may hold a few times


def test_the_pictures_are_never_in_memory(tmp_path):
    path = encode(tmp_path / "a.mp4")
    data = path.read_bytes()
    at = data.index(b"mdat") - 4
    with path.open("wb") as file:  # a hole of 200 MB in front of the pictures, inside no table
        file.write(data[:at] + struct.pack(">I4s", 200_000_008, b"free"))
        file.seek(200_000_000, os.SEEK_CUR)
        shift = 200_000_008
        rest = bytearray(data[at:])
        where = rest.index(b"stco") + 12
        first = struct.unpack(">I", rest[where : where + 4])[0] + shift
        rest[where : where + 4] = struct.pack(">I", first)
        file.write(rest)
    before = decoded(path)
    tracemalloc.start()
    write_spherical(path)
    assert read_spherical(path) is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert decoded(path) == before


@pytest.mark.real
def test_a_real_stereo_film(tmp_path):
    cache = os.environ.get("SAL360_CACHE")
    if not cache:
        pytest.skip("SAL360_CACHE is not set")
    source = Path(cache) / "samples" / "congo_2048.mp4"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    assert read_spherical(source) == SphericalInfo("equirectangular", "tb", "v1")
    copy = tmp_path / "congo.mp4"
    copy.write_bytes(source.read_bytes())
    write_spherical(copy, "tb")
    assert read_spherical(copy) == SphericalInfo("equirectangular", "tb", "v2")
    assert copy.read_bytes().count(UUID) == 1

    def packets(path):
        with av.open(str(path)) as container:
            return [(p.stream.index, p.pts, bytes(p)) for p in container.demux() if p.size]

    assert packets(copy) == packets(source)
