"""Evaluations: jobs that ask candidates, have their answers judged, and say how sure the figures are."""

from fastapi import APIRouter, Response

from services.api.authentication import Reader, Writer
from services.api.evaluation_views import EvaluationRequest, EvaluationSummary, EvaluationView
from services.api.evaluations import read_evaluation
from services.api.routes.common import listing, problems
from services.api.routes.jobs import IdempotencyKey
from services.api.schemas import Before, Limit, Listing
from services.api.state import State
from services.api.submission import check_job, submit_spec
from shared.domain.errors import InputRefused
from shared.domain.plan import StageKind
from shared.llm.estimate import Estimate
from shared.metadata.repositories.jobs import JobRepository

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"])


@router.get("", operation_id="list_evaluations", responses=problems())
async def list_evaluations(
    caller: Reader, state: State, limit: Limit = 50, before: Before = None
) -> Listing[EvaluationSummary]:
    """The project's jobs that evaluate, newest first, with their first figures."""
    async with state.transaction() as session:
        found = await JobRepository(session).list_with(
            caller.project_id, StageKind.EVALUATE, before=before, limit=limit + 1
        )
    return listing(found, limit, lambda pair: EvaluationSummary.of(*pair), lambda pair: pair[0].id)


@router.post("", status_code=202, operation_id="submit_evaluation", responses=problems(413, 415))
async def submit(
    wanted: EvaluationRequest,
    response: Response,
    caller: Writer,
    state: State,
    idempotency_key: IdempotencyKey = None,
) -> EvaluationView:
    """Evaluate candidates. The body is short for a job, which is submitted as `POST /v1/jobs` submits one; `job.spec` of the
    answer shows it whole."""
    spec = wanted.spec()
    try:
        job_id = await submit_spec(state, caller.project_id, spec, idempotency_key)
    except InputRefused as error:
        raise wanted.refused(error) from error
    response.headers["Location"] = f"/v1/evaluations/{job_id}"
    return await read_evaluation(state, caller.project_id, job_id)


@router.post("/estimate", operation_id="estimate_evaluation", responses=problems(413, 415))
async def estimate(wanted: EvaluationRequest, caller: Reader, state: State) -> Estimate:
    """Calls, tokens and money that the evaluation would take, by stage, after the same checks as at submission."""
    try:
        return (await check_job(state, caller.project_id, wanted.spec())).estimate
    except InputRefused as error:
        raise wanted.refused(error) from error


@router.get("/{job_id}", operation_id="get_evaluation", responses=problems(404, 410))
async def get_evaluation(job_id: str, caller: Reader, state: State) -> EvaluationView:
    """A job that evaluates with its figures, once they are there."""
    return await read_evaluation(state, caller.project_id, job_id)
