"""Confidence intervals for figures whose observations cluster: what was seen of one instruction is not independent.

Every method was taken because its coverage held in simulation; `python -m benchmarks.interval_coverage` prints the table,
`docs/statistics.md` keeps it. All draws are seeded: the same values give the same interval.

Where no interval can be stated `low` and `high` are None and `method` says why: `nothing`, `one_cluster`, `no_variation`.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from math import sqrt
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

Numbers: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = Sequence[float] | npt.NDArray[Any]
Clusters: TypeAlias = Sequence[Hashable] | npt.NDArray[Any]

LEVEL = 0.95
SEED = 20_240_517

BOOTSTRAP_FROM = 100
"""Clusters from which on the quantile of a mean's interval is found by bootstrap: it then answers to skewed values, which t
does not, and has clusters enough to resample."""
BOOTSTRAP_BELOW = 2000
"""Clusters from which on t serves again: the two quantiles then differ by less than the simulation can tell."""
RESAMPLES = 999
GENERAL_RESAMPLES = 399

_WORKING_CORRELATION = 0.3
"""Of observations within a cluster, for the degrees of freedom alone: large clusters tell less than their size says."""
_ROUNDING = 1e-12
"""A standard error of a mean that is smaller, beside its largest value, is what sums of opposite values leave behind."""
_LEAST_CORRELATION = 0.1
"""Of rare events within a cluster, where fewer than BOOTSTRAP_FROM clusters hold too few of them to estimate it."""


class Interval(msgspec.Struct, frozen=True):
    """`estimate` with the interval from `low` to `high` at `level`; `clusters` is the number of independent groups."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    clusters: int
    method: str


def cluster_codes(clusters: Clusters) -> tuple[Codes, int]:
    """Clusters as whole numbers from 0 in order of appearance, and how many there are."""
    known: dict[Hashable, int] = {}
    codes = np.fromiter((known.setdefault(name, len(known)) for name in clusters), dtype=np.int64)
    return codes, len(known)


def cluster_mean_interval(values: Values, clusters: Clusters, *, level: float = LEVEL) -> Interval:
    """The mean over all observations, its interval over clusters.

    `values`: n finite numbers; `clusters`: what each belongs to (n names). The mean is a ratio, the sum of the values by
    their number, both summed by cluster; its variance comes from the linearised residuals of the clusters, each divided by
    1 minus its share of the observations (Bell and McCaffrey 2002, for a mean).

    - values of 0 and 1 only: Wilson's interval on the effective number of observations, n / design effect
      (`wilson_clustered`; Korn and Graubard 1998 do the same with Clopper and Pearson's);
    - below 100 clusters, and from 2,000 on: Student's t with Satterthwaite's degrees of freedom, which fall where a few
      clusters are large (`t_clustered`);
    - between: the variance as before, the quantile that of |t| over 999 resamples of clusters (`bootstrap_t_clustered`;
      Efron and Tibshirani 1993, chapter 12.5, symmetric).

    Raises ValueError for lengths that differ, values that are not finite, or a level outside (0, 1).
    """
    require_level(level)
    observed = np.asarray(values, dtype=np.float64)
    if len(observed) != len(clusters):
        raise ValueError(
            f"{len(observed)} values and {len(clusters)} clusters: each value needs the name of its cluster"
        )
    if not np.isfinite(observed).all():
        raise ValueError("a value is infinite or not a number; leave such observations out and count them")
    codes, count = cluster_codes(clusters)
    if not len(observed):
        return Interval(None, None, None, level, 0, "nothing")
    mean = float(observed.mean())
    if count == 1:
        return Interval(mean, None, None, level, 1, "one_cluster")
    sums: Numbers = np.bincount(codes, observed, minlength=count).astype(np.float64)
    sizes: Numbers = np.bincount(codes, minlength=count).astype(np.float64)
    binary = bool(np.isin(observed, (0.0, 1.0)).all())
    if not binary and np.ptp(observed) == 0:
        return Interval(mean, None, None, level, count, "no_variation")
    shares = sizes / len(observed)
    variance = float((((sums - mean * sizes) / len(observed)) ** 2 / (1 - shares)).sum())
    bootstrapped = BOOTSTRAP_FROM <= count < BOOTSTRAP_BELOW
    normal = float(ndtri((1 + level) / 2))
    quantile = float(stdtrit(_degrees_of_freedom(sizes), (1 + level) / 2))
    if bootstrapped and (found := _bootstrap_t_quantile(sums, sizes, level)) is not None:
        quantile = max(found, normal) if binary else found
    if binary:
        floor = 0.0 if count >= BOOTSTRAP_FROM else _LEAST_CORRELATION
        simple = mean * (1 - mean) / len(observed)
        effect = max(
            variance / simple if simple > 0 else 1.0, 1.0 + floor * (float((sizes**2).sum()) / len(observed) - 1)
        )
        effective = len(observed) / effect * (normal / quantile) ** 2
        low, high = _wilson(mean, effective, normal)
        return Interval(mean, low, high, level, count, "wilson_clustered")
    if variance <= (_ROUNDING * float(np.abs(observed).max())) ** 2:
        return Interval(mean, None, None, level, count, "no_variation")
    half = quantile * sqrt(variance)
    method = "bootstrap_t_clustered" if bootstrapped else "t_clustered"
    return Interval(mean, mean - half, mean + half, level, count, method)


