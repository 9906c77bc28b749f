"""Random sets of checks without a conflict: whatever is demanded together is met together."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from services.simulator.respond import answer_respond
from shared.domain.checks import CHECK_KINDS, Check, canonical_sentence, evaluate, first_conflict, validate_check
from shared.domain.checks.layout import SENTENCES
from shared.domain.prose import words

INSTRUCTIONS = (
    "How do I boil an egg?",
    "Explain the difference between a process and a thread, with an example.",
    "Write a poem about the sea.",
)
PHRASES = (
    "in short", "for example", "my view is", "please note", "on the one hand", "which means", "?", "!", "very", "you",
    "Hope that helps!", "the", "a", "-", "|", ".", ";", "#", "e.g.", "C++", "naïve", "？",
)  # fmt: skip
PARAMETERS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "maximum_words": lambda chance: {"words": chance.choice([8, 12, 40, 80, 150])},
    "minimum_words": lambda chance: {"words": chance.choice([10, 100, 300])},
    "sentence_count_at_most": lambda chance: {"sentences": chance.choice([1, 2, 3, 6])},
    "maximum_sentence_words": lambda chance: {"words": chance.choice([6, 8, 14, 20])},
    "format": lambda chance: {"format": chance.choice(sorted(SENTENCES))},
    "reading_level_at_most": lambda chance: {"grade": chance.choice([4, 6, 9])},
    "reading_level_at_least": lambda chance: {"grade": chance.choice([8, 11, 13])},
    "must_include": lambda chance: {"phrases": chance.sample(PHRASES, chance.randint(1, 2))},
    "must_include_one": lambda chance: {
        "phrases": chance.choice([["in short", "for example"], ["which means", "you"]])
    },
    "must_avoid": lambda chance: {"phrases": chance.sample(PHRASES, chance.randint(1, 3))},
    "starts_with": lambda chance: {"phrase": chance.choice(["Short answer:", "Well,", "Dear reader", "Yes."])},
    "ends_with": lambda chance: {"phrase": chance.choice(["Hope that helps!", "What next?", "Bye"])},
    "language": lambda chance: {"language": chance.choice(["fr", "es", "de", "ja", "en"])},
}


def out_of_reach(checks: list[Check]) -> bool:
    """Whether three checks exclude each other of which no two do: too many words for the sentences, or too few."""
    value: dict[str, Any] = {check.kind: next(iter(check.parameters.values())) for check in checks}
    most, least = value.get("maximum_words"), value.get("minimum_words")
    count, longest = value.get("sentence_count_at_most"), value.get("maximum_sentence_words")
    included = [*value.get("must_include", []), *value.get("must_include_one", [])]
    wanted = [*included, value.get("starts_with", ""), value.get("ends_with", "")]
    if count and longest:
        most = min(most or count * longest, count * longest)
    if most and "language" in value and wanted != ["", ""] and most < 12:
        # Nothing is left to say in the other language.
        return True
    if most and least and least > most:
        return True
    if least and count and "reading_level_at_most" in value:
        return bool(0.39 * least / count + 11.8 - 15.59 > value["reading_level_at_most"])
    layout = {"numbered_list": 2, "headings": 2, "table": 1, "json": 1}.get(value.get("format", ""), 0)
    return bool(most) and len({word.lower() for phrase in wanted for word in words(phrase)}) + layout > most


def drawn(chance: Random) -> list[Check]:
    checks: list[Check] = []
    for kind in chance.sample(sorted(PARAMETERS), chance.randint(1, 3)):
        checks.append(validate_check(kind, PARAMETERS[kind](chance)))
        if first_conflict(checks) is not None:
            checks.pop()
    return checks


def test_every_kind_is_drawn() -> None:
    assert PARAMETERS.keys() == CHECK_KINDS.keys()


@pytest.mark.parametrize("seed", range(8))
def test_sets_without_conflict_are_met(seed: int) -> None:
    chance = Random(seed)
    tried = 0
    for number in range(250):
        checks = drawn(chance)
        if out_of_reach(checks):
            continue
        tried += 1
        system = " ".join(["You are a helper.", *map(canonical_sentence, checks)])
        answer = answer_respond(system, chance.choice(INSTRUCTIONS), 0, bytes([seed, number]))
        failed = [check for check in checks if evaluate(check, answer).outcome == "fail"]
        assert not failed, (checks, answer)
    assert tried > 200
