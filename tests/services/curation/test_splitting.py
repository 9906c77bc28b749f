"""Every instruction has its split, level and draw from those before it alone."""

from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.curation.splitting import SPLITS_SCHEMA_VERSION, Splitter, source_of
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import JobSpec
from shared.domain.rows import HARMFUL_INTENT_TAG, InstructionRow
from shared.domain.splits import SplitLevel, hold_out
from shared.domain.taxonomy import default_taxonomy

TAXONOMY = default_taxonomy()
LEVELS = {level.value for level in SplitLevel}


def spec_of(seed: int = 0, **splits: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "sources": [{"bundled": "demo"}],
            "teacher": {"provider": "simulator", "model": "simulator-large"},
            "seed": seed,
            "splits": splits,
        }
    )


def row_of(number: int, source: str = "demo", language: str = "en", *, harmful: bool = False) -> InstructionRow:
    text = f"Instruction number {number}"
    tags = [HARMFUL_INTENT_TAG] if harmful else []
    return InstructionRow(row_id_of(text), text, "mix", source, number, language=language, tags=tags)


def place(rows: list[InstructionRow], spec: JobSpec) -> Splitter:
    splitter = Splitter(TAXONOMY, spec, Counter(map(source_of, rows)))
    for row in rows:
        splitter.place(row, source_of(row))
    return splitter


def placed(count: int, spec: JobSpec | None = None) -> list[InstructionRow]:
    rows = [row_of(number) for number in range(count)]
    place(rows, spec or spec_of())
    return rows


def told(row: InstructionRow) -> tuple[str, str, int]:
    return row.split, row.level, row.draw


KINDS = st.lists(
    st.tuples(st.sampled_from(["en", "en", "de"]), st.booleans(), st.sampled_from(["a", "b", "c"])), max_size=120
)


def of_kinds(kinds: list[tuple[str, bool, str]], first: int = 0) -> list[InstructionRow]:
    return [
        row_of(first + number, source, language, harmful=harmful)
        for number, (language, harmful, source) in enumerate(kinds)
    ]


def kind(row: InstructionRow) -> tuple[bool, bool]:
    return row.language == "en", bool(row.tags)


@given(st.integers(0, 2**53), st.integers(0, 400))
@settings(max_examples=30, deadline=None)
def test_levels_come_as_evenly_as_they_can(seed: int, count: int) -> None:
    rows = placed(count, spec_of(seed, test_share=0.5))
    counts = Counter(row.level for row in rows if row.split == "test")
    fewest = min((counts[level] for level in LEVELS), default=0)
    # A test row before any training row cannot be `seen`; that level is caught up with later.
    late = next((place for place, row in enumerate(rows) if row.split == "train"), 0)
    assert max(counts.values(), default=0) - fewest <= 1 + late


@given(KINDS, st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_draws_count_up_by_kind_and_level_and_a_twin_has_the_draw_of_a_row_before_it(
    kinds: list[tuple[str, bool, str]], seed: int
) -> None:
    rows = of_kinds(kinds)
    place(rows, spec_of(seed, test_share=0.4))
    given_out: Counter[tuple[tuple[bool, bool], str]] = Counter()
    for row in rows:
        if row.level == SplitLevel.SEEN:
            assert 0 <= row.draw < given_out[kind(row), ""]
            continue
        assert row.draw == given_out[kind(row), row.level]
        given_out[kind(row), row.level] += 1
        assert (row.level == "") == (row.split == "train")


@given(KINDS, KINDS, st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_appending_instructions_changes_nothing_for_those_before(
    kinds: list[tuple[str, bool, str]], more: list[tuple[str, bool, str]], seed: int
) -> None:
    # Whole sources are drawn by their share of the whole, so none is held out here.
    spec = spec_of(seed, sources=0, test_share=0.3)
    alone, longer = of_kinds(kinds), of_kinds([*kinds, *more])
    place(alone, spec)
    place(longer, spec)
    assert [told(row) for row in longer[: len(alone)]] == [told(row) for row in alone]


def test_a_held_out_source_is_all_in_test_and_takes_no_place_of_the_others() -> None:
    sources = ["rare" if number % 8 == 3 else "common" for number in range(400)]
    rows = [row_of(number, source) for number, source in enumerate(sources)]
    splitter = place(rows, spec_of())
    assert splitter.sources == {"mix / rare"}
    assert {row.split for row in rows if row.original_source == "rare"} == {"test"}
    common = [row for row in rows if row.original_source == "common"]
    assert 34 <= sum(row.split == "test" for row in common) <= 36
    alone = [row_of(row.source_row, "common") for row in common]
    place(alone, spec_of())
    assert [row.split for row in common] == [row.split for row in alone]
    assert {row.level for row in rows if row.original_source == "rare"} == LEVELS


def test_no_source_is_held_out_that_is_too_large_or_alone() -> None:
    halves = [row_of(number, "ab"[number % 2]) for number in range(60)]
    assert place(halves, spec_of()).sources == frozenset()
    assert place([row_of(number) for number in range(60)], spec_of(largest_source_share=1)).sources == frozenset()


def test_nothing_is_tested_where_nothing_is_held_out() -> None:
    rows = of_kinds([("en", False, source) for source in "aaaaaaaaab"])
    splitter = place(rows, spec_of(test_share=0))
    assert [told(row) for row in rows] == [("train", "", number) for number in range(10)]
    assert splitter.as_json()["held_out"]["sources"] == []


@pytest.mark.parametrize("harmful", [False, True])
def test_each_kind_of_row_has_draws_of_its_own(harmful: bool) -> None:
    plain, other = (
        (row_of(number) for number in range(2)),
        row_of(2, harmful=harmful, language="en" if harmful else "de"),
    )
    rows = [*plain, other]
    place(rows, spec_of(test_share=0))
    assert [row.draw for row in rows] == [0, 1, 0]


def test_splits_json_says_what_is_held_out_and_counts_every_instruction() -> None:
    sources = ["rare" if number % 8 == 3 else "common" for number in range(200)]
    rows = [row_of(number, source) for number, source in enumerate(sources)]
    spec = spec_of(5)
    told_of = place(rows, spec).as_json()
    assert set(told_of) == {"schema_version", "parameters", "held_out", "instructions"}
    assert told_of["schema_version"] == SPLITS_SCHEMA_VERSION
    assert told_of["parameters"] == spec.splits.model_dump(mode="json")
    held_out = hold_out(TAXONOMY, spec.splits, 5)
    assert told_of["held_out"] == held_out.as_json() | {"sources": ["mix / rare"]}
    assert told_of["held_out"]["seeds"] == sorted(held_out.seeds)
    counts = {(entry["split"], entry["level"]): entry["instructions"] for entry in told_of["instructions"]}
    assert counts == Counter((row.split, row.level) for row in rows)
    assert {entry["level"]: entry["code"] for entry in told_of["instructions"]} == {"": ""} | {
        level.value: level.code for level in SplitLevel
    }
    assert [split for split, _ in groupby(entry["split"] for entry in told_of["instructions"])] == ["train", "test"]


def test_a_source_is_named_by_its_data_set_and_what_stands_in_it() -> None:
    assert source_of(row_of(0, "bench")) == "mix / bench"
    assert source_of(row_of(0, "mix")) == "mix"
