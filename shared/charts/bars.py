"""Bars: what each stage let through, ranked counts, and the coverage of the taxonomy by pole."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.charts.theme import (
    BAD,
    GOOD,
    PALETTE,
    Figure,
    base_layout,
    category_axis,
    label_text,
    name_text,
    value_axis,
)


def flow_bars(stages: Sequence[Mapping[str, Any]], unit: str) -> Figure:
    """One bar per stage: what went on and what was rejected.

    `stages`: `stage`, `out`, `rejected` in the order of the plan; `unit`: what is counted, such as `facets`.
    """
    names = [name_text(stage["stage"], 24) for stage in stages]
    traces = [
        _bar(names, [stage["out"] for stage in stages], "went on", GOOD, unit),
        _bar(names, [stage["rejected"] for stage in stages], "rejected", BAD, unit),
    ]
    layout = base_layout(
        _height(len(names)), barmode="stack", bargap=0.35, xaxis=value_axis(unit), yaxis=category_axis()
    )
    return {"data": traces, "layout": layout}


def ranked_bars(counts: Iterable[Mapping[str, Any]], unit: str, *, top: int = 15, colour: str = PALETTE[0]) -> Figure:
    """The `top` largest counts as bars, the rest as one. `counts`: `name`, `count`."""
    ordered = sorted(((item["name"], int(item["count"])) for item in counts), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:top], ordered[top:]
    if rest:
        shown.append((f"other ({len(rest):,})", sum(count for _, count in rest)))
    names = [name_text(name, 40) for name, _ in shown]
    trace = _bar(names, [count for _, count in shown], unit, colour, unit)
    layout = base_layout(
        _height(len(names)), bargap=0.35, showlegend=False, xaxis=value_axis(unit), yaxis=category_axis()
    )
    return {"data": [trace], "layout": layout}


def coverage_bars(records: Iterable[Mapping[str, Any]]) -> Figure:
    """Share of each pole in its subdimension, one bar per subdimension, poles named inside.

    `records`: `dimension`, `subdimension`, `pole`, `count`. A dashed line marks one half.
    """
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for record in records:
        groups.setdefault((record["dimension"], record["subdimension"]), []).append(
            (record["pole"], int(record["count"]))
        )
    dimensions = list(dict.fromkeys(dimension for dimension, _ in groups))
    rows = [[name_text(dimension, 26) for dimension, _ in groups], [name_text(name, 30) for _, name in groups]]
    traces = []
    for position in range(max((len(poles) for poles in groups.values()), default=0)):
        shares, texts, hovers, colours = [], [], [], []
        for (dimension, _), poles in groups.items():
            total = sum(count for _, count in poles)
            pole, count = poles[position] if position < len(poles) else ("", 0)
            shares.append(count / total if total else 0.0)
            texts.append(name_text(pole, 24) if count else "")
            hovers.append(f"{name_text(pole)}: {count:,} of {total:,}")
            colours.append(_shade(PALETTE[dimensions.index(dimension) % len(PALETTE)], position))
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "x": shares,
                "y": rows,
                "text": texts,
                "customdata": hovers,
                "textposition": "inside",
                "insidetextanchor": "middle",
                "insidetextfont": {"size": 11},
                "marker": {"color": colours, "line": {"color": "#ffffff", "width": 1}},
                "hovertemplate": "%{customdata} (%{x:.0%})<extra></extra>",
                "showlegend": False,
            }
        )
    half = {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": 0.5,
        "x1": 0.5,
        "y0": 0,
        "y1": 1,
        "line": {"color": "#1f2933", "width": 1, "dash": "dot"},
    }
    layout = base_layout(
        90 + 27 * max(len(groups), 1),
        barmode="stack",
        bargap=0.25,
        shapes=[half],
        xaxis=value_axis(
            "share of the subdimension's preferences",
            tickformat=".0%",
            dtick=0.5,
            tickangle=0,
            ticklabeloverflow="allow",
            range=[0, 1.001],
        ),
        yaxis={**category_axis(), "type": "multicategory", "dividercolor": "#c3cbd4"},
    )
    return {"data": traces, "layout": layout}


def _bar(names: list[str], values: list[int], name: str, colour: str, unit: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": names,
        "x": values,
        "text": [f"{value:,}" if value else "" for value in values],
        "textposition": "auto",
        "textangle": 0,
        "constraintext": "none",
        "marker": {"color": colour},
        "hovertemplate": f"%{{y}}: %{{x:,}} {label_text(unit)}<extra>{label_text(name)}</extra>",
    }


def _height(bars: int) -> int:
    return 96 + 34 * max(bars, 1)


def _shade(colour: str, position: int) -> str:
    """Poles of one subdimension: the dimension's colour, paler with each position."""
    share = min(0.55 * position, 0.85)
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)
