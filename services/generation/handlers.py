"""The row stage `respond`: the gold response of each living facet, to its system message and the row's instruction."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from services.generation import judging
from services.generation.judging import Answer, Judge
from services.generation.validation import (
    compare_responses,
    judge_completion,
    judge_text,
    long_sentences,
    run_checks,
    tokens_to_compare,
)
from shared.domain.errors import StepFailed
from shared.domain.identifiers import seed_of
from shared.domain.plan import StageKind
from shared.domain.rows import Facet, InstructionRow
from shared.llm.protocol import CompletionRequest, Message
from shared.stages.facets import Fault, Usage, provenance_of, reject, settle_facets
from shared.stages.protocol import RowContext, RowStageHandler

PROMPT_VERSION = "verbatim"
"""There is no prompt: the system message and the instruction are sent as they are."""
LONG_TEXT_CHARACTERS = 20_000
"""Texts above this are looked at in a thread: they could hold the event loop for more than 50 ms."""


class _Work(msgspec.Struct):
    """One facet on its way. `check_results` and `scores` are those of the latest try."""

    facet: Facet
    messages: list[Message]
    sentences: tuple[str, ...]
    usage: Usage
    judge_usage: Usage
    seed: int = 0
    check_results: Mapping[str, str] = {}
    scores: dict[str, float] = {}


class _Response(msgspec.Struct, frozen=True):
    text: str
    finish_reason: str
    tokens: list[str]
    attempt: int


async def respond(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `response`, `finish_reason`, `check_results` and `scores` of every living facet, or reject it.

    Rejection reasons: `content_refused`, `refusal_phrase`, `output_truncated`, `empty_response`, `echoes_system_message`,
    `off_language`, `check_failed` (its outcome is kept in `check_results`), `similar_response`, `below_judge_margin`,
    those of the judge's calls, and the codes of the model's errors. Raises StepFailed where a margin is asked for and the
    step has no judge.
    """
    parameters = context.spec.respond
    living = [facet for facet in row.facets if facet.alive]
    works = {facet.index: _prepare(row, facet) for facet in living}
    alone = len(living) == 1

    async def make(index: int, attempt: int) -> _Response | Fault:
        work = works[index]
        work.usage.attempts += 1
        work.check_results, work.scores = {}, {}
        sample_index = f"respond:{index}:{attempt}"
        work.seed = seed_of(context.spec.seed, "respond", row.row_id, sample_index)
        completion = await context.teacher.complete(
            CompletionRequest(
                messages=work.messages,
                request_class="respond",
                sample_index=sample_index,
                temperature=parameters.sampling.temperature,
                top_p=parameters.sampling.top_p,
                max_tokens=parameters.sampling.max_tokens,
                seed=work.seed,
            )
        )
        work.usage.add(completion)
        text = completion.text.strip()
        fault = judge_completion(completion, text, parameters)
        if fault is None and len(text) > LONG_TEXT_CHARACTERS:
            fault = await asyncio.to_thread(_inspect, text, row, work, context)
        elif fault is None:
            fault = _inspect(text, row, work, context)
        if fault is not None:
            return fault
        return _Response(text, completion.finish_reason, [] if alone else tokens_to_compare(text), attempt)

    def compare(response: _Response, accepted: Sequence[_Response]) -> Fault | None:
        return compare_responses(
            response.tokens, [other.tokens for other in accepted], parameters.maximum_sibling_similarity
        )

    judge = None if parameters.judge_margin is None else _margin_gate(row, works, parameters.judge_margin, context)
    outcomes = await settle_facets(list(works), make, compare, parameters.quality_retries, judge)
    for index, outcome in outcomes.items():
        _finish(works[index], outcome, context)
    return row


def _prepare(row: InstructionRow, facet: Facet) -> _Work:
    system = facet.system or ""
    messages: list[Message] = [{"role": "user", "content": row.instruction}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return _Work(facet, messages, long_sentences(system), Usage(), Usage())


def _inspect(text: str, row: InstructionRow, work: _Work, context: RowContext) -> Fault | None:
    fault = judge_text(text, row, work.sentences, work.facet.preferences)
    if fault is not None:
        return fault
    work.check_results, failed = run_checks(text, work.facet.preferences)
    return failed if context.spec.respond.enforce_checks else None


def _margin_gate(
    row: InstructionRow, works: Mapping[int, _Work], least: float, context: RowContext
) -> Callable[[Mapping[int, _Response]], Awaitable[Mapping[int, Fault]]]:
    """Names the responses that do not honour their system message by `least` more than the best of their siblings does."""
    if context.judge is None:
        raise StepFailed("judge_missing", "respond.judge_margin is set, but the step was given no judge: set `judge`")
    judge = Judge(context.judge, row, context.spec.seed, {index: work.judge_usage for index, work in works.items()})

    async def gate(responses: Mapping[int, _Response]) -> Mapping[int, Fault]:
        answers = {index: Answer(response.text, response.attempt) for index, response in responses.items()}
        faults: dict[int, Fault] = {}
        for index, result in (await judge.judge([works[index].facet for index in answers], answers)).items():
            if isinstance(result, Fault):
                faults[index] = result
                continue
            works[index].scores = result.scores()
            if result.margin is not None and result.margin < least:
                faults[index] = Fault(
                    "below_judge_margin",
                    f"under its system message it scores {result.own:.2f}, a sibling's response"
                    f" {result.own - result.margin:.2f}; a margin of {least:.2f} is asked for",
                )
        return faults

    return gate


def _finish(work: _Work, outcome: _Response | Fault, context: RowContext) -> None:
    facet = work.facet
    facet.check_results = dict(work.check_results)
    facet.scores = work.scores
    sampling = context.spec.respond.sampling
    facet.provenance.append(
        provenance_of(context.stage, context.teacher, PROMPT_VERSION, work.seed, sampling, work.usage)
    )
    if work.judge_usage.attempts and context.judge is not None:
        version = judging.PROMPT.version
        facet.provenance.append(
            provenance_of(
                f"{context.stage}:judge", context.judge, version, context.spec.seed, judging.SAMPLING, work.judge_usage
            )
        )
    if isinstance(outcome, Fault):
        reject(facet, context.stage, outcome)
    else:
        facet.response = outcome.text
        facet.finish_reason = outcome.finish_reason


HANDLERS = (RowStageHandler(StageKind.RESPOND, respond, {"verdict": judging.PROMPT.version}),)
