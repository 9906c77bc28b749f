"""What keys take, added up in memory and written once a second; and the daily quotas that are counted by it.

A quota is exact up to the requests that are in flight and to what other api processes took within the last second or two.
A process that is killed loses what it had not written yet: at most the last second.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.metadata.repositories.key_usage import KeyDay, KeyUsageRepository, UsageAdded

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0
_FRESH_SECONDS = 2.5
"""What the database said of a quota this long ago is asked for anew: the loop below did not, or could not."""
_WATCHED_SECONDS = 30.0
"""A quota nobody asked about for so long is forgotten."""


class _Counted(msgspec.Struct):
    """Tokens of a key's day in the database."""

    tokens: int
    read_at: float
    asked_at: float


class Meter:
    """Counts requests and tokens; `start` before use, `close` writes the rest."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._pending: dict[KeyDay, UsageAdded] = {}
        self._writing: dict[KeyDay, UsageAdded] = {}
        self._counted: dict[KeyDay, _Counted] = {}
        # Reading a total while it is being written would miss it or count it twice.
        self._lock = asyncio.Lock()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_again_and_again(), name="key-usage")

    async def close(self) -> None:
        # Not cancelled: a batch that is being written would be lost, or written twice.
        self._closing.set()
        if self._task is not None:
            await self._task
        await self.flush()

    def add(self, key_id: str, project_id: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Count one request."""
        at = KeyDay(key_id, today())
        before = self._pending.get(at)
        self._pending[at] = UsageAdded(
            project_id,
            1 + (before.requests if before else 0),
            prompt_tokens + (before.prompt_tokens if before else 0),
            completion_tokens + (before.completion_tokens if before else 0),
        )

    async def tokens_today(self, key_id: str) -> int:
        """Tokens that the key took this UTC day, those not written yet included. Reads the database only for a key of which
        nothing is known."""
        at = KeyDay(key_id, today())
        now = time.monotonic()
        counted = self._counted.get(at)
        if counted is None or now - counted.read_at > _FRESH_SECONDS:
            async with self._lock:
                counted = self._counted.get(at)
                if counted is None or now - counted.read_at > _FRESH_SECONDS:
                    async with self._sessions() as session:
                        found = await KeyUsageRepository(session).tokens_of_day(at.day, [key_id])
                    counted = self._counted[at] = _Counted(found[key_id], time.monotonic(), now)
        counted.asked_at = now
        unwritten = (batch[at].tokens for batch in (self._pending, self._writing) if at in batch)
        return counted.tokens + sum(unwritten)

    def unwritten(self) -> Mapping[KeyDay, UsageAdded]:
        """What was counted since the last flush."""
        return dict(self._pending)

    async def flush(self) -> None:
        """Write what was counted, and read the quotas in use anew. What cannot be written is kept for the next time."""
        async with self._lock:
            self._forget_idle()
            if not self._pending and not self._counted:
                return
            self._writing, self._pending = self._pending, {}
            try:
                await self._write()
            except (SQLAlchemyError, OSError) as error:
                log.warning("key_usage_not_written", error=type(error).__name__, keys=len(self._writing))
                for at, usage in self._writing.items():
                    self._pending[at] = _sum(usage, self._pending.get(at))
            finally:
                self._writing = {}

    async def _flush_again_and_again(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_SECONDS)
            await self.flush()

    async def _write(self) -> None:
        read_at = time.monotonic()
        day = today()
        async with self._sessions() as session, session.begin():
            repository = KeyUsageRepository(session)
            totals = await repository.add(self._writing)
            others = [at.key_id for at in self._counted if at not in totals and at.day == day]
            if others:
                found = await repository.tokens_of_day(day, others)
                totals.update({KeyDay(key_id, day): tokens for key_id, tokens in found.items()})
        # No other task runs between these and the end of the batch in `flush`: nothing is counted twice.
        for at, counted in self._counted.items():
            if at in totals:
                counted.tokens, counted.read_at = totals[at], read_at

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - _WATCHED_SECONDS
        self._counted = {at: counted for at, counted in self._counted.items() if counted.asked_at > oldest}


def today() -> date:
    """The UTC day."""
    return datetime.now(UTC).date()


def seconds_to_tomorrow() -> float:
    """Seconds until the next UTC day begins."""
    now = datetime.now(UTC)
    tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return (tomorrow - now).total_seconds()


def _sum(usage: UsageAdded, more: UsageAdded | None) -> UsageAdded:
    if more is None:
        return usage
    return UsageAdded(
        usage.project_id,
        usage.requests + more.requests,
        usage.prompt_tokens + more.prompt_tokens,
        usage.completion_tokens + more.completion_tokens,
    )
