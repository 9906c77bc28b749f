"""Duty: forget workers and GPUs that fell silent, doorbells that nobody could ring, LLM answers past their time to live, and
what else is past its age."""

import asyncio
import time

import structlog

from services.controller.state import ControllerState
from shared.llm.cache import purge_expired
from shared.metadata.repositories.gpu_slots import GpuSlotRepository
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.workers import WorkerRepository
from shared.operations.garbage import Ages, Collector, Unknown
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)

_OUTBOX_SECONDS = 600.0
"""Long after a doorbell in the outbox has been replaced by a newer one."""

_GPU_SECONDS = 86_400.0
"""A device that no worker and no launcher has told of for so long is none any more; it is known again once one does."""

_PURGE_SECONDS = 3600.0
"""Between two looks for expired answers: their time to live is counted in days."""

_BREATH_SECONDS = 0.02
"""Between two removals, so that a long cleaning takes no other duty's turn."""


async def collect(state: ControllerState) -> None:
    """Once a lease. The look for what is past its age goes on beside the duties: it lists the whole store."""
    lease = state.settings.lease_seconds
    if time.monotonic() - state.garbage_at < lease:
        return
    state.garbage_at = time.monotonic()
    async with state.sessions() as session, session.begin():
        silent = await WorkerRepository(session).remove_silent(2 * lease)
        await SchedulingRepository(session).remove_old_doorbells(_OUTBOX_SECONDS)
        await GpuSlotRepository(session).forget(_GPU_SECONDS)
    if silent:
        _log.warning("workers_forgotten", count=silent)
    if state.purged_at is None or time.monotonic() - state.purged_at >= _PURGE_SECONDS:
        state.purged_at = time.monotonic()
        expired = await purge_expired(state.settings.database_url, state.settings.llm_cache_ttl_seconds)
        if expired:
            _log.info("answers_expired", count=expired)
    interval = state.settings.retention_interval_seconds
    if state.cleaned_at is None or time.monotonic() - state.cleaned_at >= interval:
        if state.cleaning is not None and not state.cleaning.done():
            return
        state.cleaned_at = time.monotonic()
        state.cleaning = asyncio.create_task(_clean(state), name="retention")


async def _clean(state: ControllerState) -> None:
    collector = Collector(state.sessions, state.store, Ages.of(state.settings))
    try:
        async for removal in collector.find():
            if await collector.remove(removal):
                _log.info(
                    "garbage_removed",
                    kind=removal.kind.value,
                    subject=removal.subject,
                    count=removal.count,
                    bytes=removal.bytes,
                )
            await asyncio.sleep(_BREATH_SECONDS)
        if collector.unknown != Unknown():
            _log.warning(
                "store_holds_unknown_jobs",
                jobs=len(collector.unknown.jobs),
                first=collector.unknown.jobs[0],
                objects=collector.unknown.count,
                bytes=collector.unknown.bytes,
                told="objects that nothing names stay while it does; see `multifacet garbage --dry-run`",
            )
    except Exception as error:  # noqa: BLE001  a store or a database that is away: the next look finds it all again
        _log.warning("garbage_kept", error=error_place(error))
