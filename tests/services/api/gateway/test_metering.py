"""What keys took is written whole, once, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.api.gateway.metering import Meter, seconds_to_tomorrow, today
from shared.domain.identifiers import new_id
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.key_usage import KeyDay, KeyUsageRepository, UsageAdded

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(postgres_url)
    yield session_factory(engine)
    await engine.dispose()


async def written(sessions: Sessions, key: str) -> int:
    async with sessions() as session:
        return (await KeyUsageRepository(session).tokens_of_day(today(), [key]))[key]


async def test_two_processes_add_up(sessions: Sessions) -> None:
    key = new_id("key")
    meters = [Meter(sessions), Meter(sessions)]
    for meter in meters:
        for _ in range(3):
            meter.add(key, "default", prompt_tokens=10, completion_tokens=1)
        await meter.flush()
        await meter.flush()
    assert await written(sessions, key) == 66


async def test_what_is_not_written_yet_counts_once(sessions: Sessions) -> None:
    key, meter = new_id("key"), Meter(sessions)
    meter.add(key, "default", prompt_tokens=5, completion_tokens=5)
    assert await meter.tokens_today(key) == 10
    await meter.flush()
    assert await meter.tokens_today(key) == 10
    meter.add(key, "default", prompt_tokens=1, completion_tokens=0)
    assert await meter.tokens_today(key) == 11


async def test_a_flush_tells_what_other_processes_added(sessions: Sessions) -> None:
    key, meter, other = new_id("key"), Meter(sessions), Meter(sessions)
    assert await meter.tokens_today(key) == 0
    other.add(key, "default", prompt_tokens=100, completion_tokens=0)
    await other.flush()
    await meter.flush()
    assert await meter.tokens_today(key) == 100


async def test_a_database_that_fails_loses_nothing(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    key, meter = new_id("key"), Meter(sessions)

    async def fail(self: KeyUsageRepository, added: object) -> dict[KeyDay, int]:
        raise OperationalError("INSERT", {}, Exception("the server is gone"))

    meter.add(key, "default", prompt_tokens=5, completion_tokens=0)
    with monkeypatch.context() as patched:
        patched.setattr(KeyUsageRepository, "add", fail)
        await meter.flush()
        meter.add(key, "default", prompt_tokens=7, completion_tokens=0)
        await meter.flush()
        assert meter.unwritten()[KeyDay(key, today())] == UsageAdded("default", 2, 12, 0)
    await meter.flush()
    assert await written(sessions, key) == 12


async def test_closing_writes_the_rest(sessions: Sessions) -> None:
    key, meter = new_id("key"), Meter(sessions)
    meter.start()
    meter.add(key, "default", prompt_tokens=5, completion_tokens=0)
    await meter.close()
    assert await written(sessions, key) == 5


async def test_many_keys_at_once_from_two_processes_do_not_lock_each_other_out(sessions: Sessions) -> None:
    names = [new_id("key") for _ in range(1_500)]
    meters = [Meter(sessions), Meter(sessions)]
    for meter, order in zip(meters, (names, names[::-1]), strict=True):
        for key in order:
            meter.add(key, "default", prompt_tokens=1, completion_tokens=1)
    await asyncio.gather(*(meter.flush() for meter in meters))
    async with sessions() as session:
        found = await KeyUsageRepository(session).tokens_of_day(today(), names)
    assert set(found.values()) == {4}


def test_the_day_ends_within_a_day() -> None:
    assert 0 < seconds_to_tomorrow() <= 86_400
