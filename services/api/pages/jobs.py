"""Pages about jobs: the list, and one job live."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.datasets import data_sets
from services.api.pages.rendering import Viewer, render
from services.api.pages.sparkline import HEIGHT, WIDTH
from services.api.pages.trainings import training_panels
from services.api.schemas import ArtifactView, JobSummary, JobView
from services.api.state import ApiState, State
from shared.domain.models import WEIGHT_KINDS
from shared.domain.states import JOB_END_STATES, JobState
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.events import METRICS_EVENT, EventRepository
from shared.metadata.repositories.jobs import JobRepository

router = APIRouter()

_PAGE_JOBS = 50
_NEWEST_EVENTS = 40


@router.get("/jobs")
async def jobs_page(
    request: Request,
    caller: Viewer,
    state: State,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    return render(request, "jobs.html", **await _jobs(state, caller.project_id, job_state, before))


@router.get("/jobs/list")
async def jobs_list(
    request: Request,
    caller: Viewer,
    state: State,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
    before: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The live part of the list."""
    return render(request, "_jobs.html", **await _jobs(state, caller.project_id, job_state, before))


@router.get("/jobs/{job_id}")
async def job_page(request: Request, job_id: str, caller: Viewer, state: State) -> Response:
    return render(request, "job.html", **await _job(state, caller.project_id, job_id), may_write=caller.may("write"))


@router.get("/jobs/{job_id}/live")
async def job_live(request: Request, job_id: str, caller: Viewer, state: State) -> Response:
    """The live part of a job's page."""
    return render(request, "_job.html", **await _job(state, caller.project_id, job_id), may_write=caller.may("write"))


async def _jobs(state: ApiState, project_id: str, job_state: JobState | None, before: str | None) -> dict[str, Any]:
    async with state.transaction() as session:
        repository = JobRepository(session)
        found = await repository.list(project_id, state=job_state, before=before, limit=_PAGE_JOBS + 1)
        running = {
            job.id: JobView.of(job, await repository.stages(job.id), datetime.now(UTC))
            for job in found[:_PAGE_JOBS]
            if job.state not in JOB_END_STATES
        }
    shown = found[:_PAGE_JOBS]
    return {
        "jobs": [JobSummary.summary_of(job) for job in shown],
        "running": running,
        "states": list(JobState),
        "chosen_state": job_state,
        "next": shown[-1].id if len(found) > _PAGE_JOBS else None,
        "before": before,
    }


async def _job(state: ApiState, project_id: str, job_id: str) -> dict[str, Any]:
    async with state.transaction() as session:
        repository = JobRepository(session)
        job = await repository.require(project_id, job_id)
        view = JobView.of(job, await repository.stages(job_id), datetime.now(UTC))
        artifacts = await ArtifactRepository(session).list(project_id, job_id)
        events = await EventRepository(session).newest(job_id, _NEWEST_EVENTS, without=(METRICS_EVENT,))
        trainings = await training_panels(session, view, artifacts)
    views = [ArtifactView.of(artifact) for artifact in artifacts]
    shown = [item for item in views if not _is_left_out(item)]
    return {
        "job": view,
        "ended": view.state in JOB_END_STATES,
        "artifacts": shown,
        "left_out": len(views) - len(shown),
        "report": next((item for item in views if item.name == "report.html"), None),
        "data_sets": data_sets(artifacts),
        "events": events,
        "trainings": trainings,
        "curve_size": (WIDTH, HEIGHT),
    }


def _is_left_out(item: ArtifactView) -> bool:
    """Whether a file is too many and of too little use to be listed: parts, manifests, a model's files (its page has them)."""
    return (
        item.kind == "manifest"
        or item.kind in WEIGHT_KINDS
        or "/part-" in f"/{item.name}"
        or item.name.startswith("tensorboard/")
    )
