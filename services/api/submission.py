"""Everything that is checked before a job is accepted: what cannot work is refused here, with a pointer to the fault."""

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.answer_checks import check_answers
from services.api.local_objects import ObjectReference
from services.api.problems import Problem
from services.api.state import ApiState
from shared.artifacts.protocol import ObjectNotFound
from shared.domain.errors import InputRefused
from shared.domain.idle_options import idle_options
from shared.domain.jobs import JobSpec, Source
from shared.domain.taxonomy import Taxonomy, default_taxonomy, parse_taxonomy
from shared.llm.estimate import Estimate, estimate_job
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.idempotency import IdempotencyRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.taxonomies import TaxonomyRepository
from shared.metadata.tables import UploadedFile
from shared.sources.bundled import bundled_file
from shared.sources.inspection import SourceInspection, inspect_file
from shared.stages.training_inputs import find_file_of_data, find_job_of_data, find_registered_base
from shared.telemetry.tracing import current_trace

DEFAULT_TAXONOMY_ID = "multifacet"
UNKNOWN_ROWS = 1000
"""Rows that an estimate assumes for a Hub data set without a limit: its size is known only when it was downloaded."""

UNKNOWN_CHARACTERS = 300.0
LARGEST_NUMBER = 2**53
LARGEST_BUDGET_USD = 1e9
LONGEST_DEADLINE_SECONDS = 366 * 86_400


class CheckedJob(msgspec.Struct, frozen=True):
    """A spec that can be submitted, with what was found out about it."""

    spec: JobSpec
    taxonomy: Taxonomy
    teacher_is_simulator: bool
    estimate: Estimate
    rows: int
    rows_exact: bool


async def check_job(state: ApiState, project_id: str, spec: JobSpec) -> CheckedJob:
    """Check a whole job and estimate it.

    Raises InputRefused for an option that would do nothing, for an unknown provider, model or taxonomy, for a source that is
    missing or cannot be read with its mapping, for data or a base of a training that is not there, and for questions, candidates
    or reward models that are not there or cannot do what is asked. Whether the budget is
    enough is asked by `require_budget`.
    """
    refuse_unstorable(spec)
    if spec.budget_usd is not None and spec.budget_usd > LARGEST_BUDGET_USD:
        raise InputRefused(
            f"a budget of {spec.budget_usd:g} USD is set; the most is {LARGEST_BUDGET_USD:g}", "/budget_usd"
        )
    if spec.deadline_seconds is not None and spec.deadline_seconds > LONGEST_DEADLINE_SECONDS:
        raise InputRefused(
            f"a deadline of {spec.deadline_seconds} s is set; the longest is {LONGEST_DEADLINE_SECONDS} (a year)",
            "/deadline_seconds",
        )
    for option in idle_options(spec):
        raise InputRefused(option.detail, option.pointer)
    simulated = spec.teacher is not None and state.providers.require(spec.teacher, "/teacher").simulator
    if spec.judge is not None:
        state.providers.require(spec.judge, "/judge")
    if spec.compose.minimum_characters > spec.compose.maximum_characters:
        raise InputRefused(
            f"compose.minimum_characters is {spec.compose.minimum_characters}, above maximum_characters "
            f"{spec.compose.maximum_characters}: no system message can be both; lower it",
            "/compose/minimum_characters",
        )
    if spec.curate.minimum_characters > spec.curate.maximum_characters:
        raise InputRefused(
            f"curate.minimum_characters is {spec.curate.minimum_characters}, above maximum_characters "
            f"{spec.curate.maximum_characters}: every instruction would be rejected; lower it",
            "/curate/minimum_characters",
        )
    taxonomy = await find_taxonomy(state, project_id, spec.taxonomy)
    inspections = [
        await _inspect(state, project_id, source, f"/sources/{number}") for number, source in enumerate(spec.sources)
    ]
    for number, file_id in enumerate(spec.curate.decontaminate_against):
        await _uploaded(state, project_id, file_id, f"/curate/decontaminate_against/{number}")
    rows = sum(
        found.rows if found else source.limit or UNKNOWN_ROWS
        for found, source in zip(inspections, spec.sources, strict=True)
    )
    exact = all(found is not None and found.rows_exact for found in inspections)
    if spec.curate.limit is not None:
        rows = min(rows, spec.curate.limit)
    known = [found for found in inspections if found]
    weight = sum(found.rows for found in known)
    average = (
        sum(found.average_instruction_characters * found.rows for found in known) / weight
        if weight
        else UNKNOWN_CHARACTERS
    )
    async with state.transaction() as session:
        simulated |= await _check_trainings(session, project_id, spec)
    asked = await check_answers(state, project_id, spec, rows, average)
    simulated |= asked.is_simulated
    async with state.transaction() as session:
        estimate = await estimate_job(
            session, spec, taxonomy, rows, average, project_id, state.providers, asked.questions
        )
    return CheckedJob(spec, taxonomy, simulated, estimate, rows, exact)


