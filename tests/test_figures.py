"""Figures: alt texts from the data, same bits twice, nothing from a network."""

import re

import numpy as np
import pytest
import torch

from sal360 import figures, patterns
from sal360.images import read_image, write_image
from sal360.overlay import blend, levels
from sal360.sources import expand, open_source
from sal360.viewer import view


def peaked(row, col, H=20, W=40):
    density = np.full((H, W), 0.01)
    density[row, col] = 2.5
    return density


def test_the_alt_text_of_a_map_tells_where_its_peak_is():
    picture = figures.maps({"one": peaked(0, 0), "two": peaked(19, 39)})
    (first, _), (second, _) = picture.panels
    assert "peak 2.5 density (1/sr) at longitude -176, latitude 86 degrees" in first
    assert "longitude 176, latitude -86 degrees" in second
    assert picture._repr_html_().count('alt="Map of') == 2


def test_pictures_are_the_same_bits_twice():
    def drawn():
        return figures.panorama(torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0)))

    assert drawn().panels == drawn().panels


def test_points_are_named_and_hostile_titles_escaped():
    picture = figures.panorama(np.zeros((8, 16, 3), np.uint8), 'a"><script>', {"here": (10, -5)})
    assert "here at 10, -5 degrees" in picture.panels[0][0]
    assert "<script>" not in picture._repr_html_()


def test_views_take_every_kind_of_picture():
    kinds = {
        "chw float": torch.rand(3, 6, 9),
        "hwc bytes": np.zeros((6, 9, 3), np.uint8),
        "batch of one": torch.rand(1, 3, 6, 9),
    }
    assert len(figures.views(kinds).panels) == 3


def test_a_plot_needs_no_network_and_keeps_its_name():
    plot = figures.direction_figure(lat_deg=20)
    html = plot.html()
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    assert html == figures.direction_figure(lat_deg=20).html()
    assert "latitude 20 degrees" in plot.alt and "aria-label" in html
    steps = plot.figure.layout.sliders[0].steps
    assert len(steps) == len(plot.figure.frames) == 25


def test_player_wants_one_map_per_frame():
    with pytest.raises(ValueError, match="^maps: 1 of them, wanted 2"):
        figures.player(np.zeros((2, 3, 8, 16), np.uint8), np.ones((1, 4, 8)), 8)
    for bad, kind in (
        (torch.rand(2, 3, 8, 16), TypeError),
        (np.zeros((2, 8, 16, 3), "u1"), ValueError),
    ):
        with pytest.raises(kind, match="^frames: .*, wanted"):
            figures.player(bad, np.ones((2, 4, 8)), 8)


def test_overlay_is_clear_at_zero_and_opaque_at_the_peak():
    rgb = np.full((40, 80, 3), 100, np.uint8)
    out = blend(rgb, peaked(10, 0) - 0.01, opacity=1.0)
    assert (out[30:, 10:70] == 100).all()
    assert np.abs(out[21, 0].astype(int) - 100).max() > 60
    assert np.abs(out[21, 79].astype(int) - 100).max() > 20  # across the seam, not cut
    for bad in ({"opacity": 2}, {"colormap": "jet"}):
        with pytest.raises(ValueError, match="^(opacity|colormap): "):
            blend(rgb, peaked(0, 0), **bad)


def test_an_overlay_of_what_is_no_density_or_no_picture_is_refused():
    """A z-score below 0 would be drawn bright, and floats in [0, 1] as black."""
    rgb, density = np.full((8, 16, 3), 100, np.uint8), np.ones((4, 8))
    for bad in (density - 2, density * np.nan, density * np.inf, density[None], density[:0]):
        with pytest.raises(ValueError, match=r"^density: (values|shape) .*, wanted"):
            blend(rgb, bad)
    for bad, kind in ((rgb / 255, TypeError), (rgb[..., 0], ValueError), ([1], TypeError)):
        with pytest.raises(kind, match=r"^rgb: .*, wanted"):
            blend(bad, density)


def test_levels_reach_255_and_survive_an_empty_map():
    assert levels(peaked(3, 4)).max() == 255
    assert levels(np.zeros((4, 8))).max() == 0


