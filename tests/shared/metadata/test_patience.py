"""Servers and clients that fall silent without a word: a frozen process is one, and its kernel still acknowledges."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from shared.llm.database import DurableConnection
from shared.metadata.engine import connect, connection_string, create_engine, hear, session_factory

PATIENCE = 0.5


@contextmanager
def frozen(process_id: int) -> Iterator[None]:
    """The server's process of one connection does nothing meanwhile."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


async def test_a_server_that_falls_silent_counts_as_lost_and_the_next_connection_works(postgres_url: str) -> None:
    engine = create_engine(postgres_url, patience=PATIENCE)
    sessions = session_factory(engine)
    async with sessions() as session:
        backend = (await session.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
        with frozen(backend), pytest.raises(sa.exc.OperationalError, match=r"did not answer within 0\.5 s"):
            await session.execute(sa.text("SELECT 1"))
    async with sessions() as session:
        assert (await session.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one() != backend
    await engine.dispose()


async def test_what_a_silent_client_has_locked_is_free_again(postgres_url: str) -> None:
    lock = "SELECT pg_advisory_xact_lock(4712)"
    engine = create_engine(postgres_url, patience=PATIENCE)
    async with session_factory(engine)() as silent:
        await silent.execute(sa.text(lock))
        with psycopg.connect(connection_string(postgres_url), autocommit=True) as other:
            other.execute("SET lock_timeout = '60s'")
            other.execute(lock)  # waits; the loop of the silent client stands still meanwhile
        with pytest.raises(sa.exc.DBAPIError):
            await silent.execute(sa.text("SELECT 1"))
        await silent.rollback()
    await engine.dispose()


async def test_who_only_listens_notices_that_the_server_is_gone(postgres_url: str) -> None:
    async with await connect(postgres_url, patience=PATIENCE) as listening, await connect(postgres_url) as other:
        await listening.execute("LISTEN news")
        assert await hear(listening, 0.01) == []
        await other.execute("SELECT pg_notify('news', 'first'), pg_notify('news', 'second')")
        heard = [notification.payload for _ in range(2) for notification in await hear(listening, 0.2)]
        assert heard == ["first", "second"]
        with frozen(listening.info.backend_pid), pytest.raises(psycopg.OperationalError, match="did not answer"):
            await hear(listening, 0.1)


async def test_work_on_a_durable_connection_runs_again_on_another_one(postgres_url: str) -> None:
    durable = DurableConnection(postgres_url, "test", PATIENCE)
    backends: list[int] = []

    async def work(connection: psycopg.AsyncConnection[Any]) -> int:
        backends.append(connection.info.backend_pid)
        if len(backends) == 2:
            os.kill(backends[0], signal.SIGSTOP)
        row = await (await connection.execute("SELECT 7")).fetchone()
        return int(row[0])

    assert await durable.run(work) == 7
    try:
        assert await durable.run(work) == 7
    finally:
        os.kill(backends[0], signal.SIGCONT)
    assert backends[0] == backends[1] != backends[2]
    await durable.close()
