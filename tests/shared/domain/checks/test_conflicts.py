"""Which pairs of checks exclude each other."""

import pytest
from hypothesis import given

from shared.domain.checks import Check, conflict, first_conflict, validate_check
from tests.shared.domain.checks.strategies import any_check


def check(kind: str, value: object) -> Check:
    names = {"format": "format", "language": "language", "sentence_count_at_most": "sentences", "must_include": "phrases",
             "must_include_one": "phrases",
             "must_avoid": "phrases", "starts_with": "phrase", "ends_with": "phrase", "reading_level_at_most": "grade",
             "reading_level_at_least": "grade"}  # fmt: skip
    return validate_check(kind, {names.get(kind, "words"): value})


CLASHES = [
    (("maximum_words", 100), ("minimum_words", 101)),
    (("sentence_count_at_most", 2), ("minimum_words", 200)),
    (("reading_level_at_most", 6), ("reading_level_at_least", 7)),
    (("maximum_sentence_words", 5), ("reading_level_at_least", 16)),
    (("format", "numbered_list"), ("format", "plain_prose")),
    (("format", "json"), ("format", "headings")),
    (("format", "bullet_list"), ("sentence_count_at_most", 1)),
    (("format", "json"), ("starts_with", "Short answer:")),
    (("must_include", ["for example", "why"]), ("must_avoid", ["example"])),
    (("starts_with", "In short"), ("must_avoid", ["short"])),
    (("ends_with", "Good luck!"), ("must_avoid", ["!"])),
    (("starts_with", "one two three four"), ("maximum_words", 3)),
    (("must_include", ["my view is", "on the one hand"]), ("maximum_words", 6)),
    (("starts_with", "one two three four five six seven"), ("maximum_sentence_words", 5)),
    (("ends_with", "Short. But this sentence goes on and on"), ("maximum_sentence_words", 5)),
    (("format", "bullet_list"), ("maximum_words", 1)),
    (("format", "table"), ("must_avoid", ["!", "|"])),
    (("format", "table"), ("must_avoid", ["-"])),
    (("format", "table"), ("must_avoid", ["｜"])),
    (("format", "headings"), ("must_avoid", ["very", "#"])),
    (("format", "numbered_list"), ("must_avoid", [")", "."])),
    (("format", "bullet_list"), ("must_avoid", list("-*+•▪◦‣–"))),
    (("starts_with", "Hello"), ("starts_with", "Good morning")),
    (("ends_with", "Bye"), ("ends_with", "See you")),
    (("language", "fr"), ("language", "de")),
    (("language", "fr"), ("reading_level_at_most", 6)),
    (("language", "ja"), ("must_include", ["for example"])),
    (("must_include_one", ["for example", "an example"]), ("must_avoid", ["example"])),
    (("must_include_one", ["one two three", "four five six"]), ("maximum_words", 2)),
    (("must_include_one", ["short", "in short"]), ("must_avoid", ["short"])),
]
PEACE = [
    (("maximum_words", 100), ("minimum_words", 100)),
    (("sentence_count_at_most", 10), ("minimum_words", 200)),
    (("reading_level_at_most", 8), ("reading_level_at_least", 7)),
    (("format", "numbered_list"), ("format", "headings")),
    (("format", "json"), ("starts_with", "{")),
    (("format", "headings"), ("maximum_words", 3)),
    (("format", "table"), ("must_avoid", ["!"])),
    (("format", "bullet_list"), ("must_avoid", ["-"])),
    (("format", "numbered_list"), ("must_avoid", ["."])),
    (("format", "headings"), ("must_avoid", ["|", "-"])),
    (("format", "plain_prose"), ("must_avoid", ["#"])),
    (("must_include", ["?"]), ("maximum_sentence_words", 5)),
    (("must_include", ["on the one hand", "the one hand washes"]), ("maximum_words", 5)),
    (("ends_with", "That is it. Good luck to you"), ("maximum_sentence_words", 5)),
    (("must_include", ["artful"]), ("must_avoid", ["art"])),
    (("starts_with", "In short"), ("starts_with", "In short, yes")),
    (("language", "fr"), ("must_include", ["en bref"])),
    (("must_include_one", ["for example", "say"]), ("must_avoid", ["example"])),
    (("must_include_one", ["one two three", "four"]), ("maximum_words", 2)),
    (("must_include_one", ["a", "b"]), ("must_include_one", ["c", "d"])),
    (("language", "en"), ("reading_level_at_most", 6)),
    (("maximum_words", 100), ("language", "fr")),
]


@pytest.mark.parametrize(("a", "b"), CLASHES)
def test_clash_is_found_from_both_sides(a: tuple[str, object], b: tuple[str, object]) -> None:
    assert conflict(check(*a), check(*b))
    assert conflict(check(*b), check(*a))


@pytest.mark.parametrize(("a", "b"), PEACE)
def test_what_fits_together_is_let_through(a: tuple[str, object], b: tuple[str, object]) -> None:
    assert conflict(check(*a), check(*b)) is None
    assert conflict(check(*b), check(*a)) is None


@given(any_check, any_check)
def test_conflict_is_symmetric(a: Check, b: Check) -> None:
    assert (conflict(a, b) is None) == (conflict(b, a) is None)


@given(any_check)
def test_no_check_conflicts_with_itself(a: Check) -> None:
    assert conflict(a, a) is None


def test_first_conflict_looks_at_all_pairs() -> None:
    peaceful = [check("maximum_words", 50), check("language", "en"), check("must_avoid", ["!"])]
    assert first_conflict(peaceful) is None
    assert first_conflict([*peaceful, check("minimum_words", 60)]) == "at most 50 words and at least 60"