def test_pictures_survive_the_disk_and_bad_ones_are_named(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    write_image(tmp_path / "ümlaut ä.png", rgb)
    assert np.array_equal(read_image(tmp_path / "ümlaut ä.png"), rgb)
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.jpg: not a picture"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(FileNotFoundError, match=r"none\.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(OSError, match="none"):
        write_image(tmp_path / "none" / "x.png", rgb)


def test_a_full_disk_leaves_the_picture_and_the_page_that_were_there(tmp_path):
    """A limit on file sizes stands in for it."""
    resource = pytest.importorskip("resource")
    rgb = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    writers = {"x.png": lambda path: write_image(path, rgb), "x.html": view(rgb).save}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in writers.items():
        write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
        try:
            with pytest.raises(OSError, match=name):
                write(tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (tmp_path / name).read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(writers)


def test_sources_know_pictures_folders_and_stereo(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    write_image(tmp_path / "tb.png", np.concatenate((rgb, np.roll(rgb, 1, 1))))
    assert open_source(tmp_path / "tb.png", "tb").frames().__next__().rgb.shape == (32, 64, 3)
    assert open_source(tmp_path / "tb.png", "mono").frames().__next__().rgb.shape == (64, 64, 3)
    for name in ("f2.png", "f10.png", "f1.png"):
        (tmp_path / "clip").mkdir(exist_ok=True)
        write_image(tmp_path / "clip" / name, rgb)
    source = open_source(tmp_path / "clip", fps=4)
    assert [p.name for p in source.pictures] == ["f1.png", "f2.png", "f10.png"]
    assert [f.time for f in source.frames()] == [0, 0.25, 0.5]
    assert [f.index for f in source.frames(start=0.25, seconds=0.25)] == [1]
    with pytest.raises(ValueError, match="no frames from 9 s on"):
        list(source.frames(start=9))
    (tmp_path / "clip" / "film.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds videos and pictures"):
        expand([tmp_path / "clip"])


def test_footprints_move_from_pole_to_pole_and_say_what_they_cover():
    made = [
        figures.footprint(
            {
                "tangent": patterns.tangent_pattern(32, 64),
                "crown": patterns.crown_pattern(32, 64, (3, 8), 0.4),
            },
            steps=5,
        )
        for _ in range(2)
    ]
    assert made[0].html() == made[1].html() and "http" not in _attributes(made[0].html())
    figure = made[0].figure
    assert [f.name for f in figure.frames] == ["0", "8", "16", "23", "31"]
    north = figure.frames[0].data[1]  # the tangent kernel on the panorama, first row
    lat = np.array([v for v in north.y if v == v])
    assert lat.max() < 90 and lat.min() > 75 and len(lat) == 9
    jumps = np.abs(np.diff(np.array(north.x, float)))
    assert np.nanmax(jumps) <= 180, "a line runs across the panorama"
    assert "tangent reaches" in made[0].alt and "crown reaches 22.9 degrees" in made[0].alt


def test_the_crown_figure_shows_the_place_of_each_pixel_in_the_kernel():
    plot = figures.crown_figure(12, 24, np.pi / 4, steps=3)
    assert plot.html() == figures.crown_figure(12, 24, np.pi / 4, steps=3).html()
    pole, equator, south = (np.array(f.data[1].z, float) for f in plot.figure.frames)
    assert np.isfinite(pole[:3]).all() and np.isnan(pole[3:]).all()  # 45 degrees of latitude
    assert np.allclose(pole[::-1], south, equal_nan=True)
    assert np.nanmax(equator) <= 45 and np.isfinite(equator).mean() < np.isfinite(pole).mean()
    compass = np.array(plot.figure.frames[1].data[2].z, float)
    i, j = 7, 12  # below the centre, just right of it: south, a little to the east
    assert 0 < compass[i, j] < 90 and 270 < compass[i, 11] < 360
    assert "25 % of the pixels at a pole" in plot.alt


def test_the_globe_wears_the_panorama():
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 8:] = 255  # right half white
    plot = figures.globe(image, {"ring": np.eye(3)}, {"ahead": (0, 0)}, rows=8)
    ball = plot.figure.data[0]
    colours = dict(zip(np.round(ball.y, 2), ball.vertexcolor, strict=True))
    assert colours[np.float32(-1.0)] == "#ffffff"  # plotly's y is left: right is white
    assert colours[np.float32(1.0)] == "#000000"
    assert "ring" in plot.alt and "ahead at 0, 0 degrees" in plot.alt
    assert "mirrored" in figures.globe(image, outside=True).alt
    scalar = figures.globe(np.random.default_rng(0).random((8, 16)))
    assert scalar.html() != plot.html() and "http" not in _attributes(plot.html())


def test_row_curves_name_their_range():
    picture = figures.row_curves({"a": np.linspace(0, 1, 9)}, "answer", "rows", [2, 5], 1.0)
    assert "rows by image row: a from 0 to 1; marked rows 2, 5" in picture.panels[0][0]


def _attributes(html):
    """What a page would load: plotly's own texts name addresses that nothing asks."""
    return " ".join(re.findall(r'(?:src|href)="[^"]*"', html))


def test_figures_are_saved_from_a_script(tmp_path):
    picture = figures.views({"a": np.zeros((4, 4, 3)), "b": np.ones((4, 4, 3))})
    files = picture.save(tmp_path / "two.png")
    assert [f.name for f in files] == ["two-1.png", "two-2.png"]
    assert all(f.read_bytes().startswith(b"\x89PNG") for f in files) and picture.alt
    plot = figures.footprint(patterns.ring_pattern(8, 16), steps=3)
    page = plot.save(tmp_path / "ring.html").read_text("utf-8")
    assert "Plotly.newPlot" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page), "asks the network"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: figures.panorama(np.full((4, 8, 3), 255.0)), "image"),
        (lambda: figures.panorama(np.full((4, 8, 3), np.nan)), "image"),
        (lambda: figures.panorama(np.zeros((2, 4, 8, 3))), "image"),
        (lambda: figures.cube_net(torch.zeros(2, 6, 3, 4, 4)), "faces"),
        (lambda: figures.cube_net(torch.full((6, 3, 4, 4), 200.0)), "faces"),
        (lambda: figures.error_maps({"a": np.full((4, 8), np.nan)}), "errors"),
        (lambda: figures.footprint({}), "patterns"),
        (
            lambda: figures.footprint(
                {"a": patterns.ring_pattern(8, 16), "b": patterns.ring_pattern(4, 8)}
            ),
            "patterns",
        ),
    ],
)
def test_pictures_that_would_be_blank_or_wrong_are_refused(call, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        call()


def test_views_mark_places():
    image = {"a": np.zeros((4, 4, 3)), "b": np.ones((4, 4, 3))}
    picture = figures.views(image, points={"b": {"N": (0.0, -0.5), "pole": (0.0, -1.0)}})
    assert picture.alt == "View: a; View: b, marked: N, pole"
    plain = figures.views(image)
    same = [one == two for one, two in zip(picture.panels, plain.panels, strict=True)]
    assert same == [True, False]
