"""Chapter 10: figures tell what is in the data, the stand-in says so, exercises tell slips."""

import math
import re

import numpy as np
import pytest
import torch

from sal360 import figures, gaze, upstream
from sal360.course import chapter10, check
from sal360.course.chapter10 import FAULTS, planted_maker
from sal360.datasets import download
from sal360.metrics import cc
from sal360.sphere import (
    erp_directions,
    lonlat_to_xyz,
    pixel_area,
    von_mises_fisher,
    xyz_to_lonlat,
)

LATS = [0, 60, 90]


def blob(lat, H=30, W=60):
    at = lonlat_to_xyz(math.radians(40), math.radians(lat))
    return von_mises_fisher(erp_directions(H, W), at, 1 / math.radians(10) ** 2)


@pytest.fixture(scope="module")
def blobs():
    right = torch.stack([blob(lat) for lat in LATS])
    same = torch.stack([blob(0).roll(-k, 0) for k in (0, 10, 14)])
    return figures.blobs_by_latitude({"same": same, "right": right}, LATS, lon=40, start=1)


def test_blobs_by_latitude_needs_no_network_and_comes_out_the_same(blobs):
    html = blobs.html()
    assert not re.search(r'(src|href)="https?:', html) and len(html) < 300_000
    assert [frame.name for frame in blobs.figure.frames] == ["0", "1", "2"]
    assert blobs.figure.layout.sliders[0].active == 1
    labels = [step.label for step in blobs.figure.layout.sliders[0].steps]
    assert labels == [f"a fixation at latitude {lat}°" for lat in LATS]


def test_blobs_by_latitude_draws_the_maps_it_is_given(blobs):
    panels = blobs.figure.frames[1].data  # panorama and view of each way
    assert [np.asarray(p.z).max() for p in panels] == [255] * 4
    seen = np.asarray(panels[3].z, float)
    middle = seen.shape[0] // 2
    peak = np.unravel_index(seen.argmax(), seen.shape)
    assert np.abs(np.array(peak) - middle).max() <= 2  # a pixel of the map is 5 cells of the view
    # Seen from the front a round blob is as wide as high;
    high, wide = ((seen.max(axis) > 128).sum() for axis in (0, 1))
    assert abs(int(high) - int(wide)) <= 3
    assert "right" in blobs.alt and re.search(r"right the blob covers .* 360 at 90", blobs.alt)
    with pytest.raises(ValueError, match="^maps: 1 ways, wanted 2 with 3 maps"):
        figures.blobs_by_latitude({"one": torch.ones(3, 4, 8)}, LATS, 0)


def test_the_height_follows_a_narrow_page(blobs):
    height = blobs.figure.layout.height
    page = blobs.html()
    assert f"height:min({height}px,calc(130px + " in page and f'"height":{height}' not in page
    assert blobs.figure.layout.height == height  # as before, for a notebook


def test_views_of_blobs_tell_how_wide_they_are():
    places = {"front": (40, 0), "up": (40, 80)}
    total = blob(0, 90, 180) + blob(80, 90, 180)
    alts = [alt for alt, _ in figures.blob_views(total, places).panels]
    told = [[float(v) for v in re.findall(r"([\d.]+) from", alt)] for alt in alts]
    assert alts[1].startswith("View of the blob up, its width ")
    assert np.allclose(told, 10, atol=0.3)  # in both directions, though its columns crowd


def test_the_bar_of_a_view_is_ten_degrees_long(blobs):
    bars = [shape for shape in blobs.figure.layout.shapes if shape.type == "line"]
    assert [bar.xref for bar in bars] == ["x2", "x4"]
    ends = torch.tensor([bars[0].x0, bars[0].x1]).double() * math.tan(math.radians(70 / 2))
    assert float(torch.rad2deg(ends.atan().diff())) == pytest.approx(10)


def walk(seed, O=5, T=60):
    draw = torch.Generator().manual_seed(seed)
    steps = 0.2 * torch.randn(O, T, 2, generator=draw, dtype=torch.float64)
    lon, lat = steps.cumsum(1).unbind(-1)
    lon = (lon + math.pi).remainder(2 * math.pi) - math.pi
    return lonlat_to_xyz(lon, lat.clamp(-1.2, 1.2))


