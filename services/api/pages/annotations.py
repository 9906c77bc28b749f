"""Pages where people compare answers: the tasks, the blind page, and what came of a task."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from services.api.annotation_tasks import results_for
from services.api.pages.rendering import Viewer, render
from services.api.state import State
from shared.domain.jobs import JobSpec
from shared.domain.states import JobState
from shared.metadata.repositories.annotations import AnnotationRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import AnnotationTask

router = APIRouter()

_PAGE_TASKS = 50
_JOBS_OFFERED = 30


@router.get("/annotations")
async def annotations_page(
    request: Request, caller: Viewer, state: State, before: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """Tasks, newest first, and the form that makes one."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        found = await repository.list(caller.project_id, before=before, limit=_PAGE_TASKS + 1)
        shown = found[:_PAGE_TASKS]
        progress = await repository.progress([task.id for task in shown])
        jobs = await JobRepository(session).list(
            caller.project_id, state=JobState.SUCCEEDED, candidates=2, limit=_JOBS_OFFERED
        )
    offered = [
        {"id": job.id, "name": job.name, "answers": [answer.name for answer in JobSpec.model_validate(job.spec).answer]}
        for job in jobs
    ]
    return render(
        request,
        "annotations.html",
        tasks=[{"task": task, "annotators": progress[task.id]} for task in shown],
        next=shown[-1].id if len(found) > _PAGE_TASKS else None,
        before=before,
        jobs=offered,
        may_write=caller.may("write"),
    )


@router.get("/annotations/{task_id}")
async def annotation_page(request: Request, task_id: str, caller: Viewer, state: State) -> Response:
    """The blind page: it holds the task's name and nothing of the candidates; pairs come from the REST API."""
    task = await _task(task_id, caller.project_id, state)
    return render(
        request,
        "annotation.html",
        task_id=task.id,
        task_name=task.name,
        items=task.items,
        may_write=caller.may("write"),
    )


@router.get("/annotations/{task_id}/results")
async def annotation_results_page(request: Request, task_id: str, caller: Viewer, state: State) -> Response:
    """What came of a task."""
    task = await _task(task_id, caller.project_id, state)
    results: dict[str, Any] = await results_for(state, task)
    return render(request, "annotation_results.html", task=task, results=results)


async def _task(task_id: str, project_id: str, state: State) -> AnnotationTask:
    async with state.transaction() as session:
        return await AnnotationRepository(session).require(project_id, task_id)
