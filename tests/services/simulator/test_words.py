"""What the texts are made of: the opening of a sentence that moves into another one, and what an instruction is about."""

import pytest

from services.simulator.words import lower_opening, named, topics_of


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


@pytest.mark.parametrize(
    ("instruction", "topics"),
    [
        ("Suggest healthy snacks that children can carry to school.", {"snacks", "children", "school"}),
        ("How do I boil an egg?", {"egg", "boil"}),
        ("Compare the video's title with the title of a video.", {"video", "title"}),
        ("Which book should I read of all these books?", {"book", "books", "read"}),
        ("Quickly explain interesting transformed adjectives", {"adjectives", "interesting", "transformed", "quickly"}),
        ("?!", {"this"}),
    ],
)
def test_topics_are_things_as_far_as_there_are_any(instruction: str, topics: set[str]) -> None:
    found = topics_of(instruction)
    assert set(found) <= topics
    assert len(found) == len({topic.removesuffix("s") for topic in found})
    assert found[0] not in {"healthy", "carry", "boil", "read", "interesting", "transformed", "quickly"}


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("egg", "the egg"),
        ("building", "the building"),
        ("Hawaii", "Hawaii"),
        ("cycling", "cycling"),
        ("café", "the café"),
    ],
)
def test_common_nouns_have_an_article(topic: str, name: str) -> None:
    assert named(topic) == name
