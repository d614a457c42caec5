"""Data sets damaged in every way we could think of: ``verify`` names the file, as a reader does.

Each case damages a clean copy, says which path must be reported and as what, and what reading does:
an error that begins with the path, in one line; and, when asked to skip, the frames that are left.
"""

import io
import json
import os
import pickle
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from sal360.datasets.layouts import LAYOUTS, open_dataset
from sal360.datasets.layouts.verify import verify
from tests.layout_sets import FRAMES, copied, fingerprint, made

ALL = list(range(FRAMES))


@dataclass
class Case:
    """One kind of damage.

    ``do(root)`` does it; ``path`` must be reported as ``kind``; ``left`` are the positions that
    can still be read when skipping (None: nothing can be read at all), all of them if reading is
    not affected; ``settings`` go to the reader.
    """

    layout: str
    name: str
    do: object
    path: str
    kind: str
    left: list | None = field(default_factory=lambda: ALL)
    settings: dict = field(default_factory=dict)
    says: str = ""


def without(*positions):
    return [k for k in ALL if k not in positions]


# --- ways to damage a file -----------------------------------------------------------------------


def missing(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-3])


def garbage(path):
    path.write_bytes(b"this is not what the name says " * 20)


def linked_nowhere(path):
    path.unlink()
    path.symlink_to("nowhere")


def folder_instead(path):
    path.unlink()
    path.mkdir()


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def shouted(path):
    path.rename(path.with_name(path.stem + path.suffix.upper()))


def other_format(path):
    image = cv2.imread(str(path))
    suffix = ".png" if path.suffix == ".jpg" else ".jpg"
    path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())


def other_size(path):
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (32, 16)))


def black(path):
    cv2.imwrite(str(path), np.zeros((32, 64), np.uint8))


FILE = (missing, emptied, cut, garbage, linked_nowhere, folder_instead)
PICTURE = (*FILE, cut_short, shouted, other_format, other_size)


def array(change):
    def damage(path):
        values = np.load(path)
        np.save(path, change(values))

    damage.__name__ = change.__name__
    return damage


def nan_in_it(a):
    a.flat[5] = np.nan
    return a


def infinite(a):
    a.flat[5] = np.inf
    return a


def negative(a):
    a.flat[5] = -0.1
    return a


def all_zero(a):
    return 0 * a


def one_axis(a):
    return a.reshape(-1)


def three_channels(a):
    return np.stack([a.reshape(a.shape[-2:])] * 3)


def holds_nothing(a):
    return a[..., :0]


def complex_numbers(a):
    return a.astype(complex)


class Runs:
    def __reduce__(self):
        return os.system, ("touch it-ran",)


def hostile_objects(path):
    np.save(path, np.array([Runs()], dtype=object), allow_pickle=True)


def absurd_shape(path):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    path.write_bytes(out.getvalue() + bytes(64))


MAPS = (
    *(array(c) for c in (nan_in_it, infinite, negative, all_zero, one_axis, three_channels)),
    *(array(c) for c in (holds_nothing, complex_numbers)),
    hostile_objects,
    absurd_shape,
)
KIND = {"missing": "missing", "linked_nowhere": "missing", "shouted": "missing",
        "other_size": "inconsistent"}  # fmt: skip


def on(layout, path, ways, left, **settings):
    for way in ways:
        name, kind = way.__name__, KIND.get(way.__name__, "broken")
        if name == "missing" and path.endswith("_gt.npy"):
            kind = "note"  # a cache, which may be incomplete
        if name == "linked_nowhere":
            kind = "broken|missing"
        yield Case(layout, f"{name} {path}", _at(way, path), path, kind, left, settings)


def _at(way, path):
    return lambda root: way(root / path)


# --- sphere360 -----------------------------------------------------------------------------------


def vinfo(change):
    def damage(root):
        table = pickle.loads((root / "vinfo.pkl").read_bytes())
        changed = change(table)
        (root / "vinfo.pkl").write_bytes(pickle.dumps(table if changed is None else changed))

    return damage


def point(value):
    def change(table):
        table["001"]["0003"][1] = value

    return vinfo(change)


