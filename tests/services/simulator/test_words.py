"""What the texts are made of: the opening of a sentence that moves into another one."""

import pytest

from services.simulator.words import lower_opening


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A native reader", "a native reader"),
        ("Hard words are replaced", "hard words are replaced"),
        ("I read slowly", "I read slowly"),
        ("I'm in a hurry", "I'm in a hurry"),
        ("NASA wording", "NASA wording"),
        ("French is the language", "French is the language"),
        ("x stays", "x stays"),
        ("", ""),
    ],
)
def test_only_a_capital_that_opened_the_sentence_is_lowered(text: str, expected: str) -> None:
    assert lower_opening(text) == expected
