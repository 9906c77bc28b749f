"""Which checks no text can satisfy together."""

from collections.abc import Callable, Iterable
from itertools import combinations

from shared.domain.checks.answer_language import LANGUAGE_NAMES, LATIN_SCRIPT
from shared.domain.checks.phrases import contains_phrase, phrases_of
from shared.domain.prose import fold, sentences, words
from shared.domain.rows import Check

# No readable sentence is longer than this, and no readable English averages more syllables a word.
LONGEST_SENTENCE_WORDS = 60
MOST_SYLLABLES_PER_WORD = 2.3

_COMPATIBLE_FORMATS = (
    frozenset({"table", "headings"}),
    frozenset({"numbered_list", "headings"}),
    frozenset({"bullet_list", "headings"}),
)

# Two items, a head and a cell, two headings with a line under one of them.
_FEWEST_WORDS = {"numbered_list": 2, "bullet_list": 2, "table": 2, "headings": 3}

# The marks of a format: of each group one at least stands in the answer. (A heading can also be underlined, but nobody who
# asks for Markdown headings means that, and no teacher writes it.)
_DRAWN_WITH: dict[str, tuple[str, ...]] = {
    "table": ("|", "-"),
    "headings": ("#",),
    "numbered_list": (".)",),
    "bullet_list": ("-*+•▪◦‣–",),
}


def _integer(check: Check, name: str) -> int:
    value = check.parameters[name]
    if not isinstance(value, int):
        raise ValueError(f"check {check.kind!r}: `{name}` must be a whole number, seen: {value!r}")
    return value


def _words_range(a: Check, b: Check) -> str | None:
    most, least = _integer(a, "words"), _integer(b, "words")
    return f"at most {most} words and at least {least}" if least > most else None


def _few_sentences_many_words(a: Check, b: Check) -> str | None:
    sentences, least = _integer(a, "sentences"), _integer(b, "words")
    if least > sentences * LONGEST_SENTENCE_WORDS:
        return f"at least {least} words do not fit into {sentences} readable sentences"
    return None


def _reading_range(a: Check, b: Check) -> str | None:
    most, least = _integer(a, "grade"), _integer(b, "grade")
    return f"reading level of grade {most} or lower and of grade {least} or higher" if least > most else None


def _short_sentences_high_level(a: Check, b: Check) -> str | None:
    longest, least = _integer(a, "words"), _integer(b, "grade")
    if 0.39 * longest + 11.8 * MOST_SYLLABLES_PER_WORD - 15.59 < least:
        return f"sentences of at most {longest} words cannot reach a reading level of grade {least}"
    return None


def _formats(a: Check, b: Check) -> str | None:
    pair = frozenset({str(a.parameters["format"]), str(b.parameters["format"])})
    if len(pair) == 1 or pair in _COMPATIBLE_FORMATS:
        return None
    return f"the answer cannot have the formats {' and '.join(sorted(pair))} at once"


def _format_and_sentences(a: Check, b: Check) -> str | None:
    wanted, most = str(a.parameters["format"]), _integer(b, "sentences")
    if wanted in ("numbered_list", "bullet_list") and most < 2:
        return "a list has at least two items, each at least one sentence, and only one sentence is allowed"
    return None


def _format_and_words(a: Check, b: Check) -> str | None:
    wanted, most = str(a.parameters["format"]), _integer(b, "words")
    least = _FEWEST_WORDS.get(wanted, 0)
    return f"the format {wanted} needs at least {least} words, and at most {most} are allowed" if least > most else None


def _format_and_avoid(a: Check, b: Check) -> str | None:
    wanted = str(a.parameters["format"])
    unwanted = {fold(entry) for entry in phrases_of(b.parameters)}
    for marks in _DRAWN_WITH.get(wanted, ()):
        if unwanted.issuperset(marks):
            seen = " or ".join(map(repr, marks))
            return f"the format {wanted} is drawn with {seen}, which must not stand in the answer"
    return None


def _json_and_edges(a: Check, b: Check) -> str | None:
    wanted, edge = str(a.parameters["format"]), str(b.parameters["phrase"])
    if wanted == "json" and not edge.startswith("{" if b.kind == "starts_with" else "}"):
        return f"a JSON object cannot begin or end with {edge!r}"
    return None


def _include_and_avoid(a: Check, b: Check) -> str | None:
    for wanted in _wanted(a):
        for unwanted in phrases_of(b.parameters):
            if contains_phrase(wanted, unwanted):
                return f"{wanted!r} must stand in the answer and {unwanted!r} must not"
    return None


def _wanted(check: Check) -> list[str]:
    return phrases_of(check.parameters) if check.kind == "must_include" else [str(check.parameters["phrase"])]


