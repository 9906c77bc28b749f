"""Demanded phrases stand in whole sentences on the topic, in every language of the stock; layouts are named in words."""

import re

import pytest

from services.simulator.phrases import load_phrases
from services.simulator.respond import answer_respond
from services.simulator.wanted import load_wanted
from shared.domain.checks import canonical_sentence, evaluate, find_checks, validate_check
from shared.domain.checks.phrases import contains_phrase
from shared.domain.language import detect_language
from shared.domain.prose import fold, sentences, words
from shared.domain.taxonomy import default_taxonomy
from tests.services.simulator.support import INSTRUCTION

GERMAN = "Wie halte ich Tomaten auf einem windigen Balkon durch einen trockenen Sommer am Leben?"
OTHER = "Explain how volcanoes erupt under glaciers and what that does to the rivers below."
SEED_PHRASES = sorted(
    {
        phrase
        for placed in default_taxonomy().seeds()
        if placed.seed.check is not None and placed.seed.check.kind == "must_include"
        for phrase in placed.seed.check.parameters["phrases"]
    }
)
STRANGE_PHRASES = ["Good luck!", "naïve", "C++", "the lucky ones", "|"]


def answers(
    kind: str, value: object, instruction: str = INSTRUCTION, name: str = "phrases", more: str = ""
) -> list[str]:
    check = validate_check(kind, {name: value})
    system = f"You are a calm mentor. {canonical_sentence(check)} {more}"
    found = [answer_respond(system, instruction, 0, bytes([number])) for number in range(8)]
    assert all(evaluate(check, answer).outcome == "pass" for answer in found)
    return found


@pytest.mark.parametrize("phrase", [*SEED_PHRASES, *STRANGE_PHRASES])
def test_phrase_stands_in_a_sentence_that_says_more(phrase: str) -> None:
    for answer in answers("must_include", [phrase]):
        holding = [one for one in sentences(answer) if contains_phrase(one, phrase)]
        assert holding
        assert all(len(words(one)) >= len(words(phrase)) + 2 for one in holding), holding
        assert not any(one.startswith('"') for one in holding)


@pytest.mark.parametrize("phrase", SEED_PHRASES)
def test_sentence_around_a_phrase_depends_on_the_instruction(phrase: str) -> None:
    holding = {
        instruction: {one for answer in answers("must_include", [phrase], instruction) for one in sentences(answer)}
        for instruction in (INSTRUCTION, OTHER)
    }
    on_topic = [
        any(contains_phrase(one, phrase) and re.search(pattern, one) for one in holding[instruction])
        for instruction, pattern in ((INSTRUCTION, "tomatoes|balcony|summer"), (OTHER, "volcanoes|glaciers|rivers"))
    ]
    assert on_topic == [True, True]


def test_two_hands_follow_each_other() -> None:
    for answer in answers("must_include", ["on the one hand", "on the other hand"]):
        assert answer.index("On the one hand, ") < answer.index("On the other hand, ")


def test_a_summary_comes_last_and_a_question_comes_early() -> None:
    for answer in answers("must_include", ["taken together"]):
        assert sentences(answer)[-1].startswith("Taken together")
    for answer in answers("must_include", ["?"]):
        assert "?" in " ".join(sentences(answer)[:2])


@pytest.mark.parametrize("sentence", ["Answer in at most 1 sentence.", "Keep every sentence to at most 8 words."])
@pytest.mark.parametrize("phrase", ["?", "by contrast", "Good luck!"])
def test_phrases_survive_where_sentences_are_few_or_short(phrase: str, sentence: str) -> None:
    limit = find_checks(sentence)[0]
    for answer in answers("must_include", [phrase], more=sentence):
        assert evaluate(limit, answer).outcome == "pass"


def test_easy_and_demanding_answers_put_the_phrase_differently() -> None:
    easy, hard = (
        answers("must_include", ["by contrast"], more=f"Write at a reading level of grade {level}.")
        for level in ("5 or lower", "14 or higher")
    )
    means = [
        sum(len(words(one)) for answer in found for one in sentences(answer) if "By contrast" in one) / len(found)
        for found in (easy, hard)
    ]
    assert means[0] + 2 < means[1]


def test_every_frame_holds_its_phrase_and_some_need_no_topic() -> None:
    stock = load_wanted()
    assert {fold(phrase) for phrase in SEED_PHRASES} <= {known.phrase for known in stock.known}
    for known in stock.known:
        assert all(contains_phrase(frame, known.phrase) for frame in known.frames)
        assert all(len(sentences(frame)) == 1 for frame in known.frames)
        assert sum("{" not in frame for frame in known.frames) >= 2


@pytest.mark.parametrize("code", sorted(load_phrases().languages))
def test_every_language_says_the_rest_in_its_own_words(code: str) -> None:
    own = load_wanted().foreign[code]
    text = " ".join([*own.phrases, own.question, *own.columns, *own.headings]).replace("{t}", "").replace("{p}", "")
    found = detect_language(text)
    assert found is not None
    assert found[0] == code
    assert all(frame.count("{p}") == 1 for frame in own.phrases)


def test_english_phrase_in_a_german_answer_stands_in_a_german_sentence() -> None:
    for answer in answers("must_include", ["for example"], GERMAN):
        found = detect_language(answer)
        assert found is not None
        assert found[0] == "de"
        (holding,) = [one for one in sentences(answer) if "for example" in one]
        assert len(words(holding)) >= 5


@pytest.mark.parametrize("avoided", [["#", "+"], ["Point", "Remark", "Part", "Comment"], ["?", "!"]])
def test_columns_of_a_table_are_words(avoided: list[str]) -> None:
    rule = canonical_sentence(validate_check("must_avoid", {"phrases": avoided}))
    for answer in answers("format", "table", name="format", more=rule):
        head = answer[answer.index("|") : answer.index("\n", answer.index("|"))]
        assert re.fullmatch(r"\| [A-Z][a-z]+ \| [A-Z][a-z]+ \|", head)
        assert not set(words(head)) & set(avoided)


def test_columns_and_titles_are_in_the_language_of_the_answer() -> None:
    assert all("| Punkt | Bemerkung |" in answer for answer in answers("format", "table", GERMAN, "format"))
    assert all("## Überblick" in answer for answer in answers("format", "headings", GERMAN, "format"))
