"""Films as a data set: the same frames as the reader's, wherever a clip begins."""

import os
import pickle
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch

from sal360.datasets.films import Films
from sal360.datasets.item import VideoDataset
from sal360.datasets.store import FrameStore
from sal360.images import write_image
from sal360.video import VideoWriter, read_frames

SIZE = (32, 64)


def pictures(n, seed=0, size=SIZE):
    """Frames that can be told apart: a grey level that says the number, and a texture."""
    noise = np.random.default_rng(seed).integers(0, 40, (*size, 3))
    return [np.clip(noise + 10 + 2 * k, 0, 255).astype(np.uint8) for k in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("films")
    for name, n, fps in (("b", 40, 30), ("a", 90, 25)):
        with VideoWriter(path / f"{name}.mp4", fps=fps, crf=1) as video:
            for rgb in pictures(n):
                video.write(rgb)
    (path / "c").mkdir()
    for k, rgb in enumerate(pictures(12)):
        write_image(path / "c" / f"frame{k}.png", rgb)
    (path / "notes.txt").write_text("not a film")
    return path


def test_is_a_data_set(folder):
    films = Films(folder)
    assert isinstance(films, VideoDataset) and not films.skipped
    assert films.videos == ("a.mp4", "b.mp4", "c")
    assert [films.length(v) for v in films.videos] == [30, 10, 12]
    assert [films.rate(v) for v in films.videos] == pytest.approx([25 / 3, 7.5, 8])
    item = films.read("a.mp4")
    assert item.frames.shape == (30, 3, *SIZE) and item.frames.dtype == torch.float32
    assert item.indices.tolist() == list(range(0, 90, 3)) and item.size == SIZE
    assert (item.dataset, item.video, item.fps) == ("films", "a.mp4", pytest.approx(25 / 3))
    assert item.flow is item.truth is item.fixations is None


@pytest.mark.parametrize("fps", [8.0, None])
@pytest.mark.parametrize("size", [None, (16, 32)])
def test_a_clip_is_a_slice_of_the_whole(folder, fps, size):
    films = Films(folder, fps=fps)
    for video in films.videos:
        whole = films.read(video, size=size)
        if video != "c":
            read = [f.rgb for f in read_frames(folder / video, fps=fps, size=size)]
            wanted = torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2) / 255
            assert whole.frames.equal(wanted)
        for start, length, step in ((0, 3, 1), (5, 4, 1), (1, 3, 3), (len(whole) - 2, 2, 1)):
            part = films.read(video, start, length, step, size)
            chosen = slice(start, start + length * step, step)
            assert part.frames.equal(whole.frames[chosen][:length])
            assert part.indices.equal(whole.indices[chosen][:length])
            assert part.fps == pytest.approx(whole.fps / step)


def test_order_of_pictures_is_by_number(folder):
    grey = Films(folder).read("c").frames.mean((1, 2, 3))
    assert (grey.diff() > 0).all()


def test_one_file_several_files_and_names(folder, tmp_path):
    assert Films(folder / "b.mp4").videos == ("b.mp4",)
    assert Films([folder / "b.mp4", folder / "c"]).videos == ("b.mp4", "c")
    (tmp_path / "b.mp4").write_bytes((folder / "b.mp4").read_bytes())
    twice = Films([folder / "b.mp4", tmp_path / "b.mp4"])
    assert twice.videos == (str(folder / "b.mp4"), str(tmp_path / "b.mp4"))
    assert Films(folder / "c", fps=4).rate("c") == 4


def test_survives_a_trip_to_a_worker(folder):
    films = Films(folder)
    there = pickle.loads(pickle.dumps(films))
    assert there.read("a.mp4", 3, 4).frames.equal(films.read("a.mp4", 3, 4).frames)


