"""Annotations: pairs of answers that people compare blindly, what they said, and how far they agree."""

import csv
import io
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Response

from services.api.annotation_pairs import order_for
from services.api.annotation_tasks import pairs_for, results_for
from services.api.annotation_views import (
    AnnotationItemView,
    AnnotationRequest,
    AnnotationResultsView,
    AnnotationTaskRequest,
    AnnotationTaskView,
    AnnotatorName,
    ExportFormat,
    UndoneView,
)
from services.api.authentication import Reader, Writer
from services.api.problems import not_found
from services.api.routes.common import listing, problems
from services.api.schemas import Before, Limit, Listing
from services.api.state import State
from services.api.submission import refuse_unstorable
from shared.domain.annotations import outcome_of
from shared.domain.errors import InputRefused
from shared.metadata.repositories.annotations import AnnotationRepository
from shared.metadata.tables import AnnotationItem, AnnotationTask

router = APIRouter(prefix="/v1/annotations", tags=["annotations"])

TaskId = Annotated[str, Path(max_length=100, description="the task's id")]
Annotator = Annotated[AnnotatorName, Query(description="who annotates, by a name of their choice")]


@router.post("", status_code=201, operation_id="create_annotation_task", responses=problems(410, 413, 415))
async def create_task(
    wanted: AnnotationTaskRequest, response: Response, caller: Writer, state: State
) -> AnnotationTaskView:
    """Make a task of the best answers of two candidates. Pairs are shuffled and their sides swapped by seed."""
    refuse_unstorable(wanted)
    pairs = await pairs_for(state, caller.project_id, wanted)
    async with state.transaction() as session:
        task = await AnnotationRepository(session).create(
            caller.project_id,
            pairs.items,
            name=wanted.name,
            job_id=wanted.job,
            first=wanted.first,
            second=wanted.second,
            seed=wanted.seed,
            shows_preferences=wanted.shows_preferences,
        )
        view = AnnotationTaskView.of(task, left_out=pairs.left_out)
    response.headers["Location"] = f"/v1/annotations/{view.id}"
    return view


@router.get("", operation_id="list_annotation_tasks", responses=problems())
async def list_tasks(
    caller: Reader, state: State, limit: Limit = 50, before: Before = None
) -> Listing[AnnotationTaskView]:
    """The project's annotation tasks, newest first."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        found = await repository.list(caller.project_id, before=before, limit=limit + 1)
        progress = await repository.progress([task.id for task in found])
    return listing(found, limit, lambda task: AnnotationTaskView.of(task, progress[task.id]), lambda task: task.id)


@router.get("/{task_id}", operation_id="get_annotation_task", responses=problems(404))
async def get_task(task_id: TaskId, caller: Reader, state: State) -> AnnotationTaskView:
    """A task with the progress of its annotators."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        progress = await repository.progress([task.id])
    return AnnotationTaskView.of(task, progress[task.id])


@router.get("/{task_id}/next", operation_id="next_annotation_item", responses=problems(404))
async def next_item(task_id: TaskId, annotator: Annotator, caller: Writer, state: State) -> AnnotationItemView:
    """The next pair for an annotator, in an order of their own. Nothing in it tells whose an answer is."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        judged = await repository.judged(task.id, annotator)
        number = next((one for one in order_for(annotator, task.items, task.seed) if one not in judged), None)
        item = None if number is None else await repository.item(task.id, number)
    return _shown(task, item, len(judged))


@router.post("/{task_id}/annotations", operation_id="annotate", responses=problems(404, 413, 415))
async def annotate(task_id: TaskId, said: AnnotationRequest, caller: Writer, state: State) -> AnnotationItemView:
    """Keep what an annotator says of a pair, in place of what they said of it before; answers with the next pair."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        item = await repository.item(task.id, said.number)
        if item is None:
            raise InputRefused(
                f"the task has no pair {said.number}; its pairs are numbered from 0 to {task.items - 1}", "/number"
            )
        outcome = outcome_of(said.choice, swapped=item.swapped)
        await repository.annotate(task.id, item.number, said.annotator, outcome, said.seconds)
        judged = await repository.judged(task.id, said.annotator)
        number = next((one for one in order_for(said.annotator, task.items, task.seed) if one not in judged), None)
        following = None if number is None else await repository.item(task.id, number)
    return _shown(task, following, len(judged))


@router.delete("/{task_id}/annotations/last", operation_id="undo_annotation", responses=problems(404))
async def undo(task_id: TaskId, annotator: Annotator, caller: Writer, state: State) -> UndoneView:
    """Take back what an annotator said last; that pair is shown again."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        return UndoneView(number=await repository.undo(task.id, annotator))


@router.get("/{task_id}/items/{number}", operation_id="get_annotation_item", responses=problems(404))
async def get_item(
    task_id: TaskId,
    number: Annotated[int, Path(ge=0, le=2**31 - 1)],
    annotator: Annotator,
    caller: Writer,
    state: State,
) -> AnnotationItemView:
    """One pair as an annotator sees it, judged or not."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        item = await repository.item(task.id, number)
        if item is None:
            raise not_found("pair", f"{task.id}/{number}")
        judged = await repository.judged(task.id, annotator)
    return _shown(task, item, len(judged))


@router.get("/{task_id}/results", operation_id="get_annotation_results", responses=problems(404, 410))
async def results(task_id: TaskId, caller: Reader, state: State) -> AnnotationResultsView:
    """Outcomes, win rate, agreement of the annotators, and how well the job's judge says what they say."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        progress = await repository.progress([task.id])
    return AnnotationResultsView(
        task=AnnotationTaskView.of(task, progress[task.id]), results=await results_for(state, task)
    )


_COLUMNS = (
    "item", "row_id", "facet_index", "annotator", "outcome", "first", "second", "swapped", "first_words", "second_words",
    "seconds", "annotated_at",
)  # fmt: skip


@router.get("/{task_id}/export", operation_id="export_annotations", responses=problems(404))
async def export(
    task_id: TaskId, caller: Reader, state: State, format: Annotated[ExportFormat, Query()] = "jsonl"
) -> Response:
    """Every annotation, told by whose answer is better; `multifacet agreement` and `multifacet rate` read it."""
    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        task = await repository.require(caller.project_id, task_id)
        items = {item.number: item for item in await repository.items(task.id)}
        annotations = await repository.annotations(task.id)
    records = [
        {
            "item": one.number,
            "row_id": items[one.number].row_id,
            "facet_index": items[one.number].facet_index,
            "annotator": one.annotator,
            "outcome": one.outcome,
            "first": task.first,
            "second": task.second,
            "swapped": items[one.number].swapped,
            "first_words": items[one.number].body["first_words"],
            "second_words": items[one.number].body["second_words"],
            "seconds": one.seconds,
            "annotated_at": None if one.annotated_at is None else one.annotated_at.isoformat(),
        }
        for one in annotations
    ]
    name = f"{task.id}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if format == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS)
        writer.writeheader()
        writer.writerows(records)
        return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)
    body = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    return Response(body, media_type="application/jsonl", headers=headers)


def _shown(task: AnnotationTask, item: AnnotationItem | None, done: int) -> AnnotationItemView:
    if item is None:
        return AnnotationItemView(done=done, total=task.items, number=None)
    first, second = str(item.body["first"]), str(item.body["second"])
    return AnnotationItemView(
        done=done,
        total=task.items,
        number=item.number,
        instruction=item.body["instruction"],
        preferences=item.body["preferences"] if task.shows_preferences else [],
        left=second if item.swapped else first,
        right=first if item.swapped else second,
    )
