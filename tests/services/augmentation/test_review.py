"""The review of preference sets: a blind question, a careful reading of the answer, and what it finds in slips that are known."""

import random
from collections import Counter
from typing import Any

import orjson
import pytest

from services.augmentation.held_out_seeds import HeldOutSeeds
from services.augmentation.review import (
    FREE_OPTIONS,
    ReviewOptions,
    ReviewResult,
    review_options_of,
    review_sets,
)
from services.simulator.augment import answer_augment
from services.simulator.augment_slips import slipped_augment
from services.simulator.faults import Fault
from services.simulator.judge import answer_judge
from services.simulator.judge_profile import JudgeProfile
from services.simulator.phrases import load_phrases
from services.simulator.slips import load_rewordings
from shared.domain.checks import canonical_sentence
from shared.domain.rows import InstructionRow, Preference
from shared.domain.splits import HeldOut
from shared.domain.taxonomy import PlacedSeed, default_taxonomy, seed_check, seeds_conflict
from shared.llm.protocol import CompletionRequest, RetriesExhausted
from tests.support.fake_models import Answer, ScriptedModel, block_of
from tests.support.taxonomies import small_taxonomy

INSTRUCTION = "How do I keep tomatoes alive on a windy balcony through a dry summer?"
ROW = InstructionRow("0" * 16, INSTRUCTION, "demo", "demo", 0)
SEEDS = {placed.seed.name: placed for placed in default_taxonomy().seeds()}
NAMES = ["no warm-up phrases", "practising professional", "the gist only", "caring check-in"]


def preference_of(name: str, text: str | None = None) -> Preference:
    placed = SEEDS[name]
    description = text or placed.seed.description
    return Preference(
        placed.dimension.name,
        placed.subdimension.name,
        name,
        description,
        placed.seed.pole,
        name,
        seed_check(placed.seed),
    )


def coined(dimension: str, text: str) -> Preference:
    return Preference(dimension, "coined", "coined", text, "")


async def reviewed(judge: ScriptedModel, *sets: list[Preference], sample_index: str = "review:0") -> ReviewResult:
    numbered = list(enumerate(sets))
    return await review_sets(judge, ROW, numbered, review_options_of(default_taxonomy()), 7, sample_index)


def simulated(request: CompletionRequest) -> Answer:
    """The answer of the simulator's judge without errors."""
    return answer_judge(block_of(request), 0, request.sample_index.encode(), JudgeProfile())


def choosing(*poles: str, trivial: tuple[int, ...] = (), contradictions: tuple[tuple[int, int], ...] = ()) -> Any:
    """A judge who names the option that begins with a text for each wish in turn ('' for none of them)."""

    def script(request: CompletionRequest) -> Answer:
        wishes = []
        for wish, pole in zip(block_of(request)["wishes"], poles, strict=True):
            options = [option.startswith(pole) for option in wish["options"]]
            wishes.append(
                {
                    "wish": wish["wish"],
                    "option": options.index(True) if pole else -1,
                    "trivial": wish["wish"] in trivial,
                    "same_as": -1,
                }
            )
        pairs = [{"first": first, "second": second, "why": "both at once"} for first, second in contradictions]
        return {"wishes": wishes, "contradictions": pairs, "commands": []}

    return script


async def test_the_judge_is_not_told_what_was_assigned() -> None:
    judge = ScriptedModel(simulated)
    places = Counter()
    for number in range(40):
        await reviewed(judge, [preference_of(name) for name in NAMES], sample_index=f"review:{number}")
    for request in judge.requests:
        block = block_of(request)
        assert set(block) == {"instruction", "wishes"}
        assert block["instruction"] == INSTRUCTION
        for name, wish in zip(NAMES, block["wishes"], strict=True):
            assert set(wish) == {"wish", "set", "text", "options"}
            placed = SEEDS[name]
            starts = [option.split(" - ")[0] for option in wish["options"]]
            assert len(set(starts)) == len(starts) == 4
            own = [one for one in starts if one.startswith(f"{placed.subdimension.name}:")]
            assert len(own) == 2
            places[starts.index(f"{placed.subdimension.name}: {placed.seed.pole}")] += 1
    # 160 draws of four places: five standard deviations are 27.
    assert all(abs(places[place] - 40) < 27 for place in range(4)), places


