"""The robustness suites that the project carries: every row, its checks, and the example answers beside it."""

from collections import Counter

import pytest

from shared.domain.checks import CheckOutcome, canonical_sentence, evaluate, find_checks, validate_check
from shared.domain.checks.phrases import contains_phrase, phrases_of
from shared.domain.evaluations import RobustnessSuite
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.domain.taxonomy import default_taxonomy
from shared.robustness.suites import SuiteEntry, suite_entries, suite_rows

ENTRIES = [(suite, entry) for suite in RobustnessSuite for entry in suite_entries(suite)]
EVERY_ENTRY = pytest.mark.parametrize(
    ("suite", "entry"), ENTRIES, ids=[f"{suite}-{entry.row.source_row}" for suite, entry in ENTRIES]
)
FACTS, CONFLICTS, DRIFT = (suite_rows(suite) for suite in RobustnessSuite)
POLES = {
    (dimension.name, subdimension.name, pole.name)
    for dimension in default_taxonomy().dimensions
    for subdimension in dimension.subdimensions
    for pole in subdimension.poles
}


def outcomes(facet: Facet, text: str) -> list[CheckOutcome]:
    return [evaluate(check, text) for check in facet.checks]


@EVERY_ENTRY
def test_the_right_example_passes_every_check_and_the_wrong_one_fails_one(
    suite: RobustnessSuite, entry: SuiteEntry
) -> None:
    for facet in entry.row.facets:
        right, wrong = outcomes(facet, entry.right), outcomes(facet, entry.wrong)
        assert [one.outcome for one in right] == ["pass"] * len(facet.checks), (suite, right)
        assert "fail" in [one.outcome for one in wrong], (suite, wrong)


@EVERY_ENTRY
def test_rows_say_which_suite_they_are_of_and_carry_valid_checks(suite: RobustnessSuite, entry: SuiteEntry) -> None:
    row = entry.row
    assert (row.tags, row.split, row.language) == ([f"suite:{suite.value}"], "test", "en")
    assert row.category
    for index, facet in enumerate(row.facets):
        assert facet.index == index
        assert facet.checks == [validate_check(check.kind, check.parameters) for check in facet.checks] != []


@EVERY_ENTRY
def test_preferences_stand_on_poles_of_the_taxonomy(suite: RobustnessSuite, entry: SuiteEntry) -> None:
    for facet in entry.row.facets:
        assert bool(facet.system) is bool(facet.preferences), suite
        for wish in facet.preferences:
            assert (wish.dimension, wish.subdimension, wish.pole) in POLES


def test_no_two_rows_are_alike() -> None:
    rows = [entry.row for _, entry in ENTRIES]
    assert Counter(row.row_id for row in rows).most_common(1)[0][1] == 1
    said = Counter(text.casefold() for row in rows for text in (row.instruction, *row.turns))
    assert said.most_common(1)[0][1] == 1
    assert [row.source_row for row in FACTS] == list(range(len(FACTS)))


def test_rows_are_new_with_every_call() -> None:
    suite_rows(RobustnessSuite.FACTS)[0].facets.clear()
    assert len(suite_rows(RobustnessSuite.FACTS)[0].facets) == 3


def test_facts_are_asked_under_no_relevant_and_irrelevant_preferences() -> None:
    assert len(FACTS) >= 24
    assert {tuple(facet.system_form for facet in row.facets) for row in FACTS} == {("none", "relevant", "irrelevant")}
    assert all(row.facets[0].system is None and not row.facets[0].preferences for row in FACTS)
    people = [{wish_names(row.facets[place]) for row in FACTS} for place in (1, 2)]
    assert not people[0] & people[1]
    assert min(map(len, people)) >= 4


def wish_names(facet: Facet) -> tuple[str, ...]:
    return tuple(wish.preference for wish in facet.preferences)


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row.instruction)
def test_neither_question_nor_system_message_gives_the_answer_away(row: InstructionRow) -> None:
    assert row.facets[0].checks == row.facets[1].checks == row.facets[2].checks
    (check,) = row.facets[0].checks
    assert check.kind == ("must_include" if len(phrases_of(check.parameters)) == 1 else "must_include_one")
    for wanted in phrases_of(check.parameters):
        for text in (row.instruction, *(facet.system or "" for facet in row.facets)):
            assert not contains_phrase(text, wanted)


@pytest.mark.parametrize(("rows", "condition", "least"), [(CONFLICTS, "system", 20), (DRIFT, "kept", 12)])
def test_one_rule_stands_in_the_system_message_and_is_the_check(
    rows: list[InstructionRow], condition: str, least: int
) -> None:
    assert len(rows) >= least
    for row in rows:
        (facet,) = row.facets
        (check,) = facet.checks
        assert facet.system_form == condition
        assert row.category == check.kind
        assert find_checks(facet.system or "") == [check]
        assert (facet.system or "").endswith(canonical_sentence(check))
        (wish,) = facet.preferences
        assert isinstance(wish, Preference)
        assert wish.check == check
    assert len({row.category for row in rows}) >= 6


def test_conversations_have_four_to_six_turns_and_the_others_one() -> None:
    assert {4, 5, 6} == {1 + len(row.turns) for row in DRIFT}
    assert not any(row.turns for row in (*FACTS, *CONFLICTS))
