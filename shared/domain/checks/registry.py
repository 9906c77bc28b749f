"""All kinds of machine checks, and what can be asked of a check."""

from collections.abc import Mapping

from shared.domain.checks.answer_language import LANGUAGE
from shared.domain.checks.kind import CheckKind
from shared.domain.checks.layout import FORMAT
from shared.domain.checks.length import (
    MAXIMUM_SENTENCE_WORDS,
    MAXIMUM_WORDS,
    MINIMUM_WORDS,
    SENTENCE_COUNT_AT_MOST,
)
from shared.domain.checks.outcome import CheckOutcome
from shared.domain.checks.phrases import ENDS_WITH, MUST_AVOID, MUST_INCLUDE, MUST_INCLUDE_ONE, STARTS_WITH
from shared.domain.checks.reading_level import READING_LEVEL_AT_LEAST, READING_LEVEL_AT_MOST
from shared.domain.rows import Check

CHECK_KINDS: dict[str, CheckKind] = {
    kind.name: kind
    for kind in (
        MAXIMUM_WORDS,
        MINIMUM_WORDS,
        SENTENCE_COUNT_AT_MOST,
        MAXIMUM_SENTENCE_WORDS,
        FORMAT,
        READING_LEVEL_AT_MOST,
        READING_LEVEL_AT_LEAST,
        MUST_INCLUDE,
        MUST_INCLUDE_ONE,
        MUST_AVOID,
        STARTS_WITH,
        ENDS_WITH,
        LANGUAGE,
    )
}

NECESSARY_KINDS = frozenset({"must_avoid", "starts_with", "ends_with"})
"""Kinds whose check an answer can pass that knows nothing of the wish: a word is absent by chance, and one phrase at an edge says
nothing of the rest. Failing them shows that the wish is not followed; passing them does not show that it is."""

_PHRASE_KINDS = frozenset({"must_include", "must_include_one", "must_avoid", "starts_with", "ends_with"})
_LANGUAGE_BOUND_KINDS = frozenset({"language", "reading_level_at_most", "reading_level_at_least"})


def _kind(name: str) -> CheckKind:
    kind = CHECK_KINDS.get(name)
    if kind is None:
        raise ValueError(f"unknown check kind {name!r}; known: {', '.join(CHECK_KINDS)}")
    return kind


def validate_check(kind: str, parameters: Mapping[str, object]) -> Check:
    """The check of that kind with those parameters. Raises ValueError for an unknown kind, a missing, unknown or unfit
    parameter."""
    try:
        return Check(kind, _kind(kind).validate(parameters))
    except ValueError as error:
        raise ValueError(f"check {kind!r}: {error}" if kind in CHECK_KINDS else str(error)) from None


def presumes_language(check: Check) -> bool:
    """Whether the check makes sense in texts of one language alone: phrases in words, reading levels, and the demand for a
    language itself."""
    if check.kind in _LANGUAGE_BOUND_KINDS:
        return True
    values = [value for value in check.parameters.values() if isinstance(value, str | list)]
    phrases = [phrase for value in values for phrase in ([value] if isinstance(value, str) else value)]
    return check.kind in _PHRASE_KINDS and any(character.isalpha() for phrase in phrases for character in phrase)


def canonical_sentence(check: Check) -> str:
    """The one sentence that states a check inside a system message. Raises ValueError for an unknown kind or unfit
    parameters."""
    kind = _kind(check.kind)
    return kind.sentence(kind.validate(check.parameters))


def evaluate(check: Check, text: str) -> CheckOutcome:
    """Whether a text satisfies a check. A text without a visible character fails every check: nothing is earned by saying
    nothing. Raises ValueError for an unknown kind or unfit parameters."""
    kind = _kind(check.kind)
    parameters = kind.validate(check.parameters)
    if not text.strip():
        return CheckOutcome("fail", "the text is empty")
    return kind.evaluate(parameters, text)


def find_checks(text: str) -> list[Check]:
    """Every check whose canonical sentence stands verbatim in a text, each once, in order of appearance.

    The exact inverse of `canonical_sentence`: a sentence that only resembles one gives nothing. A sentence that is quoted
    inside another (as a phrase to include) belongs to that one.
    """
    matches = [
        (match.start(), -match.end(), kind, match)
        for kind in CHECK_KINDS.values()
        for match in kind.pattern.finditer(text)
        if not match.start() or not (text[match.start() - 1].isalnum() or text[match.start() - 1] == "_")
    ]
    matches.sort(key=lambda item: item[:2])
    found: list[Check] = []
    end = 0
    for start, negative_end, kind, match in matches:
        if start < end:
            continue
        try:
            parameters = kind.validate(kind.read(match))
        except ValueError:
            continue
        if kind.sentence(parameters) != match[0]:
            continue
        end = -negative_end
        check = Check(kind.name, parameters)
        if check not in found:
            found.append(check)
    return found
