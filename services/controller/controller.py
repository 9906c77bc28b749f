"""Leadership and the tick: one controller leads by an advisory lock and runs every duty once a tick or when woken.

Each duty is safe to repeat and guarded by compare-and-sets, so a second leader (one that has not noticed yet that its
connection is gone) does no harm. The database takes the lock from a leader that says nothing for a lease.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.controller import (
    deployments,
    dispatch,
    garbage,
    leases,
    manifests,
    partition,
    publish,
    roll_up,
    settle,
)
from services.controller.duties import Duties, Duty
from services.controller.state import ControllerState
from shared.artifacts import open_store
from shared.metadata.engine import LEADER_LOCK, WAKE_CHANNEL, connect, create_engine, session_factory
from shared.metadata.repositories.outlook import Outlook, OutlookRepository
from shared.queue.doorbell import DoorbellPublisher
from shared.settings import Settings
from shared.telemetry import heartbeat
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)

_SHORTEST_PAUSE_SECONDS = 0.02
"""Between two rounds, so that a burst of wake-ups becomes one."""

_QUIET_TICKS = 5
"""A tick is so much longer while there is nothing to do at all: a wake-up ends it."""

_RETRY_SECONDS = 1.0

_SHORTEST_SILENCE_SECONDS = 5.0
"""A leader that is only busy must not lose the lock."""

Worthwhile = Callable[[Outlook], bool]
"""Whether a duty can have anything to do. A duty that another one of the same round makes work for must look for itself."""

DUTIES: tuple[tuple[Duty, Worthwhile], ...] = (
    (roll_up.fail_jobs, lambda seen: seen.failed_steps),
    (roll_up.roll_up, lambda seen: seen.active_jobs or seen.stopped_jobs),
    (manifests.finish_stages, lambda seen: seen.complete_stages),
    (partition.partition, lambda seen: seen.unpartitioned_stages),
    (partition.unblock, lambda seen: seen.complete_stages or seen.unpartitioned_stages),
    (settle.finish_jobs, lambda seen: seen.complete_stages),
    (settle.settle_stopped, lambda seen: seen.stopped_jobs or seen.failed_steps),
    (deployments.stop_of_ended_jobs, lambda seen: seen.deployments),
    (deployments.place_waiting, lambda seen: seen.deployments),
    (dispatch.dispatch, lambda seen: seen.active_jobs),
    (publish.publish_outbox, lambda seen: seen.active_jobs or seen.doorbells),
)
"""Every round, in this order: a finished step's followers are rung for in the same round."""

TICK_DUTIES: tuple[tuple[Duty, Worthwhile], ...] = (
    (leases.expire_leases, lambda seen: seen.running_attempts),
    (settle.enforce_deadlines, lambda seen: seen.active_jobs),
    (partition.unblock, lambda seen: seen.active_jobs),
    (settle.finish_jobs, lambda seen: seen.active_jobs),
    (deployments.notice_lost, lambda seen: seen.deployments),
    (deployments.expire_gpus, lambda seen: seen.gpu_leases),
    (garbage.collect, lambda _: True),
)
"""At most once a tick: what time brings about, and a second look for what a round could have missed."""


_NOTHING = Outlook(**dict.fromkeys(Outlook.__struct_fields__, False))


class Controller:
    """One controller process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._tick_at = 0.0
        self._quiet = False
        self._silence_seconds = max(
            _SHORTEST_SILENCE_SECONDS, settings.lease_seconds, 5 * settings.controller_tick_seconds
        )
        self._duties = Duties()

    def stop(self) -> None:
        """Leave after the round under way."""
        self._stopping.set()

    async def run(self) -> None:
        """Wait for the leadership, lead, and start over when the database goes away, until `stop`."""
        while not self._stopping.is_set():
            try:
                patience = self._settings.database_patience_seconds
                async with await connect(self._settings.database_url, "multifacet-controller", patience) as connection:
                    await self._lead(connection)
            except (psycopg.Error, OSError) as error:
                _log.warning("leadership_lost", error=error_place(error))
            await self._pause(_RETRY_SECONDS)

    async def _lead(self, connection: psycopg.AsyncConnection) -> None:
        """Hold the lock on `connection` and work while it lives; the same connection hears the wake-ups."""
        while not await self._take_lock(connection):
            heartbeat.beat(self._settings.health_file)  # who waits to lead is well too
            await self._pause(self._settings.controller_tick_seconds)
            if self._stopping.is_set():
                return
        _log.info("controller_leads")
        # A leader that is frozen keeps its connection, and with it the lock, for as long as its machine answers for it.
        silence = f"{self._silence_seconds * 1000:.0f}ms"
        await connection.execute("SELECT set_config('idle_session_timeout', %s, false)", (silence,))
        await connection.execute(f"LISTEN {WAKE_CHANNEL}")
        engine: AsyncEngine = create_engine(
            self._settings.database_url,
            application_name="multifacet-controller",
            patience=self._settings.database_patience_seconds,
        )
        publisher = DoorbellPublisher(self._settings.redis_url)
        state = ControllerState(self._settings, session_factory(engine), open_store(self._settings), publisher)
        try:
            while not self._stopping.is_set():
                await self._round(state)
                await self._wait(connection)
                heartbeat.beat(self._settings.health_file)  # here the database has just answered
        finally:
            await self._duties.close()
            await state.close()
            await asyncio.to_thread(publisher.close)
            await engine.dispose()

    @staticmethod
    async def _take_lock(connection: psycopg.AsyncConnection) -> bool:
        answer = await connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))
        row = await answer.fetchone()
        return bool(row and row[0])

    async def _round(self, state: ControllerState) -> None:
        duties = list(DUTIES)
        if time.monotonic() - self._tick_at >= self._settings.controller_tick_seconds:
            self._tick_at = time.monotonic()
            duties = [*TICK_DUTIES, *duties]
        try:
            async with state.sessions() as session:
                seen = await OutlookRepository(session).look()
        except Exception as error:  # noqa: BLE001  the next round looks again
            _log.error("look_failed", error=error_place(error))
            self._quiet = False
            return
        self._quiet = seen == _NOTHING
        for duty, worthwhile in duties:
            if not worthwhile(seen):
                continue
            await self._duties.run(duty, state)

    async def _wait(self, connection: psycopg.AsyncConnection) -> None:
        """Until a wake-up or the next tick; a dead connection raises psycopg.OperationalError: the lock is gone with it."""
        await self._pause(_SHORTEST_PAUSE_SECONDS)
        tick = self._settings.controller_tick_seconds
        if self._quiet:
            tick = max(tick, min(_QUIET_TICKS * tick, self._silence_seconds / 2))
        left = self._tick_at + tick - time.monotonic()
        stopped = asyncio.create_task(self._stopping.wait())
        heard = asyncio.create_task(_hear(connection, max(0.0, left)))
        try:
            await asyncio.wait({stopped, heard}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not heard.done():
                heard.cancel()
        with suppress(asyncio.CancelledError):
            await heard

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


async def _hear(connection: psycopg.AsyncConnection, seconds: float) -> None:
    async for _ in connection.notifies(timeout=seconds, stop_after=1):
        pass
    await connection.execute("SELECT 1")
