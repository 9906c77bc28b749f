"""How far people (or judges) agree beyond chance: Cohen's, Fleiss' and Krippendorff's coefficients, with intervals over items.

1 is perfect agreement, 0 what chance gives. None stands where a coefficient does not exist: nobody rated the same items, or all
ratings are one and the same, so that chance agrees perfectly too.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.statistics.bootstrap import ROUNDS, cluster_draws, percentile_interval
from shared.statistics.intervals import LEVEL, SEED, Interval, Numbers

Ratings = Sequence[Sequence[Hashable | None]]
"""Items x raters; None where a rater gave none. All items have the same number of raters."""
Weights = Literal["linear", "quadratic"] | None
Metric = Literal["nominal", "ordinal", "interval"]


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable], weights: Weights = None) -> float | None:
    """Cohen's kappa (1960) of two raters of the same items, weighted (Cohen 1968) by how far apart two categories stand.

    Weighted kappa takes the categories in their sorted order. Raises ValueError for lists of different length, and for weights
    on categories that have no order.
    """
    return _cohen(first, second, weights)(np.ones(len(first)))


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
    return _interval(_cohen(first, second, weights), len(first), rounds, level, seed)


def fleiss_kappa(ratings: Ratings) -> float | None:
    """Fleiss' kappa (1971) of any number of raters, of the items that all of them rated. Raises ValueError for items with
    different numbers of raters."""
    statistic, items = _fleiss(ratings)
    return statistic(np.ones(items))


def fleiss_kappa_interval(
    ratings: Ratings, *, rounds: int = ROUNDS, level: float = LEVEL, seed: int = SEED
) -> Interval:
    """Fleiss' kappa with its interval by bootstrap over items."""
    statistic, items = _fleiss(ratings)
    return _interval(statistic, items, rounds, level, seed)


def krippendorff_alpha(ratings: Ratings, metric: Metric = "nominal") -> float | None:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability") of any number of raters; ratings may be missing.

    `ordinal` and `interval` take numbers. Raises ValueError for items with different numbers of raters, and for ratings that
    are no numbers where numbers are needed.
    """
    statistic, items = _krippendorff(ratings, metric)
    return statistic(np.ones(items))


def krippendorff_alpha_interval(
    ratings: Ratings,
    metric: Metric = "nominal",
    *,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """Krippendorff's alpha with its interval by bootstrap over items."""
    statistic, items = _krippendorff(ratings, metric)
    return _interval(statistic, items, rounds, level, seed)


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


Statistic = Callable[[Numbers], float | None]
"""A coefficient, given how often each item counts."""


def _cohen(first: Sequence[Hashable], second: Sequence[Hashable], weights: Weights) -> Statistic:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} ratings: two raters are compared on the same items")
    places = _places([*first, *second], ordered=weights is not None)
    codes = np.array([places[rating] for rating in [*first, *second]], dtype=np.int64).reshape(2, len(first))
    size = len(places)
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    disagreement = (apart > 0).astype(np.float64) if weights is None else apart if weights == "linear" else apart**2
    cells = codes[0] * size + codes[1]

    def statistic(counts: Numbers) -> float | None:
        total = counts.sum()
        if not total:
            return None
        table = np.bincount(cells, counts, minlength=size * size).reshape(size, size) / total
        expected = (np.outer(table.sum(axis=1), table.sum(axis=0)) * disagreement).sum()
        return None if expected == 0 else float(1 - (table * disagreement).sum() / expected)

    return statistic


def _fleiss(ratings: Ratings) -> tuple[Statistic, int]:
    raters = _raters(ratings)
    complete = [item for item in ratings if all(rating is not None for rating in item)]
    table = _table(complete)

    def statistic(counts: Numbers) -> float | None:
        total = counts.sum()
        if raters < 2 or not total:
            return None
        agreed = ((table * (table - 1)).sum(axis=1) / (raters * (raters - 1)) * counts).sum() / total
        shares = (table * counts[:, None]).sum(axis=0) / (total * raters)
        by_chance = float((shares**2).sum())
        return None if by_chance == 1 else float((agreed - by_chance) / (1 - by_chance))

    return statistic, len(complete)


def _krippendorff(ratings: Ratings, metric: Metric) -> tuple[Statistic, int]:
    _raters(ratings)
    paired = [item for item in ratings if sum(rating is not None for rating in item) > 1]
    given = [rating for item in paired for rating in item if rating is not None]
    places = _places(given, ordered=metric != "nominal")
    table = _table(paired, places)
    sizes = table.sum(axis=1)
    numbers = _numbers(places) if metric != "nominal" else None

    def statistic(counts: Numbers) -> float | None:
        weights = counts / np.maximum(sizes - 1, 1)
        coincidences = (table * weights[:, None]).T @ table
        coincidences -= np.diag((table * weights[:, None]).sum(axis=0))
        totals = coincidences.sum(axis=1)
        number = totals.sum()
        if number <= 1:
            return None
        distance = _distance(metric, totals, numbers)
        expected = (np.outer(totals, totals) * distance).sum()
        if expected == 0:
            return None
        return float(1 - (number - 1) * (coincidences * distance).sum() / expected)

    return statistic, len(paired)


def _distance(metric: Metric, totals: Numbers, numbers: Numbers | None) -> Numbers:
    """Squared differences between categories."""
    size = len(totals)
    if metric == "interval":
        assert numbers is not None
        return np.subtract.outer(numbers, numbers) ** 2
    if metric == "nominal":
        return 1.0 - np.eye(size)
    up_to = np.cumsum(totals)
    between = np.abs(np.subtract.outer(up_to - totals / 2, up_to - totals / 2))
    return between**2


def _table(items: Ratings, places: Mapping[Hashable, int] | None = None) -> Numbers:
    """How often each item got each category."""
    if places is None:
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


def _interval(statistic: Statistic, items: int, rounds: int, level: float, seed: int) -> Interval:
    estimate = statistic(np.ones(items)) if items else None
    if estimate is None:
        return Interval(None, None, None, level, items, "nothing" if not items else "no_variation")
    drawn: list[float] = []
    for draws in cluster_draws(items, rounds, seed):
        drawn += [float("nan") if (found := statistic(row)) is None else found for row in draws]
    figures: npt.NDArray[np.float64] = np.array(drawn)
    return percentile_interval(estimate, figures, items, level)