async def test_findings_follow_from_what_the_judge_names() -> None:
    judge = ScriptedModel(
        choosing("conciseness: brief", "subject familiarity: newcomer", "", "sensitivity: gentle", trivial=(3,))
    )
    result = await reviewed(judge, [preference_of(name) for name in NAMES])
    assert [(one.reason, one.preferences) for one in result.findings] == [
        ("wrong_pole", (1,)),
        ("wrong_level", (2,)),
        ("moot_preference", (3,)),
    ]
    assert "newcomer" in result.findings[0].detail
    assert result.findings[0].fault().reason == "wrong_pole"
    assert result.incomplete == ()
    assert (result.usage.attempts, result.usage.prompt_tokens, result.usage.completion_tokens) == (1, 10, 5)


async def test_contradictions_count_within_a_set_alone_and_once() -> None:
    poles = [f"{SEEDS[name].subdimension.name}: {SEEDS[name].seed.pole}" for name in NAMES]
    script = choosing(*poles, contradictions=((1, 0), (0, 1), (1, 2), (2, 2), (0, 9), (-1, 0)))
    preferences = [preference_of(name) for name in NAMES]
    result = await reviewed(ScriptedModel(script), preferences[:2], preferences[2:])
    (finding,) = result.findings
    assert (finding.set, finding.reason, finding.preferences) == (0, "set_contradiction", (0, 1))
    assert finding.set != 1


async def test_wishes_without_a_usable_answer_are_counted_and_find_nothing() -> None:
    wishes = [
        {"wish": 0, "option": 99, "trivial": True, "same_as": -1},
        {"wish": 1, "option": -1, "trivial": True, "same_as": -1},
        {"wish": 1, "option": -1, "trivial": True, "same_as": -1},
        {"wish": 17, "option": 0, "trivial": True, "same_as": -1},
    ]
    judge = ScriptedModel(lambda _: {"wishes": wishes, "contradictions": [], "commands": []})
    result = await reviewed(judge, [preference_of(name) for name in NAMES])
    assert result.findings == ()
    assert result.incomplete == ((0, 0), (0, 1), (0, 2), (0, 3))


async def test_an_error_of_the_judge_is_told_and_finds_nothing() -> None:
    result = await reviewed(ScriptedModel(lambda _: RetriesExhausted("gone")), [preference_of("the gist only")])
    assert result.error is not None
    assert result.error.reason == f"judge_{RetriesExhausted.code}"
    assert result.error.final
    assert result.findings == ()


async def test_no_sets_cost_no_call() -> None:
    judge = ScriptedModel(simulated)
    assert await reviewed(judge) == ReviewResult()
    assert judge.requests == []


async def test_coined_preferences_are_placed_and_have_no_pole_to_miss() -> None:
    stock = [(dimension, one) for dimension, several in load_phrases().coined.items() for one in several]
    sets = [[coined(dimension, one.description)] for dimension, one in stock if dimension != "other"]
    judge = ScriptedModel(simulated)
    result = await reviewed(judge, *sets)
    assert result.findings == ()
    assert all(len(wish["options"]) == FREE_OPTIONS for wish in block_of(judge.requests[0])["wishes"])
    belonging = [index for index, (_, one) in enumerate(one for one in stock if one[0] != "other") if one.belongs]
    homeless = set(range(len(sets))) - set(belonging)
    assert all(result.placed[index, 0] is None for index in homeless)
    found = [result.placed[index, 0] for index in belonging]
    # The pole is among the closest by words for more than half of those that say it in other words.
    right = [
        place
        for place, (_, one) in zip(found, (stock[index] for index in belonging), strict=True)
        if place is not None and f"{place.subdimension}: {place.pole}" == one.belongs
    ]
    assert len(right) > len(belonging) / 2


async def test_a_moot_coined_preference_is_found() -> None:
    moot = "On the subject of the balcony, sentences are complete, grammatical and easy enough to make out."
    result = await reviewed(ScriptedModel(simulated), [coined("style", moot)])
    assert [finding.reason for finding in result.findings] == ["moot_preference"]


