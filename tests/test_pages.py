"""The built book in headless Chromium, with the network cut, at desktop and phone width."""

import functools
import http.server
import io
import math
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
PAGES = (
    "book/intro",
    "book/00-look-around",
    "book/01-directions",
    "book/02-area",
    "book/03-resampling",
    "book/04-projections",
    "book/05-sampling-grids",
    "book/06-equivariance",
    "book/07-spherical-convolution",
    "book/08-cube-padding",
    "book/09-which-one",
    "book/10-gaze-to-maps",
    "book/11-losses",
    "book/12-metrics",
    "book/13-unet",
    "book/14-time",
    "book/15-weak-supervision",
    "book/16-gpu-training",
    "book/17-does-it-work",
    "book/benchmarks",
    "book/datasets",
    "book/synthetic-worlds",
)
SIZES = {"desktop": (1280, 900, 1), "phone": (390, 844, 2)}
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
]


pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium):
    playwright = pytest.importorskip("playwright.sync_api")
    if not (SITE / "index.html").is_file():
        pytest.skip("the book is not built: make book")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def server():
    handler = functools.partial(Quiet, directory=str(SITE))
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{host.server_port}"
    host.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def open_page(browser):
    """Open an address at a size; give the page and the list of everything that went wrong."""
    contexts = []

    def opened(address, size):
        width, height, scale = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            has_touch=size == "phone",
        )
        contexts.append(context)
        wrong = []
        here = address.split("/book/")[0].split("/index.html")[0]

        def route(request):
            if request.request.url.startswith((here, "data:", "blob:", "about:")):
                request.continue_()
            else:
                wrong.append(f"asked the network: {request.request.url[:120]}")
                request.abort()

        context.route("**/*", route)
        page = context.new_page()
        page.set_default_timeout(180_000)  # a busy machine draws WebGL in software, slowly
        page.on("console", lambda m: m.type == "error" and wrong.append(f"console: {m.text[:200]}"))
        page.on("pageerror", lambda e: wrong.append(f"script: {str(e)[:200]}"))
        page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url[:120]}"))
        page.goto(address, wait_until="load")
        return page, wrong

    yield opened
    for context in contexts:
        context.close()


def shades(handle):
    """Standard deviation of what an element shows, in grey levels."""
    handle.scroll_into_view_if_needed()
    data = np.frombuffer(io.BytesIO(handle.screenshot()).read(), np.uint8)
    return float(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).std())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(open_page, server, name, size):
    page, wrong = open_page(f"{server}/{name}.html", size)
    plots = page.query_selector_all(".js-plotly-plot")
    if "Plotly.newPlot" in page.content():
        assert plots, "a plot was never drawn"
    for plot in plots:
        plot.scroll_into_view_if_needed()
        plot.wait_for_selector("canvas, .main-svg", state="attached")
        assert shades(plot) > 3, "a plot is blank"
    for frame in page.query_selector_all("iframe"):
        frame.scroll_into_view_if_needed()
        inside = frame.content_frame()
        inside.wait_for_selector("[data-ready]", timeout=20_000)
        assert inside.get_attribute("[data-ready]", "data-ready") == "webgl"
        assert shades(inside.query_selector("canvas")) > 3, "a viewer is blank"
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, f"{overflow} pixels wider than the screen"
    unnamed = page.evaluate("[...document.images].filter(i => !i.alt && i.width > 40).length")
    assert unnamed == 0, "pictures without an alt text"
    assert wrong == []


