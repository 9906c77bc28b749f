"""What is checked of the answers of a job before it is accepted, and how many questions there will be."""

import asyncio
from pathlib import Path

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.local_objects import ObjectReference
from services.api.state import ApiState
from shared.artifacts.protocol import ObjectNotFound
from shared.domain.answers import AnswerParameters, QuestionParameters
from shared.domain.benches import item_id
from shared.domain.errors import InputRefused
from shared.domain.evaluations import TAKE_PREFIX, RobustnessSuite
from shared.domain.jobs import JobSpec, ModelChoice
from shared.domain.ledger import Ledger
from shared.llm.estimate import Questions
from shared.llm.providers import ResolvedModel
from shared.llm.servers.resolved import resolved_deployment
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.serving import ServingRepository
from shared.question_layouts.lines import QuestionLine
from shared.question_layouts.reading import read_question_file
from shared.robustness.suites import suite_rows
from shared.settings.perspective import require_perspective_key
from shared.stages.answer_inputs import (
    check_models,
    dropped_items,
    find_bench_of_questions,
    find_file_of_answers,
    find_file_of_questions,
    find_job_of_questions,
    find_references,
    stages_asked_of,
)

_UNKNOWN_QUESTIONS, _UNKNOWN_CHARACTERS = 1000, 900.0
"""Assumed of a Hub data set."""
_SYSTEM_CHARACTERS = 700.0
"""A system message's usual length."""


class CheckedAnswers(msgspec.Struct, frozen=True):
    """What is known of the questions; `is_simulated`: a candidate or what is asked comes from a simulator."""

    questions: Questions | None = None
    is_simulated: bool = False


async def check_answers(
    state: ApiState, project_id: str, spec: JobSpec, rows: int, instruction_characters: float
) -> CheckedAnswers:
    """Check candidates, reward models, and what is asked of them or made a bench of. `rows` and `instruction_characters` are
    those of the job's own collection.

    Raises InputRefused with the pointer of what is not there or cannot do what is asked.
    """
    if not spec.answer and spec.bench is None:
        return CheckedAnswers()
    _refuse_perspective(state, spec)
    simulated = False
    models: list[ResolvedModel | None] = []
    async with state.transaction() as session:
        for number, answer in enumerate(spec.answer):
            pointer = f"/answer/{number}"
            await check_models(session, project_id, answer, pointer)
            if answer.candidate.file is not None:
                await find_file_of_answers(session, project_id, spec, TAKE_PREFIX + answer.name)
            model = await _provider_model(state, session, project_id, answer, pointer)
            models.append(model)
            if model is not None:
                _refuse_penalty(model, answer, pointer)
                simulated |= model.simulator
    questions, of_simulator = await _questions(state, project_id, spec, rows, instruction_characters)
    questions = msgspec.structs.replace(questions, models=tuple(models))
    return CheckedAnswers(questions, simulated or of_simulator)


async def _provider_model(
    state: ApiState, session: AsyncSession, project_id: str, answer: AnswerParameters, pointer: str
) -> ResolvedModel | None:
    """The candidate where it answers already; None for one that the job deploys. Raises InputRefused."""
    choice = answer.candidate
    if choice.provider is not None and choice.model is not None:
        return state.providers.require(
            ModelChoice(provider=choice.provider, model=choice.model), f"{pointer}/candidate"
        )
    if choice.deployment is None:
        return None
    serving = await ServingRepository(session).find(project_id, choice.deployment)
    return None if serving is None else resolved_deployment(serving, state.providers)


def _refuse_perspective(state: ApiState, spec: JobSpec) -> None:
    """Raise InputRefused where toxicity shall be scored by Perspective and the operator has set no key."""
    measure = None if spec.evaluate is None else spec.evaluate.measure
    if measure is not None and measure.toxicity is not None and measure.toxicity.perspective:
        require_perspective_key(state.settings)


def _refuse_penalty(model: ResolvedModel, answer: AnswerParameters, pointer: str) -> None:
    penalty = answer.decoding.repetition_penalty
    if penalty is not None and model.provider.repetition_penalty is None:
        raise InputRefused(
            f"repetition_penalty is {penalty:g}, but the provider {model.provider_name} takes none, and an answer is decoded as "
            "it was asked for; set decoding.repetition_penalty to null, or tell in the providers file how its server takes one",
            f"{pointer}/decoding/repetition_penalty",
        )


