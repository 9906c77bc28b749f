"""Slips: each at its share, with a true label, in an answer whose form is sound, and the same ones in every run."""

import re
from collections import Counter
from hashlib import sha256
from typing import Any

import aiohttp
import orjson
import pytest

from gates.pipeline import spec_of
from services.simulator.answers import make_answer, sound_content
from services.simulator.augment import answer_augment
from services.simulator.augment_slips import LOW_AND_HIGH, slipped_augment
from services.simulator.chance import generator_of
from services.simulator.compose import answer_compose
from services.simulator.facts import contradictions_of, statements_in
from services.simulator.faults import CLASS_OF_SLIP, Fault, FaultInjector, FaultPlan
from services.simulator.labels import Label, LabelStore
from services.simulator.recognition import recognise
from services.simulator.requests import RequestClass, parse_request
from services.simulator.respond import answer_respond
from services.simulator.server import Simulator
from services.simulator.set_review import why_contradictory
from services.simulator.slips import load_rewordings, load_slips, paraphrase, review_command_in
from services.simulator.text_slips import slipped_compose, slipped_respond
from shared.domain.checks import evaluate, find_checks
from shared.domain.containment import containment, grams_of
from shared.domain.similarity import rouge_l
from shared.domain.splits import hold_out
from shared.domain.taxonomy import default_taxonomy, seed_check
from tests.services.simulator.sets import INSTRUCTIONS, augment_block
from tests.services.simulator.support import block_body, body_of, post, running

SUBDIMENSIONS = {
    one.name: (dimension.name, one) for dimension in default_taxonomy().dimensions for one in dimension.subdimensions
}
HELD_OUT = (
    "Every claim about money comes with its year, so that the reader can correct for inflation.",
    "The reader has studied law. Statutes are cited where they help, but never at length.",
)
OF_AUGMENT = [slip for slip, name in CLASS_OF_SLIP.items() if name is RequestClass.AUGMENT]


REWORDED = tuple(
    placed.seed.description for placed in default_taxonomy().seeds() if placed.seed.name in load_rewordings()
)
"""Held-out texts that there are rewordings of."""


def slipped(slip: Fault, number: int, **shape: int) -> tuple[dict[str, Any], list[dict[str, Any]], Label]:
    """Block, preferences and label of one call."""
    block = augment_block(number, **shape)
    held_out = REWORDED if slip is Fault.HELD_OUT_REWORDED else HELD_OUT
    answer, label = slipped_augment(block, slip, held_out, 0, bytes([number]))
    return block, answer["preferences"], label


@pytest.mark.parametrize("slip", OF_AUGMENT)
def test_slip_keeps_the_form_and_touches_the_slots_of_its_label_alone(slip: Fault) -> None:
    for number in range(25):
        block, made, label = slipped(slip, number)
        if slip is Fault.HELD_OUT_REWORDED and not label.made:
            continue  # no slot of the call belongs to what is held out
        sound = answer_augment(block, 0, bytes([number]))["preferences"]
        assert (label.fault, label.asked, label.made) == (slip.value, slip.value, True)
        assert {block["slots"][slot]["set"] for slot in label.slots} == {label.set}
        turned = label.slots[:1] if slip is Fault.CONTRADICTORY_SET else label.slots
        for slot, one, other in zip(block["slots"], made, sound, strict=True):
            for name in ("slot", "dimension", "subdimension", "fits"):
                assert one[name] == other[name]
            assert (one != other) == (slot["slot"] in turned)
            assert 20 <= len(one["description"]) <= 600
            if slot["check_sentence"]:
                assert slot["check_sentence"] in one["description"]


@pytest.mark.parametrize("slip", OF_AUGMENT)
def test_same_body_and_seed_slip_the_same_way(slip: Fault) -> None:
    block = augment_block(3)
    held_out = REWORDED if slip is Fault.HELD_OUT_REWORDED else HELD_OUT
    first = slipped_augment(block, slip, held_out, 5, b"1")
    assert slipped_augment(block, slip, held_out, 5, b"1") == first
    others = [slipped_augment(block, slip, held_out, 5, bytes([number])) for number in range(2, 12)]
    assert any(other != first for other in others)


