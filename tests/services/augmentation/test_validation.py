"""Each fault of a set has its reason, and a good set passes."""

from collections.abc import Sequence
from typing import Any

import pytest

from services.augmentation.answers import PreferenceAnswer
from services.augmentation.catalogue import build_catalogue
from services.augmentation.sampler import SetAssignment, Slot
from services.augmentation.validation import SetVerdict, TrainingGuard, compare_sets, judge_set
from shared.domain.checks import canonical_sentence, validate_check
from shared.domain.containment import HeldOutTexts
from shared.domain.rows import Preference
from shared.domain.splits import HeldOut
from tests.support.taxonomies import small_taxonomy

SEEDS = {seed.name: seed for seed in build_catalogue(small_taxonomy()).seeds}
CHOSEN = tuple(SEEDS[name] for name in ("style one low a", "depth two low a", "tone two high a", "care one low a"))
ASSIGNMENT = SetAssignment(0, tuple(Slot(seed.dimension, seed, "clear") for seed in CHOSEN))
KNOWN = {
    dimension.name: {part.name: [pole.name for pole in part.poles] for part in dimension.subdimensions}
    for dimension in small_taxonomy().dimensions
}
INSTRUCTION = "Please explain to me how a tide gauge in a small harbour works over the year"
SENTENCE = canonical_sentence(validate_check("maximum_words", {"words": 60}))


def _answers(**changes: dict[str, Any]) -> list[PreferenceAnswer]:
    answers = []
    for number, seed in enumerate(ASSIGNMENT.seeds):
        body: dict[str, Any] = {
            "slot": number,
            "dimension": seed.dimension,
            "subdimension": seed.subdimension,
            "pole": seed.pole,
            "preference": f"calm {seed.dimension} wording",
            "description": f"Measurements around {seed.dimension} come across in a settled way.",
            "fits": True,
        }
        answers.append(PreferenceAnswer.model_validate({**body, **changes.get(seed.dimension, {})}))
    return answers


def _judge(answers: Sequence[PreferenceAnswer | None]) -> SetVerdict:
    return judge_set(ASSIGNMENT, answers, INSTRUCTION, KNOWN)


def _reason(answers: Sequence[PreferenceAnswer | None]) -> str | None:
    verdict = _judge(answers)
    assert (verdict.fault is None) == bool(verdict.preferences)
    return verdict.fault.reason if verdict.fault else None


def test_a_good_set_keeps_order_pole_seed_and_check() -> None:
    made = _judge(_answers()).preferences
    assert [preference.seed_name for preference in made] == [seed.name for seed in ASSIGNMENT.seeds]
    assert [preference.pole for preference in made] == [seed.pole for seed in ASSIGNMENT.seeds]
    assert made[0].check == validate_check("maximum_words", {"words": 60})


def test_a_check_sentence_that_was_left_out_is_added_once() -> None:
    made = _judge(_answers()).preferences
    assert made[0].description == f"Measurements around style come across in a settled way. {SENTENCE}"
    given = f"Measurements come across in a settled way. {SENTENCE}"
    made = _judge(_answers(style={"description": given})).preferences
    assert made[0].description == given


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dimension": "style"}, "malformed_preference"),
        ({"subdimension": "depth one"}, "malformed_preference"),
        ({"preference": "  "}, "malformed_preference"),
        ({"preference": "calm, cool"}, "malformed_preference"),
        ({"preference": "calm; cool"}, "malformed_preference"),
        ({"preference": "calm + cool"}, "malformed_preference"),
        ({"preference": "brief and friendly"}, "malformed_preference"),
        ({"preference": "brief plus friendly plus warm"}, "malformed_preference"),
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


def test_two_things_joined_are_no_list_of_qualities() -> None:
    for keywords in ("semicolons and asides", "known and assumed kept apart", "brief and to the point"):
        assert _reason(_answers(depth={"preference": keywords})) is None


def test_every_slot_is_answered() -> None:
    assert _reason([*_answers()[:3], None]) == "malformed_preference"
    assert _reason([None] * 4) == "malformed_preference"


def _coined(**change: Any) -> SetVerdict:
    slots = (*ASSIGNMENT.slots[:3], Slot("care", None, "strong"))
    return judge_set(SetAssignment(0, slots), _answers(care={"fits": False, **change}), INSTRUCTION, KNOWN)