def sphere360():
    frame, truth = "001/0003.jpg", "001/0003_gt.npy"
    published = {"truth": "published", "interval": 3}
    yield from on("sphere360", frame, PICTURE, without(2))
    yield from on("sphere360", truth, (*FILE, *MAPS), without(2, 5), **published)
    yield from on("sphere360", "vinfo.pkl", FILE, None)

    def case(name, do, path, kind, left=ALL, says=""):
        return Case("sphere360", name, do, path, kind, left, {"interval": 3}, says)

    for name, value in (
        ("beyond 1", (1.2, 0.5)),
        ("below 0", (0.5, -0.1)),
        ("NaN", (float("nan"), 0.5)),
        ("three numbers", (0.1, 0.2, 0.3)),
        ("text", ("left", "up")),
        ("one number", 0.5),
    ):
        yield case(f"point {name}", point(value), "vinfo.pkl", "broken", without(2, 5), "'0003'")
    yield case(
        "frame without fixations in the table",
        vinfo(lambda t: t["001"].pop("0003") and None),
        frame,
        "missing",
        without(2, 5),
    )
    yield case(
        "last frame missing", _at(missing, "001/0008.jpg"), "001/0008.jpg", "missing", without(7)
    )
    yield case(
        "unknown frame name",
        vinfo(lambda t: t["001"].update({"intro": [(0.1, 0.2)]})),
        "vinfo.pkl",
        "inconsistent",
        says="'intro'",
    )
    for odd in ("\u00b2", "9" * 5000, "12", ""):
        yield case(
            f"frame named {odd[:3]!r}",
            vinfo(lambda t, odd=odd: t["001"].update({odd: [(0.1, 0.2)]})),
            "vinfo.pkl",
            "inconsistent",
        )
    yield case(
        "number that is no text",
        vinfo(lambda t: t["001"].update({3: [(0.1, 0.2)]})),
        "vinfo.pkl",
        "broken",
        None,
    )
    yield case(
        "frame far away",
        vinfo(lambda t: t["001"].update({"99999999": [(0.1, 0.2)]})),
        "001/99999999.jpg|001/0009.jpg",
        "missing",
        None,
        "not those of one video",
    )
    yield case(
        "video not there", vinfo(lambda t: t.update({"999": {"0001": []}})), "999", "missing"
    )
    yield case(
        "video not in the table", vinfo(lambda t: t.pop("001") and None), "001", "missing", []
    )
    yield case(
        "video that leads elsewhere",
        vinfo(lambda t: t.update({"../etc": {}})),
        "vinfo.pkl",
        "broken",
        None,
    )
    yield case("a list, no table", vinfo(lambda t: [1, 2]), "vinfo.pkl", "broken", None)
    yield case(
        "a class in it",
        lambda r: (r / "vinfo.pkl").write_bytes(pickle.dumps(Runs())),
        "vinfo.pkl",
        "broken",
        None,
        "nothing was run",
    )
    yield case(
        "truth without a frame",
        lambda r: shutil.copy(r / truth, r / "001/0077_gt.npy"),
        "001/0077_gt.npy",
        "inconsistent",
    )
    yield case(
        "names differ in case",
        lambda r: (shutil.copytree(r / "001", r / "Aaa"), shutil.copytree(r / "001", r / "aaa")),
        "Aaa",
        "inconsistent",
    )
    yield case(
        "a stray file", lambda r: (r / "001/notes.txt").write_text("x"), "001/notes.txt", "surplus"
    )
    yield case(
        "folder emptied",
        lambda r: [p.unlink() for p in (r / "001").iterdir()],
        "001/0001.jpg",
        "missing",
        [],
    )


# --- wild360 -------------------------------------------------------------------------------------

FILM = "data/test/synthetic001_1.mp4"
FILM_MAPS = "Wild360_GT_29/synthetic001_1.mp4"