def test_wrong_pole_argues_with_a_seed_of_the_opposite_pole() -> None:
    for number in range(30):
        block, made, label = slipped(Fault.WRONG_POLE, number)
        slot = block["slots"][label.slots[0]]
        opposite = {
            seed.description[1:].rstrip(".")
            for seed in SUBDIMENSIONS[slot["subdimension"]][1].seeds
            if seed.pole != slot["pole"]
        }
        description = made[label.slots[0]]["description"]
        assert any(text in description for text in opposite)
        assert slot["seed_description"][1:] not in description


def test_wrong_level_comes_from_another_subdimension_of_the_dimension() -> None:
    for number in range(40):
        block, made, label = slipped(Fault.WRONG_LEVEL, number)
        slot = block["slots"][label.slots[0]]
        dimension, own = SUBDIMENSIONS[slot["subdimension"]]
        (seed,) = recognise(made[label.slots[0]]["description"]).seeds
        assert seed.dimension.name == dimension
        assert seed.subdimension.name != own.name
        if dimension == LOW_AND_HIGH:
            sides = [
                [pole.name for pole in subdimension.poles].index(pole)
                for subdimension, pole in ((own, slot["pole"]), (seed.subdimension, seed.seed.pole))
            ]
            assert sides[0] != sides[1]


def test_moot_preference_says_what_any_answer_does() -> None:
    seen = set()
    for number in range(60):
        _, made, label = slipped(Fault.MOOT_PREFERENCE, number)
        text = made[label.slots[0]]["description"]
        assert recognise(text).trivial
        assert not find_checks(text)
        seen.add(frozenset(recognise(text).found))
        others = [one["description"] for one in made if one["slot"] not in label.slots]
        assert not any(recognise(one).trivial for one in others)
    assert len(load_slips().moot) >= 20
    assert len(seen) >= 15


def test_contradictory_sets_contradict_themselves_in_several_ways() -> None:
    kinds: Counter[str] = Counter()
    for number in range(80):
        _, made, label = slipped(Fault.CONTRADICTORY_SET, number)
        first, second = (made[slot]["description"] for slot in label.slots)
        kinds[label.detail] += 1
        assert why_contradictory(first, second), (first, second)
        assert why_contradictory(second, first)
    assert set(kinds) == {"opposite pole", "negation", "contrary in words", "contrary check"}
    assert min(kinds.values()) >= 5


def test_sound_sets_do_not_contradict_themselves() -> None:
    for number in range(30):
        block = augment_block(number)
        made = answer_augment(block, 0, bytes([number]))["preferences"]
        texts: dict[int, list[str]] = {}
        for slot, one in zip(block["slots"], made, strict=True):
            texts.setdefault(slot["set"], []).append(one["description"])
        for several in texts.values():
            for place, first in enumerate(several):
                assert not any(why_contradictory(first, second) for second in several[place + 1 :])


def test_duplicate_set_says_what_another_set_says() -> None:
    for number in range(20):
        block, made, label = slipped(Fault.DUPLICATE_SET, number)
        model = int(label.detail.removeprefix("set "))
        assert model != label.set
        said = [
            {
                seed.seed.name
                for slot in block["slots"]
                if slot["set"] == index
                for seed in recognise(made[slot["slot"]]["description"]).seeds
            }
            for index in range(3)
        ]
        assert said[label.set or 0] == said[model]
        copies = [made[slot]["description"] for slot in label.slots]
        originals = [made[slot["slot"]]["description"] for slot in block["slots"] if slot["set"] == model]
        assert not set(copies) & set(originals)


def test_keywords_of_a_list_name_several_wishes() -> None:
    joints: Counter[str] = Counter()
    for number in range(120):
        _, made, label = slipped(Fault.COMMA_SPLIT_KEYWORDS, number)
        keywords = made[label.slots[0]]["preference"]
        joints[label.detail] += 1
        words = [word for word in re.split(r",|/|;|&|\+|\band\b|\bplus\b", keywords) if word.strip()]
        assert len(words) >= 2, keywords
    assert len(joints) >= 6


