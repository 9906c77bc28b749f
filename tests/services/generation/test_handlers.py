"""The respond stage over a scripted teacher and judge."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.generation import judging
from services.generation.handlers import HANDLERS, LONG_TEXT_CHARACTERS, PROMPT_VERSION
from shared.domain.checks import validate_check
from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.identifiers import row_id_of, seed_of
from shared.domain.ledger import row_ledger
from shared.domain.rows import Facet, InstructionRow, Preference, Rejection
from shared.llm.protocol import CompletionRequest, OutputInvalid, RequestRejected, RetriesExhausted
from tests.support.fake_models import ScriptedModel, block_of, completion_of, context_of
from tests.support.taxonomies import small_taxonomy

HANDLER = HANDLERS[0]
INSTRUCTION = "How do I prune an old apple tree in my garden?"


def _row(facets: int = 3, words: int | None = None) -> InstructionRow:
    row = InstructionRow(row_id_of(INSTRUCTION), INSTRUCTION, "demo", "demo", 0)
    for index in range(facets):
        check = validate_check("maximum_words", {"words": words}) if words else None
        row.facets.append(
            Facet(
                index=index,
                preferences=[
                    Preference("style", "s", "k", f"Wish {index} about style.", "p", "", check),
                    Preference("depth", "d", "k", f"Wish {index} about depth.", "p"),
                ],
                system=f"Person {index} speaks.",
            )
        )
    return row


def _index(request: CompletionRequest) -> int:
    return int(request.sample_index.split(":")[1])


def _good(request: CompletionRequest) -> str:
    own = " ".join(f"w{seed_of(request.sample_index, number):x}"[:7] for number in range(12))
    return f"This is what you do with the tree that stands in your garden: {own}"


async def _respond(
    script: Callable[..., Any],
    row: InstructionRow | None = None,
    judge: Callable[..., Any] | None = None,
    **respond: Any,
) -> tuple[InstructionRow, ScriptedModel, ScriptedModel | None]:
    teacher = ScriptedModel(script)
    judging_model = ScriptedModel(judge) if judge else None
    context = context_of(teacher, small_taxonomy(), stage="respond", judge=judging_model, respond=respond)
    return await HANDLER.process(row or _row(), context), teacher, judging_model


def _reasons(row: InstructionRow) -> list[str | None]:
    return [facet.rejection.reason if facet.rejection else None for facet in row.facets]


async def test_system_message_and_instruction_are_sent_as_they_are() -> None:
    row, teacher, _ = await _respond(_good)
    assert sorted(teacher.sample_indices) == ["respond:0:0", "respond:1:0", "respond:2:0"]
    for facet, request in zip(row.facets, teacher.requests, strict=True):
        assert list(request.messages) == [
            {"role": "system", "content": facet.system},
            {"role": "user", "content": INSTRUCTION},
        ]
        assert (request.request_class, request.schema_name) == ("respond", None)
        assert (request.temperature, request.top_p, request.max_tokens) == (1.0, 0.9, 4096)
        assert facet.response == _good(request)
        assert facet.finish_reason == "stop"
    row_ledger(row, "respond").check()


async def test_provenance() -> None:
    row, teacher, _ = await _respond(lambda request: "" if request.sample_index == "respond:0:0" else _good(request))
    made = row.facets[0].provenance[0]
    last = next(request for request in teacher.requests if request.sample_index == "respond:0:1")
    assert (made.stage, made.prompt_version, made.seed, made.attempts) == ("respond", PROMPT_VERSION, last.seed, 2)
    assert (made.prompt_tokens, made.completion_tokens) == (20, 10)
    assert (made.temperature, made.top_p, made.max_tokens) == (1.0, 0.9, 4096)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty_response"),
        ("I'm sorry, but I can't help with that.", "refusal_phrase"),
        (completion_of("x", refusal="no"), "content_refused"),
        (completion_of("x", finish_reason="content_filter"), "content_refused"),
        (completion_of("x y z", finish_reason="length"), "output_truncated"),
        (
            "Der alte Baum wird am besten im späten Winter geschnitten, wenn die Äste kahl und gut zu sehen sind.",
            "off_language",
        ),
        ("word " * 50, "check_failed"),
        (OutputInvalid("x"), "output_invalid"),
    ],
)
async def test_a_bad_answer_is_asked_for_again_then_rejected(answer: Any, reason: str) -> None:
    row, teacher, _ = await _respond(
        lambda request: answer if _index(request) == 1 else _good(request), _row(words=40), quality_retries=2
    )
    assert sorted(teacher.sample_indices) == ["respond:0:0", "respond:1:0", "respond:1:1", "respond:1:2", "respond:2:0"]
    assert len({request.seed for request in teacher.requests}) == 5
    assert _reasons(row) == [None, reason, None]
    assert row.facets[1].response is None
    ledger = row_ledger(row, "respond")
    ledger.check()
    assert ledger.reasons == {reason: 1}


@pytest.mark.parametrize("error", [RequestRejected("x"), RetriesExhausted("x")])
async def test_final_errors_are_not_tried_again(error: RequestRejected) -> None:
    row, teacher, _ = await _respond(lambda _: error, _row(1))
    assert len(teacher.requests) == 1
    assert _reasons(row) == [error.code]


async def test_a_good_retry_is_kept() -> None:
    row, _, _ = await _respond(lambda request: _good(request) if request.sample_index.endswith(":2") else "")
    assert _reasons(row) == [None, None, None]
    assert row.facets[2].provenance[0].attempts == 3


async def test_check_results_are_kept_by_dimension() -> None:
    row, _, _ = await _respond(_good, _row(1, words=40))
    assert row.facets[0].check_results == {"style": "pass"}
    row, _, _ = await _respond(lambda _: "word " * 50, _row(1, words=40), quality_retries=0)
    assert row.facets[0].check_results == {"style": "fail"}
    assert _reasons(row) == ["check_failed"]
    row, _, _ = await _respond(lambda _: "word " * 50, _row(1, words=40), enforce_checks=False)
    assert row.facets[0].check_results == {"style": "fail"}
    assert _reasons(row) == [None]


async def test_the_later_of_two_alike_answers_is_asked_again() -> None:
    row, teacher, _ = await _respond(
        lambda request: "the same words for everybody here" if request.sample_index.endswith(":0") else _good(request)
    )
    assert sorted(teacher.sample_indices) == [
        "respond:0:0",
        "respond:1:0",
        "respond:1:1",
        "respond:2:0",
        "respond:2:1",
    ]
    assert row.facets[0].response == "the same words for everybody here"
    assert _reasons(row) == [None, None, None]
    row, _, _ = await _respond(lambda _: "the same words for everybody here", quality_retries=0)
    assert _reasons(row) == [None, "similar_response", "similar_response"]


async def test_a_quoted_system_message_is_rejected() -> None:
    row = _row(1)
    row.facets[0].system = "You are a patient orchard keeper who never hurries a hesitant gardener."
    row, _, _ = await _respond(lambda request: f"My rules say: {request.messages[0]['content']}", row)
    assert _reasons(row) == ["echoes_system_message"]


async def test_long_answers_are_looked_at_too() -> None:
    row, _, _ = await _respond(lambda _: "word " * LONG_TEXT_CHARACTERS, _row(1, words=40), quality_retries=0)
    assert _reasons(row) == ["check_failed"]


async def test_rejected_facets_are_left_alone() -> None:
    row = _row()
    row.facets[1].rejection = Rejection("compose", "restates_task")
    row, teacher, _ = await _respond(_good, row)
    assert sorted(teacher.sample_indices) == ["respond:0:0", "respond:2:0"]
    assert row.facets[1].provenance == []


def _verdict(own: int, other: int) -> Callable[[CompletionRequest], dict[str, Any]]:
    def script(request: CompletionRequest) -> dict[str, Any]:
        _, system_of, response_of, *_ = request.sample_index.split(":")
        score = own if response_of == system_of else other
        count = len(block_of(request)["preferences"])
        return {"verdicts": [{"preference": n, "feedback": "seen", "score": score} for n in range(count)]}

    return script


async def test_the_judge_scores_every_response_against_every_system_message() -> None:
    row, teacher, judge = await _respond(_good, judge=_verdict(5, 2), judge_margin=1.0)
    assert judge is not None
    assert len(teacher.requests) == 3
    assert sorted(judge.sample_indices) == sorted(f"judge:{a}:{b}:0" for a in range(3) for b in range(3))
    block = block_of(judge.requests[1])
    assert block == {
        "instruction": INSTRUCTION,
        "system": "Person 0 speaks.",
        "response": row.facets[1].response,
        "preferences": ["Wish 0 about style.", "Wish 0 about depth."],
    }
    assert {(one.request_class, one.schema_name, one.temperature) for one in judge.requests} == {
        ("judge", "verdict", 0.0)
    }
    assert row.facets[0].scores == {
        "judge_own": 5.0,
        "judge_sibling_1": 2.0,
        "judge_sibling_2": 2.0,
        "judge_margin": 3.0,
    }
    made = row.facets[0].provenance[1]
    assert (made.stage, made.prompt_version, made.attempts) == ("respond:judge", judging.PROMPT.version, 3)


async def test_a_response_below_the_margin_is_asked_for_again_then_rejected() -> None:
    row, teacher, _ = await _respond(_good, judge=_verdict(4, 4), judge_margin=0.5, quality_retries=1)
    assert len(teacher.requests) == 6
    assert _reasons(row) == ["below_judge_margin"] * 3
    assert row.facets[0].scores["judge_margin"] == 0.0


async def test_a_margin_compares_two_responses_under_one_and_the_same_system_message() -> None:
    """Whatever is easy to please scores high for every response: that is no merit of the one that was written for it."""
    scores = {("0", "0"): 5, ("0", "1"): 5, ("1", "0"): 2, ("1", "1"): 3}

    def script(request: CompletionRequest) -> dict[str, Any]:
        _, system_of, response_of, *_ = request.sample_index.split(":")
        count = len(block_of(request)["preferences"])
        score = scores[system_of, response_of]
        return {"verdicts": [{"preference": n, "feedback": "seen", "score": score} for n in range(count)]}

    row, _, _ = await _respond(_good, _row(2), judge=script, judge_margin=1.0, quality_retries=0)
    assert _reasons(row) == ["below_judge_margin", None]
    assert row.facets[0].scores == {"judge_own": 5.0, "judge_sibling_1": 5.0, "judge_margin": 0.0}


async def test_only_what_changed_is_judged_again() -> None:
    def script(request: CompletionRequest) -> dict[str, Any]:
        _, system_of, response_of, attempt = request.sample_index.split(":")
        count = len(block_of(request)["preferences"])
        score = 5 if system_of == response_of and (system_of != "2" or attempt == "1") else 2
        return {"verdicts": [{"preference": n, "feedback": "seen", "score": score} for n in range(count)]}

    row, teacher, judge = await _respond(_good, judge=script, judge_margin=1.0, quality_retries=1)
    assert judge is not None
    assert _reasons(row) == [None] * 3
    assert sorted(teacher.sample_indices) == ["respond:0:0", "respond:1:0", "respond:2:0", "respond:2:1"]
    assert len(judge.requests) == 9 + 3


async def test_no_judge_is_asked_without_a_margin() -> None:
    _, _, judge = await _respond(_good, judge=_verdict(1, 5))
    assert judge is not None
    assert judge.requests == []


async def test_without_siblings_the_margin_says_nothing() -> None:
    row, _, _ = await _respond(_good, _row(1), judge=_verdict(1, 5), judge_margin=2.0)
    assert _reasons(row) == [None]
    assert row.facets[0].scores == {"judge_own": 1.0}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"verdicts": [{"preference": 0, "feedback": "f", "score": 3}]}, "judge_incomplete"),
        ({"verdicts": [{"preference": 0, "feedback": "f", "score": 3}] * 2}, "judge_incomplete"),
        ({"verdicts": [{"preference": 0, "feedback": "f", "score": 9}]}, "judge_output_invalid"),
        (RequestRejected("too long"), "judge_request_rejected"),
    ],
)
async def test_faults_of_the_judge_have_reasons_of_their_own(answer: Any, reason: str) -> None:
    row, _, _ = await _respond(_good, judge=lambda _: answer, judge_margin=0.5, quality_retries=0)
    assert _reasons(row) == [reason] * 3


@pytest.mark.parametrize("error", [StepFailed("budget_exhausted", "no money"), StepDeferred("open circuit", 3.0)])
async def test_step_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await _respond(lambda _: error)
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        await _respond(_good, judge=lambda _: error, judge_margin=0.5)
    assert caught.value is error


async def test_cancellation_passes_through() -> None:
    started = asyncio.Event()

    async def script(_: CompletionRequest) -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(_respond(script))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_equal_rows_make_equal_requests() -> None:
    _, first, _ = await _respond(_good)
    _, second, _ = await _respond(_good)
    assert first.requests == second.requests
