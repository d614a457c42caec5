"""Batches: the same whatever reads them, every clip once, and going on means going on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from sal360.datasets.augment import Augment
from sal360.datasets.batch import Batch, collate
from sal360.datasets.item import Item
from sal360.datasets.layouts import LAYOUTS, open_dataset
from sal360.datasets.layouts.make import make
from sal360.datasets.loader import ClipLoader, Windows, clip_loader
from sal360.sphere import pixel_area
from sal360.video import VideoWriter


class Numbers:
    """Videos whose frames say which they are, so that a mistake can be read off a batch."""

    name = "numbers"

    def __init__(self, lengths=(10, 7, 3, 12), bad=(), size=(8, 16), without=()):
        self.lengths, self.bad, self.size = tuple(lengths), frozenset(bad), size
        self.without = frozenset(without)

    @property
    def videos(self):
        return tuple(f"v{k}" for k in range(len(self.lengths)))

    def length(self, video):
        return self.lengths[int(video[1:])]

    def rate(self, video):
        return 8.0

    def read(self, video, start=0, length=None, step=1, size=None):
        k = int(video[1:])
        if (video, start) in self.bad:
            raise ValueError(f"/data/{video}.mp4: frame {start} cannot be decoded")
        length = self.lengths[k] if length is None else length
        index = torch.arange(start, start + length * step, step)
        assert index[-1] < self.lengths[k]
        H, W = size or self.size
        area = pixel_area(H, W)[:, None]
        draw = torch.Generator().manual_seed(k)
        truth = torch.rand(length, 1, H, W, generator=draw)
        return Item(
            self.name,
            video,
            (index / 100 + k)[:, None, None, None].expand(-1, 3, H, W) + torch.zeros(H, W),
            index,
            8.0 / step,
            truth=None if video in self.without else truth / (truth * area).sum((-2, -1), True),
            fixations=tuple(torch.full((int(i) % 3, 2), float(i)).double() for i in index),
            masks=torch.full((length, H, W), k),
        )


def seen(batches):
    return [(b.video, b.indices.tolist(), b.frames.sum((1, 2, 3, 4)).tolist()) for b in batches]


# --- windows ---


def test_windows_by_hand():
    films = Numbers([10])

    def cut(*args, **named):
        return [(w.start, w.length) for w in Windows(films, *args, **named)]

    assert cut(4) == [(0, 4), (4, 4)]
    assert cut(4, tail="back") == [(0, 4), (4, 4), (6, 4)]
    assert cut(4, tail="short") == [(0, 4), (4, 4), (8, 2)]
    assert cut(4, stride=3) == [(0, 4), (3, 4), (6, 4)]
    assert cut(4, stride=3, tail="back") == cut(4, stride=3, tail="short") == cut(4, stride=3)
    assert cut(4, step=2) == [(0, 4)]
    assert cut(4, step=2, tail="back") == [(0, 4), (3, 4)]
    assert cut(4, step=2, tail="short") == [(0, 4), (8, 1)]
    assert cut(10) == [(0, 10)]
    assert cut(20, tail="short") == [(0, 10)]


@pytest.mark.parametrize("tail", ["drop", "back", "short"])
@pytest.mark.parametrize("length", [1, 3, 5, 11])
def test_windows_cover_what_they_say(tail, length):
    films = Numbers()
    with pytest.warns() if tail != "short" and length > 3 else nothing():
        windows = Windows(films, length, tail=tail)
    for k, total in enumerate(films.lengths):
        mine = [w for w in windows if w.video == f"v{k}"]
        frames = [f for w in mine for f in range(w.start, w.start + w.length)]
        if tail == "short":
            assert frames == list(range(total))
        elif total < length:
            assert not mine and f"v{k}" in windows.left_out
        else:
            assert all(w.length == length for w in mine) and max(frames) < total
            assert set(frames) == set(range(total if tail == "back" else total // length * length))


def nothing():
    import contextlib

    return contextlib.nullcontext()


def test_windows_refuse():
    for call, words in (
        (lambda: Windows(Numbers(), 20), "length: 20 .*none of the 4"),
        (lambda: Windows(Numbers(), 2, tail="cut"), "tail: 'cut'"),
        (lambda: Windows(Numbers(), 2, videos=["v0", "w"]), "videos: 'w'"),
        (lambda: Windows(Numbers(), 0), "length: 0"),
        (lambda: clip_loader(Numbers(), 2, workers=-1), "workers: -1"),
        (lambda: clip_loader(Numbers(), 2, batch_size=0), "batch_size: 0"),
        (lambda: clip_loader(Numbers(), 2, on_error="no"), "on_error: 'no'"),
        (lambda: clip_loader(Numbers(), 2, seed=-1), "seed: -1"),
        (lambda: clip_loader(Numbers(), 2, size=(0, 4)), r"size\[0\]: 0"),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            call()


# --- batches ---


def test_a_batch_keeps_what_all_clips_have():
    films = Numbers(without=["v1"])
    items = [films.read("v0", 1, 4), films.read("v3", 2, 4, 2)]
    batch = collate(items, [5, 9])
    assert isinstance(batch, Batch) and len(batch) == 2 and batch.clips == (5, 9)
    assert batch.frames.shape == (2, 4, 3, 8, 16) and batch.truth.shape == (2, 4, 1, 8, 16)
    assert batch.masks.shape == (2, 4, 8, 16) and batch.masks.dtype == torch.int64
    assert batch.indices.tolist() == [[1, 2, 3, 4], [2, 4, 6, 8]]
    assert batch.fps.tolist() == [8, 4] and batch.video == ("v0", "v3")
    assert batch.flow is None and batch.depth is None and batch.previous is None
    for k, item in enumerate(items):
        for ours, theirs in zip(batch.fixations_of(k), item.fixations, strict=True):
            assert torch.equal(ours, theirs)
    mixed = collate([films.read("v0", 0, 4), films.read("v1", 0, 4)])
    assert mixed.truth is None and mixed.masks is not None
    moved = batch.to("meta")
    assert moved.frames.device.type == "meta" and moved.video == batch.video
    with pytest.raises(ValueError, match="^fixations: None"):
        collate([Item("a", "b", torch.zeros(1, 3, 4, 8), torch.zeros(1), 1.0)]).fixations_of(0)


def test_clips_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="^v3: 4 frames of 8 x 16 pixels, wanted 3 frames"):
        collate([Numbers().read("v0", 0, 3), Numbers().read("v3", 0, 4)])
    with pytest.raises(ValueError, match="^items: none"):
        collate([])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_clip_once_and_one_length_a_batch(batch_size):
    loader = clip_loader(Numbers(), 4, batch_size, tail="short", seed=1)
    batches = list(loader)
    assert len(batches) == len(loader)
    clips = [c for b in batches for c in b.clips]
    assert sorted(clips) == list(range(len(loader.windows)))
    for batch in batches:
        for clip, video, index in zip(batch.clips, batch.video, batch.indices, strict=True):
            window = loader.windows[clip]
            assert (video, int(index[0]), len(index)) == window
        assert len(batch) <= batch_size
    short = clip_loader(Numbers(), 4, batch_size, tail="short", seed=1, drop_last=True)
    full = list(short)
    assert all(len(b) == batch_size for b in full) and len(full) == len(short)


def test_order_is_the_seeds():
    films = Numbers([30, 30])
    one, same, other = (clip_loader(films, 2, 3, seed=s) for s in (4, 4, 5))
    assert one.batches(0) == same.batches(0) != other.batches(0)
    assert one.batches(0) != one.batches(1)
    state = torch.random.get_rng_state()
    first, second = seen(one), seen(one)
    assert torch.random.get_rng_state().equal(state)  # nobody else's numbers are used up
    assert first != second and one.epoch == 2
    assert seen(same) == first and seen(same) == second
    still = clip_loader(films, 2, 3, shuffle=False)
    assert seen(still) == seen(still)
    assert [c for b in still.batches(7) for c in b] == list(range(30))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    def run(workers):
        turns = Augment(tilt_deg=20, colour=0.1, seed=9)
        loader = clip_loader(
            Numbers([20, 9]), 3, 2, workers, seed=2, augment=turns, size=(16, 32), tail="short"
        )
        return [b for _ in range(2) for b in loader]

    for one, other in zip(run(0), run(workers), strict=True):
        assert one.video == other.video and one.clips == other.clips
        for name in ("frames", "truth", "masks", "indices", "fixations", "fixation_counts"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_is_going_on(workers):
    def new(workers=workers):
        turns = Augment(seed=3)
        return clip_loader(Numbers([40, 9]), 3, 2, workers, seed=6, augment=turns)

    whole = new(0)
    wanted = [seen(whole) for _ in range(2)]
    for k in (1, 3, len(whole)) if workers == 0 else (3,):
        loader = new()
        list(loader)
        for n, _ in enumerate(loader, 1):
            if n == k:
                state = json.loads(json.dumps(loader.state_dict()))
                break
        assert state["batch"] == k and state["epoch"] == 1
        again = new()
        again.load_state_dict(state)
        assert seen(again) == wanted[1][k:]
        assert again.epoch == 2
    assert seen(again) == seen(whole)  # and then the next epoch, from its start


def test_after_a_break_the_epoch_begins_again():
    loader = clip_loader(Numbers([20]), 2, 2, seed=1)
    first = next(iter(loader))
    assert loader.epoch == 0
    assert seen([first]) == seen(loader)[:1]
    assert loader.epoch == 1


def test_a_state_of_another_loader_is_refused():
    state = clip_loader(Numbers(), 3, 2).state_dict()
    for other in (
        clip_loader(Numbers(), 3, 2, seed=1),
        clip_loader(Numbers(), 3, 4),
        clip_loader(Numbers(), 2, 2),
        clip_loader(Numbers([9, 9]), 3, 2),
    ):
        with pytest.raises(ValueError, match="^state: "):
            other.load_state_dict(state)
    clip_loader(Numbers(), 3, 2, workers=2).load_state_dict(state)


# --- trouble ---


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_read_is_named(workers):
    loader = clip_loader(Numbers(bad=[("v3", 4)]), 4, 2, workers, shuffle=False)
    with pytest.raises(ValueError, match=r"^/data/v3\.mp4: frame 4 .*reading v3, frames 4 to 7"):
        list(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_is_skipped_only_when_asked(workers):
    films = Numbers(bad=[("v0", 0), ("v0", 4), ("v3", 4)])
    loader = clip_loader(films, 4, 2, workers, shuffle=False, on_error="skip")
    with pytest.warns(UserWarning, match="3 clips of this epoch were left out"):
        batches = list(loader)
    assert [b.clips for b in batches] == [(2, 3), (5,)]
    assert [w for w in loader.skipped] == [
        "v0, frames 0 to 3", "v0, frames 4 to 7", "v3, frames 4 to 7",
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="3 clips of this epoch"):
        list(loader)


class Short(Numbers):
    def read(self, *args, **named):
        from dataclasses import replace

        item = super().read(*args, **named)
        return replace(item, frames=item.frames[1:], indices=item.indices[1:])


class Buggy(Numbers):
    def read(self, *args, **named):
        raise KeyError("a mistake in the code")


class Deadly(Numbers):
    def read(self, video, *args, **named):
        if video == "v3":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(video, *args, **named)


def test_a_clip_with_a_hole_is_not_passed_on():
    with pytest.raises(ValueError, match="v0: 2 frames, wanted 3"):
        list(clip_loader(Short(), 3, 2, shuffle=False))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_code_keeps_its_trace_and_says_where(workers):
    with pytest.raises(KeyError) as caught:
        list(clip_loader(Buggy(), 3, workers=workers, shuffle=False))
    told = str(caught.value) + " ".join(getattr(caught.value, "__notes__", []))
    assert "reading v0, frames 0 to 2" in told


def test_a_worker_that_dies_is_told():
    loader = clip_loader(Deadly([3, 3, 3, 3]), 3, workers=1, shuffle=False)
    with pytest.raises(RuntimeError, match="a worker died; it was reading one of .*v3"):
        list(loader)


class Hungry(Numbers):
    def read(self, *args, **named):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_why_a_worker_gave_up_is_one_line_and_its_trace_is_kept():
    loader = clip_loader(Hungry([3, 3]), 3, workers=1, shuffle=False)
    with pytest.raises(RuntimeError, match="allocate memory") as caught:
        list(loader)
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)
    assert "in read" in str(caught.value.__cause__)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(x) for x in found.stdout.split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


PROGRAM = """
import sys, time, torch
sys.path.insert(0, {root!r})
from tests.test_loader import Numbers, clip_loader, Augment
a = torch.randn(600, 600); (a @ a).sum()                    # threads that a fork does not copy
torch.nn.functional.conv2d(torch.randn(4, 8, 64, 64), torch.randn(8, 8, 3, 3))
import cv2, numpy
cv2.resize(numpy.zeros((900, 900, 3), numpy.uint8), (300, 300), interpolation=cv2.INTER_AREA)
turns = Augment(tilt_deg=9)
loader = clip_loader(
    Numbers([4000]), 2, 2, workers={workers}, size=(64, 128), augment=turns, start_method={method!r}
)
for n, batch in enumerate(loader):
    print(n, flush=True)
    if n == 3:
        time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(
    ("how", "method", "workers"), [(signal.SIGINT, "fork", 2), (signal.SIGKILL, "spawn", 1)]
)
def test_no_deadlock_and_no_orphans(how, method, workers):
    """Workers begin after threads were at work here, and end after Ctrl-C and after a kill."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(root=root, method=method, workers=workers)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    stuck = threading.Timer(120, program.kill)
    stuck.start()
    try:
        came = next((line for line in program.stdout if line.strip() == "3"), None)
        assert came, program.stderr.read()
        theirs = children(program.pid)
        assert len(theirs) >= workers
        program.send_signal(how)
        program.wait(timeout=30)
        end = time.monotonic() + 30  # a worker looks for its parent every few seconds
        while any(alive(pid) for pid in theirs) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(alive(pid) for pid in theirs)
        if how == signal.SIGINT:
            assert "KeyboardInterrupt" in program.stderr.read()
    finally:
        stuck.cancel()
        program.kill()
        program.communicate()


TOLD_PROGRAM = """
import os, signal, sys
sys.path.insert(0, {root!r})
from sal360.datasets import loader
from tests.test_loader import Numbers, clip_loader

