"""Removal of instructions that overlap with benchmarks: any run of n words in common (as for GPT-3, Brown et al. 2020).

A benchmark text shorter than n words cannot share such a run. From six words on, it is looked for as a whole within the
instructions, so that a greeting before it does not hide it; shorter ones match by chance, and only the whole instruction is
held against them.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from shared.domain.errors import InputRefused
from shared.overlap.shingles import FlatHashes, Hashes, ngram_hashes, subset, word_hashes
from shared.sources.readers import BadRecord, detect_format, read_records

MINIMUM_WHOLE_WORDS = 4
"""Shorter benchmark texts (`Yes.`, `Paris`, labels, names of columns) match by chance and are left out."""

MINIMUM_CONTAINED_WORDS = 6
"""Shorter benchmark texts (`What is the answer?`) stand in other instructions by chance."""

_CHUNK_TEXTS = 5000

MatchKind = Literal["runs", "whole", "contained"]
Owners = npt.NDArray[np.int64]


class BenchmarkText(msgspec.Struct, frozen=True):
    """One text of a benchmark: `benchmark` is the id of its file, `row` its row there, `field` where in the row."""

    benchmark: str
    row: int
    field: str
    sha256: str


class Contamination(msgspec.Struct, frozen=True):
    """An instruction's overlap: the text that shares most with it, and how many of its n-grams stand in benchmarks."""

    text: BenchmarkText
    grams: int
    match: MatchKind
    """`runs`: runs of n words in common; `whole`: equals a short benchmark text; `contained`: has one within it."""


class BenchmarkSummary(msgspec.Struct):
    """What was read of one benchmark. `texts` = `long_texts` + `short_texts` + `left_out`."""

    benchmark: str
    texts: int = 0
    long_texts: int = 0
    short_texts: int = 0
    sought_within: int = 0
    """Of the short texts, those long enough to be looked for within instructions."""
    left_out: int = 0
    grams: int = 0
    unreadable_rows: int = 0


class _Runs:
    """Runs of words with the benchmark text that each comes from. Where texts share a run, the first stands for it."""

    def __init__(self) -> None:
        self._parts: list[tuple[Hashes, Owners]] = []
        self._values: Hashes = np.empty(0, dtype=np.uint64)
        self._owners: Owners = np.empty(0, dtype=np.int64)

    def add(self, values: Hashes, owners: Owners) -> None:
        self._parts.append((values, owners))

    def close(self) -> None:
        """To be called between the last `add` and the first `owners_of`."""
        if self._parts:
            values, owners = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
            self._values, first = np.unique(values, return_index=True)
            self._owners = owners[first]
        self._parts = []

    def owners_of(self, runs: Hashes) -> Owners:
        """The number of the benchmark text of each run, -1 for a run that is in none."""
        if not len(self._values):
            return np.full(len(runs), -1, dtype=np.int64)
        positions = np.searchsorted(self._values, runs)
        positions[positions == len(self._values)] = 0
        return np.where(self._values[positions] == runs, self._owners[positions], -1)


