"""The 360 viewer: what Python puts into the page, and what the page then shows in a browser.

The browser tests read pixels: synthetic panoramas carry their direction as a colour, so that a
wrong axis, a shifted pixel or a seam cannot hide.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from sal360 import viewer

SCRIPT = (Path(viewer.__file__).parent / "viewer.js").read_text(encoding="utf-8")
NASTY = (
    "</script><script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>\u2028&amp;"
)


# ---- the plain formulas, in numpy -----------------------------------------------------------


def xyz(lon, lat):
    """(..., 3) unit vectors; x right, y down, z forward; degrees."""
    lon, lat = np.broadcast_arrays(np.radians(lon), np.radians(lat))
    return np.stack([np.cos(lat) * np.sin(lon), -np.sin(lat), np.cos(lat) * np.cos(lon)], -1)


def pixel_centres(height, width):
    """lon (W,), lat (H,) of the pixel centres, degrees."""
    lon = ((np.arange(width) + 0.5) / width - 0.5) * 360
    lat = (0.5 - (np.arange(height) + 0.5) / height) * 180
    return lon, lat


def compass_colours(height=256, width=512):
    """(H, W, 3) uint8 panorama whose colour is its direction: rgb = (xyz + 1) / 2."""
    lon, lat = pixel_centres(height, width)
    return np.rint((xyz(lon[None], lat[:, None]) + 1) / 2 * 255).astype(np.uint8)


def viewport_rays(lon, lat, fov, height, width):
    """(h, w, 3) directions through the pixel centres of a viewport; rotations written out."""
    t = np.tan(np.radians(fov) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * t
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * t * height / width
    rays = np.stack(np.broadcast_arrays(x[None], y[:, None], 1.0), -1)
    p, q = np.radians(lat), np.radians(lon)
    pitch = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    yaw = np.array([[np.cos(q), 0, np.sin(q)], [0, 1, 0], [-np.sin(q), 0, np.cos(q)]])
    return rays @ (yaw @ pitch).T


def bilinear(image, rays):
    """Bilinear look-up that goes on across the seam and over the poles."""
    height, width = image.shape[:2]
    over = [np.roll(image[:1], width // 2, 1), image, np.roll(image[-1:], width // 2, 1)]
    padded = np.pad(np.concatenate(over).astype(float), ((0, 0), (1, 1), (0, 0)), mode="wrap")
    lon = np.arctan2(rays[..., 0], rays[..., 2])
    lat = np.arctan2(-rays[..., 1], np.hypot(rays[..., 0], rays[..., 2]))
    col = (lon / (2 * np.pi) + 0.5) * width + 0.5
    row = (0.5 - lat / np.pi) * height + 0.5
    j = np.floor(col).astype(int).clip(0, width)
    i = np.floor(row).astype(int).clip(0, height)
    a, b = (col - j)[..., None], (row - i)[..., None]
    top = padded[i, j] * (1 - a) + padded[i, j + 1] * a
    return top * (1 - b) + (padded[i + 1, j] * (1 - a) + padded[i + 1, j + 1] * a) * b


def write_png(path, rgb):
    cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]) if rgb.ndim == 3 else rgb)
    return path


def decode(url):
    raw = base64.b64decode(url.split(",", 1)[1])
    return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)


# ---- Python: pictures and options -----------------------------------------------------------


@pytest.mark.parametrize("form", ["hwc uint8", "chw float", "tensor", "batched tensor"])
def test_arrays_and_tensors_become_the_same_jpeg(form):
    import torch

    rgb = compass_colours(64, 128)
    chw = rgb.transpose(2, 0, 1).astype(np.float32) / 255
    source = {
        "hwc uint8": rgb,
        "chw float": chw,
        "tensor": torch.from_numpy(chw).requires_grad_(),
        "batched tensor": torch.from_numpy(chw)[None],
    }[form]
    url = viewer.view(source).options["source"]
    assert url.startswith("data:image/jpeg;base64,")
    assert np.abs(decode(url)[..., ::-1].astype(int) - rgb).max() <= 8


def test_saliency_array_is_stored_relative_to_its_maximum():
    saliency = np.array([[0.0, 1e-6], [2e-6, 4e-6]])
    url = viewer.view(compass_colours(8, 16), saliency).options["saliency"]
    assert url.startswith("data:image/png;base64,")
    np.testing.assert_allclose(decode(url), [[0, 63.75], [127.5, 255]], atol=0.51)
    empty = viewer.view(compass_colours(8, 16), np.zeros((2, 4))).options["saliency"]
    assert decode(empty).max() == 0


def test_small_files_go_in_unchanged_and_wide_ones_are_shrunk(tmp_path):
    rows, columns = np.mgrid[:64, :128]
    grey = np.stack([(2 * rows + columns).astype(np.uint8)] * 3, -1)  # JPEG blurs colours
    path = write_png(tmp_path / "a.png", grey)
    assert base64.b64decode(viewer.view(path).options["source"].split(",")[1]) == path.read_bytes()
    small = decode(viewer.view(path, max_width=32, quality=100).options["source"])
    assert small.shape == (16, 32, 3)
    area = grey.reshape(16, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(small - area).max() <= 3


def test_linked_counts_the_pixels_of_the_image_unless_told(tmp_path):
    path = write_png(tmp_path / "a.png", compass_colours(64, 128))
    options = viewer.linked(path, max_width=32).options
    assert (options["height_px"], options["width_px"]) == (64, 128)
    options = viewer.linked(compass_colours(64, 128), height_px=8, width_px=16).options
    assert (options["height_px"], options["width_px"]) == (8, 16)


GREY = np.zeros((4, 8, 3), np.uint8)
BAD = {
    "rank": (lambda: viewer.view(np.zeros((4, 8))), ValueError, r"source: .*\(4, 8\).*\(3, H, W\)"),
    "channels": (lambda: viewer.view(np.zeros((2, 4, 8))), ValueError, r"source: .*\(2, 4, 8\)"),
    "range": (lambda: viewer.view(GREY + 255.0), ValueError, r"source: .*255.*\[0, 1\]"),
    "nan": (lambda: viewer.view(GREY + np.nan), ValueError, r"source: .*nan"),
    "dtype": (lambda: viewer.view(GREY.astype(np.int64)), TypeError, "source: .*int64.*uint8"),
    "list": (lambda: viewer.view([[1, 2]]), TypeError, "source: .*list.*array"),
    "suffix": (lambda: viewer.view("a.gif"), ValueError, r"source: .*a\.gif.*\.mp4"),
    "missing": (lambda: viewer.view("no/a.mp4"), FileNotFoundError, r"no/a\.mp4"),
    "linked video": (lambda: viewer.linked("a.mp4"), ValueError, r"image: .*a\.mp4.*\.png"),
    "no map": (lambda: viewer.view(GREY, "no/s.png"), FileNotFoundError, r"saliency: .*no/s\.png"),
    "negative": (lambda: viewer.view(GREY, -np.ones((2, 4))), ValueError, "saliency: .*-1"),
    "map rank": (lambda: viewer.view(GREY, np.ones((2, 2, 4))), ValueError, r"saliency: .*\(H, W"),
    "both": (lambda: viewer.view(GREY, np.ones((2, 4)), stacked=True), ValueError, "stacked"),
    "opacity": (lambda: viewer.view(GREY, opacity=1.5), ValueError, "opacity: .*1.5.*0 to 1"),
    "colormap": (lambda: viewer.view(GREY, colormap="jet"), ValueError, "colormap: .*jet.*viridis"),
    "fov": (lambda: viewer.view(GREY, fov=180), ValueError, "fov: .*180.*30 to 120"),
    "lat": (lambda: viewer.view(GREY, lat=np.pi * 90), ValueError, "lat: .*-90 to 90"),
    "lon": (lambda: viewer.view(GREY, lon="left"), TypeError, "lon: .*left.*number"),
    "height": (lambda: viewer.view(GREY, height=1.5), TypeError, "height: .*1.5"),
    "pixels": (lambda: viewer.linked(GREY, height_px=0), ValueError, "height_px: .*0.*1"),
    "caption": (lambda: viewer.view(GREY, caption=3), TypeError, "caption: .*int.*text"),
    "figure": (lambda: viewer.page({}, figure="globe"), ValueError, "figure: .*globe.*linked"),
    "json": (lambda: viewer.page({"a": {1}}), TypeError, "body_options: .*set"),
    "not finite": (lambda: viewer.page({"lon": np.inf}), ValueError, "body_options: .*finite"),
    "folder": (lambda: viewer.view(GREY).save("/no/x.html"), FileNotFoundError, "/no"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_the_argument_the_value_and_the_wish(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4"])
@pytest.mark.parametrize("held", [b"text", b"", bytes(500)])
def test_a_file_that_is_not_what_its_name_says(name, held, tmp_path):
    (tmp_path / name).write_bytes(held)
    with pytest.raises(ValueError, match=rf"source: .*{name}"):
        viewer.view(tmp_path / name)


class Tags(HTMLParser):
    """The start tags of a page, and the text inside each."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data


