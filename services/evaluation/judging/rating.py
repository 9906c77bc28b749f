"""The row stage `rate`: each turn of a conversation is rated 1 to 10, as MT-Bench does it with single answers."""

import asyncio

import msgspec

from services.evaluation.judging.asking import FeedbackFirst, Question, ask, for_each, turns_of_a_row
from services.evaluation.judging.verdicts import Verdict, score_in, tagged_score
from shared.domain.evaluations import ConversationParameters
from shared.domain.identifiers import seed_of
from shared.domain.judged_answers import conversation, judged_answers
from shared.domain.rows import Facet, InstructionRow, Judgment
from shared.prompts import load_prompt
from shared.stages.facets import Usage, concurrently, provenance_of
from shared.stages.protocol import RowContext

PROMPT = load_prompt("services.evaluation", "rating")
SCHEMA_NAME = "rating"
LOWEST, HIGHEST = 1, 10
NO_ANSWER = "no_answer"


class Rating(FeedbackFirst):
    """The structured output of a judge that rates."""

    score: int


class _Task(msgspec.Struct, frozen=True):
    answer: int
    turn: int
    run: int


async def rate(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `judgments` of every facet: one per answer, turn (in `rubric`) and run. A turn without an answer is `no_answer`; other
    faults as of `ask`. Nothing is rejected."""
    parameters = conversation_of(context)
    turns = turns_of_a_row()
    await concurrently([_rate_facet(row, facet, parameters, context, turns) for facet in row.facets])
    return row


def conversation_of(context: RowContext) -> ConversationParameters:
    """How the job rates. Raises LookupError where it does not."""
    evaluate = context.spec.evaluate
    if evaluate is None or evaluate.conversation is None:
        raise LookupError(f"the job {context.spec.name!r} rates no conversation")
    return evaluate.conversation


async def _rate_facet(
    row: InstructionRow,
    facet: Facet,
    parameters: ConversationParameters,
    context: RowContext,
    turns: asyncio.Semaphore,
) -> None:
    usage = Usage()
    tasks = [
        _Task(answer, turn, run)
        for answer in judged_answers(facet) or [0]
        for turn in range(1 + len(row.turns))
        for run in range(parameters.runs)
    ]
    facet.judgments = await for_each(tasks, lambda task: _rate(row, facet, task, parameters, context, usage), turns)
    if usage.attempts:
        facet.provenance.append(
            provenance_of(context.stage, context.teacher, PROMPT.version, context.spec.seed, parameters.decoding, usage)
        )


async def _rate(
    row: InstructionRow,
    facet: Facet,
    task: _Task,
    parameters: ConversationParameters,
    context: RowContext,
    usage: Usage,
) -> Judgment:
    if not judged_answers(facet) or task.turn > len(facet.answers[task.answer].later):
        return Judgment(task.answer, facet.index, task.turn, task.run, None, fault=NO_ANSWER)
    references = None
    if row.category in parameters.reference_categories and facet.response is not None:
        references = [facet.response, *facet.later_references][: task.turn + 1]
    request = {
        "conversation": conversation(row, facet.answers[task.answer], task.turn + 1),
        "references": references,
    }
    question = Question(
        messages=PROMPT.messages(request=request, tagged=parameters.form == "tagged"),
        sample_index=f"rate:{task.run}",
        seed=seed_of(context.spec.seed, "rate", row.row_id, facet.index, task.turn, task.run),
        schema_name=SCHEMA_NAME,
        output=Rating,
        read_structured=lambda said: score_in(said.score, LOWEST, HIGHEST, whole=True),
        read_text=_read_text,
    )
    ruling = await ask(context.teacher, question, parameters.form, parameters.decoding, usage)
    score = ruling.verdict.value
    return Judgment(
        answer=task.answer,
        facet=facet.index,
        rubric=task.turn,
        run=task.run,
        score=score if isinstance(score, float) else None,
        feedback=ruling.feedback,
        fault=ruling.verdict.fault,
    )


def _read_text(text: str) -> Verdict:
    """Halves are given by some judges, and counted as they are."""
    return tagged_score(text, LOWEST, HIGHEST, whole=False)
