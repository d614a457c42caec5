"""Write small synthetic data sets in the layouts of the real ones, to try a loader or a training.

    make("sphere360", "toy", videos=3, seconds=2, size=(64, 128))

The pictures are of :class:`~sal360.datasets.synthetic.SyntheticWorlds`, and so is the gaze:
nothing here says anything about people. A folder appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from sal360._check import in_range, positive_int
from sal360._files import clear_parts
from sal360.datasets.item import Item
from sal360.datasets.layouts import LAYOUTS
from sal360.datasets.layouts.base import lonlat_to_unit_square
from sal360.datasets.layouts.scanpaths import LONGEST
from sal360.flow import flow_to_color
from sal360.gaze import fixations_to_density
from sal360.images import write_image
from sal360.sphere import xyz_to_lonlat
from sal360.video import VideoWriter

if TYPE_CHECKING:
    from sal360.datasets.synthetic import Watched

FPS = 8.0
OBSERVERS = 12
SIGMA_DEG = 5.0


@dataclass(frozen=True, eq=False)
class Scene:
    """One video, and everything its observers do."""

    name: str
    item: Item
    watched: Watched

    def __len__(self) -> int:
        return len(self.item)


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
    place = Path(os.path.realpath(out))
    if os.path.lexists(place) and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(f"{out}: exists and is not an empty folder; left alone")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{place.parent}: no such folder")
    hidden = place.with_name(f".{place.name}")
    clear_parts(hidden)
    scratch = hidden.with_name(f"{hidden.name}.{os.getpid()}.part")
    scratch.mkdir()
    try:
        scenes = _told(_scenes(videos, count, height, width, seed), progress)
        WRITERS[layout](scratch, scenes)
        card = _CARD.format(
            layout=layout, summary=LAYOUTS[layout].summary, videos=videos, frames=count,
            fps=FPS, height=height, width=width, seed=seed, observers=OBSERVERS,
        )  # fmt: skip
        (scratch / "README.md").write_text(card, "utf-8")
        if place.exists():  # somebody's working directory perhaps: it stays
            for path in scratch.iterdir():
                path.rename(place / path.name)
            scratch.rmdir()
        else:
            scratch.rename(place)
    except BaseException:  # Ctrl-C too: nothing half-made is left behind
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return out


def _told(scenes: Iterator[Scene], progress: Callable[[str], None] | None) -> Iterator[Scene]:
    for scene in scenes:
        yield scene
        if progress:
            progress(scene.name)


def _scenes(videos: int, count: int, height: int, width: int, seed: int) -> Iterator[Scene]:
    for number in range(videos):
        yield _scene(number, count, height, width, seed)


def _scene(number: int, count: int, height: int, width: int, seed: int) -> Scene:
    """A world of the training split: each seed has a thousand."""
    from sal360.datasets.synthetic import SyntheticWorlds

    place = 1000 * seed + number
    worlds = SyntheticWorlds(
        "train", 1, count / FPS, FPS, (height, width), OBSERVERS, SIGMA_DEG, first=place
    )
    (video,) = worlds.videos
    return Scene(f"{number + 1:03d}", worlds.read(video), worlds.gaze(video))


# --- the layouts ---------------------------------------------------------------------------------


def _sphere360(root: Path, scenes: Iterator[Scene]) -> None:
    vinfo: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for scene in scenes:
        folder = root / scene.name
        folder.mkdir()
        table = vinfo.setdefault(scene.name, {})
        for t, picture in enumerate(_pictures(scene)):
            fid = f"{t + 1:04d}"
            write_image(folder / f"{fid}.jpg", picture)
            np.save(folder / f"{fid}_gt.npy", _truth(scene, t)[None])
            table[fid] = [(float(x), float(y)) for x, y in _points(scene, t)]
    (root / "vinfo.pkl").write_bytes(pickle.dumps(vinfo, protocol=2))


def _wild360(root: Path, scenes: Iterator[Scene]) -> None:
    names: dict[str, list[str]] = {"train": [], "test": []}
    for split in names:
        (root / "data" / split).mkdir(parents=True)
    truth = root / "Wild360_GT_29"
    truth.mkdir()
    for number, scene in enumerate(scenes):
        split = "test" if number % 3 == 0 else "train"
        name = f"synthetic{scene.name}_1"
        names[split].append(name)
        _film(root / "data" / split / f"{name}.mp4", scene)
        if split == "test":
            (truth / f"{name}.mp4").mkdir()
            for t in range(len(scene)):
                np.save(truth / f"{name}.mp4" / f"{t:05d}.npy", _truth(scene, t))
    for split, listed in ((k, v) for k, v in names.items() if v):
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed), "utf-8")


def _vr_eyetracking(root: Path, scenes: Iterator[Scene]) -> None:
    step, videos = 4, []  # as if every fourth frame of a video of 32 frames a second were kept
    for scene in scenes:
        videos.append(scene.name)
        for part in ("frames", "optical_flow", "saliency_maps"):
            (root / part / scene.name).mkdir(parents=True)
        assert scene.item.flow is not None
        for t, picture in enumerate(_pictures(scene)):
            name = f"{scene.name}_{t * step:04d}.png"
            write_image(root / "frames" / scene.name / name, picture)
            colours = flow_to_color(scene.item.flow[t].numpy())
            write_image(root / "optical_flow" / scene.name / name, colours)
            truth = _truth(scene, t)
            grey = np.round(255 * truth / truth.max()).astype(np.uint8)
            write_image(root / "saliency_maps" / scene.name / f"{t * step:04d}.png", grey)
    held_out = max(1, len(videos) // 5) if len(videos) > 1 else 0
    kept = len(videos) - held_out
    (root / "train_split_VRET.txt").write_text(",".join(videos[:kept]), "utf-8")
    if held_out:
        (root / "test_split_VRET.txt").write_text(",".join(videos[kept:]), "utf-8")


def _salient360(root: Path, scenes: Iterator[Scene]) -> None:
    tables = {"H": root / "H/Scanpaths"}
    tables |= {side: root / "HE/Scanpaths" / side for side in ("L", "R")}
    folders = [*tables.values(), root / "Stimuli", root / "H/SalMaps", root / "HE/SalMaps"]
    for folder in folders:
        folder.mkdir(parents=True)
    for scene in scenes:
        name = f"{int(scene.name)}_Synthetic"
        _film(root / "Stimuli" / f"{name}.mp4", scene)
        heads, eyes = _head_table(scene), _eye_table(scene)
        for side, folder in tables.items():
            text = heads if side == "H" else eyes
            (folder / f"{name}_fixations.csv").write_text(text, "utf-8")
        maps = np.stack([_truth(scene, t) for t in range(len(scene))]).astype("<f4")
        height, width = scene.item.size
        for modality in ("H", "HE"):
            file = f"{name}_{width}x{height}x{len(scene)}_32b.bin"
            (root / modality / "SalMaps" / file).write_bytes(maps.tobytes())


def _avtrack360(root: Path, scenes: Iterator[Scene]) -> None:
    for part in ("Head_rotation", "SRC_info", "images"):
        (root / part).mkdir()
    seen: list[list[dict]] = [[] for _ in range(OBSERVERS)]
    for scene in scenes:
        number, (height, width) = int(scene.name), scene.item.size
        write_image(root / "images" / f"{number}.jpg", _pictures(scene)[0])
        stream = {
            "codec_type": "video",
            "width": width,
            "height": height,
            "avg_frame_rate": f"{round(FPS)}/1",
            "nb_frames": str(len(scene)),
        }
        _json(root / "SRC_info" / f"{number}.json", {"streams": [stream]})
        heads = scene.watched.heads.rad2deg().round().int().tolist()
        for observer, videos in enumerate(seen):
            samples = []
            for t in range(len(scene)):
                lon, lat = heads[t][observer]
                sec = round((t + 0.5) / FPS, 3)
                samples.append({"pitch": -lat, "roll": 0, "sec": sec, "yaw": lon})
            videos.append(
                {"filename": f"{number}.mp4", "hmd": "none", "pitch_yaw_roll_data_hmd": samples}
            )
    for observer, videos in enumerate(seen):
        _json(root / "Head_rotation" / f"{observer + 2}.json", {"data": videos})


WRITERS: dict[str, Callable[[Path, Iterator[Scene]], None]] = {
    "sphere360": _sphere360,
    "wild360": _wild360,
    "vr-eyetracking": _vr_eyetracking,
    "salient360": _salient360,
    "avtrack360": _avtrack360,
}


# --- pieces --------------------------------------------------------------------------------------


def _pictures(scene: Scene) -> list[NDArray[np.uint8]]:
    rgb = scene.item.frames.permute(0, 2, 3, 1) * 255
    return list(rgb.round().to(torch.uint8).numpy())


def _looks(scene: Scene, t: int) -> torch.Tensor:
    """``(N, 2)`` who fixate in a frame; should nobody do, where everybody's gaze is just then."""
    assert scene.item.fixations is not None
    if len(scene.item.fixations[t]):
        return scene.item.fixations[t]
    gaze = scene.watched.gaze[:, scene.watched.middles[t]]
    return torch.stack(xyz_to_lonlat(gaze), dim=1)


