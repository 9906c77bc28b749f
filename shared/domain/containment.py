"""Does a text come close to a held-out one? By the share of the held-out text's character 5-grams that stand in it."""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

GRAM = 5
MINIMUM_GRAMS = 20
"""Shorter texts have too few grams to say anything."""
FEW_TEXTS = 256
_SPACES = re.compile(r"[\W_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Grams = npt.NDArray[np.uint64]


def grams_of(text: str) -> Grams:
    """The distinct character 5-grams of a text as sorted hashes; case, punctuation and spacing make no difference."""
    normal = _SPACES.sub(" ", text.casefold()).strip()
    codes = np.frombuffer(normal.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < GRAM:
        return np.empty(0, dtype=np.uint64)
    count = len(codes) - GRAM + 1
    hashes = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(GRAM):
            hashes = (hashes ^ codes[place : place + count]) * _MULTIPLIER
            hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def containment(held_out: Grams, text: Grams) -> float:
    """Share (0 to 1) of the held-out text's grams that stand in the other text; 0 for a held-out text without grams."""
    if not len(held_out):
        return 0.0
    return float(np.isin(held_out, text, assume_unique=True).mean())


class HeldOutTexts:
    """Finds the held-out text that a text comes closest to, if it contains at least `least` of its grams.

    Few texts are indexed by all of their grams, so that counting hits is the measure itself. Of many, only the rarest grams are
    looked up, and what they find is measured: a text that holds the share `least` of n grams holds one of any
    n - ceil(least * n) + 1 of them (Chaudhuri, Ganti and Kaushik 2006, "A Primitive Operator for Similarity Joins in Data
    Cleaning", prefix filter). Both are exact. Memory: about 20 bytes per gram of the held-out texts.
    """

    def __init__(self, texts: Iterable[str], least: float) -> None:
        kept = {text: grams for text in dict.fromkeys(texts) if len(grams := grams_of(text)) >= MINIMUM_GRAMS}
        self.texts = tuple(kept)
        self.least = least
        self._grams = list(kept.values())
        self._sizes = np.array([len(grams) for grams in self._grams], dtype=np.int64)
        self._whole = len(kept) <= FEW_TEXTS
        keys = self._grams if self._whole else _rarest(self._grams, least)
        joined = np.concatenate(keys) if keys else np.empty(0, dtype=np.uint64)
        owners = np.repeat(np.arange(len(keys), dtype=np.int32), [len(one) for one in keys])
        order = np.argsort(joined, kind="stable")
        self._keys = joined[order]
        self._owners = owners[order]

    def closest(self, text: str) -> tuple[str, float] | None:
        """The held-out text of highest containment and that share, None where none reaches the bound."""
        if not len(self._keys):
            return None
        grams = grams_of(text)
        starts = np.searchsorted(self._keys, grams, side="left")
        ends = np.searchsorted(self._keys, grams, side="right")
        lengths = ends - starts
        if not lengths.any():
            return None
        # All positions of all hits, without a Python loop over grams.
        offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
        owners = self._owners[offsets + np.arange(lengths.sum())]
        if self._whole:
            shares = np.bincount(owners, minlength=len(self.texts)) / self._sizes
            best = int(np.argmax(shares))
            share = float(shares[best])
        else:
            measured = [(containment(self._grams[owner], grams), -owner) for owner in np.unique(owners).tolist()]
            share, negative = max(measured)
            best = -negative
        return (self.texts[best], share) if share >= self.least else None


def _rarest(grams: list[Grams], least: float) -> list[Grams]:
    """Of each text the grams that the fewest others have, as many as the prefix filter needs."""
    unique, counts = np.unique(np.concatenate(grams), return_counts=True)
    result = []
    for one in grams:
        rarity = counts[np.searchsorted(unique, one)]
        needed = int(np.ceil(least * len(one)))
        if (needed - 1) / len(one) >= least:  # the product was rounded up: 0.55 * 100 is above 55
            needed -= 1
        result.append(one[np.argsort(rarity, kind="stable")[: len(one) - needed + 1]])
    return result
