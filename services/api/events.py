"""Job events as server-sent events: one LISTEN connection per process feeds every stream.

The notification only says that a job has something new; what is sent is read from the `event` table by sequence number.
So a lost notification or a lost connection delays an event and never loses one, and a client that comes back with
Last-Event-ID (HTML Living Standard, section 9.2) goes on exactly where it stopped.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import orjson
import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sse_starlette import ServerSentEvent

from shared.domain.states import JOB_END_STATES, JobState
from shared.metadata.engine import EVENTS_CHANNEL, connect, hear
from shared.metadata.repositories.events import EventRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Event

log = structlog.get_logger(__name__)

PAGE = 500
POLL_SECONDS = 10.0
"""A stream looks again after so long without a notification."""

RECONNECT_SECONDS = 1.0


class EventHub:
    """Wakes streams by job. `start` before use, `close` ends all streams."""

    def __init__(self, database_url: str, patience: float) -> None:
        self._database_url = database_url
        self._patience = patience
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self.closed = False

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen(), name="event-listener")

    async def close(self) -> None:
        self.closed = True
        self._wake_all()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @contextmanager
    def subscription(self, job_id: str) -> Iterator[asyncio.Event]:
        """An asyncio.Event that is set whenever the job may have a new event."""
        bell = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._waiting[job_id]
            bells.discard(bell)
            if not bells:
                del self._waiting[job_id]

    async def _listen(self) -> None:
        while True:
            try:
                connection = await connect(self._database_url, "multifacet-api-events", self._patience)
                async with connection:
                    await connection.execute(f"LISTEN {EVENTS_CHANNEL}")
                    self._wake_all()  # what was said while nobody listened
                    while True:
                        for notification in await hear(connection, self._patience):
                            job_id = notification.payload.partition(":")[0]
                            for bell in self._waiting.get(job_id, ()):
                                bell.set()
            except (psycopg.Error, OSError) as error:
                log.warning("event_listener_lost", error=type(error).__name__, again_in_seconds=RECONNECT_SECONDS)
            await asyncio.sleep(RECONNECT_SECONDS)

    def _wake_all(self) -> None:
        for bells in self._waiting.values():
            for bell in bells:
                bell.set()


def event_record(event: Event) -> dict[str, Any]:
    """An event as clients see it."""
    return {
        "sequence": event.sequence,
        "type": event.type,
        "created_at": None if event.created_at is None else event.created_at.isoformat(),
        "data": event.data,
    }


async def read_events(
    sessions: async_sessionmaker[AsyncSession], project_id: str, job_id: str, after: int, limit: int = PAGE
) -> tuple[list[Event], JobState]:
    """Events after a sequence number, and the job's state *before* they were read.

    A state is written together with its event, so when the state is an end state and fewer than `limit` events came back,
    nothing is left to say. Raises JobNotFound.
    """
    async with sessions() as session, session.begin():
        job = await JobRepository(session).require(project_id, job_id)
        events = await EventRepository(session).since(job_id, after, limit)
    return events, JobState(job.state)


async def stream_events(
    hub: EventHub,
    sessions: async_sessionmaker[AsyncSession],
    project_id: str,
    job_id: str,
    after: int,
    stop: anyio.Event,
) -> AsyncIterator[ServerSentEvent]:
    """The job's events after a sequence number, until it has ended; the last message is then of type `end`.

    `end` carries no id: a client that reconnects after it is answered 204 and stops. `stop` ends the stream between two
    messages when the server shuts down: the client reconnects and goes on.
    """
    with hub.subscription(job_id) as bell:
        while not (hub.closed or stop.is_set()):
            bell.clear()
            events, state = await read_events(sessions, project_id, job_id, after)
            for event in events:
                after = event.sequence
                data = orjson.dumps(event_record(event)).decode()
                yield ServerSentEvent(data, id=str(event.sequence), event=event.type, sep="\n")
            if len(events) == PAGE:
                continue
            if state in JOB_END_STATES:
                yield ServerSentEvent(orjson.dumps({"state": state.value}).decode(), event="end", sep="\n")
                return
            await _first_of(bell, stop)


async def _first_of(bell: asyncio.Event, stop: anyio.Event) -> None:
    waits = [asyncio.ensure_future(bell.wait()), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waits, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