def test_nasty_text_stays_text():
    page = viewer.view(GREY, caption=NASTY).html
    tags = Tags(page)
    names = [tag for tag, _ in tags.tags]
    assert names.count("script") == 2
    assert "img" not in names
    assert tags.texts[names.index("title")].strip() == NASTY
    options = re.search(r"^Sal360Viewer\.mount\(.*?, (\{.*\})\);$", page, re.MULTILINE)
    assert json.loads(options[1])["caption"] == NASTY

    frame = Tags(viewer.view(GREY, caption=NASTY)._repr_html_())
    assert [tag for tag, _ in frame.tags] == ["iframe"]
    assert frame.tags[0][1]["srcdoc"] == page
    assert frame.tags[0][1]["title"] == NASTY
    assert frame.tags[0][1]["loading"] == "lazy"


def test_the_script_needs_nothing_from_outside_and_can_stand_in_a_page():
    assert "</" not in re.sub(r"</svg>|</?div|<path/>", "", SCRIPT)
    page = viewer.linked(GREY).html
    assert not re.findall(r"https?://|//cdn|@import|\bfetch\(|XMLHttpRequest", page)


def test_importing_the_viewer_loads_neither_torch_nor_opencv():
    import subprocess
    import sys

    code = "import sys, sal360.viewer; print({'torch', 'cv2', 'av'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["viridis", "inferno", "cividis"])