def test_held_out_texts_come_back_in_lightly_other_words() -> None:
    for number in range(30):
        _, made, label = slipped(Fault.HELD_OUT_PARAPHRASE, number)
        description = made[label.slots[0]]["description"]
        assert not any(text in description for text in HELD_OUT)
        assert any(len(_content(text) & _content(description)) >= 0.9 * len(_content(text)) for text in HELD_OUT)
    changed = paraphrase(HELD_OUT[0], generator_of(1))
    assert changed.startswith("So that the reader can correct for inflation") or changed.startswith("In order that")
    assert rouge_l(changed, HELD_OUT[0]) < 1


def test_rewordings_of_held_out_texts_share_their_meaning_and_hardly_a_word() -> None:
    texts = {placed.seed.description: placed for placed in default_taxonomy().seeds()}
    by_name = {placed.seed.name: placed for placed in texts.values()}
    spec = spec_of(0, judged=True)
    assert hold_out(default_taxonomy(), spec.splits, spec.seed).seeds <= set(load_rewordings())
    for name, wordings in load_rewordings().items():
        assert len(set(wordings)) >= 2
        for wording in wordings:
            # In the frames of a description, and against every seed: far below the bound of 0.6.
            written = f"With the tomatoes in view, {wording} Nothing outranks this."
            assert max(containment(grams_of(text), grams_of(written)) for text in texts) < 0.35
            assert find_checks(wording) == []
            assert [one.seed.name for one in recognise(written).seeds] == [name]
            assert recognise(written).pole == (by_name[name].subdimension.name, by_name[name].seed.pole)


def test_reworded_held_out_texts_stand_where_the_meaning_alone_tells() -> None:
    for number in range(30):
        block, made, label = slipped(Fault.HELD_OUT_REWORDED, number)
        if not label.made:
            continue
        slot, (seed,) = block["slots"][label.slots[0]], recognise(made[label.slots[0]]["description"]).seeds
        assert seed.seed.name == label.detail != slot["seed"]
        assert (seed.subdimension.name, seed.seed.pole) == (slot["subdimension"], slot["pole"])


def test_held_out_texts_of_a_whole_subdimension_come_in_free_slots_of_their_dimension() -> None:
    free = {"dimension": "style", "subdimension": None, "pole": None, "seed": None, "intensity": "clear"}
    slots = [free | {"slot": number, "set": number} for number in range(2)]
    block = {"instruction": INSTRUCTIONS[0], "slots": slots}
    subdimension = SUBDIMENSIONS["sentence build"][1]
    texts = [seed.description for seed in subdimension.seeds]
    answer, label = slipped_augment(block, Fault.HELD_OUT_REWORDED, texts, 0, b"1")
    assert label.detail in {seed.name for seed in subdimension.seeds}
    (seed,) = recognise(answer["preferences"][label.slots[0]]["description"]).seeds
    assert seed.seed.name == label.detail
    elsewhere = {**block, "slots": [{**slot, "dimension": "harmlessness"} for slot in slots]}
    assert not slipped_augment(elsewhere, Fault.HELD_OUT_REWORDED, texts, 0, b"1")[1].made


def test_descriptions_with_a_command_say_their_wish_too() -> None:
    commands = set()
    for number in range(40):
        _, made, label = slipped(Fault.INJECTED_DESCRIPTION, number)
        sound = answer_augment(augment_block(number), 0, bytes([number]))["preferences"]
        description = made[label.slots[0]]["description"]
        assert review_command_in(description) == label.detail
        assert recognise(sound[label.slots[0]]["description"]).seeds[0] in recognise(description).seeds
        assert not any(review_command_in(one["description"]) for one in sound)
        commands.add(label.detail)
    assert len(commands) >= 8


def _content(text: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 5)


