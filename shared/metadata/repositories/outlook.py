"""What there is to do for the controller, in one statement: a round without work shall cost next to nothing."""

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.metadata.repositories.scheduling import PARTITIONABLE, ROW_STAGE_KINDS, STOPPED_JOB_STATES
from shared.metadata.repositories.steps import ACTIVE_JOB_STATES

_LOOK = sa.text(
    f"""
    SELECT EXISTS (SELECT 1 FROM job WHERE state = ANY(:active)) AS active_jobs,
           EXISTS (SELECT 1 FROM job WHERE state = ANY(:stopped) AND settled_at IS NULL) AS stopped_jobs,
           EXISTS (SELECT 1 FROM job JOIN step ON step.job_id = job.id
                   WHERE job.state = ANY(:active) AND step.state = 'failed') AS failed_steps,
           EXISTS (SELECT 1 {PARTITIONABLE}) AS unpartitioned_stages,
           EXISTS (SELECT 1 FROM job JOIN stage ON stage.job_id = job.id
                   WHERE job.state = ANY(:active) AND stage.partitioned AND stage.state IN ('pending', 'running')
                   AND NOT EXISTS (SELECT 1 FROM step WHERE step.stage_id = stage.id AND step.state <> 'succeeded')
                  ) AS complete_stages,
           EXISTS (SELECT 1 FROM attempt WHERE state = 'running') AS running_attempts,
           EXISTS (SELECT 1 FROM outbox) AS doorbells,
           EXISTS (SELECT 1 FROM deployment WHERE state <> 'stopped') AS deployments,
           EXISTS (SELECT 1 FROM gpu_slot WHERE holder IS NOT NULL) AS gpu_leases
    """
)


class Outlook(msgspec.Struct, frozen=True):
    """What is there at all. Whoever acts on it looks again more closely: it may have changed since."""

    active_jobs: bool
    """Jobs that are queued or running."""
    stopped_jobs: bool
    """Jobs that were stopped and are not settled."""
    failed_steps: bool
    """Failed steps of active jobs."""
    unpartitioned_stages: bool
    """Stages of active jobs whose steps can be made now."""
    complete_stages: bool
    """Stages of active jobs that have not ended although all of their steps have succeeded."""
    running_attempts: bool
    doorbells: bool
    """Doorbells in the outbox."""
    deployments: bool
    """Deployments that are not stopped."""
    gpu_leases: bool


class OutlookRepository:
    """The controller's first look of a round."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def look(self) -> Outlook:
        given = {"active": list(ACTIVE_JOB_STATES), "stopped": list(STOPPED_JOB_STATES), "row_stages": ROW_STAGE_KINDS}
        row = (await self._session.execute(_LOOK, given)).one()
        return Outlook(**row._mapping)