class Told(Numbers):
    def __init__(self, *args):
        super().__init__(*args)
        self.parent = os.getpid()
    def __setstate__(self, state):  # as soon as a spawned process has it
        self.__dict__.update(state)
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGTERM)

quiet = loader._quiet_worker
def told(number):  # before a forked process has done anything of ours
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    quiet(number)

if __name__ == "__main__":
    if {method!r} == "fork":
        loader._quiet_worker = told
    for batch in clip_loader(Told([8]), 2, 2, workers=2, start_method={method!r}):
        print("batch", flush=True)
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no groups of processes here")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_is_only_beginning_does_not_hear_what_its_group_is_told(method, tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = tmp_path / "program.py"
    program.write_text(TOLD_PROGRAM.format(root=root, method=method))
    found = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, cwd=root, timeout=120
    )
    assert found.stdout.split("\n") == ["batch", "batch", "set()", ""], found.stderr
    assert found.returncode == -signal.SIGTERM  # the parent hears as before


FILM_PROGRAM = """
import gc, sys
sys.path.insert(0, {root!r})
import av
from tests.test_loader import Numbers, clip_loader

class Tidy(Numbers):
    def read(self, *args, **named):
        gc.collect()  # as may happen at any time
        return super().read(*args, **named)

gc.disable()
film = av.open({film!r})
next(film.decode(video=0))  # its decoder has threads
ring = [film]
ring.append(ring)
del film, ring  # no use to anybody, and not yet collected
print(sum(1 for _ in clip_loader(Tidy([8]), 2, 2, workers=1, start_method="fork")), flush=True)
print(gc.get_freeze_count(), gc.collect() > 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_worker_does_not_wait_for_the_threads_of_a_film_that_its_parent_has_read(tmp_path):
    with VideoWriter(tmp_path / "film.mp4", fps=30) as out:
        for _ in range(60):
            out.write(np.zeros((64, 128, 3), np.uint8))
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    text = FILM_PROGRAM.format(root=root, film=str(tmp_path / "film.mp4"))
    found = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=root, timeout=60
    )
    assert found.stdout.split() == ["2", "0", "True"], found.stderr


def test_little_is_read_ahead():
    """Two workers that read ahead by one batch each: a few batches, however long the epoch."""

    class Counting(Numbers):
        def __init__(self):
            super().__init__([600])
            self.reads = torch.zeros(1).share_memory_()

        def read(self, *args, **named):
            self.reads += 1
            return super().read(*args, **named)

    films = Counting()
    loader = clip_loader(films, 3, 2, workers=2, prefetch=1)
    batches = iter(loader)
    next(batches)
    time.sleep(1.0)
    assert films.reads.item() <= 2 * (1 + 2)
    batches.close()


def test_loader_of_made_windows():
    loader = ClipLoader(Windows(Numbers(), 3, 1, videos=["v3"]), 4, shuffle=False)
    assert len(loader) == 3 and {v for b in loader for v in b.video} == {"v3"}
    assert str(loader.windows) == "10 clips of 3 frames of numbers"


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_goes_through_workers_and_is_turned(layout, tmp_path):
    dataset = open_dataset(make(layout, tmp_path / "set", videos=2, seconds=1), layout)
    turns = Augment(tilt_deg=30, seed=1)

    def run(workers):
        return list(clip_loader(dataset, 4, 2, workers, augment=turns, size=(48, 96)))

    area = pixel_area(48, 96)[:, None]
    for one, other in zip(run(0), run(1), strict=True):
        assert one.frames.shape == (2, 4, 3, 48, 96)
        assert one.frames.equal(other.frames) and one.video == other.video
        if one.truth is not None:
            assert one.truth.nan_to_num().equal(other.truth.nan_to_num())
            mass = (one.truth * area).sum((-2, -1))
            assert torch.allclose(mass, torch.ones_like(mass), atol=1e-3)


@pytest.mark.real
def test_a_real_film_through_workers(real):
    from sal360.datasets.films import Films

    films = Films(real("samples/congo_2048.mp4"))
    loader = clip_loader(films, 3, 2, workers=1, size=(32, 64), stride=40, shuffle=False)
    (batch,) = list(loader)
    assert batch.frames.shape == (2, 3, 3, 32, 64)
    assert batch.indices.tolist() == [[0, 4, 8], [160, 164, 168]]
    assert batch.frames[0].equal(films.read(films.videos[0], 0, 3, size=(32, 64)).frames)
