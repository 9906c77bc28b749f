"""What the classes augment and compose make: slots, sentences, lengths, roles."""

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
                "intensity": ("mild", "clear", "strong")[pick % 3],
            }
        )
    return slots


def numbered(slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"slot": number, **slot} for number, slot in enumerate(slots)]


def three_sets(pick: int = 0) -> list[dict[str, Any]]:
    return numbered([{"set": index, **slot} for index in range(3) for slot in slots_of(pick + 7 * index)])


def free_slot(dimension: str, **more: Any) -> dict[str, Any]:
    """A slot that names a dimension alone."""
    nothing = dict.fromkeys(("subdimension", "pole", "pole_description", "seed", "seed_description", "check_sentence"))
    return {"dimension": dimension, **nothing, "intensity": "clear", **more}


def augmented(
    slots: list[dict[str, Any]], instruction: str = INSTRUCTION, digest: bytes = b"0"
) -> list[dict[str, Any]]:
    answer = answer_augment({"instruction": instruction, "slots": slots}, 0, digest)
    preferences: list[dict[str, Any]] = answer["preferences"]
    return preferences


def by_set(slots: list[dict[str, Any]], answer: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The preferences of three sets."""
    found: list[list[dict[str, Any]]] = [[], [], []]
    for slot, preference in zip(slots, answer["preferences"], strict=True):
        found[slot["set"]].append(preference)
    return found


def test_every_slot_is_answered_under_its_names_with_its_check_sentence() -> None:
    slots = three_sets()
    answer = answer_augment({"instruction": INSTRUCTION, "slots": slots}, 0, b"0")
    assert [one["slot"] for one in answer["preferences"]] == list(range(12))
    for slot, made in zip(slots, answer["preferences"], strict=True):
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
        slots = three_sets(pick)
        answer = answer_augment({"instruction": INSTRUCTION, "slots": slots}, 0, bytes([pick]))
        for first, second in combinations(by_set(slots, answer), 2):
            for one, other in zip(first, second, strict=True):
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
    assert [one["slot"] for one in answer["preferences"]] == list(range(12))


@pytest.mark.parametrize("size", range(1, 9))
def test_sets_of_one_to_eight_slots_are_answered_slot_by_slot(size: int) -> None:
    pool = [slot for pick in range(3) for slot in slots_of(5 * pick)][:size]
    slots = [
        {**slot, "slot": 10 * index + place, "set": index} for index in range(2) for place, slot in enumerate(pool)
    ]
    made = augmented(slots)
    assert [one["slot"] for one in made] == [slot["slot"] for slot in slots]
    for index in range(2):
        leads = {" ".join(one["description"].split()[:3]) for one in made[index * size : (index + 1) * size]}
        assert len(leads) >= min(size, 3)


def test_intensity_is_worded_and_the_seed_stays_as_it_was() -> None:
    phrases = load_phrases()
    slot = {**slots_of(1)[0], "check_sentence": None}
    for intensity, wordings in phrases.augment_intensities.items():
        for number in range(10):
            (made,) = augmented([{**slot, "intensity": intensity}], digest=bytes([number]))
            assert sum(wording in made["description"] for wording in wordings) == 1
            body = slot["seed_description"]
            assert body[1:].rstrip(".") in made["description"]
            weight = next(wording for wording in wordings if wording in made["description"])
            assert len(weight) < len(body)
    (plain,) = augmented([{**slot, "intensity": None}])
    assert not any(one in plain["description"] for several in phrases.augment_intensities.values() for one in several)


KNOWN = {
    dimension.name: {part.name: [pole.name for pole in part.poles] for part in dimension.subdimensions}
    for dimension in default_taxonomy().dimensions
}


def test_free_slots_are_coined_within_their_dimension_and_say_where_they_belong() -> None:
    for dimension, several in load_phrases().coined.items():
        known = KNOWN.get(dimension, {})
        slots = [{**free_slot(dimension, set=index), "known_subdimensions": known} for index in range(len(several))]
        held = []
        for preference in augmented(numbered(slots)):
            coined = next(one for one in several if one.description[1:] in preference["description"])
            held.append(coined.name)
            place = (coined.belongs or f"{coined.subdimension}: ").partition(": ")
            assert (preference["subdimension"], preference["pole"]) == (place[0], place[2])
            assert preference["fits"]
        assert sorted(held) == sorted(one.name for one in several)


def test_a_coined_preference_is_of_no_subdimension_that_is_not_offered_or_that_the_set_has() -> None:
    own = [{**free_slot("style"), "known_subdimensions": {}} for _ in range(4)]
    names = {one.subdimension for one in load_phrases().coined["style"] if one.belongs is None}
    made = augmented(numbered(own))
    assert {one["pole"] for one in made} == {""}
    assert {one["subdimension"] for one in made} <= names
    both = [{**free_slot("style"), "known_subdimensions": KNOWN["style"]} for _ in range(6)]
    found = [one["subdimension"] for one in augmented(numbered(both))]
    assert len(set(found)) == len(found)


def test_stock_of_coined_preferences_names_poles_of_the_taxonomy_and_some_of_none() -> None:
    poles = {
        dimension.name: {f"{one.name}: {pole.name}" for one in dimension.subdimensions for pole in one.poles}
        for dimension in default_taxonomy().dimensions
    }
    for dimension, several in load_phrases().coined.items():
        belonging = [one.belongs for one in several if one.belongs]
        assert set(belonging) <= poles.get(dimension, set())
        assert len(belonging) < len(several)
        assert dimension == "other" or belonging
    seeds = [placed.seed.description for placed in default_taxonomy().seeds()]
    coined = [one.description for several in load_phrases().coined.values() for one in several]
    assert max(rouge_l(one, seed) for one in coined for seed in seeds) < 0.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("role", ["retired lighthouse keeper", "an archivist", "observant editor of maps."])
def test_role_stands_in_the_opening_of_every_form(form: str, role: str) -> None:
    for number in range(6):
        block = {"form": form, "role": role, "descriptions": ["Short words please.", "Some background on soil."]}
        text = answer_compose({**block, "target_characters": 500}, 0, bytes([number]))
        opening = text[: text.index("hort words please.")]
        assert role.removeprefix("an ").rstrip(".") in opening
        assert "a an" not in text
        assert (
            f"{'an' if 'archivist' in role or role[0] == 'o' else 'a'} {role.removeprefix('an ').rstrip('.')}" in text
        )


def test_a_message_without_a_role_is_as_before() -> None:
    block = {"form": "role_first_prose", "descriptions": ["Short words please."], "target_characters": 400}
    assert answer_compose(block, 0, b"0") == answer_compose({**block, "role": None}, 0, b"0")
