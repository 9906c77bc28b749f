"""Figures that a training logged, thinned out for a chart."""

from collections.abc import Sequence
from typing import Any

import orjson

MOST_POINTS = 1000


def read_metrics(content: bytes) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`. Raises ValueError for anything else."""
    return [orjson.loads(line) for line in content.splitlines() if line.strip()]


def thinned(rows: Sequence[dict[str, Any]], points: int) -> list[dict[str, Any]]:
    """At most `points` of the rows (1 or more), in their order, evenly spread, with the last one and, from two on, the first.

    Rows of an evaluation are few and stand alone, so they are kept before others are, as long as they fill no more than half.
    """
    if len(rows) <= points:
        return list(rows)
    evaluations = [place for place, row in enumerate(rows) if "eval_loss" in row]
    kept = set(_spread(evaluations, points // 2))
    others = [place for place in range(len(rows)) if place not in kept]
    kept.update(_spread(others, points - len(kept)))
    return [rows[place] for place in sorted(kept)]


def _spread(places: Sequence[int], count: int) -> list[int]:
    """`count` of the places (all, if there are no more), evenly, the last one among them."""
    if len(places) <= count:
        return list(places)
    if count <= 1:
        return list(places[-1:]) if count else []
    return [places[round(number * (len(places) - 1) / (count - 1))] for number in range(count)]