def clipped(interval: Interval, lowest: float, highest: float) -> Interval:
    """The interval cut to the values that the figure can take; it holds the truth as often as before."""
    if interval.low is None or interval.high is None:
        return interval
    return msgspec.structs.replace(interval, low=max(interval.low, lowest), high=min(interval.high, highest))


def proportion_interval(successes: int, trials: int, *, level: float = LEVEL) -> Interval:
    """The share of successes among independent trials, Wilson's score interval (Wilson 1927).

    Raises ValueError for counts that are no counts: negative, or more successes than trials.
    """
    require_level(level)
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials: give 0 <= successes <= trials")
    if not trials:
        return Interval(None, None, None, level, 0, "nothing")
    low, high = _wilson(successes / trials, trials, float(ndtri((1 + level) / 2)))
    return Interval(successes / trials, low, high, level, trials, "wilson")


def difference_interval(first: Interval, second: Interval) -> Interval:
    """`first` minus `second`, two independent figures, from their intervals alone (Zou and Donner 2008, "recovery of
    variance estimates"; for two shares it is Newcombe's method 10).

    low = d - sqrt((e1 - l1)^2 + (h2 - e2)^2), high = d + sqrt((h1 - e1)^2 + (e2 - l2)^2). Figures of the same instructions
    are not independent; where they rise and fall together the interval is wider than it had to be, never narrower.

    `low` and `high` are None where either has none. Raises ValueError for two levels.
    """
    if first.level != second.level:
        raise ValueError(f"levels {first.level} and {second.level} differ: compare intervals of one level")
    clusters = first.clusters + second.clusters
    if first.estimate is None or second.estimate is None:
        return Interval(None, None, None, first.level, clusters, "nothing")
    difference = first.estimate - second.estimate
    if first.low is None or first.high is None or second.low is None or second.high is None:
        missing = first if first.low is None else second
        return Interval(difference, None, None, first.level, clusters, missing.method)
    down = sqrt((first.estimate - first.low) ** 2 + (second.high - second.estimate) ** 2)
    up = sqrt((first.high - first.estimate) ** 2 + (second.estimate - second.low) ** 2)
    return Interval(difference, difference - down, difference + up, first.level, clusters, "recovered_variances")


