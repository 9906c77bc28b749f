"""Benches as the api reads them: items out of the store, and beside each what its reviewers said."""

import asyncio
import builtins
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from services.api.datasets import Recent
from services.api.local_objects import LocalObjects, ObjectReference
from services.api.problems import Problem
from shared.artifacts.tables import read_rows
from shared.bench_layout.files import BenchContents, read_bench_file
from shared.domain.benches import Outcome, item_id, outcome_of
from shared.domain.rows import Facet, InstructionRow
from shared.metadata.tables import Artifact, Bench, BenchReview, UploadedFile

_KEPT_BENCHES = 8
"""Benches whose items stay in memory."""


class BenchItemOf(msgspec.Struct, frozen=True):
    """One item in its place, from 0, with what each reviewer decided."""

    id: str
    position: int
    row: InstructionRow
    facet: Facet
    reviews: tuple[BenchReview, ...] = ()

    @property
    def outcome(self) -> Outcome:
        return outcome_of(review.decision for review in self.reviews)

    def outcome_by(self, reviewer: str | None) -> Outcome:
        """What this reviewer said; of None, what all of them said together."""
        if reviewer is None:
            return self.outcome
        return outcome_of(review.decision for review in self.reviews if review.reviewer == reviewer)


class ReviewedBench(msgspec.Struct, frozen=True):
    """A bench with all its items, in the order of its files, and the lines of an uploaded file that are none."""

    bench: Bench
    contents: BenchContents
    items: list[BenchItemOf]

    @classmethod
    def of(cls, bench: Bench, contents: BenchContents, reviews: Sequence[BenchReview]) -> "ReviewedBench":
        """Reviews of items that are not there, of an earlier form of the bench, are left out."""
        by_item: dict[str, builtins.list[BenchReview]] = {}
        for review in reviews:
            by_item.setdefault(review.item_id, []).append(review)
        items: builtins.list[BenchItemOf] = []
        for row in contents.rows:
            for facet in row.facets:
                identifier = item_id(row.row_id, facet.index)
                items.append(BenchItemOf(identifier, len(items), row, facet, tuple(by_item.get(identifier, ()))))
        return cls(bench, contents, items)

    def find(self, identifier: str) -> BenchItemOf | None:
        return next((item for item in self.items if item.id == identifier), None)

    def chosen(self, outcome: Outcome | None, reviewer: str | None = None) -> "builtins.list[BenchItemOf]":
        """The items with that outcome (all for None), as this reviewer or as all of them together see it."""
        return [item for item in self.items if outcome is None or item.outcome_by(reviewer) is outcome]

    def counts(self, reviewer: str | None = None) -> dict[Outcome, int]:
        """How many items have which outcome."""
        found = Counter(item.outcome_by(reviewer) for item in self.items)
        return {outcome: found[outcome] for outcome in Outcome}

    @property
    def reviewers(self) -> "builtins.list[str]":
        return sorted({review.reviewer for item in self.items for review in item.reviews})

    @property
    def rows_without_dropped(self) -> "builtins.list[InstructionRow]":
        """What is asked of the bench, and exported: rows with the facets that no review dropped."""
        kept: dict[str, InstructionRow] = {}
        for item in self.items:
            if item.outcome is Outcome.DROPPED:
                continue
            row = kept.setdefault(item.row.row_id, msgspec.structs.replace(item.row, facets=[]))
            row.facets.append(item.facet)
        return list(kept.values())


class BenchReader:
    """Reads the items of benches, which never change; those read last are kept."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self._kept = Recent[BenchContents](_KEPT_BENCHES)

    async def contents(self, held: Artifact | UploadedFile, pointer: str) -> BenchContents:
        """The items that an object holds. Raises ObjectNotFound where its bytes are gone, and InputRefused at `pointer` for an
        uploaded file that is in another layout."""
        key = (held.sha256, held.name)
        known = self._kept.get(key)
        if known is not None:
            return known
        reference = ObjectReference(held.key, held.sha256, held.size)
        async with self._objects.local(reference) as path:
            contents = await asyncio.to_thread(partial(_read, path, held, pointer))
        self._kept.put(key, contents)
        return contents


def _read(path: Path, held: Artifact | UploadedFile, pointer: str) -> BenchContents:
    if isinstance(held, Artifact):
        return BenchContents(read_rows(path), [])
    return read_bench_file(path, held.name, pointer)


def bench_gone(bench_id: str) -> Problem:
    """410 for a bench whose items nobody has any more."""
    return Problem(410, "bench_gone", f"the items of bench {bench_id} are gone; make it again")
