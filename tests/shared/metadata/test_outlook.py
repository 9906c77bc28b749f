"""The controller's first look says what there is to do, and nothing where there is nothing."""

import msgspec
import sqlalchemy as sa

from shared.domain.ledger import Ledger
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.outlook import Outlook, OutlookRepository
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.steps import StepRepository
from shared.queue.retry_policy import AttemptEnd, EndKind
from tests.support.control_plane import PROJECT
from tests.support.scheduling import Sessions, claim, commit, dispatch, make_steps, submitted, unblock


async def seen(sessions: Sessions) -> set[str]:
    """What the look says there is."""
    async with sessions() as session:
        outlook = await OutlookRepository(session).look()
    assert isinstance(outlook, Outlook)
    return {name for name, there in msgspec.structs.asdict(outlook).items() if there}


async def test_each_look_names_what_a_job_needs_next(sessions: Sessions) -> None:
    assert await seen(sessions) == set()
    job = await submitted(sessions)
    assert await seen(sessions) == {"active_jobs", "unpartitioned_stages"}

    for stage in ("curate", "assemble", "augment", "compose", "respond", "report"):
        await make_steps(sessions, job, stage, 1)
    await unblock(sessions)
    assert await seen(sessions) == {"active_jobs"}
    (doorbell,) = await dispatch(sessions, job)
    assert await seen(sessions) == {"active_jobs", "doorbells"}
    taken = await claim(sessions, doorbell)
    assert taken is not None
    async with sessions() as session, session.begin():
        await SchedulingRepository(session).doorbells(10)  # an answered one is removed
    assert await seen(sessions) == {"active_jobs", "running_attempts"}
    assert await commit(sessions, taken)
    assert await seen(sessions) == {"active_jobs", "complete_stages"}

    async with sessions() as session, session.begin():
        scheduling = SchedulingRepository(session)
        (complete,) = await scheduling.open_stages(complete=True)
        assert await scheduling.finish_stage(complete, Ledger(), "key")
    await unblock(sessions)
    (doorbell,) = await dispatch(sessions, job)
    failing = await claim(sessions, doorbell)
    assert failing is not None
    async with sessions() as session, session.begin():
        await StepRepository(session).end(
            failing.attempt_id, AttemptEnd(EndKind.REFUSED, "refused", "it cannot be done"), backoff_seconds=1
        )
        await SchedulingRepository(session).doorbells(10)
    assert await seen(sessions) == {"active_jobs", "failed_steps"}

    async with sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    assert await seen(sessions) == {"stopped_jobs"}
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE job SET settled_at = now() WHERE id = :id"), {"id": job.id})
    assert await seen(sessions) == set()


async def test_deployments_and_leased_gpus_are_seen(sessions: Sessions) -> None:
    before = await seen(sessions)
    async with sessions() as session, session.begin():
        await session.execute(sa.text("INSERT INTO project (id) VALUES ('p') ON CONFLICT DO NOTHING"))
        await session.execute(
            sa.text(
                "INSERT INTO deployment (id, project_id, name, state, detail, wanted_revision) "
                "VALUES ('d', 'p', 'name', 'waiting', '', 1)"
            )
        )
        await session.execute(sa.text("INSERT INTO gpu_slot (host, device, holder) VALUES ('h', 0, 'attempt:1')"))
    assert await seen(sessions) - before == {"deployments", "gpu_leases"}


async def test_row_stages_are_seen_once_the_stage_that_their_rows_come_from_has_succeeded(sessions: Sessions) -> None:
    job = await submitted(sessions)
    for stage in ("curate", "assemble", "report"):
        await make_steps(sessions, job, stage, 1)
    assert "unpartitioned_stages" not in await seen(sessions)
    async with sessions() as session, session.begin():
        assert await SchedulingRepository(session).unpartitioned_stages() == []
        await session.execute(sa.text("UPDATE stage SET state = 'succeeded' WHERE name = 'curate'"))
    assert "unpartitioned_stages" in await seen(sessions)
    async with sessions() as session:
        found = await SchedulingRepository(session).unpartitioned_stages()
    assert [stage.name for stage in found] == ["augment", "compose", "respond"]
