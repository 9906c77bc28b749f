"""Balance: whether the preferences spread over the subdimensions, and over both poles of each where poles are known."""

from collections import Counter

import msgspec
import numpy as np

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, finding, not_applicable, share_finding
from shared.statistics.intervals import Numbers, bootstrap_interval, cluster_codes

SPREAD = Threshold(warn=0.8, bad=0.6, worse="below")
MAJORITY = Threshold(warn=0.65, bad=0.8)
FEWEST_OF_A_SUBDIMENSION = 30
"""Of fewer preferences one pole has a clear majority by chance."""


def measure(data: AuditData) -> list[Finding]:
    """Normalised entropy over what was used (0: one category, 1: all alike), and the share of the more frequent pole."""
    used = [
        (row.cluster, (entry.dimension, entry.subdimension), entry.pole)
        for row in data.rows
        for entry in row.entries or ()
    ]
    if not used:
        why = "this layout has no preference sets"
        return [
            not_applicable("coverage_entropy", "Spread over subdimensions", why),
            not_applicable("majority_pole", "Share of the more frequent pole", why),
        ]
    return [_entropy(used), _majority(used)]


def _entropy(used: list[tuple[str, tuple[str, str], str | None]]) -> Finding:
    categories: dict[tuple[tuple[str, str], str | None], int] = {}
    columns = np.array([categories.setdefault((place, pole), len(categories)) for _, place, pole in used])
    codes, count = cluster_codes([cluster for cluster, _, _ in used])

    def spread(weights: Numbers) -> float:
        filled = np.bincount(columns, weights[codes], minlength=len(categories))
        shares = filled[filled > 0] / filled.sum()
        return float(-(shares * np.log(shares)).sum() / np.log(len(categories))) if len(categories) > 1 else 0.0

    interval = bootstrap_interval(spread, count, reflected=True)
    if interval.high is not None and interval.high > 1:
        interval = msgspec.structs.replace(interval, high=1.0)
    totals = Counter(f"{dimension} / {name}" for _, (dimension, name), _ in used)
    poles = any(pole is not None for _, _, pole in used)
    return finding(
        "coverage_entropy",
        "Spread over subdimensions",
        interval,
        len(used),
        "preferences",
        SPREAD,
        note=f"entropy over the {len(categories):,} categories used{', poles told apart' if poles else ''}; 1 is even",
        examples=[f"{name}: {number:,}" for name, number in totals.most_common(5)],
    )


def _majority(used: list[tuple[str, tuple[str, str], str | None]]) -> Finding:
    title = "Share of the more frequent pole"
    counts: dict[tuple[str, str], Counter[str]] = {}
    for _, place, pole in used:
        if pole is not None:
            counts.setdefault(place, Counter())[pole] += 1
    judged = {place: found for place, found in counts.items() if found.total() >= FEWEST_OF_A_SUBDIMENSION}
    if not judged:
        why = f"no poles, or no subdimension with {FEWEST_OF_A_SUBDIMENSION} preferences"
        return not_applicable("majority_pole", title, why)
    first = {place: found.most_common(1)[0][0] for place, found in judged.items()}
    observed = [(cluster, pole == first[place]) for cluster, place, pole in used if place in judged]
    uneven = sorted(judged, key=lambda place: -judged[place][first[place]] / judged[place].total())
    examples = [
        f"{place[0]} / {place[1]}: {judged[place][first[place]] / judged[place].total():.0%} {first[place]}"
        for place in uneven
    ]
    return share_finding(
        "majority_pole", title, observed, "preferences", MAJORITY, note="1/2 is even", examples=examples
    )
