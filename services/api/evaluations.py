"""Evaluations as the api reads them: a job, and the figures that its stage `evaluate` made of the verdicts."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from services.api.evaluation_views import EvaluationView
from services.api.local_objects import ObjectReference
from services.api.problems import not_found
from services.api.schemas import ArtifactView, JobView
from services.api.state import ApiState
from shared.domain.evaluations import EVALUATE
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository

EVALUATION_FILE = "evaluation.json"


async def read_evaluation(state: ApiState, project_id: str, job_id: str) -> EvaluationView:
    """A job with its evaluation, where that is there already. Raises JobNotFound, a 404 problem for a job that evaluates
    nothing, and ObjectNotFound where the file is gone."""
    async with state.transaction() as session:
        repository = JobRepository(session)
        job = await repository.require(project_id, job_id)
        stages = await repository.stages(job_id)
        artifacts = await ArtifactRepository(session).list(project_id, job_id, stage=EVALUATE)
    if all(stage.name != EVALUATE for stage in stages):
        raise not_found("evaluation", job_id)
    made = [artifact for artifact in artifacts if artifact.kind != "manifest"]
    figures = next((artifact for artifact in made if artifact.name == EVALUATION_FILE), None)
    evaluation = None
    if figures is not None:
        async with state.objects.local(ObjectReference(figures.key, figures.sha256, figures.size)) as path:
            evaluation = await asyncio.to_thread(_read, path)
    return EvaluationView(
        job=JobView.of(job, stages, datetime.now(UTC)),
        evaluation=evaluation,
        files=[ArtifactView.of(artifact) for artifact in made],
    )


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(path.read_bytes())
    return found
