"""Sequences of events are gapless, unique and never missed by a reader, however many writers there are."""

import asyncio

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.metadata.engine import EVENTS_CHANNEL, connect, create_engine, session_factory
from shared.metadata.repositories.events import EventRepository
from tests.support.scheduling import submitted

Batches = list[list[tuple[int, bool]]]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6), min_size=2, max_size=6))
def test_concurrent_writers_leave_gapless_sequences_and_a_reader_misses_nothing(
    postgres_url: str, writers: Batches
) -> None:
    """Each writer appends batches of 1 to 3 events in transactions, some of which are rolled back."""

    async def scenario() -> None:
        engine = create_engine(postgres_url, pool_size=10)
        sessions = session_factory(engine)
        job = await submitted(sessions)
        done = asyncio.Event()
        seen: list[int] = []

        async def write(batches: list[tuple[int, bool]]) -> int:
            kept = 0
            for count, keep in batches:
                async with sessions() as session:
                    await EventRepository(session).append_many(job.id, [("note", {"n": n}) for n in range(count)])
                    await asyncio.sleep(0)
                    if keep:
                        await session.commit()
                        kept += count
                    else:
                        await session.rollback()
            return kept

        async def read() -> None:
            finished = False
            while not finished:
                finished = done.is_set()
                async with sessions() as session:
                    seen.extend(
                        e.sequence for e in await EventRepository(session).since(job.id, seen[-1] if seen else 0)
                    )

        reader = asyncio.create_task(read())
        kept = sum(await asyncio.gather(*map(write, writers)))
        done.set()
        await reader
        await engine.dispose()
        assert seen == list(range(1, kept + 2))  # the submission wrote the first

    asyncio.run(scenario())


async def test_events_come_in_the_given_order_with_their_data(sessions) -> None:  # type: ignore[no-untyped-def]
    job = await submitted(sessions)
    async with sessions() as session, session.begin():
        last = await EventRepository(session).append_many(job.id, [("note", {"n": 1}), ("job.cost", {"n": "two"})])
    async with sessions() as session:
        events = await EventRepository(session).since(job.id, last - 2)
    assert [(event.type, event.data) for event in events] == [("note", {"n": 1}), ("job.cost", {"n": "two"})]


async def test_listeners_hear_the_last_sequence(postgres_url: str, sessions) -> None:  # type: ignore[no-untyped-def]
    job = await submitted(sessions)
    async with await connect(postgres_url) as connection:
        await connection.execute(f"LISTEN {EVENTS_CHANNEL}")
        async with sessions() as session, session.begin():
            last = await EventRepository(session).append(job.id, "note", {})
        heard = [notification.payload async for notification in connection.notifies(timeout=10, stop_after=1)]
    assert heard == [f"{job.id}:{last}"]


async def test_an_unknown_job_and_an_empty_batch_are_refused(sessions) -> None:  # type: ignore[no-untyped-def]
    async with sessions() as session:
        with pytest.raises(LookupError, match="no job nowhere"):
            await EventRepository(session).append("nowhere", "note", {})
        with pytest.raises(ValueError, match="no event"):
            await EventRepository(session).append_many("nowhere", [])
        assert (await session.execute(sa.text("SELECT count(*) FROM event WHERE job_id = 'nowhere'"))).scalar() == 0