def test_a_coined_preference_finds_its_place_in_the_taxonomy_or_keeps_its_own_name() -> None:
    made = _coined(subdimension="Care-Two", pole="CARE TWO HIGH").preferences[3]
    assert (made.subdimension, made.pole, made.seed_name, made.intensity) == ("care two", "care two high", "", "strong")
    made = _coined(subdimension="Tone of voice!", pole="warm").preferences[3]
    assert (made.subdimension, made.pole, made.check) == ("tone of voice", "", None)
    assert _coined(subdimension="care two", pole="elsewhere").preferences[3].pole == ""


def test_a_coined_preference_has_a_name_and_a_subdimension_of_its_own() -> None:
    unnamed = _coined(subdimension=" - ").fault
    assert unnamed is not None
    assert unnamed.reason == "malformed_preference"
    repeated = judge_set(
        SetAssignment(0, (*ASSIGNMENT.slots[:3], Slot("tone", None, "mild"))),
        [*_answers()[:3], _answers(tone={"slot": 3, "pole": "tone two low"})[2]],
        INSTRUCTION,
        KNOWN,
    ).fault
    assert repeated is not None
    assert "two preferences of one set belong to 'tone two'" in repeated.detail


def test_the_guard_keeps_held_out_names_pairs_and_wordings_out_of_training() -> None:
    text = "The reader wants gentle irony that never turns against the people who are spoken about."
    pair = frozenset({("style one", "style one low"), ("depth two", "depth two low")})
    held_out = HeldOut(frozenset({"care one"}), frozenset({"Tide-side calm"}), frozenset({pair}))
    guard = TrainingGuard(held_out, HeldOutTexts([text], 0.6))
    style = Preference("style", "style one", "calm", "The text is calm and slow throughout the day.", "style one low")
    assert guard.fault([style], []) is None
    for other in (
        Preference("care", "care one", "k", "The text is kind to everybody involved.", "care one low"),
        Preference("depth", "depth two", "k", "The text goes down to the causes of things.", "depth two low"),
        Preference("tone", "own matter", "tide side  CALM", "The text is as slow as the sea.", ""),
        Preference("tone", "tide side calm", "k", "The text is as slow as the sea.", ""),
        Preference("tone", "tone one", "k", f"In this matter, {text[0].lower()}{text[1:]}", "tone one low"),
    ):
        fault = guard.fault([style, other], [])
        assert fault is not None
        assert fault.reason == "held_out_preference"


def test_unfit_slots_are_named_by_seed() -> None:
    verdict = _judge(_answers(tone={"fits": False}, care={"fits": False}))
    assert verdict.unfit == {SEEDS["tone two high a"].number, SEEDS["care one low a"].number}


def _preference(description: str, keywords: str = "calm") -> Preference:
    return Preference("style", "style one", keywords, description, "style one low")


def test_sets_with_the_same_keywords_are_duplicates() -> None:
    one, other = [_preference("The text is calm and slow.")], [_preference("Lively wording all the way.", "Calm")]
    fault = compare_sets(one, [other], 0.5, [])
    assert fault is not None
    assert fault.reason == "duplicate_set"


FAR_APART = ("Chapter and verse are quoted throughout.", "Nobody needs prior schooling here.")


def test_one_description_above_the_similarity_is_enough() -> None:
    one = [_preference("The harbour is described with many calm words.", "calm"), _preference(FAR_APART[0], "sourced")]
    other = [
        _preference("The harbour is described with many lively words.", "lively"),
        _preference(FAR_APART[1], "new"),
    ]
    fault = compare_sets(one, [other], 0.6, [])
    assert fault is not None
    assert fault.reason == "similar_set"
    assert compare_sets(one, [other], 0.95, []) is None


def test_a_set_whose_descriptions_are_close_on_average_is_a_copy() -> None:
    one = [_preference("The harbour is described with many calm words.", "calm")]
    other = [_preference("The harbour is shown with many lively words.", "lively")]
    fault = compare_sets(one, [other], 0.8, [])
    assert fault is not None
    assert fault.reason == "duplicate_set"


def test_a_set_must_not_say_the_same_twice() -> None:
    one = [
        _preference("The harbour is described with many calm words.", "calm"),
        _preference("The harbour is described with many lively words.", "lively"),
    ]
    fault = compare_sets(one, [], 0.6, [])
    assert fault is not None
    assert fault.reason == "repeated_preference"


def test_check_sentences_do_not_count_as_similarity() -> None:
    longer = canonical_sentence(validate_check("maximum_words", {"words": 70}))
    one = [_preference(f"Brevity before everything else here. {SENTENCE}", "brief")]
    other = [_preference(f"Lean phrases suit busy harbour staff. {longer}", "lean")]
    assert compare_sets(one, [other], 0.3, []) is not None
    assert compare_sets(one, [other], 0.3, [SENTENCE, longer]) is None
