"""Words and word n-grams of many texts as 64-bit hashes in flat arrays: the common ground of both overlap filters.

What counts as a word differs: for benchmark overlap signs are noise, for near duplicates `x + 5` is not `x - 5`.

Hashes do not depend on the process or the machine. Two different n-grams share a hash with probability 2^-64.
"""

import re
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from rensa import RMinHash

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Thai, Lao, Khmer, kana and Chinese characters: written without spaces, so each counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")

_ASCII_SIGNS = "-+*/<>=^%#!&|"
_SIGNS = rf"{_ASCII_SIGNS}\u00ac\u00b1\u00d7\u00f7\u2200-\u22ff"
"""Beyond ASCII: ¬ ± × ÷ and the block of mathematical operators, the real minus sign among them."""
_SIGN = re.compile(rf"[{_SIGNS}]")
_WORD_OR_SIGN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[{_SIGNS}]")
_MARKER = re.compile(r"^[ \t]*[-+*>#]+(?=[ \t])", re.MULTILINE)
"""Bullets, headings and quotes at the beginning of a line are layout."""
_LETTERS = r"[^\W\d_]{2}"
_NO_SIGN = re.compile(  # the sign comes first and what stands before it after it: then the search skips all other text
    rf"[-/!](?:(?<=[-/])(?:(?<={_LETTERS}.)(?=\w)|(?<=\w.)(?={_LETTERS}))"  # well-known, e-mail, 5-year, gpt-4, and/or
    rf"|(?<=-)(?:(?<={_LETTERS}.)(?=\s)|(?<={_LETTERS}\s.)(?=\s{_LETTERS}))"  # pre- and post-war; a dash - as here
    r"|(?<=!)(?<![\d)].)(?<!\b[^\W\d_].)(?![\w=(]))"  # an exclamation; but `5!`, `n!`, `!=` and `!x` are signs
)

_ASCII_SEPARATORS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_ASCII_SEPARATORS_AND_SIGNS = _ASCII_SEPARATORS | {ord(sign): f" {sign} " for sign in _ASCII_SIGNS}

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class FlatHashes(msgspec.Struct, frozen=True):
    """Hashes of several texts in one array: those of text i are `values[offsets[i]:offsets[i + 1]]`."""

    values: Hashes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, index: int) -> Hashes:
        return self.values[self.offsets[index] : self.offsets[index + 1]]


def words_of(text: str) -> list[str]:
    """Lower-case words of a text; punctuation separates and is dropped."""
    if text.isascii():  # the same words several times faster
        return text.lower().translate(_ASCII_SEPARATORS).split()
    return _WORD.findall(text.lower())


def words_and_signs_of(text: str) -> list[str]:
    """Words of a text, and as words of their own the signs that carry meaning: in `5x - 6`, `C++`, `a <= b`, `n!`, `10%`.

    Hyphens and slashes that join words, dashes, exclamation marks, and the markers of lists and headings are none.
    """
    if not _SIGN.search(text):
        return words_of(text)
    plain = _NO_SIGN.sub(" ", _MARKER.sub("", text)).lower()
    if plain.isascii():
        return plain.translate(_ASCII_SEPARATORS_AND_SIGNS).split()
    return _WORD_OR_SIGN.findall(plain.replace("\u2212", "-"))


def word_hashes(texts: Sequence[str], split: Callable[[str], list[str]] = words_of) -> FlatHashes:
    """Hashes of the words of each text, in order. `split` says what its words are."""
    rows = RMinHash.hash_token_sets([split(text) for text in texts])
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    values = np.fromiter((value for row in rows for value in row), dtype=np.uint64, count=int(lengths.sum()))
    return FlatHashes(values, _offsets(lengths))


def ngram_hashes(words: FlatHashes, size: int) -> FlatHashes:
    """Hashes of each run of `size` words, in order. A text with fewer words (but one) has a single run: all of them."""
    lengths = np.diff(words.offsets)
    runs = np.where(lengths >= size, lengths - size + 1, (lengths > 0).astype(np.int64))
    offsets = _offsets(runs)
    total = int(offsets[-1])
    # position of the first word of each run, and how many words it has
    text_of_run = np.repeat(np.arange(len(words), dtype=np.int64), runs)
    first = np.arange(total, dtype=np.int64) - offsets[text_of_run] + words.offsets[text_of_run]
    run_lengths = np.minimum(lengths, size)[text_of_run]
    result = np.full(total, size, dtype=np.uint64)
    for position in range(size):
        inside = position < run_lengths
        if inside.all():
            result = _combine(result, words.values[first + position])
        elif inside.any():
            result[inside] = _combine(result[inside], words.values[first[inside] + position])
    return FlatHashes(result, offsets)


def unique_per_text(hashes: FlatHashes) -> FlatHashes:
    """The set of hashes of each text, ascending."""
    if not len(hashes.values):
        return hashes
    text = np.repeat(np.arange(len(hashes), dtype=np.int64), np.diff(hashes.offsets))
    order = np.lexsort((hashes.values, text))
    values = hashes.values[order]
    keep = np.ones(len(values), dtype=bool)
    keep[1:] = (values[1:] != values[:-1]) | (text[1:] != text[:-1])
    lengths = np.bincount(text[keep], minlength=len(hashes)).astype(np.int64)
    return FlatHashes(values[keep], _offsets(lengths))


def subset(hashes: FlatHashes, chosen: npt.NDArray[np.int64]) -> FlatHashes:
    """The hashes of the chosen texts only, in the order of `chosen`."""
    lengths = hashes.offsets[chosen + 1] - hashes.offsets[chosen]
    offsets = _offsets(lengths)
    source = np.arange(int(offsets[-1]), dtype=np.int64) + np.repeat(hashes.offsets[chosen] - offsets[:-1], lengths)
    return FlatHashes(np.asarray(hashes.values[source]), offsets)


def _combine(state: Hashes, value: Hashes) -> Hashes:
    """Ordered mixing of one more word into a run's hash (the finaliser of splitmix64)."""
    mixed = state * _MULTIPLIER + value
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


def _offsets(lengths: npt.NDArray[np.int64]) -> Offsets:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
