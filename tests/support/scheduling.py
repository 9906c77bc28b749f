"""Jobs brought to a wanted point without processes: what the controller and workers would do, by the same repositories."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.ledger import Ledger
from shared.domain.models import ModelRegistration
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.scheduling import Candidate, NewStep, SchedulingRepository
from shared.metadata.repositories.steps import Claim, NewArtifact, StepRepository
from shared.metadata.tables import Job
from tests.support.control_plane import PROJECT, toy_spec, toy_taxonomy

Sessions = async_sessionmaker[AsyncSession]


async def submitted(sessions: Sessions, name: str = "toy", **more: object) -> Job:
    async with sessions() as session, session.begin():
        job, _ = await JobRepository(session).submit(
            PROJECT,
            toy_spec(name, **more),
            toy_taxonomy(),
            teacher_is_simulator=True,  # type: ignore[arg-type]
        )
        return job


async def make_steps(sessions: Sessions, job: Job, stage: str, shards: int) -> None:
    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        (found,) = [s for s in await scheduling.unpartitioned_stages() if s.job_id == job.id and s.name == stage]
        await scheduling.make_steps(found, [NewStep(shard, 16) for shard in range(shards)])


async def step_states(sessions: Sessions, job: Job) -> dict[tuple[str, int], str]:
    async with sessions() as session:
        rows = await session.execute(
            sa.text(
                "SELECT stage.name, shard, step.state FROM step JOIN stage ON stage.id = stage_id WHERE step.job_id = :id"
            ),
            {"id": job.id},
        )
        return {(row.name, row.shard): row.state for row in rows}


async def unblock(sessions: Sessions) -> int:
    async with sessions() as session, session.begin():
        return await SchedulingRepository(session).unblock()


async def dispatch(sessions: Sessions, job: Job) -> list[tuple[str, int]]:
    """Ring for every ready step of the job; returns (step id, dispatch number) by stage and shard."""
    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        rows = await session.execute(
            sa.text(
                "SELECT step.id, step.queue FROM step JOIN stage ON stage.id = stage_id WHERE step.job_id = :id "
                "AND step.state = 'ready' ORDER BY stage.ordinal, shard"
            ),
            {"id": job.id},
        )
        chosen = [Candidate(row.id, job.id, row.queue) for row in rows]
        await scheduling.dispatch(chosen)
        numbers = await session.execute(
            sa.text("SELECT id, dispatch_no FROM step WHERE id = ANY(:ids)"),
            {"ids": [candidate.step_id for candidate in chosen]},
        )
        by_id = {row.id: row.dispatch_no for row in numbers}
        return [(candidate.step_id, by_id[candidate.step_id]) for candidate in chosen]


async def claim(sessions: Sessions, doorbell: tuple[str, int], worker: str = "w", lease: float = 60) -> Claim | None:
    async with sessions() as session, session.begin():
        return await StepRepository(session).claim(*doorbell, worker, lease)


async def claimed(sessions: Sessions, name: str = "toy", lease: float = 60, **more: object) -> tuple[Job, Claim]:
    """A job whose curate step runs."""
    job = await submitted(sessions, name, **more)
    await make_steps(sessions, job, "curate", 1)
    await unblock(sessions)
    (doorbell,) = await dispatch(sessions, job)
    taken = await claim(sessions, doorbell, lease=lease)
    assert taken is not None
    return job, taken


async def commit(
    sessions: Sessions,
    taken: Claim,
    ledger: Ledger | None = None,
    artifacts: Sequence[NewArtifact] = (),
    model: ModelRegistration | None = None,
) -> bool:
    async with sessions() as session, session.begin():
        return await StepRepository(session).commit(taken, ledger or Ledger(), artifacts, model=model)
