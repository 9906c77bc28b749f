"""Duties: sum up what steps did, show it, and fail jobs that cannot or must not go on."""

import time

import structlog

from services.controller.judgement import stop_for_rejections
from services.controller.state import ControllerState
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.scheduling import SchedulingRepository

_log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 1.0


async def fail_jobs(state: ControllerState) -> None:
    """A job with a failed step has failed; what is finished stays."""
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        failed = await scheduling.failed_steps()
        for job_id, error in sorted(failed):
            if await scheduling.fail_job(job_id, error):
                _log.info("job_failed", job_id=job_id, code=error.get("code"), stage=error.get("stage"))


async def roll_up(state: ControllerState) -> None:
    """Show the counts of running stages and how far whole steps are, at most once a second, and judge their share of
    rejections. It counts all steps of these stages: a round, of which there are many a second, must not."""
    now = time.monotonic()
    if now - state.rolled_up_at < PROGRESS_SECONDS:
        return
    state.rolled_up_at = now
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        shown = [
            stage
            for stage in await scheduling.open_stages()
            if stage.running or stage.succeeded > stage.steps_succeeded
        ]
        if shown:
            ledgers = await scheduling.ledger_sums([stage.id for stage in shown])
            await scheduling.lock_jobs(stage.job_id for stage in shown)
            for stage in shown:
                ledger = ledgers[stage.id]
                if ledger != stage.ledger or stage.succeeded != stage.steps_succeeded or stage.work_now != stage.work:
                    await scheduling.show_progress(stage, ledger)
                await stop_for_rejections(scheduling, stage, ledger, finished=False)
    await _show_costs(state)


async def _show_costs(state: ControllerState) -> None:
    async with state.sessions() as session, session.begin():
        costs = {job_id: (cost, calls) for job_id, cost, calls in await SchedulingRepository(session).job_costs()}
        for job_id in sorted(costs):
            told = state.shown_costs.get(job_id)
            if costs[job_id] != (told or (0, 0)):
                cost, calls = costs[job_id]
                data = {"cost_micro_usd": cost, "unpriced_calls": calls}
                await EventRepository(session).append(job_id, "job.cost", data)
    state.shown_costs = costs
