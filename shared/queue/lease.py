"""Keeping leases: one heartbeat for all attempts of a process, on a connection of its own.

A lease is renewed only while its attempt runs and has not expired. Whoever cannot renew for `heartbeat_give_up_seconds` must
assume that another worker has taken the step: it stops and writes nothing.
"""

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.metadata.engine import STOP_CHANNEL, connect, create_engine, hear, session_factory
from shared.metadata.repositories.gpu_slots import GpuSlotRepository, attempt_holder
from shared.metadata.repositories.steps import Claim, StepRepository
from shared.metadata.repositories.workers import WorkerRepository
from shared.queue.retry_policy import EndKind
from shared.settings import Settings
from shared.telemetry import heartbeat

_log = structlog.get_logger(__name__)


class Lease:
    """A claimed step of this process. `stop` is set when it shall end early (`reason` says why), `lost` when it is no longer
    ours. `lost` implies `stop`."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.stop = asyncio.Event()
        self.lost = asyncio.Event()
        self.reason: EndKind | None = None
        self.renewed_at = time.monotonic()
        self.closing = False
        """True from when the attempt's end is being written: from then on the database alone decides, and an attempt that
        is no longer running says nothing about the lease."""
        self.holds_gpus = False
        """GPUs are leased for it, and renewed with it."""
        self.finished = False
        """True from when a whole step's work is done and only has to be stored: a worker that leaves waits for that."""

    def request_stop(self, reason: EndKind) -> None:
        """Ask the step to end: CANCELLED or PREEMPTED, the first one counts."""
        if self.reason is None:
            self.reason = reason
        self.stop.set()

    def lose(self) -> None:
        """The attempt is not ours any more: nothing may be written."""
        self.reason = EndKind.LOST
        self.lost.set()
        self.stop.set()


