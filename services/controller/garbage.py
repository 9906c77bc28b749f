"""Duty: forget workers that fell silent and doorbells that nobody could ring."""

import time

import structlog

from services.controller.state import ControllerState
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.workers import WorkerRepository

_log = structlog.get_logger(__name__)

_OUTBOX_SECONDS = 600.0
"""Long after a doorbell in the outbox has been replaced by a newer one."""


async def collect(state: ControllerState) -> None:
    """Once a lease."""
    lease = state.settings.lease_seconds
    if time.monotonic() - state.garbage_at < lease:
        return
    state.garbage_at = time.monotonic()
    async with state.sessions() as session, session.begin():
        silent = await WorkerRepository(session).remove_silent(2 * lease)
        await SchedulingRepository(session).remove_old_doorbells(_OUTBOX_SECONDS)
    if silent:
        _log.warning("workers_forgotten", count=silent)
