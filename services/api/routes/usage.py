"""What was spent."""

from typing import Annotated

from fastapi import APIRouter, Query

from services.api.authentication import Reader
from services.api.routes.common import problems
from services.api.schemas import KeyUsageReport, KeyUsageView, UsageFigures, UsageGroupView, UsageReport
from services.api.state import State
from shared.metadata.repositories.key_usage import KeyUsageRepository
from shared.metadata.repositories.usage import UsageGroup, UsageRepository

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("", operation_id="read_usage", responses=problems())
async def read_usage(
    caller: Reader,
    state: State,
    by: Annotated[UsageGroup, Query(description="day (of submission, UTC), model, or job")] = "day",
    job: Annotated[str | None, Query(max_length=100, description="only this job")] = None,
    limit: Annotated[int, Query(ge=1, le=366)] = 100,
) -> UsageReport:
    """Calls, tokens and money of the project: the total, and by day (newest first), model or job (dearest first)."""
    async with state.transaction() as session:
        repository = UsageRepository(session)
        total = await repository.total(caller.project_id, job_id=job)
        groups = await repository.grouped(caller.project_id, by, job_id=job, limit=limit)
    return UsageReport(
        by=by,
        total=UsageFigures.model_validate(total),
        groups=[UsageGroupView.model_validate(group) for group in groups],
    )


@router.get("/keys", operation_id="read_key_usage", responses=problems())
async def read_key_usage(
    caller: Reader,
    state: State,
    key: Annotated[str | None, Query(max_length=100, description="only the key with this id")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> KeyUsageReport:
    """What live requests took, by UTC day (newest first) and key. Written once a second; what the daily quota is counted by."""
    async with state.transaction() as session:
        rows = await KeyUsageRepository(session).list(caller.project_id, key_id=key, limit=limit)
    return KeyUsageReport(items=[KeyUsageView.model_validate(row) for row in rows])
