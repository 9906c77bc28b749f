"""Jobs: submit, look, cancel, retry, events."""

from datetime import UTC, datetime
from typing import Annotated

import anyio
from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse

from services.api.authentication import Reader, Writer
from services.api.events import event_record, read_events, stream_events
from services.api.problems import Problem
from services.api.routes.common import listing, problems
from services.api.schemas import (
    Before,
    EventPage,
    EventView,
    JobSummary,
    JobView,
    Limit,
    Listing,
    RetryRequest,
    StepView,
    step_view,
)
from services.api.state import State
from services.api.submission import check_job, submit_spec
from shared.domain.jobs import JobSpec
from shared.domain.states import JOB_END_STATES, JobState, StepState
from shared.llm.estimate import Estimate
from shared.metadata.repositories.jobs import JobRepository

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

HEARTBEAT_SECONDS = 15
SHUTDOWN_GRACE_SECONDS = 3
LARGEST_SEQUENCE = 2**63 - 1
STREAMED_EVENT = {
    "type": "object",
    "description": "One message of the stream; `data` is the JSON text of an event, as a page has them.",
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}

Spec = Annotated[
    JobSpec,
    Body(
        openapi_examples={
            "demo": {
                "summary": "The instructions that the project carries, written by the simulator",
                "value": {
                    "name": "demo",
                    "sources": [{"bundled": "demo"}],
                    "teacher": {"provider": "simulator", "model": "simulator-large"},
                },
            },
            "own file": {
                "summary": "An uploaded file, 3 preference sets per instruction, at most 5 USD",
                "value": {
                    "name": "support questions",
                    "sources": [{"file": "file_01jdexample0000000000000000", "mapping": {"instruction": "{question}"}}],
                    "teacher": {"provider": "openai", "model": "gpt-4.1-mini"},
                    "budget_usd": 5,
                },
            },
        }
    ),
]


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="the same key with the same body gives the same job, however often it is sent; with another body, 422",
    ),
]


@router.post("", status_code=202, operation_id="submit_job", responses=problems(413, 415))
async def submit(
    spec: Spec,
    response: Response,
    caller: Writer,
    state: State,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Submit a job.

    Everything that can be checked is checked now: provider, model, taxonomy, files and their mappings, and the budget
    against the estimate. A job that was answered 202 is not lost. `Location` names it.
    """
    job_id = await submit_spec(state, caller.project_id, spec, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    return await get_job(job_id, caller, state)


@router.post("/estimate", operation_id="estimate_job", responses=problems(413, 415))
async def estimate(spec: Spec, caller: Reader, state: State) -> Estimate:
    """Calls, tokens and money that a job would take, by stage, after the same checks as at submission (but for the budget).

    Characters per token and characters per answer are learned from the project's own usage.
    """
    return (await check_job(state, caller.project_id, spec)).estimate


@router.get("", operation_id="list_jobs", responses=problems())
async def list_jobs(
    caller: Reader,
    state: State,
    job_state: Annotated[JobState | None, Query(alias="state", description="only jobs in this state")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> Listing[JobSummary]:
    """The project's jobs, newest first."""
    async with state.transaction() as session:
        jobs = await JobRepository(session).list(caller.project_id, state=job_state, before=before, limit=limit + 1)
    return listing(jobs, limit, JobSummary.summary_of, lambda job: job.id)


@router.get("/{job_id}", operation_id="get_job", responses=problems(404))
async def get_job(job_id: str, caller: Reader, state: State) -> JobView:
    """A job with its stages, counts, cost and remaining time."""
    async with state.transaction() as session:
        repository = JobRepository(session)
        job = await repository.require(caller.project_id, job_id)
        return JobView.of(job, await repository.stages(job_id), datetime.now(UTC))


@router.post("/{job_id}/cancel", status_code=202, operation_id="cancel_job", responses=problems(404, 409))
async def cancel(job_id: str, caller: Writer, state: State) -> JobView:
    """Ask a job to stop. What it finished is kept; calls in flight end within a grace. Asking again changes nothing."""
    async with state.transaction() as session:
        repository = JobRepository(session)
        job = await repository.request_cancel(caller.project_id, job_id)
        return JobView.of(job, await repository.stages(job_id), datetime.now(UTC))


@router.post("/{job_id}/retry", status_code=202, operation_id="retry_job", responses=problems(404, 409, 413, 415))
async def retry(job_id: str, caller: Writer, state: State, change: RetryRequest | None = None) -> JobView:
    """Take a failed or cancelled job up again where it stopped; finished parts are kept and answers are not paid twice."""
    budget = None if change is None else change.budget_usd
    async with state.transaction() as session:
        repository = JobRepository(session)
        job = await repository.retry(caller.project_id, job_id, budget_usd=budget)
        return JobView.of(job, await repository.stages(job_id), datetime.now(UTC))


@router.get("/{job_id}/steps", operation_id="list_steps", responses=problems(404))
async def list_steps(
    job_id: str,
    caller: Reader,
    state: State,
    stage: Annotated[str | None, Query(max_length=100, description="name of a stage")] = None,
    step_state: Annotated[StepState | None, Query(alias="state")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=100, description="`next` of the page before")] = None,
) -> Listing[StepView]:
    """Steps of a job, oldest first: shards of row stages and whole steps. `next` is given as `after`."""
    async with state.transaction() as session:
        repository = JobRepository(session)
        await repository.require(caller.project_id, job_id)
        steps = await repository.steps(job_id, stage=stage, state=step_state, after=after, limit=limit + 1)
    return listing(steps, limit, step_view, lambda step: step.id)


