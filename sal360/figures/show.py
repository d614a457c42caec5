"""How a figure reaches the page: a still picture or a plotly plot, each with its alt text."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path
from typing import Any

INK = "#757b85"
"""Grey of text and axes: readable on a light and on a dark page."""
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, apart for every kind of colour vision."""


class Picture:
    """Matplotlib figures as images with alt texts, side by side where there is room.

    Each panel is an image of its own, so a phone stacks what a desktop sets in a row. The
    figures are closed.

    Attributes:
        panels: (alt text, PNG bytes) of each panel.
    """

    def __init__(self, panels: list[tuple[Any, str]], width: int = 300) -> None:
        from matplotlib import pyplot

        self.panels: list[tuple[str, bytes]] = []
        self._width = width
        for figure, alt in panels:
            buffer = io.BytesIO()
            figure.savefig(
                buffer, format="png", dpi=150, transparent=True, metadata={"Software": None}
            )
            pyplot.close(figure)
            self.panels.append((alt, buffer.getvalue()))

    @property
    def alt(self) -> str:
        """What the panels show, in words."""
        return "; ".join(alt for alt, _ in self.panels)

    def save(self, path: str | Path) -> list[Path]:
        """Write the panels as PNG files: ``name.png``, or ``name-1.png`` and so on.

        Returns:
            The files written.
        """
        stem = Path(path).with_suffix("")
        many = len(self.panels) > 1
        written = []
        for k, (_, png) in enumerate(self.panels, 1):
            target = stem.with_name(f"{stem.name}-{k}.png" if many else f"{stem.name}.png")
            target.write_bytes(png)
            written.append(target)
        return written

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img alt="{html.escape(alt, quote=True)}" '
            f'style="width:100%;height:auto" '
            f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            for alt, png in self.panels
        )
        columns = f"repeat(auto-fit,minmax(min(100%,{self._width}px),1fr))"
        style = f"display:grid;gap:8px;grid-template-columns:{columns}"
        return f'<figure class="sal360" style="{style}">{images}</figure>'

    def __repr__(self) -> str:
        return f"<Picture: {self.alt}>"


class Plot:
    """A plotly figure that turns, slides and answers without a kernel.

    In the book (``SAL360_BOOK=1``) it refers to the one copy of plotly that the site ships; in
    a notebook plotly's own renderer for that place shows it.
    """

    def __init__(self, figure: Any, alt: str, height: int = 420) -> None:
        figure.update_layout(
            height=height,
            margin={"l": 8, "r": 8, "t": 36, "b": 8},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": INK, "size": 13},
            colorway=list(CYCLE),
        )
        self.figure, self.alt, self._height = figure, alt, height

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if os.environ.get("SAL360_BOOK") == "1":
            display(HTML(self.html()))
        else:
            self.figure.show()

    def html(self) -> str:
        """The plot as a fragment for a page that has loaded plotly."""
        import hashlib

        content = self.figure.to_json()
        name = "plot-" + hashlib.sha256(content.encode()).hexdigest()[:12]
        body = self.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            include_mathjax=False,
            auto_play=False,
            div_id=name,
            default_height=f"{self._height}px",
            config={"responsive": True, "displayModeBar": False, "scrollZoom": False},
        )
        label = html.escape(self.alt, quote=True)
        return f'<figure class="sal360" role="img" aria-label="{label}">{body}</figure>'

    def save(self, path: str | Path) -> Path:
        """Write one HTML page that holds the plot and plotly's script, and asks no network."""
        title = html.escape(self.alt)
        script = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        body = self.figure.to_html(full_html=False, include_plotlyjs=True, include_mathjax=False)
        Path(path).write_text(f"<!doctype html>{script}<title>{title}</title>{body}", "utf-8")
        return Path(path)

    def __repr__(self) -> str:
        return f"<Plot: {self.alt}>"


def slider(figure: Any, steps: list[tuple[str, str]], active: int, top: int = 24) -> None:
    """Put a slider over the frames of a figure: its value above it, no labels along it.

    Args:
        steps: (what is written, name of the frame) for each position. active: the first one.
        top: distance to what stands above, pixels.
    """
    now = {
        "mode": "immediate",
        "frame": {"duration": 0, "redraw": True},
        "transition": {"duration": 0},
    }
    figure.update_layout(
        sliders=[
            {
                "active": active,
                "steps": [
                    {"label": label, "method": "animate", "args": [[name], now]}
                    for label, name in steps
                ],
                "pad": {"t": top, "b": 4, "l": 12, "r": 12},
                "currentvalue": {"prefix": "", "font": {"color": INK}},
                "bgcolor": "rgba(128,128,128,0.35)",
                "activebgcolor": CYCLE[0],
                "bordercolor": INK,
                "ticklen": 0,
                "minorticklen": 0,
                "tickcolor": "rgba(0,0,0,0)",
                "font": {"color": "rgba(0,0,0,0)"},
            }
        ]
    )


def degree_axes(lon: str = "x", lat: str = "y") -> dict[str, Any]:
    """Plotly layout of a panorama's axes: compass degrees, drawn to scale on any width.

    Args:
        lon, lat: names of the two axes, such as ``"x2"`` and ``"y2"``.
    """
    common = {
        "zeroline": False,
        "color": INK,
        "gridcolor": "rgba(128,128,128,0.25)",
        "constrain": "domain",
        "tickfont": {"size": 12},
    }
    x, y = (name[0] + "axis" + name[1:] for name in (lon, lat))
    return {
        x: {
            **common,
            "range": [-180, 180],
            "tickvals": [-180, -90, 0, 90, 180],
            "ticktext": ["", "90° W", "0°", "90° E", ""],
            "anchor": lat,
        },
        y: {
            **common,
            "range": [-90, 90],
            "tickvals": [-90, -45, 0, 45, 90],
            "ticktext": ["", "45° S", "0°", "45° N", "90° N"],
            "anchor": lon,
            "scaleanchor": lon,
        },
    }
