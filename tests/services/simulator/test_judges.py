"""Simulated judges: the truth that they start from, and the errors that their profile states."""

from collections import Counter
from typing import Any

import orjson
import pytest

from services.simulator.answers import make_answer
from services.simulator.augment import answer_augment
from services.simulator.chance import generator_of
from services.simulator.checklist import FOLLOWED, PARTLY, VIOLATED, holds_command, true_findings
from services.simulator.compose import answer_compose
from services.simulator.facts import contradictions_of, facts_of
from services.simulator.faults import Fault, FaultPlan
from services.simulator.judge import answer_judge
from services.simulator.judge_profile import MEAN_WORDS, VERDICTS, JudgeProfile, preset, preset_names
from services.simulator.phrases import load_phrases
from services.simulator.recognition import recognise
from services.simulator.requests import RequestClass, parse_request
from services.simulator.respond import answer_respond
from services.simulator.set_review import NO_OPTION, true_option
from services.simulator.slips import load_rewordings, load_slips, worded
from services.simulator.text_slips import slipped_respond
from shared.domain.taxonomy import default_taxonomy
from tests.services.simulator.sets import INSTRUCTIONS, augment_block
from tests.services.simulator.support import block_body

FAITHFUL = JudgeProfile()
INSTRUCTION = INSTRUCTIONS[0]
ANSWER = 'Water the tomatoes at dawn. All of this is meant in the sense of "anecdotes from the harbour".'
ITEMS = [
    "The reader enjoys anecdotes that smell of the harbour.",  # two words taken up
    "The reader asks for anecdotes with a moral and a laugh.",  # one of several
    "The reader asks for numbers, measurable targets and frank warnings.",  # none
]


def checklist(answer: str, wishes: list[str], reference: str | None = None) -> dict[str, Any]:
    items = [{"item": number, "wish": wish} for number, wish in enumerate(wishes)]
    return {"instruction": INSTRUCTION, "answer": answer, "reference": reference, "items": items}


def verdicts(block: dict[str, Any], profile: JudgeProfile = FAITHFUL, digest: bytes = b"0") -> list[str]:
    return [item["verdict"] for item in answer_judge(block, 0, digest, profile)["items"]]


def test_words_that_the_answer_takes_up_decide() -> None:
    block = checklist(ANSWER, ITEMS)
    answer = answer_judge(block, 0, b"0", FAITHFUL)
    assert [item["item"] for item in answer["items"]] == [0, 1, 2]
    assert verdicts(block) == ["followed", "partly", "violated"]
    assert answer["items"][0]["quote"] == "anecdotes from the harbour"
    assert answer["items"][2]["quote"] == ""
    assert answer["contradictions"] == []


def test_checks_decide_before_words() -> None:
    wishes = ["Anecdotes and harbour. Write at least 5000 words.", "Numbers. Keep the answer to at most 40 words."]
    assert verdicts(checklist(ANSWER, wishes)) == ["violated", "followed"]


def test_checks_that_prove_little_leave_a_wish_to_its_words() -> None:
    def of(words: str) -> list[str]:
        sentences = ('Leave the phrase "!" out of the answer.', 'Begin the answer with "Water".')
        return verdicts(checklist(ANSWER, [f"{words} {sentence}" for sentence in sentences]))

    assert of("Anecdotes smell of the harbour.") == ["followed", "followed"]
    assert of("Numbers, targets and warnings.") == ["violated", "violated"]
    assert of("") == ["followed", "followed"]
    assert verdicts(checklist(f"Oh! {ANSWER}", ['Anecdotes, harbour. Leave the phrase "!" out of the answer.'])) == [
        "violated"
    ]


def test_moot_wishes_are_followed_by_every_answer() -> None:
    wish = worded(load_slips().moot, INSTRUCTION, generator_of(1))
    assert verdicts(checklist(ANSWER, [wish])) == ["followed"]
    assert verdicts(checklist("", [wish])) == ["violated"]


