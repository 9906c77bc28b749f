"""Gives every curated instruction its split, its level and the number of its draw, before any preference exists."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shared.domain.identifiers import seed_of
from shared.domain.jobs import JobSpec
from shared.domain.rows import HARMFUL_INTENT_TAG, InstructionRow
from shared.domain.splits import (
    Split,
    SplitLevel,
    available_levels,
    held_out_sources,
    hold_out,
    is_test,
)
from shared.domain.taxonomy import Taxonomy

SPLITS_SCHEMA_VERSION = "splits/1"

_Kind = tuple[bool, bool]
"""Whether a row is in the taxonomy's language, and whether it is tagged as harmful: one kind is drawn from one catalogue."""


class Splitter:
    """Give it the rows in their order; what it says of a row depends on those before it alone."""

    def __init__(self, taxonomy: Taxonomy, spec: JobSpec, sources: Mapping[str, int]) -> None:
        """`sources`: how many of the instructions each source holds, by the name that `source_of` gives."""
        self._parameters = spec.splits
        self._seed = spec.seed
        self._language = taxonomy.language
        self.held_out = hold_out(taxonomy, spec.splits, spec.seed)
        self.sources = held_out_sources(sorted(sources.items()), spec.splits, spec.seed)
        self._levels = available_levels(self.held_out, spec.augment.unseen_set_sizes)
        self._position = 0
        self._tests = 0
        self._draws: Counter[tuple[_Kind, str]] = Counter()
        self.counts: Counter[tuple[str, str]] = Counter()

    def place(self, row: InstructionRow, source: str) -> None:
        """Set `split`, `level` and `draw` of the row."""
        unseen_source = source in self.sources
        if unseen_source:
            test = True
        else:
            test = is_test(self._position, self._parameters.test_share, self._seed)
            self._position += 1
        kind = (row.language == self._language, HARMFUL_INTENT_TAG in row.tags)
        row.split = Split.TEST if test else Split.TRAIN
        row.level = self._next_level(kind).value if test else ""
        if row.level == SplitLevel.SEEN:
            row.draw = seed_of(self._seed, "twin", row.row_id) % self._draws[kind, ""]
        else:
            row.draw = self._draws[kind, row.level]
            self._draws[kind, row.level] += 1
        self.counts[row.split, row.level] += 1

    def _next_level(self, kind: _Kind) -> SplitLevel:
        """One of the levels that came least so far, by seed. A row of level `seen` shares the draw of a training row before it,
        so that level waits until there is one."""
        self._tests += 1
        possible = [level for level in self._levels if level is not SplitLevel.SEEN or self._draws[kind, ""]]
        return min(
            possible or [SplitLevel.UNSEEN_COMBINATION],
            key=lambda level: (self.counts[Split.TEST, level], seed_of(self._seed, "level", self._tests, level)),
        )

    def as_json(self) -> dict[str, Any]:
        """What is held out, and how many instructions have each split and level."""
        return {
            "schema_version": SPLITS_SCHEMA_VERSION,
            "parameters": self._parameters.model_dump(mode="json"),
            "held_out": {**self.held_out.as_json(), "sources": sorted(self.sources)},
            "instructions": [
                {
                    "split": split,
                    "level": level,
                    "code": SplitLevel(level).code if level else "",
                    "instructions": count,
                }
                for (split, level), count in sorted(self.counts.items(), reverse=True)
            ],
        }


def source_of(row: InstructionRow) -> str:
    """The source that is held out as a whole: the data set and the source within it."""
    return row.main_source if row.original_source == row.main_source else f"{row.main_source} / {row.original_source}"
