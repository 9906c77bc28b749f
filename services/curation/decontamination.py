"""Removal of instructions that overlap with benchmarks: any run of n words in common (as for GPT-3, Brown et al. 2020).

A benchmark text shorter than n words cannot share such a run; an instruction is held against it as a whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services.curation.shingles import Hashes, ngram_hashes, word_hashes
from shared.domain.errors import InputRefused
from shared.sources.readers import BadRecord, detect_format, read_records

MINIMUM_WHOLE_WORDS = 4
"""Shorter benchmark texts (`Yes.`, `Paris`, labels, names of columns) match by chance and are left out."""

_CHUNK_TEXTS = 5000


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
    whole: bool
    """True where the instruction equals a short benchmark text, False where it shares runs of n words."""


class BenchmarkSummary(msgspec.Struct):
    """What was read of one benchmark. `texts` = `long_texts` + `short_texts` + `left_out`."""

    benchmark: str
    texts: int = 0
    long_texts: int = 0
    short_texts: int = 0
    left_out: int = 0
    grams: int = 0
    unreadable_rows: int = 0


class Decontamination:
    """The n-grams of all benchmarks, and the question whether an instruction shares one."""

    def __init__(self, files: Iterable[tuple[str, str, Path]], size: int) -> None:
        """`files`: (id, file name, path); `size`: words in a row that count as overlap. Raises InputRefused."""
        self.size = size
        self.summaries: list[BenchmarkSummary] = []
        self._texts: list[BenchmarkText] = []
        grams: list[Hashes] = []
        owners: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._whole: dict[bytes, int] = {}
        for position, (benchmark, name, path) in enumerate(files):
            pointer = f"/curate/decontaminate_against/{position}"
            summary = BenchmarkSummary(benchmark)
            self.summaries.append(summary)
            strings = _strings_of(path, name, pointer, summary)
            while chunk := list(islice(strings, _CHUNK_TEXTS)):
                words = word_hashes([text for _, _, text in chunk])
                lengths = np.diff(words.offsets)
                first = len(self._texts)
                self._texts += [
                    BenchmarkText(benchmark, row, field, sha256(text.encode()).hexdigest())
                    for row, field, text in chunk
                ]
                for short in np.flatnonzero((lengths < size) & (lengths >= MINIMUM_WHOLE_WORDS)).tolist():
                    self._whole.setdefault(words.of(short).tobytes(), first + short)
                runs = ngram_hashes(words, size)
                is_long = np.repeat(lengths >= size, np.diff(runs.offsets))
                owner = np.repeat(np.arange(first, first + len(chunk), dtype=np.int64), np.diff(runs.offsets))
                grams.append(runs.values[is_long])
                owners.append(owner[is_long])
                summary.texts += len(chunk)
                summary.long_texts += int((lengths >= size).sum())
                summary.left_out += int((lengths < MINIMUM_WHOLE_WORDS).sum())
                summary.grams += int(is_long.sum())
            summary.short_texts = summary.texts - summary.long_texts - summary.left_out
            if not summary.texts:
                raise InputRefused(f"the benchmark file {name!r} holds no text; give one with string fields", pointer)
        values = np.concatenate(grams) if grams else np.empty(0, dtype=np.uint64)
        self._grams, first_place = np.unique(values, return_index=True)  # the first text with a gram stands for it
        self._owners = np.concatenate(owners)[first_place] if owners else np.empty(0, dtype=np.int64)

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
                result.append(None if owner is None else Contamination(self._texts[owner], 1, whole=True))
        return result

    def _shared_runs(self, runs: Hashes) -> Contamination | None:
        positions = np.searchsorted(self._grams, runs)
        positions[positions == len(self._grams)] = 0
        hits = self._grams[positions] == runs if len(self._grams) else np.zeros(len(runs), dtype=bool)
        if not hits.any():
            return None
        owners, counts = np.unique(self._owners[positions[hits]], return_counts=True)
        return Contamination(self._texts[int(owners[counts.argmax()])], int(counts.sum()), whole=False)


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
