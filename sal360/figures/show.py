"""How a figure reaches the page: a still picture or a plotly plot, each with its alt text."""

from __future__ import annotations

import base64
import html
import io
import os
from typing import Any

INK = "#757b85"
"""Grey of text and axes: readable on a light and on a dark page."""
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, apart for every kind of colour vision."""


class Picture:
    """A matplotlib figure as an image with an alt text; the figure is closed.

    Attributes:
        alt: what the picture shows, for those who cannot see it.
    """

    def __init__(self, figure: Any, alt: str, ink: bool = False) -> None:
        from matplotlib import pyplot

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, transparent=True, metadata={"Software": None})
        pyplot.close(figure)
        self.alt, self.png, self._ink = alt, buffer.getvalue(), ink

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        kind = ' class="ink"' if self._ink else ""
        return (
            f'<figure class="sal360"><img{kind} alt="{html.escape(self.alt, quote=True)}" '
            f'style="max-width:100%;height:auto" src="data:image/png;base64,{data}"></figure>'
        )

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

    def __repr__(self) -> str:
        return f"<Plot: {self.alt}>"
