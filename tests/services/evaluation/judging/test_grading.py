"""Absolute grading: what the judge is shown, what becomes of its verdicts, and what is counted as lost."""

from typing import Any

import pytest

from services.evaluation.judging.grading import judge
from shared.domain.errors import StepDeferred
from shared.domain.rows import Answer, InstructionRow, Rejection
from shared.llm.protocol import CompletionRequest, RequestRejected
from tests.services.evaluation.conftest import context_for, facet, instruction
from tests.support.fake_models import Answer as Said
from tests.support.fake_models import ScriptedModel, block_of, completion_of


async def graded(row: InstructionRow, script: Any, **absolute: Any) -> ScriptedModel:
    model = ScriptedModel(script)
    await judge(row, context_for(model, "judge-a", {"absolute": {"runs": 1, "cross": False, **absolute}}))
    return model


def four(_: CompletionRequest) -> Said:
    return {"feedback": "well", "score": 4}


async def test_every_rubric_is_graded_as_often_as_asked_one_a_call() -> None:
    row = instruction(facet(0, ("jokes", "brevity"), "Hello!"))
    model = await graded(row, four, runs=3)
    assert len(model.requests) == 6
    assert sorted((one.rubric, one.run, one.score) for one in row.facets[0].judgments) == [
        (rubric, run, 4.0) for rubric in (0, 1) for run in (0, 1, 2)
    ]
    assert {request.sample_index for request in model.requests} == {"grade:0", "grade:1", "grade:2"}
    assert row.facets[0].provenance[-1].attempts == 6


async def test_the_judge_sees_answer_reference_and_rubric_and_not_the_system_message() -> None:
    row = instruction(facet(0, ("jokes",), "Hello!"))
    model = await graded(row, four)
    block = block_of(model.requests[0])
    assert block == {
        "instruction": "Say hello.",
        "answer": "Hello!",
        "reference": "reference 0",
        "criterion": "How much jokes?",
        "levels": {"1": "none", "2": "little", "3": "half", "4": "most", "5": "all"},
    }
    assert not any("You serve person" in message["content"] for message in model.requests[0].messages)
    assert list(model.requests[0].schema["properties"]) == ["feedback", "score"]  # type: ignore[index]
    without = await graded(instruction(facet(0, ("jokes",), "Hello!")), four, reference=False)
    assert block_of(without.requests[0])["reference"] is None


async def test_answers_are_graded_on_other_peoples_rubrics_where_their_wishes_differ() -> None:
    row = instruction(facet(0, ("jokes", "brevity"), "Hello!"), facet(1, ("jokes", "gravity"), "Good day."))
    await graded(row, four, cross=True)
    told = [sorted((one.facet, one.rubric) for one in judged.judgments) for judged in row.facets]
    assert told == [[(0, 0), (0, 1), (1, 1)], [(0, 1), (1, 0), (1, 1)]]


async def test_equal_answers_on_equal_rubrics_are_one_call_for_the_cache() -> None:
    first = await graded(instruction(facet(0, ("jokes",), "Hello!")), four)
    second = await graded(instruction(facet(0, ("jokes",), "Hello!")), four)
    assert first.requests == second.requests


@pytest.mark.parametrize(
    ("said", "score", "fault", "calls"),
    [
        ('```json\n{"feedback": "ok", "score": 2}\n```', 2.0, "", 1),
        ("It keeps to it mostly.\n[RESULT] 4", 4.0, "", 1),
        ("It is a fine answer.", None, "no_verdict", 2),
        ({"feedback": "great", "score": 9}, None, "out_of_range", 1),
        (completion_of("No.", refusal="No."), None, "content_refused", 1),
        (completion_of('{"feedback": "and so', finish_reason="length"), None, "output_truncated", 1),
        (RequestRejected("too long"), None, "request_rejected", 1),
    ],
)
async def test_a_verdict_is_read_or_lost_with_its_reason_and_never_averaged(
    said: Said, score: float | None, fault: str, calls: int
) -> None:
    row = instruction(facet(0, ("jokes",), "Hello!"))
    model = await graded(row, lambda _: said)
    (judgment,) = row.facets[0].judgments
    assert (judgment.score, judgment.fault) == (score, fault)
    assert len(model.requests) == calls
    assert row.facets[0].alive


async def test_a_judge_that_knows_no_json_is_asked_for_a_tag() -> None:
    row = instruction(facet(0, ("jokes",), "Hello!"))
    model = await graded(row, lambda _: "Fine. [RESULT] 5", form="tagged")
    assert model.requests[0].schema is None
    assert "[RESULT] 3" in model.requests[0].messages[0]["content"]
    assert row.facets[0].judgments[0].score == 5.0


async def test_what_was_not_answered_or_has_no_rubric_is_counted_and_not_asked() -> None:
    rejected = facet(0, ("jokes", "brevity"), None, rejection=Rejection("a", "empty"))
    bare = facet(1, ("jokes",), "Hello!")
    bare.rubrics = []
    row = instruction(rejected, bare)
    model = await graded(row, four, runs=2)
    assert not model.requests
    assert [one.fault for one in rejected.judgments] == ["no_answer"] * 4
    assert [(one.rubric, one.fault) for one in bare.judgments] == [(-1, "no_rubric")]


async def test_of_several_answers_the_best_counts_and_all_where_none_is_marked() -> None:
    several = facet(0, ("jokes",), None)
    several.answers = [
        Answer("one", "stop", 1, 1),
        Answer("two", "stop", 2, 1, fault="empty"),
        Answer("three", "stop", 3, 1),
    ]
    await graded(instruction(several), four)
    assert [one.answer for one in several.judgments] == [0, 2]
    several.answers[2] = Answer("three", "stop", 3, 1, best=True)
    await graded(instruction(several), four)
    assert [one.answer for one in several.judgments] == [2]


async def test_a_provider_that_is_away_costs_no_verdict() -> None:
    with pytest.raises(StepDeferred):
        await graded(instruction(facet(0, ("jokes",), "Hello!")), lambda _: StepDeferred("away", 1.0))
