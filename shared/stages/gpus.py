"""GPUs of a training: leased before its child starts, so that it meets no model server and no other training there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.errors import InputRefused
from shared.domain.jobs import JobSpec
from shared.domain.plan import StageKind
from shared.metadata.repositories.gpu_slots import GpuSlotRepository, GpusTaken, attempt_holder
from shared.queue.lease import Lease

_log = structlog.get_logger(__name__)

TRY_AGAIN_SECONDS = 20.0
"""After a training found too few free GPUs, unless some are given back before. It may have missed that: they were given back
after it had looked and before it was written down that it waits."""


class Gpus:
    """The GPUs of this worker's machine. Without any, trainings run on the CPU and nothing is leased."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], lease_seconds: float, host: str, devices: Sequence[int]
    ) -> None:
        self._sessions = sessions
        self._lease_seconds = lease_seconds
        self._host = host
        self._devices = tuple(devices)

    @asynccontextmanager
    async def leased_for(self, lease: Lease, spec: JobSpec) -> AsyncIterator[tuple[int, ...]]:
        """One device per process of the step's training while the block runs; none for other stages and without GPUs.

        Raises GpusTaken while too few are free, InputRefused where the training asks for more than there are.
        """
        claim = lease.claim
        if not self._devices or StageKind(claim.kind) is not StageKind.TRAIN:
            yield ()
            return
        number, training = next(
            (number, training) for number, training in enumerate(spec.train) if training.name == claim.stage
        )
        count = training.processes
        if count > len(self._devices):
            raise InputRefused(
                f"processes is {count}, one per GPU, but the machine {self._host} has {len(self._devices)}; set processes to "
                f"{len(self._devices)} or less",
                f"/train/{number}/processes",
            )
        holder = attempt_holder(claim.attempt_id)
        async with self._sessions() as session, session.begin():
            devices = await GpuSlotRepository(session).claim(
                self._host, self._devices, count, holder, self._lease_seconds
            )
        if devices is None:
            raise GpusTaken(
                f"the training waits for {count} free GPUs: others have those of {self._host}", TRY_AGAIN_SECONDS
            )
        lease.holds_gpus = True
        _log.info("gpus_leased", devices=devices)
        try:
            yield devices
        finally:
            lease.holds_gpus = False
            with suppress(SQLAlchemyError, OSError):  # else the lease runs out
                async with self._sessions() as session, session.begin():
                    await GpuSlotRepository(session).release(holder)


def visible_devices(devices: Sequence[int]) -> dict[str, str]:
    """The environment that shows a process these GPUs alone; nothing is changed for none."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))} if devices else {}
