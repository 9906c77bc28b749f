"""Near-duplicate removal: MinHash proposes, exact Jaccard decides, the first of a group stays.

Similarity is the Jaccard index of the sets of word 3-grams (Broder 1997, "On the resemblance and containment of
documents"); signs such as `+` and `<` count as words, because they tell one exercise from another. Candidates come from
banded MinHash signatures (rensa): a pair at the threshold is missed with a probability of at most 0.2%. A removed row is
always verified against a row that stays.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

from shared.overlap.shingles import (
    FlatHashes,
    Hashes,
    ngram_hashes,
    subset,
    unique_per_text,
    word_hashes,
    words_and_signs_of,
)

SHINGLE_WORDS = 3
PERMUTATIONS = 128
MISS_PROBABILITY = 0.002
CANDIDATES_PER_ROW = 512
"""Rows checked for one row, those with most bands in common first: bounds the work on masses of half-similar texts."""

_SIGNATURE_SEED = 42
_CHUNK_TEXTS = 10_000
_CHUNK_SIGNATURES = 20_000


class Match(msgspec.Struct, frozen=True):
    """Why a text goes: the index of the text that stays, and their Jaccard index."""

    kept: int
    similarity: float


def band_layout(threshold: float) -> tuple[int, int]:
    """(bands, signature rows per band): the longest bands that still miss a pair at `threshold` at most twice in 1,000."""
    rows = 1
    for candidate in range(2, PERMUTATIONS + 1):
        bands = PERMUTATIONS // candidate
        if (1 - threshold**candidate) ** bands > MISS_PROBABILITY:
            break
        rows = candidate
    return PERMUTATIONS // rows, rows


class NearDuplicates:
    """Takes texts in any number of portions, then names the near duplicates among them.

    Memory per text: 4 bytes per permutation, 8 per row with candidates. Shingles lie in a temporary file.
    """

    def __init__(self, threshold: float) -> None:
        """`threshold` in (0, 1]: Jaccard index from which two texts count as the same."""
        self.threshold = threshold
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="multifacet-shingles-")  # noqa: SIM115 (closed by `find`)
        self._lengths: list[npt.NDArray[np.int64]] = []

    def add(self, texts: Sequence[str]) -> None:
        """Append texts; they are numbered from 0 in the order of all calls."""
        for start in range(0, len(texts), _CHUNK_TEXTS):
            words = word_hashes(texts[start : start + _CHUNK_TEXTS], words_and_signs_of)
            sets = unique_per_text(ngram_hashes(words, SHINGLE_WORDS))
            self._file.write(sets.values.tobytes())
            self._lengths.append(np.diff(sets.offsets))

    def find(self) -> dict[int, Match]:
        """The texts to remove, by number. Deterministic; the first of equals stays. Closes the temporary file."""
        with self._file:
            if not self._lengths:
                return {}
            offsets = np.zeros(sum(map(len, self._lengths)) + 1, dtype=np.int64)
            np.cumsum(np.concatenate(self._lengths), out=offsets[1:])
            if offsets[-1] == 0:
                return {}
            self._file.flush()
            values = np.memmap(self._file, dtype=np.uint64, mode="r", shape=(int(offsets[-1]),))
            sets = FlatHashes(values, offsets)
            return _verify(sets, _buckets(sets, self.threshold), self.threshold)


def _signatures(sets: FlatHashes, permutations: int) -> "RMinHash":
    return RMinHash.digest_matrix_from_flat_token_hashes(
        sets.values, sets.offsets.astype(np.uint64), permutations, _SIGNATURE_SEED
    )


def _buckets(sets: FlatHashes, threshold: float) -> dict[int, list[tuple[int, int]]]:
    """Text number → its (band, key) buckets, for texts that share one with another text; texts ascend."""
    bands, rows = band_layout(threshold)
    # rensa says in one pass who has company at all; only those few need their signatures on this side
    index = RMinHashLSH(threshold, bands * rows, bands)
    flags = index.query_duplicate_flags_matrix_one_shot(_signatures(sets, bands * rows))
    company = np.flatnonzero(np.asarray(flags, dtype=bool) & (np.diff(sets.offsets) > 0))
    keys = np.empty((len(company), bands), dtype=np.uint64)
    for start in range(0, len(company), _CHUNK_SIGNATURES):
        chosen = company[start : start + _CHUNK_SIGNATURES]
        matrix = _signatures(subset(sets, chosen), bands * rows)
        signature = np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(chosen), bands, rows)
        keys[start : start + len(chosen)] = _band_keys(signature)
    members: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for band in range(bands):
        _, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        for position in np.flatnonzero(counts[inverse] > 1).tolist():
            members[int(company[position])].append((band, int(inverse[position])))
    return dict(sorted(members.items()))


def _band_keys(signature: npt.NDArray[np.uint32]) -> Hashes:
    """(texts, bands, rows) signatures → (texts, bands) keys. A rare collision costs one needless verification."""
    keys = np.zeros(signature.shape[:2], dtype=np.uint64)
    for row in range(signature.shape[2]):
        keys = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + signature[:, :, row]
    return keys


def _verify(sets: FlatHashes, buckets: dict[int, list[tuple[int, int]]], threshold: float) -> dict[int, Match]:
    @lru_cache(maxsize=8192)
    def shingles(text: int) -> frozenset[int]:
        return frozenset(sets.of(text).tolist())

    sizes = {text: int(sets.offsets[text + 1] - sets.offsets[text]) for text in buckets}
    removed: dict[int, Match] = {}
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)
    for text, own in buckets.items():
        shared = Counter(other for bucket in own for other in kept[bucket])
        mine = sizes[text]
        match = None
        for other, _ in _most_shared(shared):
            theirs = sizes[other]
            if theirs < threshold * mine or mine < threshold * theirs:
                continue  # sets of so different sizes cannot be that similar
            common = len(shingles(text) & shingles(other))
            similarity = common / (mine + theirs - common)
            if similarity >= threshold:
                match = Match(other, similarity)
                break
        if match is not None:
            removed[text] = match
        else:
            for bucket in own:
                kept[bucket].append(text)
    return removed


def _most_shared(shared: Counter[int]) -> list[tuple[int, int]]:
    """(text, shared bands) of the candidates worth a look: most bands first, then the earliest text."""
    return sorted(sorted(shared.items()), key=itemgetter(1), reverse=True)[:CANDIDATES_PER_ROW]
