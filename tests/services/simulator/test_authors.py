"""What the classes augment and compose make: slots, sentences, lengths."""

import re
from itertools import combinations
from typing import Any

import orjson
import pytest

from services.simulator.augment import answer_augment
from services.simulator.compose import answer_compose
from services.simulator.phrases import load_phrases
from services.simulator.respond import answer_respond
from services.simulator.server import Simulator
from services.simulator.words import words_of
from shared.domain.checks import canonical_sentence, find_checks
from shared.domain.similarity import rouge_l
from shared.domain.taxonomy import default_taxonomy, seed_check
from tests.services.simulator.support import INSTRUCTION, ask, block_body, running


def slots_of(pick: int) -> list[dict[str, Any]]:
    """One seed for each dimension of the default taxonomy, the `pick`-th from the front."""
    slots = []
    for dimension in default_taxonomy().dimensions:
        seeds = [(sub, seed) for sub in dimension.subdimensions for seed in sub.seeds]
        sub, seed = seeds[pick % len(seeds)]
        check = seed_check(seed)
        slots.append(
            {
                "dimension": dimension.name,
                "subdimension": sub.name,
                "pole": seed.pole,
                "seed": seed.name,
                "seed_description": seed.description,
                "check_sentence": canonical_sentence(check) if check else None,
            }
        )
    return slots


def three_sets(pick: int = 0) -> list[dict[str, Any]]:
    return [{"set": index, **slot} for index in range(3) for slot in slots_of(pick + 7 * index)]


def augmented(
    slots: list[dict[str, Any]], instruction: str = INSTRUCTION, digest: bytes = b"0"
) -> list[dict[str, Any]]:
    answer = answer_augment({"instruction": instruction, "slots": slots}, 0, digest)
    return [preference for one in answer["sets"] for preference in one["preferences"]]


def test_every_slot_is_answered_under_its_names_with_its_check_sentence() -> None:
    slots = three_sets()
    answer = answer_augment({"instruction": INSTRUCTION, "slots": slots}, 0, b"0")
    assert [one["set"] for one in answer["sets"]] == [0, 1, 2]
    for slot, made in zip(slots, augmented(slots), strict=True):
        assert (made["dimension"], made["subdimension"]) == (slot["dimension"], slot["subdimension"])
        if slot["check_sentence"]:
            assert slot["check_sentence"] in made["description"]
        assert len(find_checks(made["description"])) == bool(slot["check_sentence"])
        assert 1 <= len(made["preference"].split()) <= 8
        assert not set(made["preference"]) & set(",;|/\n")
        assert 20 <= len(made["description"]) <= 600


def test_descriptions_take_up_the_instruction() -> None:
    made = augmented(three_sets(), "Explain how volcanoes erupt under glaciers")
    topical = [
        one for one in made if any(word in one["description"].lower() for word in ("volcanoes", "erupt", "glaciers"))
    ]
    assert len(topical) >= len(made) * 0.9


def test_descriptions_of_siblings_differ_measurably() -> None:
    for pick in range(12):
        answer = answer_augment({"instruction": INSTRUCTION, "slots": three_sets(pick)}, 0, bytes([pick]))
        for first, second in combinations(answer["sets"], 2):
            for one, other in zip(first["preferences"], second["preferences"], strict=True):
                texts = []
                for preference in (one, other):
                    text = preference["description"]
                    for check in find_checks(text):
                        text = text.replace(canonical_sentence(check), " ")
                    texts.append(text)
                assert rouge_l(*texts) < 0.5, texts


def test_everything_that_stands_before_a_description_is_set_off_from_it() -> None:
    phrases = load_phrases()
    assert all(text[-1] in ",:" for text in (*phrases.augment_leads, *phrases.compose_links))


def test_no_capital_in_the_middle_of_a_sentence() -> None:
    seed = {**slots_of(0)[0], "seed_description": "A native reader enjoys it.", "check_sentence": None}
    for number in range(30):
        made = augmented([seed], digest=bytes([number]))
        block = {"descriptions": [one["description"] for one in made], "target_characters": 900, "form": "prose"}
        text = answer_compose(block, 0, bytes([number]))
        assert ", a native reader" in text
        assert not re.search(r"[,:] A ", text)


def test_labels_of_a_sheet_are_no_wishes() -> None:
    descriptions = ["Zebras fascinate them.", "Glaciers matter.", "Caution counts.", "Volcanoes please."]
    for number in range(20):
        block = {"form": "audience_sheet", "descriptions": descriptions, "target_characters": 500}
        system = answer_compose(block, 0, bytes([number]))
        assert "Substance:" in system
        answer = answer_respond(system, INSTRUCTION, 0, bytes([number]))
        assert not {"manner", "substance", "footing"} & set(words_of(answer))


