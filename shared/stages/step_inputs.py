"""Finding what a step reads: parts of earlier stages, uploads, and the figures that a report prints."""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from shared.artifacts import layout
from shared.domain.answers import QuestionParameters
from shared.domain.errors import InputRefused
from shared.domain.jobs import JobSpec, ModelChoice
from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind
from shared.llm.providers import load_providers
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.benches import BenchRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.steps import Claim
from shared.metadata.tables import Artifact, Job, Stage, UploadedFile, Usage
from shared.settings import get_settings
from shared.stages.answer_inputs import answer_models, find_file_of_answers, question_inputs
from shared.stages.job_data import code_version
from shared.stages.protocol import InputReference, WholeStepHandler
from shared.stages.training_inputs import lineage_ids, reference, training_inputs, upload_reference


async def input_part(session: AsyncSession, claim: Claim) -> Artifact:
    """The part that a shard of a row stage reads: the same shard of the first stage that it needs. Raises LookupError."""
    name, source = layout.part_name(claim.shard), claim.needs[0]
    parts = await ArtifactRepository(session).of_stages(claim.job_id, [source], name)
    if len(parts) != 1:
        raise LookupError(f"{len(parts)} parts called {name} of {source} instead of one")
    return parts[0]


async def parts_beside(session: AsyncSession, claim: Claim) -> dict[str, Artifact]:
    """The same shard of the further stages that a row stage needs, by stage name. Raises LookupError."""
    further = list(claim.needs[1:])
    parts = await ArtifactRepository(session).of_stages(claim.job_id, further, layout.part_name(claim.shard))
    found = {part.stage: part for part in parts}
    if len(parts) != len(further) or len(found) != len(further):
        raise LookupError(f"{len(parts)} parts of shard {claim.shard} of {further} instead of one of each")
    return found


async def whole_inputs(
    session: AsyncSession, claim: Claim, spec: JobSpec, handler: WholeStepHandler
) -> tuple[list[InputReference], list[str]]:
    """What the needed stages made, without the kinds that the handler leaves out, and for curation the job's uploads; for a
    training its data and its base, for the questions the rows that they are taken from. With the ids of what the lineage names.

    Raises InputRefused for an upload, job or model that is not there (any more).
    """
    if claim.kind == StageKind.TRAIN:
        references = await training_inputs(session, claim, spec)
    elif claim.kind == StageKind.SELECT:
        references = await question_inputs(session, claim, spec)
    elif claim.kind == StageKind.DEPLOY:
        references = []  # the server fetches the model itself
    else:
        # What no step made is a roll-up's manifest of the stage: about its objects, not one of them.
        references = [
            reference(item, item.stage, item.name)
            for item in await ArtifactRepository(session).of_stages(claim.job_id, claim.needs)
            if item.step_id is not None and item.kind not in handler.leaves_out
        ]
    if claim.kind == StageKind.CURATE:
        references += await _uploads(session, claim.project_id, spec)
    if claim.kind == StageKind.TAKE:
        references.append(upload_reference(await find_file_of_answers(session, claim.project_id, spec, claim.stage)))
    return references, lineage_ids(references)


async def _uploads(session: AsyncSession, project_id: str, spec: JobSpec) -> list[InputReference]:
    pointers = {
        source.file: f"/sources/{position}/file"
        for position, source in enumerate(spec.sources)
        if source.file is not None
    }
    for position, file_id in enumerate(spec.curate.decontaminate_against):
        pointers.setdefault(file_id, f"/curate/decontaminate_against/{position}")
    if not pointers:
        return []
    query = sa.select(UploadedFile).where(
        col(UploadedFile.project_id) == project_id, col(UploadedFile.id).in_(list(pointers))
    )
    found = {file.id: file for file in (await session.execute(query)).scalars()}
    for file_id, pointer in pointers.items():
        if file_id not in found:
            raise InputRefused(f"no uploaded file {file_id} in this project; upload it and submit a new job", pointer)
    return [upload_reference(found[file_id]) for file_id in pointers]


async def stage_ledgers(session: AsyncSession, job_id: str) -> dict[str, Ledger]:
    """Totals of the succeeded stages, by name, in the plan's order."""
    query = sa.select(col(Stage.name), col(Stage.ledger)).where(
        col(Stage.job_id) == job_id, col(Stage.state) == "succeeded"
    )
    rows = await session.execute(query.order_by(col(Stage.ordinal)))
    return {row.name: msgspec.convert(row.ledger, Ledger) for row in rows}