def varying(path):
    """A film whose frames are 1, 2 or 3 thirtieths apart."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        time = 0
        for k, rgb in enumerate(pictures(60)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            container.mux(stream.encode(frame))
            time += 1 + k % 3
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_of_varying_rate(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    varying(path)
    films = Films(path, fps=5)
    read = list(read_frames(path, fps=5))
    whole = films.read(path.name)
    assert whole.indices.tolist() == [f.index for f in read] and len(read) > 8
    wanted = torch.from_numpy(np.stack([f.rgb for f in read])).permute(0, 3, 1, 2) / 255
    assert whole.frames.equal(wanted)
    part = films.read(path.name, 6, 4)
    assert part.frames.equal(whole.frames[6:10])


def test_a_film_without_an_index(folder, tmp_path):
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(folder / "a.mp4")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    ours, theirs = Films(path), Films(folder / "a.mp4")
    assert ours.length("a.mkv") == 30
    part, wanted = ours.read("a.mkv", 17, 5), theirs.read("a.mp4", 17, 5)
    assert part.frames.equal(wanted.frames) and part.indices.equal(wanted.indices)


def broken(folder, tmp_path):
    data = bytearray((folder / "a.mp4").read_bytes())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "good.mp4").write_bytes(data)
    (tmp_path / "text.mp4").write_text("not a film at all")
    return tmp_path


def test_films_that_cannot_be_opened_are_named_and_counted(folder, tmp_path):
    path = broken(folder, tmp_path)
    with pytest.raises(ValueError, match=r"empty\.mp4: .*2 of 3 films cannot be read") as caught:
        Films(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="2 of 3"):
        films = Films(path, on_error="skip")
    assert films.videos == ("good.mp4",) and set(films.skipped) == {"empty.mp4", "text.mp4"}
    (path / "good.mp4").unlink()
    with pytest.raises(ValueError, match="2 of 2"):
        Films(path, on_error="skip")


def test_a_film_that_ends_early_is_named(folder, tmp_path):
    """Made without an index at its end, so that it opens; then cut in two."""
    path = tmp_path / "cut.mkv"
    varying(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    films = Films(path)
    assert 0 < films.length("cut.mkv") < 40
    films.read("cut.mkv", 0, 3)


def test_a_frame_that_is_gone_is_named(folder, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes((folder / "a.mp4").read_bytes())
    films = Films(path, fps=None)
    films.length("a.mp4")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(len(data) - middle))
    with pytest.raises(ValueError, match=rf"^{path}: frame \d+ cannot be decoded"):
        films.read("a.mp4")
    films.read("a.mp4", 0, 5)


def test_a_picture_of_another_size_is_named(tmp_path):
    for k in range(4):
        size = (20, 40) if k == 2 else SIZE
        write_image(tmp_path / f"{k}.png", pictures(1, size=size)[0])
    films = Films(tmp_path)
    with pytest.raises(ValueError, match=r"2\.png: 20 x 40 pixels, wanted 32 x 64"):
        films.read(films.videos[0])
    assert films.read(films.videos[0], size=(16, 32)).frames.shape == (4, 3, 16, 32)
    with pytest.raises(TypeError, match=r"^size: \(4,\), wanted \(H, W\)"):
        films.read(films.videos[0], size=(4,))


# --- kept frames ---


def test_kept_frames_are_the_decoded_ones(folder, tmp_path, monkeypatch):
    plain = Films(folder)
    kept = Films(folder, store=FrameStore(folder=tmp_path))
    for again in range(2):
        for video in plain.videos:
            for window in ((0, 4), (3, 3, 2)):
                one = kept.read(video, *window, size=(16, 32))
                assert one.frames.equal(plain.read(video, *window, size=(16, 32)).frames)
                assert one.indices.equal(plain.read(video, *window, size=(16, 32)).indices)
        assert len(list(tmp_path.iterdir())) == 2  # the two films; pictures are files already
        if not again:  # from now on nothing may be decoded
            monkeypatch.setattr("sal360.datasets.films._decoded", lambda *_: pytest.fail("decoded"))
            plain = kept
    kept.read("c", size=(16, 32))


def test_kept_frames_depend_on_the_file_the_size_and_the_rate(folder, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes((folder / "a.mp4").read_bytes())
    store = FrameStore(folder=tmp_path / "kept")
    first = Films(path, store=store).read("a.mp4", 0, 3, size=(16, 32))
    Films(path, store=store).read("a.mp4", 0, 3, size=(8, 16))
    Films(path, fps=None, store=store).read("a.mp4", 0, 3, size=(16, 32))
    assert len(list((tmp_path / "kept").iterdir())) == 3
    path.write_bytes((folder / "b.mp4").read_bytes())
    other = Films(path, store=store).read("a.mp4", 0, 3, size=(16, 32))
    assert len(list((tmp_path / "kept").iterdir())) == 4
    assert other.indices.tolist() == [0, 4, 8] and first.indices.tolist() == [0, 3, 6]


def test_kept_frames_stay_within_the_limit(folder, tmp_path):
    sizes = [(16, 32), (8, 16), (16, 16)]  # of 30 frames: 46, 12 and 23 kB
    store = FrameStore(limit_gb=60e-6, folder=tmp_path)
    films = Films(folder / "a.mp4", store=store)
    for k, size in enumerate(sizes):
        films.read("a.mp4", 0, 2, size=size)
        for n, path in enumerate(sorted(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime)):
            os.utime(path, (n + k, n + k))  # clocks may be coarse
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 60_000 + 3 * 128
    assert len(list(tmp_path.iterdir())) == 2  # the first made room
    big = films.read("a.mp4", 0, 2, size=(32, 64))  # more than all there is: decoded, not kept
    assert big.size == (32, 64) and len(list(tmp_path.iterdir())) == 2


def test_a_broken_film_is_not_kept_but_read(folder, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes((folder / "a.mp4").read_bytes())
    films = Films(path, store=FrameStore(folder=tmp_path / "kept"))
    films.length("a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.warns(UserWarning, match=r"decoded for every clip \(.*cannot be decoded"):
        films.read("a.mp4", 0, 2, size=(16, 32))
    with pytest.raises(ValueError, match="cannot be decoded"):
        films.read("a.mp4", size=(16, 32))
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: Films(f, fps=0), "fps: 0"),
        (lambda f: Films(f, on_error="no"), "on_error: 'no'"),
        (lambda f: Films(f, stereo="both"), "both"),
        (lambda f: Films(f / "none.mp4"), "no such file"),
        (lambda f: Films(f / "c" / "frame0.png"), "a picture"),
        (lambda f: Films([]), "paths: none"),
        (lambda f: Films(f).read("z"), "video: 'z'"),
        (lambda f: Films(f).read("b.mp4", 10), "start: 10"),
        (lambda f: Films(f).read("b.mp4", 8, 3), "length: 3, but .* has 2 frames from 8 on"),
        (lambda f: Films(f).read("b.mp4", 0, 2, 10), "length: 2"),
        (lambda f: Films(f).read("b.mp4", step=0), "step: 0"),
    ],
)
def test_refusals(folder, call, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        call(folder)
    assert "\n" not in str(caught.value)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="neither videos nor pictures"):
        Films(tmp_path)


@pytest.mark.real
def test_real_film(real):
    """Gorillas: two eyes, one above the other; the last clip is the last of the whole."""
    path = real("samples/congo_2048.mp4")
    films = Films(path.parent / path.name)
    name = films.videos[0]
    assert films.length(name) == 75 and films.rate(name) == pytest.approx(29.96 / 4, abs=0.01)
    part = films.read(name, 70, 5, size=(64, 128))
    assert part.indices.tolist() == list(range(280, 300, 4))
    wanted = list(read_frames(path, fps=8, stereo="tb", size=(64, 128)))[70:]
    for ours, theirs in zip(part.frames, wanted, strict=True):
        assert (ours * 255).round().byte().permute(1, 2, 0).equal(torch.from_numpy(theirs.rgb))
    assert films.read(name, length=1).size == (540, 1920)
    mono = Films(path, stereo="mono")
    assert mono.read(name, length=1).size == (1080, 1920)
    first = next(islice(read_frames(path), 1))
    assert (
        torch.from_numpy(first.rgb)
        .permute(2, 0, 1)
        .equal((mono.read(name, length=1).frames[0] * 255).round().byte())
    )