def test_descriptions_of_a_set_begin_and_end_differently() -> None:
    slots = [{**slot, "check_sentence": None} for slot in slots_of(3)]
    for number in range(20):
        texts = [one["description"] for one in augmented(slots, digest=bytes([number]))]
        assert len({text.split()[0] + text.split()[1] for text in texts}) >= 3
        tails = [text.split(". ")[-1] for text in texts if text.count(". ")]
        assert len(set(tails)) == len(tails)


def test_keywords_are_never_cut_off() -> None:
    slot = {**slots_of(0)[0], "seed": "one two three four five six seven", "check_sentence": None}
    for number in range(20):
        (made,) = augmented([slot], digest=bytes([number]))
        assert made["preference"] == "one two three four five six seven"


def test_small_share_does_not_fit_and_always_the_same() -> None:
    fits = [
        one["fits"]
        for number in range(60)
        for one in augmented(three_sets(number), f"Question {number} about beetles", bytes([number]))
    ]
    assert 0 < fits.count(False) < len(fits) * 0.06
    again = augmented(three_sets(3), "Question 3 about beetles", b"another body")
    assert [one["fits"] for one in again] == fits[36:48]


FORMS = ("role_first_prose", "user_letter", "short_brief", "bullet_brief", "terse_rules", "audience_sheet", "other")


@pytest.mark.parametrize("form", FORMS)
def test_system_message_holds_every_description_and_every_required_sentence(form: str) -> None:
    for pick in range(8):
        made = augmented(slots_of(pick), digest=bytes([pick]))
        required = [slot["check_sentence"] for slot in slots_of(pick) if slot["check_sentence"]]
        text = answer_compose(
            {
                "instruction": INSTRUCTION,
                "form": form,
                "target_characters": 700,
                "descriptions": [one["description"] for one in made],
                "required_sentences": required,
            },
            0,
            bytes([pick]),
        )
        assert all(text.count(sentence) == 1 for sentence in required)
        assert [canonical_sentence(check) for check in find_checks(text)] == required
        said = {word.strip(".,:;?!").lower() for word in text.split()}
        for one in made:
            assert {word.strip(".,:;?!").lower() for word in one["description"].split()} <= said


def test_length_follows_the_target() -> None:
    descriptions = ["Short words please.", "Some background on soil.", "Many numbers.", "Caution with chemicals."]
    for target in (300, 600, 900):
        block = {"form": "role_first_prose", "target_characters": target, "descriptions": descriptions}
        lengths = [len(answer_compose(block, 0, bytes([n]))) for n in range(10)]
        assert all(0.75 * target < length < 1.25 * target for length in lengths)


def test_forms_read_differently_and_messages_are_unique() -> None:
    block = {"target_characters": 600, "descriptions": ["Short words please.", "Some background on soil."]}
    texts = {form: [answer_compose({**block, "form": form}, 0, bytes([n])) for n in range(5)] for form in FORMS}
    assert all(len(set(several)) == 5 for several in texts.values())
    assert all(text.startswith("You") for text in texts["role_first_prose"])
    assert not any(text.startswith("You") for text in texts["user_letter"])
    assert all("\n- " in text for text in texts["bullet_brief"])
    assert all(text.startswith("1. ") for text in texts["terse_rules"])


async def test_compose_gives_plain_text_or_the_schema() -> None:
    block = {"form": "short_brief", "target_characters": 300, "descriptions": ["Short words please."]}
    schema = {
        "type": "object",
        "properties": {"system": {"type": "string"}},
        "required": ["system"],
        "additionalProperties": False,
    }
    async with running(Simulator()) as url:
        plain = await ask(url, block_body(block), "compose")
        wanted = {"type": "json_schema", "json_schema": {"name": "system_message", "schema": schema}}
        structured = await ask(url, block_body(block, response_format=wanted))
    assert "hort words please." in plain
    assert "hort words please." in orjson.loads(structured)["system"]


async def test_block_is_found_in_a_repair_round_and_around_fences_in_the_instruction() -> None:
    block = {"instruction": "Fix this:\n```json\n{}\n```", "slots": three_sets()}
    body = block_body(block)
    body["messages"] += [{"role": "assistant", "content": "{"}, {"role": "user", "content": "That was not valid JSON."}]
    async with running(Simulator()) as url:
        answer = orjson.loads(await ask(url, body, "augment"))
    assert [len(one["preferences"]) for one in answer["sets"]] == [4, 4, 4]