async def _questions(
    state: ApiState, project_id: str, spec: JobSpec, rows: int, instruction_characters: float
) -> tuple[Questions, bool]:
    """How many questions there will be, and whether what is asked was made by a simulator."""
    asked = spec.asked
    if asked.suite is not None:
        return _suite_questions(asked.suite, asked.maximum_rows), False
    if asked.bench is not None:
        return await _bench_questions(state, project_id, asked.bench, asked.maximum_rows)
    if asked.file is not None:
        async with state.transaction() as session:
            file = await find_file_of_questions(session, project_id, asked)
        try:
            async with state.objects.local(ObjectReference(file.key, file.sha256, file.size)) as path:
                found = await asyncio.to_thread(_looked_at, path, asked)
        except ObjectNotFound as error:
            raise InputRefused(
                f"the bytes of file {file.id!r} are gone from the store; upload it again", "/questions/file"
            ) from error
        if asked.references is not None:
            async with state.transaction() as session:
                await find_references(session, project_id, asked.references)
        return found, False
    if asked.hub is not None:
        # What the Hub holds is seen when the job runs.
        return Questions(asked.maximum_rows or _UNKNOWN_QUESTIONS, _UNKNOWN_CHARACTERS), False
    if asked.job is not None:
        async with state.transaction() as session:
            job = await find_job_of_questions(session, project_id, asked)
            ledgers = await JobRepository(session).ledgers(job.id)
        ledger = ledgers.get(stages_asked_of(job)[0], Ledger())
        made = JobSpec.model_validate(job.spec)
        count = _of_split(ledger.rows_out, spec, made)
        facets = ledger.facets_out / ledger.rows_out if ledger.facets_out and ledger.rows_out else 1.0
        questions = Questions(round(count * facets), instruction_characters + _SYSTEM_CHARACTERS, facets)
        return questions, job.teacher_is_simulator
    count = _of_split(rows, spec, spec)
    plain = spec.stop_after == "curate"
    facets = 1 if plain else spec.augment.sets_per_instruction
    characters = instruction_characters + (0 if plain else _SYSTEM_CHARACTERS)
    return Questions(count * facets, characters, facets), False


def _looked_at(path: Path, asked: QuestionParameters) -> Questions:
    """The questions of a file: how many facets, of how many people per instruction, and how long. Raises InputRefused where it
    holds none."""
    facets = characters = turns = 0
    rows: set[str] = set()
    for line in read_question_file(path, asked.layout, "/questions/file"):
        if isinstance(line, QuestionLine):
            facets += 1
            turns += 1 + len(line.turns)
            rows.add(line.identity)
            said = line.instruction if not line.turns else "".join((line.instruction, *line.turns))
            characters += len(said) + len(line.facet.system or "")
    if not facets:
        raise InputRefused(
            "the file holds no line that can be asked; upload questions in one of the known layouts, or set questions.layout to "
            "how it is laid out",
            "/questions/file",
        )
    count = facets
    if asked.maximum_rows is not None and asked.maximum_rows < len(rows):
        count = round(facets * asked.maximum_rows / len(rows))
    return Questions(count, characters / facets, facets / len(rows), turns / facets)


def _suite_questions(suite: RobustnessSuite, maximum_rows: int | None) -> Questions:
    """The questions of a suite that the project carries."""
    rows = suite_rows(suite)
    lengths = [
        sum(map(len, (row.instruction, *row.turns))) + len(facet.system or "") for row in rows for facet in row.facets
    ]
    turns = sum((1 + len(row.turns)) * len(row.facets) for row in rows)
    people = len(lengths) / len(rows)
    count = len(rows) if maximum_rows is None else min(len(rows), maximum_rows)
    return Questions(round(count * people), sum(lengths) / len(lengths), people, turns / len(lengths))


async def _bench_questions(
    state: ApiState, project_id: str, bench_id: str, maximum_rows: int | None
) -> tuple[Questions, bool]:
    """The items that the bench's review did not drop; simulated where its job's teacher was."""
    async with state.transaction() as session:
        bench, held = await find_bench_of_questions(session, project_id, bench_id)
        dropped = frozenset(await dropped_items(session, bench_id))
        job = None if bench.job_id is None else await JobRepository(session).require(project_id, bench.job_id)
    try:
        await state.store.stat(held.key)  # the items may still be in memory here, but the job reads the store
        contents = await state.benches.contents(held, "/questions/bench")
    except ObjectNotFound as error:
        raise InputRefused(
            f"the items of bench {bench_id} are gone from the store; make it again", "/questions/bench"
        ) from error
    lengths: list[int] = []
    rows = 0
    for row in contents.rows:
        kept = [facet for facet in row.facets if item_id(row.row_id, facet.index) not in dropped]
        rows += bool(kept)
        lengths += [len(row.instruction) + len(facet.system or "") for facet in kept]
    if not lengths:
        raise InputRefused(
            f"the review of bench {bench_id} dropped all of its items: nothing is left to ask", "/questions/bench"
        )
    share = 1.0 if maximum_rows is None else min(1.0, maximum_rows / rows)
    count = max(1, round(len(lengths) * share))
    questions = Questions(count, sum(lengths) / len(lengths), len(lengths) / rows)
    return questions, job is not None and job.teacher_is_simulator


def _of_split(rows: int, spec: JobSpec, made: JobSpec) -> int:
    """Instructions of the wanted split, at most as many as are drawn; `made` is the spec of the job that split them."""
    share = {"test": made.splits.test_share, "train": 1 - made.splits.test_share, "all": 1.0}[spec.asked.split]
    count = round(rows * share)
    return count if spec.asked.maximum_rows is None else min(count, spec.asked.maximum_rows)
