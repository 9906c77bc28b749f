"""How far people (or judges) agree beyond chance: Cohen's, Fleiss' and Krippendorff's coefficients, with intervals over items.

1 is perfect agreement, 0 what chance gives. None stands where a coefficient does not exist: nobody rated the same items, or all
ratings are one and the same, so that chance agrees perfectly too.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from scipy import sparse

from shared.statistics.bootstrap import ROUNDS, cluster_draws, percentile_interval
from shared.statistics.intervals import LEVEL, SEED, Interval, Numbers, require_level

Ratings = Sequence[Sequence[Hashable | None]]
"""Items x raters; None where a rater gave none. All items have the same number of raters."""
Weights = Literal["linear", "quadratic"] | None
Metric = Literal["nominal", "ordinal", "interval"]


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable], weights: Weights = None) -> float | None:
    """Cohen's kappa (1960) of two raters of the same items, weighted (Cohen 1968) by how far apart two categories stand.

    Weighted kappa takes the categories in their sorted order. Raises ValueError for lists of different length, and for weights
    on categories that have no order.
    """
    return _estimate(_cohen(first, second, weights))


def cohen_kappa_interval(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    weights: Weights = None,
    *,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """Cohen's kappa with its interval by bootstrap over items."""
    return _interval(_cohen(first, second, weights), rounds, level, seed)


def fleiss_kappa(ratings: Ratings) -> float | None:
    """Fleiss' kappa (1971) of any number of raters, of the items that all of them rated. Raises ValueError for items with
    different numbers of raters."""
    return _estimate(_fleiss(ratings))


def fleiss_kappa_interval(
    ratings: Ratings, *, rounds: int = ROUNDS, level: float = LEVEL, seed: int = SEED
) -> Interval:
    """Fleiss' kappa with its interval by bootstrap over items."""
    return _interval(_fleiss(ratings), rounds, level, seed)


def krippendorff_alpha(ratings: Ratings, metric: Metric = "nominal") -> float | None:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability") of any number of raters; ratings may be missing.

    `ordinal` and `interval` take numbers. Raises ValueError for items with different numbers of raters, and for ratings that
    are no numbers where numbers are needed.
    """
    return _estimate(_krippendorff(ratings, metric))


def krippendorff_alpha_interval(
    ratings: Ratings,
    metric: Metric = "nominal",
    *,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """Krippendorff's alpha with its interval by bootstrap over items."""
    return _interval(_krippendorff(ratings, metric), rounds, level, seed)


def majority(labels: Sequence[Hashable | None]) -> Hashable | None:
    """The label that more raters gave than any other; None where two share the first place or nobody gave any."""
    counts: dict[Hashable, int] = {}
    for label in labels:
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    ranked = sorted(counts.values(), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0] == ranked[1]):
        return None
    return max(counts, key=lambda label: counts[label])


class _Coefficient(msgspec.Struct, frozen=True):
    """What each item adds (items x features), and the coefficient of such sums: rounds x features in, one number a round out, not
    a number where there is none. A round of the bootstrap is then one row of a product of matrices."""

    of_items: sparse.csr_matrix
    of_sums: Callable[[Numbers], Numbers]


def _cohen(first: Sequence[Hashable], second: Sequence[Hashable], weights: Weights) -> _Coefficient:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} ratings: two raters are compared on the same items")
    places = _places([*first, *second], ordered=weights is not None)
    codes = np.array([places[rating] for rating in [*first, *second]], dtype=np.int64).reshape(2, len(first))
    size = max(1, len(places))
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    disagreement = (apart > 0).astype(np.float64) if weights is None else apart if weights == "linear" else apart**2
    cells = codes[0] * size + codes[1]
    of_items = sparse.csr_matrix((np.ones(len(first)), (np.arange(len(first)), cells)), shape=(len(first), size * size))

    def kappa(sums: Numbers) -> Numbers:
        tables = sums.reshape(-1, size, size)
        observed = (tables * disagreement).sum(axis=(1, 2)) * tables.sum(axis=(1, 2))
        expected = ((tables.sum(axis=2) @ disagreement) * tables.sum(axis=1)).sum(axis=1)
        return _one_minus(observed, expected)

    return _Coefficient(of_items, kappa)


def _fleiss(ratings: Ratings) -> _Coefficient:
    raters = _raters(ratings)
    complete = [item for item in ratings if raters > 1 and all(rating is not None for rating in item)]
    table = _table(complete)
    agreed = (table * (table - 1)).sum(axis=1) / max(raters * (raters - 1), 1)
    of_items = sparse.csr_matrix(np.column_stack([agreed, table]))

    def kappa(sums: Numbers) -> Numbers:
        items = sums[:, 1:].sum(axis=1) / max(raters, 1)
        shares = sums[:, 1:] / np.maximum(items * raters, 1)[:, None]
        # Of shares that are all of one category 1 - sum of squares is exactly 0, which a sum of products is not.
        return _one_minus(items - sums[:, 0], items * (shares * (1 - shares)).sum(axis=1))

    return _Coefficient(of_items, kappa)