@pytest.mark.parametrize(
    ("slip", "shape"),
    [(Fault.CONTRADICTORY_SET, {"sets": 2, "size": 1}), (Fault.DUPLICATE_SET, {"sets": 1, "size": 4})],
)
def test_what_a_call_cannot_carry_leaves_it_sound_and_the_label_says_so(slip: Fault, shape: dict[str, int]) -> None:
    block, made, label = slipped(slip, 4, **shape)
    assert (label.fault, label.asked, label.made, label.slots) == ("none", slip.value, False, ())
    assert made == answer_augment(block, 0, bytes([4]))["preferences"]


DESCRIPTIONS = [
    "With the tomatoes in view, short words please.",
    "As for the balcony, some background on soil and wind.",
    "Faced with the tomatoes and the balcony, frank warnings.",
]


@pytest.mark.parametrize("slip", [Fault.LEAKED_ANSWER, Fault.RESTATED_TASK, Fault.INJECTED_MESSAGE])
def test_system_message_holds_all_wishes_and_what_slipped_in(slip: Fault) -> None:
    seen = set()
    for form in ("role_first_prose", "user_letter", "short_brief", "bullet_brief", "terse_rules", "audience_sheet"):
        for number in range(12):
            block = {"form": form, "descriptions": DESCRIPTIONS, "target_characters": 600}
            text, label = slipped_compose(block, slip, 0, bytes([number]))
            assert label.fault == slip.value
            assert label.detail[2:] in text
            assert label.detail[2:] not in answer_compose(block, 0, bytes([number]))
            assert all(wish[1:] in text for wish in DESCRIPTIONS)
            seen.add(re.sub(r"\d+|\b(?:tomatoes|balcony|wind|soil|view|words)\b", "", label.detail))
    assert len(seen) >= 6
    slips = load_slips()
    assert min(len(slips.leaks), len(slips.tasks), len(slips.message_commands)) >= 12


SYSTEM = "You are a calm mentor. The reader enjoys historical anecdotes and vivid metaphors. Keep the answer to at most 70 words."


def test_ignored_system_message_leaves_no_trace() -> None:
    failed = 0
    for number in range(20):
        text, label = slipped_respond(SYSTEM, INSTRUCTIONS[0], Fault.IGNORED_FACET, 0, bytes([number]))
        assert label.fault == "ignored_facet"
        assert not re.search("anecdotes|metaphors|historical", text)
        failed += any(evaluate(check, text).outcome == "fail" for check in find_checks(SYSTEM))
    assert failed > 0
    assert not slipped_respond("", INSTRUCTIONS[0], Fault.IGNORED_FACET, 0, b"0")[1].made


def test_broken_fact_contradicts_all_other_answers() -> None:
    for instruction in INSTRUCTIONS:
        neutral = answer_respond("", instruction, 0, b"n")
        for number in range(10):
            text, label = slipped_respond(SYSTEM, instruction, Fault.BROKEN_FACT, 0, bytes([number]))
            assert label.fault == "broken_fact"
            ((ours, theirs),) = contradictions_of(instruction, text, neutral)
            assert ours in text
            assert theirs in neutral
            assert (
                contradictions_of(instruction, answer_respond(SYSTEM, instruction, 0, bytes([number])), neutral) == []
            )


def test_no_fact_where_there_is_no_room_for_one() -> None:
    system = "Answer in at most 2 sentences."
    assert find_checks(system)
    text, label = slipped_respond(system, INSTRUCTIONS[0], Fault.BROKEN_FACT, 0, b"0")
    assert label.fault == "none"
    assert statements_in(INSTRUCTIONS[0], text) == []


def test_commands_to_graders_stand_in_the_text_and_break_few_checks() -> None:
    seeds = [
        (check, f"You are calm. {seed.description}")
        for placed in default_taxonomy().seeds()
        if (seed := placed.seed) and (check := seed_check(seed))
    ]
    commands: set[str] = set()
    for number, (_, system) in enumerate(seeds):
        text, label = slipped_respond(system, INSTRUCTIONS[number % 3], Fault.INJECTED_ANSWER, 0, bytes([number]))
        assert label.fault == "injected_answer"
        assert label.detail in (orjson.loads(text)["answer"] if text.startswith("{") else text)
        commands.add(label.detail)
    assert len(commands) >= 10