def _truth(scene: Scene, t: int) -> NDArray[np.float32]:
    looks = _looks(scene, t)
    return fixations_to_density(looks[:, 0], looks[:, 1], *scene.item.size, SIGMA_DEG).numpy()


def _points(scene: Scene, t: int) -> NDArray[np.float64]:
    return lonlat_to_unit_square(_looks(scene, t))


def _unit(scene: Scene) -> int:
    """Seconds, or milliseconds where a reader would take the times of a long clip for them."""
    return 1 if len(scene) / FPS <= LONGEST else 1000


def _head_table(scene: Scene) -> str:
    unit, text = _unit(scene), "Idx, longitude, latitude, start timestamp\n"
    for observer in range(len(scene.watched)):
        places = lonlat_to_unit_square(scene.watched.heads[:, observer])
        for t, (x, y) in enumerate(places.tolist()):
            text += f"{t}, {x:.6f}, {y:.6f}, {unit * t / FPS:.3f}\n"
    return text


def _eye_table(scene: Scene) -> str:
    text = "Idx, longitude, latitude, start timestamp, duration, start frame, end frame\n"
    watched, last = scene.watched, len(scene) - 1
    places = lonlat_to_unit_square(torch.stack(xyz_to_lonlat(watched.direction), dim=1)).tolist()
    whose = watched.observer.tolist()
    times = torch.stack((watched.onset, watched.duration), 1).tolist()
    index, unit = 0, _unit(scene)
    for k, ((x, y), (onset, duration)) in enumerate(zip(places, times, strict=True)):
        index = index + 1 if k and whose[k] == whose[k - 1] else 0
        first, end = (min(int(s * FPS), last) for s in (onset, onset + duration))
        text += f"{index}, {x:.6f}, {y:.6f}, {unit * onset:.3f}, {unit * duration:.3f}, "
        text += f"{first}, {end}\n"
    return text


def _film(path: Path, scene: Scene) -> None:
    with VideoWriter(path, fps=FPS) as film:
        for picture in _pictures(scene):
            film.write(picture)


def _json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


_CARD = """# A synthetic data set in the layout `{layout}`

Written by `sal360 data make`. **Not recorded, not measured**: worlds are drawn and rendered, and
the gaze is that of {observers} simulated observers (`sal360.datasets.synthetic`). It has the
files and names of the real thing, to try loaders and trainings with, and says nothing about
people. Do not report figures on it as if it did.

- layout: {layout} ({summary})
- {videos} videos of {frames} frames at {fps:g} frames per second, {height} x {width}, seed {seed}
"""
