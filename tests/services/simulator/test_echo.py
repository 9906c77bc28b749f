"""What an answer quotes of its system message."""

import pytest

from services.simulator.chance import generator_of
from services.simulator.echo import echo_groups
from services.simulator.phrases import load_phrases
from services.simulator.respond import answer_respond
from tests.services.simulator.support import INSTRUCTION


def groups(system: str, number: int = 0) -> list[list[str]]:
    return echo_groups(system, INSTRUCTION, generator_of(number, "echo"))


@pytest.mark.parametrize(
    ("system", "best"),
    [
        ("As for the tomatoes, praise is not used as packaging.", "praise is not used as packaging"),
        (
            "Zebras, glaciers and violent storms fascinate every reader.",
            "glaciers and violent storms fascinate every reader",
        ),
        (
            "Beyond that, the matter comes first and nobody is addressed.",
            "the matter comes first and nobody is addressed",
        ),
    ],
)
def test_quotation_is_a_clause_with_its_words_in_order(system: str, best: str) -> None:
    assert [group[0] for group in groups(system)] == [best]


def test_quotations_stand_in_the_system_message_word_for_word_and_get_shorter() -> None:
    system = (
        "The reader wants to grasp the principle from which every recipe of this kind could once have been derived. "
        "A comparison that nobody has surely met before throws a new light on the matter."
    )
    for number in range(20):
        for group in groups(system, number):
            assert all(quotation.lower() in system.lower() for quotation in group)
            assert [len(one.split()) for one in group] == sorted((len(one.split()) for one in group), reverse=True)
            assert len(group[0].split()) <= 10


def test_nothing_of_the_simulators_own_frames_is_quoted() -> None:
    phrases = load_phrases()
    assert groups(" ".join([*phrases.compose_labels, *phrases.compose_voices[0].fillers])) == []


def test_answer_quotes_its_own_system_message_between_marks() -> None:
    answer = answer_respond("Zebras and glaciers fascinate the reader.", INSTRUCTION, 0, b"0")
    assert '"zebras and glaciers fascinate the reader"' in answer