def test_colour_tables_follow_opencv(name):
    first, second = re.search(name + r': "(\w+)" \+\s+"(\w+)"', SCRIPT).groups()
    table = np.frombuffer(bytes.fromhex(first + second), np.uint8).reshape(32, 3)
    flag = getattr(cv2, f"COLORMAP_{name.upper()}")
    truth = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], flag)[0, :, ::-1]
    at = np.linspace(0, 31, 256)
    ours = np.stack([np.interp(at, np.arange(32), table[:, c]) for c in range(3)], -1)
    error = np.abs(ours - truth)
    assert error.max() < 6
    assert error.mean() < 0.5


# ---- the browser ----------------------------------------------------------------------------

FLAGS = [
    *["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
    *["--disable-background-networking", "--disable-component-update"],
]
SOFTWARE_GL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("SAL360_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def playwright():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if chromium() is None:
        pytest.skip("no Chromium: set SAL360_CHROMIUM to its path")
    with api.sync_playwright() as p:
        yield p


@pytest.fixture(scope="module")
def browser(playwright):
    browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS + SOFTWARE_GL)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def browser_without_webgl(playwright):
    flags = [*FLAGS, "--disable-3d-apis"]
    browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
    yield browser
    browser.close()


class Desk:
    """Opens pages with the network cut, and fails the test on any error they report."""

    def __init__(self, browser, folder):
        self.browser, self.folder, self.contexts, self.errors = browser, folder, [], []

    def open(self, figure, width=800, height=420, scale=1, init="", **options):
        page = self.blank(width, height, scale, init, **options)
        text = figure if isinstance(figure, str) else figure.html
        path = self.folder / f"page{len(self.contexts)}.html"
        path.write_text(text, encoding="utf-8")
        page.goto(path.as_uri())
        page.wait_for_selector("[data-ready]", timeout=60_000)
        return page

    def blank(self, width, height, scale=1, init="", **options):
        size = {"width": width, "height": height}
        context = self.browser.new_context(viewport=size, device_scale_factor=scale, **options)
        self.contexts.append(context)

        def route(r):
            if r.request.url.startswith(("file:", "data:", "blob:")):
                r.continue_()
            else:
                self.errors.append("asked for " + r.request.url)
                r.abort()

        context.route("**/*", route)
        if init:
            context.add_init_script(init)
        page = context.new_page()
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        return page

    def close(self):
        for context in self.contexts:
            context.close()
        assert self.errors == []


@pytest.fixture
def desk(browser, tmp_path):
    desk = Desk(browser, tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def plain_desk(browser_without_webgl, tmp_path):
    desk = Desk(browser_without_webgl, tmp_path)
    yield desk
    desk.close()


API = "document.querySelector('[data-ready]').sal360"


def settle(page):
    """Waits for the next frame: drawing was asked for before, so it is done after."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def look(page, lon, lat, fov=90):
    page.evaluate(f"{API}.setView({lon}, {lat}, {fov})")
    settle(page)


def get_view(page):
    return page.evaluate(f"{API}.getView()")


def pixels(page, number=0):
    """(h, w, 3) of a canvas of the figure, in device pixels, without what lies over it."""
    url = page.evaluate(f"document.querySelectorAll('canvas')[{number}].toDataURL()")
    return decode(url)[..., 2::-1].astype(float)


def centre(image):
    h, w = image.shape[:2]
    return image[(h - 1) // 2 : h // 2 + 1, (w - 1) // 2 : w // 2 + 1].mean((0, 1))


def box(page, number=0):
    return page.locator("canvas").nth(number).bounding_box()


@pytest.fixture(scope="module")
def compass_png(tmp_path_factory):
    return write_png(tmp_path_factory.mktemp("viewer") / "compass.png", compass_colours())


@pytest.fixture(scope="module")
def compass_view(compass_png):
    return viewer.view(compass_png)


DIRECTIONS = [(0, 0), (90, 0), (-90, 0), (180, 0), (-179.8, 30), (37, -52), (-120, 88), (10, -89)]


@pytest.mark.browser
def test_centre_of_the_viewport_has_the_colour_of_its_direction(desk, compass_view):
    page = desk.open(compass_view)
    assert page.locator("#figure").get_attribute("data-ready") == "webgl"
    shot = cv2.imdecode(np.frombuffer(page.locator("canvas").screenshot(), np.uint8), 1)
    assert shot.std() > 10
    for lon, lat in DIRECTIONS:
        look(page, lon, lat)
        expected = (xyz(lon, lat) + 1) / 2 * 255
        np.testing.assert_allclose(centre(pixels(page)), expected, atol=3, err_msg=f"{lon}, {lat}")


@pytest.mark.browser
@pytest.mark.parametrize("webgl1", [False, True])
@pytest.mark.parametrize("size", [(8, 16), (5, 10)])
def test_every_pixel_is_a_bilinear_look_up_across_seam_and_poles(desk, tmp_path, size, webgl1):
    # 5 x 10: not a power of two, so WebGL1 has to wrap by hand.
    image = np.random.default_rng(3).integers(0, 256, (*size, 3)).astype(np.uint8)
    figure = viewer.view(write_png(tmp_path / "a.png", image))
    only_webgl1 = """const ask = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, wish) {
            return kind === "webgl2" ? null : ask.call(this, kind, wish); };"""
    page = desk.open(figure, init=only_webgl1 if webgl1 else "")
    for lon, lat, fov in [(180, 0, 60), (100, 70, 110), (-150, -88, 90), (0, 0, 30)]:
        look(page, lon, lat, fov)
        ours = pixels(page)
        truth = bilinear(image, viewport_rays(lon, lat, fov, *ours.shape[:2]))
        error = np.abs(ours - truth).max(-1)
        error[:70, -70:] = 0  # the compass
        assert error.max() <= 5, (lon, lat, fov)


@pytest.mark.browser
def test_pick_is_the_direction_under_the_pointer(desk, compass_view):
    page = desk.open(compass_view)
    look(page, -140, 35, 100)
    area = box(page)
    w, h = round(area["width"]), round(area["height"])
    rays = viewport_rays(-140, 35, 100, h, w)
    for row, col in [(0, 0), (h - 1, 3), (h // 3, w - 1), (h // 2, w // 2)]:
        at = area["x"] + col + 0.5, area["y"] + row + 0.5
        got = page.evaluate(f"{API}.pick({at[0]}, {at[1]})")
        truth = rays[row, col] / np.linalg.norm(rays[row, col])
        np.testing.assert_allclose(xyz(got["lon"], got["lat"]), truth, atol=1e-6)
    assert page.evaluate(f"{API}.pick({area['x'] - 1}, {area['y'] + 5})") is None
    page.click("text=Flat")
    settle(page)
    picture = pixels(page)
    for fx, fy in [(0.3, 0.4), (0.5, 0.62), (0.7, 0.2)]:
        at = np.floor([fx * w, fy * h])
        got = page.evaluate(f"{API}.pick({area['x'] + at[0] + 0.5}, {area['y'] + at[1] + 0.5})")
        colour = (xyz(got["lon"], got["lat"]) + 1) / 2 * 255
        np.testing.assert_allclose(picture[int(at[1]), int(at[0])], colour, atol=4)
    assert page.evaluate(f"{API}.pick({area['x'] + 2}, {area['y'] + h / 2})") is None


@pytest.mark.browser
def test_the_scene_follows_the_pointer(desk, compass_view):
    page = desk.open(compass_view)
    area = box(page)
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    per_pixel = 2 * np.tan(np.radians(90) / 2) / area["width"]
    grabbed = page.evaluate(f"{API}.pick({x}, {y})")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.move(x + 120, y, steps=4)
    page.mouse.up()
    now = get_view(page)
    assert now["lon"] == pytest.approx(-np.degrees(np.arctan(120 * per_pixel)), abs=0.2)
    assert now["lat"] == pytest.approx(0, abs=0.2)
    under = page.evaluate(f"{API}.pick({x + 120}, {y})")
    assert under["lon"] == pytest.approx(grabbed["lon"], abs=0.2)

    look(page, 0, 0)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 80, steps=5)
    page.mouse.up()
    assert get_view(page)["lat"] == pytest.approx(np.degrees(np.arctan(80 * per_pixel)), abs=0.2)


@pytest.mark.browser
def test_keys_wheel_and_double_click(desk, compass_view):
    page = desk.open(compass_view)
    events = f"window.seen = []; window.off = {API}.on('view', v => window.seen.push(v.lon)); 0"
    page.evaluate(events)
    page.mouse.move(200, 100)
    page.mouse.wheel(0, 300)
    settle(page)
    assert get_view(page)["fov"] == 90, "the wheel belongs to the page until the picture has focus"

    page.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    assert get_view(page)["lon"] == pytest.approx(5)
    page.keyboard.press("ArrowUp")
    assert get_view(page)["lat"] == pytest.approx(5)
    page.keyboard.press("+")
    assert get_view(page)["fov"] < 90
    for _ in range(30):
        page.keyboard.press("-")
    assert get_view(page)["fov"] == 120
    page.keyboard.press("ArrowLeft")
    assert page.locator("output").text_content() == "lon -1.7°, lat +5.0°, fov 120°"
    page.mouse.wheel(0, -200)
    page.wait_for_function(f"{API}.getView().fov < 115")
    page.keyboard.press("0")
    now = get_view(page)
    assert (now["lon"], now["lat"], now["fov"]) == (0, 0, 90)
    page.keyboard.press("ArrowRight")
    page.locator("canvas").dblclick()
    assert get_view(page)["lon"] == 0
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.seen.slice(-1)[0]") == pytest.approx(5)
    page.evaluate("window.off()")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.seen.slice(-1)[0]") == pytest.approx(5)
    assert page.evaluate(f"{API}.setView(725, 99); {API}.getView()")["lon"] == pytest.approx(5)
    assert get_view(page)["lat"] == 90


@pytest.mark.browser
def test_two_fingers_zoom_and_one_looks_around(desk, compass_view):
    page = desk.open(compass_view, width=390, has_touch=True)
    area = box(page)
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        fingers = [{"x": a, "y": b, "id": k} for k, (a, b) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (x, y))
    touch("touchMove", (x - 50, y))
    touch("touchMove", (x - 90, y))
    touch("touchEnd")
    expected = np.degrees(np.arctan(90 * 2 / area["width"]))
    assert get_view(page)["lon"] == pytest.approx(expected, abs=0.3)
    touch("touchStart", (x - 40, y), (x + 40, y))
    touch("touchMove", (x - 60, y), (x + 60, y))
    touch("touchEnd")
    assert get_view(page)["fov"] == pytest.approx(60, abs=0.5)
    assert get_view(page)["lon"] == pytest.approx(expected, abs=0.3)


@pytest.mark.browser
def test_nothing_is_drawn_while_nothing_changes_and_the_picture_fits_its_frame(desk, compass_view):
    page = desk.open(compass_view, scale=2)
    settle(page)
    before = page.evaluate(f"{API}.frames")
    for _ in range(5):
        settle(page)
    assert page.evaluate(f"{API}.frames") == before
    area = box(page)
    assert pixels(page).shape[:2] == (2 * area["height"], 2 * area["width"])
    page.set_viewport_size({"width": 500, "height": 300})
    page.wait_for_function("document.querySelector('canvas').width === 1000")
    page.evaluate(f"{API}.destroy()")
    assert page.locator("#figure *").count() == 0


def flat_grey(folder, level, name="grey.png"):
    return write_png(folder / name, np.full((16, 32, 3), level, np.uint8))


@pytest.mark.browser
def test_overlay_has_the_colours_of_its_map_and_fades_with_saliency(desk, tmp_path):
    scene = flat_grey(tmp_path, 90)
    for level in (255, 128, 0):
        saliency = flat_grey(tmp_path, level, f"s{level}.png")
        page = desk.open(viewer.view(scene, saliency, opacity=1))
        for name in viewer.COLORMAPS:
            page.locator("select").select_option(name)
            settle(page)
            colour = np.full(3, float(level))
            if name != "grey":
                flag = getattr(cv2, f"COLORMAP_{name.upper()}")
                colour = cv2.applyColorMap(np.full((1, 1), level, np.uint8), flag)[0, 0, ::-1]
            alpha = min(1, 1.5 * level / 255)
            expected = 90 + alpha * (colour - 90.0)
            np.testing.assert_allclose(centre(pixels(page)), expected, atol=3, err_msg=name)
        strong = centre(pixels(page))
        page.locator("input[type=range]").fill("0")
        settle(page)
        np.testing.assert_allclose(centre(pixels(page)), 90, atol=1)
        assert level == 0 or np.abs(strong - 90).max() > 20


def stacked_picture():
    """Top half: the compass colours. Bottom half: white saliency right of the centre, else 0."""
    saliency = np.zeros((128, 256, 3), np.uint8)
    saliency[:, 128:] = 255
    return np.concatenate([compass_colours(128, 256), saliency])


@pytest.mark.browser
def test_stacked_picture_keeps_its_halves_apart(desk, tmp_path):
    path = write_png(tmp_path / "a.png", stacked_picture())
    page = desk.open(viewer.view(path, stacked=True, opacity=1, colormap="grey"))
    for lon, lat in [(-90, 0), (-60, 40), (-90, -90), (-90, -89.5), (-30, 89.9)]:
        look(page, lon - (lat == -90), lat, 30)
        image = pixels(page)
        h, w = image.shape[:2]
        rays = viewport_rays(lon - (lat == -90), lat, 30, h, w)
        west = rays[..., 0] < -0.02 * np.linalg.norm(rays, axis=-1)
        west[:70, -70:] = False
        truth = (rays / np.linalg.norm(rays, axis=-1, keepdims=True) + 1) / 2 * 255
        assert west.mean() > 0.2
        assert np.abs(image - truth)[west].max() <= 4, (lon, lat)
        east = rays[..., 0] > 0.03 * np.linalg.norm(rays, axis=-1)
        east[:70, -70:] = False
        if east.any():
            np.testing.assert_allclose(image[east], 255, atol=2)
    look(page, 90, 0)
    np.testing.assert_allclose(centre(pixels(page)), 255, atol=2)


def write_mp4(path, frames, rate=8):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": "8", "g": "4"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


CENTRE = """(() => { const c = document.querySelector("canvas");
    return [...c.getContext("2d").getImageData(c.width >> 1, c.height >> 1, 1, 1).data]; })()"""


@pytest.mark.browser
def test_video_plays_pauses_and_seeks(desk, tmp_path):
    red, blue = (np.zeros((64, 128, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 200, 200
    path = write_mp4(tmp_path / "a.mp4", [red] * 16 + [blue] * 16)
    page = desk.open(viewer.view(path), height=300)
    assert page.locator("#figure").get_attribute("data-ready") == "webgl"
    page.wait_for_function(f"{API}.frames > 3")  # it plays by itself
    page.locator("button[aria-label=Pause]").click()
    scrub = page.locator("input[aria-label=Time]")
    for place, channel in [("0.75", 2), ("0.2", 0), ("0.9", 2)]:
        scrub.fill(place)
        other = 2 - channel
        page.wait_for_function(f"{CENTRE}[{channel}] > 150 && {CENTRE}[{other}] < 60")
    assert page.locator(".s-clock").text_content() == "0:03 / 0:04"
    settle(page)
    settle(page)
    before = page.evaluate(f"{API}.frames")
    settle(page)
    assert page.evaluate(f"{API}.frames") == before, "a paused video needs no drawing"
    page.locator("canvas").focus()
    page.keyboard.press("Space")
    page.locator("button[aria-label=Pause]").wait_for()
    page.wait_for_function(f"{API}.frames > {before + 2}")


@pytest.mark.browser
def test_stacked_video_and_reduced_motion(desk, tmp_path):
    path = write_mp4(tmp_path / "a.mp4", [stacked_picture()] * 8)
    figure = viewer.view(path, stacked=True, opacity=1, colormap="grey", lon=-90)
    page = desk.open(figure, reduced_motion="reduce")
    assert page.locator("button[aria-label=Play]").count() == 1
    # A browser may tell of the first frame before it can be read; it is drawn again when it is.
    page.wait_for_function(f"{CENTRE}[1] > 60")
    np.testing.assert_allclose(centre(pixels(page)), (xyz(-90, 0) + 1) / 2 * 255, atol=10)
    look(page, 90, 0)
    np.testing.assert_allclose(centre(pixels(page)), 255, atol=6)


@pytest.mark.browser
def test_video_waits_until_it_is_seen(desk, tmp_path):
    path = write_mp4(tmp_path / "a.mp4", [compass_colours(64, 128)] * 16)
    options = html.escape(json.dumps({**viewer.view(path).options, "height": 300}))
    spy = """window.plays = 0; const play = HTMLMediaElement.prototype.play;
        HTMLMediaElement.prototype.play = function () {
            window.plays++; window.video = this; return play.call(this); };"""
    page = desk.open(
        f"<!doctype html><script>{SCRIPT}</script><p style='height: 3000px'></p>"
        f"<div data-sal360='{options}'></div>",
        init=spy,
    )
    page.evaluate("new Promise(done => new IntersectionObserver(done).observe(document.body))")
    settle(page)
    assert page.evaluate("window.plays") == 0
    page.locator("canvas").scroll_into_view_if_needed()
    page.wait_for_function("window.plays === 1 && !window.video.paused")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("window.video.paused")
    page.locator("canvas").scroll_into_view_if_needed()
    page.wait_for_function("window.plays === 2 && !window.video.paused")
    page.locator("button[aria-label=Pause]").click()
    page.evaluate("scrollTo(0, 0)")
    settle(page)
    page.locator("canvas").scroll_into_view_if_needed()
    settle(page)
    assert page.evaluate("window.video.paused && window.plays === 2")


@pytest.mark.browser
def test_media_that_cannot_be_decoded_say_so(desk, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0" * 500)
    page = desk.open(viewer.view(tmp_path / "a.mp4"))
    assert page.locator("#figure").get_attribute("data-ready") == "error"
    assert page.locator(".s-note").text_content() == "This browser cannot play the video."
    page = desk.open(viewer.page({"source": "data:image/png;base64,AAAA"}))
    assert page.locator("#figure").get_attribute("data-ready") == "error"
    assert "could not be loaded" in page.locator(".s-note").text_content()


def check_flat(page, opacity):
    assert page.locator("#figure").get_attribute("data-ready") == "flat"
    assert page.locator(".s-note").is_visible()
    assert "WebGL" in page.locator(".s-note").text_content()
    assert not page.locator("text=Look around").is_visible()
    image = pixels(page)
    h, w = image.shape[:2]
    width = min(w, 2 * h)
    for lon, lat in [(-90, 60), (-30, -40), (60, 60), (100, -40)]:
        row, col = h / 2 - lat / 180 * width / 2, w / 2 + lon / 360 * width
        scene = (xyz(lon, lat) + 1) / 2 * 255
        expected = scene + opacity * (lon > 0) * (255 - scene)
        np.testing.assert_allclose(image[int(row), int(col)], expected, atol=6)


@pytest.mark.browser
def test_flat_picture_and_overlay_without_webgl(plain_desk, tmp_path):
    path = write_png(tmp_path / "a.png", stacked_picture())
    figure = viewer.view(path, stacked=True, opacity=0.5, colormap="grey", caption="Caption")
    page = plain_desk.open(figure)
    check_flat(page, 0.5)
    page.locator("input[type=range]").fill("1")
    settle(page)
    check_flat(page, 1)
    page = plain_desk.open(viewer.linked(path))
    assert page.locator("canvas:visible").count() == 1
    assert pixels(page).std() > 10
    page.locator("canvas").first.click(position={"x": 400, "y": 150})
    assert page.locator("[data-read=xyz]").is_visible()


@pytest.mark.browser
def test_force_flat_and_lost_context(desk, tmp_path):
    path = write_png(tmp_path / "a.png", stacked_picture())
    figure = viewer.view(path, stacked=True, opacity=0.5, colormap="grey")
    page = desk.open(viewer.page({**figure.options, "forceFlat": True}))
    check_flat(page, 0.5)

    spy = """const ask = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, wish) {
            const got = ask.call(this, kind, wish);
            if (/webgl/.test(kind)) window.gl = got;
            return got; };"""
    page = desk.open(figure, init=spy)
    look(page, -90, 20)
    before = pixels(page)
    page.evaluate("window.lose = window.gl.getExtension('WEBGL_lose_context'); lose.loseContext()")
    page.locator(".s-note").wait_for(state="visible")
    page.evaluate("window.lose.restoreContext()")
    page.locator(".s-note").wait_for(state="hidden")
    settle(page)
    np.testing.assert_allclose(pixels(page), before, atol=1)


# ---- the linked figure ----------------------------------------------------------------------


def readout(page):
    pixel, lonlat, vector = (
        re.findall(r"[-+]?\d+\.?\d*", page.text_content(f"[data-read={key}]"))
        for key in ("pixel", "lonlat", "xyz")
    )
    return *map(int, pixel), [float(v) for v in lonlat], np.array(vector, float)


def check_readout(page):
    """The table, the state and the numpy formulas tell the same story; returns the direction."""
    row, col, height, width, lonlat, vector = readout(page)
    lon, lat = (axis[k] for axis, k in zip(pixel_centres(height, width), (col, row), strict=True))
    truth = xyz(lon, lat)
    digits = 0.0051 if width > 999 else 0.051
    assert lonlat == pytest.approx([lon, lat], abs=digits)
    np.testing.assert_allclose(vector, truth, atol=0.00051)
    state = get_view(page)
    assert (state["row"], state["col"]) == (row, col)
    assert (state["lon"], state["lat"]) == pytest.approx((lon, lat), abs=1e-9)
    np.testing.assert_allclose(state["xyz"], truth, atol=1e-12)
    return truth


@pytest.mark.browser
def test_a_click_in_the_panorama_moves_all_three(desk, compass_png):
    page = desk.open(viewer.linked(compass_png, height_px=256, width_px=512), width=1200)
    area = box(page)
    check_readout(page)
    for fx, fy in [(0.2, 0.3), (0.5, 0.5), (0.93, 0.8), (0.6, 0.07)]:
        look(page, 0, 89)  # the crosshair out of the way
        x, y = int(fx * area["width"]), int(fy * area["height"])
        under = pixels(page)[y, x] / 255 * 2 - 1
        page.mouse.click(area["x"] + x + 0.5, area["y"] + y + 0.5)
        settle(page)
        direction = check_readout(page)
        # One pixel of the counted panorama is 0.7 degrees, one level of colour 0.45 degrees.
        np.testing.assert_allclose(direction, under, atol=0.025)
        viewport = centre(pixels(page, 2)) / 255 * 2 - 1
        np.testing.assert_allclose(viewport, direction, atol=0.025)
        picked = page.evaluate(f"{API}.pick({area['x'] + x + 0.5}, {area['y'] + y + 0.5})")
        lon, lat = pixel_centres(256, 512)
        assert get_view(page)["col"] == np.abs(lon - picked["lon"]).argmin()
        assert get_view(page)["row"] == np.abs(lat - picked["lat"]).argmin()


@pytest.mark.browser
def test_sphere_click_and_turn(desk, compass_png):
    page = desk.open(viewer.linked(compass_png), width=1200)
    area = box(page, 1)
    middle = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2

    def click(dx, dy):
        look(page, 180, -89)  # behind the sphere
        colour = pixels(page, 1)[int(area["height"] / 2 + dy), int(area["width"] / 2 + dx)]
        page.mouse.click(middle[0] + dx + 0.5, middle[1] + dy + 0.5)
        settle(page)
        direction = check_readout(page)
        # Shading scales the colour: compare its direction in colour space.
        expected = direction + 1
        cosine = colour @ expected / np.linalg.norm(colour) / np.linalg.norm(expected)
        assert cosine > 0.9995
        viewport = centre(pixels(page, 2)) / 255 * 2 - 1
        np.testing.assert_allclose(viewport, direction, atol=0.025)
        return direction

    first = click(30, -20)
    click(-55, 40)
    np.testing.assert_allclose(click(30, -20), first, atol=0.02)
    # A drag turns the sphere: the surface follows the pointer.
    look(page, 180, -89)
    radius = (min(area["width"], area["height"]) / 2 - 9) / 1.46  # as viewer.js draws it
    page.mouse.move(*middle)
    before = page.evaluate(f"{API}.pick({middle[0]}, {middle[1]})")
    page.mouse.down()
    page.mouse.move(middle[0] + 15, middle[1], steps=3)
    page.mouse.move(middle[0] + 30, middle[1], steps=3)
    page.mouse.up()
    after = page.evaluate(f"{API}.pick({middle[0]}, {middle[1]})")
    assert after["lon"] - before["lon"] == pytest.approx(np.degrees(30 / radius), abs=1)
    assert after["lat"] == pytest.approx(before["lat"], abs=0.5)
    assert np.abs(click(30, -20) - first).max() > 0.1
    outside = page.evaluate(f"{API}.pick({area['x'] + 3}, {area['y'] + 3})")
    assert outside is None


@pytest.mark.browser
def test_linked_keys_step_over_pixels_and_wrap_at_the_seam(desk, compass_png):
    page = desk.open(viewer.linked(compass_png, height_px=8, width_px=16, lon=175, lat=80))
    assert get_view(page)["col"] == 15
    assert get_view(page)["row"] == 0
    page.locator("canvas").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    assert (get_view(page)["row"], get_view(page)["col"]) == (1, 0)
    page.keyboard.press("ArrowLeft")
    check_readout(page)
    assert get_view(page)["col"] == 15
    page.keyboard.press("0")
    assert (get_view(page)["row"], get_view(page)["col"]) == (0, 15)


# ---- in a page ------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390])
def test_fits_a_phone(desk, compass_png, width):
    both = viewer.view(compass_png, np.ones((8, 16)), caption="word " * 30)
    for figure in (both, viewer.linked(compass_png)):
        page = desk.open(figure, width=width, height=640, scale=2)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for control in page.locator("button, select, input").all():
            area = control.bounding_box()
            assert area["height"] >= 32
            assert area["width"] >= 32
            assert area["x"] >= 0
            assert area["x"] + area["width"] <= width
        for k in range(page.locator("canvas").count()):
            assert box(page, k)["width"] > 0.9 * width
            assert pixels(page, k).std() > 10


@pytest.mark.browser
def test_iframes_in_a_host_page(desk, compass_png):
    figures = [
        viewer.view(compass_png, caption=NASTY),
        viewer.linked(compass_png, caption=NASTY),
    ]
    frames = "".join(f._repr_html_() for f in figures)
    page = desk.blank(390, 2000)
    page.set_content(f'<!doctype html><html data-theme="dark"><body>{frames}</body></html>')
    for k in range(2):
        frame = page.frame_locator("iframe").nth(k)
        frame.locator("[data-ready=webgl]").wait_for()
        assert frame.locator(".s-caption").text_content() == NASTY
        assert frame.locator(".sal360").get_attribute("data-theme") == "dark"
    assert all(f.evaluate("window.hacked === undefined") for f in page.frames)
    # The linked figure's iframe grows until nothing of it is cut off.
    frame = page.frames[-1]
    frame.wait_for_function(
        """() => { const need = document.querySelector(".sal360").offsetHeight;
            return need > 600 && innerHeight >= need && innerHeight < need + 3; }"""
    )
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    frame.wait_for_selector("[data-theme=light]")


@pytest.mark.browser
def test_elements_that_ask_for_a_viewer_get_one(desk, compass_view):
    options = html.escape(json.dumps({**compass_view.options, "height": 200, "lon": 90}))
    page = desk.open(
        f"<!doctype html><script>{SCRIPT}</script><p>text</p><div data-sal360='{options}'></div>"
    )
    np.testing.assert_allclose(centre(pixels(page)), (xyz(90, 0) + 1) / 2 * 255, atol=3)
    assert page.locator(".sal360").bounding_box()["height"] == 200
    label = page.locator("canvas").get_attribute("aria-label")
    assert "arrow keys" in label
