"""Duties: sum up what steps did, show it, and fail jobs that cannot or must not go on."""

import time

import structlog

from services.controller.state import ControllerState
from shared.domain.ledger import Ledger
from shared.domain.plan import ROW_STAGES, StageKind
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.scheduling import OpenStage, SchedulingRepository

_log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 1.0
JUDGED_FROM = 100
"""Facets (or rows) that a stage must have seen before its share of rejections is judged; at its end it is judged anyway."""

UNUSABLE_ROW_REASONS = frozenset(
    {"missing_field", "invalid_json", "invalid_csv", "not_utf8", "oversized_line", "empty"}
)
"""Curation's reasons for rows that could not be read as instructions at all."""


async def fail_jobs(state: ControllerState) -> None:
    """A job with a failed step has failed; what is finished stays."""
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        failed = await scheduling.failed_steps()
        for job_id, error in sorted(failed):
            if await scheduling.fail_job(job_id, error):
                _log.info("job_failed", job_id=job_id, code=error.get("code"), stage=error.get("stage"))


async def roll_up(state: ControllerState) -> None:
    """Show the counts of running stages, at most once a second each, and judge their share of rejections."""
    async with state.sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        shown = [
            stage
            for stage in await scheduling.open_stages()
            if (stage.running or stage.succeeded > stage.steps_succeeded) and state.due(stage.id, PROGRESS_SECONDS)
        ]
        if shown:
            ledgers = await scheduling.ledger_sums([stage.id for stage in shown])
            await scheduling.lock_jobs(stage.job_id for stage in shown)
            for stage in shown:
                ledger = ledgers[stage.id]
                if ledger != stage.ledger or stage.succeeded != stage.steps_succeeded:
                    await scheduling.show_progress(stage, ledger)
                if too_many_rejected(stage, ledger, finished=False):
                    await fail_for_rejections(scheduling, stage, ledger)
    await _show_costs(state)


async def _show_costs(state: ControllerState) -> None:
    now = time.monotonic()
    if now - state.costs_at < PROGRESS_SECONDS:
        return
    state.costs_at = now
    async with state.sessions() as session, session.begin():
        costs = {job_id: (cost, calls) for job_id, cost, calls in await SchedulingRepository(session).job_costs()}
        for job_id in sorted(costs):
            told = state.shown_costs.get(job_id)
            if costs[job_id] != (told or (0, 0)):
                cost, calls = costs[job_id]
                data = {"cost_micro_usd": cost, "unpriced_calls": calls}
                await EventRepository(session).append(job_id, "job.cost", data)
    state.shown_costs = costs


def too_many_rejected(stage: OpenStage, ledger: Ledger, *, finished: bool) -> bool:
    """Whether the stage rejected more than its job allows.

    Judged from 100 facets (rows in a stage without facets) on, and at the stage's end. Only stages that judge quality count:
    curation removes duplicates and contaminated rows by design, but rows it could not read are held against it.
    """
    kind = StageKind(stage.kind)
    if kind in ROW_STAGES:
        seen, rejected = ledger.facets_in, ledger.facets_rejected
    elif kind is StageKind.CURATE:
        seen = ledger.rows_in
        rejected = sum(count for reason, count in ledger.reasons.items() if reason in UNUSABLE_ROW_REASONS)
    else:
        return False
    if not seen or (seen < JUDGED_FROM and not finished):
        return False
    return rejected / seen > stage.max_reject_rate


async def fail_for_rejections(scheduling: SchedulingRepository, stage: OpenStage, ledger: Ledger) -> None:
    """Fail the stage's job for having rejected too much; what was made is kept."""
    reasons = sorted(ledger.reasons.items(), key=lambda item: (-item[1], item[0]))[:5]
    what = "facets" if ledger.facets_in else "rows"
    seen = ledger.facets_in or ledger.rows_in
    told = ", ".join(f"{reason}: {count}" for reason, count in reasons)
    error = {
        "code": "too_many_rejected",
        "message": (
            f"the stage {stage.name} rejected {sum(ledger.reasons.values())} of {seen} {what} ({told}), more than "
            f"max_reject_rate {stage.max_reject_rate:g} allows; mend the input or submit with a higher max_reject_rate"
        ),
        "stage": stage.name,
        "step_id": None,
    }
    if await scheduling.fail_job(stage.job_id, error):
        _log.info("job_failed", job_id=stage.job_id, code="too_many_rejected", stage=stage.name)