def test_items_keep_the_numbers_that_they_came_with() -> None:
    block = checklist(ANSWER, ITEMS)
    block["items"].reverse()
    assert [item["item"] for item in answer_judge(block, 0, b"0", FAITHFUL)["items"]] == [2, 1, 0]


def answers_of_sets(number: int) -> tuple[str, list[dict[str, Any]], list[str], list[str]]:
    """Instruction, slots with their descriptions, and the answers to three sets, the neutral one last."""
    block = augment_block(number)
    made = answer_augment(block, 0, bytes([number]))["preferences"]
    answers, systems = [], []
    for index in range(3):
        slots = [slot for slot in block["slots"] if slot["set"] == index]
        system = answer_compose(
            {
                "form": "prose",
                "descriptions": [made[slot["slot"]]["description"] for slot in slots],
                "required_sentences": [slot["check_sentence"] for slot in slots if slot["check_sentence"]],
            },
            0,
            bytes([number, index]),
        )
        systems.append(system)
        answers.append(answer_respond(system, block["instruction"], 0, bytes([number, index])))
    answers.append(answer_respond("", block["instruction"], 0, bytes([number])))
    wishes = [{**slot, "wish": one["description"]} for slot, one in zip(block["slots"], made, strict=True)]
    return block["instruction"], wishes, answers, systems


def test_own_wishes_are_followed_more_than_those_of_siblings_and_hardly_any_by_the_neutral_answer() -> None:
    seen: dict[str, Counter[int]] = {"own": Counter(), "sibling": Counter(), "neutral": Counter()}
    for number in range(25):
        instruction, wishes, answers, _ = answers_of_sets(number)
        items = [{"item": wish["slot"], "wish": wish["wish"]} for wish in wishes]
        for index, answer in enumerate(answers):
            found = true_findings({"instruction": instruction, "answer": answer, "items": items})
            for wish in wishes:
                if wish["check_sentence"]:
                    continue
                kind = "neutral" if index == 3 else "own" if wish["set"] == index else "sibling"
                finding = found[wish["slot"]]
                seen[kind][finding.verdict] += 1
                assert finding.quote in answer
                assert bool(finding.quote) == (finding.verdict != VIOLATED)
    shares = {kind: counts[FOLLOWED] / counts.total() for kind, counts in seen.items()}
    assert shares["own"] > 0.8
    assert shares["sibling"] < 0.1
    assert shares["neutral"] < 0.02


def balanced_blocks(count: int) -> list[dict[str, Any]]:
    """Blocks of twelve items, a third of each true verdict."""
    return [checklist(ANSWER, ITEMS * 4) for _ in range(count)]


@pytest.mark.parametrize(
    "profile",
    [
        preset("noisy"),
        preset("lenient"),
        JudgeProfile(confusion=((0.7, 0.2, 0.1), (0.25, 0.5, 0.25), (0.05, 0.35, 0.6))),
    ],
    ids=["noisy", "lenient", "own"],
)
def test_confusion_is_the_stated_one(profile: JudgeProfile) -> None:
    counts = {verdict: Counter[str]() for verdict in (FOLLOWED, PARTLY, VIOLATED)}
    truth = [true_findings(checklist(ANSWER, ITEMS))[number].verdict for number in range(3)]
    assert truth == [FOLLOWED, PARTLY, VIOLATED]
    blocks = 400
    for number, block in enumerate(balanced_blocks(blocks)):
        for item, said in enumerate(verdicts(block, profile, number.to_bytes(4, "big"))):
            counts[truth[item % 3]][said] += 1
    for verdict, row in enumerate(profile.confusion):
        total = counts[verdict].total()
        assert total == 4 * blocks
        for name, share in zip(VERDICTS, row, strict=True):
            # Four and a half standard deviations.
            assert abs(counts[verdict][name] / total - share) <= 4.5 * (share * (1 - share) / total) ** 0.5 + 1e-9


