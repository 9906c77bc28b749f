"""What is asked of the judge, and what is believed of its answer."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.generation.checklist import PROMPT, Answer, Checked, Checklist, ChecklistAnswer, sampling_for
from shared.domain.checks import validate_check
from shared.domain.identifiers import row_id_of
from shared.domain.rows import NEUTRAL_INDEX, Contradiction, Facet, InstructionRow, Preference
from shared.llm.protocol import CompletionRequest, OutputInvalid, RequestRejected
from shared.stages.facets import Fault, Usage
from tests.services.generation.judges import checklist_judge, is_control
from tests.support.fake_models import ScriptedModel, block_of

INSTRUCTION = "How do I prune an old apple tree?"
TEXT = "Prune it in late winter. Remove dead wood first, and never more than a quarter of the crown."
NEUTRAL = "Prune it in early spring. Take out dead wood."
BRIEF = validate_check("maximum_words", {"words": 30})


def _facets() -> list[Facet]:
    return [
        Facet(
            0, [Preference("d", "a", "k", "Wants reasons.", "p"), Preference("d", "b", "k", "Wants a warning.", "p")]
        ),
        Facet(
            1, [Preference("d", "c", "k", "Wants reasons.", "q"), Preference("d", "l", "k", "Brief.", "p", "", BRIEF)]
        ),
    ]


def _answer(index: int = 0, text: str = TEXT, attempt: int = 0, **decided: str) -> Answer:
    return Answer(index, text, attempt, {(1, 1): "followed", **{(0, int(n[1:])): one for n, one in decided.items()}})


async def _judge(
    script: Callable[[CompletionRequest], Any],
    answers: Sequence[Answer] | None = None,
    reference: str | None = NEUTRAL,
    facets: list[Facet] | None = None,
) -> tuple[dict[int, Checked | Fault], ScriptedModel, dict[int, Usage]]:
    model = ScriptedModel(script)
    usage = {index: Usage() for index in (0, 1, NEUTRAL_INDEX)}
    row = InstructionRow(row_id_of(INSTRUCTION), INSTRUCTION, "demo", "demo", 0)
    listed = Checklist(model, row, facets or _facets(), 7, usage)
    return await listed.judge(answers or [_answer()], reference), model, usage


def _found(results: dict[int, Checked | Fault], index: int = 0) -> Checked:
    found = results[index]
    assert isinstance(found, Checked)
    return found


async def test_one_blind_call_holds_every_open_wish_once_and_a_control() -> None:
    results, model, usage = await _judge(checklist_judge(lambda wish, _: "followed"))
    (request,) = model.requests
    block = block_of(request)
    assert (block["instruction"], block["answer"], block["reference"]) == (INSTRUCTION, TEXT, NEUTRAL)
    assert set(block) == {"instruction", "answer", "reference", "items"}
    assert [item["item"] for item in block["items"]] == [0, 1, 2]
    assert all(set(item) == {"item", "wish"} for item in block["items"])
    wishes = [item["wish"] for item in block["items"]]
    # "Brief." is decided by a program; the wish that two people have in the same words stands there once.
    assert sorted(wish for wish in wishes if not is_control(wish, TEXT)) == ["Wants a warning.", "Wants reasons."]
    assert sum(is_control(wish, TEXT) for wish in wishes) == 1
    assert (request.request_class, request.schema_name, request.temperature) == ("judge", "checklist", 0.0)
    assert request.sample_index == "judge:0:0:0"
    assert _found(results).verdicts == dict.fromkeys(((0, 0), (0, 1), (1, 0)), ("followed", "Prune it in"))
    assert (usage[0].attempts, usage[1].attempts) == (1, 0)


async def test_order_and_control_differ_from_answer_to_answer() -> None:
    answers = [_answer(0, f"Answer {number} about the tree.", number) for number in range(20)]
    _, model, _ = await _judge(checklist_judge(lambda wish, _: "partly"), answers)
    blocks = [block_of(request) for request in model.requests]
    places = {[is_control(item["wish"], block["answer"]) for item in block["items"]].index(True) for block in blocks}
    controls = {
        item["wish"] for block in blocks for item in block["items"] if is_control(item["wish"], block["answer"])
    }
    assert places == {0, 1, 2}
    assert len(controls) > 10


async def test_a_check_that_cannot_be_measured_leaves_the_wish_to_the_judge() -> None:
    answer = Answer(0, TEXT, 0, {})
    results, model, _ = await _judge(
        lambda request: {
            "items": [{"item": n, "verdict": "violated", "quote": ""} for n in range(4)],
            "contradictions": [],
        },
        [answer],
    )
    assert "Brief." in [item["wish"] for item in block_of(model.requests[0])["items"]]
    assert _found(results).verdicts[1, 1] == ("violated", "")


@pytest.mark.parametrize(("said", "taken"), [("followed", "partly"), ("partly", "violated"), ("violated", "violated")])
@pytest.mark.parametrize("quote", ["", "words that stand nowhere"])
async def test_without_a_quote_that_stands_there_a_verdict_is_one_step_down(said: str, taken: str, quote: str) -> None:
    results, _, _ = await _judge(checklist_judge(lambda wish, _: said, quote=quote))
    found = _found(results)
    assert set(found.verdicts.values()) == {(taken, "")}
    assert found.quote_unverified == (0 if said == "violated" else 2)


async def test_case_spacing_and_quotation_marks_of_a_quote_do_not_matter() -> None:
    results, _, _ = await _judge(checklist_judge(lambda wish, _: "followed", quote="“REMOVE  dead wood first”"))
    assert {verdict for verdict, _ in _found(results).verdicts.values()} == {"followed"}
    assert _found(results).quote_unverified == 0


async def test_a_judge_that_waves_everything_through_is_asked_once_more() -> None:
    def script(request: CompletionRequest) -> dict[str, Any]:
        careless = request.sample_index.endswith(":0")
        return checklist_judge(lambda wish, _: "partly", control="followed" if careless else "violated")(request)

    results, model, usage = await _judge(script)
    assert model.sample_indices == ["judge:0:0:0", "judge:0:0:1"]
    assert {verdict for verdict, _ in _found(results).verdicts.values()} == {"partly"}
    assert usage[0].attempts == 2
    first, second = (
        next(item["wish"] for item in block_of(request)["items"] if is_control(item["wish"], TEXT))
        for request in model.requests
    )
    assert first != second
    assert (_found(results).controls, _found(results).controls_missed) == (2, 1)


async def test_a_control_called_partly_is_believed_and_counted() -> None:
    results, model, _ = await _judge(checklist_judge(lambda wish, _: "followed", control="partly"))
    assert len(model.requests) == 1
    assert (_found(results).controls, _found(results).controls_missed) == (1, 1)


async def test_a_judge_that_is_misled_twice_is_not_believed() -> None:
    results, model, _ = await _judge(checklist_judge(lambda wish, _: "followed", control="followed"))
    assert len(model.requests) == 2
    fault = results[0]
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.final) == ("judge_misled", False)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([0, 1], "judge_incomplete"),
        ([0, 1, 1], "judge_incomplete"),
        ([0, 1, 2, 2], "judge_incomplete"),
        ([0, 1, 3], "judge_incomplete"),
        ([0, 1, -1], "judge_output_invalid"),
    ],
)
async def test_every_item_has_exactly_one_verdict(items: list[int], reason: str) -> None:
    answer = {"items": [{"item": n, "verdict": "violated", "quote": ""} for n in items], "contradictions": []}
    results, model, _ = await _judge(lambda _: answer)
    fault = results[0]
    assert isinstance(fault, Fault)
    assert fault.reason == reason
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [(OutputInvalid("x"), "judge_output_invalid", False), (RequestRejected("x"), "judge_request_rejected", True)],
)
async def test_errors_of_the_judge_become_faults(error: Exception, reason: str, final: bool) -> None:
    results, _, _ = await _judge(lambda _: error)
    fault = results[0]
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.final) == (reason, final)


async def test_only_contradictions_between_quotes_that_stand_there_are_kept() -> None:
    said = [
        {"answer_quote": "in late winter", "reference_quote": "in early spring"},
        {"answer_quote": "in high summer", "reference_quote": "in early spring"},
        {"answer_quote": "in late winter", "reference_quote": "in autumn"},
        {"answer_quote": "dead wood", "reference_quote": "“Dead wood”"},
    ]
    results, _, _ = await _judge(checklist_judge(lambda wish, _: "followed", contradictions=lambda _: said))
    found = _found(results)
    assert found.contradictions == [Contradiction("in late winter", "in early spring")]
    assert found.contradictions_unverified == 3
    results, _, _ = await _judge(
        checklist_judge(lambda wish, _: "followed", contradictions=lambda _: said), reference=None
    )
    assert _found(results).contradictions == []
    assert _found(results).contradictions_unverified == 4


async def test_equal_texts_are_asked_for_once_and_the_neutral_answer_is_no_reference_of_itself() -> None:
    answers = [_answer(0), _answer(1), _answer(NEUTRAL_INDEX, NEUTRAL)]
    results, model, usage = await _judge(checklist_judge(lambda wish, _: "followed"), answers)
    assert sorted(model.sample_indices) == ["judge:0:0:0", "judge:neutral:0:0"]
    assert results[0] == results[1]
    references = {block_of(request)["answer"]: block_of(request)["reference"] for request in model.requests}
    assert references == {TEXT: NEUTRAL, NEUTRAL: None}
    assert usage[NEUTRAL_INDEX].attempts == 1


async def test_nothing_is_asked_where_programs_decide_everything_and_there_is_no_reference() -> None:
    facets = [Facet(1, [Preference("d", "l", "k", "a", "p"), Preference("d", "l", "k", "Brief.", "p", "", BRIEF)])]
    answer = Answer(0, TEXT, 0, {(1, 0): "followed", (1, 1): "followed"})
    results, model, _ = await _judge(checklist_judge(lambda wish, _: "followed"), [answer], None, facets)
    assert model.requests == []
    assert _found(results) == Checked({}, [], 0, 0)
    results, model, _ = await _judge(checklist_judge(lambda wish, _: "followed"), [answer], NEUTRAL, facets)
    assert len(block_of(model.requests[0])["items"]) == 1
    assert _found(results).verdicts == {}


async def test_what_was_judged_is_not_asked_again() -> None:
    model = ScriptedModel(checklist_judge(lambda wish, _: "followed"))
    row = InstructionRow(row_id_of(INSTRUCTION), INSTRUCTION, "demo", "demo", 0)
    listed = Checklist(model, row, _facets(), 7, {0: Usage(), 1: Usage()})
    first = await listed.judge([_answer(0), _answer(1, "Another answer.")], NEUTRAL)
    second = await listed.judge([_answer(0), _answer(1, "A newer answer.", 1)], NEUTRAL)
    assert sorted(model.sample_indices) == ["judge:0:0:0", "judge:1:0:0", "judge:1:1:0"]
    assert first[0] is second[0]


def test_every_wish_has_room_in_the_answer() -> None:
    assert sampling_for(12).max_tokens == 1024 + 13 * 96
    assert sampling_for(100_000).max_tokens == 65_536
    assert sampling_for(12).temperature == 0.0


def test_the_prompt_says_what_is_untrusted_and_shows_a_valid_answer() -> None:
    shown = PROMPT.text[PROMPT.text.rindex("`{") + 1 : PROMPT.text.rindex("}`") + 1]
    assert ChecklistAnswer.model_validate_json(shown).items[0].verdict == "partly"
    assert "untrusted material" in PROMPT.text
    assert "control" not in PROMPT.messages(request={})[0]["content"]
