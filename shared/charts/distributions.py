"""Distributions: lengths of texts, and ROUGE-L between texts that should differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.charts.theme import PALETTE, Figure, base_layout, name_text, value_axis

_TICKS = [step * 10**power for power in range(7) for step in (1, 2, 5)]


def length_histograms(series: Sequence[Mapping[str, Any]], unit: str = "characters") -> Figure:
    """Histograms over one logarithmic axis of lengths, drawn as steps.

    `series`: `name`, `edges` (n + 1 lengths in `unit`, rising) and `counts` (n). Heights are the share of each series.
    """
    layout = base_layout(
        340,
        xaxis=value_axis(unit, type="log", tickvals=_TICKS, ticktext=[f"{tick:,}" for tick in _TICKS]),
        yaxis=value_axis("share", tickformat=".0%", rangemode="tozero"),
    )
    return {"data": [_steps(item, position) for position, item in enumerate(series)], "layout": layout}


def similarity_distributions(series: Sequence[Mapping[str, Any]]) -> Figure:
    """ROUGE-L F-measures of several kinds of pair over one axis from 0 to 1; `series` as for `length_histograms`."""
    layout = base_layout(
        340,
        xaxis=value_axis("ROUGE-L (0: nothing in common, 1: the same)", range=[0, 1]),
        yaxis=value_axis("share of pairs", tickformat=".0%", rangemode="tozero"),
    )
    return {"data": [_steps(item, position) for position, item in enumerate(series)], "layout": layout}


def _steps(item: Mapping[str, Any], position: int) -> dict[str, Any]:
    """A histogram as one outline: steps that start and end at zero."""
    edges, counts = list(item["edges"]), list(item["counts"])
    total = sum(counts) or 1
    shares = [count / total for count in counts]
    colour = PALETTE[position % len(PALETTE)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name_text(item["name"], 40),
        "x": [edges[0], *edges] if edges else [],
        "y": [0.0, *shares, 0.0] if edges else [],
        "line": {"shape": "hv", "color": colour, "width": 2},
        "fill": "tozeroy",
        "fillcolor": _transparent(colour),
        "hovertemplate": "from %{x:,.3~r}: %{y:.1%}<extra>%{fullData.name}</extra>",
    }


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.08)"
