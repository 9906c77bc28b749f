"""Leases of GPUs on real PostgreSQL: never two holders of one device, all or none, and an end to every lease."""

import asyncio
import random
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.metadata.repositories.gpu_slots import GpuSlotRepository, GpusTaken
from shared.metadata.repositories.steps import StepRepository
from shared.queue.retry_policy import AttemptEnd, EndKind
from tests.support.scheduling import claimed

Sessions = async_sessionmaker[AsyncSession]


async def machine(sessions: Sessions, devices: int) -> str:
    host = f"host-{uuid4().hex[:8]}"
    async with sessions() as session, session.begin():
        await GpuSlotRepository(session).register(host, range(devices))
    return host


async def claim(
    sessions: Sessions, host: str, count: int, holder: str, *, lease: float = 60, among: range = range(8)
) -> tuple[int, ...] | None:
    async with sessions() as session, session.begin():
        return await GpuSlotRepository(session).claim(host, among, count, holder, lease)


async def release(sessions: Sessions, holder: str) -> None:
    async with sessions() as session, session.begin():
        await GpuSlotRepository(session).release(holder)


async def test_a_device_that_nobody_tells_of_any_more_is_forgotten_but_not_one_that_is_held(sessions: Sessions) -> None:
    gone, held, told = [await machine(sessions, 1) for _ in range(3)]
    await claim(sessions, held, 1, "server:a")
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("UPDATE gpu_slot SET seen_at = now() - interval '2 days' WHERE host = ANY(:hosts)"),
            {"hosts": [gone, held]},
        )
        assert await GpuSlotRepository(session).forget(86_400) == 1
        left = await session.execute(
            sa.text("SELECT host FROM gpu_slot WHERE host = ANY(:hosts)"), {"hosts": [gone, held, told]}
        )
        assert set(left.scalars()) == {held, told}


async def test_many_at_once_never_get_one_device_twice_and_all_get_their_turn(sessions: Sessions) -> None:
    host = await machine(sessions, 3)
    in_use: set[int] = set()
    turns = dict.fromkeys(range(12), 0)

    async def work(number: int) -> None:
        drawn = random.Random(number)
        while turns[number] < 4:
            count = drawn.choice((1, 1, 2, 3))
            devices = await claim(sessions, host, count, f"attempt:{host}-{number}")
            if devices is None:
                await asyncio.sleep(drawn.random() * 0.02)
                continue
            assert len(devices) == count
            assert not in_use & set(devices), "somebody else has one of these"
            in_use.update(devices)
            await asyncio.sleep(drawn.random() * 0.01)
            in_use.difference_update(devices)
            await release(sessions, f"attempt:{host}-{number}")
            turns[number] += 1

    async with asyncio.timeout(100):
        await asyncio.gather(*map(work, turns))
    assert set(turns.values()) == {4}


async def test_too_few_free_devices_lease_none_of_them(sessions: Sessions) -> None:
    host = await machine(sessions, 2)
    assert await claim(sessions, host, 1, "attempt:1") == (0,)
    assert await claim(sessions, host, 2, "server:a/0") is None
    assert await claim(sessions, host, 1, "attempt:2") == (1,), "the failed claim of two has left nothing behind"


async def test_devices_that_the_claimer_does_not_see_are_not_given_to_it(sessions: Sessions) -> None:
    host = await machine(sessions, 4)
    assert await claim(sessions, host, 1, "server:a/0", among=range(2, 4)) == (2,)
    assert await claim(sessions, host, 2, "server:b/0", among=range(2, 4)) is None


async def test_a_holder_that_asks_again_keeps_what_it_has(sessions: Sessions) -> None:
    host = await machine(sessions, 3)
    await claim(sessions, host, 1, "attempt:7")
    assert await claim(sessions, host, 1, "server:x/0") == (1,)
    assert await claim(sessions, host, 1, "server:x/0") == (1,)
    assert await claim(sessions, host, 1, "attempt:8") == (2,)


async def test_a_training_that_waits_is_called_when_gpus_are_given_back(sessions: Sessions) -> None:
    host = await machine(sessions, 1)
    await claim(sessions, host, 1, f"attempt:{host}-other")
    waits: dict[str, float] = {}
    for code in (GpusTaken.code, "deferred"):
        _, taken = await claimed(sessions)
        async with sessions() as session, session.begin():
            end = AttemptEnd(EndKind.DEFERRED, code, "not now", seconds=500)
            await StepRepository(session).end(taken.attempt_id, end, backoff_seconds=1)
        waits[code] = 0.0
        await release(sessions, f"attempt:{host}-nobody")
        query = sa.text("SELECT extract(epoch FROM not_before - now()) FROM step WHERE id = :id")
        async with sessions() as session:
            assert (await session.execute(query, {"id": taken.step_id})).scalar_one() > 400, "nothing was given back"
        await release(sessions, f"attempt:{host}-other")
        async with sessions() as session:
            waits[code] = float((await session.execute(query, {"id": taken.step_id})).scalar_one())
        await claim(sessions, host, 1, f"attempt:{host}-other")
    assert waits[GpusTaken.code] <= 0
    assert waits["deferred"] > 400, "what waits for something else goes on waiting"


async def test_a_lease_that_ran_out_is_free_and_cannot_be_prolonged(sessions: Sessions) -> None:
    host = await machine(sessions, 1)
    dead, heir = f"attempt:{host}-dead", f"attempt:{host}-heir"
    assert await claim(sessions, host, 1, dead, lease=0.05) == (0,)
    await asyncio.sleep(0.1)
    async with sessions() as session, session.begin():
        assert await GpuSlotRepository(session).renew([dead], 60) == {}
        assert await GpuSlotRepository(session).held_by(dead) == ()
    assert await claim(sessions, host, 1, heir) == (0,)
    async with sessions() as session, session.begin():
        assert await GpuSlotRepository(session).renew([heir, dead], 60) == {heir: 1}
        assert await GpuSlotRepository(session).held_by(heir) == (0,)


async def test_expired_leases_are_cleared_and_others_are_not(sessions: Sessions) -> None:
    host = await machine(sessions, 2)
    await claim(sessions, host, 1, f"attempt:{host}-gone", lease=0.05)
    await claim(sessions, host, 1, f"attempt:{host}-alive")
    await asyncio.sleep(0.1)
    async with sessions() as session, session.begin():
        assert await GpuSlotRepository(session).expire() >= 1
        assert await GpuSlotRepository(session).held_by(f"attempt:{host}-alive") == (1,)
    assert await claim(sessions, host, 1, f"attempt:{host}-next") == (0,)
