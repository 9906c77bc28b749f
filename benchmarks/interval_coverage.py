"""How often the intervals hold the truth: `python -m benchmarks.interval_coverage [--repeats 2000]`.

Draws samples whose mean (or quantile, or entropy) is known and counts the intervals that contain it. Prints Markdown.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from shared.statistics.intervals import (
    Interval,
    bootstrap_interval,
    cluster_mean_interval,
    difference_interval,
    proportion_interval,
    quantile_interval,
)

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
SIZES = (20, 50, 99, 150, 400, 2500)
WITHIN = 0.5
"""Share of the variance that a cluster's observations have in common."""


def cluster_sizes(kind: str, clusters: int, generator: np.random.Generator) -> Codes:
    """Observations of each cluster: `equal` is 3 each, `unequal` 1 to 20 with mean 4, `extreme` 1 to 60 with mean 4.5."""
    if kind == "equal":
        return np.full(clusters, 3)
    if kind == "unequal":
        return np.clip(generator.geometric(0.25, size=clusters), 1, 20)
    return np.clip(np.round(generator.lognormal(1, 1, size=clusters)), 1, 60).astype(np.int64)


def sample(name: str, sizes: Codes, generator: np.random.Generator) -> tuple[Numbers, Codes, float]:
    """(values, cluster of each, the true mean) of one drawn data set."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    if name.startswith("binary"):
        share = float(name.split()[1])
        own = generator.beta(share * 7 / 3, (1 - share) * 7 / 3, size=len(sizes))[owners]  # correlation 0.3 within
        return (generator.random(len(owners)) < own).astype(float), owners, share
    common = generator.normal(size=len(sizes))[owners]
    mixed = np.sqrt(WITHIN) * common + np.sqrt(1 - WITHIN) * generator.normal(size=len(owners))
    if name == "normal":
        return mixed, owners, 0.0
    spread = float(name.split()[1])
    return np.exp(spread * mixed), owners, float(np.exp(spread**2 / 2))


def mean_coverage(name: str, kind: str, clusters: int, repeats: int, seed: int) -> float:
    """Share of `cluster_mean_interval`s that hold the truth."""
    generator = np.random.default_rng(seed)
    held = 0
    for _ in range(repeats):
        values, owners, truth = sample(name, cluster_sizes(kind, clusters, generator), generator)
        held += holds(cluster_mean_interval(values, owners), truth)
    return held / repeats


def difference_coverage(name: str, clusters: tuple[int, int], repeats: int, seed: int) -> float:
    """Share of `difference_interval`s of two samples that hold the true difference, 0."""
    generator = np.random.default_rng(seed)
    held = 0
    for _ in range(repeats):
        parts = [sample(name, cluster_sizes("equal", count, generator), generator) for count in clusters]
        held += holds(difference_interval(*(cluster_mean_interval(values, owners) for values, owners, _ in parts)), 0.0)
    return held / repeats


def holds(interval: Interval, truth: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


def _quantile_coverage(clusters: int, repeats: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    truth = float(stats.norm.ppf(0.95))
    held = 0
    for _ in range(repeats):
        values, owners, _ = sample("normal", cluster_sizes("equal", clusters, generator), generator)
        held += holds(quantile_interval(values, owners, 0.95), truth)
    return held / repeats


def _entropy_coverage(clusters: int, repeats: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    chances = 1 / np.arange(1, 21)
    chances /= chances.sum()
    truth = _entropy(chances)
    held = 0
    for _ in range(repeats):
        counts = generator.multinomial(3, chances, size=clusters).astype(float)
        held += holds(
            bootstrap_interval(lambda weights, counts=counts: _entropy(weights @ counts), clusters, reflected=True),
            truth,
        )
    return held / repeats


def _entropy(counts: Numbers) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def _proportion_coverage(trials: int, share: float, repeats: int, seed: int) -> float:
    drawn = np.random.default_rng(seed).binomial(trials, share, size=repeats)
    return sum(holds(proportion_interval(int(count), trials), share) for count in drawn) / repeats


def _line(name: str, cells: Callable[[int], float]) -> None:
    print(f"| {name} | " + " | ".join(f"{cells(clusters):.1%}" for clusters in SIZES) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interval_coverage", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="samples of each cell")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    repeats, seed = options.repeats, options.seed
    error = (0.95 * 0.05 / repeats) ** 0.5
    print(f"{repeats} samples a cell, Monte Carlo standard error {error:.2%}; nominal 95%\n")
    print("| mean of | " + " | ".join(f"{clusters} clusters" for clusters in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for kind in ("equal", "unequal", "extreme"):
        for name in ("normal", "binary 0.5", "binary 0.05", "lognormal 0.5", "lognormal 1"):
            _line(f"{name}, {kind} clusters", lambda size, n=name, k=kind: mean_coverage(n, k, size, repeats, seed))  # type: ignore[misc]
    for name in ("normal", "binary 0.5", "binary 0.05", "lognormal 0.5"):
        _line(
            f"difference of two means, {name}",
            lambda size, n=name: difference_coverage(n, (size, size * 2), repeats, seed),  # type: ignore[misc]
        )
    for share in (0.05, 0.5):
        _line(f"unclustered share {share}", lambda size, s=share: _proportion_coverage(size, s, repeats, seed))  # type: ignore[misc]
    fewer = max(repeats // 4, 1)
    print(
        f"\n{fewer} samples a cell\n\n| statistic | " + " | ".join(f"{clusters} clusters" for clusters in SIZES) + " |"
    )
    print("|---|" + "---|" * len(SIZES))
    _line("95th percentile, normal", lambda size: _quantile_coverage(size, fewer, seed))
    _line("normalised entropy of 20 categories, 1/rank", lambda size: _entropy_coverage(size, fewer, seed))


if __name__ == "__main__":
    main()