def _phrase_and_words(a: Check, b: Check) -> str | None:
    found = [words(fold(wanted)) for wanted in _wanted(a)]
    # Phrases may overlap, so that only words that differ add up.
    least = max(*map(len, found), len({word for part in found for word in part}))
    most = _integer(b, "words")
    return f"what must stand in the answer has {least} words, and at most {most} are allowed" if least > most else None


def _phrase_and_sentence_words(a: Check, b: Check) -> str | None:
    longest = max((len(words(part)) for wanted in _wanted(a) for part in sentences(wanted)), default=0)
    most = _integer(b, "words")
    if longest > most:
        return f"the phrase alone has a sentence of {longest} words, and at most {most} are allowed"
    return None


def _beginnings(a: Check, b: Check) -> str | None:
    one, other = fold(str(a.parameters["phrase"])), fold(str(b.parameters["phrase"]))
    return None if one.startswith(other) or other.startswith(one) else f"two beginnings: {one!r} and {other!r}"


def _endings(a: Check, b: Check) -> str | None:
    one, other = fold(str(a.parameters["phrase"])), fold(str(b.parameters["phrase"]))
    return None if one.endswith(other) or other.endswith(one) else f"two endings: {one!r} and {other!r}"


def _languages(a: Check, b: Check) -> str | None:
    one, other = str(a.parameters["language"]), str(b.parameters["language"])
    if one == other:
        return None
    return f"the whole answer cannot be in {LANGUAGE_NAMES[one]} and in {LANGUAGE_NAMES[other]}"


def _language_and_reading_level(a: Check, _b: Check) -> str | None:
    language = str(a.parameters["language"])
    if language != "en":
        return f"the reading level is defined for English only, and the answer must be in {LANGUAGE_NAMES[language]}"
    return None


def _language_and_phrases(a: Check, b: Check) -> str | None:
    language = str(a.parameters["language"])
    if language in LATIN_SCRIPT:
        return None
    for wanted in _wanted(b):
        if any(character.isascii() and character.isalpha() for character in wanted):
            return f"{wanted!r} is not written in the script of {LANGUAGE_NAMES[language]}, the language of the answer"
    return None


_RULES: dict[tuple[str, str], Callable[[Check, Check], str | None]] = {
    ("maximum_words", "minimum_words"): _words_range,
    ("sentence_count_at_most", "minimum_words"): _few_sentences_many_words,
    ("reading_level_at_most", "reading_level_at_least"): _reading_range,
    ("maximum_sentence_words", "reading_level_at_least"): _short_sentences_high_level,
    ("format", "format"): _formats,
    ("format", "sentence_count_at_most"): _format_and_sentences,
    ("format", "maximum_words"): _format_and_words,
    ("format", "must_avoid"): _format_and_avoid,
    ("format", "starts_with"): _json_and_edges,
    ("format", "ends_with"): _json_and_edges,
    ("must_include", "must_avoid"): _include_and_avoid,
    ("starts_with", "must_avoid"): _include_and_avoid,
    ("ends_with", "must_avoid"): _include_and_avoid,
    ("must_include", "maximum_words"): _phrase_and_words,
    ("starts_with", "maximum_words"): _phrase_and_words,
    ("ends_with", "maximum_words"): _phrase_and_words,
    ("must_include", "maximum_sentence_words"): _phrase_and_sentence_words,
    ("starts_with", "maximum_sentence_words"): _phrase_and_sentence_words,
    ("ends_with", "maximum_sentence_words"): _phrase_and_sentence_words,
    ("starts_with", "starts_with"): _beginnings,
    ("ends_with", "ends_with"): _endings,
    ("language", "language"): _languages,
    ("language", "reading_level_at_most"): _language_and_reading_level,
    ("language", "reading_level_at_least"): _language_and_reading_level,
    ("language", "must_include"): _language_and_phrases,
    ("language", "starts_with"): _language_and_phrases,
    ("language", "ends_with"): _language_and_phrases,
}


def conflict(a: Check, b: Check) -> str | None:
    """Why no answer can satisfy both checks; None where nothing speaks against it. Symmetric in whether there is a
    reason. None proves nothing: only the pairs that are listed here are compared. Of alternatives each must be excluded."""
    if a.kind == "must_include_one":
        return _each_alternative(a, b)
    if b.kind == "must_include_one":
        return _each_alternative(b, a)
    if rule := _RULES.get((a.kind, b.kind)):
        return rule(a, b)
    if rule := _RULES.get((b.kind, a.kind)):
        return rule(b, a)
    return None


def _each_alternative(several: Check, other: Check) -> str | None:
    reasons = [conflict(Check("must_include", {"phrases": [one]}), other) for one in phrases_of(several.parameters)]
    return reasons[0] if all(reasons) else None


def first_conflict(checks: Iterable[Check]) -> str | None:
    """The first reason why a set of checks cannot be satisfied together; None where there is none."""
    for a, b in combinations(checks, 2):
        if reason := conflict(a, b):
            return reason
    return None
