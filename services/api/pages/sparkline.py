"""A small curve as the path of an SVG, so that a live page needs no script to draw it and none to keep it."""

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 600, 120
"""Units of the drawing; the page stretches it to the room there is."""

_MARGIN = 6
Point = tuple[int, float | None]


def sparkline(series: Sequence[Sequence[Point]], last_step: int) -> dict[str, Any] | None:
    """`paths` (SVG path data, one per series), `low` and `high` (values at the lower and upper edge).

    The axis goes from step 0 to `last_step`, so the curve grows to the right as steps are done. None where no series has a value.
    """
    values = [value for points in series for _, value in points if value is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    last = max(last_step, *(step for points in series for step, _ in points), 1)
    return {"paths": [_path(points, low, high, last) for points in series], "low": low, "high": high}


def _path(points: Sequence[Point], low: float, high: float, last: int) -> str:
    """Lines between neighbours; a gap begins a new one. A point alone is a line of no length, which a round end makes a dot."""
    parts: list[str] = []
    drawing = False
    for place, (step, value) in enumerate(points):
        if value is None:
            drawing = False
            continue
        across = _MARGIN + step / last * (WIDTH - 2 * _MARGIN)
        share = (value - low) / (high - low) if high > low else 0.5
        down = HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN)
        parts.append(f"{'L' if drawing else 'M'}{across:.1f} {down:.1f}")
        alone = not drawing and (place + 1 == len(points) or points[place + 1][1] is None)
        if alone:
            parts.append("h0")
        drawing = True
    return "".join(parts)
