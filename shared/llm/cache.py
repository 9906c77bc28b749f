"""Answers that were paid for, kept in Postgres: read in batches, written by COPY within 100 ms of their arrival."""

import asyncio
import time
import zlib
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from shared.llm.database import DurableConnection
from shared.metadata.patience import PATIENCE_SECONDS

_log = structlog.get_logger(__name__)

LOOKUP_SECONDS = 0.002
"""Look-ups of so long are answered by one SELECT."""
LONGEST_LOOKUP_SECONDS = 0.02
"""The same, at most, while calls queue for the provider anyway: fewer, larger SELECTs cost nothing then."""
LARGEST_LOOKUP = 512
FLUSH_SECONDS = 0.05
"""An answer waits so long for others to share its COPY and commit."""
MAXIMUM_UNFLUSHED = 256
"""Answers not yet durable above which no new call starts."""
_PURGE_SECONDS = 3600.0
"""Removing millions of answers takes its time."""
_COMPRESS_FROM = 2048
_ZLIB_FIRST_BYTE = 0x78

_COLUMNS = "key, project_id, provider, model, body"
_COPY = f"COPY cached_completion ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_STAGING = (
    "CREATE TEMP TABLE IF NOT EXISTS new_completion ON COMMIT DELETE ROWS AS "
    f"SELECT {_COLUMNS} FROM cached_completion WITH NO DATA"
)
_COPY_STAGING = f"COPY new_completion ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_MERGE = (
    f"INSERT INTO cached_completion ({_COLUMNS}) SELECT {_COLUMNS} FROM new_completion "
    "ON CONFLICT (key) DO UPDATE SET body = excluded.body, created_at = now() "
    "WHERE cached_completion.created_at < now() - make_interval(secs => %s)"
)
_SELECT = (
    "SELECT key, body FROM cached_completion WHERE key = ANY(%b) AND created_at >= now() - make_interval(secs => %b)"
)

_Row = tuple[bytes, str, str, str, bytes]


def pack(answer: bytes) -> bytes:
    """The stored form of a raw answer: zlib where that pays."""
    if len(answer) < _COMPRESS_FROM:
        return answer
    packed = zlib.compress(answer, 1)
    return packed if len(packed) < len(answer) else answer


def unpack(stored: bytes) -> bytes:
    """The raw answer. JSON never starts with zlib's first byte."""
    return zlib.decompress(stored) if stored[:1] == bytes((_ZLIB_FIRST_BYTE,)) else stored


