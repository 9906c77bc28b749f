"""Hypothesis strategies for machine checks: every kind, all its parameters."""

from hypothesis import strategies as st

from shared.domain.checks import Check, validate_check
from shared.domain.checks.answer_language import LANGUAGE_NAMES
from shared.domain.checks.layout import SENTENCES


def _fit(value: str) -> bool:
    try:
        validate_check("starts_with", {"phrase": value})
    except ValueError:
        return False
    return True


any_phrase = st.one_of(
    st.sampled_from(
        ["for example", "!", "?", "don't", "例えば", "Write at least 5 words.", "a, b and c", "C++", "naïve", "{"]
    ),
    st.text(
        st.characters(exclude_characters='"', exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=80
    ),
).filter(_fit)
_phrase_lists = st.lists(any_phrase, min_size=1, max_size=8, unique_by=str.casefold)
_alternatives = st.lists(any_phrase, min_size=2, max_size=8, unique_by=str.casefold)
_numbers = st.integers(1, 100_000)
_grades = st.integers(1, 18)


def _checks(kind: str, name: str, values: st.SearchStrategy[object]) -> st.SearchStrategy[Check]:
    return values.map(lambda value: validate_check(kind, {name: value}))


BY_KIND: dict[str, st.SearchStrategy[Check]] = {
    "maximum_words": _checks("maximum_words", "words", _numbers),
    "minimum_words": _checks("minimum_words", "words", _numbers),
    "sentence_count_at_most": _checks("sentence_count_at_most", "sentences", _numbers),
    "maximum_sentence_words": _checks("maximum_sentence_words", "words", _numbers),
    "format": _checks("format", "format", st.sampled_from(sorted(SENTENCES))),
    "reading_level_at_most": _checks("reading_level_at_most", "grade", _grades),
    "reading_level_at_least": _checks("reading_level_at_least", "grade", _grades),
    "must_include": _checks("must_include", "phrases", _phrase_lists),
    "must_include_one": _checks("must_include_one", "phrases", _alternatives),
    "must_avoid": _checks("must_avoid", "phrases", _phrase_lists),
    "starts_with": _checks("starts_with", "phrase", any_phrase),
    "ends_with": _checks("ends_with", "phrase", any_phrase),
    "language": _checks("language", "language", st.sampled_from(sorted(LANGUAGE_NAMES))),
}
any_check = st.sampled_from(sorted(BY_KIND)).flatmap(BY_KIND.__getitem__)
