"""Each fault of a system message has its reason; paraphrase passes, an ignored wish does not."""

import pytest

from services.composition.validation import (
    compare_system_messages,
    coverage,
    judge_form,
    judge_role,
    judge_system_message,
)
from shared.domain.checks import canonical_sentence, validate_check
from shared.domain.jobs import ComposeParameters
from shared.domain.rows import Preference
from shared.domain.stems import content_stems
from shared.domain.system_forms import Shape

CHECK = validate_check("maximum_words", {"words": 120})
SENTENCE = canonical_sentence(CHECK)
PREFERENCES = [
    Preference("style", "warmth", "gentle tone", "The answer speaks gently and encourages hesitant gardeners.", "warm"),
    Preference(
        "depth", "detail", "few steps", f"Only the essential pruning steps appear. {SENTENCE}", "brief", "", CHECK
    ),
]
INSTRUCTION = "How do I prune an old apple tree that has not been cut for many years?"
PARAMETERS = ComposeParameters(minimum_characters=60, maximum_characters=600)
GOOD = (
    "You are a patient orchard keeper who speaks with a gentle voice and keeps encouraging people who hesitate. You show the "
    f"essential steps of pruning and leave the rest for another day. {SENTENCE}"
)


def _reason(text: str) -> str | None:
    fault = judge_system_message(text, PREFERENCES, INSTRUCTION, PARAMETERS)
    return fault.reason if fault else None


def test_a_paraphrase_of_all_wishes_passes() -> None:
    assert _reason(GOOD) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("You are kind.", "length_out_of_range"),
        (GOOD + " again" * 100, "length_out_of_range"),
        (GOOD.replace(SENTENCE, "Keep it below 120 words."), "missing_check_sentence"),
        (f"{GOOD} {canonical_sentence(validate_check('maximum_words', {'words': 80}))}", "foreign_check"),
        (f"Sure, here it is. {GOOD}", "answer_leaked"),
        (f"Here is the message: {GOOD}", "answer_leaked"),
        (f"{GOOD}\n```python\nprint(1)\n```", "answer_leaked"),
        (f"{GOOD}\nAnswer: cut in winter.", "answer_leaked"),
        (
            f"You are a patient orchard keeper with a gentle, encouraging voice for those who hesitate. {SENTENCE}",
            "preference_missing",
        ),
        (f"{GOOD} {INSTRUCTION}", "restates_task"),
    ],
)
def test_each_fault_has_its_reason(text: str, reason: str) -> None:
    assert _reason(text) == reason


def test_short_instructions_may_appear_by_chance() -> None:
    assert judge_system_message(f"{GOOD} Apple tree pruning.", PREFERENCES, "Apple tree pruning", PARAMETERS) is None


def test_coverage_leaves_out_function_words_and_the_check_sentence() -> None:
    stems = content_stems("essential pruning steps appear")
    assert coverage(PREFERENCES[1], stems) == 1.0
    assert coverage(PREFERENCES[1], content_stems("nothing alike")) == 0.0
    assert coverage(Preference("a", "b", "c", "It is so.", "d"), frozenset()) == 1.0


def test_siblings_must_differ() -> None:
    fault = compare_system_messages(GOOD, ["Something else entirely.", GOOD])
    assert fault is not None
    assert fault.reason == "similar_system_message"
    assert compare_system_messages(GOOD, ["Write in the manner of a stern judge who quotes statutes."]) is None


PROSE = "You write for a careful reader: plain words help. " * 4


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        (PROSE, "prose", None),
        (PROSE, "paragraphs", "wrong_form"),
        (PROSE, "bullets", "wrong_form"),
        (PROSE, "numbered", "wrong_form"),
        (PROSE, "labelled", "wrong_form"),
        (f"{PROSE[:100]}\n\n{PROSE[:100]}", "paragraphs", None),
        (f"Keep to this:\n- {PROSE[:90]}\n- {PROSE[:90]}", "bullets", None),
        (f"Keep to this:\n- {PROSE[:90]}\n- {PROSE[:90]}", "prose", "wrong_form"),
        (f"1. {PROSE[:90]}\n2) {PROSE[:90]}", "numbered", None),
        (f"1. {PROSE[:90]}\n2) {PROSE[:90]}", "paragraphs", "wrong_form"),
        (f"Reader: {PROSE[:90]}\n**What helps:** {PROSE[:90]}", "labelled", None),
        (f"Who they are: {PROSE}", "labelled", "wrong_form"),
    ],
)
def test_the_shape_that_was_asked_for_must_show(text: str, shape: Shape, reason: str | None) -> None:
    fault = judge_form(text, shape, 200, 100, 4)
    assert (fault.reason if fault else None) == reason


@pytest.mark.parametrize(
    ("characters", "target", "described", "reason"),
    [
        (99, 200, 0, "length_off_target"),
        (100, 200, 0, None),
        (400, 200, 0, None),
        (401, 200, 0, "length_off_target"),
        (900, 200, 600, None),
        (901, 200, 600, "length_off_target"),
    ],
)
def test_the_length_must_be_aimed_at(characters: int, target: int, described: int, reason: str | None) -> None:
    fault = judge_form("x" * characters, "prose", target, described, 4)
    assert (fault.reason if fault else None) == reason


def test_a_role_must_stand_in_the_message() -> None:
    role = "a bicycle mechanic with a shop of her own"
    assert judge_role("You are a bicycle mechanic who runs her own shop. You explain gently.", role) is None
    fault = judge_role("You are a patient gardener who explains gently.", role)
    assert fault is not None
    assert fault.reason == "role_missing"