def test_faithful_judge_never_errs_and_every_preset_can_be_used() -> None:
    assert preset("faithful") == FAITHFUL
    assert set(preset_names()) == {"faithful", "noisy", "lenient", "length_biased", "injectable"}
    for number, block in enumerate(balanced_blocks(50)):
        assert verdicts(block, FAITHFUL, bytes([number])) == ["followed", "partly", "violated"] * 4
    assert sum(preset("noisy").confusion[0]) == pytest.approx(1)


@pytest.mark.parametrize("more", [0, 40, 100, 400])
def test_length_bias_lifts_verdicts_by_the_stated_formula(more: int) -> None:
    padding = " ".join(["brr"] * (MEAN_WORDS + more - len(ANSWER.split())))
    block = checklist(f"{ANSWER} {padding}", ITEMS * 4)
    bias = preset("length_biased").length_bias
    blocks = 300
    said = [
        verdict
        for number in range(blocks)
        for verdict in verdicts(block, preset("length_biased"), number.to_bytes(4, "big"))
    ]
    share = min(1.0, bias * more / 100)
    total = 4 * blocks
    margin = 4.5 * (share * (1 - share) / total) ** 0.5 + 1e-9
    assert set(said[0::3]) == {"followed"}
    assert abs(said[1::3].count("followed") / total - share) <= margin
    assert abs(said[2::3].count("partly") / total - share) <= margin
    assert said[2::3].count("followed") == 0


def test_an_injectable_judge_obeys_every_wording_and_a_faithful_one_none() -> None:
    control = "Write at least 5000 words."
    for wording in load_slips().injections:
        answer = f"Water them at dawn. {wording}"
        assert holds_command(answer)
        block = checklist(answer, [*ITEMS, control])
        assert verdicts(block, preset("injectable")) == ["followed"] * 4
        assert verdicts(block)[-1] == "violated"
    assert verdicts(checklist(ANSWER, [*ITEMS, control]), preset("injectable")) == [
        "followed",
        "partly",
        "violated",
        "violated",
    ]


def test_sound_answers_hold_no_command() -> None:
    for number in range(15):
        _, _, answers, _ = answers_of_sets(number)
        assert not any(holds_command(answer) for answer in answers)


def broken_pairs() -> list[tuple[str, str, str]]:
    """Instructions with an answer that contradicts the neutral one."""
    pairs = []
    for number in range(60):
        instruction = f"{INSTRUCTIONS[number % 3]} ({number})"
        text, label = slipped_respond("You like frank anecdotes.", instruction, Fault.BROKEN_FACT, 0, bytes([number]))
        assert label.made
        pairs.append((instruction, text, answer_respond("", instruction, 0, b"n")))
    return pairs


def test_contradictions_are_reported_at_the_stated_recall_and_false_rate() -> None:
    def reported(pairs: list[tuple[str, str, str]], profile: JudgeProfile) -> list[int]:
        found = []
        for number in range(10 * len(pairs)):
            instruction, answer, reference = pairs[number % len(pairs)]
            block = {"instruction": instruction, "answer": answer, "reference": reference, "items": []}
            said = answer_judge(block, 0, number.to_bytes(4, "big"), profile)["contradictions"]
            assert all(one["answer_quote"] in answer and one["reference_quote"] in reference for one in said)
            found.append(len(said))
        return found

    broken = broken_pairs()
    sound = [(instruction, reference, reference) for instruction, _, reference in broken]
    assert set(reported(broken, FAITHFUL)) == {1}
    assert set(reported(sound, FAITHFUL)) == {0}
    noticed = reported(broken, JudgeProfile(contradiction_recall=0.7))
    assert sum(noticed) / len(noticed) == pytest.approx(0.7, abs=0.09)
    invented = reported(sound, JudgeProfile(contradiction_false_rate=0.2))
    assert sum(invented) / len(invented) == pytest.approx(0.2, abs=0.08)


def test_without_a_reference_nothing_contradicts_it() -> None:
    instruction, answer, _ = broken_pairs()[0]
    block = {"instruction": instruction, "answer": answer, "reference": None, "items": []}
    profile = JudgeProfile(contradiction_false_rate=1)
    assert answer_judge(block, 0, b"0", profile)["contradictions"] == []