class Decontamination:
    """The n-grams of all benchmarks, and the question whether an instruction shares one."""

    def __init__(self, files: Iterable[tuple[str, str, Path]], size: int) -> None:
        """`files`: (id, file name, path); `size`: words in a row that count as overlap. Raises InputRefused."""
        self.size = size
        self.summaries: list[BenchmarkSummary] = []
        self._texts: list[BenchmarkText] = []
        self._grams = _Runs()
        self._whole: dict[bytes, int] = {}
        self._beginnings = _Runs()
        self._lengths: set[int] = set()
        for position, (benchmark, name, path) in enumerate(files):
            pointer = f"/curate/decontaminate_against/{position}"
            summary = BenchmarkSummary(benchmark)
            self.summaries.append(summary)
            strings = _strings_of(path, name, pointer, summary)
            while chunk := list(islice(strings, _CHUNK_TEXTS)):
                words = word_hashes([text for _, _, text in chunk])
                first = len(self._texts)
                self._texts += [
                    BenchmarkText(benchmark, row, field, sha256(text.encode()).hexdigest())
                    for row, field, text in chunk
                ]
                self._take_long(words, first, summary)
                self._take_short(words, first, summary)
                summary.texts += len(chunk)
            summary.left_out = summary.texts - summary.long_texts - summary.short_texts
            if not summary.texts:
                raise InputRefused(f"the benchmark file {name!r} holds no text; give one with string fields", pointer)
        self._grams.close()
        self._beginnings.close()

    def _take_long(self, words: FlatHashes, first: int, summary: BenchmarkSummary) -> None:
        """Keep the runs of texts of n words and more; `first` is the number of the first of the texts."""
        chosen = np.flatnonzero(np.diff(words.offsets) >= self.size)
        runs = ngram_hashes(subset(words, chosen), self.size)
        self._grams.add(runs.values, np.repeat(chosen + first, np.diff(runs.offsets)))
        summary.long_texts += len(chosen)
        summary.grams += len(runs.values)

    def _take_short(self, words: FlatHashes, first: int, summary: BenchmarkSummary) -> None:
        """Keep shorter texts as wholes, and of those that are looked for within instructions the beginnings."""
        lengths = np.diff(words.offsets)
        chosen = np.flatnonzero((lengths >= MINIMUM_WHOLE_WORDS) & (lengths < self.size))
        for short in chosen.tolist():
            self._whole.setdefault(words.of(short).tobytes(), first + short)
        sought = chosen[lengths[chosen] >= MINIMUM_CONTAINED_WORDS]
        runs = ngram_hashes(subset(words, sought), MINIMUM_CONTAINED_WORDS)
        self._beginnings.add(runs.values[runs.offsets[:-1]], sought + first)
        self._lengths.update(lengths[sought].tolist())
        summary.short_texts += len(chosen)
        summary.sought_within += len(sought)

    def check(self, instructions: Sequence[str]) -> list[Contamination | None]:
        """The overlap of each instruction, None for a clean one."""
        words = word_hashes(instructions)
        runs = ngram_hashes(words, self.size)
        lengths = np.diff(words.offsets)
        result: list[Contamination | None] = []
        for index in range(len(instructions)):
            if lengths[index] >= self.size:
                result.append(self._shared_runs(runs.of(index)))
            else:
                owner = self._whole.get(words.of(index).tobytes())
                result.append(None if owner is None else Contamination(self._texts[owner], 1, "whole"))
        for index, owner in self._contained_in(words).items():
            result[index] = result[index] or Contamination(self._texts[owner], 1, "contained")
        return result

    def _shared_runs(self, runs: Hashes) -> Contamination | None:
        owners = self._grams.owners_of(runs)
        owners, counts = np.unique(owners[owners >= 0], return_counts=True)
        if not len(owners):
            return None
        return Contamination(self._texts[int(owners[counts.argmax()])], int(counts.sum()), "runs")

    def _contained_in(self, words: FlatHashes) -> dict[int, int]:
        """The short benchmark text within each instruction that has one: of several the longest, then the first there."""
        runs = ngram_hashes(words, MINIMUM_CONTAINED_WORDS)
        begins = np.flatnonzero(self._beginnings.owners_of(runs.values) >= 0)
        texts = np.searchsorted(runs.offsets, begins, side="right") - 1
        found: dict[int, tuple[int, int]] = {}
        for text, place in zip(texts.tolist(), (begins - runs.offsets[texts]).tolist(), strict=True):
            rest = words.of(text)[place:]
            for length in sorted(self._lengths, reverse=True):
                owner = self._whole.get(rest[:length].tobytes()) if length <= len(rest) else None
                if owner is not None and length > found.get(text, (0, 0))[0]:
                    found[text] = (length, owner)
        return {text: owner for text, (_, owner) in found.items()}


def _strings_of(path: Path, name: str, pointer: str, summary: BenchmarkSummary) -> Iterator[tuple[int, str, str]]:
    """(row, field, text) of every string in a benchmark file, at any depth. A `.txt` file has one text per line."""
    if Path(name).suffix.lower() == ".txt":
        yield from _lines_of(path, pointer, summary)
        return
    for record in read_records(path, detect_format(path, "auto", pointer), pointer):
        if isinstance(record, BadRecord):
            summary.unreadable_rows += 1
        else:
            for field, text in _walk(record.fields, ""):
                yield record.row, field, text


def _lines_of(path: Path, pointer: str, summary: BenchmarkSummary) -> Iterator[tuple[int, str, str]]:
    if not path.stat().st_size:
        raise InputRefused("the benchmark file is empty (0 bytes); give one with text", pointer)
    with path.open("rb") as file:
        for row, line in enumerate(file):
            try:
                text = line.decode().strip()
            except UnicodeDecodeError:
                summary.unreadable_rows += 1
                continue
            if text:
                yield row, "", text


def _walk(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _walk(item, f"{field}.{position}")