@pytest.mark.parametrize("size", SIZES)
def test_the_viewer_answers_a_drag(open_page, server, size):
    page, wrong = open_page(f"{server}/book/00-look-around.html", size)
    handle = page.query_selector("iframe")
    handle.scroll_into_view_if_needed()
    inside = handle.content_frame()
    inside.wait_for_selector("[data-ready]", timeout=20_000)
    view = "() => document.querySelector('[data-ready]').sal360.getView()"
    inside.evaluate("() => document.querySelector('[data-ready]').sal360.setView(20, 0, 90)")
    before = inside.evaluate(view)
    box = inside.query_selector("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 4, y, steps=5)
    page.mouse.up()
    after = inside.evaluate(view)
    turned = (after["lon"] - before["lon"] + 180) % 360 - 180
    # The scene follows the hand, so the gaze goes left by the angle of a quarter of the screen.
    assert abs(turned + math.degrees(math.atan(0.5))) < 1
    assert abs(after["lat"] - before["lat"]) < 1
    assert wrong == []


def test_the_slider_of_the_direction_figure_moves_the_arrow(open_page, server):
    page, wrong = open_page(f"{server}/book/01-directions.html", "desktop")
    plot = page.query_selector(".js-plotly-plot")
    plot.scroll_into_view_if_needed()
    plot.wait_for_selector(".slider-rail-touch-rect", state="attached")
    read = "e => e.data[4].text[0]"
    before = plot.evaluate(read)
    rail = plot.query_selector(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + 0.05 * rail["width"], rail["y"] + rail["height"] / 2)
    page.wait_for_function("([e, was]) => e.data[4].text[0] !== was", arg=[plot, before])
    assert before.startswith("+60 degrees: x +0.71, y -0.57")
    assert plot.evaluate(read).startswith("-165 degrees: x -0.21, y -0.57")
    assert wrong == []


SLIDERS = [
    "book/02-area",
    "book/03-resampling",
    "book/04-projections",
    "book/05-sampling-grids",
    "book/06-equivariance",
    "book/07-spherical-convolution",
    "book/08-cube-padding",
    "book/10-gaze-to-maps",
    "book/11-losses",
    "book/12-metrics",
    "book/13-unet",
    "book/14-time",
    "book/15-weak-supervision",
    "book/17-does-it-work",
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SLIDERS)
def test_every_slider_moves_its_figure(open_page, server, name, size):
    page, wrong = open_page(f"{server}/{name}.html", size)
    moved = 0
    for plot in page.query_selector_all(".js-plotly-plot"):
        plot.scroll_into_view_if_needed()
        plot.wait_for_selector("canvas, .main-svg", state="attached")
        rail = plot.query_selector(".slider-rail-touch-rect")
        if rail is None:
            continue
        shown = "e => e.querySelector('.slider-label').textContent + JSON.stringify(e.data[0])"
        rail.scroll_into_view_if_needed()
        before, box = plot.evaluate(shown), rail.bounding_box()
        assert box["width"] > 120, "a slider too short for a finger"
        # Away from where it stands: some open at their last step.
        late = plot.evaluate("e => { const s = e.layout.sliders[0];"
                             " return (s.active || 0) > (s.steps.length - 1) / 2 }")  # fmt: skip
        at = 0.07 if late else 0.93
        page.mouse.click(box["x"] + at * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(300)
        label = plot.query_selector(".slider-label").bounding_box()
        assert label["x"] >= 0 and label["x"] + label["width"] <= SIZES[size][0], "a label is cut"
        assert plot.evaluate(shown) != before
        moved += 1
    assert moved and wrong == []


@pytest.mark.parametrize("size", SIZES)
def test_the_menu_of_runs_shows_another_run(open_page, server, size):
    page, wrong = open_page(f"{server}/book/16-gpu-training.html", size)
    plot = next(
        p
        for p in page.query_selector_all(".js-plotly-plot")
        if p.query_selector(".updatemenu-header")
    )
    plot.scroll_into_view_if_needed()
    entries = plot.evaluate("e => e.layout.updatemenus[0].buttons.length")
    shown = "e => e.data.map(t => t.visible !== false).join()"
    before = plot.evaluate(shown)
    if entries > 1:
        plot.query_selector(".updatemenu-header").click()
        plot.query_selector_all(".updatemenu-dropdown-button")[1].click()
        page.wait_for_function(f"([e, was]) => ({shown})(e) !== was", arg=[plot, before])
    assert wrong == []


def test_pages_read_from_disk_without_a_server(open_page):
    page, wrong = open_page((SITE / "book" / "01-directions.html").as_uri(), "desktop")
    page.wait_for_selector(".js-plotly-plot .main-svg, .js-plotly-plot canvas", state="attached")
    page.wait_for_selector("mjx-container", state="attached")  # formulas, from the site itself
    assert wrong == []


def test_the_front_page_leads_to_the_book(open_page, server):
    page, wrong = open_page(f"{server}/index.html", "phone")
    page.wait_for_url("**/book/intro.html")
    assert page.query_selector("h1").inner_text().startswith("Where do people look")
    assert wrong == []


def test_pages_name_no_cdn():
    if not (SITE / "index.html").is_file():
        pytest.skip("the book is not built: make book")
    for name in PAGES:
        text = (SITE / f"{name}.html").read_text("utf-8")
        for host in ("unpkg.com", "cdn.plot.ly", "cdnjs.", "jsdelivr", "googleapis"):
            assert f'src="https://{host}' not in text and f"//{host}" not in text.split("<body")[0]
        assert "thebe" not in text
