"""The row stage `respond`: the gold response of each living facet, to its system message and the row's instruction; where one is
needed, the neutral answer, to the instruction alone; and the facet matrix over them."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from services.generation import checklist, facts
from services.generation.checklist import Checklist
from services.generation.facts import FactsReview
from services.generation.matrix import Figures, MatrixGate
from services.generation.validation import (
    CheckedText,
    compare_responses,
    judge_completion,
    judge_text,
    long_sentences,
    program_verdicts,
    run_checks,
    tokens_to_compare,
)
from shared.domain.identifiers import seed_of
from shared.domain.no_system import trains_without_system
from shared.domain.plan import StageKind
from shared.domain.rows import NEUTRAL_INDEX, Facet, InstructionRow
from shared.llm.protocol import CompletionRequest, Message
from shared.stages.facets import Fault, Usage, provenance_of, reject, settle_facets
from shared.stages.protocol import RowContext, RowStageHandler

PROMPT_VERSION = "verbatim"
"""There is no prompt: the system message and the instruction are sent as they are."""
LONG_TEXT_CHARACTERS = 20_000
"""Texts above this are looked at in a thread: they could hold the event loop for more than 50 ms."""


class _Work(msgspec.Struct):
    """One facet on its way. `check_results` are those of the latest try."""

    facet: Facet
    messages: list[Message]
    sentences: tuple[str, ...]
    usage: Usage
    judge_usage: Usage
    facts_usage: Usage
    seed: int = 0
    check_results: Mapping[str, str] = {}


class _Response(msgspec.Struct, frozen=True):
    """`tokens` are empty where the response is compared with no other; `programs` as in `validation.program_verdicts`."""

    index: int
    text: str
    finish_reason: str
    tokens: list[str]
    attempt: int
    programs: Mapping[tuple[int, int], str]


async def respond(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `response`, `finish_reason`, `check_results`, `moot`, `contradictions` and `scores` of every living facet, or
    reject it; the row's `matrix`; and its `neutral` answer where a judge is set or the row trains without a system message.

    Rejection reasons: `content_refused`, `refusal_phrase`, `output_truncated`, `empty_response`, `echoes_system_message`,
    `injected_answer`, `off_language`, `check_failed` (its outcome is kept in `check_results`), `similar_response`; with a judge
    `broken_fact`, `ignored_preference` and `moot_facet` (see `MatrixGate`), of the neutral answer `outvoted`, and the reasons of
    `Checklist`; and the codes of the model's errors.
    """
    parameters = context.spec.respond
    living = [facet for facet in row.facets if facet.alive]
    if not living:
        return row
    works = {facet.index: _prepare(row, facet) for facet in living}
    alone = len(living) == 1
    if context.judge is not None or _trains_without_system(row, len(living), context):
        row.neutral = Facet(NEUTRAL_INDEX)
        # The last one, so that nobody is held against it: an answer may say what the neutral one says.
        works[NEUTRAL_INDEX] = _prepare(row, row.neutral)

    async def make(index: int, attempt: int) -> _Response | Fault:
        work = works[index]
        work.usage.attempts += 1
        work.check_results = {}
        gate.figures.pop(index, None)
        sample_index = f"respond:{'neutral' if index == NEUTRAL_INDEX else index}:{attempt}"
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
        if fault is not None:
            return fault
        if len(text) > LONG_TEXT_CHARACTERS:
            programs = await asyncio.to_thread(_inspect, text, row, work, living, context)
        else:
            programs = _inspect(text, row, work, living, context)
        if isinstance(programs, Fault):
            return programs
        tokens = [] if alone or index == NEUTRAL_INDEX else tokens_to_compare(text)
        return _Response(index, text, completion.finish_reason, tokens, attempt, programs)

    def compare(response: _Response, accepted: Sequence[_Response]) -> Fault | None:
        if response.index == NEUTRAL_INDEX:
            return None
        return compare_responses(
            response.tokens, [other.tokens for other in accepted], parameters.maximum_sibling_similarity
        )

    judge = compared = None
    if context.judge is not None:
        seed = context.spec.seed
        judge = Checklist(context.judge, row, living, seed, {index: work.judge_usage for index, work in works.items()})
        compared = FactsReview(context.judge, row, seed, {index: work.facts_usage for index, work in works.items()})
    gate = MatrixGate(living, judge, compared, parameters.minimum_followed)
    outcomes = await settle_facets(list(works), make, compare, parameters.quality_retries, gate.look)
    for index, outcome in outcomes.items():
        _finish(works[index], outcome, gate.figures.get(index, Figures()), judge, context)
    # Of an answer that was rejected nothing stays that its verdicts could be about.
    row.matrix = [one for one in gate.verdicts if not isinstance(outcomes[one.answer], Fault)]
    return row


def _trains_without_system(row: InstructionRow, facets: int, context: RowContext) -> bool:
    share = context.spec.respond.no_system_share
    return row.split == "train" and trains_without_system(row.row_id, facets, share, context.spec.seed)


def _prepare(row: InstructionRow, facet: Facet) -> _Work:
    system = facet.system or ""
    messages: list[Message] = [{"role": "user", "content": row.instruction}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return _Work(facet, messages, long_sentences(system), Usage(), Usage(), Usage())


def _inspect(
    text: str, row: InstructionRow, work: _Work, facets: Sequence[Facet], context: RowContext
) -> Mapping[tuple[int, int], str] | Fault:
    """What programs say of the text about everybody's preferences, or its fault."""
    fault = judge_text(text, row, work.sentences, work.facet.preferences)
    if fault is not None:
        return fault
    checked = CheckedText(text)
    work.check_results, failed = run_checks(checked, work.facet.preferences)
    if failed is not None and context.spec.respond.enforce_checks:
        return failed
    return program_verdicts(checked, facets, judged=context.judge is not None)


def _finish(
    work: _Work, outcome: _Response | Fault, figures: Figures, judge: Checklist | None, context: RowContext
) -> None:
    facet = work.facet
    facet.check_results = dict(work.check_results)
    facet.moot, facet.contradictions = figures.moot, figures.contradictions
    # What the stages before found out stays.
    facet.scores |= figures.scores
    sampling = context.spec.respond.sampling
    facet.provenance.append(
        provenance_of(context.stage, context.teacher, PROMPT_VERSION, work.seed, sampling, work.usage)
    )
    if judge is not None and context.judge is not None and work.judge_usage.attempts:
        version, seed = checklist.PROMPT.version, context.spec.seed
        facet.provenance.append(
            provenance_of(f"{context.stage}:judge", context.judge, version, seed, judge.sampling, work.judge_usage)
        )
    if context.judge is not None and work.facts_usage.attempts:
        version, seed = facts.PROMPT.version, context.spec.seed
        facet.provenance.append(
            provenance_of(f"{context.stage}:facts", context.judge, version, seed, facts.SAMPLING, work.facts_usage)
        )
    if isinstance(outcome, Fault):
        reject(facet, context.stage, outcome)
    else:
        facet.response = outcome.text
        facet.finish_reason = outcome.finish_reason


HANDLERS = (
    RowStageHandler(
        StageKind.RESPOND,
        respond,
        {checklist.SCHEMA_NAME: checklist.PROMPT.version, facts.SCHEMA_NAME: facts.PROMPT.version},
    ),
)
