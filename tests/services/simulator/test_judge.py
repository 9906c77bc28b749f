"""What the simulator answers as a judge: verdicts with quotes from the answer, and what wishes mean."""

from typing import Any

import orjson
import pytest

from services.simulator.compose import answer_compose
from services.simulator.judge import answer_checklist, answer_review
from services.simulator.respond import answer_respond
from services.simulator.server import Simulator
from shared.domain.checks import canonical_sentence, validate_check
from tests.services.simulator.support import INSTRUCTION, ask, block_body, running
from tests.services.simulator.test_authors import augmented, slots_of, three_sets

BRIEF = canonical_sentence(validate_check("maximum_words", {"words": 5}))
KAYAK = canonical_sentence(validate_check("must_include", {"phrases": ["amber kayak"]}))
TEXT = "Water them at dawn, and shade the pots with a Bright linen awning while the wind dries the balcony."


def verdicts(answer: str, *wishes: str, instruction: str = INSTRUCTION) -> list[tuple[str, str]]:
    items = [{"item": number, "wish": wish} for number, wish in enumerate(wishes)]
    found = answer_checklist({"instruction": instruction, "answer": answer, "items": items})
    assert [one["item"] for one in found["items"]] == list(range(len(wishes)))
    assert found["contradictions"] == []
    return [(one["verdict"], one["quote"]) for one in found["items"]]


def test_machine_checks_decide() -> None:
    assert verdicts("Water them at dawn.", f"Little text. {BRIEF}", f"Water. {KAYAK}") == [
        ("followed", "Water them at dawn."),
        ("violated", ""),
    ]
    assert verdicts(TEXT, f"Water and shade at dawn. {BRIEF}") == [("violated", "")]


def test_else_the_shared_content_words_do_and_the_quote_stands_around_them() -> None:
    longer = f"{TEXT} {'Then look again after a while. ' * 10}"
    (followed, partly, violated) = verdicts(
        longer, "Linen awning, bright shade.", "Likes linen.", "Wants historical anecdotes."
    )
    assert followed == ("followed", "linen awning while the wind dries the balcony.")
    assert partly == ("partly", "linen awning while the wind dries the balcony.")
    assert violated == ("violated", "")
    assert verdicts(longer, "BRIGHT colours")[0] == ("partly", "Bright linen awning while the wind dries the")


def test_words_of_the_instruction_earn_nothing() -> None:
    assert verdicts(TEXT, "Talks about the balcony.") == [("violated", "")]
    assert verdicts(TEXT, "Talks about the balcony.", instruction="Help me.")[0][0] == "followed"


def test_own_preferences_are_followed_more_than_those_of_siblings() -> None:
    own, others = [], []
    worth = {"followed": 1.0, "partly": 0.5, "violated": 0.0}
    for pick in range(10):
        slots = three_sets(pick)
        made = augmented(slots, digest=bytes([pick]))
        descriptions = [[one["description"] for one in made[4 * n : 4 * n + 4]] for n in range(3)]
        required = [[s["check_sentence"] for s in slots if s["set"] == n and s["check_sentence"]] for n in range(3)]
        for number in range(3):
            system = answer_compose(
                {"form": "prose", "descriptions": descriptions[number], "required_sentences": required[number]},
                0,
                bytes([pick, number]),
            )
            response = answer_respond(system, INSTRUCTION, 0, bytes([pick, number]))
            for judged in range(3):
                found = verdicts(response, *descriptions[judged])
                assert all(quote in response for _, quote in found)
                scores = [worth[verdict] for verdict, _ in found]
                (own if judged == number else others).append(sum(scores) / len(scores))
    assert sum(own) / len(own) > sum(others) / len(others) + 0.25


def wish(number: int, text: str, *options: str, of: int = 0) -> dict[str, Any]:
    return {"wish": number, "set": of, "text": text, "options": list(options)}


def test_a_review_names_the_option_that_a_wish_means() -> None:
    slots = [one for pick in range(6) for one in slots_of(pick)]
    options = [f"{s['subdimension']}: {s['pole']} - (such as: {s['seed']}) {s['seed_description']}" for s in slots]
    hits = 0
    for place, slot in enumerate(slots):
        (made,) = augmented([slot])
        review = answer_review({"instruction": INSTRUCTION, "wishes": [wish(0, made["description"], *options)]})
        hits += review["wishes"][0]["option"] == place
    assert hits >= len(slots) * 0.9
    none = answer_review(
        {"wishes": [wish(3, "Zebras, please.", "tone: warm"), wish(4, "It is what it is.", "tone: warm")]}
    )
    assert none["wishes"] == [
        {"wish": 3, "option": -1, "trivial": False},
        {"wish": 4, "option": -1, "trivial": True},
    ]
    assert none["contradictions"] == []


def test_a_review_finds_checks_of_one_set_that_exclude_each_other() -> None:
    long = canonical_sentence(validate_check("minimum_words", {"words": 90}))
    wishes = [wish(0, f"Brief. {BRIEF}"), wish(1, f"Long. {long}"), wish(2, f"Long. {long}", of=1)]
    (found,) = answer_review({"wishes": wishes})["contradictions"]
    assert (found["first"], found["second"]) == (0, 1)
    assert "at most 5 words" in found["why"]


@pytest.mark.parametrize("schema_name", ["checklist", "set_review", None])
async def test_the_schema_or_the_block_says_what_is_asked(schema_name: str | None) -> None:
    checklist = {"instruction": "x", "answer": "Linen.", "items": [{"item": 0, "wish": "linen"}]}
    review = {"instruction": "x", "wishes": [wish(0, "linen", "cloth: linen")]}
    async with running(Simulator()) as url:
        for block, name, key in ((checklist, "checklist", "items"), (review, "set_review", "wishes")):
            if schema_name not in (None, name):
                continue
            schema = {"type": "json_schema", "json_schema": {"name": name, "schema": {"type": "object"}}}
            more = {"response_format": schema} if schema_name else {}
            answer = orjson.loads(await ask(url, block_body(block, **more), None if schema_name else "judge"))
            assert len(answer[key]) == 1
