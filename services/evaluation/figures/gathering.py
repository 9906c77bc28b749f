"""Reading what the stages left: the rows of each, and which answers, preferences and checks they are about."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from shared.artifacts.tables import iterate_rows
from shared.domain.answers import AnswerParameters
from shared.domain.evaluations import BENCH, RUBRIC
from shared.domain.judged_answers import best_answer, judged_answers
from shared.domain.plan import COLLECTION_PLAN, SELECT
from shared.domain.prose import words
from shared.domain.rows import Facet, InstructionRow
from shared.stages.protocol import InputObject

ItemKey = tuple[str, int]
"""Row id and facet index."""

_BEFORE_ASKING = frozenset({stage.name for stage in COLLECTION_PLAN} | {SELECT, RUBRIC, BENCH})


class Item(msgspec.Struct, frozen=True):
    """One question: an instruction under one preference set."""

    row_id: str
    facet: int
    source: str
    level: str
    category: str
    suite: str
    """Name of the robustness suite that it is of; empty for any other question."""


class Answered(msgspec.Struct):
    """What one candidate answered: length of the answer that counts by item, and why others have none."""

    words: dict[ItemKey, int] = {}
    missing: Counter[str] = msgspec.field(default_factory=Counter)
    unasked: Counter[str] = msgspec.field(default_factory=Counter)
    """Facets that an earlier stage rejected, so that they never were a question, by reason."""
    items: dict[ItemKey, Item] = {}
    models: Counter[str] = msgspec.field(default_factory=Counter)


def rows_of(inputs: Sequence[InputObject], stage: str) -> Iterator[InstructionRow]:
    """The rows of a stage, part after part."""
    parts = sorted((item for item in inputs if item.stage == stage and item.name.startswith("part-")), key=_name)
    for part in parts:
        yield from iterate_rows(part.path)


def _name(item: InputObject) -> str:
    return item.name


def was_asked(facet: Facet) -> bool:
    """Whether the facet is a question: not where a stage before the answers rejected it, such as one without a rubric."""
    return facet.rejection is None or facet.rejection.stage not in _BEFORE_ASKING


def item_of(row: InstructionRow, facet: Facet) -> Item:
    """What a question is told by."""
    suite = next((tag.removeprefix("suite:") for tag in row.tags if tag.startswith("suite:")), "")
    return Item(row.row_id, facet.index, row.main_source, row.level, row.category, suite)


def gather_answers(inputs: Sequence[InputObject], answer: AnswerParameters) -> Answered:
    """What a candidate answered. A facet without an answer that counts is missing: by the reason of its rejection, or the
    fault of its answers."""
    found = Answered()
    for row in rows_of(inputs, answer.name):
        for facet in row.facets:
            key = (row.row_id, facet.index)
            if not was_asked(facet):
                found.unasked[_why_missing(facet)] += 1
                continue
            found.items[key] = item_of(row, facet)
            found.models.update(f"{one.provider}/{one.model}" for one in facet.provenance if one.stage == answer.name)
            positions = judged_answers(facet)
            if positions:
                lengths = [len(words(facet.answers[place].text)) for place in positions]
                found.words[key] = round(sum(lengths) / len(lengths))
            else:
                found.missing[_why_missing(facet)] += 1
    return found


def _why_missing(facet: Facet) -> str:
    if facet.rejection is not None:
        return facet.rejection.reason
    return next((answer.fault for answer in facet.answers if answer.fault), "no_answer")


def answer_text(facet: Facet) -> str | None:
    """The text that stands for a facet, None where there is none."""
    answer = best_answer(facet)
    return None if answer is None else answer.text


def by_frequency(counts: Counter[str]) -> list[dict[str, Any]]:
    """Names with their counts, the most frequent first, of equal ones by name."""
    return [{"name": name, "count": count} for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
