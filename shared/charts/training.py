"""Curves of a training over its steps, from the rows of its `metrics.jsonl`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shared.charts.theme import PALETTE, Figure, base_layout, label_text, value_axis

MOST_POINTS = 1_000
"""Of one series that are drawn; of a longer one each stretch gives its lowest and its highest point, and a gap."""

_MARKED_POINTS = 30


class _Curve(NamedTuple):
    name: str
    title: str
    series: tuple[tuple[str, str], ...]
    """Column of the rows, and how it is called."""
    axis: Mapping[str, Any] = {}


_CURVES = (
    _Curve("loss", "Loss", (("loss", "training"), ("eval_loss", "evaluation"))),
    _Curve(
        "accuracy",
        "Pairs whose chosen response is rated higher",
        (("rewards/accuracies", "training"), ("eval_rewards/accuracies", "evaluation")),
        {"tickformat": ".0%", "range": [0, 1.02]},
    ),
    _Curve(
        "margin",
        "Reward margin: chosen minus rejected",
        (("rewards/margins", "training"), ("eval_rewards/margins", "evaluation")),
    ),
    _Curve("learning_rate", "Learning rate", (("learning_rate", "learning rate"),), {"exponentformat": "e"}),
    _Curve("gradient_norm", "Norm of the gradient, before it is clipped", (("grad_norm", "norm of the gradient"),)),
    _Curve(
        "speed",
        "Tokens per second",
        (("tokens_per_second", "tokens per second"),),
        {"tickformat": ",.3~s", "rangemode": "tozero"},
    ),
)


class TrainingCurve(NamedTuple):
    name: str
    title: str
    figure: Figure


def training_curves(rows: Sequence[Mapping[str, Any]]) -> list[TrainingCurve]:
    """A figure for each figure of a training that its rows hold, most telling first; none where there is nothing to draw.

    `rows`: `step` and the logged values in the order of logging, as `metrics.jsonl` holds them. A value that is no finite
    number (a loss that diverged, a speed that was not measured) leaves a gap.
    """
    return [
        TrainingCurve(curve.name, curve.title, figure)
        for curve in _CURVES
        if (figure := _figure(curve, rows)) is not None
    ]


def series_points(rows: Iterable[Mapping[str, Any]], column: str) -> list[tuple[int, float | None]]:
    """(step, value) of the rows that have the column, by step. None: the value was no finite number.

    A row of an earlier step than the row before it was logged after a resume or a new start: what stood there from its step on
    is taken back.
    """
    found: list[tuple[int, float | None, bool]] = []
    for row in rows:
        step = row.get("step")
        if not isinstance(step, int):
            continue
        if found and step < found[-1][0]:
            while found and found[-1][0] >= step:
                found.pop()
        value = row.get(column)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        found.append((step, float(value) if value is not None and is_number else None, column in row))
    return list({step: (step, value) for step, value, logged in found if logged}.values())


def thinned(points: Sequence[tuple[int, float | None]], most: int = MOST_POINTS) -> list[tuple[int, float | None]]:
    """Hardly more than `most` points with the same ends, extremes and a gap where there were gaps; a short list as it is."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil(3 * len(points) / most)
    kept = {0, len(points) - 1}
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        known = [(value, place) for place, (_, value) in enumerate(part, start) if value is not None]
        if known:
            kept.update((min(known)[1], max(known)[1]))
        kept.update([place for place, (_, value) in enumerate(part, start) if value is None][:1])
    return [points[place] for place in sorted(kept)]


def _figure(curve: _Curve, rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    traces = []
    for position, (column, name) in enumerate(curve.series):
        points = series_points(rows, column)
        if any(value is not None for _, value in points):
            traces.append(_trace(name, thinned(points), position))
    if not traces:
        return None
    layout = base_layout(
        260,
        showlegend=len(traces) > 1,
        xaxis=value_axis("step", tickformat=",d", rangemode="tozero"),
        yaxis=value_axis("", **curve.axis),
    )
    return {"data": traces, "layout": layout}


def _trace(name: str, points: Sequence[tuple[int, float | None]], position: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) <= _MARKED_POINTS else "lines",
        "name": label_text(name),
        "x": [step for step, _ in points],
        "y": [value for _, value in points],
        "line": {"color": PALETTE[position], "width": 2},
        "marker": {"color": PALETTE[position], "size": 5},
        "hovertemplate": f"step %{{x:,d}}: %{{y:.4~g}}<extra>{label_text(name)}</extra>",
    }