def _krippendorff(ratings: Ratings, metric: Metric) -> _Coefficient:
    _raters(ratings)
    paired = [item for item in ratings if sum(rating is not None for rating in item) > 1]
    places = _places([rating for item in paired for rating in item if rating is not None], ordered=metric != "nominal")
    numbers = _numbers(places) if metric != "nominal" else None
    size = max(1, len(places))
    rows, columns, values = [], [], []
    for number, item in enumerate(paired):
        counts = Counter(places[rating] for rating in item if rating is not None)
        others = counts.total() - 1
        for one, of_one in counts.items():
            for other, of_other in counts.items():
                rows.append(number)
                columns.append(one * size + other)
                values.append(of_one * (of_other - (one == other)) / others)
    of_items = sparse.csr_matrix((values, (rows, columns)), shape=(len(paired), size * size), dtype=np.float64)

    def alpha(sums: Numbers) -> Numbers:
        coincidences = sums.reshape(-1, size, size)
        totals = coincidences.sum(axis=2)
        distance = _distance(metric, totals, numbers)
        observed = (coincidences * distance).sum(axis=(1, 2)) * (totals.sum(axis=1) - 1)
        expected = (totals[:, :, None] * totals[:, None, :] * distance).sum(axis=(1, 2))
        return _one_minus(observed, expected)

    return _Coefficient(of_items, alpha)


def _one_minus(observed: Numbers, expected: Numbers) -> Numbers:
    """1 - observed / expected disagreement; not a number where chance leaves none to be expected."""
    found = np.full(len(expected), np.nan)
    np.divide(observed, expected, out=found, where=expected > 0)
    return 1 - found


def _distance(metric: Metric, totals: Numbers, numbers: Numbers | None) -> Numbers:
    """Squared differences between categories, rounds x categories x categories (one round for all where they are fixed)."""
    if metric == "interval":
        assert numbers is not None
        return np.subtract.outer(numbers, numbers)[None] ** 2
    if metric == "nominal":
        return 1.0 - np.eye(totals.shape[1])[None]
    # Of ranks: half of both categories and all between them (Krippendorff 2011, "ordinal").
    middle = np.cumsum(totals, axis=1) - totals / 2
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def _table(items: Ratings) -> Numbers:
    """How often each item got each category."""
    places = _places([rating for item in items for rating in item if rating is not None], ordered=False)
    table = np.zeros((len(items), max(1, len(places))))
    for number, item in enumerate(items):
        for rating in item:
            if rating is not None:
                table[number, places[rating]] += 1
    return table


def _places(ratings: Sequence[Hashable], *, ordered: bool) -> dict[Hashable, int]:
    names: list[Any] = list(dict.fromkeys(ratings))
    if ordered:
        try:
            names.sort()
        except TypeError:
            raise ValueError(
                f"the categories {names[:6]} have no order: weights and ordinal metrics need numbers or texts alone"
            ) from None
    return {name: place for place, name in enumerate(names)}


def _numbers(places: Mapping[Hashable, int]) -> Numbers:
    if not all(isinstance(name, int | float) for name in places):
        raise ValueError(f"the ratings {list(places)[:6]} are no numbers, which the metrics ordinal and interval need")
    return np.array(list(places), dtype=np.float64)


def _raters(ratings: Ratings) -> int:
    numbers = {len(item) for item in ratings}
    if len(numbers) > 1:
        raise ValueError(
            f"items have {sorted(numbers)} raters: give one place per rater, None where a rating is missing"
        )
    return numbers.pop() if numbers else 0


def _estimate(coefficient: _Coefficient) -> float | None:
    found = coefficient.of_sums(np.asarray(coefficient.of_items.sum(axis=0)).reshape(1, -1))[0]
    return None if np.isnan(found) else float(found)


def _interval(coefficient: _Coefficient, rounds: int, level: float, seed: int) -> Interval:
    require_level(level)
    items, features = coefficient.of_items.shape
    estimate = _estimate(coefficient) if items else None
    if estimate is None:
        return Interval(None, None, None, level, items, "nothing" if not items else "no_variation")
    drawn: list[Numbers] = []
    for draws in cluster_draws(items, rounds, seed):
        at_once = max(1, _NUMBERS_AT_ONCE // features)
        drawn += [
            coefficient.of_sums(draws[start : start + at_once] @ coefficient.of_items)
            for start in range(0, len(draws), at_once)
        ]
    return percentile_interval(estimate, np.concatenate(drawn), items, level)


_NUMBERS_AT_ONCE = 2_000_000
"""Sums of features held at once: many categories have many cells."""
