"""How often the intervals hold the truth: `python -m benchmarks.interval_coverage [--repeats 2000] [--only audit]`.

Draws samples whose mean (or quantile, or entropy) is known and counts the intervals that contain it. Prints Markdown.
`--only` prints one of the tables; `--also-rejected` adds methods that were tried and not taken.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.rejected_intervals import REJECTED, Method
from shared.audit.measures.balance import majority_interval, spread_interval
from shared.audit.measures.system_shape import variation_interval
from shared.statistics.intervals import (
    Interval,
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


def rejected_coverage(method: Method, name: str, kind: str, clusters: int, repeats: int, seed: int) -> float:
    """Share of the intervals of a method that was not taken which hold the true mean."""
    generator = np.random.default_rng(seed)
    held = 0
    for _ in range(repeats):
        values, owners, truth = sample(name, cluster_sizes(kind, clusters, generator), generator)
        sums = np.bincount(owners, values, minlength=clusters)
        low, high = method(sums, np.bincount(owners, minlength=clusters).astype(np.float64), generator)
        held += low <= truth <= high
    return held / repeats


def _quantile_coverage(clusters: int, repeats: int, seed: int) -> float:
    """95th percentile of normal values; of any other continuous values it is the same, since only ranks count."""
    generator = np.random.default_rng(seed)
    truth = float(stats.norm.ppf(0.95))
    held = 0
    for _ in range(repeats):
        values, owners, _ = sample("normal", cluster_sizes("equal", clusters, generator), generator)
        held += holds(quantile_interval(values, owners, 0.95), truth)
    return held / repeats


def _entropy_coverage(categories: int, drawn: int, clusters: int, repeats: int, seed: int) -> float:
    """Normalised entropy of `drawn` entries a cluster over categories as frequent as 1/rank."""
    generator = np.random.default_rng(seed)
    chances = 1 / np.arange(1, categories + 1)
    chances /= chances.sum()
    truth = float(-(chances * np.log(chances)).sum() / np.log(categories))
    owners = np.repeat(np.arange(clusters), drawn).tolist()
    held = 0
    for _ in range(repeats):
        held += holds(
            spread_interval(generator.choice(categories, size=len(owners), p=chances).tolist(), owners), truth
        )
    return held / repeats


def _variation_coverage(spread: float, clusters: int, repeats: int, seed: int) -> float:
    """Coefficient of variation of lognormal lengths, 3 a cluster."""
    generator = np.random.default_rng(seed)
    truth = float(np.sqrt(np.exp(spread**2) - 1))
    held = 0
    for _ in range(repeats):
        values, owners, _ = sample(f"lognormal {spread}", cluster_sizes("equal", clusters, generator), generator)
        held += holds(variation_interval(values.tolist(), owners.tolist()), truth)
    return held / repeats


def _majority_coverage(share: float, clusters: int, repeats: int, seed: int) -> float:
    """Share of the more frequent of two poles, 12 preferences a cluster over 24 subdimensions, all poles drawn apart."""
    generator = np.random.default_rng(seed)
    held = judged = 0
    for _ in range(repeats):
        places = generator.integers(24, size=clusters * 12).tolist()
        poles = np.where(generator.random(clusters * 12) < share, "one", "other").tolist()
        owners = np.repeat(np.arange(clusters), 12).tolist()
        found = majority_interval(owners, places, poles)
        judged += found is not None
        held += found is not None and holds(found, share)
    # A set whose subdimensions are all too small for the audit has no figure that could hold anything.
    return held / judged if judged else float("nan")


def _proportion_coverage(trials: int, share: float, repeats: int, seed: int) -> float:
    drawn = np.random.default_rng(seed).binomial(trials, share, size=repeats)
    return sum(holds(proportion_interval(int(count), trials), share) for count in drawn) / repeats


def _cell(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"


def _line(name: str, cells: Callable[[int], float]) -> None:
    print(f"| {name} | " + " | ".join(_cell(cells(clusters)) for clusters in SIZES) + " |", flush=True)


def _head(first: str, sizes: Sequence[int] = SIZES) -> None:
    print(f"| {first} | " + " | ".join(f"{clusters} clusters" for clusters in sizes) + " |")
    print("|---|" + "---|" * len(sizes))


def _means(repeats: int, seed: int) -> None:
    _head("mean of")
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


def _audit(repeats: int, seed: int) -> None:
    fewer = max(repeats // 4, 1)
    print(f"\n{fewer} samples a cell\n")
    _head("statistic")
    _line("95th percentile, normal", lambda size: _quantile_coverage(size, fewer, seed))
    for categories, drawn in ((20, 3), (100, 12)):
        _line(
            f"normalised entropy of {categories} categories, {drawn} a cluster",
            lambda size, c=categories, d=drawn: _entropy_coverage(c, d, size, fewer, seed),  # type: ignore[misc]
        )
    for spread in (0.2, 0.35, 0.7):
        _line(
            f"coefficient of variation, lognormal {spread}",
            lambda size, s=spread: _variation_coverage(s, size, fewer, seed),  # type: ignore[misc]
        )
    for share in (0.5, 0.55, 0.65, 0.8):
        _line(f"more frequent pole, {share}", lambda size, s=share: _majority_coverage(s, size, fewer, seed))  # type: ignore[misc]


def _rejected(repeats: int, seed: int) -> None:
    fewer = max(repeats // 2, 1)
    cells = ("binary 0.05", "normal", "lognormal 1")
    print(
        f"\n{fewer} samples a cell, 20 unequal clusters\n\n| method | {' | '.join(cells)} |\n|---|{'---|' * len(cells)}"
    )
    for title, method in REJECTED.items():
        shares = [rejected_coverage(method, name, "unequal", 20, fewer, seed) for name in cells]
        print(f"| {title} | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)
    shares = [mean_coverage(name, "unequal", 20, fewer, seed) for name in cells]
    print("| taken | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interval_coverage", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="samples of each cell of the table of means")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("means", "audit", "rejected"), help="one table")
    parser.add_argument("--also-rejected", action="store_true", help="the methods that were not taken as well")
    options = parser.parse_args()
    repeats, seed = options.repeats, options.seed
    error = (0.95 * 0.05 / repeats) ** 0.5
    print(f"{repeats} samples a cell, Monte Carlo standard error {error:.2%}; nominal 95%\n")
    if options.only in (None, "means"):
        _means(repeats, seed)
    if options.only in (None, "audit"):
        _audit(repeats, seed)
    if options.also_rejected or options.only == "rejected":
        _rejected(repeats, seed)


if __name__ == "__main__":
    main()
