"""Duty: forget workers that fell silent, doorbells that nobody could ring, and LLM answers past their time to live."""

import time

import structlog

from services.controller.state import ControllerState
from shared.llm.cache import purge_expired
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.workers import WorkerRepository

_log = structlog.get_logger(__name__)

_OUTBOX_SECONDS = 600.0
"""Long after a doorbell in the outbox has been replaced by a newer one."""

_PURGE_SECONDS = 3600.0
"""Between two looks for expired answers: their time to live is counted in days."""


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
    if state.purged_at is None or time.monotonic() - state.purged_at >= _PURGE_SECONDS:
        state.purged_at = time.monotonic()
        expired = await purge_expired(state.settings.database_url, state.settings.llm_cache_ttl_seconds)
        if expired:
            _log.info("answers_expired", count=expired)
