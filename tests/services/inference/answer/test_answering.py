"""Answers of a candidate to one row: what is asked, what is kept, which is best, what is rejected."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.answer.answering import SCORES_PER_CALL, answer, with_best
from services.inference.answer.faults import error_fault
from shared.domain.errors import StepDeferred
from shared.domain.ledger import row_ledger
from shared.domain.rows import Answer, Facet, InstructionRow, Rejection
from shared.domain.taxonomy import default_taxonomy
from shared.llm.protocol import CompletionRequest, Message, RequestRejected, RetriesExhausted
from shared.stages.protocol import RowContext
from tests.support.fake_models import ScriptedModel, completion_of, context_of


class ScriptedScorer:
    """Scores a conversation by `script(its last text)`; an error is raised for the whole call."""

    provider = "scripted-provider"
    model = "scripted-rm"

    def __init__(self, script: Any) -> None:
        self._script = script
        self.sizes: list[int] = []

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        self.sizes.append(len(conversations))
        found = [self._script(messages[-1]["content"]) for messages in conversations]
        for value in found:
            if isinstance(value, Exception):
                raise value
        return found


def row_of(*systems: str | None) -> InstructionRow:
    facets = [Facet(index, system=system, response="gold") for index, system in enumerate(systems)]
    return InstructionRow("0" * 16, "Explain rain.", "s", "s", 0, facets=facets)


def context(candidate: ScriptedModel, scorer: ScriptedScorer | None = None, **values: Any) -> RowContext:
    spec = {"name": "janus", "candidate": {"deployment": "lm"}, **values}
    if scorer is not None:
        spec["reward"] = {"deployment": "rm"}
    made = context_of(candidate, default_taxonomy(), stage="janus", answer=[spec])
    return msgspec.structs.replace(made, scorer=scorer)


def by_seed(request: CompletionRequest) -> str:
    return f"answer {request.seed}"


async def test_each_facet_is_asked_under_its_own_message_with_the_decoding_of_the_stage() -> None:
    candidate = ScriptedModel(lambda request: "An answer.")
    row = await answer(row_of("Be brief.", None), context(candidate))
    assert [list(request.messages) for request in candidate.requests] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Explain rain."}],
        [{"role": "user", "content": "Explain rain."}],
    ]
    request = candidate.requests[0]
    assert (request.temperature, request.top_p, request.max_tokens, request.repetition_penalty) == (1, 0.9, 1024, 1.03)
    assert [facet.response for facet in row.facets] == ["gold", "gold"]
    assert all(facet.answers[0].best for facet in row.facets)
    made = row.facets[0].provenance[-1]
    assert (made.stage, made.model, made.repetition_penalty, made.seed) == (
        "janus",
        "scripted-model",
        1.03,
        row.facets[0].answers[0].seed,
    )


async def test_without_the_system_message_every_facet_is_asked_the_instruction_alone() -> None:
    candidate = ScriptedModel(lambda request: "An answer.")
    await answer(row_of("Be brief.", "Be long."), context(candidate, system="none"))
    assert {len(request.messages) for request in candidate.requests} == {1}
    assert len(set(candidate.sample_indices)) == 2


async def test_greedy_sends_no_top_p() -> None:
    candidate = ScriptedModel(lambda request: "An answer.")
    await answer(row_of(None), context(candidate, decoding={"temperature": 0}))
    assert (candidate.requests[0].temperature, candidate.requests[0].top_p) == (0, None)


async def test_all_samples_are_kept_with_their_scores_and_the_best_is_marked() -> None:
    candidate = ScriptedModel(by_seed)
    scorer = ScriptedScorer(lambda text: float(int(text.split()[1]) % 1000))
    row = await answer(row_of("Be brief."), context(candidate, scorer, samples=10))
    answers = row.facets[0].answers
    assert len(answers) == len({one.seed for one in answers}) == len(set(candidate.sample_indices)) == 10
    assert [one.text for one in answers] == [f"answer {one.seed}" for one in answers]
    assert [one.reward for one in answers] == [float(one.seed % 1000) for one in answers]
    assert [one for one in answers if one.best] == [max(answers, key=lambda one: one.reward or 0)]
    assert max(scorer.sizes) == SCORES_PER_CALL
    assert sum(scorer.sizes) == 10
    assert row.facets[0].provenance[-1].stage == "janus:reward"


async def test_seeds_follow_from_the_job_and_do_not_depend_on_how_many_are_drawn() -> None:
    few, many = ScriptedModel(by_seed), ScriptedModel(by_seed)
    await answer(row_of("a", "b"), context(few, samples=2, keep_all=True))
    await answer(row_of("a", "b"), context(many, samples=5, keep_all=True))
    assert {request.seed for request in few.requests} < {request.seed for request in many.requests}
    assert all(0 <= (request.seed or -1) < 2**31 for request in many.requests)


async def test_several_answers_that_nothing_ranks_have_no_best() -> None:
    row = await answer(row_of("a"), context(ScriptedModel(by_seed), samples=3, keep_all=True))
    assert not any(one.best for one in row.facets[0].answers)
    assert row.facets[0].alive


async def test_answers_with_a_fault_are_kept_and_never_the_best() -> None:
    def script(request: CompletionRequest) -> Any:
        number = int(request.sample_index.rsplit(":", 1)[1])
        return ["  \n", completion_of("cut", finish_reason="length"), RetriesExhausted("x"), "whole"][number]

    scorer = ScriptedScorer(lambda text: 2.0 if text == "cut" else 1.0)
    row = await answer(row_of("a"), context(ScriptedModel(script), scorer, samples=4))
    answers = row.facets[0].answers
    assert [one.fault for one in answers] == ["empty", "", "retries_exhausted", ""]
    assert [one.reward for one in answers] == [None, 2.0, None, 1.0]
    assert [one.best for one in answers] == [False, True, False, False]
    assert row.facets[0].alive


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "empty"),
        (completion_of("no", refusal="no"), "content_refused"),
        (completion_of("no", finish_reason="content_filter"), "content_refused"),
        (RequestRejected("422: `inputs` tokens + `max_new_tokens` must be <= 512. Given: 600"), "prompt_too_long"),
        (
            RequestRejected("422: the prompt has 600 tokens, which is 89 tokens too many: at most 511"),
            "prompt_too_long",
        ),
        (RequestRejected("400: context_length_exceeded"), "prompt_too_long"),
        (RequestRejected("422: bad"), "request_rejected"),
        (RetriesExhausted("x"), "retries_exhausted"),
    ],
)
async def test_a_facet_is_rejected_with_its_reason_where_no_answer_counts(given: Any, reason: str) -> None:
    def script(request: CompletionRequest) -> Any:
        return "fine" if request.sample_index.startswith("answer:1") else given

    row = await answer(row_of("a", "b"), context(ScriptedModel(script)))
    assert row.facets[0].rejection == Rejection("janus", reason, "1 of 1 answers")
    assert row.facets[1].alive
    ledger = row_ledger(row, "janus")
    ledger.check()
    assert (ledger.facets_in, ledger.facets_out, ledger.reasons) == (2, 1, {reason: 1})


async def test_a_text_that_cannot_be_scored_does_not_take_the_others_along() -> None:
    def score(text: str) -> Any:
        return RequestRejected("too long") if text.endswith(bad) else 1.0

    candidate = ScriptedModel(lambda request: f"text {request.sample_index}")
    bad = ":0:2"
    row = await answer(row_of("a"), context(candidate, ScriptedScorer(score), samples=4))
    assert [one.fault for one in row.facets[0].answers] == ["", "", "not_scored", ""]
    assert [one.reward for one in row.facets[0].answers] == [1.0, 1.0, None, 1.0]


async def test_rejected_facets_are_not_asked_and_a_server_that_is_away_passes_through() -> None:
    row = row_of("a", "b")
    row.facets[0].rejection = Rejection("respond", "refused")
    candidate = ScriptedModel(lambda request: StepDeferred("away", 3))
    with pytest.raises(StepDeferred):
        await answer(row, context(candidate))
    assert candidate.sample_indices == ["answer:1:0"]
    assert not row.facets[1].answers


@given(st.lists(st.tuples(st.sampled_from(["", "empty"]), st.none() | st.floats(-5, 5)), min_size=1, max_size=8))
def test_the_best_is_the_first_of_the_highest_rewards(given: list[tuple[str, float | None]]) -> None:
    answers = [
        Answer("t", "stop", n, 1, None if fault else reward, fault=fault) for n, (fault, reward) in enumerate(given)
    ]
    marked = with_best(answers, is_ranked=True)
    best = [position for position, one in enumerate(marked) if one.best]
    rewards = [one.reward for one in answers]
    known = [reward for reward in rewards if reward is not None]
    assert best == ([rewards.index(max(known))] if known else [])


def test_an_unknown_error_keeps_its_code() -> None:
    assert error_fault(RetriesExhausted("`inputs` must have less than 5 tokens")) == "retries_exhausted"
