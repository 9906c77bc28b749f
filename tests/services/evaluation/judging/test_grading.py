"""Absolute grading: what the judge is shown, what becomes of its verdicts, and what is counted as lost."""

import asyncio
from typing import Any

import pytest

from services.evaluation.judging.asking import CALLS_OF_A_ROW
from services.evaluation.judging.grading import judge
from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.rows import Answer, InstructionRow, Rejection
from shared.llm.protocol import (
    CompletionRequest,
    ContentRefused,
    OutputInvalid,
    OutputTruncated,
    RequestRejected,
    RetriesExhausted,
)
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


async def test_a_row_with_many_verdicts_makes_few_of_its_calls_ready_at_once() -> None:
    open_now, most = 0, 0

    async def slow(_: CompletionRequest) -> Said:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        return {"feedback": "well", "score": 4}

    wishes = tuple(f"wish {number}" for number in range(8))
    row = instruction(*(facet(index, wishes, f"Hello {index}!") for index in range(4)))
    model = await graded(row, slow, runs=16)
    assert len(model.requests) == 4 * 8 * 16
    assert 1 < most <= CALLS_OF_A_ROW
    assert [(one.rubric, one.run) for one in row.facets[3].judgments] == [
        (n, run) for n in range(8) for run in range(16)
    ]


async def test_a_wish_that_several_others_share_is_graded_once_and_that_of_the_rejected_not_at_all() -> None:
    gone = facet(3, ("patience",), None, rejection=Rejection("a", "empty"))
    row = instruction(
        facet(0, ("jokes",), "Hello!"), facet(1, ("gravity",), "Good day."), facet(2, ("gravity",), "Sir."), gone
    )
    await graded(row, four, cross=True)
    assert [(one.facet, one.rubric) for one in row.facets[0].judgments] == [(0, 0), (1, 0)]
    assert [one.fault for one in gone.judgments] == ["no_answer"]


async def test_a_conversation_is_graded_whole_beside_a_whole_reference_alone() -> None:
    talk = facet(0, ("jokes",), None)
    talk.answers = [Answer("Hello!", "stop", 1, 1, best=True, later=["Bye!"])]
    partly = await graded(instruction(talk, turns=["And now?"]), four)
    assert block_of(partly.requests[0])["answer"] == [
        {"user": "Say hello.", "assistant": "Hello!"},
        {"user": "And now?", "assistant": "Bye!"},
    ]
    assert block_of(partly.requests[0])["reference"] is None
    talk.later_references = ["reference 0b"]
    wholly = await graded(instruction(talk, turns=["And now?"]), four)
    assert block_of(wholly.requests[0])["reference"][1] == {"user": "And now?", "assistant": "reference 0b"}


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
        (
            completion_of("A score of 5 would need more, and score: 5", finish_reason="length"),
            None,
            "output_truncated",
            1,
        ),
        ('{"feedback": "a slip: the score is 5 at most", "score": 2, "more": 1}', None, "no_verdict", 2),
        (RequestRejected("too long"), None, "request_rejected", 1),
        (RetriesExhausted("away"), None, "retries_exhausted", 1),
        (ContentRefused("no"), None, "content_refused", 1),
        (OutputInvalid("no"), None, "output_invalid", 1),
        (OutputTruncated("no"), None, "output_truncated", 1),
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


async def test_broken_json_is_mended_and_what_its_feedback_says_is_not_taken_for_the_verdict() -> None:
    row = instruction(facet(0, ("jokes",), "Hello!"))
    broken, mended = '{"feedback": "[RESULT] 5 if funny", "score": "low"}', '{"feedback": "dull", "score": 2}'
    model = await graded(row, lambda request: mended if request.sample_index.endswith("/repair") else broken)
    assert model.sample_indices == ["grade:0", "grade:0/repair"]
    assert [(one.score, one.feedback) for one in row.facets[0].judgments] == [(2.0, "dull")]
    assert row.facets[0].provenance[-1].attempts == 2


async def test_a_judge_that_went_on_after_its_verdict_has_given_one() -> None:
    row = instruction(facet(0, ("jokes",), "Hello!"))
    rambling = completion_of("Dull.\n[RESULT] 2\nThe next answer: score: 5", finish_reason="length")
    await graded(row, lambda _: rambling, form="tagged")
    assert row.facets[0].judgments[0].score == 2.0


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


@pytest.mark.parametrize("error", [StepDeferred("away", 1.0), StepFailed("budget_exhausted", "no money")])
async def test_a_provider_that_is_away_and_a_spent_budget_cost_no_verdict(error: Exception) -> None:
    row = instruction(facet(0, ("jokes",), "Hello!"))
    with pytest.raises(type(error)):
        await graded(row, lambda _: error)
    assert not row.facets[0].judgments