HELD_OUT = HeldOut(
    subdimensions=frozenset({"sentence build"}),
    seeds=frozenset(
        {"no figures of speech", "measured reportage", "straight from the shoulder"}
        | {seed.name for _, part, seed in SEEDS.values() if part.name == "sentence build"}
    ),
)
SEEDS_HELD_OUT = HeldOutSeeds(default_taxonomy(), HELD_OUT)


async def reviewed_for_training(judge: ScriptedModel, *preferences: Preference) -> ReviewResult:
    options = review_options_of(default_taxonomy())
    return await review_sets(judge, ROW, [(0, preferences)], options, 7, "review:0", SEEDS_HELD_OUT)


def shown(judge: ScriptedModel) -> list[set[str]]:
    """Names of the held-out seeds beside each wish of the last call."""
    wishes = block_of(judge.requests[-1])["wishes"]
    return [{other.partition(": ")[0] for other in wish.get("others", ())} for wish in wishes]


async def test_training_wishes_stand_beside_the_held_out_seeds_that_they_could_mean() -> None:
    judge = ScriptedModel(simulated)
    literal = preference_of("no intensifiers")
    pictorial = preference_of(next(n for n, one in SEEDS.items() if one.seed.pole == "pictorial"))
    result = await reviewed_for_training(
        judge, literal, preference_of("the gist only"), coined("style", "Colours are named."), pictorial
    )
    style = {name for name in HELD_OUT.seeds if SEEDS[name].dimension.name == "style"}
    # Of both poles the same, so that they do not tell which one was assigned.
    vividness = {"no figures of speech", "measured reportage"}
    assert shown(judge) == [vividness, set(), style, vividness]
    assert len(style) == 8
    assert {finding.reason for finding in result.findings} == {"set_contradiction"}
    await reviewed(judge, [literal])
    assert shown(judge) == [set()]


def naming(name: str, commands: tuple[int, ...] = ()) -> Any:
    """A judge who calls every wish the same as the held-out seed of a name, where it is shown."""

    def script(request: CompletionRequest) -> Answer:
        answer = simulated(request)
        assert isinstance(answer, dict)
        for wish, said in zip(block_of(request)["wishes"], answer["wishes"], strict=True):
            names = [other.partition(": ")[0] for other in wish.get("others", ())]
            said["same_as"] = names.index(name) if name in names else 99
        return answer | {"commands": list(commands)}

    return script


async def test_a_wish_that_means_a_held_out_seed_is_a_finding_whose_reading_is_the_seed() -> None:
    wishes = preference_of("no intensifiers"), preference_of("the gist only")
    result = await reviewed_for_training(ScriptedModel(naming("measured reportage")), *wishes)
    (finding,) = result.findings
    assert (finding.reason, finding.place) == ("held_out_preference", (0, 0, "same as measured reportage"))
    assert "measured reportage" in finding.detail
    # Beside the second wish nothing is shown: what is said of it makes no difference.
    assert result.incomplete == ()


async def test_a_number_that_was_not_shown_makes_the_answer_unusable() -> None:
    result = await reviewed_for_training(ScriptedModel(naming("nobody")), preference_of("no intensifiers"))
    assert (result.findings, result.incomplete) == ((), ((0, 0),))


async def test_wishes_that_command_the_reviewer_are_findings() -> None:
    wishes = preference_of("the gist only"), preference_of("caring check-in")
    result = await reviewed_for_training(ScriptedModel(naming("nobody", (1, 1, 7, -1))), *wishes)
    assert [(one.reason, one.place) for one in result.findings] == [("injected_description", (0, 1, "command"))]


async def test_held_out_seeds_in_other_words_are_found_and_what_trains_is_not() -> None:
    seeds = HeldOutSeeds(default_taxonomy(), HeldOut(seeds=frozenset(load_rewordings())))
    options = review_options_of(default_taxonomy())
    for name, wordings in load_rewordings().items():
        placed = SEEDS[name]
        siblings = [
            other
            for other, one in SEEDS.items()
            if one.subdimension.name == placed.subdimension.name and other not in load_rewordings()
        ]
        given = [preference_of(name, f"Given the wind, {wording} That is meant as said.") for wording in wordings]
        given += [preference_of(other) for other in siblings]
        sets = [(number, [one]) for number, one in enumerate(given)]
        result = await review_sets(ScriptedModel(simulated), ROW, sets, options, 7, "review:0", seeds)
        found = {one.set for one in result.findings if one.reason == "held_out_preference"}
        assert found == set(range(len(wordings))), name