def wild360():
    truth = f"{FILM_MAPS}/00003.npy"
    yield from on("wild360", truth, (*FILE, *MAPS), without(3))
    yield from on("wild360", FILM, (emptied, cut, garbage, folder_instead), None)

    def case(name, do, path, kind, left=ALL):
        return Case("wild360", name, do, path, kind, left)

    yield case("a video of the list is gone", _at(missing, FILM), "test.txt", "missing", None)
    yield case(
        "list names no video",
        lambda r: (r / "test.txt").write_text("nobody_1\n"),
        "test.txt",
        "missing",
    )
    yield case(
        "list repeats a name",
        lambda r: (r / "test.txt").write_text("synthetic001_1\n" * 2),
        "test.txt",
        "note",
    )
    yield case(
        "list leads elsewhere",
        lambda r: (r / "test.txt").write_text("../secret\n"),
        "test.txt",
        "broken",
        None,
    )
    yield case(
        "list is no text",
        lambda r: (r / "test.txt").write_bytes(bytes(range(256))),
        "test.txt",
        "broken",
        None,
    )
    yield case("list is empty", _at(emptied, "test.txt"), "test.txt", "broken", None)
    yield case(
        "a map after the last frame",
        lambda r: shutil.copy(r / truth, r / FILM_MAPS / "00099.npy"),
        f"{FILM_MAPS}/00099.npy",
        "inconsistent",
    )
    yield case(
        "maps of no video",
        lambda r: shutil.copytree(r / FILM_MAPS, r / "Wild360_GT_29/nobody.mp4"),
        "Wild360_GT_29/nobody.mp4",
        "inconsistent",
    )
    yield case(
        "no maps in the folder",
        lambda r: [p.unlink() for p in (r / FILM_MAPS).iterdir()],
        FILM_MAPS,
        "missing",
    )
    yield case("another map size", _at(array(lambda a: a[:, ::2]), truth), truth, "inconsistent")
    yield case(
        "a stray file",
        lambda r: (r / "data/test/clip.avi").write_text("x"),
        "data/test/clip.avi",
        "surplus",
    )
    yield case(
        "a folder of frames with a gap",
        frames_with_a_gap,
        "data/test/synthetic001_1/000003.jpg",
        "missing",
        without(3),
    )


