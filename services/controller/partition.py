"""Duties: make the steps of stages whose shards are known; make steps ready whose inputs stand."""

from services.controller.state import ControllerState
from shared.domain.plan import ROW_STAGES, StageKind
from shared.metadata.repositories.scheduling import NewStep, SchedulingRepository, UnpartitionedStage

_WHOLE = (NewStep(0, None),)


async def partition(state: ControllerState) -> None:
    """A whole stage has one step, made at once. A row stage has one per part of the stage that its rows come from (the first one
    that it needs), made when that stage has succeeded."""
    async with state.sessions() as session:
        stages = await SchedulingRepository(session).unpartitioned_stages()
    if not stages:
        return
    by_job: dict[str, list[UnpartitionedStage]] = {}
    for stage in stages:
        by_job.setdefault(stage.job_id, []).append(stage)
    for job_id, members in by_job.items():
        async with state.sessions() as session, session.begin():
            scheduling = SchedulingRepository(session)
            await scheduling.lock_jobs([job_id])
            rows_of = {stage.name: stage.needs[0] for stage in members if StageKind(stage.kind) in ROW_STAGES}
            for stage in members:
                if StageKind(stage.kind) not in ROW_STAGES:
                    await scheduling.make_steps(stage, _WHOLE)
                    continue
                source = stage.needs[0]
                while source in rows_of:  # shard n of a row stage comes from shard n of the one before
                    source = rows_of[source]
                parts = await scheduling.parts(job_id, source)
                if parts is not None:
                    await scheduling.make_steps(stage, parts)


async def unblock(state: ControllerState) -> None:
    """Make blocked steps ready whose inputs stand."""
    async with state.sessions() as session, session.begin():
        await SchedulingRepository(session).unblock()