async def job_facts(session: AsyncSession, claim: Claim, spec: JobSpec) -> dict[str, Any]:
    """What a report prints of a job besides its rows. Times are ISO 8601 texts, money is micro-dollars."""
    query = sa.select(
        col(Job.teacher_is_simulator),
        col(Job.created_at),
        col(Job.started_at),
        col(Job.cost_micro_usd),
        col(Job.unpriced_calls),
        col(Job.run_no),
    ).where(col(Job.id) == claim.job_id)
    job = (await session.execute(query)).one()
    usage = await session.execute(
        sa.select(Usage).where(col(Usage.job_id) == claim.job_id).order_by(col(Usage.stage), col(Usage.request_class))
    )
    return {
        "job_id": claim.job_id,
        "project_id": claim.project_id,
        "name": spec.name,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "cost_micro_usd": job.cost_micro_usd,
        "unpriced_calls": job.unpriced_calls,
        "run_no": job.run_no,
        "code_version": code_version(),
        "teacher_is_simulator": job.teacher_is_simulator,
        "provider": None if spec.teacher is None else spec.teacher.provider,
        "model": None if spec.teacher is None else spec.teacher.model,
        "judge": None if spec.judge is None else {"provider": spec.judge.provider, "model": spec.judge.model},
        "data_teacher": await _data_teacher(session, claim, spec, is_simulator=job.teacher_is_simulator),
        "answer_models": await answer_models(session, claim, spec) if claim.kind in _TELLS_OF_MODELS else {},
        **(await _evaluation_facts(session, claim, spec) if claim.kind == StageKind.EVALUATE else {}),
        "usage": [row.model_dump(exclude={"job_id", "project_id"}) for row in usage.scalars()],
    }


_TELLS_OF_MODELS = frozenset({StageKind.REPORT.value, StageKind.EVALUATE.value})


async def _evaluation_facts(session: AsyncSession, claim: Claim, spec: JobSpec) -> dict[str, Any]:
    """`asked_teachers`: `provider/model` of all that wrote what is asked, where other jobs made it, and `asked_is_simulated`,
    whether one of them is a simulator; `judge_is_simulator`."""
    teachers: set[str] = set()
    asked: QuestionParameters | None = spec.asked
    seen: set[str] = set()
    while asked is not None and not asked.is_own:
        job_id = asked.job
        if asked.bench is not None:
            bench = await BenchRepository(session).get(claim.project_id, asked.bench)
            if bench is not None and bench.teacher is not None:
                teachers.add(bench.teacher)
            job_id = None if bench is None else bench.job_id
        job = None if job_id is None or job_id in seen else await JobRepository(session).get(claim.project_id, job_id)
        if job is None:
            break
        seen.add(job.id)
        made_by = JobSpec.model_validate(job.spec)
        if made_by.teacher is not None:
            teachers.add(f"{made_by.teacher.provider}/{made_by.teacher.model}")
        asked = made_by.asked
    configured = load_providers(get_settings().providers_file).providers
    simulators = {name for name, provider in configured.items() if provider.simulator}
    return {
        "asked_teachers": sorted(teachers),
        "asked_is_simulated": any(teacher.split("/")[0] in simulators for teacher in teachers),
        "judge_is_simulator": spec.judge is not None and spec.judge.provider in simulators,
    }


async def _data_teacher(
    session: AsyncSession, claim: Claim, spec: JobSpec, *, is_simulator: bool
) -> dict[str, Any] | None:
    """Who wrote the rows that a training reads: this job's teacher, that of the job it takes them from, or, of an upload and of
    what is no training, nobody known."""
    training = next((training for training in spec.train if training.name == claim.stage), None)
    if training is None or training.data.file is not None:
        return None
    teacher: ModelChoice | None = spec.teacher
    job_id = claim.job_id
    if training.data.job is not None:
        job = await JobRepository(session).require(claim.project_id, training.data.job)
        job_id, is_simulator = job.id, job.teacher_is_simulator
        teacher = JobSpec.model_validate(job.spec).teacher
    if teacher is None:
        return None
    versions: dict[str, str] = {}
    for lineage in (
        await session.execute(sa.select(col(Artifact.lineage)).where(col(Artifact.job_id) == job_id).distinct())
    ).scalars():
        versions.update(lineage.get("prompts", {}))
    return {
        "teacher": f"{teacher.provider}/{teacher.model}",
        "is_simulator": is_simulator,
        "prompt_versions": dict(sorted(versions.items())),
    }
