"""Histograms and quantiles of counted values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def length_distribution(counts: Mapping[int, int], bins: int = 24) -> dict[str, Any]:
    """Lengths (characters -> how many texts) as logarithmic bins with exact quantiles.

    Returns `count`, `minimum`, `maximum`, `mean`, `quantiles` (`p5` … `p95`), `edges` (n + 1) and `counts` (n).
    """
    if not counts:
        return {"count": 0, "minimum": 0, "maximum": 0, "mean": 0.0, "quantiles": {}, "edges": [], "counts": []}
    values = sorted(counts)
    low, high = max(values[0], 1), max(values[-1], 1) + 1
    ratio = math.log(high / low) / bins
    edges = sorted({round(low * math.exp(ratio * step)) for step in range(bins + 1)})
    edges[0], edges[-1] = low, high
    filled = [0] * (len(edges) - 1)
    position = 0
    for value in values:
        while position < len(filled) - 1 and value >= edges[position + 1]:
            position += 1
        filled[position] += counts[value]
    total = sum(counts.values())
    return {
        "count": total,
        "minimum": values[0],
        "maximum": values[-1],
        "mean": sum(value * count for value, count in counts.items()) / total,
        "quantiles": _quantiles([(value, counts[value]) for value in values], total),
        "edges": edges,
        "counts": filled,
    }


def share_distribution(values: Sequence[float], bins: int = 20) -> dict[str, Any]:
    """Values from 0 to 1 in equal bins; the same fields as `length_distribution`."""
    filled = [0] * bins
    for value in values:
        filled[min(int(value * bins), bins - 1)] += 1
    ordered = sorted(values)
    total = len(ordered)
    return {
        "count": total,
        "minimum": ordered[0] if ordered else 0.0,
        "maximum": ordered[-1] if ordered else 0.0,
        "mean": math.fsum(ordered) / total if total else 0.0,
        "quantiles": _quantiles([(value, 1) for value in ordered], total),
        "edges": [step / bins for step in range(bins + 1)] if total else [],
        "counts": filled if total else [],
    }


def normalised_entropy(counts: Sequence[int]) -> float:
    """Shannon entropy of the counts over that of equal counts: 1 where all are equal, 0 where one takes all."""
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return 0.0
    entropy = -math.fsum(count / total * math.log(count / total) for count in counts if count)
    return entropy / math.log(len(counts))


def _quantiles(ordered: Sequence[tuple[float, int]], total: int) -> dict[str, float]:
    """Nearest-rank quantiles of (value, how many), values rising."""
    result: dict[str, float] = {}
    seen, position = 0, -1
    for share in QUANTILES:
        rank = max(math.ceil(share * total), 1)
        while seen < rank and position + 1 < len(ordered):
            position += 1
            seen += ordered[position][1]
        if ordered:
            result[f"p{round(share * 100)}"] = ordered[position][0]
    return result
