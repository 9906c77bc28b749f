"""Duty: notice dead workers by their expired leases."""

import structlog

from services.controller.state import ControllerState
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.steps import StepRepository
from shared.queue.retry_policy import BACKOFF_SHARE, AttemptEnd, EndKind

_log = structlog.get_logger(__name__)


async def expire_leases(state: ControllerState) -> None:
    """End expired attempts as lost; their steps start over within the infrastructure budget."""
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        expired = await scheduling.expired_attempts()
        if not expired:
            return
        await scheduling.lock_jobs(job_id for _, job_id, _ in expired)
        steps = StepRepository(session)
        end = AttemptEnd(EndKind.LOST, "lease_expired", "the worker was not heard of for a whole lease")
        for attempt_id, job_id, step_id in expired:
            verdict = await steps.end(attempt_id, end, backoff_seconds=state.settings.lease_seconds * BACKOFF_SHARE)
            if verdict is not None:
                became = verdict.step_state.value
                _log.warning("attempt_lost", job_id=job_id, step_id=step_id, attempt_id=attempt_id, step_state=became)
