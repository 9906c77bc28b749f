"""Balance: whether the preferences spread over the subdimensions, and over both poles of each where poles are known."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from scipy import sparse

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, finding, not_applicable
from shared.statistics.intervals import Interval, Numbers, bootstrap_interval, cluster_codes, cluster_mean_interval

SPREAD = Threshold(warn=0.8, bad=0.6, worse="below")
MAJORITY = Threshold(warn=0.65, bad=0.8)
NEARLY_EVEN = 0.55
"""Simulated, the interval holds shares from here on; that of even poles it nearly always leaves out, however many there are."""
PICKED = "a maximum is picked: even poles give somewhat more than 1/2"
Place = TypeVar("Place", bound=Hashable)

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


def spread_interval(categories: Sequence[Hashable], clusters: Sequence[Hashable]) -> Interval:
    """Entropy over the categories used, by that of equal counts, with its interval; one category has 0."""
    known: dict[Hashable, int] = {}
    columns = np.array([known.setdefault(category, len(known)) for category in categories])
    codes, count = cluster_codes(clusters)
    # Categories by clusters; the file decides how many of either there are, so zeros are not stored.
    counts = sparse.csr_array((np.ones(len(codes)), (columns, codes)), shape=(len(known), count))

    def spread(weights: Numbers) -> float:
        filled = counts @ weights
        shares = filled[filled > 0] / filled.sum()
        return float(-(shares * np.log(shares)).sum() / np.log(len(known))) if len(known) > 1 else 0.0

    interval = bootstrap_interval(spread, count, reflected=True)
    if interval.high is not None and interval.high > 1:
        return msgspec.structs.replace(interval, high=1.0)
    return interval


def _entropy(used: list[tuple[str, tuple[str, str], str | None]]) -> Finding:
    categories = [(place, pole) for _, place, pole in used]
    interval = spread_interval(categories, [cluster for cluster, _, _ in used])
    totals = Counter(f"{dimension} / {name}" for _, (dimension, name), _ in used)
    poles = any(pole is not None for _, _, pole in used)
    return finding(
        "coverage_entropy",
        "Spread over subdimensions",
        interval,
        len(used),
        "preferences",
        SPREAD,
        note=f"entropy over the {len(set(categories)):,} categories used{', poles told apart' if poles else ''}; 1 is even",
        examples=[f"{name}: {number:,}" for name, number in totals.most_common(5)],
    )


def majority_interval(clusters: Sequence[Hashable], places: Sequence[Place], poles: Sequence[str]) -> Interval | None:
    """The share of preferences at the pole that is the more frequent one of their subdimension, over the subdimensions with
    30 preferences; None where there is no such. Where poles are even a maximum is picked by chance, so that the figure lies
    somewhat above 1/2, the more the fewer preferences a subdimension has."""
    counts = _pole_counts(places, poles)
    if not counts:
        return None
    first = {place: found.most_common(1)[0][0] for place, found in counts.items()}
    observed = [
        (cluster, float(pole == first[place]))
        for cluster, place, pole in zip(clusters, places, poles, strict=True)
        if place in first
    ]
    return cluster_mean_interval([flag for _, flag in observed], [cluster for cluster, _ in observed])


def _pole_counts(places: Sequence[Place], poles: Sequence[str]) -> dict[Place, Counter[str]]:
    """How often each pole was taken, of each subdimension with enough preferences."""
    counts: dict[Place, Counter[str]] = {}
    for place, pole in zip(places, poles, strict=True):
        counts.setdefault(place, Counter())[pole] += 1
    return {place: found for place, found in counts.items() if found.total() >= FEWEST_OF_A_SUBDIMENSION}


def _majority(used: list[tuple[str, tuple[str, str], str | None]]) -> Finding:
    title = "Share of the more frequent pole"
    known = [(cluster, place, pole) for cluster, place, pole in used if pole is not None]
    places, poles = [place for _, place, _ in known], [pole for _, _, pole in known]
    interval = majority_interval([cluster for cluster, _, _ in known], places, poles)
    if interval is None:
        why = f"no poles, or no subdimension with {FEWEST_OF_A_SUBDIMENSION} preferences"
        return not_applicable("majority_pole", title, why)
    shares = {
        f"{place[0]} / {place[1]}": (
            found.most_common(1)[0][1] / found.total(),
            found.most_common(1)[0][0],
            found.total(),
        )
        for place, found in _pole_counts(places, poles).items()
    }
    uneven = sorted(shares.items(), key=lambda item: -item[1][0])
    return finding(
        "majority_pole",
        title,
        interval,
        sum(total for _, _, total in shares.values()),
        "preferences",
        MAJORITY,
        note="1/2 is even",
        interval_note=PICKED if (interval.estimate or 1.0) < NEARLY_EVEN else "",
        examples=[f"{name}: {share:.0%} {pole}" for name, (share, pole, _) in uneven],
    )
