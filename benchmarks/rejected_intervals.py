"""Intervals of a clustered mean that were tried and not taken, so that what docs/statistics.md says of them can be seen again.

Each takes the sums and the numbers of observations of the clusters and returns (low, high) at 95%.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

Numbers = npt.NDArray[np.float64]
Method = Callable[[Numbers, Numbers, np.random.Generator], tuple[float, float]]

RESAMPLES = 999


def plain_t(sums: Numbers, sizes: Numbers, generator: np.random.Generator) -> tuple[float, float]:  # noqa: ARG001 (as the others)
    """Student's t with G - 1 degrees of freedom on linearised residuals, no leverage correction."""
    count = len(sums)
    mean = sums.sum() / sizes.sum()
    residuals = (sums - mean * sizes) / sizes.sum()
    half = float(stats.t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * (residuals**2).sum()))
    return float(mean - half), float(mean + half)


def percentile(sums: Numbers, sizes: Numbers, generator: np.random.Generator) -> tuple[float, float]:
    """Percentiles of resampled means (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.quantile(_means(sums, sizes, generator)[0], [0.025, 0.975])
    return float(low), float(high)


def bias_corrected_accelerated(sums: Numbers, sizes: Numbers, generator: np.random.Generator) -> tuple[float, float]:
    """BCa, the acceleration by leaving each cluster out (Efron and Tibshirani 1993, chapter 14)."""
    means = _means(sums, sizes, generator)[0]
    estimate = sums.sum() / sizes.sum()
    below = float(np.clip(((means < estimate) + (means == estimate) / 2).mean(), 1e-4, 1 - 1e-4))
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum())
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shift = float(stats.norm.ppf(below))
    wanted = []
    for quantile in (stats.norm.ppf(0.025), stats.norm.ppf(0.975)):
        moved = shift + quantile
        wanted.append(float(stats.norm.cdf(shift + moved / (1 - acceleration * moved))))
    low, high = np.quantile(means, wanted)
    return float(low), float(high)


def asymmetric_studentised(sums: Numbers, sizes: Numbers, generator: np.random.Generator) -> tuple[float, float]:
    """Bootstrap t with a quantile of its own on either side (Efron and Tibshirani 1993, chapter 12.5)."""
    means, errors = _means(sums, sizes, generator)
    mean = sums.sum() / sizes.sum()
    count = len(sums)
    error = np.sqrt(count / (count - 1) * (((sums - mean * sizes) / sizes.sum()) ** 2).sum())
    known = errors > 0
    if not known.any():
        return float(mean), float(mean)
    low, high = np.quantile((means[known] - mean) / errors[known], [0.025, 0.975])
    return float(mean - high * error), float(mean - low * error)


REJECTED: dict[str, Method] = {
    "t, G - 1 degrees of freedom": plain_t,
    "percentile bootstrap": percentile,
    "BCa": bias_corrected_accelerated,
    "asymmetric studentised bootstrap": asymmetric_studentised,
}


def _means(sums: Numbers, sizes: Numbers, generator: np.random.Generator) -> tuple[Numbers, Numbers]:
    """(mean, standard error) of each resample of clusters."""
    count = len(sums)
    drawn = generator.integers(count, size=(RESAMPLES, count))
    totals, numbers = sums[drawn], sizes[drawn]
    means = totals.sum(axis=1) / numbers.sum(axis=1)
    residuals = (totals - means[:, None] * numbers) / numbers.sum(axis=1)[:, None]
    return means, np.sqrt(count / (count - 1) * (residuals**2).sum(axis=1))
