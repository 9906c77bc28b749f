"""Checks of reading level: the Flesch-Kincaid grade of English prose."""

import re
from collections.abc import Mapping
from functools import cache, lru_cache

import pyphen

from shared.domain.checks.kind import CheckKind, Parameters, only, whole_number
from shared.domain.checks.outcome import CheckOutcome, not_applicable, passed_if
from shared.domain.language import detect_language
from shared.domain.prose import is_unspaced, sentences, words

LOWEST_GRADE = 1
HIGHEST_GRADE = 18
# Below this a single long word moves the grade by more than one.
MINIMUM_WORDS = 30
_LONGEST_WORD = 40
_CACHED_WORDS = 20_000
_G = r"([1-9]|1[0-8])"


@cache
def _hyphenation() -> pyphen.Pyphen:
    return pyphen.Pyphen(lang="en_US")


@lru_cache(maxsize=_CACHED_WORDS)
def syllables(word: str) -> int:
    """Syllables of an English word, at least 1: one more than the places where it may be hyphenated (pyphen, en_US)."""
    if len(word) > _LONGEST_WORD or not word.isascii():
        return 1
    dictionary = _hyphenation()
    if len(dictionary.hd.cache) > _CACHED_WORDS:
        # The library never forgets a word; a long stage would grow with its vocabulary.
        dictionary.hd.cache.clear()
    return len(dictionary.positions(word)) + 1


def reading_grade(text: str) -> float | None:
    """Flesch-Kincaid grade of the prose of an English text; None with fewer than 30 words.

    0.39 x words / sentences + 11.8 x syllables / words - 15.59. Source: Kincaid, Fishburne, Rogers and Chissom 1975,
    "Derivation of New Readability Formulas for Navy Enlisted Personnel", Research Branch Report 8-75. Numbers count as
    words of one syllable; code, headings and tables do not count.
    """
    parts = sentences(text)
    found = [word.lower() for sentence in parts for word in words(sentence)]
    if len(found) < MINIMUM_WORDS:
        return None
    count = sum(syllables(word) for word in found)
    return 0.39 * len(found) / len(parts) + 11.8 * count / len(found) - 15.59


def _measure(text: str) -> float | CheckOutcome:
    language = detect_language(text)
    if (language is not None and language[0] != "en") or is_unspaced(text):
        return not_applicable("not in English, for which alone the reading level is defined")
    grade = reading_grade(text)
    return not_applicable(f"fewer than {MINIMUM_WORDS} words of prose") if grade is None else round(grade, 1)


def _validate(parameters: Mapping[str, object]) -> Parameters:
    return {"grade": whole_number("grade", only(parameters, "grade"), LOWEST_GRADE, HIGHEST_GRADE)}


def _grade(parameters: Parameters) -> int:
    return whole_number("grade", parameters["grade"], LOWEST_GRADE, HIGHEST_GRADE)


def _at_most(parameters: Parameters, text: str) -> CheckOutcome:
    limit = _grade(parameters)
    grade = _measure(text)
    return grade if isinstance(grade, CheckOutcome) else passed_if(grade <= limit, f"grade {grade}, at most {limit}")


def _at_least(parameters: Parameters, text: str) -> CheckOutcome:
    limit = _grade(parameters)
    grade = _measure(text)
    return grade if isinstance(grade, CheckOutcome) else passed_if(grade >= limit, f"grade {grade}, at least {limit}")


READING_LEVEL_AT_MOST = CheckKind(
    name="reading_level_at_most",
    description="Flesch-Kincaid grade of English prose no higher than this.",
    validate=_validate,
    sentence=lambda parameters: f"Write at a reading level of grade {_grade(parameters)} or lower.",
    pattern=re.compile(rf"Write at a reading level of grade {_G} or lower\."),
    read=lambda match: {"grade": int(match[1])},
    evaluate=_at_most,
)
READING_LEVEL_AT_LEAST = CheckKind(
    name="reading_level_at_least",
    description="Flesch-Kincaid grade of English prose no lower than this.",
    validate=_validate,
    sentence=lambda parameters: f"Write at a reading level of grade {_grade(parameters)} or higher.",
    pattern=re.compile(rf"Write at a reading level of grade {_G} or higher\."),
    read=lambda match: {"grade": int(match[1])},
    evaluate=_at_least,
)