def frames_with_a_gap(root):
    item = open_dataset(root).read("synthetic001_1")
    (root / FILM).unlink()
    folder = (root / FILM).with_suffix("")
    folder.mkdir()
    for k in without(3):
        rgb = (item.frames[k].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{k:06d}.jpg"), rgb)


# --- vr-eyetracking ------------------------------------------------------------------------------


def vr_eyetracking():
    frame, flow = "frames/001/001_0012.png", "optical_flow/001/001_0012.png"
    truth = "saliency_maps/001/0012.png"
    yield from on("vr-eyetracking", frame, (*PICTURE, flipped), without(3))
    yield from on("vr-eyetracking", flow, (*FILE, flipped, other_format), without(3))
    yield from on("vr-eyetracking", truth, (*FILE, black, flipped), without(3))

    def case(name, do, path, kind, left=ALL):
        return Case("vr-eyetracking", name, do, path, kind, left)

    yield case(
        "flow of another video",
        lambda r: shutil.copy(r / flow, r / "optical_flow/001/002_0012.png"),
        "optical_flow/001/002_0012.png",
        "inconsistent",
    )
    yield case(
        "flow without a frame",
        lambda r: shutil.copy(r / flow, r / "optical_flow/001/001_0099.png"),
        "optical_flow/001/001_0099.png",
        "inconsistent",
    )
    yield case(
        "frame off the step",
        lambda r: shutil.copy(r / frame, r / "frames/001/001_0013.png"),
        "frames/001/001_0013.png",
        "inconsistent",
    )
    yield case(
        "frame far away",
        lambda r: shutil.copy(r / frame, r / f"frames/001/001_{'9' * 40}.png"),
        "frames/001/001_0032.png|frames/001/001_" + "9" * 40 + ".png",
        "missing|inconsistent",
        None,
    )
    yield case(
        "maps without frames",
        lambda r: shutil.copytree(r / "saliency_maps/001", r / "saliency_maps/099"),
        "saliency_maps/099",
        "inconsistent",
    )
    yield case(
        "no folder of maps",
        lambda r: shutil.rmtree(r / "saliency_maps/001"),
        "saliency_maps/001",
        "missing",
    )
    yield case("no frames at all", lambda r: shutil.rmtree(r / "frames"), "frames", "missing", None)
    yield case(
        "last flow missing",
        _at(missing, "optical_flow/001/001_0028.png"),
        "optical_flow/001/001_0028.png",
        "note",
        without(7),
    )
    yield case(
        "list names no video",
        lambda r: (r / "test_split_VRET.txt").write_text("003,777"),
        "test_split_VRET.txt",
        "missing",
    )
    yield case(
        "a video for both",
        lambda r: (r / "test_split_VRET.txt").write_text("001,003"),
        "test_split_VRET.txt",
        "inconsistent",
    )
    yield case(
        "list leads elsewhere",
        lambda r: (r / "train_split_VRET.txt").write_text("../x"),
        "train_split_VRET.txt",
        "broken",
    )
    yield case(
        "names differ in case",
        lambda r: [shutil.copytree(r / "frames/001", r / f"frames/{n}") for n in ("Q", "q")],
        "frames/Q",
        "inconsistent",
    )


# --- salient360 ----------------------------------------------------------------------------------

TABLE = "HE/Scanpaths/L/1_Synthetic_fixations.csv"


def table(change):
    def damage(root):
        lines = (root / TABLE).read_text().splitlines()
        (root / TABLE).write_text("\n".join(change(lines)) + "\n")

    return damage


def cell(column, value, row=3):
    def change(lines):
        cells = lines[row].split(", ")
        cells[column] = value
        return [*lines[:row], ", ".join(cells), *lines[row + 1 :]]

    return table(change)


def salient360():
    binary = "HE/SalMaps/1_Synthetic_64x32x8_32b.bin"
    published = {"truth": "published"}
    yield from on("salient360", TABLE, (emptied, garbage, folder_instead), [])
    yield from on("salient360", "Stimuli/1_Synthetic.mp4", (emptied, cut, garbage), None)
    yield from on("salient360", binary, (emptied, cut, cut_short, garbage), [], **published)

    def case(name, do, path, kind, left=(), **settings):
        return Case(
            "salient360", name, do, path, kind, None if left is None else list(left), settings
        )

    for name, column, value in (
        ("longitude beyond 1", 1, "1.5"),
        ("latitude below 0", 2, "-0.5"),
        ("NaN", 1, "nan"),
        ("text", 3, "soon"),
        ("negative time", 3, "-5"),
        ("negative duration", 4, "-5"),
    ):
        yield case(name, cell(column, value), TABLE, "broken")
    yield case("times run backwards", cell(3, "9000", row=1), TABLE, "broken")
    yield case("ends before it begins", cell(5, "70"), TABLE, "broken")
    yield case(
        "a column is gone",
        table(lambda ls: [ls[0].replace("longitude", "pupil"), *ls[1:]]),
        TABLE,
        "broken",
    )
    yield case("a short line", table(lambda ls: [*ls[:4], "5, 0.5", *ls[5:]]), TABLE, "broken")
    yield case("only a header", table(lambda ls: ls[:1]), TABLE, "broken")
    yield case("after the last frame", cell(5, "70, 71", row=2), TABLE, "inconsistent|broken", ALL)
    yield case(
        "in the first frame after the end", cell(5, "8, 8", row=2), TABLE, "inconsistent", ALL
    )
    yield case("later than the film", later(1.0), TABLE, "inconsistent", ALL)
    yield case("table of one eye gone", _at(missing, TABLE), TABLE, "missing", ALL)
    yield case(
        "table of no stimulus",
        lambda r: shutil.copy(r / TABLE, r / "H/Scanpaths/9_Nobody_fixations.csv"),
        "H/Scanpaths/9_Nobody_fixations.csv",
        "inconsistent",
        ALL,
    )
    for again in (
        "HE/Scanpaths/L/1_Synthetic_fixations.txt",
        "HE/Scanpaths/L/01_Synthetic_fixations.csv",
        "HE/Scanpaths/1_Synthetic_fixations.csv",
    ):
        yield case(
            f"gaze again in {again}",
            lambda r, again=again: shutil.copy(r / TABLE, r / again),
            f"{TABLE}|{again}",
            "inconsistent",
        )
    yield case(
        "maps again",
        lambda r: shutil.copy(r / binary, r / f"HE/SalMaps/0{Path(binary).name}"),
        f"{binary}|HE/SalMaps/0{Path(binary).name}",
        "inconsistent",
        [],
        **published,
    )
    stimulus = "Stimuli/1_Synthetic.mp4"
    for again in ("Stimuli/01_Synthetic.mp4", "Stimuli/1_Synthetic.mov"):
        yield case(
            f"stimulus again as {again}",
            lambda r, again=again: shutil.copy(r / stimulus, r / again),
            f"{stimulus}|{again}",
            "inconsistent",
            ALL,
        )
    yield case(
        "stimulus gone", _at(missing, "Stimuli/1_Synthetic.mp4"), TABLE, "inconsistent", None
    )
    yield case(
        "fewer maps than frames",
        fewer_maps,
        "HE/SalMaps/1_Synthetic_64x32x5_32b.bin",
        "note",
        ALL[:5],
        **published,
    )
    yield case(
        "a map of zeros", lambda r: zero_map(r / binary), binary, "broken", without(2), **published
    )
    yield case("maps gone", _at(missing, binary), "", "", [], **published)
    yield case(
        "a stray file",
        lambda r: (r / "H/Scanpaths/old.csv").write_text("x"),
        "H/Scanpaths/old.csv",
        "surplus",
        ALL,
    )


def later(seconds):
    """Another observer, who looks somewhere that long after the film began; no frames told."""

    def change(lines):
        rows = [", ".join(line.split(", ")[:5]) for line in lines]
        return [*rows, f"0, 0.5, 0.5, {seconds}, 0.1"]

    return table(change)


def fewer_maps(root):
    path = next((root / "HE/SalMaps").glob("1_*.bin"))
    data = path.read_bytes()
    path.unlink()
    path.with_name("1_Synthetic_64x32x5_32b.bin").write_bytes(data[: len(data) * 5 // 8])


def zero_map(path):
    values = np.fromfile(path, "<f4").reshape(8, -1)
    values[2] = 0
    path.write_bytes(values.tobytes())


# --- avtrack360 ----------------------------------------------------------------------------------


def jsonned(path, change):
    def damage(root):
        content = json.loads((root / path).read_text())
        change(content)
        (root / path).write_text(json.dumps(content))

    return damage


def avtrack360():
    yield from on("avtrack360", "images/1.jpg", (*FILE, cut_short, other_size), None)
    yield from on("avtrack360", "Head_rotation/2.json", (emptied, cut, garbage), None)
    yield from on("avtrack360", "SRC_info/1.json", (emptied, cut, garbage), None)

    def case(name, do, path, kind, left=ALL):
        return Case("avtrack360", name, do, path, kind, left)

    head = "Head_rotation/2.json"

    def first(content):
        return content["data"][0]["pitch_yaw_roll_data_hmd"]

    yield case(
        "pitch beyond the pole",
        jsonned(head, lambda c: first(c)[1].update(pitch=120)),
        head,
        "broken",
        None,
    )
    yield case(
        "text for a number",
        jsonned(head, lambda c: first(c)[1].update(yaw="left")),
        head,
        "broken",
        None,
    )
    yield case(
        "an angle is gone", jsonned(head, lambda c: first(c)[1].pop("yaw")), head, "broken", None
    )
    yield case("no samples", jsonned(head, lambda c: first(c).clear()), head, "broken", None)
    yield case(
        "a video twice", jsonned(head, lambda c: c["data"].append(c["data"][0])), head, "broken",
        None,
    )  # fmt: skip
    yield case("a video not seen", jsonned(head, lambda c: c["data"].pop(0)), head, "note")
    yield case(
        "a video not there",
        jsonned(head, lambda c: c["data"][0].update(filename="77.mp4")),
        head,
        "inconsistent",
    )
    yield case(
        "no frames",
        jsonned("SRC_info/1.json", lambda c: c["streams"][0].update(nb_frames="0")),
        "SRC_info/1.json",
        "broken",
        None,
    )
    yield case(
        "no description", _at(missing, "SRC_info/1.json"), "images/1.jpg", "inconsistent", None
    )


CASES = [*sphere360(), *wild360(), *vr_eyetracking(), *salient360(), *avtrack360()]


def test_every_layout_is_damaged_in_many_ways():
    for layout in LAYOUTS:
        kinds = {case.name.split(" ")[0] if " " in case.name else case.name
                 for case in CASES if case.layout == layout}  # fmt: skip
        assert len(kinds) >= 10, layout
    assert len({case.name for case in CASES}) > 100


def first_video(layout):
    return open_dataset(made(layout)).videos[0]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.layout}: {c.name}")
def test_damage_is_named_and_a_reader_stops_or_skips(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = copied(case.layout, tmp_path)
    case.do(root)
    before = fingerprint(root)

    report = verify(root, case.layout)
    if case.path:
        hits = [f for f in report.findings if f.path in case.path.split("|")]
        kinds = {f.kind for f in hits}
        assert kinds & set(case.kind.split("|")), report.findings
        assert all("\n" not in f.message and str(root) not in f.message for f in hits)
        assert not case.says or any(case.says in f.message for f in hits) or case.left is None
        fatal = {"missing", "broken", "inconsistent"} & set(case.kind.split("|"))
        assert report.usable != bool(fatal)

    video, settings = first_video(case.layout), case.settings
    if case.left == ALL:
        item = open_dataset(root, case.layout, **settings).read(video)
        assert len(item) == FRAMES
    else:
        with pytest.raises((ValueError, OSError)) as caught:
            open_dataset(root, case.layout, **settings).read(video)
        message = str(caught.value)
        gone = message.startswith("video: ") and "wanted one of" in message
        assert gone or message.startswith(str(root))
        assert "\n" not in message and ": " in message
        assert case.says in message
        if case.layout != "avtrack360":
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                check_skipping(case, root, video, told)
    assert fingerprint(root) == before
    assert not (tmp_path / "it-ran").exists()


def check_skipping(case, root, video, told):
    settings = {**case.settings, "on_error": "skip"}
    whole = open_dataset(made(case.layout)).read(video).indices.tolist()
    if not case.left:
        with pytest.raises((ValueError, OSError)) as caught:
            open_dataset(root, case.layout, **settings).read(video)
        assert "\n" not in str(caught.value)
        return
    data = open_dataset(root, case.layout, **settings)
    item = data.read(video)
    if len(item.indices) and item.indices[0] != whole[0]:
        whole = [n - whole[0] + int(item.indices[0]) for n in whole]
    assert item.indices.tolist() == [whole[k] for k in case.left]
    assert len(item.frames) == len(case.left)
    lost = FRAMES - len(case.left)
    assert any(f"left out {lost} of {FRAMES} frames" in str(w.message) for w in told)
    assert data.skipped and all(path.startswith(str(root)) for path in data.skipped)


@pytest.mark.parametrize(
    ("layout", "path"),
    [("sphere360", "001/0003.jpg"), ("vr-eyetracking", "saliency_maps/001/0012.png")],
)
def test_a_file_that_may_not_be_read_is_named(layout, path, tmp_path, monkeypatch):
    """As the system says it to anybody but root."""
    root, whole = copied(layout, tmp_path), Path.read_bytes

    def read_bytes(self):
        if self == root / path:
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (hit,) = (f for f in verify(root).findings if f.path == path)
    assert (hit.kind, hit.message) == ("broken", "Permission denied")
    with pytest.raises(PermissionError, match=f"^{root / path}: Permission denied$"):
        open_dataset(root).read("001")
    with pytest.warns(UserWarning, match=f"left out 1 of {FRAMES} frames"):
        assert len(open_dataset(root, on_error="skip").read("001")) == FRAMES - 1


def test_progress_names_every_file_that_is_opened():
    seen = []
    report = verify(made("sphere360"), progress=seen.append)
    assert len(seen) == report.files == 3 * 2 * FRAMES + 1
    assert all(os.path.isfile(path) for path in seen)
    told = json.loads(report.json())
    assert told["usable"] is True and told["layout"] == "sphere360" and told["videos"] == 3
    assert report.summary().endswith("1 note; usable")
