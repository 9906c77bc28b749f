"""Benches: what is registered of one, how its items are called, which items it takes, and what a review of them says."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from shared.domain.rows import Facet, Rubric


class BenchRegistration(msgspec.Struct, frozen=True):
    """What a stage `bench` tells of what it kept. `rows` are instructions, `items` instructions under one preference set each."""

    name: str
    rows: int
    items: int
    teacher: str | None = None
    """`provider/model` that wrote the rubrics."""


BENCH_ROWS_FILE = "bench-rows.parquet"
"""Pipeline rows of a bench, whole, as the stage `bench` keeps them."""
BENCH_FILE = "bench.jsonl"
"""The same in the released layout of the Multifaceted Bench; beside it lies `bench.parquet`."""


def item_id(row_id: str, facet_index: int) -> str:
    """How one item of a bench is called."""
    return f"{row_id}:{facet_index}"


LEVELS = 5
"""Scores that a rubric describes, from 1."""
MINIMUM_REFERENCE_CHARACTERS = 10
"""Letters, digits and marks of a reference answer, white space apart, below which it shows nobody what a good answer is. A
reference of one character is a known defect of the released Multifaceted Bench."""


class BenchFault(msgspec.Struct, frozen=True):
    """Why an item is not taken. `reason` is a short stable code that is counted, `detail` is for people."""

    reason: str
    detail: str


def why_incomplete(facet: Facet) -> BenchFault | None:
    """What an item of a bench lacks; None for one that can be asked and graded.

    Reasons: `no_preferences`, `no_system_message`, `no_rubrics`, `bad_rubric` (not one per preference, no criterion, not five
    different levels), `no_reference`, `short_reference`.
    """
    if not facet.preferences:
        return BenchFault("no_preferences", "there is no preference to grade by")
    if not (facet.system or "").strip():
        return BenchFault("no_system_message", "there is no system message that says what the person wants")
    if not facet.rubrics:
        return BenchFault("no_rubrics", "there is no rubric to grade on")
    if len(facet.rubrics) != len(facet.preferences):
        return BenchFault(
            "bad_rubric",
            f"there are {len(facet.rubrics)} rubrics for {len(facet.preferences)} preferences; one each is needed",
        )
    for number, rubric in enumerate(facet.rubrics):
        if wrong := _wrong_with(rubric):
            return BenchFault("bad_rubric", f"rubric {number + 1}: {wrong}")
    reference = "".join((facet.response or "").split())
    if not reference:
        return BenchFault("no_reference", "the reference answer is empty")
    if len(reference) < MINIMUM_REFERENCE_CHARACTERS:
        return BenchFault(
            "short_reference",
            f"the reference answer has {len(reference)} characters, white space apart; at least {MINIMUM_REFERENCE_CHARACTERS} "
            "are needed to show what a good answer is",
        )
    return None


def _wrong_with(rubric: Rubric) -> str:
    if not rubric.criterion.strip():
        return "its criterion is empty"
    if len(rubric.levels) != LEVELS:
        return f"it has {len(rubric.levels)} levels; {LEVELS} are needed"
    levels = [" ".join(level.split()).casefold() for level in rubric.levels]
    if not all(levels):
        return f"level {levels.index('') + 1} is empty"
    for number, level in enumerate(levels):
        if level in levels[:number]:
            return f"levels {levels.index(level) + 1} and {number + 1} say the same"
    return ""


class Decision(StrEnum):
    """What one reviewer says of one item."""

    KEEP = "keep"
    DROP = "drop"


class Outcome(StrEnum):
    """What all reviewers together say of one item."""

    KEPT = "kept"
    DROPPED = "dropped"
    UNDECIDED = "undecided"
    """Nobody has decided; the item is asked like one that is kept."""


def outcome_of(decisions: Iterable[str]) -> Outcome:
    """An item is dropped when more reviewers say drop than keep: a tie keeps it."""
    said = list(decisions)
    if not said:
        return Outcome.UNDECIDED
    drops = said.count(Decision.DROP)
    return Outcome.DROPPED if drops > len(said) - drops else Outcome.KEPT


def outcomes(decisions: Iterable[tuple[str, str]]) -> dict[str, Outcome]:
    """The outcome of each item that somebody decided about, from (item id, decision) of every reviewer."""
    said: dict[str, list[str]] = {}
    for item, decision in decisions:
        said.setdefault(item, []).append(decision)
    return {item: outcome_of(all_of) for item, all_of in said.items()}
