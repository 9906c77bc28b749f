"""The view that autoscalers read: what waits, what runs and who could take it, by pool."""

import sqlalchemy as sa

from shared.domain.plan import SERVICES
from shared.metadata.repositories.workers import WorkerRepository
from tests.support.scheduling import Sessions, claim, dispatch, make_steps, submitted, unblock


async def demand(sessions: Sessions) -> dict[str, tuple[int, int, int]]:
    async with sessions() as session:
        rows = await session.execute(sa.text("SELECT pool, ready, running, slots FROM pool_demand"))
        return {row.pool: (row.ready, row.running, row.slots) for row in rows}


async def beat(sessions: Sessions, worker: str, roles: list[str], *, draining: bool = False, lease: float = 60) -> bool:
    async with sessions() as session, session.begin():
        return await WorkerRepository(session).beat(
            worker, host="h", process_id=1, roles=roles, slots=3, busy=0, draining=draining, lease_seconds=lease
        )


async def test_every_pool_is_there_and_steps_count_from_ready_to_running(sessions: Sessions) -> None:
    assert await demand(sessions) == dict.fromkeys(SERVICES, (0, 0, 0))
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    assert (await demand(sessions))["curation"] == (0, 0, 0), "a blocked step asks for nobody"
    await unblock(sessions)
    assert (await demand(sessions))["curation"] == (1, 0, 0)
    (doorbell,) = await dispatch(sessions, job)
    assert (await demand(sessions))["curation"] == (1, 0, 0)
    assert await claim(sessions, doorbell)
    assert (await demand(sessions))["curation"] == (0, 1, 0)


async def test_a_step_that_waits_for_a_time_asks_for_nobody(sessions: Sessions) -> None:
    job = await submitted(sessions)
    await make_steps(sessions, job, "curate", 1)
    await unblock(sessions)
    before = (await demand(sessions))["curation"][0]
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("UPDATE step SET not_before = now() + interval '1 minute' WHERE job_id = :id"), {"id": job.id}
        )
    assert (await demand(sessions))["curation"][0] == before - 1


async def test_slots_are_of_workers_that_live_and_take_steps(sessions: Sessions) -> None:
    await beat(sessions, "both", ["composition", "generation"])
    await beat(sessions, "leaving", ["composition"], draining=True)
    await beat(sessions, "silent", ["composition"], lease=5)
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE worker SET heartbeat_at = now() - interval '6 s' WHERE id = 'silent'"))
        await session.execute(sa.text("UPDATE worker SET heartbeat_at = now() - interval '6 s' WHERE id = 'both'"))
    found = await demand(sessions)
    assert (found["composition"][2], found["generation"][2]) == (3, 3)


async def test_a_worker_hears_that_it_shall_leave(sessions: Sessions) -> None:
    assert not await beat(sessions, "told", ["training"])
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE worker SET drain_requested = true WHERE id = 'told'"))
    assert await beat(sessions, "told", ["training"])