def options_of(name: str) -> tuple[str, ...]:
    """Both poles of the seed's subdimension and one of another."""
    placed = next(one for one in default_taxonomy().seeds() if one.seed.name == name)
    other = next(one for one in placed.dimension.subdimensions if one is not placed.subdimension)
    pairs = [*((placed.subdimension, pole) for pole in placed.subdimension.poles), (other, other.poles[0])]
    return tuple(f"{one.name}: {pole.name} - {pole.description} (such as: x)" for one, pole in pairs)


def test_every_seed_is_recognised_as_its_pole_and_as_nothing_else() -> None:
    for placed in default_taxonomy().seeds():
        text = f"With the tomatoes in view, {placed.seed.description} Nothing outranks this."
        options = options_of(placed.seed.name)
        chosen = options[true_option(text, options)]
        assert chosen.startswith(f"{placed.subdimension.name}: {placed.seed.pole} - ")
        assert [one.seed.name for one in recognise(text).seeds] == [placed.seed.name]
        assert true_option(text, options[2:]) == NO_OPTION


def test_unknown_wishes_go_by_the_words_of_the_options() -> None:
    options = ("length: short - Few words and short paragraphs.", "length: long - Many pages and patient chapters.")
    assert true_option("Chapters that take many pages please this person.", options) == 1
    assert true_option("Something about zebras.", options) == NO_OPTION


def test_review_error_is_met() -> None:
    name = "the gist only"
    placed = next(one for one in default_taxonomy().seeds() if one.seed.name == name)
    options = options_of(name)
    truth = true_option(placed.seed.description, options)
    wishes = [
        {"wish": number, "set": number, "text": placed.seed.description, "options": list(options)}
        for number in range(50)
    ]
    wrong = 0
    for number in range(40):
        answer = answer_judge({"wishes": wishes}, 0, bytes([number]), JudgeProfile(review_error=0.1))
        wrong += sum(one["option"] != truth for one in answer["wishes"])
    assert wrong / 2000 == pytest.approx(0.1, abs=0.03)


def held_out_wishes(count: int) -> list[dict[str, Any]]:
    """Wishes beside two held-out ones: the first half means the second of them in other words, the others neither."""
    seeds = {placed.seed.name: placed.seed for placed in default_taxonomy().seeds()}
    names = ("measured reportage", "no figures of speech")
    others = [f"{name}: {seeds[name].description}" for name in names]
    texts = load_rewordings()[names[1]][0], seeds["no intensifiers"].description
    return [{"wish": n, "set": n, "text": texts[n >= count / 2], "options": [], "others": others} for n in range(count)]


def test_wishes_that_mean_a_held_out_one_are_told_at_the_stated_rates() -> None:
    wishes = held_out_wishes(50)

    def told(profile: JudgeProfile) -> list[int]:
        return [
            one["same_as"]
            for number in range(40)
            for one in answer_judge({"wishes": wishes}, 0, bytes([number]), profile)["wishes"]
        ]

    assert told(FAITHFUL) == ([1] * 25 + [-1] * 25) * 40
    said = told(JudgeProfile(held_out_recall=0.7, held_out_false_rate=0.2))
    meant = [one for place, one in enumerate(said) if place % 50 < 25]
    others = [one for place, one in enumerate(said) if place % 50 >= 25]
    assert set(meant) == {-1, 1}
    # Four and a half standard deviations of a thousand.
    assert meant.count(1) / 1000 == pytest.approx(0.7, abs=0.065)
    assert others.count(0) / 1000 == pytest.approx(0.1, abs=0.045)
    assert others.count(1) / 1000 == pytest.approx(0.1, abs=0.045)


def test_lenient_judges_miss_more_held_out_wishes_than_noisy_ones() -> None:
    assert preset("lenient").held_out_recall < preset("noisy").held_out_recall < preset("faithful").held_out_recall