@router.get(
    "/{job_id}/events",
    operation_id="read_events",
    response_model=EventPage,
    responses={
        **problems(404),
        200: {
            "description": "A stream (`Accept: text/event-stream`) or a page (`Accept: application/json`).",
            "content": {"text/event-stream": {"schema": STREAMED_EVENT}},
        },
        204: {"description": "The job has ended and every event is known: do not reconnect."},
    },
)
async def events(
    request: Request,
    job_id: str,
    caller: Reader,
    state: State,
    after: Annotated[
        int, Query(ge=0, le=LARGEST_SEQUENCE, description="only events with a greater sequence number")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=500, description="events per JSON page")] = 200,
    last_event_id: Annotated[
        str | None,
        Header(max_length=30, description="sent by a browser that reconnects; stands before `after`"),
    ] = None,
) -> Response:
    """Events of a job, live.

    A stream begins after `Last-Event-ID` (or `after`, or with the first event), sends a comment as heartbeat every 15
    seconds, and closes with an event of type `end` when the job has ended. No event is lost or repeated over reconnects.
    """
    if last_event_id is not None:
        after = _sequence(last_event_id)
    wants_json = "application/json" in request.headers.get("accept", "")
    found, job_state = await read_events(state.sessions, caller.project_id, job_id, after, limit)
    if wants_json:
        records = [event_record(event) for event in found]
        ended = job_state in JOB_END_STATES and len(found) < limit
        last = found[-1].sequence if found else after
        page = EventPage(
            items=[EventView.model_validate(record) for record in records], last=last, state=job_state, ended=ended
        )
        return JSONResponse(page.model_dump(mode="json"), headers={"Cache-Control": "no-store", "Vary": "Accept"})
    if last_event_id is not None and not found and job_state in JOB_END_STATES:
        return Response(status_code=204)
    stop = anyio.Event()
    stream = stream_events(state.events, state.sessions, caller.project_id, job_id, after, stop)
    return EventSourceResponse(
        stream,
        ping=HEARTBEAT_SECONDS,
        sep="\n",
        headers={"Cache-Control": "no-store", "Vary": "Accept"},
        shutdown_event=stop,
        shutdown_grace_period=SHUTDOWN_GRACE_SECONDS,
    )


def _sequence(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_SEQUENCE):
        detail = f"Last-Event-ID is {text!r}, which is no sequence number of an event"
        raise Problem(
            422, "invalid_request", detail, errors=[{"in": "header", "pointer": "/last-event-id", "detail": detail}]
        )
    return int(text)