def plan_with(name: RequestClass, **shares: float) -> FaultPlan:
    return FaultPlan.model_validate(
        {"seed": 3, "held_out_texts": HELD_OUT, "classes": {name.value: {"shares": shares}}}
    )


@pytest.mark.parametrize("name", [RequestClass.AUGMENT, RequestClass.COMPOSE, RequestClass.RESPOND])
def test_slips_come_at_their_shares(name: RequestClass) -> None:
    slips = [slip for slip, own in CLASS_OF_SLIP.items() if own is name]
    share = 0.6 / len(slips)
    plan = plan_with(name, **dict.fromkeys((slip.value for slip in slips), share))
    injector = FaultInjector(plan)
    calls = 4000
    met = Counter(injector.decide(name, index.to_bytes(16, "big"), 0.0).fault for index in range(calls))
    for slip in slips:
        # Five standard deviations.
        assert abs(met[slip] / calls - share) < 5 * (share * (1 - share) / calls) ** 0.5
    assert abs(met[None] / calls - 0.4) < 0.04


def test_default_shares_reach_each_class_for_its_own_slips_alone() -> None:
    injector = FaultInjector(FaultPlan.model_validate({"default": {"shares": {"wrong_pole": 0.5, "broken_fact": 0.5}}}))
    for name in RequestClass:
        met = {injector.decide(name, index.to_bytes(16, "big"), 0.0).fault for index in range(200)}
        own = {slip for slip in (Fault.WRONG_POLE, Fault.BROKEN_FACT) if CLASS_OF_SLIP[slip] is name}
        assert met == own | {None}


def test_make_answer_labels_slips_and_nothing_else() -> None:
    request = parse_request(orjson.dumps(block_body(augment_block(0))))
    name = RequestClass.AUGMENT
    answer = make_answer(request, name, Fault.WRONG_POLE, 0, b"0", plan_with(name, wrong_pole=1))
    assert answer.label is not None
    assert answer.label.fault == "wrong_pole"
    assert answer.content != sound_content(request, name, 0, b"0")
    assert make_answer(request, name, None, 0, b"0").label is None
    assert make_answer(request, name, Fault.EMPTY_ANSWER, 0, b"0").label is None


async def test_server_serves_its_labels_and_forgets_them_when_told() -> None:
    shares = {"augment": {"shares": {"moot_preference": 1}}, "respond": {"shares": {"ignored_facet": 1}}}
    simulator = Simulator(plan=FaultPlan.model_validate({"classes": shares}))
    async with running(simulator) as url, aiohttp.ClientSession() as session:
        _, _, augmented = await post(session, url, block_body(augment_block(1)), "augment")
        _, _, responded = await post(session, url, body_of(system=SYSTEM, n=2), "respond")
        await post(session, url, body_of(), "chat")
        async with session.get(f"{url}/simulator/labels") as response:
            labels = (await response.json())["labels"]
        async with session.delete(f"{url}/simulator/labels") as response:
            assert response.status == 204
        async with session.get(f"{url}/simulator/labels") as response:
            assert await response.json() == {"labels": []}
    texts = [
        choice["message"]["content"] for data in (augmented, responded) for choice in orjson.loads(data)["choices"]
    ]
    assert [label["sha256"] for label in labels] == [sha256(text.encode()).hexdigest() for text in texts]
    assert [label["fault"] for label in labels] == ["moot_preference", "ignored_facet", "ignored_facet"]
    assert [label["request_class"] for label in labels] == ["augment", "respond", "respond"]
    assert len(labels[0]["slots"]) == 1
    assert labels[0]["set"] in (0, 1, 2)
    assert labels[1]["body"] == labels[2]["body"] == orjson.loads(responded)["id"].removeprefix("chatcmpl-")


def test_only_the_last_labels_are_kept() -> None:
    store = LabelStore(kept=2)
    for number in range(5):
        store.add("respond", str(number), "body", Label("broken_fact", "broken_fact"))
    assert [label["sha256"] for label in store.as_builtins()] == ["3", "4"]
