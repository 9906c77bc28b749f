"""The keeper: renews, hears of stops, and gives up what it cannot renew."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from shared.metadata.engine import WAKE_CHANNEL, connect
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.workers import WorkerRepository
from shared.queue.lease import LeaseKeeper
from shared.queue.retry_policy import EndKind
from shared.settings import Settings
from tests.support.control_plane import PROJECT
from tests.support.scheduling import Sessions, claimed


@pytest.fixture
async def keeper(postgres_url: str) -> AsyncIterator[LeaseKeeper]:
    keeper = LeaseKeeper(Settings(database_url=postgres_url, lease_seconds=2, worker_slots=3), "worker-1", ["curation"])
    await keeper.start()
    yield keeper
    await keeper.close()


async def test_leases_outlive_their_first_term_and_the_worker_is_known(keeper: LeaseKeeper, sessions: Sessions) -> None:
    _, taken = await claimed(sessions, lease=2)
    lease = keeper.add(taken)
    await asyncio.sleep(3)
    async with sessions() as session:
        alive = await session.execute(
            sa.text("SELECT state = 'running' AND lease_until > now() FROM attempt WHERE id = :id"),
            {"id": taken.attempt_id},
        )
        assert alive.scalar_one()
        (worker,) = [found for found in await WorkerRepository(session).live(60) if found.id == "worker-1"]
    assert (worker.roles, worker.slots) == (("curation",), 3)
    assert not lease.stop.is_set()


async def test_a_cancel_stops_the_lease_without_losing_it(keeper: LeaseKeeper, sessions: Sessions) -> None:
    job, taken = await claimed(sessions)
    lease = keeper.add(taken)
    async with sessions() as session, session.begin():
        await JobRepository(session).request_cancel(PROJECT, job.id)
    async with asyncio.timeout(20):
        await lease.stop.wait()
    assert lease.reason is EndKind.CANCELLED
    assert not lease.lost.is_set()


async def test_a_step_that_was_being_claimed_as_its_process_was_told_to_end_is_told_too(
    keeper: LeaseKeeper, sessions: Sessions
) -> None:
    _, early = await claimed(sessions)
    _, late = await claimed(sessions)
    before = keeper.add(early)
    keeper.preempt()
    after = keeper.add(late)
    for lease in (before, after):
        assert (lease.stop.is_set(), lease.lost.is_set(), lease.reason) == (True, False, EndKind.PREEMPTED)
    assert keeper.draining
    for lease in (before, after):
        keeper.remove(lease)


async def test_an_attempt_that_others_took_is_lost(keeper: LeaseKeeper, sessions: Sessions) -> None:
    _, taken = await claimed(sessions)
    async with sessions() as session, session.begin():
        await session.execute(sa.text("UPDATE attempt SET state = 'lost' WHERE id = :id"), {"id": taken.attempt_id})
    lease = keeper.add(taken)
    async with asyncio.timeout(20):
        await lease.lost.wait()
    assert lease.stop.is_set()


async def test_what_cannot_be_renewed_is_given_up_before_the_lease_ends(
    postgres_url: str, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, taken = await claimed(sessions)
    keeper = LeaseKeeper(Settings(database_url=postgres_url, lease_seconds=1), "worker-2", ["curation"])
    await keeper.start()

    async def unreachable() -> None:
        raise ConnectionError("the database is away")

    monkeypatch.setattr(keeper, "_renew", unreachable)
    lease = keeper.add(taken)
    async with asyncio.timeout(20):
        await lease.lost.wait()
    assert lease.reason is EndKind.LOST
    await keeper.close()
    async with sessions() as session:
        assert "worker-2" not in [worker.id for worker in await WorkerRepository(session).live(60)]


async def test_more_slots_are_told_at_once_and_wake_the_controller_while_fewer_wait_for_the_next_beat(
    keeper: LeaseKeeper, sessions: Sessions, postgres_url: str
) -> None:
    async def slots() -> int:
        async with sessions() as session:
            (worker,) = [found for found in await WorkerRepository(session).live(60) if found.id == "worker-1"]
        return worker.slots

    async with await connect(postgres_url) as listener:
        await listener.execute(f"LISTEN {WAKE_CHANNEL}")
        keeper.set_slots(7)
        async for heard in listener.notifies(timeout=10, stop_after=1):
            assert heard.channel == WAKE_CHANNEL
    assert await slots() == 7
    keeper.set_slots(2)
    async with asyncio.timeout(10):
        while await slots() != 2:
            await asyncio.sleep(0.05)