def bootstrap_interval(
    statistic: Callable[[Numbers], float],
    clusters: int,
    *,
    reflected: bool = False,
    level: float = LEVEL,
    resamples: int = GENERAL_RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """The interval of any statistic over `clusters` groups, by drawing groups with replacement.

    `statistic` gets how often each group was drawn (`clusters` numbers that add up to `clusters`; all 1 for the estimate)
    and must not depend on a text standing there twice: a nearest neighbour or a compression ratio does, so compute those
    per text or block first. Percentiles of the resamples suit order statistics and shares (`bootstrap_percentile`); a
    statistic that falls when groups repeat, as entropy does, needs them `reflected` at the estimate, which takes the
    shift back (`bootstrap_reflected`; Davison and Hinkley 1997, chapter 5.2).

    For quantiles `quantile_interval` comes closer to its level with few clusters.
    """
    require_level(level)
    if not clusters:
        return Interval(None, None, None, level, 0, "nothing")
    estimate = float(statistic(np.ones(clusters)))
    if clusters == 1:
        return Interval(estimate, None, None, level, 1, "one_cluster")
    generator = np.random.default_rng(seed)
    drawn = np.array([statistic(_draw(generator, clusters)) for _ in range(resamples)])
    if np.ptp(drawn) == 0:
        return Interval(estimate, None, None, level, clusters, "no_variation")
    low, high = (float(bound) for bound in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    if reflected:
        # Where the shift is larger than the spread the reflected percentiles leave the estimate out.
        low, high = min(2 * estimate - high, estimate), max(2 * estimate - low, estimate)
        return Interval(estimate, low, high, level, clusters, "bootstrap_reflected")
    return Interval(estimate, low, high, level, clusters, "bootstrap_percentile")


def quantile_interval(values: Values, clusters: Clusters, share: float, *, level: float = LEVEL) -> Interval:
    """The quantile at `share` (between 0 and 1) of all observations, by Woodruff's method (1952).

    The interval of the share of observations up to the quantile comes from `cluster_mean_interval`; the values at its two
    ends bound the quantile. Raises ValueError for a share outside (0, 1), and as `cluster_mean_interval` does.
    """
    if not 0 < share < 1:
        raise ValueError(f"a quantile at {share} does not exist: give a share between 0 and 1, such as 0.95")
    observed = np.asarray(values, dtype=np.float64)
    ascending = np.sort(observed)

    def at(wanted: float) -> float:
        return float(ascending[min(max(int(np.ceil(wanted * len(ascending) - 1e-9)) - 1, 0), len(ascending) - 1)])

    estimate = at(share) if len(ascending) else 0.0
    found = cluster_mean_interval((observed <= estimate).astype(np.float64), clusters, level=level)
    if found.low is None or found.high is None or found.estimate is None:
        kept = None if found.estimate is None else estimate
        return Interval(kept, None, None, level, found.clusters, found.method)
    if ascending[0] == ascending[-1]:
        return Interval(estimate, None, None, level, found.clusters, "no_variation")
    # Of tied values more than `share` lie up to the quantile: the interval is moved back to where it was asked for.
    shift = share - found.estimate
    return Interval(
        estimate, at(found.low + shift), at(found.high + shift), level, found.clusters, "woodruff_clustered"
    )


def _draw(generator: np.random.Generator, clusters: int) -> Numbers:
    return np.bincount(generator.integers(clusters, size=clusters), minlength=clusters).astype(np.float64)


def require_level(level: float) -> None:
    """Raise ValueError for a level that is no share."""
    if not 0 < level < 1:
        raise ValueError(f"a level of {level} is no share of samples: give one between 0 and 1, such as 0.95")


def _degrees_of_freedom(sizes: Numbers) -> float:
    """Satterthwaite's, under a working model in which observations of a cluster correlate; G - 1 for equal sizes."""
    spread = sizes**2 * (_WORKING_CORRELATION + (1 - _WORKING_CORRELATION) / sizes)
    spread = spread / spread.sum()
    return max(1 / float((spread**2).sum()) - 1, 1.0)


def _wilson(share: float, trials: float, quantile: float) -> tuple[float, float]:
    square = quantile**2
    centre = (share + square / 2 / trials) / (1 + square / trials)
    half = quantile / (1 + square / trials) * sqrt(share * (1 - share) / trials + square / 4 / trials**2)
    # At 0 and 1 the formula gives the bound itself, but for rounding.
    return (0.0 if share == 0 else max(centre - half, 0.0)), (1.0 if share == 1 else min(centre + half, 1.0))


def _bootstrap_t_quantile(sums: Numbers, sizes: Numbers, level: float) -> float | None:
    """The `level` quantile of |mean* - mean| / standard error*; None where nearly no resample has a standard error."""
    mean = sums.sum() / sizes.sum()
    moments = np.stack([sums, sizes, sums**2, sums * sizes, sizes**2], axis=1)
    total, number, squares, products, square_sizes = (_weights(len(sums)) @ moments).T
    means = total / number
    spread = np.maximum(squares - 2 * means * products + means**2 * square_sizes, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.abs(means - mean) * number / np.sqrt(spread * len(sums) / (len(sums) - 1))
    values = values[np.isfinite(values)]
    return float(np.quantile(values, level)) if len(values) >= RESAMPLES / 2 else None


@lru_cache(maxsize=4)
def _weights(clusters: int) -> Numbers:
    """How often each cluster is drawn in each resample: RESAMPLES x clusters, 16 MB at most. One draw serves all figures
    that have that number of clusters."""
    generator = np.random.default_rng((SEED, clusters))
    return np.stack([_draw(generator, clusters) for _ in range(RESAMPLES)])
