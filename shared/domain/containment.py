"""Does a text come close to a held-out one? By the share of the held-out text's character 5-grams that stand in it."""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

GRAM = 5
MINIMUM_GRAMS = 20
"""Shorter texts have too few grams to say anything."""
FEW_TEXTS = 256
HITS_SHARE = 8
"""Of the grams that a text must hold, one in so many must be seen among the rarest before it is looked at more closely."""
WORDS = 64
"""Of 64 bits, in a bit map of grams."""
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
    if not len(held_out) or not len(text):
        return 0.0
    places = np.searchsorted(text, held_out)
    places[places == len(text)] = 0
    return float((text[places] == held_out).mean())


class HeldOutTexts:
    """Finds the held-out text that a text comes closest to, if it contains at least `least` of its grams.

    Few texts are indexed by all of their grams, so that counting hits is the measure itself. Of many, the rarest grams are
    looked up, and what they find is measured: a text that holds the share `least` of n grams holds k of any
    n - ceil(least * n) + k of them (Chaudhuri, Ganti and Kaushik 2006, "A Primitive Operator for Similarity Joins in Data
    Cleaning", prefix filter, for k = 1). Before it is measured, a bit map of its grams tells of some that are missing for
    certain. Both ways are exact. Memory: about 25 bytes per gram of the held-out texts, and 512 bytes per text.
    """

    def __init__(self, texts: Iterable[str], least: float) -> None:
        kept = {text: grams for text in dict.fromkeys(texts) if len(grams := grams_of(text)) >= MINIMUM_GRAMS}
        self.texts = tuple(kept)
        self.least = least
        self._grams = list(kept.values())
        self._sizes = np.array([len(grams) for grams in self._grams], dtype=np.int64)
        self._whole = len(kept) <= FEW_TEXTS
        self._needed = np.array([_needed(len(grams), least) for grams in self._grams], dtype=np.int64)
        self._hits = np.maximum(self._needed // HITS_SHARE, 1)
        self._bits = np.array([_bits_of(grams) for grams in self._grams], dtype=np.uint64).reshape(-1, WORDS)
        keys = self._grams if self._whole else self._rarest()
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
        lengths = np.searchsorted(self._keys, grams, side="right") - starts
        if not lengths.any():
            return None
        # All positions of all hits, without a Python loop over grams.
        offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
        hits = np.bincount(self._owners[offsets + np.arange(lengths.sum())], minlength=len(self.texts))
        if self._whole:
            shares = hits / self._sizes
            best = int(np.argmax(shares))
            share = float(shares[best])
        else:
            found = np.flatnonzero(hits >= self._hits)
            missing = np.bitwise_count(self._bits[found] & ~_bits_of(grams)).sum(axis=1, dtype=np.int64)
            found = found[missing <= self._sizes[found] - self._needed[found]]
            if not len(found):
                return None
            share, negative = max((containment(self._grams[owner], grams), -owner) for owner in found.tolist())
            best = -negative
        return (self.texts[best], share) if share >= self.least else None

    def _rarest(self) -> list[Grams]:
        """Of each text the grams that the fewest others have, as many as the filter needs to see the hits that it asks for."""
        unique, counts = np.unique(np.concatenate(self._grams), return_counts=True)
        result = []
        for grams, needed, hits in zip(self._grams, self._needed, self._hits, strict=True):
            rarity = counts[np.searchsorted(unique, grams)]
            result.append(grams[np.argsort(rarity, kind="stable")[: len(grams) - needed + hits]])
        return result


def _needed(grams: int, least: float) -> int:
    """The smallest number of so many grams that is the share `least` of them or more; one at least."""
    needed = int(np.ceil(least * grams))
    if (needed - 1) / grams >= least:  # the product was rounded up: 0.55 * 100 is above 55
        needed -= 1
    return max(needed, 1)


def _bits_of(grams: Grams) -> npt.NDArray[np.uint64]:
    """A bit map of the grams: a bit that is set here and not there stands for a gram that is missing there."""
    bits = np.zeros(WORDS * 64, dtype=np.bool_)
    bits[grams % np.uint64(WORDS * 64)] = True
    return np.packbits(bits).view(np.uint64)