def test_observers_at_the_times_of_the_slider():
    xyz, t = walk(0), torch.arange(60) / 10.0
    maps = torch.rand(3, 20, 40, generator=torch.Generator().manual_seed(1))
    plot = figures.observers(xyz, t, maps, 20, np.full((40, 80, 3), 90, np.uint8), "A film")
    assert plot.html() == figures.observers(
        xyz, t, maps, 20, np.full((40, 80, 3), 90, np.uint8), "A film"
    ).html()  # fmt: skip
    assert not re.search(r'(src|href)="https?:', plot.html())
    lon, lat = (torch.rad2deg(angle).numpy() for angle in xyz_to_lonlat(xyz))
    for k, now in enumerate((19, 39, 59)):
        dots = plot.figure.frames[k].data[1]
        assert np.allclose(dots.x, lon[:, now], atol=0.06)
        assert np.allclose(dots.y, lat[:, now], atol=0.06)
    assert [s.label for s in plot.figure.layout.sliders[0].steps][-1] == "after 5.9 seconds"
    assert plot.alt.startswith("A film: 5 heads")
    with pytest.raises(ValueError, match="^densities: 4 maps, wanted at most 3"):
        figures.observers(xyz, t, torch.rand(4, 4, 8), 20)


def test_a_path_over_the_seam_is_not_drawn_across_the_picture():
    lon = torch.deg2rad(torch.arange(170.0, 190.0, 2.0))
    xyz = lonlat_to_xyz(lon, torch.zeros(10))[None].expand(2, -1, -1)
    line = figures.observers(xyz, torch.arange(10.0), torch.rand(1, 4, 8), 10).figure.data[0]
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    drawn = np.isfinite(y[1:]) & np.isfinite(y[:-1])
    assert np.abs(np.diff(x))[drawn].max() < 3
    assert np.isnan(y).sum() == 2 * (1 + 1)  # one gap and one end a path


def test_curves_tell_their_maximum_and_levels():
    curves = {"a": ([1, 2, 4], [0.1, 0.5, 0.3]), "b": ([1, 2, 4], [0, 0, 0])}
    picture = figures.gaze_curves(curves, "width", "gain", {"chance": 0.2}, "a", "x")
    assert picture.alt == (
        "Plot of gain against width: a from 0.1 to 0.3, highest at 2 with 0.5; "
        "b from 0 to 0; chance at 0.2"
    )
    used = figures.gaze_curves(curves, "width", "gain", mark="a", use=4).alt
    assert "highest at 2 with 0.5, at 4 with 0.3" in used
    peak = {"a": ([1, 2, 3], [30, 3595, 31])}
    assert "a from 30 to 31, highest at 2 with 3595" in figures.gaze_curves(peak, "t", "v").alt
    again = figures.gaze_curves(curves, "width", "gain", {"chance": 0.2}, "a", "x")
    assert picture.panels[0][1] == again.panels[0][1]


def test_the_stand_in_says_that_it_is_one(monkeypatch):
    monkeypatch.setattr(chapter10, "_avtrack_is_here", lambda: False)
    monkeypatch.setattr(chapter10, "synthetic", lambda worlds: (walk(3)[None], None, ("world 0",)))
    found = chapter10.heads.__wrapped__()
    assert not found.real and found.note.startswith("The book's synthetic observers: a program")
    monkeypatch.setattr(chapter10, "heads", lambda: found)
    assert chapter10.picture(0) == (None, "heads in world 0")


def test_synthetic_heads_and_eyes_share_the_clock_of_the_real_ones():
    head, eyes, names = chapter10.synthetic(1)
    T = round((chapter10.SECONDS[1] - chapter10.SECONDS[0]) * chapter10.RATE)
    assert head.shape == eyes.shape == (1, 48, T, 3) and names == ("test world 0",)
    assert torch.allclose(head.norm(dim=-1), torch.ones(1, 48, T, dtype=torch.float64))
    assert (head * eyes).sum(-1).min() > math.cos(math.radians(60))


def test_real_heads_are_those_of_the_files(real):
    import json

    first = json.loads(real("avtrack360/Head_rotation/2.json").read_text("utf-8"))
    if not all(map(download.available, (f"avtrack360/Head_rotation/{n}.json" for n in (2, 49)))):
        pytest.skip("not all traces are here")
    found = chapter10.heads()
    assert found.real and found.xyz.shape[:2] == (20, 48) and not found.xyz.isnan().any()
    video = next(v for v in first["data"] if v["filename"] == "7.mp4")
    rows = np.array([[s["sec"], s["yaw"], s["pitch"]] for s in video["pitch_yaw_roll_data_hmd"]])
    k = 120
    near = np.abs(found.t.numpy() - rows[k, 0]).argmin()
    at = np.degrees(found.lonlat[found.videos.index("7"), 0, near].numpy())
    assert np.abs(at - [rows[k, 1], -rows[k, 2]]).max() < 6  # a raised head is negative pitch


