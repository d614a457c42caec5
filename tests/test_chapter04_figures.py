"""The figures of chapter 04: alt texts from the data, same bits twice, nothing from a network."""

import math
import re

import numpy as np
import pytest
import torch

from sal360 import figures
from sal360.course import check
from sal360.course.chapter04 import labelled_room
from sal360.cubemap import cube_pixel
from sal360.figures.projections import net_page, panorama_page, view_page
from sal360.figures.show import CYCLE
from sal360.projections import erp_to_cube
from sal360.sphere import lonlat_to_xyz, sample_sphere, slerp


def directions(*degrees):
    return [lonlat_to_xyz(math.radians(lon), math.radians(lat)) for lon, lat in degrees]


def area(outlines):
    total = 0.0
    for x, y in (np.transpose(o) for o in outlines):
        total += abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    return total


def test_the_comparator_needs_no_network_and_comes_out_the_same():
    plot = figures.projection_comparator()
    html = plot.html()
    assert html == figures.projection_comparator().html()
    assert not re.search(r'(src|href)="https?:', html) and "cdn" not in html
    assert len(html) < 1_000_000
    steps = plot.figure.layout.sliders[0].steps
    assert len(steps) == len(plot.figure.frames) == 37
    assert "cube: area × 1.00, shape 1.00 : 1" in plot.alt  # it starts on the zenith
    corner = next(
        f for f, s in zip(plot.figure.frames, steps, strict=True) if ", latitude 35" in s.label
    )
    assert corner.data[-1].text[1] == "cube<br>area × 5.15, shape 1.73"  # 3 sqrt 3 and sqrt 3
    told = plot.figure.frames[-1].data[-1].text  # at the seam, behind the viewer
    assert "outside" in told[2] and "area × 1.00" in told[0]
    assert all(len(line) <= 26 for f in plot.figure.frames for text in f.data[-1].text
               for line in text.split("<br>"))  # what a phone has room for  # fmt: skip
    assert all(len(line) <= 14 for f in plot.figure.frames
               for line in f.data[-1].text[2].split("<br>"))  # a narrow column  # fmt: skip
    assert plot.figure.layout.sliders[0].yanchor == "top" and plot.figure.layout.height <= 760


def test_a_disc_keeps_its_area_wherever_it_is_cut():
    """By each page's own stretch, on the zenith, a corner, an edge, the seam and in between."""
    radius = math.radians(0.4)
    places = directions((0, 90), (45, 35.3), (45, 0), (180, 0), (-179, 20), (10, -88.5), (70, 50))
    places += list(sample_sphere(20, torch.Generator().manual_seed(0)))
    for page, unit in ((panorama_page(), math.degrees(1) ** 2), (net_page(), 0.25)):
        for centre in places:
            if page.kind == "panorama" and abs(float(centre[1])) > 0.98:
                continue
            drawn = area(page.disc(centre, radius)) / unit
            cap = 2 * math.pi * (1 - math.cos(radius))
            assert drawn / cap == pytest.approx(page.stretch(centre)[0], rel=0.03)


def test_a_disc_on_a_pole_is_a_band_of_the_panorama():
    for lat in (90, -90, 86, -83):
        (band,) = panorama_page().disc(*directions((30, lat)), math.radians(10))
        assert band[:, 0].min() == -180 and band[:, 0].max() == 180
        edge = band[:, 1][np.abs(band[:, 1]) < 90]
        inner = abs(lat) - 10
        assert np.abs(edge).min() == pytest.approx(inner, abs=0.3)


def test_shapes_are_cut_and_what_is_behind_a_view_is_not_drawn():
    (corner,) = directions((45, math.degrees(math.asin(3**-0.5))))
    assert len(net_page().disc(corner, 0.1)) == 3
    assert len(panorama_page().disc(*directions((180, 10)), 0.1)) == 2
    assert view_page(0, 0, 90).disc(*directions((180, 0)), 0.1) == []
    way = slerp(*directions((170, 0), (-170, 0)), torch.linspace(0, 1, 50))
    assert np.isnan(panorama_page().line(way)).any()


def test_a_net_tells_the_middle_of_every_face():
    world = torch.zeros(1, 3, 16, 32)
    world[:, 0, :, 12:20] = 1.0  # red ahead
    faces = erp_to_cube(world, 4)
    picture = figures.cube_net(faces, "a test")
    assert "6 x 4 x 4 texels a test" in picture.panels[0][0]
    assert "F 1.00/0.00/0.00, R 0.00" in picture.panels[0][0]
    assert picture.panels == figures.cube_net(faces[0], "a test").panels
    assert "U 0.50" in figures.cube_net(torch.full((6, 1, 3, 3), 0.5)).panels[0][0]


def test_tissot_paths_and_close_ups_read_out_their_data():
    picture = figures.tissot(radius_deg=8)
    alts = [alt for alt, _ in picture.panels]
    assert len(alts) == 4 and all("discs of 8 degrees" in alt for alt in alts)
    assert "at least partly inside" in alts[3]
    assert picture.panels == figures.tissot(radius_deg=8).panels
    arc = slerp(*directions((-80, 30), (80, 30)), torch.linspace(0, 1, 200))
    alt = figures.paths({"arc": arc}).panels[0][0]
    assert "arc, 117 degrees long over the faces LUR" in alt
    step = torch.tensor([[0.0, 1.0], [0.0, 4.0]])
    assert "peak 4, largest step 100.0% of it" in figures.close_ups({"s": step}).panels[0][0]
    errors = {"e": torch.tensor([[1e-3, -2e-2], [0.0, 1e-4]])}
    picture = figures.close_ups(errors, camera=(45, 35, 30), low=1e-5)
    assert "e: up to 2.0e-02, on average 5.3e-03" in picture.panels[0][0]
    assert picture.panels == figures.close_ups(errors, camera=(45, 35, 30), low=1e-5).panels


def test_the_room_is_the_same_twice_and_its_walls_are_where_the_letters_say():
    room = labelled_room(64)
    assert room.shape == (1, 3, 64, 128) and torch.equal(room, labelled_room(64))
    faces = erp_to_cube(room, 32)[0]
    for face, colour in zip(faces, CYCLE, strict=True):
        wanted = torch.tensor([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        near = (face.flatten(1).T - wanted).abs().amax(-1) < 0.1
        assert near.float().mean() > 0.3
    square = faces[:, :, 7:9, 23:25].amin((1, 2, 3))  # upper right, white on every wall
    assert (square > 0.8).all()


def test_a_path_that_clips_a_corner_needs_more_than_thirty_samples():
    def crossings(count):
        def sampled(a, b):
            t = torch.linspace(0, 1, count, dtype=torch.float64)
            return len(cube_pixel(slerp(a, b, t), 1)[0].unique_consecutive()) - 1

        return check("04.3", sampled)

    assert not any(crossings(count) for count in (20, 30, 31, 40, 60))
    assert crossings(1001)


def test_the_message_for_a_face_says_what_is_left_to_do():
    def only_sorted(faces):
        return faces[:, [2, 4, 0, 3, 5, 1]]

    assert "face F is off" in repr(check("04.5", only_sorted))
    assert "it still has to be mirrored" in repr(check("04.5", only_sorted))
    assert "do not round" in repr(
        check("04.4", lambda fov, W: round(math.tan(fov / 2) * W / math.pi))
    )
