"""Each fault of a response has its reason, and what only looks like a fault passes."""

from typing import Any

import pytest

from services.generation.validation import (
    CheckedText,
    compare_responses,
    judge_completion,
    judge_text,
    long_sentences,
    program_verdicts,
    run_checks,
    tokens_to_compare,
)
from shared.domain.checks import validate_check
from shared.domain.jobs import RespondParameters
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.llm.protocol import Completion
from tests.support.fake_models import completion_of

ENGLISH = "The old apple tree is best pruned in late winter, when the branches are bare and easy to see from below."
GERMAN = "Der alte Apfelbaum wird am besten im späten Winter geschnitten, wenn die Äste kahl und gut zu sehen sind."


def _row(instruction: str = "How do I prune an old apple tree in my garden?", language: str = "en") -> InstructionRow:
    return InstructionRow("r", instruction, "demo", "demo", 0, language)


def _fault(
    text: str, row: InstructionRow, system: str = "Be kind.", preferences: tuple[Preference, ...] = ()
) -> str | None:
    fault = judge_text(text, row, long_sentences(system), preferences)
    return fault.reason if fault else None


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (completion_of("", refusal="No."), "content_refused"),
        (completion_of("half", finish_reason="content_filter"), "content_refused"),
        (completion_of("half a sent", finish_reason="length"), "output_truncated"),
        (completion_of(" "), "empty_response"),
        (completion_of("I'm sorry, but I can't help with that request."), "refusal_phrase"),
        (completion_of("Four."), None),
    ],
)
def test_how_the_answer_ended(completion: Completion, reason: str | None) -> None:
    fault = judge_completion(completion, completion.text.strip(), RespondParameters())
    assert (fault.reason if fault else None) == reason


def test_an_answer_in_another_language_is_found() -> None:
    assert _fault(GERMAN, _row()) == "off_language"
    assert _fault(ENGLISH, _row()) is None
    assert _fault(GERMAN, _row("Wie schneide ich einen alten Apfelbaum in meinem Garten?", "de")) is None
    assert _fault(ENGLISH, _row("Wie schneide ich einen alten Apfelbaum in meinem Garten?", "de")) == "off_language"


def test_another_language_is_right_where_it_was_asked_for() -> None:
    assert _fault(GERMAN, _row("Write a sentence about pruning apple trees in German, please.")) is None
    assert _fault(GERMAN, _row("Translate this: the old tree is best cut in late winter")) is None
    check = validate_check("language", {"language": "de"})
    assert _fault(GERMAN, _row(), preferences=(Preference("style", "s", "k", "d", "p", "", check),)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Die Katze sitzt auf dem Dach und schaut in den Garten, bis es dunkel wird und alle schlafen gehen.",
        "Le chat est sur le toit et regarde le jardin jusqu'à ce que la nuit tombe et que tout le monde dorme.",
        "De kat zit op het dak en kijkt naar de tuin tot het donker wordt en iedereen naar bed gaat in huis.",
        "El gato está en el tejado y mira el jardín hasta que oscurece y todos se van a dormir a la casa.",
        "Kissa istuu katolla ja katselee puutarhaa, kunnes tulee pimeä ja kaikki menevät nukkumaan taloon.",
        "猫は屋根の上に座って庭を見ています。暗くなってみんなが寝るまでずっとそこにいるつもりのようですが、雨が降ったら家の中に入ってくるでしょう。",
    ],
)
def test_no_other_language_passes_for_english(text: str) -> None:
    assert _fault(text, _row()) == "off_language"


@pytest.mark.parametrize("text", ["42", "Ja, genau.", "```python\nfor zahl in zahlen:\n    drucke(zahl)\n```\n" * 5])
def test_short_texts_and_code_have_no_language(text: str) -> None:
    assert _fault(text, _row()) is None


def test_an_instruction_of_doubtful_language_asks_for_none() -> None:
    assert _fault(GERMAN, _row("2 + 2?")) is None


def test_a_quoted_sentence_of_the_system_message_is_an_echo() -> None:
    sentence = "You are a patient orchard keeper who never hurries a hesitant gardener."
    system = f"{sentence} Be brief."
    assert _fault(f"{sentence} {ENGLISH}", _row(), system) == "echoes_system_message"
    assert _fault(f"Be brief. {ENGLISH}", _row(), system) is None
    assert _fault(f"{sentence} {ENGLISH}", _row(f"Comment on this: {sentence}"), system) is None


def test_checks_are_run_and_the_first_failure_is_named() -> None:
    short = validate_check("maximum_words", {"words": 3})
    include = validate_check("must_include", {"phrases": ["tree"]})
    preferences = [
        Preference("style", "length", "k", "d", "p", "", short),
        Preference("style", "wording", "k", "d", "p", "", include),
        Preference("style", "tone", "k", "d", "p"),
    ]
    results, fault = run_checks(CheckedText("Prune the tree in winter."), preferences)
    assert results == {"length": "fail", "wording": "pass"}
    assert fault is not None
    assert fault.reason == "check_failed"
    assert fault.detail.startswith("maximum_words: ")
    assert run_checks(CheckedText("The tree."), preferences) == ({"length": "pass", "wording": "pass"}, None)


def test_everybodys_checks_are_run_on_an_answer_and_what_cannot_be_measured_is_left_open() -> None:
    short = Preference("style", "length", "k", "d", "p", "", validate_check("maximum_words", {"words": 3}))
    simple = Preference("style", "level", "k", "d", "p", "", validate_check("reading_level_at_most", {"grade": 6}))
    long = Preference("style", "length", "k", "d", "q", "", validate_check("minimum_words", {"words": 5}))
    facets = [Facet(0, [simple, short]), Facet(2, [long, Preference("style", "tone", "k", "d", "p"), short])]
    assert program_verdicts(CheckedText("Prune the tree in winter."), facets, judged=True) == {
        (0, 1): "violated",
        (2, 0): "followed",
        (2, 2): "violated",
    }


@pytest.mark.parametrize(
    ("kind", "parameters", "good"),
    [
        ("must_avoid", {"phrases": ["!"]}, "Prune it in winter."),
        ("starts_with", {"phrase": "Prune"}, "Prune it in winter."),
        ("ends_with", {"phrase": "winter"}, "Prune it in winter."),
    ],
)
def test_checks_that_an_answer_passes_by_chance_settle_a_wish_where_no_judge_is_asked(
    kind: str, parameters: dict[str, Any], good: str
) -> None:
    facets = [Facet(0, [Preference("style", "tone", "k", "d", "p", "", validate_check(kind, parameters))])]
    assert program_verdicts(CheckedText(good), facets, judged=True) == {}
    assert program_verdicts(CheckedText(good), facets, judged=False) == {(0, 0): "followed"}
    for judged in (True, False):
        assert program_verdicts(CheckedText("Oh! No."), facets, judged=judged) == {(0, 0): "violated"}


def test_responses_above_the_similarity_are_too_alike() -> None:
    one, other = tokens_to_compare(ENGLISH), tokens_to_compare(GERMAN)
    assert compare_responses(one, [other], 0.85) is None
    fault = compare_responses(one, [other, [*one, "indeed"]], 0.85)
    assert fault is not None
    assert fault.reason == "similar_response"
    assert compare_responses(one, [one[:5]], 0.85) is None
    assert compare_responses([], [[]], 0.85) is not None


def test_long_texts_are_compared_by_their_beginning() -> None:
    assert len(tokens_to_compare("word " * 100_000)) == 600
