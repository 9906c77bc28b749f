"""Duties: end jobs. All stages done: succeeded. Cancelled, failed or overdue: stop what is open, keep what is finished."""

import structlog

from services.controller.manifests import write_index
from services.controller.state import ControllerState
from shared.domain.states import JobState
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.scheduling import SchedulingRepository

_log = structlog.get_logger(__name__)


async def finish_jobs(state: ControllerState) -> None:
    """Jobs whose stages all succeeded have succeeded; their index stands before they say so."""
    async with state.sessions() as session:
        complete = await SchedulingRepository(session).complete_jobs()
    for job_id, project_id in complete:
        await write_index(state, project_id, job_id, JobState.SUCCEEDED.value)
        async with state.sessions() as session, session.begin():
            if await SchedulingRepository(session).finish_job(job_id):
                _log.info("job_succeeded", job_id=job_id)


async def settle_stopped(state: ControllerState) -> None:
    """Cancel the open steps of stopped jobs; close a job once none of its steps runs any more.

    Running steps hear of the stop by their heartbeat and end themselves, or their lease runs out.
    """
    async with state.sessions() as session:
        stopped = await SchedulingRepository(session).stopped_jobs()
    for job in stopped:
        if job.open_steps:
            async with state.sessions() as session, session.begin():
                await SchedulingRepository(session).cancel_open_steps(job.id)
        if job.running_steps:
            continue
        async with state.sessions() as session:
            stages = [stage.id for stage in await JobRepository(session).stages(job.id)]
            ledgers = await SchedulingRepository(session).ledger_sums(stages)
        final = JobState.FAILED if job.state == JobState.FAILED.value else JobState.CANCELLED
        await write_index(state, job.project_id, job.id, final.value)
        async with state.sessions() as session, session.begin():
            if await SchedulingRepository(session).settle_job(job.id, ledgers):
                _log.info("job_settled", job_id=job.id, state=final.value)


async def enforce_deadlines(state: ControllerState) -> None:
    """Fail jobs that ran longer than their deadline allows."""
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        for job_id in await scheduling.overdue_jobs():
            error = {
                "code": "deadline_exceeded",
                "message": "the job did not end within its deadline_seconds; finished parts are kept, retry continues",
                "stage": None,
                "step_id": None,
            }
            if await scheduling.fail_job(job_id, error):
                _log.info("job_failed", job_id=job_id, code="deadline_exceeded")
