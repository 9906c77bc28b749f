"""Canonical sentences and their inverse, over all kinds and parameters."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.checks import CHECK_KINDS, Check, canonical_sentence, evaluate, find_checks, validate_check
from tests.shared.domain.checks.strategies import BY_KIND, any_check


def test_every_kind_is_covered_by_the_strategies() -> None:
    assert set(BY_KIND) == set(CHECK_KINDS)


@given(any_check)
def test_a_sentence_gives_back_exactly_its_check(check: Check) -> None:
    assert find_checks(canonical_sentence(check)) == [check]


@given(
    st.lists(any_check, max_size=5),
    st.sampled_from(["", "You are a patient tutor. ", "Be kind; ", 'They said "so".\n']),
)
def test_checks_are_found_inside_prose_in_order_and_once(checks: list[Check], opening: str) -> None:
    prose = (
        opening + " Explain the reasons well. ".join(canonical_sentence(check) for check in checks) + "\n\nThat is all."
    )
    unique = [check for position, check in enumerate(checks) if check not in checks[:position]]
    assert find_checks(prose) == unique


@given(any_check, any_check)
def test_different_checks_have_different_sentences(a: Check, b: Check) -> None:
    assert (canonical_sentence(a) == canonical_sentence(b)) == (a == b)


@given(st.text(max_size=400))
def test_what_is_found_in_any_text_stands_there_verbatim(text: str) -> None:
    for check in find_checks(text):
        assert canonical_sentence(check) in text


@pytest.mark.parametrize(
    "text",
    [
        "Keep the answer to at most 0 words.",
        "Keep the answer to at most 012 words.",
        "Keep the answer to at most 1 words.",
        "Keep the answer to at most 999999 words.",
        "keep the answer to at most 20 words.",
        "Keep the answer to at most 20 words",
        "Rewrite at least 20 words.",
        "xWrite at least 20 words.",
        "Write at a reading level of grade 19 or lower.",
        "Write the whole answer in Klingon.",
        'Include the phrases "a" in the answer.',
        'Include the phrase "a", "b" in the answer.',
        'Include the phrase " a" in the answer.',
        'Include the phrases "a" and "A" in the answer.',
        'Include one of the phrases "a" in the answer.',
        'Include one of the phrases "a" and "b" in the answer.',
        'Include one of the phrases "a" or "A" in the answer.',
    ],
)
def test_a_sentence_that_only_resembles_one_gives_nothing(text: str) -> None:
    assert find_checks(text) == []


@given(any_check, st.text(max_size=300))
def test_every_check_judges_every_text(check: Check, text: str) -> None:
    assert evaluate(check, text).outcome in {"pass", "fail", "not_applicable"}


@given(any_check, st.sampled_from(["", " ", "\n\t\u3000"]))
def test_an_empty_text_earns_nothing(check: Check, text: str) -> None:
    assert evaluate(check, text).outcome == "fail"


@pytest.mark.parametrize(
    "text",
    ["a" * 10_000, "`" * 20_000, "| " * 10_000, "- " * 10_000, "*" * 20_000, "1. " * 10_000, '"' * 20_000, ". " * 10_000,
     "a-" * 10_000, "|-" * 10_000, "```\n" * 5_000, "{" * 20_000, "(" * 20_000, "\ud800" * 1000, "\x00" * 1000,
     'Include the phrase "' * 5_000, "word word " * 5_000],
    ids=lambda text: ascii(text[:6]),
)  # fmt: skip
def test_long_hostile_texts_are_judged_by_every_kind(text: str) -> None:
    examples = [
        ("maximum_words", {"words": 10}),
        ("minimum_words", {"words": 10}),
        ("sentence_count_at_most", {"sentences": 2}),
        ("maximum_sentence_words", {"words": 5}),
        *(
            ("format", {"format": name})
            for name in ("numbered_list", "bullet_list", "plain_prose", "json", "table", "headings")
        ),
        ("reading_level_at_most", {"grade": 6}),
        ("must_include", {"phrases": ["absent words"]}),
        ("must_include_one", {"phrases": ["absent words", "missing words"]}),
        ("must_avoid", {"phrases": ["absent words"]}),
        ("starts_with", {"phrase": "Absent"}),
        ("ends_with", {"phrase": "absent"}),
        ("language", {"language": "fr"}),
    ]
    outcomes = [evaluate(validate_check(kind, parameters), text).outcome for kind, parameters in examples]
    assert set(outcomes) <= {"pass", "fail", "not_applicable"}
    of_phrases = dict(zip([kind for kind, _ in examples], outcomes, strict=True))
    assert of_phrases["must_include"] == of_phrases["must_include_one"] == "fail"
    # A text of nothing but code has no words to avoid.
    assert of_phrases["must_avoid"] == ("not_applicable" if set(text) <= set("`\n") else "pass")
    assert of_phrases["starts_with"] == of_phrases["ends_with"] == "fail"
    assert find_checks(text) == []


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("longest_word", {}, "unknown check kind 'longest_word'; known: maximum_words"),
        ("maximum_words", {}, "the parameter `words` is missing"),
        ("maximum_words", {"words": 5, "limit": 6}, "unknown parameter limit"),
        ("maximum_words", {"words": 0}, "between 1 and 100000, seen: 0"),
        ("maximum_words", {"words": "12"}, "must be a whole number, seen: '12'"),
        ("maximum_words", {"words": True}, "must be a whole number, seen: True"),
        ("minimum_words", {"words": 2.5}, "must be a whole number"),
        ("reading_level_at_most", {"grade": 19}, "between 1 and 18"),
        ("format", {"format": "poem"}, "must be one of numbered_list"),
        ("language", {"language": "tlh"}, "must be one of ar"),
        ("must_include", {"phrases": []}, "1 to 8 phrases, seen: 0"),
        ("must_include", {"phrases": "word"}, "must be a list of phrases"),
        ("must_include", {"phrases": ["a", "A"]}, "names a phrase twice"),
        ("must_include_one", {"phrases": ["alone"]}, "2 alternatives at least, seen: ['alone']"),
        ("must_include_one", {"phrases": ["a", "A"]}, "names a phrase twice"),
        ("must_avoid", {"phrases": ['say "hi"']}, "must not contain a double quote"),
        ("must_avoid", {"phrases": ["two  spaces"]}, "single spaces only"),
        ("starts_with", {"phrase": ""}, "1 to 80 characters, seen: 0"),
        ("ends_with", {"phrase": "\u200b"}, "no visible character"),
        ("ends_with", {"phrase": "a\x07b"}, "control character"),
    ],
)
def test_unfit_parameters_are_refused_with_what_was_seen(
    kind: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        validate_check(kind, parameters)


def test_a_check_from_elsewhere_is_validated_before_use() -> None:
    with pytest.raises(ValueError, match="unknown parameter"):
        evaluate(Check("maximum_words", {"limit": 5}), "some text")
    with pytest.raises(ValueError, match="unknown check kind"):
        canonical_sentence(Check("rhymes", {}))