def require_budget(checked: CheckedJob) -> None:
    """Raise a 422 problem where the budget cannot pay the job: below the estimate, or a price is not known."""
    budget = checked.spec.budget_usd
    if budget is None:
        return
    cost = checked.estimate.cost_micro_usd
    figures = {"estimate": checked.estimate.model_dump(mode="json"), "budget_micro_usd": round(budget * 1e6)}
    if cost is None:
        detail = (
            f"a budget of {budget:g} USD was set, but no price is known for a model of this job, so nobody can tell when it is "
            "reached; remove budget_usd, or ask the operator to add the price to the providers file"
        )
        raise Problem(
            422, "price_unknown", detail, errors=[{"pointer": "/budget_usd", "detail": detail}], extensions=figures
        )
    if round(budget * 1e6) < cost:
        what, fewer = f"{checked.rows} instructions", "take fewer instructions (curate.limit)"
        if not checked.spec.sources:
            what, fewer = "what is asked", "ask less (questions.maximum_rows)"
        detail = (
            f"the budget of {budget:g} USD is below the estimate of {cost / 1e6:.6f} USD for {what}; set "
            f"budget_usd to at least {cost / 1e6:.6f}, or {fewer}"
        )
        raise Problem(
            422,
            "budget_below_estimate",
            detail,
            errors=[{"pointer": "/budget_usd", "detail": detail}],
            extensions=figures,
        )


async def submit_spec(state: ApiState, project_id: str, spec: JobSpec, idempotency_key: str | None) -> str:
    """Check a job, hold its budget against its estimate and submit it; its id. The same key with the same spec gives the same
    job. Raises as `check_job` and `require_budget` do, and where the key came with another spec."""
    idempotency = None
    if idempotency_key is not None:
        idempotency = (idempotency_key, sha256(spec.model_dump_json().encode()).hexdigest())
        async with state.transaction() as session:
            earlier = await IdempotencyRepository(session).job_of(project_id, *idempotency)
        if earlier is not None:
            return earlier
    checked = await check_job(state, project_id, spec)
    require_budget(checked)
    async with state.transaction() as session:
        job, _ = await JobRepository(session).submit(
            project_id,
            spec,
            checked.taxonomy,
            teacher_is_simulator=checked.teacher_is_simulator,
            estimate=checked.estimate.model_dump(mode="json"),
            idempotency=idempotency,
            trace=current_trace(),
        )
    return job.id


async def find_taxonomy(state: ApiState, project_id: str, taxonomy_id: str) -> Taxonomy:
    """The project's own taxonomy, or an uploaded one. Raises InputRefused at /taxonomy."""
    if taxonomy_id == DEFAULT_TAXONOMY_ID:
        return default_taxonomy()
    async with state.transaction() as session:
        stored = await TaxonomyRepository(session).get(project_id, taxonomy_id)
    if stored is None:
        raise InputRefused(
            f"there is no taxonomy {taxonomy_id!r}; set `multifacet`, or the id that POST /v1/taxonomies returned",
            "/taxonomy",
        )
    return parse_taxonomy(stored.body)


async def inspect_upload(state: ApiState, file: UploadedFile, source: Source, pointer: str) -> SourceInspection:
    """A look at an uploaded file through a source's mapping, on a thread. Raises InputRefused."""
    reference = ObjectReference(file.key, file.sha256, file.size)
    try:
        async with state.objects.local(reference) as path:
            return await asyncio.to_thread(inspect_file, path, source, pointer)
    except ObjectNotFound as error:
        raise InputRefused(
            f"the bytes of file {file.id!r} are gone from the store; upload it again", pointer
        ) from error


def refuse_unstorable(model: BaseModel) -> None:
    """Raise InputRefused for what PostgreSQL or JSON cannot hold: NUL characters, NaN, infinity, integers beyond 2**53."""
    for pointer, value in _leaves(model.model_dump(), ""):
        if isinstance(value, str) and "\0" in value:
            raise InputRefused("the text holds a NUL character (\\u0000), which cannot be stored; remove it", pointer)
        if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
            raise InputRefused(f"the number {value:g} is too large; set one of at most 2**53", pointer)


def _leaves(value: object, pointer: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{pointer}/{name}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{pointer}/{number}")
    else:
        yield pointer, value


async def _check_trainings(session: AsyncSession, project_id: str, spec: JobSpec) -> bool:
    """Raise InputRefused where a training's data or base are not there. Returns whether any of them comes from a simulator."""
    simulated = False
    for number, training in enumerate(spec.train):
        pointer = f"/train/{number}"
        sources = []
        if training.data.job is not None:
            sources.append((await find_job_of_data(session, project_id, training, pointer))[0])
        if training.data.file is not None:
            await find_file_of_data(session, project_id, training, pointer)
        if training.base.registry is not None:
            model = await find_registered_base(session, project_id, training, pointer)
            sources.append(await JobRepository(session).require(project_id, model.job_id))
        simulated = simulated or any(job.teacher_is_simulator for job in sources)
    return simulated


async def _inspect(state: ApiState, project_id: str, source: Source, pointer: str) -> SourceInspection | None:
    if source.bundled is not None:
        path: Path = bundled_file(source.bundled, pointer)
        return await asyncio.to_thread(inspect_file, path, source, pointer)
    if source.file is None:
        return None
    file = await _uploaded(state, project_id, source.file, f"{pointer}/file")
    return await inspect_upload(state, file, source, pointer)


async def _uploaded(state: ApiState, project_id: str, file_id: str, pointer: str) -> UploadedFile:
    async with state.transaction() as session:
        file = await FileRepository(session).get(project_id, file_id)
    if file is None:
        raise InputRefused(
            f"there is no uploaded file {file_id!r}; POST it to /v1/files and set the id it returns, or write "
            "upload:<file name> and give `multifacet submit` its path by --upload",
            pointer,
        )
    return file
