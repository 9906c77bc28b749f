"""The loop: read the demand, look at the containers, start what is missing, write down what was done and why.

It only ever starts. Scale-in is the workers' own: who is idle for MULTIFACET_WORKER_IDLE_SECONDS, or was told to drain, finishes
its step and leaves with exit status 0, so no decision here can lose work.
"""

import asyncio
import time
from contextlib import suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.autoscaler.breaker import StartBreaker
from services.autoscaler.engine import DockerEngine, EngineUnreachable
from services.autoscaler.groups import Group, grouped
from shared.domain.errors import InputRefused
from shared.domain.pools import PoolDemand, desired_workers, within_free_gpus, without_free_slot
from shared.metadata.repositories.pools import GroupRow, PoolRepository
from shared.settings import Settings
from shared.telemetry import heartbeat
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)


_SAVE_SECONDS = 10.0
"""What has not changed is written again after so long, for people see when the autoscaler was last heard of."""

FULL_SECONDS = 30.0
"""Where steps wait for so long while no worker has room for one, another is started. More than a worker takes to start."""

_QUIET = 2
"""The pause between two looks is so many times longer while no step waits."""


class Autoscaler:
    """One autoscaler; a second one does no harm, because starting what runs is no error, and the demand is the same."""

    def __init__(self, settings: Settings, sessions: async_sessionmaker[AsyncSession], engine: DockerEngine) -> None:
        self._settings = settings
        self._sessions = sessions
        self._engine = engine
        self._breakers: dict[str, StartBreaker] = {}
        self._full_since: dict[str, float] = {}
        self._stopping = asyncio.Event()
        self._saved: tuple[list[GroupRow], float] | None = None
        self._quiet = False

    def stop(self) -> None:
        """Leave after the round under way."""
        self._stopping.set()

    async def run(self) -> None:
        """Rounds until `stop`; whatever is away is waited for."""
        while not self._stopping.is_set():
            try:
                await self.round()
                heartbeat.beat(self._settings.health_file)
            except (EngineUnreachable, InputRefused) as error:
                _log.warning("round_failed", reason=str(error))
            except (SQLAlchemyError, OSError) as error:
                _log.warning("round_failed", error=error_place(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.autoscaler_seconds * (_QUIET if self._quiet else 1)):
                    await self._stopping.wait()

    async def round(self) -> list[GroupRow]:
        """One look: start what is missing; returns what is written down. Raises EngineUnreachable, and InputRefused for a label
        that cannot be read."""
        groups = grouped(await self._engine.containers())
        async with self._sessions() as session:
            repository = PoolRepository(session)
            demand = await repository.demand()
            free = {host: await repository.free_gpus(host) for host in {g.gpu_host for g in groups} if host is not None}
        rows = [await self._scale(group, demand, free.get(group.gpu_host or "")) for group in groups]
        self._quiet = not any(pool.ready for pool in demand)
        now = time.monotonic()
        if self._saved is None or self._saved[0] != rows or now - self._saved[1] >= _SAVE_SECONDS:
            async with self._sessions() as session, session.begin():
                await PoolRepository(session).save_groups(rows)
            self._saved = rows, now
        return rows

    async def _scale(self, group: Group, demand: list[PoolDemand], free_gpus: int | None) -> GroupRow:
        now = time.monotonic()
        breaker = self._breakers.setdefault(group.name, StartBreaker())
        breaker.watch(group.containers, now)
        wanted = desired_workers(
            demand,
            group.roles,
            steps_per_worker=group.steps_per_worker,
            minimum=group.minimum,
            maximum=group.maximum,
        )
        wanted = self._relieved(group, demand, wanted, now)
        desired = within_free_gpus(wanted, group.running, free_gpus, gpus_per_worker=1)
        detail = "" if desired == wanted else f"no GPU of {group.gpu_host} is free for more"
        missing = desired - group.running
        started = 0
        if missing > 0 and not breaker.paused(now):
            for container in breaker.order(group.containers)[:missing]:
                started += await self._start(group, container.id, breaker, now)
                if breaker.paused(now):
                    break
        if breaker.paused(now):
            detail = (
                f"{breaker.failures} starts in a row failed; nothing is started for {breaker.paused_until - now:.0f} s: look at "
                "the containers' logs"
            )
        return GroupRow(
            name=group.name,
            roles=group.roles,
            minimum=group.minimum,
            maximum=group.maximum,
            desired=desired,
            running=group.running + started,
            failures=breaker.failures,
            paused_seconds=max(0.0, breaker.paused_until - now) if breaker.paused(now) else None,
            detail=detail,
        )

    def _relieved(self, group: Group, demand: list[PoolDemand], wanted: int, now: float) -> int:
        """One more than run where the steps that wait have had no slot for a while: they are few for their number to ask for a
        worker, and those that there are take none."""
        if wanted > group.running or not without_free_slot(demand, group.roles):
            self._full_since.pop(group.name, None)
            return wanted
        if now - self._full_since.setdefault(group.name, now) < FULL_SECONDS:
            return wanted
        self._full_since[group.name] = now
        return max(wanted, min(group.maximum, group.running + 1))

    async def _start(self, group: Group, container_id: str, breaker: StartBreaker, now: float) -> bool:
        try:
            await self._engine.start(container_id)
        except EngineUnreachable as error:
            _log.warning("start_failed", group=group.name, container=container_id[:12], reason=str(error))
            breaker.failed(container_id, now)
            return False
        _log.info("worker_started", group=group.name, container=container_id[:12])
        breaker.started(container_id, now)
        return True
