"""Write small synthetic data sets in the layouts of the real ones, to try a loader or a training.

    make("sphere360", "toy", videos=3, seconds=2, size=(64, 128))

The pictures are rendered and the gaze is drawn from a rule: nothing here says anything about
people. A folder appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sal360._check import in_range, positive_int
from sal360.datasets.item import Item
from sal360.datasets.layouts import LAYOUTS
from sal360.datasets.layouts.base import lonlat_to_unit_square
from sal360.flow import flow_to_color
from sal360.images import write_image
from sal360.sphere import xyz_to_lonlat
from sal360.video import VideoWriter

FPS = 8.0
OBSERVERS = 12
SPREAD = math.radians(5.0)
"""Standard deviation of the made-up gaze around the thing that an observer follows."""
DWELL = 4
"""Frames that a fixation lasts in the tables."""


def make(
    layout: str,
    out: str | Path,
    videos: int = 3,
    seconds: float = 2.0,
    size: tuple[int, int] = (64, 128),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a synthetic data set. Same arguments, same pixels and points.

    Args:
        layout: a name of :data:`sal360.datasets.layouts.LAYOUTS`.
        out: a folder that does not exist yet, or is empty; its parent exists.
        videos: how many. seconds: length of each, at 8 frames a second.
        size: ``(H, W)`` of a frame, even numbers, at least 16 each.
        seed: draws backgrounds and gaze.
        progress: called with the name of each video when it is written.
    Returns:
        The folder.
    Raises:
        FileExistsError: the folder holds something; it is left alone.
        FileNotFoundError: its parent does not exist. ValueError: an argument.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r}, wanted one of {', '.join(LAYOUTS)}")
    videos = positive_int(videos, "videos")
    count = max(1, round(in_range(seconds, "seconds", 0, 3600) * FPS))
    height, width = (positive_int(n, "size") for n in size)
    if height % 2 or width % 2 or min(height, width) < 16:
        raise ValueError(f"size: {height}x{width}, wanted even numbers of at least 16")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: exists and is not an empty folder; left alone")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"{out.absolute().parent}: no such folder")
    scratch = out.absolute().with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    scratch.mkdir()
    try:
        scenes = _told(_scenes(videos, count, height, width, seed), progress)
        WRITERS[layout](scratch, scenes)
        card = _CARD.format(
            layout=layout, summary=LAYOUTS[layout].summary, videos=videos, frames=count,
            fps=FPS, height=height, width=width, seed=seed, observers=OBSERVERS,
        )  # fmt: skip
        (scratch / "README.md").write_text(card, "utf-8")
        if out.exists():
            out.rmdir()
        os.rename(scratch, out)
    except BaseException:  # Ctrl-C too: nothing half-made is left behind
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return out


def _told(scenes: Iterator[Item], progress: Callable[[str], None] | None) -> Iterator[Item]:
    for scene in scenes:
        yield scene
        if progress:
            progress(scene.video)


def _scenes(videos: int, count: int, height: int, width: int, seed: int) -> Iterator[Item]:
    for number in range(videos):
        yield _scene(number, number * width // videos, count, height, width, seed)


def _scene(number: int, turn: int, count: int, height: int, width: int, seed: int) -> Item:
    """The embedded world on another ground, ``turn`` columns to the right, and its observers."""
    from sal360.datasets.synthetic import render_clip

    clip = render_clip(count + 1, height, width, FPS, seed=seed + number)
    generator = torch.Generator().manual_seed(1000 * seed + number)
    angle = turn * 2 * math.pi / width
    follows = torch.randint(clip.objects.shape[1], (OBSERVERS,), generator=generator)
    fixations = []
    for t in range(count):
        scatter = torch.randn(OBSERVERS, 3, generator=generator, dtype=torch.float64)
        lon, lat = xyz_to_lonlat(clip.objects[t, follows] + SPREAD * scatter)
        lon = torch.remainder(lon + angle + math.pi, 2 * math.pi) - math.pi
        fixations.append(torch.stack((lon, lat), 1))
    return Item(
        dataset="synthetic",
        video=f"{number + 1:03d}",
        frames=clip.frames[:count].roll(turn, -1),
        indices=torch.arange(count),
        fps=FPS,
        flow=clip.flow[:count].roll(turn, -1),
        truth=clip.truth[:count, None].roll(turn, -1),
        fixations=tuple(fixations),
    )


# --- the layouts ---------------------------------------------------------------------------------


def _sphere360(root: Path, scenes: Iterator[Item]) -> None:
    vinfo: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for scene in scenes:
        folder = root / scene.video
        folder.mkdir()
        table = vinfo.setdefault(scene.video, {})
        for t, picture in enumerate(_pictures(scene)):
            fid = f"{t + 1:04d}"
            write_image(folder / f"{fid}.jpg", picture)
            np.save(folder / f"{fid}_gt.npy", _truth(scene, t)[None])
            table[fid] = [(float(x), float(y)) for x, y in _points(scene, t)]
    (root / "vinfo.pkl").write_bytes(pickle.dumps(vinfo, protocol=2))


def _wild360(root: Path, scenes: Iterator[Item]) -> None:
    names: dict[str, list[str]] = {"train": [], "test": []}
    for split in names:
        (root / "data" / split).mkdir(parents=True)
    truth = root / "Wild360_GT_29"
    truth.mkdir()
    for number, scene in enumerate(scenes):
        split = "test" if number % 3 == 0 else "train"
        name = f"synthetic{scene.video}_1"
        names[split].append(name)
        _film(root / "data" / split / f"{name}.mp4", scene)
        if split == "test":
            (truth / f"{name}.mp4").mkdir()
            for t in range(len(scene)):
                np.save(truth / f"{name}.mp4" / f"{t:05d}.npy", _truth(scene, t))
    for split, listed in ((k, v) for k, v in names.items() if v):
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed), "utf-8")


def _vr_eyetracking(root: Path, scenes: Iterator[Item]) -> None:
    step, videos = 4, []  # as if every fourth frame of a video of 32 frames a second were kept
    for scene in scenes:
        videos.append(scene.video)
        for part in ("frames", "optical_flow", "saliency_maps"):
            (root / part / scene.video).mkdir(parents=True)
        assert scene.flow is not None
        for t, picture in enumerate(_pictures(scene)):
            name = f"{scene.video}_{t * step:04d}.png"
            write_image(root / "frames" / scene.video / name, picture)
            colours = flow_to_color(scene.flow[t].numpy())
            write_image(root / "optical_flow" / scene.video / name, colours)
            truth = _truth(scene, t)
            grey = np.round(255 * truth / truth.max()).astype(np.uint8)
            write_image(root / "saliency_maps" / scene.video / f"{t * step:04d}.png", grey)
    held_out = max(1, len(videos) // 5) if len(videos) > 1 else 0
    kept = len(videos) - held_out
    (root / "train_split_VRET.txt").write_text(",".join(videos[:kept]), "utf-8")
    if held_out:
        (root / "test_split_VRET.txt").write_text(",".join(videos[kept:]), "utf-8")


def _salient360(root: Path, scenes: Iterator[Item]) -> None:
    tables = {"H": root / "H/Scanpaths"}
    tables |= {side: root / "HE/Scanpaths" / side for side in ("L", "R")}
    folders = [*tables.values(), root / "Stimuli", root / "H/SalMaps", root / "HE/SalMaps"]
    for folder in folders:
        folder.mkdir(parents=True)
    for scene in scenes:
        name = f"{int(scene.video)}_Synthetic"
        _film(root / "Stimuli" / f"{name}.mp4", scene)
        heads = "Idx, longitude, latitude, start timestamp\n"
        eyes = "Idx, longitude, latitude, start timestamp, duration, start frame, end frame\n"
        for observer in range(OBSERVERS):
            for k, t in enumerate(range(0, len(scene), DWELL)):
                last = min(t + DWELL, len(scene)) - 1
                x, y = _points(scene, (t + last) // 2)[observer]
                begin, lasts = 1000 * t / scene.fps, 1000 * (last + 1 - t) / scene.fps
                heads += f"{k}, {x:.6f}, {y:.6f}, {begin:.0f}\n"
                eyes += f"{k}, {x:.6f}, {y:.6f}, {begin:.0f}, {lasts:.0f}, {t}, {last}\n"
        for side, folder in tables.items():
            text = heads if side == "H" else eyes
            (folder / f"{name}_fixations.csv").write_text(text, "utf-8")
        maps = np.stack([_truth(scene, t) for t in range(len(scene))]).astype("<f4")
        height, width = scene.size
        for modality in ("H", "HE"):
            file = f"{name}_{width}x{height}x{len(scene)}_32b.bin"
            (root / modality / "SalMaps" / file).write_bytes(maps.tobytes())


def _avtrack360(root: Path, scenes: Iterator[Item]) -> None:
    for part in ("Head_rotation", "SRC_info", "images"):
        (root / part).mkdir()
    seen: list[list[dict]] = [[] for _ in range(OBSERVERS)]
    for scene in scenes:
        number, (height, width) = int(scene.video), scene.size
        write_image(root / "images" / f"{number}.jpg", _pictures(scene)[0])
        stream = {
            "codec_type": "video",
            "width": width,
            "height": height,
            "avg_frame_rate": f"{round(scene.fps)}/1",
            "nb_frames": str(len(scene)),
        }
        _json(root / "SRC_info" / f"{number}.json", {"streams": [stream]})
        assert scene.fixations is not None
        for observer, videos in enumerate(seen):
            samples = []
            for t in range(len(scene)):
                lon, lat = (round(math.degrees(a)) for a in scene.fixations[t][observer].tolist())
                sec = round((t + 0.5) / scene.fps, 3)
                samples.append({"pitch": -lat, "roll": 0, "sec": sec, "yaw": lon})
            videos.append(
                {"filename": f"{number}.mp4", "hmd": "none", "pitch_yaw_roll_data_hmd": samples}
            )
    for observer, videos in enumerate(seen):
        _json(root / "Head_rotation" / f"{observer + 2}.json", {"data": videos})


WRITERS: dict[str, Callable[[Path, Iterator[Item]], None]] = {
    "sphere360": _sphere360,
    "wild360": _wild360,
    "vr-eyetracking": _vr_eyetracking,
    "salient360": _salient360,
    "avtrack360": _avtrack360,
}


# --- pieces --------------------------------------------------------------------------------------


def _pictures(scene: Item) -> list[NDArray[np.uint8]]:
    return list((scene.frames.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8))


def _truth(scene: Item, t: int) -> NDArray[np.float32]:
    assert scene.truth is not None
    return scene.truth[t, 0].numpy()


def _points(scene: Item, t: int) -> NDArray[np.float64]:
    assert scene.fixations is not None
    return lonlat_to_unit_square(scene.fixations[t])


def _film(path: Path, scene: Item) -> None:
    with VideoWriter(path, fps=scene.fps) as film:
        for picture in _pictures(scene):
            film.write(picture)


def _json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


_CARD = """# A synthetic data set in the layout `{layout}`

Written by `sal360 data make`. **Not recorded, not measured**: pictures are rendered, and gaze is
drawn from a rule (each of {observers} made-up observers follows one moving disc). It has the
files and names of the real thing, to try loaders and trainings with, and says nothing about
people. Do not report figures on it as if it did.

- layout: {layout} ({summary})
- {videos} videos of {frames} frames at {fps:g} frames per second, {height} x {width}, seed {seed}
"""
