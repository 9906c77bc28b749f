"""Means and their differences with intervals by bootstrap over clusters: what was seen of one instruction moves together.

Whole clusters are drawn with replacement (Efron and Tibshirani 1993, chapter 8.6; Cameron, Gelbach and Miller 2008, the pairs
cluster bootstrap) and the interval is that of the percentiles. Sums by cluster are taken once, so a round costs one draw of the
clusters and one product, however many observations there are. All figures of one call come from the same draws.
"""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from shared.statistics.intervals import (
    LEVEL,
    SEED,
    Clusters,
    Codes,
    Interval,
    Numbers,
    Values,
    cluster_codes,
    require_level,
)

ROUNDS = 1000
METHOD = "bootstrap_clusters"
_BLOCK_DRAWS = 2_000_000
"""Draws held at once: 16 MB, and as much for their counts."""


def cluster_draws(clusters: int, rounds: int, seed: int = SEED) -> Iterator[Numbers]:
    """How often each cluster is drawn in each round: blocks of rounds x clusters, `rounds` rows in all. The same arguments give
    the same draws. Raises ValueError for fewer rounds than 1."""
    if rounds < 1:
        raise ValueError(f"{rounds} rounds of the bootstrap give no interval; take 100 at least")
    generator = np.random.default_rng((seed, clusters))
    left = rounds
    while left:
        block = min(left, max(1, _BLOCK_DRAWS // max(1, clusters)))
        drawn = generator.integers(clusters, size=(block, clusters)) + clusters * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * clusters).reshape(block, clusters).astype(np.float64)
        left -= block


def bootstrap_means(
    values: Values,
    clusters: Clusters,
    groups: Sequence[Hashable] | None = None,
    *,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> dict[Hashable, Interval]:
    """The mean of every group with its interval, in order of appearance; without `groups` that of all, under None.

    `values`: n finite numbers; `clusters`: what each belongs to, such as its instruction (n names); `groups`: what each counts
    for (n names). A group seen in one cluster alone has no interval (`one_cluster`), nor has one whose mean never changes
    (`no_variation`). Raises ValueError for lengths that differ, values that are not finite, or a level outside (0, 1).
    """
    require_level(level)
    observed, codes, count = _observed(values, clusters)
    if groups is not None and len(groups) != len(observed):
        raise ValueError(f"{len(observed)} values and {len(groups)} groups: each value needs the name of its group")
    if not len(observed):
        return {} if groups is not None else {None: Interval(None, None, None, level, 0, "nothing")}
    names: list[Hashable] = [None]
    of_group: Codes = np.zeros(len(observed), dtype=np.int64)
    if groups is not None:
        of_group, _ = cluster_codes(groups)
        names = list(dict.fromkeys(groups))
    sums, sizes = _by_cluster(observed, codes, of_group, count, len(names))
    means: list[Numbers] = []
    for draws in cluster_draws(count, rounds, seed):
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append((sums @ draws.T).T / (sizes @ draws.T).T)
    drawn = np.concatenate(means)
    estimates = np.asarray(sums.sum(axis=1)).ravel() / np.asarray(sizes.sum(axis=1)).ravel()
    seen_in = np.diff(sizes.indptr)
    return {
        name: percentile_interval(float(estimates[number]), drawn[:, number], int(seen_in[number]), level)
        for number, name in enumerate(names)
    }


def bootstrap_difference(
    first: Values,
    first_clusters: Clusters,
    second: Values,
    second_clusters: Clusters,
    *,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """mean(first) - mean(second), the clusters of both drawn together: what is alike in the two cancels out.

    Clusters that only one of them has count for that one. `clusters` of the result are those of both. Raises as
    `bootstrap_means` does.
    """
    require_level(level)
    if not len(first) or not len(second):
        return Interval(None, None, None, level, 0, "nothing")
    values = np.concatenate([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    observed, codes, count = _observed(values, [*first_clusters, *second_clusters])
    side: Codes = np.repeat([0, 1], [len(first), len(second)]).astype(np.int64)
    sums, sizes = _by_cluster(observed, codes, side, count, 2)
    differences = []
    for draws in cluster_draws(count, rounds, seed):
        with np.errstate(divide="ignore", invalid="ignore"):
            means = (sums @ draws.T) / (sizes @ draws.T)
        differences.append(means[0] - means[1])
    estimate = float(observed[side == 0].mean() - observed[side == 1].mean())
    return percentile_interval(estimate, np.concatenate(differences), count, level)


def bootstrap_correlation(
    first: Values,
    second: Values,
    clusters: Clusters,
    *,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """Pearson's correlation of two figures of the same observations, from -1 to 1. Where one of the two never changes there is
    none (`no_variation`). Raises as `bootstrap_means` does."""
    require_level(level)
    x, codes, count = _observed(first, clusters)
    y, _, _ = _observed(second, clusters)
    if not len(x):
        return Interval(None, None, None, level, 0, "nothing")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(None, None, None, level, count, "no_variation")
    # Centred first: what is summed is then of one size with what is left of it.
    x, y = x - x.mean(), y - y.mean()
    moments = np.stack(
        [np.bincount(codes, one, minlength=count) for one in (np.ones(len(x)), x, y, x * x, y * y, x * y)], axis=1
    )

    def correlation(sums: Numbers) -> Numbers:
        n, sx, sy, sxx, syy, sxy = sums.T
        of_x, of_y = n * sxx - sx**2, n * syy - sy**2
        # Of a draw in which one figure never changes, rounding alone is left.
        varied = (of_x > _ROUNDING * n * sxx) & (of_y > _ROUNDING * n * syy)
        found = np.full(len(n), np.nan)
        np.divide(n * sxy - sx * sy, np.sqrt(np.maximum(of_x * of_y, 0.0)), out=found, where=varied)
        bounded: Numbers = np.clip(found, -1.0, 1.0)
        return bounded

    drawn = np.concatenate([correlation(draws @ moments) for draws in cluster_draws(count, rounds, seed)])
    return percentile_interval(float(correlation(moments.sum(axis=0)[None])[0]), drawn, count, level)


def percentile_interval(estimate: float, drawn: Numbers, clusters: int, level: float = LEVEL) -> Interval:
    """The interval between the percentiles of what was drawn; rounds in which the figure does not exist are left out."""
    if clusters == 1:
        return Interval(estimate, None, None, level, 1, "one_cluster")
    known = drawn[np.isfinite(drawn)]
    if len(known) < len(drawn) / 2:
        return Interval(estimate, None, None, level, clusters, "rarely_drawn")
    if np.ptp(known) <= _ROUNDING * max(1.0, abs(estimate)):
        return Interval(estimate, None, None, level, clusters, "no_variation")
    # Positions k / (rounds + 1) leave 2.5% outside of each end however few rounds there are; the usual ones leave 3.4% of 100.
    ends = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="weibull")
    return Interval(estimate, float(ends[0]), float(ends[1]), level, clusters, METHOD)


_ROUNDING = 1e-12


def _observed(values: Values, clusters: Clusters) -> tuple[Numbers, Codes, int]:
    observed = np.asarray(values, dtype=np.float64)
    if len(observed) != len(clusters):
        raise ValueError(
            f"{len(observed)} values and {len(clusters)} clusters: each value needs the name of its cluster"
        )
    if not np.isfinite(observed).all():
        raise ValueError("a value is infinite or not a number; leave such observations out and count them")
    codes, count = cluster_codes(clusters)
    return observed, codes, count


def _by_cluster(
    observed: Numbers, codes: Codes, of_group: Codes, clusters: int, groups: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Sums and numbers of observations, groups x clusters."""
    places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] = (of_group, codes)
    shape = (groups, clusters)
    return (
        sparse.csr_matrix((observed, places), shape=shape),
        sparse.csr_matrix((np.ones(len(observed)), places), shape=shape),
    )