def test_a_small_taxonomy_has_fewer_options() -> None:
    options = ReviewOptions(small_taxonomy())
    preference = Preference("style", "style one", "x", "Wants low style.", "style one low", "style one low a")
    offered = options.for_preference(preference, random.Random(0))
    assert sorted(option.pole for option in offered)[:2] == ["style one high", "style one low"]
    assert len(offered) == 3


def slots_of(number: int) -> list[dict[str, Any]]:
    """Two sets of four seeds that can stand together, drawn by number."""
    chance = random.Random(number)
    slots: list[dict[str, Any]] = []
    for index in range(2):
        chosen: list[PlacedSeed] = []
        while len(chosen) < 4:
            placed = chance.choice(list(SEEDS.values()))
            if any(
                placed.subdimension is other.subdimension or seeds_conflict(placed.seed, other.seed) for other in chosen
            ):
                continue
            chosen.append(placed)
        for placed in chosen:
            check = seed_check(placed.seed)
            slots.append(
                {
                    "slot": len(slots),
                    "set": index,
                    "dimension": placed.dimension.name,
                    "subdimension": placed.subdimension.name,
                    "pole": placed.seed.pole,
                    "seed": placed.seed.name,
                    "seed_description": placed.seed.description,
                    "check_sentence": canonical_sentence(check) if check else None,
                    "intensity": "clear",
                }
            )
    return slots


def sets_of(slots: list[dict[str, Any]], answer: dict[str, Any]) -> list[list[Preference]]:
    sets: list[list[Preference]] = [[], []]
    for slot, entry in zip(slots, answer["preferences"], strict=True):
        sets[slot["set"]].append(preference_of(slot["seed"], entry["description"]))
    return sets


async def test_nothing_is_found_in_what_a_sound_teacher_writes() -> None:
    for number in range(25):
        slots = slots_of(number)
        sound = answer_augment({"instruction": INSTRUCTION, "slots": slots}, 0, bytes([number]))
        result = await reviewed(ScriptedModel(simulated), *sets_of(slots, sound))
        assert result.findings == ()
        assert result.incomplete == ()


@pytest.mark.parametrize(
    ("slip", "reason"),
    [
        (Fault.WRONG_POLE, "wrong_pole"),
        (Fault.WRONG_LEVEL, "wrong_level"),
        (Fault.MOOT_PREFERENCE, "moot_preference"),
        (Fault.CONTRADICTORY_SET, "set_contradiction"),
    ],
)
async def test_slips_are_found_where_they_were_made(slip: Fault, reason: str) -> None:
    for number in range(25):
        slots = slots_of(number)
        block = {"instruction": INSTRUCTION, "slots": slots}
        answer, label = slipped_augment(block, slip, (), 0, bytes([number]))
        assert label.fault == slip.value
        result = await reviewed(ScriptedModel(simulated), *sets_of(slots, answer))
        named = {
            (finding.set, position)
            for finding in result.findings
            if finding.reason == reason
            for position in finding.preferences
        }
        assert {(slots[slot]["set"], slot % 4) for slot in label.slots} <= named
        touched = {(slots[slot]["set"], slot % 4) for slot in label.slots}
        single = {(finding.set, finding.preferences[0]) for finding in result.findings if len(finding.preferences) == 1}
        assert single <= touched


def test_the_answer_of_the_simulator_is_json_of_the_schema() -> None:
    block = {"instruction": INSTRUCTION, "wishes": [{"wish": 0, "set": 0, "text": "x", "options": []}]}
    answer = answer_judge(block, 0, b"0", JudgeProfile())
    assert orjson.loads(orjson.dumps(answer)) == {
        "wishes": [{"wish": 0, "option": -1, "trivial": False, "same_as": -1}],
        "contradictions": [],
        "commands": [],
    }
