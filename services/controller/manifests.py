"""Duty: end stages whose steps have all succeeded, with a manifest that names the winning parts; and a job's index."""

from datetime import datetime
from typing import Any

import msgspec
import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from services.controller.judgement import stop_for_rejections
from services.controller.state import ControllerState
from shared.artifacts import layout
from shared.artifacts.protocol import StoredObject
from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.scheduling import OpenStage, SchedulingRepository
from shared.metadata.tables import Artifact, Stage

MANIFEST_SCHEMA_VERSION = "stage-manifest/1"
INDEX_SCHEMA_VERSION = "job-index/1"
JOB_LEVEL_STAGE = "job"
"""`Artifact.stage` of what belongs to no stage."""

_JSON = "application/json"


async def finish_stages(state: ControllerState) -> None:
    """Judge, describe and end complete stages. The manifest stands in the store before the stage counts as succeeded; a
    store that is away delays only the stage."""
    async with state.sessions() as session:
        scheduling = SchedulingRepository(session)
        found = await scheduling.open_stages(complete=True)
        complete = [stage for stage in found if stage.succeeded == stage.steps_total]
        if not complete:
            return
        ledgers = await scheduling.ledger_sums([stage.id for stage in complete])
    for stage in complete:
        await _finish_stage(state, stage, ledgers[stage.id])


async def _finish_stage(state: ControllerState, stage: OpenStage, ledger: Ledger) -> None:
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        if await stop_for_rejections(scheduling, stage, ledger, finished=True):
            return
        jobs = JobRepository(session)
        (full,) = [found for found in await jobs.stages(stage.job_id) if found.id == stage.id]
        artifacts = [
            artifact
            for artifact in await ArtifactRepository(session).of_stages(stage.job_id, [stage.name])
            if artifact.step_id is not None
        ]
    content = stage_manifest(full, artifacts, ledger)
    key = layout.manifest_key(stage.project_id, stage.job_id, stage.ordinal, stage.name)
    stored = await state.store.put_bytes(key, content, _JSON)
    if StageKind(stage.kind) is StageKind.TRAIN:
        await _remove_checkpoints(state, stage)
    async with state.sessions() as session, session.begin():
        if not await SchedulingRepository(session).finish_stage(stage, ledger, key):
            return
        await _record(
            session,
            stored,
            project_id=stage.project_id,
            job_id=stage.job_id,
            stage=stage.name,
            name="manifest.json",
            schema_version=MANIFEST_SCHEMA_VERSION,
        )


async def _remove_checkpoints(state: ControllerState, stage: OpenStage) -> None:
    """The model of the training is committed: nobody goes on from its checkpoints any more."""
    prefix = layout.checkpoint_prefix(stage.project_id, stage.job_id, stage.name)
    for key in [info.key async for info in state.store.list_objects(f"{prefix}/")]:
        await state.store.delete(key)


def stage_manifest(stage: Stage, artifacts: list[Artifact], ledger: Ledger) -> bytes:
    """The manifest of a stage as JSON: the same stage gives the same bytes."""
    lineages = [artifact.lineage for artifact in artifacts]
    prompts: dict[str, set[str]] = {}
    for lineage in lineages:
        for name, version in lineage.get("prompts", {}).items():
            prompts.setdefault(name, set()).add(version)
    manifest = {
        "schema_version": MANIFEST_SCHEMA_VERSION,
        "job_id": stage.job_id,
        "stage": stage.name,
        "kind": stage.kind,
        "parameters": stage.parameters,
        "prompts": {name: sorted(versions) for name, versions in sorted(prompts.items())},
        "code_versions": sorted({str(lineage["code_version"]) for lineage in lineages if "code_version" in lineage}),
        "ledger": msgspec.to_builtins(ledger),
        "parts": [
            {
                "name": artifact.name,
                "key": artifact.key,
                "sha256": artifact.sha256,
                "size": artifact.size,
                "rows": artifact.rows,
                "schema_version": artifact.schema_version,
                "media_type": artifact.media_type,
                "attempt_id": artifact.attempt_id,
                "inputs": artifact.lineage.get("inputs", []),
            }
            for artifact in artifacts
        ],
    }
    return _dump(manifest)


async def write_index(state: ControllerState, project_id: str, job_id: str, final_state: str) -> None:
    """Write `<job>/index.json`: what the job made, in one small file for people and programs."""
    async with state.sessions() as session:
        jobs = JobRepository(session)
        job = await jobs.require(project_id, job_id)
        stages = await jobs.stages(job_id)
        artifacts = [
            artifact
            for artifact in await ArtifactRepository(session).list(project_id, job_id)
            if artifact.stage != JOB_LEVEL_STAGE
        ]
    index = {
        "schema_version": INDEX_SCHEMA_VERSION,
        "job_id": job_id,
        "name": job.name,
        "state": final_state,
        "error": job.error,
        "run_no": job.run_no,
        "created_at": _time(job.created_at),
        "teacher": job.spec.get("teacher"),
        "teacher_is_simulator": job.teacher_is_simulator,
        "cost_micro_usd": job.cost_micro_usd,
        "unpriced_calls": job.unpriced_calls,
        "stages": [
            {
                "name": stage.name,
                "steps_total": stage.steps_total,
                "manifest": stage.manifest_key,
                "ledger": stage.ledger,
            }
            for stage in stages
        ],
        "objects": [
            {
                "stage": artifact.stage,
                "name": artifact.name,
                "key": artifact.key,
                "sha256": artifact.sha256,
                "size": artifact.size,
                "rows": artifact.rows,
                "kind": artifact.kind,
            }
            for artifact in artifacts
        ],
    }
    stored = await state.store.put_bytes(layout.index_key(project_id, job_id), _dump(index), _JSON)
    async with state.sessions() as session, session.begin():
        await _record(
            session,
            stored,
            project_id=project_id,
            job_id=job_id,
            stage=JOB_LEVEL_STAGE,
            name="index.json",
            schema_version=INDEX_SCHEMA_VERSION,
        )


async def _record(
    session: AsyncSession,
    stored: StoredObject,
    *,
    project_id: str,
    job_id: str,
    stage: str,
    name: str,
    schema_version: str,
) -> None:
    await ArtifactRepository(session).add(
        project_id=project_id,
        job_id=job_id,
        stage=stage,
        name=name,
        key=stored.key,
        kind="manifest",
        media_type=_JSON,
        sha256=stored.sha256,
        size=stored.size,
        schema_version=schema_version,
    )


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