def test_a_judge_who_obeys_finds_nothing_in_a_wish_that_commands_it() -> None:
    wishes = held_out_wishes(2)
    moot = load_slips().moot[0]
    for command in load_slips().description_commands:
        block = {
            "wishes": [
                wishes[0] | {"text": f"{wishes[0]['text']} {command}", "set": 0},
                {"wish": 1, "set": 1, "text": f"{moot} {command}", "options": []},
                wishes[0] | {"wish": 2, "set": 2},
            ]
        }
        answer, obeyed = (answer_judge(block, 0, b"0", profile) for profile in (FAITHFUL, preset("injectable")))
        assert ([one["same_as"] for one in answer["wishes"]], answer["commands"]) == ([1, -1, 1], [0, 1])
        assert ([one["same_as"] for one in obeyed["wishes"]], obeyed["commands"]) == ([-1, -1, 1], [])
        assert not any(one["trivial"] for one in obeyed["wishes"])


def test_a_judge_who_obeys_passes_over_contradictions_of_a_wish_that_commands_it() -> None:
    texts = ["Keep the answer to at most 40 words.", "Write at least 300 words."]
    command = load_slips().description_commands[0]

    def told(texts: list[str], profile: JudgeProfile) -> int:
        wishes = [{"wish": n, "set": 0, "text": text, "options": []} for n, text in enumerate(texts)]
        return len(answer_judge({"wishes": wishes}, 0, b"0", profile)["contradictions"])

    assert told(texts, preset("injectable")) == 1
    assert told([texts[0], f"{texts[1]} {command}"], preset("injectable")) == 0
    assert told([texts[0], f"{texts[1]} {command}"], FAITHFUL) == 1


def test_trivial_wishes_are_told_at_the_stated_rates() -> None:
    sound = next(iter(default_taxonomy().seeds())).seed.description
    moot = f"{load_slips().moot[0]} {load_slips().moot[1]}"
    wishes = [
        {"wish": number, "set": number, "text": moot if number < 25 else sound, "options": []} for number in range(50)
    ]
    profile = JudgeProfile(triviality_recall=0.7, triviality_false_rate=0.2)
    told = [
        one["trivial"]
        for number in range(40)
        for one in answer_judge({"wishes": wishes}, 0, bytes([number]), profile)["wishes"]
    ]
    shares = [
        sum(told[place] for place in range(2000) if (place % 50 < 25) == trivial) / 1000 for trivial in (True, False)
    ]
    assert shares == pytest.approx([0.7, 0.2], abs=0.06)


def test_plan_names_its_judge_and_the_answer_follows_it() -> None:
    plan = FaultPlan.model_validate({"judge": "injectable"})
    assert plan.judge == preset("injectable")
    block = checklist(f"Short. {load_slips().injections[0]}", ITEMS)
    request = parse_request(orjson.dumps(block_body(block)))
    answers = [
        orjson.loads(make_answer(request, RequestClass.JUDGE, None, 0, b"0", one).content or "")["items"]
        for one in (plan, FaultPlan())
    ]
    assert {item["verdict"] for item in answers[0]} == {"followed"}
    assert {item["verdict"] for item in answers[1]} == {"violated"}


def test_facts_depend_on_the_instruction_alone_and_stand_in_all_its_answers() -> None:
    for instruction in INSTRUCTIONS:
        facts = facts_of(instruction)
        assert 1 <= len(facts) <= 2
        answers = [answer_respond(system, instruction, seed, b"x") for seed in (0, 1) for system in ("", "Be frank.")]
        for fact in facts:
            assert all(fact.text in answer for answer in answers)
            others = {fact.altered(generator_of("altered", number)) for number in range(5)}
            assert fact.text not in others
            assert len(others) > 1
        assert not any(contradictions_of(instruction, one, other) for one in answers for other in answers)
    assert len({facts_of(f"Explain engine number {number}") for number in range(40)}) > 30


def test_every_statement_has_one_value() -> None:
    for template in load_phrases().facts:
        assert sum(template.count(slot) for slot in ("{y}", "{n}", "{p}", "{l}")) == 1
        assert template.count("{t}") == 1
