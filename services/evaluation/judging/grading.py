"""The row stage `judge`: every answer is graded 1 to 5 on each rubric of its person, and on those of the other people.

One rubric a call, with the reference answer beside it; the judge is shown neither the system message nor whose the rubric is. The
grades on other people's rubrics say how specific an answer is: they never enter its own score.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from services.evaluation.judging.asking import FeedbackFirst, Question, ask, for_each, turns_of_a_row
from services.evaluation.judging.subjects import material
from services.evaluation.judging.verdicts import Verdict, score_in, tagged_score
from shared.domain.evaluations import AbsoluteParameters
from shared.domain.facet_matrix import rubric_keys
from shared.domain.identifiers import seed_of
from shared.domain.judged_answers import judged_answers
from shared.domain.rows import Answer, Facet, InstructionRow, Judgment
from shared.prompts import load_prompt
from shared.stages.facets import Usage, concurrently, provenance_of
from shared.stages.protocol import RowContext

PROMPT = load_prompt("services.evaluation", "grade")
SCHEMA_NAME = "grade"
LOWEST, HIGHEST = 1, 5
NO_ANSWER, NO_RUBRIC = "no_answer", "no_rubric"
NO_RUBRIC_POSITION = -1


class Grade(FeedbackFirst):
    """The structured output of a judge that grades."""

    score: int


class _Task(msgspec.Struct, frozen=True):
    """One verdict to get: on which answer of the facet, by whose rubric, in which run."""

    answer: int
    owner: Facet
    rubric: int
    run: int


async def judge(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `judgments` of every facet. Nothing is rejected: a verdict that was lost stands there with its fault.

    Faults besides those of `ask`: `no_answer` on each own rubric of a facet without an answer that counts, `no_rubric` (once, at
    rubric -1) for a facet that has answers and nothing to grade them on.
    """
    parameters = absolute_of(context)
    keys = rubric_keys([facet.preferences for facet in row.facets])
    turns = turns_of_a_row()
    await concurrently([_judge_facet(row, place, keys, parameters, context, turns) for place in range(len(row.facets))])
    return row


def absolute_of(context: RowContext) -> AbsoluteParameters:
    """How the job grades. Raises LookupError where it does not."""
    evaluate = context.spec.evaluate
    if evaluate is None or evaluate.absolute is None:
        raise LookupError(f"the job {context.spec.name!r} grades nothing")
    return evaluate.absolute


async def _judge_facet(
    row: InstructionRow,
    place: int,
    keys: list[list[int]],
    parameters: AbsoluteParameters,
    context: RowContext,
    turns: asyncio.Semaphore,
) -> None:
    facet = row.facets[place]
    answers = judged_answers(facet)
    if not facet.rubrics:
        fault = NO_RUBRIC if answers else NO_ANSWER
        facet.judgments = [Judgment(0, facet.index, NO_RUBRIC_POSITION, 0, None, fault=fault)]
        return
    runs = range(parameters.runs)
    if not answers:
        facet.judgments = [
            Judgment(0, facet.index, rubric, run, None, fault=NO_ANSWER)
            for rubric in range(len(facet.rubrics))
            for run in runs
        ]
        return
    rubrics = [(facet, rubric) for rubric in range(len(facet.rubrics))]
    if parameters.cross:
        rubrics += _others(row, place, keys)
    tasks = [_Task(answer, owner, rubric, run) for answer in answers for owner, rubric in rubrics for run in runs]
    usage = Usage()
    facet.judgments = await for_each(tasks, lambda task: _grade(row, facet, task, parameters, context, usage), turns)
    facet.provenance.append(
        provenance_of(context.stage, context.teacher, PROMPT.version, context.spec.seed, parameters.decoding, usage)
    )


def _others(row: InstructionRow, place: int, keys: list[list[int]]) -> Iterator[tuple[Facet, int]]:
    """The rubrics of other living people for wishes that this person does not share, each wish once."""
    seen = set(keys[place])
    for number, other in enumerate(row.facets):
        if number == place or not other.alive:
            continue
        for rubric, key in zip(range(len(other.rubrics)), keys[number], strict=False):
            if key not in seen:
                seen.add(key)
                yield other, rubric


async def _grade(
    row: InstructionRow,
    facet: Facet,
    task: _Task,
    parameters: AbsoluteParameters,
    context: RowContext,
    usage: Usage,
) -> Judgment:
    rubric = task.owner.rubrics[task.rubric]
    request: dict[str, Any] = {
        **material(row, facet.answers[task.answer]),
        "reference": _reference(row, task.owner) if parameters.reference else None,
        "criterion": rubric.criterion,
        "levels": {str(score): text for score, text in enumerate(rubric.levels, start=LOWEST)},
    }
    # No part names the facet or the candidate: the same answer on the same rubric is graded once, whoever gave it.
    question = Question(
        messages=PROMPT.messages(request=request, tagged=parameters.form == "tagged"),
        sample_index=f"grade:{task.run}",
        seed=seed_of(context.spec.seed, "grade", row.row_id, task.owner.index, task.rubric, task.run),
        schema_name=SCHEMA_NAME,
        output=Grade,
        read_structured=lambda said: score_in(said.score, LOWEST, HIGHEST, whole=True),
        read_text=_read_text,
    )
    ruling = await ask(context.teacher, question, parameters.form, parameters.decoding, usage)
    score = ruling.verdict.value
    return Judgment(
        answer=task.answer,
        facet=task.owner.index,
        rubric=task.rubric,
        run=task.run,
        score=score if isinstance(score, float) else None,
        feedback=ruling.feedback,
        fault=ruling.verdict.fault,
    )


def _reference(row: InstructionRow, owner: Facet) -> Any:
    """The reference answer as the answer is shown; None where there is none, or none to some turn of a conversation."""
    if owner.response is None or len(owner.later_references) < len(row.turns):
        return None
    whole = Answer(owner.response, "stop", 0, 0, later=owner.later_references)
    return material(row, whole)["answer"]


def _read_text(text: str) -> Verdict:
    return tagged_score(text, LOWEST, HIGHEST, whole=True)