def test_planted_faults_show_and_nothing_else():
    H, W = 36, 72
    front, last = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -1.52]])
    seam = torch.tensor([[math.pi - 0.01, 0.0]])
    good = planted_maker()
    area = pixel_area(H, W)[:, None]
    for points in (front, last, seam):
        assert float((good(points, H, W) * area).sum()) == pytest.approx(1, abs=0.02)
    assert planted_maker("lost")(last, H, W).sum() == 0
    assert torch.equal(planted_maker("lost")(front, H, W), good(front, H, W))
    lower = planted_maker("low")(front, H, W).sum(1)
    rows = torch.arange(H).double()
    shift = (lower * rows).sum() / lower.sum() - (H - 1) / 2
    assert float(shift) == pytest.approx(1.5, abs=0.05)
    cut = float((planted_maker("cut")(seam, H, W) * area).sum())
    assert 0.4 < cut < 0.6
    twice = torch.cat((front, front))
    assert torch.allclose(good(twice, H, W), good(front, H, W))
    assert torch.allclose(planted_maker("once")(twice, H, W), good(front, H, W) / 2)
    with pytest.raises(ValueError, match="^faults: "):
        planted_maker("late")


def faults_of(make, H, W, rows=None):
    """As in the chapter's solution; rows: latitudes at which a fixation may be lost."""

    def of(*places):
        return make(torch.deg2rad(torch.tensor(places, dtype=torch.float64)), H, W).double()

    middles = 90 - (torch.arange(H) + 0.5) * 180 / H
    front, seam = of((1.0, 0.0)), of((179.9, 0.0))
    two = of((1.0, 0.0), (1.0, 0.0), (90.0, 0.0))
    there = {
        "lost": any(of((1.0, float(lat))).sum() == 0 for lat in rows or middles.tolist()),
        "low": (front.sum(1) * middles).sum() / front.sum() < -0.75 * 180 / H,
        "cut": seam[H // 2, 0] < 0.5 * seam[H // 2, -1],
        "once": two[:, W // 2].max() < 1.5 * two[:, W * 3 // 4].max(),
    }
    return {name for name, yes in there.items() if yes}


def test_the_published_program_has_all_four_faults():
    if not hasattr(upstream, "fixation_map"):
        pytest.skip("upstream.fixation_map is not written yet")

    def published(points, H, W):
        lon, lat = points.T
        xy = torch.stack((lon / (2 * math.pi) + 0.5, 0.5 - lat / math.pi), -1)
        return upstream.fixation_map(xy, H, W)

    assert faults_of(published, 60, 120) == set(FAULTS)
    ours = faults_of(lambda p, H, W: gaze.fixations_to_density(*p.T, H, W, 9.0), 60, 120)
    assert ours == set()


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        ("10.1", lambda lon, lat, t: torch.zeros(len(t)), "one speed from each"),
        (
            "10.1",
            lambda lon, lat, t: (lonlat_to_xyz(lon, lat).diff(dim=0)).norm(dim=-1) / t.diff(),
            "yours are radians per second",
        ),
        (
            "10.1",
            lambda lon, lat, t: (
                torch.rad2deg(
                    torch.acos(
                        (lonlat_to_xyz(lon, lat)[1:] * lonlat_to_xyz(lon, lat)[:-1])
                        .sum(-1)
                        .clamp(-1, 1)
                    )
                )
                / t.diff()
            ),
            "the arc cosine of a product is inexact",
        ),
        (
            "10.1",
            lambda lon, lat, t: torch.full((len(t) - 1,), math.nan),
            "you gave nan",
        ),
        (
            "10.2",
            lambda lon, lat, w, H, W, s: gaze.fixations_to_density(lon, lat, H, W, s),
            "two, one of them 3 times as long",
        ),
        (
            "10.3",
            lambda maps: cc(maps, (maps.sum(0) - maps) / (len(maps) - 1), "pixels"),
            "all pixels count alike there",
        ),
        ("10.4", lambda lon, lat, observer, sigmas: sigmas[-1], "does each blob have mass 1?"),
        ("10.4", lambda lon, lat, observer, sigmas: 3, "its number in the list"),
        ("10.5", lambda make, H, W: {"late"}, "names of faults"),
        ("10.5", lambda make, H, W: set(), "you missed ['lost']"),
        ("10.5", lambda *a: faults_of(*a, rows=(-89, -87)), "planted: lost; you missed ['lost']"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(number, answer, words):
    reply = check(number, answer)
    assert not reply.passed and not reply.waiting and words in repr(reply)


def test_a_width_is_not_taken_for_its_number_in_the_list():
    def narrow(lon, lat, observer, sigmas):
        at = torch.stack((lon, lat), -1)
        best = gaze.best_bandwidth([at[observer == o] for o in observer.unique()], sigmas)
        return 2.0 if best.sigma_deg == 4 else best.sigma_deg  # sigmas[2] is 4

    reply = repr(check("10.4", narrow))
    assert reply.endswith("you gave 2, wanted 4")
