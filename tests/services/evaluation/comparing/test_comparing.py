"""Pairwise verdicts: both orders always, told as the candidate sees them."""

from typing import Any

import pytest

from services.evaluation.comparing.comparing import compare
from shared.domain.rows import Answer as Given
from shared.domain.rows import Facet, InstructionRow
from shared.llm.protocol import CompletionRequest
from tests.services.evaluation.conftest import context_for, facet, instruction
from tests.support.fake_models import Answer, ScriptedModel, block_of


async def compared(row: InstructionRow, baseline: Facet | None, script: Any, **pairwise: Any) -> ScriptedModel:
    model = ScriptedModel(script)
    rows = {} if baseline is None else {"row1": instruction(baseline)}
    await compare(row, context_for(model, "compare-b", {"pairwise": {"baseline": "a", **pairwise}}, a=rows))
    return model


def prefers(text: str, first: str, second: str) -> Any:
    """A judge that gives `first` where the text stands first, else `second`."""

    def script(request: CompletionRequest) -> Answer:
        verdict = first if block_of(request)["answer_a"] == text else second
        return {"feedback": "so it is", "verdict": verdict, "own_answer": "mine"}

    return script


@pytest.mark.parametrize(
    ("protocol", "first", "second", "told"),
    [
        ("person", "a", "b", "win"),
        ("person", "b", "a", "lose"),
        ("person", "both_good", "both_good", "both_good"),
        ("alpaca_eval", "b", "a", "lose"),
        ("arena_hard", "a>>b", "b>>a", "much_better"),
        ("arena_hard", "b>a", "a>b", "worse"),
        ("arena_hard", "a=b", "a=b", "same"),
    ],
)
async def test_both_orders_are_told_as_the_candidate_sees_them(
    protocol: str, first: str, second: str, told: str
) -> None:
    row = instruction(facet(0, ("jokes",), "Ours"))

    def script(request: CompletionRequest) -> Answer:
        answer = prefers("Ours", first, second)(request)
        return answer if protocol == "arena_hard" else {key: answer[key] for key in ("feedback", "verdict")}

    model = await compared(row, facet(0, ("jokes",), "Theirs"), script, protocol=protocol, runs=2)
    assert [(one.order, one.run, one.verdict) for one in row.facets[0].comparisons] == [
        (0, 0, told),
        (0, 1, told),
        (1, 0, told),
        (1, 1, told),
    ]
    shown = [(block_of(request)["answer_a"], block_of(request)["answer_b"]) for request in model.requests]
    assert shown == [("Ours", "Theirs")] * 2 + [("Theirs", "Ours")] * 2


async def test_a_judge_of_arena_hard_answers_for_itself_before_it_says_a_word_of_the_two() -> None:
    row = instruction(facet(0, ("jokes",), "Ours"))
    said = {"own_answer": "Hi.", "feedback": "even", "verdict": "a=b"}
    model = await compared(row, facet(0, ("jokes",), "Theirs"), lambda _: said, protocol="arena_hard")
    schema = model.requests[0].schema
    assert schema is not None
    assert list(schema["properties"]) == ["own_answer", "feedback", "verdict"]
    for protocol in ("person", "alpaca_eval"):
        model = await compared(row, facet(0, ("jokes",), "Theirs"), lambda _: "[[a]]", protocol=protocol)
        schema = model.requests[0].schema
        assert schema is not None
        assert list(schema["properties"]) == ["feedback", "verdict"]


async def test_of_a_conversation_the_whole_is_compared() -> None:
    own, baseline = facet(0, ("jokes",), "Ours"), facet(0, ("jokes",), "Theirs")
    own.answers = [Given("Ours", "stop", 1, 1, best=True, later=["Ours too"])]
    row = instruction(own, turns=["And now?"])
    model = await compared(row, baseline, lambda _: {"feedback": "", "verdict": "a"})
    block = block_of(model.requests[0])
    assert block["answer_a"] == [
        {"user": "Say hello.", "assistant": "Ours"},
        {"user": "And now?", "assistant": "Ours too"},
    ]
    assert block["answer_b"] == [{"user": "Say hello.", "assistant": "Theirs"}]


async def test_a_judge_of_position_is_seen_to_change_sides() -> None:
    row = instruction(facet(0, ("jokes",), "Ours"))
    await compared(row, facet(0, ("jokes",), "Theirs"), lambda _: {"feedback": "first", "verdict": "a"})
    assert [one.verdict for one in row.facets[0].comparisons] == ["win", "lose"]


async def test_what_the_person_wants_is_shown_in_its_own_protocol_alone() -> None:
    for protocol, wants in (("person", ["Wants jokes."]), ("alpaca_eval", None)):
        row = instruction(facet(0, ("jokes",), "Ours"))
        model = await compared(
            row, facet(0, ("jokes",), "Theirs"), lambda _: {"feedback": "", "verdict": "a"}, protocol=protocol
        )
        assert block_of(model.requests[0]).get("wants") == wants
        assert not any("You serve" in message["content"] for message in model.requests[0].messages)


@pytest.mark.parametrize(
    ("own", "baseline", "fault"),
    [(None, "Theirs", "no_answer"), ("Ours", None, "no_baseline_answer")],
)
async def test_a_missing_answer_loses_the_verdicts_and_asks_nobody(
    own: str | None, baseline: str | None, fault: str
) -> None:
    row = instruction(facet(0, ("jokes",), own))
    model = await compared(row, facet(0, ("jokes",), baseline), lambda _: "never")
    assert not model.requests
    assert [(one.verdict, one.fault) for one in row.facets[0].comparisons] == [("", fault)] * 2


async def test_a_baseline_that_was_asked_other_questions_has_no_answer() -> None:
    row = instruction(facet(0, ("jokes",), "Ours"))
    await compared(row, None, lambda _: "never")
    assert {one.fault for one in row.facets[0].comparisons} == {"no_baseline_answer"}


async def test_prose_is_read_by_its_last_tag() -> None:
    row = instruction(facet(0, ("jokes",), "Ours"))
    await compared(row, facet(0, ("jokes",), "Theirs"), lambda _: "[[a]] no: [[both bad]]", form="tagged")
    assert {one.verdict for one in row.facets[0].comparisons} == {"both_bad"}
