"""Random numbers of a sequence: a function of its seed and of how many were drawn before, of nothing else.

A generator object per sequence would be one Python call per sequence and token. Hashing (seed, count) with SplitMix64 (Steele,
Lea and Flood 2014, "Fast splittable pseudorandom number generators") gives all numbers of a step in a few array operations,
and a sequence that is moved, delayed or run beside others draws the same.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def seed_word(seed: int) -> int:
    """A seed of any size and sign as 64 bits."""
    return seed & _MASK


def uniforms(seeds: NDArray[np.uint64], counts: NDArray[np.uint64]) -> NDArray[np.float64]:
    """One number in [0, 1) for each pair of a seed and the count of numbers that it gave before."""
    with np.errstate(over="ignore"):
        # The seed is mixed first: seeds that differ by 1 must not give the same numbers one step apart.
        words = _mixed(_mixed(seeds) + (counts + np.uint64(1)) * _WEYL)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast("NDArray[np.uint64]", words ^ (words >> np.uint64(31)))
