"""What the built site needs beyond jupyter-book: no CDN, and outputs that follow the code.

- notebooks are executed again when the package, the data, the lock or the real files change;
- plotly's own script is shipped once and loaded only by pages that draw with it;
- sphinx-thebe's loader, which asks a CDN even when it is off, is left out.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).resolve().parents[2]
BADGE = re.compile(r'<img alt="(?P<alt>[^"]*)" src="https://[^"]*badge[^"]*"\s*/?>')
UNWANTED = re.compile(r'<link (?:rel="preload" as="font"[^>]*|[^>]*sphinx-thebe\.css[^>]*)>\s*')
STATIC = ROOT / "_build" / "site-static"


def outputs_key() -> str:
    """Hash of everything but the notebooks that decides what a chapter shows."""
    digest = hashlib.sha256()
    files = [ROOT / "constraints.txt", ROOT / "_config.yml"]
    for folder in ("sal360", "data"):
        files += (p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc")
    for path in sorted(files):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    for name in ("SAL360_SCALE", "SAL360_OFFLINE"):
        digest.update(f"{name}={os.environ.get(name)}\0".encode())

    from sal360.datasets import download

    have = [name for name in download.registry() if (download.cache_folder() / name).is_file()]
    digest.update("\n".join(have).encode())
    return digest.hexdigest()[:16]


def use_keyed_cache(app: Sphinx, config: Config) -> None:
    """Point jupyter-cache at a folder of this key, and drop those of other keys."""
    caches = ROOT / "_build" / "jupyter-cache"
    mine = caches / outputs_key()
    for old in caches.glob("*"):
        if old != mine:
            shutil.rmtree(old, ignore_errors=True)
    mine.mkdir(parents=True, exist_ok=True)
    config.nb_execution_cache_path = str(mine)


def ship_plotly(app: Sphinx, config: Config) -> None:
    """Copy the script out of the installed package, so that both have one version."""
    import plotly

    STATIC.mkdir(parents=True, exist_ok=True)
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    shutil.copyfile(script, STATIC / "plotly.min.js")
    config.html_static_path.append(str(STATIC))


def fit_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load plotly where it is used."""
    if "Plotly.newPlot" in context.get("body", ""):
        app.add_js_file("plotly.min.js", priority=100)


def leave_network_out(app: Sphinx, error: Exception | None) -> None:
    """After the build: nothing on a page may ask the network, or fail when read from disk.

    The Colab badge becomes text (its picture lives on Colab's server, where the notebooks show
    it); font preloads, which browsers refuse on ``file:`` pages, go: the fonts load anyway.
    """
    if error:
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text("utf-8")
        new = BADGE.sub('<span class="badge-link">\\g<alt></span>', text)
        new = UNWANTED.sub("", new)
        if new != text:
            page.write_text(new, "utf-8")


def drop_thebe(app: Sphinx, config: Config) -> None:
    """Take sphinx-thebe's hands off the pages: it loads from a CDN, twice, even when off."""
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if not x.handler.__module__.startswith("sphinx_thebe")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", use_keyed_cache, priority=100)
    app.connect("config-inited", ship_plotly)
    app.connect("config-inited", drop_thebe)
    app.connect("build-finished", leave_network_out)
    app.connect("html-page-context", fit_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
