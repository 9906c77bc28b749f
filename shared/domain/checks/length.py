"""Checks of length: words, sentences, words per sentence."""

import re
from collections.abc import Mapping
from functools import partial

from shared.domain.checks.kind import CheckKind, Parameters, only, whole_number
from shared.domain.checks.outcome import CheckOutcome, not_applicable, passed_if
from shared.domain.prose import is_unspaced, sentences, without_code_blocks, words

MAXIMUM_NUMBER = 100_000
# A number as the sentences write it: no sign, no leading zero, so that reading and writing are inverses.
_N = r"([1-9][0-9]{0,5})"


def _validate(name: str, parameters: Mapping[str, object]) -> Parameters:
    return {name: whole_number(name, only(parameters, name), 1, MAXIMUM_NUMBER)}


def _read(name: str, match: re.Match[str]) -> Parameters:
    return {name: int(match[1])}


def _number(parameters: Parameters, name: str) -> int:
    return whole_number(name, parameters[name], 1, MAXIMUM_NUMBER)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _count_words(text: str) -> int | CheckOutcome:
    prose = without_code_blocks(text)
    if is_unspaced(prose):
        return not_applicable("written in a script without spaces between words")
    found = len(words(prose))
    if not found and prose.strip() != text.strip():
        return not_applicable("nothing but code blocks, whose words are not counted")
    return found


def _maximum_words(parameters: Parameters, text: str) -> CheckOutcome:
    found = _count_words(text)
    limit = _number(parameters, "words")
    return found if isinstance(found, CheckOutcome) else passed_if(found <= limit, f"{found} words, at most {limit}")


def _minimum_words(parameters: Parameters, text: str) -> CheckOutcome:
    found = _count_words(text)
    limit = _number(parameters, "words")
    return found if isinstance(found, CheckOutcome) else passed_if(found >= limit, f"{found} words, at least {limit}")


def _sentence_count(parameters: Parameters, text: str) -> CheckOutcome:
    limit = _number(parameters, "sentences")
    found = len(sentences(text))
    if not found:
        return not_applicable("no sentence of prose outside code, headings and tables")
    return passed_if(found <= limit, f"{found} sentences, at most {limit}")


def _sentence_length(parameters: Parameters, text: str) -> CheckOutcome:
    limit = _number(parameters, "words")
    found = sentences(text)
    if not found:
        return not_applicable("no sentence of prose outside code, headings and tables")
    if is_unspaced(" ".join(found)):
        return not_applicable("written in a script without spaces between words")
    longest = max(len(words(sentence)) for sentence in found)
    return passed_if(longest <= limit, f"longest sentence has {longest} words, at most {limit}")


MAXIMUM_WORDS = CheckKind(
    name="maximum_words",
    description="At most so many words outside code blocks.",
    validate=partial(_validate, "words"),
    sentence=lambda parameters: f"Keep the answer to at most {_plural(_number(parameters, 'words'), 'word')}.",
    pattern=re.compile(rf"Keep the answer to at most {_N} words?\."),
    read=partial(_read, "words"),
    evaluate=_maximum_words,
)
MINIMUM_WORDS = CheckKind(
    name="minimum_words",
    description="At least so many words outside code blocks.",
    validate=partial(_validate, "words"),
    sentence=lambda parameters: f"Write at least {_plural(_number(parameters, 'words'), 'word')}.",
    pattern=re.compile(rf"Write at least {_N} words?\."),
    read=partial(_read, "words"),
    evaluate=_minimum_words,
)
SENTENCE_COUNT_AT_MOST = CheckKind(
    name="sentence_count_at_most",
    description="At most so many sentences; a list item is at least one, headings and tables are none.",
    validate=partial(_validate, "sentences"),
    sentence=lambda parameters: f"Answer in at most {_plural(_number(parameters, 'sentences'), 'sentence')}.",
    pattern=re.compile(rf"Answer in at most {_N} sentences?\."),
    read=partial(_read, "sentences"),
    evaluate=_sentence_count,
)
MAXIMUM_SENTENCE_WORDS = CheckKind(
    name="maximum_sentence_words",
    description="No sentence longer than so many words.",
    validate=partial(_validate, "words"),
    sentence=lambda parameters: f"Keep every sentence to at most {_plural(_number(parameters, 'words'), 'word')}.",
    pattern=re.compile(rf"Keep every sentence to at most {_N} words?\."),
    read=partial(_read, "words"),
    evaluate=_sentence_length,
)
