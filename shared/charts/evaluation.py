"""Figures of evaluations: values with their intervals, a radar of dimensions, and who wins against whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.charts.theme import GRID, INK, PALETTE, Figure, base_layout, category_axis, name_text, value_axis


def interval_dots(
    series: Sequence[Mapping[str, Any]], title: str, *, scale: tuple[float, float] | None = None, percent: bool = False
) -> Figure:
    """One dot with its interval per name and series, the names below each other.

    `series`: `name` and `values`, a list of `{name, estimate, low, high}` (low and high may be None); `scale`: ends of the axis.
    """
    names = list(dict.fromkeys(name_text(str(one["name"]), 34) for line in series for one in line["values"]))
    traces = []
    shift = 0.6 / max(len(series), 1)
    for number, line in enumerate(series):
        known = [one for one in line["values"] if one["estimate"] is not None]
        places = [
            names.index(name_text(str(one["name"]), 34)) + (number - (len(series) - 1) / 2) * shift for one in known
        ]
        form = ".1%" if percent else ".2f"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name_text(str(line["name"]), 34),
                "x": [one["estimate"] for one in known],
                "y": places,
                "marker": {"color": PALETTE[number % len(PALETTE)], "size": 9},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [_beyond(one, "high") for one in known],
                    "arrayminus": [_beyond(one, "low") for one in known],
                    "thickness": 1.5,
                    "width": 4,
                },
                "customdata": [[name_text(str(one["name"])), _interval(one, percent)] for one in known],
                "hovertemplate": f"%{{customdata[0]}}: %{{x:{form}}} %{{customdata[1]}}<extra>%{{fullData.name}}</extra>",
            }
        )
    axis = value_axis(title, **({"range": list(scale)} if scale else {}), **({"tickformat": ".0%"} if percent else {}))
    layout = base_layout(
        # A legend of several lines takes its height from the figure on a narrow page.
        110 + 19 * len(series) + max(34, 16 * len(series) + 14) * max(len(names), 1),
        showlegend=len(series) > 1,
        xaxis=axis,
        yaxis={
            **category_axis(),
            "type": "linear",
            "autorange": False,
            "range": [len(names) - 0.4, -0.6],
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "zeroline": False,
        },
    )
    return {"data": traces, "layout": layout}


def dimension_radar(series: Sequence[Mapping[str, Any]], scale: tuple[float, float]) -> Figure:
    """Dimensions as the axes of a radar, one outline per series; `series` as in `interval_dots`, intervals are left out."""
    traces = []
    for number, line in enumerate(series):
        known = [one for one in line["values"] if one["estimate"] is not None]
        if not known:
            continue
        around = [*known, known[0]]
        traces.append(
            {
                "type": "scatterpolar",
                "name": name_text(str(line["name"]), 34),
                "r": [one["estimate"] for one in around],
                "theta": [name_text(str(one["name"]), 26).replace(" ", "<br>") for one in around],
                "mode": "lines+markers",
                "line": {"color": PALETTE[number % len(PALETTE)], "width": 2},
                "hovertemplate": "%{theta}: %{r:.2f}<extra>%{fullData.name}</extra>",
            }
        )
    layout = base_layout(
        350 + 22 * len(traces),
        margin={"l": 110, "r": 110, "t": 32, "b": 20},
        # Below the outline, where no name of a dimension stands.
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.14, "yanchor": "top"},
        polar={
            "bgcolor": "rgba(0,0,0,0)",
            "radialaxis": {"range": list(scale), "gridcolor": GRID, "angle": 90, "tickangle": 90},
            "angularaxis": {"gridcolor": GRID, "color": INK, "tickfont": {"size": 11}},
        },
    )
    return {"data": traces, "layout": layout}


def win_matrix(names: Sequence[str], rates: Mapping[tuple[str, str], float]) -> Figure:
    """Win rates of the models in the rows against those in the columns; pairs that never met stay empty."""
    table = [[rates.get((row, column)) for column in names] for row in names]
    labels = [name_text(name, 26) for name in names]
    trace = {
        "type": "heatmap",
        "z": table,
        "x": labels,
        "y": labels,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "#c8553d"], [0.5, "#f2f4f7"], [1, "#3b6fb6"]],
        "text": [["" if value is None else f"{value:.0%}" for value in row] for row in table],
        "texttemplate": "%{text}",
        "hovertemplate": "%{y} against %{x}: %{z:.1%}<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
    }
    layout = base_layout(
        140 + 44 * max(len(names), 1),
        xaxis={**category_axis(), "autorange": True, "side": "bottom"},
        yaxis=category_axis(),
    )
    return {"data": [trace], "layout": layout}


def best_of_lines(series: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean highest reward by the number of answers it was chosen from; `series`: `name`, `values` of `{samples, estimate, low,
    high}`."""
    traces = []
    for number, line in enumerate(series):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name_text(str(line["name"]), 34),
                "x": [one["samples"] for one in line["values"]],
                "y": [one["estimate"] for one in line["values"]],
                "line": {"color": PALETTE[number % len(PALETTE)], "width": 2},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [_beyond(one, "high") for one in line["values"]],
                    "arrayminus": [_beyond(one, "low") for one in line["values"]],
                    "thickness": 1.2,
                },
                "hovertemplate": "best of %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
            }
        )
    layout = base_layout(
        300,
        xaxis=value_axis("answers to choose from", type="log", dtick=0.30103),
        yaxis=value_axis("mean highest reward"),
    )
    return {"data": traces, "layout": layout}


def _beyond(one: Mapping[str, Any], end: str) -> float:
    return 0.0 if one[end] is None else abs(one[end] - one["estimate"])


def _interval(one: Mapping[str, Any], percent: bool) -> str:
    if one["low"] is None or one["high"] is None:
        return "(no interval)"
    return f"({one['low']:.1%} to {one['high']:.1%})" if percent else f"({one['low']:.2f} to {one['high']:.2f})"
