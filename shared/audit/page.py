"""The audit as one HTML file that needs no network and runs no script."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment

from shared.audit.findings import VERDICT_WORDS, Finding, Verdict, why_no_interval
from shared.audit.measures.pair_orders import BOTH_ORDERS
from shared.audit.run import Audit, Comparison
from shared.pages import page_environment, report_style
from shared.statistics.intervals import Interval

BAR_WIDTH = 160
"""Pixels of the drawing of an interval; it spans 0 to 1, or the values at hand where they go beyond."""


def render_audit(audits: Sequence[Audit], comparison: Comparison | None = None) -> str:
    """The page of one audit, or of two side by side with their differences. Every text of the data is escaped."""
    others: Mapping[str, Finding] = {found.name: found for found in audits[1].findings()} if len(audits) > 1 else {}
    verdicts: tuple[Verdict, ...] = ("bad", "warn", "ok", "not_applicable")
    return (
        _environment()
        .get_template("audit.html.j2")
        .render(
            audits=audits,
            others=others,
            differences=comparison.differences if comparison else {},
            verdicts=verdicts,
            verdict_words=VERDICT_WORDS,
            style=report_style(),
        )
    )


def figure_text(value: float | None, *, signed: bool = False) -> str:
    """A figure with three decimals, a dash for None."""
    if value is None:
        return "–"
    rounded = round(value, 3) + 0.0  # no -0.000
    return f"{rounded:+.3f}" if signed else f"{rounded:.3f}"


def length_text(value: float | None) -> str:
    """A mean length with one decimal, a dash for None."""
    return "–" if value is None else f"{value:.1f}"


def interval_text(interval: Interval | None, figure: Callable[[float | None], str] = figure_text) -> str:
    """`0.120 to 0.310`, or why there is none: also where a figure is exact by construction."""
    if interval is None:
        return "–"
    if interval.method == BOTH_ORDERS:
        return "exact: both orders"
    if interval.low is None or interval.high is None:
        return why_no_interval(interval.method)
    return f"{figure(interval.low)} to {figure(interval.high)}"


def differs(interval: Interval) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return interval.low is not None and interval.high is not None and not interval.low <= 0 <= interval.high


def bar(interval: Interval | None) -> dict[str, float] | None:
    """Positions in pixels of `low`, `high`, `estimate`, and `zero` of a drawing BAR_WIDTH wide; None without a figure."""
    if interval is None or interval.estimate is None:
        return None
    low = interval.estimate if interval.low is None else interval.low
    high = interval.estimate if interval.high is None else interval.high
    start, stop = min(0.0, low), max(1.0, high)
    scale = BAR_WIDTH / (stop - start)
    places = {"low": low, "high": high, "estimate": interval.estimate, "zero": 0.0}
    return {name: round((value - start) * scale, 1) for name, value in places.items()}


@cache
def _environment() -> Environment:
    environment = page_environment("shared.audit")
    filters: dict[str, Any] = {
        "count": lambda number: f"{number:,}",
        "figure": figure_text,
        "interval": interval_text,
        "mean_length": length_text,
        "length_interval": lambda interval: interval_text(interval, length_text),
        "differs": differs,
        "bar": bar,
        "words": lambda name: str(name).replace("_", " "),
    }
    environment.filters.update(filters)
    return environment
