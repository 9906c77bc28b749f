"""Each fault of a set has its reason, and a good set passes."""

from typing import Any

import pytest

from services.augmentation.answers import PreferenceAnswer
from services.augmentation.catalogue import build_catalogue
from services.augmentation.sampler import SetAssignment
from services.augmentation.validation import compare_sets, judge_set
from shared.domain.checks import canonical_sentence, validate_check
from shared.domain.rows import Preference
from tests.support.taxonomies import small_taxonomy

SEEDS = {seed.name: seed for seed in build_catalogue(small_taxonomy()).seeds}
ASSIGNMENT = SetAssignment(
    0, tuple(SEEDS[name] for name in ("style one low a", "depth two low a", "tone two high a", "care one low a"))
)
INSTRUCTION = "Please explain to me how a tide gauge in a small harbour works over the year"
SENTENCE = canonical_sentence(validate_check("maximum_words", {"words": 60}))


def _answers(**changes: dict[str, Any]) -> list[PreferenceAnswer]:
    answers = []
    for seed in ASSIGNMENT.seeds:
        body: dict[str, Any] = {
            "dimension": seed.dimension,
            "subdimension": seed.subdimension,
            "preference": f"calm {seed.dimension} wording",
            "description": f"Measurements around {seed.dimension} come across in a settled way.",
            "fits": True,
        }
        answers.append(PreferenceAnswer.model_validate({**body, **changes.get(seed.dimension, {})}))
    return answers


def _reason(answers: list[PreferenceAnswer]) -> str | None:
    verdict = judge_set(ASSIGNMENT, answers, INSTRUCTION)
    assert (verdict.fault is None) == bool(verdict.preferences)
    return verdict.fault.reason if verdict.fault else None


def test_a_good_set_keeps_order_pole_seed_and_check() -> None:
    made = judge_set(ASSIGNMENT, list(reversed(_answers())), INSTRUCTION).preferences
    assert [preference.seed_name for preference in made] == [seed.name for seed in ASSIGNMENT.seeds]
    assert [preference.pole for preference in made] == [seed.pole for seed in ASSIGNMENT.seeds]
    assert made[0].check == validate_check("maximum_words", {"words": 60})


def test_a_check_sentence_that_was_left_out_is_added_once() -> None:
    made = judge_set(ASSIGNMENT, _answers(), INSTRUCTION).preferences
    assert made[0].description == f"Measurements around style come across in a settled way. {SENTENCE}"
    given = f"Measurements come across in a settled way. {SENTENCE}"
    made = judge_set(ASSIGNMENT, _answers(style={"description": given}), INSTRUCTION).preferences
    assert made[0].description == given


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"subdimension": "depth one"}, "malformed_preference"),
        ({"preference": "  "}, "malformed_preference"),
        ({"preference": "calm, cool"}, "malformed_preference"),
        ({"preference": "calm; cool"}, "malformed_preference"),
        ({"preference": "a very long row of words that has no end in sight at all"}, "malformed_preference"),
        ({"preference": "x" * 81}, "malformed_preference"),
        ({"description": "Too short."}, "malformed_preference"),
        ({"description": "word " * 121}, "malformed_preference"),
        ({"fits": False}, "preference_does_not_fit"),
        ({"preference": "Depth two HIGH"}, "wrong_pole"),
        ({"preference": "depth two high a"}, "wrong_pole"),
        (
            {"description": "Explain to me how a tide gauge in a small harbour works over the year."},
            "restates_instruction",
        ),
        ({"description": f"Measurements come in detail. {SENTENCE}"}, "set_contradiction"),
    ],
)
def test_each_fault_has_its_reason(change: dict[str, Any], reason: str) -> None:
    assert _reason(_answers(depth=change)) == reason


def test_slots_are_answered_exactly_once() -> None:
    answers = _answers()
    assert _reason(answers[:3]) == "malformed_preference"
    assert _reason([*answers, answers[0]]) == "malformed_preference"
    assert _reason(
        [*answers, PreferenceAnswer(dimension="other", subdimension="", preference="", description="", fits=True)]
    ) == ("malformed_preference")
    assert _reason([]) == "malformed_preference"


def test_unfit_slots_are_named_by_seed() -> None:
    verdict = judge_set(ASSIGNMENT, _answers(tone={"fits": False}, care={"fits": False}), INSTRUCTION)
    assert verdict.unfit == {SEEDS["tone two high a"].number, SEEDS["care one low a"].number}


def _preference(description: str, keywords: str = "calm") -> Preference:
    return Preference("style", "style one", keywords, description, "style one low")


def test_sets_with_the_same_keywords_are_duplicates() -> None:
    one, other = [_preference("The text is calm and slow.")], [_preference("Lively wording all the way.", "Calm")]
    fault = compare_sets(one, [other], 0.5, [])
    assert fault is not None
    assert fault.reason == "duplicate_set"


def test_descriptions_above_the_similarity_are_too_alike() -> None:
    one = [_preference("The harbour is described with many calm words.", "calm")]
    other = [_preference("The harbour is described with many lively words.", "lively")]
    fault = compare_sets(one, [other], 0.5, [])
    assert fault is not None
    assert fault.reason == "similar_set"
    assert compare_sets(one, [other], 0.95, []) is None


def test_check_sentences_do_not_count_as_similarity() -> None:
    longer = canonical_sentence(validate_check("maximum_words", {"words": 70}))
    one = [_preference(f"Brevity before everything else here. {SENTENCE}", "brief")]
    other = [_preference(f"Lean phrases suit busy harbour staff. {longer}", "lean")]
    assert compare_sets(one, [other], 0.3, []) is not None
    assert compare_sets(one, [other], 0.3, [SENTENCE, longer]) is None