class LeaseKeeper:
    """Renews all leases of this process and keeps its row in `worker` fresh."""

    def __init__(
        self, settings: Settings, worker_id: str, roles: Sequence[str], gpus: tuple[str, Sequence[int]] | None = None
    ) -> None:
        """`gpus` are this machine's, told with each beat: its name among those who share them, and their numbers."""
        self._gpus = gpus
        self._settings = settings
        self._worker_id = worker_id
        self._roles = tuple(roles)
        # A short lease needs a quick heart, whatever else is set: four beats a lease, given up before it ends.
        self._beat_seconds = min(settings.heartbeat_seconds, settings.lease_seconds / 4)
        self._give_up_seconds = min(settings.heartbeat_give_up_seconds, settings.lease_seconds * 0.75)
        self._engine: AsyncEngine = create_engine(
            settings.database_url,
            pool_size=1,
            application_name="multifacet-heartbeat",
            patience=settings.database_patience_seconds,
        )
        self._sessions = session_factory(self._engine)
        self._leases: dict[int, Lease] = {}
        self._now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False
        self._preempting = False
        self.told_to_leave = asyncio.Event()
        """Set when somebody asked for this worker's place in the table of workers."""
        self._worked_at = time.monotonic()
        self._slots = self._slots_told = settings.worker_slots

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    @property
    def idle_seconds(self) -> float:
        """Since when nothing runs here."""
        return 0.0 if self._leases else time.monotonic() - self._worked_at

    def add(self, claim: Claim) -> Lease:
        lease = Lease(claim)
        self._leases[claim.attempt_id] = lease
        if self._preempting:  # it was being claimed while this process was told to end
            lease.request_stop(EndKind.PREEMPTED)
        return lease

    def remove(self, lease: Lease) -> None:
        self._leases.pop(lease.claim.attempt_id, None)
        self._worked_at = time.monotonic()

    def set_slots(self, slots: int) -> None:
        """This worker now takes so many steps at once. More are told to the controller at once, fewer with the next beat:
        a doorbell too many waits in its queue or is answered by another worker."""
        self._slots = slots
        if slots > self._slots_told:
            self._now.set()

    async def start(self) -> None:
        """Register the worker and start to beat."""
        while True:
            try:
                await self._beat_worker()
                heartbeat.beat(self._settings.health_file)
                break
            except Exception as error:  # noqa: BLE001  a database that is not up yet is waited for
                _log.warning("worker_not_registered", error=type(error).__name__)
                await asyncio.sleep(1)
        self._tasks = [asyncio.create_task(self._beat_forever()), asyncio.create_task(self._listen_forever())]

    async def close(self) -> None:
        """Stop to beat and take the worker's row away."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(Exception):
            async with self._sessions() as session, session.begin():
                await WorkerRepository(session).remove(self._worker_id)
        await self._engine.dispose()

    def drain(self) -> None:
        """Tell the controller that this worker takes no more steps."""
        self.draining = True
        self._now.set()

    def preempt(self) -> None:
        """Drain, and ask all steps to end, those too whose claim is under way: this process was told to end."""
        self.drain()
        self._preempting = True
        for lease in self.leases:
            lease.request_stop(EndKind.PREEMPTED)

    async def may_leave(self, minimum: int) -> bool:
        """Whether this idle worker is one too many; from then on it gets no more steps. False where the database does not
        answer."""
        try:
            async with asyncio.timeout(max(1.0, self._beat_seconds)), self._sessions() as session, session.begin():
                leaves = await WorkerRepository(session).leave_idle(self._worker_id, self._roles, minimum)
        except Exception as error:  # noqa: BLE001  it stays, and asks again
            _log.warning("leaving_not_asked", error=type(error).__name__)
            return False
        self.draining = self.draining or leaves
        return leaves

    async def _beat_forever(self) -> None:
        worker_at = time.monotonic()
        while True:
            interval = self._beat_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._now.wait()
            asked, self._now = self._now.is_set(), asyncio.Event()
            started = time.monotonic()
            try:
                async with asyncio.timeout(max(1.0, interval)):
                    await self._renew()
                    if asked or started - worker_at >= interval * 0.9:
                        await self._beat_worker()
                        worker_at = started
                heartbeat.beat(self._settings.health_file)
            except Exception as error:  # noqa: BLE001  whatever failed, the clock below decides
                _log.warning("heartbeat_failed", error=type(error).__name__)
            self._give_up(time.monotonic())

    def _give_up(self, now: float) -> None:
        for lease in self.leases:
            if not lease.lost.is_set() and not lease.closing and now - lease.renewed_at > self._give_up_seconds:
                _log.warning("lease_given_up", **_ids(lease))
                lease.lose()

    async def _renew(self) -> None:
        leases = [lease for lease in self.leases if not lease.lost.is_set()]
        if not leases:
            return
        asked_at = time.monotonic()
        async with self._sessions() as session, session.begin():
            answers = await StepRepository(session).renew(
                [lease.claim.attempt_id for lease in leases], self._settings.lease_seconds
            )
            holders = [
                attempt_holder(lease.claim.attempt_id)
                for lease in leases
                if lease.holds_gpus and lease.claim.attempt_id in answers
            ]
            if holders:
                await GpuSlotRepository(session).renew(holders, self._settings.lease_seconds)
        for lease in leases:
            if lease.claim.attempt_id not in self._leases:
                continue  # it ended while the answer was under way
            stop = answers.get(lease.claim.attempt_id)
            if stop is None and lease.closing:
                continue
            if stop is None:
                _log.warning("lease_lost", **_ids(lease))
                lease.lose()
                continue
            lease.renewed_at = asked_at
            if stop:
                lease.request_stop(EndKind.CANCELLED)

    async def _beat_worker(self) -> None:
        slots = self._slots
        async with self._sessions() as session, session.begin():
            told = await WorkerRepository(session).beat(
                self._worker_id,
                host=socket.gethostname(),
                process_id=os.getpid(),
                roles=self._roles,
                slots=slots,
                busy=len(self._leases),
                draining=self.draining,
                lease_seconds=self._settings.lease_seconds,
            )
            if self._gpus is not None:
                await GpuSlotRepository(session).register(*self._gpus)
        self._slots_told = slots
        if told:
            self.told_to_leave.set()

    async def _listen_forever(self) -> None:
        """Beat at once when a job stops or this worker shall leave, so that neither need wait for the next heartbeat."""
        while True:
            try:
                patience = self._settings.database_patience_seconds
                async with await connect(self._settings.database_url, "multifacet-stop", patience) as connection:
                    await connection.execute(f"LISTEN {STOP_CHANNEL}")
                    while True:
                        told = {notification.payload for notification in await hear(connection, patience)}
                        if told & {self._worker_id, *(lease.claim.job_id for lease in self.leases)}:
                            self._now.set()
            except (psycopg.Error, OSError) as error:
                _log.warning("stop_channel_lost", error=type(error).__name__)
            await asyncio.sleep(1)


def _ids(lease: Lease) -> dict[str, Any]:
    """What a line says of a lease outside of its step."""
    claim = lease.claim
    return {"job_id": claim.job_id, "stage": claim.stage, "step_id": claim.step_id, "attempt_id": claim.attempt_id}
