"""Colours, fonts and the layout that all figures share."""

from html import escape
from typing import Any, TypeAlias

Figure: TypeAlias = dict[str, Any]
"""A Plotly figure: `data` (list of traces) and `layout`."""

INK = "#1f2933"
MUTED = "#5f6c7b"
GRID = "#e4e7eb"
GOOD = "#2a7f78"
BAD = "#c8553d"
OTHER = "#e6eaee"

PALETTE = ("#3b6fb6", "#d9822b", "#2a9d8f", "#b5508f", "#7a6ff0", "#8a9a1f", "#c8553d", "#4a7c9b")
"""Told apart with the common colour vision deficiencies; in the order in which categories come."""

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif'


def label_text(text: str, limit: int = 60) -> str:
    """Text for a label: one line, cut at `limit` characters, and without effect as Plotly markup (tags, links)."""
    line = " ".join(text.split())
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    return escape(line, quote=False)


def name_text(name: str, limit: int = 60) -> str:
    """`label_text` of an identifier: underscores read as spaces."""
    return label_text(name.replace("_", " "), limit)


def base_layout(height: int, **more: Any) -> dict[str, Any]:
    """Layout of a figure `height` pixels high; the page around it gives the title."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 12, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": INK},
        "colorway": list(PALETTE),
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": GRID, "font": {"family": FONT, "size": 13, "color": INK}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.0,
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        **more,
    }


def value_axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"color": MUTED, "size": 12}},
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,
        **more,
    }


def category_axis(**more: Any) -> dict[str, Any]:
    """An axis of names, the first one on top."""
    return {
        "type": "category",
        "autorange": "reversed",
        "automargin": True,
        "showgrid": False,
        "ticks": "",
        "ticklabelstandoff": 8,
        "fixedrange": True,
        **more,
    }
