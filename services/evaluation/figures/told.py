"""Figures as plain data: an interval with how many observations it rests on, and how they are drawn."""

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec

from shared.statistics.bootstrap import bootstrap_difference, bootstrap_means
from shared.statistics.intervals import Interval, Values


class Draws(msgspec.Struct, frozen=True):
    """How often and by which seed instructions are drawn for the intervals of one evaluation."""

    rounds: int
    seed: int

    def means(
        self, values: Values, clusters: Sequence[Hashable], groups: Sequence[Hashable] | None = None
    ) -> dict[Hashable, dict[str, Any]]:
        """The mean of every group as plain data, with `n` observations each."""
        found = bootstrap_means(values, clusters, groups, rounds=self.rounds, seed=self.seed)
        counts: dict[Hashable, int] = dict.fromkeys(found, 0)
        for name in groups if groups is not None else [None] * len(values):
            counts[name] += 1
        return {name: told(interval, counts[name]) for name, interval in found.items()}

    def mean(self, values: Values, clusters: Sequence[Hashable]) -> dict[str, Any]:
        """The mean of all as plain data; `estimate` is None where there is no value."""
        return self.means(values, clusters)[None]

    def difference(
        self, first: Values, first_clusters: Sequence[Hashable], second: Values, second_clusters: Sequence[Hashable]
    ) -> dict[str, Any]:
        """mean(first) - mean(second), instructions drawn for both together."""
        interval = bootstrap_difference(
            first, first_clusters, second, second_clusters, rounds=self.rounds, seed=self.seed
        )
        return told(interval, min(len(first), len(second)))


def told(interval: Interval, n: int | None = None) -> dict[str, Any]:
    """An interval as plain data: `estimate`, `low`, `high`, `instructions`, `method`, and `n` observations where that is another
    number."""
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "n": interval.clusters if n is None else n,
        "instructions": interval.clusters,
        "method": interval.method,
    }