class CompletionCache:
    """The cache of one worker process. Start it on the loop that uses it.

    A database outage holds look-ups (and with them new calls) back and keeps unflushed answers in memory.
    """

    def __init__(self, database_url: str, ttl_seconds: float, patience: float = PATIENCE_SECONDS) -> None:
        self._ttl_seconds = ttl_seconds
        self._reader = DurableConnection(database_url, "cache-read", patience)
        self._writer = DurableConnection(database_url, "cache-write", patience)
        self._wanted: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._unflushed: dict[bytes, _Row] = {}
        self._first_unflushed_at = 0.0
        self._lookup_due = asyncio.Event()
        self._lookup_timer: asyncio.TimerHandle | None = None
        self._flush_due = asyncio.Event()
        self._flush_now = asyncio.Event()
        self._flushed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._fault: Exception | None = None

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._guard(self._read_loop())),
            asyncio.create_task(self._guard(self._write_loop())),
        ]

    async def close(self, timeout_seconds: float = 10.0) -> None:
        """Flush, then stop. Answers that a database outage still holds back after the timeout are counted in the log."""
        try:
            await asyncio.wait_for(self.flush(), timeout_seconds)
        except (TimeoutError, RuntimeError):
            _log.error("answers_not_stored", answers=len(self._unflushed))
        if self._lookup_timer is not None:
            self._lookup_timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._reader.close()
        await self._writer.close()

    @property
    def unflushed(self) -> int:
        """Answers that a crash of this process would lose."""
        return len(self._unflushed)

    async def get(self, key: bytes, patience: float = 0.0) -> bytes | None:
        """The raw answer stored under `key`, None when there is none or it has expired. The look-up may wait `patience`
        seconds for others to share its SELECT."""
        self._raise_fault()
        row = self._unflushed.get(key)
        if row is not None:
            return unpack(row[4])
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = asyncio.get_running_loop().create_future()
            self._schedule_lookup(min(LONGEST_LOOKUP_SECONDS, max(LOOKUP_SECONDS, patience)))
        stored = await asyncio.shield(wanted)
        return None if stored is None else unpack(stored)

    def put(self, key: bytes, project_id: str, provider: str, model: str, answer: bytes) -> None:
        """Keep an answer; it is durable within 100 ms while the database answers."""
        if not self._unflushed:
            self._first_unflushed_at = time.monotonic()
        self._unflushed[key] = (key, project_id, provider, model, pack(answer))
        self._flush_due.set()

    async def room(self) -> None:
        """Return at once, or wait while too many answers are not durable."""
        if len(self._unflushed) > MAXIMUM_UNFLUSHED:
            async with self._flushed:
                await self._flushed.wait_for(
                    lambda: len(self._unflushed) <= MAXIMUM_UNFLUSHED or self._fault is not None
                )
            self._raise_fault()

    async def flush(self) -> None:
        """Return when everything that was put before is durable."""
        waiting = dict(self._unflushed)
        if not waiting:
            return
        self._flush_now.set()
        async with self._flushed:
            await self._flushed.wait_for(
                lambda: (
                    self._fault is not None or not any(self._unflushed.get(key) is row for key, row in waiting.items())
                )
            )
        self._raise_fault()

    async def _guard(self, loop: Coroutine[Any, Any, None]) -> None:
        """Hand a fault that no reconnecting cures (a missing table, a wrong password) to everybody who waits."""
        try:
            await loop
        except Exception as error:  # noqa: BLE001  it is raised again by everything that uses the cache
            _log.error("answer_cache_failed", error=f"{type(error).__name__}: {error}"[:300])
            self._fault = error
            for wanted in self._wanted.values():
                if not wanted.done():
                    wanted.set_exception(error)
            self._wanted.clear()
            async with self._flushed:
                self._flushed.notify_all()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise RuntimeError("the store of LLM answers failed, no call can be made safely") from self._fault

    def _schedule_lookup(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._lookup_timer is not None:
            if self._lookup_timer.when() <= loop.time() + seconds:
                return
            self._lookup_timer.cancel()
        self._lookup_timer = loop.call_later(seconds, self._start_lookup)

    def _start_lookup(self) -> None:
        self._lookup_timer = None
        self._lookup_due.set()

    async def _read_loop(self) -> None:
        while True:
            await self._lookup_due.wait()
            self._lookup_due.clear()
            keys = list(self._wanted)[:LARGEST_LOOKUP]
            found = await self._reader.run(lambda connection, keys=keys: self._select(connection, keys))  # type: ignore[misc]
            for key in keys:
                wanted = self._wanted.pop(key)
                if not wanted.done():
                    wanted.set_result(found.get(key))
            if self._wanted and self._lookup_timer is None:
                self._lookup_due.set()

    async def _select(self, connection: psycopg.AsyncConnection[Any], keys: list[bytes]) -> dict[bytes, bytes]:
        cursor = connection.cursor(binary=True)
        await cursor.execute(_SELECT, (keys, self._ttl_seconds))
        return {bytes(key): bytes(body) for key, body in await cursor.fetchall()}

    async def _write_loop(self) -> None:
        while True:
            await self._flush_due.wait()
            pause = self._first_unflushed_at + FLUSH_SECONDS - time.monotonic()
            if pause > 0 and not self._flush_now.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._flush_now.wait(), pause)
            self._flush_now.clear()
            rows = list(self._unflushed.values())
            started = time.monotonic()
            await self._writer.run(lambda connection, rows=rows: self._write(connection, rows))  # type: ignore[misc]
            for row in rows:
                if self._unflushed.get(row[0]) is row:
                    del self._unflushed[row[0]]
            self._first_unflushed_at = started
            if not self._unflushed:
                self._flush_due.clear()
            async with self._flushed:
                self._flushed.notify_all()

    async def _write(self, connection: psycopg.AsyncConnection[Any], rows: list[_Row]) -> None:
        try:
            await self._copy(connection, _COPY, rows)
        except psycopg.errors.UniqueViolation:
            # Another worker stored one of these answers first, or an expired one is still there.
            async with connection.transaction():
                await connection.execute(_STAGING)
                await self._copy(connection, _COPY_STAGING, rows)
                await connection.execute(_MERGE, (self._ttl_seconds,))

    @staticmethod
    async def _copy(connection: psycopg.AsyncConnection[Any], statement: str, rows: list[_Row]) -> None:
        async with connection.cursor().copy(statement.encode()) as copy:
            copy.set_types(("bytea", "text", "text", "text", "bytea"))
            for row in rows:
                await copy.write_row(row)


async def purge_expired(database_url: str, ttl_seconds: float) -> int:
    """Remove answers older than `ttl_seconds`; returns how many."""
    return await _delete(
        database_url, "DELETE FROM cached_completion WHERE created_at < now() - make_interval(secs => %s)", ttl_seconds
    )


async def purge_project(database_url: str, project_id: str) -> int:
    """Remove all answers of a project; returns how many. Its next calls are paid again."""
    return await _delete(database_url, "DELETE FROM cached_completion WHERE project_id = %s", project_id)


async def _delete(database_url: str, statement: str, parameter: object) -> int:
    connection = DurableConnection(database_url, "cache-purge", _PURGE_SECONDS)

    async def work(opened: psycopg.AsyncConnection[Any]) -> int:
        return (await opened.execute(statement.encode(), (parameter,))).rowcount

    try:
        return await connection.run(work)
    finally:
        await connection.close()
